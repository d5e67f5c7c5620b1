"""A room is a folder: it registers itself by one line, and no other file of the package changes."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
        (folder / "tweet.ini").write_text(f'dbname = "{dsn}"\nhowOften = 3\n')

    def register(self) -> None:
        """The folder of the room, and its line in the list."""
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


# A kind of work, a table and a reader of stored pages join the room here: they stand in
# `Room.kinds` and `Room.tables`, and the command of the room uses them through
# `setup.asking_x()` and `setup.database()`.
