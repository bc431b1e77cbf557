"""What can be wrong with a lake: kinds of faults, and where each was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.lake import Lake, Part
from operators.storage.object_error import ObjectError
from operators.storage.remote import redact

# What Parquet and Arrow raise on bytes that are not what they should be; ArrowInvalid is a ValueError.
BROKEN = (OSError, ValueError, pa.ArrowException)

Int64 = npt.NDArray[np.int64]


class Kind(StrEnum):
    """What is wrong, in one word."""

    LEDGER = "ledger"  # run.json missing or broken
    FOREIGN = "foreign"  # a name that does not fit the layout
    TEMPORARY = "temporary"  # left by a write that did not finish
    ORPHAN = "orphan"  # a tokens part without a receipt
    TWIN = "twin"  # a receipt without its tokens part
    UNREADABLE = "unreadable"
    SCHEMA = "schema"
    VALUE = "value"  # out of range, NULL in a column declared NOT NULL, NaN
    NAME = "name"  # a part that is not named by the digest of what it holds
    ORDER = "order"  # rows out of order, or twice
    DUPLICATE = "duplicate"  # a doc_id in two parts
    RECORD = "record"  # an input record with two verdicts
    IDENTITY = "identity"  # doc_id is not the hash of key
    TEXT = "text"  # counts or digest disagree with the text kept
    COUNT = "count"  # tokens and documents disagree
    NULLS = "nulls"  # statistics that are, or are not, NULL where they should be
    POSITION = "position"
    SPAN = "span"  # token spans do not tile the text
    PROMPT = "prompt"  # what is prompt disagrees with the spans or the text
    COMMENT = "comment"  # what is comment disagrees with the spans
    ROLLUP = "rollup"  # what a documents part keeps of its tokens is not what they give
    STALE = "stale"  # scores of a run or of counts as they were before
    REASON = "reason"
    TOTAL = "total"


@dataclass(frozen=True)
class Fault:
    """One fault of one run; `where` is a path relative to the lake's root."""

    kind: Kind
    run_id: str
    where: str
    message: str

    def __str__(self) -> str:
        # Any name can lie in a bucket, control codes for a terminal included.
        where, message = (text if text.isprintable() else repr(text) for text in (self.where, self.message))
        return f"{where}: {self.kind}: {message}"


Finding = tuple[Kind, str]


def placed(lake: Lake, part: Part, findings: Iterable[Finding]) -> Iterator[Fault]:
    """Findings of a part as faults; that it cannot be read is one more."""
    yield from placed_at(lake, part.path, findings, part.run_id)


def placed_at(
    lake: Lake, path: str, findings: Iterable[Finding], run_id: str = "", missing: str | None = None
) -> Iterator[Fault]:
    """Findings of the object at a path as faults; that it cannot be read is one more. `missing`: what is said of one
    that is not there."""
    try:
        for kind, message in findings:
            yield Fault(kind, run_id, path, message)
    except ObjectError:
        raise  # the storage failed: that says nothing about the object
    except BROKEN as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            yield Fault(Kind.TWIN, run_id, path, missing)
            return
        message = redact(f"{type(error).__name__}: {error}", lake.storage_options)
        yield Fault(Kind.UNREADABLE, run_id, path, message)


def wrong_documents(kind: Kind, message: str, doc_ids: Int64) -> Iterator[Finding]:
    """One finding for all documents that share a fault."""
    unique = np.unique(doc_ids)
    if len(unique):
        yield kind, f"{message} in {len(unique)} documents, first doc_id {unique[0]}"
