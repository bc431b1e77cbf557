"""`assay mixture correlate`: flags and help."""

from __future__ import annotations
