"""What a network reads of a document: some numbers of each of its first scored tokens.

    tokens of the run --> scored, behind the prompt, the first T of each document --> channels [N, T, C], mask [N, T]

    los_net   z_1 .. z_K   the K largest log-probs of the prediction, z-scored by their own mean and deviation (ddof 1)
              z_token      the log-prob of the token fed, z-scored by the same two
              rank         1 - 2 (rank - 1) / V
              log_rank     1 - 2 ln rank / ln V; not in the paper: among 50,000 ids, `rank` hardly tells the first from
                           the hundredth
    pawn      logprob, entropy, logprob_max, ln rank, mass_above: nats, and the probability of all likelier tokens
              (whether the paper's top-p counts the token itself is open)

Letters: `N` documents, `T` positions, `C` channels, `R` token rows, `K` of top-k, `V` vocabulary.
Sources: LOS-Net, arXiv 2503.14043; PAWN, arXiv 2501.03940.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.detectors.card import DetectorError, Kind, Sequences

Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]

POSITIONS: dict[str, int] = {"los_net": 100, "pawn": 512}  # as in the papers
COLUMNS: dict[str, tuple[str, ...]] = {
    "los_net": ("logprob", "rank", "topk_logprob"),
    "pawn": ("logprob", "entropy", "logprob_max", "rank", "mass_above"),
}
GROUPS = {"los_net": "topk", "pawn": "extremes,nucleus"}  # as `assay score --features` takes them

FLOOR = -100.0  # nats: a log-prob of -inf, which float32 gives to the impossible, as a number
LIMIT = 10.0  # of a z-score: rows of nearly equal log-probs have hardly a deviation
BATCH_BYTES = 1 << 26  # of sequences that are read at once, 6,500 documents of PAWN; several times that meanwhile
_PAWN = ("logprob", "entropy", "logprob_max", "log_rank", "mass_above")

# The first tokens of each document by place; `low` and `high` let DuckDB leave out row groups.
_FIRST_TOKENS = """
with scored as (
  select doc_id, row_number() over (partition by doc_id order by position) - 1 as place, {columns}
  from tokens
  where run_id = $run_id and doc_id between $low and $high and doc_id in (select unnest($ids::bigint[]))
    and logprob is not null and not coalesce(in_prompt, false)
)
select * from scored where place < $positions
"""


@dataclass(frozen=True)
class Batch:
    """`values` [N, T, C], 0 where `mask` [N, T] is false: behind the document's end, or what was not scored."""

    doc_ids: Ids
    values: Values
    mask: Mask


def layout(connection: duckdb.DuckDBPyConnection, run_id: str, kind: Kind, width: int, positions: int = 0) -> Sequences:
    """What a network of this kind reads of this run: channels, positions (0: the papers'), K and V as the run has them.

    Raises:
        DetectorError: the run lacks columns; the message says how to make them.
    """
    positions = positions or POSITIONS[kind]
    if kind == "pawn":
        return Sequences(kind=kind, channels=_PAWN, positions=positions, top_k=0, vocab_size=0, width=width)
    found = connection.execute(
        """select
          (select min(len(topk_logprob)) from tokens where run_id = $run_id and logprob is not null) as top_k,
          (select any_value(vocab_size) from runs where run_id = $run_id) as vocab_size""",
        {"run_id": run_id},
    ).fetchall()
    ((top_k, vocab_size),) = found
    if not top_k:
        raise _missing(run_id, kind)
    if not vocab_size:
        raise DetectorError(f"run {run_id} does not say how large the vocabulary is, which {kind} needs")
    channels = (*(f"z_{i + 1}" for i in range(top_k)), "z_token", "rank", "log_rank")
    return Sequences(
        kind="los_net", channels=channels, positions=positions, top_k=top_k, vocab_size=vocab_size, width=width
    )


def longest_document(connection: duckdb.DuckDBPyConnection, run_id: str) -> int:
    """Scored tokens of the run's longest document, at least 1."""
    sql = "select greatest(1, max(n_scored)) from documents where run_id = $run_id"
    ((longest,),) = connection.execute(sql, {"run_id": run_id}).fetchall()
    return int(longest)


