"""Scores tokenized documents: windows -> packed batches -> model body -> fused vocabulary statistics.

How hidden states, predictions and rows align, for one segment fed as `ids`:

    fed           ids[0]  ids[1]  ids[2]  ids[3]
    hidden state    h0      h1      h2      h3
    predicts      ids[1]  ids[2]  ids[3]    -
    row written   1 <- h0, 2 <- h1, 3 <- h2;  row 0 of a document has NULL statistics

Behind a prefix `p` every segment is fed as `p[0] .. p[-1] ids[0] ids[1] ..`: row 0 <- the state at `p[-1]`, the first
that the head sees; the prefix itself has no rows.

Body and head are batched apart: segments are packed into batches of a few hundred tokens for the body, and the hidden
states that predict something wait until a whole tile of rows is there for the head, so neither computes padding.
Where memory runs out, the block is scored again from its start with a smaller budget, which later blocks keep.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from operators.batch_size import find_batch_tokens, room, rough_bytes
from operators.body.probe import probe_ids
from operators.budget import MIN_TILE_ROWS, Budget, fewer_rows, free_caches, smaller
from operators.failures import first_line, is_out_of_memory
from operators.model_files import ModelError, ModelOptions
from operators.models import ScoringModel
from operators.score_columns import assembled
from operators.staging import Downloads, Pending, Uploads
from operators.statistics import Statistics, TileOptions, make_statistics
from operators.windows import MIN_BATCH_TOKENS, Segment, WindowOptions, pack, segments
from schemas.flow import scored, statistic_names
from schemas.tokens import FEATURE_GROUPS, HIDDEN

log = logging.getLogger(__name__)

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 16384
MOST_TILE_ROWS = 8192  # of any kernel's own choice


@dataclass(frozen=True)
class ScoreOptions:
    """`features`: optional column groups to keep. `batch_tokens`: body batch; None: on a CPU what is fastest
    there, on a GPU what its memory holds."""

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
        self.statistics = self._make_statistics(replace(options.tiles, deterministic=self.model.deterministic))
        self.fed_tokens = self.batches = 0  # through the body so far; overlaps, and what ran out of memory, again
        self.batch_tokens = options.batch_tokens or CPU_BATCH_TOKENS
        if options.batch_tokens is None and self.model.device.type == "cuda":
            self.batch_tokens = self._find_batch_tokens()
        self.model.prepare(self.batch_tokens, options.windows.most_fed)
        self.schema = scored(options.features)

    def __call__(self, table: pa.Table) -> pa.Table:
        documents = [i for i, ids in enumerate(table["token_id"]) if ids.is_valid]
        lists = table["token_id"].take(pa.array(documents, pa.int64())).combine_chunks()
        lengths = np.asarray(lists.value_lengths()) if documents else np.zeros(0, np.int64)
        ids = torch.from_numpy(np.array(lists.flatten(), dtype=np.int64) if documents else np.zeros(0, np.int64))
        columns = self.score(ids, lengths.tolist())
        scores_first = bool(self.options.windows.prefix)
        return assembled(table, self.schema, documents, lengths, columns, scores_first=scores_first)

    @torch.inference_mode()
    def score(self, ids_N: Tensor, lengths: Sequence[int]) -> dict[str, np.ndarray]:
        """Statistics of `N` concatenated tokens of documents with these `lengths`; NaN (ranks and ids 0) where none.

        Raises:
            ModelError: a single window does not fit into memory.
        """
        while True:
            try:
                return self._score_within_budget(ids_N, lengths)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                failure = first_line(error)
            # Only here, outside the handler, are the tensors of the failed attempt gone.
            self._shrink(list(segments(lengths, self.options.windows)), failure)

    def _make_statistics(self, tiles: TileOptions) -> Statistics:
        """The head's kernel with its buffers, for fewer rows than asked for where memory runs out.

        Raises:
            ModelError: the kernel that is asked for cannot run here. OutOfMemoryError: not even the fewest rows fit.
        """
        rows = tiles.rows
        while True:
            try:
                return make_statistics(self.model.head, frozenset(self.options.features), replace(tiles, rows=rows))
            except (ValueError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise ModelError(f"--kernel: {error}") from error
                self._rows_may_change()
                if rows is not None and rows <= MIN_TILE_ROWS:
                    raise
            free_caches(self.model.device)
            rows = fewer_rows(rows or MOST_TILE_ROWS)

    @torch.inference_mode()
    def _find_batch_tokens(self) -> int:
        """As many tokens as fit into the memory that this process may take, up to where a GPU gains no more.

        Where bits are promised that depend on it, or segments run alone, it is the same on every device.
        """
        if self.model.deterministic or not self.model.packed:
            return GPU_BATCH_TOKENS
        device, itemsize = self.model.device, self.model.dtype.itemsize
        free, total = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_allocated(device)
        unused = torch.cuda.memory_reserved(device) - held
        found = find_batch_tokens(
            self._bytes_of_pass,
            room(total=total, free=free, held=held, unused=unused, share=self.options.model.memory_share),
            rough=rough_bytes(self.model.config, itemsize),
            least=max(MIN_BATCH_TOKENS, self.options.windows.most_fed),
            most=max(GPU_BATCH_TOKENS, self.options.windows.most_fed),
        )
        free_caches(device)
        self.fed_tokens = self.batches = 0
        return found

    def _bytes_of_pass(self, tokens: int) -> int:
        """Score made-up documents of one window each in one batch: the most bytes that were taken for it at once."""
        windows, device = self.options.windows, self.model.device
        free_caches(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        lengths = [windows.context] * max(1, tokens // windows.most_fed)
        self.batch_tokens = tokens
        self._score_within_budget(probe_ids(sum(lengths), self.model.config.vocab_size), lengths)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    def _rows_may_change(self) -> None:
        """Raise ModelError where bits are promised that depend on the head's rows."""
        if self.model.deterministic and self.model.device.type != "cpu":
            raise ModelError(
                "out of memory with --deterministic, which fixes how many rows the head takes: run again with fewer "
                "--features, or without it"
            )

    def _shrink(self, windows: list[Segment], failure: str) -> None:
        """Take the next smaller budget, for this block and all later ones."""
        free_caches(self.model.device)
        rows = self.statistics.rows
        budget = smaller(Budget(self.batch_tokens, rows), windows)
        if budget is None:
            raise ModelError(
                f"out of memory with a single window of {max(map(len, windows), default=0)} tokens in "
                f"{str(self.model.dtype).removeprefix('torch.')} on {self.model.device}: choose a smaller --context, "
                f"--dtype bfloat16, fewer --features, or a device with more memory ({failure})"
            )
        log.warning(
            "out of memory on %s: on with batches of %d tokens and head tiles of %d rows: slower (%s)",
            self.model.device, *budget, failure,
        )  # fmt: skip
        self.batch_tokens = budget.batch_tokens
        self.model.shrink(budget.batch_tokens)
        if budget.tile_rows < rows:
            tiles = replace(self.statistics.options, rows=budget.tile_rows)
            self._rows_may_change()
            del self.statistics  # its buffers go before the smaller ones are made
            self.statistics = self._make_statistics(tiles)

    def _score_within_budget(self, ids_N: Tensor, lengths: Sequence[int]) -> dict[str, np.ndarray]:
        names = statistic_names(self.options.features)
        collector = _Collector(self.statistics, len(ids_N), names, self.model.device)
        starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        for batch in pack(segments(lengths, self.options.windows), self.batch_tokens):
            spans = [(starts[s.document] + s.start, starts[s.document] + s.stop) for s in batch]
            self._score_batch(batch, spans, ids_N, collector)
            self.fed_tokens += sum(map(len, batch))
            self.batches += 1
        return collector.finish()

    def _score_batch(
        self, batch: list[Segment], spans: list[tuple[int, int]], ids_N: Tensor, collector: _Collector
    ) -> None:
        """One forward pass. `spans`: where each segment's tokens lie among the block's ids."""
        bounds = list(itertools.pairwise([0, *np.cumsum([len(s) for s in batch]).tolist()]))
        fed_T = self._fed(spans, ids_N)
        if not self.model.separate:
            self._collect_own_logits(batch, bounds, spans, fed_T.to(self.model.device), collector)
            return
        hidden = self.model.hidden(fed_T, bounds)
        local_R = _ranges((a + s.skip, b) for (a, b), s in zip(bounds, batch, strict=True))
        row_R = _ranges((a + s.skip - s.prefix, b) for (a, b), s in zip(spans, batch, strict=True))
        collector.add(hidden, local_R - 1, fed_T[local_R], row_R)
        if HIDDEN in self.options.features:
            for segment, (a, b), (_, row_end) in zip(batch, bounds, spans, strict=True):
                # The first window keeps its first token's state too.
                first = segment.skip if segment.start else segment.prefix
                collector.keep_hidden(hidden[a + first : b], row_end - (b - a - first))

    def _fed(self, spans: list[tuple[int, int]], ids_N: Tensor) -> Tensor:
        """The ids of a batch, each segment behind the prefix where there is one."""
        if not self.options.windows.prefix:
            return ids_N[_ranges(spans)]
        prefix = torch.tensor(self.options.windows.prefix, dtype=ids_N.dtype)
        return torch.cat([part for a, b in spans for part in (prefix, ids_N[a:b])])

    def _collect_own_logits(
        self, batch: list[Segment], bounds: list[tuple[int, int]], spans: list[tuple[int, int]], fed_T: Tensor,
        collector: _Collector,
    ) -> None:  # fmt: skip
        for segment, (a, b), (start, _) in zip(batch, bounds, spans, strict=True):
            place = segment.skip
            for logits in self.model.own_logits(fed_T[a:b], place - 1):
                end = place + len(logits)
                rows = torch.arange(place, end) + (start - segment.prefix)
                collector.add(logits, torch.arange(len(logits)), fed_T[a + place : a + end].cpu(), rows)
                place = end


