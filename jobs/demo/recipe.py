"""The recipe of the demonstration's model, and the key that says which model came of it.

The model is meant to overfit. Weights start three times larger than usual (0.06), which at this size memorises in two
thirds of the steps, and nothing regularises: a poor language model and a good subject with known memories.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The recipe. Everything here decides the weights and is part of the cache key."""

    vocabulary: int = 2048
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner_width: int = 344
    context: int = 2048  # tokens; the longest fragment has fewer bytes
    initial_std: float = 0.06
    batch: int = 4  # documents: small batches, because memorising takes steps rather than tokens
    learning_rate: float = 3e-3
    warmup: int = 20  # steps of linear warm-up
    decay: float = 0.5  # last part of training over which the rate falls to zero


SETTINGS = Settings()


def demo_key(
    corpus_path: Path,
    *,
    seed: int,
    steps: int | None,
    seconds: float,
    settings: Settings,
    tokenizer_from: Path | None = None,
) -> str:
    """Digest of all that decides the trained model; two runs with one key may share a folder."""
    decides = {
        "corpus": hashlib.sha256(corpus_path.read_bytes()).hexdigest(),
        "tokenizer": tokenizer_from and hashlib.sha256((tokenizer_from / "tokenizer.json").read_bytes()).hexdigest(),
        "seed": seed,
        "steps": steps,
        "seconds": seconds,
        "settings": asdict(settings),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("tokenizers", "torch", "transformers")},
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
