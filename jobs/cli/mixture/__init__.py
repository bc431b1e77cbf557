"""`assay mixture ...`: what a corpus, a model's training data or a tokenizer's training data is made of."""

from __future__ import annotations

# isort: off
from jobs.cli.mixture.app import mixture
from jobs.cli.mixture import fit, weights, reweight, correlate, tokenizer  # as `assay mixture --help` lists

# isort: on

__all__ = ["correlate", "fit", "mixture", "reweight", "tokenizer", "weights"]
