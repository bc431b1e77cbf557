"""A detector's folder: it comes back as it went, and a hostile or broken one is refused with every fault named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from xxhash import xxh3_128_hexdigest

from operators.detectors import files, fitting, logistic
from operators.detectors.card import FORMAT, Card, DetectorError, Fold, OutOfFold, Scores, Sequences, TrainingRun
from operators.detectors.networks import make_network

FOLDS = 2
LOGISTIC = Scores(kind="logistic", features=("loss", "min_k(ratio=0.1)", 'a, "b"\n'), clip=0.025)
PAWN = Sequences(kind="pawn", channels=("logprob", "entropy"), positions=7, top_k=0, vocab_size=0, width=8)


def card(inputs: Scores | Sequences = LOGISTIC) -> Card:
    return Card(
        format=FORMAT,
        inputs=inputs,
        value="log-odds",
        label="label",
        paper="a paper",
        run=TrainingRun(run_id="run", model_fingerprint="m", tokenizer_fingerprint=None),
        cluster=None,
        positives=2,
        negatives=2,
        undefined=0,
        seed=0,
        folds=(Fold(fitted=2, validation=0, tested=2, epochs=0),) * FOLDS,
        out_of_fold=OutOfFold(auroc=0.5, low=0.1, high=0.9),
        versions={"python": "3"},
        digest="0" * 32,
    )


def tensors(inputs: Scores | Sequences = LOGISTIC) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {
        "trained.doc_id": np.array([1, 5, 7, 1 << 62]),
        "trained.fold": np.array([0, 1, 1, 0]),
        "trained.cluster": np.array([3]),
        "trained.cluster_fold": np.array([1]),
    }
    for fold in range(FOLDS):
        if isinstance(inputs, Scores):
            own = {name: rng.standard_normal(shape) for name, shape in logistic.shapes(inputs).items()}
        else:
            own = {name: tensor.numpy() for name, tensor in make_network(inputs).state_dict().items()}
        found |= {f"fold.{fold}.{name}": tensor for name, tensor in own.items()}
    return found


def write(folder: Path, inputs: Scores | Sequences = LOGISTIC) -> Card:
    return files.save(str(folder), card(inputs), tensors(inputs), overwrite=False, storage_options=None)


@pytest.mark.parametrize("inputs", [LOGISTIC, PAWN], ids=["logistic", "pawn"])
def test_a_detector_comes_back_as_it_went(inputs: Scores | Sequences, tmp_path: Path) -> None:
    written = tensors(inputs)
    kept = files.save(str(tmp_path / "mine"), card(inputs), written, overwrite=False, storage_options=None)
    found = files.load(str(tmp_path / "mine"))
    assert found.card == kept
    assert found.variant == f"{inputs.kind}(mine)"
    assert found.tensors.keys() == written.keys()
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in written.items())
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["card.json", "detector.safetensors"]
    if isinstance(inputs, Sequences):
        network = fitting.restore(inputs, found.model(1))
        values = np.random.default_rng(1).standard_normal((3, 7, 2)).astype(np.float32)
        mask = np.arange(7) < np.array([[7], [3], [0]])
        again = fitting.log_odds(fitting.restore(inputs, found.model(1)), values, mask)
        assert np.array_equal(fitting.log_odds(network, values, mask), again, equal_nan=True)
        assert np.isnan(again).tolist() == [False, False, True]


def test_the_same_detector_is_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    for name in ("card.json", "detector.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_whose_name_is_no_plain_word_is_called_by_its_digest(tmp_path: Path) -> None:
    kept = write(tmp_path / "a [b]\n(c)")
    assert files.load(str(tmp_path / "a [b]\n(c)")).name == kept.digest[:12]


def test_a_detector_is_not_replaced_unasked(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DetectorError, match="--overwrite"):
        write(tmp_path)
    files.save(str(tmp_path), card(), tensors(), overwrite=True, storage_options=None)


def test_which_model_may_score_a_document(tmp_path: Path) -> None:
    write(tmp_path)
    found = files.load(str(tmp_path))
    ids = np.array([0, 1, 5, 6, 1 << 62, (1 << 63) - 1])
    assert found.fold_of(ids, None).tolist() == [-1, 0, 1, -1, 0, -1]
    assert found.fold_of(ids, np.array([3, 3, 4, -1, -1, 3])).tolist() == [1, 0, 1, -1, 0, 1]


# Hostile folders


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The card with one change."""
    found = json.loads((folder / "card.json").read_text())
    change(found)
    (folder / "card.json").write_text(json.dumps(found))


