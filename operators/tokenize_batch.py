"""Texts of one batch to token ids and the bytes each token covers, or to the reason why not.

    encode, no offsets --> no token but the template's: NO_TOKENS
      --> running sum of bytes per id, compared with the texts
            --> the few that differ: align, or encode again with offsets    (`operators.byte_spans` on these three ways)
      --> what the model's vocabulary or the lake's columns cannot hold is refused

Shapes: `D` documents, `T` tokens of all of them; `bounds[d]:bounds[d + 1]` are the tokens of document d.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.byte_spans import Lengths, SpanTable, offset_lengths, running_starts
from operators.byte_spans_align import align
from operators.byte_spans_vocabulary import PieceBytes
from schemas.rejects import Reason

MAX_SPAN_BYTES = 2**15 - 1  # `n_bytes` is an int16
_DETAIL_CHARS = 500  # kept of a failure's message

Verdict = tuple[Reason, str]
Ids = npt.NDArray[np.int32]
Encode = Callable[[list[str]], list[Any]]


@dataclass(frozen=True)
class Batch:
    """What became of D consecutive documents."""

    counts: Lengths  # tokens of each document, `(D,)`; 0 where refused
    token_id: Ids  # `(T,)`
    byte_start: npt.NDArray[np.int32]  # `(T,)`
    n_bytes: npt.NDArray[np.int16]  # `(T,)`
    refused: dict[int, Verdict]


@dataclass(frozen=True)
class _Draft:
    """Encoded documents with at least one token of their own each, while their spans are being found."""

    strings: list[str]
    ids: Ids  # `(T,)`
    bounds: Lengths  # `(D + 1,)`
    lengths: Lengths  # `(T,)`, filled in


@dataclass(frozen=True)
class Template:
    """Ids fed around every text. `extra` go in front of `before` and `after`, which the encoder puts there itself."""

    extra: Sequence[int] = ()
    before: Sequence[int] = ()
    after: Sequence[int] = ()

    @property
    def prefix(self) -> tuple[int, ...]:
        return (*self.extra, *self.before)


class BatchTokenizer:
    """Encodes with a Rust tokenizer, whose template is added if `template` has any ids of it.

    `vocabulary` is None where the tokenizer's pieces do not spell its texts: then every document pays for offsets.
    Ids must be below `vocab_size` where it is given. table: of `vocabulary`, None without one.
    """

    def __init__(
        self, tokenizer: Any, template: Template, vocabulary: PieceBytes | None, vocab_size: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._add_template = bool(template.before or template.after)
        self._vocabulary = vocabulary
        self.table = SpanTable(vocabulary) if vocabulary else None
        self._vocab_size = vocab_size

    def __call__(self, texts: pa.LargeStringArray) -> Batch:
        """`texts` holds no NULLs."""
        strings: list[str] = texts.to_pylist()
        encodings = encode_each(self._encode if self.table else self._encode_with_offsets, strings)
        refused = {d: verdict for d, encoding in enumerate(encodings) if (verdict := self._refusal(encoding))}
        kept = [d for d in range(len(strings)) if d not in refused]
        if refused:
            texts = texts.take(pa.array(kept, pa.int64()))
            strings, encodings = [strings[d] for d in kept], [encodings[d] for d in kept]
        batch = self._measure(texts, strings, encodings)
        counts = np.zeros(len(refused) + len(kept), dtype=np.int64)
        counts[kept] = batch.counts
        return replace(batch, counts=counts, refused=refused | {kept[d]: v for d, v in batch.refused.items()})

    def _encode(self, texts: list[str]) -> list[Any]:
        encodings: list[Any] = self._tokenizer.encode_batch_fast(texts, add_special_tokens=self._add_template)
        return encodings

    def _encode_with_offsets(self, texts: list[str]) -> list[Any]:
        encodings: list[Any] = self._tokenizer.encode_batch(texts, add_special_tokens=self._add_template)
        return encodings

    def _refusal(self, encoding: Any) -> Verdict | None:
        if isinstance(encoding, str):
            return Reason.TOKENIZER_FAILED, encoding
        if len(encoding) <= len(self._template.before) + len(self._template.after):
            around = len(self._template.prefix) + len(self._template.after)
            return Reason.NO_TOKENS, f"the text has no token of its own; {around} would be fed around it"
        return None

    def _measure(self, texts: pa.LargeStringArray, strings: list[str], encodings: list[Any]) -> Batch:
        """Ids and spans of documents that have at least one token of their own each."""
        extra = self._template.extra
        counts = (len(extra) + len(encoding) for encoding in encodings)
        bounds = np.fromiter(accumulate(counts, initial=0), dtype=np.int64, count=len(encodings) + 1)
        # One list of ids alive at a time: all of a batch at once no longer fit the cache, at twice the time.
        lists = ([*extra, *encoding.ids] if extra else encoding.ids for encoding in encodings)
        ids_T = np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(bounds[-1]))
        draft = _Draft(strings, ids_T, bounds, np.zeros(len(ids_T), np.int64))
        odd = self._spell(draft, texts)
        if self.table and odd:
            encodings = encode_each(self._encode_with_offsets, [strings[d] for d in odd])
        refused = self._use_offsets(draft, odd, encodings) if odd else {}
        return _finished(draft, self._misfits(draft) | refused)

    def _spell(self, draft: _Draft, texts: pa.LargeStringArray) -> list[int]:
        """Fill in the lengths of the documents that their tokens spell, and return the others."""
        if self._vocabulary is None or self.table is None:
            return list(range(len(texts)))
        prefix, suffix = len(self._template.prefix), len(self._template.after)
        draft.lengths[:], spelt = self.table.running_lengths(draft.ids, draft.bounds, texts, prefix, suffix)
        unspelt = []
        for d in np.flatnonzero(~spelt).tolist():
            own = self._own(draft, d)
            lengths = align(self._vocabulary, draft.ids[own], draft.strings[d].encode())
            if lengths is None:
                unspelt.append(d)
            else:
                draft.lengths[own] = lengths
        return unspelt

    def _use_offsets(self, draft: _Draft, odd: list[int], encodings: list[Any]) -> dict[int, Verdict]:
        """Fill in the lengths of the documents `odd` by the offsets of their encodings; verdicts where that fails."""
        refused: dict[int, Verdict] = {}
        for d, encoding in zip(odd, encodings, strict=True):
            fed = draft.ids[draft.bounds[d] + len(self._template.extra) : draft.bounds[d + 1]]
            if isinstance(encoding, str):
                refused[d] = Reason.TOKENIZER_FAILED, encoding
            elif encoding.ids != fed.tolist():
                refused[d] = Reason.TOKENIZER_FAILED, "encoding it once more, with offsets, gave other ids"
            else:
                offsets = encoding.offsets[len(self._template.before) : len(encoding) - len(self._template.after)]
                draft.lengths[self._own(draft, d)] = offset_lengths([end for _, end in offsets], draft.strings[d])
        return refused

    def _own(self, draft: _Draft, d: int) -> slice:
        """Where the tokens stand that come from the text of document d."""
        start, end = int(draft.bounds[d]), int(draft.bounds[d + 1])
        return slice(start + len(self._template.prefix), end - len(self._template.after))

    def _misfits(self, draft: _Draft) -> dict[int, Verdict]:
        """Documents with a token that the lake's columns or the model's vocabulary cannot hold."""
        ids_T, lengths_T, bounds = draft.ids, draft.lengths, draft.bounds
        refused: dict[int, Verdict] = {}
        for place, d in _places(lengths_T > MAX_SPAN_BYTES, bounds):
            what = f"token {place - bounds[d]} covers {lengths_T[place]} bytes, more than {MAX_SPAN_BYTES}"
            refused[d] = Reason.TOKEN_SPAN_TOO_LONG, what
        if self._vocab_size is not None:
            for place, d in _places(ids_T >= self._vocab_size, bounds):
                what = f"token {place - bounds[d]} has id {ids_T[place]}, the model's vocabulary is {self._vocab_size}"
                refused[d] = Reason.TOKEN_OUTSIDE_VOCABULARY, what
        return refused


def encode_each(encode: Encode, texts: list[str]) -> list[Any]:
    """Encodings in order. A document that the encoder fails on yields the failure's message; its neighbours are kept.

    One call while nothing fails; after that one call a document.
    """
    whole = _attempt(encode, texts)
    if not isinstance(whole, str):
        return whole
    singles = (_attempt(encode, [text]) for text in texts)
    return [single if isinstance(single, str) else single[0] for single in singles]


def _attempt(encode: Encode, texts: list[str]) -> list[Any] | str:
    try:
        return encode(texts)
    except MemoryError:
        raise  # says nothing about the documents: elsewhere they may well pass
    except BaseException as error:
        # A panic in Rust arrives as a PanicException, which derives from BaseException and cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return (str(error) or type(error).__name__)[:_DETAIL_CHARS]


def _places(found_T: npt.NDArray[np.bool_], bounds: Lengths) -> Iterable[tuple[int, int]]:
    """Token and document of every place found, last to first: what is kept under a document is then its first."""
    places = np.flatnonzero(found_T)[::-1]
    documents = np.searchsorted(bounds, places, side="right") - 1
    return zip(places.tolist(), documents.tolist(), strict=True)


def _finished(draft: _Draft, refused: dict[int, Verdict]) -> Batch:
    """The documents that are not refused, in the types of the lake's columns."""
    counts, starts_T = np.diff(draft.bounds), running_starts(draft.lengths, draft.bounds)
    kept = np.ones(len(counts), dtype=np.bool_)
    kept[list(refused)] = False
    kept_T = np.repeat(kept, counts) if refused else slice(None)
    return Batch(
        counts=np.where(kept, counts, 0),
        token_id=draft.ids[kept_T],
        byte_start=starts_T[kept_T].astype(np.int32),
        n_bytes=draft.lengths[kept_T].astype(np.int16),
        refused=refused,
    )
