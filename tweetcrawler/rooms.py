"""The list of rooms, which bring commands, kinds of work and tables.

A room is a folder. It registers itself by one line in `ROOMS`, and nothing below it learns of
it: its modules are named as text and loaded only when they are needed.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Room:
    """Parts of one room, all named as "module" or "module:NAME".

    `commands` are modules with a `COMMAND`, `kinds` are kinds of work, `tables` are modules
    that add their tables to the schema when they are imported. `asks` are words of commands
    that ask X in every call. `bodies` makes, of a connection,
    a function that gives the body of a page which left the database. `looked` takes a session
    and the posts of a look-up by id, before these are saved. `plans` are functions that plan the
    room's work, by the word of the command `plan`. `growth` is what `watch --metrics`
    does. `states` give, of a connection, a name, plain values and sections of
    `status`. `sections` make, of a connection, a section of
    `status` and `report`, or None. `accounts` are columns, as "table.column", with X's numbers
    of users: their rows go when an account is deleted.
    """

    commands: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    bodies: str = ""
    looked: str = ""
    growth: str = ""
    plans: Mapping[str, str] = field(default_factory=dict)
    states: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()


CORE = Room(
    commands=(
        "tweetcrawler.commands.crawl",
        "tweetcrawler.commands.search",
        "tweetcrawler.commands.trending",
        "tweetcrawler.commands.snowball",
        "tweetcrawler.commands.hydrate",
        "tweetcrawler.commands.watch",
        "tweetcrawler.commands.doctor",
        "tweetcrawler.commands.plan",
        "tweetcrawler.commands.status",
        "tweetcrawler.commands.report",
        "tweetcrawler.commands.export",
        "tweetcrawler.commands.import_",
        "tweetcrawler.commands.reflatten",
        "tweetcrawler.commands.retry_refused",
        "tweetcrawler.commands.verify",
        "tweetcrawler.commands.forget",
        "tweetcrawler.commands.init",
        "tweetcrawler.commands.db",
        "tweetcrawler.commands.sql",
        "tweetcrawler.commands.sandbox",
        "tweetcrawler.commands.demo",
        "tweetcrawler.commands.help",
        "tweetcrawler.commands.version",
    ),
    # In the order in which they are handed out: kinds that feed others go first.
    kinds=(
        "tweetcrawler.work.handles:RESOLVE",
        "tweetcrawler.work.searches:OPEN",
        "tweetcrawler.work.trends:SEE_TRENDS",
        "tweetcrawler.crawl:TARGETS",
        "tweetcrawler.work.lookups:LOOK_UP",
        "tweetcrawler.work.counts:COUNT",
        "tweetcrawler.work.usage:USAGE",
    ),
    tables=("tweetcrawler.postgres.schema",),
    asks=("crawl", "search", "trending", "snowball", "hydrate", "watch"),
)
_HELP = frozenset({"-h", "--help", "--version"})
# One line for each room, as "tweetcrawler.folder:ROOM".
ROOMS: tuple[str, ...] = (
    "tweetcrawler.keeping:ROOM",
    "tweetcrawler.stream:ROOM",
    "tweetcrawler.follow:ROOM",
)


def rooms() -> Iterator[Room]:
    """The core, and every room that is registered."""
    yield CORE
    for name in ROOMS:
        room: Room = pkgutil.resolve_name(name)
        yield room


def may_ask_x(argv: Sequence[str]) -> bool:
    """Whether a call that was not read yet looks like one that asks X; a guess."""
    asking = {word for room in rooms() for word in room.asks}
    words = {name.rpartition(".")[2] for room in rooms() for name in room.commands}
    if argv and not argv[0].startswith("-"):
        word = argv[0]  # a command, or mistyped
    else:
        # Without any command a crawl is meant.
        word = next((word for word in argv if word in words), "crawl")
    return word in asking and not _HELP & set(argv)
