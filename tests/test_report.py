"""The report: a page that holds everything itself, true to the store, and readable in a
real browser.
"""

from __future__ import annotations

import functools
import html.parser
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
from crawls import Crawler
from sandbox_server import Sandbox

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
IN_CI = os.environ.get("CI") == "true"
needs_charts = pytest.mark.skipif(
    importlib.util.find_spec("vl_convert") is None and not IN_CI,
    reason="the extra `report` is not installed",
)
needs_browser = pytest.mark.skipif(CHROMIUM is None and not IN_CI, reason="there is no Chromium")
HANDLES = [*(f"writer_{n}" for n in range(8)), "gone_one"]
EVIL = '<script>alert(1)</script> & "quotes" | $title'


@pytest.fixture(scope="module")
def collected(
    server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crawler]:
    """A collection with a depth limit, an interrupted walk, a missing user, a search and
    two days of spending.
    """
    from databases import made

    for dsn in made(server_dsn, template):
        with Sandbox("--credentials", "2", "--posts", "30-400") as sandbox:
            crawler = Crawler.on(sandbox, tmp_path_factory.mktemp("report"), dsn, HANDLES)
            crawler.run(expect=1)
            sandbox.control(
                "POST", "/sandbox/world", {"user": "writer_0", "add_posts": 250, "age_s": 90}
            )
            crawler.write_handles(["writer_0"])
            crawler.run("--max-posts", "120", expect=5)
        with Sandbox("--credentials", "1", "--posts", "3600-3600", "--seed", "2") as sandbox:
            Crawler.on(sandbox, tmp_path_factory.mktemp("more"), dsn, ["prolific"]).run()
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "UPDATE crawl_page SET fetched_at = fetched_at - interval '2 days' WHERE run_id = 1"
            )
            connection.execute(
                "UPDATE crawl_target SET state_reason = %s WHERE handle = 'gone_one'", [EVIL]
            )
        yield crawler


@pytest.fixture(scope="module")
def page(collected: Crawler) -> Path:
    collected.run("report", "--html", "page.html")
    return collected.folder / "page.html"


