"""`assay bench query`: how fast a lake answers, in tokens/s, against the plain GROUP BY that any answer must cost.

    made-up statistics -> PartWriter (a run's own writer) -> a lake -> each question in turn, results beside speed

The statistics only have the shape of real ones (skewed entropies, a hundredth of certain tokens, heavy-tailed ranks):
speed depends on the lengths of documents and the number of different values, not on what the text says. Lengths are
log-normal around 250 tokens, and one document in ten thousand has 100,000.

A second, smaller lake holds a document of a million tokens. Scores that rank tokens or look for runs of them hold lists
of each document's, so it shows what one can cost; memory beyond that follows the tokens of the run, which
`assay scores` takes by ranges of doc_id.
"""

from __future__ import annotations

import itertools
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

LEAST_RUN = 10  # tokens of a stretch that is told: made-up ranks seldom have longer ones
LONGEST, AROUND_IT = 1_000_000, 0.25  # tokens of the long document, and of the others beside it, as a share of these

_MEMBERSHIP = ("loss", "zlib", "min_k", "min_k_plus_plus", "max_k", "surp", "max_renyi", "polarized_distance")
_IN_LISTS = (
    *("min_k", "min_k_plus_plus", "min_k, seven ratios", "membership, one scan"),
    *("longest_run", "rank_1_runs"),
)
_WHERE = f"where run_id = '{RUN}'"

Ints = npt.NDArray[np.int64]


def bench_query(n_tokens: int, rounds: int) -> None:
    """Make a lake of about `n_tokens` tokens in a temporary folder and time every question on it `rounds` times.

    The lake with the long document is for peak memory alone; its document has at most half of `n_tokens`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        lake, long_lake = f"{scratch}/lake", f"{scratch}/long"
        started = time.perf_counter()
        documents, tokens = make_lake(lake, n_tokens)
        written = tokens / (time.perf_counter() - started) / 1e6
        questions = _questions()
        with _open(lake) as connection:
            results = {name: _answer(connection, sql) for name, sql in questions.items()}
            run = {name: _ask(connection, sql) for name, sql in questions.items()}
            timings = take_turns(run, rounds)
        peaks = {name: peak_extra_bytes(_prepare, lake, sql) for name, sql in questions.items()}
        longest = min(LONGEST, n_tokens // 2)
        make_lake(long_lake, int(longest * (1 + AROUND_IT)), longest=longest)
        long_peaks = {name: peak_extra_bytes(_prepare, long_lake, questions[name]) for name in _IN_LISTS}
    floor = timings["plain GROUP BY"]
    rows, report = [], {}
    for name, timing in timings.items():
        speed = tokens / timing.median / 1e6
        defined, total = results[name]
        report[name] = {
            "mtokens": speed, "seconds": timing.seconds, "spread": timing.spread, "over_group_by": timing.ratio(floor),
            "peak_bytes": peaks[name], "long_peak_bytes": long_peaks.get(name), "defined": defined, "sum": total,
        }  # fmt: skip
        rows.append([name, f"{speed:,.1f}", f"{timing.spread:.0%}", f"{timing.ratio(floor):.2f}", _mib(peaks[name]),
                     _mib(long_peaks.get(name)), f"{defined:,}", f"{total:.6f}"])  # fmt: skip
    title = (
        f"{tokens:,} tokens in {documents:,} documents, written at {written:.1f} M tokens/s; "
        f"long peak: with a document of {longest:,} tokens"
    )
    columns = ["question", "M tokens/s", "spread", "x GROUP BY", "peak MiB", "long peak MiB", "defined", "sum"]
    show(title, columns, rows)
    config = {
        "tokens": tokens, "documents": documents, "longest": longest, "rounds": rounds, "threads": os.cpu_count()
    }  # fmt: skip
    record("query", report | {"write_mtokens": written}, **config)


def _mib(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f"{n_bytes / 2**20:,.0f}"


def _questions() -> dict[str, str]:
    """Each question as one SELECT of scores; those over the tokens do not see the roll-ups."""
    from operators.score_cards import literal, load_scores

    cards = load_scores()

    def of_tokens(name: str, columns: str = "score", **chosen: Any) -> str:
        card = cards[name]
        values = card.bind(run_id=RUN, **chosen)
        sql = card.body
        for parameter in card.parameters:
            sql = sql.replace(f"${parameter.name}", literal(values[parameter.name]))
        return f"select {columns} from ({sql})"

    together = cards["all_scores"].document_scores
    rolled_up = {name: cards[name].rollup for name in together if cards[name].rollup}  # at their defaults, so as kept
    return {
        "plain GROUP BY": f"select avg(logprob) as score from tokens {_WHERE} group by doc_id",
        "loss": of_tokens("loss"),
        "min_k": of_tokens("min_k"),
        "min_k_plus_plus": of_tokens("min_k_plus_plus"),
        "min_k, seven ratios": of_tokens("min_k_ratios"),
        "min_k_window": of_tokens("min_k_window"),
        "membership, one scan": of_tokens("all_scores", ", ".join(_MEMBERSHIP)),
        "all scores, one scan": of_tokens("all_scores", ", ".join(together)),
        "longest_run": of_tokens("longest_run"),
        "rank_1_runs": of_tokens("rank_1_runs", "n_tokens, logprob_sum", least=LEAST_RUN),
        "extraction": of_tokens("extraction", "n_greedy, is_extractable::int as is_extractable, logprob_sampled"),
        "rolled-up scores, one scan": of_tokens("all_scores", ", ".join(rolled_up)),
        "rolled-up scores, kept": f"""
            select {", ".join(f'{rollup} as "{name}"' for name, rollup in rolled_up.items())}
            from documents {_WHERE}""",
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


def make_lake(root: str, n_tokens: int, seed: int = 0, longest: int = 0) -> tuple[int, int]:
    """Write a run of at least `n_tokens` tokens, the first `longest` in one document; its documents and tokens."""
    from operators.lake import Lake
    from operators.write import PartWriter, WriteOptions

    lake = Lake(root)
    writer = PartWriter(WriteOptions(lake, RUN))
    rng = np.random.default_rng(seed)
    documents = tokens = 0
    first = [np.array([longest])] if longest else []
    for lengths in itertools.chain(first, _lengths(rng, n_tokens - longest)):
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
