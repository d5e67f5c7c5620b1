"""Credentials of the auth CSV, or of the terminal.

A key, token or proxy's password stands in no sentence, whatever is wrong with it; its line
and column do.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import Credential, Secret, harmless_name, read_by_others, read_text

KEY_COLUMNS = ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
OPTIONAL_COLUMNS = ("bearer_token", "name", "proxy")
LONGEST_LINE = 10_000

_COLUMNS = KEY_COLUMNS + OPTIONAL_COLUMNS
_HALVES = (  # either needs the other
    ("consumer_key", "consumer_secret"),
    ("consumer_secret", "consumer_key"),
    ("access_token", "access_token_secret"),
    ("access_token_secret", "access_token"),
)
_SECRET = re.compile(
    r"[!-~]{1,1000}"
)  # it goes into a header: no white space, control or foreign character
_NAME = re.compile(r"[A-Za-z0-9._ -]{1,40}")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_SPACE_AT_QUOTE = re.compile(r'(?:(?<=,)|\A)[ \t]+(?=")|(?<=")[ \t]+(?=,|\Z)')
# Not splitlines(): that ends lines at form feeds and at U+2028, too.
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class CredentialFile:
    """The usable credentials of a file, at least one, and sentences on what was odd in it."""

    credentials: tuple[Credential, ...]
    notes: tuple[str, ...]


def read_credentials(path: Path) -> CredentialFile:
    """The credentials of an auth CSV, in its order; rows of the same keys become one.

    The first line that is not blank is the header: columns in any order and case,
    consumer_key and consumer_secret or bearer_token among them. A row that cannot be used
    is left out with a note.

    Errors: ConfigurationError when the file cannot be read, has no such header, or has no
    usable row.
    """
    rows = _records(read_text(path, "auth CSV"), path)
    header_line, names = next(rows, (1, []))
    columns, notes = _columns(names, f"{path}, line {header_line}")
    found: list[tuple[int, Credential]] = []
    for line, cells in rows:
        try:
            found.append((line, _credential(cells, columns)))
        except _BadRow as error:
            notes.append(f"{path}, line {line}{error}; the row is left out.")
    if not found:
        reasons = "".join(f" {note}" for note in notes[:10])
        raise ConfigurationError(f"{path} has no usable row; write keys below the header.{reasons}")
    notes += filter(None, [read_by_others(path)])
    merged = _merged(found, path, notes)
    return CredentialFile(_named(merged, path, notes), tuple(notes))


def ask_credentials(ask: Callable[[str], str]) -> Credential:
    """A credential from the answers to four questions; `ask` shows a question and hides the
    typing.

    Both parts of the access token may be left blank: the app then reads without a user.

    Errors: ConfigurationError names the answer that cannot be a key.
    """
    # Pasted keys often bring a space or a line break with them.
    answers = [ask(f"{column.replace('_', ' ')}: ").strip() for column in KEY_COLUMNS]
    try:
        return replace(_credential(answers, list(KEY_COLUMNS)), name="credential-1")
    except _BadRow as error:
        sentence = f"The answer{error}; copy the keys from X's developer portal and try again."
    raise ConfigurationError(sentence)


def no_credentials_sentence() -> str:
    """Message for a call without auth CSV and without a terminal."""
    return (
        "No auth CSV is configured, and there is no terminal to ask for keys; set authCSV in "
        f"tweet.ini or --auth-csv to a CSV file with the header {', '.join(KEY_COLUMNS)}."
    )


class _BadRow(Exception):
    """Column and reason, as the end of a sentence that began with the place."""


def _records(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank; no value goes over a line break."""
    for number, line in enumerate(_LINE_BREAK.split(text), start=1):
        if not line.strip(" \t,"):
            continue
        if len(line) > LONGEST_LINE:
            raise ConfigurationError(
                f"{path}, line {number}: this is too long for keys; check the file."
            )
        try:
            # The module csv takes a quote that follows a space for a part of the value.
            cells = next(csv.reader([_SPACE_AT_QUOTE.sub("", line)], strict=True))
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            sentence = (
                "a quote is opened and not closed" if unclosed else "a quote stands inside a value"
            )
        else:
            yield number, [cell.strip() for cell in cells]
            continue
        raise ConfigurationError(f"{path}, line {number}: {sentence}; keys need no quotes.")


