"""What a newcomer does first: the demo, the installed package, the two commands of the README."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import server_folder

ROOT = Path(__file__).parent.parent


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with server_folder() as folder:
        yield folder


def clean_environment() -> dict[str, str]:
    return {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("TWEETCRAWLER_", "PYTHON", "VIRTUAL_ENV"))
    }


def shows_the_main_job(printed: str) -> None:
    assert re.search(r"│ done +│ +30 │", printed)
    assert "@protected_diary: protected" in printed
    assert len(re.findall(r"SELECT .*\n", printed)) >= 3
    counts = re.search(r"([\d,]+) new rows, 0 updated; ([\d,]+) posts", printed)
    assert counts
    assert counts[1] == counts[2] != "0"
    assert "tweet.ini" in printed


def test_the_demo_answers_three_queries_and_kept_it_buys_nothing_twice(open_folder: Path) -> None:
    command = [sys.executable, "-m", "tweetcrawler", "demo", "--keep", str(open_folder / "demo")]
    first, again = (
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=clean_environment(),
        )
        for _ in range(2)
    )
    for done in (first, again):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    shows_the_main_job(first.stdout)
    assert "\n0 new rows, 0 updated; 0 posts" in again.stdout
    # The lines that it prints at its end, typed as they are.
    cd, server, crawl, _ = re.findall(r"^  (\S.*?)(?:  +#.*)?$", again.stdout, re.MULTILINE)[-4:]
    assert cd == f"cd {open_folder / 'demo'}"
    at_end = again_by(shlex.split(server), shlex.split(crawl), open_folder / "demo")
    assert "\n0 new rows, 0 updated; 0 posts" in at_end


def again_by(server: list[str], crawl: list[str], folder: Path) -> str:
    """The output of a crawl beside a sandbox, in a folder."""
    environment = clean_environment()
    with subprocess.Popen(
        server, stdout=subprocess.PIPE, cwd=folder, text=True, env=environment
    ) as sandbox:
        assert sandbox.stdout is not None
        assert sandbox.stdout.readline().startswith("sandbox listens on ")
        done = subprocess.run(
            crawl, capture_output=True, check=False, cwd=folder, text=True, env=environment
        )
        sandbox.terminate()
    return done.stdout + done.stderr


def test_the_wheel_works_in_a_clean_environment(open_folder: Path) -> None:
    """Migrations, the demo's files and the extras come with the package.

    Nothing is taken from the checkout.
    """
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(open_folder),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    [wheel] = open_folder.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(open_folder / "venv")], check=True
    )
    programs = open_folder / "venv" / "bin"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            programs / "python",
            "install",
            "--quiet",
            "--no-compile",
            f"{wheel}[embedded,sandbox]",
        ],
        check=True,
    )
    for place in ("bash-completion/completions/tweetcrawler", "man/man1/tweetcrawler.1"):
        assert (open_folder / "venv" / "share" / place).is_file()
    program = programs / "tweetcrawler"
    environment = clean_environment() | {"TWEETCRAWLER_DATAFOLDER": str(open_folder / "data")}
    upgraded = subprocess.run(
        [program, "db", "upgrade"],
        cwd=open_folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert upgraded.returncode == 0, upgraded.stderr
    done = subprocess.run(
        [program, "demo"],
        cwd=open_folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shows_the_main_job(done.stdout)
