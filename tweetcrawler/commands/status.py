"""Command `status`: what is stored, spent and open."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.settings.commands import LOOK, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import duration, number, text_of

if TYPE_CHECKING:
    from rich.console import Console

    from tweetcrawler.db import Database, Reader
    from tweetcrawler.look.check import Look
    from tweetcrawler.look.sections import Section
    from tweetcrawler.prices import Tariff
    from tweetcrawler.setup import Setup

log = logging.getLogger("tweetcrawler")

_WHY = "status reads a database"
_EVERY_S = 2.0


@dataclass(frozen=True)
class Values:
    """The one target that is shown, if any, and how."""

    handle: str | None = None
    ask: bool = False
    watch: bool = False
    check: bool = False
    max_age_s: float = 26 * 3600.0
    min_free: float = 1.0
    metrics_file: Path | None = None


def run(setup: Setup, values: Values) -> int:
    """Shows the state once, or again and again; or says in a line whether it is as it should be."""
    from tweetcrawler.look import display

    setup.needs_database(_WHY)
    if values.check or values.metrics_file:
        return _checked(setup, values)
    tariff = setup.tariff()
    # Free of charge, but X allows few such requests, so it is asked only on demand.
    if values.ask:
        _ask_usage(setup)
    with setup.database(_WHY) as database:
        if values.watch:
            setup.front.draw(lambda console: _keep_showing(setup, values, database, console))
            return 0
        state, sections = _looked(setup, values, database, tariff)
    # A pipe gets whole lines: tables are cut to the width of terminals only.
    setup.front.answer(state, lambda console: display.print_sections(sections, console), wide=True)
    return 0


def _checked(setup: Setup, values: Values) -> int:
    """Prints the line for a monitor, and writes the file of figures."""
    from tweetcrawler.look import check

    look: check.Look | None = None
    try:
        with setup.database(_WHY) as database:
            look = setup.look(database, max_age_s=values.max_age_s, min_free_gb=values.min_free)
        found = check.problems(look)
        code, line = 1 if found else 0, check.line(found, look.status)
    except TweetcrawlerError as error:
        found, code = [check.Problem("database", str(error))], error.exit_code
        line = check.line(found, {})
    if values.metrics_file:
        _write_metrics(values.metrics_file, look)
    if not values.check:
        return code if look is None else 0
    plain = [{"kind": one.kind, "text": one.text} for one in found]
    setup.front.report({"ok": not found, "problems": plain}, line, code=code)
    return code


def _write_metrics(path: Path, look: Look | None) -> None:
    from tweetcrawler import files
    from tweetcrawler.look import metrics

    try:
        # node_exporter runs as another user, and finds the old file or the new one.
        files.replace_whole(path, metrics.as_text(look), mode=0o644)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); name another place"
        ) from None


def _keep_showing(setup: Setup, values: Values, database: Database, console: Console) -> None:
    from tweetcrawler.look import display, status

    if not console.is_terminal:
        raise ConfigurationError(
            "status --watch draws on a terminal, and this is none; leave out --watch"
        )
    tariff = setup.tariff()
    with display.Changing(console) as changing:
        while True:
            state, sections = _looked(setup, values, database, tariff)
            changing.show(status.changing(state) if values.handle is None else sections)
            time.sleep(_EVERY_S)


def _ask_usage(setup: Setup) -> None:
    from tweetcrawler.work import usage

    with setup.asking_x(why=_WHY) as opened:
        report = opened.run(usage.work(opened.keys))
    for outcome in report.named:
        log.warning("%s: %s", outcome.name, outcome.reason)


def _looked(
    setup: Setup, values: Values, database: Database, tariff: Tariff
) -> tuple[Mapping[str, object], Sequence[Section]]:
    """The state of everything or of one target, as plain values and for readers."""
    from tweetcrawler.look import plan, status

    with database.reader() as reader:
        part = values.handle if values.handle in status.PARTS else None
        if values.handle is not None and not part:
            return _target(values.handle, reader, tariff)
        money = setup.settings.money
        everything = status.of_all(
            reader,
            tariff,
            next_run=plan.next_run(reader, tariff).as_plain(),
            budgets={"day": money.budget_per_day, "month": money.budget_per_month},
        )
        if part:
            return everything, status.chosen(everything, part)
        shown = [*status.sections(everything), *reader.of_rooms()]
        for name, plain, sections in reader.states_of_rooms():
            everything[name] = plain
            shown += sections
        return everything, shown


def _target(
    name: str, reader: Reader, tariff: Tariff
) -> tuple[Mapping[str, object], Sequence[Section]]:
    from tweetcrawler.look import plan, status

    found = reader.named(name.strip().removeprefix("@"))
    if not found:
        raise ConfigurationError(
            "the database knows no target of that name: handles as they are listed, queries as "
            "they were searched"
        )
    details = [
        status.in_detail(reader, known, next_run=plan.of_one(known, reader, tariff).as_plain())
        for known in found
    ]
    return {"found": details}, [
        part for detail in details for part in status.detail_sections(detail)
    ]


COMMAND = Command(
    name="status",
    summary="what is stored, spent and open",
    group=LOOK,
    about="windows, runs, spent, targets: one part alone. A handle of such a name is @windows.",
    words=Words("[HANDLE|windows|runs|spent|targets]", "handle", several=False),
    options=(
        option(
            "--handle", metavar="NAME", type=text_of, help="everything about this handle or query"
        ),
        option("--ask", help="let X tell what it has counted itself (free)"),
        option("--watch", help="show it again every two seconds"),
        option("--check", help="one line for a monitor; exit code 1 when a person should look"),
        option(
            "--max-age",
            metavar="TIME",
            type=duration,
            field="max_age_s",
            help="with --check: longest time since the last visit of a target, as 26h",
        ),
        option(
            "--min-free",
            metavar="GB",
            type=number(0, 100_000),
            help="with --check: least free space of the disk, in GB",
        ),
        option(
            "--metrics-file",
            metavar="FILE",
            type=Path,
            help="write figures for Prometheus, for the textfile collector of node_exporter",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler status", "everything"),
        ("tweetcrawler status ada", "all that is known of one handle"),
        ("tweetcrawler status --check --max-age 26h", "a line and an exit code for a monitor"),
    ),
    price="nothing.",
)
