"""The command `python -m benchmarks [NAME ...] [--full]`.

Runs measurements, prints them as tables and keeps them as JSON.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import figures, stage

NAMES = {
    "start": "benchmarks.start",
    "windows": "benchmarks.window_use",
    "crawl": "benchmarks.crawl_speed",
    "recrawl": "benchmarks.recrawl",
    "memory": "benchmarks.memory",
    "import": "benchmarks.import_speed",
    "growth": "benchmarks.growth",
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Runs the chosen measurements, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--full", action="store_true", help="the big sizes and the peers; takes an hour and more"
    )
    given = parser.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no measurement {', '.join(unknown)}; there are {', '.join(NAMES)}")
    # As `pip install` does: where the environment forbids to write byte code, each start
    # would make it anew.
    compileall.compile_dir(Path(__file__).parent.parent / "tweetcrawler", quiet=2)
    with stage.postgres() as server:
        for name in given.names or NAMES:
            begun = time.perf_counter()
            tables = importlib.import_module(NAMES[name]).measure(server, full=given.full)
            about = _about(full=given.full) | {"seconds": round(time.perf_counter() - begun)}
            figures.keep(RESULTS, tables, about)
            for table in tables:
                sys.stdout.write(table.shown() + "\n")
                sys.stdout.flush()


def _about(*, full: bool) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "full": full,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
