"""An object store that only lists: names of an input and of a lake's parts that are worked out as they are asked for,
and the few real objects of a run (ledger, journal, units).

    bench-lists://<world>/in/<number>.jsonl.zst                  what a run reads
    bench-lists://<world>/lake/<table>/run_id=bench/<part>       parts that are there: one byte of memory each
    bench-lists://<world>/lake/{runs,progress}/...               real bytes

It answers as an S3 client does, with the same fields for every object, a thousand names a request, and counts requests
by kind; time on the network is what these come to at a stated latency, and nobody waits for it. A store can be killed:
then it refuses every write, as one does whose client has lost its machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import fsspec

from operators.lake import PART_TABLES

PROTOCOL = "bench-lists"
RUN = "bench"
NAMES_A_REQUEST = 1000
SHARD_BYTES = 20 << 20  # more than a unit takes, less than is cut: a unit each
_WRITTEN_AT = datetime(2026, 1, 1, tzinfo=UTC)
# Odd numbers have an inverse modulo 2^64: names spread like digests, and a block is told from its part's name.
_HIGH, _LOW = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
_LOW_INVERSE = pow(_LOW, -1, 1 << 64)


def part_name(block: int) -> str:
    """The name of the parts of the run's block number `block`."""
    return f"{(block + 1) * _HIGH % (1 << 64):016x}{(block + 1) * _LOW % (1 << 64):016x}"


def block_of(name: str) -> int:
    """The block whose parts have this name."""
    return int(name[16:], 16) * _LOW_INVERSE % (1 << 64) - 1


@dataclass
class World:
    """`parts`: by table which blocks have theirs. `requests`: by kind, of the driver; workers' are not counted."""

    n_shards: int
    n_blocks: int
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, bytearray] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    is_dead: bool = False

    def __post_init__(self) -> None:
        self.parts = {table: bytearray(self.n_blocks) for table in PART_TABLES}

    def entries(self, folder: str) -> list[dict[str, Any]] | None:
        """What lies directly in a folder; None where there is none."""
        found = list(self._below(folder))
        self.requests["list"] += max(1, -(-len(found) // NAMES_A_REQUEST))
        return found or None

    def _below(self, folder: str) -> Iterator[dict[str, Any]]:
        if folder == "in":
            for number in range(self.n_shards):
                yield _entry(f"in/{number:09d}.jsonl.zst", SHARD_BYTES, number)
        for table in PART_TABLES:
            if folder == f"lake/{table}/run_id={RUN}":
                for block, is_there in enumerate(self.parts[table]):
                    if is_there:
                        yield _entry(f"{folder}/{part_name(block)}.parquet", 1 << 20, block)
            elif folder == f"lake/{table}" and any(self.parts[table]):
                yield {"name": f"{folder}/run_id={RUN}", "type": "directory", "size": 0}
        for path, data in self.objects.items():
            if path.rpartition("/")[0] == folder:
                yield _entry(path, len(data), 0)

    def place_of(self, path: str) -> tuple[bytearray, int] | None:
        """Where it is noted that a part is there; None where the path is of another kind of object."""
        folder, _, name = path.rpartition("/")
        for table, there in self.parts.items():
            if folder == f"lake/{table}/run_id={RUN}":
                block = block_of(name.removesuffix(".parquet"))
                return (there, block) if 0 <= block < self.n_blocks else None
        return None


def _entry(name: str, size: int, tag: int) -> dict[str, Any]:
    return {
        "Key": name, "LastModified": _WRITTEN_AT, "ETag": f'"{tag:032x}"', "Size": size, "StorageClass": "STANDARD",
        "type": "file", "size": size, "name": name,
    }  # fmt: skip


class ListedStore(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The worlds by name, as fsspec sees them."""

    protocol = PROTOCOL
    worlds: ClassVar[dict[str, World]] = {}

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        world, place, inner = self._world(path)
        entries = world.entries(inner)
        if entries is None:
            raise FileNotFoundError(path)
        for entry in entries:
            entry["name"] = f"{place}/{entry['name']}"
        return entries if detail else [entry["name"] for entry in entries]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_options: Any
    ) -> Any:
        """Everything below; of a lake its part folders and its objects."""
        _, place, inner = self._world(path)
        folders = [inner] if inner == "in" else [f"lake/{table}/run_id={RUN}" for table in PART_TABLES]
        below = [folder for folder in folders if folder.startswith(inner)]
        found: dict[str, Any] = {}
        for folder in below:
            with_names = self.ls(f"{place}/{folder}") if self.isdir(f"{place}/{folder}") else []
            found |= {entry["name"]: entry for entry in with_names}
        return found if detail else list(found)

    def isdir(self, path: str) -> bool:
        world, _, inner = self._world(path)
        return inner == "in" or any(
            inner == f"lake/{table}/run_id={RUN}" and any(there) for table, there in world.parts.items()
        )

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        world, place, inner = self._world(path)
        world.requests["head"] += 1
        if self.isdir(path):
            return {"name": f"{place}/{inner}", "type": "directory", "size": 0}
        part = world.place_of(inner)
        if part is not None and part[0][part[1]]:
            return _entry(f"{place}/{inner}", 1 << 20, part[1])
        if inner in world.objects:
            return _entry(f"{place}/{inner}", len(world.objects[inner]), 0)
        raise FileNotFoundError(path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        world, _, inner = self._world(path)
        world.requests["get"] += 1
        if inner not in world.objects:
            raise FileNotFoundError(path)
        return world.objects[inner][start:end]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_options: Any) -> None:
        world, _, inner = self._world(path, writes=True)
        world.requests["put"] += 1
        world.objects[inner] = bytes(value)

    def rm_file(self, path: str) -> None:
        world, _, inner = self._world(path, writes=True)
        world.requests["delete"] += 1
        part = world.place_of(inner)
        if part is not None:
            part[0][part[1]] = 0
        elif world.objects.pop(inner, None) is None:
            raise FileNotFoundError(path)

    def _world(self, path: str, *, writes: bool = False) -> tuple[World, str, str]:
        """The world, its name, and the path in it."""
        name, _, inner = str(self._strip_protocol(path)).partition("/")
        world = self.worlds[name]
        if writes and world.is_dead:
            raise PermissionError(f"the machine that writes {path} is gone")
        return world, name, inner


def make_world(name: str, n_shards: int, n_blocks: int) -> World:
    """A store of that name, empty but for its input."""
    fsspec.register_implementation(PROTOCOL, ListedStore, clobber=True)
    world = ListedStore.worlds[name] = World(n_shards, n_blocks)
    return world
