"""Arrow's stream of messages, checked one by one before Arrow sees them.

    file:    "ARROW1" 0 0 | stream | footer | length of the footer | "ARROW1"
    stream:  schema, dictionaries and record batches, end marker
    message: ff ff ff ff | length of the metadata | metadata (a flatbuffer) | body (buffers, perhaps compressed)

A file is read as the stream it holds, front to back: one way for both formats, without random access. What Arrow does
not bound is bounded here: the body that a message declares and what its compressed buffers declare to unpack to.
What Arrow does not report is reported: a stream that stops without its end marker, which a cut download or a killed
writer leaves behind, and bytes after the end.

Layouts: https://arrow.apache.org/docs/format/Columnar.html, Message.fbs and Schema.fbs of Arrow.
"""

from __future__ import annotations

import io
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from operators.readers.source import Source

FILE_MAGIC = b"ARROW1"
MAX_METADATA_BYTES = 64 << 20
MAX_BODY_BYTES = 1 << 30  # of one message, stored and unpacked; of all dictionaries together
_CONTINUATION = b"\xff\xff\xff\xff"
_END_MARKER = _CONTINUATION + bytes(4)
_ALIGNMENT = 64
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # of the union MessageHeader


class Messages(io.RawIOBase):
    """The stream within `source` as a file for `pa.ipc.open_stream`.

    Raises:
        pa.ArrowInvalid: on reading, what is wrong with the stream.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._segments: deque[bytes] = deque()
        self._dictionaries: dict[int, int] = {}  # id -> bytes
        self._ended = False
        self._extent = _extent(source)
        self._position, self._end = self._extent.start, self._extent.end
        source.seek(self._position)

    def readable(self) -> bool:
        return True

    def schema(self) -> pa.Schema:
        """The schema, which remains to be read."""
        self._load()
        return pa.ipc.read_schema(pa.py_buffer(b"".join(self._segments)))

    def read(self, size: int = -1, /) -> bytes:
        # Arrow asks for a message in the segments it is held in: no copies of large bodies.
        parts: list[bytes] = []
        while size > 0 and (self._segments or self._load()):
            segment = self._segments.popleft()
            if len(segment) > size:
                self._segments.appendleft(segment[size:])
                segment = segment[:size]
            size -= len(segment)
            parts.append(segment)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _load(self) -> bool:
        """Take in the next message; False after the last."""
        if self._ended:
            return False
        length = self._metadata_length()
        if length == 0:
            self._finish()
            self._segments.append(_END_MARKER)
            return True
        if not 0 < length <= MAX_METADATA_BYTES:
            raise pa.ArrowInvalid(f"a message at byte {self._position} declares {length} bytes of metadata")
        metadata = self._take(length)
        message = parse_message(metadata)
        if not 0 <= message.body_bytes <= MAX_BODY_BYTES:
            raise pa.ArrowInvalid(f"a message declares {message.body_bytes} bytes, more than {MAX_BODY_BYTES} in one")
        body = self._take(message.body_bytes)
        self._check_unpacked(message, body)
        self._segments += (_CONTINUATION, struct.pack("<i", length), metadata, body)
        return True

    def _metadata_length(self) -> int:
        """0 at the end marker, and where a file's messages end without one."""
        if self._position == self._end and self._extent.has_footer:
            return 0
        word = self._take(4)
        if word == _CONTINUATION:  # before Arrow 0.15 the length came first
            word = self._take(4)
        return int(struct.unpack("<i", word)[0])

    def _take(self, size: int) -> bytes:
        if size > self._end - self._position:
            raise pa.ArrowInvalid(self._extent.cut)
        data = self._source.read(size)
        if len(data) != size:
            raise pa.ArrowInvalid(f"{len(data)} of {size} bytes at {self._position}: the file became shorter")
        self._position += size
        return data

    def _check_unpacked(self, message: Message, body: bytes) -> None:
        unpacked = sum(_unpacked_bytes(body, *buffer) for buffer in message.compressed)
        if unpacked > MAX_BODY_BYTES:
            raise pa.ArrowInvalid(f"a message unpacks to {unpacked} bytes, more than {MAX_BODY_BYTES} in one")
        if message.dictionary is not None:
            kept = self._dictionaries.get(message.dictionary, 0) if message.is_delta else 0
            self._dictionaries[message.dictionary] = kept + max(unpacked, len(body))
            if sum(self._dictionaries.values()) > MAX_BODY_BYTES:
                raise pa.ArrowInvalid(f"the dictionaries take more than {MAX_BODY_BYTES} bytes")

    def _finish(self) -> None:
        self._ended = True
        left = self._end - self._position
        if self._extent.is_file and not self._extent.has_footer:
            raise pa.ArrowInvalid(self._extent.cut)
        if left >= _ALIGNMENT:
            raise pa.ArrowInvalid(f"{left} bytes follow the end marker at byte {self._position}")


