"""Rules of the filtered stream: the operator's file, those at X, and how both become equal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.queries import normalised
from tweetcrawler.secret import read_text
from tweetcrawler.trouble import cleaned

# X's limits of pay-per-use, August 2026.
RULES_MAX, LENGTH_MAX = 1_000, 1_024
# A rule acts within this time after it was added, without a new connection.
ACTS_AFTER_S = 20.0
# Rules of one request; X names no limit, and a body stays small.
AT_ONCE = 100
_LINE = re.compile(r"(?P<tag>[\w .-]{1,80}):\s+(?P<query>\S.*)")
_COMMENT = re.compile(r"\s*(#(\s.*)?)?")


@dataclass(frozen=True)
class Rule:
    """A rule as the operator wants it; `line` is that of the file."""

    tag: str
    value: str
    line: int = 0


@dataclass(frozen=True)
class Known:
    """A rule that X has; `ours`: this program added it."""

    id: int
    value: str
    tag: str
    ours: bool = False


@dataclass(frozen=True)
class Changes:
    """Changes that make X's rules those of the file; `kept` are in both, `others` are those of
    another program.
    """

    add: tuple[Rule, ...]
    delete: tuple[Known, ...]
    kept: tuple[Known, ...]
    others: tuple[Known, ...]


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file, `tag: query` on each line.

    **Errors**: `ConfigurationError` names the lines that cannot be used.
    """
    found: dict[str, Rule] = {}
    wrong: list[str] = []
    for number, text in enumerate(read_text(path, "file of rules").splitlines(), start=1):
        if _COMMENT.fullmatch(text):
            continue
        matched = _LINE.fullmatch(text.strip())
        if matched is None:
            wrong.append(f"line {number} is no `tag: query`")
            continue
        value = normalised(matched["query"])
        if len(value) > LENGTH_MAX:
            wrong.append(f"line {number} has {len(value):,} characters, X takes {LENGTH_MAX:,}")
        elif value in found:
            wrong.append(f"line {number} repeats the query of line {found[value].line}")
        else:
            found[value] = Rule(matched["tag"].strip(), value, number)
    if len(found) > RULES_MAX:
        wrong.append(f"{len(found):,} rules are more than the {RULES_MAX:,} that X takes")
    if wrong:
        raise ConfigurationError(f"{path}: {'; '.join(wrong[:10])}. Correct them.")
    if not found:
        raise ConfigurationError(f"{path} has no rule: write `tag: query` on a line")
    return list(found.values())


def compared(wanted: Sequence[Rule], known: Iterable[Known]) -> Changes:
    """The changes to make at X. The same query under another tag is the same rule."""
    here = {one.value: one for one in known}
    values = {rule.value for rule in wanted}
    left = [one for one in here.values() if one.value not in values]
    return Changes(
        add=tuple(rule for rule in wanted if rule.value not in here),
        delete=tuple(one for one in left if one.ours),
        kept=tuple(here[rule.value] for rule in wanted if rule.value in here),
        others=tuple(one for one in left if not one.ours),
    )


def known_of(answer: Mapping[str, Any], ours: Iterable[int]) -> list[Known]:
    """The rules in an answer of X."""
    data = answer.get("data")
    rules = [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
    own = set(ours)
    return [
        Known(
            int(one["id"]),
            str(one.get("value", "")),
            str(one.get("tag") or ""),
            int(one["id"]) in own,
        )
        for one in rules
        if str(one.get("id", "")).isdecimal()
    ]


def refusals(answer: Mapping[str, Any], wanted: Sequence[Rule]) -> list[str]:
    """A sentence for each rule that X does not take."""
    errors = answer.get("errors")
    lines = {rule.value: rule.line for rule in wanted}
    return [
        _refusal(one, lines.get(str(one.get("value"))))
        for one in (errors if isinstance(errors, list) else [])
        if isinstance(one, dict)
    ]


def _refusal(error: Mapping[str, Any], line: int | None) -> str:
    details = error.get("details")
    said = "; ".join(map(str, details)) if isinstance(details, list) else error.get("detail")
    where = f"line {line}" if line else str(error.get("value") or error.get("id") or "a rule")
    return cleaned(f"{where}: {said or error.get('title') or 'X gives no reason'}")


def in_parts(rules: Sequence[Any]) -> list[Sequence[Any]]:
    """Rules by the request."""
    return [rules[at : at + AT_ONCE] for at in range(0, len(rules), AT_ONCE)]


Change = Callable[[Mapping[str, Any], bool], Mapping[str, Any]]


def try_out(changes: Changes, change: Change) -> list[str]:
    """X's objections to the changes, from a dry run; nothing is changed."""
    wrong: list[str] = []
    for part in in_parts(changes.add):
        wrong += refusals(change(_add(part), True), part)
    return wrong


def make_equal(changes: Changes, change: Change, *, delete_others: bool) -> None:
    """Changes the rules at X.

    **Errors**: `ConfigurationError` when X takes a rule that it took in the dry run no more.
    """
    gone = [*changes.delete, *(changes.others if delete_others else ())]
    for part in in_parts(gone):
        change({"delete": {"ids": [str(one.id) for one in part]}}, False)
    for part in in_parts(changes.add):
        wrong = refusals(change(_add(part), False), part)
        if wrong:
            raise ConfigurationError(f"X does not take {'; '.join(wrong[:10])}. Correct them.")


def _add(rules: Sequence[Rule]) -> dict[str, Any]:
    return {"add": [{"value": rule.value, "tag": rule.tag} for rule in rules]}
