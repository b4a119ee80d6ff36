"""Training sets of other trainers on the command line: what is read, dropped and reported."""

import json
from pathlib import Path

from pointsman.adapters.files import NOTE
from pointsman.files import read_object
from support.commands import refused, run, succeeds
from support.sources import make_source, png, record, write


def test_skipped_samples_are_counted_and_explained(tmp_path: Path) -> None:
    good = make_source(tmp_path, "good", range(3))
    bad = [{"conversations": [{"from": "human", "value": f"do {n}"},
                              {"from": "function_call", "value": "{}"}]}
           for n in range(48)]  # fmt: skip
    bad.append({"conversations": [{"from": "human", "value": "x"}], "video": "v.mp4"})
    source = write(tmp_path / "bad.jsonl", bad)
    generate = ("data", "generate", f"--source=a={good}", f"--source=a={source}")
    result = run(*generate, "--out", tmp_path / "refused")
    assert result.code == 1
    assert result.err.count("\n") == 2
    result = succeeds(*generate, "--out", tmp_path / "out", "--skip-bad")
    assert result.err.splitlines() == [
        "49 of 52 samples are dropped",
        f"{source}:1: a call has no name ({{}}) (and 47 more like this)",
        f"{source}:49: 'video' ('v.mp4') cannot be read; Pointsman reads text and images",
    ]
    assert "samples, 49 unusable ones dropped, labels [0=a]" in result.out


def test_unknown_keys_are_kept_and_reported_once(tmp_path: Path) -> None:
    rows = [record(f"do {n}", None, id=n) for n in range(6)]
    for row in rows[:2]:
        row["conversations"][0]["time"] = 3
    source = write(tmp_path / "a.jsonl", rows)
    result = succeeds("data", "generate", f"--source=a={source}", "--out", tmp_path / "out")
    assert result.err == (
        "keys that are not read, kept as they are: 'id' in 6, 'time' of turns in 2 samples\n"
    )
    kept = [
        json.loads(line)["id"]
        for split in ("train", "val", "test")
        for line in (tmp_path / f"out/{split}.jsonl").read_text().splitlines()
    ]
    assert sorted(kept) == list(range(6))


def test_a_value_that_is_no_json_names_its_key(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", ['{"prompt": "x", "completion": "y", "score": NaN}'])
    line = refused("data", "generate", f"--source=a={source}", "--out", tmp_path / "out")
    assert line == f"{source}:1: 'score' holds NaN or Infinity; write null"
    write(tmp_path / "a.jsonl", ['{"prompt": "x", "completion": "y", "score": {"a": [1e999]}}'])
    line = refused("data", "generate", f"--source=a={source}", "--out", tmp_path / "out")
    assert line == f"{source}:1: 'score' holds NaN or Infinity; write null"


def test_an_adapter_is_trained_on_calls_and_inline_images(
    tmp_path: Path, tiny_base_folder: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(3, (64, 64)))
    call = {"function": {"name": "click", "arguments": '{"x": 1}'}}
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"text": "Go"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        "id": 1,
    }
    source = write(tmp_path / "a.jsonl", [json.dumps(row, indent=1)] * 2)
    options = ("--base", tiny_base_folder, "--out", tmp_path / "out", "--rank=2", "--batch-size=1")
    result = succeeds("adapters", "train", "calendar", source, *options)
    assert "keys that are not read, kept as they are: 'id' in 2 samples" in result.err
    assert read_object(tmp_path / "out" / NOTE)["samples"] == 2
    row["messages"][1] |= {"loss": False}  # type: ignore[index]
    source = write(tmp_path / "b.jsonl", [row])
    line = refused("adapters", "train", "calendar", source, *options)
    assert "the assistant turn has loss False" in line
