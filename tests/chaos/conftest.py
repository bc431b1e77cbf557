"""Lets the tests import the harness beside them by its plain name, as they do `tests/support`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
