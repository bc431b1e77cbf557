"""Where the level of a number changed: a scan over all dates, tested over all numbers of a night at once.

    F_k = (T - 2) D_k / (R - D_k)      D_k: weighted squares that two levels, before and from night k, explain;  R: all
    scan = max over k of -ln P(F(1, T - 2) > F_k), at least MIN_NIGHTS nights on either side
    p    = share of random orders of the nights whose largest scan over all numbers is as large   (max-T)
    a number that changed is cut at its best k, and both sides are scanned again (binary segmentation)

Nights are what is exchanged: standardised residuals change places, dates keep their errors. All numbers are put into
one order at a time, so numbers that move together are one finding by luck, not many, and no correction is needed on
top. What the p-values rest on: without a change, nights are exchangeable once scaled by their errors. A slope is no
step: where a line fits better than two levels, it is called a trend and is not cut. Nights that depend on the nights
before (autocorrelation) give false changes; weekly cycles are taken out before (`weekdays`).

Own code, because errors differ from night to night and are known, which packages for change points do not take; it is
a sum over at most a few hundred nights. Letters: `T` nights, `B` orders, `K` places to cut.
Sources: scan and its segments: Sen & Srivastava 1975, doi 10.1214/aos/1176342998, Vostrikova 1981; max-T: Westfall &
Young 1993; permutations: Antoch & Huskova 2001, doi 10.1016/S0167-7152(01)00064-9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from operators.nights.levels import Floats, between, is_rounding, weights_of

MIN_NIGHTS = 2  # on either side of a change
FEWEST = 6  # nights that are scanned at all
_ROUNDING = 1e-9  # of a surprise: orders that put the same nights on either side are as surprising
_NOTHING = 1e-12  # of all squares: what rounding leaves where levels explain everything
_CELLS = 1 << 22  # of orders times nights held at once

Key = TypeVar("Key")
Orders = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A number over nights: `places_T` on the common calendar, ascending, and its values and errors on some scale."""

    places_T: npt.NDArray[np.intp]
    values_T: Floats
    errors_T: Floats

    def __len__(self) -> int:
        return self.places_T.size

    def cut(self, start: int, stop: int) -> Series:
        """Some nights in a row."""
        return Series(self.places_T[start:stop], self.values_T[start:stop], self.errors_T[start:stop])


@dataclass(frozen=True)
class Change(Generic[Key]):
    """The level of a number changed between `split` - 1 and `split`, counted in its nights `start` .. `stop` - 1.

    `is_trend`: a line says it better. `p_value`: of this number alone, `p_adjusted`: over all numbers scanned with it.
    `least`: share of all squares that two levels had to explain to be found.
    """

    key: Key
    start: int
    split: int
    stop: int
    is_trend: bool
    p_value: float
    p_adjusted: float
    least: float = 0.0


def find_changes(
    series: Mapping[Key, Series], *, alpha: float, draws: int, n_places: int, seed: int = 0
) -> list[Change[Key]]:
    """Every change of level of every number, the clearest first within one depth.

    alpha: chance of any change found among all numbers where none changes. n_places: nights of the common calendar.
    draws: orders drawn; fewer than 1 / alpha find nothing.

    Raises:
        ValueError: numbers that are not finite, places that do not ascend or are not on the calendar.
    """
    for each in series.values():
        _check(each, n_places)
    rng = np.random.default_rng(seed)
    open_spans = {(key, 0, len(each)) for key, each in series.items()}
    found: list[Change[Key]] = []
    while open_spans:
        spans = sorted((s for s in open_spans if s[2] - s[1] >= FEWEST), key=lambda s: (str(s[0]), s[1]))
        orders = rng.random((draws, n_places))
        changes = _scan_all({s: series[s[0]].cut(s[1], s[2]) for s in spans}, orders, alpha)
        found += changes
        open_spans = {
            span for c in changes if not c.is_trend
            for span in ((c.key, c.start, c.split), (c.key, c.split, c.stop))
        }  # fmt: skip
    return found


def _check(each: Series, n_places: int) -> None:
    sizes = {each.places_T.size, each.values_T.size, each.errors_T.size}
    ascend = len(sizes) == 1 and bool((np.diff(each.places_T) > 0).all())
    if not ascend or (each.places_T.size and not 0 <= each.places_T[0] <= each.places_T[-1] < n_places):
        raise ValueError("nights: expected ascending places on the calendar, a value and an error each")
    if not (np.isfinite(each.values_T).all() and np.isfinite(each.errors_T).all() and (each.errors_T >= 0).all()):
        raise ValueError("nights: expected finite values, and errors of 0 or more")


