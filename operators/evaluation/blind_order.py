"""The blind baseline of an order: are neighbouring items more, or less, alike than in drawn orders, without a model?

    similarity of the items of a shard [n, n]: cosine of their words' tf-idf | minus the distance of their length ranks
      --> T_j = sum over shards and neighbours in order j --> two-sided p of T_0 among the drawn orders

The test of exchangeability takes the items as in no order of their own. A file that is sorted, grouped by subject or
dealt in turns breaks that: any model predicts an item better after one like it, seen before or not. Where this
baseline is flagged, a small p-value of the model says nothing about training.

It sees resemblance of neighbours only: an order may carry information that it does not see.
Letters: `n` items of a shard, `P` orders, the first as in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from operators.evaluation.classes import Floats
from operators.orders import cut_shards, drawn_order

FLAG_BELOW = 0.02  # of either feature: by chance, about four files in a hundred
MAX_SHARD_ITEMS = 2000  # [n, n] similarities are held of one shard at a time

Similarity = Callable[[range], Floats]


@dataclass(frozen=True)
class BlindOrder:
    """`features`: `words` or `lengths`. `z`: by how many standard deviations of the drawn orders neighbours in the file
    are more alike (above 0) or less; 0 where all orders are the same to it."""

    features: str
    p_value: float
    z: float

    @property
    def is_flagged(self) -> bool:
        return self.p_value <= FLAG_BELOW


def blind_order(texts: Sequence[str], *, shards: int, permutations: int, seed: int) -> list[BlindOrder]:
    """Test the order of a benchmark's items by what can be seen without a model, in the shards and orders of its run.

    Raises:
        ValueError: shards of more items than `MAX_SHARD_ITEMS`, or of less than two.
    """
    places = cut_shards(len(texts), shards)
    if len(places[0]) > MAX_SHARD_ITEMS:
        raise ValueError(f"{len(places[0]):,} items a shard, at most {MAX_SHARD_ITEMS:,} are compared with each other")
    tests: dict[str, Similarity] = {"words": _words(texts), "lengths": _lengths(texts)}
    totals = {name: np.zeros(permutations + 1) for name in tests}
    for shard, here in enumerate(places):
        drawn = [drawn_order(here, seed, shard, number) for number in range(permutations + 1)]
        order_Pn = np.array(drawn) - here.start
        for name, similarity in tests.items():
            totals[name] += similarity(here)[order_Pn[:, :-1], order_Pn[:, 1:]].sum(axis=1)
    return [_tested(name, total_P) for name, total_P in totals.items()]


def _words(texts: Sequence[str]) -> Similarity:
    hashed = HashingVectorizer(alternate_sign=False, norm=None, n_features=1 << 18, token_pattern=r"\w+")
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(texts))
    return lambda here: np.asarray((weights[here.start : here.stop] @ weights[here.start : here.stop].T).toarray())


def _lengths(texts: Sequence[str]) -> Similarity:
    ranks = rankdata([len(text) for text in texts]) / len(texts)
    return lambda here: -np.abs(np.subtract.outer(ranks[here.start : here.stop], ranks[here.start : here.stop]))


def _tested(name: str, total_P: npt.NDArray[np.float64]) -> BlindOrder:
    total_P = np.round(total_P, 9)  # equal orders are equal, whatever order their neighbours were added in
    drawn, spread = total_P[1:], float(total_P[1:].std())
    above, below = int((drawn >= total_P[0]).sum()), int((drawn <= total_P[0]).sum())
    p_value = min(1.0, 2 * (1 + min(above, below)) / (drawn.size + 1))
    return BlindOrder(name, p_value, float(total_P[0] - drawn.mean()) / spread if spread else 0.0)
