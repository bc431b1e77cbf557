"""Every score as Markdown, by family: what `operators/sql/SCORES.md` and `assay scores --list` show."""

from __future__ import annotations

import json
from collections.abc import Iterable

from operators.score_cards.card import DOCUMENT_FAMILIES, TOGETHER, Parameter, Score
from schemas import CORE, TOKENS

_FAMILIES = {
    "membership": "Membership: was this text in the training data",
    "detection": "Detection: was this text written by a machine",
    "uncertainty": "Uncertainty: how unsure the model is of a completion",
    "fit": "Fit: how well the model predicts a text",
    "memorization": "Memorisation: what of a text the model would write itself",
    "contamination": "Contamination: was a benchmark in the training data",
    "evaluation": "Evaluation: how well scores separate labelled documents",
    TOGETHER: "Together: many scores from one statement",
}
FAMILIES = (*DOCUMENT_FAMILIES, *(name for name in _FAMILIES if name not in DOCUMENT_FAMILIES))


def needs(card: Score) -> str:
    """What a score needs besides the core columns of its run, in words; empty where it needs nothing."""
    read = card.reads.get(TOKENS.name, ())
    groups = dict.fromkeys(c.group for c in TOKENS.columns if c.name in read and c.group != CORE)
    items = [f"column group {group}" for group in groups if group not in ("prompt", *card.optional)]
    return "; ".join([*items, *(companion.said for companion in card.companions)])


def scores_markdown(cards: Iterable[Score]) -> str:
    """The cards, a heading a family and an entry a score."""
    by_family: dict[str, list[Score]] = {}
    for card in cards:
        by_family.setdefault(card.family, []).append(card)
    known = [family for family in FAMILIES if family in by_family]
    sections = []
    for family in [*known, *(family for family in by_family if family not in known)]:
        entries = "\n".join(map(_entry, by_family[family]))
        sections.append(f"## {_FAMILIES.get(family, family)}\n\n{entries}")
    return "\n".join(sections)


def _entry(card: Score) -> str:
    parameters = "; ".join(f"`{p.name} = {json.dumps(p.default)}`{_within(p)}: {p.description}" for p in card.settings)
    columns = "; ".join(f"{table}({', '.join(names)})" for table, names in card.reads.items())
    units = ", ".join(f"{name}: {unit}" for name, unit in card.units.items()) if not card.is_per_document else ""
    lines = {
        "formula": card.formula,
        "a row": "" if card.is_per_document else card.row,
        "unit": card.units.get("score", "") if card.is_per_document else units,
        "higher": card.higher_means,
        "needs": needs(card),
        "uses": f"column groups {' and '.join(card.optional)} where the run kept them" if card.optional else "",
        "parameters": parameters,
        "reads": columns,
        "source": card.source,
        "note": card.note,
    }
    said = "".join(f"- {name}: {text}\n" for name, text in lines.items() if text)
    return f"### `{card.name}`\n\n{said}"


def _within(parameter: Parameter) -> str:
    return "" if parameter.range is None else f" in {parameter.range}"
