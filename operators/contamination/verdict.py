"""From evidence to a verdict a benchmark: one family of tests over all benchmarks, facts held against a threshold.

    p-values of all rows of all benchmarks --> Holm --> at most alpha: contaminated
    share of items that a corpus holds -----> over the threshold: contaminated

Where nothing is found the verdict is "no evidence found", never "clean": what a test cannot show stands beside it. Of
benchmarks that the model has not seen, however many, and whatever was tested of them, the chance that a test calls any
contaminated is at most alpha (Holm 1979, whatever the dependence). Tests in doubt stay in the family though they decide
nothing, so that a doubt, which may come from the same data, makes no other test easier to pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from operators.contamination.evidence import (
    CONTAMINATED,
    INCONCLUSIVE,
    KINDS,
    MISSING,
    NO_EVIDENCE,
    NOT_JUDGED,
    Evidence,
)
from operators.evaluation.multiplicity import holm_adjusted

NO_EVIDENCE_FOUND = "no evidence found"
INCOMPLETE = "incomplete"  # nothing was found, and something that is required could not be judged, or nothing could

_DECIDED = (CONTAMINATED, NO_EVIDENCE)


@dataclass(frozen=True)
class Verdict:
    """What is said of one benchmark, why, and all evidence on it."""

    benchmark: str
    outcome: str
    why: str
    evidence: tuple[Evidence, ...]


def judge(
    evidence: Mapping[str, Sequence[Evidence]], *, alpha: float = 0.05, require: Sequence[str] = ()
) -> tuple[Verdict, ...]:
    """The verdict on each benchmark, in the order given.

    Args:
        evidence: by benchmark; its rows come back with `p_adjusted` and `verdict`.
        alpha: bound on the chance that a test calls any benchmark contaminated that is not.
        require: kinds that must have been judged for a verdict of "no evidence found".

    Raises:
        ValueError: `alpha` is no share, or a kind is none.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: {alpha:g}, expected a share above 0 and below 1")
    if strange := [kind for kind in require if kind not in KINDS]:
        raise ValueError(f"no evidence is called {', '.join(map(repr, strange))}: choose {', '.join(KINDS)}")
    rows = [row for some in evidence.values() for row in some]
    adjusted = holm_adjusted([math.nan if row.p_value is None else row.p_value for row in rows]).tolist()
    judged = iter([_judged(row, p, alpha) for row, p in zip(rows, adjusted, strict=True)])
    return tuple(_verdict(name, tuple(next(judged) for _ in some), require) for name, some in evidence.items())


def n_tests(evidence: Mapping[str, Sequence[Evidence]]) -> int:
    """The p-values that are corrected for each other."""
    return sum(row.p_value is not None for some in evidence.values() for row in some)


def _judged(row: Evidence, p_adjusted: float, alpha: float) -> Evidence:
    if row.verdict == MISSING:
        return row
    p = None if math.isnan(p_adjusted) else p_adjusted
    is_over = row.exceeds if p is None else p <= alpha
    word = NOT_JUDGED if is_over is None else CONTAMINATED if is_over else NO_EVIDENCE
    return replace(row, p_adjusted=p, verdict=INCONCLUSIVE if row.doubt else word)


def _verdict(benchmark: str, rows: tuple[Evidence, ...], require: Sequence[str]) -> Verdict:
    found = [row for row in rows if row.verdict == CONTAMINATED]
    if found:
        return Verdict(benchmark, CONTAMINATED, "; ".join(map(_said, found)), rows)
    decided = {row.kind for row in rows if row.verdict in _DECIDED}
    lacking = [kind for kind in dict.fromkeys(require) if kind not in decided]
    if lacking:
        return Verdict(benchmark, INCOMPLETE, f"required and not judged: {', '.join(lacking)}", rows)
    if not decided:
        return Verdict(benchmark, INCOMPLETE, "none of the evidence could be judged", rows)
    named = ", ".join(kind for kind in KINDS if kind in decided)
    return Verdict(benchmark, NO_EVIDENCE_FOUND, f"judged: {named}", rows)


def _said(row: Evidence) -> str:
    if row.p_adjusted is None:
        return f"{row.kind} ({row.test}): {row.detail}"
    return f"{row.kind} ({row.test}): adjusted p {row.p_adjusted:.3g}"
