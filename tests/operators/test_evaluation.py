"""AUROC, its intervals and tests, and the whole report, against scikit-learn, SciPy, brute force and simulations."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from labelled import Floats, random_case
from scipy.stats import beta, chisquare, mannwhitneyu, moment, norm, permutation_test, rankdata, t
from sklearn.metrics import roc_auc_score

from operators.evaluation import (
    FPR_LEVELS,
    Interval,
    area,
    auroc,
    auroc_interval,
    auroc_p_value,
    bh_adjusted,
    bootstrap,
    bootstrap_auroc,
    compare_auroc,
    evaluate,
    fpr_at_tpr,
    fpr_at_tpr_interval,
    holm_adjusted,
    mann_whitney,
    tpr_at_fpr,
    tpr_at_fpr_interval,
)
from operators.evaluation.classes import defined_classes

# AUROC


@pytest.mark.parametrize("seed", range(20))
def test_auroc_equals_sklearn(seed: int) -> None:
    scores, labels = random_case(seed)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def delong_error(scores: Floats, labels: Floats, clusters: Floats | None = None) -> float:
    return area._error(defined_classes(scores, labels, clusters))[0]


def delong_by_pairs(scores: Floats, labels: Floats) -> float:
    """DeLong's standard error from the n1 x n0 matrix of comparisons, in the notation of the paper."""
    x, y = scores[labels == 1], scores[labels == 0]
    psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    v10, v01, theta = psi.mean(axis=1), psi.mean(axis=0), psi.mean()
    s10 = ((v10 - theta) ** 2).sum() / (len(x) - 1)
    s01 = ((v01 - theta) ** 2).sum() / (len(y) - 1)
    return math.sqrt(s10 / len(x) + s01 / len(y))


@pytest.mark.parametrize("seed", range(20))
def test_delong_equals_pairs(seed: int) -> None:
    scores, labels = random_case(seed)
    assert delong_error(scores, labels) == pytest.approx(delong_by_pairs(scores, labels), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_bootstrap_agrees_with_delong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([1.0, 0.0], 300)
    scores = np.round(rng.normal(labels, 1), 1)
    drawn = auroc_interval(scores, labels, method="bootstrap")
    normal = auroc_interval(scores, labels)
    assert (drawn.low, drawn.high) == pytest.approx((normal.low, normal.high), abs=0.006)


def test_infinities_are_orders_and_undefined_is_left_out() -> None:
    scores = [math.inf, 1.0, None, math.nan, -math.inf, 0.0]
    labels = [1, 0, 1, 0, 0, 1]
    assert auroc(scores, labels) == 3 / 4
    assert tpr_at_fpr(scores, labels, 0.0) == 1 / 2
    (drawn,) = bootstrap_auroc(np.array([scores], dtype=np.float64).T, np.array(labels, dtype=np.float64), draws=5)
    assert ((drawn >= 0) & (drawn <= 1)).all()


@pytest.mark.parametrize("method", ["delong", "bootstrap"])
def test_separated_classes_have_an_exact_bound(method: Any) -> None:
    """10 disjoint pairs, all in order: A^10 = 0.025 at the end, as in Clopper and Pearson's interval for 10 of 10."""
    scores, labels = np.arange(30.0), np.repeat([0, 1], [10, 20])
    bound = float(beta.ppf(0.025, 10, 1))
    interval = auroc_interval(scores, labels, method=method)
    assert (interval.low, interval.high) == (pytest.approx(bound), 1.0)
    interval = auroc_interval(-scores, labels, method=method)
    assert (interval.low, interval.high) == (0.0, pytest.approx(1 - bound))


@pytest.mark.parametrize("method", ["delong", "bootstrap"])
def test_data_without_spread_claims_little(method: Any) -> None:
    assert auroc_interval([1.0, 1.0], [0, 1], method=method) == Interval(0.0, 1.0)
    constant = auroc_interval(np.zeros(200), np.repeat([0, 1], 100), method=method)
    assert constant.low == pytest.approx(0.5 - math.sqrt(math.log(40) / 200))
    assert 0.5 in constant


# Bootstrap: shared draws, clusters


def test_draws_equal_resampling_by_hand() -> None:
    """Every draw's AUROC is that of the documents drawn, repeated as often, undefined ones left out."""
    scores, labels = random_case(8)
    scores[::7] = np.nan
    both = np.column_stack([scores, -scores])
    drawn = bootstrap_auroc(both, labels, draws=30, seed=5)
    assert drawn[1] == pytest.approx(1 - drawn[0])  # the same draws for every score
    counts = np.concatenate([*bootstrap._draws(labels, None, 30, 5)])
    assert (counts[:, labels == 1].sum(axis=1) == (labels == 1).sum()).all()
    for row, found in zip(counts, drawn[0], strict=True):
        repeated = np.repeat(np.arange(labels.size), row)
        repeated = repeated[~np.isnan(scores[repeated])]
        assert found == pytest.approx(roc_auc_score(labels[repeated], scores[repeated]), abs=1e-12)


def test_clusters_are_drawn_whole_from_their_kind() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0], dtype=np.float64)
    clusters = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    (counts,) = bootstrap._draws(labels, clusters, 200, 0)
    assert (counts[:, ::2] == counts[:, 1::2]).all()
    assert (counts.reshape(200, 3, 4).sum(axis=2) == 4).all()
    assert set(counts.ravel()) == {0, 1, 2}


