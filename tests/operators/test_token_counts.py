"""Counting ids block by block and by SQL, against plain loops: template ids, first tokens, repeated ids, rejects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small

from operators.frequencies import count_run
from operators.token_counts import CORPUS_METADATA, CountedCorpus, CountOptions, Fingerprints, TokenCounts
from operators.tokenize import Bos, DocumentTokenizer, TokenizeOptions
from schemas import FREQUENCIES, TABLES, flow

WIDTH = 50
BOS, EOS = 48, 49


def block(documents: list[list[int] | None]) -> pa.Table:
    """A tokenized block; None is a reject."""
    rows = [
        {"source": "s", "row": i, "token_id": ids, "reason": "null_text" if ids is None else None}
        for i, ids in enumerate(documents)
    ]
    return pa.Table.from_pylist(rows, schema=flow.TOKENIZED)


def random_documents(seed: int) -> list[list[int]]:
    """Texts' own ids: few different ones, so that they repeat; single tokens are among them."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 9, size).tolist() for size in [1, 1, *rng.integers(1, 30, 40)]]


def by_loop(documents: list[list[int]], first: int | None = None) -> tuple[list[int], list[int]]:
    n: Counter[int] = Counter()
    held: Counter[int] = Counter()
    for ids in documents:
        n.update(ids[:first])
        held.update(set(ids[:first]))
    return [n[i] for i in range(WIDTH)], [held[i] for i in range(WIDTH)]


@pytest.mark.parametrize("first", [None, 1, 7])
@pytest.mark.parametrize("around", [(0, 0), (1, 0), (2, 1)])
def test_blocks_are_counted_as_a_loop_counts(first: int | None, around: tuple[int, int]) -> None:
    before, after = around
    counts, options = TokenCounts.none(WIDTH), CountOptions(WIDTH, before, after, first)
    documents = random_documents(0)
    for start in range(0, len(documents), 11):
        fed: list[list[int] | None] = [[BOS] * before + d + [EOS] * after for d in documents[start : start + 11]]
        counts.add_block(block([None, *fed, None]), options)
    assert (counts.n.tolist(), counts.n_documents.tolist()) == by_loop(documents, first)
    assert counts.documents == len(documents)


def test_a_block_of_rejects_counts_nothing() -> None:
    counts = TokenCounts.none(WIDTH)
    counts.add_block(block([None, None]), CountOptions(WIDTH))
    counts.add_block(block([]), CountOptions(WIDTH))
    assert (counts.tokens, counts.documents, len(counts.rows())) == (0, 0, 0)


def test_rows_added_up_are_the_counts_of_all() -> None:
    whole, parts = TokenCounts.none(WIDTH), TokenCounts.none(WIDTH)
    for seed in range(3):
        one, options = TokenCounts.none(WIDTH), CountOptions(WIDTH)
        documents: list[list[int] | None] = [*random_documents(seed)]
        one.add_block(block(documents), options)
        whole.add_block(block(documents), options)
        parts.add_rows(one.rows(), one.documents)
    assert parts.n.tolist() == whole.n.tolist()
    assert parts.n_documents.tolist() == whole.n_documents.tolist()
    assert parts.documents == whole.documents


def test_the_part_is_of_the_declared_table_with_a_row_for_every_id(tmp_path: Path) -> None:
    counts = TokenCounts.none(WIDTH)
    counts.add_block(block([[3, 3, 4]]), CountOptions(WIDTH))
    corpus = CountedCorpus(counts, Fingerprints("a", ("b", "c")), {"input": ["x"]})
    (tmp_path / "p.parquet").write_bytes(corpus.encode())
    table = pq.read_table(tmp_path / "p.parquet")
    assert FREQUENCIES.validate(table) == []
    assert table["token_id"].to_pylist() == list(range(WIDTH))
    assert table["n"].to_pylist()[2:6] == [0, 2, 1, 0]
    assert table["n_documents"].to_pylist()[2:6] == [0, 1, 1, 0]
    assert set(table["tokenizer_fingerprint"].to_pylist()) == {"a"}
    assert table["other_fingerprints"][7].as_py() == ["b", "c"]
    assert table.schema.metadata[CORPUS_METADATA] == b'{"input": ["x"]}'
    assert corpus.encode().equals(corpus.encode())


# By SQL


def lake_of(documents: list[list[int]], before: int, after: int) -> duckdb.DuckDBPyConnection:
    """Tables of two runs; texts may begin with a token of no bytes, as a lone mark of a space is."""
    connection = duckdb.connect()
    for table in TABLES:
        columns = ", ".join(f"{c.name} {c.sql_type}" for c in table.columns)
        connection.execute(f"create table {table.name} ({columns})")
    rows: list[dict[str, Any]] = []
    for doc_id, own in enumerate(documents):
        fed = [(BOS, 0)] * before + [(i, 0 if i == 0 else 2) for i in own] + [(EOS, 0)] * after
        rows += [
            {"run_id": "r", "doc_id": doc_id, "position": p, "token_id": i, "n_bytes": n}
            for p, (i, n) in enumerate(fed)
        ]
    rows += [{**row, "run_id": "another"} for row in rows]
    np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
    tokens = pa.Table.from_pylist(rows)
    connection.register("given", tokens)
    connection.execute("insert into tokens by name select * from given")
    connection.execute(
        "insert into documents by name select run_id, doc_id, count(*) as n_tokens from tokens group by all"
    )
    return connection


@pytest.mark.parametrize("first", [None, 1, 7])
@pytest.mark.parametrize("around", [(0, 0), (1, 0), (2, 1)])
def test_a_run_is_counted_as_its_texts_are(first: int | None, around: tuple[int, int]) -> None:
    documents = [ids for ids in random_documents(1) if set(ids) != {0}]  # a text covers bytes
    with lake_of(documents, *around) as connection:
        counts = count_run(connection, "r", WIDTH, first)
    assert (counts.n.tolist(), counts.n_documents.tolist()) == by_loop(documents, first)
    assert counts.documents == len(documents)


def test_a_run_without_documents_counts_nothing() -> None:
    with lake_of([[1]], 0, 0) as connection:
        assert count_run(connection, "r'; drop table tokens; --", WIDTH).documents == 0


def test_an_id_beyond_the_vocabulary_is_an_error() -> None:
    with lake_of([[1, 7]], 0, 0) as connection, pytest.raises(ValueError, match="token id 7"):
        count_run(connection, "r", 7)


# Fingerprints


def test_other_fingerprints_are_those_of_every_other_bos(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    small.make_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    every: tuple[Bos, ...] = ("auto", "always", "never")
    loaded = {bos: DocumentTokenizer.load(folder, TokenizeOptions(bos=bos)) for bos in every}
    for bos, tokenizer in loaded.items():
        assert set(tokenizer.other_fingerprints) == {loaded[other].fingerprint for other in every if other != bos}
    literal = DocumentTokenizer.load(folder, TokenizeOptions(special_tokens="literal"))
    assert not {literal.fingerprint, *literal.other_fingerprints} & {t.fingerprint for t in loaded.values()}


def test_without_a_bos_there_is_no_fingerprint_for_always() -> None:
    assert len(DocumentTokenizer(small.make_tokenizer(), TokenizeOptions()).other_fingerprints) == 1
