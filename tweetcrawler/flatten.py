"""The 21 columns from X's fields, and the fields that X must be asked for.

A page goes in as X sent it, rows come out; nothing else happens. X names the same things in
two ways: as tweets (`referenced_tweets`, `note_tweet`, `retweet_count`, `includes.tweets`)
and as posts (`referenced_posts`, `note_post`, `repost_count`, `includes.posts`). Both are
understood, also in one page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from tweetcrawler.ids import FIRST_DATED_ID, ID_MAX, time_ms_of

T = TypeVar("T")

COLUMNS: Final = (
    "id",
    "tweet_from",
    "created_at",
    "hashtags",
    "urls",
    "user_mentions_id",
    "media",
    "user_mentions_name",
    "origin_device",
    "favorite_count",
    "text",
    "in_reply_to_screen_name",
    "in_reply_to_user_id",
    "in_reply_to_status_id",
    "retweet_count",
    "retweeted_status_text",
    "retweeted_status_url",
    "retweeted_status_id",
    "retweeted_status_user_name",
    "retweeted_status_user_handle",
    "sentiment",
)
"""The columns in the order of the table."""

LISTS: Final = frozenset({"hashtags", "urls", "user_mentions_id", "media", "user_mentions_name"})
"""The columns that hold `{}` in a new row of whose lists the source says nothing."""

# A post that is known in part has a cut text, and lists that are cut with it.
CONTENT: Final = LISTS | {"text", "sentiment", "retweeted_status_text", "retweeted_status_url"}
"""The columns of which a row that is partial changes nothing that is known."""

# Everything public is asked for: a tweet costs the same with few fields as with many, and
# who keeps the pages can make more of them later. The private metrics are not: X gives them
# to a tweet's author only. fmt: off
TWEET_FIELDS: Final = (
    "article",
    "attachments",
    "author_id",
    "card_uri",
    "community_id",
    "context_annotations",
    "conversation_id",
    "created_at",
    "display_text_range",
    "edit_controls",
    "edit_history_tweet_ids",
    "entities",
    "geo",
    "id",
    "in_reply_to_user_id",
    "lang",
    "media_metadata",
    "note_tweet",
    "paid_partnership",
    "possibly_sensitive",
    "public_metrics",
    "referenced_tweets",
    "reply_settings",
    "scopes",
    "source",
    "text",
    "withheld",
)
USER_FIELDS: Final = (
    "affiliation",
    "created_at",
    "description",
    "entities",
    "id",
    "is_identity_verified",
    "location",
    "most_recent_tweet_id",
    "name",
    "parody",
    "pinned_tweet_id",
    "profile_banner_url",
    "profile_image_url",
    "protected",
    "public_metrics",
    "subscription_type",
    "url",
    "username",
    "verified",
    "verified_followers_count",
    "verified_type",
    "withheld",
)
MEDIA_FIELDS: Final = (
    "alt_text",
    "duration_ms",
    "height",
    "media_key",
    "preview_image_url",
    "public_metrics",
    "type",
    "url",
    "variants",
    "width",
)
POLL_FIELDS: Final = (
    "duration_minutes",
    "end_datetime",
    "id",
    "options",
    "voting_status",
)
PLACE_FIELDS: Final = (
    "contained_within",
    "country",
    "country_code",
    "full_name",
    "geo",
    "id",
    "name",
    "place_type",
)
EXPANSIONS: Final = (
    "attachments.media_keys",
    "attachments.poll_ids",
    "author_id",
    "entities.mentions.username",
    "geo.place_id",
    "in_reply_to_user_id",
    "referenced_tweets.id",
    "referenced_tweets.id.attachments.media_keys",
    "referenced_tweets.id.author_id",
)
# fmt: on


def fields() -> dict[str, str]:
    """The parameters that make X send all of this with tweets, ready for a request."""
    return {
        "tweet.fields": ",".join(TWEET_FIELDS),
        "user.fields": ",".join(USER_FIELDS),
        "media.fields": ",".join(MEDIA_FIELDS),
        "poll.fields": ",".join(POLL_FIELDS),
        "place.fields": ",".join(PLACE_FIELDS),
        "expansions": ",".join(EXPANSIONS),
    }


class Refused(NamedTuple):
    """A tweet that has no row, and why. `tweet_id` is None when the tweet does not name itself."""

    tweet_id: str | None
    reason: str


class Waiting(NamedTuple):
    """A tweet whose row lacks the names of a user, and the id of that user. `part` is "author",
    "reply" or "retweet".
    """

    tweet_id: int
    part: str
    user_id: int


class Told(NamedTuple):
    """Users that a page names, by id as X wrote them, and the tweets that wait for a name which
    it does not tell. `seen_at` is when X said so, in seconds since 1970: the
    page is at least as young as its newest tweet.
    """

    users: Mapping[str, Mapping[str, Any]] = {}
    waiting: Sequence[Waiting] = ()
    seen_at: float = 0.0


NOTHING_TOLD: Final = Told()


class Flattened(NamedTuple):
    """The rows of a page, by ascending id and each id once, and the tweets that gave none."""

    rows: list[dict[str, Any]]
    refused: list[Refused]

    @property
    def told(self) -> Told:
        """Users of the page, and rows that lack a name."""
        return NOTHING_TOLD


class _OfPage(Flattened):
    told: Told = NOTHING_TOLD


class Partial(dict[str, Any]):
    """A row that has lost a part of its text or lists: of `CONTENT` it only fills what is not
    known.
    """


def flatten(page: Mapping[str, Any], *, score: Callable[[str], float] | None = None) -> Flattened:
    """Make one row of every tweet in `data`; the page stays as it is.

    Shape: a row has the keys of `COLUMNS` in that order. Ids and counts are int,
    `sentiment` is float, all else is text. What the page does not tell is None, also a list.
    `{}` is a list of which the page tells that it is empty; the list columns are array
    literals of PostgreSQL.
    `data` may be a list, a single object, or absent. Included tweets are only looked up.
    When an id stands in `data` twice, the later of those that give a row wins.

    `score` gives the sentiment of a text, -1 to 1; it is asked about tweets in English.
    Without it there is none.

    Errors: none, whatever the page holds. What has a wrong type counts as absent, down to
    the single element of a list. Only a number that cannot be stored as it was meant (an id
    that is missing, rounded or beyond bigint, a count that is not whole) makes its tweet a
    `Refused`, and leaves the others alone.
    """
    tweets = page.get("data")
    if tweets is None:
        tweets = []
    elif isinstance(tweets, dict):
        tweets = [tweets]
    elif not isinstance(tweets, list):
        return Flattened([], [Refused(None, f"data is {shown(tweets)}, not a list of tweets")])
    try:
        includes = _index(page.get("includes") or {})
    except MISSHAPEN:
        includes = _index(fitted(page.get("includes"), _INCLUDES) or {})
    shaped_includes: _Includes | None = None

    def fitted_row(tweet: Any) -> dict[str, Any]:
        nonlocal shaped_includes
        if shaped_includes is None:
            shaped_includes = _index(fitted(page.get("includes"), _INCLUDES) or {})
        return _row(fitted_to(tweet, _TWEET), shaped_includes)

    made = each_row(tweets, lambda tweet: _row(tweet, includes), fitted_row, score=score)
    flattened = _OfPage(*made)
    flattened.told = _told(flattened.rows, tweets, includes)
    return flattened


def each_row(
    tweets: Iterable[Any],
    row_of: Callable[[Any], dict[str, Any]],
    fitted_row_of: Callable[[Any], dict[str, Any]],
    *,
    score: Callable[[str], float] | None,
    id_key: str = "id",
) -> Flattened:
    """The rows of some tweets, or why there is none; see `flatten`, whose promises are kept
    here.

    Rows are made by `row_of` without a look at types, which is fast; a tweet that stumbles
    over one is made again by `fitted_row_of`, from a copy in which everything has the type
    it must have.
    """
    rows: dict[int, dict[str, Any]] = {}
    refused: dict[str | int, Refused] = {}
    for position, tweet in enumerate(tweets):
        try:
            try:
                row = row_of(tweet)
            except MISSHAPEN:
                row = fitted_row_of(tweet)
        except NotStorable as refusal:
            name = _id_as_text(tweet, id_key)
            refused[name if name and name.isdigit() else position] = Refused(name, str(refusal))
            continue
        if score is not None and row["text"] is not None and tweet.get("lang") == "en":
            row["sentiment"] = round(score(row["text"]), 4)
        rows[row["id"]] = row
    for tweet_id in rows if refused else ():
        refused.pop(str(tweet_id), None)
    return Flattened([rows[tweet_id] for tweet_id in sorted(rows)], list(refused.values()))


def merged(known: Sequence[T], now: Sequence[T], *, partial: bool = False) -> list[T]:
    """The values of `COLUMNS` of a row after another reading of the same tweet.

    Absent is not empty, and known is not undone: None or "" says nothing of a value. A row
    that is `partial` only fills what is not known. A shorter list of mentions is one whose
    retweeted post was trimmed. The statements in `postgres/pages.py` do the same.
    """
    knows_text = known[_TEXT] not in _ABSENT
    more_mentions = len(str(known[_MENTIONS] or "")) > len(str(now[_MENTIONS] or ""))

    def value(column: str, before: T, after: T) -> T:
        if partial and column == "sentiment" and knows_text:
            return before
        if partial and column in CONTENT and before not in _NO_LIST:
            return before
        if more_mentions and column in ("user_mentions_id", "user_mentions_name"):
            return before
        if after in _ABSENT or (column == "retweeted_status_url" and after == "{}"):
            return after if before in _ABSENT else before
        return after

    return [value(*each) for each in zip(COLUMNS, known, now, strict=True)]


_TEXT, _MENTIONS = COLUMNS.index("text"), COLUMNS.index("user_mentions_id")
_ABSENT = (None, "")
_NO_LIST = (None, "", "{}")


class _Includes(NamedTuple):
    """The included objects of a page, by id or media key."""

    users: dict[str, dict[str, Any]]
    tweets: dict[str, dict[str, Any]]
    media: dict[str, dict[str, Any]]


NOTHING: dict[str, Any] = {}


def _index(includes: dict[str, Any]) -> _Includes:
    def by(key: str, things: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {str(name): thing for thing in things if (name := thing.get(key)) is not None}

    tweets = by("id", includes.get("tweets") or ())
    tweets.update(by("id", includes.get("posts") or ()))
    return _Includes(
        by("id", includes.get("users") or ()), tweets, by("media_key", includes.get("media") or ())
    )


def _row(tweet: dict[str, Any], includes: _Includes) -> dict[str, Any]:
    tweet_id = as_id(tweet.get("id"), "id")
    if tweet_id is None:
        raise NotStorable("it has no id")
    text, entities, is_cut = _content(tweet)
    replied_to_id = retweeted_id = None
    for reference in tweet.get("referenced_tweets") or tweet.get("referenced_posts") or ():
        kind = reference.get("type")
        if kind == "replied_to":
            replied_to_id = as_id(reference.get("id"), "the id of the tweet replied to")
        elif kind in ("retweeted", "reposted"):
            retweeted_id = as_id(reference.get("id"), "the id of the retweeted tweet")

    # A retweet is cut, and its entities with it. They serve only when the whole tweet is
    # not on the page.
    whole, whole_text, whole_entities = tweet, text, entities
    mentions = entities.get("mentions")
    original = None if retweeted_id is None else includes.tweets.get(str(retweeted_id))
    if original is not None:
        whole, (whole_text, whole_entities, is_cut) = original, _content(original)
        mentions = _retweet_mentions(original, whole_entities, mentions or (), includes)
    media, media_lack = _media(whole, includes.media)

    author = includes.users.get(str(tweet.get("author_id"))) or NOTHING
    metrics = tweet.get("public_metrics") or NOTHING
    retweet_count = metrics.get("retweet_count")
    if retweet_count is None:
        retweet_count = metrics.get("repost_count")
    urls = _urls(whole, whole_entities)
    no_mentions = None if mentions is None else "{}"
    row = {
        "id": tweet_id,
        "tweet_from": stored(author.get("username")),
        "created_at": _created_at(tweet.get("created_at"), tweet_id),
        "hashtags": _hashtags(whole_entities),
        "urls": urls,
        "user_mentions_id": no_mentions,
        "media": media,
        "user_mentions_name": no_mentions,
        "origin_device": stored(tweet.get("source")) or None,
        "favorite_count": as_count(metrics.get("like_count"), "like_count"),
        "text": readable(text),
        "in_reply_to_screen_name": None,
        "in_reply_to_user_id": None,
        "in_reply_to_status_id": replied_to_id,
        "retweet_count": as_count(retweet_count, "retweet_count"),
        "retweeted_status_text": None,
        "retweeted_status_url": None,
        "retweeted_status_id": retweeted_id,
        "retweeted_status_user_name": None,
        "retweeted_status_user_handle": None,
        "sentiment": None,
    }
    if mentions:
        row["user_mentions_id"] = as_id_array([mention.get("id") for mention in mentions])
        row["user_mentions_name"] = as_array([mention.get("username") for mention in mentions])
    if (user_id := as_id(tweet.get("in_reply_to_user_id"), "in_reply_to_user_id")) is not None:
        row["in_reply_to_user_id"] = user_id
        row["in_reply_to_screen_name"] = stored(_username(user_id, tweet, includes))
    if original is not None:
        author = includes.users.get(str(original.get("author_id"))) or NOTHING
        row["retweeted_status_text"] = readable(whole_text)
        row["retweeted_status_url"] = "{}" if urls is None else urls
        row["retweeted_status_user_name"] = stored(author.get("name"))
        row["retweeted_status_user_handle"] = stored(author.get("username"))
    lacks = is_cut or media_lack or (retweeted_id is not None and original is None)
    # A list of mentions without the name of the retweeted author is one that lacks something.
    lacks = lacks or bool(original is not None and mentions and not mentions[0].get("username"))
    return Partial(row) if lacks else row


# In front of its last link, as X cuts a long post: ` https://t.co/` and ten characters.
_CUT_SIGN, _CUT_WITHIN = "\u2026", 25
# 280 characters, of which those of some scripts count twice; v1.1 cut after 140.
_CUT_LEAST = 130


def _content(tweet: dict[str, Any]) -> tuple[str | None, dict[str, Any], bool]:
    """The full text, still escaped, the entities that belong to it, and whether it is cut.

    A long post has both in its note; its `text` and `entities` end after 280 characters.
    """
    note = tweet.get("note_tweet") or tweet.get("note_post")
    if note and (text := note.get("text")):
        return text, note.get("entities") or NOTHING, False
    text = tweet.get("text")
    is_cut = text is not None and len(text) > _CUT_LEAST and _CUT_SIGN in text[-_CUT_WITHIN:]
    return text, tweet.get("entities") or NOTHING, is_cut


def _retweet_mentions(
    original: dict[str, Any],
    entities: dict[str, Any],
    own: Sequence[dict[str, Any]],
    includes: _Includes,
) -> Sequence[dict[str, Any]]:
    """The retweeted author, then the mentions in `entities` of the retweeted tweet.

    `own` are the mentions of the retweet, the first of which is that author: they help when
    the user, or even its id, is not on the page.
    """
    others = entities.get("mentions") or ()
    author_id = as_id(original.get("author_id"), "the id of the retweeted author")
    if author_id is None:
        return [*own[:1], *others]
    handle = (includes.users.get(str(author_id)) or NOTHING).get("username")
    if handle is None:
        handle = _mentioned(author_id, own)
    return [{"id": author_id, "username": handle}, *others]


def _username(user_id: int, tweet: dict[str, Any], includes: _Includes) -> str | None:
    """The handle of the user that `tweet` replies to, from users or mentions of the page."""
    handle: str | None = (includes.users.get(str(user_id)) or NOTHING).get("username")
    if handle is None:
        handle = _mentioned(user_id, _content(tweet)[1].get("mentions") or ())
    if handle is None:
        handle = _mentioned(user_id, (tweet.get("entities") or NOTHING).get("mentions") or ())
    return handle


def _mentioned(user_id: int, mentions: Sequence[dict[str, Any]]) -> str | None:
    for mention in mentions:
        if mention.get("id") in (str(user_id), user_id):
            return mention.get("username")
    return None


def _told(rows: Sequence[dict[str, Any]], tweets: Iterable[Any], includes: _Includes) -> Told:
    lacking = {
        row["id"]: row
        for row in rows
        if row["tweet_from"] is None
        or (row["in_reply_to_user_id"] is not None and row["in_reply_to_screen_name"] is None)
        or (row["retweeted_status_id"] is not None and row["retweeted_status_user_handle"] is None)
    }
    seen_at = time_ms_of(rows[-1]["id"]) / 1000 if rows else 0.0
    if not lacking:
        return Told(includes.users, (), seen_at)
    shaped = (fitted(tweet, _AUTHORED) or NOTHING for tweet in tweets)
    waiting = [one for tweet in shaped for one in _waiting(tweet, lacking, includes)]
    return Told(includes.users, waiting, seen_at)


def _waiting(
    tweet: dict[str, Any], lacking: Mapping[int, dict[str, Any]], includes: _Includes
) -> Iterator[Waiting]:
    """The names that the row of a tweet lacks, as far as the page tells whose they are."""
    row = lacking.get(_known_id(tweet.get("id")) or 0)
    if row is None:
        return
    original = includes.tweets.get(str(row["retweeted_status_id"])) or NOTHING
    for part, column, user in (
        ("author", "tweet_from", tweet.get("author_id")),
        ("reply", "in_reply_to_screen_name", row["in_reply_to_user_id"]),
        ("retweet", "retweeted_status_user_handle", original.get("author_id")),
    ):
        user_id = _known_id(user)
        if row[column] is None and user_id is not None:
            yield Waiting(row["id"], part, user_id)


def _known_id(value: Any) -> int | None:
    try:
        return as_id(value, "")
    except NotStorable:
        return None


# X leaves out a list that is empty. So its absence tells no more than that of a field for
# which nobody asked: nothing.
def _hashtags(entities: dict[str, Any]) -> str | None:
    tags = entities.get("hashtags")
    if not tags:
        return None if tags is None else "{}"
    return as_array([name for tag in tags if (name := tag.get("tag")) is not None])


def _urls(tweet: dict[str, Any], entities: dict[str, Any]) -> str | None:
    """Where the links of the text lead; those to the tweet's own pictures and films are none."""
    urls = entities.get("urls")
    if not urls:
        return None if urls is None else "{}"
    cut = tweet.get("entities") or entities
    if cut is not entities:
        # Whether the urls of a note carry a media_key is not documented, those beside the
        # cut text do.
        own_media = [
            url["url"] for url in cut.get("urls") or () if url.get("media_key") and url.get("url")
        ]
        urls = [url for url in urls if url.get("url") not in own_media]
    leads_to = [
        url.get("expanded_url") or url.get("url") for url in urls if not url.get("media_key")
    ]
    found = [address for address in leads_to if address]
    return as_array(found) if found or not leads_to else None


