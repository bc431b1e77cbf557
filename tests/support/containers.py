"""Containers without a container engine: Linux namespaces over a read-only copy of this machine's own file system.

with containers.world(folder) as world:
    with world.container("head", layers=(image,)) as head:
        head.run(["ray", "start", "--head"], user="10001:10001", environment={...})

A container has its own mounts, processes, host name and network card; what it writes goes to a layer in memory and is
gone afterwards. Containers of a world reach each other by name on a bridge that leads nowhere else. Root only.
"""

from __future__ import annotations

import functools
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETWORK = "10.20.0"
NAMES = {"GRPC_DNS_RESOLVER": "native"}  # names are in /etc/hosts, as there is no name server for gRPC to ask
STARTED = "started"
PATIENCE = 60.0  # seconds until a container is there: half a second where nothing else runs
_TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount", "chroot")

_UNSHARE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private")

# The world: memory for the layers, a bridge for the network cards. Ends when its input does.
_WORLD = """
set -e
mount -t tmpfs -o size=2g tmpfs "$1"
ip link set lo up
ip link add bridge type bridge
ip addr add {network}.1/24 dev bridge
ip link set bridge up
echo {started}
while read -r _; do :; done
""".replace("{network}", NETWORK).replace("{started}", STARTED)

# A container's first process: $1 its folder, $2 the lower layers, $3 its name, $4 a folder of this machine that it
# keeps though it lies where a container has memory of its own. Nothing answers where names are asked for, so that who
# asks for an unknown one hears so at once and not after ten seconds. bash reaps what is left to it.
_CONTAINER = """
set -e
mkdir -p "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount --rbind /dev dev
mount -t tmpfs -o size=8g tmpfs dev/shm
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs tmpfs run
if [ -n "$4" ]; then mkdir -p ".$4"; mount --bind "$4" ".$4"; mount -o remount,bind,ro ".$4"; fi
mount -t proc proc proc
hostname "$3"
rm -f etc/resolv.conf
echo nameserver 127.0.0.1 > etc/resolv.conf
ip link set lo up
echo {started}
exec chroot . /bin/bash -c 'while read -r _; do :; done'
""".replace("{started}", STARTED)


def beside_python(command: str) -> Path:
    """A command that was installed with this Python."""
    path = Path(sys.executable).parent / command
    if not path.exists():
        raise FileNotFoundError(f"{command} is not installed beside {sys.executable}")
    return path


