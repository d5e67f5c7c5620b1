"""A folder for a crawl: tweet.ini, auth.csv, handles.txt and .gitignore, none overwritten
in silence.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tweetcrawler import settings
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.files import replace_whole
from tweetcrawler.local import embedded
from tweetcrawler.secret import Credential, Secret
from tweetcrawler.settings.groups import DEFAULT_CSV_FOLDER

INI, KEYS, HANDLES, IGNORED = "tweet.ini", "auth.csv", "handles.txt", ".gitignore"
FIRST_PORT, PORTS_TRIED = 8484, 100
DEFAULT_BUDGET = 5.0

_COLUMNS = (
    "consumer_key",
    "consumer_secret",
    "access_token",
    "access_token_secret",
    "bearer_token",
    "name",
    "proxy",
)
_PLACEHOLDERS = ("YOUR-KEY", "YOUR-SECRET", "YOUR-TOKEN", "YOUR-TOKEN-SECRET")


@dataclass(frozen=True)
class Answers:
    """What a folder of a crawl is made of.

    `keys` of None leave placeholders, or the file that is there; `auth_csv` and
    `handles_file` name files of the operator's own. `port` is that of the sandbox; None is X.
    `database` of None means CSV files.
    """

    handles: Sequence[str] = ()
    keys: Sequence[Credential] | None = None
    port: int | None = None
    database: settings.Database | None = field(default_factory=lambda: settings.Database(True))
    csv_folder: Path | None = None
    budget: float | None = None
    auth_csv: Path | None = None
    handles_file: Path | None = None


def written(folder: Path, answers: Answers, *, replace: bool) -> list[str]:
    """Writes the files, and gives a sentence for each.

    A file that is there stays, unless there is something new for it; then it keeps its content
    under another name, and only with `replace`.

    **Errors**: ConfigurationError before anything is written.
    """
    contents = _contents(folder, answers)
    contents = {name: text for name, text in contents.items() if not _holds(folder / name, text)}
    taken = [name for name in contents if (folder / name).exists()]
    if taken and not replace:
        raise ConfigurationError(
            f"{folder} has {_and(taken)} already, and nothing was written; say --replace to keep "
            "what is there under another name, or name another folder with --into."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds_password = answers.database is not None and answers.database.password is not None
        ignored = (INI,) if holds_password else ()
        return [*_written(folder, contents), *_ignoring(folder, (KEYS, *ignored))]
    except OSError as error:
        place, reason = error.filename or folder, error.strerror or error
    raise ConfigurationError(f"{place} cannot be written ({reason}); name another folder.")


def data_folder(folder: Path) -> Path:
    """The folder of the private server's data for a crawl in this folder."""
    # Every folder on the way has to let root's server pass, which runs as another account.
    here = next(each for each in (folder, *folder.parents) if each.exists())
    if os.geteuid() != 0 or all(p.stat().st_mode & 0o001 for p in (here, *here.parents)):
        return folder / "postgresql"
    return embedded.default_folder().with_name(folder.name)


def free_port() -> int:
    """A port for a sandbox that is the same at every start: the first free one of a range."""
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        with socket.socket() as tried:
            # As the server itself does: a port of a sandbox that just ended is free.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ConfigurationError(
        f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} is free; stop what uses them"
    )


def program() -> str:
    """The way to call this program again, as the operator can type it in any folder."""
    if shutil.which("tweetcrawler"):
        return "tweetcrawler"
    called = Path(sys.argv[0]).absolute()
    return str(called) if called.name == "tweetcrawler" else f"{sys.executable} -m tweetcrawler"


def _contents(folder: Path, answers: Answers) -> dict[str, str]:
    """The new content of each file that gets one, in the order in which they are written."""
    contents: dict[str, str] = {}
    if answers.auth_csv is None and (answers.keys or not (folder / KEYS).exists()):
        contents[KEYS] = _keys(answers.keys)
    if answers.handles_file is None and (answers.handles or not (folder / HANDLES).exists()):
        contents[HANDLES] = _handles(answers.handles)
    # Last, so that a folder with a tweet.ini is whole.
    contents[INI] = "\n".join(_ini(folder, answers)) + "\n"
    return contents


