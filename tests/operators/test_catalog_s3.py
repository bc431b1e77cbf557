"""SQL over a lake on a real S3 server: the rows of a disk, only the runs and columns asked for, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import s3
import s3fs

from operators.catalog import connect, lake_files, open_storage, write_catalog
from operators.duckdb_files import WHOLE_BYTES
from operators.lake import documents_part_name
from operators.parquet import encode
from operators.query import QueryError, query, query_batches
from operators.storage import ObjectError, Storage, remote
from schemas import DOCUMENTS, TOKENS, Table

Requests = list[tuple[str, str, int]]  # operation, key or prefix, bytes asked for
PARTS, LARGE_ROWS, SMALL_ROWS = 3, 240_000, 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    """Bucket `bucket` with lake `lake` (run `a` of large parts, `b` of small ones), secrets beside it."""
    root = tmp_path_factory.mktemp("s3") / "buckets"
    for bucket in ("bucket", "other"):
        (root / bucket).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, s3.lone_server(root) as running:
        patch.setattr(remote, "FIRST_PAUSE", 0.0)
        fill(Storage("s3://bucket/lake", running.options))
        for uri in ("s3://bucket", "s3://bucket/lake-beside", "s3://other"):
            Storage(uri, running.options).write("secret.txt", b"secret")
        yield running


def fill(lake: Storage) -> None:
    write_run(lake, "a", LARGE_ROWS, groups=())
    write_run(lake, "b", SMALL_ROWS, groups=("extremes",))
    lake.write("runs/b.json", json.dumps({"run_id": "b", "state": "finished"}).encode())


def write_run(lake: Storage, run_id: str, n_tokens: int, groups: tuple[str, ...]) -> None:
    rng = np.random.default_rng(len(run_id))
    for index in range(PARTS):
        ids = np.array([10 * index + 1, 10 * index + 2])
        name = documents_part_name(ids)
        put(lake, DOCUMENTS, run_id, name, columns(DOCUMENTS.arrow(), rng, 2, doc_id=ids))
        doc_id, position = np.repeat(ids, n_tokens // 2), np.tile(np.arange(n_tokens // 2), 2)
        known = {"doc_id": doc_id, "position": position, "logprob": np.full(n_tokens, -0.5 if run_id == "a" else -2.0)}
        put(lake, TOKENS, run_id, name, columns(TOKENS.arrow(groups), rng, n_tokens, **known))


def columns(schema: pa.Schema, rng: np.random.Generator, n: int, **known: Any) -> pa.Table:
    """`n` rows of `schema`: the columns known, numbers at random, an empty text or map elsewhere."""

    def values(field: pa.Field) -> pa.Array:
        if field.name in known:
            return pa.array(known[field.name]).cast(field.type)
        if pa.types.is_floating(field.type):
            return pa.array(rng.random(n), field.type)
        if pa.types.is_integer(field.type):
            return pa.array(rng.integers(1, 100, n)).cast(field.type)
        return pa.array(["" if pa.types.is_string(field.type) else []] * n, field.type)

    return pa.table([values(field) for field in schema], schema=schema)


def put(lake: Storage, table: Table, run_id: str, name: str, rows: pa.Table) -> None:
    lake.write(f"{table.name}/run_id={run_id}/{name}.parquet", memoryview(encode(rows, table)))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    made: Requests = []
    call = s3fs.S3FileSystem._call_s3

    async def record(self: Any, method: str, *more: Any, **arguments: Any) -> Any:
        merged = {k: v for each in more for k, v in each.items()} | arguments
        first, _, last = merged.get("Range", "bytes=0--1").removeprefix("bytes=").partition("-")
        made.append((method, merged.get("Key") or merged.get("Prefix") or "", int(last) - int(first) + 1))
        return await call(self, method, *more, **arguments)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", record)
    return made


@pytest.fixture
def own(server: s3.Server, request: pytest.FixtureRequest) -> Storage:
    """A lake of the test's own, empty."""
    return Storage(f"s3://bucket/{request.node.name}", server.options)


def stored(server: s3.Server, table: str, run_id: str) -> int:
    folder = server.root / "bucket" / "lake" / table / f"run_id={run_id}"
    return sum(path.stat().st_size for path in folder.iterdir())


