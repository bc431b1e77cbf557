"""Made-up languages, documents in them, and tokenizers trained on known mixtures of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from operators.merges import Bpe, WordCounts, parse_bpe, word_counts


@dataclass(frozen=True)
class Language:
    """Words [W], how often each is used, and how many a document has."""

    words: npt.NDArray[np.str_]
    frequency: npt.NDArray[np.float64]
    length: int = 60

    def documents(self, generator: np.random.Generator, n_bytes: int) -> list[str]:
        """Documents of at least `n_bytes` together; each favours words of its own, as topics do."""
        texts, size = [], 0
        while size < n_bytes:
            own = self.frequency * generator.gamma(0.5, 2, len(self.words))
            texts.append(" ".join(generator.choice(self.words, self.length, p=own / own.sum())))
            size += len(texts[-1].encode())
        return texts


def language(generator: np.random.Generator, letters: Sequence[str] | None = None, n_words: int = 1500) -> Language:
    """A language of syllables over some letters; frequencies fall as 1 / rank."""
    if letters is None:
        letters = [*generator.choice(list("bcdfghjklmnpqrstvwxyz"), 14, replace=False), "a", "e", "o", "u"]
    heads, tails = letters[:-4], letters[-4:]
    weights = [generator.dirichlet(np.full(len(kind), 0.6)) for kind in (heads, tails)]
    syllables = [generator.choice(heads, p=weights[0]) + generator.choice(tails, p=weights[1]) for _ in range(200)]
    words = ["".join(generator.choice(syllables, generator.integers(1, 4))) for _ in range(n_words)]
    frequency = 1 / np.arange(1, n_words + 1)
    return Language(np.array(words), frequency / frequency.sum())


def train(texts: Sequence[str], vocabulary: int, **rules: Any) -> Tokenizer:
    """A byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = {"vocab_size": vocabulary, "initial_alphabet": alphabet, "show_progress": False, **rules}
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(**settings))
    return tokenizer


@dataclass(frozen=True)
class World:
    """Languages, a tokenizer trained on a mixture of them, its true byte shares, and a sample of each language."""

    languages: list[Language]
    bpe: Bpe
    truth: npt.NDArray[np.float64]
    words: dict[str, WordCounts]
    generator: np.random.Generator

    def sample(self, place: int, n_bytes: int = 150_000) -> WordCounts:
        texts = self.languages[place].documents(self.generator, n_bytes)
        return word_counts(self.bpe, texts, range(len(texts)))


def world(seed: int, n_languages: int, *, trained_on: int = 500_000, merges: int = 600, **rules: Any) -> World:
    """`trained_on`: bytes. Truth is what the trainer was given, in bytes."""
    generator = np.random.default_rng(seed)
    languages = [language(generator) for _ in range(n_languages)]
    shares = generator.dirichlet(np.ones(n_languages))
    data = [each.documents(generator, int(share * trained_on)) for each, share in zip(languages, shares, strict=True)]
    tokenizer = train([text for texts in data for text in texts], 256 + merges, **rules)
    sizes = np.array([sum(len(text.encode()) for text in texts) for texts in data], np.float64)
    made = World(languages, parse_bpe(tokenizer.to_str()), sizes / sizes.sum(), {}, generator)
    made.words.update({f"corpus-{place}": made.sample(place) for place in range(n_languages)})
    return made
