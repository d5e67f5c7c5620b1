"""X as pages: one method per endpoint, and one error per way in which X fails.

The only user of tweepy. tweepy's own `request` has no base URL, no timeout and loses the
headers, so it is replaced; what tweepy knows of routes, parameters and signatures is used
as it is.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
import tweepy
from requests_oauthlib import OAuth1

from tweetcrawler import __version__, flatten, trouble
from tweetcrawler.endpoints import (
    CHANGE_STREAM_RULES,
    COMPLIANCE_JOB,
    COMPLIANCE_JOBS,
    CONNECTIONS,
    COUNTS_ALL,
    END_CONNECTIONS,
    FIRST_POST_S,
    NEW_COMPLIANCE_JOB,
    SEARCH_ALL,
    SEARCH_ALL_MAX,
    SEARCH_RECENT,
    SEARCH_RECENT_MAX,
    STREAM,
    STREAM_RULES,
    TRENDS,
    TWEETS,
    USAGE,
    USER_TWEETS,
    USERS_BY,
    counted_from_s,
)
from tweetcrawler.errors import (
    CredentialRefused,
    ProxyFailed,
    TooManyConnections,
    XError,
    XUnavailable,
)
from tweetcrawler.ids import DAY_S, FIRST_DATED_ID, id_at, time_ms_of
from tweetcrawler.secret import Credential, Secret
from tweetcrawler.web import Line, NoAnswer, Opened, Timeouts, Untouched
from tweetcrawler.windows import Rate

__all__ = ["ANSWER_MAX_BYTES", "CLOCK_TOLERANCE_S", "Page", "Stream", "Timeouts", "X"]

# Without a lower bound the archive looks back from the upper one by 30 days only.
_ARCHIVE_DEFAULT_MS = 29 * DAY_S * 1000

# An answer of 100 usual posts has about 250 kB. A post may have 25,000 characters of up to
# 4 bytes, though not 100 of them on every page: what is far beyond that is no answer of X.
ANSWER_MAX_BYTES = 16 * 1024 * 1024
_POST_MAX_BYTES = 84 * 1024
# A window of which X says nothing while it tells the day: its own number for no limit.
_UNTOLD = (40_000, 40_000, 900.0)
# Lists of ids have up to hundreds of megabytes.
_TRANSFER_S, _RESULT_MAX_BYTES = 3600.0, 1024 * 1024 * 1024
# X refuses signatures whose time is more than minutes away from its own.
CLOCK_TOLERANCE_S = 120.0


@dataclass(frozen=True)
class Page:
    """One answer of X.

    `answer` is the parsed body: `data` (absent when empty), `includes`, `meta`, `errors`.
    `body` is the JSON as received. `server_time_s` is the answer's own `Date` in epoch
    seconds, and `rate` what its headers said.
    """

    endpoint: str
    params: Mapping[str, str]
    body: bytes
    answer: Mapping[str, Any]
    server_time_s: float
    rate: Rate | None

    @property
    def data(self) -> list[Mapping[str, Any]]:
        """The objects of the answer; empty when there are none."""
        data = self.answer.get("data")
        found = data if isinstance(data, list) else [data] if isinstance(data, dict) else []
        return [item for item in found if isinstance(item, dict)]

    @property
    def next_token(self) -> str | None:
        """X's hint at the page behind this one."""
        meta = self.answer.get("meta")
        token = meta.get("next_token") if isinstance(meta, dict) else None
        return token if isinstance(token, str) and token else None

    @property
    def errors(self) -> list[Mapping[str, Any]]:
        """The partial errors of the answer."""
        found = self.answer.get("errors")
        return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


