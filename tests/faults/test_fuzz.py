"""Fuzz: whatever comes in, by the network or as a file, only our own errors come out."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k A10_` is that fault

from __future__ import annotations

import bz2
import gzip
import io
import json
import logging
import lzma
import os
import random
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import zstandard
from sandbox_server import Sandbox
from test_import import command, counts

from tweetcrawler import settings
from tweetcrawler.books import usage_of
from tweetcrawler.coverage import Hole, Walk, settled_below
from tweetcrawler.endpoints import COUNTS_RECENT
from tweetcrawler.errors import ConfigurationError, TargetRefused, TweetcrawlerError, XError
from tweetcrawler.flatten import flatten
from tweetcrawler.sentiment import scorer
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.settings.handles import count_lines, read_handles
from tweetcrawler.work import answers
from tweetcrawler.xapi import Page, Timeouts, X

CANARY = "canarySecret0123456789abcdef"
SERVER = Path(__file__).with_name("hostile_server.py")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True pages, one a line: the sandbox's, and recorded ones of X where they are at hand."""
    lines = []
    with Sandbox("--credentials", "1", "--posts", "40-90") as sandbox:
        asked = {
            "tweet.fields": (
                "author_id,created_at,entities,public_metrics,referenced_tweets,lang,note_tweet,"
                "in_reply_to_user_id,attachments"
            ),
            "expansions": "author_id,referenced_tweets.id,"
            "referenced_tweets.id.author_id,attachments.media_keys,in_reply_to_user_id",
            "user.fields": "username,name,public_metrics",
            "media.fields": "url,type",
            "max_results": "15",
        }
        for handle in ("writer_0", "writer_1", "gone_one", "protected_one"):
            found = sandbox.get(f"/2/users/{sandbox.id_of(handle)}/tweets", asked)
            lines.append(found.content)
        lines.append(sandbox.get("/2/users/by", {"usernames": "writer_0,gone_one"}).content)
    recorded = os.environ.get("TWEETCRAWLER_RECORDED")
    if recorded:
        for path in sorted((Path(recorded) / "v2").rglob("*.json*")):
            first = path.read_bytes().splitlines()[:2]
            lines += [line for line in first if 100 < len(line) < 60_000 and line.startswith(b"{")]
            if len(lines) >= 25:
                break
    file = tmp_path_factory.mktemp("pages") / "pages.jsonl"
    file.write_bytes(b"\n".join(line.replace(b"\n", b" ") for line in lines))
    return file


@pytest.fixture(autouse=True)
def no_log_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """No record of urllib3 is kept by pytest.

    A record holds its exception, and that the connection which the server waits to see closed.
    """
    caplog.set_level(logging.CRITICAL, logger="urllib3")


