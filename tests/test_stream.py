"""The stream: what is read is on disk first, and in the database whatever dies in between."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import requests
from crawls import PROGRAM, wait_until
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sandbox_server import Sandbox

from tweetcrawler.db import Database
from tweetcrawler.ids import id_at
from tweetcrawler.keeping.lines import Line, counted
from tweetcrawler.keeping.segments import Writer, whole_frames
from tweetcrawler.prices import load
from tweetcrawler.stream.known import length_s, ranges_of, rules_now
from tweetcrawler.stream.ledger import save_rules
from tweetcrawler.stream.marks import ALIVE, OPENED, Mark, Session
from tweetcrawler.stream.pauses import Guard, Pauses
from tweetcrawler.stream.rules import Known, Rule
from tweetcrawler.stream.saving import Group, Saver
from tweetcrawler.stream.tail import Tail

_END_BACKENDS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
RULES = "ada: from:ada\nmaja: from:maja has:links\ncrowd: from:talker_1 OR from:talker_2\n"


class Stream:
    """`tweetcrawler stream` in a folder of its own, and what it has stored."""

    def __init__(self, folder: Path, sandbox: Sandbox, dsn: str) -> None:
        self.folder, self.sandbox, self.dsn = folder, sandbox, dsn
        (folder / "rules.txt").write_text(RULES)
        (folder / "tweet.ini").write_text(
            f'dbname = "{dsn}"\nauthCSV = {sandbox.auth_csv}\napiURL = {sandbox.url}\n'
            "sentiment = off\nrules = rules.txt\n"
        )
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> None:
        """Begins a stream, and waits until its connection is open."""
        before = len(self.connections())
        self.process = self.begun(*arguments)
        wait_until(lambda: len(self.connections()) > before or self._has_ended())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A stream that ends by itself."""
        process = self.begun(*arguments)
        out, _ = process.communicate(timeout=60)
        return subprocess.CompletedProcess([], process.returncode, out, self.said())

    def begun(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                [*PROGRAM, "stream", "--json", "--silent-for", "2s", *arguments],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _has_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def stop(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """Ends it in order, and gives its report."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> dict[str, Any]:
        """The report of a stream that ends by itself."""
        assert self.process is not None
        out, _ = self.process.communicate(timeout=60)
        assert out, self.said()
        report: dict[str, Any] = json.loads(out)
        return report

    def said(self) -> str:
        return (self.folder / "log").read_text()

    def reader(self) -> psutil.Process:
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            if "tweetcrawler.stream.reader" in child.cmdline():
                return child
        raise AssertionError("there is no reader")

    def connections(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.sandbox.control("GET", "/sandbox/stream")["connections"]
        return found

    def delivered(self) -> set[int]:
        """The posts that the sandbox has sent, and billed."""
        sent = self.sandbox.control("GET", "/sandbox/stream")["delivered"]
        return {int(id_) for id_ in sent}

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement).fetchall()

    def stored(self) -> set[int]:
        return {row[0] for row in self.ask("SELECT id FROM tweet_articles_tweepy")}

    def write(self, user: str, count: int) -> set[int]:
        sent = {"user": user, "add_posts": count}
        return set(map(int, self.sandbox.control("POST", "/sandbox/world", sent)["added"]))

    def end_line(self, how: str) -> None:
        """Ends the open connection from X's side, and waits for the next one."""
        before = len(self.connections())
        self.sandbox.control("POST", "/sandbox/stream", {"end": how})
        wait_until(lambda: len(self.connections()) > before)

    def let_pass(self, seconds: float) -> None:
        self.sandbox.control("POST", "/sandbox/clock", {"pass_s": seconds})


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    # Everything that lasts 20 s at X lasts half a second here.
    with Sandbox("--window-s", "23", "--posts", "5-5", "--credentials", "1") as sandbox:
        yield sandbox


@pytest.fixture
def stream(tmp_path: Path, running: Sandbox, dsn: str) -> Iterator[Stream]:
    running.control("POST", "/sandbox/clock", {"pass_s": 23})
    made = Stream(tmp_path, running, dsn)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()
    running.control("DELETE", "/sandbox/faults")
    running.control("POST", "/sandbox/stream", {"end": "close", "rate": 0})


def originals(stream: Stream) -> set[int]:
    """Posts of the crowd's rule that a search gives, from the first moment that it acted on."""
    query = "query=from:talker_1%20OR%20from:talker_2"
    [(since,)] = stream.ask("SELECT extract(epoch FROM since) FROM crawl_rule WHERE tag = 'crowd'")
    above = id_at(int((float(since) + 20) * 1000))
    found = stream.sandbox.control("GET", f"/sandbox/search?{query}&above={above}")["ids"]
    return set(map(int, found))


def in_segments(folder: Path) -> set[int]:
    """The posts in all segments of the stream, open ones too."""
    found: set[int] = set()
    for path in (folder / "stream").glob("*.jsonl.zst"):
        with path.open("rb") as file:
            for _, raw in whole_frames(file):
                for line in raw.splitlines():
                    found |= set(counted("stream", line).ids)
    return found


def test_nothing_that_was_read_is_lost_and_gaps_are_filled(stream: Stream) -> None:
    """The reader is killed, the saver is killed, lines break and close: the sandbox's books and
    the rows agree in the end.
    """
    stream.start("--max-posts", "100000")
    stream.let_pass(30)
    stream.end_line("cut")
    stream.sandbox.control("POST", "/sandbox/stream", {"rate": 200})
    wait_until(lambda: len(stream.stored()) > 10)

    before = len(stream.connections())
    stream.reader().kill()
    wait_until(lambda: len(stream.connections()) > before, what="another reader")
    wait_until(lambda: stream.connections()[-1]["sent"] > 5)

    assert stream.process is not None
    orphan = stream.reader()
    stream.process.kill()
    stream.process.communicate()
    wait_until(lambda: not orphan.is_running(), what="the reader ends without its parent")
    read = in_segments(stream.folder)
    stream.let_pass(150)
    stream.start("--max-posts", "100000")
    wait_until(lambda: stream.stored() >= read, what="what the reader left is saved")
    for how in ("cut", "close", "disconnect"):
        stream.let_pass(150)
        stream.end_line(how)
    stream.sandbox.control("POST", "/sandbox/stream", {"rate": 0})

    stream.let_pass(200)
    stream.end_line("cut")
    wait_until(lambda: stream.stored() >= originals(stream), what="gaps are filled")
    report = stream.stop()
    assert (report["exit_code"], report["unsaved"]) == (143, 0)
    assert stream.stored() >= in_segments(stream.folder)
    assert report["posts_by_search"] > 0
    [crowd] = [rule for rule in report["rules"] if rule["tag"] == "crowd"]
    assert crowd["by_search_s"] > 600
    assert report["other_messages"] == {"error ForceDisconnect": 1}
    assert report["ends"]["the connection broke"] >= 2
    # Every page, the rows and what found them agree.
    for command in (["verify"], ["status"], ["report", "--markdown", "report.md"]):
        done = subprocess.run(
            [*PROGRAM, *command], cwd=stream.folder, check=False, stdout=subprocess.PIPE, text=True
        )
        assert done.returncode == 0, command
        if command == ["status"]:
            assert "time by search has no retweets for words" in done.stdout
    assert "by search has no retweets" in (stream.folder / "report.md").read_text()
    listed = stream.run("rules", "list")
    assert json.loads(listed.stdout)["rules"][2]["by_search_s"] > 600


def test_a_rule_knows_the_time_in_which_its_line_was_open(dsn: str, tmp_path: Path) -> None:
    """From when it acts, to a minute before the last byte, since X gives posts late."""
    began = 1_790_000_000.0
    session = Session("6f9619ff-8b86-4011-b42d-00cf4fc964ff", 1, "c", "app")
    writer = Writer(tmp_path, "stream")
    for mark in (Mark(OPENED, began, session), Mark(ALIVE, began + 300)):
        writer.append(Line(mark.to_json(), 0))
        writer.sync()
    writer.close()
    with Database(dsn).session() as db:
        rules = [Known(7, "cats", "old"), Known(8, "dogs", "new")]
        save_rules(db, "app", rules[:1], [Rule("old", "cats")], at=began - 900)
        save_rules(db, "app", rules, [Rule("old", "cats"), Rule("new", "dogs")], at=began + 60)
        saver = Saver(db, run=1, tariff=load(None, None), score=None, keep_body=True)
        for frame in Tail(tmp_path, set(), {}).frames():
            group = Group(None, frame.begins, frame.begins)
            group.add(frame)
            group.session = session
            for _ in range(2):  # the answer to the first COMMIT may have been lost
                saver.save(group)
        old, new = rules_now(db, "app", began + 300)
    assert length_s(old.streamed) == 240
    assert length_s(new.streamed) == 160
    assert [round(length_s(ranges_of([gap]))) for gap in old.gaps] == [880]
    assert old.is_due(old.gaps[0])
    assert not new.gaps


def test_a_database_that_is_away_costs_disk_only(stream: Stream, server_dsn: str) -> None:
    name = str(conninfo_to_dict(stream.dsn)["dbname"])
    stream.start("--max-posts", "5000")
    stream.let_pass(30)
    stream.end_line("cut")
    first = stream.write("ada", 3)
    wait_until(lambda: stream.stored() >= first)
    with psycopg.connect(server_dsn, autocommit=True) as server:
        allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
        server.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        server.execute(_END_BACKENDS, [name])
        ids = stream.write("ada", 400)
        wait_until(lambda: in_segments(stream.folder) >= ids, what="the reader goes on")
        stream.end_line("cut")
        late = stream.write("ada", 2)
        wait_until(lambda: in_segments(stream.folder) >= late)
        server.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
    wait_until(lambda: stream.stored() >= first | ids | late)
    assert stream.stop()["posts"] == 405


def test_a_budget_ends_the_line_before_it_is_overrun(stream: Stream) -> None:
    stream.start("--max-posts", "150", "--fill", "off")
    stream.let_pass(30)
    stream.end_line("cut")
    stream.sandbox.control("POST", "/sandbox/books/reset")
    stream.sandbox.control("POST", "/sandbox/stream", {"rate": 400})
    report = stream.ended()
    sold = stream.sandbox.books()["posts_sold"]
    assert (report["exit_code"], report["budget"]) == (5, "run")
    # Messages that were on their way when the line was cut are billed, and not read.
    assert 150 <= report["posts"] <= sold <= 150 + 100
    assert len(stream.stored()) == report["posts"]
    assert stream.ask("SELECT count(*) FROM crawl_reserved WHERE owner <> ''") == [(0,)]
    [(posts,)] = stream.ask("SELECT posts FROM crawl_budget WHERE scope = 'run'")
    assert posts == report["posts"]


def test_no_message_ends_a_stream(stream: Stream) -> None:
    """Half messages, unknown ones, no JSON, no tags, duplicates, disorder, and silence."""
    stream.start("--no-budget", "--fill", "off")
    stream.let_pass(30)
    faults = ["half-line", "unknown-line", "garbage", "rule-without-tag", "duplicates"]
    written: set[int] = set()
    for fault in [*faults, "unordered", "silence"]:
        stream.sandbox.fault(f"stream-{fault}", after=1)
        stream.end_line("cut")
        before = len(stream.connections())
        ids = sorted(stream.write("ada", 3))
        cut = fault in ("half-line", "silence")
        written.update(ids[:1] if cut else ids)
        if cut:
            wait_until(lambda n=before: len(stream.connections()) > n, what=fault)
        else:
            wait_until(lambda w=set(written): stream.stored() >= w, what=fault)
    report = stream.stop()
    assert stream.stored() >= written
    others = report["other_messages"]
    assert others.pop("again in its group", 0) <= 3
    assert others == {"no JSON": 4, "with a_message_of_2031": 3}
    assert report["ends"]["X closed it"] == 1
    assert report["ends"]["nothing came for 2 s"] == 1
    assert stream.ask("SELECT sum(post_count) FROM crawl_rule WHERE tag = 'ada'")[0][0] >= 17


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("unauthorized", 4),
        pytest.param("forbidden-plan", 4, marks=pytest.mark.slow),
        ("credits", 5),
        pytest.param("cap", 5, marks=pytest.mark.slow),
    ],
)
def test_a_refusal_that_no_pause_helps_ends_the_stream(
    stream: Stream, fault: str, code: int
) -> None:
    stream.sandbox.fault(fault, endpoint="/2/tweets/search/stream", count=2)
    done = stream.run("--no-budget")
    assert done.returncode == code
    assert json.loads(done.stdout)["ended"].startswith("X answers 4")


