"""Job files of tests: a text read as one, and the faults that it is refused with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.job_file import JobFile, read_job_file
from pipelines.config import ConfigError

SCORE = "model: m\ninput: c.jsonl\nlake: lake\nrun_id: monday\n"


def read(folder: Path, text: str | bytes, *settings: str) -> JobFile:
    path = folder / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_job_file(path, settings)


def faults(read: Callable[..., JobFile], text: str | bytes, *settings: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read(text, *settings)
    return [line.strip() for line in str(error.value).splitlines()[1:]] or [str(error.value)]
