"""Imports run one way, from the ground to the faces."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GROUND = ("errors", "results", "content", "access", "declaration", "arguments", "terminal", "findings")
FLOORS = [
    GROUND,
    ("knowledge",),
    ("anatomy",),
    ("formulas",),
    ("planning", "linting", "tracing", "gpus", "measuring", "personas"),
    ("tools",),
    ("catalogue",),
    (
        "serving",
        "server",
        "cli",
        "flags",
        "batch",
        "lint_command",
        "benchmark_command",
        "demo",
        "doctor",
        "connecting",
        "__main__",
    ),
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
LAZY = {
    ("__init__", "catalogue"),
    ("content", "tools"),
}  # the package's own `call`, and the path that tools are found on


def room_of(path: Path) -> str:
    if path.parent.name == "tools" and path.parent.parent == ROOT:
        return "tools"
    return path.relative_to(ROOT / "src" / "advisor_mcp").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("advisor_mcp"):
            inner = node.module.split(".")[1:]
            yield from inner[:1] or (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("advisor_mcp."))


def arrows() -> Iterator[tuple[str, str, str]]:
    for path in [*(ROOT / "src" / "advisor_mcp").rglob("*.py"), *(ROOT / "tools").glob("*.py")]:
        for target in imports(path):
            yield path.relative_to(ROOT).as_posix(), room_of(path), target


def test_every_room_has_a_floor() -> None:
    rooms = {room for _, room, _ in arrows()} - {"__init__"}
    assert rooms <= set(FLOOR)


def test_no_import_runs_back_towards_the_faces() -> None:
    back = [
        f"{path} imports {target}"
        for path, room, target in arrows()
        if target in FLOOR and room in FLOOR and (room, target) not in LAZY and room != target
        if FLOOR[target] > FLOOR[room] or (FLOOR[target] == FLOOR[room] and 3 < FLOOR[room] < 7)
    ]
    assert back == []


def test_tools_import_only_by_absolute_names() -> None:
    relative = [
        path.name
        for path in (ROOT / "tools").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
