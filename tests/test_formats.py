"""Formats of other tools: every column by its rule, and a row or a refusal for whatever comes."""

from __future__ import annotations

import copy
import io
import json
import os
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from array_literals import parsed
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export import run, store

from tweetcrawler import ids
from tweetcrawler.archives import formats, text, zips
from tweetcrawler.archives.formats import academic, account, foreign, own, tables, times, v2
from tweetcrawler.archives.formats.databases import database_format
from tweetcrawler.archives.formats.fields import LISTS
from tweetcrawler.archives.formats.kinds import Format, Refusal
from tweetcrawler.archives.formats.workbooks import parquet_batches, xlsx_records
from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.flatten import COLUMNS, Flattened

DATA = Path(__file__).parent / "data" / "formats"
POST_ID, ORIGINAL_ID = 1500048474370998272, 1499678535709622272
NAMES = {
    "4cat": "4CAT",
    "apify": "Apify or twitterapi.io",
    "snscrape": "snscrape or twscrape",
    "tweetcrawler": "tweetcrawler",
    "twint": "twint",
    "twitter-web-exporter": "twitter-web-exporter",
    "twitwi": "twitwi (minet, gazouilloire)",
    "v1": "a status of X's API v1.1",
    "v2": "a post of X's API v2",
    "web": "a post of X's web client",
}


def score(_text: str) -> float:
    return 0.5


def cases() -> Iterator[Any]:
    for path in sorted(DATA.glob("*.json")):
        if path.stem != "tables":
            for case in json.loads(path.read_text(encoding="utf-8")):
                yield pytest.param(path.stem, case, id=f"{path.stem}: {case['what']}")


CASES = list(cases())


def form_of(value: dict[str, Any]) -> tuple[Format, Any]:
    form, value = formats.recognised(value)
    assert isinstance(form, Format), form
    return form, value


# --- objects -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stem", "case"), CASES)
def test_object_of_each_tool_fills_every_column(stem: str, case: dict[str, Any]) -> None:
    given = copy.deepcopy(case["given"])
    form, value = form_of(given)
    rows, refused = form.rows(value, score=score)
    assert refused == []
    (row,) = rows
    assert tuple(row) == COLUMNS
    expected = dict.fromkeys(COLUMNS) | case["row"]
    for column in COLUMNS:
        assert row[column] == expected[column], column
    assert given == case["given"], "what is given stays as it is"
    # The raw object of X's web client, where it was kept, is better than the tool's own.
    if stem in NAMES and "metadata" not in given:
        assert form.name == NAMES[stem]


@pytest.mark.parametrize(("stem", "case"), CASES)
def test_sentiment_is_for_english_and_only_if_wanted(stem: str, case: dict[str, Any]) -> None:
    form, value = form_of(case["given"])
    (row,) = form.rows(value).rows
    assert row["sentiment"] == (case["row"].get("sentiment") if stem == "tweetcrawler" else None)


@pytest.mark.parametrize(
    "value",
    [
        {"id": 7, "type": "message", "date": "2022-03-05T10:00:00", "text": "a chat line"},
        {"id": "17870913679156914", "text": "a", "timestamp": "2022-03-05T10:00:00+0000"},
        {"id": "1500048474370998272", "text": "a", "account": {"acct": "a@b"}},
        {"id": "1500048474370998272", "text": "a", "subreddit": "x"},
        {"id": "1500048474370998272", "text": "a", "objectType": "activity"},
        {"queryId": 1, "resourceId": "x", "id": "1", "text": "a"},
        {"source_platform": "instagram.com", "data": {"id": "1", "text": "a"}},
        {"id": str(POST_ID), "text": "", "author_id": "UNKNOWN", "resource_id": str(POST_ID)},
        {"tweet": {"id_str": str(POST_ID), "full_text": "a"}},
        {"users": [], "tweets": []},
        {"_type": "snscrape.modules.twitter.Tombstone", "id": POST_ID},
        {"_type": "snscrape.modules.mastodon.Toot", "id": 1, "content": "a"},
    ],
    ids=lambda value: str(list(value))[:40],
)
def test_known_and_not_read_is_refused_by_name_with_advice(value: dict[str, Any]) -> None:
    form, _ = formats.recognised(value)
    assert isinstance(form, Refusal)
    assert form.name
    assert form.advice


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"id": "1234567", "text": "a", "author": "x", "likes": 3}, "no sign of X"),
        ({"id": str(POST_ID), "text": "a"}, "no sign of X"),
        ({"id": "7", "text": "a", "created_at": "2022-03-05T10:00:00Z"}, "does not fit"),
        ({"id": str(POST_ID), "text": "a", "created_at": "2022-03-05T10:00:06Z"}, "does not fit"),
        ({"id": "7", "text": "a", "created_at": "yesterday"}, "does not fit"),
        ({"id": [], "text": "a", "created_at": {}}, "does not fit"),
        ({"text": "a"}, "no id"),
        ({"id": str(POST_ID), "text": "a", "created_at": "2022-03-05T10:00:00Z"}, ""),
        ({"id": "20", "text": "a", "created_at": "2006-03-21T20:50:14Z"}, ""),
        ({"id": str(POST_ID), "text": "a", "author": {"username": "x"}}, ""),
        ({"id": "1", "text": "a", "conversation_id": "1"}, ""),
    ],
)
def test_post_of_v2_shows_a_sign_or_an_id_that_fits_its_time(
    value: dict[str, Any], problem: str
) -> None:
    said = v2.problem(value)
    assert problem in said if problem else said == ""
    assert (formats.recognised(value).form is v2.FORMAT) is (problem == "")


