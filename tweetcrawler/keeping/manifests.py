"""Manifests of segments, and the chain that they make.

A manifest tells what a closed segment holds. It names the segment before it by hash, so that
a missing segment is seen, and the segments that it replaces, so that a post can be taken out
of one without breaking the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import orjson

from tweetcrawler.errors import ConfigurationError

# Grows with every new key. An older program takes an unknown key for damage; by this number it
# can say what is to be done instead.
FORMAT = 1
DATA = ".jsonl.zst"
MANIFEST = ".manifest.json"
_MARK = "tweetcrawler segment"


class SegmentError(ConfigurationError):
    """A segment or its manifest cannot be used as it stands."""


@dataclass(frozen=True)
class Link:
    """A segment as another one names it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a closed segment holds.

    **Units**: `file_bytes` and `sha256` are of the file, `raw_bytes` and `raw_sha256` of the lines
    in it. Times are ISO 8601 in UTC. `posts` counts every post, `distinct` each id once.
    `position` is that of the last page. `replaces` are the hashes of earlier files with the same
    lines, before posts were blanked.
    """

    name: str
    kind: str
    node: str
    number: int
    program: str
    schema: str
    closed_at: str
    runs: tuple[int, ...]
    lines: int
    posts: int
    distinct: int
    lowest_id: int | None
    highest_id: int | None
    first_at: str | None
    last_at: str | None
    raw_bytes: int
    file_bytes: int
    # Another version of zstd makes other bytes of the same lines, so each has its hash.
    raw_sha256: str
    sha256: str
    position: int | None = None
    previous: Link | None = None
    replaces: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """The text of the manifest's file."""
        whole = {"what": _MARK, "format": FORMAT, **asdict(self)}
        # Indented for people: it may be all that tells of a segment when this program is gone.
        return orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n"


def manifest_of(text: bytes, where: str) -> Manifest:
    """The manifest in a file; `where` names the file in errors.

    **Errors**: `SegmentError` when it is foreign, damaged, or of a newer program.
    """
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        whole = None
    if not isinstance(whole, dict) or whole.pop("what", None) != _MARK:
        raise SegmentError(f"{where} is no manifest of tweetcrawler: move it elsewhere")
    written = whole.pop("format", None)
    if isinstance(written, int) and written > FORMAT:
        raise SegmentError(
            f"{where} has format {written}, this program reads up to {FORMAT}: "
            f"install the version that wrote it, or a newer one"
        )
    try:
        return _made(whole)
    except (TypeError, KeyError):
        raise SegmentError(f"{where} is damaged: fetch it again from where it was kept") from None


def _made(whole: Mapping[str, Any]) -> Manifest:
    previous = whole["previous"]
    return Manifest(
        **{
            **whole,
            "runs": tuple(whole["runs"]),
            "previous": Link(**previous) if previous else None,
            "replaces": tuple(whole["replaces"]),
        }
    )


def newest(manifests: Iterable[Manifest], kind: str, node: str) -> Manifest | None:
    """The last segment of a chain."""
    chain = [one for one in manifests if (one.kind, one.node) == (kind, node)]
    return max(chain, key=lambda one: one.number, default=None)


def chain_faults(manifests: Iterable[Manifest]) -> list[str]:
    """What is wrong with the chains, a sentence each; nothing for whole ones."""
    in_order = sorted(manifests, key=lambda one: (one.kind, one.node, one.number, one.name))
    faults: list[str] = []
    for _, chain in groupby(in_order, key=lambda one: (one.kind, one.node)):
        faults += _faults_of(list(chain))
    return faults


def _faults_of(chain: Sequence[Manifest]) -> list[str]:
    # A segment names the one before it by the file of that day, which may have been written
    # again since, without deleted posts.
    known = {one.sha256 for one in chain}.union(*(one.replaces for one in chain))
    faults = [
        f"segment {one.previous.name} is missing, {one.name} follows it: "
        f"find its two files and put them back"
        for one in chain
        if one.previous is not None and one.previous.sha256 not in known
    ]
    current = [one for one in chain if not _is_replaced(one, chain)]
    for number, twins in groupby(current, key=lambda one: one.number):
        names = [one.name for one in twins]
        if len(names) > 1:
            faults.append(
                f"{' and '.join(names)} are both number {number} of one chain: two programs "
                f"wrote under one node name, give each its own"
            )
    return faults


def _is_replaced(manifest: Manifest, chain: Sequence[Manifest]) -> bool:
    return any(manifest.sha256 in other.replaces for other in chain)
