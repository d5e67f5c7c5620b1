"""Restore of a database: kept pages are saved again as when they were bought.

Rows are flattened again, and coverage follows from the pages by the rule of the walk. Runs get
new numbers. A segment is noted in the transaction that names it at its pages; until then its
pages are looked at again, and those that are stored as they were are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from tweetcrawler import coverage
from tweetcrawler.coverage import DEPTH_LIMIT, Hole, Learned, Range, Walk
from tweetcrawler.db import Session
from tweetcrawler.endpoints import (
    RECENT_S,
    SEARCH_RECENT,
    STREAM,
    TWEETS,
    USER_TWEETS,
    USERS_BY,
)
from tweetcrawler.evidence import SAVING_S, ask_of
from tweetcrawler.flatten import flatten
from tweetcrawler.ids import time_ms_of
from tweetcrawler.keeping.archive import entry_of
from tweetcrawler.keeping.lines import KeptPage, page_of, parsed_json
from tweetcrawler.keeping.manifests import Manifest
from tweetcrawler.keeping.restoring import Catalog
from tweetcrawler.keeping.tombstones import TOMBSTONE, objects_of
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.targets import SEARCH
from tweetcrawler.walk import RECENT_REASON
from tweetcrawler.work import answers
from tweetcrawler.xapi import Page

_OWNER = "restore"
_AT_ONCE = 50
# A search that began at the edge of the last week began within this time of it.
_EDGE_S = 600.0


@dataclass
class Restored:
    """The work of a restore: pages and posts by what became of them."""

    segments: int = 0
    pages: int = 0
    posts: int = 0
    known: int = 0
    faults: list[str] = field(default_factory=list)


class Restorer:
    """Saves the pages of a place into a database.

    `score` gives the sentiment of a text, as the runs had it. `rest_s` is how long absent handles
    rest after they were asked.
    """

    def __init__(
        self,
        session: Session,
        *,
        score: Callable[[str], float] | None = None,
        rest_s: float,
        stopped: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._session = session
        self._score = score
        self._rest_s = rest_s
        self._stopped = stopped
        self._runs: dict[tuple[str, int], int] = {}
        self._targets: dict[tuple[str, str], tuple[int, int | None]] = {}

    def restore(self, catalog: Catalog, folder: Path) -> Restored:
        """Restores every segment of pages that was not restored yet.

        **Errors**: `SegmentError` for a damaged segment, `PlaceError`.
        """
        done = Restored(faults=list(catalog.faults))
        known = {name for (name,) in self._rows(_KNOWN_SEGMENTS, {})}
        for manifest in catalog.chosen("pages"):
            if manifest.name in known:
                continue
            if self._stopped() is not None:
                break
            pages = map(page_of, catalog.lines(manifest, folder))
            ids: list[str] = []
            while block := list(islice(pages, _AT_ONCE)):
                self._restore_block(block, manifest, done)
                ids += [page.id for page in block]
            self._session.write_names()
            self._note(manifest, catalog, ids)
            done.segments += 1
        self._session.release(_OWNER)
        return done

    def _restore_block(self, block: Sequence[KeptPage], manifest: Manifest, done: Restored) -> None:
        ids = [UUID(page.id) for page in block]
        stored = {str(one): at for one, at in self._rows(_STORED, {"ids": ids})}
        # A page that was saved but not yet dated back has the time of the restore: it is saved
        # again, which changes nothing.
        missing = [page for page in block if stored.get(page.id) != page.fetched_at]
        for page in missing:
            self._save(page, self._run(manifest.node, page))
        for page in block:
            # Of these the rows are saved, and perhaps not yet the names.
            if page not in missing and ("kind" in page.facts or page.endpoint == TWEETS):
                told = flatten(parsed_json(page.body)).told
                self._session.hear(told._replace(seen_at=page.fetched_at.timestamp()))
        facts = [_facts_of(page) for page in missing]
        self._session.do(lambda c: c.execute(_FACTS, {"facts": orjson.dumps(facts).decode()}))
        done.pages += len(missing)
        done.posts += sum(int(page.facts.get("posts", 0)) for page in missing)
        done.known += len(block) - len(missing)

    def _save(self, kept: KeptPage, run: int) -> None:
        answer = parsed_json(kept.body)
        page = Page(
            kept.endpoint, kept.params, kept.body, answer, kept.fetched_at.timestamp(), None
        )
        self._bury(page)
        facts = kept.facts
        bought = Bought(
            kept.endpoint,
            kept.params,
            str(facts["credential"]),
            kept.body,
            posts=int(facts["posts"]),
            users=int(facts["users"]),
            id=UUID(kept.id),
        )
        if kept.endpoint == USERS_BY:
            self._save_users(page, bought, run)
        elif "kind" in facts:
            self._session.save(run, _OWNER, self._batch(kept, page, bought))
        elif kept.endpoint == TWEETS:
            self._save_lookup(page, bought, run)
        elif kept.endpoint == STREAM:
            rows = flatten(answer, score=self._score)
            refused = [(one.tweet_id, one.reason) for one in rows.refused]
            self._session.save(run, _OWNER, Batch(None, bought, rows.rows, refused))
        else:
            self._session.save_page(run, bought)

    def _bury(self, page: Page) -> None:
        """Blanked posts keep their tombstones, before anything is stored."""
        if TOMBSTONE.encode() not in page.body:
            return
        gone = [
            int(one["id"])
            for one in objects_of(page.answer)
            if one.get(TOMBSTONE) == "post" and answers.is_id(str(one["id"]))
        ]
        self._session.do(lambda c: c.execute(_BURY, {"ids": gone}))

    def _save_users(self, page: Page, bought: Bought, run: int) -> None:
        names = page.params.get("usernames", "").lower().split(",")
        mine = self._session.claim_handles(names, _OWNER)
        found, absent, _ = answers.resolved(page, names)
        # An absent handle rests from the day on which X was asked, not from that of the
        # restore.
        asked_s = datetime.now(UTC).timestamp() - page.server_time_s
        self._session.save_users(
            run,
            bought,
            [one for one in found if one.handle in mine],
            [one for one in absent if one.handle in mine],
            rest_s=max(0.0, self._rest_s - asked_s),
        )

    def _save_lookup(self, page: Page, bought: Bought, run: int) -> None:
        asked = {int(one) for one in page.params.get("ids", "").split(",") if answers.is_id(one)}
        flattened = flatten(page.answer, score=self._score)
        rows = [row for row in flattened.rows if row["id"] in asked]
        refused = {one.tweet_id: one.reason for one in flattened.refused}
        gone, _ = answers.gone(page, sorted(asked - {row["id"] for row in rows}), refused)
        told = flattened.told._replace(seen_at=page.server_time_s)
        batch = Batch(None, bought, rows, list(refused.items()), told=told)
        self._session.save_looked_up(run, batch, gone, [], seen_at=page.server_time_s)
        given = {"ids": [one.id for one in gone], "at": page.server_time_s}
        self._session.do(lambda c: c.execute(_SEEN, given))

    def _batch(self, kept: KeptPage, page: Page, bought: Bought) -> Batch:
        facts = kept.facts
        target, account_posts = self._target(facts)
        flattened = flatten(page.answer, score=self._score)
        ids = [row["id"] for row in flattened.rows]
        ids += [
            int(r.tweet_id) for r in flattened.refused if r.tweet_id and answers.is_id(r.tweet_id)
        ]
        learned = self._learned(target, page, ids, account_posts)
        searched = facts["kind"] == SEARCH
        username, posts = (None, None) if searched else answers.news_of_user(page, facts.get("key"))
        if posts is not None:
            self._targets[_name_of(facts)] = target, posts
        return Batch(
            target=target,
            bought=bought,
            rows=flattened.rows,
            refused=[(r.tweet_id, r.reason) for r in flattened.refused],
            covered=learned.covered,
            young=learned.young,
            unreachable=learned.unreachable,
            unreachable_reason=learned.reason,
            username=username,
            account_posts=posts,
            searched=searched,
            told=flattened.told._replace(seen_at=page.server_time_s),
        )

    def _learned(
        self, target: int, page: Page, ids: Sequence[int], account_posts: int | None
    ) -> Learned:
        """The ids that a page makes known, by the rule of the walk that bought it."""
        ask = ask_of(page.endpoint, page.params)
        above = 0
        if ask.until_id is not None and page.next_token is None:
            above = self._session.posts_above(target, ask.until_id)
        limit = DEPTH_LIMIT if page.endpoint == USER_TWEETS else None
        walk = Walk(Hole(ask.since_id, ask.until_id), above, account_posts, depth_limit=limit)
        walk.ask = ask
        settled_below = coverage.settled_below(page.server_time_s - SAVING_S)
        learned = walk.learn(ids, page.next_token, settled_below_id=settled_below)
        if page.endpoint == SEARCH_RECENT and walk.ask is None and not walk.stalled:
            beyond = self._beyond(target, ask.since_id, page.server_time_s)
            if beyond is not None:
                return replace(learned, unreachable=beyond, reason=RECENT_REASON)
        return learned

    def _beyond(self, target: int, since_id: int, at_s: float) -> Range | None:
        """The ids below a search that began at the edge of the last week."""
        edge_s = at_s - RECENT_S
        if abs(time_ms_of(since_id) / 1000 - edge_s) > _EDGE_S:
            return None
        ((covered, unreachable),) = self._rows(_KNOWN, {"id": target})
        known = coverage.from_text(covered) + coverage.from_text(unreachable)
        below = coverage.difference([(1, since_id + 1)], known)
        return below[-1] if below and below[-1][1] == since_id + 1 else None

    def _target(self, facts: Mapping[str, Any]) -> tuple[int, int | None]:
        name = _name_of(facts)
        if name not in self._targets:
            given = {one: facts.get(one) for one in ("kind", "key", "handle", "username")}
            self._session.do(lambda c: c.execute(_NEW_TARGET, given))
            ((number, posts),) = self._rows(_TARGET, given)
            self._targets[name] = int(number), posts
        return self._targets[name]

    def _run(self, node: str, page: KeptPage) -> int:
        key = node, int(page.facts.get("run", 0))
        if key not in self._runs:
            origin = orjson.dumps({"restored_from": node, "run": key[1]}).decode()
            given = {"as": origin, "at": page.fetched_at}
            ((self._runs[key],),) = self._rows(_RUN, given)
        return self._runs[key]

    def _note(self, manifest: Manifest, catalog: Catalog, ids: Sequence[str]) -> None:
        """The segment, and its name at its pages, in one transaction."""
        entry = entry_of(manifest)
        given = {**asdict(entry), "place": catalog.url, "tries": catalog.tries_of(manifest)}
        given["ids"] = list(ids)
        self._session.do(lambda c: c.execute(_NOTE, given))

    def _rows(self, statement: str, given: Mapping[str, Any]) -> list[Any]:
        text: Any = statement
        return self._session.do(lambda c: c.execute(text, given).fetchall())


def _name_of(facts: Mapping[str, Any]) -> tuple[str, str]:
    return str(facts["kind"]), str(facts.get("key") or facts.get("handle"))


def _facts_of(page: KeptPage) -> dict[str, Any]:
    facts = page.facts
    return {
        "id": page.id,
        "at": page.fetched_at.isoformat(),
        "new": facts.get("new", 0),
        "updated": facts.get("updated", 0),
        "refused": facts.get("refused"),
    }


_KNOWN_SEGMENTS = "SELECT name FROM crawl_segment WHERE state IN ('verified', 'dropped')"
_STORED = "SELECT id, fetched_at FROM crawl_page WHERE id = ANY(%(ids)s)"
_KNOWN = "SELECT covered::text, unreachable::text FROM crawl_target WHERE id = %(id)s"
# What the database wrote by itself when a page was saved again is as it was the first time.
_FACTS = """
WITH facts AS (
    SELECT * FROM jsonb_to_recordset(%(facts)s::jsonb)
    AS f(id uuid, at timestamptz, new int, updated int, refused jsonb)
), page AS (
    UPDATE crawl_page p SET fetched_at = f.at, new_count = f.new, updated_count = f.updated,
        refused = nullif(f.refused, 'null')
    FROM facts f WHERE p.id = f.id RETURNING p.target_id, p.run_id, p.fetched_at
), run AS (
    UPDATE crawl_run r SET ended_at = greatest(r.ended_at, v.at)
    FROM (SELECT run_id, max(fetched_at) AS at FROM page GROUP BY 1) v
    WHERE r.id = v.run_id AND r.host = 'restored'
)
UPDATE crawl_target t SET crawled_at = greatest(t.crawled_at, v.at),
    state = CASE WHEN t.state = 'new' THEN 'ok' ELSE t.state END,
    state_at = CASE WHEN t.state = 'new' THEN v.at ELSE t.state_at END
