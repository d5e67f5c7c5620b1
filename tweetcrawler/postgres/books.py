"""What was bought, by whom and for how much, read for status, plan and report."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, LiteralString

import orjson
import zstandard
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    Double,
    Integer,
    Select,
    Text,
    and_,
    case,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from tweetcrawler.books import Purchase, Run, Usage, Window, usage_of
from tweetcrawler.budget import Reserved
from tweetcrawler.endpoints import USAGE
from tweetcrawler.ids import EPOCH_MS, FIRST_DATED_ID
from tweetcrawler.look.sections import Section
from tweetcrawler.postgres.budgets import reservations
from tweetcrawler.postgres.known import KnownTargets
from tweetcrawler.postgres.schema import (
    api_bucket,
    api_credential,
    crawl_page,
    crawl_plan,
    crawl_refused,
    crawl_run,
    posts,
)
from tweetcrawler.postgres.statements import at, epoch, given, left_until
from tweetcrawler.rooms import rooms

_page = crawl_page.c
# A watch makes a run for each visit, a timer one a day.
RUNS_SEARCHED = 300


class Reader(KnownTargets):
    """What was bought and what is known, read in one transaction; see `Database.reader`."""

    def now(self) -> float:
        """The database's clock."""
        [(now,)] = self._rows(_NOW)
        return float(now)

    def of_rooms(self) -> list[Section]:
        """The sections of the rooms that have something to tell."""
        makers = [pkgutil.resolve_name(name) for room in rooms() for name in room.sections]
        made = [make(self._connection) for make in makers]
        return [section for section in made if section is not None]

    def states_of_rooms(self) -> list[tuple[str, Mapping[str, Any], Sequence[Section]]]:
        """States of the rooms' work: the name of each, plain values, and sections."""
        makers = [pkgutil.resolve_name(name) for room in rooms() for name in room.states]
        return [make(self._connection) for make in makers]

    def purchases(
        self, *, since: float | None = None, until: float | None = None, run: int | None = None
    ) -> list[Purchase]:
        """Purchases from `since` on and before `until`, or of one run."""
        chosen = []
        if run is not None:
            chosen.append(_page.run_id == run)
        if since is not None:
            chosen.append(_page.fetched_at >= at(since))
        if until is not None:
            chosen.append(_page.fetched_at < at(until))
        found = self._rows(_purchases(and_(true(), *chosen)))
        found += self._connection.execute(_PAST, {"since": since, "until": until, "run": run})
        return [Purchase(*row) for row in found]

    def reserved(self) -> list[Reserved]:
        """Reservations of the last 32 days, as a run under a budget sees them."""
        return [one for _, one in reservations(self._connection)]

    def refused(self) -> list[tuple[str, int, int]]:
        """Pages whose rows the table refused, by reason, with their posts; most pages first."""
        return self._rows(_REFUSED)

    def windows(self) -> list[Window]:
        """Every bucket of a known credential that was ever used."""
        return [Window(*row) for row in self._rows(_WINDOWS)]

    def runs(self, *, limit: int | None = None, run: int | None = None) -> list[Run]:
        """The last runs, the newest first; or one of them."""
        chosen = _RUNS if run is None else _RUNS.where(crawl_run.c.id == run)
        return [Run(*row) for row in self._rows(chosen.limit(limit))]

    def last_runs(self) -> list[Run]:
        """The newest run of each command, among the last few hundred."""
        newest: dict[str, Run] = {}
        for run in self.runs(limit=RUNS_SEARCHED):
            newest.setdefault(run.command, run)
        return list(newest.values())

    def last_sign(self, run: int) -> float | None:
        """The time of the newest page of a run."""
        [(at,)] = self._rows(_LAST_SIGN, run=run)
        return None if at is None else float(at)

    def plan(self, subject: str, *, before: float) -> tuple[float, Mapping[str, Any]] | None:
        """The last plan of this kind of run that was made before a moment, and when it was
        made.
        """
        rows = self._rows(_PLAN, subject=subject, before=before)
        return (rows[0][0], rows[0][1]) if rows else None

    def counted_down_to(self, query: str, since_id: int, until_id: int | None) -> float | None:
        """The moment down to which an interrupted count has come; None without one."""
        found = self._connection.execute(_COUNTED, [query, since_id, until_id]).fetchone()
        return None if found is None else float(found[0])

    def usages(self) -> list[Usage]:
        """X's last count of the project's posts, by credential."""
        found = []
        # The body is kept as X sent it: fields that X adds are there once somebody reads them.
        for credential, asked_at, body in self._connection.execute(_USAGES, [USAGE]):
            answer = orjson.loads(zstandard.decompress(body))
            if isinstance(answer, dict) and (usage := usage_of(credential, asked_at, answer)):
                found.append(usage)
        return found

    def apps(self) -> dict[str, str]:
        """The app that each credential belongs to, by labels; apps are called by a fingerprint."""
        return dict(self._rows(_APPS))

    def posts_by_day(self, *, lowest: int) -> list[tuple[date, int]]:
        """Number of stored posts by UTC day of writing, from an id on; computed from the ids."""
        t = posts(self._table)
        ms = t.c.id.op(">>")(literal_column("22")) + literal_column(str(EPOCH_MS))
        day = func.timezone("UTC", at(ms / literal_column("1000.0"))).cast(Date).label("day")
        return self._rows(
            select(day, func.count())
            .where(t.c.id >= max(lowest, FIRST_DATED_ID))
            .group_by("day")
            .order_by("day")
        )

    def queries_of(self, runs: Sequence[int], limit: int) -> list[tuple[str, str]]:
        """The kinds of request that the runs sent, each with its parameters but for ids,
        tokens and names.
        """
        return self._connection.execute(_QUERIES, [list(runs), limit]).fetchall()


