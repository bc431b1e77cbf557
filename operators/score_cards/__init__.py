"""Published scores as SQL: one file each in `sql/<family>/<score>.sql`, read here into cards.

The file is the single source: its header says what a row is, the formula, the direction, the paper, the columns read
and returned, and the parameters with their defaults.

    -- score: loss                          the file's name
    -- reads: tokens(run_id, doc_id, logprob)
    -- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE [nats per token]
    -- parameter: ratio DOUBLE = 0.2 in (0, 1]; what it is, and which values are refused: those out of the range
    -- rollup: min_k_20 if $ratio = 0.2     the same number from a row of `documents`, and for which parameters
    -- across: documents of one prompt      which other documents a document's score depends on, where it does on any
    -- optional: extremes, topk              column groups that are read where the run kept them
    -- companion: lowered VARCHAR; transform lowercase
    -- companion: perturbed VARCHAR[]; transform perturb; such as perturb:kind=substitute_words
    -- companion: reference VARCHAR; reference
    -- companion: corpus VARCHAR; frequencies

A companion is what a score needs besides its run: a run of the same documents transformed (or several, that differ in
`copy` only), a run by another model, or a corpus whose tokens were counted. It is bound like a parameter.

Every score of documents returns `(run_id, doc_id, score)`, higher = more of what the card's `higher_means` says. A
score that is not defined is NULL, never a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from operators.score_cards.card import DOCUMENT_FAMILIES, Companion, Parameter, Score, ScoreError, literal
from operators.score_cards.header import parse_score

__all__ = [
    "DOCUMENT_FAMILIES",
    "Companion",
    "Parameter",
    "Score",
    "ScoreError",
    "literal",
    "load_scores",
    "parse_score",
]

SQL_FOLDER = Path(__file__).parents[1] / "sql"


@cache
def load_scores() -> Mapping[str, Score]:
    """Every score by name, sorted by family and name.

    Raises:
        ScoreError: the files' headers are not sound; all faults of all files at once.
    """
    scores: dict[str, Score] = {}
    faults: list[str] = []
    for path in sorted(SQL_FOLDER.glob("*/*.sql")):
        try:
            score = parse_score(path.read_text(encoding="utf-8"), path)
        except ScoreError as error:
            faults.append(str(error))
            continue
        if score.name in scores:
            faults.append(f"{path}: {scores[score.name].path} has the same name")
        scores[score.name] = score
    if faults:
        raise ScoreError("\n".join(faults))
    return MappingProxyType(scores)
