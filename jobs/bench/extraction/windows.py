"""The windows of strict runs, as `assay bench extraction` compares them with generated text.

    tokens of a run -> documents with a complete window, by doc_id -> prefix, suffix and statistics of every window

doc_ids are hashes, so the first documents are as good as drawn. Shapes: `W` windows, `P` tokens of a prefix, `S` of a
suffix, `B` fed before every window, `K` of a stored list. Formulas: extraction as in arXiv 2202.07646, (n, p) as in
arXiv 2410.19482.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake
from operators.transform import Transform, TransformError, parse_transform
from pipelines.config import ConfigError

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sampling:
    """How a continuation is drawn. `top_k`: among the tokens of the k largest logits; None: among all."""

    temperature: float = 1.0
    top_k: int | None = None

    def __str__(self) -> str:
        return f"temperature {self.temperature:g}, " + ("all tokens" if self.top_k is None else f"top {self.top_k}")


@dataclass(frozen=True)
class Windows:
    """`documents`: ids of each document with a window; `document_W` numbers them. `position_W`: of a suffix's first
    token. `top_id_WSK`, `top_logprob_WSK`: the stored lists, None where the run has none."""

    before: tuple[int, ...]
    documents: list[Ints]
    document_W: Ints
    doc_id_W: Ints
    position_W: Ints
    prefix_WP: Ints
    suffix_WS: Ints
    is_greedy_WS: Flags
    logprob_WS: Floats
    top_id_WSK: Ints | None = None
    top_logprob_WSK: Floats | None = None

    def __len__(self) -> int:
        return len(self.document_W)

    @property
    def shape(self) -> str:
        """What a window is made of, in words."""
        before, prefix, suffix = len(self.before), self.prefix_WP.shape[1], self.suffix_WS.shape[1]
        return f"{before} + {prefix} + {suffix} tokens"

    @property
    def fed(self) -> Ints:
        """What a suffix is predicted from, `[W, B + P]`."""
        before = np.broadcast_to(np.array(self.before, np.int64), (len(self), len(self.before)))
        return np.concatenate([before, self.prefix_WP], axis=1)

    @property
    def leading(self) -> Ints:
        """How many tokens of the suffix are the greedy choice before the first that is not, `[W]`."""
        return np.asarray(np.cumprod(self.is_greedy_WS, axis=1, dtype=np.int64).sum(axis=1))

    @property
    def is_extractable(self) -> Flags:
        """Whether every token of the suffix is the greedy choice, `[W]`."""
        return np.asarray(self.is_greedy_WS.all(axis=1))

    def logprob_sampled(self, sampling: Sampling) -> Floats:
        """ln p_z of every window, `[W]`: of one sampled continuation being the suffix; -inf where it cannot be.

        Raises:
            ValueError: it needs longer lists than are stored.
        """
        if sampling == Sampling():
            return np.asarray(self.logprob_WS.sum(axis=1))
        stored = 0 if self.top_logprob_WSK is None else self.top_logprob_WSK.shape[2]
        if self.top_id_WSK is None or self.top_logprob_WSK is None or sampling.top_k is None or sampling.top_k > stored:
            raise ValueError(f"{sampling}: the stored lists have {stored} tokens")
        scaled = self.top_logprob_WSK[:, :, : sampling.top_k] / sampling.temperature
        scaled = scaled - scaled[:, :, :1]  # the largest is the first
        total = np.log(np.exp(scaled).sum(axis=2))
        is_own = self.top_id_WSK[:, :, : sampling.top_k] == self.suffix_WS[:, :, None]
        own = np.where(is_own, scaled, 0.0).sum(axis=2)
        return np.asarray(np.where(is_own.any(axis=2), own - total, -np.inf).sum(axis=1))

    def of_documents(self, most: int) -> Iterator[tuple[list[Ints], slice]]:
        """Documents in their order and the windows that they have, `most` at a time or one document's."""
        counts = np.bincount(self.document_W, minlength=len(self.documents))
        first = window = 0
        for i in range(len(self.documents)):
            so_far = int(counts[first : i + 1].sum())
            if i + 1 == len(self.documents) or so_far + counts[i + 1] > most:
                yield self.documents[first : i + 1], slice(window, window + so_far)
                first, window = i + 1, window + so_far


