"""`doctor`: everything that a run needs is looked at, in bounded time, and nothing is bought."""

from __future__ import annotations

import csv
import json
import re
import socket
import time
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from busy import allowed_s
from crawls import Crawler
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sandbox_server import Sandbox
from terminals import terminal

from tweetcrawler import doctor
from tweetcrawler.doctor import machine

PROJECT = Path(__file__).resolve().parent.parent
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def world() -> Iterator[Sandbox]:
    limits = ["--limit", "/2/users/:id/tweets=1/900"]
    with Sandbox("--credentials", "2", "--posts", "120-140", *limits) as running:
        yield running


def keys_of(world: Sandbox, folder: Path, **changes: str) -> Path:
    """The auth CSV of the sandbox, with other values in its first row."""
    folder.mkdir(exist_ok=True)
    path = folder / "auth.csv"
    rows = [world.credentials[0] | changes, *world.credentials[1:]]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    path.chmod(0o600)
    return path


def looked(
    crawler: Crawler, *arguments: str, expect: int | Sequence[int] = 0
) -> dict[str, tuple[str, str]]:
    """Check -> (state, sentence), of the last finding of each check."""
    done = crawler.run("doctor", "--json", *arguments, expect=expect)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["exit_code"] == done.returncode
    return {each["check"]: (each["state"], each["sentence"]) for each in answer["checks"]}


def test_everything_is_looked_at_and_nothing_is_bought(
    world: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(world, tmp_path, dsn, ["ada", "grace"], settings="budget = 5")
    before = world.books()
    found = looked(crawler)
    assert {state for state, _ in found.values()} <= {"ok", "note"}
    expected = {"program", "extras", "time zone", "settings", "budget", "handles", "disk"}
    expected |= {"database", "version", "encoding", "schema", "rights", "database clock"}
    expected |= {"database disk", "clock"}
    expected |= {f"c{n} as {part}" for n in (1, 2) for part in ("app", "user", "app, archive")}
    assert set(found) == expected
    assert "pay-per-use" in found["c1 as app"][1]
    assert re.search(r"\d of 5,000 requests left until \d\d:\d\d:\d\d UTC", found["c1 as user"][1])
    after = world.books()
    assert (after["posts_sold"], after["users_sold"]) == (before["posts_sold"], 0)
    asked = {where for counts in after["requests"].values() for where in counts}
    assert asked == {"/2/usage/tweets", "/2/tweets/search/all", "/2/tweets"}


def test_odd_things_are_warnings_each_in_a_line(world: Sandbox, dsn: str, tmp_path: Path) -> None:
    auth = keys_of(world, tmp_path, name="C2", access_token_secret="wrong")
    auth.chmod(0o644)
    Crawler(tmp_path, dsn=dsn, auth_csv=auth, api_url=world.url, handles=["Ada", "ada", "no good!"])
    world.control("POST", "/sandbox/clock", {"skew_s": 4000})
    try:
        with terminal(tmp_path, ["doctor"]) as screen:
            assert screen.ended() == 0
    finally:
        world.control("POST", "/sandbox/clock", {"skew_s": 0})
    warnings = re.findall(r"^warning  (.+?): (.+)$", screen.seen, re.MULTILINE)
    said = dict(warnings)
    assert set(said) == {"budget", "handles", "file modes", "names", "C2 as user", "clock"}
    assert "chmod 600" in said["file modes"]
    assert "behind X" in said["clock"]
    assert "401" in said["C2 as user"]
    assert re.search(r"^note +handles: .*ada", screen.seen, re.MULTILINE)
    assert "a run can begin (6 warnings)" in screen.seen


def test_a_run_says_at_its_end_which_part_of_a_credential_was_refused(
    world: Sandbox, dsn: str, tmp_path: Path
) -> None:
    """The others do all the work, so nothing else in the report would tell."""
    auth = keys_of(world, tmp_path, access_token_secret="wrong")
    crawler = Crawler(
        tmp_path,
        dsn=dsn,
        auth_csv=auth,
        api_url=world.url,
        handles=[f"writer_{n}" for n in range(8)],
        threads=1,
    )
    done = crawler.run()
    notes = re.findall(r"^could not use (\S+ \(\w+\)) on (.+)$", done.stdout, re.MULTILINE)
    assert [part for part, _ in notes] == ["c1 (user)"]
    assert "401" in notes[0][1]
    assert "doctor" in notes[0][1]


def test_examples_of_keys_are_told_without_a_request(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "auth.csv").write_text(
        "consumer_key,consumer_secret,access_token,access_token_secret\n"
        "YOUR-KEY,YOUR-SECRET,YOUR-TOKEN,YOUR-TOKEN-SECRET\n"
    )
    auth = tmp_path / "auth.csv"
    crawler = Crawler(tmp_path, dsn=dsn, auth_csv=auth, api_url=NOWHERE, handles=["ada"])
    found = looked(crawler, expect=4)
    assert found["credentials"][0] == "fault"
    state, sentence = found["credential-1"]
    assert state == "warning"
    assert sentence.startswith("an example stands in consumer_key, consumer_secret, access_token")


def test_the_exit_code_is_that_of_the_first_thing_to_put_right(
    world: Sandbox, empty_dsn: str, tmp_path: Path
) -> None:
    auth = keys_of(world, tmp_path)
    crawler = Crawler(tmp_path, dsn=empty_dsn, auth_csv=auth, api_url=NOWHERE, handles=["ada"])
    found = looked(crawler, expect=3)
    assert "db upgrade" in found["schema"][1]
    assert found["credentials"][0] == "fault"
    (tmp_path / "handles.txt").unlink()
    assert "is not there" in looked(crawler, expect=2)["handles"][1]


def test_a_database_that_cannot_hold_posts_or_be_written_is_a_fault(
    server_dsn: str, dsn: str, tmp_path: Path
) -> None:
    name = f"latin_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        made = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
        connection.execute(sql.SQL(made).format(sql.Identifier(name)))
        try:
            latin = make_conninfo(server_dsn, dbname=name)
            found = looked(Crawler(tmp_path, dsn=latin, handles=["ada"]), expect=3)
            assert found["encoding"][0] == "fault"
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    reader = f"reader_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "CREATE ROLE {0} LOGIN PASSWORD 'p'; GRANT SELECT ON ALL TABLES IN SCHEMA "
                'public TO {0}; CREATE TABLE "Tweet_Articles_Tweepy" ()'
            ).format(sql.Identifier(reader))
        )
        try:
            known = make_conninfo(dsn, user=reader, password="p")
            found = looked(Crawler(tmp_path, dsn=known, handles=["ada"]), expect=3)
            assert "may not write" in found["rights"][1]
            assert "differs in case only" in found["names"][1]
        finally:
            connection.execute(
                sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(reader))
            )


