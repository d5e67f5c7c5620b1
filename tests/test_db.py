"""What PostgreSQL holds after each step, on a real server."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tweetcrawler.db import Database, Session, newest_schema
from tweetcrawler.errors import DatabaseNotMigrated, DatabaseUnreachable
from tweetcrawler.flatten import COLUMNS
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.targets import Absent, Found
from tweetcrawler.windows import Bucket

REST_S = 7 * 86_400.0


def row(tweet_id: int, **values: Any) -> dict[str, Any]:
    lists = ("hashtags", "urls", "user_mentions_id", "media", "user_mentions_name")
    empty = {column: "{}" if column in lists else None for column in COLUMNS}
    return (
        empty
        | {"id": tweet_id, "text": f"post {tweet_id}", "favorite_count": 1, "retweet_count": 0}
        | values
    )


def page(**values: Any) -> Bought:
    return Bought("/2/users/:id/tweets", {"max_results": "100"}, "c1", b'{"data":[]}', **values)


@pytest.fixture
def begun(database: Database) -> tuple[Database, int, float]:
    with database.session() as session:
        run, since = session.begin_run(version="0", arguments={}, host="h", credentials=[])
    return database, run, since


def resolved(session: Session, run: int, handle: str = "ada", user_id: str = "42") -> int:
    session.claim_handles([handle], "w")
    session.save_users(
        run, page(users=1), [Found(handle, user_id, handle.title(), 7)], [], rest_s=REST_S
    )
    return session.targets([handle])[handle].id


def select(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_saving_a_page_stores_rows_page_and_coverage_together(begun: Any, dsn: str) -> None:
    database, run, since = begun
    with database.session() as session:
        target = resolved(session, run)
        session.claim(target, "w", since)
        saved = session.save(
            run,
            "w",
            Batch(target, page(posts=2), [row(10), row(11)], [("x", "odd")], covered=(10, 12)),
        )
    assert (saved.new, saved.updated, saved.leased) == (2, 0, True)
    assert select(dsn, "SELECT id FROM tweet_articles_tweepy ORDER BY id") == [(10,), (11,)]
    assert select(dsn, "SELECT covered::text, post_count FROM crawl_target") == [("{[10,12)}", 2)]
    assert select(
        dsn,
        """
        SELECT post_count, new_count, oldest_id, newest_id, refused
        FROM crawl_page
        WHERE target_id > 0
        """,
    ) == [(2, 2, 10, 11, [{"id": "x", "reason": "odd"}])]


def test_saving_the_same_page_again_changes_nothing(begun: Any, dsn: str) -> None:
    """The answer to a commit may be lost: the page is saved once more and must not count twice."""
    database, run, since = begun
    with database.session() as session:
        target = resolved(session, run)
        session.claim(target, "w", since)
        batch = Batch(target, page(posts=1), [row(10)], covered=(10, 11))
        session.save(run, "w", batch)
        versions = select(dsn, "SELECT xmin, ctid FROM tweet_articles_tweepy")
        again = session.save(run, "w", batch)
    assert (again.new, again.updated) == (0, 0)
    assert select(dsn, "SELECT xmin, ctid FROM tweet_articles_tweepy") == versions
    assert select(dsn, "SELECT count(*), max(post_count) FROM crawl_page WHERE target_id > 0") == [
        (1, 1)
    ]
    assert select(dsn, "SELECT post_count FROM crawl_target") == [(1,)]


def test_a_changed_row_is_updated_and_a_known_value_outlives_a_missing_include(
    begun: Any, dsn: str
) -> None:
    database, run, since = begun
    with database.session() as session:
        target = resolved(session, run)
        session.claim(target, "w", since)
        session.save(
            run, "w", Batch(target, page(posts=1), [row(10, tweet_from="Ada", origin_device="Web")])
        )
        saved = session.save(
            run,
            "w",
            Batch(target, page(posts=1), [row(10, favorite_count=9, text="new", hashtags="{a}")]),
        )
    assert (saved.new, saved.updated) == (0, 1)
    assert select(
        dsn,
        """
        SELECT tweet_from, origin_device, favorite_count, text, hashtags
        FROM tweet_articles_tweepy
        """,
    ) == [("Ada", "Web", 9, "new", "{a}")]


@pytest.mark.parametrize("text", ["", 'it\'s "quoted" \\ {a,b}', "line\nbreak\r\t", "🦉 שלום", "�"])
def test_any_text_comes_back_as_it_was(begun: Any, dsn: str, text: str) -> None:
    database, run, _since = begun
    with database.session() as session:
        target = resolved(session, run)
        session.save(
            run, "w", Batch(target, page(posts=1), [row(2**63 - 1, text=text, sentiment=-0.9999)])
        )
    assert select(dsn, "SELECT id, text, sentiment::text FROM tweet_articles_tweepy") == [
        (2**63 - 1, text, "-0.9999")
    ]


def test_while_the_server_works_something_else_is_done(begun: Any, dsn: str) -> None:
    database, run, _since = begun
    called = threading.Event()
    with (
        database.session() as session,
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(dsn) as other,
    ):
        target = resolved(session, run)
        other.execute("SELECT FROM crawl_target FOR UPDATE")
        batch = Batch(target, page(posts=1), [row(1)])
        saving = threads.submit(session.save, run, "w", batch, meanwhile=called.set)
        assert called.wait(20)
        assert not saving.done()
        other.rollback()
        assert saving.result(20).new == 1


def test_a_page_that_another_writes_at_the_same_moment_is_saved_whole(begun: Any, dsn: str) -> None:
    database, run, _since = begun
    with (
        database.session() as session,
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(dsn) as other,
    ):
        target = resolved(session, run)
        other.execute("INSERT INTO tweet_articles_tweepy (id, text) VALUES (2, 'theirs')")
        batch = Batch(target, page(posts=3), [row(1), row(2), row(3)], covered=(1, 4))
        saving = threads.submit(session.save, run, "w", batch)
        waiting = """
            SELECT count(*)
            FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
        """
        while select(dsn, waiting) == [(0,)]:
            time.sleep(0.01)
        other.commit()
        saved = saving.result(20)
    assert (saved.new, saved.updated) == (2, 1)
    assert select(dsn, "SELECT id, text FROM tweet_articles_tweepy ORDER BY id") == [
        (n, f"post {n}") for n in (1, 2, 3)
    ]
    assert select(dsn, "SELECT covered::text, post_count FROM crawl_target") == [("{[1,4)}", 3)]
    assert select(dsn, "SELECT count(*) FROM crawl_page WHERE post_count = 3") == [(1,)]


NASTY = [
    "",
    "null",
    "NULL",
    '"',
    '\\"',
    '""',
    '"""',
    '"""{"',
    "\\",
    "\\n",
    "\\u001f",
    "{",
    "},{",
    "],[",
    ",",
    "\x1e",
    "\x7f",
    "\u2028",
]


