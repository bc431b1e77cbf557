"""`model_domain`: bits per byte of every model on every domain, over all runs of which domain fit is kept.

By byte, so that models of different tokenizers compare; they do so on the same documents only, and as many of them have
a scored token. The view says how many documents and bytes those were, and in which state the run is: it shows
unfinished runs too, and leaves it to the query to drop them.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas import DOMAIN_FIT, RUNS

MODEL_DOMAIN = "model_domain"
ROW = "one domain of one run, or what all of them come to, with the model of the run; key (run_id, part, domain)"

_OF_RUN = ("model", "model_fingerprint", "tokenizer_fingerprint", "state", "transform")
_OF_FIT = ("part", "domain", "bits_per_byte", "bits_per_byte_low", "bits_per_byte_high", "confidence", "n_documents",
           "n_undefined", "n_bytes")  # fmt: skip


def model_domain_sql() -> str:
    """The SELECT of the view, in the order in which its columns are read."""
    of_run = ", ".join(f"r.{name}" for name in _OF_RUN)
    of_fit = ", ".join(f"f.{name}" for name in _OF_FIT)
    return f"""
select f.run_id, {of_run}, {of_fit}
from domain_fit f
left join runs r on r.run_id = f.run_id
order by f.run_id, f.part, f.domain nulls last"""


def model_domain_comments() -> Mapping[str, str]:
    """What each column is."""
    of_run = {name: RUNS[name].comment for name in _OF_RUN}
    return of_run | {name: DOMAIN_FIT[name].comment for name in ("run_id", *_OF_FIT)}
