"""The errors a user can mend, by what the command line does with them.

    exit 2   the job as asked for cannot be run: ConfigError, InputError, ModelError, ResumeError, QueryError,
             ScoreError, ResultError
    exit 1   the job ran and failed: RunError, NightError, SubmissionError, StorageError, ObjectError, OSError

Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

from operators.printable import printable

__all__ = ["exit_code", "printable"]


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
    if names & {"RunError", "NightError", "SubmissionError", "StorageError", "OSError"}:
        return 1
    return None
