"""`assay bench query`: how fast a lake answers, in tokens/s, against the plain GROUP BY that any answer must cost.

    made-up statistics -> PartWriter (a run's own writer) -> a lake -> each question in turn, results beside speed

The statistics only have the shape of real ones (skewed entropies, a hundredth of certain tokens, heavy-tailed ranks):
speed depends on the lengths of documents and the number of different values, not on what the text says. Lengths are
log-normal around 250 tokens, and one document in ten thousand has 100,000.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.bench.measure import peak_extra_bytes, record, show, take_turns

RUN = "bench"
BLOCK_TOKENS = 1 << 20
LONG_TOKENS, LONG_SHARE = 100_000, 1e-4
MEDIAN_TOKENS, SPREAD = 250, 0.8  # of the log-normal lengths; the spread is that of their logarithm
TOKEN_BYTES = 5

_MEMBERSHIP = ("loss", "zlib", "min_k", "min_k_plus_plus")
_WHERE = f"where run_id = '{RUN}'"

Ints = npt.NDArray[np.int64]


def bench_query(n_tokens: int, rounds: int) -> None:
    """Make a lake of about `n_tokens` tokens in a temporary folder and time every question on it `rounds` times."""
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        documents, tokens = make_lake(f"{scratch}/lake", n_tokens)
        written = tokens / (time.perf_counter() - started) / 1e6
        questions = _questions()
        with _open(f"{scratch}/lake") as connection:
            results = {name: _answer(connection, sql) for name, sql in questions.items()}
            run = {name: _ask(connection, sql) for name, sql in questions.items()}
            timings = take_turns(run, rounds)
        peaks = {name: peak_extra_bytes(_prepare, f"{scratch}/lake", sql) for name, sql in questions.items()}
    floor = timings["plain GROUP BY"]
    rows, report = [], {}
    for name, timing in timings.items():
        speed = tokens / timing.median / 1e6
        defined, total = results[name]
        report[name] = {
            "mtokens": speed, "seconds": timing.seconds, "spread": timing.spread, "over_group_by": timing.ratio(floor),
            "peak_bytes": peaks[name], "defined": defined, "sum": total,
        }  # fmt: skip
        rows.append([name, f"{speed:,.1f}", f"{timing.spread:.0%}", f"{timing.ratio(floor):.2f}",
                     f"{peaks[name] / 2**20:,.0f}", f"{defined:,}", f"{total:.6f}"])  # fmt: skip
    title = f"{tokens:,} tokens in {documents:,} documents, written at {written:.1f} M tokens/s"
    show(title, ["question", "M tokens/s", "spread", "x GROUP BY", "peak MiB", "defined", "sum"], rows)
    config = {"tokens": tokens, "documents": documents, "rounds": rounds, "threads": os.cpu_count()}
    record("query", report | {"write_mtokens": written}, **config)


def _questions() -> dict[str, str]:
    """Each question as one SELECT of scores; those over the tokens do not see the roll-ups."""
    from operators.scores import load_scores

    cards = load_scores()

    def of_tokens(name: str, columns: str = "score") -> str:
        card = cards[name]
        values = card.bind(run_id=f"'{RUN}'")
        sql = card.body
        for parameter in card.parameters:
            sql = sql.replace(f"${parameter.name}", str(values[parameter.name]).lower())
        return f"select {columns} from ({sql})"

    everything = ", ".join(cards["all_scores"].document_scores)
    return {
        "plain GROUP BY": f"select avg(logprob) as score from tokens {_WHERE} group by doc_id",
        "loss": of_tokens("loss"),
        "min_k": of_tokens("min_k"),
        "min_k_plus_plus": of_tokens("min_k_plus_plus"),
        "membership, one scan": of_tokens("all_scores", ", ".join(_MEMBERSHIP)),
        "all scores, one scan": of_tokens("all_scores", everything),
        "all scores, kept": f"select {everything} from all_scores('{RUN}')",
    }


def _summed(sql: str) -> str:
    """One row: how many scores are defined, and the sum of the finite ones; that makes DuckDB compute all of them."""
    return f"""
        select count(value), sum(value) filter (isfinite(value))
        from (unpivot ({sql}) on columns(*) into name _ value value)"""


def _answer(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, float]:
    ((defined, total),) = connection.execute(_summed(sql)).fetchall()
    return int(defined), math.nan if total is None else round(float(total), 6)


def _ask(connection: duckdb.DuckDBPyConnection, sql: str) -> Callable[[], Any]:
    return lambda: _answer(connection, sql)


def _prepare(lake: str, sql: str) -> Callable[[], Any]:
    """A question in a process of its own, for its peak memory."""
    return _ask(_open(lake), sql)


def _open(lake: str) -> duckdb.DuckDBPyConnection:
    from operators.catalog import connect

    connection = connect(lake)
    connection.execute("set enable_progress_bar = false")
    return connection


# The lake


def make_lake(root: str, n_tokens: int, seed: int = 0) -> tuple[int, int]:
    """Write a run of at least `n_tokens` tokens; its numbers of documents and tokens."""
    from operators.lake import Lake
    from operators.write import PartWriter, WriteOptions

    lake = Lake(root)
    writer = PartWriter(WriteOptions(lake, RUN))
    rng = np.random.default_rng(seed)
    documents = tokens = 0
    for lengths in _lengths(rng, n_tokens):
        writer(_block(rng, lengths, documents))
        documents, tokens = documents + len(lengths), tokens + int(lengths.sum())
    lake.write_run(RUN, {"run_id": RUN, "state": "interrupted"})
    return documents, tokens


def _lengths(rng: np.random.Generator, n_tokens: int) -> Iterator[Ints]:
    """Lengths of the documents of each block."""
    while n_tokens > 0:
        goal = min(n_tokens, BLOCK_TOKENS)
        drawn = rng.lognormal(math.log(MEDIAN_TOKENS), SPREAD, goal // 100 + 1).astype(np.int64) + 1
        drawn[rng.random(len(drawn)) < LONG_SHARE] = LONG_TOKENS
        lengths = drawn[: int(np.searchsorted(np.cumsum(drawn), goal)) + 1]
        yield lengths
        n_tokens -= int(lengths.sum())


def _block(rng: np.random.Generator, lengths: Ints, first_row: int) -> pa.Table:
    """A scored block of documents of these lengths, in the flow's schema; rows of the source go on at `first_row`."""
    from schemas import flow

    n, schema = int(lengths.sum()), flow.scored()
    starts = np.cumsum(lengths) - lengths
    position = np.arange(n) - np.repeat(starts, lengths)
    tokens = {
        "token_id": rng.integers(0, 50_000, n), "byte_start": TOKEN_BYTES * position,
        "n_bytes": np.full(n, TOKEN_BYTES), **_statistics(rng, n),
    }  # fmt: skip
    offsets = pa.array(np.append(starts, n))
    unscored = {"logprob", "entropy", "logprob_std", "rank"}
    columns = {}
    for name, values in tokens.items():
        mask = position == 0 if name in unscored else None
        item = schema.field(name).type.value_type
        columns[name] = pa.LargeListArray.from_arrays(offsets, pa.array(values, mask=mask).cast(item))
    rows = np.arange(first_row, first_row + len(lengths))
    columns |= {"row": pa.array(rows), "key": pa.array([f"document {row}" for row in rows])}
    columns["source"] = pa.repeat("bench", len(rows))
    columns["text"] = pa.array(["word " * length for length in lengths.tolist()])
    filled = {f.name: columns.get(f.name, pa.nulls(len(rows), f.type)) for f in schema}
    return pa.table(filled).cast(schema)


def _statistics(rng: np.random.Generator, n: int) -> dict[str, npt.NDArray[Any]]:
    """Per-token statistics of plausible shape, `[n]` each."""
    entropy = rng.gamma(0.9, 2.2, n)
    deviation = 0.9 * np.sqrt(entropy) + 0.2 * entropy * rng.random(n)
    likely = rng.random(n) < 0.5
    loss = np.where(likely, 0.8 * entropy * rng.random(n), rng.exponential(1.0, n) * (entropy + 0.05))
    certain = rng.random(n) < 0.01
    for values in (entropy, deviation, loss):
        values[certain] = 0.0
    rank = 1 + np.floor(np.expm1(np.minimum(loss, 10.0)) * rng.random(n))
    return {"logprob": -loss, "entropy": entropy, "logprob_std": deviation, "rank": rank}
