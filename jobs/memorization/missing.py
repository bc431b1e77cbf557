"""What a run lacks for `assay memorization`, with the command that makes it; and what its numbers must be read with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.commands import score_command
from operators.memorization.search import Search
from operators.memorization.windows_runs import WindowsRun
from operators.scores.missing import transformed_run_id
from operators.transform import parse_transform

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Lack:
    """Something that could not be found out. `command`: what makes it."""

    what: str
    why: str
    command: str


def missing_windows(
    lake: str, run_id: str, search: Search, every: Sequence[WindowsRun], used: Sequence[WindowsRun]
) -> Iterator[Lack]:
    """Strict extraction, where no run of strict windows fits; and what of it is not known."""
    spec = parse_transform(f"windows:prefix={search.prefix},suffix={search.suffix}").canonical
    lists = f" --features topk --top-k {search.top_k}" if search.top_k else ""
    if not used:
        of_size = [run for run in every if (run.prefix, run.suffix) == (search.prefix, search.suffix)]
        why = "; ".join(filter(None, (run.fault(search) for run in of_size or every)))
        yield Lack(
            "strict extraction",
            f"no finished run of its windows, {search.prefix} + {search.suffix} tokens{f' ({why})' if why else ''}",
            _score(lake, run_id, spec, transformed_run_id(run_id, spec), lists),
        )
    for run in used:
        if search.top_k and "topk" not in run.features:
            name = f"{run.run_id}-top{search.top_k}"[:128]
            offset = parse_transform(f"{spec.rpartition(',offset')[0] or spec},offset={run.offset}").canonical
            why = f"run {run.run_id} has no top-k lists"
            yield Lack("strict (n, p)-extraction", why, _score(lake, run_id, offset, name, lists))


def _score(lake: str, run_id: str, spec: str, name: str, more: str) -> str:
    return (
        f"assay score --transform {shlex.quote(spec)} --base-run {run_id} --run-id {name} "
        f"--lake {shlex.quote(lake)}{more}"
    )


def missing_lists(lake: str, run_id: str, search: Search, ledger: Mapping[str, Any]) -> Iterator[Lack]:
    """(n, p)-extraction in the document's context under a top-k, where the run's lists do not hold it."""
    if not search.top_k:
        return
    config = ledger.get("config")
    known: Mapping[str, Any] = config if isinstance(config, dict) else {}
    features, length = known.get("features") or (), known.get("top_k")
    if "topk" not in features:
        why = "the run has no top-k lists"
    elif isinstance(length, int) and length < search.top_k:
        why = f"the run's lists hold {length} tokens, sampling is from {search.top_k}"
    else:
        return
    name, groups = f"{run_id}-top{search.top_k}"[:128], dict.fromkeys([*features, "topk"])
    command = score_command(lake, name, known, known.get("input") or ["INPUT"], groups, search.top_k)
    yield Lack("(n, p)-extraction in the document's context", f"{why}: score it again, under another --run-id", command)


def about_run(
    connection: duckdb.DuckDBPyConnection, run_id: str, search: Search, ledger: Mapping[str, Any]
) -> Iterator[str]:
    """What the numbers of a run must be read with: each starts with `warning` or `note`."""
    ((state, features, context, stride, transform, base_run, precision),) = connection.execute(
        "select state, features, context, stride, transform, base_run, precision from runs where run_id = $run_id",
        {"run_id": run_id},
    ).fetchall()
    if state != "finished":
        yield f"warning: run {run_id} is {state}: only what is scored so far is in these numbers"
    if transform is not None:
        yield f"note: run {run_id} is a transform of run {base_run} ({transform}): the texts are as it fed them"
    if not {"extremes", "topk"} & set(features or ()):
        yield (
            "note: the run kept ranks alone, so both tokens of an exact tie count as the greedy choice; --features "
            "extremes tells them apart"
        )
    config = ledger.get("config")
    if isinstance(config, dict) and config.get("prompt_column") is not None and not search.completion:
        yield "note: prompts are searched too, and spans may begin in them; --completion leaves them out"
    if precision == "compact":
        off = search.suffix / 1024 * (2 / search.temperature if search.top_k else 1)
        yield (
            "note: log-probs are rounded by up to 1/1024 nat (--precision compact), that of a whole suffix by "
            f"{off:.2g} nats at most; greedy decoding is not touched by it"
        )
    if context is not None and stride is not None and context - stride < search.prefix:
        yield (
            f"note: texts longer than the context of {context:,} tokens were cut into windows: some suffixes see only "
            f"{context - stride:,} tokens, less than a prefix of {search.prefix:,}"
        )
