"""A file takes its place in one step."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tweetcrawler import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "list.txt"
    path.write_bytes(b"old")
    return path


def test_until_it_is_put_in_place_everyone_reads_the_old_file(path: Path) -> None:
    with files.replacing(path) as new:
        with new.emptied() as file:
            file.write(b"first attempt, longer")
        with new.emptied() as file:
            file.write(b"new")
        assert path.read_bytes() == b"old"
        new.put_in_place()
        assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_trace(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.replacing(path) as new, new.emptied():
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_overwritten(path: Path) -> None:
    path.with_name(".list.txt.new").write_text("torn " * 1000)
    files.replace_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_rights_are_kept_and_a_new_file_gets_the_given_ones(path: Path) -> None:
    path.chmod(0o640)
    files.replace_whole(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o640
    secret = path.with_name("secret")
    files.replace_whole(secret, b"s", mode=0o600)
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    files.replace_whole(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


def test_another_writer_is_refused_or_waited_for(path: Path) -> None:
    asked: list[int] = []
    leave = threading.Event()

    def waits() -> bool:
        asked.append(1)
        leave.set()
        return True

    def hold(held: threading.Event) -> None:
        with files.replacing(path) as new:
            held.set()
            leave.wait(60)
            with new.emptied() as file:
                file.write(b"theirs")
            new.put_in_place()

    held = threading.Event()
    other = threading.Thread(target=hold, args=[held])
    other.start()
    held.wait(60)
    with pytest.raises(files.Taken) as taken, files.replacing(path):
        pass
    assert taken.value.strerror == "another process is writing it"
    with files.replacing(path, waits=waits) as new:
        assert path.read_bytes() == b"theirs"
        with new.emptied() as file:
            file.write(b"ours")
        new.put_in_place()
    other.join()
    assert asked
    assert path.read_bytes() == b"ours"


def test_a_killed_writer_is_no_obstacle(path: Path) -> None:
    code = (
        "import os, sys, pathlib; from tweetcrawler import files\n"
        "with files.replacing(pathlib.Path(sys.argv[1])) as new, new.emptied() as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"
    files.replace_whole(path, b"new")
    assert path.read_bytes() == b"new"
