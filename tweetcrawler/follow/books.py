"""Books of the room in PostgreSQL: commands, their lists, walks through them, and entries.

A page, its users, the entries that it shows, the users who are to be walked next, and the
position of the walk are one transaction, so a kill loses none of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tweetcrawler.errors import ConfigurationError, LeaseLost
from tweetcrawler.identity import is_gone
from tweetcrawler.pages import Bought
from tweetcrawler.postgres.budgets import spend
from tweetcrawler.postgres.pages import insert_page
from tweetcrawler.run import Doing

# States of walks. An incomplete one lost its place in the list, since X took its token no more;
# of a refused one X gives nothing.
WALKING, COMPLETE, SHORT, NEWEST = "walking", "complete", "short", "newest"
INCOMPLETE, REFUSED = "incomplete", "refused"
# X counts accounts that it does not list, such as suspended ones. A list with this part of the
# count is complete; less proves nothing of those who are not in it.
COMPLETE_PART = 0.97
LEASE_S = 60.0


@dataclass(frozen=True)
class Listing:
    """A list that a command walks: that of the users whom `user_id` follows, or of its followers.

    `name` is the handle for the operator, `count` X's number of entries when it was last seen.
    `left` is how many levels below are walked, too.
    """

    follow: int
    user_id: int
    is_following: bool
    name: str
    count: int | None
    left: int

    @property
    def title(self) -> str:
        """Its name for the operator."""
        return f"{'followed by' if self.is_following else 'followers of'} @{self.name}"


@dataclass(frozen=True)
class Walk:
    """A walk under way: `token` is X's hint at its next page, None at its top; `is_today`
    says that its last page came on this UTC day.
    """

    id: int
    token: str | None
    is_today: bool


@dataclass(frozen=True)
class Known:
    """A user as it was last seen: X's counts of the two lists, None where X told none."""

    user_id: int
    username: str
    followers: int | None
    following: int | None

    def count(self, is_following: bool) -> int | None:
        """X's count of one list."""
        return self.following if is_following else self.followers


def books_of(session: object) -> Books:
    """The books in the store of a session. Errors: ConfigurationError for one that has none."""
    if not isinstance(session, Doing):
        raise ConfigurationError(
            "lists are kept in a database only; leave out --csv and CSVFolder, or name a database."
        )
    return Books(session)


