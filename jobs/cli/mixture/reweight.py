"""`assay mixture doremi` and `assay mixture select`: flags and help."""

from __future__ import annotations
