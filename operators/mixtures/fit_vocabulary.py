"""Loss by vocabulary type: the mean over its occurrences, with an interval for which documents stand together.

    tokens parts, in order --> per type and document: occurrences n_d, loss s_d --> powers, summed by type --> rows
    documents part ---------> how the first occurrence is spelt --------------------------------------------^

    mean m = sum s_d / sum n_d        u_d = (s_d - m n_d) / sum s_d        error of log m: sqrt(sum u_d^2)

The interval is the delta method's on the logarithm, with Student's t on as many degrees of freedom as documents carry
the error, (sum u_d^2)^2 / sum u_d^4: a type whose occurrences lie in few documents is known as
badly as they are few (Satterthwaite's idea; measured by `assay bench calibration`). No samples are drawn: a vocabulary
has 10^5 types.

Memory: the types seen, and one batch of tokens; a document that is cut by a batch waits for its rest.
Source: Magnusson et al. 2023, arXiv 2312.10523. Shapes: `V` types, `P` pairs of a type and a document.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from operators.lake import Lake, Part
from schemas import DOCUMENTS, VOCABULARY_FIT

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BATCH = 1 << 20  # tokens read at once
_COLUMNS = ("doc_id", "token_id", "logprob", "byte_start", "n_bytes")

# Exponents of s_d and n_d in the sums that are kept: the mean, then the second and the fourth power of s_d - m n_d.
_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (4, 0), (3, 1), (2, 2), (1, 3), (0, 4))
_BINOMIAL = {2: (1, 2, 1), 4: (1, 4, 6, 4, 1)}


@dataclass
class Types:
    """What is known of the types seen so far. `ids` ascend; `sums_VP` has a column for each of `_POWERS`."""

    ids: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    sums_VP: Floats = field(default_factory=lambda: np.zeros((0, len(_POWERS))))
    texts: dict[int, str | None] = field(default_factory=dict)

    def add(self, ids: Ints, sums_VP: Floats) -> None:
        """Take in sums of some types, each once."""
        every, places = np.unique(np.concatenate([self.ids, ids]), return_inverse=True)
        sums = np.zeros((len(every), len(_POWERS)))
        np.add.at(sums, places, np.concatenate([self.sums_VP, sums_VP]))
        self.ids, self.sums_VP = every, sums


def vocabulary_fit(lake: Lake, run_id: str, confidence: float, *, batch: int = BATCH) -> pa.Table:
    """The rows of `vocabulary_fit` for one run, sorted as the table is: types with a scored occurrence.

    Raises:
        OSError, ValueError: a part cannot be read.
    """
    types = Types()
    for part in lake.readable_tokens(run_id):
        first: dict[int, tuple[int, int, int]] = {}
        for tokens in _whole_documents(lake, part, batch):
            _add_tokens(types, tokens, first)
        types.texts |= _texts(lake, part, first)
    return rows(types, confidence)


def _whole_documents(lake: Lake, part: Part, batch: int) -> Iterator[pa.Table]:
    """Tokens in order, documents in one piece."""
    held: pa.Table | None = None
    with lake.storage.parquet(part.path) as file:
        for read in file.iter_batches(batch_size=batch, columns=list(_COLUMNS)):
            table = pa.Table.from_batches([read])
            table = table if held is None else pa.concat_tables([held, table])
            if not len(table):
                continue
            end = pc.index(table["doc_id"], table["doc_id"][-1]).as_py()  # where the last document begins
            if end:
                yield table.slice(0, end)
            held = table.slice(end)
    if held is not None:
        yield held


def _add_tokens(types: Types, tokens: pa.Table, first: dict[int, tuple[int, int, int]]) -> None:
    """Sums of some documents; `first` is told where a type stands that was not seen before: document, byte, bytes."""
    tokens = tokens.filter(pc.is_valid(tokens["logprob"]))
    if not len(tokens):
        return
    ids, documents = (tokens[name].to_numpy().astype(np.int64) for name in ("token_id", "doc_id"))
    loss = -tokens["logprob"].cast(pa.float64()).to_numpy()
    document = np.unique(documents, return_inverse=True)[1]
    pairs, pair = np.unique(ids * (document.max() + 1) + document, return_inverse=True)
    n, s = (np.bincount(pair, each).astype(np.float64) for each in (None, loss))
    seen, type_P = np.unique(pairs // (document.max() + 1), return_inverse=True)
    types.add(seen, document_sums(type_P.astype(np.intp), s, n))
    _, earliest = np.unique(ids, return_index=True)
    new = [place for place in earliest.tolist() if int(ids[place]) not in types.texts]
    for row in (
        tokens.select(["token_id", "doc_id", "byte_start", "n_bytes"]).take(pa.array(new, pa.int64())).to_pylist()
    ):
        types.texts[row["token_id"]] = None
        first[row["token_id"]] = (row["doc_id"], row["byte_start"], row["n_bytes"])


def document_sums(type_P: npt.NDArray[np.intp], loss_P: Floats, n_P: Floats) -> Floats:
    """The sums of each type, a column for each of `_POWERS`, from the loss and the occurrences of it in each document;
    `type_P` counts from 0, and leaves none out."""
    columns = [np.bincount(type_P, loss_P**i * n_P**j) for i, j in _POWERS]
    return np.stack(columns, axis=1).astype(np.float64)


def _texts(lake: Lake, part: Part, first: dict[int, tuple[int, int, int]]) -> dict[int, str | None]:
    """How the documents of a part spell these types; None where texts were dropped, or it is no whole characters."""
    if not first:
        return {}
    of_document: dict[int, list[tuple[int, int, int]]] = {}
    for token, (document, start, size) in first.items():
        of_document.setdefault(document, []).append((token, start, start + size))
    wanted = pa.array(sorted(of_document), pa.int64())
    spelt: dict[int, str | None] = dict.fromkeys(first)
    with lake.storage.parquet(Part(DOCUMENTS.name, part.run_id, part.name).path) as file:
        for read in file.iter_batches(batch_size=1024, columns=["doc_id", "text"]):
            kept = read.filter(pc.and_(pc.is_in(read["doc_id"], wanted), pc.is_valid(read["text"])))
            for row in kept.to_pylist():
                text = row["text"].encode()
                spelt |= {token: _decoded(text[start:end]) for token, start, end in of_document[row["doc_id"]]}
    return spelt


def _decoded(piece: bytes) -> str | None:
    try:
        return piece.decode() or None
    except UnicodeDecodeError:
        return None


def rows(types: Types, confidence: float) -> pa.Table:
    """The rows of the types."""
    sums = {power: types.sums_VP[:, place] for place, power in enumerate(_POWERS)}
    loss, n = sums[1, 0], sums[0, 1]
    mean = loss / n
    low, high = _interval(sums, mean, confidence)
    total = float(loss.sum())
    columns = {
        "token_id": types.ids,
        "text": [types.texts.get(token) for token in types.ids.tolist()],
        "n": np.rint(n).astype(np.int64),
        "n_documents": np.rint(sums[0, 0]).astype(np.int64),
        "mean_loss": np.abs(mean),  # -0.0 where all is certain
        "mean_loss_low": pa.array(low, pa.float64(), from_pandas=True),
        "mean_loss_high": pa.array(high, pa.float64(), from_pandas=True),
        "loss_share": np.abs(loss) / total if total and np.isfinite(total) else [None] * len(loss),
        "confidence": np.full(len(loss), confidence),
    }
    schema = VOCABULARY_FIT.arrow()
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in schema], schema=schema)


def _interval(sums: dict[tuple[int, int], Floats], mean: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Ends of the interval; NaN for types of one document, or without any loss."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        second, fourth = (_central(sums, mean, power) for power in (2, 4))
        error = np.sqrt(second) / sums[1, 0]
        freedom = np.fmax(np.where(fourth > 0, second**2 / fourth, 1.0), 1.0)
        reach = stats.t.ppf((1 + confidence) / 2, freedom) * error
        low, high = mean * np.exp(-reach), mean * np.exp(reach)
    has_none = (sums[0, 0] < 2) | ~np.isfinite(high)
    return np.where(has_none, np.nan, low), np.where(has_none, np.nan, high)


def _central(sums: dict[tuple[int, int], Floats], mean: Floats, power: int) -> Floats:
    """sum_d (s_d - m n_d)^power; 0 where rounding of its terms is all there is."""
    terms = [factor * sums[power - place, place] * (-mean) ** place for place, factor in enumerate(_BINOMIAL[power])]
    total = np.sum(terms, axis=0)
    cleared: Floats = np.where(total > 1e-13 * np.sum(np.abs(terms), axis=0), total, 0.0)
    return cleared
