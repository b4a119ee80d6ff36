# ruff: noqa: RUF001
"""Copies the figures of ``results/`` into the documents that state them.

    python benchmarks/docs_figures.py            writes them
    python benchmarks/docs_figures.py --check    says what differs; fails if anything does

A table is found by its header, a row by its first cell, a sentence by its words.
"""

import argparse
import difflib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
README, CARD = "README.md", "src/pointsman/pocket/README.md"
ORIGINAL, FAQ = "docs/guide/original-scripts.md", "docs/faq.md"
BENCHMARKS, GROW = "docs/benchmarks.md", "docs/guide/grow.md"
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


def milliseconds(value: float) -> str:
    """Three digits, more of what is larger; halves are rounded up."""
    digits = "1" if value >= 100 else "0.1" if value >= 10 else "0.01"
    return f"{Decimal(str(value)).quantize(Decimal(digits), ROUND_HALF_UP):,}"


def cells(*values: str) -> str:
    return "| " + " | ".join(values).rstrip() + " |"


def as_broken(text: str, old: str) -> str:
    """The text with the line breaks of the old one, if it has as many words."""
    words, gaps = text.split(), re.findall(r"\s+", old)
    if len(gaps) != len(words) - 1:
        return text
    return "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=True))


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
        """Replaces what matches, wherever its lines are broken; they stay broken there."""
        spaced = pattern.replace(" ", r"\s+")
        changed, count = re.subn(spaced, lambda found: as_broken(text, found[0]), self.text)
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
    ways = read("worth")["worth"]["ways"]
    gpu = read("engine_gpu_8B")["sections"]
    routed, always = (ways[way]["success"]["value"] for way in ("routed", "frequent"))
    document.sentence(
        r"[\d.]+% of the answers are right when routed, [\d.]+% with",
        f"{percent(routed)} of the answers are right when routed, {percent(always)} with",
    )
    document.sentence(
        r"first token after [\d.]+ ms routed, [\d.]+ ms with",
        f"first token after {milliseconds(gpu['in-pass']['ttft_1']['ms'])} ms routed, "
        f"{milliseconds(gpu['base']['ttft_1']['ms'])} ms with",
    )
    runs = [
        read(name)["plans"]["in-pass"]["ratios"]["ours over vllm"]
        for name in ("against_vllm_gpu", "against_vllm_gpu_fp8")
    ]
    first, burst = (
        " and ".join(f"{ratios[phase]:.2f}" for ratios in runs)
        for phase in ("first_token_1", "burst")
    )
    document.sentence(
        r"it took [\d.]+ and [\d.]+ times as long as with vLLM, and 64 requests at once [\d.]+ and "
        r"[\d.]+ times",
        f"it took {first} times as long as with vLLM, and 64 requests at once {burst} times",
    )


def benchmarks(document: Document) -> None:
    """The summary: one line for each claim, with the script and the results file."""
    document.table("routing and answers |", routing_claims())
    document.table("speed |", [*speed_claims(), *gpu_claims()])
    document.table("robustness |", robustness_claims())
    document.table("inside vLLM |", vllm_claims())
    document.table("the server |", server_claims())
    document.table("more routers and adapters |", other_claims())
    document.table("one H200, 8B shape |", against_rows("gpu", ("vllm", "ours"), two_pass))
    document.table("one H200, 8B shape, FP8 |", fp8_rows())
    document.table("two cores, pocket |", against_rows("cpu", ("original", "vllm", "ours")))
    routed = read("against_vllm_gpu")["plans"]["in-pass"]["ratios"]["ours, routed over named"]
    document.sentence(
        r"takes [\d.]+ times as long as with the adapter named, the last one of 8 together [\d.]+",
        f"takes {routed['first_token_1']:.2f} times as long as with the adapter named, the last "
        f"one of 8 together {routed['first_token_8']:.2f}",
    )
    original = read("against_vllm_cpu")["plans"]["in-pass"]["ratios"]["ours over original"]
    document.sentence(
        r"answers [\d.]+ times as many requests of one client as the original scripts, and [\d.]+",
        f"answers {original['clients_1']:.2f} times as many requests of one client as the original "
        f"scripts, and {original['clients_8']:.2f}",
    )


def claim(what: str, figure: str, script: str, result: str) -> str:
    return cells(what, figure, f"`{script}.py`", f"`{result}.json`")


