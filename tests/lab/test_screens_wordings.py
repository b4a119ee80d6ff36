"""What the demo screens' instructions say, and what they leave alone."""

import calendar
import json
import random
import re
from collections import Counter
from datetime import date
from itertools import product
from pathlib import Path

import pytest

from lab.screens import STRATA, Screen, draw_screens
from lab.screens import chatter as chatter_module
from lab.screens.arrow_phrases import ARROW_PLAIN, ARROWS
from lab.screens.chatter import TELLING, add_clause, clause_templates, slip
from lab.screens.counting import LAST, RANK, RANKS
from lab.screens.grammar import _AFTER, _BEFORE, every_form, expand, finish, slots
from lab.screens.instructions import (
    ask_for_date,
    ask_to_type,
    surface_forms,
    templates,
)
from lab.screens.questions import TASKS, Question, ask_about
from lab.screens.scene import Scene, draw_scene
from lab.screens.type_phrases import TYPE, TYPE_PLAIN
from lab.screens.values import LONGEST, typed_value
from lab.screens.widget import ADAPTERS, Target
from lab.screens.words import (
    COMMON_FIELDS,
    FIRST_NAMES,
    LAST_NAMES,
    MAIN_BUTTONS,
    MONTHS,
    OTHER_BUTTONS,
    OTHER_FIELDS,
    WEEKDAYS,
    invented_word,
)
from pointsman.engine.answer import parse_actions, typed_text
from support.tiny import REPOSITORY

SIZE = (640, 448)
HELD_OUT = REPOSITORY / "benchmarks" / "heldout_instructions.json"
FIELDS = (*COMMON_FIELDS, *OTHER_FIELDS)


def scene_of(adapter: str, stratum: str, seed: int) -> Scene:
    return draw_scene(random.Random(f"{adapter}/{seed}"), adapter, stratum, SIZE)


def questions(adapter: str, stratum: str, scenes: int, each: int) -> list[tuple[Scene, Question]]:
    rng = random.Random(0)
    drawn = [scene_of(adapter, stratum, seed) for seed in range(scenes)]
    return [(scene, ask_about(rng, scene, stratum, adapter)) for scene in drawn * each]


def test_there_are_many_wordings() -> None:
    assert min(surface_forms().values()) >= 350
    assert min(map(len, templates().values())) >= 15
    assert len(templates()["type"]) >= 60


def folded(text: str) -> str:
    """The text without case and punctuation, and with slots in a row as one."""
    text = re.sub(r"\{\w+\}", "_", text.lower())
    text = " ".join(re.sub(r"[^a-z_ ]", "", text).split())
    return re.sub(r"_( _)+", "_", text)


def undressed(text: str) -> set[str]:
    """The text as it is, and what it would be that politeness was added to."""
    plain, found = folded(text), {folded(text)}
    for frame in (*_BEFORE, *_AFTER):
        before, after = map(folded, frame.split("{}"))
        if plain.startswith(f"{before} ".lstrip()) and plain.endswith(f" {after}".rstrip()):
            found.add(plain[len(before) : len(plain) - len(after)].strip())
    return found


def test_held_out_wordings_are_never_said() -> None:
    held_out: dict[str, list[str]] = json.loads(HELD_OUT.read_text())
    generated = {
        folded(form)
        for texts in templates().values()
        for text in texts
        for form in every_form(text)
    }
    assert len(generated) > 10_000
    said = [text for texts in held_out.values() for text in texts if undressed(text) & generated]
    assert said == []


def test_dressing_is_seen_through() -> None:
    assert folded("Could you pick {mon} {day}, please?") == "could you pick _ please"
    assert "pick _" in undressed("Could you pick {mon} {day}?")
    assert "pick _" in undressed("Pick {mon} {day}, thanks")


def test_every_form_is_well_spaced() -> None:
    for texts in templates().values():
        for form in set[str]().union(*map(every_form, texts)):
            assert not re.search(r" [,.?!:]|^\W* |[\[\]|]", form), form


