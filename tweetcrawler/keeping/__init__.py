"""Keeping: what was bought outlives the machine, what was deleted on X does not."""

from tweetcrawler.rooms import Room

ROOM = Room(
    commands=(
        "tweetcrawler.keeping.commands.archive",
        "tweetcrawler.keeping.commands.restore",
        "tweetcrawler.keeping.commands.comply",
    ),
    kinds=("tweetcrawler.keeping.asking:ASK_JOB",),
    bodies="tweetcrawler.keeping.moved:MovedBodies",
    looked="tweetcrawler.keeping.noting:note_looked_up",
    plans={"comply": "comply --run --dry-run", "metrics": "watch --metrics --dry-run"},
    states=(
        "tweetcrawler.keeping.states:deletions",
        "tweetcrawler.keeping.states:looks",
    ),
    growth="tweetcrawler.keeping.commands.growth:watch_metrics",
    tables=("tweetcrawler.keeping.schema",),
)
