"""The commands: the only module that prints, asks, catches signals and ends the program."""

from __future__ import annotations

import contextlib
import functools
import getpass
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tweetcrawler import inputs, settings
from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from tweetcrawler.csvfiles import CsvFolder
    from tweetcrawler.db import Database

log = logging.getLogger("tweetcrawler")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code, see `--help`."""
    try:
        chosen = settings.parse(sys.argv[1:] if argv is None else argv, environ=os.environ, folder=Path.cwd())
        return _COMMANDS[chosen.command](chosen)
    except TweetcrawlerError as error:
        print(f"tweetcrawler: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _help(_: Settings) -> int:
    print(settings.help_text())
    return 0


def _version(_: Settings) -> int:
    print(settings.version_text())
    return 0


def _crawl(chosen: Settings) -> int:
    # What is heavy is imported when it is needed: `--help` must not wait for it.
    from rich.console import Console

    from tweetcrawler import crawl, display

    credentials = _credentials(chosen)
    _log_to_stderr(chosen, credentials)
    for note in chosen.notes:
        log.warning("%s", note)
    handle_count = inputs.count_lines(chosen.handles_file)
    bad_lines = 0

    def on_bad(line: int, reason: str) -> None:
        nonlocal bad_lines
        bad_lines += 1
        if bad_lines <= 100:
            log.warning("%s, line %d: %s", chosen.handles_file, line, reason)

    with _sink(chosen) as sink, _Stop() as stop:
        live = sys.stderr.isatty() and not chosen.quiet
        shown = display.LivePicture(_terminal()) if live else display.LogLines()
        with shown:
            report = crawl.crawl(
                chosen,
                sink,
                credentials,
                inputs.read_handles(chosen.handles_file, on_bad=on_bad),
                display=shown,
                stopped=stop,
                handle_count=handle_count,
            )
    report.bad_lines = bad_lines
    display.print_report(report, Console(), price_post=chosen.price_post, price_user=chosen.price_user)
    return report.exit_code


def _db(chosen: Settings) -> int:
    from tweetcrawler.db import Database, conninfo_of

    if chosen.database is None:
        raise ConfigurationError("the settings say CSV: there is no database to work on")
    if not chosen.database.embedded:
        if chosen.action != "upgrade":
            raise ConfigurationError(
                f"db {chosen.action} is about the private server, but the settings name a database of your own"
            )
        Database(conninfo_of(chosen.database), chosen.database.table).upgrade()
        print("the schema is at its newest revision")
        return 0
    from tweetcrawler import embedded

    server = embedded.Server(chosen.data_folder)
    if chosen.action == "start":
        print(server.start())
    elif chosen.action == "stop":
        stopped = server.stop()
        print("stopped" if stopped else "in use: it stops when the last run that uses it ends")
    elif chosen.action == "upgrade":
        with server.hold() as url:
            Database(url, chosen.database.table).upgrade()
        print("the schema is at its newest revision")
    else:
        running_at = server.url()
        if running_at is None:
            raise ConfigurationError("the private server is not running: `tweetcrawler db start` starts it")
        print(running_at)
    return 0


def _sandbox(chosen: Settings) -> int:
    try:
        from tweetcrawler.sandbox.__main__ import main as sandbox
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the sandbox needs the package {error.name}: pip install 'tweetcrawler[sandbox]'"
        ) from None
    return sandbox(list(chosen.rest))


def _export(chosen: Settings) -> int:
    if chosen.database is None:
        raise ConfigurationError(
            f"export reads a database, and the settings say CSV: the files in {chosen.csv_folder} are there already"
        )
    from tweetcrawler import export
    from tweetcrawler.db import Database

    plan = export.plan(chosen.export)
    with _end_in_order_on_sigterm(), _sink(chosen) as database:
        assert isinstance(database, Database)  # noqa: S101 - the settings name one
        done = export.write(plan, database, sys.stdout.buffer)
    if not chosen.quiet:
        for sentence in done:
            print(f"tweetcrawler: {sentence}", file=sys.stderr)
    return 0


def _import(chosen: Settings) -> int:
    if chosen.database is None:
        raise ConfigurationError(
            "import writes to PostgreSQL, and the settings say CSV; leave out --csv and CSVFolder, or name a database"
        )
    from rich.console import Console

    from tweetcrawler import display, importing
    from tweetcrawler.db import Database

    _log_to_stderr(chosen, ())
    for note in chosen.notes:
        log.warning("%s", note)
    with _sink(chosen) as database, _Stop() as stop:
        assert isinstance(database, Database)  # noqa: S101 - the settings name one
        live = sys.stderr.isatty() and not chosen.quiet
        with display.ImportPicture(Console(stderr=True)) if live else display.ImportLines() as shown:
            report = importing.import_files(chosen, database, display=shown, stopped=stop)
    display.print_import_report(report, Console())
    return report.exit_code


def _demo(chosen: Settings) -> int:
    from tweetcrawler import demo

    return demo.run(chosen.keep, say=functools.partial(print, flush=True))


_COMMANDS: dict[str, Callable[[Settings], int]] = {
    "crawl": _crawl,
    "db": _db,
    "sandbox": _sandbox,
    "demo": _demo,
    "export": _export,
    "import": _import,
    "help": _help,
    "version": _version,
}


@contextlib.contextmanager
def _sink(chosen: Settings) -> Iterator[Database | CsvFolder]:
    """Where the rows go, ready to take them."""
    if chosen.database is None:
        from tweetcrawler.csvfiles import CsvFolder

        assert chosen.csv_folder is not None  # noqa: S101 - the settings promise it
        yield CsvFolder(chosen.csv_folder)
        return
    from tweetcrawler.db import Database, conninfo_of

    if not chosen.database.embedded:
        database = Database(conninfo_of(chosen.database), chosen.database.table)
        database.check()
        yield database
        return
    from tweetcrawler import embedded

    with embedded.lend(chosen.data_folder) as url:
        database = Database(url, chosen.database.table)
        database.upgrade()
        yield database


def _credentials(chosen: Settings) -> tuple[Credential, ...]:
    if chosen.auth_csv is not None:
        file = inputs.read_credentials(chosen.auth_csv)
        for note in file.notes:
            print(f"tweetcrawler: {note}", file=sys.stderr)
        return file.credentials
    if not sys.stdin.isatty():
        raise ConfigurationError(inputs.no_credentials_sentence())
    return (inputs.ask_credentials(getpass.getpass),)


@contextlib.contextmanager
def _end_in_order_on_sigterm() -> Iterator[None]:
    """SIGTERM unwinds what is under way, as Ctrl-C does, and gives its exit code."""

    class Terminated(KeyboardInterrupt):
        """Of this kind, since psycopg then cancels the query that it waits for."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Terminated:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class _Stop:
    """Ctrl-C and SIGTERM: the first ends the run in order, a second Ctrl-C at once."""

    def __init__(self) -> None:
        self._code: int | None = None

    def __call__(self) -> int | None:
        return self._code

    def __enter__(self) -> _Stop:
        self._before = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._code is not None:
            raise KeyboardInterrupt
        if self._code is None:
            self._code = 128 + number
            log.warning("stopping: pages under way are finished and saved; Ctrl-C again ends at once")


