import hashlib
import json
import random
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pointsman.data.dataset import SPLITS, Dataset
from pointsman.data.generate import generate_dataset, parse_sources
from pointsman.errors import ArtefactError, ConfigError, LabelError, SampleError
from pointsman.labels import LabelMap
from support.commands import Result, run
from support.sources import make_source, png, record, tree, two_sources, write

REPOSITORY = Path(__file__).parents[2]
TWO = ("calendar", "claim-window")


def counts(dataset: Dataset) -> dict[str, Counter[str | None]]:
    return {name: Counter(s.adapter for s in dataset.splits[name]) for name in SPLITS}


def pixels(path: str) -> bytes:
    with Image.open(path) as image:
        return repr(image.size).encode() + image.convert("RGB").tobytes()


def places(dataset: Dataset) -> dict[bytes, set[str]]:
    """The splits that each picture is in."""
    found: dict[bytes, set[str]] = {}
    for split, samples in dataset.splits.items():
        for sample in samples:
            for image in sample.images:
                found.setdefault(pixels(image), set()).add(split)
    return found


def refusal(sources: dict[str, list[str]], out: Path, **options: Any) -> list[str]:
    with pytest.raises(SampleError) as raised:
        generate_dataset(sources, out, **options)
    return str(raised.value).split("\n")


def test_labels_follow_the_order_given_and_every_sample_says_so(tmp_path: Path) -> None:
    sources = {name: list(reversed(s)) for name, s in reversed(two_sources(tmp_path).items())}
    dataset = generate_dataset(sources, tmp_path / "out")
    assert dataset.labels.names == ("claim-window", "calendar")
    fixed = generate_dataset(sources, tmp_path / "fixed", labels=LabelMap(TWO))
    assert fixed.labels.names == TWO
    for data in (dataset, fixed):
        for samples in data.splits.values():
            assert all(data.labels.names[s.label or 0] == s.adapter for s in samples)
            word = {"calendar": "calendar", "claim-window": "claim"}
            assert all(s.instruction.startswith(word[str(s.adapter)]) for s in samples)


def test_samples_are_split_in_proportion_per_adapter(tmp_path: Path) -> None:
    dataset = generate_dataset(two_sources(tmp_path), tmp_path / "out", val=0.2, test=0.1)
    assert counts(dataset) == {
        "train": {"calendar": 14, "claim-window": 14},
        "val": {"calendar": 4, "claim-window": 4},
        "test": {"calendar": 2, "claim-window": 2},
    }


def test_images_keep_their_bytes_and_are_stored_once(tmp_path: Path) -> None:
    sources = {"calendar": [make_source(tmp_path, "calendar", [1, 2, 1, 2, 3])]}
    generate_dataset(sources, tmp_path / "out")
    stored = {file.name: file.read_bytes() for file in (tmp_path / "out/images").iterdir()}
    digests = {hashlib.sha256(png(c)).hexdigest()[:16] + ".png": png(c) for c in (1, 2, 3)}
    assert stored == digests


def test_a_picture_is_in_one_split_whatever_its_encoding(tmp_path: Path) -> None:
    records = []
    for number in range(30):
        for form, options in (("png", {}), ("png", {"compress_level": 0}), ("bmp", {})):
            file = tmp_path / f"{number}-{len(records) % 3}.{form}"
            file.write_bytes(png(number, kind=form, **options))
            records.append(record(f"do {len(records)}", file.name))
    sources = {"calendar": [write(tmp_path / "a.jsonl", records)]}
    dataset = generate_dataset(sources, tmp_path / "out", val=0.3, test=0.3)
    assert len(places(dataset)) == 30
    assert all(len(splits) == 1 for splits in places(dataset).values())
    assert len(list((tmp_path / "out/images").iterdir())) == 90
    assert min(len(s) for s in dataset.splits.values()) >= 15


def test_pictures_of_equal_pixels_but_another_shape_are_two(tmp_path: Path) -> None:
    for name, size in (("wide", (20, 10)), ("tall", (10, 20))):
        Image.new("RGB", size, "white").save(tmp_path / f"{name}.png")
    records = [record("go", "wide.png"), record("go", "tall.png")]
    dataset = generate_dataset(
        {"calendar": [write(tmp_path / "a.jsonl", records)]}, tmp_path / "out"
    )
    assert sum(len(samples) for samples in dataset.splits.values()) == 2


