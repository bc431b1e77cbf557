"""Rates of windows and documents: intervals that know documents, and counts from the lake against plain loops."""

from __future__ import annotations

import math
from typing import Any

import duckdb
import numpy as np
import pytest
import score_tables
from scipy import stats

from operators.memorization.rates import (
    clustered,
    greedy_rates,
    load,
    sampled_rates,
    share,
    span_rates,
    unknown_windows,
)


def test_a_share_has_the_exact_interval() -> None:
    """Clopper and Pearson by their own definition: tails of the binomial."""
    for hits, n in ((0, 10), (1, 10), (7, 30), (30, 30)):
        interval = share(hits, n).interval
        assert interval is not None
        if hits:
            assert stats.binom.sf(hits - 1, n, interval.low) == pytest.approx(0.025)
        else:
            assert interval.low == 0
        if hits < n:
            assert stats.binom.cdf(hits, n, interval.high) == pytest.approx(0.025)
        else:
            assert interval.high == 1
    assert (share(0, 0).rate, share(0, 0).interval) == (None, None)


def sums(hits: np.ndarray[Any, Any], windows: np.ndarray[Any, Any]) -> tuple[int, int, int]:
    return int((hits**2).sum()), int((hits * windows).sum()), int((windows**2).sum())


def test_windows_that_stand_alone_are_independent() -> None:
    ones = np.ones(40, int)
    hits = np.arange(40) % 4 == 0
    assert clustered(10, 40, 40, sums(hits.astype(int), ones), 10) == share(10, 40)
    assert clustered(3, 40, 40, sums((np.arange(40) < 3).astype(int), ones), 3) == share(3, 40)


def test_windows_of_one_document_count_as_belonging_together() -> None:
    """Ten documents of ten windows, all or none of which are hits, say what ten windows say, less a little."""
    windows = np.full(10, 10)
    hits = np.where(np.arange(10) < 3, 10, 0)
    whole = clustered(30, 100, 10, sums(hits, windows), 3).interval
    as_documents, as_windows = share(3, 10).interval, share(30, 100).interval
    assert whole is not None
    assert as_documents is not None
    assert as_windows is not None
    assert whole.high - whole.low > as_documents.high - as_documents.low > 2 * (as_windows.high - as_windows.low)
    none = clustered(0, 100, 10, sums(0 * hits, windows), 0)
    every = clustered(100, 100, 10, sums(windows, windows), 0)
    assert (none.interval, every.interval) == (share(0, 10).interval, share(10, 10).interval)
    alone = clustered(5, 10, 1, (25, 50, 100), 1).interval  # of one document nothing says how others differ
    assert alone is not None
    assert alone.low < 0.05
    assert alone.high > 0.95


@pytest.mark.parametrize(
    ("documents", "shape"), [(60, (0.3, 1.2)), (20, (0.05, 0.95)), (60, (0.02, 0.98)), (20, (2, 8)), (5, (0.3, 1.2))]
)
def test_intervals_cover(documents: int, shape: tuple[float, float]) -> None:
    """Documents of different sizes with rates of their own, a few known by heart or all known a little: the interval
    holds the true rate in 95 % or more."""
    rng = np.random.default_rng(0)
    true = shape[0] / sum(shape)
    covered = 0
    for _ in range(400):
        windows = rng.integers(1, 20, documents)
        hits = rng.binomial(windows, rng.beta(*shape, documents))
        fewer = min((hits > 0).sum(), (hits < windows).sum())
        interval = clustered(int(hits.sum()), int(windows.sum()), documents, sums(hits, windows), int(fewer)).interval
        assert interval is not None
        covered += true in interval
    assert covered / 400 > 0.93  # two deviations below 95 %


