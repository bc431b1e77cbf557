"""`assay tokenizers`: flags and help."""

from __future__ import annotations
