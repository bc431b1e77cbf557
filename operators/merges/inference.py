"""Infers what a tokenizer was trained on: the mixture under which its merges were the most frequent pairs.

    histories -> stretches -> [mixture -> worst constraints -> program -> mixture] until none is violated -> shares

The trainer merges the most frequent pair of its data at every step. If its data are a mixture of the candidate corpora,
the pair it chose must have the highest mixed count at every step: each merge is thousands of inequalities in the
shares. Samples differ from the trainer's data, so each step and each pair may break them at a price, its slack; the
mixture of the least total slack is the answer. Constraints are made where they are violated, until none is by more than
`tolerance` times what a middling merge has, or until `STEADY` rounds moved no share by more than `settled`. At 1e-6 and
0 the answer is that of all constraints. The defaults leave out constraints that only add up slack, and move the shares
of six corpora by 0.001 to 0.002: for 8,000 merges 9,000 rows and two seconds instead of 47,000 and minutes.

What the numbers are: shares of the pairs that the trainer counted, and, by each corpus' bytes per pair, shares of its
bytes of text. They speak of text like the candidates, and of the trainer's data after whatever it left out or repeated.
A source that no candidate resembles is spread over those that come nearest.

Source: Hayase et al. 2024, arXiv 2407.16607 (there with 100 constraints a round, and Gurobi).
Letters: `L` corpora, `S` steps, `R` constraints held.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from operators.merges.bpe import Integers
from operators.merges.history import PairHistory, Queries
from operators.merges.program import Program, Rows, Solution
from operators.merges.stretches import Floats, Stretches, Violated, lay_out, violated

TOLERANCE = 1.0
SETTLED = 5e-4
STEADY = 3
ROUNDS = 500
A_STEP = 20
A_ROUND = 5000
TELLING = 10_000


class InferenceError(ValueError):
    """Nothing can be inferred from these candidates; says why."""


@dataclass(frozen=True)
class Round:
    """One round: the slack of the rows then held (share of pairs), the worst violation left, and how many rows."""

    objective: float
    violation: float
    constraints: int


@dataclass(frozen=True)
class Inference:
    """The mixture, and how it was found.

    Attributes:
        names: [L] candidates. empty: those without a pair, whose share is 0.
        pair_share, byte_share: [L] of the trainer's pairs and bytes.
        identified: [L, 2] least and most byte share among mixtures of nearly the least slack (`identification.py`).
        objective: total slack, share of pairs. merged: [L] share of a corpus' pairs that the merges took together.
        rounds: from the first solve. steps: of the merge list that were used. seconds: taken.
        merges_unseen: steps whose pair is in no candidate when it was merged: they only cost slack.
        rows: the constraints held at the end. code: [R] the pair of each. unit: share of pairs of a middling merge.
        solution: of the last solve.
    """

    names: tuple[str, ...]
    empty: tuple[str, ...]
    pair_share: Floats
    byte_share: Floats
    identified: Floats
    objective: float
    rounds: tuple[Round, ...]
    steps: int
    merges_unseen: int
    seconds: float
    pairs_per_byte: Floats
    rows: Rows
    code: Integers
    unit: float
    solution: Solution
    queries: Queries

    @property
    def constraints(self) -> int:
        return len(self.rows)


def infer_mixture(
    histories: Mapping[str, PairHistory], *, tolerance: float = TOLERANCE, settled: float = SETTLED
) -> Inference:
    """The mixture of the least slack.

    Args:
        histories: of each candidate, all followed over the same merges.
        tolerance: violation at which a constraint counts as held, of the share of pairs of a middling merge.
        settled: share that may move in the last rounds; 0 to go on until every constraint holds.

    Raises:
        InferenceError: no merges, no candidate, one that was followed over other merges, or none that holds a pair.
        ProgramError: the solver gave up.
    """
    from operators.merges.identification import near_optimal

    began = time.monotonic()
    names, held = tuple(histories), list(histories.values())
    _check(held)
    search = Search(lay_out(held), np.flatnonzero([not history.n_pairs for history in held]), tolerance, settled)
    solution, rounds = search.minimise()
    rows = search.program.rows
    per_byte = np.array([history.n_pairs / max(1, history.n_bytes) for history in held])
    identified = near_optimal(search.of_rows(telling_rows(solution.dual, TELLING)), per_byte)
    chosen = held[0]
    code = search.stretches.code[rows.pair]
    return Inference(
        names=names,
        empty=tuple(name for name, history in histories.items() if not history.n_pairs),
        pair_share=solution.mixture,
        byte_share=byte_shares(solution.mixture, per_byte),
        identified=identified,
        objective=solution.objective,
        rounds=tuple(rounds),
        steps=chosen.n_steps,
        merges_unseen=int((search.stretches.chosen.sum(axis=0) == 0).sum()),
        seconds=time.monotonic() - began,
        pairs_per_byte=per_byte,
        rows=rows,
        code=code,
        unit=search.unit,
        solution=solution,
        queries=Queries(np.concatenate([chosen.chosen_code, code]), np.concatenate([chosen.chosen_step, rows.step])),
    )


def _check(histories: list[PairHistory]) -> None:
    if not histories:
        raise InferenceError("no candidate corpus: name at least one")
    if not histories[0].n_steps:
        raise InferenceError("the tokenizer has no merges: nothing speaks for any mixture")
    if any(not np.array_equal(history.chosen_code, histories[0].chosen_code) for history in histories):
        raise InferenceError("the corpora were followed over different merges")
    if not any(history.n_pairs for history in histories):
        raise InferenceError(
            "no candidate corpus holds a pair of the tokenizer's symbols: they are empty, or of other text"
        )


def byte_shares(pair_share: Floats, pairs_per_byte: Floats) -> Floats:
    """Shares of bytes from shares of pairs (last axis `L`); corpora without pairs have none."""
    with np.errstate(divide="ignore"):
        size = np.where(pairs_per_byte > 0, pair_share / np.where(pairs_per_byte > 0, pairs_per_byte, 1), 0)
    return np.asarray(size / size.sum(axis=-1, keepdims=True), np.float64)


def telling_rows(dual: Floats, most: int) -> Integers:
    """Which constraints are enough to solve near the optimum again, ascending: `most`, or more where more are needed.

    Those with a price (`dual`): without the others the optimum is the same. Then the first, that were violated most.
    """
    priced = dual > 0
    first = np.argsort(~priced, kind="stable")
    return np.sort(first[: max(most, int(priced.sum()))])


class Search:
    """Grows a program until no constraint is violated, for whatever it is asked to find."""

    def __init__(self, stretches: Stretches, empty: Integers, tolerance: float, settled: float) -> None:
        n_corpora, n_steps = stretches.chosen.shape
        self.stretches = stretches
        mean = stretches.chosen.mean(axis=0)
        self.unit = float(np.median(mean[mean > 0])) if (mean > 0).any() else 1.0
        self.above = tolerance * self.unit
        self.settled = settled
        self.empty = empty
        self.tolerance = tolerance
        self.program = Program(n_corpora, n_steps, len(stretches.code), self.unit, empty)
        self.start = np.ones(n_corpora)
        self.start[empty] = 0
        self.start /= self.start.sum()

    def minimise(self) -> tuple[Solution, list[Round]]:
        """The least slack under all constraints, and the rounds it took."""
        n_steps, n_pairs = self.stretches.chosen.shape[1], len(self.stretches.code)
        found = self.violated(self.start, np.zeros(n_steps), np.zeros(n_pairs))
        rounds: list[Round] = []
        mixtures: list[Floats] = []
        for _ in range(ROUNDS):
            self.hold(found)
            solution = self.program.minimise_slack()
            found = self.violated(solution.mixture, solution.slack_step, solution.slack_pair)
            rounds.append(Round(solution.objective, found.worst, len(self.program.rows)))
            mixtures = [*mixtures, solution.mixture][-STEADY - 1 :]
            if not len(found.step) or (len(mixtures) > STEADY and np.ptp(mixtures, axis=0).max() < self.settled):
                break
        return solution, rounds

    def violated(self, mixture: Floats, slack_step: Floats, slack_pair: Floats, times: float = 1.0) -> Violated:
        above = self.above * times
        return violated(self.stretches, mixture, slack_step, slack_pair, above, A_STEP, A_ROUND)

    def of_rows(self, chosen: Integers) -> Search:
        """The same with some of the constraints only."""
        other = Search(self.stretches, self.empty, self.tolerance, self.settled)
        rows = self.program.rows
        other.program.add(rows.step[chosen], rows.pair[chosen], rows.lead[:, chosen])
        return other

    def hold(self, found: Violated) -> None:
        """Add the constraints to the program."""
        if not len(found.step):
            return
        shares = np.stack([share[found.stretch] for share in self.stretches.share])
        self.program.add(found.step, found.pair, self.stretches.chosen[:, found.step] - shares)
