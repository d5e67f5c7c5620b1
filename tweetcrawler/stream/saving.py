"""Saves a segment of the stream: groups of messages as pages, with rows, rules and position.

A stream that is read now and a segment that an earlier program left are saved by the same code.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tweetcrawler.endpoints import STREAM
from tweetcrawler.flatten import flatten
from tweetcrawler.ids import EPOCH_MS, ID_MAX, id_at
from tweetcrawler.keeping.lines import parsed_json, written_json
from tweetcrawler.pages import Batch, Bought, Saved
from tweetcrawler.prices import Tariff
from tweetcrawler.run import Doing
from tweetcrawler.stream.marks import CLOSED, OPENED, UNREADABLE, Mark, Session, mark_of
from tweetcrawler.stream.rules import ACTS_AFTER_S
from tweetcrawler.stream.tail import Frame, Position

# X gives posts up to a minute after they were written: a younger time is not complete yet.
SETTLING_S = 60.0
_PAGE_OF = uuid.UUID("9f2d7b1e-6c2f-4a0e-8e3b-5d1c7a90b1f4")
_LISTS = ("users", "tweets", "posts", "media", "polls", "places", "topics")


@dataclass
class Group:
    """Messages of one connection that are saved together, and the marks between them."""

    session: Session | None
    begins: Position
    ends: Position
    lines: int = 0
    data: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    includes: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: set[tuple[int, int]] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    posts: int = 0
    opened_at: float | None = None
    last_at: float | None = None
    closed: Mark | None = None

    def add(self, frame: Frame) -> None:
        """Takes the messages of a frame."""
        self.ends = frame.ends
        for text in frame.lines:
            message = parsed_json(text)
            mark = mark_of(message)
            if mark is not None:
                self._see(mark)
            else:
                self.lines += 1
                self._take(message)

    def _see(self, mark: Mark) -> None:
        if mark.event == UNREADABLE:
            self.lines += 1
            self.others["no JSON"] += 1
            return
        self.session = mark.session or self.session
        self.last_at = max(self.last_at or 0.0, mark.at)
        if mark.event == OPENED:
            self.opened_at = mark.at
        elif mark.event == CLOSED:
            self.closed = mark

    def _take(self, message: Any) -> None:
        tweet = message.get("data") if isinstance(message, dict) else None
        if not isinstance(tweet, dict) or not isinstance(tweet.get("id"), str):
            self.others[_kind_of(message)] += 1
            return
        self.posts += 1
        self.others["again in its group"] += tweet["id"] in self.data
        self.data[tweet["id"]] = tweet
        self._include(message.get("includes"))
        if tweet["id"].isdecimal() and int(tweet["id"]) <= ID_MAX:
            self.found |= {(rule, int(tweet["id"])) for rule in _rules_in(message)}

    def _include(self, includes: Any) -> None:
        for name, things in includes.items() if isinstance(includes, dict) else ():
            kept = self.includes.setdefault(name, {})
            for thing in things if isinstance(things, list) else ():
                if isinstance(thing, dict):
                    kept[str(thing.get("media_key") or thing.get("id"))] = thing

    @property
    def answer(self) -> dict[str, Any]:
        """The messages as one page, as X gives pages of posts."""
        body: dict[str, Any] = {"data": list(self.data.values())}
        includes = {name: list(things.values()) for name, things in self.includes.items()}
        rules = [{"id": str(post), "rule": str(rule)} for rule, post in sorted(self.found)]
        return body | {"includes": includes, "matching_rules": rules}


def _kind_of(message: Any) -> str:
    """A name for a message without a post, by its content."""
    if not isinstance(message, dict):
        return "no object"
    errors = message.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        said = errors[0].get("disconnect_type") or errors[0].get("title") or "no title"
        return f"error {str(said)[:60]}"
    return f"with {', '.join(sorted(map(str, message)))[:60]}"


def _rules_in(message: Mapping[str, Any]) -> Iterable[int]:
    rules = message.get("matching_rules")
    for rule in rules if isinstance(rules, list) else ():
        # A rule without a tag has none, or null.
        number = str(rule.get("id", "")) if isinstance(rule, dict) else ""
        if number.isascii() and number.isdecimal() and len(number) < 20:
            yield int(number)


@dataclass(frozen=True)
class Done:
    """Result of saving a group; `unknown_rules` are ids that no table has."""

    saved: Saved
    session: Session | None
    unknown_rules: int = 0


class Saver:
    """Saves groups over one session of the database.

    `run` pays for messages without a mark. `score` gives the sentiment of a text.
    """

    def __init__(
        self,
        session: Any,
        *,
        run: int,
        tariff: Tariff,
        score: Callable[[str], float] | None,
        keep_body: bool,
    ) -> None:
        self._session, self._run, self._tariff = session, run, tariff
        self._score, self._keep_body = score, keep_body

    def save(self, group: Group) -> Done:
        """Saves a group in one transaction: rows, rules, page, times and position.

        **Errors**: `DatabaseUnreachable`, `DatabaseError`.
        """
        unknown = 0

        def also(connection: Any) -> bool:
            nonlocal unknown
            if not _move(connection, group):
                return False
            _note_session(connection, group)
            unknown = _note_rules(connection, group)
            return True

        run = group.session.run if group.session else self._run
        if not group.data:
            moved = self._session.do(lambda connection: _whole(connection, also))
            return Done(Saved(0, 0, leased=False, again=not moved), group.session)
        saved = self._session.save_with(run, self._batch(group), also, keep_body=self._keep_body)
        return Done(saved, group.session, unknown)

    def _batch(self, group: Group) -> Batch:
        answer = group.answer
        flattened = flatten(answer, score=self._score)
        where = group.begins
        params = {"segment": where.name, "line": str(where.line)}
        if group.session:
            params["session"] = group.session.id
        bought = Bought(
            STREAM,
            params,
            group.session.credential if group.session else "",
            written_json(answer),
            posts=group.posts,
            # The same group is the same page, however often it is saved.
            id=uuid.uuid5(_PAGE_OF, f"{where.name} {where.byte_offset}"),
            cost=self._tariff.cost(STREAM, requests=1, posts=group.posts),
        )
        refused = [(one.tweet_id, one.reason) for one in flattened.refused]
        return Batch(None, bought, flattened.rows, refused, told=flattened.told)


def _whole(connection: Any, also: Callable[[Any], bool]) -> bool:
    with connection.transaction():
        return also(connection)


def _move(connection: Any, group: Group) -> bool:
    """Moves the position on; False when it was moved already, and only the answer was lost."""
    begins, ends = group.begins, group.ends
    given = {
        "name": begins.name,
        "from": begins.byte_offset,
        "to": ends.byte_offset,
        "line": ends.line,
        "session": group.session.id if group.session else None,
    }
    connection.execute(_BEGIN, given)
    return bool(connection.execute(_MOVE, given).rowcount)


def _note_session(connection: Any, group: Group) -> None:
    session = group.session
    if session is None:
        return
    closed = group.closed
    given = {
        "id": session.id,
        "run": session.run,
        "credential": session.credential,
        "app": session.app,
        "opened": group.opened_at or group.last_at,
        "last": group.last_at,
        "closed": closed.at if closed else None,
        "why": closed.why if closed else "",
        "lines": group.lines,
        "posts": group.posts,
    }
    [(before,)] = connection.execute(_NOTE_SESSION, given).fetchall()
    counts = Counter(before) + group.others
    if group.others.total():
        connection.execute(_NOTE_OTHERS, [orjson.dumps(counts).decode(), session.id])


def _note_rules(connection: Any, group: Group) -> int:
    """Which rule found which post, and the time that the line was open; counts unknown rules."""
    rules = [rule for rule, _ in sorted(group.found)]
    posts = [post for _, post in sorted(group.found)]
    given = {"rules": rules, "posts": posts, "app": group.session.app if group.session else ""}
    known = {number for (number,) in connection.execute(_FOUND, given).fetchall()}
    if group.session and group.last_at is not None:
        until = id_at(int((group.last_at - SETTLING_S) * 1000))
        connection.execute(
            _STREAMED,
            {
                **given,
                "session": group.session.id,
                "until": until,
                "epoch": EPOCH_MS,
                "acts": ACTS_AFTER_S,
            },
        )
    return len(set(rules) - known)


def session_at(session: Doing, names: Sequence[str]) -> Session | None:
    """The connection that was open at the last saved position of these segments."""
    rows = session.do(lambda c: c.execute(_SESSION_AT, [list(names)]).fetchall())
    return Session(str(rows[0][0]), *rows[0][1:]) if rows else None


def positions(session: Doing) -> tuple[set[str], dict[str, Position]]:
    """The segments that are saved whole, and how far the others are."""
    rows = session.do(lambda connection: connection.execute(_POSITIONS).fetchall())
    done = {name for name, _, _, is_done in rows if is_done}
    return done, {name: Position(name, at, line) for name, at, line, is_done in rows if not is_done}


def note_done(session: Doing, names: Iterable[str]) -> None:
    """Notes segments that are closed and saved to their end."""
    session.do(lambda connection: connection.execute(_DONE, [list(names)]))


_POSITIONS = "SELECT name, byte_offset, line, done_at IS NOT NULL FROM crawl_stream_segment"
_DONE = """
INSERT INTO crawl_stream_segment (name, done_at) SELECT name, clock_timestamp()
FROM unnest(%s::text[]) AS n(name)
ON CONFLICT (name) DO UPDATE SET done_at = coalesce(crawl_stream_segment.done_at, excluded.done_at)
"""
_BEGIN = "INSERT INTO crawl_stream_segment (name) VALUES (%(name)s) ON CONFLICT DO NOTHING"
# Two programs that save the same segment take turns at its row, and the later one sees that it
# is not where it was.
_MOVE = """
UPDATE crawl_stream_segment SET byte_offset = %(to)s, line = %(line)s, session_id = %(session)s
WHERE name = %(name)s AND byte_offset = %(from)s
"""
_NOTE_SESSION = """
INSERT INTO crawl_stream AS s (id, run_id, credential, app, opened_at, last_byte_at, closed_at,
    why, line_count, post_count)
