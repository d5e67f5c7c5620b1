"""Notes of each look-up by id: older versions of edited posts, and posts withheld somewhere.

Workers run this, so its statements are written by hand: they load no SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tweetcrawler.work.answers import is_id

Post = Mapping[str, Any]

_ALIAS = """
INSERT INTO crawl_alias AS a (older_id, tweet_id)
SELECT * FROM unnest(%s::bigint[], %s::bigint[]) AS n (older_id, tweet_id) ORDER BY 1
ON CONFLICT (older_id) DO UPDATE SET tweet_id = excluded.tweet_id, done_at = NULL
WHERE a.tweet_id < excluded.tweet_id
"""
_WITHHELD = """
INSERT INTO crawl_withheld (tweet_id, countries) VALUES (%s, %s)
ON CONFLICT (tweet_id) DO UPDATE SET countries = excluded.countries, seen_at = clock_timestamp()
"""
_SHOWN_AGAIN = "DELETE FROM crawl_withheld WHERE tweet_id = ANY(%s)"


def note_looked_up(session: Any, posts: Sequence[Post]) -> None:
    """Notes what a look-up tells of its posts beside their rows. To note it twice changes
    nothing.
    """
    newest = {older: new for post in posts for older, new in newest_of(post).items()}
    withheld = {int(post["id"]): _countries(post) for post in posts if is_id(str(post.get("id")))}

    def work(connection: Any) -> None:
        with connection.transaction():
            note_newest(connection, newest)
            shown = [number for number, countries in withheld.items() if not countries]
            connection.execute(_SHOWN_AGAIN, [shown])
            rows = [(number, found) for number, found in sorted(withheld.items()) if found]
            connection.cursor().executemany(_WITHHELD, rows)

    session.do(work)


def note_newest(connection: Any, newest: Mapping[int, int]) -> None:
    """Notes older versions of posts with their newest ones."""
    if newest:
        connection.execute(_ALIAS, [list(newest), list(newest.values())])


def newest_of(post: Post) -> dict[int, int]:
    """The older versions of a post, each with the newest one."""
    listed = post.get("edit_history_tweet_ids")
    ids = [int(one) for one in listed if is_id(str(one))] if isinstance(listed, list) else []
    # Ids grow with time, whatever the order of the list.
    return {older: max(ids) for older in ids if older != max(ids)}


def _countries(post: Post) -> list[str]:
    withheld = post.get("withheld")
    listed = withheld.get("country_codes") if isinstance(withheld, dict) else None
    if isinstance(withheld, dict) and not listed:
        return ["XX"]  # X's code for all countries
    return [str(one) for one in listed] if isinstance(listed, list) else []
