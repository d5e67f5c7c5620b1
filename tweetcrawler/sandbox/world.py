"""The made world: every requested user exists, and every post can be found by its id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from tweetcrawler.sandbox.clock import lowest_id, ms_of_id, rfc3339
from tweetcrawler.sandbox.people import Census, Changes, MadePerson, Person, profile
from tweetcrawler.sandbox.posts import (
    REPLIES,
    RETWEETS,
    Post,
    Ref,
    kind_of,
    older_version,
    write,
)

DEPTH = 3_200
"""Posts of a timeline that X shows, counted from the newest, retweets included."""

HALF_GROWN_S = 43_200.0

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True, frozen=True)
class Missing:
    """Why a post or a person cannot be shown: absent, suspended or protected."""

    reason: str


class People(Protocol):
    """Who there is in a world."""

    def named(self, name: str) -> Person | None: ...
    def numbered(self, id_: int) -> Person | None: ...
    def person(self, key: str) -> Person: ...
    def profile(self, person: Person) -> dict[str, Any]: ...
    def known(self) -> list[Person]: ...


class Timelines(Protocol):
    """The ids of each person's posts."""

    def newest_first(self, person: Person, above: int, below: int) -> Iterator[int]: ...
    def oldest_first(self, person: Person, above: int) -> Iterator[int]: ...
    def depth_floor(self, person: Person) -> int: ...
    def is_kind(self, person: Person, id_: int) -> tuple[bool, bool]: ...


class Posts(Protocol):
    """Posts by their ids."""

    def tweet_of(self, person: Person, id_: int) -> Post: ...
    def found(self, id_: int) -> Post | Missing: ...
    def referenced(self, ref: Ref) -> Post | Missing: ...


class Networks(Protocol):
    """Who follows whom."""

    def follower_count(self, person: Person, following: bool) -> int: ...
    def follower(self, person: Person, number: int, following: bool) -> Person: ...


class World(Protocol):
    """The interface of a world, made or recorded, for the endpoints."""

    version: int
    """Grows with every change; what was remembered of an older version is stale."""

    @property
    def people(self) -> People: ...
    @property
    def timelines(self) -> Timelines: ...
    @property
    def posts(self) -> Posts: ...
    @property
    def networks(self) -> Networks: ...


class Recent(Generic[K, V]):
    """The last `room` values that were put in."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._kept.get(key)

    def put(self, key: K, value: V) -> V:
        if len(self._kept) >= self._room:
            self._kept.popitem(last=False)
        self._kept[key] = value
        return value

    def forget(self) -> None:
        self._kept.clear()


class MadeTimelines:
    """The ids of made people's posts, which follow from the person alone."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}

    def newest_first(self, person: Person, above: int, below: int) -> Iterator[int]:
        """The ids of the person's posts that are above one id and below another, newest first."""
        made = _own(person)
        added, deleted = _added_and_deleted(made, above, below)
        k = min(made.last_k, made.k_before(below)) if below < 2**63 else made.last_k
        while k >= made.first_k:
            id_ = made.id_of(k)
            if id_ <= above:
                break
            while added and added[-1] > id_:
                yield added.pop()
            if id_ not in deleted:
                yield id_
            k -= 1
        yield from reversed(added)

    def oldest_first(self, person: Person, above: int) -> Iterator[int]:
        """The ids above one id, oldest first."""
        made = _own(person)
        added, deleted = _added_and_deleted(made, above, 2**63)
        # pop() takes from the end; taking from the front would move all the others.
        added.reverse()
        k = max(made.first_k, made.k_before(above + 1) + 1)
        while k <= made.last_k:
            id_ = made.id_of(k)
            while added and added[-1] < id_:
                yield added.pop()
            if id_ not in deleted:
                yield id_
            k += 1
        yield from reversed(added)

    def depth_floor(self, person: Person) -> int:
        """The oldest id of the timeline that X still shows; 0 when all are shown."""
        made = _own(person)
        if made.count <= DEPTH:
            return 0
        if made.changes is None:
            return made.id_of(made.last_k - DEPTH + 1)
        floor = self._floors.get(made.key)
        if floor is None:
            floor = self._floors[made.key] = next(
                islice(self.newest_first(made, 0, 2**63), DEPTH - 1, None), 0
            )
        return floor

    def is_kind(self, person: Person, id_: int) -> tuple[bool, bool]:
        """Whether this post of the person is a reply, and whether it is a retweet."""
        made = _own(person)
        kind = kind_of(made, made.k_of(id_) or 0)
        return kind in REPLIES, kind in RETWEETS

    def id_in_slot(self, person: Person, slot: int) -> int:
        """The id of the post this many places below the person's newest."""
        made = _own(person)
        return made.id_of(made.last_k - slot)

    def forget(self, key: str) -> None:
        """Forgets what was remembered of a person who has changed."""
        self._floors.pop(key, None)


