"""The ledger of sales: requests, posts sold by user, and the rest of each project's cap."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tweetcrawler.sandbox import problems
from tweetcrawler.sandbox.auth import Credential
from tweetcrawler.sandbox.clock import Clock
from tweetcrawler.sandbox.pages import Answer
from tweetcrawler.sandbox.posts import Post

# Dollars of pay-per-use. X charges for what is in `data`; posts that come in `includes` only were
# free wherever somebody measured it.
POST_PRICE = 0.005
USER_PRICE = 0.010
# The cap of pay-per-use, which X raised from 2,000,000 in August 2026.
NO_CAP = 3_000_000


class SlotCounts:
    """Sales of each post, two bytes a post.

    A person's posts are counted by their place in the timeline.
    """

    def __init__(self) -> None:
        self._slots: dict[str, array[int]] = {}
        self._others: dict[str, Counter[int]] = {}
        self.distinct = 0

    def add(self, post: Post) -> int:
        """Counts one sale and gives how often the post was sold before."""
        slot = post.slot
        if 0 <= slot < 65_536:
            counts = self._slots.get(post.author)
            if counts is None:
                counts = self._slots[post.author] = array("H")
            if slot >= len(counts):
                counts.extend(bytes(slot + 1 - len(counts)))
            before = counts[slot]
            counts[slot] = min(65_535, before + 1)
        else:
            others = self._others.setdefault(post.author, Counter())
            before = others[post.id]
            others[post.id] += 1
        if before == 0:
            self.distinct += 1
        return before

    def of(self, author: str) -> tuple[dict[int, int], dict[int, int]]:
        """The sales of one author: by place in the timeline, and by id.

        By id for posts that have no place.
        """
        slots = self._slots.get(author, array("H"))
        return (
            {slot: count for slot, count in enumerate(slots) if count},
            dict(self._others.get(author, {})),
        )


@dataclass(slots=True)
class Account:
    """Use of one project: its posts of this month, and its money.

    A post counts once per day and kind of endpoint.
    """

    used: int = 0
    spent_usd: float = 0.0
    by_day: Counter[str] = field(default_factory=Counter)
    day: str = ""
    seen: dict[str, SlotCounts] = field(default_factory=dict)
    seen_users: dict[str, set[int]] = field(default_factory=dict)


class Books:
    """Everything the server counts. Control calls read them; a client cannot."""

    def __init__(self, clock: Clock, cap: int | None, credits_usd: float | None) -> None:
        self._clock = clock
        self._cap = cap
        self._credits_usd = credits_usd
        self.accounts: dict[str, Account] = {}
        self.reset()

    def reset(self) -> None:
        """Begins new books; what projects have used of their caps stays."""
        self.requests: dict[str, dict[str, Counter[str]]] = {}
        self.posts = SlotCounts()
        self.posts_sold = 0
        self.posts_in_broken_answers = 0
        self.users_sold = 0
        self.users: set[int] = set()
        self.faults: Counter[str] = Counter()

    @property
    def cap(self) -> int:
        return NO_CAP if self._cap is None else self._cap

    def count_request(self, credential: str, endpoint: str, status: int | str) -> None:
        self.requests.setdefault(credential, {}).setdefault(endpoint, Counter())[str(status)] += 1

    def gate(self, credential: Credential) -> None:
        """Refuses a request of a project that has used its posts or its credits."""
        account = self.account(credential)
        # X looks before it sells: the last page may go beyond the cap.
        if account.used >= self.cap:
            raise problems.capped(credential.app)
        if self._credits_usd is not None and account.spent_usd >= self._credits_usd:
            raise problems.no_credits(credential.app)

    def sell(
        self, credential: Credential, endpoint: str, answer: Answer, *, broken: bool = False
    ) -> None:
        """Records a 200. The project is charged for each post once per UTC day and endpoint."""
        account = self.account(credential)
        charged_posts = 0
        if answer.posts:
            # A post that is read again on the same UTC day is charged once, but for each kind of
            # endpoint.
            today = account.seen.get(endpoint)
            if today is None:
                today = account.seen[endpoint] = SlotCounts()
            for post in answer.posts:
                self.posts.add(post)
                if today.add(post) == 0:
                    charged_posts += 1
            self.posts_sold += len(answer.posts)
            if broken:
                self.posts_in_broken_answers += len(answer.posts)
            account.used += charged_posts
            account.by_day[account.day] += charged_posts
        charged_users = 0
        if answer.users:
            known = account.seen_users.setdefault(endpoint, set())
            charged_users = len(set(answer.users) - known)
            known.update(answer.users)
            self.users_sold += len(answer.users)
            self.users.update(answer.users)
        account.spent_usd += (
            charged_posts * POST_PRICE + charged_users * USER_PRICE + answer.requests_price
        )

    def account(self, credential: Credential) -> Account:
        account = self.accounts.setdefault(credential.project, Account())
        today = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%d")
        if account.day != today:
            # X turns the cap on a day of the month that the account has; here it is the first.
            if account.day[:7] != today[:7]:
                account.used = 0
            account.day = today
            account.seen = {}
            account.seen_users = {}
        return account

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": {
                name: {endpoint: dict(counts) for endpoint, counts in endpoints.items()}
                for name, endpoints in self.requests.items()
            },
            "posts_sold": self.posts_sold,
            "posts_distinct": self.posts.distinct,
            "posts_in_broken_answers": self.posts_in_broken_answers,
            "users_sold": self.users_sold,
            "users_distinct": len(self.users),
            "faults": dict(self.faults),
            "projects": {
                name: {"posts_charged": account.used, "spent_usd": round(account.spent_usd, 6)}
                for name, account in self.accounts.items()
            },
        }
