"""Ids of posts: their bounds, and the time that each of them holds.

Since 4 November 2010 an id is a *snowflake*: milliseconds since an epoch of Twitter's own,
above 22 bits of machine and sequence. https://github.com/twitter-archive/snowflake
"""

from __future__ import annotations

from collections.abc import Iterable

# The largest id that PostgreSQL's bigint, SQLite's integer and X itself (a signed 64-bit
# number) can hold.
ID_MAX = 2**63 - 1
# Milliseconds since 1970 of the moment that a snowflake counts from.
EPOCH_MS = 1_288_834_974_657
# Ids below were given out one after the other and hold no time.
FIRST_DATED_ID = 30_000_000_000

DAY_S = 86_400.0


def id_at(time_ms: int) -> int:
    """The lowest post id of a moment, given in milliseconds since 1970 (UTC)."""
    return max(0, time_ms - EPOCH_MS) << 22


def time_ms_of(post_id: int) -> int:
    """The moment of a post id in milliseconds since 1970 (UTC).

    Nothing sensible for ids below `FIRST_DATED_ID`.
    """
    return (post_id >> 22) + EPOCH_MS


def warning_of(ids: Iterable[str | None]) -> str:
    """A warning about ids that were rounded, to be shown before anything is done; else "".

    A tenth of all ids end in 0, a ten-thousandth in 0000. Excel keeps 15 digits and fills
    up with zeros.
    """
    long = [one for one in ids if one and one.isdigit() and len(one) >= 16]
    rounded = sum(one.endswith("0000") for one in long)
    if rounded >= 2 and 5 * rounded >= 4 * len(long):
        return (
            f"{rounded:,} of the {len(long):,} ids looked at end in 0000: a spreadsheet has "
            "rounded them, and the posts they name are others; take the file from which the "
            "sheet was made"
        )
    return ""
