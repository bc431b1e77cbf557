"""Finding, ending and measuring the processes of a command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import memory
import processes
import pytest
from processes import Family, Process

MEMORY = Path(memory.__file__)
SLEEP = "import time; time.sleep(60)"
# A process that hides: it leaves the session, loses its parent and writes over its environment as `setproctitle` does.
HIDE = f"""
import os, subprocess, sys
environment = {{k: v for k, v in os.environ.items() if k != {processes.MARK!r}}}
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env=environment, start_new_session=True)
import time; time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    family.end()


def start(family: Family, code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **family.environment})


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_child_that_hides_is_found_and_outlives_its_parent_in_the_family(family: Family) -> None:
    parent = start(family, HIDE)
    wait_for(lambda: len(family.members()) == 2)
    parent.kill()
    parent.wait()
    (hidden,) = family.members()
    assert SLEEP in processes.title(hidden)
    assert family.end() == 1
    assert family.members() == set()
    assert not processes.send(hidden, signal.SIGTERM)


def test_strangers_and_other_families_are_left_alone(family: Family) -> None:
    other = Family()
    stranger = start(other, SLEEP)
    ours = start(family, SLEEP)
    try:
        wait_for(lambda: len(family.members()) == 1 and len(other.members()) == 1)
        assert family.end() == 1
        assert ours.wait(10) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        other.end()
        stranger.wait(10)


def test_a_pid_used_again_is_not_signalled(family: Family) -> None:
    process = start(family, SLEEP)
    wait_for(lambda: len(family.members()) == 1)
    (member,) = family.members()
    assert not processes.send(Process(member.pid, member.started - 1), signal.SIGKILL)
    assert process.poll() is None
    assert processes.send(member, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def is_gone(pid: int) -> bool:
    """Whether at most an exit status is left of it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


HOLD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; a = bytearray(b'x') * (80 << 20); time.sleep(1.5)"])
own = bytearray(b"x") * (40 << 20)
child.wait()
"""


def test_peaks_by_part(tmp_path: Path) -> None:
    out = tmp_path / "peak.json"
    command = [sys.executable, str(MEMORY), "--interval", "0.05", "--out", str(out), "--", sys.executable, "-c", HOLD]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    peak = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == peak
    assert peak["exit"] == 0
    mib = peak["peak_mib"]
    assert 40 < mib["driver"] < 70
    assert 80 < mib["services"] < 110
    assert (mib["workers"], mib["store"]) == (0, 0)
    assert 120 < mib["total"] <= mib["driver"] + mib["services"] + 0.2


SHARE = """
import mmap, os, subprocess, sys, time
file = open("/dev/shm/assay-test-memory-" + str(os.getpid()), "w+b")
os.unlink(file.name)
file.truncate(64 << 20)
# The one that writes the pages dies; they stay, and two processes hold the file.
if os.fork() == 0:
    mmap.mmap(file.fileno(), 64 << 20)[:] = bytes(64 << 20)
    os._exit(0)
os.wait()
os.set_inheritable(file.fileno(), True)
subprocess.run([sys.executable, "-c", "import time; time.sleep(1)"], close_fds=False)
"""


@pytest.mark.skipif(not Path(memory.SHARED_MEMORY).is_dir(), reason="no shared memory folder")
def test_shared_memory_is_counted_once_and_outlives_its_writer() -> None:
    status, peak = memory.run([sys.executable, "-c", SHARE], interval=0.05)
    assert status == 0
    assert 63.9 < peak.usage.store < 65
    assert peak.usage.driver < 64


def test_the_status_of_the_command_is_kept_and_nothing_is_left(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
open({str(pid)!r}, "w").write(str(child.pid))
time.sleep(0.5)
sys.exit(3)
"""
    status, peak = memory.run([sys.executable, "-c", code], interval=0.05)
    assert status == 3
    assert peak.samples >= 5
    assert is_gone(int(pid.read_text()))
