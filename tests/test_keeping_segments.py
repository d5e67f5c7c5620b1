"""Segments on disk: what was brought there is found again after a kill at any byte."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zstandard

from tweetcrawler.keeping.lines import stream_line
from tweetcrawler.keeping.manifests import DATA, MANIFEST, SegmentError, chain_faults, manifest_of
from tweetcrawler.keeping.segments import (
    Limits,
    Writer,
    check,
    lines_of,
    read_manifests,
    renamed,
    write_manifest,
)


def message(number: int, size: int = 0) -> bytes:
    chance = random.Random(number)
    filling = "".join(chance.choices("abcdefgh", k=size))
    return json.dumps({"data": {"id": str(number), "text": filling}}).encode()


def write(folder: Path, numbers: Iterable[int], *, size: int = 0, each: bool = False) -> Writer:
    writer = Writer(folder, "stream", node="here")
    for number in numbers:
        writer.append(stream_line(message(number, size)))
        if each:
            writer.sync()
    writer.sync()
    return writer


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{DATA}"), key=lambda path: int(path.name.split("-")[3]))


def numbers_in(folder: Path) -> list[int]:
    """The ids of all segments of a folder in order, read without our own code."""
    found = []
    for path in data_files(folder):
        with zstandard.open(path, "rt", encoding="utf-8") as file:
            found += [int(json.loads(line)["data"]["id"]) for line in file]
    return found


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


# -- writing and closing -----------------------------------------------------------------------


def test_lines_come_back_and_the_manifest_tells_of_them(tmp_path: Path) -> None:
    writer = write(tmp_path, [5, 9, 7, 9], each=True)
    manifest = writer.close_segment()
    writer.close()
    assert manifest is not None
    assert (manifest.lines, manifest.posts, manifest.distinct) == (4, 4, 3)
    assert (manifest.lowest_id, manifest.highest_id, manifest.previous) == (5, 9, None)
    path = tmp_path / (manifest.name + DATA)
    check(path, manifest)
    assert manifest.file_bytes == path.stat().st_size
    with path.open("rb") as file:
        lines = list(lines_of(file))
    assert lines == [message(number) for number in (5, 9, 7, 9)]
    assert manifest.raw_bytes == sum(len(line) + 1 for line in lines)
    read, faults = read_manifests(tmp_path)
    assert (read, faults) == ([manifest], [])


def test_a_file_holds_20000_posts(tmp_path: Path) -> None:
    writer = write(tmp_path, range(1, 50_001))
    writer.close_segment()
    writer.close()
    manifests, _ = read_manifests(tmp_path)
    assert sorted(one.posts for one in manifests) == [10_000, 20_000, 20_000]
    assert chain_faults(manifests) == []
    assert numbers_in(tmp_path) == list(range(1, 50_001))


def test_a_segment_is_closed_at_its_bytes_and_at_its_age(tmp_path: Path) -> None:
    clock = Clock()
    limits = Limits(file_bytes=5_000, age_s=60)
    writer = Writer(tmp_path, "stream", node="here", limits=limits, clock=clock)
    for number in range(1, 21):
        writer.append(stream_line(message(number, 2_000)))
        writer.sync()
    assert len(data_files(tmp_path)) > 2
    before = len(data_files(tmp_path))
    assert not writer.is_due()
    clock.go_on(61)
    assert writer.is_due()
    writer.append(stream_line(message(21)))
    writer.sync()
    assert len(data_files(tmp_path)) == before + 1
    writer.close()
    assert numbers_in(tmp_path) == list(range(1, 22))


def test_a_second_of_lines_is_brought_to_disk_by_the_next_line(tmp_path: Path) -> None:
    clock = Clock()
    writer = Writer(tmp_path, "stream", node="here", clock=clock)
    writer.append(stream_line(message(1)))
    assert numbers_in(tmp_path) == []
    clock.go_on(1.5)
    writer.append(stream_line(message(2)))
    assert numbers_in(tmp_path) == [1, 2]
    writer.close()


def test_nothing_written_leaves_no_segment(tmp_path: Path) -> None:
    writer = write(tmp_path, [])
    assert writer.close_segment() is None
    writer.close()
    assert data_files(tmp_path) == []


def test_one_process_writes_a_kind(tmp_path: Path) -> None:
    writer = write(tmp_path, [1])
    with pytest.raises(SegmentError, match="another process works on stream-here"):
        Writer(tmp_path, "stream", node="here")
    writer.close()
    Writer(tmp_path, "stream", node="here").close()


def test_memory_holds_no_segment(tmp_path: Path) -> None:
    """200 MB of lines are read in the memory of a few of them."""
    path = tmp_path / "big.jsonl.zst"
    line = message(1, 50_000) + b"\n"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as stream:
        for _ in range(4_000):
            stream.write(line)
    program = (
        "import sys,resource;from tweetcrawler.keeping.segments import lines_of;"
        "r=lambda:resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;b=r();"
        "n=sum(1 for _ in lines_of(open(sys.argv[1],'rb')));print(n,r()-b)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    lines, grown_kb = map(int, done.stdout.split())
    assert lines == 4_000
    assert grown_kb < 30_000


# -- kills -------------------------------------------------------------------------------------


def test_a_torn_end_costs_one_frame_at_whatever_byte(tmp_path: Path) -> None:
    writer = write(tmp_path / "whole", [1, 2, 3, 4], each=True)
    writer.close()
    (whole,) = data_files(tmp_path / "whole")
    content = whole.read_bytes()
    ends = _frame_ends(content)
    assert len(ends) == 4
    for cut in range(len(content) + 1):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / whole.name).write_bytes(content[:cut])
        writer = write(folder, [9])
        manifest = writer.close_segment()
        writer.close()
        kept = sum(end <= cut for end in ends)
        assert numbers_in(folder) == [*range(1, kept + 1), 9]
        assert manifest is not None
        assert manifest.posts == kept + 1
        check(folder / (manifest.name + DATA), manifest)


def _frame_ends(content: bytes) -> list[int]:
    ends, at = [], 0
    while at < len(content):
        one = zstandard.ZstdDecompressor().decompressobj()
        one.decompress(content[at:])
        at = len(content) - len(one.unused_data)
        ends.append(at)
    return ends


KILLED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_keeping_segments import message
from tweetcrawler.keeping.lines import stream_line
from tweetcrawler.keeping.segments import Limits, Writer
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
writer = Writer(Path(sys.argv[2]), "stream", node="here", limits=Limits(posts=40))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
for number in range(int(sys.argv[4]), 1_000_000):
    writer.append(stream_line(message(number, 200)))
    writer.sync()
    print(number, flush=True)
"""


