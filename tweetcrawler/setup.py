"""Opening of the program without a terminal: keys, log, sink, signals, display.

A command, a service or a page in a browser opens it in the same way. Asking and printing
are a `Front`; the one of a service says nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from inspect import cleandoc
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Protocol, TypeAlias

from tweetcrawler import journal, scratch
from tweetcrawler.errors import (
    ConfigurationError,
    DatabaseUnreachable,
    NotAgreed,
    OnlyPlanned,
    TweetcrawlerError,
)
from tweetcrawler.secret import Secret, silence_libraries
from tweetcrawler.signals import TERMINATED, Terminated, unwinding

if TYPE_CHECKING:
    from rich.console import Console

    from tweetcrawler.books import Stale
    from tweetcrawler.csvfiles import CsvFolder
    from tweetcrawler.db import Database, Reader
    from tweetcrawler.look.ahead import Forecast
    from tweetcrawler.look.check import Look
    from tweetcrawler.look.metrics import Live
    from tweetcrawler.look.pace import Estimate
    from tweetcrawler.look.plan import Plan
    from tweetcrawler.look.sections import Section
    from tweetcrawler.notices import Address
    from tweetcrawler.outcome import Report
    from tweetcrawler.prices import Tariff
    from tweetcrawler.secret import Credential
    from tweetcrawler.settings import Settings
    from tweetcrawler.work.kinds import Work

log = logging.getLogger("tweetcrawler")

# A sentence, or a function that prints tables.
Show: TypeAlias = "str | Callable[[Console], object]"
# Handles of a file that the database is asked for together.
_AT_ONCE = 5_000

_LONG_S = 2.0


class Front(Protocol):
    """The side of the program that an operator sees."""

    def ask(self, question: str) -> str:
        """The answer to a question, typed without being shown."""

    def reply(self, question: str) -> str:
        """The answer to a question, shown while it is typed."""

    def can_ask(self) -> bool:
        """Whether there is somebody to answer."""

    def agrees(self, question: str) -> bool:
        """Whether the operator says yes."""

    def say(self, text: str) -> None:
        """Shows a result: a line of standard output."""

    def note(self, text: str) -> None:
        """Shows a remark: a line of standard error."""

    def wait_for(self, what: str) -> None:
        """Shows at once what the next step waits for."""

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """The same for a step that is mostly short: a log gets no line while it is."""

    def output(self) -> BinaryIO:
        """Standard output, for bytes."""

    def display(self, live: Callable[[Console], Any], lines: Callable[[], Any]) -> Any:
        """The live display of one run, or its log lines, as a context manager."""

    def draw(self, show: Callable[[Console], object], *, wide: bool = False) -> None:
        """Lets a function print tables on stdout; `wide` does not wrap them in a pipe."""

    def report(
        self, plain: Mapping[str, Any], show: Show, *, code: int = 0, wide: bool = False
    ) -> None:
        """Tells what was done: to programs by plain values, to readers by what `show` prints.

        `code` is the exit code of what was done.
        """

    def answer(self, plain: Mapping[str, Any], show: Show, *, wide: bool = False) -> None:
        """Tells what was asked for, in the same two forms."""

    def remark(self, plain: Mapping[str, Any], sentences: Sequence[str]) -> None:
        """Tells what was done beside stdout, which holds the work itself."""

    def log_handler(self) -> logging.Handler:
        """The place of log lines."""


class Silent:
    """A front for a service: nobody is asked, nothing is shown, log lines go to stderr."""

    def ask(self, question: str) -> str:
        raise ConfigurationError(f"There is nobody to ask for the {question}")

    def reply(self, question: str) -> str:
        return self.ask(question)

    def can_ask(self) -> bool:
        return False

    def agrees(self, question: str) -> bool:
        raise ConfigurationError(f"There is nobody to answer: {question}")

    def say(self, text: str) -> None:
        log.info("%s", text)

    def note(self, text: str) -> None:
        log.warning("%s", text)

    def wait_for(self, what: str) -> None:
        log.info("%s", what)

    def waiting(self, what: str) -> AbstractContextManager[None]:
        return logged_if_long(what)

    def output(self) -> BinaryIO:
        raise ConfigurationError("there is no standard output; name a file")

    def display(self, live: Callable[[Console], Any], lines: Callable[[], Any]) -> Any:
        del live  # nobody looks at it
        return lines()

    def draw(self, show: Callable[[Console], object], *, wide: bool = False) -> None:
        """Nobody looks."""

    def report(
        self, plain: Mapping[str, Any], show: Show, *, code: int = 0, wide: bool = False
    ) -> None:
        """Nobody reads it; the run's record holds it."""

    def answer(self, plain: Mapping[str, Any], show: Show, *, wide: bool = False) -> None:
        """Nobody asked."""

    def remark(self, plain: Mapping[str, Any], sentences: Sequence[str]) -> None:
        """Nobody reads it."""

    def log_handler(self) -> logging.Handler:
        return plain_log_handler()


