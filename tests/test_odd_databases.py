"""Databases as operators have them: odd names, encodings and rights, something in the way."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from crawls import Crawler, ended, truth
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sandbox_server import Sandbox

from tweetcrawler.db import Database
from tweetcrawler.errors import DatabaseError

TEXT = "naïve Ω 日本語 🦉"
HANDLES = ["writer_1"]


def does(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def one(dsn: str, statement: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def set_for_all(dsn: str, setting: str) -> None:
    does(dsn, f'ALTER DATABASE "{conninfo_to_dict(dsn)["dbname"]}" SET {setting}')


def archive(folder: Path) -> str:
    """A file of one post with letters of many scripts."""
    page = {"data": [{"id": "20", "text": TEXT, "author_id": "7"}]}
    (folder / "posts.jsonl").write_text(json.dumps(page), "utf-8")
    return "posts.jsonl"


# --- encodings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_all_letters_is_refused(
    server_dsn: str, tmp_path: Path, encoding: str
) -> None:
    name = f"odd_{encoding.lower()}_{os.getpid()}"
    does(
        server_dsn,
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0",
    )
    crawler = Crawler(tmp_path, dsn=make_conninfo(server_dsn, dbname=name))
    for command in ("db upgrade", "import posts.jsonl"):
        archive(tmp_path)
        done = crawler.run(*command.split(), expect=3)
        assert f"has the encoding {encoding}" in done.stderr
        assert done.stderr.count("\n") == 1
    does(server_dsn, f"DROP DATABASE {name}")


def test_text_is_stored_whole_whatever_the_environment_says(dsn: str, tmp_path: Path) -> None:
    set_for_all(dsn, "client_encoding = 'LATIN1'")
    crawler = Crawler(tmp_path, dsn=dsn)
    odd = os.environ | {"PGCLIENTENCODING": "SQL_ASCII"}
    ended(crawler.start("import", archive(tmp_path), env=odd))
    assert one(make_conninfo(dsn, client_encoding="UTF8"), "SELECT text FROM tweets") == TEXT
    ended(crawler.start("export", "out.csv", "--columns", "text", env=odd))
    assert TEXT in (tmp_path / "out.csv").read_text("utf-8")


# --- names ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "1", "--posts", "20-40") as running:
        yield running


@pytest.mark.parametrize("table", ["MyTweets", "user", "Odd.order"])
def test_a_name_is_what_was_written_from_migration_to_report(
    sandbox: Sandbox, empty_dsn: str, tmp_path: Path, table: str
) -> None:
    does(empty_dsn, 'CREATE SCHEMA "Odd"')
    crawler = Crawler.on(sandbox, tmp_path, empty_dsn, HANDLES, threads=1)
    text = (tmp_path / "tweet.ini").read_text()
    (tmp_path / "tweet.ini").write_text(
        text.replace("[Database]", f"[Database]\ntablename = {table}")
    )
    crawler.run("db", "upgrade")
    crawler.run()
    ids = truth(sandbox, HANDLES)
    assert one(empty_dsn, "SELECT array_agg(id ORDER BY id) FROM tweets") == ids
    crawler.run("export", "out.csv", "--columns", "id", "--where", "handle=writer_1")
    assert (tmp_path / "out.csv").read_text().split()[1:] == [f'"{i}"' for i in ids]
    assert f"{len(ids):,}" in crawler.run("status").stdout
    crawler.run("report")
    crawler.run("import", archive(tmp_path))
    crawler.run("snowball", "--min-count", "1")
    assert one(empty_dsn, "SELECT text FROM tweets WHERE id = 20") == TEXT
    crawler.run("hydrate", str(ids[0]), "--refresh")


def test_capitals_that_are_not_in_the_table_s_name_are_said(dsn: str) -> None:
    database = Database(dsn, "Tweet_Articles_Tweepy")
    for step in (database.check, database.upgrade):
        with pytest.raises(DatabaseError, match="write tablename = tweet_articles_tweepy"):
            step()


@pytest.mark.parametrize("table", ["tweets", "crawl_page"])
def test_a_name_of_the_program_s_own_is_refused(dsn: str, table: str) -> None:
    database = Database(dsn, table)
    for step in (database.check, database.upgrade):
        with pytest.raises(DatabaseError, match="the program needs itself"):
            step()


# --- migrations that fail -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_the_way", "table", "said"),
    [
        ("CREATE VIEW tweets AS SELECT 1 AS one", None, '"tweets" is not a view|in the way'),
        ("CREATE TABLE tweets (id int)", None, "in the way of ours: rename it"),
        ("CREATE VIEW tweet_articles_tweepy AS SELECT 1 AS id", None, "and no table; rename"),
        ("CREATE TABLE crawl_target (id int)", None, "in the way of ours: rename it"),
        ("SELECT 1", "nowhere.posts", 'schema "nowhere" does not exist.*CREATE SCHEMA'),
        ("default_transaction_read_only = on", None, "upgrade the one that takes writes"),
        ("search_path = nowhere", None, "correct tablename or search_path"),
        ("lock_timeout = '50ms'", None, "upgrade when no run is under way"),
        ("statement_timeout = '50ms'", None, "PGOPTIONS='-c statement_timeout=0'"),
    ],
)
def test_what_stops_a_migration_is_one_sentence_and_nothing_is_left(
    empty_dsn: str, in_the_way: str, table: str | None, said: str
) -> None:
    if "=" in in_the_way:
        set_for_all(empty_dsn, in_the_way)
    else:
        does(empty_dsn, in_the_way)
    with contextlib.ExitStack() as held:
        if "timeout" in in_the_way:
            holder = held.enter_context(psycopg.connect(empty_dsn))
            holder.execute("SELECT pg_advisory_lock(1953981797)")
        with pytest.raises(DatabaseError, match=said) as refused:
            Database(empty_dsn, *([table] if table else [])).upgrade()
    assert "\n" not in str(refused.value)
    assert one(empty_dsn, "SELECT to_regclass('public.crawl_run')::text") is None


def test_a_migration_that_fails_is_told_by_the_command_without_a_traceback(
    empty_dsn: str, tmp_path: Path
) -> None:
    does(empty_dsn, "CREATE TABLE tweets (id int)")
    done = Crawler(tmp_path, dsn=empty_dsn).run("db", "upgrade", expect=3)
    assert done.stderr.count("\n") == 1
    assert 'relation "tweets"' in done.stderr


def test_the_version_table_of_another_program_is_left_alone(empty_dsn: str) -> None:
    does(
        empty_dsn,
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('0001')",
    )
    Database(empty_dsn).upgrade()
    Database(empty_dsn).check()
    assert one(empty_dsn, "SELECT version_num FROM alembic_version") == "0001"


def test_our_version_table_of_before_is_adopted(dsn: str) -> None:
    does(
        dsn,
        "ALTER TABLE crawl_schema RENAME TO alembic_version",
        "ALTER INDEX crawl_schema_pkc RENAME TO alembic_version_pkc",
    )
    database = Database(dsn)
    database.check()
    database.upgrade()
    database.check()
    assert one(dsn, "SELECT to_regclass('alembic_version') IS NULL") is True


def test_a_schema_of_a_newer_program_is_not_touched(dsn: str) -> None:
    does(dsn, "UPDATE crawl_schema SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="9999, which this program does not know"):
        Database(dsn).upgrade()


# --- read-only ------------------------------------------------------------------------------------


def test_a_server_that_takes_no_writes_ends_a_run_at_once_and_can_be_read(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    set_for_all(dsn, "default_transaction_read_only = on")
    before = sandbox.books()["requests"]
    for command in ([], ["import", archive(tmp_path)], ["reflatten"], ["db", "upgrade"]):
        done = crawler.run(*command, expect=3 if command != ["db", "upgrade"] else 0)
        assert command == ["db", "upgrade"] or "is read-only" in done.stderr, command
        assert "Traceback" not in done.stderr
    assert sandbox.books()["requests"] == before
    for command in (["status"], ["export", "out.csv"], ["plan"]):
        assert "Traceback" not in crawler.run(*command).stderr
