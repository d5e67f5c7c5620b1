"""The end of the segments: whole frames as the reader writes them, and where each one ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tweetcrawler.keeping.lines import STREAM, counted
from tweetcrawler.keeping.manifests import DATA, MANIFEST
from tweetcrawler.keeping.segments import whole_frames


@dataclass(frozen=True)
class Position:
    """A place between two frames: the segment, and the bytes and lines before it."""

    name: str
    byte_offset: int = 0
    line: int = 0


@dataclass(frozen=True)
class Frame:
    """The lines of one frame, and the places before and after it."""

    lines: tuple[bytes, ...]
    begins: Position
    ends: Position


class Tail:
    """Reads the stream's segments of a folder from a place on."""

    def __init__(self, folder: Path, done: set[str], known: dict[str, Position]) -> None:
        self._folder, self._known = folder, known
        self._done = set(done)
        self._at: Position | None = None

    def frames(self) -> Iterator[Frame]:
        """The whole frames that are there now; each is given once."""
        while True:
            if self._at is None and not self._begin_next():
                return
            assert self._at is not None  # noqa: S101 - `_begin_next` has set it
            # Looked at before the frames: what is closed gets no more of them.
            is_closed = (self._folder / (self._at.name + MANIFEST)).exists()
            for frame in self._whole(self._at):
                self._at = frame.ends
                yield frame
            if not is_closed:
                return
            self._done.add(self._at.name)
            self._at = None

    def unread_posts(self) -> int:
        """The posts in frames that were not given yet."""
        names = self._names()
        first = self._at.name if self._at else None
        places = [self._at] if self._at else []
        places += [self._known.get(name, Position(name)) for name in names if name != first]
        return sum(
            counted(STREAM, line).posts
            for place in places
            for frame in self._whole(place)
            for line in frame.lines
        )

    def finished(self) -> set[str]:
        """The segments of which every frame was given."""
        return self._done

    def _begin_next(self) -> bool:
        name = next(iter(self._names()), None)
        if name is None:
            return False
        self._at = self._known.get(name, Position(name))
        return True

    def _names(self) -> list[str]:
        found = [path.name.removesuffix(DATA) for path in self._folder.glob(f"{STREAM}-*{DATA}")]
        # A name has its time first, and its number in the chain of its machine last.
        return sorted(name for name in found if name not in self._done)

    def _whole(self, place: Position) -> Iterator[Frame]:
        try:
            file = (self._folder / (place.name + DATA)).open("rb")
        except FileNotFoundError:
            return
        with file as source:
            source.seek(place.byte_offset)
            for frame, raw in whole_frames(source):
                lines = tuple(raw.split(b"\n")[:-1])
                after = Position(
                    place.name, place.byte_offset + len(frame), place.line + len(lines)
                )
                yield Frame(lines, place, after)
                place = after