PARTS = st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(st.none() | st.lists(PARTS, max_size=5).map("".join), min_size=1, max_size=50))
@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
def test_any_texts_of_a_page_come_back_as_they_were(
    begun: Any, dsn: str, texts: list[str | None]
) -> None:
    database, run, _since = begun
    with database.session() as session:
        target = resolved(session, run)
        rows = [row(number, text=text) for number, text in enumerate(texts, 1)]
        session.forget(range(1, 51))
        session.save(run, "w", Batch(target, page(posts=len(rows)), rows))
    stored = select(dsn, "SELECT id, text FROM tweet_articles_tweepy ORDER BY id")
    assert stored == list(enumerate(texts, 1))


def test_typed_view_fails_on_no_row(begun: Any, dsn: str) -> None:
    """Rows of other tools hold texts that are no time and no list."""
    database, run, _ = begun
    good = {
        1: ("2024-06-10T09:00:00.000Z", '{a,"b c",NULL}', "{1,NULL}"),
        2: ("2024-05-31T09:00:00+02:00", "{}", "{}"),
        3: ("2024-02-29T23:59:59Z", "{ä}", "{9223372036854775807}"),
    }
    bad = {
        4: ("an hour ago", "a, b", "{x}"),
        5: ("2024-02-30T09:00:00.000Z", "{a", "{9223372036854775808}"),
        6: ("2024-06-10 09:00:00", "{a,,b}", "{1,}"),
        7: ("05/03/2022 10:00", "", ""),
        8: ("2024-06-10T09:00:60.000Z9", "['a']", "[1]"),
    }
    names = ("created_at", "hashtags", "user_mentions_id")
    with database.session() as session:
        target = resolved(session, run)
        values = good | bad
        rows = [row(i, **dict(zip(names, values[i], strict=True))) for i in values]
        session.save(run, "w", Batch(target, page(posts=len(rows)), rows))
    columns = "extract(epoch FROM created_at)::bigint, hashtags, mention_ids"
    assert select(dsn, f"SELECT {columns} FROM tweets ORDER BY id") == [
        (1718010000, ["a", "b c", None], [1, None]),
        (1717138800, [], []),
        (1709251199, ["ä"], [2**63 - 1]),
        *[(None, None, None)] * 5,
    ]


