"""Labelled runs whose tokens are given, so that a test knows what tells the classes apart.

documents = labelled.documents(rng, 60, shift=0.3)      label 1 is better predicted
documents = labelled.ordered(rng, 60)                   only the order of the tokens tells
labelled.write_run(lake, "run", documents)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.lake import Lake
from operators.write import PartWriter, WriteOptions
from schemas import flow

FEATURES = ("extremes", "nucleus", "topk")
TOP_K = 4
VOCABULARY = 500
BLOCK = 50  # documents a part

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Document:
    """One document; `logprobs` are those of its scored tokens, and everything else of a token follows from it."""

    key: str
    label: int | None
    logprobs: Floats
    text: str
    domain: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)


def documents(
    rng: np.random.Generator, count: int, *, shift: float = 0.0, tokens: int = 30, prefix: str = "doc"
) -> list[Document]:
    """`count` of either label, in turn; the log-probs of label 1 are higher by `shift` nats."""
    made = []
    for i in range(2 * count):
        label = i % 2
        size = int(rng.integers(tokens // 2, tokens + 1))
        logprobs = -rng.gamma(1.5, 1.5, size) * np.exp(-shift * label)
        made.append(Document(f"{prefix}-{i}", label, logprobs, _text(rng, size)))
    return made


def ordered(rng: np.random.Generator, count: int, *, tokens: int = 40) -> list[Document]:
    """As `documents`, alike in everything but order: label 1 begins easily and ends hard, label 0 the other way."""
    made = []
    for document in documents(rng, count, tokens=tokens):
        noisy = document.logprobs + 1.5 * rng.standard_normal(document.logprobs.size)
        order = np.argsort(noisy if document.label == 0 else -noisy)
        made.append(replace(document, logprobs=document.logprobs[order]))
    return made


def relabelled(made: Sequence[Document], labels: Iterable[int | None]) -> list[Document]:
    return [replace(document, label=label) for document, label in zip(made, labels, strict=True)]


def write_run(
    lake: Lake,
    run_id: str,
    made: Sequence[Document],
    *,
    features: tuple[str, ...] = FEATURES,
    model: str = "model-a",
    tokenizer: str = "tokenizer-a",
) -> None:
    """A finished run of these documents, the first token of each without a prediction."""
    writer = PartWriter(WriteOptions(lake, run_id, features))
    totals = dict.fromkeys(("documents", "rejects", "tokens", "scored", "text_bytes"), 0)
    for start in range(0, len(made), BLOCK):
        records = [_record(document, start + i, features) for i, document in enumerate(made[start : start + BLOCK])]
        for manifest in writer(pa.Table.from_pylist(records, schema=flow.scored(features))).to_pylist():
            totals = {name: count + manifest[name] for name, count in totals.items()}
    ledger: dict[str, Any] = {
        "run_id": run_id,
        "state": "finished",
        "totals": totals | {"rows_in": len(made)},
        "config": {"features": list(features), "model": "m"},
        "model": {"fingerprint": model, "vocab_size": VOCABULARY},
        "tokenizer": {"fingerprint": tokenizer},
        "features": list(features),
    }
    lake.write_run(run_id, ledger)


def _record(document: Document, row: int, features: tuple[str, ...]) -> dict[str, Any]:
    size = document.logprobs.size
    columns = _tokens(document.logprobs)
    names = flow.statistic_names(features)
    record: dict[str, Any] = {name: [None, *columns.get(name, [0.5] * size)] for name in names}
    return record | {
        "source": "s",
        "row": row,
        "key": document.key,
        "text": document.text,
        "label": document.label,
        "domain": document.domain,
        "attributes": document.attributes or None,
        "token_id": [i % VOCABULARY for i in range(size + 1)],
        "byte_start": [0, *range(0, 2 * size, 2)],
        "n_bytes": [0, *[2] * size],
    }


def _tokens(logprobs: Floats) -> dict[str, list[Any]]:
    """What a token's statistics may be, each a function of its log-prob alone."""
    rank = np.minimum(np.maximum(1, np.floor(np.exp(np.minimum(-logprobs, 20)) / 2)).astype(int), VOCABULARY)
    highest = np.where(rank == 1, logprobs, np.maximum(logprobs, -0.5))
    steps = -0.3 * np.arange(TOP_K)
    lists = np.sort(highest[:, None] + steps * (1 + 0.2 * np.abs(logprobs[:, None])), axis=1)[:, ::-1]
    return {
        "logprob": logprobs.tolist(),
        "entropy": (1 + 0.3 * np.abs(logprobs)).tolist(),
        "logprob_std": (0.5 + 0.1 * np.abs(logprobs)).tolist(),
        "rank": rank.tolist(),
        "logprob_max": highest.tolist(),
        "top1_id": [0] * logprobs.size,
        "mass_above": np.where(rank == 1, 0.0, 0.9 * (1 - np.exp(logprobs))).tolist(),
        "topk_id": [list(range(TOP_K))] * logprobs.size,
        "topk_logprob": lists.tolist(),
    }


def _text(rng: np.random.Generator, tokens: int) -> str:
    """As many pairs of letters: two bytes a token."""
    letters = rng.integers(ord("a"), ord("z") + 1, 2 * tokens)
    letters[9::10] = ord(" ")
    return "".join(map(chr, letters))


def random_case(seed: int) -> tuple[Floats, Floats]:
    """Scores and labels of 4 to 200 documents with both classes, rounded so that many tie."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 200))
    labels = rng.integers(0, 2, size)
    labels[:4] = [0, 1, 0, 1]
    return np.round(rng.normal(labels * rng.uniform(-1, 2), 1), int(rng.integers(0, 3))), labels.astype(np.float64)
