"""Other runs in the names of scores: those a detector was trained with, and which of another run stand in for them.

trained on `monday` with `reference(monday-small)`; applied to `tuesday` with --reference tuesday-small
  --> tuesday-small is by the same model as monday-small --> reads `reference(tuesday-small)`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import duckdb

from operators.detectors.card import DetectorError, Scores
from operators.detectors.documents import read_run
from operators.score_cards import Score, load_scores
from operators.scores.variants import parse_wanted, variant_name


def references_in(variants: Iterable[str]) -> list[str]:
    """The reference runs that variants name, each once."""
    cards = load_scores()
    return list(dict.fromkeys(label for variant in variants for label in _references(variant, cards)))


def against_prefixes(variants: Iterable[str]) -> list[str]:
    """The variants that compare with runs behind a prefix, which is made of labelled documents of the run."""
    cards = load_scores()
    cards_of = {variant: cards[parse_wanted(variant, cards).name] for variant in variants}
    return [v for v, card in cards_of.items() if any(c.transform.startswith("prefix") for c in card.companions)]


def stand_ins(
    connection: duckdb.DuckDBPyConnection, inputs: Scores, references: Sequence[str], detector: str
) -> dict[str, str]:
    """For each reference run that was trained with, one of `references` by the same model; else itself, where the lake
    has it.

    Raises:
        DetectorError: there is neither.
    """
    found: dict[str, str] = {}
    for trained, model in inputs.references.items():
        left = [name for name in references if name not in found.values()]
        same = [name for name in left if read_run(connection, name).model_fingerprint == model]
        if not same and _model(connection, trained) != model:
            raise DetectorError(
                f"detector {detector} combines scores against reference run {trained}, by model {model}: name a run "
                "of the same documents by that model with --reference"
            )
        found[trained] = same[0] if same else trained
    return found


def renamed(variants: Sequence[str], runs: Mapping[str, str]) -> list[str]:
    """The variants with other reference runs in their names."""
    cards = load_scores()
    return [_renamed(variant, runs, cards) if _references(variant, cards) else variant for variant in variants]


def _references(variant: str, cards: Mapping[str, Score]) -> Sequence[str]:
    """A score against a reference needs no other companion."""
    wanted = parse_wanted(variant, cards)
    return wanted.labels if any(c.kind == "reference" for c in cards[wanted.name].companions) else ()


def _renamed(variant: str, runs: Mapping[str, str], cards: Mapping[str, Score]) -> str:
    wanted = parse_wanted(variant, cards)
    card = cards[wanted.name]
    values = {p.name: wanted.values.get(p.name, p.default) for p in card.settings}
    return variant_name(card, [runs.get(label, label) for label in wanted.labels], values)


def _model(connection: duckdb.DuckDBPyConnection, run_id: str) -> str | None:
    """The fingerprint of a run's model; no fingerprint at all where there is no such run."""
    try:
        return read_run(connection, run_id).model_fingerprint
    except DetectorError:
        return ""