def test_a_stream_begins_only_with_a_limit_and_rules_of_its_own(stream: Stream) -> None:
    assert "say --no-budget" in stream.run().stderr
    keys = {"Authorization": f"Bearer {stream.sandbox.credentials[0]['bearer_token']}"}
    rules = f"{stream.sandbox.url}/2/tweets/search/stream/rules"
    requests.post(f"{rules}?delete_all=true", json={}, headers=keys, timeout=9)
    theirs = {"add": [{"value": "from:linus", "tag": "theirs"}]}
    requests.post(rules, json=theirs, headers=keys, timeout=9)
    done = stream.run("--no-budget")
    assert done.returncode == 2
    assert "another program added (theirs: from:linus)" in done.stderr
    (stream.folder / "rules.txt").write_text("bad: -has:links\n")
    done = stream.run("--no-budget", "--other-rules", "keep")
    assert done.returncode == 2
    assert "line 1: There were errors" in done.stderr
    (stream.folder / "rules.txt").write_text(RULES)
    done = stream.run("--no-budget", "--other-rules", "delete", "--for", "1s")
    assert done.returncode == 0
    listed = requests.get(rules, headers=keys, timeout=9).json()["data"]
    assert [one["tag"] for one in listed] == ["ada", "maja", "crowd"]