def test_page_of_another_site_is_named_or_shows_no_sign() -> None:
    comment = {"id": "17870913679156914", "text": "a", "timestamp": "2022-03-05T10:00:00+0000"}
    refusal = formats.page_problem([comment])
    assert isinstance(refusal, Refusal)
    assert refusal.name == "Instagram"
    assert "no sign of X" in str(formats.page_problem([{"id": "1", "text": "a", "likes": 3}]))
    assert formats.page_problem([None, {"id": "1", "text": "a", "author_id": "2"}]) == ""


def test_id_that_lost_digits_is_refused_with_the_reason() -> None:
    given = {"_type": "snscrape.modules.twitter.Tweet", "rawContent": "a", "date": None}
    form, value = form_of(given | {"id": 1.500048474370998e18})
    assert form.rows(value).rows == []
    assert "lost digits" in form.rows(value).refused[0].reason


# --- files that go together ----------------------------------------------------------------------


def test_account_download_takes_its_author_from_the_file_beside() -> None:
    assert account.PAIR.beside("x/data/tweets-part2.js") == "x/data/account.js"
    assert account.PAIR.beside("tweet.js") == "account.js"
    assert account.PAIR.beside("x/data/like.js") is None
    assert account.PAIR.beside("x/data/deleted-tweets.js") is None
    assert formats.pair_of("x/tweets.js") == (account.PAIR, "x/account.js")
    assert formats.pair_of("x/tweets.jsonl") is None
    author = account.PAIR.read(
        [{"account": {"username": "ada_b", "accountId": "11", "accountDisplayName": "Ada"}}]
    )
    form = account.PAIR.format(author)
    status = {
        "id_str": str(POST_ID),
        "full_text": "RT @bob_c: &lt;3",
        "created_at": "Sat Mar 05 10:00:00 +0000 2022",
        "favorite_count": "2",
        "retweet_count": "1",
        "source": '<a href="https://t.example">Tea App</a>',
        "entities": {"hashtags": [], "urls": [], "user_mentions": []},
    }
    for value in ({"tweet": status}, status):
        assert form.fits(value)
        (row,) = form.rows(value).rows
        assert row == dict.fromkeys(COLUMNS) | {
            "id": POST_ID,
            "tweet_from": "ada_b",
            "created_at": "2022-03-05T10:00:00.000Z",
            "hashtags": "{}",
            "urls": "{}",
            "user_mentions_id": "{}",
            "user_mentions_name": "{}",
            "origin_device": "Tea App",
            "favorite_count": 2,
            "retweet_count": 1,
            "text": "RT @bob_c: <3",
        }
    assert account.PAIR.format(account.PAIR.read({})).rows(status).rows[0]["tweet_from"] is None


def test_academictwitter_takes_its_includes_from_the_users_file() -> None:
    assert academic.PAIR.beside("x/data_5.json") == "x/users_5.json"
    assert academic.PAIR.beside("x/mydata_5.json") is None
    includes = {
        "users": [{"id": "11", "username": "ada_b"}, {"id": "12", "username": "bob_c"}],
        "tweets": [{"id": str(ORIGINAL_ID), "author_id": "12", "text": "long words"}],
    }
    posts = [
        {
            "id": str(POST_ID),
            "author_id": "11",
            "text": "RT @bob_c: lo…",
            "created_at": "2022-03-05T10:00:00.000Z",
            "referenced_tweets": [{"type": "retweeted", "id": str(ORIGINAL_ID)}],
            "entities": {"annotations": {}, "urls": {}},  # jsonlite's empty data frames
        },
        {"id": str(ORIGINAL_ID), "author_id": "12", "text": "x", "in_reply_to_user_id": "11"},
    ]
    reply, retweet = academic.PAIR.format(academic.PAIR.read(includes)).rows(posts).rows
    assert (retweet["tweet_from"], retweet["retweeted_status_user_handle"]) == ("ada_b", "bob_c")
    assert retweet["retweeted_status_text"] == "long words"
    assert reply["in_reply_to_screen_name"] == "ada_b"


