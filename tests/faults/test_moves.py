"""A crawl's database under foreign settings, out of a backup, and from an older release."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k D20_` is that fault

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from crawls import Crawler, ended, killed_after_sales, truth, wait_for_sales
from databases import made
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sandbox_server import Sandbox

from tweetcrawler.db import Database, newest_schema
from tweetcrawler.local import embedded

HANDLES = [f"writer_{n}" for n in range(6)]
MIGRATIONS = Path(__file__).parents[2] / "migrations"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "60-220", "--latency-ms", "20") as running:
        yield running


def sold(sandbox: Sandbox) -> int:
    return int(sandbox.books()["posts_sold"])


def stored_posts(crawler: Crawler) -> int:
    [(posts,)] = crawler.select("SELECT coalesce(sum(post_count), 0) FROM crawl_page")
    return int(posts)


# -- D19: settings of the database ---------------------------------------------------

SETTINGS = {
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "statement_timeout": "20s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "20s",
    "lc_messages": "C",
    "lc_numeric": "C",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "client_min_messages": "debug1",
    "quote_all_identifiers": "on",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
}


def with_settings(dsn: str, settings: Mapping[str, str]) -> str:
    """Sets them for every connection to the database that begins from now on."""
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(dsn, autocommit=True) as connection:
        for setting, value in settings.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    name, sql.Identifier(setting), sql.Literal(value)
                )
            )
    return dsn


def crawled_and_read(crawler: Crawler) -> list[bytes]:
    """All that is stored of posts, and what the commands make of it."""
    crawler.run()
    crawler.run("export", "posts.csv")
    crawler.run("export", "posts.jsonl")
    assert crawler.run("verify").stdout.endswith("all is well\n")
    with psycopg.connect(str(crawler.dsn), autocommit=True) as connection:
        connection.execute("RESET ALL")
        connection.execute("SET client_min_messages = warning")
        rows = connection.execute("SELECT * FROM tweet_articles_tweepy ORDER BY id").fetchall()
    files = [(crawler.folder / name).read_bytes() for name in ("posts.csv", "posts.jsonl")]
    return [repr(rows).encode(), *files]


@pytest.fixture(scope="module")
def plain(
    sandbox: Sandbox, server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> list[bytes]:
    for dsn in made(server_dsn, template):
        crawler = Crawler.on(sandbox, tmp_path_factory.mktemp("plain"), dsn, HANDLES)
        read = crawled_and_read(crawler)
    return read


def differing(read: list[bytes], plain: list[bytes]) -> int:
    return sum(one != other for one, other in zip(read, plain, strict=True))


def test_D19_settings_of_the_database_change_no_row(
    sandbox: Sandbox, plain: list[bytes], dsn: str, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, with_settings(dsn, SETTINGS), HANDLES)
    measure(
        f"of rows, CSV and JSON that differ under {len(SETTINGS)} settings",
        differing(crawled_and_read(crawler), plain),
        at_most=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_D19_no_setting_alone_changes_a_row(
    sandbox: Sandbox, plain: list[bytes], dsn: str, tmp_path: Path, measure: Any, setting: str
) -> None:
    one = with_settings(dsn, {setting: SETTINGS[setting]})
    crawler = Crawler.on(sandbox, tmp_path, one, HANDLES)
    measure(f"that differ with {setting}", differing(crawled_and_read(crawler), plain), at_most=0)


# -- D20: a backup in the middle of a crawl ------------------------------------------


def pg(program: str, dsn: str, *arguments: str) -> None:
    """Runs a program of PostgreSQL; the password goes by the environment."""
    known = conninfo_to_dict(dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    environ = {variable: str(known[name]) for name, variable in names.items() if name in known}
    done = subprocess.run(
        [embedded.find_binaries() / program, *arguments, "-d", str(known["dbname"])],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_D20_a_backup_of_a_crawl_under_way_goes_on_where_it_was_taken(
    dsn: str, server_dsn: str, tmp_path: Path, measure: Any
) -> None:
    with Sandbox("--credentials", "2", "--posts", "200-500", "--latency-ms", "40") as sandbox:
        first = Crawler.on(sandbox, tmp_path / "first", dsn, HANDLES)
        process = first.start()
        assert wait_for_sales(process, sandbox, 300), "it ended before the backup"
        pg("pg_dump", dsn, "-Fc", "-f", str(tmp_path / "dump"))
        assert process.poll() is None, "it ended before the backup"
        ended(process)
        everything = sold(sandbox)
        for restored in made(server_dsn, None):
            pg("pg_restore", restored, "--no-owner", str(tmp_path / "dump"))
            crawler = Crawler.on(sandbox, tmp_path / "second", restored, HANDLES)
            held = stored_posts(crawler)
            assert 0 < held < everything
            assert crawler.run("verify").stdout.endswith("all is well\n")
            crawler.run()
            again = sold(sandbox) - everything
            stored = crawler.stored_ids()
            measure("posts missing", len(set(truth(sandbox, HANDLES)) ^ set(stored)), at_most=0)
            measure("posts bought beyond those sold since", again - (everything - held), at_most=0)


# -- D21: every released schema ------------------------------------------------------


def older_schemas() -> list[Any]:
    """Every revision before the newest, the oldest first; all but the oldest are slow."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    names = [one.revision for one in script.walk_revisions() if one.revision != newest_schema()]
    first, *others = reversed(names)
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in others)]


