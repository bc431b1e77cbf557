"""Refreshes what a night's run is asked for, after it is scored: each step finds what is there and makes the rest.

    run -> scores kept -> AUROC of labels -> benchmarks in tonight's shards -> verdicts of contamination
        -> numbers of the night (`operators.nights.read`)

A step that cannot be done as asked (no labels, a run that is missing) is lacking, with the reason, and the others go
on; a storage that fails ends the night, which the next one takes up. Done again, a step gives the same, to
rounding: DuckDB's threads add in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb

from jobs.errors import exit_code
from jobs.nightly.past import read_past
from jobs.nightly.refresh_benchmarks import benchmarks_found, overlap_number, verdicts
from jobs.nightly.refreshed import BenchmarkFound, Lack, Refreshed
from operators.catalog import connect_through, lake_files, open_storage
from operators.evaluation.documents import read_documents
from operators.lake import Lake
from operators.nights.estimate import area
from operators.nights.measures import AUROC, UNITS
from operators.nights.read import Number, Reading, read_numbers, read_thresholds
from operators.query import QueryError
from operators.scores import plan_scores
from operators.scores.kept import keep_scores, slices_for
from operators.scores.origin import parse_origin, run_state
from operators.shards import Shard
from operators.storage.remote import redact
from schemas import SCORES
from schemas.nights import SCORE

if TYPE_CHECKING:
    from jobs.nightly.options import NightlyOptions
    from pipelines.nightly.night import Night

_NO_DRAWS = 0  # of a bootstrap: DeLong's interval is what nights are compared by


def refresh(
    options: NightlyOptions,
    lake: Lake,
    night: Night,
    *,
    engine: Mapping[str, Any],
    text: Mapping[str, Any],
    shards: Sequence[Shard] = (),
    torn: Sequence[str] = (),
) -> Refreshed:
    """Bring everything that the night's run is asked for up to date. A night without a run has nothing to refresh.

    Args:
        engine: `engine` and `address`, for comparisons with benchmarks.
        text: the fields of the job's scoring, of which those that say how files are read are taken.
        shards: those that were scored tonight, as they were listed.
        torn: URIs that changed meanwhile: what the run holds of them counts for nothing.

    Raises:
        OSError: the storage failed. QueryError: DuckDB failed on a statement of ours.
    """
    if night.run_id is None:
        return Refreshed()
    lacking: list[Lack] = []
    counted = _counts(lake, night.run_id)
    is_empty = not counted["documents"]  # of shards that hold none: there is nothing to evaluate or to compare
    variants = _try(lacking, "scores", lambda: _keep_scores(options, lake, night)) or ()
    aurocs = [] if is_empty else _try(lacking, "evaluation", lambda: _aurocs(options, lake, night, torn)) or []
    found: list[BenchmarkFound] = []
    for benchmark in () if is_empty else options.benchmarks:
        step = partial(benchmarks_found, options, benchmark, lake, night, engine, text, shards)
        found += filter(None, [_try(lacking, f"benchmark {benchmark.name}", step)])
    judged = _try(lacking, "contamination", lambda: verdicts(options, lake)) or ((), ())
    numbers, thresholds = _numbers(options, lake, night, torn, variants)
    numbers += [*aurocs, *(number for each in found if (number := overlap_number(each)) is not None)]
    return Refreshed(
        numbers=tuple(numbers),
        thresholds=thresholds,
        benchmarks=tuple(found),
        verdicts=judged[0],
        lacking=tuple(lacking),
        notes=(*judged[1], *_about_torn(torn)),
        **counted,
    )


def _try(lacking: list[Lack], what: str, step: Callable[[], Any]) -> Any:
    """What a step gives; where it cannot be done as asked, None, and why is added to what is lacking."""
    try:
        return step()
    except ValueError as error:
        if exit_code(error) != 2:
            raise
        lacking.append(Lack(what, str(error)))
        return None


def _about_torn(torn: Sequence[str]) -> Iterator[str]:
    if torn:
        yield f"{len(torn)} shards changed while they were scored: their documents are in no number of this night"


# Scores


def _keep_scores(options: NightlyOptions, lake: Lake, night: Night) -> tuple[str, ...]:
    """Keep the scores asked for, unless the lake has all of them of the run as it is; their variants."""
    asked = options.scores
    if asked is None:
        return ()
    run_id = str(night.run_id)
    with _reading(lake, None) as connection:
        plan = plan_scores(
            connection, run_id, asked.scores or None, families=asked.families or None, references=asked.references,
            lake=lake.root,
        )  # fmt: skip
        wanted = {request.variant for request in plan.requests}
        totals = lake.read_run(run_id).get("totals") or {}
        if plan.requests and not wanted <= _kept(lake, run_id):
            slices = slices_for(plan, int(totals.get("tokens", 0)), int(totals.get("documents", 0)))
            keep_scores(lake, connection, plan, slices)
    return tuple(sorted(wanted))


def _kept(lake: Lake, run_id: str) -> set[str]:
    """Variants that the lake keeps of the run as it is now."""
    state = run_state(lake.read_run(run_id))
    variants: set[str] = set()
    for part in lake.parts(SCORES.name, run_id):
        with lake.storage.parquet(part.path) as file:
            origin = parse_origin(file.schema_arrow)
        if origin.states.get(run_id) == state:
            variants.update(origin.variants)
    return variants


# Evaluation


def _aurocs(options: NightlyOptions, lake: Lake, night: Night, torn: Sequence[str]) -> list[Number]:
    """The AUROC of every score asked for, of the run's documents with a label outside torn shards."""
    from jobs.evaluate.request import EvaluateOptions
    from jobs.evaluate.run import evaluate_labelled

    asked = options.evaluation
    if asked is None:
        return []
    request = EvaluateOptions(
        lake.root, str(night.run_id), families=asked.families, scores=asked.scores, references=asked.references,
        label=asked.label, cluster=asked.cluster, draws=_NO_DRAWS, storage_options=lake.storage_options,
    )  # fmt: skip
    documents = read_documents(
        lake.root, request.run_id, label=_label(asked.label, torn), cluster=asked.cluster,
        storage_options=lake.storage_options,
    )  # fmt: skip
    found = evaluate_labelled(request, documents).evaluations
    return [
        Number(AUROC, SCORE, each.name, UNITS[AUROC],
               area(each.auroc, each.auroc_interval.low, each.auroc_interval.high, each.n_positive + each.n_negative))
        for each in found
        if each.n_positive and each.n_negative
    ]  # fmt: skip


