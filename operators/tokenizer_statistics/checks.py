"""What costs another pass over the tokens: decoding, encoding again, words alone. Done on a drawn share of documents.

    text -> ids -> decode -> text'      a failed round trip: text' is not text
                             text' -> ids'    a segmentation that is not canonical: ids' are not ids

Only documents whose round trip failed are encoded again: the others give the same ids.
Shapes: `D` checked documents, `R` words between single spaces, `T` tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from operators.tokenizer_statistics.cuts import Tokens, runs_of_tokens
from operators.tokenizer_statistics.probe import TokenizerProbe
from operators.tokenizer_statistics.text_facts import Flags, Places, TextFacts

CHECKS = ("failed_round_trips", "failed_normalised", "non_canonical", "checked_words", "context_words")
_SPACE = 0x20


def check(probe: TokenizerProbe, tokens: Tokens, facts: TextFacts) -> Places:
    """The counters `CHECKS` of every document, `(D, 5)`."""
    counters = np.zeros((len(facts.texts), len(CHECKS)), np.int64)
    lists = [each.tolist() for each in np.split(tokens.ids, tokens.bounds[1:-1])]
    texts: list[str] = facts.texts.to_pylist()
    decoded = probe.decode(lists)
    failed = [d for d, text in enumerate(texts) if decoded[d] != text]
    again = probe.encode([decoded[d] or "" for d in failed])
    for d, ids in zip(failed, again, strict=True):
        text = decoded[d]
        counters[d, 0] = 1
        counters[d, 1] = text is None or probe.normalise(text) != probe.normalise(texts[d])
        counters[d, 2] = text is None or ids != lists[d]
    counters[:, 3:] = _words_alone(probe, tokens, facts)
    return counters


def _words_alone(probe: TokenizerProbe, tokens: Tokens, facts: TextFacts) -> Places:
    """Words between single spaces, and those whose tokens differ from the word's alone, `(D, 2)`.

    Compared are the tokens of the word and the space before it with those of a text of just these; a tokenizer that
    itself puts a space before a text gets the word only.
    """
    words = facts.words
    after_one_space = np.zeros(len(words.start), np.bool_)
    after_one_space[1:] = words.start[1:] - words.end[:-1] == 1  # white space of more than one byte is another space
    of = words.documents(facts.bounds)
    after_one_space[1:] &= of[1:] == of[:-1]
    chosen = np.flatnonzero(after_one_space)
    chosen = chosen[facts.bytes[words.start[chosen] - 1] == _SPACE]
    if not len(chosen):
        return np.zeros((len(facts.texts), 2), np.int64)
    start, end = words.start[chosen], words.end[chosen]
    known, kind = _distinct(facts, start, end)
    alone = probe.encode(known if probe.adds_space else [f" {word}" for word in known])
    first, last = runs_of_tokens(tokens, start - 1, end)
    differs = _differs(tokens, first, last, alone, kind)
    return np.stack([np.bincount(of[chosen], each, minlength=len(facts.texts)) for each in (None, differs)], 1).astype(
        np.int64
    )


def _distinct(facts: TextFacts, start: Places, end: Places) -> tuple[list[str], Places]:
    """The different words, and which of them each is, `(R,)`. No Python object is made of the words that repeat."""
    lengths = end - start
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    place = np.arange(bounds[-1]) - np.repeat(bounds[:-1] - start, lengths)
    joined = np.ascontiguousarray(facts.bytes[place])
    words = pa.LargeStringArray.from_buffers(len(start), pa.py_buffer(bounds), pa.py_buffer(joined))
    encoded = words.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _differs(tokens: Tokens, first: Places, last: Places, alone: Sequence[list[int] | None], kind: Places) -> Flags:
    """Whether tokens `first:last` are not those of the word alone, `(R,)`."""
    n_alone = np.array([-1 if ids is None else len(ids) for ids in alone], np.int64)
    joined = np.array([i for ids in alone if ids is not None for i in ids], np.int64)
    begins = np.cumsum(np.maximum(n_alone, 0)) - np.maximum(n_alone, 0)
    n_here = last - first
    differs = np.asarray(n_alone[kind] != n_here)
    same = np.flatnonzero(~differs & (n_here > 0))
    n = n_here[same]
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    unequal = joined[np.repeat(begins[kind[same]], n) + place] != tokens.ids[np.repeat(first[same], n) + place]
    differs[np.repeat(same, n)[unequal]] = True
    return differs
