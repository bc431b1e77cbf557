"""The blind baseline: how well the classes separate for a classifier that never sees the model.

    texts, lengths, zlib --> features fitted on 4 folds --> probabilities for the 5th --> AUROC with its interval

On a sound benchmark it is at chance. Where it is not, members and non-members are different kinds of text, and a
membership score may be telling those apart instead of membership. Any AUROC should be printed beside this one.

Every part that learns, the vocabulary included, is fitted inside the fold on its training documents only. Documents of
one group (pieces of one source) are in one fold, so that none is judged by its neighbours.

The models of the folds share training data, so the AUROC varies by more than the probabilities show, by 1.2 to 1.5
times what fixed scores would. The interval is widened for that (Nadeau and Bengio). In simulations made once, of
20 + 20 to 300 + 300 exchangeable documents, it then held 0.5 in 97 % or more, unwidened in 80 to 91 %.

Sources: Das et al. 2024, arXiv 2406.16201; Meeus et al. 2024, arXiv 2406.17975; Duan et al. 2024, arXiv 2402.07841;
shared training data: Nadeau & Bengio 2003, doi 10.1023/A:1024068626366.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from operators.evaluation.area import auroc, auroc_interval
from operators.evaluation.classes import Codes, Floats, Interval, Values, cluster_codes

FLAG_ABOVE = 0.55  # the lower end of the interval that calls a benchmark shifted
NOTE_ABOVE = 0.5  # the lower end from which it deserves a second look
COLUMNS = ("label", "text", "n_bytes", "n_chars", "n_words", "zlib_bytes")

_NO_WORDS = re.compile("no terms remain|empty vocabulary")  # scikit-learn's words for a vocabulary of none

Classifier = Literal["logistic", "forest"]
Labels = npt.NDArray[np.int64]
Fold = tuple[Codes, Codes]


@dataclass(frozen=True)
class BlindSettings:
    """How the baseline is made. `min_df`: documents of the training folds that a word must be in to count."""

    folds: int = 5
    seed: int = 0
    min_df: int = 5
    max_words: int = 20_000
    classifier: Classifier = "logistic"  # on words; lengths and zlib always take the logistic one


@dataclass(frozen=True)
class BlindResult:
    """One baseline: `features` is `words`, `lengths` or `zlib`; `probabilities` are out of fold, [N] in row order."""

    features: str
    auroc: float
    interval: Interval
    n_positive: int
    n_negative: int
    probabilities: Floats

    @property
    def is_flagged(self) -> bool:
        """The classes differ in ways that no model is needed to see: AUROCs on them do not measure membership."""
        return self.interval.low > FLAG_ABOVE

    @property
    def is_doubtful(self) -> bool:
        """The classes seem to differ a little; by chance alone, about one baseline in a hundred says that."""
        return self.interval.low > NOTE_ABOVE


def blind_baseline(
    documents: pa.Table, settings: BlindSettings | None = None, groups: Values | None = None
) -> list[BlindResult]:
    """Separate label 1 from 0 by words, by lengths and by compressibility alone.

    Args:
        documents: rows of the `documents` table with at least `COLUMNS`, of one run; rows without a label are left out.
            Where any text is NULL (a lake written with --drop-text) there is no result for `words`.
        settings: folds, seed and the like.
        groups: for each row of `documents` a number that names its group, None or NaN for a group of its own. Groups
            are kept whole, and the intervals are over groups.

    Returns:
        A result for each kind of features, with out-of-fold probabilities of label 1 for the labelled rows.

    Raises:
        ValueError: a column is missing, or a class has fewer labelled documents than there are folds; or the groups
            cannot be dealt so that every fold leaves both classes to learn from.
    """
    chosen = settings or BlindSettings()
    missing = [name for name in COLUMNS if name not in documents.column_names]
    if missing:
        raise ValueError(f"documents: missing {missing}; the blind baseline needs {list(COLUMNS)}")
    labelled = pc.is_valid(documents["label"])
    codes = None
    if groups is not None:
        codes = cluster_codes(groups, documents.num_rows)[labelled.to_numpy()]
    rows = documents.select(COLUMNS).filter(labelled)
    labels = rows["label"].to_numpy().astype(np.int64)
    counts = np.bincount(labels, minlength=2)
    if counts.min() < chosen.folds:
        raise ValueError(f"{counts[1]} positives and {counts[0]} negatives: need {chosen.folds} of each, one a fold")
    folds = _folds(labels, codes, chosen)

    baselines: dict[str, tuple[Any, Callable[[], Any]]] = {"lengths": (_lengths(rows), _scaled_logistic)}
    baselines["zlib"] = (_zlib(rows), _scaled_logistic)
    if not rows["text"].null_count:
        texts = np.array(rows["text"].to_pylist(), dtype=object)
        baselines = {"words": (texts, lambda: _words_model(chosen)), **baselines}
    return [_result(name, inputs, labels, codes, make, folds) for name, (inputs, make) in baselines.items()]


def _folds(labels: Labels, codes: Codes | None, settings: BlindSettings) -> list[Fold]:
    """Training and test rows of every fold."""
    if codes is None:
        dealt = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed).split(labels, labels)
        return [(train, test) for train, test in dealt]
    n_groups = np.unique(codes).size
    if n_groups < settings.folds:
        raise ValueError(f"{n_groups} groups of labelled documents: need {settings.folds}, one a fold")
    grouped = StratifiedGroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
    folds = [(train, test) for train, test in grouped.split(labels, labels, codes) if test.size]
    if any(np.unique(labels[train]).size < 2 for train, _ in folds):
        raise ValueError("a class has too few groups: without one fold's there is none of it left to learn from")
    return folds


def _result(
    name: str, inputs: Any, labels: Labels, codes: Codes | None, make: Callable[[], Any], folds: Sequence[Fold]
) -> BlindResult:
    probabilities = _out_of_fold(inputs, labels, make, folds)
    at = auroc(probabilities, labels)
    return BlindResult(
        features=name,
        auroc=at,
        interval=_widened(auroc_interval(probabilities, labels, clusters=codes), at, len(folds)),
        n_positive=int(labels.sum()),
        n_negative=int((1 - labels).sum()),
        probabilities=probabilities,
    )


def _widened(interval: Interval, at: float, folds: int) -> Interval:
    """The interval for models that share training data: a variance 1 + K / (K - 1) times as large, on the logit scale.

    That is Nadeau and Bengio's 1 + K n_test / n_train for K folds. A perfect separation keeps the bound that it has.
    """
    if at in (0.0, 1.0):
        return interval
    centre, factor = special.logit(at), np.sqrt(1 + folds / (folds - 1))
    low, high = special.expit(centre + factor * (special.logit([interval.low, interval.high]) - centre))
    return Interval(float(low), float(high))


def _out_of_fold(inputs: Any, labels: Labels, make: Callable[[], Any], folds: Sequence[Fold]) -> Floats:
    """P(label 1) of each document [N] from a model that was fitted without it."""
    probabilities = np.full(labels.size, np.nan)
    with threadpool_limits(1):  # the problems are small: on a busy machine, threads that wait cost eight times the work
        for train, test in folds:
            model = _fit(make(), inputs[train], labels[train])
            probabilities[test] = model.predict_proba(inputs[test])[:, 1]
    return probabilities


def _fit(model: Any, inputs: Any, labels: Labels) -> Any:
    """The fitted model, or the classes' shares where no word is common enough to learn from."""
    try:
        return model.fit(inputs, labels)
    except ValueError as error:
        if not _NO_WORDS.search(str(error)):
            raise
        return DummyClassifier(strategy="prior").fit(inputs, labels)