class MadePeople:
    """The people of a made world, each by handle, by id, and by the key that stays."""

    def __init__(self, census: Census, timelines: MadeTimelines) -> None:
        self._census = census
        self._timelines = timelines
        self.public_names = census.public_names
        self._people: Recent[str, MadePerson] = Recent(50_000)
        self._profiles: Recent[str, dict[str, Any]] = Recent(5_000)
        self._changes: dict[str, Changes] = {}
        self._renamed: dict[str, str] = {}
        # A handle that its owner gave up is unknown until another one takes it.
        self._names_left: set[str] = set()
        # The id of a post tells its author's tag, which several people may share.
        self._by_tag: dict[int, list[str]] = {}
        # Others quote these people, so their posts are looked up before anybody asked for them.
        for name in self.public_names:
            self._remember(self.person(name))

    def named(self, name: str) -> MadePerson | None:
        """The person with this handle now; None without one."""
        folded = name.lower()
        if folded not in self._renamed and (
            folded in self._names_left or folded.startswith("renamed_")
        ):
            return None
        person = self.anyone(folded)
        return None if person.state == "absent" else person

    def numbered(self, id_: int) -> MadePerson | None:
        key = self._census.key_of(id_)
        if key is None:
            return None
        person = self.person(key)
        self._remember(person)
        return None if person.state == "absent" else person

    def anyone_numbered(self, id_: int) -> MadePerson | None:
        """The person of an id, whatever the state; None for an id that is nobody's."""
        key = self._census.key_of(id_)
        return None if key is None else self.person(key)

    def person(self, key: str) -> MadePerson:
        found = self._people.get(key)
        return found if found is not None else self._people.put(key, self._made(key))

    def anyone(self, name: str) -> MadePerson:
        """The person that a control call means, under an old or new name, whatever the state."""
        folded = name.lower()
        key = self._renamed.get(folded, folded)
        if key.startswith("now_") and 4 < len(key) <= 11:
            key = "renamed_" + key[4:]
        person = self.person(key)
        self._remember(person)
        return person

    def profile(self, person: Person) -> dict[str, Any]:
        found = self._profiles.get(person.key)
        if found is not None:
            return found
        made = _own(person)
        user = profile(made)
        newest = next(self._timelines.newest_first(made, 0, 2**63), None)
        if newest is None:
            user.pop("most_recent_tweet_id", None)
            user.pop("pinned_tweet_id", None)
        else:
            user["most_recent_tweet_id"] = str(newest)
        return self._profiles.put(person.key, user)

    def known(self) -> list[Person]:
        return [self.person(key) for keys in self._by_tag.values() for key in keys]

    def handles(self) -> list[str]:
        """Handles that were asked for, and the public ones."""
        return [person.username for person in self.known()]

    def tagged(self, tag: int) -> Iterator[MadePerson]:
        """The known people whose posts have ids that end in this tag."""
        return map(self.person, self._by_tag.get(tag, ()))

    def change(self, person: MadePerson) -> Changes:
        """The person's changes, to be written to; `refresh` makes them seen."""
        if person.changes is None:
            person.changes = self._changes.setdefault(person.key, Changes())
        return person.changes

    def rename(self, person: MadePerson, new_name: str) -> None:
        self.change(person).username = new_name
        self._names_left.add(person.username.lower())
        self._names_left.discard(new_name.lower())
        self._renamed = {old: key for old, key in self._renamed.items() if key != person.key}
        self._renamed[new_name.lower()] = person.key

    def refresh(self, key: str) -> None:
        """Makes the person again after a change, and forgets all profiles."""
        self._people.put(key, self._made(key))
        self._remember(self.person(key))
        self._profiles.forget()

    def _made(self, key: str) -> MadePerson:
        person = self._census.make(key)
        if key.startswith("renamed_") and len(key) > 8:
            person.username = "now_" + key[8:]
        changes = self._changes.get(key)
        if changes is not None:
            person.changes = changes
            person.state = changes.state or person.state
            person.username = changes.username or person.username
        return person

    def _remember(self, person: MadePerson) -> None:
        keys = self._by_tag.setdefault(person.tag, [])
        if person.key not in keys:
            keys.append(person.key)


