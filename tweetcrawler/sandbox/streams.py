"""The filtered stream: rules of each app, open connections, and the posts that go out on them."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tweetcrawler.sandbox.archive import Archive
from tweetcrawler.sandbox.auth import Credential
from tweetcrawler.sandbox.billing import Books
from tweetcrawler.sandbox.clock import Clock, lowest_id, rfc3339
from tweetcrawler.sandbox.fields import Asked
from tweetcrawler.sandbox.pages import Answer, of_tweets
from tweetcrawler.sandbox.people import Person
from tweetcrawler.sandbox.posts import Post
from tweetcrawler.sandbox.problems import (
    PROBLEMS,
    Body,
    Refusal,
    connection_refused,
    too_many_connections,
)
from tweetcrawler.sandbox.query import BadQuery, Query, doc_of, parse
from tweetcrawler.sandbox.world import World

STREAM = "/2/tweets/search/stream"
ENDPOINT_NAME = "filtered_stream"
RULES_CAP = 1_000
RULE_LENGTH = 1_024
# Of a window of 15 minutes; a server with shorter windows has all of it shorter.
HEARTBEAT_S, RULE_ACTS_AFTER_S, WINDOW_S = 20.0, 20.0, 900.0
# Lines that wait for a reader; X throws them away when there are more, and the line with them.
BUFFER = 10_000
CROWD = tuple(f"talker_{number}" for number in range(20))
_TICK_S = 0.05
NO_ID = 2**63 - 1


@dataclass(slots=True)
class Rule:
    """A rule of an app; it acts from a moment of the steady clock on."""

    id: str
    value: str
    tag: str | None
    query: Query
    acts_at: float

    def as_json(self) -> Body:
        shown = {"id": self.id, "value": self.value}
        return shown if self.tag is None else shown | {"tag": self.tag}


@dataclass(slots=True, eq=False)
class Connection:
    """A line to one reader, with the posts that wait for it, and its faults."""

    credential: Credential
    asked: Asked
    connected_at: float
    twists: dict[str, dict[str, Any]] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    waiting: deque[tuple[Post, Body]] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float | None = None
    why: str = ""
    sent: int = 0

    def end(self, why: str, at: float) -> None:
        """Ends the line; the first reason stays."""
        if self.ended_at is None:
            self.ended_at, self.why = at, why
        self.wake.set()

    def as_json(self) -> Body:
        shown: Body = {
            "id": self.id,
            "endpoint_name": ENDPOINT_NAME,
            "connected_at": rfc3339(self.connected_at),
            "client_ip": "127.0.0.1",
        }
        if self.ended_at is not None:
            shown |= {"disconnected_at": rfc3339(self.ended_at), "disconnect_reason": self.why}
        return shown


class Streams:
    """All rules and connections of the server.

    `most` connections are open for an app at a time. `backfill`: the plan has it.
    """

    def __init__(
        self,
        world: World,
        archive: Archive,
        clock: Clock,
        books: Books,
        *,
        window_s: float,
        most: int,
        backfill: bool,
    ) -> None:
        self._world, self._archive = world, archive
        self._clock, self._books = clock, books
        self._most, self.backfill = most, backfill
        self.scale = window_s / WINDOW_S
        self.buffer = BUFFER
        self.rate = 0.0
        self.rules: dict[str, dict[str, Rule]] = {}
        self.connections: list[Connection] = []
        self.delivered: dict[str, int] = {}
        self.lost = 0
        self._number = 1_500_000_000_000_000_000
        self._talker: asyncio.Task[None] | None = None

    def now(self) -> float:
        """Seconds since 1970 on the server's clock."""
        return self._clock.now()

    # -- rules ----------------------------------------------------------------

    def rules_of(self, app: str) -> list[Rule]:
        return list(self.rules.get(app, {}).values())

    def add_rules(self, app: str, wanted: list[Body], *, dry: bool) -> Body:
        """Adds rules; an invalid one keeps all others out, as at X."""
        known = {rule.value: rule.id for rule in self.rules_of(app)}
        made: list[Rule] = []
        errors: list[Body] = []
        invalid = 0
        for one in wanted:
            value = str(one.get("value", ""))
            if value in known:
                errors.append(_duplicate(value, known[value]))
                continue
            try:
                query = _checked(value)
            except BadQuery as error:
                invalid += 1
                errors.append(_invalid(value, str(error)))
                continue
            self._number += 1
            acts_at = self._clock.steady() + RULE_ACTS_AFTER_S * self.scale
            made.append(Rule(str(self._number), value, one.get("tag"), query, acts_at))
            known[value] = made[-1].id
        valid = len(made)
        if len(known) > RULES_CAP:
            raise _too_many_rules()
        if invalid:
            made = []
        if not dry:
            self.rules.setdefault(app, {}).update({rule.id: rule for rule in made})
        summary = {
            "created": len(made),
            "not_created": len(wanted) - len(made),
            "valid": valid,
            "invalid": len(wanted) - valid,
        }
        body: Body = {"data": [rule.as_json() for rule in made]} if made else {}
        body["meta"] = self._meta(summary)
        return body | ({"errors": errors} if errors else {})

    def delete_rules(self, app: str, ids: Iterable[str], values: Iterable[str], dry: bool) -> Body:
        """Deletes rules by id or by value."""
        own = self.rules.get(app, {})
        by_value = {rule.value: id_ for id_, rule in own.items()}
        wanted = [*ids, *(by_value.get(value, value) for value in values)]
        gone = [one for one in dict.fromkeys(wanted) if one in own]
        errors = [_no_rule(one) for one in wanted if one not in own]
        if not dry:
            for one in gone:
                del own[one]
        summary = {"deleted": len(gone), "not_deleted": len(errors)}
        body: Body = {"meta": self._meta(summary)}
        return body | ({"errors": errors} if errors else {})

    def _meta(self, summary: dict[str, int]) -> Body:
        return {"sent": rfc3339(self._clock.now()), "summary": summary}

    # -- connections ------------------------------------------------------------

    def open(
        self, credential: Credential, asked: Asked, twists: dict[str, Any], backfill_minutes: int
    ) -> Connection:
        """A new line, or Refusal: without rules, or when there are too many."""
        app = credential.app
        if not self.rules_of(app):
            raise connection_refused(409, "RuleConfigurationIssue", _NO_RULES)
        if len(self._active(app)) >= self._most:
            raise too_many_connections()
        opened = Connection(credential, asked, self._clock.now(), twists)
        self.connections.append(opened)
        if backfill_minutes:
            self._send_again(opened, backfill_minutes)
        return opened

    def _active(self, app: str) -> list[Connection]:
        return [c for c in self.connections if c.credential.app == app and c.ended_at is None]

    def of(self, app: str) -> list[Connection]:
        return [c for c in self.connections if c.credential.app == app]

    def kill(self, app: str, ids: Iterable[str] | None) -> Body:
        """Ends an app's lines, all of them or those of these ids."""
        own = {connection.id: connection for connection in self._active(app)}
        results: list[Body] = []
        for one in own if ids is None else ids:
            if one in own:
                own[one].end("operator_disconnect", self._clock.now())
                results.append({"uuid": one, "success": True})
            else:
                results.append({"uuid": one, "success": False, "error_message": "not found"})
        killed = sum(bool(each["success"]) for each in results)
        data = {"successful_kills": killed, "failed_kills": len(results) - killed}
        return {"data": data | {"results": results}}

    def end_all(self, why: str) -> int:
        """Ends every open line in the way of a fault; gives their number."""
        open_ = [each for each in self.connections if each.ended_at is None]
        for each in open_:
            each.end(why, self._clock.now())
        return len(open_)

    # -- posts --------------------------------------------------------------------

    def offer(self, name: str, ids: Iterable[int]) -> None:
        """Posts were just written by somebody: they go out on the lines whose rules match."""
        person = self._world.people.named(name)
        if person is None or person.state != "normal":
            return
        for id_ in ids:
            post = self._world.posts.tweet_of(person, id_)
            for connection in self.connections:
                if connection.ended_at is None:
                    self._queue(connection, post, person)

    def _queue(self, connection: Connection, post: Post, person: Person) -> None:
        matching = self._matching(connection.credential.app, post, person)
        if not matching:
            return
        if len(connection.waiting) >= self.buffer:
            # What waited is lost with the line, and a reader may never see the notice.
            self.lost += len(connection.waiting)
            connection.waiting.clear()
            connection.end("SlowReader", self._clock.now())
            return
        body = of_tweets(self._world, [post], connection.asked)
        body["data"] = body["data"][0]
        body["matching_rules"] = matching
        connection.waiting.append((post, body))
        connection.wake.set()

    def _matching(self, app: str, post: Post, person: Person) -> list[Body]:
        now = self._clock.steady()
        doc = doc_of(post, person, self._world.people.profile(person))
        rules = [r for r in self.rules_of(app) if now >= r.acts_at and r.query.matches(doc)]
        # X sends null for a rule that has no tag, or leaves it out.
        return [{"id": r.id} if r.tag is None else {"id": r.id, "tag": r.tag} for r in rules]

    def _send_again(self, connection: Connection, minutes: int) -> None:
        since = lowest_id(int((self._clock.now() - 60 * minutes * self.scale) * 1000))
        everybody = Query(lambda doc: True, None)  # noqa: ARG005
        found = self._archive.search(everybody, since, NO_ID)
        for id_, person, _ in reversed(list(found)):
            self._queue(connection, self._world.posts.tweet_of(person, id_), person)

    def sell(self, connection: Connection, post: Post) -> None:
        """Bills a post at its delivery, whether or not it is read. Refusal: nothing is left."""
        connection.sent += 1
        self.delivered[str(post.id)] = self.delivered.get(str(post.id), 0) + 1
        self._books.sell(connection.credential, STREAM, Answer({}, posts=[post]))
        self._books.gate(connection.credential)

    def talk(self, rate: float, write: Callable[[str], list[int]]) -> None:
        """Lets a crowd write this number of posts a second from now on."""
        self.rate = rate
        if self._talker is None:
            self._talker = asyncio.get_running_loop().create_task(self._talking(write))

    async def _talking(self, write: Callable[[str], list[int]]) -> None:
        owed, turn = 0.0, 0
        last = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(_TICK_S)
            now = asyncio.get_running_loop().time()
            owed, last = owed + self.rate * (now - last), now
            while owed >= 1:
                owed, turn = owed - 1, turn + 1
                name = CROWD[turn % len(CROWD)]
                self.offer(name, write(name))

    def as_json(self) -> Body:
        return {
            "rules": {
                app: [rule.as_json() for rule in rules.values()]
                for app, rules in self.rules.items()
            },
            "connections": [c.as_json() | {"sent": c.sent} for c in self.connections],
            "delivered": self.delivered,
            "lost": self.lost,
        }


