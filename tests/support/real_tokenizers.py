"""Real tokenizers that may lie beside the project: tests try them where they are, and need none of them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
