"""Command `sandbox`: a local server that behaves like X."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tweetcrawler.errors import PackageMissing
from tweetcrawler.settings.commands import SET_UP, Command

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """Arguments of the sandbox, which reads them itself."""

    rest: tuple[str, ...] = field(default=(), repr=False)


def run(_: Setup, values: Values) -> int:
    """Serves until it is stopped."""
    try:
        # An extra of the package: a crawler on a server needs no aiohttp.
        from tweetcrawler.sandbox.__main__ import main as sandbox
    except ModuleNotFoundError:
        raise PackageMissing("the sandbox", "aiohttp") from None
    return sandbox(list(values.rest))


COMMAND = Command(
    name="sandbox",
    summary="a local server like X",
    group=SET_UP,
    about="Its options follow the command: `tweetcrawler sandbox --help` lists them. It has "
    "invented users and posts, X's rate limits and errors, and it sells nothing.",
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler sandbox --port 8080 --write-auth auth.csv", "a server and keys for it"),
        ("tweetcrawler sandbox --window-s 60 --credentials 2", "short rate limits"),
        ("tweetcrawler sandbox --cap 500", "a project that may read 500 posts"),
    ),
    price="nothing.",
    reads_file=False,
    takes_rest=True,
)
