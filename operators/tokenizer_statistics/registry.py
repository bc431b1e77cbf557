"""The statistics of tokenizers: name, unit, formula, source, and what each number may be trusted for.

Comparisons (`premium`, `parity`, `premium_by_bytes`, `relative_tokens`) have no formula on one view: `rows` and
`parallel` make them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from operators.tokenizer_statistics import formulas
from operators.tokenizer_statistics.formulas import Formula, efficiency, per, renyi_entropy, share_of_ids
from operators.tokenizer_statistics.numbers import EVEN, LEFT, MAX_DIGITS, NEITHER, RIGHT

Group = Literal["lengths", "vocabulary", "efficiency", "entropy", "faithfulness", "numbers", "comparison"]
Method = Literal["jackknife", "wilson", ""]
Behind = Literal["documents", "checked", "pairs"]


@dataclass(frozen=True)
class Definition:
    """A statistic. unit: of the value. better: which is thought better, "" where neither is. needs: without which it
    is NULL. method: of the interval, "" where `why_no_interval` says why there is none. minimum, maximum: the least and
    the greatest value it can have. behind: which documents it is about. compute: None for comparisons."""

    name: str
    group: Group
    unit: str
    formula: str
    note: str
    compute: Formula | None = None
    better: Literal["higher", "lower", ""] = ""
    source: str = ""
    needs: str = ""
    method: Method = "jackknife"
    why_no_interval: str = ""
    minimum: float = 0.0
    maximum: float | None = None
    behind: Behind = "documents"

    @property
    def interval(self) -> bool:
        return self.method != ""


_ZOUHAR = "Zouhar et al. 2023, arXiv 2306.16842"
_PETROV = "Petrov et al. 2023, arXiv 2305.15425"
_SINGH = "Singh & Strouse 2024, arXiv 2402.14903"
_ERDOGAN = "Erdogan et al. 2026, arXiv 2601.09039"
_RUST = "Rust et al. 2021, arXiv 2012.15613"
_MILLER = "Miller 1955, in Information Theory in Psychology"
_GROWS = "it grows with the sample, so an interval would be about this sample size only"
_BIAS = "Too low where the sample is small for the vocabulary: see the value of Miller and Madow beside it."
_EDGES = "words as `documents.n_words` counts them; means little in scripts that put no space between words"


def _lengths() -> Iterator[Definition]:
    yield Definition(
        "fertility", "lengths", "tokens per word", "tokens / words", _EDGES, per("tokens", "words"), "lower", _RUST
    )
    yield Definition(
        "continued_words",
        "lengths",
        "share",
        "words of two tokens or more / words",
        "words between white space, without empty ones; a token that also covers a neighbour counts as the word's",
        per("continued_words", "filled_words"),
        "lower",
        _RUST,
        maximum=1,
    )
    yield Definition(
        "bytes_per_token", "lengths", "bytes per token", "UTF-8 bytes / tokens", "compression", per("bytes", "tokens"),
        "higher",
    )  # fmt: skip
    yield Definition(
        "characters_per_token", "lengths", "characters per token", "code points / tokens", "compression",
        per("chars", "tokens"), "higher",
    )  # fmt: skip
    yield Definition(
        "tokens_per_document", "lengths", "tokens per document", "tokens / documents",
        "without what is put around a text", per("tokens", "documents"), "lower",
    )  # fmt: skip


def _vocabulary() -> Iterator[Definition]:
    grows = partial(Definition, group="vocabulary", method="", why_no_interval=_GROWS)
    yield grows(
        name="types", unit="count", formula="different ids that occur", note="grows with the sample",
        compute=formulas.types,
    )  # fmt: skip
    yield grows(
        name="vocabulary_used", unit="share", formula="types / vocabulary size", better="higher", maximum=1,
        note="special tokens are not of the vocabulary; grows with the sample", compute=formulas.vocabulary_used,
    )  # fmt: skip
    yield grows(
        name="unreached_ids", unit="count", formula="vocabulary size - types", better="lower",
        note="ids that did not occur in this sample; not proof that no text reaches them", compute=formulas.unreached,
    )  # fmt: skip
    for percent in (90, 99):
        yield grows(
            name=f"types_to_cover_{percent}", unit="count",
            formula=f"fewest ids that hold {percent} % of the tokens",
            note="grows with the sample", compute=formulas.types_to_cover(percent / 100),
        )  # fmt: skip
    kinds = (
        ("unknown_tokens", "an unknown token", "tokens that are the unknown token", formulas.unknown_ids,
         "what they stood for is lost"),
        ("byte_fallback_tokens", "byte fallback", "tokens that are single bytes of characters the vocabulary lacks",
         lambda vocabulary: vocabulary.fallback, "nothing is lost, at several tokens a character"),
        ("partial_character_tokens", "pieces that spell bytes", "tokens that are not whole characters",
         lambda vocabulary: vocabulary.partial, "their bytes alone are not valid UTF-8"),
    )  # fmt: skip
    for name, needs, what, which, note in kinds:
        yield Definition(
            name, "vocabulary", "share", f"{what} / tokens", note, share_of_ids(which), "lower", needs=needs, maximum=1
        )


def _efficiency() -> Iterator[Definition]:
    kinds = (
        ("renyi_efficiency_2.5", partial(renyi_entropy, order=2.5), "Renyi entropy of order 2.5 / log2",
         "the order that the paper finds to go with translation quality"),
        ("renyi_efficiency_3.0", partial(renyi_entropy, order=3.0), "Renyi entropy of order 3 / log2",
         "the default of the paper's code"),
        ("shannon_efficiency", formulas.entropy, "entropy / log2", "1 where all ids are as frequent"),
    )  # fmt: skip
    for name, entropy, formula, note in kinds:
        for suffix, size in (("", "types"), ("_vocabulary", "vocabulary size")):
            by = "by the ids that occur, as the paper's code does" if not suffix else "by the whole vocabulary"
            yield Definition(
                f"{name}{suffix}", "efficiency", "ratio", f"{formula} {size}", f"{note}; {by}",
                efficiency(entropy, by_vocabulary=bool(suffix)), "higher", _ZOUHAR, maximum=1,
            )  # fmt: skip
    yield Definition(
        "percentile_frequency", "efficiency", "share", "tokens of ids from the 3rd to the 83rd percentile / tokens",
        "places int(0.03 K) to int(0.83 K) of the K ids that occur, commonest first",
        formulas.percentile_frequency, "higher", _ZOUHAR, maximum=1,
    )  # fmt: skip


def _entropy() -> Iterator[Definition]:
    yield Definition(
        "unigram_entropy", "entropy", "bits per token", "- sum of p log2 p over ids", _BIAS, formulas.unigram_entropy
    )
    yield Definition(
        "unigram_entropy_miller_madow", "entropy", "bits per token", "unigram_entropy + (types - 1) / (2 tokens ln 2)",
        "less biased, still too low where many ids did not occur", formulas.unigram_corrected, source=_MILLER,
    )  # fmt: skip
    yield Definition(
        "unigram_bits_per_byte", "entropy", "bits per byte", "unigram_entropy tokens / bytes",
        f"length of the text under the best code of single tokens, without its table. {_BIAS}",
        formulas.unigram_bits_per_byte, "lower",
    )  # fmt: skip
    pairs = partial(Definition, group="entropy", behind="pairs")
    yield pairs(
        name="conditional_entropy", unit="bits per token", formula="H(token before, token) - H(token before)",
        note=f"within documents, on those whose pairs are kept. {_BIAS} Far more so than for single tokens.",
        compute=formulas.conditional_entropy,
    )  # fmt: skip
    yield pairs(
        name="conditional_entropy_miller_madow", unit="bits per token", source=_MILLER,
        formula="conditional_entropy + ((pairs - 1) / 2 N - (ids before - 1) / 2 N) / ln 2",
        note="less biased, still too low: most pairs that are possible did not occur",
        compute=formulas.conditional_corrected,
    )  # fmt: skip
    yield pairs(
        name="capacity_utilisation", unit="ratio", formula="conditional_entropy / log2 vocabulary size",
        note="bits that a token adds, given the one before, of those an id of the vocabulary could carry; the entropy "
        "rate is bounded from above by it but for the bias of the sample",
        compute=formulas.capacity_utilisation, source=f"the term: {_ERDOGAN}", maximum=1,
    )  # fmt: skip


def _faithfulness() -> Iterator[Definition]:
    share = partial(Definition, group="faithfulness", unit="share", better="lower", method="wilson", maximum=1)
    yield share(
        name="unspelt_documents", formula="documents whose tokens do not spell their bytes / documents",
        note="a normaliser changed them, or characters were dropped; a space put before the text is no difference",
        compute=formulas.unspelt, needs="pieces that spell bytes",
    )  # fmt: skip
    checked = partial(share, behind="checked", needs="checked documents")
    yield checked(
        name="round_trip_failures", formula="documents with decode(encode(text)) != text / checked",
        note="text compared character by character", compute=per("failed_round_trips", "checked"),
    )  # fmt: skip
    yield checked(
        name="round_trip_failures_normalised", note="the tokenizer's own normaliser on both sides",
        formula="documents with normalise(decode(encode(text))) != normalise(text) / checked",
        compute=per("failed_normalised", "checked"),
    )  # fmt: skip
    yield checked(
        name="non_canonical_documents",
        formula="documents with encode(decode(ids)) != ids, where ids = encode(text) / checked",
        note="ids that the tokenizer's own decoder and encoder do not give back",
        compute=per("non_canonical", "checked"),
    )  # fmt: skip
    yield Definition(
        "context_dependent_words", "faithfulness", "share", "words whose tokens in the text are not those alone / all",
        "words one space behind another word, on checked documents; alone: a text of the space and the word",
        per("context_words", "checked_words"), "lower", needs="checked documents", maximum=1, behind="checked",
    )  # fmt: skip


def _numbers() -> Iterator[Definition]:
    number = partial(Definition, group="numbers", needs="digits 0 to 9 in the text")
    yield number(
        name="numbers_whole", unit="share", formula="numbers that no token border cuts / numbers", maximum=1,
        note="a number is an unbroken row of digits 0 to 9", compute=formulas.numbers_whole,
    )  # fmt: skip
    yield number(
        name="tokens_per_number", unit="tokens per number", formula="pieces of numbers / numbers", minimum=1,
        note="a token that also covers a neighbour counts as one of the number's", compute=formulas.tokens_per_number,
    )  # fmt: skip
    for digits in range(1, MAX_DIGITS + 1):
        yield number(
            name=f"numbers_whole_{digits}", unit="share", formula=f"the same, of numbers of {digits} digits", maximum=1,
            note="of one length", compute=formulas.whole_of_length(digits),
        )  # fmt: skip
        yield number(
            name=f"tokens_per_number_{digits}", unit="tokens per number", note="of one length", minimum=1,
            formula=f"the same, of numbers of {digits} digits", compute=formulas.tokens_of_length(digits),
        )  # fmt: skip
    ways = (
        ("numbers_from_left", LEFT, "all pieces but the last as long as the longest, the last shorter: 12|34|5"),
        ("numbers_from_right", RIGHT, "all pieces but the first as long as the longest, the first shorter: 1|23|45"),
        ("numbers_even", EVEN, "all pieces as long: from either end"),
        ("numbers_neither", NEITHER, "none of these"),
    )
    for name, way, note in ways:
        yield number(
            name=name, unit="share", formula="numbers cut so / numbers of several tokens", note=note,
            compute=formulas.cut_from(way), source=_SINGH, maximum=1,
        )  # fmt: skip
    yield number(
        name="number_consistency", unit="share", better="higher", compute=formulas.number_consistency, maximum=1,
        formula="numbers cut as most of their length are / numbers of 2 to 8 digits",
        note="1: the cut follows from the length",
    )  # fmt: skip


def _comparisons() -> Iterator[Definition]:
    ratio = partial(Definition, group="comparison", unit="ratio", better="lower")
    yield ratio(
        name="premium", formula="tokens / tokens of the baseline's translations", source=_PETROV, needs="parallel text",
        note="1 is parity; of parallel records, sums over all of them",
    )  # fmt: skip
    yield ratio(
        name="parity", formula="mean over parallel records of tokens / tokens of the baseline's translation",
        source=_PETROV, needs="parallel text", note="1 is parity; every record weighs the same",
    )  # fmt: skip
    yield ratio(
        name="premium_by_bytes", formula="(tokens / bytes) / (tokens / bytes of the baseline)",
        needs="a baseline domain",
        note="of texts that are no translations: scripts that need more bytes for the same come out too cheap; the "
        "interval takes both domains for independent, and is too wide where they are translations",
    )  # fmt: skip
    yield ratio(
        name="relative_tokens", formula="tokens / tokens of the baseline tokenizer", needs="a second tokenizer",
        note="of the same documents",
    )  # fmt: skip


STATISTICS: dict[str, Definition] = {
    each.name: each
    for make in (_lengths, _vocabulary, _efficiency, _entropy, _faithfulness, _numbers, _comparisons)
    for each in make()
}
