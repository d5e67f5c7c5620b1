"""The table and the files are looked at: what they refuse, and what they lost."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k D12_` is that fault

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from crawls import Crawler, killed_after_sales, truth
from databases import made
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sandbox_server import Sandbox
from test_migrations import ORIGINAL

from tweetcrawler.archives.reflattening import reflatten
from tweetcrawler.db import Database
from tweetcrawler.errors import DatabaseError, TweetcrawlerError
from tweetcrawler.flatten import flatten
from tweetcrawler.pages import Batch, Bought

TABLE = "tweet_articles_tweepy"
WRITERS = [f"writer_{n}" for n in range(3)]
NOTHING = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
# What is done to the table, the exit code, and what the sentence names.
REFUSING: dict[str, tuple[str, int, str]] = {
    "a check": (
        f"ALTER TABLE {TABLE} ADD CONSTRAINT short_texts CHECK (length(text) < 20)",
        2,
        "DROP CONSTRAINT short_texts",
    ),
    "a column that must not be NULL": (
        f"ALTER TABLE {TABLE} ALTER COLUMN retweeted_status_text SET NOT NULL",
        2,
        "ALTER COLUMN retweeted_status_text DROP NOT NULL",
    ),
    "an own column without a default": (
        f"ALTER TABLE {TABLE} ADD COLUMN project text NOT NULL",
        2,
        "ALTER COLUMN project DROP NOT NULL",
    ),
    "generated ids": (
        f"ALTER TABLE {TABLE} ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY",
        2,
        "ALTER COLUMN id DROP IDENTITY",
    ),
    "a short column": (
        f"DROP VIEW tweets; ALTER TABLE {TABLE} ALTER COLUMN created_at TYPE varchar(10)",
        2,
        "created_at character varying(10)",
    ),
    "no partition": (
        (
            f"DROP VIEW tweets; ALTER TABLE {TABLE} RENAME TO old; "
            f"CREATE TABLE {TABLE} (LIKE old, PRIMARY KEY (id)) PARTITION BY RANGE (id); "
            f"CREATE TABLE first PARTITION OF {TABLE} FOR VALUES FROM (0) TO (1000)"
        ),
        2,
        "no partition for a post of today",
    ),
    "a deferrable key": (
        (
            f"ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey; "
            f"ALTER TABLE {TABLE} ADD CONSTRAINT late PRIMARY KEY (id) DEFERRABLE"
        ),
        2,
        "the key late",
    ),
    "no key": (f"ALTER TABLE {TABLE} DROP CONSTRAINT {TABLE}_pkey", 2, "ADD PRIMARY KEY (id)"),
    "a deferred constraint": (
        (
            "CREATE TABLE people (name text PRIMARY KEY); "
            f"ALTER TABLE {TABLE} ADD CONSTRAINT known FOREIGN KEY (tweet_from) "
            "REFERENCES people DEFERRABLE INITIALLY DEFERRED"
        ),
        2,
        "DROP CONSTRAINT known",
    ),
    "another unique column": (
        f"ALTER TABLE {TABLE} ADD CONSTRAINT one_each UNIQUE (tweet_from)",
        2,
        "DROP CONSTRAINT one_each",
    ),
    "a trigger that leaves rows out": (
        (
            f"{NOTHING}; CREATE TRIGGER leave_out BEFORE INSERT ON {TABLE} FOR EACH ROW "
            "EXECUTE FUNCTION nothing()"
        ),
        2,
        "trigger leave_out",
    ),
    "a trigger that leaves changes out": (
        (
            f"{NOTHING}; CREATE TRIGGER no_news BEFORE UPDATE ON {TABLE} FOR EACH ROW "
            "EXECUTE FUNCTION nothing()"
        ),
        2,
        "trigger no_news",
    ),
    "a trigger that raises": (
        (
            "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''closed today''; END'; "
            f"CREATE TRIGGER closed BEFORE INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION loud()"
        ),
        2,
        "closed today",
    ),
    "a rule": (
        f"CREATE RULE silent AS ON UPDATE TO {TABLE} DO INSTEAD NOTHING",
        2,
        TABLE,
    ),
    "a missing column": (
        f"DROP VIEW tweets; ALTER TABLE {TABLE} DROP COLUMN sentiment",
        2,
        '"sentiment"',
    ),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "120-160", "--plan", "unlimited") as running:
        yield running


def do(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())


def ready(dsn: str, table: str = TABLE) -> None:
    """What a run does before its first request."""
    with Database(dsn, table).session() as session:
        session.ready(scored=True)


def sold(sandbox: Sandbox) -> int:
    return int(sandbox.books()["posts_sold"])


def requests(sandbox: Sandbox) -> int:
    """Answers of all endpoints."""
    asked = sandbox.books()["requests"].values()
    return sum(sum(counts.values()) for of in asked for counts in of.values())


@pytest.mark.parametrize("what", REFUSING)
def test_D13_a_table_that_does_not_take_posts_is_one_sentence(dsn: str, what: str) -> None:
    """Nothing stays of the rehearsal, in a table that takes posts or does not."""
    ready(dsn)
    statement, exit_code, named = REFUSING[what]
    do(dsn, statement)
    with pytest.raises(TweetcrawlerError) as refused:
        ready(dsn)
    said = str(refused.value)
    assert (refused.value.exit_code, "\n" in said) == (exit_code, False)
    assert named in said
    with psycopg.connect(dsn) as connection:
        for table in (TABLE, "crawl_page", "crawl_run"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize("table", [TABLE, "crawl_found"])
def test_D13_a_role_without_rights_is_told_which_it_needs(dsn: str, table: str) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    do(
        dsn,
        f"CREATE ROLE {role}; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; "
        f"REVOKE INSERT, UPDATE ON {table} FROM {role}",
    )
    try:
        with pytest.raises(DatabaseError) as refused:
            ready(make_conninfo(dsn, options=f"-c role={role}"))
        assert f"`GRANT INSERT, UPDATE ON {table} TO {role}`" in str(refused.value)
        do(dsn, f"GRANT INSERT, UPDATE ON {table} TO {role}")
        ready(make_conninfo(dsn, options=f"-c role={role}"))
    finally:
        do(dsn, f"DROP OWNED BY {role}; DROP ROLE {role}")


# -- pages that are refused ------------------------------------------------------------------


@pytest.fixture
def crawler(sandbox: Sandbox, dsn: str, tmp_path: Path) -> Crawler:
    return Crawler.on(sandbox, tmp_path, dsn, WRITERS)


def waiting(crawler: Crawler) -> int:
    """Posts that are bought and reported as not stored."""
    [(posts,)] = crawler.select(
        "SELECT coalesce(sum(jsonb_array_length(refused)), 0) FROM crawl_page"
    )
    return int(posts)


def test_D13_a_table_that_refuses_every_post_costs_nothing(
    sandbox: Sandbox, crawler: Crawler, measure: Any
) -> None:
    assert crawler.dsn is not None
    do(crawler.dsn, REFUSING["a check"][0])
    before = requests(sandbox)
    said = crawler.run(expect=2).stderr
    assert "DROP CONSTRAINT short_texts" in said
    assert "Traceback" not in said
    measure("requests", requests(sandbox) - before, at_most=0)


def test_D13_a_page_that_is_refused_is_bought_once_and_goes_in_later(
    sandbox: Sandbox, crawler: Crawler, measure: Any
) -> None:
    assert crawler.dsn is not None
    everything, before = truth(sandbox, WRITERS), sold(sandbox)
    odd = everything[len(everything) // 2]
    do(crawler.dsn, f"ALTER TABLE {TABLE} ADD CONSTRAINT odd CHECK (id <> {odd})")
    first = crawler.run("--raw", "off", expect=1)
    assert "retry-refused" in first.stdout + first.stderr
    bought, stored = sold(sandbox) - before, len(crawler.stored_ids())
    assert stored < len(everything) == bought
    measure(
        "posts sold that are neither stored nor reported",
        bought - stored - waiting(crawler),
        at_most=0,
        at_least=0,
    )
    [(again,)] = crawler.select(
        "SELECT sum(post_count - new_count - coalesce(jsonb_array_length(refused), 0)) "
        "FROM crawl_page"
    )
    assert again == 0, "they count as bought, not as bought again"
    [told] = json.loads(crawler.run("status", "--json").stdout)["refused"]
    assert (told["pages"], told["posts"]) == (1, waiting(crawler))
    crawler.run("--raw", "off")
    said = crawler.run("retry-refused", expect=1).stdout
    assert "odd" in said
    measure("posts bought again in two more runs", sold(sandbox) - before - bought, at_most=0)
    do(crawler.dsn, f"ALTER TABLE {TABLE} DROP CONSTRAINT odd")
    assert "1 page went in" in crawler.run("retry-refused").stdout
    measure("posts missing", len(set(everything) - set(crawler.stored_ids())), at_most=0)
    assert waiting(crawler) == 0
    [(kept, new)] = crawler.select(
        "SELECT count(body), sum(new_count) FROM crawl_page WHERE post_count > 0"
    )
    assert (kept, new) == (0, len(everything)), "as if the pages had gone in at once"


def test_D13_a_table_that_takes_no_page_ends_the_run_and_the_next_one_buys_none(
    sandbox: Sandbox, crawler: Crawler, measure: Any
) -> None:
    """The next run puts them in by itself, once the table takes them."""
    assert crawler.dsn is not None
    everything, before = truth(sandbox, WRITERS), sold(sandbox)
    do(
        crawler.dsn,
        f"ALTER TABLE {TABLE} ADD CONSTRAINT few CHECK (tweet_from NOT ILIKE 'writer%')",
    )
    assert "refused the last 5 pages" in crawler.run(expect=3).stdout
    bought = sold(sandbox) - before
    assert waiting(crawler) == bought > 0
    asked = requests(sandbox)
    assert "refused the last 5 pages" in crawler.run(expect=3).stderr
    measure("requests of the next run", requests(sandbox) - asked, at_most=0)
    do(crawler.dsn, f"ALTER TABLE {TABLE} DROP CONSTRAINT few")
    crawler.run()
    assert crawler.stored_ids() == everything
    measure("posts bought twice", sold(sandbox) - before - len(everything), at_most=0)


def test_D13_posts_that_a_trigger_leaves_out_are_no_loss(
    sandbox: Sandbox, crawler: Crawler, measure: Any
) -> None:
    """A search, whose pages are saved by the longer statement, and timelines."""
    assert crawler.dsn is not None
    everything = truth(sandbox, WRITERS)
    odd = everything[7]
    do(
        crawler.dsn,
        f"{NOTHING}; CREATE TRIGGER leave_out BEFORE INSERT ON {TABLE} FOR EACH ROW "
        f"WHEN (NEW.id = {odd}) EXECUTE FUNCTION nothing()",
    )
    said = crawler.run(expect=1)
    assert "left out 1 of the rows" in said.stdout + said.stderr
    assert waiting(crawler) > 0
    do(crawler.dsn, f"DROP TRIGGER leave_out ON {TABLE}")
    crawler.run()
    measure("posts missing", len(set(everything) - set(crawler.stored_ids())), at_most=0)


def test_D13_posts_by_id_that_are_refused_are_not_asked_for_again(
    sandbox: Sandbox, crawler: Crawler, measure: Any
) -> None:
    assert crawler.dsn is not None
    ids = truth(sandbox, WRITERS)[:50]
    (crawler.folder / "ids.txt").write_text("".join(f"{i}\n" for i in ids))
    before = sold(sandbox)
    do(crawler.dsn, f"ALTER TABLE {TABLE} ADD CONSTRAINT odd CHECK (id <> {ids[3]})")
    crawler.run("hydrate", "ids.txt", expect=1)
    crawler.run("hydrate", "ids.txt", "--recheckDays", "0", expect=(0, 1))
    measure("posts bought twice", sold(sandbox) - before - len(ids), at_most=0)
    do(crawler.dsn, f"ALTER TABLE {TABLE} DROP CONSTRAINT odd")
    crawler.run("retry-refused")
    assert crawler.stored_ids() == ids
    assert crawler.select("SELECT count(*) FROM crawl_lookup") == [(0,)]


def test_D13_kills_beside_refused_pages_lose_nothing(
    sandbox: Sandbox, crawler: Crawler, measure: Any
) -> None:
    assert crawler.dsn is not None
    everything, before = truth(sandbox, WRITERS), sold(sandbox)
    odd = ", ".join(map(str, everything[::150]))
    do(crawler.dsn, f"ALTER TABLE {TABLE} ADD CONSTRAINT odd CHECK (id NOT IN ({odd}))")
    kills = sum(killed_after_sales(crawler.start(), sandbox, 60) for _ in range(2))
    do(crawler.dsn, f"ALTER TABLE {TABLE} DROP CONSTRAINT odd")
    crawler.run()
    measure("posts missing", len(set(everything) - set(crawler.stored_ids())), at_most=0)
    measure(
        f"posts bought twice after {kills} kills",
        sold(sandbox) - before - len(everything),
        at_most=100 * 2 * kills,
    )


# -- posts that are known and not there ------------------------------------------------------


@pytest.fixture(scope="module")
def crawled_once(
    sandbox: Sandbox, server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a database whose posts were crawled."""
    for dsn in made(server_dsn, template):
        Crawler.on(sandbox, tmp_path_factory.mktemp("once"), dsn, WRITERS).run()
        yield str(conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def crawled(
    sandbox: Sandbox, server_dsn: str, crawled_once: str, tmp_path: Path
) -> Iterator[Crawler]:
    for dsn in made(server_dsn, crawled_once):
        crawler = Crawler.on(sandbox, tmp_path, dsn, WRITERS)
        assert crawler.stored_ids() == truth(sandbox, WRITERS)
        yield crawler


def reflattened(dsn: str, table: str = TABLE) -> None:
    database = Database(dsn, table)
    with database.session() as session:
        run, _ = session.begin_run(version="t", arguments={}, host="h", credentials=())
    reflatten(database, run, score=None, stopped=lambda: False)


MADE_AGAIN = f"""
CREATE TABLE made (LIKE {TABLE} INCLUDING ALL);
DROP TABLE {TABLE} CASCADE;
ALTER TABLE made RENAME TO {TABLE}
"""
# The posts of the page that was saved last, as in a copy from before it.
RESTORED = f"""
DELETE FROM {TABLE} t USING (SELECT * FROM crawl_page WHERE oldest_id IS NOT NULL
    ORDER BY number DESC LIMIT 1) p
WHERE t.id BETWEEN p.oldest_id AND p.newest_id
"""


def test_D12_an_emptied_table_is_noticed_and_filled_from_the_pages(
    sandbox: Sandbox, crawled: Crawler, measure: Any
) -> None:
    """By `export --pages` and `import`, as from another machine."""
    assert crawled.dsn is not None
    before, asked, bought = crawled.stored_ids(), requests(sandbox), sold(sandbox)
    do(crawled.dsn, f"TRUNCATE {TABLE}")
    said = crawled.run(expect=3).stderr
    measure("requests before it is noticed", requests(sandbox) - asked, at_most=0)
    assert "`tweetcrawler reflatten`" in said
    assert "Traceback" not in said
    pages = crawled.run("export", "--pages").stdout
    (crawled.folder / "pages.jsonl").write_text(pages)
    crawled.run("import", "pages.jsonl")
    measure("posts missing", len(set(before) - set(crawled.stored_ids())), at_most=0)
    crawled.run()
    measure("posts bought again", sold(sandbox) - bought, at_most=0)


@pytest.mark.parametrize("how", [MADE_AGAIN, RESTORED], ids=["made again", "restored"])
def test_D12_a_table_made_again_or_restored_is_noticed_and_filled(
    crawled: Crawler, measure: Any, how: str
) -> None:
    assert crawled.dsn is not None
    before = crawled.stored_ids()
    do(crawled.dsn, how)
    with pytest.raises(DatabaseError, match="`tweetcrawler reflatten`"):
        ready(crawled.dsn)
    reflattened(crawled.dsn)
    measure("posts missing", len(set(before) - set(crawled.stored_ids())), at_most=0)
    ready(crawled.dsn)


def test_D12_another_table_has_no_share_in_the_coverage(
    sandbox: Sandbox, crawled: Crawler, measure: Any
) -> None:
    """Filled from the pages, it may take the place of the first one; a new name may, too."""
    assert crawled.dsn is not None
    before, asked = crawled.stored_ids(), requests(sandbox)
    do(crawled.dsn, f"CREATE TABLE other (LIKE {TABLE} INCLUDING ALL)")
    said = crawled.run("--tablename", "other", expect=3).stderr
    measure("requests before it is noticed", requests(sandbox) - asked, at_most=0)
    assert "is of the table tweet_articles_tweepy" in said
    reflattened(crawled.dsn, "other")
    ready(crawled.dsn, "other")
    rows = crawled.select("SELECT id FROM other ORDER BY id")
    measure("posts missing", len(set(before) - {row[0] for row in rows}), at_most=0)
    do(crawled.dsn, "ALTER TABLE other RENAME TO third")
    ready(crawled.dsn, "third")
    assert crawled.select("SELECT name FROM crawl_table") == [("third",)]


def test_D12_posts_that_were_deleted_on_purpose_are_accepted(crawled: Crawler) -> None:
    assert crawled.dsn is not None
    do(crawled.dsn, f"TRUNCATE {TABLE}")
    with pytest.raises(DatabaseError, match="`tweetcrawler db accept`"):
        ready(crawled.dsn)
    crawled.run("db", "accept")
    ready(crawled.dsn)


def test_D12_posts_that_were_deleted_on_x_are_not_missed(dsn: str) -> None:
    """A deleted post takes the retweets of it along, which repeat its text."""
    database = Database(dsn)
    users = [{"id": "7", "username": "ada", "name": "Ada"}]
    retweet = {"id": "12", "text": "RT", "author_id": "7"}
    retweet["referenced_tweets"] = [{"type": "retweeted", "id": "5"}]  # type: ignore[assignment]
    answer = {"data": [retweet], "includes": {"users": users}}
    with database.session() as session:
        run, _ = session.begin_run(version="t", arguments={}, host="h", credentials=())
        session.claim_handles(["ada"], "w")
        target = session.targets(["ada"])["ada"].id
        bought = Bought("/2/users/:id/tweets", {}, "c", orjson.dumps(answer), posts=1)
        session.save(run, "w", Batch(target, bought, flatten(answer).rows, covered=(1, 20)))
    do(dsn, f"DELETE FROM {TABLE}")
    with pytest.raises(DatabaseError, match="lacks posts"):
        ready(dsn)
    do(dsn, "INSERT INTO crawl_tombstone (tweet_id, reason, source) VALUES (5, 'gone', 'job')")
    ready(dsn)


def test_D12_a_csv_file_that_lost_rows_is_noticed_before_it_costs(
    sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, WRITERS[:1], settings="CSVFolder = tweets")
    crawler.run()
    file = tmp_path / "tweets" / f"{WRITERS[0]}.csv"
    whole, bought = file.read_bytes(), sold(sandbox)
    file.write_bytes(whole[: whole.rindex(b"\r\n", 0, -2) + 2])
    said = crawler.run(expect=2).stdout
    assert "1 of its" in said
    assert "put the whole file back" in said
    measure("posts bought with a file that lost rows", sold(sandbox) - bought, at_most=0)
    file.write_bytes(whole)
    crawler.run()
    assert file.read_bytes() == whole


# What an old table may hold in the columns that are lists or times, none of which can be read.
ODD_TEXTS = [
    "",
    "{",
    "{a,b",
    "yesterday",
    "2026-02-30T00:00:00.000Z",
    "2026-13-01T00:00:00.000Z",
    "0000-00-00T00:00:00Z",
    "9999999-01-01T00:00:00.000Z",
    "2020-01-01T25:61:00.000Z",
    "[1,2]",
    "{{1},{2,3}}",
    "{99999999999999999999}",
    "a\u0001b",
]
TEXTS = "hashtags, urls, user_mentions_id, media, user_mentions_name, retweeted_status_url"


def test_D16_adopted_rows_that_cannot_be_read_are_counted_and_never_fail(
    empty_dsn: str, tmp_path: Path, measure: Any
) -> None:
    with psycopg.connect(empty_dsn) as connection:
        connection.execute(ORIGINAL.encode())
        for number, odd in enumerate(ODD_TEXTS):
            connection.execute(
                f"INSERT INTO {TABLE} (id, created_at, {TEXTS}) VALUES (%s{', %s' * 7})",
                [number, *[odd] * 7],
            )
        connection.execute(
            f"INSERT INTO {TABLE} (id, created_at) "
            "SELECT i, '2019-05-01T10:00:00.000Z' FROM generate_series(100, 1099) i"
        )
    crawler = Crawler(tmp_path, dsn=empty_dsn)
    said = crawler.run("db", "upgrade").stdout
    odds, tables = len(ODD_TEXTS), len(crawler.select(TABLES_ADDED))
    assert f"{1000 + odds:,} rows kept, {odds} without a readable date, {odds} with a list" in said
    assert f"{tables} tables added" in said
    read = crawler.select("SELECT * FROM tweets ORDER BY id")
    measure("rows that fail", 1000 + odds - len(read), at_most=0)
    assert "rows kept" not in crawler.run("db", "upgrade").stdout


TABLES_ADDED = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(crawl|api)_'"
