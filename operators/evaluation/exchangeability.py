"""Exchangeability: does the model give a benchmark's own order a higher probability than other orders of its items?

    logprob [S, M + 1]: shards of consecutive items, each in its own order (column 0) and in M orders drawn at random
      --> S_j = sum over shards of column j        --> p_permutation = (1 + #{j : S_j >= S_0}) / (M + 1)
      --> moments of each shard's drawn orders     --> p_tail = P(X >= S_0), X of Pearson's type III
      --> d_s = mean over j of (canonical - drawn) --> t = mean(d) / std(d) * sqrt(S), one-sided, S - 1 degrees

A model that has not seen the file has no reason to prefer its order, if the items themselves are in no order: then
column 0 is one more draw.

    p_permutation   rests on nothing else and is exact, ties and repeated orders included; never below 1 / (M + 1)
    p_tail          goes below: mean, variance and skewness of the sum over shards, from the drawn orders of each; with
                    less than a hundred of them its far tail is a guess. None where more drawn orders reach S_0 than
                    the curve allows for, as happens with a few shards of very unequal orders
    p_t             the published test: takes the shards' differences as normal and alike. Where single orders are much
                    worse than most it is too small, where they are much better too large

Simulated once, 50 shards of ten items whose pairs gain or lose amounts of a long-tailed distribution (log-normal, sigma
1, scales of shards that differ by sigma 0.5; 4000 benchmarks, for t 2000), p <= 0.05, 0.01 and 0.001 came out in

    gains    p_tail  5.4, 1.3, 0.08 %     p_t  2.8, 0.2, 0 %
    losses   p_tail  4.8, 1.0, 0.15 %     p_t  7.9, 2.6, 0.3 %

`assay bench calibration` has the worlds. The authors' code divides by the population's deviation (ddof 0), which makes
t larger by sqrt(S / (S - 1)): kept beside ours as `t_official`. It concatenates the ids of items that were tokenized
one by one, with no separator and any BOS repeated. Here the texts are joined and tokenized as one; what is at the
borders is the same in every order, drawn or not, so it moves the power of the test and not its level.

Sources: Oren et al. 2024, Proving Test Set Contamination in Black Box Language Models, arXiv 2310.17623; p-values of
drawn permutations: Phipson and Smyth 2010, doi 10.2202/1544-6115.1585; a distribution of permutations by
three of its moments: Winkler et al. 2016, Faster permutation inference in brain imaging, NeuroImage 141 (PMC5035139).
Letters: `S` shards, `M` drawn orders, `P` = M + 1 orders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

from operators.evaluation.classes import CONFIDENCE, Floats

if TYPE_CHECKING:
    import duckdb

_SHOWN = 3
_MISFIT = 0.001  # chance of so many drawn orders at or above S_0, below which the fitted curve is none of theirs


class OrdersError(ValueError):
    """A run does not hold what the test needs; the message says what, and what to do."""


@dataclass(frozen=True)
class OrderTotals:
    """What a run of orders holds. `logprob_SP`: nats of the pseudo-documents; `tokens_SP`: their scored tokens;
    `items_S`: items of each shard."""

    logprob_SP: Floats
    tokens_SP: npt.NDArray[np.int64]
    items_S: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Exchangeability:
    """`gain`: nats per token by which the file's order is better predicted than drawn ones, with its t interval of 95 %
    over shards, `low` to `high`; `total_gain`: nats of the whole benchmark. `n_tokens`: scored, in the file's order.

    `t`, `t_official`, their p-values and the interval are None where all shards differ by the same amount: a deviation
    of zero says nothing. `p_tail` is None where the drawn orders are all alike, fewer than three, or not as the fitted
    curve has them. `n_at_least`: drawn orders whose sum is at least that of the file's.
    """

    p_permutation: float
    p_tail: float | None
    p_t: float | None
    p_t_official: float | None
    t: float | None
    t_official: float | None
    df: int
    gain: float
    low: float | None
    high: float | None
    total_gain: float
    n_at_least: int
    n_shards: int
    n_permutations: int
    n_tokens: int

    @property
    def resolution(self) -> float:
        """The smallest value that `p_permutation` can have."""
        return 1 / (self.n_permutations + 1)


def exchangeability(logprob_SP: npt.ArrayLike, tokens_SP: npt.ArrayLike) -> Exchangeability:
    """Test the order in column 0 against those in the others.

    Args:
        logprob_SP: [S, M + 1] summed log-probabilities in nats, finite.
        tokens_SP: [S, M + 1] scored tokens.

    Raises:
        ValueError: shapes disagree, fewer than two shards, no drawn order, no token, or a number that is not finite.
    """
    logprob = np.asarray(logprob_SP, dtype=np.float64)
    tokens = np.asarray(tokens_SP, dtype=np.int64)
    if logprob.ndim != 2 or logprob.shape != tokens.shape or logprob.shape[0] < 2 or logprob.shape[1] < 2:
        raise ValueError(f"log-probs {logprob.shape}, tokens {tokens.shape}: expected [2 or more, 2 or more] of both")
    if not np.isfinite(logprob).all():
        raise ValueError("a log-probability is not finite")
    n_shards, n_permutations = logprob.shape[0], logprob.shape[1] - 1
    n_tokens = int(tokens[:, 0].sum())
    if n_tokens < 1:
        raise ValueError("no token of the file's own order is scored")
    # Differences first: equal sums must give a difference of exactly zero, not what rounding a mean leaves.
    d_S = (logprob[:, :1] - logprob[:, 1:]).mean(axis=1)
    sums_P = logprob.sum(axis=0)
    n_at_least = int((sums_P[1:] >= sums_P[0]).sum())
    tested = _t_test(d_S)
    low, high = tested.interval
    scale = n_shards / n_tokens
    return Exchangeability(
        p_permutation=(1 + n_at_least) / (n_permutations + 1),
        p_tail=_tail(logprob, n_at_least),
        p_t=tested.p_value(tested.t),
        p_t_official=tested.p_value(tested.t_official),
        t=tested.t,
        t_official=tested.t_official,
        df=n_shards - 1,
        gain=float(d_S.mean()) * scale,
        low=None if low is None else low * scale,
        high=None if high is None else high * scale,
        total_gain=float(d_S.sum()),
        n_at_least=n_at_least,
        n_shards=n_shards,
        n_permutations=n_permutations,
        n_tokens=n_tokens,
    )


@dataclass(frozen=True)
class _Tested:
    """`t` is None where the deviation is zero."""

    mean: float
    error: float
    df: int
    t: float | None
    t_official: float | None

    def p_value(self, t: float | None) -> float | None:
        return None if t is None else float(stats.t.sf(t, self.df))

    @property
    def interval(self) -> tuple[float | None, float | None]:
        if self.t is None:
            return None, None
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.df)) * self.error
        return self.mean - half, self.mean + half


def _t_test(d_S: Floats) -> _Tested:
    mean, df = float(d_S.mean()), d_S.size - 1
    if (d_S == d_S[0]).all():  # not by the deviation, of which rounding may leave something
        return _Tested(mean, 0.0, df, None, None)
    error = float(d_S.std(ddof=1)) / math.sqrt(d_S.size)
    return _Tested(mean, error, df, mean / error, mean / error * math.sqrt(d_S.size / df))


def _tail(logprob_SP: Floats, n_at_least: int) -> float | None:
    """The upper tail of the sum's permutation distribution, by three moments that add up over independent shards."""
    drawn_SM = logprob_SP[:, 1:]
    m = drawn_SM.shape[1]
    if m < 3 or not (drawn_SM != drawn_SM[:, :1]).any():
        return None
    means_S = drawn_SM.mean(axis=1)
    centred_SM = drawn_SM - means_S[:, None]
    second = float((centred_SM**2).sum()) / (m - 1)
    third = float((centred_SM**3).sum()) * m / ((m - 1) * (m - 2))
    # The means are estimated from the same orders: one draw less a mean of M has these moments.
    deviation = math.sqrt(second * (1 + 1 / m))
    skewness = third * (1 - 1 / m**2) / deviation**3
    z = float((logprob_SP[:, 0] - means_S).sum()) / deviation
    fitted = float(stats.pearson3.sf(z, skewness))
    if stats.binom.sf(n_at_least - 1, m, fitted) < _MISFIT:
        return None
    # Where losses have the longer tail the curve ends, and says 0 beyond: there the normal's tail is taken.
    tail: float = max(fitted, min(1 / (m + 1), float(stats.norm.sf(z))))
    return tail


