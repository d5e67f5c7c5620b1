"""Notices to people: through a real webhook server and a real SMTP sink."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from busy import allowed_s
from crawls import Crawler, ended
from sandbox_server import Sandbox
from test_keeping_segments import chain

from tweetcrawler import notices

HANDLES = ["writer_1"]
TOKEN = "s3cretT0ken99"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "1", "--posts", "20-40") as running:
        yield running


class Hook(ThreadingHTTPServer):
    """A webhook; `answers` are statuses, the last one for ever, None: it never answers."""

    daemon_threads = True

    def __init__(self, *answers: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Posted)
        self.answers = list(answers)
        self.got: list[dict[str, Any]] = []
        self.ends = threading.Event()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/{TOKEN}"


class _Posted(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hook = self.server
        assert isinstance(hook, Hook)
        hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
        if answer is None:
            hook.ends.wait()
            return
        self.send_response(answer)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def hooked(*answers: int | None) -> Iterator[Hook]:
    hook = Hook(*answers)
    thread = threading.Thread(target=hook.serve_forever)
    thread.start()
    try:
        yield hook
    finally:
        hook.ends.set()
        hook.shutdown()
        hook.server_close()
        thread.join()


def crawler_of(sandbox: Sandbox, folder: Path, dsn: str, *urls: str, more: str = "") -> Crawler:
    settings = f'notify = "{" ".join(urls)}"\n{more}'
    crawler = Crawler.on(sandbox, folder, dsn, HANDLES, settings=settings)
    (folder / "tweet.ini").chmod(0o600)
    return crawler


def failing(crawler: Crawler) -> str:
    """A run that stops at its budget, and what it said on stderr."""
    return crawler.run("--max-posts", "5", expect=5).stderr


def pass_time(dsn: str, minutes: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE crawl_notice SET sent_at = sent_at - %(m)s * interval '1 minute', "
            "tried_at = tried_at - %(m)s * interval '1 minute'",
            {"m": minutes},
        )


def test_a_problem_is_told_once_an_hour_also_over_restarts(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    with hooked(200) as hook:
        crawler = crawler_of(sandbox, tmp_path, dsn, hook.url)
        for _ in range(3):
            said = failing(crawler)
            assert TOKEN not in said
        [told] = hook.got
        assert "ended with exit code 5: the budget of this run (5 posts)" in told["message"]
        pass_time(dsn, 61)
        failing(crawler)
        assert len(hook.got) == 2
        assert "2 more notices of this cause since the last" in hook.got[1]["message"]
        crawler.run()
        assert len(hook.got) == 2, "what goes well needs nobody"
        crawler.run("--notify-on", "always")
        assert "ended with exit code 0" in hook.got[2]["message"]
    stored = crawler.select("SELECT cause, place FROM crawl_notice ORDER BY cause")
    assert [cause for cause, _ in stored] == ["crawl 0", "crawl 5"]
    arguments = crawler.select("SELECT arguments::text FROM crawl_run")
    assert TOKEN not in str(stored) + str(arguments)


def test_a_webhook_that_fails_loses_nothing_and_is_tried_again(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    with hooked(500, 200) as bad, hooked(200) as good:
        crawler = crawler_of(sandbox, tmp_path, dsn, bad.url, good.url)
        said = failing(crawler)
        assert said.count("a notice could not be delivered (json); it is kept") == 1
        assert TOKEN not in said
        assert (len(bad.got), len(good.got)) == (1, 1)
        crawler.run()
        assert len(bad.got) == 1, "not at once"
        pass_time(dsn, 6)
        crawler.run()
        assert (len(bad.got), len(good.got)) == (2, 1), "each address by itself"
        assert "exit code 5" in bad.got[1]["message"]


def test_a_webhook_that_hangs_is_waited_for_a_bounded_time(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    with hooked(None) as hook:
        crawler = crawler_of(sandbox, tmp_path, dsn, hook.url)
        began_at = time.monotonic()
        said = failing(crawler)
        assert time.monotonic() - began_at < allowed_s(notices.DEADLINE_S + 15)
        assert said.count("a notice could not be delivered") == 1
        assert len(hook.got) == 1
    assert crawler.select("SELECT is_waiting, sent_at FROM crawl_notice") == [(True, None)]


class _Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs to leave a message."""

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                content = iter(self.rfile.readline, b".\r\n")
                self.server.got.append(b"".join(content).decode())  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


def test_mail_and_a_webhook_are_told_of_a_refused_credential(dsn: str, tmp_path: Path) -> None:
    with (
        Sandbox("--credentials", "1", "--posts", "20-40") as sandbox,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail) as sink,
        hooked(200) as hook,
    ):
        sink.got = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=sink.serve_forever)
        thread.start()
        sandbox.fault("unauthorized", count=1000)
        port = sink.server_address[1]
        mail = (
            f"mailto://127.0.0.1:{port}?from=crawler@example.org&to=ada@example.org&mode=insecure"
        )
        try:
            crawler_of(sandbox, tmp_path, dsn, mail, hook.url).run("watch", "--once", expect=4)
        finally:
            sink.shutdown()
            thread.join()
        messages = [message["message"] for message in hook.got]
        assert len(messages) == 2
        assert any("X refuses credential c1; renew its keys" in text for text in messages)
        assert any("watch on " in text and "exit code 4" in text for text in messages)
        assert len(sink.got) == 2  # type: ignore[attr-defined]
        assert "To: ada@example.org" in sink.got[0]  # type: ignore[attr-defined]


def test_an_archive_whose_place_is_away_is_told_of(
    sandbox: Sandbox, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWEETCRAWLER_S3KEY", "key")
    monkeypatch.setenv("TWEETCRAWLER_S3SECRET", TOKEN)
    chain(tmp_path / "segments", 1)
    more = "archivePlace = s3://bucket/x\ns3Endpoint = http://127.0.0.1:9\n"
    with hooked(200) as hook:
        crawler = crawler_of(sandbox, tmp_path, dsn, hook.url, more=more)
        for _ in range(2):
            crawler.run("archive", "--once", expect=(1, 2))
    [told] = hook.got
    assert "archive on " in told["message"]
    assert "does not answer" in told["message"]
    assert TOKEN not in told["message"]


def test_a_wrong_address_and_csv_are_refused_before_anything_is_bought(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    before = sandbox.books()["posts_sold"]
    crawler = crawler_of(sandbox, tmp_path, dsn, f"nosuch://{TOKEN}")
    done = crawler.run(expect=2)
    assert "address 1 of notify is not understood" in done.stderr
    assert TOKEN not in done.stderr
    assert "needs a database" not in done.stderr
    assert "notices are remembered in a database" in crawler.run("--csv", expect=2).stderr
    assert sandbox.books()["posts_sold"] == before


def test_an_address_is_never_an_option(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = crawler_of(sandbox, tmp_path, dsn)
    done = ended(crawler.start("--notify", f"json://x/{TOKEN}"), expect=2)
    assert TOKEN not in done.stderr
