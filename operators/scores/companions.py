"""Finds what scores need besides their run: transformed runs of its documents, reference runs, counted corpora.

    runs         base_run = R, finished, same model --> by transform, copies gathered --> candidates
    references   named by who asks                  --> runs that are there and finished
    frequencies  tokenizer of R                     --> corpora

Each candidate makes one variant of a score; where a card needs two transformed runs, they differ only in what the card
demands of each (shots and seed of two prefixes are the same).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import duckdb

from operators.score_cards import Companion, ScoreError
from operators.scores.variants import did_you_mean
from operators.transform import Transform, TransformError, parse_transform

EXTERNAL = "external"  # texts changed elsewhere stand in for any transform, for who names them
FINISHED = "finished"


@dataclass(frozen=True)
class Run:
    """What is known of a run from `runs`."""

    run_id: str
    state: str = ""
    model: str | None = None
    model_fingerprint: str | None = None
    tokenizer_fingerprint: str | None = None
    features: tuple[str, ...] | None = None  # None: not known
    transform: Transform | None = None
    base_run: str | None = None
    config_digest: str | None = None


@dataclass(frozen=True)
class Candidate:
    """One choice of a companion: the `value` bound to it, the runs behind it, and what it is called in a variant."""

    companion: Companion
    value: str | list[str]
    label: str
    runs: tuple[str, ...] = ()
    transform: Transform | None = None

    @property
    def is_suggested(self) -> bool:
        return self.companion.kind == "transform" and self.label == self.companion.such_as

    @property
    def rest(self) -> Transform | None:
        """The transform without what the card demands of it and without its copy."""
        if self.transform is None:
            return None
        demanded = {key for key, _ in _demanded(self.companion)[1]} | {"copy"}
        return Transform(self.transform.name, tuple(i for i in self.transform.values if i[0] not in demanded))


Choice = tuple[Candidate, ...]  # one candidate for each companion of a card


class Neighbourhood:
    """The runs and corpora that may go with one run.

    Raises:
        ScoreError: a reference run that is not there, is not finished, or is the run itself; all of them at once.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: str, references: Iterable[str] = ()) -> None:
        self._connection = connection
        self._runs = read_runs(connection)
        self.run = self._runs.get(run_id, Run(run_id))
        self.references = tuple(dict.fromkeys(references))
        faults = [fault for name in self.references if (fault := self._reference_fault(name))]
        if faults:
            raise ScoreError("; ".join(faults))

    def __getitem__(self, run_id: str) -> Run:
        return self._runs.get(run_id, Run(run_id))

    def choices(self, companions: Sequence[Companion], labels: Sequence[str] = ()) -> list[Choice]:
        """Every way to fill the companions, in order of their labels; `labels` are those that must be among them."""
        wanted = [_canonical(label) for label in labels]
        found = product(*(self.candidates(companion, wanted) for companion in companions))
        alike = (choice for choice in found if _differ_as_demanded(choice))
        named = (c for c in alike if all(any(label in _names(each) for each in c) for label in wanted))
        return list(named)

    def candidates(self, companion: Companion, wanted: Sequence[str] = ()) -> list[Candidate]:
        """The choices for one companion; texts changed elsewhere are among them where they are wanted by name."""
        if companion.kind == "reference":
            return [Candidate(companion, name, name, (name,)) for name in self.references]
        if companion.kind == "frequencies":
            return [Candidate(companion, name, name) for name in self._corpora]
        return list(self._transformed(companion, wanted))

    def given(self, companion: Companion, value: str | list[str]) -> Candidate:
        """The choice that binds a companion to runs, or to a corpus, by name: whatever they are."""
        runs = tuple([value] if isinstance(value, str) else value)
        if companion.kind == "frequencies":
            return Candidate(companion, value, "+".join(runs))
        transforms = [self[run].transform for run in runs]
        labels = {t.canonical if not companion.is_list else _without_copy(t).canonical for t in transforms if t}
        is_known = len(labels) == 1 and None not in transforms and companion.kind == "transform"
        return Candidate(companion, value, labels.pop() if is_known else "+".join(runs), runs)

    def unfinished(self, companion: Companion) -> Run | None:
        """A run that would do for the companion if it were finished."""
        of_run = (run for run in self._runs.values() if run.base_run == self.run.run_id and run.state != FINISHED)
        return next((run for run in of_run if run.transform and _is_as_demanded(run.transform, companion)), None)

    def _transformed(self, companion: Companion, wanted: Sequence[str]) -> Iterator[Candidate]:
        groups: dict[str, dict[Any, tuple[str, Transform]]] = {}
        for run in self._of_run():
            transform = run.transform
            if transform is None:
                continue
            shared = _without_copy(transform) if companion.is_list else transform
            is_wanted_external = transform.name == EXTERNAL and shared.canonical in wanted
            if _is_as_demanded(transform, companion) or is_wanted_external:
                copies = groups.setdefault(shared.canonical, {})
                copies.setdefault(transform.get("copy"), (run.run_id, transform))  # of two that say the same, one
        for label in sorted(groups):
            runs = [groups[label][copy] for copy in sorted(groups[label], key=lambda copy: copy or 0)]
            names = [name for name, _ in runs]
            value = names if companion.is_list else names[0]
            yield Candidate(companion, value, label, tuple(names), runs[0][1])

    def _of_run(self) -> Iterator[Run]:
        """Finished transformed runs of this run's documents by its model, by name."""
        for name in sorted(self._runs):
            run = self._runs[name]
            is_same_model = run.model_fingerprint == self.run.model_fingerprint
            if run.base_run == self.run.run_id and run.state == FINISHED and is_same_model:
                yield run

    @cached_property
    def _corpora(self) -> list[str]:
        found = self._connection.execute(
            """
            select distinct corpus
            from frequencies
            where tokenizer_fingerprint = $tokenizer or list_contains(other_fingerprints, $tokenizer)
            order by corpus
            """,
            {"tokenizer": self.run.tokenizer_fingerprint},
        )
        return [corpus for (corpus,) in found.fetchall()]

    def _reference_fault(self, name: str) -> str | None:
        if name not in self._runs:
            return f"reference {name!r}: there is no such run{did_you_mean(name, self._runs)}"
        if name == self.run.run_id:
            return f"reference {name!r} is the run itself"
        if self._runs[name].state != FINISHED:
            return f"reference {name!r} is {self._runs[name].state}, not finished"
        return None


