"""The parser of a call: configargparse, set up from the tables of options.

It tells options from words, puts the command line before the environment and that before
the file, and converts the values. Our sentences replace its own, which quote what they refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import configargparse  # type: ignore[import-untyped]  # ships no types

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import harmless_name
from tweetcrawler.settings.commands import (
    DEFAULT_COMMAND,
    Command,
    Grammar,
    all_commands,
    command_by_flag,
    named,
    nearest,
)
from tweetcrawler.settings.options import NO_COMMAND_LINE, Option, folded
from tweetcrawler.settings.sources import Texts, value_of
from tweetcrawler.settings.types import BadValue, PathIn, converted

# Values by the folded name of their option.
Values = dict[str, Any]

_HELP = {"-h": "help", "--help": "help", "--version": "version"}
_PASSWORD_INSIDE = re.compile(r"\bpassword\s*=|://[^@]*:[^@]*@", re.IGNORECASE)


@dataclass(frozen=True)
class Call:
    """The command of a call, and its arguments without the word or flag that named it.

    `rest` are those that the command hands on untouched. `topic` is the command that the
    help was asked about.
    """

    command: Command
    arguments: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    topic: tuple[str, ...] = ()


def find_command(argv: Sequence[str], grammar: Grammar) -> Call:
    """The command of a call, which may stand after options of any command.

    `--help` and `--version` become commands, whatever else is wrong with the call.

    Errors: ConfigurationError names the option or word.
    """
    spelled = [_as_registered(text, grammar.all) for text in argv]
    finder = _Parser(grammar.all, lambda _: str)
    finder.add_argument("rest", nargs=configargparse.REMAINDER)
    fault, unknown, rest = "", list[str](), list[str]()
    try:
        found, unknown = finder.read(spelled)
        rest = found.pop("rest", [])
    except configargparse.ArgumentError as error:
        fault = finder.sentence(error)
    before = spelled[: len(spelled) - len(rest)]
    word, after = (rest[0], rest[1:]) if rest else ("", [])
    hands_on = word in all_commands() and all_commands()[word].takes_rest
    asked = [_HELP[text] for text in (before if hands_on else spelled) if text in _HELP]
    if asked:
        words = [text for text in rest if not text.startswith("-")]
        topic = words[1:2] if words[:1] == ["help"] else words[:1]
        command = all_commands()[asked[0]]
        return Call(command, topic=tuple(topic) if command.words else ())
    if fault:
        raise ConfigurationError(fault)
    for text in unknown:
        # First of all, since the value of an unknown option looks like a word.
        if not command_by_flag(text):
            raise ConfigurationError(_unknown_option(text, grammar))
    if hands_on:
        untouched = tuple(argv[len(before) + 1 :])
        return Call(all_commands()[word], tuple(before), untouched)
    command = _command(word, [*before, *after], grammar)
    own = grammar.of(command)
    flags = {
        text for text in [*before, *after] if command_by_flag(text) and folded(text) not in own
    }
    return Call(command, tuple(text for text in [*before, *after] if text not in flags))


class CommandParser:
    """Options and words of one command, from all places."""

    def __init__(self, call: Call, grammar: Grammar, paths: PathIn) -> None:
        self._call = call
        self._grammar = grammar
        self._paths = paths
        self._table = grammar.of(call.command)
        self._parser = _Parser(self._table, self._type)

    def command_line(self) -> tuple[Values, tuple[str, ...]]:
        """Values of the command line alone, and its words.

        Errors: ConfigurationError names the option.
        """
        values, others = self._read({}, {})
        for text in others:
            if text.startswith("-") and text != "-":
                raise ConfigurationError(self._foreign_option(text))
        for name in values:
            self._refuse_secret(self._table[name], values[name])
        return values, tuple(others)

    def all_places(self, variables: Texts, file: Texts) -> Values:
        """Values of all places; the texts were checked where they stood."""
        return self._read(variables, file)[0]

    def _read(self, variables: Texts, file: Texts) -> tuple[Values, list[str]]:
        try:
            values, others = self._parser.read(self._call.arguments, variables, file)
        except configargparse.ArgumentError as error:
            sentence = self._parser.sentence(error)
        else:
            return {name: value for name, value in values.items() if value is not None}, others
        raise ConfigurationError(sentence)  # outside the clause: its cause quotes the value

    def _type(self, option: Option) -> Callable[[str], Any]:
        # Blank means not given, so that a script may pass an empty variable.
        return lambda text: (
            value_of(option, text, self._paths, option.name) if text.strip() else None
        )

    def _foreign_option(self, text: str) -> str:
        option = self._grammar.all.get(folded(text.partition("=")[0]))
        if option is None:
            return _unknown_option(text, self._grammar)
        owners = " and ".join(self._grammar.owners(folded(option.name)))
        return (
            f"{option.name} belongs to {owners}, not to {self._call.command.name}; "
            "leave it out or name that command."
        )

    @staticmethod
    def _refuse_secret(option: Option, value: object) -> None:
        """Errors: ConfigurationError for a password, which everyone on this machine could read."""
        if option.places == NO_COMMAND_LINE:
            raise ConfigurationError(
                f"{option.name} is not taken from the command line, where everyone on this "
                f"machine can read it; write {option.spelled} into the file or set "
                f"{option.variable}."
            )
        # libpq takes a password in a connection string, too.
        if option.name == "--dbname" and _PASSWORD_INSIDE.search(str(value)):
            raise ConfigurationError(
                "--dbname has a password in it, and everyone on this machine can read a command "
                "line; write it into the file or set TWEETCRAWLER_DBPASS."
            )


def words_of(command: Command, words: Sequence[str], paths: PathIn) -> Values:
    """The field that the words of a command fill, with their values.

    Errors: ConfigurationError when there are too many, too few, or one that is none.
    """
    taken, name = command.words, command.name
    # Words that nobody reads may be a query without quotes: better refused than half done.
    if len(words) > (0 if taken is None else 1 if not taken.several else len(words)):
        raise ConfigurationError(
            f"`tweetcrawler {name}` takes no further word; options begin with --."
        )
    if taken is None or (not words and not taken.needs):
        return {}
    try:
        values = tuple(converted(taken.type, word, paths) for word in words)
    except BadValue as error:
        sentence = f"A word after `tweetcrawler {name}` {error}."
    else:
        if values:
            return {taken.field: values if taken.several else values[0]}
        sentence = ""
    if taken.needs:
        sentence = f"`tweetcrawler {name}` needs {taken.needs}."
    raise ConfigurationError(sentence)


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]  # the base has no types
    """A parser of these options, which raises and never prints or exits."""

    def __init__(
        self, table: Mapping[str, Option], type_of: Callable[[Option], Callable[[str], Any]]
    ) -> None:
        self._file = _FileAlreadyRead()
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
            config_file_parser_class=self._file,
            # Of a fixed width: else argparse asks for that of the terminal with each option.
            formatter_class=partial(configargparse.HelpFormatter, width=100),
            # Defaults stand in the dataclasses of settings and commands.
            argument_default=configargparse.SUPPRESS,
        )
        self._options: dict[str, Option] = {}
        spellings: dict[Option, list[str]] = {}
        for spelling, option in table.items():
            spellings.setdefault(option, []).append(spelling)
        for option, names in spellings.items():
            self._options["/".join(names)] = option
            takes: dict[str, Any] = {"action": "store_true"}
            if not option.is_switch:
                takes = {"action": "append" if option.is_repeated else "store"}
                takes["type"] = type_of(option)
            self.add_argument(*names, dest=folded(option.name), env_var=option.variable, **takes)

    def read(
        self, arguments: Iterable[str], variables: Texts | None = None, file: Texts | None = None
    ) -> tuple[Values, list[str]]:
        """Values by the folded names of their options, and the arguments that are no option.

        Errors: configargparse.ArgumentError, for `sentence`.
        """
        named = self._options.values()
        environ = {o.variable: t for o in named if (t := (variables or {}).get(folded(o.name)))}
        own = {folded(option.name) for option in named}
        # The file serves all commands.
        self._file.values = {name: text for name, text in (file or {}).items() if name in own}
        found, others = self.parse_known_args(
            list(arguments), env_vars=environ, config_file_contents=""
        )
        return vars(found), others

    def _get_values(self, action: Any, arg_strings: list[str]) -> Any:
        # argparse takes this for the end of the options, also where it is a password.
        if arg_strings == ["--"] and action.option_strings:
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)

    def sentence(self, error: configargparse.ArgumentError) -> str:
        """What was wrong with an option, without the value that stood there."""
        option = self._options[error.argument_name]
        if option.is_switch:
            return f"{option.name} takes no value; leave out what is after it."
        return f"{option.name} needs a value after it."

    def error(self, message: str) -> NoReturn:  # noqa: ARG002 - it may quote a password
        raise ConfigurationError(
            "The command line cannot be understood; `tweetcrawler --help` shows how."
        )


class _FileAlreadyRead(configargparse.ConfigFileParser):  # type: ignore[misc]  # as above
    """Hands on the texts of a file, which was read where its lines are known."""

    values: Texts

    def parse(self, stream: object) -> Texts:  # noqa: ARG002 - the base fixes the parameters
        return self.values


def _as_registered(text: str, table: Mapping[str, Option]) -> str:
    """An argument with the name of its option as the parser knows it, in any case."""
    # The original tool took --authCSV and --authcsv; argparse knows exact names only.
    name, equals, value = text.partition("=")
    known = text.startswith("--") and folded(name) in table
    return f"{folded(name)}{equals}{value}" if known else text


def _command(word: str, arguments: Sequence[str], grammar: Grammar) -> Command:
    """The command, named by a word or by a flag of the original tool."""
    # The original tool had no commands: without one, a crawl is meant.
    command = named(word) if word else all_commands()[DEFAULT_COMMAND]
    for text in arguments:
        other = command_by_flag(text)
        if other and folded(text) not in grammar.of(command):
            if command.name not in (DEFAULT_COMMAND, other):
                flag = all_commands()[other].flags[-1]
                raise ConfigurationError(
                    f"{flag} is a command of its own; leave it or {command.name} out."
                )
            command = all_commands()[other]
    return command


def _unknown_option(text: str, grammar: Grammar) -> str:
    name = text.partition("=")[0]
    shown = harmless_name(name) or "of that name"
    near = nearest(name, {option.name for option in grammar.all.values()})
    advice = f"did you mean {near}?" if near else "`tweetcrawler --help` lists all."
    return f"There is no option {shown}; {advice}"