def _media(tweet: dict[str, Any], media: dict[str, dict[str, Any]]) -> tuple[str | None, bool]:
    """The addresses of its pictures and films, and whether some are not on the page."""
    attachments = tweet.get("attachments")
    keys = attachments.get("media_keys") if attachments else None
    if not keys:
        return None if keys is None else "{}", False
    found = [thing for key in keys if (thing := media.get(key)) is not None]
    addresses = [thing.get("url") or thing.get("preview_image_url") for thing in found]
    addresses = [address for address in addresses if address]
    return (as_array(addresses) if addresses else None), len(addresses) < len(keys)


# --- array literals -------------------------------------------------------------------------------

# PostgreSQL's array_out leaves an element bare unless it is empty, reads as NULL, or holds
# one of these characters; white space is what its scanner takes for it. The last ones it
# cannot store at all. https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
_BARE = re.compile(r'[^,{}"\\ \t\n\r\v\f\x00\ud800-\udfff]+').fullmatch


def as_array(elements: Iterable[str | None]) -> str:
    return "{" + ",".join([_element(element) for element in elements]) + "}"


def _element(element: str | None) -> str:
    if element is None:
        return "NULL"
    if not element.isidentifier() and not _BARE(
        element
    ):  # the first is quick, and true of nearly all names
        element = _storable(element)
        if not _BARE(element):
            return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f'"{element}"' if len(element) == 4 and element.upper() == "NULL" else element