@functools.cache
def missing() -> str | None:
    """Why no container can be made here, or None: tests skip with it. Makes one, as rights differ in many ways."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "containers need root on Linux"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"containers need {', '.join(absent)}"
    try:
        with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as trial, trial.container("trial") as made:
            done = made.run(["true"], user="65534:65534", timeout=PATIENCE)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"namespaces are not allowed here: {error}"
    return None if done.returncode == 0 else f"nothing can be run in namespaces here: {done.stdout.strip()}"


@dataclass
class Container:
    """`root`: its file system as this process sees it; `layer`: what was written, a layer for other containers."""

    name: str
    pid: int
    root: Path
    layer: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, argv: Sequence[str], user: str | None, cwd: str) -> list[str]:
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", "--root", f"--wdns={cwd}"]
        uid, _, gid = (user or "0:0").partition(":")
        rights = ["setpriv", f"--reuid={uid}", f"--regid={gid or uid}", "--clear-groups"]
        return [*enter, *rights, *(["--no-new-privs"] if user else []), *argv]

    def start(
        self,
        argv: Sequence[str],
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: str = "/",
        log: Path | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command; it ends with the container at the latest."""
        output = subprocess.PIPE if log is None else log.open("wb")
        process = subprocess.Popen(
            self.command(argv, user, cwd),
            env={"PATH": PATH, **NAMES, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if log is not None:
            output.close()  # type: ignore[union-attr]
        self.running.append(process)
        return process

    def run(
        self,
        argv: Sequence[str],
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: str = "/",
        timeout: float = 300.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; output holds both streams. TimeoutExpired after `timeout` seconds."""
        process = self.start(argv, user, environment, cwd)
        output, _ = process.communicate(timeout=timeout)
        self.running.remove(process)
        return subprocess.CompletedProcess(list(argv), process.returncode, output)

    def until(self, argv: Sequence[str], seconds: float, accept: Sequence[int] = (0,)) -> None:
        """Wait until a command ends well, as an engine's probe does; TimeoutError with its last output."""
        deadline = time.monotonic() + seconds
        while (done := self.run(argv)).returncode not in accept:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {' '.join(argv)}: {done.stdout}")
            time.sleep(0.2)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def add(self, source: Path, path: str) -> None:
        """Copy a file or folder of this machine to `path`."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


@dataclass
class World:
    """`names`: host names and addresses, which every container of the world knows."""

    pid: int
    folder: Path
    names: Mapping[str, str]
    count: int = 0

    def run(self, *argv: str) -> None:
        """Run a command of this machine that sees the layers."""
        subprocess.run([*_enter(self.pid, "--mount"), *argv], check=True)

    @contextmanager
    def container(self, name: str, layers: Sequence[str] = ()) -> Iterator[Container]:
        """A container over `layers`, topmost first, over this machine's root."""
        self.count += 1
        number = self.count
        folder = self.folder / f"{number}-{name}"
        lower = ":".join([*layers, "/"])
        process = _held(
            [*_enter(self.pid, "--mount", "--pid"), *_UNSHARE, "--uts", "bash", "-c", _CONTAINER, "bash"],
            (str(folder), lower, name, _hidden(Path(sys.prefix))),
        )
        try:
            pid = _innermost(process)
            container = Container(name, pid, Path(f"/proc/{pid}/root"), str(folder / "upper"))
            self._connect(container, number)
            container.write("/etc/hosts", "".join(f"{ip} {host}\n" for host, ip in self._hosts(name, number)))
            yield container
        finally:
            _end(process)
            for started in container.running:
                _end(started)

    def _address(self, name: str, number: int) -> str:
        return self.names.get(name, f"{NETWORK}.{100 + number}")

    def _hosts(self, name: str, number: int) -> list[tuple[str, str]]:
        return [("localhost", "127.0.0.1"), *self.names.items(), (name, self._address(name, number))]

    def _connect(self, container: Container, number: int) -> None:
        here, there = f"world{number}", f"inside{number}"
        _ip(
            self.pid,
            f"link add {here} type veth peer name {there}",
            f"link set {here} master bridge up",
            f"link set {there} netns {container.pid}",
        )
        _ip(
            container.pid,
            f"addr add {self._address(container.name, number)}/24 dev {there}",
            f"link set {there} up",
            f"route add default via {NETWORK}.1",
        )


@contextmanager
def world(folder: Path, names: Sequence[str] = ()) -> Iterator[World]:
    """A network of its own for containers, those in `names` under fixed addresses; `folder` must be an empty one."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _held(
        [*_UNSHARE, "--mount-proc", "bash", "-c", _WORLD, "bash"],
        (str(folder),),
    )
    try:
        addresses = {name: f"{NETWORK}.{10 + index}" for index, name in enumerate(names)}
        yield World(_innermost(process), folder, addresses)
    finally:
        _end(process)


def _hidden(place: Path) -> str:
    """`place` where it lies in a folder of which a container has its own; else nothing."""
    return str(place) if any(place.is_relative_to(own) for own in ("/tmp", "/run")) else ""


def _enter(pid: int, *namespaces: str) -> list[str]:
    return ["nsenter", f"--target={pid}", *namespaces]


def _ip(pid: int, *lines: str) -> None:
    """Carry out commands of `ip` in the network that a process has."""
    batch = [*_enter(pid, "--net"), "ip", "-batch", "-"]
    subprocess.run(batch, input="\n".join(lines), text=True, check=True)


def _held(argv: Sequence[str], arguments: Sequence[str]) -> subprocess.Popen[str]:
    """A process that says when it is ready and lives as long as its input is open, so no longer than this one."""
    process = subprocess.Popen(
        [*argv, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    if ready and process.stdout.readline().strip() == STARTED:
        return process
    process.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    raise RuntimeError(f"no container: {errors.strip() or f'not there after {PATIENCE:.0f} s'}")


def _innermost(process: subprocess.Popen[str]) -> int:
    """The process inside the namespaces: below unshare, and nsenter where the container is in a world."""
    pid = process.pid
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        pid = int(children[0])
    return pid


def _end(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
