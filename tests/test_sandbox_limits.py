"""The sandbox's keys and windows, against what X documents."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests
from requests_oauthlib import OAuth1
from sandbox_server import Sandbox

from tweetcrawler.sandbox.__main__ import main, parse
from tweetcrawler.sandbox.clock import Clock
from tweetcrawler.sandbox.limits import DAY_IN_WINDOWS, PLANS, Limit, Limits, Subject

ME = Subject("user", "1", "c1")
MY_APP = Subject("app", "9", "c1")
PATH = "/2/users/:id/tweets"


class Moment:
    """A clock's two sources, moved by hand."""

    def __init__(self) -> None:
        self.machine, self.steady = 1_790_000_000.7, 50.0

    def clock(self) -> Clock:
        return Clock(machine=lambda: self.machine, steady=lambda: self.steady)

    def pass_(self, seconds: float) -> None:
        self.machine += seconds
        self.steady += seconds


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "20-20", "--credentials", "3") as running:
        yield running


def limits_of(moment: Moment, app: int = 3, user: int = 2) -> Limits:
    return Limits(moment.clock(), 900, {PATH: Limit(app, user)})


def test_a_window_opens_with_its_first_call_and_shows_that_moment_cut_to_seconds() -> None:
    moment = Moment()
    limits = limits_of(moment)
    first = limits.take(PATH, ME)
    assert first.headers == {
        "x-rate-limit-limit": "2",
        "x-rate-limit-remaining": "1",
        "x-rate-limit-reset": "1790000900",
    }
    moment.pass_(400)
    assert limits.take(PATH, ME).headers["x-rate-limit-reset"] == "1790000900"


def test_a_window_turns_a_whole_length_after_its_first_call_not_when_the_header_says() -> None:
    """Who trusts the header to the second comes 0.7 s too early."""
    moment = Moment()
    limits = limits_of(moment)
    assert [limits.take(PATH, ME).open for _ in range(3)] == [True, True, False]
    moment.pass_(899.5)
    assert moment.machine > 1_790_000_900
    refused = limits.take(PATH, ME)
    assert (refused.open, refused.headers["x-rate-limit-remaining"]) == (False, "0")
    moment.pass_(0.5)
    assert limits.take(PATH, ME).open
    assert limits.closed_window_requests == 2
    (past,) = limits.past()
    assert (past["used"], past["limit"], past["endpoint"]) == (2, 2, PATH)


def test_apps_and_users_and_endpoints_have_windows_of_their_own() -> None:
    limits = limits_of(Moment())
    assert [limits.take(PATH, ME).open for _ in range(3)] == [True, True, False]
    assert [limits.take(PATH, MY_APP).open for _ in range(4)] == [True, True, True, False]
    assert limits.take("/2/users", ME).open
    assert limits.take(PATH, ME._replace(name="2")).open


def test_two_tokens_of_one_app_share_the_app_window_only() -> None:
    limits = limits_of(Moment(), app=1, user=1)
    other = "c2"
    assert limits.take(PATH, MY_APP).open
    assert not limits.take(PATH, MY_APP._replace(credential=other)).open
    assert limits.take(PATH, ME).open
    assert limits.take(PATH, Subject("user", "2", other)).open


def test_a_skewed_clock_shows_other_times_but_windows_last_as_long() -> None:
    moment = Moment()
    limits = limits_of(moment, user=1)
    limits.clock.skew_s = 3600
    assert limits.take(PATH, ME).headers["x-rate-limit-reset"] == "1790004500"
    limits.clock.skew_s = -3600
    moment.pass_(899)
    assert not limits.take(PATH, ME).open
    moment.pass_(1)
    assert limits.take(PATH, ME).open


def test_daily_limits_have_headers_of_their_own_and_leave_the_window_open() -> None:
    moment = Moment()
    limits = Limits(moment.clock(), 900, {"/2/users/by": PLANS["basic"]["/2/users/by"]})
    answers = [limits.take("/2/users/by", ME) for _ in range(101)]
    assert answers[0].headers["x-user-limit-24hour-remaining"] == "99"
    assert answers[0].headers["x-user-limit-24hour-reset"] == str(1_790_000_000 + 86_400)
    assert [answer.open for answer in answers] == [True] * 100 + [False]
    assert int(answers[-1].headers["x-rate-limit-remaining"]) > 0
    moment.pass_(900 * DAY_IN_WINDOWS)
    assert limits.take("/2/users/by", ME).open