def test_typed_view_gives_times_and_arrays(begun: Any, dsn: str) -> None:
    database, run, _ = begun
    values = {
        "created_at": "2024-06-10T09:00:00.000Z",
        "hashtags": '{cats,"a b"}',
        "user_mentions_id": "{12,NULL}",
        "retweeted_status_url": "{}",
    }
    with database.session() as session:
        target = resolved(session, run)
        session.save(run, "w", Batch(target, page(posts=1), [row(10, **values)]))
    assert select(
        dsn,
        """
        SELECT extract(epoch FROM created_at)::bigint, hashtags, mention_ids,
            retweeted_status_urls, is_retweet
        FROM tweets
        """,
    ) == [(1_718_010_000, ["cats", "a b"], [12, None], [], False)]


def test_a_leased_target_is_given_to_nobody_else(begun: Any) -> None:
    database, run, since = begun
    with database.session() as one, database.session() as other:
        target = resolved(one, run)
        assert one.claim(target, "a", since) is not None
        assert other.claim(target, "b", since) is None
        assert one.claim(target, "a", since) is not None
        one.release("a")
        assert other.claim(target, "b", since) is not None


def test_what_a_dead_process_held_is_free_and_what_others_hold_is_not(begun: Any) -> None:
    database, run, since = begun
    with database.session() as dead, database.session() as living, database.session() as parent:
        held = resolved(dead, run)
        others = resolved(living, run, "bob", "43")
        dead.claim(held, "dead", since)
        living.claim(others, "living", since)
        assert dead.claim_ids([7], "dead", age_s=None, rest_s=REST_S).mine == [7]
        parent.free("dead", [held, others])
        assert parent.claim(held, "next", since) is not None
        assert parent.claim(others, "next", since) is None
        assert parent.claim_ids([7], "next", age_s=None, rest_s=REST_S).mine == [7]


def test_a_session_gives_back_what_it_took_and_no_other_lease_of_its_owner(begun: Any) -> None:
    database, run, since = begun
    with database.session() as session, database.session() as later, database.session() as other:
        target = resolved(session, run)
        session.claim(target, "a", since)
        later.release("a")
        assert other.claim(target, "b", since) is None


def test_targets_are_counted_as_they_come_change_and_go(begun: Any, dsn: str) -> None:
    """The kept counts are those that counting would give, also when many processes change
    states at once.
    """
    database, run, _ = begun

    def change(number: int) -> None:
        with database.session() as session:
            target = resolved(session, run, f"user_{number}", str(number))
            for state in ("ok", "failed", "ok", "suspended")[: 1 + number % 4]:
                session.finish(target, "w", state=state, reason="", crawled=True)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(1, 61)))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM crawl_target WHERE key::int % 7 = 0")
        with connection.transaction(force_rollback=True):
            connection.execute("UPDATE crawl_target SET state = 'failed'")
    counted = "SELECT kind, state, count(*) FROM crawl_target GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"
    with database.reader() as reader:
        assert reader.states() == select(dsn, counted)
    with psycopg.connect(dsn) as connection:
        connection.execute("TRUNCATE crawl_target CASCADE")
    with database.reader() as reader:
        assert reader.states() == []


