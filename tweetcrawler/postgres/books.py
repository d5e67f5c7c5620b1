"""What was bought and what is known, for those who look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, LiteralString

import orjson
import psycopg
import zstandard
from psycopg import sql
from psycopg.rows import dict_row

from tweetcrawler import coverage, queries
from tweetcrawler.books import Known, Purchase, Reserved, Run, Usage, Window, usage_of
from tweetcrawler.targets import SEARCH, TIMELINE


class Reader:
    """What was bought and what is known, read in one transaction; see `Database.accounts`.

    Times are seconds since 1970 on the database's clock.
    """

    def __init__(self, connection: psycopg.Connection[Any], table: str) -> None:
        self._connection = connection
        self._table = table

    def now(self) -> float:
        """The database's clock."""
        row = self._connection.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8"
        ).fetchone()
        return float(row[0]) if row else 0.0

    def purchases(
        self, *, since: float | None = None, until: float | None = None, run: int | None = None
    ) -> list[Purchase]:
        """What was bought in a time (from `since` on, before `until`), or by one run."""
        rows = self._connection.execute(
            _PURCHASES[run is None], {"since": since, "until": until, "run": run}
        ).fetchall()
        return [Purchase(*row) for row in rows]

    def reserved(self) -> list[Reserved]:
        """What requests under way may cost, and requests whose process was killed may have
        cost.
        """
        rows = self._connection.execute(
            "SELECT run_id, owner, endpoint, extract(epoch FROM reserved_at)::float8, posts, micro_usd "
            "FROM crawl_reserved ORDER BY reserved_at"
        ).fetchall()
        return [Reserved(*row) for row in rows]

    def states(self) -> list[tuple[str, str, int]]:
        """How many targets are of each kind and state."""
        return self._connection.execute(
            "SELECT kind, state, sum(targets)::bigint FROM crawl_target_count GROUP BY 1, 2 "
            "HAVING sum(targets) <> 0 ORDER BY 1, 3 DESC, 2"
        ).fetchall()

    def known(self, handles: Sequence[str]) -> dict[str, Known]:
        """The targets of these handles (folded); a handle of a renamed account gives its
        account.
        """
        rows = self._connection.execute(
            f"SELECT named.handle, {_KNOWN} FROM crawl_target named "
            f"JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id) {_LATEST} "
            "WHERE named.kind = %s AND named.handle = ANY(%s)",
            [TIMELINE, list(handles)],
        ).fetchall()
        return {row[0]: _known(row[1:]) for row in rows}

    def due(self, handles: Sequence[str]) -> tuple[list[str], float | None]:
        """Those of the handles (folded) that are to be visited now, and the seconds until
        the next one is.
        """
        rows = self._connection.execute(
            "SELECT h, coalesce(extract(epoch FROM t.due_at - clock_timestamp()), 0)::float8 "
            "FROM unnest(%s::text[]) h LEFT JOIN crawl_target named ON named.kind = 'timeline' AND named.handle = h "
            "LEFT JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id)",
            [list(handles)],
        ).fetchall()
        return [h for h, wait_s in rows if wait_s <= 0], min(
            (w for _, w in rows if w > 0), default=None
        )

    def known_searches(self, asked: Sequence[str]) -> dict[str, Known]:
        """The targets of these normalised queries, by query."""
        by_key = {queries.key_of(query): query for query in asked}
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM crawl_target t {_LATEST} WHERE t.kind = %s AND t.key = ANY(%s)",
            [SEARCH, list(by_key)],
        ).fetchall()
        return {by_key[str(known.key)]: known for known in map(_known, rows)}

    def listed(self, states: Sequence[str], limit: int) -> list[Known]:
        """So many targets of these states, those that were made first before the others."""
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM (SELECT * FROM crawl_target WHERE state = ANY(%s) AND kind = ANY(%s) "
            f"ORDER BY id LIMIT %s) t {_LATEST} ORDER BY t.id",
            [list(states), [TIMELINE, SEARCH], limit],
        ).fetchall()
        return [_known(row) for row in rows]

    def sampled(self, count: int) -> list[Known]:
        """About so many targets by chance, all of them when there are not many more; those
        that can be crawled.
        """
        guess = self._connection.execute(
            "SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'crawl_target'::regclass"
        ).fetchone()
        total = float(guess[0]) if guess else 0.0
        percent = 100.0 if total <= 2 * count else 100.0 * count / total
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM (SELECT * FROM crawl_target TABLESAMPLE SYSTEM (%s)) t {_LATEST} "
            "WHERE t.same_as IS NULL AND t.state = ANY(%s) LIMIT %s",
            [percent, ["new", "ok", "renamed", "failed"], 4 * count],
        ).fetchall()
        return [_known(row) for row in rows]

    def named(self, name: str) -> list[Known]:
        """The targets that go by this name: a handle as listed or as it is now, a query, a
        name of its file.
        """
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM crawl_target n JOIN crawl_target t ON t.id = coalesce(n.same_as, n.id) {_LATEST} "
            "WHERE (n.kind = 'timeline' AND n.handle = lower(%(name)s)) OR (n.kind = 'search' "
            "AND n.key = ANY(%(keys)s)) OR (n.kind = 'search' AND n.handle = %(name)s)",
            {"name": name, "keys": [queries.key_of(queries.normalised(name))]},
        ).fetchall()
        return list({known.id: known for known in map(_known, rows)}.values())

    def pages_of(self, target: int, limit: int) -> list[dict[str, Any]]:
        """The newest pages of a target: run, at, endpoint, credential, posts, new,
        newest_id, oldest_id.
        """
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                "SELECT run_id AS run, extract(epoch FROM fetched_at)::float8 AS at, endpoint, credential, "
                "post_count AS posts, new_count AS new, newest_id, oldest_id FROM crawl_page "
                "WHERE target_id = %s ORDER BY oldest_id DESC NULLS LAST, fetched_at DESC LIMIT %s",
                [target, limit],
            ).fetchall()

    def windows(self) -> list[Window]:
        """Every bucket of a known credential that was ever used."""
        rows = self._connection.execute(_WINDOWS).fetchall()
        return [Window(*row) for row in rows]

    def runs(self, *, limit: int | None = None, run: int | None = None) -> list[Run]:
        """The last runs, the newest first; or one of them."""
        rows = self._connection.execute(
            "SELECT id, version, host, extract(epoch FROM started_at)::float8, "
            "extract(epoch FROM ended_at)::float8, exit_code, arguments, coalesce(report, '{}'::jsonb) "
            "FROM crawl_run WHERE %(run)s::bigint IS NULL OR id = %(run)s ORDER BY id DESC LIMIT %(limit)s",
            {"run": run, "limit": limit},
        ).fetchall()
        return [Run(*row) for row in rows]

    def plan(self, subject: str, *, before: float) -> tuple[float, Mapping[str, Any]] | None:
        """The last plan of this kind of run that was made before a moment, and when it was
        made.
        """
        row = self._connection.execute(
            "SELECT extract(epoch FROM made_at)::float8, plan FROM crawl_plan WHERE subject = %s "
            "AND made_at <= to_timestamp(%s) ORDER BY made_at DESC LIMIT 1",
            [subject, before],
        ).fetchone()
        return (row[0], row[1]) if row else None

    def usages(self) -> list[Usage]:
        """What X last told each credential of its project's posts."""
        rows = self._connection.execute(
            "SELECT DISTINCT ON (credential) credential, extract(epoch FROM fetched_at)::float8, body "
            "FROM crawl_page WHERE endpoint = '/2/usage/tweets' AND body IS NOT NULL "
            "AND fetched_at > clock_timestamp() - interval '60 days' ORDER BY credential, fetched_at DESC"
        ).fetchall()
        found = []
        for credential, asked_at, body in rows:
            answer = orjson.loads(zstandard.decompress(body))
            if isinstance(answer, dict) and (usage := usage_of(credential, asked_at, answer)):
                found.append(usage)
        return found

    def apps(self) -> dict[str, str]:
        """The app that each credential belongs to, by labels; apps are called by a fingerprint."""
        rows = self._connection.execute(
            "SELECT label, app_fingerprint FROM api_credential"
        ).fetchall()
        return dict(rows)

    def posts_by_day(self, *, lowest: int) -> list[tuple[date, int]]:
        """How many of the stored posts were written on each UTC day, from an id on; by
        their ids.
        """
        return self._connection.execute(
            sql.SQL(
                "SELECT (to_timestamp(((id >> 22) + 1288834974657) / 1000.0) AT TIME ZONE 'UTC')::date, count(*) "
                "FROM {} WHERE id >= %s GROUP BY 1 ORDER BY 1"
            ).format(sql.Identifier(*self._table.split("."))),
            [max(lowest, 30_000_000_000)],
        ).fetchall()

    def first_ids(self, targets: Sequence[int]) -> dict[int, int]:
        """The lowest id that was bought of each target."""
        rows = self._connection.execute(
            "SELECT t, (SELECT min(oldest_id) FROM crawl_page WHERE target_id = t) FROM unnest(%s::bigint[]) t",
            [list(targets)],
        ).fetchall()
        return {target: lowest for target, lowest in rows if lowest is not None}

    def queries_of(self, runs: Sequence[int], limit: int) -> list[tuple[str, str]]:
        """The kinds of request that the runs sent, each with its parameters but for ids,
        tokens and names.
        """
        return self._connection.execute(
            "SELECT endpoint, params::text FROM (SELECT DISTINCT endpoint, params - ARRAY['since_id', 'until_id', "
            "'start_time', 'end_time', 'pagination_token', 'next_token', 'max_results', 'usernames', 'ids'] AS params "
            "FROM (SELECT endpoint, params FROM crawl_page WHERE run_id = ANY(%s) LIMIT 20000) s) d "
            "ORDER BY 1, 2 LIMIT %s",
            [list(runs), limit],
        ).fetchall()


