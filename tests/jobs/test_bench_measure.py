"""How benchmarks measure memory: in a process that ends by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import multiprocessing

from jobs.bench.measure import peak_extra_bytes

held = []

def prepare():
    held.append(multiprocessing.get_context("spawn").Lock())  # as a progress bar has
    return lambda: held.append(b"1" * (32 << 20))

if __name__ == "__main__":
    print(peak_extra_bytes(prepare))
"""


def test_a_measured_process_leaves_nothing_to_be_warned_about(tmp_path: Path) -> None:
    (tmp_path / "measured.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "measured.py")], capture_output=True, text=True, check=True, timeout=100
    )
    assert 30 << 20 < int(done.stdout) < 64 << 20
    assert done.stderr == ""
