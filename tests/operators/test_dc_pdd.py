"""DC-PDD in SQL against float64 NumPy: repeated ids, ties, unscored and single tokens, both ways of counting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import lakes
import numpy as np
import pyarrow as pa
import pytest

from operators.lake import Lake
from operators.scores import create_macros, load_scores
from operators.verify import verify
from schemas import TABLES

VOCABULARY = 40
Documents = dict[int, list[tuple[int, float | None]]]


@pytest.fixture(scope="module")
def counts() -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """By corpus `n` and `n_documents`, `(2, V)`; many ids never occur."""
    rng = np.random.default_rng(3)
    n = np.where(rng.random(VOCABULARY) < 0.4, 0, rng.geometric(0.01, VOCABULARY))
    return {"c": np.stack([n, np.ceil(n / 3).astype(int)]), "other": np.stack([n[::-1] * 7, n[::-1]])}


@pytest.fixture(scope="module")
def documents() -> Documents:
    """Ids and log-probabilities in order of position. Log-probabilities are on a coarse grid; a tenth is unscored."""
    rng = np.random.default_rng(5)
    made: Documents = {}
    for doc_id, size in enumerate([*range(1, 40), *[1] * 5, 2000]):
        ids = np.minimum(rng.geometric(0.15, size) - 1, VOCABULARY - 1)
        logprobs = np.where(rng.random(size) < 0.1, 0.0, -np.round(rng.exponential(4, size), 1)).astype(np.float32)
        scored = rng.random(size) > 0.1
        scored[0] = rng.random() < 0.2
        made[doc_id] = [(int(i), float(lp) if s else None) for i, lp, s in zip(ids, logprobs, scored, strict=True)]
    made[1000] = [(3, None), (3, -0.5), (3, -0.1)]  # its first occurrence is unscored: the next one counts
    made[1001] = [(3, None)]
    made[1002] = [(0, 0.0)]  # certain, and common
    return made


@pytest.fixture(scope="module")
def lake(
    counts: dict[str, np.ndarray[Any, np.dtype[np.int64]]], documents: Documents
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Rows in random order, so that nothing but `position` says what is first."""
    rng = np.random.default_rng(8)
    with duckdb.connect() as connection:
        for table in TABLES:
            columns = ", ".join(f"{c.name} {c.sql_type}" for c in table.columns)
            connection.execute(f"create table {table.name} ({columns})")
        rows = [
            {"run_id": run_id, "doc_id": d, "position": p, "token_id": i, "logprob": lp if run_id == "r" else -1.0}
            for run_id in ("r", "another")
            for d, tokens in documents.items()
            for p, (i, lp) in enumerate(tokens)
        ]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        rows += [
            {"corpus": corpus, "token_id": i, "n": int(n[0, i]), "n_documents": int(n[1, i])}
            for corpus, n in counts.items()
            for i in range(VOCABULARY)
        ]
        for table_name, key in (("tokens", "doc_id"), ("frequencies", "corpus")):
            connection.register("given", pa.Table.from_pylist([row for row in rows if key in row]))
            connection.execute(f"insert into {table_name} by name select * from given")
        connection.execute("alter table tokens add column logprob_mean float")
        create_macros(connection)
        yield connection


def reference(tokens: list[tuple[int, float | None]], n: np.ndarray[Any, Any], cap: float) -> float | None:
    """The paper's formula over the first scored occurrence of every id."""
    alphas: dict[int, float] = {}
    for token_id, logprob in tokens:
        if logprob is not None and token_id not in alphas:
            frequency = (n[token_id] + 1) / (n.sum() + len(n))
            alphas[token_id] = min(math.exp(logprob) * math.log(1 / frequency), cap)
    return float(np.mean(list(alphas.values()))) if alphas else None


def assert_equal(found: dict[int, float | None], expected: dict[int, float | None]) -> None:
    defined = {d: score for d, score in expected.items() if score is not None}
    assert {d: score for d, score in found.items() if score is not None} == pytest.approx(defined, rel=1e-12)
    assert found.keys() == expected.keys()


@pytest.mark.parametrize("corpus", ["c", "other"])
@pytest.mark.parametrize("cap", [0.01, 0.5, 100.0])
@pytest.mark.parametrize("by_documents", [False, True])
def test_it_is_the_papers_formula(
    lake: duckdb.DuckDBPyConnection,
    counts: dict[str, np.ndarray[Any, np.dtype[np.int64]]],
    documents: Documents,
    corpus: str,
    cap: float,
    by_documents: bool,
) -> None:
    values = load_scores()["dc_pdd"].bind(run_id="r", corpus=corpus, cap=cap, by_documents=by_documents)
    found = dict(lake.execute(f"select doc_id, score from ({load_scores()['dc_pdd'].body})", values).fetchall())
    expected = {d: reference(tokens, counts[corpus][int(by_documents)], cap) for d, tokens in documents.items()}
    assert_equal(found, expected)
    assert found[1001] is None
    named = f"dc_pdd('r', '{corpus}', cap := {cap}, by_documents := {by_documents})"
    assert_equal(dict(lake.execute(f"select doc_id, score from {named}").fetchall()), expected)


def test_a_nan_that_the_cap_would_hide_is_a_fault_of_the_lake(tmp_path: Path) -> None:
    sound = Lake(str(tmp_path))
    lakes.write_run(sound)
    assert verify(sound) == []
    path = lakes.spoil(sound, "tokens", lakes.put("logprob", lakes.at(1, math.nan)))
    assert path in {fault.where for fault in verify(sound)}


def test_an_id_beyond_the_corpus_is_one_that_never_occurs(lake: duckdb.DuckDBPyConnection) -> None:
    lake.execute("insert into tokens by name select 'beyond' as run_id, 1 as doc_id, 0 as position, 77 as token_id, "
                 "-1.0 as logprob")  # fmt: skip
    ((total,),) = lake.execute("select sum(n) + count(*) from frequencies where corpus = 'c'").fetchall()
    ((score,),) = lake.execute("select score from dc_pdd('beyond', 'c', cap := 100.0)").fetchall()
    assert score == pytest.approx(math.exp(-1) * math.log(float(total)), rel=1e-12)


def test_a_corpus_that_is_not_there_is_an_error(lake: duckdb.DuckDBPyConnection) -> None:
    message = "no corpus 'nobody's' in frequencies"
    with pytest.raises(duckdb.Error, match=message):
        lake.execute("select score from dc_pdd('r', 'nobody''s')").fetchall()
    card = load_scores()["dc_pdd"]
    with pytest.raises(duckdb.Error, match=message):
        lake.execute(card.sql, card.bind(run_id="r", corpus="nobody's")).fetchall()


def test_members_of_the_reference_are_told_by_rare_tokens_that_are_likely(lake: duckdb.DuckDBPyConnection) -> None:
    """Of two texts with equal log-probabilities the one of rarer ids scores higher."""
    ((common, rare),) = lake.execute(
        "select arg_max(token_id, n), arg_min(token_id, n) from frequencies where corpus = 'c'"
    ).fetchall()
    for doc_id, token_id in ((1, common), (2, rare)):
        lake.execute("insert into tokens by name select 'pair' as run_id, $d as doc_id, 0 as position, $t as token_id, "
                     "-2.0 as logprob", {"d": doc_id, "t": token_id})  # fmt: skip
    first, second = lake.execute("select score from dc_pdd('pair', 'c', cap := 100.0) order by doc_id").fetchall()
    assert first[0] < second[0]
