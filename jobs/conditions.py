"""A condition in SQL on documents, as a flag gives it: which documents of a run it holds for.

It comes from a stranger, so it is read through `operators.query`, which lets it read the lake and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operators.evaluation.documents import Documents, read_documents
from operators.query import QueryError
from pipelines.config import ConfigError


def documents_where(
    lake: str, run_id: str, condition: str, flag: str, storage_options: Mapping[str, Any] | None
) -> Documents:
    """Documents of a run for which a condition on the columns of `documents` holds; NULL does not. Labels are 1.

    Raises:
        ConfigError: it gives something else than true, false and NULL; `flag` is named.
        QueryError: DuckDB refused it or failed on it; `flag` is named.
    """
    label = f"coalesce((\n{condition}\n), false)"
    try:
        every = read_documents(lake, run_id, label=label, storage_options=storage_options)
    except QueryError as error:
        raise QueryError(f"{flag} {condition!r}: {error}") from None
    except ValueError as error:
        if type(error) is not ValueError:  # one of ours, with its own meaning
            raise
        raise ConfigError(f"{flag} {condition!r} is no condition: {error}") from None
    return every.where(every.labels == 1)