def test_a_database_that_goes_away_does_not_hold_up_the_doctor(tmp_path: Path) -> None:
    """It takes the connection and never answers, as a server that was frozen does."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        port = frozen.getsockname()[1]
        crawler = Crawler(
            tmp_path,
            dsn=f"host=127.0.0.1 port={port} dbname=x",
            handles=["ada"],
            settings="giveUpAfter = 2s",
        )
        begun = time.monotonic()
        found = looked(crawler, expect=3)
        assert time.monotonic() - begun < allowed_s(8)
    assert found["database"] == (
        "fault",
        "no answer within 2 s: look at the server and the network",
    )
    assert found["handles"][0] == "ok"


def test_a_check_that_fails_in_a_way_nobody_thought_of_is_not_hidden() -> None:
    def look() -> Iterator[doctor.Finding]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(doctor.examined([doctor.Check("odd", look, 0)]))


def test_the_packages_of_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {
        extra: [re.split(r"[<>=;]", one)[0] for one in packages]
        for extra, packages in project["optional-dependencies"].items()
    }
    assert named == {extra: list(found.values()) for extra, found in machine.EXTRAS.items()}


def test_the_private_server_is_looked_at_before_it_is_made(tmp_path: Path) -> None:
    crawler = Crawler(tmp_path, handles=["ada"], settings=f"dataFolder = {tmp_path / 'pg'}")
    found = looked(crawler, expect=4)
    assert found["database"][0] == "ok"
    assert not (tmp_path / "pg").exists()
