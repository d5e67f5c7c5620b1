"""Windows and permits against a simulated X: nothing into a closed window, nothing left unused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_x import (
    ENDPOINT,
    Clock,
    Keys,
    MemoryBooks,
    SimulatedX,
    credentials,
    run_processes,
    utilisation,
)

from tweetcrawler import windows
from tweetcrawler.errors import (
    CapReached,
    CredentialRefused,
    EndpointRefused,
    MustWait,
    NoCredentialLeft,
    Overloaded,
    ProxyFailed,
    WindowClosed,
    XUnavailable,
)
from tweetcrawler.permits import Ledger, Permit
from tweetcrawler.windows import Bucket, Rate


@pytest.mark.parametrize("processes", [1, 2, 5, 20, 40])
@pytest.mark.parametrize("count", [1, 2, 5, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("unequal", [False, True])
def test_every_window_is_used_up_and_none_is_overrun(
    count: int, processes: int, unequal: bool
) -> None:
    clock = Clock()
    limits = {f"user{n}": (900 if not unequal else (900, 300, 75, 15)[n % 4]) for n in range(count)}
    x = SimulatedX(clock, limits)
    windows_long = 3
    start = clock.now
    run_processes(
        x, credentials(count), processes, request_s=0.4, until=start + windows_long * 900.0
    )
    assert x.closed == 0
    assert utilisation(x, processes, 0.4, windows_long * 900.0) >= 0.98


@settings(max_examples=40, deadline=None)
@given(
    limits=st.lists(st.integers(1, 120), min_size=1, max_size=6),
    processes=st.integers(1, 8),
    request_s=st.floats(0.05, 2.0),
    offset_s=st.floats(-5_000, 5_000),
)
def test_no_request_into_a_closed_window_whatever_the_limits_and_clocks(
    limits: list[int], processes: int, request_s: float, offset_s: float
) -> None:
    clock = Clock()
    x = SimulatedX(clock, {f"user{n}": limit for n, limit in enumerate(limits)}, offset_s=offset_s)
    run_processes(
        x, credentials(len(limits)), processes, request_s=request_s, until=clock.now + 4_000
    )
    assert x.closed == 0
    assert sum(x.served.values()) > 0


def test_user_and_app_buckets_of_one_credential_are_both_used() -> None:
    clock = Clock()
    x = SimulatedX(clock, {"user0": 10, "app0": 30})
    run_processes(x, credentials(1, app=True), 2, request_s=0.2, until=clock.now + 800)
    assert x.served == {"user0": 10, "app0": 30}


def test_credentials_of_one_app_share_its_bucket() -> None:
    clock = Clock()
    x = SimulatedX(clock, {"app": 30})
    keys = [Keys("a", None, "app"), Keys("b", None, "app")]
    run_processes(x, keys, 3, request_s=0.2, until=clock.now + 800)
    assert x.served == {"app": 30}
    assert x.closed == 0


def test_a_process_that_dies_forfeits_its_block_until_the_window_turns() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    x = SimulatedX(clock, {"user0": 100})
    first = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    first.settle(books, first.reserve(books, ENDPOINT), x.answer("user0"))
    first.reserve(books, ENDPOINT)  # a block of 25, of which one is sent; then it dies
    second = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    for _ in range(74):
        permit = second.reserve(books, ENDPOINT)
        second.settle(books, permit, x.answer(permit.subject))
    with pytest.raises(MustWait):
        second.reserve(books, ENDPOINT)
    clock.now += 902
    second.reserve(books, ENDPOINT)


class SlowBooks(MemoryBooks):
    """Books whose locks and commits take seconds, as those of a database that is busy."""

    before_s = 0.0
    after_s = 0.0

    def change_buckets(self, keys: Any, change: Any) -> Any:
        self.clock.now += self.before_s
        result = super().change_buckets(keys, change)
        self.clock.now += self.after_s
        return result


@pytest.mark.parametrize(("before_s", "after_s"), [(3.0, 0.0), (0.0, 3.0), (3.0, 3.0)])
def test_a_slow_database_makes_no_permit_last_beyond_its_window(
    before_s: float, after_s: float
) -> None:
    """The time in which the books were waited for belongs to the window, not behind its end."""
    clock = Clock()
    books = SlowBooks(clock)
    x = SimulatedX(clock, {"user0": 300})
    ledger = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    first = ledger.reserve(books, ENDPOINT)
    ends_at = clock.now + 900.0
    answer = x.answer("user0")
    books.before_s, books.after_s = before_s, after_s
    ledger.settle(books, first, answer)
    ledger.reserve(books, ENDPOINT)  # a block of 25
    [bucket] = [bucket for bucket in books.buckets.values() if bucket.limit]
    assert bucket.reset_at <= ends_at + windows.MARGIN_S
    before_s = after_s = books.before_s = books.after_s = 0.0
    clock.now = ends_at - windows.MARGIN_S
    with pytest.raises(MustWait):
        ledger.reserve(books, ENDPOINT)


def test_a_late_request_that_the_next_short_window_counts_is_taken_to_the_books() -> None:
    """Else the books lend the whole of a window of which X has counted one already."""
    clock = Clock()
    books = MemoryBooks(clock)
    x = SimulatedX(clock, {"user0": 12}, window_s=4.0)
    ledger = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    for _ in range(2):
        permit = ledger.reserve(books, ENDPOINT)
        ledger.settle(books, permit, x.answer("user0"))
    permit = ledger.reserve(books, ENDPOINT)
    clock.now += 4.2  # its process got no share of a core
    ledger.settle(books, permit, x.answer("user0"))
    [bucket] = [bucket for bucket in books.buckets.values() if bucket.limit]
    assert (bucket.turn, bucket.remaining) == (1, 11)


def test_after_a_restart_a_used_up_window_is_still_known() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    x = SimulatedX(clock, {"user0": 3})
    ledger = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    for _ in range(3):
        permit = ledger.reserve(books, ENDPOINT)
        ledger.settle(books, permit, x.answer(permit.subject))
    with pytest.raises(MustWait) as wait:
        Ledger(credentials(1), own=0, since=0.0, monotonic=clock).reserve(books, ENDPOINT)
    assert 895 < wait.value.wait_s < 905


def refused(ledger: Ledger, books: MemoryBooks, error: Any) -> Permit:
    permit = ledger.reserve(books, ENDPOINT)
    ledger.refused(books, permit, error)
    return permit


def test_requests_of_others_on_the_same_key_are_believed() -> None:
    """Somebody uses the key elsewhere: X's remaining is less than ours, and X is right."""
    clock = Clock()
    books = MemoryBooks(clock)
    ledger = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    ledger.settle(books, ledger.reserve(books, ENDPOINT), Rate(900, 899, 900))
    ledger.settle(books, ledger.reserve(books, ENDPOINT), Rate(900, 2, 890))
    for left in (1, 0):
        ledger.settle(books, ledger.reserve(books, ENDPOINT), Rate(900, left, 880))
    with pytest.raises(MustWait):
        ledger.reserve(books, ENDPOINT)


