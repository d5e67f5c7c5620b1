"""Shared by all tests of faults.

Figures, tools of the machine, servers that may be broken, a search for secrets.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from busy import contention
from crawls import kill_tree
from databases import server_folder
from sandbox_server import Sandbox

from faults.haystack import SECRET_COLUMNS, Haystack
from faults.machine import OwnServer, SmallDisk, lacking, need
from faults.promises import Figure, Figures, fault_of

FIGURES = Figures()
SEARCHED = {"bytes": 0, "outputs": 0, "secrets": 0, "hits": 0}


# -- figures -------------------------------------------------------------------------


class Measure:
    """Notes a figure of the running test's fault, and fails the test when it breaks its bound."""

    def __init__(self, fault: str, noted: list[tuple[str, object]]) -> None:
        self._fault = fault
        self._noted = noted

    def __call__(
        self,
        what: str,
        value: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        kept = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        self._note(what, value, _bounds(at_most, at_least), kept)

    def seconds(
        self, what: str, value: float, *, at_most: float, at_least: float | None = None
    ) -> None:
        """A duration by the clock on the wall.

        It is promised of an idle machine; on a busy one everything takes longer, so may this.
        """
        bounds = _bounds(at_most, at_least)
        kept = at_least is None or value >= at_least
        if value > at_most:
            slower = contention()
            bounds.append(f"{slower:.1f} times that on a machine so busy")
            kept = kept and value <= at_most * slower
        self._note(what, value, bounds, kept)

    def _note(self, what: str, value: float, bounds: list[str], kept: bool) -> None:
        shown = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
        self._noted.append(("figure", (self._fault, what, shown, " and ".join(bounds), kept)))
        print(f"{self._fault}: {what}: {shown} (promised {' and '.join(bounds)})")
        assert kept, f"{self._fault}: {what} is {shown}, promised {' and '.join(bounds)}"


def _bounds(at_most: float | None, at_least: float | None) -> list[str]:
    bounds = [f"<= {at_most:g}"] if at_most is not None else []
    return bounds + ([f">= {at_least:g}"] if at_least is not None else [])


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    return Measure(fault_of(request.node.originalname), request.node.user_properties)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # Reports come from wherever the tests run, other processes too.
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == "figure":
                assert isinstance(value, (list, tuple))
                FIGURES.measured.append(Figure(*value))
            elif name == "searched":
                assert isinstance(value, dict)
                for key, count in value.items():
                    SEARCHED[key] += count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not FIGURES.measured or not os.environ.get("TWEETCRAWLER_FIGURES"):
        return
    terminalreporter.section("faults and what was promised of them")
    for line in FIGURES.table():
        terminalreporter.write_line(line)
    terminalreporter.write_line(
        f"S1  searched {SEARCHED['bytes'] / 1e6:,.1f} MB of {SEARCHED['outputs']:,} outputs, files "
        f"and databases for {SEARCHED['secrets']:,} secrets: {SEARCHED['hits']} hits"
    )


# -- the machine ---------------------------------------------------------------------


@pytest.fixture
def faketime() -> str:
    """The library that shows a program another time."""
    need("faketime")
    found = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if found is None:
        lacking("libfaketime.so.1 is not where Debian puts it")
    return str(found)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    """A tmpfs of `megabytes` (its parameter, 4 without one)."""
    if os.geteuid() != 0:
        lacking("only root may mount a tmpfs")
    need("mount")
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    size = getattr(request, "param", 4)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=755", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        folder.rmdir()
        lacking(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


@pytest.fixture
def own_server(new_cluster: Path) -> Iterator[OwnServer]:
    with server_folder() as folder:
        subprocess.run(["cp", "-a", new_cluster, folder / "data"], check=True)
        server = OwnServer(folder / "data")
        try:
            yield server
        finally:
            server.close()


# -- the search for secrets ----------------------------------------------------------


@pytest.fixture
def haystack() -> Haystack:
    return Haystack()


@pytest.fixture(autouse=True)
def no_secret_leaks(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, haystack: Haystack
) -> Iterator[None]:
    """Whatever a test here does, no secret of its sandboxes appears in anything that came out."""
    names = [name for name in ("dsn", "tmp_path") if name in request.fixturenames]
    places = {name: request.getfixturevalue(name) for name in names}
    communicate, entered = subprocess.Popen.communicate, Sandbox.__enter__

    def recorded(process: Any, *arguments: Any, **more: Any) -> tuple[Any, Any]:
        out, err = communicate(process, *arguments, **more)
        for kind, text in (("stdout", out), ("stderr", err)):
            if text:
                haystack.add(f"{kind} of {process.args}", text)
        return out, err

    def entering(sandbox: Sandbox) -> Sandbox:
        entered(sandbox)
        haystack.secrets |= {
            row[c].encode() for row in sandbox.credentials for c in SECRET_COLUMNS if row.get(c)
        }
        return sandbox

    started: list[Any] = []
    begin = subprocess.Popen.__init__

    def beginning(process: Any, *arguments: Any, **more: Any) -> None:
        begin(process, *arguments, **more)
        started.append(process)

    monkeypatch.setattr(subprocess.Popen, "__init__", beginning)
    monkeypatch.setattr(subprocess.Popen, "communicate", recorded)
    monkeypatch.setattr(Sandbox, "__enter__", entering)
    yield
    for process in started:  # of a test that failed
        if process.poll() is None:
            kill_tree(process.pid)
            communicate(process)
    if not haystack.secrets:
        return
    if "dsn" in places:
        haystack.add_database(places["dsn"])
    if "tmp_path" in places:
        haystack.add_folder(places["tmp_path"])
    hits = haystack.hits()
    searched = {
        "bytes": sum(len(text) for _, text in haystack.texts),
        "outputs": len(haystack.texts),
        "secrets": len(haystack.secrets),
        "hits": len(hits),
    }
    request.node.user_properties.append(("searched", searched))
    assert not hits, f"a secret appears in {hits}"