def test_a_screen_of_two_adapters_goes_to_one_split(tmp_path: Path) -> None:
    sources = {
        "calendar": [make_source(tmp_path, "calendar", range(30))],
        "claim-window": [make_source(tmp_path, "claim", range(15, 45))],
    }
    dataset = generate_dataset(sources, tmp_path / "out", val=0.2, test=0.2)
    assert all(len(splits) == 1 for splits in places(dataset).values())
    for of_split in counts(dataset).values():
        assert of_split["calendar"] >= 3
        assert of_split["claim-window"] >= 3


def test_samples_of_several_images_are_kept_together(tmp_path: Path) -> None:
    make_source(tmp_path, "unused", range(40))
    chain = [
        {
            "messages": [{"role": "user", "content": f"do {n}"}],
            "images": [f"shots/{n}.png", f"shots/{n + 1}.png"],
        }
        for n in (*range(9), *range(20, 29), *range(30, 39))
    ]
    sources = {"calendar": [write(tmp_path / "a.jsonl", chain)]}
    dataset = generate_dataset(sources, tmp_path / "out", val=0.33, test=0.33)
    assert all(len(splits) == 1 for splits in places(dataset).values())
    assert {name: len(s) for name, s in dataset.splits.items()} == {
        "train": 9,
        "val": 9,
        "test": 9,
    }


def test_every_adapter_is_in_train_and_with_three_pictures_everywhere(tmp_path: Path) -> None:
    for n in (1, 2, 3, 5):
        folder = tmp_path / str(n)
        sources = two_sources(folder, 25) | {
            "rare": [make_source(folder, "rare", range(300, 300 + n))]
        }
        found = counts(generate_dataset(sources, folder / "out", val=0.05, test=0.05))  # fmt: skip
        assert found["train"]["rare"] >= 1
        if n >= 3:
            assert found["val"]["rare"] >= 1
            assert found["test"]["rare"] >= 1


def test_out_of_scope_samples_have_no_adapter(tmp_path: Path) -> None:
    other = make_source(tmp_path, "other", range(200, 210))
    more = make_source(tmp_path, "more", range(210, 220))
    sources = two_sources(tmp_path) | {"out_of_scope": [other]}
    dataset = generate_dataset(sources, tmp_path / "out", out_of_scope=[more])
    found = counts(dataset)
    assert sum(of_split[None] for of_split in found.values()) == 20
    assert found["test"][None] >= 1
    assert all(s.label == -1 for s in dataset.splits["train"] if s.adapter is None)


def test_the_result_is_the_same_to_the_byte_whatever_the_order_of_the_input(
    tmp_path: Path,
) -> None:
    sources = two_sources(tmp_path)
    # The same question with another answer: which one is kept must not depend on the order either.
    lines = Path(sources["calendar"][0]).read_text().replace("answer", "reply").splitlines()
    sources["calendar"].append(write(tmp_path / "replies.jsonl", lines))
    generate_dataset(sources, tmp_path / "first", seed=3)
    generate_dataset(sources, tmp_path / "again", seed=3)
    assert tree(tmp_path / "again") == tree(tmp_path / "first")

    lines += Path(sources["calendar"][0]).read_text().splitlines()
    random.Random(0).shuffle(lines)
    shuffled = [write(tmp_path / "b.jsonl", lines[:5]), write(tmp_path / "a.jsonl", lines[5:])]
    labels = LabelMap(TWO)
    turned = {"claim-window": sources["claim-window"], "calendar": shuffled}
    generate_dataset(turned, tmp_path / "turned", seed=3, labels=labels)
    assert tree(tmp_path / "turned") == tree(tmp_path / "first")


