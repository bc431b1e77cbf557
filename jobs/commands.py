"""Commands that users are told to give, whole: they can be pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from operators.storage.remote import redact

_SCORE_FLAGS = (
    ("model", "--model"), ("revision", "--revision"), ("format", "--format"), ("id_column", "--id-column"),
    ("prompt_column", "--prompt-column"), ("text_column", "--text-column"), ("text_template", "--text-template"),
    ("context", "--context"), ("stride", "--stride"),
)  # fmt: skip


def score_command(
    lake: str, run_id: str, config: Mapping[str, Any], inputs: Sequence[str], features: Iterable[str], top_k: int | None
) -> str:
    """Scores `inputs` as a run before did, whose `config` is given."""
    words = ["assay", "score", "--lake", lake, "--run-id", run_id]
    for pattern in inputs:
        words += ["--input", pattern]
    words += flags((flag, config.get(name)) for name, flag in _SCORE_FLAGS)
    return joined([*words, *flags([("--features", ",".join(features)), ("--top-k", top_k)])])


def joined(words: Iterable[str]) -> str:
    """One line for a shell. Credentials in the name of a lake or a file are struck out."""
    return redact(shlex.join(words))


def flags(given: Iterable[tuple[str, object]]) -> list[str]:
    """The flags that have a value that is not their default."""
    return [word for flag, value in given if value not in (None, "", "auto") for word in (flag, str(value))]
