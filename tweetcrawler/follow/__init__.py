"""Follow: who follows whom, as complete lists over time."""

from tweetcrawler.rooms import Room

ROOM = Room(
    commands=("tweetcrawler.follow.commands.follow", "tweetcrawler.follow.commands.graph"),
    kinds=("tweetcrawler.follow.walks:SEE_PEOPLE", "tweetcrawler.follow.walks:WALK_LISTS"),
    tables=("tweetcrawler.follow.schema",),
    asks=("follow",),
    accounts=("x_user.id", "x_user_seen.user_id", "follow_edge.user_id", "follow_edge.other_id"),
    plans={"follow": "follow --dry-run"},
)
