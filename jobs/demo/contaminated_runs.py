"""What the contaminated demo puts into its lake, each as the verb of that name would.

    planted, clean, heldout     the benchmarks: question fed, answer scored              assay score
    ...-swapped-1..             with words of the answers swapped                        ... --transform perturb
    planted-orders, clean-...   their items in other orders                              assay exchangeability
    canaries                    every candidate of every canary                          assay score
    blocks                      items in a row, as the training text holds them          assay score
    blocks-windows              the same, fed 50 tokens at a time                        ... --transform windows
    planted, clean              overlaps of the benchmarks with the training text        assay overlap

All is resumable and is made anew where corpus or model changed. The orders are the large part (200 times the two
benchmarks) and go through the engine asked for; the rest takes less than starting a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.demo.planting import BENCHMARKS, BLOCKS, CANARIES, CLEAN, CORPUS, PLANTED, Planting
from jobs.demo.runs import Say, score_run
from operators.lake import Lake
from pipelines.base_run import inherited
from schemas.extractions import DOCUMENT, STRICT
from schemas.spans import NEAR_VERBATIM, VERBATIM

SUSPECTS = (PLANTED, CLEAN)  # what is audited; the third benchmark is what they are compared with
SWAPS = 3
SHARD_ITEMS = 5  # of a shard whose order is tested; nobody who audits knows where the planted blocks are cut
PERMUTATIONS = 199  # so that the least p-value, 0.005, withstands a correction for the 8 tests of two benchmarks
WINDOWS = f"{BLOCKS}-windows"
PREFIX = SUFFIX = 50  # tokens
MIN_SPAN = 50  # tokens
TOP_K = 40


def orders_run(benchmark: str) -> str:
    """The run with the orders of a benchmark."""
    return f"{benchmark}-orders"


def score_all(planting: Planting, model: Path, lake: Path, say: Say) -> None:
    """Make every run but those of orders."""
    shared = {"lake": str(lake), "model": str(model), "engine": "inline", "id_column": "id", "domain_column": "domain"}
    lists = {"features": ("extremes", "topk"), "top_k": TOP_K, "keep_columns": ("copies",)}
    asked = {"prompt_column": "question", "text_column": "answer"}
    for name in BENCHMARKS:
        score_run({**shared, **lists, **asked, "run_id": name, "input": (str(planting.path(name)),)}, say)
    for fields in _changed(lake, planting):
        score_run(fields, lambda said: None)  # nine alike
    say(f"{', '.join(BENCHMARKS)}: {SWAPS} copies each with words of the answers swapped (assay score --transform ...)")
    secret = {"prompt_column": "line", "text_column": "number", "label_column": "label", "keep_columns": ("copies",)}
    score_run({**shared, **secret, "run_id": CANARIES, "input": (str(planting.path(CANARIES)),)}, say)
    score_run({**shared, **lists, "run_id": BLOCKS, "input": (str(planting.path(BLOCKS)),)}, say)
    windows = {"run_id": WINDOWS, "base_run": BLOCKS, "transform": f"windows:prefix={PREFIX},suffix={SUFFIX}"}
    windows |= {"lake": str(lake), "engine": "inline"}
    score_run(inherited({**windows, "features": lists["features"], "top_k": TOP_K}), say)


def _changed(lake: Path, planting: Planting) -> Iterator[dict[str, Any]]:
    """The swapped copies of every benchmark."""
    for name in planting.benchmarks:
        for copy in range(1, SWAPS + 1):
            swap = {"base_run": name, "transform": f"perturb:kind=swap_words,copy={copy}"}
            yield inherited({"lake": str(lake), "run_id": f"{name}-swapped-{copy}", "engine": "inline", **swap})


def score_orders(planting: Planting, benchmark: str, lake: Path, engine: str, permutations: int, say: Say) -> None:
    """Make the run of a benchmark's orders, as `assay exchangeability` does."""
    from pipelines import orders
    from pipelines.config import ConfigError
    from pipelines.previous import ResumeError

    asked = {"shards": len(planting.benchmarks[benchmark]) // SHARD_ITEMS, "permutations": permutations}
    job = orders.OrdersJob(str(lake), benchmark, orders_run(benchmark), asked, {"engine": engine})
    before = _finished_at(lake, job.run_id)
    try:
        ledger = orders.score_orders(orders.plan_orders(job))
    except (ConfigError, ResumeError):  # the benchmark was dealt or scored anew since
        anew = orders.OrdersJob(job.lake, job.base_run, job.run_id, asked, job.scoring, overwrite=True)
        ledger = orders.score_orders(orders.plan_orders(anew))
    if ledger["finished_at"] == before:
        say(f"{job.run_id}: scored already")
        return
    totals = ledger["totals"]
    counts = f"{totals['documents']:,} orders, {totals['tokens']:,} tokens in {ledger['seconds']:.0f} s"
    say(f"{job.run_id}: {counts} (assay exchangeability)")


def _finished_at(lake: Path, run_id: str) -> str | None:
    store = Lake(str(lake))
    return store.read_run(run_id)["finished_at"] if run_id in store.run_ids() else None


def compare(planting: Planting, benchmark: str, lake: Path) -> Mapping[str, Any]:
    """Search the training text for a benchmark, as `assay overlap` does; what its `job.json` says."""
    from pipelines.overlap import run
    from pipelines.overlap.job import OverlapJob
    from pipelines.overlap.plan import plan_overlap
    from pipelines.previous import ResumeError

    fields: dict[str, Any] = {
        "name": benchmark,
        "lake": str(lake),
        "engine": "inline",
        "answer_column": "answer",
        "corpus": {"input": (str(planting.path(CORPUS)),), "id_column": "id"},
        "benchmark": {"input": (str(planting.path(benchmark)),), "text_column": "question", "id_column": "id"},
    }
    try:
        plan = plan_overlap(OverlapJob.parse(**fields))
    except ResumeError:
        plan = plan_overlap(OverlapJob.parse(**fields, overwrite=benchmark))
    return run.compare(plan)


def keep_memorised(lake: Path) -> None:
    """Find what is memorised of the blocks, as `assay memorization` does, for the report and for queries."""
    from operators.catalog import connect
    from operators.memorization.kept import keep_extractions, keep_spans
    from operators.memorization.search import Search

    store, search = Lake(str(lake)), Search(prefix=PREFIX, suffix=SUFFIX, min_tokens=MIN_SPAN)
    with connect(lake) as connection:
        keep_extractions(store, connection, BLOCKS, STRICT, [WINDOWS], search)
        keep_extractions(store, connection, BLOCKS, DOCUMENT, [BLOCKS], search)
        for kind in (VERBATIM, NEAR_VERBATIM):
            keep_spans(store, connection, BLOCKS, kind, search)
