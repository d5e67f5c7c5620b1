"""Command `sql`: the answer of the database to one statement that reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tweetcrawler.settings.commands import KEEP, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import BadValue, one_of

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup

Batches = Iterator[list[tuple[Any, ...]]]

_TABLE_ROWS = 1000  # a table is laid out in memory
_EXACT = 2**53  # beyond it JavaScript and others round


@dataclass(frozen=True)
class Values:
    """One statement, and the form of its answer; `statement` may be -, for stdin."""

    statement: str
    format: str = "table"


def statement_of(text: str) -> str:
    """A statement, which may have several lines."""
    if "\0" in text or not text.strip():
        raise BadValue("must be a statement such as SELECT count(*) FROM tweets")
    return text


def run(setup: Setup, values: Values) -> int:
    """Asks, and writes the answer as it comes."""
    from tweetcrawler.setup import end_in_order_on_sigterm

    statement = sys.stdin.read() if values.statement.strip() == "-" else values.statement
    write = {"table": _table, "csv": _csv, "json": _json}[values.format]
    with (
        end_in_order_on_sigterm(),
        setup.database("sql asks a database") as database,
        database.answer(statement, as_text=values.format != "json") as (names, batches),
    ):
        write(setup, names, batches)
    return 0


def _csv(setup: Setup, names: Sequence[str], batches: Batches) -> None:
    import csv
    import io

    output = setup.front.output()
    for batch in chain([[tuple(names)]], batches):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(batch)
        output.write(text.getvalue().encode())
    output.flush()


def _json(setup: Setup, names: Sequence[str], batches: Batches) -> None:
    """One array of objects. Whole numbers beyond 2^53 are strings, as in an export."""
    import orjson

    from tweetcrawler.postgres.asking import JsonText

    def plain(value: Any) -> Any:
        if isinstance(value, JsonText):
            return orjson.Fragment(str(value))
        if isinstance(value, list):
            return [plain(each) for each in value]
        is_long = isinstance(value, int) and abs(value) > _EXACT
        return str(value) if is_long or not isinstance(value, _OF_JSON) else value

    output, before = setup.front.output(), b"["
    for row in chain.from_iterable(batches):
        named = dict(zip(_distinct(names), map(plain, row), strict=True))
        output.write(before + b"\n" + orjson.dumps(named))
        before = b","
    output.write(b"[]\n" if before == b"[" else b"\n]\n")
    output.flush()


_OF_JSON = (str, int, float, bool, type(None))


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of which none is lost as a key: the second `count` is `count_2`."""
    return [
        f"{name}_{n}" if (n := names[: at + 1].count(name)) > 1 else name
        for at, name in enumerate(names)
    ]


def _table(setup: Setup, names: Sequence[str], batches: Batches) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from tweetcrawler.trouble import cleaned

    def cell(value: str | None) -> Text:
        # Posts may hold what a terminal would obey.
        return Text("" if value is None else cleaned(value, len(value)))

    table = Table(box=SIMPLE_HEAD)
    for name in names:
        table.add_column(cell(name), overflow="fold")
    rows = chain.from_iterable(batches)
    for row in islice(rows, _TABLE_ROWS):
        table.add_row(*map(cell, row))
    setup.front.draw(lambda console: console.print(table), wide=True)
    if next(rows, None) is not None:
        setup.front.note(f"these are the first {_TABLE_ROWS:,} rows; --format csv writes all")


COMMAND = Command(
    name="sql",
    summary="a SELECT as table, csv or json",
    group=KEEP,
    about="The statement is one, and reads only. Times are in UTC. In json, whole numbers beyond "
    "2^53 are strings. Words that hold spaces or * need quotes.",
    words=Words(
        "STATEMENT",
        "statement",
        statement_of,
        several=False,
        needs="a statement in quotes after it, or - for stdin",
    ),
    options=(
        option(
            "--format",
            metavar="FORMAT",
            type=one_of("table", "csv", "json"),
            help="table, csv or json",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler sql 'SELECT count(*) FROM tweets'", "number of posts"),
        ("tweetcrawler sql --format csv 'TABLE crawl_run' | head", "to another program"),
        ("tweetcrawler sql - --format json", "a statement from standard input"),
    ),
    price="nothing.",
)
