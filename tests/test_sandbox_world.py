"""The sandbox's made world: it follows from its seed, and is as odd as X."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_server import Sandbox

from tweetcrawler.sandbox.clock import ms_of_id
from tweetcrawler.sandbox.people import Census
from tweetcrawler.sandbox.posts import Kind, Post, kind_of
from tweetcrawler.sandbox.world import DEPTH, MadeWorld, Missing

NOW_MS = 1_790_000_000_000
NO_ID = 2**63
SIGN_OF = {
    "hashtags": ("#", "tag"),
    "cashtags": ("$", "tag"),
    "mentions": ("@", "username"),
    "urls": ("", "url"),
}


@pytest.fixture(scope="module")
def world() -> MadeWorld:
    return MadeWorld("seed", NOW_MS)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "120-160", "--short-pages", "0") as running:
        yield running


def ids_of(world: MadeWorld, name: str) -> list[int]:
    return list(world.timelines.newest_first(world.people.anyone(name), 0, NO_ID))


@given(name=st.from_regex(r"[A-Za-z0-9_]{1,15}", fullmatch=True))
@settings(max_examples=200)
def test_every_handle_has_an_id_that_leads_back_to_it(name: str) -> None:
    census = Census("seed", NOW_MS, None)
    id_ = census.id_of(name.lower())
    assert 2**53 < 10**17 <= id_ < 2**63
    assert census.key_of(id_) == name.lower()


@given(name=st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True))
@settings(max_examples=100)
def test_an_id_is_understood_by_a_server_that_never_heard_the_handle(name: str) -> None:
    assert Census("seed", NOW_MS, None).key_of(Census("seed", NOW_MS, None).id_of(name)) == name


def test_the_same_seed_makes_the_same_world_and_another_seed_another(world: MadeWorld) -> None:
    again, other = MadeWorld("seed", NOW_MS), MadeWorld("other", NOW_MS)
    assert ids_of(again, "ada") == ids_of(world, "ada")
    assert not set(ids_of(other, "ada")) & set(ids_of(world, "ada"))
    post = world.posts.tweet_of(world.people.anyone("ada"), ids_of(world, "ada")[0])
    assert again.posts.tweet_of(again.people.anyone("ada"), post.id) == post


def test_history_stays_when_the_server_starts_later(world: MadeWorld) -> None:
    """A crawl stored yesterday is still true today.

    Except for new posts, and as many that fell off the far end.
    """
    later = MadeWorld("seed", NOW_MS + 30 * 86_400_000)
    before, after = ids_of(world, "grace"), ids_of(later, "grace")
    assert len(before) == len(after)
    assert [id_ for id_ in after if after[-1] <= id_ <= before[0]] == [
        id_ for id_ in before if id_ >= after[-1]
    ]


@given(name=st.from_regex(r"[a-z0-9_]{1,15}", fullmatch=True))
@settings(max_examples=40, deadline=None)
def test_ids_tell_the_time_and_fall(name: str) -> None:
    world = MadeWorld("seed", NOW_MS)
    person = world.people.anyone(name)
    ids = list(islice(world.timelines.newest_first(person, 0, NO_ID), 300))
    assert ids == sorted(set(ids), reverse=True)
    assert all(2**53 < id_ < 2**63 and ms_of_id(id_) <= NOW_MS for id_ in ids)
    for id_ in ids[:20]:
        tweet = world.posts.tweet_of(person, id_).tweet
        assert tweet["id"] == str(id_)
        created = datetime.fromtimestamp(ms_of_id(id_) // 1000, UTC)
        assert tweet["created_at"] == created.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@given(name=st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True), cut=st.integers(0, 250))
@settings(max_examples=40, deadline=None)
def test_a_timeline_is_the_same_from_above_and_from_below(name: str, cut: int) -> None:
    world = MadeWorld("seed", NOW_MS, (0, 200))
    person = world.people.anyone(name)
    ids = list(world.timelines.newest_first(person, 0, NO_ID))
    assert list(world.timelines.oldest_first(person, 0)) == ids[::-1]
    if cut < len(ids):
        assert list(world.timelines.newest_first(person, 0, ids[cut])) == ids[cut + 1 :]
        assert list(world.timelines.newest_first(person, ids[cut], NO_ID)) == ids[:cut]
        assert list(world.timelines.oldest_first(person, ids[cut])) == ids[:cut][::-1]


def test_entities_stand_where_their_offsets_say(world: MadeWorld) -> None:
    checked = 0
    for post in some_posts(world):
        for holder in (post.tweet, post.tweet.get("note_tweet", {})):
            for name, entities in holder.get("entities", {}).items():
                for entity in entities:
                    piece = holder["text"][
                        entity["start"] : entity["end"] + (name == "annotations")
                    ]
                    expected = (
                        entity["normalized_text"]
                        if name == "annotations"
                        else SIGN_OF[name][0] + entity[SIGN_OF[name][1]]
                    )
                    assert piece == expected
                    checked += 1
    assert checked > 1_000


def test_texts_hold_what_real_texts_hold(world: MadeWorld) -> None:
    posts = list(some_posts(world))
    texts = [post.tweet["text"] for post in posts]
    assert any("&amp;" in text for text in texts)
    assert any("&lt;" in text for text in texts)
    assert any("&gt;" in text for text in texts)
    assert not any(re.search(r"&(?!amp;|lt;|gt;)|[<>]", text) for text in texts)
    assert any("\n" in text for text in texts)
    assert any(ord(max(text, default=" ")) > 0xFFFF for text in texts)
    assert any("\u0600" <= max(text) <= "\u06ff" for text in texts)
    languages = [post.tweet["lang"] for post in posts]
    assert languages.count("en") > len(languages) / 2
    assert set(languages) >= {"es", "ja", "ar", "he", "und"}


def test_a_long_post_is_cut_in_text_and_whole_in_note_tweet(world: MadeWorld) -> None:
    notes = [post.tweet for post in some_posts(world) if "note_tweet" in post.tweet]
    assert notes
    for tweet in notes:
        assert len(tweet["text"]) <= 300 < len(tweet["note_tweet"]["text"])
        assert tweet["note_tweet"]["text"].startswith(tweet["text"].partition("…")[0])


def test_references_lead_to_posts_or_to_the_reason_why_not(world: MadeWorld) -> None:
    reasons: set[str] = set()
    for post in some_posts(world):
        for ref in post.refs:
            found = world.posts.referenced(ref)
            if isinstance(found, Missing):
                reasons.add(found.reason)
            else:
                assert found.id == ref.id < post.id
                again = world.posts.found(ref.id)
                assert isinstance(again, Post)
                assert again.tweet == found.tweet
                if ref.type == "retweeted":
                    assert post.tweet["text"].startswith(
                        f"RT @{world.people.person(found.author).username}: "
                    )
                    assert len(post.tweet["text"]) <= 140
    assert reasons >= {"absent", "protected"}


def test_a_retweet_of_a_quote_refers_to_the_quote_alone(world: MadeWorld) -> None:
    deep = 0
    for post in some_posts(world):
        if post.refs and post.refs[0].type == "retweeted":
            found = world.posts.referenced(post.refs[0])
            assert len(post.refs) == 1
            assert isinstance(found, Post)
            deep += bool(found.refs and found.refs[0].type == "quoted")
    assert deep


def test_a_conversation_is_named_after_its_first_post(world: MadeWorld) -> None:
    for post in some_posts(world):
        answered = [ref for ref in post.refs if ref.type == "replied_to"]
        if not answered:
            assert post.tweet["conversation_id"] == post.tweet["id"]
        elif isinstance(found := world.posts.referenced(answered[0]), Post):
            assert post.tweet["conversation_id"] == found.tweet["conversation_id"]
            assert post.tweet["in_reply_to_user_id"] == found.tweet["author_id"]


def test_an_older_version_of_an_edited_post_is_found(world: MadeWorld) -> None:
    edited = [post for post in some_posts(world) if post.versions]
    assert edited
    for post in edited[:10]:
        assert post.tweet["edit_history_tweet_ids"] == [str(id_) for id_ in post.versions]
        assert post.versions[-1] == post.id
        older = world.posts.found(post.versions[0])
        assert isinstance(older, Post)
        assert older.tweet["id"] == str(post.versions[0])
        assert "(edited)" not in older.tweet["text"]


def test_the_default_world_has_empty_ordinary_and_very_long_timelines(world: MadeWorld) -> None:
    counts = [world.people.anyone(f"user{number}").count for number in range(1_000)]
    assert 10 < sum(count == 0 for count in counts) < 90
    assert 3 < sum(count > DEPTH for count in counts) < 40
    assert 60 < sorted(counts)[500] < 300


def test_only_the_newest_3200_of_a_timeline_can_be_reached(world: MadeWorld) -> None:
    name = next(
        name
        for number in range(1_000)
        if world.people.anyone(name := f"user{number}").count > DEPTH
    )
    person = world.people.anyone(name)
    assert world.timelines.depth_floor(person) == ids_of(world, name)[DEPTH - 1]


def test_every_kind_of_post_occurs(world: MadeWorld) -> None:
    seen = {
        kind_of(person, person.last_k - number)
        for person in map(world.people.anyone, ("ada", "grace", "maja"))
        for number in range(800)
    }
    assert seen == set(Kind)


def test_handles_tell_the_state_of_an_account(sandbox: Sandbox) -> None:
    body = sandbox.get(
        "/2/users/by",
        {
            "usernames": "gone_a,suspended_a,protected_a,locked_a,renamed_a",
            "user.fields": "protected",
        },
    ).json()
    by_name = {user["username"].lower(): user for user in body["data"]}
    assert set(by_name) == {"protected_a", "locked_a"}
    assert by_name["protected_a"]["protected"] is True
    assert by_name["locked_a"]["name"] == ""
    assert {error["value"]: error["title"] for error in body["errors"]} == {
        "gone_a": "Not Found Error",
        "suspended_a": "Forbidden",
        "renamed_a": "Not Found Error",
    }


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("gone_a", "Not Found Error"),
        ("suspended_a", "Forbidden"),
        ("protected_a", "Authorization Error"),
    ],
)
def test_a_refused_timeline_is_a_200_without_data(sandbox: Sandbox, name: str, title: str) -> None:
    answer = sandbox.get(f"/2/users/{sandbox.id_of(name)}/tweets")
    assert answer.status_code == 200
    assert answer.json().keys() == {"errors"}
    assert answer.json()["errors"][0]["title"] == title


def test_a_renamed_user_is_found_by_id_only(sandbox: Sandbox) -> None:
    id_ = sandbox.id_of("renamed_zoe")
    assert sandbox.get(f"/2/users/{id_}").json()["data"]["username"] == "now_zoe"
    assert sandbox.get("/2/users/by/username/now_zoe").json()["data"]["id"] == id_
    assert "data" not in sandbox.get("/2/users/by/username/renamed_zoe").json()


def test_walking_by_token_gives_the_whole_timeline_once(sandbox: Sandbox) -> None:
    assert walk(sandbox, "ada") == sandbox.truth_ids("ada")["reachable"]


def test_walking_by_until_id_gives_the_whole_timeline_once(sandbox: Sandbox) -> None:
    found: list[str] = []
    until: dict[str, str] = {}
    while True:
        page = sandbox.get(
            f"/2/users/{sandbox.id_of('ada')}/tweets", {"max_results": "37"} | until
        ).json()
        found += [tweet["id"] for tweet in page.get("data", ())]
        if "next_token" not in page["meta"]:
            break
        until = {"until_id": page["meta"]["oldest_id"]}
    assert found == sandbox.truth_ids("ada")["reachable"]


def test_previous_token_leads_back_to_the_page_before(sandbox: Sandbox) -> None:
    path = f"/2/users/{sandbox.id_of('ada')}/tweets"
    first = sandbox.get(path, {"max_results": "20"}).json()
    assert "previous_token" not in first["meta"]
    second = sandbox.get(
        path, {"max_results": "20", "pagination_token": first["meta"]["next_token"]}
    ).json()
    back = sandbox.get(
        path, {"max_results": "20", "pagination_token": second["meta"]["previous_token"]}
    ).json()
    assert back["data"] == first["data"]


def test_a_page_may_hold_fewer_posts_than_asked_for_although_more_follow() -> None:
    with Sandbox("--posts", "400-400", "--short-pages", "1000") as sandbox:
        page = sandbox.get(f"/2/users/{sandbox.id_of('ada')}/tweets", {"max_results": "100"}).json()
        assert 50 < page["meta"]["result_count"] < 100
        assert "next_token" in page["meta"]
        assert walk(sandbox, "ada") == sandbox.truth_ids("ada")["reachable"]


def test_excluded_kinds_leave_gaps_in_pages_but_nothing_else_is_missing(sandbox: Sandbox) -> None:
    kept = [
        line["tweet"]["id"]
        for line in sandbox.truth("maja")
        if not {"replied_to", "retweeted"}
        & {ref["type"] for ref in line["tweet"].get("referenced_tweets", ())}
    ]
    assert walk(sandbox, "maja", exclude="replies,retweets") == kept
    assert len(kept) < len(sandbox.truth_ids("maja")["reachable"])


def test_a_timeline_without_replies_ends_after_the_newest_800() -> None:
    with Sandbox("--posts", "1000-1000", "--short-pages", "0") as sandbox:
        found = walk(sandbox, "ada", exclude="replies")
        newest = sandbox.truth_ids("ada")["reachable"][:800]
        assert set(found) < set(newest)
        assert int(found[-1]) < int(newest[700])


def test_times_bound_a_timeline_and_ids_win_over_them(sandbox: Sandbox) -> None:
    truth = [line["tweet"] for line in sandbox.truth("ada")]
    path = f"/2/users/{sandbox.id_of('ada')}/tweets"
    start, end = truth[60]["created_at"], truth[20]["created_at"]
    page = sandbox.get(path, {"max_results": "100", "start_time": start, "end_time": end}).json()
    assert [tweet["id"] for tweet in page["data"]] == [
        tweet["id"] for tweet in truth if start <= tweet["created_at"] < end
    ]
    page = sandbox.get(
        path, {"max_results": "100", "start_time": start, "since_id": truth[5]["id"]}
    ).json()
    assert [tweet["id"] for tweet in page["data"]] == [tweet["id"] for tweet in truth[:5]]


def test_only_what_was_asked_for_is_sent(sandbox: Sandbox) -> None:
    path = f"/2/users/{sandbox.id_of('ada')}/tweets"
    page = sandbox.get(path, {"max_results": "100"}).json()
    assert page.keys() == {"data", "meta"}
    assert {key for tweet in page["data"] for key in tweet} == {
        "id",
        "text",
        "edit_history_tweet_ids",
    }
    page = sandbox.get(
        path, {"max_results": "100", "tweet.fields": "lang", "expansions": "author_id"}
    ).json()
    assert page["includes"] == {
        "users": [sandbox.get("/2/users/by", {"usernames": "ada"}).json()["data"][0]]
    }
    assert {key for tweet in page["data"] for key in tweet} == {
        "id",
        "text",
        "edit_history_tweet_ids",
        "lang",
    }


def test_post_fields_are_answered_in_post_words(sandbox: Sandbox) -> None:
    page = sandbox.get(
        f"/2/users/{sandbox.id_of('ada')}/tweets",
        {
            "max_results": "100",
            "post.fields": "referenced_posts,public_metrics,edit_history_post_ids",
            "expansions": "referenced_posts,author_id",
            "user.fields": "public_metrics",
        },
    ).json()
    keys = {key for post in page["data"] for key in post}
    assert keys == {"id", "text", "edit_history_post_ids", "referenced_posts", "public_metrics"}
    assert page["includes"].keys() == {"users", "posts"}
    assert "repost_count" in page["data"][0]["public_metrics"]
    assert "post_count" in page["includes"]["users"][0]["public_metrics"]


def test_an_empty_timeline_is_meta_alone() -> None:
    with Sandbox("--posts", "0-0") as sandbox:
        assert sandbox.get(f"/2/users/{sandbox.id_of('ada')}/tweets").json() == {
            "meta": {"result_count": 0}
        }


def test_added_and_deleted_posts_and_names_and_states_take_effect_at_once(sandbox: Sandbox) -> None:
    before = sandbox.truth_ids("linus")["reachable"]
    added = sandbox.control("POST", "/sandbox/world", {"user": "linus", "add_posts": 3})["added"]
    old = sandbox.control(
        "POST", "/sandbox/world", {"user": "linus", "add_posts": 1, "age_s": 9e6}
    )["added"]
    assert sandbox.control(
        "POST", "/sandbox/world", {"user": "linus", "delete": [before[7], "5"]}
    ) == {"deleted": 1}
    expected = sorted({*before, *added, *old} - {before[7]}, key=int, reverse=True)
    assert walk(sandbox, "linus") == sandbox.truth_ids("linus")["reachable"] == expected
    assert expected[:3] == added[::-1]
    id_ = sandbox.id_of("linus")
    assert sandbox.get(f"/2/users/{id_}", {"user.fields": "public_metrics"}).json()["data"][
        "public_metrics"
    ]["tweet_count"] == len(expected)
    assert "errors" in sandbox.get("/2/tweets", {"ids": before[7]}).json()
    assert sandbox.get("/2/tweets", {"ids": added[0]}).json()["data"][0]["id"] == added[0]
    sandbox.control("POST", "/sandbox/world", {"user": "linus", "rename_to": "torvald"})
    assert "data" not in sandbox.get("/2/users/by", {"usernames": "linus"}).json()
    assert sandbox.get("/2/users/by", {"usernames": "Torvald"}).json()["data"][0]["id"] == id_
    sandbox.control("POST", "/sandbox/world", {"user": "torvald", "state": "suspended"})
    assert sandbox.get(f"/2/users/{id_}").json()["errors"][0]["title"] == "Forbidden"
    assert sandbox.truth_ids("torvald")["reachable"] == []
    sandbox.control("POST", "/sandbox/world", {"user": "torvald", "state": "normal"})
    assert walk(sandbox, "torvald") == expected


def test_a_post_that_was_added_and_deleted_again_is_gone_from_everywhere(sandbox: Sandbox) -> None:
    """It once stayed in its timeline, and an answer with it failed: it had no author."""
    before = sandbox.truth_ids("hedy")["reachable"]
    added = sandbox.control("POST", "/sandbox/world", {"user": "hedy", "add_posts": 4})["added"]
    assert sandbox.control("POST", "/sandbox/world", {"user": "hedy", "delete": added[1::2]}) == {
        "deleted": 2
    }
    expected = [added[2], added[0], *before]
    assert walk(sandbox, "hedy") == sandbox.truth_ids("hedy")["reachable"] == expected
    newest = sandbox.get(
        f"/2/users/{sandbox.id_of('hedy')}", {"user.fields": "most_recent_tweet_id,public_metrics"}
    )
    assert newest.json()["data"]["most_recent_tweet_id"] == added[2]
    assert newest.json()["data"]["public_metrics"]["tweet_count"] == len(expected)
    gone = sandbox.get("/2/tweets", {"ids": ",".join(added[1::2])}).json()
    assert {error["value"] for error in gone["errors"]} == set(added[1::2])
    assert "data" not in gone


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=12),
    cut=st.integers(0, 80),
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_added_and_deleted_a_timeline_reads_the_same_both_ways(
    steps: list[tuple[bool, int]], cut: int
) -> None:
    world = MadeWorld("seed", NOW_MS, (0, 40))
    expected = set(ids_of(world, "hedy"))
    for adds, number in steps:
        if adds:
            expected |= set(world.add_posts("hedy", number % 4, NOW_MS - number * 50_000))
        else:
            chosen = sorted(expected)[number::7]
            assert world.delete("hedy", chosen) == len(chosen)
            expected -= set(chosen)
    person = world.people.anyone("hedy")
    ids = sorted(expected, reverse=True)
    assert ids_of(world, "hedy") == ids
    assert list(world.timelines.oldest_first(person, 0)) == ids[::-1]
    assert all(world.posts.tweet_of(person, id_).id == id_ for id_ in ids)
    if cut < len(ids):
        assert list(world.timelines.newest_first(person, ids[cut], NO_ID)) == ids[:cut]
        assert list(world.timelines.newest_first(person, 0, ids[cut])) == ids[cut + 1 :]
        assert list(world.timelines.oldest_first(person, ids[cut])) == ids[:cut][::-1]


def test_followers_are_listed_once_each_and_page_by_sixteen_sign_tokens(sandbox: Sandbox) -> None:
    name = next(
        name for number in range(99) if 20 < followers(sandbox, name := f"user{number}") < 900
    )
    found: list[str] = []
    parameters = {"max_results": "100"}
    while True:
        page = sandbox.get(
            f"/2/users/{sandbox.id_of(name)}/followers", parameters, user=True
        ).json()
        found += [user["id"] for user in page.get("data", ())]
        if "next_token" not in page["meta"]:
            break
        assert re.fullmatch("[0-9A-V]{12}EZZZ", page["meta"]["next_token"])
        parameters["pagination_token"] = page["meta"]["next_token"]
    assert len(set(found)) == len(found) == followers(sandbox, name)


@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        ("/2/users/by", {"usernames": "a_name_that_is_too_long"}, "does not match"),
        ("/2/users/by", {}, "can not be empty"),
        (
            "/2/users/by",
            {"usernames": "ada", "nonsense": "1"},
            r"query parameter \[nonsense\] is not one of",
        ),
        ("/2/users", {"ids": ",".join("1" * 101)}, "is not between 1 and 100"),
        ("/2/tweets", {"ids": "abc"}, "does not match"),
        ("/2/users/1/tweets", {"max_results": "4"}, r"\[4\] is not between 5 and 100"),
        (
            "/2/users/1/tweets",
            {"tweet.fields": "colour"},
            r"\[colour\] is not one of \[article,attachments,",
        ),
        ("/2/users/1/tweets", {"exclude": "cats"}, "is not one of"),
        ("/2/users/x/tweets", {}, "is not valid"),
        ("/2/users/{ada}/tweets", {"pagination_token": "abc"}, "is not valid"),
        ("/2/users/{ada}/tweets", {"end_time": "{now}"}, "minimum of 10 seconds prior"),
        ("/2/users/{ada}/tweets", {"start_time": "yesterday"}, "not a valid RFC3339"),
    ],
)
def test_a_wrong_parameter_is_a_400_that_names_it(
    sandbox: Sandbox,
    path: str,
    parameters: dict[str, str],
    message: str,
) -> None:
    path = path.replace("{ada}", sandbox.id_of("ada"))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = sandbox.get(
        path, {name: value.replace("{now}", now) for name, value in parameters.items()}
    )
    assert answer.status_code == 400
    body = answer.json()
    assert body["title"] == "Invalid Request"
    assert body["type"].endswith("/invalid-request")
    assert re.search(message, body["errors"][0]["message"])
    assert answer.headers["x-rate-limit-remaining"]


def test_too_many_ids_are_all_sent_back(sandbox: Sandbox) -> None:
    ids = [str(number) for number in range(101)]
    answer = sandbox.get("/2/tweets", {"ids": ",".join(ids)})
    assert answer.json()["errors"][0]["parameters"] == {"ids": ids}


def test_private_numbers_of_others_are_refused_per_field(sandbox: Sandbox) -> None:
    page = sandbox.get(
        f"/2/users/{sandbox.id_of('ada')}/tweets",
        {"max_results": "5", "tweet.fields": "non_public_metrics"},
    ).json()
    assert len(page["errors"]) == 5
    assert page["errors"][0]["type"].endswith("/not-authorized-for-field")


def test_closed_doors_of_v1_and_unknown_paths(sandbox: Sandbox) -> None:
    assert sandbox.get("/1.1/statuses/user_timeline.json").json()["errors"][0]["code"] == 453
    answer = sandbox.get("/2/nothing")
    assert (answer.status_code, answer.content) == (404, b"")


def test_the_fast_world_is_endless_and_its_posts_are_distinct() -> None:
    with Sandbox("--fast", "--plan", "unlimited") as sandbox:
        path = f"/2/users/{sandbox.id_of('ada')}/tweets"
        parameters = {
            "max_results": "100",
            "tweet.fields": "created_at,author_id",
            "expansions": "author_id",
        }
        ids: list[int] = []
        for _ in range(4):
            page = sandbox.get(path, parameters).json()
            for tweet in page["data"]:
                created = datetime.fromtimestamp(ms_of_id(int(tweet["id"])) // 1000, UTC)
                assert tweet["created_at"] == created.strftime("%Y-%m-%dT%H:%M:%S.000Z")
                assert (
                    tweet["author_id"] == page["includes"]["users"][0]["id"] == sandbox.id_of("ada")
                )
            ids += [int(tweet["id"]) for tweet in page["data"]]
            parameters["until_id"] = page["meta"]["oldest_id"]
        assert len(set(ids)) == 400
        assert ids == sorted(ids, reverse=True)
        assert set(sandbox.sales("ada")) == set(ids)
        del parameters["until_id"]
        page = sandbox.get(path, parameters | {"since_id": str(ids[30])}).json()
        assert [int(tweet["id"]) for tweet in page["data"]] == ids[:30]
        assert "next_token" not in page["meta"]


def walk(sandbox: Sandbox, name: str, **more: str) -> list[str]:
    """Ids of the whole timeline, by token."""
    found: list[str] = []
    parameters: dict[str, Any] = {"max_results": "50"} | more
    while True:
        page = sandbox.get(f"/2/users/{sandbox.id_of(name)}/tweets", parameters, user=True).json()
        found += [tweet["id"] for tweet in page.get("data", ())]
        assert len(page.get("data", ())) == page["meta"]["result_count"]
        if "next_token" not in page["meta"]:
            return found
        parameters["pagination_token"] = page["meta"]["next_token"]


def followers(sandbox: Sandbox, name: str) -> int:
    count: int = sandbox.truth_ids(name)["user"]["public_metrics"]["followers_count"]
    return count


def some_posts(world: MadeWorld) -> Iterator[Post]:
    """Two thousand posts of people with long and short histories."""
    for name in ("ada", "grace", "linus", "maja", "user47", "zed", world.people.public_names[0]):
        person = world.people.anyone(name)
        for id_ in islice(world.timelines.newest_first(person, 0, NO_ID), 600):
            yield world.posts.tweet_of(person, id_)
