"""What a router seals: its own fields and files, its adapters' files, and what the base makes."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pointsman.adapters.files import CONFIG, WEIGHTS
from pointsman.adapters.seal import seal_adapters
from pointsman.engine.engine import Engine
from pointsman.errors import ArtefactError, LabelError, MismatchError
from pointsman.models.base import Base, load_base
from pointsman.project import Project
from pointsman.routing.router import Router
from support.commands import refused, succeeds
from support.engines import make_engine
from support.tiny import ADAPTERS, TEMPLATE, make_adapter


@pytest.fixture
def project(tiny_project: Project, tmp_path: Path) -> Project:
    """A project of its own whose router seals its adapters."""
    adapters = {
        name: shutil.copytree(path, tmp_path / "adapters" / name)
        for name, path in tiny_project.adapters.items()
    }
    router = shutil.copytree(str(tiny_project.router), tmp_path / "router")
    made = Project(tiny_project.base, {n: str(p) for n, p in adapters.items()}, str(router))
    assert seal_adapters(router, made) == dict.fromkeys(ADAPTERS, "sealed")
    return made


def start(project: Project) -> None:
    Engine.from_project(project, "pointsman.toml").close()


def router_of(project: Project) -> Path:
    return Path(str(project.router))


# Its own fields


def test_every_field_is_named(tiny_router: Path, tmp_path: Path) -> None:
    router = Path(shutil.copytree(tiny_router, tmp_path / "router"))
    content = json.loads((router / "config.json").read_text())
    for field in set(content) - {"digests", "format_version", "adapters"}:
        (router / "config.json").write_text(json.dumps(content | {field: "other"}))
        with pytest.raises(MismatchError, match=f"'{field}' was changed after it was sealed"):
            Router.load(router)
        less = {key: value for key, value in content.items() if key != field}
        (router / "config.json").write_text(json.dumps(less))
        with pytest.raises(MismatchError, match=f"'{field}' was deleted after it was sealed"):
            Router.load(router)


def test_half_a_character_is_a_changed_field(tiny_router: Path, tmp_path: Path) -> None:
    router = Path(shutil.copytree(tiny_router, tmp_path / "router"))
    text = (router / "config.json").read_text()
    (router / "config.json").write_text(text.replace('"base_revision": null', r'"x": "\ud800"'))
    with pytest.raises(MismatchError, match="after it was sealed"):
        Router.load(router)


# Its adapters


def test_sealed_adapters_are_served(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    start(project)
    assert not caplog.records
    router = Router.load(router_of(project))
    assert router.unsealed == []
    assert {name: set(files) for name, files in router.adapter_digests.items()} == {
        name: {CONFIG, WEIGHTS} for name in ADAPTERS
    }


def test_a_router_without_them_says_so(
    tiny_project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        start(tiny_project)
    (record,) = caplog.records
    assert "does not seal the files of calendar, claim-window, provider-select" in record.message
    assert "does not seal" in succeeds("inspect", tiny_project.router).err


def other_weights(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values())).view(-1)[0] += 0.1
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def other_alpha(folder: Path) -> None:
    """Silent everywhere else: it loads, and answers otherwise."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"lora_alpha": 17}))


@pytest.mark.parametrize(("change", "file"), [(other_weights, WEIGHTS), (other_alpha, CONFIG)])
def test_a_changed_adapter_is_refused(
    project: Project, change: Callable[[Path], None], file: str
) -> None:
    folder = Path(project.adapters["claim-window"])
    change(folder)
    line = f"adapter claim-window: {folder / file} is not the file that the router sealed"
    with pytest.raises(MismatchError, match=line):
        start(project)
    with pytest.raises(MismatchError, match=line):  # loaded by hand
        make_engine(Path(project.base), project.adapters, router_of(project))


def test_adapters_under_each_others_names_are_refused(project: Project) -> None:
    paths = project.adapters
    swapped = paths | {"calendar": paths["claim-window"], "claim-window": paths["calendar"]}
    with pytest.raises(MismatchError, match=r"adapter calendar: .* is not the file"):
        start(replace(project, adapters=swapped))


def test_sealing_again_is_said_by_name(project: Project) -> None:
    router = router_of(project)
    other_weights(Path(project.adapters["calendar"]))
    with pytest.raises(MismatchError, match="--again calendar"):
        seal_adapters(router, project)
    with pytest.raises(MismatchError, match="--again calendar"):
        seal_adapters(router, project, again=["claim-window"])
    with pytest.raises(LabelError, match="unknown adapter 'calender'"):
        seal_adapters(router, project, again=["calender"])
    done = seal_adapters(router, project, again=["calendar", "claim-window"])
    assert done == {
        "calendar": "sealed again",
        "claim-window": "unchanged",
        "provider-select": "unchanged",
    }
    start(project)


def test_a_faulty_adapter_is_not_sealed(project: Project) -> None:
    folder = Path(project.adapters["calendar"])
    save_file(
        {key: tensor * float("nan") for key, tensor in load_file(folder / WEIGHTS).items()},
        folder / WEIGHTS,
    )
    before = (router_of(project) / "config.json").read_bytes()
    with pytest.raises(ArtefactError, match=r"adapter calendar: not sealed; error: .*\[nan\]"):
        seal_adapters(router_of(project), project, again=["calendar"])
    assert (router_of(project) / "config.json").read_bytes() == before


