"""The HTTP side: a request in, an answer out.

Between them are keys, windows, rules and bills, and perhaps a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.sandbox import Options, faults, problems
from tweetcrawler.sandbox.archive import Archive
from tweetcrawler.sandbox.auth import Caller, Keys, write_csv
from tweetcrawler.sandbox.billing import Books
from tweetcrawler.sandbox.clock import Clock
from tweetcrawler.sandbox.compliance import Jobs, StorageRefusal
from tweetcrawler.sandbox.control import Control, NotThere
from tweetcrawler.sandbox.endpoints import Call, Endpoint, Place
from tweetcrawler.sandbox.fast import FastPages
from tweetcrawler.sandbox.faults import Faults, Met
from tweetcrawler.sandbox.fields import asked
from tweetcrawler.sandbox.limits import PLANS, Limit, Limits, Permit, Subject
from tweetcrawler.sandbox.pages import Answer
from tweetcrawler.sandbox.problems import Refusal
from tweetcrawler.sandbox.recorded import RecordedWorld
from tweetcrawler.sandbox.routes import route
from tweetcrawler.sandbox.streaming import sender
from tweetcrawler.sandbox.streams import Streams
from tweetcrawler.sandbox.world import MadeWorld

NEWEST_BEFORE_START_S = 300
SMALLEST_COMPRESSED = 600


def run(options: Options, *, ready: Callable[[str], None], stop: threading.Event | None) -> None:
    """Serves until it is told to end."""
    sandbox = Sandbox(options)
    if options.write_auth is not None:
        try:
            write_csv(options.write_auth, sandbox.keys.all)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {options.write_auth} ({error.strerror}); name a file in a folder "
                "that exists and may be written"
            ) from error
    gc.set_threshold(
        20_000, 20, 50
    )  # a page is thousands of objects without cycles; looking for some took a fifth
    gc.freeze()
    asyncio.run(_serve(sandbox, options, ready, stop))


async def _serve(
    sandbox: Sandbox, options: Options, ready: Callable[[str], None], stop: threading.Event | None
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
    runner = web.ServerRunner(web.Server(sandbox.handle, access_log=None), shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {options.host}:{options.port} ({error.strerror}); choose "
                "another port"
            ) from error
        port = runner.addresses[0][1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        ready(f"http://{host}:{port}")
        while not ended.is_set() and not (stop is not None and stop.is_set()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.1 if stop is not None else None)
    finally:
        sandbox.ending = True
        await runner.cleanup()


class Sandbox:
    """The whole server but its socket."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ending = False
        self.clock = Clock()
        table = dict(PLANS[options.plan])
        for endpoint, (app, user) in options.limits.items():
            if endpoint not in table:
                raise ConfigurationError(
                    f"{endpoint} is no endpoint of the sandbox; there are {', '.join(table)}"
                )
            table[endpoint] = Limit(app, user)
        self.limits = Limits(self.clock, options.window_s, table)
        self.keys = Keys(
            options.seed,
            options.credentials,
            shared_app=options.shared_app,
            shared_project=options.shared_project,
        )
        self.books = Books(self.clock, options.cap, options.credits_usd)
        self.faults = Faults(self.clock.steady, options.seed)
        newest_ms = int((self.clock.now() - NEWEST_BEFORE_START_S) * 1000)
        self.world = (
            MadeWorld(
                options.seed,
                newest_ms,
                options.posts,
                grows_by=self.clock.now if options.growing else None,
            )
            if options.recorded is None
            else RecordedWorld(options.recorded)
        )
        for name in _handles(options.handles):
            self.world.people.named(name)
        self.jobs = Jobs(self.world, self.clock, options.seed, options.compliance_s)
        self.place = Place(
            self.world,
            Archive(self.world),
            self.clock,
            self.books,
            options.short_pages_of_1000,
            self.jobs,
        )
        if options.fast and isinstance(self.world, MadeWorld):
            self.place.fast = FastPages(self.world, newest_ms, options.posts and options.posts[1])
        is_large = options.plan == "unlimited"
        self.streams = self.place.streams = Streams(
            self.world,
            self.place.archive,
            self.clock,
            self.books,
            window_s=options.window_s,
            most=5 if is_large else 1,
            backfill=is_large,
        )
        self.control = Control(
            self.world,
            self.books,
            self.limits,
            self.keys,
            self.faults,
            self.clock,
            self.jobs,
            self.place.fast,
            self.place.archive,
            self.streams,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.startswith("/sandbox/"):
            return await self._controlled(request)
        if self.options.latency_ms:
            await asyncio.sleep(self.options.latency_ms / 1000)
        if path == "/oauth2/token":
            return await self._token(request)
        if path.startswith("/storage/"):
            return await self._storage(request)
        found = route(request.method, request.rel_url.raw_path)
        if found is None:
            return self._unknown_path(request)
        return await self._answered(request, *found)

    # -- one API request ------------------------------------------------------

    async def _answered(
        self, request: web.BaseRequest, endpoint: Endpoint, path: dict[str, str]
    ) -> web.StreamResponse:
        target = request.raw_path
        authorization = request.headers.get("Authorization", "")
        caller = self.keys.caller(request.method, request.host, target, authorization)
        claimed = self.keys.claimed(authorization)
        # The books count refused keys, too, under the name of their holder.
        name = "none" if claimed is None else claimed.name
        sent = parse_qsl(target.partition("?")[2], keep_blank_values=True)
        kind = "" if caller is None else caller.kind
        taken = self.faults.take(self._met(endpoint, path, name, sent, kind))
        self.books.faults.update(taken.keys())
        if "delay" in taken:
            await asyncio.sleep(float(taken["delay"].get("delay_s", 1)))
        if "black-hole" in taken:
            return await self._nothing(request, name, endpoint)
        headers: dict[str, str] = {}
        answer: Answer | None = None
        posted = b"" if request.method == "GET" else await request.read()
        try:
            answer = self._answer(request, endpoint, path, caller, sent, taken, headers, posted)
            status: int = answer.status
            body = faults.bend_body(
                taken, _dumped(answer.body) if answer.raw is None else answer.raw
            )
            content_type = "application/json; charset=utf-8"
        except Refusal as refused:
            status = refused.status
            body = refused.body if isinstance(refused.body, bytes) else _dumped(refused.body or {})
            content_type = refused.content_type
            headers |= refused.headers
        broken = bool(taken.keys() & faults.BREAKING)
        # Sold before it is sent, as at X: an answer that gets lost on its way is charged.
        self.books.count_request(name, endpoint.name, status)
        if answer is not None and caller is not None:
            self.books.sell(caller.credential, endpoint.name, answer, broken=broken)
        faults.bend_headers(taken, headers)
        headers["Content-Type"] = content_type
        headers["Date"] = self.clock.http_date()
        headers["x-access-level"] = "read"
        headers["x-transaction-id"] = f"{id(request):016x}"
        headers["server"] = "sandbox"
        if answer is not None and answer.line is not None:
            left = lambda: self._left(request)  # noqa: E731
            return await sender(self.streams, answer.line, request, left).run(headers)
        return await self._send(request, status, headers, body, taken)

    def _answer(
        self,
        request: web.BaseRequest,
        endpoint: Endpoint,
        path: dict[str, str],
        caller: Caller | None,
        sent: list[tuple[str, str]],
        taken: dict[str, dict[str, Any]],
        headers: dict[str, str],
        posted: bytes,
    ) -> Answer:
        """The answer, or Refusal.

        `headers` get the rate-limit headers as soon as they are known.
        """
        standing_in = next(iter(taken.keys() & faults.ANSWERS), None)
        # The order below is that of X: keys, window, kind of token, plan, parameters, cap. A
        # request with a wrong parameter has used up its place in the window.
        if standing_in is not None and standing_in in faults.UNCOUNTED:
            raise self._stand_in(standing_in, taken, endpoint, caller, sent, path)
        if caller is None:
            raise problems.unauthorized()
        if request.method != endpoint.method:
            raise problems.not_found()
        subject = Subject(caller.kind, caller.bucket, caller.credential.name)
        permit: Permit = self.limits.take(endpoint.name, subject, caller.credential.app)
        headers |= permit.headers
        if not permit.open:
            raise problems.window_closed()
        if standing_in is not None:
            raise self._stand_in(standing_in, taken, endpoint, caller, sent, path)
        if caller.kind not in endpoint.kinds:
            raise problems.wrong_kind_of_token(caller.used, endpoint.supported)
        limit = self.limits.limit_of(endpoint.name, caller.credential.name)
        if (limit.app if caller.kind == "app" else limit.user) is None:
            raise problems.not_in_plan(caller.credential.app)
        # X says 429 with permits left; no header tells that the archive is counted by the second,
        # too.
        if endpoint.template == "/2/tweets/search/all" and self.limits.too_fast(subject):
            raise problems.window_closed()
        values = endpoint.rules.check(sent)
        # What was used can be asked for when it is used up, above all. Nor does X sell anything
        # by jobs.
        if not endpoint.template.startswith(("/2/usage/", "/2/compliance/")):
            self.books.gate(caller.credential)
        twisting = faults.PAGES | faults.STREAM
        twists = {name: wanted for name, wanted in taken.items() if name in twisting}
        call = Call(self.place, caller, path, values, asked(values), _posted(posted), twists)
        call.base_url = f"http://{request.host}"
        return endpoint.answer(call)

    def _stand_in(
        self,
        name: str,
        taken: dict[str, dict[str, Any]],
        endpoint: Endpoint,
        caller: Caller | None,
        sent: list[tuple[str, str]],
        path: dict[str, str],
    ) -> Refusal:
        token = next(
            (value for key, value in sent if key in ("pagination_token", "next_token")), ""
        )
        app = "1" if caller is None else caller.credential.app
        return faults.refusal(
            name,
            taken[name],
            app=app,
            supported=endpoint.supported,
            token=token,
            subject=path.get("id", ""),
        )

    def _met(
        self,
        endpoint: Endpoint,
        path: dict[str, str],
        credential: str,
        sent: list[tuple[str, str]],
        kind: str,
    ) -> Met:
        names = {name for name, _ in sent}

        def about() -> frozenset[str]:
            found = {path["username"].lower()} if "username" in path else set()
            for key, value in [("ids", path.get("id", "")), *sent]:
                if key == "usernames":
                    found.update(value.lower().split(","))
                elif key == "ids" and endpoint.template.startswith("/2/users"):
                    numbered = self.world.people.numbered
                    people = (numbered(int(one)) for one in value.split(",") if one.isdigit())
                    found.update(
                        name.lower()
                        for person in people
                        if person
                        for name in (person.username, person.key)
                    )
            return frozenset(found)

        has_token = bool(names & {"pagination_token", "next_token"})
        return Met(
            endpoint.name, credential, about, has_token, has_token or "until_id" in names, kind
        )

    # -- sending ----------------------------------------------------------------

    async def _send(
        self,
        request: web.BaseRequest,
        status: int,
        headers: dict[str, str],
        body: bytes,
        taken: dict[str, dict[str, Any]],
    ) -> web.StreamResponse:
        # Cut before it is compressed: the transport is in order, and only the JSON is not.
        if "truncated-json" in taken:
            body = body[: len(body) * 2 // 3]
        if (
            self.options.gzip
            and len(body) >= SMALLEST_COMPRESSED
            and "gzip" in request.headers.get("Accept-Encoding", "")
            and "slowloris" not in taken
        ):
            body = _compressed(body)
            headers["Content-Encoding"] = "gzip"
        if "bad-gzip" in taken:
            headers["Content-Encoding"] = "gzip"
            # The head of a gzip file with junk after it.
            body = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xff" * 200
        if "slowloris" in taken:
            return await self._drip(
                request, status, headers, body, float(taken["slowloris"].get("interval_s", 0.5))
            )
        if "cut-body" in taken:
            return await self._cut(request, status, headers, body)
        return web.Response(status=status, headers=headers, body=body)

    async def _drip(
        self,
        request: web.BaseRequest,
        status: int,
        headers: dict[str, str],
        body: bytes,
        interval_s: float,
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=status, headers=headers | {"Content-Length": str(len(body))}
        )
        await response.prepare(request)
        for number in range(len(body)):
            # Else a test would wait for a drip that nobody reads.
            if self._left(request):
                break
            await response.write(body[number : number + 1])
            await asyncio.sleep(interval_s)
        return response

    async def _cut(
        self, request: web.BaseRequest, status: int, headers: dict[str, str], body: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        await faults.reset(request)
        return response

    async def _nothing(
        self, request: web.BaseRequest, name: str, endpoint: Endpoint
    ) -> web.StreamResponse:
        # Nothing is sold: X has not answered. The caller cannot know that.
        self.books.count_request(name, endpoint.name, "none")
        while not self._left(request):
            await asyncio.sleep(0.1)
        return web.Response(status=504)

    def _left(self, request: web.BaseRequest) -> bool:
        return self.ending or request.transport is None or request.transport.is_closing()

    # -- what is no endpoint ------------------------------------------------------

    def _unknown_path(self, request: web.BaseRequest) -> web.StreamResponse:
        date = {"Date": self.clock.http_date()}
        # All of v1.1 gives the one 403 that closed it; other unknown paths give an empty 404.
        if request.path.startswith("/1.1/"):
            return web.Response(
                status=403,
                body=_dumped(problems.v1_closed().body),
                headers=date,
                content_type="application/json",
            )
        return web.Response(status=404, headers=date)

    async def _storage(self, request: web.BaseRequest) -> web.StreamResponse:
        """The storage of uploads and downloads: a signed address is all that it wants."""
        endpoint = f"{request.method} /storage"
        met = Met(endpoint, "none", frozenset, has_token=False, goes_on=False)
        taken = self.faults.take(met)
        self.books.faults.update(taken.keys())
        # Not `read()`, which takes a megabyte: a list of ids may have hundreds.
        body = await request.content.read()
        status, found, content_type = 200, b"", "text/plain"
        try:
            found = self._stored(request, body, taken)
        except StorageRefusal as refusal:
            status, found, content_type = refusal.status, refusal.body, "application/xml"
        self.books.count_request("none", endpoint, status)
        # A fault at the end: the file has arrived, and its sender cannot know it.
        if "delay" in taken:
            await asyncio.sleep(float(taken["delay"].get("delay_s", 1)))
        headers = {"Content-Type": content_type, "Date": self.clock.http_date()}
        return await self._send(request, status, headers, found, taken)

    def _stored(
        self, request: web.BaseRequest, body: bytes, taken: dict[str, dict[str, Any]]
    ) -> bytes:
        # A key that is sent there is a key that is given away.
        if "Authorization" in request.headers:
            raise StorageRefusal(400, "InvalidArgument")
        if "status" in taken:
            raise StorageRefusal(int(taken["status"].get("status", 503)), "InternalError")
        kind, query = request.headers.get("Content-Type", ""), dict(request.query)
        return self.jobs.stored(request.method, request.path, query, kind, body)

    async def _token(self, request: web.BaseRequest) -> web.StreamResponse:
        header = request.headers.get("Authorization", "")
        owner = self.keys.claimed(header)
        bearer = self.keys.bearer_for(header) if request.method == "POST" else None
        form = dict(parse_qsl((await request.read()).decode(errors="replace")))
        if bearer is None or form.get("grant_type") != "client_credentials":
            # The one place where X answers wrong keys with 403, in the manner of v1.1.
            status, body = 403, problems.wrong_consumer_keys()
        else:
            status, body = 200, {"token_type": "bearer", "access_token": bearer}
        self.books.count_request("none" if owner is None else owner.name, "/oauth2/token", status)
        return web.Response(
            status=status,
            body=_dumped(body),
            content_type="application/json",
            charset="utf-8",
            headers={"Date": self.clock.http_date()},
        )

    async def _controlled(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        try:
            sent = orjson.loads(raw) if raw else {}
            found = self.control.answer(request.method, request.path, dict(request.query), sent)
            status = 200
        except NotThere as error:
            status, found = 404, {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            status, found = 400, {"error": f"{type(error).__name__}: {error}"}
        body = found if isinstance(found, bytes) else _dumped(found)
        return web.Response(
            status=status, body=body, content_type="application/json", charset="utf-8"
        )


def _dumped(body: object) -> bytes:
    return orjson.dumps(body)


def _posted(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body."""
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise problems.invalid([problems.wrong_parameter("body", [""], "Invalid JSON body")])
    return found


def _compressed(body: bytes) -> bytes:
    # Window bits of 31 write a gzip head; level 1, since this machine pays for both ends.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def _handles(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path} ({error.strerror}); name a file with one handle a line"
        ) from error
    return [
        name
        for line in text.splitlines()
        if (name := line.strip().lstrip("@")) and not name.startswith("#")
    ]
