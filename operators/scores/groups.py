"""Which optional columns of `tokens` a score needs, and whether a run kept them."""

from __future__ import annotations

import duckdb

from operators.score_cards import Score
from operators.scores.companions import Run
from schemas import CORE, FEATURE_GROUPS, TOKENS
from schemas.columns import PROMPT


class TokenGroups:
    """The column groups of one run's tokens. What its ledger does not say is looked up in its tokens, once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, run: Run) -> None:
        self._connection = connection
        self._run = run
        self._there: dict[str, bool] = {}

    def lacking(self, card: Score) -> tuple[str, ...]:
        """The groups that the score reads and the run has not."""
        read = card.reads.get(TOKENS.name, ())
        # Without a prompt every token belongs to the completion, so no score is without that column.
        needed = {c.group for c in TOKENS.columns if c.name in read} - {CORE, PROMPT, *card.optional}
        return tuple(group for group in TOKENS.groups if group in needed and not self._has(group))

    def _has(self, group: str) -> bool:
        if group in FEATURE_GROUPS and self._run.features is not None:
            return group in self._run.features
        if group not in self._there:
            any_kept = " or ".join(f'"{c.name}" is not null' for c in TOKENS.group(group))
            sql = f"select exists (select 1 from tokens where run_id = $run_id and ({any_kept}))"
            ((found,),) = self._connection.execute(sql, {"run_id": self._run.run_id}).fetchall()
            self._there[group] = bool(found)
        return self._there[group]