_KNOWN: LiteralString = (
    "t.id, t.kind, t.key, coalesce(t.handle, t.key, ''), t.username, t.state, t.state_reason, "
    "extract(epoch FROM t.state_at)::float8, t.covered::text, t.unreachable::text, t.unreachable_reason, "
    "t.account_posts, t.post_count, extract(epoch FROM t.crawled_at)::float8, "
    "extract(epoch FROM t.due_at - clock_timestamp())::float8, latest.pages"
)
_LATEST: LiteralString = (
    "LEFT JOIN LATERAL (SELECT json_agg(json_build_array(p.post_count, p.newest_id, p.oldest_id)) AS pages "
    "FROM (SELECT post_count, newest_id, oldest_id FROM crawl_page WHERE target_id = t.id AND oldest_id IS NOT NULL "
    "ORDER BY oldest_id DESC LIMIT 3) p) latest ON true"
)


def _known(row: Sequence[Any]) -> Known:
    (
        number,
        kind,
        key,
        handle,
        username,
        state,
        reason,
        state_at,
        covered,
        unreachable,
        why,
        *rest,
    ) = row
    account_posts, posts, crawled_at, due_in_s, latest = rest
    return Known(
        number,
        kind,
        key,
        handle,
        username,
        state,
        reason,
        state_at,
        covered=coverage.from_text(covered),
        unreachable=coverage.from_text(unreachable),
        unreachable_reason=why,
        account_posts=account_posts,
        posts=posts,
        crawled_at=crawled_at,
        due_in_s=due_in_s,
        latest=[(count, newest, oldest) for count, newest, oldest in latest or ()],
    )


