"""The program's first lines: Ctrl-C is answered before anything else is loaded."""

import sys

# What the module signal stands on. It is there when Python begins; signal would be loaded.
from _signal import SIG_DFL, SIGINT, signal  # type: ignore[import-not-found] # no stub


def main() -> int:
    """Runs one command and gives its exit code, see `--help`."""
    # There is nothing to save yet, or no more: a signal ends the program in silence. Python's
    # own way is a traceback out of the middle of an import.
    signal(SIGINT, SIG_DFL)
    from tweetcrawler import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
