"""`runs`: one row per run, read from `<lake>/runs/<run_id>.json`: everything in it that a query may want."""

from __future__ import annotations

import re

import pyarrow as pa

from schemas.columns import Column, Table

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_run_id(run_id: str, what: str = "run id") -> str:
    """Return `run_id`, or the name of `what` else, if it can safely be a folder and file name.

    Raises:
        ValueError: anything but letters, digits, `.`, `_` and `-`, starting with a letter or digit, 128 at most.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"{what} {run_id!r}: use 1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"
        )
    return run_id


def _text(name: str, description: str, *, nullable: bool = True) -> Column:
    return Column(name, pa.string(), description, nullable=nullable)


def _count(name: str, description: str, unit: str = "count") -> Column:
    return Column(name, pa.int64(), description, unit=unit, nullable=True, minimum=0)


RUNS = Table(
    name="runs",
    row="one run of `assay score`",
    key=("run_id",),
    columns=(
        _text("run_id", "name of the run", nullable=False),
        _text("state", "running, finished, interrupted or failed", nullable=False),
        _text("model", "model as asked for: folder or hub id"),
        _text("model_type", "architecture family in the model's config"),
        _text("model_fingerprint", "xxh3-128 over the names and bytes of the config and weight files"),
        _text("tokenizer_fingerprint", "xxh3-128 over the tokenizer's definition"),
        _count("vocab_size", "width of the softmax, padding included"),
        _text("dtype", "dtype of the model body"),
        _text("device", "device the scores were computed on"),
        _count("context", "longest window", "tokens"),
        _count("stride", "step between windows", "tokens"),
        _text("bos", "auto, always or never"),
        Column("bos_prepended", pa.bool_(), "whether a BOS (or other prefix) token is fed first", nullable=True),
        _text("special_tokens", "auto: as the tokenizer reads them; literal: as plain text"),
        _text("precision", "compact or full"),
        Column("features", pa.list_(pa.string()), "optional column groups kept", nullable=True),
        _text("transform", "change made to the text before scoring; NULL for none"),
        _text("base_run", "the run whose documents were transformed"),
        _text("engine", "ray or inline"),
        _text("config_digest", "xxh3-128 over everything that decides the numbers"),
        _text("assay_version", "version that wrote the run"),
        Column("created_at", pa.timestamp("us", tz="UTC"), "first start", nullable=True),
        Column("finished_at", pa.timestamp("us", tz="UTC"), "last finish", nullable=True),
        _count("rows_in", "records read = documents + rejects"),
        _count("documents", "documents scored"),
        _count("rejects", "records rejected"),
        _count("tokens", "tokens fed"),
        _count("scored", "tokens with a prediction"),
        _count("text_bytes", "UTF-8 bytes scored", "bytes"),
        Column("seconds", pa.float64(), "wall time over all attempts", unit="seconds", nullable=True, minimum=0),
    ),
)
