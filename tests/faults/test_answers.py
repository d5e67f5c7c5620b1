"""Faults of X's answers: each is the trouble of one, and the others lose nothing by it."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k A18_` is that fault

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from busy import window_s
from crawls import Crawler, ended, truth, wait_until, workers_of
from sandbox_server import Sandbox

from faults.test_api import HANDLES, LOOKUP, TIMELINE, answers, bought_twice, missing, page
from tweetcrawler.errors import CredentialRefused
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.xapi import Timeouts, X

TWEETS = "/2/tweets"
TYPE = "https://api.twitter.com/2/problems/"
INTERNAL = {"title": "Internal Error", "detail": "Internal Error", "type": "about:blank"}
UNAVAILABLE = {
    "title": "Resource Unavailable",
    "detail": "The resource is unavailable.",
    "type": TYPE + "resource-unavailable",
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "150-300") as running:
        yield running


def resting(crawler: Crawler) -> int:
    """The number of targets that X is not to be asked for during the next days."""
    [(count,)] = crawler.select(
        """
        SELECT count(*)
        FROM crawl_target
        WHERE due_at > clock_timestamp() + interval '1 h'
           OR state IN ('missing', 'suspended', 'protected', 'refused')
        """
    )
    return int(count)


# -- A18, A19: a 200 without what was asked for ------------------------------------------


@pytest.mark.parametrize(
    "body", [{}, {"errors": [INTERNAL]}, {"errors": [UNAVAILABLE]}], ids=["{}", "error", "problem"]
)
def test_A18_names_that_an_answer_passes_over_are_asked_again(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any, body: dict[str, Any]
) -> None:
    sandbox.fault("errors-200", endpoint=LOOKUP, body=body)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    measure("handles put to rest", resting(crawler), at_most=0)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)


def test_A18_silence_that_lasts_is_a_failure_of_this_run_only(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("errors-200", endpoint=LOOKUP, body={}, count=100)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run(expect=1)
    assert "X's answer does not mention it" in done.stdout
    measure("requests for them", answers(sandbox.books(), "200", endpoint=LOOKUP), at_most=8)
    measure("handles put to rest", resting(crawler), at_most=0)
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)


def test_A18_no_recheck_days_free_those_who_rest(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    states = ("gone_one", "protected_one")
    crawler = Crawler.on(sandbox, tmp_path, dsn, states)
    crawler.run(expect=1)
    assert resting(crawler) == len(states)
    for name in states:
        sandbox.control("POST", "/sandbox/world", {"user": name, "state": "normal"})
    crawler.run("--recheckDays", "0")
    measure("posts missing", missing(crawler, sandbox, list(states)), at_most=0)
    measure("handles at rest", resting(crawler), at_most=0)


@pytest.mark.parametrize("error", [INTERNAL, UNAVAILABLE], ids=["internal", "unavailable"])
@pytest.mark.parametrize("meta", [{}, {"meta": {"result_count": 0}}], ids=["bare", "with meta"])
def test_A19_errors_of_x_on_a_timeline_are_tried_again(
    sandbox: Sandbox,
    dsn: str,
    tmp_path: Path,
    measure: Any,
    error: dict[str, Any],
    meta: dict[str, Any],
) -> None:
    body = {"errors": [error]} | meta
    sandbox.fault("errors-200", endpoint=TIMELINE, username=HANDLES[0], body=body)
    for handle in HANDLES[1:4]:
        sandbox.fault("errors-200", endpoint=TIMELINE, username=handle, going_on=True, body=body)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    books = sandbox.books()
    assert books["faults"]["errors-200"] == 4
    measure("targets put to rest", resting(crawler), at_most=0)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice", bought_twice(books), at_most=0)


def test_A19_errors_of_x_that_last_end_with_exit_1_and_without_a_rest(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    body = {"errors": [INTERNAL]}
    sandbox.fault("errors-200", endpoint=TIMELINE, username=HANDLES[7], body=body, for_s=600)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run(expect=1)
    assert f"@{HANDLES[7]}" in done.stdout
    assert "Internal Error" in done.stdout
    measure("targets put to rest", resting(crawler), at_most=0)
    measure("posts of others missing", missing(crawler, sandbox, HANDLES[:7]), at_most=0)


def test_A19_errors_of_x_make_no_post_gone(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    wanted = truth(sandbox, HANDLES[:3])
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    (tmp_path / "ids.txt").write_text("".join(f"{i}\n" for i in wanted))
    for body in ({}, {"errors": [INTERNAL]}):
        sandbox.fault("errors-200", endpoint=TWEETS, body=body)
    crawler.run("hydrate", "ids.txt")
    measure("posts missing", len(set(wanted) ^ set(crawler.stored_ids())), at_most=0)
    measure(
        "posts noted as gone", crawler.select("SELECT count(*) FROM crawl_lookup")[0][0], at_most=0
    )


def test_A19_errors_of_x_that_last_make_a_lookup_fail(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    wanted = truth(sandbox, HANDLES[:1])
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    (tmp_path / "ids.txt").write_text("".join(f"{i}\n" for i in wanted[:50]))
    sandbox.fault("errors-200", endpoint=TWEETS, body={"errors": [INTERNAL]}, count=100)
    done = crawler.run("hydrate", "ids.txt", expect=1)
    assert "Internal Error" in done.stdout or "does not mention" in done.stdout
    measure(
        "posts noted as gone", crawler.select("SELECT count(*) FROM crawl_lookup")[0][0], at_most=0
    )
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run("hydrate", "ids.txt")
    measure(
        "posts missing after the next run",
        len(set(wanted[:50]) ^ set(crawler.stored_ids())),
        at_most=0,
    )


# -- A20, A21: refusals of the caller, and of nobody -------------------------------------


@pytest.mark.parametrize(
    "fault",
    [{"fault": "user-suspended"}, *({"fault": "code", "number": n} for n in (64, 326, 416))],
    ids=["suspended", "64", "326", "416"],
)
def test_A20_a_refused_account_leaves_the_work_to_the_others(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any, fault: dict[str, Any]
) -> None:
    name = fault["fault"]
    more = {key: value for key, value in fault.items() if key != "fault"}
    sandbox.fault(name, credential="c1", for_s=600, **more)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run()
    assert "c1" in done.stdout
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    refused = answers(sandbox.books(), "403", credential="c1")
    # A credential has two tokens; each is tried, and confirmed once, by two processes.
    measure("calls per process and token", refused / (2 * 2), at_most=2)


def test_A20_with_every_account_refused_the_run_ends_with_exit_4(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("user-suspended", for_s=600)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run(expect=4)
    assert "look at them in X's developer console" in done.stdout
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)


def test_A20_a_bearer_that_was_regenerated_is_got_again(
    sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    keys = sandbox.credentials[0]
    auth = tmp_path / "auth.csv"
    auth.write_text(
        f"consumer_key,consumer_secret\n{keys['consumer_key']},{keys['consumer_secret']}\n"
    )
    auth.chmod(0o600)
    client = X(read_credentials(auth).credentials[0], api_url=sandbox.url, timeouts=Timeouts())
    page(client, sandbox, user_auth=False)
    sandbox.control("POST", "/sandbox/credentials", {"name": "c1", "regenerate": True})
    with pytest.raises(CredentialRefused):
        page(client, sandbox, user_auth=False)
    page(client, sandbox, user_auth=False)  # the confirming call, which every 401 gets
    tokens = sandbox.books()["requests"]["c1"]["/oauth2/token"]["200"]
    measure("bearer tokens asked for", tokens, at_most=2)


@pytest.mark.parametrize("endpoint", [LOOKUP, TIMELINE], ids=["users", "timelines"])
@pytest.mark.parametrize(
    "fault",
    [{"status": status} for status in (404, 408, 409, 425)] + [{"status": 403, "html": True}],
    ids=lambda fault: " ".join(str(value) for value in fault.values()),
)
def test_A21_statuses_of_nobody_are_tried_again_like_503(
    sandbox: Sandbox,
    dsn: str,
    tmp_path: Path,
    measure: Any,
    fault: dict[str, Any],
    endpoint: str,
) -> None:
    sandbox.fault("status", endpoint=endpoint, for_s=3.0, **fault)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    measure("targets put to rest", resting(crawler), at_most=0)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    refused = answers(sandbox.books(), str(fault["status"]), endpoint=endpoint)
    measure("requests in 3 s", refused, at_most=12)


# -- A22, A23: what headers say of limits -------------------------------------------------


def test_A22_the_day_of_an_app_closes_its_tokens_and_others_finish(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    """Two tokens of one app share 12 requests a day; the other app has no such limit."""
    handles = [f"writer_{n}" for n in range(24)]
    with Sandbox("--credentials", "2", "--posts", "60-150") as sandbox:
        limit = {TIMELINE: [900, 900, None, None, 12]}
        sandbox.control("POST", "/sandbox/credentials", {"name": "c1", "limit": limit})
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        crawler.run()
        books = sandbox.books()
        measure("requests into a closed day", books["closed_window_requests"], at_most=0)
        sent = answers(books, "200", credential="c1", endpoint=TIMELINE)
        measure("requests of the app's day", sent, at_most=12)
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)


def test_A22_a_day_that_is_over_is_waited_for(dsn: str, tmp_path: Path, measure: Any) -> None:
    with Sandbox("--credentials", "1", "--posts", "60-150") as sandbox:
        limit = {TIMELINE: [900, 900, None, None, 3]}
        sandbox.control("POST", "/sandbox/credentials", {"name": "c1", "limit": limit})
        sandbox_id = sandbox.id_of("writer_9")
        for _ in range(3):  # somebody else has used it up
            sandbox.get(f"/2/users/{sandbox_id}/tweets", {"max_results": 5})
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
        process = crawler.start()
        wait_until(lambda: answers(sandbox.books(), "429") > 0, what="a refusal")
        time.sleep(8)  # in which a window that is only closed would be asked twice more
        process.send_signal(signal.SIGTERM)
        ended(process, expect=143)
        # The app's token and the user's may each ask once at the same time.
        measure("requests into a closed day", answers(sandbox.books(), "429"), at_most=2)


def test_A23_answers_without_headers_are_no_news(dsn: str, tmp_path: Path, measure: Any) -> None:
    handles = [f"writer_{n}" for n in range(24)]
    with Sandbox(
        "--credentials",
        "2",
        "--posts",
        "60-150",
        "--window-s",
        window_s(4),
        "--limit",
        f"{TIMELINE}=7/9",
    ) as sandbox:
        sandbox.fault("no-rate-headers", endpoint=TIMELINE, probability=0.25, for_s=600)
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        crawler.run()
        books = sandbox.books()
        assert books["faults"]["no-rate-headers"] > 3
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        measure("requests into a closed window", books["closed_window_requests"], at_most=0)


# -- A29: one app, given twice -----------------------------------------------------------


def test_A29_an_app_by_its_keys_and_by_its_token_is_one_bucket(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    handles = [f"writer_{n}" for n in range(6)]
    with Sandbox(
        *("--credentials", "2", "--posts", "60-150", "--window-s", window_s(4)),
        *("--limit", f"{TIMELINE}=7/9"),
    ) as sandbox:
        one, other = sandbox.credentials
        auth = tmp_path / "auth.csv"
        auth.write_text(
            "name,consumer_key,consumer_secret,bearer_token\n"
            f"token,,,{one['bearer_token']}\n"
            f"keys,{one['consumer_key']},{one['consumer_secret']},\n"
            f"other,{other['consumer_key']},{other['consumer_secret']},\n"
        )
        auth.chmod(0o600)
        crawler = Crawler(tmp_path, dsn=dsn, auth_csv=auth, api_url=sandbox.url, handles=handles)
        crawler.run()
        buckets = crawler.select(
            f"SELECT FROM api_bucket WHERE endpoint = '{TIMELINE}' AND subject !~ '^[*]'"
        )
        assert len(buckets) == 2, "one of each app"
        books = sandbox.books()
        measure("requests into a closed window", books["closed_window_requests"], at_most=0)
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)


# -- A24: one user's trouble -------------------------------------------------------------


@pytest.mark.parametrize(
    "places",
    [
        slice(3, 4),
        # Several in a row: nothing but another user's answer tells them from an X that is down.
        slice(33, 40),
        pytest.param(slice(3, 40, 8), marks=pytest.mark.slow),
        pytest.param(slice(0, 6), marks=pytest.mark.slow),
    ],
    ids=["one", "last", "spread", "first"],
)
def test_A24_a_user_who_is_503_for_ever_is_tried_three_times(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any, places: slice
) -> None:
    handles = [f"writer_{n}" for n in range(40)]
    broken = handles[places]
    for handle in broken:
        sandbox.fault("status", status=503, endpoint=TIMELINE, username=handle, for_s=600)
    crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
    done = crawler.run(expect=1)
    others = [handle for handle in handles if handle not in broken]
    for handle in broken:
        assert f"@{handle}" in done.stdout
    measure("posts of others missing", missing(crawler, sandbox, others), at_most=0)
    measure("tries of each", answers(sandbox.books(), "503") / len(broken), at_most=3)
    measure("users put to rest", resting(crawler), at_most=0)
    measure("posts bought twice", bought_twice(sandbox.books()), at_most=0)
    # In all processes together; the endpoint's breaker would rest for a minute each time.
    waits = re.findall(r"^waited ([0-9.]+) s: X gives no answer", done.stdout, re.MULTILINE)
    measure("seconds that others waited", sum(map(float, waits)), at_most=20)
    assert not re.search(r"^waited .* min .*: X gives no answer", done.stdout, re.MULTILINE)


def test_A24_an_app_that_may_not_read_a_user_asks_as_its_user(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("protected", kind="app", endpoint=TIMELINE, username=HANDLES[2], for_s=600)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    books = sandbox.books()
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("requests of the app for this user", books["faults"]["protected"], at_most=2)


# -- A26: texts of X ---------------------------------------------------------------------


def test_A26_texts_of_x_reach_nobody_with_control_characters(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    evil = "gone\x1b[2J\r\nWARNING all is well\u202ekcab\u2066\x07"
    error = {
        "title": evil,
        "detail": evil,
        "value": sandbox.id_of(HANDLES[0]),
        "type": TYPE + "not-authorized-for-resource",
    }
    body = {"errors": [error]}
    sandbox.fault("errors-200", endpoint=TIMELINE, username=HANDLES[0], body=body, count=20)
    sandbox.fault("status", status=400, endpoint=TIMELINE, username=HANDLES[1], detail=evil)
    sandbox.fault("status", status=503, endpoint=TIMELINE, username=HANDLES[2], detail=evil)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3])
    done = crawler.run(expect=1)
    looked = crawler.run("status", HANDLES[0])
    shown = done.stdout + done.stderr + looked.stdout + looked.stderr
    assert "all is well" in shown
    [(report,)] = crawler.select("SELECT report::text FROM crawl_run ORDER BY id DESC LIMIT 1")
    reasons = crawler.select("SELECT state_reason FROM crawl_target")
    shown += "".join(reason for (reason,) in reasons if reason)
    unsafe = [c for c in shown if c in "\x1b\x07\r\u202e\u2066"]
    measure("control characters shown", len(unsafe), at_most=0)
    assert "\\u001b" not in report
    own = [line for line in shown.splitlines() if line.lstrip().startswith("WARNING all")]
    measure("lines that X wrote", len(own), at_most=0)


# -- A27: answers that are lost ----------------------------------------------------------


def test_A27_the_largest_page_of_the_archive_is_read(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    with Sandbox("--credentials", "1", "--posts", "360-360") as sandbox:
        sandbox.fault("long-posts", endpoint="/2/tweets/search/all", for_s=600)
        crawler = Crawler.on(sandbox, tmp_path, dsn, [], threads=1)
        process = crawler.start("search", "from:writer_0", "--archive", "--max-posts", "350")
        largest = 0
        while process.poll() is None:
            for worker in workers_of(process.pid):
                try:
                    largest = max(largest, worker.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.01)
        ended(process, expect=(0, 5))
        books = sandbox.books()
        measure("posts stored of the page of 26.8 MB", len(crawler.stored_ids()), at_least=350)
        measure("posts bought twice", bought_twice(books), at_most=0)
        measure("largest worker in MB", largest / 1e6, at_most=600)


def test_A27_a_page_that_is_too_long_is_asked_for_by_halves(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    """Posts of 170 kB: a hundred of them are too long, fifty are not."""
    handle = next(h for h in HANDLES if len(truth(sandbox, [h])) >= 100)
    sandbox.fault("long-posts", endpoint=TIMELINE, for_s=600, times=3)
    crawler = Crawler.on(sandbox, tmp_path, dsn, [handle])
    crawler.run()
    measure("posts missing", missing(crawler, sandbox, [handle]), at_most=0)
    measure("times that a post was bought", max(sandbox.sales(handle).values()), at_most=2)


def test_A27_a_box_that_halves_every_answer_ends_the_run(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("truncated-json", endpoint=TIMELINE, for_s=600)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run(expect=6)
    [said] = [line for line in done.stdout.splitlines() if line.startswith("ended early")]
    assert "5 answers in a row were lost" in said
    books = sandbox.books()
    # A second process may have one under way.
    measure("answers lost", answers(books, "200", endpoint=TIMELINE), at_most=6)
    sales = [sandbox.sales(handle) for handle in HANDLES]
    measure(
        "times that a page was bought", max(max(s.values(), default=0) for s in sales), at_most=2
    )
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)


def test_A27_one_page_that_is_always_lost_is_bought_twice(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    handle = next(h for h in HANDLES if len(truth(sandbox, [h])) > 150)
    sandbox.fault("cut-body", endpoint=TIMELINE, username=handle, for_s=600, going_on=True)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run(expect=1)
    assert f"@{handle}" in done.stdout
    measure("times that a post was bought", max(sandbox.sales(handle).values()), at_most=2)
    others = truth(sandbox, [each for each in HANDLES if each != handle])
    lacking = set(others) - set(crawler.stored_ids())
    measure("posts of others missing", len(lacking), at_most=0)


@pytest.mark.parametrize("budget", [(), ("--budget", "50")], ids=["no budget", "budget"])
@pytest.mark.parametrize("fault", ["cut-body", "truncated-json", "html-200"])
def test_A27_lost_answers_are_purchases_in_every_book(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any, fault: str, budget: tuple[str, ...]
) -> None:
    sandbox.fault(fault, endpoint=TIMELINE, username=HANDLES[1])
    sandbox.fault(fault, endpoint=TIMELINE, username=HANDLES[5])
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run(*budget)
    books = sandbox.books()
    [(lost, most, cost)] = crawler.select(
        """
        SELECT count(*), sum(posts), sum(micro_usd)
        FROM crawl_reserved
        WHERE owner = '' AND endpoint = '/2/users/:id/tweets' AND why <> ''
        """
    )
    measure("answers lost and not booked", abs(lost - 2), at_most=0)
    [(stored,)] = crawler.select("SELECT sum(post_count) FROM crawl_page")
    unbooked = books["posts_sold"] - stored - most
    measure("posts sold beside those stored and those reported", max(0, unbooked), at_most=0)
    assert cost == most * 5_000
    assert "of /2/users/:id/tweets lost (X's answer" in done.stdout
    [(told,)] = crawler.select("SELECT report->'lost' FROM crawl_run")
    assert sum(each["answers"] for each in told) == 2
    looked = crawler.run("status")
    assert "2 requests were sent whose answer nobody saw" in " ".join(looked.stdout.split())
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)


# -- A28: nobody is there ----------------------------------------------------------------


def nobody() -> str:
    """An address of this machine at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("way", ["refused", "dns", "tls"])
def test_A28_a_run_without_any_answer_names_host_and_cause(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any, way: str
) -> None:
    url, cause = {
        "refused": (nobody(), "refuses connections: is `tweetcrawler sandbox` running?"),
        "dns": ("https://nowhere.invalid", "the name nowhere.invalid has no address"),
        "tls": (sandbox.url.replace("http:", "https:"), "the TLS certificate of X's address"),
    }[way]
    crawler = Crawler(tmp_path, dsn=dsn, auth_csv=sandbox.auth_csv, api_url=url, handles=HANDLES)
    begun = time.monotonic()
    done = crawler.run("--give-up-after", "3s", expect=6)
    [said] = [line for line in done.stdout.splitlines() if line.startswith("ended early")]
    assert cause in said
    assert url.partition("//")[2].partition(":")[0] in said
    measure.seconds("seconds until given up, of 3", time.monotonic() - begun, at_most=10)
    measure("tracebacks", (done.stdout + done.stderr).count("Traceback"), at_most=0)
