"""How far the shares can move while the merges stay explained: what the merges do not say.

For each corpus the least and the most share among mixtures whose slack is within `NEAR` of the least. Two corpora alike
can trade their shares at no price, and each has a wide range although their sum has a narrow one; that the optimum lies
at one end of it means nothing. The range holds no sampling error: that is `samples.py`.
"""

from __future__ import annotations

import numpy as np

from operators.merges.inference import Search, byte_shares
from operators.merges.program import ProgramError
from operators.merges.stretches import Floats

NEAR = 0.02
MAX_ROUNDS = 3
COARSE = 20.0


def near_optimal(search: Search, pairs_per_byte: Floats) -> Floats:
    """[L, 2] least and most byte share of each corpus at a slack of at most `1 + NEAR` times the least.

    The mixtures are those at the ends of the shares of pairs. An end may violate constraints that the optimum does not:
    those violated by more than `COARSE` times the tolerance are added, and the least slack is found again, in
    `MAX_ROUNDS` rounds at most. What is left makes a range too wide. An end that the solver cannot find is 0 or 1.
    `search` may hold some constraints only (`telling_rows`): the range is then that of their slack.
    """
    ends = np.tile(np.array([0.0, 1.0]), (len(pairs_per_byte), 1))
    ends[pairs_per_byte == 0] = 0
    least = search.program.minimise_slack().objective
    for corpus in np.flatnonzero(pairs_per_byte > 0).tolist():
        for side, sign in enumerate((-1, 1)):
            mixture, least = _end(search, corpus, sign, least)
            if mixture is not None:
                ends[corpus, side] = byte_shares(mixture, pairs_per_byte)[corpus]
    return ends


def _end(search: Search, corpus: int, sign: int, least: float) -> tuple[Floats | None, float]:
    """The mixture at an end, None where the solver finds none; and the least slack under the constraints then held."""
    mixture = None
    for _ in range(MAX_ROUNDS):
        try:
            solution = search.program.reach(corpus, sign, least * (1 + NEAR) + 1e-6 * search.unit)
        except ProgramError:
            break
        mixture = solution.mixture
        found = search.violated(mixture, solution.slack_step, solution.slack_pair, COARSE)
        if not len(found.step):
            break
        search.hold(found)
        least = search.program.minimise_slack().objective
    return mixture, least
