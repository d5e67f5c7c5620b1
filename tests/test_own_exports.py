"""Our own exports as a back-up and a way to move: imported again they change nothing."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_export import any_text, change, environment, row, select, store

from tweetcrawler import cli
from tweetcrawler.archives.formats import own
from tweetcrawler.flatten import COLUMNS, as_array, as_id_array

FORMS = {
    "a.csv": (),
    "b.csv": ("--delimiter", ";"),
    "c.csv": ("--delimiter", "sep=;", "--excel-safe"),
    "d.csv": ("--delimiter", "tab"),
    "e.jsonl": (),
    "f.parquet": (),
    "g.xlsx": (),
    "h.csv": ("--view", "tweets"),
    "i.jsonl": ("--view", "tweets"),
    "j.parquet": ("--view", "tweets"),
}
STORED = "SELECT * FROM tweet_articles_tweepy ORDER BY id"
# Between them a cell, a line, a quote or a number of each format ends.
SOME_IDS = st.integers(1, 2**63 - 1) | st.sampled_from([1, 2**53 + 1, 2**63 - 1])
LIST_OF_TEXT = st.none() | st.lists(any_text, max_size=3).map(as_array)
ROWS = st.lists(
    st.builds(
        row,
        SOME_IDS,
        text=any_text,
        tweet_from=st.none() | st.just("ada"),
        created_at=st.none() | st.just("2024-06-10T09:00:00.000Z"),
        retweeted_status_user_name=any_text,
        retweeted_status_id=st.none() | SOME_IDS,
        retweeted_status_url=LIST_OF_TEXT,
        in_reply_to_user_id=st.none() | SOME_IDS,
        favorite_count=st.none() | st.integers(0, 2**63 - 1),
        sentiment=st.none() | st.decimals(-1, 1, places=4),
        hashtags=LIST_OF_TEXT,
        media=LIST_OF_TEXT,
        user_mentions_id=st.none() | st.lists(st.none() | SOME_IDS, max_size=3).map(as_id_array),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda each: each["id"],
)


def run(dsn: str, folder: Path, *arguments: str) -> str:
    """A command in this process, since a property needs many; gives what it prints."""
    out, errors = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.chdir(folder)
        patch.setattr(os, "environ", environment(dsn))
        code = cli.main([*arguments, "--threads", "1"])
    rejects = folder / "import-rejects.jsonl"
    assert code == 0, (arguments, errors.getvalue(), rejects.exists() and rejects.read_text())
    return errors.getvalue()


many = settings(
    max_examples=3,
    # A command takes a while: a failure is shown as it was found.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", FORMS)
@given(rows=ROWS, kept=st.sets(st.sampled_from(COLUMNS)))
@many
def test_any_export_of_any_columns_imported_again_changes_nothing(
    dsn: str, tmp_path: Path, name: str, rows: list[dict[str, Any]], kept: set[str]
) -> None:
    change(dsn, "TRUNCATE tweet_articles_tweepy, crawl_import")
    store(dsn, *rows)
    before = select(dsn, STORED)
    columns: tuple[str, ...] = ()
    if "--view" not in FORMS[name] and kept:
        # By one column of ours an export of a few columns is known as one.
        columns = ("--columns", ",".join(c for c in COLUMNS if c in kept | {"id", "tweet_from"}))
    run(dsn, tmp_path, "export", name, *FORMS[name], *columns)
    run(dsn, tmp_path, "import", name)
    assert select(dsn, STORED) == before


@pytest.mark.parametrize("name", [name for name in FORMS if "--view" not in FORMS[name]])
@given(rows=ROWS)
@many
def test_export_moves_all_rows_to_an_empty_table(
    dsn: str, tmp_path: Path, name: str, rows: list[dict[str, Any]]
) -> None:
    change(dsn, "TRUNCATE tweet_articles_tweepy, crawl_import")
    store(dsn, *rows)
    before = select(dsn, STORED)
    run(dsn, tmp_path, "export", name, *FORMS[name])
    change(dsn, "TRUNCATE tweet_articles_tweepy")
    run(dsn, tmp_path, "import", name)
    known = [[value or None if value != "{}" else None for value in each] for each in before]
    moved = [
        [value or None if value != "{}" else None for value in each] for each in select(dsn, STORED)
    ]
    assert moved == known


def test_ids_of_mentions_may_be_quoted_in_a_stored_list() -> None:
    """PostgreSQL reads both, and other programs wrote into the table, too."""
    assert own.value_of("user_mentions_id", '{"12",NULL,7}') == '{"12",NULL,7}'
