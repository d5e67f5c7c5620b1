"""The stream as a command runs it: a reader process, and the saver of its segments.

    reader process   socket -> messages -> segment on disk            (reader.py)
    this process     segment -> groups -> rows, rules, page, position (tail.py, saving.py)
                     budgets ahead, permits to connect, gaps by search (allowance.py, filling.py)

Either may be killed. The next stream saves all that the reader wrote. The reader ends with
this process.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweetcrawler import windows
from tweetcrawler.errors import (
    ConfigurationError,
    DatabaseError,
    MustWait,
    TweetcrawlerError,
)
from tweetcrawler.ids import time_ms_of
from tweetcrawler.keeping.manifests import SegmentError
from tweetcrawler.outcome import RunReport
from tweetcrawler.run import Job
from tweetcrawler.secret import Credential
from tweetcrawler.sentiment import scorer
from tweetcrawler.stream.allowance import BLOCK_MIN, Allowance, Rate
from tweetcrawler.stream.asking import App
from tweetcrawler.stream.filling import Filler
from tweetcrawler.stream.known import RuleNow, length_s, ranges_of, rules_now
from tweetcrawler.stream.ledger import left_over, note_connection
from tweetcrawler.stream.process import ReaderProcess
from tweetcrawler.stream.reader import Given
from tweetcrawler.stream.saving import Group, Saver, note_done, positions, session_at
from tweetcrawler.stream.tail import Frame, Tail

if TYPE_CHECKING:
    from tweetcrawler.db import Session

# A group is saved when it has this number of messages, or its first one has waited this time.
GROUP, GROUP_S = 200, 0.5
# Connections that the reader may begin without a word from here.
AHEAD = 2
PAUSE_S, TELL_S, LOOK_AGAIN_S = 0.05, 60.0, 2.0
RENEW_S, RENEW_SOONEST_S = 0.5, 0.1
RETRY_DATABASE_S, RETRY_DATABASE_MAX_S = 1.0, 15.0
# After this number of deaths in a minute the cause will not pass by itself.
DEATHS, DEATHS_S = 5, 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Folder, end and options of a stream."""

    folder: Path
    schema: str
    for_s: float | None = None
    fill: bool = True
    silent_s: float = 25.0
    segment_posts: int = 20_000


