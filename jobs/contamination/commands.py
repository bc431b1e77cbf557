"""The commands that make missing evidence, as they can be pasted into a shell; capitals are for users to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.commands import flags, joined, score_command
from operators.scores.missing import transformed_run_id

COPIES = 5  # of a random change, enough that their mean is steadier than the item
PERTURBATION = "perturb:kind=swap_words"
_OVERLAP_FLAGS = (("format", "--benchmark-format"), ("id_column", "--id-column"))  # by the run's own name of them


def overlap_command(lake: str, run_id: str, config: Mapping[str, Any]) -> str:
    """The overlap of the files that a run scored with a corpus. `config`: the run's own."""
    inputs = config.get("input") or ["BENCHMARK"]
    prompt, text = config.get("prompt_column"), config.get("text_column")
    columns = [("--input-column", text), ("--input-template", config.get("text_template"))]
    if prompt:
        columns = [("--input-column", prompt), ("--answer-column", text or "text")]
    given = [*((flag, config.get(name)) for name, flag in _OVERLAP_FLAGS), *columns]
    words = ["assay", "overlap", "--lake", lake, "--name", run_id, "--corpus", "CORPUS"]
    for pattern in [inputs] if isinstance(inputs, str) else inputs:
        words += ["--benchmark", str(pattern)]
    return joined([*words, *flags(given)])


def exchangeability_command(lake: str, run_id: str) -> str:
    words = ["assay", "exchangeability", lake, "--benchmark-run", run_id, "--run-id", f"{run_id}-orders"[:128]]
    return joined(words)


def memorization_command(lake: str, run_id: str) -> str:
    return joined(["assay", "memorization", lake, "--run-id", run_id])


def perturbed_command(lake: str, run_id: str, spec: str = PERTURBATION, copies: int = COPIES) -> str:
    """A run of changed copies of a run's documents."""
    more = ["--copies", str(copies)] if copies > 1 else []
    name = transformed_run_id(run_id, spec)
    words = ["assay", "score", "--lake", lake, "--base-run", run_id, "--run-id", name, "--transform", spec, *more]
    return joined(words)


def clean_command(lake: str, run_id: str, config: Mapping[str, Any]) -> str:
    """A run of clean items by the model of a benchmark's run, read in the same way."""
    features = config.get("features") or ()
    return score_command(lake, f"{run_id}-clean"[:128], config, ["CLEAN_ITEMS"], features, config.get("top_k"))
