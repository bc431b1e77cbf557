"""One tokenizer as statistics see it: the ids of texts alone, what they spell, and what decoding gives back.

Nothing is fed around a text, and a text that spells a special token is read as plain text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.tokenize_batch import encode_each
from operators.tokenize_definition import scoring_definition
from operators.tokenize_load import load_tokenizer
from operators.tokenizer_statistics.cuts import Tokens
from operators.tokenizer_statistics.options import ProfileOptions
from operators.tokenizer_statistics.text_facts import Flags, TextFacts
from operators.tokenizer_statistics.vocabulary import Vocabulary

__all__ = ["ProfileOptions", "TokenizerProbe", "own_tokens"]

_OPTIONS = TokenizeOptions(bos="never", special_tokens="literal")


class TokenizerProbe:
    """A tokenizer under a name. It works on a copy and pickles.

    fingerprint: xxh3-128 over the definition, as in `runs`. vocabulary: what its ids are.
    adds_space: whether it reads a text as if a space stood before it.
    """

    def __init__(self, name: str, tokenizer: Any, options: ProfileOptions | None = None) -> None:
        """
        Raises:
            ValueError: the tokenizer's post-processor repeats texts.
        """
        self.name, self.options = name, options or ProfileOptions()
        self._documents = DocumentTokenizer(tokenizer, _OPTIONS)
        self._tokenizer, self._table = self._documents.tokenizer, self._documents.span_table
        pieces = None if self._table is None else self._table.vocabulary
        self.vocabulary = Vocabulary.of(self._tokenizer, scoring_definition(tokenizer), pieces)
        self.adds_space = self._adds_space()

    @classmethod
    def load(cls, name: str, path: str | Path, options: ProfileOptions | None = None) -> TokenizerProbe:
        """From a local model folder or a `tokenizer.json`.

        Raises:
            FileNotFoundError: nothing at `path`.
            ValueError: no fast tokenizer there.
        """
        return cls(name, load_tokenizer(Path(path)), options)

    @property
    def fingerprint(self) -> str:
        return self._documents.fingerprint

    def __reduce__(self) -> tuple[Callable[..., TokenizerProbe], tuple[Any, ...]]:
        return _restore, (self.name, self._tokenizer.to_str(), self.options)

    def tokenize(self, block: pa.Table) -> pa.Table:
        """A `READ` table to a `TOKENIZED` table, row for row."""
        return self._documents(block)

    def unspelt(self, tokens: Tokens, facts: TextFacts) -> Flags | None:
        """Documents whose tokens, one after the other, do not spell their bytes, `(D,)`; None where tokens spell none.

        A space that the tokenizer puts before the text is no difference.
        """
        if self._table is None:
            return None
        _, spelt = self._table.running_lengths(tokens.ids, tokens.bounds, facts.texts, 0, 0)
        return ~spelt

    def decode(self, ids: list[list[int]]) -> list[str | None]:
        """The texts that the tokenizer's own decoder makes of token ids, special ones included; None where it fails."""
        lists: Any = ids
        found = encode_each(lambda some: [(each,) for each in self._decode(some)], lists)
        return [None if isinstance(each, str) else each[0] for each in found]

    def _decode(self, ids: Any) -> list[str]:
        texts: list[str] = self._tokenizer.decode_batch(ids, skip_special_tokens=False)
        return texts

    def encode(self, texts: list[str]) -> list[list[int] | None]:
        """The ids of texts, None for one that the tokenizer fails on."""
        found = encode_each(lambda some: self._tokenizer.encode_batch_fast(some, add_special_tokens=False), texts)
        return [None if isinstance(each, str) else each.ids for each in found]

    def normalise(self, text: str) -> str:
        """The text as the tokenizer's own normaliser leaves it, itself where there is none."""
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def _adds_space(self) -> bool:
        (ids,) = self.encode(["a"])
        if self.vocabulary.pieces is None or not ids:
            return False
        return self.vocabulary.pieces.pieces[ids[0]].startswith(b" ")


def _restore(name: str, definition: str, options: ProfileOptions) -> TokenizerProbe:
    return TokenizerProbe(name, Tokenizer.from_str(definition), options)


def own_tokens(tokenized: pa.Table, facts: TextFacts) -> Tokens:
    """The tokens of `TOKENIZED` rows without rejects, whose texts `facts` is of."""
    lists = {name: tokenized[name].combine_chunks() for name in ("token_id", "byte_start", "n_bytes")}
    lengths = np.asarray(lists["token_id"].value_lengths(), np.int64)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    start, n_bytes, ids = (lists[name].flatten().to_numpy() for name in ("byte_start", "n_bytes", "token_id"))
    return Tokens(ids, bounds, np.repeat(facts.bounds[:-1], lengths) + start, n_bytes)
