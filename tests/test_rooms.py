"""A room is a folder: it registers itself by one line, and no other file of the package changes."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tweetcrawler.db import Database, newest_schema
from tweetcrawler.pages import Bought

PACKAGE = Path(__file__).parent.parent / "tweetcrawler"

ROOM = '''\
"""A made-up room."""

from tweetcrawler.rooms import Room

ROOM = Room(commands=("tweetcrawler.madeup.command",))
'''

COMMAND = '''\
"""Command `madeup`: counts something made up."""

from dataclasses import dataclass

from tweetcrawler.settings.commands import Command, Words
from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import whole


@dataclass(frozen=True)
class Values:
    """Things, and how often each is told."""

    things: tuple[str, ...] = ()
    how_often: int = 1


def run(setup, values):
    """Tells the things, and how many posts are stored."""
    with setup.database("madeup counts in a table") as database, database.session() as session:
        for thing in values.things * values.how_often:
            setup.front.say(thing)
    return 0


COMMAND = Command(
    name="madeup",
    summary="tell things that are made up",
    group="Made up",
    words=Words("THING...", "things"),
    options=(
        option(
            "--how-often",
            metavar="NUMBER",
            type=whole(1, 9),
            places=EVERYWHERE,
            help="how often each thing is told",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler madeup moon", "one thing"),
        ("tweetcrawler madeup moon sun", "two things"),
        ("tweetcrawler madeup moon --how-often 2", "one thing twice"),
    ),
    price="nothing.",
)
'''


class House:
    """A copy of the package with one more room, and a database."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        self.package = folder / "house" / "tweetcrawler"
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        migrations = PACKAGE.parent / "migrations"
        shutil.copytree(migrations, self.package.parent / "migrations")
        self.settings = folder / "tweet.ini"
        self.settings.write_text(f'dbname = "{dsn}"\n')

    def register(self) -> None:
        """The folder of the room, its line in the list, and its option in the file."""
        with self.settings.open("a") as settings:
            settings.write("howOften = 3\n")
        room = self.package / "madeup"
        room.mkdir()
        (room / "__init__.py").write_text(ROOM)
        (room / "command.py").write_text(COMMAND)
        rooms = self.package / "rooms.py"
        before = rooms.read_text()
        empty = "ROOMS: tuple[str, ...] = ()"
        assert before.count(empty) == 1
        line = 'ROOMS: tuple[str, ...] = ("tweetcrawler.madeup:ROOM",)'
        rooms.write_text(before.replace(empty, line))

    def changed(self) -> set[str]:
        """Files of the package that differ from ours or are new."""
        ours = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
        theirs = {str(path.relative_to(self.package)) for path in self.package.rglob("*.py")}
        same, _, _ = filecmp.cmpfiles(PACKAGE, self.package, ours, shallow=False)
        return theirs - set(same)

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "tweetcrawler", *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.package.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done


@pytest.fixture
def house(tmp_path: Path, dsn: str) -> House:
    return House(tmp_path, dsn)


def test_a_room_registers_itself_by_one_line(house: House) -> None:
    house.run("madeup", "moon", expect=2)
    house.register()
    house.run("madeup", "moon")
    assert house.changed() == {"rooms.py", "madeup/__init__.py", "madeup/command.py"}


def test_the_command_of_a_room_is_like_any_other(house: House) -> None:
    house.register()
    assert house.run("madeup", "moon", "sun", "--howOften", "2").stdout.split() == [
        *("moon", "sun"),
        *("moon", "sun"),
    ]
    assert house.run("madeup", "moon").stdout.split() == ["moon"] * 3, "from the file"
    first = house.run("--help").stdout
    assert "\nMade up\n  madeup      tell things that are made up\n" in first
    page = house.run("help", "madeup").stdout
    assert page.startswith("usage: tweetcrawler madeup THING... [options]")
    assert "--how-often NUMBER" in page
    assert "did you mean madeup?" in house.run("maedup", expect=2).stderr
    assert (
        "--how-often belongs to madeup" in house.run("status", "--how-often", "2", expect=2).stderr
    )
    assert (
        "--how-often must be a whole number"
        in house.run("madeup", "--how-often=x", expect=2).stderr
    )


# A kind of work joins the room here: it stands in `Room.kinds`, and the command of the room
# does it through `setup.asking_x()`.


# -- a room with a table of its own, which reads the stored pages --------------------------------

READING_ROOM = '''\
"""A room that reads the stored pages."""

from tweetcrawler.rooms import Room

ROOM = Room(
    commands=("tweetcrawler.reading.command",),
    tables=("tweetcrawler.reading.tables",),
)
'''

