"""`python -m tweetcrawler.sandbox`: the server's own command line."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.sandbox import Options, serve

PLANS = ("ppu", "pro", "basic", "unlimited")


def main(argv: list[str] | None = None) -> int:
    """Serves until it is told to end; gives the exit code."""
    options = parse(argv)
    # It speaks no TLS, and aiohttp takes a fifth of its start for reading this machine's
    # authorities.
    os.environ.setdefault("SSL_CERT_FILE", os.devnull)
    try:
        serve(options, ready=_say_address)
    except TweetcrawlerError as error:
        print(error, file=sys.stderr)  # noqa: T201  this is a command
        return error.exit_code
    return 0


def parse(argv: list[str] | None) -> Options:
    """The options of a command line; exits with usage when they cannot be understood."""
    given = _parser().parse_args(argv)
    return Options(
        host=given.host,
        port=given.port,
        seed=given.seed,
        window_s=given.window_s,
        posts=given.posts,
        credentials=given.credentials,
        shared_app=given.shared_app,
        shared_project=given.shared_project,
        write_auth=given.write_auth,
        plan=given.plan,
        limits=dict(given.limit),
        latency_ms=given.latency_ms,
        gzip=given.gzip,
        recorded=given.recorded,
        handles=given.handles,
        cap=given.cap,
        credits_usd=given.credits,
        short_pages_of_1000=given.short_pages,
        compliance_s=given.compliance_s,
        growing=given.growing,
        fast=given.fast,
    )


def _say_address(url: str) -> None:
    # Printed: the address is the result that was asked for.
    print(f"sandbox listens on {url}", flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tweetcrawler sandbox",
        allow_abbrev=False,
        description=(
            "A local server that behaves like X's API v2. Any handle works: its posts follow "
            "from the seed."
        ),
    )
    _add_server(parser.add_argument)
    _add_accounts(parser.add_argument)
    _add_world(parser.add_argument)
    return parser


def _add_server(add: Callable[..., object]) -> None:
    add(
        "--host",
        default="127.0.0.1",
        type=_loopback,
        help="loopback address to listen on (127.0.0.1)",
    )
    add("--port", default=0, type=int, help="port to listen on; 0 takes a free one")
    add("--latency-ms", default=0, type=float, metavar="MS", help="wait so long before each answer")
    add(
        "--gzip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compress for clients that accept it",
    )


def _add_accounts(add: Callable[..., object]) -> None:
    add(
        "--window-s",
        default=900,
        type=_seconds,
        metavar="S",
        help="length of a rate-limit window, in whole seconds (900)",
    )
    add(
        "--credentials", default=5, type=int, metavar="N", help="how many credentials there are (5)"
    )
    add("--shared-app", action="store_true", help="all credentials are tokens of one app")
    add(
        "--shared-project", action="store_true", help="all apps belong to one project, with one cap"
    )
    add(
        "--write-auth", type=Path, metavar="FILE", help="write the credentials there as an auth CSV"
    )
    add("--plan", default="ppu", choices=PLANS, help="whose rate limits apply (ppu)")
    add(
        "--limit",
        action="append",
        default=[],
        type=_limit,
        metavar="ENDPOINT=APP/USER",
        help=(
            "requests per window of one endpoint, such as /2/users/:id/tweets=20/10; "
            "may be repeated"
        ),
    )
    add("--cap", type=int, metavar="POSTS", help="posts that a project may read in a month")
    add("--credits", type=float, metavar="USD", help="credits that each project has")


def _add_world(add: Callable[..., object]) -> None:
    add("--seed", default="1", help="what the world follows from")
    add(
        "--posts",
        type=_range,
        metavar="MIN-MAX",
        help="posts per user (0-600, a few with up to 3,900)",
    )
    add(
        "--recorded",
        type=Path,
        metavar="FOLDER",
        help="serve the users and tweets of recorded v2 answers instead",
    )
    add(
        "--handles",
        type=Path,
        metavar="FILE",
        help="handles that are known from the start, one per line",
    )
    add("--growing", action="store_true", help="counts of posts grow with their age")
    add(
        "--compliance-s",
        default=2.0,
        type=float,
        metavar="S",
        help="how long a compliance job takes (2)",
    )
    add(
        "--short-pages",
        default=30,
        type=int,
        metavar="OF_1000",
        help="how many pages in 1000 hold fewer posts than asked for although more follow (30)",
    )
    add(
        "--fast",
        action="store_true",
        help="pages made beforehand, endless for every user without --posts; for benchmarks",
    )


def _loopback(text: str) -> str:
    try:
        if text == "localhost" or ipaddress.ip_address(text).is_loopback:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"{text} is not a loopback address; the sandbox hands out its keys freely, so it listens "
        "on this machine only"
    )


def _seconds(text: str) -> int:
    seconds = float(text)
    # X tells the end of a window in whole seconds. Of one that lasts for a fraction more it
    # would tell an end up to two seconds early, and who believes it asks too soon.
    if seconds <= 0 or seconds != int(seconds):
        raise argparse.ArgumentTypeError("a window lasts for one or more whole seconds")
    return int(seconds)


def _range(text: str) -> tuple[int, int]:
    least, dash, most = text.partition("-")
    try:
        found = int(least), int(most if dash else least)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a range such as 0-600") from None
    if not 0 <= found[0] <= found[1] <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a range such as 0-600")
    return found


def _limit(text: str) -> tuple[str, tuple[int, int]]:
    endpoint, _, numbers = text.rpartition("=")
    app, _, user = numbers.partition("/")
    if not endpoint.startswith("/2/") or not app.isdigit() or not (user or app).isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not like /2/users/:id/tweets=20/10")
    return endpoint, (int(app), int(user or app))


if __name__ == "__main__":
    sys.exit(main())
