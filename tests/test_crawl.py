"""The main job through its door: tweet.ini in, rows in PostgreSQL out, against the
sandbox's own books.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from busy import window_s
from crawls import Crawler, ended, truth, wait_until, workers_of
from sandbox_server import Sandbox

HANDLES = [f"writer_{n}" for n in range(12)]
TIMELINE = "/2/users/:id/tweets"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "3", "--posts", "40-400") as running:
        yield running


def is_exact(crawler: Crawler, sandbox: Sandbox, handles: list[str]) -> None:
    """Every post that X could sell is a row, and each row is what X says."""
    assert crawler.stored_ids() == truth(sandbox, handles)
    stored = {
        row[0]: row[1:]
        for row in crawler.select(
            """
            SELECT id, tweet_from, created_at, favorite_count, retweet_count, text,
                in_reply_to_user_id
            FROM tweet_articles_tweepy
            """
        )
    }
    for handle in handles:
        username = sandbox.truth_ids(handle)["user"]["username"]
        for line in sandbox.truth(handle):
            tweet = line["tweet"]
            text = tweet.get("note_tweet", {}).get("text") or tweet["text"]
            for escaped, plain in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
                text = text.replace(escaped, plain)
            assert stored[int(tweet["id"])] == (
                username,
                tweet["created_at"],
                tweet["public_metrics"]["like_count"],
                tweet["public_metrics"]["retweet_count"],
                text,
                int(tweet["in_reply_to_user_id"]) if "in_reply_to_user_id" in tweet else None,
            )


def bought_twice(sandbox: Sandbox) -> int:
    books = sandbox.books()
    return int(books["posts_sold"]) - int(books["posts_distinct"])


def test_every_post_becomes_its_row_and_is_bought_once(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run()
    is_exact(crawler, sandbox, HANDLES)
    books = sandbox.books()
    assert books["posts_sold"] == len(crawler.stored_ids())
    assert books["closed_window_requests"] == 0
    assert f"{books['posts_sold']:,} new rows, 0 updated" in done.stdout


def test_a_handle_with_news_has_a_connection_of_its_own_and_the_others_share_one(
    dsn: str, tmp_path: Path
) -> None:
    handles = [f"quiet_{n}" for n in range(60)]
    with Sandbox("--credentials", "1", "--posts", "1-3", "--plan", "unlimited") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles, threads=1)
        crawler.run()
        for handle in handles[::20]:
            sandbox.control("POST", "/sandbox/world", {"user": handle, "add_posts": 2, "age_s": 90})
        sandbox.control("POST", "/sandbox/clock", {"skew_s": 300})
        before, requests = _connections(crawler), sandbox.books()["requests"]["c1"][TIMELINE]["200"]
        crawler.run()
        is_exact(crawler, sandbox, handles)
        assert sandbox.books()["requests"]["c1"][TIMELINE]["200"] - requests == len(handles)
        # Three for handles; two chunks, the handles' lookup, the parent's (among them a look
        # at the table before the run, and one at old history after it), and those that look at
        # the database here. One for each handle would be sixty.
        assert 3 <= _connections(crawler) - before <= 24
        [(pages, noted)] = crawler.select(
            """
            SELECT count(*), count(*) FILTER (WHERE post_count = 0 AND body IS NOT NULL)
            FROM crawl_page
            WHERE run_id = (SELECT max(id) FROM crawl_run)
            """
        )
        assert (pages, noted) == (60, 57)
        [(states,)] = crawler.select(
            "SELECT count(*) FROM crawl_target WHERE state = 'ok' AND lease_until IS NULL "
            "AND crawled_at > (SELECT max(started_at) FROM crawl_run)"
        )
        assert states == 60


def _connections(crawler: Crawler) -> int:
    """How many connections the database has had; the server counts them some time later."""
    last, now = -2, -2
    # Each look is a connection, too.
    while now != last + 1:
        time.sleep(0.5)
        last = now
        [(now,)] = crawler.select(
            "SELECT sessions::int FROM pg_stat_database WHERE datname = current_database()"
        )
    return int(now)


def test_the_second_run_buys_nothing_and_looks_nobody_up_again(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    before = sandbox.books()
    crawler.run()
    after = sandbox.books()
    assert (after["posts_sold"], after["users_sold"]) == (
        before["posts_sold"],
        before["users_sold"],
    )
    assert requests(after) - requests(before) == len(HANDLES)


def requests(books: dict[str, Any]) -> int:
    return sum(n for of in books["requests"].values() for by in of.values() for n in by.values())


def test_a_later_run_buys_what_is_new_and_nothing_else(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    sold = sandbox.books()["posts_sold"]
    sandbox.control("POST", "/sandbox/world", {"user": HANDLES[0], "add_posts": 7, "age_s": 120})
    crawler.run()
    assert sandbox.books()["posts_sold"] - sold == 7
    is_exact(crawler, sandbox, HANDLES)


def test_pages_are_kept_as_they_were_bought_and_give_the_same_posts(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    import zstandard

    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3])
    crawler.run()
    ids: list[int] = []
    for (body,) in crawler.select("SELECT body FROM crawl_page WHERE target_id IS NOT NULL"):
        ids += [
            int(tweet["id"]) for tweet in json.loads(zstandard.decompress(body)).get("data", [])
        ]
    assert sorted(ids) == crawler.stored_ids()


def test_raw_off_leaves_the_bodies_out_and_keeps_the_accounts(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:2])
    crawler.run("--raw", "off")
    [(bodies, posts)] = crawler.select(
        "SELECT count(body), sum(post_count) FROM crawl_page WHERE target_id IS NOT NULL"
    )
    assert (bodies, posts) == (0, len(crawler.stored_ids()))


def test_whoever_is_not_simply_done_is_named_with_the_reason(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    odd = ["gone_one", "suspended_one", "protected_one"]
    crawler = Crawler.on(sandbox, tmp_path, dsn, [*HANDLES[:2], *odd])
    done = crawler.run(expect=1)
    for handle in odd:
        assert f"@{handle}" in done.stdout
    states = dict(crawler.select("SELECT handle, state FROM crawl_target"))
    assert states == {
        HANDLES[0]: "ok",
        HANDLES[1]: "ok",
        "gone_one": "missing",
        "suspended_one": "suspended",
        "protected_one": "protected",
    }
    before = requests(sandbox.books())
    done = crawler.run(expect=1)
    assert requests(sandbox.books()) - before == 2, (
        "who is known to be away is asked again after a week only"
    )
    assert "asked again in 7 days" in done.stdout


def test_who_takes_the_handle_of_a_renamed_user_is_followed_as_well(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    """The posts of both are stored once, each under the user who wrote them."""
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:1])
    crawler.run()
    old = sandbox.id_of(HANDLES[0])
    change = {"user": HANDLES[0], "rename_to": "new_name", "add_posts": 2, "age_s": 120}
    sandbox.control("POST", "/sandbox/world", change)
    new = sandbox.id_of("somebody_else")
    sandbox.control("POST", "/sandbox/world", {"user": "somebody_else", "rename_to": HANDLES[0]})
    assert "now @new_name, followed by its id" in crawler.run().stderr
    users = sandbox.books()["users_sold"]
    done = crawler.run()
    assert "another user's now; @new_name, the user of that name before, is" in done.stdout
    assert sandbox.books()["users_sold"] == users + 1
    crawler.run()
    books = sandbox.books()
    assert books["users_sold"] == users + 1
    rows = crawler.select("SELECT key, handle, formerly, state FROM crawl_target ORDER BY id")
    assert rows == [(old, "new_name", HANDLES[0], "ok"), (new, HANDLES[0], None, "ok")]
    assert crawler.stored_ids() == truth(sandbox, ["new_name", HANDLES[0]])
    assert books["posts_sold"] == books["posts_distinct"] == len(crawler.stored_ids())


def test_a_renamed_account_is_followed_by_its_id(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:2])
    crawler.run()
    users = sandbox.books()["users_sold"]
    sandbox.control("POST", "/sandbox/world", {"user": HANDLES[0], "rename_to": "new_name"})
    sandbox.control("POST", "/sandbox/world", {"user": "new_name", "add_posts": 3, "age_s": 120})
    done = crawler.run()
    assert "now @new_name" in done.stdout
    assert sandbox.books()["users_sold"] == users
    assert crawler.stored_ids() == truth(sandbox, ["new_name", HANDLES[1]])


def test_posts_below_the_depth_limit_are_known_as_unreachable(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--posts", "3600-3600") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, ["prolific"])
        crawler.run()
        assert len(crawler.stored_ids()) == 3_200
        [(unreachable, reason)] = crawler.select(
            "SELECT unreachable::text, unreachable_reason FROM crawl_target"
        )
        assert unreachable == f"{{[1,{crawler.stored_ids()[0]})}}"
        assert "newest" in reason
        before = requests(sandbox.books())
        crawler.run()
        assert requests(sandbox.books()) - before == 1


# -- kills ---------------------------------------------------------------------------


def test_killed_workers_cost_a_page_each_at_most_and_lose_nothing(dsn: str, tmp_path: Path) -> None:
    kills = 40
    with Sandbox("--credentials", "3", "--posts", "900-1600", "--latency-ms", "30") as sandbox:
        _kill_workers(sandbox, dsn, tmp_path, kills=kills)


@pytest.mark.slow
def test_three_hundred_killed_workers_lose_nothing(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "3", "--posts", "900-3000", "--latency-ms", "15") as sandbox:
        _kill_workers(sandbox, dsn, tmp_path, kills=300, users=60)


def _kill_workers(sandbox: Sandbox, dsn: str, folder: Path, *, kills: int, users: int = 24) -> None:
    chance = random.Random(7)
    handles = [f"writer_{n}" for n in range(users)]
    crawler = Crawler.on(sandbox, folder, dsn, handles, threads=3)
    done = 0
    while True:
        process = crawler.start()
        while done < kills and process.poll() is None:
            workers = workers_of(process.pid)
            if len(workers) >= 3:
                try:
                    chance.choice(workers).kill()
                except Exception:  # noqa: BLE001 - it ended by itself meanwhile
                    continue
                done += 1
            try:
                process.wait(chance.uniform(0.05, 0.4))
            except Exception:  # noqa: BLE001 - still running, as it should
                continue
        result = ended(process, expect=(0, 1))
        if result.returncode == 0:
            break
    print(f"{done} kills, {bought_twice(sandbox)} posts bought twice")
    is_exact(crawler, sandbox, handles)
    assert done >= kills / 2, "the world is too small to be killed in it so often"
    assert bought_twice(sandbox) <= 100 * done
    assert sandbox.books()["closed_window_requests"] == 0


def test_killed_parents_leave_no_orphans_and_the_next_run_goes_on(dsn: str, tmp_path: Path) -> None:
    chance = random.Random(11)
    handles = [f"writer_{n}" for n in range(20)]
    with Sandbox("--credentials", "3", "--posts", "200-900", "--latency-ms", "20") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles, threads=3)
        for _ in range(3):
            process = crawler.start()
            wait_until(lambda p=process: len(workers_of(p.pid)) >= 3, what="workers")
            try:
                process.wait(chance.uniform(0.3, 1.5))
            except Exception:  # noqa: BLE001 - still running, as it should
                family = workers_of(process.pid)
                process.kill()
                process.communicate()
                wait_until(
                    lambda f=family: not any(p.is_running() for p in f),
                    timeout_s=5,
                    what="no orphans",
                )
            else:
                ended(process)
        crawler.run()
        is_exact(crawler, sandbox, handles)
        assert bought_twice(sandbox) <= 3 * 3 * 100
        assert sandbox.books()["closed_window_requests"] == 0


def test_two_runs_at_once_share_the_work_and_buy_nothing_twice(dsn: str, tmp_path: Path) -> None:
    handles = [f"writer_{n}" for n in range(30)]
    with Sandbox(
        "--credentials",
        "2",
        "--posts",
        "50-500",
        "--window-s",
        window_s(5),
        "--limit",
        f"{TIMELINE}=20/15",
    ) as sandbox:
        first = Crawler.on(sandbox, tmp_path / "a", dsn, handles)
        second = Crawler.on(sandbox, tmp_path / "b", dsn, handles)
        running = [first.start(), second.start()]
        for process in running:
            ended(process)
        is_exact(first, sandbox, handles)
        books = sandbox.books()
        assert books["posts_sold"] == books["posts_distinct"]
        assert books["users_sold"] == len(handles)
        assert books["closed_window_requests"] == 0
        shares = [
            int(row[0]) for row in first.select("SELECT count(*) FROM crawl_page GROUP BY run_id")
        ]
        assert len(shares) == 2


def test_a_revoked_credential_is_retired_and_the_others_finish(dsn: str, tmp_path: Path) -> None:
    handles = [f"writer_{n}" for n in range(20)]
    with Sandbox("--credentials", "3", "--posts", "100-500", "--latency-ms", "20") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        process = crawler.start()
        wait_until(lambda: sandbox.books()["posts_sold"] > 300, what="a crawl under way")
        sandbox.control("POST", "/sandbox/credentials", {"name": "c1", "revoked": True})
        result = ended(process)
        is_exact(crawler, sandbox, handles)
        refused = sum(by.get("401", 0) for by in sandbox.books()["requests"]["c1"].values())
        # Each process may hold one request of each kind under way, and confirms it once.
        assert 1 <= refused <= 2 * 2 * 2
        assert "c1" in result.stdout
        assert bought_twice(sandbox) == 0


@pytest.mark.slow
def test_ten_thousand_handles(dsn: str, tmp_path: Path) -> None:
    handles = [f"reader_{n}" for n in range(10_000)]
    with Sandbox("--credentials", "5", "--posts", "0-3", "--plan", "unlimited") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        crawler.run(timeout_s=900)
        assert crawler.stored_ids() == truth(sandbox, handles)
        assert sandbox.books()["posts_sold"] == len(crawler.stored_ids())


# -- windows -------------------------------------------------------------------------


@pytest.mark.parametrize(("credentials", "threads"), [(3, 1), (2, 2), (2, 5)])
def test_windows_are_used_up_and_never_overrun(
    dsn: str, tmp_path: Path, credentials: int, threads: int
) -> None:
    """While work remains each window that was opened is used to its last permit, whoever
    has how many.
    """
    handles = [f"writer_{n}" for n in range(80)]
    with Sandbox(
        "--credentials",
        str(credentials),
        "--posts",
        "0-150",
        "--window-s",
        window_s(4),
        "--limit",
        f"{TIMELINE}=5/6",
    ) as sandbox:
        # Unequal limits, and so few requests that one process can send them on a machine
        # that has other work, too.
        sandbox.control(
            "POST", "/sandbox/credentials", {"name": "c1", "limit": {TIMELINE: [2, 12]}}
        )
        Crawler.on(sandbox, tmp_path, dsn, handles, threads=threads).run()
        books = sandbox.books()
        assert books["closed_window_requests"] == 0
        windows = [w for w in books["past_windows"] + books["windows"] if w["endpoint"] == TIMELINE]
        # When the last window was opened there was work; a window that ended later may have
        # ended without any.
        last = max(w["opened_at"] for w in windows)
        over = [w for w in windows if w["closes_at"] <= last]
        assert len(over) >= 2 * credentials, "the work must last for more than a window"
        assert sum(w["used"] for w in over) >= 0.98 * sum(w["limit"] for w in over)


# -- the end of a run ----------------------------------------------------------------


def test_all_credentials_refused_ends_with_exit_4(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    for name in ("c1", "c2", "c3"):
        sandbox.control("POST", "/sandbox/credentials", {"name": name, "revoked": True})
    done = Crawler.on(sandbox, tmp_path, dsn, HANDLES).run(expect=4)
    assert "developer console" in done.stdout


def test_a_used_up_cap_ends_with_exit_5_and_the_next_run_goes_on(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "1", "--posts", "100-300", "--cap", "500") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
        done = crawler.run(expect=5)
        assert "used up" in done.stdout
        stored = crawler.stored_ids()
        assert 0 < len(stored) == sandbox.books()["posts_sold"]
        refused = sum(
            by.get("429", 0) for of in sandbox.books()["requests"].values() for by in of.values()
        )
        assert refused <= 2
        crawler.run(expect=5)
        assert crawler.stored_ids() == stored


def test_a_database_that_is_not_there_ends_with_exit_3(sandbox: Sandbox, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, "postgresql://u:canary-pw@127.0.0.1:1/d", HANDLES)
    done = crawler.run(expect=3)
    assert "127.0.0.1:1" in done.stderr
    assert "canary-pw" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_without_schema_ends_with_exit_3(
    sandbox: Sandbox, empty_dsn: str, tmp_path: Path
) -> None:
    done = Crawler.on(sandbox, tmp_path, empty_dsn, HANDLES).run(expect=3)
    assert "alembic upgrade head" in done.stderr
    assert done.stderr.count("\n") <= 1


def test_without_auth_csv_and_terminal_the_program_says_what_to_do(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler(tmp_path, dsn=dsn, api_url=sandbox.url, handles=HANDLES)
    done = crawler.run(expect=2)
    assert "authCSV" in done.stderr


def test_no_secret_appears_anywhere(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3])
    sandbox.fault("status", status=503, count=2)
    done = crawler.run("--logLevel", "debug")
    printed = done.stdout + done.stderr
    stored = str(crawler.select("SELECT arguments, report FROM crawl_run"))
    stored += str(crawler.select("SELECT * FROM api_credential")) + str(
        crawler.select("SELECT * FROM api_bucket")
    )
    stored += str(crawler.select("SELECT params, credential FROM crawl_page"))
    for row in sandbox.credentials:
        for column in (
            "consumer_key",
            "consumer_secret",
            "access_token",
            "access_token_secret",
            "bearer_token",
        ):
            assert row[column]
            assert row[column] not in printed
            assert row[column] not in stored


# -- real input ----------------------------------------------------------------------


def test_recorded_answers_become_rows_without_loss(
    recorded: Path, dsn: str, tmp_path: Path
) -> None:
    """The authors of recorded pages are the handles, and every tweet of theirs ends up as
    its row.
    """
    with Sandbox("--recorded", str(recorded / "v2")) as sandbox:
        handles = sandbox.control("GET", "/sandbox/handles")["handles"]
        usable = [handle for handle in handles if len(handle) <= 15]
        crawler = Crawler.on(sandbox, tmp_path, dsn, usable)
        crawler.run(expect=(0, 1))
        expected = truth(sandbox, usable)
        assert len(expected) > 100
        assert crawler.stored_ids() == expected


@pytest.mark.parametrize(
    "columns",
    [
        ("bearer_token",),
        ("consumer_key", "consumer_secret"),
        ("consumer_key", "consumer_secret", "access_token", "access_token_secret"),
    ],
    ids=lambda columns: f"{len(columns)}-columns",
)
def test_any_usable_part_of_a_credential_is_enough(
    sandbox: Sandbox, dsn: str, tmp_path: Path, columns: tuple[str, ...]
) -> None:
    """A bearer alone, an app's key and secret that fetch one, a user's four keys: all crawl."""
    auth = tmp_path / "auth.csv"
    lines = [",".join(columns)] + [",".join(row[c] for c in columns) for row in sandbox.credentials]
    auth.write_text("\n".join(lines) + "\n")
    auth.chmod(0o600)
    crawler = Crawler(
        tmp_path / "c", dsn=dsn, auth_csv=auth, api_url=sandbox.url, handles=HANDLES[:4]
    )
    crawler.run()
    assert crawler.stored_ids() == truth(sandbox, HANDLES[:4])
    assert sandbox.books()["closed_window_requests"] == 0
