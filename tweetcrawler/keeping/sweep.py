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
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

import orjson
import zstandard
from sqlalchemy import (
    LargeBinary,
    Table,
    Text,
    and_,
    any_,
    column,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    table,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.expression import ClauseElement, TableClause

from tweetcrawler.flatten import COLUMNS
from tweetcrawler.keeping.ledger import Doing
from tweetcrawler.keeping.schema import crawl_audit, crawl_tombstone, crawl_tombstone_user
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
_USERS = table("crawl_user", column("user_id"))
_WAITING = table("crawl_waiting_name", column("tweet_id"), column("part", Text), column("user_id"))
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


class Gone(NamedTuple):
    """Posts and users that must be found nowhere."""

    posts: frozenset[int]
    users: frozenset[int] = frozenset()


def bury(
    session: Doing, posts: Collection[int], request: Request, users: Collection[int] = ()
) -> None:
    """Sets a tombstone for each post and user, or opens the one that it has."""

    def work(connection: Any) -> None:
        _set_tombstones(connection, crawl_tombstone_user, "user_id", users, request)
        _set_tombstones(connection, crawl_tombstone, "tweet_id", posts, request)

    session.do(work)


def _set_tombstones(
    connection: Any, stones: Table, key: str, ids: Collection[int], request: Request
) -> None:
    rows = [{key: one, **vars(request)} for one in sorted(set(ids))]
    if not rows:
        return
    statement = postgresql.insert(stones).on_conflict_do_update(
        index_elements=[key],
        # What is asked for again is swept again: an import may have brought it back.
        set_={"done_at": null(), "asked_at": func.clock_timestamp()},
    )
    # Only the names are used of this; the values go by executemany, which psycopg pipelines.
    text, _ = compiled(statement.values(dict.fromkeys(rows[0])))
    with connection.cursor() as cursor:
        cursor.executemany(text, rows)


def sweep(
    session: Doing,
    posts: str,
    *,
    way: Way = "delete",
    actor: str = "",
    reference: str | None = None,
    beyond: Callable[[Gone], Mapping[str, int]] = lambda _: {},
) -> Mapping[str, int]:
    """Takes everything whose tombstone is open out of all that is kept; counts by table.

    `posts` is the name of the table of posts. `way` says what becomes of their own rows.
    `beyond` takes them out of what is not in the database, and gives its counts.
    """
    gone = session.do(_open)
    if not gone.posts and not gone.users:
        return {}
    counts: Counter[str] = Counter()
    for name, statement in _statements(posts, way).items():
        counts[name] += session.do(_counting(statement, sorted(gone.posts)))
    for name, (statement, ids) in _of_names(posts, gone).items():
        # Posts that carry all names leave nothing here, and most do.
        if found := session.do(_counting(statement, sorted(ids))):
            counts[name] += found
    counts["crawl_page"] = _sweep_pages(session, gone)
    counts.update(beyond(gone))
    session.do(lambda connection: _finish(connection, gone, counts, actor, reference))
    return counts


def _open(connection: Any) -> Gone:
    def ids(column: Any, done_at: Any) -> frozenset[int]:
        rows = run_composed(connection, select(column).where(done_at.is_(None))).fetchall()
        return frozenset(number for (number,) in rows)

    posts, users = crawl_tombstone.c, crawl_tombstone_user.c
    return Gone(ids(posts.tweet_id, posts.done_at), ids(users.user_id, users.done_at))


def _statements(posts: str, way: Way) -> Mapping[str, ClauseElement]:
    """What is done to rows, by the name under which it is counted."""
    own = table_of(posts)
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


def _of_names(posts: str, gone: Gone) -> Mapping[str, tuple[ClauseElement, Collection[int]]]:
    """What is done to names of users and to rows that wait for one: each with its ids."""
    own, waits = table_of(posts), _WAITING.c
    repeats = select(own.c.id).where(own.c.retweeted_status_id == any_(_IDS))
    return {
        "crawl_user": (delete(_USERS).where(_USERS.c.user_id == any_(_IDS)), gone.users),
        "names that others wait for": (
            delete(_WAITING).where(waits.user_id == any_(_IDS)),
            gone.users,
        ),
        # Who made a retweet may still be told; what it repeats may not.
        "names that posts wait for": (
            delete(_WAITING).where(
                or_(
                    waits.tweet_id == any_(_IDS),
                    and_(waits.part != "author", waits.tweet_id.in_(repeats)),
                )
            ),
            gone.posts,
        ),
    }


def _counting(statement: ClauseElement, ids: Sequence[int]) -> Callable[[Any], int]:
    return lambda connection: int(run_composed(connection, statement, ids=ids).rowcount)


def _sweep_pages(session: Doing, gone: Gone) -> int:
    """Rewrites the pages that hold any of these. In order of time, so that pages that come
    meanwhile are looked at, too.
    """
    count = 0
    after: tuple[datetime, UUID] | None = None
    while True:
        found, after = session.do(partial(_some_pages, gone=gone, after=after))
        count += found
        if after is None:
            return count


def _some_pages(
    connection: Any, gone: Gone, after: tuple[datetime, UUID] | None
) -> tuple[int, tuple[datetime, UUID] | None]:
    chosen = select(_PAGES.c.id, _PAGES.c.fetched_at, _PAGES.c.body)
    chosen = chosen.order_by(_PAGES.c.fetched_at, _PAGES.c.id).limit(_PAGES_AT_ONCE)
    # A page without a body has it in a segment, which is rewritten apart, or never kept one.
    chosen = chosen.where(_PAGES.c.body.is_not(None)).with_for_update()
    if after is not None:
        chosen = chosen.where(tuple_(_PAGES.c.fetched_at, _PAGES.c.id) > tuple_(*after))
    rows = run_composed(connection, chosen).fetchall()
    changed = 0
    for number, _, body in rows:
        made, count = blank(zstandard.decompress(body), gone.posts, gone.users)
        if count:
            changed += 1
            put = update(_PAGES).where(_PAGES.c.id == number).values(body=compressed(made))
            run_composed(connection, put)
    return changed, (rows[-1][1], rows[-1][0]) if rows else None


def _finish(
    connection: Any,
    gone: Gone,
    counts: Mapping[str, int],
    actor: str,
    reference: str | None,
) -> None:
    for key, ids in (
        (crawl_tombstone.c.tweet_id, gone.posts),
        (crawl_tombstone_user.c.user_id, gone.users),
    ):
        done = update(key.table).where(key == any_(_IDS)).values(done_at=func.clock_timestamp())
        run_composed(connection, done, ids=sorted(ids))
    # The audit can prove what went, and does not keep the ids.
    listed = "\n".join(map(str, (*sorted(gone.posts), *sorted(gone.users))))
    audit = insert(crawl_audit).values(
        actor=actor,
        action="sweep",
        reference=reference,
        ids_count=len(gone.posts) + len(gone.users),
        tables=orjson.dumps(dict(counts)).decode(),
        ids_sha256=hashlib.sha256(listed.encode()).hexdigest(),
    )
    run_composed(connection, audit)


def table_of(name: str) -> TableClause:
    """The table of posts with its columns, for a statement that is composed."""
    *schema, own = name.split(".")
    return table(own, *map(column, COLUMNS), schema=schema[0] if schema else None)


def run_composed(connection: Any, statement: ClauseElement, **values: Any) -> Any:
    """The cursor of a composed statement, run through psycopg."""
    text, known = compiled(statement)
    return connection.execute(text, {**known, **values})
