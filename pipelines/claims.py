"""Finds the document that kills its worker: who begins a piece of work says so, and says when it is over.

    begin(block) ... killed                 begin(block) -> 1: tried again as it was
    begin(block) ... killed                 begin(block) -> 2: now document by document
                  begin(document) ... killed, twice         -> that document is a reject, its block goes on

One death is not held against a document, since machines die for reasons of their own; an exception is no death at all.
Nor is the end of a machine that took its workers along, as far as that is known: see `ray_claims`.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa

from operators.lake import Lake, progress_folder
from schemas.rejects import Reason

log = logging.getLogger(__name__)

DEATHS_OF_BLOCK, DEATHS_OF_DOCUMENT, MAX_DEATHS = 2, 2, 50
DEATHS_OF_LOADING = 3
_LOST_WITH_THE_DOCUMENT = ("text", "prompt_bytes", "token_id", "byte_start", "n_bytes")


class WorkerDiesError(RuntimeError):
    """A block killed so many workers that no single document can be the cause."""


class Claims(Protocol):
    """Counts, by name, how often work was begun and not ended."""

    def begin(self, name: str) -> int:
        """Begin; returns how many earlier beginnings of this name were never ended."""

    def certain(self, name: str) -> int:
        """That number again, for a name that was begun just now, and final: asked before something is given up."""

    def end(self, name: str) -> None: ...


class MemoryClaims:
    """Claims of one process."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        self.begun[name] += 1
        return self.begun[name] - 1

    def certain(self, name: str) -> int:
        return self.begun[name] - 1

    def end(self, name: str) -> None:
        """A death in a part of `name` (`name/...`) is settled with the whole."""
        for known in [k for k in self.begun if k == name or k.startswith(f"{name}/")]:
            del self.begun[known]


class StoredClaims(MemoryClaims):
    """Claims that outlive their process: kept beside the run's journal, one small object written at each beginning.

    `of`: what the run is made of; claims on anything else do not count.
    """

    def __init__(self, lake: Lake, run_id: str, of: str) -> None:
        super().__init__()
        self.lake, self.path, self.of = lake, f"{progress_folder(run_id)}/claims.json", of
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            stored = json.loads(lake.storage.read(self.path))
            if stored["of"] == of:
                self.begun.update({str(name): int(times) for name, times in stored["begun"].items()})

    def begin(self, name: str) -> int:
        before = super().begin(name)
        self.lake.storage.write(self.path, json.dumps({"of": self.of, "begun": self.begun}).encode())
        return before

    def clear(self) -> None:
        """Forget everything: the process ends of its own accord."""
        self.lake.storage.delete(self.path)


Step = Callable[[pa.Table], pa.Table]


@contextlib.contextmanager
def counted(name: str, claims: Claims, most: int = MAX_DEATHS) -> Iterator[int]:
    """Around work that may be killed: yields how often it was. An engine that starts it anew for ever ends here.

    Raises:
        WorkerDiesError: too often.
    """
    deaths = claims.begin(name)
    try:
        if deaths >= most and (deaths := claims.certain(name)) >= most:
            raise WorkerDiesError(f"{name} killed its worker {deaths} times: is there enough memory?")
        yield deaths
    finally:
        claims.end(name)


def guarded(step: Step, block: pa.Table, name: str, claims: Claims) -> pa.Table:
    """`step(block)`; where the block has killed workers before, document by document, without those that kill.

    Raises:
        WorkerDiesError: deaths go on although single documents were left out.
    """
    with counted(name, claims) as deaths:
        if deaths < DEATHS_OF_BLOCK or not len(block):
            return step(block)
        log.warning("block %s killed its worker %d times: trying its documents one by one", name, deaths)
        return pa.concat_tables(list(_one_by_one(step, block, name, claims)))


def _one_by_one(step: Step, block: pa.Table, name: str, claims: Claims) -> Iterator[pa.Table]:
    for place in range(len(block)):
        row = block.slice(place, 1)
        if row["reason"][0].is_valid:
            yield step(row)
            continue
        part = f"{name}/{place}"
        deaths = claims.begin(part)
        if deaths >= DEATHS_OF_DOCUMENT and (deaths := claims.certain(part)) >= DEATHS_OF_DOCUMENT:
            yield step(rejected(row, deaths))  # not ended: should another one kill, this one is still known
            continue
        done = step(row)
        claims.end(part)
        yield done


def rejected(row: pa.Table, deaths: int) -> pa.Table:
    """A row of the flow as a reject for having killed its worker: what it held of the document becomes NULL."""
    changes = {
        "reason": Reason.KILLED_WORKER.value,
        "detail": f"its worker died {deaths} times, the last ones with this document alone",
    }
    for field in row.schema:
        if field.name in changes or field.name in _LOST_WITH_THE_DOCUMENT:
            value = pa.array([changes.get(field.name)], field.type)
            row = row.set_column(row.schema.get_field_index(field.name), field, value)
    return row