def _purchases(chosen: ColumnElement[bool]) -> Select[Any]:
    """One row for each run, UTC day, credential and endpoint."""
    day = _day(_page.fetched_at).label("day")
    repeated = _repeated(chosen)
    keys = ("run_id", "day", "credential", "endpoint")
    b: Any = (
        select(
            _page.run_id,
            day,
            _page.credential,
            _page.endpoint,
            func.count().label("pages"),
            func.sum(_page.post_count).label("posts"),
            func.sum(_page.user_count).label("users"),
            func.sum(_page.new_count).label("new"),
        )
        .where(chosen)
        .group_by(*keys)
        .subquery("b")
    )
    return (
        select(
            *b.c,
            func.coalesce(repeated.c.again, 0).cast(BigInteger),
            func.coalesce(repeated.c.free, 0).cast(BigInteger),
        )
        .select_from(b.outerjoin(repeated, and_(*(b.c[k] == repeated.c[k] for k in keys))))
        .order_by(*(b.c[k] for k in keys))
    )


def _repeated(chosen: ColumnElement[bool]) -> Any:
    """Posts that were bought again, and how many of them X charges once a day.

    They are those of a page that were stored before, as far as pages of the same target,
    endpoint and day hold them that came earlier and overlap with it.
    """
    refused = func.coalesce(func.jsonb_array_length(_page.refused), 0)
    p: Any = (
        select(
            *crawl_page.c,
            _day(_page.fetched_at).label("day"),
            func.greatest(0, _page.post_count - _page.new_count - refused)
            .cast(Integer)
            .label("again"),
        )
        .where(_page.post_count > _page.new_count, chosen)
        .subquery("p")
    )
    q: Any = crawl_page.alias("q")
    before: Any = (
        select(func.sum(q.c.post_count).label("posts"))
        .where(
            q.c.target_id == p.c.target_id,
            q.c.oldest_id <= p.c.newest_id,
            q.c.newest_id >= p.c.oldest_id,
            q.c.endpoint == p.c.endpoint,
            # As a pair: of two pages of the same moment one is the earlier, whichever it is.
            tuple_(q.c.fetched_at, q.c.id) < tuple_(p.c.fetched_at, p.c.id),
            # X charges once what it gives again on the same UTC day, and again on the next.
            q.c.fetched_at >= func.timezone("UTC", p.c.day.cast(TIMESTAMP)),
        )
        .lateral("before")
    )
    keys = (p.c.run_id, p.c.day, p.c.credential, p.c.endpoint)
    free = func.least(p.c.again, func.coalesce(before.c.posts, 0))
    return (
        select(*keys, func.sum(p.c.again).label("again"), func.sum(free).label("free"))
        .select_from(p.outerjoin(before, true()))
        .group_by(*keys)
        .subquery("r")
    )


def _day(moment: ColumnElement[Any]) -> ColumnElement[date]:
    """The UTC day of a time."""
    # A cast alone would take the day in the time zone of the session.
    return func.timezone("UTC", moment).cast(Date)


