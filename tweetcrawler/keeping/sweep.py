"""Sweep of deleted posts through the database: all that it keeps of them goes.

That is their rows, the texts of them that other rows repeat, counts, searches, lookups, and
their objects in stored pages. Tombstones come first, in a transaction of their own, so nothing
writes these posts again. Then each step may be repeated. The tombstones are marked as done last,
with the audit: a sweep that was killed is finished by the next one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeAlias
from uuid import UUID

import orjson
import zstandard
from sqlalchemy import (
    LargeBinary,
    and_,
    any_,
    column,
    delete,
    func,
    insert,
    null,
    select,
    table,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.expression import ClauseElement, TableClause

from tweetcrawler.flatten import COLUMNS
from tweetcrawler.keeping.ledger import Doing
from tweetcrawler.keeping.schema import crawl_audit, crawl_tombstone
from tweetcrawler.keeping.tombstones import blank
from tweetcrawler.postgres.pages import compressed
from tweetcrawler.postgres.statements import NUMBERS, compiled, given

Way: TypeAlias = Literal["delete", "blank", "mark"]

_IDS = given("ids", NUMBERS)
# Locked together until their transaction ends, so they are few.
_PAGES_AT_ONCE = 50
# Columns of a retweet's row that say nothing of the post that it repeats.
_OWN = ("id", "tweet_from", "created_at", "origin_device", "retweeted_status_id")
_BESIDE = tuple(
    table(name, column("tweet_id")) for name in ("crawl_metrics", "crawl_found", "crawl_lookup")
)
_PAGES = table("crawl_page", column("id"), column("fetched_at"), column("body", LargeBinary))


@dataclass(frozen=True)
class Request:
    """Why posts must go: the source is "job", "lookup" or "request".

    `by_at` is the time until which they have to be gone, `reference` the number of a letter or
    case. Neither may hold a text of a post.
    """

    reason: str
    source: str
    by_at: datetime | None = None
    reference: str | None = None
    run_id: int | None = None


def bury(session: Doing, ids: Collection[int], request: Request) -> None:
    """Sets a tombstone for each post, or opens the one that it has."""
    rows = [{"tweet_id": one, **vars(request)} for one in sorted(set(ids))]
    inserted = postgresql.insert(crawl_tombstone)
    statement = inserted.on_conflict_do_update(
        index_elements=["tweet_id"],
        # A post that is asked for again is swept again: an import may have brought it back.
        set_={"done_at": null(), "asked_at": func.clock_timestamp()},
    )

    def work(connection: Any) -> None:
        # Only the names are used of this; the values go by executemany, which psycopg
        # pipelines.
        text, _ = compiled(statement.values(dict.fromkeys(rows[0])))
        with connection.cursor() as cursor:
            cursor.executemany(text, rows)

    if rows:
        session.do(work)


def sweep(
    session: Doing,
    posts: str,
    *,
    way: Way = "delete",
    actor: str = "",
    reference: str | None = None,
    beyond: Callable[[set[int]], Mapping[str, int]] = lambda _: {},
) -> Mapping[str, int]:
    """Takes every post whose tombstone is open out of everything, and gives the counts by table.

    `posts` is the name of the table of posts. `way` says what becomes of their own rows.
    `beyond` takes the posts out of what is not in the database, and gives its counts.
    """
    ids = session.do(_open_ids)
    if not ids:
        return {}
    counts: Counter[str] = Counter()
    for name, statement in _statements(posts, way).items():
        counts[name] += session.do(_counting(statement, ids))
    counts["crawl_page"] = _sweep_pages(session, ids)
    counts.update(beyond(set(ids)))
    session.do(lambda connection: _finish(connection, ids, counts, actor, reference))
    return counts


def _open_ids(connection: Any) -> list[int]:
    chosen = select(crawl_tombstone.c.tweet_id).where(crawl_tombstone.c.done_at.is_(None))
    return sorted(row[0] for row in _run(connection, chosen).fetchall())


def _statements(posts: str, way: Way) -> Mapping[str, ClauseElement]:
    """What is done to rows, by the name under which it is counted."""
    own = _table_of(posts)
    emptied = {name: null() for name in COLUMNS if name != "id"}
    repeated = {name: null() for name in COLUMNS if name not in _OWN and "count" not in name}
    found: dict[str, ClauseElement] = {
        "texts repeated by other rows": update(own)
        # PostgreSQL writes a new version of a row even if nothing in it changes. Rows that were
        # emptied before are therefore left alone.
        .where(own.c.retweeted_status_id == any_(_IDS), own.c.text.is_not(None))
        .values(repeated)
    }
    if way == "delete":
        found[posts] = delete(own).where(own.c.id == any_(_IDS))
    elif way == "blank":
        is_full = func.num_nonnulls(*(own.c[name] for name in emptied)) > 0
        found[posts] = update(own).where(and_(own.c.id == any_(_IDS), is_full)).values(emptied)
    for beside in _BESIDE:
        found[beside.name] = delete(beside).where(beside.c.tweet_id == any_(_IDS))
    return found


def _counting(statement: ClauseElement, ids: Sequence[int]) -> Callable[[Any], int]:
    return lambda connection: int(_run(connection, statement, ids=ids).rowcount)


def _sweep_pages(session: Doing, ids: Sequence[int]) -> int:
    """Rewrites the pages that hold these posts. In order of time, so that pages that come
    meanwhile are looked at, too.
    """
    wanted, count = set(ids), 0
    after: tuple[datetime, UUID] | None = None
    while True:
        found, after = session.do(partial(_some_pages, ids=wanted, after=after))
        count += found
        if after is None:
            return count


def _some_pages(
    connection: Any, ids: set[int], after: tuple[datetime, UUID] | None
) -> tuple[int, tuple[datetime, UUID] | None]:
    chosen = select(_PAGES.c.id, _PAGES.c.fetched_at, _PAGES.c.body)
    chosen = chosen.order_by(_PAGES.c.fetched_at, _PAGES.c.id).limit(_PAGES_AT_ONCE)
    # A page without a body has it in a segment, which is rewritten apart, or never kept one.
    chosen = chosen.where(_PAGES.c.body.is_not(None)).with_for_update()
    if after is not None:
        chosen = chosen.where(tuple_(_PAGES.c.fetched_at, _PAGES.c.id) > tuple_(*after))
    rows = _run(connection, chosen).fetchall()
    changed = 0
    for number, _, body in rows:
        made, count = blank(zstandard.decompress(body), ids, ())
        if count:
            changed += 1
            put = update(_PAGES).where(_PAGES.c.id == number).values(body=compressed(made))
            _run(connection, put)
    return changed, (rows[-1][1], rows[-1][0]) if rows else None


def _finish(
    connection: Any,
    ids: Sequence[int],
    counts: Mapping[str, int],
    actor: str,
    reference: str | None,
) -> None:
    done = (
        update(crawl_tombstone)
        .where(crawl_tombstone.c.tweet_id == any_(_IDS))
        .values(done_at=func.clock_timestamp())
    )
    _run(connection, done, ids=ids)
    audit = insert(crawl_audit).values(
        actor=actor,
        action="sweep",
        reference=reference,
        ids_count=len(ids),
        tables=orjson.dumps(dict(counts)).decode(),
        # The audit can prove which posts went, and does not keep their ids.
        ids_sha256=hashlib.sha256("\n".join(map(str, ids)).encode()).hexdigest(),
    )
    _run(connection, audit)


def _table_of(name: str) -> TableClause:
    *schema, own = name.split(".")
    return table(own, *map(column, COLUMNS), schema=schema[0] if schema else None)


def _run(connection: Any, statement: ClauseElement, **values: Any) -> Any:
    text, known = compiled(statement)
    return connection.execute(text, {**known, **values})
