"""Benchmarks as lakes hold them, from items whose tokens are given, so that a test knows what is to be found.

items = benchmarks.items(rng, 40, written=0.5)           of half of them greedy decoding writes the answer
benchmarks.write_run(lake, "b", items)                    a run with prompts; prompts=False: without
benchmarks.write_copies(lake, "b", items, rng, gap=0.3)   two runs of changed copies, worse by some 0.3 nats a byte
benchmarks.write_orders(lake, "b", logprob_SP)            its items in other orders
benchmarks.write_overlap(lake, "web", items, seen)        what a corpus holds of its items
benchmarks.write_windows(lake, "b", items, rows)          windows that `assay memorization` kept
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from operators.identity import doc_id
from operators.lake import Lake, Part, overlap_job_path, overlap_path
from operators.parquet import encode
from operators.scores.origin import ORIGIN_KEY, Origin, run_state
from operators.write import PartWriter, WriteOptions
from schemas import EXTRACTIONS, OVERLAP_ITEMS, OVERLAP_SPANS, flow

SOURCE = "bench.jsonl"
PROMPT_TOKENS, TOKEN_BYTES = 6, 2
BLOCK = 50  # documents a part
FEATURES = ("extremes",)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """One item. `logprobs` and `is_greedy` are those of its text's tokens, the first `PROMPT_TOKENS` of them input."""

    key: str
    text: str
    logprobs: Floats
    is_greedy: tuple[bool, ...]
    label: int | None = None
    row: int = 0


def items(
    rng: np.random.Generator,
    count: int,
    *,
    written: float = 0.0,
    shift: float = 0.0,
    tokens: int = 12,
    prefix: str = "item",
    label: int | None = None,
) -> list[Item]:
    """`count` items with answers of `tokens`, the first share `written` of them greedy throughout.

    `shift`: nats a token by which they are better predicted, those that are greedy or not.
    """
    made = []
    for i in range(count):
        size = PROMPT_TOKENS + tokens
        logprobs = -rng.gamma(1.5, 1.5, size) * np.exp(-shift)
        greedy = rng.random(size) < 0.3
        greedy[PROMPT_TOKENS:] |= i < round(written * count)
        if i >= round(written * count):
            greedy[-1] = False
        text = _text(rng, size)
        made.append(Item(f"{prefix}-{i}", text, logprobs, tuple(greedy.tolist()), label, i))
    return made


def write_run(
    lake: Lake,
    run_id: str,
    made: Sequence[Item],
    *,
    prompts: bool = True,
    features: tuple[str, ...] = FEATURES,
    model: str = "model-a",
    source: str = SOURCE,
    state: str = "finished",
    **config: Any,
) -> None:
    """A run of these items, a BOS before each and an EOS behind it. `config`: more of what its ledger says."""
    writer = PartWriter(WriteOptions(lake, run_id, features, prompt=prompts))
    totals = dict.fromkeys(("documents", "rejects", "tokens", "scored", "text_bytes"), 0)
    for start in range(0, len(made), BLOCK):
        records = [_record(item, features, prompts) | {"source": source} for item in made[start : start + BLOCK]]
        for manifest in writer(pa.Table.from_pylist(records, schema=flow.scored(features))).to_pylist():
            totals = {name: count + manifest[name] for name, count in totals.items()}
    own = {"prompt_column": "question", "text_column": "answer"} if prompts else {"text_column": "text"}
    ledger: dict[str, Any] = {
        "run_id": run_id,
        "state": state,
        "config_digest": run_id,
        "finished_at": "2026-11-21T00:00:00+00:00",
        "totals": totals | {"rows_in": len(made)},
        "config": {"features": list(features), "model": "m", "input": [source], "id_column": "id", **own, **config},
        "model": {"fingerprint": model, "vocab_size": 500},
        "tokenizer": {"fingerprint": "tokenizer-a"},
        "features": list(features),
    }
    if "base_run" in config:
        ledger["identity"] = {"base_digest": config["base_run"]}
    lake.write_run(run_id, ledger)


def write_copies(
    lake: Lake, run_id: str, made: Sequence[Item], rng: np.random.Generator, *, gap: float, copies: int = 2
) -> None:
    """Runs of changed copies: each token worse predicted by `gap` nats a byte in the mean."""
    for copy in range(1, copies + 1):
        changed = [
            replace(item, logprobs=item.logprobs - TOKEN_BYTES * gap * rng.gamma(4, 0.25, item.logprobs.size))
            for item in made
        ]
        spec = "perturb:kind=swap_words" + (f",copy={copy}" if copy > 1 else "")
        write_run(lake, f"{run_id}-swap-{copy}", changed, base_run=run_id, transform=spec)


def write_orders(lake: Lake, run_id: str, logprob_SP: Floats, *, items_a_shard: int = 3, name: str = "orders") -> None:
    """A run of the orders of a benchmark, with these sums: shards by orders, the first as in the file."""
    n_shards, n_orders = logprob_SP.shape
    writer = PartWriter(WriteOptions(lake, f"{run_id}-{name}", ()))
    records = []
    for place, total in enumerate(logprob_SP.ravel()):
        shard, order = divmod(place, n_orders)
        item = Item(f"{shard}/{order}", "ab" * 4, np.full(4, total / 4), (True,) * 4, row=place)
        attributes = {"shard": str(shard), "permutation": str(order), "n_items": str(items_a_shard)}
        records.append(_record(item, (), False) | {"domain": str(shard), "attributes": attributes, "source": "orders"})
    writer(pa.Table.from_pylist(records, schema=flow.scored(())))
    spec = f"orders:shards={n_shards},permutations={n_orders - 1}"
    lake.write_run(
        f"{run_id}-{name}",
        {
            "run_id": f"{run_id}-{name}",
            "state": "finished",
            "identity": {"base_digest": run_id},
            "config": {"model": "m", "base_run": run_id, "transform": spec},
            "model": {"fingerprint": "model-a"},
            "tokenizer": {"fingerprint": "tokenizer-a"},
        },
    )


