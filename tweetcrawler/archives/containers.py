"""Files of collected posts, read as a sequence of JSON values.

Files are recognised by their first bytes, never by their names: compressed or not, a tar of
such files, text in UTF-8 or UTF-16. They are read as a stream, once, from the front. In the
text a value stands on a line of its own or is spread over lines. What a value is,
`recognise` decides from its keys.
"""

from __future__ import annotations

import bz2
import codecs
import functools
import hashlib
import json
import lzma
import re
import select
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Protocol, cast

import orjson
import zstandard

BLOCK_BYTES = 128 * 1024
# A line may hold a whole array of posts; what is longer than this takes gigabytes once it
# is parsed.
DOCUMENT_MAX_BYTES = 256 * 1024 * 1024
FINGERPRINT_BYTES = 64 * 1024

# What a file of posts is called, where others may lie beside it.
_NAMED_AS_POSTS = re.compile(
    r"(?!\.).*\.(jsonl?|ndjson|jsons|js|tar|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst)(?<!\.csv\.gz)",
    re.IGNORECASE,
).fullmatch
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    tarfile.TarError,
)


class Position(NamedTuple):
    """How far a file was read: members of a tar, then bytes and lines of the next one.

    Members count when they are whole, bytes are uncompressed.

    A file that is no tar is its own only member.
    """

    member: int = 0
    offset: int = 0
    line: int = 0


class Document(NamedTuple):
    """One JSON value of a file, or text that is none; `end` is the position behind it.

    `problem` says why there is no `value` ("" when there is one): `EMPTY` for a line
    without anything, `OTHER_FILE` for a member of a tar that is not read, else a sentence.
    `line` is its first line, from 1; `raw` is its text; `member` is the name of the member
    of a tar, "" elsewhere.
    """

    end: Position
    line: int
    value: Any
    problem: str
    raw: bytes
    member: str = ""


EMPTY: Final = "empty line"
OTHER_FILE: Final = "other file in a tar"
TOO_LONG: Final = (
    f"it is longer than {DOCUMENT_MAX_BYTES // 2**20} MB: split it into lines first, "
    "as `jq -c '.[]'` does"
)


class Stopped(Exception):
    """The operator wanted an end while nothing came from standard input."""


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


def find(path: Path) -> Iterator[Path]:
    """The file itself; of a folder, all files below it that are named like files of posts.

    In the order of their names.
    """
    if not path.is_dir():
        yield path
        return
    for inner in sorted(path.iterdir()):
        hidden = inner.name.startswith(".")
        if not hidden and (inner.is_dir() or (inner.is_file() and _NAMED_AS_POSTS(inner.name))):
            yield from find(inner)


def identify(path: Path) -> Archive:
    """The file with its fingerprint. **Errors**: OSError when it cannot be read."""
    with path.open("rb") as file:
        status = path.stat()
        head = hashlib.blake2b(file.read(FINGERPRINT_BYTES), digest_size=12).hexdigest()
    return Archive(str(path), status.st_size, f"{status.st_size}-{status.st_mtime_ns}-{head}", head)


@contextmanager
def documents(
    archive: Archive, start: Position, *, stopping: Callable[[], bool]
) -> Iterator[tuple[Iterator[Document], Callable[[], int]]]:
    """The documents of a file after `start`, and a function for the bytes read.

    **Errors**: none for what the file holds; one that is damaged ends with a document that
    says so. `Stopped` when `stopping()` while nothing comes; OSError when the
    file cannot be opened.
    """
    path = 0 if archive.path == "-" else archive.path
    with open(path, "rb", buffering=0, closefd=path != 0) as raw:
        file = _File(raw, stopping)
        with closing(_documents(file, start)) as found:
            yield found, lambda: file.bytes_read


# --- files, tars and their members ----------------------------------------------------------------


