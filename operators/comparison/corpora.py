"""Which documents stand for a corpus: all of a run, those a condition holds for, or those of one value of a column.

    documents of the run -> those of the corpus -> a seeded draw of at most so many -> `Corpus`

The seed of a draw names the corpus, so the same documents are drawn whatever else is compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt

_COLUMNS = {"domain": "domain", "source": "source", "label": "label::varchar"}  # other names are attributes


@dataclass(frozen=True)
class Corpus:
    """The documents of one corpus, by ascending id. `total`: how many it has; `doc_ids` may be a draw from them."""

    name: str
    run_id: str
    doc_ids: npt.NDArray[np.int64]
    total: int

    def __len__(self) -> int:
        return self.doc_ids.size


def draw(name: str, run_id: str, doc_ids: npt.NDArray[np.int64], most: int, seed: int) -> Corpus:
    """A corpus of at most `most` of these documents, each as likely as any other."""
    ordered = np.sort(doc_ids)
    total = ordered.size
    if total > most:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        ordered = ordered[np.sort(rng.choice(total, most, replace=False))]
    return Corpus(name, run_id, ordered, total)


def by_column(
    connection: duckdb.DuckDBPyConnection, run_id: str, column: str
) -> tuple[dict[str, npt.NDArray[np.int64]], int]:
    """Documents of a run by their value of `domain`, `source`, `label` or a kept column, and how many have none."""
    value = _COLUMNS.get(column, "attributes[$column::varchar]")
    parameters = {"run_id": run_id} | ({"column": column} if column not in _COLUMNS else {})
    rows = connection.sql(
        f"select {value} as value, doc_id from documents where run_id = $run_id", params=parameters
    ).to_arrow_table()
    encoded = rows["value"].combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    order = np.argsort(codes, kind="stable")  # a column may have as many values as there are documents
    without = int((codes < 0).sum())
    names = [str(name) for name in encoded.dictionary.to_pylist()]
    parts = np.split(rows["doc_id"].to_numpy()[order], np.searchsorted(codes[order], np.arange(len(names))))
    return dict(sorted(zip(names, parts[1:], strict=True))), without


def kept_columns(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[str]:
    """The columns that documents of a run can be told apart by."""
    kept = connection.execute(
        "select distinct unnest(map_keys(attributes)) as name from documents where run_id = $run_id order by name",
        {"run_id": run_id},
    ).fetchall()
    return [*_COLUMNS, *(name for (name,) in kept)]


def ranges_of(corpora: Sequence[Corpus]) -> list[npt.NDArray[np.int64]]:
    """The places of each corpus's documents where all stand one behind the other."""
    ends = np.cumsum([len(corpus) for corpus in corpora])
    return [np.arange(end - len(corpus), end) for corpus, end in zip(corpora, ends, strict=True)]