def test_headers_come_with_200_400_403_and_429_but_not_with_401(sandbox: Sandbox) -> None:
    with Sandbox("--limit", "/2/users/:id/tweets=2/1") as own:
        path = f"/2/users/{own.id_of('ada')}/tweets"
        answers = {
            200: own.get(path),
            400: own.get(path, {"max_results": "1"}),
            429: own.get(path),
            403: own.get("/2/users/me"),
            401: requests.get(own.url + path, timeout=9),
        }
        assert {answer.status_code for answer in answers.values()} == set(answers)
        for status, answer in answers.items():
            assert ("x-rate-limit-limit" in answer.headers) == (status != 401)
        assert [
            answers[status].headers["x-rate-limit-remaining"] for status in (200, 400, 429)
        ] == ["1", "0", "0"]
        assert answers[429].json() == {
            "title": "Too Many Requests",
            "detail": "Too Many Requests",
            "type": "about:blank",
            "status": 429,
        }
        assert answers[401].json() == {
            "title": "Unauthorized",
            "type": "about:blank",
            "status": 401,
            "detail": "Unauthorized",
        }
        books = own.books()
        assert books["closed_window_requests"] == 1
        assert books["requests"]["c1"]["/2/users/:id/tweets"] == {"200": 1, "400": 1, "429": 1}
        assert books["requests"]["none"]["/2/users/:id/tweets"] == {"401": 1}
        window = next(one for one in books["windows"] if one["endpoint"] == "/2/users/:id/tweets")
        assert (window["limit"], window["used"], window["credential"]) == (2, 2, "c1")
        assert window["closes_at"] - window["opened_at"] == pytest.approx(900)


def test_a_short_window_turns_while_one_waits() -> None:
    with Sandbox("--limit", "/2/users/by=1/1", "--window-s", "2") as sandbox:
        sandbox.control("POST", "/sandbox/clock", {"stop": True})
        assert sandbox.get("/2/users/by", {"usernames": "ada"}).status_code == 200
        assert sandbox.get("/2/users/by", {"usernames": "ada"}).status_code == 429
        sandbox.control("POST", "/sandbox/clock", {"pass_s": 1.9})
        assert sandbox.get("/2/users/by", {"usernames": "ada"}).status_code == 429
        sandbox.control("POST", "/sandbox/clock", {"pass_s": 0.2})
        assert sandbox.get("/2/users/by", {"usernames": "ada"}).status_code == 200


def test_limits_can_be_set_for_one_credential(sandbox: Sandbox) -> None:
    sandbox.control("POST", "/sandbox/credentials", {"name": "c3", "limit": {"/2/users": [7, 5]}})
    for credential, user, limit in ((2, False, "7"), (2, True, "5"), (1, True, "900")):
        answer = sandbox.get("/2/users", {"ids": "12"}, user=user, credential=credential)
        assert answer.headers["x-rate-limit-limit"] == limit


@pytest.mark.parametrize(
    ("plan", "path", "limit"),
    [
        ("ppu", "/2/users/by", "900"),
        ("basic", "/2/users/:id/tweets", "5"),
        ("unlimited", "/2/users/:id/tweets", "40000"),
    ],
)
def test_plans_have_their_documented_limits(plan: str, path: str, limit: str) -> None:
    with Sandbox("--plan", plan) as sandbox:
        answer = sandbox.get(path.replace(":id", sandbox.id_of("ada")), user=True)
        assert answer.headers["x-rate-limit-limit"] == limit


def test_an_endpoint_outside_the_plan_is_a_403_of_its_own_kind() -> None:
    with Sandbox("--plan", "basic") as sandbox:
        answer = sandbox.get("/2/tweets/search/all", {"query": "cats"})
        assert (answer.status_code, answer.json()["reason"]) == (403, "client-not-enrolled")


def test_the_wrong_kind_of_token_is_told_which_kinds_are_right(sandbox: Sandbox) -> None:
    answer = sandbox.get("/2/users/me")
    assert answer.status_code == 403
    assert answer.json()["detail"].endswith("[OAuth 1.0a User Context, OAuth 2.0 User Context].")
    answer = sandbox.get("/2/tweets/counts/recent", {"query": "cats"}, user=True)
    assert answer.json()["detail"].endswith("[OAuth 2.0 Application-Only].")
    assert answer.json()["type"].endswith("/unsupported-authentication")


