"""Judges records: each leaves as a document or as a reject with the first fault found, in this order:

format of the record -> key -> text -> prompt -> label -> domain and attributes -> size -> key used before
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from operators.readers.compose import Composer
from operators.readers.options import MAX_KEY_BYTES, MAX_RECORD_BYTES, ReadOptions
from operators.readers.record import Record, RejectedError, clip, find, listed
from operators.readers.words import as_json, decoded, in_words, n_bytes, shown
from schemas.rejects import Reason

Repeats = Mapping[tuple[str, int], tuple[Reason, str]]


class Row(NamedTuple):
    """One row of `flow.READ`."""

    source: str
    row: int
    key: str | None = None
    text: str | None = None
    prompt_bytes: int | None = None
    label: int | None = None
    domain: str | None = None
    attributes: list[tuple[str, str]] | None = None
    reason: str | None = None
    detail: str | None = None


class Judge:
    """Maps the records of one shard to rows.

    `repeats`: the records, by shard and row, whose key an earlier record has, with what to say of them.
    """

    def __init__(self, uri: str, options: ReadOptions, repeats: Repeats) -> None:
        self._uri = uri
        self._options = options
        self._repeats = repeats
        self._compose = Composer(options)

    def __call__(self, record: Record) -> tuple[Row, int]:
        """The row, and the bytes of text, domain and attributes it holds."""
        key = None
        try:
            key = self._key(record)
            return self._document(record, key)
        except RejectedError as fault:
            known_key = key if record.row >= 0 else None
            return Row(self._uri, record.row, known_key, reason=fault.reason.value, detail=clip(fault.detail)), 0

    def _key(self, record: Record) -> str:
        column = self._options.id_column
        return generated_key(self._uri, record.row) if column is None else user_key(record.checked(), column)

    def _document(self, record: Record, key: str) -> tuple[Row, int]:
        options, fields = self._options, record.checked()
        text, size, prompt_bytes = self._compose(fields)
        label = _label(_optional(fields, options.label_column))
        domain = _domain(_optional(fields, options.domain_column))
        attributes = _attributes(fields, options.keep_columns) if options.keep_columns else None
        size += n_bytes(domain or "") + sum(n_bytes(name) + n_bytes(value) for name, value in attributes or ())
        if size > MAX_RECORD_BYTES:
            raise RejectedError(Reason.DOCUMENT_TOO_LARGE, f"text and attributes take {size} bytes")
        if (repeat := self._repeats.get((self._uri, record.row))) is not None:
            raise RejectedError(*repeat)
        return Row(self._uri, record.row, key, text, prompt_bytes, label, domain, attributes), size


def generated_key(uri: str, row: int) -> str:
    """The key of a record without an id."""
    return f"{uri}#{row}"


def user_key(fields: Mapping[str, Any], column: str) -> str:
    """The key of a record that has an id.

    Raises:
        RejectedError: `INVALID_KEY`: there is none, or it is no string, integer or UUID of 1 to 4096 bytes.
    """
    try:
        value = find(fields, column)
    except KeyError:
        detail = f"no field {column!r}; the record has: {listed(list(fields))}"
        raise RejectedError(Reason.INVALID_KEY, detail) from None
    if isinstance(value, bool) or not isinstance(value, int | str | bytes):
        raise RejectedError(Reason.INVALID_KEY, f"{column!r} is {shown(value)}, expected a string or an integer")
    try:
        key = str(value) if isinstance(value, int) else decoded(value, column)
    except RejectedError as fault:
        raise RejectedError(Reason.INVALID_KEY, fault.detail) from None
    if not 1 <= n_bytes(key) <= MAX_KEY_BYTES:
        detail = f"{column!r} takes {n_bytes(key)} bytes, expected 1 to {MAX_KEY_BYTES}"
        raise RejectedError(Reason.INVALID_KEY, detail)
    return key


def _optional(fields: Mapping[str, Any], column: str | None) -> Any:
    """The value of a column; None also where the record has none, or none is asked for."""
    try:
        return None if column is None else find(fields, column)
    except KeyError:
        return None


def _label(value: Any) -> int | None:
    """0 or 1 from an integer, boolean, integral float or decimal, or the strings "0" and "1"; None from null."""
    if value is None:
        return None
    is_number = isinstance(value, int | float | Decimal) and value in (0, 1)
    if is_number or (isinstance(value, str | bytes) and value in ("0", "1", b"0", b"1")):
        return int(value)
    raise RejectedError(Reason.INVALID_LABEL, f"label is {shown(value)}, expected 0, 1 or null")


def _domain(value: Any) -> str | None:
    """Strings as they are, other values as Python prints them."""
    return None if value is None else in_words(value, "domain", str)


def _attributes(fields: Mapping[str, Any], columns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Strings as they are, other values as compact JSON; nulls and absent fields are left out."""
    values = ((name, _optional(fields, name)) for name in columns)
    return [(name, in_words(value, name, as_json)) for name, value in values if value is not None]
