"""The lake as a layout: which object holds what, which parts count, and what a run has already done.

    <root>/runs/<run_id>.json
    <root>/documents/run_id=<run_id>/<part>.parquet      the receipt of the tokens part of the same name
    <root>/tokens/run_id=<run_id>/<part>.parquet         counts only when its receipt is there
    <root>/rejects/run_id=<run_id>/<part>.parquet
    <root>/scores/run_id=<run_id>/<part>.parquet         one object a family of scores, or a learned detector
    <root>/extractions/run_id=<run_id>/<part>.parquet    one object a context
    <root>/spans/run_id=<run_id>/<part>.parquet          one object a kind
    <root>/{domain_fit,vocabulary_fit}/run_id=<run_id>/<part>.parquet       one object each
    <root>/orders/<run_id>.parquet                       the shuffled benchmark that a run scored
    <root>/progress/run_id=<run_id>/<file>               the driver's own record of a run, for resuming it
    <root>/frequencies/corpus=<name>/<part>.parquet      one object a counted corpus
    <root>/overlap_items/overlap=<name>/<part>.parquet        and overlap_spans, decontamination: one object each
    <root>/overlap_items/overlap=<name>/job.json              what was compared with what: its receipt, written last
    <root>/overlap_items/overlap=<name>/rejects.parquet       records of either side that could not be read
    <root>/overlap_items/progress/overlap=<name>/...          the driver's record of one under way
    <root>/{mixtures,comparisons,...}/...                as `operators.results` names them
    <root>/nights/<name>/<date>.{json,html,md}           what each night of a nightly job was; lock/ beside them

A part is named by a digest of what it holds, so a retry overwrites its own objects and nothing else. Names that do not
fit the layout are never read, written or removed. One driver writes a run at a time: nothing here takes a lock.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_128, xxh3_128_hexdigest

from operators.storage import Storage, is_temporary
from schemas import (
    DOCUMENTS,
    EXTRACTIONS,
    FIT_TABLES,
    FREQUENCIES,
    OVERLAP_TABLES,
    REJECTS,
    SCORES,
    SPANS,
    TOKENS,
    check_run_id,
)
from schemas.frequencies import check_corpus
from schemas.overlaps import check_overlap

RUNS_FOLDER = "runs"
PROGRESS_FOLDER = "progress"
ORDERS_FOLDER = "orders"
NIGHTS_FOLDER = "nights"
PART_TABLES = (DOCUMENTS.name, TOKENS.name, REJECTS.name)  # what a run writes
MADE_TABLES = (
    SCORES.name,
    EXTRACTIONS.name,
    SPANS.name,
    *(t.name for t in FIT_TABLES),
)  # and what is made of it afterwards
TABLES_BY_RUN = (*PART_TABLES, *MADE_TABLES)

_PART_NAME = re.compile(r"[0-9a-f]{32}")
_PARTITION = "run_id="
_ID_RANGE = 1 << 63  # doc_ids are below
_READERS, _AHEAD = 32, 8  # columns in flight, and read ahead by each: an object store is mostly waiting for
_DELETERS, _DELETED_AHEAD = 32, 64  # objects being removed at once, and waiting for each of these
_BUCKETS, _IDS_A_WRITE = 1 << 8, 1 << 22  # ranges of doc_ids that do not fit into memory, ids sorted at once for them


def check_part_name(name: str) -> str:
    """Return `name` if it can be a part: 32 hexadecimal digits.

    Raises:
        ValueError: it cannot.
    """
    if not _PART_NAME.fullmatch(name):
        raise ValueError(f"part {name!r}: expected 32 hexadecimal digits")
    return name


def documents_part_name(doc_ids: npt.NDArray[np.int64]) -> str:
    """Name of the tokens and documents parts that hold these documents, in whatever order they are given."""
    return xxh3_128_hexdigest(np.sort(doc_ids).astype("<i8").tobytes())


def rejects_part_name(records: Iterable[tuple[str, int]]) -> str:
    """Name of the rejects part that holds these records, each a source and a row, in whatever order they are given."""
    digest = xxh3_128()
    for source, row in sorted(records):
        name = source.encode()
        # The length first: no two lists of records spell the same bytes.
        digest.update(struct.pack("<q", len(name)) + name + struct.pack("<q", row))
    return digest.hexdigest()


@dataclass(frozen=True, order=True)
class Part:
    """One Parquet object of the lake; `path` is relative to the lake's root."""

    table: str
    run_id: str
    name: str

    @property
    def path(self) -> str:
        return f"{run_folder(self.table, self.run_id)}/{check_part_name(self.name)}.parquet"


