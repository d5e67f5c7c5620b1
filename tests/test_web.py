"""HTTP against real sockets: deadlines hold in any thread, and a proxy's failure is told apart."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tweetcrawler.secret import Secret
from tweetcrawler.web import Line, NoAnswer, Response, Timeouts

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
PASSWORD = "proxy-password-57"
KEY = "bearer-key-81"


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each connection is given to `answer` after the head of its request."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve(link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += link.recv(65_536)
            answer(link)

    def accept() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                link, _ = listener.accept()
                threading.Thread(target=serve, args=[link], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        listener.close()


def with_text(text: bytes) -> Callable[[socket.socket], None]:
    return lambda link: link.sendall(text)


def dripping(text: bytes) -> Callable[[socket.socket], None]:
    def answer(link: socket.socket) -> None:
        for byte in text * 1000:
            link.sendall(bytes([byte]))
            time.sleep(0.05)

    return answer


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def ask(
    port: int,
    *,
    proxy: str | None = None,
    scheme: str = "http",
    timeouts: Timeouts | None = None,
    max_bytes: int = 1_000,
) -> Response:
    line = Line(
        f"{scheme}://127.0.0.1:{port}",
        server="X",
        timeouts=timeouts or Timeouts(1.0, 1.0, 2.0),
        max_bytes=max_bytes,
        proxy=Secret(proxy) if proxy else None,
    )
    return line.send("GET", "/2/tweets", {"Authorization": f"Bearer {KEY}"})


def refusal(port: int, **more: object) -> NoAnswer:
    with pytest.raises(NoAnswer) as caught:
        ask(port, **more)  # type: ignore[arg-type]
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert PASSWORD not in shown
    assert KEY not in shown
    assert caught.value.__context__ is None
    return caught.value


def via(port: int, scheme: str = "http") -> str:
    return f"{scheme}://user:{PASSWORD}@127.0.0.1:{port}"


def in_a_thread(work: Callable[[], NoAnswer]) -> NoAnswer:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_an_answer_of_any_status_is_an_answer() -> None:
    with answering(
        with_text(b"HTTP/1.1 503 No\r\nX-One: 1\r\nContent-Length: 3\r\n\r\nbad")
    ) as port:
        answered = ask(port)
    assert (answered.status, answered.headers["x-one"], answered.body) == (503, "1", b"bad")


@pytest.mark.parametrize("run", [lambda work: work(), in_a_thread], ids=["main", "thread"])
@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"], ids=["header", "body"]
)
def test_whatever_drips_is_given_up_in_any_thread(
    run: Callable[[Callable[[], NoAnswer]], NoAnswer], head: bytes
) -> None:
    """Each byte comes in time, so that only the deadline of the whole answer ends it: the
    server would drip for minutes.
    """

    def answer(link: socket.socket) -> None:
        link.sendall(head)
        dripping(b"x" if head else b"HTTP/1.1 200 OK\r\nX-A: ")(link)

    timeouts = Timeouts(1.0, 1.0, 1.5)
    with answering(answer) as port:
        failure = run(lambda: refusal(port, timeouts=timeouts))
    assert str(failure) == "X did not answer completely within 1.5 s"
    assert not failure.unsent


def test_in_a_thread_a_quick_answer_is_whole() -> None:
    with answering(with_text(GOOD)) as port, ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask, port).result().body == b"{}"


def test_an_endless_answer_is_given_up() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000
    with answering(with_text(endless)) as port:
        assert not refusal(port).unsent


def test_without_a_server_nothing_was_sent(nobody: int) -> None:
    failure = refusal(nobody)
    assert (failure.unsent, failure.at_proxy) == (True, False)
    address = f"http://127.0.0.1:{nobody}"
    assert str(failure) == f"{address} refuses connections: is `tweetcrawler sandbox` running?"


def test_a_server_that_ends_the_connection_may_have_sold_something() -> None:
    with answering(lambda link: link.close()) as port:
        failure = refusal(port)
    assert (failure.unsent, failure.at_proxy) == (False, False)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
def test_a_dead_proxy_is_not_taken_for_a_dead_server(nobody: int, scheme: str, kind: str) -> None:
    failure = refusal(9, proxy=via(nobody, kind), scheme=scheme)
    assert (failure.unsent, failure.at_proxy) == (True, True)
    assert str(failure) == "no connection to X through the proxy"


def test_the_name_of_a_proxy_may_be_unknown() -> None:
    proxy = f"http://user:{PASSWORD}@nowhere.invalid:3128"
    assert refusal(9, proxy=proxy, scheme="https").at_proxy


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_to_connect_is_named_with_its_status(status: int) -> None:
    with answering(with_text(b"HTTP/1.1 %d No\r\n\r\n" % status)) as port:
        failure = refusal(9, proxy=via(port), scheme="https")
    assert (failure.unsent, failure.at_proxy) == (True, True)
    assert str(failure) == f"the proxy answers {status}"


def test_a_proxy_that_is_silent_is_the_proxys_failure() -> None:
    with answering(lambda link: time.sleep(5)) as port:
        assert refusal(9, proxy=via(port), scheme="https").at_proxy


def test_a_proxy_that_wants_other_credentials_is_told_by_407() -> None:
    with answering(with_text(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")) as port:
        failure = refusal(9, proxy=via(port))
    assert (failure.unsent, failure.at_proxy) == (True, True)


def test_what_fails_behind_a_living_proxy_is_the_servers() -> None:
    with answering(lambda link: link.close()) as port:
        failure = refusal(9, proxy=via(port))
    assert (failure.unsent, failure.at_proxy) == (False, False)
    with answering(with_text(GOOD)) as port:
        assert ask(9, proxy=via(port)).body == b"{}"
