"""Inputs -> shards: files, folders and globs; nothing is left out without a word."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import InputError, Shard, format_of, list_shards


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"text": "t"}')


def listed(root: Path, *inputs: str, **how: Any) -> list[str]:
    """Names below `root` of the shards that inputs below `root` give."""
    shards = list_shards([str(root / given) for given in inputs], **how)
    assert [shard.uri for shard in shards] == sorted(shard.uri for shard in shards)
    return [Path(shard.uri).relative_to(root).as_posix() for shard in shards]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.parquet", "parquet"),
        ("a.PARQUET", "parquet"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson.gz", "jsonl"),
        ("a.json.zst", "jsonl"),
        ("a.JSONL.GZ", "jsonl"),
        ("a.arrow", "arrow"),
        ("a.Feather", "arrow"),
        ("a.ipc", "arrow"),
        ("a.arrow.gz", None),
        ("a.txt", "text"),
        ("a.md", "text"),
        ("a.text.gz", "text"),
        ("a.b.py", "text"),
        ("a.parquet.gz", None),
        ("a.csv", None),
        ("a.gz", None),
        ("README", None),
        (".txt", None),
        ("", None),
    ],
)
def test_the_format_follows_from_the_suffix(name: str, expected: str | None) -> None:
    assert format_of(name) == expected


def test_a_file(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    path = tmp_path / "a.jsonl"
    stat = path.stat()
    assert list_shards([str(path)]) == [Shard(str(path), "jsonl", stat.st_size, f"mtime:{stat.st_mtime_ns}")]


def test_the_tag_of_a_local_file_is_the_time_it_was_written(tmp_path: Path) -> None:
    make(tmp_path, "blobs/1", "data/a.txt")
    (tmp_path / "data" / "b.txt").symlink_to(tmp_path / "blobs" / "1")
    first, second = 1_700_000_000_123_456_789, 1_700_000_000_123_456_790  # a float cannot tell them apart
    os.utime(tmp_path / "data" / "a.txt", ns=(first, first))
    os.utime(tmp_path / "blobs" / "1", ns=(second, second))
    for given in ("data", "data/*", "data/?.txt"):
        tags = [shard.tag for shard in list_shards([str(tmp_path / given)])]
        assert tags == [f"mtime:{first}", f"mtime:{second}"]
    assert list_shards([f"file://{tmp_path}/data/b.txt"])[0].tag == f"mtime:{second}"


def test_a_folder_is_read_with_everything_below_it(tmp_path: Path) -> None:
    make(tmp_path, "b.jsonl", "a/c.txt", "a/b/d.parquet", "_SUCCESS", ".hidden/x.txt", "a/_tmp/y.zzz", "a/.e.crc")
    assert listed(tmp_path, ".") == ["a/b/d.parquet", "a/c.txt", "b.jsonl"]


def test_hidden_names_above_the_input_do_not_matter(tmp_path: Path) -> None:
    make(tmp_path, ".cache/_data/a.txt", ".cache/_data/.b.txt", ".cache/_data/_c.txt")
    assert listed(tmp_path, ".cache/_data") == [".cache/_data/a.txt"]
    assert listed(tmp_path, ".cache/_data/*") == [".cache/_data/a.txt"]
    assert listed(tmp_path, ".cache/_data/_c.txt") == [".cache/_data/_c.txt"]
    assert listed(tmp_path, ".cache/_data/_*.txt") == [".cache/_data/_c.txt"]
    assert listed(tmp_path, ".cac*/_data/a.txt") == [".cache/_data/a.txt"]


def test_globs(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl", "b.txt", "x/a.jsonl", "x/y/a.jsonl", "x/y/c.txt", "z.jsonl/part-0.json", "_t/a.jsonl")
    assert listed(tmp_path, "*.txt") == ["b.txt"]
    assert listed(tmp_path, "?.jsonl") == ["a.jsonl", "z.jsonl/part-0.json"]
    assert listed(tmp_path, "**/a.jsonl") == ["a.jsonl", "x/a.jsonl", "x/y/a.jsonl"]
    assert listed(tmp_path, "x/[yz]") == ["x/y/a.jsonl", "x/y/c.txt"]
    everything = ["a.jsonl", "b.txt", "x/a.jsonl", "x/y/a.jsonl", "x/y/c.txt", "z.jsonl/part-0.json"]
    assert listed(tmp_path, "**") == listed(tmp_path, "*") == listed(tmp_path, ".") == everything


def test_a_name_that_exists_is_no_glob(tmp_path: Path) -> None:
    make(tmp_path, "a[1].txt", "a1.txt", "b*/c.txt", "bb/c.txt", "d::e.txt")
    assert listed(tmp_path, "a[1].txt") == ["a[1].txt"]
    assert listed(tmp_path, "b*") == ["b*/c.txt"]
    assert listed(tmp_path, "d::e.txt") == ["d::e.txt"]
    [shard] = list_shards([str(tmp_path / "d::e.txt")])
    assert [block["text"].to_pylist() for block in read_pieces([Piece(shard)], ReadOptions())] == [['{"text": "t"}']]


def test_files_reached_twice_are_listed_once(tmp_path: Path) -> None:
    make(tmp_path, "a/b.txt", "a/c.txt")
    assert listed(tmp_path, "a", "a/b.txt", "a/*.txt", "a/../a/./b.txt", "a/") == ["a/b.txt", "a/c.txt"]
    shards = list_shards([f"file://{tmp_path}/a/b.txt", str(tmp_path / "a" / "b.txt")])
    assert [shard.uri for shard in shards] == [str(tmp_path / "a" / "b.txt")]


def test_relative_paths_and_the_home_folder_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/b.txt")
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "a" / "b.txt"
    expected = Shard(str(path), "text", 13, f"mtime:{path.stat().st_mtime_ns}")
    for given in ("b.txt", ".", "../a", "*", "~/a/b.txt", "~/a/*"):
        assert list_shards([given]) == [expected]


def test_the_format_can_be_given(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.jsonl", "c.weird", "LICENSE")
    shards = list_shards([str(tmp_path)], format="text")
    assert [shard.format for shard in shards] == ["text"] * 4
    with pytest.raises(InputError, match="choose from auto, parquet, jsonl, arrow, text"):
        list_shards([str(tmp_path)], format="csv")


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    make(tmp_path, "d/a.jsonl", *(f"d/{i}.csv" for i in range(5)), "d/README", "e/_SUCCESS")
    inputs = [str(tmp_path / given) for given in ("d", "gone.txt", "no*such", "e")]
    with pytest.raises(InputError) as raised:
        list_shards([*inputs, "", "nosuchscheme://x"])
    message = str(raised.value)
    for part in (
        f"'{tmp_path}/gone.txt' does not exist",
        f"'{tmp_path}/no*such' names no files",
        f"'{tmp_path}/e' names no files",
        "'' does not exist",
        "'nosuchscheme://x' cannot be listed: ValueError",
        f"5 files of unknown format (.csv): {tmp_path}/d/0.csv, {tmp_path}/d/1.csv, {tmp_path}/d/2.csv and 2 more",
        f"1 file of unknown format (no suffix): {tmp_path}/d/README",
        "pass --format",
    ):
        assert part in message
    assert message.count("\n") == 7


def test_no_inputs_are_an_error() -> None:
    with pytest.raises(InputError, match="no inputs given"):
        list_shards([])


def test_links(tmp_path: Path) -> None:
    make(tmp_path, "blobs/1", "data/a.txt")
    (tmp_path / "data" / "b.txt").symlink_to(tmp_path / "blobs" / "1")
    assert listed(tmp_path, "data") == listed(tmp_path, "data/*") == ["data/a.txt", "data/b.txt"]
    assert [shard.n_bytes for shard in list_shards([str(tmp_path / "data" / "b.txt")])] == [13]
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "nowhere.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "data" / "pipe.txt")
    with pytest.raises(InputError) as raised:
        listed(tmp_path, "data")
    for fault in ("loop' is a link to a folder", "nowhere.txt' is a link that leads nowhere", "pipe.txt' is neither"):
        assert fault in str(raised.value)


def test_names_that_cannot_be_stored(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/a\xff.txt")).write_text("x")
    with pytest.raises(InputError, match=r"a\\+udcff.txt' is not valid UTF-8"):
        listed(tmp_path, ".")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "locked/b.txt")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(InputError, match="PermissionError"):
            listed(tmp_path, ".")
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_an_unlistable_folder_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.txt", "locked/b.txt")
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).rstrip("/").endswith("locked"):
            raise PermissionError("refused")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="cannot be listed: PermissionError: refused"):
        listed(tmp_path, ".")


# --- other file systems


def _texts(shards: list[Shard], **how: Any) -> dict[str, list[str]]:
    return {
        s.uri: [t for b in read_pieces([Piece(s)], ReadOptions(), **how) for t in b["text"].to_pylist()] for s in shards
    }


def test_an_object_store(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe({f"/bucket/{name}": name.encode() for name in ("b.txt", "a/c.txt", "a/_d.txt", "e::f.zzz")})
    shards = list_shards(["memory://bucket/**/*.txt", "memory://bucket/a"])
    assert [(s.uri, s.format, s.n_bytes) for s in shards] == [
        ("memory:///bucket/a/c.txt", "text", 7),
        ("memory:///bucket/b.txt", "text", 5),
    ]
    assert _texts(shards) == {"memory:///bucket/a/c.txt": ["a/c.txt"], "memory:///bucket/b.txt": ["b.txt"]}
    with pytest.raises(InputError, match="holds '::'"):
        list_shards(["memory://bucket"])
    store.rm("/bucket/e::f.zzz")
    store.pipe("/bucket/new.txt", b"new")  # listings are not remembered
    assert len(list_shards(["memory://bucket"])) == 3


def test_chains(tmp_path: Path) -> None:
    archive = tmp_path / "corpus.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("in/a.txt", "in/b.txt", "c.jsonl"):
            file.writestr(name, name)
    shards = list_shards([f"zip://in/*.txt::{archive}"])
    assert _texts(shards) == {f"zip://in/{name}::{archive}": [f"in/{name}"] for name in ("a.txt", "b.txt")}
    fsspec.filesystem("memory").pipe("/chained/a.txt", b"cached")
    shards = list_shards(["simplecache::memory://chained"])
    assert _texts(shards) == {"simplecache::memory:///chained/a.txt": ["cached"]}


def test_storage_options_reach_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    real = fsspec.core.url_to_fs

    def spy(url: str, **options: Any) -> Any:
        seen.append(options)
        return real(url)

    monkeypatch.setattr("fsspec.core.url_to_fs", spy)
    fsspec.filesystem("memory").pipe("/options/a.txt", b"x")
    options = {"endpoint_url": "http://127.0.0.1:1"}
    shards = list_shards(["memory://options"], storage_options=options)
    assert _texts(shards, storage_options=options) == {"memory:///options/a.txt": ["x"]}
    assert seen == [options, options]
