"""The worlds of nights: a seeded small form of what `assay bench calibration` promises, and faults that it notices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.bench import calibration, night_worlds
from jobs.bench.checks import at_most
from operators.nights import levels


def test_worlds_have_the_truth_that_they_say() -> None:
    rng = np.random.default_rng(0)
    for world in (*night_worlds.SAME, night_worlds.DEPENDENT):
        values = world.draw(rng, 20_000).values_T
        errors = world.draw(rng, 20_000).errors_T
        assert values.mean() == pytest.approx(0, abs=0.06)
        assert values.var() == pytest.approx(1 + (errors**2).mean(), rel=0.2)
    between = night_worlds._between(rng, "autoregressive", 50_000)
    assert np.corrcoef(between[1:], between[:-1])[0, 1] == pytest.approx(night_worlds.LAG, abs=0.02)
    shifted = night_worlds.CLEAR[1].draw(rng)
    assert shifted.values_T[40:].mean() - shifted.values_T[:40].mean() == pytest.approx(2.5, abs=1.0)


def test_promises_hold_for_small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_worlds, "FAMILY", 4)
    monkeypatch.setattr(night_worlds, "SAME", night_worlds.SAME[1:])
    checks = [*calibration._nights(60, 1)]
    assert [c.name for c in checks if not c.is_met] == []
    assert {c.sample for c in checks} == {"6 nights", "20 nights", "60 nights", "120 nights"}
    found = night_worlds.found(night_worlds.CLEAR[1], 50, 0)
    assert found.power > 0.8
    assert np.mean(found.dates) > 0.88
    assert np.mean(found.sizes) > 0.88


def test_without_scatter_between_nights_ordinary_nights_are_called_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_errors_alone(values: Any, errors: Any, spent: int = 0) -> levels.Level:
        weights = 1 / errors**2
        mean = float((weights * values).sum() / weights.sum())
        return levels.Level(mean, float(weights.sum()) ** -0.5, 1.0, 0.0, 1000.0)

    monkeypatch.setattr(night_worlds, "level_of", of_errors_alone)
    p_values = [*night_worlds.tonight_p_values(night_worlds.SAME[0], 300, 60, 0)]
    check = at_most("", "60 nights", [float(p <= 0.05) for p in p_values], 0.05)
    assert not check.is_met
