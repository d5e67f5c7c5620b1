"""Notices to people by webhook or mail: at most one per cause, address and hour.

The database remembers them, so a restart sends none twice, and one that could not be
delivered is sent after a later run. The addresses are secrets: a sentence names a service only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Thread
from typing import Any

from tweetcrawler.db import Database
from tweetcrawler.documents import iso
from tweetcrawler.errors import ConfigurationError, PackageMissing, TweetcrawlerError
from tweetcrawler.outcome import Report, needs_person
from tweetcrawler.secret import Secret
from tweetcrawler.words import plural

# Longest time that the end of a run waits for an address, in seconds.
DEADLINE_S = 15.0
# A database that does not answer gets this time: the run has ended, and somebody waits for it.
PATIENCE_S = 5.0
NAMED_SHOWN = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What somebody shall know; two of the same `cause` are one within an hour."""

    cause: str
    text: str


@dataclass(frozen=True)
class Address:
    """Where notices go; `place` stands for it in the database and in sentences."""

    url: Secret
    place: str


def addresses_of(urls: Secret) -> tuple[Address, ...]:
    """The addresses in a text with white space between.

    **Errors**: `ConfigurationError` when one is not understood, or the library is missing.
    """
    found = []
    for number, url in enumerate(urls.reveal().split(), start=1):
        if not _library().Apprise().add(url):
            raise ConfigurationError(
                f"address {number} of notify is not understood; docs/how-to.md shows its forms."
            )
        mark = blake2b(url.encode(), digest_size=4).hexdigest()
        found.append(Address(Secret(url), f"{url.partition(':')[0].lower()} {mark}"))
    return tuple(found)


def of_report(command: str, report: Report, host: str, *, always: bool) -> Iterator[Notice]:
    """The notices of a run that has ended; `always` tells of a run that went well, too."""
    for credential, error in sorted(report.refusals):
        if error == "CredentialRefused":
            text = f"X refuses credential {credential}; renew its keys in the auth CSV."
            yield Notice(f"credential {credential}", f"{text} (run {report.run} on {host})")
    is_problem = needs_person(report.exit_code, report.outcomes)
    if is_problem or (always and report.exit_code == 0):
        yield Notice(f"{command} {report.exit_code}", _text(command, report, host))


def of_error(command: str, error: TweetcrawlerError, host: str) -> Notice:
    """The notice of a run that could not go on."""
    return Notice(f"{command} {error.exit_code}", f"{command} on {host} stopped: {error}")


def of_faults(command: str, faults: Sequence[str], host: str) -> Notice:
    """The notice of faults that a command met and went on."""
    return Notice(f"{command} 1", "\n".join([f"{command} on {host}:", *faults[:NAMED_SHOWN]]))


def tell(database: Database, addresses: Sequence[Address], found: Sequence[Notice]) -> None:
    """Sends what is due, and what could not be delivered before; takes a bounded time."""
    by_place = {address.place: address for address in addresses}
    try:
        gives_up_at = time.monotonic() + PATIENCE_S
        with database.session(stopping=lambda: time.monotonic() > gives_up_at) as session:
            due = session.claim_notices(
                [(notice.cause, notice.text) for notice in found], list(by_place)
            )
            session.keep_notices(_send(by_place, due))
    except TweetcrawlerError as error:
        log.warning("no notice was sent, since the database does not answer: %s", error)


def _send(
    by_place: Mapping[str, Address], due: Sequence[tuple[str, str, str, int, float]]
) -> list[tuple[str, str]]:
    """Sends each to its address, all at once; gives (cause, place) of those that failed."""
    delivered: set[tuple[str, str]] = set()

    def send(cause: str, place: str, text: str, kept: int, noted_at: float) -> None:
        more = f"\n{plural(kept, 'more notice')} of this cause since the last" if kept else ""
        if _delivered(by_place[place].url, f"{text}\n{iso(noted_at)}{more}"):
            delivered.add((cause, place))

    # A thread cannot be ended: one that hangs is left behind, and ends with the program.
    threads = [Thread(target=send, args=notice, daemon=True) for notice in due]
    gives_up_at = time.monotonic() + DEADLINE_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, gives_up_at - time.monotonic()))
    failed = [(cause, place) for cause, place, *_ in due if (cause, place) not in delivered]
    for place in sorted({place for _, place in failed}):
        log.warning(
            "a notice could not be delivered (%s); it is kept, and sent after a later run",
            place.partition(" ")[0],
        )
    return failed


def _delivered(url: Secret, body: str) -> bool:
    apprise = _library()
    sender = apprise.Apprise()
    sender.add(url.reveal())
    return bool(sender.notify(title="tweetcrawler", body=body))


def _text(command: str, report: Report, host: str) -> str:
    lines = [
        f"{command} on {host} (run {report.run}) ended with exit code {report.exit_code}"
        + (f": {report.ended}" if report.ended else "")
    ]
    lines.append(
        f"{plural(report.total('posts'), 'post')} read, {report.total('new'):,} new; "
        + ", ".join(f"{count:,} {state}" for state, count in report.outcomes.most_common())
    )
    open_ = [one for one in report.named if not one.done]
    lines += [f"{one.name}: {one.state}: {one.reason}" for one in open_[:NAMED_SHOWN]]
    return "\n".join(lines)


def _library() -> Any:
    try:
        import apprise
    except ImportError:
        raise PackageMissing("notify", "apprise") from None
    # It logs addresses and answers, and an address holds a token.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return apprise
