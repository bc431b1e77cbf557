"""The normalisations by name: what a word is, and when two are the same. A changed definition is a new name.

`words-1` (the default)
    Words are the longest runs of letters, digits and marks (Unicode categories L, N and M); all else separates, also
    zero-width joiners, soft hyphens, apostrophes and underscores. Case is folded by code point (ß, ﬁ and İ stay one
    character; dotless ı stays what it is). Each letter of a script written without spaces (Han, Hiragana, Katakana,
    Thai, Lao, Khmer, Myanmar) is a word, with the marks behind it. Canonically equivalent texts give the same words
    (NFC). Approximated: where NFC changes a cluster, each of its characters covers the whole cluster in the text; and
    text is folded after it is composed, not composed again, so that J̌ (two characters) and ǰ (one) stay different.

`janitor-1`
    The words of lm-eval's decontamination (`lm_eval/decontamination/janitor.py`, after GPT-3, arXiv 2005.14165): ASCII
    letters in lower case, the characters of `string.punctuation` taken out, split at white space. Different here: a
    word of punctuation alone is no word in the corpus either (lm-eval's Python code drops it from the benchmark only,
    so that no n-gram around one in the corpus can match); and a span goes from the first character that is left to the
    last, so that punctuation around it stays.

`tokens`
    The ids of a tokenizer, without those it puts around every text. A span is widened to whole characters where tokens
    split one. A text is tokenized alone: where it is quoted inside another, a tokenizer may cut it otherwise near its
    ends (a first word without the space before it), and so where an answer follows its input. Shares are lower for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.overlap.characters import janitor_1, words_1
from operators.overlap.cutting import Cutter
from operators.overlap.options import OverlapError, OverlapOptions
from operators.overlap.words import EIGHT, Bytes, Ids, Words, running
from operators.tokenize import DocumentTokenizer
from schemas.flow import READ, SPAN_COLUMNS
from schemas.rejects import Reason

TOKENS = "tokens"


@dataclass(frozen=True)
class Normalisation:
    """`cutter`: what cuts texts into words; None where a tokenizer does."""

    name: str
    words: str  # what a word is, in a few of them
    cutter: Cutter | None = None


NORMALISATIONS: Mapping[str, Normalisation] = {
    each.name: each
    for each in (
        Normalisation("words-1", "runs of letters, digits and marks, case folded", Cutter(words_1, composes=True)),
        Normalisation("janitor-1", "lm-eval's: no case, no punctuation", Cutter(janitor_1, composes=False)),
        Normalisation(TOKENS, "ids of a tokenizer"),
    )
}

# The words of texts, and for each text that has none because it was refused, why: (place, reason, detail).
Cut = tuple[Words, list[tuple[int, str, str]]]


def normaliser(
    options: OverlapOptions, tokenizer: DocumentTokenizer | None = None
) -> Callable[[pa.LargeStringArray], Cut]:
    """What maps texts to their words under `options`.

    Raises:
        OverlapError: token ids without a tokenizer, or a tokenizer without need.
    """
    cutter = NORMALISATIONS[options.normalisation].cutter
    if (cutter is None) != (tokenizer is not None):
        raise OverlapError(
            f"normalisation {options.normalisation} {'needs a' if cutter is None else 'takes no'} tokenizer"
        )
    if cutter is None:
        assert tokenizer is not None
        return _TokenCutter(tokenizer)
    return lambda texts: (cutter(texts), [])


@dataclass(frozen=True)
class _TokenCutter:
    tokenizer: DocumentTokenizer

    def __call__(self, texts: pa.LargeStringArray) -> Cut:
        columns = {field.name: pa.nulls(len(texts), field.type) for field in READ}
        columns |= {"source": pa.array([""] * len(texts), pa.string()), "row": pa.array(np.arange(len(texts)))}
        read = pa.table([columns[name] for name in READ.names], schema=READ)
        read = read.set_column(READ.get_field_index("text"), READ.field("text"), texts.cast(pa.string()))
        tokenized = self.tokenizer(read)
        # A text without a token has no words, as one of punctuation alone has none elsewhere.
        is_refused = pc.fill_null(pc.not_equal(tokenized["reason"], Reason.NO_TOKENS.value), False)
        refused = [
            (place, tokenized["reason"][place].as_py(), tokenized["detail"][place].as_py() or "")
            for place in np.flatnonzero(is_refused.to_numpy()).tolist()
        ]
        return self._words(tokenized, texts), refused

    def _words(self, tokenized: pa.Table, texts: pa.LargeStringArray) -> Words:
        lists = {name: tokenized[name].combine_chunks() for name in SPAN_COLUMNS}
        fed = np.asarray(
            pc.fill_null(pc.list_value_length(lists["token_id"]), 0).to_numpy(zero_copy_only=False), np.int64
        )
        before, after = len(self.tokenizer.prefix), len(self.tokenizer.suffix)
        place_T = np.arange(fed.sum()) - np.repeat(running(fed)[:-1], fed)
        own_T = (place_T >= before) & (place_T < np.repeat(fed - after, fed))
        ids, starts, sizes = (
            np.asarray(pc.list_flatten(lists[name]).to_numpy(), np.int64)[own_T] for name in SPAN_COLUMNS
        )
        counts = np.where(fed > 0, fed - before - after, 0)
        starts, ends = _whole_characters(texts, counts, starts, starts + sizes)
        norm = np.frombuffer(ids.astype("<i4").tobytes() + bytes(EIGHT), np.uint8)
        size = np.full(len(ids), 4, np.int64)
        return Words(norm, 4 * np.arange(len(ids)), size, starts, ends, running(counts))


def _whole_characters(texts: pa.LargeStringArray, counts: Ids, starts: Ids, ends: Ids) -> tuple[Ids, Ids]:
    """Spans widened to whole characters; those of no bytes stay."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts)]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    first = np.repeat(offsets, counts)
    starts, ends = starts + first, ends + first
    wide = np.flatnonzero(ends > starts)
    for _ in range(3):  # a character has at most three bytes behind its first
        starts[wide] -= _continues(data, starts[wide])
        ends[wide] += _continues(data, ends[wide])
    return starts - first, ends - first


def _continues(data: Bytes, places: Ids) -> Ids:
    """1 where a byte is not the first of its character."""
    inside = places < len(data)
    found = np.zeros(len(places), np.int64)
    found[inside] = (data[places[inside]] & 0xC0) == 0x80
    return found
