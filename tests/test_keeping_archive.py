"""The way of a segment: closed, uploaded, verified, dropped; whole after a kill anywhere."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from s3_server import BUCKET, S3Server
from test_keeping_segments import chain, data_files

from tweetcrawler.keeping.archive import (
    Archive,
    Entry,
    FolderLedger,
    State,
    after,
    again,
    next_step,
)
from tweetcrawler.keeping.manifests import DATA, MANIFEST, SegmentError
from tweetcrawler.keeping.places import FilePlace, NothingThere, Place, place_of, sha256_at

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> Place:
    if request.param == "file":
        return place_of((tmp_path / "place").as_uri())
    return place_of(f"s3://{BUCKET}/{tmp_path.name}", s3.options())


def archive(folder: Path, place: Place, keep: timedelta = timedelta(0)) -> Archive:
    return Archive(folder, place, FolderLedger(folder), keep=keep)


def states(folder: Path) -> list[str]:
    entries = FolderLedger(folder).entries()
    return [entry.state for entry in sorted(entries, key=lambda one: one.number)]


# -- the table of states -----------------------------------------------------------------------


@given(
    start=st.sampled_from(["closed", "uploaded", "verified", "dropped"]),
    fails=st.lists(st.booleans(), max_size=8),
)
def test_nothing_is_dropped_before_it_was_verified_whatever_fails(
    start: State, fails: list[bool]
) -> None:
    at = NOW.isoformat() if start in ("verified", "dropped") else None
    entry = Entry("n", "stream", start, 1, 1, 1, 1, 1, 1, "ff", "p", verified_at=at)
    seen: list[State] = [start]
    for failed in fails:
        step = next_step(entry, place="p", now=NOW, keep=timedelta(0))
        if step is None:
            break
        entry = (
            again(entry) if failed and step != "drop" else after(entry, step, place="p", now=NOW)
        )
        seen.append(entry.state)
    if "dropped" in seen and start != "dropped":
        assert seen[seen.index("dropped") - 1] == "verified"
    if start != "dropped" and "verified" in seen[1:]:
        assert seen[seen.index("verified") - 1] in ("uploaded", "closed")


def test_a_segment_stays_for_a_while_after_it_was_verified() -> None:
    entry = Entry(
        "n", "stream", "verified", 1, 1, 1, 1, 1, 1, "ff", "p", 0, None, None, NOW.isoformat()
    )
    week = timedelta(days=7)
    assert next_step(entry, place="p", now=NOW + timedelta(days=6), keep=week) is None
    assert next_step(entry, place="p", now=NOW + week, keep=week) == "drop"


def test_an_upload_to_a_place_that_was_changed_is_made_again() -> None:
    entry = Entry("n", "stream", "uploaded", 1, 1, 1, 1, 1, 1, "ff", "file:///old")
    assert next_step(entry, place="file:///new", now=NOW, keep=timedelta(0)) == "upload"


# -- at a place --------------------------------------------------------------------------------


def test_the_seeds_line_a_file_of_posts_goes_to_the_bucket_and_then_locally(
    tmp_path: Path, place: Place
) -> None:
    folder = tmp_path / "own"
    chain(folder, 3)
    held = {path.name: path.read_bytes() for path in data_files(folder)}
    report = archive(folder, place).once()
    assert (report.uploaded, report.verified, report.dropped, report.faults) == (3, 3, 3, None)
    assert states(folder) == ["dropped"] * 3
    assert data_files(folder) == []
    there = {name for name, _ in place.names()}
    assert there == set(held) | {name.replace(DATA, MANIFEST) for name in held}
    for name, content in held.items():
        assert sha256_at(place, name) == hashlib.sha256(content).hexdigest()
    again = archive(folder, place).once()
    assert (again.uploaded, again.verified, again.dropped) == (0, 0, 0)
    chain(folder, 1)  # the chain goes on from what is no longer here
    assert archive(folder, place).once().faults is None


def test_a_file_stays_while_it_is_kept(tmp_path: Path, place: Place) -> None:
    folder = tmp_path / "own"
    chain(folder, 1)
    assert archive(folder, place, keep=timedelta(days=7)).once().verified == 1
    assert len(data_files(folder)) == 1
    assert archive(folder, place).once().dropped == 1


def test_a_taken_name_is_never_overwritten(tmp_path: Path, place: Place) -> None:
    """Two copies of a folder, as of a cloned machine, archive to one place."""
    folder = tmp_path / "own"
    chain(folder, 1)
    (data,) = data_files(folder)
    other = tmp_path / "other"
    other.write_bytes(b"what the other machine wrote")
    place.put(data.name, other, hashlib.sha256(other.read_bytes()).hexdigest())
    report = archive(folder, place).once()
    assert (report.verified, report.dropped, report.faults) == (1, 1, None)
    assert sha256_at(place, data.name) == hashlib.sha256(other.read_bytes()).hexdigest()
    (entry,) = FolderLedger(folder).entries()
    assert entry.key == f"{entry.name}-again1"
    assert sha256_at(place, entry.key + DATA) == entry.sha256


def test_an_object_that_changed_at_the_place_is_sent_again(tmp_path: Path) -> None:
    folder, place = tmp_path / "own", FilePlace(tmp_path / "place")

    class Rotting(FilePlace):
        """The first two objects are kept wrongly, as by a disk that lies."""

        left = 2

        def put(self, name: str, path: Path, sha256: str) -> None:
            super().put(name, path, sha256)
            if self.left:
                self.left -= 1
                (tmp_path / "place" / name).write_bytes(b"rot")

    chain(folder, 1)
    report = archive(folder, Rotting(tmp_path / "place")).once()
    assert (report.uploaded, report.verified, report.dropped) == (3, 1, 1)
    (entry,) = FolderLedger(folder).entries()
    assert sha256_at(place, entry.key + DATA) == entry.sha256
    # A manifest stands only where the data was read back.
    manifests = [name for name, _ in place.names() if name.endswith(MANIFEST)]
    assert manifests == [entry.key + MANIFEST]


def test_after_three_wrong_uploads_the_file_stays_and_a_later_call_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "own"

    class Broken(FilePlace):
        def put(self, name: str, path: Path, sha256: str) -> None:
            super().put(name, path, sha256)
            (tmp_path / "place" / name).write_bytes(b"rot")

    chain(folder, 1)
    report = archive(folder, Broken(tmp_path / "place")).once()
    assert (report.verified, report.dropped) == (0, 0)
    assert report.faults is not None
    assert "3 uploads failed, the file stays here" in report.faults[0]
    assert len(data_files(folder)) == 1
    assert archive(folder, FilePlace(tmp_path / "place")).once().dropped == 1


def test_a_damaged_file_is_not_uploaded(tmp_path: Path, place: Place) -> None:
    folder = tmp_path / "own"
    chain(folder, 2)
    first, second = data_files(folder)
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    report = archive(folder, place).once()
    assert report.faults == [f"{first} is not what its manifest tells: fetch it again"]
    assert states(folder) == ["closed", "dropped"]
    assert {name for name, _ in place.names()} == {
        second.name,
        second.name.replace(DATA, MANIFEST),
    }


def test_a_file_that_is_gone_before_it_was_uploaded_is_told(tmp_path: Path, place: Place) -> None:
    folder = tmp_path / "own"
    chain(folder, 1)
    (data,) = data_files(folder)
    data.unlink()
    report = archive(folder, place).once()
    assert report.faults == [f"{data} cannot be read: No such file or directory"]


def test_a_lost_ledger_is_found_again_at_the_place(tmp_path: Path, place: Place) -> None:
    folder = tmp_path / "own"
    chain(folder, 2)
    archive(folder, place).once()
    for path in folder.glob("*.state.json"):
        path.unlink()
    report = archive(folder, place).once()
    assert (report.faults, states(folder)) == (None, ["dropped", "dropped"])


def test_one_process_archives_a_folder(tmp_path: Path) -> None:
    chain(tmp_path / "own", 1)
    kept = archive(tmp_path / "own", FilePlace(tmp_path / "place"))

    class Asking(FilePlace):
        def put(self, name: str, path: Path, sha256: str) -> None:
            with pytest.raises(SegmentError, match="another process archives"):
                kept.once()
            super().put(name, path, sha256)

    report = archive(tmp_path / "own", Asking(tmp_path / "place")).once()
    assert report.dropped == 1


def test_a_place_that_is_away_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    chain(folder, 5)
    (tmp_path / "file").write_text("")
    report = archive(folder, FilePlace(tmp_path / "file")).once()
    assert report.faults is not None
    assert len(report.faults) == 1
    assert states(folder) == ["closed"] * 5
    assert len(data_files(folder)) == 5


# -- kills -------------------------------------------------------------------------------------

SHORT_AND_LONG = pytest.mark.parametrize(
    "kills", [10, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)


class Killed:
    """A folder and a place whose process is killed again and again."""

    def __init__(self, folder: Path, place: Place, port: int) -> None:
        self.folder = folder
        self.place = place
        self.port = port
        self.said: list[int] = []
        self.moments = 0

    def run(self, moment: int) -> int:
        """One process, to its end or its moment; gives its exit code."""
        first = self.said[-1] + 1_000 if self.said else 1
        process = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).parent / "keeping_worker.py"),
                *map(str, (self.folder, self.place.url, self.port, first, moment)),
            ],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
        self.said += map(int, process.stdout.split())
        if process.returncode == 0:
            word, count, rest = process.stderr.split(maxsplit=2)
            assert (word, rest.strip()) == ("moments", "faults None")
            self.moments = int(count)
        else:
            assert process.returncode == -signal.SIGKILL, process.stderr
        return process.returncode

    def check_nothing_was_dropped_too_early(self) -> None:
        for path in self.folder.glob(f"*{MANIFEST}"):
            manifest = json.loads(path.read_bytes())
            name = manifest["name"]
            if not (self.folder / (name + DATA)).exists():
                assert sha256_at(self.place, name + DATA) == manifest["sha256"]
                assert sha256_at(self.place, name + MANIFEST)

    def numbers_at_the_place(self) -> list[int]:
        found = []
        for name, _ in self.place.names():
            if name.endswith(DATA):
                with self.place.read(name) as stream:
                    raw = zstandard.ZstdDecompressor().stream_reader(
                        io.BytesIO(stream.read()), read_across_frames=True
                    )
                    found += [
                        int(json.loads(line)["data"]["id"]) for line in io.BufferedReader(raw)
                    ]
        return sorted(found)


@SHORT_AND_LONG
def test_a_process_killed_at_any_moment_is_finished_by_the_next(
    tmp_path: Path, place: Place, s3: S3Server, kills: int
) -> None:
    chance = random.Random(kills)
    killed = Killed(tmp_path / "own", place, s3.port)
    assert killed.run(0) == 0
    for _ in range(kills):
        assert killed.run(chance.randrange(1, killed.moments)) != 0
        killed.check_nothing_was_dropped_too_early()
    assert killed.run(0) == 0
    entries = FolderLedger(tmp_path / "own").entries()
    assert {entry.state for entry in entries} == {"dropped"}
    assert data_files(tmp_path / "own") == []
    found = killed.numbers_at_the_place()
    assert len(found) == len(set(found))
    assert set(killed.said) <= set(found)
    # What a process was killed before it said so may be there, one line for each.
    assert len(set(found) - set(killed.said)) <= kills
    for name, _ in place.names():
        if name.endswith(DATA):
            assert orjson.loads(_read(place, name.replace(DATA, MANIFEST)))["sha256"] == sha256_at(
                place, name
            )


def _read(place: Place, name: str) -> bytes:
    with place.read(name) as stream:
        return stream.read()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_single_moment_is_a_good_one_to_be_killed(tmp_path: Path, s3: S3Server) -> None:
    place = FilePlace(tmp_path / "place")
    killed = Killed(tmp_path / "own", place, s3.port)
    assert killed.run(0) == 0
    # Each killed process leaves work to the next, so later ones have more moments than this.
    assert killed.moments > 50
    for moment in range(1, killed.moments):
        assert killed.run(moment) != 0
        killed.check_nothing_was_dropped_too_early()
    assert killed.run(0) == 0
    assert set(killed.said) <= set(killed.numbers_at_the_place())
    with pytest.raises(NothingThere):
        sha256_at(place, "another")
