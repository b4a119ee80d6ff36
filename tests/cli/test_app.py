import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pointsman
from pointsman.adapters.files import CONFIG, NOTE, WEIGHTS
from pointsman.routing.seal import router_digest
from support.commands import Result, refused, run, succeeds
from support.tiny import ADAPTERS, make_adapter, make_brief

POINTSMAN = Path(sys.executable).with_name("pointsman")


@pytest.fixture(scope="session")
def folder(
    tiny_base_folder: Path,
    tiny_adapters: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The working folder of the whole flow, with its project file."""
    folder = tmp_path_factory.mktemp("flow")
    lines = [f'base = "{tiny_base_folder}"', 'router = "router"', "[adapters]"]
    lines += [f'{name} = "{path}"' for name, path in tiny_adapters.items()]
    (folder / "pointsman.toml").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def flow(folder: Path, tiny_sources: dict[str, list[str]]) -> dict[str, Any]:
    """The JSON of every stage of the pipeline, each run once."""
    config = ("--config", folder / "pointsman.toml")
    sources = [f"--source={name}={tiny_sources[name][0]}" for name in ADAPTERS]
    made: dict[str, Any] = {}

    def stage(name: str, *arguments: object) -> None:
        result = succeeds(*arguments, "--json")
        assert result.err == ""
        made[name] = json.loads(result.out)

    nowhere = folder / "nowhere.jsonl"
    turns = [[{"from": "human", "value": f"What is the weather {n}?"}] for n in range(12)]
    nowhere.write_text("\n".join(json.dumps({"conversations": turn}) for turn in turns))
    data, features, router = folder / "data", folder / "features", folder / "router"
    shares = ("--val=0.25", "--test=0.25", f"--out-of-scope={nowhere}")
    stage("generate", "data", "generate", *sources, "--out", data, *config, *shares)
    stage("check", "data", "check", data)
    stage("preprocess", "preprocess", data, "--out", features, *config, "--layers", "3,1")
    stage("train", "train", features, "--out", router, "--adapter-names", ",".join(ADAPTERS))
    stage("inspect", "inspect", router)
    stage("evaluate", "evaluate", "--data", data, *config, "--by", "stratum", "--by", "adapter")
    return made


def test_generate_shows_the_dataset(flow: dict[str, Any], folder: Path) -> None:
    assert flow["generate"] == json.loads((folder / "data" / "dataset.json").read_text())
    assert flow["generate"]["adapters"] == list(ADAPTERS)
    assert flow["generate"]["splits"]["train"]["n"] == 24


def test_check_finds_no_error(flow: dict[str, Any], folder: Path) -> None:
    assert flow["check"]["errors"] == 0
    assert flow["check"]["path"] == str(folder / "data")
    assert flow["check"]["counts"]["samples"] == 48
    assert {"warnings", "findings"} <= set(flow["check"])


def test_preprocess_shows_what_it_made(flow: dict[str, Any], folder: Path) -> None:
    assert flow["preprocess"] == {
        "features": str(folder / "features"),
        "labels": list(ADAPTERS),
        "layers": [1, 3],
        "poolings": ["last"],
        "history": "conversation",
        "samples": {"train": 24, "val": 12, "test": 12},
    }


def test_train_shows_its_candidates(flow: dict[str, Any], folder: Path) -> None:
    result = flow["train"]
    router = {"router", "labels", "layer", "reads", "best_loss", "best_acc"}
    abstains = {"score", "threshold"}
    assert set(result) == router | abstains | {"candidates", "chosen", "why", "validated"}
    assert result["labels"] == list(ADAPTERS)
    assert result["layer"] in (1, 3)
    both = ["layer 1 (last)", "layer 3 (last)"]
    reads = [both[:1], both[1:], both]
    assert [(c["reads"], c["mlp_size"]) for c in result["candidates"]] == [
        (places, size) for places in reads for size in (0, 256)
    ]
    chosen = result["candidates"][result["chosen"]]
    assert chosen["reads"] == result["reads"]
    assert {"val_loss", "val_acc", "auroc_left_out", "mlp_size"} < set(chosen)
    assert [c["cost"] for c in result["candidates"]] == [0.25] * 2 + [0.75] * 4
    assert (folder / "router" / "depths.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("flow")
def test_train_says_why(folder: Path, tmp_path: Path) -> None:
    options = ("--layers", 1, "--conformal", 0.9, "--prior", "calendar=0.5")
    out = succeeds("train", folder / "features", "--out", tmp_path / "router", *options).out
    assert "within one standard error" in out
    assert "<-" in out
    assert "abstains below" in out
    assert (
        "label set: "
        in succeeds(
            "route",
            next((folder / "data" / "images").iterdir()),
            "Pick day 3",
            "--config",
            with_router(folder, tmp_path),
        ).out
    )


@pytest.mark.usefixtures("flow")
def test_depths_cost_what_the_projects_adapters_make_them_cost(
    folder: Path, tmp_path: Path
) -> None:
    """The flow's adapters change all layers."""
    command = ("train", folder / "features", "--out", tmp_path / "router", "--layers", 1)
    found = json.loads(succeeds(*command, "--config", folder / "pointsman.toml", "--json").out)
    assert {c["cost"] for c in found["candidates"]} == {0.25}
    lines = (folder / "pointsman.toml").read_text().splitlines(keepends=True)
    config = folder / "fewer.toml"
    config.write_text("".join(line for line in lines if not line.startswith("claim-window")))
    assert "'claim-window' of the features' label map" in refused(*command, "--config", config)


def with_router(folder: Path, tmp_path: Path) -> Path:
    """The flow's project file with another router."""
    text = (folder / "pointsman.toml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("router"))
    config = folder / "other.toml"
    config.write_text(text.replace(line, f'router = "{tmp_path / "router"}"'))
    return config


def test_inspect_shows_what_is_sealed(flow: dict[str, Any], folder: Path) -> None:
    assert flow["inspect"] == json.loads((folder / "router" / "config.json").read_text())
    assert flow["inspect"]["adapters"] == list(ADAPTERS)


def test_evaluate_has_the_documented_keys(flow: dict[str, Any]) -> None:
    result = flow["evaluate"]
    assert set(result) == {
        "labels",
        "in_scope",
        "by",
        "out_of_scope",
        "task",
        "worth",
        "confusion",
        "seconds",
    }
    assert result["labels"] == list(ADAPTERS)
    assert set(result["in_scope"]) == {"n", "accuracy", "macro_f1", "ece", "aurc", "abstained"}
    assert set(result["out_of_scope"]) == {"n", "auroc", "rejected"}
    assert set(result["task"]) == {"n", "routed", "oracle", "base", "wrong"}
    assert (result["in_scope"]["n"], result["out_of_scope"]["n"], result["task"]["n"]) == (9, 3, 9)
    assert list(result["by"]) == ["stratum", "adapter"]
    assert set(result["by"]["stratum"]) == {"even", "odd", "(none)"}
    assert list(result["by"]["adapter"]) == [*ADAPTERS, "(out of scope)"]
    assert all(
        set(group) == {"n", "accuracy", "task"} for group in result["by"]["adapter"].values()
    )
    assert sum(map(sum, result["confusion"])) == 12


ROUTE = {
    "label",
    "adapter",
    "probabilities",
    "abstained",
    "score",
    "candidates",
    "refused",
    "held",
    "router_digest",
}


def request(folder: Path, command: str, *more: object) -> Result:
    """Asks about one of the flow's pictures."""
    line = (folder / "data" / "train.jsonl").read_text().splitlines()
    picture = next(json.loads(text)["image"] for text in line if '"image"' in text)
    config = folder / "pointsman.toml"
    return succeeds(command, folder / "data" / picture, "Pick day 3", "--config", config, *more)


@pytest.mark.usefixtures("flow")
def test_route(folder: Path) -> None:
    result = request(folder, "route", "--json")
    decision = json.loads(result.out)
    assert set(decision) == ROUTE
    assert decision["router_digest"] == router_digest(folder / "router")
    assert list(decision["probabilities"]) == list(ADAPTERS)
    assert sum(decision["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert result.err == ""
    assert "calendar" in request(folder, "route").out


@pytest.mark.usefixtures("flow")
def test_generate(folder: Path) -> None:
    short = ("--max-new-tokens", 2)
    answer = json.loads(request(folder, "generate", "--json", *short).out)
    fields = {"text", "adapter", "actions", "point", "typed", "route"}
    counts = {"finish_reason", "prompt_tokens", "completion_tokens", "stop", "logprobs"}
    assert set(answer) == fields | counts
    assert (answer["finish_reason"], answer["completion_tokens"]) == ("length", 2)
    assert set(answer["route"]) == ROUTE
    named = json.loads(request(folder, "generate", "--json", "--adapter=calendar", *short).out)
    assert (named["adapter"], named["route"]) == ("calendar", None)
    base = json.loads(request(folder, "generate", "--json", "--adapter=base", *short).out)
    assert (base["adapter"], base["route"]) == (None, None)
    assert base["text"] != named["text"]
    assert request(folder, "generate", "--adapter=base", *short).out.startswith("base: ")


@pytest.mark.usefixtures("flow")
def test_export_and_adopt(folder: Path) -> None:
    head = folder / "head.pt"
    succeeds("export", folder / "router", "--out", head)
    content = json.loads(succeeds("inspect", head, "--json").out)
    assert content["adapters"] == list(ADAPTERS)
    assert set(content) >= {"state_dict", "base_model_id", "best_loss", "best_acc"}
    import torch

    checkpoint = torch.load(head, weights_only=True)
    del checkpoint["adapters"]
    torch.save(checkpoint, folder / "nameless.pt")
    refusal = run("inspect", folder / "nameless.pt")
    assert refusal.code == 1
    assert "pointsman adopt" in refusal.err
    names = ",".join(ADAPTERS)
    out = ("--out", folder / "named.pt")
    succeeds("adopt", folder / "nameless.pt", "--adapter-names", names, *out)
    assert json.loads(succeeds("inspect", folder / "named.pt", "--json").out) == content


@pytest.mark.usefixtures("flow")
def test_adapters_train(folder: Path) -> None:
    out = folder / "trained"
    options = ("--rank=2", "--layers-from=2", "--activated", "--batch-size=4", "--json")
    config = ("--config", folder / "pointsman.toml")
    result = succeeds(
        "adapters", "train", "calendar", folder / "data", "--out", out, *config, *options
    )
    settings = json.loads(result.out)["settings"]
    assert (settings["layers_from"], settings["activated"]) == (2, True)
    assert {file.name for file in out.iterdir()} == {CONFIG, WEIGHTS, NOTE}


@pytest.mark.usefixtures("flow")
def test_people_get_tables(folder: Path) -> None:
    config = ("--config", folder / "pointsman.toml")
    shown = succeeds("inspect", folder / "router")
    assert "claim-window" in shown.out
    assert "digests.fields.adapters" in shown.out
    out = folder / "evaluation"
    ask = ("evaluate", "--data", folder / "data", *config, "--no-task", "--by", "label")
    shown = succeeds(*ask, "--out", out)
    for title in ("in scope", "out of scope", "by label"):
        assert title in shown.out
    written = json.loads((out / "evaluation.json").read_text("utf-8"))
    printed = json.loads(succeeds(*ask, "--json").out)
    assert printed.pop("seconds").keys() == written.pop("seconds").keys()
    assert printed == written
    assert {file.name for file in out.iterdir()} == {
        "predictions.jsonl",
        "confusion.png",
        "evaluation.json",
        "report.html",
    }
    assert f"report: {out / 'report.html'}" in shown.out
    assert "0 errors" in succeeds("data", "check", folder / "data").out


@pytest.mark.usefixtures("flow")
def test_worth_with_a_multitask_adapter_of_higher_rank(
    folder: Path, tiny_base_folder: Path
) -> None:
    brief = make_brief(tiny_base_folder, folder / "brief")
    text = (folder / "pointsman.toml").read_text().replace(str(tiny_base_folder), str(brief))
    text = text.replace('router = "router"', 'router = "brief-router"')
    (folder / "brief.toml").write_text(text)
    features, router = folder / "brief-features", folder / "brief-router"
    base = ("--base", brief, "--layers", "2")
    succeeds("preprocess", folder / "data", *base, "--out", features)
    succeeds("train", features, "--out", router)
    config = ("--config", folder / "brief.toml")
    whole = make_adapter(tiny_base_folder, folder / "whole", 9, r=8)
    out = folder / "with-multitask"
    shown = succeeds(
        "evaluate", "--data", folder / "data", *config, "--multitask", whole, "--out", out
    )
    assert "worth on 9 requests" in shown.out
    assert "Not shown that routing pays: " in " ".join(shown.out.split())
    result = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert list(result["worth"]["ways"]) == ["routed", "oracle", "frequent", "multitask", "base"]
    assert result["worth"]["timed"] == 9


@pytest.mark.usefixtures("flow")
def test_worth_that_cannot_be_found_is_refused(folder: Path) -> None:
    ask = ("evaluate", "--data", folder / "data", "--config", folder / "pointsman.toml")
    assert "shows in answers" in refused(*ask, "--worth", "--no-task")
    assert "gone: no such folder" in refused(*ask, "--multitask", folder / "gone")


def python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_help_and_version_load_no_model_library() -> None:
    code = """
import sys
sys.argv = ["pointsman", {!r}]
from pointsman.cli.app import main
try:
    main()
finally:
    heavy = {{"torch", "transformers", "peft", "numpy", "PIL", "sklearn", "matplotlib"}}
    print("heavy:", sorted(heavy & set(sys.modules)))
"""
    shown = python(code.format("--help"))
    assert shown.endswith("heavy: []\n")
    for command in ("route", "generate", "preprocess", "train", "evaluate", "inspect", "data"):
        assert f"  {command} " in shown
    version = python(code.format("--version"))
    assert version == f"pointsman {pointsman.__version__}\nheavy: []\n"


def test_every_command_has_help() -> None:
    commands = ["demo", "route", "generate", "preprocess", "train", "evaluate", "inspect"]
    commands += ["export", "adopt", "data generate", "data check", "adapters train", "vllm serve"]
    for command in commands:
        assert f"Usage: pointsman {command} [OPTIONS]" in succeeds(*command.split(), "--help").out


@pytest.mark.parametrize("arguments", [(), ("data",), ("adapters",), ("vllm",)])
def test_no_arguments_print_help(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert "Commands:" in result.out + result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "nonsense"),
        (("train",), "Missing argument"),
        (("train", "features"), "--out"),
        (("train", "features", "--out", "o", "--wrong"), "--wrong"),
        (("train", "features", "--out", "o", "--seed", "x"), "--seed"),
        (("generate", "i.png", "text", "--max-new-tokens", "0"), "--max-new-tokens"),
        (("evaluate", "--data", "d", "--batch-size", "0"), "--batch-size"),
        (("data", "generate", "--out", "o"), "--source"),
    ],
)
def test_usage_errors_exit_with_2(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err
    assert message in result.err


def test_the_installed_command_is_the_same() -> None:
    result = subprocess.run([POINTSMAN, "--version"], check=True, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == (f"pointsman {pointsman.__version__}\n", "")


def test_importing_has_no_side_effects(tmp_path: Path) -> None:
    code = """
import sys, os, signal, logging, warnings
before = (list(warnings.filters), logging.root.level, dict(os.environ), signal.getsignal(2))
import pointsman
after = (list(warnings.filters), logging.root.level, dict(os.environ), signal.getsignal(2))
print(before == after, sorted(m for m in sys.modules if m.startswith("pointsman")))
"""
    assert python(code) == "True ['pointsman']\n"


def test_every_public_name_resolves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in pointsman.__all__:
        assert getattr(pointsman, name) is not None
    assert dict(enumerate(ADAPTERS)) == {v: k for k, v in pointsman.ADAPTER_LABELS.items()}
    assert pointsman.train_router is import_module("pointsman.routing.train").train_router
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pointsman.nonsense


def test_adapter_labels_need_a_project_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pointsman.PointsmanError, match=r"pointsman\.toml: no such project file"):
        _ = pointsman.ADAPTER_LABELS
