"""Brings the index of a benchmark to every node: built once, kept in the lake in pieces, one folder a node.

    driver: items -> index in a node folder -> <scratch>/index/<file>.<piece>, <scratch>/index/files.json last
    worker: node folder there? use it : fetch the pieces under a lock, rename, use it

A node folder appears whole or not at all, and all workers of the node map the same files into memory, so a node holds
the index once. The driver's node folder is where it built the index: its workers fetch nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from operators.lake import Lake
from operators.overlap.files import checksum
from pipelines.config import ConfigError

PIECE_BYTES = 64 << 20  # of an index file, one object: what is held in memory to write it
DROP_SECONDS = 60.0  # for nodes to remove their folders at the end: what is left is found by its name the next time
_FOLDER, _FILES = "index", "files.json"


@dataclass(frozen=True)
class IndexPlace:
    """Where the index is: in the lake `scratch`, and on every node in a folder named after `digest`, which tells what
    the index was made of."""

    scratch: Lake
    digest: str

    @property
    def folder(self) -> Path:
        """The folder of this node; whole where it exists."""
        return _cache() / xxhash.xxh3_128_hexdigest(f"{self.scratch.root}\0{self.digest}".encode())

    def build(self, make: Callable[[Path], Any]) -> Path:
        """The folder of this node, made by `make(folder)` where it is not there yet."""
        with self._locked() as is_there:
            if not is_there:
                self._appear(make)
        return self.folder

    def fetch(self) -> Path:
        """The folder of this node, from the lake where it is not there yet.

        Raises:
            FileNotFoundError: the lake does not hold the index.
        """
        if self.folder.is_dir():  # most calls: no lock is taken
            return self.folder
        return self.build(self.download)

    def is_stored(self) -> bool:
        """Whether the lake holds the index whole."""
        return self._listing() is not None

    def store(self) -> None:
        """Copy this node's folder into the lake, piece by piece; pieces that are there already stay."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        files: dict[str, Any] = {
            path.relative_to(self.folder).as_posix(): [path.stat().st_size, checksum(path)] for path in paths
        }
        if self._listing() == files:
            return
        for name, (size, _) in files.items():
            with (self.folder / name).open("rb") as file:
                for piece in range(_pieces(size)):
                    self.scratch.storage.write(self._piece(files, name, piece), file.read(PIECE_BYTES))
        said = {"digest": self.digest, "files": files}
        self.scratch.storage.write(f"{_FOLDER}/{_FILES}", json.dumps(said, sort_keys=True).encode())

    def drop(self) -> None:
        """Remove this node's folder; no worker may use it any more."""
        with self._locked():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.unlink(missing_ok=True)

    def download(self, folder: Path) -> None:
        """Fetch the files of the index into `folder`."""
        files = self._listing()
        if files is None:
            raise FileNotFoundError(f"{self.scratch.root}/{_FOLDER} is gone: repeat the command, it is made again")
        for name, (size, expected) in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for piece in range(_pieces(size)):
                    file.write(self.scratch.storage.read(self._piece(files, name, piece)))
            if checksum(target) != expected:
                self.scratch.storage.delete(f"{_FOLDER}/{_FILES}")  # what is there is no index
                raise FileNotFoundError(f"{self.scratch.root}/{_FOLDER}: {name} is damaged: repeat the command")

    def _listing(self) -> dict[str, Any] | None:
        """Size and checksum of the index's files by name, where the lake holds this very index whole."""
        try:
            said = json.loads(self.scratch.storage.read(f"{_FOLDER}/{_FILES}"))
        except (FileNotFoundError, ValueError):
            return None
        return dict(said["files"]) if said.get("digest") == self.digest else None

    def _piece(self, files: dict[str, Any], name: str, piece: int) -> str:
        return f"{_FOLDER}/{sorted(files).index(name):04d}-{piece:06d}"

    @property
    def _lock(self) -> Path:
        return self.folder.with_suffix(".lock")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """One process of this node at a time; yields whether the folder is there."""
        while True:
            with self._lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not self._is_lock(file.fileno()):
                    continue  # whoever held it removed it: others lock the next one
                yield self.folder.is_dir()
                return

    def _is_lock(self, descriptor: int) -> bool:
        """Whether an open file is the lock still."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock.stat())
        except FileNotFoundError:
            return False

    def _appear(self, make: Callable[[Path], Any]) -> None:
        for left in self.folder.parent.glob(f"{self.folder.name}.*.making"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        making = self.folder.with_suffix(f".{uuid.uuid4().hex}.making")
        making.mkdir()
        try:
            make(making)
            making.rename(self.folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)


def drop_on_nodes(place: IndexPlace) -> None:
    """Remove the folders of all nodes of the Ray cluster that this process has joined; a node that is gone has none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    drop = ray.remote(num_cpus=0, max_retries=0)(IndexPlace.drop)
    with contextlib.suppress(ray.exceptions.RayError):
        here = ray.get_runtime_context().get_node_id()
        others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
        on = [NodeAffinitySchedulingStrategy(node, soft=False) for node in others]
        dropped = [drop.options(scheduling_strategy=each).remote(place) for each in on]
        if dropped:
            ray.wait(dropped, num_returns=len(dropped), timeout=DROP_SECONDS)


def _pieces(size: int) -> int:
    return -(-size // PIECE_BYTES)


def _cache() -> Path:
    """The folder of this user's indexes on this node, which nobody else can put anything into.

    Raises:
        ConfigError: the name is taken by somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"assay-overlap-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigError(f"{folder} is no folder of yours alone: remove it, or point TMPDIR elsewhere")
    return folder
