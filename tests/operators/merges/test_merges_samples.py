"""Intervals over samples, candidates that cannot be told apart, and candidates that are missing."""

from __future__ import annotations

import languages
import numpy as np
import pytest

from operators.merges import group_counts, infer_from_words, infer_mixture, pair_history, sample_mixture, word_counts
from operators.merges.inference import telling_rows


@pytest.fixture(scope="module")
def world() -> languages.World:
    return languages.world(21, 4, merges=400)


def test_intervals_hold_the_shares_and_the_same_seed_gives_them_again(world: languages.World) -> None:
    inference, sampled = infer_from_words(world.bpe, world.words, resamples=20)
    _, again = infer_from_words(world.bpe, world.words, resamples=20)
    _, other = infer_from_words(world.bpe, world.words, resamples=20, seed=1)
    _, wide = infer_from_words(world.bpe, world.words, resamples=20, confidence=0.99)
    for low, share, high in (
        (sampled.byte_low, inference.byte_share, sampled.byte_high),
        (sampled.pair_low, inference.pair_share, sampled.pair_high),
    ):
        assert ((low >= 0) & (low <= share) & (share <= high) & (high <= 1)).all()
        assert (high - low < 0.1).all()
    np.testing.assert_array_equal(sampled.byte_low, again.byte_low)
    assert not np.array_equal(sampled.byte_low, other.byte_low)
    assert (wide.byte_high - wide.byte_low).sum() > (sampled.byte_high - sampled.byte_low).sum()
    assert sampled.misfit < 2
    assert not sampled.is_misfit
    assert sampled.alike == ()


def test_smaller_samples_have_wider_intervals(world: languages.World) -> None:
    words = {name: world.sample(place, 20_000) for place, name in enumerate(world.words)}
    _, small = infer_from_words(world.bpe, words, resamples=20)
    _, large = infer_from_words(world.bpe, world.words, resamples=20)
    _, known = infer_from_words(world.bpe, world.words, resamples=20, training_bytes=float("inf"))
    widths = [float((each.byte_high - each.byte_low).sum()) for each in (small, large, known)]
    assert widths[0] > 1.5 * widths[1]
    assert widths[1] > 1.1 * widths[2]


def test_a_missing_corpus_is_reported(world: languages.World) -> None:
    missing = f"corpus-{int(np.argmax(world.truth))}"
    words = {name: counts for name, counts in world.words.items() if name != missing}
    _, sampled = infer_from_words(world.bpe, words, resamples=1)
    assert sampled.misfit > 5
    assert sampled.is_misfit
    assert any("a source is missing" in note for note in sampled.notes)


def test_a_tokenizer_of_little_text_is_no_misfit_where_that_is_said() -> None:
    made = languages.world(5, 3, trained_on=60_000, merges=300)
    _, taken = infer_from_words(made.bpe, made.words, resamples=1)
    _, known = infer_from_words(made.bpe, made.words, resamples=1, training_bytes=60_000)
    _, vast = infer_from_words(made.bpe, made.words, resamples=1, training_bytes=float("inf"))
    assert known.misfit < taken.misfit < vast.misfit
    assert vast.is_misfit  # the noise of so little text, taken for none
    assert not known.is_misfit


def test_two_samples_of_one_corpus_share_what_is_theirs(world: languages.World) -> None:
    place = int(np.argmax(world.truth))
    twin = f"corpus-{place}"
    inference, sampled = infer_from_words(world.bpe, {**world.words, "twin": world.sample(place)}, resamples=20)
    assert sampled.alike == ((twin, "twin"),)
    assert any(f"{twin} and twin differ no more than two samples" in note for note in sampled.notes)
    both = inference.byte_share[[place, 4]].sum()
    assert both == pytest.approx(world.truth[place], abs=0.02)
    own = inference.identified[[place, 4]]
    assert (own[:, 1] - own[:, 0] > 0.05).all()  # while those of the others are a few thousandths
    widths = sampled.byte_high - sampled.byte_low
    assert widths[[place, 4]].min() > 5 * np.delete(widths, [place, 4]).max()


def test_the_very_same_corpus_twice_can_trade_all_its_share(world: languages.World) -> None:
    place = int(np.argmax(world.truth))
    twin = world.words[f"corpus-{place}"]
    inference, sampled = infer_from_words(world.bpe, {**world.words, "twin": twin}, resamples=5)
    both = inference.byte_share[[place, 4]].sum()
    np.testing.assert_allclose(inference.identified[[place, 4], 0], 0, atol=1e-6)
    assert (inference.identified[[place, 4], 1] >= both - 1e-6).all()
    assert sampled.alike == ((f"corpus-{place}", "twin"),)


def test_too_few_documents_have_no_interval(world: languages.World) -> None:
    texts = world.languages[0].documents(world.generator, 20_000)
    few = word_counts(world.bpe, [" ".join(texts)], [0])
    inference, sampled = infer_from_words(world.bpe, {**world.words, "corpus-0": few}, resamples=5)
    assert np.isnan(sampled.byte_low).all()
    assert np.isnan(sampled.misfit)
    assert any("too few documents" in note for note in sampled.notes)
    assert not np.isnan(inference.byte_share).any()


def test_options_that_make_no_sense_are_refused(world: languages.World) -> None:
    inference = infer_mixture({name: pair_history(world.bpe, words) for name, words in world.words.items()})
    counts = {name: group_counts(world.bpe, words, inference.queries) for name, words in world.words.items()}
    for options in ({"confidence": 1.0}, {"resamples": 0}, {"training_bytes": 0.0}):
        with pytest.raises(ValueError, match="between 0 and 1"):
            sample_mixture(inference, counts, **options)
    with pytest.raises(ValueError, match="not those of the candidates"):
        sample_mixture(inference, {"corpus-0": counts["corpus-0"]})


def test_constraints_with_a_price_are_kept_before_the_first() -> None:
    dual = np.array([0.0, 2.0, 0.0, 0.0, 1.0])
    assert telling_rows(dual, 3).tolist() == [0, 1, 4]
    assert telling_rows(dual, 1).tolist() == [1, 4]
    assert telling_rows(dual, 9).tolist() == [0, 1, 2, 3, 4]


def test_ranges_hold_the_share_when_only_some_constraints_are_held(
    world: languages.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.merges.inference.TELLING", 1)
    missing = f"corpus-{int(np.argmax(world.truth))}"
    words = {name: counts for name, counts in world.words.items() if name != missing}
    inference = infer_mixture({name: pair_history(world.bpe, counts) for name, counts in words.items()})
    assert (inference.identified[:, 0] <= inference.byte_share + 1e-6).all()
    assert (inference.identified[:, 1] >= inference.byte_share - 1e-6).all()


def test_a_share_that_no_draw_moves_has_no_interval() -> None:
    """Candidates of two alphabets of which the tokenizer knows one: whatever is drawn, all is of that one."""
    made = languages.world(5, 1, merges=100)
    words = {"own": made.words["corpus-0"], "other": word_counts(made.bpe, ["xyzzyx zyxxyz"] * 64, range(64))}
    inference, sampled = infer_from_words(made.bpe, words, resamples=5)
    np.testing.assert_array_equal(inference.byte_share, [1, 0])
    assert np.isnan([sampled.byte_low, sampled.byte_high, sampled.pair_low, sampled.pair_high]).all()
    assert any("No interval for own, other" in note for note in sampled.notes)