@pytest.mark.parametrize("method", ["delong", "bootstrap"])
def test_clusters_of_one_change_nothing(method: Any) -> None:
    scores, labels = random_case(9)
    alone = auroc_interval(scores, labels, method=method, clusters=np.arange(labels.size) * 3)
    missing = auroc_interval(scores, labels, method=method, clusters=np.full(labels.size, np.nan))
    plain = auroc_interval(scores, labels, method=method)
    if method == "delong":  # t with many degrees of freedom instead of normal
        assert delong_error(scores, labels, np.arange(labels.size)) == pytest.approx(delong_error(scores, labels))
    assert (alone.low, alone.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    assert missing == alone


def clustered_by_the_book(scores: Floats, labels: Floats, clusters: Floats) -> float:
    """Obuchowski's error, sums written out: V10 and V01 of each document, S10, S01 and S11 over clusters."""
    x, y = labels == 1, labels == 0
    m, n = x.sum(), y.sum()
    psi = (scores[x][:, None] > scores[y]) + 0.5 * (scores[x][:, None] == scores[y])
    v10, v01, theta = psi.mean(axis=1), psi.mean(axis=0), psi.mean()
    rows = []
    for cluster in np.unique(clusters):
        a, b = clusters[x] == cluster, clusters[y] == cluster
        rows.append((v10[a].sum() - a.sum() * theta, v01[b].sum() - b.sum() * theta, a.any(), b.any()))
    i, i10, i01 = len(rows), sum(r[2] for r in rows), sum(r[3] for r in rows)
    s10 = i10 / ((i10 - 1) * m) * sum(r[0] ** 2 for r in rows)
    s01 = i01 / ((i01 - 1) * n) * sum(r[1] ** 2 for r in rows)
    s11 = i / (i - 1) * sum(r[0] * r[1] for r in rows)
    return math.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))


@pytest.mark.parametrize("seed", range(10))
def test_clustered_error_equals_obuchowski(seed: int) -> None:
    scores, labels = random_case(seed + 100)
    clusters = np.random.default_rng(seed).integers(0, 12, labels.size).astype(np.float64)
    expected = clustered_by_the_book(scores, labels, clusters)
    assert delong_error(scores, labels, clusters) == pytest.approx(expected, rel=1e-9)


# Tests


@pytest.mark.parametrize("seed", range(20))
def test_p_value_equals_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (np.round(rng.normal(size=int(rng.integers(9, 80))), seed % 3) for _ in range(2))
    found = auroc_p_value(np.r_[x, y], np.repeat([1, 0], [x.size, y.size]))
    assert found == pytest.approx(mannwhitneyu(x, y, alternative="greater").pvalue)


