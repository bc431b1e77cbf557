"""Checks the counts of corpora: names, schema, and that every vocabulary id is there once, in order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from operators.lake import Lake, frequencies_path
from operators.storage import is_temporary
from operators.verify.faults import Fault, Finding, Kind, placed_at
from operators.verify.stored import table_findings
from schemas import FREQUENCIES
from schemas.frequencies import check_corpus

_PARTITION = "corpus="


def frequency_faults(lake: Lake) -> Iterator[Fault]:
    """Faults of everything in the folder of counted corpora; they belong to no run."""
    for name in lake.storage.list(FREQUENCIES.name):
        where = f"{FREQUENCIES.name}/{name.removesuffix('/')}"
        if name == "progress/":
            message = "left by a count that did not finish: `assay frequencies` clears it"
            yield Fault(Kind.TEMPORARY, "", where, message)
        elif not (name.endswith("/") and _is_corpus(name[:-1])):
            yield Fault(Kind.FOREIGN, "", where, "not part of a lake's layout")
        else:
            yield from _corpus_faults(lake, name[:-1].removeprefix(_PARTITION))


def _is_corpus(folder: str) -> bool:
    try:
        check_corpus(folder.removeprefix(_PARTITION))
    except ValueError:
        return False
    return folder.startswith(_PARTITION)


def _corpus_faults(lake: Lake, corpus: str) -> Iterator[Fault]:
    expected = frequencies_path(corpus)
    folder = expected.rsplit("/", 1)[0]
    for name in lake.storage.list(folder):
        path = f"{folder}/{name}"
        if is_temporary(name):
            yield Fault(Kind.TEMPORARY, "", path, "left by a write that did not finish")
        elif path != expected:
            yield Fault(Kind.FOREIGN, "", path, "not the counts of this corpus, which have a name of their own")
        else:
            yield from placed_at(lake, path, _findings(lake, path))


def _findings(lake: Lake, path: str) -> Iterator[Finding]:
    tables: list[pa.Table] = []
    yield from table_findings(lake, FREQUENCIES, path, lambda _: (), tables)
    for rows in tables:
        yield from _row_findings(rows)


def _row_findings(rows: pa.Table) -> Iterator[Finding]:
    if not np.array_equal(rows["token_id"].to_numpy(), np.arange(rows.num_rows)):
        yield Kind.ORDER, "token ids are not 0, 1, 2, ..., each once"
    if np.any(rows["n_documents"].to_numpy() > rows["n"].to_numpy()):
        yield Kind.COUNT, "an id is in more documents than it occurs"
    if len(rows["tokenizer_fingerprint"].unique()) > 1:
        yield Kind.VALUE, "counts of more than one tokenizer"
