"""`assay mixture fit`: flags and help."""

from __future__ import annotations
