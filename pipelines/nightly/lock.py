"""One night at a time: a lock in the lake, on disks and in object stores, that ends with its owner or with its lease.

    <lake>/nights/<name>/lock/<32 hex digits>.json     a claim: "contending", then "held"; rewritten as a heartbeat

Needs a storage that lists what has been written, at once (disks, S3, GCS, Azure, R2, MinIO), and no conditional writes:

    write a claim -> list -> nobody else's lives: it is held
                          -> a held one lives: give up
                          -> only contenders: the lowest name waits until the others have gone, which draw back

Two cannot hold it: the later of two claims was written before its owner listed, so that one saw the other's. A claim is
dead when its process is (seen on the same machine), or when it was last written a lease and `SLACK_SECONDS` before
one's own, both by the clock of the storage: the clocks of the machines are not compared. An owner that was paused
counts its lease from before its last heartbeat, by a clock that runs while the machine sleeps, and gives up by itself.
The price: a night that died on another machine keeps the next one out until its lease is over.

What no lease can prevent is a pause between `check` and the write after it: nights write whole objects, named by what
they are of, so that what a late writer writes is what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from operators.lake import NIGHTS_FOLDER, Lake
from operators.storage import Storage, is_temporary
from operators.storage.listing import modified_at
from pipelines.ledger import now
from pipelines.nightly.night import NightError

SLACK_SECONDS = 2.0  # object stores round the time of a write to a second
BEATS = 4  # heartbeats a lease
ROUNDS = 40  # of contending, before one gives up
_PAUSES = (0.01, 0.1)  # seconds between rounds, at random
_CLAIM = re.compile(r"([0-9a-f]{32})\.json")


class LockHeldError(RuntimeError):
    """Another night of this name is under way."""


class LockLostError(NightError):
    """The lease ran out before it was renewed: another night may be under way."""


@dataclass(frozen=True)
class Claim:
    """What the lake holds of one claim. `modified`: seconds since 1970 by the storage's clock, None if it has none.

    `lease`: in seconds, as its owner holds itself to; None where the claim does not say.
    """

    id: str
    state: str
    modified: float | None
    lease: float | None = None
    owner: Mapping[str, Any] = field(default_factory=dict)

    def is_alive(self, mine: Claim) -> bool:
        """Whether it counts against `mine`, which was written just now."""
        if process_ended(self.owner):
            return False
        lease = self.lease if self.lease is not None else mine.lease
        if self.modified is None or mine.modified is None or lease is None:
            return True
        return mine.modified - self.modified <= lease + SLACK_SECONDS


def clock() -> float:
    """Seconds that pass while the machine sleeps, too, where the system counts them."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@dataclass
