"""What went wrong with an object of a storage, in one sentence that names it and says what to do.

OSError
  FileNotFoundError   there is no such object
  ObjectError         anything else: permission, a full disk, a storage that does not answer
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from operators.storage.remote import mistyped_option, redact

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class ObjectError(OSError):
    """The storage failed. `errno` is the system's, EIO where there is none; the message holds no credentials."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(number, message)

    def __str__(self) -> str:
        return str(self.strerror)


def failure(verb: str, name: str, error: Exception, options: Mapping[str, Any] | None) -> ObjectError:
    """The error to raise for `error`, met when trying to `verb` the object `name`; `options` hold what is left out."""
    if (mistyped := mistyped_option(error, options)) is not None:
        return ObjectError(errno.EINVAL, redact(f"cannot {verb} {name}: {mistyped}", options))
    number = getattr(error, "errno", None) or _number(error)
    if number in _FULL:
        advice = "the disk is full, or a quota is used up: make room, then the same command resumes"
    elif number in _DENIED:
        advice = "permission denied: let this user or these credentials in, then the same command resumes"
    elif number == errno.ENOENT:
        advice = "there is no such bucket or folder: make it, then the same command resumes"
    else:
        advice = "the storage failed: once it answers, the same command resumes"
    said = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return ObjectError(number, redact(f"cannot {verb} {name}: {advice} ({said})", options))


def _number(error: Exception) -> int:
    """The system's number for an error of a storage library that carries none."""
    if isinstance(error, FileNotFoundError):
        return errno.ENOENT
    denied = isinstance(error, PermissionError) or "Credential" in type(error).__name__
    return errno.EACCES if denied else errno.EIO
