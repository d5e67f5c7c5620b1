"""Lines of segments: one page or one message of the stream, as JSON on one line.

A line of `pages` holds what is known of a page, and its body last, byte for byte as X sent
it. A line of `stream` is X's message itself. Both can be read with jq.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import orjson

PAGES = "pages"
STREAM = "stream"
# The body stands last. Before it stands the object of the parameters: inside of a text each
# quote has a backslash, so these bytes stand nowhere else before the body.
_BODY = b'},"body":'
_ENCODED = b'},"base64":"'


@dataclass(frozen=True)
class KeptPage:
    """A page as a segment keeps it.

    `facts` are the other columns of its row, such as run, credential and counts: scalars by
    name, none of them named "body". `body` is the answer of X as received.
    """

    id: str
    fetched_at: datetime
    endpoint: str
    facts: Mapping[str, Any]
    params: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Line:
    """One line without its line break, and what the manifest counts of it.

    `posts` counts the posts that it brought, `ids` are theirs, as far as they are numbers.
    `position` is where its page stands among all stored pages: a writer goes on after the
    last one that it finds on disk.
    """

    text: bytes
    posts: int
    ids: tuple[int, ...] = ()
    at: datetime | None = None
    run: int | None = None
    position: int | None = None


def page_line(page: KeptPage) -> Line:
    """The line of a page."""
    head = orjson.dumps(
        {
            "id": page.id,
            "fetched_at": page.fetched_at.isoformat(),
            "endpoint": page.endpoint,
            "facts": dict(page.facts),
            "params": dict(page.params),
        }
    )
    parsed = _on_one_line(page.body)
    if parsed is None:
        text = head[:-1] + _ENCODED[1:] + base64.b64encode(page.body) + b'"}'
    else:
        text = head[:-1] + _BODY[1:] + page.body + b"}"
    posts, ids = _posts_of(parsed)
    facts = page.facts
    return Line(text, posts, ids, page.fetched_at, facts.get("run"), facts.get("position"))


def stream_line(message: bytes, *, at: datetime | None = None) -> Line:
    """The line of a message of the stream.

    **Errors**: ValueError when the message is no JSON on one line.
    """
    parsed = _on_one_line(message)
    if parsed is None:
        raise ValueError("a message of the stream is one line of JSON")
    posts, ids = _posts_of(parsed)
    return Line(message, posts, ids, at)


def page_of(text: bytes) -> KeptPage:
    """The page of a line.

    **Errors**: ValueError when it is no line of `pages`.
    """
    head, mark, body = text.partition(_BODY)
    if mark:
        body = body[:-1]
    else:
        head, mark, encoded = text.partition(_ENCODED)
        body = base64.b64decode(encoded[:-2], validate=True)
    try:
        known = orjson.loads(head + b"}}")
        return KeptPage(
            known["id"],
            datetime.fromisoformat(known["fetched_at"]),
            known["endpoint"],
            known["facts"],
            known["params"],
            body,
        )
    except (KeyError, TypeError):
        raise ValueError("not a line of pages") from None


def counted(kind: str, text: bytes) -> Line:
    """A line that was read back, counted as when it was written.

    **Errors**: ValueError when it is no line of this kind.
    """
    return _COUNTED[kind](text)


_COUNTED: Mapping[str, Callable[[bytes], Line]] = {
    PAGES: lambda text: page_line(page_of(text)),
    STREAM: stream_line,
}
KINDS = tuple(_COUNTED)


def parsed_json(text: bytes) -> Any:
    """The value of a JSON text.

    **Errors**: ValueError.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # orjson takes no lone surrogates; X has sent them. Only ASCII, since the other parser
        # guesses at UTF-16 and more.
        if not text.isascii():
            raise
        return json.loads(text, parse_constant=_no_constant)


def written_json(value: Any) -> bytes:
    """The JSON text of a value on one line."""
    try:
        return orjson.dumps(value)
    except TypeError:  # lone surrogates and numbers over 64 bits, again
        return json.dumps(value, separators=(",", ":")).encode()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _on_one_line(body: bytes) -> Any:
    """The parsed body if it may stand in a line as it is, else None."""
    if b"\n" in body or b"\r" in body:
        return None
    try:
        return parsed_json(body)
    except (ValueError, RecursionError):
        return None


def _posts_of(parsed: Any) -> tuple[int, tuple[int, ...]]:
    """How many posts a page or message brought, and their ids."""
    data = parsed.get("data") if isinstance(parsed, dict) else None
    objects = [one for one in (data if isinstance(data, list) else [data]) if type(one) is dict]
    # X gives every post with its text, and no user, place or count has one. A blanked post has
    # lost it and says so.
    posts = [one for one in objects if "text" in one or one.get("tombstone") == "post"]
    return len(posts), tuple(_numbers(post.get("id") for post in posts))


def _numbers(ids: Iterable[Any]) -> Iterable[int]:
    return (int(one) for one in ids if isinstance(one, str) and one.isascii() and one.isdigit())
