"""Command `plan`: what a crawl, a search or trends will take, before anything is bought."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.coverage import EVERYTHING
from tweetcrawler.errors import ConfigurationError, DatabaseError
from tweetcrawler.rooms import rooms
from tweetcrawler.settings import parse, types
from tweetcrawler.settings.commands import LOOK, Command, Words, all_commands
from tweetcrawler.settings.groups import ARCHIVE, PLACES, QUERIES, TRENDS
from tweetcrawler.settings.options import option

if TYPE_CHECKING:
    from tweetcrawler.db import Reader
    from tweetcrawler.look.ahead import Forecast
    from tweetcrawler.look.plan import Plan
    from tweetcrawler.prices import Tariff
    from tweetcrawler.setup import Setup

log = logging.getLogger("tweetcrawler")

_WHY = "plan reads what is stored in a database"


class Planned(str):
    """The word of a room's plan, where a handle could stand; `@comply` is the handle."""

    __slots__ = ()


def _word(text: str) -> str:
    known = {word for room in rooms() for word in room.plans}
    return Planned(text) if text in known else types.handle(text)


@dataclass(frozen=True)
class Values:
    """The work that is planned, whether X is asked first, and the form of the answer."""

    handles: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    queries_file: Path | None = None
    archive: bool = False
    trending: bool = False
    places: tuple[str, ...] = ("worldwide",)
    max_trends: int = 20
    max_per_trend: int = 500
    ask: bool = False

    def __post_init__(self) -> None:
        if len(self.handles) > 1 and any(isinstance(word, Planned) for word in self.handles):
            raise ConfigurationError(
                "plan takes handles, or one of its words alone; a handle of that name is @comply"
            )

    @property
    def is_search(self) -> bool:
        """Whether queries are planned."""
        return bool(self.queries or self.queries_file)

    @property
    def command(self) -> str:
        """The command that is planned."""
        return "trending" if self.trending else "search" if self.is_search else "crawl"


def run(setup: Setup, values: Values) -> int:
    """Makes the plan, keeps it for the report of the next run, and shows it."""
    from tweetcrawler.look import display, plan

    of_room = [word for word in values.handles if isinstance(word, Planned)]
    if of_room:
        return _of_room(setup, of_room[0])
    setup.needs_database(_WHY)
    tariff = setup.tariff()
    if not values.ask:
        setup.log()
    counted = _asked(setup, values) if values.ask else {}
    made = _kept(setup, values, tariff, counted)
    sections = plan.sections(made, tariff)
    setup.front.answer(
        made.as_plain(), lambda console: display.print_sections(sections, console), wide=True
    )
    return 0


def _of_room(setup: Setup, word: str) -> int:
    """The plan of a room's command: its dry run, with all other options of this call."""
    argv = [each for each in setup.argv if each not in (word, COMMAND.name)]
    stands_for = next(room.plans[word] for room in rooms() if word in room.plans)
    argv = [*stands_for.split(), *argv]
    chosen = parse(argv, environ=os.environ, folder=Path.cwd())
    command = all_commands()[chosen.command]
    return command.run(type(setup)(chosen, setup.front, argv), chosen.values)


def _kept(setup: Setup, values: Values, tariff: Tariff, counted: Mapping[str, int]) -> Plan:
    from tweetcrawler import crew
    from tweetcrawler.look import plan

    settings = setup.settings
    # Without keys the time of the run is unknown; nobody is asked for them here.
    keys = setup.credentials() if settings.auth_csv is not None else ()
    processes = settings.threads or crew.likely_processes(max(1, len(keys)))
    subject = plan.subject_of({**settings.arguments_without_secrets(), "command": values.command})
    with setup.database(_WHY) as database:
        with database.reader() as reader:
            made = _made(setup, values, reader, tariff, subject, counted)
            plan.priced(made, tariff)
            plan.timed(made, keys, reader.windows(), tariff, processes=processes)
            plan.noted(made, reader, tariff)
        # Kept even when it is only printed: the report of the next run compares itself to it.
        try:
            database.keep_plan(subject, made.as_plain())
        except DatabaseError as error:  # a standby, or a role that may only read
            setup.front.note(f"this plan is not kept: {error}")
    return made


