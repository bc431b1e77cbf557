"""Nights for tests: runs whose numbers are given, and a nightly job that is refreshed and summed up over them.

nights.write_run(lake, "web-2026-11-01", shards=...)       documents over shards, with roll-ups and rejects
nights.keep_past(lake, values)                             a history of one number or several, kept as the nights before
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.nightly.options import NightlyOptions
from operators.lake import Lake
from operators.results import keep_result
from operators.write import PartWriter, WriteOptions
from pipelines.nightly.night import Night
from schemas import flow
from schemas.nights import NIGHT_CHANGES, NIGHT_MEASURES
from schemas.results import NIGHTS

NAME = "web"
FIRST = date(2026, 10, 1)


def day(place: int) -> date:
    return FIRST + timedelta(days=place)


def night(place: int, *, name: str = NAME, run: bool = True, **more: Any) -> Night:
    at = day(place)
    started = datetime(at.year, at.month, at.day, 2, tzinfo=UTC)
    return Night(
        name, at, f"{name}-{at}" if run else None, "finished",
        started=started, finished=started + timedelta(seconds=90), **more,
    )  # fmt: skip


def options(**more: Any) -> NightlyOptions:
    return NightlyOptions.model_validate({"name": NAME, **more})


def write_run(
    lake: Lake,
    run_id: str,
    *,
    shards: int = 10,
    documents: int = 6,
    nats: float = 2.0,
    domains: Sequence[str | None] = ("a", "b"),
    labels: bool = False,
    rejects: int = 0,
    seed: int = 0,
    texts: Mapping[tuple[int, int], str] | None = None,
) -> None:
    """A finished run: `documents` in each of `shards` shards; a token is two bytes, and costs some `nats` each."""
    rng = np.random.default_rng([seed, *run_id.encode()])
    writer = PartWriter(WriteOptions(lake, run_id, ()))
    totals = dict.fromkeys(("documents", "rejects", "tokens", "scored", "text_bytes"), 0)
    for shard in range(shards):
        records = []
        for row in range(documents):
            text = (texts or {}).get((shard, row)) or "".join(map(chr, rng.integers(97, 123, 2 * rng.integers(9, 30))))
            domain = domains[row % len(domains)]
            records.append(_record(rng, run_id, shard, row, text, nats, domain, row % 2 if labels else None))
        records += [{"source": f"s{shard}", "row": documents + i, "reason": "null_text"} for i in range(rejects)]
        for manifest in writer(pa.Table.from_pylist(records, schema=flow.scored(()))).to_pylist():
            totals = {name: count + manifest[name] for name, count in totals.items()}
    ledger: dict[str, Any] = {"run_id": run_id, "state": "finished", "features": [], "config": {"features": []}}
    ledger |= {"totals": totals | {"rows_in": totals["documents"] + totals["rejects"]}, "finished_at": run_id}
    ledger |= {"model": {"fingerprint": "m", "vocab_size": 99}, "tokenizer": {"fingerprint": "t"}, "config_digest": "d"}
    lake.write_run(run_id, ledger)


def _record(
    rng: np.random.Generator, run_id: str, shard: int, row: int, text: str, nats: float, domain: str | None,
    label: int | None,
) -> dict[str, Any]:  # fmt: skip
    size = len(text.encode()) // 2
    better = 0.5 if label else 0.0  # label 1 is better predicted
    logprobs = -rng.gamma(4.0, (nats - better) / 4, size)
    tokens = {"logprob": logprobs, "entropy": np.full(size, 1.0), "logprob_std": np.full(size, 1.0)}
    columns = {name: [None, *tokens[name].tolist()] for name in tokens}
    columns["rank"] = [None, *[1] * size]
    names = flow.statistic_names(())
    return {
        **{name: columns[name] for name in names},
        "source": f"s{shard}", "row": row, "key": f"{run_id}-{shard}-{row}", "text": text, "label": label,
        "domain": domain, "token_id": [0] * (size + 1), "byte_start": [0, *range(0, 2 * size, 2)],
        "n_bytes": [0, *[2] * size],
    }  # fmt: skip


def keep_past(
    lake: Lake,
    values: Sequence[float],
    *,
    error: float = 0.01,
    keys: Sequence[tuple[str, str, str]] = (("bits_per_byte", "all", ""),),
) -> None:
    """Nights from the first on, with these values of each of the numbers."""
    for place, value in enumerate(values):
        same = {
            "nightly": NAME, "date": day(place).isoformat(), "run_id": f"{NAME}-{day(place)}", "value": value,
            "value_low": value - 2 * error, "value_high": value + 2 * error, "confidence": 0.95,
            "unit": "bits per byte", "n": 60, "n_units": 10, "method": "shards", "scale": "identity", "level": value,
            "level_error": error,
        }  # fmt: skip
        rows = [{**same, "measure": measure, "part": part, "subject": subject} for measure, part, subject in keys]
        tables = {
            NIGHT_MEASURES.name: pa.Table.from_pylist(rows, schema=NIGHT_MEASURES.arrow()),
            NIGHT_CHANGES.name: pa.Table.from_pylist([], schema=NIGHT_CHANGES.arrow()),
        }
        keep_result(lake, NIGHTS, f"{NAME}-{day(place)}", tables, settings={}, facts={"thresholds": {"min_k_20": -3.0}})
