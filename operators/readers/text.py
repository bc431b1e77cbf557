"""Text files, plain or compressed: the whole file is one document, row 0.

Bytes are kept as they are, line ends included; only a byte order mark at the start is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

from operators.readers.jsonl import BOM
from operators.readers.record import Record
from operators.readers.source import Source

NO_PROMPT = ""  # the field for the prompt that a text file does not have


def records(source: Source, *, column: str, max_bytes: int) -> Iterator[Record]:
    """The file's bytes as field `column` of row 0, beside a null `NO_PROMPT`.

    Reads on only until it is clear that `max_bytes` are exceeded.

    Raises:
        UnreadableError, StorageError: as `Source.decoding`.
    """
    stream = source.decompressed()
    data = bytearray()
    with source.decoding(0):
        while len(data) <= max_bytes + len(BOM) and (chunk := stream.read(source.chunk_bytes)):
            data += chunk
    yield Record(0, {NO_PROMPT: None, column: bytes(data).removeprefix(BOM)})
