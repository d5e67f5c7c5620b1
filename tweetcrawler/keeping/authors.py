"""Accounts behind a handle, and their posts, as targets, rows and stored pages tell.

A row has the handle of its author and no id, a post in a page the id and no handle. So the
pages are read twice: once for the ids behind the handle, once for the posts of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, any_, bindparam, func, or_, select

from tweetcrawler.db import Database
from tweetcrawler.keeping.ledger import Doing
from tweetcrawler.keeping.lines import parsed_json
from tweetcrawler.keeping.sweep import run_composed, table_of
from tweetcrawler.keeping.tombstones import objects_of
from tweetcrawler.postgres.schema import crawl_target, crawl_user, crawl_waiting_name
from tweetcrawler.postgres.statements import NUMBERS, given
from tweetcrawler.targets import TIMELINE

_HANDLE = bindparam("handle", type_=Text)
_USERS = given("users", NUMBERS)


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


def _pages(database: Database) -> Iterator[Mapping[str, Any]]:
    for stored in database.stored_pages():
        page = parsed_json(stored.body)
        if isinstance(page, dict):
            yield page
