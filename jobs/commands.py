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


def resume_command(config: Mapping[str, Any]) -> str:
    """Goes on with the run whose ledger holds this `config`. Options of the storage are never kept there: they are to
    be given again."""
    from pipelines.config import ScoreConfig

    words = ["assay", "score"]
    for name, field in ScoreConfig.model_fields.items():
        value = config.get(name)
        if name not in config or value == field.get_default(call_default_factory=True) or value in (None, [], ()):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag)
        elif name == "features":
            words += [flag, ",".join(value)]
        else:
            values = value if isinstance(value, list) else [value]
            words += [word for each in values for word in (flag, _typed(name, each))]
    return joined(words)


def _typed(name: str, value: object) -> str:
    """A value as it is typed: line breaks and tabs of a template are two characters each."""
    text = str(value)
    if name == "text_template":
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return text