def _made(
    setup: Setup,
    values: Values,
    reader: Reader,
    tariff: Tariff,
    subject: str,
    counted: Mapping[str, int],
) -> Plan:
    from tweetcrawler.commands import crawl
    from tweetcrawler.look import plan
    from tweetcrawler.settings import places
    from tweetcrawler.settings.queries import read_queries
    from tweetcrawler.setup import BadLines

    if values.trending:
        return plan.of_trends(
            reader,
            len([places.place(name) for name in values.places]),
            trends=values.max_trends,
            per_trend=values.max_per_trend,
            subject=subject,
        )
    if values.is_search:
        queries = read_queries(values.queries, values.queries_file)
        return plan.of_queries(reader, queries, counted, archive=values.archive, subject=subject)
    settings = setup.settings
    handles = crawl.read(settings, values.handles, BadLines(settings.handles_file))
    return plan.of_handles(reader, handles, tariff, subject=subject)


def _asked(setup: Setup, values: Values) -> dict[str, int]:
    """Counts of posts by query, from X; of handles, X is asked for the unknown users."""
    from tweetcrawler.commands import crawl
    from tweetcrawler.settings.queries import read_queries
    from tweetcrawler.setup import BadLines
    from tweetcrawler.walk import Reach
    from tweetcrawler.work import counts, handles

    if values.trending:
        setup.log()
        return {}
    with setup.asking_x(why=_WHY, forecast=_price_of_asking(setup, values)) as opened:
        if values.is_search:
            queries = read_queries(values.queries, values.queries_file)
            report = opened.run(counts.work(queries, Reach(values.archive)))
        else:
            bad = BadLines(setup.settings.handles_file)
            listed = crawl.read(setup.settings, values.handles, bad)
            report = opened.run(handles.only_users(listed))
    if report.ended:
        log.warning("X was not asked everything: %s", report.ended)
    return dict(report.counted)


def _price_of_asking(setup: Setup, values: Values) -> Forecast:
    from tweetcrawler.commands import crawl
    from tweetcrawler.look import ahead, plan
    from tweetcrawler.settings.queries import read_queries

    def make(stored: Reader, tariff: Tariff) -> Plan:
        if values.is_search:
            queries = read_queries(values.queries, values.queries_file)
            return plan.of_counts(stored, queries, EVERYTHING, archive=values.archive)
        whole = crawl.forecast(setup.settings, values.handles).make(stored, tariff)
        # The users are bought, and none of their posts.
        return plan.Plan("", whole.made_at, whole.targets, whole.known, users=whole.users)

    return ahead.Forecast(make)


COMMAND = Command(
    name="plan",
    summary="what a crawl, a search or trends will take",
    group=LOOK,
    about="The plan is kept: the report of the next such run shows both. Without a query and "
    "without --trending it is about the handles of the words, or of the handles file. The words "
    "comply and metrics plan `comply --run` and `watch --metrics`; a handle is @comply.",
    words=Words("[HANDLE...|comply|metrics]", "handles", _word),
    options=(
        *QUERIES,
        ARCHIVE,
        option("-trending", "--trending", help="plan the command trending"),
        PLACES,
        *TRENDS,
        option(
            "--ask",
            help="ask X first: look up unknown users, count the posts of queries",
        ),
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler plan -c tweet.ini", "a crawl of the handles file"),
        ("tweetcrawler plan -q '#climate lang:en' --ask", "a search, counted by X"),
        ("tweetcrawler plan --trending --woeid london --json", "trends, as JSON"),
    ),
    price="nothing; with --ask each unknown user about $0.01, each query one request.",
)
