"""Every export is read back by somebody else's reader, and compared with what PostgreSQL holds."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tweetcrawler import cli, export
from tweetcrawler.commands.export import Values as Export
from tweetcrawler.db import Column, Database
from tweetcrawler.export import as_xlsx
from tweetcrawler.export.filters import VALUES
from tweetcrawler.flatten import COLUMNS
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.postgres.filters import CHOICES
from tweetcrawler.postgres.filters import FILTERS as KNOWN_FILTERS
from tweetcrawler.settings import help_text
from tweetcrawler.targets import Found

LARGEST = 2**63 - 1
LISTS = ("hashtags", "urls", "user_mentions_id", "media", "user_mentions_name")
FORMULA_SIGNS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
# Every text that PostgreSQL can store.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
IDS = st.integers(-(2**63), LARGEST) | st.sampled_from(
    [0, 2**53 + 1, LARGEST, 1_234_567_890_123_456_789]
)


# --- doors --------------------------------------------------------------------------


def environment(dsn: str, **variables: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("TWEETCRAWLER_")
    }
    return kept | {"TWEETCRAWLER_DBNAME": dsn} | variables


def run(
    dsn: str, folder: Path, *arguments: str, code: int = 0, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """`tweetcrawler export …` as a process of its own, in this folder."""
    done = subprocess.run(
        [sys.executable, "-m", "tweetcrawler", "export", *arguments],
        capture_output=True,
        cwd=folder,
        env=environment(dsn),
        timeout=300,
        check=False,
        **options,
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


def refusal(dsn: str, folder: Path, *arguments: str, code: int = 2) -> str:
    """The sentence of an export that is refused; it runs in this process, since many do."""
    out, errors = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.chdir(folder)
        patch.setattr(os, "environ", environment(dsn))
        assert cli.main(["export", *arguments]) == code
    (sentence,) = errors.getvalue().splitlines()
    return sentence


def row(tweet_id: int, **values: Any) -> dict[str, Any]:
    empty = {column: "{}" if column in LISTS else None for column in COLUMNS}
    return (
        empty
        | {"id": tweet_id, "created_at": "2024-06-10T09:00:00.000Z", "text": f"post {tweet_id}"}
        | values
    )


def store(dsn: str, *rows: dict[str, Any]) -> None:
    statement = sql.SQL("INSERT INTO tweet_articles_tweepy ({}) VALUES ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
        sql.SQL(", ").join(map(sql.Placeholder, COLUMNS)),
    )
    with psycopg.connect(dsn) as connection:
        connection.cursor().executemany(statement, rows)


def store_many(dsn: str, count: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            """
            INSERT INTO tweet_articles_tweepy
            SELECT 1700000000000000000 + g, 'user' || g %% 1000, '2024-06-10T09:00:00.000Z',
                '{cats,"a b"}', '{https://example.org/a}', '{12,1700000000000000001}', '{}',
                '{ada,grace}', 'Web', g, repeat('some text, ', 15) || g, NULL, NULL, NULL,
                g %% 7, NULL, NULL, NULL, NULL, NULL, 0.1234
            FROM generate_series(1, %s::int) g
            """,
            [count],
        )


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())


def select(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def ids_in(done: subprocess.CompletedProcess[bytes]) -> list[int]:
    return [int(line["id"]) for line in csv.DictReader(io.StringIO(done.stdout.decode()))]


def exported(database: Database, form: str, **options: Any) -> bytes:
    """The bytes of an export in this process, for properties that need many."""
    out = io.BytesIO()
    plan = export.prepared(Export(format=form, output=Path(f"x.{form}"), **options))
    export._write_to(out, plan, database)  # the file behind it is a matter of other tests
    return out.getvalue()


def put_in_place_of_all(dsn: str, rows: Sequence[dict[str, Any]]) -> None:
    change(dsn, "TRUNCATE tweet_articles_tweepy")
    store(dsn, *rows)


def literal(elements: Sequence[Any]) -> str:
    """The array literal of these elements, made by hand: every element quoted."""
    parts = (
        "NULL" if e is None else '"' + str(e).replace("\\", "\\\\").replace('"', '\\"') + '"'
        for e in elements
    )
    return "{" + ",".join(parts) + "}"


def stored_kinds() -> list[dict[str, Any]]:
    return [
        row(
            1,
            tweet_from="Ada",
            created_at="2024-01-01T00:00:00.000Z",
            hashtags="{Cats,Ünï}",
            favorite_count=5,
            sentiment=0.5,
            text="It's 100% a_b \\ fine",
            urls="{https://Example.org/a,b}",
        ),
        row(
            2,
            tweet_from="grace",
            created_at="2024-01-31T23:59:59.999Z",
            in_reply_to_user_id=9,
            in_reply_to_status_id=8,
            in_reply_to_screen_name="Ada",
            retweet_count=3,
            sentiment=-0.5,
        ),
        row(
            3,
            tweet_from="ada",
            created_at="2024-02-01T00:00:00.000Z",
            retweeted_status_id=7,
            retweeted_status_user_handle="Grace",
            in_reply_to_user_id=9,
            media="{https://p/x.jpg}",
            text="RT other",
        ),
        row(
            4,
            tweet_from=None,
            created_at=None,
            user_mentions_name="{Grace}",
            user_mentions_id="{NULL}",
            text=None,
            hashtags="{cats,dogs}",
            favorite_count=0,
            retweet_count=2**40,
        ),
        row(LARGEST, tweet_from="a_a", created_at="2024-02-01T01:00:00.000+02:00", hashtags=None),
    ]


@pytest.fixture(scope="module")
def kinds(server_dsn: str, template: str) -> Iterator[str]:
    """A database that only filters read."""
    from databases import made

    for dsn in made(server_dsn, template):
        store(dsn, *stored_kinds())
        yield dsn


any_text = (
    st.none()
    | TEXT
    | TEXT.map(lambda text: text.replace("a", "\r\n").replace("b", '",'))
    | st.sampled_from(
        [
            "",
            "NULL",
            "\\.",
            '"',
            "\r",
            "\n",
            ",",
            " x ",
            "=1+1",
            "\uff1d1",
            "'",
            "'=1",
            "\ufeff=1",
            "<r><t>x</t></r>",
            "_x000D_",
            "\ufffe",
            "\x01",
            "{}",
            "🦉\u200d",
            "שלום",
        ]
    )
)
odd_rows = st.lists(
    st.builds(
        lambda tweet_id, text, name, reply, likes, score, tags, mentions: row(
            tweet_id,
            text=text,
            retweeted_status_user_name=name,
            in_reply_to_status_id=reply,
            favorite_count=likes,
            sentiment=score,
            hashtags=literal(tags),
            user_mentions_id=literal(mentions),
        ),
        IDS,
        any_text,
        any_text,
        st.none() | IDS,
        st.none() | IDS,
        st.none() | st.decimals(-1, 1, places=4),
        st.lists(any_text, max_size=3),
        st.lists(st.none() | IDS, max_size=3),
    ),
    max_size=4,
    unique_by=lambda r: r["id"],
)
# The database is emptied for each example, so one may serve all.
many = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# --- csv ----------------------------------------------------------------------------


@given(rows=odd_rows)
@many
def test_csv_gives_back_every_value_to_csv_readers_and_null_too_to_postgresql(
    rows: list[dict[str, Any]], database: Database, dsn: str
) -> None:
    put_in_place_of_all(dsn, rows)
    data = exported(database, "csv")
    header, *lines = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    assert tuple(header) == COLUMNS
    expected = [
        ["" if row[c] is None else str(row[c]) for c in COLUMNS]
        for row in sorted(rows, key=lambda r: r["id"])
    ]
    assert lines == expected
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TEMP TABLE again (LIKE tweet_articles_tweepy)")
        with connection.cursor().copy("COPY again FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(data)
        again = connection.execute("SELECT * FROM again ORDER BY id").fetchall()
        assert (
            again
            == connection.execute("SELECT * FROM tweet_articles_tweepy ORDER BY id").fetchall()
        )


@given(rows=odd_rows)
@many
def test_one_column_of_csv_has_as_many_lines_as_rows(
    rows: list[dict[str, Any]], database: Database, dsn: str
) -> None:
    """Readers skip an empty line, so NULL cannot be one."""
    put_in_place_of_all(dsn, rows)
    data = exported(database, "csv", columns=("text",))
    lines = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert lines == [
        ["text"],
        *([row["text"] or ""] for row in sorted(rows, key=lambda r: r["id"])),
    ]


@given(rows=odd_rows)
@many
def test_excel_safe_csv_has_no_formula_and_loses_nothing(
    rows: list[dict[str, Any]], database: Database, dsn: str
) -> None:
    put_in_place_of_all(dsn, rows)
    data = exported(database, "csv", excel_safe=True)
    assert data.startswith(b"\xef\xbb\xbf")
    safe = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    for line, plain in zip(safe, sorted(rows, key=lambda r: r["id"]), strict=True):
        for name, cell in line.items():
            assert cell.removeprefix("'") == ("" if plain[name] is None else str(plain[name]))
            if name not in ("sentiment", "favorite_count"):
                assert not cell.lstrip(" \ufeff\u200b").startswith(FORMULA_SIGNS), name
        assert line["id"].startswith("'")
        assert line["sentiment"] == ("" if plain["sentiment"] is None else str(plain["sentiment"]))


def test_csv_is_exact_unless_it_shall_be_safe(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(7, text="=HYPERLINK(1)"))
    assert b"\n7,=HYPERLINK(1)\n" in run(dsn, tmp_path, "--columns", "id,text").stdout
    safe = run(dsn, tmp_path, "--columns", "id,text", "--excel-safe").stdout
    assert b"\n'7,'=HYPERLINK(1)\n" in safe


def test_delimiter_of_csv_is_chosen_and_named_to_excel(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(7, text="a;b,c|d"), row(8, text="plain"))
    columns = ("--columns", "id,text", "--delimiter")
    assert run(dsn, tmp_path, *columns, ";").stdout == b'id;text\n7;"a;b,c|d"\n8;plain\n'
    assert run(dsn, tmp_path, *columns, "tab").stdout == b"id\ttext\n7\ta;b,c|d\n8\tplain\n"
    named = run(dsn, tmp_path, *columns, "sep=;", "--excel-safe").stdout
    assert named == b"\xef\xbb\xbfsep=;\nid;text\n'7;\"a;b,c|d\"\n'8;plain\n"


# --- json lines ---------------------------------------------------------------------


@given(rows=odd_rows)
@many
def test_jsonl_has_ids_as_strings_and_lists_as_lists(
    rows: list[dict[str, Any]], database: Database, dsn: str
) -> None:
    put_in_place_of_all(dsn, rows)
    lines = exported(database, "jsonl").splitlines()
    # A reader that rounds, as JavaScript does, still has every id.
    read = [json.loads(line, parse_int=float) for line in lines]
    plain = [json.loads(line) for line in lines]
    for rounded, exact, was in zip(read, plain, sorted(rows, key=lambda r: r["id"]), strict=True):
        assert list(exact) == list(COLUMNS)
        assert rounded["id"] == str(was["id"])
        reply = was["in_reply_to_status_id"]
        assert rounded["in_reply_to_status_id"] == (None if reply is None else str(reply))
        assert exact["text"] == was["text"]
        if rounded["favorite_count"] is not None:
            assert int(rounded["favorite_count"]) == was["favorite_count"]
        assert exact["sentiment"] == (None if was["sentiment"] is None else float(was["sentiment"]))
        assert exact["created_at"] == was["created_at"]
        assert literal(exact["hashtags"]) == was["hashtags"]
        assert literal(exact["user_mentions_id"]) == was["user_mentions_id"]
        assert all(isinstance(mention, str | None) for mention in exact["user_mentions_id"])


# --- parquet ------------------------------------------------------------------------


@given(rows=odd_rows)
@many
def test_parquet_gives_back_every_value(
    rows: list[dict[str, Any]], database: Database, dsn: str
) -> None:
    from pyarrow import parquet

    put_in_place_of_all(dsn, rows)
    read = parquet.read_table(io.BytesIO(exported(database, "parquet"))).to_pylist()
    for now, was in zip(read, sorted(rows, key=lambda r: r["id"]), strict=True):
        for name in (
            "id",
            "in_reply_to_status_id",
            "favorite_count",
            "text",
            "retweeted_status_user_name",
        ):
            assert now[name] == was[name]
        assert literal(now["hashtags"]) == was["hashtags"]
        assert literal(now["user_mentions_id"]) == was["user_mentions_id"]
        assert now["sentiment"] == (None if was["sentiment"] is None else float(was["sentiment"]))


ONE = {
    "created_at": "2024-06-10T09:00:00.123Z",
    "hashtags": '{cats,"a b"}',
    "user_mentions_id": "{12,NULL}",
    "user_mentions_name": "{ada,grace}",
    "sentiment": -0.25,
    "favorite_count": 3,
}
MOMENT = datetime(2024, 6, 10, 9, 0, 0, 123_000, tzinfo=UTC)


def parquet_of_one(dsn: str, folder: Path) -> str:
    store(dsn, row(LARGEST, **ONE))
    run(dsn, folder, "--output", "posts.parquet")
    return str(folder / "posts.parquet")


def test_parquet_has_the_types_that_the_columns_mean(dsn: str, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = parquet.read_schema(parquet_of_one(dsn, tmp_path))
    assert schema.names == list(COLUMNS)
    assert schema.field("id").type == pa.int64()
    assert schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("sentiment").type == pa.float64()
    assert schema.field("user_mentions_id").type.value_type == pa.int64()
    for name in ("hashtags", "urls", "media", "user_mentions_name", "retweeted_status_url"):
        assert schema.field(name).type.value_type == pa.string()


def test_parquet_opens_in_duckdb(dsn: str, tmp_path: Path) -> None:
    import duckdb

    def rows_of(query: str) -> list[Any]:
        found = duckdb.sql(query)
        assert found is not None
        return found.fetchall()

    path = parquet_of_one(dsn, tmp_path)
    types = {name: kind for name, kind, *_ in rows_of(f"DESCRIBE SELECT * FROM '{path}'")}
    assert (types["id"], types["created_at"]) == ("BIGINT", "TIMESTAMP WITH TIME ZONE")
    assert (types["hashtags"], types["user_mentions_id"]) == ("VARCHAR[]", "BIGINT[]")
    (found,) = rows_of(
        f"SELECT id, hashtags[2], user_mentions_id, epoch_ms(created_at), sentiment FROM '{path}'"
    )
    assert found == (LARGEST, "a b", [12, None], round(MOMENT.timestamp() * 1000), -0.25)


def test_parquet_opens_in_polars(dsn: str, tmp_path: Path) -> None:
    import polars as pl

    frame = pl.read_parquet(parquet_of_one(dsn, tmp_path))
    assert frame.schema["created_at"] == pl.Datetime("us", "UTC")
    assert frame.schema["hashtags"] == pl.List(pl.String)
    assert frame.schema["user_mentions_id"] == pl.List(pl.Int64)
    (found,) = frame.select("id", "created_at", "hashtags", "user_mentions_id").rows()
    assert found == (LARGEST, MOMENT, ["cats", "a b"], [12, None])


def test_pandas_reads_every_id_exactly(dsn: str, tmp_path: Path) -> None:
    """An id beside a NULL became a float, and ended in other digits."""
    import pandas as pd

    store(dsn, row(1), row(LARGEST, retweeted_status_id=LARGEST - 2, favorite_count=3))
    run(dsn, tmp_path, "--output", "ids.parquet")
    frame = pd.read_parquet(tmp_path / "ids.parquet")
    assert {str(frame[name].dtype) for name in ("id", "retweeted_status_id")} == {"Int64"}
    assert frame["retweeted_status_id"].to_list() == [pd.NA, LARGEST - 2]
    assert frame["id"].to_list() == [1, LARGEST]
    assert str(frame["created_at"].dtype) == "datetime64[us, UTC]"


def test_each_reader_keeps_the_ids_of_csv_by_its_line_in_the_docs(dsn: str, tmp_path: Path) -> None:
    import duckdb
    import pandas
    import polars

    store(dsn, row(1), row(LARGEST, retweeted_status_id=LARGEST - 2, text="a\nb, c"))
    run(dsn, tmp_path, "--output", "posts.csv")
    page = (Path(__file__).parent.parent / "docs" / "how-to.md").read_text()
    path = str(tmp_path / "posts.csv")
    lines = {
        name: re.sub(r"(['\"])posts\.csv", rf"\1{path}", line)
        for name, line in re.findall(r"\*\*(\w+)\*\*: .*?From CSV:\s+`([^`]+)`", page, re.DOTALL)
    }
    frames = [
        eval(lines[name], {name: module})
        for name, module in (("pandas", pandas), ("polars", polars))
    ]
    for frame in frames:
        assert frame["id"].to_list() == [1, LARGEST]
        assert frame["retweeted_status_id"].to_list()[1] == LARGEST - 2
    found = duckdb.sql(f"SELECT id, retweeted_status_id FROM ({lines['DuckDB']})")
    assert found is not None
    assert found.fetchall() == [(1, None), (LARGEST, LARGEST - 2)]


def test_lines_on_stdout_end_as_programs_of_a_pipe_take_them(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(1), row(2))
    piped = run(dsn, tmp_path, "--columns", "id,text").stdout
    assert b"\r" not in piped
    assert piped.count(b"\n") == 3
    run(dsn, tmp_path, "--columns", "id,text", "--output", "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == piped.replace(b"\n", b"\r\n")


def test_parquet_of_nothing_has_columns_and_no_rows(dsn: str, tmp_path: Path) -> None:
    from pyarrow import parquet

    run(dsn, tmp_path, "--output", "none.parquet")
    table = parquet.read_table(tmp_path / "none.parquet")
    assert (table.num_rows, table.column_names) == (0, list(COLUMNS))


# --- xlsx ---------------------------------------------------------------------------


def cells(data: bytes) -> list[list[list[Any]]]:
    """(value, openpyxl's type of the cell) by sheet and line."""
    import openpyxl
    from openpyxl.utils.escape import unescape

    book = openpyxl.load_workbook(io.BytesIO(data))
    return [
        [
            [
                (unescape(c.value) if isinstance(c.value, str) else c.value, c.data_type)
                for c in line
            ]
            for line in sheet.iter_rows()
        ]
        for sheet in book.worksheets
    ]


@given(rows=odd_rows)
@example(rows=[row(1, text="<r><t>x</t></r></is></c><c r='Z9'><f>1+1</f></c><c><is><r></r>")])
@many
def test_xlsx_has_text_as_text_and_ids_as_text(
    rows: list[dict[str, Any]], database: Database, dsn: str
) -> None:
    put_in_place_of_all(dsn, rows)
    (((*header,), *lines),) = cells(exported(database, "xlsx"))
    assert [value for value, _ in header] == list(COLUMNS)
    for line, was in zip(lines, sorted(rows, key=lambda r: r["id"]), strict=True):
        now = dict(zip(COLUMNS, line, strict=True))
        assert "f" not in {kind for _, kind in line}
        assert now["id"] == (str(was["id"]), "s")
        for name in ("text", "retweeted_status_user_name", "in_reply_to_status_id", "hashtags"):
            # An empty text and an empty cell are one to Excel.
            assert (now[name][0] or "") == ("" if was[name] is None else str(was[name]))
        likes = was["favorite_count"]
        if likes is not None:
            assert now["favorite_count"] == (
                (likes, "n") if abs(likes) < 10**15 else (str(likes), "s")
            )
        if was["sentiment"] is not None:
            assert now["sentiment"] == (float(was["sentiment"]), "n")


def test_rows_beyond_a_sheet_go_on_in_the_next() -> None:
    out = io.BytesIO()
    rows = [[(str(n),) for n in range(part, part + 5)] for part in range(0, 25, 5)]
    count, notes = as_xlsx.write(out, [Column("id", "id")], rows, sheet_rows=10)
    sheets = cells(out.getvalue())
    assert [len(sheet) for sheet in sheets] == [11, 11, 6]
    assert {sheet[0][0][0] for sheet in sheets} == {"id"}
    assert [line[0][0] for sheet in sheets for line in sheet[1:]] == [str(n) for n in range(25)]
    assert (count, notes) == (25, ["Excel has 10 rows a sheet: there are 3 sheets"])


def test_text_that_no_cell_holds_is_cut_and_told(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(1, text="🦉" * 20_000), row(2, text="x" * 32_767))
    done = run(dsn, tmp_path, "--output", "x.xlsx", "--columns", "text")
    assert b"1 texts are cut" in done.stderr
    ((_, [first], [second]),) = cells((tmp_path / "x.xlsx").read_bytes())
    assert (first[0], second[0]) == ("🦉" * 16_383, "x" * 32_767)


# --- what is exported ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.ndjson", "o.parquet", "o.xlsx", "O.CSV"])
def test_ending_of_the_file_tells_the_format(kinds: str, tmp_path: Path, name: str) -> None:
    done = run(kinds, tmp_path, "--output", name, "--where", "id=1")
    assert done.stdout == b""
    assert done.stderr.decode() == f"tweetcrawler: 1 row to {tmp_path / name}\n"
    start = {
        "csv": b"id,tweet_from",
        "jsonl": b'{"id":"1"',
        "ndjson": b'{"id":"1"',
        "parquet": b"PAR1",
        "xlsx": b"PK",
    }
    assert (tmp_path / name).read_bytes().startswith(start[name.lower()[2:]])


def test_format_wins_over_the_ending(kinds: str, tmp_path: Path) -> None:
    run(
        kinds,
        tmp_path,
        "--output",
        "o.csv",
        "--format",
        "jsonl",
        "--columns",
        "id",
        "--where",
        "id=1",
    )
    assert (tmp_path / "o.csv").read_bytes() == b'{"id":"1"}\n'


@pytest.mark.parametrize(
    "output", [[], ["--output", "-"], ["--output", "/dev/stdout", "--format", "csv"]]
)
def test_csv_goes_to_stdout_when_no_file_is_named(
    kinds: str, tmp_path: Path, output: list[str]
) -> None:
    done = run(kinds, tmp_path, *output, "--columns", "id,text", "--where", "id=3")
    assert done.stdout == b"id,text\n3,RT other\n"


def test_quiet_export_says_nothing(kinds: str, tmp_path: Path) -> None:
    assert run(kinds, tmp_path, "--quiet", "--columns", "id").stderr == b""


def test_same_rows_give_the_same_file_wherever_they_lie(dsn: str, tmp_path: Path) -> None:
    """The four exports before the change take the second that a file could tell of its making."""
    store(dsn, *(row(n) for n in range(1_500, 0, -1)))
    for name in ("first", "second"):
        for form in ("xlsx", "csv", "jsonl", "parquet"):
            run(dsn, tmp_path, "--output", f"{name}.{form}", "--columns", "id,text,hashtags")
        change(dsn, "UPDATE tweet_articles_tweepy SET favorite_count = 1 WHERE id % 3 = 0")
    for form in ("xlsx", "csv", "jsonl", "parquet"):
        assert (tmp_path / f"first.{form}").read_bytes() == (
            tmp_path / f"second.{form}"
        ).read_bytes()


def test_rows_go_by_ascending_id(dsn: str, tmp_path: Path) -> None:
    """As numbers, though CSV holds them as text."""
    store(dsn, row(10), row(9), row(LARGEST), row(-1), row(100))
    assert ids_in(run(dsn, tmp_path)) == [-1, 9, 10, 100, LARGEST]


def test_columns_come_as_asked(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(1, tweet_from="ada"))
    assert run(dsn, tmp_path, "--columns", "tweet_from, id").stdout == b"tweet_from,id\nada,1\n"


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            "id,nonsense",
            "tweetcrawler: tweet_articles_tweepy has no column 'nonsense'; it has id, tweet_from, ",
        ),
        ("id,id", "tweetcrawler: --columns must be names with commas between, each once."),
        ("id,", "tweetcrawler: --columns must be names"),
        (
            "id FROM pg_shadow --",
            "tweetcrawler: tweet_articles_tweepy has no column 'id FROM pg_shadow --'",
        ),
        ('id"', "tweetcrawler: tweet_articles_tweepy has no column 'id\"'"),
    ],
)
def test_columns_that_are_none_are_refused(
    kinds: str, tmp_path: Path, columns: str, sentence: str
) -> None:
    assert refusal(kinds, tmp_path, "--columns", columns).startswith(sentence)


