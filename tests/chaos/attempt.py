"""One attempt at a run: starts `assay score` behind the failing storage, strikes as planned, and ends what is left.

start -> requests seen by the proxy -> blow at its moment -> exit, or every process of the attempt ended -> Outcome
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import processes
from disturb import Blow, Disturbance
from faults import FaultProxy, Hooks
from processes import Family, Process
from world import CODE, World

POLL_SECONDS = 0.02
LOOK_SECONDS = 0.05  # between searches for a worker: a walk over /proc costs, and tasks are short
GRACE_SECONDS = 45.0  # for a run that was asked to stop
LINGER_SECONDS = 8.0  # for the processes of a run that has stopped
# Workers by their titles. Ray's own actors and workers that idle are no task.
WORKERS = {
    Blow.KILL_ACTOR: re.compile(r"ray::MapWorker\b"),
    Blow.KILL_TASK: re.compile(r"ray::(FlatMap|MapBatches|Map)\("),
    Blow.KILL_CLAIMS: re.compile(r"ray::PlacedClaims\b"),
}


@dataclass
class Outcome:
    """`status`: exit status, negative for a signal, None for an attempt that took too long. `blows`: those that hit.
    `left`: processes that were there `LINGER_SECONDS` after the driver had ended by itself."""

    status: int | None
    blows: Counter[str]
    left: int
    seconds: float
    log: Path


@dataclass
class _Storage:
    """What the attempt asks of the storage; holds back the receipt at which its driver is to be killed."""

    hold_at: int | None = None
    requests: int = 0
    receipts: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_request(self, method: str, path: str) -> bool:
        with self.lock:
            self.requests += 1
            is_receipt = method == "PUT" and "/documents/run_id=" in path
            self.receipts += is_receipt
            holds = is_receipt and self.hold_at is not None and self.receipts > self.hold_at
        if not holds:
            return True
        self.held.set()
        self.over.wait()  # until the driver is dead: this receipt is never written
        return False

    @property
    def hooks(self) -> Hooks:
        return Hooks(on_request=self.on_request)


@dataclass(frozen=True)
class Scale:
    """What an undisturbed run asks of the storage: the measure of the moments in a plan."""

    requests: int
    receipts: int


class Attempt:
    """Call it once; `limit` in seconds."""

    def __init__(
        self, world: World, lake: str, engine: str, proxy: FaultProxy, planned: tuple[Disturbance, ...], scale: Scale
    ) -> None:
        self.world, self.lake, self.engine, self.proxy, self.scale = world, lake, engine, proxy, scale
        self.pending = list(planned)
        self.family = Family()
        between = [d for d in planned if d.blow is Blow.KILL_BETWEEN]
        self.storage = _Storage(hold_at=round(between[0].at * scale.receipts) if between else None)
        self.blows: Counter[str] = Counter()
        self._due: dict[Disturbance, float] = {}
        self._next_look = 0.0

    def __call__(self, log: Path, limit: float) -> Outcome:
        started = time.monotonic()
        self.proxy.hooks = self.storage.hooks
        environment = {**self.world.environment(self.proxy.endpoint), **self.family.environment}
        command = self.world.command(self.lake, self.engine)
        try:
            with log.open("wb") as output:
                driver = subprocess.Popen(command, cwd=CODE, env=environment, stdout=output, stderr=output,
                                          stdin=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
            status = self._follow(driver, started + limit)
            left = self._linger() if status is not None and status >= 0 else 0
        finally:
            self.family.end()
            self.storage.over.set()
        driver.wait()
        return Outcome(status, self.blows, left, time.monotonic() - started, log)

    def _follow(self, driver: subprocess.Popen[bytes], deadline: float) -> int | None:
        while driver.poll() is None:
            if time.monotonic() > deadline:
                return None
            if self._strike(driver):
                return driver.wait()
            time.sleep(POLL_SECONDS)
        return driver.returncode

    def _strike(self, driver: subprocess.Popen[bytes]) -> bool:
        """Do what is due; whether the driver is dead by it."""
        for disturbance in [d for d in self.pending if self._is_due(d)]:
            if self._blow(disturbance.blow, driver):
                self.pending.remove(disturbance)
                self.blows[disturbance.blow.value] += 1
                if disturbance.blow.ends_the_attempt:
                    return True
        return False

    def _is_due(self, disturbance: Disturbance) -> bool:
        if disturbance.blow is Blow.KILL_BETWEEN:
            return self.storage.held.is_set()
        if self.storage.requests < disturbance.at * self.scale.requests:
            return False
        return time.monotonic() >= self._due.setdefault(disturbance, time.monotonic() + disturbance.pause)

    def _blow(self, blow: Blow, driver: subprocess.Popen[bytes]) -> bool:
        """Whether there was something to hit."""
        if blow in WORKERS:
            return self._kill_worker(WORKERS[blow])
        if blow is Blow.TERMINATE:
            driver.send_signal(signal.SIGTERM)
            try:
                driver.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self.blows["ignored SIGTERM"] += 1
                driver.kill()
            return True
        self.family.members()  # remembered while their parent is there to be known by
        driver.kill()
        return True

    def _kill_worker(self, meant: re.Pattern[str]) -> bool:
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + LOOK_SECONDS
        for member in sorted(self.family.members()):
            if meant.match(processes.title(member)):
                return processes.send(member, signal.SIGKILL)
        return False

    def _linger(self) -> int:
        deadline = time.monotonic() + LINGER_SECONDS
        left: set[Process] = self.family.members()
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = self.family.members()
        return len(left)
