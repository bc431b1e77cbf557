"""What a listing says of an object, in the words of whichever storage gave it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified")  # S3, Azure, Google, disks, others


def modified_at(info: Mapping[str, Any]) -> float | None:
    """When an object was last written, in seconds since 1970 by the storage's clock; None where a listing is silent."""
    for value in (info[name] for name in _TIMES if name in info):
        moment = value
        if isinstance(value, str):
            with suppress(ValueError):
                moment = datetime.fromisoformat(value)
        if isinstance(moment, datetime):
            return moment.timestamp()
        if isinstance(moment, int | float):
            return float(moment)
    return None