# --- tables --------------------------------------------------------------------------------------

TABLE_CASES = json.loads((DATA / "tables.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("stem", sorted(TABLE_CASES))
def test_table_of_each_tool_is_known_by_its_header_and_fills_every_column(stem: str) -> None:
    with (DATA / f"{stem}.csv").open(encoding="utf-8", newline="") as file:
        lines = file.read().split("\n")
    header = tables.header_of(lines)
    assert header is not None
    form = formats.table_format(header.columns)
    assert isinstance(form, formats.TableFormat)
    found = list(tables.records(lines[header.lines :], header.delimiter))
    assert len(found) == len(TABLE_CASES[stem])
    for record, expected in zip(found, TABLE_CASES[stem], strict=True):
        rows, refused = form.rows(header.columns, [record.cells], score=score)
        assert refused == []
        for column in COLUMNS:
            assert rows[0][column] == expected.get(column), column


def test_tables_of_nobody_and_of_others_are_told_apart() -> None:
    assert formats.table_format(["tweet_id", "created_at", "text"]) is None
    for header in (["Query Id", "Query Name", "Snippet"], ["tweetid", "userid", "tweet_text"]):
        assert isinstance(formats.table_format(header), formats.TableRefusal)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["\ufeffid;text"], (("id", "text"), ";", 1)),
        (["sep=;", "id;text"], (("id", "text"), ";", 2)),
        (["id\ttext\r"], (("id", "text"), "\t", 1)),
        (['"","id","text"'], (("", "id", "text"), ",", 1)),
        (["tweet_id"], (("tweet_id",), ",", 1)),
        (["1500048474370998272"], None),
        (['{"id": 1, "text": 2}'], None),
        (["id,id"], None),
        ([""], None),
        ([], None),
    ],
)
def test_header_is_found_with_its_delimiter(lines: list[str], expected: Any) -> None:
    assert tables.header_of(lines) == expected


def test_records_go_over_lines_and_tell_null_from_the_empty_text() -> None:
    lines = ['a,"b ""c"",\r', 'd",\r', "\r", '"",x\r', ""]
    assert list(tables.records(lines)) == [(["a", 'b "c",\r\nd', None], 2), (["", "x"], 1)]


def test_quote_that_is_never_closed_costs_one_record() -> None:
    lines = ['1,"open', *(f"{number},x" for number in range(2, 300_000))]
    found = list(tables.records(lines))
    assert [cells for cells, _ in found[:2]] == [["1", '"open'], ["2", "x"]]
    assert len(found) == len(lines)


@given(
    st.lists(st.lists(st.none() | st.text(max_size=8), min_size=2, max_size=4), max_size=5),
    st.sampled_from(tables.DELIMITERS),
)
def test_what_was_written_as_csv_is_read_again(rows: list[list[str | None]], sep: str) -> None:
    def written(value: str | None) -> str:
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    lines = "\r\n".join(sep.join(map(written, row)) for row in rows).split("\n")
    expected = [row for row in rows if row]
    found = [record.cells for record in tables.records(lines, sep)]
    assert found == expected


@pytest.mark.parametrize("value", ["1.50005E+18", "1,50005e+18", "1.5e18"])
def test_id_in_exponent_form_is_refused_and_the_spreadsheet_named(value: str) -> None:
    header = ["id", "text", "tweet_url", "user_screen_name"]
    form = formats.table_format(header)
    assert isinstance(form, formats.TableFormat)
    rows, (refused,) = form.rows(header, [[value, "t", "u", "a"]])
    assert rows == []
    assert "a spreadsheet has rounded it" in refused.reason


@pytest.mark.parametrize(
    ("value", "is_list"),
    [
        ("{}", True),
        ('{a,"b \\" c",NULL}', True),
        ("{{a},{b}}", True),
        ("{a b}", True),
        ("{a", False),
        ("{a,}", False),
        ('{"a}', False),
        ("a", False),
        ("", False),
    ],
)
def test_list_of_ours_must_be_whole_since_the_view_reads_it(value: str, *, is_list: bool) -> None:
    form = formats.table_format(["id", "tweet_from", "urls"])
    assert isinstance(form, formats.TableFormat)
    rows, refused = form.rows(["id", "tweet_from", "urls"], [["1", "a", value]])
    assert [row["urls"] for row in rows] == ([value] if is_list else [])
    assert bool(refused) is not is_list


