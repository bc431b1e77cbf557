"""The rows of one pair of corpora: every statistic with its interval, what relabelling gives, and its p-value."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.compare.measure import OF_TOKENIZER, PIECES, Measured
from jobs.compare.request import CompareOptions
from operators.comparison import resampling
from operators.comparison.depth import deeper, depths, rank_sum
from operators.comparison.divergences import DIVERGENCES, statistic
from operators.comparison.profiles import largest_gap
from operators.comparison.resampling import Ends, Statistic, Tail, jackknife, only, permuted, split
from operators.evaluation.classes import Floats

PERMUTATION, RANK_SUM = "permutation", "rank_sum"
STILL = 1e-9  # width of an interval that only rounding gave one
STATES = "states"
NO_TEST = "its test is that of js, of which it is the root"
NOT_DECIDING = "takes depths for independent, which they are not: the permutation test of depth decides"
NO_GAP_INTERVAL = "no interval: neither the jackknife nor the bootstrap has a right one for a largest gap"
TOO_FEW = "no interval: a corpus has fewer than four documents"
FIXED = "no interval: leaving out documents does not move it, and does not say how sure it is"
EMPTY = "not defined: a corpus has none of these n-grams"
UNDEFINED = "not defined: a corpus has no document with it"
WORTH_SAYING = (TOO_FEW, FIXED, EMPTY, UNDEFINED)  # of the notes of rows

Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two corpora by their numbers, and the documents and tests that go for both."""

    i: int
    j: int
    measured: Measured
    options: CompareOptions
    same_tokenizer: bool

    @property
    def names(self) -> tuple[str, str]:
        return self.measured.corpora[self.i].name, self.measured.corpora[self.j].name

    @property
    def places(self) -> Any:
        return np.concatenate([self.measured.places[self.i], self.measured.places[self.j]])

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.measured.corpora[self.i]), len(self.measured.corpora[self.j])

    def rng(self, what: str) -> np.random.Generator:
        """The same numbers for the same pair, whatever else is compared; one split serves all statistics."""
        return np.random.default_rng([self.options.seed, *(zlib.crc32(name.encode()) for name in (*self.names, what))])


def pair_rows(pair: Pair) -> list[Row]:
    """Rows of `comparisons` of this pair, but for the comparison's name and the adjusted p-values."""
    return [*_divergences(pair), *_depth(pair), *_gaps(pair), *_pieces(pair)]


def _divergences(pair: Pair) -> Iterator[Row]:
    names = [*pair.options.names, *(f"-{name}" for name in pair.options.names if DIVERGENCES[name].is_directed)]
    for (unit, n), grams in pair.measured.grams.items():
        if unit == "tokens" and not pair.same_tokenizer:
            continue
        test = statistic(grams.of(pair.places), names)
        tails = [DIVERGENCES[name.removeprefix("-")].tail for name in names]
        rows = _tested(pair, test, tails, EMPTY)
        for name, row in zip(names, rows, strict=True):
            row |= {"statistic": name.removeprefix("-"), "unit": unit, "n": n}
            limit = DIVERGENCES[row["statistic"]].maximum
            row |= {"value_low": _at_least(row["value_low"], 0.0), "value_high": _at_most(row["value_high"], limit)}
            if name == "js_distance":
                row |= {"p_value": None, "test": None, "n_permutations": 0, "note": row["note"] or NO_TEST}
            yield _turned(row) if name.startswith("-") else row


