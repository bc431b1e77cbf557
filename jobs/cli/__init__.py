"""The command `assay`: every verb's flags and help. Nothing heavy is imported before a verb runs.

assay --help
"""

from __future__ import annotations

# isort: off
from jobs.cli.app import app
from jobs.cli import (  # as `assay --help` lists
    score, scores, evaluate, dataset_inference, detector,
    memorization, overlap, exchangeability, contamination,
    mixture, compare, tokenizers, lake,
    check, submit, nightly, status, demo, bench,
)  # fmt: skip

# isort: on

__all__ = [
    "app",
    "bench",
    "check",
    "compare",
    "contamination",
    "dataset_inference",
    "demo",
    "detector",
    "evaluate",
    "exchangeability",
    "lake",
    "main",
    "memorization",
    "mixture",
    "nightly",
    "overlap",
    "score",
    "scores",
    "status",
    "submit",
    "tokenizers",
]


def main() -> None:
    """Entry point of the command `assay`."""
    app()