def test_refused_credential_is_out_for_this_run_and_tried_again_by_the_next() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledger = Ledger(credentials(1), own=0, since=clock.now, monotonic=clock)
    refused(ledger, books, CredentialRefused("401"))
    with pytest.raises(NoCredentialLeft):
        ledger.reserve(books, ENDPOINT)
    clock.now += 5
    Ledger(credentials(1), own=0, since=clock.now, monotonic=clock).reserve(books, ENDPOINT)


def test_refused_token_leaves_the_other_of_its_credential_usable() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledger = Ledger(credentials(1, app=True), own=0, since=0.0, monotonic=clock)
    assert refused(ledger, books, CredentialRefused("401")).kind == "app"
    assert ledger.reserve(books, ENDPOINT).kind == "user"


def test_forbidden_endpoint_is_closed_for_that_credential_only() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledger = Ledger(credentials(2), own=0, since=0.0, monotonic=clock)
    assert refused(ledger, books, EndpointRefused("403")).credential == 0
    assert ledger.reserve(books, ENDPOINT).credential == 1
    assert ledger.reserve(books, "/2/users/by").credential == 0


def test_used_up_cap_closes_the_whole_account_and_says_so() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledger = Ledger(credentials(1, app=True), own=0, since=0.0, monotonic=clock)
    refused(ledger, books, CapReached("cap", for_s=86_400))
    with pytest.raises(CapReached) as ended:
        ledger.reserve(books, "/2/users/by")
    assert ended.value.exit_code == 5


