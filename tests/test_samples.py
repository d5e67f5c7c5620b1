"""Samples of output in the pages say what the program says.

A sample is a block of text in a page. Each of its words must come from a message of the
program: a string in its source, with the values left open.
"""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from crawls import Crawler

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
GENERATED = re.compile(r"<!-- [\w ]+: made by .*?<!-- end of [\w ]+ -->", re.DOTALL)
WORD = re.compile(r"[A-Za-z]{2,}")
# Names, addresses, paths, numbers with units and log levels: values, not words of a message.
VALUE = re.compile(
    r"\S*[@/_#]\S*|'[^']*'|\([a-z]+\)|[\d.,:$+-]*\d\S*( (?:s|min|h|kB|MB)\b)?"
    r"|\b(?:c\d+|INFO|WARNING)\b"
)
# The longest value that a message may hold.
HOLE = "(.{0,120}?)"


@dataclass(frozen=True)
class Message:
    """A string of the program: its fixed pieces, between which values stand."""

    pieces: tuple[str, ...]
    pattern: re.Pattern[str]
    words: int

    def covers(self, line: str) -> set[int]:
        """The positions of a line that this message accounts for; values only in a message
        of some length, since two words alone fit nearly everywhere.
        """
        found: set[int] = set()
        if not all(piece in line for piece in self.pieces):
            return found  # the pattern is slow
        for match in self.pattern.finditer(line):
            found |= set(range(*match.span()))
            if self.words < 4:
                for hole in range(1, self.pattern.groups + 1):
                    found -= set(range(*match.span(hole)))
        return found


class _Strings(ast.NodeVisitor):
    """The pieces of all strings of a module; docstrings are none of them."""

    def __init__(self) -> None:
        self.found: list[list[str]] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pieces = [""]
        for value in node.values:
            if isinstance(value, ast.Constant):
                pieces[-1] += str(value.value)
            else:
                pieces.append(_noun_of(value))
                self.visit(value)
        self.found.append(pieces)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.append(re.split(r"%\.?\d*[sdf]|\{\w*\}", node.value))


def _noun_of(value: ast.expr) -> str:
    """What stands after the count of `{plural(count, "post")}`; empty for any other value."""
    match value:
        case ast.FormattedValue(ast.Call(ast.Name("plural"), [_, *nouns])):
            *_, last = [str(noun.value) for noun in nouns if isinstance(noun, ast.Constant)]
            return f" {last}" if len(nouns) > 1 else f" {last}s"
    return ""


def message_of(pieces: list[str]) -> Message | None:
    """The message of the pieces of a string; None when there is no word in them."""
    fixed = tuple(
        " ".join(found[0].split())
        for piece in pieces
        if (found := re.search(r"[A-Za-z](.*[A-Za-z])?", piece, re.DOTALL))
    )
    if not fixed:
        return None
    # A value may follow without a space: the plural of `day{s}`.
    follows = len(pieces) > 1 and not WORD.search(pieces[-1]) and pieces[-2][-1:].isalpha()
    end = "" if follows else "(?![A-Za-z])"
    pattern = re.compile("(?<![A-Za-z])" + HOLE.join(map(re.escape, fixed)) + end)
    return Message(fixed, pattern, sum(len(re.findall("[A-Za-z]+", piece)) for piece in fixed))


@functools.cache
def messages() -> list[Message]:
    """All messages of the program and of its sandbox, which words X's."""
    strings = _Strings()
    for path in (ROOT / "tweetcrawler").rglob("*.py"):
        strings.visit(ast.parse(path.read_text("utf-8")))
    prices = tomllib.loads((ROOT / "tweetcrawler" / "prices.toml").read_text("utf-8"))
    titles = [[tariff["title"]] for tariff in prices["tariffs"].values()]
    made = {tuple(pieces): message_of(pieces) for pieces in [*strings.found, *titles]}
    return [message for message in made.values() if message is not None]


def unknown_words(line: str) -> list[str]:
    """The words of a line that no message of the program has."""
    line = " ".join(line.split())
    covered: set[int] = set()
    for value in VALUE.finditer(line):
        covered |= set(range(*value.span()))
    for message in messages():
        covered |= message.covers(line)
    return [word[0] for word in WORD.finditer(line) if word.start() not in covered]


def samples() -> Iterator[tuple[Path, str]]:
    """The blocks that show what the program prints: no answers of SQL, no files, no JSON."""
    for page in PAGES:
        text = GENERATED.sub("", page.read_text("utf-8"))
        before, end = "", 0
        for fence in FENCE.finditer(text):
            follows_sql = before == "sql" and not text[end : fence.start()].strip()
            before, end = fence["language"], fence.end()
            is_file = re.match(r"\s*(\{|\d+ \d+ |name,|consumer_key|ada_writes)", fence["text"])
            if before == "text" and not follows_sql and not is_file:
                yield page, fence["text"]


def test_samples_are_found() -> None:
    """The test below must not pass because nothing was found."""
    found = list(samples())
    assert len(found) >= 10
    assert {page.name for page, _ in found} >= {"README.md", "how-to.md", "quickstart.md"}


@pytest.mark.parametrize(
    ("page", "sample"), list(samples()), ids=lambda value: " ".join(str(value).split())[:40]
)
def test_every_word_of_a_sample_is_in_a_message_of_the_program(page: Path, sample: str) -> None:
    lines = {line: unknown_words(line) for line in sample.splitlines()}
    assert {line: words for line, words in lines.items() if words} == {}, page.name


@pytest.mark.parametrize(
    "line",
    [
        "12 new rows, 0 updated; 12 articles and 0 users read, about $0.06; 0.3 s",
        "tweetcrawler: the database tweets at 127.0.0.1:5432 lacks its schema: run it first",
        "@ada: vanished: the reason",
    ],
)
def test_a_line_that_the_program_does_not_print_is_noticed(line: str) -> None:
    assert unknown_words(line) != []


def test_the_line_of_a_database_without_tables_is_the_program_s(
    empty_dsn: str, tmp_path: Path
) -> None:
    """Word for word, but for the name and the address of the database."""
    auth_csv = tmp_path / "auth.csv"
    auth_csv.write_text("bearer_token\nNOT-A-TOKEN\n")
    auth_csv.chmod(0o600)
    crawler = Crawler(tmp_path / "own", dsn=empty_dsn, auth_csv=auth_csv, handles=["ada"])
    done = crawler.run(expect=3)
    [sample] = [text for _, text in samples() if "has no schema yet" in text]

    def nameless(text: str) -> str:
        return re.sub(r"database \S+ at \S+ has", "database has", text).strip()

    assert nameless(sample) in nameless(done.stderr)