def test_view_has_its_own_types(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(5, tweet_from="Ada", **ONE))
    done = run(
        dsn,
        tmp_path,
        "--view",
        "tweets",
        "--format",
        "jsonl",
        "--where",
        "handle=ADA,x",
        "--where",
        "hashtag=CATS",
        "--where",
        "min_likes=3",
        "--where",
        "mentions=grace",
    )
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["id"] == "5"
    assert found["created_at"] == "2024-06-10T09:00:00.123Z"
    assert (found["hashtags"], found["mention_ids"]) == (["cats", "a b"], ["12", None])
    assert (found["is_retweet"], found["like_count"], found["sentiment"]) == (False, 3, -0.25)


def test_view_of_any_type_is_exported_in_every_format(dsn: str, tmp_path: Path) -> None:
    from pyarrow import parquet

    change(
        dsn,
        """
        CREATE VIEW odd AS
        SELECT 'b8f1c9a0-0000-4000-8000-000000000001'::uuid AS key, 9007199254740993 AS large,
            '{"a": 9007199254740993}'::jsonb AS document, '1 day'::interval AS span,
            date '2024-02-29' AS day, ARRAY[1.5, NULL] AS numbers, true AS truth,
            timestamptz '2024-01-01 00:00:00.000001+01' AS at, '-infinity'::float8 AS low,
            'x'::bytea AS bytes
        """,
    )
    (line,) = run(dsn, tmp_path, "--view", "odd", "--format", "jsonl").stdout.splitlines()
    assert json.loads(line) == {
        "key": "b8f1c9a0-0000-4000-8000-000000000001",
        "large": "9007199254740993",
        "document": {"a": 9007199254740993},
        "span": "1 day",
        "day": "2024-02-29",
        "numbers": [1.5, None],
        "truth": True,
        "at": "2023-12-31T23:00:00.000001Z",
        "low": None,
        "bytes": "\\x78",
    }
    for form in ("csv", "parquet", "xlsx"):
        run(dsn, tmp_path, "--view", "odd", "--output", f"odd.{form}")
    (found,) = parquet.read_table(tmp_path / "odd.parquet").to_pylist()
    assert (found["large"], found["truth"]) == (9007199254740993, True)
    assert found["day"].isoformat() == "2024-02-29"