def test_p_values_of_few_documents_are_exact() -> None:
    """Without ties from the exact distribution, with ties (and an infinity) from permutations."""
    assert auroc_p_value([3, 2, 1, 0], [1, 1, 0, 0]) == pytest.approx(1 / 6)
    x, y = np.array([2.0, 2, 1, np.inf]), np.array([1.0, 0, 2, -np.inf, 0])
    found = auroc_p_value(np.r_[x, y], np.repeat([1, 0], [4, 5]))
    exact = permutation_test(
        (np.array([5.0, 5, 3, 9]), np.array([3.0, 1, 5, 0, 1])),  # the same order, finite
        lambda a, b: mannwhitneyu(a, b).statistic,
        vectorized=False,
        alternative="greater",
        n_resamples=np.inf,
    )
    assert found == pytest.approx(exact.pvalue)
    assert auroc_p_value(-np.r_[y, x], np.repeat([1, 0], [5, 4])) == pytest.approx(exact.pvalue)
    assert auroc_p_value([1, 1, 1], [1, 0, 0]) == 1.0


@pytest.mark.parametrize(("few", "many"), [(8, 1500), (3, 400)])
def test_sampled_p_values_are_near_the_exact_ones(few: int, many: int) -> None:
    """Without ties, beyond what is enumerated: random deals of the ranks against SciPy's exact distribution."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(0.7, 1, few), rng.normal(size=many)
    exact = mannwhitneyu(x, y, alternative="greater", method="exact").pvalue
    assert auroc_p_value(np.r_[x, y], np.repeat([1, 0], [few, many])) == pytest.approx(exact)
    ranks = np.rint(2 * rankdata(np.r_[x, y])).astype(np.int64)
    sampled = mann_whitney._by_deals(ranks, ranks[:few])
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact / 99_999))
    assert sampled >= 1e-5


def test_deals_are_subsets_each_as_likely() -> None:
    drawn = np.sort(mann_whitney._draw(5, 3, np.random.default_rng(0)), axis=1)
    assert (np.diff(drawn, axis=1) > 0).all()
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert chisquare(counts).pvalue > 0.01
    assert counts.size == 10


@pytest.mark.parametrize("digits", [1, 15], ids=["ties", "no ties"])
def test_few_documents_against_many_cost_little(digits: int) -> None:
    """5 + 3,000 once took 10 seconds and 2 GB."""
    rng = np.random.default_rng(7)
    scores, labels = np.round(rng.normal(size=3005), digits), np.repeat([1, 0], [5, 3000])
    tracemalloc.start()
    try:
        p = auroc_p_value(scores, labels)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    asymptotic = mannwhitneyu(scores[:5], scores[5:], alternative="greater", method="asymptotic").pvalue
    assert p == pytest.approx(asymptotic, abs=0.03)


def test_p_value_of_a_score_that_runs_the_wrong_way_is_no_finding() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([1.0, 0.0], 100)
    assert auroc_p_value(rng.normal(-labels, 1), labels) > 0.999


def test_paired_comparison_equals_the_covariance_of_delong() -> None:
    """difference / sqrt(var + var - 2 cov), the covariance over documents of each class; t as its variance says."""
    rng = np.random.default_rng(4)
    labels = np.repeat([1.0, 0.0], [60, 80])
    first = np.round(rng.normal(labels, 1), 1)
    second = np.round(0.6 * first + rng.normal(0.2 * labels, 0.8), 1)
    x, y = labels == 1, labels == 0
    v = [
        [(s[x][:, None] > s[y]).mean(axis=a) + (s[x][:, None] == s[y]).mean(axis=a) / 2 for a in (1, 0)]
        for s in (first, second)
    ]
    covariance = sum(np.cov(v[0][k], v[1][k]) / size for k, size in ((0, 60), (1, 80)))
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = compare_auroc(first, second, labels)
    assert found.difference == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second))
    of_variance = 0.0
    for k, size in ((0, 60), (1, 80)):
        places = v[0][k] - v[1][k]
        fourth = moment(places, 4) - places.var(ddof=1) ** 2 * (size - 3) / (size - 1)
        of_variance += fourth / size / size**2
    freedom = 2 * error**4 / of_variance
    assert 60 < freedom < 138
    assert found.p_value == pytest.approx(2 * t.sf(abs(found.difference) / error, freedom))
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.difference) / error), rel=0.02)
    assert found.interval.high - found.interval.low == pytest.approx(2 * t.ppf(0.975, freedom) * error)


def test_few_documents_claim_little() -> None:
    """6 + 6: no more than a sign test of six pairs, however far the scores are apart and little they vary."""
    labels = np.repeat([1.0, 0.0], 6)
    scores = np.array([11.0, 10, 9, 8, 7, 5, 6, 4, 3, 2, 1, 0])
    assert compare_auroc(scores, -scores, labels).p_value >= 2 * 0.5**6
    paired = np.repeat(np.arange(6.0), 2)
    clustered = auroc_p_value(scores.reshape(2, 6).T.ravel(), np.tile([1.0, 0.0], 6), clusters=paired)
    assert 0.5**6 <= clustered < 0.05


def test_comparison_is_on_documents_where_both_are_defined() -> None:
    labels = [1, 1, 1, 0, 0, 0]
    found = compare_auroc([3, None, 1, 2, 0, 0], [None, 1, 1, 0, math.nan, 0], labels)
    assert (found.n_positive, found.n_negative) == (1, 2)
    assert found.difference == pytest.approx(0.5 - 1)
    empty = compare_auroc([1, None, None, 1, 1, 1], [None, 1, 1, 1, 1, 1], labels)
    assert (empty.n_positive, empty.n_negative) == (0, 3)
    assert math.isnan(empty.difference)
    assert math.isnan(empty.p_value)


def test_a_score_equals_itself_and_its_opposite_is_far() -> None:
    scores, labels = np.arange(40.0), np.repeat([0.0, 1.0], 20)
    same = compare_auroc(scores, scores, labels)
    assert (same.difference, same.p_value, same.interval) == (0.0, 1.0, Interval(0.0, 0.0))
    opposite = compare_auroc(scores, -scores, labels)
    assert opposite.difference == 1.0
    assert opposite.p_value == pytest.approx(2 * math.exp(-20 / 2))  # nothing varies: Hoeffding's bound
    assert opposite.interval.high == 1.0
    assert opposite.interval.low < 1.0


# Coverage: 95 % intervals of scores that mean nothing contain what they should in 93 to 97 % of the draws.

NULL_LABELS = np.repeat([1.0, 0.0], 50)


@pytest.mark.parametrize("ties", [False, True])
def test_delong_covers_the_null(ties: bool) -> None:
    rng = np.random.default_rng(11)
    draws = rng.normal(size=(1000, 100))
    draws = np.round(draws) if ties else draws
    covered = np.mean([0.5 in auroc_interval(scores, NULL_LABELS) for scores in draws])
    assert 0.93 <= covered <= 0.97


def test_bootstrap_covers_the_null() -> None:
    rng = np.random.default_rng(12)
    intervals = [
        auroc_interval(scores, NULL_LABELS, method="bootstrap", draws=1000, seed=i)
        for i, scores in enumerate(rng.normal(size=(1000, 100)))
    ]
    assert 0.93 <= np.mean([0.5 in interval for interval in intervals]) <= 0.97


def test_delong_covers_a_real_difference() -> None:
    """Normal scores one standard deviation apart: AUROC = Phi(1 / sqrt 2)."""
    rng = np.random.default_rng(13)
    truth = 0.5 * (1 + math.erf(0.5))
    covered = np.mean([truth in auroc_interval(s + NULL_LABELS, NULL_LABELS) for s in rng.normal(size=(1000, 100))])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize(("positives", "negatives", "shift"), [(500, 500, 4.5), (20, 500, 2.5), (50, 50, 3.0)], ids=str)
def test_delong_covers_classes_nearly_apart(positives: int, negatives: int, shift: float) -> None:
    """AUROCs of 0.9993, 0.96 and 0.98, which a few documents decide: more may be covered, and hardly less."""
    rng = np.random.default_rng(14)
    truth, labels = norm.cdf(shift / math.sqrt(2)), np.repeat([1.0, 0.0], [positives, negatives])
    scores = rng.normal(size=(800, labels.size)) + shift * labels
    assert np.mean([truth in auroc_interval(each, labels) for each in scores]) >= 0.92


@pytest.mark.parametrize(("positives", "negatives"), [(2, 30), (30, 3), (4, 4)], ids=str)
def test_few_clusters_claim_little(positives: int, negatives: int) -> None:
    """Sources of 8 documents each: a test at 5 % errs in no more, and intervals cover."""
    rng = np.random.default_rng(24)
    sources = np.repeat(np.arange(positives + negatives), 8)
    labels = (sources < positives).astype(np.float64)
    p_values, covered = [], []
    for _ in range(300):
        scores = rng.normal(size=positives + negatives)[sources] + rng.normal(size=sources.size)
        p_values.append(auroc_p_value(scores, labels, clusters=sources))
        covered.append(0.5 in auroc_interval(scores, labels, clusters=sources))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.06
    assert np.mean(covered) >= 0.94


@pytest.mark.parametrize("mixed", [False, True], ids=["one label a cluster", "both labels in a cluster"])
def test_clustered_intervals_cover_where_plain_ones_do_not(mixed: bool) -> None:
    """30 + 30 sources of 8 alike documents; a source that has both labels moves both."""
    rng = np.random.default_rng(15)
    labels, sources = np.repeat([1.0, 0.0], 240), np.tile(np.repeat(np.arange(30.0), 8), 2)
    sources[240:] += 0 if mixed else 30
    covered, plain, p_values = [], [], []
    for _ in range(400):
        shared = rng.normal(size=60)
        scores = shared[sources.astype(int)] + rng.normal(size=480)
        covered.append(0.5 in auroc_interval(scores, labels, clusters=sources))
        plain.append(0.5 in auroc_interval(scores, labels))
        p_values.append(auroc_p_value(scores, labels, clusters=sources))
    assert 0.925 <= np.mean(covered) <= 0.975
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08
    assert np.mean(plain) > 0.97 if mixed else np.mean(plain) < 0.8


def test_clustered_bootstrap_covers() -> None:
    rng = np.random.default_rng(16)
    labels, sources = np.repeat([1.0, 0.0], 200), np.repeat(np.arange(100.0), 4)
    covered = [
        0.5
        in auroc_interval(
            rng.normal(size=100)[sources.astype(int)] + rng.normal(size=400),
            labels,
            method="bootstrap",
            clusters=sources,
            draws=300,
            seed=i,
        )
        for i in range(300)
    ]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_paired_test_is_calibrated() -> None:
    """Two scores that are equally good and share most of what they see: p below 5 % in 5 % of the samples."""
    rng = np.random.default_rng(17)
    p_values = []
    for _ in range(1000):
        shared = rng.normal(NULL_LABELS, 1)
        p_values.append(compare_auroc(*(shared + rng.normal(0, 0.5, 100) for _ in range(2)), NULL_LABELS).p_value)
    assert 0.03 <= np.mean(np.array(p_values) <= 0.05) <= 0.07


# The whole report


def test_evaluate_counts_what_is_undefined_per_class() -> None:
    labels = [1, 1, 1, 0, 0, 0, None]
    scores = {"a": [3, 2, None, 1, 0, math.nan, 9], "b": [None, None, math.nan, 1, 0, 2, 9]}
    first, second = evaluate(scores, labels, draws=50)
    assert (first.name, first.n_positive, first.n_negative) == ("a", 2, 2)
    assert (first.undefined_positive, first.undefined_negative) == (1, 1)
    assert (first.auroc, first.fpr_at_tpr) == (1.0, 0.0)
    assert [point.level for point in first.tpr_at_fpr] == list(FPR_LEVELS)
    assert not any(point.resolvable for point in first.tpr_at_fpr)
    assert (second.n_positive, second.undefined_positive) == (0, 3)
    assert math.isnan(second.auroc)
    assert math.isnan(second.tpr_at_fpr[0].tpr)


def test_evaluate_is_seeded_and_in_pieces() -> None:
    """The seed decides the draws; every number equals that of its own function."""
    scores, labels = random_case(3)
    (once,) = evaluate({"x": scores}, labels, seed=4)
    assert evaluate({"x": scores}, labels, seed=4) == [once]
    assert once.auroc == auroc(scores, labels)
    assert once.auroc_interval == auroc_interval(scores, labels)
    for point in once.tpr_at_fpr:
        assert point.tpr == tpr_at_fpr(scores, labels, point.level)
        assert point.interval == tpr_at_fpr_interval(scores, labels, point.level)
    assert once.auroc_bootstrap == auroc_interval(scores, labels, method="bootstrap", seed=4)
    assert (once.fpr_at_tpr, once.fpr_at_tpr_interval) == (
        fpr_at_tpr(scores, labels),
        fpr_at_tpr_interval(scores, labels),
    )
    assert once.p_value == auroc_p_value(scores, labels)
    assert once.against is None


def test_report_adjusts_and_compares_with_the_baseline() -> None:
    rng = np.random.default_rng(18)
    labels = np.repeat([1.0, 0.0], 50)
    scores = {name: rng.normal(shift * labels, 1) for name, shift in (("a", 0.0), ("loss", 0.4), ("c", 1.0))}
    scores["c"][:5] = np.nan
    results = evaluate(scores, labels, draws=200)
    p_values = [each.p_value for each in results]
    assert [each.p_holm for each in results] == holm_adjusted(p_values).tolist()
    assert [each.p_bh for each in results] == bh_adjusted(p_values).tolist()
    a, loss, c = results
    assert loss.against is None
    assert a.against is not None
    assert c.against is not None
    assert (a.against.baseline, c.against.baseline) == ("loss", "loss")
    assert c.against.delong == compare_auroc(scores["c"], scores["loss"], labels)
    assert (c.against.delong.n_positive, a.against.delong.n_positive) == (45, 50)
    holm = holm_adjusted([each.against.delong.p_value for each in (a, c) if each.against])
    assert [a.against.p_holm, c.against.p_holm] == holm.tolist()
    # The bootstrap of a difference is on the common documents, and close to DeLong's.
    masked = np.column_stack([scores["c"], np.where(np.isnan(scores["c"]), np.nan, scores["loss"])])
    first, second = bootstrap_auroc(masked, labels, draws=200)
    assert c.against.bootstrap.low == pytest.approx(np.quantile(first - second, 0.025))
    assert c.against.bootstrap.low == pytest.approx(c.against.delong.interval.low, abs=0.05)


def test_report_needs_a_baseline_that_is_there() -> None:
    labels = [1, 0, 1, 0]
    with pytest.raises(ValueError, match="no score 'zlib' to compare with; evaluated are a"):
        evaluate({"a": [1, 2, 3, 4]}, labels, baseline="zlib")
    (first, second) = evaluate({"b": [1, 2, 3, 4], "a": [4, 3, 2, 1]}, labels, draws=0)
    assert first.against is None
    assert second.against is not None
    assert second.against.baseline == "b"
    assert math.isnan(second.auroc_bootstrap.low)
    assert evaluate({}, labels) == []


def test_report_of_one_class_says_so() -> None:
    (only,) = evaluate({"a": [1.0, 2.0]}, [0, 0], draws=10)
    assert (only.n_positive, only.n_negative) == (0, 2)
    assert all(math.isnan(value) for value in (only.auroc, only.p_value, only.p_holm, only.fpr_at_tpr))
    assert math.isnan(only.auroc_bootstrap.low)


def test_many_documents_are_resampled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = random_case(5)
    monkeypatch.setattr("operators.evaluation.bootstrap._CELLS", 7 * len(scores))
    interval = auroc_interval(scores, labels, method="bootstrap", draws=400)
    assert auroc(scores, labels) in interval
    assert 0 < interval.low < interval.high < 1


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [1], "one length"),
        ([1.0, 2.0], [1, 2], "0, 1 or missing"),
        ([1.0, 2.0], [1, 1], "need both"),
        ([1.0, math.nan], [1, 0], "need both"),
        ([], [], "need both"),
    ],
)
def test_bad_input_is_named(scores: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auroc(scores, labels)
