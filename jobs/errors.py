"""The errors a user can mend, by what the command line does with them.

    exit 2   the job as asked for cannot be run: ConfigError, InputError, ModelError, ResumeError, QueryError,
             ScoreError, ResultError
    exit 1   the job ran and failed: RunError, StorageError, ObjectError, OSError

Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with control and other unprintable characters escaped: names of files and records may hold any."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def exit_code(error: BaseException) -> int | None:
    """The exit code for an error a user can mend; None for a defect."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {
        "ConfigError",
        "InputError",
        "ModelError",
        "ResumeError",
        "QueryError",
        "ScoreError",
        "ResultError",
        "DetectorError",
        "DemoError",
    }:
        return 2
    if names & {"RunError", "StorageError", "OSError"}:
        return 1
    return None
