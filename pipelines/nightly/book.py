"""The nights of one job as the lake keeps them: which are good, which is under way, what each of them was.

<lake>/nights/<name>/<date>.open.parquet     a night under way: what it found, and (in the metadata) what it is
                     <date>.html, .md        its summary for readers
                     <date>.json             its summary, written last: the receipt of a good night
                     lock/                   who is at it (`lock`)
<lake>/night_shards/night=<name>-<date>/     what became of each shard (`shards`)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import NIGHTS_FOLDER, Lake
from operators.results import result_folder, result_job_path, result_path
from operators.storage import is_temporary
from pipelines.journal import write_table
from pipelines.nightly.night import Night, NightError, night_id
from pipelines.nightly.shards import Found, plan_table, read_plan
from schemas import Table
from schemas.results import NIGHT_LISTS, NIGHTS, ResultKind

_GOOD = re.compile(r"(\d{4}-\d\d-\d\d)\.json")
_OPEN = re.compile(r"(\d{4}-\d\d-\d\d)\.open\.parquet")
_READERS = 8


@dataclass(frozen=True)
class Book:
    """The nights called `name`."""

    lake: Lake
    name: str

    def good(self) -> list[date]:
        """The good nights, oldest first."""
        return self._dates(_GOOD)

    def under_way(self) -> list[date]:
        """Nights that were begun and have not been cleared away, oldest first."""
        return self._dates(_OPEN)

    def summary(self, day: date) -> dict[str, Any]:
        """The summary of a good night.

        Raises:
            NightError: it is none.
        """
        path = self.path(day, "json")
        try:
            content = json.loads(self.lake.storage.read(path))
            if not isinstance(content, dict) or not isinstance(content.get("exit_code"), int):
                raise ValueError("an object with an exit code was expected")
            Night.of(content["night"])
        except (ValueError, KeyError) as error:
            raise NightError(
                f"{self.lake.storage.uri(path)} is no summary of a night: {error}; nights write it whole, so something "
                "else has damaged it: put back what your backup has of it"
            ) from None
        return content

    def night(self, day: date) -> Night:
        """A good night.

        Raises:
            NightError: its summary is none.
        """
        return Night.of(self.summary(day)["night"])

    def nights(self) -> list[Night]:
        """Every good night, oldest first."""
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self.night, self.good()))

    def begin(self, night: Night, found: Sequence[Found]) -> None:
        """Say that a night is under way, and what it is to do; an attempt after a crash does the same."""
        metadata = {"night": json.dumps(night.record(), allow_nan=False)}
        write_table(
            self.lake, self.path(night.date, "open.parquet"), plan_table(found).replace_schema_metadata(metadata)
        )

    def begun(self, day: date) -> tuple[Night, list[Found]]:
        """What `begin` wrote.

        Raises:
            NightError: it cannot be read.
        """
        path = self.path(day, "open.parquet")
        try:
            data = self.lake.storage.read(path)
            table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
            return Night.of(json.loads(table.schema.metadata[b"night"])), read_plan(table)
        except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise NightError(
                f"{self.lake.storage.uri(path)} is damaged ({type(error).__name__}): `--abandon {day}` gives up that "
                "night, and the next one scores what it was to score"
            ) from None

    def finish(self, night: Night, html: str, markdown: str, summary: Mapping[str, Any]) -> None:
        """Write a summary; with its last object the night is good."""
        text = json.dumps(summary, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        for suffix, content in (("html", html), ("md", markdown), ("json", f"{text}\n")):
            self.lake.storage.write(self.path(night.date, suffix), content.encode("utf-8", "replace"))

    def clear(self, day: date) -> None:
        """Forget that a night is, or was, under way."""
        self.lake.storage.delete(self.path(day, "open.parquet"))

    def sweep(self, day: date) -> None:
        """Remove what writes of a night left on a disk that were cut short. Only who holds the lock may."""
        if not self.lake.storage.is_local:
            return
        for folder in (self.folder, *(folder for _, _, folder in self._results(day))):
            names = filter(is_temporary, self.lake.storage.list(folder))
            self.lake.delete(f"{folder}/{name}" for name in names)
        self.lake.delete(self.lake.temporaries(night_id(self.name, day)))

    def give_up(self, day: date) -> None:
        """Take back all that a night under way has written, and its run; the next one finds its shards as if new."""
        self.sweep(day)
        name, storage = night_id(self.name, day), self.lake.storage
        for kind, table, folder in self._results(day):
            storage.delete(result_job_path(kind, name))
            storage.delete(result_path(kind, table, name))
            storage.delete_empty_folder(folder)
        for suffix in ("html", "md"):
            storage.delete(self.path(day, suffix))
        self.lake.remove_run(name)
        self.clear(day)

    def _results(self, day: date) -> Iterator[tuple[ResultKind, Table, str]]:
        """The tables that a night keeps, and where."""
        for kind in (NIGHTS, NIGHT_LISTS):
            for table in kind.tables:
                yield kind, table, result_folder(kind, table, night_id(self.name, day))

    @property
    def folder(self) -> str:
        """Where the nights are kept, relative to the lake's root."""
        return f"{NIGHTS_FOLDER}/{self.name}"

    def path(self, day: date, suffix: str) -> str:
        """Where an object of a night lies, relative to the lake's root."""
        return f"{self.folder}/{day.isoformat()}.{suffix}"

    def _dates(self, pattern: re.Pattern[str]) -> list[date]:
        names = self.lake.storage.list(self.folder)
        matches = (pattern.fullmatch(name) for name in names)
        return sorted(day for match in matches if match and (day := _date(match[1])) is not None)


def _date(text: str) -> date | None:
    """The date, None where there is no such day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
