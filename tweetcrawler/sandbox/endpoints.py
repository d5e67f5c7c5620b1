"""X's REST endpoints: parameters, permitted callers and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from tweetcrawler.sandbox import compliance, params, problems
from tweetcrawler.sandbox.archive import PATIENCE, Archive
from tweetcrawler.sandbox.auth import BEARER, USER, USER_2, Caller
from tweetcrawler.sandbox.billing import Books
from tweetcrawler.sandbox.clock import FIRST_SNOWFLAKE, Clock, lowest_id, ms_of_id, rfc3339
from tweetcrawler.sandbox.dice import mix
from tweetcrawler.sandbox.fast import FastPages
from tweetcrawler.sandbox.fields import Asked
from tweetcrawler.sandbox.pages import Answer, of_tweets, of_users
from tweetcrawler.sandbox.params import TWEET_RULES, USER_RULES, Rules
from tweetcrawler.sandbox.people import MadePerson, Person
from tweetcrawler.sandbox.posts import Post
from tweetcrawler.sandbox.query import BadQuery, Doc, Query, parse
from tweetcrawler.sandbox.streams import Streams
from tweetcrawler.sandbox.tokens import (
    SEARCH,
    TIMELINE,
    network_token,
    page_token,
    read_network_token,
    read_page_token,
)
from tweetcrawler.sandbox.world import World

NO_ID = 2**63 - 1
# X looks through the newest 800 posts only where it leaves out replies, and through 3,200
# otherwise.
DEPTH_WITHOUT_REPLIES = 800
DEPTH_OF_MENTIONS = 800
RECENT_S = 7 * 86_400
ARCHIVE_DEFAULT_S = 30 * 86_400
# Without an end of its own a search ends this long before now: X has not indexed what is newer.
SEARCH_LAG_S = 30
# X charges for counts and trends by the request, whatever they hold.
COUNTS_PRICE = {"recent": 0.005, "all": 0.010}
TRENDS_PRICE = 0.010
# The world (1) has all trends; each other place lacks a quarter of them, by its number here.
WOEIDS = {
    1: 0,
    23424977: 1,
    23424975: 2,
    23424925: 3,
    23424829: 4,
    23424856: 5,
    2459115: 6,
    44418: 7,
    742676: 8,
    23424848: 9,
}


@dataclass(slots=True)
class Place:
    """The world and the server's state, as endpoints see them."""

    world: World
    archive: Archive
    clock: Clock
    books: Books
    short_pages_of_1000: int
    jobs: compliance.Jobs
    query_lengths: tuple[int, int] = (512, 1024)
    fast: FastPages | None = None
    streams: Streams | None = None


