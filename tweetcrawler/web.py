"""HTTP with a deadline for the whole answer, a limit of its size, and no secret in its errors.

The only user of requests. What requests and urllib3 raise holds the request with its keys and
its proxy's password, so none of it leaves this module: only a sentence of ours does.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.secret import Secret

__all__ = ["Line", "NoAnswer", "Opened", "Response", "Timeouts", "Untouched", "server_time"]

# The type by which tweepy is told to hand an answer on as it is.
Untouched = requests.Response

_PIECE_BYTES = 256 * 1024
# What requests and urllib3 let out of themselves when an answer is malformed: urllib3
# raises RuntimeError when a body that broke off while it was decompressed is closed.
_LEAKED = (OSError, ValueError, EOFError, RuntimeError, HTTPException)
_BROKEN = (requests.RequestException, HTTPError, *_LEAKED)
# http.client tells the status with which a proxy refuses CONNECT in the text of an OSError only.
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
_PROXY_AUTHENTICATION_REQUIRED = 407
# How often a watch looks whether there is another socket to cut.
_CUT_AGAIN_S = 0.05


@dataclass(frozen=True)
class Timeouts:
    """Seconds to connect, between two bytes, and for a whole answer."""

    connect_s: float = 5.0
    read_s: float = 30.0
    total_s: float = 60.0


@dataclass(frozen=True)
class Response:
    """One answer: its status, its headers (found in any case), and its body, decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Opened:
    """An answer that is read while it comes: its status, its headers, and its bytes so far.

    **Errors**: `NoAnswer` when the line breaks, or is silent for longer than it may be.
    """

    def __init__(
        self, answered: requests.Response, line: Line, way: _Way, *, most: int, silent_s: float
    ) -> None:
        self._silent_s = silent_s
        self.status = answered.status_code
        self.headers: Mapping[str, str] = answered.headers
        self._answered, self._line, self._way, self._most = answered, line, way, most

    def read(self, within_s: float) -> bytes:
        """All bytes that are here, after a wait for the first of them; none at the end.

        What comes so fast that there is no pause is gathered for `within_s`.
        """
        gives_up_at = time.monotonic() + within_s
        received = self._piece()
        while received and time.monotonic() < gives_up_at and self._more_is_here():
            piece = self._piece()
            if not piece:
                break
            received += piece
        return received

    def whole(self) -> bytes:
        """The rest of an answer that is no stream."""
        try:
            return _read(self._answered, self._most)
        except _BROKEN as error:
            raise self._line.failed(error, self.status) from None
        finally:
            self.close()

    def cut(self) -> None:
        """Ends what is waited for, from any thread."""
        self._line.cut()

    def close(self) -> None:
        """Ends the connection."""
        self._answered.close()

    def _piece(self) -> bytes:
        try:
            piece: bytes = self._answered.raw.read1(_PIECE_BYTES)
        except ReadTimeoutError:
            why = f"nothing came for {self._silent_s:g} s"
        except _BROKEN:
            why = "the connection broke"
        else:
            return piece
        self.close()
        raise NoAnswer(why, unsent=False, at_proxy=False, status=self.status)

    def _more_is_here(self) -> bool:
        sock = getattr(self._way.connection, "sock", None)
        # Without a socket at hand each piece is given by itself, which costs only time.
        if sock is None or sock.fileno() < 0:
            return False
        return bool(select.select([sock], [], [], 0)[0])


class NoAnswer(TweetcrawlerError):
    """The server gave no answer in time, or none that can be read.

    `unsent` says that the request did not even reach the server, `at_proxy` that the proxy is
    to blame, `too_long` that the answer is longer than it may be. `status` is that of an answer
    that began, but did not arrive whole.
    """

    def __init__(
        self,
        sentence: str,
        *,
        unsent: bool,
        at_proxy: bool,
        too_long: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.unsent = unsent
        self.at_proxy = at_proxy
        self.too_long = too_long


def server_time(base_url: str, *, proxy: Secret | None = None) -> float:
    """The clock of a server in seconds since 1970, as its header `Date` tells it.

    No key is sent, and the answer to it is of no interest.
    **Errors**: `NoAnswer`.
    """
    line = Line(base_url, server="X", timeouts=Timeouts(), max_bytes=_PIECE_BYTES, proxy=proxy)
    answer = line.send("HEAD", "/", {})
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, IndexError):
        return time.time()


