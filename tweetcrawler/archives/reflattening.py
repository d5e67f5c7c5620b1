"""Rows made again from the stored pages: after a change of the rules, or a damage.

X is not asked. How far the pages were read is saved with the rows, as for the import of a
file, so an interrupted run goes on after its last batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from tweetcrawler import __version__
from tweetcrawler.archives import pieces
from tweetcrawler.archives.importing import ROWS_A_BATCH, merged_rows
from tweetcrawler.flatten import Flattened, Partial, flatten
from tweetcrawler.people import Heard

if TYPE_CHECKING:
    from tweetcrawler.db import Database, ImportState, Session
    from tweetcrawler.pages import StoredPage

# The name of the reading among those of files; no file has it, since theirs are absolute.
STORED_PAGES = "stored pages"


@dataclass(frozen=True)
class Reflattened:
    """Counts of a reading of all pages; `finished` is false when it was stopped before."""

    posts: int
    new: int
    updated: int
    finished: bool


def reflatten(
    database: Database,
    run: int,
    *,
    score: Callable[[str], float] | None,
    stopped: Callable[[], object],
) -> Reflattened:
    """Saves the rows of all stored pages again, in the order of the pages.

    What the pages do not tell stays in the rows. A batch of posts is in memory at a time.
    """
    with database.session() as session:
        state = _begun(session, run)
        pages = database.stored_pages(after=state.position[1])
        return _read(session, pages, state, score, stopped)


def _begun(session: Session, run: int) -> ImportState:
    """How far an earlier reading came; the beginning when it came to the end."""

    def begin(again: bool) -> ImportState:
        # The version stands where a file has its hash: after an upgrade, whose rules may be
        # others, the reading begins from the start.
        return session.begin_import(
            run, STORED_PAGES, size=0, fingerprint=__version__, head=__version__, again=again
        )

    state = begin(again=False)
    return begin(again=True) if state.finished else state


def _read(
    session: Session,
    pages: Iterable[StoredPage],
    state: ImportState,
    score: Callable[[str], float] | None,
    stopped: Callable[[], object],
) -> Reflattened:
    rows: dict[int, dict[str, Any]] = {}
    heard = Heard()
    reached, finished = state.position[1], True
    for page in pages:
        for one in flattened(page.body, score):
            merge_into(rows, one.rows)
            heard.add(one.told._replace(seen_at=page.fetched_at))
        reached = page.position
        if len(rows) >= ROWS_A_BATCH:
            state = _save(session, state, (rows, heard), reached, finished=False)
            rows, heard = {}, Heard()
        if stopped():
            finished = False
            break
    state = _save(session, state, (rows, heard), reached, finished=finished)
    return Reflattened(state.posts, state.new, state.updated, finished)


def flattened(body: bytes, score: Callable[[str], float] | None) -> Iterator[Flattened]:
    """The rows of an answer; none of one that holds users, trends or counts."""
    for piece in pieces.recognise(orjson.loads(body)):
        if piece.kind == pieces.PAGE:
            yield flatten(piece.thing, score=score)


def merge_into(rows: dict[int, dict[str, Any]], later: Iterable[dict[str, Any]]) -> None:
    """Merges the rows of a later page into those of earlier ones."""
    for row in later:
        known = rows.get(row["id"])
        rows[row["id"]] = row if known is None else merged_rows(known, row)


def _save(
    session: Session,
    state: ImportState,
    read: tuple[dict[int, dict[str, Any]], Heard],
    reached: int,
    *,
    finished: bool,
) -> ImportState:
    rows, heard = read
    posts = state.posts + len(rows)
    wanted = replace(state, position=(0, reached, 0), posts=posts, finished=finished)
    if wanted == state:
        return state
    sorted_rows = [rows[tweet_id] for tweet_id in sorted(rows)]
    partial = [row["id"] for row in sorted_rows if isinstance(row, Partial)]
    saved = session.load(state, sorted_rows, wanted, partial=partial, bought=True, heard=heard)
    # Another process that reads the pages, too, has come further; its rows are the same.
    return replace(wanted, finished=finished) if saved is None else saved
