"""How many rejects end a run: `--max-rejects`, a count or a share of what is read."""

from __future__ import annotations

import re
from dataclasses import dataclass

MIN_ROWS = 1000  # below so many records a share of rejects is not judged before the end
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class RejectLimit:
    """How many rejects a run may have: a count, or a share of the records read, and of the files."""

    count: int | None = None
    share: float | None = None

    def allows(self, rejects: int, rows: int, *, finished: bool) -> bool:
        """A share of a run under way is taken of at least `MIN_ROWS` records: its first bad record proves nothing."""
        if self.count is not None:
            return rejects <= self.count
        return rejects <= (self.share or 0.0) * (rows if finished else max(rows, MIN_ROWS))

    def allows_files(self, unreadable: int, files: int) -> bool:
        """A file that cannot be read is one reject for all its records: a share of records would not notice."""
        return self.share is None or unreadable <= self.share * files

    def __str__(self) -> str:
        return f"{self.count:,}" if self.count is not None else f"{100 * (self.share or 0.0):g}%"


def parse_max_rejects(value: object) -> RejectLimit:
    """`100` is a count; `1%` is a share.

    Raises:
        ValueError: anything else; a bare fraction could mean either.
    """
    text = str(value).strip()
    if text.isdecimal() and not isinstance(value, bool):
        return RejectLimit(count=int(text))
    match = _SHARE.fullmatch(text)
    if match and float(match[1]) <= 100:
        return RejectLimit(share=float(match[1]) / 100)
    raise ValueError(f"{text!r}: give a count such as 100, or a share such as 1%")