TABLES = '''\
"""How far each reader is, and how many pages it saw of each endpoint."""

from sqlalchemy import BigInteger, Column, Table, Text, text

from tweetcrawler.postgres.schema import METADATA

reading_position = Table(
    "reading_position",
    METADATA,
    Column("reader", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("pages", BigInteger, nullable=False, server_default=text("0")),
)
'''

MIGRATION = '''\
"""The table of the readers.

Revision ID: 9001
Revises: REVISES
"""

from alembic import op

revision = "9001"
down_revision = "REVISES"
branch_labels = None
depends_on = None


def upgrade():
    op.execute(
        "CREATE TABLE reading_position (reader text PRIMARY KEY, position bigint NOT NULL, "
        "pages bigint NOT NULL DEFAULT 0)"
    )


def downgrade():
    op.execute("DROP TABLE reading_position")
'''

READING = '''\
"""Command `reading`: tells the endpoints of pages that were stored since it was called last."""

from dataclasses import dataclass

from tweetcrawler.settings.commands import Command

_POSITION = "SELECT position FROM reading_position WHERE reader = %s"
_READ = """
INSERT INTO reading_position (reader, position, pages) VALUES (%(reader)s, %(position)s, 1)
ON CONFLICT (reader) DO UPDATE
SET position = excluded.position, pages = reading_position.pages + 1
"""


@dataclass(frozen=True)
class Values:
    """Nothing to choose."""


def run(setup, _values):
    """Reads each page once, also when it is called again."""
    with setup.database("pages are read from a table") as database, database.session() as session:
        known = session.do(lambda c: c.execute(_POSITION, ["me"]).fetchone())
        for page in database.stored_pages(after=known[0] if known else 0):
            setup.front.say(f"{page.endpoint} {page.body.decode()}")
            given = {"reader": "me", "position": page.position}
            session.do(lambda c: c.execute(_READ, given) and None)
    return 0


COMMAND = Command(
    name="reading",
    summary="tell stored pages",
    group="Made up",
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler reading", "the pages since the last call"),
        ("tweetcrawler reading --csv", "refused: there are no pages"),
        ("tweetcrawler help reading", "this page"),
    ),
    price="nothing.",
)
'''


def grow_reading_room(house: House, *, migration: bool) -> None:
    """Registers the room that reads, with or without a migration that makes its table."""
    room = house.package / "reading"
    room.mkdir(exist_ok=True)
    (room / "__init__.py").write_text(READING_ROOM)
    (room / "tables.py").write_text(TABLES)
    (room / "command.py").write_text(READING)
    rooms = house.package / "rooms.py"
    line = 'ROOMS: tuple[str, ...] = ("tweetcrawler.reading:ROOM",)'
    rooms.write_text(rooms.read_text().replace("ROOMS: tuple[str, ...] = ()", line))
    if migration:
        versions = house.package.parent / "migrations" / "versions"
        text = MIGRATION.replace("REVISES", newest_schema())
        (versions / "9001_reading.py").write_text(text)


def autogenerate(house: House, dsn: str) -> str:
    """The judgement of alembic on the tables of the copy and those of the database."""
    shutil.copy(PACKAGE.parent / "alembic.ini", house.package.parent)
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "check"],
        cwd=house.package.parent,
        env=os.environ | {"PYTHONPATH": str(house.package.parent), "TWEETCRAWLER_DBNAME": dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def store_page(dsn: str, body: bytes) -> None:
    with Database(dsn).session() as session:
        run, _ = session.begin_run(version="", arguments={}, host="", credentials=())
        session.save_page(run, Bought("/2/usage/tweets", {}, "one", body))


def test_a_room_adds_a_table_by_a_migration_of_its_own(house: House, dsn: str) -> None:
    grow_reading_room(house, migration=False)
    assert "reading_position" in autogenerate(house, dsn), "a table without a migration is seen"
    grow_reading_room(house, migration=True)
    house.run("reading", expect=3)
    house.run("db", "upgrade")
    assert "No new upgrade operations" in autogenerate(house, dsn)
    assert house.changed() == {
        *("rooms.py", "reading/__init__.py"),
        *("reading/tables.py", "reading/command.py"),
    }


def test_a_room_reads_each_stored_page_once(house: House, dsn: str) -> None:
    grow_reading_room(house, migration=True)
    house.run("db", "upgrade")
    store_page(dsn, b'{"data": 1}')
    store_page(dsn, b'{"data": 2}')
    told = house.run("reading").stdout.splitlines()
    assert told == ['/2/usage/tweets {"data": 1}', '/2/usage/tweets {"data": 2}']
    assert house.run("reading").stdout == "", "it goes on after the page that it saw last"
    store_page(dsn, b'{"data": 3}')
    assert house.run("reading").stdout.splitlines() == ['/2/usage/tweets {"data": 3}']
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT pages FROM reading_position").fetchall() == [(3,)]
