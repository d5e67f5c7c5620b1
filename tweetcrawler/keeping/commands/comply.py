"""Command `comply`: deletes posts from everything that is kept of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.keeping.commands.buckets import ARCHIVE_FOLDER
from tweetcrawler.settings.commands import KEEP, Command
from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import (
    duration,
    file_or_dash,
    handle,
    number,
    one_of,
    text_of,
    utc,
)

if TYPE_CHECKING:
    from tweetcrawler.db import Database, Session
    from tweetcrawler.keeping.sweep import Gone
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """The posts, and why and until when they must go."""

    ids_file: Path | None = Path()
    user: str = ""
    on_deleted: Literal["delete", "blank", "mark"] = "delete"
    by: datetime | None = None
    reference: str = ""
    on_hidden: Literal["delete", "blank"] = "blank"
    archive_folder: Path = Path("segments")
    scheduled: bool = False
    check_users_s: float = 7 * 86_400.0
    check_posts_s: float = 30 * 86_400.0
    compliance_budget: float = 0.0

    def every_s(self, kind: str) -> float:
        """The time between two jobs of "users" or "tweets"."""
        return self.check_users_s if kind == "users" else self.check_posts_s

    def __post_init__(self) -> None:
        if self.scheduled and (self.user or self.ids_file != Path()):
            raise ConfigurationError(
                "--run asks X about everything that is stored: leave out --ids and --user"
            )
        if self.user and self.ids_file != Path():
            raise ConfigurationError("--ids and --user are two calls: give one of them")
        if self.on_deleted == "mark" and not self.reference:
            raise ConfigurationError(
                "--on-deleted mark keeps the text: name X's written permission with --reference"
            )


def run(setup: Setup, values: Values) -> int:
    """Does what is due, or what is asked for."""
    if values.scheduled:
        return _run_checks(setup, values)
    if setup.settings.money.dry_run:
        raise ConfigurationError("--dry-run is for comply --run; add --run")
    return _delete(setup, values)


def _run_checks(setup: Setup, values: Values) -> int:
    """Asks X what was deleted, hidden or changed, and deletes by its answers."""
    from tweetcrawler.keeping.commands import checks

    if setup.settings.money.dry_run:
        setup.log()
        return checks.show_plan(setup, values)
    with (
        setup.asking_x(why="comply looks into a database") as opened,
        opened.database.session() as session,
    ):
        sweeping = _Sweeping(opened.database, session, values)
        done = checks.Checks(opened, session, values, sweeping.sweep).run()
        code = done.code or (1 if sweeping.faults else 0)
        if (stopped := opened.stop()) is not None:
            code = stopped
    lines = [*done.sentences, *sweeping.sentences] or ["nothing is due"]
    plain = {**done.plain, "deleted": sweeping.counts, "faults": sweeping.faults}
    setup.front.report(plain, "\n".join(lines), code=code)
    for sentence in sweeping.faults:
        setup.front.note(sentence)
    return code


class _Sweeping:
    """Sweeps of one call, with what they did together."""

    def __init__(self, database: Database, session: Session, values: Values) -> None:
        self._database = database
        self._session = session
        self._values = values
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def sweep(self) -> None:
        """Takes everything with an open tombstone out of rows, pages and segments."""
        import getpass

        from tweetcrawler.keeping.sweep import sweep

        values = self._values
        # Pages that were on their way when the tombstones came are waited for. Those that are
        # saved after that see the tombstones.
        self._database.wait_for_writers()
        self.counts += Counter(
            sweep(
                self._session,
                self._database.table,
                way=values.on_deleted,
                hidden_way=values.on_hidden,
                actor=getpass.getuser(),
                reference=values.reference or None,
                beyond=self._segments,
            )
        )

    @property
    def sentences(self) -> list[str]:
        """What was done, by table."""
        return [f"{count:,} {name}" for name, count in self.counts.items()]

    def _segments(self, gone: Gone) -> dict[str, int]:
        from tweetcrawler.keeping.rewriting import rewrite

        done = rewrite(self._session, self._values.archive_folder, gone)
        self.faults += done.faults
        return {"segments": done.segments}


def _delete(setup: Setup, values: Values) -> int:
    """Sets the tombstones, sweeps, rewrites segments, and says what was done."""
    from tweetcrawler.keeping.authors import Account, account
    from tweetcrawler.keeping.sweep import Request, bury
    from tweetcrawler.settings.ids import read_ids
    from tweetcrawler.setup import BadLines, end_in_order_on_sigterm

    setup.log()
    ids: list[int] = []
    if values.ids_file != Path():
        bad = BadLines(values.ids_file or "stdin")
        ids = list(read_ids(values.ids_file, on_bad=bad))
    request = Request("deleted", "request", values.by, values.reference or None)
    with (
        end_in_order_on_sigterm(),
        setup.database("comply looks into a database") as database,
        database.session() as session,
    ):
        asked = Account(frozenset(), frozenset(ids))
        if values.user:
            asked = account(database, session, values.user)
            if not asked.users and not asked.posts:
                setup.front.say(f"nothing is stored of @{values.user}")
                return 1
        bury(session, asked.posts, request, asked.users)
        done = _Sweeping(database, session, values)
        done.sweep()
    code = 1 if done.faults else 0
    lines = done.sentences or ["nothing was left to do"]
    setup.front.report({"deleted": done.counts, "faults": done.faults}, "\n".join(lines), code=code)
    for sentence in done.faults:
        setup.front.note(sentence)
    if values.user:
        setup.front.note(f"take @{values.user} out of your lists: a crawl buys new posts again")
    if not setup.settings.quiet:
        setup.front.note(
            "exports, CSV folders and backups are yours to search: they are not touched"
        )
    return code


COMMAND = Command(
    name="comply",
    summary="delete posts everywhere",
    group=KEEP,
    about="For posts that were deleted on X, or that their author asks you to delete. Their rows, "
    "the texts that retweets repeat, counts, and the posts inside stored pages and segments go. "
    "The other posts of a page stay. No crawl, import or restore stores them again.\n"
    "--run asks X itself: jobs over all users and all posts, then look-ups. Posts of protected and "
    "suspended users are blanked; they may come back.\n"
    "If it is interrupted, `tweetcrawler comply` without ids finishes it.",
    options=(
        option(
            "--ids",
            metavar="FILE",
            type=file_or_dash,
            field="ids_file",
            help="file of ids, one per line; - for standard input",
            default="posts of interrupted calls",
        ),
        option(
            "--user",
            metavar="HANDLE",
            type=handle,
            help="all posts of this user that are stored, and the profile in pages",
            default="none",
        ),
        option(
            "--on-deleted",
            metavar="WHAT",
            type=one_of("delete", "blank", "mark"),
            help="their own rows: delete them, blank all columns but the id, or mark: keep them",
            more="The texts in other rows, pages and segments go in any case",
        ),
        option(
            "--by",
            metavar="TIME",
            type=utc,
            help="time until which they must be gone, in UTC",
            default="none",
        ),
        option(
            "--reference",
            metavar="TEXT",
            type=text_of,
            help="number of the letter or case, for the audit",
            default="none",
        ),
        option(
            "--run",
            field="scheduled",
            help="ask X which of all stored posts and users are deleted, hidden or changed",
            more="What is not due is not asked for, so it may be called each day",
        ),
        option(
            "--check-users",
            metavar="TIME",
            type=duration,
            field="check_users_s",
            places=EVERYWHERE,
            help="with --run: time between two jobs over all users",
        ),
        option(
            "--check-posts",
            metavar="TIME",
            type=duration,
            field="check_posts_s",
            places=EVERYWHERE,
            help="with --run: time between two jobs over all posts",
        ),
        option(
            "--compliance-budget",
            metavar="USD",
            type=number(0, 10_000_000),
            places=EVERYWHERE,
            help="with --run: most that look-ups may cost per UTC month, in USD",
            more="They tell of edits and of withheld posts, which jobs do not. A post is looked at "
            "1, 7, 30 and 180 days after it was written, and then every 180 days",
            default="0: none",
        ),
        option(
            "--on-hidden",
            metavar="WHAT",
            type=one_of("blank", "delete"),
            places=EVERYWHERE,
            help="with --run: rows of protected and suspended users: blank them, or delete them",
        ),
        ARCHIVE_FOLDER,
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler comply --ids deleted.txt", "posts of a file"),
        ("tweetcrawler comply --run --compliance-budget 5", "what is due, for a daily timer"),
        ("tweetcrawler comply --ids - --by 2026-02-01 --reference 'letter 7'", "a request by mail"),
    ),
    price="jobs have no price at X; with --compliance-budget each post looked up about $0.005.",
)
