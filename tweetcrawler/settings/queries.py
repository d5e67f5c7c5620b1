"""Search queries of words and of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.queries import normalised
from tweetcrawler.secret import read_text


def read_queries(given: Sequence[str], path: Path | None) -> list[str]:
    """The normalised queries of the command line and of a file, each once, in their order.

    **Errors**: `ConfigurationError` when the file cannot be read, or there is none at all.
    """
    lines = read_text(path, "file of queries").splitlines() if path else []
    found = [query for query in given if query.strip()]
    # A hashtag may begin a query: only a # before white space begins a comment.
    found += [line for line in lines if line.strip() and not re.match(r"\s*#(\s|$)", line)]
    # The same query twice would be two claims on one target.
    queries = list(dict.fromkeys(normalised(query) for query in found))
    if not queries:
        raise ConfigurationError(
            f"there is no query in {path}; write one query on each line"
            if path
            else "the query is empty"
        )
    return queries
