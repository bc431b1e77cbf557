"""Loss gap as evidence: how much the model prefers the items' own wording to changed copies of them.

    gap of an item = ln p(item) / bytes - mean over its copies of ln p(copy) / bytes      nats per byte, whole texts

Any natural text is preferred to a noisy copy, so the mean gap alone says nothing and has no p-value. It is compared
with the mean gap of a clean set under the same change, one-sided, with Welch's interval of the difference. The p-value
is that of drawing which of all texts are the items: gaps are skewed, and where one set is small and the other large
Welch's t takes sets drawn alike for different ones too often (of 10 and 1,000 gaps with a long lower tail in 15 %, at a
level of 5 %). From `LARGE` texts in the smaller set on it is Welch's, which is then as good.

Per byte, as changes of characters cut the text into more tokens and means over those would be in different units.

Sources: Mattern et al. 2023, arXiv 2305.18462 (neighbours); calibration on texts drawn alike: Maini et al. 2024, arXiv
2406.06443.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import numpy.typing as npt
from scipy import stats

from operators.contamination.evidence import LOSS_GAP, Evidence
from operators.evaluation.classes import CONFIDENCE, Floats, Interval

MIN_ITEMS = 2  # of a set: the fewest that have a spread
LARGE = 1_000  # of the smaller set
DRAWS = 9_999
SHUFFLED = 1_000  # values: of more, choosing those that are drawn is faster than shuffling all
BLOCK = 1 << 20  # values shuffled at once
ROUNDING = 1e-12  # of the values: a smaller error of the mean is what float64 leaves of none
UNIT = "nats per byte"

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Gaps:
    """The defined gaps [N] of items, by ascending id; `n_without`: items that have none."""

    ids: Ids
    values: Floats
    n_without: int = 0

    def among(self, ids: Ids) -> Gaps:
        """Those of a set of items; `n_without` counts the rest of the set."""
        chosen = np.isin(self.ids, ids)
        return Gaps(self.ids[chosen], self.values[chosen], int(ids.size - chosen.sum()))


def read_gaps(connection: duckdb.DuckDBPyConnection, run_id: str, copies: Sequence[str]) -> Gaps:
    """The gaps of a run's documents to runs of changed copies; without a copy or a prediction one has none."""
    rows = connection.sql(
        """
        with log_prob as (
          select run_id, doc_id, sum(logprob) as total
          from tokens
          where run_id = $run_id or list_contains($copies::varchar[], run_id)
          group by run_id, doc_id
        ),
        per_byte as (
          select p.run_id, p.doc_id, p.total / nullif(d.n_bytes, 0) as value
          from log_prob p
          join documents d on d.run_id = p.run_id and d.doc_id = p.doc_id
        ),
        copy as (select doc_id, avg(value) as value from per_byte where run_id <> $run_id group by doc_id)
        select o.doc_id, o.value - c.value as gap
        from per_byte o
        join copy c on c.doc_id = o.doc_id
        where o.run_id = $run_id and isfinite(o.value - c.value)
        order by o.doc_id
        """,
        params={"run_id": run_id, "copies": list(copies)},
    ).to_arrow_table()
    return Gaps(rows["doc_id"].to_numpy(), rows["gap"].to_numpy())


def loss_gap_evidence(
    benchmark: str,
    test: str,
    gaps: Gaps,
    base: Gaps | None = None,
    *,
    doubt: str = "",
    why_alone: str = "",
    draws: int = DRAWS,
) -> Evidence:
    """The mean gap; beside a clean set (`base`), how much larger it is than there.

    `test` names the change; `doubt`: why the sets cannot be compared, though both are there; `why_alone`: why there is
    no base; `draws`: of the permutation test.
    """
    n = int(gaps.values.size)
    row = Evidence(benchmark, LOSS_GAP, test, n)
    if n < MIN_ITEMS:
        return replace(row, doubt=f"{n} items have a gap: too few", detail=f"{_counted(gaps)} have a gap")
    mean = float(gaps.values.mean())
    said = f"mean gap {mean:.4g} {UNIT} over {_counted(gaps)}"
    if base is None or base.values.size < MIN_ITEMS:
        why = (why_alone or "no clean set to compare with") if base is None else "too few of the clean set have a gap"
        return replace(
            row, estimate=mean, unit=UNIT, interval=_mean_interval(gaps.values), method="Student's t",
            detail=f"{said}; {why}",
        )  # fmt: skip
    p_value, interval = _welch(gaps.values, base.values)
    is_drawn = p_value is not None and min(n, base.values.size) < LARGE
    if is_drawn:
        p_value = drawn_p_value(gaps.values, base.values, draws=draws)
    return replace(
        row,
        estimate=mean - float(base.values.mean()),
        unit=f"{UNIT} more than in the clean set",
        interval=interval,
        method="permutation test, one-sided; interval Welch's t" if is_drawn else "Welch's t, one-sided",
        p_value=p_value,
        resolution=1 / (draws + 1) if is_drawn else None,
        doubt=doubt if p_value is not None else "the gaps do not vary, so that they cannot be compared",
        detail=f"{said}, {float(base.values.mean()):.4g} over {_counted(base)} of the clean set",
    )


def _counted(gaps: Gaps) -> str:
    without = f" ({gaps.n_without:,} without a copy or a finite gap)" if gaps.n_without else ""
    return f"{gaps.values.size:,} items{without}"


def _mean_interval(values: Floats) -> Interval:
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, values.size - 1)) * float(stats.sem(values))
    mean = float(values.mean())
    return Interval(mean - half, mean + half)


def drawn_p_value(first: Floats, second: Floats, *, draws: int = DRAWS, seed: int = 0) -> float:
    """P-value of "the first are drawn as the second are", against a larger mean: (1 + draws with one) / (1 + draws).

    It holds its level for any distribution (Phipson & Smyth 2010, doi 10.2202/1544-6115.1585). What is drawn is which
    values make the smaller set.
    """
    every = np.concatenate([first, second])
    is_first = first.size <= second.size
    size, sign = (first.size, 1.0) if is_first else (second.size, -1.0)
    seen = sign * float((first if is_first else second).sum())
    slack = ROUNDING * float(np.abs(every).sum())  # sums of the same values in another order are equal
    drawn = _drawn_sums(every, size, draws, np.random.default_rng(seed))
    return (1 + sum(int((sign * sums >= seen - slack).sum()) for sums in drawn)) / (draws + 1)


def _drawn_sums(values: Floats, size: int, draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Sums of `size` of the values, so many draws, in blocks."""
    if values.size > SHUFFLED:
        yield np.array(
            [values[rng.choice(values.size, size, replace=False, shuffle=False)].sum() for _ in range(draws)]
        )
        return
    rows = max(1, BLOCK // values.size)
    for start in range(0, draws, rows):
        block = np.tile(values, (min(rows, draws - start), 1))
        yield rng.permuted(block, axis=1, out=block)[:, :size].sum(axis=1)


def _welch(first: Floats, second: Floats) -> tuple[float | None, Interval | None]:
    """P-value of "the first are no larger", and the interval of the difference; none where neither varies."""
    difference = float(first.mean() - second.mean())
    shares = [float(values.var(ddof=1)) / values.size for values in (first, second)]
    error = math.sqrt(sum(shares))
    if error <= ROUNDING * max(float(np.abs(first).max()), float(np.abs(second).max())):
        return None, None
    df = error**4 / sum(share**2 / (values.size - 1) for share, values in zip(shares, (first, second), strict=True))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error
    return float(stats.t.sf(difference / error, df)), Interval(difference - half, difference + half)
