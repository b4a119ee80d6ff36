"""Real files in the layouts of trainers and of the Hub: a source and a training set are one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.data.generate import generate_dataset
from pointsman.data.training_set import read_training_set
from pointsman.errors import SampleError
from pointsman.images import load_image
from pointsman.sample import RoutingSample
from support.sources import make_source, png, record, write

pyarrow = pytest.importorskip("pyarrow", reason="needs pointsman[data]")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pointsman[data]")
N = 6
Layout = Callable[[Path, list[dict[str, Any]]], str]


def said(sample: RoutingSample) -> tuple[Any, ...]:
    pixels = [load_image(Path(image)).tobytes() for image in sample.images]
    return [(turn.role, turn.parts) for turn in sample.turns], pixels, dict(sample.extra)


def table(rows: list[dict[str, Any]], file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return str(file)


def embedded(rows: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    content = [(folder / row["image"]).read_bytes() for row in rows]
    return [
        row | {"image": {"bytes": image, "path": row["image"]}}
        for row, image in zip(rows, content, strict=True)
    ]


def of_hub(folder: Path, rows: list[dict[str, Any]]) -> str:
    own = embedded(rows, folder)
    table(own[:4], folder / "repository/data/train-00000-of-00001.parquet")
    table(own[4:], folder / "repository/data/test-00000-of-00001.parquet")
    (folder / "repository/README.md").write_text("---\n---\n")
    return str(folder / "repository")


def image_folder(folder: Path, rows: list[dict[str, Any]]) -> str:
    for split, part in (("train", rows[:4]), ("test", rows[4:])):
        named = [{key: row[key] for key in row if key != "image"} for row in part]
        for own, row in zip(named, part, strict=True):
            own["file_name"] = Path(row["image"]).name
            target = folder / "repository" / split / own["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((folder / row["image"]).read_bytes())
        write(folder / "repository" / split / "metadata.jsonl", named)
    return str(folder / "repository")


def lists_beside_images(folder: Path, rows: list[dict[str, Any]]) -> str:
    write(folder / "dataset_info.json", ["{}"])
    write(folder / "mine.json", [json.dumps(rows, indent=2)])
    (folder / "source-0.jsonl").unlink()
    return str(folder)


LAYOUTS: dict[str, Layout] = {
    "lines beside images": lambda folder, _: str(folder),
    "a list beside images": lists_beside_images,
    "parquet of the Hub": of_hub,
    "image folder of the Hub": image_folder,
    "bytes in a column": lambda folder, rows: table(
        [row | {"image": (folder / row["image"]).read_bytes()} for row in rows],
        folder / "a.parquet",
    ),
    "paths in a column": lambda folder, rows: table(
        [row | {"image": {"bytes": None, "path": row["image"]}} for row in rows],
        folder / "a.parquet",
    ),
    "JSON text in columns": lambda folder, rows: table(
        [
            {
                key: json.dumps(value) if key == "conversations" else value
                for key, value in row.items()
            }
            for row in rows
        ],
        folder / "a.parquet",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_adapter_is_trained_on_what_its_source_holds(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "source"
    file = make_source(folder, "source", range(N))
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    expected = sorted(said(sample) for sample in read_training_set(file, "calendar", tmp_path))
    source = LAYOUTS[layout](folder, rows)
    (tmp_path / "images").mkdir()
    samples = read_training_set(source, "calendar", tmp_path / "images")
    assert sorted(map(said, samples)) == expected
    dataset = generate_dataset({"calendar": [source]}, tmp_path / "out")
    assert sorted(said(s) for split in dataset.splits.values() for s in split) == expected


def test_embedded_images_are_written_once(tmp_path: Path) -> None:
    rows = [{"prompt": f"do {n}", "completion": "ok", "image": png(n % 2)} for n in range(6)]
    samples = read_training_set(
        table(rows, tmp_path / "a.parquet"), "calendar", tmp_path / "images"
    )
    assert len(list((tmp_path / "images").iterdir())) == 2
    assert [Path(s.images[0]).read_bytes() for s in samples] == [row["image"] for row in rows]


def test_a_call_of_a_table_has_only_its_own_arguments(tmp_path: Path) -> None:
    calls = [{"function": {"name": "f", "arguments": {key: 1}}} for key in ("x", "y")]
    rows = [
        {
            "messages": [
                {"role": "user", "content": "go", "tool_calls": None},
                {"role": "assistant", "content": None, "tool_calls": [call]},
            ]
        }
        for call in calls
    ]
    samples = read_training_set(table(rows, tmp_path / "a.parquet"), "calendar", tmp_path)
    assert [sample.answer for sample in samples] == [
        f'<tool_call>\n{{"name": "f", "arguments": {{"{key}": 1}}}}\n</tool_call>' for key in "xy"
    ]


def test_faults_of_a_training_set_are_reported_by_reason(tmp_path: Path) -> None:
    rows = [record(f"x {n}", None) for n in range(3)]
    rows += [record(f"x {n}", None, videos=[f"{n}.mp4"]) for n in range(5)]
    rows += [record("x", None, label=0, adapter="claim-window"), record("x", None, label=1)]
    with pytest.raises(SampleError) as raised:
        read_training_set(write(tmp_path / "a.jsonl", rows), "calendar", tmp_path)
    first, second, third = str(raised.value).split("\n")
    assert first.startswith(f"{tmp_path}/a.jsonl:4: 'videos' (['0.mp4']) cannot be read")
    assert first.endswith("(and 4 more like this)")
    assert "the source is given for 'calendar', the sample says 'claim-window'" in second
    assert "label 1 names no adapter" in third
    with pytest.raises(SampleError, match="holds no samples"):
        read_training_set(write(tmp_path / "none.jsonl", []), "calendar", tmp_path)
