"""What was said in each place: on the command line, in the environment, in tweet.ini.

What is wrong is named by its place; values are never quoted, since any of them may be a
password in the wrong line.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import harmless_name, read_by_others, read_text
from tweetcrawler.settings.options import (
    COMMANDS,
    DATABASE_ACTIONS,
    DEFAULT_FILE,
    READ_DEFAULT_FILE,
    VARIABLE_PREFIX,
    Grammar,
    Option,
)
from tweetcrawler.settings.types import PathIn, on_off

# --- the command line and the environment ---------------------------------------------------------


@dataclass(frozen=True)
class _CommandLine:
    words: tuple[str, ...]
    options: dict[str, str | None]
    repeated: tuple[tuple[str, str], ...] = ()
    rest: tuple[str, ...] = ()
    wants: str | None = None


def read_command_line(argv: Sequence[str], grammar: Grammar) -> _CommandLine:
    """Words, options and what follows `sandbox`, told apart before argparse sees them.

    argparse gives up optional words that stand between options, and would read the
    sandbox's options as ours.
    """
    words: list[str] = []
    options: dict[str, str | None] = {}
    repeated: list[tuple[str, str]] = []
    position = 0
    while position < len(argv):
        argument = argv[position]
        position += 1
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
            if words == ["sandbox"]:
                return _CommandLine(tuple(words), options, rest=tuple(argv[position:]))
            continue
        if words == ["export"] and argument.lower() == "--raw":
            argument = "--pages"  # elsewhere --raw takes on or off
        option, value = _find_option(argument, grammar)
        if option.name in ("--help", "--version"):
            return _CommandLine((), {}, wants=option.name[2:])
        if not option.is_flag and value is None:
            value = argv[position] if position < len(argv) else None
            position += 1
        if value is None or value.strip():
            checked = _checked_argument(option, value)
            if option.is_repeatable and checked is not None:
                repeated.append((option.name, checked))
            else:
                options[option.name] = checked
    return _CommandLine(tuple(words), options, tuple(repeated))


def _find_option(argument: str, grammar: Grammar) -> tuple[Option, str | None]:
    name, equals, text = argument.partition("=")
    option = grammar.by_name.get(name.lower()) or grammar.by_name.get(_without_dashes(name))
    value = text if equals else None
    if option is None and not argument.startswith("--"):
        name, value = argument[:2], argument[2:]
        option = grammar.by_name.get(name)
        option = None if option and option.is_flag else option
    if option is None:
        shown = harmless_name(argument.partition("=")[0]) or "of that name"
        nearest = grammar.nearest(argument.partition("=")[0])
        advice = f"did you mean --{nearest}?" if nearest else "`tweetcrawler --help` lists all."
        raise ConfigurationError(f"There is no option {shown}; {advice}")
    return option, value


def _without_dashes(name: str) -> str:
    """`--max-per-trend` as `--maxpertrend`, which is `--maxPerTrend` in any case."""
    return "--" + name[2:].replace("-", "").lower() if name.startswith("--") else name


_PASSWORD_INSIDE = re.compile(r"\bpassword\s*=|://[^@]*:[^@]*@", re.IGNORECASE)


def _checked_argument(option: Option, value: str | None) -> str | None:
    if not option.on_command_line:
        raise ConfigurationError(
            f"{option.name} is not taken from the command line, where everyone on this machine can read it; "
            f"write {option.name[2:]} into the file or set {VARIABLE_PREFIX}{option.name[2:].upper()}."
        )
    if option.is_flag:
        if value is not None:
            raise ConfigurationError(f"{option.name} takes no value; leave out what is behind it.")
        return None
    if value is None or value.startswith("--"):
        raise ConfigurationError(f"{option.name} needs a value behind it.")
    if option.name == "--dbname" and _PASSWORD_INSIDE.search(value):
        raise ConfigurationError(
            "--dbname has a password in it, and everyone on this machine can read a command line; "
            "write it into the file or set TWEETCRAWLER_DBPASS."
        )
    _check(option, value, option.name)
    return value


# What makes no sense elsewhere is refused elsewhere, before anything is bought.
_BELONGS_TO = {
    "--archive": ("search", "crawl", "snowball", "plan"),
    **dict.fromkeys(("--query", "--queries"), ("search", "plan")),
    **dict.fromkeys(("--since", "--until", "--count"), ("search",)),
    **dict.fromkeys(("--handle", "--watch"), ("status",)),
    "--json": ("status", "plan"),
    "--ask": ("status", "plan"),
    **dict.fromkeys(("--html", "--markdown"), ("report",)),
    "--once": ("watch",),
    **dict.fromkeys(
        ("--woeid", "--maxTrends", "--maxPerTrend", "--lang", "--timelines", "--every"),
        ("trending", "plan"),
    ),
    **dict.fromkeys(("--by", "--minCount", "--limit", "--depth", "--stdout"), ("snowball",)),
    **dict.fromkeys(("--refresh", "--age"), ("hydrate",)),
}


def command_of(line: _CommandLine) -> str:
    """The command, whether it was said as a word or as an option; what does not belong to
    it is refused.
    """
    command = _known_words(line.words)
    for name, other in (("--trending", "trending"), ("--retweeted", "snowball")):
        if name in line.options and (command, name) != ("plan", "--trending"):
            if command not in ("crawl", other):
                raise ConfigurationError(
                    f"{name} is a command of its own; leave it or {command} out."
                )
            command = other
    for name in [*line.options, *(name for name, _ in line.repeated)]:
        owners = _BELONGS_TO.get(name)
        if owners and command not in owners:
            raise ConfigurationError(
                f"{name} belongs to {' and '.join(owners)}, not to {command}; leave it out or name that command."
            )
    if command == "search" and not any(
        name in ("--query", "--queries") for name in (*line.options, *dict(line.repeated))
    ):
        raise ConfigurationError("`tweetcrawler search` needs a query: -q QUERY or --queries FILE.")
    return command


def _known_words(words: tuple[str, ...]) -> str:
    """The command; words that it does not take are refused."""
    command = words[0] if words else "crawl"
    if command not in COMMANDS:
        raise ConfigurationError(f"The first word must be a command, one of {', '.join(COMMANDS)}.")
    if command == "db" and (len(words) < 2 or words[1] not in DATABASE_ACTIONS):
        raise ConfigurationError(
            f"`tweetcrawler db` needs one of {', '.join(DATABASE_ACTIONS)} behind it."
        )
    if command == "import" and len(words) < 2:
        raise ConfigurationError(
            "`tweetcrawler import` needs files or folders behind it, or - for standard input."
        )
    if command == "hydrate" and len(words) < 2:
        raise ConfigurationError(
            "`tweetcrawler hydrate` needs a file of ids behind it, or - for stdin."
        )
    if len(words) > (2 if command in ("db", "hydrate") else 1) and command != "import":
        raise ConfigurationError(
            f"`tweetcrawler {command}` takes no further word; options begin with --."
        )
    return command


def read_variables(
    environ: Mapping[str, str], grammar: Grammar
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Our variables that are not blank, by the first name of their option, and notes on
    misspelled ones.
    """
    found: dict[str, str] = {}
    notes: list[str] = []
    for variable, value in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or not value.strip():
            continue
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        option = grammar.by_name.get(f"--{name}")
        if option is None or not (option.in_file or option.name == "--config"):
            nearest = grammar.nearest(name, likeness=0.8)  # others may be read by somebody else
            if nearest:
                meant = VARIABLE_PREFIX + nearest.upper()
                notes.append(
                    f"The variable {variable} is not known and not read; did you mean {meant}?"
                )
            continue
        _check(option, value, f"The variable {variable}")
        found[VARIABLE_PREFIX + option.name[2:].upper()] = value
    return found, tuple(notes)


