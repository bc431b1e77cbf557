"""The lake's tables, declared once. Needs pyarrow only; everything else derives from here."""

from schemas.columns import CORE, Column, Table
from schemas.comparisons import COMPARISON_TABLES, COMPARISONS, CORPUS_PROFILES
from schemas.documents import DOCUMENTS
from schemas.extractions import EXTRACTIONS
from schemas.fits import DOMAIN_FIT, FIT_TABLES, VOCABULARY_FIT
from schemas.frequencies import FREQUENCIES
from schemas.mixtures import MIXTURE_CURVES, MIXTURE_POSTERIORS, MIXTURE_TABLES, MIXTURES
from schemas.nights import NIGHT_CHANGES, NIGHT_LIST_TABLES, NIGHT_MEASURES, NIGHT_SHARDS, NIGHT_TABLES
from schemas.overlaps import DECONTAMINATION, OVERLAP_ITEMS, OVERLAP_SPANS, OVERLAP_TABLES
from schemas.pairs import PAIRS
from schemas.rejects import REJECTS, Reason
from schemas.runs import RUNS, check_run_id
from schemas.scores import SCORES
from schemas.spans import SPANS
from schemas.tokenizer_statistics import TOKENIZER_STATISTICS, TOKENIZER_TABLES
from schemas.tokens import FEATURE_GROUPS, TOKENS

TABLES = (
    *(TOKENS, DOCUMENTS, REJECTS, RUNS, PAIRS, SCORES, FREQUENCIES, EXTRACTIONS, SPANS, *OVERLAP_TABLES),
    *(*FIT_TABLES, *MIXTURE_TABLES, *COMPARISON_TABLES, *TOKENIZER_TABLES, *NIGHT_TABLES, *NIGHT_LIST_TABLES),
)

__all__ = [
    "COMPARISONS",
    "COMPARISON_TABLES",
    "CORE",
    "CORPUS_PROFILES",
    "DECONTAMINATION",
    "DOCUMENTS",
    "DOMAIN_FIT",
    "EXTRACTIONS",
    "FEATURE_GROUPS",
    "FIT_TABLES",
    "FREQUENCIES",
    "MIXTURES",
    "MIXTURE_CURVES",
    "MIXTURE_POSTERIORS",
    "MIXTURE_TABLES",
    "NIGHT_CHANGES",
    "NIGHT_LIST_TABLES",
    "NIGHT_MEASURES",
    "NIGHT_SHARDS",
    "NIGHT_TABLES",
    "OVERLAP_ITEMS",
    "OVERLAP_SPANS",
    "OVERLAP_TABLES",
    "PAIRS",
    "REJECTS",
    "RUNS",
    "SCORES",
    "SPANS",
    "TABLES",
    "TOKENIZER_STATISTICS",
    "TOKENIZER_TABLES",
    "TOKENS",
    "VOCABULARY_FIT",
    "Column",
    "Reason",
    "Table",
    "check_run_id",
]
