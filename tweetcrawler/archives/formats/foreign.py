"""Forms that are known by name and not read: objects, tables, files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tweetcrawler.archives.formats.fields import Thing
from tweetcrawler.archives.formats.kinds import Refusal
from tweetcrawler.archives.formats.tables import TableRefusal

_NO_POSTS = "it holds no posts of X: leave it out"


def _with(*keys: str) -> Callable[[Thing], bool]:
    return lambda value: all(key in value for key in keys)


def _is_telegram(value: Thing) -> bool:
    if value.get("type") in ("message", "service"):
        return "date" in value and "id" in value
    return _with("messages", "type", "name")(value)


def _is_mastodon(value: Thing) -> bool:
    account = value.get("account")
    # `acct` (name@server) is a key of Mastodon's API alone.
    return isinstance(account, dict) and "acct" in account


def _is_instagram(value: Thing) -> bool:
    if "text" in value and "timestamp" in value:  # a comment of Meta's Graph API
        return "id" in value and "created_at" not in value
    return "shortcode" in value or "media_product_type" in value or "ig_id" in value


OBJECTS: Final = (
    Refusal(
        "Gnip Activity Streams",
        lambda value: value.get("objectType") == "activity",
        "it is another format of posts; have them delivered in the original one",
    ),
    Refusal(
        "Brandwatch",
        lambda value: "queryId" in value and "resourceId" in value,
        "it holds the ids of posts: `tweetcrawler hydrate` fetches those",
    ),
    Refusal("Telegram", _is_telegram, _NO_POSTS),
    Refusal("Mastodon", _is_mastodon, _NO_POSTS),
    Refusal("Instagram", _is_instagram, _NO_POSTS),
    Refusal("Reddit", _with("subreddit"), _NO_POSTS),
    Refusal("Bluesky", lambda value: str(value.get("uri")).startswith("at://"), _NO_POSTS),
    Refusal("CrowdTangle", _with("platformId", "platform"), _NO_POSTS),
    Refusal("TikTok", lambda value: "aweme_id" in value or "video_description" in value, _NO_POSTS),
    Refusal("YouTube", _with("kind", "etag", "snippet"), _NO_POSTS),
)
"""Objects that may have an id and a text and are no posts in a form that is read."""

TABLES: Final = (
    TableRefusal(
        "Brandwatch",
        frozenset({"Query Id", "Query Name", "Snippet"}),
        "it cuts the posts; take the numbers out of its column Url and `tweetcrawler hydrate` them",
    ),
    TableRefusal(
        "X's archive of information operations",
        frozenset({"tweetid", "userid", "tweet_text"}),
        "its accounts are hashed, so their posts cannot stand among those of others",
    ),
)

_UNPACK = "unpack it first"
# The marks by which file(1) knows these, too. lz4 has two: that of its frames, and the older
# one that the Linux kernel uses for its images.
_HEADS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"7z\xbc\xaf\x27\x1c", "7z", f"{_UNPACK}, with 7z x"),
    (b"\x04\x22\x4d\x18", "lz4", f"{_UNPACK}, with lz4 -d"),
    (b"\x02\x21\x4c\x18", "lz4", f"{_UNPACK}, with lz4 -d"),
    (b"Rar!\x1a\x07", "RAR", f"{_UNPACK}, with unrar x"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy", f"{_UNPACK}, with snzip -d"),
    (b"X\n\x00\x00\x00", "R's RDS", 'write it as CSV in R: write.csv(readRDS(file), "posts.csv")'),
    (b"A\n2\n", "R's RDS", 'write it as CSV in R: write.csv(readRDS(file), "posts.csv")'),
    (b"RDX", "R's RData", "write it as CSV in R: load(file), then write.csv of what it holds"),
    (b"\xd0\xcf\x11\xe0", "Excel's old format", "save it as .xlsx, with the ids as text"),
    (b"\x80\x04\x95", "Python's pickle", "it may run programs; write it as JSON in Python"),
    (b"%PDF", "PDF", "it holds no posts that can be read"),
)

FILES: Final = {name: advice for _begins, name, advice in _HEADS}
"""The advice on each file that is not read, by its name."""


def refused_file(head: bytes) -> tuple[str, str]:
    """The name of a file that is not read, and an advice, by its first bytes; else "" twice.

    An RDS is compressed as a rule: look again after unpacking.
    """
    return next(
        ((name, advice) for begins, name, advice in _HEADS if head.startswith(begins)), ("", "")
    )


SQLITE: Final = b"SQLite format 3\x00"
PARQUET: Final = b"PAR1"
ZIP: Final = b"PK\x03\x04"
WARC: Final = b"WARC/"


def named(value: Any) -> Refusal | None:
    """The refusal by which an object is known; None when it is not."""
    if not isinstance(value, dict):
        return None
    return next((refusal for refusal in OBJECTS if refusal.fits(value)), None)
