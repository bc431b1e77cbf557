"""Uncertainty scores against float64 numpy: of completions where there are prompts, of whole documents elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pytest
import score_tables
from score_tables import TOP, VOCABULARY, Document, Floats, draw, found, near, rows

from operators.scores import load_scores

# Documents with prompts of every length from none to all, and the same without a prompt column.
PROMPTED, PLAIN, ALONE, BARE = "prompted", "plain", "alone", "bare"
SIZES = (*range(1, 30), *[1] * 4, 60, 120, 160)

Lake = tuple[duckdb.DuckDBPyConnection, dict[str, dict[int, Document]]]


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    rng = np.random.default_rng(5)
    documents: dict[str, dict[int, Document]] = {run: {} for run in (PROMPTED, PLAIN, ALONE, BARE)}
    for i, size in enumerate(SIZES):
        prompt = size if i % 7 == 3 else int(rng.integers(min(size, 30)))
        document = draw(rng, size, prompt_tokens=prompt, sharpness=2 if i % 2 else 1)
        documents[PROMPTED][i] = document
        documents[PLAIN][i] = draw(rng, size, sharpness=2 if i % 3 else 1)
        documents[ALONE][i] = alone(rng, document, prefix=i % 2)
        documents[BARE][i] = documents[PLAIN][i].without(*COLUMNS_OF_GROUPS)
    spoil(documents[ALONE], rng)
    with score_tables.connect() as connection:
        for run, texts in documents.items():
            score_tables.add(connection, run, texts)
        yield connection, documents


COLUMNS_OF_GROUPS = ("renyi_quarter", "renyi_half", "logprob_uniform", "topk_id", "topk_logprob")


def alone(rng: np.random.Generator, document: Document, prefix: int) -> Document:
    """The completion's own tokens behind `prefix` tokens of a template, with other statistics."""
    ids = document.columns["token_id"][document.prompt_tokens :]
    other = draw(rng, max(1, prefix + len(ids)))
    ids = [0] * (other.size - len(ids)) + list(ids)
    return replace(other, columns={**other.columns, "token_id": ids})


def spoil(documents: dict[int, Document], rng: np.random.Generator) -> None:
    """Take documents away, change the tokens of one, cut the first token of another."""
    del documents[6], documents[20]
    for i, ids in ((12, slice(None, None)), (15, slice(1, None))):
        columns = {name: list(values)[ids] for name, values in documents[i].columns.items()}
        if i == 12:
            columns["token_id"] = [(v + 1) % VOCABULARY for v in columns["token_id"]]
        documents[i] = replace(documents[i], columns=columns)
    documents[777] = draw(rng, 4)  # not a document of the run


def mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def expected(documents: dict[int, Document], reference: Callable[[Document], float]) -> dict[int, Any]:
    """NaN where no token of the completion is scored, the reference elsewhere."""
    return near({i: reference(d) if d.scored(completion=True) else math.nan for i, d in documents.items()})


def of(document: Document, name: str) -> Floats:
    return document.values(name, completion=True)


SIMPLE: dict[str, Callable[[Document], float]] = {
    "perplexity_estimator": lambda d: -mean(of(d, "logprob")),
    "sequence_nll": lambda d: float(-of(d, "logprob").sum()),
    "mean_entropy": lambda d: mean(of(d, "entropy")),
    "self_certainty": lambda d: -mean(-of(d, "logprob_uniform") - math.log(VOCABULARY)),
}


@pytest.mark.parametrize("run", [PROMPTED, PLAIN])
@pytest.mark.parametrize("name", SIMPLE)
def test_scores_equal_numpy(lake: Lake, name: str, run: str) -> None:
    assert found(lake[0], name, run) == expected(lake[1][run], SIMPLE[name])


def test_documents_are_hard_enough(lake: Lake) -> None:
    documents = lake[1][PROMPTED].values()
    assert any(d.prompt_tokens == 0 and d.size > 1 for d in documents)
    assert any(d.prompt_tokens == d.size for d in documents)
    assert any(d.scored() and not d.scored(completion=True) for d in documents)
    assert any(len(d.scored(completion=True)) == 1 for d in documents)
    assert any(len(d.scored(completion=True)) > 50 for d in documents)


@pytest.mark.parametrize("name", ["self_certainty", "fisher_rao", "renyi_divergence", "dynamic_instability",
                                  "instability_position", "branching_factor_top_p"])  # fmt: skip
