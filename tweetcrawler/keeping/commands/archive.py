"""Command `archive`: brings segments to a place, and looks at what is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.keeping.commands.buckets import ARCHIVE_FOLDER, S3_OPTIONS
from tweetcrawler.settings.commands import KEEP, Command, Words
from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import duration, text_of
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.db import Database, Session
    from tweetcrawler.keeping.places import Place, S3Options
    from tweetcrawler.setup import Setup

_LOOKS_S = 60.0
_ACTS = ("check", "list", "verify")


@dataclass(frozen=True)
class Values:
    """What to do, and the folder and place of the segments."""

    acts: tuple[str, ...] = ()
    archive_place: str = ""
    archive_folder: Path = Path("segments")
    keep_local: float = 7 * 86_400.0
    keep_bodies: float | None = None
    once: bool = False
    s3_endpoint: str = ""
    s3_region: str = ""
    s3_profile: str = ""

    def __post_init__(self) -> None:
        if self.acts and self.acts[0] not in _ACTS:
            raise ConfigurationError(
                f"archive takes {', '.join(_ACTS)} or no word; see `tweetcrawler help archive`"
            )
        if len(self.acts) > (2 if self.acts[:1] == ("verify",) else 1):
            raise ConfigurationError("archive takes one word, and a name after verify")


def run(setup: Setup, values: Values) -> int:
    """Does what the first word says; without one it brings the stored pages there."""
    from tweetcrawler.keeping.places import place_of

    if not values.archive_place:
        raise ConfigurationError(
            "archive needs a place: --archive-place s3://bucket/prefix or file:///folder"
        )
    place = place_of(values.archive_place, _options(values))
    act = values.acts[0] if values.acts else ""
    setup.log()
    if act == "check":
        return _check(setup, place)
    if act == "list":
        return _list(setup, place)
    if act == "verify":
        return _verify(setup, place, values.acts[1:])
    with setup.database("archive reads pages from a database") as database:
        return _archive(setup, place, values, database)


def _options(values: Values) -> S3Options:
    from tweetcrawler.keeping.places import s3_options

    return s3_options(values.s3_endpoint, values.s3_region, values.s3_profile)


def _archive(setup: Setup, place: Place, values: Values, database: Database) -> int:
    """Brings pages to the place, once or until it is stopped."""
    from tweetcrawler.db import newest_schema
    from tweetcrawler.keeping.feeding import Feeder
    from tweetcrawler.keeping.ledger import know_place
    from tweetcrawler.keeping.lines import PAGES
    from tweetcrawler.keeping.segments import Writer
    from tweetcrawler.setup import Stop

    folder = values.archive_folder
    with setup.telling_people(database) as tell, Stop() as stop, database.session() as session:
        # Noted first: exports on other machines find the bodies by it, and have no such
        # options.
        know_place(session, place.url, _options(values))
        writer = Writer(folder, PAGES, schema=newest_schema())
        try:
            feeder = Feeder(database, session, folder, writer)
            while True:
                feeder.feed()
                if values.once or writer.is_due():
                    writer.close_segment()
                faults = _brought(setup, place, values, session)
                tell(faults)
                if values.once:
                    return 1 if faults else 0
                if (stopped := pause(stop)) is not None:
                    return stopped
        finally:
            writer.close()


def _brought(setup: Setup, place: Place, values: Values, session: Session) -> list[str]:
    """Does each step that waits, and says what was done; gives what went wrong."""
    from tweetcrawler.keeping.archive import Archive
    from tweetcrawler.keeping.ledger import SqlLedger

    ledger, keep = SqlLedger(session, values.archive_folder), timedelta(seconds=values.keep_local)
    report = Archive(values.archive_folder, place, ledger, keep=keep).once()
    moved = 0
    if values.keep_bodies is not None:
        moved = ledger.move_bodies(timedelta(seconds=values.keep_bodies))
    if values.once or report.uploaded or report.verified or report.dropped or moved:
        setup.front.report(
            {
                "uploaded": report.uploaded,
                "verified": report.verified,
                "dropped": report.dropped,
                "bodies_moved": moved,
            },
            f"{plural(report.uploaded, 'segment')} uploaded, {report.verified:,} verified by "
            f"reading them back, {report.dropped:,} deleted here; "
            f"{plural(moved, 'body', 'bodies')} left the database",
            code=1 if report.faults else 0,
        )
    return report.faults or []


def pause(stop: Callable[[], int | None], seconds: float = _LOOKS_S) -> int | None:
    """Waits; gives the exit code at once when the operator wants to end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and stop() is None:
        # Short naps: a signal sets a flag only, and Python takes up an interrupted sleep again.
        time.sleep(0.2)
    return stop()


