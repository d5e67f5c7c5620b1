"""Every column, on pages made by hand that are named by what is odd in them."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from array_literals import parsed

from tweetcrawler import flatten as module
from tweetcrawler.flatten import COLUMNS, LISTS, Flattened, Partial, Refused, fields, flatten

PAGES = Path(__file__).parent / "data" / "pages"


def page(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PAGES / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def only_row(name: str) -> dict[str, Any]:
    rows, refused = flatten(page(name))
    assert refused == []
    assert len(rows) == 1
    return rows[0]


def rows_by_id(name: str) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in flatten(page(name)).rows}


def reasons_by_id(name: str) -> dict[str | None, str]:
    return dict(flatten(page(name)).refused)


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.json")), ids=lambda path: path.stem)
def test_any_page_gives_sorted_unique_rows_of_all_columns_and_stays_as_it_is(path: Path) -> None:
    given = page(path.stem)
    before = copy.deepcopy(given)
    rows, refused = flatten(given)
    assert given == before
    assert all(tuple(row) == COLUMNS for row in rows)
    ids = [row["id"] for row in rows]
    assert ids == sorted(set(ids))
    assert all(isinstance(entry, Refused) and entry.reason for entry in refused)
    assert flatten(given) == (rows, refused)


def test_plain_tweet_fills_every_column_it_can() -> None:
    assert only_row("plain_tweet") == {
        "id": 1800000000000000001,
        "tweet_from": "AdaBrook",
        "created_at": "2024-06-10T09:00:00.000Z",
        "hashtags": "{harbour,lowtide}",
        "urls": "{https://tides.example/today}",
        "user_mentions_id": "{1102}",
        "media": "{https://pbs.twimg.com/media/tide.jpg}",
        "user_mentions_name": "{ben_ose}",
        "origin_device": "Tide Board",
        "favorite_count": 12,
        "text": (
            "Low tide at nine, bring boots @ben_ose #harbour #lowtide "
            "https://t.co/aa1 https://t.co/pp1"
        ),
        "in_reply_to_screen_name": None,
        "in_reply_to_user_id": None,
        "in_reply_to_status_id": None,
        "retweet_count": 3,
        "retweeted_status_text": None,
        "retweeted_status_url": None,
        "retweeted_status_id": None,
        "retweeted_status_user_name": None,
        "retweeted_status_user_handle": None,
        "sentiment": None,
    }


def test_columns_are_those_of_the_table_in_its_order() -> None:
    assert len(COLUMNS) == len(set(COLUMNS)) == 21
    assert tuple(only_row("plain_tweet")) == COLUMNS


def test_tweet_with_only_the_default_fields_is_a_row_of_nulls_also_for_its_lists() -> None:
    row = only_row("only_default_fields")
    assert row == dict.fromkeys(COLUMNS) | {"id": 20, "text": "just setting up"}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2022-03-05T10:00:00.000Z", "2022-03-05T10:00:00.000Z"),
        ("2022-03-05T10:00:00Z", "2022-03-05T10:00:00Z"),
        ("2022-03-05T12:00:00+02:00", "2022-03-05T10:00:00.000Z"),
        # None of these is a moment; the id tells it.
        ("2022-03-05 12:00:00", "2022-03-05T09:55:17.000Z"),
        ("05/03/2022 10:00", "2022-03-05T09:55:17.000Z"),
        ("an hour ago", "2022-03-05T09:55:17.000Z"),
        ("2022-02-30T10:00:00.000Z", "2022-03-05T09:55:17.000Z"),
        ("", "2022-03-05T09:55:17.000Z"),
        (None, None),
    ],
)
def test_time_that_is_none_is_that_of_the_id(sent: str | None, stored: str | None) -> None:
    old, dated = flatten(
        {"data": [{"id": i, "created_at": sent} for i in ("20", "1500047286021943296")]}
    ).rows
    assert dated["created_at"] == stored
    assert old["created_at"] == (stored if sent and stored and "09:55:17" not in stored else None)


def test_lists_that_the_page_tells_to_be_empty_are_empty() -> None:
    entities: dict[str, Any] = {"hashtags": [], "urls": [], "mentions": []}
    told = {"id": "20", "entities": entities, "attachments": {"media_keys": []}}
    (row,) = flatten({"data": told}).rows
    assert {row[column] for column in LISTS} == {"{}"}


CUT = "word " * 54 + "\u2026 https://t.co/abcdefghij"
PARTS: dict[str, dict[str, Any]] = {
    "cut text": {"text": CUT},
    "cut text in v1.1": {"text": "word " * 26 + "\u2026"},
    "picture without its include": {"attachments": {"media_keys": ["3_1"]}},
    "retweet without the original": {"referenced_tweets": [{"type": "retweeted", "id": "2"}]},
}
WHOLE: dict[str, dict[str, Any]] = {
    "short text": {"text": "well\u2026"},
    "long text": {"text": "word " * 60},
    "note": {"text": CUT, "note_tweet": {"text": CUT}},
    "reply": {"referenced_tweets": [{"type": "replied_to", "id": "2"}]},
}


@pytest.mark.parametrize("name", [*PARTS, *WHOLE])
def test_row_that_lacks_a_part_says_so(name: str) -> None:
    (row,) = flatten({"data": {"id": "5", **(PARTS | WHOLE)[name]}}).rows
    assert isinstance(row, Partial) == (name in PARTS)


@pytest.mark.parametrize("name", ["errors_only", "empty_page", "empty_page_with_token"])
def test_page_without_tweets_gives_nothing(name: str) -> None:
    assert flatten(page(name)) == Flattened([], [])


def test_single_object_is_a_page_of_one_tweet() -> None:
    assert flatten(page("single_object")) == flatten(page("plain_tweet"))


def test_included_tweets_are_no_rows() -> None:
    assert list(rows_by_id("own_tweet_again_in_includes")) == [
        1800000000000000029,
        1800000000000000030,
    ]


# --- retweets -----------------------------------------------------------------------


def test_retweet_takes_lists_and_counts_from_where_they_are_whole() -> None:
    row = only_row("retweet_with_original")
    assert row["text"].startswith("RT @ben_ose: The new chart & the old one")
    assert row["text"].endswith("…")
    assert row["hashtags"] == "{charts,harbour}"
    assert row["urls"] == row["retweeted_status_url"] == '{"https://charts.example/a,b"}'
    assert row["media"] == "{https://pbs.twimg.com/media/charts.jpg}"
    assert row["user_mentions_id"] == "{1102,1103}"
    assert row["user_mentions_name"] == "{ben_ose,CleoMaps}"
    assert row["retweeted_status_text"].startswith("The new chart & the old one, side by side.")
    assert row["retweeted_status_text"].endswith(
        "#charts #harbour https://t.co/bb1 https://t.co/pp2"
    )
    assert row["retweeted_status_id"] == 1790000000000000001
    assert row["retweeted_status_user_name"] == "Ben Ó Sé"
    assert row["retweeted_status_user_handle"] == "ben_ose"
    assert (row["tweet_from"], row["favorite_count"], row["retweet_count"]) == ("AdaBrook", 0, 41)


def test_retweet_whose_original_is_gone_keeps_its_own_lists() -> None:
    row = only_row("retweet_without_original")
    assert row["retweeted_status_id"] == 1790000000000000001
    assert (row["hashtags"], row["urls"]) == ("{harbour}", "{https://quiet.example/}")
    assert (row["user_mentions_id"], row["user_mentions_name"]) == ("{1102}", "{ben_ose}")
    unknown = ("text", "url", "user_name", "user_handle")
    assert [row[f"retweeted_status_{column}"] for column in unknown] == [None] * 4


def test_retweeted_author_not_included_is_named_by_the_mention_only() -> None:
    row = only_row("retweet_of_author_not_included")
    assert row["user_mentions_id"] == "{1102,1103}"
    assert row["user_mentions_name"] == "{ben_ose,CleoMaps}"
    assert row["retweeted_status_user_name"] is row["retweeted_status_user_handle"] is None
    assert row["retweeted_status_text"] is not None


def test_retweeted_tweet_without_author_id_is_mentioned_as_the_retweet_does() -> None:
    row = only_row("retweet_of_tweet_without_author_id")
    assert row["user_mentions_id"] == "{1102,1103}"
    assert row["user_mentions_name"] == "{ben_ose,CleoMaps}"
    assert row["retweeted_status_user_handle"] is None


def test_retweet_of_a_quote_is_a_retweet_and_nothing_else() -> None:
    row = only_row("retweet_of_a_quote")
    assert row["retweeted_status_id"] == 1790000000000000002
    assert row["in_reply_to_status_id"] is None
    assert row["retweeted_status_url"] == "{https://x.com/CleoMaps/status/1780000000000000001}"
    assert row["user_mentions_name"] == "{ben_ose}"


def test_retweet_of_a_long_post_has_its_full_text_and_lists() -> None:
    row = only_row("retweet_of_a_long_post")
    assert row["retweeted_status_text"].endswith(
        "Thanks @CleoMaps. #flood #quay https://t.co/ll1 https://t.co/pp3"
    )
    assert len(row["text"]) == 140
    assert row["hashtags"] == "{flood,quay}"
    assert row["urls"] == row["retweeted_status_url"] == "{https://quay.example/report}"
    assert row["media"] == "{https://pbs.twimg.com/media/flood.jpg}"
    assert row["user_mentions_name"] == "{AdaBrook,CleoMaps}"


# --- replies and quotes -------------------------------------------------------------


def test_reply_that_quotes_names_the_tweet_replied_to() -> None:
    row = only_row("reply_that_quotes")
    assert row["in_reply_to_status_id"] == 1780000000000000002
    assert row["in_reply_to_user_id"] == 1102
    assert row["in_reply_to_screen_name"] == "ben_ose"
    assert row["retweeted_status_id"] is None


def test_quote_of_a_gone_tweet_is_a_tweet_with_a_link() -> None:
    row = only_row("quote_of_a_gone_tweet")
    assert row["urls"] == "{https://x.com/gone/status/1780000000000000009}"
    assert (
        row["in_reply_to_status_id"]
        is row["retweeted_status_id"]
        is row["retweeted_status_url"]
        is None
    )


def test_user_replied_to_is_named_by_the_mention_when_not_included() -> None:
    row = only_row("reply_to_user_only_mentioned")
    assert (row["in_reply_to_user_id"], row["in_reply_to_screen_name"]) == (1190, "Gone_User")


def test_user_replied_to_is_found_in_the_cut_entities_when_the_note_has_none() -> None:
    row = only_row("long_reply_whose_note_has_no_mention")
    assert row["in_reply_to_screen_name"] == "Gone_User"
    assert row["user_mentions_name"] is None


def test_user_replied_to_whom_nothing_names_is_null() -> None:
    row = only_row("reply_to_unknown_user")
    assert (row["in_reply_to_user_id"], row["in_reply_to_screen_name"]) == (1191, None)


# --- single tweets ------------------------------------------------------------------


def test_long_post_gives_full_text_its_entities_and_no_link_to_its_own_photo() -> None:
    row = only_row("long_post_with_media")
    assert row["text"].endswith("Thanks @CleoMaps. #flood #quay https://t.co/ll1 https://t.co/pp3")
    assert row["hashtags"] == "{flood,quay}"
    assert row["urls"] == "{https://quay.example/report}"
    assert row["user_mentions_id"] == "{1103}"
    assert row["media"] == "{https://pbs.twimg.com/media/flood.jpg}"


def test_edited_tweet_is_a_row_under_its_newest_id() -> None:
    row = only_row("edited_with_edits_remaining_as_text")
    assert (row["id"], row["text"]) == (1800000000000000011, "Second try")


def test_withheld_tweet_keeps_the_text_that_stands_in_for_it() -> None:
    row = only_row("withheld_tweet")
    assert row["tweet_from"] == "AdaBrook"
    assert row["text"].endswith("withheld in response to a legal demand")


def test_poll_is_no_media() -> None:
    assert only_row("poll")["media"] is None


def test_media_stand_in_the_order_of_the_keys_and_are_no_urls() -> None:
    row = only_row("four_photos")
    expected = [f"https://pbs.twimg.com/media/view{number}.jpg" for number in (44, 41, 43, 42)]
    assert parsed(row["media"]) == expected
    assert row["urls"] == "{}"


def test_film_is_its_preview_and_media_without_address_are_left_out() -> None:
    assert parsed(only_row("gif_video_and_a_key_not_included")["media"]) == [
        "https://pbs.twimg.com/tweet_video_thumb/wave.jpg",
        "https://pbs.twimg.com/ext_tw_video_thumb/waves.jpg",
    ]


def test_author_who_is_not_included_is_null() -> None:
    assert only_row("author_not_included")["tweet_from"] is None


def test_mention_without_id_keeps_its_place_in_both_lists() -> None:
    row = only_row("mention_without_id")
    assert row["user_mentions_id"] == "{1102,NULL,1103}"
    assert row["user_mentions_name"] == "{ben_ose,Suspended_1,CleoMaps}"


def test_url_that_x_did_not_expand_stands_as_it_is_and_an_empty_entry_is_left_out() -> None:
    assert (
        only_row("url_without_expanded_url")["urls"]
        == '{https://t.co/u1,"https://two.example/?q=a,b"}'
    )


# --- text ---------------------------------------------------------------------------


def test_three_escapes_are_undone_once_and_only_in_the_text() -> None:
    row = only_row("escapes")
    assert row["text"] == "Tom & Jerry <3 > &lt; &amp; &quot; &#39; &nbsp;"
    assert row["origin_device"] == "R&amp;D"


def test_emoji_right_to_left_marks_joiners_and_line_breaks_stay() -> None:
    given = page("emoji_right_to_left_joiners_line_breaks")
    row = only_row("emoji_right_to_left_joiners_line_breaks")
    assert row["text"] == given["data"][0]["text"]
    assert "\u200d" in row["text"]
    assert "\r\n\u2028" in row["text"]
    assert parsed(row["hashtags"]) == ["\u0645\u0631\u062d\u0628\u0627", "caf\u00e9"]


def test_nul_and_lone_surrogates_become_the_replacement_character_in_every_text() -> None:
    clean = "a\ufffdb\ufffdc\ufffd"
    retweet, plain = flatten(page("nul_and_lone_surrogates")).rows
    for row in (retweet, plain):
        for column in ("tweet_from", "text"):
            assert row[column] == clean, column
    assert retweet["origin_device"] == retweet["in_reply_to_screen_name"] == clean
    assert retweet["retweeted_status_text"] == retweet["retweeted_status_user_name"] == clean
    assert retweet["retweeted_status_user_handle"] == clean
    assert (
        retweet["hashtags"] == retweet["media"] == retweet["retweeted_status_url"] == f"{{{clean}}}"
    )
    assert plain["hashtags"] == f'{{{clean},"\ufffd "}}'
    assert plain["user_mentions_name"] == plain["urls"] == f"{{{clean}}}"


def test_nul_in_plain_ascii_is_seen_too() -> None:
    (row,) = flatten({"data": {"id": "1", "text": "a\x00", "source": "\x00b"}}).rows
    assert (row["text"], row["origin_device"]) == ("a\ufffd", "\ufffdb")


def test_elements_are_quoted_as_postgresql_does() -> None:
    row = only_row("list_elements_that_need_quotes")
    assert row["hashtags"] == (
        '{plain,"","NULL","null","nUlL",nulls,"a,b","{x","y}","say \\"hi\\"","back\\\\slash",'
        '"two words","tab\there","line\nbreak","cr\r","vt\v","ff\f",no\u00a0break,\u2003em,'
        "'apostrophe',;,twice,twice}"
    )
    given = page("list_elements_that_need_quotes")["data"][0]["entities"]["hashtags"]
    assert parsed(row["hashtags"]) == [entry["tag"] for entry in given]


# --- numbers ------------------------------------------------------------------------


def test_largest_id_is_a_row_and_one_more_is_refused() -> None:
    rows, refused = flatten(page("largest_id_and_one_more"))
    assert [row["id"] for row in rows] == [1, 2**63 - 1]
    assert rows[1]["in_reply_to_user_id"] == 2**63 - 1
    assert [entry.tweet_id for entry in refused] == ["9223372036854775808"]
    assert "9223372036854775808" in refused[0].reason


def test_ids_that_are_no_ids_are_refused_by_name_and_cost_no_other_tweet() -> None:
    rows, refused = flatten(page("ids_that_are_none"))
    assert [row["id"] for row in rows] == [1800000000000000200]
    assert len(refused) == len(page("ids_that_are_none")["data"]) - 1
    assert "1.8000000000000005e+18" in refused[3].reason
    assert "lost digits" in refused[3].reason
    assert [entry.tweet_id for entry in refused[4:6]] == [None, None]
    assert all(len(entry.reason) < 200 and entry.reason.isprintable() for entry in refused)


def test_ids_that_came_as_numbers_find_what_came_as_text() -> None:
    row = only_row("ids_as_numbers")
    assert (row["id"], row["tweet_from"]) == (1800000000000000023, "AdaBrook")
    assert (row["in_reply_to_user_id"], row["in_reply_to_screen_name"]) == (1102, "ben_ose")
    assert (row["in_reply_to_status_id"], row["user_mentions_id"]) == (
        1780000000000000002,
        "{1102}",
    )


def test_user_replied_to_is_found_among_mentions_whose_ids_are_numbers() -> None:
    given = page("ids_as_numbers") | {"includes": {}}
    (row,) = flatten(given).rows
    assert (row["tweet_from"], row["in_reply_to_screen_name"]) == (None, "ben_ose")


def test_whole_float_is_a_count_only_while_floats_are_exact() -> None:
    tweets = [
        {"id": "1", "public_metrics": {"like_count": 2.0**53}},
        {"id": "2", "public_metrics": {"like_count": 2.0**54}},
    ]
    rows, refused = flatten({"data": tweets})
    assert [row["favorite_count"] for row in rows] == [2**53]
    assert [entry.tweet_id for entry in refused] == ["2"]


def test_whole_counts_of_any_spelling_are_stored() -> None:
    counts = [
        (row["favorite_count"], row["retweet_count"])
        for row in flatten(page("counts_odd_but_whole")).rows
    ]
    assert counts == [(12, 2**63 - 1), (12, 0), (None, -1)]


def test_counts_that_cannot_be_stored_refuse_their_tweet_only() -> None:
    assert list(rows_by_id("counts_that_cannot_be_stored")) == [8]
    reasons = reasons_by_id("counts_that_cannot_be_stored")
    assert list(reasons) == ["1", "2", "3", "4", "5", "6", "7"]
    assert reasons["1"] == "like_count is 9223372036854775808, outside the range of bigint"
    assert reasons["2"] == "retweet_count is 12.5, which is not a whole number"
    assert reasons["6"] == "like_count is a list, which is not a whole number"
    assert reasons["7"] == "like_count is an integer of 1329 bits, outside the range of bigint"


def test_references_beyond_bigint_refuse_their_tweet_only() -> None:
    assert list(rows_by_id("references_beyond_bigint")) == [5]
    assert list(reasons_by_id("references_beyond_bigint")) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("where", ["id", "author_id", "in_reply_to_user_id"])
def test_number_too_long_to_print_is_no_exception(where: str) -> None:
    rows, refused = flatten(
        {"data": {"id": "1", where: 10**5000}, "includes": {"users": [{"id": 10**5000}]}}
    )
    assert len(rows) + len(refused) == 1


# --- odd pages ----------------------------------------------------------------------


def test_post_vocabulary_gives_the_rows_of_the_tweet_vocabulary() -> None:
    rows = rows_by_id("post_vocabulary")
    assert rows[1800000000000000002] == only_row("retweet_with_original")
    assert rows[1800000000000000004] == only_row("long_post_with_media")
    assert rows_by_id("both_vocabularies_in_one_page") == rows


@pytest.mark.parametrize("kind", ["retweeted", "reposted"])
def test_retweet_is_known_by_either_word(kind: str) -> None:
    (row,) = flatten({"data": {"id": "1", "referenced_posts": [{"type": kind, "id": "2"}]}}).rows
    assert row["retweeted_status_id"] == 2


def test_later_of_two_copies_wins_unless_it_is_refused() -> None:
    rows, refused = flatten(page("same_tweet_twice"))
    assert [(row["id"], row["favorite_count"]) for row in rows] == [(5, 2)]
    assert refused == [Refused("6", "like_count is 3.5, which is not a whole number")]


def test_wrong_types_count_as_absent_down_to_the_element() -> None:
    rows = rows_by_id("wrong_types")
    assert flatten(page("wrong_types")).refused == []
    assert rows[1800000000000000040] == dict.fromkeys(COLUMNS) | {"id": 1800000000000000040}
    half = rows[1800000000000000041]
    assert (half["tweet_from"], half["text"]) == ("AdaBrook", "half right #a @b")
    assert (half["hashtags"], half["urls"]) == ("{a}", "{https://t.co/9}")
    assert (half["user_mentions_id"], half["user_mentions_name"]) == ("{7,8}", "{NULL,c}")
    assert half["media"] == "{https://pbs.twimg.com/media/tide.jpg,https://pbs.twimg.com/p.jpg}"
    assert (half["favorite_count"], half["in_reply_to_status_id"]) == (4, 12)
    assert rows[1800000000000000042]["text"] == "sound"


@pytest.mark.parametrize("data", ["text", 5, 1.5, True])
def test_data_of_no_use_is_one_refusal(data: object) -> None:
    rows, refused = flatten({"data": data})
    assert rows == []
    assert [entry.tweet_id for entry in refused] == [None]


# --- sentiment ----------------------------------------------------------------------


def test_sentiment_is_asked_for_english_texts_and_rounded_to_four_decimals() -> None:
    asked: list[str] = []

    def score(text: str) -> float:
        asked.append(text)
        return 0.123456

    rows, _ = flatten(page("three_languages"), score=score)
    assert asked == ["I love this wonderful harbour"]
    assert [row["sentiment"] for row in rows] == [0.1235, None, None, None, None]


def test_sentiment_is_that_of_the_stored_text() -> None:
    asked: list[str] = []

    def score(text: str) -> float:
        asked.append(text)
        return 0.0

    flatten(page("escapes"), score=score)
    assert asked == [only_row("escapes")["text"]]


# --- what X is asked for ------------------------------------------------------------


def test_parameters_ask_for_all_that_the_columns_need() -> None:
    asked = {name: value.split(",") for name, value in fields().items()}
    assert {"id", "text", "note_tweet", "entities", "attachments", "referenced_tweets"} <= set(
        asked["tweet.fields"]
    )
    assert {"author_id", "in_reply_to_user_id", "public_metrics", "lang"} <= set(
        asked["tweet.fields"]
    )
    assert {"id", "name", "username"} <= set(asked["user.fields"])
    assert {"media_key", "url", "preview_image_url"} <= set(asked["media.fields"])
    assert {"author_id", "referenced_tweets.id", "referenced_tweets.id.author_id"} <= set(
        asked["expansions"]
    )
    assert {"in_reply_to_user_id", "attachments.media_keys"} <= set(asked["expansions"])
    assert "referenced_tweets.id.attachments.media_keys" in asked["expansions"]


def test_parameters_hold_no_private_metric_no_name_twice_and_no_blank() -> None:
    for name, value in fields().items():
        names = value.split(",")
        assert len(names) == len(set(names)), name
        assert all(re.fullmatch(r"[a-z_.]+", each) for each in names), name
        private = {"non_public_metrics", "organic_metrics", "promoted_metrics", "confirmed_email"}
        assert not private & set(names), name


def test_module_uses_the_standard_library_and_the_bounds_of_ids_only() -> None:
    imports = re.findall(
        r"^(?:from|import) ([\w.]+)",
        Path(module.__file__).read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    standard = {"__future__", "re", "collections.abc", "datetime", "typing"}
    assert set(imports) == standard | {"tweetcrawler.ids"}
