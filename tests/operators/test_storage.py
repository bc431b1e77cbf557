"""Objects appear whole, names stay inside the root, an object store behaves as a disk does, and failures are told."""

from __future__ import annotations

import errno
import io
import os
import pickle
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from operators.storage import ObjectError, Storage, is_temporary, remote
from operators.storage.object_file import ObjectFile

HOSTILE = ["", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "./a", "a/.", "a\\b", "a\0b", "a/"]


@pytest.fixture(params=["local", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "lake") if request.param == "local" else f"memory://bucket-{uuid.uuid4().hex}/lake")


def test_an_object_is_read_back_replaced_and_deleted(storage: Storage) -> None:
    assert not storage.exists("a/b.bin")
    storage.write("a/b.bin", b"one")
    storage.write("a/b.bin", memoryview(b"two"))
    assert storage.exists("a/b.bin")
    assert storage.read("a/b.bin") == b"two"
    with storage.open("a/b.bin") as file:
        assert file.read(1) == b"t"
    storage.delete("a/b.bin")
    storage.delete("a/b.bin")
    assert not storage.exists("a/b.bin")
    with pytest.raises(FileNotFoundError):
        storage.read("a/b.bin")


def test_a_file_is_written_as_it_is(storage: Storage, tmp_path: Path) -> None:
    for content in (b"one", b"", bytes(3 << 20)):
        (tmp_path / "local").write_bytes(content)
        storage.write_file("a/b", tmp_path / "local")
        assert storage.read("a/b") == content
    with pytest.raises(FileNotFoundError):
        storage.write_file("a/b", tmp_path / "nowhere")
    assert storage.list("a") == ["b"]
    assert storage.read("a/b") == bytes(3 << 20)


def test_listing_names_files_and_folders_and_never_fails_on_what_is_not_there(storage: Storage) -> None:
    assert storage.list("a") == []
    for path in ("a/2", "a/1", "a/c/3", "b/4"):
        storage.write(path, b"")
    assert storage.list("a") == ["1", "2", "c/"]
    assert storage.list("a/c") == ["3"]


def test_parquet_is_read_by_column(storage: Storage) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2], "y": ["a", "b"]}), sink, write_page_checksum=True)
    storage.write("t/x.parquet", sink.getvalue())
    with storage.parquet("t/x.parquet", verify_checksums=True) as file:
        assert file.read(columns=["y"]).to_pydict() == {"y": ["a", "b"]}


def test_a_broken_parquet_file_is_named(storage: Storage) -> None:
    storage.write("t/x.parquet", b"PAR1 not really PAR1")
    with pytest.raises((OSError, pa.ArrowException)) as caught, storage.parquet("t/x.parquet"):
        pass
    assert caught.value.__notes__ == [f"while reading {storage.root}/t/x.parquet"]


@pytest.mark.parametrize("path", HOSTILE)
def test_paths_that_could_lead_out_are_refused(storage: Storage, path: str) -> None:
    with pytest.raises(ValueError, match="not a relative path"):
        storage.write(path, b"x")
    with pytest.raises(ValueError, match="not a relative path"):
        storage.uri(path)


def test_symbolic_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "lake"
    outside.mkdir()
    root.mkdir()
    (outside / "precious").write_bytes(b"x")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "precious")
    storage = Storage(str(root))
    for refused in (storage.delete, storage.read, storage.list, storage.exists):
        with pytest.raises(ValueError, match="leads out of"):
            refused("link/precious")
    with pytest.raises(ValueError, match="leads out of"):
        storage.write("file", b"y")
    assert (outside / "precious").read_bytes() == b"x"


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "lake").symlink_to(tmp_path / "real")
    Storage(str(tmp_path / "lake")).write("a", b"1")
    assert (tmp_path / "real" / "a").read_bytes() == b"1"


def test_a_relative_root_means_the_same_folder_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("lake")
    monkeypatch.chdir("/")
    pickle.loads(pickle.dumps(storage)).write("a", b"1")
    assert (tmp_path / "lake" / "a").read_bytes() == b"1"


