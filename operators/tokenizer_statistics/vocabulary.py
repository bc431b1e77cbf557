"""What a tokenizer's vocabulary says of its ids: which can occur in text, what they spell, which stand for less.

Special tokens do not count: a text that spells one is read as plain text, so their ids never occur. The unknown token
counts, though it is special too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operators.byte_spans_vocabulary import PieceBytes
from operators.tokenizer_statistics.text_facts import Flags

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """size: ids that text can have, by the vocabulary alone. width: V, above every id.

    unknown: id of the unknown token, None where there is none. fallback: ids of single bytes that stand in for
    characters the vocabulary lacks, `(V,)`, None where there are none of that kind.
    partial: ids that spell a part of a character only, `(V,)`, None where ids spell no bytes at all.
    pieces: what each id spells, None for vocabularies that do not spell the text (WordPiece, word-end suffixes).
    """

    size: int
    width: int
    unknown: int | None
    fallback: Flags | None
    partial: Flags | None
    pieces: PieceBytes | None = field(repr=False)

    @classmethod
    def of(cls, tokenizer: Any, definition: Mapping[str, Any], pieces: PieceBytes | None) -> Vocabulary:
        """`definition` is the tokenizer's own JSON, parsed; `pieces` what its ids spell."""
        vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        model = definition["model"]
        unknown = _unknown(tokenizer, model)
        special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        width = max(vocabulary.values(), default=-1) + 1
        fallback = [i for piece, i in vocabulary.items() if _BYTE_TOKEN.fullmatch(piece)]
        return cls(
            size=len(set(vocabulary.values()) - (special - {unknown})),
            width=width,
            unknown=unknown,
            fallback=_flags(fallback, width) if model.get("byte_fallback") else None,
            partial=None if pieces is None else _flags([i for i, p in enumerate(pieces.pieces) if _is_part(p)], width),
            pieces=pieces,
        )


def _unknown(tokenizer: Any, model: Mapping[str, Any]) -> int | None:
    if model.get("unk_id") is not None:  # Unigram
        return int(model["unk_id"])
    name = model.get("unk_token")
    return None if name is None else tokenizer.token_to_id(name)


def _flags(ids: list[int], width: int) -> Flags:
    flags = np.zeros(width, np.bool_)
    flags[ids] = True
    return flags


def _is_part(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return True
    return False
