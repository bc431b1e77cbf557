"""Membership scores against float64 numpy: ties, NULLs, single tokens, infinities, other runs, missing companions.

A run `r` and its companions hold the same documents, but each companion lacks some of them, holds some that `r` lacks,
and holds one without a scored token. Every score has a row for each document of `r`, NULL where it is not defined.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
import pytest
from score_tables import insert, tables

from operators.score_cards import literal, load_scores
from operators.scores import create_macros

Floats = np.ndarray[Any, np.dtype[np.float64]]
Document = dict[str, Floats]
Run = dict[int, Document]
World = tuple[duckdb.DuckDBPyConnection, dict[str, Run]]

RUN = "r"
COPIES = ("r-swap-1", "r-swap-2", "r-swap-3")
RUNS = (RUN, "r-lower", "small", *COPIES, "r-others", "r-members", "unrelated")
COMPANIONS: dict[str, Any] = {
    "lowercased": "r-lower",
    "reference": "small",
    "perturbed": list(COPIES),
    "swapped": list(COPIES[:2]),
    "prefixed": "r-others",
    "member_prefixed": "r-members",
}
STATISTICS = (
    *("logprob", "entropy", "logprob_std", "logprob_max", "logprob_second"),
    *("renyi_half", "renyi_2", "rest_entropy"),
)  # fmt: skip
SIZES = (*range(1, 45), *[1] * 4, 5, 7, 20, 60, 75, 100, 333, 1000)


def random_document(rng: np.random.Generator, size: int) -> Document:
    """Statistics on a coarse grid, so that ties are common; NaN stands for NULL: the first token, and a tenth."""
    certain = rng.random(size) < 0.1
    entropy = np.where(certain, 0.0, np.round(rng.exponential(1.5, size), 1))
    columns = {
        "logprob": np.where(certain & (rng.random(size) < 0.7), 0.0, -np.round(rng.exponential(3, size), 1)),
        "entropy": entropy,
        "logprob_std": np.where(certain, 0.0, np.round(rng.uniform(0.2, 2, size), 1)),
        "logprob_max": -np.round(rng.exponential(0.5, size), 1),
        "renyi_half": 1.5 * entropy,
        "renyi_2": np.round(0.5 * entropy, 1),
        "rest_entropy": np.round(rng.exponential(1, size), 1),
    }
    columns["logprob_second"] = columns["logprob_max"] - np.round(rng.uniform(0.1, 3, size), 1)
    if rng.random() < 0.08:
        columns["logprob"][rng.integers(size)] = -math.inf
    unscored = rng.random(size) < 0.1
    unscored[0] = rng.random() < 0.8
    for values in columns.values():
        values[unscored] = math.nan
    columns["logprob_second"][rng.random(size) < 0.05] = math.nan
    return {name: values.astype(np.float32).astype(np.float64) for name, values in columns.items()}


def impossible(size: int) -> Document:
    """A document of which the model thinks every token impossible."""
    columns = dict.fromkeys(STATISTICS, np.ones(size))
    return {**columns, "logprob": np.full(size, -math.inf), "logprob_max": -np.ones(size)}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    rng = np.random.default_rng(11)
    runs: dict[str, Run] = {}
    for number, run_id in enumerate(RUNS):
        documents = {i: random_document(rng, size) for i, size in enumerate(SIZES)}
        documents[len(SIZES)] = impossible(6)
        for name in ("logprob", "entropy"):  # no token is scored in this one, of run and companions alike
            documents[40][name] = np.full(SIZES[40], math.nan)
        if run_id != RUN:
            documents = {i: d for i, d in documents.items() if i % 11 != number and i != 43}
            documents |= {1000 + number: random_document(rng, 9), 1100: random_document(rng, 5)}
        runs[run_id] = documents
    with tables() as connection:
        for run_id, documents in runs.items():
            insert(connection, "documents", [{"run_id": run_id, "doc_id": i, **sizes(d)} for i, d in documents.items()])
            insert(connection, "tokens", [row for i, d in documents.items() for row in rows_of(run_id, i, d)])
        create_macros(connection)
        yield connection, runs


def sizes(document: Document) -> dict[str, int]:
    n = len(document["logprob"])
    return {"n_bytes": 3 * n + 2, "zlib_bytes": 2 * n + 9}


def rows_of(run_id: str, doc_id: int, document: Document) -> Iterator[dict[str, Any]]:
    positions = np.random.default_rng(doc_id).permutation(len(document["logprob"]))  # rows stand in no order
    for position in positions.tolist():
        values = {name: None if math.isnan(v[position]) else v[position] for name, v in document.items()}
        rank = None if values["logprob"] is None else int(values["renyi_2"] * 10) + 1
        yield {"run_id": run_id, "doc_id": doc_id, "position": position, "rank": rank, **values}


# The references, in float64: NaN where the score is not defined.


def scored(document: Document | None, name: str = "logprob") -> Floats:
    return np.empty(0) if document is None else document[name][~np.isnan(document[name])]


def mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def ll(document: Document | None, first: int = 0) -> float:
    return mean(scored(None if document is None else {"logprob": document["logprob"][first:]}))


def of_smallest(values: Floats, ratio: float, least: int = 1) -> float:
    return mean(np.sort(values)[: max(least, int(len(values) * ratio))])


def of_largest(values: Floats, ratio: float) -> float:
    return -of_smallest(-values, ratio)


def ratio_of(a: float, b: float) -> float:
    return a / b if b != 0 else math.nan


def recall(runs: Mapping[str, Run], i: int, p: dict[str, Any]) -> float:
    first = int(p["aligned"])
    return ratio_of(ll(runs["r-others"].get(i), first), ll(runs[RUN][i], first))


def con_recall(runs: Mapping[str, Run], i: int, p: dict[str, Any]) -> float:
    first = int(p["aligned"])
    others, members = ll(runs["r-others"].get(i), first), ll(runs["r-members"].get(i), first)
    return ratio_of(others - p["gamma"] * members, ll(runs[RUN][i], first))


def neighbourhood(runs: Mapping[str, Run], i: int, p: dict[str, Any]) -> float:
    copies = np.array([ll(runs[copy].get(i)) for copy in COPIES])
    copies = copies[~np.isnan(copies)]
    if not p["parity"] or not len(copies):
        return ll(runs[RUN][i]) - mean(copies)
    return -float(np.min(-ll(runs[RUN][i]) + copies))  # MIMIR: the least difference of losses, lower for members


def per_byte(runs: Mapping[str, Run], i: int, p: dict[str, Any]) -> float:
    ours, other = scored(runs[RUN][i]), scored(runs["small"].get(i))
    return (ours.sum() - other.sum()) / sizes(runs[RUN][i])["n_bytes"] if len(ours) and len(other) else math.nan


def min_k_window(document: Document, p: dict[str, Any]) -> float:
    logprobs, width = scored(document), p["width"]
    starts = range(0, len(logprobs) - width + 1, p["stride"])
    means = np.array([logprobs[i : i + width].mean() for i in starts])
    return of_smallest(means, p["ratio"], 0 if p["parity"] else 1)


def z_of(document: Document) -> Floats:
    with np.errstate(all="ignore"):
        z = (document["logprob"] + document["entropy"]) / document["logprob_std"]
    return z[~np.isnan(z)]


def surp(document: Document, p: dict[str, Any]) -> float:
    logprobs, entropy = scored(document), scored(document, "entropy")
    k = max(0 if p["parity"] else 1, int(len(logprobs) * p["ratio"]))
    if not k or not len(logprobs):
        return math.nan
    return mean(logprobs[(entropy < p["max_entropy"]) & (logprobs <= np.sort(logprobs)[k - 1])])


def distance(document: Document | None, p: dict[str, Any]) -> float:
    return of_largest(scored(document), p["high"]) - of_smallest(scored(document), p["low"])


def pac(runs: Mapping[str, Run], i: int, p: dict[str, Any]) -> float:
    copies = [runs[copy].get(i) for copy in COMPANIONS["swapped"]]
    distances = np.array([distance(copy, p) for copy in copies if len(scored(copy))])
    return mean(distances) - distance(runs[RUN][i], p)


def modified_entropy(document: Document, p: dict[str, Any]) -> float:
    logprobs = scored(document)
    return -mean(-(1 - np.exp(logprobs)) * logprobs + scored(document, "rest_entropy")[: len(logprobs)])


def gap(document: Document, p: dict[str, Any]) -> float:
    gaps = document["logprob_max"] - document["logprob_second"]
    return mean(gaps[~np.isnan(gaps)])


ALONE: dict[str, Callable[[Document, dict[str, Any]], float]] = {
    "loss": lambda d, p: ll(d),
    "zlib": lambda d, p: ll(d) / sizes(d)["zlib_bytes"],
    "min_k": lambda d, p: of_smallest(scored(d), p["ratio"], 0 if p["parity"] else 1),
    "max_k": lambda d, p: of_largest(scored(d), p["ratio"]),
    "min_k_window": min_k_window,
    "surp": surp,
    "max_renyi": lambda d, p: -of_largest(scored(d, "entropy"), p["ratio"]),
    "max_renyi_half": lambda d, p: -of_largest(scored(d, "renyi_half"), p["ratio"]),
    "max_renyi_2": lambda d, p: -of_largest(scored(d, "renyi_2"), p["ratio"]),
    "max_renyi_inf": lambda d, p: -of_largest(-scored(d, "logprob_max"), p["ratio"]),
    "max_prob_gap": gap,
    "modified_entropy": modified_entropy,
    "polarized_distance": lambda d, p: -distance(d, p),
}
TOGETHER: dict[str, Callable[[Mapping[str, Run], int, dict[str, Any]], float]] = {
    "lowercase": lambda runs, i, p: ratio_of(ll(runs["r-lower"].get(i)), ll(runs[RUN][i])),
    "reference": lambda runs, i, p: ll(runs[RUN][i]) - ll(runs["small"].get(i)),
    "reference_ratio": lambda runs, i, p: ratio_of(ll(runs["small"].get(i)), ll(runs[RUN][i])),
    "reference_per_byte": per_byte,
    "neighbourhood": neighbourhood,
    "recall": recall,
    "con_recall": con_recall,
    "pac": pac,
}
VALUES: dict[str, list[Any]] = {
    "ratio": [0.05, 0.2, 0.7, 1.0],
    "parity": [False, True],
    "aligned": [False, True],
    "gamma": [1.0, 0.3],
    "width": [1, 5],
    "stride": [1, 3],
    "max_entropy": [2.0, 0.3],
    "low": [0.3, 1.0],
    "high": [0.05, 0.5],
}


def cases() -> Iterator[Any]:
    cards = load_scores()
    for name in (*ALONE, *TOGETHER):
        settings = [p.name for p in cards[name].parameters if p.default is not None]
        for values in itertools.product(*(VALUES[key] for key in settings)):
            chosen = dict(zip(settings, values, strict=True))
            yield pytest.param(name, chosen, id=f"{name}-{'-'.join(map(str, values))}".rstrip("-"))


@pytest.mark.parametrize(("name", "chosen"), list(cases()))
def test_scores_equal_numpy(world: World, name: str, chosen: dict[str, Any]) -> None:
    connection, runs = world
    card = load_scores()[name]
    given = {c.name: COMPANIONS[c.name] for c in card.companions}
    bound = connection.execute(card.sql, card.bind(run_id=RUN, **given, **chosen)).fetchall()
    settings = [f"{key} := {literal(value)}" for key, value in chosen.items()]
    arguments = ", ".join([literal(RUN), *map(literal, given.values()), *settings])
    macro = connection.execute(f"from {name}({arguments})").fetchall()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        expected = {
            i: ALONE[name](document, chosen) if name in ALONE else TOGETHER[name](runs, i, chosen)
            for i, document in runs[RUN].items()
        }
    assert sum(map(math.isnan, expected.values())) >= 1
    assert sum(map(math.isfinite, expected.values())) >= 4
    for rows in (bound, macro):
        found = {doc_id: score for _, doc_id, score in rows}
        assert len(rows) == len(found)
        assert {run_id for run_id, _, _ in rows} == {RUN}
        assert found.keys() == expected.keys()
        wrong = {i: (found[i], value) for i, value in expected.items() if not agrees(found[i], value)}
        assert wrong == {}


def agrees(found: float | None, expected: float) -> bool:
    if math.isnan(expected):
        return found is None
    return found is not None and found == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_every_membership_score_has_a_reference() -> None:
    elsewhere = {"min_k_plus_plus", "dc_pdd"}  # tests/operators/test_scores_reference.py, test_scores_dc_pdd.py
    names = {name for name, card in load_scores().items() if card.family == "membership"}
    assert names == {*ALONE, *TOGETHER} | elsewhere


def test_documents_are_hard_enough(world: World) -> None:
    """Every special case that the references treat is in the run."""
    documents = world[1][RUN].values()
    scores = [scored(d) for d in documents]
    assert any(len(s) == 0 for s in scores)
    assert any(len(s) == 1 for s in scores)
    assert any(len(s) > 800 for s in scores)
    assert any(np.isneginf(s).all() and len(s) for s in scores)
    assert any(np.isneginf(s).any() and np.isfinite(s).any() for s in scores)
    assert any(len(np.unique(s)) < len(s) / 2 for s in scores)
    assert any(np.isneginf(z_of(d)).any() for d in documents if np.isfinite(scored(d)).all())
    assert any(math.isnan(surp(d, {"parity": False, "ratio": 0.05, "max_entropy": 0.3})) for d in documents)


# Many at once


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(("ratio", "low", "high"), [(0.2, 0.3, 0.05), (0.05, 1.0, 0.5), (0.7, 0.01, 1.0)])
def test_scores_in_one_scan_are_the_single_scores(
    world: World, ratio: float, low: float, high: float, parity: bool
) -> None:
    connection, runs = world
    cards = load_scores()
    chosen = {"ratio": ratio, "low": low, "high": high, "parity": parity, "max_entropy": 1.0}
    card = cards["all_scores"]
    together = connection.sql(card.sql, params=card.bind(run_id=RUN, **chosen)).to_arrow_table()
    assert sorted(together["doc_id"].to_pylist()) == sorted(runs[RUN])
    assert set(card.document_scores) >= {
        *("loss", "zlib", "min_k", "min_k_plus_plus", "max_k", "surp", "max_renyi", "polarized_distance")
    }
    for name in card.document_scores:
        single = cards[name]
        used = {key: value for key, value in chosen.items() if key in {p.name for p in single.parameters}}
        rows = connection.execute(single.sql, single.bind(run_id=RUN, **used)).fetchall()
        found = dict(zip(together["doc_id"].to_pylist(), together[name].to_pylist(), strict=True))
        assert found == {i: None if s is None else pytest.approx(s, rel=1e-11, abs=1e-12) for _, i, s in rows}, name


RATIOS = [0.05, 0.2, 0.7, 0.2, 1.0]


@pytest.mark.parametrize("parity", [False, True])
def test_many_ratios_are_min_k_at_each(world: World, parity: bool) -> None:
    connection, runs = world
    calls = {
        f"min_k_ratios('{RUN}', ratios := {RATIOS}, parity := {parity})": (scored, 0 if parity else 1),
        f"min_k_plus_plus_ratios('{RUN}', ratios := {RATIOS})": (z_of, 1),
    }
    for call, (values_of, least) in calls.items():
        rows = connection.execute(f"from {call}").fetchall()
        assert len(rows) == len(RATIOS) * len(runs[RUN])
        found = {(doc_id, ratio): score for _, doc_id, ratio, score in rows}
        with np.errstate(all="ignore"):
            expected = {(i, r): of_smallest(values_of(d), r, least) for i, d in runs[RUN].items() for r in RATIOS}
        assert {key: (found[key], value) for key, value in expected.items() if not agrees(found[key], value)} == {}


def test_k_is_exact_for_every_length_and_ratio() -> None:
    """Document n holds -1 ... -n once each, so the mean of k from either end names k."""
    lengths = np.array([*range(1, 1001), *range(1001, 4000, 97)])
    ratios = [i / 20 for i in range(1, 21)] + [0.35 * 2, 0.1 * 3, 1 / 3, 0.99]
    k_of = {(n, ratio): max(1, int(n * ratio)) for n in lengths.tolist() for ratio in ratios}
    with duckdb.connect() as connection:
        connection.execute("create table lengths as select unnest($n::bigint[]) as n", {"n": lengths.tolist()})
        tokens = "select 'demo' as run_id, n as doc_id, -i::float as logprob from lengths, range(1, n + 1) t(i)"
        connection.execute(f"create table tokens as {tokens}")
        card = load_scores()["min_k_ratios"]
        rows = connection.execute(card.sql, card.bind(run_id="demo", ratios=ratios)).fetchall()
        assert {(n, ratio): round((score + n) * 2 + 1) for _, n, ratio, score in rows} == k_of
        card = load_scores()["max_k"]
        for ratio in ratios:
            rows = connection.execute(card.sql, card.bind(run_id="demo", ratio=ratio)).fetchall()
            found = {(n, ratio): round(-score * 2 - 1) for _, n, score in rows}
            assert found == {key: k for key, k in k_of.items() if key[1] == ratio}
