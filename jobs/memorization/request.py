"""What `assay memorization` is asked for: its flags, read and checked against what the lake has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from operators.lake import Lake
from operators.memorization.search import Search
from operators.memorization.windows_runs import WINDOWS, WindowsRun, one_for_each_offset
from operators.scores.variants import did_you_mean
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

DOMAIN, COPIES = "domain", "copies"


@dataclass(frozen=True)
class MemorizationOptions:
    """What is asked for, as the flags of `assay memorization` say it.

    `windows_runs`: none for all that fit. `group_by`: `domain` or kept columns; none for the domain, where there is
    one. `copies_column`: None for the kept column `copies`, where there is one. `canaries`: the column that a canary
    shares with its candidates; None for no exposure. `samples` and `chances`: the n and p of (n, p)-extraction.
    """

    lake: str
    run_id: str
    search: Search = field(default_factory=Search)
    windows_runs: Sequence[str] = ()
    group_by: Sequence[str] = ()
    copies_column: str | None = None
    canaries: str | None = None
    samples: Sequence[int] = (1, 10, 100, 1000)
    chances: Sequence[float] = (0.5,)
    limit: int = 20
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)


def parse_search(**values: Any) -> Search:
    """What is searched for.

    Raises:
        ConfigError: what no search can be.
    """
    try:
        return Search(**values)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_samples(text: str) -> tuple[int, ...]:
    """Numbers of samples, ascending.

    Raises:
        ConfigError: anything but whole numbers of 1 or more, with commas.
    """
    items = [item.strip() for item in text.split(",")]
    if not all(item.isascii() and item.isdigit() and 0 < int(item) < 1 << 53 for item in items):
        raise ConfigError(f"--n {text!r}: expected whole numbers of 1 or more with commas, as in 1,10,100")
    return tuple(sorted({int(item) for item in items}))


def parse_chances(text: str) -> tuple[float, ...]:
    """Probabilities, ascending.

    Raises:
        ConfigError: anything but numbers between 0 and 1, with commas.
    """
    try:
        chances = tuple(sorted({float(item) for item in text.split(",")}))
    except ValueError:
        chances = (math.nan,)
    if not all(0 < chance < 1 for chance in chances):
        raise ConfigError(f"--p {text!r}: expected numbers between 0 and 1 with commas, as in 0.1,0.5,0.9")
    return chances


# What is asked for, against what is there


def check_name(lake: Lake, run_id: str) -> None:
    """Raise a clear error where the lake has no run of this name.

    Raises:
        ConfigError: it has none.
    """
    known = lake.run_ids()
    if run_id not in known:
        near = did_you_mean(run_id, known) or f": it holds {', '.join(known) or 'none'}"
        raise ConfigError(f"no run {run_id!r} in {lake.root}{near}")


def check_context(run_id: str, ledger: Mapping[str, Any]) -> None:
    """Raise where a run's tokens do not see their document: strict windows are a part of their base run's report.

    Raises:
        ConfigError: it is a run of strict windows.
    """
    config = ledger.get("config")
    settings = config if isinstance(config, dict) else {}
    if str(settings.get("transform")).partition(":")[0] == WINDOWS:
        base = settings.get("base_run")
        raise ConfigError(f"--run-id {run_id}: it holds strict windows of run {base}; name that, they are used with it")


def group_columns(connection: duckdb.DuckDBPyConnection, options: MemorizationOptions) -> list[str]:
    """The columns to group by: those asked for, and by themselves the domain and the copies where the run has them.

    Raises:
        ConfigError: no document of the run has such a column.
    """
    run = {"run_id": options.run_id}
    ((has_domain,),) = connection.execute(
        "select coalesce(bool_or(domain is not null), false) from documents where run_id = $run_id", run
    ).fetchall()
    kept = connection.execute(
        "select distinct unnest(map_keys(attributes)) as name from documents where run_id = $run_id order by name", run
    ).fetchall()
    known = [DOMAIN] * has_domain + [name for (name,) in kept]
    asked = {
        "--group-by": options.group_by,
        "--copies-column": [options.copies_column],
        "--canaries": [options.canaries],
    }
    faults = [
        f"{flag}: documents of run {options.run_id} have no column {name!r}{did_you_mean(name, known)}; they have "
        f"{', '.join(known) or 'none: --keep-columns keeps them when a corpus is scored'}"
        for flag, names in asked.items()
        for name in names
        if name is not None and name not in known
    ]
    if faults:
        raise ConfigError("; ".join(faults))
    grouped = list(options.group_by) or [DOMAIN] * has_domain
    copies = options.copies_column or (COPIES if COPIES in known else None)
    return list(dict.fromkeys([*grouped, *([copies] if copies else [])]))


def strict_runs(lake: Lake, options: MemorizationOptions, every: Sequence[WindowsRun]) -> list[WindowsRun]:
    """The runs of strict windows to use: those named, else one for each place where windows may begin.

    Raises:
        ConfigError: a run that is named is none of this run's, or cannot be used.
    """
    if not options.windows_runs:
        return one_for_each_offset(every, options.search)
    by_name = {run.run_id: run for run in every}
    faults = []
    for name in options.windows_runs:
        check_name(lake, name)
        if name not in by_name:
            faults.append(f"--windows-run {name}: it is no run of strict windows of {options.run_id}")
        elif fault := by_name[name].fault(options.search):
            faults.append(f"--windows-run {name}: {fault}")
    chosen = [by_name[name] for name in dict.fromkeys(options.windows_runs) if name in by_name]
    offsets = [run.offset % options.search.suffix for run in chosen]
    if len(set(offsets)) < len(offsets):
        faults.append("--windows-run: two of the runs have the same windows; name one of them")
    if faults:
        raise ConfigError("; ".join(faults))
    return chosen
