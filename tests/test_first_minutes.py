"""First minutes: something is said at once, an estimate is the plan's, an error names its place."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from busy import allowed_s
from crawls import PROGRAM, Crawler, ended, kill_tree
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sandbox_server import Sandbox
from terminals import terminal

from tweetcrawler.look import pace
from tweetcrawler.news import Outcome, PageRead
from tweetcrawler.outcome import Progress

# Of the half second in which something must be said, computing takes no more than this.
CPU_S = 0.5


@pytest.fixture(scope="module")
def world() -> Iterator[Sandbox]:
    limits = ["--limit", "/2/users/:id/tweets=3/3", "--short-pages", "0"]
    with Sandbox("--credentials", "2", "--posts", "180-190", "--window-s", "9", *limits) as running:
        yield running


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_line_says_at_once_what_a_run_waits_for(
    world: Sandbox, tmp_path: Path, on_terminal: bool
) -> None:
    """The database takes the connection and never answers: the line is there all the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        crawler = Crawler.on(world, tmp_path, f"host=127.0.0.1 port={port} dbname=x", ["ada"])
        expected = f"connecting to the database x at 127.0.0.1:{port}"
        if on_terminal:
            with terminal(tmp_path, []) as screen:
                screen.wait_for(expected)
                assert_cheap(screen.process.pid)
            return
        process = crawler.start()
        try:
            assert process.stderr is not None
            assert expected in process.stderr.readline()
            assert_cheap(process.pid)
        finally:
            kill_tree(process.pid)
            process.communicate()


def assert_cheap(pid: int) -> None:
    # Of the program alone: on a busy machine the time of day says nothing, and even its own
    # time grows when others use the caches.
    used = psutil.Process(pid).cpu_times()
    assert used.user + used.system < allowed_s(CPU_S)


def test_the_picture_tells_windows_credentials_and_the_time_to_go(
    world: Sandbox, dsn: str, tmp_path: Path
) -> None:
    """Eight timelines of two pages and six requests a window: three windows at the least."""
    Crawler.on(world, tmp_path, dsn, [f"writer_{n}" for n in range(8)])
    with terminal(tmp_path, ["--yes"], columns=80) as screen:
        screen.wait_for("looking up 8 handles")
        assert screen.ended() == 0
    seen = " ".join(screen.seen.split())
    assert re.search(r"waits for windows, next at \d\d:\d\d:\d\d UTC", seen)
    waits = re.findall(r"(c\d) +\d+ +waiting until \d\d:\d\d:\d\d UTC: (\S+)", screen.seen)
    assert {endpoint for _, endpoint in waits} == {"/2/users/:id/tweets"}
    assert re.search(r"c\d +\d+ +requesting", screen.seen)
    assert re.search(r"c\d +\d+ +idle", screen.seen)
    assert re.search(r"about \d+ s to go", seen)
    frames = screen.seen.partition("to go")[0]
    assert "0/s" in frames
    assert "about" not in re.split(r"looking up", seen)[1][:60], "an estimate before any look"


def test_the_rates_are_those_of_the_last_minute() -> None:
    now = time.monotonic()
    progress = Progress(now - 3600, posts=1_000_000, requests=9_000)
    assert progress.rates(now) == (0.0, 0.0)
    for _ in range(6):
        progress.take(PageRead("c1", posts=100, new=100))
    assert progress.rates(now) == (10.0, 0.1)
    assert "(10/s, 600 new), 9,006 requests (0.1/s)" in pace.summary(progress, now)


def test_the_time_to_go_lasts_until_the_next_window_and_is_left_out_when_unknown() -> None:
    progress = Progress(100.0, handles=10)
    progress.take(Outcome("@a", "ok"))
    assert "to go" not in pace.summary(progress, 160.0)
    progress.left = 150.0, 12.0
    assert "about 2 s to go" in pace.summary(progress, 160.0)
    progress.waits["c1 (user) waits for its window on /2/x"] = 200.0
    assert "about 40 s to go" in pace.summary(progress, 160.0)
    progress.credentials = "c1", "c2"
    (first, _, waits), second = pace.states(progress, 160.0)
    assert (first, second) == ("c1", ("c2", 0, "idle"))
    assert re.fullmatch(r"waiting until \d\d:\d\d:\d\d UTC: /2/x", waits)


# --- the database ---------------------------------------------------------------------------------


def failed(folder: Path, *arguments: str, **variables: str) -> str:
    process = subprocess.Popen(
        [*PROGRAM, "status", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    return ended(process, expect=3).stderr


def test_each_cause_has_its_advice_and_the_place_of_the_value(
    server_dsn: str, tmp_path: Path
) -> None:
    known = {key: str(value) for key, value in conninfo_to_dict(server_dsn).items()}
    ini = tmp_path / "tweet.ini"

    def written(**changes: str) -> None:
        values = {"dbhost": known["host"], "dbport": known["port"], "dbname": known["dbname"]}
        values |= {"dbuser": known["user"], "dbpass": known["password"]} | changes
        ini.write_text("[Database]\n" + "".join(f"{k} = '{v}'\n" for k, v in values.items()))
        ini.chmod(0o600)

    written(dbport="1")
    said = failed(tmp_path)
    assert "nothing listens there: start PostgreSQL" in said
    assert f"(dbhost: {ini}, line 2; dbport: {ini}, line 3)" in said
    written(dbhost="no-such-host.invalid")
    assert "no server has this name" in failed(tmp_path)
    written(dbpass="wrong")
    said = failed(tmp_path)
    assert "the role or its password is wrong" in said
    assert f"dbpass: {ini}, line 6" in said
    assert "wrong'" not in said
    written()
    said = failed(tmp_path, "--dbname", "nowhere")
    assert "create the database with createdb, or correct dbname (dbname: option --dbname)" in said
    said = failed(tmp_path, TWEETCRAWLER_DBNAME="elsewhere")
    assert "(dbname: variable TWEETCRAWLER_DBNAME)" in said
    said = failed(tmp_path, PGSSLMODE="require")
    assert "do not agree on TLS" in said


def test_a_password_is_asked_for_where_the_server_wants_one(
    server_dsn: str, dsn: str, tmp_path: Path
) -> None:
    """As the original tool did with --dbname and --dbuser; and not where none is needed."""
    role, known = f"asked_{uuid.uuid4().hex[:12]}", conninfo_to_dict(dsn)
    name = sql.Identifier(role)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'told-to-nobody'").format(name))
        granted = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}"
        connection.execute(sql.SQL(granted).format(name))
    call = ["status", "--dbname", str(known["dbname"]), "--dbuser", role]
    call += ["--dbhost", str(known["host"]), "--dbport", str(known["port"])]
    try:
        for password, code in (("told-to-nobody", 0), ("another", 3)):
            with terminal(tmp_path, call) as screen:
                screen.answer("password for the database", password)
                assert screen.ended() == code
            assert password not in screen.seen
            assert ("the role or its password is wrong" in screen.seen) is (code == 3)
        assert "write it into ~/.pgpass" in failed(tmp_path, *call[1:])
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))
