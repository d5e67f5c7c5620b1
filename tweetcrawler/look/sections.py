"""Sections of an answer, for a terminal, a Markdown file and a page alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True)
class Section:
    """A title, sentences, and a table whose cells are text; columns in `right` hold numbers."""

    title: str
    sentences: Sequence[str] = ()
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    right: frozenset[int] = field(default_factory=frozenset)


def as_markdown(sections: Iterable[Section], *, level: int = 2) -> str:
    """The sections as GitHub's Markdown."""
    lines: list[str] = []
    for section in sections:
        lines += ["#" * level + " " + _inline(section.title), ""]
        lines += [f"- {_inline(sentence)}" for sentence in section.sentences]
        lines += [""] if section.sentences else []
        if section.rows:
            rule = ["---:" if n in section.right else "---" for n in range(len(section.headings))]
            lines += [
                _row(section.headings),
                "| " + " | ".join(rule) + " |",
                *map(_row, section.rows),
                "",
            ]
    return "\n".join(lines)


def moment(seconds: float | None) -> str:
    """A time (seconds since 1970) as `2026-11-21 03:45`, UTC; a dash for None."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return "-"


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `5 h 10 min`, `12 days`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 3 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86_400:,.1f} days"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_inline(cell) for cell in cells) + " |"


def _inline(text: str) -> str:
    """Text that Markdown takes for nothing else: it comes from X and may hold anything."""
    plain = " ".join(text.split())
    for sign in "\\|`*<>[]":
        plain = plain.replace(sign, "\\" + sign)
    return plain
