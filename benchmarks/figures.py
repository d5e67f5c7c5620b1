"""Tables of figures: medians with their spread, and ratios of paired runs."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """A median with the smallest and the largest of its repetitions."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def shown(self, digits: int = 2) -> str:
        """`3.42 (3.10-3.61)`; without a spread where there is one value."""
        spread = (
            f" ({min(self.values):,.{digits}f}-{max(self.values):,.{digits}f})"
            if len(self.values) > 1
            else ""
        )
        return f"{self.median:,.{digits}f}{spread}"


def ratio(these: Sequence[float], those: Sequence[float]) -> Figure:
    """Each of these by the one of those that ran beside it in the same round."""
    return Figure(tuple(a / b for a, b in zip(these, those, strict=True)))


def interleaved(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Runs every way once a round: what disturbs the machine disturbs all of them."""
    results: dict[str, list[T]] = {name: [] for name in ways}
    for number in range(rounds):
        names = sorted(ways, key=list(ways).index, reverse=number % 2 == 1)
        for name in names:
            begun = time.perf_counter()
            results[name].append(ways[name]())
            sys.stderr.write(f"round {number + 1}: {name}: {time.perf_counter() - begun:.1f} s\n")
    return results


@dataclass
class Table:
    """One measurement as text for the reader and as values for the file.

    Its targets are met or missed.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    targets: list[tuple[str, bool]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def target(self, sentence: str, met: bool) -> None:
        """Whether a target is reached, with the figure in the sentence."""
        self.targets.append((sentence, met))

    def shown(self) -> str:
        """The table in Markdown."""
        widths = [
            max(len(str(row[at])) for row in [self.columns, *self.rows])
            for at in range(len(self.columns))
        ]

        def line(cells: Sequence[str]) -> str:
            return (
                "| "
                + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths, strict=True))
                + " |"
            )

        lines = [f"## {self.title}", ""]
        if self.rows:
            lines += [line(self.columns), "|" + "|".join("-" * (w + 2) for w in widths) + "|"]
            lines += [line(row) for row in self.rows] + [""]
        lines += [f"* {'met' if met else 'MISSED'}: {sentence}" for sentence, met in self.targets]
        lines += [f"* {note}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def as_plain(self) -> dict[str, Any]:
        """What the JSON file holds."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "values": self.values,
            "targets": [{"target": sentence, "met": met} for sentence, met in self.targets],
            "notes": self.notes,
        }


def keep(folder: Path, tables: Sequence[Table], about: Mapping[str, Any]) -> None:
    """Writes `<name>.json` and `<name>.md` of each table; what others measured before stays."""
    folder.mkdir(exist_ok=True)
    for table in tables:
        plain = {"about": dict(about), **table.as_plain()}
        (folder / f"{table.name}.json").write_text(json.dumps(plain, indent=1) + "\n")
        (folder / f"{table.name}.md").write_text(table.shown())