@pytest.mark.parametrize(
    "kills", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_a_process_killed_in_the_middle_of_a_write_loses_nothing(
    tmp_path: Path, kills: int
) -> None:
    """The system kills a process at the exact byte at which a file outgrows its limit."""
    chance = random.Random(kills)
    done: list[int] = []
    for _ in range(kills):
        start = done[-1] + 1 if done else 1
        process = subprocess.run(
            [
                sys.executable,
                "-c",
                KILLED,
                str(Path(__file__).parent),
                str(tmp_path),
                str(chance.randrange(1, 3_000)),
                str(start),
            ],
            capture_output=True,
            text=True,
        )
        assert process.returncode == -signal.SIGXFSZ, process.stderr
        done += map(int, process.stdout.split())
        # What was not yet said to be on disk may be there all the same.
        writer = Writer(tmp_path, "stream", node="here")
        writer.close()
        found = numbers_in(tmp_path)
        assert found[: len(done)] == done
        assert len(found) <= len(done) + 1
        done = found
    manifests, faults = read_manifests(tmp_path)
    assert faults == chain_faults(manifests) == []
    for manifest in manifests:
        check(tmp_path / (manifest.name + DATA), manifest)


def test_a_full_disk_is_a_sentence_and_costs_nothing(tmp_path: Path) -> None:
    writer = write(tmp_path, [1, 2, 3], each=True)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = data_files(tmp_path)[0].stat().st_size
    writer.append(stream_line(message(4, 3_000)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        with pytest.raises(SegmentError, match="cannot be written: File too large; make room"):
            writer.sync()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert data_files(tmp_path)[0].stat().st_size == size
    writer.sync()
    writer.close()
    assert numbers_in(tmp_path) == [1, 2, 3, 4]


def test_damage_amid_an_open_segment_is_not_taken_for_a_torn_end(tmp_path: Path) -> None:
    write(tmp_path, [1, 2, 3, 4], each=True).close()
    (path,) = data_files(tmp_path)
    content = bytearray(path.read_bytes())
    content[_frame_ends(bytes(content))[0] + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(SegmentError, match=r"is damaged at byte \d+, and whole lines follow"):
        Writer(tmp_path, "stream", node="here")
    assert path.read_bytes() == content


def test_a_flipped_bit_of_a_closed_segment_is_seen(tmp_path: Path) -> None:
    writer = write(tmp_path, range(1, 100))
    manifest = writer.close_segment()
    writer.close()
    assert manifest is not None
    path = tmp_path / (manifest.name + DATA)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SegmentError, match="is not what its manifest tells"):
        check(path, manifest)
    with path.open("rb") as file, pytest.raises(SegmentError, match="a segment is damaged"):
        list(lines_of(file))


# -- chains ------------------------------------------------------------------------------------


def chain(folder: Path, count: int) -> None:
    writer = Writer(folder, "stream", node="here", limits=Limits(posts=1))
    for number in range(1, count + 1):
        writer.append(stream_line(message(number)))
    writer.close_segment()
    writer.close()


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    chain(tmp_path, 4)
    manifests, _ = read_manifests(tmp_path)
    third = next(one for one in manifests if one.number == 3)
    left = [one for one in manifests if one.number != 3]
    (fault,) = chain_faults(left)
    assert fault.startswith(f"segment {third.name} is missing, ")
    # The last one cannot be missed: nothing follows it.
    assert chain_faults([one for one in manifests if one.number < 4]) == []


def test_a_chain_goes_on_in_the_next_process(tmp_path: Path) -> None:
    chain(tmp_path, 2)
    chain(tmp_path, 2)
    manifests, _ = read_manifests(tmp_path)
    assert sorted(one.number for one in manifests) == [1, 2, 3, 4]
    assert chain_faults(manifests) == []


def test_a_segment_that_replaces_another_keeps_the_chain(tmp_path: Path) -> None:
    chain(tmp_path, 3)
    manifests, _ = read_manifests(tmp_path)
    old = next(one for one in manifests if one.number == 2)
    new = renamed(old, sha256="0" * 64, replaces=(*old.replaces, old.sha256))
    assert new.name != old.name
    write_manifest(tmp_path, new)
    manifests, _ = read_manifests(tmp_path)
    assert chain_faults(manifests) == []
    assert chain_faults([one for one in manifests if one != old]) == []


def test_two_programs_of_one_node_name_are_seen(tmp_path: Path) -> None:
    chain(tmp_path / "a", 1)
    chain(tmp_path / "b", 1)
    manifests = read_manifests(tmp_path / "a")[0] + read_manifests(tmp_path / "b")[0]
    (fault,) = chain_faults(manifests)
    assert "are both number 1 of one chain: two programs wrote under one node name" in fault


def test_a_foreign_or_newer_manifest_is_one_sentence(tmp_path: Path) -> None:
    chain(tmp_path, 1)
    good = next(tmp_path.glob(f"*{MANIFEST}")).read_text()
    for name, text in {
        "foreign": '{"name": "x"}',
        "text": "hello",
        "newer": good.replace('"format": 1', '"format": 2'),
        "damaged": good.replace('"kind"', '"kinds"'),
    }.items():
        (tmp_path / (name + MANIFEST)).write_text(text)
    manifests, faults = read_manifests(tmp_path)
    assert len(manifests) == 1
    told = {Path(fault.split()[0]).name.removesuffix(MANIFEST): fault for fault in faults}
    assert "is no manifest of tweetcrawler: move it elsewhere" in told["foreign"]
    assert "is no manifest of tweetcrawler" in told["text"]
    assert "has format 2, this program reads up to 1" in told["newer"]
    assert "is damaged: fetch it again" in told["damaged"]
    assert manifest_of(good.encode(), "it") == manifests[0]
