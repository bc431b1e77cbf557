"""What `assay mixture correlate` takes from a lake: bits per byte of runs by domain, and of which states of them.

rows of `domain_fit` --> cells (model, domain), models are runs
its files, the runs  --> the state of each run; a fit of an earlier one is refused
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.mixture.correlate_request import Cells
from jobs.mixture.reweight_output import named
from operators.lake import Lake, Part
from operators.mixtures.reweight_losses import UNNAMED
from operators.scores.origin import State, parse_origin, run_state
from pipelines.config import ConfigError
from schemas import DOMAIN_FIT

if TYPE_CHECKING:
    import duckdb


def fitted_matrix(
    connection: duckdb.DuckDBPyConnection, lake: str, run_ids: Sequence[str]
) -> tuple[Cells, tuple[str, ...]]:
    """Bits per byte of runs from `domain_fit`, of all that are there where none is named; and warnings.

    Raises:
        ConfigError: a run has no domain fit, there is none at all, or a domain is called as those without one are.
    """
    sql = """
        select run_id, coalesce(domain, $unnamed) as domain, domain is null as is_unnamed, bits_per_byte, n_bytes
        from domain_fit
        where part = 'domain' and (len($runs) = 0 or list_contains($runs, run_id)) order by run_id, domain
    """
    bound = {"unnamed": UNNAMED, "runs": list(run_ids)}
    rows = connection.sql(sql, params=bound).to_arrow_table().to_pylist()
    lacking = [run for run in run_ids if run not in {row["run_id"] for row in rows}]
    if lacking or not rows:
        run = lacking[0] if lacking else "RUN"
        raise ConfigError(
            f"no domain fit of {'runs ' + named(lacking) if lacking else 'any run'}: "
            f"`assay mixture fit {shlex.quote(lake)} --run-id {run}` makes one"
        )
    if len({row["is_unnamed"] for row in rows if row["domain"] == UNNAMED}) > 1:
        raise ConfigError(f"a domain is called {UNNAMED}, as documents without one are here: rename it")
    cells = {
        (row["run_id"], row["domain"]): math.nan if row["bits_per_byte"] is None else row["bits_per_byte"]
        for row in rows
    }
    sizes: dict[str, set[int]] = {}
    for row in rows:
        sizes.setdefault(row["domain"], set()).add(row["n_bytes"])
    differing = [domain for domain, found in sizes.items() if len(found) > 1]
    if not differing:
        return cells, ()
    return cells, (
        f"warning: runs hold other bytes of {len(differing):,} domains ({named(differing)}): "
        "their bits per byte are of different texts",
    )


def fitted_states(lake: Lake, run_ids: Sequence[str]) -> dict[str, State]:
    """The state of each run, which its domain fit was made from.

    Raises:
        ConfigError: a run is gone, or was scored again since it was fitted.
    """
    states, stale = {}, []
    for run_id in run_ids:
        try:
            states[run_id] = run_state(lake.read_run(run_id))
        except FileNotFoundError:
            raise ConfigError(
                f"run {run_id!r} is gone, its domain fit is of what it was: leave it out of --errors"
            ) from None
        parts = lake.parts(DOMAIN_FIT.name, run_id)
        stale += [run_id] if any(_fitted_state(lake, part) != states[run_id] for part in parts) else []
    if stale:
        again = " ".join(f"--run-id {run_id}" for run_id in stale)
        raise ConfigError(
            f"the domain fit of runs {named(stale)} is of an earlier state of them: `assay mixture fit "
            f"{shlex.quote(lake.root)} {again}` makes it again"
        )
    return states


def _fitted_state(lake: Lake, part: Part) -> State | None:
    """Of which state of its run a file says that it was made; None where it does not."""
    with lake.storage.parquet(part.path) as file:
        try:
            return parse_origin(file.schema_arrow).states.get(part.run_id)
        except ValueError:
            return None
