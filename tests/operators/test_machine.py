"""What a container is given is what a process in it has, by the files in which kernels say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from operators import machine
from operators.machine import machine_memory, usable_cores


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which its files are looked for: `memory`, `old_memory`, `max`, `quota`, `period`."""
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (str(tmp_path / "memory"), str(tmp_path / "old_memory")))
    for name, file in (("_CPU_MAX", "max"), ("_CPU_QUOTA", "quota"), ("_CPU_PERIOD", "period")):
        monkeypatch.setattr(machine, name, str(tmp_path / file))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return tmp_path


def test_the_memory_of_a_container_is_its_limit(kernel: Path) -> None:
    (kernel / "memory").write_text("max\n")
    whole = machine_memory()
    assert whole > 1 << 28
    (kernel / "old_memory").write_text(f"{(1 << 63) - 4096}\n")
    assert machine_memory() == whole
    (kernel / "old_memory").write_text("12345\n")
    assert machine_memory() == 12345


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"max": "max 100000"}, 64),
        ({"max": "400000 100000\n"}, 4),
        ({"max": "250000 100000"}, 2),
        ({"max": "50000 100000"}, 1),  # half a core
        ({"max": "9900000 100000"}, 64),  # more than it is bound to
        ({"quota": "-1\n", "period": "100000\n"}, 64),
        ({"quota": "800000\n", "period": "100000\n"}, 8),
    ],
)
def test_cores_are_those_that_a_container_is_given(kernel: Path, files: dict[str, str], expected: int) -> None:
    for name, said in files.items():
        (kernel / name).write_text(said)
    assert usable_cores() == expected
