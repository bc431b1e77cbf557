"""The blind baseline: at chance on exchangeable classes, flagged on shifted ones, and fitted without peeking."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import logit
from sklearn.feature_extraction.text import CountVectorizer

from operators import blind
from operators.blind import BlindResult, BlindSettings, blind_baseline
from operators.evaluation import Interval, auroc, auroc_interval
from schemas import DOCUMENTS

VOCABULARY = [f"word{i}" for i in range(300)]


def documents(texts: list[str], labels: list[int | None]) -> pa.Table:
    """Rows of `documents` as the catalog returns them."""
    columns = {
        "label": labels,
        "text": texts,
        "n_bytes": [len(t.encode()) for t in texts],
        "n_chars": [len(t) for t in texts],
        "n_words": [len(t.split()) for t in texts],
        "zlib_bytes": [len(zlib.compress(t.encode())) for t in texts],
    }
    return pa.table(columns, schema=pa.schema([(name, DOCUMENTS[name].type) for name in columns]))


def random_texts(rng: np.random.Generator, count: int, words: int = 60) -> list[str]:
    weights = 1 / np.arange(1, len(VOCABULARY) + 1)
    return [
        " ".join(rng.choice(VOCABULARY, rng.integers(words // 2, words), p=weights / weights.sum()))
        for _ in range(count)
    ]


def by_features(results: list[BlindResult]) -> dict[str, BlindResult]:
    return {result.features: result for result in results}


def test_exchangeable_classes_are_at_chance() -> None:
    """20 benchmarks without a difference: no flags, AUROCs around one half, and intervals that hold it."""
    found: dict[str, list[BlindResult]] = {}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for result in blind_baseline(documents(random_texts(rng, 120), [1, 0] * 60), BlindSettings(seed=seed)):
            found.setdefault(result.features, []).append(result)
    assert list(found) == ["words", "lengths", "zlib"]
    for results in found.values():
        assert not any(result.is_flagged for result in results)
        assert np.mean([result.auroc for result in results]) == pytest.approx(0.5, abs=0.06)
        assert np.mean([result.interval.low > 0.5 for result in results]) <= 0.05
    assert np.mean([0.5 in result.interval for results in found.values() for result in results]) >= 0.95


@pytest.mark.parametrize("classifier", ["logistic", "forest"])
def test_other_words_are_flagged(classifier: Any) -> None:
    """Members are dated, as in benchmarks split by date; nothing else differs."""
    rng = np.random.default_rng(1)
    texts = random_texts(rng, 120)
    texts = [f"{t} {rng.choice([2016, 2017] if i % 2 else [2023, 2024])}" for i, t in enumerate(texts)]
    found = by_features(blind_baseline(documents(texts, [1, 0] * 60), BlindSettings(classifier=classifier)))
    assert found["words"].is_flagged
    assert found["words"].auroc > 0.9
    assert not found["lengths"].is_flagged


def test_other_lengths_are_flagged() -> None:
    rng = np.random.default_rng(2)
    texts = [t for pair in zip(random_texts(rng, 60, 60), random_texts(rng, 60, 120), strict=True) for t in pair]
    assert by_features(blind_baseline(documents(texts, [1, 0] * 60)))["lengths"].is_flagged


def test_other_compressibility_is_flagged() -> None:
    rng = np.random.default_rng(3)
    texts = ["".join(rng.choice(list("ab" if i % 2 else "abcdefghijklmnop"), 400)) for i in range(120)]
    found = by_features(blind_baseline(documents(texts, [1, 0] * 60)))
    assert found["zlib"].is_flagged
    assert not found["lengths"].is_flagged


def test_scripts_without_spaces_have_words() -> None:
    rng = np.random.default_rng(4)
    common, rare = list("的一是不了人我在有他这"), list("熊猫")
    texts = [
        "".join([*rng.choice(common, 40), rng.choice(rare) if i % 2 else "", *rng.choice(common, 5)])
        for i in range(120)
    ]
    assert by_features(blind_baseline(documents(texts, [1, 0] * 60)))["words"].is_flagged


def test_every_fold_is_fitted_without_its_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[set[str]] = []
    judged: list[set[str]] = []

    class Recorder(CountVectorizer):  # type: ignore[misc]
        def fit_transform(self, raw_documents: Any, y: Any = None) -> Any:
            fitted.append(set(raw_documents))
            return super().fit_transform(raw_documents, y)

        def transform(self, raw_documents: Any) -> Any:
            judged.append(set(raw_documents))
            return super().transform(raw_documents)

    monkeypatch.setattr(blind, "CountVectorizer", Recorder)
    texts = random_texts(np.random.default_rng(5), 100)
    blind_baseline(documents(texts, [1, 0] * 50))
    assert [len(f) for f in fitted] == [80] * 5
    assert [len(j) for j in judged] == [20] * 5
    assert all(f.isdisjoint(j) for f, j in zip(fitted, judged, strict=True))
    assert set().union(*judged) == set(texts)


def test_result_is_seeded_and_in_row_order() -> None:
    rng = np.random.default_rng(6)
    labels: list[int | None] = [*([1, 0] * 50), *[None] * 20]
    table = documents(random_texts(rng, 120), labels)
    first, again = blind_baseline(table), blind_baseline(table)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert one.probabilities.shape == (100,)  # rows without a label are left out
        assert (one.n_positive, one.n_negative) == (50, 50)
        assert one.auroc == auroc(one.probabilities, labels[:100])


def test_dropped_texts_leave_lengths_and_zlib() -> None:
    table = documents(random_texts(np.random.default_rng(7), 40), [1, 0] * 20)
    table = table.set_column(1, "text", pa.nulls(40, pa.string()))
    assert [result.features for result in blind_baseline(table)] == ["lengths", "zlib"]


def test_no_common_words_is_chance() -> None:
    texts = [f"unique{i}" for i in range(40)]
    assert by_features(blind_baseline(documents(texts, [1, 0] * 20)))["words"].auroc == pytest.approx(0.5)


def test_groups_stay_in_one_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty sources, each with words of its own, labels by source: a fold that splits one tells which label it has."""
    rng = np.random.default_rng(8)
    sources = np.repeat(np.arange(20.0), 8)
    texts = [
        f"{text} {' '.join([f'source{int(source)}'] * 5)}"
        for text, source in zip(random_texts(rng, 160), sources, strict=True)
    ]
    table = documents(texts, (sources % 2).astype(int).tolist())
    apart = by_features(blind_baseline(table, BlindSettings(min_df=2)))["words"]
    together = by_features(blind_baseline(table, BlindSettings(min_df=2), groups=sources))["words"]
    assert apart.is_flagged
    assert not together.is_flagged
    assert together.auroc < apart.auroc - 0.2

    judged: list[set[float]] = []
    original = blind._out_of_fold

    def recorded(inputs: Any, labels: Any, make: Any, folds: Any) -> Any:
        judged.extend(set(sources[test]) for _, test in folds)
        assert all(set(sources[train]).isdisjoint(sources[test]) for train, test in folds)
        return original(inputs, labels, make, folds)

    monkeypatch.setattr(blind, "_out_of_fold", recorded)
    blind_baseline(table, groups=sources)
    assert sum(len(fold) for fold in judged) == 3 * 20  # every source once for each kind of features


