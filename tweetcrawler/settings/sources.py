"""Texts of options from the places that a call cannot show: the environment, tweet.ini.

They are checked here, where the name of the variable and the line of the file are known. A
value is never quoted, since it may be a password in the wrong line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import harmless_name, read_by_others, read_text
from tweetcrawler.settings.commands import Grammar, nearest
from tweetcrawler.settings.groups import DEFAULT_FILE
from tweetcrawler.settings.options import VARIABLE_PREFIX, Option, folded
from tweetcrawler.settings.types import BadValue, PathIn

# Texts by the folded name of their option, as the parser takes them.
Texts = dict[str, str]


def value_of(option: Option, text: str, paths: PathIn, place: str) -> Any:
    """The value of a text; one that the option does not take stays out of the sentence.

    Errors: ConfigurationError begins with the place.
    """
    try:
        return option.value(text, paths)
    except BadValue as error:
        sentence = f"{place} {error}."
    raise ConfigurationError(sentence)  # outside the clause: no cause that holds the value


def _checked(option: Option, text: str, paths: PathIn, place: str) -> str:
    """The text of a value that the option takes, as it is written on a command line."""
    value = value_of(option, text, paths, place)
    if option.is_switch:
        return "true" if value else "false"
    # A path in a file begins at the file's folder, and the parser knows one folder only.
    return str(value) if isinstance(value, Path) else text


# --- the environment ------------------------------------------------------------------------------


def read_variables(
    environ: Mapping[str, str], grammar: Grammar, paths: PathIn
) -> tuple[Texts, tuple[str, ...]]:
    """Texts of our variables that are not blank, and notes on misspelled ones."""
    found: Texts = {}
    notes: list[str] = []
    variables = (option.variable for option in grammar.all.values())
    known = {each.removeprefix(VARIABLE_PREFIX) for each in variables if each}
    for variable, text in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or not text.strip():
            continue
        name = variable.removeprefix(VARIABLE_PREFIX)
        option = grammar.all.get(folded(f"--{name}"))
        if option and option.variable:
            found[folded(option.name)] = _checked(option, text, paths, f"The variable {variable}")
        # Others may be read by another program.
        elif near := nearest(name, known, likeness=0.8):
            meant = VARIABLE_PREFIX + near
            notes.append(
                f"The variable {variable} is not known and not read; did you mean {meant}?"
            )
    return found, tuple(notes)


def config_file(named_file: Path | str | None, folder: Path) -> Path | None:
    """The file of options: the named one, else the one in this folder if it is there."""
    default = folder / DEFAULT_FILE
    if named_file is not None:
        return Path(named_file)
    return default if default.is_file() else None


# --- tweet.ini ------------------------------------------------------------------------------------

_SECTION = re.compile(r"\[[^\]]*\]\s*([#;].*)?", re.DOTALL)
_KEY = re.compile(r"\s*(?P<key>[^=:]*[^=:\s])\s*[=:](?P<rest>.*)", re.DOTALL)
_COMMENT = re.compile(r"\s[#;]")
_QUOTED = re.compile(r"(?P<quote>['\"])(?P<value>.*?)(?P=quote)(?=\s*\Z|\s+[#;])", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    line: int
    key: str
    value: str = field(repr=False)


def read_file(path: Path, grammar: Grammar, paths: PathIn) -> tuple[Texts, tuple[str, ...]]:
    """Texts of a tweet.ini, with paths under its folder, and notes."""
    found: Texts = {}
    lines: dict[str, int] = {}
    for entry in entries(read_text(path, "configuration file"), path):
        place = f"{path}, line {entry.line}"
        option = _option_of_key(entry.key, place, grammar)
        name = folded(option.name)
        if name in lines:
            raise ConfigurationError(
                f"{place}: {entry.key} was given before, in line {lines[name]}; leave out one."
            )
        lines[name] = entry.line
        if entry.value.strip():
            found[name] = _checked(
                option, entry.value, paths.under(path.parent), f"{place}: {entry.key}"
            )
    # Only a file with a password or a token is worth the warning.
    note = read_by_others(path) if found.keys() & {"--dbpass", "--notify"} else None
    return found, (note,) if note else ()


def _option_of_key(key: str, place: str, grammar: Grammar) -> Option:
    option = grammar.all.get(folded(f"--{key}"))
    shown = harmless_name(key) or "in this line"
    if option is None:
        near = nearest(key, {each.spelled for each in grammar.all.values()})
        advice = f"did you mean {near}?" if near else "`tweetcrawler --help` lists all."
        raise ConfigurationError(f"{place}: the key {shown} is not known; {advice}")
    if not option.in_file:
        raise ConfigurationError(
            f"{place}: the key {shown} cannot stand in a file; say {option.name}."
        )
    return option


def entries(text: str, path: Path) -> Iterator[Entry]:
    """The `key = value` lines. Sections order the file for its readers only: a key may
    stand in any.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;" or _SECTION.fullmatch(stripped):
            continue
        match = _KEY.fullmatch(line)
        if match is None:
            raise ConfigurationError(
                f"{path}, line {number}: this is neither a [section] nor key = value nor a "
                "# comment."
            )
        yield Entry(
            number, match["key"], _value_in(match["rest"], f"{path}, line {number}: {match['key']}")
        )


def _value_in(text: str, place: str) -> str:
    """The text after `=`: in quotes as it is, else up to a # or ; with white space before it.

    A quote closes the value only where the line or a comment follows, so a password may
    hold its own quotes.
    """
    if text.strip()[:1] not in ("'", '"'):
        return _COMMENT.split(text, maxsplit=1)[0].strip()
    match = _QUOTED.match(text.lstrip())
    if match is None:
        raise ConfigurationError(
            f"{place}: the quote before the value is not closed; close it on its line."
        )
    return match["value"]
