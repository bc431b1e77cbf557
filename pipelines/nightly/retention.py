"""Which runs of earlier nights leave the lake: those that nobody needs, as far as the job says what is needed.

Only runs that a summary of this very nightly job names are ever taken, whole, receipts first (`Lake.remove_run`).
Summaries, measures and lists of shards stay: what a night found can be read as long as the lake is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from operators.lake import Lake
from pipelines.nightly.book import Book
from pipelines.nightly.night import GONE, REMOVED, night_id
from pipelines.nightly.options import Retention
from pipelines.nightly.shards import Known

_READERS = 16  # of ledgers: an object store is mostly waiting for


def removable(policy: Retention | None, book: Book, day: date, shards: Iterable[Known]) -> tuple[str, ...]:
    """The runs that go after the night of `day`, whose list is `shards`; oldest first."""
    if policy is None:
        return ()
    dates = sorted({*book.good(), day})
    runs = set(book.lake.run_ids())
    needed = {known.run_id for known in shards if _is_needed(policy, known)}
    older = [each for each in dates[: -policy.nights] if each != day and night_id(book.name, each) in runs]
    asked_for = [each for each in older if night_id(book.name, each) not in needed]
    own = [run for each in asked_for if (run := book.night(each).run_id) is not None and run in runs]
    return tuple(_without_bases(book.lake, own, runs)) if own else ()


def _is_needed(policy: Retention, known: Known) -> bool:
    if policy.current:
        return False
    return not (policy.gone and known.state in (REMOVED, GONE))


def _without_bases(lake: Lake, candidates: Sequence[str], runs: Iterable[str]) -> list[str]:
    """Candidates that no other run was made from: a transformed run can be neither resumed nor joined without.

    None, where a run does not say what it was made from.
    """
    staying = sorted(set(runs) - set(candidates))
    try:
        with ThreadPoolExecutor(_READERS) as pool:
            configs = [ledger.get("config") for ledger in pool.map(lake.read_run, staying)]
    except (ValueError, FileNotFoundError):  # broken, or removed by somebody meanwhile
        return []
    bases = {config.get("base_run") for config in configs if isinstance(config, dict)}
    return [run for run in candidates if run not in bases]


def remove(lake: Lake, runs: Iterable[str]) -> list[str]:
    """Remove the runs that are still there; which these were. Killed half-way, the same call goes on."""
    there = set(lake.run_ids())
    gone = [run for run in runs if run in there]
    for run in gone:
        lake.remove_run(run)
    return gone
