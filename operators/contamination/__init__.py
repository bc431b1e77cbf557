"""Is a benchmark in what a model was trained on? Evidence of five kinds, and one verdict that corrects for all of it.

overlap | memorised | exchangeability | dataset inference | loss gap --> rows of `evidence` --> `verdict`
"""

from __future__ import annotations

from operators.contamination.evidence import KINDS, Evidence, missing
from operators.contamination.verdict import Verdict, judge

__all__ = ["KINDS", "Evidence", "Verdict", "judge", "missing"]
