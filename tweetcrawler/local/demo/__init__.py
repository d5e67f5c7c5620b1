"""Demo on any machine: a sandbox instead of X, a private PostgreSQL, a real crawl.

Nothing here is a shortcut: the crawl is the command that an operator runs, in a process of
its own, with a tweet.ini, an auth CSV and a handles file that are left to look at.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import LiteralString

from tweetcrawler import scratch
from tweetcrawler.db import Database
from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.local import embedded, start

Say = Callable[[str], None]

# Small windows that turn often, so that waiting for them can be seen.
_CREDENTIALS = 4
_SANDBOX = (
    "--credentials",
    str(_CREDENTIALS),
    "--window-s",
    "8",
    "--limit",
    "/2/users/:id/tweets=8/8",
)
_SANDBOX_ENDS_S = 30

_QUERIES: dict[str, LiteralString] = {
    "who writes most": """
        SELECT tweet_from, count(*) AS tweets, sum(favorite_count) AS likes
        FROM tweet_articles_tweepy GROUP BY 1 ORDER BY 2 DESC LIMIT 5""",
    "which hashtags they use": """
        SELECT tag, count(*) AS tweets, round(avg(sentiment), 2) AS mood
        FROM tweet_articles_tweepy, unnest(hashtags::text[]) AS tag
        GROUP BY 1 ORDER BY 2 DESC LIMIT 5""",
    "whom they retweet": """
        SELECT retweeted_status_user_handle AS author, count(*) AS retweets
        FROM tweet_articles_tweepy WHERE retweeted_status_id IS NOT NULL
        GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5""",
}


def run(keep: Path | None, *, say: Say) -> int:
    """Runs the demo in the folder `keep`, or in a temporary one; gives the exit code.

    **Errors**: what the parts raise: no binaries of PostgreSQL, no sandbox.
    """
    say("Starting a private PostgreSQL and a sandbox …")
    with (
        _folder(keep) as folder,
        embedded.lend(start.data_folder(folder)) as url,
        # Kept files name the sandbox, so its port must be the same when it is started again.
        _sandbox(folder, start.free_port() if keep else 0) as api_url,
    ):
        _write_settings(folder, api_url)
        say(f"A sandbox stands in for X at {api_url}, a private PostgreSQL for your own.")
        say(f"In {folder}:  tweetcrawler -c tweet.ini\n")
        crawl = subprocess.run(
            [sys.executable, "-m", "tweetcrawler", "-c", "tweet.ini"], cwd=folder, check=False
        )
        if crawl.returncode not in (0, 1):  # some of the shipped handles are gone on purpose
            return crawl.returncode
        for title, query in _QUERIES.items():
            say(f"\n{title}:{query}\n")
            _say_answer(*_answer(Database(url), query), say=say)
    say(_next_steps(keep, folder, api_url))
    return 0


def _answer(database: Database, query: LiteralString) -> tuple[list[str], list[tuple[object, ...]]]:
    """The column names and rows of a query."""
    with database.connect() as connection:
        cursor = connection.execute(query)
        return [column.name for column in cursor.description or ()], cursor.fetchall()


def _say_answer(names: list[str], rows: list[tuple[object, ...]], *, say: Say) -> None:
    table = [names, *([str(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        say(
            "    "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _next_steps(keep: Path | None, folder: Path, api_url: str) -> str:
    program = start.program()
    own = f"With your own keys, in a folder of your own: {program} init"
    if keep is None:
        return f"\nTo keep the files and the rows: {program} demo --keep demo\n{own}"
    port = api_url.rpartition(":")[2]
    return (
        f"\nThe rows and files stay in {folder}. To go on with them:\n"
        f"  cd {folder}\n"
        f"  {program} sandbox --port {port} --credentials {_CREDENTIALS}   # in another terminal\n"
        f"  {program} -c tweet.ini     # the crawl again: nothing is bought twice\n"
        f"  {program} -c tweet.ini db psql   # to query them\n{own}"
    )


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    folder = scratch.new_folder()
    folder.chmod(0o755)  # root's server runs as somebody else, who has to reach its data in it
    try:
        yield folder
        embedded.Server(start.data_folder(folder)).stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_settings(folder: Path, api_url: str) -> None:
    for name in ("handles.txt", "tweet.ini.example"):
        (folder / name).write_text(
            resources.files(__name__).joinpath(name).read_text("utf-8"), "utf-8"
        )
    (folder / "tweet.ini").write_text(
        "[Database]\n"
        "dbhost = embedded        # a private PostgreSQL; name your own with dbhost, dbname, "
        "dbuser, dbpass\n"
        f'dataFolder = "{start.data_folder(folder)}"\n\n'
        "[Twitter]\n"
        "authCSV = auth.csv       # one row a credential\n"
        "handlesFile = handles.txt\n"
        f"apiURL = {api_url}       # the sandbox; without this line it is X\n",
        "utf-8",
    )


@contextlib.contextmanager
def _sandbox(folder: Path, port: int) -> Iterator[str]:
    auth, handles = folder / "auth.csv", str(resources.files(__name__).joinpath("handles.txt"))
    command = [
        sys.executable,
        "-m",
        "tweetcrawler",
        "sandbox",
        "--port",
        str(port),
        "--write-auth",
        str(auth),
    ]
    with subprocess.Popen(
        [*command, "--handles", handles, *_SANDBOX], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            # It says its address once it listens, and nothing when it fails.
            line = process.stdout.readline()
            if not line:
                raise TweetcrawlerError("the sandbox did not start; what it said stands above")
            yield line.split()[-1]
        finally:
            process.terminate()
            process.wait(_SANDBOX_ENDS_S)
