"""Raw values in words: as text that UTF-8 can hold, as JSON, or shortened for the detail of a reject."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from operators.readers.record import Printed, RejectedError, Undecodable
from schemas.rejects import Reason


def n_bytes(text: str) -> int:
    """Length in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def decoded(value: str | bytes | Undecodable, column: str) -> str:
    """`value` as a string that UTF-8 can hold.

    Raises:
        RejectedError: `INVALID_UTF8`.
    """
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


def in_words(value: Any, column: str, write: Callable[[Any], str]) -> str:
    """Strings as they are, other values as `write` puts them.

    Raises:
        RejectedError: `INVALID_UTF8`, or `BROKEN_JSON` for a value nested too deeply to write.
    """
    if isinstance(value, str | bytes | Undecodable):
        return decoded(value, column)
    if isinstance(value, Printed):
        return value.text
    try:
        return decoded(write(value), column)
    except RecursionError:
        raise RejectedError(Reason.BROKEN_JSON, f"{column!r} is nested too deeply") from None


def as_json(value: Any) -> str:
    """Compact JSON."""
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


def shown(value: Any) -> str:
    """A value for the detail of a reject: small ones in full, of all others the type."""
    if isinstance(value, Printed):
        return value.text[:40]
    if value is None or isinstance(value, bool | int | float | Decimal):
        return "null" if value is None else str(value)[:40]
    if isinstance(value, str | bytes) and len(value) <= 40:
        return repr(value)
    return f"a {type(value).__name__}"
