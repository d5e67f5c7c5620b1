"""What a search should have brought, by the sandbox's own account, and what it cost."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from crawls import Crawler
from sandbox_server import Sandbox

from tweetcrawler import coverage

WEEK_S = 7 * 86_400.0
RECENT = "/2/tweets/search/recent"
ALL = "/2/tweets/search/all"


def now_of(sandbox: Sandbox) -> float:
    return float(sandbox.control("GET", "/sandbox/clock")["now"])


def matching(sandbox: Sandbox, query: str, above: int = 0, below: int = 2**63) -> list[int]:
    """All posts that match, ascending, between two ids (both exclusive)."""
    asked = urlencode({"query": query, "above": above, "below": below})
    return sorted(int(i) for i in sandbox.control("GET", f"/sandbox/search?{asked}")["ids"])


def covered(crawler: Crawler, query: str) -> list[coverage.Range]:
    return _ranges(crawler, query, "covered")


def unreachable(crawler: Crawler, query: str) -> list[coverage.Range]:
    return _ranges(crawler, query, "unreachable")


def _ranges(crawler: Crawler, query: str, column: str) -> list[coverage.Range]:
    rows = crawler.select(
        f"SELECT username, {column}::text FROM crawl_target WHERE kind = 'search'"
    )
    return coverage.from_text(dict(rows)[query])


def found(crawler: Crawler, query: str) -> list[int]:
    """What the search has found, as the store remembers it; each of it is a row."""
    rows = crawler.select(
        """
        SELECT k.username, f.tweet_id
        FROM crawl_found f
        JOIN crawl_target k ON k.id = f.target_id
        JOIN tweet_articles_tweepy t ON t.id = f.tweet_id
        ORDER BY 2
        """
    )
    return [tweet_id for name, tweet_id in rows if name == query]


def is_exact(crawler: Crawler, sandbox: Sandbox, query: str) -> list[int]:
    """Within the coverage every post that matches is stored, and none outside it; gives them."""
    ids = [
        i
        for lower, upper in covered(crawler, query)
        for i in matching(sandbox, query, lower - 1, upper)
    ]
    assert found(crawler, query) == sorted(ids)
    return ids


def lost(crawler: Crawler, sandbox: Sandbox) -> int:
    """Posts that were sold and whose page was never saved."""
    [(saved,)] = crawler.select("SELECT coalesce(sum(post_count), 0) FROM crawl_page")
    return int(sandbox.books()["posts_sold"]) - int(saved)


def requests_to(books: dict[str, Any], endpoint: str) -> dict[str, int]:
    """Answers of an endpoint by status, over all credentials."""
    total: dict[str, int] = {}
    for of in books["requests"].values():
        for status, count in of.get(endpoint, {}).items():
            total[status] = total.get(status, 0) + count
    return total
