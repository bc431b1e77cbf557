"""The row of `runs` that a run's ledger, `<lake>/runs/<run_id>.json`, makes: in Python and in SQL, from one list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from schemas import RUNS, Column

# Where each column lies in the ledger.
_LEDGER_PATHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **{name: ((name,),) for name in ("run_id", "state", "created_at", "finished_at", "seconds")},
    **{name: ((name,),) for name in ("assay_version", "config_digest")},
    "model": (("config", "model"),),
    "model_type": (("model", "type"),),
    "model_fingerprint": (("model", "fingerprint"),),
    "vocab_size": (("model", "vocab_size"),),
    "dtype": (("model", "dtype"), ("config", "dtype")),  # what was used, before what was asked for
    "device": (("model", "device"), ("config", "device")),
    "tokenizer_fingerprint": (("tokenizer", "fingerprint"),),
    "bos_prepended": (("tokenizer", "bos_prepended"),),
    **{name: (("config", name),) for name in ("context", "stride", "bos", "special_tokens", "precision", "features")},
    **{name: (("config", name),) for name in ("transform", "base_run", "engine")},
    **{name: (("totals", name),) for name in ("rows_in", "documents", "rejects", "tokens", "scored", "text_bytes")},
}


def runs_row(ledger: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `runs` that a run's ledger makes: every column of `schemas.RUNS`, None where the ledger is silent.

    Timestamps become aware datetimes in UTC. Equal, column by column, to what the `runs` view reads from the file.

    Raises:
        ValueError: the ledger has no `run_id` or no `state`, or a timestamp is not ISO 8601.
    """
    row = {column.name: _ledger_value(ledger, column) for column in RUNS.columns}
    missing = [column.name for column in RUNS.columns if not column.nullable and row[column.name] is None]
    if missing:
        raise ValueError(f"ledger has no {', '.join(missing)}; its keys: {', '.join(sorted(ledger)) or 'none'}")
    return row


def _ledger_value(ledger: Mapping[str, Any], column: Column) -> Any:
    for path in _LEDGER_PATHS[column.name]:
        value: Any = ledger
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            return _as_column(value, column)
    return None


def _as_column(value: Any, column: Column) -> Any:
    if pa.types.is_timestamp(column.type):
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if pa.types.is_string(column.type) and not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)  # as DuckDB prints JSON
    return value


def ledger_sql(column: Column) -> str:
    """The same look-up in SQL, over a column `json`."""
    operator = "->" if pa.types.is_list(column.type) else "->>"
    found = [f"json {operator} '$.{'.'.join(path)}'" for path in _LEDGER_PATHS[column.name]]
    return f"coalesce({', '.join(found)})::{column.sql_type}"