def test_view_that_is_not_there_is_named_with_those_that_are(kinds: str, tmp_path: Path) -> None:
    sentence = refusal(kinds, tmp_path, "--view", "nonsense")
    assert "has no table or view nonsense; it has api_bucket, api_credential" in sentence
    assert "tweets" in sentence


@pytest.mark.parametrize(
    "view", ["tweets; DROP TABLE tweets", 'tweets"', "(SELECT 1)", "a.b.c", "pg_class,x"]
)
def test_view_that_is_no_name_is_refused(kinds: str, tmp_path: Path, view: str) -> None:
    assert refusal(kinds, tmp_path, "--view", view).startswith(
        "tweetcrawler: --view must be a name"
    )


def test_view_without_the_columns_of_a_filter_is_refused(kinds: str, tmp_path: Path) -> None:
    assert refusal(kinds, tmp_path, "--view", "crawl_run", "--where", "text=x") == (
        "tweetcrawler: the filter text reads the column text, which crawl_run does not have; "
        "leave the filter out or name another view"
    )


def test_list_of_lists_is_refused_by_parquet_and_taken_by_jsonl(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(1, hashtags="{{a,b},{c,d}}"))
    assert "the column hashtags holds a value" in refusal(dsn, tmp_path, "--output", "x.parquet")
    (line,) = run(dsn, tmp_path, "--format", "jsonl").stdout.splitlines()
    assert json.loads(line)["hashtags"] == [["a", "b"], ["c", "d"]]
    assert list(tmp_path.iterdir()) == []


