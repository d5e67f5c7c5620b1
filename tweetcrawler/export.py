"""Files that others read: what CSV, JSON lines, Parquet and Excel make of a row, and when a
file is in place.

Whoever reads such a file may be a spreadsheet or JavaScript, which round long numbers and
run formulas: an id leaves here as plain digits, as text, or as a 64-bit integer, never as a
float.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from tweetcrawler import files, settings
from tweetcrawler.db import Column, Condition, Database
from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.postgres.filters import CHOICES
from tweetcrawler.secret import harmless_name

Rows = Iterable[Sequence[tuple[Any, ...]]]

_ENDINGS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
_NEEDS = {"parquet": "pyarrow.parquet", "xlsx": "xlsxwriter"}
_AS_TEXT = {"csv", "xlsx"}  # the others have lists and times of their own


@dataclass(frozen=True)
class Plan:
    """An export that can be done as far as the options tell; `path` None is stdout."""

    format: str
    path: Path | None
    view: str | None
    columns: tuple[str, ...]
    conditions: tuple[Condition, ...]
    excel_safe: bool
    pages: bool


def plan(wanted: settings.Export) -> Plan:
    """What the options mean together; nothing is opened or asked yet.

    Errors: ConfigurationError for options that exclude each other, a filter that is none, a
    missing package.
    """
    if wanted.pages:
        _check_fits_pages(wanted)
    form = "jsonl" if wanted.pages else wanted.format or _format_of(wanted.output)
    if form in _NEEDS:
        if wanted.output is None:
            raise ConfigurationError(
                f"{form} cannot go to stdout; name a file with --output FILE.{form}"
            )
        try:
            import_module(_NEEDS[form])
        except ModuleNotFoundError as error:
            package = (error.name or _NEEDS[form]).partition(".")[0]
            raise ConfigurationError(
                f"{form} needs the package {package}: pip install 'tweetcrawler[export]'"
            ) from None
    if wanted.excel_safe and form in ("jsonl", "parquet"):
        raise ConfigurationError(f"--excel-safe is for csv and xlsx; leave it out for {form}")
    return Plan(
        format=form,
        path=wanted.output,
        view=wanted.view,
        columns=wanted.columns,
        conditions=tuple(map(_condition, wanted.where)),
        excel_safe=wanted.excel_safe,
        pages=wanted.pages,
    )


def write(chosen: Plan, database: Database, stdout: IO[bytes]) -> list[str]:
    """Writes the file, or to `stdout`; gives sentences about what was done.

    A file is in its place when this returns, and as it was when this raises.

    Errors: those of `Database.read`; ConfigurationError when the place cannot be written to,
    TweetcrawlerError when it fails later, such as on a full disk.
    """
    if chosen.path is None:
        sentences = _write_to(stdout, chosen, database)
        stdout.flush()
        return sentences
    with _replacing(chosen.path, chosen.format) as file:
        return _write_to(file, chosen, database)


def _write_to(file: IO[bytes], chosen: Plan, database: Database) -> list[str]:
    place = str(chosen.path or "stdout")
    if chosen.pages:
        handles = _handles_of(chosen.conditions)
        with database.pages(handles) as (without_body, bodies):
            count = _write_pages(file, bodies)
        sentences = [f"{count:,} pages to {place}"]
        if without_body:
            sentences.append(
                f"{without_body:,} pages are not in it: they were stored without X's answer"
            )
        return sentences
    reading = database.read(
        chosen.view,
        names=chosen.columns,
        conditions=chosen.conditions,
        as_text=chosen.format in _AS_TEXT,
    )
    notes: list[str] = []
    with reading as (columns, rows):
        if chosen.format == "csv":
            count = _write_csv(file, columns, rows, excel_safe=chosen.excel_safe)
        elif chosen.format == "jsonl":
            count = _write_jsonl(file, columns, rows)
        elif chosen.format == "parquet":
            count = _write_parquet(file, columns, rows)
        else:
            count, notes = write_xlsx(file, columns, rows)
    return [f"{count:,} rows to {place}", *notes]


def _check_fits_pages(wanted: settings.Export) -> None:
    for option, given in (
        ("--columns", wanted.columns),
        ("--view", wanted.view),
        ("--excel-safe", wanted.excel_safe),
        ("this --format", wanted.format not in (None, "jsonl")),
        (
            "this ending of the output file",
            wanted.output and _ENDINGS.get(wanted.output.suffix, "jsonl") != "jsonl",
        ),
    ):
        if given:
            raise ConfigurationError(
                f"--raw writes X's own JSON, one page a line: leave out {option}"
            )
    if any(_split(text)[0] != "handle" for text in wanted.where):
        raise ConfigurationError("--raw writes whole pages: of the filters only handle= is taken")


def _format_of(output: Path | None) -> str:
    if output is None:
        return "csv"
    form = _ENDINGS.get(output.suffix.lower())
    if form is None:
        raise ConfigurationError(
            f"the ending of {output} tells no format: add --format, one of {', '.join(settings.EXPORT_FORMATS)}"
        )
    return form


# --- filters ---------------------------------------------------------------------------------------------

_NAME = re.compile(r"@?([A-Za-z0-9_]{1,20})")
_ID = re.compile(r"[0-9]{1,19}")
_WHOLE = re.compile(r"[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


class _Refusal(Exception):
    """A value that its filter does not take; says what it must be."""


def _condition(text: str) -> Condition:
    name, value = _split(text)
    if name == "lang":
        raise ConfigurationError(
            "--where lang= is not possible: the table of the posts has no language; sentiment is there for English"
        )
    read = _VALUES.get(name)
    if read is None:
        known = ", ".join(f"{each}=" for each in _VALUES)
        shown = harmless_name(name) or "of this name"
        raise ConfigurationError(f"--where: there is no filter {shown}; known are {known}")
    try:
        return Condition(name, read(value))
    except _Refusal as refusal:
        raise ConfigurationError(f"--where: {name}= must be {refusal}") from None


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise ConfigurationError("--where needs name=value, such as handle=ada or since=2024-01-31")
    return name.strip().lower(), value.strip()


def _handles_of(conditions: Sequence[Condition]) -> list[str] | None:
    """The names that pass all filters; None when there is none."""
    sets = [set(condition.value) for condition in conditions]
    return sorted(set.intersection(*sets)) if sets else None


def _folded_names(value: str) -> list[str]:
    found = [_NAME.fullmatch(name.strip()) for name in value.split(",")]
    names = [match[1].lower() for match in found if match]
    if len(names) < len(found):
        raise _Refusal("names of letters, digits and _, with commas between")
    return names


def _folded_tags(value: str) -> list[str]:
    tags = [tag.strip().removeprefix("#").lower() for tag in _piece(value).split(",")]
    if not all(tags):
        raise _Refusal("hashtags with commas between")
    return tags


def _ids(value: str) -> list[int]:
    return [_id(text) for text in value.split(",")]


def _id(value: str) -> int:
    if not _ID.fullmatch(value.strip()) or int(value) >= 2**63:
        raise _Refusal("an id: digits, below 2^63")
    return int(value)


def _whole(value: str) -> int:
    if not _WHOLE.fullmatch(value):
        raise _Refusal("a whole number")
    return int(value)


def _decimal(value: str) -> Decimal:
    if not _DECIMAL.fullmatch(value):
        raise _Refusal("a number, with a point before decimals")
    return Decimal(value)


def _moment(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value if _MOMENT.fullmatch(value) else "")
    except ValueError:
        raise _Refusal("a day or a moment, such as 2024-01-31 or 2024-01-31T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _piece(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Refusal("text in the encoding of the terminal") from None
    return value


def _words(name: str) -> Callable[[str], tuple[str, ...]]:
    known = CHOICES[name]

    def read(value: str) -> tuple[str, ...]:
        words = tuple(word.strip().lower() for word in value.split(","))
        if not set(words) <= set(known):
            raise _Refusal(f"one or more of {', '.join(known)}, with commas between")
        return words

    return read


_VALUES: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("handle", "reply_to", "retweet_of", "mentions"), _folded_names),
    "hashtag": _folded_tags,
    **dict.fromkeys(("since", "until"), _moment),
    "id": _ids,
    **dict.fromkeys(("min_id", "max_id"), _id),
    **{name: _words(name) for name in CHOICES},
    **dict.fromkeys(("text", "url"), _piece),
    **dict.fromkeys(("min_likes", "max_likes", "min_retweets", "max_retweets"), _whole),
    **dict.fromkeys(("min_sentiment", "max_sentiment"), _decimal),
}


# --- a file takes its place ------------------------------------------------------------------------------


@contextmanager
def _replacing(path: Path, form: str) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when all went well, and leaves no trace when not.

    Nobody else writes it meanwhile.
    """
    began = False
    try:
        if path.exists() and not path.is_file():
            if path.is_dir() or form in _NEEDS:
                raise ConfigurationError(f"{path} is no ordinary file: name another with --output")
            with path.open("wb") as device:  # a pipe, /dev/stdout: nothing to replace
                yield device
            return
        path = path.resolve()
        with files.replacing(path) as new:
            began = True
            with new.emptied() as file:
                yield file
            new.put_in_place()
    except files.Taken:
        raise ConfigurationError(
            f"another export is writing {path}: wait for it, or end it"
        ) from None
    except OSError as error:
        if began:
            raise TweetcrawlerError(
                f"{path} cannot be written: {_reason(error)}; a file that was there is as it was"
            ) from None
        raise ConfigurationError(
            f"{path} cannot be written: {_reason(error)}; name another file"
        ) from None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


