"""Who follows whom: lists of followers, and of those whom somebody follows.

Lists of millions follow from the seed alone. Only what was done to one while the server runs
is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tweetcrawler.sandbox.people import MadePerson, Person
    from tweetcrawler.sandbox.world import MadePeople

# Places of those who were added lie before the places of all others, the newest first, so
# that a token goes on where it was whatever was done to the list.
ADDED_MOST = 2**20


@dataclass(slots=True)
class Network:
    """What was done to one list.

    `size` takes the place of the number that follows from the seed. `unlisted` are counted by
    X and not shown. `repeats` begins each page with the last entries of the one before. Tokens
    are refused after `token_s`, which counts from the page that gave them.
    """

    size: int | None = None
    added: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    unlisted: int = 0
    repeats: int = 0
    token_s: float | None = None
    given_at: dict[str, float] = field(default_factory=dict)

    @property
    def more(self) -> int:
        """What X counts beside those who were there at first; may be negative."""
        return len(self.added) - len(self.gone) + self.unlisted

    def count(self, made: int) -> int:
        """The number that X counts, of one that follows from the seed."""
        return (made if self.size is None else self.size) + self.more

    def add(self, key: str) -> None:
        """Puts somebody at the top of the list."""
        self.gone.discard(key)
        if key not in self.added:
            self.added.append(key)

    def drop(self, key: str) -> None:
        """Takes somebody out of the list."""
        if key in self.added:
            self.added.remove(key)
        else:
            self.gone.add(key)


@dataclass(frozen=True)
class Listed:
    """A page of a list; `following` is the place of the next page, None at the end."""

    people: Sequence[Person]
    following: int | None


class Networks(Protocol):
    """Who follows whom."""

    def network(self, person: Person, is_following: bool) -> Network: ...
    def listed(self, person: Person, is_following: bool, start: int, count: int) -> Listed: ...


class MadeNetworks:
    """Networks of made people."""

    def __init__(self, people: MadePeople) -> None:
        self._people = people

    def network(self, person: Person, is_following: bool) -> Network:
        """What was done to a list."""
        changes = self._people.person(person.key).changes
        return (changes and changes.networks.get(is_following)) or Network()

    def to_change(self, person: Person, is_following: bool) -> Network:
        """What was done to a list, to do more."""
        changes = self._people.change(self._people.person(person.key))
        return changes.networks.setdefault(is_following, Network())

    def listed(self, person: Person, is_following: bool, start: int, count: int) -> Listed:
        """Some of a list from a place on, the newest first; from its beginning for 0."""
        made, network = self._people.person(person.key), self.network(person, is_following)
        entries = self._entries(made, is_following, network, start)
        found = list(islice(entries, count + 1))
        people = [self._people.person(key) for _, key in found[:count]]
        return Listed(people, found[count][0] if len(found) > count else None)

    def _entries(
        self, person: MadePerson, is_following: bool, network: Network, start: int
    ) -> Iterator[tuple[int, str]]:
        """Places and keys from a place on."""
        first = ADDED_MOST - len(network.added)
        for place in range(max(first, start), ADDED_MOST):
            yield place, network.added[ADDED_MOST - 1 - place]
        metrics = self._people.profile(person)["public_metrics"]
        counted: int = metrics["following_count" if is_following else "followers_count"]
        for number in range(max(0, start - ADDED_MOST), counted - network.more):
            key = _key(person, number, is_following)
            if key not in network.gone:
                yield ADDED_MOST + number, key


def _key(person: MadePerson, number: int, is_following: bool) -> str:
    """The number-th of a list, newest first; nobody comes twice."""
    offset = person.salt + (7 if is_following else 0)
    # The sequence repeats after nine million, four times as many as the most followed have.
    sign = (number * 1_103_515_245 + offset) % 36**6
    letters = ""
    for _ in range(6):
        sign, letter = divmod(sign, 36)
        letters += "0123456789abcdefghijklmnopqrstuvwxyz"[letter]
    return ("pal_" if is_following else "fan_") + letters