def routing_claims() -> Iterator[str]:
    pocket, worth, trust = read("pocket"), read("worth"), read("router_trust")
    routing, task = pocket["real screens"]["routing"], pocket["real screens"]["everyone"]
    strata, outside = routing["stratum"], routing["out_of_scope"]
    source = ("bench_pocket", "pocket")
    yield claim(
        "The pocket's routing on 120 real in-scope screenshots",
        percent(routing["in_scope"]["accuracy"]),
        *source,
    )
    yield claim(
        "· `plain` / `image-decides` / `text-decides`",
        " / ".join(percent(strata[name]["accuracy"]) for name in _REAL_GOALS),
        *source,
    )
    yield claim(
        "40 out-of-scope screenshots: AUROC; rejected at 99% validation coverage",
        f"{outside['auroc']:.3f}; {percent(outside['rejected'])}",
        *source,
    )
    yield claim(
        "Right answers: routed / right adapter / base / wrong adapter",
        " / ".join(percent(task[who]) for who in ("routed", "oracle", "base", "wrong")),
        *source,
    )
    ways = worth["worth"]["ways"]
    routed, always = ways["routed"]["success"], ways["frequent"]["success"]
    ratio = ways["oracle"]["time_ratio"]
    verdict = "yes" if worth["worth"]["verdict"] == "pays" else "no"
    yield claim(
        "Does routing pay? Routed, against the most frequent adapter for every request",
        f"{verdict}: {percent(routed['value'])} {interval(routed)}, {percent(always['value'])} "
        f"{interval(always)}",
        "bench_worth",
        "worth",
    )
    yield claim(
        "Time of a routed request over one that names its adapter, median of pairs",
        f"{ratio['value']:.3f} {interval(ratio, '{:.3f}', 1)}",
        "bench_worth",
        "worth",
    )
    goals = trust["goals"]
    rejected = goals["out of scope, rejected while 95% in scope are kept"]["value"]
    yield claim(
        "ECE; out-of-scope rejection at 95% in-scope coverage",
        f"{goals['ECE']['value']:.3f}; {percent(rejected)}",
        "bench_router_trust",
        "router_trust",
    )


def speed_claims() -> Iterator[str]:
    pocket, engine = read("pocket"), read("engine")
    seconds = pocket["seconds"]
    yield claim(
        "Loading the pocket; first answer to a 640×448 screen",
        f"{seconds['load']} s; {seconds['first answer, 640x448']} s",
        "bench_pocket",
        "pocket",
    )
    alone, together = engine["one by one"], engine["8 together"]
    for what, way in (
        ("Throughput over the original scripts, new screens", "engine"),
        (
            "Throughput over the original scripts, screens seen before",
            "engine, another request on each screen",
        ),
    ):
        yield claim(
            f"{what}: one by one / 8 mixed",
            f"{alone[way][_TIMES]:.1f}× / {together[way][_TIMES]:.1f}×",
            "bench_engine",
            "engine",
        )
    yield claim(
        "Time of routing over naming the adapter: `in-pass` / `activated` / `two-pass`",
        " / ".join(
            f"{engine['routing'][plan]['routed over named']:.2f}×"
            for plan in ("in-pass", "activated", "two-pass")
        ),
        "bench_engine",
        "engine",
    )
    steps = read("adapters")[_STEPS]
    yield claim(
        "Decode step of 8 requests: 1,000 adapters over 8 adapters in memory",
        f"{steps['1000']['8'] / steps['8']['8']:.2f}×",
        "bench_adapters",
        "adapters",
    )
    yield claim(
        "Time of a naive loop over `preprocess`, one question per image: by transformers alone / "
        "on our base",
        f"{read('preprocess')['naive_over_preprocess']:.2f}× / "
        f"{read('preprocess')['naive_on_our_base_over_preprocess']:.2f}×",
        "bench_preprocess",
        "preprocess",
    )


def gpu_claims() -> Iterator[str]:
    for shape in ("8B", "4B", "2B"):
        sections = read(f"engine_gpu_{shape}")["sections"]
        base, routed = sections["base"], sections["in-pass"]
        for what, key in (("first token", "ttft"), ("decode step", "step")):
            figures = [
                milliseconds(way[f"{key}_{size}"]["ms"])
                for size in (1, 8)
                for way in (routed, base)
            ]
            yield claim(
                f"H200, {shape} shapes, {what}: routed / base; 1 request, 8 requests",
                "{} / {} ms, {} / {} ms".format(*figures),
                "bench_engine_gpu",
                f"engine_gpu_{shape}",
            )
    found = read("preprocess_gpu")
    yield claim(
        "H200, 8B shape: samples/s of `preprocess` over those of the same forwards alone",
        f"{found['preprocess_over_floor']:.2f}",
        "bench_preprocess",
        "preprocess_gpu",
    )


