"""`assay bench storage`: bytes a token on real statistics, by column and precision, and write and read speed.

The statistics are those of the demo's model on the demo's text: a trained model, real text, scored in full precision
and written again by the writer a run uses.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bench.measure import record, show, take_turns
from operators.precision import Precision
from pipelines.config import ConfigError, ScoreConfig

FULL_RUN = "storage-full"
SMALL_PART = 20_000  # tokens: what a short run, or the end of a shard, leaves in a part


def bench_storage(folder: Path, rounds: int = 5) -> None:
    """Run the verb over the tokens of the demo's lake."""
    from operators.lake import Lake

    lake = Lake(str(folder / "lake"))
    _score_in_full(folder)
    parts = [lake.uri(part) for part in lake.readable_tokens(FULL_RUN)]
    tokens = pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts]).combine_chunks()
    small = tokens.slice(0, SMALL_PART).combine_chunks()
    variants: dict[str, tuple[pa.Table, Precision | None]]
    variants = {"default Parquet": (tokens, None), "full": (tokens, "full"), "compact": (tokens, "compact"),
                f"compact, {len(small):,} tokens": (small, "compact")}  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        paths = {label: f"{scratch}/{place}.parquet" for place, label in enumerate(variants)}
        writing = take_turns({name: partial(_write, paths[name], *what) for name, what in variants.items()}, rounds)
        reading = take_turns({name: partial(pq.read_table, path) for name, path in paths.items()}, rounds)
        sizes = {name: _sizes(paths[name], len(rows)) for name, (rows, _) in variants.items()}
    results, lines = {}, []
    for name, (rows, _) in variants.items():
        speeds = {"write_mtokens": len(rows) / writing[name].median / 1e6,
                  "read_mtokens": len(rows) / reading[name].median / 1e6}  # fmt: skip
        results[name] = {**sizes[name], **speeds}
        columns = [sizes[name]["bytes"], *sizes[name]["columns"].values()]
        lines.append([name, *(f"{v:.2f}" for v in columns), *(f"{v:.1f}" for v in speeds.values())])
    names = list(results["compact"]["columns"])
    show(f"Bytes a token, {len(tokens):,} tokens", ["variant", "total", *names, "write M/s", "read M/s"], lines)
    record("storage", results, tokens=len(tokens), small=len(small), rounds=rounds)


def _score_in_full(folder: Path) -> None:
    """The demo's corpus in full precision, a run of its own in the demo's lake; scored once."""
    from pipelines.plan import make_plan
    from pipelines.score import score_corpus

    model, corpus = folder / "model", folder / "corpus.jsonl"
    if not model.is_dir() or not corpus.is_file():
        raise ConfigError(f"no model and corpus in {folder}: run `assay demo --folder {folder}` first")
    config = ScoreConfig.parse(
        model=str(model), input=(str(corpus),), lake=str(folder / "lake"), run_id=FULL_RUN, engine="inline",
        precision="full", id_column="id",
    )  # fmt: skip
    score_corpus(make_plan(config))


def _write(path: str, tokens: pa.Table, precision: Precision | None) -> None:
    """As a run writes it, rounding included; without a precision, as pyarrow does by itself."""
    from operators.parquet import encode
    from operators.precision import at_precision
    from schemas import TOKENS

    if precision is None:
        pq.write_table(tokens, path)
    else:
        Path(path).write_bytes(memoryview(encode(at_precision(tokens, precision), TOKENS)))


def _sizes(path: str, n: int) -> dict[str, Any]:
    """Bytes a token of a file of `n` tokens, all in all and by column."""
    metadata = pq.ParquetFile(path).metadata
    columns: dict[str, float] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            name = chunk.path_in_schema.split(".")[0]
            columns[name] = columns.get(name, 0.0) + chunk.total_compressed_size / n
    return {"bytes": Path(path).stat().st_size / n, "columns": columns}
