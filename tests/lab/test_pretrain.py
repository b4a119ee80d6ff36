"""Questions about drawn screens, their tokens, and the feed that draws them."""

import random
import re
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from lab.pretrain import phrases
from lab.pretrain.config import SHAPES, TOY, TrainConfig
from lab.pretrain.corpus import Asker, Question, View, reading_order
from lab.pretrain.evaluate import held_out_phrasings
from lab.pretrain.feed import (
    Artist,
    Feed,
    arrays_in,
    draw,
    draw_size,
    draw_view,
    screens_of,
    slot_bytes,
)
from lab.pretrain.layout import CHARACTERS, Layout, layout_of, make_layout
from lab.pretrain.packing import PADDING, Packer
from lab.pretrain.phrases import ARROWS, TASKS, WORDINGS, phrase
from lab.pretrain.tokenizer import (
    ACTION,
    SIZE,
    SPECIAL,
    load_tokenizer,
    train_tokenizer,
)
from lab.screens import draw_screens
from lab.screens.canvas import Canvas, centre
from lab.screens.grammar import _AFTER, _BEFORE, every_form, slots
from lab.screens.scene import draw_scene
from lab.screens.style import draw_style
from lab.screens.typefaces import bundled_families
from lab.screens.widget import ADAPTERS
from lab.screens.words import MONTHS
from pointsman.errors import ArtefactError, ConfigError

SCREEN = (640, 448)