class Books:
    """The books, over one session."""

    def __init__(self, session: Doing) -> None:
        self._session = session

    # -- commands ------------------------------------------------------------------------------

    def open(self, asked: Mapping[str, Any]) -> int:
        """The number of this command: that of one with the same values that is not done yet."""
        given = {"asked": json.dumps(asked, sort_keys=True)}

        def work(connection: Any) -> int:
            with connection.transaction():
                connection.execute(_OPEN, given)
                return int(connection.execute(_OPENED, given).fetchone()[0])

        return self._session.do(work)

    def close(self, follow: int) -> None:
        """Ends a command, unless a list of it is open."""
        self._session.do(lambda c: c.execute(_CLOSE, [follow, follow]))

    def known(self, handles: Sequence[str], *, within_s: float) -> dict[str, Known]:
        """Users who were seen within a time, by their folded handles."""
        given = {"handles": list(handles), "within": within_s}
        rows = self._session.do(lambda c: c.execute(_KNOWN, given).fetchall())
        return {handle: Known(*rest) for handle, *rest in rows}

    def want(self, follow: int, users: Sequence[int], directions: Sequence[bool]) -> None:
        """Takes the lists of these users into a command, at its first level."""
        given = {"follow": follow, "users": sorted(users), "directions": list(directions)}
        self._session.do(lambda c: c.execute(_WANT, given))

    def lists(
        self, follow: int, level: int, *, left: int, most: int | None, largest: int | None
    ) -> list[Listing]:
        """Open lists of a level, those of users who were found most often first.

        `most` users of a command are walked in all, and no list with more than `largest`
        entries: others are noted as left out.
        """

        def work(connection: Any) -> list[tuple[Any, ...]]:
            with connection.transaction():
                given = {"follow": follow, "level": level, "most": most, "largest": largest}
                connection.execute(_LEAVE_OUT_LARGE, given)
                connection.execute(_LEAVE_OUT_MANY, given)
                found: list[tuple[Any, ...]] = connection.execute(_LISTS, given).fetchall()
                return found

        rows = self._session.do(work)
        return [
            Listing(follow, user, is_following, name, count, left)
            for user, is_following, name, count in rows
        ]

    # -- users and walks -----------------------------------------------------------------------

    def save_people(self, run: int, bought: Bought, users: Sequence[Mapping[str, Any]]) -> None:
        """Stores a page of users who were looked up."""

        def work(connection: Any) -> None:
            with connection.transaction():
                if insert_page(connection, run, bought):
                    spend(connection, run, bought)
                    _see(connection, users)

        self._session.do(work)

    def claim(self, listing: Listing, owner: str, run: int) -> Walk | None:
        """Begins or continues the walk of a list; None while another process walks it."""
        given = {
            "user": listing.user_id,
            "is_following": listing.is_following,
            "run": run,
            "owner": owner,
            "lease": LEASE_S,
            "count": listing.count,
        }

        def work(connection: Any) -> tuple[Any, ...] | None:
            with connection.transaction():
                connection.execute(_BEGIN_WALK, given)
                (holder,) = connection.execute(_HOLDER, given).fetchone() or (None,)
                free = [owner, holder] if is_gone(holder) else [owner]
                claimed = connection.execute(_CLAIM, {**given, "free": free})
                found: tuple[Any, ...] | None = claimed.fetchone()
                return found

        row = self._session.do(work)
        return Walk(*row) if row else None

    def release(self, walk: Walk, owner: str) -> None:
        """Lets another process go on with a walk."""
        self._session.do(lambda c: c.execute(_RELEASE, [walk.id, owner]))

    def save(
        self,
        run: int,
        owner: str,
        listing: Listing,
        walk: Walk,
        bought: Bought,
        users: Sequence[Mapping[str, Any]],
        token: str | None,
        *,
        stops_at_known: bool,
    ) -> str:
        """Stores a page of a walk with all that it shows; gives the state of the walk.

        A page without `token` is the last one. `stops_at_known`: a page with an entry that was
        there before is, too.

        **Errors**: `LeaseLost` when another process walks the list meanwhile; the page is stored.
        """
        others = sorted({int(user["id"]) for user in users})
        given = {
            "walk": walk.id,
            "user": listing.user_id,
            "is_following": listing.is_following,
            "others": others,
            "follow": listing.follow,
            "left": listing.left,
            "token": token,
            "lease": LEASE_S,
            "owner": owner,
        }

        def work(connection: Any) -> str | None:
            with connection.transaction():
                if not insert_page(connection, run, bought):
                    (state,) = connection.execute(_STATE, given).fetchone()
                    return str(state)
                spend(connection, run, bought)
                _see(connection, users)
                new = connection.execute(_APPEAR, given).rowcount
                seen = connection.execute(_STAGE, given).rowcount
                if listing.left > 0:
                    connection.execute(_FOUND, given)
                row = connection.execute(_MOVE_ON, {**given, "seen": seen}).fetchone()
                if row is None:
                    return None
                stops = stops_at_known and new < len(others)
                if token is not None and not stops:
                    return WALKING
                return _end(connection, given, NEWEST if stops and token else None, row)

        state = self._session.do(work)
        if state is None:
            raise LeaseLost(f"another process walks {listing.title}")
        return state

    def give_up(self, listing: Listing, walk: Walk | None, state: str, reason: str) -> None:
        """Ends a walk that cannot go on; it closes nothing. None: it was ended before."""
        given = {"walk": walk and walk.id, "state": state, "reason": reason}
        listed = [state, reason, listing.follow, listing.user_id, listing.is_following]

        def work(connection: Any) -> None:
            with connection.transaction():
                connection.execute(_END, given)
                connection.execute(_UNSTAGE, given)
                connection.execute(_FINISH, listed)

        self._session.do(work)

    def lost_its_place(self, listing: Listing) -> str | None:
        """The reason why the last walk of a list did not come to its end; None if it did."""
        given = [listing.user_id, listing.is_following]
        row = self._session.do(lambda c: c.execute(_LAST, given).fetchone())
        return row[1] if row and row[0] == INCOMPLETE else None

    def restart(self, walk: Walk) -> None:
        """Lets a walk begin again at its top; what it saw stays seen."""
        self._session.do(lambda c: c.execute(_RESTART, [walk.id]))


def _end(
    connection: Any, given: Mapping[str, Any], state: str | None, counted: tuple[int, int | None]
) -> str:
    """Ends a walk after its last page. Only one that is complete says who is gone."""
    entries, count = counted
    reason = ""
    if state is None:
        missing = max(0, (count or 0) - entries)
        state = COMPLETE if entries >= COMPLETE_PART * (count or 0) else SHORT
        reason = f"X counts {missing:,} more than it lists" if missing else ""
    if state == COMPLETE:
        connection.execute(_GO, given)
    connection.execute(_END, {**given, "state": state, "reason": reason})
    connection.execute(_UNSTAGE, given)
    # In the transaction of the page: after a kill the list is not walked once more.
    connection.execute(
        _FINISH, [state, reason, given["follow"], given["user"], given["is_following"]]
    )
    return state


