"""The catalog's tables in memory, for score files that are run on rows of one's own.

with score_tables.tables() as connection:
    score_tables.insert(connection, "tokens", [{"run_id": "r", "doc_id": 1, "position": 0, "logprob": None}])
    create_macros(connection)

with score_tables.connect() as connection:
    score_tables.add(connection, "r", {1: draw(rng, 20, prompt_tokens=4)})
    assert score_tables.found(connection, "loss", "r") == near({1: ...})
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from operators.scores import load_scores
from schemas import TABLES

Floats = npt.NDArray[np.float64]

VOCABULARY = 50
TOP = 8  # entries of a list of the most likely tokens

_STATISTICS = (
    "logprob", "entropy", "logprob_std", "rank", "renyi_quarter", "renyi_half", "logprob_uniform", "topk_id",
    "topk_logprob",
)  # fmt: skip


def tables() -> duckdb.DuckDBPyConnection:
    """Every table of `schemas`, empty, the columns of its view included."""
    connection = duckdb.connect()
    for table in TABLES:
        columns = [f"{c.name} {c.sql_type}" for c in table.columns]
        columns += [f"{name} float generated always as ({sql})" for name, sql in table.view_columns.items()]
        connection.execute(f"create table {table.name} ({', '.join(columns)})")
    return connection


connect = tables


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    declared = {t.name: t for t in TABLES}[table]
    schema = pa.schema([(name, declared[name].type) for name in rows[0]])
    connection.register("new", pa.Table.from_pylist(rows, schema=schema))
    connection.execute(f"insert into {table} by name from new")
    connection.unregister("new")


# Documents


@dataclass(frozen=True)
class Document:
    """Columns of `tokens` as lists of one length, the distributions `(T, V)` they were made from, and columns of its
    row of `documents` (`facts`)."""

    columns: Mapping[str, list[Any]]
    p_TV: Floats
    prompt_tokens: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.columns["token_id"])

    def scored(self, completion: bool = False) -> list[int]:
        """The positions that have a prediction: of all tokens, or of those after the prompt."""
        start = (self.prompt_tokens or 0) if completion else 0
        return [t for t, value in enumerate(self.columns["logprob"]) if value is not None and t >= start]

    def values(self, name: str, completion: bool = False) -> Floats:
        """A column at the scored positions."""
        return np.array([self.columns[name][t] for t in self.scored(completion)], np.float64)

    def without(self, *names: str) -> Document:
        return replace(self, columns={**self.columns, **{name: [None] * self.size for name in names}})


def draw(
    rng: np.random.Generator, size: int, *, prompt_tokens: int | None = None, sharpness: float = 1, **facts: Any
) -> Document:
    """A document whose predictions are few and come again (ties), are missing at its first token and at some others.

    `prompt_tokens`: of a run with prompts, None for one without. `sharpness`: inverse temperature.
    """
    kinds = max(1, size // 4)
    p_TV = np.exp(sharpness * rng.normal(0, 2, (kinds, VOCABULARY)))[rng.integers(kinds, size=size)]
    p_TV /= p_TV.sum(1, keepdims=True)
    ids = [int(rng.choice(VOCABULARY, p=p_V) if rng.random() < 0.8 else rng.integers(VOCABULARY)) for p_V in p_TV]
    is_scored = [t > 0 and (t < 3 or rng.random() > 0.02) for t in range(size)]
    rows = [
        _statistics(p_V, v) if kept else [None] * len(_STATISTICS)
        for p_V, v, kept in zip(p_TV, ids, is_scored, strict=True)
    ]
    columns: dict[str, list[Any]] = {name: [row[k] for row in rows] for k, name in enumerate(_STATISTICS)}
    columns["token_id"] = ids
    columns["in_prompt"] = [None if prompt_tokens is None else t < prompt_tokens for t in range(size)]
    return Document(columns, p_TV, prompt_tokens, facts)


def _statistics(p_V: Floats, token: int) -> list[Any]:
    """The columns `_STATISTICS` of one prediction, as float32 keeps them."""
    ln_V = np.log(p_V)
    mean = float((p_V * ln_V).sum())
    top = np.argsort(-p_V, kind="stable")[:TOP]
    quarter, half = (math.log((p_V**order).sum()) / (1 - order) for order in (0.25, 0.5))
    deviation = math.sqrt((p_V * (ln_V - mean) ** 2).sum())
    return [
        *map(_single, (ln_V[token], -mean, deviation)),
        1 + int((p_V > p_V[token]).sum()),
        *map(_single, (quarter, half, ln_V.mean())),
        top.tolist(),
        [_single(x) for x in ln_V[top]],
    ]


def _single(value: float) -> float:
    return float(np.float32(value))


def add(
    connection: duckdb.DuckDBPyConnection, run: str, documents: Mapping[int, Document], bos_prepended: bool = False
) -> None:
    """Insert a finished run of these documents: its tokens, its documents and its row of `runs`."""
    tokens = [
        {"run_id": run, "doc_id": i, "position": t} | {name: values[t] for name, values in d.columns.items()}
        for i, d in documents.items()
        for t in range(d.size)
    ]
    insert(connection, "tokens", tokens)
    rows = [
        {"run_id": run, "doc_id": i, "n_tokens": d.size, "prompt_tokens": d.prompt_tokens, **d.facts}
        for i, d in documents.items()
    ]
    insert(connection, "documents", rows)
    ledger = {"run_id": run, "state": "finished", "vocab_size": VOCABULARY, "bos_prepended": bos_prepended}
    insert(connection, "runs", [ledger])


# Scores


def rows(connection: duckdb.DuckDBPyConnection, name: str, run: str, **values: Any) -> list[tuple[Any, ...]]:
    """All rows that a score gives of a run."""
    card = load_scores()[name]
    return connection.execute(card.sql, card.bind(run_id=run, **values)).fetchall()


def found(connection: duckdb.DuckDBPyConnection, name: str, run: str, **values: Any) -> dict[int, float | None]:
    """A score of documents by doc_id: a row each, of this run."""
    got = rows(connection, name, run, **values)
    assert {run_id for run_id, _, _ in got} <= {run}
    assert len({doc_id for _, doc_id, _ in got}) == len(got)
    return {doc_id: value for _, doc_id, value in got}


def near(values: Mapping[Any, float]) -> dict[Any, Any]:
    """What `found` is to equal: NULL for NaN, else the number within rounding of float64 sums."""
    return {
        key: None if math.isnan(value) else pytest.approx(value, rel=1e-9, abs=1e-9) for key, value in values.items()
    }
