"""A small sound lake, and ways to spoil it.

lakes.write_run(lake)                                  two blocks: five documents, three rejects, one of a whole file
lakes.spoil(lake, "tokens", lakes.put("rank", lakes.at(1, 0)))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from operators.lake import Lake, Part
from operators.parquet import encode
from operators.verify import Fault
from operators.write import PartWriter, WriteOptions
from schemas import DOCUMENTS, FEATURE_GROUPS, REJECTS, TOKENS, flow

RUN = "r"
TABLES = {"documents": DOCUMENTS, "tokens": TOKENS, "rejects": REJECTS}
TOTALS = ("documents", "rejects", "tokens", "scored", "text_bytes")
BLOCKS = (("first text of all", "zweiter Text, größer", "三つ"), ("fourth text", "fifth"))

Edit = Callable[[pa.Table], pa.Table]


def document(text: str, row: int, features: Iterable[str] = FEATURE_GROUPS) -> dict[str, Any]:
    """A scored record: spans of two bytes, NULL statistics at position 0."""
    size = len(text.encode())
    starts = list(range(0, size, 2))
    rng = np.random.default_rng(row)
    record: dict[str, Any] = {"source": "s", "row": row, "key": f"s#{row}", "text": text, "token_id": starts}
    record |= {"byte_start": starts, "n_bytes": [min(2, size - start) for start in starts]}
    for name in flow.statistic_names(features):
        column = TOKENS[name]
        is_list = pa.types.is_list(column.type)
        item = column.type.value_type if is_list else column.type
        low, high = (-9, 0) if column.maximum == 0 else (0, 1)
        numbers = rng.uniform(low, high, (len(starts), 4)).astype(
            item.to_pandas_dtype() if item != pa.int32() else float
        )
        values = [[*map(int, v)] if item == pa.int32() else list(v) for v in numbers]
        values = values if is_list else [1 if item == pa.int32() else v[0] for v in values]
        record[name] = [None, *values[1:]] if column.nullable else values
    return record


def write_run(
    lake: Lake,
    run_id: str = RUN,
    *,
    features: tuple[str, ...] = FEATURE_GROUPS,
    prompts: Mapping[int, int] | None = None,
    language: str | None = None,
    **ledger: Any,
) -> None:
    """A finished run. `prompts`: prompt_bytes by row of a run with a prompt column; `ledger`: changes to its ledger."""
    writer = PartWriter(WriteOptions(lake, run_id, features, prompt=prompts is not None, language=language))
    rows = itertools.count()
    blocks: list[list[dict[str, Any]]] = []
    for texts in BLOCKS:
        records = [document(text, next(rows), features) for text in texts]
        for record in records:
            record["prompt_bytes"] = None if prompts is None else prompts.get(record["row"], 0)
        blocks.append([*records, {"source": "s", "row": next(rows), "reason": "null_text"}])
    blocks.append([{"source": "t", "row": -1, "reason": "unreadable_shard"}])
    manifests = [m for records in blocks for m in write_records(writer, records)]
    totals = {name: sum(m[name] for m in manifests) for name in TOTALS} | {"rows_in": 8}
    written = {"run_id": run_id, "state": "finished", "features": list(features), "totals": totals}
    if prompts is not None or language is not None:
        written["config"] = {"prompt_column": None if prompts is None else "prompt", "language": language}
    lake.write_run(run_id, written | ledger)


def write_records(writer: PartWriter, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write one block; its manifest."""
    schema = flow.scored(writer.options.features)
    return list(writer(pa.Table.from_pylist(records, schema=schema)).to_pylist())


def first_part(lake: Lake, table: str) -> Part:
    """The part with the most rows, so that an edit has documents to work on."""

    def rows(part: Part) -> int:
        with lake.storage.parquet(part.path) as file:
            return int(file.metadata.num_rows)

    return max(lake.parts(table, RUN), key=rows)


def read(lake: Lake, part: Part) -> pa.Table:
    with lake.storage.parquet(part.path) as file:
        return file.read()


def spoil(lake: Lake, table: str, edit: Edit) -> str:
    """Rewrite one part through `edit`; returns its path."""
    part = first_part(lake, table)
    lake.storage.write(part.path, encode(edit(read(lake, part)), TABLES[table]))
    return part.path


def put(column: str, values: Callable[[list[Any]], list[Any]]) -> Edit:
    """An edit of one column, as a list of its values."""

    def edit(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(column)
        changed = pa.array(values(table[column].to_pylist()), table.field(index).type)
        return table.set_column(index, table.field(index), changed)

    return edit


def at(index: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value if i == index % len(values) else v for i, v in enumerate(values)]


def kinds(faults: list[Fault]) -> set[str]:
    return {fault.kind.value for fault in faults}


def content(lake: Lake) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(Path(lake.root).rglob("*")) if path.is_file()}