def test_tasks_are_named_after_what_is_asked() -> None:
    expected = {
        "calendar": {"day", "next-month", "previous-month", "other-month"},
        "claim-window": {"field", "type", "button"},
        "provider-select": {"row"},
    }
    for adapter, names in expected.items():
        for stratum, more in (("plain", set[str]()), ("text-decides", {"rank"})):
            tasks = {question.task for _, question in questions(adapter, stratum, 8, 25)}
            assert tasks == names | more
        ranks = {question.task for _, question in questions(adapter, "image-decides", 2, 5)}
        assert ranks == {"rank"}
    assert {"rank", *set[str]().union(*expected.values())} == set(TASKS)
    for stratum in STRATA[3:]:
        scene = draw_scene(random.Random(1), None, stratum, SIZE)
        assert ask_about(random.Random(1), scene, stratum).task is None


def months_between(shown: date, asked: date) -> int:
    return (asked.year - shown.year) * 12 + asked.month - shown.month


def dates_in(text: str) -> list[tuple[int | None, int]]:
    """Every year (if any) and month that a text names."""
    found: list[tuple[int | None, int]] = []
    for year, month in re.findall(r"(\d{4})-(\d\d)-\d\d", text):
        found.append((int(year), int(month)))
    for month, year in re.findall(r"\b(\d+)/\d+/(\d{4})", text):
        found.append((int(year), int(month)))
    years = re.findall(r"\b(20\d\d)\b", text)
    for number, name in enumerate(MONTHS, 1):
        if re.search(rf"\b({name}|{name[:3]})\b", text, re.IGNORECASE):
            found.append((int(years[0]) if years else None, number))
    return found


@pytest.mark.parametrize("stratum", ["plain", "text-decides"])
def test_a_date_of_another_month_is_an_arrow_away(stratum: str) -> None:
    asked = [
        (scene, question)
        for scene, question in questions("calendar", stratum, 12, 50)
        if question.task == "other-month"
    ]
    assert 0.08 < len(asked) / 600 < 0.16
    far = 0
    for scene, question in asked:
        assert question.target is not None
        assert question.widget is not None
        assert question.target in question.widget.targets, "the arrow is not drawn"
        shown = date.fromisoformat(question.widget.options[0].values["iso"])
        [(year, month)] = dates_in(question.instruction)
        way = 1 if question.target.kind == "next-month" else -1
        if year is None:
            assert way * (month - shown.month) % 12 in range(1, 5), question.instruction
        else:
            away = way * months_between(shown, date(year, month, 1))
            assert 1 <= away <= 14, question.instruction
            far += away > 4
        assert scene.widgets
    assert far > 3


def test_a_calendar_without_arrows_is_asked_for_its_own_days() -> None:
    scenes = [scene_of("calendar", "plain", seed) for seed in range(60)]
    bare = [s for s in scenes if {t.kind for t in s.widgets[0].targets} == {"day"}]
    assert bare
    for index in range(60):
        question = ask_about(random.Random(index), bare[0], "plain", "calendar")
        assert question.task == "day"


def test_days_of_the_shown_month_stay_there() -> None:
    for _, question in questions("calendar", "plain", 10, 20):
        if question.task == "day":
            assert question.target is not None
            named = {month for _, month in dates_in(question.instruction)}
            assert named <= {int(question.target.values["number"])}


@pytest.mark.parametrize("with_year", [False, True])
def test_another_month_is_always_named(with_year: bool) -> None:
    rng = random.Random(4)
    for _ in range(400):
        year, month = rng.randint(2018, 2031), rng.randint(1, 12)
        day = date(year, month, rng.choice((1, 17, calendar.monthrange(year, month)[1])))
        text = ask_for_date(rng, day, with_year=with_year)
        found = dates_in(text)
        assert {m for _, m in found} == {month}, text
        assert "this month" not in text.lower()
        if with_year:
            assert {y for y, _ in found} == {year}, text


