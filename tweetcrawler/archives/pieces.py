"""What a value of an archive is, told by its keys: a page, a status, a post of another tool."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tweetcrawler.archives import formats
from tweetcrawler.archives.formats import Format, Refusal, TableRefusal, account, foreign, v1, v2

PAGE: Final = "page"
STATUS: Final = "status"
POST: Final = "post"
UNKNOWN: Final = "unknown"
EMPTY_PAGE: Final = "empty page"
ACCOUNT_DOWNLOAD: Final = account.NO_AUTHOR.name
ACTIVITY: Final = "Gnip Activity Streams"
IDS: Final = "bare ids"
TRENDS: Final = "trends"
IDS_ADVICE: Final = "there are no posts with them; `tweetcrawler hydrate` fetches those"

REFUSED: Final = {
    **{
        form.name: form.advice
        for form in (*formats.FORMATS, *formats.TABLES)
        if isinstance(form, (Refusal, TableRefusal)) and not getattr(form, "is_error", False)
    },
    **foreign.FILES,
    IDS: IDS_ADVICE,
    TRENDS: "there are no posts with them",
}
"""The formats that only look like posts, and what is said of each once a file."""


class Piece(NamedTuple):
    """One thing of a document.

    `kind` is `PAGE` (of v2), `STATUS` (of v1.1), `POST` (of `form`), or the name of something
    else.

    `thing` is what `flatten`, `flatten_statuses` or `form.rows` takes; of `UNKNOWN` it is a
    sentence; else it is None.
    """

    kind: str
    thing: Any = None
    form: Format | None = None


def recognise(value: Any, form: Format | None = None) -> list[Piece]:
    """What stands in a document, in its order; an array is what its elements are. Never raises.

    `form` is that of the document's file, where it is not the value that tells.
    """
    if form is not None and form.fits(value):
        return [Piece(POST, value, form)]
    if isinstance(value, dict):
        return _of_object(value)
    if isinstance(value, list):
        pieces = _of_pair(value, form) if form is not None else _of_list(value)
        return pieces or [Piece("empty list")]
    return _of_element(value)


def _of_pair(value: list[Any], form: Format) -> list[Piece]:
    """The posts of a file with another one beside it come together, other things alone."""
    posts = [each for each in value if isinstance(each, dict) and form.fits(each)]
    others = [each for each in value if not (isinstance(each, dict) and form.fits(each))]
    return [*([Piece(POST, posts, form)] if posts else []), *_of_list(others)]


def _of_list(value: list[Any]) -> list[Piece]:
    return [piece for element in value for piece in _of_element(element)]


def _of_element(value: Any) -> list[Piece]:
    if isinstance(value, dict):
        return _of_object(value)
    if type(value) is int or (isinstance(value, str) and value.isdecimal()):
        return [Piece(IDS)]
    shown = "a list in a list" if isinstance(value, list) else f"a bare {type(value).__name__}"
    return [Piece(UNKNOWN, f"it is {shown}, which is nothing that X writes")]


def _of_object(found: dict[str, Any]) -> list[Piece]:
    if _is_plainly_v1(found):
        return [Piece(STATUS, found)]
    if _is_plainly_v2(found):
        return [Piece(PAGE, v2.page_of(found))]
    if "data" in found and "source_platform" not in found:
        return [_of_page(found)]
    if "event_type" in found or "recipient" in found or "sender" in found:
        if "text" in found:
            return [Piece("direct message")]
    elif piece := _of_form(found):
        return [piece]
    for key in ("statuses", "results"):  # a page of v1.1's search; of its premium search
        statuses = found.get(key)
        if isinstance(statuses, list):
            return _of_list(statuses) or [Piece(EMPTY_PAGE)]
    return [_by_keys(found, _OBJECTS)]


def _is_plainly_v1(found: dict[str, Any]) -> bool:
    """Whether it is a status as X wrote it, which most objects are: nothing else is tried then."""
    user = found.get("user")
    return (
        isinstance(user, dict)
        and "screen_name" in user
        and "id_str" in found
        and ("text" in found or "full_text" in found)
        and "_id" not in found
        and not isinstance(found["id_str"], dict)
    )


def _is_plainly_v2(found: dict[str, Any]) -> bool:
    """Whether it is a post as X or twarc2 wrote it: nothing else is tried then."""
    return (
        "author_id" in found
        and "public_metrics" in found
        and "id" in found
        and "text" in found
        and found.keys().isdisjoint(_OF_OTHERS)
    )


# Keys that MongoDB, 4CAT, X's errors, Zeeschuimer and X's direct messages put beside those of a
# post.
_OF_OTHERS: Final = {"_id", "author_user", "resource_id", "source_platform", "event_type"}


def _of_form(found: dict[str, Any]) -> Piece | None:
    """The piece of a form that is known, or why an object with id and text is none."""
    form, value = formats.recognised(found)
    if form is v1.FORMAT:
        return Piece(STATUS, value)
    if form is v2.FORMAT:
        return Piece(PAGE, v2.page_of(value))
    if isinstance(form, Refusal):
        return Piece(form.name)
    if form is not None:
        return Piece(POST, value, form)
    if "id" in value and "text" in value:
        return Piece(UNKNOWN, v2.problem(value))
    return None


def _of_page(found: dict[str, Any]) -> Piece:
    """A page with a post among its data is one of posts; of others the first element tells."""
    data = found["data"]
    elements = data if isinstance(data, list) else [data]
    # X leaves `data` out of an empty page. Tools that rewrite pages put null or an empty list.
    if data is None or data == []:
        return Piece(PAGE_OF_ERRORS if found.get("errors") else EMPTY_PAGE)
    posts = [each for each in elements if _may_be_a_post(each)]
    if posts:
        problem = "" if _shows_a_sign(found) else formats.page_problem(posts)
        if isinstance(problem, Refusal):
            return Piece(problem.name)
        return Piece(UNKNOWN, problem) if problem else Piece(PAGE, found)
    first = elements[0]
    return _by_keys(first, _PAGES) if isinstance(first, dict) else Piece(UNKNOWN, _keys_of(found))


def _may_be_a_post(element: Any) -> bool:
    return (
        isinstance(element, dict)
        and "text" in element
        and "id" in element
        and "event_type" not in element
    )


def _shows_a_sign(page: dict[str, Any]) -> bool:
    """Whether a page is X's by what stands around its data: posts may have id and text alone."""
    meta, includes = page.get("meta"), page.get("includes")
    return (
        (isinstance(meta, dict) and ("result_count" in meta or "newest_id" in meta))
        or (isinstance(includes, dict) and not includes.keys().isdisjoint(_INCLUDED))
        or "matching_rules" in page
        or "__twarc" in page
    )


