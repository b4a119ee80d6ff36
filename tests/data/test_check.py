import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pointsman.data import leaks
from pointsman.data.check import check_dataset
from pointsman.data.dataset import (
    fingerprint_of,
    read_manifest,
    seal,
    untrainable,
    write_files,
)
from pointsman.data.generate import generate_dataset
from pointsman.findings import Report
from pointsman.sample import RoutingSample, parse_sample
from support.sources import make_source, png, record, two_sources, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of two adapters and nothing wrong with it."""
    return generate_dataset(two_sources(tmp_path, 30), tmp_path / "data").path


def kinds(report: Report) -> Counter[tuple[str, str]]:
    return Counter((finding.level, finding.kind) for finding in report.findings)


def the(report: Report, kind: str) -> str:
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return str(finding)


def edit(folder: Path, change: Any, split: str = "train") -> None:
    """Changes the records of a split and seals the dataset again, as a careless tool would."""
    records = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "val", "test")
    }
    records[split] = [change(number, r) or r for number, r in enumerate(records[split])]
    labels, manifest = read_manifest(folder)
    samples = {
        name: [parse_sample(r, labels, name) for r in of_split]
        for name, of_split in records.items()
    }
    files = seal(labels, samples, [], {})
    manifest = json.loads(files["dataset.json"]) | {"images": manifest["images"]}
    manifest["fingerprint"] = fingerprint_of(manifest)
    write_files(folder, files | {"dataset.json": json.dumps(manifest).encode()})


def ask(text: str, answer: str | None = None) -> Any:
    def change(number: int, r: dict[str, Any]) -> None:
        r["conversations"][0]["value"] = f"<image>\n{text} {number}"
        if answer is not None:
            r["conversations"][1]["value"] = answer.format(number)

    return change


def test_a_dataset_as_generated_has_no_errors(folder: Path) -> None:
    report = check_dataset(folder)
    assert report.errors == []
    assert report.counts["samples"] == 60
    assert report.counts["images"] == 60
    assert report.counts["splits"]["test"] == {"calendar": 3, "claim-window": 3, "out_of_scope": 0}
    assert kinds(report) == {("warning", "adapter-name"): 1, ("warning", "trivia"): 1}
    assert "30 of 30 samples of calendar name the adapter" in the(report, "adapter-name")


def test_the_report_is_json(folder: Path) -> None:
    report = check_dataset(folder)
    value = json.loads(json.dumps(report.to_json()))
    assert value["errors"] == 0
    assert value["warnings"] == len(value["findings"]) == 2
    assert set(value["findings"][0]) == {"level", "kind", "where", "message"}


def test_every_fault_is_found_in_one_run(folder: Path) -> None:
    def image_of(line: int) -> Path:
        return folder / json.loads(lines[line])["image"]

    file = folder / "train.jsonl"
    lines = file.read_text().splitlines()
    image_of(0).unlink()
    image_of(1).write_bytes(b"broken")
    image_of(2).write_bytes(png(999))  # a good image, but not this one
    Image.new("RGB", (20, 20)).save(folder / "images/blank.png")
    lines[3] = json.dumps(json.loads(lines[3]) | {"image": "images/blank.png"})
    lines[4] = json.dumps(json.loads(lines[4]) | {"label": 5})
    lines[5] = json.dumps(json.loads(lines[5]) | {"adapter": None})
    lines[6] = "{broken"
    lines[7] = json.dumps({"image": "images/blank.png"})
    lines[8] = json.dumps(json.loads(lines[8]) | {"bbox": [0, 0, 100, 5]})
    file.write_text("\n".join(lines))
    report = check_dataset(folder)
    places = {(f.kind, f.where.removeprefix(f"{file}")) for f in report.findings}
    assert places >= {
        ("fingerprint", ""),
        ("image", ":1"),
        ("image", ":2"),
        ("fingerprint", ":3"),
        ("image", ":4"),
        ("label", ":5"),
        ("label", ":6"),
        ("sample", ":7"),
        ("sample", ":8"),
        ("bbox", ":9"),
    }
    assert report.findings == [*report.errors, *report.warnings]
    assert report.counts["splits"]["train"]["unlabelled"] == 2


def test_without_images_no_image_is_opened(folder: Path) -> None:
    for file in (folder / "images").iterdir():
        file.unlink()
    assert check_dataset(folder, images=False).errors == []
    assert kinds(check_dataset(folder))["error", "image"] == 60


def test_an_added_or_swapped_image_is_noticed(folder: Path) -> None:
    (folder / "images/more.png").write_bytes(png(5))
    assert "1 belong to no sample (images/more.png)" in the(check_dataset(folder), "unused-image")
    (folder / "images/more.png").unlink()
    (folder / "images/plain.png").write_bytes(png(5))
    edit(folder, lambda number, r: r.update(image="images/plain.png") if number == 0 else None)
    assert "not the images that the dataset was made with" in the(
        check_dataset(folder), "fingerprint"
    )


def test_a_picture_in_two_splits_is_an_error(folder: Path) -> None:
    image = json.loads((folder / "test.jsonl").read_text().splitlines()[0])["image"]
    copy = Path(image).with_suffix(".bmp")
    Image.open(folder / image).save(folder / copy)  # the same picture in another file
    edit(folder, lambda number, r: r.update(image=str(copy)) if number == 3 else None)
    message = the(check_dataset(folder), "split-leak")
    assert "train.jsonl:4: the same picture is in test" in message
    assert "test.jsonl:1" in message


def test_repeated_questions_are_found_across_and_within_splits(folder: Path) -> None:
    train = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    first, other = train[0], next(r for r in train if r["label"] != train[0]["label"])

    def again(number: int, r: dict[str, Any]) -> Any:
        text = r["conversations"][0]["value"].upper().replace("<IMAGE>", "<image>") + " . "
        if number == 0:  # only case and spacing differ from the first sample of train
            text = first["conversations"][0]["value"].replace(" ", "  ").upper()
            r["conversations"][0]["value"] = text.replace("<IMAGE>", "<image>")
            r["image"], r["label"], r["adapter"] = first["image"], first["label"], first["adapter"]
        elif number == 1:
            r |= {k: other[k] for k in ("image", "conversations")}
            r |= {k: first[k] for k in ("label", "adapter")}

    edit(folder, again, "val")
    edit(folder, lambda number, r: train[5] if number == 6 else None)
    found = kinds(check_dataset(folder))
    assert found["error", "duplicate"] == 1
    assert found["warning", "duplicate"] == 1
    assert found["error", "contradiction"] == 1
    assert found["error", "split-leak"] == 2


def test_missing_and_outnumbered_classes_are_reported(tmp_path: Path) -> None:
    sources = {
        "calendar": [make_source(tmp_path, "calendar", range(60))],
        "claim-window": [make_source(tmp_path, "claim", range(100, 102))],
    }
    dataset = generate_dataset(sources, tmp_path / "few", val=0.1, test=0)
    assert "few: val has no sample of claim-window, so" in str(untrainable(dataset))
    (few,) = [f for f in check_dataset(tmp_path / "few").errors if f.kind == "missing-class"]
    assert "val.jsonl: holds no sample of claim-window; `pointsman train` needs one" in str(few)
    dataset = generate_dataset(sources, tmp_path / "data", val=0, test=0.1)
    assert "data: val has no sample of calendar, claim-window, so" in str(untrainable(dataset))
    report = check_dataset(tmp_path / "data", images=False)
    assert kinds(report)["warning", "imbalance"] == 1
    assert "calendar has 54 samples, claim-window 2" in the(report, "imbalance")
    missing = sorted(str(f) for f in report.findings if f.kind == "missing-class")
    assert [m.split("data/")[1] for m in missing] == [
        "val.jsonl: holds no samples; `pointsman train` needs one of each adapter",
        "test.jsonl: holds no sample of claim-window",
    ]

    def relabel(number: int, r: dict[str, Any]) -> None:
        r.update(label=0, adapter="calendar")

    edit(tmp_path / "data", relabel)
    report = check_dataset(tmp_path / "data", images=False)
    assert kinds(report)["error", "missing-class"] == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ('{{"action": "left_click", "coordinate": [{px}, {py}]}}', "as pixels: 30 of 30"),
        ('{{"bbox_2d": [{px}, {py}, {px}, {py}]}}', "as pixels: 30 of 30"),
        ('{{"coordinate": [{fx}, {fy}]}}', "as 0 to 1: 30 of 30"),
        ("pyautogui.click(x={fx}, y={fy})", "as 0 to 1: 30 of 30"),
        ("({px}, {py})", "as pixels: 30 of 30"),
        ('{{"coordinate": [{far}, {y}]}}', "have 6 of 30 coordinates beyond 0 to 1000"),
        ('{{"coordinate": [{away}, {y}]}}', "have 6 of 30 coordinates beyond 0 to 1000"),
        ('{{"coordinate": [{x}, {y}]}}', None),
        ("<|box_start|>({x},{y})<|box_end|>", None),
        ("between {px} and {py}, say", None),
    ],
)
@pytest.mark.parametrize("boxed", [True, False])
def test_the_convention_of_coordinates(
    answer: str, message: str | None, boxed: bool, tmp_path: Path
) -> None:
    size = (640, 448)
    records, other = [], []
    for n in range(30):
        (tmp_path / f"{n}.png").write_bytes(png(n, size))
        x, y = 20 + 32 * n, 980 - 31 * n
        px, py = x * size[0] // 1000, y * size[1] // 1000
        names = {"x": x, "y": y, "px": px, "py": py, "fx": x / 1000, "fy": y / 1000}
        names |= {"far": x + 1000 * (n % 5 == 0), "away": (x + 500 * (n % 5 == 0)) % 1000}
        box = {"bbox": [px - 4, py - 4, px + 4, py + 4]} if boxed else {}
        records.append(record(f"go {n}", f"{n}.png") | box)
        records[-1]["conversations"][1]["value"] = answer.format(**names)
        other.append(record(f"other {n}", None))
    sources = {"calendar": [write(tmp_path / "a.jsonl", records)]}
    sources |= {"claim-window": [write(tmp_path / "b.jsonl", other)]}
    generate_dataset(sources, tmp_path / "data")
    found = [str(f) for f in check_dataset(tmp_path / "data").findings if f.kind == "coordinates"]
    if message is None or ("away" in answer and not boxed):
        assert found == []
    else:
        assert len(found) == 1
        assert "answers of calendar" in found[0]
        assert message in found[0]


def test_pixels_of_a_large_picture(tmp_path: Path) -> None:
    """As Qwen2.5-VL writes them: above 1000, and outside the sample's own box."""
    records = []
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(png(n, (2000, 1000)))
        records.append(record(f"go {n}", f"{n}.png", bbox=[1400 + n, 700, 1460, 730]))
        call = {"name": "computer_use", "arguments": {"coordinate": [1430, 715]}}
        value = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
        records[-1]["conversations"][1]["value"] = value
    generate_dataset({"a": [write(tmp_path / "a.jsonl", records)]}, tmp_path / "data")
    found = the(check_dataset(tmp_path / "data"), "coordinates")
    assert "as pixels: 3 of 3 coordinates fit that, 0 fit 0 to 1000, which Qwen3-VL" in found


