"""The lake's tables, declared once. Needs pyarrow only; everything else derives from here."""

from schemas.columns import CORE, Column, Table
from schemas.documents import DOCUMENTS
from schemas.frequencies import FREQUENCIES
from schemas.pairs import PAIRS
from schemas.rejects import REJECTS, Reason
from schemas.runs import RUNS, check_run_id
from schemas.scores import SCORES
from schemas.tokens import FEATURE_GROUPS, TOKENS

TABLES = (TOKENS, DOCUMENTS, REJECTS, RUNS, PAIRS, SCORES, FREQUENCIES)

__all__ = [
    "CORE",
    "DOCUMENTS",
    "FEATURE_GROUPS",
    "FREQUENCIES",
    "PAIRS",
    "REJECTS",
    "RUNS",
    "SCORES",
    "TABLES",
    "TOKENS",
    "Column",
    "Reason",
    "Table",
    "check_run_id",
]