def test_stored_text_that_is_no_time_stops_types_but_not_csv(dsn: str, tmp_path: Path) -> None:
    store(dsn, row(1, created_at="long ago"))
    sentence = refusal(dsn, tmp_path, "--output", "x.parquet")
    assert "long ago" in sentence
    assert sentence.endswith("csv takes it as it is stored, or correct that row")
    assert b"long ago" in run(dsn, tmp_path).stdout


# --- filters ------------------------------------------------------------------------


FILTERS: list[tuple[str, list[int]]] = [
    ("handle=ada", [1, 3]),
    ("handle=@ADA,Grace", [1, 2, 3]),
    ("handle=_", []),
    ("reply_to=ada", [2]),
    ("retweet_of=grace", [3]),
    ("mentions=grace,ada", [4]),
    ("hashtag=#cats", [1, 4]),
    ("hashtag=dogs,ünï", [1, 4]),
    ("since=2024-02-01", [3]),
    ("since=2024-01-31T23:59:59.999Z", [2, 3]),
    ("until=2024-02-01", [1, 2, LARGEST]),
    ("until=2024-01-01T01:00+01:00", []),
    ("since=2024-02-01T00:30+01:00", [2, 3]),
    ("id=4,1,77", [1, 4]),
    ("min_id=4", [4, LARGEST]),
    (f"max_id={LARGEST}", [1, 2, 3, 4, LARGEST]),
    (f"min_id={LARGEST}", [LARGEST]),
    ("text=100%", [1]),
    ("text=A_B", [1]),
    ("text=a%b", []),
    ("text=\\ F", [1]),
    ("text=it's", [1]),
    ("url=example.ORG/", [1]),
    ("min_likes=1", [1]),
    ("max_likes=0", [4]),
    (f"min_retweets={2**40}", [4]),
    ("max_retweets=3", [2]),
    ("min_sentiment=0.5", [1]),
    ("max_sentiment=-0.5", [2]),
    ("has=hashtags", [1, 4]),
    ("has=media,mentions", [3, 4]),
    ("has=urls", [1]),
    ("without=hashtags,media", [2, LARGEST]),
    ("without=urls", [2, 3, 4, LARGEST]),
    ("is=retweet", [3]),
    ("is=reply", [2]),
    ("is=original", [1, 4, LARGEST]),
    ("is=original, REPLY", [1, 2, 4, LARGEST]),
    ("Min-ID = 4", []),
]


