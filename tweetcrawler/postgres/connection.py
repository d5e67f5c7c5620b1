"""The line to the server: how it is opened, what is done while the server works, and which
of its errors pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.waiting import Wait

from tweetcrawler import settings
from tweetcrawler.errors import ConfigurationError

T = TypeVar("T")


# A line that broke without a word is noticed after half a minute; by itself the kernel
# takes hours.
_LINE: dict[str, str | int] = {
    "application_name": "tweetcrawler",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


class Connection(psycopg.Connection[Any]):
    """A connection whose next statement leaves time: `meanwhile` is called once it is sent,
    while the server works.
    """

    meanwhile: Callable[[], object] | None = None

    def wait(self, gen: PQGen[T], *limits: Any, **named_limits: Any) -> T:
        meanwhile, self.meanwhile = self.meanwhile, None
        return super().wait(
            gen if meanwhile is None else _used(gen, meanwhile), *limits, **named_limits
        )


def _used(statement: PQGen[T], meanwhile: Callable[[], object]) -> PQGen[T]:
    """The same statement on its way to the server and back; what waits for nothing but an
    answer is sent.
    """
    ready: Any = None
    left: Callable[[], object] | None = meanwhile
    while True:
        try:
            waits_for = statement.send(ready)
        except StopIteration as end:
            return cast("T", end.value)
        if left is not None and waits_for == Wait.R:
            left()
            left = None
        ready = yield waits_for


def connect(conninfo: str) -> Connection:
    """One connection, in autocommit, with nothing that a pooler between us and the server
    would mind.
    """
    return Connection.connect(_complete(conninfo), autocommit=True, prepare_threshold=None)


@lru_cache(maxsize=8)
def _complete(conninfo: str) -> str:
    # What the operator says of the line wins.
    return make_conninfo("", **{**_LINE, **conninfo_to_dict(conninfo)})


# Another transaction was in the way: the connection is sound, and the same again will do.
IN_CONFLICT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)
_PASSING = (psycopg.OperationalError, psycopg.InterfaceError, *IN_CONFLICT)
# Wrong password, no such role or database, no right to connect: waiting does not help.
_PERMANENT = {"28000", "28P01", "3D000", "42501"}
# Ended by the server because it idled in a transaction or took too long in one; a standby
# that is not promoted yet.
_PASSING_STATES = {"25P03", "25P04", "25006"}


def passes(error: psycopg.Error) -> bool:
    """Whether the same again may work later."""
    if error.sqlstate in _PERMANENT:
        return False
    return isinstance(error, _PASSING) or error.sqlstate in _PASSING_STATES


def sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0 and not stopping():
        time.sleep(min(left, 0.2))


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def conninfo_of(database: settings.Database) -> str:
    """The settings as a libpq connection string; what they leave open is left to libpq."""
    parts = {
        "host": database.host,
        "port": database.port,
        "dbname": database.name,
        "user": database.user,
        "password": database.password.reveal() if database.password else None,
    }
    given = database.conninfo.reveal() if database.conninfo else ""
    try:
        return make_conninfo(
            given, **{name: value for name, value in parts.items() if value is not None}
        )
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "dbname is no connection string that libpq understands; correct it"
        ) from None
