"""Made-up languages: syllables of some consonants and vowels, words by Zipf's law, sentences with their own spacing.

Two languages share letters and some short words by chance, as real ones do, and differ in what is frequent. Documents
of a language differ in topic: each has words of its own that it repeats, so that documents, not words, are independent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouäöü"
_WORDS, _TOPIC, _FROM_TOPIC = 3000, 20, 0.2  # words of a language, of a topic; share of a document's from its topic
_SYLLABLES = (1, 1, 2, 2, 2, 3, 3, 4)


class Language:
    """Language number `seed`, the same every time."""

    def __init__(self, seed: int, words: int = _WORDS) -> None:
        dice = random.Random(f"language {seed}")
        consonants, vowels = dice.sample(_CONSONANTS, 10), dice.sample(_VOWELS, 4)
        found: dict[str, None] = {}
        while len(found) < words:
            syllables = (
                dice.choice(consonants) + dice.choice(vowels) + dice.choice(["", "", *consonants[:4]])
                for _ in range(dice.choice(_SYLLABLES))
            )
            found["".join(syllables)] = None
        self.words = list(found)
        self.weights = [1.0 / (rank + 2.7) for rank in range(words)]
        self.stop = dice.choice([". ", ".\n", "; ", "!  "])

    def document(self, dice: random.Random) -> str:
        """Some 1 to 5 kB: sentences of 4 to 20 words, a fifth of the words from the document's topic."""
        topic = dice.choices(self.words, k=_TOPIC)
        sentences = []
        for _ in range(dice.randint(15, 60)):
            n = dice.randint(4, 20)
            words = dice.choices(self.words, self.weights, k=n)
            sentences.append(" ".join(dice.choice(topic) if dice.random() < _FROM_TOPIC else word for word in words))
        return self.stop.join(sentences) + self.stop

    def documents(self, dice: random.Random, n_bytes: int) -> Iterator[str]:
        """Documents until there are `n_bytes` of UTF-8."""
        held = 0
        while held < n_bytes:
            text = self.document(dice)
            held += len(text.encode())
            yield text
