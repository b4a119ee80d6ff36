# ruff: noqa: RUF001
"""Copies the figures of ``results/`` into the documents that state them.

    python benchmarks/docs_figures.py            writes them
    python benchmarks/docs_figures.py --check    says what differs; fails if anything does

It knows the tables and sentences on the pocket and on what is measured with it; a table is found by
its header or by the first cell of a row, a sentence by its words.
"""

import argparse
import difflib
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
README, CARD = "README.md", "src/pointsman/pocket/README.md"
PERFORMANCE, EVALUATION = "docs/performance.md", "docs/evaluation.md"
CONCEPTS = "docs/concepts.md"
_WIDTH = 100
_DRAWN_GOAL, _CHANGED_GOAL, _COLOUR_GOAL = "97%", "95%", "97%"
_TIMES = "times as fast as the original"
_STEPS = "milliseconds of a step, by adapters and batch (0 adapters: the base)"
_REAL_GOALS = {"plain": "98%", "image-decides": "90%", "text-decides": "98%"}


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def percent(share: float) -> str:
    return f"{share:.1%}"


def interval(figure: dict[str, Any], form: str = "{:.1f}", factor: float = 100) -> str:
    low, high = (form.format(factor * bound) for bound in figure["interval"])
    return f"[{low}, {high}]"


def cells(*values: str) -> str:
    return "| " + " | ".join(values).rstrip() + " |"