@pytest.mark.parametrize(
    "broken", ["consumer_key", "consumer_secret", "access_token", "access_token_secret"]
)
def test_each_of_the_four_secrets_is_checked(sandbox: Sandbox, broken: str) -> None:
    keys = sandbox.credentials[0] | {broken: sandbox.credentials[1][broken]}
    auth = OAuth1(
        *[
            keys[name]
            for name in ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
        ]
    )
    answer = requests.get(sandbox.url + "/2/users/by?usernames=ada", auth=auth, timeout=9)
    assert answer.status_code == 401


def test_a_signature_covers_the_query(sandbox: Sandbox) -> None:
    keys = sandbox.credentials[0]
    auth = OAuth1(
        *[
            keys[name]
            for name in ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
        ]
    )
    request = requests.Request(
        "GET",
        sandbox.url + "/2/tweets/search/recent",
        params={"query": "a b&c \u00e9 ~+%"},
        auth=auth,
    ).prepare()
    with requests.Session() as session:
        assert session.send(request, timeout=9).status_code == 200
        assert request.url is not None
        request.url += "&max_results=20"
        assert session.send(request, timeout=9).status_code == 401


def test_a_signature_over_x_own_address_is_accepted_too(sandbox: Sandbox) -> None:
    """A signature over X's own address is taken.

    A client whose transport points elsewhere still signs the address that it believes in.
    """
    keys = sandbox.credentials[0]
    auth = OAuth1(
        *[
            keys[name]
            for name in ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
        ]
    )
    for host in ("https://api.twitter.com", "https://api.x.com", "https://elsewhere.example"):
        request = requests.Request("GET", host + "/2/users/by?usernames=ada", auth=auth).prepare()
        request.url = sandbox.url + "/2/users/by?usernames=ada"
        with requests.Session() as session:
            status = session.send(request, timeout=9).status_code
        assert status == (401 if "elsewhere" in host else 200)


def test_a_bearer_token_is_given_for_key_and_secret(sandbox: Sandbox) -> None:
    keys = sandbox.credentials[1]
    for secret, status in ((keys["consumer_secret"], 200), ("wrong", 403)):
        answer = requests.post(
            sandbox.url + "/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(keys["consumer_key"], secret),
            timeout=9,
        )
        assert answer.status_code == status
        if status == 200:
            assert answer.json() == {"token_type": "bearer", "access_token": keys["bearer_token"]}
    assert sandbox.books()["requests"]["c2"]["/oauth2/token"] == {"200": 1, "403": 1}


def test_a_revoked_credential_is_refused_and_its_calls_are_counted_by_name() -> None:
    with Sandbox("--credentials", "2") as sandbox:
        sandbox.control("POST", "/sandbox/credentials", {"name": "c1", "revoked": True})
        for user in (False, True):
            assert sandbox.get("/2/users/by", {"usernames": "ada"}, user=user).status_code == 401
        assert sandbox.get("/2/users/by", {"usernames": "ada"}, credential=1).status_code == 200
        assert sandbox.books()["requests"] == {
            "c1": {"/2/users/by": {"401": 2}},
            "c2": {"/2/users/by": {"200": 1}},
        }
        sandbox.control("POST", "/sandbox/credentials", {"name": "c1", "revoked": False})
        assert sandbox.get("/2/users/by", {"usernames": "ada"}).status_code == 200


def test_tokens_of_a_shared_app_have_one_bearer_token() -> None:
    with Sandbox("--shared-app", "--credentials", "2") as sandbox:
        first, second = sandbox.credentials
        assert first["consumer_key"] == second["consumer_key"]
        assert first["bearer_token"] == second["bearer_token"]
        assert first["access_token"] != second["access_token"]


def test_the_date_header_is_the_servers_own_and_can_be_set_wrong(sandbox: Sandbox) -> None:
    with Sandbox() as own:
        own.control("POST", "/sandbox/clock", {"skew_s": 3600})
        answer = own.get("/2/users/by", {"usernames": "ada"})
        shown = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        assert shown == pytest.approx(time.time() + 3600, abs=5)
        assert int(answer.headers["x-rate-limit-reset"]) == pytest.approx(shown + 900, abs=2)
        assert own.control("GET", "/sandbox/clock")["skew_s"] == 3600


