"""The door of PostgreSQL: `Database` is an address, `Session` one connection of a handle.

Every method of a session is one transaction that may be repeated without effect, so a session
outlives a restart of the server: it connects again and repeats what was under way.

The statements are in `postgres/`, a file for each group of tables. Those of a room are in the
room, which runs them with `Session.do`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from tweetcrawler.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseNotMigrated,
    DatabaseUnreachable,
)
from tweetcrawler.pages import StoredPage
from tweetcrawler.people import Heard
from tweetcrawler.postgres.advice import unreachable
from tweetcrawler.postgres.buckets import Buckets
from tweetcrawler.postgres.budgets import Budgets
from tweetcrawler.postgres.columns import Column as Column
from tweetcrawler.postgres.columns import Condition as Condition
from tweetcrawler.postgres.columns import Rows as Rows
from tweetcrawler.postgres.comparison import Comparisons
from tweetcrawler.postgres.connection import connect, first_line
from tweetcrawler.postgres.connection import conninfo_of as conninfo_of
from tweetcrawler.postgres.counts import Counts
from tweetcrawler.postgres.feed import settled, stored_pages
from tweetcrawler.postgres.handovers import Handovers
from tweetcrawler.postgres.health import Health as Health
from tweetcrawler.postgres.health import examined
from tweetcrawler.postgres.history import History
from tweetcrawler.postgres.imports import Imports
from tweetcrawler.postgres.imports import ImportState as ImportState
from tweetcrawler.postgres.lookups import Lookups
from tweetcrawler.postgres.notices import Notices
from tweetcrawler.postgres.refused import Retried as Retried
from tweetcrawler.postgres.rehearsal import Rehearsals
from tweetcrawler.postgres.runs import Runs
from tweetcrawler.postgres.state import refuse_encoding, refuse_table, revision_of
from tweetcrawler.postgres.targets import Targets
from tweetcrawler.postgres.trends import Trends
from tweetcrawler.sentiment import scorer

if TYPE_CHECKING:
    # What only reads is loaded when something is read: it needs SQLAlchemy, which no worker has.
    from tweetcrawler.postgres.books import Reader as Reader
    from tweetcrawler.postgres.checks import Checker as Checker


class Session(
    Runs,
    Targets,
    Lookups,
    Trends,
    Imports,
    Buckets,
    Budgets,
    Counts,
    Handovers,
    Rehearsals,
    Comparisons,
    History,
    Notices,
):
    """One connection to the database; see `Database.session`.

    Each base brings the statements of its tables, and documents them.
    """

    def ready(self, *, scored: bool) -> None:
        """Looks before a run whether the table takes posts and holds those that are known.

        The rows of pages that it refused before go in, if it takes them now. `scored`: rows
        have a sentiment.

        **Errors**: `ConfigurationError`, `DatabaseError`; nothing was bought.
        """
        self.refuse_read_only()
        self.rehearse(scored=scored)
        self.retry_refused(score=lambda: scorer() if scored else None)
        self.check_that_pages_go_in()
        self.compare_table()


class Database:
    """The address of a PostgreSQL database and the name of the table of tweets in it."""

    def __init__(self, conninfo: str, table: str = "tweet_articles_tweepy") -> None:
        self._conninfo = conninfo
        self.table = table
        # Names of users that its sessions in this process heard, and the number of sessions.
        self._heard = Heard()
        self._sessions = 0

    def __repr__(self) -> str:
        return f"Database({self.place})"

    @cached_property
    def place(self) -> str:
        """Where the database is, for sentences: never the password."""
        known = conninfo_to_dict(self._conninfo)
        host, port = str(known.get("host") or "local socket"), known.get("port") or "5432"
        host = f"[{host}]" if ":" in host else host
        return f"database {known.get('dbname') or 'by default'} at {host}:{port}"

    @contextmanager
    def session(self, *, stopping: Callable[[], bool] = lambda: False) -> Iterator[Session]:
        """A session; `stopping` ends its patience with a server that does not answer."""
        session = Session(self._conninfo, self.table, self.place, stopping)
        session.heard = self._heard
        self._sessions += 1
        try:
            yield session
        finally:
            self._sessions -= 1
            session.end(is_last=self._sessions == 0)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own.

        **Errors**: `DatabaseUnreachable`, at once.
        """
        try:
            return connect(self._conninfo)
        except psycopg.OperationalError as error:
            raise unreachable(error, self.place) from None

    def connections_left(self) -> int | None:
        """The number of connections that the server would still take of this role; 0 while
        it cannot be asked.
        """
        try:
            with closing(connect(self._conninfo)) as connection:
                row = connection.execute(_CONNECTIONS_LEFT).fetchone()
        except psycopg.Error:
            return 0
        return int(row[0]) if row else 0

    def check(self) -> None:
        """Raises what keeps a run from starting: no server, no schema, another schema."""
        with self.connect() as connection:
            refuse_encoding(connection, self.place)
            schema = revision_of(connection)
            if schema == newest_schema():
                refuse_table(connection, self.place, self.table, made=True)
                return
        if schema is None:
            raise DatabaseNotMigrated(
                f"the {self.place} has no schema yet: run `tweetcrawler db upgrade`, "
                "or `alembic upgrade head` in a checkout"
            )
        raise DatabaseNotMigrated(
            f"the {self.place} has schema {schema}, this program needs {newest_schema()}: run "
            "`alembic upgrade head`, or install the version of tweetcrawler that made it"
        )

    def health(self) -> Health:
        """The state of the server, and of the role's rights there.

        **Errors**: `DatabaseUnreachable`, `DatabaseError`.
        """
        with self._errors(), self.connect() as connection:
            return examined(connection, self.table)

    def upgrade(self) -> None:
        """Brings the schema to the newest revision, keeping every row."""
        # Here, since alembic and SQLAlchemy are needed by nothing else that this module does.
        from alembic import command
        from alembic.config import Config

        config = Config()
        # To alembic's configparser a % begins a reference.
        config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
        config.attributes.update(database=self)
        command.upgrade(config, "head")

    @contextmanager
    def read(
        self,
        view: str | None = None,
        *,
        names: Sequence[str] = (),
        conditions: Sequence[Condition] = (),
        as_text: bool,
    ) -> Iterator[tuple[list[Column], Iterator[list[tuple[Any, ...]]]]]:
        """The columns and rows of a view or table (default: that of the tweets), of one
        moment, in batches.

        Rows go by ascending id where there is a column of that name. `names` chooses
        columns and their order. `as_text` gives every value as PostgreSQL prints it.
        Without it whole numbers are int, numbers float, times aware datetimes in UTC, JSON
        its text; the lists and times that the table of the tweets holds as text are lists
        and times. No more than a batch is in memory.

        **Errors**: `ConfigurationError` for a view, column or filter that is not there, and for
        a stored text that is no list or time. `DatabaseError` when the server refuses or goes
        away.
        """
        from tweetcrawler.postgres import export

        with (
            self._reading() as connection,
            export.rows(connection, view or self.table, names, conditions, as_text) as read,
        ):
            yield read

    @contextmanager
    def answer(
        self, statement: str, *, as_text: bool
    ) -> Iterator[tuple[list[str], Iterator[list[tuple[Any, ...]]]]]:
        """The columns and rows of one statement of the operator, in a transaction that reads.

        `as_text` gives every value as PostgreSQL prints it. Without it whole numbers are int,
        JSON is a `JsonText`, lists are lists, and the rest that JSON does not know is text. No
        more than a batch is in memory.

        **Errors**: `ConfigurationError` for a statement that is refused. `DatabaseError` when
        the server goes away.
        """
        from tweetcrawler.postgres import asking

        with self._reading() as connection:
            yield asking.answer(connection, statement, as_text=as_text)

    def for_programs(self) -> tuple[str, dict[str, str]]:
        """A connection string for a program of libpq, and its environment with the password."""
        known = conninfo_to_dict(self._conninfo)
        # libpq has no other way for it, and a command line is read by everybody.
        known.pop("sslpassword", None)
        password = known.pop("password", None)
        return make_conninfo("", **known), {"PGPASSWORD": str(password)} if password else {}

    @contextmanager
    def pages(self, handles: Sequence[str] | None = None) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The number of pages of posts that were stored without their body, and the bodies of
        the others as received.

        The oldest first; `handles` (folded) chooses the timelines of these users.

        **Errors**: `DatabaseError` when the server refuses or goes away, or a body is damaged.
        """
        from tweetcrawler.postgres import export

        with self._reading() as connection, export.bodies(connection, handles) as read:
            yield read

    def stored_pages(
        self, *, after: int = 0, without_segment: bool = False
    ) -> Iterator[StoredPage]:
        """The stored answers of X with a body, from a position on; each tells its own.

        A reader that remembers the position of the last page and comes back with it gets each
        page once, also those that were being saved while it read. No page is missed: one whose
        transaction is still open holds back all later ones until it ends. The order is that of
        saving, not exactly that of `fetched_at`. A few pages are in memory at a time, and no
        transaction stays open while a page is worked on. `without_segment` leaves out pages
        that a segment keeps; else a body that left the database is read from there.

        **Errors**: `DatabaseError` when the server refuses or goes away, or a body is damaged.
        """
        with self._errors(), closing(connect(self._conninfo)) as connection:
            yield from stored_pages(connection, after, without_segment=without_segment)

    def wait_for_writers(self) -> None:
        """Returns when every page that is being saved at this moment is committed.

        **Errors**: `DatabaseError` when a writer does not end.
        """
        with self._errors(), closing(connect(self._conninfo)) as connection:
            if settled(connection) is None:
                raise DatabaseError(f"a page is being saved in the {self.place}: run again later")

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Purchases and what is known of targets, as of one moment.

        **Errors**: `DatabaseError` when the server refuses or goes away.
        """
        from tweetcrawler.postgres.books import Reader

        with self._reading() as connection:
            yield Reader(connection, self.table)

    def targets_named(self, names: Sequence[str]) -> list[int]:
        """The numbers of the targets of these names: handles, or queries as they were searched.

        **Errors**: `ConfigurationError` for a name that is none.
        """
        found = []
        with self.reader() as reader:
            for name in names:
                known = reader.named(name.strip().removeprefix("@"))
                if not known:
                    raise ConfigurationError(
                        f"the database knows no target {name[:60]!a}: handles as they are listed, "
                        "queries as they were searched"
                    )
                found += [one.id for one in known]
        return found

    @contextmanager
    def checker(self) -> Iterator[Checker]:
        """Coverage, pages and rows as of one moment, to be compared with each other.

        **Errors**: `DatabaseError` when the server refuses or goes away, or a body is damaged.
        """
        from tweetcrawler.postgres.checks import Checker

        with self._reading() as connection:
            yield Checker(connection, self.table)

    def has_plans(self) -> bool:
        """Whether any forecast is remembered; most runs have none, and need no reader."""
        with self._errors(), self.connect() as connection:
            found = connection.execute("SELECT EXISTS (SELECT FROM crawl_plan)").fetchone()
        return bool(found and found[0])

    def keep_plan(self, subject: str, plan: Mapping[str, Any]) -> None:
        """Remembers a forecast of a kind of run."""
        with self._errors(), self.connect() as connection:
            connection.execute(
                "INSERT INTO crawl_plan (subject, plan) VALUES (%s, %s)",
                [subject, Jsonb(dict(plan))],
            )

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in a transaction that only reads, with psycopg's errors as ours."""
        # An interrupt may come amid a command, when no ROLLBACK can be sent: the end of the
        # connection is one.
        with self._errors(), closing(connect(self._conninfo)) as connection:
            # One snapshot for all statements. In PostgreSQL a transaction that only reads never
            # fails for it.
            # https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute(_READ_ALIKE)
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Psycopg's errors as ours."""
        try:
            yield
        # Text that is no list or time shows only where it is read as one, in the middle of an
        # export.
        except psycopg.DataError as error:
            raise ConfigurationError(
                f"a value in the {self.place} is not what its column holds: {first_line(error)}; "
                "csv takes it as it is stored, or correct that row"
            ) from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise DatabaseUnreachable(
                f"the {self.place} does not work: {first_line(error)}; run again when it is back"
            ) from None
        except psycopg.Error as error:
            raise DatabaseError(f"the {self.place} refuses: {first_line(error)}") from None


