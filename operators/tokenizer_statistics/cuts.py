"""Where tokens cut words: which tokens a stretch of text is made of, and how many words are in pieces.

Tokens that cover no byte (the further ones of a character that several tokens share) belong to the byte before them;
at the very start of a document (the space that a tokenizer puts there) they belong to none.
Shapes: `T` tokens of all documents of a block, `D` documents, `R` stretches of text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.tokenizer_statistics.text_facts import Flags, Places, TextFacts


@dataclass(frozen=True)
class Tokens:
    """Tokens of a block: ids, and the bytes of the joined texts that they cover, `(T,)`; document d holds
    `bounds[d]:bounds[d + 1]`."""

    ids: npt.NDArray[np.int32]
    bounds: Places
    start: Places
    n_bytes: npt.NDArray[np.int16]

    @property
    def n_tokens(self) -> Places:
        return np.diff(self.bounds)

    @property
    def documents(self) -> Places:
        """The document of each, `(T,)`."""
        return np.repeat(np.arange(len(self.bounds) - 1), self.n_tokens)

    @property
    def trailing(self) -> Flags:
        """Which cover no byte and belong to the byte before them, `(T,)`."""
        found = self.n_bytes == 0
        empty = np.flatnonzero(found)
        document = np.searchsorted(self.bounds, empty, side="right") - 1
        # The first token of a document stands where the document begins.
        found[empty] = self.start[empty] > self.start[self.bounds[document]]
        return np.asarray(found)


def continued_words(tokens: Tokens, facts: TextFacts) -> Places:
    """Words of two tokens or more, `(D,)`."""
    places = tokens.start[tokens.n_bytes > 0]
    cut = places[facts.words.inside[places]]
    behind = tokens.start[tokens.trailing] - 1
    if len(behind):
        cut = np.sort(np.concatenate([cut, behind[facts.words.member[behind]]]))
    words = np.searchsorted(facts.words.start, cut, side="right") - 1
    words = words[np.flatnonzero(np.diff(words, prepend=-1))]
    documents = np.searchsorted(facts.bounds, facts.words.start[words], side="right") - 1
    return np.bincount(documents, minlength=len(facts.texts))


def runs_of_tokens(tokens: Tokens, start: Places, end: Places) -> tuple[Places, Places]:
    """The tokens that share a byte with each of the stretches `start:end`: the first, and the one after the last."""
    trailing = tokens.trailing
    opens = 2 * tokens.start - trailing  # half a byte before their place: they belong to what is there
    closes = 2 * (tokens.start + tokens.n_bytes) - trailing
    first = np.searchsorted(closes, 2 * start, side="right")
    last = np.searchsorted(opens, 2 * end, side="left")
    return np.asarray(first), np.asarray(last)