@pytest.mark.parametrize("view", ["tweet_articles_tweepy", "tweets"])
def test_filters_choose_what_their_names_say(kinds: str, view: str) -> None:
    database = Database(kinds)
    for text, expected in FILTERS[:-1]:
        data = exported(database, "csv", where=(text,), columns=("id",), view=view).decode()
        assert [
            int(line[0]) for line in csv.reader(io.StringIO(data)) if line[0] != "id"
        ] == expected, text


def test_every_filter_is_tried_above_and_in_the_help() -> None:
    tried = {text.partition("=")[0] for text, _ in FILTERS[:-1]}
    in_help = set(
        re.findall(
            r"\b([a-z_]+)=(?=[ \n])",
            help_text("export").partition("--format")[0],
        )
    )
    assert tried == in_help == {*KNOWN_FILTERS, *CHOICES} == {*VALUES}


def test_all_filters_must_pass(kinds: str, tmp_path: Path) -> None:
    done = run(
        kinds,
        tmp_path,
        "--where",
        "handle=ada,grace",
        "--where=is=original,reply",
        "--where",
        "since=2024-01-02",
    )
    assert ids_in(done) == [2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name=x", "--where: there is no filter 'name'; known are handle=, reply_to="),
        ("id OR 1=1", "--where: there is no filter of this name; known are"),
        ("lang=en", "--where lang= is not possible: the table of the posts has no language"),
        ("handle", "--where needs name=value"),
        ("handle= ", "--where needs name=value"),
        ("handle=a,,b", "--where: handle= must be names of letters, digits and _"),
        ("handle=a';--", "--where: handle= must be names"),
        ("since=yesterday", "--where: since= must be a day or a moment"),
        ("since=2024-02-30", "--where: since= must be a day or a moment"),
        ("id=9223372036854775808", "--where: id= must be an id"),
        ("id=1 OR 1", "--where: id= must be an id"),
        ("min_id=1e3", "--where: min_id= must be an id"),
        ("min_likes=-1", "--where: min_likes= must be a whole number"),
        ("min_sentiment=NaN", "--where: min_sentiment= must be a number"),
        ("has=cats", "--where: has= must be one or more of hashtags, urls, media, mentions"),
        ("is=", "--where needs name=value"),
        ("hashtag=#", "--where: hashtag= must be hashtags"),
    ],
)
def test_filter_that_is_none_is_refused(
    kinds: str, tmp_path: Path, text: str, sentence: str
) -> None:
    assert refusal(kinds, tmp_path, "--where", text).startswith(f"tweetcrawler: {sentence}")


