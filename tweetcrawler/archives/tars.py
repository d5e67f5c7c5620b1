"""Members of a tar that others need, such as the users of a page, wherever they stand in it.

A tar is read from the front, and the users may come after their posts. So the first member
that needs another one has the whole tar looked through once.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from tweetcrawler.archives.formats import is_beside, pair_of
from tweetcrawler.archives.packing import READ_ERRORS, File, opened

BESIDE_MAX_BYTES = 64 * 1024 * 1024
"""A file that goes with another one is read at once, and never larger."""


class Beside:
    """The members of a tar that others need. A tar that comes through a pipe has none: it cannot
    be read twice.
    """

    def __init__(self, path: str, stopping: Callable[[], bool]) -> None:
        self._path = path
        self._stopping = stopping
        self._names: set[str] | None = None
        # On the disk, since a tar of many pages has as many users files.
        self._texts: IO[bytes] | None = None
        self._places: dict[str, tuple[int, int]] = {}

    def needs(self, name: str) -> bool:
        """Whether a member of this name belongs to another one, which takes it along."""
        return is_beside(name) and self._looked_through() and name in (self._names or ())

    def of(self, name: str) -> bytes | None:
        """The bytes of the member that this one needs; None if it needs none, or there is none."""
        pair = pair_of(name)
        if pair is None or not self._looked_through() or pair[1] not in self._places:
            return None
        offset, size = self._places[pair[1]]
        assert self._texts is not None  # noqa: S101 - it holds what has a place
        self._texts.seek(offset)
        return self._texts.read(size)

    def close(self) -> None:
        """Gives the disk back."""
        if self._texts is not None:
            self._texts.close()

    def _looked_through(self) -> bool:
        if self._path == "-":
            return False
        if self._names is None:
            self._names = set()
            self._texts = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does
            # The reader from the front says where a tar is damaged.
            with suppress(*READ_ERRORS), Path(self._path).open("rb", buffering=0) as raw:
                self._keep_all(File(raw, self._stopping))
        return True

    def _keep_all(self, file: File) -> None:
        stream: Any = opened(file)
        mode: Any = "r:" if stream is file else "r|"
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode=mode) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # else it keeps them all
                if not member.isfile():
                    continue
                if pair := pair_of(member.name):
                    cast("set[str]", self._names).add(pair[1])
                elif is_beside(member.name) and member.size <= BESIDE_MAX_BYTES:
                    self._keep(member.name, tar.extractfile(member))

    def _keep(self, name: str, member: IO[bytes] | None) -> None:
        texts = cast("IO[bytes]", self._texts)
        text = member.read() if member is not None else b""
        self._places[name] = texts.seek(0, 2), len(text)
        texts.write(text)
