"""Bodies of pages that left the database: read from the segment on disk, or from its place."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

import zstandard

from tweetcrawler.keeping.archive import key_of, sha256_of
from tweetcrawler.keeping.lines import page_of
from tweetcrawler.keeping.manifests import DATA, SegmentError
from tweetcrawler.keeping.places import fetch, place_of, s3_options
from tweetcrawler.keeping.segments import whole_frames

# Pages come nearly in the order of their segments; the next one begins before one ends.
_HELD_AT_ONCE = 2

_SEGMENT = """
SELECT s.name, s.tries, s.folder, s.place, s.sha256, coalesce(w.endpoint, ''),
    coalesce(w.region, ''), coalesce(w.profile, '')
FROM crawl_page p JOIN crawl_segment s ON s.id = p.segment_id
LEFT JOIN crawl_place w ON w.url = s.place
WHERE p.id = %s
"""


class _Segment(NamedTuple):
    """A segment as the ledger names it, and how its place is reached."""

    name: str
    tries: int
    folder: str
    place: str
    sha256: str
    endpoint: str
    region: str
    profile: str


class MovedBodies:
    """Gives the body of a page by its id. Memory holds two compressed segments.

    **Errors**: `PlaceError` when the place does not work now, `PlaceRefused` when it cannot be
    used from here, `SegmentError` when the segment is damaged or lost.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def __call__(self, page: UUID | str) -> bytes:
        """The body of a page as X sent it."""
        row = self._connection.execute(_SEGMENT, [page]).fetchone()
        if row is None:
            raise SegmentError(f"no segment has the body of page {page}: buy its posts again")
        segment = _Segment(*row)
        if segment.sha256 not in self._held:
            while len(self._held) >= _HELD_AT_ONCE:
                self._held.popitem(last=False)
            self._held[segment.sha256] = _held(segment)
        self._held.move_to_end(segment.sha256)
        return self._held[segment.sha256].body(str(page))


class _Held:
    """The frames of a segment, and which of them has which page."""

    def __init__(self, source: BinaryIO) -> None:
        self._frames: list[bytes] = []
        self._where: dict[str, int] = {}
        # The frames stay compressed. Pages come nearly in their order, so that one that is
        # unpacked serves many.
        self._last: tuple[int, dict[str, bytes]] = (-1, {})
        for at, (frame, raw) in enumerate(whole_frames(source)):
            self._frames.append(frame)
            self._where.update(dict.fromkeys(_bodies(raw), at))

    def body(self, page: str) -> bytes:
        """The body of a page."""
        at = self._where.get(page)
        if at is None:
            raise SegmentError(f"the segment of page {page} does not hold it: buy its posts again")
        if at != self._last[0]:
            self._last = at, _bodies(zstandard.decompress(self._frames[at]))
        return self._last[1][page]


def _bodies(raw: bytes) -> dict[str, bytes]:
    pages = map(page_of, raw.split(b"\n")[:-1])
    return {page.id: page.body for page in pages}


def _held(segment: _Segment) -> _Held:
    path = Path(segment.folder) / (segment.name + DATA)
    # The folder may be one of another machine.
    if segment.folder and path.exists() and sha256_of(path) == segment.sha256:
        with path.open("rb") as file:
            return _Held(file)
    options = s3_options(segment.endpoint, segment.region, segment.profile)
    place, name = place_of(segment.place, options), key_of(segment.name, segment.tries) + DATA
    with TemporaryDirectory() as folder:
        own = Path(folder) / name
        fetch(place, name, own)
        if sha256_of(own) != segment.sha256:
            raise SegmentError(f"{place.url}/{name} is damaged: see `tweetcrawler archive verify`")
        with own.open("rb") as file:
            return _Held(file)