class X:
    """X as one credential sees it; not to be shared between threads.

    Every method sends one request and gives its `Page`, or raises one of the `XError`s.
    `user_auth` chooses between the user's token (OAuth 1.0a) and the app's bearer.
    """

    def __init__(self, credential: Credential, *, api_url: str, timeouts: Timeouts) -> None:
        self._client = _Client(credential, api_url.rstrip("/"), timeouts)

    @property
    def ahead_s(self) -> float:
        """Seconds that X's clock is ahead of this machine's, by the last answer; 0 before it."""
        return self._client.clock_ahead_s

    def bearer_token(self) -> Secret:
        """The bearer token of the credential's app, given or got with the app's keys."""
        return Secret(self._client.app_token())

    def users_by(self, usernames: Sequence[str], *, user_auth: bool) -> Page:
        """The users of up to 100 names."""
        return self._page(
            USERS_BY,
            self._client.get_users(
                usernames=list(usernames),
                user_fields=list(flatten.USER_FIELDS),
                user_auth=user_auth,
            ),
        )

    def user_tweets(
        self,
        user_id: str,
        *,
        since_id: int | None,
        until_id: int | None,
        token: str | None,
        user_auth: bool,
        max_results: int = 100,
    ) -> Page:
        """Up to 100 of a user's posts between two ids (both exclusive), newest first.

        **Errors**: `TargetRefused` when X answers that the user is gone, suspended or protected.
        """
        page = self._page(
            USER_TWEETS,
            self._client.get_users_tweets(
                user_id,
                since_id=since_id,
                until_id=until_id,
                pagination_token=token,
                max_results=max_results,
                user_auth=user_auth,
                **_fields(),
            ),
        )
        # X answers 200 for an account that cannot be read: errors, without data and meta.
        if not page.data and page.errors and ("meta" not in page.answer or _is_cut(page)):
            raise trouble.target_trouble(page.errors, user_id, page.rate)
        return _whole(page)

    def search_recent(
        self,
        query: str,
        *,
        since_id: int,
        until_id: int | None,
        token: str | None,
        user_auth: bool,
        max_results: int = SEARCH_RECENT_MAX,
    ) -> Page:
        """Up to 100 matching posts of the last week, newest first, between two exclusive ids.

        Both ids must be younger than `endpoints.RECENT_S`, or X refuses.
        """
        answered = self._client.search_recent_tweets(
            query,
            since_id=since_id,
            until_id=until_id,
            next_token=token,
            max_results=max_results,
            sort_order="recency",
            user_auth=user_auth,
            **_fields(),
        )
        return _whole(self._page(SEARCH_RECENT, answered))

    def search_all(
        self,
        query: str,
        *,
        since_id: int,
        until_id: int | None,
        token: str | None,
        max_results: int = SEARCH_ALL_MAX,
    ) -> Page:
        """Up to 500 matching posts of all time, newest first, between two exclusive ids.

        Where the lower id must be given as a time, posts of the same second may come that
        are not newer than it.
        """
        answered = self._client.search_all_tweets(
            query,
            **_archive_bottom(since_id, until_id),
            until_id=until_id,
            next_token=token,
            max_results=max_results,
            sort_order="recency",
            # With these a page held 100 posts at most; nothing of the table is made from them.
            **_fields(without="context_annotations"),
        )
        return _whole(self._page(SEARCH_ALL, answered))

    def counts(
        self,
        endpoint: str,
        query: str,
        *,
        since_id: int,
        until_id: int | None,
        token: str | None = None,
        end_s: float | None = None,
    ) -> Page:
        """Number of matching posts per day, up to a month of days; no post is bought.

        `end_s`: only posts of the archive before this second, instead of `until_id`.
        """
        params: dict[str, Any] = {"query": query, "granularity": "day"}
        if end_s is not None:
            # X takes no id of the bottom beside a time of the top.
            params |= {"start_time": _second(counted_from_s(since_id)), "end_time": _second(end_s)}
        else:
            bottom = {"since_id": since_id}
            params |= _archive_bottom(since_id, until_id) if endpoint == COUNTS_ALL else bottom
            params |= {} if until_id is None else {"until_id": until_id}
        if token is not None:
            params["next_token"] = token
        return self._page(endpoint, self._client.request("GET", endpoint, params=params))

    def tweets(self, ids: Sequence[int], *, user_auth: bool) -> Page:
        """The posts of up to 100 ids; those that X does not give are among the errors."""
        return self._page(
            TWEETS, self._client.get_tweets([str(i) for i in ids], user_auth=user_auth, **_fields())
        )

    def trends(self, woeid: int, *, max_trends: int) -> Page:
        """The trends of a place, the first first; as the app. tweepy has no method for it."""
        params = {"max_trends": max_trends, "trend.fields": "trend_name,tweet_count"}
        answered = self._client.request("GET", TRENDS.replace(":woeid", str(woeid)), params=params)
        return self._page(TRENDS, answered)

    def usage(self, *, days: int) -> Page:
        """Number of posts that the app's project has read, by X's own count; free.

        In all, and on the last days.

        tweepy has no method for it.
        """
        fields = "cap_reset_day,daily_project_usage,project_cap,project_id,project_usage"
        return self._page(
            USAGE, self._client.request("GET", USAGE, params={"days": days, "usage.fields": fields})
        )

    def compliance_jobs(self, kind: str) -> Page:
        """The compliance jobs of the app, of "tweets" or "users"."""
        answered = self._client.request("GET", COMPLIANCE_JOBS, params={"type": kind})
        return _without_links(self._page(COMPLIANCE_JOBS, answered))

    def compliance_job(self, job_id: str) -> Page:
        """One compliance job of the app."""
        answered = self._client.request("GET", COMPLIANCE_JOB.replace(":id", job_id))
        return _without_links(self._page(COMPLIANCE_JOB, answered))

    def create_compliance_job(self, kind: str, name: str) -> Page:
        """A new compliance job. Its `name` tells it apart should the answer be lost."""
        sent = {"type": kind, "name": name}
        answered = self._client.request("POST", COMPLIANCE_JOBS, json=sent)
        return _without_links(self._page(NEW_COMPLIANCE_JOB, answered))

    def upload_ids(self, url: str, ids: bytes) -> None:
        """Sends the list of ids, one per line, to the address of a job.

        **Errors**: `XUnavailable`, without the address: who has it may read the list.
        """
        self._client.transfer("PUT", url, ids)

    def download_result(self, url: str) -> bytes:
        """The result of a job as X wrote it.

        **Errors**: `XUnavailable`.
        """
        return self._client.transfer("GET", url, None)

    def stream_rules(self, token: str | None = None) -> Page:
        """Up to 1,000 rules of the app's filtered stream."""
        params = {} if token is None else {"pagination_token": token}
        return self._page(STREAM_RULES, self._client.request("GET", STREAM_RULES, params=params))

    def change_stream_rules(self, change: Mapping[str, Any], *, dry_run: bool) -> Page:
        """The answer to `{"add": [{value, tag}]}` or `{"delete": {"ids": [id]}}`.

        Rules that X does not take are among its errors.
        """
        params = {"dry_run": "true"} if dry_run else {}
        answered = self._client.request("POST", STREAM_RULES, params=params, json=change)
        return self._page(CHANGE_STREAM_RULES, answered)

    def connections(self) -> Page:
        """The app's streams that are open."""
        params = {"status": "active", "max_results": 100}
        return self._page(CONNECTIONS, self._client.request("GET", CONNECTIONS, params=params))

    def end_connections(self, ids: Sequence[str]) -> Page:
        """Ends streams of the app."""
        answered = self._client.request("DELETE", CONNECTIONS, json={"uuids": list(ids)})
        return self._page(END_CONNECTIONS, answered)

    def stream(self, *, silent_s: float) -> Stream:
        """The filtered stream, open; X sends a heartbeat within `silent_s`.

        **Errors**: `TooManyConnections` among the others.
        """
        route = STREAM + _query(_joined(_fields()))
        return self._client.open_stream(route, silent_s=silent_s)

    @staticmethod
    def _page(endpoint: str, answered: _Answer) -> Page:
        return Page(
            endpoint,
            {name: str(value) for name, value in answered.params.items()},
            answered.body,
            answered.json,
            answered.server_time_s,
            answered.rate,
        )


