"""The house: imports point down, and each outside system is known to one module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tweetcrawler"
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"

# From the ground up: a module imports from lower floors only. A folder is one module, unless
# a part of it is named here. On the ground modules may know those that stand before them.
GROUND = [
    "__init__",
    "words",
    "ids",
    "endpoints",
    "files",
    "scratch",
    "signals",
    "errors",
    "secret",
    "prices",
    "identity",
    "budget",
    "coverage",
    "queries",
    "windows",
    "flatten",
    "people",
    "targets",
    "books",
    "pages",
    "news",
    "outcome",
    "sentiment",
    "rooms",
    "trouble",
    "evidence",
    "documents",
    "journal",
]
FLOORS = [
    set(GROUND),
    {"settings", "machine", "look.sections", "look.forecast"},
    {"run", "pool", "permits", "web", "postgres", "csvstore", "local.embedded"},
    {"db", "csvfiles", "xapi"},
    {
        "apps",
        "doctor",
        "export",
        "leases",
        "look",
        "notices",
        "request",
        "snowball",
        "work.answers",
    },
    {"crew", "work.kinds"},
    {"walk", "dispatch"},
    {"work", "archives"},
    {"crawl"},
    {
        "keeping",
        "keeping.authors",
        "keeping.due",
        "keeping.looking",
        "keeping.s3",
        "keeping.schema",
        "keeping.sweep",
    },
    {"stream", "stream.schema"},
    {
        "__main__",
        "cli",
        "commands",
        "keeping.commands",
        "local",
        "look.display",
        "look.lines",
        "setup",
        "stream.commands",
    },
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
OWNERS = {
    "tweepy": {"xapi"},
    "requests": {"web"},
    "urllib3": {"web"},
    "psycopg": {"db", "postgres"},
    "sqlalchemy": {
        "postgres",
        "keeping.authors",
        "keeping.due",
        "keeping.looking",
        "keeping.schema",
        "keeping.sweep",
        "stream.schema",
    },
    "alembic": {"db"},
    "configargparse": {"settings"},
    "multiprocessing": {"pool"},
    "concurrent": {"pool"},
    "sqlite3": {"csvstore", "archives"},
    "rich": {"cli", "commands", "look.display", "setup"},
    "vaderSentiment": {"sentiment"},
    "aiohttp": {"sandbox"},
    "boto3": {"keeping.s3"},
    "pyarrow": {"export", "archives"},
    "vl_convert": {"look"},
    "prometheus_client": {"look"},
    "apprise": {"notices"},
    "warcio": {"archives"},
    "xlsxwriter": {"export"},
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))


def place(module: str) -> str:
    """The name by which a dotted module (without the package) stands in `FLOORS`."""
    parts = module.split(".")
    return next((name for name in (".".join(parts[:2]), parts[0]) if name in FLOOR), parts[0])


def room(path: Path) -> str:
    """The module, or the folder that counts as one."""
    dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return place(dotted.removesuffix(".__init__") or "__init__")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def rooms_known_to(path: Path) -> set[str]:
    dotted = [name.split(".")[1:] for name in imports(path) if name.startswith("tweetcrawler.")]
    return {
        place(".".join(parts))
        for parts in dotted
        if PACKAGE.joinpath(*parts).is_dir()
        or PACKAGE.joinpath(*parts).with_suffix(".py").exists()
        or len(parts) > 1
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    me = room(path)
    known = rooms_known_to(path) - {me}
    if me == "sandbox":
        assert known <= {"errors"}, "the sandbox is written from X's description alone"
        return
    for other in known:
        if other == "sandbox":
            assert me == "commands"
        elif FLOOR[me] == FLOOR[other] == 0:
            assert GROUND.index(other) < GROUND.index(me), f"{me} knows {other}"
        elif FLOOR[me] == len(FLOORS) - 1 or me.split(".")[0] == other.split(".")[0]:
            assert FLOOR[other] <= FLOOR[me], f"{me} knows {other}"
        else:
            assert FLOOR[other] < FLOOR[me], f"{me} knows {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_outside_system_is_known_to_one_module(path: Path) -> None:
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or room(path) in owners, f"{room(path)} knows {name}"


def test_every_module_has_its_place() -> None:
    assert {room(path) for path in MODULES} == set(FLOOR) | {"sandbox"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


# -- what CONTRIBUTING.md says of it ---------------------------------------------------


def table(heading: str) -> Iterator[list[str]]:
    """The cells of the rows of the first table under a heading of CONTRIBUTING.md."""
    section = CONTRIBUTING.read_text("utf-8").partition(f"\n## {heading}\n")[2]
    rows = section.partition("\n## ")[0].partition("|---")[2].partition("\n\n")[0]
    for line in rows.splitlines()[1:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_layers_that_are_described_are_those_that_hold() -> None:
    described = [(int(floor), set(code(names))) for floor, names, _ in table("The layers")]
    assert described == list(reversed(list(enumerate(FLOORS))))


def test_every_module_is_in_the_table_of_tests_and_every_test_too() -> None:
    rows = [(code(modules), code(tests)) for modules, tests in table("Which tests hold what")]
    modules = [name for names, _ in rows for name in names]
    files = [name for _, names in rows for name in names]
    assert len(modules) == len(set(modules))
    assert set(modules) == {name.partition(".")[0] for name in FLOOR} | {"sandbox"}
    folder = PACKAGE.parent / "tests"
    there = {path.name for path in folder.glob("test_*.py")}
    assert {name for name in files if not name.endswith("/")} == there
    assert all((folder / name).is_dir() for name in files if name.endswith("/"))
