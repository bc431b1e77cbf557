"""`assay scores`: computes a run's scores, keeps them in the lake, and says what is missing and what would make it.

    run -> plan (what it gives, what it lacks) -> ranges of doc_id -> a file a family -> a line a variant -> what to run

`--list` shows every score there is, without a lake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.errors import printable
from jobs.query import check_lake, print_table
from pipelines.config import ConfigError
from pipelines.logs import configure_logs

if TYPE_CHECKING:
    import duckdb

    from operators.lake import Lake
    from operators.score_cards import Score
    from operators.scores import Missing, ScorePlan
    from operators.scores.kept import Kept

_SUMMARY = """
select family, variant, count(*) as documents, count(*) - count(value) as undefined,
  min(value) as "min", median(value) as "median", max(value) as "max"
from scores
where run_id = $run_id and list_contains($variants::varchar[], variant)
group by family, variant
order by list_position($variants::varchar[], variant)
"""


def run_scores(
    lake: str,
    run_id: str,
    *,
    families: Sequence[str] = (),
    scores: Sequence[str] = (),
    references: Sequence[str] = (),
    detectors: Sequence[str] = (),
    force_detectors: bool = False,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Run the verb: everything the run can give, or what is named by families, scores and detectors.

    `force_detectors`: apply them also to a run of another model.

    Raises:
        ConfigError: there is no lake or no such run, or the run is not finished.
        ScoreError: what is asked for by name does not exist, or cannot be had from this run.
        QueryError: DuckDB failed on a statement.
    """
    import duckdb

    from operators.catalog import connect_through, lake_files, open_storage
    from operators.detectors import apply
    from operators.lake import Lake
    from operators.query import QueryError
    from operators.scores import plan_scores
    from operators.scores.kept import keep_detector
    from operators.storage.remote import redact

    configure_logs()
    check_lake(lake, options)
    store = Lake(lake, options)
    totals, given = _finished_run(store, run_id), dict(options) if options else None
    files = lake_files(open_storage(lake, options))
    chosen = {"names": scores or None, "families": families or None}
    if detectors and not (scores or families):
        chosen = {"names": [], "families": None}
    try:
        with (
            connect_through(open_storage(lake, options), files, macros=False) as connection,
            files.own_errors() if files is not None else nullcontext(),
        ):
            connection.execute("set enable_progress_bar = false")
            plan = plan_scores(connection, run_id, references=references, lake=lake, **chosen)  # type: ignore[arg-type]
            kept = _keep(store, connection, plan, totals)
            how: dict[str, Any] = {
                "references": references,
                "force": force_detectors,
                "lake": lake,
                "storage_options": given,
            }
            kept += [keep_detector(store, run_id, apply(each, connection, run_id, **how)) for each in detectors]
            _say(connection, run_id, kept, plan.missing)
    except duckdb.Error as error:
        raise QueryError(redact(str(error), options)) from None


def _finished_run(lake: Lake, run_id: str) -> Mapping[str, Any]:
    """The totals of a run that is finished."""
    from operators.scores.variants import did_you_mean

    known = lake.run_ids()
    if run_id not in known:
        near = did_you_mean(run_id, known) or f": it holds {', '.join(known) or 'none'}"
        raise ConfigError(f"no run {run_id!r} in {lake.root}{near}")
    ledger = lake.read_run(run_id)
    state = ledger.get("state")
    if state != "finished":
        raise ConfigError(
            f"run {run_id!r} is {state}: scores of a part of it would be kept as those of the whole. "
            "Its `assay score` command goes on where it stopped"
        )
    totals = ledger.get("totals")
    return totals if isinstance(totals, dict) else {}


def _keep(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    plan: ScorePlan,
    totals: Mapping[str, Any],
) -> list[Kept]:
    from operators.scores.kept import keep_scores, slices_for

    slices = slices_for(plan, int(totals.get("tokens", 0)), int(totals.get("documents", 0)))
    return keep_scores(lake, connection, plan, slices) if plan.requests else []


def _say(connection: duckdb.DuckDBPyConnection, run_id: str, kept: Sequence[Kept], missing: Sequence[Missing]) -> None:
    variants = [variant for each in kept for variant in each.variants]
    if variants:
        values = {"run_id": run_id, "variants": variants}
        summary = connection.sql(_SUMMARY, params=values).to_arrow_table()
        print_table(summary)
        _say_undefined(summary)
    for each in kept:
        print(f"kept: {each.path}, {each.rows:,} row{'s' * (each.rows != 1)}")
        if each.dropped:
            print(f"      it replaces a file that also had {printable(', '.join(each.dropped))}")
    causes: dict[tuple[str, str], list[str]] = {}
    for lack in missing:
        causes.setdefault((lack.why, lack.command), []).append(lack.score)
    if causes:
        print("\nnot computed:")
    for (why, command), names in causes.items():
        print(f"  {', '.join(names)}: {printable(why)}\n    {printable(command)}")


def _say_undefined(summary: pa.Table) -> None:
    names = [row["variant"] for row in summary.to_pylist() if row["undefined"] == row["documents"]]
    if names:
        said = printable(", ".join(names))
        print(f"undefined for every document: {said} (`assay scores --list --format markdown` says when)")


# The list


def list_scores(families: Sequence[str], fmt: str) -> None:
    """Print every score, or those of some families: as a table, JSON lines, or Markdown.

    Raises:
        ConfigError: a family that is none.
    """
    from operators.score_cards import load_scores
    from operators.score_cards.markdown import FAMILIES, scores_markdown
    from operators.scores.variants import did_you_mean

    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        faults = "; ".join(f"no family {name!r}{did_you_mean(name, FAMILIES)}" for name in unknown)
        raise ConfigError(f"{faults}. The families: {', '.join(FAMILIES)}")
    wanted = families or FAMILIES
    cards = sorted(
        (card for card in load_scores().values() if card.family in wanted),
        key=lambda card: (FAMILIES.index(card.family), card.name),
    )
    if fmt == "markdown":
        print(scores_markdown(cards), end="")
    elif fmt == "json":
        for card in cards:
            print(json.dumps(_described(card), ensure_ascii=False))
    else:
        rows = [{name: row[name] for name in _COLUMNS} for row in map(_described, cards)]
        print_table(pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in _COLUMNS])))


_COLUMNS = ("family", "score", "formula", "higher", "needs", "source")


def _described(card: Score) -> dict[str, Any]:
    from operators.score_cards.markdown import needs

    return {
        "score": card.name,
        "family": card.family,
        "row": card.row,
        "formula": card.formula,
        "higher": card.higher_means,
        "needs": needs(card),
        "parameters": [
            {
                "name": p.name,
                "type": p.type,
                "default": p.default,
                "range": None if p.range is None else str(p.range),
                "description": p.description,
            }
            for p in card.settings
        ],
        "companions": [
            {"name": c.name, "type": c.type, "kind": c.kind, "transform": c.transform, "such_as": c.such_as}
            for c in card.companions
        ],
        "reads": {table: list(columns) for table, columns in card.reads.items()},
        "returns": [{"name": name, "type": kind, "unit": card.units.get(name, "")} for name, kind in card.returns],
        "source": card.source,
        "arxiv": list(card.arxiv),
        "note": card.note,
    }
