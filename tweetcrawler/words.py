"""Counts with their nouns, in the singular where there is one thing."""

from __future__ import annotations


def plural(count: int, noun: str, several: str = "") -> str:
    """`1 post`, `2,000 posts`; `several` is a plural that does not end with s alone."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"
