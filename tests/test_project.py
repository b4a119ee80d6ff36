from dataclasses import replace
from pathlib import Path

import pytest

from pointsman import project as module
from pointsman.errors import ConfigError, LabelError
from pointsman.project import Project, adapter_labels, faults, load_project

FULL = """
base = "Qwen/Qwen3-VL-8B-Instruct"
revision = "abc"
max_pixels = 100000
router = "out/router"
fallback = "calendar"
[adapters]
provider-select = "someone/provider-select"
calendar = "./calendar"
claim-window = "/checkpoints/claim-window"
"""


def project(folder: Path, text: str) -> Path:
    path = folder / "pointsman.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_is_read_and_the_order_kept(tmp_path: Path) -> None:
    assert load_project(project(tmp_path, FULL)) == Project(
        base="Qwen/Qwen3-VL-8B-Instruct",
        adapters={
            "provider-select": "someone/provider-select",
            "calendar": str(tmp_path / "calendar"),
            "claim-window": "/checkpoints/claim-window",
        },
        router=str(tmp_path / "out" / "router"),
        revision="abc",
        max_pixels=100000,
        fallback="calendar",
    )
    assert load_project(tmp_path / "pointsman.toml").labels.names == (
        "provider-select",
        "calendar",
        "claim-window",
    )


def test_only_base_and_adapters_are_needed(tmp_path: Path) -> None:
    found = load_project(project(tmp_path, 'base = "a/b"\n[adapters]\nx = "c/d"\n'))
    assert found == Project("a/b", {"x": "c/d"})


