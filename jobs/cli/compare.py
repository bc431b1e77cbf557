"""`assay compare`: flags and help."""

from __future__ import annotations