def test_without_its_columns_a_score_is_null(lake: Lake, name: str) -> None:
    assert found(lake[0], name, BARE) == dict.fromkeys(lake[1][BARE])


# Quantiles


@pytest.mark.parametrize("run", [PROMPTED, PLAIN])
@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.37, 0.5, 0.9, 1.0])
def test_chow_quantile_equals_numpy(lake: Lake, quantile: float, run: str) -> None:
    want = expected(lake[1][run], lambda d: float(np.quantile(-of(d, "logprob"), quantile)))
    assert found(lake[0], "chow_quantile", run, quantile=quantile) == want


def test_chow_quantiles_equal_numpy(lake: Lake) -> None:
    got = {row[1]: row[2:] for row in rows(lake[0], "chow_quantiles", PROMPTED)}
    assert got.keys() == lake[1][PROMPTED].keys()
    for i, document in lake[1][PROMPTED].items():
        values = -of(document, "logprob")
        assert got[i][0] == len(values)
        quantiles = np.quantile(values, np.arange(11) / 10) if len(values) else [math.nan] * 11
        assert dict(enumerate(got[i][1:])) == near(dict(enumerate(map(float, quantiles))))


# With and without the prompt


def information(document: Document, other: Document | None, term: Callable[[float, float, float, int], float]) -> float:
    """Minus the mean of `term(with, without, entropy, t)` over the completion's scored tokens, paired by order."""
    start = document.prompt_tokens or 0
    ids = list(document.columns["token_id"][start:])
    if other is None or not ids or list(other.columns["token_id"])[-len(ids) :] != ids:
        return math.nan
    before, after = document.columns["logprob"][start:], other.columns["logprob"][-len(ids) :]
    entropies = document.columns["entropy"][start:]
    terms = []
    for t, (a, b, h) in enumerate(zip(before, after, entropies, strict=True)):
        value = math.nan if a is None else term(a, math.nan if b is None else b, h, t)
        terms += [] if math.isnan(value) else [value]
    return -float(np.mean(terms)) if terms else math.nan


def test_pmi_equals_numpy(lake: Lake) -> None:
    connection, documents = lake
    want = {
        i: information(d, documents[ALONE].get(i), lambda a, b, h, t: a - (b if t > 0 else 0))
        for i, d in documents[PROMPTED].items()
    }
    assert found(connection, "pmi", PROMPTED, unprompted=ALONE) == near(want)
    assert [math.isnan(want[i]) for i in (6, 20, 12)] == [True] * 3
    assert sum(math.isnan(v) for v in want.values()) < len(want) / 2


@pytest.mark.parametrize(("tau", "weight"), [(0.0656, 3.599), (1.5, 3.599), (0.0, 1.0)])
def test_conditional_pmi_equals_numpy(lake: Lake, tau: float, weight: float) -> None:
    connection, documents = lake

    def term(a: float, b: float, h: float, t: int) -> float:
        return a - weight * b if t > 0 and h >= tau else a

    want = {i: information(d, documents[ALONE].get(i), term) for i, d in documents[PROMPTED].items()}
    got = found(connection, "conditional_pmi", PROMPTED, unprompted=ALONE, tau=tau, weight=weight)
    assert got == near(want)
    if (tau, weight) == (0.0, 1.0):  # the rule of pmi
        assert got == near({i: v if v is not None else math.nan for i, v in pmi(lake).items()})


def pmi(lake: Lake) -> dict[int, float | None]:
    return found(lake[0], "pmi", PROMPTED, unprompted=ALONE)


@pytest.mark.parametrize("name", ["pmi", "conditional_pmi"])
def test_without_a_companion_every_document_is_null(lake: Lake, name: str) -> None:
    assert found(lake[0], name, PROMPTED, unprompted="no such run") == dict.fromkeys(lake[1][PROMPTED])


# Distances to uniform


def hot_sums(document: Document) -> Floats:
    """sum_v sqrt(q_v), q the distribution at temperature 2, of the completion's scored tokens, from p itself."""
    q_TV = np.sqrt(document.p_TV[document.scored(completion=True)])
    q_TV /= q_TV.sum(1, keepdims=True)
    return np.asarray(np.sqrt(q_TV).sum(1))


