"""A local server that behaves like X's API v2.

It has a world to crawl, windows, bills, and every fault on demand.

It is written from X's documentation and knows nothing of the crawler, so the two check each
other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tweetcrawler.errors import PackageMissing


@dataclass(frozen=True)
class Options:
    """Options of the server.

    `limits` maps an endpoint template to its (app, user) requests per window.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: str = "1"
    window_s: float = 900
    posts: tuple[int, int] | None = None
    credentials: int = 5
    shared_app: bool = False
    shared_project: bool = False
    write_auth: Path | None = None
    plan: str = "ppu"
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)
    latency_ms: float = 0
    gzip: bool = True
    recorded: Path | None = None
    handles: Path | None = None
    cap: int | None = None
    credits_usd: float | None = None
    short_pages_of_1000: int = 30
    fast: bool = False
    compliance_s: float = 2.0
    growing: bool = False


def serve(
    options: Options, *, ready: Callable[[str], None], stop: threading.Event | None = None
) -> None:
    """Serves until SIGTERM, SIGINT or `stop`.

    `ready` is called with the base URL once requests are taken.

    Errors: ConfigurationError when an option cannot be used or aiohttp is not installed.
    """
    try:
        from tweetcrawler.sandbox.server import (
            run,
        )  # aiohttp is an extra, needed only when the server runs
    except ModuleNotFoundError as error:
        raise PackageMissing("the sandbox", "aiohttp") from error
    run(options, ready=ready, stop=stop)