def test_empty_answers_are_counted(folder: Path) -> None:
    edit(folder, lambda n, r: r["conversations"][1].update(value=" ") if n < 3 else None)
    assert "have an empty answer" in str(check_dataset(folder).warnings)


def test_answers_and_names_in_the_prompt_are_counted(folder: Path) -> None:
    edit(folder, ask("Choose a thing", "ok"))
    assert kinds(check_dataset(folder, images=False))["warning", "answer-leak"] == 0
    edit(folder, ask("Say: done with 7,", "done with 7"))
    report = check_dataset(folder, images=False)
    assert kinds(report)["warning", "answer-leak"] == 2  # one for each adapter
    assert "24 of 30 samples of calendar hold the answer in the prompt" in str(report.findings)
    edit(folder, ask("Click at (411, 412) now", '{{"coordinate": [411,412]}} {}'))
    report = check_dataset(folder, images=False)
    assert "hold the answer's coordinates" in str(report.findings)
    edit(folder, ask("Close the Claim Window", "ok"))
    report = check_dataset(folder, images=False)
    assert "24 of 30 samples of claim-window name the adapter" in str(report.findings)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Click 411,412", True),
        ("Click (411 , 412).", True),
        ("Click 411x412", True),
        ("Click 1411,412", False),
        ("Click 411,4120", False),
        ("Click 411,412.5", False),
        ("Click 412,411", False),
        ("Pick day 411", False),
    ],
)
def test_coordinates_are_found_as_a_whole(prompt: str, found: bool) -> None:
    value = record(prompt, None)
    value["conversations"][1]["value"] = '{"coordinate": [411, 412]}'
    assert leaks.holds_coordinates(parse_sample(value, None, "a:1")) is found


