"""Segments without deleted posts: each that holds one is written again, and the old one goes.

The new segment is stored and read back before the old one is deleted. Its manifest names the
hash of the old one, so a call that was killed is finished by the next: an old segment beside
its new one is deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tweetcrawler.files import sync_folder
from tweetcrawler.keeping.archive import entry_of, locked_for_archive, sha256_of
from tweetcrawler.keeping.lines import KINDS
from tweetcrawler.keeping.manifests import DATA, MANIFEST, Manifest, SegmentError
from tweetcrawler.keeping.places import Place, place_of, put_once, s3_options, sha256_at
from tweetcrawler.keeping.restoring import Catalog
from tweetcrawler.keeping.segments import Writer, read_manifests, write_manifest
from tweetcrawler.keeping.sweep import Gone
from tweetcrawler.keeping.tombstones import blanked
from tweetcrawler.run import Doing

_PLACES = """
SELECT DISTINCT s.place, coalesce(w.endpoint, ''), coalesce(w.region, ''), coalesce(w.profile, '')
FROM crawl_segment s LEFT JOIN crawl_place w ON w.url = s.place WHERE s.place <> ''
"""
_FOLDERS = """
SELECT DISTINCT folder FROM crawl_segment WHERE folder <> '' AND state <> 'dropped'
"""
_RENAME = """
UPDATE crawl_segment SET name = %(name)s, sha256 = %(sha256)s, file_bytes = %(file_bytes)s,
    lines = %(lines)s, posts = %(posts)s, state = %(state)s, tries = 0,
    place = CASE WHEN %(state)s = 'dropped' THEN place ELSE '' END
WHERE name = %(old)s
"""


@dataclass
class Rewritten:
    """The work of one call: segments, objects blanked in them, and a sentence for each fault."""

    segments: int = 0
    objects: int = 0
    faults: list[str] = field(default_factory=list)


def rewrite(session: Doing, folder: Path, gone: Gone) -> Rewritten:
    """Takes posts and users out of every segment of this folder and the ledger's places.

    **Errors**: `SegmentError` when another process works in a folder, or a segment is damaged.
    `PlaceError` when a place does not work; the next call goes on.
    """
    done = Rewritten()
    rows = session.do(lambda connection: connection.execute(_FOLDERS).fetchall())
    named = {Path(row[0]) for row in rows} | {folder.absolute()}
    for missing in sorted(
        str(one) for one in named if not one.is_dir() and one != folder.absolute()
    ):
        done.faults.append(f"{missing} is not on this machine: run comply where it is, too")
    folders = sorted(one for one in named if one.is_dir())
    with ExitStack() as held:
        for one in folders:
            # All locks before any work: a call that cannot have one leaves everything as it
            # was.
            held.enter_context(locked_for_archive(one))
            _close_open(one)
        rows = session.do(lambda connection: connection.execute(_PLACES).fetchall())
        places = [place_of(url, s3_options(*more)) for url, *more in rows]
        rewriter = _Rewriter(session, folders, places, gone, done)
        rewriter.finish_interrupted()
        for place in places:
            rewriter.at_place(place)
        for one in folders:
            rewriter.in_folder(one)
    return done


def _close_open(folder: Path) -> None:
    """Closes every segment that is still open, so that it can be read as a whole.

    **Errors**: `SegmentError` when a program still writes there: it may hold a page in memory.
    """
    for lock in folder.glob(".*-*.lock"):
        kind, _, node = lock.name[1:].removesuffix(".lock").partition("-")
        if kind in KINDS:
            writer = Writer(folder, kind, node=node)
            try:
                writer.close_segment()
            finally:
                writer.close()


class _Rewriter:
    def __init__(
        self,
        session: Doing,
        folders: Collection[Path],
        places: Collection[Place],
        gone: Gone,
        done: Rewritten,
    ) -> None:
        self._session = session
        self._folders = folders
        self._places = places
        self._gone = gone
        self._done = done

    def finish_interrupted(self) -> None:
        """Deletes every old segment beside its new one."""
        there: dict[str, Manifest] = {}
        for place in self._places:
            there |= {one.sha256: one for one in Catalog(place).all_manifests}
        for new in [*there.values()]:
            for sha256 in new.replaces:
                if (old := there.get(sha256)) is not None:
                    self._replaced(old.name, new, "dropped")
        for folder in self._folders:
            here = {one.sha256: one for one in read_manifests(folder)[0]}
            for new in here.values():
                olds = [here[sha256] for sha256 in new.replaces if sha256 in here]
                if new.sha256 not in there and not (folder / (new.name + DATA)).exists() and olds:
                    (folder / (new.name + MANIFEST)).unlink()
                    continue
                state = "dropped" if new.sha256 in there else "closed"
                for old in olds:
                    self._replaced(old.name, new, state)

    def at_place(self, place: Place) -> None:
        """Rewrites the segments of a place."""
        catalog = Catalog(place)
        self._done.faults += catalog.faults
        for manifest in catalog.manifests:
            with TemporaryDirectory() as name:
                folder = Path(name)
                catalog.fetch(manifest, folder)
                made = blanked(folder, manifest, *self._gone[:3])
                if made is None:
                    continue
                for ending in (DATA, MANIFEST):
                    _store(place, folder / (made[0].name + ending))
                self._count(made[1])
                self._replaced(manifest.name, made[0], "dropped")

    def in_folder(self, folder: Path) -> None:
        """Rewrites the segments of a folder that are at no place."""
        manifests = read_manifests(folder)[0]
        for manifest in manifests:
            if not (folder / (manifest.name + DATA)).exists():
                continue
            # In the folder itself, since a rename is atomic only inside one file system.
            with TemporaryDirectory(dir=folder, prefix=".rewriting-") as name:
                own = Path(name)
                shutil.copyfile(folder / (manifest.name + DATA), own / (manifest.name + DATA))
                made = blanked(own, manifest, *self._gone[:3])
                if made is None:
                    continue
                # The manifest first: data without one would look like a segment that is open.
                write_manifest(folder, made[0])
                (own / (made[0].name + DATA)).rename(folder / (made[0].name + DATA))
                sync_folder(folder)
            self._count(made[1])
            self._replaced(manifest.name, made[0], "closed")

    def _count(self, objects: int) -> None:
        self._done.segments += 1
        self._done.objects += objects

    def _replaced(self, old: str, new: Manifest, state: str) -> None:
        """The ledger learns the new segment, then the old one goes everywhere."""
        given: Mapping[str, Any] = {**asdict(entry_of(new)), "old": old, "state": state}
        self._session.do(lambda connection: connection.execute(_RENAME, given))
        for folder in self._folders:
            if (folder / (old + MANIFEST)).exists():
                write_manifest(folder, new)
            for path in sorted(folder.glob(f"{old}.*"), reverse=True):
                path.unlink()
            sync_folder(folder)
        for place in self._places:
            # Uploads that could not be read back have the text, too.
            for stored in [one.name for one in place.names() if one.name.startswith(old)]:
                place.delete(stored)


def _store(place: Place, path: Path) -> None:
    digest = sha256_of(path)
    put_once(place, path.name, path, digest)
    if sha256_at(place, path.name) != digest:
        raise SegmentError(f"{place.url} gives {path.name} back otherwise: run comply again")
