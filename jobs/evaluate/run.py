r"""`assay evaluate`: how well the scores of a run tell its labelled documents apart, and what that may be worth.

    documents, labels --> scores --> label 1 against 0: intervals, adjusted tests, matched lengths --> table, CSV, JSON
                      \-> texts ---> blind baselines: what a classifier sees that never sees the model
                      \-> scores of unlabelled documents against label 0: conformal p-values, BH --> a list

Nothing is chosen here: scores come oriented, every one that was tested counts in the adjusted p-values.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from jobs.evaluate.output import show_labelled, show_selection
from jobs.evaluate.request import (
    EvaluateOptions,
    check_baseline,
    check_clusters,
    check_request,
    counted,
    no_classes,
)
from jobs.evaluate.results import Labelled, Selection
from jobs.output import choose_format
from jobs.query import check_lake, check_run
from operators.blind import COLUMNS, BlindResult, BlindSettings, blind_baseline
from operators.evaluation import (
    DRAWS,
    Floats,
    benjamini_hochberg,
    bh_adjusted,
    conformal_p_values,
    evaluate,
    match_lengths,
    matched_auroc,
)
from operators.evaluation.documents import Documents, read_documents, read_keys, read_texts
from operators.evaluation.run_scores import RunScores, reading, run_scores
from operators.lake import Lake
from operators.query import QueryError
from pipelines.config import ConfigError

BLIND_DOCUMENTS = 10_000  # of a class: a blind baseline of that many is as sure as it needs to be
FDR = 0.1  # of a selection, where none is asked for
_DRAWN_CELLS = 40_000_000  # draws times documents of a score: one or two seconds each
_FEWEST_DRAWS = 200  # that a percentile of 2.5 % can be taken of


def run_evaluate(options: EvaluateOptions, fmt: str | None, output: Path | None, figure: Path | None) -> None:
    """Evaluate, and print or write what was found; `fmt` None: as the name of `output` ends, else a table.

    Raises:
        ConfigError: no such lake or run; the labels do not allow what is asked; a level is not a share.
        ScoreError: as `operators.scores.plan_scores`.
        QueryError: the label's expression failed.
    """
    check_request(options, output, figure)
    choose_format(fmt, output)
    check_lake(options.lake, options.storage_options)
    check_run(options.lake, options.run_id, options.storage_options)
    documents = _documents(options)
    if options.held_out or _only_held_out(documents):
        show_selection(select_members(options, documents), fmt, output)
        return
    if options.fdr is not None or options.smooth:
        raise ConfigError(
            "--fdr and --smooth are of a selection among documents without a label: add --held-out, or leave them out"
        )
    result = evaluate_labelled(options, documents)
    if figure is not None:
        from jobs.evaluate.figure import draw_roc

        draw_roc(figure, result.values, result.documents.labels, result.evaluations)
    show_labelled(result, fmt, output)


def evaluate_labelled(options: EvaluateOptions, documents: Documents) -> Labelled:
    """Label 1 against label 0, by every score.

    Raises:
        ConfigError: a class is empty or all of one cluster, there is no score, or none is called like the baseline.
        ScoreError: as `operators.scores.plan_scores`.
    """
    positives, negatives = documents.count(1), documents.count(0)
    if not positives or not negatives:
        raise ConfigError(no_classes(options, documents))
    known = documents.where(~np.isnan(documents.labels))
    check_clusters(options, known)
    with reading(options.lake, options.storage_options) as connection:
        scores = _scores(options, known, connection)
        columns = scores.columns()
        check_baseline(options, columns)
        blind, why_not = _blind(options, known, connection)
        state = _state(options.run_id, connection)
    draws = _draws(len(known)) if options.draws is None else options.draws
    try:
        evaluations = evaluate(
            columns, known.labels, clusters=known.clusters, baseline=options.baseline, levels=options.levels,
            draws=draws, seed=options.seed,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from None
    pairs = match_lengths(known.n_bytes, known.labels, seed=options.seed)
    matched = {name: matched_auroc(values, known.labels, pairs, known.clusters) for name, values in columns.items()}
    return Labelled(
        run_id=options.run_id,
        state=state,
        label=options.label,
        cluster=options.cluster,
        documents=known,
        values=columns,
        evaluations=evaluations,
        matched=matched,
        n_pairs=len(pairs),
        blind=blind,
        no_blind=why_not,
        missing=scores.missing,
        draws=draws,
        seed=options.seed,
        n_unlabelled=len(documents) - len(known),
    )


def select_members(options: EvaluateOptions, documents: Documents) -> Selection:
    """Unlabelled documents that score too high for held-out ones (label 0), by every score.

    Raises:
        ConfigError: there is no document of label 0, or none without a label; or clusters are asked for.
        ScoreError: as `operators.scores.plan_scores`.
    """
    held_out, asked = documents.labels == 0, np.isnan(documents.labels)
    if not held_out.any() or not asked.any():
        raise ConfigError(
            f"{counted(documents)}: --held-out compares documents without a label with those of label 0, "
            'and needs both. Give held-out documents label 0, or say where they are: --label "case when domain = '
            "'held-out' then 0 end\""
        )
    if options.cluster is not None:
        raise ConfigError(
            "--cluster: p-values of documents against held-out ones hold for documents drawn one by one; leave it out"
        )
    fdr = FDR if options.fdr is None else options.fdr
    compared = Documents(documents.doc_ids, np.where(asked, 1.0, documents.labels), documents.n_bytes)
    with reading(options.lake, options.storage_options) as connection:
        scores = _scores(options, documents, connection)
        blind, why_not = _blind(options, compared.where(held_out | asked), connection)
        columns, wanted = scores.columns(), documents.doc_ids[asked]
        seed = options.seed if options.smooth else None
        p_values = {name: _conformal(values[held_out], values[asked], seed) for name, values in columns.items()}
        selected = {name: benjamini_hochberg(p, fdr) for name, p in p_values.items()}
        keys = read_keys(connection, options.run_id, wanted[np.any([*selected.values()], axis=0)])
    return Selection(
        run_id=options.run_id,
        fdr=fdr,
        smoothed=options.smooth,
        doc_ids=wanted,
        keys=keys,
        calibration={name: values[held_out] for name, values in columns.items()},
        values={name: values[asked] for name, values in columns.items()},
        p_values=p_values,
        adjusted={name: bh_adjusted(p) for name, p in p_values.items()},
        selected=selected,
        missing=scores.missing,
        blind=blind,
        no_blind=why_not,
    )


def _conformal(calibration: Floats, values: Floats, seed: int | None) -> Floats:
    """P-values of a score, all undefined where it is for every document of label 0."""
    if np.isnan(calibration).all():
        return np.full(values.size, np.nan)
    return conformal_p_values(calibration, values, seed=seed)


def _draws(documents: int) -> int:
    draws = min(DRAWS, _DRAWN_CELLS // documents)
    return draws if draws >= _FEWEST_DRAWS else 0


def _documents(options: EvaluateOptions) -> Documents:
    try:
        return read_documents(
            options.lake, options.run_id, label=options.label, cluster=options.cluster,
            storage_options=options.storage_options,
        )  # fmt: skip
    except QueryError as error:
        raise QueryError(f"--label {options.label!r}: {error}") from None
    except ValueError as error:
        if type(error) is not ValueError:  # one of ours, with its own meaning
            raise
        raise ConfigError(str(error)) from None


def _only_held_out(documents: Documents) -> bool:
    """Whether the labels allow conformal selection and nothing else."""
    return documents.count(0) > 0 and documents.count(1) == 0 and bool(np.isnan(documents.labels).any())


def _state(run_id: str, connection: duckdb.DuckDBPyConnection) -> str:
    ((state,),) = connection.execute("select state from runs where run_id = $run_id", {"run_id": run_id}).fetchall()
    return str(state)


def _scores(options: EvaluateOptions, documents: Documents, connection: duckdb.DuckDBPyConnection) -> RunScores:
    scores = run_scores(
        Lake(options.lake, options.storage_options), connection, options.run_id, documents.doc_ids,
        names=options.scores, families=options.families, references=options.references,
    )  # fmt: skip
    if not scores.names:
        why = "; ".join(map(str, scores.missing)) or "`assay scores --list` lists what there is"
        raise ConfigError(f"run {options.run_id!r} gives none of the scores asked for: {why}")
    return scores


def _blind(
    options: EvaluateOptions, known: Documents, connection: duckdb.DuckDBPyConnection
) -> tuple[list[BlindResult], str]:
    """The blind baselines, or why there are none."""
    some, rows = read_texts(connection, options.run_id, known, COLUMNS, most=BLIND_DOCUMENTS)
    try:
        return blind_baseline(rows, BlindSettings(seed=options.seed), some.clusters), ""
    except ValueError as error:
        return [], str(error)
