"""Dataset inference and orders as evidence of contamination: decisive only where their conditions hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from operators.blind import BlindResult
from operators.contamination.evidence import CONTAMINATED, INCONCLUSIVE
from operators.contamination.inference import blind_doubt, exchangeability_evidence, inference_evidence
from operators.contamination.verdict import INCOMPLETE, judge
from operators.evaluation.blind_order import BlindOrder
from operators.evaluation.classes import Interval
from operators.evaluation.dataset_inference import DatasetInference, FalsePositives, Feature
from operators.evaluation.exchangeability import exchangeability

MEMBERSHIP = ("membership", "membership")


def inferred(p_value: float = 1e-4, difference: float = 0.8) -> DatasetInference:
    features = (Feature("loss", 1.0, difference, 0, 0), Feature("zlib", 0.5, difference, 0, 0))
    return DatasetInference(p_value, (p_value,), difference, 40, 40, 20, 20, features)


def blind(low: float) -> BlindResult:
    return BlindResult("words", low + 0.1, Interval(low, low + 0.2), 40, 40, np.zeros(80))


def test_dataset_inference_decides_where_its_conditions_hold() -> None:
    halves = FalsePositives(0.05, 100, 6, 0.06, 0.02, 0.13, 20)
    found = inference_evidence("b", inferred(), MEMBERSHIP, halves, [blind(0.4)])
    assert (found.doubt, found.p_value, found.n) == ("", 1e-4, 40)
    assert judge({"b": [found]})[0].outcome == CONTAMINATED
    error = math.sqrt(40 / 400 + 0.64 / 80)
    assert found.interval is not None
    assert found.interval.high == pytest.approx(0.8 + stats.norm.ppf(0.975) * error)


@pytest.mark.parametrize(
    ("halves", "low", "difference", "doubt"),
    [
        (FalsePositives(0.05, 100, 30, 0.3, 0.2, 0.4, 20), 0.4, 0.8, "does not hold its level"),
        (None, 0.6, 0.8, "words (AUROC 0.700) alone tell the items from the clean set"),
        (None, 0.4, -0.8, "2 of 2 membership scores are lower"),
    ],
)
def test_a_condition_that_fails_makes_it_inconclusive(
    halves: FalsePositives | None, low: float, difference: float, doubt: str
) -> None:
    found = inference_evidence("b", inferred(difference=difference), MEMBERSHIP, halves, [blind(low)])
    (judged,) = judge({"b": [found]})
    assert doubt in found.doubt
    assert (judged.evidence[0].verdict, judged.outcome) == (INCONCLUSIVE, INCOMPLETE)
    assert judged.evidence[0].p_adjusted == 1e-4, "it stays among the tests"


def test_the_direction_matters_up_to_the_level_that_is_judged_by() -> None:
    found = inferred(0.08, difference=-0.8)
    assert inference_evidence("b", found, MEMBERSHIP, None, []).doubt == ""
    at_ten = inference_evidence("b", found, MEMBERSHIP, None, [], level=0.1)
    assert judge({"b": [at_ten]}, alpha=0.1)[0].evidence[0].verdict == INCONCLUSIVE


def test_a_blind_baseline_above_chance_is_a_doubt_only_where_it_is_flagged() -> None:
    assert blind_doubt([blind(0.54)]) == ""
    assert "two kinds of text" in blind_doubt([blind(0.54), blind(0.56)])


def test_an_order_that_words_give_away_is_inconclusive() -> None:
    logprob = np.random.default_rng(0).normal(size=(5, 200))
    logprob[:, 0] = 10
    found = exchangeability(logprob, np.full(logprob.shape, 7))
    sound = exchangeability_evidence("b", "orders", 50, found, [BlindOrder("words", 0.4, 0.2)])
    assert (sound.p_value, sound.resolution, sound.doubt) == (1 / 200, 1 / 200, "")
    assert sound.estimate == found.gain
    grouped = exchangeability_evidence("b", "orders", 50, found, [BlindOrder("words", 0.01, 5.0)])
    assert "sorted or grouped" in grouped.doubt