def test_values_fit_their_fields() -> None:
    rng = random.Random(0)
    drawn = {label: [typed_value(rng, label) for _ in range(150)] for label in FIELDS}
    for values in drawn.values():
        for value in values:
            assert 1 <= len(value) <= LONGEST
            assert not set("\"'\\\n\r\t[]{}|<>") & set(value), value
            assert value == " ".join(value.split())
            assert value[-1].isalnum()
            assert value.isascii()
            # The words that stand beside a value in an instruction.
            assert not {"as", "for", "in", "into", "to", "is", "the", "with"} & set(value.split())
            # The words that may follow one.
            assert not {"please", "thanks", "now"} & set(value.lower().split())
        assert len(set(values)) > 40
    assert sum("@" in value for value in drawn["Email"]) > 100
    assert sum(bool(re.search(r"\d{4}", value)) for value in drawn["Date of birth"]) > 120
    assert sum(value[:1].isupper() and " " in value for value in drawn["Patient name"]) > 100
    assert {len(value) for values in drawn.values() for value in values} >= {1, LONGEST}


def test_a_value_to_enter_is_never_changed() -> None:
    rng = random.Random(0)
    target = Target("field", (0, 0, 1, 1), {"field": "Claim number"})
    lowered = ended = stopped = 0
    for _ in range(3000):
        value = rng.choice(("xQ7-Kz", "4711-A", "maria Lopez", "flank Brezz OFT"))
        text = ask_to_type(rng, target, value)
        assert text.count(value) == 1, (text, value)
        _, after = text.split(value)
        # No clause follows a value without quotes.
        assert re.match(r"[.!?]?$|['\"]| \w|, [a-z]", after), text
        lowered += "claim number" in text
        ended += not after
        stopped += after in (".", "!", "?", ", please", " please", " now", ", thanks", " for me")
    assert lowered > 100
    assert ended > 500
    assert stopped > 200


def test_every_way_to_enter_a_value_names_field_and_value() -> None:
    for template in (*TYPE_PLAIN, *TYPE.commands, *TYPE.remarks):
        for form in every_form(template):
            assert slots(form) == {"field", "value"}, form
            assert form.count("{value}") == 1


def test_fields_are_filled_in_now_and_then() -> None:
    for stratum in ("plain", "text-decides"):
        tasks = Counter(q.task for _, q in questions("claim-window", stratum, 8, 50))
        assert 0.3 < tasks["type"] / (tasks["type"] + tasks["field"]) < 0.5


def typing_screens() -> list[Screen]:
    drawn = [
        screen
        for seed, stratum in product(range(12), ("plain", "text-decides"))
        for screen in draw_screens(random.Random(seed), "claim-window", stratum, 12, SIZE)
    ]
    return [screen for screen in drawn if screen.task == "type"]


def test_answers_click_and_then_type() -> None:
    screens = typing_screens()
    assert len(screens) > 20
    for screen in screens:
        assert screen.action is not None
        click, enter = parse_actions(screen.action)
        assert list(click) == ["action", "coordinate"]
        assert (click["action"], enter["action"]) == ("left_click", "type")
        assert enter["text"] in screen.instruction
        first, second = screen.action.split("\n</tool_call>\n<tool_call>\n")
        assert re.fullmatch(r".*\"coordinate\": \[\d+,\d+\]\}\}", first.splitlines()[-1])
        assert second == (
            f'{{"name": "computer_use", "arguments": {{"action": "type", '
            f'"text": "{enter["text"]}"}}}}\n</tool_call>'
        )


def test_only_instructions_with_a_value_are_answered_by_typing() -> None:
    for adapter, stratum in product(ADAPTERS, STRATA[:3]):
        for screen in draw_screens(random.Random(8), adapter, stratum, 12, SIZE):
            assert screen.action is not None
            typed = typed_text(parse_actions(screen.action))
            assert (typed is not None) == (screen.task == "type")


def words_of(texts: tuple[str, ...]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}


def test_clauses_say_nothing_that_a_screen_shows() -> None:
    said = words_of(clause_templates())
    taken = words_of((*FIELDS, *MAIN_BUTTONS, *OTHER_BUTTONS, *FIRST_NAMES, *LAST_NAMES))
    taken |= words_of((*MONTHS, *WEEKDAYS, *RANKS))
    taken |= {name[:3].lower() for name in (*MONTHS, *WEEKDAYS)}
    widgets = "calendar picker form claim field box input doctor provider button row list option"
    times = "today tomorrow yesterday tonight day date week month year last final previous next"
    numbers = "one two three four five six seven eight nine ten"
    taken |= words_of((widgets, times, numbers))
    assert said & taken <= {"of", "for"}
    assert not re.search(r"\d", "".join(clause_templates()))
    assert not any(slots(template) for template in clause_templates())


