"""`alembic upgrade head` as an operator runs it: from nothing, over the original tool's
table, by any setting.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool

from tweetcrawler.db import Database, newest_schema
from tweetcrawler.postgres import schema

ROOT = Path(__file__).parent.parent

ORIGINAL = """
CREATE TABLE tweet_articles_tweepy (
    id bigint NOT NULL PRIMARY KEY, tweet_from text, created_at character varying, hashtags
    text, urls text, user_mentions_id text, media text, user_mentions_name text, origin_device
    text, favorite_count bigint, text text, in_reply_to_screen_name text, in_reply_to_user_id
    bigint, in_reply_to_status_id bigint, retweet_count bigint, retweeted_status_text text,
    retweeted_status_url character varying, retweeted_status_id bigint,
    retweeted_status_user_name text, retweeted_status_user_handle text,
    sentiment numeric
)
"""


def alembic(*arguments: str, expect: int = 0, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        # A tweet.ini in the checkout is the operator's own: it must not be read here.
        env={k: v for k, v in os.environ.items() if not k.startswith("TWEETCRAWLER_DB")}
        | {"TWEETCRAWLER_CONFIG": os.devnull}
        | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def columns(dsn: str) -> list[tuple[str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'tweet_articles_tweepy'::regclass AND attnum > 0 ORDER BY attnum"
        ).fetchall()


def test_the_program_knows_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == newest_schema()


def differences(database: Database) -> list[Any]:
    engine = create_engine(
        "postgresql+psycopg://", creator=database.connect, poolclass=pool.NullPool
    )
    options = {
        "version_table": "crawl_schema",
        "compare_type": True,
        "compare_server_default": True,
    }
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        several: Any = schema.whole(database.table)  # as `target_metadata` may be; its types lag
        return list(compare_metadata(context, several))


def test_the_migrations_arrive_at_the_tables_that_the_program_knows(dsn: str) -> None:
    """Also what autogenerate compares: types, defaults, indexes, keys."""
    database = Database(dsn)
    assert differences(database) == []
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE crawl_plan ADD COLUMN forgotten text")
        connection.execute("ALTER TABLE crawl_run ALTER COLUMN exit_code TYPE bigint")
        connection.execute("DROP INDEX crawl_page_run")
    assert len(differences(database)) == 3, "the comparison sees a difference"


def test_alembic_itself_finds_nothing_to_upgrade(dsn: str) -> None:
    assert "No new upgrade operations" in alembic("check", TWEETCRAWLER_DBNAME=dsn)


def test_the_tables_of_a_configured_name_are_known_too(empty_dsn: str) -> None:
    database = Database(empty_dsn, "my_tweets")
    database.upgrade()
    assert differences(database) == []


# What SQLAlchemy has no words for is made by the migrations alone: the typed view, the
# triggers that count targets, statistics, and the storage of the bodies. What a new database
# from the tables has, an upgraded one has as well, space in each page for changes included.
_SPACE = """
SELECT relname::text, reloptions FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
AND relname NOT IN ('crawl_schema', 'tweet_articles_tweepy') ORDER BY 1
"""


def test_tables_made_of_what_the_program_knows_are_those_of_the_migrations(
    dsn: str, empty_dsn: str
) -> None:
    made = Database(empty_dsn)
    engine = create_engine("postgresql+psycopg://", creator=made.connect, poolclass=pool.NullPool)
    for metadata in schema.whole(made.table):
        metadata.create_all(engine)
    assert differences(made) == []
    with psycopg.connect(dsn) as one, psycopg.connect(empty_dsn) as other:
        assert one.execute(_SPACE).fetchall() == other.execute(_SPACE).fetchall()


def test_pages_of_before_are_numbered(empty_dsn: str) -> None:
    alembic("upgrade", "0001", TWEETCRAWLER_DBNAME=empty_dsn)
    with psycopg.connect(empty_dsn) as connection:
        connection.execute("INSERT INTO crawl_run (version, arguments, host) VALUES ('', '{}', '')")
        connection.execute(
            "INSERT INTO crawl_page (id, run_id, endpoint, params, credential, post_count, "
            "user_count, new_count, updated_count) SELECT gen_random_uuid(), 1, '/', '{}', 'c', "
            "1, 0, 1, 0 FROM generate_series(1, 3)"
        )
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    with psycopg.connect(empty_dsn) as connection:
        rows = connection.execute("SELECT number FROM crawl_page ORDER BY 1").fetchall()
    assert rows == [(1,), (2,), (3,)]
    for said in ([], ["-x", "lose=pages"]):
        refused = alembic(*said, "downgrade", "0001", expect=3, TWEETCRAWLER_DBNAME=empty_dsn)
        assert "holds 3 pages that were paid for" in refused
        assert "Traceback" not in refused
    Database(empty_dsn).check()
    twice = ["-x", "lose=pages", "-x", "lose=pages"]
    alembic(*twice, "downgrade", "0001", TWEETCRAWLER_DBNAME=empty_dsn)


def test_upgrade_from_nothing_makes_the_imposed_table(empty_dsn: str) -> None:
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    Database(empty_dsn).check()
    made = columns(empty_dsn)
    with psycopg.connect(empty_dsn) as connection:
        connection.execute("DROP VIEW tweets")
        connection.execute("DROP TABLE tweet_articles_tweepy")
        connection.execute(ORIGINAL.encode())
    assert made == columns(empty_dsn)


def test_the_original_table_is_adopted_with_its_rows(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn) as connection:
        connection.execute(ORIGINAL.encode())
        connection.execute(
            "INSERT INTO tweet_articles_tweepy (id, text, created_at, hashtags) "
            "VALUES (7, 'old', '2019-05-01 10:00:00', '{a,b}')"
        )
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    Database(empty_dsn).check()
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute("SELECT id, text, hashtags FROM tweets").fetchall() == [
            (7, "old", ["a", "b"])
        ]


def test_a_table_without_key_is_given_one(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn) as connection:
        connection.execute(ORIGINAL.replace(" NOT NULL PRIMARY KEY", "").encode())
        connection.execute("INSERT INTO tweet_articles_tweepy (id) VALUES (1), (2)")
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    with psycopg.connect(empty_dsn) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO tweet_articles_tweepy (id) VALUES (1)")


def test_a_table_with_repeated_ids_is_left_alone_and_said(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn) as connection:
        connection.execute(ORIGINAL.replace(" NOT NULL PRIMARY KEY", "").encode())
        connection.execute("INSERT INTO tweet_articles_tweepy (id) VALUES (1), (1)")
    said = alembic("upgrade", "head", expect=3, TWEETCRAWLER_DBNAME=empty_dsn)
    assert "repeat an id" in said
    assert "Traceback" not in said
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM tweet_articles_tweepy").fetchone() == (2,)


def test_a_table_that_is_another_is_refused_with_its_columns(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn) as connection:
        connection.execute(
            "CREATE TABLE tweet_articles_tweepy (id bigint PRIMARY KEY, hashtags text[])"
        )
    said = alembic("upgrade", "head", expect=3, TWEETCRAWLER_DBNAME=empty_dsn)
    assert "hashtags text" in said


def test_the_settings_file_is_named_with_x_config(empty_dsn: str, tmp_path: Path) -> None:
    config = tmp_path / "other.ini"
    config.write_text(f'[Database]\ndbname = "{empty_dsn}"\ntablename = my_tweets\n')
    alembic("-x", f"config={config}", "upgrade", "head")
    Database(empty_dsn, "my_tweets").check()


def test_upgrading_twice_changes_nothing(empty_dsn: str) -> None:
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    before = columns(empty_dsn)
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    assert columns(empty_dsn) == before


def test_downgrade_keeps_the_tweets(empty_dsn: str) -> None:
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    with psycopg.connect(empty_dsn) as connection:
        connection.execute("INSERT INTO tweet_articles_tweepy (id) VALUES (1)")
    alembic("downgrade", "base", TWEETCRAWLER_DBNAME=empty_dsn)
    alembic("upgrade", "head", TWEETCRAWLER_DBNAME=empty_dsn)
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute("SELECT id FROM tweet_articles_tweepy").fetchall() == [(1,)]


def test_a_server_that_is_away_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "away.ini"
    config.write_text(
        "[Database]\ndbhost = 127.0.0.1\ndbport = 1\ndbname = d\ndbpass = canary-pw\n"
    )
    said = alembic("-x", f"config={config}", "upgrade", "head", expect=3)
    assert "127.0.0.1:1" in said
    assert "Traceback" not in said
    assert "canary-pw" not in said
