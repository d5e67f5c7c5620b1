"""Compliance by schedule: X's jobs and look-ups, and what becomes of the posts that they name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import Crawler, kill_tree, truth, wait_until
from sandbox_server import Sandbox
from test_keeping_comply import texts_in
from test_keeping_sweep import Dying

from tweetcrawler.db import Database
from tweetcrawler.keeping import checking, jobs
from tweetcrawler.keeping.sweep import sweep

POSTS = "tweet_articles_tweepy"
JOBS = "/2/compliance/jobs"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "20-30", "--compliance-s", "0.3") as running:
        yield running


@pytest.fixture
def other() -> Iterator[Sandbox]:
    """One whose jobs may stay open: X takes one of each type at a time."""
    with Sandbox("--posts", "20-30", "--compliance-s", "0.3") as running:
        yield running


def crawled(sandbox: Sandbox, dsn: str, folder: Path, *handles: str) -> Crawler:
    """A database with all posts of these users, of which no other test knows."""
    made = Crawler.on(sandbox, folder, dsn, handles, threads=1)
    made.run()
    return made


def change(sandbox: Sandbox, user: str, **what: Any) -> dict[str, Any]:
    found: dict[str, Any] = sandbox.control("POST", "/sandbox/world", {"user": user, **what})
    return found


def later(crawler: Crawler, what: str = "tweets") -> None:
    """As if the interval of the jobs of this kind had passed."""
    assert crawler.dsn is not None
    with psycopg.connect(crawler.dsn) as connection:
        connection.execute(
            "UPDATE crawl_check SET begun_at = begun_at - interval '90 days' WHERE kind = %s",
            [what],
        )


def checked(crawler: Crawler, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(crawler.run("--json", "comply", "--run", *more).stdout)
    return found


def own(posts: list[dict[str, Any]]) -> dict[str, str]:
    """Texts of posts that were never edited and repeat nobody, by id."""
    plain = [
        post["tweet"]
        for post in posts
        if len(post["tweet"]["edit_history_tweet_ids"]) == 1
        and not post["tweet"]["text"].startswith("RT @")
    ]
    return {tweet["id"]: tweet["text"] for tweet in plain}


def test_jobs_delete_what_is_deleted_and_blank_what_is_hidden_until_it_is_back(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    names = ("keeper_0", "keeper_1", "keeper_2")
    crawler = crawled(sandbox, dsn, tmp_path, *names)
    stored = crawler.stored_ids()
    by = {name: truth(sandbox, [name]) for name in names}
    deleted = by["keeper_0"][:3]
    change(sandbox, "keeper_0", delete=[str(one) for one in deleted])
    change(sandbox, "keeper_1", state="protected")
    change(sandbox, "keeper_2", state="suspended")
    found = checked(crawler)
    assert found["users"]["hidden"] == 2
    assert found["posts"]["deleted"] == 3
    assert crawler.stored_ids() == [one for one in stored if one not in deleted]
    hidden = set(by["keeper_1"] + by["keeper_2"])
    blank = {row[0] for row in crawler.select(f"SELECT id FROM {POSTS} WHERE text IS NULL")}
    repeating = crawler.select(
        f"SELECT id FROM {POSTS} WHERE text IS NULL AND retweeted_status_id IS NOT NULL"
    )
    assert blank - {row[0] for row in repeating} == hidden
    texts = texts_in(crawler.dsn or "")
    assert "X-Goog" not in texts, "who has a signed address may read the list"
    for name in ("keeper_1", "keeper_2"):
        assert sandbox.id_of(name) in texts
        assert f'"username":"{name}"' not in texts.lower(), "the profile is blanked, too"

    # Not due: nothing is asked. Due: what is deleted is asked for no more, what is hidden is.
    asked = sandbox.books()["requests"]
    nothing = checked(crawler)
    assert (nothing["deleted"], nothing.get("users"), nothing.get("posts")) == ({}, None, None)
    assert sandbox.books()["requests"] == asked
    change(sandbox, "keeper_1", state="normal")
    later(crawler, "users")
    later(crawler)
    again = checked(crawler)
    assert (again["users"]["back"], again["posts"]["deleted"], again["deleted"]) == (1, 0, {})
    last = sandbox.control("GET", "/sandbox/compliance")["jobs"][-1]
    assert set(map(str, by["keeper_2"])) <= set(last["ids"])
    assert not set(map(str, deleted)) & set(last["ids"])

    # What is back is bought again, within the budget of look-ups and before all others.
    sold = sandbox.books()["posts_sold"]
    budget = 0.005 * len(by["keeper_1"])
    looked = checked(crawler, "--compliance-budget", f"{budget:.3f}")
    assert looked["looks"]["looked"] == len(by["keeper_1"])
    assert sandbox.books()["posts_sold"] - sold == len(by["keeper_1"])
    whole = crawler.select(f"SELECT id FROM {POSTS} WHERE text IS NOT NULL ORDER BY id")
    assert set(by["keeper_1"]) <= {row[0] for row in whole}
    checked(crawler, "--compliance-budget", f"{budget:.3f}")
    assert sandbox.books()["posts_sold"] - sold == len(by["keeper_1"]), "the month's money is used"


def test_looks_find_edits_withheld_and_deleted_posts_and_each_look_counts(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = crawled(sandbox, dsn, tmp_path, "looker_0", "looker_3")
    edited, texts = [], own(sandbox.truth("looker_0"))
    old, *others = sorted(texts)
    [new] = change(sandbox, "looker_0", edit=[old])["edited"]
    edited += [int(old), int(new)]
    change(sandbox, "looker_0", withhold=[others[0]], countries=["DE", "FR"])
    # Tombstones of look-ups, too: `hydrate` learned that this one is gone.
    gone = truth(sandbox, ["looker_3"])[4]
    change(sandbox, "looker_3", delete=[str(gone)])
    crawler.run("hydrate", "--refresh", "--age", "1s", str(gone))
    found = checked(crawler, "--compliance-budget", "50")
    assert gone not in crawler.stored_ids()
    assert crawler.select(f"SELECT source FROM crawl_tombstone WHERE tweet_id = {gone}") == [
        ("lookup",)
    ]
    assert found["looks"]["edited"] == 0, "the newest version is bought by the next call"
    sold = sandbox.books()["posts_sold"]
    found = checked(crawler, "--compliance-budget", "50")
    assert (found["looks"]["looked"], found["looks"]["edited"]) == (1, 1)
    assert sandbox.books()["posts_sold"] - sold == 1, "each look counts: no other post is due"
    [(row_id, text)] = crawler.select(
        f"SELECT id, text FROM {POSTS} WHERE id IN ({edited[0]}, {edited[1]})"
    )
    assert row_id == edited[1]
    assert text.endswith("(edited)")
    assert crawler.select("SELECT older_id, tweet_id FROM crawl_alias WHERE done_at IS NOT NULL")
    assert crawler.select("SELECT tweet_id, countries FROM crawl_withheld") == [
        (int(others[0]), ["DE", "FR"])
    ]
    newest = {row[0] for row in crawler.select("SELECT tweet_id FROM crawl_due")}
    assert newest <= set(crawler.stored_ids())


_HOLD = {"delay_s": 600, "count": 1}
_HOLDS = [
    ("delay", JOBS, _HOLD),
    # The job is there, and its answer never arrives whole.
    ("slowloris", f"POST {JOBS}", {"interval_s": 60, "count": 1}),
    ("delay", "PUT /storage", _HOLD),
    ("delay", f"{JOBS}/:id", _HOLD),
    ("delay", "GET /storage", _HOLD),
]


@pytest.mark.parametrize(
    "holds", [_HOLDS[1:2], pytest.param(_HOLDS, marks=pytest.mark.slow)], ids=["create", "all"]
)
def test_a_call_that_is_killed_at_any_step_is_gone_on_with(
    other: Sandbox, dsn: str, tmp_path: Path, holds: list[tuple[str, str, dict[str, Any]]]
) -> None:
    """Each step is held by a fault of the sandbox, and the whole family is killed in it."""
    sandbox, crawler = other, crawled(other, dsn, tmp_path, "keeper_0")
    deleted = truth(sandbox, ["keeper_0"])[:4]
    change(sandbox, "keeper_0", delete=[str(one) for one in deleted])
    for name, endpoint, parameters in holds:
        sandbox.control("DELETE", "/sandbox/faults")
        sandbox.fault(name, endpoint=endpoint, **parameters)
        before = sandbox.books()["faults"].get(name, 0)
        running = crawler.start("comply", "--run")
        wait_until(
            lambda name=name, before=before: sandbox.books()["faults"].get(name, 0) > before,
            timeout_s=60,
            what=endpoint,
        )
        if endpoint == "PUT /storage":
            wait_until(lambda: told(sandbox)[-1]["uploads"] == 1, what="the upload")
        kill_tree(running.pid)
        running.communicate()
    sandbox.control("DELETE", "/sandbox/faults")
    found = checked(crawler)
    assert found["posts"]["deleted"] == 4
    made = told(sandbox)
    assert [(job["type"], job["uploads"]) for job in made] == [("users", 1), ("tweets", 1)]
    created = sandbox.books()["requests"]
    assert sum(each.get(f"POST {JOBS}", {}).get("200", 0) for each in created.values()) == 2
    assert not set(deleted) & set(crawler.stored_ids())
    assert crawler.select("SELECT sum(ids_count) FROM crawl_audit") == [(4,)]
    assert crawler.select("SELECT kind, state FROM crawl_check ORDER BY id") == [
        ("users", "done"),
        ("tweets", "done"),
    ]


def told(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.control("GET", "/sandbox/compliance")["jobs"]
    return found


def test_a_result_is_applied_once_whenever_the_call_is_killed(dsn: str) -> None:
    """It dies before each transaction in turn, from the result to the end of the job."""
    database = Database(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"INSERT INTO {POSTS} (id, text) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        connection.execute("INSERT INTO crawl_tombstone VALUES (3, NULL, 'protected', 'job')")
        connection.execute("UPDATE crawl_tombstone SET done_at = now()")
        lines = [
            b'{"id":"1","action":"delete","reason":"protected"}',
            b'{"id":"1","action":"delete","reason":"deleted"}',
            b'{"id":"2","action":"delete","reason":"suspended"}',
            b'{"id":"99","action":"delete","reason":"deleted"}',
            b'{"id":"18446744073709551616","action":"delete"}',
            b'{"id":"2","action":"a_word_of_2031"}',
            b"<html>",
        ]
        whole = Dying(connection, 10_000)
        check = checking.begin(database, whole, "tweets", "app")
        assert check is not None
        assert jobs.lists_of(whole, check)[0] == b"1\n2\n3\n"
        jobs.step(whole, check, "downloaded", result=b"\n".join(lines))
        died, said = 0, []
        while True:
            try:
                session = Dying(connection, died)
                found = jobs.opened(session, "tweets")
                assert found is not None
                if found.state == "downloaded":
                    said.append(checking.apply(database, session, found))
                sweep(session, POSTS)
                jobs.done(session, found)
            except KeyboardInterrupt:
                died += 1
                continue
            break
        assert died > 5
        [result] = said
        assert (result.deleted, result.hidden, result.back, result.strange) == (1, 1, 1, 4)
        rows = connection.execute(f"SELECT id, text FROM {POSTS} ORDER BY id").fetchall()
        assert rows == [(2, None), (3, "c")]
        audits = connection.execute("SELECT action, ids_count FROM crawl_audit").fetchall()
        assert sorted(audits) == [("back", 1), ("sweep", 2)]
        due = connection.execute("SELECT tweet_id FROM crawl_due WHERE step = -1").fetchall()
        assert due == [(3,)]


@pytest.mark.slow
def test_a_job_that_x_gives_up_is_named_and_the_next_call_begins_another(
    other: Sandbox, dsn: str, tmp_path: Path
) -> None:
    sandbox, crawler = other, crawled(other, dsn, tmp_path, "keeper_0")
    sandbox.control("POST", "/sandbox/compliance", {"takes_s": 10_000})
    running = crawler.start("comply", "--run")
    wait_until(lambda: told(sandbox) and told(sandbox)[0]["status"] == "in_progress", timeout_s=60)
    kill_tree(running.pid)
    running.communicate()
    status = json.loads(crawler.run("status", "--json").stdout)
    assert [job["state"] for job in status["deletions"]["jobs"]] == ["uploaded"]
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 8 * 86_400})
    sandbox.control("POST", "/sandbox/compliance", {"takes_s": 0})
    done = crawler.run("comply", "--run", expect=1)
    assert "X gives no result" in done.stderr
    crawler.run("comply", "--run")
    states = crawler.select("SELECT state FROM crawl_check WHERE kind = 'users' ORDER BY id")
    assert states == [("lost",), ("done",)]


def test_the_plan_and_the_status_tell_and_nothing_is_asked(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = crawled(sandbox, dsn, tmp_path, "keeper_8")
    before = sandbox.books()["requests"]
    made = json.loads(crawler.run("plan", "comply", "--json").stdout)
    assert [job["is_due"] for job in made["jobs"]] == [True, True]
    assert made["jobs"][1]["ids"] >= len(crawler.stored_ids())
    assert made["looks"]["now"] == 0
    options = ("comply", "--run", "--dry-run", "--compliance-budget", "0.01")
    more = crawler.run(*options).stdout
    assert "$0.01 of this month" in more
    looks = json.loads(crawler.run(*options, "--json").stdout)["looks"]
    assert (looks["now"], looks["usd"], looks["requests"]) == (2, 0.01, 1)
    assert looks["due"] > 2
    assert sandbox.books()["requests"] == before
    assert crawler.run("plan", "@comply").stdout != more
    with psycopg.connect(crawler.dsn or "") as connection:
        connection.execute(
            "INSERT INTO crawl_tombstone (tweet_id, reason, source, by_at, reference) VALUES"
            " (7, 'deleted', 'request', now() + interval '5 hours', 'letter 7'),"
            " (8, 'deleted', 'request', now() - interval '3 hours', 'letter 6')"
        )
    shown = crawler.run("status").stdout
    assert "Deletions that are not done" in shown
    assert "4 h 59 min" in shown
    assert "late by 3 h" in shown
    assert "letter 7" in shown
