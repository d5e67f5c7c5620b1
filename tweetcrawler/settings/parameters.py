"""Parameters of commands that kinds of work read in every process."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tweetcrawler.coverage import EVERYTHING, Bounds

DEFAULT_REJECTS = Path("import-rejects.jsonl")
EXPORT_FORMATS = ("csv", "jsonl", "parquet", "xlsx")

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Search:
    """Queries of words and of a file, and the bounds of ids to collect within.

    With `count` their posts are counted, not bought.
    """

    queries: tuple[str, ...] = ()
    queries_file: Path | None = None
    bounds: Bounds = EVERYTHING
    count: bool = False


@dataclass(frozen=True)
class Trending:
    """Places whose trends are collected, and how much of them."""

    places: tuple[str, ...] = ("worldwide",)
    max_trends: int = 20
    max_per_trend: int = 500
    lang: str | None = None


@dataclass(frozen=True)
class Hydrate:
    """How posts are looked up by id. Counts read in the last `age_s` seconds stay as they are."""

    refresh: bool = False
    age_s: float = 86_400.0


@dataclass(frozen=True)
class Import:
    """Files and folders to import, None for standard input, and where rejects are written.

    `again` says that files which were imported before are read once more.
    """

    files: tuple[Path | None, ...] = ()
    rejects_file: Path = DEFAULT_REJECTS
    again: bool = False


@dataclass(frozen=True)
class Export:
    """The form and the filters of an export, as they were said; None and empty are not given.

    `output` None is stdout. `columns` and `where` are not checked here. `pages` says that
    X's answers are wanted as they were stored, and not the rows made of them.
    """

    format: str | None = None
    output: Path | None = None
    columns: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    view: str | None = None
    excel_safe: bool = False
    pages: bool = False


def part_of(values: Any, kind: type[_Kind]) -> _Kind:
    """The parameters of this kind that a command's values have, by the names of their fields."""
    # By name, so that a command declares a parameter once, as a field of its values.
    given = {
        each.name: getattr(values, each.name)
        for each in fields(kind)  # type: ignore[arg-type]  # each kind above is a dataclass
        if hasattr(values, each.name)
    }
    return kind(**given)
