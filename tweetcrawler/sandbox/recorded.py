"""A world that was really seen: the users and tweets of a folder of recorded v2 answers.

Understood are pages (`data`, `includes`), twarc2's lines, stream lines, captures of whole
exchanges (`{source, method, uri, status, headers, body}`) and flattened lines with the
author inside. What is none of these is passed over and counted.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.sandbox.clock import FIRST_SNOWFLAKE, ms_of_id, rfc3339
from tweetcrawler.sandbox.networks import Listed, Network
from tweetcrawler.sandbox.people import Person
from tweetcrawler.sandbox.posts import Post, Ref
from tweetcrawler.sandbox.world import DEPTH, Missing

Json = dict[str, Any]
_OF_USER = re.compile(r"/2/users/([0-9]+)/tweets")
_INLINED = ("author", "in_reply_to_user", "__twarc", "matching_rules")


class _Found:
    """The objects that the files of a folder hold, by their ids as texts."""

    def __init__(self, folder: Path) -> None:
        self.skipped_lines = 0
        self.users: dict[str, Json] = {}
        self.tweets: dict[str, Json] = {}
        self.media: dict[str, Json] = {}
        self.polls: dict[str, Json] = {}
        self.places: dict[str, Json] = {}
        files = (
            sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl"))
            if folder.is_dir()
            else []
        )
        if not files:
            raise ConfigurationError(
                f"{folder} holds no .json or .jsonl files; name a folder of recorded v2 answers"
            )
        # In the order of their names, so that any machine finds the same.
        for path in files:
            self._read(path)

    def _read(self, path: Path) -> None:
        raw = path.read_bytes()
        try:
            whole = orjson.loads(raw)
        except orjson.JSONDecodeError:
            for line in raw.splitlines():
                if line.strip():
                    self._read_line(line)
        else:
            self._take(whole, author="")

    def _read_line(self, line: bytes) -> None:
        try:
            self._take(orjson.loads(line), author="")
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ):  # broken, or not of the shape that it seemed to be
            self.skipped_lines += 1

    def _take(self, found: Any, *, author: str) -> None:
        """One page, line, capture or object."""
        if isinstance(found, list):
            for one in found:
                self._take(one, author=author)
        elif not isinstance(found, dict):
            self.skipped_lines += 1
        elif "uri" in found and "body" in found:
            asked_for = _OF_USER.search(found["uri"])
            if found.get("status") == 200:
                self._take(found["body"], author=asked_for[1] if asked_for else "")
        elif "data" in found or "includes" in found:
            self._take_page(found, author)
        elif "text" in found and "id" in found:
            self._take_tweet(found, author)
        else:
            self.skipped_lines += 1

    def _take_page(self, page: Json, author: str) -> None:
        includes = page.get("includes") or {}
        for user in includes.get("users") or ():
            _put(self.users, user["id"], user)
        for kind, kept, key in (
            ("media", self.media, "media_key"),
            ("polls", self.polls, "id"),
            ("places", self.places, "id"),
        ):
            for thing in includes.get(kind) or ():
                _put(kept, thing[key], thing)
        for tweet in includes.get("tweets") or ():
            self._take_tweet(tweet, "")
        data = page.get("data")
        for thing in data if isinstance(data, list) else [data]:
            if not isinstance(thing, dict) or "id" not in thing:
                continue
            if "text" in thing:
                self._take_tweet(thing, author)
            elif "username" in thing:
                _put(self.users, thing["id"], thing)

    def _take_tweet(self, found: Json, author: str) -> None:
        """Keeps a tweet; one that was flattened is taken apart again."""
        tweet = {name: value for name, value in found.items() if name not in _INLINED}
        if isinstance(found.get("author"), dict):
            _put(self.users, found["author"]["id"], found["author"])
        if (
            isinstance(found.get("in_reply_to_user"), dict)
            and "username" in found["in_reply_to_user"]
        ):
            _put(self.users, found["in_reply_to_user"]["id"], found["in_reply_to_user"])
        if found.get("referenced_tweets"):
            for one in found["referenced_tweets"]:
                if "text" in one:
                    self._take_tweet(
                        {name: value for name, value in one.items() if name != "type"}, ""
                    )
            tweet["referenced_tweets"] = [
                {"type": one["type"], "id": one["id"]} for one in found["referenced_tweets"]
            ]
        self._take_attachments(tweet)
        if author and "author_id" not in tweet:
            tweet["author_id"] = author
        if "created_at" not in tweet and int(tweet["id"]) > FIRST_SNOWFLAKE:
            tweet["created_at"] = rfc3339(ms_of_id(int(tweet["id"])) / 1000)
        tweet.setdefault("edit_history_tweet_ids", [tweet["id"]])
        _put(self.tweets, tweet["id"], tweet)

    def _take_attachments(self, tweet: Json) -> None:
        attachments = dict(tweet.get("attachments") or {})
        for media in attachments.pop("media", ()):
            if "media_key" in media:  # flattening leaves {} where a file was not included
                _put(self.media, media["media_key"], media)
        poll = attachments.pop("poll", None)
        if isinstance(poll, dict) and "id" in poll:
            _put(self.polls, poll["id"], poll)
        if "attachments" in tweet:
            tweet["attachments"] = attachments
        entities = tweet.get("entities")
        if entities and entities.get("mentions"):
            mentions = entities["mentions"]
            for one in mentions:
                if "id" in one and "name" in one:
                    _put(
                        self.users,
                        one["id"],
                        {
                            name: value
                            for name, value in one.items()
                            if name not in ("start", "end")
                        },
                    )
            tweet["entities"] = entities | {
                "mentions": [
                    {name: one[name] for name in ("start", "end", "username", "id") if name in one}
                    for one in mentions
                ]
            }
        geo = tweet.get("geo")
        if geo and "full_name" in geo:
            place = {
                name: value
                for name, value in geo.items()
                if name not in ("place_id", "coordinates")
            }
            _put(self.places, place.setdefault("id", geo.get("place_id")), place)
            tweet["geo"] = {"place_id": place["id"]} | (
                {"coordinates": geo["coordinates"]} if "coordinates" in geo else {}
            )


def _put(kept: dict[str, Json], key: str, thing: Json) -> None:
    """Keeps the thing.

    Of two records of one thing, what only one of them knows is kept from both.
    """
    known = kept.get(key)
    kept[key] = (
        thing if known is None else known | thing if len(thing) >= len(known) else thing | known
    )


class RecordedTimelines:
    """The ids of the tweets of each user that was found."""

    def __init__(self, found: _Found) -> None:
        self._tweets = found.tweets
        self._timelines: dict[str, list[int]] = {id_: [] for id_ in found.users}
        self._slots: dict[int, int] = {}
        for id_, tweet in found.tweets.items():
            if tweet.get("author_id") in self._timelines:
                self._timelines[tweet["author_id"]].append(int(id_))
        for ids in self._timelines.values():
            ids.sort()
            self._slots |= {id_: slot for slot, id_ in enumerate(reversed(ids))}

    def has(self, key: str) -> bool:
        """Whether there is at least one tweet of this user."""
        return bool(self._timelines.get(key))

    def slot_of(self, id_: int) -> int:
        """The place of a tweet below its author's newest; -1 when the author is unknown."""
        return self._slots.get(id_, -1)

    def newest_first(self, person: Person, above: int, below: int) -> Iterator[int]:
        ids = self._timelines.get(person.key, [])
        return iter(ids[bisect_left(ids, above + 1) : bisect_left(ids, below)][::-1])

    def oldest_first(self, person: Person, above: int) -> Iterator[int]:
        ids = self._timelines.get(person.key, [])
        return iter(ids[bisect_left(ids, above + 1) :])

    def depth_floor(self, person: Person) -> int:
        ids = self._timelines.get(person.key, [])
        # Recorded timelines have the depth of true ones.
        return ids[-DEPTH] if len(ids) > DEPTH else 0

    def is_kind(self, person: Person, id_: int) -> tuple[bool, bool]:  # noqa: ARG002
        kinds = {ref["type"] for ref in self._tweets[str(id_)].get("referenced_tweets") or ()}
        return "replied_to" in kinds, "retweeted" in kinds

    def id_in_slot(self, person: Person, slot: int) -> int:
        return self._timelines[person.key][-1 - slot]