@given(
    piece=st.text(
        st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0x7F)
        | st.sampled_from("'\"\\%_$:;{}"),
        min_size=1,
    ).filter(str.strip)
)
@many
def test_any_piece_of_text_is_searched_as_it_stands(piece: str, kinds: str) -> None:
    data = exported(Database(kinds), "csv", where=(f"text={piece}",), columns=("id",)).decode()
    texts = {r["id"]: r["text"] for r in stored_kinds() if r["text"]}
    expected = [number for number, text in texts.items() if piece.strip().lower() in text.lower()]
    assert [int(line[0]) for line in csv.reader(io.StringIO(data)) if line[0] != "id"] == expected


def test_value_of_a_filter_never_is_in_the_text_of_a_statement(dsn: str, tmp_path: Path) -> None:
    """The server itself tells what it was sent: the export stands still at a lock while it
    is asked.
    """
    hostile = "x'; DROP TABLE tweet_articles_tweepy; --"
    command = [
        sys.executable,
        "-m",
        "tweetcrawler",
        "export",
        "--where",
        f"text={hostile}",
        "--where",
        "id=77",
        # The server shows the first 1,024 bytes of a statement: the columns must not fill them.
        "--columns",
        "id",
    ]
    with psycopg.connect(dsn) as holder, psycopg.connect(dsn, autocommit=True) as other:
        holder.execute("LOCK TABLE tweet_articles_tweepy")
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(dsn),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            seen: list[Any] = []
            ends_at = time.monotonic() + 20
            while not seen and time.monotonic() < ends_at:
                seen = other.execute(
                    """
                    SELECT query
                    FROM pg_stat_activity
                    WHERE wait_event_type = 'Lock' AND datname = current_database()
                    """
                ).fetchall()
                time.sleep(0.02)
            holder.rollback()
            out, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    ((statement,),) = seen
    assert "strpos" in statement
    assert "$1" in statement
    assert "DROP" not in statement
    assert "77" not in statement
    assert (process.returncode, out.count(b"\n")) == (0, 1), errors


# --- the file takes its place -------------------------------------------------------


class Slow:
    """An export of many rows into `posts.csv`, caught in the middle: its new file is there
    and grows.
    """

    def __init__(self, dsn: str, folder: Path) -> None:
        self.new = folder / ".posts.csv.new"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tweetcrawler", "export", "--output", "posts.csv"],
            cwd=folder,
            env=environment(dsn),
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Slow:
        ends_at = time.monotonic() + 20
        while not (self.new.exists() and self.new.stat().st_size > 0):
            assert self.process.poll() is None
            assert time.monotonic() < ends_at
            time.sleep(0.005)
        self.process.send_signal(signal.SIGSTOP)
        return self

    def end(self, number: int) -> tuple[int, bytes]:
        """The exit code and stderr after this signal."""
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        _, errors = self.process.communicate(timeout=300)
        return self.process.returncode, errors

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="module")
def large(server_dsn: str, template: str) -> Iterator[str]:
    """A database with 120,000 posts that nobody changes."""
    from databases import made

    for dsn in made(server_dsn, template):
        store_many(dsn, 120_000)
        yield dsn


def test_killed_export_leaves_the_old_file_and_the_next_one_clears_up(
    large: str, tmp_path: Path
) -> None:
    (tmp_path / "posts.csv").write_text("old")
    with Slow(large, tmp_path) as slow:
        assert slow.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert (tmp_path / "posts.csv").read_text() == "old"
    run(large, tmp_path, "--output", "posts.csv", "--where", "max_id=1700000000000000002")
    assert (tmp_path / "posts.csv").read_text().count("\n") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["posts.csv"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_export_leaves_the_old_file_and_nothing_else(
    large: str, tmp_path: Path, number: int, code: int
) -> None:
    (tmp_path / "posts.csv").write_text("old")
    with Slow(large, tmp_path) as slow:
        assert slow.end(number) == (code, b"")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("posts.csv", "old")]


def test_two_exports_into_one_file_do_not_mix(large: str, tmp_path: Path) -> None:
    with Slow(large, tmp_path) as slow:
        sentence = refusal(large, tmp_path, "--output", "posts.csv")
        assert "another export is writing" in sentence
        assert slow.end(signal.SIGCONT)[0] == 0
    assert (tmp_path / "posts.csv").read_bytes().count(b"\n") == 120_001


def test_full_disk_is_one_sentence_and_leaves_the_old_file(large: str, tmp_path: Path) -> None:
    (tmp_path / "posts.csv").write_text("old")

    def few_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = run(large, tmp_path, "--output", "posts.csv", code=1, preexec_fn=few_bytes)
    assert done.stderr.decode() == (
        f"tweetcrawler: {tmp_path / 'posts.csv'} cannot be written: file too large; "
        "a file that was there is as it was\n"
    )
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("posts.csv", "old")]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "xlsx"])
def test_export_that_fails_at_its_last_row_leaves_the_old_file(
    dsn: str, tmp_path: Path, form: str
) -> None:
    store_many(dsn, 1_500)
    change(
        dsn,
        """
        CREATE FUNCTION fails(bigint) RETURNS bigint LANGUAGE plpgsql AS $$
        BEGIN
            IF $1 > 1700000000000001499 THEN
                RAISE 'no' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN $1;
        END $$;
        CREATE VIEW late AS
        SELECT fails(id) AS number
        FROM (SELECT id FROM tweet_articles_tweepy ORDER BY id) t
        """,
    )
    (tmp_path / f"o.{form}").write_text("old")
    done = run(dsn, tmp_path, "--view", "late", "--output", f"o.{form}", code=3)
    assert done.stderr.endswith(b"refuses: no\n")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(f"o.{form}", "old")]


