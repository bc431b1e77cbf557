"""Depth of documents in a corpus by their embeddings, and whether two corpora differ in it (TTE depth).

    depth(x; F) = 2 - mean over y in F of the cosine distance of x and y        a document of F is left out of its own
    Q(F, G)     = mean over G of the share of all depths (of F and G, with reference F) that lie below it

Q is near 1/2 where G lies as deep in F as F itself, and lower where G lies further out. Source: Seegmiller & Preum,
EMNLP 2023, arXiv 2310.15010. Their code takes the axis of a distance matrix by its shape, and means over the wrong one
where F and G have the same number of documents; here sets are told apart by masks, never by their sizes.

The mean of cosine distances needs no matrix of them: 1 - x . mean(y) for vectors of length 1, exactly. So time is
linear in the documents.

Two tests of Q, both two-sided. The authors' rank-sum test takes the depths for independent, but all of them lean on the
same reference: where documents differ little in their likeness to the mean of F (embeddings around the origin), what
is left of a depth is mostly the chance of F, and it rejects too often. Relabelling the documents and computing depths
anew is exact whatever the embeddings, so its p-value decides.

The interval of Q covers at its level where embeddings lie around a direction; around the origin Q follows the chance
direction of F, and 95 % covered 90 % of corpora of 500 documents that differ much.
Letters: `N` documents of both corpora, `D` width of an embedding, `B` splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from operators.comparison.resampling import Mask, Statistic
from operators.evaluation.classes import Floats

_DIGITS = 9  # of a depth that is ranked: those behind differ between copies of a document, as a product rounds


@dataclass(frozen=True)
class RankSum:
    """Wilcoxon's rank-sum test of depth(G) against depth(F): `z` is positive where G lies deeper."""

    z: float
    p_value: float


def directions(vectors_ND: Floats) -> Floats:
    """Rows at length 1; those of length 0, which have no direction, become NaN."""
    length_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(length_N1 > 0, vectors_ND / length_N1, np.nan), np.float64)


def depths(unit_ND: Floats, f_NB: Mask) -> Floats:
    """Depths `[N, B]` of every document with the documents of `f_NB` as reference; `unit_ND` as from `directions`."""
    f = f_NB.astype(np.float64)
    n_B = f.sum(axis=0)
    like_NB = unit_ND @ (unit_ND.T @ f)
    own_N1 = np.einsum("nd,nd->n", unit_ND, unit_ND)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = 1 + (like_NB - f * own_N1) / (n_B - f)
    return found


def deeper(unit_ND: Floats, *, reference_is_a: bool) -> Statistic:
    """Q of two sets of documents, `[1, B]`, the reference being the first or the second of them."""

    def values(a_NB: Mask, b_NB: Mask) -> Floats:
        f_NB, g_NB = (a_NB, b_NB) if reference_is_a else (b_NB, a_NB)
        depth_NB = np.where(f_NB | g_NB, np.round(depths(unit_ND, f_NB), _DIGITS), np.inf)
        below_NB = stats.rankdata(depth_NB, method="min", axis=0) - 1
        n_g_B = g_NB.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            q_B = (below_NB * g_NB).sum(axis=0) / n_g_B / (f_NB.sum(axis=0) + n_g_B)
        return np.where((f_NB.sum(axis=0) > 1) & (n_g_B > 0), q_B, np.nan)[None]

    return values


def rank_sum(depth_f: Floats, depth_g: Floats) -> RankSum:
    """The rank-sum test as the authors make it: normal approximation, two-sided, no correction for ties."""
    found = stats.ranksums(np.round(depth_g, _DIGITS), np.round(depth_f, _DIGITS))
    return RankSum(float(found.statistic), float(found.pvalue))
