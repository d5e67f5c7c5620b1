"""Streams of bytes, unpacked piece by piece: what a small file unpacks to has a limit."""

from __future__ import annotations

import bz2
import functools
import lzma
import re
import select
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, NamedTuple, Protocol

import zstandard

BLOCK_BYTES = 128 * 1024
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    tarfile.TarError,
)
"""The errors of a file that is damaged or cannot be read."""


class Stopped(Exception):
    """The operator wanted an end while nothing came from standard input."""


class Stream:
    """Blocks of bytes, of which the first may be looked at before they are taken."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._ahead = b""

    def block(self) -> bytes:
        """Some bytes; none at the end."""
        if self._ahead:
            block, self._ahead = self._ahead, b""
            return block
        return self._more()

    def peek(self, size: int) -> bytes:
        """The next bytes, at least `size` of them unless the end is nearer; they stay."""
        if len(self._ahead) < size:
            ahead = bytearray(self._ahead)
            while len(ahead) < size and (block := self._more()):
                ahead += block
            self._ahead = bytes(ahead)
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer only at the end, which is what tarfile expects."""
        if size < 0:
            return b"".join(iter(self.block, b""))
        taken = self.peek(size)
        self._ahead = taken[size:]
        return taken[:size]


class File(Stream):
    """A file that counts its bytes read, and can be positioned unless it is a pipe."""

    def __init__(self, file: IO[bytes], stopping: Callable[[], bool]) -> None:
        super().__init__(self._read)
        self.file = file
        self.stopping = stopping
        self.seekable = file.seekable()
        self.bytes_read = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        ahead = offset - self.tell()
        if whence == 0 and 0 <= ahead <= len(self._ahead):
            self._ahead = self._ahead[ahead:]
        else:
            self._ahead = b""
            self.bytes_read = self.file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return self.bytes_read - len(self._ahead)

    def _read(self) -> bytes:
        # A read of a pipe blocks until something comes, and Python starts it again after a
        # signal: an end that was asked for would wait for data.
        while not self.seekable and not select.select([self.file], [], [], 0.2)[0]:
            if self.stopping():
                raise Stopped
        block = self.file.read(BLOCK_BYTES)
        self.bytes_read += len(block)
        return block


# --- compression ----------------------------------------------------------------------------------

PIECE_BYTES: Final = 1024 * 1024
# 64 kB can be made to unpack to gigabytes. Posts unpack to fifty times their size at most.
FREE_BYTES: Final = 16 * 1024 * 1024
RATIO_MAX: Final = 300


class _Unpacker(Protocol):
    """One compressed stream. `unused_data` are the bytes after its end, once it is `eof`."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def pieces(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    def __init__(self) -> None:
        # 31: with the header and the checksum of gzip, which zlib then verifies.
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._inner.decompress(data, PIECE_BYTES)
            yield piece
            data = self._inner.unconsumed_tail
            # A full piece may have been cut off: zlib can hold more although its input is used
            # up.
            if not data and len(piece) < PIECE_BYTES:
                return


class _Limited:
    """The unpackers of bzip2 and xz, which keep the rest of their input themselves."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._inner = make()

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data, PIECE_BYTES)
        while not self._inner.eof and not self._inner.needs_input:
            yield self._inner.decompress(b"", PIECE_BYTES)


class _Zstd:
    """zstd gives all that its input unpacks to at once, so it is fed in small parts."""

    # Four bytes may stand for a block of 128 KB.
    _FED: Final = 2048

    def __init__(self) -> None:
        # Large collections are often packed with `--long=31`.
        self._inner = zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for begin in range(0, len(data), self._FED):
            end = begin + self._FED
            yield self._inner.decompress(data[begin:end])
            if self._inner.eof:
                self.unused_data = self._inner.unused_data + data[end:]
                return


class _Packing(NamedTuple):
    name: str
    begins: re.Pattern[bytes]
    unpacker: Callable[[], _Unpacker]


_PACKINGS: Final = (
    _Packing("gzip", re.compile(rb"\x1f\x8b"), _Zlib),
    _Packing("bzip2", re.compile(rb"BZh[1-9]"), lambda: _Limited(bz2.BZ2Decompressor)),
    _Packing("xz", re.compile(rb"\xfd7zXZ\x00"), lambda: _Limited(lzma.LZMADecompressor)),
    # Some tools (pzstd) begin with a skippable frame, for which zstd has sixteen marks.
    _Packing("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _Zstd),
)
_MAGIC_BYTES = 6


def opened(stream: Stream) -> Stream:
    """The stream, unpacked if it is compressed."""
    head = stream.peek(_MAGIC_BYTES)
    for packing in _PACKINGS:
        if packing.begins.match(head):
            return Stream(functools.partial(next, _unpacked(stream, packing), b""))
    return stream


def _unpacked(stream: Stream, packing: _Packing) -> Iterator[bytes]:
    """The contents, uncompressed.

    Several compressed streams in a row are one file, as their tools see it.
    """
    unpacker = packing.unpacker()
    taken = given = 0
    while block := stream.block():
        taken += len(block)
        while block:
            if unpacker.eof:
                block = block.lstrip(b"\x00")  # filled up to the block of a tape
                if not block:
                    break
                # A block may end inside the first bytes of the next stream.
                if len(block) < _MAGIC_BYTES:
                    block += stream.block()
                if not packing.begins.match(block):
                    raise ValueError(f"something else stands behind the {packing.name} data")
                unpacker = packing.unpacker()
            for piece in unpacker.pieces(block):
                given += len(piece)
                if given > FREE_BYTES and given > RATIO_MAX * taken:
                    raise ValueError(
                        f"it unpacks to more than {RATIO_MAX} times its size, as posts never do"
                    )
                if piece:
                    yield piece
            block = unpacker.unused_data if unpacker.eof else b""
    if not unpacker.eof:
        raise EOFError(f"the {packing.name} data ends too early")
