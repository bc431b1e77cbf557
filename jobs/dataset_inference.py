"""`assay dataset-inference`: was a set of documents trained on, judged as a whole from all scores of a run?

    suspect, held out: conditions on one run, or two runs of one model
      --> scores both have [N, F] --> p-value, out of sample (operators.evaluation.dataset_inference)
      --> halves of the held-out set told apart: how often? | blind baselines on the same two sets

What may make the p-value mean something else than training is printed with it, as warnings and notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.conditions import documents_where
from jobs.output import choose_format
from jobs.query import check_lake, check_run
from operators.blind import COLUMNS, BlindResult, BlindSettings, blind_baseline
from operators.evaluation.classes import Floats
from operators.evaluation.dataset_inference import (
    MIN_DOCUMENTS,
    DatasetInference,
    FalsePositives,
    dataset_inference,
    false_positive_rate,
)
from operators.evaluation.documents import Documents, read_texts
from operators.evaluation.features import Features, Ids, document_features
from operators.evaluation.run_scores import reading
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

BLIND_DOCUMENTS = 10_000  # of a set: a blind baseline of that many is as sure as it needs to be
SPLITS_IN_ALL = 1_000  # of the held-out halves: draws times splits, whatever is asked for

_SUSPECT, _HELD_OUT = "label = 1", "label = 0"
_SAME = ("model_fingerprint", "tokenizer_fingerprint", "context", "stride", "bos_prepended", "dtype", "transform")
_MUST_BE_SAME = _SAME[:2]


@dataclass(frozen=True)
class InferenceOptions:
    """What is to be compared, as the flags of `assay dataset-inference` say it.

    `suspect` and `held_out` are SQL conditions on `documents`: labels 1 and 0 by default, all documents where
    `held_out_run` names a run of its own. `draws` of halves of the held-out set; 0 leaves them out.
    """

    lake: str
    run_id: str
    suspect: str | None = None
    held_out: str | None = None
    held_out_run: str | None = None
    families: Sequence[str] = ()
    scores: Sequence[str] = ()
    references: Sequence[str] = ()
    splits: int = 1
    seed: int = 0
    draws: int = 200
    parity: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def second_run(self) -> str:
        return self.held_out_run or self.run_id

    @property
    def how(self) -> dict[str, Any]:
        """What the test and the halves take alike."""
        return {"splits": self.splits, "seed": self.seed, "parity": self.parity}

    @property
    def conditions(self) -> tuple[str, str]:
        """Of the suspect and of the held-out set."""
        alone = self.held_out_run is not None
        return self.suspect or ("true" if alone else _SUSPECT), self.held_out or ("true" if alone else _HELD_OUT)


@dataclass
class HeldOut:
    """What is known of a held-out set in a run of its own: its scores, and of its halves by the names of scores."""

    features: Features | None = None
    halves: dict[tuple[str, ...], FalsePositives] = field(default_factory=dict)


@dataclass(frozen=True)
class Inference:
    """What was found. `families` of the features, in their order; `no_blind`: why there are no blind baselines;
    `about_runs`: what is to be said of the runs themselves."""

    options: InferenceOptions
    result: DatasetInference
    families: tuple[str, ...]
    halves: FalsePositives | None
    blind: Sequence[BlindResult]
    no_blind: str
    about_runs: tuple[str, ...]


def run_dataset_inference(options: InferenceOptions, fmt: str | None, output: Path | None) -> None:
    """Compare the sets, and print or write what was found; `fmt` None: as the name of `output` ends, else a table.

    Raises:
        ConfigError: no such lake or run, sets that overlap or are too small, runs of two models, or no score.
        ScoreError: as `operators.scores.plan_scores`.
        QueryError: a condition failed.
    """
    from jobs.dataset_inference_report import show

    chosen = choose_format(fmt, output)
    show(infer(options), chosen, output)


def infer(options: InferenceOptions) -> Inference:
    """All numbers and notes of one comparison.

    Raises:
        ConfigError, ScoreError, QueryError: as `run_dataset_inference`.
    """
    check_lake(options.lake, options.storage_options)
    for run_id in dict.fromkeys((options.run_id, options.second_run)):
        check_run(options.lake, run_id, options.storage_options)
    with reading(options.lake, options.storage_options) as connection:
        return compare(connection, options, _sets(connection, options))


def compare(
    connection: duckdb.DuckDBPyConnection,
    options: InferenceOptions,
    sets: tuple[Documents, Documents],
    known: HeldOut | None = None,
) -> Inference:
    """As `infer`, of the suspect and the held-out documents themselves; conditions in `options` are not read.

    `known` is filled: who compares many sets with one held-out set gives the same to each comparison.

    Raises:
        ConfigError, ScoreError: as `run_dataset_inference`.
    """
    known = known or HeldOut()
    said = tuple(about_runs(connection, options.run_id, options.second_run))
    features = _features(connection, options, sets, known)
    texts = _texts(connection, options, sets)
    suspect, held_out, names, families = _common(*features)
    try:
        result = dataset_inference(suspect, held_out, names=names, **options.how)
        halves = _halves(options, held_out, names, known)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    blind, no_blind = _blind(texts, options.seed)
    return Inference(options, result, families, halves, blind, no_blind, (*said, *_left_out(options, *features)))


def _halves(
    options: InferenceOptions, held_out: Floats, names: tuple[str, ...], known: HeldOut
) -> FalsePositives | None:
    """How often halves of the held-out set are told apart; None where it is too small, or nobody asks."""
    draws = min(options.draws, max(1, SPLITS_IN_ALL // options.splits))
    if not draws or len(held_out) < 2 * MIN_DOCUMENTS:
        return None
    if names not in known.halves:
        known.halves[names] = false_positive_rate(held_out, draws=draws, **options.how)
    return known.halves[names]


# Reading


def about_runs(connection: duckdb.DuckDBPyConnection, first: str, second: str) -> Iterator[str]:
    """Warnings: a run that is not whole, and what two runs do not share.

    Raises:
        ConfigError: that is the model or the tokenizer.
    """
    runs = [first, second]
    sql = f"select run_id, state, {', '.join(_SAME)} from runs where run_id = $a or run_id = $b"
    rows = connection.sql(sql, params=dict(zip("ab", runs, strict=True))).to_arrow_table()
    by_run = {row["run_id"]: row for row in rows.to_pylist()}
    for run_id in by_run:
        if by_run[run_id]["state"] != "finished":
            yield f"warning: run {run_id} is {by_run[run_id]['state']}: only what is scored so far is in these numbers"
    for name in _SAME:
        of_first, of_second = (by_run[run_id][name] for run_id in runs)
        if of_first == of_second:
            continue
        said = f"{name} of {first} is {of_first}, of {second} {of_second}"
        if name in _MUST_BE_SAME:
            raise ConfigError(f"{said}: the sets must be scored by one model, or its scores say nothing about them")
        yield f"warning: {said}: that alone may make the sets differ"


def _sets(connection: duckdb.DuckDBPyConnection, options: InferenceOptions) -> tuple[Documents, Documents]:
    """The suspect and the held-out documents."""
    sets = []
    runs = options.run_id, options.second_run
    for flag, run_id, condition in zip(("--suspect", "--held-out"), runs, options.conditions, strict=True):
        sets.append(documents_where(options.lake, run_id, condition, flag, options.storage_options))
    for name, some, condition in zip(("suspect", "held-out"), sets, options.conditions, strict=True):
        if not len(some):
            raise ConfigError(
                f"no {name} document: none has {condition!r}. Say which are: --{name} \"domain = 'news'\""
            )
    both = _in_both(connection, options, *(some.doc_ids for some in sets))
    if both:
        raise ConfigError(f"{both:,} documents are in both sets: change --suspect or --held-out so that none is")
    return sets[0], sets[1]


def _in_both(connection: duckdb.DuckDBPyConnection, options: InferenceOptions, first: Ids, second: Ids) -> int:
    """How many documents are in both sets. Those of two corpora may share ids, so of two runs texts have to agree."""
    shared = np.intersect1d(first, second)
    if not shared.size or options.held_out_run is None:
        return int(shared.size)
    sql = """
        select count(*)
        from documents a
        join documents b on a.doc_id = b.doc_id and a.text_sha256 = b.text_sha256
        where a.run_id = $first and b.run_id = $second and a.doc_id in (select unnest($ids::bigint[]))
    """
    bound = {"first": options.run_id, "second": options.held_out_run, "ids": shared.tolist()}
    ((count,),) = connection.execute(sql, bound).fetchall()
    return int(count)


def _features(
    connection: duckdb.DuckDBPyConnection,
    options: InferenceOptions,
    sets: tuple[Documents, Documents],
    known: HeldOut,
) -> tuple[Features, Features]:
    """Scores of both sets; learned ones never, as they were made from labels."""
    asked = {"names": options.scores or None, "families": options.families or None, "references": options.references}
    if options.held_out_run is None:  # one scan for both
        ids = np.concatenate([some.doc_ids for some in sets])
        both = document_features(connection, options.run_id, ids, lake=options.lake, **asked)  # type: ignore[arg-type]
        rows = slice(0, len(sets[0])), slice(len(sets[0]), None)
        first, second = (replace(both, doc_ids=both.doc_ids[part], values=both.values[part]) for part in rows)
        return first, second
    suspect, held_out = (
        known.features
        if known.features is not None and run_id == options.held_out_run
        else document_features(connection, run_id, some.doc_ids, lake=options.lake, **asked)  # type: ignore[arg-type]
        for run_id, some in zip((options.run_id, options.held_out_run), sets, strict=True)
    )
    known.features = held_out
    return suspect, held_out


def _common(
    first: Features, second: Features
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], tuple[str, ...], tuple[str, ...]]:
    """Both matrices with the variants that both have and that are defined somewhere, their names and families."""
    kept = []
    for i, name in enumerate(first.variants):
        j = second.variants.index(name) if name in second.variants else None
        if j is not None and not (np.isnan(first.values[:, i]).all() and np.isnan(second.values[:, j]).all()):
            kept.append((name, i, j))
    if not kept:
        raise ConfigError("no score is there for both sets: `assay scores --list` lists what there is")
    names, left, right = zip(*kept, strict=True)
    families = tuple(first.families[i] for i in left)
    return first.values[:, list(left)], second.values[:, list(right)], names, families


def _left_out(options: InferenceOptions, first: Features, second: Features) -> Iterator[str]:
    """Scores that only one of two runs has."""
    pairs = ((options.run_id, first, second), (options.second_run, second, first))
    for run_id, here, there in pairs:
        alone = [variant for variant in here.variants if variant not in there.variants]
        if alone:
            yield f"note: only {run_id} has {', '.join(alone)}, so it is left out"


def _texts(
    connection: duckdb.DuckDBPyConnection, options: InferenceOptions, sets: tuple[Documents, Documents]
) -> pa.Table:
    """What the blind baselines read of both sets, labelled 1 and 0."""
    tables = []
    for run_id, some, label in zip((options.run_id, options.second_run), sets, (1.0, 0.0), strict=True):
        labelled = Documents(some.doc_ids, np.full(len(some), label), some.n_bytes)
        tables.append(read_texts(connection, run_id, labelled, COLUMNS, most=BLIND_DOCUMENTS)[1])
    return pa.concat_tables(tables)


def _blind(texts: pa.Table, seed: int) -> tuple[Sequence[BlindResult], str]:
    """The blind baselines on the two sets, or why there are none."""
    try:
        return blind_baseline(texts, BlindSettings(seed=seed)), ""
    except ValueError as error:
        return (), str(error)
