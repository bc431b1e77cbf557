"""Mixtures from merges: against the full linear program, against known mixtures, and where no mixture can be told."""

from __future__ import annotations

from itertools import pairwise

import languages
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from operators.merges import (
    WordCounts,
    infer_from_words,
    infer_mixture,
    pair_history,
    parse_bpe,
    word_counts,
)
from operators.merges.history import PairHistory
from operators.merges.stretches import RangeMinimum, lay_out, violated

EXACT = 1e-6


def histories(world: languages.World) -> dict[str, PairHistory]:
    return {name: pair_history(world.bpe, words) for name, words in world.words.items()}


def full_program(held: list[PairHistory]) -> tuple[npt.NDArray[np.float64], float]:
    """Every pair at every step, by scipy: the mixture and the least slack."""
    codes = np.unique(np.concatenate([history.code for history in held]))
    n_steps, n_pairs, n_corpora = held[0].n_steps, len(codes), len(held)
    rows = []
    for step in range(n_steps):
        at = np.full(n_pairs, step)
        counts = np.stack([history.at(codes, at) / history.n_pairs for history in held])
        chosen = np.array([history.chosen[step] / history.n_pairs for history in held])
        for pair in np.flatnonzero(counts.max(axis=0) > 0).tolist():
            row = np.zeros(n_corpora + n_steps + n_pairs)
            row[:n_corpora] = counts[:, pair] - chosen
            row[[n_corpora + step, n_corpora + n_steps + pair]] = -1
            rows.append(row)
    cost = np.ones(n_corpora + n_steps + n_pairs)
    cost[:n_corpora] = 0
    simplex = (cost == 0).astype(float)[None]
    solved = linprog(1e3 * cost, 1e3 * np.array(rows), np.zeros(len(rows)), simplex, [1.0])
    return solved.x[:n_corpora], solved.fun / 1e3


@pytest.mark.parametrize("seed", range(3))
def test_the_lazy_program_is_the_full_one(seed: int) -> None:
    made = languages.world(seed, 3, trained_on=8_000, merges=40)
    held = {name: pair_history(made.bpe, made.sample(place, 4_000)) for place, name in enumerate(made.words)}
    inference = infer_mixture(held, tolerance=EXACT, settled=0)
    mixture, slack = full_program(list(held.values()))
    assert inference.objective == pytest.approx(slack, rel=1e-5, abs=1e-9)
    np.testing.assert_allclose(inference.pair_share, mixture, atol=1e-4)
    assert inference.rounds[-1].violation == 0
    objectives = [each.objective for each in inference.rounds]
    assert all(after >= before - 1e-12 for before, after in pairwise(objectives))


def test_the_default_tolerance_moves_the_shares_little() -> None:
    made = languages.world(11, 3, merges=400)
    held = histories(made)
    coarse, exact = infer_mixture(held), infer_mixture(held, tolerance=0.1, settled=0)
    assert coarse.constraints < exact.constraints
    np.testing.assert_allclose(coarse.byte_share, exact.byte_share, atol=0.005)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.data())
def test_range_minima(values: list[int], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(values) - 1))
    end = data.draw(st.integers(begin + 1, len(values)))
    found = int(RangeMinimum(np.array(values, float)).argmin(np.array([begin]), np.array([end]))[0])
    assert begin <= found < end
    assert values[found] == min(values[begin:end])


def test_separation_finds_the_worst_of_every_pair_and_nothing_else() -> None:
    made = languages.world(3, 3, trained_on=10_000, merges=50)
    held = [pair_history(made.bpe, made.sample(place, 4_000)) for place in range(3)]
    stretches = lay_out(held)
    generator = np.random.default_rng(0)
    mixture = generator.dirichlet(np.ones(3))
    slack_step, slack_pair = (
        generator.random(50)[: held[0].n_steps] * 1e-3,
        generator.random(len(stretches.code)) * 1e-4,
    )
    found = violated(stretches, mixture, slack_step, slack_pair, 1e-9, 10**9, 10**9)
    codes = np.unique(np.concatenate([history.code for history in held]))
    slack = np.zeros(len(codes))
    slack[np.searchsorted(codes, stretches.code)] = slack_pair
    gaps = np.zeros(len(codes))
    for step in range(held[0].n_steps):
        counts = np.stack([history.at(codes, np.full(len(codes), step)) / history.n_pairs for history in held])
        chosen = np.array([history.chosen[step] / history.n_pairs for history in held])
        gaps = np.maximum(gaps, mixture @ counts - mixture @ chosen - slack_step[step] - slack)
    by_code = dict(zip(codes.tolist(), gaps.tolist(), strict=True))
    worst = dict.fromkeys(by_code, 0.0)
    for pair, gap in zip(found.pair.tolist(), found.by.tolist(), strict=True):
        worst[int(stretches.code[pair])] = max(worst[int(stretches.code[pair])], gap)
    assert max(by_code.values()) > 1e-3
    np.testing.assert_allclose(list(worst.values()), list(by_code.values()), atol=2e-9)
    few = violated(stretches, mixture, slack_step, slack_pair, 1e-9, 2, 30)
    assert len(few.step) <= 30
    assert np.bincount(few.step).max() <= 2
    assert few.worst == found.worst == pytest.approx(max(by_code.values()))


