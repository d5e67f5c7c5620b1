"""What archive files hold: every packing, every layout of the text, every kind of line, and
any damage.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweetcrawler.archives import containers, pieces, texts
from tweetcrawler.archives.containers import Archive, identify
from tweetcrawler.archives.documents import EMPTY, OTHER_FILE, Document, Position
from tweetcrawler.archives.pieces import recognise
from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.flatten import flatten

ARCHIVES = Path(__file__).parent / "data" / "archives"
STREAM = (ARCHIVES / "stream_minute.jsonl").read_bytes()

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "zstd in frames, the first to be skipped": lambda data: (
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
        + zstandard.compress(data[:700])
        + zstandard.compress(data[700:])
    ),
    "gzip in parts": lambda data: (
        gzip.compress(data[:700]) + gzip.compress(data[700:]) + bytes(512)
    ),
    "bzip2 in parts": lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:]),
}


# A position is immutable.
def read(path: Path | Archive, start: Position = Position()) -> list[Document]:  # noqa: B008
    each = identify(path) if isinstance(path, Path) else path
    with containers.documents(each, start, stopping=lambda: False) as (documents, _):
        return list(documents)


def written(folder: Path, data: bytes, name: str = "archive") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def values(documents: list[Document]) -> list[Any]:
    return [document.value for document in documents if not document.problem]


def problems(documents: list[Document]) -> list[str]:
    return [document.problem for document in documents if document.problem]


def kinds(path: Path) -> Counter[str]:
    return Counter(
        piece.kind
        for document in read(path)
        if not document.problem
        for piece in recognise(document.value)
    )


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# --- packing ------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACKED)
def test_packing_is_recognised_by_the_first_bytes_and_not_by_the_name(
    tmp_path: Path, packing: str
) -> None:
    found = read(written(tmp_path, PACKED[packing](STREAM), "no-ending"))
    assert [(d.line, d.value, d.problem) for d in found] == [
        (d.line, d.value, d.problem) for d in read(ARCHIVES / "stream_minute.jsonl")
    ]
    assert len(values(found)) == 10


@pytest.mark.parametrize("packing", ["plain", "gzip", "bzip2", "xz", "zstd"])
def test_tar_of_packed_minutes_is_read_member_by_member(tmp_path: Path, packing: str) -> None:
    """As the stream grab is kept: a tar of one file a minute, sometimes packed once more."""
    minutes = {
        "2019/06/03/05/10.json.bz2": bz2.compress(STREAM),
        "2019/06/03/05/11.json.gz": gzip.compress(STREAM),
        "2019/06/03/05/12.json": STREAM,
        "2019/06/03/README.txt": b"about",
        "2019/06/03/05/._13.json": b"\x00",
    }
    found = read(written(tmp_path, PACKED[packing](tar_of(minutes))))
    assert [d.value for d in found if d.member.endswith("11.json.gz")] == [d.value for d in found][
        :12
    ]
    assert len(values(found)) == 30
    assert Counter(problems(found))[OTHER_FILE] == 2
    assert found[-1].end.member == 5


def test_damaged_member_does_not_keep_the_next_ones_from_being_read(tmp_path: Path) -> None:
    cut = bz2.compress(STREAM)[:-20]
    found = read(
        written(tmp_path, tar_of({"a.json.bz2": cut, "b.json": b'{"id":1}\n', "c.tar": tar_of({})}))
    )
    assert {"id": 1} in values(found)
    assert next((d.member, "bzip2" in d.problem) for d in found if "further" in d.problem) == (
        "a.json.bz2",
        True,
    )


def test_tar_that_is_cut_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    whole = tar_of({"a.json": b'{"id":1}\n', "b.json": b'{"id":2}\n' * 2000})
    found = read(written(tmp_path, whole[:9000]))
    assert values(found)[0] == {"id": 1}
    assert "further" in problems(found)[-1]


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz", "zstd"])
def test_cut_file_gives_its_whole_lines_and_one_problem(tmp_path: Path, packing: str) -> None:
    lines = b"".join(
        b'{"id":"%d","text":"%s"}\n' % (n, os.urandom(30).hex().encode()) for n in range(20_000)
    )
    found = read(written(tmp_path, PACKED[packing](lines)[:-1000]))
    assert len(problems(found)) == 1
    assert "cannot be read further" in problems(found)[0]
    assert [value["id"] for value in values(found)] == [str(n) for n in range(len(found) - 1)]
    assert len(found) > (1 if packing == "bzip2" else 10_000)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04" + bytes(40), "zip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), "neither text"),
        ('{"id_str":"1","text":"a"}\n'.encode("utf-16-le"), "neither text"),
        ('{"id_str":"1","text":"a"}\n'.encode("utf-32-le"), "neither text"),
        (gzip.compress(b'{"id":1}\n', mtime=0) + b"rubbish", "behind the gzip data"),
        (b"\x1f\x8b\x08rubbish", "cannot be read further"),
    ],
    ids=["zip", "PNG", "UTF-16 without its mark", "UTF-32", "rubbish behind gzip", "no gzip"],
)
def test_what_is_no_archive_is_refused_in_a_sentence(
    tmp_path: Path, data: bytes, says: str
) -> None:
    assert says in problems(read(written(tmp_path, data)))[-1]


def test_empty_files_hold_nothing(tmp_path: Path) -> None:
    assert read(written(tmp_path, b"")) == read(written(tmp_path, gzip.compress(b""))) == []


def test_folder_gives_what_is_named_like_posts_by_name(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a.json.gz",
        "notes.txt",
        ".hidden.json",
        "sub/c.tar",
        "sub/d.csv.gz",
        "e.JSONL.zst",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    assert [str(path.relative_to(tmp_path)) for path in containers.find(tmp_path)] == [
        "a.json.gz",
        "b.jsonl",
        "e.JSONL.zst",
        "sub/c.tar",
        "sub/d.csv.gz",
    ]
    assert list(containers.find(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]


def test_fingerprint_changes_with_the_file_and_head_only_with_its_beginning(tmp_path: Path) -> None:
    path = written(tmp_path, b"x" * 70_000)
    before = identify(path)
    with path.open("ab") as file:
        file.write(b"more")
    after = identify(path)
    assert before.fingerprint != after.fingerprint
    assert before.head == after.head
    path.write_bytes(b"y" * 70_004)
    assert identify(path).head != after.head


# --- text ---------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_byte_order_marks_and_utf16_are_understood(tmp_path: Path, encoding: str) -> None:
    text = '{"text":"na\u00efve 🦉"}\r\n{"id":"2"}\r\n'
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert values(read(written(tmp_path, mark + text.encode(encoding)))) == [
        {"text": "naïve 🦉"},
        {"id": "2"},
    ]


def test_value_may_go_on_over_lines(tmp_path: Path) -> None:
    things = [
        {"data": [{"id": "1", "text": 'a "]" {'}], "meta": {"n": 1}},
        {"x": [[], {}]},
        [1, {"y": 2}],
    ]
    for indent in (0, 2):
        text = "\n".join(json.dumps(thing, indent=indent) for thing in things)
        assert values(read(written(tmp_path, text.encode()))) == [*things[:2], 1, {"y": 2}]
    found = read(written(tmp_path, json.dumps(things[0], indent=4).encode()))
    assert [(d.value, d.line) for d in found] == [(things[0], 1)]


@pytest.mark.parametrize(
    "layout", ["[\n{0},\n{1}\n]\n", "[\n  {0}\n  ,{1}\n]", "{0}\n{1}", "[\r\n{0},\r\n{1}]\r\n"]
)
def test_array_over_lines_is_its_elements(tmp_path: Path, layout: str) -> None:
    text = layout.replace("{0}", '{"id":"1","author_id":"2","text":"a, b"}').replace(
        "{1}", '{"id":"2"}'
    )
    found = read(written(tmp_path, text.encode()))
    assert next(piece.kind for d in found for piece in recognise(d.value)) == "page"
    assert sum(len(recognise(d.value)) for d in found) == 2


def test_array_of_pretty_objects_is_its_elements(tmp_path: Path) -> None:
    things = [{"id": str(n), "text": "t", "entities": {"urls": [{"url": "u"}]}} for n in range(5)]
    found = read(written(tmp_path, json.dumps(things, indent=2).encode()))
    assert values(found) == things
    assert [d.line for d in found] == [2 + 11 * n for n in range(5)]


@pytest.mark.parametrize(
    "broken",
    [
        b'{"data": {"id": "1", "te',
        b'{"data": {"id": "1"',
        b'{"data": {"id": "1",',
        b'{"data": [',
        b'{"data": {"id":',
        b'{"data": "1"}}',
        b"rubbish",
        b'{"a" 1}',
    ],
)
def test_broken_line_costs_only_itself(tmp_path: Path, broken: bytes) -> None:
    lines = [b'{"id":"1"}', broken, b'{"id":"2"}', b'{"id":"3"}', broken, b'{"id":"4"}', b""]
    found = read(written(tmp_path, b"\n".join(lines)))
    assert [value["id"] for value in values(found)] == ["1", "2", "3", "4"]
    assert [d.line for d in found if d.problem] == [2, 5]


def test_a_nul_near_the_beginning_costs_only_its_line(tmp_path: Path) -> None:
    """It passed for the sign of a file that is no text, and the whole of it was refused."""
    found = read(written(tmp_path, b'{"id":"1"}\n{"id":"\0"}\n{"id":"3"}\n'))
    assert values(found) == [{"id": "1"}, {"id": "3"}]
    assert [d.line for d in found if d.problem] == [2]


def test_broken_last_line_is_one_problem(tmp_path: Path) -> None:
    found = read(written(tmp_path, b'{"id":"1"}\n{"data":\n{"id":"2"\n\n\n'))
    assert [(d.line, d.problem == EMPTY) for d in found] == [
        (1, False),
        (2, False),
        (4, True),
        (5, True),
    ]


def test_lone_surrogates_and_bytes_that_are_no_utf8_lose_no_post(tmp_path: Path) -> None:
    found = read(written(tmp_path, b'{"text":"a\\ud83d"}\n{"text":"b\xff"}\n'))
    assert values(found) == [{"text": "a\ud83d"}, {"text": "b\ufffd"}]


def test_deep_nesting_is_a_problem_and_not_the_end(tmp_path: Path) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    found = read(written(tmp_path, deep + b'\n{"\\ud800":' + deep + b'}\n{"id":"1"}\n'))
    assert values(found) == [{"id": "1"}]
    assert len(problems(found)) == 2


def test_line_that_is_too_long_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "DOCUMENT_MAX_BYTES", 300_000)
    data = b'{"id":"1"}\n"' + b"x" * 700_000 + b'"\n{"id":"2"}\n"' + b"y" * 400_000 + b'"'
    found = read(written(tmp_path, data))
    assert [value["id"] for value in values(found)] == ["1", "2"]
    assert [(d.line, "longer than" in d.problem) for d in found if d.problem] == [
        (2, True),
        (4, True),
    ]
    assert found[-1].end.offset == len(data)


lines_of_any_kind = st.lists(
    st.sampled_from(
        [
            b'{"id":"1","text":"x"}',
            b"",
            b"   ",
            b"[",
            b"]",
            b'{"a":',
            b'{"a": {',
            b"}",
            b"}}",
            b'"',
            b"1",
            b"nonsense",
            b'{"a":1},',
            b'"s": 2,',
            b"[1, 2",
            b'"\\',
            b"\xff",
            b"\x00",
            b'{"b":[',
        ]
    )
    | st.binary(max_size=12),
    max_size=12,
)
quick = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


@quick
@given(lines_of_any_kind, st.sampled_from(["plain", "gzip", "zstd", "tar"]))
def test_reading_goes_on_at_any_position_as_if_it_had_never_stopped(
    tmp_path: Path, lines: list[bytes], packing: str
) -> None:
    """Also: any bytes are read to their end, without an exception, and positions only grow."""
    data = b"\n".join(lines)
    packed = tar_of({"a.json": data, "b.json": data}) if packing == "tar" else PACKED[packing](data)
    path = written(tmp_path, packed)
    found = read(path)
    ends = [document.end for document in found]
    assert ends == sorted(set(ends))
    for number, end in enumerate(ends):
        assert read(path, end) == found[number + 1 :]


@quick
@given(
    st.binary(max_size=300),
    st.sampled_from(
        [
            b"",
            b"\x1f\x8b\x08",
            b"BZh9",
            b"\xfd7zXZ\x00",
            b"\x28\xb5\x2f\xfd",
            b"\xff\xfe",
            b"PAR1",
            b"PK\x03\x04",
            b"SQLite format 3\x00",
            b"WARC/1.0\r\n",
        ]
    ),
)
def test_any_bytes_are_read_to_their_end_or_fail_with_a_sentence(
    tmp_path: Path, data: bytes, begins: bytes
) -> None:
    """Parquet fails as a whole file; everything else by line or member."""
    path = written(tmp_path, begins + data)
    if (begins + data).startswith(b"PAR1"):
        with pytest.raises(TweetcrawlerError, match="cannot be read"):
            read(path)
        return
    for document in read(path):
        assert document.problem or recognise(document.value)


def test_standard_input_is_read_while_it_trickles_and_its_silence_can_be_stopped(
    tmp_path: Path,
) -> None:
    reader, writer = os.pipe()
    stop = threading.Event()
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        with containers.documents(containers.STANDARD_INPUT, Position(), stopping=stop.is_set) as (
            documents,
            _,
        ):
            os.write(writer, gzip.compress(b'{"id":"1"}\n' * 5)[:-8])
            assert next(documents).value == {"id": "1"}
            stop.set()
            with pytest.raises(containers.Stopped):
                list(documents)
    finally:
        os.dup2(kept, 0)
        for number in (reader, writer, kept):
            os.close(number)


# --- kinds --------------------------------------------------------------------------


def test_stream_minute_is_statuses_and_control_lines_by_name() -> None:
    assert kinds(ARCHIVES / "stream_minute.jsonl") == Counter(
        {"status": 3}
        | dict.fromkeys(
            (
                "delete",
                "limit",
                "scrub geo",
                "status withheld",
                "user withheld",
                "warning",
                "disconnect",
            ),
            1,
        )
    )
    assert problems(read(ARCHIVES / "stream_minute.jsonl"))[0] == EMPTY


def test_pages_of_v2_are_told_by_what_they_hold() -> None:
    assert kinds(ARCHIVES / "twarc2_pages.jsonl") == Counter(
        ["page", "empty page", "page of users", "page of counts", "page of errors", "compliance"]
    )


def test_arrays_and_search_pages_of_v1_are_statuses() -> None:
    assert (
        kinds(ARCHIVES / "user_timeline_extended.json")
        == kinds(ARCHIVES / "search_v1.json")
        == {"status": 2}
    )


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("activity_streams.jsonl", pieces.ACTIVITY, 2),
        ("account_download.json", pieces.ACCOUNT_DOWNLOAD, 2),
    ],
)
def test_formats_that_only_look_alike_have_a_name(name: str, kind: str, count: int) -> None:
    assert kinds(ARCHIVES / name) == {kind: count}
    assert kind in pieces.REFUSED


def test_script_of_an_account_download_without_its_author_is_refused_as_one() -> None:
    assert kinds(ARCHIVES / "tweets.js") == {pieces.ACCOUNT_DOWNLOAD: 1}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"data": {"id": "1", "text": "t"}, "matching_rules": []}, "page"),
        ({"data": [{"id": "1", "text": "t"}], "includes": {"posts": []}}, "page"),
        ({"id": "1", "text": "t"}, "unknown"),
        ({"id": "1", "text": "t", "author_id": "2"}, "page"),
        ({"id": "1", "text": "t", "edit_history_post_ids": ["1"]}, "page"),
        ({"id": 1, "text": "t", "user": {}}, "unknown"),
        ({"id": 1, "text": "t", "user": {"screen_name": "a"}}, "status"),
        ({"id_str": "1", "full_text": "t"}, "status"),
        ({"results": [{"id_str": "1", "text": "t"}], "next": "x"}, "status"),
        ({"statuses": []}, "empty page"),
        ({"data": []}, "empty page"),
        ({"data": None, "errors": [{}]}, "page of errors"),
        ({"errors": [{"code": 88, "message": "m"}]}, "page of errors"),
        ({"data": [{"trend_name": "x", "tweet_count": 2}]}, "trends"),
        ({"data": [{"post_count": 3, "start": "a"}]}, "page of counts"),
        (
            {"data": [{"id": "1", "text": "hi", "event_type": "MessageCreate"}]},
            "page of direct messages",
        ),
        ({"data": {"tweet_edit": {}}}, "compliance"),
        ([{"trends": [], "locations": []}], "trends"),
        (1700000000000000001, pieces.IDS),
        (["1700000000000000001"], pieces.IDS),
        ({"id_str": "5", "screen_name": "x"}, "user"),
        ({"ids": [1], "next_cursor": 0}, "page of user ids"),
        ({"foo": 1}, "unknown"),
        ({"data": {"user": {"result": {}}}}, "unknown"),
        ({}, "unknown"),
        (None, "unknown"),
        ("word", "unknown"),
        ([], "empty list"),
        ([[1]], "unknown"),
    ],
)
def test_kind_of_a_value(value: Any, kind: str) -> None:
    assert [piece.kind for piece in recognise(value)] == [kind]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "text",
                    "data",
                    "id_str",
                    "user",
                    "statuses",
                    "results",
                    "errors",
                    "tweet",
                    "meta",
                    "delete",
                    "author",
                    "referenced_tweets",
                    "attachments",
                    "media",
                    "includes",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_value_is_something_and_what_is_a_page_can_be_flattened(value: Any) -> None:
    for piece in recognise(value):
        if piece.kind == "page":
            flatten(piece.thing)
        elif piece.kind == "unknown":
            assert piece.thing.isprintable()
    assert recognise(value)


def test_flattened_lines_of_twarc_give_the_rows_of_their_page() -> None:
    (page,) = [d.value for d in read(ARCHIVES / "twarc2_pages.jsonl")][:1]
    flat = [recognise(d.value)[0].thing for d in read(ARCHIVES / "twarc2_flattened.jsonl")]
    rows = sorted((row for each in flat for row in flatten(each).rows), key=lambda row: row["id"])
    assert rows == flatten(page).rows
    assert rows[1]["media"] == "{https://pbs.twimg.com/media/fog.jpg}"