def run_folder(table: str, run_id: str) -> str:
    """Where the parts of one run lie, relative to the lake's root.

    Raises:
        ValueError: an unknown table, or a run id that cannot be a folder name.
    """
    if table not in TABLES_BY_RUN:
        raise ValueError(f"table {table!r} has no parts by run; those with parts are {', '.join(TABLES_BY_RUN)}")
    return f"{table}/{_PARTITION}{check_run_id(run_id)}"


def progress_folder(run_id: str) -> str:
    """Where the driver's record of a run lies, relative to the lake's root."""
    return f"{PROGRESS_FOLDER}/{_PARTITION}{check_run_id(run_id)}"


def frequencies_path(corpus: str) -> str:
    """Where the counts of a corpus lie, relative to the lake's root. Named by the corpus: a new count replaces the old
    one as a whole.

    Raises:
        ValueError: a name that cannot be a folder's.
    """
    part = xxh3_128_hexdigest(check_corpus(corpus).encode())
    return f"{FREQUENCIES.name}/corpus={corpus}/{part}.parquet"


def overlap_path(table: str, name: str) -> str:
    """Where one table of an overlap lies, relative to the lake's root; a new one replaces the old one as a whole.

    Raises:
        ValueError: not a table of overlaps, or a name that cannot be a folder's.
    """
    if table not in (known := [each.name for each in OVERLAP_TABLES]):
        raise ValueError(f"table {table!r} is not of overlaps; those are {', '.join(known)}")
    part = xxh3_128_hexdigest(check_overlap(name).encode())
    return f"{table}/overlap={name}/{part}.parquet"


def overlap_job_path(name: str) -> str:
    """Where it is kept what an overlap compared, relative to the lake's root."""
    return f"{OVERLAP_TABLES[0].name}/overlap={check_overlap(name)}/job.json"


def overlap_rejects_path(name: str) -> str:
    """Where the records lie that an overlap could not compare, relative to the lake's root; absent where all could."""
    return f"{OVERLAP_TABLES[0].name}/overlap={check_overlap(name)}/rejects.parquet"


def overlap_progress(name: str) -> str:
    """Where the record of an overlap under way lies, a lake in the lake, relative to the lake's root."""
    return f"{OVERLAP_TABLES[0].name}/{PROGRESS_FOLDER}/overlap={check_overlap(name)}"


def orders_path(run_id: str) -> str:
    """Where the orders of a benchmark lie that a run scored, relative to the lake's root."""
    return f"{ORDERS_FOLDER}/{check_run_id(run_id)}.parquet"


def ledger_path(run_id: str) -> str:
    """Where a run's ledger lies, relative to the lake's root."""
    return f"{RUNS_FOLDER}/{check_run_id(run_id)}.json"


