"""Worlds whose truth is known: documents of some sources, dealt to a training set and to candidates, and a tokenizer.

    documents of a source -> by hash: half may be trained on, half is the candidate corpus (no document is in both)
    random shares -> training set -> byte-level BPE by `tokenizers`

The truth is the bytes of each source that the tokenizer was in fact trained on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from xxhash import xxh3_64_intdigest

from jobs.bench.mixture.languages import Language
from jobs.bench.mixture.sources import SOURCES, gather

Documents = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class World:
    """`training`, `candidates`: documents by source. `truth`: shares of the bytes trained on."""

    training: Documents
    candidates: Documents

    @property
    def truth(self) -> dict[str, float]:
        held = {name: n_bytes(documents) for name, documents in self.training.items()}
        return {name: held.get(name, 0) / sum(held.values()) for name in self.candidates}

    def train(self, merges: int) -> Tokenizer:
        """A byte-level BPE tokenizer of the training set with GPT-2's pattern."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=merges + len(alphabet), initial_alphabet=alphabet, show_progress=False, special_tokens=[]
        )
        tokenizer.train_from_iterator(self._texts(), trainer)
        return tokenizer

    def _texts(self) -> Iterator[str]:
        for name in sorted(self.training):
            yield from self.training[name]

    def write(self, folder: Path, merges: int) -> dict[str, Path]:
        """`tokenizer.json` and a JSONL file a candidate in a new folder; the files by name."""
        folder.mkdir(parents=True)
        self.train(merges).save(str(folder / "tokenizer.json"))
        paths = {}
        for name, documents in self.candidates.items():
            paths[name] = folder / f"{name}.jsonl"
            with paths[name].open("w", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
        return paths


def n_bytes(documents: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in documents)


def made_up(n_sources: int, size: int, seed: int) -> World:
    """Made-up languages: `size` bytes of training set, as many of candidates together."""
    dice = random.Random(f"world {seed}")
    shares = random_shares(n_sources, dice)
    languages = {f"language-{i}": Language(1000 * seed + i) for i in range(n_sources)}
    return World(
        {
            name: list(language.documents(dice, int(size * share)))
            for (name, language), share in zip(languages.items(), shares, strict=True)
        },
        {name: list(language.documents(dice, size // n_sources)) for name, language in languages.items()},
    )


def real(n_sources: int, size: int, seed: int) -> World:
    """The first sources that this machine has enough of, made-up languages where there are too few.

    A source that is short of text has a smaller share than was drawn for it: the truth is what was taken.
    """
    dice = random.Random(f"world {seed}")
    shares = random_shares(n_sources, dice)
    least = size // (20 * n_sources)
    wanted = [int(2.2 * size * max(share, 1 / n_sources)) for share in shares]  # two halves, not of the same size
    chosen: dict[str, list[str]] = {}
    for name in SOURCES:
        if len(chosen) == n_sources:
            break
        documents = gather(name, wanted[len(chosen)])
        if n_bytes(documents) >= least:
            chosen[name] = documents
    for number in range(n_sources - len(chosen)):
        chosen[f"language-{number}"] = list(Language(number).documents(dice, wanted[len(chosen)]))
    training, candidates = {}, {}
    for (name, documents), share in zip(chosen.items(), shares, strict=True):
        halves = _dealt(documents, dice)
        training[name] = _up_to(halves[0], int(size * share))
        candidates[name] = _up_to(halves[1], size // n_sources)
    return World(training, candidates)


def random_shares(n: int, dice: random.Random) -> list[float]:
    """Uniform over the simplex."""
    drawn = [dice.expovariate(1.0) for _ in range(n)]
    return [value / sum(drawn) for value in drawn]


def _dealt(documents: Sequence[str], dice: random.Random) -> tuple[list[str], list[str]]:
    """Documents in a random order, each in one of two halves by its own hash."""
    halves: tuple[list[str], list[str]] = ([], [])
    for text in documents:
        halves[xxh3_64_intdigest(text.encode()) & 1].append(text)
    for half in halves:
        dice.shuffle(half)
    return halves


def _up_to(documents: Sequence[str], size: int) -> list[str]:
    """The first documents with `size` bytes, one at least."""
    taken: list[str] = []
    held = 0
    for text in documents:
        if taken and held >= size:
            break
        taken.append(text)
        held += len(text.encode())
    return taken
