"""Leases of targets for one worker: claimed by the chunk, renewed before each request."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tweetcrawler.errors import LeaseLost, RowsWait
from tweetcrawler.news import Noted, Outcome, PageRead
from tweetcrawler.pages import NoNews, Saved
from tweetcrawler.run import ClaimsTogether, Job, Session
from tweetcrawler.targets import FAILED, LEASE_S, Claim, Target

# Walks without news are noted together, and no later than this.
NOTE_S = 1.0


class ChunkLeases:
    """Leases of a chunk of targets: one claim on all of them, and one note of the walks
    without news.

    `session` serves what concerns the process more than one target. A walk that is not
    noted when the process dies is walked again; its page cost nothing but a request.
    """

    def __init__(self, session: Session, job: Job, owner: str, targets: Sequence[Target]) -> None:
        self.session = session
        self.is_cut_off = False
        self._job = job
        self._owner = owner
        self._unclaimed = [target.id for target in targets]
        self._claims: dict[int, Claim] = {}
        self._claimed_at = 0.0
        self._ends: list[NoNews] = []
        self._note_at = 0.0

    def lease_of(self, target: Target) -> Lease:
        """The lease of a target of the chunk."""
        if self._unclaimed:
            # At the first target, when the chunk begins, and not when it was handed out.
            self._claim_all()
        return Lease(
            self.session,
            target,
            self._owner,
            self._job.since,
            claim=self._claims.pop(target.id, None),
            claimed_at=self._claimed_at,
        )

    def _claim_all(self) -> None:
        unclaimed, self._unclaimed = self._unclaimed, []
        if isinstance(self.session, ClaimsTogether):
            self._claimed_at = time.monotonic()
            self._claims = self.session.claim_all(unclaimed, self._owner, self._job.since)

    def distrust(self) -> None:
        """Forgets the claims that were not used: a machine that slept and lost one lease
        lost them all.
        """
        self._claims.clear()

    @property
    def is_full(self) -> bool:
        """Whether it is time to note the walks that were left here."""
        return bool(self._ends) and time.monotonic() >= self._note_at

    @property
    def unnoted(self) -> list[Target]:
        """The targets whose walks were not noted."""
        return [end.target for end in self._ends]

    def leave(self, end: NoNews) -> None:
        """Keeps the end of a walk for the next note, which comes within `NOTE_S`."""
        if not self._ends:
            self._note_at = time.monotonic() + NOTE_S
        self._ends.append(end)

    def note(self) -> Noted:
        """Notes all walks that were left, and gives them as news."""
        ends, keep_body = self._ends, self._job.settings.raw
        refused: Mapping[int, str] = {}
        if ends:
            try:
                self.session.finish_all(self._job.run, self._owner, ends, keep_body=keep_body)
            except RowsWait as waits:
                refused = waits.why
        self._ends = []
        return Noted(
            tuple(PageRead(end.bought.credential) for end in ends),
            tuple(_outcome(end, refused.get(end.target.id)) for end in ends),
        )

    def release(self, target: Target) -> None:
        """Gives the lease of one target back."""
        self.session.release(self._owner, [target.id])


def _outcome(end: NoNews, refused: str | None) -> Outcome:
    if refused is not None:
        return Outcome(end.target.name, FAILED, refused)
    return Outcome(end.target.name, end.state, end.reason)


class Lease:
    """The lease of one target, looked at before every request: one that would end during it
    is renewed first.
    """

    def __init__(
        self,
        session: Session,
        target: Target,
        owner: str,
        since: float,
        *,
        claim: Claim | None,
        claimed_at: float,
    ) -> None:
        self._session = session
        self._target = target
        self._owner = owner
        self._since = since
        self._claim = claim
        self._asked_at = claimed_at
        self._ends_at = claimed_at + LEASE_S if claim else 0.0

    def take(self) -> Claim:
        """The claim; raises `LeaseLost` while another process has the target."""
        asked_at = time.monotonic()
        claim, self._claim = self._claim, None
        # A claim of the chunk is good for its first half; later targets are claimed again.
        if claim is not None and asked_at < self._ends_at - LEASE_S / 2:
            return claim
        claim = self._session.claim(self._target.id, self._owner, self._since)
        if claim is None:
            raise LeaseLost(f"{self._target.name} is being walked by another process")
        self._ends_at = asked_at + LEASE_S
        self._asked_at = asked_at
        return claim

    def hold(self) -> None:
        """Renews a lease that may end during the next request.

        Raises `LeaseLost` when the time is over already: what was known may no longer be
        all that is known.
        """
        self.look()
        now = time.monotonic()
        if now >= self._ends_at - LEASE_S / 2:
            self.take()
        self._asked_at = now

    def look(self) -> None:
        """Raises `LeaseLost` when its time is over. Asks nobody: for the last moment before
        a request.
        """
        if time.monotonic() >= self._ends_at:
            raise LeaseLost(f"the lease of {self._target.name} ended before its next request")

    def renewed(self, saved: Saved) -> None:
        """Takes note of what saving said of the lease."""
        self._ends_at = self._asked_at + LEASE_S if saved.leased else 0.0
