"""What a worker raised, out of the layers that an engine wraps it in."""

from __future__ import annotations

import re

_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit): ")  # how a traceback in text ends


def root_cause(error: BaseException) -> BaseException:
    """The innermost error that says something: Ray wraps it several times, and hangs an empty SystemException on it."""
    cause = error
    while isinstance(inner := getattr(cause, "cause", None) or cause.__cause__, BaseException):
        if inner is cause or not str(inner).strip():
            break
        cause = inner
    return cause


def in_one_line(error: BaseException) -> str:
    """The root cause as `ClassName: message`."""
    cause = root_cause(error)
    lines = str(cause).strip().splitlines() or [""]
    said = next((line for line in reversed(lines) if _RAISED.match(line)), lines[0]).strip()
    said = re.sub(r"^[\w.]*\.(?=\w+: )", "", said)  # the class without its module
    return said if _RAISED.match(said) else f"{type(cause).__name__}: {said}".rstrip(": ")
