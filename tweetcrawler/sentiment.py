"""The VADER score of a text, to the last digit of vaderSentiment, which only this uses.

VADER's lists of words, emoji and idioms come from the package. Its rules are written
again here. VADER applies all of them to every word of a text. Here a word is read once for
all texts, and the rules are asked only about the few words that carry a feeling, and about
their neighbours. Odd rules are VADER's, and stay as odd as they are there.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any


@cache
def scorer() -> Callable[[str], float]:
    """A function that gives the compound score of a text: -1 to 1, with four decimals.

    0.0 when nothing is felt.

    The lexicon is read by the first call in a process, which takes some 30 ms; the later
    ones return the same function.
    """
    # Not at the top of the module: a run without sentiment does not pay for it.
    from vaderSentiment import vaderSentiment as vader  # noqa: N813 - it is a module

    return _Rules(vader).compound


@dataclass(frozen=True, slots=True, eq=False)
class _Word:
    """Properties of a word that the rules use."""

    text: str = ""
    """In lower case, without punctuation around it; empty if no rule names the word."""
    feeling: float | None = None
    """Its value in the lexicon, None if it is not there."""
    boost: float = 0.0
    """What it adds to a feeling behind it."""
    negates: bool = False
    in_phrase: bool = False
    """Whether an idiom or a booster of several words has it."""
    is_shouted: bool = False


_ORDINARY = _Word()
_BEFORE_THE_TEXT = _Word(feeling=0.0)  # a word of the lexicon, beside another one, changes nothing
_NAMED_BY_RULES = frozenset(
    {
        "no",
        "or",
        "nor",
        "so",
        "this",
        "never",
        "without",
        "doubt",
        "least",
        "at",
        "very",
        "kind",
        "of",
        "but",
    }
)
_WORDS_KEPT = 10_000
"""Some 2 MB; links and names come once and go, the words that people use stay."""


class _Rules:
    """VADER's rules over VADER's lists."""

    def __init__(self, vader: Any) -> None:
        analyzer = vader.SentimentIntensityAnalyzer()
        self._lexicon: dict[str, float] = analyzer.lexicon
        self._boosters: dict[str, float] = vader.BOOSTER_DICT
        self._idioms: dict[str, float] = vader.SPECIAL_CASES
        self._negations = frozenset(vader.NEGATE)
        phrases = [phrase for phrase in (*self._idioms, *self._boosters) if " " in phrase]
        self._phrase_words = frozenset(" ".join(phrases).split())
        self._named = frozenset(self._lexicon).union(
            self._boosters, self._negations, self._phrase_words, _NAMED_BY_RULES
        )
        self._negation: float = vader.N_SCALAR
        self._shout: float = vader.C_INCR
        self._normalize: Callable[[float], float] = vader.normalize
        # VADER looks at single characters, so it never finds an emoji of several.
        self._emoji = {
            emoji: f" {name}" for emoji, name in analyzer.emojis.items() if len(emoji) == 1
        }
        # Above U+FFFF nearly all is emoji, and re goes through a list of characters there
        # one by one.
        low = "".join(re.escape(emoji) for emoji in self._emoji if emoji < "\U00010000")
        self._perhaps_emoji = re.compile(f"[{low}\U00010000-\U0010ffff]")
        self._word = lru_cache(_WORDS_KEPT)(self._read)

    def compound(self, text: str) -> float:
        if not text.isascii():
            text = self._perhaps_emoji.sub(self._spelled, text)
        tokens = text.split()
        words = [*map(self._word, tokens)]
        felt = [i for i, word in enumerate(words, 3) if word.feeling is not None]
        if not felt:
            return 0.0
        words = [_BEFORE_THE_TEXT] * 3 + words + [_ORDINARY] * 2
        values = [self._value(words, i, tokens=tokens) for i in felt]
        if "but" in text.lower():
            _turn_at_but(values, felt, words=words)
        # VADER's sum has a zero for each of the other words, which changes no sum of floats.
        total = sum(values)
        if total > 0:
            total += _emphasis(text)
        elif total < 0:
            total -= _emphasis(text)
        return round(self._normalize(total), 4)

    def _spelled(self, found: re.Match[str]) -> str:
        character = found[0]
        return self._emoji.get(character, character)

    def _read(self, token: str) -> _Word:
        # What has only two characters left is taken for an emoticon.
        bare = token.strip(string.punctuation)
        text = (bare if len(bare) > 2 else token).lower()
        negates = text in self._negations or "n't" in text
        if not negates and text not in self._named:
            return _ORDINARY
        return _Word(
            text,
            feeling=self._lexicon.get(text),
            boost=self._boosters.get(text, 0.0),
            negates=negates,
            in_phrase=text in self._phrase_words,
            is_shouted=token.isupper(),
        )

    def _value(self, words: Sequence[_Word], i: int, *, tokens: Sequence[str]) -> float:
        """Value of word `i` in its context: the three words before it, the two after it."""
        third, second, first, word, after = words[i - 3 : i + 2]
        value = word.feeling
        if value is None or word.boost or (word.text == "kind" and after.text == "of"):
            return 0.0
        if (
            first.text == "no"
            or second.text == "no"
            or (third.text == "no" and first.text in ("or", "nor"))
        ):
            value *= self._negation
        elif word.text == "no" and after.feeling is not None:
            value = 0.0
        if word.is_shouted and _is_mixed(tokens):
            value += self._shout if value > 0 else -self._shout
        if first.feeling is None:
            if first.boost:
                value += self._boost(first, value, tokens=tokens)
            if first.negates:
                value *= self._negation
        if second.feeling is None:
            if second.boost:
                value += self._boost(second, value, tokens=tokens) * 0.95
            if second.text == "never" and first.text in ("so", "this"):
                value *= 1.25
            elif second.negates and not (second.text == "without" and first.text == "doubt"):
                value *= self._negation
        if third.feeling is None:
            if third.boost:
                value += self._boost(third, value, tokens=tokens) * 0.9
            if first.text in ("so", "this") or (
                third.text == "never" and second.text in ("so", "this")
            ):
                value *= 1.25
            elif third.negates and not (
                third.text == "without" and "doubt" in (first.text, second.text)
            ):
                value *= self._negation
            # Every phrase has two words side by side at least.
            if (
                (first.in_phrase and (second.in_phrase or word.in_phrase))
                or (second.in_phrase and third.in_phrase)
                or (word.in_phrase and after.in_phrase)
            ):
                value = self._phrased(value, words[i - 3 : i + 3])
        if first.text == "least" and second.text not in ("at", "very"):
            value *= self._negation
        return value

    def _boost(self, booster: _Word, value: float, *, tokens: Sequence[str]) -> float:
        boost = -booster.boost if value < 0 else booster.boost
        if booster.is_shouted and _is_mixed(tokens):
            boost += self._shout if value > 0 else -self._shout
        return boost

    def _phrased(self, value: float, near: Sequence[_Word]) -> float:
        """The value of an idiom that holds or precedes the fourth word, and phrases that boost."""
        third, second, first, word, after, next_ = [each.text for each in near]
        before = (f"{third} {second} {first}", f"{third} {second}", f"{second} {first}")
        ending_here = (f"{first} {word}", f"{second} {first} {word}")
        beginning_here = (f"{word} {after} {next_}", f"{word} {after}")
        for phrase in (*beginning_here, *ending_here, before[2], *before[:2]):
            if phrase in self._idioms:
                value = self._idioms[phrase]
                break
        for phrase in before:
            value += self._boosters.get(phrase, 0)
        return value


def _is_mixed(tokens: Sequence[str]) -> bool:
    """Whether some words are in capitals and others are not, when it is known that some are."""
    return not all(map(str.isupper, tokens))


def _turn_at_but(values: list[float], places: Sequence[int], *, words: Sequence[_Word]) -> None:
    """Halves the scores before the first "but", and adds half to those after it.

    Each value is looked up by what it is, so of two equal ones the first is changed,
    perhaps twice.
    """
    but = next((i for i, word in enumerate(words) if word.text == "but"), None)
    if but is None:
        return
    for value in values:
        first = values.index(value)
        values[first] = value * (0.5 if places[first] < but else 1.5)


def _emphasis(text: str) -> float:
    questions = text.count("?")
    return min(text.count("!"), 4) * 0.292 + (
        0 if questions < 2 else questions * 0.18 if questions < 4 else 0.96
    )
