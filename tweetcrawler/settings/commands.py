"""Commands as values: each is one file, and a room's command is like any other."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from tweetcrawler import rooms
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import harmless_name
from tweetcrawler.settings.groups import COMMON
from tweetcrawler.settings.options import Option, folded
from tweetcrawler.settings.types import text_of

COLLECT = "Collect"
LOOK = "Look"
DATA = "Data"
KEEP = "Look after the database"
SET_UP = "Set up"
# In the order of the help; the group of a room that is not among them comes after these.
HELP_GROUPS = (COLLECT, LOOK, DATA, KEEP, SET_UP)
DEFAULT_COMMAND = "crawl"


@dataclass(frozen=True)
class Words:
    """Words that a command takes: how the help shows them, and the field that they fill.

    `needs` ends the sentence that is said when there is none; empty: they may be left out.
    """

    shown: str
    field: str
    type: Callable[[str], Any] = text_of
    several: bool = True
    needs: str = ""


@dataclass(frozen=True)
class Command:
    """One command, as its file describes it.

    `values` is a frozen dataclass that `options` and `words` fill; its `__post_init__`
    refuses values that exclude each other. `run` gets the opened program and these values,
    and gives the exit code. `examples` are command lines with what each does. `flags` are
    options of the original tool that mean this command. `takes_rest` hands on everything
    after the command untouched, in the field `rest`. `takes_dry_run`: it can
    say what it would do, and do nothing.
    """

    name: str
    summary: str
    group: str
    values: type[Any]
    run: Callable[[Any, Any], int]
    examples: tuple[tuple[str, str], ...]
    price: str
    options: tuple[Option, ...] = ()
    words: Words | None = None
    about: str = ""
    flags: tuple[str, ...] = ()
    reads_file: bool = True
    takes_dry_run: bool = False
    takes_rest: bool = False

    @property
    def usage(self) -> str:
        """The command line in short."""
        words = f" {self.words.shown}" if self.words else ""
        return f"tweetcrawler {self.name}{words}{'' if self.takes_rest else ' [options]'}"


@cache
def all_commands() -> MappingProxyType[str, Command]:
    """Every command of the core and of the rooms, by its name."""
    # Named as text and loaded here, so that nothing below a room knows it.
    modules = [name for room in rooms.rooms() for name in room.commands]
    found = [pkgutil.resolve_name(f"{module}:COMMAND") for module in modules]
    return MappingProxyType({command.name: command for command in found})


def common_options() -> tuple[Option, ...]:
    """The options that every command takes."""
    return tuple(option for group in COMMON for option in group.options)


def command_by_flag(name: str) -> str | None:
    """The command that this option of the original tool means; None for any other."""
    flags = ((command.name, flag) for command in all_commands().values() for flag in command.flags)
    return next((command for command, flag in flags if flag == folded(name)), None)


class Grammar:
    """Option of each name: of a command, common to all, or of any command."""

    def __init__(self) -> None:
        self._common = _by_name(common_options())
        self._own = {name: _by_name(c.options) for name, c in all_commands().items()}
        # Names are taken before the command is known, and from a file that serves all.
        self.all = {n: o for table in reversed(self._own.values()) for n, o in table.items()}
        # Common ones win: `--raw` before a command is that of a crawl, not of an export.
        self.all |= self._common

    def of(self, command: Command) -> dict[str, Option]:
        """Options that a command takes."""
        return self._common | self._own[command.name]

    def owners(self, name: str) -> list[str]:
        """Commands with an option of this folded name of their own."""
        return [command for command, table in self._own.items() if name in table]


def _by_name(options: Sequence[Option]) -> dict[str, Option]:
    return {folded(name): option for option in options for name in option.names}


def named(word: str) -> Command:
    """The command of this name. Errors: ConfigurationError names the nearest one."""
    found = all_commands().get(word)
    if found is None:
        raise ConfigurationError(unknown_command(word))
    return found


def unknown_command(word: str) -> str:
    """The sentence about a word that is no command."""
    shown = harmless_name(word) or "of that name"
    near = nearest(word, all_commands())
    advice = f"did you mean {near}?" if near else "`tweetcrawler --help` lists all."
    return f"There is no command {shown}; {advice}"


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.5) -> str | None:
    """The known name most like this one; None when none is. `likeness` goes from 0 to 1."""
    # Dashes say nothing about likeness: --max-posts and maxPosts are one name.
    import difflib  # only needed for an error

    spelled = {each.lower().replace("-", ""): each for each in known}
    wanted = name.lower().replace("-", "")
    found = difflib.get_close_matches(wanted, spelled, n=1, cutoff=likeness)
    return spelled[found[0]] if found else None
