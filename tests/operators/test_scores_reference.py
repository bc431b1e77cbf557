"""Score files against float64 numpy: ties, single tokens, NULLs, k = 0, certain tokens, infinities."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from operators import evaluation
from operators.evaluation import area
from operators.evaluation.classes import defined_classes
from operators.scores import create_macros, load_scores
from schemas import TABLES

Floats = np.ndarray[Any, np.dtype[np.float64]]
Columns = dict[str, Floats]
RUNS = ("first", "second")


def random_document(rng: np.random.Generator, size: int) -> dict[str, list[Any]]:
    """Statistics in float32, on a coarse grid so that ties are common; the first token, and a tenth, are unscored."""
    scored = rng.random(size) > 0.1
    scored[0] = rng.random() < 0.2
    certain = rng.random(size) < 0.1
    entropy = np.where(certain, 0.0, np.round(rng.exponential(2, size), 1))
    logprob = np.where(certain & (rng.random(size) < 0.7), 0.0, -np.round(rng.exponential(3, size), 1))
    columns = {
        "logprob": logprob,
        "entropy": entropy,
        "logprob_std": np.where(certain, 0.0, np.round(rng.uniform(0.2, 2, size), 1)),
        "rank": np.where(logprob == 0, 1, rng.geometric(0.2, size)),
    }
    return {
        name: [v if s else None for v, s in zip(values.tolist(), scored, strict=True)]
        for name, values in columns.items()
    }


CERTAIN = {
    "logprob": [None, 0.0, 0.0],
    "entropy": [None, 0.0, 0.0],
    "logprob_std": [None, 0.0, 0.0],
    "rank": [None, 1, 1],
}


@pytest.fixture(scope="module")
def lake() -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[int, dict[str, Any]]]]:
    """Tables of two runs over the same documents, and what is in the first: doc_id -> columns."""
    rng = np.random.default_rng(7)
    documents: dict[int, dict[str, Any]] = {}
    with duckdb.connect() as connection:
        for table in TABLES:
            columns = ", ".join(f"{c.name} {c.sql_type}" for c in table.columns)
            connection.execute(f"create table {table.name} ({columns})")
        for run_id in RUNS:
            statistics = [random_document(rng, size) for size in [*range(1, 61), *[1] * 5, 300, 1000]]
            for doc_id, columns_ in enumerate([*statistics, CERTAIN]):
                document = {
                    "zlib_bytes": int(rng.integers(9, 900)),
                    "n_bytes": 4 * len(columns_["rank"]),
                    "domain": rng.choice(["a", "b", None]),
                }
                insert(connection, "documents", [{"run_id": run_id, "doc_id": doc_id, **document}])
                rows = [dict(zip(columns_, values, strict=True)) for values in zip(*columns_.values(), strict=True)]
                insert(connection, "tokens", [{"run_id": run_id, "doc_id": doc_id, **row} for row in rows])
                if run_id == RUNS[0]:
                    documents[doc_id] = {**columns_, **document}
        connection.execute("insert into runs by name select 'first' as run_id, 'x' as state, true as bos_prepended")
        connection.execute("alter table tokens add column logprob_mean float")
        connection.execute("update tokens set logprob_mean = -entropy")
        create_macros(connection)
        yield connection, documents


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    declared = {t.name: t for t in TABLES}[table]
    schema = pa.schema([(name, declared[name].type) for name in rows[0]])
    connection.register("new", pa.Table.from_pylist(rows, schema=schema))
    connection.execute(f"insert into {table} by name from new")
    connection.unregister("new")


# The references: a document's scored tokens as float64 columns -> a score, NaN where undefined.


def smallest(values: Floats, k: int) -> float:
    return float(np.sort(values)[:k].mean()) if k else math.nan


def min_k(c: Columns, ratio: float, parity: bool) -> float:
    n = len(c["logprob"])
    return smallest(c["logprob"], int(n * ratio) if parity else max(1, int(n * ratio))) if n else math.nan


def min_k_plus_plus(c: Columns, ratio: float, parity: bool) -> float:
    with np.errstate(all="ignore"):
        z = (c["logprob"] + c["entropy"]) / c["logprob_std"]
    if parity:
        return smallest(z, int(len(z) * ratio))  # numpy sorts NaN last, as the authors' code does
    z = z[~np.isnan(z)]
    return smallest(z, max(1, int(len(z) * ratio))) if len(z) else math.nan


def lrr(c: Columns) -> float:
    below = np.log(c["rank"]).mean()
    return math.inf if below == 0 else float(-c["logprob"].mean() / below)


def fast_detectgpt(c: Columns) -> float:
    excess, deviation = (c["logprob"] + c["entropy"]).sum(), math.sqrt((c["logprob_std"] ** 2).sum())
    if deviation == 0:
        return math.nan if excess == 0 else math.copysign(math.inf, excess)
    return float(excess / deviation)


SIMPLE: dict[str, Callable[[Columns], float]] = {
    "loss": lambda c: float(c["logprob"].mean()),
    "zlib": lambda c: float(c["logprob"].mean() / c["zlib_bytes"][0]),
    "perplexity": lambda c: math.exp(-c["logprob"].mean()),
    "log_rank": lambda c: float(-np.log(c["rank"]).mean()),
    "lrr": lrr,
    "fast_detectgpt": fast_detectgpt,
}
K_SCORES: dict[str, Callable[[Columns, float, bool], float]] = {"min_k": min_k, "min_k_plus_plus": min_k_plus_plus}


def scored_columns(document: dict[str, Any]) -> Columns:
    scored = [i for i, value in enumerate(document["logprob"]) if value is not None]
    columns = {
        name: np.array([document[name][i] for i in scored], dtype=np.float32).astype(np.float64)
        for name in ("logprob", "entropy", "logprob_std", "rank")
    }
    return {**columns, "zlib_bytes": np.array([document["zlib_bytes"]], dtype=np.float64)}


def check(
    lake: tuple[duckdb.DuckDBPyConnection, dict[int, dict[str, Any]]],
    name: str,
    parameters: dict[str, Any],
    reference: Callable[[Columns], float],
) -> None:
    connection, documents = lake
    card = load_scores()[name]
    bound = connection.execute(card.sql, card.bind(run_id=RUNS[0], **parameters)).fetchall()
    arguments = "".join(f", {key} := {json.dumps(value)}" for key, value in parameters.items())
    macro = connection.execute(f"from {name}('{RUNS[0]}'{arguments})").fetchall()
    for rows in (bound, macro):
        found = {doc_id: score for _, doc_id, score in rows}
        assert len(rows) == len(found) == len(documents)
        assert {run_id for run_id, _, _ in rows} == {RUNS[0]}
        for doc_id, document in documents.items():
            columns = scored_columns(document)
            expected = reference(columns) if len(columns["logprob"]) else math.nan
            if math.isnan(expected):
                assert found[doc_id] is None
            else:
                assert found[doc_id] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", SIMPLE)
def test_scores_equal_numpy(lake: Any, name: str) -> None:
    check(lake, name, {}, SIMPLE[name])


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.2, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("name", K_SCORES)
def test_k_scores_equal_numpy(lake: Any, name: str, ratio: float, parity: bool) -> None:
    check(lake, name, {"ratio": ratio, "parity": parity}, lambda c: K_SCORES[name](c, ratio, parity))


def test_random_documents_are_hard_enough(lake: Any) -> None:
    """Every special case that the references treat is among the documents."""
    columns = [scored_columns(document) for document in lake[1].values()]
    assert any(len(c["logprob"]) == 0 for c in columns)
    assert any(len(c["logprob"]) == 1 for c in columns)
    scored = [c for c in columns if len(c["logprob"])]
    assert any((c["rank"] == 1).all() for c in scored)
    assert any(np.isnan(fast_detectgpt(c)) for c in scored)
    assert any(min_k_plus_plus(c, 0.2, False) == -math.inf for c in scored)
    assert any(np.isnan(min_k_plus_plus(c, 1.0, True)) for c in scored)
    assert any(len(np.unique(c["logprob"])) < len(c["logprob"]) / 2 for c in scored)


def test_bits_per_byte_equals_numpy(lake: Any) -> None:
    connection, documents = lake
    totals: dict[Any, list[float]] = {}
    for document in documents.values():
        values = scored_columns(document)["logprob"]
        extrapolated = values.mean() * len(document["logprob"]) if len(values) else 0.0
        row = (values.sum(), extrapolated, document["n_bytes"])
        for key in (("domain", document["domain"]), ("corpus", None)):
            totals[key] = [a + b for a, b in zip(totals.get(key, [0.0, 0.0, 0.0]), row, strict=True)]
    bits = {key: -total / n_bytes / math.log(2) for key, (total, _, n_bytes) in totals.items()}
    macro = np.mean([value for (level, _), value in bits.items() if level == "domain"])
    rows = connection.execute(f"from bits_per_byte('{RUNS[0]}')").fetchall()
    assert {row[1:3] for row in rows} == set(totals)
    for _, level, domain, *_, lm_eval, paloma, correlations in rows:
        key = (level, domain)
        assert lm_eval == pytest.approx(bits[key], rel=1e-12)
        assert paloma == pytest.approx(macro if level == "corpus" else bits[key], rel=1e-12)
        assert correlations == pytest.approx(-totals[key][1] / totals[key][2] / math.log(2), rel=1e-12)


@pytest.mark.parametrize("parity", [False, True])
def test_k_is_exact_for_every_length_and_ratio(parity: bool) -> None:
    """Document n holds -1 ... -n once each, so the mean of its k smallest, (k - 1) / 2 - n, names k."""
    sizes = np.array([*range(1, 2001), *range(2001, 4000, 97)])
    card = load_scores()["min_k"]
    with duckdb.connect() as connection:
        connection.execute("create table sizes as select unnest($sizes::bigint[]) as n", {"sizes": sizes.tolist()})
        tokens = "select 'demo' as run_id, n as doc_id, -i::float as logprob from sizes, range(1, n + 1) t(i)"
        connection.execute(f"create table tokens as {tokens}")
        for ratio in [i / 20 for i in range(1, 21)] + [0.35 * 2, 0.1 * 3, 1 / 3, 0.99]:
            rows = connection.execute(card.sql, card.bind(run_id="demo", ratio=ratio, parity=parity)).fetchall()
            found = {n: None if score is None else round((score + n) * 2 + 1) for _, n, score in rows}
            expected = {n: int(n * ratio) if parity else max(1, int(n * ratio)) for n in sizes.tolist()}
            assert found == {n: k or None for n, k in expected.items()}, ratio


# Evaluation in SQL equals evaluation in Python, which has its own references.


@pytest.mark.parametrize("seed", range(8))
def test_evaluation_equals_python(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 200))
    labels = rng.integers(0, 2, size).astype(np.float64)
    labels[:2] = [0, 1]
    scores = np.round(rng.normal(labels, 1), int(rng.integers(0, 3)))
    scores[2:][rng.random(size - 2) < 0.1] = np.nan
    scores[2:][rng.random(size - 2) < 0.1] = -np.inf
    scores[2:][rng.random(size - 2) < 0.1] = np.inf
    labels[2:][rng.random(size - 2) < 0.1] = np.nan
    (expected,) = evaluation.evaluate({"x": scores}, labels, draws=2)

    with duckdb.connect() as connection:
        table = pa.table({"doc_id": np.arange(size), "score": scores, "label": pa.array(labels, from_pandas=True)})
        connection.register("given", table)
        connection.execute("create table scores as select 'demo' as run_id, doc_id, score from given")
        connection.execute(
            "create table documents as select 'demo' as run_id, doc_id, label::tinyint as label from given"
        )
        ((_, n1, n0, u1, u0, auroc, error),) = run(connection, "auroc")
        by_level = {row[1]: row for row in run(connection, "tpr_at_fpr")}
        ((_, _, fpr, *_),) = run(connection, "fpr_at_tpr")
    counts = (expected.n_positive, expected.n_negative, expected.undefined_positive, expected.undefined_negative)
    assert (n1, n0, u1, u0) == counts
    assert auroc == pytest.approx(expected.auroc, rel=1e-12)
    known = min(n1, n0) > 1
    assert error == pytest.approx(area._error(defined_classes(scores, labels))[0], rel=1e-9) if known else error is None
    for low in expected.tpr_at_fpr:
        _, _, tpr, achieved, threshold, *_, resolvable = by_level[low.level]
        assert (tpr, achieved, resolvable) == (low.tpr, low.fpr, low.resolvable)
        assert threshold == low.threshold or (threshold is None and math.isnan(low.threshold))
    assert fpr == expected.fpr_at_tpr


def run(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple[Any, ...]]:
    card = load_scores()[name]
    return connection.execute(card.sql, card.bind(scores="scores")).fetchall()