def robustness_claims() -> Iterator[str]:
    threads = read("threads")
    for what, way in (
        ("8 threads × 50 mixed requests: answers that differ from serial calls", "engine"),
        ("· the same with `set_adapter` and `generate` per thread", "set_adapter_and_generate"),
    ):
        figure = f"{threads[way]['differ']} of {threads[way]['requests']}"
        yield claim(what, figure, "bench_threads", "threads")
    kill = read("preprocess_kill")
    yield claim(
        f"`kill -9` at {kill['kills']} random moments of `preprocess`: completed runs with equal "
        "bytes",
        f"{kill['bytes_equal']} of {kill['completed']}",
        "bench_preprocess_kill",
        "preprocess_kill",
    )
    sealed = read("bundle_mutations")
    yield claim(
        f"{sealed['mutations']:,} single mutations of router, adapters or project file: accepted "
        "and changing an answer / tracebacks / code executed",
        " / ".join(
            str(sealed[name])
            for name in ("accepted_and_changing_an_answer", "tracebacks", "code_executed")
        ),
        "check_bundle_mutations",
        "bundle_mutations",
    )
    mutations = read("mutations")["mutations"]
    noticed = sum(found["failing"] > 0 for found in mutations.values())
    yield claim(
        "Source mutations that break the mapping or leak the label: noticed by the tests",
        f"{noticed} of {len(mutations)}",
        "check_mutations",
        "mutations",
    )
    position = read("position_zero")
    yield claim(
        "Exported head in the original code, right labels: position 0 / last real token",
        " / ".join(f"{right} of {position['samples']}" for right in position["right"].values()),
        "check_position_zero",
        "position_zero",
    )
    stress = read("stress")
    yield claim(
        f"{stress['requests']:,} random requests with {stress['faults']:,} injected faults: wrong "
        "/ hung / left over",
        f"{stress['wrong']} / {stress['hung']} / {stress['leaked']}",
        "check_stress",
        "stress",
    )
    on_gpu = read("stress_cuda_peft")
    yield claim(
        f"· plan peft on an {on_gpu['machine']['device']}, {on_gpu['requests']:,} requests",
        f"{on_gpu['wrong']} / {on_gpu['hung']} / {on_gpu['leaked']}",
        "check_stress",
        "stress_cuda_peft",
    )
    faults = read("adapter_faults")
    good = len(faults["good_adapters"])
    yield claim(
        "Adapters with one planted fault: named by `adapters check` / silent in PEFT; sound "
        "adapters refused",
        f"{faults['caught']} of {faults['of']} / {faults['silent_in_peft']}; "
        f"{faults['false_alarms']} of {good}",
        "check_adapter_faults",
        "adapter_faults",
    )
    vllm = read("vllm_adapters")
    yield claim(
        f"Adapters in a running vLLM {vllm['vllm']}: equal verdicts of `adapters check --target "
        "vllm`; computed / refused / silently not computed",
        f"{vllm['equal']} of {vllm['of']}; "
        + " / ".join(str(vllm["verdicts"][name]) for name in ("computes", "refuses", "deviates")),
        "check_vllm_adapters",
        "vllm_adapters",
    )


def vllm_claims() -> Iterator[str]:
    traffic, cost = read("vllm_auto"), read("vllm")
    held = traffic["held_screens"]
    yield claim(
        f"`auto` in vLLM {traffic['vllm']} on a CPU: {traffic['requests']:,} random requests of "
        f"{traffic['clients']} clients, some cancelled: wrong routes or answers",
        str(traffic["wrong"]),
        "check_vllm_auto",
        "vllm_auto",
    )
    yield claim(
        f"· {held['screens']} held real screens: routed or abstained right; answered right",
        f"{held['routed_or_abstained_right']} of {held['screens']}; "
        f"{held['answered_right']} of {held['in_scope']}",
        "check_vllm_auto",
        "vllm_auto",
    )
    for plan, found in cost["plans"].items():
        yield claim(
            f"· plan {plan}, `auto` over the named adapter: time to first token; time per request "
            f"of {cost['clients']} clients",
            f"{found['first_token_auto_over_named']:.2f}; "
            f"{found['time_per_request_auto_over_named']:.2f}",
            "bench_vllm",
            "vllm",
        )
    own = read("vllm_own_tests")
    yield claim(
        f"· vLLM's own {own['tests']} client tests of adapters and chat on the pocket: pass "
        "without and with the plugin; differing",
        f"{own['without']['passed']} and {own['with']['passed']}; {len(own['differing'])}",
        "check_vllm_own_tests",
        "vllm_own_tests",
    )
    for name in ("vllm_gpu", "vllm_gpu_x2"):
        yield from vllm_gpu_claims(name)


