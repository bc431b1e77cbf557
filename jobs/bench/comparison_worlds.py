"""Made-up corpora whose documents come from one source, or from two: what `assay compare` says of them.

    words     a document keeps to one topic and to words of its own, and its length has a long tail: words of one
              document go together, so that a test which takes words for independent finds differences everywhere
    states    documents as vectors, around one direction as those of a language model are, or around none at all
    lengths   the lengths of those documents, many of them equal

Half as many documents in the second corpus, or as many as in the first. Letters: `D` documents of both, `V` words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.bench.worlds import Floats, numbers
from operators.comparison import resampling
from operators.comparison.depth import deeper, depths, directions, rank_sum
from operators.comparison.divergences import DIVERGENCES, statistic
from operators.comparison.grams import GramCounter, Grams
from operators.comparison.profiles import largest_gap, mean_interval
from operators.comparison.resampling import Ends, Tail, jackknife, permuted, split
from operators.overlap.words import Ids, hashes, padded, running

PERMUTATIONS = 99
NAMES = ("js", "kl", "jaccard")
_TOPICS, _WORDS, _WIDTH = 8, 400, 12


@dataclass(frozen=True)
class Sizes:
    """Documents of the two corpora, by how many the first has."""

    name: str
    share: float

    def of(self, n: int) -> tuple[int, int]:
        return n, max(5, round(self.share * n))


EQUAL, UNEQUAL = Sizes("equal sizes", 1.0), Sizes("half as many", 0.5)


def corpora(draws: int, n_a: int, n_b: int, seed: int, *, apart: float = 0.0) -> Iterator[tuple[Grams, Floats]]:
    """Counts of single words of `n_a` + `n_b` documents, and their lengths. `apart`: how much more of the first topic
    the second corpus has."""
    rng = numbers(f"corpora {n_b}, {apart}", n_a, seed)
    shares_TV = np.random.default_rng(0).dirichlet(0.5 / np.arange(1, _WORDS + 1) ** 0.7, _TOPICS)
    cumulated_TV = shares_TV.cumsum(axis=1)
    chances = np.full(_TOPICS, 1 / _TOPICS)
    moved = (1 - apart) * chances + apart * np.eye(_TOPICS)[0]
    for _ in range(draws):
        topic_D = np.r_[rng.choice(_TOPICS, n_a, p=chances), rng.choice(_TOPICS, n_b, p=moved)]
        length_D = np.ceil(rng.lognormal(2.5, 1.0, n_a + n_b)).astype(np.int64)
        owner = np.repeat(np.arange(n_a + n_b), length_D)
        drawn = rng.random(owner.size) + topic_D[owner]
        words = np.searchsorted((cumulated_TV + np.arange(_TOPICS)[:, None]).ravel(), drawn) % _WORDS
        bounds = running(length_D)
        repeats = rng.random(owner.size) < 0.3  # a document says its first word again and again
        words = np.where(repeats, words[bounds[owner]], words)
        yield counted(words, bounds), length_D.astype(np.float64)


def counted(words: Ids, bounds: Ids) -> Grams:
    """Counts of single words."""
    ids = words.astype("<i4")
    places = np.arange(ids.size, dtype=np.int64)
    counter = GramCounter([1], len(bounds) - 1)
    hashed = hashes(padded(ids.tobytes()), 4 * places, np.full(ids.size, 4, np.int64))
    counter.add(np.arange(len(bounds) - 1), hashed, bounds)
    return counter.counted(1)


def p_values(draws: int, n: int, sizes: Sizes, seed: int) -> dict[str, list[float]]:
    """By statistic, p-values of two corpora of one source, each moved to a random place within its step."""
    n_a, n_b = sizes.of(n)
    rng = numbers(f"relabelled, {sizes.name}", n, seed)
    found: dict[str, list[float]] = {name: [] for name in (*NAMES, "ks")}
    for grams, lengths in corpora(draws, n_a, n_b, seed):
        for test, names in ((statistic(grams, NAMES), NAMES), (largest_gap(np.round(lengths, -1)), ("ks",))):
            observed = test(*split(n_a, n_b))[:, 0]
            drawn_SR = permuted(test, n_a, n_b, permutations=PERMUTATIONS, rng=rng)
            for name, value, drawn_R in zip(names, observed, drawn_SR, strict=True):
                found[name].append(_within(value, drawn_R, DIVERGENCES[name].tail if name != "ks" else Tail.high, rng))
    return found


def _within(value: float, drawn_R: Floats, tail: Tail, rng: np.random.Generator) -> float:
    """The p-value less a random share of what ties it counts whole, which is uniform where relabelling is exact."""
    p_value = resampling.null(value, drawn_R, tail).p_value
    far = drawn_R > value + 1e-9 if tail is Tail.high else drawn_R < value - 1e-9
    least = float(far.sum()) / (1 + drawn_R.size)
    return p_value - float(rng.random()) * (p_value - least)


def depth_p_values(draws: int, n: int, sizes: Sizes, seed: int, *, centred: bool) -> dict[str, list[float]]:
    """Of depth: by relabelling (each in a random place within its step), and by the authors' rank-sum test."""
    n_a, n_b = sizes.of(n)
    rng = numbers(f"states, {sizes.name}, {centred}", n, seed)
    found: dict[str, list[float]] = {"permutation": [], "rank_sum": []}
    for _ in range(draws):
        unit = _states(rng, n_a, n_b, centred=centred)
        test = deeper(unit, reference_is_a=True)
        observed = float(test(*split(n_a, n_b))[0, 0])
        (drawn,) = permuted(test, n_a, n_b, permutations=PERMUTATIONS, rng=rng)
        found["permutation"].append(_both_within(observed, drawn, rng))
        depth = depths(unit, split(n_a, n_b)[0])[:, 0]
        found["rank_sum"].append(rank_sum(depth[:n_a], depth[n_a:]).p_value)
    return found