def _check(setup: Setup, place: Place) -> int:
    from tweetcrawler.keeping.places import trial

    found = [*trial(place), f"{place.url} can be used: it stores, gives back, lists and deletes"]
    setup.front.report({"place": place.url, "said": found}, "\n".join(found))
    return 0


def _list(setup: Setup, place: Place) -> int:
    from tweetcrawler.keeping.restoring import Catalog

    catalog = Catalog(place)
    rows = [
        f"{one.name}  {plural(one.posts, 'post')}  {one.file_bytes:,} bytes  {one.first_at or ''}"
        for one in catalog.manifests
    ]
    keys = ("name", "posts", "file_bytes", "first_at")
    listed = [{key: getattr(one, key) for key in keys} for one in catalog.manifests]
    setup.front.answer(
        {"place": place.url, "segments": listed, "faults": catalog.faults}, "\n".join(rows)
    )
    return _told(setup, catalog.faults)


def _verify(setup: Setup, place: Place, names: tuple[str, ...]) -> int:
    """Reads segments back: all of them, or one."""
    from tweetcrawler.keeping.restoring import Catalog

    catalog = Catalog(place)
    chosen = [one for one in catalog.manifests if not names or one.name in names]
    if names and not chosen:
        raise ConfigurationError(f"{place.url} has no segment {names[0]}; see `archive list`")
    faults = [fault for one in chosen if (fault := catalog.fault_of(one))]
    left = [
        f"{name} has no manifest: its upload did not end" for name in catalog.without_manifest()
    ]
    wrong = [*catalog.faults, *faults, *left]
    whole = len(chosen) - len(faults)
    setup.front.report(
        {"place": place.url, "segment_count": len(chosen), "whole": whole, "faults": wrong},
        f"{whole:,} of {plural(len(chosen), 'segment')} whole",
        code=1 if wrong else 0,
    )
    return _told(setup, wrong)


def _told(setup: Setup, faults: list[str]) -> int:
    for sentence in faults:
        setup.front.note(sentence)
    return 1 if faults else 0


def _kept_for(text: str) -> float:
    """A time in seconds; 0 is one, too."""
    return 0.0 if text.strip() == "0" else duration(text)


COMMAND = Command(
    name="archive",
    summary="keep pages in a folder or bucket",
    group=KEEP,
    about="Pages are written into segments, files of 20,000 posts. A segment is uploaded, read "
    "back and compared by its SHA-256. Only then its local file goes, and with --keep-bodies the "
    "bodies in the database. Without --once it repeats this each minute until it is stopped.\n"
    "check: store, read and delete 1 kB there, and say what the place does not check.\n"
    "list: the segments of the place. verify: read them back, or one of them.\n"
    "Keys of a bucket come from the default chain of AWS, or from TWEETCRAWLER_S3KEY and "
    "TWEETCRAWLER_S3SECRET.",
    words=Words("[check|list|verify [NAME]]", "acts"),
    options=(
        option(
            "--archive-place",
            metavar="URL",
            type=text_of,
            places=EVERYWHERE,
            help="s3://bucket/prefix or file:///folder",
        ),
        ARCHIVE_FOLDER,
        option("--once", help="bring all pages of now, and end"),
        option(
            "--keep-bodies",
            metavar="TIME",
            type=_kept_for,
            places=EVERYWHERE,
            help="time that bodies stay in the database after they were bought, as 0 or 30d",
            more="A body leaves only when its segment is verified. Exports and reports read it "
            "from the segment then",
            default="for ever",
        ),
        option(
            "--keep-local",
            metavar="TIME",
            type=_kept_for,
            places=EVERYWHERE,
            help="time that a verified file stays here, as 0, 12h or 7d",
            default="7d",
        ),
        *S3_OPTIONS,
    ),
    values=Values,
    run=run,
    examples=(
        (
            "tweetcrawler archive --archive-place s3://my-bucket/tweets --once",
            "upload, verify, delete",
        ),
        ("tweetcrawler archive check --archive-place file:///mnt/disk", "try a place with 1 kB"),
        ("tweetcrawler archive verify", "read back every segment of the place in tweet.ini"),
    ),
    price="nothing at X; a bucket bills what it stores, and reading back.",
)
