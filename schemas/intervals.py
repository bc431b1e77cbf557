"""Columns that say how sure a published number is: its interval, the level of it, and what it was drawn from."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column

CONFIDENCE = Column("confidence", pa.float64(), "level of the intervals", nullable=True, minimum=0, maximum=1)


def interval(name: str, *, minimum: float | None = None, maximum: float | None = None) -> tuple[Column, Column]:
    """The lower and the upper end of an interval for the column `name`; NULL where there is none."""
    ends = (("low", "lower"), ("high", "upper"))
    low, high = (
        Column(
            f"{name}_{end}",
            pa.float64(),
            f"{word} end of the interval of {name}",
            nullable=True,
            minimum=minimum,
            maximum=maximum,
        )
        for end, word in ends
    )
    return low, high