def write_overlap(
    lake: Lake,
    name: str,
    made: Iterable[Item],
    seen: Sequence[tuple[int, int]],
    *,
    answers: Sequence[tuple[int, int]] | None = None,
    source: str = SOURCE,
    held: Sequence[tuple[str, str]] = (),
    **more: Any,
) -> None:
    """An overlap of these items with a corpus: n-grams and seen ones of each item, and of its answer. `held`: keys of
    items with what documents of the corpus hold of them; `more`: what its record says."""
    rows = []
    for i, item in enumerate(made):
        parts = {"all": seen[i]} | ({} if answers is None else {"answer": answers[i]})
        for part, (n_ngrams, n_seen) in parts.items():
            rows.append(
                {
                    "item_id": doc_id(item.key), "key": item.key, "source": source, "row": item.row, "part": part,
                    "n_words": n_ngrams and n_ngrams + 12, "n_ngrams": n_ngrams, "n_seen": n_seen,
                    "share_seen": n_seen / n_ngrams if n_ngrams else None, "longest_match": n_seen and n_seen + 12,
                    "byte_start": 0 if n_seen else None, "n_bytes": 5 if n_seen else None,
                    "n_documents": min(1, n_seen),
                }
            )  # fmt: skip
    table = pa.Table.from_pylist(sorted(rows, key=lambda r: (r["item_id"], r["part"])), schema=OVERLAP_ITEMS.arrow())
    record = {"state": "finished", "options": {"n": 13, "normalisation": "words-1"}, **more}
    lake.storage.write(overlap_path(OVERLAP_ITEMS.name, name), encode(table, OVERLAP_ITEMS))
    spans = [
        {
            "doc_id": place, "key": f"page-{place}", "source": "web.jsonl", "row": place, "byte_start": 0,
            "n_bytes": len(text.encode()), "text": text, "item_id": doc_id(key), "part": "input", "item_word": 0,
            "n_words": len(text.split()),
        }
        for place, (key, text) in enumerate(held)
    ]  # fmt: skip
    of_spans = pa.Table.from_pylist(spans, schema=OVERLAP_SPANS.arrow())
    lake.storage.write(overlap_path(OVERLAP_SPANS.name, name), encode(of_spans, OVERLAP_SPANS))
    lake.storage.write(overlap_job_path(name), json.dumps(record).encode())


def write_windows(lake: Lake, run_id: str, rows: Sequence[tuple[Item, str, int, bool]]) -> None:
    """Windows of a run: of which item, in which context, at which byte, and whether the suffix is extractable."""
    table = pa.Table.from_pylist(
        [
            {
                "doc_id": doc_id(item.key), "context": context, "scored_run": run_id, "position": start // TOKEN_BYTES,
                "prefix_tokens": 4, "suffix_tokens": 4, "byte_start": start, "n_bytes": 4 * TOKEN_BYTES,
                "n_greedy": 4 if extractable else 1, "is_extractable": extractable, "logprob_sum": -1.0,
                "logprob_sampled": None, "sampling": "{}",
            }
            for item, context, start, extractable in sorted(rows, key=lambda row: (doc_id(row[0].key), row[2]))
        ],
        schema=EXTRACTIONS.arrow(),
    )  # fmt: skip
    for context in ("strict", "document"):
        origin = Origin(context, ("{}",), {run_id: run_state(lake.read_run(run_id))})
        chosen = table.filter(pc.equal(table["context"], context))
        sink = pa.BufferOutputStream()
        pq.write_table(chosen.replace_schema_metadata({ORIGIN_KEY: origin.metadata}), sink)
        lake.storage.write(Part(EXTRACTIONS.name, run_id, origin.part_name).path, sink.getvalue())


def _record(item: Item, features: tuple[str, ...], prompts: bool) -> dict[str, Any]:
    """BOS, the tokens of the text, two bytes each, EOS, which is not the greedy choice."""
    size = item.logprobs.size
    token_id = [1, *range(10, 10 + size), 2]
    greedy = [False, *item.is_greedy, False]
    columns: dict[str, list[Any]] = {
        "logprob": [None, *np.minimum(item.logprobs, 0).tolist(), -1.0],
        "rank": [None, *(1 if each else 3 for each in greedy[1:])],
        "top1_id": [None, *(t if g else t + 1 for t, g in zip(token_id[1:], greedy[1:], strict=True))],
        "topk_id": [None, *([t if g else t + 1, 7] for t, g in zip(token_id[1:], greedy[1:], strict=True))],
        "topk_logprob": [None, *([-0.1, -3.0] for _ in token_id[1:])],
    }
    half = [None, *[0.5] * (size + 1)]
    names = flow.statistic_names(features)
    low = {"logprob_max": [None, *[-0.1] * (size + 1)]}
    return {name: columns.get(name, low.get(name, half)) for name in names} | {
        "row": item.row,
        "key": item.key,
        "text": item.text,
        "label": item.label,
        "prompt_bytes": PROMPT_TOKENS * TOKEN_BYTES if prompts else None,
        "token_id": token_id,
        "byte_start": [0, *range(0, TOKEN_BYTES * size, TOKEN_BYTES), TOKEN_BYTES * size],
        "n_bytes": [0, *[TOKEN_BYTES] * size, 0],
    }


def _text(rng: np.random.Generator, tokens: int) -> str:
    letters = rng.integers(ord("a"), ord("z") + 1, TOKEN_BYTES * tokens)
    letters[7::8] = ord(" ")
    return "".join(map(chr, letters))
