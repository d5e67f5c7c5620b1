"""The scores are those of vaderSentiment itself, for every text."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
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
    "good GOOD Great bad horrible love hate! smart?? VERY, :) :( ;-) :D <3 lol LOL ok OK the a harbour "
    "\U0001f600 \U0001f622 \u2764 \u00a9 \U0001f469\u200d\U0001f467 \u2728\u2728 caf\u00e9 \u0130 \u212a \u03a3 "
    "\ufffd & https://example.org/good @love #hate"
)
SPACES = ("\n", "\t", "  ", "\u00a0")
PIECES = (*vader.NEGATE, *vader.BOOSTER_DICT, *vader.SPECIAL_CASES, *WORDS.split(), *SPACES)


@cache
def plain() -> Callable[[str], float]:
    analyzer = vader.SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])


def differing(texts: Iterator[str]) -> list[str]:
    return [text for text in texts if scorer()(text) != plain()(text)]


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
        for before, between, after in itertools.product(("", "well then "), fillers, ("", "of it all"))
    )
    assert differing(texts) == []


def test_random_sentences_score_the_same() -> None:
    generator = random.Random(20240610)
    lexicon = list(vader.SentimentIntensityAnalyzer().lexicon)
    emojis = list(vader.SentimentIntensityAnalyzer().emojis)

    def sentence() -> str:
        sources = generator.choices((PIECES, lexicon, emojis), (8, 3, 1), k=generator.randrange(40))
        return " ".join(generator.choice(source) for source in sources)

    assert differing(sentence() for _ in range(6000)) == []


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6)), st.sampled_from([" ", "", ", ", "\n"]))
def test_any_text_scores_the_same(pieces: list[str], glue: str) -> None:
    assert differing(iter([glue.join(pieces)])) == []


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
    assert differing(iter(found)) == []
