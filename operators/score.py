"""Scores tokenized documents: windows -> packed batches -> model body -> fused vocabulary statistics.

How hidden states, predictions and rows align, for one segment fed as `ids`:

    fed           ids[0]  ids[1]  ids[2]  ids[3]
    hidden state    h0      h1      h2      h3
    predicts      ids[1]  ids[2]  ids[3]    -
    row written   1 <- h0, 2 <- h1, 3 <- h2;  row 0 of a document has NULL statistics

Body and head are batched apart: segments are packed into batches of a few hundred tokens for the body, and the hidden
states that predict something wait until a whole tile of rows is there for the head, so neither computes padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from operators.model_files import ModelError, ModelOptions
from operators.models import ScoringModel
from operators.statistics import TiledStatistics, TileOptions
from operators.windows import Segment, WindowOptions, pack, segments
from schemas.flow import scored, statistic_names
from schemas.rejects import Reason
from schemas.tokens import FEATURE_GROUPS, HIDDEN, TOKENS

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 16384


@dataclass(frozen=True)
class ScoreOptions:
    """`features`: optional column groups to keep. `batch_tokens`: body batch, None for the device's default."""

    model: ModelOptions
    windows: WindowOptions
    features: tuple[str, ...] = ()
    tiles: TileOptions = field(default_factory=TileOptions)
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.features) - set(FEATURE_GROUPS))
        if unknown:
            raise ValueError(f"unknown features {unknown}: choose from {', '.join(FEATURE_GROUPS)}")


class Scorer:
    """Loads a model once; maps a table of schema `flow.TOKENIZED` to `flow.scored(features)`, rows in the same order.

    A document whose statistics are not finite leaves as a reject, `non_finite_score`: the model is numerically broken
    on it, and a stored NaN would spoil every mean taken later.
    """

    def __init__(self, options: ScoreOptions, model: ScoringModel | None = None) -> None:
        self.options = options
        self.model = model or ScoringModel.load(options.model)
        if HIDDEN in options.features and not self.model.separate:
            raise ModelError("this model's head cannot be separated from its body: --features hidden is not available")
        self.statistics = TiledStatistics(self.model.head, frozenset(options.features), options.tiles)
        default = GPU_BATCH_TOKENS if self.model.device.type == "cuda" else CPU_BATCH_TOKENS
        self.batch_tokens = options.batch_tokens or default
        self.schema = scored(options.features)

    def __call__(self, table: pa.Table) -> pa.Table:
        documents = [i for i, ids in enumerate(table["token_id"]) if ids.is_valid]
        lists = table["token_id"].take(pa.array(documents, pa.int64())).combine_chunks()
        lengths = np.asarray(lists.value_lengths()) if documents else np.zeros(0, np.int64)
        ids = torch.from_numpy(np.array(lists.flatten(), dtype=np.int64) if documents else np.zeros(0, np.int64))
        columns = self.score(ids, lengths.tolist())
        return self._assemble(table, documents, lengths, columns)

    @torch.inference_mode()
    def score(self, ids_N: Tensor, lengths: Sequence[int]) -> dict[str, np.ndarray]:
        """Statistics of `N` concatenated tokens of documents with these `lengths`; NaN (ranks and ids 0) where none."""
        collector = _Collector(self.statistics, len(ids_N), statistic_names(self.options.features), self.model.device)
        starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        for batch in pack(segments(lengths, self.options.windows), self.batch_tokens):
            spans = [(starts[s.document] + s.start, starts[s.document] + s.stop) for s in batch]
            fed = torch.cat([ids_N[a:b] for a, b in spans]).to(self.model.device)
            self._score_batch(batch, spans, fed, collector)
        return collector.finish()

    def _score_batch(
        self, batch: list[Segment], spans: list[tuple[int, int]], fed: Tensor, collector: _Collector
    ) -> None:
        """One forward pass. `spans`: where each segment's tokens lie among the block's, `fed` their ids in a row."""
        bounds = list(itertools.pairwise([0, *np.cumsum([len(s) for s in batch]).tolist()]))
        skips = [s.score_from - s.start for s in batch]
        if not self.model.separate:
            self._collect_own_logits(bounds, spans, skips, fed, collector)
            return
        hidden = self.model.hidden(fed, bounds)
        local = _ranges((a + skip, b) for (a, b), skip in zip(bounds, skips, strict=True)).to(hidden.device)
        rows = _ranges((a + skip, b) for (a, b), skip in zip(spans, skips, strict=True))
        collector.add(hidden[local - 1], fed[local], rows)
        if HIDDEN in self.options.features:
            for segment, (a, b), (_, row_end), skip in zip(batch, bounds, spans, skips, strict=True):
                first = skip if segment.start else 0  # the first window keeps its first token's state too
                collector.keep_hidden(hidden[a + first : b], row_end - (b - a - first))

    def _collect_own_logits(
        self, bounds: list[tuple[int, int]], spans: list[tuple[int, int]], skips: list[int], fed: Tensor,
        collector: _Collector,
    ) -> None:  # fmt: skip
        for (a, b), (start, _), skip in zip(bounds, spans, skips, strict=True):
            place = skip
            for logits in self.model.own_logits(fed[a:b], skip - 1):
                end = place + len(logits)
                collector.add(logits, fed[a + place : a + end], torch.arange(start + place, start + end))
                place = end

    def _assemble(
        self, table: pa.Table, documents: list[int], lengths: np.ndarray, columns: dict[str, np.ndarray]
    ) -> pa.Table:
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        broken = _broken_documents(columns, starts)
        table = _reject(table, {documents[i] for i in broken})
        keep = np.array([i for i in range(len(documents)) if i not in broken], dtype=np.int64)
        places = np.full(len(table), -1, dtype=np.int64)
        places[np.array(documents, dtype=np.int64)[keep]] = keep
        for name in statistic_names(self.options.features):
            values = _arrow_column(name, columns[name], starts[:-1])
            lists = pa.LargeListArray.from_arrays(pa.array(starts), values) if len(documents) else None
            index = pa.array(places, mask=places < 0)
            column = pa.nulls(len(table), self.schema.field(name).type) if lists is None else lists.take(index)
            table = table.append_column(self.schema.field(name), column.cast(self.schema.field(name).type))
        return table.cast(self.schema)