@dataclass(frozen=True)
class _Extent:
    """Where the messages are: bytes [`start`, `end`); `cut`: what it means if they go on beyond."""

    start: int
    end: int
    cut: str
    is_file: bool = False
    has_footer: bool = False


def _extent(source: Source) -> _Extent:
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    head = source.read(8)
    if head.startswith(b"FEA1"):
        raise pa.ArrowInvalid("Feather version 1: write the file again with pyarrow.feather, which writes version 2")
    if not head.startswith(FILE_MAGIC):
        return _Extent(0, size, "the stream ends without its end marker: it was cut, or never closed")
    if size >= 18:
        source.seek(size - 10)
        tail = source.read(10)
        footer = int.from_bytes(tail[:4], "little")
        if tail[4:] == FILE_MAGIC and footer <= size - 18:
            return _Extent(8, size - 10 - footer, "the messages run into the footer", True, True)
    return _Extent(8, size, "the file does not end as an Arrow file does: it was cut", True)


@dataclass(frozen=True)
class Message:
    """`compressed`: (offset, length) in the body of the buffers, if they are compressed; `dictionary`: id of the one
    held."""

    body_bytes: int
    compressed: tuple[tuple[int, int], ...] = ()
    dictionary: int | None = None
    is_delta: bool = False


def parse_message(metadata: bytes) -> Message:
    """What a message asks for, from its flatbuffer.

    Raises:
        pa.ArrowInvalid: it points outside itself.
    """
    try:
        return _parse(metadata)
    except struct.error as error:
        raise pa.ArrowInvalid(f"the metadata of a message is damaged: {error}") from error


def _parse(metadata: bytes) -> Message:
    message = _Table(metadata, _number("<I", metadata, 0))
    kind, body_bytes = message.number(1, "<B"), message.number(3, "<q")
    header = message.table(2)
    if header is None or kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return Message(body_bytes)
    if kind == _RECORD_BATCH:
        return Message(body_bytes, tuple(_compressed(header)))
    data = header.table(1)
    compressed = () if data is None else tuple(_compressed(data))
    return Message(body_bytes, compressed, header.number(0, "<q"), bool(header.number(2, "<B")))


def _compressed(batch: _Table) -> Iterator[tuple[int, int]]:
    if batch.table(3) is not None:
        yield from batch.structs(2, "<qq")


def _unpacked_bytes(body: bytes, offset: int, length: int) -> int:
    """A compressed buffer begins with the length it unpacks to, -1 where it was left as it is."""
    if not 0 <= offset <= len(body) - 8 or length < 8:
        return 0  # empty, or outside the body, which Arrow refuses
    declared = int(struct.unpack_from("<q", body, offset)[0])
    return length if declared < 0 else declared


class _Table:
    """A table of a flatbuffer: fields by number, through the table of their offsets."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._offsets = at - _number("<i", data, at)
        self._offsets_bytes = _number("<H", data, self._offsets)

    def number(self, field: int, form: str) -> int:
        at = self._place(field)
        return 0 if at is None else _number(form, self._data, at)

    def table(self, field: int) -> _Table | None:
        at = self._place(field)
        return None if at is None else _Table(self._data, at + _number("<I", self._data, at))

    def structs(self, field: int, form: str) -> Iterator[tuple[int, int]]:
        at = self._place(field)
        if at is None:
            return
        at += _number("<I", self._data, at)
        count = _number("<I", self._data, at)
        for i in range(count):
            yield struct.unpack_from(form, self._data, at + 4 + i * struct.calcsize(form))

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = _number("<H", self._data, self._offsets + slot) if slot < self._offsets_bytes else 0
        return self._at + offset if offset else None


def _number(form: str, data: bytes, at: int) -> int:
    if at < 0:  # which `struct` would count from the end
        raise struct.error(f"a reference to byte {at}")
    return int(struct.unpack_from(form, data, at)[0])
