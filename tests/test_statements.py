"""SQLAlchemy writes statements for what reads; crawling and `--help` do without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from crawls import Crawler
from sandbox_server import Sandbox
from sqlalchemy import func, select

from tweetcrawler.postgres.schema import crawl_target, posts
from tweetcrawler.postgres.statements import compiled, given, rows

_NONE_LOADED = "import sys; loaded = sorted(m for m in sys.modules if 'sqlalchemy' in m or "
_NONE_LOADED += "'alembic' in m); assert not loaded, loaded[:3]"


def python(*lines: str, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    code = "\n".join([*lines, _NONE_LOADED])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_a_worker_process_does_without_sqlalchemy(dsn: str) -> None:
    """Also when it has done all that a worker does with a database."""
    done = python(
        "import sys, uuid",
        "from tweetcrawler import crawl, db, pool, walk, prices",
        "from tweetcrawler.budget import Limits, Want",
        "from tweetcrawler.pages import Batch, Bought",
        "with db.Database(sys.argv[1]).session() as session:",
        "    run, _ = session.begin_run(version='', arguments={}, host='', credentials=())",
        "    session.claim_handles(['ada'], 'o'); session.targets(['ada'])",
        "    session.claim_ids([1], 'o', age_s=None, rest_s=1.0)",
        "    session.claim_ids([1], 'o', age_s=1.0, rest_s=1.0)",
        "    session.save(run, 'o', Batch(None, Bought('/', {}, 'c', b'{}'), []))",
        "    session.save_looked_up(run, Batch(None, Bought('/', {}, 'c', b'{}'), []), [], [],",
        "        seen_at=0.0)",
        "    session.set_aside(run, 'o', uuid.uuid4(), Want('/', 1, 1, 1), Limits(run=10, day=10),",
        "        prices.load(None, None))",
        "    session.schedule(run, least_s=1, longest_s=2); session.release('o')",
        arguments=(dsn,),
    )
    assert done.returncode == 0, done.stderr


def test_help_does_without_sqlalchemy() -> None:
    done = python(
        "from tweetcrawler.cli import main",
        "try: main(['--help'])",
        "except SystemExit: pass",
    )
    assert done.returncode == 0, done.stderr


def test_a_crawl_without_a_remembered_forecast_does_without_sqlalchemy(
    tmp_path: Path, dsn: str
) -> None:
    with Sandbox("--plan", "basic", "--credentials", "1") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, ["writer_0"], threads=1)
        done = python(
            "import os, sys",
            "from tweetcrawler.cli import main",
            "os.chdir(sys.argv[1]); code = main(['crawl', '-c', 'tweet.ini'])",
            "assert code == 0, code",
            arguments=(str(crawler.folder),),
        )
    assert done.returncode == 0, done.stderr


def test_values_are_parameters_and_never_part_of_the_text() -> None:
    evil = "'; DROP TABLE crawl_target; --"
    text, parameters = compiled(select(crawl_target.c.id).where(crawl_target.c.handle == evil))
    assert b"DROP" not in text
    assert evil in parameters.values()


def test_percent_signs_of_values_and_names_survive(dsn: str) -> None:
    odd = func.concat("100%", " %s ", "%(x)s").label("odd %s")
    with psycopg.connect(dsn) as connection:
        assert rows(connection, select(odd)) == [("100% %s %(x)s",)]


def test_a_parameter_without_a_value_has_a_type(dsn: str) -> None:
    limited = (
        select(func.count())
        .select_from(posts())
        .where(posts().c.id > given("low", posts().c.id.type))
    )
    with psycopg.connect(dsn) as connection:
        assert rows(connection, limited, low=None) == [(0,)]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("tweet_articles_tweepy", '"tweet_articles_tweepy"'),
        ("archive.my_tweets", '"archive"."my_tweets"'),
        ("user", '"user"'),
    ],
)
def test_the_table_of_posts_has_the_configured_name(name: str, written: str) -> None:
    text, _ = compiled(select(posts(name).c.id))
    assert f"FROM {written}" in text.decode()
