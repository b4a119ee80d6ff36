import json
import sys
from pathlib import Path

import pytest

from pointsman.data.generate import generate_dataset
from pointsman.data.readers import read_source
from pointsman.errors import MissingDependency, SampleError
from support.sources import make_source, tree, write


@pytest.mark.parametrize(
    "form", ["jsonl", "list", "lines.json", "parquet", "saved", "hub", "files"]
)
def test_every_form_of_a_source_gives_the_same_dataset(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl = make_source(tmp_path, "calendar", range(12))
    expected = generate_dataset({"calendar": [jsonl]}, tmp_path / "expected")
    records = [json.loads(line) for line in Path(jsonl).read_text().splitlines()]
    source = str(tmp_path / form)
    if form == "jsonl":
        source = jsonl
    elif form == "list":
        source = write(tmp_path / "list.json", [json.dumps(records, indent=1)])
    elif form == "lines.json":
        write(tmp_path / form, records)
    elif form == "files":
        make_source(Path(source), "calendar", range(12))
    else:
        datasets = pytest.importorskip("datasets", reason="needs pointsman[data]")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        located = [r | {"image": str(tmp_path / r["image"])} for r in records]
        rows = datasets.Dataset.from_list(located).cast_column("image", datasets.Image())
        if form == "parquet":
            source += ".parquet"
            rows.to_parquet(source)
        elif form == "saved":
            datasets.DatasetDict(
                train=rows.select(range(8)), test=rows.select(range(8, 12))
            ).save_to_disk(source)
        else:
            named = [r | {"file_name": r.pop("image")} for r in records]
            write(tmp_path / "hub/metadata.jsonl", named)
            (tmp_path / "shots").rename(tmp_path / "hub/shots")
    dataset = generate_dataset({"calendar": [source]}, tmp_path / "out")
    assert dataset.fingerprint == expected.fingerprint
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


def test_sources_that_cannot_be_read_get_one_clear_line(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.json", b"[{]", "not JSON"),
        ("a.csv", b"x", "a source is one of .jsonl"),
        ("a.parquet", b"PAR1", "not a parquet file"),
        ("c.jsonl", b"[" + b"[" * 100_000, "not JSON"),
        ("data/dataset.json", b"{}", "already a routing dataset"),
        ("empty/README", b"", "not a folder or Hub dataset"),
    ):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        source = file if file.parent == tmp_path else file.parent
        with pytest.raises(SampleError, match=message) as raised:
            list(read_source(str(source)))
        assert "\n" not in str(raised.value)
        assert str(source) in str(raised.value)
    for missing in ("data/calendar.jsonl", "./calendar", "/no/such/place", "a/b/c"):
        with pytest.raises(SampleError, match="no such file or folder"):
            list(read_source(missing))


def test_a_missing_package_is_named_with_the_extra_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("pyarrow", "datasets"):
        monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "a.parquet").touch()
    for source in (tmp_path / "a.parquet", tmp_path / "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(MissingDependency, match=r"pip install 'pointsman\[data\]'"):
            list(read_source(str(source)))