class RecordedPeople:
    """The users that were found; nobody else exists."""

    def __init__(self, found: _Found, timelines: RecordedTimelines) -> None:
        self._users = found.users
        self._timelines = timelines
        self._people = {
            id_: Person(
                key=id_,
                id=int(id_),
                username=user["username"],
                state=(
                    # A protected account whose tweets are here was open when they were read.
                    "protected" if user.get("protected") and not timelines.has(id_) else "normal"
                ),
            )
            for id_, user in found.users.items()
        }
        self._by_name = {person.username.lower(): person for person in self._people.values()}

    def __contains__(self, key: object) -> bool:
        return key in self._people

    def named(self, name: str) -> Person | None:
        return self._by_name.get(name.lower())

    def numbered(self, id_: int) -> Person | None:
        return self._people.get(str(id_))

    def person(self, key: str) -> Person:
        return self._people.get(key) or Person(
            key=key, id=int(key) if key.isdigit() else 0, username=key, state="absent"
        )

    def anyone(self, name: str) -> Person:
        return self.named(name) or self.person(name)

    def profile(self, person: Person) -> Json:
        return self._users.get(person.key, {})

    def known(self) -> list[Person]:
        return list(self._people.values())

    def handles(self) -> list[str]:
        """Handles of those of whom there is at least one tweet."""
        return [
            person.username for person in self._people.values() if self._timelines.has(person.key)
        ]


