"""Reads what several runs say of the same documents: totals of documents that all have, or log-probs token by token.

    documents of K runs --> those that all runs have, of one text --> totals [D, K], over the bytes that all predict
    tokens of K runs of one tokenizer --> rows [T, K] in a file, mapped --> observations, a few passes over the disk

A total is comparable where it is of the same bytes. The first token fed has no prediction, so a run without a BOS
predicts less of the text than one with it, and runs of two tokenizers differ in how much. Then every document is cut
at the first byte at which all runs begin a predicted token: a total is ln p(the text from there on | the text before).
A token that a tokenizer feeds behind every text (EOS) is no part of the text: of two tokenizers it is left out.
Roll-ups give the totals where runs have them; a cut reads the first `EARLY` tokens of each document besides.
Shapes as in `em`; `T` tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from operators.mixtures.em import Floats, Ints, Observations

EARLY = 256  # tokens among which a byte is looked for at which all runs begin a token
SLICE_TOKENS = 2_000_000  # of each run, joined at once
_SAMPLE = 32  # documents whose last tokens say whether a run feeds one behind every text


@dataclass(frozen=True)
class Totals:
    """Documents that all runs have with one text and a prediction, by ascending id.

    `logprob_DK`: nats, in the order of the runs; `bytes_D`: of the text that they are of. `of_run`: documents of each.
    `cut_bytes`: left out at the starts of documents; `uncut`: documents that were left out since no byte would do;
    `unscored`: those without a prediction in some run, or of probability 0 in all.
    """

    doc_ids: Ints
    logprob_DK: Floats
    bytes_D: Floats
    of_run: tuple[int, ...]
    in_all: int
    cut_bytes: int = 0
    uncut: int = 0
    unscored: int = 0

    def __len__(self) -> int:
        return self.doc_ids.size

    @property
    def observations(self) -> Observations:
        return Observations.of_documents(self.logprob_DK, self.bytes_D)

    def where(self, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Totals:
        """Some of the documents; counts stay as they are."""
        return Totals(
            self.doc_ids[chosen], self.logprob_DK[chosen], self.bytes_D[chosen], self.of_run, self.in_all,
            self.cut_bytes, self.uncut, self.unscored,
        )  # fmt: skip


def read_totals(
    connection: duckdb.DuckDBPyConnection, runs: Sequence[str], *, cut: bool, tokenizers: Sequence[str | None] = ()
) -> Totals:
    """What each run says of each document that all have.

    `cut`: whether runs may predict different bytes. `tokenizers`: a fingerprint a run, None where it is not
    known; empty where all are the same.

    Raises:
        ValueError: texts of one document differ between runs.
    """
    common = _common(connection, runs)
    ids = np.asarray(common["doc_id"].to_numpy(), np.int64)
    logprob_DK = np.stack([_floats(common[f"total_{k}"]) for k in range(len(runs))], axis=1)
    bytes_D = _floats(common["n_bytes"])
    starts_D = np.zeros(len(ids))
    if cut and len(ids):
        starts_D, before_DK = _before(connection, runs, ids)
        logprob_DK -= before_DK
    if (len(set(tokenizers)) > 1 or None in tokenizers) and len(ids):
        logprob_DK -= _ends(connection, runs, ids)
    has_start = ~np.isnan(starts_D)
    # -inf in one run is a finding: that model excludes the text. In all runs nothing can be said.
    is_scored = ~np.isnan(logprob_DK).any(axis=1) & np.isfinite(logprob_DK.max(axis=1, initial=-np.inf))
    found = Totals(
        ids, logprob_DK, bytes_D - starts_D, _documents_of(connection, runs), len(ids),
        cut_bytes=int(starts_D[has_start & is_scored].sum()), uncut=int((~has_start).sum()),
        unscored=int((has_start & ~is_scored).sum()),
    )  # fmt: skip
    return found.where(has_start & is_scored)


def read_tokens(
    connection: duckdb.DuckDBPyConnection, runs: Sequence[str], doc_ids: Ints, folder: Path
) -> tuple[Observations, Ints]:
    """The predicted tokens of some documents, mapped from a file in `folder`, and the documents that have any.

    The file takes 4 (K + 1) bytes a token; memory holds `SLICE_TOKENS` tokens of each run.

    Raises:
        ValueError: runs fed different tokens, so they are of two tokenizers.
    """
    path, width = folder / "tokens.float32", len(runs) + 1
    lengths: list[Ints] = []
    found: list[Ints] = []
    with path.open("wb") as file:
        for first, last in pairwise(_edges(connection, runs[0], doc_ids)):
            rows = _tokens(connection, runs, first, last)
            ids = np.asarray(rows["doc_id"].to_numpy(), np.int64)
            columns = [_floats(rows[name]) for name in (*(f"logprob_{k}" for k in range(len(runs))), "n_bytes")]
            values = np.stack(columns, axis=1).astype(np.float32)
            kept = np.isin(ids, doc_ids) & ~np.isnan(values).any(axis=1) & np.isfinite(values[:, :-1].max(axis=1))
            values[kept].tofile(file)
            here, counts = np.unique(ids[kept], return_counts=True)
            found.append(here)
            lengths.append(counts)
    n_D = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    if not n_D.sum():
        return Observations(np.zeros((0, len(runs))), np.zeros(0), np.zeros(0, np.int64)), np.zeros(0, np.int64)
    mapped = np.memmap(path, np.float32, "r", shape=(int(n_D.sum()), width))
    return Observations(mapped[:, :-1], mapped[:, -1], np.cumsum(n_D) - n_D), np.concatenate(found)


# Documents


def _common(connection: duckdb.DuckDBPyConnection, runs: Sequence[str]) -> pa.Table:
    totals = ", ".join(f"r{k}.total as total_{k}" for k in range(len(runs)))
    joins = " ".join(f"join r{k} using (doc_id)" for k in range(1, len(runs)))
    same = " and ".join(f"r{k}.text_sha256 = r0.text_sha256" for k in range(1, len(runs)))
    ctes = ", ".join(f"r{k} as ({_run_sql(connection, run, k)})" for k, run in enumerate(runs))
    sql = f"""
        with {ctes}
        select r0.doc_id, r0.n_bytes, {totals}, case when not ({same or "true"}) then r0.key end as other
        from r0 {joins}
        order by r0.doc_id
    """
    rows = connection.sql(sql, params=_bound(runs)).to_arrow_table()
    if others := len(rows) - rows["other"].null_count:
        key = rows["other"].drop_null()[0].as_py()
        raise ValueError(
            f"{others:,} of {len(rows):,} documents have another text in another of the runs, the first of them "
            f"{key!r}: runs must be of the same documents"
        )
    return rows


def _run_sql(connection: duckdb.DuckDBPyConnection, run: str, k: int) -> str:
    """Documents of one run with the sum of their log-probs, from roll-ups where every document has them."""
    sql = "select coalesce(bool_and(logprob_sum is not null or n_scored = 0), false) from documents where run_id = $run"
    ((is_rolled_up,),) = connection.execute(sql, {"run": run}).fetchall()
    columns = "d.doc_id, d.key, d.n_bytes, d.text_sha256"
    if is_rolled_up:
        return f"select {columns}, d.logprob_sum as total from documents d where d.run_id = $r{k}"
    return f"""
        select {columns}, t.total
        from documents d
        left join (
          select doc_id, sum(logprob::double) as total from tokens where run_id = $r{k} group by doc_id
        ) t using (doc_id)
        where d.run_id = $r{k}
    """


def _documents_of(connection: duckdb.DuckDBPyConnection, runs: Sequence[str]) -> tuple[int, ...]:
    sql = "select count(*) from documents where run_id = $run"
    return tuple(int(connection.execute(sql, {"run": run}).fetchall()[0][0]) for run in runs)


def _before(connection: duckdb.DuckDBPyConnection, runs: Sequence[str], ids: Ints) -> tuple[Floats, Floats]:
    """Where each document is cut (bytes, NaN where no byte would do), and the log-probs before, `[D]` and `[D, K]`.

    Tokens that cover nothing belong to the character before them. Memory holds `SLICE_TOKENS` tokens of each run.
    """
    named = [f"$r{k}" for k in range(len(runs))]
    sums = ", ".join(
        f"coalesce(sum(logprob) filter (where run_id = {name} and byte_start + n_bytes <= start), 0) as before_{k}"
        for k, name in enumerate(named)
    )
    sql = f"""
        with early as (
          select run_id, doc_id, byte_start::bigint as byte_start, n_bytes, logprob::double as logprob
          from tokens
          where run_id in ({", ".join(named)}) and position < {EARLY} and logprob is not null
            and doc_id >= $first and doc_id < $last
        ),
        shared as (
          select doc_id, byte_start
          from early
          where n_bytes > 0
          group by doc_id, byte_start
          having count(distinct run_id) = {len(runs)}
        ),
        cuts as (select doc_id, min(byte_start) as start from shared group by doc_id)
        select doc_id, any_value(start) as start, {sums}
        from cuts join early using (doc_id)
        group by doc_id
    """
    rows = pa.concat_tables(
        connection.sql(sql, params={**_bound(runs), "first": first, "last": last}).to_arrow_table()
        for first, last in pairwise(_edges(connection, runs[0], ids, most=EARLY))
    )
    starts_D = _placed(rows, ids, "start", np.nan)
    before = [_placed(rows, ids, f"before_{k}", 0.0) for k in range(len(runs))]
    return starts_D, np.stack(before, axis=1)


def _ends(connection: duckdb.DuckDBPyConnection, runs: Sequence[str], ids: Ints) -> Floats:
    """Log-probs of the tokens that runs feed behind every text, `[D, K]`; 0 where a run feeds none."""
    sql = """
        select t.doc_id, t.token_id, t.logprob::double as logprob
        from tokens t join documents d on d.run_id = t.run_id and d.doc_id = t.doc_id
        where t.run_id = $run and d.run_id = $run and t.position = d.n_tokens - 1
          and t.n_bytes = 0 and t.byte_start = d.n_bytes
    """
    found = np.zeros((len(ids), len(runs)))
    sample = ids[:_SAMPLE].tolist()
    for k, run in enumerate(runs):
        few = f"{sql} and t.doc_id in (select unnest($ids::bigint[]))"
        last = connection.sql(few, params={"run": run, "ids": sample}).to_arrow_table()
        if len(last) == len(sample) and len(set(last["token_id"].to_pylist())) == 1:
            rows = connection.sql(sql, params={"run": run}).to_arrow_table()
            found[:, k] = np.nan_to_num(_placed(rows, ids, "logprob", 0.0))
    return found


# Tokens


def _edges(connection: duckdb.DuckDBPyConnection, run: str, doc_ids: Ints, *, most: int | None = None) -> list[int]:
    """Bounds of ranges of ids with some `SLICE_TOKENS` tokens each, `most` of a document; none without documents."""
    if not doc_ids.size:
        return []
    sql = "select doc_id, n_tokens from documents where run_id = $run order by doc_id"
    rows = connection.sql(sql, params={"run": run}).to_arrow_table()
    ids, ends = rows["doc_id"].to_numpy(), np.cumsum(np.minimum(rows["n_tokens"].to_numpy(), most or np.inf))
    firsts = np.unique(np.searchsorted(ends, np.arange(0, int(ends[-1]), SLICE_TOKENS), side="right"))
    return [*(int(ids[i]) for i in firsts), int(ids[-1]) + 1]


def _tokens(connection: duckdb.DuckDBPyConnection, runs: Sequence[str], first: int, last: int) -> pa.Table:
    columns = "doc_id, position, token_id, n_bytes, logprob"
    ctes = ", ".join(
        f"r{k} as (select {columns} from tokens where run_id = $r{k} and doc_id >= {first} and doc_id < {last} "
        "and logprob is not null)"
        for k in range(len(runs))
    )
    logprobs = ", ".join(f"r{k}.logprob as logprob_{k}" for k in range(len(runs)))
    joins = " ".join(f"join r{k} using (doc_id, position)" for k in range(1, len(runs)))
    same = " and ".join(f"r{k}.token_id = r0.token_id" for k in range(1, len(runs)))
    sql = f"""
        with {ctes}
        select r0.doc_id, r0.n_bytes, {logprobs}, {same or "true"} as is_same
        from r0 {joins}
        order by r0.doc_id, r0.position
    """
    rows = connection.sql(sql, params=_bound(runs)).to_arrow_table()
    if not np.asarray(rows["is_same"].to_numpy(), bool).all():
        raise ValueError("the runs fed different tokens at one position: tokens compare only under one tokenizer")
    return rows


# Arrow


def _bound(runs: Sequence[str]) -> dict[str, str]:
    return {f"r{k}": run for k, run in enumerate(runs)}


def _placed(rows: pa.Table, ids: Ints, column: str, otherwise: float) -> Floats:
    """A column by `doc_id` at the places of `ids`, which ascend."""
    values = np.full(len(ids), otherwise)
    if not len(rows):
        return values
    found = np.asarray(rows["doc_id"].to_numpy(), np.int64)
    places = np.searchsorted(ids, found)
    is_there = (places < len(ids)) & (ids[np.minimum(places, len(ids) - 1)] == found)
    values[places[is_there]] = _floats(rows[column])[is_there]
    return values


def _floats(column: pa.ChunkedArray) -> Floats:
    """In float64, NaN where it is NULL."""
    return np.asarray(column.to_numpy(), np.float64)
