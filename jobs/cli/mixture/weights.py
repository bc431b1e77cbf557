"""`assay mixture weights`: flags and help."""

from __future__ import annotations
