"""X's endpoints: their names, and the size of one answer.

The numbers are X's own, from its API description and its documents.
"""

from __future__ import annotations

from tweetcrawler.ids import DAY_S, FIRST_DATED_ID, time_ms_of

USERS_BY = "/2/users/by"
USER_TWEETS = "/2/users/:id/tweets"
TWEETS = "/2/tweets"
SEARCH_RECENT = "/2/tweets/search/recent"
SEARCH_ALL = "/2/tweets/search/all"
COUNTS_RECENT = "/2/tweets/counts/recent"
COUNTS_ALL = "/2/tweets/counts/all"
TRENDS = "/2/trends/by/woeid/:woeid"
USAGE = "/2/usage/tweets"
COMPLIANCE_JOBS = "/2/compliance/jobs"
COMPLIANCE_JOB = "/2/compliance/jobs/:id"
# X counts reading a path and writing to it apart.
NEW_COMPLIANCE_JOB = "POST /2/compliance/jobs"
STREAM = "/2/tweets/search/stream"
STREAM_RULES = "/2/tweets/search/stream/rules"
CHANGE_STREAM_RULES = "POST /2/tweets/search/stream/rules"
CONNECTIONS = "/2/connections"
END_CONNECTIONS = "DELETE /2/connections"

# X counts the archive by the second, too; the rest is for requests that overtake each other
# on their way.
SPACING_S = {SEARCH_ALL: 1.1}
# Recent search looks back a week. The edge moves while a request travels, and X suggests
# this much itself.
# The first second of X, from which on a search of everything begins.
FIRST_POST_S = 1_142_899_200.0
RECENT_S = 7 * DAY_S - 120.0
TIMELINE_MIN, SEARCH_MIN, SEARCH_RECENT_MAX, SEARCH_ALL_MAX = 5, 10, 100, 500
HANDLES_A_LOOKUP, IDS_A_LOOKUP = 100, 100
# X counts this much of the archive on one page.
COUNTED_S = 31 * DAY_S


def counted_from_s(since_id: int) -> float:
    """The second of the first posts above an id; that of X's first post for an id without time."""
    if since_id < FIRST_DATED_ID:
        return FIRST_POST_S
    return time_ms_of(since_id + 1) // 1000
