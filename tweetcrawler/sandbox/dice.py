"""Chance that always falls the same way: numbers that follow from a key, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, shake_128
from typing import TypeVar

T = TypeVar("T")

_BYTES = 96
_GUARD = 1 << (_BYTES * 8)
_MASK = (1 << 64) - 1


class Dice:
    """A stream of numbers fixed by `key`; two dice of one key fall alike on every machine."""

    __slots__ = ("_key", "_pool", "_round")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._round = 0
        self._pool = int.from_bytes(shake_128(key).digest(_BYTES), "little") | _GUARD

    def below(self, n: int) -> int:
        """A whole number from 0 up to, not including, `n` (at most 65,536)."""
        pool = self._pool
        if pool < 0x20000:
            pool = self._refill()
        self._pool = pool >> 16
        return (pool & 0xFFFF) * n >> 16

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def chance(self, of_1000: int) -> bool:
        return self.below(1000) < of_1000

    def heavy(self, middle: float, most: int) -> int:
        """A count as counts on X are.

        Mostly around `middle`, now and then a hundred times that.
        """
        share = (self.below(65536) + 0.5) / 65536
        return min(most, int(middle * ((1 / share) ** 0.9 - 1)))

    def wide(self) -> int:
        """64 bits at once."""
        return (
            self.below(65536) << 48
            | self.below(65536) << 32
            | self.below(65536) << 16
            | self.below(65536)
        )

    def _refill(self) -> int:
        self._round += 1
        key = self._key + self._round.to_bytes(2, "little")
        return int.from_bytes(shake_128(key).digest(_BYTES), "little") | _GUARD


def stamp(*parts: object) -> int:
    """64 bits that follow from the parts."""
    key = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def mix(number: int, salt: int) -> int:
    """64 bits out of two numbers, fast enough for every post of a timeline."""
    x = (number * 0x9E3779B97F4A7C15 + salt) & _MASK
    x = (x ^ x >> 31) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 29) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 32
