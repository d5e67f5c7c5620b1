"""Command `stream`: collects posts while they are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import COLLECT, Command, Words
from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import duration, one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tweetcrawler.db import Session
    from tweetcrawler.run import Job
    from tweetcrawler.secret import Credential
    from tweetcrawler.setup import Opened, Setup
    from tweetcrawler.stream.asking import App
    from tweetcrawler.stream.rules import Changes, Known, Rule
    from tweetcrawler.stream.running import StreamReport


@dataclass(frozen=True)
class Values:
    """The rules, and how they are brought to X."""

    acts: tuple[str, ...] = ()
    rules: Path | None = None
    other_rules: Literal["refuse", "keep", "delete"] = "refuse"
    for_s: float | None = None
    fill: Literal["on", "off"] = "on"
    no_budget: bool = False
    stream_folder: Path = Path("stream")
    silent_s: float = 25.0

    def __post_init__(self) -> None:
        known = ((), ("plan",), ("rules",), ("rules", "list"), ("rules", "check"))
        if self.acts not in known:
            raise ConfigurationError(
                "`tweetcrawler stream` takes `plan`, `rules list` and `rules check`, and no other "
                "words"
            )


def run(setup: Setup, values: Values) -> int:
    """Shows rules, compares them, or reads the stream."""
    from tweetcrawler.stream.rules import read_rules

    is_list = values.acts in (("rules",), ("rules", "list"))
    if values.rules is None and not is_list:
        raise ConfigurationError("name the rules of the stream with --rules FILE")
    # Before the keys are asked for: a fault in the file is told at once.
    wanted = read_rules(values.rules) if values.rules else []
    if not values.acts and not (setup.settings.money.is_limited or values.no_budget):
        raise ConfigurationError(
            "a stream buys posts until it is stopped: limit it with --budget, --budget-per-day or "
            "--max-posts, or say --no-budget"
        )
    if values.acts == ("plan",):
        return _planned(setup, wanted)
    with setup.asking_x(why="the rules of a stream are remembered in a database") as opened:
        return _asked(setup, opened, values, wanted)


def _planned(setup: Setup, wanted: list[Rule]) -> int:
    """Shows posts and money per day, by X's counts of the last week."""
    from tweetcrawler.coverage import EVERYTHING
    from tweetcrawler.look import ahead, plan
    from tweetcrawler.stream.planning import planned
    from tweetcrawler.walk import Reach
    from tweetcrawler.work import counts

    queries = [rule.value for rule in wanted]
    forecast = ahead.Forecast(
        lambda stored, _: plan.of_counts(stored, queries, EVERYTHING, archive=False)
    )
    with setup.asking_x(why="the answers are kept in a database", forecast=forecast) as opened:
        report = opened.run(counts.work(queries, Reach()))
    made = planned(wanted, dict(report.counted), setup.tariff())
    setup.front.report(made.as_plain(), "\n".join(made.lines()), code=report.exit_code)
    return report.exit_code


def _asked(setup: Setup, opened: Opened, values: Values, wanted: list[Rule]) -> int:
    from tweetcrawler.stream import asking
    from tweetcrawler.stream.rules import compared
    from tweetcrawler.stream.running import StreamReport

    key, report = asking.chosen(opened.keys), StreamReport()
    recorded = asking.recorded(
        opened.settings, opened.database, opened.keys, report, setup.tariff()
    )
    with recorded as job, opened.database.session() as session:
        app = asking.App(job, session, key)
        known = app.rules()
        if values.acts == ("rules", "check"):
            report.exit_code = _check(setup, app, compared(wanted, known), values)
        elif values.acts:
            report.exit_code = _list(setup, app, session, known)
        else:
            _bring(app, compared(wanted, known), values)
            app.note(app.rules(), wanted)
            _stream(opened, job, key, values, report)
    if not values.acts:
        setup.front.report(
            {"run": report.run, **report.as_plain()}, report.text, code=report.exit_code
        )
    return report.exit_code


def _bring(app: App, changes: Changes, values: Values) -> None:
    """Makes the rules at X those of the file, after X took them in a dry run.

    **Errors**: `ConfigurationError`, and nothing was changed.
    """
    from tweetcrawler.stream.rules import make_equal, try_out

    if changes.others and values.other_rules == "refuse":
        named = "; ".join(_shown(rule) for rule in changes.others[:5])
        raise ConfigurationError(
            f"X has {len(changes.others)} rules of this app that another program added ({named}): "
            "say --other-rules keep or --other-rules delete"
        )
    wrong = try_out(changes, app.change)
    if wrong:
        raise ConfigurationError(
            f"{values.rules}: X does not take {'; '.join(wrong[:10])}. Nothing was changed."
        )
    make_equal(changes, app.change, delete_others=values.other_rules == "delete")


