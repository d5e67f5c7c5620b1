"""Options as a table: what an option is called, what it takes, and where it may be set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tweetcrawler.settings.types import PathIn, converted, on_off

VARIABLE_PREFIX = "TWEETCRAWLER_"

# Places that may set an option. Options of one run have no key: a file that is shared by
# timers and by hand would change what a command means.
EVERYWHERE = "everywhere"
COMMAND_LINE = "command line"
NOT_IN_FILE = "command line and environment"
NO_COMMAND_LINE = "file and environment"


@dataclass(frozen=True)
class Option:
    """One option.

    `names` begin with the one that is shown (`--max-posts`). Any long name is taken in any
    case, with or without its inner dashes. `field` is the field of the dataclass that it
    fills, by default the first name. `type` makes the value of a text; None is a switch,
    and `Path` is a path under the folder of the place that names it. `help` fits on a line
    or two; `more` is for the reference. `default` is the default as shown, None: the
    field's own. `key` is the spelling in tweet.ini where it is not the name in camel case.
    """

    names: tuple[str, ...]
    help: str
    metavar: str = ""
    type: Callable[[str], Any] | None = None
    field: str = ""
    more: str = ""
    default: str | None = None
    key: str = ""
    places: str = COMMAND_LINE
    is_repeated: bool = False

    @property
    def name(self) -> str:
        """The long name that is shown."""
        return next(name for name in self.names if name.startswith("--"))

    @property
    def shown(self) -> tuple[str, ...]:
        """The names that the help shows: short ones, and one long."""
        return (*(name for name in self.names if not name.startswith("--")), self.name)

    @property
    def fills(self) -> str:
        """The field that it fills."""
        return self.field or self.name[2:].replace("-", "_")

    @property
    def spelled(self) -> str:
        """The key in tweet.ini, as the example spells it."""
        # The original tool spelled its keys in camel case, and people have such files.
        first, *others = self.name[2:].split("-")
        return self.key or first + "".join(word.capitalize() for word in others)

    @property
    def variable(self) -> str | None:
        """The environment variable; None when there is none."""
        return (
            None if self.places == COMMAND_LINE else VARIABLE_PREFIX + folded(self.name)[2:].upper()
        )

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value on the command line."""
        return self.type is None

    @property
    def in_file(self) -> bool:
        """Whether it is a key of tweet.ini."""
        return self.places in (EVERYWHERE, NO_COMMAND_LINE)

    def value(self, text: str, paths: PathIn) -> Any:
        """The value of a text. Errors: `BadValue`, without the text."""
        return converted(self.type or on_off, text, paths)


@dataclass(frozen=True)
class Group:
    """Options that several commands take, under one title."""

    title: str
    options: tuple[Option, ...]
    about: str = ""


def option(*names: str, **parts: Any) -> Option:
    """An option with these names."""
    return Option(names, **parts)


def folded(name: str) -> str:
    """A name that any spelling shares: `--max-posts`, `--maxPosts` and `--MAXPOSTS` are one.

    A name with one dash (`-c`, `-trending`) keeps it.
    """
    return f"--{name[2:].replace('-', '')}".lower() if name.startswith("--") else name.lower()
