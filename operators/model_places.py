"""Finds a model on the machine that needs it: every node of a cluster has it once, and the same bytes of it.

    local folder     there already on every node that scores; its weights are compared with the driver's
    hub id           the hub's cache of the node, at the commit that the driver found
    folder URI       ASSAY_CACHE of the node, fetched by one process while the others wait

    driver:  ModelPlace.find(model) -> place          worker:  place.folder() -> Path

A folder in the cache appears whole or not at all, and is named after what the listing of its source said, so that a
changed source is another folder. Processes that tokenize take the small files only. The price of comparing: a node
reads all weights once; what it found is kept, by inode, size and times of each file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import xxhash

from operators.model_bytes import gib
from operators.model_files import MODEL_FILES, ModelError, check_folder, fingerprint, hub_snapshot
from operators.storage import ObjectError, Storage

CACHE = "ASSAY_CACHE"  # names the folder; default ~/.cache/assay
RANGE_BYTES, RANGES_AT_ONCE = 32 << 20, 8  # of a large file on its way here
SETTLED_SECONDS = 2.0  # a file that was written just now may be written again within one tick of its times
_WEIGHTS = "*.safetensors"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_TAGS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")  # as stores call them, the most telling first


@dataclass(frozen=True)
class SourceFile:
    """A file of a model in object storage; `tag`: what its store says that changes with its content."""

    name: str
    n_bytes: int
    tag: str


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is to be had. `revision`: the hub's commit. `files`: of a folder URI. `fingerprint`: of the weights
    that the driver found, and `found_on` its machine, where they need not be compared again; None before it has."""

    model: str
    revision: str | None = None
    files: tuple[SourceFile, ...] = ()
    fingerprint: str | None = None
    found_on: str | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def find(
        cls, model: str, revision: str | None = None, storage_options: Mapping[str, Any] | None = None
    ) -> ModelPlace:
        """The place of a model as this machine, the driver, sees it now. Weights are not fetched.

        Raises:
            ModelError: there is no such model. ObjectError: its storage refuses.
        """
        if is_uri(model):
            return cls(model, files=_listed(model, storage_options), storage_options=storage_options)
        if Path(model).expanduser().is_dir():
            return cls(str(Path(model).expanduser().absolute()))
        commit = hub_snapshot(model, revision, weights=False).name  # the hub names snapshots by their commits
        return cls(model, commit)

    def pinned(self, found: str) -> ModelPlace:
        """The same place, whose weights must have this fingerprint wherever they are loaded."""
        return replace(self, fingerprint=found, found_on=_machine_id())

    def folder(self, *, weights: bool = True) -> Path:
        """The model's folder on this machine, fetched where it is not there yet; `weights`: with them.

        Raises:
            ModelError: it cannot be had here, or is not what the driver found.
        """
        if is_uri(self.model):
            folder = self._cached(weights)
        elif self.revision is not None:
            folder = hub_snapshot(self.model, self.revision, weights=weights)
        else:
            folder = Path(self.model)
            if not folder.is_dir():
                raise ModelError(
                    f"model {self.model!r}: this machine ({_machine()}) has no such folder: put it there on every "
                    "node, or name the model by its hub id or the URI of a folder in object storage"
                )
        check_folder(folder, self.model, weights=weights)
        if weights:
            self._check_weights(folder)
        return folder

    def _check_weights(self, folder: Path) -> None:
        if self.fingerprint is None or self.found_on == _machine_id():
            return
        found = known_fingerprint(folder)
        if found != self.fingerprint:
            raise ModelError(
                f"model {self.model!r}: the weights on this machine ({_machine()}) are not the driver's (fingerprint "
                f"{found}, expected {self.fingerprint}): bring the same files to every node"
            )

    def _cached(self, weights: bool) -> Path:
        """A folder URI's copy on this machine."""
        files = [file for file in self.files if weights or not fnmatch(file.name, _WEIGHTS)]
        models = cache_folder("models")
        whole, folder = models / self._named(list(self.files)), models / self._named(files)
        if whole.is_dir():
            return whole
        if folder.is_dir():  # most calls: no lock is taken
            return folder
        try:
            with _one_process(folder):
                if not folder.is_dir():
                    self._fetch(files, folder)
        except ObjectError:
            raise  # of its source
        except OSError as error:
            needed = gib(sum(file.n_bytes for file in files))
            raise ModelError(
                f"model {self.model!r}: its copy of {needed} cannot be made in {models} ({error.strerror}): make room, "
                f"or name another folder with {CACHE}"
            ) from None
        return folder

    def _named(self, files: list[SourceFile]) -> str:
        return _digest([self.model, *([f.name, f.n_bytes, f.tag] for f in files)])

    def _fetch(self, files: list[SourceFile], folder: Path) -> None:
        source = Storage(self.model, self.storage_options or {})
        for left in folder.parent.glob(f"{folder.name}.*.making"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        making = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.making")
        making.mkdir()
        try:
            for file in files:
                _download(source, file, making / file.name)
            making.rename(folder)
        except FileNotFoundError as error:
            raise ModelError(f"model {self.model!r}: it changes while it is fetched ({error})") from None
        finally:
            shutil.rmtree(making, ignore_errors=True)


def is_uri(model: str) -> bool:
    return "://" in model


def known_fingerprint(folder: Path) -> str:
    """`fingerprint(folder)`, read from this machine's cache where these very files were read before."""
    files = [(path.name, path.stat()) for path in sorted([folder / "config.json", *folder.glob(_WEIGHTS)])]
    key = [str(folder.resolve()), *([name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for name, s in files)]
    newest = max(max(s.st_mtime, s.st_ctime) for _, s in files)
    with contextlib.ExitStack() as stack:
        note = None
        with contextlib.suppress(ModelError, OSError):  # no cache on this machine: each process reads for itself
            note = cache_folder("fingerprints") / _digest(key)
            stack.enter_context(_one_process(note))  # eight actors of a node read the weights once
            if _FINGERPRINT.fullmatch(known := note.read_text(encoding="ascii", errors="replace")):
                return known
        found = fingerprint(folder)
        if note is not None and time.time() - newest > SETTLED_SECONDS:
            with contextlib.suppress(OSError):
                _write_whole(note, found)
        return found


def _write_whole(path: Path, text: str) -> None:
    making = path.with_name(f"{path.name}.{uuid.uuid4().hex}.making")
    try:
        making.write_text(text, encoding="ascii")
        making.rename(path)
    finally:
        making.unlink(missing_ok=True)


def cache_folder(name: str) -> Path:
    """A folder of this user's cache on this machine.

    Raises:
        ModelError: it cannot be made.
    """
    try:
        root = Path(os.environ.get(CACHE) or "~/.cache/assay").expanduser()
    except RuntimeError:  # a container may run as a user that has no home
        raise ModelError(f"this user has no home: name a folder to keep models in with {CACHE}") from None
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (root / name).mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise ModelError(f"{root / name}: {error.strerror}; name a folder to keep models in with {CACHE}") from None
    if not os.access(root / name, os.W_OK):
        raise ModelError(f"{root / name}: it is not yours to write; name a folder to keep models in with {CACHE}")
    return root / name


def _listed(model: str, options: Mapping[str, Any] | None) -> tuple[SourceFile, ...]:
    """The files of a model directly in a folder URI."""
    storage = Storage(model, options or {})
    storage.check()
    found = storage.find()
    files = [
        SourceFile(name, int(info["size"]), _tag(info))
        for name, info in sorted(found.items())
        if "/" not in name and any(fnmatch(name, pattern) for pattern in MODEL_FILES)
    ]
    names = [file.name for file in files]
    if "config.json" not in names:
        raise ModelError(f"model {model!r}: no config.json there")
    if not any(fnmatch(name, _WEIGHTS) for name in names):
        raise ModelError(f"model {model!r}: no .safetensors file there; convert the weights first")
    return tuple(files)


def _machine() -> str:
    return os.uname().nodename


def _machine_id() -> str:
    """The machine's name, and its boot's number: machines that are made of one image may share a name."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{_machine()} {boot}"


def _tag(info: Mapping[str, Any]) -> str:
    return str(next((info[name] for name in _TAGS if info.get(name)), ""))


def _download(source: Storage, file: SourceFile, target: Path) -> None:
    """Fetch a file in ranges, several at once; little of it is in memory."""
    with target.open("xb") as opened:
        descriptor = opened.fileno()
        os.truncate(descriptor, file.n_bytes)

        def fetch(start: int) -> None:
            ranges = source.ranges(file.name, file.n_bytes)
            ranges.seek(start)
            left = memoryview(ranges.read(min(RANGE_BYTES, file.n_bytes - start)))  # whole, or it raises
            while left:  # a disk that is nearly full takes a part and says so only when asked again
                written = os.pwrite(descriptor, left, start)
                left, start = left[written:], start + written

        with ThreadPoolExecutor(RANGES_AT_ONCE) as pool:
            list(pool.map(fetch, range(0, file.n_bytes, RANGE_BYTES)))
        os.fsync(descriptor)  # before the folder has its name: a machine that stops leaves no file of zeros under it


@contextlib.contextmanager
def _one_process(path: Path) -> Iterator[None]:
    """One process of this machine at a time in what makes `path`; the lock goes with a process that is killed."""
    from filelock import FileLock

    with FileLock(f"{path}.lock"):
        yield


def _digest(parts: list[Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())