@pytest.fixture
def lake() -> duckdb.DuckDBPyConnection:
    """Windows of six of eight documents in two domains, with log-probs from certain to impossible."""
    connection = score_tables.connect()
    rng = np.random.default_rng(1)
    documents = [
        {
            "run_id": "r",
            "doc_id": i,
            "domain": "ab"[i % 2] if i < 7 else None,
            "attributes": [("copies", str(10 * (i % 3)))],
        }
        for i in range(8)
    ]
    score_tables.insert(connection, "documents", documents)
    special = [0.0, -math.inf, -800.0, None, -1e-9]
    windows = [
        {"run_id": "r", "doc_id": i, "context": context, "position": t, "is_extractable": bool(rng.random() < 0.4),
         "logprob_sampled": special[t] if t < len(special) else -float(rng.gamma(2, 2))}
        for context in ("strict", "document") for i in range(6) for t in range(3 + 2 * i)
    ]  # fmt: skip
    score_tables.insert(connection, "extractions", windows)
    spans = [{"run_id": "r", "doc_id": i, "kind": "verbatim", "position": t, "n_tokens": 50 + i + t}
             for i in (1, 2, 4) for t in range(2)]  # fmt: skip
    score_tables.insert(connection, "spans", spans)
    load(connection, "r", ["domain", "copies"])
    return connection


def counted(
    connection: duckdb.DuckDBPyConnection, context: str, hit: Any, group: Any = lambda i: None
) -> dict[Any, tuple[int, int, int, int]]:
    """By group: hits and windows, documents with a hit and documents."""
    sql = "select doc_id, is_extractable, logprob_sampled from extractions where context = $c"
    by_group: dict[Any, dict[int, list[bool]]] = {}
    for doc_id, extractable, lp in connection.execute(sql, {"c": context}).fetchall():
        value = hit(extractable, lp)
        if value is not None:
            by_group.setdefault(group(doc_id), {}).setdefault(doc_id, []).append(value)
    return {
        name: (sum(map(sum, documents.values())), sum(map(len, documents.values())),
               sum(map(any, documents.values())), len(documents))
        for name, documents in by_group.items()
    }  # fmt: skip


def numbers(rates: Any) -> tuple[int, int, int, int]:
    return rates.windows.hits, rates.windows.n, rates.documents.hits, rates.documents.n


@pytest.mark.parametrize("context", ["strict", "document"])
def test_counts_from_the_lake(lake: duckdb.DuckDBPyConnection, context: str) -> None:
    with lake:
        (every,) = greedy_rates(lake, context)
        assert numbers(every) == counted(lake, context, lambda extractable, lp: extractable)[None]
        for place, group in enumerate((lambda i: "ab"[i % 2], lambda i: str(10 * (i % 3)))):
            found = greedy_rates(lake, context, place)
            expected = counted(lake, context, lambda extractable, lp: extractable, group)
            assert {each.group: numbers(each) for each in found} == expected
            assert [each.group for each in found] == sorted(expected, key=lambda name: (len(name), name))
        assert unknown_windows(lake, context) == 5
        for n in (1, 3, 10, 10_000, 1 << 52):
            for p in (1e-300, 0.1, 0.5, 0.999):

                def is_hit(extractable: bool, lp: float | None, n: int = n, p: float = p) -> bool | None:
                    if lp is None:
                        return None
                    p_z = math.exp(lp)
                    return bool(p_z == 1 or n * math.log1p(-p_z) <= math.log1p(-p))

                assert numbers(sampled_rates(lake, context, n, p)) == counted(lake, context, is_hit)[None]


def test_nothing_to_count() -> None:
    with score_tables.connect() as connection:
        load(connection, "r", [])
        (every,) = greedy_rates(connection, "strict")
        assert numbers(every) == (0, 0, 0, 0)
        assert every.windows.rate is None
        (spans,) = span_rates(connection, "r", "verbatim")
        assert (spans.documents.n, spans.longest) == (0, 0)


def test_documents_with_spans(lake: duckdb.DuckDBPyConnection) -> None:
    with lake:
        (every,) = span_rates(lake, "r", "verbatim")
        assert (every.documents.hits, every.documents.n, every.longest) == (3, 8, 55)
        by_domain = {each.group: (each.documents.hits, each.documents.n, each.longest)
                     for each in span_rates(lake, "r", "verbatim", 0)}  # fmt: skip
        assert by_domain == {"a": (2, 4, 55), "b": (1, 3, 52), None: (0, 1, 0)}
        by_copies = [each.group for each in span_rates(lake, "r", "verbatim", 1)]
        assert by_copies == ["0", "10", "20"]
        (near,) = span_rates(lake, "r", "near_verbatim")
        assert (near.documents.hits, near.longest) == (0, 0)
