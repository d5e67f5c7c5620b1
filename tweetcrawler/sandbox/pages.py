"""Answers made of posts and people: data, includes and partial errors.

They hold only the fields that were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tweetcrawler.sandbox import problems
from tweetcrawler.sandbox.fields import Asked
from tweetcrawler.sandbox.people import Person
from tweetcrawler.sandbox.posts import Post, Ref
from tweetcrawler.sandbox.world import Missing, World


@dataclass(slots=True)
class Answer:
    """A 200 before it becomes bytes, and what it sells."""

    body: dict[str, Any]
    posts: list[Post] = field(default_factory=list)
    users: list[int] = field(default_factory=list)
    requests_price: float = 0.0
    raw: bytes | None = None
    """the body where it was made as bytes"""
    status: int = 200
    line: object | None = None
    """the connection whose messages follow, where the answer is a stream"""


def of_tweets(world: World, posts: Iterable[Post], asked: Asked) -> dict[str, Any]:
    """`{data?, includes?, errors?}` for these posts."""
    gathered = _Gathered(world, asked)
    data = []
    for post in posts:
        data.append(asked.cut_tweet(post.tweet))
        gathered.of_post(post)
    # X leaves `data` out when it is empty.
    body: dict[str, Any] = {"data": data} if data else {}
    return gathered.into(body)


def of_users(world: World, people: Iterable[Person], asked: Asked) -> dict[str, Any]:
    """`{data?, includes?, errors?}` for these people."""
    gathered = _Gathered(world, asked)
    data = []
    for person in people:
        user = world.people.profile(person)
        data.append(asked.cut_user(user))
        gathered.of_user(user)
    body: dict[str, Any] = {"data": data} if data else {}
    return gathered.into(body)


class _Gathered:
    """Includes while they are gathered: each thing once, in the order in which it was needed."""

    def __init__(self, world: World, asked: Asked) -> None:
        self._world = world
        self._asked = asked
        self._users: dict[str, orjson.Fragment] = {}
        self._tweets: dict[int, orjson.Fragment] = {}
        self._media: dict[str, dict[str, Any]] = {}
        self._polls: dict[str, dict[str, Any]] = {}
        self._places: dict[str, dict[str, Any]] = {}
        self._errors: dict[tuple[str, str], dict[str, Any]] = {}
        wants = asked.expansions
        self._deep_author = "referenced_tweets.id.author_id" in wants
        self._deep_files = "referenced_tweets.id.attachments.media_keys" in wants
        self._steps = [step for name, step in _STEPS if name in wants]
        if (self._deep_author or self._deep_files) and "referenced_tweets.id" not in wants:
            self._steps.append(_Gathered._referenced)

    def of_post(self, post: Post) -> None:
        for step in self._steps:
            step(self, post)
        for name in self._asked.private:
            self._error(problems.private_field(name, str(post.id)))

    # Posts of a profile are expanded one level deep: not what they refer to in turn.
    def of_user(self, user: dict[str, Any]) -> None:
        for name in ("pinned_tweet_id", "most_recent_tweet_id"):
            if name in self._asked.expansions and name in user:
                self._tweet(name, self._world.posts.found(int(user[name])), user[name])
        if "affiliation.user_id" in self._asked.expansions:
            for id_ in user.get("affiliation", {}).get("user_id", ()):
                person = self._world.people.numbered(int(id_))
                if person is not None:
                    self._user(person.key)

    def into(self, body: dict[str, Any]) -> dict[str, Any]:
        cut = self._asked
        includes = {
            "users": list(self._users.values()),
            "posts" if cut.posts else "tweets": list(self._tweets.values()),
            "media": [_cut(thing, cut.media) for thing in self._media.values()],
            "polls": [_cut(thing, cut.poll) for thing in self._polls.values()],
            "places": [_cut(thing, cut.place) for thing in self._places.values()],
        }
        # As `data`, a list of includes is left out when it is empty.
        if any(includes.values()):
            body["includes"] = {name: things for name, things in includes.items() if things}
        if self._errors:
            body["errors"] = list(self._errors.values())
        return body

    # -- one expansion each -------------------------------------------------

    def _author(self, post: Post) -> None:
        if post.author not in self._users:
            self._user(post.author)

    def _answered(self, post: Post) -> None:
        if post.answered is not None and post.answered not in self._users:
            self._user(post.answered)

    def _mentioned(self, post: Post) -> None:
        for key in post.mentioned:
            if key not in self._users:
                self._user(key)

    def _files(self, post: Post) -> None:
        for media in post.media:
            self._media[media["media_key"]] = media

    def _poll(self, post: Post) -> None:
        if post.poll is not None:
            self._polls[post.poll["id"]] = post.poll

    def _place(self, post: Post) -> None:
        if post.place is not None:
            self._places[post.place["id"]] = post.place

    def _versions(self, post: Post) -> None:
        for id_ in post.versions:
            # The newest version is the post itself, which is in `data` already.
            if id_ != post.id:
                self._tweet("edit_history_tweet_ids", self._world.posts.found(id_), str(id_))

    def _referenced(self, post: Post) -> None:
        for ref in post.refs:
            self._one_referenced(ref)

    def _one_referenced(self, ref: Ref) -> None:
        found = self._world.posts.referenced(ref)
        self._tweet("referenced_tweets.id", found, str(ref.id))
        if isinstance(found, Post):
            if self._deep_author:
                self._author(found)
            if self._deep_files:
                self._files(found)

    # -- kept once ------------------------------------------------------------

    def _tweet(self, parameter: str, found: Post | Missing, value: str) -> None:
        if isinstance(found, Missing):
            self._error(
                problems.hidden_tweet(parameter, value, "includes")
                if found.reason == "protected"
                else problems.unknown_tweet(parameter, value)
            )
        elif found.id not in self._tweets:
            version = self._world.version
            self._tweets[found.id] = self._asked.recall(found.id, version) or self._asked.remember(
                found.id, self._asked.cut_tweet(found.tweet), version
            )

    def _user(self, key: str) -> None:
        version = self._world.version
        known = self._asked.recall(key, version)
        if known is None:
            person = self._world.people.person(key)
            # One error for a page, though nobody asked about this user: that a post names it is
            # enough.
            if person.state == "suspended":
                self._error(
                    problems.suspended_user(
                        "entities.mentions.username", person.username, str(person.id)
                    )
                )
                return
            if person.state == "absent":
                self._error(problems.unknown_user("entities.mentions.username", person.username))
                return
            known = self._asked.remember(
                key, self._asked.cut_user(self._world.people.profile(person)), version
            )
        self._users[key] = known

    def _error(self, error: dict[str, Any]) -> None:
        self._errors[error["detail"], error["parameter"]] = error


_STEPS: tuple[tuple[str, Callable[[_Gathered, Post], None]], ...] = (
    ("author_id", _Gathered._author),
    ("in_reply_to_user_id", _Gathered._answered),
    ("entities.mentions.username", _Gathered._mentioned),
    ("attachments.media_keys", _Gathered._files),
    ("attachments.poll_ids", _Gathered._poll),
    ("geo.place_id", _Gathered._place),
    ("edit_history_tweet_ids", _Gathered._versions),
    ("referenced_tweets.id", _Gathered._referenced),
)
"""Functions, not bound methods: those would tie each page into a cycle that only the
collector frees.
"""


def _cut(thing: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in thing.items() if name in wanted}
