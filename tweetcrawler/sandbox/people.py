"""People of the made world: each follows from the seed and the handle alone.

An id of X's size holds a handle of up to twelve signs, so that an id found in somebody's
database is understood by a server that never heard the handle. Longer handles are known
once they were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Any

from tweetcrawler.sandbox import wording
from tweetcrawler.sandbox.clock import SNOWFLAKE_EPOCH_MS, rfc3339
from tweetcrawler.sandbox.dice import Dice, mix, stamp

DAY_MS = 86_400_000
WORLD_BEGAN_MS = 1_293_840_000_000
"""1 January 2011: nobody posts earlier, so that every id is beyond 2^53."""
PEOPLE_DATED_MS = 1_767_225_600_000
"""1 January 2026: histories reach back from here, so that an account is as old tomorrow as
it was today.
"""

_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz_"
_BASE = len(_SIGNS)
# There are 6.8 · 10^18 handles of up to twelve signs, and a bigint ends at 9.2 · 10^18: a
# thirteenth sign would not fit.
_LONGEST = 12
_SHORT_NAMES = sum(_BASE**length for length in range(1, _LONGEST + 1))
# Beyond 2^53, so that a client that reads ids as floats mixes up people and is found out.
_FIRST_ID = 10**18
_LONG_NAMES_FROM = _FIRST_ID + _SHORT_NAMES
_LONG_NAMES = 2**63 - 1 - _LONG_NAMES_FROM

STATES = ("normal", "absent", "suspended", "protected", "locked")
_STATE_OF_PREFIX = {
    "gone_": "absent",
    "suspended_": "suspended",
    "protected_": "protected",
    "locked_": "locked",
}


@dataclass(slots=True)
class Person:
    """Somebody on X, whether made up or recorded. `key` is what the world knows the person by."""

    key: str
    id: int
    username: str
    state: str = "normal"


@dataclass(slots=True)
class MadePerson(Person):
    """A made-up person, whose posts lie one in each `gap_ms`.

    Posts are counted by `k`; those from first_k to last_k are shown.
    """

    salt: int = 0
    tag: int = 0
    gap_ms: int = DAY_MS
    first_k: int = 0
    last_k: int = -1
    public: bool = False
    changes: Changes | None = None

    @property
    def count(self) -> int:
        made = self.last_k - self.first_k + 1
        return (
            made
            if self.changes is None
            else made
            + len(self.changes.added)
            # An edited post is one, however many versions it has.
            - len(self.changes.deleted.keys() | self.changes.versions.keys())
            + sum(
                versions[-1] not in self.changes.deleted
                for versions in set(self.changes.versions.values())
            )
        )

    def ms_of(self, k: int) -> int:
        # One post somewhere in each gap: the times look uneven, and any post is still found by
        # a division.
        return k * self.gap_ms + mix(k, self.salt) % self.gap_ms

    def id_of(self, k: int) -> int:
        return (self.ms_of(k) - SNOWFLAKE_EPOCH_MS) << 22 | self.tag

    def k_before(self, id_: int) -> int:
        """The newest k whose post is older than `id_`."""
        k = ((id_ >> 22) + SNOWFLAKE_EPOCH_MS) // self.gap_ms
        return k if self.id_of(k) < id_ else k - 1

    def k_of(self, id_: int) -> int | None:
        """The k of the post with this id; None when there is none, or it was deleted."""
        if self.changes is not None:
            if id_ in self.changes.deleted:
                return None
            if id_ in self.changes.added:
                return self.changes.added[id_]
        k = self.k_before(id_ + 1)
        return k if self.first_k <= k <= self.last_k and self.id_of(k) == id_ else None


@dataclass(slots=True)
class Changes:
    """Changes to a person while the server runs.

    Posts that were added are counted from -1 down.
    """

    state: str | None = None
    username: str | None = None
    added: dict[int, int] = field(default_factory=dict)
    """id to k, oldest first"""
    deleted: dict[int, float] = field(default_factory=dict)
    """id to the time"""
    versions: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """the id of each version of an edited post to all of them, the oldest first"""
    withheld: dict[int, list[str]] = field(default_factory=dict)
    """id to countries"""


class Census:
    """Makes people; knows which id is whose."""

    def __init__(self, seed: str, newest_ms: int, posts: tuple[int, int] | None) -> None:
        self._seed = seed
        self._newest_ms = newest_ms
        self._posts = posts
        # Multiplication by a number that is coprime to the modulus permutes: ids look drawn by
        # lot, and each can be turned back into its handle.
        self._step = _coprime(stamp(seed, "step"), _SHORT_NAMES)
        self._back = pow(self._step, -1, _SHORT_NAMES)
        self._shift = stamp(seed, "shift") % _SHORT_NAMES
        self._long_names: dict[int, str] = {}
        self.public_names = _public_names(seed)
        self._public = frozenset(self.public_names)

    def id_of(self, key: str) -> int:
        """The id of the handle `key` (folded)."""
        if len(key) <= _LONGEST:
            short: int = _FIRST_ID + (_number_of(key) * self._step + self._shift) % _SHORT_NAMES
            return short
        id_: int = _LONG_NAMES_FROM + stamp(self._seed, "long", key) % _LONG_NAMES
        self._long_names[id_] = key
        return id_

    def key_of(self, id_: int) -> str | None:
        """The folded handle whose id this is, or None when it is nobody's."""
        if _FIRST_ID <= id_ < _LONG_NAMES_FROM:
            return _name_of((id_ - _FIRST_ID - self._shift) * self._back % _SHORT_NAMES)
        return self._long_names.get(id_)

    def make(self, key: str) -> MadePerson:
        salt = stamp(self._seed, "person", key)
        dice = Dice(b"person %d" % salt)
        public = key in self._public
        state = next(
            (state for prefix, state in _STATE_OF_PREFIX.items() if key.startswith(prefix)),
            "normal",
        )
        person = MadePerson(
            key=key,
            id=self.id_of(key),
            username=_spelled(key, dice),
            state=state,
            salt=salt,
            # The 22 bits below the milliseconds of an id. All posts of a person have the same,
            # so that the id of a post tells its author.
            tag=salt >> 7 & 0x3FFFFF,
            public=public,
        )
        if public:
            person.gap_ms = 3_600_000 + dice.below(40) * 1_080_000
            person.first_k = WORLD_BEGAN_MS // person.gap_ms + 1
            count = None
        else:
            count = self._count_of(dice)
            days = 20 + dice.heavy(400, 4_800)
            person.gap_ms = max(60_000, days * DAY_MS // max(count, 3))
        person.last_k = self._newest_ms // person.gap_ms
        if person.ms_of(person.last_k) > self._newest_ms:
            person.last_k -= 1
        if count is not None:
            person.first_k = max(person.last_k - count + 1, WORLD_BEGAN_MS // person.gap_ms + 1)
        return person

    def _count_of(self, dice: Dice) -> int:
        share = dice.below(1000)
        if self._posts is not None:
            least, most = self._posts
            return least + mix(dice.wide(), 1) % (most - least + 1)
        if share < 40:
            return 0
        # More than the 3,200 posts that X shows: only these people meet the limit of depth.
        if share >= 988:
            return 3_201 + dice.below(700)
        if share >= 960:
            return 600 + dice.below(2_000)
        return 1 + min(599, dice.heavy(110, 2_000) % 600)


def profile(person: MadePerson) -> dict[str, Any]:
    """The whole user object as X knows it; it does not change while the person does not."""
    dice = Dice(b"profile %d" % person.salt)
    first = dice.pick(wording.FIRST_NAMES)
    name = f"{first} {dice.pick(wording.LAST_NAMES)}"
    if dice.chance(200):
        name = f"{name} {dice.pick(wording.EMOJI)}"
    followers = dice.heavy(300, 2_000_000)
    history_ms = person.gap_ms * max(1, person.last_k - person.first_k + 1)
    born_ms = (
        WORLD_BEGAN_MS
        if person.public
        else max(
            WORLD_BEGAN_MS, PEOPLE_DATED_MS - history_ms - dice.below(900) * DAY_MS - 30 * DAY_MS
        )
    )
    user: dict[str, Any] = {
        "id": str(person.id),
        "name": name,
        "username": person.username,
        "created_at": rfc3339(born_ms / 1000 + dice.below(65536)),
        "protected": person.state == "protected",
        "verified": False,
        "verified_type": "none",
        "verified_followers_count": followers // 60,
        # X writes the word, not null.
        "subscription_type": "None",
        "receives_your_dm": dice.chance(300),
        "parody": False,
        "is_identity_verified": dice.chance(30),
        "connection_status": [],
        "public_metrics": {
            "followers_count": followers,
            "following_count": dice.heavy(250, 5_000),
            "tweet_count": person.count,
            "listed_count": followers // 90,
            "like_count": dice.heavy(900, 400_000),
            "media_count": person.count // 7,
        },
        "profile_image_url": (
            f"https://pbs.twimg.com/profile_images/{person.id}/{dice.wide():x}_normal.jpg"
        ),
    }
    _describe(user, dice)
    if dice.chance(120):
        user |= {"verified": True, "verified_type": "blue", "subscription_type": "Premium"}
    if dice.chance(20):
        user |= {"verified": True, "verified_type": "business"}
        user["affiliation"] = {
            "badge_url": f"https://pbs.twimg.com/profile_images/{person.id}/badge_bigger.png",
            "description": "Acme & Sons",
            "url": "https://twitter.com/acme_sons",
            "user_id": [str(person.id)],
        }
    if dice.chance(400):
        user["profile_banner_url"] = f"https://pbs.twimg.com/profile_banners/{person.id}/1600000000"
    if dice.chance(10):
        user["withheld"] = {"country_codes": ["DE", "TR"], "scope": "user"}
    if person.last_k >= person.first_k:
        _name_posts(user, person, dice)
    if person.state == "locked":
        # X shows such an account, but nothing of what its owner wrote.
        user |= {
            "name": "",
            "description": wording.WITHHELD_TEXT,
            "profile_image_url": "",
            "location": "",
        }
        user.pop("entities", None)
    return user


def _name_posts(user: dict[str, Any], person: MadePerson, dice: Dice) -> None:
    user["most_recent_tweet_id"] = str(person.id_of(person.last_k))
    if dice.chance(300):
        back = dice.below(min(300, person.last_k - person.first_k + 1))
        user["pinned_tweet_id"] = str(person.id_of(person.last_k - back))
    elif dice.chance(30):
        # A pinned post may be gone: X names its id still, and the expansion of it is an error.
        user["pinned_tweet_id"] = str(person.id_of(person.first_k) + 4096)


def _describe(user: dict[str, Any], dice: Dice) -> None:
    text = dice.pick(wording.DESCRIPTIONS)
    entities: dict[str, Any] = {}
    if dice.chance(250):
        tag = dice.pick(wording.TAGS)
        start = len(text) + 1 if text else 0
        text = f"{text} #{tag}" if text else f"#{tag}"
        entities["description"] = {"hashtags": [{"start": start, "end": len(text), "tag": tag}]}
    if dice.chance(350):
        short = f"https://t.co/{dice.wide() % 36**9:010x}"
        user["url"] = short
        entities["url"] = {
            "urls": [
                {
                    "start": 0,
                    "end": len(short),
                    "url": short,
                    "expanded_url": "https://example.org/about",
                    "display_url": "example.org/about",
                }
            ]
        }
    else:
        user["url"] = ""
    user["description"] = text
    place = dice.pick(wording.LOCATIONS)
    if place:
        user["location"] = place
    if entities:
        user["entities"] = entities


def _public_names(seed: str) -> tuple[str, ...]:
    """Two hundred handles of people who post several times per day and are often quoted."""
    dice = Dice(f"{seed} public".encode())
    names: dict[str, None] = {}
    while len(names) < 200:
        names[
            (
                dice.pick(wording.FIRST_NAMES)
                + dice.pick(wording.TRADES)
                + str(dice.below(90) + 10)
            ).lower()[:12]
        ] = None
    return tuple(names)


def _spelled(key: str, dice: Dice) -> str:
    """The handle with the capitals that X shows, whatever it was asked with."""
    return key.title() if dice.chance(250) else key


def _number_of(key: str) -> int:
    number = 0
    for sign in key:
        number = number * _BASE + _SIGNS.index(sign) + 1
    return number - 1


def _name_of(number: int) -> str:
    signs: list[str] = []
    number += 1
    while number:
        number, sign = divmod(number - 1, _BASE)
        signs.append(_SIGNS[sign])
    return "".join(reversed(signs))


def _coprime(number: int, modulus: int) -> int:
    number = number % modulus | 1
    while gcd(number, modulus) != 1:
        number += 2
    return number