class NightLock:
    """The lock of the nights called `name`; a context that holds it, or raises on entering.

    `interrupt`: a signal that ends the work of the main thread when the lease is lost meanwhile; None: `check` tells.

    Raises:
        LockHeldError: another night is under way. OSError: the storage failed.
    """

    lake: Lake
    name: str
    lease_seconds: float
    interrupt: signal.Signals | None = None
    read_clock: Callable[[], float] = clock
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _renewed: float = 0.0
    _is_lost: bool = False
    _started: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> NightLock:
        self._started = now()
        try:
            self._contend()
        except BaseException:
            with contextlib.suppress(OSError):
                self._withdraw()
            raise
        threading.Thread(target=self._beat, name="night-lock", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with self._busy, contextlib.suppress(OSError):  # a claim that stays is dead with this process
            self._withdraw()  # not while a heartbeat is under way, which would bring it back

    def check(self) -> None:
        """Say whether the lock is still held; ask right before anything that must not be done twice.

        Raises:
            LockLostError: it is not, or may not be.
        """
        with self._busy:
            if self._is_lost or not self._still_mine():
                self._is_lost = True
                raise LockLostError(self.loss)

    @property
    def loss(self) -> str:
        """What to say of a lock that is lost."""
        return (
            f"nightly {self.name!r}: this night has lost its lock (it was not heard of for {self.lease_seconds:g} s, "
            "or its claim is gone) and stops; another one finishes it, or the same command does"
        )

    def _still_mine(self) -> bool:
        if self.read_clock() - self._renewed >= self.lease_seconds:
            return False
        claims = read_claims(self.lake.storage, self.folder)
        mine = next((c for c in claims if c.id == self.id), None)
        return mine is not None and not any(c.state == "held" for c in self._others(claims, mine))

    def _others(self, claims: list[Claim], mine: Claim) -> list[Claim]:
        return [c for c in claims if c.id != self.id and c.is_alive(mine)]

    def _contend(self) -> None:
        for _ in range(ROUNDS):
            self._write("contending")
            claims = read_claims(self.lake.storage, self.folder)
            mine = next((c for c in claims if c.id == self.id), None)
            if mine is None:  # taken for dead, after a long pause
                continue
            others = self._others(claims, mine)
            if not others and self.read_clock() - self._renewed < self.lease_seconds / 2:
                self._hold(mine, [c for c in claims if c.id != self.id])
                return
            if holder := next((c for c in others if c.state == "held"), None):
                raise LockHeldError(self._said(holder))
            if any(c.id < self.id for c in others):
                self._withdraw()
            time.sleep(random.uniform(*_PAUSES))
        raise LockHeldError(f"nightly {self.name!r}: other nights contend for its lock; try again")

    def _hold(self, mine: Claim, dead: list[Claim]) -> None:
        self._write("held")
        self.check()
        for claim in dead:
            self.lake.storage.delete(f"{self.folder}/{claim.id}.json")
        for path, info in _listed(self.lake.storage, self.folder).items():  # writes that a kill cut short
            cut_short = Claim("", "contending", modified_at(info), self.lease_seconds)
            if is_temporary(path.rpartition("/")[2]) and not cut_short.is_alive(mine):
                self.lake.storage.delete(path)

    def _beat(self) -> None:
        while not self._stop.wait(self.lease_seconds / BEATS):
            with self._busy:
                if self._stop.is_set() or self._is_lost:
                    return
                try:
                    if self._still_mine():
                        self._write("held")
                        continue
                except (OSError, ValueError):  # the storage is away: the lease says for how long that may be
                    if self.read_clock() - self._renewed < self.lease_seconds:
                        continue
                self._is_lost = True
                if self.interrupt is not None and (main := threading.main_thread().ident) is not None:
                    signal.pthread_kill(main, self.interrupt)  # before it can have left: its handler is there
                return

    @property
    def is_lost(self) -> bool:
        return self._is_lost

    @property
    def folder(self) -> str:
        return lock_folder(self.name)

    def _write(self, state: str) -> None:
        begun = self.read_clock()
        claim = {"state": state, "since": self._started, "heard": now(), "lease_seconds": self.lease_seconds}
        claim["owner"] = this_process()
        self.lake.storage.write(f"{self.folder}/{self.id}.json", json.dumps(claim, sort_keys=True).encode())
        self._renewed = begun

    def _withdraw(self) -> None:
        self.lake.storage.delete(f"{self.folder}/{self.id}.json")

    def _said(self, holder: Claim) -> str:
        owner, lease = holder.owner, holder.lease or self.lease_seconds
        return (
            f"nightly {self.name!r} is under way: process {owner.get('pid')} on {owner.get('host')}. It is not "
            f"disturbed; once it has ended, or died {lease:g} s ago, the same command works "
            f"(lock: {self.lake.storage.uri(f'{self.folder}/{holder.id}.json')})"
        )


def lock_folder(name: str) -> str:
    """Where the claims on a nightly job lie, relative to the lake's root."""
    return f"{NIGHTS_FOLDER}/{name}/lock"


def read_claims(storage: Storage, folder: str) -> list[Claim]:
    """Every claim in the folder, by name; one that goes meanwhile is none."""
    claims = []
    for path, info in sorted(_listed(storage, folder).items()):
        match = _CLAIM.fullmatch(path.rpartition("/")[2])
        if match is None:
            continue
        try:
            claim = json.loads(storage.read(path))
        except FileNotFoundError:
            continue
        except ValueError:
            claim = {}
        claim = claim if isinstance(claim, dict) else {}
        owner, lease = claim.get("owner"), claim.get("lease_seconds")
        lease = float(lease) if isinstance(lease, int | float) and lease > 0 else None
        state = "contending" if claim.get("state") == "contending" else "held"  # a broken one counts
        claims.append(Claim(match[1], state, modified_at(info), lease, owner if isinstance(owner, dict) else {}))
    return claims


def _listed(storage: Storage, folder: str) -> dict[str, Mapping[str, Any]]:
    for _ in range(ROUNDS):
        try:
            return storage.find(folder)
        except FileNotFoundError:  # a local claim went between the listing and the look at it
            time.sleep(_PAUSES[0])
    return storage.find(folder)


def this_process() -> dict[str, Any]:
    """Which process this is, so that another one of the same machine can tell whether it lives."""
    return {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(), "born": _born(os.getpid())}


def process_ended(owner: Mapping[str, Any]) -> bool:
    """Whether a process is known to have ended: it is of this machine, and gone. Of others nothing is known."""
    machine, pid, born = owner.get("machine"), owner.get("pid"), owner.get("born")
    if machine is None or machine != _machine() or not isinstance(pid, int) or not isinstance(born, int):
        return False
    return _born(pid) != born and not _is_hidden(pid)


def _machine() -> str | None:
    """This boot of this machine, and the names of processes in it (containers have their own); None if not told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _is_hidden(pid: int) -> bool:
    """Whether a process that has not ended cannot be looked at: of another user, where /proc is mounted so (`hidepid`,
    systemd's `ProtectProc`)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not Path(f"/proc/{pid}/stat").exists()


def _born(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None where it has ended, or cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
