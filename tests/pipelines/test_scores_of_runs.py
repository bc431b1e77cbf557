"""Scores of completions from real runs, through the catalog, against the whole distributions that the runs kept.

prompted  top-k lists as long as the vocabulary, so p_v is known at every token
alone     --transform unprompted
swapped   --transform perturb, two draws
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import runs
import small

from operators.catalog import connect
from pipelines.base_run import inherited
from pipelines.config import ScoreConfig
from pipelines.plan import make_plan
from pipelines.score import score_corpus

SWAP = "perturb:kind=swap_words"

Tokens = dict[int, list[dict[str, Any]]]  # by doc_id, in order


@pytest.fixture(scope="module")
def lake(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts of several lengths and none, texts beyond ASCII, and one of several windows."""
    folder = tmp_path_factory.mktemp("scores")
    pieces = small.stdlib_texts(70)
    records = [{"id": f"d{i}", "text": pieces[3 * i], "prompt": pieces[3 * i + 1][: 13 * (i % 4)]} for i in range(10)]
    records += [{"id": "long", "text": small.stdlib_texts(400)[3], "prompt": "é: "}]
    records += [{"id": "wide", "text": small.HARD_TEXTS[3], "prompt": small.HARD_TEXTS[4]}]
    corpus = folder / "in.jsonl"
    corpus.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    kept = {"features": ["renyi", "topk"], "top_k": small.VOCABULARY, "precision": "full", "language": "python"}
    columns = {"prompt_column": "prompt", "id_column": "id"}
    runs.run(model_folder, corpus, folder / "lake", "prompted", context=96, stride=48, **columns, **kept)
    for run_id, transform in (("alone", "unprompted"), *((f"swapped-{i}", f"{SWAP},copy={i}") for i in (1, 2))):
        fields = {"lake": str(folder / "lake"), "run_id": run_id, "transform": transform, "base_run": "prompted"}
        score_corpus(make_plan(ScoreConfig.parse(**inherited(fields))))
    return folder / "lake"


@pytest.fixture(scope="module")
def connection(lake: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(lake) as connection:
        yield connection


def completions(lake: Path, run_id: str) -> Tokens:
    """Tokens behind the prompt by document; the model's own distribution as `p`."""
    found: Tokens = {}
    for row in runs.rows(lake, "tokens", run_id).to_pylist():
        found.setdefault(row["doc_id"], [])
        if row["in_prompt"] is not True:
            found[row["doc_id"]].append(row)
    return found


def scores(connection: duckdb.DuckDBPyConnection, call: str) -> dict[int, float | None]:
    return {doc_id: score for _, doc_id, score in connection.execute(f"from {call}").fetchall()}


def scored(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in tokens if row["logprob"] is not None]


def test_pmi_pairs_each_token_with_itself(lake: Path, connection: duckdb.DuckDBPyConnection) -> None:
    with_prompt, alone = completions(lake, "prompted"), completions(lake, "alone")
    expected = {}
    for i, tokens in with_prompt.items():
        others = alone[i][-len(tokens) :]
        assert [row["token_id"] for row in others] == [row["token_id"] for row in tokens]
        terms = [a["logprob"] - (b["logprob"] if t else 0) for t, (a, b) in enumerate(zip(tokens, others, strict=True))
                 if a["logprob"] is not None]  # fmt: skip
        expected[i] = pytest.approx(-np.mean(terms), rel=1e-12)
    assert scores(connection, "pmi('prompted', 'alone')") == expected
    assert len({round(score or 0, 6) for score in scores(connection, "pmi('prompted', 'alone')").values()}) > 5


def test_distances_to_uniform_are_those_of_the_distributions(lake: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """At temperature 2, from every probability of the vocabulary."""
    fisher, divergence = (scores(connection, f"{name}('prompted')") for name in ("fisher_rao", "renyi_divergence"))
    certainty = scores(connection, "self_certainty('prompted')")
    for i, tokens in completions(lake, "prompted").items():
        log_p_TV = np.array([row["topk_logprob"] for row in scored(tokens)], np.float64)
        assert log_p_TV.shape[1] == small.VOCABULARY
        q_TV = np.exp(log_p_TV / 2)
        q_TV /= q_TV.sum(1, keepdims=True)
        cosines = np.sqrt(q_TV).sum(1) / math.sqrt(small.VOCABULARY)
        assert fisher[i] == pytest.approx(-(2 / np.pi * np.arccos(cosines)).mean(), abs=1e-5)
        assert divergence[i] == pytest.approx((2 * np.log(cosines)).mean(), abs=1e-5)
        assert certainty[i] == pytest.approx((log_p_TV.mean(1) + math.log(small.VOCABULARY)).mean(), abs=1e-5)


def test_branching_factors_are_those_of_the_distributions(lake: Path, connection: duckdb.DuckDBPyConnection) -> None:
    cut, whole = (scores(connection, f"{name}('prompted', horizon := 10000)")
                  for name in ("branching_factor_top_p", "branching_factor"))  # fmt: skip
    for i, tokens in completions(lake, "prompted").items():
        p_TV = np.exp(np.array([row["topk_logprob"] for row in scored(tokens)], np.float64))
        kept_TV = np.where(np.cumsum(p_TV, 1) - p_TV < 0.9, p_TV, 0)
        kept_TV /= kept_TV.sum(1, keepdims=True)
        for score, rows_TV in ((cut[i], kept_TV), (whole[i], p_TV)):
            logs_TV = np.log(rows_TV, where=rows_TV > 0, out=np.zeros_like(rows_TV))
            assert score == pytest.approx(math.exp(-(rows_TV * logs_TV).sum(1).mean()), rel=1e-5)


def test_atc_leaves_out_comments_and_prompts(lake: Path, connection: duckdb.DuckDBPyConnection) -> None:
    expected, shorter = {}, 0
    for i, tokens in completions(lake, "prompted").items():
        code = [row["entropy"] for row in scored(tokens) if row["in_comment"] is False]
        expected[i] = pytest.approx(-np.mean(code), rel=1e-12) if code else None
        shorter += 0 < len(code) < len(scored(tokens))
    assert scores(connection, "atc('prompted')") == expected
    assert shorter


def test_detectgpt_and_npr_read_the_draws_alone(lake: Path, connection: duckdb.DuckDBPyConnection) -> None:
    names = ["swapped-1", "swapped-2"]
    curvature, ratio = (scores(connection, f"{name}('prompted', {names})") for name in ("detectgpt", "npr"))
    assert len(curvature) == len(ratio) == 12
    original, *draws = ({i: means(tokens) for i, tokens in texts(lake, run).items()} for run in ("prompted", *names))
    for i in curvature:
        drawn = np.array([draw[i] for draw in draws if i in draw])
        assert len(drawn)
        (likelihood, log_rank), (changed, above) = original[i], drawn.mean(0)
        assert curvature[i] == pytest.approx((likelihood - changed) / (drawn[:, 0].std() or 1), rel=1e-9)
        assert ratio[i] == pytest.approx(above / log_rank, rel=1e-12)


def texts(lake: Path, run_id: str) -> Tokens:
    """Scored tokens by document, prompts included."""
    found: Tokens = {}
    for row in scored(runs.rows(lake, "tokens", run_id).to_pylist()):
        found.setdefault(row["doc_id"], []).append(row)
    return found


def means(tokens: list[dict[str, Any]]) -> tuple[float, float]:
    return float(np.mean([row["logprob"] for row in tokens])), float(np.mean(np.log([row["rank"] for row in tokens])))