def vllm_gpu_claims(name: str) -> Iterator[str]:
    gpu = read(name)
    device = f"{gpu['made']['gpus']} × {gpu['machine']['device']}"
    for plan, found in gpu["plans"].items():
        routes, answers = found["routes"], found["answers"]
        yield claim(
            f"· vLLM {gpu['vllm']}, {device}, 8B shape, CUDA graphs, {plan}: "
            "first token over the named adapter, 1 / 8 requests; time of 64 requests of 32 tokens",
            f"{found['requests_1']['first_token']['ratio_of_medians']:.2f} / "
            f"{found['requests_8']['first_token']['ratio_of_medians']:.2f}; "
            f"{found['requests_all']['with_preprocessing']['ratio_of_medians']:.2f}",
            "bench_vllm_gpu",
            name,
        )
        routed, named = answers["auto_against_named"], answers["named_twice"]
        yield claim(
            "· · routed; as the library alone; same first token as the named adapter (two runs of "
            "the named one)",
            f"{routes['routed']} of {routes['asked']}; {routes['equal']}; "
            f"{routed['same_first_token']} of {routed['requests']} ({named['same_first_token']} of "
            f"{named['requests']})",
            "bench_vllm_gpu",
            name,
        )


def server_claims() -> Iterator[str]:
    traffic, load, stops = read("server"), read("server_load"), read("server_stops")
    cost, foreign = read("server_overhead"), read("server_foreign")
    yield claim(
        f"{traffic['requests']:,} random requests of {traffic['clients']} clients for "
        f"{traffic['adapters']} adapters, while adapters and routers are exchanged: wrong; of "
        f"{traffic['requests_with_two_owners']} when two threads run the model",
        f"{traffic['wrong']}; {traffic['wrong_with_two_owners']}",
        "check_server",
        "server",
    )
    yield claim(
        "Memory that the last half of these requests added",
        f"{traffic['memory_grown_mb_in_the_last_half']} MB",
        "check_server",
        "server",
    )
    steady, over, left = load["at_80_percent"], load["at_5_times"], load["hang_ups"]
    yield claim(
        f"{steady['rounds'] * steady['seconds_of_each'] / 60:.0f} minutes at 80% of capacity, each "
        "request with a screen of its own: requests by status; ms to the "
        "answer, median and p99",
        f"{_counted(steady['statuses'])}; {_both(steady['answered_ms'])}",
        "check_server_load",
        "server_load",
    )
    yield claim(
        "5 times its capacity: requests by status; answers a second over capacity; ms to a 429, "
        "median and p99",
        f"{_counted(over['statuses'])}; {over['goodput']:.2f}; {_both(over['refused_ms'])}",
        "check_server_load",
        "server_load",
    )
    yield claim(
        f"{left['hang_ups']:,} clients hang up: others' answers by status; afterwards, as many as "
        "may run and wait",
        f"{_counted(left['answers_of_others'])}; {_counted(left['answers_afterwards'])}",
        "check_server_load",
        "server_load",
    )
    fuzz = read("server_fuzz")
    yield claim(
        f"{fuzz['requests']:,} requests made of the schema and {fuzz['pictures']:,} malformed "
        "pictures: status 5xx; responses that are not as the schema says; restarts; memory added",
        f"{fuzz['failed']}; {fuzz['faults']}; {fuzz['restarts']}; {fuzz['memory_mb']['growth']} MB",
        "check_server_fuzz",
        "server_fuzz",
    )
    yield claim(
        f"{stops['stops']} SIGTERMs under load: how requests and processes end",
        _counted(stops["ends"]),
        "check_server_stops",
        "server_stops",
    )
    new, again = cost["new screens"], cost["screens seen before"]
    yield claim(
        "One client, server over engine: time per request on a new screen; on a screen seen before",
        f"{new['median_ratio']:.2f} ({new['server_ms']:.0f} ms / {new['engine_ms']:.0f} ms); "
        f"{again['median_ratio']:.2f} ({again['server_ms']:.0f} ms / {again['engine_ms']:.0f} ms)",
        "bench_server",
        "server_overhead",
    )
    yield claim(
        f"Client tests of vLLM {foreign['vllm_tests']} and SGLang that apply: passed; answered "
        "otherwise on purpose, as the results say; failed. Inapplicable",
        f"{foreign['passed']} of {foreign['apply']}; {len(foreign['different'])}; "
        f"{len(foreign['failed'])}. {len(foreign['inapplicable'])}",
        "check_server_foreign",
        "server_foreign",
    )
    if (RESULTS / "server_vllm.json").is_file():
        yield from server_vllm_claims()


