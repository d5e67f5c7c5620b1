"""Command `snowball`: makes the next level of handles from the stored posts."""

from __future__ import annotations

import dataclasses
import logging
import re
from dataclasses import dataclass
from pathlib import Path
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
    replace: bool = False
    archive: bool = False

    def __post_init__(self) -> None:
        if self.stdout and self.depth is not None:
            raise ConfigurationError(
                "--stdout writes no file of handles, so --depth has nothing to crawl; "
                "leave out one of them."
            )


def run(setup: Setup, values: Values) -> int:
    """Makes one level, or crawls level after level."""
    setup.needs_database(_WHY)
    # Making a level asks the database only, so it needs no keys.
    if values.depth is not None:
        return _levels(setup, values, values.depth)
    setup.log()
    file = setup.settings.handles_file
    with setup.database(_WHY) as database:
        return 0 if _next_level(setup, database, values, file) else _no_next_level(setup)


def _levels(setup: Setup, values: Values, depth: int) -> int:
    from tweetcrawler.commands import crawl
    from tweetcrawler.settings import handles

    listed = setup.settings.handles_file
    file = listed if values.replace else _newest_level(listed)
    settings = dataclasses.replace(setup.settings, handles_file=file)
    with setup.asking_x(
        why=_WHY,
        before=lambda: handles.count_lines(file),
        forecast=crawl.forecast(settings),
    ) as opened:
        while True:
            opened.settings = dataclasses.replace(opened.settings, handles_file=file)
            code = opened.told(crawl.timelines(opened, archive=values.archive))
            # The level is in the file, so a run that was stopped continues at the same level.
            if code not in (0, 1) or handles.level_of(file) >= depth:
                return code
            made = _next_level(setup, opened.database, values, file)
            if made is None:
                return _no_next_level(setup)
            file = made
            opened.agree(crawl.forecast(dataclasses.replace(settings, handles_file=file)))


def _level_file(file: Path, level: int) -> Path:
    """The file of a level beside the list that it was made from."""
    stem = re.sub(r"\.level-\d+$", "", file.stem)
    return file.with_name(f"{stem}.level-{level}{file.suffix}")


def _newest_level(file: Path) -> Path:
    """The file of the level that was reached: each is newer than the one it was made from."""
    from tweetcrawler.settings import handles

    while file.exists():
        following = _level_file(file, handles.level_of(file) + 1)
        if not following.exists() or following.stat().st_mtime < file.stat().st_mtime:
            break
        file = following
    return file


def _next_level(setup: Setup, database: Database, values: Values, file: Path) -> Path | None:
    """Makes the next level of a file, or prints it; its file, None when it is empty."""
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
    if not found:
        return None
    if values.stdout:
        listed = [handle for handle, _ in found]
        setup.front.answer({"handles": listed}, "\n".join(listed))
        return file
    level = handles.level_of(file) + 1 if file.exists() else 1
    made = file if values.replace else _level_file(file, level)
    plain = {"level": level, "handle_count": len(found), "file": made}
    said = f"level {level}: {plural(len(found), 'handle')} in {made}"
    if setup.settings.money.dry_run:
        setup.front.report(plain, f"{said}, if this were no dry run")
        return made
    # The file is written before it is crawled: its first line tells the level, and a run that
    # is killed goes on with the same handles.
    old = f"; the old ones are in {made.name}.bk" if made.exists() else ""
    handles.replace_handles(made, [handle for handle, _ in found], level=level, by=values.by)
    setup.front.report(plain, said + old)
    return made


def _no_next_level(setup: Setup) -> int:
    setup.front.remark(
        {"handle_count": 0}, ["all handles that the stored posts refer to are known already"]
    )
    return 0


COMMAND = Command(
    name="snowball",
    summary="make the next level of handles",
    group=COLLECT,
    about="The new level is a file beside the handles file, handles.level-1.txt; -r replaces the "
    "handles file by it, and appends the old one to the same name with .bk. Known handles are left "
    "out; the most frequent come first.",
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
        option(
            "-r",
            "--replace",
            "--retweeted",
            help="replace the handles file by the new level",
            more="The original tool's flag -r means this command with this option",
        ),
        option("--stdout", help="print the handles and write no file"),
        ARCHIVE,
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler snowball --min-count 2 --limit 100", "the next level, at most 100 handles"),
        ("tweetcrawler snowball --by mentions --stdout", "the mentioned handles, printed"),
        ("tweetcrawler snowball --depth 1 --limit 50 --budget 25", "crawl, then crawl one level"),
    ),
    price="nothing without --depth; with it that of a crawl: each post about $0.005.",
)
