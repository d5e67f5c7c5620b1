"""The values of a text: on lines, over lines, without line ends, or the records of a table.

The head of a text decides how it is read, so that it is read the same way when an import
goes on in the middle of it.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson

from tweetcrawler.archives import text
from tweetcrawler.archives.documents import (
    EMPTY,
    LOG,
    OTHER_PART,
    Document,
    Position,
    form_of,
    refused,
)
from tweetcrawler.archives.formats import (
    Format,
    Header,
    TableFormat,
    TableRefusal,
    header_of,
    table_format,
)
from tweetcrawler.archives.formats.fields import Score
from tweetcrawler.archives.formats.foreign import refused_file
from tweetcrawler.archives.formats.tables import records
from tweetcrawler.archives.packing import File, Stream
from tweetcrawler.flatten import Flattened

# A line may hold a whole array of posts; what is longer than this takes gigabytes once it
# is parsed.
DOCUMENT_MAX_BYTES = 256 * 1024 * 1024
TOO_LONG: Final = (
    f"it is longer than {DOCUMENT_MAX_BYTES // 2**20} MB: split it into lines first, "
    "as `jq -c '.[]'` does"
)
# A line of objects that is longer than this is read object by object.
ARRAY_MAX_BYTES = 32 * 1024 * 1024
HEAD_MAX_BYTES = 64 * 1024


def documents_in(
    stream: Stream, start: Position, name: str, form: Format | None
) -> Iterator[Document]:
    """The documents of a text after `start`; `name` is that of the member of an archive.

    `form` is the format of the file, when another file tells it.
    **Errors**: those of the stream.
    """
    if problem := _foreign(stream.peek(16)[:512]):
        yield refused(start, name, problem)
        return
    head = _head(stream)
    script = text.assignment(head)
    if script is not None:
        if not _SCRIPTS_OF_POSTS(script.name):
            yield refused(start, name, OTHER_PART)
            return
        if start.offset == 0:
            start = start._replace(offset=script.length)
    elif not _BEGINS_JSON(head) and (table := _table_of(head)):
        header, found = table
        if isinstance(found, TableFormat):
            yield from _records(stream, start, name, header, found)
        else:
            yield refused(start, name, found)
        return
    if script is not None or _runs_on(stream, head):
        documents = _objects(_from(stream, start.offset), start, name)
    else:
        documents = _parsed(_lines(_from(stream, start.offset), start), name)
    for document in documents:
        yield document if form is None else document._replace(form=form)


_SCRIPTS_OF_POSTS = re.compile(
    r"window\.YTD\.(?:tweets?|deleted_tweets?|community_tweets?)\..*|Grailbird\..*"
).fullmatch


# --- the head -------------------------------------------------------------------------------------


def _foreign(head: bytes) -> str:
    """Why a text is refused as a whole, by its first bytes; "" when it is not."""
    name, _advice = refused_file(head)
    if name:
        return name
    # JSON in which a NUL went astray is broken in one place; UTF-16 without its mark has
    # one in its first bytes.
    if b"\x00" in (head[:4] if _BEGINS_JSON(head) else head) and not head.startswith(_UTF16):
        return "it is neither text nor compressed in a way that is known"
    return ""


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BEGINS_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[\[{]").match


def _head(stream: Stream) -> bytes:
    """The first lines in UTF-8; one line of JSON is enough, since a pipe may take its time."""
    wanted = 1 if _BEGINS_JSON(stream.peek(16)) else 3
    head = stream.peek(16)
    while head.count(b"\n") < wanted and len(head) < HEAD_MAX_BYTES:
        longer = stream.peek(len(head) + 1)
        if len(longer) == len(head):
            break
        head = longer
    if head.startswith(_UTF16):
        return head.decode("utf-16", "replace").encode(errors="replace")
    return head


def _table_of(head: bytes) -> tuple[Header, TableFormat | str] | None:
    """The header of a table and its format, or why it is refused; None if it is no table."""
    lines = head[:HEAD_MAX_BYTES].decode(errors="replace").split("\n")[:3]
    header = header_of(lines)
    if header is None or any(line.lstrip().startswith(("{", "[")) for line in lines):
        return None
    found = table_format(header.columns)
    if isinstance(found, TableRefusal):
        return header, found.name
    if found is not None:
        return header, found
    below = [line for line in lines[header.lines :] if line.strip()]
    named = len(header.columns) > 1 and (not below or header.delimiter in below[0])
    if text.is_log(lines[0].encode()) or not named:
        return None
    return header, unknown_table(header.columns)


def unknown_table(columns: Iterable[str]) -> str:
    """The refusal of a table of nobody that is known."""
    shown = ", ".join(ascii(column)[1:-1][:30] for column in list(columns)[:8])
    return (
        f"it is a table of no tool that is known, with the columns {shown}; if one holds the ids "
        "of posts, `tweetcrawler hydrate` fetches them"
    )


def _runs_on(stream: Stream, head: bytes) -> bool:
    """Whether objects follow each other without a line end, or in one line without an end."""
    bare = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if bare.startswith(b"[") and b"\n" not in head and len(head) >= HEAD_MAX_BYTES:
        long = stream.peek(ARRAY_MAX_BYTES)
        return len(long) >= ARRAY_MAX_BYTES and b"\n" not in long[:ARRAY_MAX_BYTES]
    if not bare.startswith(b"{") or not _OBJECT_BY_OBJECT(bare):
        return False
    first = next(text.objects([head], most=len(head)), None)
    return (
        first is not None
        and first.is_object
        and head[first.end :].lstrip(b" \t\r").startswith(b"{")
    )


# Where one object follows another; inside an object only in a text.
_OBJECT_BY_OBJECT = re.compile(rb"}[ \t\r]*{").search


# --- lines ----------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A line without its end; `text` is None when it is longer than a document may be."""

    text: bytes | None
    end: Position