def _columns(names: Sequence[str], place: str) -> tuple[list[str], list[str]]:
    """The header folded to known columns, others as "", and notes on these."""
    columns = [name.lower().replace(" ", "_") for name in names]
    if not {"consumer_key", "bearer_token"} & set(columns):
        raise ConfigurationError(
            f"{place}: this must be the header of the auth CSV, with the columns "
            f"{', '.join(KEY_COLUMNS)} and optionally {', '.join(OPTIONAL_COLUMNS)}, "
            "separated by commas."
        )
    notes = []
    for position, column in enumerate(columns):
        if column in columns[:position] and column in _COLUMNS:
            raise ConfigurationError(
                f"{place}: the column {column} stands there twice; leave out one."
            )
        if column not in _COLUMNS:
            columns[position] = ""
            shown = harmless_name(names[position]) or position + 1
            notes += [f"{place}: the column {shown} is not known and not read."] if column else []
    absent = [second for first, second in _HALVES if first in columns and second not in columns]
    if absent:
        raise ConfigurationError(f"{place}: the column {absent[0]} is missing; add it.")
    return columns, notes


def _credential(cells: Sequence[str], columns: Sequence[str]) -> Credential:
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        raise _BadRow(f", column {len(columns) + 1}: there are more values than columns")
    values = {column: cell for column, cell in zip(columns, cells, strict=False) if column and cell}
    for column, value in values.items():
        if column != "name" and not _SECRET.fullmatch(value):
            raise _BadRow(
                f", column {column}: white space, a control or foreign character is inside"
            )
    for first, second in _HALVES:
        if first in values and second not in values:
            raise _BadRow(f", column {second}: it is empty although there is a value for {first}")
    if "access_token" in values and "consumer_key" not in values:
        raise _BadRow(
            ", column consumer_key: it is empty although there is a value for access_token"
        )
    if not {"consumer_key", "bearer_token"} & set(values):
        raise _BadRow(", column consumer_key: it is empty, and there is no bearer_token")
    if "proxy" in values and not _is_proxy(values["proxy"]):
        raise _BadRow(
            f", column proxy: it must be a URL that begins with {', '.join(_PROXY_SCHEMES)}"
        )
    name = values.pop("name", "")
    return Credential(name, **{column: Secret(value) for column, value in values.items()})


def _is_proxy(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _merged(
    found: Sequence[tuple[int, Credential]], path: Path, notes: list[str]
) -> list[tuple[int, Credential]]:
    """Rows of the same keys as one: the first row's values, and the others' for what it lacks.

    A bearer token alone is the same as a row in which it stands beside its app's keys.
    """
    kept: dict[str, tuple[int, Credential]] = {}
    bearers: dict[Secret, str] = {}
    # Rows with keys come first, as only they tell whose app a lone bearer token belongs to. The
    # sort is stable, so the first row of the file still counts.
    for line, each in sorted(found, key=lambda row: row[1].consumer_key is None):
        identity = each.user_fingerprint or each.app_fingerprint
        if each.bearer_token:
            identity = identity if each.consumer_key else bearers.get(each.bearer_token, identity)
            bearers.setdefault(each.bearer_token, identity)
        if identity not in kept:
            kept[identity] = (line, each)
            continue
        first_line, first = kept[identity]
        kept[identity] = (first_line, _united(first, each))
        notes.append(
            f"{path}, line {line}: the same keys as in line {first_line}; taken as one row."
        )
        notes += [
            f"{path}, line {line}, column {column}: not the value of line {first_line}, "
            "which counts."
            for column in ("bearer_token", "proxy")
            if getattr(each, column) not in (None, getattr(kept[identity][1], column))
        ]
    return sorted(kept.values(), key=lambda row: row[0])


def _united(first: Credential, second: Credential) -> Credential:
    return replace(
        first,
        name=first.name or second.name,
        bearer_token=first.bearer_token or second.bearer_token,
        proxy=first.proxy or second.proxy,
    )


def _named(
    rows: Sequence[tuple[int, Credential]], path: Path, notes: list[str]
) -> tuple[Credential, ...]:
    """Every credential with a name of its own: the given one, or `credential-<n>` after its
    place.
    """
    given = [each.name for _, each in rows]
    taken: set[str] = set()
    named = []
    for number, (line, each) in enumerate(rows, start=1):
        name = each.name
        if name and (name in taken or not _NAME.fullmatch(name)):
            reason = (
                "is used before"
                if name in taken
                else "is not 1 to 40 letters, digits, spaces, . _ -"
            )
            name = ""
            notes.append(f"{path}, line {line}, column name: the name {reason}; a number is taken.")
        if not name:
            numbered = (f"credential-{n}" for n in count(number))
            name = next(free for free in numbered if free not in taken and free not in given)
        taken.add(name)
        named.append(replace(each, name=name))
    return tuple(named)
