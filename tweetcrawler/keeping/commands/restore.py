"""Command `restore`: makes rows, pages and coverage of the segments of a place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.keeping.commands.buckets import S3_OPTIONS
from tweetcrawler.settings.commands import KEEP, Command, Words
from tweetcrawler.settings.types import text_of
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """The place, and how its bucket is reached."""

    place: str
    s3_endpoint: str = ""
    s3_region: str = ""
    s3_profile: str = ""


def run(setup: Setup, values: Values) -> int:
    """Restores, and says what came back."""
    from tempfile import TemporaryDirectory

    from tweetcrawler.keeping.ledger import know_place
    from tweetcrawler.keeping.places import place_of, s3_options
    from tweetcrawler.keeping.replay import Restorer
    from tweetcrawler.keeping.restoring import Catalog
    from tweetcrawler.sentiment import scorer
    from tweetcrawler.setup import Stop

    setup.log()
    options = s3_options(values.s3_endpoint, values.s3_region, values.s3_profile)
    catalog = Catalog(place_of(values.place, options))
    settings = setup.settings
    with (
        setup.database("restore writes to PostgreSQL") as database,
        Stop() as stop,
        database.session(stopping=lambda: stop() is not None) as session,
        TemporaryDirectory() as folder,
    ):
        know_place(session, catalog.url, options)
        restorer = Restorer(
            session,
            score=scorer() if settings.sentiment else None,
            rest_s=settings.recheck_days * 86_400.0,
            stopped=stop,
        )
        done = restorer.restore(catalog, Path(folder))
        stopped = stop()
    code = stopped if stopped is not None else 1 if done.faults else 0
    counts = {name: getattr(done, name) for name in ("pages", "posts", "segments", "known")}
    setup.front.report(
        {**counts, "faults": done.faults},
        f"{plural(done.pages, 'page')} with {plural(done.posts, 'post')} restored from "
        f"{plural(done.segments, 'segment')}; {done.known:,} pages were stored already",
        code=code,
    )
    for sentence in done.faults:
        setup.front.note(sentence)
    return code


COMMAND = Command(
    name="restore",
    summary="build the database again from it",
    group=KEEP,
    about="For a new database. Posts are made from the pages again, and coverage follows from "
    "them by the rule of the crawl. An interrupted restore continues where it was.\n"
    "Only what was bought as pages comes back: not imported posts, counts over time, or the "
    "lists of trends.",
    words=Words(
        "PLACE",
        "place",
        text_of,
        several=False,
        needs="s3://bucket/prefix or file:///folder after it",
    ),
    options=S3_OPTIONS,
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler restore s3://my-bucket/tweets", "a new database from a bucket"),
        ("tweetcrawler restore file:///mnt/disk --dbname new", "from a folder"),
        ("tweetcrawler restore file:///mnt/disk", "the same, into the private PostgreSQL"),
    ),
    price="nothing at X; a bucket bills reading.",
)