# --- csv -------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r'[^",\r\n]+').fullmatch
# What a spreadsheet takes for a formula, also behind white space and invisible signs, and
# in full width. The apostrophe is among them so that taking one off every cell that begins
# with one gives the text back.
_FORMULA = re.compile(
    r"['\t\r\n]|[\s\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff]*"
    r"[=+\-@\u2212\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]"
).match
_SHORT_NUMBER = re.compile(r"-?[0-9]{1,15}|-?[0-9]{1,9}\.[0-9]{1,9}").fullmatch


def _write_csv(file: IO[bytes], columns: Sequence[Column], rows: Rows, *, excel_safe: bool) -> int:
    """RFC 4180 in UTF-8. NULL is an empty field and the empty text is `""`, as PostgreSQL's
    COPY has it.
    """
    line = _line_of_one if len(columns) == 1 else _line
    header = tuple(column.name for column in columns)
    guards: list[Callable[[str], str]] = []
    if excel_safe:
        header = tuple(map(_guarded, header))
        guards = [_guard_of(column) for column in columns]
        file.write(b"\xef\xbb\xbf")  # else Excel reads the local 8-bit code
    file.write(line(header).encode())
    count = 0
    for batch in rows:
        count += len(batch)
        if guards:
            cells = zip(*batch, strict=True)
            guarded = [
                [None if value is None else guard(value) for value in values]
                for guard, values in zip(guards, cells, strict=True)
            ]
            file.write("".join(map(line, zip(*guarded, strict=True))).encode())
        else:
            file.write("".join(map(line, batch)).encode())
    return count