class MadePosts:
    """Posts of a made world, written when they are asked for."""

    def __init__(
        self, people: MadePeople, timelines: MadeTimelines, now: Callable[[], float] | None
    ) -> None:
        self.people = people
        self._timelines = timelines
        self._now = now
        self._posts: Recent[int, Post] = Recent(8_000)

    def tweet_of(self, person: Person, id_: int) -> Post:
        """A post that is known to be the person's."""
        made = _own(person)
        k = made.k_of(id_)
        if k is None:
            raise LookupError(f"{id_} is no post of {person.username}")
        # Not kept: a timeline reads a post once, and would push out those that many refer to.
        return self._shown(made, self._posts.get(id_) or write(self, made, k, id_))

    def written(self, person: MadePerson, k: int) -> Post:
        """The k-th post of the person, kept for the next time that somebody refers to it."""
        id_ = person.id_of(k)
        kept = self._posts.get(id_) or self._posts.put(id_, write(self, person, k, id_))
        return self._shown(person, kept)

    def found(self, id_: int) -> Post | Missing:
        """The post with this id, an older version of it included."""
        for person in self.people.tagged(id_ & 0x3FFFFF):
            k = person.k_of(id_)
            if k is not None:
                made = k >= 0 and id_ == person.id_of(k)
                return _hidden(person) or (
                    self.written(person, k) if made else self.tweet_of(person, id_)
                )
            after = next(self._timelines.oldest_first(person, id_), None)
            # X lets a post be edited for an hour, so its older versions lie within one.
            if after is not None and ms_of_id(after) - ms_of_id(id_) < 3_600_000:
                post = self.tweet_of(person, after)
                if id_ in post.versions:
                    return _hidden(person) or older_version(post, id_)
        return Missing("absent")

    def referenced(self, ref: Ref) -> Post | Missing:
        if ref.author is None:
            return Missing("absent")
        person = self.people.person(ref.author)
        hidden = _hidden(person)
        if hidden is not None:
            return hidden
        if ref.k < person.first_k or (
            person.changes is not None and ref.id in person.changes.deleted
        ):
            return Missing("absent")
        return self.written(person, ref.k)

    def _shown(self, person: MadePerson, post: Post) -> Post:
        shown = _as_changed(person, post)
        return shown if self._now is None else _grown(shown, self._now())

    def forget(self) -> None:
        """Forgets the posts that were kept."""
        self._posts.forget()


class MadeNetworks:
    """Followers of made people."""

    def __init__(self, people: MadePeople) -> None:
        self._people = people

    def follower_count(self, person: Person, following: bool) -> int:
        metrics = self._people.profile(person)["public_metrics"]
        count: int = metrics["following_count" if following else "followers_count"]
        return count

    def follower(self, person: Person, number: int, following: bool) -> Person:
        """The number-th follower (or followed account), newest first; nobody comes twice."""
        made = _own(person)
        offset = made.salt + (7 if following else 0)
        # The sequence repeats after nine million, four times as many as the most followed have.
        sign = (number * 1_103_515_245 + offset) % 36**6
        letters = ""
        for _ in range(6):
            sign, letter = divmod(sign, 36)
            letters += "0123456789abcdefghijklmnopqrstuvwxyz"[letter]
        return self._people.person(("fan_" if not following else "pal_") + letters)