_INCLUDED: Final = {"users", "tweets", "posts", "media"}

PAGE_OF_ERRORS: Final = "page of errors"
# What an object is called in which any of these keys stands; the first that fits.
_OBJECTS: Final[dict[str, str]] = {
    **{
        name: name.replace("_", " ")
        for name in (
            # Notices of the streams of v1.1, which stand between the posts wherever a stream
            # was stored.
            "delete",
            "scrub_geo",
            "limit",
            "status_withheld",
            "user_withheld",
            "disconnect",
            "warning",
            "direct_message",
            "event",
            "friends",
            "friends_str",
            "user_update",
            "user_delete",
            "user_undelete",
            "user_protect",
            "user_unprotect",
            "user_suspend",
            "user_unsuspend",
            "tweet_edit",
        )
    },
    # Written by our own stream between the messages of X.
    "tweetcrawler": "mark of a connection",
    "trends": TRENDS,
    "trend_name": TRENDS,
    "errors": PAGE_OF_ERRORS,
    "error": PAGE_OF_ERRORS,
    "action": "compliance",
    "screen_name": "user",
    "username": "user",
    "ids": "page of user ids",
    "meta": EMPTY_PAGE,
}
_PAGES: Final[dict[str, str]] = {
    "event_type": "page of direct messages",
    "username": "page of users",
    "trend_name": TRENDS,
    # X speaks two vocabularies at the same URL: of tweets, and since 2026 of posts.
    "tweet_count": "page of counts",
    "post_count": "page of counts",
    "value": "page of rules",
    "project_usage": "page of usage",
    "cap_reset_day": "page of usage",
    "state": "page of spaces",
    "name": "page of lists",
    "action": "compliance",
    **dict.fromkeys(
        (
            "delete",
            "withheld",
            "drop",
            "undrop",
            "tweet_edit",
            "user_delete",
            "user_undelete",
            "user_withheld",
            "user_protect",
            "user_unprotect",
            "user_suspend",
            "user_unsuspend",
            "user_profile_modification",
            "scrub_geo",
        ),
        "compliance",
    ),
}


def _by_keys(found: dict[str, Any], kinds: dict[str, str]) -> Piece:
    for key, kind in kinds.items():
        if key in found:
            return Piece(kind)
    return Piece(UNKNOWN, _keys_of(found))


def _keys_of(found: dict[str, Any]) -> str:
    # ascii() shows control characters as escapes, so that no foreign file steers the terminal.
    keys = ", ".join(ascii(key)[1:-1][:30] for key in list(found)[:8])
    return (
        f"it is an object with the keys {keys}, which is nothing that X writes"
        if keys
        else "it is empty"
    )
