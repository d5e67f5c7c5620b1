"""Filters of an export: each is a name, a condition, and the columns that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, and_, any_, cast, exists, func, not_, or_, select
from sqlalchemy.dialects.postgresql import TIMESTAMP

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.postgres.columns import Condition
from tweetcrawler.postgres.statements import NUMBERS, TEXTS

# Gives a column of the table or view that is read, by its name in the table of the posts.
Columns = Callable[[str], ColumnElement[Any]]
_Condition = Callable[[Columns, Any], ColumnElement[bool]]

# The view `tweets` has other names for some columns.
_ALSO_NAMED = {
    "tweet_from": "username",
    "user_mentions_name": "mention_names",
    "favorite_count": "like_count",
}


def predicate(condition: Condition, columns: Columns) -> ColumnElement[bool]:
    """The condition for a WHERE; `columns` gives the columns that it reads."""
    if condition.name in FILTERS:
        return FILTERS[condition.name](columns, condition.value)
    choices = CHOICES[condition.name]
    any_of = or_(*(choices[choice](columns) for choice in condition.value))
    # NOT of NULL is NULL, which a WHERE takes for false: rows without hashtags would be missing
    # from `without=hashtags`.
    return not_(func.coalesce(any_of, False)) if condition.name == "without" else any_of


def columns_for(
    condition: Condition, known: Mapping[str, ColumnElement[Any]], place: str
) -> Columns:
    """The columns of the table or view `place` by the names that a filter has for them.

    **Errors**: `ConfigurationError` for a column that is not there.
    """

    def column(name: str) -> ColumnElement[Any]:
        found = next((n for n in (name, _ALSO_NAMED.get(name)) if n in known), None)
        if found is None:
            raise ConfigurationError(
                f"the filter {condition.name} reads the column {name}, which {place} does not "
                "have; leave the filter out or name another view"
            )
        return known[found]

    return column


def _one_of(name: str) -> _Condition:
    return lambda c, names: func.lower(c(name)) == any_(cast(names, TEXTS))


def _list(column: ColumnElement[Any]) -> ColumnElement[Any]:
    # The table holds lists as text in PostgreSQL's own notation, such as `{a,b}`.
    return cast(column, ARRAY(Text))


def _has_one_of(name: str) -> _Condition:
    def condition(c: Columns, names: Any) -> ColumnElement[bool]:
        each: Any = func.unnest(_list(c(name))).column_valued("e")
        return exists(select(each).where(func.lower(each) == any_(cast(names, TEXTS))))

    return condition


def _has_part(c: Columns, part: Any) -> ColumnElement[bool]:
    # `strpos` and not LIKE, to which % and _ in an address would be wildcards.
    each: Any = func.unnest(_list(c("urls"))).column_valued("e")
    return exists(select(each).where(func.strpos(func.lower(each), func.lower(part)) > 0))


def _at_least(name: str) -> _Condition:
    return lambda c, value: c(name) >= value


def _at_most(name: str) -> _Condition:
    return lambda c, value: c(name) <= value


def _moment(c: Columns) -> ColumnElement[Any]:
    # The table holds the time as text, as its first users have it; the view `tweets` as a time.
    return cast(c("created_at"), TIMESTAMP(timezone=True))


FILTERS: Mapping[str, _Condition] = {
    "handle": _one_of("tweet_from"),
    "reply_to": _one_of("in_reply_to_screen_name"),
    "retweet_of": _one_of("retweeted_status_user_handle"),
    "mentions": _has_one_of("user_mentions_name"),
    "hashtag": _has_one_of("hashtags"),
    "since": lambda c, moment: _moment(c) >= moment,
    "until": lambda c, moment: _moment(c) < moment,
    "id": lambda c, ids: c("id") == any_(cast(ids, NUMBERS)),
    "min_id": _at_least("id"),
    "max_id": _at_most("id"),
    "text": lambda c, part: func.strpos(func.lower(c("text")), func.lower(part)) > 0,
    "url": _has_part,
    "min_likes": _at_least("favorite_count"),
    "max_likes": _at_most("favorite_count"),
    "min_retweets": _at_least("retweet_count"),
    "max_retweets": _at_most("retweet_count"),
    "min_sentiment": _at_least("sentiment"),
    "max_sentiment": _at_most("sentiment"),
}
"""The filters that compare with a value: lists of folded names or ids, datetimes, text, int
or Decimal.
"""


def _is_not_empty(name: str) -> Callable[[Columns], ColumnElement[bool]]:
    return lambda c: func.cardinality(_list(c(name))) > 0


def _is_retweet(c: Columns) -> ColumnElement[bool]:
    return c("retweeted_status_id").is_not(None)


def _answers(c: Columns) -> ColumnElement[int]:
    return func.num_nonnulls(c("in_reply_to_user_id"), c("in_reply_to_status_id"))


_HAS: Mapping[str, Callable[[Columns], ColumnElement[bool]]] = {
    "hashtags": _is_not_empty("hashtags"),
    "urls": _is_not_empty("urls"),
    "media": _is_not_empty("media"),
    "mentions": _is_not_empty("user_mentions_name"),
}
CHOICES: Mapping[str, Mapping[str, Callable[[Columns], ColumnElement[bool]]]] = {
    "has": _HAS,
    "without": _HAS,
    "is": {
        "original": lambda c: and_(c("retweeted_status_id").is_(None), _answers(c) == 0),
        "reply": lambda c: and_(c("retweeted_status_id").is_(None), _answers(c) > 0),
        "retweet": _is_retweet,
    },
}
"""The filters whose value is a list of these words."""
