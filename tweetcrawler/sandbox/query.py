"""X's search language over single posts: parse once, then ask every post."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Any

from tweetcrawler.sandbox.dice import mix
from tweetcrawler.sandbox.people import Person
from tweetcrawler.sandbox.posts import Post

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(
    r"""\s*(-?)(\(|\)|[a-z_]+:(?:"[^"]*"|\[[^\]]*\])|"[^"]*"|[^\s()"]+)""", re.IGNORECASE
)
# X refuses a query of these alone: each of them would match a good part of all posts.
_ALONE_NOT = ("is", "has", "lang")
_OPERATORS = frozenset(
    [
        "from",
        "to",
        "retweets_of",
        "url",
        "context",
        "entity",
        "conversation_id",
        "list",
        "in_reply_to_tweet_id",
        "retweets_of_tweet_id",
        "quotes_of_tweet_id",
        "place",
        "place_country",
        "point_radius",
        "bounding_box",
        # Taken away in January 2026, and back since May. The names of the web page (min_faves)
        # were never taken.
        "min_likes",
        "min_replies",
        "min_reposts",
        "is",
        "has",
        "lang",
    ]
)
_RETWEET = frozenset({"is:retweet"})
_IS = frozenset({"retweet", "reply", "quote", "verified", "nullcast"})
_HAS = frozenset(
    {"hashtags", "cashtags", "links", "mentions", "media", "images", "video_link", "videos", "geo"}
)


class BadQuery(ValueError):
    """X's message about an unreadable query."""


@dataclass(slots=True)
class Doc:
    """The parts of a post that a search needs."""

    id: int
    author: str
    username: str
    flat: str
    text: str
    tags: frozenset[str]
    cashtags: frozenset[str]
    mentions: frozenset[str]
    links: str
    answers: str
    refs: dict[str, str]
    marks: frozenset[str]
    lang: str
    conversation: str
    metrics: dict[str, int]
    place: dict[str, Any]


@dataclass(slots=True, frozen=True)
class Query:
    """A parsed query.

    `authors` are the only ones whose posts can match, None when anybody's can.
    """

    matches: Callable[[Doc], bool]
    authors: frozenset[str] | None


def doc_of(post: Post, person: Person, user: dict[str, Any]) -> Doc:
    tweet = post.tweet
    note = tweet.get("note_tweet", {})
    # X searches what people wrote, and the whole of a long post.
    text = unescape(note.get("text", tweet["text"]))
    entities = tweet.get("entities", {}) | note.get("entities", {})
    refs = {ref.type: str(ref.id) for ref in post.refs}
    marks = {
        f"is:{ {'retweeted': 'retweet', 'replied_to': 'reply', 'quoted': 'quote'}[kind] }"
        for kind in refs
    }
    marks |= {f"has:{name}" for name in ("hashtags", "cashtags", "mentions") if entities.get(name)}
    if entities.get("urls"):
        marks.add("has:links")
    kinds = {media["type"] for media in post.media}
    if kinds:
        marks |= (
            {"has:media"}
            | ({"has:images"} if "photo" in kinds else set())
            | ({"has:video_link", "has:videos"} if "video" in kinds else set())
        )
    if post.place or "geo" in tweet:
        marks.add("has:geo")
    if user.get("verified"):
        marks.add("is:verified")
    return Doc(
        id=post.id,
        author=person.key,
        username=person.username.lower(),
        flat=f" {' '.join(_WORD.findall(text.casefold()))} ",
        text=text.casefold(),
        tags=frozenset(tag["tag"].casefold() for tag in entities.get("hashtags", ())),
        cashtags=frozenset(tag["tag"].casefold() for tag in entities.get("cashtags", ())),
        mentions=frozenset(one["username"].casefold() for one in entities.get("mentions", ())),
        links=" ".join(
            url.get("expanded_url", url["url"]) for url in entities.get("urls", ())
        ).casefold(),
        answers=post.answered or "",
        refs=refs,
        marks=frozenset(marks),
        lang=tweet.get("lang", "und"),
        conversation=tweet.get("conversation_id", ""),
        metrics=tweet.get("public_metrics", {}),
        place=post.place or {},
    )


def parse(text: str, *, streamed: bool = False) -> Query:
    """The query; BadQuery with X's sort of sentence when it cannot be one.

    A rule of the stream is `streamed`: retweets match its words, and it may take a sample.
    """
    # X names the sign at which its parser gave up.
    if text.count('"') % 2:
        raise BadQuery(
            "There were errors processing your request: no viable alternative at character '\"'"
        )
    tokens: list[tuple[bool, str]] = []
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadQuery(
                "There were errors processing your request: no viable alternative (at position "
                f"{at + 1})"
            )
        tokens.append((found[1] == "-", found[2]))
        at = found.end()
    parser = _Parser(tokens, streamed)
    matches, authors, alone = parser.either()
    if parser.at < len(tokens):
        raise BadQuery("There were errors processing your request: extraneous input ')'")
    if not alone:
        raise BadQuery(
            "There were errors processing your request: Rules must contain at least one positive, "
            "non-stopword clause"
        )
    return Query(matches, authors)


_Parsed = tuple[Callable[[Doc], bool], frozenset[str] | None, bool]
"""How to match, whose posts alone can match, and whether this may stand alone."""


class _Parser:
    def __init__(self, tokens: list[tuple[bool, str]], streamed: bool) -> None:
        self._tokens = tokens
        self._streamed = streamed
        self.at = 0

    def either(self) -> _Parsed:
        parts = [self._all()]
        while self._next() == "OR":
            self.at += 1
            parts.append(self._all())
        if len(parts) == 1:
            return parts[0]
        tests = [part[0] for part in parts]
        sets = [part[1] for part in parts]
        authors = (
            frozenset().union(*[one or () for one in sets])
            if all(one is not None for one in sets)
            else None
        )
        return (
            (lambda doc: any(test(doc) for test in tests)),
            authors,
            all(part[2] for part in parts),
        )

    def _all(self) -> _Parsed:
        parts: list[_Parsed] = []
        while self._next() not in (None, ")", "OR"):
            parts.append(self._one())
        if not parts:
            raise BadQuery("There were errors processing your request: mismatched input")
        if len(parts) == 1:
            return parts[0]
        tests = [part[0] for part in parts]
        authors: frozenset[str] | None = None
        for part in parts:
            if part[1] is not None:
                authors = part[1] if authors is None else authors & part[1]
        return (
            (lambda doc: all(test(doc) for test in tests)),
            authors,
            any(part[2] for part in parts),
        )

    def _one(self) -> _Parsed:
        negative, token = self._tokens[self.at]
        self.at += 1
        if token == "(":  # noqa: S105  a parenthesis, no secret
            parsed = self.either()
            if self._next() != ")":
                raise BadQuery("There were errors processing your request: missing ')'")
            self.at += 1
        else:
            parsed = _term(token, self._streamed)
        if negative:
            test = parsed[0]
            return (lambda doc: not test(doc)), None, False
        return parsed

    def _next(self) -> str | None:
        return self._tokens[self.at][1] if self.at < len(self._tokens) else None


def _term(token: str, streamed: bool) -> _Parsed:
    lowered = token.casefold()
    # Retweets come back from no keyword of a search, and from those of a rule.
    hidden = frozenset() if streamed else _RETWEET
    if lowered.startswith('"'):
        return _words(lowered.strip('"'), hidden), None, True
    if lowered[0] == "#" and len(token) > 1:
        tag = lowered[1:]
        return (lambda doc: tag in doc.tags and not hidden & doc.marks), None, True
    if lowered[0] == "$" and len(token) > 1:
        cash = lowered[1:]
        return (lambda doc: cash in doc.cashtags and not hidden & doc.marks), None, True
    if lowered[0] == "@" and len(token) > 1:
        name = lowered[1:]
        return (lambda doc: name in doc.mentions), None, True
    operator, colon, value = lowered.partition(":")
    if streamed and operator == "sample" and value.isdigit() and 0 < int(value) <= 100:
        percent = int(value)
        return (lambda doc: mix(doc.id, 17) % 100 < percent), None, False
    if colon and operator in _OPERATORS:
        return _operator(operator, value.strip('"'))
    if colon and re.fullmatch(r"[a-z_]+", operator):
        raise BadQuery(f"There were errors processing your request: invalid operator '{operator}'")
    return _words(lowered, hidden), None, True


def _operator(operator: str, value: str) -> _Parsed:
    if not value:
        raise BadQuery(
            f"There were errors processing your request: operator '{operator}' needs a value"
        )
    alone = operator not in _ALONE_NOT
    authors: frozenset[str] | None = None
    test: Callable[[Doc], bool]
    if operator in ("is", "has"):
        if value not in (_IS if operator == "is" else _HAS):
            raise BadQuery(
                f"There were errors processing your request: '{value}' is no value of '{operator}:'"
            )
        mark = f"{operator}:{value}"
        test = lambda doc: mark in doc.marks  # noqa: E731  one expression per operator reads best
    elif operator == "lang":
        test = lambda doc: doc.lang == value  # noqa: E731
    elif operator == "from":
        name = value.lstrip("@")
        authors = frozenset({name})
        test = lambda doc: doc.username == name  # noqa: E731
    elif operator == "to":
        name = value.lstrip("@")
        test = lambda doc: doc.answers == name  # noqa: E731
    elif operator == "conversation_id":
        test = lambda doc: doc.conversation == value  # noqa: E731
    elif operator == "url":
        test = lambda doc: value in doc.links  # noqa: E731
    elif operator in ("in_reply_to_tweet_id", "retweets_of_tweet_id", "quotes_of_tweet_id"):
        kind = {"i": "replied_to", "r": "retweeted", "q": "quoted"}[operator[0]]
        test = lambda doc: doc.refs.get(kind) == value  # noqa: E731
    elif operator == "retweets_of":
        begins = f"rt @{value.lstrip('@')}:"
        test = lambda doc: "retweeted" in doc.refs and doc.text.startswith(begins)  # noqa: E731
    elif operator.startswith("min_"):
        metric = {
            "min_likes": "like_count",
            "min_replies": "reply_count",
            "min_reposts": "retweet_count",
        }[operator]
        if not value.isdigit():
            raise BadQuery(f"There were errors processing your request: '{value}' is no number")
        least = int(value)
        test = lambda doc: doc.metrics.get(metric, 0) >= least  # noqa: E731
    elif operator == "place":
        test = lambda doc: value in str(doc.place.get("full_name", "")).casefold()  # noqa: E731
    elif operator == "place_country":
        test = lambda doc: str(doc.place.get("country_code", "")).casefold() == value  # noqa: E731
    elif operator == "bounding_box":
        box = _box(value)
        test = lambda doc: _is_inside(doc.place.get("geo", {}).get("bbox"), box)  # noqa: E731
    else:
        test = lambda doc: False  # noqa: ARG005, E731  understood, but nothing in this world has it
    return test, authors, alone


def _box(value: str) -> list[float]:
    """West, south, east and north of a box in brackets."""
    try:
        west, south, east, north = map(float, value.strip("[]").split())
    except ValueError:
        raise BadQuery(
            "There were errors processing your request: operator 'bounding_box' needs "
            "[west_long south_lat east_long north_lat]"
        ) from None
    return [west, south, east, north]


def _is_inside(place: list[float] | None, box: list[float]) -> bool:
    """Whether the whole of a place lies in a box."""
    if place is None:
        return False
    return box[0] <= place[0] and box[1] <= place[1] and place[2] <= box[2] and place[3] <= box[3]


def _words(text: str, hidden: frozenset[str]) -> Callable[[Doc], bool]:
    """A keyword or phrase, of posts without a mark that is hidden."""
    words = _WORD.findall(text)
    if not words:
        return lambda doc: text in doc.text and not hidden & doc.marks
    flat = f" {' '.join(words)} "
    return lambda doc: flat in doc.flat and not hidden & doc.marks