def test_open_windows_can_move_with_the_clock() -> None:
    """As for a client whose own clock jumps: how long a window lasts is told as before."""
    with Sandbox("--window-s", "600") as own:
        for skew_s in (0, 7_200, -7_200):
            own.control("POST", "/sandbox/clock", {"skew_s": skew_s, "move_windows": True})
            answer = own.get("/2/users/by", {"usernames": "ada"})
            shown = parsedate_to_datetime(answer.headers["Date"]).timestamp()
            assert shown == pytest.approx(time.time() + skew_s, abs=5)
            assert 590 <= int(answer.headers["x-rate-limit-reset"]) - shown <= 600
        assert (
            int(answer.headers["x-rate-limit-remaining"])
            == int(answer.headers["x-rate-limit-limit"]) - 3
        )


def test_the_archive_is_searched_once_a_second() -> None:
    with Sandbox() as sandbox:
        sandbox.control("POST", "/sandbox/clock", {"stop": True})
        assert sandbox.get("/2/tweets/search/all", {"query": "from:ada"}).status_code == 200
        answer = sandbox.get("/2/tweets/search/all", {"query": "from:ada"})
        assert answer.status_code == 429
        assert int(answer.headers["x-rate-limit-remaining"]) > 0
        sandbox.control("POST", "/sandbox/clock", {"pass_s": 1.05})
        assert sandbox.get("/2/tweets/search/all", {"query": "from:ada"}).status_code == 200


def test_the_auth_file_is_for_its_owner_only_and_follows_from_the_seed() -> None:
    with (
        Sandbox("--seed", "7") as one,
        Sandbox("--seed", "7") as again,
        Sandbox("--seed", "8") as other,
    ):
        assert stat.S_IMODE(one.auth_csv.stat().st_mode) == 0o600
        assert one.credentials == again.credentials
        assert one.credentials[0]["bearer_token"] != other.credentials[0]["bearer_token"]
        assert list(one.credentials[0]) == [
            "consumer_key",
            "consumer_secret",
            "access_token",
            "access_token_secret",
            "bearer_token",
            "name",
        ]
        assert [row["name"] for row in one.credentials] == ["c1", "c2", "c3", "c4", "c5"]
        shown = {
            str(value)
            for row in one.control("GET", "/sandbox/credentials")["credentials"]
            for value in row.values()
        }
        assert "c1" in shown
        assert not shown & {
            value for row in one.credentials for name, value in row.items() if name != "name"
        }


def test_gzip_is_used_for_those_who_accept_it(sandbox: Sandbox) -> None:
    path = f"/2/users/{sandbox.id_of('ada')}/tweets"
    for accepted, used in (("gzip", "gzip"), ("identity", None)):
        answer = sandbox.get(path, headers={"Accept-Encoding": accepted})
        assert answer.headers.get("Content-Encoding") == used
        assert answer.json()["data"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_cleanly(number: signal.Signals) -> None:
    with Sandbox() as sandbox:
        os.kill(sandbox.process.pid, number)
        assert sandbox.process.wait(5) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "0.0.0.0"],
        ["--plan", "gold"],
        ["--posts", "9-1"],
        ["--limit", "tweets=1"],
        ["--window-s", "0"],
        ["--window-s", "1.5"],
    ],
)
def test_an_option_that_cannot_be_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_options_are_understood() -> None:
    options = parse(
        [
            "--limit",
            "/2/users/:id/tweets=20/10",
            "--posts",
            "5-9",
            "--window-s",
            "3",
            "--no-gzip",
            "--write-auth",
            "a.csv",
            "--cap",
            "100",
            "--credits",
            "1.5",
        ]
    )
    assert options.limits == {"/2/users/:id/tweets": (20, 10)}
    assert (options.posts, options.window_s, options.gzip) == ((5, 9), 3, False)
    assert (options.write_auth, options.cap, options.credits_usd) == (Path("a.csv"), 100, 1.5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--write-auth", "/nowhere/auth.csv"], "cannot write /nowhere/auth.csv"),
        (["--limit", "/2/lists=3/3"], "/2/lists is no endpoint of the sandbox"),
        (["--recorded", "/nowhere"], "name a folder of recorded v2 answers"),
        (["--handles", "/nowhere"], "name a file with one handle a line"),
    ],
)
def test_what_cannot_be_used_ends_the_server_with_a_sentence(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""