class RecordedPosts:
    """The tweets that were found, with the objects that they refer to."""

    def __init__(self, found: _Found, people: RecordedPeople, timelines: RecordedTimelines) -> None:
        self._found = found
        self._people = people
        self._timelines = timelines

    def tweet_of(self, person: Person, id_: int) -> Post:  # noqa: ARG002
        return self._post(self._found.tweets[str(id_)])

    def found(self, id_: int) -> Post | Missing:
        tweet = self._found.tweets.get(str(id_))
        return Missing("absent") if tweet is None else self._post(tweet)

    def referenced(self, ref: Ref) -> Post | Missing:
        return self.found(ref.id)

    def _post(self, tweet: Json) -> Post:
        attachments = tweet.get("attachments") or {}
        mentions = [
            one.get("id") or self._id_named(one["username"])
            for one in (tweet.get("entities") or {}).get("mentions") or ()
        ]
        polls = [
            self._found.polls[id_]
            for id_ in attachments.get("poll_ids") or ()
            if id_ in self._found.polls
        ]
        id_ = int(tweet["id"])
        return Post(
            id=id_,
            author=tweet.get("author_id", "0"),
            tweet=tweet,
            refs=tuple(
                Ref(ref["type"], int(ref["id"])) for ref in tweet.get("referenced_tweets") or ()
            ),
            mentioned=tuple(key for key in mentions if key in self._people),
            answered=key if (key := tweet.get("in_reply_to_user_id")) in self._people else None,
            media=tuple(
                self._found.media[key]
                for key in attachments.get("media_keys") or ()
                if key in self._found.media
            ),
            poll=polls[0] if polls else None,
            place=self._found.places.get((tweet.get("geo") or {}).get("place_id", "")),
            versions=tuple(map(int, tweet.get("edit_history_tweet_ids") or ())),
            slot=self._timelines.slot_of(id_),
        )

    def _id_named(self, name: str) -> str:
        person = self._people.named(name)
        return "" if person is None else person.key


class _NoNetworks:
    """Recorded answers do not tell who follows whom."""

    def network(self, person: Person, is_following: bool) -> Network:  # noqa: ARG002
        return Network()

    def listed(self, *_: object) -> Listed:
        return Listed([], None)


class RecordedWorld:
    """Serves what was found; nobody else exists, and nothing changes."""

    def __init__(self, folder: Path) -> None:
        found = _Found(folder)
        self.version = 0
        self.skipped_lines = found.skipped_lines
        self.timelines = RecordedTimelines(found)
        self.people = RecordedPeople(found, self.timelines)
        self.posts = RecordedPosts(found, self.people, self.timelines)
        self.networks = _NoNetworks()
