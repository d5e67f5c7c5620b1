"""The VADER score of a text: the only user of vaderSentiment, whose scores are kept to the last digit.

VADER spends most of its time searching the whole text for what can only stand next to a word, and puts each
word through steps that can change only a few. Here it is asked for less; what it is asked, it computes itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache


@cache
def scorer() -> Callable[[str], float]:
    """A function that gives the compound score of a text: -1 to 1, four decimals, 0.0 when nothing is felt.

    The lexicon is read by the first call in a process, which takes some 30 ms; the later ones return the same
    function.
    """
    # Not at the top of the module: a run without sentiment does not pay for it.
    from vaderSentiment import vaderSentiment as vader  # noqa: N813 - it is a module

    analyzer = vader.SentimentIntensityAnalyzer()
    lexicon, boosters, emojis = analyzer.lexicon, vader.BOOSTER_DICT, analyzer.emojis.keys()
    check_negation, check_idioms = analyzer._negation_check, analyzer._special_idioms_check
    turning = frozenset(vader.NEGATE) | {"so", "this", "doubt"}
    phrases = [phrase for phrase in (*vader.SPECIAL_CASES, *boosters) if " " in phrase]
    phrase_ends = frozenset(phrase.rpartition(" ")[2] for phrase in phrases)

    def check_negation_nearby(valence: float, words: Sequence[str], distance: int, i: int) -> float:
        """As VADER's, which lowers all words each time, but sees only the three before word `i`."""
        first = max(i - 3, 0)
        near = words[first:i]
        lowered = " ".join(near).lower()
        if "n't" in lowered or not turning.isdisjoint(lowered.split(" ")):
            valence = check_negation(valence, near, distance, i - first)
        return valence

    def check_idioms_nearby(valence: float, words: Sequence[str], i: int) -> float:
        """As VADER's, but sees three words before and two behind word `i`, and only where a phrase ends."""
        near = words[i - 3 : i + 3]
        if not phrase_ends.isdisjoint(" ".join(near).lower().split(" ")):
            valence = check_idioms(valence, near, 3)
        return valence

    analyzer._negation_check = check_negation_nearby
    analyzer._special_idioms_check = check_idioms_nearby

    def compound(text: str) -> float:
        if not text.isascii() and not emojis.isdisjoint(text):
            return float(analyzer.polarity_scores(text)["compound"])
        # Without an emoji to spell out, polarity_scores comes down to this.
        parts = vader.SentiText(text)
        words: list[str] = parts.words_and_emoticons
        valences: list[float] = []
        for i, word in enumerate(words):
            lowered = word.lower()
            if lowered not in lexicon or lowered in boosters or _is_kind_of(words, i):
                valences.append(0)
            else:
                analyzer.sentiment_valence(0, parts, word, i, valences)
        return float(analyzer.score_valence(analyzer._but_check(words, valences), text)["compound"])

    return compound


def _is_kind_of(words: Sequence[str], i: int) -> bool:
    return words[i].lower() == "kind" and i + 1 < len(words) and words[i + 1].lower() == "of"
