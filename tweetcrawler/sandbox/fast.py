"""Pages made beforehand, for benchmarks of clients.

Each user has a post every second, back to 2011 or up to a number of posts.

Only ids, times and the author are new in each page; texts repeat. What a client asks
(fields, ids, tokens, windows, bills) works as in the ordinary world, for timelines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter

import orjson

from tweetcrawler.sandbox.clock import lowest_id, ms_of_id
from tweetcrawler.sandbox.fields import Asked
from tweetcrawler.sandbox.pages import Answer, of_tweets
from tweetcrawler.sandbox.people import WORLD_BEGAN_MS, MadePerson
from tweetcrawler.sandbox.posts import Post
from tweetcrawler.sandbox.tokens import TIMELINE, page_token
from tweetcrawler.sandbox.world import MadeWorld

_MODELS = 8
_SLOT = re.compile(rb"@@([ITAN])([0-9]*)@@")


@dataclass(frozen=True)
class _Model:
    """A page without the parts that differ.

    Its texts, and the choice of texts and fillings that makes it whole.
    """

    texts: tuple[bytes, ...]
    choose: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]


class FastPages:
    """Fills prepared pages with fresh ids."""

    def __init__(self, world: MadeWorld, newest_ms: int, posts: int | None = None) -> None:
        self._world = world
        self._newest_ms = newest_ms // 1000 * 1000
        self._oldest_ms = WORLD_BEGAN_MS if posts is None else self._newest_ms - 1000 * (posts - 1)
        self._prepared: dict[tuple[Asked, int], list[_Model]] = {}

    def timeline(
        self, person: MadePerson, asked: Asked, count: int, above: int, below: int
    ) -> Answer:
        """The page of `count` posts below one id and above another, newest first."""
        first_ms = (
            min(self._newest_ms, (ms_of_id(below) - 1) // 1000 * 1000)
            if below < 2**62
            else self._newest_ms
        )
        if lowest_id(first_ms) | person.tag >= below:
            first_ms -= 1000
        oldest_ms = max(self._oldest_ms, ms_of_id(above) + 1)
        times = range(first_ms, max(oldest_ms - 1, first_ms - count * 1000), -1000)
        ids = [lowest_id(ms) | person.tag for ms in times]
        ids = [id_ for id_ in ids if id_ > above]
        if not ids:
            return Answer({"meta": {"result_count": 0}})
        newest_ms = self._newest_ms
        posts = [
            Post(id=id_, author=person.key, tweet={}, slot=(newest_ms - ms) // 1000)
            for id_, ms in zip(ids, times, strict=False)
        ]
        meta = {"newest_id": str(ids[0]), "oldest_id": str(ids[-1]), "result_count": len(ids)}
        if len(ids) == count:
            meta["next_token"] = page_token(TIMELINE, str(person.id), ids[-1])
        models = self._models(asked, len(ids))
        body = self._filled(models[ids[0] // 7 % len(models)], person, ids)
        return Answer({}, posts=posts, raw=body[:-1] + b',"meta":' + orjson.dumps(meta) + b"}")

    def id_in_slot(self, person: MadePerson, slot: int) -> int:
        """The id of the post this many places below the person's newest."""
        return lowest_id(self._newest_ms - slot * 1000) | person.tag

    @staticmethod
    def _filled(model: _Model, person: MadePerson, ids: list[int]) -> bytes:
        own = (str(person.id).encode(), person.username.encode())
        return b"".join(
            model.choose(
                (*model.texts, *own, *(b"%d" % id_ for id_ in ids), *map(_created_at, ids))
            )
        )

    def _models(self, asked: Asked, count: int) -> list[_Model]:
        key = (asked, count)
        if key not in self._prepared:
            # A client asks for a few sets of fields and sizes; the bound is for one that tries
            # all.
            if len(self._prepared) > 64:
                self._prepared.clear()
            self._prepared[key] = [self._model(asked, number, count) for number in range(_MODELS)]
        return self._prepared[key]

    def _model(self, asked: Asked, number: int, count: int) -> _Model:
        author = self._world.people.person(f"model_{number}")
        tweets, posts = [], []
        for place in range(count):
            k = author.last_k - place
            post = self._world.posts.written(author, k)
            cut = orjson.dumps(asked.cut_tweet(post.tweet))
            cut = cut.replace(str(post.id).encode(), b"@@I%d@@" % place)
            cut = cut.replace(post.tweet["created_at"].encode(), b"@@T%d@@" % place)
            tweets.append(cut)
            posts.append(post)
        rest = of_tweets(self._world, posts, asked)
        del rest["data"]
        body = (
            b'{"data":['
            + b",".join(tweets)
            + b"]"
            + (b"," + orjson.dumps(rest)[1:] if rest else b"}")
        )
        body = body.replace(str(author.id).encode(), b"@@A@@")
        # With its key, since the bare name may stand in a text.
        body = body.replace(b'"username":"%s"' % author.username.encode(), b'"username":"@@N@@"')
        return _model_of(body, count)


def _model_of(body: bytes, count: int) -> _Model:
    """The model of a body in which `_SLOT` marks the places to fill."""
    text, *rest = _SLOT.split(body)
    texts = [text, *rest[2::3]]
    # Behind the texts come the author's id and name, then the ids of the posts, then their
    # times.
    first = {
        b"A": len(texts),
        b"N": len(texts) + 1,
        b"I": len(texts) + 2,
        b"T": len(texts) + 2 + count,
    }
    order = [0]
    for at, (kind, number) in enumerate(zip(rest[::3], rest[1::3], strict=True), start=1):
        order += [first[kind] + int(number or 0), at]
    return _Model(tuple(texts), itemgetter(*order))


def _created_at(id_: int) -> bytes:
    minute, second = divmod(ms_of_id(id_) // 1000, 60)
    return b"%s:%02d.000Z" % (_minute(minute), second)


@lru_cache(1024)
def _minute(minute: int) -> bytes:
    return datetime.fromtimestamp(minute * 60, UTC).isoformat()[:16].encode()
