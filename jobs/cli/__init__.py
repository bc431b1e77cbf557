"""The command `assay`: every verb's flags and help. Nothing heavy is imported before a verb runs.

assay --help
"""

from __future__ import annotations

# isort: off
from jobs.cli.app import app
from jobs.cli import score, scores, evaluate, dataset_inference, detector, lake, demo, bench  # as `assay --help` lists

# isort: on

__all__ = ["app", "bench", "dataset_inference", "demo", "detector", "evaluate", "lake", "main", "score", "scores"]


def main() -> None:
    """Entry point of the command `assay`."""
    app()
