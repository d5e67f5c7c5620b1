"""CSV files that take no rows: what is bought waits for them, and nothing is bought again."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k D22_` is that fault

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crawls import Crawler, ended, truth, wait_until
from sandbox_server import Sandbox

from faults.machine import SmallDisk
from faults.test_api import TIMELINE, bought_twice

WRITERS = [f"writer_{n}" for n in range(6)]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "40-80") as running:
        yield running


def sold(sandbox: Sandbox) -> int:
    return int(sandbox.books()["posts_sold"])


def rows_in(folder: Path) -> dict[str, list[int]]:
    found = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            found[path.stem] = [int(row[0]) for row in list(csv.reader(file))[1:]]
    return found


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Makes files that nobody can replace, not even the superuser."""
    made: list[Path] = []

    def refuse(file: Path) -> None:
        if subprocess.run(["chattr", "+i", str(file)], capture_output=True).returncode:
            pytest.skip("no file can be protected here")
        made.append(file)

    yield refuse
    for file in made:
        subprocess.run(["chattr", "-i", str(file)], check=True)


def test_D22_a_csv_file_that_takes_no_rows_is_one_users_trouble(
    sandbox: Sandbox, tmp_path: Path, measure: Any, refusing: Callable[[Path], None]
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, WRITERS, settings="CSVFolder = tweets")
    crawler.run()
    folder = tmp_path / "tweets"
    broken = folder / f"{WRITERS[1]}.csv"
    refusing(broken)
    before, bought = broken.read_bytes(), sold(sandbox)
    for handle in WRITERS:
        sandbox.control("POST", "/sandbox/world", {"user": handle, "add_posts": 3, "age_s": 120})
    done = crawler.run(expect=1)
    assert f"{WRITERS[1]}.csv cannot be written" in done.stdout
    measure("posts bought beside a file that takes none", sold(sandbox) - bought, at_most=18)
    others = [handle for handle in WRITERS if handle != WRITERS[1]]
    stored = rows_in(folder)
    assert {h: stored[h] for h in others} == {h: truth(sandbox, [h])[::-1] for h in others}
    assert broken.read_bytes() == before
    assert "cannot be written" in crawler.run(expect=1).stdout  # they wait still
    subprocess.run(["chattr", "-i", str(broken)], check=True)
    crawler.run()
    measure("posts bought again", sold(sandbox) - bought - 18, at_most=0)
    lost = set(truth(sandbox, WRITERS)) ^ {i for ids in rows_in(folder).values() for i in ids}
    measure("posts missing", len(lost), at_most=0)


def test_D22_a_folder_of_files_that_take_no_rows_ends_the_run_before_it_costs(
    sandbox: Sandbox, tmp_path: Path, measure: Any, refusing: Callable[[Path], None]
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, WRITERS, settings="CSVFolder = tweets")
    crawler.run()
    for handle in WRITERS:
        refusing(tmp_path / "tweets" / f"{handle}.csv")
        sandbox.control("POST", "/sandbox/world", {"user": handle, "add_posts": 3, "age_s": 120})
    said = crawler.run(expect=3).stdout
    assert "5 files of" in said
    bought = sold(sandbox)
    assert "take no rows" in crawler.run(expect=3).stderr
    measure("posts bought by the next run", sold(sandbox) - bought, at_most=0)


@pytest.mark.parametrize("small_disk", [16], indirect=True)
def test_D22_pages_under_way_on_a_full_disk_are_kept(
    small_disk: SmallDisk, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, WRITERS)
    sandbox.fault("delay", delay_s=0.2, for_s=600, endpoint=TIMELINE)
    (small_disk.folder / "csv").mkdir()
    arguments = ("--csv", "--folder", str(small_disk.folder / "csv"))
    process = crawler.start(*arguments)
    wait_until(lambda: sold(sandbox) > 0, what="a crawl under way")
    small_disk.fill()
    ended(process, expect=3)
    for _ in range(2):  # the room that was kept is used once; perhaps it is enough for the rest
        crawler.run(*arguments, expect=(0, 3))
    small_disk.free()
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run(*arguments)
    measure("posts bought twice", bought_twice(sandbox.books()), at_most=0)
    stored = [i for ids in rows_in(small_disk.folder / "csv").values() for i in ids]
    measure("posts missing", len(set(truth(sandbox, WRITERS)) ^ set(stored)), at_most=0)
