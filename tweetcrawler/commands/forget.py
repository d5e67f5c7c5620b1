"""Command `forget`: the coverage of targets, with or without their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tweetcrawler.settings.commands import DATA, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.pages import Forgotten
    from tweetcrawler.prices import Tariff
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """The targets, and what stays of them."""

    names: tuple[str, ...]
    keep_rows: bool = False


def run(setup: Setup, values: Values) -> int:
    """Forgets each target, and says for how much the next run buys it again."""
    tariff = setup.tariff()
    for one in _csv(setup, values) if setup.settings.database is None else _rows(setup, values):
        setup.front.say(
            _sentence(one, tariff, keeps_rows=values.keep_rows, dry=setup.settings.money.dry_run)
        )
    return 0


def _rows(setup: Setup, values: Values) -> Iterator[Forgotten]:
    from tweetcrawler.postgres.forgetting import forget

    with setup.database("forget changes a database") as database:
        chosen = database.targets_named(values.names)
        with database.session() as session:
            for target in chosen:
                work = partial(
                    forget,
                    table=database.table,
                    target=target,
                    rows=not values.keep_rows,
                    dry=setup.settings.money.dry_run,
                )
                yield session.do(work)


def _csv(setup: Setup, values: Values) -> Iterator[Forgotten]:
    from tweetcrawler.csvstore.forgetting import forget

    assert setup.settings.csv_folder is not None  # noqa: S101 - the settings promise it
    rows = not values.keep_rows
    yield from forget(
        setup.settings.csv_folder, values.names, rows=rows, dry=setup.settings.money.dry_run
    )


def _sentence(one: Forgotten, tariff: Tariff, *, keeps_rows: bool, dry: bool) -> str:
    from tweetcrawler.prices import usd

    pages, posts = (sum(row[1] for row in one.bought), sum(row[2] for row in one.bought))
    cost = sum(
        tariff.cost(endpoint, requests=requests, posts=count, users=users)
        for endpoint, requests, count, users in one.bought
    )
    rows = "its rows stay" if keeps_rows else plural(one.rows, "row")
    verb = "would be forgotten" if dry else "forgotten"
    return (
        f"{one.name}: {verb}: {plural(pages, 'page')} with {plural(posts, 'post')}, {rows}; "
        f"the next run buys them again for about {usd(cost)}"
    )


COMMAND = Command(
    name="forget",
    summary="forget a handle or query",
    group=DATA,
    about="Removes the coverage of a timeline or a search, its position, the bodies of its pages, "
    "and its rows. The next run buys it again. A row stays if another search, timeline or "
    "look-up holds it, too. What was bought stays in every sum of money. With CSV files the file "
    "goes.",
    words=Words("HANDLE|QUERY...", "names", needs="a handle or query after it"),
    options=(option("--keep-rows", help="leave the rows, or the CSV file, as they are"),),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler forget ada --dry-run", "what is stored of a handle, and its price"),
        ("tweetcrawler forget ada", "coverage, pages and rows of a handle"),
        ("tweetcrawler forget '#climate lang:en' --keep-rows", "a search, but not its rows"),
    ),
    price="nothing; the next run pays about $0.005 for each post again, pay-per-use.",
)
