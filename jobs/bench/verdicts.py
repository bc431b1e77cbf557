"""Benchmarks that no model has seen, with all evidence that `assay contamination` tests: how often is one condemned?

    a sample: BENCHMARKS sets of N items and one clean set of N, all drawn alike
      --> written ends, orders, features, gaps of each --> rows of evidence --> Holm over all --> any contaminated?

The clean set is shared, so tests depend on each other. What a corpus holds is no test and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from operators.contamination.evidence import CONTAMINATED, Evidence
from operators.contamination.inference import exchangeability_evidence, inference_evidence
from operators.contamination.loss_gap import Gaps, loss_gap_evidence
from operators.contamination.memorised import Ends, memorised_evidence
from operators.contamination.verdict import judge
from operators.evaluation.dataset_inference import dataset_inference
from operators.evaluation.exchangeability import exchangeability

ALPHA = 0.05
BENCHMARKS = 3
SHARDS, PERMUTATIONS = 10, 399  # so many that a permutation test can be significant after the correction
GAP_DRAWS = 999
_WRITTEN = 0.2  # share of the items whose end is guessed


def false_alarms(draws: int, n: int, seed: int) -> Iterator[bool]:
    """Whether any of the benchmarks of a sample is called contaminated, sample by sample."""
    for draw in range(draws):
        generator = np.random.default_rng([seed, n, draw])
        clean = _Items(generator, n)
        sampled = {f"benchmark {i}": _Items(generator, n) for i in range(BENCHMARKS)}
        evidence = {name: items.evidence(name, clean, generator) for name, items in sampled.items()}
        yield any(verdict.outcome == CONTAMINATED for verdict in judge(evidence, alpha=ALPHA))


class _Items:
    """One set: whether each end is written [N], features [N, F] and gaps [N]; skewed and correlated."""

    def __init__(self, generator: np.random.Generator, n: int) -> None:
        normal = generator.normal(size=(n, 3))
        ids = np.arange(n)
        written = normal[:, 0] + generator.normal(size=n) > np.sqrt(2) * stats.norm.isf(_WRITTEN)
        self.ends = Ends(ids, ("",) * n, np.full(n, 10), written, None)
        self.features = np.column_stack([normal, np.exp(normal[:, 1]), generator.standard_t(3, size=n)])
        self.gaps = Gaps(ids, np.exp(0.5 * normal[:, 2]) * generator.gamma(2.0, size=n))

    def evidence(self, name: str, clean: _Items, generator: np.random.Generator) -> list[Evidence]:
        shard_S = generator.gamma(2.0, 50.0, size=(SHARDS, 1))  # shards differ more than their orders do
        logprob_SP = -shard_S - generator.gamma(2.0, size=(SHARDS, PERMUTATIONS + 1))
        order = exchangeability(logprob_SP, np.full(logprob_SP.shape, 100))
        inference = dataset_inference(self.features, clean.features, seed=int(generator.integers(1 << 31)))
        return [
            memorised_evidence(name, self.ends, clean.ends),
            exchangeability_evidence(name, "orders", len(self.features), order),
            inference_evidence(name, inference, ("detection",) * len(inference.features), None, ()),
            loss_gap_evidence(name, "perturb", self.gaps, clean.gaps, draws=GAP_DRAWS),
        ]
