"""Monitors: a line and an exit code, figures for Prometheus, the files of contrib."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import Crawler, ended, wait_until
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from sandbox_server import Sandbox

from tweetcrawler import documents
from tweetcrawler.look import metrics

HANDLES = ["writer_1", "writer_2", "gone_one"]
CONTRIB = Path(__file__).parent.parent / "contrib"
SCHEMA = Path(documents.__file__).with_name("documents.json")
Figures = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "20-40") as running:
        yield running


@pytest.fixture(scope="module")
def crawled(
    sandbox: Sandbox, server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crawler]:
    """A collection that is as it should be: one user is gone, which is told and rests."""
    from databases import made

    for dsn in made(server_dsn, template):
        crawler = Crawler.on(sandbox, tmp_path_factory.mktemp("monitors"), dsn, HANDLES)
        crawler.run(expect=1)
        yield crawler


@pytest.fixture
def changed(crawled: Crawler) -> Iterator[psycopg.Connection[Any]]:
    """The database, for changes that a test takes back."""
    assert crawled.dsn is not None
    tables = ("crawl_run", "crawl_target")
    with psycopg.connect(crawled.dsn, autocommit=True) as connection:
        for table in tables:
            connection.execute(f"CREATE TABLE kept_{table} AS TABLE {table}".encode())
        yield connection
        connection.execute(
            b"UPDATE crawl_target t SET crawled_at = k.crawled_at, due_at = k.due_at "
            b"FROM kept_crawl_target k WHERE k.id = t.id"
        )
        connection.execute(b"DELETE FROM crawl_run WHERE id NOT IN (SELECT id FROM kept_crawl_run)")
        for table in tables:
            connection.execute(f"DROP TABLE kept_{table}".encode())


def check(crawler: Crawler, *arguments: str, expect: int) -> str:
    """The line of a check; it is one, and on stdout."""
    done = crawler.run("status", "--check", *arguments, expect=expect)
    [line] = done.stdout.splitlines()
    assert done.stderr == ""
    return line


# -- status --check --------------------------------------------------------------------------------


def test_a_sound_collection_is_ok(crawled: Crawler) -> None:
    assert check(crawled, expect=0).startswith("tweetcrawler OK: 3 targets, last run 1 at 20")


def test_old_targets_failed_runs_budget_and_disk_are_named_in_one_line(
    crawled: Crawler, changed: psycopg.Connection[Any]
) -> None:
    changed.execute(
        "UPDATE crawl_target SET crawled_at = crawled_at - interval '27 hours' WHERE handle = %s",
        ["writer_2"],
    )
    changed.execute(
        "INSERT INTO crawl_run (version, arguments, host, started_at, ended_at, exit_code, report) "
        "VALUES ('0', '{\"command\": \"watch\"}', 'h', now(), now(), 4, '{\"ended\": \"no key\"}'),"
        "('0', '{\"command\": \"search\"}', 'h', now() - interval '2 days', NULL, NULL, NULL)"
    )
    limits = ("--budget-per-day", "0", "--min-free", "100000")
    line = check(crawled, "--max-age", "26h", *limits, expect=1)
    for part in (
        r"tweetcrawler PROBLEM: ",
        r"run 2 \(watch, [\d :-]+ UTC\) failed with exit code 4: no key",
        r"run 3 \(search, [\d :-]+ UTC\) has not ended and did nothing for 48 h",
        r"1 target not visited for 26 h 0 min \(@writer_2 since [\d :-]+ UTC\)",
        r"the budget of the day, \$0\.00, is used up",
        r"[\d,.]+ GB are free in /",
    ):
        assert re.search(part, line), part
    told = json.loads(crawled.run("status", "--check", "--json", *limits, expect=1).stdout)
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(told)
    assert [problem["kind"] for problem in told["problems"]] == [
        "run",
        "run",
        "target",
        "budget",
        "disk",
    ]
    changed.execute("UPDATE crawl_target SET due_at = now() + interval '1 day'")
    assert "not visited" not in check(crawled, "--max-age", "26h", *limits, expect=1), (
        "the next visit of a watch is yet to come"
    )


def test_a_database_that_does_not_answer_is_a_line_too(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dsn = f"host=127.0.0.1 port={taken.getsockname()[1]} dbname=x"
        crawler = Crawler(tmp_path, dsn=dsn)
        assert check(crawler, expect=3).startswith("tweetcrawler PROBLEM: the database x at 127")
        crawler.run("status", "--metrics-file", "x.prom", expect=3)
    assert figures((tmp_path / "x.prom").read_text())["tweetcrawler_up", ()] == 0


def test_a_credential_that_x_refuses_is_named(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "2", "--posts", "20-40") as sandbox:
        sandbox.fault("unauthorized", credential="c2", count=1000)
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:2], settings="budgetPerDay = 5")
        crawler.run()
        assert "credential c2 is refused by X" in check(crawler, expect=1)
        crawler.run("status", "--metrics-file", "tweets.prom")
    found = figures((tmp_path / "tweets.prom").read_text())
    assert found["tweetcrawler_credential_shut", ("c2", "refused")] == 1
    assert found["tweetcrawler_problems", ("credential",)] > 0
    assert found["tweetcrawler_budget_left_usd", ("day",)] == pytest.approx(
        5 - found["tweetcrawler_spent_usd", ("day",)]
    )
    assert (tmp_path / "tweets.prom").stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in tmp_path.glob("*prom*")) == ["tweets.prom"], "no part of a file"


# -- Prometheus ------------------------------------------------------------------------------------


def figures(text: str) -> Figures:
    """Value by name and values of labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def test_a_watch_serves_what_it_does_and_what_is_stored(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    port = free_port()
    process = crawler.start("watch", "--metrics-port", str(port))
    seen: list[Figures] = []

    def served() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                seen.append(figures(answer.read().decode()))
        except OSError:
            return False
        return seen[-1].get(("tweetcrawler_last_run_exit_code", ("watch",))) == 1

    wait_until(served, timeout_s=60, what="figures of a visit")
    taken = crawler.run("watch", "--metrics-port", str(port), expect=2)
    assert "name another --metrics-port" in taken.stderr
    process.send_signal(signal.SIGTERM)
    ended(process, expect=143)
    stored = len(crawler.stored_ids())
    assert seen[-1]["tweetcrawler_process_posts_total", ()] == stored
    assert seen[-1]["tweetcrawler_posts", ("day",)] == stored
    assert seen[-1]["tweetcrawler_targets", ("timeline", "ok")] == 2
    assert seen[-1]["tweetcrawler_problems", ("run",)] == 0


def test_every_figure_of_contrib_exists_and_every_figure_is_shown() -> None:
    known = {figure.name for figure in metrics.FIGURES} | set(metrics.PROCESS_COUNTS)
    known |= {metrics.INFO, metrics.UP, metrics.BUSY, metrics.WAITING}
    board = json.loads((CONTRIB / "grafana.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = (CONTRIB / "alerts.yml").read_text()
    used = set(re.findall(r"\btweetcrawler_\w+", " ".join([*shown, json.dumps(board), rules])))
    assert used <= known
    unseen = {"tweetcrawler_last_run_end_timestamp_seconds"}
    assert known - used == unseen, "the end of a run is for those who write their own rules"
    for name, labels in re.findall(r"\b(tweetcrawler_\w+)\{([^}]*)\}", " ".join([*shown, rules])):
        own = [f.labels for f in metrics.FIGURES if f.name == name]
        wanted = set(re.findall(r"(\w+)[!=]", labels)) - {"instance"}
        assert wanted <= set(own[0] if own else ()), name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool")
def test_promtool_takes_the_rules() -> None:
    call = ["promtool", "check", "rules", str(CONTRIB / "alerts.yml")]
    done = subprocess.run(call, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