class Line:
    """Connections to one server, through a proxy or none; not to be shared between threads.

    `server` is its name in sentences, such as "X". A proxy or netrc of the environment is not
    used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        server: str,
        timeouts: Timeouts,
        max_bytes: int,
        proxy: Secret | None = None,
    ) -> None:
        self._server = server
        self._timeouts = timeouts
        self._max_bytes = max_bytes
        self._proxy = proxy
        self._way = _Way()
        self._session = self._new_session()
        self._template = self._session.prepare_request(requests.Request("GET", base_url))
        self._base_url = str(self._template.url).rstrip("/")
        # Shown in sentences: the address as it was given, without a path.
        parts = urlsplit(self._base_url)
        self._host, self._address = parts.hostname or "", f"{parts.scheme}://{parts.netloc}"

    def send(
        self,
        method: str,
        route: str,
        headers: Mapping[str, str],
        *,
        auth: Any = None,
        json: Any = None,
        data: Mapping[str, str] | bytes | None = None,
        max_bytes: int | None = None,
    ) -> Response:
        """The answer to one request, of any status; redirects are not followed.

        `route` follows the base URL, with its query. `auth` signs the request, as requests
        wants it. `max_bytes` is the longest body, where the line's own limit does not fit.

        **Errors**: `NoAnswer`.
        """
        answer = self._try(method, route, headers, auth, json, data, max_bytes or self._max_bytes)
        if isinstance(answer, Response):
            return answer
        # Raised here, so that no frame of the request keeps hold of it: its traceback would
        # keep the socket open.
        try:
            raise answer
        finally:
            del answer

    def open(self, route: str, headers: Mapping[str, str], *, silent_s: float) -> Opened:
        """An answer that is read while it comes; its bytes are `silent_s` apart at most.

        **Errors**: `NoAnswer`.
        """
        try:
            answered = self._session.send(
                self._prepared("GET", self._base_url + route, headers, None, None, None),
                timeout=(self._timeouts.connect_s, silent_s),
                allow_redirects=False,
                stream=True,
                proxies=self._session.proxies,
            )
        except _BROKEN as error:
            failure = self.failed(error, None)
        else:
            return Opened(answered, self, self._way, most=self._max_bytes, silent_s=silent_s)
        raise failure

    def failed(self, error: BaseException, status: int | None) -> NoAnswer:
        """What an error of requests or urllib3 means; the connection is not used again."""
        failure = self._failure(error, status)
        self._reset()
        return failure

    def cut(self) -> None:
        """Ends what the present connection waits for, from any thread."""
        self._cut()

    def _try(
        self,
        method: str,
        route: str,
        headers: Mapping[str, str],
        auth: Any,
        json: Any,
        data: Mapping[str, str] | bytes | None,
        max_bytes: int,
    ) -> Response | NoAnswer:
        status = None
        try:
            request = self._prepared(method, self._base_url + route, headers, auth, json, data)
            with (
                _deadline(self._timeouts.total_s, self._cut),
                self._session.send(
                    request,
                    timeout=(self._timeouts.connect_s, self._timeouts.read_s),
                    allow_redirects=False,  # a key goes where it was meant to go, nowhere else
                    stream=True,
                    proxies=self._session.proxies,
                ) as answered,
            ):
                status = answered.status_code
                body = _read(answered, max_bytes)
            response = Response(answered.status_code, answered.headers, body)
        except (*_BROKEN, _DeadlinePassed) as error:
            return self.failed(error, status)
        if self._proxy is not None and response.status == _PROXY_AUTHENTICATION_REQUIRED:
            return NoAnswer("the proxy answers 407", unsent=True, at_proxy=True)
        return response

    def _prepared(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        auth: Any,
        json: Any,
        data: Mapping[str, str] | bytes | None,
    ) -> requests.PreparedRequest:
        if auth is not None or json is not None or data is not None:
            request = requests.Request(
                method, url, json=json, data=data, headers=headers, auth=auth
            )
            return self._session.prepare_request(request)
        # To take a URL of our own apart and put it together again costs as much as to send it.
        prepared: requests.PreparedRequest = self._template.copy()
        prepared.method, prepared.url = method, url
        prepared.headers.update(headers)
        return prepared

    def _reset(self) -> None:
        """New connections: after a failure nobody knows what an old one still holds."""
        self._session.close()
        self._session.cookies.clear()
        self._cut()
        self._way.connection, self._way.is_connecting = None, False

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        # A proxy or netrc of the environment must not receive what was meant for the server.
        session.trust_env = False
        # Networks that look into TLS have an authority of their own; naming it sends
        # nothing anywhere.
        session.verify = (
            os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self._way))
        if self._proxy is not None:
            proxy = self._proxy.reveal()
            session.proxies = {"http": proxy, "https": proxy}
        return session

    def _cut(self) -> None:
        """Ends what the present connection waits for, from whichever thread."""
        sock = getattr(self._way.connection, "sock", None)
        if sock is not None:
            with suppress(OSError):
                # The socket's own shutdown, not that of TLS: this one touches nothing that
                # the other thread uses.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _failure(self, error: BaseException, status: int | None) -> NoAnswer:
        unsent = self._way.is_connecting or isinstance(error, requests.exceptions.InvalidProxyURL)
        if unsent and self._proxy is not None:
            refused = _TUNNEL_REFUSED.search(str(error))
            if refused:
                sentence = f"the proxy answers {refused[1]}"
            else:
                sentence = f"no connection to {self._server} through the proxy"
            return NoAnswer(sentence, unsent=True, at_proxy=True)
        return NoAnswer(
            self._sentence(error),
            unsent=unsent,
            at_proxy=False,
            too_long=isinstance(error, _TooLong),
            status=status,
        )

    def _sentence(self, error: BaseException) -> str:
        server, timeouts = self._server, self._timeouts
        if isinstance(error, _DeadlinePassed):
            return f"{server} did not answer completely within {timeouts.total_s:g} s"
        if isinstance(error, _TooLong):
            return f"{server}'s answer is longer than any page"
        if isinstance(error, requests.ConnectTimeout):
            return f"no connection to {server} at {self._address} within {timeouts.connect_s:g} s"
        if isinstance(error, requests.ReadTimeout):
            return f"{server} sent nothing for {timeouts.read_s:g} s"
        if isinstance(error, requests.exceptions.SSLError):
            return (
                f"the TLS certificate of {server}'s address {self._address} cannot be verified, "
                "or it speaks no TLS"
            )
        if isinstance(error, requests.ConnectionError):
            return self._why_unconnected(error)
        return f"{server}'s answer cannot be read ({type(error).__name__})"

    def _why_unconnected(self, error: BaseException) -> str:
        causes = list(_causes(error))
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            is_here = self._host in ("localhost", "127.0.0.1", "::1")
            hint = ": is `tweetcrawler sandbox` running?" if is_here else ""
            return f"{self._address} refuses connections{hint}"
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return f"the name {self._host} has no address: look at the network's DNS"
        unreachable = (errno.ENETUNREACH, errno.EHOSTUNREACH)
        if any(isinstance(c, OSError) and c.errno in unreachable for c in causes):
            return f"there is no way to {self._address}: look at the network"
        return f"the connection to {self._server} failed"


class _TooLong(ValueError):
    """The answer is longer than it may be."""


def _read(answered: requests.Response, max_bytes: int) -> bytes:
    received = bytearray()
    for part in answered.iter_content(_PIECE_BYTES):
        received += part
        if len(received) > max_bytes:
            raise _TooLong
    return bytes(received)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it was raised from, as requests and urllib3 nest them."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [each for each in one.args if isinstance(each, BaseException)]
        reason = getattr(one, "reason", None)
        inner += [reason] if isinstance(reason, BaseException) else []
        waiting += [*inner, one.__cause__, one.__context__]


# -- how far a request came ------------------------------------------------------------------------


class _Way:
    """The connection that a line uses, and whether it is still on its way to the server."""

    connection: Any = None
    is_connecting = False


class _Watched:
    """A connection of urllib3 that tells when it begins to connect and when it is connected.

    `connect` opens the socket, has a proxy lead on to the server, and speaks TLS. urllib3's
    errors do not tell these apart from what happens later; its versions differ, too.
    """

    way: _Way

    def connect(self) -> None:
        self.way.connection, self.way.is_connecting = self, True
        super().connect()  # type: ignore[misc] # the class beside it has it
        self.way.is_connecting = False


class _Adapter(HTTPAdapter):
    """The adapter of requests, with connections that are watched."""

    def __init__(self, way: _Way) -> None:
        self._way = way
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **more: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **more)
        if not known:
            self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        def watched(pool: Any) -> Any:
            connection = type("_Connection", (_Watched, pool.ConnectionCls), {"way": self._way})
            return type("_Pool", (pool,), {"ConnectionCls": connection})

        manager.pool_classes_by_scheme = {
            scheme: watched(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }


# -- the deadline ----------------------------------------------------------------------------------


class _DeadlinePassed(Exception):
    """The total time of a request is over."""


def _deadline(seconds: float, cut: Callable[[], None]) -> AbstractContextManager[None]:
    """Ends the code inside after `seconds`, during any kind of wait.

    A read timeout starts again with each byte, and a header that drips is not seen by any
    caller. In the main thread a signal interrupts both, for the price of two system calls.
    Signals arrive nowhere else: there another thread cuts the socket.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _by_signal(seconds)
    return _by_cutting(seconds, cut)


@contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    def passed(_number: int, _frame: object) -> None:
        raise _DeadlinePassed

    before = signal.signal(signal.SIGALRM, passed)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _by_cutting(seconds: float, cut: Callable[[], None]) -> Iterator[None]:
    ends_at = time.monotonic() + seconds
    over = threading.Event()

    def watch() -> None:
        # Not only once: at the deadline a socket may be about to be made.
        wait_s = seconds
        while not over.wait(wait_s):
            cut()
            wait_s = _CUT_AGAIN_S

    watcher = threading.Thread(target=watch, daemon=True, name="deadline")
    watcher.start()
    try:
        yield
    except BaseException:
        if time.monotonic() >= ends_at:
            raise _DeadlinePassed from None
        raise
    finally:
        over.set()
        watcher.join()
    if time.monotonic() >= ends_at:  # a body that was cut may look like one that ended
        raise _DeadlinePassed