@dataclass(frozen=True)
class Lake:
    """A lake at `root`: a local path (made absolute) or an fsspec URI, with the options of its file system.

    Cheap to make and to pickle; it holds no connection.
    """

    root: str
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.storage.root)

    @property
    def storage(self) -> Storage:
        return Storage(self.root, dict(self.storage_options or {}))

    def uri(self, part: Part) -> str:
        """The part as DuckDB or polars reads it: an absolute path or a URI."""
        return self.storage.uri(part.path)

    # Parts

    def parts(self, table: str, run_id: str | None = None) -> list[Part]:
        """The parts of a table, of one run or of all, sorted; tokens parts without a receipt included."""
        run_ids = self.partitions(table) if run_id is None else [run_id]
        return [Part(table, run, name) for run in run_ids for name in self._names(table, run)]

    def part_names(self, table: str, run_id: str) -> pa.Array:
        """The names of the parts of a run, sorted: strings in one Arrow array, for there may be millions."""
        return pa.array(self._names(table, run_id), pa.string())

    def readable_tokens(self, run_id: str | None = None) -> list[Part]:
        """The tokens parts that have a receipt: the only ones that count."""
        receipts = {(p.run_id, p.name) for p in self.parts(DOCUMENTS.name, run_id)}
        return [p for p in self.parts(TOKENS.name, run_id) if (p.run_id, p.name) in receipts]

    def partitions(self, table: str) -> list[str]:
        """The runs that have a folder in a table."""
        run_folder(table, "any")  # checks the table's name
        folders = (name[:-1] for name in self.storage.list(table) if name.endswith("/"))
        run_ids = (folder.removeprefix(_PARTITION) for folder in folders if folder.startswith(_PARTITION))
        return [run_id for run_id in run_ids if is_run_id(run_id)]

    def orphans(self, run_id: str) -> list[Part]:
        """Tokens parts without a receipt: left by a write that did not finish."""
        written = self.parts(TOKENS.name, run_id)  # listed first: a part whose receipt arrives meanwhile is none
        receipts = set(self._names(DOCUMENTS.name, run_id))
        return [part for part in written if part.name not in receipts]

    def temporaries(self, run_id: str) -> list[str]:
        """Unfinished local writes of a run, as paths relative to the lake's root."""
        ledgers = [n for n in self.storage.list(RUNS_FOLDER) if n.startswith(f".{check_run_id(run_id)}.json.")]
        found = [f"{RUNS_FOLDER}/{name}" for name in ledgers if is_temporary(name)]
        for folder in (*(run_folder(table, run_id) for table in TABLES_BY_RUN), progress_folder(run_id)):
            found += [f"{folder}/{name}" for name in self.storage.list(folder) if is_temporary(name)]
        orders, name = orders_path(run_id).rsplit("/", 1)
        found += [f"{orders}/{n}" for n in self.storage.list(orders) if n.startswith(f".{name}.") and is_temporary(n)]
        return found

    def drop_orphans(self, run_id: str) -> list[str]:
        """Remove what unfinished writes left; returns the paths removed. Call while nothing writes this run."""
        leftovers = [*self.temporaries(run_id), *(part.path for part in self.orphans(run_id))]
        self.delete(leftovers)
        return leftovers

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects, many at once; no error where one is gone. `paths` are relative to the lake's root.

        They go in no promised order, so one call holds nothing that must outlive the rest of it. Some thousands at a
        time: there may be millions, and after an error or Ctrl-C only what a thread has begun is still done.
        """
        waiting = iter(paths)
        with ThreadPoolExecutor(_DELETERS) as pool:
            while some := list(islice(waiting, _DELETERS * _DELETED_AHEAD)):
                deque(pool.map(self.storage.delete, some), maxlen=0)

    def _names(self, table: str, run_id: str) -> list[str]:
        names = self.storage.list(run_folder(table, run_id))
        stems = (name.removesuffix(".parquet") for name in names if name.endswith(".parquet"))
        return [stem for stem in stems if _PART_NAME.fullmatch(stem)]

    # Runs

    def run_ids(self) -> list[str]:
        """The runs that have a ledger, sorted."""
        names = self.storage.list(RUNS_FOLDER)
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(stem for stem in stems if is_run_id(stem))

    def read_run(self, run_id: str) -> dict[str, Any]:
        """The ledger of a run.

        Raises:
            FileNotFoundError: the lake has no such run.
            ValueError: the ledger is not a JSON object.
        """
        path = ledger_path(run_id)
        try:
            ledger = json.loads(self.storage.read(path))
        except FileNotFoundError:
            known = ", ".join(self.run_ids()) or "none"
            raise FileNotFoundError(f"{self.root} has no run {run_id!r}; its runs: {known}") from None
        except ValueError as error:
            raise ValueError(f"{self.storage.uri(path)} is not JSON: {error}") from error
        if not isinstance(ledger, dict):
            raise ValueError(f"{self.storage.uri(path)} holds {type(ledger).__name__}, expected a JSON object")
        return ledger

    def write_run(self, run_id: str, ledger: Mapping[str, Any]) -> None:
        """Write or replace the ledger of a run, whole. Keys are sorted, so equal ledgers are equal bytes.

        Raises:
            ValueError: the ledger holds NaN or an infinity, which JSON cannot.
        """
        text = json.dumps(ledger, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        self.storage.write(ledger_path(run_id), f"{text}\n".encode())

    def remove_run(self, run_id: str) -> None:
        """Remove a run: its scores and receipts first, the ledger last; removing nothing is no error.

        Killed half-way it leaves a run marked `interrupted` whose remaining rows are sound, never tokens without cause.
        Orders of a benchmark under its name stay: they are input, and what is made anew in its place reads them.
        """
        if run_id in self.run_ids():
            self._mark_interrupted(run_id)
        for table in (*MADE_TABLES, DOCUMENTS.name, REJECTS.name, TOKENS.name):
            self.delete(part.path for part in self.parts(table, run_id))
        self.drop_orphans(run_id)
        notes = self.storage.list(progress_folder(run_id))
        self.delete(f"{progress_folder(run_id)}/{name}" for name in notes if not name.endswith("/"))
        for folder in (*(run_folder(table, run_id) for table in TABLES_BY_RUN), progress_folder(run_id)):
            self.storage.delete_empty_folder(folder)
        self.storage.delete(ledger_path(run_id))

    def _mark_interrupted(self, run_id: str) -> None:
        try:
            ledger = self.read_run(run_id)
        except ValueError:
            return  # a broken ledger promises nothing
        self.write_run(run_id, {**ledger, "state": "interrupted"})

    # Documents across parts

    def repeated_documents(self, run_id: str, *, held_ids: int = 1 << 24) -> int:
        """Documents of a run whose doc_id an earlier one has too. Each part is read once.

        Up to `held_ids` ids are compared in memory; more go to the local disk by ranges, 8 bytes each, and are compared
        range by range. Ids are hashes, so ranges are of a size: a 256th of all is in memory at once.
        """
        held: list[npt.NDArray[np.int64]] = []
        total = 0
        ids_of_parts = self._doc_ids(self._names(DOCUMENTS.name, run_id), run_id)
        for ids in ids_of_parts:
            held.append(ids)
            total += ids.size
            if total > held_ids:
                return _repeats_by_range(held, ids_of_parts)
        return _repeats(held)

    def _doc_ids(self, names: list[str], run_id: str) -> Iterator[npt.NDArray[np.int64]]:
        def read(name: str) -> npt.NDArray[np.int64]:
            with self.storage.parquet(Part(DOCUMENTS.name, run_id, name).path) as file:
                ids: npt.NDArray[np.int64] = file.read(columns=["doc_id"])["doc_id"].to_numpy()
                return ids

        with ThreadPoolExecutor(_READERS) as pool:
            for chunk in range(0, len(names), _READERS * _AHEAD):
                yield from pool.map(read, names[chunk : chunk + _READERS * _AHEAD])


def _repeats_by_range(held: list[npt.NDArray[np.int64]], more: Iterable[npt.NDArray[np.int64]]) -> int:
    """`_repeats` of ids on the local disk: a file for each of `_BUCKETS` ranges."""
    shift = _ID_RANGE.bit_length() - 1 - (_BUCKETS.bit_length() - 1)
    with tempfile.TemporaryDirectory(prefix="assay-ids-") as folder:
        paths = [Path(folder) / str(bucket) for bucket in range(_BUCKETS)]
        waiting, n_waiting = held, 0
        for ids in more:
            waiting.append(ids)
            n_waiting += ids.size
            if n_waiting >= _IDS_A_WRITE:
                _append_by_range(waiting, paths, shift)
                waiting, n_waiting = [], 0
        _append_by_range(waiting, paths, shift)
        return sum(_repeats([np.fromfile(path, np.int64)]) for path in paths if path.exists())


def _append_by_range(ids: list[npt.NDArray[np.int64]], paths: list[Path], shift: int) -> None:
    every = np.sort(np.concatenate([*ids, np.zeros(0, np.int64)]))
    starts = np.searchsorted(every >> shift, np.arange(len(paths) + 1))
    for path, start, end in zip(paths, starts[:-1], starts[1:], strict=True):
        if end > start:
            with path.open("ab") as file:
                every[start:end].tofile(file)


def _repeats(ids: list[npt.NDArray[np.int64]]) -> int:
    every = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    return int(every.size - np.unique(every).size)


def is_run_id(name: str) -> bool:
    """Whether a run can be called so."""
    try:
        check_run_id(name)
    except ValueError:
        return False
    return True