def _label(label: str, torn: Sequence[str]) -> str:
    """The label asked for, NULL in torn shards; names of shards stand in it as literals of SQL."""
    if not torn:
        return label
    names = ", ".join("'" + uri.replace("'", "''") + "'" for uri in torn)
    return f"case when source in ({names}) then null else (\n{label}\n)::double end"


# Numbers


def _numbers(
    options: NightlyOptions, lake: Lake, night: Night, torn: Sequence[str], variants: Sequence[str]
) -> tuple[list[Number], Mapping[str, float]]:
    """The numbers of the night, and thresholds: of the first night of its baseline, or else its own."""
    watch, run_id = options.watch, str(night.run_id)
    past = read_past(lake, options.name, night.date, since=night.baseline, most=watch.nights)
    there = set(lake.run_ids())
    earlier = [f"{options.name}-{each.date}" for each in past][-watch.repeats_nights :] if watch.repeats_nights else []
    earlier = [each for each in earlier if each in there]
    thresholds = next((each.thresholds for each in past if each.thresholds), {})
    with _reading(lake, [*earlier, run_id]) as connection:
        reading = Reading(
            run_id, torn, watch.domains, watch.tokenizer, earlier if watch.repeats else None, variants, thresholds
        )
        numbers = read_numbers(connection, reading)
        return numbers, thresholds or read_thresholds(connection, run_id, torn)


def _counts(lake: Lake, run_id: str) -> dict[str, Any]:
    """What the run holds, by its ledger; reasons of its rejects, most first."""
    totals = lake.read_run(run_id).get("totals") or {}
    sql = "select reason, count(*) from rejects where run_id = $run_id group by reason order by count(*) desc, reason"
    with _reading(lake, [run_id]) as connection:
        reasons = dict(connection.execute(sql, {"run_id": run_id}).fetchall())
    counts = {name: int(totals.get(name, 0)) for name in ("documents", "rejects", "tokens")}
    return {**counts, "reasons": reasons}


@contextmanager
def _reading(lake: Lake, runs: Sequence[str] | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views of some runs, for statements of ours."""
    storage = open_storage(lake.root, lake.storage_options)
    files = lake_files(storage)
    try:
        with (
            connect_through(storage, files, runs, macros=False) as connection,
            files.own_errors() if files is not None else nullcontext(),
        ):
            connection.execute("set enable_progress_bar = false")
            yield connection
    except duckdb.Error as error:
        raise QueryError(redact(str(error), lake.storage_options)) from None
