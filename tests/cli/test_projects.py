"""``init`` and ``check``, and the project file of the current folder."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from pointsman.cli import projects
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.server.options import ServerOptions
from support.commands import refused, run, succeeds
from support.inputs import write_config
from support.tiny import ADAPTERS, make_base


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_init_writes_a_file_to_fill_in(here: Path) -> None:
    shown = succeeds("init").out
    assert shown.startswith("pointsman.toml: written; fill in base and [adapters]")
    assert projects.FILE_NAME == FILE_NAME
    text = (here / FILE_NAME).read_text()
    # Every key is there, with a comment before it; all of them filled in make a project.
    keys = {field.name for field in fields(Project)} - {"labels", "adapters"}
    for key in keys - {"server"}:
        assert re.search(rf"^# .+\n(# )?{key} = ", text, re.MULTILINE), key
    (here / FILE_NAME).write_text(re.sub(r"^# (\[server\]|[\w-]+ = )", r"\1", text, flags=re.M))
    project = load_project(here / FILE_NAME)
    assert tuple(project.adapters) == ADAPTERS
    assert all(getattr(project, key) is not None for key in keys)
    (here / "adapters").mkdir()
    assert ServerOptions.from_table(project.server, here).port == 8000


def test_init_overwrites_nothing_unless_forced(here: Path) -> None:
    (here / FILE_NAME).write_text("mine")
    line = refused("init")
    assert line == "pointsman.toml: already exists; edit it, or overwrite it with --force"
    assert (here / FILE_NAME).read_text() == "mine"
    succeeds("init", "--force")
    assert (here / FILE_NAME).read_text() == projects.TEMPLATE


def test_a_whole_project_passes(config: Path) -> None:
    result = succeeds("check", config)
    assert result.err == ""
    assert result.out.endswith(f"{config}: 0 errors, 1 warnings\n")
    assert "the router does not seal the files of calendar" in result.out
    report = json.loads(succeeds("check", config, "--json").out)
    assert report["counts"] == {"adapters": 3, "labels": 3}
    assert [finding["kind"] for finding in report["findings"]] == ["seal"]


def test_a_sealed_adapter_that_changed(
    config: Path, router: Path, tiny_project: Project, tmp_path: Path
) -> None:
    copies = {
        name: shutil.copytree(p, tmp_path / name) for name, p in tiny_project.adapters.items()
    }
    project = {"router": str(router), "adapters": copies}
    write_config(config, tiny_project, **project)
    succeeds("seal", router, "--config", config)
    assert succeeds("check", config).out == f"{config}: 0 errors, 0 warnings\n"
    shutil.copy(copies["claim-window"] / "adapter_model.safetensors", copies["calendar"])
    result = run("check", config)
    assert result.code == 1
    assert "adapter calendar: " in result.out
    assert "is not the file that the router sealed" in result.out
    assert result.out.endswith(f"{config}: 1 errors, 0 warnings\n")


def test_all_faults_are_found_at_once(config: Path, tiny_project: Project, tmp_path: Path) -> None:
    adapters = dict(reversed(tiny_project.adapters.items()))
    adapters["calendar"] = str(tmp_path / "gone")
    adapters["claim-window"] = str(tiny_project.router)
    write_config(config, tiny_project, adapters=adapters, base=str(tmp_path / "nowhere"))
    result = run("check", config, "--json")
    assert result.code == 1
    found = json.loads(result.out)["findings"]
    assert {finding["level"] for finding in found} == {"error"}
    shown = "\n".join(f"{finding['where']}: {finding['message']}" for finding in found)
    for message in (
        "nowhere: no such folder",
        "gone: no such folder",
        "no adapter_config.json in it",
        "list [adapters] in the router's order, or train a router on this order",
    ):
        assert message in shown


def test_all_faults_of_the_server(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POINTSMAN_API_KEY", raising=False)
    lines = [
        "[server]",
        'host = "0.0.0.0"',
        "prot = 8000",
        "slots = 0",
        "log_pictures = 1",
        'image_hosts = "example.org"',
        'adapter_root = "gone"',
        'api_key = "secret"',
    ]
    config.write_text("\n".join([config.read_text(), *lines]))
    found = json.loads(run("check", config, "--json").out)["findings"]
    errors = [finding["message"] for finding in found if finding["level"] == "error"]
    assert {finding["kind"] for finding in found} == {"server", "seal"}  # the rest is checked too
    for message in (
        "host 0.0.0.0 is open to other machines",
        "unknown key 'prot'; known are host, port",
        "slots is 0; give a whole number from 1 to 1024",
        "log_pictures is 1; give true or false",
        "image_hosts is 'example.org'; give a list of host names",
        f"adapter_root: {config.parent / 'gone'} is no folder",
        "unknown key 'api_key'; set POINTSMAN_API_KEY",
    ):
        assert [message in error for error in errors].count(True) == 1, message
    assert len(errors) == 7
    monkeypatch.setenv("POINTSMAN_API_KEY", "a key")
    again = json.loads(run("check", config, "--json").out)["findings"]
    assert [f["kind"] for f in again].count("server") == 6
    config.write_text(config.read_text().replace('"gone"', '"~nobody-here/x"'))
    assert "no such user" in run("check", config).out


def test_all_faults_of_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "pointsman.toml"
    lines = [
        'bsae = "x"',
        'base = "y"',
        "hysteresis = 2",
        'fallback = "z"',
        "[adapters]",
        'a = "b"',
    ]
    path.write_text("\n".join(lines))
    result = run("check", path)
    assert result.code == 1
    for message in (
        "did you mean 'base'?",
        "hysteresis is 2; give a number from 0 to 1",
        "fallback is 'z'; give base, error or a",
    ):
        assert f"error: {path}: " in result.out
        assert message in result.out
    assert result.out.endswith(f"{path}: 3 errors, 0 warnings\n")
    assert "no such project file" in run("check", tmp_path / "none.toml").out


def test_readers_that_disagree(
    config: Path, tiny_project: Project, tiny_text_router: Path, tmp_path: Path
) -> None:
    other = make_base(tmp_path / "other", seed=9, layers=5)
    write_config(config, tiny_project, base=str(other))
    result = run("check", config)
    assert result.code == 1
    assert f"the router's base ({tiny_project.base})" in result.out
    config.write_text(f'encoder = "x/y"\n{config.read_text()}')
    assert "the router reads with its base" in run("check", config).out
    text = config.read_text().replace(f'base = "{other}"', "")
    config.write_text(text)
    assert (
        f'the router reads with a base; add base = "{tiny_project.base}"'
        in run("check", config).out
    )
    encoder = tiny_text_router.parent / "encoder"
    write_config(config, tiny_project, router=str(tiny_text_router))
    text = config.read_text().replace(f'base = "{tiny_project.base}"', f'encoder = "{encoder}"')
    config.write_text(text)
    assert run("check", config).code == 0


def test_a_project_without_a_router_has_a_warning(config: Path, tiny_project: Project) -> None:
    write_config(config, tiny_project, router=None)
    assert "warning: " in succeeds("check", config).out


def test_the_current_folders_project_is_used(
    here: Path, tiny_project: Project, tiny_dataset: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "elsewhere.toml", tiny_project)
    expected = succeeds("route", "Pick day 3", "--config", config, "--json")
    assert expected.err == ""
    shutil.copy(config, here / FILE_NAME)
    found = succeeds("route", "Pick day 3", "--json")
    assert found.err == "no --config: using pointsman.toml in the current folder\n"
    assert found.out == expected.out
    assert succeeds("route", "Pick day 3", "--json", "--quiet").err == ""
    swapped = dict(reversed(tiny_project.adapters.items()))
    write_config(here / FILE_NAME, tiny_project, adapters=swapped)
    result = run("preprocess", tiny_dataset, "--out", here / "out")
    assert result.code == 1
    assert "pointsman.toml has [0=provider-select" in result.err


def test_a_base_on_the_command_line_is_not_of_the_projects_revision(
    here: Path, tiny_project: Project, tiny_base_folder: Path
) -> None:
    config = write_config(here / FILE_NAME, tiny_project, base="org/base")
    config.write_text(f'revision = "abc"\n{config.read_text()}')
    adapter = tiny_project.adapters["calendar"]
    succeeds("adapters", "check", adapter, "--base", tiny_base_folder, "--no-probe")


def test_data_is_generated_in_the_order_of_a_project_without_a_base(
    here: Path, tiny_sources: dict[str, list[str]]
) -> None:
    lines = ['encoder = "some/encoder"', "[adapters]"]
    lines += [f'{name} = "served-as-{name}"' for name in reversed(ADAPTERS)]
    (here / FILE_NAME).write_text("\n".join(lines))
    sources = [f"--source={name}={paths[0]}" for name, paths in tiny_sources.items()]
    result = succeeds("data", "generate", *sources, "--out", "data", "--val=0.25", "--test=0.25")
    assert "labels [0=provider-select, 1=claim-window, 2=calendar]" in result.out
    rows = [line.split() for line in result.out.splitlines()]
    assert ["label", "adapter", "train", "val", "test", "all"] in rows
    assert ["2", "calendar", "6", "3", "3", "12"] in rows
