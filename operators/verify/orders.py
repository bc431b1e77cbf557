"""Checks the orders of benchmarks that runs scored: names, whose they are, and that they are those of their run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from operators.lake import ORDERS_FOLDER, Lake, is_run_id, orders_path
from operators.orders import read_facts
from operators.storage import is_temporary
from operators.storage.object_error import ObjectError
from operators.storage.remote import redact
from operators.transform import TransformError, parse_transform
from operators.verify.faults import BROKEN, Fault, Finding, Kind

_TEMPORARY = re.compile(r"\.(.+)\.parquet\.[0-9a-f]{32}\.tmp")
_OF_TRANSFORM = ("shards", "permutations", "seed")


def lost_order_faults(lake: Lake, run_ids: list[str]) -> Iterator[Fault]:
    """What lies in the folder of orders and belongs to no run, of `run_ids` all there are."""
    for name in lake.storage.list(ORDERS_FOLDER):
        where = f"{ORDERS_FOLDER}/{name.removesuffix('/')}"
        if is_temporary(name):
            orders = _TEMPORARY.fullmatch(name)
            if orders is None or orders[1] not in run_ids:  # those of runs are reported with them
                yield Fault(Kind.TEMPORARY, "", where, "left by a write that did not finish, of no run")
        elif not name.endswith(".parquet") or not is_run_id(run_id := name.removesuffix(".parquet")):
            yield Fault(Kind.FOREIGN, "", where, "not part of a lake's layout")
        elif run_id not in run_ids:
            yield Fault(Kind.ORPHAN, "", where, "orders of a run that is not there: the file can be removed")


def order_faults(lake: Lake, run_id: str, ledger: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of the orders under the name of a run, of which there may be none: a run is sound without its input."""
    path = orders_path(run_id)
    try:
        yield from (Fault(kind, run_id, path, message) for kind, message in _findings(lake, path, ledger))
    except FileNotFoundError:
        return
    except ObjectError:
        raise  # the storage failed: that says nothing about the orders
    except BROKEN as error:
        message = redact(f"{type(error).__name__}: {error}", lake.storage_options)
        yield Fault(Kind.UNREADABLE, run_id, path, message)


def _findings(lake: Lake, path: str, ledger: Mapping[str, Any]) -> Iterator[Finding]:
    with lake.storage.parquet(path, verify_checksums=True) as file:
        for group in range(file.num_row_groups):
            file.read_row_group(group)
    facts = read_facts(lake, path)
    if facts is None:
        yield Kind.SCHEMA, "does not say what it was made of: not written by `assay exchangeability`"
    elif (scored := _of_run(ledger)) is not None and (made := _of_file(facts)) != scored:
        message = f"holds {made}, the run under its name scored {scored}"
        yield Kind.STALE, f"{message}: `assay exchangeability --overwrite` makes both anew"


def _of_run(ledger: Mapping[str, Any]) -> str | None:
    """Transform and base run as a ledger says them; None where it cannot be read."""
    config = ledger.get("config")
    if not isinstance(config, dict):
        return None
    try:
        transform = parse_transform(str(config.get("transform")))
    except TransformError:
        return "no orders"
    return f"{transform.canonical} of run {config.get('base_run')}"


def _of_file(facts: Mapping[str, Any]) -> str:
    spec = "orders:" + ",".join(f"{name}={facts.get(name)}" for name in _OF_TRANSFORM)
    with contextlib.suppress(TransformError):  # else it is shown as it stands: no run has it
        spec = parse_transform(spec).canonical
    return f"{spec} of run {facts.get('base_run')}"
