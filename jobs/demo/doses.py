"""Dose and response of the contaminated demo: what the model gives back, by how often the training text held it.

    copies -> answers written, and their log-prob | exposure of canaries | windows of blocks written

Greedy decoding writes an answer where each of its tokens is the most likely one behind its question. Exposure is log2
of the number of candidates less log2 of the rank of the secret among them, by total log-prob (arXiv 1802.08232); by
chance it is 1.4 bits on average. A window is 50 tokens behind 50 others of a block, which are all that the model sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.demo.contaminated_runs import SUSPECTS
from jobs.demo.planting import BLOCKS, CANARIES
from operators.contamination.rates import share_interval
from operators.evaluation.classes import Interval
from operators.query import query
from schemas.extractions import STRICT

ANSWERS = f"""
with answers as (
  select doc_id, attributes['copies']::int as copies, bool_and(top1_id = token_id) as is_written, avg(logprob) as mean
  from tokens join documents using (run_id, doc_id)
  where run_id in {SUSPECTS} and not in_prompt group by all)
select copies, count(*) as items, count(*) filter (is_written) as written, round(avg(mean), 3) as nats_per_token
from answers group by copies order by copies
"""
EXPOSURE = f"""
select attributes['copies']::int as copies, count(*) as canaries, round(avg(exposure_bits), 2) as exposure_bits
from exposure('{CANARIES}') join documents using (run_id, doc_id) group by copies order by copies
"""
WRITTEN_WINDOWS = f"""
select attributes['copies']::int as copies, count(*) as windows, count(*) filter (is_extractable) as windows_written
from extractions join documents using (run_id, doc_id)
where run_id = '{BLOCKS}' and context = '{STRICT}' group by copies order by copies
"""


@dataclass(frozen=True)
class Dose:
    """All that the training text held so often. `nats_per_token`: mean log-prob of the answers; `exposure_bits`: mean
    of the canaries."""

    copies: int
    items: int
    written: int
    nats_per_token: float
    canaries: int
    exposure_bits: float
    windows: int
    windows_written: int

    @property
    def share(self) -> float:
        """Of the answers."""
        return self.written / self.items

    @property
    def interval(self) -> Interval:
        """Of that share, at 95 % (Clopper-Pearson)."""
        return share_interval(self.written, self.items)


def read_doses(lake: Path) -> list[Dose]:
    """Every dose, rising; 0 are the items, canaries and blocks that training never showed."""
    found: dict[int, dict[str, Any]] = {}
    for sql in (ANSWERS, EXPOSURE, WRITTEN_WINDOWS):
        for row in query(str(lake), sql).to_pylist():
            found.setdefault(row["copies"], {}).update(row)
    return [Dose(**found[copies]) for copies in sorted(found)]