class _Stream:
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
        while len(self._ahead) < size and (block := self._more()):
            self._ahead += block
        return self._ahead

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end, which is what tarfile expects."""
        taken = self.peek(size)
        self._ahead = taken[size:]
        return taken[:size]


class _File(_Stream):
    """A file that counts its bytes read, and can be positioned unless it is a pipe."""

    def __init__(self, file: IO[bytes], stopping: Callable[[], bool]) -> None:
        super().__init__(self._read)
        self._file = file
        self._stopping = stopping
        self.seekable = file.seekable()
        self.bytes_read = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        ahead = offset - self.tell()
        if whence == 0 and 0 <= ahead <= len(self._ahead):
            self._ahead = self._ahead[ahead:]
        else:
            self._ahead = b""
            self.bytes_read = self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return self.bytes_read - len(self._ahead)

    def _read(self) -> bytes:
        while not self.seekable and not select.select([self._file], [], [], 0.2)[0]:
            if self._stopping():
                raise Stopped
        block = self._file.read(BLOCK_BYTES)
        self.bytes_read += len(block)
        return block


def _documents(file: _File, start: Position) -> Generator[Document]:
    try:
        stream = _opened(file)
        is_tar = _is_tar(stream)
    except _READ_ERRORS as error:
        yield _damage(start, "", error)
        return
    if is_tar:
        yield from _tar_documents(stream, start)
    elif start.member == 0:
        yield from _text_documents(stream, start, "")


def _tar_documents(stream: _Stream, start: Position) -> Iterator[Document]:
    """The documents of all members.

    One that is damaged does not keep the next ones from being read.
    """
    number = -1
    # A plain tar is positioned to its next member, any other one is read through.
    mode: Any = "r:" if isinstance(stream, _File) and stream.seekable else "r|"
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode=mode) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # else it keeps them all
                if not member.isfile():
                    continue
                number += 1
                if number < start.member:
                    continue
                inner = tar.extractfile(member)
                if not _NAMED_AS_POSTS(Path(member.name).name) or inner is None:
                    yield Document(Position(number + 1), 1, None, OTHER_FILE, b"", member.name)
                    continue
                begin = start if number == start.member else Position(number)
                yield from _member_documents(inner, begin, member.name)
    except _READ_ERRORS as error:
        yield _damage(Position(number), "", error)


def _member_documents(file: IO[bytes], start: Position, name: str) -> Iterator[Document]:
    try:
        stream = _opened(_Stream(lambda: file.read(BLOCK_BYTES)))
        if _is_tar(stream):
            raise ValueError("a tar inside a tar is not opened: unpack it first")
    except _READ_ERRORS as error:
        yield _damage(start, name, error)
        return
    yield from _text_documents(stream, start, name)


def _damage(at: Position, member: str, error: BaseException) -> Document:
    """The last document of what cannot be read: nothing of it is left."""
    said = str(error).strip() or type(error).__name__
    end = Position(at.member + 1)
    return Document(end, at.line + 1, None, f"it cannot be read further: {said}", b"", member)


def _is_tar(stream: _Stream) -> bool:
    # A pipe may take its time for 512 bytes of JSON, and no tar begins like JSON.
    return not stream.peek(1).startswith((b"{", b"[")) and stream.peek(512)[257:262] == b"ustar"


# --- compression ----------------------------------------------------------------------------------


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Packing(NamedTuple):
    name: str
    begins: re.Pattern[bytes]
    unpacker: Callable[[], Any]


_PACKINGS: Final = (
    _Packing("gzip", re.compile(rb"\x1f\x8b"), lambda: zlib.decompressobj(wbits=31)),
    _Packing("bzip2", re.compile(rb"BZh[1-9]"), bz2.BZ2Decompressor),
    _Packing("xz", re.compile(rb"\xfd7zXZ\x00"), lzma.LZMADecompressor),
    _Packing(
        "zstd",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
        # Large collections are often packed with `--long=31`.
        lambda: zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj(),
    ),
)
_MAGIC_BYTES = 6


def _opened(stream: _Stream) -> _Stream:
    """The stream, unpacked if it is compressed."""
    head = stream.peek(_MAGIC_BYTES)
    if head.startswith(b"PK\x03\x04"):
        raise ValueError("a zip file is not opened: unpack it first")
    for packing in _PACKINGS:
        if packing.begins.match(head):
            return _Stream(functools.partial(next, _unpacked(stream, packing), b""))
    return stream


def _unpacked(stream: _Stream, packing: _Packing) -> Iterator[bytes]:
    """The contents, uncompressed.

    Several compressed streams in a row are one file, as their tools see it.
    """
    unpacker: _Unpacker = packing.unpacker()
    while block := stream.block():
        while block:
            if unpacker.eof:
                block = block.lstrip(b"\x00")  # filled up to the block of a tape
                if not block:
                    break
                if len(block) < _MAGIC_BYTES:
                    block += stream.block()
                if not packing.begins.match(block):
                    raise ValueError(f"something else stands behind the {packing.name} data")
                unpacker = packing.unpacker()
            if unpacked := unpacker.decompress(block):
                yield unpacked
            block = unpacker.unused_data if unpacker.eof else b""
    if not unpacker.eof:
        raise EOFError(f"the {packing.name} data ends too early")


# --- lines ----------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A line without its end; `text` is None when it is longer than a document may be."""

    text: bytes | None
    end: Position