class Outline(html.parser.HTMLParser):
    """What a page refers to and is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action")
        ]


@needs_charts
def test_the_page_needs_nothing_but_itself(page: Path) -> None:
    text = page.read_text()
    outline = Outline(text)
    assert outline.addresses == []
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert "url(" not in text
    assert outline.tags.count("figure") == 3
    assert "default-src 'none'" in text
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "$title" not in text.replace("| $title", "")


@needs_charts
def test_the_page_says_what_the_store_holds(collected: Crawler, page: Path) -> None:
    text = page.read_text()
    posts = len(collected.stored_ids())
    assert f"Collection of {posts:,} posts from X" in text
    assert "X gives only about the 3200 newest posts" in text
    assert "the budget of this run (120 posts) is used up" in text
    assert "10 timelines of users" in text
    assert "<td class=n>$" in text
    picture = text.partition('aria-label="From when to when')[2].partition("</svg>")[0]
    shown = {
        name
        for name in ("--covered", "--hole", "--lost", "--waiting")
        if f'fill="var({name})"' in picture
    }
    assert shown == {"--covered", "--hole", "--lost", "--waiting"}
    assert "@prolific" in picture


def test_markdown_says_the_same_and_needs_no_charts(collected: Crawler) -> None:
    collected.run("report", "--markdown", "report.md")
    text = (collected.folder / "report.md").read_text()
    assert f"# Collection of {len(collected.stored_ids()):,} posts" in text
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert titles[:3] == ["what was collected", "completeness", "posts by day"]
    assert titles[-2:] == ["methods", "parameters of the requests"]
    assert re.search(
        r"collected with tweetcrawler \S+ from version 2 of the X API between 20", text
    )
    assert not re.search(r"\b(XUnavailable|WindowClosed|\w+Refused|CapReached)\b", text)
    shown = collected.run("status", "writer_1", "--json").stdout
    until = json.loads(shown)["found"][0]["complete_until"]
    assert f"| {until[:10]} {until[11:16]} |" in text, "status and report agree"
    assert "<script>" not in text.replace("\\<script\\>", "")
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table
    [spent] = re.findall(r"^\| all \|.*\| \$([\d,.]+) \|$", text, re.MULTILINE)
    [(posts, users)] = collected.select(
        "SELECT sum(post_count)::int, sum(user_count)::int FROM crawl_page"
    )
    assert float(spent.replace(",", "")) == pytest.approx(posts * 0.005 + users * 0.01, abs=0.01)


def test_an_empty_store_has_a_report_too(dsn: str, tmp_path: Path) -> None:
    crawler = Crawler(tmp_path, dsn=dsn)
    crawler.run("report", "--markdown", "report.md")
    assert "Collection of 0 posts" in (tmp_path / "report.md").read_text()
    if importlib.util.find_spec("vl_convert"):
        crawler.run("report")
        assert "no posts yet" in (tmp_path / "report.html").read_text()


def test_a_place_that_cannot_be_written_is_named(dsn: str, tmp_path: Path) -> None:
    done = Crawler(tmp_path, dsn=dsn).run("report", "--markdown", "none/report.md", expect=2)
    assert "none/report.md cannot be written" in done.stderr


# -- in a browser --------------------------------------------------------------------


class Asked(SimpleHTTPRequestHandler):
    paths: list[str] = []  # noqa: RUF012 - one server a test

    def do_GET(self) -> None:
        self.paths.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        return


def browse(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None, "CI has a Chromium"
    return subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={folder / 'profile'}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=folder,
    )


@needs_charts
@needs_browser
def test_a_browser_shows_it_without_complaint_in_light_and_dark(page: Path, tmp_path: Path) -> None:
    """Served over HTTP, so that whatever the page asked for would be seen; the page itself
    is all.
    """
    Asked.paths = []
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Asked, directory=str(page.parent))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/{page.name}"
        for name, scheme in (("light", "1"), ("dark", "0")):
            done = browse(
                tmp_path,
                f"--screenshot={tmp_path / name}.png",
                "--window-size=1000,1350",
                "--hide-scrollbars",
                "--enable-logging=stderr",
                f"--blink-settings=preferredColorScheme={scheme}",
                address,
            )
            assert "CONSOLE" not in done.stderr, done.stderr
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert {path for path in Asked.paths if path != "/favicon.ico"} == {f"/{page.name}"}
    light, dark = colours(tmp_path / "light.png"), colours(tmp_path / "dark.png")
    assert max(light, key=light.__getitem__) == (255, 255, 255)
    assert max(dark, key=dark.__getitem__) == (0x14, 0x18, 0x1D)
    for seen, wanted in (
        (
            light,
            {
                (0x1A, 0x7F, 0x5A): "complete",
                (0xCF, 0x22, 0x2E): "hole",
                (0xB7, 0x79, 0x1F): "not given",
            },
        ),
        (
            dark,
            {
                (0x3F, 0xB9, 0x8A): "complete",
                (0xFF, 0x6B, 0x66): "hole",
                (0xE0, 0xA8, 0x3E): "not given",
            },
        ),
    ):
        for colour, meaning in wanted.items():
            # Of the legend alone it would be fewer.
            assert seen.get(colour, 0) > 60, f"{meaning} is not to be seen"


@needs_charts
@needs_browser
def test_it_prints_in_light_whatever_the_reader_prefers(page: Path, tmp_path: Path) -> None:
    browse(
        tmp_path,
        f"--print-to-pdf={tmp_path / 'page.pdf'}",
        "--no-pdf-header-footer",
        "--blink-settings=preferredColorScheme=0",
        page.as_uri(),
    )
    pdf = (tmp_path / "page.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8
    drawn = b"".join(map(inflated, re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)))
    assert b".0784" not in drawn, "the dark paper's red is on no page"


def inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


def colours(path: Path) -> dict[tuple[int, int, int], int]:
    """How often each colour is in a PNG of 8 bits, RGB or RGBA, as Chromium writes it."""
    content = path.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    chunks, position = b"", 8
    while position < len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        if content[position + 4 : position + 8] == b"IDAT":
            chunks += content[position + 8 : position + 8 + length]
        position += length + 12
    raw, line = zlib.decompress(chunks), width * size + 1
    found: dict[tuple[int, int, int], int] = {}
    above = bytearray(width * size)
    for row in range(height):
        method, here = raw[row * line], bytearray(raw[row * line + 1 : (row + 1) * line])
        unfilter(method, here, above, size)
        if row % 2 == 0:
            for n in range(0, width * size, size):
                colour = (here[n], here[n + 1], here[n + 2])
                found[colour] = found.get(colour, 0) + 1
        above = here
    return found


def unfilter(method: int, here: bytearray, above: bytearray, size: int) -> None:
    """Undoes the filter of one line of a PNG."""
    for n in range(len(here)) if method else ():
        left = here[n - size] if n >= size else 0
        corner = above[n - size] if n >= size else 0
        if method == 1:
            guess = left
        elif method == 2:
            guess = above[n]
        elif method == 3:
            guess = (left + above[n]) // 2
        else:
            paeth = left + above[n] - corner
            guess = min((left, above[n], corner), key=lambda one: abs(paeth - one))
        here[n] = (here[n] + guess) & 255
