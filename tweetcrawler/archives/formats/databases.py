"""Databases of SQLite in which other tools keep posts: twitter-to-sqlite and twclient."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from tweetcrawler.archives.flatten_v1 import flatten_statuses
from tweetcrawler.archives.formats.fields import Score, Words, at, each
from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.flatten import Flattened

BATCH: Final = 1_000


class Batch(NamedTuple):
    """Rows of some posts, and the last id read, after which reading can go on."""

    flattened: Flattened
    last_id: int


@dataclass(frozen=True)
class DatabaseFormat:
    """A database that is read: `needs` are its columns, by table; `query` gives posts by id.

    The query has two parameters: the last id read, and how many are wanted. Its first
    column is the id.
    """

    name: str
    needs: dict[str, frozenset[str]]
    query: str
    words: Words | None

    def batches(self, path: Path, *, after: int = 0, score: Score = None) -> Iterator[Batch]:
        """All posts after an id. **Errors**: TweetcrawlerError if the file is damaged."""
        try:
            with closing(_opened(path)) as database:
                # By key: with OFFSET SQLite would step over all earlier rows again for each
                # batch.
                while found := database.execute(self.query, (after, BATCH)).fetchall():
                    after = found[-1]["id"]
                    yield Batch(self._flattened(found, score), after)
        except sqlite3.Error as error:
            raise TweetcrawlerError(f"{path} cannot be read further: {error}") from None

    def _flattened(self, found: list[sqlite3.Row], score: Score) -> Flattened:
        things = [dict(record) for record in found]
        if self.words is None:
            return flatten_statuses([_parsed(thing["answer"]) for thing in things], score=score)
        for thing in things:
            thing["media"] = _parsed(thing["media"])
        return self.words.rows(things, score=score)


def _parsed(text: Any) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return None


# The text has its links expanded and its escapes undone, and the entities were dropped.
# The pictures are joined to the post in a table of their own.
_TWITTER_TO_SQLITE: Final = """
    SELECT tweets.*,
           users.screen_name AS handle,
           sources.name AS device,
           original.full_text AS original_text,
           original_users.screen_name AS original_handle,
           original_users.name AS original_name,
           {media} AS media
    FROM tweets
    LEFT JOIN users ON users.id = tweets.user
    LEFT JOIN sources ON sources.id = tweets.source
    LEFT JOIN tweets original ON original.id = tweets.retweeted_status
    LEFT JOIN users original_users ON original_users.id = original.user
    WHERE tweets.id > ? ORDER BY tweets.id LIMIT ?
"""
# The pictures of a retweet hang on the post that it repeats. They come as JSON, since SQLite
# has no arrays.
_MEDIA: Final = """(
               SELECT json_group_array(media.media_url_https)
               FROM media_tweets JOIN media ON media.id = media_tweets.media_id
               WHERE media_tweets.tweets_id = coalesce(tweets.retweeted_status, tweets.id)
           )"""
_WORDS: Final = Words(
    id=at("id"),
    text=at("full_text"),
    created_at=at("created_at"),
    tweet_from=at("handle"),
    media=each("media"),
    origin_device=at("device"),
    favorite_count=at("favorite_count"),
    retweet_count=at("retweet_count"),
    in_reply_to_screen_name=at("in_reply_to_screen_name"),
    in_reply_to_user_id=at("in_reply_to_user_id"),
    in_reply_to_status_id=at("in_reply_to_status_id"),
    retweeted_status_id=at("retweeted_status"),
    retweeted_status_text=at("original_text"),
    retweeted_status_user_name=at("original_name"),
    retweeted_status_user_handle=at("original_handle"),
    lang=at("lang"),
    escaped=False,
)
_TWEETS: Final = frozenset({"id", "user", "full_text", "retweeted_status"})

DATABASES: Final = (
    DatabaseFormat(
        "twitter-to-sqlite",
        {
            "tweets": _TWEETS,
            "users": frozenset({"id", "screen_name"}),
            "sources": frozenset({"id"}),
            "media_tweets": frozenset({"media_id", "tweets_id"}),
            "media": frozenset({"id", "media_url_https"}),
        },
        _TWITTER_TO_SQLITE.format(media=_MEDIA),
        _WORDS,
    ),
    # Until the first post with a picture there are no tables for them.
    DatabaseFormat(
        "twitter-to-sqlite",
        {"tweets": _TWEETS, "users": frozenset({"screen_name"}), "sources": frozenset({"id"})},
        _TWITTER_TO_SQLITE.format(media="'[]'"),
        _WORDS,
    ),
    DatabaseFormat(
        # twclient keeps the answers of v1.1 as they came, so these need no table of words.
        "twclient",
        {"tweet": frozenset({"tweet_id", "api_response"})},
        """
        SELECT tweet_id AS id, api_response AS answer
        FROM tweet WHERE tweet_id > ? ORDER BY tweet_id LIMIT ?
        """,
        None,
    ),
)
"""The databases that are read, in the order in which they are tried."""


def database_format(path: Path) -> DatabaseFormat | None:
    """Whose database a file is; None for another one, or for no database of SQLite."""
    try:
        with closing(_opened(path)) as database:
            # SQLite reads nothing when it opens a file. A file of another kind fails only here.
            return next((form for form in DATABASES if _has(database, form.needs)), None)
    except sqlite3.Error:
        return None


def _opened(path: Path) -> sqlite3.Connection:
    # Nothing of it is changed. Where no log of changes lies beside it, no lock is put there,
    # so that a file in a folder that cannot be written to is read, too.
    still = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    # quote(), since a ? or # in the path would end it and begin the options of the URI.
    database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro{still}", uri=True)
    database.row_factory = sqlite3.Row
    return database


def _has(database: sqlite3.Connection, needs: dict[str, frozenset[str]]) -> bool:
    for table, columns in needs.items():
        # As a function the pragma takes a parameter, which the statement does not. For a table
        # that is not there it gives no rows, and no error.
        found = database.execute("SELECT name FROM pragma_table_info(?)", (table,))
        if not columns <= {name for (name,) in found}:
            return False
    return True