def _states(rng: np.random.Generator, n_a: int, n_b: int, *, centred: bool, apart: float = 0.0) -> Floats:
    vectors = rng.standard_normal((n_a + n_b, _WIDTH)) * rng.lognormal(0, 0.5, (n_a + n_b, 1))
    vectors[:, 0] += 0.0 if centred else 2.0
    vectors[n_a:, 1] += apart
    return directions(vectors)


def _both_within(value: float, drawn_R: Floats, rng: np.random.Generator) -> float:
    """The two-sided p-value less a random share of its step."""
    p_value = resampling.null(value, drawn_R, Tail.both).p_value
    return p_value - float(rng.random()) * 2 / (1 + drawn_R.size)


def covered(draws: int, n: int, sizes: Sizes, seed: int, *, apart: float) -> dict[str, list[bool]]:
    """Whether intervals of divergences hold the mean that each has over all these corpora, and intervals of a mean the
    mean length of a document."""
    n_a, n_b = sizes.of(n)
    rng = numbers(f"left out, {sizes.name}, {apart}", n, seed)
    values, ends, lengths = [], [], []
    for grams, length_D in corpora(draws, n_a, n_b, seed, apart=apart):
        test = statistic(grams, NAMES)
        observed = test(*split(n_a, n_b))[:, 0]
        values.append(observed)
        ends.append(jackknife(test, n_a, n_b, observed, confidence=0.95, rng=rng))
        lengths.append(mean_interval(length_D[:n_a], 0.95, 999, rng))
    means, mean_length = np.mean(values, axis=0), _mean_length()
    found = {
        name: [_holds(each[i], float(mean)) for each in ends]
        for i, (name, mean) in enumerate(zip(NAMES, means, strict=True))
    }
    return found | {"mean length": [_holds(each, mean_length) for each in lengths]}


def depth_covered(draws: int, n: int, sizes: Sizes, seed: int, *, apart: float) -> list[bool]:
    """Whether intervals of depth hold its mean over all these corpora, of states around one direction."""
    n_a, n_b = sizes.of(n)
    rng = numbers(f"depth left out, {sizes.name}, {apart}", n, seed)
    values, ends = [], []
    for _ in range(draws):
        test = deeper(_states(rng, n_a, n_b, centred=False, apart=2 * apart), reference_is_a=True)
        observed = test(*split(n_a, n_b))[:, 0]
        values.append(float(observed[0]))
        ends += jackknife(test, n_a, n_b, observed, confidence=0.95, rng=rng)
    return [_holds(each, float(np.mean(values))) for each in ends]


def _holds(ends: Ends, value: float) -> bool:
    return ends.low <= value <= ends.high


def _mean_length() -> float:
    """Of ceil(x), x log-normal: sum over k of P(x > k)."""
    from scipy import stats

    return float(stats.lognorm.sf(np.arange(20_000), 1.0, scale=np.exp(2.5)).sum())