@pytest.fixture(scope="module")
def half_way(
    sandbox: Sandbox, server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The database of a crawl that was killed in the middle."""
    for dsn in made(server_dsn, template):
        crawler = Crawler.on(sandbox, tmp_path_factory.mktemp("killed"), dsn, HANDLES)
        assert killed_after_sales(crawler.start(), sandbox, 300)
        yield dsn


def columns(dsn: str) -> dict[str, list[str]]:
    """Our tables with their columns."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT c.relname, array_agg(a.attname ORDER BY a.attnum) FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid) "
            "AND c.relnamespace = 'public'::regnamespace GROUP BY 1 ORDER BY 1"
        ).fetchall()
    return {
        name: list(names) for name, names in rows if name not in {"alembic_version", "crawl_schema"}
    }


def copied(source: str, target: str) -> dict[str, list[str]]:
    """Fills the tables of an older schema with the rows of a newer one; gives their columns."""
    known, old = columns(source), columns(target)
    shared = {t: [c for c in names if c in known[t]] for t, names in old.items() if t in known}
    with psycopg.connect(source) as of, psycopg.connect(target) as to:
        to.execute("SET session_replication_role = replica")  # references in any order
        for table, names in shared.items():
            parts = {
                "t": sql.Identifier(table),
                "c": sql.SQL(", ").join(map(sql.Identifier, names)),
            }
            with (
                of.cursor().copy(sql.SQL("COPY {t} ({c}) TO STDOUT").format(**parts)) as rows,
                to.cursor().copy(sql.SQL("COPY {t} ({c}) FROM STDIN").format(**parts)) as into,
            ):
                for part in rows:
                    into.write(part)
        to.execute(
            "SELECT setval(pg_get_serial_sequence(attrelid::regclass::text, attname), 1000000) "
            "FROM pg_attribute WHERE attidentity <> '' AND attrelid::regclass::text LIKE 'crawl%'"
        )
    return shared


def content(dsn: str, tables: Mapping[str, list[str]]) -> dict[str, list[str]]:
    found = {}
    with psycopg.connect(dsn) as connection:
        for table, names in tables.items():
            chosen = sql.SQL(", ").join(map(sql.Identifier, names))
            statement = sql.SQL("SELECT {} FROM {}").format(chosen, sql.Identifier(table))
            found[table] = sorted(map(str, connection.execute(statement).fetchall()))
    return found


@pytest.mark.parametrize("revision", older_schemas())
def test_D21_an_older_schema_is_upgraded_with_its_rows_and_the_crawl_goes_on(
    sandbox: Sandbox, half_way: str, empty_dsn: str, tmp_path: Path, measure: Any, revision: str
) -> None:
    database = Database(empty_dsn)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes.update(database=database)
    command.upgrade(config, revision)
    tables = copied(half_way, empty_dsn)
    before = content(empty_dsn, tables)
    crawler = Crawler.on(sandbox, tmp_path, empty_dsn, HANDLES)
    crawler.run("db", "upgrade")
    after = content(empty_dsn, tables)
    changed = [table for table in tables if before[table] != after[table]]
    measure(f"tables of {revision} with other rows", len(changed), at_most=0)
    held, so_far = stored_posts(crawler), sold(sandbox)
    crawler.run()
    wanted = truth(sandbox, HANDLES)
    measure("posts missing", len(set(wanted) ^ set(crawler.stored_ids())), at_most=0)
    bought = sold(sandbox) - so_far
    measure("posts bought again", bought - (len(wanted) - held), at_most=0)
    assert crawler.run("verify").stdout.endswith("all is well\n")
