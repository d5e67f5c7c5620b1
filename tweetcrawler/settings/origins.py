"""Places that values came from, for errors that an operator has to put right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import read_text
from tweetcrawler.settings.options import VARIABLE_PREFIX, folded
from tweetcrawler.settings.sources import entries

# What libpq reads where our own settings say nothing.
# https://www.postgresql.org/docs/current/libpq-envars.html
_LIBPQ = {
    "dbhost": "PGHOST",
    "dbport": "PGPORT",
    "dbname": "PGDATABASE",
    "dbuser": "PGUSER",
    "dbpass": "PGPASSWORD",
}


def origin_of(
    key: str, *, argv: Sequence[str], environ: Mapping[str, str], file: Path | None
) -> str:
    """Where the value of an option was set: the option, a variable, a line of a file, or
    nowhere.
    """
    name = folded(f"--{key}")
    if any(folded(text.partition("=")[0]) == name for text in argv):
        return f"option --{key}"
    for variable, text in environ.items():
        ours = variable.removeprefix(VARIABLE_PREFIX)
        if ours != variable and folded(f"--{ours}") == name and text.strip():
            return f"variable {variable}"
    line = _line_of(name, file) if file else None
    if line:
        return f"{file}, line {line}"
    inherited = _LIBPQ.get(key, "")
    return f"variable {inherited}" if environ.get(inherited) else "not set"


def _line_of(name: str, file: Path) -> int | None:
    # Read once more, since only a fault asks for it.
    try:
        found = entries(read_text(file, "configuration file"), file)
        return next((e.line for e in found if folded(f"--{e.key}") == name and e.value), None)
    except ConfigurationError:
        return None