@dataclass(slots=True)
class Call:
    """One request after its parameters were found right."""

    place: Place
    caller: Caller
    path: Mapping[str, str]
    values: dict[str, Any]
    asked: Asked
    sent: dict[str, Any] = field(default_factory=dict)
    """The JSON object of a POST or DELETE."""
    twists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Faults that bend the page itself, with their parameters."""
    base_url: str = ""
    """The server, as the caller names it."""


@dataclass(slots=True, frozen=True)
class Endpoint:
    template: str
    kinds: tuple[str, ...]
    rules: Rules
    answer: Callable[[Call], Answer]
    method: str = "GET"

    @property
    def name(self) -> str:
        """What its window and the books are of: reading and writing have one each."""
        return self.template if self.method == "GET" else f"{self.method} {self.template}"

    @property
    def supported(self) -> list[str]:
        return ([BEARER] if "app" in self.kinds else []) + (
            [USER, USER_2] if "user" in self.kinds else []
        )


# -- users ------------------------------------------------------------------


def _users_by(call: Call) -> Answer:
    return _looked_up(call, "usernames", call.values["usernames"], call.place.world.people.named)


def _users(call: Call) -> Answer:
    return _looked_up(
        call, "ids", call.values["ids"], lambda id_: call.place.world.people.numbered(int(id_))
    )


def _looked_up(
    call: Call, parameter: str, values: list[str], find: Callable[[str], Person | None]
) -> Answer:
    found: dict[int, Person] = {}
    errors = []
    for value in dict.fromkeys(values):
        person = find(value)
        if person is None:
            errors.append(problems.unknown_user(parameter, value))
        # A lookup is 200 whatever it finds: people who are away are `errors` beside `data`.
        elif person.state == "suspended":
            errors.append(problems.suspended_user(parameter, value))
        else:
            found[person.id] = person
    body = of_users(call.place.world, found.values(), call.asked)
    if errors:
        body["errors"] = errors + body.get("errors", [])
    return Answer(body, users=list(found))


def _user_named(call: Call) -> Answer:
    name = call.path["username"]
    if not params.USERNAME.fullmatch(name):
        raise problems.invalid(
            [
                problems.wrong_parameter(
                    "username",
                    [name],
                    f"The `username` query parameter value [{name}] does not match "
                    f"^{params.USERNAME.pattern}$",
                )
            ]
        )
    return _single(_looked_up(call, "username", [name], call.place.world.people.named))


def _user_numbered(call: Call) -> Answer:
    people = call.place.world.people
    return _single(
        _looked_up(call, "id", [str(_path_id(call))], lambda id_: people.numbered(int(id_)))
    )


def _me(call: Call) -> Answer:
    owner = call.caller.credential.owner
    return _single(_looked_up(call, "id", [owner], call.place.world.people.named))


def _single(answer: Answer) -> Answer:
    if "data" in answer.body:
        answer.body["data"] = answer.body["data"][0]
    return answer


def _path_id(call: Call) -> int:
    raw = call.path["id"]
    if not params.ID.fullmatch(raw):
        raise problems.invalid(
            [
                problems.wrong_parameter(
                    "id", [raw], f"The `id` query parameter value [{raw}] is not valid"
                )
            ]
        )
    return int(raw)


def _shown_person(call: Call) -> Person | Answer:
    """The person whose content is asked for, or the answer that says why there is none."""
    id_ = _path_id(call)
    person = call.place.world.people.numbered(id_)
    if person is None:
        return Answer({"errors": [problems.unknown_user("id", str(id_))]})
    if person.state == "suspended":
        return Answer({"errors": [problems.suspended_user("id", str(id_))]})
    if person.state == "protected":
        return Answer({"errors": [problems.protected_user("id", str(id_))]})
    return person


# -- timelines ----------------------------------------------------------------


def _timeline(call: Call) -> Answer:
    person = _shown_person(call)
    if isinstance(person, Answer):
        return person
    world = call.place.world
    _check_ended(call)
    above, below = _ids_between(call)
    if call.place.fast is not None and isinstance(person, MadePerson):
        return _fast_timeline(call, call.place.fast, person, above, below)
    above = max(above, world.timelines.depth_floor(person) - 1)
    dropped = frozenset(call.values.get("exclude", ()))
    if "replies" in dropped:
        newest = list(islice(world.timelines.newest_first(person, 0, NO_ID), DEPTH_WITHOUT_REPLIES))
        above = max(above, newest[-1] - 1 if len(newest) == DEPTH_WITHOUT_REPLIES else 0)
    # X shows a locked account without any post: an empty page and no error.
    if person.state == "locked":
        above = NO_ID

    def newest_first(below: int) -> Iterator[int]:
        return world.timelines.newest_first(person, above, below)

    def oldest_first(at_least: int) -> Iterator[int]:
        return world.timelines.oldest_first(person, max(above, at_least - 1))

    def kept(id_: int) -> bool:
        if not dropped:
            return True
        reply, retweet = world.timelines.is_kind(person, id_)
        # The filter comes after the page was cut, so that pages hold fewer posts than asked for.
        return not ((reply and "replies" in dropped) or (retweet and "retweets" in dropped))

    return _page_of_ids(
        call,
        str(person.id),
        below,
        newest_first,
        oldest_first,
        lambda ids: [world.posts.tweet_of(person, id_) for id_ in ids if kept(id_)],
    )


def _fast_timeline(
    call: Call, fast: FastPages, person: MadePerson, above: int, below: int
) -> Answer:
    token = call.values.get("pagination_token")
    if token is not None:
        below = min(below, read_page_token("pagination_token", TIMELINE, str(person.id), token)[0])
    return fast.timeline(person, call.asked, call.values.get("max_results", 10), above, below)


def _page_of_ids(
    call: Call,
    owner: str,
    below: int,
    newest_first: Callable[[int], Iterator[int]],
    oldest_first: Callable[[int], Iterator[int]],
    posts_of: Callable[[list[int]], list[Post]],
) -> Answer:
    """One page of a list that is ordered by id.

    It goes on where the token says, and is bent as the faults say.
    """
    count = call.values.get("max_results", 10)
    token = call.values.get("pagination_token")
    twists = call.twists
    back = False
    place = below
    if token is not None:
        place, back = read_page_token("pagination_token", TIMELINE, owner, token)
    # `previous_token`: the page above, still newest first.
    if back:
        ids = list(islice((id_ for id_ in oldest_first(place + 1) if id_ < below), count))[::-1]
        more = True
    else:
        place = min(place, below)
        # X promises nothing about an empty page: the end is a page without next_token.
        if "empty-page-with-token" in twists:
            return _meta({}, [], TIMELINE, owner, next_place=place)
        start = place
        if "duplicate-page" in twists or "overlapping-page" in twists:
            again = count if "duplicate-page" in twists else max(1, count // 5)
            start = next(islice(oldest_first(place), again - 1, None), place - 1) + 1
        count = _shortened(call, start, count, owner)
        ids = list(islice(newest_first(start), count + 1))
        more = len(ids) > count or ("empty-last-page" in twists and bool(ids))
        del ids[count:]
    posts = posts_of(ids)
    body = of_tweets(call.place.world, posts, call.asked)
    if "unsorted-page" in twists and "data" in body:
        body["data"].sort(key=lambda tweet: mix(int(tweet["id"]), 5))
    next_place = min(ids[-1], place) if ids and more else None
    return _meta(
        body,
        posts,
        TIMELINE,
        owner,
        next_place=next_place,
        previous=ids[0] if token is not None and ids else None,
    )


def _shortened(call: Call, place: int, count: int, owner: str) -> int:
    """Now and then a page holds fewer posts than asked for although more follow."""
    chance = mix(place, len(owner))
    if count > 5 and (
        chance % 1000 < call.place.short_pages_of_1000 or "short-page" in call.twists
    ):
        return count - 1 - (chance >> 20) % (count // 3)
    return count


def _meta(
    body: dict[str, Any],
    posts: list[Post],
    look: str,
    owner: str,
    *,
    next_place: int | None,
    previous: int | None = None,
) -> Answer:
    # An empty page has neither `data` nor the ids of its ends.
    meta: dict[str, Any] = {"result_count": len(posts)}
    if posts:
        ids = [post.id for post in posts]
        meta = {"newest_id": str(max(ids)), "oldest_id": str(min(ids)), "result_count": len(posts)}
    if next_place is not None:
        meta["next_token"] = page_token(look, owner, next_place)
    # No first page that was recorded had a previous_token; all later ones do.
    if previous is not None:
        meta["previous_token"] = page_token(look, owner, previous, back=True)
    body["meta"] = meta
    return Answer(body, posts=posts)


def _ids_between(call: Call) -> tuple[int, int]:
    """The ids (above, below) that the request asks for; an id wins over a time."""
    values = call.values
    # Both ids are exclusive. Of the times the start is inclusive and the end is not.
    above, below = 0, NO_ID
    if "since_id" in values:
        above = values["since_id"]
    elif "start_time" in values:
        above = lowest_id(int(values["start_time"] * 1000)) - 1
    if "until_id" in values:
        below = min(values["until_id"], NO_ID)
    elif "end_time" in values:
        below = lowest_id(int(values["end_time"] * 1000))
    return above, below


def _check_ended(call: Call) -> None:
    now = call.place.clock.now()
    errors = []
    for name in ("start_time", "end_time"):
        # X refuses times of the last ten seconds: its index is not that far yet.
        if name in call.values and call.values[name] > now - 10:
            shown = rfc3339(call.values[name])
            errors.append(
                problems.wrong_parameter(
                    name,
                    [shown],
                    f"Invalid '{name}':'{shown}'. '{name}' must be a minimum of 10 seconds prior "
                    "to the request time.",
                )
            )
    if not errors and call.values.get("start_time", 0) >= call.values.get("end_time", 2e10):
        errors.append(
            problems.wrong_parameter(
                "end_time",
                [rfc3339(call.values["end_time"])],
                "Invalid 'end_time'. 'end_time' must be later than 'start_time'.",
            )
        )
    if errors:
        raise problems.invalid(errors)


def _mentions(call: Call) -> Answer:
    person = _shown_person(call)
    if isinstance(person, Answer):
        return person
    _check_ended(call)
    above, below = _ids_between(call)
    query = parse(f"@{person.username}")
    hits = list(
        islice(
            (
                (id_, author)
                for id_, author, doc in islice(call.place.archive.search(query, 0, NO_ID), PATIENCE)
                if doc
            ),
            DEPTH_OF_MENTIONS,
        )
    )
    authors = dict(hits)
    ids = [id_ for id_, _ in hits if id_ > above]

    def posts_of(page: list[int]) -> list[Post]:
        return [call.place.world.posts.tweet_of(authors[id_], id_) for id_ in page]

    return _page_of_ids(
        call,
        f"@{person.id}",
        below,
        lambda under: (id_ for id_ in ids if id_ < under),
        lambda at_least: (id_ for id_ in reversed(ids) if id_ >= at_least),
        posts_of,
    )


# -- posts by id ----------------------------------------------------------------


def _tweets(call: Call) -> Answer:
    return _tweets_by_id(call, "ids", call.values["ids"])


def _tweet(call: Call) -> Answer:
    return _single(_tweets_by_id(call, "id", [str(_path_id(call))]))


def _tweets_by_id(call: Call, parameter: str, values: list[str]) -> Answer:
    posts: list[Post] = []
    errors = []
    for value in dict.fromkeys(values):
        found = call.place.world.posts.found(int(value))
        if isinstance(found, Post):
            posts.append(found)
        # A protected post and a deleted one are told apart; a post of a suspended user is not
        # found.
        elif found.reason == "protected":
            errors.append(problems.hidden_tweet(parameter, value, "data"))
        else:
            errors.append(problems.unknown_tweet(parameter, value))
    body = of_tweets(call.place.world, posts, call.asked)
    if errors:
        body["errors"] = errors + body.get("errors", [])
    return Answer(body, posts=posts)


# -- search and counts ------------------------------------------------------------


def _search(call: Call) -> Answer:
    return _searched(call, recent=True)


def _search_all(call: Call) -> Answer:
    return _searched(call, recent=False)


def _searched(call: Call, *, recent: bool) -> Answer:
    query, above, below = _query_and_ids(call, recent=recent)
    values = call.values
    count = values.get("max_results", 10)
    # Search takes its token under either name; timelines under the second only.
    name = "next_token" if "next_token" in values else "pagination_token"
    # Search tokens belong to their query. They do not expire, and give the same page again.
    owner = f"{recent} {values['query']}"
    place = below
    if name in values:
        place = min(below, read_page_token(name, SEARCH, owner, values[name])[0])
    if "empty-page-with-token" in call.twists:
        return _meta({}, [], SEARCH, owner, next_place=place)
    hits: list[tuple[int, Person, Doc]] = []
    last = None
    for looked, (id_, person, doc) in enumerate(call.place.archive.search(query, above, place)):
        # After this number of posts that do not match, the page ends short, or empty, with a
        # token: X does so with rare words.
        if len(hits) == count or looked == PATIENCE:
            last = hits[-1][0] if len(hits) == count else id_ + 1
            break
        if doc is not None:
            hits.append((id_, person, doc))
    if values.get("sort_order") == "relevancy":
        # X does not tell what makes a post relevant; likes stand for it.
        hits.sort(key=lambda hit: -hit[2].metrics.get("like_count", 0))
    posts = [call.place.world.posts.tweet_of(person, id_) for id_, person, _ in hits]
    return _meta(
        of_tweets(call.place.world, posts, call.asked), posts, SEARCH, owner, next_place=last
    )


def _query_and_ids(call: Call, *, recent: bool) -> tuple[Query, int, int]:
    values = call.values
    # Lengths of self-serve plans; the description of the API allows 4,096 to everybody.
    longest = call.place.query_lengths[0 if recent else 1]
    text = values["query"]
    if len(text) > longest:
        raise problems.invalid(
            [
                problems.wrong_parameter(
                    "query",
                    [text],
                    f"There were errors processing your request: Rule length {len(text)} exceeds "
                    f"the maximum of {longest}",
                )
            ]
        )
    try:
        query = parse(text)
    except BadQuery as bad:
        raise problems.invalid([problems.wrong_parameter("query", [text], str(bad))]) from None
    _check_search_times(call, recent=recent)
    now = call.place.clock.now()
    start = values.get("start_time")
    end = values.get("end_time", now - SEARCH_LAG_S)
    # Nobody who names no start gets all there is: a week of recent search, 30 days of the
    # archive.
    if recent:
        start = now - RECENT_S if start is None else start
    elif start is None:
        start = end - ARCHIVE_DEFAULT_S
    above = lowest_id(int(start * 1000)) - 1
    below = lowest_id(int(end * 1000))
    if "since_id" in values:
        # In the archive an id wins over the default of 30 days.
        above = max(values["since_id"], above) if recent else values["since_id"]
    if "until_id" in values:
        below = min(values["until_id"], below)
    return query, above, below


def _check_search_times(call: Call, *, recent: bool) -> None:
    _check_ended(call)
    values = call.values
    now = call.place.clock.now()
    oldest_s = now - RECENT_S
    errors = []
    # Timelines take both and let the id win; search refuses the pair.
    if "since_id" in values and ("start_time" in values or "end_time" in values):
        errors.append(
            problems.wrong_parameter(
                "since_id",
                [str(values["since_id"])],
                "Invalid use of 'since_id': it can not be combined with 'start_time' or "
                "'end_time'.",
            )
        )
    elif recent:
        shown = rfc3339(oldest_s)[:16] + "Z"
        for name in ("start_time", "end_time"):
            if name in values and values[name] < oldest_s - 1:
                sent = rfc3339(values[name])
                errors.append(
                    problems.wrong_parameter(
                        name,
                        [sent],
                        f"Invalid '{name}':'{sent[:16]}Z'. '{name}' must be on or after {shown}.",
                    )
                )
        # The edge moves while a request travels, so X suggests an id that is two minutes younger
        # than it.
        suggested = lowest_id(int((oldest_s + 120) * 1000))
        errors.extend(
            _too_old(name, values[name], shown, suggested)
            for name in ("since_id", "until_id")
            if name in values and _seconds_of_id(values[name]) < oldest_s
        )
    if errors:
        raise problems.invalid(errors)


def _too_old(name: str, id_: int, oldest: str, suggested: int) -> problems.Body:
    return problems.wrong_parameter(
        name,
        [str(id_)],
        f"'{name}' must be a tweet id created after [{oldest}]. Please use a '{name}' that is "
        f"larger than {suggested}",
    )


def _seconds_of_id(id_: int) -> float:
    # Ids from before November 2010 count up and hold no time.
    return ms_of_id(id_) / 1000 if id_ >= FIRST_SNOWFLAKE else 0.0


def _counts(call: Call) -> Answer:
    return _counted(call, recent=True)


def _counts_all(call: Call) -> Answer:
    return _counted(call, recent=False)


def _counted(call: Call, *, recent: bool) -> Answer:
    query, above, below = _query_and_ids(call, recent=recent)
    values = call.values
    owner = f"counts {values['query']}"
    for name in ("next_token", "pagination_token"):
        if name in values:
            below = min(below, read_page_token(name, SEARCH, owner, values[name])[0])
    start, end = (datetime.fromtimestamp(ms_of_id(id_ + 1) // 1000, UTC) for id_ in (above, below))
    # X counts 31 days on a page of the archive, whatever the granularity; a week needs one page.
    first = start if recent else max(start, end - timedelta(days=31))
    step = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}[
        values.get("granularity", "hour")
    ]
    edges = _edges(first, end, step)
    counts = [0] * (len(edges) - 1)
    seconds = [edge.timestamp() for edge in edges]
    at = len(counts) - 1
    lowest = max(above, lowest_id(int(seconds[0] * 1000)) - 1)
    for id_, weight in call.place.archive.counted(query, lowest, below, estimate=not recent):
        while seconds[at] * 1000 > ms_of_id(id_):
            at -= 1
        counts[at] += weight
    word = "post" if call.asked.posts else "tweet"
    data = [
        {
            "end": rfc3339(seconds[number + 1]),
            "start": rfc3339(seconds[number]),
            f"{word}_count": found,
        }
        for number, found in enumerate(counts)
    ]
    # The sum is that of this page, not of the whole query.
    meta: dict[str, Any] = {f"total_{word}_count": sum(counts)}
    if first > start and "early-end" not in call.twists:
        meta["next_token"] = page_token(SEARCH, owner, lowest_id(int(seconds[0] * 1000)))
    return Answer(
        {"data": data, "meta": meta}, requests_price=COUNTS_PRICE["recent" if recent else "all"]
    )


def _edges(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """Bucket bounds; the first bucket may begin and the last may end off the hour."""
    whole = datetime(start.year, start.month, start.day, tzinfo=UTC)
    edge = whole + step * ((start - whole) // step + 1)
    edges = [start]
    while edge < end:
        edges.append(edge)
        edge += step
    edges.append(max(end, start + timedelta(seconds=1)))
    return edges


# -- trends, networks, usage --------------------------------------------------------


def _trends(call: Call) -> Answer:
    raw = call.path["woeid"]
    # WOEIDs come from a catalogue of Yahoo that nobody keeps any more; X knows some of them.
    if not raw.isdigit() or int(raw) not in WOEIDS:
        raise problems.invalid(
            [
                problems.wrong_parameter(
                    "woeid", [raw], f"The `woeid` query parameter value [{raw}] is not valid"
                )
            ]
        )
    where = WOEIDS[int(raw)]
    tags = call.place.archive.tags(int((call.place.clock.now() - 2 * 86_400) * 1000))
    ranked = [
        (tag, count) for tag, count in tags.most_common() if where == 0 or mix(len(tag), where) % 4
    ]
    # The count left the documents in August 2026 and is in both descriptions still, so it is
    # there for two trends of three.
    counted = "tweet_count" in call.values.get("trend.fields", ("tweet_count",))
    data = [
        {"trend_name": f"#{tag}"} | ({"tweet_count": count} if counted and number % 3 else {})
        for number, (tag, count) in enumerate(ranked[: call.values.get("max_trends", 20)])
    ]
    return Answer({"data": data} if data else {}, requests_price=TRENDS_PRICE)


def _followers(call: Call) -> Answer:
    return _network(call, following=False)


def _following(call: Call) -> Answer:
    return _network(call, following=True)


def _network(call: Call, *, following: bool) -> Answer:
    person = _shown_person(call)
    if isinstance(person, Answer):
        return person
    world = call.place.world
    total = world.networks.follower_count(person, following)
    count = call.values.get("max_results", 100)
    token = call.values.get("pagination_token")
    start, back = (
        (0, False) if token is None else read_network_token("pagination_token", person.id, token)
    )
    if back:
        start = max(0, start - count)
    people = [
        world.networks.follower(person, number, following)
        for number in range(start, min(total, start + count))
    ]
    body = of_users(world, people, call.asked)
    body["meta"] = {"result_count": len(people)}
    if start + count < total:
        body["meta"]["next_token"] = network_token(person.id, start + count)
    if start > 0:
        body["meta"]["previous_token"] = network_token(person.id, start, back=True)
    return Answer(body, users=[one.id for one in people])


def _usage(call: Call) -> Answer:
    credential = call.caller.credential
    account = call.place.books.account(credential)
    wanted = frozenset(
        call.values.get(
            "usage.fields",
            ("project_id", "project_cap", "project_usage", "cap_reset_day", "daily_project_usage"),
        )
    )
    now = datetime.fromtimestamp(call.place.clock.now(), UTC)
    days = [
        (now - timedelta(days=back)).strftime("%Y-%m-%d")
        for back in range(call.values.get("days", 7))
    ]
    usage = [
        {"date": f"{day}T00:00:00.000Z", "usage": str(account.by_day[day])}
        for day in reversed(days)
    ]
    data = {
        "project_id": credential.project,
        # Numbers as text, as recorded; an older description of the API says integers.
        "project_cap": str(call.place.books.cap),
        "project_usage": str(account.used),
        # The day of the month; X gives each account its own.
        "cap_reset_day": 1,
        "daily_project_usage": {"project_id": credential.project, "usage": usage},
        "daily_client_app_usage": [
            {"client_app_id": credential.app, "usage": usage, "usage_result_count": len(usage)}
        ],
    }
    return Answer({"data": {name: value for name, value in data.items() if name in wanted}})


# -- compliance ---------------------------------------------------------------------


def _create_job(call: Call) -> Answer:
    app = call.caller.credential.app
    return Answer(call.place.jobs.create(app, call.sent, call.base_url))


def _jobs(call: Call) -> Answer:
    return Answer(call.place.jobs.listed(call.caller.credential.app, call.values))


def _job(call: Call) -> Answer:
    return Answer(call.place.jobs.one(call.caller.credential.app, call.path["id"], call.values))


# -- the table ------------------------------------------------------------------------

_BOTH = ("app", "user")
_TIMES: dict[str, params.Rule] = {
    "since_id": params.one_id,
    "until_id": params.one_id,
    "start_time": params.moment,
    "end_time": params.moment,
}
_SEARCH = _TIMES | {
    # The length of the plan is looked at later: that refusal has another sentence.
    "query": params.text_up_to(4096),
    "next_token": params.any_text,
    "pagination_token": params.any_text,
}
_PAGE: dict[str, params.Rule] = {"pagination_token": params.any_text}
_COUNTS = _SEARCH | {
    "granularity": params.one_of("minute", "hour", "day"),
    "search_count.fields": params.some_of("end", "start", "tweet_count"),
    "post.fields": TWEET_RULES["post.fields"],
    "tweet.fields": TWEET_RULES["tweet.fields"],
}

TABLE = (
    Endpoint(
        "/2/users/by",
        _BOTH,
        Rules(USER_RULES | {"usernames": params.list_of(params.USERNAME, 100)}, ("usernames",)),
        _users_by,
    ),
    Endpoint("/2/users/by/username/:username", _BOTH, Rules(USER_RULES), _user_named),
    Endpoint(
        "/2/users",
        _BOTH,
        Rules(USER_RULES | {"ids": params.list_of(params.ID, 100)}, ("ids",)),
        _users,
    ),
    # An app is nobody: there is no "me" for its token.
    Endpoint("/2/users/me", ("user",), Rules(USER_RULES), _me),
    Endpoint("/2/users/:id", _BOTH, Rules(USER_RULES), _user_numbered),
    Endpoint(
        "/2/users/:id/tweets",
        _BOTH,
        Rules(
            TWEET_RULES
            | _TIMES
            | _PAGE
            | {
                # X takes no page below five posts, so that one post cannot be bought alone.
                "max_results": params.number_between(5, 100),
                "exclude": params.some_of("replies", "retweets"),
            }
        ),
        _timeline,
    ),
    Endpoint(
        "/2/users/:id/mentions",
        _BOTH,
        Rules(TWEET_RULES | _TIMES | _PAGE | {"max_results": params.number_between(5, 100)}),
        _mentions,
    ),
    Endpoint(
        "/2/tweets",
        _BOTH,
        Rules(TWEET_RULES | {"ids": params.list_of(params.ID, 100)}, ("ids",)),
        _tweets,
    ),
    Endpoint("/2/tweets/:id", _BOTH, Rules(TWEET_RULES), _tweet),
    Endpoint(
        "/2/tweets/search/recent",
        _BOTH,
        Rules(
            TWEET_RULES
            | _SEARCH
            | {
                "max_results": params.number_between(10, 100),
                "sort_order": params.one_of("recency", "relevancy"),
            },
            ("query",),
        ),
        _search,
    ),
    Endpoint(
        # With a token of the app only, and one request a second.
        "/2/tweets/search/all",
        ("app",),
        Rules(
            TWEET_RULES
            | _SEARCH
            | {
                # Five times the page of recent search, for the same price of each post.
                "max_results": params.number_between(10, 500),
                "sort_order": params.one_of("recency", "relevancy"),
            },
            ("query",),
        ),
        _search_all,
    ),
    Endpoint("/2/tweets/counts/recent", ("app",), Rules(_COUNTS, ("query",)), _counts),
    Endpoint("/2/tweets/counts/all", ("app",), Rules(_COUNTS, ("query",)), _counts_all),
    Endpoint(
        "/2/trends/by/woeid/:woeid",
        ("app",),
        Rules(
            {
                "max_trends": params.number_between(1, 50),
                "trend.fields": params.some_of("trend_name", "tweet_count"),
            }
        ),
        _trends,
    ),
    Endpoint(
        "/2/users/:id/followers",
        _BOTH,
        Rules(USER_RULES | _PAGE | {"max_results": params.number_between(1, 1000)}),
        _followers,
    ),
    Endpoint(
        "/2/users/:id/following",
        _BOTH,
        Rules(USER_RULES | _PAGE | {"max_results": params.number_between(1, 1000)}),
        _following,
    ),
    Endpoint(
        # X tells its count to the app only: a token of a user gets 403.
        "/2/usage/tweets",
        ("app",),
        Rules(
            {
                "days": params.number_between(1, 90),
                "usage.fields": params.some_of(
                    "cap_reset_day",
                    "daily_client_app_usage",
                    "daily_project_usage",
                    "project_cap",
                    "project_id",
                    "project_usage",
                ),
            }
        ),
        _usage,
    ),
    # As the app only: the lists are those of an app.
    Endpoint("/2/compliance/jobs", ("app",), compliance.LIST_RULES, _jobs),
    Endpoint("/2/compliance/jobs", ("app",), Rules({}), _create_job, "POST"),
    Endpoint("/2/compliance/jobs/:id", ("app",), compliance.ONE_RULES, _job),
)
