"""Objects appear whole, names stay inside the root, and an object store behaves as a disk does."""

from __future__ import annotations

import os
import pickle
import threading
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.storage import Storage, is_temporary

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
