"""Endpoints of the filtered stream and its connections, and the sending of its messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tweetcrawler.sandbox import faults, params, problems
from tweetcrawler.sandbox.clock import rfc3339
from tweetcrawler.sandbox.endpoints import Call, Endpoint
from tweetcrawler.sandbox.pages import Answer
from tweetcrawler.sandbox.params import TWEET_RULES, Rules
from tweetcrawler.sandbox.posts import Post
from tweetcrawler.sandbox.problems import Body, Refusal
from tweetcrawler.sandbox.streams import (
    ENDPOINT_NAME,
    HEARTBEAT_S,
    RULES_CAP,
    STREAM,
    Connection,
    Streams,
    disconnected,
    line_of,
)

RULES = f"{STREAM}/rules"
CONNECTIONS = "/2/connections"
_LOOK_S = 0.1


# -- rules --------------------------------------------------------------------------


def _rules(call: Call) -> Answer:
    found = [rule.as_json() for rule in _streams(call).rules_of(call.caller.credential.app)]
    wanted = call.values.get("ids")
    if wanted is not None:
        found = [rule for rule in found if rule["id"] in wanted]
    start, size = int(call.values.get("pagination_token", 0)), call.values.get("max_results", 1000)
    page = found[start : start + size]
    meta: Body = {"sent": rfc3339(call.place.clock.now()), "result_count": len(page)}
    if start + size < len(found):
        meta["next_token"] = f"{start + size:016d}"
    return Answer({"data": page, "meta": meta} if page else {"meta": meta})


def _change_rules(call: Call) -> Answer:
    streams, app = _streams(call), call.caller.credential.app
    dry = call.values.get("dry_run") == "true"
    add, delete = call.sent.get("add"), call.sent.get("delete")
    if call.values.get("delete_all") == "true":
        return Answer(
            streams.delete_rules(app, [rule.id for rule in streams.rules_of(app)], (), dry)
        )
    if isinstance(add, list) and add and all(isinstance(one, dict) for one in add):
        body = streams.add_rules(app, add, dry=dry)
        return Answer(body, status=201 if "data" in body else 200)
    if isinstance(delete, dict) and (delete.get("ids") or delete.get("values")):
        ids, values = delete.get("ids", []), delete.get("values", [])
        return Answer(streams.delete_rules(app, ids, values, dry))
    raise problems.invalid(
        [problems.wrong_parameter("add", [""], "One of `add` and `delete` is required")]
    )


def _rule_counts(call: Call) -> Answer:
    app = call.caller.credential.app
    count = len(_streams(call).rules_of(app))
    own = {"client_app_id": app, "rule_count": count}
    return Answer(
        {
            "data": {
                "cap_per_client_app": RULES_CAP,
                "cap_per_project": RULES_CAP,
                "client_app_rules_count": own,
                "project_rules_count": count,
                "all_project_client_apps": [own],
            }
        }
    )


# -- connections --------------------------------------------------------------------


def _open(call: Call) -> Answer:
    streams = _streams(call)
    minutes = call.values.get("backfill_minutes", 0)
    if minutes and not streams.backfill:
        sentence = "The `backfill_minutes` query parameter is not offered to your plan"
        raise problems.invalid(
            [problems.wrong_parameter("backfill_minutes", [str(minutes)], sentence)]
        )
    twists = {name: dict(wanted) for name, wanted in call.twists.items()}
    opened = streams.open(call.caller.credential, call.asked, twists, minutes)
    return Answer({}, line=opened)


def _connections(call: Call) -> Answer:
    status = call.values.get("status", "active")
    found = [
        connection.as_json()
        for connection in _streams(call).of(call.caller.credential.app)
        if status == "all" or (connection.ended_at is None) == (status == "active")
    ][: call.values.get("max_results", 10)]
    meta = {"result_count": len(found)}
    return Answer({"data": found, "meta": meta} if found else {"meta": meta})


def _kill(call: Call) -> Answer:
    ids = call.sent.get("uuids")
    if not isinstance(ids, list) or not ids:
        raise problems.invalid([problems.wrong_parameter("uuids", [""], "uuids can not be empty")])
    return Answer(_streams(call).kill(call.caller.credential.app, map(str, ids)))


def _kill_all(call: Call) -> Answer:
    if call.path.get("endpoint_id", ENDPOINT_NAME) != ENDPOINT_NAME:
        return Answer({"data": {"successful_kills": 0, "failed_kills": 0, "results": []}})
    return Answer(_streams(call).kill(call.caller.credential.app, None))


def _streams(call: Call) -> Streams:
    streams = call.place.streams
    if streams is None:
        raise problems.not_found()
    return streams


_TRUTH = params.one_of("true", "false")
_APP = ("app",)
TABLE = (
    Endpoint(
        RULES,
        _APP,
        Rules(
            {
                "ids": params.list_of(params.ID, RULES_CAP),
                "max_results": params.number_between(1, RULES_CAP),
                "pagination_token": params.any_text,
            }
        ),
        _rules,
    ),
    Endpoint(
        RULES, _APP, Rules({"dry_run": _TRUTH, "delete_all": _TRUTH}), _change_rules, method="POST"
    ),
    Endpoint(f"{RULES}/counts", _APP, Rules({"rules_count.fields": params.any_text}), _rule_counts),
    Endpoint(
        STREAM,
        _APP,
        Rules(TWEET_RULES | {"backfill_minutes": params.number_between(0, 5)}),
        _open,
    ),
    Endpoint(
        CONNECTIONS,
        _APP,
        Rules(
            {
                "status": params.one_of("active", "inactive", "all"),
                "endpoints": params.any_text,
                "max_results": params.number_between(1, 100),
                "pagination_token": params.any_text,
                "connection.fields": params.any_text,
            }
        ),
        _connections,
    ),
    Endpoint(CONNECTIONS, _APP, Rules({}), _kill, method="DELETE"),
    Endpoint(f"{CONNECTIONS}/all", _APP, Rules({}), _kill_all, method="DELETE"),
    Endpoint(f"{CONNECTIONS}/:endpoint_id", _APP, Rules({}), _kill_all, method="DELETE"),
)


# -- the line -----------------------------------------------------------------------


class Sender:
    """Sends the messages of one connection until one side ends it."""

    def __init__(
        self,
        streams: Streams,
        connection: Connection,
        request: web.BaseRequest,
        left: Callable[[], bool],
    ) -> None:
        self._streams, self._connection, self._request = streams, connection, request
        self._left = left
        self._silent = False
        self._twists = connection.twists
        self._now = asyncio.get_running_loop().time

    async def run(self, headers: dict[str, str]) -> web.StreamResponse:
        """The answer, once it has ended."""
        self._response = web.StreamResponse(status=200, headers=headers)
        self._response.enable_chunked_encoding()
        await self._response.prepare(self._request)
        try:
            await self._all()
        except (ConnectionError, asyncio.CancelledError):
            self._end("client_disconnect")
        except Refusal:
            # Nothing is left to be sold: X ends the line, and says the rest at the next connect.
            await self._say_why("OperationalDisconnect")
            self._end("quota")
        return self._response

    async def _all(self) -> None:
        connection, streams = self._connection, self._streams
        if "stream-close" in self._twists:
            self._end("operator_disconnect")
            return
        beat_s = HEARTBEAT_S * streams.scale
        beat_at = self._now() + beat_s
        while not self._left() and connection.ended_at is None:
            connection.wake.clear()
            if connection.waiting and not self._silent:
                await self._send_waiting()
                beat_at = self._now() + beat_s
                continue
            with contextlib.suppress(TimeoutError):
                wait_s = min(_LOOK_S, max(0.0, beat_at - self._now()))
                await asyncio.wait_for(connection.wake.wait(), wait_s)
            if self._now() >= beat_at:
                beat_at = self._now() + beat_s
                if not self._silent:
                    await self._response.write(b"\r\n")
        await self._ended()

    async def _send_waiting(self) -> None:
        connection, twists = self._connection, self._twists
        if "stream-late" in twists:
            await asyncio.sleep(float(twists.pop("stream-late").get("delay_s", 30)))
        if "stream-unordered" in twists and len(connection.waiting) > 1:
            connection.waiting.reverse()
        post, body = connection.waiting.popleft()
        if "stream-rule-without-tag" in twists:
            body["matching_rules"] = [{"id": rule["id"]} for rule in body["matching_rules"]]
        if "stream-unknown-line" in twists:
            await self._response.write(line_of({"a_message_of_2031": {"since": 1}}))
        if "stream-garbage" in twists:
            await self._response.write(b"<html>oh\r\n")
        for name in ("stream-cut", "stream-half-line", "stream-silence", "stream-disconnect"):
            if name in twists and connection.sent >= int(twists[name].get("after", 0)):
                await self._break(name, post, body)
                return
        for _ in range(2 if "stream-duplicates" in twists else 1):
            await self._send(post, body)

    async def _send(self, post: Post, body: Body) -> None:
        try:
            self._streams.sell(self._connection, post)
        finally:
            await self._response.write(line_of(body))

    async def _break(self, name: str, post: Post, body: Body) -> None:
        """What ends a line, or lets nothing through it any more."""
        wanted = self._twists[name]
        if name == "stream-silence":
            # What is written meanwhile is lost to this reader.
            self._silent = True
            self._connection.waiting.clear()
        elif name == "stream-disconnect":
            await self._say_why(str(wanted.get("disconnect_type", "UpstreamOperationalDisconnect")))
            self._end("upstream_disconnect")
        else:
            line = line_of(body)
            with contextlib.suppress(Refusal):
                self._streams.sell(self._connection, post)
            await self._response.write(line[: len(line) // 2])
            self._end("cut" if name == "stream-cut" else "half-line")

    async def _say_why(self, kind: str) -> None:
        with contextlib.suppress(ConnectionError):
            await self._response.write(line_of(disconnected(kind)))

    async def _ended(self) -> None:
        """The ways in which a line ends: by a reset, or in order."""
        why = self._connection.why
        if why in ("cut", "SlowReader"):
            await faults.reset(self._request)
        elif why == "disconnect":
            await self._say_why("ForceDisconnect")
        elif why == "silence":
            while not self._left():
                await asyncio.sleep(_LOOK_S)
        elif not why:
            self._end("client_disconnect")

    def _end(self, why: str) -> None:
        self._connection.end(why, self._streams.now())


def sender(
    streams: Streams, line: Any, request: web.BaseRequest, left: Callable[[], bool]
) -> Sender:
    """Who sends the messages of a line that an endpoint has opened."""
    assert isinstance(line, Connection)  # noqa: S101 - only `_open` makes one
    return Sender(streams, line, request, left)