def test_too_fast_backs_off_twice_as_long_each_time() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    waits = []
    ledger = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    ledger.settle(books, ledger.reserve(books, ENDPOINT), Rate(900, 899, 900))
    for _ in range(4):
        refused(ledger, books, Overloaded("429"))
        with pytest.raises(MustWait) as wait:
            Ledger(credentials(1), own=0, since=0.0, monotonic=clock).reserve(books, ENDPOINT)
        waits.append(wait.value.wait_s)
        clock.now += wait.value.wait_s
    assert [round(b / a) for a, b in itertools.pairwise(waits)] == [2, 2, 2]


def test_failing_endpoint_is_probed_by_one_at_a_time_and_costs_no_credential() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledgers = [Ledger(credentials(3), own=n, since=0.0, monotonic=clock) for n in range(3)]
    asked = 0
    end = clock.now + 60
    while clock.now < end:
        for ledger in ledgers:
            try:
                refused(ledger, books, XUnavailable("503"))
                asked += 1
            except MustWait:
                pass
        clock.now += 0.1
    assert asked <= 12
    clock.now += 60
    permit = ledgers[0].reserve(books, ENDPOINT)
    ledgers[0].settle(books, permit, Rate(900, 899, 900))
    for ledger in ledgers:
        ledger.reserve(books, ENDPOINT)


def test_day_limit_is_kept_beside_the_window() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledger = Ledger(credentials(1), own=0, since=0.0, monotonic=clock)
    for left in (1, 0):
        ledger.settle(
            books, ledger.reserve(books, ENDPOINT), Rate(900, 898 + left, 900, 500, left, 40_000.0)
        )
    with pytest.raises(MustWait) as wait:
        ledger.reserve(books, ENDPOINT)
    assert wait.value.wait_s > 39_000


def test_a_clock_that_was_set_back_does_not_close_a_bucket_for_long() -> None:
    bucket = Bucket(limit=10, remaining=0, reset_at=100_000.0, anchored=True)
    assert windows.lend(bucket, 5, 1_000.0)[1] is not None


# -- the clock of the books jumps ----------------------------------------------------


class JumpingBooks(MemoryBooks):
    """Books whose clock is set anew while processes run, as that of a database's machine
    may be.
    """

    ahead_s = 0.0

    def change_buckets(self, keys: Any, change: Any) -> Any:
        return super().change_buckets(
            keys, lambda buckets, now: change(buckets, now + self.ahead_s)
        )


@pytest.mark.parametrize("jump_s", [3_600.0, -3_600.0, 86_400.0, -86_400.0])
def test_a_jump_of_the_clock_of_the_books_costs_a_refusal_a_process_and_bucket(
    jump_s: float,
) -> None:
    """X's windows do not jump with it; whoever asks too early is told so, and knows it from
    then on.
    """
    clock = Clock(now=200_000.0)
    books = JumpingBooks(clock)
    x = SimulatedX(clock, {"user0": 30, "user1": 30})
    ledgers = [Ledger(credentials(2), own=n, since=clock.now, monotonic=clock) for n in range(4)]
    begun = clock.now
    longest = 0.0
    while clock.now < begun + 3_600:
        books.ahead_s = jump_s if clock.now > begun + 1_200 else 0.0
        for ledger in ledgers:
            try:
                permit = ledger.reserve(books, ENDPOINT)
            except MustWait as wait:
                longest = max(longest, wait.wait_s)
                continue
            try:
                ledger.settle(books, permit, x.answer(permit.subject))
            except WindowClosed as error:
                ledger.refused(books, permit, error)
        clock.now += 5
    assert x.closed <= 2 * len(ledgers)
    assert longest <= 905
    assert sum(x.served.values()) >= 2 * 30 * 3, "the windows after the jump are used, too"


@pytest.mark.parametrize("jump_s", [3_600.0, 86_400.0])
def test_no_wait_that_was_noted_before_the_clock_was_set_back_is_longer_than_it_was(
    jump_s: float,
) -> None:
    clock = Clock(now=200_000.0)
    books = JumpingBooks(clock)
    books.ahead_s = jump_s
    before = Ledger(credentials(3), own=0, since=clock.now + jump_s, monotonic=clock)
    for error in (
        CapReached("the month's posts are used up", for_s=86_400.0),
        CredentialRefused("no such token"),
        Overloaded("go slower", rate=Rate(900, 500, 900.0)),
    ):
        before.refused(books, before.reserve(books, ENDPOINT), error)
    books.ahead_s = 0.0
    after = Ledger(credentials(3), own=0, since=clock.now, monotonic=clock)
    assert after.reserve(books, ENDPOINT).credential == 0, (
        "what was refused in the future is no refusal of this run"
    )
    patient = Ledger(credentials(3)[2:], own=0, since=clock.now, monotonic=clock)
    assert patient.reserve(books, ENDPOINT)


