"""Tests a run of orders that is there, and says what the result can and cannot show.

documents of the run --> p-values and gain (operators.evaluation.exchangeability)
items of its base run --> blind baseline of their order (operators.evaluation.blind_order)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.query import check_run
from operators.evaluation.blind_order import BlindOrder, blind_order
from operators.evaluation.exchangeability import Exchangeability, OrdersError, exchangeability, read_orders
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.orders import Items, OrdersInputError, read_items
from operators.transform import Transform, TransformError, parse_transform
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

LEVEL = 0.05
BLIND_PERMUTATIONS = 250  # at least: no model is asked, and fewer than 99 could not flag anything

_OTHER_ITEMS = "the items that were ordered are not in the lake any more"


@dataclass(frozen=True)
class Examined:
    """What was found of a run of orders. `no_blind`: why there is no blind baseline, empty where there is one."""

    run_id: str
    benchmark_run: str
    transform: Transform
    result: Exchangeability
    n_items: int
    largest_shard: int
    blind: tuple[BlindOrder, ...]
    no_blind: str
    notes: tuple[str, ...]


def examine(
    lake: str,
    run_id: str,
    storage_options: Mapping[str, Any] | None = None,
    connection: duckdb.DuckDBPyConnection | None = None,
) -> Examined:
    """Test a run of orders that is there, over a `connection` of `reading` where the caller has one.

    Raises:
        ConfigError: there is none of this name, it holds no orders, or lacks some of them.
    """
    check_run(lake, run_id, storage_options)
    store = Lake(lake, storage_options)
    ledger = store.read_run(run_id)
    transform, benchmark_run = _origin(ledger, run_id)
    with reading(lake, storage_options) if connection is None else nullcontext(connection) as open_connection:
        try:
            totals = read_orders(open_connection, run_id)
            result = exchangeability(totals.logprob_SP, totals.tokens_SP)
        except OrdersError as error:
            raise ConfigError(str(error)) from None
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            raise ConfigError(f"run {run_id}: {error}") from None
    shape = transform.number("shards"), transform.number("permutations")
    if (result.n_shards, result.n_permutations) != shape:
        raise ConfigError(
            f"run {run_id} holds {result.n_shards:,} shards in {result.n_permutations:,} drawn orders, its transform "
            f"says {shape[0]:,} and {shape[1]:,}: it is not whole; run its command to the end, or anew with --overwrite"
        )
    n_items = int(totals.items_S.sum())
    state, base = tuple(_about_state(ledger)), tuple(_about_base(store, ledger, benchmark_run))
    items, no_blind = (None, _OTHER_ITEMS) if base else _items(store, benchmark_run, n_items)
    blind: tuple[BlindOrder, ...] = ()
    if items is not None:
        blind, no_blind = _blind(items, transform)
    notes = (*state, *base, *_notes(result, n_items, items, blind))
    return Examined(
        run_id, benchmark_run, transform, result, n_items, int(totals.items_S.max()), blind, no_blind, notes
    )


def _blind(items: Items, transform: Transform) -> tuple[tuple[BlindOrder, ...], str]:
    """The blind baseline in the shards of the run, or why there is none."""
    permutations = max(transform.number("permutations"), BLIND_PERMUTATIONS)
    shards, seed = transform.number("shards"), transform.number("seed")
    try:
        return tuple(blind_order(items.texts, shards=shards, permutations=permutations, seed=seed)), ""
    except ValueError as error:
        return (), str(error)


def _origin(ledger: Mapping[str, Any], run_id: str) -> tuple[Transform, str]:
    config = ledger.get("config") or {}
    try:
        transform = parse_transform(config.get("transform") or "")
    except TransformError:
        transform = None
    if transform is None or transform.name != "orders" or not config.get("base_run"):
        raise ConfigError(
            f"run {run_id} holds no orders of a benchmark: `assay exchangeability LAKE --benchmark-run RUN` makes them"
        )
    return transform, str(config["base_run"])


def _items(lake: Lake, benchmark_run: str, n_items: int) -> tuple[Items | None, str]:
    """The items as they were ordered, or why they are not there any more."""
    try:
        items = read_items(lake, benchmark_run, n_items)
    except OrdersInputError as error:
        return None, str(error)
    if len(items) < n_items:
        return None, f"run {benchmark_run} has fewer items than were ordered"
    return items, ""


def _about_state(ledger: Mapping[str, Any]) -> Iterator[str]:
    if ledger.get("state") != "finished":
        yield f"warning: run {ledger.get('run_id')} is {ledger.get('state')}, not finished"


def _about_base(lake: Lake, ledger: Mapping[str, Any], benchmark_run: str) -> Iterator[str]:
    """Why the items of the base run are not those that were ordered; nothing where they are."""
    try:
        now = lake.read_run(benchmark_run).get("config_digest")
    except (FileNotFoundError, ValueError):
        yield f"warning: run {benchmark_run}, whose items were ordered, is not in the lake any more"
        return
    if now != (ledger.get("identity") or {}).get("base_digest"):
        yield f"warning: run {benchmark_run} was made anew since its items were ordered: this is of what it held then"


def _notes(result: Exchangeability, n_items: int, items: Items | None, blind: tuple[BlindOrder, ...]) -> Iterator[str]:
    """What has to be said with the p-value: each starts with `warning` or `note`."""
    for each in blind:
        if each.is_flagged:
            yield (
                f"warning: blind {each.features}: neighbouring items are {'more' if each.z > 0 else 'less'} alike than "
                f"in drawn orders (p = {each.p_value:.2g}, no model asked): the file is sorted, grouped or dealt out, "
                "and a model that never saw it may prefer its order, too. Compare with such a model"
            )
    if result.resolution > LEVEL:
        yield (
            f"warning: of {result.n_permutations} drawn orders p cannot fall below {result.resolution:.2g}: give more "
            "--permutations"
        )
    if result.t is None:
        yield "note: all shards differ by the same amount, so there is no t: are the items all alike?"
    elif result.n_shards < 10:
        yield f"note: {result.n_shards} shards: the t-test rests on few differences, the permutation test does not"
    if items is not None:
        yield from _about_items(items, n_items)
    yield (
        "note: it sees the order of the items of this file, as one text in training; not a benchmark that was trained "
        "on in another order, or item by item. It sees more the more often the file was there, and the longer it is: "
        "no evidence is no proof of a clean model"
    )


def _about_items(items: Items, n_items: int) -> Iterator[str]:
    if n_items < items.available:
        yield f"note: the first {n_items:,} of {items.available:,} items are tested"
    if items.repeated:
        yield f"note: items that repeat the text of an earlier one: {items.repeated:,}; fewer orders differ, p is exact"
    if not items.is_in_natural_order:
        yield (
            "note: files are taken by their names as text, so that `10` comes before `2`: shards across the border of "
            "two files may not stand as in training"
        )