def _depth(pair: Pair) -> Iterator[Row]:
    if pair.measured.unit_ND is None:
        return
    unit_ND = pair.measured.unit_ND[pair.places].astype(np.float64)
    there = np.flatnonzero(np.isfinite(unit_ND).all(axis=1))
    n_a = int((there < pair.sizes[0]).sum())
    n_b = there.size - n_a
    if n_a < 2 or n_b < 2:
        return
    unit_ND = unit_ND[there]
    for reference_is_a in (True, False):
        test = only(deeper(unit_ND, reference_is_a=reference_is_a), there)
        (row,) = _tested(pair, test, [Tail.both], UNDEFINED)
        row |= {"statistic": "depth", "unit": STATES, "n": 0, "n_a": n_a, "n_b": n_b}
        row |= {"value_low": _at_least(row["value_low"], 0.0), "value_high": _at_most(row["value_high"], 1.0)}
        depth = depths(unit_ND, split(n_a, n_b)[0 if reference_is_a else 1])[:, 0]
        of_a, of_b = depth[:n_a], depth[n_a:]
        found = rank_sum(of_a, of_b) if reference_is_a else rank_sum(of_b, of_a)
        both = {**row, "statistic": "depth_rank_sum", "value": _number(found.z), "value_low": None, "value_high": None,
                "null_mean": None, "p_value": _number(found.p_value), "test": RANK_SUM, "n_permutations": 0,
                "note": NOT_DECIDING}  # fmt: skip
        for each in (row, both):
            yield each if reference_is_a else _turned(each)


def _gaps(pair: Pair) -> Iterator[Row]:
    for name, values in pair.measured.quantities.items():
        if pair.same_tokenizer or name not in OF_TOKENIZER:
            (row,) = _tested(pair, largest_gap(values[pair.places]), [Tail.high], UNDEFINED, has_interval=False)
            yield row | {"statistic": "ks", "unit": name, "n": 0, "note": row["note"] or NO_GAP_INTERVAL}


def _pieces(pair: Pair) -> Iterator[Row]:
    of_a, of_b = pair.measured.pieces[pair.i], pair.measured.pieces[pair.j]
    if min(of_a.size, of_b.size) < 2:
        return
    test = largest_gap(np.concatenate([of_a, of_b]))
    (row,) = _tested(pair, test, [Tail.high], UNDEFINED, has_interval=False, sizes=(of_a.size, of_b.size))
    yield row | {"statistic": "ks", "unit": PIECES, "n": 0, "note": f"n_a and n_b are pieces; {NO_GAP_INTERVAL}"}


def _tested(
    pair: Pair,
    test: Statistic,
    tails: Sequence[Tail],
    if_undefined: str,
    *,
    has_interval: bool = True,
    sizes: tuple[int, int] | None = None,
) -> list[Row]:
    """A row for each value of a statistic."""
    n_a, n_b = sizes or pair.sizes
    options = pair.options
    observed_S: Floats = test(*split(n_a, n_b))[:, 0]
    drawn_SR = permuted(test, n_a, n_b, permutations=options.permutations, rng=pair.rng("relabelled"))
    ends = [Ends(np.nan, np.nan)] * observed_S.size
    if has_interval:
        ends = jackknife(test, n_a, n_b, observed_S, confidence=options.confidence, rng=pair.rng("left out"))
    a, b = pair.names
    rows = []
    for value, drawn_R, tail, each in zip(observed_S, drawn_SR, tails, ends, strict=True):
        null = resampling.null(float(value), drawn_R, tail)
        has_ends = math.isfinite(each.low) and math.isfinite(each.high) and each.high - each.low > STILL
        rows.append({
            "a": a, "b": b, "value": _number(value), "value_low": each.low if has_ends else None,
            "value_high": each.high if has_ends else None, "confidence": options.confidence if has_ends else None,
            "null_mean": _number(null.mean), "p_value": _number(null.p_value), "test": PERMUTATION,
            "n_permutations": options.permutations, "n_a": n_a, "n_b": n_b,
            "note": _note(value, if_undefined, has_ends or not has_interval, min(n_a, n_b)),
        })  # fmt: skip
    return rows


def _note(value: float, if_undefined: str, has_ends: bool, least: int) -> str | None:
    if math.isnan(value):
        return if_undefined
    return None if has_ends else TOO_FEW if least < 4 else FIXED


def _turned(row: Row) -> Row:
    return row | {"a": row["b"], "b": row["a"], "n_a": row["n_b"], "n_b": row["n_a"]}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _at_least(value: float | None, limit: float) -> float | None:
    return None if value is None else max(value, limit)


def _at_most(value: float | None, limit: float | None) -> float | None:
    return value if value is None or limit is None else min(value, limit)