def _windows() -> Select[Any]:
    """A window of an app is shown once, with the labels of all credentials that use it."""
    key = api_credential.c
    labels = func.string_agg(key.label, literal_column("', ' ORDER BY label")).label("label")
    user: ColumnElement[str] = literal_column("'user'")
    app: ColumnElement[str] = literal_column("'app'")
    owner: Any = union_all(
        select(labels, user.label("kind"), key.user_fingerprint.label("subject"))
        .where(key.user_fingerprint.is_not(None))
        .group_by(key.user_fingerprint),
        select(labels, app, key.app_fingerprint).group_by(key.app_fingerprint),
    ).subquery("o")
    # A bucket belongs to an app or to a user of it, by their fingerprints.
    b = api_bucket.c
    return (
        select(
            owner.c.label,
            owner.c.kind,
            b.endpoint,
            b.limit,
            b.remaining,
            b.window_s,
            left_until(b.reset_at),
            b.day_limit,
            b.day_remaining,
            left_until(b.day_reset_at),
            left_until(b.blocked_until),
            case((b.shut_at.is_(None), 0), else_=left_until(b.shut_until)).cast(Double),
            b.shut_reason,
        )
        .select_from(api_bucket.join(owner, owner.c.subject == b.subject))
        .order_by(owner.c.label, owner.c.kind.desc(), b.endpoint)
    )


_NOW = select(epoch(func.clock_timestamp()))
_REFUSED = (
    select(
        crawl_refused.c.reason,
        func.count().label("pages"),
        func.sum(_page.post_count).cast(BigInteger),
    )
    .select_from(crawl_refused.join(crawl_page, _page.id == crawl_refused.c.page_id))
    .group_by(crawl_refused.c.reason)
    .order_by(literal_column("pages DESC, reason"))
)
_WINDOWS = _windows()
_RUNS = select(
    crawl_run.c.id,
    crawl_run.c.version,
    crawl_run.c.host,
    epoch(crawl_run.c.started_at),
    epoch(crawl_run.c.ended_at),
    crawl_run.c.exit_code,
    crawl_run.c.arguments,
    func.coalesce(crawl_run.c.report, literal_column("'{}'::jsonb")),
).order_by(crawl_run.c.id.desc())
_PLAN = (
    select(epoch(crawl_plan.c.made_at), crawl_plan.c.plan)
    .where(
        crawl_plan.c.subject == given("subject", Text),
        crawl_plan.c.made_at <= at(given("before", Double)),
    )
    .order_by(crawl_plan.c.made_at.desc())
    .limit(1)
)
_LAST_SIGN = select(epoch(func.max(_page.fetched_at))).where(
    _page.run_id == given("run", BigInteger)
)
_APPS = select(api_credential.c.label, api_credential.c.app_fingerprint)
# Of the newest pages only: what a run asks for does not change much.
_QUERIES: LiteralString = """
SELECT endpoint, params::text FROM (
    SELECT DISTINCT endpoint, params - ARRAY['since_id', 'until_id', 'start_time', 'end_time',
        'pagination_token', 'next_token', 'max_results', 'usernames', 'ids'] AS params
    FROM (SELECT endpoint, params FROM crawl_page WHERE run_id = ANY(%s) LIMIT 20000) s
) d
ORDER BY 1, 2 LIMIT %s
"""
# Requests whose pages went brought nothing. Whole days went.
_PAST: LiteralString = """
SELECT run_id, day, credential, endpoint, pages, 0, 0, 0, 0, 0 FROM crawl_past
WHERE pages > 0 AND (%(run)s::bigint IS NULL OR run_id = %(run)s)
AND (%(since)s::float8 IS NULL
    OR day >= (to_timestamp(%(since)s) AT TIME ZONE 'UTC')::date)
AND (%(until)s::float8 IS NULL OR day < (to_timestamp(%(until)s) AT TIME ZONE 'UTC')::date)
ORDER BY 1, 2, 3, 4
"""
_COUNTED: LiteralString = """
SELECT extract(epoch FROM begins_at)::float8 FROM crawl_count
WHERE query = %s AND since_id = %s AND until_id IS NOT DISTINCT FROM %s::bigint
AND done_at IS NULL AND begins_at IS NOT NULL
"""
# X's last answer to each credential.
_USAGES: LiteralString = """
SELECT DISTINCT ON (credential) credential, extract(epoch FROM fetched_at)::float8, body
FROM crawl_page
WHERE endpoint = %s AND body IS NOT NULL AND fetched_at > clock_timestamp() - interval '60 days'
ORDER BY credential, fetched_at DESC
"""
