"""What every use of object storage shares: options by protocol, patience with failures.

A request that fails is asked again with growing pauses where waiting may help (throttling, time-outs, dropped
connections, 5xx), and at once given up where it cannot (no such object, no permission, a full disk). The storage
libraries retry single requests themselves; this is the outer loop that outlasts an outage of a minute.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import fsspec

from operators.storage.credentials import redact, secret_names
from operators.storage.s3_options import with_checksums

__all__ = ["ATTEMPTS", "may_pass", "mistyped_option", "options_for", "patiently", "redact", "secret_names"]

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds: at random up to these, the bound doubling each time

_LASTING_ERRNOS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
_LASTING_NAMES = re.compile(r"Credential|ParamValidation|ProfileNotFound|UnknownService|InvalidRegion|NoSuchBucket")
_STORAGE_LIBRARIES = ("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "azure", "requests", "urllib3", "httpx")
_S3 = ("s3", "s3a")
_UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '([^']+)'")


def options_for(uri: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of the user's storage options that belongs to `uri`.

    Options are given by protocol (`{"s3": {...}, "gs": {...}}`) or flat, then they are for every URI that has one.
    Local paths take none. For S3 they say besides how checksums are used, see `with_checksums`.
    """
    last = uri.split("::")[-1] if "://" in uri else uri
    protocol = last.partition("://")[0] if "://" in last else "file"
    if protocol in ("file", "local"):
        return {}
    own = dict(options or {})
    if set(own) <= set(fsspec.available_protocols()):
        aliases = [protocol, *_S3] if protocol in _S3 else [protocol]
        own = dict(next((own[name] for name in aliases if name in own), {}))
    return with_checksums(own) if protocol in _S3 else own


def mistyped_option(error: BaseException, options: Mapping[str, Any] | None) -> str | None:
    """What to say where the storage's library does not know an option of `options`; None for any other error."""
    match = _UNKNOWN_ARGUMENT.search(str(error)) if isinstance(error, TypeError) else None
    if match is None or match[1] not in _names(options or {}):
        return None
    return (
        f"--storage-options: {match[1]!r} is neither an option of this storage nor a protocol; give its options flat, "
        'as in {"anon": true}, or by protocol, as in {"s3": {"anon": true}}'
    )


def _names(options: Mapping[str, Any]) -> set[str]:
    """The names of options, at any depth."""
    below = (value for value in options.values() if isinstance(value, Mapping))
    return {str(name) for name in options}.union(*map(_names, below))


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
