"""Arithmetic of X's rate-limit windows: what a bucket lends, when it opens, what it learns.

X counts requests in *buckets*, one for each (token or app, endpoint). A bucket's window
starts with the first request after the last one ended, lasts 15 minutes and allows `limit`
requests. All functions are pure: time comes in as `now`, in seconds on the ledger's clock,
and a changed bucket goes out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tweetcrawler.ids import DAY_S

WINDOW_S = 900.0
# X truncates the end of a window to whole seconds, so the true end may lie up to a second
# behind its word.
MARGIN_S = 1.0
# Just before its end nothing is sent: the request might arrive in, and be charged to, the
# window after it.
GREY_S = 2.0 * MARGIN_S + 0.5
# How long the others wait for the one request that finds out what an unknown bucket holds.
PROBE_S = 15.0
# Two readings of one window's end differ by less than this; a later one belongs to a new
# window.
SAME_WINDOW_S = 3.0
# What is noted for a moment that lies farther ahead than it can was noted before the clock
# of the books was set back.
SET_BACK_S = 60.0
# Of an answer that asks for patience and names no time: with these, ten requests in the
# first hour.
BACK_OFF_FIRST_S = 4.0
BACK_OFF_MAX_S = 3_600.0
BREAKER_MAX_S = 60.0
# One failure may be a request's own; from the second in a row on the endpoint is left alone
# for a while.
BREAKER_FAILURES = 2
# A proxy that fails rests at once, since others go on without it. When it is the last way to
# X, a run waits for it no more after this number of failures in a row, half a minute.
PROXY = "proxy"
PROXY_FIRST_S = 2.0
PROXY_MAX_S = 300.0
PROXY_TRIES = 5
# Where X counts by the second, too, a permit may be lent for a moment that lies so far
# ahead; then one must wait.
QUEUE_S = 5.0


@dataclass(frozen=True)
class Rate:
    """The headers of one answer about its bucket.

    Seconds are counted from the answer's own `Date`. The day is that of the token or of its
    app, of which less is left; `app_day` is what all tokens of the app have together.
    """

    limit: int
    remaining: int
    reset_in_s: float
    day_limit: int | None = None
    day_remaining: int | None = None
    day_reset_in_s: float | None = None
    app_day: tuple[int, int, float] | None = None


@dataclass(frozen=True)
class Bucket:
    """One bucket as the ledger knows it.

    `remaining` is what may still be lent in the present window: what X allows, less what
    was lent. `limit` is None until X's first answer. `turn` numbers the windows, so that a
    late answer of an old one is told apart. `anchored` is False while the window's end is
    only assumed, because no answer of it was seen yet. `next_at` is the earliest moment of
    the next request where X wants a distance between two of them. `blocked_until` delays
    (back-off); `shut_at` and `shut_reason` say that X refused, until `shut_until`.
    """

    limit: int | None = None
    remaining: int = 0
    reset_at: float = 0.0
    anchored: bool = False
    turn: int = 0
    window_s: float = WINDOW_S
    day_limit: int | None = None
    day_remaining: int = 0
    day_reset_at: float = 0.0
    blocked_until: float = 0.0
    next_at: float = 0.0
    failures: int = 0
    shut_at: float | None = None
    shut_until: float = 0.0
    shut_reason: str = ""


@dataclass(frozen=True)
class Loan:
    """Permits lent from a bucket.

    `count` requests, to be sent within `valid_s` seconds, but not before `after_s`.
    """

    count: int
    turn: int
    valid_s: float
    after_s: float = 0.0


def lend(
    bucket: Bucket, want: int, now: float, *, spacing_s: float = 0.0
) -> tuple[Bucket, Loan | None]:
    """Up to `want` permits of an open bucket, or None when it is closed.

    With a spacing they are lent one by one, each for a moment of its own.
    """
    if spacing_s > 0:
        return _lend_spaced(bucket, now, spacing_s)
    if opens_at(bucket, now) > now:
        return bucket, None
    if bucket.limit is None:
        # Nobody knows this bucket: one request asks, the others wait for what it learns.
        return replace(bucket, blocked_until=now + PROBE_S), Loan(1, bucket.turn, WINDOW_S)
    if _turned(bucket, now):
        end = now + bucket.window_s + MARGIN_S
        bucket = replace(
            bucket, remaining=bucket.limit, reset_at=end, anchored=False, turn=bucket.turn + 1
        )
    count = min(want, bucket.remaining)
    if bucket.day_limit is not None:
        if _within(DAY_S, bucket.day_reset_at, now) <= now:
            bucket = replace(bucket, day_remaining=bucket.day_limit, day_reset_at=now + DAY_S)
        count = min(count, bucket.day_remaining)
        bucket = replace(bucket, day_remaining=bucket.day_remaining - count)
    bucket = replace(bucket, remaining=bucket.remaining - count)
    return bucket, Loan(count, bucket.turn, max(0.0, bucket.reset_at - GREY_S - now))


def _lend_spaced(bucket: Bucket, now: float, spacing_s: float) -> tuple[Bucket, Loan | None]:
    moment = max(now, _within(QUEUE_S, bucket.next_at, now))
    if moment > now + QUEUE_S or (bucket.anchored and moment >= bucket.reset_at - GREY_S > now):
        return bucket, None
    bucket, loan = lend(bucket, 1, now)
    if loan is None:
        return bucket, None
    return replace(bucket, next_at=moment + spacing_s), replace(loan, after_s=moment - now)


def opens_at(bucket: Bucket, now: float) -> float:
    """When the bucket lends again: `now` or earlier when it is open.

    A refusal is not looked at here.
    """
    patience_s = max(PROBE_S, _delay_s(bucket.failures))
    opens = max(
        _within(patience_s, bucket.blocked_until, now),
        _within(QUEUE_S, bucket.next_at, now) - QUEUE_S,
    )
    if bucket.limit is not None:
        if not _turned(bucket, now) and (bucket.remaining <= 0 or bucket.reset_at - GREY_S <= now):
            opens = max(opens, bucket.reset_at)
        if bucket.day_limit is not None and bucket.day_remaining <= 0:
            opens = max(opens, _within(DAY_S, bucket.day_reset_at, now))
    return opens


def _within(longest_s: float, moment: float, now: float) -> float:
    """The moment, or `now` for one further away than it can be.

    It was noted on a clock that was set back since.
    """
    return moment if moment <= now + longest_s + SET_BACK_S else now


def shut(bucket: Bucket, now: float, *, since: float) -> bool:
    """Whether X refused this bucket to a run that started at `since`.

    A new run may try once again.
    """
    if bucket.shut_at is None or bucket.shut_at > now + SET_BACK_S:
        return False
    return bucket.shut_at >= since and bucket.shut_until > now


def settle(bucket: Bucket, rate: Rate, now: float, *, turn: int, unsent: int) -> Bucket:
    """The bucket after an answer: X's word wins.

    `turn` and `unsent` are those of the loan that the request belonged to: how many of its
    permits have not been sent yet. An answer of an earlier window changes nothing.
    """
    if turn != bucket.turn:
        return bucket
    if bucket.anchored and _end_seen(bucket, rate, now) > bucket.reset_at + SAME_WINDOW_S:
        # The request came late and was charged to the next window already.
        bucket = replace(bucket, turn=bucket.turn + 1, remaining=rate.remaining)
        unsent = 0
    remaining = bucket.remaining
    if bucket.limit is None:
        remaining = rate.remaining - unsent
    elif rate.limit != bucket.limit:
        remaining += rate.limit - bucket.limit
    bucket = replace(
        _with_end(bucket, rate, now),
        limit=rate.limit,
        remaining=max(0, min(remaining, rate.remaining - unsent)),
        blocked_until=min(bucket.blocked_until, now),
        failures=0,
        shut_at=None,
    )
    return _with_day(bucket, rate, now, unsent)


def settle_day(bucket: Bucket, rate: Rate, now: float) -> Bucket:
    """The bucket of an app's day after an answer that tells it; permits of it are lent one
    by one.
    """
    assert rate.app_day is not None  # noqa: S101 - the caller looked
    limit, remaining, reset_in_s = rate.app_day
    bucket = replace(bucket, window_s=max(bucket.window_s, DAY_S))
    return settle(bucket, Rate(limit, remaining, reset_in_s), now, turn=bucket.turn, unsent=0)


def give_back(bucket: Bucket, *, turn: int, unsent: int) -> Bucket:
    """The bucket after permits of it were not used: others may send them, while their
    window lasts.
    """
    if turn != bucket.turn or bucket.limit is None or unsent <= 0:
        return bucket
    day = (
        bucket.day_remaining
        if bucket.day_limit is None
        else min(bucket.day_limit, bucket.day_remaining + unsent)
    )
    return replace(
        bucket, remaining=min(bucket.limit, bucket.remaining + unsent), day_remaining=day
    )


def answered(bucket: Bucket, now: float) -> Bucket:
    """The bucket after a good answer that says nothing of it."""
    return replace(bucket, blocked_until=min(bucket.blocked_until, now), failures=0, shut_at=None)


def unprobed(bucket: Bucket, now: float) -> Bucket:
    """The bucket after a request that should have found out what it holds, and did not."""
    if bucket.limit is None and bucket.failures == 0:
        return replace(bucket, blocked_until=min(bucket.blocked_until, now))
    return bucket


def close(bucket: Bucket, rate: Rate, now: float) -> Bucket:
    """The bucket after X answered that its window is used up."""
    if rate.day_remaining is not None and rate.day_remaining <= 0:
        # The day is over, whatever is left of the window in it.
        bucket = replace(bucket, limit=rate.limit, blocked_until=min(bucket.blocked_until, now))
        return _with_day(_with_end(bucket, rate, now), rate, now, 0)
    end = _with_end(bucket, rate, now)
    if rate.remaining > 0 or rate.reset_in_s <= 0:
        return back_off(end, now)
    bucket = replace(
        end, limit=rate.limit, remaining=0, blocked_until=min(bucket.blocked_until, now)
    )
    return _with_day(bucket, rate, now, 0)


def back_off(
    bucket: Bucket,
    now: float,
    *,
    chance: float = 1.0,
    first_s: float = BACK_OFF_FIRST_S,
    longest_s: float = BACK_OFF_MAX_S,
) -> Bucket:
    """The bucket after an answer that asks for patience.

    It rests twice as long each time, times `chance` (0 to 1).
    """
    failures = bucket.failures + 1
    delay_s = _delay_s(failures, first_s=first_s, longest_s=longest_s) * chance
    return replace(
        bucket, failures=failures, blocked_until=max(bucket.blocked_until, now + delay_s)
    )


def _delay_s(
    failures: int, *, first_s: float = BACK_OFF_FIRST_S, longest_s: float = BACK_OFF_MAX_S
) -> float:
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 20))


def refuse(bucket: Bucket, now: float, *, for_s: float, reason: str) -> Bucket:
    """The bucket after X refused it: closed for `for_s` seconds, or until a new run tries."""
    return replace(bucket, shut_at=now, shut_until=now + for_s, shut_reason=reason)


def rest(bucket: Bucket, now: float, *, since: float, chance: float) -> Bucket:
    """The bucket of a proxy that failed: shut for a while, twice as long each time in a run.

    `since` is when the run began, `chance` (0 to 1) spreads the next tries.
    """
    failures = failures_since(bucket, since) + 1
    delay_s = _delay_s(failures, first_s=PROXY_FIRST_S, longest_s=PROXY_MAX_S)
    shut_bucket = refuse(bucket, now, for_s=delay_s * (0.5 + chance / 2), reason=PROXY)
    return replace(shut_bucket, failures=failures)


def try_rested(bucket: Bucket, now: float) -> Bucket:
    """The bucket of a proxy that failed, before a request tries whether it leads to X again.

    For the others it stays shut until that is known.
    """
    return refuse(bucket, now, for_s=PROBE_S, reason=PROXY)


def failures_since(bucket: Bucket, since: float) -> int:
    """How often in a row the bucket failed in a run that began at `since`."""
    return bucket.failures if bucket.shut_at is not None and bucket.shut_at >= since else 0


def trip(breaker: Bucket, now: float, chance: float, *, again: bool = False) -> Bucket:
    """The breaker of an endpoint after a request without an answer.

    `chance` (0 to 1) spreads the next tries. A request that failed before fails `again` for
    its own reasons, perhaps: it leaves a closed breaker as it is.
    """
    if again and breaker.failures < BREAKER_FAILURES:
        return breaker
    if breaker.failures + 1 < BREAKER_FAILURES:
        return replace(breaker, failures=breaker.failures + 1)
    return back_off(breaker, now, chance=0.5 + chance / 2, first_s=2.0, longest_s=BREAKER_MAX_S)


def probe(breaker: Bucket, now: float) -> tuple[Bucket, bool]:
    """Whether a request may try an endpoint that fails.

    One at a time, after the breaker's delay.
    """
    if breaker.failures < BREAKER_FAILURES:
        return breaker, True
    if _within(BREAKER_MAX_S, breaker.blocked_until, now) > now:
        return breaker, False
    return replace(breaker, blocked_until=now + PROBE_S), True


def _turned(bucket: Bucket, now: float) -> bool:
    # A reset further away than any window is a clock that was set back, not a window.
    return (
        bucket.reset_at <= now
        or bucket.reset_at > now + max(bucket.window_s, WINDOW_S) + SET_BACK_S
    )


def _with_end(bucket: Bucket, rate: Rate, now: float) -> Bucket:
    window_s = bucket.window_s
    if rate.remaining == rate.limit - 1 and rate.reset_in_s > 0:
        window_s = rate.reset_in_s  # the first request of its window: the whole of it lies ahead
    seen = _end_seen(bucket, rate, now)
    # Each reading errs to the late side only, so of readings of one window the earliest is
    # the truest.
    same = bucket.anchored and seen <= bucket.reset_at + SAME_WINDOW_S
    return replace(
        bucket,
        reset_at=min(seen, bucket.reset_at) if same else seen,
        anchored=True,
        window_s=window_s,
    )


def _end_seen(bucket: Bucket, rate: Rate, now: float) -> float:
    return now + min(max(rate.reset_in_s, 0.0), max(bucket.window_s, WINDOW_S)) + MARGIN_S


def _with_day(bucket: Bucket, rate: Rate, now: float, unsent: int) -> Bucket:
    if rate.day_limit is None or rate.day_remaining is None or rate.day_reset_in_s is None:
        return bucket
    return replace(
        bucket,
        day_limit=rate.day_limit,
        day_remaining=max(0, rate.day_remaining - unsent),
        day_reset_at=now + max(0.0, rate.day_reset_in_s) + MARGIN_S,
    )
