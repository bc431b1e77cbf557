"""Worlds of domain fit: they have the truth that they say, its intervals cover it, and ones that are wrong do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.bench import calibration, fit_worlds
from jobs.bench.checks import HIGH, LOW
from operators.mixtures import fit, fit_intervals
from operators.mixtures.fit_intervals import Estimates

DRAWS = 300
SLACK = 3 * float(np.sqrt(0.95 * 0.05 / DRAWS))  # errors of a coverage that is as promised


@pytest.mark.parametrize("world", fit_worlds.WORLDS, ids=lambda w: w.name)
def test_a_world_has_the_truth_that_it_says(world: fit_worlds.World) -> None:
    documents = world.documents(np.random.default_rng(0), 2_000_000)
    loss, n_bytes = documents[:, 0], documents[:, 3]
    assert loss.sum() / n_bytes.sum() == pytest.approx(world.nats_per_byte, rel=0.005)
    longest = np.sort(n_bytes.reshape(-1, 50), axis=1)[:, -1] / n_bytes.reshape(-1, 50).sum(axis=1)
    assert 0.1 < longest.mean() < 0.2


def test_intervals_cover_in_every_world() -> None:
    checks = list(calibration._fit(DRAWS, 50, 0))
    assert len(checks) == 5
    assert [c.name for c in checks if not LOW - SLACK < c.value < HIGH + SLACK] == []
    assert {(c.kind, c.low, c.high, c.sample) for c in checks} == {("fit", 0.93, 0.97, "50 in all")}


def test_percentile_intervals_would_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the studentised bootstrap is for."""

    def percentiles(_: Estimates, drawn: Estimates, level: float) -> tuple[float, float] | None:
        if not np.isfinite(drawn[0]).all():
            return None
        low, high = np.quantile(drawn[0], [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    ours = np.mean(list(fit_worlds.bits_per_byte(fit_worlds.LEVEL_WORLD, DRAWS, 10, 0)))
    monkeypatch.setattr(fit_intervals, "studentised", percentiles)
    theirs = np.mean(list(fit_worlds.bits_per_byte(fit_worlds.LEVEL_WORLD, DRAWS, 10, 0)))
    assert theirs < LOW - SLACK / 3
    assert theirs < ours - 0.03


def test_intervals_that_take_tokens_for_independent_would_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document cut into ten that are alike."""
    whole = fit.domain_fit

    def cut(blocks: Any, settings: Any) -> Any:
        pieces = [type(b)(b.domain, np.repeat(b.values_BC / 10, 10, axis=0)) for b in blocks]
        return whole(pieces, settings)

    monkeypatch.setattr(fit_worlds, "domain_fit", cut)
    covered = np.mean(list(fit_worlds.bits_per_byte(fit_worlds.LEVEL_WORLD, 100, 50, 0)))
    assert covered < 0.6
