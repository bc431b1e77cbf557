"""The linear program over mixtures, grown row by row and solved by HiGHS from where it stood.

    minimise    sum_i v_i + sum_c u_c
    subject to  sum_l a_l (c_l(i, m_i) - c_l(i, c)) / D_l + v_i + u_c >= 0     for the rows held
                sum_l a_l = 1,  a, u, v >= 0

Slacks `v` (of steps) and `u` (of pairs) become columns with their first row. Counts are measured in `unit`, the share
of pairs that a middling merge has, so that coefficients are near 1 and the solver's tolerance (1e-7) is far below what
counts: all that goes in and comes out is in shares of pairs.

Letters: `L` corpora, `R` rows.
Source: Hayase et al. 2024, arXiv 2407.16607; Huangfu & Hall 2018, doi 10.1007/s12532-017-0130-5 (HiGHS).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import highspy
import numpy as np

from operators.merges.bpe import Integers
from operators.merges.stretches import Floats


class ProgramError(RuntimeError):
    """The solver found no optimum; says what it reports."""


@dataclass
class Rows:
    """The constraints held: [R] step and pair of each, and [L, R] share of the merge less that of the pair."""

    lead: Floats
    step: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    pair: Integers = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.step)

    def append(self, step: Integers, pair: Integers, lead: Floats) -> None:
        self.step, self.pair = np.append(self.step, step), np.append(self.pair, pair)
        self.lead = np.concatenate([self.lead, lead], axis=1)


@dataclass(frozen=True)
class Solution:
    """`mixture`: [L] shares of pairs. `slack_step`, `slack_pair`: by step and by pair. `objective`: their sum.
    `dual`: [R] what a unit of lead in a row would save."""

    mixture: Floats
    slack_step: Floats
    slack_pair: Floats
    objective: float
    dual: Floats


class Program:
    """Grows by rows; every solve starts from the basis of the one before.

    Args:
        n_corpora, n_steps, n_pairs: how many there are of each.
        unit: share of pairs that is 1 inside.
        fixed: [L] corpora that can have no share.
    """

    def __init__(self, n_corpora: int, n_steps: int, n_pairs: int, unit: float, fixed: Integers) -> None:
        self.rows = Rows(np.empty((n_corpora, 0)))
        self.unit = unit
        self.n_corpora = n_corpora
        self.column_of_step = np.full(n_steps, -1, np.int64)
        self.column_of_pair = np.full(n_pairs, -1, np.int64)
        self.n_columns = n_corpora
        self.solver = highspy.Highs()
        for option, value in _OPTIONS.items():
            self.solver.setOptionValue(option, value)
        self.infinity = self.solver.inf
        for corpus in range(n_corpora):
            self.solver.addVar(0.0, 0.0 if corpus in fixed else 1.0)
        corpora = np.arange(n_corpora, dtype=np.int32)
        self.solver.addRow(1.0, 1.0, n_corpora, corpora, np.ones(n_corpora))

    def add(self, step: Integers, pair: Integers, lead: Floats) -> None:
        """Hold more constraints; `lead` as in `Rows`."""
        self.rows.append(step, pair, lead)
        self._columns(self.column_of_step, step)
        self._columns(self.column_of_pair, pair)
        self._rows(step, pair, lead)

    def _columns(self, column_of: Integers, wanted: Integers) -> None:
        new = np.unique(wanted[column_of[wanted] < 0])
        column_of[new] = self.n_columns + np.arange(len(new))
        self.n_columns += len(new)
        n, nothing = len(new), np.empty(0, np.int32)
        starts = np.zeros(n, np.int32)
        self.solver.addCols(n, np.ones(n), np.zeros(n), np.full(n, self.infinity), 0, starts, nothing, np.empty(0))

    def _rows(self, step: Integers, pair: Integers, lead: Floats) -> None:
        n, wide = len(step), self.n_corpora + 2
        columns = np.empty((n, wide), np.int32)
        columns[:, : self.n_corpora] = np.arange(self.n_corpora)
        columns[:, -2], columns[:, -1] = self.column_of_step[step], self.column_of_pair[pair]
        values = np.ones((n, wide))
        values[:, : self.n_corpora] = lead.T / self.unit
        starts = np.arange(n, dtype=np.int32) * wide
        bounds = np.zeros(n), np.full(n, self.infinity)
        self.solver.addRows(n, *bounds, n * wide, starts, columns.ravel(), values.ravel())

    def relead(self, lead: Floats) -> None:
        """The same constraints with other counts [L, R]: of other samples of the corpora."""
        rows = np.arange(1, len(self.rows) + 1)
        for corpus in range(self.n_corpora):
            for row, value in zip(rows.tolist(), (lead[corpus] / self.unit).tolist(), strict=True):
                self.solver.changeCoeff(row, corpus, value)

    def minimise_slack(self) -> Solution:
        """The mixture of the least slack under the rows held.

        Raises:
            ProgramError: the solver gave up.
        """
        return self._solve()

    def _solve(self) -> Solution:
        self.solver.run()
        status = self.solver.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise ProgramError(f"HiGHS stopped without an optimum: {self.solver.modelStatusToString(status)}")
        solution = self.solver.getSolution()
        values = np.asarray(solution.col_value)
        dual = np.asarray(solution.row_dual)[1 : 1 + len(self.rows)]
        mixture = np.clip(values[: self.n_corpora], 0, 1)
        slack_step, slack_pair = (self._slack(values, of) for of in (self.column_of_step, self.column_of_pair))
        objective = float(slack_step.sum() + slack_pair.sum())
        return Solution(mixture / mixture.sum(), slack_step, slack_pair, objective, dual)

    def _slack(self, values: Floats, column_of: Integers) -> Floats:
        slack = np.zeros(len(column_of))
        held = column_of >= 0
        slack[held] = np.maximum(values[column_of[held]], 0) * self.unit
        return slack

    def reach(self, corpus: int, sign: int, budget: float) -> Solution:
        """The most (`sign` 1) or least (-1) share of a corpus whose slack is within `budget`."""
        solver = self.solver
        costs = np.zeros(self.n_columns)
        costs[corpus] = -sign
        slacks = np.arange(self.n_corpora, self.n_columns, dtype=np.int32)
        solver.changeColsCost(self.n_columns, np.arange(self.n_columns, dtype=np.int32), costs)
        solver.addRow(-self.infinity, budget / self.unit, len(slacks), slacks, np.ones(len(slacks)))
        row = solver.getNumRow() - 1
        try:
            return self._solve()
        finally:
            solver.deleteRows(1, np.array([row], np.int32))
            costs = np.ones(self.n_columns)
            costs[: self.n_corpora] = 0
            solver.changeColsCost(self.n_columns, np.arange(self.n_columns, dtype=np.int32), costs)


_OPTIONS = {"output_flag": False, "threads": 1, "random_seed": 0, "solver": "simplex", "parallel": "off"}
