"""JSON Lines, plain or compressed: one object a line, read line by line.

- Lines end in `\\n` (a `\\r` before it is white space to JSON); `row` is the 0-based line. Blank lines are no records,
  but they count as lines, so that `row` is the place an editor shows.
- A byte order mark at the start of the file is dropped.
- A line of invalid UTF-8 is one reject; its neighbours are read.
- `NaN`, `Infinity` and `-Infinity` are accepted, as Python and pandas write them: a stray one in a field nobody asked
  for should not cost a document. As text, id or label they are faults like any other number there.
- Values nested more than `MAX_DEPTH` deep are faults: how deep the parser itself can go depends on the caller's stack.
- Names are of top-level fields. The last of equal names wins, as in every common parser.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from typing import Any

from operators.readers.record import Fault, Record
from operators.readers.source import Source
from schemas.rejects import Reason

BOM = b"\xef\xbb\xbf"
MAX_DEPTH = 500
_WHITE_SPACE = b" \t\r"


def records(source: Source, *, max_line_bytes: int, skip: Container[int]) -> Iterator[Record]:
    """Every line that is not blank and whose row is not in `skip`. Holds a chunk and a line of up to `max_line_bytes`.

    Raises:
        UnreadableError, StorageError: as `Source.decoding`; the line during which the stream broke is not yielded.
    """
    for row, line in _lines(source, max_line_bytes):
        if row in skip:
            continue
        if line is None:
            yield Record(row, fault=Fault(Reason.DOCUMENT_TOO_LARGE, f"a line longer than {max_line_bytes} bytes"))
        elif line.strip(_WHITE_SPACE):
            yield _parse(row, line)


def _lines(source: Source, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """(row, line without its end); None for a line longer than `max_bytes`, which is read past and not held."""
    stream = source.decompressed()
    held = _HeldLine(max_bytes)
    row = 0
    while chunk := _chunk(source, stream, row):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            held.add(piece)
            yield row, _without_bom(held.take(), row)
            row += 1
        held.add(rest)
    if held:
        yield row, _without_bom(held.take(), row)


def _chunk(source: Source, stream: Any, row: int) -> bytes:
    with source.decoding(row):
        return bytes(stream.read(source.chunk_bytes))


def _without_bom(line: bytes | None, row: int) -> bytes | None:
    return line.removeprefix(BOM) if row == 0 and line is not None else line


class _HeldLine:
    """A line in pieces, forgotten as soon as it is longer than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = bytearray()
        self._too_long = False

    def __bool__(self) -> bool:
        return bool(self._bytes) or self._too_long

    def add(self, piece: bytes) -> None:
        if self._too_long or len(self._bytes) + len(piece) > self._max_bytes:
            self._too_long = True
            self._bytes.clear()
        else:
            self._bytes += piece

    def take(self) -> bytes | None:
        line = None if self._too_long else bytes(self._bytes)
        self._bytes.clear()
        self._too_long = False
        return line


_TOO_DEEP = Fault(Reason.BROKEN_JSON, f"nested more than {MAX_DEPTH} deep")


def _parse(row: int, line: bytes) -> Record:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        detail = f"{error.reason} at byte {error.start} of the line"
        return Record(row, fault=Fault(Reason.INVALID_UTF8, detail))
    except RecursionError:
        return Record(row, fault=_TOO_DEEP)
    except ValueError as error:  # also integers of more digits than Python converts
        return Record(row, fault=Fault(Reason.BROKEN_JSON, str(error)))
    if not isinstance(value, dict):
        detail = f"a {type(value).__name__}; every line must be an object with a text field"
        return Record(row, fault=Fault(Reason.NOT_AN_OBJECT, detail))
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        return Record(row, fault=_TOO_DEEP)
    return Record(row, value)


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether objects and lists within `value`, itself one of them, are nested more than `limit` deep."""
    level = [value]
    for _ in range(limit):
        inner = (child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent))
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return False
    return True
