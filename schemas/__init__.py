"""The lake's tables, declared once. Needs pyarrow only; everything else derives from here."""

from schemas.columns import CORE, Column, Table
from schemas.documents import DOCUMENTS
from schemas.pairs import PAIRS
from schemas.rejects import REJECTS, Reason
from schemas.runs import RUNS, check_run_id
from schemas.tokens import FEATURE_GROUPS, TOKENS

TABLES = (TOKENS, DOCUMENTS, REJECTS, RUNS, PAIRS)

__all__ = [
    "CORE",
    "DOCUMENTS",
    "FEATURE_GROUPS",
    "PAIRS",
    "REJECTS",
    "RUNS",
    "TABLES",
    "TOKENS",
    "Column",
    "Reason",
    "Table",
    "check_run_id",
]
