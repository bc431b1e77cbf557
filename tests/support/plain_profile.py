"""Tokenizers of every kind, made in a moment, and their statistics in plain Python, token by token."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pyarrow as pa
import small
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from operators.tokenize import DocumentTokenizer, TokenizeOptions
from schemas.flow import READ

KINDS = ("byte_level", "normalised", "sentencepiece", "wordpiece", "unigram")
OTHER_SCRIPTS = (
    "Grüße aus Köln 2024, ça va naïve",
    "日本語の文章と 漢字 12345",
    "نص عربي قصير 77",
    "смешанный текст 3.14159",
    "👍🏽 👩‍👩‍👧 ok",
)


def texts() -> list[str]:
    return [*small.stdlib_texts(400)[:60], *OTHER_SCRIPTS, *small.HARD_TEXTS]


@lru_cache(maxsize=8)
def definition(kind: str, size: int = 500) -> str:
    """The JSON of a tokenizer of a kind, trained on `texts`; characters of other scripts are unknown to some."""
    return _MAKERS[kind](size).to_str()


def make(kind: str, size: int = 500) -> Any:
    return Tokenizer.from_str(definition(kind, size))


def _byte_level(size: int) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def _normalised(size: int) -> Any:
    tokenizer = _byte_level(size)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return tokenizer


def _sentencepiece(size: int) -> Any:
    """BPE over characters, those it does not know in bytes, spaces written as U+2581."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=pieces, show_progress=False)
    tokenizer.train_from_iterator(small.stdlib_texts(400)[:60], trainer)
    trained = Tokenizer.from_str(tokenizer.to_str())
    vocabulary = trained.get_vocab()
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    fresh = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    fresh.pre_tokenizer, fresh.decoder = pre_tokenizers.Metaspace(), tokenizer.decoder
    fresh.add_special_tokens(["<unk>", "<s>"])
    return fresh


def _wordpiece(size: int) -> Any:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(small.stdlib_texts(400)[:60], trainer)
    return tokenizer


def _unigram(size: int) -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(small.stdlib_texts(400)[:60], trainer)
    return tokenizer


_MAKERS = {
    "byte_level": _byte_level,
    "normalised": _normalised,
    "sentencepiece": _sentencepiece,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
}


def read_block(
    documents: Sequence[str | None], domains: Sequence[str | None] | None = None, first: int = 0
) -> pa.Table:
    """Documents as the reader gives them, in rows `first` and on of file s."""
    domains = domains or [None] * len(documents)
    pairs = zip(documents, domains, strict=True)
    rows = [{"source": "s", "row": first + k, "text": t, "domain": d} for k, (t, d) in enumerate(pairs)]
    return pa.Table.from_pylist([{name: row.get(name) for name in READ.names} for row in rows], schema=READ)


Spans = list[tuple[int, int, int]]  # id, first byte, the one after the last


def spans(tokenizer: Any, document: str) -> Spans:
    """The ids of a text alone with the bytes they cover, empty where it cannot be tokenized."""
    operator = DocumentTokenizer(tokenizer, TokenizeOptions(bos="never", special_tokens="literal"))
    row = operator(read_block([document]))
    if row["token_id"][0].as_py() is None:
        return []
    ids, starts, sizes = (row[name][0].as_py() for name in ("token_id", "byte_start", "n_bytes"))
    return [(i, s, s + n) for i, s, n in zip(ids, starts, sizes, strict=True)]


def touching(tokens: Spans, start: int, end: int) -> list[int]:
    """Places of the tokens that share a byte with `start:end`; those of no byte belong to the byte before them."""
    return [k for k, (_, s, e) in enumerate(tokens) if (s < end and e > start if e > s else start < s <= end)]