def _from(stream: Stream, offset: int) -> Iterator[bytes]:
    """The blocks of a text, in UTF-8, from this byte on."""
    if stream.peek(2).startswith(_UTF16):
        blocks = _as_utf8(iter(stream.block, b""))
    else:
        if offset and isinstance(stream, File) and stream.seekable:
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
        for line in lines:
            number += 1
            offset += length + len(line) + 1
            if length:
                begun.append(line)
                whole = b"".join(begun) if length + len(line) <= DOCUMENT_MAX_BYTES else None
                begun, length = [], 0
                yield _Line(whole, Position(member, offset, number))
            else:
                yield _Line(line, Position(member, offset, number))
        length += len(tail)
        begun = [*begun, tail] if length <= DOCUMENT_MAX_BYTES else []
    if length:
        whole = b"".join(begun) if length <= DOCUMENT_MAX_BYTES else None
        yield _Line(whole, Position(member, offset + length, number + 1))


# --- records --------------------------------------------------------------------------------------


def record_form(header: Iterable[str], table: TableFormat) -> Format:
    """The form of the records of a table with this header."""
    columns = tuple(header)

    def rows(value: Any, *, score: Score = None) -> Flattened:
        return table.rows(columns, [value], score=score)

    return form_of(table.name, rows)


def _records(
    stream: Stream, start: Position, name: str, header: Header, table: TableFormat
) -> Iterator[Document]:
    form = record_form(header.columns, table)
    lines = _lines(_from(stream, start.offset), start)
    if start.offset == 0:
        for _ in range(header.lines):
            start = next(lines, _Line(b"", start)).end
    read: deque[tuple[bool, Position]] = deque()  # whether a line is blank, and its end

    def fed() -> Iterator[str]:
        for line in lines:
            shown = (line.text or b"").decode(errors="replace")
            read.append((not shown.removesuffix("\r"), line.end))
            yield shown

    for record in records(fed(), header.delimiter):
        while read[0][0]:
            read.popleft()
        first = read[0][1].line
        for _ in range(record.lines):
            _blank, end = read.popleft()
        yield Document(end, first, record.cells, "", b"", name, form)


# --- objects without lines ------------------------------------------------------------------------


