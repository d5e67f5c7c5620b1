"""Command `comply`: deletes posts from everything that is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.keeping.commands.buckets import ARCHIVE_FOLDER
from tweetcrawler.settings.commands import KEEP, Command
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import BadValue, file_or_dash, handle, one_of, text_of

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


def _time(text: str) -> datetime:
    """A day or a time, in UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadValue("must be a time such as 2026-01-31 or 2026-01-31T12:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Values:
    """The posts, and why and until when they must go."""

    ids_file: Path | None = Path()
    user: str = ""
    on_deleted: Literal["delete", "blank", "mark"] = "delete"
    by: datetime | None = None
    reference: str = ""
    archive_folder: Path = Path("segments")

    def __post_init__(self) -> None:
        if self.user and self.ids_file != Path():
            raise ConfigurationError("--ids and --user are two calls: give one of them")
        if self.on_deleted == "mark" and not self.reference:
            raise ConfigurationError(
                "--on-deleted mark keeps the text: name X's written permission with --reference"
            )


def run(setup: Setup, values: Values) -> int:
    """Sets the tombstones, sweeps, rewrites segments, and says what was done."""
    import getpass

    from tweetcrawler.keeping.authors import Account, account
    from tweetcrawler.keeping.rewriting import Rewritten, rewrite
    from tweetcrawler.keeping.sweep import Gone, Request, bury, sweep
    from tweetcrawler.settings.ids import read_ids
    from tweetcrawler.setup import BadLines, end_in_order_on_sigterm

    setup.log()
    ids: list[int] = []
    if values.ids_file != Path():
        bad = BadLines(values.ids_file or "stdin")
        ids = list(read_ids(values.ids_file, on_bad=bad))
    request = Request("deleted", "request", values.by, values.reference or None)
    done = Rewritten()

    def segments(gone: Gone) -> dict[str, int]:
        nonlocal done
        done = rewrite(session, values.archive_folder, gone)
        return {"segments": done.segments}

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
        # Pages that were on their way when the tombstones came are waited for. Those that are
        # saved after that see the tombstones.
        database.wait_for_writers()
        counts = sweep(
            session,
            database.table,
            way=values.on_deleted,
            actor=getpass.getuser(),
            reference=values.reference or None,
            beyond=segments,
        )
    code = 1 if done.faults else 0
    lines = [f"{count:,} {name}" for name, count in counts.items()] or ["nothing was left to do"]
    setup.front.report({"deleted": counts, "faults": done.faults}, "\n".join(lines), code=code)
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
            type=_time,
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
        ARCHIVE_FOLDER,
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler comply --ids deleted.txt", "posts of a file"),
        ("tweetcrawler comply --user ada --on-deleted blank", "rows stay, without a text"),
        ("tweetcrawler comply --ids - --by 2026-02-01 --reference 'letter 7'", "a request by mail"),
    ),
    price="nothing at X; a bucket bills reading and writing.",
)
