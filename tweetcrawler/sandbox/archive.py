"""All posts of the people that the server knows of, newest first.

Searches, counts, mentions and trends look at it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import merge

from tweetcrawler.sandbox.clock import lowest_id
from tweetcrawler.sandbox.people import Person
from tweetcrawler.sandbox.query import Doc, Query, doc_of
from tweetcrawler.sandbox.world import Recent, World

PATIENCE = 10_000
"""Number of posts that are looked at for one page; then it ends as it is, with a token."""
COUNTED, SAMPLED = 1_000, 60
"""Up to the first number of posts every one is looked at for a month of counts, else a sample."""


class Archive:
    def __init__(self, world: World) -> None:
        self._world = world
        self._docs: Recent[int, Doc] = Recent(60_000)
        self._version = world.version

    def search(
        self, query: Query, above: int, below: int
    ) -> Iterator[tuple[int, Person, Doc | None]]:
        """Each post between the ids, newest first, with its Doc when it matches, else None."""
        if self._version != self._world.version:
            self._docs.forget()
            self._version = self._world.version
        for id_, person in self._between(self._authors(query), above, below):
            doc = self._docs.get(id_) or self._docs.put(id_, self._doc(person, id_))
            yield id_, person, doc if query.matches(doc) else None

    def counted(
        self, query: Query, above: int, below: int, *, estimate: bool
    ) -> Iterator[tuple[int, int]]:
        """Posts that match, newest first, each with the number of posts that it stands for.

        `estimate` takes a sample of many: to write a month of posts takes seconds. X's counts
        are estimates, too: they hold posts that search does not give.
        """
        found = list(self._between(self._authors(query), above, below))
        step = 1 if not estimate or len(found) <= COUNTED else len(found) // SAMPLED
        for id_, person in found[step // 2 :: step]:
            if query.matches(self._docs.get(id_) or self._docs.put(id_, self._doc(person, id_))):
                yield id_, step

    def tags(self, since_ms: int) -> Counter[str]:
        """Number of uses of each hashtag since then, spelled as first seen."""
        counts: Counter[str] = Counter()
        spelled: dict[str, str] = {}
        for id_, person in self._between(self._world.people.known(), lowest_id(since_ms), 2**63):
            tweet = self._world.posts.tweet_of(person, id_).tweet
            for tag in tweet.get("entities", {}).get("hashtags", ()):
                counts[spelled.setdefault(tag["tag"].casefold(), tag["tag"])] += 1
        return counts

    def _doc(self, person: Person, id_: int) -> Doc:
        world = self._world
        return doc_of(world.posts.tweet_of(person, id_), person, world.people.profile(person))

    def _authors(self, query: Query) -> list[Person]:
        people = self._world.people
        if query.authors is None:
            return people.known()
        return [person for person in map(people.named, sorted(query.authors)) if person is not None]

    def _between(
        self, people: list[Person], above: int, below: int
    ) -> Iterator[tuple[int, Person]]:
        return merge(
            *(
                self._timeline(person, above, below)
                for person in people
                if person.state == "normal"
            ),
            key=lambda found: -found[0],
        )

    def _timeline(self, person: Person, above: int, below: int) -> Iterator[tuple[int, Person]]:
        for id_ in self._world.timelines.newest_first(person, above, below):
            yield id_, person