def _scan_all(spans: Mapping[tuple[Key, int, int], Series], orders_BP: Orders, alpha: float) -> list[Change[Key]]:
    """One depth: every span scanned as it is and under the same orders; those that stand out, clearest first."""
    scans = {span: _Scan(each) for span, each in spans.items()}
    drawn = {span: scan.of_orders(orders_BP) for span, scan in scans.items()}
    if not scans:
        return []
    largest_B = np.max([*drawn.values()], axis=0)
    passed = int(alpha * (1 + len(orders_BP)) + 1e-9) - 1  # orders that may be as surprising as what is found
    least = float(np.sort(largest_B)[::-1][passed]) if 0 <= passed < len(orders_BP) else 0.0
    changes = []
    for span, scan in scans.items():
        at, surprise = scan.best()
        least_alike = surprise * (1 - _ROUNDING)
        p_value = (1 + int((drawn[span] >= least_alike).sum())) / (1 + len(orders_BP))
        adjusted = (1 + int((largest_B >= least_alike).sum())) / (1 + len(orders_BP))
        if adjusted <= alpha:
            key, start, stop = span
            share = share_explained(least, stop - start)
            change = Change(key, start, start + at, stop, scan.is_trend(at), p_value, adjusted, share)
            changes.append((surprise, change))
    return [change for _, change in sorted(changes, key=lambda pair: -pair[0])]


class _Scan:
    """The scan of one span of nights: weights from the scatter about one level, as if nothing had changed."""

    def __init__(self, each: Series) -> None:
        self.places_T = each.places_T
        self.weights_T = weights_of(each.values_T, each.errors_T, between(each.values_T, each.errors_T))
        mean = float((self.weights_T * each.values_T).sum() / self.weights_T.sum())
        # Less the mean, so that a large level costs no digits; of nights that differ by rounding nothing is left.
        self.values_T = (each.values_T - mean) * (not is_rounding(each.values_T))
        self.residuals_T = np.sqrt(self.weights_T) * self.values_T

    def best(self) -> tuple[int, float]:
        """The best number of nights before the change, and how surprising it is, in nats."""
        surprise_K = surprises(*explained(self.values_T, self.weights_T), self.values_T.size)
        at = int(surprise_K.argmax())
        return at + MIN_NIGHTS, float(surprise_K[at])

    def of_orders(self, orders_BP: Orders) -> Floats:
        """The largest surprise under each order, [B]."""
        size = self.values_T.size
        found = []
        for order_CT in self._permutations(orders_BP):
            explained_CK, squares_C = explained(self.residuals_T[order_CT] / np.sqrt(self.weights_T), self.weights_T)
            # F and its surprise rise with the share explained: the logarithm is taken once an order.
            found.append(surprises(explained_CK.max(axis=-1, keepdims=True), squares_C, size)[:, 0])
        return np.concatenate(found)

    def _permutations(self, orders_BP: Orders) -> Iterator[npt.NDArray[np.intp]]:
        step = max(1, _CELLS // self.values_T.size)
        for start in range(0, len(orders_BP), step):
            yield orders_BP[start : start + step, self.places_T].argsort(axis=1)

    def is_trend(self, at: int) -> bool:
        """Whether a line fits better than two levels, of which the place is one more thing to choose (BIC)."""
        size, place = self.values_T.size, self.places_T.astype(np.float64)
        explained_K, all_squares = explained(self.values_T, self.weights_T)
        steps = float(explained_K[at - MIN_NIGHTS])
        w = self.weights_T / self.weights_T.sum()
        x = place - (w * place).sum()
        slope = float((w * x * self.values_T).sum() / (w * x * x).sum())
        line = slope**2 * float((self.weights_T * x * x).sum())
        left_line, left_steps = (max(float(all_squares) - each, 1e-300) for each in (line, steps))
        return bool(size * np.log(left_line) <= size * np.log(left_steps) + np.log(size))


def explained(values: Floats, weights_T: Floats) -> tuple[Floats, Floats]:
    """What two levels explain, [..., K], for MIN_NIGHTS to T - MIN_NIGHTS nights before; and all squares, [...].

    `values` [..., T] in one or many orders; weights stay with the dates.
    """
    mean = (values * weights_T).sum(axis=-1, keepdims=True) / weights_T.sum()
    squares = (weights_T * values * (values - mean)).sum(axis=-1)
    return contrasts(values, weights_T) ** 2, np.maximum(squares, 0.0)


def contrasts(values: Floats, weights_T: Floats) -> Floats:
    """How far the levels before and from each place are apart, in standard errors of weights 1 / variance, [..., K]."""
    weighted = values * weights_T
    of_weights = weights_T.sum()
    inner = slice(MIN_NIGHTS - 1, values.shape[-1] - MIN_NIGHTS)
    before = np.cumsum(weights_T)[inner]
    apart = before * (weighted.sum(axis=-1, keepdims=True) / of_weights) - np.cumsum(weighted, axis=-1)[..., inner]
    return np.asarray(apart * np.sqrt(of_weights / (before * (of_weights - before))), dtype=np.float64)


def surprises(explained_K: Floats, squares: Floats, size: int) -> Floats:
    """-ln P(F(1, T - 2) > F), [..., K]. 0 where nothing varies; where two levels explain all but rounding, alike."""
    squares = np.asarray(squares)[..., None]
    rest = np.maximum(squares - explained_K, _NOTHING * squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = np.where(explained_K > 0, (size - 2) * explained_K / rest, 0.0)
        return np.asarray(-np.log(special.fdtrc(1, size - 2, f)), dtype=np.float64)


def share_explained(surprise: float, size: int) -> float:
    """The share of all squares that two levels of `size` nights explain where they are as surprising as that."""
    f = float(special.fdtri(1, size - 2, -np.expm1(-surprise)))
    return f / (f + size - 2) if np.isfinite(f) else 1.0