@contextmanager
def hostile(pages: Path, seed: str) -> Iterator[int]:
    """The port of a server that mutates these pages."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(pages), seed],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate()


def test_A10_five_thousand_mutated_answers_bring_out_nothing_but_our_own_errors(
    pages: Path, tmp_path: Path, measure: Any
) -> None:
    _answers(pages, tmp_path, measure, seed="1", count=5_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_A10_twenty_thousand_mutated_answers(pages: Path, tmp_path: Path, measure: Any) -> None:
    _answers(pages, tmp_path, measure, seed="long", count=20_000)


TOTAL_S = 3.0
RANGE: dict[str, Any] = {"since_id": 5, "until_id": None, "token": None}
# How often each is asked, and what is done with its page until it is saved.
ASKED: list[tuple[int, Callable[[X, bool], Page], Callable[[Page], Any]]] = [
    (
        50,
        lambda x, user: x.user_tweets("12", **RANGE, user_auth=user),
        lambda p: answers.news_of_user(p, "12"),
    ),
    (
        10,
        lambda x, user: x.users_by(["writer_0", "gone_one"], user_auth=user),
        lambda p: answers.resolved(p, ["writer_0", "gone_one"]),
    ),
    (5, lambda x, user: x.search_recent("cats", **RANGE, user_auth=user), lambda p: None),
    (5, lambda x, _: x.search_all("cats", **RANGE), lambda p: None),
    (
        10,
        lambda x, user: x.tweets([12, 13], user_auth=user),
        lambda p: (answers.gone(p, [12, 13], {}), answers.metrics(p, {12, 13})),
    ),
    (5, lambda x, _: x.trends(1, max_trends=50), lambda p: answers.trends(p, "en")),
    (5, lambda x, _: x.usage(days=35), lambda p: usage_of("", p.server_time_s, p.answer)),
    (10, lambda x, _: x.counts(COUNTS_RECENT, "cats", **RANGE), answers.total),
]


def _answers(pages: Path, folder: Path, measure: Any, *, seed: str, count: int) -> None:
    auth = folder / "auth.csv"
    auth.write_text(
        "consumer_key,consumer_secret,access_token,access_token_secret,bearer_token\n"
        f"k{CANARY},s{CANARY},"
        f"t{CANARY},u{CANARY},b{CANARY}\n"
    )
    auth.chmod(0o600)
    [credential] = read_credentials(auth).credentials
    score = scorer()
    chance = random.Random(seed)
    weights = [weight for weight, _, _ in ASKED]
    came: Counter[str] = Counter()
    strange: list[str] = []
    leaks, longest = 0, 0.0
    before = psutil.Process().memory_info().rss
    with hostile(pages, seed) as port:
        client = X(
            credential, api_url=f"http://127.0.0.1:{port}", timeouts=Timeouts(2.0, 2.0, TOTAL_S)
        )
        for number in range(count):
            [(_, ask, use)] = chance.choices(ASKED, weights)
            try:
                waited = Waited()
                try:
                    page = ask(
                        client, chance.random() < 0.15
                    )  # a signature takes longer than all the rest
                finally:
                    longest = max(longest, waited.seconds)
                _use(page, score)
                use(page)
                came["page"] += 1
            except (XError, TargetRefused) as error:
                came[type(error).__name__] += 1
                leaks += CANARY in f"{error} {error!r} {vars(error)}"
            except Exception as error:  # noqa: BLE001 - the very thing that is looked for
                strange.append(f"answer {number}: {type(error).__name__}: {error}"[:300])
    grown = max(0, psutil.Process().memory_info().rss - before)
    print(dict(came))
    assert came["page"] > count / 20, "some mutations must still be pages"
    assert set(came) >= {
        "page",
        "XUnavailable",
        "CapReached",
        "WindowClosed",
        "CredentialRefused",
        "RequestRefused",
        "Overloaded",
    }, "all kinds of errors that mutated answers can mean must come"
    assert not strange, strange[:5]
    measure(f"kinds of strange errors in {count:,} answers", len(strange), at_most=0)
    measure("errors that hold a secret", leaks, at_most=0)
    measure.seconds(
        "longest wait for an answer in seconds, total timeout 3",
        longest,
        at_least=TOTAL_S - 0.1,
        at_most=TOTAL_S + 1,
    )
    measure("MB grown", grown / 1e6, at_most=200)


class Waited:
    """Seconds that passed and were not used for computing.

    Computing takes longer where others compute, too.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic() - time.process_time()

    @property
    def seconds(self) -> float:
        return time.monotonic() - time.process_time() - self._begun


def _use(page: Page, score: Callable[[str], float]) -> None:
    """Everything that is done with any page of posts before it is saved."""
    flattened = flatten(page.answer, score=score)
    for row in flattened.rows:
        assert isinstance(row["id"], int)
        assert 0 < row["id"] < 2**63
    learned = Walk(Hole(0, None)).learn(
        [row["id"] for row in flattened.rows],
        page.next_token,
        settled_below_id=settled_below(page.server_time_s),
    )
    assert learned.covered is None or 0 <= learned.covered[0] < learned.covered[1]
    assert isinstance(page.params, dict)
    assert all(isinstance(error, dict) for error in page.errors)


