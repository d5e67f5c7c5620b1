"""What the sandbox writes into its books, and when it stops selling."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sandbox_server import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "60-60", "--short-pages", "0") as running:
        yield running


def buy(sandbox: Sandbox, name: str = "ada", credential: int = 0, **parameters: str) -> int:
    """Status of one timeline page of 50."""
    answer = sandbox.get(
        f"/2/users/{sandbox.id_of(name)}/tweets",
        {"max_results": "50"} | parameters,
        credential=credential,
    )
    return answer.status_code


def test_every_post_in_data_is_sold_each_time_it_is_sent(sandbox: Sandbox) -> None:
    buy(sandbox)
    buy(sandbox, expansions="referenced_tweets.id")
    buy(sandbox, "grace", max_results="10")
    books = sandbox.books()
    assert (books["posts_sold"], books["posts_distinct"]) == (110, 60)
    newest = sandbox.truth_ids("ada")["ids"]
    assert sandbox.sales("ada") == {int(id_): 2 for id_ in newest[:50]}
    assert len(sandbox.sales("grace")) == 10


def test_posts_without_a_place_in_the_timeline_are_counted_by_id(sandbox: Sandbox) -> None:
    added = sandbox.control("POST", "/sandbox/world", {"user": "ada", "add_posts": 2})["added"]
    buy(sandbox)
    sales = sandbox.sales("ada")
    assert len(sales) == 50
    assert sales[int(added[0])] == 1


def test_users_are_sold_by_lookups_and_lists(sandbox: Sandbox) -> None:
    sandbox.get("/2/users/by", {"usernames": "ada,grace,gone_x"})
    sandbox.get("/2/users/by", {"usernames": "ada"})
    books = sandbox.books()
    assert (books["users_sold"], books["users_distinct"]) == (3, 2)


def test_new_books_begin_empty(sandbox: Sandbox) -> None:
    buy(sandbox)
    sandbox.control("POST", "/sandbox/books/reset")
    books = sandbox.books()
    assert (books["posts_sold"], books["posts_distinct"], books["requests"]) == (0, 0, {})
    assert sandbox.sales("ada") == {}


def test_truth_costs_nothing(sandbox: Sandbox) -> None:
    assert len(sandbox.truth("ada")) == 60
    assert sandbox.books()["posts_sold"] == 0


def test_the_same_post_is_charged_once_a_day_and_endpoint() -> None:
    with Sandbox("--posts", "60-60", "--short-pages", "0") as sandbox:
        buy(sandbox)
        buy(sandbox)
        usage = sandbox.get("/2/usage/tweets").json()["data"]
        assert usage["project_usage"] == "50"
        assert usage["daily_project_usage"]["usage"][-1]["usage"] == "50"
        sandbox.get("/2/tweets", {"ids": sandbox.truth_ids("ada")["ids"][0]})
        assert sandbox.get("/2/usage/tweets").json()["data"]["project_usage"] == "51"
        assert sandbox.get("/2/usage/tweets", credential=1).json()["data"]["project_usage"] == "0"


def test_a_project_at_its_cap_is_refused_while_others_go_on() -> None:
    with Sandbox("--posts", "60-60", "--short-pages", "0", "--cap", "70") as sandbox:
        assert [buy(sandbox, name) for name in ("ada", "grace")] == [200, 200]
        answer = sandbox.get(f"/2/users/{sandbox.id_of('linus')}/tweets")
        assert answer.status_code == 429
        assert answer.json()["title"] == "UsageCapExceeded"
        assert answer.json()["type"].endswith("/usage-capped")
        assert int(answer.headers["x-rate-limit-remaining"]) > 0
        assert buy(sandbox, "linus", credential=1) == 200


def test_apps_of_a_shared_project_share_its_cap() -> None:
    with Sandbox("--posts", "60-60", "--cap", "40", "--shared-project") as sandbox:
        assert buy(sandbox) == 200
        assert buy(sandbox, "grace", credential=1) == 429


def test_without_credits_left_the_answer_is_402() -> None:
    with Sandbox("--posts", "60-60", "--short-pages", "0", "--credits", "0.30") as sandbox:
        assert [buy(sandbox, name) for name in ("ada", "grace", "linus")] == [200, 200, 402]
        assert sandbox.get("/2/users/by", {"usernames": "ada"}).json()["title"] == "CreditsDepleted"
        project = next(iter(sandbox.books()["projects"].values()))
        assert project == {"posts_charged": 100, "spent_usd": 0.5}
        assert buy(sandbox, "linus", credential=1) == 200
