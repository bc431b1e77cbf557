"""Tables that are kept under a name of the user's rather than by run: what belongs together, and how it may be called.

<lake>/<table>/<partition>=<name>/<32 hex digits>.parquet      and job.json beside the first table of a kind
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.columns import Table
from schemas.comparisons import COMPARISON_TABLES
from schemas.mixtures import MIXTURE_TABLES
from schemas.nights import NIGHT_LIST_TABLES, NIGHT_TABLES
from schemas.runs import check_run_id
from schemas.tokenizer_statistics import TOKENIZER_TABLES


@dataclass(frozen=True)
class ResultKind:
    """Tables that one command writes under one name; the first of them is always written.

    `name`: of the partition; `verb`: what makes them, as users call it.
    """

    name: str
    verb: str
    tables: tuple[Table, ...]

    def check(self, name: str) -> str:
        """Return `name` if a result can be called so: what a run can be called.

        Raises:
            ValueError: anything but letters, digits, `.`, `_` and `-`, starting with a letter or digit, 128 at most.
        """
        return check_run_id(name, self.name)


MIXTURE = ResultKind("mixture", "assay mixture", MIXTURE_TABLES)
COMPARISON = ResultKind("comparison", "assay compare", COMPARISON_TABLES)
PROFILE = ResultKind("profile", "assay tokenizers", TOKENIZER_TABLES)

NIGHTS = ResultKind("night", "assay nightly", NIGHT_TABLES)
NIGHT_LISTS = ResultKind("night", "assay nightly", NIGHT_LIST_TABLES)

RESULT_KINDS = (MIXTURE, COMPARISON, PROFILE, NIGHTS, NIGHT_LISTS)