def _line(values: tuple[str | None, ...]) -> str:
    return (
        ",".join(
            [
                "" if value is None else value if _PLAIN(value) else _quoted(value)
                for value in values
            ]
        )
        + "\r\n"
    )


def _line_of_one(values: tuple[str | None, ...]) -> str:
    # An empty line is skipped by readers, and \. alone on a line ends the data for some.
    return _quoted(values[0] or "") + "\r\n"


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _guard_of(column: Column) -> Callable[[str], str]:
    if column.is_list or column.kind not in ("id", "whole", "number"):
        return _guarded
    if column.kind == "id":
        return "'".__add__
    return lambda value: value if _SHORT_NUMBER(value) else "'" + value


def _guarded(value: str) -> str:
    return "'" + value if _FORMULA(value) else value


# --- json lines ------------------------------------------------------------------------------------------

_EXACT = 2**53  # beyond it JavaScript and others round


def _write_jsonl(file: IO[bytes], columns: Sequence[Column], rows: Rows) -> int:
    """One object a line; ids, and whole numbers beyond 2^53, are strings."""
    names = [column.name for column in columns]
    changed = [
        (column.name, _JSON[column.kind], column.is_list)
        for column in columns
        if column.kind in _JSON
    ]
    count = 0
    for batch in rows:
        count += len(batch)
        lines = []
        for row in batch:
            shown = dict(zip(names, row, strict=True))
            for name, change, is_list in changed:
                value = shown[name]
                if value is not None:
                    shown[name] = _each(change, value) if is_list else change(value)
            lines.append(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE))
        file.write(b"".join(lines))
    return count


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """The list with its elements changed, also inside lists of lists."""
    if isinstance(value, list):
        return [_each(change, element) for element in value]
    return None if value is None else change(value)


