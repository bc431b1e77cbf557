"""Checksums with S3-compatible servers: asked for only where they must be, unless the user says otherwise."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3
import s3fs

from operators.duckdb_files import LakeFiles
from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import InputError, Shard, list_shards
from operators.storage import ObjectError, Storage
from operators.storage.remote import options_for
from operators.storage.s3_options import CHECKSUMS, _profile

EASED = dict.fromkeys(CHECKSUMS, "when_required")
ENDPOINT = {"client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
N_ROWS, N_LINES = 100_000, 400_000


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No setting from outside, and none left behind."""
    for name in (*s3.environment(""), "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    _profile.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    _profile.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("s3") / "buckets"
    (root / "bucket").mkdir(parents=True)
    with s3.server(root) as running:
        yield running


def put_corpus(server: s3.Server) -> None:
    """As other programs do, with a checksum of the whole object that the server gives back with each part of it."""
    parquet = io.BytesIO()
    table = pa.table({"n": range(N_ROWS), "text": [f"text {i * i}" for i in range(N_ROWS)]})
    pq.write_table(table, parquet, row_group_size=20_000, use_dictionary=False, compression="none")
    plain = s3fs.S3FileSystem(**server.options, skip_instance_cache=True)
    plain.pipe_file("bucket/in/a.parquet", parquet.getvalue())
    plain.pipe_file("bucket/in/b.jsonl", b'{"text": "line"}\n' * N_LINES)
    with pytest.raises(botocore.exceptions.FlexibleChecksumError):
        plain.cat_file("bucket/in/a.parquet", start=10, end=20)


@pytest.mark.parametrize("by", ["options", "environment"])
def test_ranges_of_another_server(server: s3.Server, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    put_corpus(server)
    options: dict[str, Any] = server.options
    if by == "environment":
        options = {}
        for name, value in server.environment.items():
            if "CHECKSUM" not in name:
                monkeypatch.setenv(name, value)
    texts = sum(
        block.num_rows - block["text"].null_count
        for shard in list_shards(["s3://bucket/in"], storage_options=options)
        for block in read_pieces([Piece(shard)], ReadOptions(), storage_options=options)
    )
    assert texts == N_ROWS + N_LINES
    storage = Storage("s3://bucket", options)
    with storage.parquet("in/a.parquet") as file:
        assert file.read_row_group(3, columns=["n"])["n"][0].as_py() == 60_000
    with duckdb.connect() as connection:
        connection.register_filesystem(LakeFiles(storage))
        found = connection.sql("select sum(n) from read_parquet('s3://bucket/in/*.parquet')").fetchall()
    assert found == [(sum(range(N_ROWS)),)]
    storage.write("out/x", b"data")
    assert storage.read("out/x") == b"data"


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({}, {}, None),
        (ENDPOINT, {}, EASED),
        ({"endpoint_url": "http://127.0.0.1:9"}, {}, EASED),
        ({}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, EASED),
        ({}, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, EASED),
        ({"endpoint_url": "https://s3.eu-west-1.amazonaws.com"}, {}, None),
        ({"endpoint_url": "https://amazonaws.com.example.org"}, {}, EASED),
        ({**ENDPOINT, "config_kwargs": {CHECKSUMS[0]: "when_supported", "max_pool_connections": 3}}, {},
         {CHECKSUMS[0]: "when_supported", CHECKSUMS[1]: "when_required", "max_pool_connections": 3}),
        (ENDPOINT, {"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported"}, {CHECKSUMS[1]: "when_required"}),
        ({**ENDPOINT, "client_kwargs": "wrong"}, {}, None),
    ],
)  # fmt: skip
def test_when_checksums_are_eased(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], environment: dict[str, str], expected: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = options_for("s3://bucket/x", {"s3": options})
    assert found.get("config_kwargs") == expected
    assert {name: value for name, value in found.items() if name != "config_kwargs"} == {
        name: value for name, value in options.items() if name != "config_kwargs"
    }
    assert options_for("s3a://bucket/x", found) == found
    assert options_for("gs://bucket/x", ENDPOINT) == ENDPOINT


def test_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "aws").write_text(
        "[profile mine]\nendpoint_url = http://127.0.0.1:9\nresponse_checksum_validation = when_supported\n"
    )
    eased = {CHECKSUMS[1]: "when_required"}
    assert options_for("s3://b/x", {"profile": "mine"}) == {"profile": "mine", "config_kwargs": eased}
    assert options_for("s3://b/x", {"profile": "gone"}) == {"profile": "gone"}
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert options_for("s3://b/x", None) == {"config_kwargs": eased}


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"s4": {"anon": True}}, "s4"),
        ({"s3": {"anom": True}}, "anom"),
        ({"s3": {"anon": True, "client_kwargs": {"endpoint": "http://127.0.0.1:9"}}}, "endpoint"),
        ({"s3": {"anon": True, "config_kwargs": {"retry": 3}}}, "retry"),
    ],
)
def test_a_mistyped_option_is_named(wrong: dict[str, Any], name: str) -> None:
    expected = f"--storage-options: '{name}' is neither an option of this storage nor a protocol"
    with pytest.raises(InputError, match=f"'s3://bucket/in' cannot be listed: {expected}"):
        list_shards(["s3://bucket/in"], storage_options=wrong)
    storage = Storage("s3://bucket/lake", wrong)
    with pytest.raises(ObjectError, match=f"cannot open s3://bucket/lake: {expected}"):
        storage.check()
    with pytest.raises(ObjectError, match=f"cannot read s3://bucket/lake/x: {expected}"):
        storage.read("x")
    with pytest.raises(OSError, match=f"cannot read s3://bucket/in/a.txt: {expected}"):
        list(read_pieces([Piece(Shard("s3://bucket/in/a.txt", "text", 5))], ReadOptions(), storage_options=wrong))