def config_file(text: str | None, command: str, grammar: Grammar) -> Path | None:
    if text:
        return grammar.path(text)
    default = grammar.folder / DEFAULT_FILE
    return default if command in READ_DEFAULT_FILE and default.is_file() else None


def _check(option: Option, text: str, place: str) -> None:
    """Raise for a value that its option does not take; the value stays out of the sentence."""
    convert = on_off if option.is_flag else option.action.type
    try:
        convert(text)  # type: ignore[operator, misc]  # every option has a callable type, see Grammar
    except argparse.ArgumentTypeError as error:
        sentence = f"{place} {error}."
    else:
        return
    raise ConfigurationError(sentence)


# --- tweet.ini ------------------------------------------------------------------------------------

_SECTION = re.compile(r"\[[^\]]*\]\s*([#;].*)?", re.DOTALL)
_KEY = re.compile(r"\s*(?P<key>[^=:]*[^=:\s])\s*[=:](?P<rest>.*)", re.DOTALL)
_COMMENT = re.compile(r"\s[#;]")
_QUOTED = re.compile(r"(?P<quote>['\"])(?P<value>.*?)(?P=quote)(?=\s*\Z|\s+[#;])", re.DOTALL)


@dataclass(frozen=True)
class _Entry:
    line: int
    key: str
    value: str = field(repr=False)


def read_file(path: Path, grammar: Grammar) -> tuple[dict[str, str], tuple[str, ...]]:
    """The values of a tweet.ini by the first names of their options, checked, paths
    absolute; and notes.
    """
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    for entry in _entries(read_text(path, "configuration file"), path):
        place = f"{path}, line {entry.line}"
        option = _option_of_key(entry.key, place, grammar)
        if option.name in lines:
            raise ConfigurationError(
                f"{place}: {entry.key} was given before, in line {lines[option.name]}; leave out one."
            )
        lines[option.name] = entry.line
        if entry.value.strip():
            _check(option, entry.value, f"{place}: {entry.key}")
            values[option.name[2:]] = _as_argument(
                option, entry.value, grammar.path.under(path.parent)
            )
    note = read_by_others(path) if "dbpass" in values else None
    return values, (note,) if note else ()


def _option_of_key(key: str, place: str, grammar: Grammar) -> Option:
    option = grammar.by_name.get(f"--{key.lower()}") or grammar.by_name.get(
        _without_dashes(f"--{key}")
    )
    shown = harmless_name(key) or "in this line"
    if option is None:
        nearest = grammar.nearest(key)
        advice = f"did you mean {nearest}?" if nearest else "`tweetcrawler --help` lists all."
        raise ConfigurationError(f"{place}: the key {shown} is not known; {advice}")
    if not option.in_file:
        raise ConfigurationError(
            f"{place}: the key {shown} cannot stand in a file; say {option.name}."
        )
    return option


def _as_argument(option: Option, value: str, path: PathIn) -> str:
    if isinstance(option.action.type, PathIn):
        return str(path(value))
    return str(on_off(value)) if option.is_flag else value


def _entries(text: str, path: Path) -> Iterator[_Entry]:
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
                f"{path}, line {number}: this is neither a [section] nor key = value nor a # comment."
            )
        yield _Entry(
            number, match["key"], _value(match["rest"], f"{path}, line {number}: {match['key']}")
        )


def _value(text: str, place: str) -> str:
    """What stands behind `=`: in quotes as it is, else up to a # or ; that has white space
    before it.

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
