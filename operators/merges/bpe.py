"""Reads a BPE tokenizer's file: its merges in the order they were learned, and how it cuts a text into words.

    tokenizer.json -> vocabulary, merges as triples of ids (left, right, result), steps

A step is what the trainer did at once: it made one new entry of the vocabulary. Files of trainers that keep merges have
one merge a step. Files converted from SentencePiece, which keeps pieces only, list every way to split a piece: merges
of one result that follow each other are one step, and its count is the sum over them.

Added tokens are no part of it: trainers read a text that spells one as any other text. `ignore_merges` and dropout
change how texts are encoded, not what was learned, and are ignored.
Source: Sennrich et al. 2016, arXiv 1508.07909; the format is that of Hugging Face `tokenizers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_KINDS = {"WordPiece": "WordPiece", "Unigram": "a unigram model", "WordLevel": "a word list"}


class BpeError(ValueError):
    """The file holds no BPE tokenizer whose merges can be followed."""


@dataclass(frozen=True)
class Bpe:
    """The merges of a tokenizer, `M` of them in `S` steps.

    Attributes:
        text: the file itself, JSON.
        vocabulary: entry -> id, 0 to `width` - 1.
        left, right, result: [M] ids.
        step: [M] 0-based step of a merge, ascending.
        special: what its added tokens spell.
    """

    text: str
    vocabulary: Mapping[str, int]
    left: Integers
    right: Integers
    result: Integers
    step: Integers
    prefix: str
    suffix: str
    special: tuple[str, ...]

    @cached_property
    def width(self) -> int:
        return max(self.vocabulary.values(), default=-1) + 1

    @property
    def n_merges(self) -> int:
        return len(self.left)

    @property
    def n_steps(self) -> int:
        return int(self.step[-1]) + 1 if len(self.step) else 0

    @property
    def codes(self) -> Integers:
        """[M] a pair as one integer: left * width + right."""
        return np.asarray(self.left * self.width + self.right, np.int64)

    def spell(self, code: int) -> tuple[str, str]:
        """The two entries of a pair."""
        names = {i: entry for entry, i in self.vocabulary.items() if i in divmod(code, self.width)}
        left, right = divmod(code, self.width)
        return names[left], names[right]


def read_bpe(path: Path) -> Bpe:
    """The BPE tokenizer of the file `path`, a `tokenizer.json`.

    Raises:
        BpeError: it is not one; says what it is.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BpeError("the tokenizer's file is not UTF-8: a tokenizer.json is wanted") from None
    return parse_bpe(text)


def parse_bpe(text: str) -> Bpe:
    """The BPE tokenizer of the JSON `text`.

    Raises:
        BpeError: it is not one; says what it is.
    """
    definition = _definition(text)
    model = definition["model"]
    vocabulary = _vocabulary(model)
    prefix = str(model.get("continuing_subword_prefix") or "")
    triples = _triples(model["merges"], vocabulary, prefix)
    result = triples[:, 2]
    new_step = np.ones(len(result), np.int64)
    new_step[1:] = result[1:] != result[:-1]
    return Bpe(
        text=text,
        vocabulary=vocabulary,
        left=triples[:, 0],
        right=triples[:, 1],
        result=result,
        step=np.cumsum(new_step) - 1,
        prefix=prefix,
        suffix=str(model.get("end_of_word_suffix") or ""),
        special=_special(definition.get("added_tokens")),
    )


def _definition(text: str) -> dict[str, Any]:
    try:
        definition = json.loads(text)
    except (ValueError, RecursionError):
        raise BpeError("the tokenizer's file is not JSON: a tokenizer.json is wanted") from None
    model = definition.get("model") if isinstance(definition, dict) else None
    if not isinstance(model, dict):
        raise BpeError("the tokenizer's file has no `model`: a tokenizer.json is wanted")
    kind = str(model.get("type") or ("BPE" if "merges" in model else "unknown"))
    if kind != "BPE":
        raise BpeError(f"the tokenizer is {_KINDS.get(kind, 'of another kind')}, not BPE: it has no merges to read")
    if not isinstance(model.get("merges"), list):
        raise BpeError("the tokenizer's model has no list of merges")
    return {**definition, "model": model}


def _vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not all(type(i) is int and 0 <= i < 1 << 30 for i in vocabulary.values()):
        raise BpeError("the tokenizer's model has no vocabulary of entries and ids")
    if len(set(vocabulary.values())) != len(vocabulary):
        raise BpeError("two entries of the tokenizer's vocabulary have the same id")
    return vocabulary


def _triples(merges: list[Any], vocabulary: Mapping[str, int], prefix: str) -> Integers:
    """[M, 3] ids of left, right and result; merges are "a b" or ["a", "b"]."""
    triples = np.empty((len(merges), 3), np.int64)
    for place, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise BpeError(f"merge {place} of the tokenizer is not a pair")
        left, right = pair
        ids = [vocabulary.get(entry, -1) for entry in (left, right, left + right.removeprefix(prefix))]
        if min(ids) < 0:
            raise BpeError(f"merge {place} of the tokenizer speaks of an entry that is not in its vocabulary")
        triples[place] = ids
    return triples


def _special(added: Any) -> tuple[str, ...]:
    return tuple(str(token.get("content", "")) for token in added or () if isinstance(token, dict))