def as_id_array(values: Iterable[Any]) -> str:
    return "{" + ",".join([_id_element(value) for value in values]) + "}"


def _id_element(value: Any) -> str:
    number = as_id(value, "the id of a mention")
    return "NULL" if number is None else value if type(value) is str else str(number)


# --- times ----------------------------------------------------------------------------------------

_AS_X_WRITES = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")


def _created_at(sent: str | None, tweet_id: int) -> str | None:
    """The time as X writes it; that of the id where something else was written."""
    if sent is None:
        return None
    try:
        at = datetime.fromisoformat(sent)
        # Nearly every time has this form, which is told much quicker than by the expression.
        if len(sent) == 24 and sent[10::13] == "TZ" and sent[5] != "W" and sent[19] == ".":
            return sent
        if _AS_X_WRITES.fullmatch(sent):
            return sent
    except ValueError:
        return time_of_id(tweet_id)
    # A time without a zone is another one for each of its readers.
    return as_v2(at) if at.tzinfo and at.year > 1 else time_of_id(tweet_id)


def time_of_id(tweet_id: int) -> str | None:
    """The time that an id holds, as v2 writes it; None for an id without."""
    if tweet_id < FIRST_DATED_ID:
        return None
    # X sends the whole second of the id, so a time from either is the same.
    return as_v2(datetime.fromtimestamp(time_ms_of(tweet_id) // 1000, UTC))


def as_v2(at: datetime) -> str:
    """A time as v2 writes it: in UTC, with milliseconds."""
    at = at.astimezone(UTC)
    return f"{at.replace(microsecond=0, tzinfo=None).isoformat()}.{at.microsecond // 1000:03d}Z"


# --- text -----------------------------------------------------------------------------------------

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def readable(text: str | None) -> str | None:
    """`text` without the three escapes of X, undone once: `&amp;lt;` was written as `&lt;`."""
    if text is not None and "&" in text:
        # & comes last, so that what it leaves behind is not undone again.
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return stored(text)


def stored(text: str | None) -> str | None:
    if text is None or (text.isascii() and "\x00" not in text):
        return text
    return _storable(text)


def _storable(text: str) -> str:
    """`text` with U+FFFD for U+0000 and lone surrogates, which PostgreSQL cannot store."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if not text.isascii():
        try:
            text.encode()  # much faster than a search, and clean text is the rule
        except UnicodeEncodeError:
            text = _SURROGATE.sub("\ufffd", text)
    return text


# --- numbers --------------------------------------------------------------------------------------

_BIGINT_MIN = -ID_MAX - 1
_WHOLE_TEXT = re.compile(r"-?[0-9]{1,19}").fullmatch
_EXACT_FLOAT = 2**53


class NotStorable(Exception):
    """A number of this tweet cannot be stored as it was meant."""


def as_id(value: Any, name: str) -> int | None:
    if type(value) is str and len(value) <= 19 and value.isascii() and value.isdigit():
        number = int(value)
    elif type(value) is int:
        number = value
    elif value is None:
        return None
    elif type(value) is float:
        raise NotStorable(f"{name} came as {shown(value)}, a number that has lost digits of the id")
    else:
        raise NotStorable(
            f"{name} is {shown(value)}, which is not a decimal number of at most 19 digits"
        )
    if 0 < number <= ID_MAX:
        return number
    raise NotStorable(f"{name} is {shown(number)}, outside 1 to {ID_MAX}")


def as_count(value: Any, name: str) -> int | None:
    if type(value) is int:
        number = value
    elif value is None:
        return None
    elif _is_whole(value):
        number = int(value)
    else:
        raise NotStorable(f"{name} is {shown(value)}, which is not a whole number")
    if _BIGINT_MIN <= number <= ID_MAX:
        return number
    raise NotStorable(f"{name} is {shown(number)}, outside the range of bigint")


def _is_whole(value: Any) -> bool:
    if type(value) is float:
        return value.is_integer() and abs(value) <= _EXACT_FLOAT
    return type(value) is str and _WHOLE_TEXT(value) is not None


def shown(value: Any) -> str:
    """`value` for a sentence: never long, always printable."""
    if type(value) is int and value.bit_length() > 128:
        return (
            f"an integer of {value.bit_length()} bits"  # Python refuses to print the longest ones
        )
    if value is None or isinstance(value, str | int | float):
        text = ascii(value)
        return text if len(text) <= 60 else f"{text[:60]}…"
    return "a list" if isinstance(value, list) else "an object"


def _id_as_text(tweet: Any, key: str) -> str | None:
    value = tweet.get(key) if isinstance(tweet, dict) else None
    if type(value) is str and len(value) <= 19 and value.isascii() and value.isdigit():
        return str(int(value))
    return None if value is None else shown(value)


# --- shapes ---------------------------------------------------------------------------------------

# What an object, list or text of the wrong type leads to in the code above.
MISSHAPEN = (AttributeError, TypeError, ValueError)


def as_sent(value: Any) -> Any:
    return value


def only_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def looked_up(value: Any) -> str | None:
    """An id that is only looked up: any number of any size may stand there."""
    return str(value) if type(value) is int and value.bit_length() < 64 else only_text(value)


_ENTITIES = {
    "hashtags": [{"tag": only_text}],
    "urls": [{"url": only_text, "expanded_url": only_text, "media_key": only_text}],
    "mentions": [{"id": as_sent, "username": only_text}],
}
_REFERENCES = [{"type": only_text, "id": as_sent}]
_NOTE = {"text": only_text, "entities": _ENTITIES}
_TWEET = {
    "id": as_sent,
    "text": only_text,
    "author_id": looked_up,
    "created_at": only_text,
    "source": only_text,
    "in_reply_to_user_id": as_sent,
    "attachments": {"media_keys": [only_text]},
    "entities": _ENTITIES,
    "note_tweet": _NOTE,
    "note_post": _NOTE,
    "public_metrics": {"like_count": as_sent, "retweet_count": as_sent, "repost_count": as_sent},
    "referenced_tweets": _REFERENCES,
    "referenced_posts": _REFERENCES,
}
_AUTHORED = {"id": as_sent, "author_id": looked_up}
_INCLUDES = {
    "users": [{"id": looked_up, "username": only_text, "name": only_text}],
    "tweets": [_TWEET],
    "posts": [_TWEET],
    "media": [{"media_key": only_text, "url": only_text, "preview_image_url": only_text}],
}


def fitted_to(tweet: Any, shape: Any) -> dict[str, Any]:
    """A copy of a tweet without all that does not fit `shape`.

    What is no object at all is refused.
    """
    if not isinstance(tweet, dict):
        raise NotStorable(f"it is {shown(tweet)}, not an object")
    copy: dict[str, Any] = fitted(tweet, shape)
    return copy


def fitted(value: Any, shape: Any) -> Any:
    """A copy of `value` without all that does not fit `shape`; None when nothing is left of it."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return None
        parts = ((key, fitted(value.get(key), inner)) for key, inner in shape.items())
        return {key: part for key, part in parts if part is not None}
    if isinstance(shape, list):
        if not isinstance(value, list):
            return None
        return [part for item in value if (part := fitted(item, shape[0])) is not None]
    return shape(value)
