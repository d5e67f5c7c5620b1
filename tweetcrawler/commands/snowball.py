"""Command `snowball`: makes the next level of handles from the stored posts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import COLLECT, Command
from tweetcrawler.settings.groups import ARCHIVE
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import one_of, whole
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.db import Database
    from tweetcrawler.setup import Setup

log = logging.getLogger("tweetcrawler")

_WHY = "snowball asks a table whom its posts refer to"


@dataclass(frozen=True)
class Values:
    """How the next level is chosen; `depth` None makes one level and crawls none."""

    by: str = "retweets"
    min_count: int = 1
    limit: int | None = None
    depth: int | None = None
    stdout: bool = False
    archive: bool = False

    def __post_init__(self) -> None:
        if self.stdout and self.depth is not None:
            raise ConfigurationError(
                "--stdout leaves the handles file as it is, so --depth has nothing to crawl; "
                "leave out one of them."
            )


def run(setup: Setup, values: Values) -> int:
    """Makes one level, or crawls level after level."""
    setup.needs_database(_WHY)
    # Making a level asks the database only, so it needs no keys.
    if values.depth is not None:
        return _levels(setup, values, values.depth)
    setup.log()
    with setup.database(_WHY) as database:
        return 0 if _next_level(setup, database, values) else _no_next_level(setup)


def _levels(setup: Setup, values: Values, depth: int) -> int:
    from tweetcrawler.commands import crawl
    from tweetcrawler.settings import handles

    file = setup.settings.handles_file
    with setup.asking_x(why=_WHY, before=lambda: handles.count_lines(file)) as opened:
        while True:
            code = opened.told(crawl.timelines(opened, archive=values.archive))
            # The level is in the file, so a run that was stopped continues at the same level.
            if code not in (0, 1) or handles.level_of(file) >= depth:
                return code
            if not _next_level(setup, opened.database, values):
                return _no_next_level(setup)


def _next_level(setup: Setup, database: Database, values: Values) -> bool:
    """Makes the next level, or prints it; False when it is empty."""
    from tweetcrawler import snowball
    from tweetcrawler.settings import handles

    found, without = snowball.next_level(
        database, values.by, min_count=values.min_count, limit=values.limit
    )
    if without:
        log.warning(
            "%d pages were stored without X's answer (raw = off): whom they quote is not known",
            without,
        )
    file = setup.settings.handles_file
    if values.stdout:
        listed = [handle for handle, _ in found]
        setup.front.answer({"handles": listed}, "\n".join(listed))
    elif found:
        level = handles.level_of(file) + 1 if file.exists() else 1
        # The file is replaced before it is crawled: its first line tells the level, and a run
        # that is killed goes on with the same handles.
        handles.replace_handles(file, [handle for handle, _ in found], level=level, by=values.by)
        setup.front.report(
            {"level": level, "handle_count": len(found), "file": file},
            f"level {level}: {plural(len(found), 'handle')} in {file}; "
            f"the old ones are in {file.name}.bk",
        )
    return bool(found)


def _no_next_level(setup: Setup) -> int:
    setup.front.remark(
        {"handle_count": 0}, ["all handles that the stored posts refer to are known already"]
    )
    return 0


COMMAND = Command(
    name="snowball",
    summary="make the next level of handles",
    group=COLLECT,
    about="The new level replaces the handles file, and the old one is appended to the same "
    "name with .bk. Known handles are left out; the most frequent come first.",
    flags=("-r", "--retweeted"),
    options=(
        option(
            "--by",
            metavar="WHAT",
            type=one_of("retweets", "mentions", "replies", "quotes"),
            help="kind of reference: retweets, mentions, replies, quotes",
            more="Quotes are read from the pages that were kept as bought",
        ),
        option(
            "--min-count",
            metavar="NUMBER",
            type=whole(1, 10**9),
            help="minimum number of references",
        ),
        option(
            "--limit",
            metavar="NUMBER",
            type=whole(1, 10**9),
            help="maximum number of handles",
            default="all",
        ),
        option(
            "--depth",
            metavar="NUMBER",
            type=whole(1, 100),
            help="crawl the handles, then level after level up to this one",
            more="The first line of the handles file tells its level",
        ),
        option("--stdout", help="print the handles and leave the file as it is"),
        ARCHIVE,
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler snowball --min-count 2 --limit 100", "the next level, at most 100 handles"),
        ("tweetcrawler snowball --by mentions --stdout", "the mentioned handles, printed"),
        ("tweetcrawler snowball --depth 1 --limit 50 --budget 25", "crawl, then crawl one level"),
    ),
    price="nothing without --depth; with it that of a crawl: each post about $0.005.",
)
