"""Help pages, made from the tables of commands and options."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from typing import Any

from tweetcrawler.settings import Money, Place, Settings
from tweetcrawler.settings.commands import (
    DEFAULT_COMMAND,
    HELP_GROUPS,
    Command,
    all_commands,
    named,
)
from tweetcrawler.settings.groups import COMMON, DEFAULT_FILE
from tweetcrawler.settings.options import NO_COMMAND_LINE, Option
from tweetcrawler.settings.types import duration

# Of a page, in columns; a narrower terminal gets narrower lines.
_WIDEST, _NARROWEST = 100, 60
_NAMES_WIDTH = 28
OPTIONS = "options"  # the topic of the options that all commands take

_EXAMPLES = (
    ("tweetcrawler demo", "a crawl of the sandbox, without keys"),
    ("tweetcrawler crawl ada grace", "two timelines"),
    ("tweetcrawler -c tweet.ini --budget 25", "the handles file, for at most $25"),
    ("tweetcrawler search '#climate lang:en'", "posts of a query"),
    ("tweetcrawler export posts.csv", "stored posts as a file"),
)

EXIT_CODES = """\
exit codes:
    0  all done
    1  some targets are not done; each is named
    2  usage or configuration
    3  the database is unreachable or not migrated
    4  no usable credential
    5  stopped at the budget or at X's cap
    6  no answer arrives: nothing answers, or answers are lost on their way
  130  interrupted; progress is saved and reported
  143  terminated; progress is saved and reported"""

_SOURCES = {
    "places of options": "The command line wins over the environment (TWEETCRAWLER_DBNAME, "
    "TWEETCRAWLER_DBPASS), the environment over the file, the file over the default. Without -c, "
    f"./{DEFAULT_FILE} is read if it is there. Names may be written in any case, with dashes or "
    "without: --max-posts, --maxPosts.",
    "sink": "CSV files with --csv. PostgreSQL when dbhost, dbport, dbname, dbuser or dbpass is "
    "given. CSV files when only a folder for them is given. Otherwise the private PostgreSQL "
    "server.",
}


def page(topic: str | None = None) -> str:
    """The help page of a command, of the common options, or of the whole program.

    Errors: ConfigurationError names the command most like an unknown topic.
    """
    if topic is None:
        return _overview()
    return _common_options() if topic == OPTIONS else _of_command(named(topic))


def by_group() -> Iterator[tuple[str, list[Command]]]:
    """All commands under the titles of their groups, in the order of the help."""
    commands = list(all_commands().values())
    # Groups of rooms follow ours, in the order of the rooms.
    titles = dict.fromkeys((*HELP_GROUPS, *(command.group for command in commands)))
    for title in titles:
        yield title, [command for command in commands if command.group == title]


def default_of(option: Option, values: type[Any] | None = None) -> str:
    """The default as a reader writes it; empty when there is none."""
    if option.default is not None:
        return option.default
    default = _field_default(option, (values,) if values else (Settings, Money, Place))
    if isinstance(default, bool):
        return "" if option.is_switch else ("on" if default else "off")
    if option.type is duration and default is not None:
        return _as_duration(default)
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, int | float) and default else str(default or "")


def _field_default(option: Option, kinds: Iterable[type[Any]]) -> Any:
    for kind in kinds:
        for each in fields(kind):
            if each.name == option.fills:
                return None if each.default is MISSING else each.default
    return None


def _as_duration(seconds: float) -> str:
    unit, size = next(
        (unit, size)
        for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
        if seconds % size == 0
    )
    return f"{seconds / size:g}{unit}"


def _overview() -> str:
    lines = [
        "usage: tweetcrawler [command] [words] [options]",
        "Collects posts of X into PostgreSQL: nothing lost, nothing bought twice.",
    ]
    for title, commands in by_group():
        lines += ["", title, *_in_pairs(map(_in_short, commands))]
    lines += ["", "Examples", *(f"  {line:<40}{meaning}" for line, meaning in _EXAMPLES)]
    more = "`tweetcrawler help COMMAND`: one command. `help options`: options of all, exit codes."
    return "\n".join([*lines, _filled(more, is_row=False)])


def _in_short(command: Command) -> str:
    remark = " (the default)" if command.name == DEFAULT_COMMAND else ""
    return f"  {command.name + '  ':<12}{command.summary}{remark}"


def _in_pairs(entries: Iterable[str]) -> list[str]:
    """Two short entries share a line: the page shall fit a terminal with all commands."""
    lines: list[str] = []
    half, is_open = _width() // 2, False
    for entry in entries:
        fits = len(entry) <= half
        if is_open and fits:
            lines[-1] = f"{lines[-1]:<{half}}{entry}"
        else:
            lines.append(entry)
        is_open = fits and not is_open
    return lines


def _of_command(command: Command) -> str:
    about = f"{_sentence(command.summary)} {command.about}"
    parts = [f"usage: {command.usage}", _wrapped(about)]
    rows = [_row(option, default_of(option, command.values)) for option in command.options]
    if command.flags:
        rows.append(_entry(", ".join(command.flags), f"the same as the command {command.name}"))
    if rows:
        parts.append("\n".join([f"options of {command.name}:", *rows]))
    if not command.takes_rest:
        parts.append("\n".join(_names_of_common_options()))
    parts.append("\n".join(_examples(command)))
    parts.append(_wrapped(f"price: {command.price}"))
    return "\n\n".join(parts)


def _common_options() -> str:
    parts = []
    for group in COMMON:
        rows = [
            _entry(_names(option), _with_default(option.help, default_of(option)))
            for option in group.options
            if option.places != NO_COMMAND_LINE
        ]
        parts.append("\n".join([f"{group.title}:", *rows]))
        if group.about:
            parts[-1] += f"\n{_below(group.about)}"
    parts += [f"{title}:\n{_below(text)}" for title, text in _SOURCES.items()]
    return "\n\n".join([*parts, EXIT_CODES])


def _names_of_common_options() -> Iterator[str]:
    yield "options of all commands (`tweetcrawler help options` explains them):"
    for group in COMMON:
        names = " ".join(o.name for o in group.options if o.places != NO_COMMAND_LINE)
        yield textwrap.fill(
            names,
            _width(),
            initial_indent=f"  {group.title:<12}",
            subsequent_indent=" " * 14,
            break_on_hyphens=False,
        )


def _examples(command: Command) -> Iterator[str]:
    yield "examples:"
    for line, meaning in command.examples:
        yield f"  {line}"
        yield f"      {meaning}"


def _row(option: Option, default: str) -> str:
    text = f"{option.help}. {option.more}" if option.more else option.help
    return _entry(_names(option), _with_default(text, default))


def _names(option: Option) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    return ", ".join(option.shown) + value


def _with_default(text: str, default: str) -> str:
    return f"{text} (default: {default})" if default else text


def _entry(names: str, text: str) -> str:
    """Names on the left, text on the right; on lines of their own when the names are long."""
    indent = " " * (_NAMES_WIDTH + 2)
    lines = textwrap.wrap(text, _width() - len(indent), break_on_hyphens=False)
    # Two spaces part names from text, also for those who read the page by program.
    if len(names) <= _NAMES_WIDTH - 2:
        return f"\n{indent}".join([f"  {names:<{_NAMES_WIDTH}}{lines[0]}", *lines[1:]])
    return f"\n{indent}".join([f"  {names}", *lines])


def _wrapped(text: str) -> str:
    """Prose in lines of the page's width; of the rows of a table only what is too long goes
    on, under its last column.
    """
    lines = []
    for line in text.splitlines():
        is_row = line.startswith(" ")
        lines.append(line if is_row and len(line) <= _width() else _filled(line, is_row=is_row))
    return "\n".join(lines)


def _filled(line: str, *, is_row: bool) -> str:
    columns = [space.end() for space in re.finditer(r"^ +|(?<=\S)  +", line)] if is_row else []
    # Under a column too far to the right there is no room for words.
    under = max((column for column in columns if column <= _width() // 2), default=0)
    return textwrap.fill(line, _width(), subsequent_indent=" " * under, break_on_hyphens=False)


def _below(text: str) -> str:
    return textwrap.fill(text, _width(), initial_indent="  ", subsequent_indent="  ")


def _width() -> int:
    # Not of the variable COLUMNS, which readline gives to programs that write into a pipe.
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        return _WIDEST
    return min(_WIDEST, max(_NARROWEST, columns))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