class _Redact(logging.Filter):
    """Takes secrets out of log lines, should one ever come near: known values, and whatever looks like one."""

    _LOOKS = re.compile(r"(Bearer |://[^:/@\s]*:)[^\s@]+")

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__()
        self._secrets = [secret for secret in secrets if len(secret) >= 6]

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for secret in self._secrets:
            text = text.replace(secret, "***")
        record.msg, record.args = self._LOOKS.sub(r"\1***", text), None
        return True


@functools.cache
def _terminal() -> Console:
    """The one console on stderr: log lines and the live picture make room for each other only on the same."""
    from rich.console import Console

    return Console(stderr=True)


def _log_to_stderr(chosen: Settings, credentials: Sequence[Credential]) -> None:
    from rich.logging import RichHandler

    secrets = [
        value.reveal()
        for credential in credentials
        for value in (
            credential.consumer_key,
            credential.consumer_secret,
            credential.access_token,
            credential.access_token_secret,
            credential.bearer_token,
            credential.proxy,
        )
        if value is not None
    ]
    handler: logging.Handler
    if sys.stderr.isatty() and not chosen.quiet:
        handler = RichHandler(console=_terminal(), show_path=False, markup=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_Redact(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if chosen.log_level == "debug" else logging.INFO)
    for noisy in ("tweepy", "urllib3", "requests_oauthlib", "oauthlib", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # at DEBUG tweepy prints the token