def _json_whole(value: int) -> int | str:
    return value if -_EXACT <= value <= _EXACT else str(value)


def _json_time(value: datetime) -> str:
    """In the form that X sends, finer only where there is more to tell."""
    return (
        value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds")[
            :-6
        ]
        + "Z"
    )


_JSON: Mapping[str, Callable[[Any], Any]] = {
    "id": str,
    "whole": _json_whole,
    "time": _json_time,
    "date": date.isoformat,
    "json": lambda text: orjson.Fragment(text),
}


def _write_pages(file: IO[bytes], bodies: Iterable[bytes]) -> int:
    count = 0
    for count, body in enumerate(bodies, start=1):  # noqa: B007 - the last number is the count
        # A line break in JSON can only stand between its parts; as it stands it would tear
        # the line.
        file.write(body.strip().replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    return count


# --- parquet ---------------------------------------------------------------------------------------------

_GROUP_ROWS = 50_000
_GROUP_BYTES = 32 * 2**20


def _write_parquet(file: IO[bytes], columns: Sequence[Column], rows: Rows) -> int:
    """Whole numbers are int64, times UTC in microseconds, lists are lists; compressed with
    zstd.
    """
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {
        "id": pa.int64(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "truth": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "date": pa.date32(),
        "json": pa.string(),
        "text": pa.string(),
    }
    types = [
        pa.list_(kinds[column.kind]) if column.is_list else kinds[column.kind] for column in columns
    ]
    schema = pa.schema(
        [pa.field(column.name, type_) for column, type_ in zip(columns, types, strict=True)]
    )
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(_arrow_batches(columns, schema, rows)):
            writer.write_table(pa.Table.from_batches(group))
            count += sum(batch.num_rows for batch in group)
    return count


def _arrow_batches(columns: Sequence[Column], schema: Any, rows: Rows) -> Iterator[Any]:
    import pyarrow as pa

    for batch in rows:
        arrays = []
        for column, field, values in zip(columns, schema, zip(*batch, strict=True), strict=True):
            try:
                arrays.append(pa.array(values, type=field.type))
            except pa.ArrowException:
                raise ConfigurationError(
                    f"the column {column.name} holds a value that Parquet cannot hold beside the others, such as a "
                    "list of lists: leave the column out with --columns, or export jsonl"
                ) from None
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _groups(batches: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if (
            sum(each.num_rows for each in group) >= _GROUP_ROWS
            or sum(each.nbytes for each in group) >= _GROUP_BYTES
        ):
            yield group
            group = []
    if group:
        yield group


# --- xlsx ------------------------------------------------------------------------------------------------

SHEET_ROWS = 1_048_575
"""Rows of an Excel sheet under a header."""
_CELL_UNITS = 32_767  # of UTF-16


def write_xlsx(
    file: IO[bytes], columns: Sequence[Column], rows: Rows, *, sheet_rows: int = SHEET_ROWS
) -> tuple[int, list[str]]:
    """The number of rows, and sentences about what Excel cannot hold.

    All text is written as text, so nothing is ever a formula. Ids are text too, and other
    numbers of more than 15 digits, since Excel has no more. Rows that a sheet cannot hold
    go on in the next.
    """
    import xlsxwriter
    from xlsxwriter.exceptions import XlsxWriterException

    count = cut = 0
    with tempfile.TemporaryDirectory(prefix="tweetcrawler-") as folder:
        book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": folder})
        book.set_properties(
            {"created": datetime(2000, 1, 1, tzinfo=UTC)}
        )  # the same rows, the same file
        plain = book.add_format()
        sheet: _Sheet | None = None
        line = 0
        writers = [_cell_writer(column) for column in columns]
        for row in (row for batch in rows for row in batch):
            if sheet is None or line == sheet_rows:
                sheet, line = _sheet(book, plain, columns), 0
            line += 1
            count += 1
            for position, (put, value) in enumerate(zip(writers, row, strict=True)):
                if value is not None:
                    cut += put(sheet, line, position, value)
        if sheet is None:
            _sheet(book, plain, columns)
        try:
            book.close()
        except XlsxWriterException as error:
            raise TweetcrawlerError(
                f"Excel's format cannot hold this: {error}; export parquet or csv"
            ) from None
    notes = []
    if count > sheet_rows:
        notes.append(
            f"Excel has {sheet_rows:,} rows a sheet: there are {-(-count // sheet_rows)} sheets"
        )
    if cut:
        notes.append(
            f"Excel has {_CELL_UNITS:,} characters a cell: {cut:,} texts are cut; csv has them whole"
        )
    return count, notes


class _Sheet(NamedTuple):
    """A sheet of XlsxWriter, and its format that changes nothing."""

    page: Any
    plain: Any


def _sheet(book: Any, plain: Any, columns: Sequence[Column]) -> _Sheet:
    sheet = _Sheet(book.add_worksheet(f"tweets {len(book.worksheets()) + 1}"), plain)
    sheet.page.freeze_panes(1, 0)
    for position, column in enumerate(columns):
        _put_text(sheet, 0, position, column.name)
    return sheet


def _cell_writer(column: Column) -> Callable[[_Sheet, int, int, str], bool]:
    if column.kind in ("whole", "number") and not column.is_list:
        return _put_number
    return _put_text


def _put_number(sheet: _Sheet, line: int, position: int, value: str) -> bool:
    if _SHORT_NUMBER(value):
        sheet.page.write_number(line, position, float(value))
        return False
    return _put_text(sheet, line, position, value)


def _put_text(sheet: _Sheet, line: int, position: int, value: str) -> bool:
    """Writes text as text; says whether it had to be cut."""
    fits = len(value) <= _CELL_UNITS // 2 or len(value.encode("utf-16-le")) <= 2 * _CELL_UNITS
    if not fits:
        value = value.encode("utf-16-le")[: 2 * _CELL_UNITS].decode("utf-16-le", errors="ignore")
    if value.startswith("<r>") and value.endswith("</r>"):
        # XlsxWriter takes such text for markup of its own and would write it as it stands,
        # formulas included. Told that it is text in two parts, it escapes both.
        sheet.page.write_rich_string(line, position, value[:1], sheet.plain, value[1:])
    else:
        sheet.page.write_string(line, position, value)
    return not fits