AGAINST = {
    "process_start": "start to ready, caches empty, s",
    "second_process_start": "the next start, s",
    "first_over_tenth": "first request over the tenth",
    "first_token_1": "first token, 1 request, ms",
    "first_token_8": "first token of the last of 8 together, ms",
    "step_1": "a step of 1 request, ms",
    "step_8": "a step of 8, ms",
    "step_32": "a step of 32, ms",
    "burst": "64 requests of 32 tokens, s",
    "clients_1": "requests/s of 1 client",
    "clients_8": "requests/s of 8 clients",
    "clients_32": "requests/s of 32 clients",
    "clients_64": "requests/s of 64 clients",
    "longest_gap": "longest gap between two tokens, 16 admitted beside 8, ms",
    "memory": "memory in use, GB",
}
"""Phases of ``bench_against_vllm.py``, as rows"""


def against_rows(
    device: str, sides: Sequence[str], others: Callable[[str], Iterator[str]] = lambda _: iter(())
) -> Iterator[str]:
    """What each side needed, ours over vLLM's, and other cells of a phase."""
    plan = read(f"against_vllm_{device}")["plans"]["in-pass"]
    for phase, name in AGAINST.items():
        figures = [plan["sides"][side].get(phase) for side in sides]
        if figures[-1] is not None:
            ratio = against_ratio(plan["ratios"]["ours over vllm"], phase)
            yield cells(name, *map(against_cell, figures), ratio, *others(phase))


def two_pass(phase: str) -> Iterator[str]:
    """What a routed request needs in plan two-pass, and over a named one."""
    plan = read("against_vllm_gpu")["plans"]["two-pass"]
    yield against_cell(plan["sides"]["ours"].get(phase))
    yield against_ratio(plan["ratios"]["ours, routed over named"], phase)


def fp8_rows() -> Iterator[str]:
    """vLLM in bfloat16, ours in bfloat16 and FP8, and ours in FP8 over vLLM."""
    plans = read("against_vllm_gpu_fp8")["plans"]
    both, fp8 = plans["in-pass"]["sides"], plans["in-pass, fp8"]
    for phase, figure in fp8["sides"]["ours"].items():
        if phase in AGAINST and phase in both["vllm"]:
            row = [against_cell(f) for f in (both["vllm"][phase], both["ours"][phase], figure)]
            yield cells(AGAINST[phase], *row, against_ratio(fp8["ratios"]["ours over vllm"], phase))


def against_ratio(found: Mapping[str, float], phase: str) -> str:
    return f"{found[phase]:.2f}" if phase in found else "–"


def against_cell(figure: dict[str, Any] | None) -> str:
    """Routed if it was measured so, else named."""
    if figure is None:
        return "–"
    return milliseconds((figure.get("auto") or figure["named"])["value"])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} × {kind}" for kind, count in counts.items())


def _both(spread: dict[str, float]) -> str:
    return f"{spread['median']:.0f}, {spread['p99']:.0f}"


def server_vllm_claims() -> Iterator[str]:
    found = read("server_vllm")
    ours = found["pointsman"]
    theirs = max(found["vllm"].values(), key=lambda way: float(way["requests_per_second"]))
    yield claim(
        f"`vllm bench serve`, {found['requests']} pictures, {found['clients']} clients, adapters "
        "at random: requests a second, ours over vLLM's; first token in ms at p99",
        f"{ours['requests_per_second']} / {theirs['requests_per_second']} = "
        f"{found['requests_per_second_ratio']}; {ours['first_token_ms_p99']:.0f}, "
        f"{theirs['first_token_ms_p99']:.0f}",
        "bench_server_vllm",
        "server_vllm",
    )