FROM (SELECT target_id, max(fetched_at) AS at FROM page GROUP BY 1) v WHERE t.id = v.target_id
"""
_BURY = """
INSERT INTO crawl_tombstone (tweet_id, reason, source, done_at)
SELECT id, 'blanked in a segment', 'request', clock_timestamp()
FROM unnest(%(ids)s::bigint[]) AS g(id) ORDER BY id ON CONFLICT DO NOTHING
"""
_SEEN = """
UPDATE crawl_lookup SET seen_at = to_timestamp(%(at)s) WHERE tweet_id = ANY(%(ids)s)
"""
_NEW_TARGET = """
INSERT INTO crawl_target (kind, key, handle, username)
VALUES (%(kind)s, %(key)s, %(handle)s, %(username)s) ON CONFLICT DO NOTHING
"""
# A handle that was listed before its user was known has no key yet.
_TARGET = """
SELECT coalesce(o.id, t.id), coalesce(o.account_posts, t.account_posts)
FROM crawl_target t LEFT JOIN crawl_target o ON o.id = t.same_as
WHERE t.kind = %(kind)s AND (t.key = %(key)s OR t.handle = %(handle)s)
ORDER BY t.key = %(key)s DESC NULLS LAST LIMIT 1
"""
_RUN = """
WITH known AS (SELECT id FROM crawl_run WHERE host = 'restored' AND arguments = %(as)s::jsonb),
made AS (
    INSERT INTO crawl_run (version, arguments, host, started_at, ended_at, exit_code)
    SELECT '', %(as)s::jsonb, 'restored', %(at)s, %(at)s, 0 WHERE NOT EXISTS (SELECT FROM known)
    RETURNING id
)
SELECT id FROM known UNION ALL SELECT id FROM made
"""
_NOTE = """
WITH segment AS (
    INSERT INTO crawl_segment (name, kind, number, state, lines, posts, lowest_id, highest_id,
        file_bytes, sha256, place, tries, uploaded_at, verified_at, dropped_at)
    VALUES (%(name)s, %(kind)s, %(number)s, 'dropped', %(lines)s, %(posts)s, %(lowest_id)s,
        %(highest_id)s, %(file_bytes)s, %(sha256)s, %(place)s, %(tries)s, clock_timestamp(),
        clock_timestamp(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET state = 'dropped', place = excluded.place,
        tries = excluded.tries, verified_at = excluded.verified_at RETURNING id
)
UPDATE crawl_page p SET segment_id = s.id FROM segment s
WHERE p.id = ANY(%(ids)s::uuid[]) AND p.segment_id IS NULL
"""
