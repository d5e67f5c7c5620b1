"""The house: imports point down, and each outside system is known to one module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tweetcrawler"

LAYERS = {
    0: {
        "__init__",
        "accounts",
        "budget",
        "forecast",
        "prices",
        "sections",
        "batch",
        "coverage",
        "endpoints",
        "errors",
        "flatten",
        "flatten_v1",
        "identity",
        "places",
        "queries",
        "secret",
        "sentiment",
        "windows",
    },
    1: {"inputs", "lists", "settings"},
    2: {"archive", "csvfiles", "db", "embedded", "job", "permits", "pool", "xapi"},
    3: {"plan", "report", "status", "export", "importing", "snowball", "desk", "fetch"},
    4: {"walk"},
    5: {"crawl"},
    6: {"__main__", "cli", "demo", "display"},
}
LEVEL = {name: level for level, names in LAYERS.items() for name in names}
# On the lowest level modules may know each other, in this order; above it nobody knows his
# neighbour.
GROUND = [
    "__init__",
    "endpoints",
    "errors",
    "secret",
    "prices",
    "sections",
    "budget",
    "coverage",
    "accounts",
    "forecast",
    "queries",
    "windows",
    "identity",
    "flatten",
    "flatten_v1",
    "batch",
    "places",
    "sentiment",
]
OWNERS = {
    "tweepy": {"xapi"},
    "requests": {"xapi"},
    "psycopg": {"db"},
    "sqlalchemy": set(),
    "alembic": {"db"},
    "configargparse": {"settings"},
    "multiprocessing": {"pool"},
    "sqlite3": {"csvfiles"},
    "rich": {"cli", "display"},
    "vaderSentiment": {"sentiment"},
    "aiohttp": {"sandbox"},
    "pyarrow": {"export"},
    "vl_convert": {"report"},
    "xlsxwriter": {"export"},
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The module, or the folder that counts as one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms_known_to(path: Path) -> set[str]:
    parts = [name.split(".") for name in imports(path) if name.startswith("tweetcrawler")]
    return {
        p[1]
        for p in parts
        if len(p) > 1 and ((PACKAGE / p[1]).is_dir() or (PACKAGE / f"{p[1]}.py").exists())
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    me = room(path)
    if me == "sandbox":
        assert rooms_known_to(path) <= {"sandbox", "errors"}, (
            "the sandbox is written from X's description alone"
        )
        return
    for other in rooms_known_to(path) - {me}:
        if other == "sandbox":
            assert me == "cli"
        elif LEVEL[me] == LEVEL[other] == 0:
            assert GROUND.index(other) < GROUND.index(me), f"{me} knows {other}"
        elif LEVEL[me] == 6:
            assert LEVEL[other] <= 6
        else:
            assert LEVEL[other] < LEVEL[me], f"{me} knows {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_outside_system_is_known_to_one_module(path: Path) -> None:
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or room(path) in owners, f"{room(path)} knows {name}"


def test_every_module_has_its_place() -> None:
    assert {room(path) for path in MODULES} == set(LEVEL) | {"sandbox"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
