"""The index of a benchmark on its way to a node: in pieces, whole or not at all, once for all processes of the node."""

from __future__ import annotations

import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from operators.lake import Lake
from pipelines.config import ConfigError
from pipelines.overlap import index as overlap_index
from pipelines.overlap.index import IndexPlace

FILES = {"a": b"0123456789" * 10, "index/b.npy": b"x" * 33, "empty": b""}


@pytest.fixture(autouse=True)
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap_index, "PIECE_BYTES", 16)
    on_node(tmp_path, monkeypatch, "driver")


def on_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """From now on this process is on another node."""
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    return tmp_path / name


def make(folder: Path) -> None:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.fixture
def place(tmp_path: Path) -> IndexPlace:
    place = IndexPlace(Lake(str(tmp_path / "lake")), "digest")
    place.build(make)
    return place


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_node_fetches_what_another_stored_once(
    place: IndexPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not place.is_stored()
    place.store()
    assert place.is_stored()
    assert len(list((tmp_path / "lake" / "index").iterdir())) == 7 + 3 + 0 + 1
    node = on_node(tmp_path, monkeypatch, "worker")
    fetched = []
    read = overlap_index.IndexPlace.download
    monkeypatch.setattr(IndexPlace, "download", lambda self, folder: (fetched.append(1), read(self, folder)))
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: place.fetch(), range(16)))
    assert (len(folders), fetched) == (1, [1])
    assert content(folders.pop()) == FILES
    place.drop()
    assert [path for path in node.rglob("*") if path.is_file()] == []


def test_it_is_made_once_and_what_a_killed_process_began_is_removed(place: IndexPlace) -> None:
    left = place.folder.with_suffix(".0.making")
    left.mkdir()
    assert place.build(pytest.fail) == place.folder
    place.drop()
    assert not place.folder.exists()
    with pytest.raises(RuntimeError, match="half-way"):
        place.build(half_way)
    assert not place.folder.exists()
    place.build(make)
    assert content(place.folder) == FILES
    assert not left.exists()


def half_way(folder: Path) -> None:
    (folder / "a").write_bytes(b"0")
    raise RuntimeError("half-way")


def test_an_index_of_something_else_or_not_whole_is_not_taken(
    place: IndexPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.store()
    on_node(tmp_path, monkeypatch, "worker")
    with pytest.raises(FileNotFoundError, match="is gone: repeat the command"):
        IndexPlace(place.scratch, "another").fetch()
    piece = tmp_path / "lake" / "index" / "0000-000001"
    whole = piece.read_bytes()
    listing = (tmp_path / "lake" / "index" / "files.json").read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"\0"):
        piece.write_bytes(damaged)
        with pytest.raises(FileNotFoundError, match="a is damaged: repeat the command"):
            place.fetch()
        assert not place.folder.exists()
        assert not place.is_stored()  # so the driver makes it again
        (tmp_path / "lake" / "index" / "files.json").write_bytes(listing)
    piece.write_bytes(whole)
    assert content(place.fetch()) == FILES


def test_a_lock_that_was_removed_meanwhile_is_none(place: IndexPlace) -> None:
    """Else a process that waited for it and one that came later would make the index side by side."""
    entered, left = threading.Event(), threading.Event()

    def drop() -> None:
        with place._locked():
            entered.set()
            left.wait(10)
            place._lock.unlink()

    def wait() -> bool:
        with place._locked():
            return place._lock.exists()

    with ThreadPoolExecutor(2) as pool:
        dropping = pool.submit(drop)
        assert entered.wait(10)
        waiting = pool.submit(wait)
        time.sleep(0.1)
        left.set()
        dropping.result(10)
        assert waiting.result(10)


def test_indexes_of_two_overlaps_are_apart(place: IndexPlace, tmp_path: Path) -> None:
    other = IndexPlace(Lake(str(tmp_path / "other")), "digest")
    assert other.folder != place.folder
    other.build(make)
    other.drop()
    assert content(place.folder) == FILES


def test_a_folder_that_others_can_write_to_is_refused(place: IndexPlace) -> None:
    cache = place.folder.parent
    assert stat.S_IMODE(cache.stat().st_mode) & 0o077 == 0
    cache.chmod(0o777)
    with pytest.raises(ConfigError, match="no folder of yours alone"):
        place.fetch()
    cache.chmod(0o700)
    moved = cache.with_name("moved")
    cache.rename(moved)
    cache.symlink_to(moved)
    with pytest.raises(ConfigError, match="no folder of yours alone"):
        place.fetch()
