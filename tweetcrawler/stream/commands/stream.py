"""Command `stream`: collects posts while they are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import COLLECT, Command, Words
from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tweetcrawler.setup import Setup
    from tweetcrawler.stream.asking import App
    from tweetcrawler.stream.rules import Changes, Known


@dataclass(frozen=True)
class Values:
    """The rules, and how they are brought to X."""

    acts: tuple[str, ...] = ()
    rules: Path | None = None
    other_rules: Literal["refuse", "keep", "delete"] = "refuse"

    def __post_init__(self) -> None:
        if self.acts not in ((), ("rules",), ("rules", "list"), ("rules", "check")):
            raise ConfigurationError(
                "`tweetcrawler stream` takes `rules list` and `rules check`, and no other words"
            )


def run(setup: Setup, values: Values) -> int:
    """Shows rules, compares them, or reads the stream."""
    from tweetcrawler.outcome import RunReport
    from tweetcrawler.stream import asking
    from tweetcrawler.stream.rules import compared, read_rules

    # Before the keys are asked for: a fault in the file is told at once.
    is_list = values.acts in (("rules",), ("rules", "list"))
    if values.rules is None and not is_list:
        raise ConfigurationError("name the rules of the stream with --rules FILE")
    wanted = read_rules(values.rules) if values.rules else []
    with setup.asking_x(why="the rules of a stream are remembered in a database") as opened:
        key, report = asking.chosen(opened.keys), RunReport()
        recorded = asking.recorded(opened.settings, opened.database, (key,), report, setup.tariff())
        with recorded as job, opened.database.session() as session:
            app = asking.App(job, session, key)
            known = app.rules()
            if values.acts == ("rules", "check"):
                report.exit_code = _check(setup, app, compared(wanted, known), values)
            else:
                report.exit_code = _list(setup, known)
        return report.exit_code


def _list(setup: Setup, known: Sequence[Known]) -> int:
    """Shows the rules that X has."""
    rows = [{"id": str(r.id), "tag": r.tag, "query": r.value, "ours": r.ours} for r in known]
    lines = [f"{_shown(r)}{'' if r.ours else '  (not added here)'}" for r in known]
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
    about="rules list: the rules that X has of this app, and whose they are.\n"
    "rules check: what would be changed to make them those of the file, and what X says to it "
    "in a dry run. Nothing is changed.",
    words=Words("rules [list|check]", "acts"),
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
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler stream rules list", "the rules that X has"),
        ("tweetcrawler stream rules check --rules rules.txt", "what the file would change"),
        ("tweetcrawler stream rules check --rules rules.txt --other-rules keep", "and keep others"),
    ),
    price="nothing: X charges for posts, not for rules.",
)