VALUES (%(id)s, %(run)s, %(credential)s, %(app)s,
    coalesce(to_timestamp(%(opened)s), clock_timestamp()),
    coalesce(to_timestamp(%(last)s), clock_timestamp()), to_timestamp(%(closed)s), %(why)s,
    %(lines)s, %(posts)s)
ON CONFLICT (id) DO UPDATE SET
    opened_at = least(s.opened_at, coalesce(to_timestamp(%(opened)s), s.opened_at)),
    last_byte_at = greatest(s.last_byte_at, to_timestamp(%(last)s)),
    closed_at = coalesce(excluded.closed_at, s.closed_at),
    why = coalesce(nullif(excluded.why, ''), s.why),
    line_count = s.line_count + excluded.line_count,
    post_count = s.post_count + excluded.post_count
RETURNING other_counts
"""
_NOTE_OTHERS = "UPDATE crawl_stream SET other_counts = %s::jsonb WHERE id = %s"
_FOUND = """
WITH match AS (
    SELECT r.rule_id, r.target_id, f.post
    FROM unnest(%(rules)s::bigint[], %(posts)s::bigint[]) AS f(rule, post)
    JOIN crawl_rule r ON r.rule_id = f.rule
), counted AS (
    UPDATE crawl_rule r SET post_count = r.post_count + n.posts
    FROM (SELECT rule_id, count(*) AS posts FROM match GROUP BY 1) n
    WHERE r.rule_id = n.rule_id
), found AS (
    INSERT INTO crawl_found (target_id, tweet_id)
    SELECT DISTINCT target_id, post FROM match
    WHERE NOT EXISTS (SELECT FROM crawl_tombstone WHERE tweet_id = post)
    ORDER BY 1, 2 ON CONFLICT DO NOTHING
)
SELECT DISTINCT rule_id FROM match
"""
# From the time when the line was open and the rule acted, to the time that is complete by now.
_STREAMED = """
UPDATE crawl_rule r SET streamed = r.streamed + int8multirange(int8range(
    least(b.lowest, %(until)s), %(until)s))
FROM (
    SELECT r.rule_id, (greatest(0, (extract(epoch FROM greatest(
        s.opened_at, r.since + %(acts)s * interval '1 s')) * 1000)::bigint - %(epoch)s)
        * 4194304) AS lowest
    FROM crawl_rule r, crawl_stream s
    WHERE s.id = %(session)s AND r.app = %(app)s AND r.until IS NULL
) b
WHERE r.rule_id = b.rule_id
"""
_SESSION_AT = """
SELECT s.id, s.run_id, s.credential, s.app
FROM crawl_stream_segment g JOIN crawl_stream s ON s.id = g.session_id
WHERE g.name = ANY(%s) ORDER BY g.name DESC LIMIT 1
"""
