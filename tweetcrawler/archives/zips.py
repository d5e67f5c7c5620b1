"""Members of a zip file, such as an account download, each opened when it is wanted."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple, cast

from tweetcrawler.archives.packing import FREE_BYTES, RATIO_MAX

_ENCRYPTED = 0x1
# Of these zipfile unpacks all that it has read at once, and it reads at least so much.
_UNPACKED_AT_ONCE = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_READ_BYTES = 4096


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


def refuse_bombs(infos: Iterable[zipfile.ZipInfo]) -> None:
    """**Errors**: BadZipFile for a member that says it unpacks to gigabytes; one that unpacks
    to more than it says is cut off by zipfile, and its checksum fails.
    """
    for info in infos:
        if info.file_size > max(FREE_BYTES, RATIO_MAX * info.compress_size):
            raise zipfile.BadZipFile(
                f"it unpacks to more than {RATIO_MAX} times its size, as posts never do"
            )


class _InSmallReads(io.RawIOBase):
    """A member of which a read takes little from the file, however much is asked for."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self._member.read(_READ_BYTES), b""))
        return self._member.read(min(size, _READ_BYTES))

    def close(self) -> None:
        self._member.close()
        super().close()


def _opener(book: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        if info.flag_bits & _ENCRYPTED:
            raise ValueError("it is locked with a password: unpack it first")
        try:
            refuse_bombs([info])
            member = book.open(info)
            is_greedy = info.compress_type in _UNPACKED_AT_ONCE
            return cast("IO[bytes]", _InSmallReads(member)) if is_greedy else member
        except (NotImplementedError, zipfile.BadZipFile) as error:
            raise ValueError(f"it cannot be unpacked: {error}") from None

    return opened
