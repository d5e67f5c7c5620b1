"""`python -m tweetcrawler.local.embedded guard DATA BINARIES`: becomes a guardian."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tweetcrawler.local.embedded.folder import Folder
from tweetcrawler.local.embedded.guardian import guard


def _main(arguments: Sequence[str]) -> None:
    """`guard DATA BINARIES`: becomes a guardian that is nobody's child."""
    command, data, binaries = arguments
    # The called process ends at once and init adopts its child, which so outlives the program
    # that asked for the server.
    if command == "guard" and os.fork() == 0:
        guard(Folder(Path(data)), Path(binaries))


if __name__ == "__main__":
    _main(sys.argv[1:])