def line_of(body: Body) -> bytes:
    """A message as it goes over the line."""
    return orjson.dumps(body) + b"\r\n"


def disconnected(kind: str) -> Body:
    """The message before X ends a line by itself."""
    return {
        "errors": [
            {
                "title": "operational-disconnect",
                "disconnect_type": kind,
                "detail": "This stream has been disconnected for operational reasons.",
                "type": PROBLEMS + "operational-disconnect",
            }
        ]
    }


_NO_RULES = "You must define rules before you can connect to this endpoint."


def _checked(value: str) -> Query:
    if len(value) > RULE_LENGTH:
        raise BadQuery(f"Rule length exceeds {RULE_LENGTH} characters")
    return parse(value, streamed=True)


def _duplicate(value: str, id_: str) -> Body:
    title, kind = "DuplicateRule", "duplicate-rules"
    return {"value": value, "id": id_, "title": title, "type": PROBLEMS + kind}


def _invalid(value: str, detail: str) -> Body:
    kind = PROBLEMS + "invalid-rules"
    return {"value": value, "details": [detail], "title": "UnprocessableEntity", "type": kind}


def _no_rule(id_: str) -> Body:
    return {
        "errors": [{"message": "Rule does not exist", "parameters": {}}],
        "id": id_,
        "title": "Invalid Request",
        "detail": "One or more parameters to your request was invalid.",
        "type": PROBLEMS + "invalid-request",
    }


def _too_many_rules() -> Refusal:
    body = {
        "title": "RulesCap",
        "detail": f"You have exceeded the maximum number of rules, {RULES_CAP}.",
        "type": PROBLEMS + "rule-cap",
        "status": 422,
    }
    return Refusal(422, body)
