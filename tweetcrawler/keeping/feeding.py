"""Stored pages on their way from the database into segments."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tweetcrawler.db import Database, Session
from tweetcrawler.keeping.ledger import kept_pages
from tweetcrawler.keeping.lines import PAGES, page_line, page_of
from tweetcrawler.keeping.manifests import DATA
from tweetcrawler.keeping.segments import Writer, lines_of

_AT_ONCE = 50


class Feeder:
    """Writes every page that no segment has yet.

    The database knows the pages in verified segments, the folder those in the others. So pages
    are neither lost nor written twice when a folder or a database is new.
    """

    def __init__(self, database: Database, session: Session, folder: Path, writer: Writer) -> None:
        self._database = database
        self._session = session
        self._writer = writer
        self._after = 0
        self._on_disk = set(_pages_in(folder, session))

    def feed(self) -> int:
        """Writes the pages of today, and gives their number."""
        count = 0
        pages = self._database.stored_pages(after=self._after, without_segment=True)
        while block := list(islice(pages, _AT_ONCE)):
            wanted = [page for page in block if str(page.id) not in self._on_disk]
            for kept in kept_pages(self._session, [(p.id, p.position, p.body) for p in wanted]):
                self._writer.append(page_line(kept))
            count += len(wanted)
            self._after = block[-1].position
        self._writer.sync()
        return count


def _pages_in(folder: Path, session: Session) -> list[str]:
    """The ids of the pages in segments of the folder that are not verified."""
    rows = session.do(lambda connection: connection.execute(_VERIFIED).fetchall())
    verified = {name for (name,) in rows}
    found: list[str] = []
    for path in sorted(folder.glob(f"{PAGES}-*{DATA}")):
        if path.name.removesuffix(DATA) not in verified:
            with path.open("rb") as file:
                found += [page_of(text).id for text in lines_of(file)]
    return found


_VERIFIED = """
SELECT name FROM crawl_segment WHERE state IN ('verified', 'dropped')
"""
