"""Stream: posts while they are written, on disk first, and with every gap known."""

from tweetcrawler.rooms import Room

ROOM = Room(
    commands=("tweetcrawler.stream.commands.stream",),
    tables=("tweetcrawler.stream.schema",),
    asks=("stream",),
    sections=("tweetcrawler.stream.known:section",),
)