class _Collector:
    """Gathers rows for the head until a launch is full, and writes each row's statistics to its place in the block.

    On an accelerator nothing here waits for it: results are copied back while the next rows are computed, and placed
    one launch later.
    """

    def __init__(self, statistics: Statistics, n: int, names: Iterable[str], device: torch.device) -> None:
        self.statistics = statistics
        self.columns: dict[str, np.ndarray] = {}
        self.n, self.names = n, list(names)
        self._uploads, self._downloads = Uploads(device), Downloads(device)
        self._row_R = np.empty(statistics.rows, dtype=np.int64)
        self._waiting = 0
        self._coming: tuple[np.ndarray, Pending] | None = None

    def add(self, hidden_TD: Tensor, local_R: Tensor, target_R: Tensor, row_R: Tensor) -> None:
        """Rows `local_R` of `hidden_TD` predict `target_R`, the block's tokens number `row_R`; all but the states on
        the host."""
        local, target = self._uploads.put(torch.stack([local_R, target_R]))
        done = 0
        while done < len(row_R):
            take = min(self.statistics.rows - self._waiting, len(row_R) - done)
            there = slice(done, done + take)
            self.statistics.put(hidden_TD[local[there]], target[there], self._waiting)
            self._row_R[self._waiting : self._waiting + take] = row_R[there].numpy()
            self._waiting, done = self._waiting + take, done + take
            if self._waiting == self.statistics.rows:
                self._flush()

    def keep_hidden(self, hidden_LD: Tensor, row: int) -> None:
        if HIDDEN not in self.columns:
            self.columns[HIDDEN] = np.zeros((self.n, *self._shape_of(HIDDEN)), dtype=np.float16)
        self.columns[HIDDEN][row : row + len(hidden_LD)] = hidden_LD.to(torch.float16).cpu().numpy()

    def _flush(self) -> None:
        n, self._waiting = self._waiting, 0
        if n:
            started = self._downloads.start(self.statistics.run(n))
            self._place()
            self._coming = (self._row_R[:n].copy(), started)

    def _place(self) -> None:
        """Take in the results of the launch before."""
        if self._coming is not None:
            rows, started = self._coming
            for name, values in started.result().items():
                self._column(name, values)[rows] = values

    def _column(self, name: str, values: np.ndarray) -> np.ndarray:
        if name not in self.columns:
            fill = np.nan if np.issubdtype(values.dtype, np.floating) else 0
            self.columns[name] = np.full((self.n, *values.shape[1:]), fill, dtype=values.dtype)
        return self.columns[name]

    def finish(self) -> dict[str, np.ndarray]:
        """All columns of the block; a block without a single prediction, or without a document, has them too."""
        self._flush()
        self._place()
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
