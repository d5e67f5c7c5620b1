"""Posts as X's web client gets them, kept by Zeeschuimer, twitter-web-exporter and others.

Such an object is a status of v1.1 (`legacy`) with its author beside it (`core`) and the whole
text of a long post (`note_tweet`).
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final

from tweetcrawler.archives import text
from tweetcrawler.archives.formats import v1
from tweetcrawler.archives.formats.fields import Read, Score, Thing, Words, at
from tweetcrawler.archives.formats.kinds import Format, Refusal, of_words
from tweetcrawler.archives.formats.tables import TableFormat
from tweetcrawler.flatten import Flattened, Refused

# Zeeschuimer names the site that a post was taken from. X has had two.
_SITES: Final = ("twitter.com", "x.com")


def _fits(value: Thing) -> bool:
    return _result(value) is not None


def _result(value: Any) -> Thing | None:
    """The object of the post, out of what was wrapped around it."""
    # Four layers at most: `data`, `tweet_results`, `result`, and `tweet` around a post of
    # limited visibility. Foreign JSON that nests deeper is given up here.
    for _depth in range(4):
        if not isinstance(value, dict):
            return None
        legacy = value.get("legacy")
        if isinstance(legacy, dict) and ("full_text" in legacy or "id_str" in legacy):
            return value
        value = next(
            (
                value[key]
                for key in ("tweet", "result", "tweet_results", "metadata", "data")
                if isinstance(value.get(key), dict) and _may_hold(value, key)
            ),
            None,
        )
    return None


def _may_hold(value: Thing, key: str) -> bool:
    # `data` is everywhere; Zeeschuimer says where its own is from.
    return key != "data" or value.get("source_platform") in _SITES


def _status(result: Thing, depth: int = 0) -> Thing:
    """The result as a status of v1.1."""
    status = dict(result["legacy"])
    status.setdefault("id_str", result.get("rest_id"))
    status["source"] = result.get("source") or status.get("source")
    if user := _user(result):
        status["user"] = user
    status.pop("retweeted_status", None)
    retweeted = _result(status.pop("retweeted_status_result", None))
    # X nests a retweet once. A file made to nest further must not use up Python's stack.
    if retweeted is not None and depth == 0:
        status["retweeted_status"] = _status(retweeted, depth=1)
    note = at("note_tweet.note_tweet_results.result")(result)
    # `full_text` of a long post ends after 280 characters. The note has the whole, with
    # entities whose offsets fit that text and no other.
    if isinstance(note, dict) and isinstance(note.get("text"), str) and note["text"]:
        status["full_text"] = note["text"]
        if isinstance(entities := note.get("entity_set"), dict):
            status["entities"] = entities
    return status


_SCREEN_NAME: Final = at("core.screen_name", "legacy.screen_name", "screen_name")
_NAME: Final = at("core.name", "legacy.name", "name")
_USER_ID: Final = at("rest_id", "id_str")


def _user(result: Thing) -> Thing | None:
    """The author. X moved the names from `legacy` to `core` in 2025; both are looked at."""
    user = at("core.user_results.result", "core.user_result.result", "user", "author")(result)
    if not isinstance(user, dict):
        user = {}
    user_id = _USER_ID(user) or at("legacy.user_id_str")(result)
    handle = _SCREEN_NAME(user)
    if handle is None and user_id is None:
        return None
    return {"id_str": user_id, "screen_name": handle, "name": _NAME(user)}


def _rows(value: Any, *, score: Score = None) -> Flattened:
    result = _result(value)
    if result is None:
        return Flattened([], [Refused(None, "it is no post of the web client")])
    return v1.rows_of(_status(result), score=score)


FORMAT: Final = Format("a post of X's web client", _fits, _rows)

OTHER_SITE: Final = Refusal(
    "posts of another site, taken by Zeeschuimer",
    lambda value: "source_platform" in value and value["source_platform"] not in _SITES,
    "it holds no posts of X",
)


# --- twitter-web-exporter without the raw objects ------------------------------------------------

# Ids have had 15 digits and more since November 2010. A handle has at most 15 characters, and
# hardly one is all digits.
_ID = re.compile(r"[0-9]{15,19}").fullmatch


def _is_exported(value: Thing) -> bool:
    return "full_text" in value and "screen_name" in value and "views_count" in value


def _reply(*, to_post: bool) -> Read:
    """`in_reply_to` is the id of a post; the name of its author is taken, too."""

    def read(thing: Thing) -> Any:
        sent = thing.get("in_reply_to")
        return sent if isinstance(sent, str) and bool(_ID(sent)) is to_post else None

    return read


def _media(thing: Thing) -> list[Any] | None:
    """The pictures, and the first frames of films, without the size wanted by the tool."""
    found = thing.get("media")
    if isinstance(found, str):  # in CSV
        with suppress(ValueError, RecursionError):
            found = text.loads(found.encode(errors="replace"))
    if not isinstance(found, list):
        return None
    addresses = []
    for item in found:
        if isinstance(item, dict):
            key = "original" if item.get("type") == "photo" else "thumbnail"
            addresses.append(item.get(key) or item.get("thumbnail"))
    return [_SIZED.sub(r"\1.\2", address) for address in addresses if isinstance(address, str)]


# `…/media/abc?format=jpg&name=orig` is what X calls `…/media/abc.jpg`.
_SIZED = re.compile(r"(https://pbs\.twimg\.com/media/[^?.]+)\?format=(\w+).*")

_EXPORTED: Final = Words(
    id=at("id"),
    text=at("full_text"),
    created_at=at("created_at"),
    tweet_from=at("screen_name"),
    media=_media,
    favorite_count=at("favorite_count"),
    retweet_count=at("retweet_count"),
    in_reply_to_screen_name=_reply(to_post=False),
    in_reply_to_status_id=_reply(to_post=True),
    retweeted_status_id=at("retweeted_status"),
    lang=at("lang"),
)

EXPORTED: Final = of_words("twitter-web-exporter", _is_exported, _EXPORTED)
EXPORTED_TABLE: Final = TableFormat(
    "twitter-web-exporter",
    frozenset({"id", "full_text", "screen_name", "views_count"}),
    _EXPORTED,
)