def test_a_reader_sees_one_moment_in_all_its_statements(database: Database) -> None:
    """Sums of a report would else not fit its lists."""
    with database.reader() as reader, database.session() as session:
        assert reader.runs() == []
        run, _ = session.begin_run(version="1", arguments={}, host="h", credentials=())
        session.save_page(run, Bought("/2/usage/tweets", {}, "one", b"{}"))
        assert reader.runs() == []
        assert reader.purchases() == []
    with database.reader() as reader:
        assert [one.id for one in reader.runs()] == [run]


def test_handles_are_known_by_their_listed_and_by_their_present_name(begun: Any, dsn: str) -> None:
    database, run, _ = begun
    with database.session() as session:
        resolved(session, run, "ada", "42")
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE crawl_target SET username = 'Ada_Now'")
        session.open_searches(["from:grace", "linus"])
        assert session.known_handles(["ada", "ada_now", "grace", "linus"]) == {"ada", "ada_now"}


def test_saving_a_page_changes_no_index_of_its_target(begun: Any, dsn: str) -> None:
    """Leases are renewed with every page: a target that is read for hours must not fill the
    indexes.
    """
    database, run, since = begun
    with database.session() as session:
        target = resolved(session, run)
        session.claim(target, "w", since)
        session.finish(target, "w", state="ok", reason="", crawled=True)
    before, others = updates(dsn)
    with database.session() as session:
        for number in range(5):
            session.claim(target, "w", since)
            batch = Batch(
                target, page(posts=1), [row(10 + number)], covered=(10, 11 + number), username="Ada"
            )
            session.save(run, "w", batch)
            session.finish(target, "w", state="ok", reason="", crawled=True)
    assert updates(dsn) == (before + 15, others)


def updates(dsn: str) -> tuple[int, int]:
    """How many targets were updated, and how many of these updates changed an index, once
    the server counted them.
    """
    statement = """
        SELECT n_tup_upd, n_tup_upd - n_tup_hot_upd
        FROM pg_stat_user_tables
        WHERE relname = 'crawl_target'
    """
    last, now = None, select(dsn, statement)
    while last != now:
        time.sleep(0.5)
        last, now = now, select(dsn, statement)
    return now[0][0], now[0][1]


def test_a_lease_that_ended_is_lost_to_its_holder(begun: Any, dsn: str) -> None:
    database, run, since = begun
    with database.session() as session:
        target = resolved(session, run)
        session.claim(target, "a", since)
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE crawl_target SET lease_until = now() - interval '1 s'")
        assert session.claim(target, "b", since) is not None
        assert session.save(run, "a", Batch(target, page(), [])).leased is False


def test_a_finished_target_is_known_as_crawled_to_its_own_run_only(begun: Any) -> None:
    database, run, since = begun
    with database.session() as session:
        target = resolved(session, run)
        session.claim(target, "a", since)
        session.finish(target, "a", state="ok", reason="", crawled=True)
        claim = session.claim(target, "b", since)
        assert claim is not None
        assert claim.crawled
        _, later = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        claim = session.claim(target, "b", later)
        assert claim is not None
        assert not claim.crawled


def test_handles_are_resolved_by_one_process_only(begun: Any) -> None:
    """A look-up costs money: of two runs that meet the same new handles one asks."""
    database, _, _ = begun
    won: list[set[str]] = []

    def take(owner: str) -> None:
        with database.session() as session:
            won.append(session.claim_handles([f"user{n}" for n in range(50)], owner))

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, won)) == 50
    assert len(set().union(*won)) == 50


def test_two_names_of_one_account_are_one_target(begun: Any) -> None:
    """An account was renamed, and the list now holds both names."""
    database, run, _ = begun
    with database.session() as session:
        first = resolved(session, run, "old", "42")
        assert resolved(session, run, "new", "42") == first
        targets = session.targets(["old", "new"])
    assert targets["old"].key == targets["new"].key == "42"


