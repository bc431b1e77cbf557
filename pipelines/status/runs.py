"""How the runs of a lake stand, from the lake alone: ledgers, journals and listings. No part is opened.

ledger ---> state, last attempt, totals of a finished run
journal --> documents, tokens, rejects by reason, units done, pace     (the driver adds to it every 5 seconds)
listing --> when the last receipt came, and how many the journal does not name yet
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from operators.lake import Lake, progress_folder
from operators.storage.remote import redact
from pipelines.journal import Journal
from pipelines.status.alive import Signs, moments
from pipelines.status.ledger import Ledger
from pipelines.status.left import left_of
from schemas import DOCUMENTS

READERS = 16  # ledgers in flight
LATELY = 300.0  # seconds
OPEN_STATES = ("running", "silent")


@dataclass(frozen=True)
class RunStatus:
    """How a run stands. Rates in tokens a second, times in seconds, moments in UTC; None where that is not known.

    `state`: of the ledger, or `silent` or `broken`. `share`: of the parts of the input, 0 to 1. `seconds`: of all
    attempts, of one that was killed until its last block. `tokens_per_second`: of a finished run over these, of others
    in the last attempt. `unjournaled`: receipts that the journal does not name; their rows are in none of the counts.
    """

    run_id: str
    state: str
    created_at: str | None = None
    finished_at: str | None = None
    seconds: float | None = None
    documents: int | None = None
    tokens: int | None = None
    rejects: int | None = None
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
        ledger = Ledger.read(lake, run_id)
    except ValueError as error:
        return RunStatus(run_id, "broken", error=redact(f"its ledger cannot be read: {error}"))
    if ledger.state == "finished":
        return _finished(run_id, ledger, _reasons(_journal(lake, run_id)) if detailed else {})
    return _unfinished(lake, run_id, ledger, _journal(lake, run_id), now)


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


def _finished(run_id: str, ledger: Ledger, reasons: dict[str, int]) -> RunStatus:
    totals, seconds = ledger.totals, ledger.seconds
    return RunStatus(
        run_id=run_id,
        state=ledger.state,
        created_at=_said(ledger.created_at),
        finished_at=_said(ledger.finished_at),
        seconds=seconds,
        documents=totals.documents,
        tokens=totals.tokens,
        rejects=totals.rejects,
        reasons=reasons,
        units_done=ledger.survey.units,
        units=ledger.survey.units,
        share=1.0,
        tokens_per_second=totals.tokens / seconds if seconds else None,
        config=_config(ledger),
    )


def _unfinished(lake: Lake, run_id: str, ledger: Ledger, rows: pa.Table, now: float) -> RunStatus:
    signs = Signs.of(lake, run_id, rows, ledger.started)
    left = left_of(lake, run_id, ledger, rows)
    state, judged = str(ledger.state), None
    if ledger.state == "running":
        state, judged = signs.judged(now, is_closing=left.units is not None and left.units_done == left.units)
    overall, lately = _rates(rows, signs)
    return RunStatus(
        run_id=run_id,
        state=state,
        created_at=_said(ledger.created_at),
        seconds=(ledger.seconds or 0.0) + (signs.seconds if ledger.state == "running" else 0.0),
        documents=_total(rows, "documents"),
        tokens=_total(rows, "tokens"),
        rejects=_total(rows, "rejects"),
        reasons=_reasons(rows),
        units_done=left.units_done,
        units=left.units,
        share=left.share,
        tokens_per_second=overall,
        tokens_per_second_lately=lately,
        seconds_left=left.seconds,
        left_by=left.basis,
        last_write=None if signs.last is None else _said(datetime.fromtimestamp(signs.last, UTC)),
        last_write_age=signs.age(now),
        usual_gap=signs.usual_gap,
        judged=judged,
        unjournaled=signs.unjournaled,
        error=None if ledger.error is None else redact(str(ledger.error)),
        config=_config(ledger),
    )


def _total(rows: pa.Table, name: str) -> int:
    return pc.sum(rows[name]).as_py() or 0


def _reasons(rows: pa.Table) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for count in pc.value_counts(pc.drop_null(rows["reasons"])).to_pylist():  # few texts, however many blocks
        for reason, n in json.loads(count["values"]).items():
            counted[reason] += n * count["counts"]
    return dict(counted.most_common())


def _rates(rows: pa.Table, signs: Signs) -> tuple[float | None, float | None]:
    """Tokens a second of the last attempt, and in the last minutes of it that there were blocks. Not over all attempts:
    what is left goes at the pace of this one's workers."""
    blocks = signs.blocks
    if not blocks.size:
        return None, None
    at, tokens = moments(rows["at"]), rows["tokens"].to_numpy()

    def since(moment: float) -> float | None:
        seconds = blocks[-1] - moment
        return float(tokens[(at > moment) & (at >= blocks[0])].sum() / seconds) if seconds > 0 else None

    return None if signs.started is None else since(signs.started), since(max(blocks[-1] - LATELY, blocks[0]))


def _said(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _config(ledger: Ledger) -> dict[str, Any]:
    return ledger.config.model_dump(mode="json", exclude_unset=True)