# For this transaction only: a pooler may hand the connection to another client afterwards.
_READ_ALIKE: LiteralString = """
SELECT set_config(name, value, true) FROM (VALUES
    ('TimeZone', 'UTC'), ('DateStyle', 'ISO'), ('client_encoding', 'UTF8'),
    ('extra_float_digits', '1'), ('array_nulls', 'on')
) AS s(name, value)
"""


@cache
def newest_schema() -> str:
    """The newest revision of `migrations/`, which this program needs.

    It is the one that no other follows. Alembic would tell the same after 0.3 s of loading.
    """
    texts = [path.read_text("utf-8") for path in (_migrations() / "versions").glob("*.py")]
    made = {found[1] for text in texts for found in _REVISION.finditer(text)}
    followed = {found[1] for text in texts for found in _FOLLOWS.finditer(text)}
    return max(made - followed)


_REVISION = re.compile(r'^revision = "(\w+)"', re.MULTILINE)
_FOLLOWS = re.compile(r'^down_revision = "(\w+)"', re.MULTILINE)


def _migrations() -> Path:
    """The migrations beside the modules in an installed package, or beside the package in a
    checkout.
    """
    here = Path(__file__).resolve().parent
    inside = here / "migrations"
    return inside if inside.is_dir() else here.parent / "migrations"


# Limits of the server, the database and the role; -1 is none. Backends are counted in
# pg_stat_database, since pg_stat_activity hides their kind from others.
_CONNECTIONS_LEFT = """
SELECT least(
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - (SELECT sum(numbackends) FROM pg_stat_database),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
        - (SELECT numbackends FROM pg_stat_database WHERE datname = current_database()),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)
        - (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)
)"""