@pytest.mark.parametrize(("seed", "n_languages"), [(0, 3), (2, 8)])
def test_known_mixtures_are_recovered(seed: int, n_languages: int) -> None:
    made = languages.world(seed, n_languages, merges=400)
    inference = infer_mixture(histories(made))
    assert np.abs(inference.byte_share - made.truth).mean() < 0.01
    assert inference.byte_share.sum() == pytest.approx(1)
    assert (inference.identified[:, 0] <= inference.byte_share + 1e-9).all()
    assert (inference.identified[:, 1] >= inference.byte_share - 1e-9).all()


@pytest.mark.parametrize("rules", [{"max_token_length": 4}, {"min_frequency": 50}])
def test_rules_of_the_trainer_are_taken_by_the_slack(rules: dict[str, int]) -> None:
    made = languages.world(4, 3, merges=400, **rules)
    inference = infer_mixture(histories(made))
    assert np.abs(inference.byte_share - made.truth).mean() < 0.03


def test_bytes_and_pairs_differ_where_scripts_do() -> None:
    """Two bytes a character, one pair each: the shares of bytes are not those of pairs, and they are what is true."""
    generator = np.random.default_rng(9)
    tongues = [languages.language(generator), languages.language(generator, list("бвгджзклмнпраеоу"))]
    data = [tongue.documents(generator, 200_000) for tongue in tongues]
    bpe = parse_bpe(languages.train(data[0] + data[1], 700).to_str())
    words = {}
    for name, tongue in zip("ab", tongues, strict=True):
        texts = tongue.documents(generator, 150_000)
        words[name] = word_counts(bpe, texts, range(len(texts)))
    one = infer_mixture({name: pair_history(bpe, each) for name, each in words.items()})
    assert one.byte_share[0] == pytest.approx(0.5, abs=0.01)
    assert one.pairs_per_byte[1] > one.pairs_per_byte[0] > 0.5


def test_the_order_of_candidates_and_merges_beyond_the_limit_do_not_matter() -> None:
    made = languages.world(6, 3, merges=300)
    held = histories(made)
    there, back = infer_mixture(held), infer_mixture(dict(reversed(held.items())))
    np.testing.assert_allclose(there.byte_share, back.byte_share[::-1], atol=0.002)
    cut = infer_mixture({name: pair_history(made.bpe, words, max_merges=100) for name, words in made.words.items()})
    assert cut.steps == 100
    assert np.abs(cut.byte_share - made.truth).mean() < 0.02


def test_a_candidate_without_pairs_has_no_share() -> None:
    made = languages.world(7, 2)
    made.words["nothing"] = WordCounts.none()
    inference, sampled = infer_from_words(made.bpe, made.words, resamples=5)
    assert inference.empty == ("nothing",)
    assert inference.byte_share[2] == 0
    assert inference.identified[2].tolist() == [0, 0]
    assert np.abs(inference.byte_share[:2] - made.truth).max() < 0.02
    assert (sampled.byte_low[2], sampled.byte_high[2]) == (0, 0)


def test_one_candidate_has_all_and_the_notes_say_so() -> None:
    made = languages.world(8, 1)
    inference, sampled = infer_from_words(made.bpe, made.words, resamples=5)
    assert inference.byte_share.tolist() == [1]
    assert any("With one candidate" in note for note in sampled.notes)


def test_what_cannot_be_inferred_is_refused() -> None:
    made = languages.world(8, 1)
    history = pair_history(made.bpe, made.words["corpus-0"])
    with pytest.raises(ValueError, match="name at least one"):
        infer_mixture({})
    with pytest.raises(ValueError, match="different merges"):
        infer_mixture({"a": history, "b": pair_history(made.bpe, made.words["corpus-0"], max_merges=5)})
    with pytest.raises(ValueError, match="holds a pair"):
        infer_mixture({"a": pair_history(made.bpe, WordCounts.none())})
    with pytest.raises(ValueError, match="no merges"):
        infer_mixture({"a": pair_history(made.bpe, made.words["corpus-0"], max_merges=0)})


def test_merges_that_are_in_no_candidate_are_counted() -> None:
    made = languages.world(12, 2)
    inference = infer_mixture({"one": pair_history(made.bpe, word_counts(made.bpe, ["ba be bo bu"] * 40, range(40)))})
    unseen = sum(
        count == 0 for count in pair_history(made.bpe, word_counts(made.bpe, ["ba be bo bu"], [0])).chosen.tolist()
    )
    assert inference.merges_unseen == unseen > 500