def read_batches(
    connection: duckdb.DuckDBPyConnection, run_id: str, inputs: Sequences, doc_ids: Ids
) -> Iterator[Batch]:
    """The sequences of some documents in the order of doc_id, `BATCH_BYTES` at a time: so much is held.

    Raises:
        DetectorError: the run lacks a column, or its lists are shorter than `top_k`.
    """
    ordered, size = np.sort(doc_ids), max(1, BATCH_BYTES // (4 * inputs.positions * len(inputs.channels)))
    sql = _FIRST_TOKENS.format(columns=", ".join(COLUMNS[inputs.kind]))
    for start in range(0, ordered.size, size):
        ids = ordered[start : start + size]
        bound: dict[str, Any] = {"run_id": run_id, "ids": ids.tolist(), "positions": inputs.positions}
        bound |= {"low": int(ids[0]), "high": int(ids[-1])}
        yield _batch(connection.sql(sql, params=bound).to_arrow_table(), ids, inputs, run_id)


def _batch(rows: pa.Table, ids: Ids, inputs: Sequences, run_id: str) -> Batch:
    if any(rows[name].null_count for name in COLUMNS[inputs.kind]):
        raise _missing(run_id, inputs.kind)
    at = np.searchsorted(ids, rows["doc_id"].to_numpy()), rows["place"].to_numpy()
    shape = ids.size, inputs.positions
    batch = Batch(ids, np.zeros((*shape, len(inputs.channels)), np.float32), np.zeros(shape, bool))
    batch.values[at] = _los_net(rows, inputs, run_id) if inputs.kind == "los_net" else _pawn(rows)
    batch.mask[at] = True
    return batch


def _missing(run_id: str, kind: Kind) -> DetectorError:
    columns = ", ".join(name for name in COLUMNS[kind] if name not in ("logprob", "entropy", "rank"))
    return DetectorError(
        f"run {run_id} has no {columns}, which {kind} reads: score the corpus with --features {GROUPS[kind]}"
    )


def _los_net(rows: pa.Table, inputs: Sequences, run_id: str) -> Values:
    """[R, K + 3]"""
    top_RK = _lists(rows["topk_logprob"].combine_chunks(), inputs.top_k, run_id)
    token_R1 = np.maximum(rows["logprob"].to_numpy(), FLOOR)[:, None]
    mean_R1 = top_RK.mean(axis=1, keepdims=True)
    deviation_R1 = top_RK.std(axis=1, ddof=1, keepdims=True) if inputs.top_k > 1 else np.zeros_like(mean_R1)
    flat_R1 = deviation_R1 < 1e-6
    z = (np.concatenate([top_RK, token_R1], axis=1) - mean_R1) / np.where(flat_R1, 1.0, deviation_R1)
    z = np.where(flat_R1, 0.0, np.clip(z, -LIMIT, LIMIT))
    rank_R1 = rows["rank"].to_numpy().astype(np.float64)[:, None]
    vocab = max(inputs.vocab_size, 2)
    codes = 1 - 2 * (rank_R1 - 1) / vocab, 1 - 2 * np.log(rank_R1) / np.log(vocab)
    return np.concatenate([z, *codes], axis=1).astype(np.float32)


def _lists(lists: pa.Array, size: int, run_id: str) -> npt.NDArray[np.float64]:
    """The first `size` of every list [R, size]."""
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if lengths.size and lengths.min() < size:
        raise DetectorError(f"run {run_id} keeps the {lengths.min()} likeliest tokens, the detector reads {size}: "
                            f"score the corpus with --features topk --top-k {size}")  # fmt: skip
    flat: npt.NDArray[Any] = pc.list_flatten(pc.list_slice(lists, 0, size)).to_numpy(zero_copy_only=False)
    return np.maximum(flat.reshape(-1, size).astype(np.float64), FLOOR)


def _pawn(rows: pa.Table) -> Values:
    """[R, 5]"""
    named: dict[str, npt.NDArray[np.float64]]
    named = {name: rows[name].to_numpy().astype(np.float64) for name in COLUMNS["pawn"]}
    named["log_rank"] = np.log(named["rank"])
    values: Values = np.maximum(np.column_stack([named[name] for name in _PAWN]), FLOOR).astype(np.float32)
    return values