def test_a_uri_keeps_its_scheme() -> None:
    assert Storage("memory://bucket/lake/").uri("tokens/x") == "memory:///bucket/lake/tokens/x"
    assert Storage("/tmp/lake").uri("tokens/x") == "/tmp/lake/tokens/x"
    assert Storage("file:///tmp/lake").uri("x") == "/tmp/lake/x"


def test_a_write_that_fails_leaves_the_old_object_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    storage.write("a/b", b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write("a/b", b"new")
    assert storage.list("a") == ["b"]
    assert storage.read("a/b") == b"old"


def test_readers_never_see_half_an_object(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    contents = [bytes([i]) * 200_000 for i in range(2)]
    storage.write("x", contents[0])
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for content in contents:
                storage.write("x", content)

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = {storage.read("x") for _ in range(200)}
    stop.set()
    writer.join()
    assert seen <= set(contents)


def test_temporary_names_are_told_from_parts() -> None:
    assert is_temporary(f".x.parquet.{uuid.uuid4().hex}.tmp")
    assert not is_temporary("x.parquet")
    assert not is_temporary(".hidden.tmp")
    assert not is_temporary(f"x.{uuid.uuid4().hex}.tmp")


def test_only_empty_local_folders_are_removed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("full/x", b"")
    (tmp_path / "empty").mkdir()
    for folder in ("full", "empty", "missing"):
        storage.delete_empty_folder(folder)
    assert storage.exists("full/x")
    assert not (tmp_path / "empty").exists()


def test_finding_lists_every_depth(storage: Storage) -> None:
    assert storage.find("a") == {}
    for path in ("a/2", "a/c/d/3", "b/4"):
        storage.write(path, path.encode())
    assert {name: info["size"] for name, info in storage.find("a").items()} == {"a/2": 3, "a/c/d/3": 7}
    assert set(storage.find()) == {"a/2", "a/c/d/3", "b/4"}
    assert storage.size("a/c/d/3") == 7


# A storage that fails


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Every call fails as often as `failures` says, then works."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own way
    pseudo_dirs = [""]  # noqa: RUF012
    failures = 0
    error: Exception = OSError(errno.EBUSY, "busy")
    calls: Counter[str] = Counter()  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        super().__init__()


def _failing(name: str) -> Any:
    def call(self: Flaky, *args: Any, **kwargs: Any) -> Any:
        Flaky.calls[name] += 1
        if Flaky.calls[name] <= Flaky.failures:
            raise Flaky.error
        return getattr(MemoryFileSystem, name)(self, *args, **kwargs)

    return call


for _name in ("ls", "find", "info", "cat_file", "pipe_file", "rm_file"):
    setattr(Flaky, _name, _failing(_name))


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    storage = Storage("flaky://bucket/lake", {"secret": "topsecretvalue", "anon": False})
    storage.write("t/x", b"0123456789")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": range(1000)}), sink)
    storage.write("t/x.parquet", sink.getvalue())
    Flaky.calls.clear()
    yield storage
    Flaky.failures, Flaky.error = 0, OSError(errno.EBUSY, "busy")
    Flaky.store.clear()


def _read_parquet(storage: Storage) -> Any:
    with storage.parquet("t/x.parquet") as file:
        return file.read()["x"].to_pylist()


ACTIONS = {
    "list": (lambda s: s.list("t"), ["x", "x.parquet"]),
    "find": (lambda s: set(s.find("t")), {"t/x", "t/x.parquet"}),
    "exists": (lambda s: s.exists("t/x"), True),
    "size": (lambda s: s.size("t/x"), 10),
    "open": (lambda s: s.open("t/x").read(4), b"0123"),
    "read": (lambda s: s.read("t/x"), b"0123456789"),
    "parquet": (_read_parquet, list(range(1000))),
    "write": (lambda s: s.write("t/y", b"1"), None),
    "delete": (lambda s: s.delete("t/x"), None),
}


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "busy"), ConnectionError("reset"), TimeoutError("slow")])
@pytest.mark.parametrize("action", ACTIONS)
def test_every_call_to_a_remote_storage_is_made_again(flaky: Storage, action: str, error: Exception) -> None:
    call, expected = ACTIONS[action]
    Flaky.failures, Flaky.error = 3, error
    assert call(flaky) == expected
    assert max(Flaky.calls.values()) >= 4


