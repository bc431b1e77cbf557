"""What an exception says: its first line, and whether memory ran out."""

from __future__ import annotations

import re

import torch

# torch raises OutOfMemoryError for a device's memory; for a CPU's, and in libraries below it, only words tell.
_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on an accelerator or on a CPU: then less at once may succeed."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None


def raise_if_out_of_memory(error: BaseException) -> None:
    """Raise the error, or the one that it followed, if memory ran out: then less at once may succeed."""
    cause: BaseException | None = error
    while cause is not None:
        if is_out_of_memory(cause):
            raise cause
        cause = cause.__cause__ or cause.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 300 characters; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
