"""Which lines of a file of handles are handles, and what reading a million of them costs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.handles import _digest, _Seen, count_lines, read_handles

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("handles")


def read(folder: Path, content: str | bytes) -> tuple[list[str], list[tuple[int, str]]]:
    """The handles of a file with this content, and what was said of its bad lines."""
    path = folder / "handles.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    bad: list[tuple[int, str]] = []
    return list(read_handles(path, on_bad=lambda line, reason: bad.append((line, reason)))), bad


# --- what is a handle ---------------------------------------------------------------

HANDLE = st.from_regex(r"[A-Za-z0-9_]{1,15}", fullmatch=True)
FORMS = st.sampled_from(
    [
        "{}",
        "@{}",
        "  {}\t",
        "{} # a note",
        "{}#note",
        "@{} ",
        "https://x.com/{}",
        "https://x.com/{}/",
        "x.com/{}",
        "http://twitter.com/{}",
        "https://www.twitter.com/{}",
        "https://mobile.twitter.com/{}?lang=en",
        "HTTPS://Twitter.COM/{}/?s=20&t=x",
        "www.x.com/@{}",
        "https://x.com/{}#top",
    ]
)
RESERVED = {
    "about",
    "account",
    "compose",
    "download",
    "explore",
    "hashtag",
    "home",
    "i",
    "intent",
    "jobs",
    "login",
    "logout",
    "messages",
    "notifications",
    "oauth",
    "privacy",
    "search",
    "settings",
    "share",
    "signup",
    "tos",
}


@given(
    lines=st.lists(st.tuples(HANDLE.filter(lambda handle: handle.lower() not in RESERVED), FORMS)),
    ending=st.sampled_from(["\n", "\r\n", "\n\n", "\n# comment\n", " \n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    end=st.booleans(),
)
def test_every_form_of_a_handle_gives_it_folded_once_and_in_order(
    folder: Path, lines: list[tuple[str, str]], ending: str, mark: str, end: bool
) -> None:
    text = (
        mark + ending.join(form.format(handle) for handle, form in lines) + (ending if end else "")
    )
    expected = list(dict.fromkeys(handle.lower() for handle, _ in lines))
    assert read(folder, text) == (expected, [])


def test_empty_file_has_no_handles(tmp_path: Path) -> None:
    for content in ("", "\n", "\ufeff", "# only a comment", "\r\n\r\n"):
        assert read(tmp_path, content) == ([], [])


# --- what is not --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sixteen_letters_", "'sixteen_letters_' is not a handle (1 to 15 letters, digits and _)"),
        ("two words", "'two words' is not a handle (1 to 15 letters, digits and _)"),
        ("@", "'@' is not a handle (1 to 15 letters, digits and _)"),
        ("@@a", "'@@a' is not a handle (1 to 15 letters, digits and _)"),
        ("a,b", "'a,b' is not a handle (1 to 15 letters, digits and _)"),
        ("../../etc/x", "'../../etc/x' is not a handle (1 to 15 letters, digits and _)"),
        ("naïve", r"'na\xefve' is not a handle (1 to 15 letters, digits and _)"),
        ("\u202eabc", r"'\u202eabc' is not a handle (1 to 15 letters, digits and _)"),
        ("😀", r"'\U0001f600' is not a handle (1 to 15 letters, digits and _)"),
        ("a\x1b[31m", r"'a\x1b[31m' is not a handle (1 to 15 letters, digits and _)"),
        ("a\0b", r"'a\x00b' is not a handle (1 to 15 letters, digits and _)"),
        ("\u0661\u0662", r"'\u0661\u0662' is not a handle (1 to 15 letters, digits and _)"),
        ("\u212aelvin", r"'\u212aelvin' is not a handle (1 to 15 letters, digits and _)"),
        ("x.com/\u212aelvin", r"'x.com/\u212aelvin' is not the address of a profile"),
        ("https://x.com/home", "'https://x.com/home' is not the address of a profile"),
        ("https://x.com/I/flow", "'https://x.com/I/flow' is not the address of a profile"),
        ("x.com/search?q=a", "'x.com/search?q=a' is not the address of a profile"),
        ("twitter.com/hashtag/a", "'twitter.com/hashtag/a' is not the address of a profile"),
        ("https://x.com/a/status/1", "'https://x.com/a/status/1' is not the address of a profile"),
        ("https://x.com", "'https://x.com' is not the address of a profile"),
        (
            "https://notx.com/a",
            "'https://notx.com/a' is not a handle (1 to 15 letters, digits and _)",
        ),
        (
            "https://x.com.evil.org/a",
            "'https://x.com.evil.org/a' is not a handle (1 to 15 letters, digits and _)",
        ),
        ("y" * 300, f"'{'y' * 40}'... is not a handle (1 to 15 letters, digits and _)"),
    ],
)
def test_line_that_cannot_be_a_handle_is_reported_and_passed_over(
    tmp_path: Path, line: str, reason: str
) -> None:
    assert read(tmp_path, f"first\n\n{line}\nlast\n") == (["first", "last"], [(3, reason)])


def test_name_that_is_a_path_of_the_site_is_a_handle_when_it_stands_alone(tmp_path: Path) -> None:
    assert read(tmp_path, "search\n@Home\n") == (["search", "home"], [])


def test_bytes_that_are_no_text_are_reported_and_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, b"a\n\xff\xff\nb\n") == (
        ["a", "b"],
        [(2, "the line is no text in UTF-8")],
    )


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001, 20_000, 20_001, 1_000_000])
@pytest.mark.parametrize("ending", ["\nlast\n", "\r\nlast", ""])
def test_endless_line_is_one_line_and_is_not_held(tmp_path: Path, length: int, ending: str) -> None:
    handles, bad = read(tmp_path, "first\n" + "z" * length + ending)
    assert handles == (["first", "last"] if ending else ["first"])
    ((line, reason),) = bad
    assert line == 2
    assert reason == "the line is longer than 10,000 bytes" or length == 9_999
    assert len(reason) < 120


@given(st.binary(max_size=300))
def test_any_bytes_give_handles_and_reasons_and_nothing_else(folder: Path, content: bytes) -> None:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    handles, bad = read(folder, content)
    assert all(
        handle.isascii() and handle == handle.lower() and 1 <= len(handle) <= 15
        for handle in handles
    )
    assert all(reason.isascii() and reason.isprintable() for _, reason in bad)
    count = count_lines(folder / "handles.txt")
    assert count is not None
    assert len(handles) <= count


# --- the file -----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_with_a_sentence(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ConfigurationError, match="is UTF-16; save it as UTF-8"):
        read(tmp_path, "\ufeffname\n".encode(encoding))


def test_file_that_cannot_be_read_is_refused_at_the_call(tmp_path: Path) -> None:
    for wrong, sentence in (
        (tmp_path / "none.txt", "is not there; write one handle a line"),
        (tmp_path, "is a folder; name the file in it"),
    ):
        with pytest.raises(ConfigurationError, match=sentence) as caught:
            read_handles(wrong, on_bad=print)
        assert caught.value.exit_code == 2
        with pytest.raises(ConfigurationError, match=sentence):
            count_lines(wrong)


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ("", 0),
        ("a", 1),
        ("a\n", 1),
        ("a\nb", 2),
        ("\n \n# a\n", 0),
        ("\r\n\t# x\r\n a #b\r\n\v\f\n", 1),
        ("a\n" * 3_000_000 + "x", 3_000_001),
    ],
)
def test_lines_that_may_hold_a_handle_are_counted(tmp_path: Path, content: str, count: int) -> None:
    path = tmp_path / "handles.txt"
    path.write_text(content)
    assert count_lines(path) == count


@pytest.mark.timeout(20)
def test_a_pipe_is_read_once_and_not_counted(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("@Ada\n",), daemon=True)
    writer.start()
    assert count_lines(pipe) is None
    assert list(read_handles(pipe, on_bad=print)) == ["ada"]
    writer.join(10)


@pytest.mark.timeout(20)
def test_the_lines_of_a_pipe_are_taken_as_they_come(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    go_on = threading.Event()

    def write() -> None:
        with pipe.open("w", buffering=1) as file:
            file.write("ada\nb")
            go_on.wait(10)
            file.write("ob\n")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    handles = read_handles(pipe, on_bad=print)
    assert next(handles) == "ada"
    go_on.set()
    assert list(handles) == ["bob"]
    writer.join(10)


def test_repeated_handles_are_dropped_however_far_apart(tmp_path: Path) -> None:
    """More of them than the first sizes of the table hold, against a plain set."""
    drawn = random.Random(7)
    names = [f"{drawn.choice('aAbB')}{drawn.randrange(9000)}" for _ in range(30_000)]
    handles, bad = read(tmp_path, "\n".join(names))
    expected = list(dict.fromkeys(name.lower() for name in names))
    assert (handles, bad) == (expected, [])
    # As on a machine of 32 bits, where Python's own digests would be too short.
    assert _Seen(_digest).fresh([name.lower() for name in names]) == expected


def test_a_million_lines_are_streamed(tmp_path: Path) -> None:
    path = tmp_path / "handles.txt"
    with path.open("w") as file:
        file.writelines(f"@User_{number:07d}\r\n" for number in range(1_000_000))
        file.write("user_0000000\n")
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "from tweetcrawler.settings.handles import read_handles\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "handles = read_handles(Path(sys.argv[1]), on_bad=print)\n"
        "before, begin = peak(), time.process_time()\n"
        "count = sum(1 for _ in handles)\n"
        "unit = 1024 if sys.platform == 'darwin' else 1\n"
        "print(count, time.process_time() - begin, (peak() - before) / unit)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    count, took_s, grown_kb = done.stdout.split()
    assert int(count) == 1_000_000
    assert float(took_s) < 5
    assert float(grown_kb) < 60_000