def _text_documents(stream: _Stream, start: Position, name: str) -> Iterator[Document]:
    at = start
    try:
        head = stream.peek(16)[:512]
        if start.offset == 0 and (problem := _foreign_text(head)):
            yield Document(Position(start.member + 1), 1, None, problem, head, name)
            return
        for document in _parsed(_lines(_from(stream, start.offset), start), name):
            at = document.end
            yield document
    except _READ_ERRORS as error:
        yield _damage(at, name, error)


def _foreign_text(head: bytes) -> str:
    """Why a text is refused as a whole, by its first bytes; "" when it is not."""
    if _ACCOUNT_SCRIPT(head):
        return ACCOUNT_DOWNLOAD
    # JSON in which a NUL went astray is broken in one place; UTF-16 without its mark has
    # one in its first bytes.
    if b"\x00" in (head[:4] if _BEGINS_JSON(head) else head) and not head.startswith(_UTF16):
        return "it is neither text nor compressed in a way that is known"
    return ""


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BEGINS_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[\[{]").match
_ACCOUNT_SCRIPT = re.compile(rb"(\xef\xbb\xbf)?\s*window\.YTD\.").match


def _from(stream: _Stream, offset: int) -> Iterator[bytes]:
    """The blocks of a text, in UTF-8, from this byte on."""
    if stream.peek(2).startswith(_UTF16):
        blocks = _as_utf8(iter(stream.block, b""))
    else:
        if offset and isinstance(stream, _File) and stream.seekable:
            stream.seek(offset)
            offset = 0
        blocks = iter(stream.block, b"")
    for block in blocks:
        if offset >= len(block):
            offset -= len(block)
        else:
            yield block[offset:] if offset else block
            offset = 0


def _as_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """From UTF-16, which PowerShell writes when it redirects."""
    decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
    for block in blocks:
        yield decoder.decode(block).encode(errors="replace")
    yield decoder.decode(b"", final=True).encode(errors="replace")


def _lines(blocks: Iterator[bytes], start: Position) -> Iterator[_Line]:
    member, offset, number = start
    begun: list[bytes] = []
    length = 0  # of what is begun; its pieces are dropped once it is too long
    for block in blocks:
        lines = block.split(b"\n")
        tail = lines.pop()
        for text in lines:
            number += 1
            offset += length + len(text) + 1
            if length:
                begun.append(text)
                whole = b"".join(begun) if length + len(text) <= DOCUMENT_MAX_BYTES else None
                begun, length = [], 0
                yield _Line(whole, Position(member, offset, number))
            else:
                yield _Line(text, Position(member, offset, number))
        length += len(tail)
        begun = [*begun, tail] if length <= DOCUMENT_MAX_BYTES else []
    if length:
        whole = b"".join(begun) if length <= DOCUMENT_MAX_BYTES else None
        yield _Line(whole, Position(member, offset + length, number + 1))


# --- values ---------------------------------------------------------------------------------------


def _parsed(lines: Iterator[_Line], name: str) -> Iterator[Document]:
    """The value of each line, or of the lines that it goes on over.

    An array whose bracket has a line of its own is not put together: its elements are
    documents, so that it may be of any length.
    """
    given_back: deque[_Line] = deque()
    while line := given_back.popleft() if given_back else next(lines, None):
        text, end = line
        number = end.line
        if text is None:
            yield Document(end, number, None, TOO_LONG, b"", name)
            continue
        try:
            yield Document(end, number, orjson.loads(text), "", text, name)
            continue
        except orjson.JSONDecodeError as error:
            problem = f"it is no JSON: {error}"
        bare = text.strip(b" \t\r,\x00\xef\xbb\xbf")
        if bare in (b"[", b"]"):
            continue
        if not bare:
            yield Document(end, number, None, EMPTY, text, name)
            continue
        if _opens(bare):
            gathered = _gather(line._replace(text=bare), lines, given_back)
            bare, end = gathered.text or b"", gathered.end
        try:
            value, problem = _loads(bare), ""
        except (ValueError, RecursionError):
            value = None
        yield Document(end, number, value, problem, text, name)


def _loads(text: bytes) -> Any:
    """The value, whatever Python can make of it.

    orjson refuses halves of surrogate pairs, which X cuts through when it shortens texts,
    and bytes that are no UTF-8; both become U+FFFD in the end.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        decoded = text.decode(errors="replace")
        if "\\u" not in decoded and "\ufffd" not in decoded:
            raise
        return json.loads(decoded)


_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|["\[\]{}]').findall
_OPEN = {b"{": b"}", b"[": b"]"}


def _opens(text: bytes) -> bool:
    """Whether a text may be the beginning of a value over several lines."""
    return text.startswith((b"{", b"[")) and bool(_still_open(text, []))


def _still_open(text: bytes, stack: list[bytes]) -> list[bytes] | None:
    """The brackets that are open after `text`, the innermost last; None if it is no JSON."""
    stack = list(stack)
    for token in _TOKENS(text):
        if token in _OPEN:
            stack.append(_OPEN[token])
        elif token == b'"' or (len(token) == 1 and (not stack or stack.pop() != token)):
            return None  # a string never goes on over lines
    return stack


def _gather(first: _Line, lines: Iterator[_Line], given_back: deque[_Line]) -> _Line:
    """The value that begins in this line, with its end.

    A line that cannot continue it shows that the first one is merely broken: all lines
    behind it are given back then, to be read for themselves.
    """
    text = first.text or b""
    parts, taken = [text], [first]
    length = len(text)
    stack = _still_open(text, [])
    last = text
    while stack:
        line = given_back.popleft() if given_back else next(lines, None)
        if line is None:
            # The end of the file cuts the value. What is whole behind its beginning is not
            # given up with it, and empty lines at the end are no part of it.
            if any(_stands_alone(each.text or b"") for each in taken[1:]):
                given_back.extendleft(reversed(taken[1:]))
                return first
            while len(taken) > 1 and not (taken[-1].text or b"").strip():
                given_back.appendleft(taken.pop())
            return _Line(first.text, taken[-1].end)
        taken.append(line)
        part = (line.text or b"").strip()
        length += len(part)
        stack = (
            _still_open(part, stack)
            if line.text is not None and _continues(stack, last, part)
            else None
        )
        if stack is None or length > DOCUMENT_MAX_BYTES:
            given_back.extendleft(reversed(taken[1:]))
            return first
        parts.append(part)
        last = part or last
    return _Line(b"\n".join(parts).rstrip(b", \t\r"), taken[-1].end)


def _stands_alone(text: bytes) -> bool:
    bare = text.strip(b", \t\r")
    if not bare.startswith(b"{"):
        return False
    try:
        orjson.loads(bare)
    except orjson.JSONDecodeError:
        return False
    return True


def _continues(stack: list[bytes], last: bytes, part: bytes) -> bool:
    """Whether a line may follow `last`.

    An object needs a colon, a comma or a bracket before it.
    """
    if not part.startswith((b"{", b"[")):
        return True
    return last.endswith((b"[", b",") if stack[-1] == b"]" else (b":",))


# --- what a value is ------------------------------------------------------------------------------

PAGE: Final = "page"
STATUS: Final = "status"
UNKNOWN: Final = "unknown"
EMPTY_PAGE: Final = "empty page"
ACCOUNT_DOWNLOAD: Final = "a download of an account"
ACTIVITY: Final = "Gnip Activity Streams"
IDS: Final = "bare ids"
TRENDS: Final = "trends"

REFUSED: Final = {
    ACCOUNT_DOWNLOAD: "it is another format and does not name the author",
    ACTIVITY: "it is another format of posts; have them delivered in the original one",
    IDS: "there are no posts with them; `tweetcrawler hydrate` fetches those",
    TRENDS: "there are no posts with them",
}
"""The formats that only look like posts, and what is said of each once a file."""


class Piece(NamedTuple):
    """One thing of a document.

    `kind` is `PAGE` (of v2), `STATUS` (of v1.1), or the name of something else.

    `thing` is what `flatten` or `flatten_statuses` takes; of `UNKNOWN` it is a sentence;
    else it is None.
    """

    kind: str
    thing: Any = None


def recognise(value: Any) -> list[Piece]:
    """The items of a document in their order; an array counts as its elements. Never raises."""
    if isinstance(value, dict):
        return _of_object(value)
    if isinstance(value, list):
        return [piece for element in value for piece in _of_element(element)] or [
            Piece("empty list")
        ]
    return _of_element(value)


def _of_element(value: Any) -> list[Piece]:
    if isinstance(value, dict):
        return _of_object(value)
    if type(value) is int or (isinstance(value, str) and value.isdecimal()):
        return [Piece(IDS)]
    shown = "a list in a list" if isinstance(value, list) else f"a bare {type(value).__name__}"
    return [Piece(UNKNOWN, f"it is {shown}, which is nothing that X writes")]


def _of_object(found: dict[str, Any]) -> list[Piece]:
    if "data" in found:
        return [_of_page(found)]
    if "text" in found or "full_text" in found:
        return [_of_post(found)]
    for key in ("statuses", "results"):  # a page of v1.1's search; of its premium search
        statuses = found.get(key)
        if isinstance(statuses, list):
            return [piece for status in statuses for piece in _of_element(status)] or [
                Piece(EMPTY_PAGE)
            ]
    return [_by_keys(found, _OBJECTS)]


def _of_page(found: dict[str, Any]) -> Piece:
    """A page with a post among its data is one of posts; of others the first element tells."""
    data = found["data"]
    elements = data if isinstance(data, list) else [data]
    for element in elements:
        if (
            isinstance(element, dict)
            and "text" in element
            and "id" in element
            and "event_type" not in element
        ):
            return Piece(PAGE, found)
    if data is None or data == []:
        return Piece(PAGE_OF_ERRORS if found.get("errors") else EMPTY_PAGE)
    first = elements[0]
    return _by_keys(first, _PAGES) if isinstance(first, dict) else Piece(UNKNOWN, _keys_of(found))


def _of_post(found: dict[str, Any]) -> Piece:
    if "event_type" in found or "recipient" in found or "sender" in found:
        return Piece("direct message")
    if found.get("objectType") == "activity":
        return Piece(ACTIVITY)
    # Only v1.1 has the author inside and ids in two forms.
    if "id_str" in found or "user" in found:
        return Piece(STATUS, found)
    return Piece(PAGE, _page_of(found)) if "id" in found else Piece(UNKNOWN, _keys_of(found))


PAGE_OF_ERRORS: Final = "page of errors"
# What an object is called in which any of these keys stands; the first that fits.
_OBJECTS: Final[dict[str, str]] = {
    **{
        name: name.replace("_", " ")
        for name in (
            "delete",
            "scrub_geo",
            "limit",
            "status_withheld",
            "user_withheld",
            "disconnect",
            "warning",
            "direct_message",
            "event",
            "friends",
            "friends_str",
            "user_update",
            "user_delete",
            "user_undelete",
            "user_protect",
            "user_unprotect",
            "user_suspend",
            "user_unsuspend",
            "tweet_edit",
        )
    },
    "objectType": ACTIVITY,
    "tweet": ACCOUNT_DOWNLOAD,
    "trends": TRENDS,
    "trend_name": TRENDS,
    "errors": PAGE_OF_ERRORS,
    "error": PAGE_OF_ERRORS,
    "action": "compliance",
    "screen_name": "user",
    "username": "user",
    "ids": "page of user ids",
    "meta": EMPTY_PAGE,
}
_PAGES: Final[dict[str, str]] = {
    "event_type": "page of direct messages",
    "username": "page of users",
    "trend_name": TRENDS,
    "tweet_count": "page of counts",
    "post_count": "page of counts",
    "value": "page of rules",
    "project_usage": "page of usage",
    "cap_reset_day": "page of usage",
    "state": "page of spaces",
    "name": "page of lists",
    "action": "compliance",
    **dict.fromkeys(
        (
            "delete",
            "withheld",
            "drop",
            "undrop",
            "tweet_edit",
            "user_delete",
            "user_undelete",
            "user_withheld",
            "user_protect",
            "user_unprotect",
            "user_suspend",
            "user_unsuspend",
            "user_profile_modification",
            "scrub_geo",
        ),
        "compliance",
    ),
}


def _by_keys(found: dict[str, Any], kinds: dict[str, str]) -> Piece:
    for key, kind in kinds.items():
        if key in found:
            return Piece(kind)
    return Piece(UNKNOWN, _keys_of(found))


def _keys_of(found: dict[str, Any]) -> str:
    keys = ", ".join(ascii(key)[1:-1][:30] for key in list(found)[:8])
    return (
        f"it is an object with the keys {keys}, which is nothing that X writes"
        if keys
        else "it is empty"
    )


def _page_of(tweet: dict[str, Any]) -> dict[str, Any]:
    """A single v2 post as a page.

    What twarc2 put inside it when it flattened goes back to the includes.
    """
    users: list[Any] = [tweet.get("author"), tweet.get("in_reply_to_user")]
    posts: list[Any] = []
    media: list[Any] = []
    referenced = tweet.get("referenced_tweets") or tweet.get("referenced_posts")
    if isinstance(referenced, list):
        for each in referenced:
            if isinstance(each, dict) and "text" in each:
                posts.append(each)
                users.append(each.get("author"))
    for post in (tweet, *posts):
        attachments = post.get("attachments")
        inside = attachments.get("media") if isinstance(attachments, dict) else None
        if isinstance(inside, list):
            media += inside
    found = {
        "users": [user for user in users if isinstance(user, dict)],
        "tweets": posts,
        "media": media,
    }
    return {"data": tweet, "includes": found}
