"""Command `retry-refused`: saves the rows of pages that the table refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.settings.commands import DATA, Command
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """Nothing."""


def run(setup: Setup, _: Values) -> int:
    """Tries all pages that wait, and says how many rows went in."""
    from tweetcrawler.sentiment import scorer
    from tweetcrawler.setup import Stop

    setup.log()
    why = "pages wait for a table in PostgreSQL"
    score = scorer() if setup.settings.sentiment else None
    with setup.database(why) as database, Stop() as stop, database.session() as session:
        done = session.retry_refused(score=lambda: score, stopping=lambda: stop() is not None)
    said = f"{plural(done.pages, 'page')} went in with {plural(done.posts, 'post')}"
    said += f", {done.new:,} of them new"
    wait = plural(done.left, "page waits", "pages wait")
    if done.reason:
        said += f"; {wait}, since the table refuses them: {done.reason}"
    elif done.left:
        said += f"; {wait}: run again to go on"
    setup.front.say(said)
    return stop() or (1 if done.left else 0)


COMMAND = Command(
    name="retry-refused",
    summary="save the rows of pages that the table refused",
    group=DATA,
    about="Saves the rows of bought pages that the table refused, for example by a constraint. "
    "Change the table first. X is not asked. The next run that buys pages does the same at "
    "its start.",
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler retry-refused", "every page that waits"),
        ("tweetcrawler retry-refused --dbname other", "in another database"),
        ("tweetcrawler retry-refused --tablename my_posts", "into a table of another name"),
    ),
    price="nothing.",
)
