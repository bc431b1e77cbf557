"""A lake's folder on a real S3 server: the same behaviour as a disk, few requests, clear errors."""

from __future__ import annotations

import errno
import os
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3
import s3fs

from operators.storage import ObjectError, Storage, remote, s3_options

Requests = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("s3") / "buckets"
    (root / "bucket").mkdir(parents=True)
    with s3.lone_server(root) as running:
        yield running


@pytest.fixture
def storage(server: s3.Server, request: pytest.FixtureRequest) -> Storage:
    """A folder of each test's own."""
    return Storage(f"s3://bucket/{request.node.name.replace('[', '-').replace(']', '')}", server.options)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """Every request that s3fs makes: the operation and its arguments."""
    made: Requests = []
    call = s3fs.S3FileSystem._call_s3

    async def record(self: Any, method: str, *more: Any, **arguments: Any) -> Any:
        merged = {k: v for each in more for k, v in each.items()} | arguments
        made.append((method, merged))
        return await call(self, method, *more, **arguments)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", record)
    return made


def fetched(requests: Requests) -> int:
    """Bytes asked for by range."""
    bounds = [a["Range"].removeprefix("bytes=").split("-") for m, a in requests if m == "get_object"]
    return sum(int(last) - int(first) + 1 for first, last in bounds)


def test_objects_are_written_read_listed_replaced_and_deleted(storage: Storage) -> None:
    assert storage.list("a") == []
    assert not storage.exists("a/b")
    for path, data in (("a/b", b"one"), ("a/b", b"two"), ("a/c/d", b""), ("a/c/e/f", b"deep"), ("ab/x", b"beside")):
        storage.write(path, data)
    assert storage.exists("a/b")
    assert (storage.read("a/b"), storage.read("a/c/d")) == (b"two", b"")
    assert (storage.list("a"), storage.list("a/c")) == (["b", "c/"], ["d", "e/"])
    assert not storage.filesystem.dircache  # a listing of millions is not kept
    assert {name: info["size"] for name, info in storage.find("a").items()} == {"a/b": 3, "a/c/d": 0, "a/c/e/f": 4}
    with storage.open("a/c/e/f") as file:
        file.seek(2)
        assert file.read() == b"ep"
    storage.delete("a/b")
    storage.delete("a/b")
    assert storage.list("a") == ["c/"]
    with pytest.raises(FileNotFoundError):
        storage.read("a/b")
    with pytest.raises(FileNotFoundError):
        storage.open("a/b")
    storage.delete_empty_folder("a/c")
    assert storage.exists("a/c/d")


def test_what_another_process_writes_is_seen(storage: Storage, server: s3.Server) -> None:
    storage.write("t/x", b"1")
    assert storage.list("t") == ["x"]
    other = s3fs.S3FileSystem(**server.options, skip_instance_cache=True)
    other.pipe_file(f"{storage.root}/t/y", b"22")
    assert storage.list("t") == ["x", "y"]
    other.pipe_file(f"{storage.root}/t/x", b"333")
    assert storage.size("t/x") == 3


@pytest.mark.parametrize(
    "name", ["with space", "o'hare", 'do"ub"le', "star*", "[set]", "per%20cent", "ünï 文", "a=b+c"]
)
def test_hostile_names_mean_themselves(storage: Storage, name: str) -> None:
    storage.write(f"{name}/x", name.encode())
    assert storage.list(name) == ["x"]
    assert storage.read(f"{name}/x") == name.encode()


