"""The view `wide_scores`: a row per document of a run, a column per score card, over the long table `scores`.

    select doc_id, loss, min_k, others['min_k(ratio=0.1)'] from wide_scores where run_id = 'demo'

A column holds the variant of the card's own name: parameters at their defaults, the suggested transformed runs. Every
other variant, and every learned detector, is in `others`. A column that a query does not name is not computed.
"""

from __future__ import annotations

from collections.abc import Mapping

from operators.score_cards import DOCUMENT_FAMILIES, Score, literal, load_scores

WIDE_SCORES = "wide_scores"


def wide_columns() -> Mapping[str, Score]:
    """The cards that have a variant of their own name: those that need no reference run and no corpus."""
    return {
        name: card
        for name, card in load_scores().items()
        if card.is_per_document
        and card.family in DOCUMENT_FAMILIES
        and all(companion.kind == "transform" for companion in card.companions)
    }


def wide_sql() -> str:
    """The view's SELECT over the view `scores`."""
    names = ", ".join(map(literal, wide_columns()))
    columns = "".join(
        f',\n  max("value") filter (variant = {literal(name)}) as "{name}"' for name in wide_columns()
    )  # fmt: skip
    entry = "{'k': variant, 'v': \"value\"}"
    return f"""select run_id, doc_id{columns},
  coalesce(map_from_entries(list({entry} order by variant) filter (variant not in ({names}))),
    map {{}}::map(varchar, double)) as others
from scores
group by run_id, doc_id"""


def wide_comments() -> Mapping[str, str]:
    """What each column is, as its card says."""
    kept = {"run_id": "the run that was scored", "doc_id": "document, as in `documents`"}
    cards = {name: card.comment for name, card in wide_columns().items()}
    return {**kept, **cards, "others": "by variant: scores at other parameters or with other runs, learned detectors"}
