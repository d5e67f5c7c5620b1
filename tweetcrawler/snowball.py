"""The next level of a snowball: users that stored posts refer to and that are not known yet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from tweetcrawler.db import Database

_HANDLE = re.compile(r"[a-z0-9_]{1,15}", re.ASCII)
_ASKED_AT_ONCE = 5_000


def next_level(
    database: Database, by: str, *, min_count: int, limit: int | None
) -> tuple[list[tuple[str, int]], int]:
    """Handles (folded) that are no target yet, with how often posts refer to them, the most
    frequent first.

    `by` is "retweets", "mentions", "replies" or "quotes". The table does not tell who was
    quoted: the pages do, as far as they were kept. The second value is how many pages could
    not be read for this.
    """
    if by != "quotes":
        with database.session() as session:
            return session.referred_to(by, min_count=min_count, limit=limit), 0
    with database.pages() as (without, bodies):
        counts = _quoted(bodies)
    wanted = [(handle, n) for handle, n in counts.items() if n >= min_count]
    wanted.sort(key=lambda pair: (-pair[1], pair[0]))
    # In parts: a question with a million handles would be one long statement.
    unknown: list[tuple[str, int]] = []
    with database.session() as session:
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            part = wanted[start : start + _ASKED_AT_ONCE]
            known = session.known_handles([handle for handle, _ in part])
            unknown += [pair for pair in part if pair[0] not in known]
            if limit is not None and len(unknown) >= limit:
                break
    return unknown[:limit], without


def _quoted(bodies: Iterable[bytes]) -> Counter[str]:
    """Number of posts that quote each author; a post on several pages counts once."""
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    for body in bodies:
        page = orjson.loads(body)
        includes = page.get("includes") or {}
        users = {user.get("id"): user.get("username") for user in _dicts(includes.get("users"))}
        # X is renaming tweets to posts; stored pages have either name.
        posts = [*_dicts(includes.get("tweets")), *_dicts(includes.get("posts"))]
        authors = {post.get("id"): users.get(post.get("author_id")) for post in posts}
        data = page.get("data")
        for post in _dicts([data] if isinstance(data, dict) else data):
            for reference in _dicts(post.get("referenced_tweets") or post.get("referenced_posts")):
                handle = str(authors.get(reference.get("id")) or "").lower()
                number = str(post.get("id"))
                if (
                    reference.get("type") != "quoted"
                    or not _HANDLE.fullmatch(handle)
                    or not number.isdecimal()
                ):
                    continue
                if int(number) not in seen:
                    seen.add(int(number))
                    counts[handle] += 1
    return counts


def _dicts(things: Any) -> list[Mapping[str, Any]]:
    return (
        [thing for thing in things if isinstance(thing, dict)] if isinstance(things, list) else []
    )
