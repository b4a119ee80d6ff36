"""A room imports only from rooms above it, inside a room only without cycles, and never lazily.

The rooms and their order are those of docs/architecture.md. Only ``cli`` imports when a command
runs, so that ``pointsman --help`` loads no model library.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pointsman

PACKAGE = Path(pointsman.__file__).parent
ROOMS = (
    ("errors",),
    (
        "files",
        "labels",
        "images",
        "progress",
        "findings",
        "conversation",
        "dialects",
        "sample",
        "project",
    ),
    ("models",),
    ("data",),
    ("routing",),
    ("adapters",),
    ("pocket",),
    ("engine",),
    ("vllm",),
    ("server",),
    ("evaluation",),
    ("cli", "__main__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
}


def imports(module: str) -> list[tuple[str, bool]]:
    """Modules of the package that a module imports, and whether it does so inside a function."""
    found = []
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pointsman."):
            home = str(node.module).removeprefix("pointsman.")
            for name in node.names:
                whole = f"{home}.{name.name}"
                found.append((whole if whole in MODULES else home, node.col_offset > 0))
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_has_a_room() -> None:
    assert {room(module) for module in MODULES} == set(FLOOR)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_to_rooms_above(module: str) -> None:
    for other, is_lazy in imports(module):
        assert FLOOR[room(other)] <= FLOOR[room(module)], f"{module} imports {other}"
        assert not is_lazy or room(module) == "cli", f"{module} imports {other} lazily"


def test_no_cycles() -> None:
    graph = {m: {other for other, lazy in imports(m) if not lazy} - {m} for m in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle
