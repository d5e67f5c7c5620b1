"""Cost of a page to the crawler, in steps of Python's own machine.

A count that no other load on the machine changes.

A measured time would tell more and be believed less. What C does (JSON, compression, the
wire) is not seen here; `make bench` measures it. Who makes a page cheaper lowers the
numbers, who has reason to make it dearer raises them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from sandbox_server import Sandbox

from tweetcrawler.db import Database
from tweetcrawler.flatten import flatten
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.sentiment import scorer
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.xapi import Page, Timeouts, X

# Steps a post, on pages of 100, by CPython 3.11. Other versions differ by a tenth.
FLATTEN = 790
SENTIMENT = 415
SAVE = 27
REQUEST_AS_APP = 204
REQUEST_AS_USER = 700
MARGIN = 1.3


@pytest.fixture(scope="module")
def sandbox() -> Any:
    with Sandbox(
        "--fast", "--plan", "unlimited", "--short-pages", "0", "--credentials", "1"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def x(sandbox: Sandbox) -> X:
    return X(
        read_credentials(sandbox.auth_csv).credentials[0], api_url=sandbox.url, timeouts=Timeouts()
    )


@pytest.fixture(scope="module")
def pages(sandbox: Sandbox, x: X) -> list[Page]:
    return [ask(x, sandbox, f"writer_{number}", as_user=False) for number in range(6)]


def ask(x: X, sandbox: Sandbox, name: str, *, as_user: bool) -> Page:
    return x.user_tweets(
        sandbox.id_of(name), since_id=None, until_id=None, token=None, user_auth=as_user
    )


def steps(work: Callable[[], object]) -> int:
    """How many instructions of bytecode the work takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def is_no_dearer(found: float, stored: int, what: str) -> None:
    print(f"{what}: {found:.0f} steps a post, {stored} are stored")
    assert found <= MARGIN * stored, f"{what} takes {found:.0f} steps a post, {stored} before"


def test_flattening_takes_no_more_steps_than_before(pages: list[Page]) -> None:
    flatten(pages[0].answer)
    found = steps(lambda: [flatten(page.answer) for page in pages])
    is_no_dearer(found / (100 * len(pages)), FLATTEN, "flattening")


def test_scoring_takes_no_more_steps_than_before(pages: list[Page]) -> None:
    score = scorer()
    texts = [tweet["text"] for page in pages for tweet in page.data]
    for text in texts:
        score(text)
    is_no_dearer(steps(lambda: [score(text) for text in texts]) / len(texts), SENTIMENT, "scoring")


def test_saving_takes_no_more_steps_than_before(pages: list[Page], database: Database) -> None:
    with database.session() as session:
        run, _ = session.begin_run(version="test", arguments={}, host="test", credentials=())

        def save(page: Page) -> None:
            bought = Bought(page.endpoint, page.params, "c1", page.body, posts=100)
            session.save(
                run, "owner", Batch(target=None, bought=bought, rows=flatten(page.answer).rows)
            )

        save(pages[0])
        flattening = steps(lambda: [flatten(page.answer) for page in pages[1:]])

        def save_all() -> None:
            for page in pages[1:]:
                save(page)

        saving = steps(save_all) - flattening
    is_no_dearer(saving / (100 * len(pages[1:])), SAVE, "saving")


@pytest.mark.parametrize(("as_user", "stored"), [(False, REQUEST_AS_APP), (True, REQUEST_AS_USER)])
def test_asking_takes_no_more_steps_than_before(
    sandbox: Sandbox, x: X, as_user: bool, stored: int
) -> None:
    ask(x, sandbox, "writer_1", as_user=as_user)
    user_id = sandbox.id_of("writer_1")
    found = steps(
        lambda: x.user_tweets(user_id, since_id=None, until_id=None, token=None, user_auth=as_user)
    )
    is_no_dearer(
        found / 100, stored, "a request as the user" if as_user else "a request as the app"
    )
