"""Judges records: each leaves as a document or as a reject with the first fault found, in this order:

format of the record -> key -> text -> label -> domain and attributes -> size -> key used before
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from operators.identity import KeySet
from operators.readers.options import MAX_KEY_BYTES, MAX_RECORD_BYTES, ReadOptions
from operators.readers.record import Printed, Record, RejectedError, Undecodable, clip, listed
from schemas.rejects import Reason


class Row(NamedTuple):
    """One row of `flow.READ`."""

    source: str
    row: int
    key: str | None = None
    text: str | None = None
    label: int | None = None
    domain: str | None = None
    attributes: list[tuple[str, str]] | None = None
    reason: str | None = None
    detail: str | None = None


class Judge:
    """Maps the records of one shard, given in row order, to rows. Remembers which ids its documents have used."""

    def __init__(self, uri: str, options: ReadOptions) -> None:
        self._uri = uri
        self._options = options
        self._keys = KeySet()

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
        return f"{self._uri}#{record.row}" if column is None else _user_key(record.checked(), column)

    def _document(self, record: Record, key: str) -> tuple[Row, int]:
        options, fields = self._options, record.checked()
        text, n_bytes = _text(fields, options.text_column, options.document_limit)
        label = _label(fields.get(options.label_column)) if options.label_column else None
        domain = _domain(fields.get(options.domain_column)) if options.domain_column else None
        attributes = _attributes(fields, options.keep_columns) if options.keep_columns else None
        n_bytes += _n_bytes(domain or "") + sum(_n_bytes(name) + _n_bytes(value) for name, value in attributes or ())
        if n_bytes > MAX_RECORD_BYTES:
            raise RejectedError(Reason.DOCUMENT_TOO_LARGE, f"text and attributes take {n_bytes} bytes")
        if options.id_column is not None:
            self._claim(key)
        return Row(self._uri, record.row, key, text, label, domain, attributes), n_bytes

    def _claim(self, key: str) -> None:
        """Only documents claim their key: a record rejected for another fault does not stand in a later one's way."""
        reason = self._keys.add(key)
        if reason is Reason.DUPLICATE_KEY:
            raise RejectedError(reason, "an earlier document of this shard has this key (the same 64-bit hash)")
        if reason is not None:
            raise RejectedError(reason, "an earlier document of this shard has the same doc_id under another key")


def _user_key(fields: Mapping[str, Any], column: str) -> str:
    if column not in fields:
        raise RejectedError(Reason.INVALID_KEY, f"no field {column!r}; the record has: {listed(list(fields))}")
    value = fields[column]
    if isinstance(value, bool) or not isinstance(value, int | str | bytes):
        raise RejectedError(Reason.INVALID_KEY, f"{column!r} is {_shown(value)}, expected a string or an integer")
    try:
        key = str(value) if isinstance(value, int) else _decoded(value, column)
    except RejectedError as fault:
        raise RejectedError(Reason.INVALID_KEY, fault.detail) from None
    if not 1 <= _n_bytes(key) <= MAX_KEY_BYTES:
        raise RejectedError(
            Reason.INVALID_KEY, f"{column!r} takes {_n_bytes(key)} bytes, expected 1 to {MAX_KEY_BYTES}"
        )
    return key


def _text(fields: Mapping[str, Any], column: str, limit: int) -> tuple[str, int]:
    """The document and its length in bytes. White space alone is a document, zero length is none."""
    if column not in fields:
        raise RejectedError(Reason.MISSING_TEXT, f"no field {column!r}; the record has: {listed(list(fields))}")
    value = fields[column]
    if value is None:
        raise RejectedError(Reason.NULL_TEXT, f"{column!r} is null")
    if not isinstance(value, str | bytes):
        raise RejectedError(Reason.TEXT_NOT_STRING, f"{column!r} is {_shown(value)}")
    if not value:
        raise RejectedError(Reason.EMPTY_TEXT, f"{column!r} has length 0")
    if len(value) > limit:  # counts bytes, or code points, which are no more: spares decoding what is too long anyway
        raise RejectedError(Reason.DOCUMENT_TOO_LARGE, f"{column!r} is longer than {limit} bytes")
    text = _decoded(value, column)
    n_bytes = _n_bytes(text)
    if n_bytes > limit:
        raise RejectedError(Reason.DOCUMENT_TOO_LARGE, f"{column!r} takes {n_bytes} bytes, more than {limit}")
    return text, n_bytes


def _label(value: Any) -> int | None:
    """0 or 1 from an integer, boolean, integral float or decimal, or the strings "0" and "1"; None from null."""
    if value is None:
        return None
    is_number = isinstance(value, int | float | Decimal) and value in (0, 1)
    if is_number or (isinstance(value, str | bytes) and value in ("0", "1", b"0", b"1")):
        return int(value)
    raise RejectedError(Reason.INVALID_LABEL, f"label is {_shown(value)}, expected 0, 1 or null")


def _domain(value: Any) -> str | None:
    """Strings as they are, other values as Python prints them."""
    return None if value is None else _in_words(value, "domain", str)


def _attributes(fields: Mapping[str, Any], columns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Strings as they are, other values as compact JSON; nulls and absent fields are left out."""
    return [(name, _in_words(fields[name], name, _json)) for name in columns if fields.get(name) is not None]


def _in_words(value: Any, column: str, write: Callable[[Any], str]) -> str:
    if isinstance(value, str | bytes | Undecodable):
        return _decoded(value, column)
    if isinstance(value, Printed):
        return value.text
    try:
        return _decoded(write(value), column)
    except RecursionError:
        raise RejectedError(Reason.BROKEN_JSON, f"{column!r} is nested too deeply") from None


def _json(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_without_json_form)


def _without_json_form(value: Any) -> str:
    """Within an Arrow value: binaries as UTF-8, or hexadecimal where they are none; times and decimals as text."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _decoded(value: str | bytes | Undecodable, column: str) -> str:
    """`value` as a string that UTF-8 can hold."""
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str):
            value.encode()
            return value
    except UnicodeDecodeError as error:
        raise RejectedError(Reason.INVALID_UTF8, f"{column!r}: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError as error:
        raise RejectedError(Reason.INVALID_UTF8, f"{column!r}: a lone surrogate at character {error.start}") from None
    raise RejectedError(Reason.INVALID_UTF8, f"{column!r}: {value.detail}")


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _shown(value: Any) -> str:
    """A value for the detail of a reject: small ones in full, of all others the type."""
    if isinstance(value, Printed):
        return value.text[:40]
    if value is None or isinstance(value, bool | int | float | Decimal):
        return "null" if value is None else str(value)[:40]
    if isinstance(value, str | bytes) and len(value) <= 40:
        return repr(value)
    return f"a {type(value).__name__}"