def other_claims() -> Iterator[str]:
    extend = read("extend")
    before, appended = extend["before"], extend["10 samples"]["extend"]
    yield claim(
        "A fourth adapter from 10 samples: seconds; its top label right; points lost by the "
        "other three",
        f"{appended['seconds']:.1f} s; {percent(appended['new_accuracy'])}; "
        f"{100 * appended['old_accuracy_lost']:.1f}",
        "bench_extend",
        "extend",
    )
    yield claim(
        "· out-of-scope rejection before → after; AUROC before → after",
        f"{percent(before['rejected'])} → {percent(appended['out_of_scope_rejected'])}; "
        f"{before['auroc']:.3f} → {appended['out_of_scope_auroc']:.3f}",
        "bench_extend",
        "extend",
    )
    abstention = read("abstention")
    easy, sets = abstention["easy"].values(), abstention["label sets"].values()
    yield claim(
        "20 intents, made with 0 / 40 / 400 easy texts out of scope: 1,000 real ones rejected; "
        "abstained in scope",
        f"{' / '.join(percent(found['rejected_of_1000']) for found in easy)}; "
        f"{' / '.join(percent(found['abstained_in_scope']) for found in easy)}",
        "bench_abstention",
        "abstention",
    )
    yield claim(
        "Label sets from 20 / 60 / 500 validation samples, 90% promised: coverage of new samples",
        " / ".join(percent(found["coverage"]) for found in sets),
        "bench_abstention",
        "abstention",
    )
    text = read("text_router")
    yield claim(
        "Text router (MiniLM), one core, one text: half of the layers / all layers",
        " / ".join(
            f"{text[layer]['ms a text']['one by one']['median']:.1f} ms"
            for layer in ("layer 3 of 6", "layer 6 of 6")
        ),
        "bench_text_router",
        "text_router",
    )
    rows = read("clinc150")["rows"]
    yield claim(
        "CLINC150, 150 intents: accuracy; AUROC of Pointsman / semantic-router",
        " / ".join(percent(rows[name]["accuracy"]) for name in ("router", "semantic-router"))
        + "; "
        + " / ".join(f"{rows[name]['auroc']:.3f}" for name in ("router", "semantic-router")),
        "bench_clinc150",
        "clinc150",
    )
    variants = read("plan_quality")["variants"]
    yield claim(
        "Right answers of one adapter by its layers: all / upper 75% / upper 50% / activated",
        " / ".join(percent(variant["fresh"]["all"]["share"]) for variant in variants.values()),
        "bench_plan_quality",
        "plan_quality",
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
        "answered by |",
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
        r"Of the [\d.]+ ms of a request on a new screen, the tower takes [\d.]+%, the prefill "
        r"[\d.]+%, the decode steps [\d.]+%, tokens and patches [\d.]+%",
        f"Of the {parts['milliseconds of a request']:.0f} ms of a request on a new screen, the "
        f"tower takes {parts['vision tower']:.0%},\nthe prefill "
        f"{parts['prefill, routed within']:.0%}, the decode steps {parts['steps']:.0%}, tokens "
        f"and patches {parts['tokens and patches']:.1%}",
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
        r"the slowest row is [\d.]+ times",
        f"the slowest row is {adapters['slowest over 8 adapters, at a batch of 8']:.2f} times",
    )
    document.sentence(
        r"An adapter takes [\d.]+ MB; adding one to 1,000 takes [\d.]+ ms",
        f"An adapter takes {adapters['bytes of an adapter'] / 1e6:.2f} MB; adding one to 1,000 "
        f"takes {1000 * adapters['seconds to add an adapter']:.1f} ms",
    )
    text_router(document)
    plan_quality(document)
    clinc150(document)
    gpu(document)


def text_router(document: Document) -> None:
    result = read("text_router")
    rows = []
    for layer in ("layer 3 of 6", "layer 6 of 6"):
        found = result[layer]["ms a text"]
        alone = found["one by one"]
        rows.append(
            cells(
                layer,
                percent(result[layer]["accuracy of the top label"]),
                f"{alone['median']:.2f} / {alone['p95']:.2f}",
                f"{found['one by one over the stock way']:.2f}",
                f"{found['32 together']['median']:.2f}",
            )
        )
    document.table("the router reads |", rows)


