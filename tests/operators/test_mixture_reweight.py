"""Re-weighting: the trainer's update, the catalogue's SQL, exact quantiles whatever ties, documents resampled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reweighted
import torch

from operators.evaluation.run_scores import reading
from operators.mixtures import reweight_estimates, reweight_losses
from operators.mixtures.reweight import doremi_path
from operators.mixtures.reweight_estimates import (
    DoremiEstimate,
    Resampling,
    SelectiveEstimate,
    Update,
    doremi_estimate,
    selective_estimate,
)
from operators.mixtures.reweight_groups import DocumentGroups
from operators.mixtures.reweight_losses import UNNAMED, read_components
from operators.mixtures.reweight_selection import ExcessFile, cut_at, make_bins
from operators.score_cards import ScoreError

# metrics.md a_doremi and a_rho; documents are kept by run here, and one without a domain is named
DOREMI_SQL = f"""
WITH s AS (SELECT coalesce(d.domain, '{UNNAMED}') AS domain, avg(greatest(0, r.logprob::DOUBLE - t.logprob)) AS lam
           FROM tokens t JOIN tokens r USING (doc_id, position) JOIN documents d USING (doc_id)
           WHERE t.run_id='early' AND r.run_id='ref' AND d.run_id='ref' AND t.logprob IS NOT NULL GROUP BY 1),
u AS (SELECT domain, lam, exp(1.0 * lam) / count(*) OVER () AS a, count(*) OVER () AS nd FROM s)
SELECT domain, lam, (1 - 1e-3) * a / sum(a) OVER () + 1e-3 / nd AS w FROM u ORDER BY domain
"""
RHO_SQL = f"""
WITH e AS (SELECT t.doc_id, t.position, r.logprob::DOUBLE - t.logprob AS excess
           FROM tokens t JOIN tokens r USING (doc_id, position)
           WHERE t.run_id='early' AND r.run_id='ref' AND t.logprob IS NOT NULL),
s AS (SELECT *, excess >= quantile_cont(excess, 0.4) OVER () AS selected FROM e)
SELECT coalesce(d.domain, '{UNNAMED}') AS domain, count(*) AS n, count(*) FILTER (WHERE selected) AS kept
FROM s JOIN documents d USING (doc_id) WHERE d.run_id = 'early' GROUP BY 1 ORDER BY 1
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lake")
    reweighted.make_lake(path)
    return path


@pytest.fixture(scope="module")
def connection(lake: Path) -> Iterator[Any]:
    with reading(str(lake)) as opened:
        yield opened


def doremi(connection: Any, *proxies: str, by: str = "domain", **more: Any) -> tuple[tuple[str, ...], DoremiEstimate]:
    components = read_components(connection, "ref", by)
    resampling = Resampling(resamples=200, seed=more.pop("seed", 0))
    return components.names, doremi_estimate(connection, proxies, "ref", components, Update(**more), resampling)


def selective(connection: Any, keep: float = 0.6) -> tuple[tuple[str, ...], SelectiveEstimate]:
    components = read_components(connection, "early")
    return components.names, selective_estimate(connection, "early", "ref", components, keep, Resampling(200))


def selected_of(
    monkeypatch: pytest.MonkeyPatch, domains: Any, documents: Any, excess: Any, keep: float
) -> SelectiveEstimate:
    """Of tokens that are given: the domain of each document, the document and the excess of each token."""
    monkeypatch.setattr(reweight_estimates, "ranges", lambda *_: [(0, 1)])
    monkeypatch.setattr(reweight_estimates, "documents_of", lambda *_: (np.arange(domains.size), domains))
    monkeypatch.setattr(reweight_estimates, "token_excesses", lambda *_: (documents, excess))
    components = reweight_losses.Components(tuple(f"d{i}" for i in range(domains.max() + 1)), "domain", "domain")
    return selective_estimate(None, "t", "r", components, keep, Resampling(200))  # type: ignore[arg-type]


# The update


def test_the_path_is_the_trainers() -> None:
    """Against the statements of the official trainer, in torch; absent domains keep their scores."""
    scores = np.array([[0.5, 0.1, 0.0], [np.nan, 0.4, 0.2], [0.3, np.nan, np.nan]])
    weights, last = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    found = doremi_path(scores, weights.numpy(), eta=0.7, smoothing=0.01)
    for step, row in enumerate(torch.tensor(scores)):
        last = torch.where(row.isnan(), last, row)
        weights = 0.99 * torch.softmax(torch.log(weights) + 0.7 * last, dim=0) + 0.01 / 3
        assert found[step] == pytest.approx(weights.numpy(), abs=1e-12)


