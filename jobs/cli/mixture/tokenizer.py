"""`assay mixture tokenizer`: flags and help."""

from __future__ import annotations