def _stream(
    opened: Opened, job: Job, key: Credential, values: Values, report: StreamReport
) -> None:
    """Reads the stream until it ends; a database that goes away ends nothing."""
    from tweetcrawler.db import newest_schema
    from tweetcrawler.stream.asking import App
    from tweetcrawler.stream.running import Plan, Streaming

    plan = Plan(
        values.stream_folder,
        newest_schema(),
        values.for_s,
        fill=values.fill == "on",
        silent_s=values.silent_s,
    )
    # Without patience: what is not saved now is on disk, and is saved later.
    with opened.database.session(stopping=lambda: True) as session:
        app = App(job, session, key)
        Streaming(job, plan, key, app, session, report=report, stopped=opened.stop).run()


def _list(setup: Setup, app: App, session: Session, known: Sequence[Known]) -> int:
    """Shows the rules that X has, and what is known of their time."""
    from tweetcrawler.stream.known import rules_now
    from tweetcrawler.stream.running import rule_line, shown

    now = {rule.id: shown(rule) for rule in rules_now(session, app.fingerprint, app.x_now)}
    rows = [
        {"id": str(r.id), "tag": r.tag, "query": r.value, "ours": r.ours} | now.get(r.id, {})
        for r in known
    ]
    lines = [
        f"{_shown(r)}{'' if r.ours else '  (not added here)'}"
        + (f"  {rule_line(now[r.id])}" if r.id in now else "")
        for r in known
    ]
    setup.front.answer({"rules": rows}, "\n".join(lines or ["X has no rule of this app"]))
    return 0


def _check(setup: Setup, app: App, changes: Changes, values: Values) -> int:
    """Shows what a stream with these rules would change, and what X says to it."""
    from tweetcrawler.stream.rules import try_out

    wrong = try_out(changes, app.change)
    lines = [
        *(f"add     {rule.tag}: {rule.value}" for rule in changes.add),
        *(f"delete  {_shown(rule)}" for rule in changes.delete),
        *(f"{_OTHERS[values.other_rules]}  {_shown(rule)}" for rule in changes.others),
        *(f"same    {_shown(rule)}" for rule in changes.kept),
        *(f"X refuses {sentence}" for sentence in wrong),
    ]
    refused = bool(wrong) or (bool(changes.others) and values.other_rules == "refuse")
    plain = {
        "add": [rule.value for rule in changes.add],
        "delete": [rule.value for rule in changes.delete],
        "others": [rule.value for rule in changes.others],
        "same": [rule.value for rule in changes.kept],
        "refused": wrong,
    }
    code = 1 if refused else 0
    setup.front.report(plain, "\n".join(lines), code=code)
    return code


_OTHERS = {"refuse": "foreign", "keep": "keep   ", "delete": "delete "}


def _shown(rule: Known) -> str:
    return f"{rule.tag}: {rule.value}" if rule.tag else rule.value


RULES = option(
    "--rules",
    metavar="FILE",
    type=Path,
    places=EVERYWHERE,
    help="file of rules, one `tag: query` per line",
    default="none",
)
COMMAND = Command(
    name="stream",
    summary="collect posts while they are written",
    group=COLLECT,
    about="The rules of the file become those of the app at X. A reader writes X's messages to "
    "segments on disk, and the rows follow: a database that is away costs disk only. Times in "
    "which no connection was open are filled by recent search.\n"
    "plan: posts and cost per day, by X's counts of the last week.\n"
    "rules list: the rules that X has of this app, and the time that is known of each.\n"
    "rules check: what would be changed to make them those of the file, and what X says to it "
    "in a dry run. Nothing is changed.",
    words=Words("[plan | rules [list|check]]", "acts"),
    options=(
        RULES,
        option(
            "--other-rules",
            metavar="WHOSE",
            type=one_of("refuse", "keep", "delete"),
            places=EVERYWHERE,
            help="rules of the app that another program added: refuse to begin, keep or delete",
            more="Posts that they match are billed to the same account",
        ),
        option(
            "--for",
            metavar="TIME",
            type=duration,
            field="for_s",
            help="end after this time, as 2h or 7d",
            default="until it is stopped",
        ),
        option("--no-budget", help="begin without any limit of cost"),
        option(
            "--fill",
            metavar="on|off",
            type=one_of("on", "off"),
            help="on or off: fill gaps by recent search, within the same budgets",
        ),
        option(
            "--stream-folder",
            metavar="FOLDER",
            type=Path,
            places=EVERYWHERE,
            help="folder of the segments of the stream on this machine",
        ),
        option(
            "--silent-for",
            metavar="TIME",
            type=duration,
            field="silent_s",
            help="time without a byte after which a connection counts as lost",
            more="X sends a heartbeat each 20 seconds",
            default="25s",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler stream --rules rules.txt --budget-per-day 20", "for at most $20 a day"),
        ("tweetcrawler stream --rules rules.txt --for 2h --max-posts 50000", "for two hours"),
        ("tweetcrawler stream plan --rules rules.txt", "posts and cost per day"),
    ),
    price="each post about $0.005, pay-per-use, those that fill gaps too; plan: one request for "
    "each rule.",
)
