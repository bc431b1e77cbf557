"""Divergences of the n-gram distributions of two sets of documents, for many splits of the documents at once.

With a_v and b_v the counts of n-gram v on either side, N_a and N_b their sums, p = a / N_a, q = b / N_b,
m = (p + q) / 2 and V the number of n-grams that either corpus has:

    js            sum_v p log2(p / m) / 2 + q log2(q / m) / 2, in bits, 0 to 1 (Lin 1991, doi 10.1109/18.61115)
    js_distance   its square root, which is a metric (Endres & Schindelin 2003, doi 10.1109/TIT.2003.813506)
    kl            sum_v p' log2(p' / q') in bits, of p' = (a + 1/2) / (N_a + V/2) and q' likewise: of a from b
    tv            total variation, sum_v |p - q| / 2, 0 to 1
    hellinger     sqrt(1 - sum_v sqrt(p q)), 0 to 1
    jaccard       n-grams that both have / n-grams that either has: the other way, 1 where the vocabularies are the same

All are plug-in values. Where many n-grams are rare they are far above 0 (jaccard: below 1) for two samples of one
source, the more so the smaller the samples and the longer the n-grams: read a value beside its mean under relabelling,
and compare no values of corpora of other sizes. The smoothing of kl adds half a count to every n-gram that was seen,
which shrinks it where most were seen once.

A column of `a_NB` and of `b_NB` is a split; time is (non-zeros + n-grams) x splits, and memory is bounded by blocks of
`_CELLS` numbers. Letters: `N` documents, `V` n-grams of a block, `B` splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from operators.comparison.grams import SMOOTHING, Grams
from operators.comparison.resampling import Mask, Statistic, Tail
from operators.evaluation.classes import Floats

_CELLS = 1 << 21
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class _Block:
    """Counts of some n-grams on both sides, and what is known of all."""

    a_VB: Floats
    b_VB: Floats
    n_a_B: Floats
    n_b_B: Floats

    @cached_property
    def share_a(self) -> Floats:
        return self.a_VB / self.n_a_B

    @cached_property
    def share_b(self) -> Floats:
        return self.b_VB / self.n_b_B


@dataclass(frozen=True)
class _Alone:
    """Sums over the n-grams of one document only, by side: rows of `grams.ALONE`."""

    a_KB: Floats
    b_KB: Floats


@dataclass(frozen=True)
class Divergence:
    """`sums`: what a block of n-grams adds, `[k, B]`; `finish`: the value of the sums over all.

    `is_directed`: of a from b is not of b from a.
    """

    name: str
    tail: Tail
    sums: Callable[[_Block], Sequence[Floats]]
    finish: Callable[[Floats, _Alone, Floats, Floats, int], Floats]
    maximum: float | None = 1.0
    is_directed: bool = False


def _xlog2x(x: Floats) -> Floats:
    found: Floats = x * np.log2(np.maximum(x, _TINY))
    return found


def _sums_js(block: _Block) -> Sequence[Floats]:
    p, q = block.share_a, block.share_b
    return [((_xlog2x(p) + _xlog2x(q)) / 2 - _xlog2x((p + q) / 2)).sum(axis=0)]


def _half_alone(alone: _Alone, n_a_B: Floats, n_b_B: Floats) -> Floats:
    """Half the probability of n-grams that only one side can have: what they add to js, in bits, and to tv."""
    found: Floats = (alone.a_KB[1] / n_a_B + alone.b_KB[1] / n_b_B) / 2
    return found


def _finish_js(sums: Floats, alone: _Alone, n_a_B: Floats, n_b_B: Floats, v: int) -> Floats:
    found: Floats = np.clip(sums[0] + _half_alone(alone, n_a_B, n_b_B), 0, 1)
    return found


def _finish_js_distance(sums: Floats, alone: _Alone, n_a_B: Floats, n_b_B: Floats, v: int) -> Floats:
    return np.sqrt(_finish_js(sums, alone, n_a_B, n_b_B, v))


def _finish_tv(sums: Floats, alone: _Alone, n_a_B: Floats, n_b_B: Floats, v: int) -> Floats:
    found: Floats = sums[0] / 2 + _half_alone(alone, n_a_B, n_b_B)
    return found


def _finish_hellinger(sums: Floats, alone: _Alone, n_a_B: Floats, n_b_B: Floats, v: int) -> Floats:
    found: Floats = np.sqrt(np.clip(1 - sums[0], 0, 1))
    return found


def _finish_jaccard(sums: Floats, alone: _Alone, n_a_B: Floats, n_b_B: Floats, v: int) -> Floats:
    found: Floats = sums[0] / (sums[1] + alone.a_KB[0] + alone.b_KB[0])
    return found


def _sums_kl(block: _Block) -> Sequence[Floats]:
    a, b = block.a_VB + SMOOTHING, block.b_VB + SMOOTHING
    return [(a * (np.log2(a) - np.log2(b))).sum(axis=0)]


def _finish_kl(sums: Floats, alone: _Alone, n_a_B: Floats, n_b_B: Floats, v: int) -> Floats:
    """n-grams of one document: on a's side (c + s)(log(c + s) - log s), on b's side s (log s - log(c + s)), else 0."""
    s, log_s = SMOOTHING, np.log2(SMOOTHING)
    n_K, c_K, own_K, _ = alone.a_KB
    on_a = own_K - log_s * (c_K + s * n_K)
    on_b = s * (log_s * alone.b_KB[0] - alone.b_KB[3])
    z_a, z_b = n_a_B + s * v, n_b_B + s * v
    found: Floats = (sums[0] + on_a + on_b) / z_a + np.log2(z_b) - np.log2(z_a)
    return found


DIVERGENCES = {
    each.name: each
    for each in (
        Divergence("js", Tail.high, _sums_js, _finish_js),
        Divergence("js_distance", Tail.high, _sums_js, _finish_js_distance),
        Divergence("kl", Tail.high, _sums_kl, _finish_kl, maximum=None, is_directed=True),
        Divergence("tv", Tail.high, lambda block: [np.abs(block.share_a - block.share_b).sum(axis=0)], _finish_tv),
        Divergence("hellinger", Tail.high, lambda block: [np.sqrt(block.share_a * block.share_b).sum(axis=0)],
                   _finish_hellinger),
        Divergence(
            "jaccard",
            Tail.low,
            lambda block: [
                np.logical_and(block.a_VB, block.b_VB).sum(axis=0).astype(np.float64),
                np.logical_or(block.a_VB, block.b_VB).sum(axis=0).astype(np.float64),
            ],
            _finish_jaccard,
        ),
    )
}  # fmt: skip


def statistic(grams: Grams, names: Sequence[str]) -> Statistic:
    """Divergences of these names, in their order, of documents split by masks: `[S, B]`, NaN where a side is empty.

    A name that begins with `-` is of b from a, for those that have a direction.
    """
    chosen = [(DIVERGENCES[name.removeprefix("-")], name.startswith("-")) for name in names]
    shared_VN = grams.shared_DV.T.tocsr()
    v = int(shared_VN.shape[0] + grams.alone_DK[:, 0].sum())

    def values(a_NB: Mask, b_NB: Mask) -> Floats:
        a, b = a_NB.astype(np.float64), b_NB.astype(np.float64)
        n_a_B, n_b_B = grams.total_D @ a, grams.total_D @ b
        alone = _Alone(grams.alone_DK.T @ a, grams.alone_DK.T @ b)
        sums: dict[Any, Any] = {(each.sums, is_turned): 0.0 for each, is_turned in chosen}  # js and its root share them
        with np.errstate(invalid="ignore", divide="ignore"):
            for block in _blocks(shared_VN, a, b, n_a_B, n_b_B):
                for make, is_turned in sums:
                    sums[make, is_turned] += np.stack([*make(_turned(block) if is_turned else block)])
            found = [
                each.finish(sums[each.sums, True], _Alone(alone.b_KB, alone.a_KB), n_b_B, n_a_B, v)
                if is_turned
                else each.finish(sums[each.sums, False], alone, n_a_B, n_b_B, v)
                for each, is_turned in chosen
            ]
        return np.where((n_a_B > 0) & (n_b_B > 0), np.stack(found), np.nan)

    return values


def _blocks(shared_VN: Any, a_NB: Floats, b_NB: Floats, n_a_B: Floats, n_b_B: Floats) -> Iterator[_Block]:
    """The counts of both sides, some n-grams at a time; at least one block, which may be empty."""
    rows = max(1, _CELLS // a_NB.shape[1])
    for start in range(0, max(1, shared_VN.shape[0]), rows):
        some = shared_VN[start : start + rows]
        yield _Block(some @ a_NB, some @ b_NB, n_a_B, n_b_B)


def _turned(block: _Block) -> _Block:
    return _Block(block.b_VB, block.a_VB, block.n_b_B, block.n_a_B)