class Setup:
    """All that a command opens: the sink, the keys, the log, the signals."""

    def __init__(
        self, settings: Settings, front: Front | None = None, argv: Sequence[str] = ()
    ) -> None:
        self.settings = settings
        self.front: Front = front or Silent()
        self.argv = argv

    def tariff(self) -> Tariff:
        """Prices that the settings name."""
        from tweetcrawler import prices

        money = self.settings.money
        return prices.load(
            money.prices_file, money.tariff, post=money.price_post, user=money.price_user
        )

    def needs_database(self, why: str) -> None:
        """Refuses settings that say CSV; `why` begins the sentence."""
        if self.settings.database is None:
            raise ConfigurationError(
                f"{why}, and the settings say CSV; leave out --csv and --folder, "
                "or name a database."
            )

    @contextlib.contextmanager
    def database(self, why: str) -> Iterator[Database]:
        """The database, at its newest revision; `why` says what a command wants of it."""
        self.needs_database(why)
        with self.sink() as sink:
            yield _as_database(sink)

    @contextlib.contextmanager
    def sink(self) -> Iterator[Database | CsvFolder]:
        """The place of the rows, ready to take them."""
        scratch.use()
        chosen = self.settings
        if chosen.database is None:
            from tweetcrawler.csvfiles import CsvFolder

            assert chosen.csv_folder is not None  # noqa: S101 - the settings promise it
            yield CsvFolder(chosen.csv_folder)
            return
        from tweetcrawler.db import Database

        if not chosen.database.embedded:
            # A database of your own is looked at only: its schema is changed by `db upgrade` alone.
            yield self.own_database(Database.check)
            return
        from tweetcrawler.local import embedded

        if embedded.Server(chosen.data_folder).url() is None:
            self.front.wait_for("starting the private PostgreSQL")
        with embedded.lend(chosen.data_folder) as url:
            database = Database(url, chosen.database.table)
            database.upgrade()
            yield database

    def own_database(self, look: Callable[[Database], object]) -> Database:
        """The database that the settings name, after a first look at it.

        If its server wants a password and none was given, a terminal is asked.

        **Errors**: those of the look; of `DatabaseUnreachable` the sentence names the places
        where the values at fault were set.
        """
        from tweetcrawler.db import Database, conninfo_of

        named = self.settings.database
        assert named is not None  # noqa: S101 - the caller looked
        database = Database(conninfo_of(named), named.table)
        try:
            with self.front.waiting(f"connecting to the {database.place}"):
                look(database)
        except DatabaseUnreachable as error:
            if not (error.wants_password and self.front.can_ask()):
                raise self.with_origins(error) from None
        else:
            return database
        password = Secret(self.front.ask(f"password for the {database.place}: "))
        given = dataclasses.replace(named, password=password)
        self.settings = dataclasses.replace(self.settings, database=given)
        try:
            look(database := Database(conninfo_of(given), given.table))
        except DatabaseUnreachable as error:
            raise self.with_origins(error) from None
        return database

    def with_origins(self, error: DatabaseUnreachable) -> DatabaseUnreachable:
        """The error, with the places where the values at fault were set."""
        import os

        from tweetcrawler.settings.origins import origin_of

        known = {
            key: origin_of(key, argv=self.argv, environ=os.environ, file=self.settings.config_file)
            for key in error.about
        }
        shown = "; ".join(f"{key}: {where}" for key, where in known.items())
        return DatabaseUnreachable(f"{error} ({shown})") if shown else error

    def look(
        self, database: Database, *, max_age_s: float = 26 * 3600.0, min_free_gb: float = 1.0
    ) -> Look:
        """The state of the collection as monitors want it."""
        from tweetcrawler.look import check, status

        money, tariff = self.settings.money, self.tariff()
        budgets = {"day": money.budget_per_day, "month": money.budget_per_month}
        with database.reader() as reader:
            last = reader.last_runs()
            return check.Look(
                status.of_all(reader, tariff, next_run={}, budgets=budgets),
                last,
                {run.id: reader.last_sign(run.id) for run in last if run.ended_at is None},
                self._stale(reader, max_age_s),
                {str(folder): shutil.disk_usage(folder).free for folder in self._folders()},
                max_age_s,
                int(min_free_gb * check.GIGABYTE),
            )

    def _stale(self, reader: Reader, age_s: float) -> Stale:
        """Stale targets of the handles file; of all targets where there is no file."""
        from tweetcrawler.books import Stale
        from tweetcrawler.settings import handles

        file = self.settings.handles_file
        if not file.exists():
            return reader.stale(age_s)
        listed = handles.read_handles(file, on_bad=BadLines(file))
        blocks = iter(lambda: list(itertools.islice(listed, _AT_ONCE)), [])
        return sum((reader.stale(age_s, block) for block in blocks), Stale())

    def _folders(self) -> Iterator[Path]:
        """Folders of this machine that fill up: those of the files, and of the private server."""
        yield Path.cwd()
        named = self.settings.database
        if named and named.embedded:
            from tweetcrawler.local import embedded

            folder = self.settings.data_folder or embedded.default_folder()
            yield from [folder] if folder.exists() else []

    def credentials(self) -> tuple[Credential, ...]:
        """The keys of the auth CSV, or of the operator's answers."""
        from tweetcrawler.settings import credentials

        if self.settings.auth_csv is not None:
            file = credentials.read_credentials(self.settings.auth_csv)
            for note in file.notes:
                self.front.note(note)
            return file.credentials
        if not self.front.can_ask():
            raise ConfigurationError(credentials.no_credentials_sentence())
        return (credentials.ask_credentials(self.front.ask),)

    def log(self, keys: Sequence[Credential] = ()) -> None:
        """Sends log lines to the front, without any of these keys."""
        handler = self.front.log_handler()
        told = self.settings.notify.reveal().split() if self.settings.notify else []
        secrets = [secret for key in keys for secret in _secrets_of(key)]
        handler.addFilter(_Redact([*secrets, *told]))
        root = logging.getLogger()
        # Libraries that were imported before may have added handlers of their own.
        root.handlers[:] = [handler]
        usual = logging.WARNING if self.settings.quiet else logging.INFO
        root.setLevel(logging.DEBUG if self.settings.log_level == "debug" else usual)
        silence_libraries()
        logging.getLogger("alembic").setLevel(logging.WARNING)

    @contextlib.contextmanager
    def asking_x(
        self,
        *,
        why: str | None = None,
        before: Callable[[], object] = lambda: None,
        forecast: Forecast | None = None,
    ) -> Iterator[Opened]:
        """Opens all that a command needs to ask X.

        `why` says why it needs a database; None: it does not. `before` looks at the
        operator's files when the keys are known and nothing is begun. `forecast` tells what
        the first run may cost.

        **Errors**: `NotAgreed` if that is too much for the operator, `OnlyPlanned` after a dry
        run.
        """
        if why is not None:
            self.needs_database(why)
        # Before the workers' server, which has its socket there.
        scratch.use()
        # The CSV folder cannot count for several machines.
        if self.settings.money.is_limited:
            self.needs_database("a budget is kept in a database, for all runs together")
        if forecast is not None and self.settings.money.dry_run:
            self._dry_run(forecast)
        addresses = self._addresses()
        # Keys first: a question at the terminal must not wait for a database.
        keys = self.credentials()
        self.log(keys)
        for note in self.settings.notes:
            log.warning("%s", note)
        before()
        prepare_workers()
        with self.sink() as sink, Stop() as stop:
            opened = Opened(self, keys, sink, stop, addresses)
            try:
                if forecast is not None:
                    opened.agree(forecast)
                yield opened
            except TweetcrawlerError as error:
                if addresses:
                    self.tell_of(error, opened.database, addresses)
                raise

    @contextlib.contextmanager
    def telling_people(self, database: Database) -> Iterator[Callable[[Sequence[str]], None]]:
        """Tells people of an error that ends the block; the block has a function that tells of
        faults.
        """
        addresses = self._addresses()

        def tell(faults: Sequence[str]) -> None:
            if faults and addresses:
                from tweetcrawler import notices

                found = notices.of_faults(self.settings.command, faults, socket.gethostname())
                notices.tell(database, addresses, [found])

        try:
            yield tell
        except TweetcrawlerError as error:
            self.tell_of(error, database, addresses)
            raise

    def tell_of(
        self, error: TweetcrawlerError, database: Database, addresses: Sequence[Address]
    ) -> None:
        """Tells people of an error that ends the command."""
        if addresses:
            from tweetcrawler import notices

            found = notices.of_error(self.settings.command, error, socket.gethostname())
            notices.tell(database, addresses, [found])

    def _addresses(self) -> tuple[Address, ...]:
        """Where notices go, looked at before anything is begun."""
        if self.settings.notify is None:
            return ()
        self.needs_database("notices are remembered in a database")
        from tweetcrawler.notices import addresses_of

        return addresses_of(self.settings.notify)

    def _dry_run(self, forecast: Forecast) -> NoReturn:
        from tweetcrawler.look import ahead

        self.log()
        tariff, budget = self.tariff(), self.settings.money.budget
        with self.sink() as sink:
            made = _foreseen(sink, forecast, tariff)
        self.front.answer(made.as_plain(), "\n".join(ahead.lines(made, tariff, budget)))
        raise OnlyPlanned(cleandoc(OnlyPlanned.__doc__ or ""))


