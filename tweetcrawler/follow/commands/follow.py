"""Command `follow`: walks lists of followers, and of the users whom somebody follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings import types
from tweetcrawler.settings.commands import COLLECT, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import whole

if TYPE_CHECKING:
    from tweetcrawler.follow.books import Books, Listing
    from tweetcrawler.look.ahead import Forecast
    from tweetcrawler.setup import Opened, Setup

_WHY = "follow keeps lists in a database"
# Without a terminal nobody can be asked; a list that costs more needs a word of the operator.
DEAR_USD = 100.0
_EVER_S = 100 * 366 * 86_400.0


@dataclass(frozen=True)
class Values:
    """Whose lists, which of them, and how far.

    `depth` 1 walks the lists of the handles, 2 those of the users found there, too.
    """

    handles: tuple[str, ...] = ()
    followers: bool = False
    following: bool = False
    depth: int = 1
    max_users: int | None = None
    max_followers: int | None = None
    newest: bool = False
    restart: bool = False

    def __post_init__(self) -> None:
        if self.depth > 1 and (self.max_users is None or self.max_followers is None):
            raise ConfigurationError(
                "--depth 2 and more needs --max-users and --max-followers: lists of the users "
                "found may cost any sum"
            )

    @property
    def directions(self) -> tuple[bool, ...]:
        """The lists: those of the users whom somebody follows are True."""
        chosen = ((False, self.followers), (True, self.following))
        return tuple(each for each, is_wanted in chosen if is_wanted) or (False,)


def run(setup: Setup, values: Values) -> int:
    """Looks the users up, and walks their lists level after level."""
    from tweetcrawler.commands import crawl
    from tweetcrawler.follow import prices
    from tweetcrawler.setup import BadLines

    settings = setup.settings
    setup.needs_database(_WHY)

    def listed() -> list[str]:
        return list(crawl.read(settings, values.handles, BadLines(settings.handles_file)))

    if settings.money.dry_run:
        return _dry_run(setup, values, listed)
    with setup.asking_x(
        why=_WHY,
        before=lambda: crawl.refuse_empty_list(settings, values.handles),
        forecast=prices.of_people(crawl.count(settings, values.handles) or 0),
    ) as opened:
        return _levels(setup, opened, values, listed())


def _levels(setup: Setup, opened: Opened, values: Values, handles: Sequence[str]) -> int:
    from tweetcrawler.follow import prices, walks
    from tweetcrawler.follow.books import Books

    with opened.database.session() as session:
        books = Books(session)
        follow = books.open(_asked(values, handles))
        wanted = walks.Wanted(follow, values.directions)
        code = worst = opened.told(opened.run(walks.people(handles, wanted)))
        walking = walks.Walking(newest=values.newest, restarts=values.restart)
        for level in range(values.depth):
            if code not in (0, 1):
                return code
            lists = _lists(books, follow, level, values)
            if not lists:
                continue
            forecast = prices.of_lists((one.is_following, one.count) for one in lists)
            _refuse_dear(setup, opened, forecast)
            opened.agree(forecast)
            code = opened.told(opened.run(walks.lists(lists, walking)))
            worst = max(worst, code)
        if code in (0, 1):
            books.close(follow)
    return worst


def _asked(values: Values, handles: Sequence[str]) -> dict[str, object]:
    """What makes two calls the same command, which goes on where the first one stopped."""
    import hashlib

    # Only their hash: an index has no room for a long list.
    listed = hashlib.sha256("\n".join(sorted(handles)).encode()).hexdigest()
    return {
        "handles": listed,
        "following": list(values.directions),
        "depth": values.depth,
        "newest": values.newest,
    }


def _lists(books: Books, follow: int, level: int, values: Values) -> list[Listing]:
    return books.lists(
        follow,
        level,
        left=values.depth - 1 - level,
        most=values.max_users,
        largest=values.max_followers,
    )


def _refuse_dear(setup: Setup, opened: Opened, forecast: Forecast) -> None:
    """Refuses a dear level where nobody can be asked, and nobody said how much it may cost."""
    from tweetcrawler.look import ahead
    from tweetcrawler.prices import MICRO, usd

    money = setup.settings.money
    if money.yes or money.is_limited or setup.front.can_ask():
        return
    with opened.database.reader() as reader:
        plan = ahead.made(forecast, reader, setup.tariff())
    if plan.cost.high / MICRO > DEAR_USD:
        raise ConfigurationError(
            f"These lists cost up to {usd(round(plan.cost.high))}: say --yes, or set a --budget."
        )


def _dry_run(setup: Setup, values: Values, listed: Callable[[], list[str]]) -> int:
    """Shows the price of the first level, as far as the users were seen before."""
    from tweetcrawler import crew
    from tweetcrawler.follow import prices
    from tweetcrawler.follow.books import Books
    from tweetcrawler.look import ahead, display, plan

    setup.log()
    handles, tariff = listed(), setup.tariff()
    with setup.database(_WHY) as database:
        with database.session() as session:
            known = Books(session).known(handles, within_s=_EVER_S)
        unknown = set(handles) - known.keys()
        seen = [*known.values(), *(None for _ in unknown)]
        ways = values.directions
        counts = [(way, one.count(way) if one else None) for one in seen for way in ways]
        with database.reader() as reader:
            made = ahead.made(prices.of_lists(counts), reader, tariff)
            keys = setup.credentials() if setup.settings.auth_csv is not None else ()
            processes = setup.settings.threads or crew.likely_processes(max(1, len(keys)))
            plan.timed(made, keys, reader.windows(), tariff, processes=processes)
    if unknown:
        made.notes.append(
            "users who were never seen: follow looks them up first, for $0.01 each, and asks "
            "before it goes on"
        )
    if values.depth > 1:
        made.notes.append("the price of the next level is told when this one is done")
    sections = plan.sections(made, tariff)
    setup.front.answer(
        made.as_plain(), lambda console: display.print_sections(sections, console), wide=True
    )
    return 0


COMMAND = Command(
    name="follow",
    summary="collect who follows whom",
    group=COLLECT,
    about="Walks lists of followers, or of the users whom somebody follows, each page with the "
    "whole user objects: X sells no bare ids. The price is told, and asked, before the first "
    "page. A killed walk goes on at its next page. Only a complete walk notes who is gone.",
    words=Words("[HANDLE...]", "handles", types.handle),
    options=(
        option("--followers", help="the followers of the handles; the usual choice"),
        option("--following", help="the users whom the handles follow"),
        option(
            "--depth",
            metavar="NUMBER",
            type=whole(1, 9),
            help="levels: 2 walks the lists of the users found, too",
        ),
        option(
            "--max-users",
            metavar="NUMBER",
            type=whole(1, 10**9),
            help="most users whose lists are walked, those found most often first",
        ),
        option(
            "--max-followers",
            metavar="NUMBER",
            type=whole(1, 10**9),
            help="longest list that is walked, in entries",
        ),
        option(
            "--newest",
            help="end each walk at the first entry that is known",
            more="Finds new followers cheaply, and notes nobody as gone",
        ),
        option(
            "--restart",
            help="begin at the top again where X takes a token no more",
            more="What was bought of the list is bought again",
        ),
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler follow ada --dry-run", "the price of ada's followers"),
        ("tweetcrawler follow ada grace --budget 50", "the followers of two users"),
        (
            "tweetcrawler follow ada --following --depth 2 --max-users 100 --max-followers 5000",
            "whom ada follows, and whom they follow",
        ),
    ),
    price="each entry of a list $0.01, pay-per-use: ten dollars for a page of 1,000, fifty "
    "thousand for a list of 5 million.",
)
