"""What was deleted on X is taken out of stored pages: an object is blanked, all others stay.

Of a blanked object its id stays, for coverage is computed from ids, and "tombstone" with what
it was: "post" or "user". Texts that other objects carry of it go, too: a retweet repeats the
text of its post, and media, polls and places belong to the posts that name them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tweetcrawler.keeping.lines import (
    PAGES,
    KeptPage,
    counted,
    page_line,
    page_of,
    parsed_json,
    written_json,
)
from tweetcrawler.keeping.manifests import DATA, Manifest
from tweetcrawler.keeping.segments import OpenFile, check, lines_of, renamed, write_manifest

Object = dict[str, Any]

TOMBSTONE = "tombstone"
# Of a retweet these fields are those of the post that it repeats.
_REPEATED = (
    "attachments",
    "context_annotations",
    "entities",
    "geo",
    "note_tweet",
    "article",
    "card_uri",
    "community_id",
    "withheld",
)
# Where the objects of a kind stand in `includes`, and the name of their key.
_BELONGINGS = {"media": "media_key", "polls": "id", "places": "id"}


def blank(
    body: bytes, posts: Collection[int], users: Collection[int], older: Collection[int] = ()
) -> tuple[bytes, int]:
    """The body without these posts and without these users and their posts, and how many
    objects were blanked in it. A body without any of them comes back as it is.

    Of `older` versions of posts the newer ones stay. To blank a second time changes nothing.

    **Errors**: ValueError when the body is no JSON.
    """
    page = parsed_json(body)
    if not isinstance(page, dict):
        return body, 0
    of_posts, of_users = {str(one) for one in posts}, {str(one) for one in users}
    of_older = {str(one) for one in older}
    gone, others = _parted(
        page, lambda one: _is_meant(one, of_posts, of_users) or _is_version(one, of_older)
    )
    # A retweet of a post that is blanked for its author names that post, not the author.
    of_posts |= of_older | {str(one["id"]) for one in gone if "username" not in one}
    repeats = [one for one in others if _repeats(one, of_posts)]
    if not gone and not repeats:
        return body, 0
    belongings = _keys_of([*gone, *repeats])
    for one in gone:
        _blank_object(one)
    for one in repeats:
        _blank_repeat(one)
    _drop_belongings(page, belongings)
    return written_json(page), len(gone) + len(repeats)


def blanked(
    folder: Path,
    manifest: Manifest,
    posts: Collection[int],
    users: Collection[int],
    older: Collection[int] = (),
) -> tuple[Manifest, int] | None:
    """A segment rewritten without these posts and users: its new manifest, and how many
    objects were blanked. None when it has none of them.

    The new file has a name of its own and tells which hashes it replaces, so that the chain
    holds. The old files stay; who calls deletes them everywhere.

    **Errors**: `SegmentError` when the file is damaged or the disk is full.
    """
    source = folder / (manifest.name + DATA)
    check(source, manifest)
    new = renamed(manifest)
    file = OpenFile.new(folder / (new.name + DATA))
    try:
        count = _copy(source, manifest.kind, file, lambda body: blank(body, posts, users, older))
        made = file.manifest(
            **{
                name: getattr(new, name)
                for name in (
                    "name",
                    "kind",
                    "node",
                    "number",
                    "program",
                    "schema",
                    "closed_at",
                    "previous",
                )
            },
            # All earlier files, not the last one alone: the next segment of the chain names the
            # file that stood there when it was closed.
            replaces=(*manifest.replaces, manifest.sha256),
        )
    finally:
        file.close()
    if not count:
        file.path.unlink()
        return None
    write_manifest(folder, made)
    return made, count


def _copy(
    source: Path, kind: str, into: OpenFile, change: Callable[[bytes], tuple[bytes, int]]
) -> int:
    count, waiting, size = 0, [], 0
    with source.open("rb") as file:
        for text in lines_of(file):
            changed, found = _changed_line(kind, text, change)
            count += found
            waiting.append(counted(kind, changed))
            size += len(changed)
            if size >= 1 << 20:
                into.write(waiting)
                waiting, size = [], 0
    if waiting:
        into.write(waiting)
    return count


def _changed_line(
    kind: str, text: bytes, change: Callable[[bytes], tuple[bytes, int]]
) -> tuple[bytes, int]:
    if kind != PAGES:
        return change(text)
    page = page_of(text)
    body, count = change(page.body)
    # A line in which nothing was blanked stays byte for byte as it was written.
    if not count:
        return text, 0
    made = KeptPage(page.id, page.fetched_at, page.endpoint, page.facts, page.params, body)
    return page_line(made).text, count


def objects_of(page: Mapping[str, Any]) -> Iterator[Object]:
    """The posts and users of a page, wherever they stand, blanked ones among them."""
    includes = page.get("includes")
    parts = [page.get("data")]
    if isinstance(includes, dict):
        parts += [includes.get("tweets"), includes.get("users")]
    for part in parts:
        for one in part if isinstance(part, list) else [part]:
            if isinstance(one, dict) and "id" in one:
                yield one


def _whole_ones(page: Object) -> list[Object]:
    return [one for one in objects_of(page) if TOMBSTONE not in one]


def _parted(page: Object, meant: Callable[[Object], bool]) -> tuple[list[Object], list[Object]]:
    sides: tuple[list[Object], list[Object]] = ([], [])
    for one in _whole_ones(page):
        sides[0 if meant(one) else 1].append(one)
    return sides


def _is_meant(one: Object, posts: set[str], users: set[str]) -> bool:
    # X gives every user with the name, and a post never has one. Their ids may be alike.
    if "username" in one:
        return str(one["id"]) in users
    # Each edit of a post has an id of its own, and all are deleted as one.
    edits = one.get("edit_history_tweet_ids")
    ids = {str(one["id"]), *map(str, edits if isinstance(edits, list) else ())}
    return not ids.isdisjoint(posts) or str(one.get("author_id")) in users


def _is_version(one: Object, older: set[str]) -> bool:
    return "username" not in one and str(one["id"]) in older


def _repeats(one: Object, posts: set[str]) -> bool:
    """Whether it is a retweet of such a post, and still repeats it."""
    links = one.get("referenced_tweets")
    return (
        isinstance(links, list)
        and bool(one.get("text"))
        and any(
            isinstance(link, dict)
            and link.get("type") == "retweeted"
            and str(link.get("id")) in posts
            for link in links
        )
    )


def _blank_object(one: Object) -> None:
    kind = "user" if "username" in one else "post"
    number = one["id"]
    one.clear()
    one.update({"id": number, TOMBSTONE: kind})


# The retweet itself was not deleted: who made it and when stays.
def _blank_repeat(one: Object) -> None:
    one["text"] = ""
    for name in _REPEATED:
        one.pop(name, None)


def _keys_of(posts: list[Object]) -> dict[str, set[str]]:
    """The media, polls and places that these posts name."""
    keys: dict[str, set[str]] = {kind: set() for kind in _BELONGINGS}
    for post in posts:
        attachments, geo = post.get("attachments"), post.get("geo")
        if isinstance(attachments, dict):
            keys["media"].update(map(str, attachments.get("media_keys") or ()))
            keys["polls"].update(map(str, attachments.get("poll_ids") or ()))
        if isinstance(geo, dict):
            keys["places"].add(str(geo.get("place_id")))
    return keys


def _drop_belongings(page: Object, keys: dict[str, set[str]]) -> None:
    """Drops what only blanked posts named."""
    includes = page.get("includes")
    if not isinstance(includes, dict):
        return
    still = _keys_of(_whole_ones(page))
    for kind, name in _BELONGINGS.items():
        drop = keys[kind] - still[kind]
        held = includes.get(kind)
        if drop and isinstance(held, list):
            includes[kind] = [
                one for one in held if not (isinstance(one, dict) and str(one.get(name)) in drop)
            ]
