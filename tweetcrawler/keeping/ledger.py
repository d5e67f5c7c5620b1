"""Ledger of segments in PostgreSQL, and the pages that they hold.

A page learns its segment in the transaction that says the segment is verified. A body leaves
`crawl_page` only where the segment of its page is verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tweetcrawler.keeping.archive import Entry
from tweetcrawler.keeping.lines import PAGES, KeptPage, page_of
from tweetcrawler.keeping.manifests import DATA
from tweetcrawler.keeping.places import S3Options
from tweetcrawler.keeping.segments import lines_of, read_manifests
from tweetcrawler.run import Doing

_RECORD = """
INSERT INTO crawl_segment AS s (name, kind, number, state, lines, posts, lowest_id, highest_id,
    file_bytes, sha256, folder, place, tries, position, uploaded_at, verified_at, dropped_at)
VALUES (%(name)s, %(kind)s, %(number)s, %(state)s, %(lines)s, %(posts)s, %(lowest_id)s,
    %(highest_id)s, %(file_bytes)s, %(sha256)s, %(folder)s, %(place)s, %(tries)s, %(position)s,
    %(uploaded_at)s, %(verified_at)s, %(dropped_at)s)
ON CONFLICT (name) DO UPDATE SET state = excluded.state, place = excluded.place,
    tries = excluded.tries, folder = excluded.folder, uploaded_at = excluded.uploaded_at,
    verified_at = excluded.verified_at, dropped_at = excluded.dropped_at
-- A process that was stopped for hours may come back with an older state: nothing that was
-- verified is taken back by it.
WHERE s.state NOT IN ('verified', 'dropped') OR excluded.state IN ('verified', 'dropped')
"""
_ATTACH = """
UPDATE crawl_page SET segment_id = s.id FROM crawl_segment s
WHERE s.name = %(name)s AND s.state IN ('verified', 'dropped')
    AND crawl_page.id = ANY(%(ids)s::uuid[]) AND crawl_page.segment_id IS NULL
"""
# A body is stored out of line, so to empty it neither reads nor copies it. Pages without posts
# are small, and `status` reads those of usage.
_MOVE = """
UPDATE crawl_page SET body = NULL FROM crawl_segment s
WHERE s.id = crawl_page.segment_id AND s.state IN ('verified', 'dropped')
    AND crawl_page.body IS NOT NULL AND crawl_page.post_count > 0
    AND crawl_page.fetched_at < clock_timestamp() - %(keep)s
"""
_FACTS = """
SELECT p.id, p.fetched_at, p.endpoint, p.params, p.run_id AS run, p.credential,
    p.post_count AS posts, p.user_count AS users, p.new_count AS new, p.updated_count AS updated,
    p.refused, t.kind, t.key, t.handle, t.username
FROM crawl_page p LEFT JOIN crawl_target t ON t.id = p.target_id
WHERE p.id = ANY(%(ids)s)
"""
_ENTRIES = """
SELECT name, kind, state, number, lines, posts, lowest_id, highest_id, file_bytes, sha256, place,
    tries, position, uploaded_at, verified_at, dropped_at
FROM crawl_segment WHERE folder = %(folder)s OR name = ANY(%(names)s) ORDER BY kind, number
"""


_KNOW_PLACE = """
INSERT INTO crawl_place (url, endpoint, region, profile) VALUES (%s, %s, %s, %s)
ON CONFLICT (url) DO UPDATE SET endpoint = excluded.endpoint, region = excluded.region,
    profile = excluded.profile
"""


class SqlLedger:
    """The ledger in `crawl_segment`, for `keeping.archive.Archive` of the same folder."""

    def __init__(self, session: Doing, folder: Path) -> None:
        self._session = session
        self._folder = folder

    def entries(self) -> list[Entry]:
        """See `Ledger`."""
        names = [one.name for one in read_manifests(self._folder)[0]]
        given = {"folder": str(self._folder.absolute()), "names": names}
        rows = self._session.do(lambda connection: connection.execute(_ENTRIES, given).fetchall())
        return [_entry(row) for row in rows]

    def record(self, entry: Entry) -> None:
        """See `Ledger`."""
        # Read before the transaction: it may be run again after a lost connection, and a
        # segment takes a while to unpack.
        held = self._pages_of(entry) if entry.state == "verified" else []

        def work(connection: Any) -> None:
            connection.execute(_RECORD, {**asdict(entry), "folder": str(self._folder.absolute())})
            if held:
                connection.execute(_ATTACH, {"name": entry.name, "ids": held})

        self._session.do(work)

    def move_bodies(self, keep: timedelta) -> int:
        """Empties the bodies of pages that are older and in a verified segment; their number."""
        return int(
            self._session.do(lambda connection: connection.execute(_MOVE, {"keep": keep}).rowcount)
        )

    def _pages_of(self, entry: Entry) -> list[str]:
        path = self._folder / (entry.name + DATA)
        # Without its file the pages stay as they are: their bodies do not leave the database.
        if entry.kind != PAGES or not path.exists():
            return []
        with path.open("rb") as file:
            return [page_of(text).id for text in lines_of(file)]


def know_place(session: Doing, url: str, options: S3Options) -> None:
    """Notes how a place is reached, for readers of the bodies there."""
    given = [url, options.endpoint, options.region, options.profile]
    session.do(lambda connection: connection.execute(_KNOW_PLACE, given))


def kept_pages(session: Doing, stored: Sequence[tuple[UUID, int, bytes]]) -> list[KeptPage]:
    """Pages as segments keep them, of their ids, positions and bodies, in the same order."""
    ids = [number for number, _, _ in stored]
    rows = session.do(lambda connection: _dicts(connection.execute(_FACTS, {"ids": ids})))
    known = {row.pop("id"): row for row in rows}
    return [_kept(number, position, body, known[number]) for number, position, body in stored]


def _dicts(cursor: Any) -> list[dict[str, Any]]:
    names = [one.name for one in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _kept(number: UUID, position: int, body: bytes, row: dict[str, Any]) -> KeptPage:
    facts = {name: value for name, value in row.items() if value is not None}
    at, endpoint, params = (facts.pop(name) for name in ("fetched_at", "endpoint", "params"))
    return KeptPage(str(number), at, endpoint, {**facts, "position": position}, params, body)


def _entry(row: Sequence[Any]) -> Entry:
    names = [one.name for one in fields(Entry)]
    values = [
        value.isoformat() if name.endswith("_at") and value else value
        for name, value in zip(names, row, strict=True)
    ]
    return Entry(*values)
