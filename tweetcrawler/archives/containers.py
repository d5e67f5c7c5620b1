"""What archives hold: any file of posts that people keep, as one value after the other.

Files are recognised by their first bytes, never by their names: compressed or not, a tar, a
zip or a WARC of such files, workbooks, Parquet and databases, text in UTF-8 or UTF-16. They
are read as a stream, once, from the front. What a text holds, `texts` says; what a value is,
`pieces` decides from its keys.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import re
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from tweetcrawler.archives import tars, texts, zips
from tweetcrawler.archives.documents import (
    OTHER_FILE,
    Document,
    Position,
    damage,
    form_of,
    refused,
)
from tweetcrawler.archives.formats import (
    Format,
    TableFormat,
    TableRefusal,
    databases,
    foreign,
    pair_of,
    table_format,
    workbooks,
)
from tweetcrawler.archives.formats.fields import Score
from tweetcrawler.archives.packing import BLOCK_BYTES, READ_ERRORS, File, Stopped, Stream, opened
from tweetcrawler.archives.text import assignment, loads
from tweetcrawler.errors import PackageMissing
from tweetcrawler.flatten import Flattened

__all__ = ["STANDARD_INPUT", "Archive", "Stopped", "documents", "find", "identify"]

FINGERPRINT_BYTES = 64 * 1024

# What a file of posts is called, where others may lie beside it.
_NAMED_AS_POSTS = re.compile(
    r"(?!\.).*\.(jsonl?|ndjson|jsons|js|csv|tsv|tar|tgz|tbz2?|txz|tzst|zip|gz|bz2|xz|zst"
    r"|parquet|xlsx|db|sqlite3?|warc)",
    re.IGNORECASE,
).fullmatch
_READ_ERRORS = (*READ_ERRORS, zipfile.BadZipFile)


@dataclass(frozen=True)
class Archive:
    """A file to read.

    `path` is absolute, or "-" for standard input; `size` is in bytes, 0 when not known.

    `fingerprint` changes with the file: it is made of size, time of change and the first
    bytes; `head` is made of the first bytes alone, so that a file that only grew is known
    again.
    """

    path: str
    size: int = 0
    fingerprint: str = ""
    head: str = ""


STANDARD_INPUT: Final = Archive("-")


def find(path: Path, *, left_out: Callable[[Path], object] = lambda _: None) -> Iterator[Path]:
    """The file itself; of a folder, all files below it that are named like files of posts.

    In the order of their names. Other files go to `left_out`, but for hidden ones. A file
    that another one needs beside it, such as account.js, comes with that one. A folder is
    looked into once, also when links lead back to it.
    """
    if not path.is_dir():
        yield path
        return
    found = list(_below(path, left_out, set()))
    beside = {pair[1] for each in found if (pair := pair_of(str(each)))}
    yield from (each for each in found if str(each) not in beside)


def _below(
    folder: Path, left_out: Callable[[Path], object], seen: set[tuple[int, int]]
) -> Iterator[Path]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for inner in sorted(folder.iterdir()):
        if inner.name.startswith("."):
            continue
        if inner.is_dir():
            yield from _below(inner, left_out, seen)
        elif inner.is_file() and _NAMED_AS_POSTS(inner.name):
            yield inner
        else:
            left_out(inner)


def identify(path: Path) -> Archive:
    """The file with its fingerprint. **Errors**: OSError when it cannot be read."""
    with path.open("rb") as file:
        status = path.stat()
        head = hashlib.blake2b(file.read(FINGERPRINT_BYTES), digest_size=12).hexdigest()
    return Archive(str(path), status.st_size, f"{status.st_size}-{status.st_mtime_ns}-{head}", head)


@contextmanager
def documents(
    archive: Archive, start: Position, *, stopping: Callable[[], bool], score: Score = None
) -> Iterator[tuple[Iterator[Document], Callable[[], int]]]:
    """The documents of a file after `start`, and a function for the bytes read.

    **Errors**: none for what the file holds; one that is damaged ends with a document that
    says so. `Stopped` when `stopping()` while nothing comes; OSError when the
    file cannot be opened; TweetcrawlerError for a database, a workbook or Parquet that is
    damaged, and without the package that one needs.
    """
    path = 0 if archive.path == "-" else archive.path
    with open(path, "rb", buffering=0, closefd=path != 0) as raw:
        file = File(raw, stopping)
        with closing(_documents(file, start, archive.path, score)) as found:
            yield found, lambda: file.bytes_read


def _documents(file: File, start: Position, path: str, score: Score) -> Generator[Document]:
    try:
        head = file.peek(16)[:16] if not file.peek(1).startswith((b"{", b"[")) else b""
        if head.startswith(foreign.ZIP):
            yield from _zip_documents(file, start)
            return
        if head.startswith((foreign.SQLITE, foreign.PARQUET)) and path != "-":
            yield from _batches(Path(path), head, start, score)
            return
        stream = opened(file)
        kind = _kind(stream)
    except _READ_ERRORS as error:
        yield damage(start, "", error)
        return
    if kind == "tar":
        with closing(tars.Beside(path, file.stopping)) as beside:
            yield from _tar_documents(stream, start, beside)
    elif kind == "WARC":
        yield from _warc_documents(stream, start)
    elif start.member == 0:
        try:
            form = _form_beside(path)
        except _READ_ERRORS as error:
            yield damage(start, "", error)
            return
        yield from _text_documents(stream, start, "", form)


def _kind(stream: Stream) -> str:
    # A pipe may take its time for 512 bytes of JSON, and no tar begins like JSON.
    if stream.peek(1).startswith((b"{", b"[")):
        return "text"
    if stream.peek(5).startswith(foreign.WARC):
        return "WARC"
    return "tar" if stream.peek(512)[257:262] == b"ustar" else "text"


def _text_documents(
    stream: Stream, start: Position, name: str, form: Format | None = None
) -> Iterator[Document]:
    at = start
    try:
        if problem := _unopened(stream.peek(16)):
            yield refused(start, name, problem)
            return
        for document in texts.documents_in(stream, start, name, form):
            at = document.end
            yield document
    except _READ_ERRORS as error:
        yield damage(at, name, error)


def _unopened(head: bytes) -> str:
    """Why a file inside another one, or from a pipe, is not read; "" when it is a text."""
    for begins, kind in (
        (foreign.ZIP, "a zip"),
        (foreign.SQLITE, "a database"),
        (foreign.PARQUET, "Parquet"),
        (foreign.WARC, "a WARC"),
    ):
        if head.startswith(begins):
            return f"{kind} inside another file, or from a pipe, is not opened: unpack it first"
    return ""


# --- members --------------------------------------------------------------------------------------


def _tar_documents(stream: Stream, start: Position, beside: tars.Beside) -> Iterator[Document]:
    """The documents of all members.

    One that is damaged does not keep the next ones from being read.
    """
    number = -1
    # A plain tar is positioned to its next member, any other one is read through.
    mode: Any = "r:" if isinstance(stream, File) and stream.seekable else "r|"
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode=mode) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # else it keeps them all
                if not member.isfile():
                    continue
                number += 1
                if number < start.member or beside.needs(member.name):
                    continue
                inner = tar.extractfile(member)
                if not _NAMED_AS_POSTS(Path(member.name).name) or inner is None:
                    yield refused(Position(number), member.name, OTHER_FILE)
                    continue
                begin = start if number == start.member else Position(number)
                form = _form_of_member(member.name, beside)
                yield from _member_documents(inner, begin, member.name, form)
    except _READ_ERRORS as error:
        yield damage(Position(number), "", error)


def _form_of_member(name: str, beside: tars.Beside) -> Format | None:
    text, pair = beside.of(name), pair_of(name)
    return None if text is None or pair is None else _paired(pair[0], io.BytesIO(text))


def _zip_documents(file: File, start: Position) -> Iterator[Document]:
    """The documents of all members of a zip, or the records of a workbook, which is one."""
    with zips.members(file.file) as members:
        if "xl/workbook.xml" in members:
            yield from _workbook_documents(file.file, start)
            return
        pairs = {name: pair for name in members if (pair := pair_of(name))}
        beside = {name for _pair, name in pairs.values()}
        for number, (name, member) in enumerate(members.items()):
            if number < start.member or name in beside:
                continue
            if not _NAMED_AS_POSTS(Path(name).name):
                yield refused(Position(number), name, OTHER_FILE)
                continue
            begin = start if number == start.member else Position(number)
            with ExitStack() as stack:
                try:
                    form = None
                    if name in pairs and (other := members.get(pairs[name][1])):
                        with other.open() as of_other:
                            form = _paired(pairs[name][0], of_other)
                    inner = stack.enter_context(member.open())
                except _READ_ERRORS as error:
                    yield damage(begin, name, error)
                    continue
                yield from _member_documents(inner, begin, name, form)
            file.bytes_read = file.file.tell()


def _member_documents(
    file: IO[bytes], start: Position, name: str, form: Format | None = None
) -> Iterator[Document]:
    try:
        stream = opened(Stream(lambda: file.read(BLOCK_BYTES)))
        if _kind(stream) == "tar":
            raise ValueError("a tar inside a tar is not opened: unpack it first")
    except _READ_ERRORS as error:
        yield damage(start, name, error)
        return
    yield from _text_documents(stream, start, name, form)


def _warc_documents(stream: Stream, start: Position) -> Iterator[Document]:
    """The bodies of the answers that a WARC recorded, each as a member.

    twarc's, Social Feed Manager's and those of crawlers: a body may be one page or a stream
    of lines. What is no text of JSON is of other sites.
    """
    try:
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed
    except ModuleNotFoundError:
        raise PackageMissing("WARC", "warcio") from None
    number = -1
    try:
        for record in ArchiveIterator(stream):
            _check_length(record)
            if record.rec_type != "response":
                continue
            number += 1
            if number < start.member:
                continue
            name = str(record.rec_headers.get_header("WARC-Target-URI") or "")[:500]
            body = record.content_stream()
            begin = start if number == start.member else Position(number)
            inner = Stream(functools.partial(body.read, BLOCK_BYTES))
            if inner.peek(1) and not inner.peek(64).lstrip().startswith((b"{", b"[")):
                yield refused(begin, name, OTHER_FILE)
                continue
            yield from _text_documents(inner, begin, name)
        if number < 0 and start.member == 0:
            yield refused(start, "", "it holds no answer")
    except (*_READ_ERRORS, ArchiveLoadFailed) as error:
        if number + 1 >= start.member:
            yield damage(Position(number + 1), "", error)


def _check_length(record: Any) -> None:
    """**Errors**: ValueError for a record that does not tell its length: warcio takes what follows
    for a part of it.
    """
    told = record.rec_headers.get_header("Content-Length")
    if record.format == "warc" and not (told or "").strip().isdecimal():
        raise ValueError(
            "a record lacks its Content-Length, so nobody knows where the next one begins; what "
            "stands before it was read: write the file again with lengths, or import its JSON"
        )


# --- a file and the one beside it -----------------------------------------------------------------


def _form_beside(path: str) -> Format | None:
    """The form of a file that has another one beside it, which it needs; else None."""
    if (found := pair_of(path)) is None or not Path(found[1]).is_file():
        return None
    with Path(found[1]).open("rb") as file:
        return _paired(found[0], file)


def _paired(pair: Any, file: IO[bytes]) -> Format | None:
    text = opened(Stream(lambda: file.read(BLOCK_BYTES))).peek(tars.BESIDE_MAX_BYTES)
    script = assignment(text)
    try:
        needed = pair.read(loads(text[script.length if script else 0 :].strip(b"; \r\n")))
    except RecursionError:
        return None
    return None if needed is None else cast("Format", pair.format(needed))


# --- workbooks, Parquet and databases -------------------------------------------------------------


def _workbook_documents(file: IO[bytes], start: Position) -> Iterator[Document]:
    """The records of a workbook; the first of each sheet that names columns is a header."""
    header: list[str | None] | None = None
    form: Format | None = None
    for number, record in enumerate(workbooks.xlsx_records(file), start=1):
        end = Position(0, number, number)
        names = [name or "" for name in record.cells]
        found = table_format(names) if header is None or record.cells == header else None
        if header is None and not isinstance(found, TableFormat):
            known = isinstance(found, TableRefusal)
            problem = found.name if known and found else texts.unknown_table(names)
            yield refused(start, "", problem)
            return
        if isinstance(found, TableFormat):
            header, form = record.cells, texts.record_form(names, found)
        elif number > start.offset:
            yield Document(end, number, record.cells, "", b"", "", form)


def _batches(path: Path, head: bytes, start: Position, score: Score) -> Iterator[Document]:
    """The rows of our own Parquet, or of a database of another tool, some thousand each time."""
    if head.startswith(foreign.PARQUET):
        form = form_of("tweetcrawler", _as_they_are)
        batches = workbooks.parquet_batches(path, after=start.offset)
        for number, rows in enumerate(batches, start=start.offset + 1):
            yield Document(Position(0, number, number), number, rows, "", b"", "", form)
        return
    found = databases.database_format(path)
    if found is None:
        yield refused(start, "", "it is a database of no tool that is known")
        return
    form = form_of(found.name, _as_they_are)
    counts = itertools.count(start.line + 1)
    for batch, number in zip(
        found.batches(path, after=start.offset, score=score), counts, strict=False
    ):
        end = Position(0, batch.last_id, number)
        yield Document(end, number, batch.flattened, "", b"", "", form)


def _as_they_are(value: Flattened, *, score: Score = None) -> Flattened:
    del score  # made with the rows
    return value
