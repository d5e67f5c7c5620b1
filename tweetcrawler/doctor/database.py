"""Checks of the database: reachable, version, encoding, schema, rights, disk, clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.db import Database, Health, conninfo_of
from tweetcrawler.doctor import NOTE, OK, WARNING, Finding, fault
from tweetcrawler.doctor.machine import room
from tweetcrawler.errors import DatabaseNotMigrated, DatabaseUnreachable
from tweetcrawler.local.embedded import Server, find_binaries

if TYPE_CHECKING:
    from tweetcrawler.settings import Settings

_DATABASE = 3
# Keys in which NULLs count as equal, and multiranges: PostgreSQL 15 has both.
_OLDEST = 150_000
_CLOCK_S = 5.0


def examined(
    settings: Settings, explained: Callable[[DatabaseUnreachable], DatabaseUnreachable]
) -> Iterator[Finding]:
    """The findings about the database that the settings name.

    `explained` adds to an error where the values at fault were set.
    """
    named = settings.database
    assert named is not None  # noqa: S101 - the caller looked
    if not named.embedded:
        try:
            yield from _of(Database(conninfo_of(named), named.table), is_private=False)
        except DatabaseUnreachable as error:
            yield fault("database", str(explained(error)), _DATABASE)
        return
    server = Server(settings.data_folder)
    state = server.status()
    if not state.created:
        programs = find_binaries()
        yield Finding("database", OK, f"private; the first run makes it in {state.data}")
        yield Finding("database programs", OK, str(programs))
        return
    with server.hold() as url:
        yield from _of(Database(url, named.table), is_private=True)
    yield room("database disk", state.data)


def _of(database: Database, *, is_private: bool) -> Iterator[Finding]:
    asked_at = time.time()
    health = database.health()
    # Half of the way there and back is not the server's.
    ahead_s = health.clock - (asked_at + time.time()) / 2
    what = "the private PostgreSQL" if is_private else f"the {database.place}"
    yield Finding("database", OK, f"{what}, {health.size_bytes / 1e6:,.0f} MB")
    yield from _server(health)
    # Where posts cannot be kept at all, no schema is looked for.
    if health.encoding == "UTF8":
        yield from _schema(database, health, is_private)
    if abs(ahead_s) > _CLOCK_S:
        away = f"{abs(ahead_s):,.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine"
        yield Finding("database clock", WARNING, f"{away}: set both by NTP")
    else:
        yield Finding("database clock", OK, "as this machine's, within 5 s")
    if not is_private:
        yield _disk(health)


def _server(health: Health) -> Iterator[Finding]:
    version = f"PostgreSQL {health.version // 10_000}.{health.version % 10_000}"
    if health.version < _OLDEST:
        yield fault("version", f"{version} is too old: take 15 or newer", _DATABASE)
    else:
        yield Finding("version", OK, version)
    if health.encoding != "UTF8":
        said = f"{health.encoding} cannot hold every post: create a database with UTF8"
        yield fault("encoding", said, _DATABASE)
    else:
        yield Finding("encoding", OK, health.encoding)
    if health.is_read_only:
        yield fault("rights", "the server takes no writes: name its primary", _DATABASE)


def _schema(database: Database, health: Health, is_private: bool) -> Iterator[Finding]:
    try:
        database.check()
    except DatabaseNotMigrated as error:
        if is_private:
            yield Finding("schema", OK, "brought to the newest revision by the next run")
        else:
            yield fault("schema", str(error), _DATABASE)
    else:
        yield Finding("schema", OK, "at the newest revision")
        if health.lacking:
            tables = ", ".join(health.lacking[:3]) + (" …" if len(health.lacking) > 3 else "")
            said = f"the role may not write {tables}: grant it SELECT, INSERT, UPDATE, DELETE"
            yield fault("rights", said, _DATABASE)
        else:
            yield Finding("rights", OK, "the role may read and write every table")
    if health.alike:
        said = f"there is also a table {', '.join(health.alike)}, which differs in case only"
        yield Finding("names", WARNING, f"{said}: is tablename right?")


def _disk(health: Health) -> Finding:
    """Free room, where the server's data can be seen from here."""
    if health.folder is not None:
        with contextlib.suppress(OSError):
            if (Path(health.folder) / "PG_VERSION").exists():
                return room("database disk", Path(health.folder))
    return Finding("database disk", NOTE, "on the server's machine, not seen from here")