# -- proxies ---------------------------------------------------------------------------------------


def behind_proxies(count: int) -> list[Keys]:
    return [replace(keys, proxy_fingerprint=f"way{n}") for n, keys in enumerate(credentials(count))]


def send(ledger: Ledger, books: MemoryBooks, x: SimulatedX, dead: set[str]) -> Permit:
    """One request through the ledger; that of a dead proxy does not reach X."""
    permit = ledger.reserve(books, ENDPOINT)
    if permit.proxy in dead:
        ledger.refused(books, permit, ProxyFailed("no connection to X through the proxy"))
    else:
        ledger.settle(books, permit, x.answer(permit.subject))
    return permit


def test_a_dead_proxy_rests_its_credential_and_the_others_go_on() -> None:
    clock = Clock()
    books, x = MemoryBooks(clock), SimulatedX(clock, {"user0": 900, "user1": 900})
    keys = behind_proxies(2)
    ledgers = [Ledger(keys, own=n, since=0.0, monotonic=clock) for n in range(4)]
    sent = []
    for _ in range(150):
        clock.now += 0.2
        sent += [send(ledger, books, x, {"way0"}).credential for ledger in ledgers]
    assert sent.count(0) <= 4 + windows.PROXY_TRIES, "one each to find out, then one after a pause"
    assert x.served == {"user1": len(sent) - sent.count(0)}
    assert ("*", ENDPOINT) not in books.buckets, "the endpoint is not to blame"


def test_a_dead_proxy_is_tried_after_growing_pauses_by_one_process_at_a_time() -> None:
    clock = Clock()
    books, x = MemoryBooks(clock), SimulatedX(clock, {"user0": 900, "user1": 2_400})
    ledgers = [
        Ledger(behind_proxies(2), own=0, since=0.0, monotonic=clock, chance=lambda: 1.0)
        for _ in range(5)
    ]
    tried_at = []
    for _ in range(450):
        clock.now += 0.5
        sent = [send(ledger, books, x, {"way0"}).credential for ledger in ledgers]
        tried_at += [clock.now] * sent.count(0)
    pauses = [later - before for before, later in itertools.pairwise(tried_at)]
    # A process goes on with the permits that it borrowed elsewhere, so a pause may last longer.
    assert len(pauses) >= 4
    assert all(pause >= 2.0 ** (n + 1) for n, pause in enumerate(pauses))


def test_a_proxy_that_works_again_is_used_as_before() -> None:
    clock = Clock()
    books, x = MemoryBooks(clock), SimulatedX(clock, {"user0": 900, "user1": 900})
    ledger = Ledger(behind_proxies(2), own=0, since=0.0, monotonic=clock)
    assert send(ledger, books, x, set()).credential == 0
    assert send(ledger, books, x, {"way0"}).credential == 0
    assert send(ledger, books, x, {"way0"}).credential == 1
    clock.now += 3.0
    sent = [send(ledger, books, x, set()).credential for _ in range(50)]
    assert sent == [0] * 50
    assert books.buckets[("way0", "*proxy")] == Bucket()


def test_permits_that_a_proxy_did_not_pass_on_are_not_lost() -> None:
    clock = Clock()
    books, x = MemoryBooks(clock), SimulatedX(clock, {"user0": 100, "user1": 100})
    ledger = Ledger(behind_proxies(2), own=0, since=0.0, monotonic=clock)
    for _ in range(5):
        send(ledger, books, x, set())
    send(ledger, books, x, {"way0"})
    assert books.buckets[("user0", ENDPOINT)].remaining == 95


def test_credentials_of_one_app_share_its_bucket_through_whichever_proxy_works() -> None:
    clock = Clock()
    books, x = MemoryBooks(clock), SimulatedX(clock, {"app": 30})
    keys = [Keys(name, None, "app", proxy_fingerprint=f"way-{name}") for name in "ab"]
    ledger = Ledger(keys, own=0, since=0.0, monotonic=clock)
    sent = [send(ledger, books, x, {"way-a"}).credential for _ in range(31)]
    assert sent == [0] + [1] * 30
    with pytest.raises(MustWait, match="waits for its"):
        ledger.reserve(books, ENDPOINT)