def _without_links(page: Page) -> Page:
    """The page to keep: its addresses are signed, so that everybody who has them may read."""
    jobs = [{k: v for k, v in job.items() if not k.endswith("_url")} for job in page.data]
    return replace(page, body=orjson.dumps({"data": jobs}))


@dataclass(frozen=True)
class Stream:
    """An open stream: `opened_at` is X's own time in seconds since 1970."""

    opened_at: float
    rate: Rate | None
    _opened: Opened

    def read(self, within_s: float = 0.05) -> bytes:
        """The bytes that came; none at the end. See `web.Opened.read`.

        **Errors**: `XUnavailable` when the line breaks or is silent.
        """
        try:
            return self._opened.read(within_s)
        except NoAnswer as failure:
            raise XUnavailable(str(failure)) from None

    def cut(self) -> None:
        """Ends a read from any thread."""
        self._opened.cut()

    def close(self) -> None:
        """Ends the stream."""
        self._opened.close()


def _joined(fields: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Lists of fields as X names them."""
    return {name.replace("_fields", ".fields"): ",".join(values) for name, values in fields.items()}


def _fields(*, without: str | None = None) -> dict[str, list[str]]:
    return {
        "tweet_fields": [name for name in flatten.TWEET_FIELDS if name != without],
        "user_fields": list(flatten.USER_FIELDS),
        "media_fields": list(flatten.MEDIA_FIELDS),
        "poll_fields": list(flatten.POLL_FIELDS),
        "place_fields": list(flatten.PLACE_FIELDS),
        "expansions": list(flatten.EXPANSIONS),
    }


def _archive_bottom(since_id: int, until_id: int | None) -> dict[str, Any]:
    """The lower bound of an archive search, as X is sure to understand it.

    An id would do, were it certain that X then forgets its default of 30 days: so farther
    down it is a time. X takes only one of both.
    """
    if since_id == 0:
        return {"start_time": _second(FIRST_POST_S)}
    top_ms = time.time() * 1000 if until_id is None else time_ms_of(until_id)
    since_ms = time_ms_of(since_id)
    if since_id < FIRST_DATED_ID or top_ms - since_ms < _ARCHIVE_DEFAULT_MS:
        return {"since_id": since_id}
    if since_id + 1 == id_at(since_ms + 1):
        since_ms += 1  # the lowest id of a moment is wanted, so that moment is the first
    return {"start_time": _second(since_ms // 1000)}


def _second(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _whole(page: Page) -> Page:
    """The page of posts; without its meta it would pass for an end that it is not."""
    if not page.data and page.errors and _is_cut(page):
        raise trouble.target_trouble(page.errors, "", page.rate)
    if "meta" not in page.answer:
        raise trouble.no_page("holds no page", page.rate, sold=bool(page.data))
    return page


def _is_cut(page: Page) -> bool:
    """Whether an answer without posts says that X could not give them, such as an
    "Internal Error": then it is no end.
    """
    return page.next_token is None and any(trouble.state_of(e) is None for e in page.errors)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    params: Mapping[str, Any]
    body: bytes
    json: Mapping[str, Any]
    server_time_s: float
    rate: Rate | None


class _Client(tweepy.Client):  # type: ignore[misc] # tweepy has no types
    """tweepy's client with our base URL, deadlines, headers, and errors without secrets."""

    def __init__(self, credential: Credential, api_url: str, timeouts: Timeouts) -> None:
        super().__init__(return_type=Untouched)
        self.user_agent: str = f"tweetcrawler/{__version__} {self.user_agent}"
        self._credential = credential
        self._line = Line(
            api_url,
            server="X",
            timeouts=timeouts,
            max_bytes=ANSWER_MAX_BYTES,
            proxy=credential.proxy,
        )
        self._bearer: str | None = (
            credential.bearer_token.reveal() if credential.bearer_token else None
        )
        self.clock_ahead_s = 0.0
        self._host, self._timeouts = urlsplit(api_url).hostname, timeouts

    def request(
        self,
        method: str,
        route: str,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        user_auth: bool = False,
    ) -> _Answer:
        """Sends one request.

        Public in tweepy, so it serves the endpoints that tweepy lacks, too.
        """
        headers = {"User-Agent": self.user_agent}
        auth = None
        if user_auth:
            auth = self._signature()
        else:
            headers["Authorization"] = f"Bearer {self.app_token()}"
        try:
            return _judge(self._send(method, route, params or {}, headers, auth=auth, json=json))
        except CredentialRefused:
            # A token that was got with the app's keys ends when the operator regenerates it.
            # The confirming call then gets a new one.
            if not user_auth and self._credential.bearer_token is None:
                self._bearer = None
            raise

    def transfer(self, method: str, url: str, body: bytes | None) -> bytes:
        """The body of an answer of X's storage, which takes no key."""
        parts = urlsplit(url)
        if not parts.hostname or (parts.scheme != "https" and parts.hostname != self._host):
            raise XUnavailable("X names no address of its storage that can be used")
        line = Line(
            f"{parts.scheme}://{parts.netloc}",
            server="X's storage",
            timeouts=replace(self._timeouts, total_s=_TRANSFER_S),
            max_bytes=_RESULT_MAX_BYTES,
            proxy=self._credential.proxy,
        )
        headers = {} if body is None else {"Content-Type": "text/plain"}
        try:
            answer = line.send(method, f"{parts.path}?{parts.query}", headers, data=body)
        except NoAnswer as failure:
            raise XUnavailable(str(failure), status=failure.status) from None
        if answer.status not in (200, 201):
            raise XUnavailable(f"X's storage answers {answer.status}", status=answer.status)
        return answer.body

    def open_stream(self, route: str, *, silent_s: float) -> Stream:
        """A stream whose answer has begun; see `X.stream`."""
        headers = {
            "User-Agent": self.user_agent,
            "Authorization": f"Bearer {self.app_token()}",
            # What is compressed comes in blocks, and each message is wanted when it is there.
            "Accept-Encoding": "identity",
        }
        try:
            opened = self._line.open(route, headers, silent_s=silent_s)
            server_time_s = _server_time(opened.headers)
            self.clock_ahead_s = server_time_s - time.time()
            rate = _rate(opened.headers, server_time_s)
            if opened.status == 200:
                return Stream(server_time_s, rate, opened)
            body = opened.whole()
        except NoAnswer as failure:
            raise _unavailable(failure) from None
        raise _stream_refused(
            _Answer(opened.status, opened.headers, {}, body, {}, server_time_s, rate)
        )

    def app_token(self) -> str:
        """The token that requests of the app are sent with."""
        if self._bearer is None:
            key, secret = self._credential.consumer_key, self._credential.consumer_secret
            if key is None or secret is None:
                raise CredentialRefused(
                    "this credential has no bearer token and no consumer key to get one"
                )
            # RFC 6749, 4.4: the keys of the app give its bearer token, which does not expire.
            pair = base64.b64encode(f"{key.reveal()}:{secret.reveal()}".encode()).decode()
            headers = {"User-Agent": self.user_agent, "Authorization": f"Basic {pair}"}
            answer = self._send(
                "POST", "/oauth2/token", {}, headers, data={"grant_type": "client_credentials"}
            )
            if answer.status in (400, 401, 403) and answer.body.lstrip().startswith(b"{"):
                raise CredentialRefused(
                    "X gives no bearer token for this consumer key and secret", status=answer.status
                )
            token = _judge(answer).json.get("access_token")
            if not isinstance(token, str):
                raise XUnavailable("X's answer holds no bearer token", status=answer.status)
            self._bearer = token
        return self._bearer

    def _signature(self) -> OAuth1:
        c = self._credential
        secrets = (c.consumer_key, c.consumer_secret, c.access_token, c.access_token_secret)
        if any(secret is None for secret in secrets):
            raise CredentialRefused("this credential has no user token")
        ahead_s = self.clock_ahead_s
        timestamp = str(int(time.time() + ahead_s)) if abs(ahead_s) > CLOCK_TOLERANCE_S else None
        return OAuth1(*(secret.reveal() for secret in secrets if secret), timestamp=timestamp)

    def _send(
        self,
        method: str,
        route: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str],
        **more: Any,
    ) -> _Answer:
        try:
            answered = self._line.send(
                method, route + _query(params), headers, max_bytes=_most_bytes(params), **more
            )
        except NoAnswer as failure:
            raise _unavailable(failure) from None
        server_time_s = _server_time(answered.headers)
        self.clock_ahead_s = server_time_s - time.time()
        return _Answer(
            answered.status,
            answered.headers,
            params,
            answered.body,
            {},
            server_time_s,
            _rate(answered.headers, server_time_s),
        )