def retensored(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The tensors with one change, and the card with their digest."""
    found = dict(safetensors.numpy.load((folder / "detector.safetensors").read_bytes()))
    change(found)
    data = safetensors.numpy.save(found)
    (folder / "detector.safetensors").write_bytes(data)
    edited(folder, lambda card: card.update(digest=xxh3_128_hexdigest(data)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("run"), "run: Field required"),
        (lambda c: c.update(more=1), "more: Extra inputs"),
        (lambda c: c.update(format="assay-detector-2"), "format: "),
        (lambda c: c["inputs"].update(kind="pickle"), "inputs: "),
        (lambda c: c["inputs"].update(clip=0.5), "inputs.logistic.clip"),
        (lambda c: c["inputs"].update(features=[]), "inputs.logistic.features"),
        (lambda c: c["inputs"].update(features=["x" * 501]), "at most 500"),
        (lambda c: c.update(positives="2"), "positives: Input should be a valid integer"),
        (lambda c: c.update(folds=[]), "folds: "),
        (lambda c: c.update(digest="../../etc"), "digest: "),
    ],
)
def test_a_card_that_is_none_is_refused(change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path) -> None:
    write(tmp_path)
    edited(tmp_path, change)
    with pytest.raises(DetectorError, match="is not the card of a detector") as error:
        files.load(str(tmp_path))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("fold.1.bias"), "fold.1.bias is missing"),
        (lambda t: t.update({"fold.2.bias": t["fold.1.bias"]}), "fold.2.bias is .* expected none"),
        (lambda t: t.update({"fold.0.weight": t["fold.0.weight"][:2]}), r"fold.0.weight is \(\(2,\)"),
        (lambda t: t.update({"fold.0.weight": t["fold.0.weight"].astype(np.float32)}), "float32"),
        (lambda t: t.update({"fold.0.mean": t["fold.0.mean"] * np.nan}), "holds NaN"),
        (lambda t: t.update({"trained.fold": np.array([0, 1, 2, 0])}), "folds that there are not"),
        (lambda t: t.update({"trained.fold": np.array([0, -1, 1, 0])}), "folds that there are not"),
        (lambda t: t.update({"trained.fold": np.array([0, 1])}), "no two lists of one length"),
        (lambda t: t.update({"trained.doc_id": np.array([5, 1, 7, 9])}), "not sorted"),
        (lambda t: t.update({"trained.cluster": np.array([3.0])}), "64-bit integers"),
    ],
)
def test_tensors_that_do_not_fit_the_card_are_refused(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    write(tmp_path)
    retensored(tmp_path, change)
    with pytest.raises(DetectorError, match=said):
        files.load(str(tmp_path))


def test_a_card_that_claims_a_huge_network_allocates_none(tmp_path: Path) -> None:
    write(tmp_path, PAWN)
    edited(tmp_path, lambda c: c["inputs"].update(kind="los_net", positions=8192, width=1024))
    with pytest.raises(DetectorError, match=r"position is missing"):
        files.load(str(tmp_path))


def test_files_that_are_no_detector_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="no detector in"):
        files.load(str(tmp_path / "nowhere"))
    write(tmp_path)
    whole = (tmp_path / "detector.safetensors").read_bytes()
    (tmp_path / "detector.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DetectorError, match=r"is not the one of card\.json"):
        files.load(str(tmp_path))
    (tmp_path / "detector.safetensors").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    edited(tmp_path, lambda c: c.update(digest=xxh3_128_hexdigest(b"cposix\nsystem\n(S'false'\ntR.")))
    with pytest.raises(DetectorError, match="is not safetensors"):
        files.load(str(tmp_path))
    (tmp_path / "card.json").write_bytes(b"{" * (1 << 20) + b" ")
    with pytest.raises(DetectorError, match="larger than"):
        files.load(str(tmp_path))
    (tmp_path / "card.json").write_bytes(b"\xff{}")
    with pytest.raises(DetectorError, match="is not the card of a detector"):
        files.load(str(tmp_path))
