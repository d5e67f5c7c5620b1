"""Rows made again from the stored pages."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg
import pytest

from tweetcrawler.archives import reflattening
from tweetcrawler.archives.reflattening import Reflattened, reflatten
from tweetcrawler.db import Database
from tweetcrawler.flatten import flatten
from tweetcrawler.pages import Batch, Bought

PAGES, POSTS = 30, 10


def post(number: int, likes: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "text": f"post {number}",
        "author_id": "7",
        "public_metrics": {"like_count": likes, "retweet_count": 1},
        "entities": {"hashtags": [{"tag": f"tag{number}"}]},
    }


@pytest.fixture
def run(database: Database) -> int:
    """A run that bought some pages; each of them holds the last post of the one before."""
    users = [{"id": "7", "username": "ada", "name": "Ada"}]
    with database.session() as session:
        run, _ = session.begin_run(version="t", arguments={}, host="h", credentials=())
        for number in range(PAGES):
            first = 1 + number * (POSTS - 1)
            data = [post(first + i, likes=number) for i in range(POSTS)]
            page = {"data": data, "includes": {"users": users}}
            bought = Bought("/2/tweets", {}, "c", orjson.dumps(page), posts=POSTS)
            session.save(run, "w", Batch(None, bought, flatten(page).rows))
        answer = orjson.dumps({"data": [{"id": "7", "username": "ada", "name": "Ada"}]})
        session.save_page(run, Bought("/2/users/by", {}, "c", answer, users=1))
    return run


def rows(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT * FROM tweet_articles_tweepy ORDER BY id").fetchall()


def damage(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM tweet_articles_tweepy WHERE id % 7 = 0")
        connection.execute(
            "UPDATE tweet_articles_tweepy SET text = 'x', hashtags = '{}', tweet_from = NULL, "
            "favorite_count = 99 WHERE id % 7 = 1"
        )


def test_damaged_rows_are_made_again(database: Database, dsn: str, run: int) -> None:
    before = rows(dsn)
    assert len(before) == 1 + PAGES * (POSTS - 1)
    damage(dsn)
    assert rows(dsn) != before
    done = reflatten(database, run, score=None, stopped=lambda: False)
    assert rows(dsn) == before
    assert (done.new, done.finished) == (len([row for row in before if row[0] % 7 == 0]), True)
    again = reflatten(database, run, score=None, stopped=lambda: False)
    assert again == Reflattened(done.posts, 0, 0, True)


def test_interrupted_reading_goes_on_after_its_last_batch(
    database: Database, dsn: str, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflattening, "ROWS_A_BATCH", 2 * POSTS)
    before, read = rows(dsn), []
    damage(dsn)

    def stopped() -> bool:
        read.append(1)
        return len(read) == 11

    first = reflatten(database, run, score=None, stopped=stopped)
    assert (first.finished, len(read)) == (False, 11)
    read.append(1)
    whole = reflatten(database, run, score=None, stopped=stopped)
    # The pages of the answer without posts are read, too.
    assert (whole.finished, len(read)) == (True, PAGES + 2)
    assert rows(dsn) == before
