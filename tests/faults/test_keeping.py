"""A bucket at the end of a bad line: what is verified is right, and nothing local goes before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from s3_server import BUCKET, Failing, S3Server
from test_keeping_segments import data_files, message

from faults.tcp_proxy import Direction, TcpProxy
from tweetcrawler.keeping.archive import Archive, FolderLedger, Report
from tweetcrawler.keeping.lines import stream_line
from tweetcrawler.keeping.manifests import DATA
from tweetcrawler.keeping.places import Place, place_of, sha256_at
from tweetcrawler.keeping.segments import Writer


class BadLine(TcpProxy):
    """A proxy that also flips one bit of what passes, at a byte of one direction, once; and delays
    each piece of an answer.
    """

    flip: tuple[Direction, int] | None = None
    slow_answers_s = 0.0

    def _pass(self, link, direction, data):  # type: ignore[no-untyped-def] # as it is there
        if self.flip is not None and direction == self.flip[0]:
            at = self.flip[1] - link.passed[direction]
            if 0 <= at < len(data):
                self.flip = None
                data = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        if direction == "down":
            time.sleep(self.slow_answers_s)
        return super()._pass(link, direction, data)


@pytest.fixture
def line(s3: S3Server) -> Iterator[BadLine]:
    proxy = BadLine("127.0.0.1", s3.port)
    with proxy:
        yield proxy


@pytest.fixture
def place(s3: S3Server, line: BadLine, tmp_path: Path) -> Place:
    options = replace(s3.options(line.port), silence_s=2.0)
    return place_of(f"s3://{BUCKET}/{tmp_path.name}", options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed segment of some 250 kB."""
    folder = tmp_path / "own"
    writer = Writer(folder, "stream", node="here")
    for number in range(1, 101):
        writer.append(stream_line(message(number, 6_000)))
    writer.close_segment()
    writer.close()
    return folder


def archived(folder: Path, place: Place, s3: S3Server) -> Report:
    """One call; whatever the line did, what is dropped is in the bucket as it was written."""
    report = Archive(folder, place, FolderLedger(folder)).once()
    sound = place_of(place.url, s3.options())
    for entry in FolderLedger(folder).entries():
        if entry.state in ("verified", "dropped"):
            assert sha256_at(sound, entry.key + DATA) == entry.sha256
        else:
            assert len(data_files(folder)) == 1
    return report


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("after", [1, 700, 100_000])
def test_a_cut_line_is_asked_again(
    folder: Path, place: Place, line: BadLine, s3: S3Server, direction: Direction, after: int
) -> None:
    line.cut_after(after, direction)
    report = archived(folder, place, s3)
    while report.faults:
        report = archived(folder, place, s3)
    assert report.dropped == 1
    assert line.connections > 1


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_flipped_bit_is_found_by_reading_back(
    folder: Path, place: Place, line: BadLine, s3: S3Server, direction: Direction
) -> None:
    line.flip = (direction, 100_000)
    report = archived(folder, place, s3)
    assert line.flip is None
    assert (report.dropped, report.faults) == (1, None)
    (entry,) = FolderLedger(folder).entries()
    assert entry.tries == 1


def test_a_stalled_line_is_given_up_and_asked_again(
    folder: Path, place: Place, line: BadLine, s3: S3Server
) -> None:
    line.stall("down")
    timer = threading.Timer(5, line.go_on)
    timer.start()
    report = archived(folder, place, s3)
    timer.join()
    assert (report.dropped, report.faults) == (1, None)


def test_a_line_that_stays_away_keeps_the_file(
    folder: Path, place: Place, line: BadLine, s3: S3Server
) -> None:
    line.refuse()
    report = archived(folder, place, s3)
    assert report.faults is not None
    assert "does not answer" in report.faults[0]
    assert len(data_files(folder)) == 1
    line.listen()
    assert archived(folder, place, s3).dropped == 1


def test_a_slow_line_is_no_failure(folder: Path, place: Place, line: BadLine, s3: S3Server) -> None:
    """The time that is allowed is for a silence, not for the whole."""
    line.slow_answers_s = 1.0
    begun = time.monotonic()
    report = archived(folder, place, s3)
    assert (report.dropped, report.faults) == (1, None)
    assert time.monotonic() - begun > 4.0


@pytest.mark.parametrize("failures", range(1, 6))
def test_a_server_that_fails_is_asked_again(
    folder: Path, s3: S3Server, tmp_path: Path, failures: int
) -> None:
    with Failing(s3.port) as failing:
        place = place_of(f"s3://{BUCKET}/{tmp_path.name}", s3.options(failing.port))
        failing.failures = failures
        report = archived(folder, place, s3)
        if report.faults:
            assert "fails at" in report.faults[0]
            report = archived(folder, place, s3)
    assert (report.dropped, report.faults) == (1, None)
