"""The command with which twarc2 makes a table of exported pages."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

# twarc-csv 0.7 leaves out all posts of a batch in which one has a field that is newer than it,
# unless the field is named. Its columns are those of 2023.
NEWER_FIELDS: Final = (
    "article.plain_text",
    "article.preview_text",
    "article.title",
    "author.is_identity_verified",
    "author.most_recent_tweet_id",
    "author.parody",
    "author.profile_banner_url",
    "author.public_metrics.like_count",
    "author.public_metrics.media_count",
    "author.subscription_type",
    "author.verified_followers_count",
    "card_uri",
    "community_id",
    "display_text_range",
    "geo.contained_within",
    "note_tweet.entities.hashtags",
    "note_tweet.entities.mentions",
    "note_tweet.entities.urls",
    "note_tweet.text",
    "scopes.followers",
)


def csv_command(pages: Path) -> str:
    """A line for a shell; twarc2 needs its plugin twarc-csv for it."""
    made = pages.with_suffix(".csv")
    fields = ",".join(NEWER_FIELDS)
    return shlex.join(["twarc2", "csv", "--extra-input-columns", fields, str(pages), str(made)])
