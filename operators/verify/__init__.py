"""Checks a lake against everything it promises, and changes nothing. An empty list of faults means sound.

    run -> ledger, layout -> each documents part -> its tokens part -> rejects -> ids and records across parts -> totals
        -> scores, windows, spans and fits of the run as it is now, orders that it scored; and of the lake: names that
        belong to no run, counts of corpora, overlaps, results that have a name, nights

Reads every byte once, one part at a time (tokens by row group), with Parquet's page checksums on. What must be unique
across parts is compared in passes over ranges of hashes, so memory stays bounded however many documents a run has; the
price is one more read of those columns for every 16 million rows. `repair` alone removes something: what unfinished
writes left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from operators.lake import RUNS_FOLDER, Lake, Part
from operators.storage.object_error import ObjectError
from operators.verify.documents import document_faults
from operators.verify.faults import BROKEN, Fault, Kind
from operators.verify.fits import fit_faults
from operators.verify.frequencies import frequency_faults
from operators.verify.layout import Expected, all_run_ids, layout_faults, ledger_findings, lost_faults
from operators.verify.leftovers import Repair, repair
from operators.verify.memorization import memorization_faults
from operators.verify.nights import night_faults
from operators.verify.orders import lost_order_faults, order_faults
from operators.verify.overlaps import overlap_faults
from operators.verify.records import repeated_documents, repeated_records
from operators.verify.rejects import reject_faults
from operators.verify.results import result_faults
from operators.verify.scores import score_faults
from schemas import DOCUMENTS, REJECTS, check_run_id

__all__ = ["Fault", "Kind", "Repair", "repair", "verify"]


def verify(lake: Lake, run_id: str | None = None) -> list[Fault]:
    """Every fault of one run, or of all runs and of the layout.

    On a run that is being written, its unfinished parts are reported as orphans or temporary files.

    Raises:
        ValueError: `run_id` cannot be a run id.
        OSError: the storage could not be listed, or a part that was sound is gone before it is compared with others.
    """
    if run_id is not None:
        return list(_run_faults(lake, check_run_id(run_id)))
    run_ids = all_run_ids(lake)
    faults = [*lost_faults(lake, run_ids), *lost_order_faults(lake, run_ids)]
    for each in run_ids:
        faults += _run_faults(lake, each)
    return [*faults, *frequency_faults(lake), *overlap_faults(lake), *result_faults(lake), *night_faults(lake)]


def _run_faults(lake: Lake, run_id: str) -> Iterator[Fault]:
    ledger: dict[str, Any] = {}
    where = f"{RUNS_FOLDER}/{run_id}.json"
    try:
        ledger = lake.read_run(run_id)
    except ObjectError:
        raise
    except BROKEN as error:
        yield Fault(Kind.LEDGER, run_id, where, str(error))
    try:
        yield from layout_faults(lake, run_id)
    except ValueError as error:  # a folder that leads out of the lake: nothing in it is read
        yield Fault(Kind.FOREIGN, run_id, f"run_id={run_id}", str(error))
        return
    totals: Counter[str] = Counter()
    expected = Expected.of(ledger)
    readable: list[Part] = []
    for part in lake.parts(DOCUMENTS.name, run_id):
        yield from document_faults(lake, part, expected, totals, readable)
    yield from repeated_documents(lake, run_id, readable, totals["documents"])
    for part in lake.parts(REJECTS.name, run_id):
        yield from reject_faults(lake, part, totals, readable)
    yield from repeated_records(lake, run_id, readable, totals["documents"] + totals["rejects"])
    yield from (Fault(kind, run_id, where, message) for kind, message in ledger_findings(ledger, run_id, totals))
    yield from score_faults(lake, run_id)
    yield from memorization_faults(lake, run_id)
    yield from fit_faults(lake, run_id)
    yield from order_faults(lake, run_id, ledger)
