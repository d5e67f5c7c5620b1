"""Pages whose rows the table refuses: kept as bought, and saved again once it takes them.

Such a page is stored as any other, with its cost and its coverage, in a transaction without
its rows: X sold it, so it is not bought again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString
from uuid import UUID

import orjson
import psycopg
from psycopg.types.json import Jsonb

from tweetcrawler.errors import DatabaseError, DatabaseRefuses
from tweetcrawler.flatten import Told, flatten
from tweetcrawler.pages import Batch, Bought, Saved
from tweetcrawler.postgres.budgets import spend
from tweetcrawler.postgres.connection import Connection
from tweetcrawler.postgres.feed import bodies_of
from tweetcrawler.postgres.pages import (
    Pages,
    save_parameters,
    save_without_rows,
)
from tweetcrawler.targets import SEARCH

# A table that refuses one page refuses that page; one that refuses so many takes none.
IN_A_ROW = 5
# The state in `crawl_lookup` of a post whose page waits.
KEPT = "kept"

Score = Callable[[str], float]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retried:
    """Pages that waited for the table: their rows went in, or are refused for the last reason.

    `posts` are those of pages whose rows went in, `new` those of them that are new rows.
    """

    pages: int = 0
    posts: int = 0
    new: int = 0
    left: int = 0
    reason: str = ""


class RefusedPages(Pages):
    """Pages of a session, those that the table refuses among them."""

    def save(
        self,
        run: int,
        owner: str,
        batch: Batch,
        *,
        keep_body: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> Saved:
        """As `Pages.save`; a page whose rows are refused is kept without them.

        **Errors**: `DatabaseError` when the last pages of all processes were refused, too.
        """
        try:
            return super().save(run, owner, batch, keep_body=keep_body, meanwhile=meanwhile)
        except DatabaseRefuses as refusal:
            if not batch.rows:
                raise
            return self.keep(run, owner, batch, refusal, keep_body=keep_body)

    def save_with(
        self,
        run: int,
        batch: Batch,
        also: Callable[[psycopg.Connection[Any]], bool],
        *,
        keep_body: bool = True,
    ) -> Saved:
        """Saves a page that belongs to no target, after what `also` does in the same
        transaction; nothing if that gives False. Refused rows are kept as by `save`.
        """
        given = save_parameters(run, "", batch, keep_body)

        def work(connection: Connection) -> Saved:
            with connection.transaction():
                if not also(connection):
                    return Saved(0, 0, leased=False, again=True)
                if batch.rows:
                    saved = self._merge(connection, given, batch, spends=False)
                else:
                    saved = save_without_rows(connection, given, spends=False)
                self.note_waiting(connection, batch.told)
                if not saved.again:
                    spend(connection, run, batch.bought)
                return saved

        def again(connection: psycopg.Connection[Any]) -> None:
            also(connection)

        try:
            saved = self.do(work)
        except DatabaseRefuses as refusal:
            if not batch.rows:
                raise
            return self.keep(run, "", batch, refusal, keep_body=keep_body, also=again)
        self.hear(batch.told)
        return saved

    def keep(
        self,
        run: int,
        owner: str,
        batch: Batch,
        refusal: DatabaseRefuses,
        *,
        keep_body: bool,
        also: Callable[[psycopg.Connection[Any]], None] = lambda _: None,
    ) -> Saved:
        """Saves a page without its rows, with the reason; `also` does more in the transaction.

        `keep_body` is whether the body stays once the rows are saved; until then it does.
        """
        ids = [row["id"] for row in batch.rows]
        without = [(str(i), f"not stored: {refusal.said}") for i in ids]
        kept = replace(batch, rows=(), refused=[*batch.refused, *without])
        given = save_parameters(run, owner, kept, keep_body=True)
        given |= {"newest": max(ids), "oldest": min(ids)}

        def work(connection: Connection) -> tuple[Saved, bool]:
            with connection.transaction():
                saved = save_without_rows(connection, given, spends=False)
                connection.execute(_KEEP, [batch.bought.id, refusal.said, keep_body])
                also(connection)
                ends = takes_nothing(connection)
                if not saved.again:
                    spend(connection, run, batch.bought)
                return saved, ends

        saved, ends = self.do(work)
        if ends:
            raise self._takes_nothing(refusal.said)
        return replace(saved, refused=refusal.said)

    def retry_refused(
        self, *, score: Callable[[], Score | None], stopping: Callable[[], object] = lambda: False
    ) -> Retried:
        """Saves the rows of the pages that wait for the table, the oldest page first."""
        done = Retried()
        for page in self.do(lambda c: c.execute(_WAITING).fetchall()):
            if stopping():
                return replace(done, left=done.left + 1)
            try:
                saved = self._retry(page[0], score())
            except DatabaseRefuses as refusal:
                done = replace(done, left=done.left + 1, reason=refusal.said)
                continue
            if saved is not None:
                done = replace(
                    done, pages=done.pages + 1, posts=done.posts + saved[0], new=done.new + saved[1]
                )
        return done

    def check_that_pages_go_in(self) -> None:
        """Raises when the table refused the last pages that were bought.

        **Errors**: `DatabaseError`.
        """
        reason = self.do(lambda c: c.execute(_LAST_REASON).fetchone())
        if reason is not None and self.do(takes_nothing):
            raise self._takes_nothing(reason[0])

    def _retry(self, page: UUID, score: Score | None) -> tuple[int, int] | None:
        """Posts and new rows of a page that went in; None when another process did it."""

        told: list[Told] = []

        def work(connection: Connection) -> tuple[int, int] | None:
            with connection.transaction():
                # Deleted first: of two processes one waits here, and finds nothing.
                gone = connection.execute(_NO_LONGER, [page]).fetchone()
                if gone is None:
                    return None
                batch, run = _batch_of(connection, page, score)
                given = save_parameters(run, "", batch, keep_body=True)
                saved = self._merge(connection, given, batch, spends=False)
                self.note_waiting(connection, batch.told)
                told.append(batch.told)
                ids = [row["id"] for row in batch.rows]
                refused = [{"id": i, "reason": reason} for i, reason in batch.refused]
                connection.execute(
                    _STORED,
                    {
                        "id": page,
                        "new": saved.new,
                        "updated": saved.updated,
                        "refused": Jsonb(refused) if refused else None,
                        "keep_body": gone[0],
                    },
                )
                connection.execute(_FOUND_BY_ID, [KEPT, ids])
                return len(ids), saved.new

        saved = self.do(work)
        for each in told:
            self.hear(each)
        return saved

    def _takes_nothing(self, reason: str) -> DatabaseError:
        return DatabaseError(
            f"the table {self.table} refused the last {IN_A_ROW} pages ({reason}): they are "
            "bought and kept; make the table take them, then `tweetcrawler retry-refused`"
        )


def takes_nothing(connection: psycopg.Connection[Any]) -> bool:
    """Whether the table refused the last pages with posts, of all processes."""
    refused = [row[0] for row in connection.execute(_LAST, [IN_A_ROW]).fetchall()]
    return len(refused) == IN_A_ROW and all(refused)


def note_kept_ids(connection: psycopg.Connection[Any], ids: Sequence[int], reason: str) -> None:
    """Notes posts by id as bought, so that they are not asked for again while they wait."""
    connection.execute(_KEPT_BY_ID, [KEPT, reason, sorted(ids)])


def _batch_of(
    connection: psycopg.Connection[Any], page: UUID, score: Score | None
) -> tuple[Batch, int]:
    """A stored page made into rows again, and the number of its run."""
    row = connection.execute(_PAGE, [page]).fetchone()
    assert row is not None  # noqa: S101 - a page that waits is not deleted
    run, target, kind, endpoint, params, credential, posts, users, packed = row
    body = bodies_of(connection)(page, packed)
    bought = Bought(endpoint, params, credential, body, posts=posts, users=users, id=page)
    flattened = flatten(orjson.loads(body), score=score)
    # An answer about ids also holds posts that these refer to; nobody asked for them.
    asked = {int(i) for i in params.get("ids", "").split(",") if i} if target is None else None
    batch = Batch(
        target,
        bought,
        [row for row in flattened.rows if asked is None or row["id"] in asked],
        [(r.tweet_id, r.reason) for r in flattened.refused],
        searched=kind == SEARCH,
        told=flattened.told,
    )
    return batch, run


_KEEP: LiteralString = """
INSERT INTO crawl_refused (page_id, reason, keep_body) VALUES (%s, %s, %s)
ON CONFLICT (page_id) DO NOTHING
"""
_WAITING: LiteralString = """
SELECT r.page_id FROM crawl_refused r JOIN crawl_page p ON p.id = r.page_id ORDER BY p.number
"""
_LAST_REASON: LiteralString = """
SELECT reason FROM crawl_refused ORDER BY refused_at DESC LIMIT 1
"""
# Pages without posts tell nothing; many of them may follow one another.
_LAST: LiteralString = """
SELECT EXISTS (SELECT FROM crawl_refused r WHERE r.page_id = p.id)
FROM (SELECT id, number, oldest_id FROM crawl_page ORDER BY number DESC LIMIT 2000) p
WHERE p.oldest_id IS NOT NULL ORDER BY p.number DESC LIMIT %s
"""
_NO_LONGER: LiteralString = "DELETE FROM crawl_refused WHERE page_id = %s RETURNING keep_body"
_PAGE: LiteralString = """
SELECT p.run_id, p.target_id, t.kind, p.endpoint, p.params, p.credential, p.post_count,
    p.user_count, p.body
FROM crawl_page p LEFT JOIN crawl_target t ON t.id = p.target_id WHERE p.id = %s
"""
_STORED: LiteralString = """
UPDATE crawl_page SET new_count = %(new)s, updated_count = %(updated)s, refused = %(refused)s,
    body = CASE WHEN %(keep_body)s THEN body END
WHERE id = %(id)s
"""
_KEPT_BY_ID: LiteralString = """
INSERT INTO crawl_lookup (tweet_id, state, reason)
SELECT i, %s, %s FROM unnest(%s::bigint[]) i ORDER BY i
ON CONFLICT (tweet_id) DO UPDATE SET state = excluded.state, reason = excluded.reason,
    seen_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
"""
_FOUND_BY_ID: LiteralString = "DELETE FROM crawl_lookup WHERE state = %s AND tweet_id = ANY(%s)"
