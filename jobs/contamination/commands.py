"""The commands that make missing evidence, as they can be pasted into a shell; capitals are for users to fill in."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from operators.scores.missing import transformed_run_id
from operators.storage.remote import redact

COPIES = 5  # of a random change, enough that their mean is steadier than the item
PERTURBATION = "perturb:kind=swap_words"
_SCORE_FLAGS = (
    ("model", "--model"), ("revision", "--revision"), ("format", "--format"), ("id_column", "--id-column"),
    ("prompt_column", "--prompt-column"), ("text_column", "--text-column"), ("text_template", "--text-template"),
    ("context", "--context"), ("stride", "--stride"), ("top_k", "--top-k"),
)  # fmt: skip
_OVERLAP_FLAGS = (("format", "--benchmark-format"), ("id_column", "--id-column"))  # by the run's own name of them


def overlap_command(lake: str, run_id: str, config: Mapping[str, Any]) -> str:
    """The overlap of the files that a run scored with a corpus. `config`: the run's own."""
    inputs = config.get("input") or ["BENCHMARK"]
    prompt, text = config.get("prompt_column"), config.get("text_column")
    columns = [("--input-column", text), ("--input-template", config.get("text_template"))]
    if prompt:
        columns = [("--input-column", prompt), ("--answer-column", text or "text")]
    flags = [*((flag, config.get(name)) for name, flag in _OVERLAP_FLAGS), *columns]
    words = ["assay", "overlap", "--lake", lake, "--name", run_id, "--corpus", "CORPUS"]
    for pattern in [inputs] if isinstance(inputs, str) else inputs:
        words += ["--benchmark", str(pattern)]
    return _joined([*words, *_flags(flags)])


def exchangeability_command(lake: str, run_id: str) -> str:
    words = ["assay", "exchangeability", lake, "--benchmark-run", run_id, "--run-id", f"{run_id}-orders"[:128]]
    return _joined(words)


def memorization_command(lake: str, run_id: str) -> str:
    return _joined(["assay", "memorization", lake, "--run-id", run_id])


def perturbed_command(lake: str, run_id: str, spec: str = PERTURBATION, copies: int = COPIES) -> str:
    """A run of changed copies of a run's documents."""
    more = ["--copies", str(copies)] if copies > 1 else []
    name = transformed_run_id(run_id, spec)
    words = ["assay", "score", "--lake", lake, "--base-run", run_id, "--run-id", name, "--transform", spec, *more]
    return _joined(words)


def clean_command(lake: str, run_id: str, config: Mapping[str, Any]) -> str:
    """A run of clean items by the model of a benchmark's run, read in the same way."""
    words = ["assay", "score", "--lake", lake, "--run-id", f"{run_id}-clean"[:128], "--input", "CLEAN_ITEMS"]
    words += _flags((flag, config.get(name)) for name, flag in _SCORE_FLAGS)
    features = config.get("features") or []
    return _joined([*words, *_flags([("--features", ",".join(features))])])


def _joined(words: Iterable[str]) -> str:
    """One line for a shell. Credentials in the name of a lake or a file are struck out."""
    return redact(shlex.join(words))


def _flags(given: Iterable[tuple[str, object]]) -> list[str]:
    """The flags that have a value that is not their default."""
    return [word for flag, value in given if value not in (None, "", "auto") for word in (flag, str(value))]
