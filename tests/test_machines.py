"""Programs that watch: JSON of every command, quiet runs, the journal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crawls import PROGRAM, Crawler
from jsonschema import Draft202012Validator
from sandbox_server import Sandbox

from tweetcrawler import documents

SCHEMA = Draft202012Validator(
    json.loads(Path(documents.__file__).with_name("documents.json").read_text("utf-8"))
)
HANDLES = ["writer_1", "writer_2", "gone_one"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "20-40") as running:
        yield running


@pytest.fixture(scope="module")
def crawler(
    sandbox: Sandbox, server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crawler]:
    from databases import made

    for dsn in made(server_dsn, template):
        crawler = Crawler.on(sandbox, tmp_path_factory.mktemp("machines"), dsn, HANDLES)
        (crawler.folder / "first.json").write_text(crawler.run("--json", expect=1).stdout)
        yield crawler


def checked(stdout: str) -> list[dict[str, Any]]:
    """The documents of a command's output, each as the schema says."""
    found = [json.loads(line) for line in stdout.splitlines()]
    for document in found:
        SCHEMA.validate(document)
        assert list(times_in(document)) == []
    return found


def document_of(crawler: Crawler, *arguments: str, expect: int = 0) -> dict[str, Any]:
    [document] = checked(crawler.run(*arguments, "--json", expect=expect).stdout)
    assert (document["command"], document["exit_code"]) == (arguments[0], expect)
    return document


def times_in(value: Any, key: str = "") -> Iterator[str]:
    """Keys of numbers that are seconds since 1970: no document has one."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from times_in(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from times_in(each, key)
    elif isinstance(value, int | float) and value > 1e9:
        yield key


# -- JSON ------------------------------------------------------------------------------------------


def test_every_report_is_a_document_of_the_schema(crawler: Crawler) -> None:
    """One folder and database for all commands: each is one process."""
    [crawl] = checked((crawler.folder / "first.json").read_text())
    posts = len(crawler.stored_ids())
    assert crawl["outcomes"] == {"ok": 2, "missing": 1}
    assert [(one["name"], one["state"]) for one in crawl["named"]] == [("@gone_one", "missing")]
    assert (crawl["usd"], sum(row["new"] for row in crawl["totals"])) == (
        pytest.approx(posts * 0.005 + 2 * 0.01),
        posts,
    )
    status = document_of(crawler, "status")
    assert status["spent"]["today"]["posts"] == posts
    assert document_of(crawler, "plan")["posts_stored"] == posts
    [found] = document_of(crawler, "status", "writer_1")["found"]
    assert (found["name"], found["state"]) == ("@writer_1", "ok")
    assert document_of(crawler, "export", "x.csv")["file"] == str(crawler.folder / "x.csv")
    assert document_of(crawler, "import", "x.csv")["posts"] == posts
    assert document_of(crawler, "reflatten")["posts"] == posts
    assert document_of(crawler, "search", "coffee", "--count")["counted"][0][0] == "coffee"
    # In full, since every text of stdout must be JSON.
    assert "missing" in document_of(crawler, "hydrate", "1")["named"][0]["reason"]


# Answers of other commands, by a key that they have.
RARER = {
    ("report", "--markdown", "x.md"): "files",
    ("snowball", "--stdout"): "handles",
    ("comply",): "deleted",
    ("archive", "--once", "--archive-place", "PLACE"): "uploaded",
    ("archive", "check", "--archive-place", "PLACE"): "said",
    ("archive", "list", "--archive-place", "PLACE"): "segments",
    ("archive", "verify", "--archive-place", "PLACE"): "whole",
    ("restore", "PLACE"): "pages",
    ("watch", "--once"): "outcomes",
    ("follow", "--dry-run"): "requests_total",
    ("graph", "edges.csv"): "file",
    ("db", "upgrade"): "lines",
    ("version",): "lines",
    ("help", "crawl"): "lines",
}


def test_rarer_answers_are_documents_too(crawler: Crawler) -> None:
    """In one process, one call after the other: each by itself would be a second."""
    place = crawler.folder / "place"
    place.mkdir()
    calls = [
        [place.as_uri() if word == "PLACE" else word for word in call] + ["--json"]
        for call in RARER
    ]
    code = (
        "import json, sys\nfrom tweetcrawler.cli import main\n"
        "sys.exit(max(main(['-c', 'tweet.ini', *call]) for call in json.loads(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)],
        cwd=crawler.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    found = checked(done.stdout)
    assert [document["command"] for document in found] == [call[0] for call in RARER]
    assert [key for key, one in zip(RARER.values(), found, strict=True) if key not in one] == []


def test_an_error_is_a_document_and_a_sentence(crawler: Crawler) -> None:
    done = crawler.run("export", "-", "--json", expect=2)
    [error] = checked(done.stdout)
    assert error["exit_code"] == 2
    assert error["error"] in done.stderr


# -- quiet -----------------------------------------------------------------------------------------


def test_quiet_prints_nothing_on_success_and_on_stderr_what_needs_a_person(
    crawler: Crawler,
) -> None:
    done = crawler.run("crawl", *HANDLES[:2], "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    done = crawler.run("crawl", "other_one", "gone_two", "--quiet", expect=1)
    assert done.stdout == ""
    assert "@gone_two: missing" in done.stderr
    assert crawler.run("version", "--quiet").stdout.startswith("tweetcrawler "), "it was asked for"


# -- the journal of systemd ------------------------------------------------------------------------


def lines_of(crawler: Crawler, *arguments: str, journal: bool) -> list[str]:
    """The lines of stderr, which is the journal's socket or is not."""
    with (crawler.folder / "journal").open("w+") as stderr:
        here = os.fstat(stderr.fileno())
        told = f"{here.st_dev}:{here.st_ino + (not journal)}"
        subprocess.run(
            [*PROGRAM, "-c", "tweet.ini", *arguments],
            cwd=crawler.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=os.environ | {"JOURNAL_STREAM": told},
            check=False,
        )
        stderr.seek(0)
        return stderr.read().splitlines()


def test_in_the_journal_lines_have_priorities_and_no_time(crawler: Crawler) -> None:
    call = ("crawl", "gone_three", "--log-level", "info")
    stamped = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) ")
    kept = lines_of(crawler, *call, journal=True)
    assert any(line.startswith("<6>@gone_three: missing") for line in kept), kept
    assert not any(stamped.search(line) for line in kept)
    assert all(re.match(r"<[3-7]>", line) for line in kept)
    assert lines_of(crawler, "db", "url", journal=True)[-1].startswith("<3>tweetcrawler: ")
    elsewhere = lines_of(crawler, *call, journal=False)
    assert all(stamped.match(line) for line in elsewhere), "a time in UTC on each line"
