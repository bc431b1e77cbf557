"""The documents of a run as a detector sees them: ids, labels, and which belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from operators.detectors.card import DetectorError, TrainingRun

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_OWN_COLUMNS = ("source", "domain")


@dataclass(frozen=True)
class Documents:
    """`doc_ids` [N], sorted; `labels` [N], NaN for none; `clusters` [N], a 63-bit hash of the name of each document's
    cluster, -1 for none, or None where none were asked for."""

    doc_ids: Ids
    labels: Floats
    clusters: Ids | None

    @property
    def lacks_clusters(self) -> bool:
        """Whether clusters were asked for, and no document has one."""
        return self.clusters is not None and bool((self.clusters < 0).all())

    def relabelled(self, doc_ids: Ids, labels: Floats) -> Documents:
        """The same documents with labels of theirs, those of `doc_ids`, sorted; NaN for documents not among these."""
        known = np.isin(self.doc_ids, doc_ids)
        found = np.full(self.doc_ids.size, np.nan)
        found[known] = labels[np.searchsorted(doc_ids, self.doc_ids[known])]
        return replace(self, labels=found)


def read_documents(connection: duckdb.DuckDBPyConnection, run_id: str, cluster: str | None) -> Documents:
    """The documents of a run; `cluster` is `source`, `domain` or a column kept with --keep-columns."""
    own = "attributes[$cluster]" if cluster not in _OWN_COLUMNS else cluster
    columns = "doc_id, label" if cluster is None else f"doc_id, label, {own} as cluster"
    bound = {"run_id": run_id} | ({} if cluster is None or cluster in _OWN_COLUMNS else {"cluster": cluster})
    rows = connection.sql(
        f"select {columns} from documents where run_id = $run_id order by doc_id", params=bound
    ).to_arrow_table()
    labels = pc.fill_null(rows["label"].cast(pa.float64()), np.nan).to_numpy()
    clusters = None if cluster is None else _hashes(rows["cluster"])
    return Documents(rows["doc_id"].to_numpy(), labels, clusters)


def _hashes(names: pa.ChunkedArray) -> Ids:
    encoded = names.combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    hashes = [xxh3_64_intdigest(name.encode()) >> 1 for name in encoded.dictionary.to_pylist()]
    found: Ids = np.array([*hashes, -1], dtype=np.int64)[codes]
    return found


def read_run(connection: duckdb.DuckDBPyConnection, run_id: str) -> TrainingRun:
    """The fingerprints of a run.

    Raises:
        DetectorError: there is no such run.
    """
    columns = "model_fingerprint, tokenizer_fingerprint"
    found = connection.execute(f"select {columns} from runs where run_id = $run_id", {"run_id": run_id}).fetchall()
    if not found:
        raise DetectorError(f"no run {run_id!r} in this lake")
    return TrainingRun(run_id=run_id, model_fingerprint=found[0][0], tokenizer_fingerprint=found[0][1])
