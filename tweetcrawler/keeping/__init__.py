"""Keeping: what was bought outlives the machine, what was deleted on X does not."""

from tweetcrawler.rooms import Room

ROOM = Room(
    commands=(
        "tweetcrawler.keeping.commands.archive",
        "tweetcrawler.keeping.commands.restore",
        "tweetcrawler.keeping.commands.comply",
    ),
    bodies="tweetcrawler.keeping.moved:MovedBodies",
    tables=("tweetcrawler.keeping.schema",),
)