def test_the_seed_decides_which_samples_go_where(tmp_path: Path) -> None:
    sources = two_sources(tmp_path)
    one, other = (generate_dataset(sources, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert one.splits["test"] != other.splits["test"]
    assert one.fingerprint != other.fingerprint


def test_cap_and_balance_cut_the_larger_adapters(tmp_path: Path) -> None:
    sources = {
        "calendar": [make_source(tmp_path, "calendar", range(30))],
        "claim-window": [make_source(tmp_path, "claim", range(100, 112))],
    }
    other = [make_source(tmp_path, "other", range(200, 225))]
    for options, expected in (
        ({"cap": 20}, {"calendar": 20, "claim-window": 12, None: 20}),
        ({"balance": "downsample"}, {"calendar": 12, "claim-window": 12, None: 25}),
        ({"balance": "downsample", "cap": 5}, {"calendar": 5, "claim-window": 5, None: 5}),
    ):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        dataset = generate_dataset(sources, out, out_of_scope=other, **options)  # type: ignore[arg-type]
        assert sum(counts(dataset).values(), Counter()) == expected
        dropped = json.loads((out / "dataset.json").read_text())["dropped"]
        assert dropped["surplus"] == 67 - sum(expected.values())
        named = {s.images[0] for split in dataset.splits.values() for s in split}
        assert {str(file) for file in (out / "images").iterdir()} == named


def test_a_repeated_sample_is_kept_once_and_counted(tmp_path: Path) -> None:
    sources = two_sources(tmp_path)
    again = Path(sources["calendar"][0]).read_text().splitlines()
    # Another encoding of the same picture is the same sample.
    (tmp_path / "shots/0.bmp").write_bytes(png(0, kind="bmp"))
    again.append(json.dumps(record("calendar 0", "shots/0.bmp")))
    sources["calendar"].append(write(tmp_path / "again.jsonl", again))
    dataset = generate_dataset(sources, tmp_path / "out")
    assert sum(len(s) for s in dataset.splits.values()) == 40
    assert json.loads((tmp_path / "out/dataset.json").read_text())["dropped"]["duplicates"] == 21


def test_one_question_under_two_adapters_is_refused_naming_both(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, 3)
    stray = write(tmp_path / "stray.jsonl", [record("calendar 1", "shots/1.png")])
    sources["claim-window"].append(stray)
    (line,) = refusal(sources, tmp_path / "out")
    assert line == (
        f"{stray}:1: the same instruction and image as {sources['calendar'][0]}:2, here under "
        "claim-window, there under calendar; keep one of them"
    )
    dataset = generate_dataset(sources, tmp_path / "out", skip_bad=True)
    assert sum(len(s) for s in dataset.splits.values()) == 5
    assert json.loads((tmp_path / "out/dataset.json").read_text())["dropped"]["bad"] == 2


def bad_images(folder: Path) -> list[str]:
    """Names of image files that cannot be used."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_bytes(b"not an image")
    (folder / "cut.png").write_bytes(png(1, (64, 64))[:-30])
    (folder / "dot.png").write_bytes(png(1, (1, 1)))
    (folder / "strip.png").write_bytes(png(1, (1600, 8)))
    Image.new("1", (9000, 9000)).save(folder / "huge.png")
    (folder / "folder.png").mkdir(exist_ok=True)
    return ["empty.png", "text.png", "cut.png", "dot.png", "strip.png", "huge.png", "folder.png"]


def test_all_faults_of_all_sources_are_reported_at_once(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, 4)
    images = bad_images(tmp_path / "bad")
    records: list[Any] = [record(f"bad {name}", f"bad/{name}") for name in images]
    records += [
        record("gone", "bad/gone.png"),
        "{broken",
        "3",
        {"image": "shots/0.png"},
        record("pixels in a pipe", "bad/"),
        {"conversations": [{"from": "human", "value": "<image><image>"}], "image": "shots/0.png"},
        record("half a \ud83d character", "shots/0.png"),
        record("mine?", "shots/0.png", adapter="claim-window"),
        record("mine?", "shots/0.png", label=-1, adapter=None),
    ]
    sources["calendar"].append(write(tmp_path / "bad.jsonl", records))
    sources["claim-window"].append(write(tmp_path / "none.jsonl", []))
    sources["claim-window"].append(str(tmp_path / "missing.jsonl"))
    lines = refusal(sources, tmp_path / "out")
    numbered = [line for line in lines if line.startswith(f"{tmp_path / 'bad.jsonl'}:")]
    found = {
        int(line.removeprefix(f"{tmp_path / 'bad.jsonl'}:").split(":")[0]) for line in numbered
    }
    assert found == set(range(1, len(records) + 1)) - {12}  # of the same reason as the seventh
    assert "folder.png: not a file (and 1 more like this)" in "\n".join(lines)
    assert f"{tmp_path / 'none.jsonl'}: holds no samples" in lines
    assert f"{tmp_path / 'missing.jsonl'}: no such file or folder" in lines
    assert len(lines) == len(records) + 1
    assert not (tmp_path / "out").exists()


def test_a_reason_is_one_line_with_an_example_and_a_count(tmp_path: Path) -> None:
    faulty = [record(f"do {n}", None, label=[n]) for n in range(30)]
    faulty += [record(f"do {n}", None, tools=[{"name": f"tool-{n}"}]) for n in range(50)]
    line, other = refusal({"calendar": [write(tmp_path / "a.jsonl", faulty)]}, tmp_path / "out")
    assert "a.jsonl:31: 'tools' ([{'name': 'tool-0'}]) belongs to the prompt" in line
    assert line.endswith(" (and 49 more like this)")
    assert "a.jsonl:1: label [0] names no adapter" in other
    assert other.endswith(" (and 29 more like this)")


def test_only_the_first_twenty_faults_are_shown(tmp_path: Path) -> None:
    missing = [str(tmp_path / f"{n}.jsonl") for n in range(50)]
    lines = refusal({"calendar": missing}, tmp_path / "out")
    assert len(lines) == 21
    assert lines[-1].startswith("and 30 more")


def test_bad_samples_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, 4)
    faulty = [record(f"bad {name}", f"bad/{name}") for name in bad_images(tmp_path / "bad")]
    sources["calendar"].append(write(tmp_path / "bad.jsonl", [*faulty, "{"]))
    generate_dataset(sources, tmp_path / "out", skip_bad=True)
    assert json.loads((tmp_path / "out/dataset.json").read_text())["dropped"]["bad"] == 8
    sources["claim-window"] = [write(tmp_path / "worse.jsonl", ["{"])]
    assert refusal(sources, tmp_path / "other", skip_bad=True) == [
        "no usable sample is left of claim-window; add some"
    ]
    sources["claim-window"] = [str(tmp_path / "missing.jsonl")]
    assert "no such file" in refusal(sources, tmp_path / "other", skip_bad=True)[0]


def test_text_that_only_looks_like_a_placeholder_is_kept_as_text(tmp_path: Path) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "what is <image>?"}]
    turns = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "<image> is a tag"}]},
        {"role": "user", "content": [{"type": "text", "text": "and <image>\n here?"}]},
    ]
    odd = {"messages": turns, "image": "shots/0.png"}
    sources = two_sources(tmp_path, 3)
    sources["calendar"].append(write(tmp_path / "odd.jsonl", [odd]))
    dataset = generate_dataset(sources, tmp_path / "out")
    samples = [sample for split in dataset.splits.values() for sample in split]
    (sample,) = (sample for sample in samples if len(sample.turns) == 3)
    assert [turn.parts for turn in sample.turns] == [
        (None, "what is <image>?"),
        ("<image> is a tag",),
        ("and <image>\n here?",),
    ]


@pytest.mark.parametrize(
    ("sources", "labels", "message"),
    [
        ({"calendar": ["a"], "other": ["b"]}, TWO, "source 'other': no such adapter"),
        ({"calendar": ["a"]}, TWO, "no source for claim-window"),
        ({"calendar": ["a"], "claim-window": []}, TWO, "no source for claim-window"),
        ({"out_of_scope": ["a"]}, None, "at least one adapter name"),
        ({}, None, "at least one adapter name"),
        ({"a.b": ["a"]}, None, "not legal"),
        ({"out_of_scope": ["a"]}, ("out_of_scope",), "stands for no adapter"),
    ],
)
def test_sources_must_be_those_of_the_label_map(
    tmp_path: Path, sources: Any, labels: Any, message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        generate_dataset(sources, tmp_path / "out", labels=labels and LabelMap(labels))


@pytest.mark.parametrize(
    "options",
    [
        {"val": 0.5, "test": 0.5},
        {"val": -0.1},
        {"test": float("nan")},
        {"cap": 0},
        {"balance": "x"},
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: Any) -> None:
    with pytest.raises(ConfigError):
        generate_dataset({"calendar": ["a.jsonl"]}, tmp_path / "out", **options)


def test_pairs_on_the_command_line_are_taken_apart_at_the_first_sign() -> None:
    assert parse_sources(["a=x=1.jsonl", "b=y", "a=z"]) == {"a": ["x=1.jsonl", "z"], "b": ["y"]}
    for pair in ("a", "=x", "a="):
        with pytest.raises(ConfigError, match="NAME=PATH"):
            parse_sources([pair])


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    sources, out = two_sources(tmp_path, 4), tmp_path / "out"
    generate_dataset(sources, out)
    before = tree(out)
    with pytest.raises(ArtefactError, match="already holds another dataset; choose another --out"):
        generate_dataset(sources, out, seed=1)
    sources["calendar"].append(make_source(tmp_path, "new", [50], start=9))
    with pytest.raises(ArtefactError, match="already holds another dataset"):
        generate_dataset(sources, out)
    assert tree(out) == before
    mine = make_source(tmp_path / "mine", "train", range(4))
    Path(mine).rename(tmp_path / "mine/train.jsonl")
    sources = {"calendar": [str(tmp_path / "mine/train.jsonl")]}
    with pytest.raises(ArtefactError, match="not of an interrupted run"):
        generate_dataset(sources, tmp_path / "mine")


def test_the_same_request_again_mends_what_was_damaged(tmp_path: Path) -> None:
    sources, out = two_sources(tmp_path, 4), tmp_path / "out"
    generate_dataset(sources, out)
    before = tree(out)
    image = next((out / "images").iterdir())
    image.write_bytes(b"damaged")
    (out / "val.jsonl").write_text("damaged")
    generate_dataset(sources, out)
    assert tree(out) == before


_STUCK = """
import time
from pathlib import Path
from pointsman.data.generate import generate_dataset
def stop(done, total=None, step=""):
    if (step, done) == ("images", 20):
        print("now", flush=True)
        time.sleep(600)
generate_dataset({sources}, Path({out!r}), progress=stop)
"""


def test_a_killed_run_is_finished_by_the_next_and_keeps_its_images(tmp_path: Path) -> None:
    sources, out = two_sources(tmp_path), tmp_path / "out"
    # Interrupted with other options first: nothing of that run may stay.
    for cap in (None, 5):
        generate_dataset(sources, tmp_path / f"clean{cap}", cap=cap)
    code = _STUCK.format(sources=sources, out=str(out))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "now\n"
        run.send_signal(signal.SIGKILL)
    assert not (out / "dataset.json").exists()
    kept = {file.name: file.stat().st_mtime_ns for file in (out / "images").glob("[0-9a-f]*")}
    assert len(kept) >= 20
    generate_dataset(sources, out)
    assert tree(out) == tree(tmp_path / "cleanNone")
    assert all((out / "images" / name).stat().st_mtime_ns == at for name, at in kept.items())

    for name in ("dataset.json", "test.jsonl"):
        (out / name).unlink()
    (out / ".unfinished").touch()
    generate_dataset(sources, out, cap=5)
    assert tree(out) == tree(tmp_path / "clean5")


def test_an_image_that_changes_under_the_run_is_noticed(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, 4)
    changed = tmp_path / "shots/1.png"

    def change(done: int, total: int | None = None, step: str = "") -> None:
        if step == sources["claim-window"][0] and done == 4:
            changed.write_bytes(png(77))

    with pytest.raises(SampleError, match="changed while it was being read"):
        generate_dataset(sources, tmp_path / "out", progress=change)
    assert not (tmp_path / "out/dataset.json").exists()


def test_text_without_an_image_is_a_sample_too(tmp_path: Path) -> None:
    records = [record(f"say {n}", None) for n in range(10)]
    dataset = generate_dataset({"chat": [write(tmp_path / "a.jsonl", records)]}, tmp_path / "out")
    assert [len(s) for s in dataset.splits.values()] == [8, 1, 1]


def test_the_script_makes_a_dataset_in_the_order_of_the_project_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = two_sources(tmp_path, 4)
    (tmp_path / "pointsman.toml").write_text(
        'base = "x"\n[adapters]\nclaim-window = "/a"\ncalendar = "/b"\n'
    )
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(REPOSITORY / "scripts/generate_routing_data.py"))
    assert script["__getattr__"]("ADAPTER_LABELS") == {"claim-window": 0, "calendar": 1}

    def run_script(*options: str) -> Result:
        return run(*options, "--out", "out", program=script["main"])

    failure = run_script("--source=calendar=gone.jsonl")
    assert failure.code == 1
    assert failure.err.count("\n") == 1
    assert "no source for claim-window" in failure.err
    done = run_script(*(f"--source={name}={path}" for name, (path,) in sources.items()))
    assert done.code == 0
    assert "labels [0=claim-window, 1=calendar]" in done.out
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert manifest["adapters"] == ["claim-window", "calendar"]


def test_real_screens_become_a_dataset(screens: Path, tmp_path: Path) -> None:
    sources: dict[str, list[dict[str, Any]]] = {}
    for line in (screens / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        sample["image"] = str(screens / sample["image"])
        sources.setdefault(sample["adapter"] or "out_of_scope", []).append(sample)
    files = {name: [write(tmp_path / f"{name}.jsonl", r)] for name, r in sources.items()}
    start = time.monotonic()
    dataset = generate_dataset(files, tmp_path / "out")
    assert time.monotonic() - start < 20
    assert sum(counts(dataset)["test"].values()) == 16
    assert all(len(splits) == 1 for splits in places(dataset).values())