def test_the_command(project: Project, tmp_path: Path) -> None:
    config = tmp_path / "pointsman.toml"
    lines = [f'base = "{project.base}"', "[adapters]"]
    lines += [f'{name} = "{path}"' for name, path in project.adapters.items()]
    config.write_text("\n".join(lines))
    assert "unchanged" in succeeds("seal", project.router, "--config", config).out
    other_weights(Path(project.adapters["calendar"]))
    assert "--again calendar" in refused("seal", project.router, "--config", config)
    again = succeeds("seal", project.router, "--config", config, "--again", "calendar", "--json")
    assert json.loads(again.out)["adapters"]["calendar"] == "sealed again"


# The check of every adapter that an engine loads


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("lora_alpha", 0, r"adapter guest: .*\[alpha\] lora_alpha is 0: it has no effect"),
        ("peft_type", 7, r"adapter guest: .*\[config\] .*peft_type is 7"),
    ],
)
def test_added_adapters_are_checked(
    tiny_engine: Engine, tiny_base_folder: Path, tmp_path: Path, name: str, value: Any, line: str
) -> None:
    folder = make_adapter(tiny_base_folder, tmp_path / "guest", 8)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {name: value}))
    with pytest.raises(ArtefactError, match=line):
        tiny_engine.add_adapter("guest", str(folder))
    assert tiny_engine.adapters == ADAPTERS


def test_faults_that_load_silently_are_refused(
    tiny_base_folder: Path, tiny_adapters: dict[str, str], tiny_router: Path, tmp_path: Path
) -> None:
    folder = make_adapter(tiny_base_folder, tmp_path / "calendar", 8)
    torch.save({"visual.weight": torch.ones(3)}, folder / "non_lora_state_dict.bin")
    with pytest.raises(ArtefactError, match=r"\[outside-weights\] non_lora_state_dict.bin"):
        make_engine(tiny_base_folder, tiny_adapters | {"calendar": str(folder)}, tiny_router)


def test_what_is_odd_is_logged(
    tiny_base_folder: Path,
    tiny_adapters: dict[str, str],
    tiny_router: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = make_adapter(tiny_base_folder, tmp_path / "calendar", 8, lora_alpha=4000)
    make_engine(tiny_base_folder, tiny_adapters | {"calendar": str(folder)}, tiny_router).close()
    assert "[alpha] lora_alpha 4000 and r 4 scale it by" in caplog.records[0].message


# What the base makes of its files


def settings(**changed: Any) -> Callable[[Base], Base]:
    def change(base: Base) -> Base:
        for name, value in changed.items():
            setattr(base.image_processor, name, value)
        return base

    return change


def limits(**changed: int) -> Callable[[Base], Base]:
    def change(base: Base) -> Base:
        base.image_processor.size = dict(base.image_processor.size) | changed
        return base

    return change


def quantised(base: Base) -> Base:
    """As a loader does that keeps weights in 8 bits."""
    with torch.no_grad():
        for parameter in base.model.parameters():
            parameter.copy_(parameter.to(torch.float8_e4m3fn))
    return base


@pytest.mark.parametrize(
    "change",
    [
        quantised,
        settings(image_mean=[0.4] * 3),
        settings(image_std=[0.27, 0.26, 0.28]),
        settings(resample=0),
        settings(do_rescale=False),
        limits(longest_edge=200 * 200),
        limits(shortest_edge=160 * 160),
        lambda base: replace(
            base, prompts=replace(base.prompts, template=TEMPLATE.replace("assistant", "helper"))
        ),
        lambda base: replace(base, prompts=replace(base.prompts, template="Be brief." + TEMPLATE)),
    ],
    ids=["8 bits", "mean", "std", "resample", "rescale", "max", "min", "role", "system"],
)
def test_what_moves_features_is_refused(
    tiny_router: Path, tiny_base_folder: Path, change: Callable[[Base], Base]
) -> None:
    """The very same files, as the fingerprint has it, read by something that makes other inputs."""
    base = change(load_base(str(tiny_base_folder)))
    with pytest.raises(MismatchError, match="makes features that differ by"):
        Router.load(tiny_router).check_base(base)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_that_moves_them_little_is_let_through(
    tiny_router: Path, tiny_base_folder: Path, dtype: Any
) -> None:
    Router.load(tiny_router).check_base(load_base(str(tiny_base_folder), dtype=dtype))


@pytest.mark.parametrize(
    ("file", "old", "new", "part"),
    [
        ("preprocessor_config.json", '"resample": 3', '"resample": 2', "image processor"),
        ("preprocessor_config.json", "65536", "65537", "image processor"),
        ("chat_template.jinja", "assistant", "helper", "template"),
        ("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 2e-06', "config"),
    ],
)
def test_a_changed_file_of_the_base_is_named(
    tiny_router: Path,
    tiny_base_folder: Path,
    tmp_path: Path,
    file: str,
    old: str,
    new: str,
    part: str,
) -> None:
    folder = Path(shutil.copytree(tiny_base_folder, tmp_path / "base"))
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(MismatchError, match=f"differ in their {part}"):
        Router.load(tiny_router).check_base(load_base(str(folder)))
