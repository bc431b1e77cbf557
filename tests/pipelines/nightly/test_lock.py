"""One night at a time: races, crashes, wrong clocks and owners that wake too late, on a disk and in an object store."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gates
import pytest
import s3

from operators.lake import Lake
from pipelines.nightly import lock as locking
from pipelines.nightly.lock import LockHeldError, LockLostError, NightLock, lock_folder, read_claims
from pipelines.nightly.night import NightError

ROUNDS = {"disk": 50, "s3": 12}
RACER = """
import json, sys
from operators.lake import Lake
from pipelines.nightly.lock import LockHeldError, NightLock
lake = Lake(sys.argv[1], json.loads(sys.argv[2]))
for line in sys.stdin:
    try:
        with NightLock(lake, "web", 30) as lock:
            lock.check()
            print("held", flush=True)
            sys.stdin.readline()
            lock.check()
    except LockHeldError:
        print("refused", flush=True)
        sys.stdin.readline()
    print("done", flush=True)
"""
# Its clock is a file: a machine that is busy for seconds costs no lease. It is heard of every 0.1 s.
OWNER = """
import signal, sys, time
from pathlib import Path
from operators.lake import Lake
from pipelines.nightly import lock as locking
locking.BEATS = 300
clock = Path(sys.argv[2])
lock = locking.NightLock(
    Lake(sys.argv[1]), "web", 30, interrupt=signal.SIGINT, read_clock=lambda: float(clock.read_text())
)
try:
    with lock:
        try:
            print("held", flush=True)
            for _ in range(600):  # a signal that comes right before a sleep does not end it
                time.sleep(0.1)
        except KeyboardInterrupt:
            print("interrupted", lock.is_lost, flush=True)
        lock.check()
        print("wrote the summary", flush=True)
except locking.LockLostError:
    print("lost", flush=True)
