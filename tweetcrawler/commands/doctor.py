"""Command `doctor`: looks whether everything that a run needs is there, and buys nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import LOOK, Command

if TYPE_CHECKING:
    from tweetcrawler.doctor import Check, Finding
    from tweetcrawler.secret import Credential
    from tweetcrawler.setup import Setup

_CONFIGURATION, _DATABASE, _NO_CREDENTIAL = 2, 3, 4


@dataclass(frozen=True)
class Values:
    """Nothing: the settings say what there is to look at."""


def run(setup: Setup, values: Values) -> int:
    """Shows each finding when it is there; the exit code is that of the first fault."""
    from tweetcrawler import doctor

    del values  # none
    setup.front.wait_for("looking at this machine, the database and X")
    found: list[Finding] = []
    for finding in _findings(setup):
        found.append(finding)
        if not setup.settings.json:
            setup.front.say(f"{finding.state:<8} {finding.check}: {finding.sentence}")
    code = doctor.exit_code(found)
    setup.front.report(_plain(found), _verdict(found, code), code=code)
    return code


def _findings(setup: Setup) -> Iterator[Finding]:
    """All findings, each once, and at the end whether any credential can be used."""
    from tweetcrawler import doctor

    seen: set[Finding] = set()
    keys, about_keys = _keys(setup)
    patience_s = min(doctor.PATIENCE_S, setup.settings.give_up_after_s)
    examined = doctor.examined(list(_checks(setup, keys)), patience_s=patience_s)
    for finding in itertools.chain(about_keys, examined):
        if finding not in seen:
            seen.add(finding)
            yield finding
    names = {f"{key.name} as {part}" for key in keys for part in ("app", "user")}
    if keys and not any(f.state == doctor.OK and f.check in names for f in seen):
        yield doctor.fault("credentials", "none of them can be used now", _NO_CREDENTIAL)


def _keys(setup: Setup) -> tuple[tuple[Credential, ...], Sequence[Finding]]:
    """The credentials, and what is to be said of their file."""
    from tweetcrawler.doctor import WARNING, Finding, fault, keys
    from tweetcrawler.settings.credentials import read_credentials

    path = setup.settings.auth_csv
    if path is None:
        said = "no authCSV is set: a run asks a terminal for keys, and fails without one"
        return (), [fault("credentials", said, _NO_CREDENTIAL)]
    try:
        file = read_credentials(path)
    except ConfigurationError as error:
        return (), [fault("credentials", str(error), _CONFIGURATION)]
    notes = [Finding("credentials", WARNING, note) for note in file.notes if "chmod" not in note]
    return file.credentials, [*notes, *keys.alike(file.credentials)]


def _checks(setup: Setup, credentials: Sequence[Credential]) -> Iterator[Check]:
    from tweetcrawler.doctor import Check, database, keys, machine

    settings = setup.settings
    yield Check("program", machine.programs, _CONFIGURATION)
    yield Check("settings", lambda: machine.settings_of(settings), _CONFIGURATION)
    yield Check("handles", lambda: machine.handles_of(settings.handles_file), _CONFIGURATION)
    yield Check("files", lambda: machine.files_of(settings), _CONFIGURATION)
    if settings.database is not None:
        look = database.examined
        yield Check("database", lambda: look(settings, setup.with_origins), _DATABASE)
    apps: set[str] = set()
    for credential in credentials:
        # The tokens of one app share it, and its limits.
        as_app = credential.app_fingerprint not in apps
        apps.add(credential.app_fingerprint)
        yield Check(credential.name, keys.examined(credential, settings, as_app=as_app), 0)


def _plain(found: Sequence[Finding]) -> dict[str, Any]:
    checks = [
        {"check": each.check, "state": each.state, "sentence": each.sentence} for each in found
    ]
    return {"checks": checks}


def _verdict(found: Sequence[Finding], code: int) -> str:
    from tweetcrawler.doctor import WARNING

    warnings = sum(1 for each in found if each.state == WARNING)
    rest = f"{warnings} warning{'' if warnings == 1 else 's'}" if warnings else "no warnings"
    if code:
        return f"\na run would fail now: put right the faults above ({rest})"
    return f"\na run can begin ({rest})"


COMMAND = Command(
    name="doctor",
    summary="whether all that a run needs is there",
    group=LOOK,
    about="It looks at Python and packages, settings, files and their modes, the handles, the "
    "database, and at each credential, as app and as user: plan, archive, rate limits, proxy, "
    "clock. Exit codes: 0 a run can begin (warnings do not count), 2 settings or files, 3 the "
    "database, 4 no usable credential.",
    options=(),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler doctor", "everything that tweet.ini names"),
        ("tweetcrawler doctor -c tweet.ini --json", "as JSON"),
        ("tweetcrawler doctor --dbname tweets --dbuser me", "a database of your own"),
    ),
    price="nothing: X does not charge for these requests.",
)