def opened(requests: Requests, word: str) -> int:
    return len({key for method, key, _ in requests if method != "list_objects_v2" and word in key})


def fetched(requests: Requests, word: str = "") -> int:
    return sum(size for method, key, size in requests if method == "get_object" and word in key)


# The same rows


CHECKS = [
    "select run_id, count(*), avg(logprob), count(logprob_max) from tokens group by all order by all",
    "select run_id, count(*), sum(n_words) from documents group by all order by all",
    "select run_id, state, model from runs",
    "select count(*) from rejects",
    "select count(*) from pairs",
    "select run_id, count(*) from min_k('b') group by all",
    "select count(*) from tokens t join documents d using (run_id, doc_id) where t.run_id = 'b'",
]


def test_a_lake_on_s3_gives_the_rows_of_its_copy_on_a_disk(server: s3.Server, tmp_path: Path) -> None:
    shutil.copytree(server.root / "bucket" / "lake", tmp_path / "lake")
    with connect("s3://bucket/lake", storage_options=server.options) as there, connect(tmp_path / "lake") as here:
        for sql in CHECKS:
            assert there.execute(sql).fetchall() == here.execute(sql).fetchall()
        assert there.execute(CHECKS[0]).fetchall() == [
            ("a", PARTS * LARGE_ROWS, -0.5, 0),
            ("b", PARTS * SMALL_ROWS, -2.0, PARTS * SMALL_ROWS),
        ]


def test_later_parts_are_seen_and_parts_without_a_receipt_are_not(own: Storage, server: s3.Server) -> None:
    write_run(own, "a", 10, groups=())
    count = "select count(*) from tokens"
    with connect(own.root, storage_options=server.options) as connection:
        assert connection.execute(count).fetchall() == [(PARTS * 10,)]
        orphan = "f" * 32
        tokens, documents = (own.list(f"{table}/run_id=a")[0] for table in ("tokens", "documents"))
        own.write(f"tokens/run_id=a/{orphan}.parquet", own.read(f"tokens/run_id=a/{tokens}"))
        assert connection.execute(count).fetchall() == [(PARTS * 10,)]
        own.write(f"documents/run_id=a/{orphan}.parquet", own.read(f"documents/run_id=a/{documents}"))
        assert connection.execute(count).fetchall() == [((PARTS + 1) * 10,)]
        own.delete(f"documents/run_id=a/{orphan}.parquet")
        assert connection.execute(count).fetchall() == [(PARTS * 10,)]


def test_a_rewritten_ledger_is_read_anew(own: Storage, server: s3.Server) -> None:
    with connect(own.root, storage_options=server.options) as connection:
        for state in ("running", "broken", "stopped"):
            own.write("runs/a.json", json.dumps({"run_id": "a", "state": f"{state:8}"}).encode())
            assert connection.execute("select trim(state) from runs").fetchall() == [(state,)]


def test_the_catalog_file_is_one_object_and_serves_any_duckdb(own: Storage, server: s3.Server, tmp_path: Path) -> None:
    write_run(own, "b", SMALL_ROWS, groups=("extremes",))
    assert write_catalog(own.root, server.options) == f"{own.root}/lake.duckdb"
    assert own.list("tokens") == ["run_id=b/"]
    (tmp_path / "lake.duckdb").write_bytes(own.read("lake.duckdb"))
    write_run(own, "later", SMALL_ROWS, groups=())
    secrets = (s3.KEY.encode(), s3.SECRET.encode())
    assert not any(secret in (tmp_path / "lake.duckdb").read_bytes() for secret in secrets)
    filesystems = [lake_files(open_storage(own.root, server.options)), s3fs.S3FileSystem(**server.options)]
    for filesystem in filesystems:  # ours, and a stock one
        with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as connection:
            connection.register_filesystem(filesystem)
            found = connection.execute("select run_id, count(logprob_max) from tokens group by all order by all")
            assert found.fetchall() == [("b", PARTS * SMALL_ROWS), ("later", 0)]
            assert connection.execute("select count(*) from min_k('later')").fetchall() == [(2 * PARTS,)]