def test_with_all_proxies_dead_the_run_ends_and_a_new_one_tries_at_once() -> None:
    clock = Clock()
    books, x = MemoryBooks(clock), SimulatedX(clock, {"user0": 900, "user1": 900})
    dead = {"way0", "way1"}
    ledger = Ledger(behind_proxies(2), own=0, since=clock.now, monotonic=clock)
    tries = 0

    def run() -> None:
        nonlocal tries
        while clock.now < 2_000:
            try:
                send(ledger, books, x, dead)
                tries += 1
            except MustWait as wait:
                clock.now += wait.wait_s

    with pytest.raises(NoCredentialLeft, match=r"through the proxy of c0 and c1: correct .* proxy"):
        run()
    assert tries == 2 * windows.PROXY_TRIES
    clock.now += 0.5
    again = Ledger(behind_proxies(2), own=0, since=clock.now, monotonic=clock)
    assert send(again, books, x, set()).credential == 0


def test_a_dead_proxy_does_not_end_a_run_while_another_credential_waits() -> None:
    clock = Clock()
    books, x = MemoryBooks(clock), SimulatedX(clock, {"user0": 900, "user1": 2})
    ledger = Ledger(behind_proxies(2), own=0, since=0.0, monotonic=clock)
    served = 0
    while served < 6 and clock.now < 10_000:
        try:
            served += send(ledger, books, x, {"way0"}).credential
        except MustWait as wait:
            clock.now += wait.wait_s
    assert served == 6


# -- limits of a day -----------------------------------------------------------------------------


def day_rate(left: int, of_app: int) -> Rate:
    """Headers of one answer: a wide window, and a day of the token and of its app."""
    day = min(left, of_app)
    return Rate(900, 800, 900.0, 100, day, 7_200.0, app_day=(500, of_app, 7_200.0))


def test_the_day_of_an_app_closes_all_of_its_tokens() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    keys = [Keys(f"c{n}", f"user{n}", "one app", has_app=False) for n in range(3)]
    ledgers = [Ledger(keys, own=n, since=0.0, monotonic=clock) for n in range(3)]
    for number in range(20):
        ledger = ledgers[number % 3]
        ledger.settle(books, ledger.reserve(books, ENDPOINT), day_rate(90, 19 - number))
    for ledger in ledgers:
        with pytest.raises(MustWait) as caught:
            ledger.reserve(books, ENDPOINT)
        assert caught.value.wait_s == pytest.approx(7_200.0, abs=3)


def test_a_429_of_a_day_waits_for_the_day_and_not_for_its_window() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledger = Ledger([Keys("c", "user", "app", has_app=False)], own=0, since=0.0, monotonic=clock)
    permit = ledger.reserve(books, ENDPOINT)
    rate = Rate(900, 899, 600.0, 100, 0, 7_200.0)
    sentence = ledger.refused(books, permit, WindowClosed("429", rate=rate))
    assert "not used again for 720" in sentence
    with pytest.raises(MustWait) as caught:
        ledger.reserve(books, ENDPOINT)
    assert caught.value.wait_s == pytest.approx(7_200.0, abs=3)


def test_answers_without_headers_open_nothing() -> None:
    clock = Clock()
    books = MemoryBooks(clock)
    ledgers = [
        Ledger([Keys("c", "user", "app", has_app=False)], own=0, since=0.0, monotonic=clock)
        for _ in range(2)
    ]
    permit = ledgers[0].reserve(books, ENDPOINT)
    with pytest.raises(MustWait):
        ledgers[1].reserve(books, ENDPOINT)  # one request asks what the bucket holds
    ledgers[0].settle(books, permit, None)
    # It did not tell: again one request at a time, and none waits longer than for that one.
    permit = ledgers[1].reserve(books, ENDPOINT)
    with pytest.raises(MustWait):
        ledgers[0].reserve(books, ENDPOINT)
    ledgers[1].settle(books, permit, Rate(9, 2, 900.0))
    for _ in range(2):
        ledgers[0].settle(books, ledgers[0].reserve(books, ENDPOINT), None)
    with pytest.raises(MustWait) as caught:
        ledgers[0].reserve(books, ENDPOINT)
    assert caught.value.wait_s > 800