def _unavailable(failure: NoAnswer) -> XError:
    if failure.at_proxy:
        return ProxyFailed(str(failure))
    unavailable = XUnavailable(str(failure), status=failure.status)
    unavailable.unsent, unavailable.too_long = failure.unsent, failure.too_long
    return unavailable


def _stream_refused(answer: _Answer) -> Exception:
    """The error of a stream that X does not open."""
    try:
        parsed = _parse(answer.body)
    except ValueError:
        parsed = None
    body = parsed if isinstance(parsed, dict) else None
    judged = trouble.Answer(answer.status, body, answer.rate, answer.server_time_s)
    # A 429 with permits left: no window turns before it may be tried again.
    if answer.status == 429 and body and body.get("connection_issue") == "TooManyConnections":
        return judged.as_error(TooManyConnections)
    return trouble.judged(judged)


def _judge(answer: _Answer) -> _Answer:
    """The answer with its parsed body, or the error that it means."""
    try:
        parsed = _parse(answer.body)
    except ValueError:
        parsed = None
    # Rules that were added come with 201.
    if answer.status not in (200, 201):
        body = parsed if isinstance(parsed, dict) else None
        raise trouble.judged(trouble.Answer(answer.status, body, answer.rate, answer.server_time_s))
    if not isinstance(parsed, dict):
        raise XUnavailable("X's answer is no JSON object", rate=answer.rate, status=200)
    return replace(answer, json=parsed)