@pytest.mark.parametrize(
    ("value", "there", "expected"),
    [
        ("base", True, "{folder}/base"),
        ("org/base", True, "{folder}/org/base"),
        ("org/base", False, "org/base"),
        ("base", False, "base"),
        ("./base", False, "{folder}/base"),
        ("../base", False, "{folder}/../base"),
        ("deep/er/base", False, "{folder}/deep/er/base"),
        ("/some/where", False, "/some/where"),
        ("~/base", False, "{home}/base"),
    ],
)
def test_paths_are_relative_to_the_file_and_hub_ids_left_alone(
    value: str,
    there: bool,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if there:
        (tmp_path / value).mkdir(parents=True)
    text = f'base = "{value}"\nrouter = "~/router"\n[adapters]\nx = "{value}"\n'
    found = load_project(project(tmp_path, text))
    assert found.base == expected.format(folder=tmp_path, home=tmp_path / "home")
    assert found.adapters == {"x": found.base}
    assert found.router == str(tmp_path / "home" / "router")


def test_a_missing_folder_beside_the_file_is_no_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project(tmp_path, 'base = "org/base"\n[adapters]\nx = "./adapters/x"\n')
    found = load_project(Path("pointsman.toml"))
    assert found.base == "org/base"
    assert found.adapters == {"x": "./adapters/x"}  # "adapters/x" would be asked of the Hub


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert load_project(project(tmp_path, "\ufeff" + FULL)).revision == "abc"


ADAPTERS = '[adapters]\nx = "c/d"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = ", r"not TOML \(Invalid value \(at "),
        ('base = "a"\nbase = "b"\n' + ADAPTERS, r"not TOML \(Cannot overwrite a value"),
        ('base = "a"\n[adapters]\nx = "c"\nx = "d"\n', r"not TOML \(Cannot overwrite a value"),
        ('bsae = "a/b"\n' + ADAPTERS, r"unknown key 'bsae'; known are base, revision, max_pixels"),
        (ADAPTERS, 'needs base = "a Hub id or folder"'),
        ('base = ""\n' + ADAPTERS, "needs base = "),
        ("base = 3\n" + ADAPTERS, "base is 3; give a string"),
        ('base = "a"\nrouter = ["r"]\n' + ADAPTERS, r"router is \['r'\]; give a string"),
        ('base = "a"\nrevision = 1.5\n' + ADAPTERS, "revision is 1.5; give a string"),
        ('base = "a"\nmax_pixels = 0\n' + ADAPTERS, "max_pixels is 0; give a whole number"),
        ('base = "a"\nmax_pixels = true\n' + ADAPTERS, "max_pixels is True; give a whole"),
        ('base = "a"\nmax_pixels = "9"\n' + ADAPTERS, "max_pixels is '9'; give a whole"),
        ('base = "a"\n', r"needs \[adapters\] with lines of the form"),
        ('base = "a"\nadapters = ["x"]\n', r"needs \[adapters\] with lines of the form"),
        ('base = "a"\n[adapters]\nx = 1\n', r"needs \[adapters\] with lines of the form"),
        ('base = "a"\n[adapters.x]\npath = "p"\n', r"needs \[adapters\] with lines of the form"),
        ('base = "~nobody-there/a"\n' + ADAPTERS, "no such user, so no such home"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = project(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        load_project(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith((f"{path}: ", "~nobody-there/a: "))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"\[adapters\]: a label map needs at least one"),
        ('"a.b" = "p"', r"\[adapters\]: adapter name 'a\.b' is not legal"),
        ('base = "p"', r"\[adapters\]: adapter name 'base' is reserved"),
        ('x = "p"\nX = "q"', r"\[adapters\]: adapter names 'x' and 'X' are the same name"),
    ],
)
def test_names_that_cannot_be_are_refused_naming_the_file(
    table: str, message: str, tmp_path: Path
) -> None:
    path = project(tmp_path, f'base = "a"\n[adapters]\n{table}\n')
    with pytest.raises(LabelError, match=f"^{path}: {message}"):
        load_project(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such project file"):
        load_project(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_project(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_project(tmp_path / "binary.toml")


def test_adapter_labels_are_the_order_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {"provider-select": 0, "calendar": 1, "claim-window": 2}
    path = project(tmp_path, FULL)
    assert list(adapter_labels(path).items()) == list(expected.items())
    monkeypatch.chdir(tmp_path)
    assert list(module.ADAPTER_LABELS.items()) == list(expected.items())
    assert list(expected) == module.STANDARD_ADAPTER_ORDER
    with pytest.raises(AttributeError, match="has no attribute 'NOTHING'"):
        _ = module.NOTHING


def test_labels_are_made_once(tmp_path: Path) -> None:
    found = load_project(project(tmp_path, FULL))
    assert found.labels is found.labels
    renamed = replace(found, adapters={"one": "a"}, fallback="base")
    assert renamed.labels.names == ("one",)


@pytest.mark.parametrize(("key", "meant"), [("bsae", "base"), ("adapter", "adapters")])
def test_an_unknown_key_has_a_suggestion(key: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"unknown key '{key}'.*; did you mean '{meant}'"):
        load_project(project(tmp_path, f'{key} = "a/b"\n{FULL}'))
    with pytest.raises(ConfigError, match=r"hysteresis, route_text, server, adapters$"):
        load_project(project(tmp_path, f'zzzz = "a/b"\n{FULL}'))


def test_all_faults_of_a_table() -> None:
    table = {"bsae": "x", "max_pixels": 0, "hysteresis": True, "adapters": {"a": "b", "c": 3}}
    found = [str(fault) for fault in faults(table, Path("p.toml"))]
    assert [message.partition("; ")[0] for message in found] == [
        "p.toml: unknown key 'bsae'",
        "p.toml: max_pixels is 0",
        "p.toml: hysteresis is True",
        'p.toml: needs base = "a Hub id or folder"',
        'p.toml: needs [adapters] with lines of the form name = "path"',
    ]
    assert found[-1].endswith("; c is 3")


def test_a_fallback_that_is_not_known(tmp_path: Path) -> None:
    text = FULL.replace('fallback = "calendar"', 'fallback = "nobody"')
    message = "fallback is 'nobody'; give base, error, provider-select, calendar or claim-window"
    with pytest.raises(ConfigError, match=message):
        load_project(project(tmp_path, text))
    with pytest.raises(ConfigError, match="fallback 'nobody' is not known"):
        Project("a", {"x": "y"}, fallback="nobody")
