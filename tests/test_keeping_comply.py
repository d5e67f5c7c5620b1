"""A deleted post is found nowhere: not in a row, a page, a segment on disk or at a place."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import psycopg
import pytest
import zstandard
from crawls import Crawler
from test_keeping_sweep import _fill
from test_keeping_tombstones import CANARY, canary_page

from tweetcrawler.keeping.places import FilePlace
from tweetcrawler.keeping.restoring import Catalog


@pytest.fixture
def crawler(dsn: str, tmp_path: Path) -> Crawler:
    """A database in which the post 1 stands everywhere, archived and kept in both places."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        _fill(connection)
    place = (tmp_path / "place").as_uri()
    made = Crawler(tmp_path, dsn=dsn, settings=f"archivePlace = {place}")
    made.run("archive", "--once")
    (tmp_path / "ids.txt").write_text("1\n")
    return made


def texts_in_files(*folders: Path) -> bytes:
    """Every byte below the folders, as it is and unpacked."""
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        found.append(path.read_bytes())
        if path.suffix == ".zst":
            with path.open("rb") as file:
                found.append(
                    zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
                )
    return b"".join(found)


def texts_in(dsn: str) -> str:
    """All rows of all tables, pages unpacked, as pg_dump would write them."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        found = [
            str(connection.execute(f'SELECT t::text FROM "{name}" t'.encode()).fetchall())
            for (name,) in tables
        ]
        bodies = connection.execute("SELECT body FROM crawl_page WHERE body IS NOT NULL").fetchall()
    return "".join(found + [zstandard.decompress(body).decode() for (body,) in bodies])


def is_gone(crawler: Crawler) -> None:
    assert crawler.dsn is not None
    assert CANARY not in texts_in(crawler.dsn)
    files = texts_in_files(crawler.folder / "segments", crawler.folder / "place")
    assert CANARY.encode() not in files
    assert files.count(b'"a quote"') == 2, "the others are still there, at the place"
    catalog = Catalog(FilePlace(crawler.folder / "place"))
    assert catalog.faults == []
    assert [catalog.fault_of(one) for one in catalog.manifests] == [None] * len(catalog.manifests)


def test_the_canary_is_found_nowhere(crawler: Crawler, tmp_path: Path, empty_dsn: str) -> None:
    files = texts_in_files(tmp_path / "segments", tmp_path / "place")
    assert files.count(CANARY.encode()) > 10
    said = crawler.run("comply", "--ids", "ids.txt", "--reference", "letter 7").stdout
    assert "1 segments" in said
    is_gone(crawler)
    [(count, reference, tables)] = crawler.select(
        "SELECT ids_count, reference, tables FROM crawl_audit"
    )
    assert (count, reference, tables["segments"]) == (1, "letter 7", 1)
    crawler.run("archive", "--once")
    is_gone(crawler)
    is_not_imported(crawler)
    fresh = Crawler(tmp_path / "other", dsn=empty_dsn)
    fresh.run("db", "upgrade")
    fresh.run("restore", (tmp_path / "place").as_uri())
    assert CANARY not in texts_in(empty_dsn)
    assert fresh.select("SELECT tweet_id FROM crawl_tombstone") == [(1,)]


def is_not_imported(crawler: Crawler) -> None:
    """A file from before the deletion brings its other posts only."""
    page = canary_page()
    page["data"].append({"id": "4", "text": "another", "author_id": "8"})
    for post in page["data"]:
        post["created_at"] = "2020-01-01T00:00:00.000Z"
    (crawler.folder / "old.jsonl").write_bytes(orjson.dumps(page))
    crawler.run("import", "old.jsonl")
    assert crawler.select("SELECT text FROM tweet_articles_tweepy WHERE id = 4") == [("another",)]
    assert CANARY not in texts_in(crawler.dsn or "")


def test_all_of_a_user_goes_the_profile_too(crawler: Crawler) -> None:
    """The row tells the handle, a page the id; the profile stands in pages alone."""
    said = crawler.run("comply", "--user", "Nine", "--on-deleted", "delete")
    assert "1 segments" in said.stdout
    assert "take @nine out of your lists" in said.stderr
    is_gone(crawler)
    texts = texts_in(crawler.dsn or "")
    files = texts_in_files(crawler.folder / "segments", crawler.folder / "place").decode("latin1")
    for profile, stays in (('"username":"nine"', False), ('"username":"eight"', True)):
        assert (profile in texts, profile in files) == (stays, stays)
    assert crawler.select("SELECT tweet_id, done_at IS NULL FROM crawl_tombstone") == [(1, False)]
    assert crawler.select("SELECT user_id, done_at IS NULL FROM crawl_tombstone_user") == [
        (9, False)
    ]
    nobody = crawler.run("comply", "--user", "nobody_here", expect=1)
    assert "nothing is stored of @nobody_here" in nobody.stdout


def test_bodies_that_left_the_database_are_read_from_the_new_segment(crawler: Crawler) -> None:
    crawler.run("archive", "--once", "--keep-bodies", "0", "--keep-local", "0")
    crawler.run("comply", "--ids", "ids.txt")
    pages = crawler.run("export", "--pages").stdout
    assert CANARY not in pages
    assert pages.count('"a quote"') == 2


def test_a_call_that_was_killed_is_finished_by_the_next(crawler: Crawler) -> None:
    """It dies at each change of a file in turn, as `kill -9` would have it."""
    moment = 0
    while True:
        moment += 3
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(moment)],
            cwd=crawler.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != -signal.SIGKILL:
            break
        [(count,)] = crawler.select("SELECT count(*) FROM crawl_tombstone WHERE done_at IS NULL")
        assert count == 1
    assert done.returncode == 0, done.stderr
    assert moment > 6
    is_gone(crawler)


_KILLED = """
import os, signal, sys
left = int(sys.argv[1])

def hook(event, arguments):
    global left
    # Temporary folders, also those of killed calls, are removed by way of their descriptors.
    is_temporary = event == "os.remove" and arguments[1] != -1
    if (
        event in ("os.rename", "os.remove", "os.link")
        and "pycache" not in str(arguments)
        and not is_temporary
    ):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
from tweetcrawler.cli import main
sys.exit(main(["-c", "tweet.ini", "comply", "--ids", "ids.txt"]))
"""


def test_a_mark_needs_a_reference(crawler: Crawler) -> None:
    done = crawler.run("comply", "--ids", "ids.txt", "--on-deleted", "mark", expect=2)
    assert "--reference" in done.stderr