def test_A16_the_largest_answer_that_is_taken_takes_bounded_memory(
    tmp_path: Path, pages: Path, measure: Any
) -> None:
    """Just below the limit, and the worst for a parser: millions of empty objects."""
    program = (
        "from pathlib import Path\nfrom tweetcrawler import xapi\n"
        "def most():\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    return int(status.split('VmHWM:')[1].split()[0])\n"
        "body = b'{\"data\":[' + b'{},' * ((xapi.ANSWER_MAX_BYTES - 20) // 3) + b'{}]}'\n"
        "before = most()\nxapi._parse(body)\nprint(most() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    measure("MB for the worst 16 MB", int(done.stdout) / 1e3, at_most=600)


# -- files ---------------------------------------------------------------------------


def mutations(seed: str, originals: list[bytes], count: int) -> Iterator[bytes]:
    """Files with bytes flipped, cut, doubled, in other encodings."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.choice((1, 1, 2, 8))):
            match chance.randrange(8):
                case 0:
                    data = data[: chance.randrange(len(data) + 1)]
                case 1:
                    at = chance.randrange(len(data) + 1)
                    data[at:at] = chance.choice(
                        (
                            b'"',
                            b"'",
                            b",",
                            b"\n",
                            b"\r",
                            b"\0",
                            b"\xff",
                            b"\xef\xbb\xbf",
                            b"=",
                            b"[",
                        )
                    )
                case 2 if data:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                case 3:
                    data = bytearray(
                        bytes(data)
                        .decode(errors="replace")
                        .encode(chance.choice(("utf-16", "utf-32", "utf-8-sig")))
                    )
                case 4:
                    at = chance.randrange(len(data) + 1)
                    data[at:at] = data[chance.randrange(len(data) + 1) :]
                case 5:
                    data = data.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n\n", b"")))
                case 6:
                    at = chance.randrange(len(data) + 1)
                    data[at:at] = bytes(
                        chance.randrange(256) for _ in range(chance.choice((1, 5, 200)))
                    )
                case _:
                    data += b"x" * chance.choice((1, 2_000, 20_000))
        yield bytes(data[:200_000])


def _fuzz_files(
    folder: Path, originals: list[bytes], read: Callable[[Path], Any], *, count: int
) -> tuple[int, list[str], int]:
    """(files that were refused, strange errors, sentences with the canary)."""
    path = folder / "file"
    refused, strange, leaks = 0, [], 0
    for number, data in enumerate(mutations(f"{read.__name__}", originals, count)):
        path.write_bytes(data)
        path.chmod(0o600)
        try:
            said = str(read(path) or "")
        except ConfigurationError as error:
            refused += 1
            said = str(error)
        except TweetcrawlerError as error:
            said = str(error)
        except Exception as error:  # noqa: BLE001 - the very thing that is looked for
            strange.append(f"file {number}: {type(error).__name__}: {error}"[:300])
            continue
        leaks += CANARY in said
    return refused, strange, leaks


def test_F1_mutated_auth_files_bring_out_sentences_without_values(
    tmp_path: Path, measure: Any
) -> None:
    header = (
        b"consumer_key,consumer_secret,access_token,access_token_secret,bearer_token,name,proxy\n"
    )
    rows = b"".join(
        b",".join(b"%b%d%d" % (CANARY.encode(), n, c) for c in range(5)) + b",n%d,\n" % n
        for n in range(4)
    )

    def read(path: Path) -> str:
        return " ".join(read_credentials(path).notes)

    refused, strange, leaks = _fuzz_files(
        tmp_path, [header + rows, header + rows[:200]], read, count=1_200
    )
    print(f"{refused} of 1,200 refused")
    assert not strange, strange[:5]
    assert 50 < refused < 1_180
    measure("sentences with a value in 1,200 files", leaks, at_most=0)


def test_F1_mutated_tweet_ini_brings_out_sentences_without_values(
    tmp_path: Path, measure: Any
) -> None:
    example = (Path(__file__).resolve().parents[2] / "tweet.ini.example").read_bytes()
    small = (
        f'[Database]\ndbname = "tweets"\ndbuser = u\ndbpass = "{CANARY}"  # it\n'
        "dbhost = localhost\ndbport = 5432\n[Twitter]\nauthCSV = a.csv\n"
        "handlesFile = handles.txt\n[System]\nThreads = 4\nlogLevel = debug\n"
    ).encode()

    def read(path: Path) -> str:
        chosen = settings.parse(["-c", str(path)], environ={}, folder=tmp_path)
        return f"{chosen!r} {chosen.notes} {chosen.arguments_without_secrets()}"

    refused, strange, leaks = _fuzz_files(tmp_path, [small, small, example], read, count=800)
    print(f"{refused} of 800 refused")
    assert not strange, strange[:5]
    assert refused > 60
    measure("sentences with the password in 800 files", leaks, at_most=0)


def test_F3_mutated_lists_give_handles_and_reasons_only(tmp_path: Path, measure: Any) -> None:
    lines = (
        "ada\n@Grace_H\nhttps://x.com/alan\n# who\n../../etc/passwd\n\u202eevil\n\U0001f600\n"
        + "x" * 300
        + "\n"
    )

    def read(path: Path) -> None:
        reasons: list[str] = []
        found = list(read_handles(path, on_bad=lambda _, reason: reasons.append(reason)))
        assert all(handle.isascii() and 1 <= len(handle) <= 15 for handle in found)
        assert all(
            handle.replace("_", "a").isalnum() and handle == handle.lower() for handle in found
        )
        assert len(found) == len(set(found))
        assert all(len(reason) < 500 and reason.isprintable() for reason in reasons)
        count_lines(path)

    _, strange, _ = _fuzz_files(tmp_path, [lines.encode(), b"ada\r\nbob\r\n"], read, count=1_200)
    assert not strange, strange[:5]
    measure("strange errors or handles in 1,200 files", len(strange), at_most=0)


# -- files to import -----------------------------------------------------------------


class Archives:
    """Files to import around a bad place each, and their good posts."""

    def __init__(self, folder: Path, seed: str) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._next_id = 1
        self.good: dict[str, set[int]] = {}
        self.of_one_bad_line: list[str] = []
        folder.mkdir()

    def make(self, count: int) -> None:
        kinds = (
            self._bad_line,
            self._bad_line,
            self._bad_line,
            self._packed,
            self._cut_short,
            self._damaged,
            self._tar,
            self._cut_tar,
            self._zip,
            self._spread,
            self._noise,
        )
        for number in range(count):
            kinds[number % len(kinds)](f"{number:05}")

    # -- one file each ----------------------------------------------------------------

    def _bad_line(self, name: str) -> None:
        self._write(f"{name}.jsonl", *self._around_a_bad_line())
        self.of_one_bad_line.append(f"{name}.jsonl")

    def _packed(self, name: str) -> None:
        content, good = self._around_a_bad_line()
        ending, pack = self._chance.choice(PACKERS)
        self._write(f"{name}.jsonl.{ending}", pack(content), good)
        self.of_one_bad_line.append(f"{name}.jsonl.{ending}")

    def _cut_short(self, name: str) -> None:
        """What can be unpacked of it are whole posts, up to where it ends."""
        content, _ = self._good_lines(40)
        ending, pack = self._chance.choice(PACKERS[:2])
        packed = pack(content)
        packed = packed[: self._chance.randrange(len(packed) // 2, len(packed) - 12)]
        left = (
            zlib.decompressobj(wbits=31) if ending == "gz" else bz2.BZ2Decompressor()
        ).decompress(packed)
        whole = left[: left.rfind(b"\n") + 1].splitlines()
        self._write(f"{name}.jsonl.{ending}", packed, {_id_in(line) for line in whole})

    def _damaged(self, name: str) -> None:
        ending, pack = self._chance.choice(PACKERS)
        packed = bytearray(pack(self._good_lines(20)[0]))
        for _ in range(self._chance.choice((1, 3, 20))):
            packed[self._chance.randrange(len(packed))] ^= 1 << self._chance.randrange(8)
        self._write(f"{name}.jsonl.{ending}", bytes(packed), set())

    def _tar(self, name: str) -> None:
        """A member that is broken between two that are not."""
        first, good = self._good_lines(3)
        last, more = self._good_lines(3)
        broken = self._chance.choice(
            (gzip.compress(first)[:-20], bz2.compress(first)[5:], b"\x1f\x8b", b"\xff" * 900)
        )
        members = {"a.jsonl.gz": gzip.compress(first), "b.jsonl.gz": broken, "c/d.jsonl": last}
        self._write(f"{name}.tar", _as_tar(members), good | more)

    def _cut_tar(self, name: str) -> None:
        first, good = self._good_lines(3)
        whole = _as_tar({"a.jsonl": first, "b.jsonl": self._good_lines(20)[0]})
        end = 512 + len(first)  # of the first member, behind its header
        self._write(f"{name}.tar", whole[: self._chance.randrange(end + 1_024, end + 3_000)], good)

    def _zip(self, name: str) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("a.jsonl", self._good_lines(2)[0])
        self._write(f"{name}.json", file.getvalue(), set())  # it is said that it must be unpacked

    def _spread(self, name: str) -> None:
        """A page over many lines in which bytes are flipped."""
        page = json.loads(self._page(self._new_id()))
        data = bytearray(json.dumps(page, indent=self._chance.choice((None, 1, 4))).encode())
        for _ in range(self._chance.choice((1, 2, 9))):
            data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        self._write(f"{name}.json", bytes(data), set())

    def _noise(self, name: str) -> None:
        text = self._good_lines(3)[0].decode()
        noise: bytes = self._chance.choice(
            (
                self._chance.randbytes(3_000),
                b"",
                b"\0" * 5_000,
                text.encode("utf-16")[:-1],
                text.encode("utf-32"),
                b"[" * 200_000,
                b'{"a":' * 100_000,
                b"[" * 5_000 + b"]" * 5_000,
                b"\n" * 3_000,
                b"]}" * 999,
            )
        )
        self._write(f"{name}.json", noise, set())

    # -- their parts ------------------------------------------------------------------

    def _write(self, name: str, content: bytes, good: set[int]) -> None:
        (self._folder / name).write_bytes(content)
        self.good[name] = good

    def _around_a_bad_line(self) -> tuple[bytes, set[int]]:
        before, good = self._good_lines(self._chance.randint(1, 3))
        after, more = self._good_lines(self._chance.randint(1, 3))
        return before + self._bad().replace(b"\n", b" ") + b"\n" + after, good | more

    def _good_lines(self, count: int) -> tuple[bytes, set[int]]:
        ids = [self._new_id() for _ in range(count)]
        return b"".join(
            self._chance.choice((self._status, self._page))(id_) + b"\n" for id_ in ids
        ), set(ids)

    def _bad(self) -> bytes:
        line = self._chance.choice((self._status, self._page))(2**62)
        how = self._chance.randrange(8)
        if how == 0:
            return line[: self._chance.randrange(len(line))]
        if how == 1:
            return line[self._chance.randrange(len(line)) :]
        if how == 2:
            depth = self._chance.choice((900, 20_000, 200_000))
            return b'{"text":' + b"[" * depth + b"]" * self._chance.choice((0, depth)) + b"}"
        if how == 3:
            return line.replace(b"post", b"p" * self._chance.choice((70_000, 400_000)))
        if how == 4:
            return line * self._chance.choice((2, 3))
        if how == 5:
            return line.replace(
                b"post",
                self._chance.choice((b"\xff\xfe", b"\0", b"\\ud800", b'"', b"\\u0000", b"\r")),
            )
        if how == 6:
            return self._chance.choice(
                (
                    b"null",
                    b"[1,",
                    b'{"',
                    b"}",
                    b"[[",
                    b'{"data":[{"id":',
                    b'"text',
                    b"{},{}",
                    b"\x1f\x8b",
                )
            )
        changed = bytearray(line)
        for _ in range(self._chance.choice((1, 1, 3, 20))):
            changed[self._chance.randrange(len(changed))] ^= 1 << self._chance.randrange(8)
        return bytes(changed)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _status(self, id_: int) -> bytes:
        user = {"id_str": "5", "screen_name": "Ada", "name": "Ada"}
        entities = {"hashtags": [{"text": "fog", "indices": [0, 4]}], "urls": []}
        return json.dumps(
            {"id_str": str(id_), "text": f"post {id_}", "user": user, "entities": entities}
        ).encode()

    def _page(self, id_: int) -> bytes:
        post = {
            "id": str(id_),
            "text": f"post {id_}",
            "author_id": "5",
            "public_metrics": {"like_count": 1},
        }
        return json.dumps(
            {"data": [post], "includes": {"users": [{"id": "5", "username": "ada"}]}}
        ).encode()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gz", gzip.compress),
    ("bz2", bz2.compress),
    ("xz", lzma.compress),
    ("zst", zstandard.compress),
]


def _id_in(line: bytes) -> int:
    value = json.loads(line)
    return int(value["id_str"] if "id_str" in value else value["data"][0]["id"])


def _as_tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return file.getvalue()


def test_F6_broken_archives_cost_their_bad_places_only(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    _import(dsn, tmp_path, measure, seed="1", count=330)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_F6_five_thousand_broken_archives(dsn: str, tmp_path: Path, measure: Any) -> None:
    _import(dsn, tmp_path, measure, seed="long", count=5_000)


def _import(dsn: str, folder: Path, measure: Any, *, seed: str, count: int) -> None:
    archives = Archives(folder / "archives", seed)
    archives.make(count)
    argv, environ = command(dsn, folder / "archives", "--log-level", "debug")
    done = subprocess.run(
        argv, env=environ, cwd=folder, capture_output=True, timeout=900, check=False
    )
    said, warned = done.stdout.decode(), done.stderr.decode()
    print(said[-3_000:], warned[-2_000:])
    with psycopg.connect(dsn) as connection:
        stored = {
            row[0] for row in connection.execute("SELECT id FROM tweet_articles_tweepy").fetchall()
        }
    lost = {name: missing for name, good in archives.good.items() if (missing := good - stored)}
    rejected = Counter(
        Path(json.loads(line)["file"]).name
        for line in (folder / "import-rejects.jsonl").read_text("utf-8").splitlines()
    )
    print(
        f"{sum(map(len, archives.good.values())):,} good posts; {len(rejected)} files with "
        f"{rejected.total()} bad places"
    )
    measure("exit code", done.returncode, at_least=1, at_most=1)
    measure(
        "tracebacks and processes that died",
        warned.count("Traceback") + warned.count("process died"),
        at_most=0,
    )
    measure(
        f"files of {count:,} that are not told as imported",
        count - counts(said).get("imported", 0),
        at_most=0,
    )
    measure(
        "good posts beside a bad place that are missing", sum(map(len, lost.values())), at_most=0
    )
    most = max(rejected[name] for name in archives.of_one_bad_line)
    measure("lines of rejects for one bad line", most, at_most=1)
    assert rejected.total() > count / 3
