"""A room is a folder: it registers itself by one line, and no other file of the package changes."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sandbox_server import Sandbox

from tweetcrawler.db import Database, newest_schema
from tweetcrawler.pages import Bought

PACKAGE = Path(__file__).parent.parent / "tweetcrawler"

ROOM = '''\
"""A made-up room."""

from tweetcrawler.rooms import Room

ROOM = Room(
    commands=("tweetcrawler.madeup.command",),
    kinds=("tweetcrawler.madeup.looks:LOOK",),
)
'''

KIND = '''\
"""Kind of work `madeup`: buys the user of each name, and stores X's answer alone."""

import logging
import os
from dataclasses import dataclass
from functools import partial

from tweetcrawler.endpoints import USERS_BY
from tweetcrawler.news import Outcome, PageRead
from tweetcrawler.work.kinds import Kind, Work, one_by_one

NAME = "madeup"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Greeting:
    """The word before a name."""

    word: str


def work(names, greeting):
    return Work({NAME: names}, {NAME: greeting}, total=len(names))


def look_chunk(worker, names):
    return one_by_one(worker, names, partial(_look, worker))


def _look(worker, name, _chunk):
    greeting = worker.job.parameters[NAME]
    with worker.session() as session:
        with worker.requests.buying(session, USERS_BY, 1, what="users") as purchase:
            purchase.ask(lambda x, user_auth: x.users_by([name], user_auth=user_auth))
        session.save_page(worker.job.run, purchase.bought)
    log.info("%s %s from process %d", greeting.word, name, os.getpid())
    worker.tell(PageRead(purchase.credential))
    worker.tell(Outcome(name, "ok"))


LOOK = Kind(NAME, do=look_chunk, called=str)
'''

COMMAND = '''\
"""Command `madeup`: counts something made up."""

import json
import os
from dataclasses import dataclass

from tweetcrawler.settings.commands import Command, Words
from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import whole


@dataclass(frozen=True)
class Values:
    """Things, how often each is told, and whether X is asked about them."""

    things: tuple[str, ...] = ()
    how_often: int = 1
    look: bool = False


def run(setup, values):
    """Tells the things, or asks X about them."""
    if values.look:
        return look(setup, values.things)
    with setup.database("madeup counts in a table") as database, database.session() as session:
        for thing in values.things * values.how_often:
            setup.front.say(thing)
    return 0


def look(setup, things):
    """Lets worker processes ask X, and tells what X's stored answers are about."""
    from tweetcrawler.endpoints import USERS_BY
    from tweetcrawler.madeup import looks

    with setup.asking_x(why="madeup stores answers in a table") as opened:
        code = opened.told(opened.run(looks.work(things, looks.Greeting("hello"))))
        for page in opened.database.stored_pages():
            if page.endpoint == USERS_BY:
                name = json.loads(page.body)["data"][0]["username"]
                setup.front.note(f"process {os.getpid()} reads of {name}")
        return code


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
        option("--look", help="ask X about each thing"),
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

    def __init__(self, folder: Path, dsn: str, sandbox: Sandbox) -> None:
        self.folder = folder
        self.package = folder / "house" / "tweetcrawler"
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        migrations = PACKAGE.parent / "migrations"
        shutil.copytree(migrations, self.package.parent / "migrations")
        self.settings = folder / "tweet.ini"
        self.settings.write_text(
            f'dbname = "{dsn}"\nThreads = 2\napiURL = {sandbox.url}\nauthCSV = {sandbox.auth_csv}\n'
        )

    def register(self) -> None:
        """The folder of the room, its line in the list, and its option in the file."""
        with self.settings.open("a") as settings:
            settings.write("howOften = 3\n")
        room = self.package / "madeup"
        room.mkdir()
        (room / "__init__.py").write_text(ROOM)
        (room / "command.py").write_text(COMMAND)
        (room / "looks.py").write_text(KIND)
        rooms = self.package / "rooms.py"
        before = rooms.read_text()
        begin = "ROOMS: tuple[str, ...] = ("
        assert before.count(begin) == 1
        rooms.write_text(before.replace(begin, f'{begin}"tweetcrawler.madeup:ROOM", '))

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


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2") as running:
        yield running


@pytest.fixture
def house(tmp_path: Path, dsn: str, sandbox: Sandbox) -> House:
    return House(tmp_path, dsn, sandbox)


def test_a_room_registers_itself_by_one_line(house: House) -> None:
    house.run("madeup", "moon", expect=2)
    house.register()
    house.run("madeup", "moon")
    room = {"madeup/__init__.py", "madeup/command.py", "madeup/looks.py"}
    assert house.changed() == {"rooms.py", *room}


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


def test_the_kind_of_work_of_a_room_is_done_by_worker_processes(
    house: House, sandbox: Sandbox, dsn: str
) -> None:
    """Handed out, paid for and reported as any other; its pages are read where they are stored."""
    house.register()
    names = {"moon_lover", "sun_lover", "star_lover"}
    done = house.run("madeup", *names, "--look")
    greeted = re.findall(r"hello (\w+) from process (\d+)", done.stderr)
    read = re.findall(r"process (\d+) reads of (\w+)", done.stderr)
    assert {name for name, _ in greeted} == {name for _, name in read} == names
    assert {worker for _, worker in greeted}.isdisjoint(parent for parent, _ in read)
    with psycopg.connect(dsn) as connection:
        [(exit_code, arguments)] = connection.execute(
            "SELECT exit_code, arguments FROM crawl_run"
        ).fetchall()
    assert (exit_code, arguments["command"], arguments["values"]["look"]) == (0, "madeup", True)
    assert sandbox.books()["users_sold"] == len(names)


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
    begin, line = "ROOMS: tuple[str, ...] = (", '"tweetcrawler.reading:ROOM", '
    before = rooms.read_text()
    if line not in before:
        rooms.write_text(before.replace(begin, begin + line))
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
