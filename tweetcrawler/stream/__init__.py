"""Stream: what is said now, written to a segment first, and every gap known."""

from tweetcrawler.rooms import Room

ROOM = Room(
    commands=("tweetcrawler.stream.commands.stream",),
    tables=("tweetcrawler.stream.schema",),
    asks=("stream",),
)