def _most_bytes(params: Mapping[str, Any]) -> int:
    """The longest answer that is read: a large page of the archive may be larger than others."""
    size = params.get("max_results")
    return max(ANSWER_MAX_BYTES, _POST_MAX_BYTES * size if isinstance(size, int) else 0)


def _query(params: Mapping[str, Any]) -> str:
    """The parameters as they stand in the URL.

    A query may hold commas as they are. Written as %2C, the hundred of them in the lists of
    fields would be taken apart and put together again by each layer below: a third of a
    request's own cost.
    """
    return f"?{urlencode(params, safe=',')}" if params else ""


def _server_time(headers: Mapping[str, str]) -> float:
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, IndexError):
        return time.time()


def _rate(headers: Mapping[str, str], server_time_s: float) -> Rate | None:
    def number(name: str) -> int | None:
        text = headers.get(name, "").strip()
        return int(text) if text.isdecimal() and len(text) < 19 else None

    def scope(prefix: str) -> tuple[int, int, float] | None:
        parts = [number(f"{prefix}-{part}") for part in ("limit", "remaining", "reset")]
        limit, remaining, reset = parts
        if limit is None or remaining is None or reset is None:
            return None
        return limit, remaining, _seconds_until(reset, server_time_s)

    # All three come with 200, 400, 403 and 429; with 401 and 5xx none may come.
    window = scope("x-rate-limit")
    # Some plans count the day, too: of the token, of its app, or of both.
    of_app = scope("x-app-limit-24hour")
    days = [day for day in (scope("x-user-limit-24hour"), of_app) if day is not None]
    if window is None and not days:
        return None
    limit, remaining, reset_in_s = window or _UNTOLD
    rate = Rate(limit, remaining, reset_in_s, app_day=of_app)
    if not days:
        return rate
    day = min(days, key=lambda each: each[1])
    return replace(rate, day_limit=day[0], day_remaining=day[1], day_reset_in_s=day[2])


def _seconds_until(reset: int, server_time_s: float) -> float:
    in_ms = reset > 100_000_000_000  # year 5138 in seconds, 1973 in milliseconds
    return (reset / 1000 if in_ms else reset) - server_time_s


def _parse(body: bytes) -> Any:
    """The JSON of a body.

    **Errors**: ValueError.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # orjson takes no lone surrogates; X has sent them, and the post is kept all the same.
        try:
            return json.loads(body)
        except RecursionError:
            raise ValueError("the answer is nested deeper than any page") from None