def stored_hot_sums(document: Document) -> Floats:
    return np.exp(0.75 * of(document, "renyi_quarter") - 0.25 * of(document, "renyi_half"))


def fisher_rao(sums: Floats) -> float:
    return -mean(2 / np.pi * np.arccos(np.minimum(sums / math.sqrt(VOCABULARY), 1)))


def renyi(sums: Floats, constant: float = -math.log(VOCABULARY)) -> float:
    return mean(2 * np.log(sums)) + constant


@pytest.mark.parametrize("run", [PROMPTED, PLAIN])
def test_distances_to_uniform_equal_numpy(lake: Lake, run: str) -> None:
    connection, documents = lake[0], lake[1][run]
    assert found(connection, "fisher_rao", run) == expected(documents, lambda d: fisher_rao(stored_hot_sums(d)))
    assert found(connection, "renyi_divergence", run) == expected(documents, lambda d: renyi(stored_hot_sums(d)))
    parity = expected(documents, lambda d: renyi(stored_hot_sums(d), math.log(VOCABULARY)))
    assert found(connection, "renyi_divergence", run, parity=True) == parity


@pytest.mark.parametrize(("name", "distance"), [("fisher_rao", fisher_rao), ("renyi_divergence", renyi)])
def test_distances_are_those_of_the_distributions(lake: Lake, name: str, distance: Callable[[Floats], float]) -> None:
    """From the probabilities at temperature 2 themselves, within what float32 columns allow."""
    scores = found(lake[0], name, PLAIN)
    for i, document in lake[1][PLAIN].items():
        if document.scored():
            assert scores[i] == pytest.approx(distance(hot_sums(document)), abs=1e-5)


def test_uniform_predictions_have_no_distance() -> None:
    """Rounding takes the cosine above 1; certain ones are as far as can be."""
    entropy = float(np.float32(math.log(VOCABULARY)) * np.float32(1 + 1e-7))
    columns = {"renyi_quarter": [None, entropy, 0.0], "renyi_half": [None, entropy, 0.0]}
    with score_tables.connect() as connection:
        for doc_id, t in ((1, 1), (2, 2)):
            picked = {name: [values[0], values[t]] for name, values in columns.items()}
            score_tables.insert(
                connection,
                "tokens",
                [
                    {"run_id": "r", "doc_id": doc_id, "position": k, **{n: v[k] for n, v in picked.items()}}
                    for k in (0, 1)
                ],
            )
        score_tables.insert(connection, "runs", [{"run_id": "r", "state": "finished", "vocab_size": VOCABULARY}])
        fisher, divergence = (found(connection, name, "r") for name in ("fisher_rao", "renyi_divergence"))
    farthest = 2 / math.pi * math.acos(1 / math.sqrt(VOCABULARY))
    assert fisher == {1: pytest.approx(0, abs=1e-3), 2: pytest.approx(-farthest)}
    assert divergence == {1: pytest.approx(0, abs=1e-6), 2: pytest.approx(-math.log(VOCABULARY))}


# Samples of one prompt


PROMPTS = ("Frage: größer?", "Frage: größer!", "", None)


@pytest.fixture(scope="module")
def samples() -> Iterator[Lake]:
    """Three to nine completions a prompt; one prompt is empty; some texts were dropped, some have no attribute."""
    rng = np.random.default_rng(8)
    documents = {}
    for i in range(24):
        prompt, size = PROMPTS[i % 3], int(rng.integers(1, 12))
        facts = {
            "text": None if i in (4, 9) else f"{prompt}{'' if i % 5 else 'é'}{i}",
            "prompt_bytes": len((prompt or "").encode()),
            "attributes": [("of", f"g{i % 4}")] if i % 4 else [],
        }
        documents[i] = draw(rng, size, prompt_tokens=0 if not prompt else int(rng.integers(size)), **facts)
    documents[24] = draw(rng, 3, prompt_tokens=3, **documents[3].facts)  # nothing of its own, its prompt's value
    with score_tables.connect() as connection:
        score_tables.add(connection, "r", documents)
        score_tables.add(
            connection, "other", {i: draw(rng, 3, prompt_tokens=1, **d.facts) for i, d in documents.items()}
        )
        yield connection, {"r": documents}


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("attribute", ["", "of", "none has this"])
def test_sequence_entropy_equals_numpy(samples: Lake, attribute: str, normalised: bool) -> None:
    connection, documents = samples[0], samples[1]["r"]
    groups: dict[Any, list[int]] = {}
    for i, document in documents.items():
        facts = document.facts
        dropped = None if facts["text"] is None else facts["text"].encode()[: facts["prompt_bytes"]]
        groups.setdefault(dict(facts["attributes"]).get(attribute) if attribute else dropped, []).append(i)
    want = dict.fromkeys(documents, math.nan)
    for group, members in groups.items():
        sums = [of(documents[i], "logprob") for i in members]
        values = [s.mean() if normalised else s.sum() for s in sums if len(s)]
        if group is not None and values:
            want |= dict.fromkeys(members, -float(np.mean(values)))
    got = found(connection, "sequence_entropy", "r", attribute=attribute, normalised=normalised)
    assert got == near(want)
    assert len({v for v in got.values() if v is not None}) == {"": 3, "of": 3}.get(attribute, 0)