def test_record_with_too_few_fields_is_refused() -> None:
    header = ["id", "text", "tweet_url", "user_screen_name"]
    form = formats.table_format(header)
    assert isinstance(form, formats.TableFormat)
    assert "2 fields where the header has 4" in form.rows(header, [["1", "t"]]).refused[0].reason


def test_rounded_ids_are_warned_of() -> None:
    rounded = ["1500048474370990000", "1499678535709620000", None, "x"]
    assert "end in 0000" in ids.warning_of(rounded)
    assert ids.warning_of([*rounded, str(POST_ID)]) == ""
    assert ids.warning_of(["1500048474370990000"]) == "", "one of ten thousand does by chance"


# --- files of ours, and databases ----------------------------------------------------------------

KINDS = {
    "id",
    "in_reply_to_user_id",
    "in_reply_to_status_id",
    "retweeted_status_id",
    "favorite_count",
    "retweet_count",
}
OURS = [
    dict.fromkeys(COLUMNS)
    | {
        "id": POST_ID,
        "tweet_from": "ada_b",
        "created_at": "2022-03-05T10:00:00.000Z",
        "hashtags": '{tea,"a b","NULL","x,\\"y\\\\"}',
        "urls": "{}",
        "user_mentions_id": "{12,NULL}",
        "media": "{https://pbs.example/1.jpg}",
        "user_mentions_name": "{bob_c,gone}",
        "origin_device": "Tea App",
        "favorite_count": 2**53 + 1,
        "text": '\'tea &amp; "cake",\r\n\n  <r>x</r> _x0041_ \x01 \U0001f375\u200d',
        "in_reply_to_screen_name": "",
        "in_reply_to_user_id": 12,
        "in_reply_to_status_id": 2**63 - 1,
        "retweet_count": 0,
        "sentiment": 0.4404,
    },
    dict.fromkeys(COLUMNS)
    | {
        "id": POST_ID + 1,
        "created_at": "2022-03-05T10:00:00.000Z",
        "hashtags": "{}",
        "urls": "{=1+1}",
        "user_mentions_id": "{}",
        "media": "{}",
        "user_mentions_name": "{}",
        "text": "=1+1",
        "retweeted_status_text": "-1",
        "retweeted_status_url": "{https://a.example/}",
        "retweeted_status_id": ORIGINAL_ID,
        "retweeted_status_user_name": "Bob, C.",
        "retweeted_status_user_handle": "bob_c",
        "sentiment": -1.0,
    },
    dict.fromkeys(COLUMNS) | {"id": POST_ID + 2, "text": ""},
]


def taken_back(path: Path) -> Flattened:
    """The rows of an export, as an import will read them."""
    if path.suffix == ".parquet":
        (batch,) = parquet_batches(path)
        return batch
    if path.suffix == ".jsonl":
        objects = [text.loads(line) for line in path.read_bytes().splitlines()]
        assert all(formats.recognised(value).form is own.FORMAT for value in objects)
        return own.WORDS.rows(objects)
    if path.suffix == ".xlsx":
        found = list(xlsx_records(path))
        columns = tuple(str(cell) for cell in found[0].cells)
        found = found[1:]
    else:
        with path.open(encoding="utf-8", newline="") as file:
            lines = file.read().split("\n")
        header = tables.header_of(lines)
        assert header is not None
        columns = header.columns
        found = list(tables.records(lines[header.lines :], header.delimiter))
    form = formats.table_format(columns)
    assert form is own.TABLE
    return own.TABLE.rows(columns, [record.cells for record in found])


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "xlsx", "csv --excel-safe"])
@pytest.mark.parametrize("view", [(), ("--view", "tweets")], ids=["table", "view"])
def test_our_export_comes_back_as_it_was(
    dsn: str, tmp_path: Path, form: str, view: tuple[str, ...]
) -> None:
    store(dsn, *OURS)
    suffix, *safe = form.split()
    run(dsn, tmp_path, "--output", f"own.{suffix}", *safe, *view)
    rows, refused = taken_back(tmp_path / f"own.{suffix}")
    assert refused == []
    assert rows == OURS


