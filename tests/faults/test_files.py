"""Faults of files: broken, hostile or enormous input, and full disks."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k F1_` is that fault

from __future__ import annotations

import contextlib
import csv
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import PROGRAM, Crawler, ended, truth, wait_until
from sandbox_server import Sandbox

from faults.haystack import Haystack
from faults.machine import SmallDisk
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.settings.handles import read_handles

CANARY = "canarySecret0123456789abcdef"
KEYS = "consumer_key,consumer_secret,access_token,access_token_secret"
ROW = ",".join(f"{CANARY}{n}" for n in range(4))
HANDLES = [f"writer_{n}" for n in range(4)]

# Name -> (content of the file, how many credentials it gives or None, what the sentence says).
AUTH_FILES: dict[str, tuple[bytes, int | None, str]] = {
    "a column is missing": (
        f"consumer_key,access_token\n{ROW}\n".encode(),
        None,
        "consumer_secret",
    ),
    "a quote stays open": (f'{KEYS}\n{ROW}\n"{ROW}\n'.encode(), None, "line 3"),
    "a mark of UTF-8 in front": (f"\ufeff{KEYS}\n{ROW}\n".encode(), 1, ""),
    "UTF-16": (f"{KEYS}\n{ROW}\n".encode("utf-16"), 1, ""),
    "line ends of Windows": (f"{KEYS}\r\n{ROW}\r\n".encode(), 1, ""),
    "empty": (b"", None, "header"),
    "only a header": (f"{KEYS}\n".encode(), None, "no usable row"),
    "the same keys three times": (
        f"{KEYS}\n{ROW}\n{ROW}\n{ROW}\n".encode(),
        1,
        "same keys as in line 2",
    ),
    "no text at all": (b"\xff\xfa" + bytes(range(256)), None, "UTF-8"),
    "a key in the place of a column's name": (
        f"{CANARY},consumer_key\n{ROW}\n".encode(),
        None,
        "consumer_secret",
    ),
    "white space inside a key": (
        f"{KEYS}\n{CANARY} {CANARY},{ROW[:60]}\n{ROW}\n".encode(),
        1,
        "column consumer_key",
    ),
}


@pytest.mark.parametrize("name", AUTH_FILES)
def test_F1_broken_auth_files_are_named_by_place_and_show_nothing(
    name: str, tmp_path: Path, measure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    content, credentials, says = AUTH_FILES[name]
    auth = tmp_path / "auth.csv"
    auth.write_bytes(content)
    auth.chmod(0o600)
    try:
        found = read_credentials(auth)
    except ConfigurationError as error:
        said = str(error)
        assert credentials is None, said
    else:
        said = " ".join(found.notes) + repr(found)
        assert len(found.credentials) == credentials
    assert says in said
    measure(f"secrets shown: {name}", said.count(CANARY), at_most=0)


def noted_in(refused: list[str]) -> Callable[[int, str], None]:
    return lambda number, reason: refused.append(reason)


def test_F2_odd_lists_give_the_same_handles(tmp_path: Path, measure: Any) -> None:
    plain = ["ada", "grace_h", "alan"]
    lists = {
        "Windows": b"ada\r\ngrace_h\r\nalan\r\n",
        "a mark in front": b"\xef\xbb\xbfada\ngrace_h\nalan",
        "blank lines": b"\n\n ada \n\t\ngrace_h\n\nalan\n\n",
        "at signs": b"@ada\n@grace_h\n@alan\n",
        "letters of any case": b"Ada\nGRACE_H\nalAn\n",
        "repetitions": b"ada\nADA\n@ada\ngrace_h\nalan\ngrace_h\n",
        "addresses": b"https://x.com/ada\ntwitter.com/grace_h\nhttps://www.twitter.com/alan?s=20\n",
        "comments": b"# who\nada # first\ngrace_h\nalan\n",
    }
    others = 0
    for name, content in lists.items():
        (tmp_path / "handles.txt").write_bytes(content)
        refused: list[str] = []
        found = list(read_handles(tmp_path / "handles.txt", on_bad=noted_in(refused)))
        print(name, found, refused)
        others += found != plain or bool(refused)
    measure(f"lists of {len(lists)} that gave other handles", others, at_most=0)


def test_F2_a_million_handles_are_streamed(tmp_path: Path, measure: Any) -> None:
    path = tmp_path / "handles.txt"
    path.write_text("".join(f"reader_{n}\n" for n in range(1_000_000)))
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom tweetcrawler.settings import handles\n"
        "begun = time.process_time()\npath = Path(sys.argv[1])\ncount = handles.count_lines(path)\n"
        "found = sum(1 for _ in handles.read_handles(path, on_bad=print))\n"
        "most = Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]\n"
        "print(count, found, time.process_time() - begun, most)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    lines, found, seconds, kilobytes = done.stdout.split()
    assert (int(lines), int(found)) == (1_000_000, 1_000_000)
    measure("seconds of CPU for 1,000,000 handles", float(seconds), at_most=5)
    measure("MB", int(kilobytes) / 1e3, at_most=200)


HOSTILE = [
    "../../etc/x",
    "/etc/passwd",
    "https://evil.example/ada",
    "x" * 10_000,
    "\u202eada",
    "\U0001f600",
    "a;DROP TABLE x",
    "ada'--",
    '"; SELECT 1',
    "%s",
    "{0}",
    "$(reboot)",
    "`reboot`",
    "ada\x00bob",
    "con",
    "..",
    ".",
    "-rf",
    "a" * 16,
    "\uff41\uff44\uff41",
    "ad\u0430",  # full-width letters, and a Cyrillic one
]


@pytest.mark.parametrize("sink", ["database", "csv"])
def test_F3_hostile_handles_are_refused_by_line_and_touch_nothing(
    dsn: str, tmp_path: Path, measure: Any, sink: str
) -> None:
    folder = tmp_path / "operator"
    with Sandbox("--credentials", "1", "--posts", "5-10") as sandbox:
        crawler = Crawler.on(sandbox, folder, dsn if sink == "database" else None, [])
        (folder / "handles.txt").write_text(
            "\n".join([*HOSTILE, *HANDLES[:2]]) + "\n", encoding="utf-8"
        )
        before = _files(tmp_path)
        result = crawler.run(*(["--csv"] if sink == "csv" else []), expect=(0, 1))
        asked = {name for of in sandbox.books()["requests"].values() for name in of}
        measure(
            f"hostile handles that X heard of, {sink}", sandbox.books()["users_sold"] - 3, at_most=0
        )
    new = [
        path
        for path in _files(tmp_path) - before
        if folder not in path.parents or ".." in path.name
    ]
    measure(f"files outside, {sink}", len(new), at_most=0)
    refused = len([handle for handle in HOSTILE if handle != "con"])
    measure(
        f"refusals without a line, {sink}",
        refused - result.stderr.count("handles.txt, line "),
        at_most=0,
    )
    assert asked <= {"/2/users/by", "/2/users/:id/tweets", "/oauth2/token"}
    assert "Traceback" not in result.stderr


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_F4_formulas_are_harmless_in_exports_for_spreadsheets(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    formulas = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        '=HYPERLINK("http://evil.example")',
        "plain",
        "'=1",
    ]
    with psycopg.connect(dsn) as connection:
        for number, text in enumerate(formulas, start=1):
            connection.execute(
                """
                INSERT INTO tweet_articles_tweepy (id, tweet_from, text, favorite_count,
                    retweet_count)
                VALUES (%s, %s, %s, -5, 0)
                """,
                [number, text[:10], text],
            )
    crawler = Crawler(tmp_path, dsn=dsn)
    safe = _exported(crawler, "--excel-safe")
    dangerous = [
        cell
        for row in safe[1:]
        for cell in row
        if cell[:1] in "=+-@\t\r" and cell and not _is_number(cell)
    ]
    measure("cells that a spreadsheet would run, with --excel-safe", len(dangerous), at_most=0)
    faithful = {row[safe[0].index("text")] for row in _exported(crawler)[1:]}
    # Without it, what is read back is what was stored: that is for programs.
    measure("texts that are changed without --excel-safe", len(set(formulas) - faithful), at_most=0)


def _exported(crawler: Crawler, *more: str) -> list[list[str]]:
    file = crawler.folder / f"posts{len(more)}.csv"
    crawler.run("export", "--output", str(file), *more)
    return list(csv.reader(io.StringIO(file.read_bytes().decode(), newline="")))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# -- F5: disks -----------------------------------------------------------------------


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "100-300") as running:
        yield running


def test_F5_without_room_for_its_output_the_work_is_done_all_the_same(
    sandbox: Sandbox, dsn: str, tmp_path: Path, haystack: Haystack, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*PROGRAM, "-c", "tweet.ini"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    haystack.add("stderr", result.stderr)
    measure(
        "tracebacks, stdout full",
        result.stderr.count("Traceback") + result.stderr.count("Exception"),
        at_most=0,
    )
    assert "No space left" in result.stderr
    assert result.returncode == 1
    measure(
        "posts missing, stdout full",
        len(set(truth(sandbox, HANDLES)) ^ set(crawler.stored_ids())),
        at_most=0,
    )


def test_F5_without_room_for_its_log_the_work_is_done_all_the_same(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    sandbox.fault("status", count=1)
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*PROGRAM, "-c", "tweet.ini", "--logLevel", "debug"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            timeout=300,
            check=False,
        )
    assert "new rows" in result.stdout
    measure("exit code, stderr full", result.returncode, at_most=0)
    measure(
        "posts missing, stderr full",
        len(set(truth(sandbox, HANDLES)) ^ set(crawler.stored_ids())),
        at_most=0,
    )


@pytest.mark.parametrize("small_disk", [16], indirect=True)
def test_F5_csv_files_on_a_full_disk_end_in_one_line_and_go_on_later(
    small_disk: SmallDisk, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, HANDLES)
    sandbox.fault(
        "delay", delay_s=0.2, for_s=600, endpoint="/2/users/:id/tweets"
    )  # it is not done before the disk is full
    (small_disk.folder / "csv").mkdir()
    arguments = ("--csv", "--folder", str(small_disk.folder / "csv"))
    process = crawler.start(*arguments)
    wait_until(lambda: sandbox.books()["posts_sold"] > 0, what="a crawl under way")
    small_disk.fill()
    result = ended(process, expect=3)
    measure("tracebacks, CSV on a full disk", result.stderr.count("Traceback"), at_most=0)
    [said] = [line for line in result.stdout.splitlines() if line.startswith("ended early")]
    assert "disk is full" in said or "No space left" in said
    assert "make room and run again" in said
    small_disk.free()
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run(*arguments)
    stored = {
        int(row[0])
        for path in (small_disk.folder / "csv").glob("*.csv")
        for row in list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))[1:]
    }
    measure(
        "posts missing after there is room", len(set(truth(sandbox, HANDLES)) ^ stored), at_most=0
    )


def test_F5_a_read_only_folder_is_said_in_one_line(
    small_disk: SmallDisk, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    small_disk.read_only()
    crawler = Crawler.on(sandbox, tmp_path, None, HANDLES)
    result = crawler.run("--csv", "--folder", str(small_disk.folder / "csv"), expect=(1, 2, 3))
    measure("tracebacks, read-only folder", result.stderr.count("Traceback"), at_most=0)
    lines = [line for line in result.stderr.splitlines() if " INFO " not in line]
    measure("lines that say it", len(lines), at_most=1)
    assert sandbox.books()["posts_sold"] == 0, "nothing may be bought that cannot be kept"


@pytest.mark.parametrize("small_disk", [60], indirect=True)
def test_F5_the_private_server_on_a_full_disk_is_a_dead_end_that_is_said(
    small_disk: SmallDisk, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    small_disk.fill()
    crawler = Crawler.on(
        sandbox, tmp_path, None, HANDLES, settings=f"dataFolder = {small_disk.folder / 'data'}"
    )
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(small_disk.free)
        result = crawler.run(expect=(2, 3))
    measure.seconds("seconds until it is said", time.monotonic() - begun, at_most=60)
    measure(
        "tracebacks, private server on a full disk", result.stderr.count("Traceback"), at_most=0
    )
    assert "No space left" in result.stderr
