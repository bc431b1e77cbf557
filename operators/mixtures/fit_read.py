"""Reads what domain fit needs of a run's documents, sorted by domain, in blocks of one domain each.

    `documents`, its roll-ups --> domain, [B, C] columns of numbers --> blocks of at most BLOCK documents
    `tokens`, one scan, where a part of the run has no roll-ups ------^

A block ends where its domain does, and else after BLOCK documents whatever DuckDB hands over at once, so random
numbers drawn for its documents are the same every time. Memory holds a block; DuckDB sorts on disk what is too much.
Shapes: `B` documents of a block, `C` the columns LOSS .. WORDS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]

BLOCK = 1024  # documents; times 1000 resamples, 8 MB of weights
LOSS, SCORED, FED, BYTES, WORDS = range(5)  # columns: nats, tokens scored and fed, bytes, words
_ROWS = 1 << 16  # handed over at once

_COLUMNS = ("loss", "n_scored", "n_fed", "n_bytes", "n_words")

# A document's row; `order by` puts a domain in one piece, and doc_id makes the order one of its own.
_FROM_ROLLUPS = """
select domain, -logprob_sum as loss, n_scored, n_tokens as n_fed, n_bytes, n_words
from documents
where run_id = $run_id
order by domain nulls last, doc_id
"""

_FROM_TOKENS = """
with scored as (
  select doc_id, -sum(logprob::double) as loss, count(logprob) as n_scored, count(*) as n_fed
  from tokens
  where run_id = $run_id
  group by doc_id
)
select d.domain, s.loss, coalesce(s.n_scored, 0) as n_scored, coalesce(s.n_fed, 0) as n_fed, d.n_bytes, d.n_words
from documents d
left join scored s on s.doc_id = d.doc_id
where d.run_id = $run_id
order by d.domain nulls last, d.doc_id
"""

_ROLLUPS_ANSWER = """
select coalesce(bool_and(n_scored = 0 or logprob_sum is not null), true) from documents where run_id = $run_id
"""


@dataclass(frozen=True)
class Block:
    """Documents of one domain, None for those without: `values_BC`. `loss` is 0 where no token is scored."""

    domain: str | None
    values_BC: Floats


def rollups_answer(connection: duckdb.DuckDBPyConnection, run_id: str) -> bool:
    """Whether the roll-ups of `documents` say all: parts of early versions have none."""
    ((answer,),) = connection.execute(_ROLLUPS_ANSWER, {"run_id": run_id}).fetchall()
    return bool(answer)


def document_blocks(
    connection: duckdb.DuckDBPyConnection, run_id: str, *, from_tokens: bool | None = None
) -> Iterator[Block]:
    """Every document of a run. `connection` is one from `catalog.connect`, and runs nothing else until the last block.

    from_tokens: scan the tokens; None: only where the roll-ups do not answer. Both give the same to rounding.

    Raises:
        duckdb.Error: DuckDB failed on a statement.
    """
    scan = not rollups_answer(connection, run_id) if from_tokens is None else from_tokens
    rows = connection.sql(_FROM_TOKENS if scan else _FROM_ROLLUPS, params={"run_id": run_id})
    yield from blocks(rows.to_arrow_reader(_ROWS))


def blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[Block]:
    """Rows that are sorted by domain, as blocks."""
    held: list[Floats] = []
    current: str | None = None
    for domain, values in _stretches(batches):
        if domain != current:
            yield from _cut(current, held, whole=True)
            current = domain
        held.append(values)
        yield from _cut(current, held, whole=False)
    yield from _cut(current, held, whole=True)


def _stretches(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str | None, Floats]]:
    """Neighbouring rows of one domain, batch by batch."""
    for batch in batches:
        columns = [batch[name].cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) for name in _COLUMNS]
        values = np.stack(columns, axis=1)
        start = 0
        for domain, rows in groupby(batch["domain"].to_pylist()):
            end = start + sum(1 for _ in rows)
            yield domain, values[start:end]
            start = end


def _cut(domain: str | None, held: list[Floats], *, whole: bool) -> Iterator[Block]:
    """Full blocks of what is held, and with `whole` its rest; what is not given stays held."""
    if sum(map(len, held)) < (1 if whole else BLOCK):
        return
    rows = np.concatenate(held)
    end = len(rows) if whole else len(rows) - len(rows) % BLOCK
    for start in range(0, end, BLOCK):
        yield Block(domain, rows[start : min(start + BLOCK, end)])
    held[:] = [rows[end:]] if end < len(rows) else []