def test_documents_without_a_label_do_not_shift_groups() -> None:
    rng = np.random.default_rng(9)
    labels: list[int | None] = [None, None, *([1, 0] * 40)]
    groups = np.r_[[5.0, np.nan], np.repeat(np.arange(20.0), 4)]
    with_unknown = blind_baseline(documents(random_texts(rng, 82), labels), groups=groups)
    assert all(result.probabilities.shape == (80,) for result in with_unknown)


def test_too_few_groups_are_named() -> None:
    table = documents(random_texts(np.random.default_rng(10), 40), [1, 0] * 20)
    with pytest.raises(ValueError, match="4 groups of labelled documents: need 5"):
        blind_baseline(table, groups=np.arange(40) // 10)
    lonely = np.where(np.arange(40) % 2 == 1, 99.0, np.arange(40.0))  # all of label 0 in one group
    with pytest.raises(ValueError, match="a class has too few groups"):
        blind_baseline(table, groups=lonely)


def test_interval_counts_the_data_that_folds_share() -> None:
    """Nadeau and Bengio: for 5 folds 1 + 5 / 4 of the variance, on the logit scale; as it was where all is in order."""
    rng = np.random.default_rng(11)
    labels = [1, 0] * 50
    found = by_features(blind_baseline(documents(random_texts(rng, 100), labels)))["lengths"]
    plain = auroc_interval(found.probabilities, labels)
    ends, wider = (logit([found.auroc, i.low, i.high]) for i in (plain, found.interval))
    assert (wider[1:] - wider[0]) / (ends[1:] - ends[0]) == pytest.approx([1.5, 1.5])
    apart = ["short"] * 20 + ["a longer text of many words"] * 20
    perfect = by_features(blind_baseline(documents(apart, [0] * 20 + [1] * 20)))["lengths"]
    assert perfect.interval == auroc_interval(np.arange(40), [0] * 20 + [1] * 20)


@pytest.mark.parametrize(
    ("low", "doubtful", "flagged"), [(0.49, False, False), (0.51, True, False), (0.55, True, False), (0.56, True, True)]
)
def test_flags_follow_the_lower_end(low: float, doubtful: bool, flagged: bool) -> None:
    result = BlindResult("words", 0.6, Interval(low, 0.7), 50, 50, np.zeros(100))
    assert (result.is_doubtful, result.is_flagged) == (doubtful, flagged)


def test_bad_input_is_named() -> None:
    table = documents(["a b"] * 12, [1] * 4 + [0] * 8)
    with pytest.raises(ValueError, match="4 positives and 8 negatives: need 5"):
        blind_baseline(table)
    with pytest.raises(ValueError, match=r"missing \['label', 'zlib_bytes'\]"):
        blind_baseline(table.drop_columns(["label", "zlib_bytes"]))
