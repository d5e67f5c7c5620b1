"""What all tests share: a real PostgreSQL with a fresh database for each test, and the sandbox.

`TWEETCRAWLER_TEST_DSN` (a role that may create databases) takes another server than the
embedded one.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from databases import made, server_folder
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tweetcrawler.db import Database
from tweetcrawler.local import embedded

if TYPE_CHECKING:
    from s3_server import S3Server

# Where bytecode is not kept, as in many a container, each of the thousand processes below
# compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No example may fail since the machine was busy. In CI the examples follow from the test
# alone: what fails there is the fault of the change, and fails again at home with CI=true.
settings.register_profile("home", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("home"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "home")


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A PostgreSQL server, as the DSN of a role that may create databases."""
    given = os.environ.get("TWEETCRAWLER_TEST_DSN")
    if given:
        yield given
        return
    with server_folder() as folder:
        with embedded.lend(folder / "data") as url:
            with psycopg.connect(url, autocommit=True) as connection:
                # A clone passes through the log whole, and to compress it takes longer than
                # all the rest.
                connection.execute("ALTER SYSTEM SET wal_compression = off")
                connection.execute("SELECT pg_reload_conf()")
            yield url
        embedded.Server(folder / "data").stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server of S3 for all tests of a process; each uses a prefix of its own."""
    # Here, since boto3 takes half a second and most tests need none of it.
    from s3_server import S3Server

    with S3Server() as running:
        yield running


@pytest.fixture(scope="session")
def new_cluster() -> Iterator[Path]:
    """The data folder of a server that has run once; tests work on copies."""
    with server_folder() as folder:
        server = embedded.Server(folder / "data")
        server.start()
        assert server.stop()
        yield folder / "data"


@pytest.fixture(scope="session")
def template(server_dsn: str) -> Iterator[str]:
    """The name of a migrated database, cloned for each test."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        Database(make_conninfo(server_dsn, dbname=name)).upgrade()
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def empty_dsn(server_dsn: str) -> Iterator[str]:
    """A database without any table."""
    yield from made(server_dsn, None)


@pytest.fixture
def dsn(server_dsn: str, template: str) -> Iterator[str]:
    """A database at the newest revision, with no rows."""
    yield from made(server_dsn, template)


@pytest.fixture
def database(dsn: str) -> Database:
    """The same database as an object."""
    return Database(dsn)


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded real answers."""
    folder = os.environ.get("TWEETCRAWLER_RECORDED")
    if not folder:
        pytest.skip("TWEETCRAWLER_RECORDED names no folder of recorded answers")
    return Path(folder)
