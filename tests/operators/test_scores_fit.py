"""Scores of fit against float64 numpy: ratios of sums by domain and corpus, and losses by vocabulary id."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest
import score_tables
from score_tables import Document, draw, found, near, rows

RUN, OTHER, BARE = "with-bos", "other", "without-bos"
SIZES = (*range(1, 25), *[1] * 4, 200)

Lake = tuple[duckdb.DuckDBPyConnection, dict[int, Document]]


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    """One corpus in three runs, of which the second has other numbers; domain `unscored` has no scored token."""
    rng = np.random.default_rng(2)
    documents = {}
    for i, size in enumerate(SIZES):
        facts = {"domain": ["a", "b", None][i % 3], "n_bytes": 3 * size, "n_words": 1 + size // 4}
        documents[i] = draw(rng, size, **facts)
    nothing = draw(rng, 1, domain="unscored", n_bytes=2, n_words=1)
    documents[99] = nothing.without("logprob", "entropy", "rank")
    with score_tables.connect() as connection:
        score_tables.add(connection, RUN, documents, bos_prepended=True)
        score_tables.add(
            connection, OTHER, {i: draw(rng, 9, **d.facts) for i, d in documents.items()}, bos_prepended=True
        )
        score_tables.add(connection, BARE, documents, bos_prepended=False)
        yield connection, documents


def test_perplexity_equals_numpy(lake: Lake) -> None:
    want = {i: math.exp(-d.values("logprob").mean()) if d.scored() else math.nan for i, d in lake[1].items()}
    assert found(lake[0], "perplexity", RUN) == near(want)


@pytest.mark.parametrize(("name", "unit"), [("word_perplexity", "n_words"), ("byte_perplexity", "n_bytes")])
def test_perplexities_equal_numpy(lake: Lake, name: str, unit: str) -> None:
    want: dict[tuple[str, str | None], np.ndarray[Any, Any]] = {}
    for document in lake[1].values():
        n_scored = len(document.scored())
        row = np.array([1, document.facts[unit], document.size, n_scored, document.values("logprob").sum()])
        for key in (("domain", document.facts["domain"]), ("corpus", None)):
            want[key] = want.get(key, 0) + row
    for run in (RUN, BARE):
        got = {row[1:3]: row[3:] for row in rows(lake[0], name, run)}
        assert got.keys() == want.keys()
        for key, (*counts, lm_eval, scored_only) in got.items():
            assert counts == want[key][:4].tolist()
            total = math.exp(-want[key][4] / want[key][1])
            assert scored_only == (pytest.approx(total, rel=1e-12) if want[key][3] else None)
            assert lm_eval == (scored_only if run == RUN else None)


def test_byte_perplexity_is_two_to_the_bits_per_byte(lake: Lake) -> None:
    bits = {row[1:3]: row[7] for row in rows(lake[0], "bits_per_byte", RUN)}
    perplexity = {row[1:3]: row[7] for row in rows(lake[0], "byte_perplexity", RUN)}
    assert {key: None if v is None else pytest.approx(2**v) for key, v in bits.items()} == perplexity


def test_loss_by_token_equals_numpy(lake: Lake) -> None:
    losses: dict[int, list[float | None]] = {}
    for document in lake[1].values():
        for token, value in zip(document.columns["token_id"], document.columns["logprob"], strict=True):
            losses.setdefault(token, []).append(value)
    got = rows(lake[0], "loss_by_token", RUN)
    assert [row[:3] for row in got] == [(RUN, token, len(losses[token])) for token in sorted(losses)]
    for _, token, _, n_scored, loss in got:
        values = [v for v in losses[token] if v is not None]
        assert n_scored == len(values)
        assert loss == (pytest.approx(-np.mean(values), rel=1e-12) if values else None)


def test_token_that_is_never_scored_has_no_loss() -> None:
    with score_tables.connect() as connection:
        tokens = [
            {"run_id": "r", "doc_id": 1, "position": t, "token_id": 5 + t, "logprob": v}
            for t, v in enumerate((None, -1.5))
        ]
        score_tables.insert(connection, "tokens", tokens)
        assert rows(connection, "loss_by_token", "r") == [("r", 5, 1, 0, None), ("r", 6, 1, 1, 1.5)]
