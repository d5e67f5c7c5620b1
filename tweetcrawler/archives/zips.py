"""Members of a zip file, such as an account download, each opened when it is wanted."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

_ENCRYPTED = 0x1


class Member(NamedTuple):
    """A file in a zip. `open` gives its bytes unpacked, as a stream."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


@contextmanager
def members(file: IO[bytes]) -> Iterator[dict[str, Member]]:
    """The files in a zip by name, in the order of its list, which is at its end.

    So a zip cannot be read from a pipe. Nothing is unpacked to the disk, and of names
    nothing is made but keys.

    **Errors**: ValueError, with a sentence, for a pipe and for what is no zip; from `open`
    for a member with a password or packed in an unknown way.
    """
    if not file.seekable():
        raise ValueError("a zip cannot be read from a pipe: name the file")
    try:
        book = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is no whole zip: {error}") from None
    with book:
        yield {
            info.filename: Member(info.filename, info.file_size, _opener(book, info))
            for info in book.infolist()
            if not info.is_dir()
        }


def _opener(book: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        if info.flag_bits & _ENCRYPTED:
            raise ValueError("it is locked with a password: unpack it first")
        try:
            return book.open(info)
        except (NotImplementedError, zipfile.BadZipFile) as error:
            raise ValueError(f"it cannot be unpacked: {error}") from None

    return opened