def test_sequence_entropy_of_a_run_without_prompts_is_null(lake: Lake) -> None:
    assert found(lake[0], "sequence_entropy", PLAIN) == dict.fromkeys(lake[1][PLAIN])


# Instability


def signals(document: Document, weight: float, top: int) -> dict[int, float]:
    """Step (from 1) of the completion -> Jensen-Shannon divergence from the step before, plus weight times entropy."""
    p_TV = np.zeros((document.size, VOCABULARY))
    steps = document.scored(completion=True)
    for t in steps:
        ids, masses = document.columns["topk_id"][t][: top or TOP], document.columns["topk_logprob"][t][: top or TOP]
        p_TV[t, ids] = np.exp(np.array(masses))
        p_TV[t] /= p_TV[t].sum()
    divergences = {}
    for step, t in enumerate(steps, 1):
        if t - 1 in steps:
            divergences[step] = entropy((p_TV[t] + p_TV[t - 1]) / 2) - (entropy(p_TV[t]) + entropy(p_TV[t - 1])) / 2
    return {step: value + weight * entropy(p_TV[steps[step - 1]]) for step, value in divergences.items()}


def entropy(p_V: Floats) -> float:
    positive = p_V[p_V > 0]
    return float(-(positive * np.log(positive)).sum())


@pytest.mark.parametrize("run", [PROMPTED, PLAIN])
@pytest.mark.parametrize(("weight", "top"), [(1.0, 0), (0.0, 0), (0.3, 3), (1.0, 50)])
def test_dynamic_instability_equals_numpy(lake: Lake, run: str, weight: float, top: int) -> None:
    connection, documents = lake[0], lake[1][run]
    traces = {i: signals(d, weight, top) for i, d in documents.items()}
    peaks = {i: max(trace.values(), default=math.nan) for i, trace in traces.items()}
    assert found(connection, "dynamic_instability", run, weight=weight, top=top) == near(peaks)
    assert sum(math.isnan(v) for v in peaks.values()) < len(peaks) / 2
    for i, place in found(connection, "instability_position", run, weight=weight, top=top).items():
        if math.isnan(peaks[i]):
            assert place is None
        else:
            at_peak = [step for step, value in traces[i].items() if value > peaks[i] - 1e-9]
            length = len(documents[i].scored(completion=True))
            assert place in [pytest.approx(step / length, rel=1e-12) for step in at_peak]


def test_the_first_of_equal_peaks_is_taken_and_disjoint_lists_are_ln_2_apart() -> None:
    lists = [None, [1, 2], [3, 4], [1, 2], [1, 2], [5, 6]]
    half = math.log(0.25)  # two tokens of a quarter each: renormalised to a half
    tokens = [
        {"run_id": "r", "doc_id": 1, "position": t, "topk_id": ids, "topk_logprob": ids and [half, half]}
        for t, ids in enumerate(lists)
    ]
    with score_tables.connect() as connection:
        score_tables.insert(connection, "tokens", tokens)
        score_tables.insert(connection, "documents", [{"run_id": "r", "doc_id": 1}])
        assert found(connection, "dynamic_instability", "r") == {1: pytest.approx(2 * math.log(2))}
        assert found(connection, "dynamic_instability", "r", weight=0.0) == {1: pytest.approx(math.log(2))}
        assert found(connection, "instability_position", "r") == {1: pytest.approx(2 / 5)}


