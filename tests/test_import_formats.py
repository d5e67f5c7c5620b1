"""Files of other tools as an operator has them, through `tweetcrawler import` into PostgreSQL.

Each test has a kind of file that was lost, wrong or refused line by line before.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from test_archive import problems, read, values, written
from test_import import Import, command, counts, rejects, run, select, status

from tweetcrawler.archives import pieces, texts
from tweetcrawler.archives.documents import LOG, OTHER_PART, Position

__all__ = ["run"]  # a fixture

ID, OTHER_ID = 1500048474370998272, 1499678535709622272
AT = "2022-03-05T09:59:59.000Z"


def put(path: Path, *things: Any) -> Path:
    """A file with these objects, one in each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in things))
    return path


def rows(dsn: str, *columns: str) -> list[tuple[Any, ...]]:
    return select(dsn, f"SELECT {', '.join(columns)} FROM tweets ORDER BY id")


def v2(tweet_id: int = ID, **more: Any) -> dict[str, Any]:
    return {"id": str(tweet_id), "text": "a walk", "author_id": "7", "created_at": AT} | more


USERS = [{"id": "7", "username": "dora_k", "name": "Dora"}, {"id": "8", "username": "eli_m"}]


# --- recognition ----------------------------------------------------------------------------------


def test_objects_of_other_sites_are_named_or_rejected_and_never_rows(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    chat = {"id": 12, "type": "message", "date": "2022-03-05T10:00:00", "text": "good morning"}
    comment = {"id": "17912345678901234", "text": "nice", "timestamp": "2022-03-05T10:00:00+0000"}
    done = run(
        put(tmp_path / "chat.json", chat),
        put(tmp_path / "page.json", {"data": [comment]}),
        put(tmp_path / "site.jsonl", {"id": "7654321", "text": "a comment", "author": "y"}),
        put(
            tmp_path / "odd.jsonl", {"id": str(ID), "text": "x", "created_at": "2012-01-01T00:00Z"}
        ),
    )
    assert done.returncode == 1
    found = counts(done.stdout)
    assert (found["Telegram"], found["Instagram"], found["rejected"]) == (1, 1, 2)
    assert "holds Telegram, not imported: it holds no posts of X" in done.stderr
    assert {each["reason"].split(":")[0] for each in rejects(tmp_path)} == {
        "it shows no sign of X",
        "its id does not fit created_at",
    }
    assert rows(dsn, "id") == []


def test_time_that_is_none_is_that_of_the_id_and_the_view_works(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    times = ["3 hours ago", "05/03/2022 10:00", "2022-03-05 10:00:00"]
    posts = [v2(ID + n, created_at=time) for n, time in enumerate(times)]
    done = run(put(tmp_path / "a.jsonl", *posts), put(tmp_path / "b.jsonl", v2(20, created_at="?")))
    assert done.returncode == 0, done.stderr
    assert select(dsn, "SELECT count(*) FROM tweets WHERE created_at > '2022-03-05 05:00Z'") == [
        (3,)
    ]
    stored = select(dsn, "SELECT DISTINCT created_at FROM tweet_articles_tweepy ORDER BY 1")
    assert [bool(time) and time.startswith("2022-03-05T") for (time,) in stored] == [True, False]
    assert "4 rows without an author, 1 row without a time" in done.stdout


# --- one format, one row --------------------------------------------------------------------------


OF_TOOLS: tuple[dict[str, Any], ...] = (
    {
        "_type": "snscrape.modules.twitter.Tweet",
        "id": ID + 2,
        "date": "2022-03-05T10:00:00+00:00",
        "rawContent": "salt & bread",
        "user": {"username": "dora_k", "id": 7},
        "likeCount": 5,
        "retweetCount": 4,
    },
    {
        "id": ID + 3,
        "conversation_id": str(ID),
        "created_at": "2022-03-05 10:00:00 UTC",
        "username": "dora_k",
        "tweet": "a walk",
        "retweets_count": 4,
        "likes_count": 5,
        "hashtags": [],
        "mentions": [],
        "user_id": 7,
    },
    {
        "id": str(ID + 4),
        "timestamp_utc": 1646474400,
        "local_time": "2022-03-05T10:00:00",
        "text": "a walk",
        "user_screen_name": "dora_k",
        "user_id": "7",
        "like_count": 5,
        "retweet_count": 4,
        "collected_via": ["search"],
    },
    {
        "type": "tweet",
        "id": str(ID + 5),
        "text": "a walk",
        "createdAt": "Sat Mar 05 10:00:00 +0000 2022",
        "likeCount": 5,
        "retweetCount": 4,
        "author": {"userName": "dora_k", "id": "7", "name": "Dora"},
    },
    {
        "id": str(ID + 6),
        "created_at": "2022-03-05 12:00:00 +02:00",
        "full_text": "a walk",
        "screen_name": "dora_k",
        "favorite_count": 5,
        "retweet_count": 4,
        "views_count": 9,
        "media": [],
    },
)
"""A post as snscrape, twint, twitwi, Apify and twitter-web-exporter write it."""


def test_objects_of_each_tool_become_rows_with_author_time_and_counts(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    """4CAT, snscrape, twint, twitwi, Apify, twitter-web-exporter: each lost its author, or all."""
    cat = v2(
        ID + 1,
        public_metrics={"like_count": 5, "retweet_count": 4},
        author_user={"id": "7", "username": "dora_k", "name": "Dora"},
        attachments={"media_keys": [{"media_key": "3_1", "type": "photo", "url": "https://p.x/1"}]},
    )
    error = {
        "id": str(ID),
        "resource_id": str(ID),
        "type": "https://api.twitter.com/2/problems/resource-not-found",
        "text": "",
        "author_id": "UNKNOWN",
        "created_at": "2026-01-01T00:00:00.000Z",
    }
    put(tmp_path / "all" / "4cat.ndjson", error, cat)
    for number, each in enumerate(OF_TOOLS):
        put(tmp_path / "all" / f"{number}.json", each)
    (tmp_path / "all" / "notes.odt").write_text("x")
    done = run(tmp_path / "all")
    assert done.returncode == 0, done.stderr + done.stdout
    assert counts(done.stdout)["a post that X did not give to 4CAT"] == 1
    assert "not named like files of posts" in done.stderr
    assert "notes.odt" in done.stderr
    found = rows(dsn, "id", "username", "like_count", "retweet_count", "created_at IS NOT NULL")
    assert found == [(ID + n, "dora_k", 5, 4, True) for n in range(1, 7)]
    assert rows(dsn, "media", "text")[:2] == [(["https://p.x/1"], "a walk"), ([], "salt & bread")]


def test_folder_of_academictwitter_is_read_in_pairs(run: Import, dsn: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    reference = [{"type": "retweeted", "id": str(OTHER_ID)}]
    posts = [v2(referenced_tweets=reference), v2(ID + 1)]
    (folder / "data_1.json").write_text(json.dumps(posts))
    whole = {"id": str(OTHER_ID), "text": "the whole of it", "author_id": "8"}
    (folder / "users_1.json").write_text(json.dumps({"users": USERS, "tweets": [whole]}))
    done = run(folder)
    assert (done.returncode, counts(done.stdout)) == (0, {"imported": 1, "posts, now rows": 2})
    assert rows(dsn, "username", "retweeted_status_text", "retweeted_status_user_handle") == [
        ("dora_k", "the whole of it", "eli_m"),
        ("dora_k", None, None),
    ]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_pairs_in_a_tar_are_read_as_pairs_in_any_order(
    run: Import, dsn: str, tmp_path: Path, mode: Any
) -> None:
    """The users may come before their posts or after them; of two posts each has its own."""
    reference = [{"type": "retweeted", "id": str(OTHER_ID)}]
    whole = {"id": str(OTHER_ID), "text": "the whole of it", "author_id": "8"}
    account = {"account": {"username": "fay_m", "accountId": "9"}}
    members = {
        "x/users_1.json": {"users": USERS, "tweets": [whole]},
        "x/data_1.json": [v2(referenced_tweets=reference)],
        "x/data_2.json": [v2(ID + 1, author_id="8")],
        "x/users_2.json": {"users": USERS},
        "x/users_3.json": {"users": USERS},
        "y/tweets.js": [{"tweet": {"id_str": str(ID + 2), "full_text": "a walk"}}],
        "y/account.js": [account],
    }
    with tarfile.open(tmp_path / "a.tar", mode) as book:
        for name, value in members.items():
            member = tarfile.TarInfo(name)
            text = json.dumps(value)
            if name.endswith(".js"):
                text = "window.YTD.tweets.part0 = " + text
            member.size = len(text)
            book.addfile(member, io.BytesIO(text.encode()))
    done = run(tmp_path / "a.tar")
    assert counts(done.stdout)["posts, now rows"] == 3
    # One whose posts are not there is named, as in a folder.
    assert counts(done.stdout)["a users file of academictwitteR"] == 1
    assert rows(dsn, "username", "retweeted_status_text", "retweeted_status_user_handle") == [
        ("dora_k", "the whole of it", "eli_m"),
        ("eli_m", None, None),
        ("fay_m", None, None),
    ]
    before = select(dsn, "SELECT * FROM tweet_articles_tweepy ORDER BY id")
    # A pipe cannot be read twice: the posts come as they are, and take nothing away. Those of an
    # account are refused, as without its file.
    piped = run("-", stdin=(tmp_path / "a.tar").read_bytes())
    assert counts(piped.stdout)["posts, now rows"] == 2
    assert select(dsn, "SELECT * FROM tweet_articles_tweepy ORDER BY id") == before


@pytest.mark.parametrize("packed", [False, True])
def test_account_download_has_its_author_from_the_file_beside(
    run: Import, dsn: str, tmp_path: Path, *, packed: bool
) -> None:
    account = {"account": {"username": "dora_k", "accountId": "7", "accountDisplayName": "Dora"}}
    tweet = {
        "tweet": {
            "id_str": str(ID),
            "full_text": "a walk",
            "created_at": "Sat Mar 05 10:00:00 +0000 2022",
            "favorite_count": "5",
            "retweet_count": "4",
        }
    }
    members = {
        "data/account.js": "window.YTD.account.part0 = " + json.dumps([account]),
        "data/tweets.js": "window.YTD.tweets.part0 = " + json.dumps([tweet], indent=1)[:-2] + "]",
        "data/like.js": 'window.YTD.like.part0 = [{"like": {"tweetId": "1"}}]',
        "assets/icon.png": "\x89PNG",
    }
    if packed:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as book:
            for name, text in members.items():
                book.writestr(name, text)
        done = run(tmp_path / "a.zip")
    else:
        for name, text in members.items():
            (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "a" / name).write_text(text)
        done = run(tmp_path / "a")
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(done.stdout)[OTHER_PART] == 1
    assert rows(dsn, "id", "username", "like_count", "text") == [(ID, "dora_k", 5, "a walk")]


def test_monthly_files_of_old_downloads_lose_only_their_first_line(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    parts = [json.loads(status(n)) for n in (1, 2)]
    text = "Grailbird.data.tweets_2013_01 = \n [ " + json.dumps(parts, indent=2)[1:]
    (tmp_path / "2013_01.js").write_text(text.replace("},\n  {", "}, {"))
    done = run(tmp_path / "2013_01.js")
    assert (done.returncode, counts(done.stdout)["posts, now rows"]) == (0, 2)
    assert rows(dsn, "username") == [("Ada",), ("Ada",)]


# --- tables, databases, WARC ----------------------------------------------------------------------

HYDRATOR = "id,text,tweet_url,user_screen_name,created_at,favorite_count,retweet_count\n"


def test_tables_are_read_by_their_header_and_others_refused_once(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    post = f'{ID},"two\n\nlines",https://x,dora_k,Sat Mar 05 10:00:00 +0000 2022,5,4\n'
    rounded = "1.50004E+18,x,https://x,dora_k,,,\n"
    (tmp_path / "a.csv").write_text(HYDRATOR + "\n" + post + rounded)
    other = "tweet_id,label\n" + "".join(f'{ID + n},"a\nb"\n' for n in range(2_000))
    (tmp_path / "b.csv").write_text(other)
    (tmp_path / "c.csv").write_text("Query Id,Query Name,Snippet\n1,2,3\n")
    done = run(tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv")
    assert done.returncode == 1
    assert counts(done.stdout)["Brandwatch"] == 1
    # Several processes read the files, and whichever ends first writes its rejects first.
    assert sorted((each["line"], each["reason"][:40]) for each in rejects(tmp_path)) == [
        (1, "it is a table of no tool that is known, "),
        (6, "post '1.50004E+18': id is '1.50004E+18':"),
    ]
    assert rows(dsn, "id", "text", "username", "like_count") == [(ID, "two\n\nlines", "dora_k", 5)]


def test_rounded_ids_are_warned_of(run: Import, tmp_path: Path) -> None:
    lines = [f"{n}0000,x,https://x,dora_k,,,\n" for n in range(150004847437099, 150004847437109)]
    (tmp_path / "a.csv").write_text(HYDRATOR + "".join(lines))
    assert "10 of the 10 ids looked at end in 0000" in run(tmp_path / "a.csv").stderr


def test_table_goes_on_at_any_record(tmp_path: Path) -> None:
    lines = [f'{ID + n},"a\nb{n}",https://x,dora_k,,,\n\n' for n in range(20)]
    path = written(tmp_path, (HYDRATOR + "".join(lines)).encode("utf-16"))
    whole = read(path)
    assert len(whole) == 20
    for document in whole[::4]:
        left = [each for each in whole if each.end.offset > document.end.offset]
        assert read(path, document.end) == left or [d.value for d in read(path, document.end)] == [
            d.value for d in left
        ]


def test_database_of_twclient_is_read(run: Import, dsn: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("CREATE TABLE tweet (tweet_id INTEGER PRIMARY KEY, api_response TEXT)")
        for n in range(1, 4):
            database.execute("INSERT INTO tweet VALUES (?, ?)", [n, status(n).decode()])
    database.close()
    assert run(tmp_path / "a.db").returncode == 0
    assert rows(dsn, "id", "username") == [(n, "Ada") for n in range(1, 4)]


def warc_record(kind: str, content: bytes) -> bytes:
    http = "application/http; msgtype=response"
    return (
        (
            f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: 2022-03-05T10:00:00Z\r\n"
            "WARC-Record-ID: <urn:uuid:6b0d5d1c-6a9c-4a4e-9d8f-0d6a2a3a7f01>\r\n"
            "WARC-Target-URI: https://api.twitter.com/1.1/statuses/user_timeline.json\r\n"
            f"Content-Type: {http if kind == 'response' else 'application/warc-fields'}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        ).encode()
        + content
        + b"\r\n\r\n"
    )


@pytest.mark.parametrize("packed", [False, True])
def test_warc_gives_the_posts_of_its_answers(
    run: Import, dsn: str, tmp_path: Path, *, packed: bool
) -> None:
    pytest.importorskip("warcio")
    bodies = (b"[" + status(1) + b"]", status(2) + status(3), b"<html></html>")
    records = [warc_record("response", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n" + b) for b in bodies]
    records.insert(0, warc_record("warcinfo", b"software: a crawler\r\n"))

    def write(name: str, *some: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(gzip.compress(record) if packed else record for record in some))
        return path

    done = run(write("a.warc", *records))
    assert done.returncode == 0, done.stdout
    assert rows(dsn, "id") == [(1,), (2,), (3,)]
    # A record without its length hides those after it: it is said, and nothing is lost before.
    for name, told in (("b.warc", b"X-Length: 1"), ("c.warc", b"Content-Length: many")):
        lengthless = re.sub(rb"Content-Length: \d+", told, records[0])
        done = run(write(name, records[2], lengthless, records[1]), "--again")
        assert (done.returncode, counts(done.stdout)["posts, now rows"]) == (1, 2)
        [reason] = [each["reason"] for each in rejects(tmp_path) if name in each["file"]]
        assert "a record lacks its Content-Length" in reason


# --- our own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own.jsonl", "own.csv", "own.parquet", "own.xlsx"])
def test_own_export_changes_nothing_and_fills_an_empty_table(
    run: Import, dsn: str, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("pyarrow")
    page = {
        "data": [v2(public_metrics={"like_count": 5}), v2(ID + 1)],
        "includes": {"users": USERS},
    }
    run(put(tmp_path / "a.jsonl", page))
    before = select(dsn, "SELECT * FROM tweet_articles_tweepy ORDER BY id")
    argv, environ = command(dsn)
    argv = [*argv[:3], "export", "--output", name]
    subprocess.run(argv, cwd=tmp_path, env=environ, check=True, capture_output=True)
    done = run(tmp_path / name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 new rows, 0 updated, 2 known" in done.stdout
    select(dsn, "DELETE FROM tweet_articles_tweepy RETURNING id")
    run(tmp_path / name, "--again")
    assert select(dsn, "SELECT * FROM tweet_articles_tweepy ORDER BY id") == before


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout",
    ["{0}{1}{2}", "{0} {1} {2}", "{0}{1}\n{2}", "[{0},{1}][{2}]", "[\n{0}\n,{1}, {2} ]"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_objects_need_no_lines(tmp_path: Path, layout: str, indent: int | None) -> None:
    things = [{"id": str(n), "text": 'a "}{" b', "x": {"y": []}} for n in range(3)]
    text = layout
    for n, thing in enumerate(things):
        text = text.replace(f"{{{n}}}", json.dumps(thing, indent=indent))
    path = written(tmp_path, text.encode())
    found = read(path)
    assert problems(found) == []
    flat = [x for value in values(found) for x in (value if isinstance(value, list) else [value])]
    assert flat == things


def test_objects_without_lines_go_on_at_any_of_them(tmp_path: Path) -> None:
    blob = b"".join(b'{"id":"%d",\n"text":"x"}' % n for n in range(9))
    path = written(tmp_path, gzip.compress(blob))
    whole = read(path)
    assert [d.line for d in whole] == list(range(1, 10))
    for n, document in enumerate(whole[:-1]):
        assert read(path, document.end) == whole[n + 1 :]


def test_array_in_one_line_of_any_length_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "ARRAY_MAX_BYTES", 200_000)
    monkeypatch.setattr(texts, "DOCUMENT_MAX_BYTES", 300_000)
    things = [{"id": str(n), "text": "x" * 50} for n in range(8_000)]
    found = read(written(tmp_path, json.dumps(things).encode()))
    assert values(found) == things
    assert problems(found) == []


def test_warnings_lengths_and_numbers_that_are_none_cost_no_post(tmp_path: Path) -> None:
    post = b'{"id":"1","x":NaN,"y":[-Infinity]}'
    lines = [
        b"WARNING:root:slow",
        b"2022-01-01 10:00:00 INFO begun, now",
        post,
        b"36",
        post + b"\r",
    ]
    found = read(written(tmp_path, b"\n".join(lines)))
    assert values(found) == [{"id": "1", "x": None, "y": [None]}] * 2
    assert problems(found) == [LOG, LOG]
    # A list of ids is not taken for lengths.
    assert values(read(written(tmp_path, b"12\n13\n"))) == [12, 13]


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz", "zstd"])
def test_small_file_does_not_unpack_to_gigabytes(tmp_path: Path, packing: str) -> None:
    """64 kB of zstd took 4 GB of memory: each unpacked piece, and all of it, has a limit."""
    import bz2
    import lzma

    pack = {"gzip": gzip, "bzip2": bz2, "xz": lzma, "zstd": zstandard}[packing].compress
    path = written(tmp_path, pack(b"[" + b"[]," * 40_000_000))
    code = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, 'tests');"
        "from test_archive import read; found = read(Path(sys.argv[1]));"
        "print(found[-1].problem);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    argv = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(
        argv, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    said, megabytes = done.stdout.splitlines()
    assert "300 times its size" in said
    assert int(megabytes) < 800


def test_one_reason_fills_the_rejects_with_a_thousand_lines(run: Import, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"nonsense {n}\n" for n in range(3_000)))
    done = run(tmp_path / "a.txt")
    assert counts(done.stdout)["rejected"] == 3_000
    assert len(rejects(tmp_path)) == 1_000
    assert "more of them are only counted" in done.stderr


def test_files_that_are_refused_are_named_with_an_advice(run: Import, tmp_path: Path) -> None:
    (tmp_path / "a.rds").write_bytes(gzip.compress(b"X\n\x00\x00\x00\x03"))
    (tmp_path / "b.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(50))
    done = run(tmp_path / "a.rds", tmp_path / "b.7z")
    assert done.returncode == 1
    assert "holds R's RDS, not imported: write it as CSV" in done.stderr
    assert "holds 7z, not imported: unpack it first" in done.stderr
    assert not (tmp_path / "import-rejects.jsonl").exists()


def test_a_zip_that_unpacks_to_gigabytes_is_refused_whatever_its_packing(
    run: Import, tmp_path: Path
) -> None:
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    for method in methods:
        with (
            zipfile.ZipFile(tmp_path / f"{method}.zip", "w", method) as book,
            book.open("posts.jsonl", "w") as member,
        ):
            for _ in range(20):
                member.write(bytes(1_000_000))
    assert run(*(tmp_path / f"{method}.zip" for method in methods)).returncode == 1
    rejects = (tmp_path / "import-rejects.jsonl").read_text()
    assert rejects.count("it unpacks to more than 300 times its size") == len(methods)


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    from tweetcrawler.archives.containers import find

    put(tmp_path / "a" / "x.json", {})
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    assert list(find(tmp_path)) == [tmp_path / "a" / "x.json"]


def test_refused_names_are_all_known_by_their_advice() -> None:
    assert all(advice for advice in pieces.REFUSED.values())
    assert Position() == (0, 0, 0)


def test_files_are_read_in_the_order_given(run: Import, dsn: str, tmp_path: Path) -> None:
    old = v2(public_metrics={"like_count": 1})
    new = v2(public_metrics={"like_count": 500}, entities={"x": "y" * 5_000})
    one, two = put(tmp_path / "1.jsonl", new), put(tmp_path / "2.jsonl", old)
    run("--threads", "1", one, two)
    assert rows(dsn, "like_count") == [(1,)]