class Document:
    """A document whose figures are replaced; what is not found is an error."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.old = (ROOT / name).read_text("utf-8")
        self.text = self.old

    def row(self, first: str, *others: str, nth: int = 0) -> None:
        """Replaces cells of the nth row that begins with ``first``, from its second on."""
        lines = self.text.split("\n")
        places = [i for i, line in enumerate(lines) if line.startswith(f"| {first} |")]
        if len(places) <= nth:
            raise LookupError(f"{self.name}: no row {first!r}")
        rest = lines[places[nth]].strip("|").split("|")[1 + len(others) :]
        lines[places[nth]] = cells(first, *others, *(cell.strip() for cell in rest))
        self.text = "\n".join(lines)

    def table(self, header: str, rows: Iterable[str]) -> None:
        """Replaces all rows under the header that begins so."""
        before, found, after = self.text.partition(f"\n| {header}")
        if not found:
            raise LookupError(f"{self.name}: no table {header!r}")
        rest, rule, *_ = after.split("\n")
        end = after.partition("\n\n")[2]
        self.text = "\n".join([before + found + rest, rule, *rows]) + "\n\n" + end

    def sentence(self, pattern: str, text: str) -> None:
        """Replaces what matches, wherever its lines are broken."""
        spaced = pattern.replace(" ", r"\s+")
        changed, count = re.subn(spaced, lambda _: text, self.text)
        if count != 1:
            raise LookupError(f"{self.name}: {count} times {pattern!r}")
        self.text = changed

    def differences(self) -> Iterator[str]:
        """What was replaced and by what, a line each, with the numbers of the old lines."""
        old, new = self.old.split("\n"), self.text.split("\n")
        for tag, start, end, first, last in difflib.SequenceMatcher(
            None, old, new, autojunk=False
        ).get_opcodes():
            if tag != "equal":
                for number in range(start, end):
                    yield f"{self.name}:{number + 1}: - {old[number]}"
                for line in new[first:last]:
                    yield f"{self.name}:{start + 1}: + {line}"


def readme(document: Document) -> None:
    pocket, worth, engine = read("pocket"), read("worth"), read("engine")
    routing, task = pocket["real screens"]["routing"], pocket["real screens"]["everyone"]
    strata = routing["stratum"]
    document.row(
        "Routing of the pocket on 120 real in-scope screenshots",
        percent(routing["in_scope"]["accuracy"]),
    )
    document.row(
        "· `plain` / `image-decides` / `text-decides`",
        " / ".join(percent(strata[name]["accuracy"]) for name in _REAL_GOALS),
    )
    outside = routing["out_of_scope"]
    document.row(
        "· 40 screenshots out of scope: AUROC, rejected at 99% validation coverage",
        f"{outside['auroc']:.3f}, {percent(outside['rejected'])}",
    )
    document.row(
        "Answers right on them: routed / oracle adapter / base / wrong adapter",
        " / ".join(percent(task[who]) for who in ("routed", "oracle", "base", "wrong")),
    )
    ways = worth["worth"]["ways"]
    routed, always = ways["routed"]["success"], ways["frequent"]["success"]
    ratio = ways["oracle"]["time_ratio"]
    document.row(
        "Does routing pay on them? Routed against the most frequent adapter always",
        f"{percent(routed['value'])} {interval(routed)} against {percent(always['value'])} "
        f"{interval(always)}: {'yes' if worth['worth']['verdict'] == 'pays' else 'no'}",
    )
    document.row(
        "· time of a routed request over one whose adapter is known, median of pairs",
        f"{ratio['value']:.3f} {interval(ratio, '{:.3f}', 1)}",
    )
    trust = read("router_trust")
    rejected = trust["goals"]["out of scope, rejected while 95% in scope are kept"]["value"]
    document.row(
        "· ECE; rejected out of scope while 95% in scope are kept",
        f"{trust['goals']['ECE']['value']:.3f}; {percent(rejected)}",
    )
    seconds = pocket["seconds"]
    document.row(
        "Seconds to load the pocket, to answer the first 640×448 screen",
        f"{seconds['load']} s, {seconds['first answer, 640x448']} s",
    )
    alone, together = engine["one by one"], engine["8 together"]
    again = "engine, another request on each screen"
    document.row(
        "Routed answers a second against the original scripts' way: new screens one by one / "
        "8 mixed together",
        f"{alone['engine'][_TIMES]:.1f}× / {together['engine'][_TIMES]:.1f}×",
    )
    document.row(
        "· another request on each of those screens",
        f"{alone[again][_TIMES]:.1f}× / {together[again][_TIMES]:.1f}×",
    )
    document.row(
        "Routed over naming the adapter, `in-pass` / `activated` / `two-pass`, time ratio",
        " / ".join(
            f"{engine['routing'][plan]['routed over named']:.2f}"
            for plan in ("in-pass", "activated", "two-pass")
        ),
    )
    steps = read("adapters")[_STEPS]
    document.row(
        "A step of 8 requests with 1,000 adapters in memory over the same with 8, time ratio",
        f"{steps['1000']['8'] / steps['8']['8']:.2f}",
    )
    threads = read("threads")
    for first, way in (
        ("8 threads × 50 mixed requests: answers that differ from serial calls", "engine"),
        (
            "· the same with `set_adapter` and `generate` called by each thread",
            "set_adapter_and_generate",
        ),
    ):
        document.row(first, f"{threads[way]['differ']} of {threads[way]['requests']}")
    kill = read("preprocess_kill")
    document.row(
        "`kill -9` at 20 random moments of `preprocess`: completed runs with equal bytes",
        f"{kill['bytes_equal']} of {kill['completed']}",
    )
    document.row(
        "`preprocess` against a naive loop of full forwards, one question a picture, time ratio",
        f"{read('preprocess')['naive_over_preprocess']:.2f}×",
    )
    appended = read("extend")["10 samples"]["extend"]
    document.row(
        "An adapter appended from 10 samples, mean of 3 kinds of pages, 3 draws each: seconds, "
        "its top label right, points lost by the old three",
        f"{appended['seconds']:.1f} s, {percent(appended['new_accuracy'])}, "
        f"{100 * appended['old_accuracy_lost']:.1f}",
    )


def card(document: Document) -> None:
    """The pocket's own tables."""
    pocket = read("pocket")
    sets = [pocket[name] for name in ("real screens", "fresh", "unseen phrasings")]
    routing = [whole["routing"] for whole in sets]

    def shares(name: str, values: Sequence[float | None], *goal: str) -> str:
        return cells(name, *("–" if v is None else percent(v) for v in values), *goal)

    rows = [
        shares("in scope", [r["in_scope"]["accuracy"] for r in routing], "98%, 97% of unseen"),
        *(
            shares(name, [r["stratum"].get(name, {}).get("accuracy") for r in routing], "95%")
            for name in _REAL_GOALS
        ),
    ]
    outside = [r["out_of_scope"] for r in routing]
    aurocs = ["–" if one is None else f"{one['auroc']:.3f}" for one in outside]
    rejected = [None if one is None else one["rejected"] for one in outside]
    rows += [
        cells("out of scope, AUROC", *aurocs, "0.97"),
        shares("out of scope, rejected at the sealed threshold", rejected, ""),
    ]
    document.table("routing |", rows)
    document.table(
        "who answers |",
        [
            shares(name, [whole["everyone"][who] for whole in sets])
            for name, who in (
                ("routed", "routed"),
                ("the right adapter", "oracle"),
                ("no adapter", "base"),
                ("a wrong adapter", "wrong"),
            )
        ],
    )
    document.table("answers right, by the right adapter |", answer_rows(pocket))
    sizes, seconds = pocket["bytes"], pocket["seconds"]
    total, *parts = (f"{sizes[part] / 1e6:.1f}" for part in ("total", "base", "adapters", "router"))
    document.sentence(
        r"[\d.]+ MB in all \(base [\d.]+, adapters [\d.]+, router [\d.]+\); [\d.]+ s to load and "
        r"[\d.]+ s for",
        f"{total} MB in all (base {parts[0]}, adapters {parts[1]}, router {parts[2]}); "
        f"{seconds['load']} s to load and {seconds['first answer, 640x448']} s for",
    )


