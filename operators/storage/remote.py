"""What every use of object storage shares: options by protocol, patience with failures, secrets kept out of messages.

A request that fails is asked again with growing pauses where waiting may help (throttling, time-outs, dropped
connections, 5xx), and at once given up where it cannot (no such object, no permission, a full disk). The storage
libraries retry single requests themselves; this is the outer loop that outlasts an outage of a minute.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import fsspec

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds: at random up to these, the bound doubling each time

_LASTING_ERRNOS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
_LASTING_NAMES = re.compile(r"Credential|ParamValidation|ProfileNotFound|UnknownService|InvalidRegion|NoSuchBucket")
_STORAGE_LIBRARIES = ("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "azure", "requests", "urllib3", "httpx")
_SECRET_NAME = re.compile(r"key|secret|token|passw|credential|sas|signature", re.IGNORECASE)
_SECRET_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN")
_SHORTEST_SECRET = 4


def options_for(uri: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of the user's storage options that belongs to `uri`.

    Options are given by protocol (`{"s3": {...}, "gs": {...}}`) or flat, then they are for every URI that has one.
    Local paths take none.
    """
    last = uri.split("::")[-1] if "://" in uri else uri
    protocol = last.partition("://")[0] if "://" in last else "file"
    if not options or protocol in ("file", "local"):
        return {}
    if set(options) <= set(fsspec.available_protocols()):
        aliases = [protocol, *({"s3", "s3a"} if protocol in ("s3", "s3a") else ())]
        return dict(next((options[name] for name in aliases if name in options), {}))
    return dict(options)


def secret_names(options: Mapping[str, Any] | None) -> list[str]:
    """The names, at any depth, of options that look like credentials."""
    found = []
    for name, value in (options or {}).items():
        if isinstance(value, Mapping):
            found += secret_names(value)
        elif _SECRET_NAME.search(str(name)) and isinstance(value, str):
            found.append(str(name))
    return found


def redact(text: str, options: Mapping[str, Any] | None = None) -> str:
    """`text` without the credentials that `options` and the environment hold."""
    secrets = {os.environ.get(name, "") for name in _SECRET_ENVIRONMENT} | set(_secret_values(options))
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def _secret_values(options: Mapping[str, Any] | None) -> list[str]:
    found: list[str] = []
    for name, value in (options or {}).items():
        if isinstance(value, Mapping):
            found += _secret_values(value)
        elif _SECRET_NAME.search(str(name)) and isinstance(value, str):
            found.append(value)
    return found


def may_pass(error: BaseException) -> bool:
    """Whether asking again may help: the storage is at fault, and not with an answer that will stay the same."""
    if _LASTING_NAMES.search(type(error).__name__):
        return False
    if isinstance(error, OSError):
        return error.errno not in _LASTING_ERRNOS and not isinstance(error, FileNotFoundError | PermissionError)
    if isinstance(error, TimeoutError | asyncio.TimeoutError | ConnectionError | EOFError):
        return True
    return type(error).__module__.partition(".")[0] in _STORAGE_LIBRARIES


def patiently(action: Callable[[], T], *, attempts: int = ATTEMPTS) -> T:
    """`action()`, again up to `attempts` times in all while what it raises `may_pass`.

    Raises:
        whatever the last attempt raised, with a note that says how often it was tried.
    """
    import tenacity  # here: a machine that only ever sees local files need not have it

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        reraise=True,
    )
    try:
        return retrying(action)
    except Exception as error:
        tried = retrying.statistics.get("attempt_number", 1)
        if tried > 1:
            error.add_note(f"tried {tried} times")
        raise
