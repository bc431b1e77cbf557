"""The command `assay`: every verb's flags and help. Nothing heavy is imported before a verb runs.

assay --help
"""

from __future__ import annotations

import gc

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
    # Loading torch makes millions of objects that stay: to look through them for garbage again and again took a sixth
    # of the start of a small run.
    gc.set_threshold(50_000, 20, 100)
    app()
