"""The calls under /sandbox/, which a test or a demo sets and reads.

No key is needed and nothing is billed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from tweetcrawler.sandbox.archive import Archive
from tweetcrawler.sandbox.auth import Keys
from tweetcrawler.sandbox.billing import Books
from tweetcrawler.sandbox.clock import Clock
from tweetcrawler.sandbox.compliance import Jobs
from tweetcrawler.sandbox.fast import FastPages
from tweetcrawler.sandbox.faults import Faults
from tweetcrawler.sandbox.fields import everything
from tweetcrawler.sandbox.limits import ENDPOINTS, Limit, Limits
from tweetcrawler.sandbox.pages import of_tweets
from tweetcrawler.sandbox.people import STATES, MadePerson, Person
from tweetcrawler.sandbox.query import parse
from tweetcrawler.sandbox.recorded import RecordedWorld
from tweetcrawler.sandbox.streams import Streams
from tweetcrawler.sandbox.world import MadeWorld

Json = dict[str, Any]
NO_ID = 2**63


class NotThere(ValueError):
    """The call or what it names does not exist."""


@dataclass(slots=True)
class Control:
    world: MadeWorld | RecordedWorld
    books: Books
    limits: Limits
    keys: Keys
    faults: Faults
    clock: Clock
    jobs: Jobs
    fast: FastPages | None = None
    archive: Archive | None = None
    streams: Streams | None = None

    def answer(self, method: str, path: str, query: dict[str, str], sent: Json) -> bytes | Json:
        """The answer to a control call.

        NotThere for an unknown one, ValueError for one that makes no sense.
        """
        parts = path.strip("/").split("/")[1:]
        match (method, *parts):
            case ("GET", "books"):
                return self.books.as_json() | {
                    "closed_window_requests": self.limits.closed_window_requests,
                    "windows": self.limits.listed(),
                    "past_windows": self.limits.past(),
                }
            case ("GET", "books", "posts"):
                return self._sales(query["username"])
            case ("POST", "books", "reset"):
                self.books.reset()
                self.limits.closed_window_requests = 0
                self.limits.forget_past()
                return {}
            case ("GET", "truth", name):
                return b"".join(self._truth(self._person(name)))
            case ("GET", "truth", name, "ids"):
                return self._ids(self._person(name))
            case ("GET", "search"):
                return {"ids": [str(id_) for id_ in self._matching(query)]}
            case ("GET", "handles"):
                return {"handles": self.world.people.handles()}
            case ("POST", "world"):
                return self._change(sent)
            case ("GET", "credentials"):
                return {
                    "credentials": [
                        {
                            "name": one.name,
                            "app": one.app,
                            "project": one.project,
                            "revoked": one.revoked,
                        }
                        for one in self.keys.all
                    ]
                }
            case ("POST", "credentials"):
                return self._change_credential(sent)
            case ("GET", "compliance"):
                return {"jobs": self.jobs.all()}
            case ("POST", "compliance"):
                self.jobs.takes_s = float(sent["takes_s"])
                return {}
            case ("GET", "faults"):
                return {"faults": self.faults.listed()}
            case ("POST", "faults"):
                return self._fault(sent)
            case ("DELETE", "faults"):
                self.faults.clear()
                return {}
            case ("GET", "stream"):
                return self._streams().as_json()
            case ("POST", "stream"):
                return self._set_stream(sent)
            case ("GET", "clock"):
                return {"now": self.clock.now(), "skew_s": self.clock.skew_s}
            case ("POST", "clock"):
                return self._set_clock(sent)
        raise NotThere(f"there is no {method} /sandbox/{'/'.join(parts)}")

    # -- reading ------------------------------------------------------------

    def _person(self, name: str) -> Person:
        return self.world.people.anyone(name)

    def _reachable(self, person: Person) -> Iterator[int]:
        if person.state in ("absent", "suspended", "protected", "locked"):
            return iter(())
        timelines = self.world.timelines
        return timelines.newest_first(person, timelines.depth_floor(person) - 1, NO_ID)

    def _truth(self, person: Person) -> Iterator[bytes]:
        asked = everything()
        for id_ in self._reachable(person):
            body = of_tweets(self.world, [self.world.posts.tweet_of(person, id_)], asked)
            line = {"tweet": body["data"][0], "includes": body.get("includes", {})}
            yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _ids(self, person: Person) -> Json:
        newest_first = self.world.timelines.newest_first(person, 0, NO_ID)
        return {
            "ids": [str(id_) for id_ in islice(newest_first, 100_000)],
            "reachable": [str(id_) for id_ in self._reachable(person)],
            "user": self.world.people.profile(person),
            "state": person.state,
        }

    def _matching(self, query: dict[str, str]) -> Iterator[int]:
        """Every post that matches a query, newest first, between the ids `above` and `below`."""
        if self.archive is not None:
            bounds = int(query.get("above", 0)), int(query.get("below", NO_ID))
            for id_, _, doc in self.archive.search(parse(query["query"]), *bounds):
                if doc is not None:
                    yield id_

    def _sales(self, name: str) -> Json:
        person = self._person(name)
        by_slot, by_id = self.books.posts.of(person.key)
        sales = {str(id_): count for id_, count in by_id.items()}
        for slot, count in by_slot.items():
            id_ = (
                self.fast.id_in_slot(person, slot)
                if self.fast is not None and isinstance(person, MadePerson)
                else self.world.timelines.id_in_slot(person, slot)
            )
            sales[str(id_)] = count
        return sales

    # -- setting ------------------------------------------------------------

    def _change(self, sent: Json) -> Json:
        world = self.world
        if not isinstance(world, MadeWorld):
            # The caller's request is at fault, not a type.
            raise ValueError("a recorded world cannot be changed")  # noqa: TRY004
        name = str(sent["user"])
        answer: Json = {}
        if "state" in sent:
            if sent["state"] not in STATES:
                raise ValueError(f"a state is one of {', '.join(STATES)}")
            world.set_state(name, sent["state"])
        if "add_posts" in sent:
            now_ms = int((self.clock.now() - float(sent.get("age_s", 0))) * 1000)
            added = world.add_posts(name, int(sent["add_posts"]), now_ms)
            answer["added"] = [str(id_) for id_ in added]
            self._streams().offer(name, added)
        if "delete" in sent:
            ids = [int(id_) for id_ in sent["delete"]]
            answer["deleted"] = world.delete(name, ids, self.clock.now())
        if "edit" in sent:
            edited = world.edit(name, [int(id_) for id_ in sent["edit"]])
            answer["edited"] = [str(id_) for id_ in edited]
        if "withhold" in sent:
            world.withhold(name, [int(id_) for id_ in sent["withhold"]], sent["countries"])
        if "rename_to" in sent:
            world.rename(name, str(sent["rename_to"]))
        return answer

    def _streams(self) -> Streams:
        if self.streams is None:
            raise NotThere("there is no stream here")
        return self.streams

    def _set_stream(self, sent: Json) -> Json:
        streams, world = self._streams(), self.world
        if "buffer" in sent:
            streams.buffer = int(sent["buffer"])
        if "rate" in sent:
            if not isinstance(world, MadeWorld):
                raise ValueError("nobody writes in a recorded world")
            # At this moment, since a line tells what is written now.
            write = lambda name: world.add_posts(name, 1, int(self.clock.now() * 1000))  # noqa: E731
            streams.talk(float(sent["rate"]), write)
        ended = streams.end_all(str(sent["end"])) if "end" in sent else 0
        return {"ended": ended}

    def _change_credential(self, sent: Json) -> Json:
        credential = self.keys.named(str(sent["name"]))
        if credential is None:
            raise NotThere(f"there is no credential {sent['name']}")
        if "revoked" in sent:
            credential.revoked = bool(sent["revoked"])
        if sent.get("regenerate"):
            self.keys.regenerate(credential)
        for endpoint, numbers in sent.get("limit", {}).items():
            if endpoint not in ENDPOINTS:
                raise ValueError(f"{endpoint} is not one of {', '.join(ENDPOINTS)}")
            self.limits.of_credential[credential.name, endpoint] = Limit(*numbers)
        return {}

    def _set_clock(self, sent: Json) -> Json:
        if sent.get("stop"):
            self.clock.stop()
        self.clock.let_pass(float(sent.get("pass_s", 0)))
        if "skew_s" in sent:
            before_s, self.clock.skew_s = self.clock.skew_s, float(sent["skew_s"])
            if sent.get("move_windows"):
                self.limits.move_resets(self.clock.skew_s - before_s)
        return {"now": self.clock.now(), "skew_s": self.clock.skew_s}

    def _fault(self, sent: Json) -> Json:
        if sent.get("fault") == "clock-skew":
            self.clock.skew_s = float(sent["skew_s"])
            return {}
        self.faults.add(sent)
        return {"faults": self.faults.listed()}