@pytest.mark.parametrize("name", ["o'hare", 'do"ub"le', "it's [a] lake*", "semi;drop view tokens;--", "per%20cent"])
def test_hostile_prefixes(server: s3.Server, name: str) -> None:
    lake, decoy = (Storage(f"s3://bucket/hostile/{each}/lake", server.options) for each in (name, "it's a lakes"))
    for each in (lake, decoy):
        write_run(each, "a", 10, groups=())
    with connect(lake.root, storage_options=server.options) as connection:
        assert connection.execute("select count(*) from tokens").fetchall() == [(PARTS * 10,)]
    counted = query(lake.root, "select count(*) as n from documents", storage_options=server.options)
    assert counted.to_pylist() == [{"n": 2 * PARTS}]


# What is fetched


def test_connecting_opens_nothing(server: s3.Server, requests: Requests) -> None:
    with connect("s3://bucket/lake", storage_options=server.options):
        assert opened(requests, ".parquet") == 0


def test_a_run_and_a_column_are_read_without_the_others(server: s3.Server, requests: Requests) -> None:
    with connect("s3://bucket/lake", storage_options=server.options) as connection:
        requests.clear()
        assert connection.execute("select avg(logprob) from tokens where run_id = 'a'").fetchall() == [(-0.5,)]
    assert opened(requests, "run_id=b") == 0
    assert opened(requests, "documents/run_id") == 0
    assert opened(requests, "tokens/run_id=a") == PARTS
    assert [key for method, key, _ in requests if method == "list_objects_v2"] == ["lake/tokens/", "lake/documents/"]
    gets = [key for method, key, _ in requests if method == "get_object"]
    assert len(gets) == 2 * PARTS  # a footer and a run of columns each
    assert not any(method == "head_object" for method, _, _ in requests)
    assert stored(server, "tokens", "a") > PARTS * WHOLE_BYTES
    assert fetched(requests) < 0.3 * stored(server, "tokens", "a")


def test_small_parts_are_fetched_whole_and_once(server: s3.Server, requests: Requests) -> None:
    with connect("s3://bucket/lake", storage_options=server.options) as connection:
        requests.clear()
        for _ in range(2):
            assert connection.execute("select avg(logprob) from tokens where run_id = 'b'").fetchall() == [(-2.0,)]
    assert len([key for method, key, _ in requests if method == "get_object"]) == PARTS
    assert fetched(requests) == stored(server, "tokens", "b")


def test_counting_reads_footers(server: s3.Server, requests: Requests) -> None:
    with connect("s3://bucket/lake", storage_options=server.options) as connection:
        requests.clear()
        assert connection.execute("select count(*) from tokens").fetchall() == [(PARTS * (LARGE_ROWS + SMALL_ROWS),)]
    assert fetched(requests, "run_id=a") < 0.05 * stored(server, "tokens", "a")


def test_runs_named_are_the_only_ones_listed(server: s3.Server, requests: Requests) -> None:
    sql = "select count(*) as n from tokens"
    found = query("s3://bucket/lake", sql, runs=["b"], storage_options=server.options)
    assert found.to_pylist() == [{"n": PARTS * SMALL_ROWS}]
    folders = {key for method, key, _ in requests if method == "list_objects_v2" and "tokens" in key}
    assert folders == {"lake/tokens/run_id=b/"}
    assert opened(requests, "run_id=a") == 0


# A stranger's SQL


@pytest.mark.parametrize(
    "sql",
    [
        "from read_text('s3://bucket/secret.txt')",
        "from read_text('s3://bucket/lake/../secret.txt')",
        "from read_text('s3://bucket/lake-beside/secret.txt')",
        "from read_text('s3://bucket/lake*/secret.txt')",
        "from read_text('s3://bucket/*/secret.txt')",
        "from read_text('s3://other/secret.txt')",
        "from read_text('s3a://other/secret.txt')",
        "from read_text('s3://bucket/lake/tokens/../../secret.txt')",
        "from glob('s3://bucket/*')",
        "from glob('s3://other/**')",
        "from 's3://bucket/secret.csv'",
        "from read_blob('/proc/self/environ')",
        "from read_text('http://127.0.0.1/x')",
    ],
)
def test_nothing_outside_the_lake_is_read(server: s3.Server, sql: str, requests: Requests) -> None:
    with pytest.raises(QueryError, match="Permission Error"):
        query("s3://bucket/lake", sql, storage_options=server.options)
    assert not [key for _, key, _ in requests if not key.startswith("lake/")]


