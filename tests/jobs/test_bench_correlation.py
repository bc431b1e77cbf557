"""The calibration of perplexity correlations: it passes as it is, and p-values that are wrong do not pass it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.bench import calibration, correlation_worlds
from operators.mixtures.correlations import Models, correlations


def verdicts(draws: int = 150) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {"uniform": [], "at most": []}
    for check in calibration._correlations(draws, 12, seed=0):
        assert check.sample == "12 models"
        found[check.kind].append(check.is_met)
    return found


def test_it_passes_as_it_is() -> None:
    found = verdicts()
    assert all(found["uniform"])
    assert all(found["at most"])


def test_one_sided_p_values_of_two_sides_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = correlation_worlds.permutation_p

    def halved(*arguments: Any, **more: Any) -> Any:
        p, step = whole(*arguments, **more)
        return p / 2, step / 2

    monkeypatch.setattr(correlation_worlds, "permutation_p", halved)
    found = verdicts()
    assert not any(found["uniform"])


def test_a_product_that_is_not_centred_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def against_zero(models: Models, *_: Any, **__: Any) -> Any:
        n = models.error_N.size
        each = models.bpb_ND * models.error_N[:, None]
        z = correlations(models, "product") / (each.std(axis=0) / np.sqrt(n))
        return np.exp(-np.abs(z)), 0.0

    monkeypatch.setattr(correlation_worlds, "permutation_p", against_zero)
    assert not any(verdicts()["uniform"])


def test_models_tie_in_the_tied_world_alone() -> None:
    for tied in (False, True):
        (models,) = correlation_worlds.unrelated(1, 50, 0, tied=tied)
        assert (len(np.unique(models.error_N)) < 50) == tied
        assert (len(np.unique(models.bpb_ND[:, 0])) < 50) == tied
