"""A name that comes later: in another file, a crawl, a search, posts by id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from crawls import Crawler
from hypothesis import given
from hypothesis import strategies as st
from sandbox_server import Sandbox
from test_export import change, select
from test_own_exports import STORED, many, run

POSTS = "tweet_articles_tweepy"
# Two posts, a reply and a retweet of three users; a file of an archive has some of each.
USERS = [
    {"id": "11", "username": "Ada", "name": "Ada A"},
    {"id": "12", "username": "Bo_2", "name": "Bo, B"},
    {"id": "13", "username": "Cy", "name": 'Cy "C"'},
]
ORIGINAL = {"id": "1500000000000000005", "text": "rain", "author_id": "12", "lang": "en"}


def post(number: int, author: int, **more: Any) -> dict[str, Any]:
    return {
        "id": str(1_500_000_000_000_000_000 + number),
        "text": f"post {number}",
        "author_id": str(author),
        **more,
    }


def retweet_of(number: int, author: int) -> dict[str, Any]:
    references = [{"type": "retweeted", "id": ORIGINAL["id"]}]
    return post(number, author, referenced_tweets=references)


TWEETS = [
    post(5, 12),
    post(7, 13),
    post(10, 11, in_reply_to_user_id="12"),
    retweet_of(20, 13),
]


def some(things: Sequence[Any], least: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(things), min_size=least, unique_by=lambda each: each["id"])


FILES = st.lists(
    st.builds(
        lambda data, users: {"data": data, "includes": {"users": users, "tweets": [ORIGINAL]}},
        some(TWEETS, 1),
        some(USERS),
    ),
    min_size=2,
    max_size=4,
).flatmap(lambda files: st.tuples(st.just(files), st.permutations(range(len(files)))))


@given(drawn=FILES)
@many
def test_files_in_any_order_give_the_same_table(
    dsn: str, tmp_path: Path, drawn: tuple[list[dict[str, Any]], list[int]]
) -> None:
    files, other = drawn
    for number, page in enumerate(files):
        (tmp_path / f"{number}.jsonl").write_bytes(orjson.dumps(page))

    def table(order: Sequence[int]) -> list[tuple[Any, ...]]:
        change(dsn, f"TRUNCATE {POSTS}, crawl_import, crawl_user, crawl_waiting_name")
        run(dsn, tmp_path, "import", *(f"{number}.jsonl" for number in order))
        return select(dsn, STORED)

    rows = table(range(len(files)))
    assert table(other) == rows
    # Complete as well: a name that any file tells stands in every row that is about its user.
    told = {user["id"]: user["username"] for page in files for user in page["includes"]["users"]}
    authors = {int(tweet["id"]): told.get(tweet["author_id"]) for tweet in TWEETS}
    assert {row[0]: row[1] for row in rows} == {row[0]: authors[row[0]] for row in rows}
    waiting = select(dsn, "SELECT user_id FROM crawl_waiting_name")
    assert not {str(user) for (user,) in waiting} & set(told)


def test_a_name_fills_every_column_that_waited_for_it_and_undoes_none(
    dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "posts.jsonl").write_bytes(
        orjson.dumps({"data": TWEETS, "includes": {"tweets": [ORIGINAL]}})
    )
    (tmp_path / "users.jsonl").write_bytes(
        orjson.dumps({"data": [post(30, 13)], "includes": {"users": USERS}})
    )
    renamed = [{"id": "12", "username": "Bo_3", "name": "Bo"}]
    (tmp_path / "renamed.jsonl").write_bytes(
        orjson.dumps({"data": [post(40, 12)], "includes": {"users": renamed}})
    )
    (tmp_path / "more.jsonl").write_bytes(orjson.dumps({"data": [post(35, 12), post(5, 12)]}))
    names = (
        "SELECT id - 1500000000000000000, tweet_from, in_reply_to_screen_name,"
        " retweeted_status_user_handle, retweeted_status_user_name, user_mentions_name"
        f" FROM {POSTS} ORDER BY id"
    )
    run(dsn, tmp_path, "import", "posts.jsonl")
    nobody = [None, None, None, None]
    assert [list(row[1:5]) for row in select(dsn, names)] == [nobody] * 4
    run(dsn, tmp_path, "import", "users.jsonl")
    filled = [
        (5, "Bo_2", None, None, None, "{}"),
        (7, "Cy", None, None, None, "{}"),
        (10, "Ada", "Bo_2", None, None, "{}"),
        (20, "Cy", None, "Bo_2", "Bo, B", "{Bo_2}"),
    ]
    assert select(dsn, names)[:4] == filled
    # The newest handle counts for new rows; what stands is not undone.
    run(dsn, tmp_path, "import", "renamed.jsonl", "more.jsonl")
    assert select(dsn, names)[:4] == filled
    assert select(dsn, names)[-2:] == [
        (35, "Bo_3", None, None, None, "{}"),
        (40, "Bo_3", None, None, None, "{}"),
    ]
    assert select(dsn, "SELECT count(*) FROM crawl_waiting_name") == [(0,)]


@pytest.fixture
def crawler(dsn: str, tmp_path: Path) -> Any:
    with Sandbox("--credentials", "2", "--posts", "60-80") as sandbox:
        yield Crawler.on(sandbox, tmp_path, dsn, ["writer_0"]), sandbox


def test_names_of_every_way_to_buy_fill_rows_and_are_known_later(
    crawler: tuple[Crawler, Sandbox], tmp_path: Path
) -> None:
    """A file tells the posts of three users before X tells their names, another one after."""
    made, sandbox = crawler
    users = [int(sandbox.id_of(f"writer_{n}")) for n in range(3)]
    for name, first in (("before", 1), ("after", 11)):
        lines = [post(first + n, user, in_reply_to_user_id=user) for n, user in enumerate(users)]
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    [wanted] = [sandbox.truth_ids("writer_2")["ids"][0]]
    (tmp_path / "ids.txt").write_text(f"{wanted}\n")
    names = (
        f"SELECT tweet_from, in_reply_to_screen_name FROM {POSTS}"
        " WHERE id BETWEEN 1500000000000000000 AND 1500000000000000100 ORDER BY id"
    )
    made.run("import", "before.jsonl")
    assert made.select(names) == [(None, None)] * 3
    made.run()
    known = [handle for (handle, _) in made.select(names)]
    assert [handle.lower() if handle else None for handle in known] == ["writer_0", None, None]
    made.run("search", "from:writer_1", "--archive")
    made.run("hydrate", "ids.txt")
    made.run("hydrate", "ids.txt")
    known = [handle for (handle, _) in made.select(names)]
    assert [handle.lower() for handle in known] == ["writer_0", "writer_1", "writer_2"]
    made.run("import", "after.jsonl")
    assert made.select(names) == [(handle, handle) for handle in known] * 2
    is_forgotten(made, users[1], wanted)


def is_forgotten(made: Crawler, user: int, stored: int) -> None:
    """Of a deleted user neither the name stays nor a row that waits for it, and none comes."""
    lines = [post(21, user), post(22, 999), post(23, 999, in_reply_to_user_id=user)]
    made.run("comply", "--user", "writer_1")
    (made.folder / "more.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    made.run("import", "more.jsonl")
    waiting = "SELECT tweet_id % 100, part, user_id FROM crawl_waiting_name ORDER BY 1"
    assert made.select(waiting) == [(22, "author", 999), (23, "author", 999)]
    assert made.select(f"SELECT count(*) FROM crawl_user WHERE user_id = {user}") == [(0,)]
    assert made.select("SELECT count(*) FROM crawl_user WHERE lower(handle) = 'writer_2'") == [(1,)]
    (made.folder / "ids.txt").write_text(f"{lines[1]['id']}\n")
    made.run("comply", "--ids", "ids.txt")
    assert made.select(waiting) == [(23, "author", 999)]