class _Collector:
    """Gathers rows for the head until a tile is full, and writes each row's statistics to its place in the block."""

    def __init__(self, statistics: TiledStatistics, n: int, names: Iterable[str], device: torch.device) -> None:
        self.statistics = statistics
        self.capacity = statistics.options.rows
        self.columns: dict[str, np.ndarray] = {}
        self.n, self.names = n, list(names)
        width = statistics.head.width
        self._hidden_RD = torch.empty(self.capacity, width, device=device, dtype=statistics.head.product_dtype)
        self._target_R = torch.empty(self.capacity, dtype=torch.long, device=device)
        self._row_R = np.empty(self.capacity, dtype=np.int64)
        self._waiting = 0

    def add(self, hidden_RD: Tensor, target_R: Tensor, row_R: Tensor) -> None:
        done = 0
        while done < len(row_R):
            take = min(self.capacity - self._waiting, len(row_R) - done)
            here, there = slice(self._waiting, self._waiting + take), slice(done, done + take)
            self._hidden_RD[here] = hidden_RD[there]
            self._target_R[here] = target_R[there]
            self._row_R[here] = row_R[there].numpy()
            self._waiting, done = self._waiting + take, done + take
            if self._waiting == self.capacity:
                self._flush()

    def keep_hidden(self, hidden_LD: Tensor, row: int) -> None:
        if HIDDEN not in self.columns:
            self.columns[HIDDEN] = np.zeros((self.n, *self._shape_of(HIDDEN)), dtype=np.float16)
        self.columns[HIDDEN][row : row + len(hidden_LD)] = hidden_LD.to(torch.float16).cpu().numpy()

    def _flush(self) -> None:
        n, self._waiting = self._waiting, 0
        if not n:
            return
        for name, values in self.statistics(self._hidden_RD[:n], self._target_R[:n]).items():
            self._column(name, values)[self._row_R[:n]] = values.cpu().numpy()

    def _column(self, name: str, values: Tensor) -> np.ndarray:
        if name not in self.columns:
            dtype: Any = np.float32 if values.is_floating_point() else np.int32
            fill = np.nan if dtype is np.float32 else 0
            self.columns[name] = np.full((self.n, *values.shape[1:]), fill, dtype=dtype)
        return self.columns[name]

    def finish(self) -> dict[str, np.ndarray]:
        """All columns of the block; a block without a single prediction, or without a document, has them too."""
        self._flush()
        for name in self.names:
            if name not in self.columns:
                self.columns[name] = np.full((self.n, *self._shape_of(name)), np.nan, dtype=np.float32)
        return self.columns

    def _shape_of(self, name: str) -> tuple[int, ...]:
        if name == HIDDEN:
            return (self.statistics.head.width,)
        return (self.statistics.top_k,) if name.startswith("topk") else ()