class PlainProfile:
    """Every statistic on documents that all have tokens, the slow way."""

    def __init__(self, tokenizer: Any, documents: Sequence[str]) -> None:
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.encode_special_tokens = True
        self.documents = list(documents)
        self.tokens = [spans(tokenizer, each) for each in documents]
        self.ids = [[i for i, _, _ in each] for each in self.tokens]
        self.counts = Counter(i for each in self.ids for i in each)
        self.n = sum(self.counts.values())

    def values(self) -> dict[str, float]:
        return self._lengths() | self._vocabulary() | self._entropies() | self._checks() | self._numbers()

    def _lengths(self) -> dict[str, float]:
        documents = self.documents
        words = sum(len(re.split(r"\s+", each)) for each in documents)
        filled, continued = 0, 0
        for text, tokens in zip(documents, self.tokens, strict=True):
            for found in re.finditer(r"\S+", text):
                start, end = (len(text[:k].encode()) for k in found.span())
                filled += 1
                continued += len(touching(tokens, start, end)) > 1
        return {
            "fertility": self.n / words,
            "continued_words": _over(continued, filled),
            "bytes_per_token": sum(len(each.encode()) for each in documents) / self.n,
            "characters_per_token": sum(map(len, documents)) / self.n,
            "tokens_per_document": self.n / len(documents),
        }

    def _vocabulary(self) -> dict[str, float]:
        special = {i for i, t in self.tokenizer.get_added_tokens_decoder().items() if t.special}
        names = {i: piece for piece, i in self.tokenizer.get_vocab().items()}
        unknown = {i for i, piece in names.items() if piece in ("<unk>", "[UNK]")}
        size = len(set(names) - (special - unknown))
        common = sorted(self.counts.values(), reverse=True)
        found: dict[str, float] = {
            "types": len(self.counts),
            "vocabulary_used": len(self.counts) / size,
            "unreached_ids": size - len(self.counts),
            "percentile_frequency": sum(common[int(0.03 * len(common)) : int(0.83 * len(common))]) / self.n,
        }
        for percent in (90, 99):
            found[f"types_to_cover_{percent}"] = next(
                k for k in range(len(common) + 1) if sum(common[:k]) * 100 >= percent * self.n
            )
        if unknown:
            found["unknown_tokens"] = sum(self.counts[i] for i in unknown) / self.n
        shares = [c / self.n for c in common]
        entropies = {
            "shannon_efficiency": -sum(p * math.log2(p) for p in shares),
            "renyi_efficiency_2.5": math.log2(sum(p**2.5 for p in shares)) / -1.5,
            "renyi_efficiency_3.0": math.log2(sum(p**3 for p in shares)) / -2,
        }
        for name, bits in entropies.items():
            found |= {name: _over(bits, math.log2(len(common))), f"{name}_vocabulary": bits / math.log2(size)}
        self.size = size
        return found

    def _entropies(self) -> dict[str, float]:
        pairs = Counter(pair for ids in self.ids for pair in pairwise(ids))
        before = Counter(pair[0] for pair in pairs.elements())
        n, n_bytes = pairs.total(), sum(len(each.encode()) for each in self.documents)
        unigram = _bits(self.counts)
        conditional = -sum(c / n * math.log2(c / before[a]) for (a, _), c in pairs.items()) if n else math.nan
        more = (len(pairs) - len(before)) / (2 * n * math.log(2)) if n else math.nan
        return {
            "unigram_entropy": unigram,
            "unigram_entropy_miller_madow": unigram + (len(self.counts) - 1) / (2 * self.n * math.log(2)),
            "unigram_bits_per_byte": unigram * self.n / n_bytes,
            "conditional_entropy": conditional,
            "conditional_entropy_miller_madow": conditional + more,
            "capacity_utilisation": conditional / math.log2(self.size),
        }

    def _checks(self) -> dict[str, float]:
        normalizer = self.tokenizer.normalizer
        normalise = (lambda text: text) if normalizer is None else normalizer.normalize_str
        failed = changed = other = words = differing = 0
        space_first = self.tokenizer.encode("a", add_special_tokens=False).tokens[0].startswith(("▁", "Ġ"))
        for text, ids, tokens in zip(self.documents, self.ids, self.tokens, strict=True):
            decoded = self.tokenizer.decode(ids, skip_special_tokens=False)
            failed += decoded != text
            changed += normalise(decoded) != normalise(text)
            other += self.tokenizer.encode(decoded, add_special_tokens=False).ids != ids
            for found in re.finditer(r"(?<=\S) (\S+)", text):
                start, end = (len(text[:k].encode()) for k in found.span())
                word = found[1] if space_first else found[0]
                alone = self.tokenizer.encode(word, add_special_tokens=False).ids
                words += 1
                differing += alone != [ids[k] for k in touching(tokens, start, end)]
        n = len(self.documents)
        return {
            "round_trip_failures": failed / n,
            "round_trip_failures_normalised": changed / n,
            "non_canonical_documents": other / n,
            "context_dependent_words": _over(differing, words),
        }

    def _numbers(self) -> dict[str, float]:
        cuts: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
        for text, tokens in zip(self.documents, self.tokens, strict=True):
            for found in re.finditer(r"[0-9]+", text):
                start = len(text[: found.start()].encode())
                owners = [
                    max(touching([t for t in tokens if t[2] > t[1]], b, b + 1))
                    for b in range(start, start + len(found[0]))
                ]
                cuts[len(found[0])][tuple(Counter(owners).values())] += 1
        every = sum(cuts.values(), Counter())
        several = [(pieces, c) for pieces, c in every.items() if len(pieces) > 1]
        ways = Counter({name: sum(c for pieces, c in several if _way(pieces) == name) for name in _WAYS})
        chosen = {digits: each for digits, each in cuts.items() if 2 <= digits <= 8}
        found = {
            "numbers_whole": _over(sum(c for pieces, c in every.items() if len(pieces) == 1), every.total()),
            "tokens_per_number": _over(sum(len(pieces) * c for pieces, c in every.items()), every.total()),
            "number_consistency": _over(
                sum(max(each.values()) for each in chosen.values()), sum(each.total() for each in chosen.values())
            ),
        }
        for digits in range(1, 9):
            here = cuts.get(digits, Counter())
            found[f"numbers_whole_{digits}"] = _over(here[(digits,)], here.total())
            found[f"tokens_per_number_{digits}"] = _over(sum(len(p) * c for p, c in here.items()), here.total())
        return found | {name: _over(ways[name], ways.total()) for name in _WAYS}


_WAYS = ("numbers_from_left", "numbers_from_right", "numbers_even", "numbers_neither")


def _way(pieces: tuple[int, ...]) -> str:
    size, total = max(pieces), sum(pieces)
    rest = [total % size] if total % size else []
    left, right = [size] * (total // size) + rest, rest + [size] * (total // size)
    if list(pieces) == left == right:
        return "numbers_even"
    if list(pieces) == left:
        return "numbers_from_left"
    return "numbers_from_right" if list(pieces) == right else "numbers_neither"


def _bits(counts: Counter[int]) -> float:
    n = counts.total()
    return -sum(c / n * math.log2(c / n) for c in counts.values())


def _over(upper: float, lower: float) -> float:
    return upper / lower if lower else math.nan
