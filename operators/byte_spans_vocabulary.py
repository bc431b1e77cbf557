"""Which bytes of a UTF-8 text each vocabulary id stands for.

    byte-level BPE        'Ġcaf' -> b' caf'   'Ã' -> b'\\xc3'        every character of a token is one byte
    SentencePiece style   '▁caf' -> b' caf'   '<0xC3>' -> b'\\xc3'   the marker is a space, byte tokens are one byte
    added tokens          '<|endoftext|>' -> its own UTF-8

Other vocabularies (WordPiece, word-end suffixes) do not spell the text, and get no table. A table is a guess about the
text until checked against it: a normaliser may have changed the document first (`operators.byte_spans` checks).

Sources: `bytes_to_unicode` in openai/gpt-2 `src/encoder.py`; SentencePiece, arXiv 1808.06226 (marker, byte fallback).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
# Bytes that GPT-2 writes as the character of the same number; it moves the 68 others to U+0100 and up, in order.
_KEPT = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_MOVED = tuple(byte for byte in range(0x100) if byte not in _KEPT)
_BYTE_OF = {chr(byte): byte for byte in _KEPT} | {chr(0x100 + k): byte for k, byte in enumerate(_MOVED)}


@dataclass(frozen=True)
class AddedPiece:
    """A token matched in the text as a whole, before the model sees the rest."""

    content: bytes
    lstrip: bool  # swallows the white space to its left
    rstrip: bool  # swallows the white space to its right
    normalized: bool  # looked for in the normalised text


@dataclass(frozen=True)
class PieceBytes:
    """`pieces[v]` is what id v spells, b"" for ids that name nothing; `marker` stands for a space (b"" for none)."""

    pieces: Sequence[bytes]
    added: Mapping[int, AddedPiece]
    marker: bytes


def piece_bytes(tokenizer: Any, definition: Mapping[str, Any]) -> PieceBytes | None:
    """The bytes of every id of a `tokenizers.Tokenizer`, or None where its vocabulary does not spell the text.

    `definition` is the tokenizer's own JSON, parsed.
    """
    marker = _space_marker(definition)
    read = _reader(definition, marker)
    if read is None:
        return None
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for piece, index in vocabulary.items():
        pieces[index] = read(piece)
    added = {}
    for index, token in tokenizer.get_added_tokens_decoder().items():
        # The decoder's own spelling wins: an added token is matched literally, whatever the map says of its characters.
        content = _as_text(token.content.encode(), marker)
        added[index] = AddedPiece(content, token.lstrip, token.rstrip, token.normalized)
        pieces[index] = content
    return PieceBytes(pieces, added, marker.encode())


def _reader(definition: Mapping[str, Any], marker: str) -> Callable[[str], bytes] | None:
    """The function from a vocabulary string to bytes that suits this definition, None where there is none."""
    model = definition["model"]
    if model["type"] not in ("BPE", "Unigram"):
        return None
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None  # these characters of a piece are not in the text
    if any(step["type"] == "ByteLevel" for step in _steps(definition)):
        return _read_byte_level
    byte_fallback = bool(model.get("byte_fallback"))
    if marker or byte_fallback:
        return lambda piece: _read_marked(piece, marker, byte_fallback)
    return None


def _read_byte_level(piece: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in piece)
    except KeyError:  # not written in the map: a token that some tool put into the vocabulary as plain text
        return piece.encode()


def _read_marked(piece: str, marker: str, byte_fallback: bool) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(piece) if byte_fallback else None
    return bytes.fromhex(byte[1]) if byte else _as_text(piece.encode(), marker)


def _as_text(content: bytes, marker: str) -> bytes:
    return content.replace(marker.encode(), b" ") if marker else content


def _space_marker(definition: Mapping[str, Any]) -> str:
    """The character that the vocabulary writes for a space (usually U+2581), or "" for none."""
    for step in _steps(definition):
        if step["type"] == "Metaspace":
            return str(step["replacement"])
        if step["type"] == "Replace" and step["pattern"] == {"String": " "}:
            return str(step["content"])
    return ""


def _steps(definition: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every normaliser and pre-tokenizer in order, sequences opened."""
    todo = [definition.get("pre_tokenizer"), definition.get("normalizer")]
    while todo:
        step = todo.pop()
        if step is None:
            continue
        if step["type"] == "Sequence":
            todo += reversed(step.get("normalizers") or step.get("pretokenizers") or [])
        else:
            yield step