def _objects(blocks: Iterator[bytes], start: Position, name: str) -> Iterator[Document]:
    """The objects of a text that has no lines."""
    member, begin, line = start
    kept = bytearray()  # what was taken in and not yet counted

    def fed() -> Iterator[bytes]:
        for block in blocks:
            kept.extend(block)
            yield block

    counted = 0
    for part in text.objects(fed(), most=DOCUMENT_MAX_BYTES):
        passed = bytes(kept[: part.end - counted])
        del kept[: part.end - counted]
        counted = part.end
        first = line + 1 + passed[: max(0, len(passed) - len(part.text))].count(b"\n")
        line += passed.count(b"\n")
        end = Position(member, begin + part.end, line)
        yield _of_part(part, end, first, name)


def _of_part(part: text.Part, end: Position, line: int, name: str) -> Document:
    value, problem = None, "it is no whole JSON object"
    if part.is_object:
        try:
            value, problem = text.loads(part.text), ""
        except (ValueError, RecursionError) as error:
            problem = f"it is no JSON: {error}"
    elif text.is_log(part.text):
        problem = LOG
    elif not part.text.strip(b"; \t\r\n"):  # the end of a script
        problem = EMPTY
    return Document(end, line, value, problem, part.text, name)


# --- values ---------------------------------------------------------------------------------------


def _parsed(lines: Iterator[_Line], name: str) -> Iterator[Document]:
    """The value of each line, or of the lines that it goes on over.

    An array whose bracket has a line of its own is not put together: its elements are
    documents, so that it may be of any length.
    """
    given_back: deque[_Line] = deque()
    while line := given_back.popleft() if given_back else next(lines, None):
        whole, end = line
        number = end.line
        if whole is None:
            yield Document(end, number, None, TOO_LONG, b"", name)
            continue
        try:
            value = orjson.loads(whole)
        except orjson.JSONDecodeError as error:
            problem = f"it is no JSON: {error}"
        else:
            if type(value) is not int or not _is_length(whole, lines, given_back):
                yield Document(end, number, value, "", whole, name)
            continue
        # U+001E begins a text in JSON Text Sequences (RFC 7464); NULs are what some file
        # systems leave at the end of a file when the power fails.
        bare = whole.strip(b" \t\r,\x00\x1e\xef\xbb\xbf")
        if bare in (b"[", b"]"):
            continue
        if not bare or text.is_log(bare):
            yield Document(end, number, None, LOG if bare else EMPTY, whole, name)
            continue
        if _opens(bare):
            gathered = _gather(line._replace(text=bare), lines, given_back)
            bare, end = gathered.text or b"", gathered.end
        yield from _salvaged(bare, Document(end, number, None, problem, whole, name))


def _is_length(whole: bytes, lines: Iterator[_Line], given_back: deque[_Line]) -> bool:
    """Whether a number is the length of the next line, which is looked at and given back."""
    # X's streams of v1.1 wrote the length before each post if asked to. An id is longer.
    if len(whole) > 9:
        return False
    if not given_back and (following := next(lines, None)):
        given_back.append(following)
    return bool(given_back) and text.is_length_of(whole, given_back[0].text or b"")


def _salvaged(bare: bytes, broken: Document) -> Iterator[Document]:
    """The value of a text that has one, or the objects in it: all of one place, as a list."""
    with suppress(ValueError, RecursionError):
        yield broken._replace(value=text.loads(bare), problem="")
        return
    parts = list(text.objects([bare], most=len(bare)))
    if len(parts) < 2 or not all(part.text.startswith(b"{") for part in parts):
        yield broken
        return
    found = [_of_part(part, broken.end, broken.line, broken.member) for part in parts]
    # Two keys are the fewest of a post; the rest of the line is one reject.
    whole = [each.value for each in found if not each.problem and len(each.value) > 1]
    if whole:
        yield broken._replace(value=whole, problem="")
    if len(whole) < len(found):
        yield broken


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
        elif token == b"]" and not stack:
            continue  # of an array that began on an earlier line
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
