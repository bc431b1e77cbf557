"""JSON Lines, plain or compressed: one object a line, read line by line.

- Lines end in `\\n` (a `\\r` before it is white space to JSON); `row` is the 0-based line. Blank lines are no records,
  but they count as lines, so that `row` is the place an editor shows.
- A byte order mark at the start of the file is dropped.
- A line of invalid UTF-8 is one reject; its neighbours are read.
- `NaN`, `Infinity` and `-Infinity` are accepted, as Python and pandas write them: a stray one in a field nobody asked
  for should not cost a document. As text, id or label they are faults like any other number there.
- Values nested more than `MAX_DEPTH` deep are faults: how deep the parser itself can go depends on the caller's stack.
- The last of equal names wins, as in every common parser.
- A file may be read in pieces: a piece holds the lines that begin in it, each to its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf
from typing import Any

from operators.readers.record import Fault, Record
from operators.readers.source import FILE_CHUNK_BYTES, Source
from schemas.rejects import Reason

BOM = b"\xef\xbb\xbf"
MAX_DEPTH = 500
_WHITE_SPACE = b" \t\r"


def records(
    source: Source, *, max_line_bytes: int, start: int = 0, stop: int | None = None, first_row: int = 0
) -> Iterator[Record]:
    """Every line that begins at a byte in [`start`, `stop`) and is not blank; `first_row`: the number of the first.

    Holds a chunk and a line of up to `max_line_bytes`. Of compressed files only the whole can be read.

    Raises:
        UnreadableError, StorageError: as `Source.decoding`; the line during which the stream broke is not yielded.
    """
    end = inf if stop is None else stop
    with source.decoding(first_row):
        begin = _first_line(source, start, end)
    if begin is None:
        return
    for row, line in enumerate(_lines(source, max_line_bytes, begin, end, first_row), first_row):
        if line is None:
            yield Record(row, fault=Fault(Reason.DOCUMENT_TOO_LARGE, f"a line longer than {max_line_bytes} bytes"))
        elif line.strip(_WHITE_SPACE):
            yield _parse(row, line)


def _first_line(source: Source, start: int, stop: float) -> int | None:
    """Where the first line begins that begins in [start, stop); None where none does.

    Reads no further than `stop`: of a line over many pieces, each but the first passes only its own part.
    """
    if start == 0:
        return 0
    position = start - 1
    source.seek(position)
    while position < stop - 1 and (chunk := source.read(FILE_CHUNK_BYTES)):
        found = chunk.find(b"\n")
        if found >= 0:
            begin = position + found + 1
            source.seek(begin)
            return begin if begin < stop else None
        position += len(chunk)
    return None


def _lines(source: Source, max_bytes: int, begin: int, stop: float, row: int) -> Iterator[bytes | None]:
    """Lines without their ends; None for a line longer than `max_bytes`, which is read past and not held."""
    stream = source.decompressed()
    held = _HeldLine(max_bytes)
    at_top, position = begin == 0, begin
    while chunk := _chunk(source, stream, row):
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            held.add(part)
            yield _without_bom(held.take(), at_top)
            at_top, row = False, row + 1
            position += len(part) + 1
            if position >= stop:
                return
        held.add(rest)
        position += len(rest)
    if held:
        yield _without_bom(held.take(), at_top)


def _chunk(source: Source, stream: Any, row: int) -> bytes:
    with source.decoding(row):
        return bytes(stream.read(source.chunk_bytes))


def _without_bom(line: bytes | None, at_top: bool) -> bytes | None:
    return line.removeprefix(BOM) if at_top and line is not None else line


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
