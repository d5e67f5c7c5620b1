"""The scores are those of vaderSentiment itself, for every text."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vaderSentiment import vaderSentiment as vader  # noqa: N813 - it is a module

from tweetcrawler.sentiment import scorer

WORDS = (
    "so this doubt without never least at very no or nor but kind of not n't isN'T NOT SO THIS "
    "BUT never, least! good GOOD Great bad horrible love hate! smart?? VERY, :) :( ;-) :D <3 lol "
    "LOL ok OK the a harbour 11 \U0001f600 \U0001f622 \u2764 \u2764\ufe0f \u00a9 "
    "\U0001f469\u200d\U0001f467 \u2728\u2728 good\U0001f600bad caf\u00e9 \u0130 \u212a KIND "
    "K\u0131nd \u212aind \u03a3 GOOD\u03a3 isn\u2019t \U0001f51b \U0001f199 \U00010348 \ufffd & "
    "&amp; &lt;3 https://example.org/good https://t.co/n'tAbC @love #hate $SAD RT @good: ! ?? "
    "?!?! !!!!!! ... \u2026"
)
BEFORE_A_FEELING = (
    "so this doubt without never least at very VERY no or nor but not isn't kinda "
    "the bad bus yeah kiss of just enough kind sort to die harbour good"
)
FEELINGS = (
    "good",
    "BAD",
    "bomb",
    "shit of",
    "stop",
    "right",
    "ass but fine",
    "kind of",
    "kiss of death",
    "no love",
)
PHRASES = (*vader.SPECIAL_CASES, *(booster for booster in vader.BOOSTER_DICT if " " in booster))
SPACES = ("\n", "\t", "  ", "\u00a0", "\u2003", "\u2028", "\x1c", "\x85", "\u200b")
RULED = (*vader.NEGATE, *vader.BOOSTER_DICT, *vader.SPECIAL_CASES, *" ".join(PHRASES).split())
PIECES = (*RULED, *WORDS.split(), *SPACES)
ADORNED = '{} {} {} {}! {}!! {}? {}??? {}, ({}) "{}" \'{} #{} @{} {}... *{}* &{};'


@cache
def analyzer() -> Any:
    return vader.SentimentIntensityAnalyzer()


def differing(texts: Iterable[str]) -> list[str]:
    """Texts that vaderSentiment scores otherwise.

    Compared as text, since -0.0 and 0.0 are not the same in a file.
    """
    score, plain = scorer(), analyzer().polarity_scores
    return [text for text in texts if repr(score(text)) != repr(plain(text)["compound"])]


def random_text(dice: random.Random) -> str:
    """Words of the rules, of the lexicon and emoji, up to 300.

    Shouted, with punctuation, in odd spaces.
    """
    sources = (PIECES, list_of_lexicon(), list_of_emoji())
    shouting = dice.choice((0, 0.1, 0.5, 1))
    adorning = dice.choice((0, 0.2, 0.6))
    glue = dice.choice((" ", " ", " ", "\n", "", ", ", " \U0001f600 "))
    length = dice.choice((3, 8, 20, 40, 300)) if dice.random() < 0.1 else dice.randrange(24)
    words = []
    for source in dice.choices(sources, (8, 4, 1), k=length):
        word = dice.choice(source)
        if dice.random() < shouting:
            word = word.upper()
        if dice.random() < adorning:
            word = dice.choice(ADORNED.split()).format(word)
        words.append(word)
    return glue.join(words)


@cache
def list_of_lexicon() -> list[str]:
    return list(analyzer().lexicon)


@cache
def list_of_emoji() -> list[str]:
    return list(analyzer().emojis)


def test_known_feelings_have_their_sign() -> None:
    score = scorer()
    assert score("I love this wonderful harbour") > 0.5
    assert score("I hate this horrible smell") < -0.5
    assert score("") == score("The harbour is at the sea") == 0.0


def test_score_is_a_float_of_four_decimals_between_minus_one_and_one() -> None:
    for text in ("good " * 500, "bad " * 500, "not good", ""):
        value = scorer()(text)
        assert type(value) is float
        assert -1 <= value <= 1
        assert value == round(value, 4)


def test_lexicon_is_read_once_in_a_process() -> None:
    assert scorer() is scorer()


def test_import_alone_loads_no_lexicon() -> None:
    """Whoever wants no sentiment does not wait for it."""
    program = "import sys, tweetcrawler.sentiment; sys.exit('vaderSentiment' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_negation_booster_and_idiom_before_a_feeling_scores_the_same() -> None:
    words = ("good", "BAD", "shit", "kind", "no")
    fillers = ("", "harbour ", "so ", "this ", "the harbour ", "at ", "doubt ")
    texts = (
        f"{before}{piece} {between}{word} {after}"
        for piece, word in itertools.product(PIECES, words)
        for before, between, after in itertools.product(
            ("", "well then "), fillers, ("", "of it all")
        )
    )
    assert differing(texts) == []


def test_every_word_of_the_lexicon_scores_the_same_alone_and_among_others() -> None:
    contexts = (
        "{}",
        "not {}!",
        "so very {} of it",
        "no {} but fine",
        "{} {} BUT {}",
        "sort of {}, least {}",
    )
    for context in contexts:
        assert differing(context.format(word, word, word) for word in list_of_lexicon()) == []
    assert differing(f"the {word.upper()} of it" for word in list_of_lexicon()) == []


def test_every_emoji_scores_the_same_alone_and_among_others() -> None:
    for context in ("{}", "good{}bad", "not {} ! {}{}", " {}\n{} n't"):
        assert differing(context.format(emoji, emoji, emoji) for emoji in list_of_emoji()) == []


def test_every_character_scores_the_same_within_a_feeling() -> None:
    """White space, punctuation, emoji and the other case of a letter make a difference."""
    codes = (*range(0x3000), *range(0x3000, 0x110000, 251))
    texts = ("so good{0}BAD, {0}kind of k{0}nd".format(chr(code)) for code in codes)
    assert differing(texts) == []


def test_three_words_of_the_rules_before_a_feeling_score_the_same() -> None:
    dice = random.Random(20240611)
    assert differing(dice.sample(list(texts_of_three_words_before_a_feeling()), 5000)) == []


def test_random_texts_score_the_same() -> None:
    dice = random.Random(20240610)
    assert differing(random_text(dice) for _ in range(3000)) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_three_words_of_the_rules_before_a_feeling_score_the_same() -> None:
    assert differing(texts_of_three_words_before_a_feeling()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_random_texts_score_the_same() -> None:
    dice = random.Random(int(os.environ.get("TWEETCRAWLER_SEED", "20240612")))
    assert differing(random_text(dice) for _ in range(100_000)) == []


def texts_of_three_words_before_a_feeling() -> Iterator[str]:
    for three in itertools.product(BEFORE_A_FEELING.split(), repeat=3):
        for feeling in FEELINGS:
            yield " ".join((*three, feeling))


@settings(max_examples=500)
@given(
    st.lists(
        st.sampled_from(PIECES)
        | st.sampled_from(PIECES).map(str.upper)
        | st.sampled_from(list_of_lexicon())
        | st.sampled_from(list_of_emoji())
        | st.text(max_size=6)
        | st.text(alphabet="!?.,'\"&#@ ", max_size=6)
    ),
    st.sampled_from([" ", "", ", ", "\n", "! "]),
)
def test_any_text_scores_the_same(pieces: list[str], glue: str) -> None:
    assert differing([glue.join(pieces)]) == []


def test_words_that_are_no_longer_kept_are_read_again() -> None:
    before = [scorer()(text) for text in ("so good", "Not GOOD at all", "never this bad!")]
    tracemalloc.start()
    try:
        for i in range(50_000):
            assert scorer()(f"GOOD{i}n't great{i}") == 0.0
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8e6, "what is kept of words does not grow with their number"
    assert [scorer()(text) for text in ("so good", "Not GOOD at all", "never this bad!")] == before


@pytest.mark.skipif(
    not os.environ.get("TWEETCRAWLER_RECORDED"),
    reason="TWEETCRAWLER_RECORDED names no folder of recorded answers",
)
def test_recorded_texts_score_the_same() -> None:
    def texts(node: Any) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key in ("text", "full_text", "description") and isinstance(value, str):
                yield value
            elif isinstance(value, dict | list):
                yield from texts(value)

    found: list[str] = []
    for path in sorted(Path(os.environ["TWEETCRAWLER_RECORDED"]).glob("v*/*.json*")):
        text = path.read_text(encoding="utf-8")
        for document in [text] if path.suffix == ".json" else text.splitlines():
            try:
                found.extend(texts(json.loads(document)))
            except json.JSONDecodeError:
                continue
    assert len(found) > 1000
    assert differing(found) == []
