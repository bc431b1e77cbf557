"""Detection scores against float64 numpy: ties, NULLs, single tokens, companions that lack documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pytest
import score_tables
from score_tables import Document, Floats, draw, found, near

from operators.scores import load_scores

RUN, OTHER = "first", "second"
COPIES = ("copy-1", "copy-2", "copy-3")
SIZES = (*range(1, 40), *[1] * 5, 300)

Lake = tuple[duckdb.DuckDBPyConnection, dict[str, dict[int, Document]]]


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    """A run, another over the same documents, and three copies with other tokens; each lacks some documents."""
    rng = np.random.default_rng(3)
    documents = {run: {i: draw(rng, size) for i, size in enumerate(SIZES)} for run in (RUN, OTHER)}
    for k, copy in enumerate(COPIES):
        kept = [i for i in range(len(SIZES)) if i % 5 > k]  # 0 is in none, 1 in the first, 2 in two, 3 and 4 in all
        documents[copy] = {i: draw(rng, 1 + int(rng.integers(SIZES[i] + 2))) for i in kept}
    documents[COPIES[0]][10_000] = draw(rng, 5)  # not a document of the run
    for i in (13, 18):  # the same text three times
        documents |= {copy: documents[copy] | {i: documents[COPIES[0]][i]} for copy in COPIES}
    documents[RUN][3] = certain(4)
    documents[RUN][8] = certain(4)
    documents |= {copy: documents[copy] | {8: certain(3)} for copy in COPIES}
    with score_tables.connect() as connection:
        for run, texts in documents.items():
            score_tables.add(connection, run, texts)
        yield connection, documents


def certain(size: int) -> Document:
    """Every token is the one that the model was sure of."""
    columns = {"logprob": 0.0, "entropy": 0.0, "logprob_std": 0.0, "rank": 1}
    return Document(
        {"token_id": [1] * size} | {name: [None] + [value] * (size - 1) for name, value in columns.items()},
        np.zeros((0, 0)),
    )


def mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def expected(lake: Lake, reference: Callable[[Document], float]) -> dict[int, Any]:
    return near({i: reference(document) for i, document in lake[1][RUN].items()})


SIMPLE: dict[str, Callable[[Document], float]] = {
    "log_likelihood": lambda d: mean(d.values("logprob")),
    "rank": lambda d: -mean(d.values("rank")),
    "log_rank": lambda d: -mean(np.log(d.values("rank"))),
    "entropy": lambda d: mean(d.values("entropy")),
    "typicality": lambda d: -mean(np.abs(-d.values("logprob") - d.values("entropy"))),
    "surprisal_gap": lambda d: mean(d.values("logprob") + d.values("entropy")),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_scores_equal_numpy(lake: Lake, name: str) -> None:
    assert found(lake[0], name, RUN) == expected(lake, SIMPLE[name])


@pytest.mark.parametrize("top", [1, 2, 10, 100])
def test_gltr_equals_numpy(lake: Lake, top: int) -> None:
    assert found(lake[0], "gltr", RUN, top=top) == expected(lake, lambda d: mean(d.values("rank") <= top))


def test_lrr_equals_numpy(lake: Lake) -> None:
    def reference(document: Document) -> float:
        below = mean(np.log(document.values("rank")))
        return math.inf if below == 0 else -mean(document.values("logprob")) / below

    assert found(lake[0], "lrr", RUN) == expected(lake, reference)


def test_fast_detectgpt_equals_numpy(lake: Lake) -> None:
    def reference(document: Document) -> float:
        excess = (document.values("logprob") + document.values("entropy")).sum()
        spread = math.sqrt((document.values("logprob_std") ** 2).sum())
        return float(excess / spread) if spread else math.nan

    assert found(lake[0], "fast_detectgpt", RUN) == expected(lake, reference)


def of_copies(lake: Lake, doc_id: int, copies: tuple[str, ...], measure: Callable[[Document], float]) -> Floats:
    """A number for every copy that has the document, without those that have no scored token in it."""
    values = np.array([measure(lake[1][copy][doc_id]) for copy in copies if doc_id in lake[1][copy]])
    return values[~np.isnan(values)]


@pytest.mark.parametrize("copies", [COPIES, COPIES[:1], COPIES[1:]])
def test_npr_equals_numpy(lake: Lake, copies: tuple[str, ...]) -> None:
    def log_rank(document: Document) -> float:
        return mean(np.log(document.values("rank")))

    scores = {}
    for i, document in lake[1][RUN].items():
        above, below = mean(of_copies(lake, i, copies, log_rank)), log_rank(document)
        undefined = math.isnan(above) or math.isnan(below) or above == below == 0
        scores[i] = math.nan if undefined else math.inf if below == 0 else above / below
    assert math.inf in scores.values()
    assert found(lake[0], "npr", RUN, perturbed=list(copies)) == near(scores)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("copies", [COPIES, COPIES[:1], COPIES[1:]])
def test_detectgpt_equals_numpy(lake: Lake, copies: tuple[str, ...], normalised: bool) -> None:
    scores = {}
    for i, document in lake[1][RUN].items():
        changed = of_copies(lake, i, copies, lambda d: mean(d.values("logprob")))
        spread = changed.std() if len(set(changed)) > 1 and normalised else 1
        scores[i] = (mean(document.values("logprob")) - mean(changed)) / spread
    got = found(lake[0], "detectgpt", RUN, perturbed=list(copies), normalised=normalised)
    assert got == near(scores)


def test_detectgpt_takes_no_rounding_error_for_a_spread() -> None:
    """Copies of one text whose sums are made in other orders, of addends so unlike that the last bits differ."""
    rng = np.random.default_rng(0)
    values = (-rng.exponential(3, 4000) * 10.0 ** rng.uniform(-9, 1, 4000)).astype(np.float32)
    with score_tables.connect() as connection:
        for run in ("r", "a", "b", "c"):
            order = values[:2000] if run == "r" else rng.permutation(values)
            rows = [{"run_id": run, "doc_id": 1, "position": t, "logprob": v} for t, v in enumerate(order.tolist())]
            score_tables.insert(connection, "tokens", rows)
        means = connection.execute("select avg(logprob) from tokens where run_id <> 'r' group by run_id").fetchall()
        scores = found(connection, "detectgpt", "r", perturbed=["a", "b", "c"])
    assert len(set(means)) > 1
    wide = values.astype(np.float64)
    assert scores == {1: pytest.approx(wide[:2000].mean() - wide.mean(), rel=1e-9)}


def test_detectgpt_next_to_an_impossible_copy_is_undefined() -> None:
    """An infinite mean has no spread."""
    means = {"r": -1.0, "a": -2.0, "b": -math.inf}
    with score_tables.connect() as connection:
        rows = [{"run_id": run, "doc_id": 1, "position": 1, "logprob": value} for run, value in means.items()]
        score_tables.insert(connection, "tokens", rows)
        assert found(connection, "detectgpt", "r", perturbed=["a", "b"]) == {1: None}


@pytest.mark.parametrize("name", ["npr", "detectgpt"])
def test_no_companion_leaves_every_document_undefined(lake: Lake, name: str) -> None:
    for companions in ([], ["no such run"], ["x' or '1'='1"]):
        assert found(lake[0], name, RUN, perturbed=companions) == dict.fromkeys(lake[1][RUN])


@pytest.mark.parametrize("top", [10, 2])
def test_scores_in_one_scan_are_the_single_scores(lake: Lake, top: int) -> None:
    cards = load_scores()
    columns = cards["detection_scores"].document_scores
    companions = {name for name, card in cards.items() if card.companions}
    assert {*columns, *companions, "atc"} >= {name for name, card in cards.items() if card.family == "detection"}
    together = score_tables.rows(lake[0], "detection_scores", RUN, top=top)
    assert len(together) == len(lake[1][RUN])
    for place, name in enumerate(columns, 2):
        single = found(lake[0], name, RUN, **({"top": top} if name == "gltr" else {}))
        assert {row[1]: row[place] for row in together} == near_or_none(single), name


def near_or_none(scores: dict[int, float | None]) -> dict[int, Any]:
    return near({i: math.nan if value is None else value for i, value in scores.items()})


# Code behind a task


def commented(rng: np.random.Generator, document: Document, share: float | None) -> Document:
    """With comments: runs of tokens behind the prompt, or not known (`share` None)."""
    start = document.prompt_tokens or 0
    draws = np.repeat(rng.random(document.size), 3)[: document.size]  # three tokens in a row
    flags = [None if share is None else bool(t >= start and x < share) for t, x in enumerate(draws)]
    return replace(document, columns={**document.columns, "in_comment": flags})


@pytest.mark.parametrize("parity", [False, True])
def test_atc_equals_numpy(parity: bool) -> None:
    rng = np.random.default_rng(9)
    documents = {}
    for i, size in enumerate(SIZES):
        document = draw(rng, size, prompt_tokens=size if i % 7 == 3 else int(rng.integers(size)))
        documents[i] = commented(rng, document, [0.4, 0.0, None, 1.0, 0.4][i % 5])
    scores = {}
    for i, document in documents.items():
        flags = document.columns["in_comment"]
        left_out = [False, *flags[:-1]] if parity else flags
        kept = [t for t in document.scored(completion=True) if flags[t] is not None and not left_out[t]]
        scores[i] = -mean(np.array([document.columns["entropy"][t] for t in kept]))
    plain = {i: replace(d, columns={**d.columns, "in_prompt": [None] * d.size}) for i, d in documents.items()}
    with score_tables.connect() as connection:
        score_tables.add(connection, RUN, documents)
        score_tables.add(connection, OTHER, plain)
        got = found(connection, "atc", RUN, parity=parity)
        assert found(connection, "atc", OTHER, parity=parity) == dict.fromkeys(plain)
    assert got == near(scores)
    assert sum(not math.isnan(v) for v in scores.values()) > 15


def test_documents_are_hard_enough(lake: Lake) -> None:
    documents = [d for d in lake[1][RUN].values() if d.scored()]
    assert len(documents) < len(SIZES)
    assert any(len(d.scored()) == 1 for d in documents)
    assert any(len(set(d.values("logprob"))) < len(d.scored()) / 2 for d in documents)
    assert any(10 < max(d.values("rank")) < 100 for d in documents)


@pytest.mark.parametrize("name", [n for n, c in load_scores().items() if c.family == "detection" and c.rollup])
def test_rollups_say_the_same(lake: Lake, name: str) -> None:
    """The header's expression over a row of `documents`, from sums made in numpy."""
    card, connection = load_scores()[name], lake[0]
    sums = "logprob_sum double, entropy_sum double, varentropy_sum double, log_rank_sum double, n_rank_1 bigint"
    connection.execute(f"create or replace table kept (doc_id bigint, n_scored bigint, {sums})")
    for i, d in lake[1][RUN].items():
        row = [d.values("logprob").sum(), d.values("entropy").sum(), (d.values("logprob_std") ** 2).sum()]
        row += [np.log(d.values("rank")).sum(), int((d.values("rank") == 1).sum())]
        values = [float(v) if isinstance(v, np.floating) else v for v in row] if d.scored() else [None] * 5
        connection.execute("insert into kept values (?, ?, ?, ?, ?, ?, ?)", [i, len(d.scored()), *values])
    settings = {"top": 1} if "$top" in card.rollup_if else {}
    kept = dict(connection.execute(f"select doc_id, {card.rollup} from kept").fetchall())
    direct = found(connection, name, RUN, **settings)
    assert kept == {i: None if v is None else pytest.approx(v, rel=1e-12, abs=1e-12) for i, v in direct.items()}