def _lengths(rows: pa.Table) -> Floats:
    """[N, 5]: log bytes, characters and words, bytes a character, characters a word."""
    n_bytes, n_chars, n_words = (rows[name].to_numpy().astype(np.float64) for name in ("n_bytes", "n_chars", "n_words"))
    sizes = [np.log1p(n_bytes), np.log1p(n_chars), np.log1p(n_words)]
    return np.column_stack([*sizes, n_bytes / np.maximum(n_chars, 1), n_chars / np.maximum(n_words, 1)])


def _zlib(rows: pa.Table) -> Floats:
    """[N, 1]: compressed bytes a byte."""
    n_bytes, zlib_bytes = (rows[name].to_numpy().astype(np.float64) for name in ("n_bytes", "zlib_bytes"))
    return np.column_stack([zlib_bytes / np.maximum(n_bytes, 1)])


def _scaled_logistic() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


# Scripts written without spaces (Thai to Khmer, kana, Han) count by character.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+"


def _words_model(settings: BlindSettings) -> Any:
    words = CountVectorizer(
        token_pattern=_WORD, min_df=settings.min_df, max_features=settings.max_words, lowercase=False
    )
    if settings.classifier == "forest":
        return make_pipeline(words, RandomForestClassifier(300, min_samples_leaf=2, random_state=settings.seed))
    return make_pipeline(words, TfidfTransformer(sublinear_tf=True), LogisticRegression(C=10.0, max_iter=1000))