@pytest.mark.parametrize("path", ["s3://bucket/secret.txt", "s3://bucket/lake/../secret.txt", "s3://other/secret.txt"])
def test_our_file_system_itself_holds_only_the_lake(server: s3.Server, path: str) -> None:
    files = lake_files(open_storage("s3://bucket/lake", server.options))
    assert files is not None
    for call in (files.open, files.info, files.glob, files.exists, files.modified):
        with pytest.raises(PermissionError, match="not in the lake"):
            call(path)
    with pytest.raises(PermissionError, match="reading only"):
        files.open("s3://bucket/lake/x", "wb")
    with connect("s3://bucket/lake", storage_options=server.options) as connection:
        with pytest.raises(duckdb.Error, match="not in the lake"):
            connection.execute(f"from read_text('{path}')")
        with pytest.raises(duckdb.Error, match="reading only"):
            connection.execute("copy (select 1) to 's3://bucket/lake/x.csv'")


def test_the_lake_itself_may_be_read_by_path(server: s3.Server) -> None:
    sql = "select count(*) as n from read_parquet('s3://bucket/lake/documents/**/*.parquet')"
    assert query("s3://bucket/lake", sql, storage_options=server.options).to_pylist() == [{"n": 4 * PARTS}]
    sql = "select content from read_text('s3://bucket/lake/runs/b.json')"
    assert query("s3://bucket/lake", sql, storage_options=server.options).to_pylist()[0]["content"].startswith("{")
    sql = "from read_text('s3://bucket/lake/runs/c.json')"
    assert query("s3://bucket/lake", sql, storage_options=server.options).num_rows == 0


def test_no_query_shows_the_credentials(server: s3.Server) -> None:
    for sql in ("from duckdb_secrets()", "from duckdb_settings()", "select getenv('AWS_SECRET_ACCESS_KEY')"):
        try:
            shown = str(query("s3://bucket/lake", sql, storage_options=server.options).to_pylist())
        except QueryError as error:
            shown = str(error)
        assert s3.SECRET not in shown
        assert s3.KEY not in shown


# A storage that fails


def test_a_storage_that_fails_is_told_in_our_words(server: s3.Server) -> None:
    options = {**server.options, "secret": "anothersecretvalue"}
    calls: list[Callable[[], Any]] = [
        lambda: connect("s3://bucket/lake", storage_options=options),
        lambda: query("s3://bucket/lake", "from tokens", storage_options=options),
        lambda: write_catalog("s3://bucket/lake", options),
    ]
    for call in calls:
        with pytest.raises(ObjectError, match="cannot list s3://bucket/lake/tokens: permission denied") as caught:
            call()
        assert "Traceback" not in str(caught.value)
        assert "anothersecretvalue" not in str(caught.value)


def failing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the first `times` fetches fail."""
    call, failed = s3fs.S3FileSystem._call_s3, []

    async def fail(self: Any, method: str, *more: Any, **arguments: Any) -> Any:
        if method == "get_object" and len(failed) < times:
            failed.append(1)
            raise ConnectionError("reset")
        return await call(self, method, *more, **arguments)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", fail)
    return failed


def test_a_query_outlasts_failing_requests(server: s3.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failing(monkeypatch, remote.ATTEMPTS - 1)
    sql = "select avg(logprob) as mean from tokens where run_id = 'b'"
    assert query("s3://bucket/lake", sql, storage_options=server.options).to_pylist() == [{"mean": -2.0}]
    assert len(failed) == remote.ATTEMPTS - 1


def test_a_query_gives_up_in_our_words(server: s3.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 10**6)
    sql = "select logprob from tokens"
    with (
        pytest.raises(ObjectError, match=r"cannot read s3://bucket/lake/tokens/.*: the storage failed.*tried"),
        query_batches("s3://bucket/lake", sql, storage_options=server.options) as reader,
    ):
        reader.read_all()


def test_a_broken_part_is_the_querys_error(own: Storage, server: s3.Server) -> None:
    write_run(own, "a", 10, groups=())
    own.write(f"tokens/run_id=a/{own.list('tokens/run_id=a')[0]}", b"PAR1 not really PAR1")
    with pytest.raises(QueryError, match="run_id=a"):
        query(own.root, "from tokens", storage_options=server.options)
