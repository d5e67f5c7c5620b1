"""Connections to PostgreSQL: how one is opened, and how work is retried when it fails."""

from __future__ import annotations

import itertools
import logging
import random
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.waiting import Wait

from tweetcrawler import settings
from tweetcrawler.errors import ConfigurationError, DatabaseRefuses, DatabaseUnreachable

T = TypeVar("T")
log = logging.getLogger(__name__)

# A server that restarts or fails over is waited for; one that is gone for longer ends the run.
PATIENCE_S = 300.0
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
    # In autocommit no transaction stays open while a session waits for X: it would hold back
    # VACUUM in the whole database. Nothing is prepared, since PgBouncer in transaction mode
    # gives the next transaction another server; it follows prepared statements only since 1.21.
    # https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
    return Connection.connect(_complete(conninfo), autocommit=True, prepare_threshold=None)


@lru_cache(maxsize=8)
def _complete(conninfo: str) -> str:
    # What the operator says of the line wins. The encoding of texts is the program's own: it
    # wins over PGCLIENTENCODING, and the server puts it before settings of role and database.
    said = {**conninfo_to_dict(conninfo), "client_encoding": "UTF8"}
    return make_conninfo("", **{**_LINE, **said})


# Another transaction was in the way: the connection is sound, and the same again will do.
IN_CONFLICT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    # ON CONFLICT looks at the one constraint that it names. Two processes that insert the same
    # row at once can still meet in another one, such as the key of a target.
    psycopg.errors.UniqueViolation,
)
# A key that is still taken after this number of tries was not taken by another process: the
# table has a constraint of its own.
KEY_TRIES = 6
_PASSING = (psycopg.OperationalError, psycopg.InterfaceError, *IN_CONFLICT)
# Wrong password, no such role or database, no right to connect, a key that is deferrable:
# waiting does not help.
_PERMANENT = {"28000", "28P01", "3D000", "42501", "55000"}
# Ended by the server because it idled in a transaction or took too long in one; a standby
# that is not promoted yet.
_PASSING_STATES = {"25P03", "25P04", "25006"}


def passes(error: psycopg.Error) -> bool:
    """True if a retry may work later."""
    if error.sqlstate in _PERMANENT:
        return False
    return isinstance(error, _PASSING) or error.sqlstate in _PASSING_STATES


def sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0 and not stopping():
        time.sleep(min(left, 0.2))


def now_of(connection: Any) -> float:
    """The database's clock, in seconds since 1970."""
    return float(connection.execute(_CLOCK).fetchone()[0])


_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


def first_line(error: BaseException) -> str:
    # Further lines (DETAIL, CONTEXT) may hold a whole row.
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Connected:
    """One connection that is opened when it is needed, and again when it was lost.

    The parts of a session stand on this: each brings the statements of its tables.
    """

    def __init__(self, conninfo: str, table: str, place: str, stopping: Callable[[], bool]) -> None:
        self.table = table
        self._conninfo = conninfo
        self._place = place
        self._stopping = stopping
        self._connection: Connection | None = None
        self._gave_up = False

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def do(self, work: Callable[[Connection], T]) -> T:
        """Retries the work while the server is unreachable, full, or reports a conflict.

        So the work must be one transaction whose repetition changes nothing: after a broken
        connection nobody knows whether it was committed.

        **Errors**: `DatabaseUnreachable` after `PATIENCE_S`, `DatabaseRefuses` for a refusal.
        """
        # A session that waited that long for the server once does not wait for it again to
        # clear up.
        gives_up_at = time.monotonic() + (0.0 if self._gave_up else PATIENCE_S)
        delay_s = 0.05
        for tries in itertools.count(1):
            try:
                if self._connection is None:
                    self._connection = connect(self._conninfo)
                return work(self._connection)
            except psycopg.Error as error:
                self._judge(error, tries, gives_up_at)
            # Half of the pause is random: all workers lost the server in the same moment, and
            # shall not come back to it in the same moment.
            sleep(delay_s * random.uniform(0.5, 1.0), self._stopping)  # noqa: S311 - jitter
            delay_s = min(5.0, delay_s * 2)
        raise AssertionError("the loop above has no end")

    def _judge(self, error: psycopg.Error, tries: int, gives_up_at: float) -> None:
        """Raises ours for an error after which the same again is no use."""
        said = first_line(error)
        is_taken = isinstance(error, psycopg.errors.UniqueViolation) and tries >= KEY_TRIES
        if is_taken or not passes(error):
            raise DatabaseRefuses(f"the {self._place} refuses: {said}", said=said) from None
        if not isinstance(error, IN_CONFLICT):
            self.close()
            log.warning("the %s does not work: %s; trying again", self._place, said)
        if self._stopping() or time.monotonic() >= gives_up_at:
            self._gave_up = True
            raise DatabaseUnreachable(
                f"the {self._place} does not work: {said}; everything saved is safe, "
                "run again when it is back"
            ) from None


def conninfo_of(database: settings.Database) -> str:
    """The settings as a libpq connection string; what they leave open is left to libpq."""
    parts = {
        # A URL has an address of IPv6 in brackets, libpq's host has none.
        "host": re.sub(r"\[([0-9A-Fa-f:.%\w]+)\]", r"\1", database.host or "") or None,
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