@dataclass
class StreamReport(RunReport):
    """Results of a stream. `why` counts connections by how they ended."""

    lines: int = 0
    posts: int = 0
    new: int = 0
    updated: int = 0
    left_over: int = 0
    connections: int = 0
    why: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    unknown_rules: int = 0
    reader_deaths: int = 0
    searched: int = 0
    unsaved: int = 0
    rules: list[dict[str, Any]] = field(default_factory=list)

    def as_plain(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        names = ("lines", "posts", "new", "updated", "left_over", "connections", "unknown_rules")
        counts = {name: getattr(self, name) for name in (*names, "reader_deaths", "unsaved")}
        return {
            **super().as_plain(),
            **counts,
            "posts_by_search": self.searched,
            "ends": dict(self.why),
            "other_messages": {name: count for name, count in self.others.items() if count},
            "rules": self.rules,
        }

    @property
    def text(self) -> str:
        """The report for readers."""
        ends = ", ".join(f"{count} x {why}" for why, count in self.why.most_common(5))
        lines = [
            f"{self.posts:,} posts ({self.new:,} new) in {self.lines:,} messages of "
            f"{self.connections:,} connections" + (f": {ends}" if ends else "")
        ]
        others = {name: count for name, count in self.others.items() if count}
        if self.left_over:
            lines.append(f"{self.left_over:,} posts of earlier streams, saved now")
        lines += [f"{count:,} other messages: {name}" for name, count in others.items()]
        lines += [f"{one['tag'] or one['query']}: {rule_line(one)}" for one in self.rules]
        if self.searched:
            lines.append(f"{self.searched:,} posts by search: without retweets for words")
        if self.unsaved:
            lines.append(
                f"{self.unsaved:,} posts wait in segments on disk: the next stream saves them"
            )
        return "\n".join([*lines, *([self.ended] if self.ended else [])])


def shown(rule: RuleNow) -> dict[str, Any]:
    """A rule with the time that is known of it."""
    return {
        "id": str(rule.id),
        "tag": rule.tag,
        "query": rule.value,
        "posts": rule.posts,
        "streamed_s": round(length_s(rule.streamed)),
        "by_search_s": round(length_s(rule.filled)),
        "gaps": len(rule.gaps),
        "gaps_s": round(length_s(ranges_of(rule.gaps))),
        "lost_s": round(length_s(rule.unreachable)),
    }


def rule_line(rule: Mapping[str, Any]) -> str:
    """The time of a rule that is known, in words."""
    parts = [f"{rule['posts']:,} posts", f"{rule['streamed_s']:,} s by the stream"]
    if rule["by_search_s"]:
        parts.append(f"{rule['by_search_s']:,} s by search, without retweets")
    if rule["gaps"]:
        parts.append(f"{rule['gaps']} gaps of {rule['gaps_s']:,} s open")
    return ", ".join(parts)


def _rate(told: Mapping[str, Any] | None) -> windows.Rate | None:
    return windows.Rate(**told) if told else None


class Streaming:
    """One run of the stream, from its beginning to its end."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        key: Credential,
        app: App,
        session: Session,
        *,
        report: StreamReport,
        stopped: Callable[[], int | None],
    ) -> None:
        self._job, self._plan, self._key, self._app = job, plan, key, app
        self._session, self._report, self._stopped = session, report, stopped
        assert job.tariff is not None  # noqa: S101 - `asking.recorded` gives one
        self._saver = Saver(
            session,
            run=job.run,
            tariff=job.tariff,
            score=scorer() if job.settings.sentiment else None,
            keep_body=job.settings.raw,
        )
        self._rate = Rate()
        self._allowance = Allowance(job.run, app.owner, job.settings.money, job.tariff)
        self._filler = Filler(job, app.fingerprint, lambda: stopped() is not None)
        self._x_ahead = app.x_now - time.time()
        self._connects = AHEAD
        self._base = 0
        self._ends_at = None if plan.for_s is None else time.monotonic() + plan.for_s
        self._is_open = False
        self._fatal = False
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._newest_s: float | None = None
        self._received = 0
        self._away_s = 0.0
        # When X is asked for the connection that is in the way.
        self._look_at = math.inf
        self._permit_at = self._renew_at = self._database_at = 0.0

    def run(self) -> None:
        """Reads until the end that was asked for, a budget, or an error that no pause helps."""
        plan = self._plan
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"the folder {plan.folder} cannot be made ({error.strerror}): name another one "
                "with --stream-folder"
            ) from None
        done, known = positions(self._session)
        self._tail = Tail(plan.folder, done, known)
        self._frames = self._tail.frames()
        self._noted = set(done)
        self._group: Group | None = None
        self._grouped_at = 0.0
        self._frame: Frame | None = None
        self._last = session_at(self._session, sorted({*done, *known}))
        self._reader = self._begun()
        try:
            self._until_the_end()
        finally:
            self._finish()

    # -- the loop ------------------------------------------------------------------------

    def _until_the_end(self) -> None:
        tell_at = time.monotonic() + TELL_S
        while not self._is_over():
            self._hear()
            if not self._reader.is_alive and not self._fatal:
                self._bury()
            if time.monotonic() >= self._look_at and not self._is_open:
                self._free_the_line()
            moved = self._save()
            self._renew()
            if not moved and self._may_fill():
                moved = self._fill()
            if time.monotonic() >= tell_at:
                tell_at = time.monotonic() + TELL_S
                self._tell()
            if not moved:
                time.sleep(PAUSE_S)

    def _is_over(self) -> bool:
        code = self._stopped()
        if code is not None:
            self._report.exit_code, self._report.ended = code, "stopped"
        elif self._ends_at is not None and time.monotonic() >= self._ends_at:
            return True
        return code is not None or bool(self._report.ended)

    def _end(self, why: str, code: int) -> None:
        self._report.ended = self._report.ended or why
        self._report.exit_code = self._report.exit_code or code

    # -- the reader ------------------------------------------------------------------------

    def _begun(self) -> ReaderProcess:
        settings, key = self._job.settings, self._key
        secrets = ("consumer_key", "consumer_secret", "bearer_token", "proxy")
        values = {name: getattr(key, name) for name in secrets}
        given = Given(
            folder=str(self._plan.folder),
            api_url=settings.api_url,
            run=self._job.run,
            app=self._app.fingerprint,
            schema=self._plan.schema,
            silent_s=self._plan.silent_s,
            connect_s=settings.connect_timeout_s,
            segment_posts=self._plan.segment_posts,
            credential={"name": key.name}
            | {name: value.reveal() for name, value in values.items() if value is not None},
        )
        self._connects = AHEAD
        reader = ReaderProcess(given)
        reader.tell(connects=AHEAD)
        return reader

    def _bury(self) -> None:
        """Begins another reader after one that died, which has lost nothing that it wrote."""
        self._report.reader_deaths += 1
        self._is_open = False
        now = time.monotonic()
        if len(self._deaths) == DEATHS and now - self._deaths[0] < DEATHS_S:
            self._end("the reader of the stream dies again and again: see the log", 1)
            return
        self._deaths.append(now)
        log.warning("the reader of the stream has died; another one begins")
        self._reader.close()
        # All that it received is on disk, and counts, though some is not saved yet.
        self._frames = self._tail.frames()
        self._base = self._received = self._report.posts + self._unread()
        self._reader = self._begun()
        self._renew_at = 0.0

    def _unread(self) -> int:
        return self._tail.unread_posts() + (self._group.posts if self._group else 0)

    def _hear(self) -> None:
        for news in self._reader.news():
            event = news["event"]
            if event == "posts":
                self._received = self._base + news["posts"]
            elif event == "connecting":
                self._permit()
            elif event == "connected":
                self._connected(news)
            elif event == "ended":
                self._is_open = False
                self._report.why[news["why"]] += 1
                log.info("the stream ended: %s", news["why"])
            elif event == "refused":
                self._report.why[news["error"]] += 1
                self._refused(news)
            elif event == "fatal":
                self._fatal = True
                self._end(news["said"], news["code"])

    def _connected(self, news: Mapping[str, Any]) -> None:
        self._report.connections += 1
        self._is_open, self._look_at = True, math.inf
        self._x_ahead = news["at"] - time.time()
        log.info("the stream is open")
        try:
            self._app.connected(_rate(news["rate"]))
            own = self._app.connections()
            newest = max(own, key=lambda one: str(one.get("connected_at")), default={})
            if newest.get("id"):
                given = {"id": news["session"], "run": self._job.run, "at": news["at"]}
                given |= {"credential": self._key.name, "app": self._app.fingerprint}
                note_connection(self._session, {**given, "connection": str(newest["id"])})
        except TweetcrawlerError as error:
            log.debug("X does not tell the id of the connection: %s", error)

    def _refused(self, news: Mapping[str, Any]) -> None:
        log.warning("%s; trying again in %.0f s", news["said"], news["pause_s"])
        try:
            self._app.connected(_rate(news["rate"]))
        except TweetcrawlerError as error:
            log.debug("the limit of connections is not noted: %s", error)
        if news["error"] == "TooManyConnections":
            self._look_at = time.monotonic()

    def _free_the_line(self) -> None:
        """Ends a connection that a reader of this program left behind, and no other."""
        self._look_at = math.inf
        try:
            open_ = [str(one["id"]) for one in self._app.connections() if one.get("id")]
            gone = left_over(self._session, self._app.fingerprint, open_, self._x_now)
            if gone:
                self._app.end(gone)
                log.warning("ended %d connections of a reader that is gone", len(gone))
                self._reader.hurry()
            else:
                log.warning("another program holds the stream of this app: end it there")
        except TweetcrawlerError as error:
            log.debug("X does not tell its connections now: %s", error)
            self._look_at = time.monotonic() + LOOK_AGAIN_S

    def _permit(self) -> None:
        """Lets the reader begin one connection more, within X's limit for all calls."""
        try:
            self._app.permit()
        except MustWait as error:
            log.warning("%s", error)
            self._permit_at = time.monotonic() + error.wait_s
        except DatabaseError:
            # The reader has a guard of its own.
            self._permit_at = time.monotonic()
        else:
            self._permit_at = time.monotonic()
        self._connects += 1

    @property
    def _x_now(self) -> float:
        return time.time() + self._x_ahead

    # -- saving ----------------------------------------------------------------------------

    def _save(self) -> bool:
        """Saves a group, if one is due; says whether there was something to read."""
        if time.monotonic() < self._database_at:
            return False
        try:
            moved = self._save_due()
        except DatabaseError as error:
            if error.exit_code != DatabaseError.exit_code:
                raise
            # Costs disk only: the reader goes on, and all is saved when it is back.
            self._away_s = min(RETRY_DATABASE_MAX_S, 2 * self._away_s or RETRY_DATABASE_S)
            self._database_at = time.monotonic() + self._away_s
            log.warning("nothing is saved for now, segments grow on disk: %s", error)
            return False
        self._away_s = 0.0
        return moved

    def _save_due(self) -> bool:
        read = False
        while self._group is None or self._group.lines < GROUP:
            frame = self._frame or next(self._frames, None)
            self._frame = None
            if frame is None:
                # Later frames are read by another look at the end.
                self._frames = self._tail.frames()
                break
            read = True
            if self._group is not None and not self._fits(frame):
                self._frame = frame
                break
            self._add(frame)
        group = self._group
        if group is None:
            self._note_done()
            return read
        waited_s = time.monotonic() - self._grouped_at
        if group.lines >= GROUP or waited_s >= GROUP_S or self._frame is not None:
            self._save_group(group)
            self._note_done()
        return read

    def _fits(self, frame: Frame) -> bool:
        """Whether a frame goes on with the group: in the same segment and connection."""
        group = self._group
        assert group is not None  # noqa: S101 - the caller looked
        opens = b'"event":"opened"' in frame.lines[0][:64] if frame.lines else False
        return frame.begins == group.ends and not opens

    def _add(self, frame: Frame) -> None:
        if self._group is None:
            self._group = Group(self._last, frame.begins, frame.begins)
            self._grouped_at = time.monotonic()
        self._group.add(frame)

    def _save_group(self, group: Group) -> None:
        done = self._saver.save(group)
        self._group, self._last = None, group.session
        report, mine = self._report, group.session and group.session.run == self._job.run
        if mine:
            report.lines += group.lines
            report.posts += group.posts
            self._rate.add(group.posts)
        else:
            report.left_over += group.posts
        report.new += done.saved.new
        report.updated += done.saved.updated
        report.others.update(group.others)
        if done.unknown_rules:
            if not report.unknown_rules:
                log.warning("posts came for rules that another program added meanwhile")
            report.unknown_rules += done.unknown_rules
        newest = max((post for _, post in group.found), default=None)
        if newest is not None:
            # By X's header Date, which is cut to whole seconds.
            self._newest_s = max(0.0, self._x_now - time_ms_of(newest) / 1000)

    def _note_done(self) -> None:
        new = self._tail.finished() - self._noted
        if new and self._group is None and self._frame is None:
            note_done(self._session, sorted(new))
            self._noted |= new

    # -- budgets, gaps, the log ----------------------------------------------------------

    def _renew(self) -> None:
        """Sets the next block of posts aside, and tells the reader how far it may go."""
        now = time.monotonic()
        total, report = self._allowance.total, self._report
        is_short = total is not None and total - self._received < BLOCK_MIN // 2
        due_at = self._renew_at - (RENEW_S - RENEW_SOONEST_S if is_short else 0.0)
        if total is not None and now >= due_at:
            self._renew_at = now + RENEW_S
            unsaved = max(0, self._received - report.posts)
            total = self._renewed(unsaved)
            if self._allowance.full and report.posts + unsaved >= (total or 0):
                self._end(f"the budget of the {self._allowance.full} is used up", 5)
                report.budget = self._allowance.full
        posts = None if total is None else total - self._base
        self._reader.tell(posts=posts)
        if now >= self._permit_at:
            self._reader.tell(connects=self._connects)

    def _renewed(self, unsaved: int) -> int | None:
        filled = self._filler.posts
        if time.monotonic() < self._database_at:
            return self._allowance.without_books(filled)
        return self._allowance.renew(
            self._session,
            saved=self._report.posts,
            unsaved=unsaved,
            filled=filled,
            per_s=self._rate.per_s,
        )

    def _may_fill(self) -> bool:
        return self._plan.fill and self._is_open and self._group is None

    def _fill(self) -> bool:
        try:
            filled = self._filler.fill(self._session, self._x_now)
        except TweetcrawlerError as error:
            log.debug("no gap is filled for now: %s", error)
            return False
        self._report.searched = self._filler.posts
        return filled

    def _tell(self) -> None:
        assert self._job.tariff is not None  # noqa: S101 - `asking.recorded` gives one
        per_s = self._rate.per_s
        late = f", newest post {self._newest_s:.1f} s old" if self._newest_s is not None else ""
        usd = per_s * 3600 * self._job.tariff.post / 1_000_000
        log.info(
            "%.1f posts/s, %s posts so far (%s new)%s, $%.2f an hour",
            per_s,
            f"{self._report.posts:,}",
            f"{self._report.new:,}",
            late,
            usd,
        )

    # -- the end ---------------------------------------------------------------------------

    def _finish(self) -> None:
        """Ends the reader, saves its last messages, and tells the coverage of each rule."""
        self._reader.end("the stream ends")
        self._reader.wait()
        self._hear()
        self._reader.close()
        report = self._report
        try:
            self._save_all_now()
            self._allowance.give_back(self._session)
            found = rules_now(self._session, self._app.fingerprint, self._x_now)
            report.rules = [shown(rule) for rule in found]
        except DatabaseError as error:
            report.unsaved = self._unread()
            self._end(str(error), error.exit_code)
        except SegmentError as error:
            self._end(str(error), ConfigurationError.exit_code)

    def _save_all_now(self) -> None:
        while self._save_due() or self._group is not None:
            if self._group is not None:
                self._save_group(self._group)