def asked(
    count: int, each: int = 30, seed: str = "asked"
) -> list[tuple[Layout, View, list[Question]]]:
    """Layouts, half of them scaled and shifted, with questions of every task."""
    found = []
    for index in range(count):
        rng = random.Random(f"{seed}/{index}")
        layout = draw(rng, SCREEN, 0.4)
        view = draw_view(rng, SCREEN)
        asker = Asker(rng, layout, view)
        makers = [task for task in TASKS if task != "copy"]
        questions = [q for task in makers for _ in range(each // 10) if (q := asker.ask_of(task))]
        found.append((layout, view, questions))
    return found


@pytest.fixture(scope="module")
def corpus() -> list[tuple[Layout, View, list[Question]]]:
    return asked(60)


def of(
    corpus: list[tuple[Layout, View, list[Question]]], task: str
) -> list[tuple[Layout, View, Question]]:
    found = [(lay, view, q) for lay, view, questions in corpus for q in questions if q.task == task]
    assert len(found) > 10, task
    return found


def at(question: Question) -> tuple[float, float]:
    return int(question.values["x"]) / 1000, int(question.values["y"]) / 1000


def holds(box: tuple[float, float, float, float], x: float, y: float) -> bool:
    # A step of the grid is a pixel or so.
    return box[0] - 0.002 <= x <= box[2] + 0.002 and box[1] - 0.002 <= y <= box[3] + 0.002


@pytest.mark.parametrize("task", ["locate", "element", "row", "rank"])
def test_points_lie_inside_the_box_of_what_is_asked_for(
    corpus: list[tuple[Layout, View, list[Question]]], task: str
) -> None:
    for _, _, question in of(corpus, task):
        assert question.box is not None
        x, y = (int(number) / 1000 for number in question.answer.split(","))
        assert holds(question.box, x, y)
        assert all(0 <= int(number) <= 999 for number in question.answer.split(","))


def test_a_located_text_is_the_only_one_that_says_so(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for layout, view, question in of(corpus, "locate"):
        wanted = question.values["text"].lower()
        texts = [text for text in (*layout.runs, *layout.words) if text.text.lower() == wanted]
        assert [view.box(text.box) for text in texts] == [question.box]


def test_texts_are_read_at_their_place(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for layout, view, question in of(corpus, "read"):
        there = [run.text for run in layout.runs if holds(view.box(run.box), *at(question))]
        assert question.answer in there
    for layout, view, question in of(corpus, "label"):
        there = [t.label for t in layout.things if holds(view.box(t.box), *at(question))]
        assert question.answer in there


def test_kinds_are_told_at_their_place(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    kinds = set()
    for layout, view, question in of(corpus, "kind"):
        there = {t.kind for t in layout.things if holds(view.box(t.box), *at(question))}
        assert question.answer in there or (question.answer == "text" and not there)
        kinds.add(question.answer)
    assert {"text", "button", "field"} <= kinds


def test_boxes_surround_their_text(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for layout, view, question in of(corpus, "box"):
        name = question.values["text"]
        things = {t.box for t in layout.things if f"the {t.label} {t.kind}" == name}
        texts = {t.box for t in (*layout.runs, *layout.words) if t.text == name}
        (box,) = texts or things
        edges = [int(number) / 1000 for number in question.answer.split(",")]
        seen = [min(1.0, max(0.0, edge)) for edge in view.box(box)]  # it may lie on the rim
        assert edges == pytest.approx(seen, abs=0.0011)


def test_neighbours_lie_on_their_side(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for layout, _, question in of(corpus, "beside"):
        side = next(
            side
            for side, wording in phrases.SIDES.items()
            if question.values["side"] in every_form(wording)
        )
        axis, sign = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}[side]
        everything = (*layout.runs, *layout.words)
        (text,) = {t for t in everything if t.text == question.values["text"]}
        others = [t for t in everything if t.text == question.answer and t is not text]
        assert any(
            sign * (centre(other.box)[axis] - centre(text.box)[axis]) > 0 for other in others
        )


def test_what_is_said_to_be_there_is_there(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for layout, _, question in of(corpus, "present"):
        written = " ".join(run.text.lower() for run in layout.runs)
        assert (question.values["text"].lower() in written) == (question.answer == "yes")
    answers = [question.answer for _, _, question in of(corpus, "present")]
    assert 0.25 < answers.count("yes") / len(answers) < 0.75


def test_counts_and_kinds_are_those_of_the_screen(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for layout, _, question in of(corpus, "count"):
        kinds = [thing.kind for thing in layout.things]
        kind = question.values["things"].removesuffix("s").replace("switche", "switch")
        assert kinds.count(kind) == int(question.answer)
    for layout, _, question in of(corpus, "list"):
        assert len(question.answer.split(", ")) == max(1, len({t.kind for t in layout.things}))


def test_ranks_count_days_rows_and_columns() -> None:
    columns = said = rows = days = 0
    for index in range(30):
        rng = random.Random(f"rank/{index}")
        scene = draw_scene(rng, ADAPTERS[index % 3], "plain", SCREEN)
        layout = layout_of(scene)
        widget = scene.widgets[0]
        asker = Asker(rng, layout, View(SCREEN))
        for question in [q for _ in range(20) if (q := asker.ask_of("rank"))]:
            place = int(question.values["number"]) - 1
            assert question.box is not None
            middle = centre(question.box)
            if question.values["thing"] == "day":
                target, days = widget.options[place], days + 1
                assert target.values["day"] == str(place + 1)
            elif question.values["thing"] == "row":
                target, rows = widget.options[place], rows + 1
            elif question.wording is phrases.RANK_IN_ORDER:
                fields = [thing for thing in layout.things if thing.kind == "field"]
                target, said = reading_order(fields)[place], said + 1
            elif question.values["thing"] == "field":
                target, columns = widget.options[place], columns + 1
            else:
                continue
            assert centre(View(SCREEN).box(target.box)) == pytest.approx(middle)
    assert min(columns, said, rows, days) > 5


def test_reading_order_goes_by_rows() -> None:
    layout = draw_sheet_with_grid()
    ordered = reading_order(layout.things)
    assert [thing.label for thing in ordered] == ["a", "b", "c", "d"]


def draw_sheet_with_grid() -> Layout:
    canvas = Canvas(200, 100, (255, 255, 255))
    for label, x, y in (("d", 100, 60), ("b", 102, 9), ("c", 10, 58), ("a", 10, 12)):
        canvas.element("button", (x, y, x + 40.0, y + 20.0), label)
    return make_layout(canvas.image, canvas.marks, "")


def test_months_and_descriptions_say_what_the_scene_is() -> None:
    scene = draw_scene(random.Random(5), "calendar", "plain", SCREEN)
    layout = layout_of(scene)
    day = scene.widgets[0].options[0].values
    assert layout.month == f"{day['month']} {day['year']}"
    assert layout.what == "a calendar"
    both = draw_scene(random.Random(6), "calendar", "text-decides", SCREEN)
    assert " and " in layout_of(both).what


@pytest.fixture(scope="module")
def calendars() -> list[tuple[Layout, View, Question]]:
    """Questions about the months of calendars, in views that show a part or all of them."""
    found = []
    for index in range(40):
        rng = random.Random(f"months/{index}")
        layout = layout_of(draw_scene(rng, "calendar", "plain", SCREEN))
        view = draw_view(rng, SCREEN)
        asker = Asker(rng, layout, view)
        for task in ("numbered", "follows", "when", "towards", "arrow"):
            questions = [asker.ask_of(task) for _ in range(6)]
            found += [(layout, view, question) for question in questions if question]
    return found


def months(text: str) -> int:
    name, year = text.split(" ")
    return int(year) * 12 + MONTHS.index(name)


def names_month(date: str) -> int | None:
    """The month, from 0, that a date names in letters; None if it is written in digits."""
    named = [number for number, month in enumerate(MONTHS) if month[:3].lower() in date.lower()]
    if not named:
        assert re.search(r"\d-\d\d-|\d/", date), date
        return None
    (month,) = named
    return month


def test_months_are_counted_from_the_one_shown(
    calendars: list[tuple[Layout, View, Question]],
) -> None:
    for layout, _, question in of_task(calendars, "numbered"):
        assert int(question.answer) == months(layout.month) % 12 + 1
    steps = {"two": 2, "three": 3}
    for layout, _, question in of_task(calendars, "follows"):
        side = question.values["side"].split(" ")
        step = steps.get(side[0], 1) * (1 if side[-1] == "after" else -1)
        assert months(question.answer) == months(layout.month) + step
    for layout, _, question in of_task(calendars, "when"):
        way, _, count = question.answer.split(" ")
        asked = months(layout.month) + int(count) * (1 if way == "later" else -1)
        assert names_month(question.values["month"]) in (asked % 12, None)
        years = re.findall(r"\b\d{4}\b", question.values["month"])
        assert years == [str(asked // 12)] if years else int(count) <= 5


def test_a_date_of_another_month_is_reached_by_the_arrow_towards_it(
    calendars: list[tuple[Layout, View, Question]],
) -> None:
    reached = set()
    for layout, view, question in of_task(calendars, "towards"):
        (label,) = {t.label for t in layout.things if view.box(t.box) == question.box}
        named = names_month(question.values["date"])
        if label not in ARROWS:  # a day's cell has its number
            assert named in (months(layout.month) % 12, None)
        elif named is not None:
            years = re.findall(r"\b\d{4}\b", question.values["date"])
            shown = months(layout.month)
            away = (named - shown) % 12
            if years:
                away = int(years[0]) * 12 + named - shown
            elif away > 6:
                away -= 12
            assert (away > 0) == (label == "next month"), question
        reached.add(label if label in ARROWS else "a day")
    assert reached == {"previous month", "next month", "a day"}
    forms = {label: every_form(text) for label, text in ARROWS.items()}
    for layout, view, question in of_task(calendars, "arrow"):
        (label,) = {t.label for t in layout.things if view.box(t.box) == question.box}
        assert question.values["text"] in forms[label]


def of_task(
    found: list[tuple[Layout, View, Question]], task: str
) -> list[tuple[Layout, View, Question]]:
    chosen = [item for item in found if item[2].task == task]
    assert len(chosen) > 40, task
    return chosen


def test_a_fact_holds_its_value_as_it_is(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for _, _, question in of(corpus, "fact"):
        assert question.answer in question.text
        assert question.values["name"].lower() in question.text.lower()


def test_texts_and_characters_lie_on_ink() -> None:
    for index in range(12):
        layout = draw(random.Random(f"ink/{index}"), SCREEN, 0.5)
        pixels = np.asarray(layout.image.convert("L"), np.float32)
        for run in layout.runs:
            left, top, right, bottom = (round(edge) for edge in run.box)
            if left < 0 or top < 0 or right > SCREEN[0] or bottom > SCREEN[1] or right - left < 4:
                continue
            assert pixels[top:bottom, left:right].std() > 0.5, run
        assert set(layout.characters[:, 0]) <= set(range(len(CHARACTERS)))


def test_what_was_painted_over_is_not_there() -> None:
    style = draw_style(random.Random(0), 1.0)
    canvas = Canvas(200, 100, (255, 255, 255))
    canvas.text(10, 10, "gone", style.face(14), (0, 0, 0))
    canvas.text(10, 60, "stays", style.face(14), (0, 0, 0))
    canvas.element("field", (8, 8, 60, 30), "gone")
    canvas.rectangle((0, 0, 200, 40), fill=(255, 255, 255))
    layout = make_layout(canvas.image, canvas.marks, "")
    assert [run.text for run in layout.runs] == ["stays"]
    assert layout.things == ()
    assert len(layout.characters) == 5


def plain(text: str) -> str:
    return re.sub(r"[^a-z{} ]", "", text.lower()).strip()


def test_held_out_phrasings_are_never_generated() -> None:
    held_out = held_out_phrasings()
    assert set(held_out) == set(TASKS) - {"copy"}
    for task, texts in held_out.items():
        assert len(set(map(plain, texts))) == 10
        generated = set()
        for wording in WORDINGS[task]:
            for template in (*wording.commands, *wording.remarks):
                generated |= {plain(form) for form in every_form(template)}
        dressed = [plain(frame.format(" ")) for frame in (*_BEFORE, *_AFTER)]
        for text in texts:
            assert plain(text) not in generated, text
            bare = {plain(text).removeprefix(frame).strip() for frame in dressed}
            assert not bare & generated, text
        kinds = {slots(text) for text in texts}
        assert len(kinds) == 1, task


def test_held_out_slots_are_those_of_the_questions(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    for task, texts in held_out_phrasings().items():
        questions = [q for _, _, questions in corpus for q in questions if q.task == task]
        assert questions, task
        assert all(slots(texts[0]) <= set(question.values) for question in questions)


def test_there_is_neither_an_instruction_nor_an_action_in_the_corpus(
    corpus: list[tuple[Layout, View, list[Question]]],
) -> None:
    questions = [question for _, _, questions in corpus for question in questions]
    texts = {question.text.lower() for question in questions}
    instructions = {
        screen.instruction.lower()
        for index, (adapter, stratum) in enumerate(
            product(ADAPTERS, ("plain", "image-decides", "text-decides"))
        )
        for screen in draw_screens(random.Random(index), adapter, stratum, 30, SCREEN)
    }
    assert not texts & instructions
    verbs = ("click", "select", "pick", "choose", "tap", "press", "hit", "book", "fill in")
    for question in questions:
        assert "tool_call" not in question.text + question.answer
        assert "left_click" not in question.text + question.answer
        # A word of the screen may be such a verb, the question itself is not.
        asking = question.text.lower()
        for value in question.values.values():
            asking = asking.replace(value.lower(), "")
        assert not re.search(rf"\b({'|'.join(verbs)})\b", asking), asking


def test_typos_leave_the_values_alone() -> None:
    values = {"text": "Quarterly Totals", "thing": "button"}
    rng = random.Random(0)
    texts = [phrase(rng, phrases.ELEMENT, values) for _ in range(2000)]
    assert all("quarterly totals" in text.lower() for text in texts)
    assert len(set(texts)) > 900


def test_tokens_spell_every_text_and_each_part_of_an_action_is_one() -> None:
    packer = Packer(load_tokenizer(), 8)
    assert packer.vocabulary == SIZE
    assert [packer.id(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    for text in (
        "Where is 12?",
        "  two  spaces\n",
        "Größe 日本 🙂",
        "a\tb",
        "411,412",
        "$1,234.50",
    ):
        assert packer.text(packer.ids(text)) == text
    assert len(packer.ids("8051,7")) == 6
    opening, end, typing, typed = ACTION
    clicks = f"{opening}411,98{end}\n{typing}12 Main St{typed}"
    ids = packer.ids(clicks)
    assert [ids.count(packer.id(text)) for text in ACTION] == [1, 1, 1, 1]
    assert packer.text(ids) == clicks
    assert len(packer.ids("user")) == len(packer.ids("assistant")) == 1


def test_a_vocabulary_of_too_few_texts_is_refused() -> None:
    with pytest.raises(ArtefactError, match="more texts"):
        train_tokenizer(iter(["a few words"]))


def test_rows_hold_whole_questions_and_count_only_answers() -> None:
    packer = Packer(load_tokenizer(), 200)
    rng = random.Random(1)
    layout = draw(rng, SCREEN, 1.0)
    row = packer.pack(rng, Asker(rng, layout, View(SCREEN)))
    assert len(row.questions) > 3
    for number, question in enumerate(row.questions):
        where = np.flatnonzero(row.segments == number)
        assert list(where) == list(range(where[0], where[-1] + 1))
        counted = where[row.weights[where] > 0]
        assert counted[-1] == where[-1]
        if question.task == "copy":
            continue
        assert packer.text(list(row.ids[counted])) == question.answer
        head = row.ids[where[0] : counted[0]].tolist()
        assert head == packer.prompt(question.text)
        assert {TASKS[task] for task in row.tasks[where]} == {question.task}
    padding = row.segments == PADDING
    assert not row.weights[padding].any()


def test_symbols_to_repeat_are_never_an_action() -> None:
    packer = Packer(load_tokenizer(), 200)
    rng = random.Random(2)
    digits = {packer.id(digit) for digit in "0123456789"}
    openings = {packer.id(ACTION[0]), packer.id(ACTION[2])}
    seen = set()
    for _ in range(5000):
        prompt, answer, weights = packer.copy(rng)
        assert len(weights) == len(answer)
        assert answer[-1] == packer.end
        symbols = answer[:-1]
        asked = prompt[: -len(packer.tail)]
        rests = [
            packer.text(asked[end:])
            for end in range(len(symbols), len(asked) + 1)
            if asked[end - len(symbols) : end] == symbols
        ]
        # Where it is not the end, it is quoted.
        assert any(rest == "" or rest[0] in "\"'" for rest in rests)
        assert not any(a in openings and b in digits for a, b in pairwise(symbols))
        seen |= set(symbols)
    assert seen == set(range(len(SPECIAL), SIZE))


def test_more_typefaces_are_drawn_from_a_folder(tmp_path: Path) -> None:
    sans = bundled_families()[0]
    for weight, path in (("Regular", sans.regular), ("Bold", sans.bold)):
        (tmp_path / f"Other-{weight}.ttf").write_bytes(path.read_bytes())
    pictures = []
    for fonts in ((), (tmp_path,) * 200):
        settings = replace(TOY, fonts=fonts)
        chunk = Artist(settings).fill(bytearray(slot_bytes(settings)), 3)
        pictures.append(chunk.arrays["pixels"].copy())
    assert not np.array_equal(*pictures)
    with pytest.raises(ConfigError, match=r"fonts .*: there is no NAME-Regular.ttf in it"):
        replace(TOY, fonts=(tmp_path / "none",))


def test_chunks_are_drawn_from_their_own_seed() -> None:
    artist = Artist(TOY)
    first, second, again = (bytearray(slot_bytes(TOY)) for _ in range(3))
    chunk = artist.fill(first, 3)
    other = artist.fill(second, 4)
    same = Artist(TOY).fill(again, 3)
    assert all(np.array_equal(chunk.arrays[name], same.arrays[name]) for name in chunk.arrays)
    assert chunk.size != other.size
    assert chunk.canvas == tuple(round(side / 32) * 32 for side in chunk.size)
    assert SHAPES["base"].canvas((512, 400)) == (736, 576)
    assert SHAPES["base"].canvas((1280, 800)) == (1120, 672)
    assert chunk.arrays["pixels"].std() > 1


def test_sizes_are_many_and_fit_their_slot() -> None:
    rng = random.Random(0)
    sizes = {draw_size(rng, TOY) for _ in range(200)}
    assert len(sizes) > 150
    for width, height in sizes:
        count = screens_of(TOY, (width, height))
        arrays = arrays_in(bytearray(slot_bytes(TOY)), TOY, (width, height), count)
        assert arrays["pixels"].shape == (count, height, width, 3)
    full = TrainConfig()
    least, most, low, high = full.sizes
    drawn = [draw_size(rng, full) for _ in range(400)]
    upright = [size for size in drawn if size[1] > size[0]]
    assert 80 < len(upright) < 200
    assert max(height for _, height in upright) > 1000
    assert all(least <= max(size) <= most and low <= min(size) <= high for size in drawn)
    assert screens_of(full, (least, low)) == screens_of(full, (768, 512)) == 100
    assert screens_of(full, (most, high)) == 38


def test_workers_draw_the_same_chunks_as_this_process() -> None:
    settings = replace(TOY, workers=1, slots=3)
    artist, memory = Artist(TOY), bytearray(slot_bytes(TOY))
    with Feed(settings, first=5) as feed:
        for index in (5, 6, 7, 8):
            chunk = feed.take()
            expected = artist.fill(memory, index)
            assert (chunk.index, chunk.size) == (index, expected.size)
            for name, array in expected.arrays.items():
                assert np.array_equal(chunk.arrays[name], array)
            feed.release(chunk)
        name = feed._file
    assert not name.exists()
