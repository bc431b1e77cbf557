"""Made-up documents whose truth is known: scores of two classes with their AUROC and TPR, and sets of features.

Scores are normal, those of positives moved up by `shift`, and rounded to a grid where they are to be tied. Every sample
is drawn from a seed that names the world, the size and its number of documents, so worlds do not share numbers.
Letters: `R` samples, `N` documents of a class, `F` features.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

ASKED, MEMBERS = 100, 10  # documents that are selected from, and of them those to be found


@dataclass(frozen=True)
class World:
    """`grid`: to what scores are rounded, 0 for not at all."""

    name: str
    shift: float = 0.0
    grid: float = 0.0

    def samples(self, draws: int, n: int, seed: int) -> Floats:
        """Scores `[R, 2N]`, positives first."""
        scores_RN = numbers(self.name, n, seed).normal(size=(draws, 2 * n))
        scores_RN[:, :n] += self.shift
        return self.rounded(scores_RN)

    def rounded(self, scores: Floats) -> Floats:
        return np.round(scores / self.grid) * self.grid if self.grid else scores

    @property
    def auroc(self) -> float:
        """Of the population: P(positive > negative) + P(equal) / 2."""
        if not self.grid:
            return float(special.ndtr(self.shift / np.sqrt(2)))
        values = self._values()
        positive = np.diff(special.ndtr(values - self.shift + self.grid / 2), prepend=0.0)
        below = special.ndtr(values - self.grid / 2)
        return float(positive @ (below + special.ndtr(values + self.grid / 2)) / 2)

    def tpr(self, level: float) -> float:
        """Of the population, at the lowest threshold whose FPR is at most `level`."""
        if not self.grid:
            return float(special.ndtr(self.shift + special.ndtri(level)))
        edges = self._values() - self.grid / 2  # a score is at or above a value where it was not rounded below it
        edge = edges[special.ndtr(-edges) <= level][0]
        return float(special.ndtr(self.shift - edge))

    def _values(self) -> Floats:
        """The values that rounded scores have, all that matter."""
        return np.asarray(np.arange(-round(12 / self.grid), round(12 / self.grid) + 1) * self.grid, dtype=np.float64)


SAME = World("classes alike")
SAME_TIED = World("alike, three values", grid=1.6)
APART = World("AUROC 0.86", shift=1.5)
APART_TIED = World("AUROC 0.86, tied", shift=1.5, grid=0.5)
FAR = World("members far off", shift=4.0)
FAR_TIED = World("members far off, tied", shift=4.0, grid=0.5)


def labels(n: int) -> Floats:
    """Labels `[2N]` of a sample."""
    return np.repeat([1.0, 0.0], n)


def pairs(draws: int, n: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Two scores `[2N]` of the same documents that tell the classes apart equally well, and agree in part."""
    shared, first, second = numbers("pairs", n, seed).normal(size=(3, draws, 2 * n))
    shared[:, :n] += 1.0
    yield from zip(shared + first, shared + second, strict=True)


def feature_sets(draws: int, n: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Two sets of documents `[N, F]` drawn alike: correlated, skewed, heavy-tailed, tied, partly undefined scores."""
    generator = numbers("features", n, seed)
    for _ in range(draws):
        normal = generator.normal(size=(2 * n, 4))
        features = np.column_stack(
            [
                normal[:, 0],
                normal[:, 0] + 0.5 * normal[:, 1],
                np.exp(normal[:, 2]),
                generator.standard_t(3, size=2 * n),
                np.round(normal[:, 3]),
                np.where(generator.random(2 * n) < 0.1, np.nan, normal[:, 1]),
            ]
        )
        yield features[:n], features[n:]


def to_select_from(
    world: World, draws: int, n: int, seed: int
) -> Iterator[tuple[Floats, Floats, npt.NDArray[np.bool_]]]:
    """Scores of `N` held-out documents and of `ASKED` in question, and which of these are members."""
    generator = numbers(f"{world.name}, selection", n, seed)
    members = np.arange(ASKED) < MEMBERS
    for _ in range(draws):
        asked = generator.normal(size=ASKED) + world.shift * members
        yield world.rounded(generator.normal(size=n)), world.rounded(asked), members


def numbers(name: str, n: int, seed: int) -> np.random.Generator:
    """Random numbers of one world and size."""
    return np.random.default_rng([seed, n, zlib.crc32(name.encode())])