@pytest.mark.slow
def test_only_a_connection_of_our_own_is_ended(stream: Stream) -> None:
    """One that a reader left behind which is gone; that of another program stays."""
    assert stream.run("--no-budget", "--for", "1s").returncode == 0
    # Rules that the file has no more are taken back, since they were added here.
    (stream.folder / "rules.txt").write_text("ada: from:ada\n")
    assert stream.run("--no-budget", "--for", "1s").returncode == 0
    rules = stream.sandbox.get("/2/tweets/search/stream/rules").json()["data"]
    assert [one["tag"] for one in rules] == ["ada"]
    keys = {"Authorization": f"Bearer {stream.sandbox.credentials[0]['bearer_token']}"}
    url = f"{stream.sandbox.url}/2/tweets/search/stream"
    with requests.get(url, headers=keys, stream=True, timeout=9) as other:
        assert other.status_code == 200
        held = stream.connections()[-1]["id"]
        stream.process = stream.begun("--no-budget")
        wait_until(lambda: "another program holds the stream" in stream.said())
        assert "disconnected_at" not in stream.connections()[-1]
        stream.stop()
        with psycopg.connect(stream.dsn) as connection:
            connection.execute("UPDATE crawl_stream SET connection = %s", [held])
        stream.start("--no-budget")
        assert "ended 1 connections of a reader that is gone" in stream.said()
        stream.stop()


# -- pauses -----------------------------------------------------------------------------------


def test_ten_thousand_closes_at_once_stay_below_the_limit_of_x() -> None:
    now, pauses, guard = 0.0, Pauses(), Guard()
    began: list[float] = []
    for _ in range(10_000):
        now += guard.wait_s(now)
        began.append(now)
        guard.note(now)
        now += pauses.after_line(0.0)
    counts = [sum(at <= one < at + 900 for one in began[n : n + 60]) for n, at in enumerate(began)]
    assert max(counts) <= 40
    assert began[1] == began[0], "the first time at once"


def test_each_kind_of_failure_has_its_own_pauses() -> None:
    pauses = Pauses()
    assert [pauses.after_network() for _ in range(3)] == [0.0, 0.25, 0.5]
    assert max(pauses.after_network() for _ in range(100)) == 16.0
    assert [pauses.after_http() for _ in range(8)] == [5, 10, 20, 40, 80, 160, 320, 320]
    assert [pauses.after_rate() for _ in range(3)] == [60, 120, 240]
    assert pauses.after_rate(30.0) == 31.0
    assert pauses.after_line(3600.0) == 0.0
    assert pauses.after_http() == 5.0
