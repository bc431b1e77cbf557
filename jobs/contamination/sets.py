"""Which documents are the items of a benchmark, and which the clean set that they are compared with.

--clean RUN            items: all of the benchmark's run; clean: all of RUN, by the same model
--clean-where SQL      items: those of the benchmark's run where it does not hold; clean: where it does
neither                no clean set

Tests take documents as independent, and those of one text are not: of each text a set is tested on one document, and on
none where an item and a clean document of one run have it. What a corpus holds is counted over all items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from jobs.conditions import documents_where
from jobs.contamination.request import ContaminationOptions
from operators.evaluation.documents import Documents
from pipelines.config import ConfigError

Ids = npt.NDArray[np.int64]
Chosen = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Set:
    """Documents of `run_id`: `ids` of all, ascending, and of those that are tested, no two of one text."""

    run_id: str
    ids: Ids
    tested: Documents

    @property
    def n_untested(self) -> int:
        return int(self.ids.size) - len(self.tested)


@dataclass(frozen=True)
class Sets:
    """A benchmark's items, `n_documents` of its run, and its clean set."""

    items: Set
    n_documents: int
    clean: Set | None

    @property
    def benchmark(self) -> str:
        return self.items.run_id

    @property
    def own_clean(self) -> Set | None:
        """The clean set, where it is a part of the benchmark's own run."""
        return self.clean if self.clean is not None and self.clean.run_id == self.benchmark else None

    def notes(self) -> Iterator[str]:
        """What is not tested, as it repeats a text."""
        for some, what in ((self.items, "items"), (self.clean, "clean documents")):
            if some is not None and some.n_untested:
                yield (
                    f"note: {some.n_untested:,} {what} of {some.run_id} repeat a text: the tests take a text once, and "
                    "none that is an item and declared clean"
                )


def read_sets(connection: duckdb.DuckDBPyConnection, options: ContaminationOptions, benchmark: str) -> Sets:
    """The sets of one benchmark.

    Raises:
        ConfigError: no items, no clean ones, or a document of the clean run has the text of an item.
        QueryError: DuckDB refused the condition or failed on it.
    """
    own = _Texts.read(connection, benchmark)
    every = np.ones(own.ids.size, dtype=bool)
    if options.clean_where is not None:
        clean_ones = documents_where(
            options.lake, benchmark, options.clean_where, "--clean-where", options.storage_options
        )
        is_clean = np.isin(own.ids, clean_ones.doc_ids)
        both = np.intersect1d(own.codes[is_clean], own.codes[~is_clean])
        items, clean = own.chosen(~is_clean, both), own.chosen(is_clean, both)
        return _checked(Sets(items, own.ids.size, clean), f"--clean-where {options.clean_where!r}")
    if options.clean is None:
        return _checked(Sets(own.chosen(every), own.ids.size, None), "")
    others = _Texts.read(connection, options.clean)
    shared = _in_both(connection, benchmark, options.clean)
    if shared:
        raise ConfigError(
            f"--clean {options.clean}: {shared:,} of its documents have the text of items of {benchmark}; name a run "
            "without"
        )
    clean = others.chosen(np.ones(others.ids.size, dtype=bool))
    return _checked(Sets(own.chosen(every), own.ids.size, clean), f"--clean {options.clean}")


@dataclass(frozen=True)
class _Texts:
    """All documents of a run, by ascending id: their lengths [N], and a number for each text [N]."""

    run_id: str
    ids: Ids
    n_bytes: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int32]

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection, run_id: str) -> _Texts:
        sql = "select doc_id, n_bytes::double as n_bytes, text_sha256 from documents where run_id = $run_id order by 1"
        rows = connection.sql(sql, params={"run_id": run_id}).to_arrow_table().combine_chunks()
        encoded = pc.dictionary_encode(rows["text_sha256"]).combine_chunks()
        codes = encoded.indices.to_numpy() if rows.num_rows else np.zeros(0, dtype=np.int32)
        return cls(run_id, rows["doc_id"].to_numpy(), rows["n_bytes"].to_numpy(), codes)

    def chosen(self, which: Chosen, but: npt.NDArray[np.int32] | None = None) -> Set:
        """Some of the documents; texts in `but` are not tested."""
        places = np.flatnonzero(which)
        _, firsts = np.unique(self.codes[places], return_index=True)
        places = places[np.sort(firsts)]
        if but is not None:
            places = places[~np.isin(self.codes[places], but)]
        tested = Documents(self.ids[places], np.full(places.size, np.nan), self.n_bytes[places])
        return Set(self.run_id, self.ids[which], tested)


def _checked(sets: Sets, flag: str) -> Sets:
    if not sets.items.ids.size:
        why = f"{flag} holds for all of its documents" if flag and sets.n_documents else "it has no documents"
        raise ConfigError(f"run {sets.benchmark} has no item to judge: {why}")
    if sets.clean is not None and not sets.clean.ids.size:
        raise ConfigError(f"{flag}: run {sets.clean.run_id} has no such document")
    return sets


def _in_both(connection: duckdb.DuckDBPyConnection, benchmark: str, clean: str) -> int:
    """Documents of the clean run that have the text of an item, whatever they are called."""
    sql = """
        select count(*)
        from documents
        where run_id = $clean and text_sha256 in (select text_sha256 from documents where run_id = $benchmark)
    """
    ((count,),) = connection.execute(sql, {"benchmark": benchmark, "clean": clean}).fetchall()
    return int(count)
