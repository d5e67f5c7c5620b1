"""Every error of the crawler: its sentence for the operator and its exit code.

    TweetcrawlerError
    ├── ConfigurationError      2  something the operator wrote
    │   ├── PackageMissing         a package is not installed
    │   └── RowsWait               files take no rows: these are kept
    ├── DatabaseError           3
    │   ├── DatabaseUnreachable    it does not answer
    │   ├── DatabaseNotMigrated    its schema is not this program's
    │   └── DatabaseRefuses        it does not accept this statement, however often
    ├── NotAgreed               1  the operator does not want to pay for it
    ├── OnlyPlanned             0  a dry run has shown its plan
    ├── NoCredentialLeft        4  X refused every credential
    ├── MustWait                   nothing may be sent yet; says how long
    ├── LeaseLost                  another process walks this target now
    ├── BudgetReached           5  what may be spent is spent
    ├── TargetRefused              X says why this target cannot be read
    └── XError                     one request to X did not give a page
        ├── WindowClosed              429: the bucket is empty
        ├── Overloaded                429 with permits left: go slower
        ├── TooManyConnections        429: as many streams are open as the app may have
        ├── CapReached                the project's or account's posts or credits are used up
        ├── CredentialRefused         401, or 403 for their owner: X does not accept these keys
        ├── EndpointRefused           403: these keys may not use this endpoint
        ├── RequestRefused            400: X does not accept this request
        ├── ProxyFailed               the credential's proxy does not lead to X
        └── XUnavailable              no answer, or none that can be read
            └── NothingArrives     6  no answer at all, or each of them is lost

A message is a sentence, and its last clause is what the operator should do next.
"""

from __future__ import annotations

from collections.abc import Mapping

from tweetcrawler.ids import DAY_S


class TweetcrawlerError(Exception):
    """Base of all errors that the crawler raises on purpose."""

    exit_code = 1


class ConfigurationError(TweetcrawlerError):
    """An option, a file or an input is not usable as it stands."""

    exit_code = 2


class PackageMissing(ConfigurationError):
    """A package that one task needs is not installed."""

    def __init__(self, task: str, package: str, more: str = "") -> None:
        # The package itself and no extra of ours: this project is on no index yet.
        super().__init__(f"{task} needs the package {package}: pip install {package}{more}")


class NotAgreed(TweetcrawlerError):
    """Nothing was bought; run again with --yes, or with a --budget."""


class RowsWait(ConfigurationError):
    """Files do not take the rows of their targets: these were saved, and wait for the files.

    `why` has a sentence for each of the targets, by id.
    """

    def __init__(self, why: Mapping[int, str]) -> None:
        super().__init__("\n".join(why.values()))
        self.why = why


class OnlyPlanned(TweetcrawlerError):
    """Nothing was bought in this dry run; run again without --dry-run."""

    exit_code = 0


class DatabaseError(TweetcrawlerError):
    """PostgreSQL cannot be used."""

    exit_code = 3


class DatabaseUnreachable(DatabaseError):
    """PostgreSQL does not answer, or stopped answering.

    `about` are the options whose values may be at fault. `wants_password` says that the server
    asked for a password, and that there was none.
    """

    about: tuple[str, ...] = ()
    wants_password = False


class DatabaseNotMigrated(DatabaseError):
    """The schema in the database is not the one this program was written for."""


class DatabaseRefuses(DatabaseError):
    """PostgreSQL does not accept a statement or its values; `said` is its own sentence."""

    def __init__(self, message: str, *, said: str) -> None:
        super().__init__(message)
        self.said = said


class NoCredentialLeft(TweetcrawlerError):
    """X refused every credential of the file."""

    exit_code = 4


class MustWait(TweetcrawlerError):
    """Every bucket that could pay for this request is closed for now.

    `wait_s` seconds from now the first of them opens; `reason` says what is waited for.
    """

    def __init__(self, wait_s: float, reason: str) -> None:
        super().__init__(f"{reason}; the next request may be sent in {wait_s:.0f} s")
        self.wait_s = wait_s
        self.reason = reason


class LeaseLost(TweetcrawlerError):
    """Another process holds the lease of this target."""


class BudgetReached(TweetcrawlerError):
    """The budget is used up; `scope` says which: that of the run, the day or the month."""

    exit_code = 5

    def __init__(self, sentence: str, scope: str) -> None:
        super().__init__(sentence)
        self.scope = scope


class TargetRefused(TweetcrawlerError):
    """X answers, but not with this target's posts: it is missing, suspended or protected."""

    def __init__(self, state: str, reason: str, *, rate: object | None = None) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.rate = rate


class XError(TweetcrawlerError):
    """One request to X did not give a page.

    `rate` is what its headers said of the bucket (`windows.Rate`), if anything; `status` is
    the HTTP status, None when there was no answer.
    """

    def __init__(
        self, message: str, *, rate: object | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        # `object` and not `windows.Rate`: that module stands above this one.
        self.rate = rate
        self.status = status


class WindowClosed(XError):
    """The bucket of this request is empty until its window turns."""


class Overloaded(XError):
    """X asks to go slower although permits are left in the window."""


class TooManyConnections(XError):
    """As many streams of this app are open as X allows: end the program that holds the other."""


class CapReached(XError):
    """The posts or credits of the project or account are used up.

    `reason` is "cap" or "credits"; `for_s` says how long X will go on refusing, as far as
    is known. A cap that is not `daily` turns on a day of the month that X tells when asked.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        reason: str = "cap",
        # A guess for the case that X does not tell: a cap is tried again once a day.
        for_s: float = DAY_S,
        daily: bool = False,
        rate: object | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, rate=rate, status=status)
        self.reason = reason
        self.for_s = for_s
        self.daily = daily


class CredentialRefused(XError):
    """X does not accept these keys."""


class EndpointRefused(XError):
    """These keys may not use this endpoint."""


class RequestRefused(XError):
    """X does not accept this request from any credential."""


class ProxyFailed(XError):
    """The proxy of this credential does not lead to X: the request was not sent."""


class XUnavailable(XError):
    """X gave no answer in time, or none that can be read.

    `unsent` says that the request did not even reach X, `unsold` that its answer came and
    holds nothing that X charges for, `too_long` that the answer was longer than it may be.
    `moved` says that pages of the same unit of work were saved before, and `times_lost` how
    often the page was lost in this try.
    """

    unsent = False
    unsold = False
    too_long = False
    moved = False
    times_lost = 0

    @property
    def may_be_charged(self) -> bool:
        """Whether X may have sold something all the same.

        What it refuses is free, what is lost on its way is not.
        """
        # None: the connection ended after the request was sent, and X may have answered it.
        return not (self.unsent or self.unsold) and self.status in (None, 200)

    @property
    def is_lost(self) -> bool:
        """Whether an answer came that X charges for, and cannot be used."""
        return self.may_be_charged and self.status == 200


class NothingArrives(XUnavailable):
    """X's answers do not arrive: the run ends before it costs more time or money."""

    exit_code = 6