def test_there_are_thousands_of_clauses() -> None:
    rng = random.Random(0)
    drawn = [expand(rng, rng.choice(clause_templates())) for _ in range(4000)]
    assert len(set(drawn)) > 2000


def test_clauses_come_alike_in_every_stratum(monkeypatch: pytest.MonkeyPatch) -> None:
    added: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    current = ""

    def counted(rng: random.Random, text: str) -> str:
        added[current] += 1
        return add_clause(rng, text)

    monkeypatch.setattr(chatter_module, "add_clause", counted)
    for stratum in STRATA:
        current = stratum
        adapter = None if stratum in STRATA[3:] else "claim-window"
        rng = random.Random(stratum)
        scene = draw_scene(random.Random(2), adapter, stratum, SIZE)
        for _ in range(1200):
            ask_about(rng, scene, stratum, adapter)
            asked[stratum] += 1
    for stratum in STRATA:
        assert 0.09 < added[stratum] / asked[stratum] < 0.15, stratum


def test_a_clause_stands_apart() -> None:
    texts = {add_clause(random.Random(index), "Could you press {button}?") for index in range(300)}
    assert all("{button}" in text for text in texts)
    assert any(text.endswith("?") and ", " in text for text in texts)
    assert any(text.startswith("Could you") for text in texts)
    assert any(text.endswith("could you press {button}?") for text in texts)
    for index in range(300):
        assert add_clause(random.Random(index), "Set {field} to {value}").endswith("to {value}")


def test_a_slip_keeps_slots_and_the_words_that_matter() -> None:
    for template in ("Take the {rank} {thing} now", "Type {value} into {field} quickly please"):
        changed = {slip(random.Random(index), template) for index in range(80)}
        assert len(changed) > 8
        for text in changed:
            assert slots(text) == slots(template)
            assert text == " ".join(text.split())
    # "into" says where the value ends.
    assert all(
        "{value} into" in slip(random.Random(index), "Type {value} into {field} quickly please")
        for index in range(80)
    )


def test_texts_without_slots_keep_what_they_mean() -> None:
    plain = [text for texts in ARROW_PLAIN.values() for text in texts]
    arrows = [t for phrases in ARROWS.values() for t in (*phrases.commands, *phrases.remarks)]
    for template in (*plain, *arrows, *LAST.commands, *LAST.remarks):
        for form in every_form(template):
            telling = [word for word in re.findall(r"\w+", form) if TELLING.fullmatch(word)]
            assert telling, form
            slipped = slip(random.Random(form), form)
            assert [w for w in re.findall(r"\w+", slipped) if w in telling] == telling, slipped
            assert slipped.split()[0] == form.split()[0]


def test_invented_words_are_no_names() -> None:
    rng = random.Random(0)
    drawn = {invented_word(rng) for _ in range(20_000)}
    assert len(drawn) > 8000
    known = words_of((*FIRST_NAMES, *LAST_NAMES, *MONTHS, *WEEKDAYS, *RANKS, *FIELDS))
    assert not drawn & known


def test_letter_case_leaves_only_the_value_alone() -> None:
    values = {"field": "Member ID", "value": "aB"}
    said = {finish(random.Random(i), "Set {field} to {value}", values) for i in range(400)}
    cased = {"Set Member ID to aB", "set member id to aB", "SET MEMBER ID TO aB"}
    assert {text.removesuffix(".") for text in said} == cased


def test_counting_tells_nothing_of_the_widget() -> None:
    texts = {
        adapter: [
            question.instruction.lower()
            for _, question in questions(adapter, "image-decides", 1, 400)
        ]
        for adapter in ADAPTERS
    }
    banned = words_of(("day date month calendar field form claim doctor provider name phone",))
    for instructions in texts.values():
        assert not words_of(tuple(instructions)) & banned
    assert len(RANK.commands) + len(RANK.remarks) >= 36


def test_held_out_file_is_where_the_test_looks() -> None:
    assert isinstance(HELD_OUT, Path)
    assert len(json.loads(HELD_OUT.read_text())) == 8
