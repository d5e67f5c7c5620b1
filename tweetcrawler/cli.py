"""The commands: the only module that prints, asks, catches signals and ends the program."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import getpass
import itertools
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tweetcrawler import endpoints, files, prices, settings
from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.prices import Tariff
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings, inputs

if TYPE_CHECKING:
    from rich.console import Console

    from tweetcrawler.crawl import Report
    from tweetcrawler.csvfiles import CsvFolder
    from tweetcrawler.db import Database, Reader
    from tweetcrawler.look.display import LivePicture, LogLines
    from tweetcrawler.look.plan import Plan
    from tweetcrawler.look.sections import Section

log = logging.getLogger("tweetcrawler")

STATUS_EVERY_S = 2.0
# While nothing is due the list is read again this often: handles may have been added to it.
WATCH_LOOKS_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code, see `--help`."""
    try:
        chosen = settings.parse(
            sys.argv[1:] if argv is None else argv, environ=os.environ, folder=Path.cwd()
        )
        code = _COMMANDS[chosen.command](chosen)
        sys.stdout.flush()
    except TweetcrawlerError as error:
        print(f"tweetcrawler: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 1
    except OSError as error:
        _forget_stdout()
        with contextlib.suppress(OSError):
            print(
                f"tweetcrawler: {error.filename or 'the output'}: {error.strerror or error}",
                file=sys.stderr,
            )
        return 1
    return code


def _forget_stdout() -> None:
    """Whoever read our output has gone, or there is no room for it; Python would try, and
    complain, once more.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help(_: Settings) -> int:
    print(settings.help_text())
    return 0


def _version(_: Settings) -> int:
    print(settings.version_text())
    return 0


def _crawl(chosen: Settings) -> int:
    with _prepared(chosen, before=lambda: inputs.count_lines(chosen.handles_file)) as desk:
        return desk.told(_timelines(chosen, desk))


def _timelines(chosen: Settings, desk: _Desk) -> Report:
    from tweetcrawler import crawl

    bad = _BadLines(chosen.handles_file)
    handles = inputs.read_handles(chosen.handles_file, on_bad=bad)
    count = inputs.count_lines(chosen.handles_file)
    with desk.display() as shown:
        report = crawl.crawl(
            chosen,
            desk.sink,
            desk.credentials,
            handles,
            display=shown,
            stopped=desk.stop,
            handle_count=count,
        )
    report.bad_lines = bad.count
    return report


def _search(chosen: Settings) -> int:
    from rich.console import Console

    from tweetcrawler import crawl
    from tweetcrawler.look import display
    from tweetcrawler.settings import lists

    queries = lists.read_queries(chosen.search.queries, chosen.search.queries_file)
    with _prepared(chosen) as desk:
        run = crawl.count if chosen.search.count else crawl.search
        with desk.display() as shown:
            report = run(
                chosen, desk.sink, desk.credentials, queries, display=shown, stopped=desk.stop
            )
        if chosen.search.count:
            page_size = endpoints.SEARCH_ALL_MAX if chosen.archive else endpoints.SEARCH_RECENT_MAX
            display.print_counts(report, Console(), tariff=_tariff(chosen), page_size=page_size)
        return desk.told(report)


def _trending(chosen: Settings) -> int:
    from tweetcrawler import crawl
    from tweetcrawler.settings import places

    wanted = [places.place(name) for name in chosen.trending.places]
    _needs_database(chosen, "trending keeps what was seen in a table")
    with _prepared(chosen) as desk:
        while True:
            began_at = time.monotonic()
            database = desk.database()
            with desk.display() as shown:
                report = crawl.collect_trends(
                    chosen, database, desk.credentials, wanted, display=shown, stopped=desk.stop
                )
            code = desk.told(report)
            chosen = desk.rest(chosen, report)
            if chosen.trending.timelines and code in (0, 1):
                with database.session() as session:
                    authors = session.trending_authors(report.run, chosen.trending.timelines)
                with desk.display() as shown:
                    report = crawl.crawl(
                        chosen,
                        database,
                        desk.credentials,
                        iter(authors),
                        display=shown,
                        stopped=desk.stop,
                        handle_count=len(authors),
                    )
                code = desk.told(report) or code
                chosen = desk.rest(chosen, report)
            if chosen.trending.every_s is None or code not in (0, 1):
                return code
            while time.monotonic() < began_at + chosen.trending.every_s:
                if (stopped := desk.stop()) is not None:
                    return stopped
                time.sleep(0.2)


def _snowball(chosen: Settings) -> int:
    from tweetcrawler.settings import lists

    _needs_database(chosen, "snowball asks a table whom its posts refer to")
    depth = chosen.snowball.depth
    if depth is None:
        _log_to_stderr(chosen, ())
        with _sink(chosen) as sink:
            return 0 if _next_level(chosen, sink) else _no_next_level()
    if chosen.snowball.stdout:
        raise ConfigurationError(
            "--stdout leaves the handles file as it is, so --depth has nothing to crawl."
        )
    with _prepared(chosen, before=lambda: inputs.count_lines(chosen.handles_file)) as desk:
        while True:
            report = _timelines(chosen, desk)
            code = desk.told(report)
            chosen = desk.rest(chosen, report)
            if code not in (0, 1) or lists.level_of(chosen.handles_file) >= depth:
                return code
            if not _next_level(chosen, desk.sink):
                return _no_next_level()


def _next_level(chosen: Settings, sink: Database | CsvFolder) -> bool:
    """Makes the next level, or prints it; False when it is empty."""
    from tweetcrawler import snowball
    from tweetcrawler.db import Database
    from tweetcrawler.settings import lists

    assert isinstance(sink, Database)  # noqa: S101 - the command has seen to it
    wanted = chosen.snowball
    found, without = snowball.next_level(
        sink, wanted.by, min_count=wanted.min_count, limit=wanted.limit
    )
    if without:
        log.warning(
            "%d pages were stored without what X sent (raw = off): who is quoted there is not known",
            without,
        )
    if wanted.stdout:
        for handle, _ in found:
            print(handle)
    elif found:
        level = lists.level_of(chosen.handles_file) + 1 if chosen.handles_file.exists() else 1
        lists.replace_handles(
            chosen.handles_file, [handle for handle, _ in found], level=level, by=wanted.by
        )
        print(
            f"level {level}: {len(found):,} handles in {chosen.handles_file}; the old ones are in "
            f"{chosen.handles_file.name}.bk"
        )
    return bool(found)


def _no_next_level() -> int:
    print("the stored posts refer to nobody who is not known already", file=sys.stderr)
    return 0


def _hydrate(chosen: Settings) -> int:
    from tweetcrawler import crawl
    from tweetcrawler.settings import lists

    _needs_database(chosen, "hydrate looks into a table for what is stored already")
    bad = _BadLines(chosen.hydrate.ids_file or "stdin")
    ids = lists.read_ids(chosen.hydrate.ids_file, on_bad=bad)
    with _prepared(chosen) as desk:
        with desk.display() as shown:
            report = crawl.look_up(
                chosen,
                desk.database(),
                desk.credentials,
                lists.blocks(ids, endpoints.IDS_A_LOOKUP),
                display=shown,
                stopped=desk.stop,
            )
        report.bad_lines = bad.count
        return desk.told(report)


class _BadLines:
    """Logs the first lines of a file that cannot be used, and counts all."""

    def __init__(self, place: object) -> None:
        self._place = place
        self.count = 0

    def __call__(self, line: int, reason: str) -> None:
        self.count += 1
        if self.count <= 100:
            log.warning("%s, line %d: %s", self._place, line, reason)


@dataclass(frozen=True)
class _Desk:
    """What every command needs that asks X: keys, a sink, a way to be stopped, a display, a
    report at the end.
    """

    chosen: Settings
    credentials: tuple[Credential, ...]
    sink: Database | CsvFolder
    stop: _Stop

    def database(self) -> Database:
        """The sink of a command that has called `_needs_database`."""
        from tweetcrawler.db import Database

        assert isinstance(self.sink, Database)  # noqa: S101 - see above
        return self.sink

    def display(self) -> LivePicture | LogLines:
        """A display for one run."""
        from tweetcrawler.look import display

        live = sys.stderr.isatty() and not self.chosen.quiet
        return display.LivePicture(_terminal()) if live else display.LogLines()

    def told(self, report: Report) -> int:
        """Prints the report, and gives the exit code."""
        from rich.console import Console

        from tweetcrawler.look import display

        display.print_report(report, Console(), tariff=_tariff(self.chosen))
        if (planned := self._beside_its_plan(report)) is not None:
            display.print_sections([planned], Console())
        return report.exit_code

    def rest(self, chosen: Settings, report: Report) -> Settings:
        """The settings for the command's next run: a budget is the command's, however many
        runs it makes.
        """
        money, tariff = chosen.money, _tariff(chosen)
        cost = sum(
            tariff.cost(
                r["endpoint"],
                requests=int(r["pages"]),
                posts=int(r["posts"]),
                users=int(r["users"]),
            )
            for r in report.totals
        )
        budget = None if money.budget is None else max(0.0, money.budget - cost / 1_000_000)
        posts = None if money.max_posts is None else max(0, money.max_posts - report.total("posts"))
        return dataclasses.replace(
            chosen, money=dataclasses.replace(money, budget=budget, max_posts=posts)
        )

    def _beside_its_plan(self, report: Report) -> Section | None:
        """What the run took beside what was planned of it; None when there was no plan
        since the last such run.
        """
        from tweetcrawler.db import Database
        from tweetcrawler.look import plan

        if not isinstance(self.sink, Database):
            return None
        try:
            with self.sink.reader() as reader:
                return plan.kept_beside(reader, report.run, _tariff(self.chosen))
        except TweetcrawlerError as error:
            log.debug("the plan cannot be read: %s", error)
            return None


@contextlib.contextmanager
def _prepared(chosen: Settings, *, before: Callable[[], object] = lambda: None) -> Iterator[_Desk]:
    """A desk; `before` looks at what the operator handed over, when the keys are known and
    nothing is begun.
    """
    from tweetcrawler import pool

    if chosen.money.is_limited:
        _needs_database(chosen, "a budget is kept in a database, for all runs together")
    credentials = _credentials(chosen)
    _log_to_stderr(chosen, credentials)
    for note in chosen.notes:
        log.warning("%s", note)
    before()
    # While the workers' modules load on another core, this process loads its own and looks
    # at the database.
    pool.prepare(
        [
            "tweetcrawler.work.worker",
            "tweetcrawler.db" if chosen.database else "tweetcrawler.csvfiles",
        ]
    )
    with _sink(chosen) as sink, _Stop() as stop:
        yield _Desk(chosen, credentials, sink, stop)


def _tariff(chosen: Settings) -> Tariff:
    money = chosen.money
    return prices.load(
        money.prices_file, money.tariff, post=money.price_post, user=money.price_user
    )


def _needs_database(chosen: Settings, why: str) -> None:
    if chosen.database is None:
        raise ConfigurationError(
            f"{why}, and the settings say CSV; leave out --csv and CSVFolder, or name a database."
        )


def _plan(chosen: Settings) -> int:
    from tweetcrawler.look import display, plan

    _needs_database(chosen, "plan reads what is stored in a database")
    tariff = _tariff(chosen)
    counted: dict[str, int] = {}
    if chosen.look.ask:
        counted = _asked(chosen)
    else:
        _log_to_stderr(chosen, ())
    credentials = _credentials(chosen) if chosen.auth_csv is not None else ()
    with _database(chosen) as database:
        subject = plan.subject_of(_planned_run(chosen))
        with database.reader() as reader:
            made = _made_plan(chosen, reader, tariff, subject, counted)
            plan.priced(made, tariff)
            processes = chosen.threads or _processes(len(credentials))
            plan.timed(made, credentials, reader.windows(), tariff, processes=processes)
            plan.noted(made, reader, tariff)
        database.keep_plan(subject, made.as_plain())
    if chosen.look.as_json:
        print(json.dumps(made.as_plain()))
    else:
        display.print_sections(plan.sections(made, tariff), _stdout())
    return 0


def _report(chosen: Settings) -> int:
    from tweetcrawler.look import report

    _needs_database(chosen, "report reads a database")
    page = chosen.look.html
    if page is None and chosen.look.markdown is None:
        page = Path.cwd() / "report.html"
    with _end_in_order_on_sigterm(), _database(chosen) as database, database.reader() as reader:
        findings = report.gather(reader, _tariff(chosen), place=database.place)
    for path, made in ((page, report.as_page), (chosen.look.markdown, report.as_text)):
        if path is not None:
            _write_whole(path, made(findings))
            print(path)
    return 0


def _write_whole(path: Path, text: str) -> None:
    try:
        files.replace_whole(path, text.encode())
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); name another place"
        ) from None


def _watch(chosen: Settings) -> int:
    from tweetcrawler import crawl

    _needs_database(chosen, "watch keeps the next visit of each handle in a database")
    with _prepared(chosen, before=lambda: inputs.count_lines(chosen.handles_file)) as desk:
        database = desk.database()
        while True:
            due, next_s = _due(chosen, database)
            code = 0
            if due:
                with desk.display() as shown:
                    report = crawl.crawl(
                        chosen,
                        database,
                        desk.credentials,
                        iter(due),
                        display=shown,
                        stopped=desk.stop,
                        handle_count=len(due),
                    )
                with database.session() as session:
                    session.schedule(
                        report.run, least_s=chosen.watch.min_s, longest_s=chosen.watch.max_s
                    )
                code = desk.told(report)
                chosen = desk.rest(chosen, report)
            elif chosen.watch.once:
                log.info(
                    "nothing is due%s",
                    "" if next_s is None else f"; the next visit is in {next_s:.0f} s",
                )
            if chosen.watch.once or code not in (0, 1, 5):
                return code
            if code == 5 and 0 in (chosen.money.max_posts, chosen.money.budget):
                return code  # its own budget does not come back with the next day
            if not due or code:
                pause_s = WATCH_LOOKS_S if code != 5 else _until_midnight_s()
                if not due and next_s is not None:
                    pause_s = min(pause_s, next_s + 0.1)
                if (stopped := _pause(desk.stop, pause_s)) is not None:
                    return stopped
            elif (stopped := desk.stop()) is not None:
                return stopped


def _due(chosen: Settings, database: Database) -> tuple[list[str], float | None]:
    """The handles of the list that are to be visited now, and how long it is until the next
    one is.
    """
    due: list[str] = []
    waits: list[float] = []
    handles = inputs.read_handles(chosen.handles_file, on_bad=_BadLines(chosen.handles_file))
    with database.reader() as reader:
        while block := list(itertools.islice(handles, 5_000)):
            now, next_s = reader.due(block)
            due += now
            waits += [] if next_s is None else [next_s]
    return due, min(waits, default=None)


def _until_midnight_s() -> float:
    """Until the UTC day turns, when a budget may begin anew."""
    return 86_400.0 - time.time() % 86_400.0 + 5.0


def _pause(stop: Callable[[], int | None], seconds: float) -> int | None:
    """Waits; gives the exit code at once when the operator wants to end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (stopped := stop()) is not None:
            return stopped
        time.sleep(min(0.2, seconds))
    return stop()


def _asked(chosen: Settings) -> dict[str, int]:
    """Asks X what a plan wants to know: buys unknown users, or has the posts of queries
    counted.
    """
    from tweetcrawler import crawl
    from tweetcrawler.settings import lists

    with _prepared(chosen) as desk:
        if chosen.search.queries or chosen.search.queries_file:
            queries = lists.read_queries(chosen.search.queries, chosen.search.queries_file)
            with desk.display() as shown:
                report = crawl.count(
                    chosen, desk.sink, desk.credentials, queries, display=shown, stopped=desk.stop
                )
        elif not chosen.look.trending:
            handles = inputs.read_handles(
                chosen.handles_file, on_bad=_BadLines(chosen.handles_file)
            )
            with desk.display() as shown:
                report = crawl.find_users(
                    chosen,
                    desk.database(),
                    desk.credentials,
                    handles,
                    display=shown,
                    stopped=desk.stop,
                )
        else:
            return {}
    if report.ended:
        log.warning("X was not asked everything: %s", report.ended)
    return dict(report.counted)


def _planned_run(chosen: Settings) -> dict[str, object]:
    """The arguments of the run that is planned."""
    command = "crawl"
    if chosen.look.trending:
        command = "trending"
    elif chosen.search.queries or chosen.search.queries_file:
        command = "search"
    return {**chosen.arguments_without_secrets(), "command": command}


def _made_plan(
    chosen: Settings, reader: Reader, tariff: Tariff, subject: str, counted: Mapping[str, int]
) -> Plan:
    from tweetcrawler.look import plan
    from tweetcrawler.settings import lists, places

    if chosen.look.trending:
        wanted = chosen.trending
        count = len([places.place(name) for name in wanted.places])
        return plan.of_trends(
            reader,
            count,
            trends=wanted.max_trends,
            per_trend=wanted.max_per_trend,
            subject=subject,
        )
    if chosen.search.queries or chosen.search.queries_file:
        queries = lists.read_queries(chosen.search.queries, chosen.search.queries_file)
        return plan.of_queries(reader, queries, counted, archive=chosen.archive, subject=subject)
    handles = inputs.read_handles(chosen.handles_file, on_bad=_BadLines(chosen.handles_file))
    return plan.of_handles(reader, handles, tariff, subject=subject)


def _status(chosen: Settings) -> int:
    from tweetcrawler.look import display

    _needs_database(chosen, "status reads a database")
    tariff = _tariff(chosen)
    console = _stdout()
    if chosen.look.ask:
        _ask_usage(chosen)
    with _database(chosen) as database:
        if not chosen.look.refresh:
            state, sections = _looked(chosen, database, tariff)
            if chosen.look.as_json:
                print(json.dumps(state))
            else:
                display.print_sections(sections, console)
            return 0
        if not console.is_terminal:
            raise ConfigurationError(
                "status --watch draws on a terminal, and this is none; leave out --watch"
            )
        with display.Changing(console) as changing:
            while True:
                changing.show(_looked(chosen, database, tariff)[1])
                time.sleep(STATUS_EVERY_S)


def _ask_usage(chosen: Settings) -> None:
    from tweetcrawler import crawl

    with _prepared(chosen) as desk, desk.display() as shown:
        report = crawl.ask_usage(
            chosen, desk.database(), desk.credentials, display=shown, stopped=desk.stop
        )
    for outcome in report.named:
        log.warning("%s: %s", outcome.name, outcome.reason)


def _looked(
    chosen: Settings, database: Database, tariff: Tariff
) -> tuple[object, Sequence[Section]]:
    """The state of things, as plain values and for readers."""
    from tweetcrawler.look import plan, status

    with database.reader() as reader:
        if chosen.look.handle is None:
            next_run = plan.next_run(reader, tariff)
            budgets = {"day": chosen.money.budget_per_day, "month": chosen.money.budget_per_month}
            everything = status.of_all(
                reader, tariff, next_run=next_run.as_plain(), budgets=budgets
            )
            return everything, status.sections(everything)
        found = reader.named(chosen.look.handle.strip().removeprefix("@"))
        if not found:
            raise ConfigurationError(
                "the database knows no target of that name: handles as they are listed, queries as they were searched"
            )
        details = [
            status.in_detail(reader, known, next_run=plan.of_one(known, reader, tariff).as_plain())
            for known in found
        ]
        return details, [
            section for detail in details for section in status.detail_sections(detail)
        ]


def _processes(credentials: int) -> int:
    from tweetcrawler import crawl

    return crawl.default_processes(max(1, credentials))


def _stdout() -> Console:
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=200)


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
    from tweetcrawler.local import embedded

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
            raise ConfigurationError(
                "the private server is not running: `tweetcrawler db start` starts it"
            )
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

    from tweetcrawler.archives import importing
    from tweetcrawler.db import Database
    from tweetcrawler.look import display

    _log_to_stderr(chosen, ())
    for note in chosen.notes:
        log.warning("%s", note)
    with _sink(chosen) as database, _Stop() as stop:
        assert isinstance(database, Database)  # noqa: S101 - the settings name one
        live = sys.stderr.isatty() and not chosen.quiet
        with (
            display.ImportPicture(Console(stderr=True)) if live else display.ImportLines() as shown
        ):
            report = importing.import_files(chosen, database, display=shown, stopped=stop)
    display.print_import_report(report, Console())
    return report.exit_code