class Opened:
    """An opened program that asks X: runs work, shows its report, keeps the command's budget."""

    def __init__(
        self,
        setup: Setup,
        keys: tuple[Credential, ...],
        sink: Database | CsvFolder,
        stop: Stop,
        addresses: tuple[Address, ...] = (),
    ) -> None:
        self._addresses = addresses
        self.settings = setup.settings
        self.keys = keys
        self.sink = sink
        self.stop = stop
        self._setup = setup
        self._tidied_on: date | None = None
        self._left: Callable[[Reader, float], Plan] | None = None
        self._live: Live | None = None

    @contextlib.contextmanager
    def measured(self, address: tuple[str, int] | None) -> Iterator[None]:
        """Serves figures for Prometheus while the command stays; None serves nothing."""
        if address is None:
            yield
            return
        from tweetcrawler.look import metrics

        self._live = metrics.Live()
        with metrics.serving(address, lambda: self._setup.look(self.database), self._live):
            yield

    def tariff(self) -> Tariff:
        """Prices that the settings name."""
        return self._setup.tariff()

    @property
    def database(self) -> Database:
        """The sink of a command that said why it needs a database."""
        return _as_database(self.sink)

    def wait_for(self, what: str) -> None:
        """Tells the operator at once what the next step waits for."""
        self._setup.front.wait_for(what)

    def plan_left(self, left: Callable[[Reader, float], Plan]) -> None:
        """Plans what is left of the next runs, for their time to go; see `look.pace`."""
        self._left = left

    def run(self, work: Work) -> Report:
        """Does one run of this work with the settings as they are now."""
        from tweetcrawler.dispatch import run_work
        from tweetcrawler.look import lines

        with (
            self._setup.front.display(_live_picture, lines.LogLines) as shown,
            self._estimate(is_live=not isinstance(shown, lines.LogLines)) as estimate,
        ):
            counted = self._live.over(shown) if self._live else shown
            report = run_work(
                self.settings,
                self.sink,
                self.keys,
                work,
                display=estimate.over(counted),
                stopped=self.stop,
            )
        self._remove_history()
        return report

    def agree(self, forecast: Forecast) -> None:
        """Asks the operator at a terminal before a run that may cost more than `ask_above`.

        **Errors**: `NotAgreed`.
        """
        from tweetcrawler.look import ahead

        money, front = self.settings.money, self._setup.front
        asks = front.can_ask() and not money.yes
        if not (asks or forecast.is_told):
            return
        tariff = self._setup.tariff()
        made = _foreseen(self.sink, forecast, tariff)
        is_dear = asks and ahead.most(made, money.budget) > money.ask_above
        if is_dear or forecast.is_told:
            for line in ahead.lines(made, tariff, money.budget):
                front.note(line)
        if is_dear and not front.agrees("go on?"):
            raise NotAgreed(cleandoc(NotAgreed.__doc__ or ""))

    def _estimate(self, *, is_live: bool) -> Estimate:
        from tweetcrawler import crew
        from tweetcrawler.db import Database
        from tweetcrawler.look.pace import Estimate

        return Estimate(
            self.sink if isinstance(self.sink, Database) else None,
            self._left,
            keys=self.keys,
            tariff=self._setup.tariff(),
            processes=self.settings.threads or crew.likely_processes(len(self.keys)),
            is_live=is_live,
        )

    def _remove_history(self) -> None:
        """Removes old pages without news, once on each UTC day."""
        from tweetcrawler.db import Database
        from tweetcrawler.postgres.history import last_day

        now = datetime.now(UTC)
        if not isinstance(self.sink, Database) or self._tidied_on == now.date():
            return
        self._tidied_on = now.date()
        try:
            with self.sink.session(stopping=lambda: True) as session:
                removed = session.remove_history(last_day(now, self.settings.retain_s))
            if removed.pages or removed.runs:
                log.info(
                    "%s pages without news and %s empty runs are older than --retain: only their "
                    "numbers are kept",
                    f"{removed.pages:,}",
                    f"{removed.runs:,}",
                )
        except TweetcrawlerError as error:
            log.warning("old pages without news stay until the next run: %s", error)

    def told(self, report: Report, before: Callable[[Console], object] = lambda _: None) -> int:
        """Shows the report, takes its cost from the command's budget, gives the exit code.

        `before` prints what stands before the report.
        """
        from tweetcrawler.look import display

        tariff = self._setup.tariff()
        planned = self._compared_to_plan(report, tariff)

        def show(console: Console) -> None:
            before(console)
            display.print_report(report, console, tariff=tariff)
            display.print_sections([planned] if planned else [], console)

        self._setup.front.report(report.for_programs(tariff), show, code=report.exit_code)
        self._spend(report, tariff)
        if self._addresses:
            from tweetcrawler import notices

            always = self.settings.notify_on == "always"
            here = self.settings.command, report, socket.gethostname()
            found = list(notices.of_report(*here, always=always))
            notices.tell(self.database, self._addresses, found)
        return report.exit_code

    def _spend(self, report: Report, tariff: Tariff) -> None:
        """Keeps what is left: a budget is the command's, however many runs it makes."""
        money = self.settings.money
        if money.budget is None and money.max_posts is None:
            return
        with self.database.session() as session:
            gone_posts, cost = session.gone_of(report.run, tariff)
        # Costs are millionths of a USD, so that small prices do not add up rounding errors.
        budget = None if money.budget is None else max(0.0, money.budget - cost / 1_000_000)
        posts = None if money.max_posts is None else max(0, money.max_posts - gone_posts)
        left = dataclasses.replace(money, budget=budget, max_posts=posts)
        self.settings = dataclasses.replace(self.settings, money=left)

    def _compared_to_plan(self, report: Report, tariff: Tariff) -> Section | None:
        """What the run took next to its plan; None without a plan since the last such run."""
        from tweetcrawler.db import Database
        from tweetcrawler.look import plan

        if not isinstance(self.sink, Database):
            return None
        try:
            if not self.sink.has_plans():
                return None
            with self.sink.reader() as reader:
                return plan.kept_beside(reader, report.run, tariff)
        except TweetcrawlerError as error:
            log.debug("the plan cannot be read: %s", error)
            return None


