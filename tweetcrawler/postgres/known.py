"""Targets with what is known of them, read for status, plan and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Select,
    Table,
    Text,
    and_,
    any_,
    cast,
    func,
    or_,
    select,
)
from sqlalchemy.sql.elements import ClauseElement

from tweetcrawler import coverage, queries
from tweetcrawler.books import Known, Stale
from tweetcrawler.postgres import statements
from tweetcrawler.postgres.schema import crawl_page, crawl_target, crawl_target_count
from tweetcrawler.postgres.statements import NUMBERS, TEXTS, dicts, epoch, given
from tweetcrawler.targets import CRAWLABLE, SEARCH, TIMELINE


class KnownTargets:
    """What is known of targets, as of one moment.

    Times are seconds since 1970 on the database's clock.
    """

    def __init__(self, connection: psycopg.Connection[Any], table: str) -> None:
        self._connection = connection
        self._table = table

    def _rows(self, statement: ClauseElement, **values: Any) -> list[tuple[Any, ...]]:
        return statements.rows(self._connection, statement, **values)

    def states(self) -> list[tuple[str, str, int]]:
        """Number of targets by kind and state."""
        return self._rows(_STATES)

    def known(self, handles: Sequence[str]) -> dict[str, Known]:
        """The targets of these handles (folded); a handle of a renamed account gives its
        account.
        """
        rows = self._rows(_BY_HANDLE, handles=list(handles))
        return {row[0]: _known(row[1:]) for row in rows}

    def due(self, handles: Sequence[str]) -> tuple[list[str], float | None]:
        """Those of the handles (folded) that are to be visited now, and the seconds until
        the next one is.
        """
        rows = self._rows(_DUE, handles=list(handles))
        now = [handle for handle, wait_s in rows if wait_s <= 0]
        return now, min((wait_s for _, wait_s in rows if wait_s > 0), default=None)

    def stale(self, age_s: float, handles: Sequence[str] | None = None) -> Stale:
        """Timelines without a visit for `age_s`, all or those of the handles (folded).

        A target that `watch` visits later, and one that X does not give, are not among them.
        """
        chosen = None if handles is None else list(handles)
        row = self._connection.execute(
            _STALE, {"handles": chosen, "states": list(CRAWLABLE), "age": age_s}
        ).fetchone()
        return Stale(*row) if row else Stale()

    def known_searches(self, asked: Sequence[str]) -> dict[str, Known]:
        """The targets of these normalised queries, by query."""
        by_key = {queries.key_of(query): query for query in asked}
        found = map(_known, self._rows(_BY_QUERY, keys=list(by_key)))
        return {by_key[str(known.key)]: known for known in found}

    def listed(self, states: Sequence[str], limit: int) -> list[Known]:
        """Up to `limit` targets of these states, by age."""
        return [_known(row) for row in self._rows(_LISTED, states=list(states), limit=limit)]

    def sampled(self, count: int) -> list[Known]:
        """About `count` targets by chance, all of them when there are not many more; those
        that can be crawled.
        """
        row = self._connection.execute(_ABOUT_ALL).fetchone()
        total = float(row[0]) if row else 0.0
        # Counting the rows would read the whole table, and ORDER BY random() sort it.
        percent = 100.0 if total <= 2 * count else 100.0 * count / total
        return [_known(row) for row in self._rows(_SAMPLED, percent=percent, limit=4 * count)]

    def named(self, name: str) -> list[Known]:
        """The targets that go by this name: a handle as listed or as it is now, a query, a
        name of its file.
        """
        key = queries.key_of(queries.normalised(name))
        found = map(_known, self._rows(_NAMED, name=name, key=key))
        return list({known.id: known for known in found}.values())

    def pages_of(self, target: int, limit: int) -> list[dict[str, Any]]:
        """The newest pages of a target: run, at, endpoint, credential, posts, new,
        newest_id, oldest_id.
        """
        return dicts(self._connection, _PAGES, target=target, limit=limit)

    def first_ids(self, targets: Sequence[int]) -> dict[int, int]:
        """The lowest id that was bought of each target."""
        rows = self._rows(_FIRST_IDS, targets=list(targets))
        return {target: lowest for target, lowest in rows if lowest is not None}


def _known(row: Sequence[Any]) -> Known:
    values: Mapping[str, Any] = dict(zip(_FIELDS, row, strict=True))
    return Known(
        **{
            **values,
            "covered": coverage.complete(coverage.from_text(values["covered"])),
            "unreachable": coverage.from_text(values["unreachable"]),
            "latest": [tuple(page) for page in values["latest"]],
        }
    )


def _fields(t: FromClause) -> dict[str, ColumnElement[Any]]:
    """The fields of `Known`, as they are read of a target."""
    c = t.c
    return {
        "id": c.id,
        "kind": c.kind,
        "key": c.key,
        "handle": func.coalesce(c.handle, c.key, ""),
        "username": c.username,
        "state": c.state,
        "reason": c.state_reason,
        "state_at": epoch(c.state_at),
        "covered": c.covered.cast(Text),
        "unreachable": c.unreachable.cast(Text),
        "unreachable_reason": c.unreachable_reason,
        "account_posts": c.account_posts,
        "posts": c.post_count,
        "crawled_at": epoch(c.crawled_at),
        "due_in_s": epoch(c.due_at - func.clock_timestamp()),
        "latest": _latest(t),
    }


def _latest(t: FromClause) -> ColumnElement[Any]:
    """The newest three pages of a target as a list of JSON: (posts, newest id, oldest id)."""
    page = crawl_page.c
    newest = (
        select(func.json_build_array(page.post_count, page.newest_id, page.oldest_id))
        # By the index of (target_id, oldest_id): three entries of it, however long the timeline
        # is.
        .where(page.target_id == t.c.id, page.oldest_id.is_not(None))
        .order_by(page.oldest_id.desc())
        .limit(3)
    )
    return func.array(newest.scalar_subquery())


def _select(
    t: FromClause, *before: ColumnElement[Any], of: FromClause | None = None
) -> Select[Any]:
    """What is known of each target `t`; `of` is what it is joined to."""
    fields = _fields(t)
    return select(*before, *(field.label(name) for name, field in fields.items())).select_from(
        t if of is None else of
    )


def _own_target(named: Table, t: Table) -> FromClause:
    """Names of targets, each joined to the target itself: that of a renamed account is another."""
    return named.join(t, t.c.id == func.coalesce(named.c.same_as, named.c.id))


_T: Any = crawl_target.alias("t")
_N: Any = crawl_target.alias("n")
_FIELDS = tuple(_fields(_T))
_STATES = (
    select(
        crawl_target_count.c.kind,
        crawl_target_count.c.state,
        func.sum(crawl_target_count.c.targets).cast(BigInteger).label("count"),
    )
    .group_by(crawl_target_count.c.kind, crawl_target_count.c.state)
    # Rows of states that no target has any more stay, and add up to 0.
    .having(func.sum(crawl_target_count.c.targets) != 0)
    .order_by("kind", func.sum(crawl_target_count.c.targets).desc(), "state")
)
_BY_HANDLE = _select(_T, _N.c.handle, of=_own_target(_N, _T)).where(
    _N.c.kind == TIMELINE, _N.c.handle == any_(given("handles", TEXTS))
)
_BY_QUERY = _select(_T).where(_T.c.kind == SEARCH, _T.c.key == any_(given("keys", TEXTS)))
_OLDEST: Any = (
    select(crawl_target)
    .where(
        crawl_target.c.state == any_(given("states", TEXTS)),
        crawl_target.c.kind == any_(cast([TIMELINE, SEARCH], TEXTS)),
    )
    .order_by(crawl_target.c.id)
    .limit(given("limit", BigInteger))
    .subquery("t")
)
_LISTED = _select(_OLDEST).order_by(_OLDEST.c.id)
# A sample reads pages of the table, not rows: a few more, since some cannot be crawled.
_SAMPLE: Any = crawl_target.tablesample(func.system(given("percent", Double)), name="t")
_SAMPLED = (
    _select(_SAMPLE)
    .where(_SAMPLE.c.same_as.is_(None), _SAMPLE.c.state == any_(cast(list(CRAWLABLE), TEXTS)))
    .limit(given("limit", BigInteger))
)
_NAMED = _select(_T, of=_own_target(_N, _T)).where(
    or_(
        and_(_N.c.kind == TIMELINE, _N.c.handle == func.lower(given("name", Text))),
        and_(_N.c.kind == SEARCH, _N.c.key == given("key", Text)),
        and_(_N.c.kind == SEARCH, _N.c.handle == given("name", Text)),
    )
)
_ASKED = func.unnest(given("handles", TEXTS)).table_valued("handle").render_derived("asked")
_DUE = select(
    _ASKED.c.handle, func.coalesce(epoch(_T.c.due_at - func.clock_timestamp()), 0).cast(Double)
).select_from(
    _ASKED.outerjoin(_N, and_(_N.c.kind == TIMELINE, _N.c.handle == _ASKED.c.handle)).outerjoin(
        _T, _T.c.id == func.coalesce(_N.c.same_as, _N.c.id)
    )
)
_PAGES = (
    select(
        crawl_page.c.run_id.label("run"),
        epoch(crawl_page.c.fetched_at).label("at"),
        crawl_page.c.endpoint,
        crawl_page.c.credential,
        crawl_page.c.post_count.label("posts"),
        crawl_page.c.new_count.label("new"),
        crawl_page.c.newest_id,
        crawl_page.c.oldest_id,
    )
    .where(crawl_page.c.target_id == given("target", BigInteger))
    .order_by(crawl_page.c.oldest_id.desc().nulls_last(), crawl_page.c.fetched_at.desc())
    .limit(given("limit", BigInteger))
)
_TARGET: Any = func.unnest(given("targets", NUMBERS)).column_valued("target")
# One short look into the index of (target_id, oldest_id) for each target. A GROUP BY would read
# all their pages.
_FIRST_IDS = select(
    _TARGET,
    select(func.min(crawl_page.c.oldest_id))
    .where(crawl_page.c.target_id == _TARGET)
    .scalar_subquery(),
)
# A target that was never visited counts from its first moment on.
_STALE: LiteralString = """
SELECT count(*) OVER (), handle, extract(epoch FROM visited_at)::float8
FROM (
    SELECT handle, coalesce(crawled_at, state_at) AS visited_at
    FROM crawl_target
    WHERE kind = 'timeline' AND same_as IS NULL AND state = ANY(%(states)s)
        AND (due_at IS NULL OR due_at <= clock_timestamp())
        AND (%(handles)s::text[] IS NULL OR id IN (
            SELECT coalesce(same_as, id) FROM crawl_target
            WHERE kind = 'timeline' AND handle = ANY(%(handles)s)
        ))
) s
WHERE visited_at < clock_timestamp() - %(age)s * interval '1 s'
ORDER BY visited_at LIMIT 1
"""
# What the planner believes; -1 in a table that was never analysed.
_ABOUT_ALL: LiteralString = """
SELECT greatest(reltuples, 0)::float8 FROM pg_class WHERE oid = 'crawl_target'::regclass
"""