def _written(folder: Path, contents: dict[str, str]) -> Iterator[str]:
    for name, text in contents.items():
        path = folder / name
        old = _put_aside(path)
        secret = name == KEYS or (name == INI and re.search(r"^dbpass", text, re.MULTILINE))
        replace_whole(path, text.encode(), mode=0o600 if secret else 0o666)
        mode = ", mode 600" if secret else ""
        kept = f"; the old one is {old.name}" if old else ""
        yield f"wrote {name}{mode}{kept}"
    for name in (KEYS, HANDLES):
        if name not in contents and (folder / name).exists():
            yield f"{name} is there and stays as it is"


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _put_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    names = (f"{path.name}.old{number or ''}" for number in range(1000))
    old = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    path.rename(old)
    return old


def _ignoring(folder: Path, secret: Sequence[str]) -> Iterator[str]:
    """Adds to .gitignore what nobody shall publish by accident."""
    path = folder / IGNORED
    before = path.read_text("utf-8") if path.exists() else ""
    wanted = (*secret, "*.old*", "postgresql/", "tweets/", "segments/")
    lines = [line for line in wanted if line not in before.split()]
    if not lines:
        return
    gap = "" if not before or before.endswith("\n") else "\n"
    replace_whole(path, (before + gap + "".join(f"{line}\n" for line in lines)).encode())
    yield f"{'added to' if before else 'wrote'} {IGNORED}: {', '.join(lines)}"


def _keys(keys: Sequence[Credential] | None) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if keys is None:
        writer.writerow(_COLUMNS[:4])
        writer.writerow(_PLACEHOLDERS)
        return text.getvalue()
    used = [name for name in _COLUMNS if any(getattr(key, name) for key in keys)]
    writer.writerow(used)
    for key in keys:
        values = (getattr(key, name) for name in used)
        writer.writerow(v.reveal() if isinstance(v, Secret) else v or "" for v in values)
    return text.getvalue()


def _handles(handles: Sequence[str]) -> str:
    if not handles:
        return "# One handle per line, such as ada, @ada or https://x.com/ada.\n"
    return "".join(f"{handle}\n" for handle in handles)


def _ini(folder: Path, answers: Answers) -> Iterator[str]:
    yield "# Settings of tweetcrawler. `tweetcrawler help options` explains every key."
    yield "\n[Database]"
    yield from _database(folder, answers)
    yield "\n[Twitter]"
    yield f"authCSV = {_quoted(answers.auth_csv or KEYS)}"
    yield f"handlesFile = {_quoted(answers.handles_file or HANDLES)}"
    if answers.port is not None:
        yield "# The sandbox on this machine. Without this line it is X."
        yield f"apiURL = http://127.0.0.1:{answers.port}"
    yield "# Most that one run may spend, in USD. Blank: no limit. A budget needs a database."
    yield f"budget = {'' if answers.budget is None else f'{answers.budget:g}'}"
    if answers.database is None:
        yield "\n[System]"
        yield "csv = on"
        yield f"CSVFolder = {_quoted(answers.csv_folder or DEFAULT_CSV_FOLDER)}"


def _database(folder: Path, answers: Answers) -> Iterator[str]:
    database = answers.database
    if database is None:
        yield "# None: posts go to CSV files, see below."
    elif database.embedded:
        yield "# A private PostgreSQL, which starts and stops by itself."
        yield "dbhost = embedded"
        if answers.port is not None:
            # Invented posts shall not be among bought ones, in the server that all runs share.
            data = data_folder(folder)
            yield f"dataFolder = {_quoted(data.name if data.parent == folder else data)}"
    else:
        said = {
            "dbhost": database.host,
            "dbport": database.port,
            "dbname": database.conninfo.reveal() if database.conninfo else database.name,
            "dbuser": database.user,
            "dbpass": database.password.reveal() if database.password else None,
        }
        yield from (f"{key} = {_quoted(value)}" for key, value in said.items() if value is not None)
        if database.password is None and not database.conninfo:
            yield "# The password is best left to ~/.pgpass or TWEETCRAWLER_DBPASS."


def _quoted(value: object) -> str:
    """A value as tweet.ini takes it: in quotes that do not end before its end."""
    text = str(value)
    if re.fullmatch(r"[\w./:-]+", text):
        return text
    for quote in "'\"":
        if not re.search(rf"{quote}\s+[#;]|{quote}\s*\Z", text):
            return f"{quote}{text}{quote}"
    raise ConfigurationError(
        "a value with both kinds of quotes before # or its end cannot stand in tweet.ini; leave "
        "the password to ~/.pgpass"
    )


def _and(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
