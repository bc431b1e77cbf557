"""The documents of a run as an evaluation needs them: labels, lengths, clusters, and some with their text.

Labels are the column `label`, or what an expression over `documents` gives; clusters are `source`, `domain`, or an
attribute. They are read through `operators.query`, which lets an expression read the lake and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.evaluation.classes import Floats
from operators.query import query

LABEL = "label"
TEXT_BYTES = 32 << 20  # of both classes: a blind baseline on words takes some two seconds for each MiB
_CLUSTERS = ("source", "domain")  # other names are attributes


@dataclass(frozen=True)
class Documents:
    """Documents by ascending id: `labels` are 1, 0 or NaN, `clusters` are codes or NaN, or None where not asked for."""

    doc_ids: npt.NDArray[np.int64]
    labels: Floats
    n_bytes: Floats
    clusters: Floats | None = None

    def __len__(self) -> int:
        return self.doc_ids.size

    def where(self, chosen: npt.NDArray[np.bool_]) -> Documents:
        """Some of the documents."""
        clusters = None if self.clusters is None else self.clusters[chosen]
        return Documents(self.doc_ids[chosen], self.labels[chosen], self.n_bytes[chosen], clusters)

    def count(self, label: int) -> int:
        """Documents of this label."""
        return int((self.labels == label).sum())

    def n_clusters(self, label: int) -> int:
        """Clusters that hold a document of this label; a document without one is its own."""
        if self.clusters is None:
            return self.count(label)
        chosen = self.clusters[self.labels == label]
        missing = np.isnan(chosen)
        return int(np.unique(chosen[~missing]).size + missing.sum())


def read_documents(
    lake: str,
    run_id: str,
    *,
    label: str = LABEL,
    cluster: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Documents:
    """Every document of a run.

    Args:
        label: SQL over the columns of `documents` that gives 1 or true, 0 or false, or NULL.
        cluster: `source`, `domain`, or the name of an attribute (`--keep-columns`).

    Raises:
        QueryError: DuckDB refused the expression or failed on it.
        ValueError: a label is neither 1, 0 nor NULL; or no document has the cluster asked for.
    """
    column = f'"{cluster}"' if cluster in _CLUSTERS else "attributes[$cluster]"
    more = "" if cluster is None else f", {column} as cluster"
    sql = f"select doc_id, (\n{label}\n)::double as label, n_bytes{more} from documents where run_id = $run_id"
    parameters = {"run_id": run_id} | ({"cluster": cluster} if "$cluster" in more else {})
    rows = query(
        lake, f"{sql} order by doc_id", parameters=parameters, runs=[run_id], macros=False,
        storage_options=storage_options,
    )  # fmt: skip
    labels = _floats(rows["label"])
    strange = np.unique(labels[~np.isnan(labels) & (labels != 0) & (labels != 1)])
    if strange.size:
        raise ValueError(f"label {label}: expected 1, 0 or NULL, found {', '.join(f'{v:g}' for v in strange[:5])}")
    return Documents(
        rows["doc_id"].to_numpy(), labels, _floats(rows["n_bytes"]), _codes(rows, cluster) if cluster else None
    )


def read_texts(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    documents: Documents,
    columns: Sequence[str],
    *,
    most: int,
    most_bytes: int = TEXT_BYTES,
) -> tuple[Documents, pa.Table]:
    """Up to `most` labelled documents of each class, `most_bytes` in all, with further columns and their labels.

    They are those of the smallest ids: an id is a hash, so that is a draw at random that is the same every time.
    """
    chosen = np.zeros(len(documents), dtype=bool)
    for label in (0, 1):
        places = np.flatnonzero(documents.labels == label)[:most]
        chosen[places[documents.n_bytes[places].cumsum() <= most_bytes / 2]] = True
    some = documents.where(chosen)
    names = ", ".join(f'"{name}"' for name in columns if name != LABEL)
    last = int(some.doc_ids[-1]) if len(some) else -1
    sql = f"select doc_id, {names} from documents where run_id = $run_id and doc_id <= $last order by doc_id"
    rows = connection.sql(sql, params={"run_id": run_id, "last": last}).to_arrow_table()
    rows = rows.filter(pc.is_in(rows["doc_id"], pa.array(some.doc_ids)))
    return some, rows.append_column(LABEL, pa.array(some.labels.astype(np.int8)))


def read_keys(connection: duckdb.DuckDBPyConnection, run_id: str, doc_ids: npt.NDArray[np.int64]) -> dict[int, str]:
    """The users' ids of some documents."""
    sql = "select doc_id, key from documents where run_id = $run_id and doc_id in (select unnest($ids))"
    parameters = {"run_id": run_id, "ids": doc_ids.tolist()}
    rows = connection.sql(sql, params=parameters).to_arrow_table()
    return dict(zip(rows["doc_id"].to_pylist(), rows["key"].to_pylist(), strict=True))


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), dtype=np.float64)


def _codes(rows: pa.Table, cluster: str) -> Floats:
    """A number for each cluster, NaN where a document has none."""
    if rows.num_rows and rows["cluster"].null_count == rows.num_rows:
        raise ValueError(f"cluster {cluster!r}: no document has one; it is source, domain, or a column that was kept")
    encoded = rows["cluster"].combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks) if encoded.num_chunks else pa.array([], encoded.type)
    return _floats(pa.chunked_array([pc.dictionary_encode(encoded).indices], type=pa.int32()))