class MadeWorld:
    """Follows from the seed. Only what was done to it while it runs is remembered."""

    def __init__(
        self,
        seed: str,
        newest_ms: int,
        posts: tuple[int, int] | None = None,
        *,
        grows_by: Callable[[], float] | None = None,
    ) -> None:
        self.version = 0
        self.timelines = MadeTimelines()
        self.people = MadePeople(Census(seed, newest_ms, posts), self.timelines)
        self.posts = MadePosts(self.people, self.timelines, grows_by)
        self.networks = MadeNetworks(self.people)

    def set_state(self, name: str, state: str) -> None:
        self._change(name).state = state
        self._changed(name)

    def rename(self, name: str, new_name: str) -> None:
        self.people.rename(self.people.anyone(name), new_name)
        self._changed(new_name)

    def add_posts(self, name: str, count: int, now_ms: int) -> list[int]:
        """New posts, a second apart, the newest at `now_ms`; gives their ids, oldest first."""
        person = self.people.anyone(name)
        changes = self._change(name)
        ids: list[int] = []
        for number in range(count):
            id_ = lowest_id(now_ms - (count - 1 - number) * 1000) | person.tag
            while _taken(person, changes, id_):
                # The next millisecond: the tag in the bits below must stay.
                id_ += 1 << 22
            ids.append(id_)
            changes.added[id_] = -1 - len(changes.added)
            order: list[int] = sorted(changes.added)
            changes.added = {added: changes.added[added] for added in order}
        self._changed(name)
        return ids

    def delete(self, name: str, ids: list[int], now_s: float = 0.0) -> int:
        """Deletes those of the ids that are the person's; gives their number."""
        person = self.people.anyone(name)
        changes = self._change(name)
        known = [id_ for id_ in ids if person.k_of(id_) is not None]
        # Each version of an edited post goes with it.
        gone = [one for id_ in known for one in changes.versions.get(id_, (id_,))]
        changes.deleted.update(dict.fromkeys(gone, now_s))
        self._changed(name)
        return len(known)

    def edit(self, name: str, ids: list[int]) -> list[int]:
        """Edits posts of the person, each a minute after its newest version; gives the new ids."""
        person, made = self.people.anyone(name), []
        for id_ in ids:
            changes = self._change(name)
            k = person.k_of(id_)
            if k is None or self.posts.tweet_of(person, id_).versions:
                raise ValueError(f"{id_} is no post of {name} that was never edited")
            new = id_ + (60_000 << 22)
            while _taken(person, changes, new):
                new += 1 << 22
            changes.added[new] = k
            changes.added = dict(sorted(changes.added.items()))
            changes.versions |= dict.fromkeys((id_, new), (id_, new))
            made.append(new)
        self._changed(name)
        return made

    def withhold(self, name: str, ids: list[int], countries: list[str]) -> None:
        """Withholds posts of the person in these countries."""
        self._change(name).withheld |= dict.fromkeys(ids, countries)
        self._changed(name)

    def redaction(self, id_: int) -> tuple[str, float | None] | None:
        """Why a post that there was cannot be shown any more, and since when, if that is known."""
        for person in self.people.tagged(id_ & 0x3FFFFF):
            if person.changes is not None and id_ in person.changes.deleted:
                return "deleted", person.changes.deleted[id_]
            hidden = _hidden(person)
            if hidden is not None and person.k_of(id_) is not None:
                return hidden.reason, None
        return None

    def _change(self, name: str) -> Changes:
        return self.people.change(self.people.anyone(name))

    def _changed(self, name: str) -> None:
        key = self.people.anyone(name).key
        self.people.refresh(key)
        # Everybody's, since posts of others name and quote this person.
        self.posts.forget()
        self.timelines.forget(key)
        self.version += 1


def _hidden(person: MadePerson) -> Missing | None:
    return Missing(person.state) if person.state in ("absent", "suspended", "protected") else None


def _taken(person: MadePerson, changes: Changes, id_: int) -> bool:
    return id_ in changes.added or person.id_of(person.k_before(id_ + 1)) == id_


def _as_changed(person: MadePerson, post: Post) -> Post:
    """The post as it is after its edits; of an older version, as it was."""
    changes = person.changes
    if changes is None or not (post.id in changes.versions or post.id in changes.withheld):
        return post
    tweet, versions = dict(post.tweet), changes.versions.get(post.id, post.versions)
    if post.id in changes.versions:
        tweet["edit_history_tweet_ids"] = [str(version) for version in versions]
    if post.id in versions[1:]:
        tweet["text"] += " (edited)"
        tweet["created_at"] = rfc3339(ms_of_id(post.id) / 1000)
        if "note_tweet" in tweet:
            note = tweet["note_tweet"]
            tweet["note_tweet"] = note | {"text": note["text"] + " (edited)"}
    if post.id in changes.withheld:
        countries = changes.withheld[post.id]
        tweet["withheld"] = {"copyright": False, "country_codes": countries, "scope": "tweet"}
    slot = -1 if post.id in versions[1:] else post.slot
    return replace(post, tweet=tweet, versions=versions, slot=slot)


def _grown(post: Post, now_s: float) -> Post:
    """The post with the counts of its age: half of the last ones after half a day."""
    age_s = max(0.0, now_s - ms_of_id(post.id) / 1000)
    share = age_s / (age_s + HALF_GROWN_S)
    counts = {name: int(count * share) for name, count in post.tweet["public_metrics"].items()}
    return replace(post, tweet=post.tweet | {"public_metrics": counts})


def _added_and_deleted(
    person: MadePerson, above: int, below: int
) -> tuple[list[int], Container[int]]:
    """The posts between these ids that were added and are still there, oldest first.

    Also all that are shown no more: deleted ones, and older versions.
    """
    if person.changes is None:
        return [], ()
    older = {id_ for id_, versions in person.changes.versions.items() if id_ != versions[-1]}
    hidden = older | person.changes.deleted.keys()
    return [
        id_ for id_ in person.changes.added if above < id_ < below and id_ not in hidden
    ], hidden


def _own(person: Person) -> MadePerson:
    if not isinstance(person, MadePerson):
        raise TypeError(f"{person.username} is of another world")
    return person
