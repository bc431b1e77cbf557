"""Where every nightly job of a lake stands: its last good night, and the one that is under way or broke off."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from operators.lake import NIGHTS_FOLDER, Lake, is_run_id
from pipelines.nightly.book import Book
from pipelines.nightly.night import night_id


@dataclass(frozen=True)
class JobStatus:
    """`date`: of the last good night of the job called `name`; `open`: of the one that was begun and is not good."""

    name: str
    date: dt.date | None
    open: dt.date | None

    @property
    def open_run(self) -> str | None:
        """What the run of the open night is called, if it has one."""
        return None if self.open is None else night_id(self.name, self.open)

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        days = {"date": self.date, "open": self.open}
        return {"name": self.name, **{name: day.isoformat() if day else None for name, day in days.items()}}


def last_nights(lake: Lake) -> list[JobStatus]:
    """Every nightly job, by name."""
    folders = [name.removesuffix("/") for name in lake.storage.list(NIGHTS_FOLDER) if name.endswith("/")]
    return [_job(Book(lake, name)) for name in folders if is_run_id(name)]


def _job(book: Book) -> JobStatus:
    good = book.good()
    begun = [day for day in book.under_way() if day not in good]  # what a good night left is cleared by the next one
    return JobStatus(book.name, max(good, default=None), max(begun, default=None))
