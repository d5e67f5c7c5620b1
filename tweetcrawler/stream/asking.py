"""Requests about a stream to the one app whose rules and connection it has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tweetcrawler import run
from tweetcrawler.endpoints import (
    CHANGE_STREAM_RULES,
    CONNECTIONS,
    END_CONNECTIONS,
    STREAM,
    STREAM_RULES,
)
from tweetcrawler.errors import MustWait, NoCredentialLeft, XUnavailable
from tweetcrawler.outcome import RunReport
from tweetcrawler.permits import Ledger, Permit
from tweetcrawler.prices import Tariff
from tweetcrawler.request import APP
from tweetcrawler.run import Job
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings
from tweetcrawler.stream.ledger import rules_of, save_rules
from tweetcrawler.stream.rules import Known, Rule, known_of
from tweetcrawler.windows import Rate
from tweetcrawler.work.kinds import Worker

if TYPE_CHECKING:
    from tweetcrawler.db import Database, Session
    from tweetcrawler.xapi import Page, X

# An answer that did not come is asked for again after these times.
_AGAIN_S = (1.0, 3.0)
# A window that turns sooner is waited for.
LONGEST_WAIT_S = 60.0

log = logging.getLogger(__name__)


@contextmanager
def recorded(
    settings: Settings,
    database: Database,
    keys: Sequence[Credential],
    report: RunReport,
    tariff: Tariff,
) -> Iterator[Job]:
    """A run with its record, which ends with the report."""
    number, since = run.begin_buying(settings, database, keys)
    report.run = number
    began = time.monotonic()
    try:
        yield Job(replace(settings, values=None), database, keys, number, since, tariff=tariff)
    finally:
        report.seconds = time.monotonic() - began
        run.end(database, report)


def chosen(keys: Sequence[Credential]) -> Credential:
    """The credential of the stream: the first with an app, since rules belong to an app."""
    found = next((key for key in keys if key.has_app), None)
    if found is None:
        raise NoCredentialLeft(
            "no credential has a bearer token or a consumer key, and a stream needs one: add it"
        )
    return found


def _rules_page(token: str | None, x: X) -> Page:
    return x.stream_rules(token)


class App:
    """The rules and connections of one app at X."""

    def __init__(self, job: Job, session: Session, credential: Credential) -> None:
        own = replace(job, credentials=(credential,))
        self._worker = Worker(0, lambda: False, lambda _: None, own)
        self._session = session
        self._ledger = Ledger(own.credentials, own=0, since=job.since)
        self.fingerprint = credential.app_fingerprint
        self._permit: Permit | None = None
        # X's time of the last answer.
        self.x_now = 0.0

    def rules(self) -> list[Known]:
        """All rules that X has of the app."""
        ours = rules_of(self._session, self.fingerprint)
        found: list[Known] = []
        token: str | None = None
        while True:
            page = self._ask(STREAM_RULES, partial(_rules_page, token))
            found += known_of(page.answer, ours)
            token = page.next_token
            if token is None:
                return found

    def change(self, change: Mapping[str, Any], dry_run: bool) -> Mapping[str, Any]:
        """X's answer to a change of rules."""
        ask = lambda x: x.change_stream_rules(change, dry_run=dry_run)  # noqa: E731
        return self._ask(CHANGE_STREAM_RULES, ask).answer

    def note(self, known: Sequence[Known], wanted: Sequence[Rule]) -> None:
        """Remembers the rules that X has now, and which of them are the operator's."""
        save_rules(self._session, self.fingerprint, known, wanted, at=self.x_now)

    def connections(self) -> list[Mapping[str, Any]]:
        """The open streams of the app, as X tells."""
        return self._bought(CONNECTIONS, lambda x: x.connections()).data

    def end(self, ids: Sequence[str]) -> None:
        """Ends streams of the app."""
        self._bought(END_CONNECTIONS, lambda x: x.end_connections(ids))

    def _ask(self, endpoint: str, ask: Callable[[X], Page]) -> Page:
        for pause_s in _AGAIN_S:
            try:
                return self._bought(endpoint, ask)
            except XUnavailable as error:
                log.warning("%s; asking again", error)
                time.sleep(pause_s)
            except MustWait as error:
                if error.wait_s > LONGEST_WAIT_S:
                    raise
                time.sleep(error.wait_s)
        return self._bought(endpoint, ask)

    def _bought(self, endpoint: str, ask: Callable[[X], Page]) -> Page:
        requests, session = self._worker.requests, self._session
        with requests.buying(session, endpoint, 1, what="nothing", kinds=APP) as purchase:
            page = purchase.ask(lambda x, _: ask(x))
        session.save_page(self._worker.job.run, purchase.bought)
        self.x_now = page.server_time_s
        return page

    def permit(self) -> None:
        """Takes the right to open one connection from the limit that all calls share.

        **Errors**: `MustWait`, `DatabaseError`.
        """
        self._permit = self._ledger.reserve(self._session, STREAM, APP)

    def connected(self, rate: Rate | None) -> None:
        """Notes the limit of connections, as X told it."""
        if self._permit is not None:
            self._ledger.settle(self._session, self._permit, rate)

    @property
    def owner(self) -> str:
        """The name under which money is set aside."""
        return self._worker.owner
