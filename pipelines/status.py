"""How the runs of a lake stand, from the lake alone: ledgers, journals and listings. No part is opened.

    ledger ---> state, last attempt, totals of a finished run
    journal --> documents, tokens, rejects by reason, units done, pace     (the driver adds to it every 5 seconds)
    listing --> when the last receipt came, and how many the journal does not name yet

Nobody can see from here whether a driver is alive. Where the ledger says `running`, the age of the last write is held
against the usual gap between blocks; `silent` is said of a run that wrote nothing for many of those, never `dead`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from operators.lake import Lake, progress_folder, run_folder
from operators.storage.listing import modified_at
from operators.storage.remote import redact
from pipelines.journal import FLUSH_SECONDS, Journal
from pipelines.status_ledger import Ledger
from pipelines.status_left import left_of
from schemas import DOCUMENTS

READERS = 16  # ledgers in flight
QUIET_GAPS = 10  # usual gaps between blocks without a write, and a run is silent
LEAST_QUIET, STARTING_QUIET = 120.0, 900.0  # seconds: with blocks; before the first, where models load and ids compare
LATELY = 300.0  # seconds
MOST_LISTED = 200_000  # blocks: of larger runs receipts are not listed, the journal alone counts
OPEN_STATES = ("running", "silent")


@dataclass(frozen=True)
class RunStatus:
    """How a run stands. Rates in tokens a second, times in seconds, moments in UTC; None where that is not known.

    `state`: of the ledger, or `silent` or `broken`. `share`: of the parts of the input, 0 to 1. `unjournaled`: receipts
    that the journal does not name; their rows are in none of the counts.
    """

    run_id: str
    state: str
    created_at: str | None = None
    finished_at: str | None = None
    seconds: float | None = None
    documents: int = 0
    tokens: int = 0
    rejects: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    units_done: int | None = None
    units: int | None = None
    share: float | None = None
    tokens_per_second: float | None = None
    tokens_per_second_lately: float | None = None
    seconds_left: float | None = None
    left_by: str | None = None
    last_write: str | None = None
    last_write_age: float | None = None
    usual_gap: float | None = None
    judged: str | None = None
    unjournaled: int | None = None
    error: str | None = None
    config: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_open(self) -> bool:
        """Whether it may still change by itself."""
        return self.state in OPEN_STATES

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: value for name, value in asdict(self).items() if name != "config"}


def run_statuses(lake: Lake, run_ids: Iterable[str], now: float, *, detailed: bool = False) -> list[RunStatus]:
    """How runs stand at `now` (seconds since 1970), in the order given. `detailed`: reasons of finished ones, too. A
    run that is removed meanwhile is left out."""

    def look(run_id: str) -> RunStatus | None:
        try:
            return run_status(lake, run_id, now, detailed=detailed)
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(READERS) as pool:
        return [status for status in pool.map(look, run_ids) if status is not None]


def without_ledger(lake: Lake) -> list[RunStatus]:
    """The runs that have parts in the lake and no ledger, which is written before them."""
    lost = sorted(set(lake.partitions(DOCUMENTS.name)) - set(lake.run_ids()))
    return [RunStatus(run_id, "broken", error="it has parts in the lake, and no ledger") for run_id in lost]


def run_status(lake: Lake, run_id: str, now: float, *, detailed: bool = False) -> RunStatus:
    """How one run stands.

    Raises:
        FileNotFoundError: the lake has no such run. OSError: the storage failed.
    """
    try:
        ledger = lake.read_run(run_id)
        state = Ledger.model_validate(ledger).state
    except (ValueError, RecursionError) as error:
        return RunStatus(run_id, "broken", error=redact(f"its ledger cannot be read: {_first_fault(error)}"))
    if state == "finished" and not detailed:
        return _finished(run_id, ledger)
    rows = _journal(lake, run_id)
    if state == "finished":
        return _finished(run_id, ledger, reasons=_reasons(rows))
    return _unfinished(lake, run_id, ledger, rows, now)


def _first_fault(error: ValueError | RecursionError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


def _journal(lake: Lake, run_id: str) -> pa.Table:
    """The blocks of the journal, read again where the driver put segments together meanwhile."""
    before = lake.storage.list(progress_folder(run_id))
    for _ in range(3):
        rows = Journal.open(lake, run_id).rows()
        after = lake.storage.list(progress_folder(run_id))
        if set(before) <= set(after):
            break
        before = after
    return rows


def _finished(run_id: str, ledger: dict[str, Any], reasons: dict[str, int] | None = None) -> RunStatus:
    totals, units = ledger.get("totals") or {}, (ledger.get("survey") or {}).get("units")
    seconds, tokens = ledger.get("seconds"), int(totals.get("tokens", 0))
    return RunStatus(
        run_id,
        "finished",
        ledger.get("created_at"),
        ledger.get("finished_at"),
        seconds,
        int(totals.get("documents", 0)),
        tokens,
        int(totals.get("rejects", 0)),
        reasons or {},
        units,
        units,
        1.0,
        tokens / seconds if seconds else None,
        config=ledger.get("config") or {},
    )


def _unfinished(lake: Lake, run_id: str, ledger: dict[str, Any], rows: pa.Table, now: float) -> RunStatus:
    started = _seconds((ledger.get("attempt") or {}).get("started_at") or ledger.get("created_at"))
    at = pc.drop_null(rows["at"]).cast(pa.int64()).to_numpy() / 1e3
    attempt = np.sort(at[at >= started]) if started is not None else np.sort(at)
    unjournaled, newest_receipt = _receipts(lake, run_id, rows)
    signs = [t for t in (started, float(at.max()) if at.size else None, newest_receipt) if t is not None]
    last = max(signs, default=None)
    gap = _usual_gap(attempt, started)
    age = None if last is None else max(0.0, now - last)
    state, judged = _judged(str(ledger["state"]), age, gap)
    tokens = pc.sum(rows["tokens"]).as_py() or 0
    earlier = float(ledger.get("seconds") or 0.0)
    this = max(0.0, (last or 0.0) - started) if ledger["state"] == "running" and started is not None else 0.0
    left = left_of(lake, run_id, ledger, rows, started)
    return RunStatus(
        run_id,
        state,
        ledger.get("created_at"),
        None,
        earlier + this,
        pc.sum(rows["documents"]).as_py() or 0,
        tokens,
        pc.sum(rows["rejects"]).as_py() or 0,
        _reasons(rows),
        left.units_done,
        left.units,
        left.share,
        tokens / (earlier + this) if earlier + this > 0 else None,
        _lately(rows, attempt),
        left.seconds,
        left.basis,
        None if last is None else datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds"),
        age,
        gap,
        judged,
        unjournaled,
        None if ledger.get("error") is None else redact(str(ledger["error"])),
        ledger.get("config") or {},
    )


def _judged(state: str, age: float | None, gap: float | None) -> tuple[str, str | None]:
    """Whether a run that is said to be running is silent, and how that was judged."""
    if state != "running" or age is None:
        return state, None
    if gap is None:
        limit, usual = STARTING_QUIET, "no block of this attempt has come yet: models load, ids are compared"
    else:
        limit, usual = max(LEAST_QUIET, QUIET_GAPS * gap), f"writes usually come {gap:.0f} s apart"
    said = f"last write {age:.0f} s ago; {usual}; silent from {limit:.0f} s on"
    return ("silent" if age > limit else "running"), said


def _usual_gap(attempt: np.ndarray, started: float | None) -> float | None:
    """Between writes of the last attempt: what nineteen of twenty gaps between blocks stay below, or the journal's."""
    if not attempt.size:
        return None
    moments = attempt if started is None else np.concatenate([[started], attempt])
    gaps = np.diff(moments)[-1000:]
    return float(max(FLUSH_SECONDS, np.quantile(gaps, 0.95))) if gaps.size else None


