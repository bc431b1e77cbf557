"""Runs that are ledgers alone, and counted corpora of a few ids: enough to plan scores over.

ledgers.write(lake, "monday-lower", transform="lowercase", base_run="monday")
ledgers.write_corpus(lake, "wiki")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import Lake, frequencies_path
from schemas import FREQUENCIES

MODEL, TOKENIZER = "m" * 32, "t" * 32


def write(
    lake: Lake,
    run_id: str,
    *,
    transform: str | None = None,
    base_run: str | None = None,
    state: str = "finished",
    features: Sequence[str] = (),
    model: str = MODEL,
    tokenizer: str = TOKENIZER,
    **more: Any,
) -> None:
    config = {"model": "./my model", "features": list(features), "transform": transform, "base_run": base_run}
    ledger = {
        "run_id": run_id,
        "state": state,
        "config": config,
        "config_digest": "c" * 32,
        "finished_at": "2026-11-21T08:00:00+00:00",
        "model": {"fingerprint": model},
        "tokenizer": {"fingerprint": tokenizer},
    }
    lake.write_run(run_id, ledger | more)


def write_corpus(lake: Lake, corpus: str, tokenizer: str = TOKENIZER, others: Sequence[str] = (), more: int = 0) -> str:
    """Counts of three ids, each by `more` higher; the path of the file, relative to the lake's root."""
    counts = [{"token_id": i, "n": i + more, "n_documents": min(i, 1)} for i in range(3)]
    rows = [{**each, "tokenizer_fingerprint": tokenizer, "other_fingerprints": list(others)} for each in counts]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=FREQUENCIES.arrow()), sink)
    path = frequencies_path(corpus)
    lake.storage.write(path, memoryview(sink.getvalue()))
    return path