def _see(connection: Any, users: Sequence[Mapping[str, Any]]) -> None:
    """Notes users as a page shows them."""
    by_id = {int(user["id"]): user for user in users}
    in_order = [by_id[number] for number in sorted(by_id)]
    # PostgreSQL's JSON takes no NUL.
    given = {"users": orjson.dumps(in_order).decode().replace("\\u0000", "")}
    connection.execute(_SEE_CHANGES, given)
    connection.execute(_SEE, given)


_OPEN = """
INSERT INTO crawl_follow (asked) VALUES (%(asked)s::jsonb)
ON CONFLICT (asked) WHERE ended_at IS NULL DO NOTHING
"""
_OPENED = "SELECT id FROM crawl_follow WHERE asked = %(asked)s::jsonb AND ended_at IS NULL"
_CLOSE = """
UPDATE crawl_follow SET ended_at = clock_timestamp() WHERE id = %s AND ended_at IS NULL
    AND NOT EXISTS (SELECT FROM crawl_follow_work WHERE follow_id = %s AND state = 'open')
"""
_KNOWN = """
SELECT DISTINCT ON (lower(username)) lower(username), id, username,
    (fields -> 'public_metrics' ->> 'followers_count')::bigint,
    (fields -> 'public_metrics' ->> 'following_count')::bigint
FROM x_user WHERE lower(username) = ANY(%(handles)s)
    AND seen_at > clock_timestamp() - %(within)s * interval '1 second'
-- A handle that changed hands is that of the user who was seen with it last.
ORDER BY lower(username), seen_at DESC
"""
_WANT = """
INSERT INTO crawl_follow_work (follow_id, user_id, is_following, level)
SELECT %(follow)s, u, d, 0 FROM unnest(%(users)s::bigint[]) u, unnest(%(directions)s::bool[]) d
ON CONFLICT DO NOTHING
"""
# The count of a list, of the user as it was last seen.
_COUNT = """
(u.fields -> 'public_metrics' ->>
    CASE WHEN w.is_following THEN 'following_count' ELSE 'followers_count' END)::bigint
"""
_LEAVE_OUT_LARGE = f"""
UPDATE crawl_follow_work w SET state = 'left out', reason = 'its list is too long'
FROM x_user u WHERE u.id = w.user_id AND w.follow_id = %(follow)s AND w.level = %(level)s
    AND w.state = 'open' AND {_COUNT} > %(largest)s
"""  # noqa: S608 - only texts of this module
_LEAVE_OUT_MANY = """
UPDATE crawl_follow_work w SET state = 'left out', reason = 'enough users are walked'
FROM (
    SELECT user_id, row_number() OVER (ORDER BY max(found_count) DESC, user_id) + (
        SELECT count(DISTINCT user_id) FROM crawl_follow_work
        WHERE follow_id = %(follow)s AND level <= %(level)s AND state NOT IN ('open', 'left out')
    ) AS number
    FROM crawl_follow_work
    WHERE follow_id = %(follow)s AND level = %(level)s AND state = 'open'
    GROUP BY user_id
) AS o
WHERE w.follow_id = %(follow)s AND w.level = %(level)s AND w.state = 'open'
    AND w.user_id = o.user_id AND o.number > %(most)s
"""
_LISTS = f"""
SELECT w.user_id, w.is_following, coalesce(u.username, w.user_id::text), {_COUNT}
FROM crawl_follow_work w LEFT JOIN x_user u ON u.id = w.user_id
WHERE w.follow_id = %(follow)s AND w.level = %(level)s AND w.state = 'open'
ORDER BY w.found_count DESC, w.user_id, w.is_following
"""  # noqa: S608 - only texts of this module
_FINISH = """
UPDATE crawl_follow_work SET state = %s, reason = %s
WHERE follow_id = %s AND user_id = %s AND is_following = %s
"""
# Accounts that must not be stored are not.
_SEE_CHANGES = """
INSERT INTO x_user_seen
SELECT n.id, clock_timestamp(), n.username, n.followers, n.following, n.posts, n.listed
FROM (
    SELECT (u ->> 'id')::bigint AS id, coalesce(u ->> 'username', '') AS username,
        (u #>> '{public_metrics,followers_count}')::bigint AS followers,
        (u #>> '{public_metrics,following_count}')::bigint AS following,
        (u #>> '{public_metrics,tweet_count}')::bigint AS posts,
        (u #>> '{public_metrics,listed_count}')::bigint AS listed
    FROM jsonb_array_elements(%(users)s::jsonb) u
) AS n
LEFT JOIN LATERAL (
    SELECT * FROM x_user_seen s WHERE s.user_id = n.id ORDER BY s.seen_at DESC LIMIT 1
) AS o ON true
WHERE NOT EXISTS (SELECT FROM crawl_tombstone_user d WHERE d.user_id = n.id)
    AND (n.username, n.followers, n.following, n.posts, n.listed) IS DISTINCT FROM
        (o.username, o.followers_count, o.following_count, o.tweet_count, o.listed_count)
"""
_SEE = """
INSERT INTO x_user AS o (id, username, fields, seen_at)
SELECT (u ->> 'id')::bigint, coalesce(u ->> 'username', ''), u, clock_timestamp()
FROM jsonb_array_elements(%(users)s::jsonb) WITH ORDINALITY AS a (u, number)
WHERE NOT EXISTS (SELECT FROM crawl_tombstone_user d WHERE d.user_id = (u ->> 'id')::bigint)
ORDER BY number
ON CONFLICT (id) DO UPDATE SET username = excluded.username, fields = excluded.fields,
    seen_at = excluded.seen_at
"""
_BEGIN_WALK = """
INSERT INTO crawl_walk (user_id, is_following, run_id, account_count)
VALUES (%(user)s, %(is_following)s, %(run)s, %(count)s)
ON CONFLICT (user_id, is_following) WHERE state = 'walking' DO NOTHING
"""
_HOLDER = """
SELECT lease_owner FROM crawl_walk
WHERE user_id = %(user)s AND is_following = %(is_following)s AND state = 'walking'
"""
_CLAIM = """
UPDATE crawl_walk SET lease_owner = %(owner)s,
    lease_until = clock_timestamp() + %(lease)s * interval '1 second'
WHERE user_id = %(user)s AND is_following = %(is_following)s AND state = 'walking'
    AND (lease_owner IS NULL OR lease_owner = ANY(%(free)s) OR lease_until < clock_timestamp())
RETURNING id, token,
    coalesce(page_at, begun_at) >= date_trunc('day', clock_timestamp(), 'UTC')
"""
_RELEASE = """
UPDATE crawl_walk SET lease_owner = NULL, lease_until = NULL WHERE id = %s AND lease_owner = %s
"""
_STATE = "SELECT state FROM crawl_walk WHERE id = %(walk)s"
_STAGE = """
INSERT INTO follow_stage SELECT %(walk)s, unnest(%(others)s::bigint[]) ON CONFLICT DO NOTHING
"""
_APPEAR = """
INSERT INTO follow_edge (user_id, other_id, first_walk, is_following)
SELECT %(user)s, o, %(walk)s, %(is_following)s FROM unnest(%(others)s::bigint[]) o
WHERE NOT EXISTS (
    SELECT FROM follow_edge f WHERE f.user_id = %(user)s AND f.other_id = o
        AND f.is_following = %(is_following)s AND f.gone_walk IS NULL
)
AND NOT EXISTS (SELECT FROM crawl_tombstone_user d WHERE d.user_id = o)
"""
_FOUND = """
INSERT INTO crawl_follow_work AS w (follow_id, user_id, is_following, level, found_count)
SELECT o.follow_id, found.other, o.is_following, o.level + 1, 1
FROM crawl_follow_work o, unnest(%(others)s::bigint[]) AS found (other)
WHERE o.follow_id = %(follow)s AND o.user_id = %(user)s AND o.is_following = %(is_following)s
ON CONFLICT (follow_id, user_id, is_following) DO UPDATE SET found_count = w.found_count + 1
"""
_MOVE_ON = """
UPDATE crawl_walk SET token = %(token)s, page_count = page_count + 1,
    entry_count = entry_count + %(seen)s, page_at = clock_timestamp(),
    lease_until = clock_timestamp() + %(lease)s * interval '1 second'
WHERE id = %(walk)s AND lease_owner = %(owner)s RETURNING entry_count, account_count
"""
_GO = """
UPDATE follow_edge f SET gone_walk = %(walk)s
WHERE f.user_id = %(user)s AND f.is_following = %(is_following)s AND f.gone_walk IS NULL
    AND NOT EXISTS (
        SELECT FROM follow_stage s WHERE s.walk_id = %(walk)s AND s.other_id = f.other_id
    )
"""
_END = """
UPDATE crawl_walk SET state = %(state)s, reason = %(reason)s, ended_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL
WHERE id = %(walk)s AND state = 'walking'
"""
_LAST = """
SELECT state, reason FROM crawl_walk WHERE user_id = %s AND is_following = %s
ORDER BY id DESC LIMIT 1
"""
_UNSTAGE = "DELETE FROM follow_stage WHERE walk_id = %(walk)s"
_RESTART = "UPDATE crawl_walk SET token = NULL WHERE id = %s AND state = 'walking'"
