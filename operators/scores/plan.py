"""Decides what can be scored: from what is asked for, to statements with all their values and what is missing.

asked for --> cards --> companions there? --> column groups there? --> requests, one a variant
                             no                     no             --> missing, with the command that makes it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from operators.score_cards import DOCUMENT_FAMILIES, Score, ScoreError, load_scores
from operators.scores.companions import Candidate, Choice, Neighbourhood
from operators.scores.groups import TokenGroups
from operators.scores.missing import Missing, lacks_companion, lacks_groups
from operators.scores.variants import Values, Wanted, did_you_mean, parameters_json, parse_wanted, typed, variant_name


@dataclass(frozen=True)
class Request:
    """One score of a run's documents with everything it is bound to; `runs` are those of its companions."""

    card: Score
    variant: str
    values: Values
    runs: tuple[str, ...] = ()

    @property
    def parameters(self) -> str:
        return parameters_json(self.values)


@dataclass(frozen=True)
class ScorePlan:
    """What a run can be asked, and what it lacks for the rest."""

    run_id: str
    requests: tuple[Request, ...]
    missing: tuple[Missing, ...] = ()


def plan_scores(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    names: Iterable[str] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    families: Iterable[str] | None = None,
    references: Iterable[str] = (),
    lake: str = "LAKE",
) -> ScorePlan:
    """Find out which scores of documents a run gives, with which companions.

    Args:
        names: scores, or variants as they are printed (`min_k(ratio=0.1)`); a name alone means every variant that the
            lake has companions for. With neither names nor `families`: all scores of `DOCUMENT_FAMILIES`.
        parameters: by score name, values that replace defaults or name companions: `{"min_k": {"ratio": 0.1}}`.
        families: whose scores are wanted besides `names`; those that the run cannot give are reported as missing.
        references: runs of the same documents by other models.
        lake: how the lake is called in the commands of hints.

    Raises:
        ScoreError: an unknown score, family, parameter or reference; or a score asked for by name that the run cannot
            give, with the command that would make what it lacks. Every fault at once.
    """
    cards = load_scores()
    named = None if names is None else list(names)
    changed = dict(parameters or {})
    strict, lenient = _wanted(cards, named, None if families is None else list(families))
    strict, lenient = (_changed(cards, some, changed) for some in (strict, lenient))
    _check_changed(changed, [*strict, *lenient])
    planner = _Planner(connection, run_id, references, lake)
    faults = [missing for wanted in strict for missing in planner.add(cards[wanted.name], wanted)]
    if faults:
        raise ScoreError("\n".join(dict.fromkeys(map(str, faults))))
    missing = [missing for wanted in lenient for missing in planner.add(cards[wanted.name], wanted)]
    return ScorePlan(run_id, tuple(planner.requests.values()), tuple(dict.fromkeys(missing)))


def _wanted(
    cards: Mapping[str, Score], names: Sequence[str] | None, families: Sequence[str] | None
) -> tuple[list[Wanted], list[Wanted]]:
    """Requests that must be met, and those to be met where they can."""
    faults, strict = [], []
    for text in names or ():
        try:
            strict.append(parse_wanted(text, cards))
        except ScoreError as error:
            faults.append(str(error))
    of = DOCUMENT_FAMILIES if names is None and families is None else families or ()
    faults += [
        f"no family {name!r}{did_you_mean(name, DOCUMENT_FAMILIES)}; they are {', '.join(DOCUMENT_FAMILIES)}"
        for name in of
        if name not in DOCUMENT_FAMILIES
    ]
    if faults:
        raise ScoreError(f"{'; '.join(faults)}; `assay scores --list` lists all")
    lenient = [Wanted(name, text=name) for name, card in cards.items() if card.is_per_document and card.family in of]
    return strict, lenient


def _changed(
    cards: Mapping[str, Score], wanted: Sequence[Wanted], changed: Mapping[str, Mapping[str, Any]]
) -> list[Wanted]:
    """The requests with the values given by score name, those for companions left as they are."""
    result = []
    for each in wanted:
        card, given = cards[each.name], dict(changed.get(each.name, {}))
        if "run_id" in given:
            raise ScoreError(f"{each.name}: run_id is the run of the whole table")
        companions = {c.name: given.pop(c.name) for c in card.companions if c.name in given}
        result.append(Wanted(each.name, each.labels, {**typed(card, given), **each.values, **companions}, each.text))
    return result


def _check_changed(changed: Mapping[str, Mapping[str, Any]], wanted: Sequence[Wanted]) -> None:
    known = {each.name for each in wanted}
    faults = [f"parameters for {name!r}, which is not asked for" for name in changed if name not in known]
    if faults:
        raise ScoreError("; ".join(faults))


class _Planner:
    """Gathers requests of one run, a variant once."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, run_id: str, references: Iterable[str], lake: str
    ) -> None:
        self.requests: dict[str, Request] = {}
        self._lake = lake
        self._around = Neighbourhood(connection, run_id, references)
        self._groups = TokenGroups(connection, self._around.run)

    def add(self, card: Score, wanted: Wanted) -> list[Missing]:
        """Add every variant that is wanted of a card; what is missing where there is none."""
        own = {c.name: c for c in card.companions}
        values = {p.name: wanted.values.get(p.name, p.default) for p in card.settings}
        groups = self._groups.lacking(card)
        if groups:
            return [lacks_groups(card, groups, self._around.run)]
        given = tuple(self._around.given(own[name], value) for name, value in wanted.values.items() if name in own)
        left = [c for c in card.companions if c.name not in wanted.values]
        choices = self._around.choices(left, wanted.labels)
        if not choices:
            return lacks_companion(card, left, wanted.labels, self._around, self._lake)
        for choice in choices:
            self._add(card, _in_order(card, (*given, *choice)), values)
        return []

    def _add(self, card: Score, choice: Choice, values: Values) -> None:
        labels = [each.label for each in choice if not each.is_suggested]
        variant = variant_name(card, labels, values)
        bound = card.bind(run_id=self._around.run.run_id, **{c.companion.name: c.value for c in choice}, **values)
        runs = tuple(dict.fromkeys(run for each in choice for run in each.runs))
        self.requests.setdefault(variant, Request(card, variant, bound, runs))


def _in_order(card: Score, choice: Iterable[Candidate]) -> Choice:
    by_name = {each.companion.name: each for each in choice}
    return tuple(by_name[c.name] for c in card.companions)