def test_a_column_is_read_without_the_others(storage: Storage, requests: Requests) -> None:
    rng = np.random.default_rng(0)
    table = pa.table({f"c{i}": rng.random(50_000) for i in range(10)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, use_dictionary=False)
    storage.write("t/x.parquet", sink.getvalue())
    requests.clear()
    with storage.parquet("t/x.parquet") as file:
        assert file.read(columns=["c7"]).equals(table.select(["c7"]))
    assert [method for method, _ in requests] == ["head_object", "get_object", "get_object"]
    assert fetched(requests) < 0.15 * sink.getvalue().size
    requests.clear()
    with storage.parquet("t/x.parquet", verify_checksums=True) as file:
        assert file.read().equals(table)
    assert [method for method, _ in requests] == ["head_object", "get_object", "get_object"]
    assert fetched(requests) < sink.getvalue().size + 100_000


def test_a_broken_part_is_named(storage: Storage) -> None:
    storage.write("t/x.parquet", b"PAR1 not really PAR1")
    with pytest.raises((OSError, pa.ArrowException)) as caught, storage.parquet("t/x.parquet"):
        pass
    assert caught.value.__notes__ == [f"while reading {storage.root}/t/x.parquet"]


def test_an_upload_that_fails_is_called_off_and_the_old_object_stays(
    storage: Storage, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(s3fs.S3FileSystem._pipe_file, "__defaults__", (5 << 20, None, "overwrite"))
    storage.write("x", b"old")
    recorded = s3fs.S3FileSystem._call_s3
    broken = [True]

    async def fail_second(self: Any, method: str, *more: Any, **arguments: Any) -> Any:
        if broken[0] and method == "upload_part" and arguments["PartNumber"] == 2:
            raise ConnectionError("reset")
        return await recorded(self, method, *more, **arguments)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", fail_second)
    data = bytes(11 << 20)
    with pytest.raises(ObjectError, match=f"cannot write {storage.root}/x.*tried {remote.ATTEMPTS} times"):
        storage.write("x", data)
    methods = [method for method, _ in requests]
    assert methods.count("abort_multipart_upload") == methods.count("create_multipart_upload") == remote.ATTEMPTS
    assert storage.read("x") == b"old"
    broken[0] = False
    storage.write("x", data)
    assert storage.read("x") == data


# A storage that is not what the user thinks


def without(options: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**options, **changes}


def dead(options: dict[str, Any]) -> dict[str, Any]:
    endpoint = {**options["client_kwargs"], "endpoint_url": f"http://127.0.0.1:{s3.free_port()}"}
    quick = {"retries": {"max_attempts": 1}, "connect_timeout": 1}
    return {**options, "client_kwargs": endpoint, "config_kwargs": quick}


def test_a_lake_that_is_not_there_yet_is_no_error(storage: Storage) -> None:
    storage.check()
    storage.write("runs/a.json", b"{}")
    storage.check()


@pytest.mark.parametrize(
    ("root", "change", "number", "said"),
    [
        ("s3://nobucket/lake", {}, errno.ENOENT, "no 'nobucket'"),
        ("s3://bucket/lake", {"secret": "anothersecretvalue"}, errno.EACCES, "permission denied"),
        ("s3://bucket/lake", {"key": "anotherkey"}, errno.EACCES, "permission denied"),
    ],
)
def test_a_check_says_what_is_wrong(
    server: s3.Server, root: str, change: dict[str, Any], number: int, said: str, requests: Requests
) -> None:
    options = without(server.options, **change)
    with pytest.raises(ObjectError, match=f"cannot open {root}: .*{said}") as caught:
        Storage(root, options).check()
    assert caught.value.errno == number
    assert len(requests) <= 4


def test_a_wrong_endpoint_is_named_after_one_attempt(server: s3.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dead(server.options)
    with pytest.raises(ObjectError, match=options["client_kwargs"]["endpoint_url"]) as caught:
        Storage("s3://bucket/lake", options).check()
    assert "tried" not in str(caught.value)
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.0)
    with pytest.raises(ObjectError, match=r"once it answers, the same command resumes .*tried 2 times"):
        Storage("s3://bucket/lake", options, attempts=2).read("x")


def test_a_bucket_that_does_not_exist_cannot_be_written(server: s3.Server) -> None:
    with pytest.raises(ObjectError, match="cannot write s3://nobucket/lake/x: there is no such bucket") as caught:
        Storage("s3://nobucket/lake", server.options).write("x", b"1")
    assert caught.value.errno == errno.ENOENT


def test_no_message_holds_the_credentials(server: s3.Server) -> None:
    storage = Storage("s3://bucket/lake", without(server.options, secret="anothersecretvalue"))
    with pytest.raises(ObjectError) as caught:
        storage.write("x", b"1")
    shown = [repr(storage), str(storage), *traceback.format_exception(caught.value), str(pickle.dumps(caught.value))]
    assert not any(secret in text for text in shown for secret in ("anothersecretvalue", s3.SECRET, s3.KEY))


def test_credentials_may_come_from_the_environment(
    storage: Storage, server: s3.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage.write("x", b"1")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        assert Storage(storage.root).read("x") == b"1"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_file_is_sent_in_parts_and_is_whole_or_not_there(
    storage: Storage, requests: Requests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3_options, "PART_BYTES", 5 << 20)
    (tmp_path / "x").write_bytes(data := os.urandom(11 << 20))
    storage.write_file("t/x", tmp_path / "x")
    assert [arguments["PartNumber"] for method, arguments in requests if method == "upload_part"] == [1, 2, 3]
    assert storage.read("t/x") == data
    for content in (b"", b"short"):
        (tmp_path / "x").write_bytes(content)
        storage.write_file("t/x", tmp_path / "x")
        assert storage.read("t/x") == content