def test_batches_of_parquet_are_passed_over_that_were_read(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "own.parquet"
    count = 25_000
    table = pa.table({"id": range(1, count + 1), "tweet_from": ["ada_b"] * count})
    parquet.write_table(table, path)
    assert [len(batch.rows) for batch in parquet_batches(path)] == [10_000, 10_000, 5_000]
    (batch,) = parquet_batches(path, after=2)
    assert batch.rows[-1] == dict.fromkeys(COLUMNS) | {"id": count, "tweet_from": "ada_b"}


def test_value_that_cannot_be_stored_spoils_its_row_of_parquet_alone(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "own.parquet"
    parquet.write_table(
        pa.table({"id": [1, None, 3], "tweet_from": ["a", "b", "c"], "sentiment": [0.5, 0.5, 7.0]}),
        path,
    )
    (batch,) = parquet_batches(path)
    assert [row["id"] for row in batch.rows] == [1]
    assert [refused.tweet_id for refused in batch.refused] == [None, "3"]


def test_parquet_of_others_and_damaged_parquet_say_so(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "other.parquet"
    parquet.write_table(pa.table({"id": [1], "price": [2.0]}), path)
    with pytest.raises(ConfigurationError, match="not of `tweetcrawler export`"):
        list(parquet_batches(path))
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(TweetcrawlerError, match="cannot be read"):
        list(parquet_batches(path))


def test_workbook_saved_by_excel_has_its_texts_in_one_place() -> None:
    file = io.BytesIO()
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    with zipfile.ZipFile(file, "w") as book:
        book.writestr(
            "xl/sharedStrings.xml",
            f"<sst {space}><si><t>id</t></si><si><t>tweet_from</t></si><si><r><t>ada</t></r>"
            "<r><t>_b</t></r><rPh><t>no</t></rPh></si></sst>",
        )
        book.writestr(
            "xl/worksheets/sheet1.xml",
            f'<worksheet {space}><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c>'
            '<c r="B1" t="s"><v>1</v></c><c r="C1" t="s"><v>9</v></c></row><row r="2">'
            '<c r="A2"><v>1.50004847437099E+18</v></c><c r="B2" t="s"><v>2</v></c></row>'
            "</sheetData></worksheet>",
        )
    assert [record.cells for record in xlsx_records(file)] == [
        ["id", "tweet_from", None],
        ["1.50004847437099E+18", "ada_b", None],
    ]
    with pytest.raises(TweetcrawlerError, match="cannot be read"):
        list(xlsx_records(io.BytesIO(b"PK\x03\x04 and no more")))


def test_database_of_twitter_to_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "a b.db"
    database = sqlite3.connect(path)
    database.executescript(
        f"""
        CREATE TABLE users (id INTEGER PRIMARY KEY, screen_name TEXT, name TEXT);
        CREATE TABLE sources (id TEXT PRIMARY KEY, name TEXT, url TEXT);
        CREATE TABLE tweets (id INTEGER PRIMARY KEY, user INTEGER, created_at TEXT,
            full_text TEXT, retweeted_status INTEGER, source TEXT, lang TEXT,
            favorite_count INTEGER, retweet_count INTEGER, in_reply_to_user_id INTEGER);
        INSERT INTO users VALUES (11, 'ada_b', 'Ada'), (12, 'bob_c', 'Bob');
        INSERT INTO sources VALUES ('s', 'Tea App', 'https://t.example');
        INSERT INTO tweets VALUES
            ({ORIGINAL_ID}, 12, '2022-03-04T09:30:00+00:00', 'tea &amp; cake', NULL, 's', 'en',
             9, 4, 11),
            ({POST_ID}, 11, '2022-03-05T10:00:00+00:00', 'RT @bob_c: te…', {ORIGINAL_ID}, NULL,
             'de', 0, 4, NULL);
        """
    )
    database.commit()
    form = database_format(path)
    assert form is not None
    assert form.name == "twitter-to-sqlite"
    ((flattened, last_id),) = form.batches(path, score=score)
    assert flattened.refused == []
    assert last_id == POST_ID
    original, retweet = flattened.rows
    assert original == dict.fromkeys(COLUMNS) | {
        "id": ORIGINAL_ID,
        "tweet_from": "bob_c",
        "created_at": "2022-03-04T09:30:00.000Z",
        "media": "{}",
        "origin_device": "Tea App",
        "favorite_count": 9,
        "text": "tea &amp; cake",
        "in_reply_to_user_id": 11,
        "retweet_count": 4,
        "sentiment": 0.5,
    }
    assert retweet["retweeted_status_text"] == "tea &amp; cake"
    assert retweet["retweeted_status_user_handle"] == "bob_c"
    assert [batch.last_id for batch in form.batches(path, after=ORIGINAL_ID)] == [POST_ID]

    database.executescript(
        f"""
        CREATE TABLE media (id INTEGER PRIMARY KEY, media_url_https TEXT);
        CREATE TABLE media_tweets (media_id INTEGER, tweets_id INTEGER);
        INSERT INTO media VALUES (1, 'https://pbs.example/1.jpg');
        INSERT INTO media_tweets VALUES (1, {ORIGINAL_ID});
        """
    )
    database.close()
    form = database_format(path)
    assert form is not None
    ((flattened, _),) = form.batches(path)
    assert [row["media"] for row in flattened.rows] == ["{https://pbs.example/1.jpg}"] * 2


def test_database_of_twclient_holds_answers_of_v1(tmp_path: Path) -> None:
    path = tmp_path / "twclient.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE tweet (tweet_id INTEGER PRIMARY KEY, api_response TEXT)")
        status = {"id_str": str(POST_ID), "full_text": "a", "user": {"screen_name": "ada_b"}}
        database.executemany(
            "INSERT INTO tweet VALUES (?, ?)", [(1, "no JSON"), (POST_ID, json.dumps(status))]
        )
    database.close()
    form = database_format(path)
    assert form is not None
    ((flattened, _),) = form.batches(path)
    assert [(row["id"], row["tweet_from"]) for row in flattened.rows] == [(POST_ID, "ada_b")]
    assert len(flattened.refused) == 1


def test_other_databases_are_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    assert database_format(path) is None
    path.write_text("no database")
    assert database_format(path) is None


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"7z\xbc\xaf\x27\x1c\x00", "7z"),
        (b"\x04\x22\x4d\x18x", "lz4"),
        (b"X\n\0\0\0\x03", "R's RDS"),
    ],
)
def test_files_that_are_not_read_are_named_by_their_first_bytes(head: bytes, name: str) -> None:
    assert foreign.refused_file(head)[0] == name
    assert foreign.refused_file(b'{"id": 1}') == ("", "")