def answer_rows(pocket: dict[str, Any]) -> list[str]:
    rows = []
    for whole, shown in (
        ("real screens", "real"),
        ("fresh", "fresh drawn"),
        ("rare tasks", "rare tasks drawn"),
        ("unseen phrasings", "unseen phrasings"),
    ):
        for key, found in pocket[whole]["right adapter"].items():
            name = key.removeprefix("stratum: ").replace("task: ", "task ")
            goal = {
                "real": _REAL_GOALS.get(name, ""),
                "fresh drawn": _DRAWN_GOAL,
                "rare tasks drawn": _DRAWN_GOAL,
                "unseen phrasings": "90%" if name == "all" else "",
            }[shown]
            rows.append(cells(f"{shown}, {name}", str(found["n"]), percent(found["oracle"]), goal))
    for key, value in pocket.items():
        if not isinstance(value, dict) or not isinstance(value.get("all"), dict):
            continue
        if "control" in key:
            goal = "chance"
        else:
            goal = _COLOUR_GOAL if key.endswith(("inverted", "JPEG 60")) else _CHANGED_GOAL
        found = value["all"]
        rows.append(cells(key, str(found["n"]), percent(found["oracle"]), goal))
    return rows


def performance(document: Document) -> None:
    engine = read("engine")
    alone, together = engine["one by one"], engine["8 together"]
    for first, way in (
        ("original", "original"),
        ("PEFT, adapter known", "peft"),
        ("PEFT, mixed batch, adapters known", "peft, mixed"),
        ("engine, `two-pass`", "engine, two-pass"),
        ("engine, `in-pass`", "engine"),
        ("engine, another request on each screen", "engine, another request on each screen"),
    ):
        figures = []
        for found in (alone.get(way), together.get(way)):
            rate = "requests per second"
            figures += [f"{found[rate]:.2f}", f"{found[_TIMES]:.2f}"] if found else ["–", "–"]
        document.row(first, *figures)
    for plan in ("in-pass", "two-pass", "activated"):
        found = engine["routing"][plan]
        document.row(
            f"`{plan}`",
            f"{found['routed over named']:.3f}",
            f"{found['routed over named, on a screen seen before']:.3f}",
        )
    parts = engine["parts of a request"]
    document.sentence(
        r"of the [\d.]+ ms of a request on a screen never seen it takes [\d.]+%, the prefill "
        r"[\d.]+%, the steps [\d.]+%, tokens and patches [\d.]+%",
        f"of the {parts['milliseconds of a request']:.0f} ms of a request on a screen never seen "
        f"it takes {parts['vision tower']:.0%},\nthe prefill {parts['prefill, routed within']:.0%}"
        f", the steps {parts['steps']:.0%}, tokens and patches "
        f"{parts['tokens and patches']:.1%}",
    )
    peaks = [f"{engine['peak bytes'][way] / 1e6:,.0f} MB" for way in ("engine", "peft")]
    document.sentence(
        r"8 mixed requests: [\d,]+ MB with the engine, [\d,]+ MB with PEFT's",
        f"8 mixed requests: {peaks[0]} with the engine, {peaks[1]} with PEFT's",
    )
    adapters = read("adapters")
    for number, batches in adapters[_STEPS].items():
        first = f"{int(number):,} adapters" if number != "0" else "the base alone"
        document.row(first, *(f"{batches[size]:.2f}" for size in ("1", "8", "32")))
    document.sentence(
        r"the slowest is [\d.]+ times",
        f"the slowest is {adapters['slowest over 8 adapters, at a batch of 8']:.2f} times",
    )
    document.sentence(
        r"An adapter takes [\d.]+ MB; adding one to 1,000 takes [\d.]+ ms",
        f"An adapter takes {adapters['bytes of an adapter'] / 1e6:.2f} MB; adding one to 1,000 "
        f"takes {1000 * adapters['seconds to add an adapter']:.1f} ms",
    )
    extend(document)