@pytest.mark.parametrize("action", ACTIONS)
def test_giving_up_names_the_object_and_says_what_to_do(flaky: Storage, action: str) -> None:
    Flaky.failures, Flaky.error = 99, ConnectionError("refused for topsecretvalue")
    with pytest.raises(ObjectError) as caught:
        ACTIONS[action][0](flaky)
    message = str(caught.value)
    assert "flaky://bucket/lake/t" in message
    assert "the same command resumes" in message
    assert f"tried {remote.ATTEMPTS} times" in message
    assert max(Flaky.calls.values()) == remote.ATTEMPTS


def test_a_lasting_error_is_not_tried_again(flaky: Storage) -> None:
    Flaky.failures, Flaky.error = 99, PermissionError("forbidden")
    with pytest.raises(ObjectError, match="cannot write flaky://bucket/lake/t/y: permission denied") as caught:
        flaky.write("t/y", b"1")
    assert caught.value.errno == errno.EACCES
    assert Flaky.calls["pipe_file"] == 1


def test_a_cut_answer_is_asked_for_again(flaky: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Flaky.cat_file

    def cut(self: Flaky, path: str, **how: Any) -> bytes:
        return whole(self, path, **how)[: -1 if Flaky.calls["cat_file"] == 1 else None]

    monkeypatch.setattr(Flaky, "cat_file", cut)
    assert flaky.ranges("t/x").read(5) == b"01234"
    assert Flaky.calls["cat_file"] == 2


def test_credentials_are_nowhere_to_be_seen(flaky: Storage) -> None:
    Flaky.failures, Flaky.error = 99, ConnectionError("https://x?sig=topsecretvalue")
    with pytest.raises(ObjectError) as caught:
        flaky.read("t/x")
    shown = [repr(flaky), str(flaky), repr(caught.value), *traceback.format_exception(caught.value)]
    assert not any("topsecretvalue" in text for text in shown)
    assert b"topsecretvalue" not in pickle.dumps(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.errno) == (ObjectError, str(caught.value), errno.EIO)


def test_options_are_those_of_the_scheme() -> None:
    options = {"s3": {"key": "a"}, "memory": {"asynchronous": False}}
    assert Storage("memory://bucket", options).options == {"asynchronous": False}
    assert Storage("/tmp/lake", {"key": "a"}).options == {}


# A disk that fails


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full, or a quota"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "permission denied"),
        (errno.EIO, "the storage failed"),
    ],
)
def test_a_disk_that_fails_is_told_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    storage = Storage(str(tmp_path))
    calls = []

    def fail(_: int) -> None:
        calls.append(1)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ObjectError, match=said) as caught:
        storage.write("a/b", b"new")
    assert str(tmp_path / "a" / "b") in str(caught.value)
    assert "the same command resumes" in str(caught.value)
    assert caught.value.errno == number
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert storage.list("a") == []
    assert len(calls) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ObjectError, match="permission denied"):
        Storage(str(tmp_path)).write("a/b", b"new")


# Reading by ranges


def test_an_object_file_reads_what_is_asked_and_no_more() -> None:
    data, asked = bytes(range(100)), []

    def fetch(start: int, end: int) -> bytes:
        asked.append((start, end))
        return data[start:end]

    file = ObjectFile(fetch, len(data))
    assert file.seek(-10, io.SEEK_END) == 90
    assert file.read(5) == data[90:95]
    assert file.seek(2, io.SEEK_CUR) == 97
    assert file.read(50) == data[97:]
    assert file.read() == b""
    file.seek(98)
    assert file.readall() == data[98:]
    assert asked == [(90, 95), (97, 100), (98, 100)]
    with pytest.raises(ValueError, match="before the start"):
        file.seek(-1)
    file.seek(0)
    assert io.BufferedReader(file, 64).read(3) == data[:3]
    assert asked[-1] == (0, 64)
