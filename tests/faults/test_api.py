"""Faults of the API: whatever X answers, or does not, costs no post, no credential and no hang."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k A8_` is that fault

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
from busy import window_s
from crawls import Crawler, ended, truth, wait_until, workers_of
from sandbox_server import Sandbox
from simulated_x import Clock, MemoryBooks, SimulatedX, credentials, run_processes

from faults.machine import before_x, need, url_of
from tweetcrawler.errors import CredentialRefused, MustWait, Overloaded, XError, XUnavailable
from tweetcrawler.permits import Ledger
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.windows import Rate
from tweetcrawler.xapi import Timeouts, X

TIMELINE = "/2/users/:id/tweets"
LOOKUP = "/2/users/by"
HANDLES = [f"writer_{n}" for n in range(8)]


def answers(
    books: dict[str, Any],
    status: str,
    *,
    credential: str | None = None,
    endpoint: str | None = None,
) -> int:
    """How many answers of a status the sandbox gave."""
    return sum(
        counts.get(status, 0)
        for name, endpoints in books["requests"].items()
        for path, counts in endpoints.items()
        if credential in (None, name) and endpoint in (None, path)
    )


def all_requests(books: dict[str, Any]) -> int:
    return sum(n for of in books["requests"].values() for by in of.values() for n in by.values())


def bought_twice(books: dict[str, Any]) -> int:
    return int(books["posts_sold"]) - int(books["posts_distinct"])


def missing(crawler: Crawler, sandbox: Sandbox, handles: list[str]) -> int:
    """How many posts that X could sell are no rows, and how many rows are no such posts."""
    return len(set(truth(sandbox, handles)) ^ set(crawler.stored_ids()))


def client_of(
    sandbox: Sandbox,
    *,
    url: str | None = None,
    timeouts: Timeouts | None = None,
    credential: int = 0,
) -> X:
    found = read_credentials(sandbox.auth_csv).credentials[credential]
    return X(found, api_url=url or sandbox.url, timeouts=timeouts or Timeouts())


def page(client: X, sandbox: Sandbox, handle: str = "writer_0", *, user_auth: bool = True) -> Any:
    return client.user_tweets(
        sandbox.id_of(handle), since_id=None, until_id=None, token=None, user_auth=user_auth
    )


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "60-300") as running:
        yield running


# -- A1 to A6: X refuses -------------------------------------------------------------


def test_A1_a_closed_window_is_not_asked_and_others_go_on(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    handles = [f"writer_{n}" for n in range(40)]
    with Sandbox(
        "--credentials",
        "2",
        "--posts",
        "0-150",
        "--window-s",
        window_s(4),
        "--limit",
        f"{TIMELINE}=9/12",
    ) as sandbox:
        sandbox.fault(
            "window", credential="c1", endpoint=TIMELINE
        )  # out of the blue, with permits left
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        crawler.run()
        books = sandbox.books()
        measure("requests into a closed window", books["closed_window_requests"], at_most=0)
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        measure("429 answers, one of them injected", answers(books, "429"), at_most=1)


def test_A1_a_thousand_windows_are_not_overrun(measure: Any) -> None:
    clock = Clock()
    x = SimulatedX(clock, {f"user{n}": 20 for n in range(3)}, offset_s=3_600.0)
    until = clock.now + 900.0 * 340
    run_processes(x, credentials(3), 4, request_s=0.4, until=until)
    windows = sum(x.served.values()) / 20
    measure("windows", windows, at_least=1_000)
    measure("429 answers per 1,000 windows", x.closed / windows * 1000, at_most=1)


def test_A1_one_request_a_window_is_enough_to_come_to_the_end(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    with Sandbox(
        "--credentials",
        "1",
        "--posts",
        "150-150",
        "--window-s",
        window_s(4),
        "--limit",
        f"{TIMELINE}=1/1",
    ) as sandbox:
        auth = tmp_path / "auth.csv"
        auth.write_text(f"bearer_token\n{sandbox.credentials[0]['bearer_token']}\n")
        auth.chmod(0o600)
        crawler = Crawler(
            tmp_path, dsn=dsn, auth_csv=auth, api_url=sandbox.url, handles=["writer_0"], threads=1
        )
        crawler.run(timeout_s=60)
        books = sandbox.books()
        measure(
            "posts missing, one request a window",
            missing(crawler, sandbox, ["writer_0"]),
            at_most=0,
        )
        asked = sum(of.get(TIMELINE, {}).get("200", 0) for of in books["requests"].values())
        measure("requests for two pages and a look at the top", asked, at_most=4)


def test_A2_a_used_up_month_rests_its_account_only(dsn: str, tmp_path: Path, measure: Any) -> None:
    handles = [f"writer_{n}" for n in range(16)]
    with Sandbox("--credentials", "2", "--posts", "60-300", "--latency-ms", "10") as sandbox:
        for fault in ("cap", "no-rate-headers"):  # the answer names no time at all
            sandbox.fault(fault, credential="c1", endpoint=TIMELINE, for_s=600)
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        crawler.run()
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        # Two processes: whoever was not told yet asks once.
        refused = answers(sandbox.books(), "429", credential="c1")
        measure("requests after the first, per other process", refused - 1, at_most=1)


def test_A2_when_every_account_is_used_up_the_run_pauses_with_exit_5(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    for fault in ("cap", "no-rate-headers"):
        sandbox.fault(fault, endpoint=TIMELINE, for_s=600)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run(expect=5)
    assert "used up" in done.stdout
    sandbox.control("DELETE", "/sandbox/faults")
    measure(
        "requests after the first, per credential",
        answers(sandbox.books(), "429") / 2 - 1,
        at_most=1,
    )
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)


@pytest.mark.parametrize("processes", [1, 4])
def test_A3_back_off_doubles_whatever_the_headers_say(processes: int, measure: Any) -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledgers = [Ledger(credentials(1), own=n, since=0.0, monotonic=clock) for n in range(processes)]
    known = Rate(limit=900, remaining=899, reset_in_s=900.0)
    for ledger in ledgers:  # each holds a block of permits, as in the middle of a crawl
        ledger.settle(books, ledger.reserve(books, TIMELINE), known)
        ledger.settle(books, ledger.reserve(books, TIMELINE), known)
    begun, sent, at = clock.now, 0, 0
    while clock.now < begun + 3_600:
        ledger = ledgers[at % processes]
        at += 1
        try:
            permit = ledger.reserve(books, TIMELINE)
        except MustWait as wait:
            clock.now += max(0.05, wait.wait_s)
            continue
        sent += 1
        ledger.refused(books, permit, Overloaded("429", rate=Rate(900, 500, 900.0)))
        clock.now += 0.2
    measure(f"requests in an hour, {processes} process(es)", sent, at_most=10 + processes - 1)


def test_A3_a_second_of_429_with_permits_left_costs_nothing(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("window-with-remaining", count=3, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("429 answers, all injected", answers(sandbox.books(), "429"), at_most=3)


def test_A4_a_revoked_credential_is_retired_in_the_middle_of_a_chunk(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    handles = [f"writer_{n}" for n in range(16)]
    with Sandbox("--credentials", "2", "--posts", "100-400", "--latency-ms", "15") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        process = crawler.start()
        wait_until(lambda: sandbox.books()["posts_sold"] > 300, what="a crawl under way")
        sandbox.control("POST", "/sandbox/credentials", {"name": "c1", "revoked": True})
        result = ended(process)
        books = sandbox.books()
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        measure("posts bought twice", bought_twice(books), at_most=0)
        # A credential has two tokens, the user's and the app's; each is tried and confirmed
        # once by a process.
        calls = answers(books, "401", credential="c1")
        measure("calls per process and token that died", calls / (2 * 2), at_most=2)
        assert "c1" in result.stdout


def test_A4_when_every_credential_is_refused_the_run_ends_with_exit_4(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    with Sandbox("--credentials", "2", "--posts", "100-400", "--latency-ms", "15") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
        process = crawler.start()
        wait_until(lambda: sandbox.books()["posts_sold"] > 300, what="a crawl under way")
        for name in ("c1", "c2"):
            sandbox.control("POST", "/sandbox/credentials", {"name": name, "revoked": True})
        result = ended(process, expect=4)
        [said] = [line for line in result.stdout.splitlines() if line.startswith("ended early")]
        assert "look at them in X's developer console, then run again" in said
        measure("tracebacks", (result.stdout + result.stderr).count("Traceback"), at_most=0)
        for name in ("c1", "c2"):
            sandbox.control("POST", "/sandbox/credentials", {"name": name, "revoked": False})
        crawler.run()
        measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)
        measure("posts bought twice", bought_twice(sandbox.books()), at_most=0)


def test_A5_users_that_cannot_be_read_rest_and_no_credential_is_blamed(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    odd = ["gone_one", "suspended_one", "protected_one"]
    handles = [*HANDLES[:4], *odd]
    sandbox.fault("not-found-empty", username=HANDLES[0], endpoint=TIMELINE)  # a plain 404 once
    crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
    crawler.run(expect=1)
    states = dict(crawler.select("SELECT handle, state FROM crawl_target"))
    assert (states["gone_one"], states["suspended_one"], states["protected_one"]) == (
        "missing",
        "suspended",
        "protected",
    )
    crawler.run(expect=1)  # the 404 was this request's own
    measure("posts missing", missing(crawler, sandbox, HANDLES[:4]), at_most=0)
    blamed = """
        SELECT count(*)
        FROM api_bucket
        WHERE shut_at IS NOT NULL OR (failures > 0 AND subject <> '*')
    """
    measure("credentials blocked for it", crawler.select(blamed)[0][0], at_most=0)
    before = all_requests(sandbox.books())
    sandbox.control("POST", "/sandbox/world", {"user": "protected_one", "state": "normal"})
    crawler.run(expect=1)
    asked = all_requests(sandbox.books()) - before
    measure("requests for those who rest", asked - 4, at_most=0)
    with_a_week_over = (
        "UPDATE crawl_target SET due_at = clock_timestamp() WHERE due_at IS NOT NULL RETURNING 1"
    )
    assert len(_changed(crawler, with_a_week_over)) == 3
    crawler.run(expect=1)
    measure(
        "posts missing after a week",
        missing(crawler, sandbox, [*HANDLES[:4], "protected_one"]),
        at_most=0,
    )


def _changed(crawler: Crawler, statement: str) -> list[Any]:
    import psycopg

    assert crawler.dsn is not None
    with psycopg.connect(crawler.dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_A6_a_burst_of_503_is_probed_ever_more_slowly(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    _burst(sandbox, dsn, tmp_path, measure, 3.0)


@pytest.mark.slow
def test_A6_a_minute_of_503_is_probed_ever_more_slowly(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    _burst(sandbox, dsn, tmp_path, measure, 60.0)


def _burst(sandbox: Sandbox, dsn: str, folder: Path, measure: Any, seconds: float) -> None:
    sandbox.fault("status", status=503, for_s=seconds, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, folder, dsn, HANDLES)
    begun = time.monotonic()
    crawler.run()
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure(f"requests in {seconds:.0f} s of 503", answers(sandbox.books(), "503"), at_most=12)
    measure.seconds(
        "seconds from the end of the burst to the end",
        time.monotonic() - begun - seconds,
        at_most=70,
    )


# -- A7 to A9: X does not answer, or not to the end ----------------------------------


def test_A7_a_server_that_does_not_answer_is_given_up(sandbox: Sandbox, measure: Any) -> None:
    sandbox.fault("black-hole", count=1)
    client = client_of(sandbox, timeouts=Timeouts(1.0, 1.5, 3.0))
    measure.seconds(
        "seconds of a black hole, promised 1.5 + 1",
        _seconds_until_given_up(client, sandbox),
        at_most=2.5,
    )
    page(client, sandbox)  # the client is as good as before


def test_A7_an_address_that_takes_no_connection_is_given_up(sandbox: Sandbox, measure: Any) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with contextlib.ExitStack() as waiting:
            for _ in range(3):  # with its queue full, the kernel answers nobody any more
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(address)
            client = client_of(
                sandbox, url=f"http://127.0.0.1:{address[1]}", timeouts=Timeouts(1.0, 1.5, 3.0)
            )
            took = _seconds_until_given_up(client, sandbox)
            measure.seconds("seconds without a connection, promised 1 + 1", took, at_most=2.0)


@pytest.mark.slow
def test_A7_a_black_hole_holds_nobody_for_more_than_a_minute(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("black-hole", count=2, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    begun = time.monotonic()
    crawler.run()
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure.seconds("seconds of a run with two black holes", time.monotonic() - begun, at_most=60)


def test_A8_a_server_that_drips_is_given_up(sandbox: Sandbox, measure: Any) -> None:
    sandbox.fault("slowloris", count=1, interval_s=0.2)
    client = client_of(sandbox, timeouts=Timeouts(1.0, 1.5, 2.5))
    measure.seconds(
        "seconds of a dripping body, total timeout 2.5",
        _seconds_until_given_up(client, sandbox),
        at_most=3.0,
    )
    page(client, sandbox)
    with before_x(sandbox) as proxy:
        proxy.drip_s = 0.2  # headers, too
        dripping = client_of(sandbox, url=url_of(proxy), timeouts=Timeouts(1.0, 1.5, 2.5))
        took = _seconds_until_given_up(dripping, sandbox)
        measure.seconds("seconds of a dripping header, total timeout 2.5", took, at_most=3.0)


@pytest.mark.slow
def test_A8_by_default_a_server_that_drips_is_given_up_after_a_minute(
    sandbox: Sandbox, measure: Any
) -> None:
    sandbox.fault("slowloris", count=1, interval_s=0.5)
    measure.seconds("seconds", _seconds_until_given_up(client_of(sandbox), sandbox), at_most=61)


def test_A8_a_crawl_gets_past_drips(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("slowloris", count=2, interval_s=0.2, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run("--readTimeout", "1", "--totalTimeout", "2")
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)


def _seconds_until_given_up(client: X, sandbox: Sandbox) -> float:
    begun = time.monotonic()
    with pytest.raises(XUnavailable):
        page(client, sandbox)
    return time.monotonic() - begun


def test_A9_cut_answers_are_asked_again_and_leave_nothing(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    for fault in ("truncated-json", "cut-body", "bad-gzip"):
        sandbox.fault(fault, count=2, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    books = sandbox.books()
    assert books["posts_in_broken_answers"] > 0
    measure("posts missing or half", missing(crawler, sandbox, HANDLES), at_most=0)
    [(posts,)] = crawler.select(
        "SELECT sum(post_count) FROM crawl_page WHERE target_id IS NOT NULL"
    )
    sold_whole = books["posts_sold"] - books["posts_in_broken_answers"]
    measure(
        "posts noted as bought beside those that came whole", abs(posts - sold_whole), at_most=0
    )
    paid_again = bought_twice(books) - books["posts_in_broken_answers"]
    measure("posts paid again beside those that did not arrive", paid_again, at_most=0)


# -- A10 to A16: X answers something else --------------------------------------------


def test_A10_whatever_comes_as_200_is_one_kind_of_error(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    client = client_of(sandbox)
    kinds = set()
    for fault in ("html-200", "json-list-200", "bad-gzip", "truncated-json", "cut-body"):
        sandbox.fault(fault, count=1, endpoint=TIMELINE)
        with pytest.raises(XError) as caught:
            page(client, sandbox)
        kinds.add(type(caught.value))
    measure("kinds of errors", len(kinds), at_most=1)
    sandbox.fault("text-reset-header", count=1, text="soon")
    assert page(client, sandbox).rate is None
    sandbox.control("POST", "/sandbox/books/reset", {})
    for fault in ("html-200", "json-list-200", "text-reset-header"):
        sandbox.fault(fault, count=1, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)


@pytest.mark.parametrize(
    "skew",
    [
        "server +1 h",
        "machine -1 h",
        "reset in ms",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("server -1 h", "machine +1 h")),
    ],
)
def test_A11_waits_follow_the_clock_of_x(
    dsn: str, tmp_path: Path, measure: Any, faketime: str, skew: str
) -> None:
    handles = [f"writer_{n}" for n in range(24)]
    whose, _, hour = skew.partition(" ")
    with Sandbox(
        "--credentials",
        "1",
        "--posts",
        "0-90",
        "--window-s",
        window_s(4),
        "--limit",
        f"{TIMELINE}=7/7",
    ) as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        wrong = {}
        if whose == "server":
            sandbox.control("POST", "/sandbox/clock", {"skew_s": 3_600 if "+" in hour else -3_600})
        elif whose == "machine":
            wrong = {
                "LD_PRELOAD": faketime,
                "FAKETIME": "+3600s" if "+" in hour else "-3600s",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        else:
            sandbox.fault("reset-in-ms", for_s=600)
        ended(crawler.start(env=os.environ | wrong))
        books = sandbox.books()
        measure(
            f"requests into a closed window, {skew}", books["closed_window_requests"], at_most=0
        )
        measure(f"posts missing, {skew}", missing(crawler, sandbox, handles), at_most=0)
        windows = [w for w in books["past_windows"] + books["windows"] if w["endpoint"] == TIMELINE]
        measure.seconds(
            f"longest wait beyond a window's end in seconds, {skew}",
            longest_pause(windows),
            at_most=5,
        )


def longest_pause(windows: list[dict[str, Any]]) -> float:
    """The longest time from the end of a window to the beginning of the next.

    Windows are compared within one subject.
    """
    by_subject: dict[str, list[dict[str, Any]]] = {}
    for window in sorted(windows, key=lambda w: float(w["opened_at"])):
        by_subject.setdefault(window["subject"], []).append(window)
    pauses = [
        after["opened_at"] - before["closes_at"]
        for own in by_subject.values()
        for before, after in itertools.pairwise(own)
    ]
    assert pauses, "the work must last for more than a window"
    return float(max(pauses))


class StrictClock(http.server.BaseHTTPRequestHandler):
    """X as far as it looks at the time of a signature: five minutes off, and it is refused."""

    ahead_s = 0.0

    def do_GET(self) -> None:
        fields = dict(
            part.strip().split("=", 1) for part in self.headers["Authorization"][6:].split(",")
        )
        sent_at = float(unquote(fields["oauth_timestamp"].strip('"')))
        now = time.time() + self.ahead_s
        refused = abs(now - sent_at) > 300
        body = json.dumps(
            {"title": "Unauthorized"} if refused else {"data": [], "meta": {"result_count": 0}}
        ).encode()
        self.send_response_only(401 if refused else 200)
        self.send_header("Date", formatdate(now, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def serving(
    handler: type[http.server.BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A small server on the loopback; gives its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.mark.parametrize("ahead_s", [3_600.0, -3_600.0])
def test_A11_signatures_carry_the_time_of_x(sandbox: Sandbox, measure: Any, ahead_s: float) -> None:
    handler = type("AnHourOff", (StrictClock,), {"ahead_s": ahead_s})
    with serving(handler) as port:
        client = client_of(sandbox, url=f"http://127.0.0.1:{port}")
        refused = 0
        for _ in range(5):
            try:
                page(client, sandbox)
            except CredentialRefused:
                refused += 1
        measure("requests refused for their time, of 5", refused, at_most=1)


def test_A12_repeated_and_overlapping_pages_are_stored_once(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    for fault in ("duplicate-page", "overlapping-page", "unsorted-page", "short-page"):
        for handle in HANDLES:
            sandbox.fault(fault, username=handle)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    assert sum(sandbox.books()["faults"].values()) >= 20
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    [(rows, distinct)] = crawler.select(
        "SELECT count(*), count(DISTINCT id) FROM tweet_articles_tweepy"
    )
    measure("duplicates", rows - distinct, at_most=0)
    _is_covered(crawler, len(HANDLES))


def _is_covered(crawler: Crawler, users: int) -> None:
    """One range from the first id on: nothing is left to ask but what comes."""
    [(whole,)] = crawler.select(
        """
        SELECT count(*)
        FROM crawl_target
        WHERE (SELECT count(*) FROM unnest(covered)) = 1 AND lower(covered) = 1
        """
    )
    assert whole == users


def test_A13_an_expired_token_is_done_without(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    for handle in HANDLES:
        sandbox.fault("empty-page-with-token", username=handle)
        sandbox.fault("token-expired", username=handle)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    assert sandbox.books()["faults"]["token-expired"] == len(HANDLES)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts read again", bought_twice(sandbox.books()), at_most=0)


def test_A14_empty_pages_with_a_token_are_not_the_end(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    for handle in HANDLES:
        sandbox.fault("empty-page-with-token", username=handle)
        sandbox.fault("empty-last-page", username=handle)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    measure("posts missing behind empty pages", missing(crawler, sandbox, HANDLES), at_most=0)


def test_A14_a_walk_that_gets_nowhere_is_left_for_the_next_run(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("empty-page-with-token", for_s=600, username=HANDLES[0])
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3])
    done = crawler.run(expect=1)
    assert f"@{HANDLES[0]}" in done.stdout
    measure("empty pages asked", sandbox.books()["faults"]["empty-page-with-token"], at_most=50)
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES[:3]), at_most=0)


def test_A15_ids_are_exact_as_numbers_and_as_texts(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("numeric-ids", for_s=600, probability=0.5, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    assert sandbox.books()["faults"]["numeric-ids"] > 3
    stored, real = set(crawler.stored_ids()), set(truth(sandbox, HANDLES))
    assert min(real) > 2**53
    measure("ids equal in %", 100 * len(stored & real) / len(stored | real), at_least=100)


def test_A16_strange_answers_crash_nothing_and_memory_is_bounded(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    for fault in ("unknown-fields", "missing-fields", "null-fields"):
        sandbox.fault(fault, for_s=600, probability=0.3, endpoint=TIMELINE)
    sandbox.fault("huge-body", size_mb=17, endpoint=TIMELINE)
    sandbox.fault("deep-json", endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    process = crawler.start()
    largest = 0
    while process.poll() is None:
        for worker in workers_of(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                largest = max(largest, worker.memory_info().rss)
        time.sleep(0.01)
    result = ended(process, expect=(0, 1))
    measure("workers that died", result.stderr.count("process died"), at_most=0)
    measure("largest worker in MB", largest / 1e6, at_most=400)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)


def test_A16_a_bomb_of_zeros_takes_no_memory(sandbox: Sandbox, measure: Any) -> None:
    class Bomb(http.server.BaseHTTPRequestHandler):
        packed = b""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(self.packed)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(self.packed)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    Bomb.packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
    with serving(Bomb) as port:
        client = client_of(sandbox, url=f"http://127.0.0.1:{port}")
        before = psutil.Process().memory_info().rss
        largest = 0

        def watch() -> None:
            nonlocal largest
            while not over.wait(0.005):
                largest = max(largest, psutil.Process().memory_info().rss)

        over = threading.Event()
        thread = threading.Thread(target=watch)
        thread.start()
        with pytest.raises(XUnavailable):
            page(client, sandbox)
        over.set()
        thread.join()
    measure("MB taken by an answer of 512 MB", max(0, largest - before) / 1e6, at_most=100)


# -- A17: where secrets must not go --------------------------------------------------


class Listener(http.server.BaseHTTPRequestHandler):
    """Somebody else's server: keeps what it is sent."""

    heard: list[str]

    def do_GET(self) -> None:
        self.heard.append(f"{self.requestline}\n{self.headers}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_CONNECT = do_POST = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def stranger() -> Iterator[tuple[int, list[str]]]:
    """The port of somebody else's server, and what it heard."""
    heard: list[str] = []
    with serving(type("Stranger", (Listener,), {"heard": heard})) as port:
        yield port, heard


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_A17_a_redirect_is_not_followed(
    sandbox: Sandbox, stranger: tuple[int, list[str]], measure: Any, status: int
) -> None:
    port, heard = stranger
    client = client_of(sandbox)
    for user_auth in (True, False):
        sandbox.fault(
            "redirect", status=status, location=f"http://localhost:{port}/2/users/1/tweets"
        )
        with pytest.raises(XUnavailable):
            page(client, sandbox, user_auth=user_auth)
    measure(f"requests that followed a {status}", len(heard), at_most=0)


def test_A17_a_proxy_of_the_environment_hears_nothing(
    sandbox: Sandbox, stranger: tuple[int, list[str]], dsn: str, tmp_path: Path, measure: Any
) -> None:
    port, heard = stranger
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login nobody password nothing\n")
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:2])
    environment = (
        os.environ | dict.fromkeys(names, f"http://127.0.0.1:{port}") | {"HOME": str(tmp_path)}
    )
    environment = {name: value for name, value in environment.items() if name.lower() != "no_proxy"}
    ended(crawler.start(env=environment))
    measure("requests to the proxy of the environment", len(heard), at_most=0)
    assert missing(crawler, sandbox, HANDLES[:2]) == 0


def test_A17_a_wrong_certificate_is_told_nothing(
    sandbox: Sandbox, tmp_path: Path, measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    context = _certificate(tmp_path, "not-x.example")
    # Even an authority that the environment names does not make another's name X's.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
    with serving(type("Stranger", (Listener,), {"heard": heard}), context) as port:
        client = client_of(sandbox, url=f"https://localhost:{port}")
        with pytest.raises(XUnavailable, match="certificate"):
            page(client, sandbox, user_auth=False)
    measure("requests to a server with another's certificate", len(heard), at_most=0)


def _certificate(folder: Path, name: str) -> ssl.SSLContext:
    subprocess.run(
        [
            need("openssl"),
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-addext",
            f"subjectAltName=DNS:{name}",
            "-keyout",
            str(folder / "key.pem"),
            "-out",
            str(folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