def extend(document: Document) -> None:
    result = read("extend")
    before = result["before"]
    document.sentence(
        r"Before, [\d.]+% of the old top labels were right, [\d.]+% were routed right, [\d.]+% out "
        r"of scope were rejected at an AUROC of [\d.]+\d",
        f"Before, {percent(before['accuracy'])} of the old top labels were\nright, "
        f"{percent(before['routed_right'])} were routed right, {percent(before['rejected'])} out "
        f"of scope were rejected at an AUROC of {before['auroc']:.3f}",
    )
    for nth, samples in enumerate(("10 samples", "50 samples")):
        for first, way in (
            ("`train --extend`", "extend"),
            (
                "· replay drawn from class means and covariance",
                "extend, replay from class statistics",
            ),
            ("head trained anew on replay and new samples", "head trained anew"),
        ):
            found = result[samples][way]
            document.row(
                first,
                f"{found['seconds']:.1f}",
                f"{percent(found['new_accuracy'])} / {percent(found['new_routed_right'])}",
                f"{percent(found['old_accuracy'])} / {percent(found['old_routed_right'])}",
                percent(found["out_of_scope_rejected"]),
                f"{found['out_of_scope_auroc']:.3f}",
                nth=nth,
            )


def evaluation(document: Document) -> None:
    sentence = read("worth")["worth"]["sentence"]
    quoted = "\n".join(f"> {line}" for line in textwrap.wrap(sentence, _WIDTH - 2))
    document.sentence(r"> Routing (?:pays|does not pay): [^\n]*(?:\n> [^\n]*)*", quoted)


def concepts(document: Document) -> None:
    sealed = read("bundle_mutations")
    unsealed = sealed["adapters_without_seal"]
    document.sentence(
        r"[\d,]+ were refused, each in one line, and [\d,]+ were accepted and changed no answer",
        f"{sealed['refused']:,} were refused, each in one line, and "
        f"{sealed['accepted_and_changing_nothing']:,} were\naccepted and changed no answer",
    )
    document.sentence(
        r"Of [\d,]+ mutations of adapters that are not sealed, [\d,]+ changed an answer",
        f"Of {unsealed['mutations']:,} mutations of adapters\nthat are not sealed, "
        f"{unsealed['accepted_and_changing_an_answer']:,} changed an answer",
    )


PARTS = {
    README: readme,
    CARD: card,
    PERFORMANCE: performance,
    EVALUATION: evaluation,
    CONCEPTS: concepts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if lines differ")
    arguments = parser.parse_args()
    found = False
    for name, fill in PARTS.items():
        document = Document(name)
        fill(document)
        for line in document.differences():
            found = True
            print(line)
        if not arguments.check:
            (ROOT / name).write_text(document.text, "utf-8")
    if arguments.check and found:
        sys.exit("benchmarks/results has the lines with +, not those with -: run without --check")


if __name__ == "__main__":
    main()
