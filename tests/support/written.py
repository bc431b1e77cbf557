"""Runs of documents whose texts, token ids and hidden states are given: a token a word, its id the word's hash.

written.write_run(lake, "run", [written.Text("a", "the words of it", domain="x")])
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.lake import Lake
from operators.write import PartWriter, WriteOptions
from schemas import flow

BLOCK = 7  # documents a part


@dataclass(frozen=True)
class Text:
    """`states`: of its first token, which stands for no text, and one a word; None for zeros."""

    key: str
    text: str
    domain: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    states: npt.NDArray[np.float64] | None = None

    @property
    def words(self) -> list[str]:
        return self.text.split(" ")


def token_id(word: str) -> int:
    return 1 + zlib.crc32(word.encode()) % 50_000


def made(
    rng: np.random.Generator, count: int, prefix: str, *, domain: str | None = None, shift: float = 0.0, width: int = 4
) -> list[Text]:
    """`count` documents of 3 to 30 words of one language; `shift` makes some words likelier and turns the states."""
    chances = 1 / np.arange(1, 61) ** 0.9
    chances[::2] *= 1 + shift
    chances /= chances.sum()
    documents = []
    for i in range(count):
        drawn = rng.choice(60, int(rng.integers(3, 31)), p=chances)
        states = rng.standard_normal((drawn.size + 1, width))
        states[:, 0] += 2.0
        states[:, 1] += shift
        states[0] = 40.0  # as that of a token put in front: the same in every document, and long
        text = " ".join(f"word{w}" for w in drawn)
        documents.append(Text(f"{prefix}{i}", text, domain, {"half": "ab"[i % 2]}, states))
    return documents


def write_run(
    lake: Lake,
    run_id: str,
    documents: Sequence[Text],
    *,
    features: tuple[str, ...] = (),
    model: str = "model-a",
    tokenizer: str = "tokenizer-a",
    keep_text: bool = True,
    **ledger: Any,
) -> None:
    """A finished run of these documents."""
    writer = PartWriter(WriteOptions(lake, run_id, features, keep_text=keep_text, precision="full"))
    totals = dict.fromkeys(("documents", "rejects", "tokens", "scored", "text_bytes"), 0)
    for start in range(0, len(documents), BLOCK):
        records = [_record(each, start + i, features) for i, each in enumerate(documents[start : start + BLOCK])]
        for manifest in writer(pa.Table.from_pylist(records, schema=flow.scored(features))).to_pylist():
            totals = {name: count + manifest[name] for name, count in totals.items()}
    config = {"model": "m", "input": ["in.jsonl"], "features": list(features)}
    written: dict[str, Any] = {
        "run_id": run_id, "state": "finished", "config": config, "features": list(features), "config_digest": "d",
        "finished_at": "2026-11-20T00:00:00+00:00", "totals": totals | {"rows_in": len(documents)},
        "model": {"fingerprint": model}, "tokenizer": {"fingerprint": tokenizer},
    }  # fmt: skip
    lake.write_run(run_id, written | ledger)


def _record(each: Text, row: int, features: tuple[str, ...]) -> dict[str, Any]:
    sizes = [len(word.encode()) + (i > 0) for i, word in enumerate(each.words)]
    count = len(sizes)
    record: dict[str, Any] = {name: [None] + [-1.0] * count for name in flow.statistic_names(features)}
    record["rank"] = [None] + [1] * count
    record["entropy"] = record["logprob_std"] = [None] + [0.5] * count
    if "hidden" in features:
        states = np.zeros((count + 1, 2)) if each.states is None else each.states
        record["hidden"] = [row_of_state.astype(np.float16).tolist() for row_of_state in states]
    return record | {
        "source": "s",
        "row": row,
        "key": each.key,
        "text": each.text,
        "domain": each.domain,
        "attributes": each.attributes or None,
        "token_id": [0, *map(token_id, each.words)],
        "byte_start": [0, *np.cumsum([0, *sizes[:-1]]).tolist()],
        "n_bytes": [0, *sizes],
    }