# Reading

_TOTALS = """
    select
      try_cast(domain as bigint) as shard,
      try_cast(attributes['permutation'] as bigint) as permutation,
      try_cast(attributes['n_items'] as bigint) as n_items,
      logprob_sum,
      n_scored
    from documents
    where run_id = $run_id
    order by shard, permutation
"""


def read_orders(connection: duckdb.DuckDBPyConnection, run_id: str) -> OrderTotals:
    """The sums of a run with the transform `orders`, through `operators.evaluation.run_scores.reading`.

    Raises:
        OrdersError: the run holds other documents than orders of a benchmark, or some of them are missing.
    """
    rows = connection.sql(_TOTALS, params={"run_id": run_id}).to_arrow_table()
    if not rows.num_rows or any(rows[name].null_count for name in ("shard", "permutation", "n_items")):
        raise OrdersError(
            f"run {run_id} holds no orders of a benchmark: `assay exchangeability` makes such a run from a benchmark's"
        )
    shard, permutation, items = (rows[name].to_numpy() for name in ("shard", "permutation", "n_items"))
    n_shards, n_orders = int(shard.max()) + 1, int(permutation.max()) + 1
    there = np.zeros((n_shards, n_orders), dtype=bool)
    there[shard, permutation] = rows["logprob_sum"].is_valid().to_numpy()
    if not there.all():
        lost = [f"{s}/{j}" for s, j in np.argwhere(~there)[:_SHOWN]]
        raise OrdersError(
            f"run {run_id} lacks {(~there).sum():,} of {there.size:,} orders ({', '.join(lost)}, ...): `rejects` says "
            "why, or it is not finished; the test needs all of them"
        )
    shape = n_shards, n_orders
    return OrderTotals(
        rows["logprob_sum"].to_numpy().reshape(shape),
        rows["n_scored"].to_numpy().reshape(shape).astype(np.int64),
        items.reshape(shape)[:, 0].astype(np.int64),
    )