def named(adapter: str | None, text: str) -> RoutingSample:
    sample = parse_sample(record(text, None), None, "a:1")
    return RoutingSample(sample.turns, (), 0, adapter)


def test_an_adapter_is_named_only_by_its_whole_name() -> None:
    assert leaks.names_adapter(named("claim-window", "open the Claim_window"))
    assert leaks.names_adapter(named("claim-window", "open the claim window"))
    assert not leaks.names_adapter(named("claim-window", "open the window"))
    assert not leaks.names_adapter(named("calendar", "open the calendars"))
    assert not leaks.names_adapter(named(None, "open the calendar"))


def trivial(tmp_path: Path, size_of: Any, text_of: Any, kind_of: Any) -> Report:
    """Checks a dataset whose samples differ by adapter only in what the arguments give."""
    sources: dict[str, list[str]] = {}
    for label, name in enumerate(("calendar", "claim-window")):
        records = []
        for number in range(40):
            kind = kind_of(label, number)
            file = tmp_path / f"{label}-{number}.{kind}"
            file.write_bytes(png(label * 100 + number, size_of(label, number), kind))
            records.append(record(text_of(label, number), file.name))
        sources[name] = [write(tmp_path / f"{name}.jsonl", records)]
    generate_dataset(sources, tmp_path / "data")
    return check_dataset(tmp_path / "data")


