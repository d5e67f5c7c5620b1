"""`python -m tweetcrawler` is the same as `tweetcrawler`."""

import sys

from tweetcrawler.cli import main

if __name__ == "__main__":
    sys.exit(main())
