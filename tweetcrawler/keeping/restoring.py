"""Segments read back from a place, for a database that has lost them or never had them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from tweetcrawler.keeping.lines import PAGES, KeptPage, page_of
from tweetcrawler.keeping.manifests import (
    DATA,
    MANIFEST,
    Manifest,
    SegmentError,
    chain_faults,
    manifest_of,
)
from tweetcrawler.keeping.places import NothingThere, Place, fetch, sha256_at
from tweetcrawler.keeping.segments import check, lines_of


class Catalog:
    """The segments of a place, as their manifests tell: one of each that still counts.

    `faults` says in a sentence each what is foreign, newer, damaged or missing.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._keys: dict[str, str] = {}
        self.faults: list[str] = []
        self.all_manifests = found = list(self._manifests())
        self.faults += chain_faults(found)
        # A rewriting that was killed leaves the old segment beside its new one.
        replaced = {sha256 for one in found for sha256 in one.replaces}
        self.manifests = sorted(
            (one for one in found if one.sha256 not in replaced),
            key=lambda one: (one.kind, one.node, one.number),
        )

    @property
    def url(self) -> str:
        """The address of the place."""
        return self._place.url

    def tries_of(self, manifest: Manifest) -> int:
        """How often the segment was uploaded before; see `archive.key_of`."""
        _, _, tries = self._keys[manifest.sha256].partition("-again")
        return int(tries) if tries.isdigit() else 0

    def chosen(
        self, kind: str, since: datetime | None = None, until: datetime | None = None
    ) -> list[Manifest]:
        """The segments of a kind with lines from a time on, and before another one."""
        return [
            one
            for one in self.manifests
            if one.kind == kind
            # Without times nothing tells that it has no line of the span: it is looked through.
            and (since is None or one.last_at is None or _time(one.last_at) >= since)
            and (until is None or one.first_at is None or _time(one.first_at) < until)
        ]

    def fetch(self, manifest: Manifest, folder: Path) -> None:
        """Copies a segment into a folder, and compares it with its manifest.

        **Errors**: `SegmentError` when it is not what its manifest tells. `PlaceError`.
        """
        path = folder / (manifest.name + DATA)
        try:
            fetch(self._place, self._keys[manifest.sha256] + DATA, path)
        except OSError as error:
            raise SegmentError(f"{path} cannot be written: {error.strerror}; make room") from None
        check(path, manifest)

    def lines(self, manifest: Manifest, folder: Path) -> Iterator[bytes]:
        """The lines of a segment, fetched into a folder and compared with its manifest first.

        **Errors**: `SegmentError` when it is not what its manifest tells. `PlaceError`.
        """
        path = folder / (manifest.name + DATA)
        try:
            self.fetch(manifest, folder)
            with path.open("rb") as file:
                yield from lines_of(file)
        finally:
            # One segment at a time on the disk: a place may hold more than fits.
            path.unlink(missing_ok=True)

    def pages(
        self,
        folder: Path,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[KeptPage]:
        """The kept pages of a span of time, in the order of their segments.

        **Errors**: as `lines`.
        """
        for manifest in self.chosen(PAGES, since, until):
            for text in self.lines(manifest, folder):
                page = page_of(text)
                if (since is None or page.fetched_at >= since) and (
                    until is None or page.fetched_at < until
                ):
                    yield page

    def fault_of(self, manifest: Manifest) -> str | None:
        """What is wrong with a segment when it is read back; None for a whole one."""
        name = self._keys[manifest.sha256] + DATA
        try:
            found = sha256_at(self._place, name)
        except NothingThere as fault:
            return str(fault)
        if found != manifest.sha256:
            return f"{self._place.url}/{name} is not what its manifest tells: archive it again"
        return None

    def without_manifest(self) -> Sequence[str]:
        """Data without a manifest: an upload under way, or one that did not arrive well."""
        names = {one.name for one in self._place.names()}
        return sorted(
            name
            for name in names
            if name.endswith(DATA) and name.removesuffix(DATA) + MANIFEST not in names
        )

    def _manifests(self) -> Iterator[Manifest]:
        for name in [one.name for one in self._place.names() if one.name.endswith(MANIFEST)]:
            with self._place.read(name) as stream:
                text = stream.read()
            try:
                manifest = manifest_of(text, f"{self._place.url}/{name}")
            except SegmentError as fault:
                self.faults.append(str(fault))
                continue
            known = manifest.sha256 in self._keys
            self._keys[manifest.sha256] = name.removesuffix(MANIFEST)
            if not known:
                yield manifest


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
