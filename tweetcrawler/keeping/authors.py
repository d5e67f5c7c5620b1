"""Accounts behind a handle, and their posts, as targets, rows and stored pages tell.

A row has the handle of its author and no id, a post in a page the id and no handle. So the
pages are read twice: once for the ids behind the handle, once for the posts of these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, any_, bindparam, func, or_, select

from tweetcrawler.db import Database
from tweetcrawler.keeping.lines import parsed_json
from tweetcrawler.keeping.noting import newest_of
from tweetcrawler.keeping.sweep import run_composed, table_of
from tweetcrawler.keeping.tombstones import TOMBSTONE, objects_of
from tweetcrawler.postgres.schema import crawl_target, crawl_user, crawl_waiting_name
from tweetcrawler.postgres.statements import NUMBERS, TEXTS, given
from tweetcrawler.run import Doing
from tweetcrawler.targets import TIMELINE
from tweetcrawler.work.answers import is_id

_HANDLE = bindparam("handle", type_=Text)
_USERS = given("users", NUMBERS)
_KEYS, _NAMES = given("keys", TEXTS), given("names", TEXTS)


@dataclass(frozen=True)
class Account:
    """Ids of the users behind a handle, and of all posts of these that are stored."""

    users: frozenset[int]
    posts: frozenset[int]


def account(database: Database, session: Doing, handle: str) -> Account:
    """What is stored of a handle, given in lower case.

    A handle that went from one user to another stands for both.
    **Errors**: `DatabaseError` when the server refuses or goes away, or a body is damaged.
    """
    users, posts = session.do(lambda connection: _named(connection, database.table, handle))
    for page in _pages(database):
        users |= {
            int(one["id"])
            for one in objects_of(page)
            if str(one.get("username", "")).lower() == handle and str(one["id"]).isdecimal()
        }
    by = {str(one) for one in users}
    for page in _pages(database):
        posts |= {int(one["id"]) for one in objects_of(page) if str(one.get("author_id")) in by}
    everyone = frozenset(users)
    posts |= session.do(lambda connection: _nameless(connection, everyone))
    return Account(everyone, frozenset(posts))


def _named(connection: Any, posts: str, handle: str) -> tuple[set[int], set[int]]:
    """The users of targets and the posts of rows with this handle."""
    k = crawl_target.c
    is_named = or_(k.handle == _HANDLE, func.lower(k.username) == _HANDLE)
    keys = select(k.key).where(k.kind == TIMELINE, k.key.is_not(None), is_named)
    own = table_of(posts)
    ids = select(own.c.id).where(func.lower(own.c.tweet_from) == _HANDLE)
    heard = select(crawl_user.c.user_id).where(func.lower(crawl_user.c.handle) == _HANDLE)
    users = {int(key) for (key,) in run_composed(connection, keys, handle=handle).fetchall()}
    users |= {number for (number,) in run_composed(connection, heard, handle=handle).fetchall()}
    rows = run_composed(connection, ids, handle=handle).fetchall()
    return users, {number for (number,) in rows}


def _nameless(connection: Any, users: frozenset[int]) -> set[int]:
    """Posts of these users whose rows wait for the name."""
    w = crawl_waiting_name.c
    ids = select(w.tweet_id).where(w.part == "author", w.user_id == any_(_USERS))
    return {number for (number,) in run_composed(connection, ids, users=sorted(users)).fetchall()}


@dataclass(frozen=True)
class Stored:
    """Ids of all posts and users of which anything is stored, also in pages only.

    `newest` gives the newest version of each older one.
    """

    posts: set[int]
    users: set[int]
    newest: Mapping[int, int]


def everything(database: Database, session: Doing) -> Stored:
    """What is stored, without what was blanked.

    **Errors**: `DatabaseError` when the server refuses or goes away, or a body is damaged.
    """
    own, k = table_of(database.table), crawl_target.c
    keys = select(k.key).where(k.kind == TIMELINE, k.key.is_not(None))
    repeated = select(own.c.retweeted_status_id).where(
        own.c.retweeted_status_id.is_not(None), own.c.retweeted_status_text.is_not(None)
    )
    chosen = select(own.c.id).where(own.c.text.is_not(None)).union_all(repeated)
    rows = session.do(lambda connection: run_composed(connection, chosen).fetchall())
    posts = {number for (number,) in rows}
    rows = session.do(lambda connection: run_composed(connection, keys).fetchall())
    users: set[int] = {int(key) for (key,) in rows}
    newest: dict[int, int] = {}
    for one in (one for page in _pages(database) for one in objects_of(page)):
        if TOMBSTONE in one or not is_id(str(one["id"])):
            continue
        (users if "username" in one and "text" not in one else posts).add(int(one["id"]))
        users |= {int(one["author_id"])} if is_id(str(one.get("author_id"))) else set()
        newest |= newest_of(one)
    return Stored(posts, users, newest)


def posts_of(database: Database, session: Doing, users: Collection[int]) -> dict[int, int]:
    """All posts of these users that are stored, with their authors."""
    if not users:
        return {}
    names: dict[str, int] = {}
    found: dict[int, int] = {}
    by = {str(one): one for one in users}
    for one in (one for page in _pages(database) for one in objects_of(page)):
        if "username" in one and "text" not in one and str(one["id"]) in by:
            names[str(one["username"]).lower()] = by[str(one["id"])]
        elif str(one.get("author_id")) in by and is_id(str(one["id"])):
            found[int(one["id"])] = by[str(one["author_id"])]
    k, own = crawl_target.c, table_of(database.table)
    spelled = func.lower(func.coalesce(k.username, k.handle))
    chosen = select(spelled, k.key).where(k.kind == TIMELINE, k.key == any_(_KEYS))
    rows = session.do(lambda c: run_composed(c, chosen, keys=list(by)).fetchall())
    names |= {name: int(key) for name, key in rows}
    chosen = select(own.c.id, func.lower(own.c.tweet_from)).where(
        func.lower(own.c.tweet_from) == any_(_NAMES)
    )
    rows = session.do(lambda c: run_composed(c, chosen, names=list(names)).fetchall())
    return {number: names[name] for number, name in rows} | found


def _pages(database: Database) -> Iterator[Mapping[str, Any]]:
    for stored in database.stored_pages():
        page = parsed_json(stored.body)
        if isinstance(page, dict):
            yield page