def test_a_missing_handle_rests_and_keeps_its_reason(begun: Any) -> None:
    database, run, _ = begun
    with database.session() as session:
        session.claim_handles(["nobody"], "w")
        session.save_users(
            run, page(), [], [Absent("nobody", "missing", "Could not find")], rest_s=REST_S
        )
        target = session.targets(["nobody"])["nobody"]
    assert (target.state, target.reason, target.key) == ("missing", "Could not find", None)
    assert REST_S - 60 < target.rests_s <= REST_S


def test_buckets_come_back_as_they_were_written(database: Database) -> None:
    key = ("subject", "/2/users/:id/tweets")
    bucket = Bucket(
        limit=900,
        remaining=12,
        reset_at=1_800_000_000.25,
        anchored=True,
        turn=3,
        window_s=900.0,
        day_limit=500,
        day_remaining=3,
        day_reset_at=1_800_000_100.0,
        blocked_until=1_800_000_001.5,
        failures=2,
        shut_at=1_799_999_999.0,
        shut_until=1_800_000_300.0,
        shut_reason="cap",
    )
    with database.session() as session:
        assert session.change_buckets([key], lambda b, now: ({key: bucket}, b[key])) == Bucket()
        assert session.change_buckets([key], lambda b, now: ({}, b[key])) == bucket


def test_two_processes_never_lend_the_same_permits(database: Database) -> None:
    """50 threads take one permit each of 30: exactly 30 get one."""
    key = ("s", "e")
    got: list[bool] = []

    def take() -> None:
        def change(buckets: dict[Any, Bucket], now: float) -> Any:
            left = buckets[key].remaining
            return ({key: Bucket(limit=30, remaining=left - 1)}, True) if left else ({}, False)

        with database.session() as session:
            got.append(session.change_buckets([key], change))

    with database.session() as session:
        session.change_buckets([key], lambda b, now: ({key: Bucket(limit=30, remaining=30)}, None))
    threads = [threading.Thread(target=take) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 30


def test_a_connection_that_is_cut_is_made_anew(begun: Any, dsn: str) -> None:
    database, run, _ = begun
    with database.session() as session:
        target = resolved(session, run)
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert session.save(run, "w", Batch(target, page(posts=1), [row(1)])).new == 1


def test_database_of_another_schema_is_refused_in_one_line(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE crawl_schema SET version_num = '9999'")
    with pytest.raises(DatabaseNotMigrated) as refused:
        Database(dsn).check()
    assert "9999" in str(refused.value)
    assert newest_schema() in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 3


def test_database_without_schema_is_refused(empty_dsn: str) -> None:
    with pytest.raises(DatabaseNotMigrated, match="alembic upgrade head"):
        Database(empty_dsn).check()


def test_no_server_is_said_without_the_password() -> None:
    dsn = make_conninfo(host="127.0.0.1", port=1, user="u", password="canary-pw", dbname="d")
    with pytest.raises(DatabaseUnreachable) as refused:
        Database(dsn).check()
    assert "canary-pw" not in str(refused.value) + repr(Database(dsn))
    assert "127.0.0.1:1" in str(refused.value)


def test_lists_cast_as_users_of_the_table_expect(begun: Any, dsn: str) -> None:
    database, run, _ = begun
    literal = '{plain,"with,comma","quo\\"te","back\\\\slash","NULL",""}'
    with database.session() as session:
        target = resolved(session, run)
        session.save(run, "w", Batch(target, page(posts=1), [row(1, hashtags=literal)]))
    assert select(dsn, "SELECT hashtags::text[] FROM tweet_articles_tweepy") == [
        (["plain", "with,comma", 'quo"te', "back\\slash", "NULL", ""],)
    ]
    assert select(dsn, "SELECT hashtags::text[]::text FROM tweet_articles_tweepy") == [(literal,)]


def test_own_table_name_is_used_for_everything(empty_dsn: str) -> None:
    database = Database(empty_dsn, "my_tweets")
    database.upgrade()
    database.check()
    with database.session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        target = resolved(session, run)
        assert session.save(run, "w", Batch(target, page(posts=1), [row(1)])).new == 1
    assert conninfo_to_dict(empty_dsn)["dbname"]
    assert select(empty_dsn, "SELECT count(*) FROM my_tweets") == [(1,)]
    assert select(empty_dsn, "SELECT count(*) FROM tweets") == [(1,)]
