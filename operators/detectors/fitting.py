"""Fits a network to sequences and labels, on a CPU, to the same bits for the same seed.

    fitted documents --> AdamW --> after each pass: loss on the validation documents --> the weights that did best

Nothing else reaches it: the channels' scale too comes from the fitted documents alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from operators.detectors.card import Sequences
from operators.detectors.networks import make_network
from operators.detectors.sequences import Mask, Values
from operators.evaluation.standardise import Floats
from operators.threads import one_thread

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
BATCH, LARGEST_BATCH = 16, 256
BATCHES = 128  # in a pass, before batches grow: steps of few documents would take hours over many
PATIENCE = 10  # passes without a better validation loss, and
PATIENT_STEPS = 100  # so many steps at least: a pass over few documents is only some

_SCORED_AT_ONCE = 256
_SCALED_AT_ONCE = 4096


@dataclass(frozen=True)
class Fitted:
    """Weights by name, and the passes over the documents that they took."""

    tensors: dict[str, npt.NDArray[Any]]
    epochs: int


def fit(
    inputs: Sequences, values: Values, mask: Mask, labels: Floats, validation: Mask, *, epochs: int, seed: int
) -> Fitted:
    """Fit a network to documents [N]; those in `validation` [N] tell when to stop and teach nothing else."""
    with _own_randomness(seed):
        network = make_network(inputs)
        documents = _Labelled(*_cropped(values, mask), torch.from_numpy(labels.astype(np.float32)))
        seen, held = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (~validation, validation))
        batches = ((documents.values[some], documents.mask[some]) for some in _parts(seen, _SCALED_AT_ONCE))
        network.scale.fit(batches)  # type: ignore[union-attr,operator]
        return _descend(network, documents, seen, held, epochs)


class _Labelled(NamedTuple):
    """Documents [N]: values [N, T, C], mask [N, T], labels [N]; what is chosen of them is copied a batch at a time."""

    values: Tensor
    mask: Tensor
    labels: Tensor


def _descend(network: nn.Module, documents: _Labelled, seen: Tensor, held: Tensor, epochs: int) -> Fitted:
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best = Fitted(_copy(network), 0)
    best_loss = _loss(network, documents, held)
    size = min(LARGEST_BATCH, max(BATCH, len(seen) // BATCHES))
    for epoch in range(1, epochs + 1):
        network.train()
        for some in _parts(seen[torch.randperm(len(seen))], size):
            values, mask, labels = (tensor[some] for tensor in documents)
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(network(values, mask), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        loss_held = _loss(network, documents, held)
        if loss_held < best_loss:
            best, best_loss = Fitted(_copy(network), epoch), loss_held
        elif epoch - best.epochs >= max(PATIENCE, PATIENT_STEPS * size // len(seen)):
            break
    return best


def _parts(places: Tensor, size: int) -> tuple[Tensor, ...]:
    return places.split(size)  # type: ignore[no-any-return,no-untyped-call]


def _loss(network: nn.Module, documents: _Labelled, chosen: Tensor) -> float:
    logits = [_logits(network, *(tensor[some] for tensor in documents[:2])) for some in _parts(chosen, _SCORED_AT_ONCE)]
    return float(binary_cross_entropy_with_logits(torch.cat(logits), documents.labels[chosen]))


def log_odds(network: nn.Module, values: Values, mask: Mask) -> Floats:
    """Log-odds of label 1 [N]; NaN for a document without a scored token."""
    with one_thread():
        odds = _logits(network, *_cropped(values, mask)).double().numpy()
    return np.where(mask.any(axis=1), odds, np.nan)


def _cropped(values: Values, mask: Mask) -> tuple[Tensor, Tensor]:
    """As tensors, without the positions that no document has."""
    longest = int(mask.sum(axis=1).max(initial=1))
    return torch.from_numpy(values[:, :longest]), torch.from_numpy(mask[:, :longest])


@torch.no_grad()
def _logits(network: nn.Module, values: Tensor, mask: Tensor) -> Tensor:
    network.eval()
    starts = range(0, len(values), _SCORED_AT_ONCE)
    return torch.cat([network(*(x[i : i + _SCORED_AT_ONCE] for x in (values, mask))) for i in starts])


def _copy(network: nn.Module) -> dict[str, npt.NDArray[Any]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


def restore(inputs: Sequences, tensors: Mapping[str, npt.NDArray[Any]]) -> nn.Module:
    """The network that has these weights."""
    with _own_randomness(0):  # what it is made with is overwritten, and nobody else's random numbers are used up
        network = make_network(inputs)
    network.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()})
    return network


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
