"""The formulas of the statistics, on a view: each gives the value on all documents and without each group.

A formula returns None where the tokenizer has nothing of the kind (no unknown token, pieces that spell no bytes).
0 / 0 is NaN: the statistic is undefined there. Entropies are in bits.
Shapes: `G` groups of documents, `P` patterns of numbers; results `(1 + G,)`, of pairs `(1 + 8,)`, or `(1,)` where
nothing is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from operators.tokenizer_statistics.jackknife import Values
from operators.tokenizer_statistics.numbers import EVEN, LEFT, MAX_DIGITS, NEITHER, PATTERNS, RIGHT
from operators.tokenizer_statistics.text_facts import Flags
from operators.tokenizer_statistics.views import Grouped, View, is_seen, n_log_n
from operators.tokenizer_statistics.vocabulary import Vocabulary

Formula = Callable[[View], Values | None]

_LONG_WAYS = {LEFT: "long_left", RIGHT: "long_right", EVEN: "long_even", NEITHER: "long_neither"}


def ratio(upper: Values, lower: Values) -> Values:
    """Element by element, NaN where the lower is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lower == 0, np.nan, upper / lower)


def per(upper: str, lower: str) -> Formula:
    """One counter over another."""
    return lambda view: ratio(view.counter(upper), view.counter(lower))


def unspelt(view: View) -> Values | None:
    return None if view.vocabulary.pieces is None else per("unspelt", "documents")(view)


# ----------------------------------------------------------------------------------------------------- vocabulary


def types(view: View) -> Values:
    return view.ids.summed(is_seen)[:1]


def vocabulary_used(view: View) -> Values:
    return ratio(types(view), np.array([view.vocabulary.size]))


def unreached(view: View) -> Values:
    return view.vocabulary.size - types(view)


def types_to_cover(share: float) -> Formula:
    """How many of the commonest ids it takes until so much of all tokens is covered."""

    def formula(view: View) -> Values:
        counts = view.sorted_counts()
        if not len(counts):
            return np.array([np.nan])
        # Whole tokens are compared: a running sum of shares would be off by rounding just where it matters.
        needed = math.ceil(round(share * 100) * counts.sum() / 100)
        return np.array([1.0 + np.searchsorted(np.cumsum(counts), needed)])

    return formula


def share_of_ids(which: Callable[[Vocabulary], Flags | None]) -> Formula:
    """Share of the tokens whose id is of a kind."""

    def formula(view: View) -> Values | None:
        wanted = which(view.vocabulary)
        return None if wanted is None else ratio(view.ids_among(wanted), view.counter("tokens"))

    return formula


def unknown_ids(vocabulary: Vocabulary) -> Flags | None:
    return None if vocabulary.unknown is None else np.arange(vocabulary.width) == vocabulary.unknown


# ------------------------------------------------------------------------------------------- entropies, efficiency


def entropy(counts: Grouped) -> Values:
    """Plug-in: log2 N - sum of n log2 n / N."""
    tokens = counts.summed(np.asarray)
    with np.errstate(divide="ignore"):
        return np.log2(tokens) - ratio(counts.summed(n_log_n), tokens)


def miller_madow(counts: Grouped) -> Values:
    """What Miller and Madow add: (distinct - 1) / 2N, in bits."""
    return ratio(counts.summed(is_seen) - 1, 2 * math.log(2) * counts.summed(np.asarray))


def unigram_entropy(view: View) -> Values:
    return entropy(view.ids)


def unigram_corrected(view: View) -> Values:
    return entropy(view.ids) + miller_madow(view.ids)


def unigram_bits_per_byte(view: View) -> Values:
    return ratio(entropy(view.ids) * view.counter("tokens"), view.counter("bytes"))


def conditional_entropy(view: View) -> Values:
    """H(pair) - H(first of the pair)."""
    return entropy(view.pairs) - entropy(view.before)


def conditional_corrected(view: View) -> Values:
    return conditional_entropy(view) + miller_madow(view.pairs) - miller_madow(view.before)


def capacity_utilisation(view: View) -> Values:
    return ratio(conditional_entropy(view), _log_size(view))


def renyi_entropy(counts: Grouped, order: float) -> Values:
    """log2(sum of p ** order) / (1 - order)."""
    tokens = counts.total.sum()
    powers = counts.summed(lambda n: np.asarray((n / tokens) ** order))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((np.log2(powers) - order * np.log2(counts.summed(np.asarray) / tokens)) / (1 - order))


def efficiency(entropy_of: Callable[[Grouped], Values], *, by_vocabulary: bool) -> Formula:
    """An entropy over its greatest value, the logarithm of how many ids there are: seen ones, or the vocabulary's."""

    def formula(view: View) -> Values:
        with np.errstate(divide="ignore"):
            most = _log_size(view) if by_vocabulary else np.log2(view.ids.summed(is_seen))
        return ratio(entropy_of(view.ids), most)

    return formula


def percentile_frequency(view: View) -> Values:
    """Share of the tokens whose ids are from place int(0.03 K) to before int(0.83 K) of K, commonest first."""
    groups: list[int | None] = [None, *range(len(view.occupied))]
    return np.array([_middle(view.sorted_counts(group)) for group in groups])


def _middle(counts: Values) -> float:
    first, last = int(0.03 * len(counts)), int(0.83 * len(counts))
    return float(counts[first:last].sum() / counts.sum()) if len(counts) else math.nan


def _log_size(view: View) -> Values:
    return np.array([math.log2(view.vocabulary.size) if view.vocabulary.size else math.nan])


# -------------------------------------------------------------------------------------------------------- numbers


def numbers_whole(view: View) -> Values:
    short = view.patterns
    whole = short[:, PATTERNS.pieces == 1].sum(axis=1) + view.counter("long_whole")
    return ratio(whole, short.sum(axis=1) + view.counter("long_numbers"))


def tokens_per_number(view: View) -> Values:
    short = view.patterns
    tokens = short @ PATTERNS.pieces + view.counter("long_tokens")
    return ratio(tokens, short.sum(axis=1) + view.counter("long_numbers"))


def whole_of_length(digits: int) -> Formula:
    return lambda view: ratio(
        view.patterns[:, (PATTERNS.digits == digits) & (PATTERNS.pieces == 1)].sum(axis=1),
        view.patterns[:, PATTERNS.digits == digits].sum(axis=1),
    )


def tokens_of_length(digits: int) -> Formula:
    chosen = PATTERNS.digits == digits
    return lambda view: ratio(view.patterns[:, chosen] @ PATTERNS.pieces[chosen], view.patterns[:, chosen].sum(axis=1))


def cut_from(way: int) -> Formula:
    """Share of the numbers of several tokens that are cut that way."""

    def formula(view: View) -> Values:
        by_way = {
            each: view.patterns[:, PATTERNS.direction == each].sum(axis=1) + view.counter(name)
            for each, name in _LONG_WAYS.items()
        }
        return ratio(by_way[way], np.sum([*by_way.values()], axis=0))

    return formula


def number_consistency(view: View) -> Values:
    """Share of the numbers of 2 to 8 digits that are cut as most of their length are."""
    like_most = sum(
        (view.patterns[:, PATTERNS.digits == digits].max(axis=1) for digits in range(2, MAX_DIGITS + 1)),
        np.zeros(len(view.patterns)),
    )
    return ratio(like_most, view.patterns[:, PATTERNS.digits > 1].sum(axis=1))
