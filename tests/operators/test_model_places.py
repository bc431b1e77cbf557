"""Where a model is found: a folder, an object store; once a machine, whole, and the weights that the driver saw."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
import runs
import s3
import small
from runs import rows

from operators import model_places
from operators.model_files import ModelError, fingerprint
from operators.model_places import ModelPlace, known_fingerprint
from operators.storage import ObjectError, Storage
from pipelines.plan import make_plan


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(model_places.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine than the driver's, from the second question on."""
    names = iter(["driver"])
    monkeypatch.setattr(model_places, "_machine", lambda: next(names, "worker-7"))


@pytest.fixture
def stored(model_folder: Path) -> Iterator[str]:
    """The small model in a store that is no disk."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for path in model_folder.iterdir():
        memory.pipe_file(f"/models/small/{path.name}", path.read_bytes())
    memory.pipe_file("/models/small/notes/readme.json", b"below")
    memory.pipe_file("/models/small/weights.bin", b"pickled")
    yield "memory://models/small"
    memory.store.clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from object storage."""
    names: list[str] = []
    ranges = Storage.ranges

    def noted(self: Storage, path: str, size: int | None = None) -> Any:
        names.append(path)
        return ranges(self, path, size)

    monkeypatch.setattr(Storage, "ranges", noted)
    return names


def test_a_local_folder_is_where_it_is(model_folder: Path) -> None:
    assert ModelPlace.find(str(model_folder)).folder() == model_folder


def test_a_machine_without_the_folder_says_so(model_folder: Path, tmp_path: Path, elsewhere: None) -> None:
    moved = shutil.copytree(model_folder, tmp_path / "model")
    place = ModelPlace.find(str(moved)).pinned(fingerprint(moved))
    shutil.rmtree(moved)
    with pytest.raises(ModelError, match=r"this machine \(worker-7\) has no such folder.*every node.*object storage"):
        place.folder()


def test_other_weights_on_another_machine_are_refused(tmp_path: Path, elsewhere: None) -> None:
    folder = small.make_model_folder(tmp_path / "model")
    place = ModelPlace.find(str(folder)).pinned(fingerprint(folder))
    assert place.folder() == folder
    assert place.folder(weights=False) == folder
    small.make_model_folder(folder, seed=1)
    with pytest.raises(ModelError, match=r"weights on this machine \(worker-7\) are not the driver's"):
        place.folder()
    assert place.folder(weights=False) == folder  # to tokenize, any weights will do


def test_weights_are_read_once_a_machine(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def noted(folder: Path) -> str:
        read.append(folder)
        return fingerprint(folder)

    monkeypatch.setattr(model_places, "fingerprint", noted)
    monkeypatch.setattr(model_places, "SETTLED_SECONDS", -1.0)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(known_fingerprint, [model_folder] * 8))
    assert found == {fingerprint(model_folder)}
    assert len(read) == 1
    other = small.make_model_folder(tmp_path / "other", seed=1)
    assert known_fingerprint(other) == fingerprint(other) not in found
    small.make_model_folder(other, seed=2)
    assert known_fingerprint(other) == fingerprint(other)