def test_new_file_has_the_mode_of_the_old_one_and_keeps_a_link(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "posts.csv").write_text("old")
    (tmp_path / "there" / "posts.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("there/posts.csv")
    run(dsn, tmp_path, "--output", "link.csv", "--columns", "id")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there" / "posts.csv").read_bytes() == b'"id"\r\n'
    assert (tmp_path / "there" / "posts.csv").stat().st_mode & 0o777 == 0o640


def test_reader_that_goes_away_ends_the_export_quietly(large: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tweetcrawler", "export"],
        cwd=tmp_path,
        env=environment(large),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(20), errors) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--output", "posts"],
            "the ending of {folder}/posts tells no format: add --format, one of csv, jsonl",
        ),
        (["--output", "posts.csv.gz"], "the ending of {folder}/posts.csv.gz tells no format"),
        (
            ["--output", "no/posts.csv"],
            "{folder}/no/posts.csv cannot be written: no such file or directory",
        ),
        (["--output", ".", "--format", "csv"], "{folder} is no ordinary file: name another"),
        (
            ["--output", "/dev/null", "--format", "xlsx"],
            "/dev/null is no ordinary file: name another",
        ),
        (
            ["--format", "parquet"],
            "parquet cannot go to stdout; name a file with --output FILE.parquet",
        ),
        (["--format", "xml"], "--format must be one of csv, jsonl, parquet, xlsx."),
        (
            ["--excel-safe", "--format", "jsonl"],
            "--excel-safe is for csv and xlsx; leave it out for jsonl",
        ),
        (
            ["--delimiter", ";", "--output", "a.xlsx"],
            "--delimiter is for csv; leave it out for xlsx",
        ),
        (["--delimiter", "x"], "--delimiter must be one of ,, ;, |, tab, sep=,, sep=;."),
        (
            ["--raw", "--columns", "id"],
            "--raw writes X's own JSON, one page per line: leave out --columns",
        ),
        (
            ["--raw", "--view", "tweets"],
            "--raw writes X's own JSON, one page per line: leave out --view",
        ),
        (
            ["--raw", "--format", "csv"],
            "--raw writes X's own JSON, one page per line: leave out this --format",
        ),
        (
            ["--raw", "--output", "x.xlsx"],
            "--raw writes X's own JSON, one page per line: leave out this ending",
        ),
        (
            ["--raw", "--where", "since=2024-01-01"],
            "--raw writes whole pages: of the filters only handle= is",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    kinds: str, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    assert refusal(kinds, tmp_path, *arguments).startswith(
        "tweetcrawler: " + sentence.format(folder=tmp_path)
    )
    assert list(tmp_path.iterdir()) == []


def test_csv_settings_have_nothing_to_export(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tweetcrawler", "export", "--csv", "--folder", "posts"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(""),
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "tweetcrawler: export reads a database, and the settings say CSV: "
        f"the files in {tmp_path / 'posts'} are there already\n"
    )


@pytest.mark.parametrize(("form", "package"), [("parquet", "pyarrow"), ("xlsx", "xlsxwriter")])
def test_missing_package_is_named_with_the_way_to_it(
    kinds: str, tmp_path: Path, form: str, package: str
) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from tweetcrawler.cli import main; sys.exit(main(['export', '--output', 'x.{form}']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(kinds),
        check=False,
    )
    assert done.returncode == 2
    assert (
        done.stderr == f"tweetcrawler: {form} needs the package {package}: pip install {package}\n"
    )
    assert list(tmp_path.iterdir()) == []


# --- memory -------------------------------------------------------------------------


def peak_mb(dsn: str, folder: Path, *arguments: str) -> float:
    """The most memory that the export ever had, as it tells itself at its end."""
    code = (
        "import sys, pathlib; from tweetcrawler.cli import main; code = main(sys.argv[1:])\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(status.partition('VmHWM:')[2].split()[0], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "--quiet", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(dsn),
        check=True,
    )
    return int(done.stderr) / 1024


@pytest.mark.parametrize(
    ("form", "few", "many_rows"),
    [
        ("csv", 5_000, 60_000),
        ("jsonl", 5_000, 60_000),
        ("parquet", 50_000, 120_000),
        ("xlsx", 1_000, 6_000),
    ],
)
def test_memory_does_not_grow_with_the_rows(
    large: str, tmp_path: Path, form: str, few: int, many_rows: int
) -> None:
    """60,000 rows are about 100 MB as objects. Parquet holds one group of them, of 32 MB at
    most.
    """
    first = 1_700_000_000_000_000_000
    small = peak_mb(large, tmp_path, "--output", f"few.{form}", "--where", f"max_id={first + few}")
    whole = peak_mb(
        large, tmp_path, "--output", f"many.{form}", "--where", f"max_id={first + many_rows}"
    )
    assert whole < small + (60 if form == "parquet" else 8)
    assert whole < 250


# --- pages --------------------------------------------------------------------------


def bought(body: bytes, **values: Any) -> Bought:
    return Bought("/2/users/:id/tweets", {"max_results": "100"}, "c1", body, **values)


def save_pages(database: Database, *pages: tuple[str, bytes | None]) -> None:
    """(handle, body) as a crawl stores them, a body of None as with `--raw off`."""
    with database.session() as session:
        run_, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        for handle, body in pages:
            session.claim_handles([handle], "w")
            found = [Found(handle, handle.encode().hex(), handle.title(), 1)]
            session.save_users(run_, bought(b'{"data":[{"id":"1"}]}', users=1), found, [], rest_s=1)
            target = session.targets([handle])[handle].id
            session.save(
                run_,
                "w",
                Batch(target, bought(body or b"", posts=1), []),
                keep_body=body is not None,
            )


def test_pages_come_as_received_in_the_order_received(
    database: Database, dsn: str, tmp_path: Path
) -> None:
    bodies = [
        b'{"data":[{"id":"10","text":"\\u00e9\xc3\xa9\\n"}],"x":1e400}',
        b'{ "data" : [] }',
        b'{"data":3}',
    ]
    save_pages(database, *(("ada", body) for body in bodies))
    done = run(dsn, tmp_path, "--raw")
    assert done.stdout == b"".join(body + b"\n" for body in bodies)
    assert done.stderr == b"tweetcrawler: 3 pages to stdout\n"
    run(dsn, tmp_path, "--pages", "--output", "pages.json")
    assert (tmp_path / "pages.json").read_bytes() == done.stdout


def test_page_is_one_line_however_it_was_sent(database: Database, dsn: str, tmp_path: Path) -> None:
    save_pages(database, ("ada", b'{\r\n  "data": [\n{"id": "1"}\n]\n}\n'))
    (line,) = run(dsn, tmp_path, "--raw").stdout.splitlines()
    assert json.loads(line) == {"data": [{"id": "1"}]}


def test_pages_without_body_are_counted(database: Database, dsn: str, tmp_path: Path) -> None:
    save_pages(database, ("ada", b"{}"), ("ada", None))
    done = run(dsn, tmp_path, "--raw")
    assert done.stdout == b"{}\n"
    assert done.stderr.splitlines()[1:] == [
        b"tweetcrawler: 1 page is not in it, since X's answer was not stored"
    ]


def test_pages_of_a_handle_and_of_the_account_that_it_became(
    database: Database, dsn: str, tmp_path: Path
) -> None:
    save_pages(database, ("ada", b'{"n":1}'), ("grace", b'{"n":2}'), ("ada", b'{"n":3}'))
    change(
        dsn,
        """
        INSERT INTO crawl_target (kind, handle, same_as)
        SELECT 'timeline', 'countess', id
        FROM crawl_target
        WHERE handle = 'ada'
        """,
    )
    for filters, expected in (
        (["handle=ADA"], [1, 3]),
        (["handle=countess"], [1, 3]),
        (["handle=ada,grace"], [1, 2, 3]),
        (["handle=ada,grace", "handle=grace"], [2]),
        (["handle=ada", "handle=grace"], []),
    ):
        where = itertools.chain.from_iterable(("--where", text) for text in filters)
        done = run(dsn, tmp_path, "--raw", *where)
        assert [json.loads(line)["n"] for line in done.stdout.splitlines()] == expected


def test_damaged_page_is_named(database: Database, dsn: str, tmp_path: Path) -> None:
    save_pages(database, ("ada", b"{}"))
    change(dsn, "UPDATE crawl_page SET body = 'nonsense' WHERE post_count > 0")
    sentence = refusal(dsn, tmp_path, "--raw", "--output", "pages.jsonl", code=3)
    assert re.search(r"the body of page [0-9a-f-]{36} in crawl_page is damaged", sentence)
    assert list(tmp_path.iterdir()) == []


# --- slow ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of another environment: twarc2 with its CSV plugin, and pandas of the
    version it needs.
    """
    folder = tmp_path_factory.mktemp("readers") / "venv"
    venv.create(folder, with_pip=True)
    subprocess.run(
        [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "twarc>=2.14",
            "twarc-csv>=0.7",
            "pandas<3",
            "pyarrow",
        ],
        check=True,
        capture_output=True,
    )
    return folder / "bin"


@pytest.mark.slow
def test_parquet_opens_in_pandas(dsn: str, tmp_path: Path, readers: Path) -> None:
    path = parquet_of_one(dsn, tmp_path)
    code = (
        f"import pandas; f = pandas.read_parquet({path!r}); r = f.iloc[0]\n"
        "print(f.id.dtype, f.created_at.dtype, r.id, list(r.hashtags))\n"
        "print(r.created_at.isoformat(), r.sentiment)"
    )
    done = subprocess.run(
        [readers / "python", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"int64 datetime64[us, UTC] {LARGEST} ['cats', 'a b']",
        "2024-06-10T09:00:00.123000+00:00 -0.25",
    ]


@pytest.mark.slow
def test_twarc2_reads_the_pages_of_a_crawl(dsn: str, tmp_path: Path, readers: Path) -> None:
    from sandbox_server import Sandbox

    (tmp_path / "handles.txt").write_text("ada\ngrace\n")
    with Sandbox() as sandbox:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "tweetcrawler",
                "--apiURL",
                sandbox.url,
                "--authCSV",
                str(sandbox.auth_csv),
                "--quiet",
            ],
            check=True,
            capture_output=True,
            cwd=tmp_path,
            env=environment(dsn),
        )
    said = run(dsn, tmp_path, "--raw", "--output", "pages.jsonl").stderr.decode()
    stored = [
        str(number) for (number,) in select(dsn, "SELECT id FROM tweet_articles_tweepy ORDER BY id")
    ]
    assert len(stored) > 100
    twarc = [str(readers / "twarc2"), "--bearer-token", "x"]
    home = os.environ | {"HOME": str(tmp_path)}
    command = [*twarc, "flatten", "pages.jsonl", "flat.jsonl"]
    subprocess.run(command, capture_output=True, cwd=tmp_path, env=home, check=True)
    line = re.search(r"twarc2 reads it with: twarc2 (csv .*)", said)
    assert line
    done = subprocess.run(
        [*twarc, *shlex.split(line[1])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=home,
        check=True,
    )
    assert "--extra-input-columns" not in done.stdout + done.stderr
    flat = [json.loads(line) for line in (tmp_path / "flat.jsonl").read_text().splitlines()]
    assert sorted({tweet["id"] for tweet in flat}, key=int) == stored
    assert all(tweet["author"]["username"] for tweet in flat)
    csv.field_size_limit(2**24)
    with (tmp_path / "pages.csv").open(newline="") as file:
        assert (
            sorted({line["id"] for line in csv.DictReader(file)} & set(stored), key=int) == stored
        )


@pytest.mark.slow
def test_more_rows_than_a_sheet_of_excel_has(dsn: str, tmp_path: Path) -> None:
    import openpyxl

    store_many(dsn, as_xlsx.SHEET_ROWS + 10)
    done = run(dsn, tmp_path, "--output", "posts.xlsx", "--columns", "id,text")
    assert b"there are 2 sheets" in done.stderr
    book = openpyxl.load_workbook(tmp_path / "posts.xlsx", read_only=True)
    assert [sheet.max_row for sheet in book.worksheets] == [1_048_576, 11]
    book.close()
