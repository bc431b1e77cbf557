"""A tokenizer's training mixture from its merges: pair counts while merging, and a linear program.

bpe -> words -> replay -> history -> stretches -> program -> inference (identification) -> samples
"""

from __future__ import annotations

from collections.abc import Mapping

from operators.merges.bpe import Bpe, BpeError, parse_bpe, read_bpe
from operators.merges.history import MAX_MERGES, GroupCounts, PairHistory, Queries, group_counts, pair_history
from operators.merges.inference import TOLERANCE, Inference, InferenceError, infer_mixture
from operators.merges.program import ProgramError
from operators.merges.samples import CONFIDENCE, RESAMPLES, Sampled, sample_mixture
from operators.merges.words import GROUPS, WordCounts, sum_words, word_counts

__all__ = [
    "CONFIDENCE",
    "GROUPS",
    "MAX_MERGES",
    "RESAMPLES",
    "TOLERANCE",
    "Bpe",
    "BpeError",
    "GroupCounts",
    "Inference",
    "InferenceError",
    "PairHistory",
    "ProgramError",
    "Queries",
    "Sampled",
    "WordCounts",
    "group_counts",
    "infer_from_words",
    "infer_mixture",
    "pair_history",
    "parse_bpe",
    "read_bpe",
    "sample_mixture",
    "sum_words",
    "word_counts",
]


def infer_from_words(
    bpe: Bpe,
    words: Mapping[str, WordCounts],
    *,
    max_merges: int = MAX_MERGES,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    training_bytes: float | None = None,
) -> tuple[Inference, Sampled]:
    """The whole inference in one process; arguments as of its parts."""
    histories = {name: pair_history(bpe, counts, max_merges=max_merges) for name, counts in words.items()}
    inference = infer_mixture(histories, tolerance=tolerance)
    counts = {name: group_counts(bpe, held, inference.queries) for name, held in words.items()}
    sampled = sample_mixture(
        inference, counts, confidence=confidence, resamples=resamples, seed=seed, training_bytes=training_bytes
    )
    return inference, sampled
