import json
import sys

import pytest

from pointsman.cli import console
from pointsman.errors import SampleError

# Text that markup, emoji names or highlighting would change.
NASTY = "data[/b].jsonl:100: [red]x[/red] :smile: {0} %s \\[ [0=a, 1=b]"


def fail(error: BaseException) -> None:
    raise error


def test_success_is_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(lambda: None, debug=False) == 0
    assert capsys.readouterr() == ("", "")


def test_a_refusal_is_one_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(lambda: fail(SampleError(NASTY)), debug=False) == 1
    assert capsys.readouterr() == ("", f"error: {NASTY}\n")


def test_a_long_line_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(lambda: fail(SampleError("word " * 100 + "end")), debug=False) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_debug_shows_where_it_came_from() -> None:
    with pytest.raises(SampleError, match="why"):
        console.run(lambda: fail(SampleError("why")), debug=True)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interruption_is_one_line(
    stop: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run(lambda: fail(stop), debug=False) == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to resume\n"


@pytest.mark.parametrize("status", [0, 1, 2])
def test_another_status_is_passed_on(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        console.run(lambda: sys.exit(status), debug=False)
    assert stop.value.code == status
    assert capsys.readouterr().err == ""


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: 1 / 0, debug=False)


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(NASTY)
    console.note(NASTY)
    assert capsys.readouterr() == (f"{NASTY}\n", f"{NASTY}\n")


def test_tables_show_text_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", 200)
    console.table(("where [/b]", "n"), [(NASTY, 3)], title="[/b] title")
    out, err = capsys.readouterr()
    assert err == ""
    for text in (NASTY, "where [/b]", "[/b] title"):
        assert text in out


def test_json_goes_to_standard_output_whole(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": f"{NASTY} ü ☃", "list": [1, None, True]}
    console.show_json(value)
    out, err = capsys.readouterr()
    assert json.loads(out) == value
    assert err == ""


def test_progress_is_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.progress(NASTY) as report:
        report(1, 2)
        report(2, 2)
    with console.progress("checking") as report:
        report(3, step=NASTY)
    lines = [
        f"{NASTY} 1/2 (50%), 0 s left",
        f"{NASTY} 2/2 (100%), 0 s",
        f"checking: {NASTY} 3, 0 s",
    ]
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in lines))


def test_quiet_leaves_out_notes_and_progress_but_no_result_and_no_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console._Shown, "notes", True)
    console.be_quiet(True)
    with console.progress("work") as report:
        report(1, 2)
    console.note("note")
    console.say("result")
    console.error("refused")
    assert capsys.readouterr() == ("result\n", "error: refused\n")


def test_progress_is_shown_as_it_is_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console.err, "_force_terminal", True)
    monkeypatch.setattr(console.err, "is_interactive", True)
    monkeypatch.setattr(console.err, "width", 200)
    with console.progress(NASTY) as report:
        report(1, 2)
    with console.progress("checking") as report:
        report(3, step=NASTY)
    out, err = capsys.readouterr()
    assert out == ""
    assert NASTY in err
    assert f"checking: {NASTY}" in err
