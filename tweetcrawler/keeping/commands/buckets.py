"""Options that several commands of the room take."""

from __future__ import annotations

from pathlib import Path

from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import text_of

ARCHIVE_FOLDER = option(
    "--archive-folder",
    metavar="FOLDER",
    type=Path,
    places=EVERYWHERE,
    help="folder of the segments on this machine",
)
S3_OPTIONS = (
    option(
        "--s3-endpoint",
        metavar="URL",
        type=text_of,
        places=EVERYWHERE,
        help="URL of an S3 server other than AWS",
        default="AWS",
    ),
    option(
        "--s3-region",
        metavar="NAME",
        type=text_of,
        places=EVERYWHERE,
        help="region of the bucket",
        default="that of the AWS configuration",
    ),
    option(
        "--s3-profile",
        metavar="NAME",
        type=text_of,
        places=EVERYWHERE,
        help="profile of the AWS configuration",
        default="default",
    ),
)