def _purchases(chosen: LiteralString) -> LiteralString:
    """One row for each run, UTC day, credential and endpoint.

    The posts that X charges once a day are those of a page which were stored before, as far
    as pages of the same target, endpoint and day hold them that came earlier and overlap
    with it.
    """
    return (
        "WITH repeated AS (SELECT p.run_id, p.day, p.credential, p.endpoint, "
        "sum(p.again) AS again, sum(least(p.again, coalesce(before.posts, 0))) AS free FROM ("
        "SELECT *, (fetched_at AT TIME ZONE 'UTC')::date AS day, greatest(0, post_count - new_count "
        "- coalesce(jsonb_array_length(refused), 0)) AS again FROM crawl_page WHERE post_count > new_count AND "
        + chosen
        + ") p LEFT JOIN LATERAL (SELECT sum(q.post_count) AS posts FROM crawl_page q WHERE q.target_id = p.target_id "
        "AND q.oldest_id <= p.newest_id AND q.newest_id >= p.oldest_id AND q.endpoint = p.endpoint "
        "AND (q.fetched_at, q.id) < (p.fetched_at, p.id) AND q.fetched_at >= p.day::timestamp AT TIME ZONE 'UTC'"
        ") before ON true GROUP BY 1, 2, 3, 4) "
        "SELECT b.run_id, b.day, b.credential, b.endpoint, b.pages, b.posts, b.users, b.new, "
        "coalesce(r.again, 0)::bigint, coalesce(r.free, 0)::bigint FROM ("
        "SELECT run_id, (fetched_at AT TIME ZONE 'UTC')::date AS day, credential, endpoint, count(*) AS pages, "
        "sum(post_count) AS posts, sum(user_count) AS users, sum(new_count) AS new FROM crawl_page WHERE "
        + chosen
        + " GROUP BY 1, 2, 3, 4) b LEFT JOIN repeated r USING (run_id, day, credential, endpoint) ORDER BY 1, 2, 3, 4"
    )


# By whether no run was named.
_PURCHASES: Mapping[bool, LiteralString] = {
    True: _purchases(
        "fetched_at >= coalesce(to_timestamp(%(since)s), '-infinity') "
        "AND fetched_at < coalesce(to_timestamp(%(until)s), 'infinity')"
    ),
    False: _purchases("run_id = %(run)s"),
}
# A window of an app is shown once, with the labels of all credentials that use it.
_WINDOWS: LiteralString = (
    "WITH owner AS (SELECT string_agg(label, ', ' ORDER BY label) AS label, 'user' AS kind, user_fingerprint AS subject "
    "FROM api_credential WHERE user_fingerprint IS NOT NULL GROUP BY 3 "
    "UNION ALL SELECT string_agg(label, ', ' ORDER BY label), 'app', app_fingerprint FROM api_credential GROUP BY 3) "
    'SELECT o.label, o.kind, b.endpoint, b."limit", b.remaining, b.window_s, '
    "greatest(0, extract(epoch FROM b.reset_at - clock_timestamp()))::float8, b.day_limit, b.day_remaining, "
    "greatest(0, extract(epoch FROM b.day_reset_at - clock_timestamp()))::float8, "
    "greatest(0, extract(epoch FROM b.blocked_until - clock_timestamp()))::float8, "
    "CASE WHEN b.shut_at IS NULL THEN 0 ELSE greatest(0, extract(epoch FROM b.shut_until - clock_timestamp())) "
    "END::float8, b.shut_reason "
    "FROM api_bucket b JOIN owner o USING (subject) ORDER BY 1, 2 DESC, 3"
)