def test_by_hand() -> None:
    found = doremi_path(np.array([[np.log(3.0), 0.0]]), np.array([0.5, 0.5]), eta=1, smoothing=0.1)
    assert found == pytest.approx(np.array([[0.9 * 0.75 + 0.05, 0.9 * 0.25 + 0.05]]))
    assert doremi_path(np.array([[1e4, 0.0]]), np.array([0.5, 0.5]), 1, 0) == pytest.approx(np.array([[1.0, 0.0]]))
    assert doremi_path(np.array([[1.0, 0.0]]), np.array([0.0, 1.0]), 1, 0) == pytest.approx(np.array([[0.0, 1.0]]))


@pytest.mark.parametrize(
    ("start", "eta", "smoothing"), [([0.5, 0.6], 1, 0), ([-0.5, 1.5], 1, 0), ([0.5, 0.5], 0, 0), ([0.5, 0.5], 1, 2)]
)
def test_what_is_no_setting_is_refused(start: list[float], eta: float, smoothing: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        doremi_path(np.zeros((1, 2)), np.array(start), eta, smoothing)


# From a lake


def test_one_step_is_the_catalogues_sql(connection: Any) -> None:
    rows = connection.execute(DOREMI_SQL).fetchall()
    names, found = doremi(connection, "early")
    assert names == tuple(name for name, _, _ in rows)
    assert UNNAMED in names
    assert found.mean_score.value == pytest.approx([score for _, score, _ in rows])
    assert found.average.value == pytest.approx([w for _, _, w in rows])
    assert found.average.value.sum() == pytest.approx(1)


def test_steps_follow_each_other_and_their_weights_are_averaged(connection: Any) -> None:
    _, both = doremi(connection, "early", "late")
    alone = [doremi(connection, name)[1].scores[0].value for name in ("early", "late")]
    path = doremi_path(np.array(alone), np.full(5, 0.2))
    assert [each.value for each in both.weights] == [pytest.approx(w) for w in path]
    assert both.average.value == pytest.approx(path.mean(axis=0))


def test_a_domain_without_a_token_has_a_weight_and_no_score(connection: Any) -> None:
    """`sparse` has no document of one domain: no score there at the first step, the second step's afterwards."""
    names, found = doremi(connection, "sparse", "late")
    place = names.index("books")
    assert [np.isnan(each.value[place]) for each in found.scores] == [True, False]
    alone = [doremi(connection, name)[1].scores[0].value for name in ("sparse", "late")]
    path = doremi_path(np.array(alone), np.full(5, 0.2))
    assert [each.value for each in found.weights] == [pytest.approx(w) for w in path]
    assert found.n_tokens_SD[0, place] == 0
    assert found.weights[0].value[place] == found.weights[0].value.min() > 0


def test_domains_may_be_a_column_that_was_kept(connection: Any) -> None:
    names, found = doremi(connection, "early", by="half")
    assert names == ("a", "b")
    assert found.n_documents_D.tolist() == [38, 38]
    with pytest.raises(ScoreError, match="no document of run ref has one"):
        read_components(connection, "ref", "nothing")


def test_intervals_hold_the_estimate_repeat_by_seed_and_are_missing_for_one_document(connection: Any) -> None:
    names, first = doremi(connection, "early", "late")
    for each in (first.average, first.mean_score, *first.weights, *first.scores):
        known = ~np.isnan(each.low)
        assert [name for name, has in zip(names, known, strict=True) if not has] == [reweighted.ALONE]
        assert ((each.low < each.value) & (each.value < each.high))[known].all()
    again, other = (doremi(connection, "early", "late", seed=seed)[1] for seed in (0, 1))
    assert np.array_equal(again.average.low, first.average.low, equal_nan=True)
    assert not np.array_equal(other.average.low, first.average.low, equal_nan=True)


def test_selection_is_the_catalogues_sql(connection: Any) -> None:
    rows = connection.execute(RHO_SQL).fetchall()
    names, found = selective(connection)
    assert names == tuple(name for name, _, _ in rows)
    assert found.n_tokens_D.tolist() == [n for _, n, _ in rows]
    assert found.n_selected_D.tolist() == [kept for _, _, kept in rows]
    total = sum(kept for _, _, kept in rows)
    assert found.kept == pytest.approx(total / sum(n for _, n, _ in rows))
    assert found.share.value == pytest.approx([kept / total for _, _, kept in rows])
    assert found.selected.value == pytest.approx([kept / n for _, n, kept in rows])
    known = ~np.isnan(found.share.low)
    for each in (found.share, found.selected):
        assert ((each.low < each.value) & (each.value < each.high))[known].all()


def test_ranges_change_nothing(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = doremi(connection, "early", "late")[1], selective(connection)[1]
    monkeypatch.setattr(reweight_losses, "RANGE_TOKENS", 200)
    assert len(reweight_losses.ranges(connection, "early")) > 5
    cut = doremi(connection, "early", "late")[1], selective(connection)[1]
    assert cut[0].average.low == pytest.approx(whole[0].average.low, nan_ok=True)
    assert cut[1].n_selected_D.tolist() == whole[1].n_selected_D.tolist()
    assert cut[1].share.high == pytest.approx(whole[1].share.high, nan_ok=True)


def test_keeping_all_selects_all(connection: Any) -> None:
    _, found = selective(connection, keep=1.0)
    assert found.kept == 1
    assert found.selected.value == pytest.approx(np.ones(5))
    assert np.isnan(found.selected.low).all()  # 1 whatever is drawn
    assert np.isnan(found.share.low).sum() == 1  # of the one document


def test_what_no_resample_changes_has_no_interval(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, itself = doremi(connection, "sparse")  # as the reference is: every excess is 0
    assert (itself.mean_score.value[np.isfinite(itself.mean_score.value)] == 0).all()
    assert np.isnan(itself.mean_score.low).all()
    far_below = np.repeat([0.0, -9.0], [60, 20])  # of one token each: the second domain is never selected
    found = selected_of(monkeypatch, np.repeat([0, 1], [60, 20]), np.arange(80), far_below + np.linspace(0, 1, 80), 0.3)
    assert found.selected.value.tolist() == [0.4, 0]
    assert np.isnan(found.selected.low).tolist() == [False, True]
    assert np.isnan(found.share.low).all()


def test_other_tokens_at_one_place_are_refused(connection: Any) -> None:
    components = read_components(connection, "ref")
    with pytest.raises(ScoreError, match="different tokens at"):
        doremi_estimate(connection, ["shifted"], "ref", components, Update(), Resampling(100))
    with pytest.raises(ScoreError, match="different tokens at"):
        selective_estimate(connection, "shifted", "ref", components, 0.6, Resampling(100))


# Quantiles


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 30_001])
@pytest.mark.parametrize("digits", [None, 1, 0])
def test_the_quantile_is_numpys_whatever_the_ties(size: int, digits: int | None) -> None:
    rng = np.random.default_rng(size)
    excess = rng.normal(size=size) * rng.choice([1e-9, 1, 300], size)
    excess = excess if digits is None else np.round(excess, digits) + 0.0
    with ExcessFile() as kept:
        for part in np.array_split(excess, 3):
            kept.add(np.zeros(part.size, dtype=np.intp), part)
        for keep in (0.1, 0.37, 0.6, 1.0):
            threshold, atom = kept.quantile(1 - keep)
            assert threshold == pytest.approx(np.quantile(excess, 1 - keep), rel=1e-12)
            chosen = int((excess >= atom).sum())
            assert chosen == (excess >= threshold).sum()
            bins = make_bins(kept, 1 - keep, atom)
            counts = np.bincount(bins.of(excess), minlength=bins.size).astype(float)
            assert counts[bins.atom :].sum() == chosen
            assert counts[bins.atom] == (excess == atom).sum()
            cut = cut_at(counts[None], keep, bins.tied(kept))
            assert cut.selected(counts[None])[0] == pytest.approx(chosen, abs=1)


def test_without_a_token_there_is_nothing_to_select() -> None:
    with ExcessFile() as kept, pytest.raises(ValueError, match="no token has an excess loss"):
        kept.quantile(0.4)


def test_resampled_thresholds_are_those_of_the_resampled_tokens() -> None:
    """Bins stand in for the tokens: what is selected of a resample is what its own quantile selects."""
    rng = np.random.default_rng(0)
    excess, document = rng.normal(size=6000), np.repeat(np.arange(60), 100)
    excess += rng.normal(0, 0.5, 60)[document]
    with ExcessFile() as kept:
        kept.add(document, excess)
        bins = make_bins(kept, 0.4, kept.quantile(0.4)[1])
        is_tied = bins.tied(kept)
    for _ in range(20):
        times = np.bincount(rng.integers(0, 60, 60), minlength=60)[document]
        tokens = np.repeat(excess, times)
        first = np.repeat(document < 20, times)
        chosen = tokens >= np.quantile(tokens, 0.4)
        everything = np.bincount(bins.of(tokens), minlength=bins.size).astype(float)
        of_first = np.bincount(bins.of(tokens[first]), minlength=bins.size).astype(float)
        cut = cut_at(everything[None], 0.6, is_tied)
        most = int(times.max())  # a token that is drawn so often ties with itself
        assert cut.selected(everything[None])[0] == pytest.approx(chosen.sum(), abs=most)
        assert cut.selected(of_first[None])[0] == pytest.approx(chosen[first].sum(), abs=12)


def test_a_resampled_threshold_that_falls_on_another_tie_selects_all_of_it() -> None:
    """As log-probs of compact precision do: all values are on a grid."""
    rng = np.random.default_rng(0)
    excess, document = np.round(16 * rng.normal(0.1, 1, 6000)) / 16, np.repeat(np.arange(60), 100)
    with ExcessFile() as kept:
        kept.add(document, excess)
        _, atom = kept.quantile(0.4)
        bins = make_bins(kept, 0.4, atom)
        is_tied = bins.tied(kept)
    assert is_tied[bins.atom]
    thresholds = set()
    for _ in range(20):
        times = np.bincount(rng.integers(0, 60, 60), minlength=60)[document]
        tokens = np.repeat(excess, times)
        threshold = np.quantile(tokens, 0.4)
        thresholds.add(float(threshold))
        counts = np.bincount(bins.of(tokens), minlength=bins.size).astype(float)
        assert cut_at(counts[None], 0.6, is_tied).selected(counts[None])[0] == (tokens >= threshold).sum()
    assert len(thresholds) > 1


def test_a_share_that_no_double_is_keeps_the_tokens_that_tie_with_its_threshold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1 - 0.7 is above 0.3, and of eleven tokens 0.3 is the fourth's place: eight are at or above it."""
    found = selected_of(monkeypatch, np.zeros(2, dtype=np.intp), np.arange(11) % 2, np.arange(11.0), 0.7)
    assert (found.n_selected_D.tolist(), found.threshold) == ([8], 3.0)


# Groups of documents


def test_documents_are_groups_while_there_are_few_and_are_dealt_evenly_beyond() -> None:
    groups = DocumentGroups(2, 1)
    groups.per_component = 4
    groups._sums = np.zeros((8, 1))
    components = np.array([0, 1, 0, 0, 1, 0])
    rows = np.concatenate([groups.deal(components), groups.deal(components)])
    assert rows.tolist() == [0, 4, 1, 2, 5, 3, 0, 6, 1, 2, 7, 3]
    groups.add(rows, np.ones((12, 1)))
    assert groups._sums[:, 0].tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    assert groups.n_documents.tolist() == [8, 4]
    assert groups.totals[:, 0].tolist() == [8, 4]


@pytest.mark.parametrize("is_stratified", [True, False])
def test_resamples_spread_as_samples_of_documents_do(is_stratified: bool) -> None:
    rng = np.random.default_rng(0)
    values, components = rng.gamma(4, size=3000), np.repeat([0, 1], [600, 2400])
    groups = DocumentGroups(2, 1)
    groups.per_component = 300
    groups._sums = np.zeros((600, 1))
    groups.add(groups.deal(components), values[:, None])
    drawn = np.stack([each.sums[:, 0] for each in groups.resamples(4000, 0, is_stratified=is_stratified)])
    for component in (0, 1):
        of = values[components == component]
        between = 0 if is_stratified else of.mean() ** 2 * of.size * (1 - of.size / 3000)
        assert drawn[component].mean() == pytest.approx(of.sum(), rel=0.01)
        assert drawn[component].var() == pytest.approx(of.var() * of.size + between, rel=0.15)


def test_studentised_ratios_are_wider_where_documents_are_few_and_bare_where_there_is_no_spread() -> None:
    rng = np.random.default_rng(0)
    groups = DocumentGroups(2, 2)
    few = np.column_stack([rng.lognormal(3, 1, 12), rng.lognormal(3, 1, 12)])
    same = np.column_stack([np.full(12, 2.0), np.full(12, 4.0)])
    groups.add(groups.deal(np.repeat([0, 1], 12)), np.concatenate([few, same]))
    first, second = groups.resamples(2000, 0, is_stratified=True)
    tails = [0.025, 0.975]
    low, high = np.quantile(first.ratios(0, 1), tails)
    plain_low, plain_high = np.quantile(first.sums[:, 0] / first.sums[:, 1], tails)
    assert low < few[:, 0].sum() / few[:, 1].sum() < high
    assert high - low > plain_high - plain_low
    assert second.ratios(0, 1) == pytest.approx(np.full(2000, 0.5))
