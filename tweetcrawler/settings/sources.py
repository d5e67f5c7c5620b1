"""Values of options from each place: the command line, the environment, tweet.ini.

A fault is named by its place. Values are never quoted, since any of them may be a password
in the wrong line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import harmless_name, read_by_others, read_text
from tweetcrawler.settings.commands import (
    DEFAULT_COMMAND,
    Command,
    all_commands,
    command_by_flag,
    common_options,
    named,
    nearest,
)
from tweetcrawler.settings.groups import DEFAULT_FILE
from tweetcrawler.settings.options import NO_COMMAND_LINE, VARIABLE_PREFIX, Option, folded
from tweetcrawler.settings.types import BadValue, PathIn, converted

# Values by the folded name of their option.
Values = dict[str, Any]


class Grammar:
    """Option of each name: of a command, common to all, or of any command."""

    def __init__(self) -> None:
        self._common = _by_name(common_options())
        self._own = {name: _by_name(c.options) for name, c in all_commands().items()}
        # Names are taken before the command is known, and from a file that serves all.
        self.all = {n: o for table in reversed(self._own.values()) for n, o in table.items()}
        # Common ones win: `--raw` before a command is that of a crawl, not of an export.
        self.all |= self._common

    def after(self, command: str | None) -> dict[str, Option]:
        """Options after the word of a command, whose own come first."""
        return self.all | self._own.get(command or "", {})

    def of(self, command: Command) -> dict[str, Option]:
        """Options that a command takes."""
        return self._common | self._own[command.name]

    def owners(self, name: str) -> list[str]:
        """Commands with an option of this folded name of their own."""
        return [command for command, table in self._own.items() if name in table]


def _by_name(options: Sequence[Option]) -> dict[str, Option]:
    return {folded(name): option for option in options for name in option.names}


# --- the command line -----------------------------------------------------------------------------


@dataclass(frozen=True)
class CommandLine:
    """A command with its words and the values of its options."""

    command: Command
    words: tuple[str, ...] = ()
    values: Values = field(default_factory=dict)
    rest: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Argument:
    """A word, or an option as it was written with its value."""

    text: str
    is_option: bool = False
    option: Option | None = None
    value: str | None = None


def read_command_line(argv: Sequence[str], grammar: Grammar, paths: PathIn) -> CommandLine:
    """The command of a call, its words and options, which may be mixed.

    `--help` and `--version` become commands, whatever else is wrong with the call.

    Errors: ConfigurationError names the option or word.
    """
    arguments, rest = _arguments(argv, grammar)
    words = tuple(argument.text for argument in arguments if not argument.is_option)
    options = [argument for argument in arguments if argument.is_option]
    if asked := _asked_for(options):
        topic = words[1:2] if words[:1] == ("help",) else words[:1]
        return CommandLine(asked, topic if asked.words else ())
    for argument in options:
        # First of all, since the value of an unknown option looks like a word.
        if argument.option is None and not command_by_flag(argument.text):
            raise ConfigurationError(_unknown_option(argument.text, grammar))
    command = _command(words, options, grammar)
    table = grammar.of(command)
    values: Values = {}
    for argument in options:
        option = _own_option(argument, command, table, grammar)
        if option and (argument.value is None or argument.value.strip()):
            _keep(values, option, _checked(option, argument.value, paths))
    return CommandLine(command, words[1:], values, rest)


def _asked_for(options: Sequence[_Argument]) -> Command | None:
    """The command that --help or --version stands for, if one of them is there."""
    names = (each.option.name[2:] for each in options if each.option)
    found = next((name for name in names if name in ("help", "version")), None)
    return all_commands()[found] if found else None


def _arguments(argv: Sequence[str], grammar: Grammar) -> tuple[list[_Argument], tuple[str, ...]]:
    """Words and options told apart, and the arguments that the command hands on."""
    found: list[_Argument] = []
    command: str | None = None
    position = 0
    while position < len(argv):
        text = argv[position]
        position += 1
        if not text.startswith("-") or text == "-":
            found.append(_Argument(text))
            if command is None:
                command = text
                if text in all_commands() and all_commands()[text].takes_rest:
                    return found, tuple(argv[position:])
            continue
        option, value = _option_in(text, grammar.after(command))
        # A value that begins with -- is far more often a forgotten value than a value.
        takes_next = option is not None and not option.is_switch and value is None
        if takes_next and position < len(argv) and not argv[position].startswith("--"):
            value = argv[position]
            position += 1
        found.append(_Argument(text, True, option, value))
    return found, ()


def _option_in(text: str, table: Mapping[str, Option]) -> tuple[Option | None, str | None]:
    """Option and value of `--name`, `--name=value`, `-n` and `-nvalue`."""
    name, equals, value = text.partition("=")
    option = table.get(folded(name))
    if option is None and not text.startswith("--"):
        option = table.get(text[:2])
        return (None, None) if option is None or option.is_switch else (option, text[2:])
    return option, value if equals else None


def _command(words: Sequence[str], options: Sequence[_Argument], grammar: Grammar) -> Command:
    """The command, named by a word or by a flag of the original tool."""
    # The original tool had no commands: without one, a crawl is meant.
    command = named(words[0]) if words else all_commands()[DEFAULT_COMMAND]
    for argument in options:
        other = command_by_flag(argument.text)
        if other and folded(argument.text) not in grammar.of(command):
            if command.name not in (DEFAULT_COMMAND, other):
                flag = all_commands()[other].flags[-1]
                raise ConfigurationError(
                    f"{flag} is a command of its own; leave it or {command.name} out."
                )
            command = all_commands()[other]
    return command


def _own_option(
    argument: _Argument, command: Command, table: Mapping[str, Option], grammar: Grammar
) -> Option | None:
    """Option of the command that an argument means; None for a flag that names the command."""
    option = argument.option
    if option is None or (folded(argument.text) not in table and command_by_flag(argument.text)):
        return None
    name = folded(option.name)
    if name in table:
        return table[name]
    owners = grammar.owners(name)
    raise ConfigurationError(
        f"{option.name} belongs to {' and '.join(owners)}, not to {command.name}; "
        "leave it out or name that command."
    )


def _unknown_option(text: str, grammar: Grammar) -> str:
    name = text.partition("=")[0]
    shown = harmless_name(name) or "of that name"
    known = {option.name for option in grammar.all.values()}
    near = nearest(name, known)
    advice = f"did you mean {near}?" if near else "`tweetcrawler --help` lists all."
    return f"There is no option {shown}; {advice}"


_PASSWORD_INSIDE = re.compile(r"\bpassword\s*=|://[^@]*:[^@]*@", re.IGNORECASE)


def _checked(option: Option, text: str | None, paths: PathIn) -> Any:
    """The value of an argument; True for a switch."""
    if option.places == NO_COMMAND_LINE:
        raise ConfigurationError(
            f"{option.name} is not taken from the command line, where everyone on this machine "
            f"can read it; write {option.spelled} into the file or set {option.variable}."
        )
    if option.is_switch:
        if text is not None:
            raise ConfigurationError(f"{option.name} takes no value; leave out what is after it.")
        return True
    if text is None or text.startswith("--"):
        raise ConfigurationError(f"{option.name} needs a value after it.")
    # libpq takes a password in a connection string, too.
    if option.name == "--dbname" and _PASSWORD_INSIDE.search(text):
        raise ConfigurationError(
            "--dbname has a password in it, and everyone on this machine can read a command "
            "line; write it into the file or set TWEETCRAWLER_DBPASS."
        )
    return _value(option, text, paths, option.name)


def _keep(values: Values, option: Option, value: Any) -> None:
    """Adds a value: the last counts, and all do of an option that may be repeated."""
    name = folded(option.name)
    values[name] = (*values.get(name, ()), value) if option.is_repeated else value


def _value(option: Option, text: str, paths: PathIn, place: str) -> Any:
    """The value of a text; one that the option does not take stays out of the sentence."""
    try:
        return option.value(text, paths)
    except BadValue as error:
        sentence = f"{place} {error}."
    raise ConfigurationError(sentence)  # outside the clause: no cause that holds the value


def words_of(line: CommandLine, paths: PathIn) -> Values:
    """The field that the words of a command fill, with their values.

    Errors: ConfigurationError when there are too many, too few, or one that is none.
    """
    taken, name = line.command.words, line.command.name
    # Words that nobody reads may be a query without quotes: better refused than half done.
    if len(line.words) > (0 if taken is None else 1 if not taken.several else len(line.words)):
        raise ConfigurationError(
            f"`tweetcrawler {name}` takes no further word; options begin with --."
        )
    if taken is None or (not line.words and not taken.needs):
        return {}
    try:
        values = tuple(converted(taken.type, word, paths) for word in line.words)
    except BadValue as error:
        sentence = f"A word after `tweetcrawler {name}` {error}."
    else:
        if values:
            return {taken.field: values if taken.several else values[0]}
        sentence = ""
    if taken.needs:
        sentence = f"`tweetcrawler {name}` needs {taken.needs}."
    raise ConfigurationError(sentence)


# --- the environment ------------------------------------------------------------------------------


def read_variables(
    environ: Mapping[str, str], grammar: Grammar, paths: PathIn
) -> tuple[Values, tuple[str, ...]]:
    """Values of our variables that are not blank, and notes on misspelled ones."""
    found: Values = {}
    notes: list[str] = []
    variables = (option.variable for option in grammar.all.values())
    known = {each.removeprefix(VARIABLE_PREFIX) for each in variables if each}
    for variable, text in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or not text.strip():
            continue
        name = variable.removeprefix(VARIABLE_PREFIX)
        option = grammar.all.get(folded(f"--{name}"))
        if option and option.variable:
            found[folded(option.name)] = _value(option, text, paths, f"The variable {variable}")
        # Others may be read by another program.
        elif near := nearest(name, known, likeness=0.8):
            meant = VARIABLE_PREFIX + near
            notes.append(
                f"The variable {variable} is not known and not read; did you mean {meant}?"
            )
    return found, tuple(notes)


def config_file(named_file: Path | None, folder: Path) -> Path | None:
    """The file of options: the named one, else the one in this folder if it is there."""
    default = folder / DEFAULT_FILE
    return named_file or (default if default.is_file() else None)


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


def read_file(path: Path, grammar: Grammar, paths: PathIn) -> tuple[Values, tuple[str, ...]]:
    """Values of a tweet.ini, with paths under its folder, and notes."""
    values: Values = {}
    lines: dict[str, int] = {}
    for entry in _entries(read_text(path, "configuration file"), path):
        place = f"{path}, line {entry.line}"
        option = _option_of_key(entry.key, place, grammar)
        name = folded(option.name)
        if name in lines:
            raise ConfigurationError(
                f"{place}: {entry.key} was given before, in line {lines[name]}; leave out one."
            )
        lines[name] = entry.line
        if entry.value.strip():
            values[name] = _value(
                option, entry.value, paths.under(path.parent), f"{place}: {entry.key}"
            )
    # Only a file with a password is worth the warning.
    note = read_by_others(path) if "--dbpass" in values else None
    return values, (note,) if note else ()


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
                f"{path}, line {number}: this is neither a [section] nor key = value nor a "
                "# comment."
            )
        yield _Entry(
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
