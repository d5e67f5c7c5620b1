"""Users that pages name, and the names that rows lack, gathered until they are saved."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from tweetcrawler.flatten import Told, Waiting, stored
from tweetcrawler.ids import ID_MAX


class Heard:
    """Users by id with the newest name that was told of each, and the names that rows lack."""

    def __init__(self) -> None:
        self._users: dict[str, tuple[float, Any, Any]] = {}  # seen at, handle, name
        self._waiting: set[Waiting] = set()

    def __len__(self) -> int:
        return len(self._users) + len(self._waiting)

    def add(self, told: Told) -> None:
        """Adds the names of a page."""
        self._waiting.update(told.waiting)
        for key, user in told.users.items():
            known = self._users.get(key)
            if known is None or known[0] <= told.seen_at:
                new = told.seen_at, user.get("username"), user.get("name")
                # Of two names of one moment any will do, but always the same.
                if known is None or known[0] < new[0] or str(known) < str(new):
                    self._users[key] = new

    def waits(self, tweet_id: int, part: str, user_id: int) -> None:
        """Adds a row that lacks a name."""
        self._waiting.add(Waiting(tweet_id, part, user_id))

    def clear(self) -> None:
        """Forgets both, once they are saved."""
        self._users.clear()
        self._waiting.clear()

    def as_parameters(self) -> dict[str, list[Any]]:
        """Both for the statements: names as objects, ids as lists, all sorted, so that two writers
        never wait for each other in a ring.
        """
        names = [
            {"user_id": int(key), "handle": stored(handle), "name": _text(name), "seen_at": seen_at}
            for key, (seen_at, handle, name) in self._users.items()
            if _is_id(key) and isinstance(handle, str) and handle
        ]
        names.sort(key=itemgetter("user_id"))
        waiting = sorted(self._waiting)
        return {
            "names": names,
            "users": [name["user_id"] for name in names],
            "posts": [one.tweet_id for one in waiting],
            "parts": [one.part for one in waiting],
            "lacking": [one.user_id for one in waiting],
        }


def _text(name: Any) -> str:
    return stored(name) or "" if isinstance(name, str) else ""


def _is_id(key: str) -> bool:
    return len(key) <= 19 and key.isdecimal() and str(int(key)) == key and 0 < int(key) <= ID_MAX
