"""twarc2, unchanged, in an environment of its own.

It reaches the sandbox through an adapter that a wrapper mounts.
"""

from __future__ import annotations

import subprocess
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks import stage
from benchmarks.stage import POSTS_OF_A_USER, Cost, Sandbox
from tweetcrawler.export.twarc import NEWER_FIELDS

HOME = Path(tempfile.gettempdir()) / "tweetcrawler-bench-twarc"
_WRAPPER = """\
import os, sys, requests
from requests.adapters import HTTPAdapter
class Elsewhere(HTTPAdapter):
    def send(self, request, **more):
        for host in ("https://api.twitter.com", "https://api.x.com"):
            request.url = request.url.replace(host, os.environ["SANDBOX_URL"])
        return super().send(request, **more)
mount = requests.Session.mount
def mounted(session, prefix, adapter):
    mount(session, prefix, Elsewhere() if prefix == "https://" else adapter)
requests.Session.mount = mounted
from twarc.command2 import twarc2
sys.argv[0] = "twarc2"
twarc2()
"""


def installed() -> bool:
    """Whether an earlier run installed it."""
    return (HOME / "ready").exists()


def install() -> Path:
    """The environment's Python."""
    if not installed():
        venv.create(HOME, with_pip=True)
        wanted = ["twarc>=2.14,<3", "twarc-csv>=0.7,<1", "pandas<3"]
        subprocess.run([HOME / "bin/python", "-m", "pip", "install", "-q", *wanted], check=True)
        (HOME / "wrapper.py").write_text(_WRAPPER)
        (HOME / "ready").touch()
    return HOME / "bin/python"


def csv_command(pages: Path, made: Path) -> list[str | Path]:
    """The command that makes a CSV file of pages.

    Columns that twarc2 does not know would cost it whole batches.
    """
    return [
        install().parent / "twarc2",
        "--bearer-token",
        "unused",
        "csv",
        "--hide-progress",
        "--extra-input-columns",
        ",".join(NEWER_FIELDS),
        pages,
        made,
    ]


def timelines(sandbox: Sandbox, names: Sequence[str], folder: Path) -> tuple[int, Cost]:
    """How many posts `twarc2 timelines` wrote as JSONL, and what it cost."""
    (folder / "names.txt").write_text("\n".join(names) + "\n")
    cost = stage.run(
        [
            install(),
            HOME / "wrapper.py",
            "--bearer-token",
            stage.bearer(sandbox.auth_csv),
            "timelines",
            "--hide-progress",
            "names.txt",
            "out.jsonl",
        ],
        folder=folder,
        environ={"HOME": str(folder), "SANDBOX_URL": sandbox.url},
        sandbox=sandbox,
    )
    with (folder / "out.jsonl").open("rb") as lines:
        pages = sum(1 for _ in lines)
    if pages * 100 != len(names) * POSTS_OF_A_USER:
        raise RuntimeError(f"twarc2 wrote {pages} pages for {len(names)} users")
    return pages * 100, cost
