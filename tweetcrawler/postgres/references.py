"""Handles that posts refer to and that are no target yet, counted by post."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import ARRAY, Select, Table, Text, cast, exists, func, select

from tweetcrawler.postgres.schema import crawl_target, posts
from tweetcrawler.targets import TIMELINE


def _retweeted(t: Table) -> Select[str]:
    return select(func.lower(t.c.retweeted_status_user_handle).label("handle"))


def _mentioned(t: Table) -> Select[str]:
    names = func.unnest(cast(t.c.user_mentions_name, ARRAY(Text))).table_valued("name")
    m = names.render_derived("m")
    return select(func.lower(m.c.name).label("handle")).select_from(t, m)


def _replied_to(t: Table) -> Select[str]:
    return select(func.lower(t.c.in_reply_to_screen_name).label("handle"))


REFERENCES: Mapping[str, Callable[[Table], Select[str]]] = {
    "retweets": _retweeted,
    "mentions": _mentioned,
    "replies": _replied_to,
}


def referred_to(table: str, by: str, *, min_count: int, limit: int | None) -> Select[str, int]:
    """The handles (folded) with the number of posts that refer to them, the most frequent
    first.
    """
    named = REFERENCES[by](posts(table)).subquery("named")
    k = crawl_target
    is_listed = exists().where(k.c.kind == TIMELINE, k.c.handle == named.c.handle)
    # A renamed user is a target under the old handle, and mentioned under the new one.
    is_present_name = exists().where(
        k.c.kind == TIMELINE, k.c.username.is_not(None), func.lower(k.c.username) == named.c.handle
    )
    count = func.count().label("count")
    return (
        select(named.c.handle, count)
        # X answers 400 to a whole look-up with a name of another form. Retweeted and mentioned
        # names are as old as their posts, and a few are longer than X allows today.
        .where(named.c.handle.op("~")("^[a-z0-9_]{1,15}$"), ~is_listed, ~is_present_name)
        .group_by(named.c.handle)
        .having(count >= min_count)
        .order_by(count.desc(), named.c.handle)
        .limit(limit)
    )
