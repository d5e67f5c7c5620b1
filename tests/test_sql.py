"""Ways into the database: `sql`, `db psql`, `db url`; none shows a password, `sql` only reads."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from crawls import PROGRAM, Crawler, ended, wait_until
from databases import server_folder
from psycopg.conninfo import conninfo_to_dict

from tweetcrawler.local.embedded import Server

TWO_ROWS = """
SELECT 9007199254740993 AS id, 'a,"b"' || chr(10) || 'c' AS text, ARRAY['x', NULL] AS list,
    1.50 AS number, NULL::int AS nothing, '{"a": [1, 12345678901234567890]}'::jsonb AS json,
    '2024-01-31 10:00+02'::timestamptz AS at, true AS truth
UNION ALL SELECT 2, '', '{}', 'NaN', 7, 'null', 'infinity', false
"""


@pytest.fixture
def crawler(dsn: str, tmp_path: Path) -> Crawler:
    return Crawler(tmp_path, dsn=dsn)


# --- sql ------------------------------------------------------------------------------------------


def test_an_answer_is_exact_as_json_and_as_csv(crawler: Crawler) -> None:
    rows = json.loads(crawler.run("sql", TWO_ROWS, "--format", "json").stdout, parse_float=str)
    assert rows == [
        {
            "id": "9007199254740993",
            "text": 'a,"b"\nc',
            "list": ["x", None],
            "number": "1.50",
            "nothing": None,
            "json": {"a": [1, 12345678901234567890]},
            "at": "2024-01-31 08:00:00+00",
            "truth": True,
        },
        {
            "id": 2,
            "text": "",
            "list": [],
            "number": "NaN",
            "nothing": 7,
            "json": None,
            "at": "infinity",
            "truth": False,
        },
    ]
    written = crawler.run("sql", TWO_ROWS, "--format", "csv").stdout
    header, first, second = csv.reader(written.splitlines(keepends=True))
    assert header == list(rows[0])
    assert first[:5] == ["9007199254740993", 'a,"b"\nc', "{x,NULL}", "1.50", ""]
    assert second[-2:] == ["infinity", "f"]


def test_a_table_shows_what_is_safe_and_says_what_it_leaves_out(crawler: Crawler) -> None:
    escape = "SELECT E'\\x1b[2Jgone' AS \"100%\", n FROM generate_series(1, 1001) n"
    done = crawler.run("sql", escape)
    assert "100%" in done.stdout
    assert "\x1b" not in done.stdout
    assert "1000" in done.stdout
    assert "1001" not in done.stdout
    assert "the first 1,000 rows" in done.stderr
    empty = crawler.run("sql", "SELECT id FROM tweets", "--format", "csv")
    assert empty.stdout == "id\n"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM crawl_plan RETURNING id",
        "SELECT 1; DELETE FROM crawl_plan",
        "COMMIT; DELETE FROM crawl_plan",
        "SELECT nothing FROM nowhere",
        "SET TRANSACTION READ WRITE",
        "WITH gone AS (DELETE FROM crawl_plan RETURNING 1) SELECT * FROM gone",
        "SELECT 1 / 0",
    ],
)
def test_a_statement_that_writes_or_is_wrong_is_one_sentence(
    crawler: Crawler, statement: str
) -> None:
    with psycopg.connect(crawler.dsn or "") as connection:
        connection.execute("INSERT INTO crawl_plan (subject, plan) VALUES ('s', '{}')")
    done = crawler.run("sql", statement, expect=2)
    assert done.stderr.startswith("tweetcrawler: ")
    assert done.stderr.count("\n") == 1
    assert crawler.select("SELECT count(*) FROM crawl_plan") == [(1,)]


# --- psql and the URL of the private server -------------------------------------------------------


@pytest.fixture
def private(new_cluster: Path) -> Iterator[Path]:
    """The data folder of a private server."""
    with server_folder() as folder:
        data = folder / "pg"
        subprocess.run(["cp", "-a", new_cluster, data], check=True)
        yield data
        Server(data).stop_now()


def command_lines() -> str:
    found = psutil.process_iter(["cmdline"])
    return "\n".join(" ".join(process.info["cmdline"] or ()) for process in found)


def psql(crawler: Crawler, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "-c", "tweet.ini", "db", "psql", *arguments],
        cwd=crawler.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


ASKED = "SELECT current_user || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user"


def test_psql_opens_on_the_private_server_and_shows_no_password(
    private: Path, tmp_path: Path
) -> None:
    crawler = Crawler(tmp_path, settings=f"[Database]\ndataFolder = {private}")
    for arguments, role in (((), "tweetcrawler false"), (("--superuser",), "admin true")):
        process = psql(crawler, *arguments)
        wait_until(lambda: "psql" in command_lines().replace("db psql", ""), what="psql")
        seen = command_lines()
        assert process.stdin is not None
        process.stdin.write(f"{ASKED};\n")
        assert role in ended(process).stdout
        for name in ("password", "superuser-password"):
            assert (private / name).read_text() not in seen


def test_the_url_has_no_password_and_works(private: Path, tmp_path: Path) -> None:
    crawler = Crawler(tmp_path, settings=f"[Database]\ndataFolder = {private}")
    url = crawler.run("db", "start").stdout.strip()
    assert crawler.run("db", "url").stdout.strip() == url
    assert urlsplit(url).password is None
    with psycopg.connect(url) as connection:
        assert connection.execute(ASKED).fetchone() == ("tweetcrawler false",)
    assert "tweetcrawler false" in crawler.run("sql", ASKED).stdout
    crawler.run("db", "stop")


def test_psql_opens_on_an_own_database_with_its_password_in_the_environment(
    crawler: Crawler,
) -> None:
    known = conninfo_to_dict(crawler.dsn or "")
    process = psql(crawler)
    wait_until(lambda: f"dbname={known['dbname']}" in command_lines(), what="psql")
    assert str(known["password"]) not in command_lines()
    assert process.stdin is not None
    process.stdin.write("SELECT count(*) FROM tweets;\n\\quit\n")
    assert "count" in ended(process).stdout


def test_an_address_of_ipv6_may_stand_in_brackets(tmp_path: Path) -> None:
    (tmp_path / "tweet.ini").write_text("[Database]\ndbhost = [::1]\ndbport = 1\ndbname = d\n")
    done = subprocess.run(
        [*PROGRAM, "-c", "tweet.ini", "status"],
        cwd=tmp_path,
        env=os.environ | {"PGCONNECT_TIMEOUT": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "at [::1]:1 cannot be used" in done.stderr
    assert "translate host name" not in done.stderr
