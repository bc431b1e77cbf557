"""Scores of a run's documents: what can be asked, with which companions, and the numbers.

    plan_scores    names, families --> requests, one a variant, and what is missing with the command that makes it
    score_table    requests --> rows of `scores`, computed from roll-ups, or in few scans of the tokens
    create_macros  a DuckDB table macro of every card

The cards are those of `operators.score_cards`, which say how the files under `sql/` are read.
"""

from operators.score_cards import Score, ScoreError, load_scores, parse_score
from operators.scores.macros import create_macros
from operators.scores.missing import Missing
from operators.scores.plan import Request, ScorePlan, plan_scores
from operators.scores.table import SCORE_TABLE, score_batches, score_table

__all__ = [
    "SCORE_TABLE",
    "Missing",
    "Request",
    "Score",
    "ScoreError",
    "ScorePlan",
    "create_macros",
    "load_scores",
    "parse_score",
    "plan_scores",
    "score_batches",
    "score_table",
]
