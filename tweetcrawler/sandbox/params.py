"""The parameters of a request.

Which an endpoint takes, and the sentence that X sends back for a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from tweetcrawler.sandbox import problems
from tweetcrawler.sandbox.clock import seconds_of
from tweetcrawler.sandbox.fields import TWEET_LISTS, USER_LISTS, accepted

# Names of more than 15 signs exist from the first years; X refuses even these in a request.
USERNAME = re.compile(r"[A-Za-z0-9_]{1,15}")
ID = re.compile(r"[0-9]{1,19}")


class WrongValue(ValueError):
    """The message that X would send about a value."""


Rule = Callable[[str, str], Any]


@dataclass(slots=True, frozen=True)
class Rules:
    """Rules of one endpoint: one per parameter, and the required ones."""

    of: Mapping[str, Rule]
    required: tuple[str, ...] = ()

    def check(self, sent: list[tuple[str, str]]) -> dict[str, Any]:
        """The values by name; refuses with all that is wrong at once."""
        values: dict[str, Any] = {}
        errors: list[problems.Body] = []
        # X names all that is wrong in one answer, not only the first.
        for name, raw in sent:
            rule = self.of.get(name)
            if rule is None:
                errors.append(
                    problems.wrong_parameter(
                        name,
                        [raw],
                        f"The query parameter [{name}] is not one of [{','.join(self.of)}]",
                    )
                )
                continue
            try:
                values[name] = rule(name, raw)
            except WrongValue as wrong:
                errors.append(
                    problems.wrong_parameter(
                        name, raw.split(",") if "," in raw else [raw], str(wrong)
                    )
                )
        errors.extend(
            problems.wrong_parameter(name, [""], f"The `{name}` query parameter can not be empty")
            for name in self.required
            if name not in values and not any(name == sent_ for sent_, _ in sent)
        )
        if errors:
            raise problems.invalid(errors)
        return values


def number_between(least: int, most: int) -> Rule:
    def rule(name: str, raw: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,9}", raw):
            raise WrongValue(f"The `{name}` query parameter value [{raw}] is not a number")
        if not least <= int(raw) <= most:
            raise WrongValue(
                f"The `{name}` query parameter value [{raw}] is not between {least} and {most}"
            )
        return int(raw)

    return rule


# X echoes the whole list when there is one value too many: bodies of 101 ids are long.
def list_of(pattern: re.Pattern[str], most: int) -> Rule:
    def rule(name: str, raw: str) -> list[str]:
        values = raw.split(",")
        if not raw or not 1 <= len(values) <= most:
            count = len(values) if raw else 0
            raise WrongValue(
                f"The number of values in the `{name}` query parameter list [{count}] is not "
                f"between 1 and {most}"
            )
        for value in values:
            if not pattern.fullmatch(value):
                raise WrongValue(
                    f"The `{name}` query parameter value [{value}] does not match "
                    f"^{pattern.pattern}$"
                )
        return values

    return rule


def one_id(name: str, raw: str) -> int:
    if not ID.fullmatch(raw):
        raise WrongValue(f"The `{name}` query parameter value [{raw}] is not valid")
    return int(raw)


def one_of(*choices: str) -> Rule:
    def rule(name: str, raw: str) -> str:
        if raw not in choices:
            raise WrongValue(
                f"The `{name}` query parameter value [{raw}] is not one of [{','.join(choices)}]"
            )
        return raw

    return rule


def some_of(*choices: str) -> Rule:
    return partial(_some_of, listed=choices, taken=frozenset(choices))


def moment(name: str, raw: str) -> float:
    seconds = seconds_of(raw)
    if seconds is None:
        raise WrongValue(
            f"The `{name}` query parameter value [{raw}] is not a valid RFC3339 timestamp"
        )
    # X cuts times to whole seconds.
    return float(int(seconds))


def text_up_to(most: int) -> Rule:
    def rule(name: str, raw: str) -> str:
        if not raw.strip():
            raise WrongValue(f"The `{name}` query parameter can not be empty")
        if len(raw) > most:
            raise WrongValue(
                f"The `{name}` query parameter value is {len(raw)} characters long; at most {most} "
                "are allowed for your plan"
            )
        return raw

    return rule


def any_text(name: str, raw: str) -> str:
    if not raw:
        raise WrongValue(f"The `{name}` query parameter can not be empty")
    return raw


def _list_rules(lists: Mapping[str, tuple[str, ...]]) -> dict[str, Rule]:
    return {
        name: partial(_some_of, listed=choices, taken=accepted(name, lists), text=True)
        for name, choices in lists.items()
    }


@lru_cache(maxsize=256)
def _some_of(
    name: str, raw: str, *, listed: tuple[str, ...], taken: frozenset[str], text: bool = False
) -> Any:
    values = raw.split(",")
    for value in values:
        if value not in taken:
            raise WrongValue(
                # The list is long: X names every value that it knows.
                f"The `{name}` query parameter value [{value}] is not one of [{','.join(listed)}]"
            )
    return raw if text else values


TWEET_RULES = _list_rules(TWEET_LISTS)
USER_RULES = _list_rules(USER_LISTS)