def prepare_workers() -> None:
    """Starts loading the modules that every worker needs, and returns at once.

    Called early it costs this process nothing: they load on another core.
    """
    from tweetcrawler import pool

    # First, since the server of the workers has its socket there.
    scratch.use()
    # Both stores, since it may not be known yet which one will be used.
    pool.prepare(["tweetcrawler.work.worker", "tweetcrawler.db", "tweetcrawler.csvfiles"])


class BadLines:
    """Logs the first lines of a file that cannot be used, and counts all."""

    def __init__(self, place: object) -> None:
        self.place = place
        self.count = 0

    def __call__(self, line: int, reason: str) -> None:
        self.count += 1
        if self.count <= 100:
            log.warning("%s, line %d: %s", self.place, line, reason)


class Stop:
    """Ctrl-C and SIGTERM: the first ends the run in order, a second Ctrl-C at once."""

    def __init__(self) -> None:
        self._code: int | None = None

    def __call__(self) -> int | None:
        """The exit code that was asked for; None while nothing was."""
        return self._code

    def __enter__(self) -> Stop:
        self._before = {
            s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        # A caller that is no program of its own gets its handlers back.
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._code is not None:
            raise KeyboardInterrupt
        if self._code is None:
            self._code = 128 + number
            log.warning("stopping: open pages are saved; Ctrl-C again ends at once")


@contextlib.contextmanager
def end_in_order_on_sigterm() -> Iterator[None]:
    """SIGTERM unwinds what is under way, as Ctrl-C does, and gives its exit code."""
    with unwinding():
        try:
            yield
        except Terminated:
            raise SystemExit(TERMINATED) from None


@contextlib.contextmanager
def logged_if_long(what: str) -> Iterator[None]:
    """Logs what a step waits for, once it has taken long."""
    timer = threading.Timer(_LONG_S, log.info, ["%s", what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def plain_log_handler() -> logging.Handler:
    """Log lines on stderr, with their time where nobody else adds it."""
    handler = logging.StreamHandler()
    handler.setFormatter(journal.Formatter())
    return handler


def _live_picture(console: Console) -> Any:
    from tweetcrawler.look import display  # loads rich, which log lines do not need

    return display.LivePicture(console)


def _foreseen(sink: Database | CsvFolder, forecast: Forecast, tariff: Tariff) -> Plan:
    from tweetcrawler.db import Database
    from tweetcrawler.look import ahead

    if not isinstance(sink, Database):
        return ahead.made(forecast, ahead.NothingStored(), tariff)
    with sink.reader() as reader:
        return ahead.made(forecast, reader, tariff)


def _as_database(sink: Database | CsvFolder) -> Database:
    from tweetcrawler.db import Database

    assert isinstance(sink, Database)  # noqa: S101 - `needs_database` was called before
    return sink


def _secrets_of(key: Credential) -> list[str]:
    values = (getattr(key, each.name) for each in dataclasses.fields(key) if each.name != "name")
    return [value.reveal() for value in values if value is not None]


class _Redact(logging.Filter):
    """Takes secrets out of log lines, should one ever come near: known values, and all that
    looks like one.
    """

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
