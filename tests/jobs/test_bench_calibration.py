"""The calibration benchmark: its worlds have the truth that they say, and evaluation that is wrong does not pass it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from output import unfolded
from typer.testing import CliRunner

from jobs.bench import calibration, order_worlds, worlds
from jobs.bench.checks import Check, Kind, summary
from jobs.bench.order_worlds import model_sums
from jobs.bench.targets import Verdict, judge, lines_of
from jobs.bench.worlds import World
from jobs.cli import app
from operators.evaluation import Interval, auroc, auroc_interval, tpr_at_fpr
from operators.evaluation.dataset_inference import DatasetInference, dataset_inference
from operators.evaluation.exchangeability import Exchangeability, exchangeability

WORLDS = (worlds.SAME, worlds.SAME_TIED, worlds.APART, worlds.APART_TIED, worlds.FAR, worlds.FAR_TIED)
N = 200_000


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)
def test_a_world_has_the_truth_that_it_says(world: World) -> None:
    (scores,) = world.samples(1, N, seed=0)
    assert auroc(scores, worlds.labels(N)) == pytest.approx(world.auroc, abs=0.003)
    for level in calibration.LEVELS:
        assert world.tpr(level) == pytest.approx(tpr_at_fpr(scores, worlds.labels(N), level), abs=0.02)


def test_tied_worlds_have_few_values_and_the_others_none_twice() -> None:
    assert len(np.unique(worlds.SAME_TIED.samples(1, 500, seed=0))) <= 7
    assert len(np.unique(worlds.SAME.samples(1, 500, seed=0))) == 1000


def test_samples_are_the_same_every_time_and_others_under_another_seed() -> None:
    first, again, other = (worlds.APART.samples(3, 5, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).any()


def test_features_are_drawn_alike_and_hard() -> None:
    ((suspect, held_out),) = worlds.feature_sets(1, 2000, seed=0)
    assert suspect.shape == held_out.shape == (2000, 6)
    assert 0.05 < np.isnan(suspect[:, 5]).mean() < 0.15
    assert np.nanmean(suspect, axis=0) == pytest.approx(np.nanmean(held_out, axis=0), abs=0.2)


def worst(kind: str, checks: list[Check]) -> Check:
    """The check of a kind that is furthest from its promise."""
    return min((c for c in checks if c.kind == kind), key=lambda c: min(c.value - c.low, c.high - c.value))


def checked(step: Callable[..., Any], draws: int = 1000, n: int = 50) -> list[Check]:
    return list(step(draws, n, 0))


def test_intervals_that_are_too_short_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def shorter(scores: Any, labels: Any, **options: Any) -> Interval:
        found = auroc_interval(scores, labels)
        middle, half = (found.low + found.high) / 2, 0.8 * (found.high - found.low) / 2
        return Interval(middle - half, middle + half)

    monkeypatch.setattr(calibration, "auroc_interval", shorter)
    checks = checked(calibration._auroc)
    assert not any(c.is_met for c in checks)
    assert summary_value(checks, "auroc_coverage", "lowest") < 0.93


def test_a_tpr_without_the_doubt_about_its_threshold_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy import stats

    def of_fixed_threshold(scores: Any, labels: Any, level: float) -> Interval:
        tpr, n = tpr_at_fpr(scores, labels, level), int(labels.sum())
        exact = stats.binomtest(round(tpr * n), n).proportion_ci(0.95, method="exact")
        return Interval(exact.low, exact.high)

    monkeypatch.setattr(calibration, "tpr_at_fpr_interval", of_fixed_threshold)
    assert not worst("tpr", checked(calibration._tpr, n=500, draws=200)).is_met


def test_the_smallest_p_value_of_several_splits_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def smallest(suspect: Any, held_out: Any, *, splits: int = 1, seed: int) -> DatasetInference:
        found = [dataset_inference(suspect, held_out, seed=seed + 1000 * k) for k in range(3)]
        return min(found, key=lambda each: each.p_value)

    monkeypatch.setattr(calibration, "dataset_inference", smallest)
    assert not worst("uniform", checked(calibration._dataset_inference, draws=120)).is_met


def test_p_values_without_correction_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "benjamini_hochberg", lambda p, fdr: p <= fdr)
    checks = checked(calibration._selection, draws=200, n=500)
    assert not any(c.is_met for c in checks)
    assert summary_value(checks, "at_most", "largest_of_allowed") > 2


def test_an_order_that_wins_every_tie_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_ties(sums: Any, tokens: Any) -> Exchangeability:
        found, totals = exchangeability(sums, tokens), sums.sum(axis=0)
        above = int((totals[1:] > totals[0] + 1e-9).sum())
        return replace(found, p_permutation=(1 + above) / len(totals))

    monkeypatch.setattr(calibration, "exchangeability", without_ties)
    checks = checked(calibration._orders)
    assert not next(c for c in checks if c.name.endswith("tied")).is_met


def test_a_model_that_prefers_the_order_of_the_file_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def preferring(*_: Any) -> Iterator[Any]:
        for sums in model_sums(200, 0):
            sums[:, 0] += 0.1 * sums[:, 1:].std()
            yield sums

    monkeypatch.setattr(order_worlds, "model_sums", preferring)
    checks = list(calibration._orders_of_a_model(200, 0))
    assert [c.is_met for c in checks if c.kind == "uniform"] == [False] * 3


def summary_value(checks: list[Check], kind: str, name: str) -> float:
    value: float = summary(checks)[kind][name]
    return value


def test_every_target_finds_its_number_and_kinds_that_were_not_drawn_are_not_measured() -> None:
    inside = {"uniform": (0.5, 0.01, 1.0), "at most": (0.04, 0.0, 0.05)}
    checks = [Check(kind, "", "50", value, 0.0, low, high) for kind in get_args(Kind)
              for value, low, high in [inside.get(kind, (0.95, 0.93, 0.97))]]  # fmt: skip
    assert {verdict.word for verdict in judged(checks)} == {"met"}
    assert {verdict.word for verdict in judged([])} == {"not measured"}


@pytest.mark.parametrize(("kind", "value"), [("fit", 0.92), ("fit", 0.98), ("mixture", 0.92), ("mixture", 0.98),
                                             ("covers", 0.92)])  # fmt: skip
def test_the_worst_row_of_a_kind_is_what_its_target_is_judged_by(kind: Any, value: float) -> None:
    checks = [Check(kind, "", "50", each, 0.0, 0.93) for each in (0.95, value, 0.96)]
    (missed,) = [verdict for verdict in judged(checks) if verdict.word == "not met"]
    assert missed.value == value


def judged(checks: list[Check]) -> list[Verdict]:
    """What the targets of calibration say of a record of these checks."""
    line = {"benchmark": "calibration", "config": {"enough": True}, "results": summary(checks)}
    return [verdict for verdict in judge([line]) if verdict.target.benchmark == "calibration"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SIZES", (50,))
    monkeypatch.setattr(calibration, "RESAMPLES", 300)
    monkeypatch.setattr(calibration, "SPLITS", 2)


@pytest.mark.usefixtures("small")
def test_few_samples_are_shown_and_not_judged() -> None:
    done = CliRunner().invoke(app, ["bench", "calibration", "--draws", "10"])
    assert done.exit_code == 0, done.output
    (line,) = lines_of(done.stdout)
    assert line["config"]["enough"] is False
    rows = [row for row in done.stdout.splitlines() if row.rstrip().endswith("too few samples")]
    assert len(line["results"]["checks"]) == len(rows)
    for sample in ("50 + 50", "50 + 25", "50 in all", "50 items", "18 items", "50 models", "60 nights"):
        assert any(sample in row for row in rows), sample
    ours = [v for v in judge([line]) if v.target.benchmark == "calibration"]
    assert {(v.word, v.why) for v in ours} == {("not measured", "it needs 1,000 samples")}


@pytest.mark.usefixtures("small")
def test_promises_hold_for_small_samples() -> None:
    """Dataset inference, corpora, domain fit, mixtures and correlations have tests of their own of this."""
    steps = (calibration._auroc, calibration._tpr, calibration._tests, calibration._conformal, calibration._selection)
    checks = [check for step in steps for check in checked(step)]
    checks += [*checked(calibration._orders, draws=300), *calibration._orders_of_a_model(200, 0)]
    assert [c.name for c in checks if not c.is_met] == []
    assert {verdict.word for verdict in judged(checks) if verdict.value is not None} == {"met"}


def test_quick_is_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(calibration, "bench_calibration", lambda draws, seed: asked.append((draws, seed)))
    for flags in (["--quick"], [], ["--draws", "7", "--seed", "3"]):
        CliRunner().invoke(app, ["bench", "calibration", *flags])
    assert asked == [(100, 0), (1000, 0), (7, 3)]
    assert "--draws" in unfolded(CliRunner().invoke(app, ["bench", "calibration", "--draws", "1"]).output)