# Branching


@pytest.mark.parametrize("run", [PROMPTED, PLAIN])
@pytest.mark.parametrize("horizon", [50, 4, 0])
def test_branching_factor_equals_numpy(lake: Lake, run: str, horizon: int) -> None:
    def reference(document: Document) -> float:
        is_short = len(of(document, "logprob")) <= horizon
        return math.exp(mean(of(document, "entropy")) if is_short else -mean(of(document, "logprob")))

    assert found(lake[0], "branching_factor", run, horizon=horizon) == expected(lake[1][run], reference)


def nucleus(document: Document, t: int, top_p: float) -> tuple[float, float]:
    """Entropy of the renormalised nucleus at t, and -ln of the token's probability in it; NaN where undefined."""
    masses = np.exp(np.array(document.columns["topk_logprob"][t]))
    if masses.sum() < top_p:
        return math.nan, math.nan
    n_kept = int(np.searchsorted(np.cumsum(masses), top_p)) + 1
    q = masses[:n_kept] / masses[:n_kept].sum()
    is_inside = document.columns["token_id"][t] in document.columns["topk_id"][t][:n_kept]
    nll = math.log(masses[:n_kept].sum()) - document.columns["logprob"][t] if is_inside else math.nan
    return float(-(q * np.log(q)).sum()), nll


@pytest.mark.parametrize("run", [PROMPTED, PLAIN])
@pytest.mark.parametrize(("top_p", "horizon"), [(0.9, 50), (0.5, 50), (0.5, 2), (0.7, 0), (1.0, 50)])
def test_branching_factor_top_p_equals_numpy(lake: Lake, run: str, top_p: float, horizon: int) -> None:
    def reference(document: Document) -> float:
        steps = np.array([nucleus(document, t, top_p) for t in document.scored(completion=True)])
        return math.exp(steps[:, 0].mean()) if len(steps) <= horizon else branching(steps)

    def branching(steps: Floats) -> float:
        return math.nan if np.isnan(steps).any() else math.exp(steps[:, 1].mean())

    got = found(lake[0], "branching_factor_top_p", run, top_p=top_p, horizon=horizon)
    assert got == expected(lake[1][run], reference)
    if top_p < 1:
        assert 0 < sum(value is None for value in got.values()) < len(got)


def test_branching_factor_top_p_is_that_of_the_whole_distributions(lake: Lake) -> None:
    """Where the nucleus is inside the list, cut from p itself."""
    got = {i: v for i, v in found(lake[0], "branching_factor_top_p", PLAIN, top_p=0.5).items() if v is not None}
    short = [i for i in got if len(lake[1][PLAIN][i].scored()) <= 50]
    assert len(short) > 5
    for i in short:
        document, entropies = lake[1][PLAIN][i], []
        for t in document.scored():
            p_V = np.sort(document.p_TV[t])[::-1]
            kept = p_V[np.concatenate([[0.0], np.cumsum(p_V)[:-1]]) < 0.5]
            entropies.append(entropy(kept / kept.sum()))
        assert got[i] == pytest.approx(math.exp(np.mean(entropies)), rel=1e-5)


# Many at once


@pytest.mark.parametrize("run", [PROMPTED, PLAIN, BARE])
@pytest.mark.parametrize("chosen", [{}, {"quantile": 0.3, "parity": True, "horizon": 4}])
def test_scores_in_one_scan_are_the_single_scores(lake: Lake, chosen: dict[str, Any], run: str) -> None:
    cards = load_scores()
    columns = cards["uncertainty_scores"].document_scores
    assert len(columns) == 8
    together = rows(lake[0], "uncertainty_scores", run, **chosen)
    assert len(together) == len(lake[1][run])
    for place, name in enumerate(columns, 2):
        used = {p.name: chosen[p.name] for p in cards[name].parameters if p.name in chosen}
        single = {i: math.nan if v is None else v for i, v in found(lake[0], name, run, **used).items()}
        assert {row[1]: row[place] for row in together} == near(single), name


# Cards


def test_cards_say_what_a_completion_is() -> None:
    cards = [card for card in load_scores().values() if card.family == "uncertainty"]
    assert len(cards) >= 15
    for card in cards:
        assert "in_prompt" in card.reads["tokens"]
        assert not card.rollup  # those of `documents` are of prompts, too