def _receipts(lake: Lake, run_id: str, rows: pa.Table) -> tuple[int | None, float | None]:
    """How many receipts the journal does not name, and when the newest came, by the storage's clock."""
    if len(rows) > MOST_LISTED:
        return None, None
    found = lake.storage.find(run_folder(DOCUMENTS.name, run_id))
    parts = {path.rsplit("/", 1)[-1].removesuffix(".parquet"): info for path, info in found.items()}
    named = set(pc.drop_null(rows["part"]).to_pylist())
    times = [time for info in parts.values() if (time := modified_at(info)) is not None]
    return sum(name not in named for name in parts if len(name) == 32), max(times, default=None)


def _reasons(rows: pa.Table) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for count in pc.value_counts(pc.drop_null(rows["reasons"])).to_pylist():  # few texts, however many blocks
        for reason, n in json.loads(count["values"]).items():
            counted[reason] += n * count["counts"]
    return dict(counted.most_common())


def _lately(rows: pa.Table, attempt: np.ndarray) -> float | None:
    """Tokens a second in the last minutes that there were blocks."""
    if attempt.size < 2:
        return None
    at, tokens = pc.fill_null(rows["at"].cast(pa.int64()), 0).to_numpy() / 1e3, rows["tokens"].to_numpy()
    since = max(attempt[-1] - LATELY, attempt[0])
    within = (at > since) & (at >= attempt[0])
    seconds = attempt[-1] - since
    return float(tokens[within].sum() / seconds) if seconds > 0 else None


def _seconds(moment: Any) -> float | None:
    """A moment of a ledger in seconds since 1970; None where it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
