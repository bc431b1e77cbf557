"""Runs of which it is given what a model knows: the hits of every token, and so its windows and spans.

memorized_runs.write_run(lake, "r", [memorized_runs.document("a", rng, hits, copies="4")])
memorized_runs.write_run(lake, "r-windows", [...], transform="windows:prefix=4,suffix=3", base_run="r")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from operators.lake import Lake
from operators.write import PartWriter, WriteOptions
from schemas import flow

RUN = "r"
TOP = 5  # entries of a list of the most likely tokens
FEATURES = ("extremes", "topk")
FINISHED = "2026-11-21T08:00:00+00:00"

PIECES = tuple(piece.encode() for piece in ("a", "bc", " d", "é", "\n", "語", "<", "[b]"))


@dataclass(frozen=True)
class Document:
    """`hits`: whether each token is the greedy choice, None where it has no prediction. `pieces`: the bytes of each."""

    key: str
    hits: Sequence[bool | None]
    logprobs: Sequence[float | None]
    pieces: Sequence[bytes]
    label: int | None = None
    domain: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    prompt_tokens: int = 0

    @property
    def text(self) -> str:
        return b"".join(self.pieces).decode()

    @property
    def starts(self) -> list[int]:
        """First byte of each token, and the end of the text."""
        return [0, *np.cumsum([len(piece) for piece in self.pieces]).tolist()]


def document(key: str, rng: np.random.Generator, hits: Iterable[bool | None], **more: Any) -> Document:
    """A document of these hits with random log-probs and pieces; some tokens are half a character, some no byte."""
    known = list(hits)
    pieces = [PIECES[i] for i in rng.integers(0, len(PIECES), len(known))]
    for i in range(0, len(known) - 1, 7):
        pieces[i : i + 2] = [b"\xc3", b"\x9f"] if i % 2 else [b"", b"\xc3\x9f"]
    logprobs = [None if hit is None else -float(np.float32(rng.gamma(1.5, 0.2))) for hit in known]
    return Document(key, known, logprobs, more.pop("pieces", pieces), **more)


def write_run(
    lake: Lake,
    run_id: str,
    documents: Sequence[Document],
    *,
    features: tuple[str, ...] = FEATURES,
    keep_text: bool = True,
    block: int = 3,
    transform: str | None = None,
    base_run: str | None = None,
    state: str = "finished",
    **ledger: Any,
) -> None:
    """A run of these documents, at full precision; `block`: documents a part."""
    has_prompt = any(each.prompt_tokens for each in documents)
    options = WriteOptions(lake, run_id, features, prompt=has_prompt, keep_text=keep_text, precision="full")
    writer = PartWriter(options)
    totals = dict.fromkeys(("documents", "rejects", "tokens", "scored", "text_bytes"), 0)
    for start in range(0, len(documents), block):
        records = [
            _record(each, start + i, features, has_prompt) for i, each in enumerate(documents[start : start + block])
        ]
        for manifest in writer(pa.Table.from_pylist(records, schema=flow.scored(features))).to_pylist():
            totals = {name: count + manifest[name] for name, count in totals.items()}
    config = {"features": list(features), "top_k": TOP, "model": "m", "transform": transform, "base_run": base_run,
              "prompt_column": "prompt" if has_prompt else None}  # fmt: skip
    written: dict[str, Any] = {
        "run_id": run_id, "state": state, "config": config, "finished_at": FINISHED,
        "totals": totals | {"rows_in": len(documents)}, "model": {"fingerprint": "f"}, "config_digest": "d",
    }  # fmt: skip
    lake.write_run(run_id, written | ledger)


def _record(each: Document, row: int, features: tuple[str, ...], has_prompt: bool) -> dict[str, Any]:
    size = len(each.hits)
    columns: dict[str, list[Any]] = {name: [] for name in flow.statistic_names(features)}
    for token, (hit, logprob) in enumerate(zip(each.hits, each.logprobs, strict=True)):
        for name, value in _statistics(token, hit, logprob).items():
            if name in columns:
                columns[name].append(value)
    starts = each.starts
    return {
        **columns,
        "source": "s",
        "row": row,
        "key": each.key,
        "text": each.text,
        "label": each.label,
        "domain": each.domain,
        "attributes": each.attributes or None,
        "token_id": list(range(size)),
        "byte_start": starts[:-1],
        "n_bytes": [len(piece) for piece in each.pieces],
        "prompt_bytes": starts[each.prompt_tokens] if has_prompt else None,
    }


def _statistics(token: int, hit: bool | None, logprob: float | None) -> dict[str, Any]:
    """A token's columns. A miss is the list's second; rank 1 all the same every fifth time, which is an exact tie."""
    if hit is None or logprob is None:
        return dict.fromkeys(("logprob", "entropy", "logprob_std", "rank", "logprob_max", "top1_id", "topk_id",
                              "topk_logprob"))  # fmt: skip
    best = logprob if hit or token % 5 == 0 else logprob / 2
    others = [1000 + i for i in range(TOP)]
    ids = [token, *others] if hit else [others[0], token, *others[1:]]
    lower = [logprob - 0.25 * (i + 1) for i in range(TOP)]
    values = [logprob, *lower] if hit else [best, logprob, *lower]
    return {
        "logprob": logprob,
        "entropy": 1.0,
        "logprob_std": 0.5,
        "rank": 1 if hit or token % 5 == 0 else 2,
        "logprob_max": best,
        "top1_id": ids[0],
        "topk_id": ids[:TOP],
        "topk_logprob": values[:TOP],
    }