def test_zip_opens_the_file_of_the_author_beside_the_tweets(tmp_path: Path) -> None:
    path = tmp_path / "download.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("data/", "")
        book.writestr("data/tweets.js", 'window.YTD.tweets.part0 = [{"tweet": {}}]')
        book.writestr("data/account.js", 'window.YTD.account.part0 = [{"account": {}}]')
    with path.open("rb") as file, zips.members(file) as found:
        assert list(found) == ["data/tweets.js", "data/account.js"]
        pair, beside = formats.pair_of("data/tweets.js") or (None, "")
        assert pair is account.PAIR
        head = found[beside].open().read()
    assigned = text.assignment(head)
    assert assigned is not None
    assert json.loads(head[assigned.length :]) == [{"account": {}}]


def test_zip_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    locked = io.BytesIO()
    with zipfile.ZipFile(locked, "w") as book:
        book.writestr("a.json", "{}")
    # The bit that says that a member has a password, in its own head and in the list.
    bytes_ = locked.getvalue().replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1")
    bytes_ = bytes_.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")
    with zips.members(io.BytesIO(bytes_)) as found, pytest.raises(ValueError, match="password"):
        found["a.json"].open()
    with pytest.raises(ValueError, match="no whole zip"), zips.members(io.BytesIO(b"PK\3\4")):
        pass
    read, write = os.pipe()
    os.close(write)
    pipe = pytest.raises(ValueError, match="pipe")
    with os.fdopen(read, "rb") as file, pipe, zips.members(file):
        pass


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        "2022-03-05T10:00:00.000Z",
        "2022-03-05T10:00:00Z",
        "2022-03-05 11:00:00+01:00",
        "2022-03-05 12:00:00 +0200",
        "2022-03-05 10:00:00 UTC",
        "2022-03-05T10:00Z",
        "Sat Mar 05 10:00:00 +0000 2022",
        "Sat, 05 Mar 2022 10:00:00 GMT",
        1646474400,
        1646474400.0,
        "1646474400",
        1646474400000,
        {"$date": "2022-03-05T10:00:00Z"},
        {"$date": 1646474400000},
        {"$date": {"$numberLong": "1646474400000"}},
        # None of these is one moment, so the id tells.
        "2022-03-05 10:00:00",
        "2022-03-05 05:00:00 EST",
        "05/03/2022 10:00",
        "5 minutes ago",
        "10:00 PM · Jan 5, 2023",
        "Sat Foo 05 10:00:00 +0000 2022",
        "2022-02-30T10:00:00Z",
        20220305,
        "2022",
        True,
        float("nan"),
        float("inf"),
        10**400,
        [],
        {},
        {"$date": []},
        None,
    ],
    ids=str,
)
def test_time_is_the_one_moment_that_was_sent_or_that_of_the_id(sent: Any) -> None:
    assert times.created_at(sent, POST_ID) == "2022-03-05T10:00:00.000Z"


