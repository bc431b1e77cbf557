"""`assay bench storage`: bytes a token on real statistics, by column and precision, and write and read speed.

The statistics are those of the demo's model on the demo's text: a trained model, real text, scored in full precision
and written again by the writer a run uses.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bench.measure import record, show
from pipelines.config import ConfigError, ScoreConfig

FULL_RUN = "storage-full"


def bench_storage(folder: Path) -> None:
    """Run the verb over the tokens of the demo's lake."""
    from operators.lake import Lake
    from operators.parquet import encode
    from operators.precision import at_precision
    from schemas import TOKENS

    lake = Lake(str(folder / "lake"))
    _score_in_full(folder)
    parts = [lake.uri(part) for part in lake.readable_tokens(FULL_RUN)]
    tokens = pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts]).combine_chunks()
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for label, write in {
            "default Parquet": lambda path: pq.write_table(tokens, path),
            "full": lambda path: Path(path).write_bytes(encode(tokens, TOKENS)),
            "compact": lambda path: Path(path).write_bytes(encode(at_precision(tokens, "compact"), TOKENS)),
        }.items():
            path = f"{scratch}/{label}.parquet"
            result = results[label] = _measure(path, write, len(tokens))
            columns = result["columns"]
            rows.append([label, f"{result['bytes']:.2f}", *(f"{v:.2f}" for v in columns.values()),
                         f"{result['write_mtokens']:.1f}", f"{result['read_mtokens']:.1f}"])  # fmt: skip
    names = list(results["compact"]["columns"])
    show(f"Bytes a token, {len(tokens):,} tokens", ["variant", "total", *names, "write M/s", "read M/s"], rows)
    record("storage", results, tokens=len(tokens))


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


def _measure(path: str, write: Any, n: int) -> dict[str, Any]:
    started = time.perf_counter()
    write(path)
    written = time.perf_counter()
    pq.read_table(path)
    read = time.perf_counter()
    metadata = pq.ParquetFile(path).metadata
    columns: dict[str, float] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            name = chunk.path_in_schema.split(".")[0]
            columns[name] = columns.get(name, 0.0) + chunk.total_compressed_size / n
    return {
        "bytes": Path(path).stat().st_size / n,
        "columns": columns,
        "write_mtokens": n / (written - started) / 1e6,
        "read_mtokens": n / (read - written) / 1e6,
    }
