"""What look-ups by id tell of posts: which are gone, which were edited, and what they cost.

Every look-up counts, whoever asked for it: `hydrate`, newer counts, or a check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Text, all_, and_, any_, case, exists, literal, or_, select
from sqlalchemy.sql.expression import Select, TableClause

from tweetcrawler.export.filters import condition, split
from tweetcrawler.keeping.schema import crawl_alias, crawl_tombstone
from tweetcrawler.keeping.sweep import (
    EDITED,
    HIDDEN,
    Request,
    run_composed,
    set_tombstones,
    table_of,
)
from tweetcrawler.postgres.filters import columns_for, predicate
from tweetcrawler.postgres.schema import crawl_found, crawl_lookup, crawl_target
from tweetcrawler.postgres.statements import NUMBERS, TEXTS, given
from tweetcrawler.prices import Tariff
from tweetcrawler.queries import key_of, normalised
from tweetcrawler.run import Doing
from tweetcrawler.targets import SEARCH

# X's states of a post that it does not give, as reasons of tombstones.
_REASONS = {"missing": "deleted", "protected": "protected", "suspended": "suspended"}
_SPENT = """
SELECT endpoint, sum(requests), sum(posts), sum(users) FROM (
    SELECT p.endpoint, 1 AS requests, p.post_count AS posts, p.user_count AS users
    FROM crawl_page p JOIN crawl_run r ON r.id = p.run_id
    WHERE r.arguments @> %(runs)s::jsonb AND p.fetched_at >= %(since)s
    UNION ALL
    SELECT s.endpoint, 0, s.posts, 0 FROM crawl_reserved s JOIN crawl_run r ON r.id = s.run_id
    WHERE r.arguments @> %(runs)s::jsonb AND s.reserved_at >= %(since)s
) bought GROUP BY 1
"""
_DROP = "DELETE FROM crawl_due d USING crawl_tombstone t WHERE d.tweet_id = t.tweet_id"
_MONTH = "SELECT date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"


def bury_gone(session: Doing, posts: str) -> int:
    """Sets a tombstone for each stored post that X did not give by its id; their number."""
    own, looked = table_of(posts), crawl_lookup.c
    is_stored = exists().where(own.c.id == looked.tweet_id)
    is_repeated = exists().where(
        own.c.retweeted_status_id == looked.tweet_id, own.c.retweeted_status_text.is_not(None)
    )
    chosen = select(looked.tweet_id, looked.state).where(
        looked.state == any_(given("states", TEXTS)),
        ~_stone(looked.tweet_id).exists(),
        or_(is_stored, is_repeated),
    )

    def work(connection: Any) -> int:
        with connection.transaction():
            rows = run_composed(connection, chosen, states=list(_REASONS)).fetchall()
            for state, reason in _REASONS.items():
                ids = [number for number, each in rows if each == state]
                set_tombstones(connection, dict.fromkeys(ids), Request(reason, "lookup"))
            return len(rows)

    return session.do(work)


def newest_missing(session: Doing, posts: str) -> list[int]:
    """The newest versions that are not stored, of posts of which an older one is."""
    own, a = table_of(posts), crawl_alias.c
    gone = select(crawl_lookup.c.tweet_id).where(crawl_lookup.c.tweet_id == a.tweet_id)
    chosen = select(a.tweet_id).distinct()
    chosen = chosen.where(
        a.done_at.is_(None),
        exists().where(own.c.id == a.older_id),
        ~exists().where(own.c.id == a.tweet_id),
        ~_stone(a.tweet_id).exists(),
        ~gone.exists(),
    )
    rows = session.do(lambda connection: run_composed(connection, chosen).fetchall())
    return sorted(number for (number,) in rows)


def bury_older(session: Doing, posts: str) -> int:
    """Sets a tombstone for each stored version whose newest one is stored, or is gone; their
    number.
    """
    own, a = table_of(posts), crawl_alias.c
    final = (
        _stone(a.tweet_id).where(crawl_tombstone.c.reason != all_(given("hidden", TEXTS))).exists()
    )
    chosen = select(a.older_id, case((final, "deleted"), else_=literal(EDITED, Text))).where(
        a.done_at.is_(None), or_(final, _is_whole(own, a.tweet_id))
    )

    def work(connection: Any) -> int:
        with connection.transaction():
            rows = run_composed(connection, chosen, hidden=list(HIDDEN)).fetchall()
            stored = _stored(connection, own, [number for number, _ in rows])
            for reason in ("deleted", EDITED):
                ids = [number for number, each in rows if each == reason and number in stored]
                set_tombstones(connection, dict.fromkeys(ids), Request(reason, "lookup"))
            done = "UPDATE crawl_alias SET done_at = clock_timestamp() WHERE older_id = ANY(%s)"
            connection.execute(done, [[number for number, _ in rows]])
            return len(stored)

    return session.do(work)


def spent_this_month(session: Doing, runs: Mapping[str, Any], tariff: Tariff) -> int:
    """What the runs with these arguments have cost this UTC month, in millionths of a USD, lost
    answers included.
    """

    def work(connection: Any) -> list[Any]:
        (since,) = connection.execute(_MONTH).fetchone()
        found: list[Any] = connection.execute(
            _SPENT, {"runs": orjson.dumps(runs).decode(), "since": since}
        ).fetchall()
        return found

    return sum(
        tariff.cost(endpoint, requests=int(requests), posts=int(posts), users=int(users))
        for endpoint, requests, posts, users in session.do(work)
    )


def drop_buried(session: Doing) -> None:
    """Takes posts with a tombstone off every schedule."""
    session.do(lambda connection: connection.execute(_DROP))


def conditions(texts: Sequence[str], own: TableClause) -> list[Any]:
    """Filters as `export --where` has them, and `query=` for the posts of a search, for a WHERE
    over the table of posts.

    **Errors**: `ConfigurationError` for a filter that is none.
    """
    found: list[Any] = []
    for text in texts:
        name, value = split(text)
        if name == "query":
            found.append(_found_by(own, key_of(normalised(value))))
        else:
            one = condition(text)
            found.append(predicate(one, columns_for(one, dict(own.c), own.name)))
    return found


def _found_by(own: TableClause, key: str) -> Any:
    f, t = crawl_found.c, crawl_target.c
    joined = crawl_found.join(crawl_target, f.target_id == t.id)
    chosen = select(f.tweet_id).select_from(joined)
    return chosen.where(f.tweet_id == own.c.id, t.kind == SEARCH, t.key == key).exists()


def _stored(connection: Any, own: TableClause, ids: list[int]) -> set[int]:
    chosen = select(own.c.id).where(own.c.id == any_(given("ids", NUMBERS)))
    return {number for (number,) in run_composed(connection, chosen, ids=ids).fetchall()}


def _stone(number: Any) -> Select[Any]:
    return select(crawl_tombstone.c.tweet_id).where(crawl_tombstone.c.tweet_id == number)


def _is_whole(own: TableClause, number: Any) -> Any:
    return exists().where(and_(own.c.id == number, own.c.text.is_not(None)))