def plan_quality(document: Document) -> None:
    variants = read("plan_quality")["variants"]
    for first, name in (
        ("all layers: `two-pass`", "all layers"),
        ("upper 75%: `in-pass`, k = 2 of 8", "upper 75%"),
        ("upper 50%: `in-pass`, k = 4 of 8", "upper 50%"),
        ("activated: `activated`", "activated"),
    ):
        found = variants[name]
        shares = []
        for screens in ("fresh", "real"):
            whole = found[screens]["all"]
            low, high = whole["interval"]
            shares.append(f"{percent(whole['share'])} ({low:.0%}–{high:.0%})")
        start = found["layers_from"]
        loss = f"{found['loss']['calendar']:.2f}"
        document.row(first, f"{start}–7", str(found["rank"]), loss, *shares)


def clinc150(document: Document) -> None:
    rows = read("clinc150")["rows"]
    for first, name in (
        ("`pointsman train`, in-scope texts only", "router"),
        ("`pointsman train`, with 100 + 100 out-of-scope texts", "router, outliers"),
        ("`pointsman train`, in scope only, last layer alone", "router, last layer"),
        ("scikit-learn logistic regression, last layer", "logistic regression, last layer"),
        (
            "scikit-learn logistic regression, the same three layers",
            "logistic regression, same layers",
        ),
        ("semantic-router, last layer", "semantic-router"),
    ):
        found = rows[name]
        document.row(
            first,
            percent(found["accuracy"]),
            f"{found['auroc']:.3f}",
            percent(found["recall"]),
            percent(found["kept"]),
        )


def gpu(document: Document) -> None:
    sections = {shape: read(f"engine_gpu_{shape}")["sections"] for shape in ("8B", "4B", "2B")}

    def engine_and_base(shape: str, key: str) -> tuple[float, float]:
        whole = sections[shape]
        return whole["in-pass"][key]["ms"], whole["base"][key]["ms"]

    def alternative(shape: str, way: str, key: str) -> str:
        found = sections[shape]["alternatives"].get(way)
        if found is None:
            return "–"
        return milliseconds(found["ttft"]["ms"] if key == "ttft" else found["step_ms"])

    for first, key, size in (
        ("first token, 1 request", "ttft", 1),
        ("first token, 8 requests", "ttft", 8),
        ("a step, 1 request", "step", 1),
        ("a step, 8 requests", "step", 8),
        ("a step, 32 requests", "step", 32),
    ):
        found = {shape: engine_and_base(shape, f"{key}_{size}") for shape in sections}
        floor = {
            shape: milliseconds(whole["floors"][f"ttft_{size}_ms" if key == "ttft" else "step_ms"])
            for shape, whole in sections.items()
        }
        # Two tables: 8B with the goals, then 4B and 2B side by side.
        known = alternative("8B", f"peft_known_{size}", key)
        routed, base = found["8B"]
        over = f" ({routed / base:.2f} × base)" if key == "ttft" else ""
        document.row(
            first,
            alternative("8B", f"original_{size}", key),
            known + (" (one adapter)" if size == 8 else ""),
            alternative("8B", f"peft_mixed_{size}", key),
            milliseconds(base),
            f"**{milliseconds(routed)}**{over}",
            floor["8B"],
        )
        figures = []
        for shape in ("4B", "2B"):
            routed, base = found[shape]
            over = f" ({routed / base:.2f} ×)" if key == "ttft" else ""
            figures.append([milliseconds(base), milliseconds(routed) + over, floor[shape]])
        peft = [alternative("2B", f"peft_{way}_{size}", key) for way in ("known", "mixed")]
        document.row(
            first,
            *figures[0],
            alternative("2B", f"original_{size}", key),
            "–" if peft == ["–", "–"] else " / ".join(peft),
            *figures[1],
            nth=1,
        )
    more = read("engine_gpu_8B_adapters")["sections"]["scale"]
    first_eight = sections["8B"]["in-pass"]
    for size in (8, 32):
        document.row(
            f"ms of a step, {size} requests",
            milliseconds(first_eight[f"step_{size}"]["ms"]),
            *(milliseconds(more[number][f"step_{size}_ms"]) for number in ("64", "256", "1000")),
        )


