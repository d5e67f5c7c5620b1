"""`init`: a folder for a crawl, from answers on a terminal or from options."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import psycopg
import pytest
from crawls import PROGRAM, ended
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from terminals import terminal

from tweetcrawler import settings
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.local import start
from tweetcrawler.settings.credentials import read_credentials

PARTS = {"host": "host", "port": "port", "name": "dbname", "user": "user"}
FILES = {"tweet.ini", "auth.csv", "handles.txt", ".gitignore"}


def init(
    folder: Path, *arguments: str, expect: int | Sequence[int] = 0
) -> subprocess.CompletedProcess[str]:
    return ended(started(folder, "init", *arguments), expect=expect)


def started(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )


def read(folder: Path) -> settings.Settings:
    return settings.parse([], environ={}, folder=folder)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def sandbox_by(line: str, folder: Path) -> Iterator[None]:
    """The server that a printed command starts."""
    arguments = shlex.split(line.partition("#")[0].partition("sandbox")[2])
    with started(folder, "sandbox", *arguments) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("sandbox listens")
            yield
        finally:
            process.terminate()
            process.communicate()


def test_a_folder_for_the_sandbox_is_crawled_as_the_printed_lines_say(
    empty_dsn: str, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    known = conninfo_to_dict(empty_dsn)
    named = [f"--db{key}={known[part]}" for key, part in PARTS.items()]
    said = init(tmp_path, "ada", "grace", "--sandbox", *named, "--into", str(folder)).stdout
    assert names(folder) == FILES
    assert read(folder).money.budget == start.DEFAULT_BUDGET
    [server] = re.findall(r"^  (\S.* sandbox .*)$", said, re.MULTILINE)
    assert "db upgrade" in said
    with sandbox_by(server, folder):
        for step in (["db", "upgrade"], []):
            ended(started(folder, *step, PGPASSWORD=str(known["password"])))
    with psycopg.connect(empty_dsn) as connection:
        row = connection.execute("SELECT count(DISTINCT tweet_from) FROM tweet_articles_tweepy")
        assert row.fetchone() == (2,)


@pytest.mark.parametrize("columns", [80, 120])
def test_answers_on_a_terminal_make_the_folder_and_hide_secrets(
    tmp_path: Path, columns: int
) -> None:
    with terminal(tmp_path, ["init"], columns=columns) as screen:
        screen.answer("[x/sandbox]: ", "somewhere")
        screen.wait_for("must be one of x, sandbox")
        screen.answer("[x/sandbox]: ", "")
        screen.answer("consumer key: ", "KEY with space")
        for _ in range(3):
            screen.answer(": ", "other")
        for question in ("consumer key", "consumer secret", "access token", "token secret"):
            screen.answer(f"{question}: ", f"{question.replace(' ', '-')}-hidden")
        screen.answer("[private/own/csv]: ", "own")
        for question, text in {"[localhost]": "db.example.org", "[5432]": "6543"}.items():
            screen.answer(f"{question}: ", text)
        for question, text in {"database": "tweets", "logs in": "me"}.items():
            screen.answer(f"{question}: ", text)
        screen.answer("TWEETCRAWLER_DBPASS: ", "pass'word-hidden")
        screen.answer("handles.txt later: ", "not-one")
        screen.answer("handles.txt later: ", "@Ada grace,ada")
        screen.answer("USD [5]: ", "$7.5")
        assert screen.ended() == 0
        assert "hidden" not in screen.seen.replace("Keys of your app, hidden", "").replace(
            "password, hidden", ""
        )
        questions = re.findall(r"^.*: (?=\S*$)", screen.seen, re.MULTILINE)
        assert max(map(len, questions)) <= 80
    made = read(tmp_path)
    assert made.database is not None
    assert made.database.password is not None
    assert made.database.password.reveal() == "pass'word-hidden"
    assert (made.database.host, made.database.port) == ("db.example.org", 6543)
    assert made.money.budget == 7.5
    assert (tmp_path / "handles.txt").read_text() == "ada\ngrace\n"
    [keys] = read_credentials(tmp_path / "auth.csv").credentials
    assert keys.access_token_secret == settings.Secret("token-secret-hidden")
    assert {mode(tmp_path / name) for name in ("auth.csv", "tweet.ini")} == {0o600}
    assert {"auth.csv", "tweet.ini"} <= set((tmp_path / ".gitignore").read_text().split())


@pytest.mark.parametrize("end", ["nonsense", "\x04", "interrupt"])
def test_answers_that_end_before_the_questions_write_nothing(tmp_path: Path, end: str) -> None:
    with terminal(tmp_path, ["init"]) as screen:
        if end == "nonsense":
            for _ in range(3):
                screen.answer("[x/sandbox]: ", end)
            screen.wait_for("nothing was written")
        elif end == "interrupt":
            screen.wait_for("[x/sandbox]: ")
            screen.interrupt()
        else:
            screen.answer("[x/sandbox]: ", "x")
            screen.answer("consumer key: ", "")
            screen.wait_for("[private/own/csv]: ")
            screen.type(end)
        assert screen.ended() == (130 if end == "interrupt" else 2)
        assert "Traceback" not in screen.seen
    assert names(tmp_path) == set()


def test_without_a_terminal_what_is_left_open_has_its_usual_answer(tmp_path: Path) -> None:
    said = init(tmp_path, "ada").stdout
    assert names(tmp_path) == FILES
    made = read(tmp_path)
    assert made.database is not None
    assert made.database.embedded
    assert made.api_url == "https://api.x.com"
    assert (tmp_path / "auth.csv").read_text().splitlines()[1].startswith("YOUR-KEY,")
    assert mode(tmp_path / "auth.csv") == 0o600
    assert "doctor" in said


def test_a_file_that_is_there_is_kept_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc")
    (tmp_path / "handles.txt").write_text("mine\n")
    init(tmp_path, "--yes")
    assert (tmp_path / "handles.txt").read_text() == "mine\n"
    assert (tmp_path / ".gitignore").read_text().startswith("*.pyc\nauth.csv\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = init(tmp_path, "ada", "--csv", expect=2)
    assert "--replace" in refused.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    init(tmp_path, "ada", "--csv", "--replace")
    assert (tmp_path / "handles.txt.old").read_text() == "mine\n"
    assert (tmp_path / "tweet.ini.old").read_bytes() == before["tweet.ini"]
    assert (tmp_path / "auth.csv").read_bytes() == before["auth.csv"]
    assert read(tmp_path).sink == "csv"
    with terminal(tmp_path, ["init"]) as screen:
        screen.answer("[y/N]: ", "")
        assert screen.ended() == 2


def test_what_cannot_be_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    assert "budget needs a database" in init(tmp_path, "--csv", "--budget", "5", expect=2).stderr
    assert "is not there" in init(tmp_path, "--auth-csv", "none.csv", expect=2).stderr
    (tmp_path / "file").write_text("")
    taken = init(tmp_path, "--into", str(tmp_path / "file" / "below"), expect=2)
    assert "cannot be written" in taken.stderr
    assert names(tmp_path) == {"file"}


PRINTABLE = st.characters(exclude_categories=["Cc", "Cs"])


@hypothesis.settings(max_examples=30)
@given(password=st.text(PRINTABLE, min_size=1), name=st.text(PRINTABLE, min_size=1))
def test_any_answer_is_read_back_as_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, password: str, name: str
) -> None:
    hypothesis.assume("--" not in (password.strip(), name.strip()))  # argparse drops it
    folder = tmp_path_factory.mktemp("any")
    database = settings.Database(False, name=name, password=settings.Secret(password))
    try:
        start.written(folder, start.Answers(database=database), replace=False)
    except ConfigurationError as refused:
        assert "both kinds of quotes" in str(refused)  # noqa: PT017 - most values are taken
        return
    found = read(folder).database
    assert found is not None
    if password.strip():
        assert found.password == database.password
    if name.strip() and not settings._is_conninfo(name):
        assert found.name == name


def test_the_printed_lines_work_in_the_folder_that_they_go_to(tmp_path: Path) -> None:
    """Called by a relative path, as from a checkout that was not activated."""
    script = os.path.relpath(Path(sys.executable).with_name("tweetcrawler"), tmp_path)
    words = ["init", "ada", "--into", "trial", "--sandbox", "--yes"]
    done = subprocess.run(
        [script, *words],
        cwd=tmp_path,
        env=os.environ | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    steps = done.stdout.partition("Next:")[2].split("\n")
    [cd, *others] = [shlex.split(step, comments=True) for step in steps if step]
    assert cd == ["cd", str(tmp_path / "trial")]
    assert len(others) >= 3
    assert all((tmp_path / "trial" / program).is_file() for program, *_ in others)
