"""Files that others read: posts as CSV, JSON lines, Parquet or Excel, put in place when whole.

Their reader may be a spreadsheet or JavaScript, which round long numbers and run formulas: an
id leaves here as plain digits, as text, or as a 64-bit integer, never as a float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Protocol

from tweetcrawler import files
from tweetcrawler.db import Condition, Database
from tweetcrawler.errors import ConfigurationError, PackageMissing, TweetcrawlerError
from tweetcrawler.export import as_csv, as_jsonl, as_parquet, as_xlsx, filters, twarc
from tweetcrawler.words import plural

_ENDINGS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
_NEEDS = {"parquet": "pyarrow.parquet", "xlsx": "xlsxwriter"}
_AS_TEXT = {"csv", "xlsx"}  # the others have lists and times of their own


class Wanted(Protocol):
    """An export as it was said; the values of the command `export` are one."""

    @property
    def format(self) -> str | None: ...
    @property
    def output(self) -> Path | None: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def where(self) -> tuple[str, ...]: ...
    @property
    def view(self) -> str | None: ...
    @property
    def excel_safe(self) -> bool: ...
    @property
    def delimiter(self) -> str | None: ...
    @property
    def pages(self) -> bool: ...


@dataclass(frozen=True)
class Export:
    """An export that can be done as far as the options tell; `path` None is stdout."""

    format: str
    path: Path | None
    view: str | None
    columns: tuple[str, ...]
    conditions: tuple[Condition, ...]
    excel_safe: bool
    delimiter: str
    pages: bool


def prepared(wanted: Wanted) -> Export:
    """The export that the options mean together; nothing is opened or asked yet.

    **Errors**: `ConfigurationError` for options that exclude each other, a filter that is none,
    a missing package.
    """
    if wanted.pages:
        _check_fits_pages(wanted)
    form = "jsonl" if wanted.pages else wanted.format or _format_of(wanted.output)
    if form in _NEEDS:
        _check_can_write(form, wanted.output)
    if wanted.excel_safe and form in ("jsonl", "parquet"):
        raise ConfigurationError(f"--excel-safe is for csv and xlsx; leave it out for {form}")
    if wanted.delimiter and form != "csv":
        raise ConfigurationError(f"--delimiter is for csv; leave it out for {form}")
    return Export(
        format=form,
        path=wanted.output,
        view=wanted.view,
        columns=wanted.columns,
        conditions=tuple(map(filters.condition, wanted.where)),
        excel_safe=wanted.excel_safe,
        delimiter=wanted.delimiter or ",",
        pages=wanted.pages,
    )


def write(chosen: Export, database: Database, stdout: Callable[[], IO[bytes]]) -> list[str]:
    """Writes the file, or to what `stdout` opens; gives sentences about what was done.

    A file is in its place when this returns, and as it was when this raises.

    **Errors**: those of `Database.read`; `ConfigurationError` when the place cannot be written to,
    `TweetcrawlerError` when it fails later, such as on a full disk.
    """
    if chosen.path is None:
        rows = stdout()
        sentences = _write_to(rows, chosen, database)
        # Here and not at exit, where a full disk could no more become an exit code.
        rows.flush()
        return sentences
    with _replacing(chosen.path, chosen.format) as file:
        return _write_to(file, chosen, database)


def _write_to(file: IO[bytes], chosen: Export, database: Database) -> list[str]:
    place = str(chosen.path or "stdout")
    if chosen.pages:
        return _write_pages_to(file, chosen, database, place)
    reading = database.read(
        chosen.view,
        names=chosen.columns,
        conditions=chosen.conditions,
        as_text=chosen.format in _AS_TEXT,
    )
    notes: list[str] = []
    with reading as (columns, rows):
        if chosen.format == "csv":
            # Programs of a pipe take a carriage return for a part of the last cell.
            piped = chosen.path is None or (chosen.path.exists() and not chosen.path.is_file())
            form = as_csv.Form(chosen.delimiter, "\n" if piped else "\r\n", chosen.excel_safe)
            count = as_csv.write(file, columns, rows, form)
        elif chosen.format == "jsonl":
            count = as_jsonl.write(file, columns, rows)
        elif chosen.format == "parquet":
            count = as_parquet.write(file, columns, rows)
        else:
            count, notes = as_xlsx.write(file, columns, rows)
    return [f"{plural(count, 'row')} to {place}", *notes]


def _write_pages_to(file: IO[bytes], chosen: Export, database: Database, place: str) -> list[str]:
    handles = filters.handles_of(chosen.conditions)
    with database.pages(handles) as (without_body, bodies):
        count = as_jsonl.write_pages(file, bodies)
    sentences = [f"{plural(count, 'page')} to {place}"]
    if chosen.path is not None:
        sentences.append("twarc2 reads it with: " + twarc.csv_command(chosen.path))
    if without_body:
        sentences.append(
            f"{plural(without_body, 'page is', 'pages are')} not in it, "
            "since X's answer was not stored"
        )
    return sentences


def _check_can_write(form: str, output: Path | None) -> None:
    if output is None:
        raise ConfigurationError(
            f"{form} cannot go to stdout; name a file with --output FILE.{form}"
        )
    try:
        # Now, and not once a long statement has been run.
        import_module(_NEEDS[form])
    except ModuleNotFoundError as error:
        raise PackageMissing(form, (error.name or _NEEDS[form]).partition(".")[0]) from None


def _check_fits_pages(wanted: Wanted) -> None:
    for option, given in (
        ("--columns", wanted.columns),
        ("--view", wanted.view),
        ("--excel-safe", wanted.excel_safe),
        ("--delimiter", wanted.delimiter),
        ("this --format", wanted.format not in (None, "jsonl")),
        (
            "this ending of the output file",
            wanted.output and _ENDINGS.get(wanted.output.suffix, "jsonl") != "jsonl",
        ),
    ):
        if given:
            raise ConfigurationError(
                f"--raw writes X's own JSON, one page per line: leave out {option}"
            )
    if any(filters.split(text)[0] != "handle" for text in wanted.where):
        raise ConfigurationError("--raw writes whole pages: of the filters only handle= is taken")


def _format_of(output: Path | None) -> str:
    if output is None:
        return "csv"
    form = _ENDINGS.get(output.suffix.lower())
    if form is None:
        known = ", ".join(dict.fromkeys(_ENDINGS.values()))
        raise ConfigurationError(
            f"the ending of {output} tells no format: add --format, one of {known}"
        )
    return form


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
        # A link stays one: the file that it leads to is replaced.
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