def grow(document: Document) -> None:
    result = read("extend")
    before, after = result["before"], result["10 samples"]["extend"]
    document.sentence(
        r"Before growing, [\d.]+% of the old top labels were right, [\d.]+% were routed right, and "
        r"[\d.]+% of the out-of-scope requests were rejected, at an AUROC of [\d.]+\d",
        f"Before growing, {percent(before['accuracy'])} of the old top labels were\nright, "
        f"{percent(before['routed_right'])} were routed right, and {percent(before['rejected'])} "
        f"of the out-of-scope requests were\nrejected, at an AUROC of {before['auroc']:.3f}",
    )
    document.sentence(
        r"out-of-scope rejection goes from [\d.]+% to [\d.]+% after growing from 10 samples",
        f"out-of-scope rejection goes\nfrom {percent(before['rejected'])} to "
        f"{percent(after['out_of_scope_rejected'])} after growing from 10 samples",
    )
    more = result["50 samples"]["extend"]
    document.sentence(
        r"routes [\d.]+% of their requests right after growing from 10 samples and [\d.]+% from 50",
        f"routes {percent(after['new_routed_right'])} of\ntheir requests right after growing from "
        f"10 samples and {percent(more['new_routed_right'])} from 50",
    )
    for nth, samples in enumerate(("10 samples", "50 samples")):
        for first, way in (
            ("`train --extend`", "extend"),
            (
                "`train --extend`, replay drawn from class means and covariance",
                "extend, replay from class statistics",
            ),
            ("head retrained on replay and new samples", "head trained anew"),
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


def original(document: Document) -> None:
    position, threads = read("position_zero"), read("threads")
    right = position["right"]
    document.sentence(
        r"\d+ of \d+ labels were right with this line, which is chance among three adapters, and "
        r"\d+ of \d+ with",
        f"{right['position 0, last layer']} of {position['samples']} labels were right with this "
        "line, which is chance among three adapters, and "
        f"{right['last real token']} of {position['samples']} with",
    )
    one, each = threads["engine"], threads["set_adapter_and_generate"]
    document.sentence(
        r"got \d+ of \d+ answers wrong, without an exception; with the engine, \d+ of \d+ differed",
        f"got {each['differ']} of {each['requests']} answers wrong, without an exception; with the "
        f"engine, {one['differ']} of {one['requests']} differed",
    )


def faq(document: Document) -> None:
    routed = read("engine")["routing"]["in-pass"]["routed over named"]
    document.sentence(
        r"takes [\d.]+\d times as long as one that names",
        f"takes {routed:.2f} times as long as one that names",
    )
    steps = read("adapters")[_STEPS]
    document.sentence(
        r"takes [\d.]+\d times as long as with 8 adapters",
        f"takes {steps['1000']['8'] / steps['8']['8']:.2f} times as long as with 8 adapters",
    )
    ours = read("against_vllm_gpu")["plans"]["in-pass"]["sides"]["ours"]
    first, second = (
        ours[name]["auto"]["value"] for name in ("process_start", "second_process_start")
    )
    document.sentence(
        r"it took [\d.]+ seconds after [\d.]+ for the first",
        f"it took {second:.0f} seconds after {first:.0f} for the first",
    )


def evaluation(document: Document) -> None:
    sentence = read("worth")["worth"]["sentence"]
    quoted = "\n".join(f"> {line}" for line in textwrap.wrap(sentence, _WIDTH - 2))
    document.sentence(r"> Routing (?:pays|does not pay): [^\n]*(?:\n> [^\n]*)*", quoted)


def concepts(document: Document) -> None:
    sealed = read("bundle_mutations")
    unsealed = sealed["adapters_without_seal"]
    document.sentence(
        r"[\d,]+ were refused, each with one line, and [\d,]+ were accepted and changed no answer",
        f"{sealed['refused']:,} were refused, each with one line, and "
        f"{sealed['accepted_and_changing_nothing']:,} were\naccepted and changed no answer",
    )
    document.sentence(
        r"Of [\d,]+ mutations of unsealed adapters, [\d,]+ changed an answer",
        f"Of {unsealed['mutations']:,} mutations of unsealed adapters,\n"
        f"{unsealed['accepted_and_changing_an_answer']:,} changed an answer",
    )


PARTS = {
    README: readme,
    CARD: card,
    BENCHMARKS: benchmarks,
    PERFORMANCE: performance,
    GROW: grow,
    ORIGINAL: original,
    FAQ: faq,
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
