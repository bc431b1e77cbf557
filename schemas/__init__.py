"""The lake's tables, declared once. Needs pyarrow only; everything else derives from here."""

from schemas.columns import CORE, Column, Table
from schemas.documents import DOCUMENTS
from schemas.extractions import EXTRACTIONS
from schemas.frequencies import FREQUENCIES
from schemas.overlaps import DECONTAMINATION, OVERLAP_ITEMS, OVERLAP_SPANS, OVERLAP_TABLES
from schemas.pairs import PAIRS
from schemas.rejects import REJECTS, Reason
from schemas.runs import RUNS, check_run_id
from schemas.scores import SCORES
from schemas.spans import SPANS
from schemas.tokens import FEATURE_GROUPS, TOKENS

TABLES = (TOKENS, DOCUMENTS, REJECTS, RUNS, PAIRS, SCORES, FREQUENCIES, EXTRACTIONS, SPANS, *OVERLAP_TABLES)

__all__ = [
    "CORE",
    "DECONTAMINATION",
    "DOCUMENTS",
    "EXTRACTIONS",
    "FEATURE_GROUPS",
    "FREQUENCIES",
    "OVERLAP_ITEMS",
    "OVERLAP_SPANS",
    "OVERLAP_TABLES",
    "PAIRS",
    "REJECTS",
    "RUNS",
    "SCORES",
    "SPANS",
    "TABLES",
    "TOKENS",
    "Column",
    "Reason",
    "Table",
    "check_run_id",
]
