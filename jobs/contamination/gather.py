"""Gathers the evidence on one benchmark from what the lake has; what it lacks comes with the command that makes it.

    sets --> dataset inference, blind baselines --> doubt that every comparison with the clean set shares
         --> overlaps | ends that are written | orders | changed copies --> rows of evidence

Runs that belong to a benchmark are those with it as base run, finished, by the same model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import duckdb

from jobs.contamination import commands
from jobs.contamination.overlaps import Overlaps
from jobs.contamination.request import ContaminationOptions
from jobs.contamination.sets import Set, Sets
from jobs.dataset_inference import HeldOut, Inference, InferenceOptions, compare
from jobs.exchangeability.examine import examine
from operators.contamination.evidence import EXCHANGEABILITY, INFERENCE, LOSS_GAP, MEMORISED, Evidence, missing
from operators.contamination.inference import blind_doubt, exchangeability_evidence, inference_evidence
from operators.contamination.loss_gap import loss_gap_evidence, read_gaps
from operators.contamination.memorised import (
    Ends,
    are_current,
    has_prompts,
    memorised_evidence,
    read_answers,
    read_windows,
)
from operators.lake import Lake
from operators.scores.companions import FINISHED, Run
from operators.transform import Transform
from pipelines.config import ConfigError

GAP_TRANSFORMS = ("perturb", "external", "shuffle")
NO_CLEAN = "it needs a clean set: --clean RUN or --clean-where CONDITION"


@dataclass
class Gatherer:
    """Everything that is asked of the lake about one benchmark. `notes` grows: warnings and notes for the report."""

    options: ContaminationOptions
    connection: duckdb.DuckDBPyConnection
    runs: Mapping[str, Run]
    sets: Sets
    config: Mapping[str, Any]  # of the benchmark's run
    clean_run: HeldOut  # what is known of the run `options.clean`, for all benchmarks
    notes: list[str] = field(default_factory=list)

    def evidence(self) -> list[Evidence]:
        """All rows on the benchmark, in the order of the verdict table."""
        inference, doubt = self._inference()
        return [
            *Overlaps(self._lake, self.connection, self.options, self.sets, self.config, self._note).evidence(),
            self._memorised(doubt),
            *self._exchangeability(),
            inference,
            *self._loss_gap(doubt),
        ]

    # Memorised items

    def _memorised(self, doubt: str) -> Evidence:
        name, lake, least = self.sets.benchmark, self.options.lake, self.options.min_answer_tokens
        whole = self._ends(name)
        if whole is None:
            why = "the run has no prompts, and `assay memorization` keeps no window of it as it is now"
            return missing(name, MEMORISED, why, commands.memorization_command(lake, name))
        ends, clean = whole.among(self.sets.items.tested.doc_ids), self.sets.clean
        if clean is None:
            return memorised_evidence(name, ends, min_tokens=least)
        base = whole if clean.run_id == name else self._ends(clean.run_id, like=whole)
        if base is None:
            what = "no prompts" if whole.windows is None else f"no windows like these ({whole.windows.said})"
            self._note(1, f"clean run {clean.run_id} has {what}: memorised items of {name} are not compared with it")
            return memorised_evidence(name, ends, min_tokens=least)
        return memorised_evidence(name, ends, base.among(clean.tested.doc_ids), min_tokens=least, doubt=doubt)

    def _ends(self, run_id: str, like: Ends | None = None) -> Ends | None:
        """The ends of a run's documents; those comparable with `like`, or none."""
        with_prompts = like.windows is None if like else has_prompts(self.connection, run_id)
        if with_prompts:
            found = read_answers(self.connection, run_id, self.runs[run_id].features or ())
            return found if found.ids.size else None
        ends = read_windows(self.connection, run_id, like.windows if like else None)
        if ends is None or ends.windows is None or are_current(self._lake, run_id, ends.windows.context):
            return ends
        self._note(1, f"windows that `assay memorization` kept of {run_id} are of an earlier state of it, so left out")
        return None

    # Exchangeability

    def _exchangeability(self) -> list[Evidence]:
        name = self.sets.benchmark
        runs, unfinished = self._transformed(name, ("orders",))
        if not runs:
            why = f"run {unfinished} is not finished" if unfinished else "its items were not scored in other orders"
            return [missing(name, EXCHANGEABILITY, why, commands.exchangeability_command(self.options.lake, name))]
        if self.sets.own_clean is not None:
            self.notes.append(f"note: exchangeability is of all items of {name}, those declared clean included")
        return [self._orders(run) for run in runs]

    def _orders(self, run: Run) -> Evidence:
        name, options = self.sets.benchmark, self.options
        try:
            found = examine(options.lake, run.run_id, options.storage_options, self.connection)
        except ConfigError as error:
            command = commands.exchangeability_command(options.lake, name)
            return missing(name, EXCHANGEABILITY, _in_a_line(error), command, test=run.run_id)
        said = [note for note in found.notes if note.startswith("warning") and ": blind " not in note]
        self.notes += [f"warning: {run.run_id}: {note.removeprefix('warning: ')}" for note in said]
        self._note(found.no_blind, f"{run.run_id}: no blind baseline of the order: {found.no_blind}")
        row = exchangeability_evidence(name, run.run_id, found.n_items, found.result, found.blind)
        return _in_doubt(row, self._age_doubt(name, [run]))

    # Dataset inference

    def _inference(self) -> tuple[Evidence, str]:
        """Its row, and why the items cannot be compared with the clean set, as far as blind baselines see."""
        name, clean = self.sets.benchmark, self.sets.clean
        if clean is None:
            command = commands.clean_command(self.options.lake, name, self.config)
            return missing(name, INFERENCE, NO_CLEAN, command), ""
        try:
            of_run = self.clean_run if clean.run_id == self.options.clean else None
            sets = self.sets.items.tested, clean.tested
            found = compare(self.connection, self._inference_options(clean), sets, of_run)
        except ConfigError as error:
            self._note(1, f"no blind baseline says whether {name} and its clean set are two kinds of text")
            return missing(name, INFERENCE, _in_a_line(error)), ""
        self._note_conditions(found)
        found_of = found.result, found.families, found.halves, found.blind
        row = inference_evidence(name, *found_of, level=self.options.alpha)
        return row, blind_doubt(found.blind)

    def _inference_options(self, clean: Set) -> InferenceOptions:
        options, name = self.options, self.sets.benchmark
        return InferenceOptions(
            lake=options.lake, run_id=name, held_out_run=None if clean.run_id == name else clean.run_id,
            scores=options.scores, splits=options.splits, seed=options.seed, draws=options.draws,
        )  # fmt: skip

    def _note_conditions(self, found: Inference) -> None:
        self.notes += [note for note in found.about_runs if note.startswith("note")]
        self._note(found.no_blind, f"{self.sets.benchmark}: no blind baseline beside the clean set: {found.no_blind}")

    # Loss gap

    def _loss_gap(self, doubt: str) -> list[Evidence]:
        name, lake = self.sets.benchmark, self.options.lake
        runs, unfinished = self._transformed(name, GAP_TRANSFORMS)
        if not runs:
            why = f"run {unfinished} is not finished" if unfinished else "there are no changed copies of its items"
            return [missing(name, LOSS_GAP, why, commands.perturbed_command(lake, name))]
        return [
            _in_doubt(self._gap(spec, copies, doubt), self._age_doubt(name, copies))
            for spec, copies in _by_change(runs).items()
        ]

    def _gap(self, spec: str, copies: Sequence[Run], doubt: str) -> Evidence:
        name, clean = self.sets.benchmark, self.sets.clean
        whole = read_gaps(self.connection, name, [run.run_id for run in copies])
        gaps = whole.among(self.sets.items.tested.doc_ids)
        if clean is None:
            return loss_gap_evidence(name, spec, gaps)
        if clean.run_id == name:
            return loss_gap_evidence(name, spec, gaps, whole.among(clean.tested.doc_ids), doubt=doubt)
        of_clean = _by_change(self._transformed(clean.run_id, GAP_TRANSFORMS)[0]).get(spec)
        if of_clean is None:
            command = commands.perturbed_command(self.options.lake, clean.run_id, spec, len(copies))
            row = loss_gap_evidence(name, spec, gaps, why_alone=f"clean run {clean.run_id} was not changed like this")
            return row if row.doubt else replace(row, command=command)
        base = read_gaps(self.connection, clean.run_id, [run.run_id for run in of_clean])
        row = loss_gap_evidence(name, spec, gaps, base.among(clean.tested.doc_ids), doubt=doubt)
        unlike = f"{len(copies)} copies of the items, {len(of_clean)} of the clean set: score as many"
        return _in_doubt(row, unlike if len(of_clean) != len(copies) else "", self._age_doubt(clean.run_id, of_clean))

    # What several need

    @cached_property
    def _lake(self) -> Lake:
        return Lake(self.options.lake, self.options.storage_options)

    def _transformed(self, run_id: str, names: Sequence[str]) -> tuple[list[Run], str | None]:
        """Finished runs that changed a run's documents in one of these ways; and one that is not finished."""
        model = self.runs[run_id].model_fingerprint
        of_run = [run for run in self.runs.values() if run.base_run == run_id and run.transform is not None]
        such = [run for run in of_run if run.transform and run.transform.name in names]
        unlike = [run.run_id for run in such if run.model_fingerprint != model]
        self._note(unlike, f"{', '.join(unlike)}: scored by another model than {run_id}, so left out")
        alike = [run for run in such if run.model_fingerprint == model]
        unfinished = next((run.run_id for run in alike if run.state != FINISHED), None)
        finished = [run for run in alike if run.state == FINISHED]
        self._note(finished and unfinished, f"run {unfinished} is not finished, so left out")
        return finished, unfinished

    def _age_doubt(self, base_run: str, runs: Sequence[Run]) -> str:
        """Why runs made of a run's documents may be of other ones than it holds now."""
        now, old = self.runs[base_run].config_digest, []
        for run in runs:
            identity = self._lake.read_run(run.run_id).get("identity")
            made_of = identity.get("base_digest") if isinstance(identity, dict) else None
            old += [run.run_id] if made_of not in (None, now) else []
        return f"run {base_run} was made anew since {', '.join(old)}: score that anew, too (--overwrite)" if old else ""

    def _note(self, there_is: object, note: str) -> None:
        if there_is:
            self.notes.append(f"warning: {note}")


def _in_doubt(row: Evidence, *doubts: str) -> Evidence:
    """The row with more doubts, empty ones left out."""
    return replace(row, doubt="; ".join(filter(None, (row.doubt, *doubts))))


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _by_change(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by what was done to the texts, copies of one change together; of two runs of one copy, the first."""
    found: dict[str, dict[Any, Run]] = {}
    for run in runs:
        if run.transform is not None:
            others = tuple(item for item in run.transform.values if item[0] != "copy")
            change = Transform(run.transform.name, others).canonical
            found.setdefault(change, {}).setdefault(run.transform.get("copy"), run)
    return {change: list(copies.values()) for change, copies in sorted(found.items())}