def _ranges(bounds: Iterable[tuple[int, int]]) -> Tensor:
    return torch.cat([torch.arange(a, b) for a, b in bounds])


def _broken_documents(columns: dict[str, np.ndarray], starts: np.ndarray) -> set[int]:
    """Documents with a statistic that is not finite where a prediction is, or a hidden state out of half range."""
    bad = np.zeros(starts[-1] + 1, dtype=bool)
    for name in ("logprob", "entropy", "logprob_std"):
        bad[:-1] |= ~np.isfinite(columns[name])
    bad[starts[:-1]] = False
    if HIDDEN in columns:
        bad[:-1] |= ~np.isfinite(columns[HIDDEN]).all(axis=1)
    places = np.flatnonzero(bad[:-1])
    return set(np.searchsorted(starts, places, side="right") - 1)


def _reject(table: pa.Table, rows: set[int]) -> pa.Table:
    """Turn the given rows into rejects: their text, ids and spans become NULL."""
    if not rows:
        return table
    mask = pa.array([i in rows for i in range(len(table))])
    detail = "the model gave a NaN or infinite statistic; try --dtype float32"
    changes = {"reason": Reason.NON_FINITE_SCORE.value, "detail": detail}
    for name in ("text", "token_id", "byte_start", "n_bytes", *changes):
        field_ = table.schema.field(name)
        value = pa.scalar(changes.get(name), field_.type)
        column = pc.if_else(mask, value, table[name])
        table = table.set_column(table.schema.get_field_index(name), field_, column)
    return table


def _arrow_column(name: str, values: np.ndarray, first_tokens: np.ndarray) -> pa.Array:
    """Arrow values with NULL where there is no prediction."""
    if name == HIDDEN:
        return _fixed_lists(values, TOKENS[name].type, None)
    missing = np.zeros(len(values), dtype=bool)
    missing[first_tokens] = True
    if values.ndim == 2:
        return _fixed_lists(values, TOKENS[name].type, missing)
    if name == "logprob_second":
        missing |= np.isneginf(values)
    return pa.array(values, mask=missing).cast(TOKENS[name].type)


def _fixed_lists(values: np.ndarray, type_: pa.DataType, missing: np.ndarray | None) -> pa.Array:
    """Rows of a matrix as lists; rows named by `missing` are NULL and hold nothing."""
    lengths = np.full(len(values), values.shape[1], dtype=np.int64)
    if lengths.sum() > np.iinfo(np.int32).max:
        raise ModelError(
            f"{len(values):,} tokens x {values.shape[1]:,} numbers: too many for one block, see --features"
        )
    if missing is not None:
        lengths[missing] = 0
        values = values[~missing]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1), type_.value_type), mask=mask)