"""


@pytest.fixture(scope="module", params=["disk", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Any]]:
    """Which kind it is, the root of a lake in it, and its options."""
    folder = tmp_path_factory.mktemp("lock")
    if request.param == "disk":
        yield "disk", str(folder / "lake"), None
        return
    (folder / "buckets" / "bucket").mkdir(parents=True)
    with s3.lone_server(folder / "buckets") as server:
        yield "s3", "s3://bucket/lake", server.options


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def test_of_two_processes_that_race_exactly_one_holds_it(storage: tuple[str, str, Any]) -> None:
    kind, root, options = storage
    racers = [start(RACER, root, json.dumps(options)) for _ in range(2)]
    try:
        for _ in range(ROUNDS[kind]):
            tell(*racers)
            assert sorted(map(said, racers)) == ["held", "refused"]
            tell(*racers)
            assert [said(racer) for racer in racers] == ["done", "done"]
    finally:
        for racer in racers:
            racer.communicate()
    assert [racer.returncode for racer in racers] == [0, 0]
    assert read_claims(Lake(root, options).storage, lock_folder("web")) == []


def test_names_have_locks_of_their_own(storage: tuple[str, str, Any]) -> None:
    lake = Lake(storage[1], storage[2])
    with NightLock(lake, "one", 30) as lock, NightLock(lake, "two", 30) as other:
        with pytest.raises(LockHeldError, match=rf"nightly 'one' is under way: process {os.getpid()} on .*{lock.id}"):
            NightLock(lake, "one", 30).__enter__()
        lock.check()
        other.check()


def claim_of(lake: Lake, owner: Mapping[str, Any], seconds_ago: float, state: str = "held") -> str:
    """A claim that somebody else wrote then; returns its path relative to the lake."""
    path = f"{lock_folder('web')}/{'0' * 32}.json"
    lake.storage.write(path, json.dumps({"state": state, "owner": owner}).encode())
    then = time.time() - seconds_ago
    os.utime(lake.storage.uri(path), (then, then))
    return path


ELSEWHERE = {"host": "elsewhere", "machine": "another boot pid:[1]", "pid": 1, "born": 1}


@pytest.mark.parametrize("state", ["held", "contending"])
def test_a_claim_of_another_machine_keeps_others_out_until_its_lease_is_over(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "ROUNDS", 3)
    lake = Lake(str(tmp_path))
    claim_of(lake, ELSEWHERE, seconds_ago=30, state=state)
    with pytest.raises(LockHeldError):
        NightLock(lake, "web", 60).__enter__()
    path = claim_of(lake, ELSEWHERE, seconds_ago=63, state=state)
    with NightLock(lake, "web", 60) as lock:
        assert [claim.id for claim in read_claims(lake.storage, lock.folder)] == [lock.id]
        assert not lake.storage.exists(path)


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """The clock of an owner."""
    path = tmp_path / "clock"
    path.write_text("0")
    return path


@pytest.fixture
def owner(tmp_path: Path, clock: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the lake in `tmp_path`."""
    process = start(OWNER, str(tmp_path), str(clock))
    try:
        assert said(process) == "held"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_claim_of_a_process_that_died_here_ends_at_once(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    with pytest.raises(LockHeldError, match=f"process {owner.pid} on "):
        NightLock(Lake(str(tmp_path)), "web", 600).__enter__()
    owner.kill()
    owner.wait()
    with NightLock(Lake(str(tmp_path)), "web", 600) as lock:
        lock.check()


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    claim_of(lake, locking.this_process(), seconds_ago=0)
    with pytest.raises(LockHeldError):
        NightLock(lake, "web", 60).__enter__()
    claim_of(lake, locking.this_process() | {"born": 1}, seconds_ago=0)
    with NightLock(lake, "web", 60) as lock:
        lock.check()


def test_a_process_that_proc_does_not_show_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another user, where /proc hides those."""
    lake = Lake(str(tmp_path))
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = locking.this_process() | {"pid": other.pid, "born": locking._born(other.pid)}
    claim_of(lake, owner, seconds_ago=0)
    real = Path.exists
    with monkeypatch.context() as patch:
        hidden = f"/proc/{other.pid}/stat"
        patch.setattr(Path, "exists", lambda self, **more: str(self) != hidden and real(self, **more))
        born = locking._born
        patch.setattr(locking, "_born", lambda pid: None if pid == other.pid else born(pid))
        with pytest.raises(LockHeldError):
            NightLock(lake, "web", 60).__enter__()
        other.communicate(b"\n")
        with NightLock(lake, "web", 60) as lock:
            lock.check()


def test_a_broken_claim_counts_until_its_lease_is_over(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    path = claim_of(lake, {}, seconds_ago=0)
    lake.storage.write(path, b"\xff not json")
    with pytest.raises(LockHeldError):
        NightLock(lake, "web", 60).__enter__()


@pytest.mark.parametrize("shift", [-86400.0, 86400.0])
def test_the_clocks_of_machines_are_not_compared(tmp_path: Path, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, true_time = Lake(str(tmp_path)), time.time
    with NightLock(lake, "web", 60) as lock:
        monkeypatch.setattr(time, "time", lambda: true_time() + shift)
        monkeypatch.setattr(locking, "now", lambda: "1970-01-01T00:00:00+00:00")
        monkeypatch.setattr(locking, "process_ended", lambda owner: False)  # as from another machine
        for name in ("0" * 32, "f" * 32):  # whichever name is the lower
            with pytest.raises(LockHeldError):
                NightLock(lake, "web", 60, id=name).__enter__()
        lock.check()


def age(lake: Lake, claim: str) -> None:
    """Let the storage say that a claim was written so long ago that its owner must be dead."""
    then = time.time() - 100
    os.utime(lake.storage.uri(f"{lock_folder('web')}/{claim}.json"), (then, then))


def test_heartbeats_keep_it_longer_than_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "BEATS", 300)
    monkeypatch.setattr(locking, "process_ended", lambda owner: False)
    lake, moment = Lake(str(tmp_path)), [0.0]
    with NightLock(lake, "web", 30, read_clock=lambda: moment[0]) as lock:
        for _ in range(4):
            age(lake, lock.id)
            moment[0] += 20
            gates.wait_until(lambda: lock._renewed == moment[0])
        with pytest.raises(LockHeldError):
            NightLock(lake, "web", 30).__enter__()
        lock.check()
    time.sleep(0.4)  # longer than between heartbeats: none brings the claim back
    assert read_claims(lake.storage, lock.folder) == []


def test_an_owner_that_wakes_after_its_lease_stops_before_it_writes(
    tmp_path: Path, owner: subprocess.Popen[str], clock: Path
) -> None:
    lake = Lake(str(tmp_path))
    os.kill(owner.pid, signal.SIGSTOP)
    os.waitpid(owner.pid, os.WUNTRACED)  # until it stands still
    (claim,) = read_claims(lake.storage, lock_folder("web"))
    age(lake, claim.id)
    clock.write_text("100")
    with NightLock(lake, "web", 600) as lock:
        os.kill(owner.pid, signal.SIGCONT)
        assert [said(owner), said(owner)] == ["interrupted True", "lost"]
        lock.check()


def test_writes_that_were_cut_short_go_once_they_are_old(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    folder = tmp_path / lock_folder("web")
    folder.mkdir(parents=True)
    old, fresh = (folder / f".{'0' * 32}.json.{digit * 32}.tmp" for digit in "ab")
    for path in (old, fresh):
        path.write_bytes(b"{")
    os.utime(old, (1.0, 1.0))
    with NightLock(lake, "web", 60):
        assert (old.exists(), fresh.exists()) == (False, True)


def test_an_owner_whose_claim_was_taken_notices_though_its_own_clock_stood_still(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    with NightLock(lake, "web", 60, read_clock=lambda: 0.0) as lock:
        mine = f"{lock.folder}/{lock.id}.json"
        age(lake, lock.id)
        with NightLock(lake, "web", 60) as other:
            with pytest.raises(LockLostError, match="has lost its lock"):
                lock.check()
            lake.storage.write(mine, b"{}")  # a heartbeat that was under way brings it back
            with pytest.raises(LockLostError):
                lock.check()
            assert lock.is_lost
            lake.storage.delete(mine)
            other.check()
    assert issubclass(LockLostError, NightError)


# Every order of events, on a storage whose every request waits for its turn


class Turns:
    """A storage in memory, and a clock, for threads of which one acts at a time: `choose` says which."""

    def __init__(self, choose: Callable[[list[int]], int]) -> None:
        self.choose = choose
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.moment = 0.0
        self.ready = threading.Condition()
        self.waiting: dict[int, bool] = {}
        self.holders: set[int] = set()
        self.overlaps = 0
        self.wins = 0

    def act(self, action: Callable[[], Any]) -> Any:
        me = threading.get_ident()
        with self.ready:
            self.waiting[me] = False
            self._next()
            while not self.waiting[me]:
                self.ready.wait()
            self.moment += 0.01
            return action()

    def leave(self) -> None:
        with self.ready:
            self.waiting.pop(threading.get_ident(), None)
            self.expected -= 1
            self._next()

    def _next(self) -> None:
        """Once all that are left wait, one of them goes on."""
        blocked = sorted(me for me, goes in self.waiting.items() if not goes)
        if len(blocked) == self.expected and blocked:
            self.waiting[blocked[self.choose(blocked)]] = True
            self.ready.notify_all()

    expected = 0

    def find(self, folder: str) -> dict[str, Mapping[str, Any]]:
        return self.act(lambda: {path: {"mtime": when} for path, (_, when) in self.objects.items()})

    def read(self, path: str) -> bytes:
        def look() -> bytes:
            if path not in self.objects:
                raise FileNotFoundError(path)
            return self.objects[path][0]

        return self.act(look)

    def write(self, path: str, data: bytes) -> None:
        self.act(lambda: self.objects.__setitem__(path, (data, self.moment)))

    def delete(self, path: str) -> None:
        self.act(lambda: self.objects.pop(path, None))

    def uri(self, path: str) -> str:
        return path

    def contend(self, name: str) -> None:
        me = threading.get_ident()
        lake: Any = SimpleNamespace(storage=self)
        lock = NightLock(lake, "web", 1e6, id=name, read_clock=lambda: self.moment)
        try:
            with lock:
                self.holders.add(me)
                self.overlaps += len(self.holders) > 1
                self.wins += 1
                try:
                    lock.check()
                finally:
                    self.holders.discard(me)
        except (LockHeldError, LockLostError):
            pass
        finally:
            self.leave()


def race(seed: int, ids: tuple[str, ...]) -> Turns:
    order = random.Random(seed)
    turns = Turns(lambda blocked: order.randrange(len(blocked)))
    turns.expected = len(ids)
    threads = [threading.Thread(target=turns.contend, args=(name,)) for name in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return turns


@pytest.mark.parametrize("ids", [("a", "b"), ("b", "a", "c")])
def test_in_no_order_of_requests_do_two_hold_it(ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "process_ended", lambda owner: False)
    monkeypatch.setattr(locking, "_PAUSES", (0.0, 0.0))
    names = tuple(each * 32 for each in ids)
    ended = [race(seed, names) for seed in range(150)]
    assert [turns.overlaps for turns in ended] == [0] * len(ended)
    assert min(turns.wins for turns in ended) >= 1  # and one always does
    assert any(turns.wins == 1 for turns in ended)  # others were refused, not only late