def read_windows(lake: Lake, run_ids: Sequence[str], most: int) -> Windows:
    """The windows of the first documents of strict runs that differ in their offset, about `most` or all there are.

    Raises:
        ConfigError: no such run, not one of strict windows, none that is complete, or runs of different windows.
    """
    share = -(-most // len(run_ids))
    runs = [_of_run(lake, run_id, share) for run_id in run_ids]
    for run_id, run in zip(run_ids, runs, strict=True):
        if run.shape != runs[0].shape:
            raise ConfigError(f"--run-id {run_id}: its windows are {run.shape}, those of {run_ids[0]} {runs[0].shape}")
    return _joined(runs, runs[0].before)


def _of_run(lake: Lake, run_id: str, most: int) -> Windows:
    """At least `most` windows of a run, where there are as many."""
    ledger, transform = _strict(lake, run_id)
    prefix, suffix = transform.number("prefix"), transform.number("suffix")
    found: list[Windows] = []
    n = 0
    for part in lake.readable_tokens(run_id):
        with lake.storage.parquet(part.path) as file:
            columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
            rows = file.read(columns=columns)
        found += [piece for piece in [_windows(rows, prefix, suffix, most - n)] if len(piece)]
        n = sum(map(len, found))
        if n >= most:
            break
    if not found:
        raise ConfigError(f"--run-id {run_id}: no text in it has {prefix + suffix} tokens, so there is no window")
    return _joined(found, tuple((ledger.get("prefix") or {}).get("token_ids", ())))


_COLUMNS = ("doc_id", "token_id", "logprob", "rank", "top1_id", "topk_id", "topk_logprob")


def _strict(lake: Lake, run_id: str) -> tuple[dict[str, Any], Transform]:
    try:
        ledger = lake.read_run(run_id)
        transform = parse_transform(str(ledger["config"]["transform"]))
        if ledger["state"] == "finished" and transform.name == "windows":
            return ledger, transform
    except TransformError:
        pass
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--run-id: {error}") from None
    raise ConfigError(
        f"--run-id {run_id}: not a finished run of strict windows; make one with assay score --transform "
        f"windows:prefix=50,suffix=50 --base-run {run_id} --run-id {run_id}-windows --features topk --top-k 40"
    )


def _windows(rows: pa.Table, prefix: int, suffix: int, most: int) -> Windows:
    """The windows of a part, of its first documents until there are `most`."""
    doc_id = rows["doc_id"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], doc_id[1:] != doc_id[:-1]]))
    lengths = np.diff(np.append(starts, len(doc_id)))
    counts = np.maximum((lengths - prefix) // suffix, 0)
    starts, lengths, counts = (values[counts > 0] for values in (starts, lengths, counts))
    taken = slice(int(np.searchsorted(np.cumsum(counts), most)) + 1)
    starts, lengths, counts = starts[taken], lengths[taken], counts[taken]
    document_W = np.repeat(np.arange(len(counts)), counts)
    number_W = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first_W = starts[document_W] + number_W * suffix
    places = (first_W + prefix)[:, None] + np.arange(suffix)
    ids = rows["token_id"].to_numpy().astype(np.int64)
    of_suffix = rows.take(pa.array(places.ravel()))
    shape = places.shape
    return Windows(
        before=(),
        documents=[ids[start : start + n] for start, n in zip(starts, lengths, strict=True)],
        document_W=document_W,
        doc_id_W=doc_id[first_W],
        position_W=prefix + number_W * suffix,
        prefix_WP=ids[first_W[:, None] + np.arange(prefix)],
        suffix_WS=ids[places],
        is_greedy_WS=_is_greedy(of_suffix).reshape(shape),
        logprob_WS=of_suffix["logprob"].to_numpy().astype(np.float64).reshape(shape),
        top_id_WSK=_lists(of_suffix, "topk_id", np.int64, shape),
        top_logprob_WSK=_lists(of_suffix, "topk_logprob", np.float64, shape),
    )


def _is_greedy(rows: pa.Table) -> Flags:
    """Whether a token is the greedy choice: by its id where the run keeps that, else by rank 1, which ties share."""
    if "top1_id" in rows.column_names:
        return np.asarray(pc.equal(rows["top1_id"], rows["token_id"]).to_numpy())
    if "topk_id" in rows.column_names:
        return np.asarray(pc.equal(pc.list_element(rows["topk_id"], 0), rows["token_id"]).to_numpy())
    return np.asarray(pc.equal(rows["rank"], 1).to_numpy())


def _lists(rows: pa.Table, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    if name not in rows.column_names or not len(rows):
        return None
    return np.asarray(pc.list_flatten(rows[name]).to_numpy().astype(dtype).reshape(*shape, -1))


def _as_long(pieces: list[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    """Lists of several runs, each as long as the shortest; None where a run has none."""
    lists = [values for values in pieces if values is not None]
    if len(lists) < len(pieces):
        return None
    k = min(values.shape[2] for values in lists)
    return np.concatenate([values[:, :, :k] for values in lists])


def _joined(pieces: list[Windows], before: tuple[int, ...]) -> Windows:
    numbers = np.cumsum([0, *(len(piece.documents) for piece in pieces[:-1])])
    arrays = ("doc_id_W", "position_W", "prefix_WP", "suffix_WS", "is_greedy_WS", "logprob_WS")
    return Windows(
        before=before,
        documents=[ids for piece in pieces for ids in piece.documents],
        document_W=np.concatenate([piece.document_W + n for piece, n in zip(pieces, numbers, strict=True)]),
        top_id_WSK=_as_long([piece.top_id_WSK for piece in pieces]),
        top_logprob_WSK=_as_long([piece.top_logprob_WSK for piece in pieces]),
        **{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in arrays},
    )