def test_a_plan_reads_weights_once(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night's start does not wait for 140 GB to be read again."""
    monkeypatch.setattr(model_places, "SETTLED_SECONDS", -1.0)
    first = make_plan(runs.config(model_folder, corpus, tmp_path / "lake"))
    monkeypatch.setattr(model_places, "fingerprint", lambda _: pytest.fail("read again"))
    assert make_plan(runs.config(model_folder, corpus, tmp_path / "lake")).identity == first.identity
    assert first.model_facts["fingerprint"] == fingerprint(model_folder)


def test_weights_that_were_written_just_now_are_read_again(tmp_path: Path, cache: Path) -> None:
    folder = small.make_model_folder(tmp_path / "model")
    known_fingerprint(folder)
    weights = folder / "model.safetensors"
    before = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    with weights.open("r+b") as file:  # in place: the same inode, and by a coarse clock the same time
        file.write(data)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known_fingerprint(folder) == fingerprint(folder)
    assert not [path for path in cache.glob("fingerprints/*") if path.suffix != ".lock"]


@pytest.mark.parametrize("damage", ["", "0" * 31, "no fingerprint"])
def test_a_damaged_note_of_a_fingerprint_is_not_believed(
    model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(model_places, "SETTLED_SECONDS", -1.0)
    known_fingerprint(model_folder)
    (note,) = [path for path in cache.glob("fingerprints/*") if path.suffix != ".lock"]
    note.write_text(damage)
    assert known_fingerprint(model_folder) == note.read_text() == fingerprint(model_folder)


def test_a_full_disk_costs_the_notes_alone(model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_places, "SETTLED_SECONDS", -1.0)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert known_fingerprint(model_folder) == fingerprint(model_folder)
    with monkeypatch.context() as patch:
        patch.setattr(model_places, "_one_process", full)
        assert known_fingerprint(model_folder) == fingerprint(model_folder)
    assert not list(cache.rglob("*.making"))


def test_a_stored_model_is_fetched_once_by_all_processes_of_a_machine(
    stored: str, model_folder: Path, asked: list[str], elsewhere: None, cache: Path
) -> None:
    place = ModelPlace.find(stored).pinned(fingerprint(model_folder))
    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(lambda _: place.folder(), range(8)))
    assert fingerprint(folder) == fingerprint(model_folder)
    assert sorted(asked) == sorted(path.name for path in folder.iterdir())
    assert sorted(asked) == sorted(path.name for path in model_folder.iterdir())
    assert place.folder(weights=False) == folder
    assert not list(cache.rglob("*.making"))


def test_to_tokenize_no_weights_are_fetched(stored: str, asked: list[str]) -> None:
    folder = ModelPlace.find(stored).folder(weights=False)
    assert (folder / "tokenizer.json").is_file()
    assert not list(folder.glob("*.safetensors"))
    assert "model.safetensors" not in asked


def test_large_files_come_in_ranges(stored: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_places, "RANGE_BYTES", 1000)
    assert fingerprint(ModelPlace.find(stored).folder()) == fingerprint(model_folder)


def test_a_fetch_that_is_killed_leaves_no_folder(
    stored: str, model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ModelPlace.find(stored)
    download = model_places._download

    def killed(source: Storage, file: model_places.SourceFile, target: Path) -> None:
        if file.name == "tokenizer.json":
            raise KeyboardInterrupt
        download(source, file, target)

    with monkeypatch.context() as patch:
        patch.setattr(model_places, "_download", killed)
        patch.setattr(model_places.shutil, "rmtree", lambda *_, **__: None)  # a kill cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            place.folder()
    assert len(list(cache.glob("models/*.making"))) == 1
    assert fingerprint(place.folder()) == fingerprint(model_folder)
    assert not list(cache.glob("models/*.making"))


def test_a_store_that_changes_is_another_folder_and_mid_way_a_refusal(
    stored: str, model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.storage.remote.FIRST_PAUSE", 0.0)
    place = ModelPlace.find(stored).pinned(fingerprint(model_folder))
    fsspec.filesystem("memory").pipe_file("/models/small/model.safetensors", b"short")
    with pytest.raises(ObjectError, match=r"model\.safetensors: .*5 bytes came, \d+ were asked for"):
        place.folder()
    assert not list(cache.glob("models/*/"))
    assert ModelPlace.find(stored).files != place.files


def test_a_nearly_full_disk_takes_a_part_at_a_time(
    stored: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[: max(1, len(data) // 2)], at))
    assert fingerprint(ModelPlace.find(stored).folder()) == fingerprint(model_folder)


def test_a_full_disk_is_named_with_what_is_needed(stored: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ModelError, match=r"its copy of 0\.\d MiB cannot be made in .*No space left.*ASSAY_CACHE"):
        ModelPlace.find(stored).folder()
    assert not list(cache.glob("models/*/"))


def test_machines_of_one_name_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.make_model_folder(tmp_path / "model")
    place = ModelPlace.find(str(folder)).pinned("of other weights")
    assert place.folder() == folder
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **how: "7" if self.name == "boot_id" else read_text(self, **how)
    )
    with pytest.raises(ModelError, match="are not the driver's"):
        place.folder()


@pytest.mark.parametrize(
    ("missing", "said"), [("config.json", r"no config\.json there"), ("model.safetensors", r"no \.safetensors file")]
)
def test_stores_that_hold_no_model_are_named(stored: str, missing: str, said: str) -> None:
    fsspec.filesystem("memory").rm_file(f"/models/small/{missing}")
    with pytest.raises(ModelError, match=said):
        ModelPlace.find(stored)


def test_a_cache_that_cannot_be_written_names_the_setting(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(model_places.CACHE, str(tmp_path / "file"))
    with pytest.raises(ModelError, match="ASSAY_CACHE"):
        ModelPlace.find(stored).folder()


def test_a_run_with_a_model_in_s3_has_the_rows_of_a_local_one(
    model_folder: Path, tmp_path: Path, asked: list[str]
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    small.write_corpus(corpus, 9)
    shutil.copytree(model_folder, tmp_path / "s3" / "bucket" / "model")
    runs.run(model_folder, corpus, tmp_path / "local")
    with s3.lone_server(tmp_path / "s3") as server:
        options = {"s3": server.options}
        runs.run("s3://bucket/model", corpus, tmp_path / "lake", storage_options=options)
        make_plan(runs.config("s3://bucket/model", corpus, tmp_path / "lake", "second", storage_options=options))
    assert rows(tmp_path / "local", "tokens").equals(rows(tmp_path / "lake", "tokens"))
    assert asked.count("model.safetensors") == 1  # a second command takes what the first one fetched