def read_runs(connection: duckdb.DuckDBPyConnection) -> dict[str, Run]:
    """Every run of the lake, by name."""
    columns = ("run_id", "state", "model", "model_fingerprint", "tokenizer_fingerprint", "features", "transform",
               "base_run", "config_digest")  # fmt: skip
    rows = connection.execute(f"select {', '.join(columns)} from runs order by run_id").fetchall()
    found = {}
    for run_id, state, model, model_fingerprint, tokenizer, features, transform, *others in rows:
        kept = None if features is None else tuple(features)
        found[run_id] = Run(run_id, state, model, model_fingerprint, tokenizer, kept, _parsed(transform), *others)
    return found


def _parsed(spec: str | None) -> Transform | None:
    """The transform that a run says it was made by; None where it is none that is known here."""
    try:
        return None if spec is None else parse_transform(spec)
    except TransformError:
        return None


def _canonical(label: str) -> str:
    transform = _parsed(label)
    return label if transform is None else transform.canonical


def _names(candidate: Candidate) -> tuple[str, ...]:
    """What a candidate is called: by its transform or name, or by its one run."""
    return (candidate.label, *(candidate.runs if len(candidate.runs) == 1 else ()))


def _without_copy(transform: Transform) -> Transform:
    return replace(transform, values=tuple(item for item in transform.values if item[0] != "copy"))


def _demanded(companion: Companion) -> tuple[str, list[tuple[str, str]]]:
    name, _, rest = companion.transform.partition(":")
    return name, [(key, value) for key, _, value in (item.partition("=") for item in rest.split(",") if item)]


def _is_as_demanded(transform: Transform, companion: Companion) -> bool:
    if companion.kind != "transform":
        return False
    name, items = _demanded(companion)
    return transform.name == name and all(str(transform.get(key)) == value for key, value in items)


def _differ_as_demanded(choice: Choice) -> bool:
    """Whether transforms of one name differ in nothing but what is demanded of each."""
    rests: dict[str, Transform] = {}
    return all(rests.setdefault(rest.name, rest) == rest for each in choice if (rest := each.rest) is not None)
