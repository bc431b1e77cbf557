"""A detector's folder: `detector.safetensors` and `card.json`. Written tensors first; read with every shape checked.

fold.0.<tensor> ... fold.K-1.<tensor>     the models
trained.doc_id, trained.fold              [N] which model did not see a training document; sorted by doc_id
trained.cluster, trained.cluster_fold     [M] the same for the clusters that folds kept whole, as 63-bit hashes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError
from xxhash import xxh3_128_hexdigest

from operators.detectors import logistic
from operators.detectors.card import Card, DetectorError, Scores, parse_card
from operators.storage import Storage

CARD_FILE, TENSORS_FILE = "card.json", "detector.safetensors"

_LARGEST_CARD = 1 << 20  # bytes
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TRAINED = ("trained.doc_id", "trained.fold")
_CLUSTERS = ("trained.cluster", "trained.cluster_fold")

Ids = npt.NDArray[np.int64]
Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Detector:
    """A detector as it was read. `name` is the folder's where that is a plain word, else the start of its digest."""

    name: str
    card: Card
    tensors: Tensors

    @property
    def variant(self) -> str:
        return f"{self.card.kind}({self.name})"

    def model(self, fold: int) -> dict[str, npt.NDArray[Any]]:
        """The tensors of one fold's model, by their names in it."""
        return _of_fold(self.tensors, fold)

    def fold_of(self, doc_ids: Ids, clusters: Ids | None) -> Ids:
        """The one model that may score each document [N], -1 where all may: those that had it to learn from may not.

        `clusters` [N] are hashes of the documents' clusters, -1 for none, where the folds kept clusters whole.
        """
        folds = _look_up(doc_ids, *(self.tensors[name] for name in _TRAINED))
        if clusters is not None:
            by_cluster = _look_up(clusters, *(self.tensors[name] for name in _CLUSTERS))
            folds = np.where(folds < 0, by_cluster, folds)
        return folds


def _look_up(keys: Ids, known: Ids, values: Ids) -> Ids:
    if not known.size:
        return np.full(keys.size, -1, np.int64)
    at = np.minimum(np.searchsorted(known, keys), known.size - 1)
    return np.where(known[at] == keys, values[at], -1)


def _of_fold(tensors: Tensors, fold: int) -> dict[str, npt.NDArray[Any]]:
    prefix = f"fold.{fold}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# Writing


def save(folder: str, card: Card, tensors: Tensors, *, overwrite: bool, storage_options: dict[str, Any] | None) -> Card:
    """Write the two files, the card last, and return it with the digest of the tensors.

    Raises:
        DetectorError: the folder holds a detector, and `overwrite` is not set.
        ObjectError: the storage failed.
    """
    check_free(folder, overwrite=overwrite, storage_options=storage_options)
    data = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    finished = card.model_copy(update={"digest": xxh3_128_hexdigest(data)})
    storage = Storage(folder, storage_options or {})
    storage.write(TENSORS_FILE, data)
    storage.write(CARD_FILE, finished.model_dump_json(indent=2).encode() + b"\n")
    return finished


def check_free(folder: str, *, overwrite: bool, storage_options: dict[str, Any] | None) -> None:
    """Raise where a detector would be lost.

    Raises:
        DetectorError: the folder holds one, and `overwrite` is not set.
    """
    if not overwrite and Storage(folder, storage_options or {}).exists(CARD_FILE):
        raise DetectorError(f"{folder} holds a detector: name another folder, or --overwrite it")


# Reading


def load(folder: str, storage_options: dict[str, Any] | None = None) -> Detector:
    """Read a detector and check it: the card, the digest, every tensor's name, type and shape.

    Raises:
        DetectorError: there is none, or it is not what its card says; lists every fault.
        ObjectError: the storage failed.
    """
    storage = Storage(folder, storage_options or {})
    try:
        if storage.size(CARD_FILE) > _LARGEST_CARD:
            raise DetectorError(f"{folder}/{CARD_FILE} is larger than {_LARGEST_CARD:,} bytes: no card of a detector")
        card = parse_card(storage.read(CARD_FILE), f"{folder}/{CARD_FILE}")
        data = storage.read(TENSORS_FILE)
    except FileNotFoundError:
        raise DetectorError(
            f"no detector in {folder}: `assay detector train ... --output {folder}` makes one"
        ) from None
    if xxh3_128_hexdigest(data) != card.digest:
        raise DetectorError(f"{folder}: {TENSORS_FILE} is not the one of {CARD_FILE}: train it again")
    try:
        tensors = safetensors.numpy.load(data)
    except SafetensorError as error:
        raise DetectorError(f"{folder}/{TENSORS_FILE} is not safetensors: {error}") from None
    faults = _faults(card, tensors)
    if faults:
        raise DetectorError(f"{folder}/{TENSORS_FILE} does not fit its card: {'; '.join(faults[:20])}")
    name = storage.root.rstrip("/").rsplit("/", 1)[-1]
    return Detector(name if _PLAIN_NAME.fullmatch(name) else card.digest[:12], card, tensors)


def _faults(card: Card, tensors: Tensors) -> list[str]:
    one = _model_tensors(card)
    expected = {f"fold.{fold}.{name}": what for fold in range(len(card.folds)) for name, what in one.items()}
    faults = [f"{name} is missing" for name in (*expected, *_TRAINED, *_CLUSTERS) if name not in tensors]
    for name, tensor in tensors.items():
        if name in (*_TRAINED, *_CLUSTERS):
            continue
        found = tensor.shape, str(tensor.dtype)
        if found != expected.get(name):
            faults.append(f"{name} is {found}, expected {expected.get(name, 'none of that name')}")
        elif not np.isfinite(tensor).all():
            faults.append(f"{name} holds NaN or infinity")
    return faults or _table_faults(card, tensors)


def _table_faults(card: Card, tensors: Tensors) -> list[str]:
    """What is wrong with the tables of folds."""
    faults = []
    for keys, folds in (_TRAINED, _CLUSTERS):
        key, fold = tensors[keys], tensors[folds]
        if not (key.dtype == fold.dtype == np.int64 and key.ndim == 1 and key.shape == fold.shape):
            faults.append(f"{keys} and {folds} are no two lists of one length of 64-bit integers")
        elif (np.diff(key) <= 0).any():
            faults.append(f"{keys} is not sorted, or names one twice")
        elif fold.size and not (fold.min() >= 0 and fold.max() < len(card.folds)):
            faults.append(f"{folds} names folds that there are not")
    return faults


def _model_tensors(card: Card) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor of one model."""
    if isinstance(card.inputs, Scores):
        return {name: (shape, "float64") for name, shape in logistic.shapes(card.inputs).items()}
    import torch

    from operators.detectors.networks import make_network

    with torch.device("meta"):  # shapes only, whatever sizes the card claims
        state = make_network(card.inputs).state_dict()
    return {name: (tuple(tensor.shape), "float32") for name, tensor in state.items()}
