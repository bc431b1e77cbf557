"""What is read of the documents of corpora: numbers, words, token ids, hidden states; a few documents at a time.

    documents of a corpus, by `PER_PASS` -> DuckDB, sorted within -> Arrow batches -> counts and sums

Texts and token ids are read once for every `PER_PASS` documents, so that what is sorted and held stays bounded however
many there are; states are added up as they come. `place` is a document's number in its corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.comparison.corpora import Corpus
from operators.comparison.grams import GramCounter
from operators.comparison.pieces import Pieces
from operators.evaluation.classes import Floats
from operators.overlap.normalise import normaliser
from operators.overlap.options import OverlapOptions
from operators.overlap.words import Ids, hashes, padded, running

PER_PASS, AT_ONCE = 2048, 1 << 20  # documents: whose texts and tokens are sorted; whose states or numbers are read
BATCH_TEXTS, BATCH_TOKENS = 64, 1 << 16
WORDS = OverlapOptions().normalisation

_CHOSEN = "compared_documents"


class UnevenError(ValueError):
    """Hidden states of one run are not all as wide."""


@dataclass(frozen=True)
class Numbers:
    """Columns of `documents` by place, NaN where NULL; `sha256_D`: of the text; `has_text_D`."""

    n_bytes_D: Floats
    n_words_D: Floats
    n_tokens_D: Floats
    zlib_bytes_D: Floats
    sha256_D: npt.NDArray[np.object_]
    has_text_D: npt.NDArray[np.bool_]


def read_numbers(connection: duckdb.DuckDBPyConnection, corpus: Corpus) -> Numbers:
    """Numbers of the documents of a corpus, in the order of their ids."""
    names = ("n_bytes", "n_words", "n_tokens", "zlib_bytes")
    sql = f"""
        select c.place, {", ".join(f"d.{name}::double as {name}" for name in names)}, d.text_sha256,
          d.text is not null as has_text
        from {_CHOSEN} c
        join documents d on d.run_id = $run_id and d.doc_id = c.doc_id
        order by c.place
    """
    tables = [connection.sql(sql, params={"run_id": corpus.run_id}).to_arrow_table()
              for _ in _passes(connection, corpus, AT_ONCE)]  # fmt: skip
    rows = pa.concat_tables(tables)
    size, words, tokens, compressed = (
        np.asarray(pc.fill_null(rows[name], np.nan).to_numpy(), np.float64) for name in names
    )
    has_text = np.asarray(rows["has_text"].to_numpy(), np.bool_)
    return Numbers(size, words, tokens, compressed, rows["text_sha256"].to_numpy(), has_text)


def read_words(
    connection: duckdb.DuckDBPyConnection, corpus: Corpus, first: int, counter: GramCounter | None, pieces: Pieces
) -> None:
    """Count the words of a corpus whose first document has the place `first`, and compress its text."""
    cut = normaliser(OverlapOptions(normalisation=WORDS))
    sql = f"""
        select c.place, d.text
        from {_CHOSEN} c
        join documents d on d.run_id = $run_id and d.doc_id = c.doc_id
        where d.text is not null
        order by c.place
    """
    for batch in _batches(connection, corpus, sql, BATCH_TEXTS):
        texts = batch["text"].cast(pa.large_string())
        pieces.add(text.as_buffer().to_pybytes() for text in texts)
        if counter is not None:
            words, _ = cut(texts)
            counter.add(first + _numbers(batch, "place"), words.hashed(), words.bounds)


def read_tokens(connection: duckdb.DuckDBPyConnection, corpus: Corpus, first: int, counter: GramCounter) -> None:
    """Count the token ids of a corpus, without those of no bytes: what the tokenizer put around the text.

    Where a tokenizer does not spell the text, all tokens of a character but the first are of no bytes too.
    """
    sql = f"""
        select c.place, t.token_id
        from {_CHOSEN} c
        join tokens t on t.run_id = $run_id and t.doc_id = c.doc_id
        where t.n_bytes > 0
        order by c.place, t.position
    """
    for documents, rows in _whole_documents(_batches(connection, corpus, sql, BATCH_TOKENS)):
        ids = rows["token_id"].to_numpy().astype("<i4")
        places = 4 * np.arange(ids.size, dtype=np.int64)
        hash_W = hashes(padded(ids.tobytes()), places, np.full(ids.size, 4, np.int64))
        unique, counts = np.unique(documents, return_counts=True)
        counter.add(first + unique, hash_W, running(counts))


def read_states(connection: duckdb.DuckDBPyConnection, corpus: Corpus) -> Floats:
    """The mean hidden state of every document, over its tokens of any bytes; `[D, width]`, NaN where it has none.

    The state of a token put in front is the same in every document: its share in the mean, 1 / tokens, would make
    documents alike or not by their length. Sums of half-precision numbers are exact in float64, whatever their order.

    Raises:
        UnevenError: states are of unequal width.
    """
    sql = f"""
        select c.place, t.hidden
        from {_CHOSEN} c
        join tokens t on t.run_id = $run_id and t.doc_id = c.doc_id
        where t.hidden is not null and t.n_bytes > 0
    """
    sums: Floats | None = None
    counts = np.zeros(len(corpus))
    for batch in _batches(connection, corpus, sql, BATCH_TOKENS // 16, AT_ONCE):
        place, states = _numbers(batch, "place"), batch["hidden"]
        width = len(states[0]) if sums is None else sums.shape[1]
        if pc.any(pc.not_equal(pc.list_value_length(states), width)).as_py():
            raise UnevenError(f"run {corpus.run_id}: hidden states are not all of {width} numbers")
        sums = np.zeros((len(corpus), width)) if sums is None else sums
        order = np.argsort(place, kind="stable")
        starts = np.flatnonzero(np.diff(place[order], prepend=-1))
        flat = pc.list_flatten(states).to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, width)
        sums[place[order[starts]]] += np.add.reduceat(flat[order], starts, axis=0)
        counts += np.bincount(place, minlength=len(corpus))
    if sums is None:
        return np.full((len(corpus), 1), np.nan)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts[:, None], np.float64)


# Passes


def _passes(connection: duckdb.DuckDBPyConnection, corpus: Corpus, per_pass: int) -> Iterator[None]:
    """Some documents of the corpus after others, as the table `_CHOSEN` of (place, doc_id)."""
    for start in range(0, len(corpus), per_pass):
        ids = corpus.doc_ids[start : start + per_pass]
        connection.register(_CHOSEN, pa.table({"place": np.arange(start, start + ids.size), "doc_id": ids}))
        yield
        connection.unregister(_CHOSEN)


def _batches(
    connection: duckdb.DuckDBPyConnection, corpus: Corpus, sql: str, rows: int, per_pass: int | None = None
) -> Iterator[pa.RecordBatch]:
    for _ in _passes(connection, corpus, per_pass or PER_PASS):
        reader = connection.sql(sql, params={"run_id": corpus.run_id}).to_arrow_reader(rows)
        yield from (batch for batch in reader if batch.num_rows)


def _whole_documents(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Ids, pa.Table]]:
    """Rows sorted by place, in tables that cut no document in two, with their places."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        rows = pa.Table.from_batches(held)
        places = rows["place"].to_numpy()
        cut = int(np.searchsorted(places, places[-1]))
        if cut:
            yield places[:cut], rows.slice(0, cut)
            held = rows.slice(cut).to_batches()
    if held:
        rows = pa.Table.from_batches(held)
        yield rows["place"].to_numpy(), rows


def _numbers(batch: pa.RecordBatch, name: str) -> Ids:
    return np.asarray(batch[name].to_numpy(), np.int64)