def test_time_of_old_ids_is_only_what_was_sent() -> None:
    assert times.created_at("2006-03-21T20:50:14Z", 20) == "2006-03-21T20:50:14.000Z"
    assert times.created_at("2006-03-21 20:50:14", 20) is None


def test_id_contradicts_a_time_further_away_than_seconds() -> None:
    assert not times.contradicts("2022-03-05T10:00:04Z", POST_ID)
    assert times.contradicts("2022-03-05T10:00:07Z", POST_ID)
    assert times.contradicts("2022-03-05T10:00:00Z", 20)
    assert not times.contradicts("2022-03-05 11:11:11", POST_ID)
    assert times.contradicts("2022-03-05T10:00:00Z", 2**200)


# --- text ----------------------------------------------------------------------------------------


def st_nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)


def parts(blob: bytes, size: int, most: int = 10**6) -> list[text.Part]:
    blocks = [blob[begin : begin + size] for begin in range(0, len(blob), size)]
    return list(text.objects(blocks, most=most))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_objects_are_found_wherever_they_stand(size: int) -> None:
    values = [{"a": "}{"}, {"b": [{"c": '\\"{'}, {"d": {}}]}, {"e": "é\n"}, {}]
    dumped = [json.dumps(value, ensure_ascii=False) for value in values]
    pretty = [json.dumps(value, indent=2) for value in values]
    for whole in ("".join(dumped), " ".join(pretty), "\n".join(dumped), f"[{','.join(pretty)}]"):
        found = parts(whole.encode(), size)
        assert [json.loads(part.text) for part in found] == values
        assert all(part.is_object for part in found)
        assert found[-1].end <= len(whole.encode())


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_broken_object_does_not_take_the_next_one_with_it(size: int) -> None:
    blob = b'WARNING: x\n{"a": "cut\n{"b": 1}\n{"c": 1,{"d": 2}{"e": [1}{"f": 3}\nend {"g":'
    found = [(part.text, part.is_object) for part in parts(blob, size)]
    assert [text for text, is_object in found if is_object] == [
        b'{"b": 1}',
        b'{"d": 2}',
        b'{"f": 3}',
    ]
    assert found[0] == (b"WARNING: x", False)
    assert found[-1] == (b'{"g":', False)


def test_object_that_is_too_long_is_named_and_passed_over_whole() -> None:
    blob = b'{"a": "' + b"y" * 5000 + b'", "b": {"c": 1}}{"d": 1}'
    long, short = parts(blob, 100, most=1000)
    assert not long.is_object
    assert len(long.text) == 1000
    assert short == (b'{"d": 1}', len(blob), True)


def test_text_of_any_length_is_read_once_and_never_kept_whole() -> None:
    """Put together and looked at again with each block, the first ones would take minutes."""
    block = b"y" * 50_000
    for begin, end in ((b'{"a": "', b'"}'), (b'{"a": [', b"1]}")):
        found = list(text.objects([begin, *[block] * 800, end], most=10**9))
        assert [(part.is_object, part.end) for part in found] == [
            (True, len(begin) + 800 * len(block) + len(end))
        ]

    whole = list(text.objects([b'{"a": "', *[block] * 40, b'"}{"b": 1}'], most=10**6))
    assert whole[-1].text == b'{"b": 1}'
    assert not whole[0].is_object
    assert all(len(part.text) <= 1000 for part in whole)

    # What begins in the middle of an object that is too long is no object of its own.
    nested = [b'{"a": [', *[b'{"n": 1},'] * 300, b'{"n": 1}]}', b'{"b": 1}']
    found = list(text.objects(nested, most=1000))
    assert [part.text for part in found if part.is_object] == [b'{"b": 1}']


@given(st.recursive(st.text('"\\\\{}[] \n', max_size=9) | st.integers(), st_nested, max_leaves=8))
def test_end_of_an_object_that_is_too_long_is_found_all_the_same(value: Any) -> None:
    blob = json.dumps({"a": value, "b": "y" * 20}).encode() + b'{"c": 1}'
    for size in (1, 2, 9):
        found = [part for part in parts(blob, size, most=5) if part.end != len(blob)]
        assert not any(part.is_object for part in found)
        assert parts(blob, size, most=5)[-1].end == len(blob)


