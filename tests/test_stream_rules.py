"""Rules of the filtered stream are those of the operator's file, and no others are touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from sandbox_server import Sandbox

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.stream.rules import Known, Rule, compared, read_rules

PATH = "/2/tweets/search/stream/rules"


# -- the file ---------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.txt"
    path.write_text(text)
    return path


def test_a_line_is_a_tag_and_a_query(tmp_path: Path) -> None:
    text = (
        "# of the city\n\ncity: bounding_box:[-77.2 38.8 -76.9 39]\nada 1:  from:ada   has:links\n"
    )
    assert read_rules(written(tmp_path, text)) == [
        Rule("city", "bounding_box:[-77.2 38.8 -76.9 39]", 3),
        Rule("ada 1", "from:ada has:links", 4),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("from:ada\n", "line 1 is no `tag: query`"),
        ("a: cats\nb:  cats\n", "line 2 repeats the query of line 1"),
        (f"a: {'x' * 1025}\n", "line 1 has 1,025 characters, X takes 1,024"),
        ("# nothing\n", "has no rule"),
        ("".join(f"a: cat{n}\n" for n in range(1001)), "1,001 rules are more than the 1,000"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says.replace("|", r"\|")):
        read_rules(written(tmp_path, text))


@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), unique_by=lambda one: one[0]),
)
def test_the_changes_make_ours_those_of_the_file(
    wanted: list[str], there: list[tuple[str, bool]]
) -> None:
    known = [Known(number, value, "", ours) for number, (value, ours) in enumerate(there)]
    changes = compared([Rule("t", value) for value in wanted], known)
    left = {one.value for one in known} - {one.value for one in changes.delete}
    after = left | {rule.value for rule in changes.add}
    foreign = {one.value for one in known if not one.ours}
    assert after == set(wanted) | foreign
    assert {one.value for one in changes.others} == foreign - set(wanted)
    assert not {rule.value for rule in changes.add} & {one.value for one in known}


# -- the command ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "5-5", "--credentials", "1") as running:
        yield running


def call(
    folder: Path, sandbox: Sandbox, dsn: str, *arguments: str, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    common = ["--auth-csv", str(sandbox.auth_csv), "--api-url", sandbox.url]
    done = subprocess.run(
        [sys.executable, "-m", "tweetcrawler", "stream", *arguments, *common],
        cwd=folder,
        env=os.environ | {"TWEETCRAWLER_DBNAME": dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def at_x(sandbox: Sandbox, change: dict[str, object] | None = None) -> list[str]:
    """The queries that X has, after a change by another program."""
    keys = {"Authorization": f"Bearer {sandbox.credentials[0]['bearer_token']}"}
    if change is not None:
        assert requests.post(sandbox.url + PATH, json=change, headers=keys, timeout=9).ok
    return [one["value"] for one in sandbox.get(PATH).json().get("data", [])]


def test_check_tells_what_a_file_would_change_and_changes_nothing(
    tmp_path: Path, sandbox: Sandbox, dsn: str
) -> None:
    at_x(sandbox, {"add": [{"value": "from:maja", "tag": "theirs"}]})
    rules = written(tmp_path, "ada: from:ada\nbad: -has:links\n")
    told = call(tmp_path, sandbox, dsn, "rules", "check", "--rules", "rules.txt", expect=1).stdout
    assert "add     ada: from:ada" in told
    assert "foreign  theirs: from:maja" in told
    assert "X refuses line 2: There were errors" in told
    rules.write_text("ada: from:ada\nm: from:maja\n")
    plain = call(tmp_path, sandbox, dsn, "rules", "check", "--rules", "rules.txt", "--json").stdout
    assert (
        json.loads(plain).items()
        >= {
            "add": ["from:ada"],
            "delete": [],
            "others": [],
            "same": ["from:maja"],
            "refused": [],
        }.items()
    )
    assert at_x(sandbox) == ["from:maja"], "nothing was changed"
    assert "theirs: from:maja  (not added here)" in call(tmp_path, sandbox, dsn, "rules").stdout
    with psycopg.connect(dsn) as connection:
        runs = connection.execute("SELECT exit_code FROM crawl_run ORDER BY id").fetchall()
    assert runs == [(1,), (0,), (0,)]
    assert sandbox.books()["posts_sold"] == 0


def test_a_plan_tells_posts_and_money_per_day_by_the_counts_of_x(
    tmp_path: Path, sandbox: Sandbox, dsn: str
) -> None:
    sandbox.control("POST", "/sandbox/world", {"user": "tomas", "add_posts": 14, "age_s": 3600})
    written(tmp_path, "t: from:tomas\nhalf: from:ada sample:50\n")
    done = call(tmp_path, sandbox, dsn, "plan", "--rules", "rules.txt", "--json", expect=1)
    plain = json.loads(done.stdout)
    counted, sampled = plain["rules"]
    assert counted["posts_per_day"] >= 2
    assert sampled["posts_per_day"] is None, "a search knows no sample"
    assert plain["usd_per_day"] == pytest.approx(counted["posts_per_day"] * 0.005)
    assert plain["part_of_cap"] == pytest.approx(counted["posts_per_day"] * 30 / 3_000_000)
    assert sandbox.books()["posts_sold"] == 0


def test_words_and_options_that_make_no_sense_are_refused(
    tmp_path: Path, sandbox: Sandbox, dsn: str
) -> None:
    said = call(tmp_path, sandbox, dsn, "rules", "check", expect=2).stderr
    assert "with --rules FILE" in said
    assert "no other words" in call(tmp_path, sandbox, dsn, "rule", expect=2).stderr
