"""The last good night of every nightly job of a lake, by the names of the objects that nights leave."""

from __future__ import annotations

import re
from typing import Any

from operators.lake import NIGHTS_FOLDER, Lake
from schemas import check_run_id

_GOOD = re.compile(r"(\d{4}-\d\d-\d\d)\.json")
_OPEN = re.compile(r"(\d{4}-\d\d-\d\d)\.open\.parquet")


def last_nights(lake: Lake) -> list[dict[str, Any]]:
    """`name` of each job, `date` of its last good night and of the `open` one, None where there is none.

    A night is good when its summary is there, which is written last.
    """
    found = []
    for folder in lake.storage.list(NIGHTS_FOLDER):
        name = folder.removesuffix("/")
        if not folder.endswith("/") or not _is_name(name):
            continue
        objects = lake.storage.list(f"{NIGHTS_FOLDER}/{name}")
        good, under_way = (
            max((match[1] for each in objects if (match := pattern.fullmatch(each))), default=None)
            for pattern in (_GOOD, _OPEN)
        )
        found.append({"name": name, "date": good, "open": under_way})
    return found


def _is_name(name: str) -> bool:
    try:
        check_run_id(name)
    except ValueError:
        return False
    return True
