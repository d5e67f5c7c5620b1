"""A stand-in for the original tool, written as such crawlers commonly are.

tweepy's `Client` gives `Response` objects; each tweet of a page is flattened from tweepy's
models and inserted by a statement of its own in autocommit; each handle has a database
connection; a pool of processes shares the handles. No coverage, no pages kept, no permits,
no sentiment, and a handle always from its newest tweet to its last.

    python -m benchmarks.original_way URL BEARER DSN PROCESSES HANDLES_FILE
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import psycopg
import requests
import tweepy

from tweetcrawler import flatten

_INSERT = (
    f"INSERT INTO tweet_articles_tweepy ({', '.join(flatten.COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join(['%s'] * len(flatten.COLUMNS))}) ON CONFLICT (id) DO NOTHING"
)


class _Elsewhere(requests.adapters.HTTPAdapter):
    """Sends what is meant for X to another address; tweepy itself is unchanged."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: Any, *given: Any, **more: Any) -> Any:
        request.url = request.url.replace("https://api.twitter.com", self._url)
        return super().send(request, *given, **more)


_client: tweepy.Client
_dsn = ""


def main() -> None:
    """Crawls all handles of the file."""
    url, bearer, dsn, processes, handles_file = sys.argv[1:]
    handles = Path(handles_file).read_text().split()
    with multiprocessing.Pool(int(processes), _begin, (url, bearer, dsn)) as pool:
        for _ in pool.imap_unordered(_crawl, handles):
            pass


def _begin(url: str, bearer: str, dsn: str) -> None:
    global _client, _dsn
    _client, _dsn = tweepy.Client(bearer), dsn
    _client.session.mount("https://api.twitter.com", _Elsewhere(url))


def _crawl(handle: str) -> None:
    user = _client.get_user(username=handle).data
    with psycopg.connect(_dsn, autocommit=True) as connection:
        token = None
        while True:
            page = _client.get_users_tweets(
                user.id,
                max_results=100,
                pagination_token=token,
                tweet_fields=list(flatten.TWEET_FIELDS),
                user_fields=list(flatten.USER_FIELDS),
                media_fields=list(flatten.MEDIA_FIELDS),
                poll_fields=list(flatten.POLL_FIELDS),
                place_fields=list(flatten.PLACE_FIELDS),
                expansions=list(flatten.EXPANSIONS),
            )
            users = {user.id: user for user in page.includes.get("users", ())}
            tweets = {tweet.id: tweet for tweet in page.includes.get("tweets", ())}
            media = {one.media_key: one for one in page.includes.get("media", ())}
            for tweet in page.data or ():
                connection.execute(_INSERT.encode(), _row(tweet, users, tweets, media))
            token = page.meta.get("next_token")
            if token is None:
                return


def _row(
    tweet: Any, users: dict[int, Any], tweets: dict[int, Any], media: dict[str, Any]
) -> list[Any]:
    entities = tweet.entities or {}
    reply_to = retweet_of = original = None
    for reference in tweet.referenced_tweets or ():
        if reference.type == "replied_to":
            reply_to = reference.id
        elif reference.type == "retweeted":
            retweet_of, original = reference.id, tweets.get(reference.id)
    mentions = entities.get("mentions", ())
    urls = [url.get("expanded_url") for url in entities.get("urls", ())]
    keys = (tweet.attachments or {}).get("media_keys", ())
    author = users.get(tweet.author_id)
    whose = users.get(original.author_id) if original else None
    replied = users.get(tweet.in_reply_to_user_id)
    return [
        tweet.id,
        author.username if author else None,
        str(tweet.created_at),
        str([tag["tag"] for tag in entities.get("hashtags", ())]),
        str(urls),
        str([mention.get("id") for mention in mentions]),
        str([media[key].url for key in keys if key in media]),
        str([mention["username"] for mention in mentions]),
        tweet.source,
        tweet.public_metrics["like_count"],
        tweet.text,
        replied.username if replied else None,
        tweet.in_reply_to_user_id,
        reply_to,
        tweet.public_metrics["retweet_count"],
        original.text if original else None,
        str(urls) if original else None,
        retweet_of,
        whose.name if whose else None,
        whose.username if whose else None,
        None,
    ]


if __name__ == "__main__":
    main()
