"""Texts of many scripts in quantity: made-up words of seven scripts by Zipf's law, and Python's standard library.

    overlap.text (Latin) -> letters of another script -+
    made-up words of Han characters -------------------+-> documents, domains mixed -> shards of JSON lines
    lib/*.py -----------------------------------------+

Words, sentences and numbers are distributed as in `overlap.text`; the scripts decide how many bytes a character takes,
which is what a tokenizer's speed and lengths depend on. One shard is in memory at a time.
"""

from __future__ import annotations

import itertools
import json
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.bench.overlap.text import Pieces, Vocabulary, documents

SHARD_BYTES = 5_000_000
SHARES: Mapping[str, float] = {
    "latin": 0.35, "python": 0.25, "cyrillic": 0.08, "greek": 0.08, "arabic": 0.08, "devanagari": 0.08, "han": 0.08,
}  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SCRIPTS = {
    "cyrillic": "абцдефгхийклмнопярстувшжыз",
    "greek": "αβγδεφχηιξκλμνοπθρστυωψζςά",
    "arabic": "ابجدهفغحيزكلمنوصقرستثعشضطظ",
    "devanagari": "ाबचदेफगहिजकलमनोपक्रसतुवशषय",
}
_HAN_WORDS, _HAN_FIRST, _HAN_CHARACTERS, _HAN_DOCUMENT = 20_000, 0x4E00, 3_500, 600
_CODE_BYTES = 20_000  # of a document of Python, at most


@dataclass(frozen=True)
class Texts:
    """A folder of shards. `n_bytes`: of the texts alone, in UTF-8."""

    folder: Path
    n_documents: int
    n_bytes: int


def make_texts(folder: Path, n_bytes: int, seed: int = 0) -> Texts:
    """Write shards of about `n_bytes` of text together, each record with `text` and `domain`."""
    folder.mkdir(parents=True)
    maker = _Maker(seed)
    n_documents = written = 0
    for number in itertools.count():
        if written >= n_bytes:
            break
        records = maker.records(min(SHARD_BYTES, n_bytes - written))
        with (folder / f"{number:05d}.jsonl").open("w", encoding="utf-8") as file:
            for domain, text in records:
                file.write(json.dumps({"text": text, "domain": domain}, ensure_ascii=False) + "\n")
                written += len(text.encode())
        n_documents += len(records)
    return Texts(folder, n_documents, written)


class _Maker:
    """Draws documents; the same seed gives the same."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.latin = Vocabulary(seed)
        self.scripts = {
            name: str.maketrans(_LETTERS + _LETTERS.upper(), letters + letters.upper())
            for name, letters in _SCRIPTS.items()
        }
        self.code = _python_documents()
        lengths = self.rng.choice([1, 2, 2, 2, 3], _HAN_WORDS)
        characters = self.rng.integers(0, _HAN_CHARACTERS, (_HAN_WORDS, 3)) + _HAN_FIRST
        words = ["".join(map(chr, row[:n])) for row, n in zip(characters.tolist(), lengths.tolist(), strict=True)]
        self.han = Pieces.of([*words, "，", "。", "2026", "\n"])

    def records(self, n_bytes: int) -> list[tuple[str, str]]:
        """Documents of every domain, `n_bytes` of them together, in a drawn order."""
        found = [(domain, text) for domain, share in SHARES.items() for text in self._some(domain, n_bytes * share)]
        return [found[place] for place in self.rng.permutation(len(found)).tolist()]

    def _some(self, domain: str, n_bytes: float) -> Iterator[str]:
        if domain == "python":
            texts = self.code
        elif domain == "han":
            texts = self._han_documents()
        else:
            texts = self._words(domain, int(n_bytes))
        size = 0
        for text in texts:
            yield text
            size += len(text.encode())
            if size >= n_bytes:
                return

    def _words(self, domain: str, n_bytes: int) -> Iterator[str]:
        letters = self.scripts.get(domain)
        for text in documents(self.latin, self.rng, max(n_bytes, 1)):
            latin = text.decode()
            yield latin if letters is None else latin.translate(letters)

    def _han_documents(self) -> Iterator[str]:
        n_words = len(self.han.starts_P) - 4
        while True:
            ranks = (self.rng.zipf(1.2, _HAN_DOCUMENT) - 1) % n_words
            ends = self.rng.random(_HAN_DOCUMENT)
            ids = np.where(ends < 0.1, n_words + (ends * 40).astype(np.int64), ranks)
            yield self.han.joined(ids)[0].tobytes().decode()


def _python_documents() -> Iterator[str]:
    """Pieces of the standard library's modules, in order of their names, over and over."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    for path in itertools.cycle(files):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # some test modules are in other encodings on purpose
        for start in range(0, len(text), _CODE_BYTES):
            yield text[start : start + _CODE_BYTES]
