"""What is promised of each fault, in one line, and the figures that tests measured of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PROMISES: dict[str, tuple[str, str]] = {
    "A1": (
        "a window is used up (429)",
        "nothing is sent into a closed window; other credentials go on",
    ),
    "A2": (
        "the month's posts are used up (429, no reset)",
        "the account rests; exit 5 when all do",
    ),
    "A3": ("429 although permits are left", "back-off that doubles; 10 requests in the first hour"),
    "A4": ("401 in the middle of a chunk", "that token is retired, others finish the work"),
    "A5": (
        "a user is protected, suspended or gone",
        "the user is marked and rests; no credential is touched",
    ),
    "A6": ("X answers 503 for a minute", "one probe at a time, ever more slowly; nobody is lost"),
    "A7": ("X does not answer at all", "given up after the timeouts, 60 s at the most"),
    "A8": ("X drips one byte after the other", "given up after the total timeout"),
    "A9": ("an answer is cut off", "asked again; nothing of it is stored"),
    "A10": ("200 with something that is no page", "one kind of error, whatever came"),
    "A11": ("clocks an hour apart; a reset in milliseconds", "waits follow X's own clock"),
    "A12": ("pages repeat or overlap", "each post is one row"),
    "A13": ("a page's token has expired", "the walk goes on by id and reads nothing twice"),
    "A14": (
        "empty pages that say more follows",
        "passed over; a walk that gets nowhere is left for the next run",
    ),
    "A15": ("ids beyond 2^53, as numbers or texts", "every id is stored exactly"),
    "A16": ("unknown, missing, null, huge, deep", "no crash, bounded memory"),
    "A17": ("a redirect, a wrong certificate, a proxy in the environment", "no secret goes there"),
    "A18": (
        "a 200 on users/by that passes over names",
        "asked again; nobody is missing unless X says so of that name",
    ),
    "A19": ('"Internal Error" in a 200', "X's trouble: tried again, nobody rests"),
    "A20": ("403 for the caller's own account", "the credential is retired, others finish"),
    "A21": ("404, 408, 409, 425, a proxy's page", "as 503: tried again, nobody rests"),
    "A22": ("limits of a day, of token and app", "the smaller counts, the app's closes the app"),
    "A23": ("rate headers are missing", "no news; no window is overrun"),
    "A24": ("timelines of a few users fail for ever", "three tries each, reported; others go on"),
    "A26": ("control characters in X's texts", "cleaned wherever they are shown"),
    "A27": ("answers too long, or cut every time", "no page is bought a third time"),
    "A29": ("an app by its keys and by its token", "one bucket; no window is overrun"),
    "A28": ("nobody answers at all", "host and cause in a sentence; exit 6"),
    "D1": ("PostgreSQL crashes and comes back", "pages in hand are kept and saved"),
    "D2": ("the connection is cut at any byte", "a page is saved whole or not at all"),
    "D3": ("the answer to a commit is lost", "saved again without effect"),
    "D4": ("the database's disk is full", "nothing more is bought than the pages under way"),
    "D5": ("two writers of the same rows", "no deadlock; a foreign one is survived"),
    "D6": ("NUL and lone surrogates in texts", "stored with U+FFFD in their place"),
    "D7": ("an id or a count beyond bigint", "that post is noted as refused, its page is saved"),
    "D8": ("statement, lock and idle timeouts", "tried again; no worker hangs"),
    "D9": ("pgbouncer in transaction mode", "works as without it"),
    "D10": ("the schema is older or newer", "one line, and nothing is touched"),
    "D11": ("two at once: D1 with A1, D1 with P1", "as each alone"),
    "D12": (
        "the table is emptied, restored, another; a CSV file lost rows",
        "noticed before the first request; the way back is named, and leads there",
    ),
    "D13": (
        "the table refuses rows",
        "one sentence before the first request; a page refused later is kept, and bought once",
    ),
    "D16": ("rows that the view cannot read", "NULL there, and counted when they are adopted"),
    "D19": ("other settings of the database", "the same rows, the same exports"),
    "D20": ("a backup in the middle of a crawl", "nothing is missing; what came since is bought"),
    "D21": ("the schema of an older release, with rows", "every row stays, the crawl goes on"),
    "D22": (
        "a CSV file takes no rows, or its disk is full",
        "what was bought waits, and is not bought again; other files go on",
    ),
    "P1": ("a worker is killed anywhere", "nothing is missing, at most a page is bought twice"),
    "P2": ("the parent is killed", "no process stays, the next run goes on"),
    "P3": ("a worker is out of memory", "as P1; the others do not stop"),
    "P4": ("SIGTERM", "pages are finished, leases and permits given back, exit 143"),
    "P5": ("Ctrl-C once, twice", "once: as P4 with exit 130; twice: at once"),
    "P6": (
        "the machine's or the database's clock jumps",
        "nothing waits longer than a window, nothing is missing",
    ),
    "P7": ("a process sleeps while another takes its target", "it sees that before it asks again"),
    "P8": ("the same work is handed out twice", "the second finds nothing to do"),
    "P9": ("the database is out of reach, X is not", "no request after the lease has ended"),
    "P10": (
        "no number of processes is given",
        "the windows are used up, in the room that the machine has",
    ),
    "F1": ("a broken auth CSV", "the place is named, no value is shown"),
    "F2": ("an odd or enormous list of handles", "the same handles, streamed"),
    "F3": ("hostile handles", "refused by line; no path or statement holds one"),
    "F4": ("cells that a spreadsheet would run", "exported safely when asked to"),
    "F5": (
        "a full disk, a read-only folder, no log",
        "one line; the database work goes on where it can",
    ),
    "F6": (
        "a broken file to import",
        "good posts around a bad place are imported; one line a bad place",
    ),
    "F9": (
        "any write, fsync or rename fails, kills, or is lost with the machine",
        "old or new, never torn; whole after the next run",
    ),
    "S1": ("secrets in any output", "none anywhere"),
}


@dataclass(frozen=True)
class Figure:
    """One measured figure: what it is, its value, and the bound that was promised."""

    fault: str
    what: str
    value: str
    bound: str
    kept: bool


@dataclass
class Figures:
    """All figures of a session."""

    measured: list[Figure] = field(default_factory=list)

    def table(self) -> list[str]:
        """Lines of fault x promise x figure, in the order of `PROMISES`."""
        lines = []
        for fault, (name, promise) in PROMISES.items():
            own = [figure for figure in self.measured if figure.fault == fault]
            if not own:
                continue
            lines.append(f"{fault:<4}{name}: {promise}")
            lines += [
                f"    {'kept  ' if f.kept else 'BROKEN'}  {f.what}: {f.value} (promised {f.bound})"
                for f in own
            ]
        return lines


def fault_of(test: str) -> str:
    """The id in the name of a test."""
    found = re.match(r"test_([ADPFS]\d+)_", test)
    if found is None or found[1] not in PROMISES:
        raise ValueError(f"{test} names no fault")
    return found[1]
