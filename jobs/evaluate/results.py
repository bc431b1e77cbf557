"""What an evaluation found, and what has to be said with it: warnings and notes, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from operators.blind import BlindResult
from operators.evaluation import Evaluation, Floats, Interval, Matched
from operators.evaluation.classes import CONFIDENCE
from operators.evaluation.documents import Documents
from operators.scores import Missing
from operators.scores.kept import LEARNED

FEW_CLUSTERS = 20  # of a class: intervals over fewer are rough


@dataclass(frozen=True)
class Labelled:
    """Label 1 against label 0, by every score. `values`: name -> [N] of `documents`, which all have a label."""

    run_id: str
    state: str
    label: str
    cluster: str | None
    documents: Documents
    n_unlabelled: int
    values: Mapping[str, Floats] = field(repr=False)
    evaluations: Sequence[Evaluation]
    matched: Mapping[str, Matched]
    n_pairs: int
    blind: Sequence[BlindResult]
    no_blind: str
    missing: Sequence[Missing]
    draws: int
    seed: int

    @property
    def n_positive(self) -> int:
        return self.documents.count(1)

    @property
    def n_negative(self) -> int:
        return self.documents.count(0)

    def n_clusters(self, label: int) -> int:
        """Clusters that hold a document of this label."""
        return self.documents.n_clusters(label)

    def notes(self) -> list[str]:
        """Warnings first, each a sentence or two."""
        found = [*self._blind_notes(), *self._document_notes(), *self._score_notes()]
        return sorted(found, key=lambda note: not note.startswith("warning"))

    def _blind_notes(self) -> Iterator[str]:
        for each in self.blind:
            found = f"blind {each.features} separate the classes with AUROC {each.auroc:.3f} ({span(each.interval)})"
            if each.is_flagged:
                yield (
                    f"warning: {found} and never see the model. The labels mark two kinds of text: an AUROC above says "
                    "little about membership."
                )
            elif each.is_doubtful:
                yield f"note: {found}, a little above chance: the classes may be two kinds of text."
        if self.no_blind:
            yield f"note: no blind baseline: {self.no_blind}"
        elif self.blind and self.blind[0].n_positive + self.blind[0].n_negative < len(self.documents):
            few = f"{self.blind[0].n_positive:,} documents of label 1 and {self.blind[0].n_negative:,} of label 0"
            yield f"note: blind baselines are of {few}, drawn at random: more would take long and tell no more"
        if self.blind and not any(each.features == "words" for each in self.blind):
            yield "note: texts were dropped, so there is no blind baseline on words"

    def _document_notes(self) -> Iterator[str]:
        if self.state != "finished":
            yield f"warning: the run is {self.state}: only the documents scored so far are in these numbers"
        if self.n_unlabelled:
            yield f"note: {self.n_unlabelled:,} documents without a label were left out"
        if self.cluster is not None:
            fewest = min(self.n_clusters(0), self.n_clusters(1))
            kind = "note: intervals and p-values are over clusters"
            found = f"{self.n_clusters(1):,} of label 1 and {self.n_clusters(0):,} of label 0"
            rough = "; so few make them rough, and bootstrap intervals too narrow" * (fewest < FEW_CLUSTERS)
            yield f"{kind} by {self.cluster}: {found}{rough}"
        if self.n_pairs < min(self.n_positive, self.n_negative) / 2:
            yield (
                f"note: only {self.n_pairs:,} pairs of documents have the same length (within 5 %): the classes' "
                "lengths hardly overlap"
            )

    def _score_notes(self) -> Iterator[str]:
        yield from (f"warning: {each}" for each in self.missing if each.family == LEARNED)
        undefined: dict[tuple[int, int], list[str]] = {}
        for each in self.evaluations:
            undefined.setdefault((each.undefined_positive, each.undefined_negative), []).append(each.name)
        for (positive, negative), names in undefined.items():
            if positive or negative:
                found = f"{positive:,} documents of label 1 and {negative:,} of label 0, which their rows leave out"
                yield f"note: not defined for {found}: {', '.join(names)}"
        yield from self._level_notes([point.level for point in self.evaluations[0].tpr_at_fpr])

    def _level_notes(self, levels: Sequence[float]) -> Iterator[str]:
        """False-positive rates that so few negatives say little of."""
        coarse = [level for level in levels if level * self.n_negative < 1]
        if coarse:
            yield (
                f"note: FPR moves in steps of 1/{self.n_negative}: at {_named(coarse)} the TPR is the one without any "
                "false alarm in the sample"
            )
        # No negative may lie above the threshold of the population: then nothing bounds the TPR there from below.
        tail = (1 - CONFIDENCE) / 2
        unbounded = [level for level in levels if (1 - level) ** self.n_negative > tail]
        if unbounded:
            needed = " and ".join(f"{math.ceil(math.log(tail) / math.log1p(-level)):,}" for level in unbounded)
            yield (
                f"note: with {self.n_negative:,} documents of label 0 the interval of the TPR at {_named(unbounded)} "
                f"begins at 0 whatever the scores are; it takes {needed} of them to say more"
            )


@dataclass(frozen=True)
class Selection:
    """Unlabelled documents against those of label 0: by score, [N] of the documents in question.

    `blind`: how well a classifier that never sees the model tells the two apart (`no_blind`: why there is none).
    """

    run_id: str
    fdr: float
    smoothed: bool
    doc_ids: npt.NDArray[np.int64]
    keys: Mapping[int, str]
    calibration: Mapping[str, Floats]
    values: Mapping[str, Floats]
    p_values: Mapping[str, Floats]
    adjusted: Mapping[str, Floats]
    selected: Mapping[str, npt.NDArray[np.bool_]]
    missing: Sequence[Missing]
    blind: Sequence[BlindResult]
    no_blind: str

    def notes(self) -> list[str]:
        """Warnings first: p-values hold where the documents in question are like those of label 0."""
        found = []
        for each in sorted(self.blind, key=lambda result: not result.is_flagged):
            said = (
                f"blind {each.features} tell documents in question from held-out ones with AUROC {each.auroc:.3f} "
                f"({span(each.interval)})"
            )
            if each.is_flagged:
                found.append(
                    f"warning: {said} and never see the model. The two are different kinds of text: p-values do not "
                    "hold, and what is selected may be chosen for its kind, not for membership."
                )
            elif each.is_doubtful:
                found.append(f"note: {said}, a little above chance: the two may be different kinds of text.")
        if self.no_blind:
            found.append(f"note: no blind baseline: {self.no_blind}")
        elif not any(each.features == "words" for each in self.blind):
            found.append("note: texts were dropped, so there is no blind baseline on words")
        return found


def _named(levels: Sequence[float]) -> str:
    return " and ".join(f"{level:.3g}" for level in levels)


def span(interval: Interval) -> str:
    """An interval as it is printed."""
    return f"{interval.low:.3f} .. {interval.high:.3f}"
