"""Sweep of deleted posts through the database: all that it keeps of them goes.

That is their rows, the texts of them that other rows repeat, counts, searches, lookups, and
their objects in stored pages. Tombstones come first, in a transaction of their own, so nothing
writes these posts again. Then each step may be repeated. The tombstones are marked as done last,
with the audit: a sweep that was killed is finished by the next one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
from tweetcrawler.keeping.schema import (
    crawl_audit,
    crawl_due,
    crawl_tombstone,
    crawl_tombstone_user,
    crawl_withheld,
)
from tweetcrawler.keeping.tombstones import blank
from tweetcrawler.postgres.pages import compressed
from tweetcrawler.postgres.statements import NUMBERS, compiled, given
from tweetcrawler.rooms import rooms
from tweetcrawler.run import Doing

Way: TypeAlias = Literal["delete", "blank", "mark"]
# X may take these back: the account is opened, or its owner returns. Every other reason is final.
HIDDEN = ("protected", "suspended", "deactivated")
# An older version of a post that was edited.
EDITED = "edited"

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
    """Posts and users that must be found nowhere, and older versions of posts that stay.

    `hidden` are those of the posts that may come back.
    """

    posts: frozenset[int]
    users: frozenset[int] = frozenset()
    older: frozenset[int] = frozenset()
    hidden: frozenset[int] = frozenset()


def bury(
    session: Doing, posts: Collection[int], request: Request, users: Collection[int] = ()
) -> None:
    """Sets a tombstone for each post and user, or opens the one that it has."""

    session.do(lambda connection: set_tombstones(connection, dict.fromkeys(posts), request, users))


def set_tombstones(
    connection: Any,
    posts: Mapping[int, int | None],
    request: Request,
    users: Collection[int] = (),
) -> None:
    """As `bury`, in a transaction that is under way. `posts` are given with their authors."""
    of_users = [{"user_id": one, **vars(request)} for one in sorted(set(users))]
    of_posts = [{"tweet_id": one, "user_id": posts[one], **vars(request)} for one in sorted(posts)]
    _insert(connection, crawl_tombstone_user, "user_id", of_users)
    _insert(connection, crawl_tombstone, "tweet_id", of_posts)


def _insert(connection: Any, stones: Table, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    inserted = postgresql.insert(stones)
    statement = inserted.on_conflict_do_update(
        index_elements=[key],
        # What is asked for again is swept again: an import may have brought it back.
        set_={
            "done_at": null(),
            "asked_at": func.clock_timestamp(),
            "reason": inserted.excluded.reason,
            "source": inserted.excluded.source,
            "by_at": func.coalesce(inserted.excluded.by_at, stones.c.by_at),
            "reference": func.coalesce(inserted.excluded.reference, stones.c.reference),
        },
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
    hidden_way: Way = "blank",
    actor: str = "",
    reference: str | None = None,
    beyond: Callable[[Gone], Mapping[str, int]] = lambda _: {},
) -> Mapping[str, int]:
    """Takes everything whose tombstone is open out of all that is kept; counts by table.

    `posts` is the name of the table of posts. `way` says what becomes of their own rows, and
    `hidden_way` of those that may come back. `beyond` takes them out of what is not in the
    database, and gives its counts.
    """
    gone = session.do(_open)
    if not any(gone):
        return {}
    counts: Counter[str] = Counter()
    for name, statement, ids in _statements(posts, gone, way, hidden_way):
        counts[name] += session.do(_counting(statement, sorted(ids)))
    for name, (statement, ids) in _of_names(posts, gone).items():
        # Posts that carry all names leave nothing here, and most do.
        if found := session.do(_counting(statement, sorted(ids))):
            counts[name] += found
    for name, statement in _of_rooms():
        if found := session.do(_counting(statement, sorted(gone.users))):
            counts[name] += found
    counts["crawl_page"] = _sweep_pages(session, gone)
    counts.update(beyond(gone))
    session.do(lambda connection: _finish(connection, gone, counts, actor, reference))
    return counts


def _open(connection: Any) -> Gone:
    posts, users = crawl_tombstone.c, crawl_tombstone_user.c
    chosen = select(posts.tweet_id, posts.reason).where(posts.done_at.is_(None))
    reasons = dict(run_composed(connection, chosen).fetchall())
    chosen = select(users.user_id).where(users.done_at.is_(None))
    gone_users = frozenset(number for (number,) in run_composed(connection, chosen).fetchall())
    older = frozenset(one for one, reason in reasons.items() if reason == EDITED)
    hidden = frozenset(one for one, reason in reasons.items() if reason in HIDDEN)
    return Gone(frozenset(reasons) - older, gone_users, older, hidden)


def _statements(
    posts: str, gone: Gone, way: Way, hidden_way: Way
) -> Iterator[tuple[str, ClauseElement, Collection[int]]]:
    """What is done to rows, under the name by which it is counted, and to which."""
    own, everything = table_of(posts), gone.posts | gone.older
    repeated = {name: null() for name in COLUMNS if name not in _OWN and "count" not in name}
    # PostgreSQL writes a new version of a row even if nothing in it changes. Rows that were
    # emptied before are therefore left alone.
    repeating = and_(own.c.retweeted_status_id == any_(_IDS), own.c.text.is_not(None))
    yield "texts repeated by other rows", update(own).where(repeating).values(repeated), everything
    # A newer version stands for an older one: its row goes, whatever is done with others.
    rows = [(way, gone.posts - gone.hidden), (hidden_way, gone.hidden), ("delete", gone.older)]
    for chosen, ids in rows:
        if chosen != "mark" and (ids or chosen == way):
            yield posts, _taken_out(own, chosen), ids
    for beside in _BESIDE:
        yield beside.name, delete(beside).where(beside.c.tweet_id == any_(_IDS)), everything


def _taken_out(own: TableClause, way: str) -> ClauseElement:
    if way == "delete":
        return delete(own).where(own.c.id == any_(_IDS))
    emptied = {name: null() for name in COLUMNS if name != "id"}
    is_full = func.num_nonnulls(*(own.c[name] for name in emptied)) > 0
    return update(own).where(and_(own.c.id == any_(_IDS), is_full)).values(emptied)


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
            gone.posts | gone.older,
        ),
    }


def _of_rooms() -> Iterator[tuple[str, ClauseElement]]:
    """What is done to accounts in tables of rooms."""
    for name in (name for room in rooms() for name in room.accounts):
        own, key = name.split(".")
        yield own, delete(table(own, column(key))).where(column(key) == any_(_IDS))


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
        made, count = blank(zstandard.decompress(body), *gone[:3])
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
        (crawl_tombstone.c.tweet_id, gone.posts | gone.older),
        (crawl_tombstone_user.c.user_id, gone.users),
    ):
        done = update(key.table).where(key == any_(_IDS)).values(done_at=func.clock_timestamp())
        run_composed(connection, done, ids=sorted(ids))
    for beside in (crawl_due, crawl_withheld):
        run_composed(
            connection,
            delete(beside).where(beside.c.tweet_id == any_(_IDS)),
            ids=sorted(gone.posts | gone.older),
        )
    # The audit can prove what went, and does not keep the ids.
    posts = sorted(gone.posts | gone.older)
    listed = "\n".join(map(str, (*posts, *sorted(gone.users))))
    audit = insert(crawl_audit).values(
        actor=actor,
        action="sweep",
        reference=reference,
        ids_count=len(posts) + len(gone.users),
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