def _demo(chosen: Settings) -> int:
    from tweetcrawler.local import demo

    return demo.run(chosen.keep, say=functools.partial(print, flush=True))


_COMMANDS: dict[str, Callable[[Settings], int]] = {
    "crawl": _crawl,
    "db": _db,
    "sandbox": _sandbox,
    "demo": _demo,
    "export": _export,
    "import": _import,
    "plan": _plan,
    "report": _report,
    "status": _status,
    "watch": _watch,
    "search": _search,
    "trending": _trending,
    "snowball": _snowball,
    "hydrate": _hydrate,
    "help": _help,
    "version": _version,
}


@contextlib.contextmanager
def _database(chosen: Settings) -> Iterator[Database]:
    """The database of a command that has called `_needs_database`."""
    from tweetcrawler.db import Database

    with _sink(chosen) as sink:
        assert isinstance(sink, Database)  # noqa: S101 - see above
        yield sink


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
    from tweetcrawler.local import embedded

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
        self._before = {
            s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._code is not None:
            raise KeyboardInterrupt
        if self._code is None:
            self._code = 128 + number
            log.warning(
                "stopping: pages under way are finished and saved; Ctrl-C again ends at once"
            )


class _Redact(logging.Filter):
    """Takes secrets out of log lines, should one ever come near: known values, and whatever
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


@functools.cache
def _terminal() -> Console:
    """The one console on stderr: log lines and the live picture make room for each other
    only on the same.
    """
    from rich.console import Console

    return Console(stderr=True)


def _log_to_stderr(chosen: Settings, credentials: Sequence[Credential]) -> None:
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
        from rich.logging import RichHandler

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