def constant(value: Any) -> Any:
    return lambda label, number: value


def by_label(*values: Any) -> Any:
    """The label's value, but for every tenth sample the other one's."""
    return lambda label, number: values[label ^ (number % 10 == 0)]


def same_text(label: int, number: int) -> str:
    return f"go to {number:02} {'ab'[label]}"


def test_labels_that_the_image_size_gives_away(tmp_path: Path) -> None:
    sizes = by_label((20, 20), (30, 20))
    message = the(trivial(tmp_path, sizes, same_text, constant("png")), "trivia")
    assert "the image size alone predicts the adapter for 90% of the samples" in message
    assert "always guessing one class for 50%" in message


def test_labels_that_the_image_path_gives_away(tmp_path: Path) -> None:
    kinds = by_label("png", "bmp")
    message = the(trivial(tmp_path, constant((20, 20)), same_text, kinds), "trivia")
    assert "the pattern of the image path alone predicts the adapter for 90%" in message


def test_labels_that_the_prompt_length_gives_away(tmp_path: Path) -> None:
    def text(label: int, number: int) -> str:
        return f"go to {number:02}" + by_label("", " please")(label, number) + "ab"[label]

    message = the(trivial(tmp_path, constant((20, 20)), text, constant("png")), "trivia")
    assert "the length of the prompt alone predicts the adapter for 90%" in message


def test_labels_that_the_system_prompt_gives_away(folder: Path) -> None:
    for split in ("train", "val", "test"):

        def tell(number: int, r: dict[str, Any]) -> None:
            prompt = f"You work on screen {r['label']}."
            r["conversations"].insert(0, {"from": "system", "value": prompt})

        edit(folder, tell, split)
    found = [str(finding) for finding in check_dataset(folder).findings if finding.kind == "trivia"]
    assert any("the system prompt alone predicts the adapter for 100%" in line for line in found)


def test_sizes_and_lengths_that_say_nothing_are_no_finding(tmp_path: Path) -> None:
    def size(label: int, number: int) -> tuple[int, int]:
        return (20 + number % 7, 20)

    report = trivial(tmp_path, size, same_text, constant("png"))
    assert [finding for finding in report.findings if finding.kind == "trivia"] == []


def test_a_rule_is_not_tested_on_images_that_it_was_made_from() -> None:
    # Every image has a size of its own, and two samples: sizes say nothing about new images.
    sizes = [number // 2 for number in range(200)]
    classes = ["ab"[(number // 2) % 2] for number in range(200)]
    rule = leaks.rule(sizes, classes, [str(size) for size in sizes])
    assert rule is not None
    assert rule.accuracy < 0.6
    leaky = leaks.rule(sizes, classes, [str(number) for number in range(200)])
    assert leaky is not None
    assert leaky.suspicious
    assert leaks.rule(sizes[:10], classes[:10], ["x"] * 10) is None


def test_path_patterns_blank_numbers_and_digests() -> None:
    assert leaks.path_pattern("images/cal_0012.png") == "images/cal_#.png"
    assert leaks.path_pattern("images/00ff00ff00ff00aa.png") == "images/#.png"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "dataset.json").unlink(), "no dataset.json"),
        (lambda f: (f / "dataset.json").write_text("{"), "not a readable JSON file"),
        (lambda f: (f / "val.jsonl").unlink(), "val.jsonl: no such file"),
        (lambda f: (f / "val.jsonl").write_text(""), "changed after the dataset was made"),
        (lambda f: (f / "train.jsonl").write_text(""), "train.jsonl: holds no samples"),
    ],
)
def test_a_broken_folder_is_reported_and_the_rest_still_checked(
    folder: Path, damage: Any, message: str
) -> None:
    damage(folder)
    report = check_dataset(folder)
    assert message in "\n".join(map(str, report.errors))
    assert report.counts["samples"] >= 12


def test_a_folder_that_is_not_there_is_one_finding(tmp_path: Path) -> None:
    report = check_dataset(tmp_path / "gone")
    assert [str(f) for f in report.findings] == [
        f"error: {tmp_path / 'gone'}: no such folder; give a dataset folder"
    ]


def test_real_screens_give_nothing_away(screens: Path, tmp_path: Path) -> None:
    sources: dict[str, list[Any]] = {}
    for line in (screens / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        sample["image"] = str(screens / sample["image"])
        sources.setdefault(sample["adapter"] or "out_of_scope", []).append(sample)
    files = {name: [write(tmp_path / f"{name}.jsonl", r)] for name, r in sources.items()}
    report = check_dataset(generate_dataset(files, tmp_path / "data").path)
    assert report.errors == []
    assert {finding.kind for finding in report.warnings} == {"adapter-name"}
