"""What this machine has for us, or the container that this process is in: cores and memory."""

from __future__ import annotations

import os
from pathlib import Path

# Of control groups version 2, then of version 1: https://docs.kernel.org/admin-guide/cgroup-v2.html
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT = 1 << 60  # version 1 writes a number near the largest for none
_CPU_MAX = "/sys/fs/cgroup/cpu.max"  # microseconds of cores in each period, and the period
_CPU_QUOTA, _CPU_PERIOD = (f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us" for name in ("quota", "period"))


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container that this process is in, has in all."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in _MEMORY_LIMITS:
        said = _said(name)
        if said.isdecimal() and int(said) < _NO_LIMIT:
            limits.append(int(said))
    return min(limits)


def usable_cores() -> int:
    """Cores that this process may use: those that it is bound to, and no more than its container is given.

    A container's quota of 2.5 cores counts as 2: a third process would only slow the others.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in (_said(_CPU_MAX).partition(" ")[::2], (_said(_CPU_QUOTA), _said(_CPU_PERIOD))):
        if quota.isdecimal() and period.isdecimal() and int(period):  # "max" and -1 are no limit
            cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def _said(name: str) -> str:
    """What a file of the kernel says; nothing where there is none."""
    try:
        return Path(name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