@given(st.binary(max_size=80) | st.text('{}[]",:\\\n a', max_size=80).map(str.encode))
@settings(max_examples=300)
def test_objects_of_any_text_end_where_its_blocks_do_not_matter(blob: bytes) -> None:
    whole = [part for part in parts(blob, 1000) if part.is_object]
    assert whole == [part for part in parts(blob, 3) if part.is_object]
    for part in whole:
        assert blob[part.end - len(part.text) : part.end] == part.text


def test_nan_and_infinity_are_null_and_broken_json_is_an_error() -> None:
    assert text.loads(b'{"a": NaN, "b": [-Infinity, 1]}') == {"a": None, "b": [None, 1]}
    assert text.loads(b'{"a": "\\ud83d"}') == {"a": "\ud83d"}
    with pytest.raises(ValueError, match="Expecting"):
        text.loads(b'{"a": }')


def test_script_prefixes_lengths_and_log_lines_are_seen() -> None:
    head = b"window.YTD.tweets.part0 = [ {"
    found = text.assignment(head)
    assert found is not None
    assert (found.name, head[found.length :]) == ("window.YTD.tweets.part0", b"[ {")
    assert text.assignment(b"Grailbird.data.tweets_2012_12 = \n [ {") is not None
    assert text.assignment(b'{"a": 1}') is None
    assert text.is_length_of(b"10\r\n", b'{"a": 1}\r\n')
    assert not text.is_length_of(b"1500048474370998272\n", b'{"a": 1}\r\n')
    for line, is_log in (
        (b"WARNING:root:rate limit", True),
        (b"[INFO] begun", True),
        (b'{"WARNING": 1}', False),
        (b"[1, 2]", False),
    ):
        assert text.is_log(line) is is_log


# --- whatever comes ------------------------------------------------------------------------------

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.just("1e18"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "text", "$date", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def mutilated(draw: st.DrawFn) -> Any:
    """An object of some tool in which something somewhere is missing or something else."""
    value = copy.deepcopy(draw(st.sampled_from([case.values[1]["given"] for case in CASES])))
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(places(value)) or [({}, "x")]))
        if draw(st.booleans()):
            holder[key] = draw(junk)
        elif isinstance(holder, dict):
            holder.pop(key, None)
    return value


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def assert_storable(row: dict[str, Any]) -> None:
    assert tuple(row) == COLUMNS
    for column, value in row.items():
        if column in KINDS:
            assert value is None or (type(value) is int and -(2**63) <= value < 2**63)
        elif value is not None and column != "sentiment":
            assert "\x00" not in value
            value.encode()
            if column in LISTS and value[:2] != "{{":  # that one has dimensions
                parsed(value)


@given(mutilated())
@settings(max_examples=500, deadline=None)
def test_any_mutilated_object_gives_a_row_or_a_refusal(value: Any) -> None:
    before = copy.deepcopy(value)
    form, found = formats.recognised(value)
    if isinstance(form, Format):
        rows, refused = form.rows(found, score=score)
        assert len(rows) + len(refused) >= ("tweets" not in found)
        for row in rows:
            assert_storable(row)
    assert repr(value) == repr(before)


def test_value_of_a_thousand_levels_is_no_post() -> None:
    deep: Any = {}
    for _ in range(1000):
        deep = {"_id": deep}
    assert formats.recognised(deep).form is None


@given(st.sampled_from(CASES), junk)
@settings(max_examples=200, deadline=None)
def test_every_format_takes_anything_for_a_post(case: Any, value: Any) -> None:
    form, _ = form_of(case.values[1]["given"])
    if isinstance(value, dict) and form.fits(value):
        form.rows(value)
    for pair in formats.PAIRS:
        for row in pair.format(pair.read(value)).rows(value).rows:
            assert_storable(row)


@given(st.sampled_from(sorted(TABLE_CASES)), st.data())
@settings(max_examples=200, deadline=None)
def test_any_mutilated_record_gives_a_row_or_a_refusal(stem: str, data: st.DataObject) -> None:
    lines = (DATA / f"{stem}.csv").read_text(encoding="utf-8").split("\n")
    header = tables.header_of(lines)
    assert header is not None
    form = formats.table_format(header.columns)
    assert isinstance(form, formats.TableFormat)
    record = next(tables.records(lines[header.lines :], header.delimiter)).cells
    position = data.draw(st.integers(0, len(record) - 1))
    record[position] = data.draw(st.none() | st.text(max_size=6) | st.sampled_from("[]{}'\""))
    rows, refused = form.rows(header.columns, [record], score=score)
    assert len(rows) + len(refused) == 1
    for row in rows:
        assert_storable(row)
