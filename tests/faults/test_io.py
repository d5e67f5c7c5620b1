"""Any change of a file fails, kills, or is lost with the machine: what is left is whole."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k F9_` is that fault

from __future__ import annotations

import errno
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from crawls import PROGRAM, Crawler, truth
from csv_walks import AFTERWARDS, begin
from databases import server_folder
from sandbox_server import Sandbox
from test_csvfiles import read

from faults import io_walk
from faults.io_shim import CRASHED, HALF, KILLED, Change, Disk, Shim, states
from tweetcrawler.csvfiles import CsvFolder
from tweetcrawler.local import embedded

ERRORS = (errno.ENOSPC, errno.EIO)
HANDLES = [f"writer_{n}" for n in range(3)]
# Each state is brought to disk several times, which takes its time on a busy one.
LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "20-60") as running:
        yield running


def walk_under(shim: Shim, **injected: Any) -> int:
    """Walks in a process under the shim; gives its exit code."""
    command = [sys.executable, io_walk.__file__, str(shim.folder)]
    environ = shim.environ(**injected) | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    return done.returncode


def is_whole(folder: Path, safe: set[int]) -> bool:
    """Whether a folder has all rows that are safe, also after the walk has gone on."""
    file = folder / "ada.csv"
    if file.exists():
        read(file)
    with CsvFolder(folder).session() as session:
        begin(session)
    kept = {int(cells["id"]) for cells in read(file)} if file.exists() else set()
    list(io_walk.walk(folder))
    rows = [(int(cells["id"]), int(cells["favorite_count"])) for cells in read(file)]
    return safe <= kept and rows == AFTERWARDS


def csv_files_are_whole(scratch: Path, hows: Sequence[str], every: int) -> tuple[int, int]:
    """The number of states that were looked at, and of those that were not whole."""
    (scratch / "out").mkdir()
    shim = Shim(scratch, scratch / "out")
    assert walk_under(shim) == 0
    changes, looked, torn = shim.changes(), 0, 0
    assert len(changes) > 50
    assert {change.kind for change in changes} >= set("cwsdru")
    steps = list(io_walk.walk(scratch / "other"))
    for number, how, folder in states(changes, Disk(), hows=hows, every=every):
        marks = sum(c.path.startswith("safe-") for c in changes[:number])
        if not is_whole(folder, steps[marks - 1] if marks else set()):
            print(f"change {number}, {how}: not whole")
            torn += 1
        looked += 1
    return looked, torn


def test_F9_csv_files_are_whole_whatever_is_lost_with_the_machine(
    tmp_path: Path, measure: Any
) -> None:
    looked, torn = csv_files_are_whole(tmp_path, (KILLED, CRASHED, HALF), every=9)
    measure("states looked at", looked, at_least=30)
    measure("states that were torn or lacked a row", torn, at_most=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_F9_csv_files_are_whole_after_every_change(tmp_path: Path, measure: Any) -> None:
    looked, torn = csv_files_are_whole(tmp_path, (KILLED, CRASHED, *[HALF] * 5), every=1)
    measure("states looked at", looked, at_least=500)
    measure("states that were torn or lacked a row", torn, at_most=0)


def numbers(count: int, some: int | None) -> list[int]:
    """Every number up to a count, or some of them by chance."""
    every = list(range(1, count + 1))
    return every if some is None else sorted(random.Random("io").sample(every, min(some, count)))


@pytest.mark.parametrize("some", [4, pytest.param(None, marks=LONG)])
def test_F9_csv_files_are_whole_after_any_failure_of_the_disk(
    tmp_path: Path, measure: Any, some: int | None
) -> None:
    (tmp_path / "count").mkdir()
    shim = Shim(tmp_path, tmp_path / "count")
    walk_under(shim)
    torn = failed = 0
    for number in numbers(shim.count, some):
        for error in ERRORS if some is None else (ERRORS[number % 2],):
            shim.folder = tmp_path / f"{number}-{error}"
            shim.folder.mkdir()
            failed += walk_under(shim, at=number, error=error) != 0
            torn += not is_whole(shim.folder, set())
    measure("walks that a failure ended", failed, at_least=1)
    measure("files that were torn or lacked a row", torn, at_most=0)


# -- through the door ----------------------------------------------------------------


def run_under(
    crawler: Crawler, shim: Shim, *arguments: str, **injected: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "-c", "tweet.ini", *arguments],
        cwd=crawler.folder,
        env=shim.environ(only="python", **injected),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("some", [2, pytest.param(40, marks=LONG)])
def test_F9_a_crawl_says_a_failure_of_the_disk_in_a_line_and_goes_on(
    sandbox: Sandbox, tmp_path: Path, measure: Any, some: int
) -> None:
    wanted = truth(sandbox, HANDLES)
    folder = tmp_path / "out"
    folder.mkdir()
    shim = Shim(tmp_path, folder)
    crawler = Crawler.on(
        sandbox, tmp_path / "first", None, HANDLES, threads=1, settings=f"CSVFolder = {folder}"
    )
    assert run_under(crawler, shim).returncode == 0
    tracebacks = missing = 0
    for number in numbers(shim.count, some):
        shim.folder = tmp_path / f"out{number}"
        shim.folder.mkdir()
        settings = f"CSVFolder = {shim.folder}"
        again = Crawler.on(
            sandbox, tmp_path / f"crawl{number}", None, HANDLES, threads=1, settings=settings
        )
        done = run_under(again, shim, at=number, error=ERRORS[number % 2])
        tracebacks += "Traceback" in done.stderr + done.stdout
        again.run()
        rows = {int(row["id"]) for handle in HANDLES for row in read(shim.folder / f"{handle}.csv")}
        missing += len(set(wanted) ^ rows)
    measure("tracebacks", tracebacks, at_most=0)
    measure("posts missing after the next run", missing, at_most=0)


@pytest.fixture
def exported(sandbox: Sandbox, dsn: str, tmp_path: Path) -> Crawler:
    """A crawler with rows, and an older export in its folder."""
    crawler = Crawler.on(sandbox, tmp_path / "crawl", dsn, HANDLES)
    crawler.run()
    (crawler.folder / "out").mkdir()
    (crawler.folder / "out" / "posts.csv").write_bytes(b"older\r\n")
    return crawler


def export_under(crawler: Crawler, shim: Shim, **injected: Any) -> Any:
    return run_under(crawler, shim, "export", "out/posts.csv", **injected)


@pytest.mark.parametrize("some", [2, pytest.param(None, marks=LONG)])
def test_F9_an_export_is_the_old_file_or_the_new_one(
    exported: Crawler, tmp_path: Path, measure: Any, some: int | None
) -> None:
    out = exported.folder / "out"
    file, old = out / "posts.csv", b"older\r\n"
    shim, before = Shim(tmp_path, out), Disk(out)
    assert export_under(exported, shim).returncode == 0
    new = file.read_bytes()
    assert len(new) > 1000
    torn = looked = 0
    changes: list[Change] = shim.changes()
    for _, _, folder in states(changes, before, hows=(KILLED, CRASHED, HALF, HALF), every=1):
        looked += 1
        torn += (folder / "posts.csv").read_bytes() not in (old, new)
    measure("states of an export looked at", looked, at_least=12)
    measure("exports that a kill or a crash tore", torn, at_most=0)
    said = wrong = 0
    for number in numbers(len(changes), some):
        file.write_bytes(old)
        done = export_under(exported, shim, at=number, error=errno.ENOSPC)
        # A folder that cannot be synced holds the new file all the same.
        wrong += file.read_bytes() not in ((old, new) if done.returncode else (new,))
        said += _is_said(done)
    measure("exports that a full disk tore", wrong, at_most=0)
    measure("failures said in a line", said, at_least=len(numbers(len(changes), some)))


def _is_said(done: subprocess.CompletedProcess[str]) -> bool:
    print(done.returncode, done.stderr)
    return done.returncode == 0 or (
        "no space left" in done.stderr.lower() and len(done.stderr.strip().splitlines()) == 1
    )


def test_F9_a_list_of_handles_is_the_old_one_or_the_new_one(tmp_path: Path, measure: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "handles.txt").write_text("ada\ngrace\n")
    shim, before = Shim(tmp_path, out), Disk(out)
    program = (
        "import sys\nfrom pathlib import Path\nfrom tweetcrawler.settings import handles\n"
        "found = [f'next_{n}' for n in range(500)]\n"
        "handles.replace_handles(Path(sys.argv[1]), found, level=1, by='retweets')\n"
    )
    command = [sys.executable, "-c", program, str(out / "handles.txt")]
    subprocess.run(command, env=shim.environ(), check=True)
    new = (out / "handles.txt").read_bytes()
    torn = lost = looked = 0
    for _, _, folder in states(shim.changes(), before, hows=(KILLED, CRASHED, HALF, HALF), every=1):
        looked += 1
        left = (folder / "handles.txt").read_bytes()
        torn += left not in (b"ada\ngrace\n", new)
        copy = folder / "handles.txt.bk"
        # The old list is never only in memory.
        lost += left == new and not (copy.exists() and b"ada\ngrace\n" in copy.read_bytes())
    measure("states of a list looked at", looked, at_least=16)
    measure("lists that were torn", torn, at_most=0)
    measure("old lists that were lost", lost, at_most=0)


@pytest.mark.parametrize("some", [1, pytest.param(None, marks=LONG)])
def test_F9_the_private_server_starts_after_any_failure_of_its_first_start(
    tmp_path: Path, measure: Any, some: int | None
) -> None:
    shim = Shim(tmp_path, tmp_path)
    tracebacks = dead = 0
    assert not started_under(shim, tmp_path / "count")[0]
    for number in numbers(shim.count, some):
        for error in (errno.ENOSPC,) if some else (errno.ENOSPC, 0):
            code, stderr = started_under(
                shim, tmp_path / f"{number}-{error}", at=number, error=error
            )
            tracebacks += "Traceback" in stderr
            dead += code != 0
    measure("tracebacks", tracebacks, at_most=0)
    measure("servers that did not start afterwards", dead, at_most=0)


def started_under(shim: Shim, folder: Path, **injected: Any) -> tuple[int, str]:
    """Starts a private server under the shim, then without it: the exit code of that, and what
    both said.
    """
    with server_folder() as data:
        crawler = Crawler(folder, settings=f"dataFolder = {data / 'data'}")
        shim.folder = data
        try:
            done = run_under(crawler, shim, "db", "start", **injected)
            again = crawler.run("db", "start", expect=(0, 1, 2, 3))
            print(injected, done.returncode, done.stderr, again.returncode, again.stderr)
            return again.returncode, done.stderr + again.stderr
        finally:
            embedded.Server(data / "data").stop_now()
            embedded.Server(data / "data").stop()
