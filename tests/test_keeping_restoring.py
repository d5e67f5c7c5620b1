"""Segments read back from a place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from s3_server import BUCKET, S3Server

from tweetcrawler.keeping.archive import Archive, FolderLedger
from tweetcrawler.keeping.lines import KeptPage, page_line
from tweetcrawler.keeping.manifests import DATA, MANIFEST, SegmentError
from tweetcrawler.keeping.places import FilePlace, Place, place_of, trial
from tweetcrawler.keeping.restoring import Catalog
from tweetcrawler.keeping.segments import Limits, Writer, read_manifests
from tweetcrawler.keeping.tombstones import blanked

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def page(number: int) -> KeptPage:
    body = orjson.dumps({"data": [{"id": str(number), "text": "kept"}]})
    at = BEGIN + timedelta(hours=number)
    facts = {"run": 1, "position": number * 2}
    return KeptPage(str(number), at, "search", facts, {"query": "q"}, body)


def keep(folder: Path, numbers: range) -> None:
    writer = Writer(folder, "pages", node="here", limits=Limits(posts=10))
    for number in numbers:
        writer.append(page_line(page(number)))
    writer.close_segment()
    writer.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    keep(tmp_path / "own", range(1, 36))
    made = FilePlace(tmp_path / "place")
    folder = tmp_path / "own"
    assert Archive(folder, made, FolderLedger(folder)).once().dropped == 4
    return made


def test_every_page_comes_back_as_it_was_kept(place: Place, tmp_path: Path) -> None:
    catalog = Catalog(place)
    assert catalog.faults == []
    assert [one.posts for one in catalog.manifests] == [10, 10, 10, 5]
    assert list(catalog.pages(tmp_path)) == [page(number) for number in range(1, 36)]
    assert list(tmp_path.glob(f"*{DATA}")) == []


def test_a_span_of_time_is_chosen(place: Place, tmp_path: Path) -> None:
    since, until = BEGIN + timedelta(hours=9), BEGIN + timedelta(hours=22)
    catalog = Catalog(place)
    found = [int(one.id) for one in catalog.pages(tmp_path, since=since, until=until)]
    assert found == list(range(9, 22))
    assert len(catalog.chosen("pages", since, until)) == 3
    assert catalog.chosen("stream") == []


def test_a_rewritten_segment_takes_the_place_of_the_old_one(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    keep(folder, range(1, 11))
    (old,) = read_manifests(folder)[0]
    assert blanked(folder, old, {3}, ()) is not None
    place = FilePlace(tmp_path / "other")
    Archive(folder, place, FolderLedger(folder)).once()
    catalog = Catalog(place)
    assert catalog.faults == []
    pages = list(catalog.pages(tmp_path))
    assert len(pages) == 10
    assert orjson.loads(pages[2].body)["data"] == [{"id": "3", "tombstone": "post"}]


def test_what_is_missing_or_foreign_is_a_sentence(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "place"
    second = next(one for one in Catalog(place).manifests if one.number == 2)
    (folder / (second.name + MANIFEST)).unlink()
    (folder / ("note" + MANIFEST)).write_text("{}")
    catalog = Catalog(place)
    assert len(catalog.faults) == 2
    assert "is no manifest of tweetcrawler" in catalog.faults[0]
    assert catalog.faults[1].startswith(f"segment {second.name} is missing")
    assert catalog.without_manifest() == [second.name + DATA]
    assert len(list(catalog.pages(tmp_path))) == 25


def test_a_damaged_segment_gives_no_line(place: Place, tmp_path: Path) -> None:
    first = Catalog(place).manifests[0]
    path = tmp_path / "place" / (first.name + DATA)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found: list[bytes] = []
    with pytest.raises(SegmentError, match="is not what its manifest tells"):
        found += Catalog(place).lines(first, tmp_path)
    assert found == []


def test_a_writer_goes_on_after_the_last_page_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    keep(folder, range(1, 6))
    writer = Writer(folder, "pages", node="here")
    assert writer.position == 10
    writer.append(page_line(page(6)))
    writer.sync()
    writer.append(page_line(page(7)))
    assert writer.position == 12
    writer._waiting = []  # as a kill leaves it
    writer.close()
    writer = Writer(folder, "pages", node="here")
    assert writer.position == 12
    writer.close()


def test_a_place_is_tried(tmp_path: Path) -> None:
    """moto keeps what comes with a wrong SHA-256; a folder compares none either."""
    place = FilePlace(tmp_path / "tried")
    (sentence,) = trial(place)
    assert "compares no SHA-256" in sentence
    assert list(place.names()) == []
    with S3Server() as server:
        bucket = place_of(f"s3://{BUCKET}/tried", server.options())
        (sentence,) = trial(bucket)
        assert sentence.startswith(f"s3://{BUCKET}/tried compares no SHA-256")
        assert server.objects("tried/") == {}
