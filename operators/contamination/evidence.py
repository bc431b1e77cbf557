"""One piece of evidence on a benchmark: a row of the verdict table, and the words it may be judged with.

    kind                what it can show, and what it cannot: `SHOWS`, `CANNOT_SHOW`
    p_value             of the null hypothesis that the items are nothing special to the model; None where there is none
    exceeds             of a fact about a corpus: whether it is over the threshold; None where none is held against it
    doubt               why neither decides: a condition of the test does not hold

What is missing is evidence, too: `missing` says why it is not there, and the command that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from operators.evaluation.classes import Interval

OVERLAP, MEMORISED, EXCHANGEABILITY = "overlap", "memorised", "exchangeability"
INFERENCE, LOSS_GAP = "dataset_inference", "loss_gap"
KINDS = (OVERLAP, MEMORISED, EXCHANGEABILITY, INFERENCE, LOSS_GAP)

CONTAMINATED = "contaminated"
NO_EVIDENCE = "no evidence"
INCONCLUSIVE = "inconclusive"  # a test was made, and a condition of it does not hold
NOT_JUDGED = "not judged"  # a number beside others: no threshold and no null hypothesis
MISSING = "missing"

SHOWS: Mapping[str, str] = {
    OVERLAP: "Shows that the corpus that was searched holds stretches of the items word for word, up to normalisation.",
    MEMORISED: "Shows that greedy decoding writes the end of an item from what comes before it; beside a clean set, "
    "that it does so oftener than for texts like it that were not trained on.",
    EXCHANGEABILITY: "Shows that the model prefers the order that the items have in the file; where they are in no "
    "order of their own, only training on the file explains that.",
    INFERENCE: "Shows that the model takes the items as a whole differently from a clean set, by all scores together.",
    LOSS_GAP: "Shows, beside a clean set, that the model prefers the items' own wording to changed copies of them by "
    "more than it does there.",
}
CANNOT_SHOW: Mapping[str, str] = {
    OVERLAP: "Cannot show whether the model was trained on that corpus or learnt anything from it; a paraphrase, a "
    "translation or another corpus is not seen.",
    MEMORISED: "Cannot show that items it does not write out were not trained on; ends that follow a pattern are "
    "guessed.",
    EXCHANGEABILITY: "Cannot show training on the items one by one or in another order; a copy or two in much text may "
    "leave no trace.",
    INFERENCE: "Cannot show that training is the reason where the two sets are not drawn alike, nor which items were "
    "seen.",
    LOSS_GAP: "Cannot show anything without a clean set, as any natural text is preferred to changed copies of it; nor "
    "which items were seen.",
}


@dataclass(frozen=True)
class Evidence:
    """One row. `estimate` and `interval` (95 %) are in `unit`; `method` names how interval and p-value were made.

    `n`: items that it is about; `test`: which of its kind; `resolution`: the smallest value that `p_value` can have;
    `detail`: what was found, in words; `examples`: keys of a few items; `matches`: of each, what a corpus holds of it;
    `command`: what makes it, where it is missing.
    `p_adjusted` and `verdict` are filled in by `judge`.
    """

    benchmark: str
    kind: str
    test: str
    n: int
    estimate: float | None = None
    unit: str = ""
    interval: Interval | None = None
    method: str = ""
    p_value: float | None = None
    resolution: float | None = None
    exceeds: bool | None = None
    doubt: str = ""
    detail: str = ""
    examples: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    command: str = ""
    p_adjusted: float | None = None
    verdict: str = ""

    @property
    def shows(self) -> str:
        return SHOWS[self.kind]

    @property
    def cannot_show(self) -> str:
        return CANNOT_SHOW[self.kind]


def missing(benchmark: str, kind: str, why: str, command: str = "", *, test: str = "") -> Evidence:
    """Evidence that is not there: why, and the command that makes it."""
    return Evidence(benchmark, kind, test, 0, detail=why, command=command, verdict=MISSING)
