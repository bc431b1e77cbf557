"""Near-verbatim spans: stretches of a document that the model would have written but for a stated share of misses.

A hit scores m, a miss -(1 - m), so that a stretch scores more than 0 exactly where fewer than m of its tokens are
misses. The spans are the maximal scoring stretches of Ruzzo & Tompa (1999): the one of the highest score, and the same
again on both sides of it, until nothing scores. There is one such set, whatever the ties, and its stretches

    are disjoint, begin and end with a hit, and miss less than the share m;
    score more than 0 up to each of their tokens, from either end: no end of one could be cut off as mostly missed;
    cannot be joined or grown into a stretch of which the same holds.

Taking the longest stretch within the share first would be simpler to say, and worse: a verbatim run of 100 tokens would
swallow what lies beside it, missed or not, until the share is used up. Here misses are bridged only where the hits
beyond them pay. Scores are whole numbers, so nothing depends on rounding.

    stops: positions that are no hit, sorted --> score up to each --> cut at every new low, which no span crosses
      --> parts that are long enough --> Ruzzo & Tompa over their runs of hits: O(stops) numbers in numpy, O(runs) steps

W. L. Ruzzo and M. Tompa, A linear time algorithm for finding all maximal scoring subsequences, ISMB 1999.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# A document's stops: 2 * position + 1 where a stop ends every span (no prediction, left out, the document's ends), else
# 2 * position. The first and the last are the ends: the position before the first token and the one behind the last.
STOPS = pa.schema([("doc_id", pa.int64()), ("stops", pa.list_(pa.int64()))])
FOUND = pa.schema(
    [("doc_id", pa.int64()), ("position", pa.int64()), ("n_tokens", pa.int64()), ("n_misses", pa.int64())]
)

Int64 = npt.NDArray[np.int64]


def near_verbatim(stops: pa.Table, misses: Fraction, least: int) -> pa.Table:
    """The near-verbatim spans of documents, columns of `FOUND`, in the order of the documents and their tokens.

    Args:
        stops: columns of `STOPS`, a row a document of at least one token.
        misses: m, the share of misses that a span stays below; 0: none, so that spans are the runs of hits.
        least: tokens of the shortest span that counts.

    Raises:
        ValueError: a share that is not in [0, 1), or `least` below 1.
    """
    if not 0 <= misses < 1 or least < 1:
        raise ValueError(f"misses is {misses} and least {least}: expected a share below 1, and at least one token")
    lists = stops["stops"].combine_chunks()
    stops_S: Int64 = lists.flatten().to_numpy()
    if not stops_S.size:
        return FOUND.empty_table()
    sizes_D = lists.value_lengths().to_numpy()
    runs = _Runs.of(stops_S, np.cumsum(sizes_D), misses)
    rows: list[tuple[int, int, int, int]] = []  # the stop before the span, then as in FOUND
    for start, stop in runs.parts(least):
        rows += [row for row in runs.maximal(start, stop) if row[2] >= least]
    found = np.array(rows, np.int64).reshape(-1, 4)
    ids = stops["doc_id"].to_numpy()[np.searchsorted(np.cumsum(sizes_D), found[:, 0], side="right")]
    return pa.table([ids, found[:, 1], found[:, 2], found[:, 3]], schema=FOUND)


class _Runs(NamedTuple):
    """The runs of hits that follow each of S stops, some of no token. `hit` and `miss`: what each scores and costs.

    `low_S`: the score of all tokens up to the stop, so that a stretch scores the difference of two. A hard stop costs
    more than all hits since the one before it could pay.
    """

    hit: int
    miss: int
    position_S: Int64
    size_S: Int64
    low_S: Int64

    @classmethod
    def of(cls, stops_S: Int64, ends_D: Int64, misses: Fraction) -> _Runs:
        """`ends_D`: the place behind the last stop of each document."""
        position_S = stops_S >> 1
        size_S = np.append(np.diff(position_S) - 1, 0)
        size_S[ends_D - 1] = 0
        hit, miss = misses.numerator, misses.denominator - misses.numerator
        if not misses:  # one costs more than a run of hits could pay
            hit, miss = 1, int(size_S.max()) + 1
        before_S = np.cumsum(size_S) - size_S  # hits before the stop, in all
        cost_S = np.full(len(stops_S), miss)
        hard = np.flatnonzero(stops_S & 1)
        cost_S[hard] = hit * np.diff(before_S[hard], prepend=0) + 1
        return cls(hit, miss, position_S, size_S, hit * before_S - np.cumsum(cost_S))

    def parts(self, least: int) -> Iterator[tuple[int, int]]:
        """First stop, and the one behind the last, of the parts that may hold a span of `least` tokens.

        Where the score is as low as never before, what comes before it adds nothing to a stretch, so none crosses.
        """
        cuts = np.flatnonzero(self.low_S <= np.minimum.accumulate(self.low_S))
        ends = np.append(cuts[1:], len(self.low_S))
        is_long = self.position_S[ends - 1] + self.size_S[ends - 1] - self.position_S[cuts] >= least
        yield from zip(cuts[is_long].tolist(), ends[is_long].tolist(), strict=True)

    def maximal(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """The maximal scoring stretches among the runs of these stops: the stop before each, its position, its tokens
        and its misses."""
        lows, positions = self.low_S[start:stop].tolist(), self.position_S[start:stop].tolist()
        candidates: list[_Candidate] = []
        for place, size in enumerate(self.size_S[start:stop].tolist()):
            if size:
                low, first = lows[place], positions[place] + 1
                _add(candidates, low, low + self.hit * size, first, first + size, place)
        for each in candidates:
            size = each.end - each.start
            missed = (self.hit * size - (each.high - each.low)) // (self.hit + self.miss)
            yield start + each.place, each.start, size, missed


class _Candidate(NamedTuple):
    """A stretch that may be maximal. `low`, `high`: scores up to its start and to its end. `place`: of the stop before
    it. `left`: the nearest candidate before it that starts from less, -1 for none."""

    low: int
    high: int
    start: int
    end: int
    place: int
    left: int


def _add(candidates: list[_Candidate], low: int, high: int, start: int, end: int, place: int) -> None:
    """Take one more run of hits, joined with candidates before it where that scores more than any of them alone."""
    while True:
        left = len(candidates) - 1
        while left >= 0 and candidates[left].low >= low:
            left = candidates[left].left  # those between start from no less than it does
        if left < 0 or candidates[left].high >= high:
            candidates.append(_Candidate(low, high, start, end, place, left))
            return
        low, start, place = candidates[left].low, candidates[left].start, candidates[left].place
        del candidates[left:]
