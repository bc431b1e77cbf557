"""One block in, three parts out: the same names and bytes each time, every row with one verdict, nothing lost."""

from __future__ import annotations

import hashlib
import pickle
import re
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators import parquet, rows, write
from operators.identity import doc_id
from operators.lake import Lake, Part, documents_part_name
from operators.precision import compact
from operators.rows import document_rows, scored_documents, token_rows, words
from operators.storage import Storage
from operators.verify import verify
from operators.write import MANIFEST, PartWriter, WriteOptions
from schemas import DOCUMENTS, FEATURE_GROUPS, REJECTS, TOKENS, Reason, flow
from schemas.columns import PROMPT
from schemas.documents import ROLLUPS

TEXTS = ("the quick brown fox", "x", "emoji 👩‍👩‍👧 and e\u0301", " \n", "a longer text. " * 40)


def document(text: str, row: int, key: str | None = None, source: str = "s.jsonl", features: Iterable[str] = ()) -> Any:
    """A scored record: spans of three bytes, arbitrary but repeatable statistics, NULL at position 0."""
    size = len(text.encode())
    starts = list(range(0, size, 3))
    rng = np.random.default_rng(size)
    record: dict[str, Any] = {
        "source": source,
        "row": row,
        "key": key or f"{source}#{row}",
        "text": text,
        "label": row % 2,
    }
    record |= {"domain": "web", "attributes": {"lang": "en"}, "token_id": rng.integers(0, 50_000, len(starts)).tolist()}
    record |= {"byte_start": starts, "n_bytes": [min(3, size - start) for start in starts]}
    for name in flow.statistic_names(features):
        column = TOKENS[name]
        if pa.types.is_list(column.type):
            values: list[Any] = rng.uniform(-9, 0, (len(starts), 4)).tolist()
            values = values if column.type.value_type != pa.int32() else [[3, 2, 1, 0] for _ in values]
            values = values if column.type.value_type != pa.float16() else [[np.float16(x) for x in v] for v in values]
        elif column.type == pa.int32():
            values = rng.integers(1, 50_000, len(starts)).tolist()
        else:
            values = rng.uniform(*((-9, 0) if column.maximum == 0 else (0, 1)), len(starts)).tolist()
        record[name] = [None, *values[1:]] if column.nullable else values
    return record


def reject(row: int, source: str = "s.jsonl", reason: str = Reason.NULL_TEXT.value) -> Any:
    return {"source": source, "row": row, "reason": reason, "detail": "as found"}


def block(*records: Any, features: Iterable[str] = ()) -> pa.Table:
    return pa.Table.from_pylist(list(records), schema=flow.scored(features))


def texts_block(features: Iterable[str] = ()) -> pa.Table:
    """Documents in an order that is not that of their ids, with a reject among them."""
    records = [document(text, row, features=features) for row, text in enumerate(TEXTS)]
    return block(*records[:2], reject(99), *records[2:], features=features)


def written(lake: Lake) -> dict[str, bytes]:
    root = Path(lake.root)
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def read(lake: Lake, table: str) -> pa.Table:
    """All parts of a table of run `r`, as stored."""
    tables = []
    for part in lake.parts(table, "r"):
        with lake.storage.parquet(part.path) as file:
            tables.append(file.read())
    return pa.concat_tables(tables)


def records(lake: Lake) -> list[int]:
    """The rows of the source that have a verdict, each as often as it has one."""
    return sorted(row for table in ("documents", "rejects") for row in read(lake, table)["row"].to_pylist())


def run_writer(lake: Lake, table: pa.Table, **options: Any) -> dict[str, Any]:
    [manifest] = PartWriter(WriteOptions(lake, "r", **options))(table).to_pylist()
    return dict(manifest)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


# What is written


@pytest.mark.parametrize("features", [(), ("extremes", "nucleus"), FEATURE_GROUPS])
@pytest.mark.parametrize("precision", ["compact", "full"])
def test_a_block_comes_back_as_declared_and_as_sent(lake: Lake, features: tuple[str, ...], precision: Any) -> None:
    sent = texts_block(features)
    run_writer(lake, sent, features=features, precision=precision)
    tokens, documents, rejects = (read(lake, name) for name in ("tokens", "documents", "rejects"))
    for table, stored, groups in (
        (TOKENS, tokens, features),
        (DOCUMENTS, documents, (ROLLUPS,)),
        (REJECTS, rejects, ()),
    ):
        declared = table.arrow(groups)
        assert stored.schema.equals(declared)
        assert stored.schema.metadata == declared.metadata
        assert [field.metadata for field in stored.schema] == [field.metadata for field in declared]
        assert table.validate(stored) == []
    assert [f for f in verify(lake) if f.kind != "ledger"] == []
    full = sorted(
        sent.filter(pa.array([True, True, False, True, True, True])).to_pylist(), key=lambda r: doc_id(r["key"])
    )
    expected = [
        {"doc_id": doc_id(r["key"]), "position": p, **{name: r[name][p] for name in TOKENS.arrow(features).names[2:]}}
        for r in full
        for p in range(len(r["token_id"]))
    ]
    exploded = pa.Table.from_pylist(expected, schema=TOKENS.arrow(features))
    assert tokens.equals(exploded if precision == "full" else compact(exploded))


def test_documents_carry_their_measures(lake: Lake) -> None:
    manifest = run_writer(lake, texts_block())
    documents = read(lake, "documents").to_pylist()
    assert [d["doc_id"] for d in documents] == sorted(doc_id(f"s.jsonl#{row}") for row in range(len(TEXTS)))
    for stored in documents:
        text = TEXTS[stored["row"]]
        encoded = text.encode()
        assert stored["text"] == text
        assert (stored["n_bytes"], stored["n_chars"]) == (len(encoded), len(text))
        assert stored["n_words"] == len(re.split(r"\s+", text))
        assert stored["zlib_bytes"] == len(zlib.compress(encoded))
        assert stored["text_sha256"] == hashlib.sha256(encoded).hexdigest()
        assert stored["n_tokens"] == -(-len(encoded) // 3)
        assert stored["n_scored"] == stored["n_tokens"] - 1
        assert (stored["label"], stored["domain"]) == (stored["row"] % 2, "web")
        assert stored["attributes"] == [("lang", "en")]
    assert manifest["documents"] == len(TEXTS)
    assert manifest["text_bytes"] == sum(len(text.encode()) for text in TEXTS)


def test_the_manifest_says_what_was_written(lake: Lake) -> None:
    table = PartWriter(WriteOptions(lake, "r"))(texts_block())
    assert table.schema == MANIFEST
    [manifest] = table.to_pylist()
    tables = {name: read(lake, name) for name in ("documents", "rejects", "tokens")}
    assert {name: table.num_rows for name, table in tables.items()} == {name: manifest[name] for name in tables}
    assert manifest["scored"] == sum(tables["documents"]["n_scored"].to_pylist())
    assert manifest["text_bytes"] == sum(tables["documents"]["n_bytes"].to_pylist())
    assert lake.parts("tokens") == [Part("tokens", "r", manifest["part"])]
    assert lake.parts("documents") == [Part("documents", "r", manifest["part"])]
    assert lake.parts("rejects") == [Part("rejects", "r", manifest["rejects_part"])]
    assert manifest["bytes_written"] == len(lake.storage.read(lake.parts("tokens")[0].path))
    assert manifest["part"] == documents_part_name(np.array([doc_id(f"s.jsonl#{row}") for row in range(len(TEXTS))]))


def test_dropped_text_leaves_its_measures(lake: Lake) -> None:
    run_writer(lake, texts_block(), keep_text=False)
    documents = read(lake, "documents")
    assert documents["text"].null_count == len(TEXTS)
    assert documents["n_words"].null_count == 0
    assert [f for f in verify(lake) if f.kind != "ledger"] == []


@pytest.mark.parametrize(
    ("records", "tables"),
    [
        ([reject(1)], ["rejects"]),
        ([document("x", 0)], ["documents", "tokens"]),
        ([], []),
    ],
)
def test_empty_parts_are_not_written(lake: Lake, records: list[Any], tables: list[str]) -> None:
    manifest = run_writer(lake, block(*records))
    assert sorted({path.split("/")[0] for path in written(lake)}) == tables
    assert (manifest["part"] is None, manifest["rejects_part"] is None) == (
        "tokens" not in tables,
        "rejects" not in tables,
    )
    assert manifest["documents"] + manifest["rejects"] == len(records)


@given(st.text())
def test_words_are_the_pieces_of_a_split_on_white_space(text: str) -> None:
    assert words(text) == len(re.split(r"\s+", text))


# Prompts


def prompted(row: int, text: str, spans: list[tuple[int, int]], prompt_bytes: int | None) -> Any:
    """A scored record with these spans, each a start and a length in bytes."""
    record = {**document("x", row), "text": text, "prompt_bytes": prompt_bytes, "token_id": list(range(len(spans)))}
    record |= {"byte_start": [start for start, _ in spans], "n_bytes": [size for _, size in spans]}
    return record | {name: [None] + [1] * (len(spans) - 1) for name in ("entropy", "logprob_std", "rank")} | {
        "logprob": [None] + [-1.0] * (len(spans) - 1)
    }  # fmt: skip


# "ab" "cde" "f" between a BOS and an EOS, which cover nothing.
SPANS = [(0, 0), (0, 2), (2, 3), (5, 1), (6, 0)]


@pytest.mark.parametrize(
    ("prompt_bytes", "flags"),
    [
        (0, "-----"),  # no prompt: not even the BOS is in it
        (1, "#----"),  # ends within "ab", which counts as completion
        (2, "##---"),
        (3, "##---"),
        (4, "##---"),
        (5, "###--"),
        (6, "#####"),  # no completion: the EOS has nothing to complete
    ],
)
def test_a_token_is_prompt_when_all_of_it_is(lake: Lake, prompt_bytes: int, flags: str) -> None:
    run_writer(lake, block(prompted(0, "abcdef", SPANS, prompt_bytes)), prompt=True)
    assert read(lake, "tokens")["in_prompt"].to_pylist() == [flag == "#" for flag in flags]
    [stored] = read(lake, "documents").to_pylist()
    assert (stored["prompt_bytes"], stored["prompt_tokens"]) == (prompt_bytes, flags.count("#"))
    assert [f for f in verify(lake) if f.kind != "ledger"] == []


@given(st.data())
def test_the_prompts_tokens_come_first_and_the_rest_covers_the_completion(data: st.DataObject) -> None:
    """Whatever the spans, empty ones at the border included, as long as they tile the text."""
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12).filter(any))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    border = data.draw(st.integers(0, sum(sizes)))
    record = prompted(0, "x" * sum(sizes), list(zip(starts, sizes, strict=True)), border)
    documents, ids = scored_documents(write.checked(block(record), (), prompt=True))
    tokens = token_rows(documents, ids, prompt=True)
    flags = tokens["in_prompt"].to_pylist()
    [n] = document_rows(documents, ids, tokens, prompt=True)["prompt_tokens"].to_pylist()
    assert flags == [True] * n + [False] * (len(sizes) - n)
    assert sum(sizes[:n]) <= border
    assert n == len(sizes) or sum(sizes[: n + 1]) > border or border == 0


@pytest.mark.parametrize("features", [(), FEATURE_GROUPS])
def test_the_prompts_group_is_stored_in_runs_with_prompts_only(tmp_path: Path, features: tuple[str, ...]) -> None:
    lakes = {prompt: Lake(str(tmp_path / str(prompt))) for prompt in (False, True)}
    for prompt, lake in lakes.items():
        records = [document(text, row, features=features) for row, text in enumerate(TEXTS)]
        sent = block(*({**r, "prompt_bytes": r["row"] // 2 if prompt else None} for r in records), features=features)
        run_writer(lake, sent, features=features, prompt=prompt)
    for name, added in (("tokens", ["in_prompt"]), ("documents", ["prompt_bytes", "prompt_tokens"])):
        declared = TOKENS.arrow([*features, PROMPT]) if name == "tokens" else DOCUMENTS.arrow([PROMPT, ROLLUPS])
        plain, with_prompts = read(lakes[False], name), read(lakes[True], name)
        assert with_prompts.schema.equals(declared)
        assert [field.metadata for field in with_prompts.schema] == [field.metadata for field in declared]
        assert with_prompts.drop_columns(added).equals(plain, check_metadata=True)
    assert [f for f in verify(lakes[True]) if f.kind != "ledger"] == []


@pytest.mark.parametrize(("prompt", "value"), [(True, None), (True, -1), (True, 7), (False, 0), (False, 3)])
def test_a_prompt_that_cannot_be_is_refused(lake: Lake, prompt: bool, value: int | None) -> None:
    with pytest.raises(ValueError, match="1 documents of a block have prompt_bytes"):
        run_writer(lake, block(prompted(0, "abcdef", SPANS, value), reject(1)), prompt=prompt)
    assert written(lake) == {}


# Again and again


@pytest.mark.parametrize("features", [(), FEATURE_GROUPS])
def test_a_retry_writes_the_same_names_and_the_same_bytes(tmp_path: Path, features: tuple[str, ...]) -> None:
    sent = texts_block(features)
    lakes = [Lake(str(tmp_path / name)) for name in ("once", "twice")]
    run_writer(lakes[0], sent, features=features)
    first = written(lakes[0])
    run_writer(lakes[0], sent, features=features)
    assert written(lakes[0]) == first
    # The same rows in pieces, with other buffers behind them, through a pickled writer.
    pieces = pa.concat_tables([sent.slice(0, 3), sent.slice(3)])
    pickle.loads(pickle.dumps(PartWriter(WriteOptions(lakes[1], "r", features))))(pieces)
    assert written(lakes[1]) == first


def test_the_order_of_a_block_does_not_matter(tmp_path: Path) -> None:
    sent = texts_block()
    lakes = [Lake(str(tmp_path / name)) for name in ("forth", "back")]
    run_writer(lakes[0], sent)
    run_writer(lakes[1], sent.take(list(reversed(range(sent.num_rows)))))
    assert written(lakes[0]) == written(lakes[1])


def test_tokens_are_written_before_their_receipt_and_rejects_last(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    original = Storage.write

    def spy(self: Storage, path: str, data: bytes | memoryview) -> None:
        order.append(path.split("/")[0])
        original(self, path, data)

    monkeypatch.setattr(Storage, "write", spy)
    run_writer(lake, texts_block())
    assert order == ["tokens", "documents", "rejects"]


@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_a_write_killed_between_parts_is_finished_by_a_retry(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    original = Storage.write

    def dying(self: Storage, path: str, data: bytes | memoryview) -> None:
        if len(written(lake)) == survivors:
            raise KeyboardInterrupt
        original(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            run_writer(lake, texts_block())
    assert len(lake.orphans("r")) == (survivors == 1)
    lake.drop_orphans("r")
    run_writer(lake, texts_block())
    assert [f for f in verify(lake) if f.kind != "ledger"] == []
    assert read(lake, "documents").num_rows == len(TEXTS)


# Duplicates and collisions


def test_the_first_of_two_documents_with_one_key_wins(lake: Lake) -> None:
    run_writer(lake, block(reject(7), document("first", 0, "k"), document("second", 1, "k"), document("third", 2)))
    assert sorted(read(lake, "documents")["text"].to_pylist()) == ["first", "third"]
    [_, repeat] = sorted(read(lake, "rejects").to_pylist(), key=lambda r: r["reason"] == "duplicate_key")
    assert repeat == {
        "source": "s.jsonl", "row": 1, "key": "k", "reason": "duplicate_key", "detail": "same key as s.jsonl#0"
    }  # fmt: skip
    assert records(lake) == [0, 1, 2, 7]


def test_two_keys_with_one_doc_id_are_a_collision(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (write, rows):
        monkeypatch.setattr(module, "doc_id", lambda key: 5 if key in ("k1", "k2") else doc_id(key))
    run_writer(lake, block(document("first", 0, "k1"), document("second", 1, "k2")))
    [repeat] = read(lake, "rejects").to_pylist()
    assert (repeat["reason"], repeat["detail"]) == ("hash_collision", "same doc_id as key 'k1' of s.jsonl#0")


def test_a_key_of_a_reject_is_free(lake: Lake) -> None:
    run_writer(lake, block({**reject(0), "key": "k"}, document("second", 1, "k")))
    assert read(lake, "documents")["text"].to_pylist() == ["second"]


def test_a_block_of_the_same_keys_from_elsewhere_does_not_overwrite_the_first(lake: Lake) -> None:
    first = block(document("one", 0, "a"), document("two", 1, "b"))
    run_writer(lake, first)
    before = written(lake)
    other = block(
        *(document(text, row, key, "t.jsonl") for row, (text, key) in enumerate((("uno", "a"), ("due", "b"))))
    )
    for _ in range(2):
        manifest = run_writer(lake, other)
        assert (manifest["documents"], manifest["rejects"], manifest["part"]) == (0, 2, None)
        assert {path: data for path, data in written(lake).items() if path in before} == before
    assert read(lake, "rejects")["detail"].to_pylist() == ["same key as s.jsonl#0", "same key as s.jsonl#1"]
    run_writer(lake, first)
    assert {path: data for path, data in written(lake).items() if path in before} == before


# Broken contracts


def broken(**change: Any) -> pa.Table:
    return block({**document("some text", 0), **change})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (broken(rank=[None, 1]), "list rank is empty or not as long"),
        (broken(entropy=None), "no list entropy"),
        (
            broken(token_id=[], byte_start=[], n_bytes=[], **{name: [] for name in flow.statistic_names()}),
            "list token_id is empty",
        ),
        (broken(text=None), "no text and no reason"),
        (broken(key=None), "no key and no reason"),
        (broken(token_id=[1, None, 3]), "null"),
        (texts_block().drop_columns(["rank"]), "no column rank"),
        (texts_block().append_column("extra", pa.nulls(6)), "unexpected column extra"),
        (texts_block().set_column(1, "row", pa.array(range(6), pa.int32())), "row is int32, not int64"),
        (texts_block(("extremes",)), "unexpected column logprob_max"),
    ],
)
def test_a_block_that_breaks_the_contract_is_refused_whole(lake: Lake, table: pa.Table, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_writer(lake, table)
    assert written(lake) == {}


@pytest.mark.parametrize(
    "options",
    [{"run_id": "../x"}, {"run_id": ""}, {"features": ("nonsense",)}, {"features": (PROMPT,)}, {"precision": "half"}],
)
def test_options_are_checked_before_any_block(lake: Lake, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"run id|column group|precision"):
        WriteOptions(**{"lake": lake, "run_id": "r", **options})


# Parquet


def test_other_readers_read_every_column(lake: Lake) -> None:
    sent = texts_block(FEATURE_GROUPS)
    place = sent.schema.get_field_index("prompt_bytes")
    sent = sent.set_column(place, sent.schema.field(place), pa.array([1] * sent.num_rows, pa.int64()))
    run_writer(lake, sent, features=FEATURE_GROUPS, prompt=True)
    ours = read(lake, "tokens")
    [part] = lake.parts("tokens")
    theirs = {
        "duckdb": duckdb.sql(f"from read_parquet('{lake.uri(part)}', hive_partitioning = false)").to_arrow_table(),
        "polars": pl.read_parquet(lake.uri(part), hive_partitioning=False).to_arrow(),
    }
    for reader, table in theirs.items():
        assert table.column_names == ours.column_names
        for name in ours.column_names:
            assert table[name].cast(ours[name].type).to_pylist() == ours[name].to_pylist(), (reader, name)


def test_files_are_stored_as_chosen(lake: Lake) -> None:
    run_writer(lake, texts_block(FEATURE_GROUPS), features=FEATURE_GROUPS, precision="full")
    with lake.storage.parquet(lake.parts("tokens")[0].path) as file:
        group = file.metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {c.compression for c in columns.values()} == {"ZSTD"}
    assert {name for name, c in columns.items() if c.statistics is not None and c.statistics.has_min_max} == {"doc_id"}
    assert {name for name, c in columns.items() if c.has_dictionary_page} == {"doc_id"}
    floats = {name for name, c in columns.items() if c.physical_type == "FLOAT"}
    assert {name for name in floats if "BYTE_STREAM_SPLIT" not in columns[name].encodings} == set()
    assert "BYTE_STREAM_SPLIT" not in columns["hidden.list.element"].encodings
    assert [c.column_index for c in group.sorting_columns] == [0, 1]


@pytest.mark.parametrize(
    ("column", "values", "is_dictionary"),
    [
        ("logprob_std", np.tile(np.arange(256), 8) / 2, True),
        ("logprob_std", np.tile(np.arange(257), 8) / 2, False),
        ("logprob_std", np.full(100, 0.1), False),  # not rounded: nobody counts its values
        ("logprob", -np.tile(np.arange(1000), 12) / 512, True),
        ("logprob", -np.tile(np.arange(1000), 11) / 512, False),
        ("entropy", np.tile(np.arange(1000), 12) / 512, False),
    ],
)
def test_a_rounded_column_of_few_values_is_a_dictionary(column: str, values: Any, is_dictionary: bool) -> None:
    rows = tokens_of(len(values), **{column: values})
    for chunks in (rows, pa.concat_tables([rows.slice(0, 7), rows.slice(7)])):
        file = pq.ParquetFile(pa.BufferReader(parquet.encode(chunks, TOKENS)))
        group = file.metadata.row_group(0)
        [chunk] = [group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == column]
        assert chunk.has_dictionary_page == is_dictionary
        assert ("BYTE_STREAM_SPLIT" in chunk.encodings) == (not is_dictionary)
        assert file.read().equals(rows)


def tokens_of(n: int, **columns: Any) -> pa.Table:
    """Rows of `tokens` that hold zeros but for the columns given; the first is not scored."""
    zeros = {f.name: pa.array(np.zeros(n)).cast(f.type) for f in TOKENS.arrow()}
    given = {name: pa.array(values, mask=np.arange(n) == 0).cast(TOKENS[name].type) for name, values in columns.items()}
    return pa.table({**zeros, **given}, schema=TOKENS.arrow())


def test_row_groups_stay_readable_however_wide_a_row_is(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 160)
    run_writer(lake, texts_block(("hidden",)), features=("hidden",))
    with lake.storage.parquet(lake.parts("tokens")[0].path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert max(sizes) == 160 // (4 * 2)
    assert [f for f in verify(lake) if f.kind != "ledger"] == []


def test_compact_tokens_are_small() -> None:
    """Sizes on arbitrary numbers of plausible spread; a table of choices that stops being applied shows here."""
    rng = np.random.default_rng(0)
    n = 100_000
    surprise = rng.gamma(1.0, 3.0, n)
    texts = {
        "token_id": rng.zipf(1.3, n) % 50_257,
        "n_bytes": rng.integers(1, 9, n),
        "rank": rng.zipf(1.5, n) % 50_257 + 1,
    }
    floats = {"logprob": -surprise, "entropy": rng.gamma(3.0, 1.0, n), "logprob_std": rng.gamma(5.0, 0.4, n)}
    size = 1000
    starts = np.arange(n) % size * 4
    columns = {"doc_id": np.repeat(np.sort(rng.integers(0, 2**63, n // size)), size), "position": np.arange(n) % size}
    columns |= {"byte_start": starts, **texts, **floats}
    schema = TOKENS.arrow()
    table = compact(pa.table({f.name: pa.array(columns[f.name]).cast(f.type) for f in schema}, schema=schema))
    assert write.encode(table, TOKENS).size / n < 7.7


def test_an_object_store_holds_the_same_bytes_as_a_disk(lake: Lake) -> None:
    store = Lake(f"memory://bucket-{uuid.uuid4().hex}/lake")
    assert {**run_writer(store, texts_block()), "seconds": 0} == {**run_writer(lake, texts_block()), "seconds": 0}
    for path, data in written(lake).items():
        assert store.storage.read(path) == data
    assert [f for f in verify(store) if f.kind != "ledger"] == []
    assert records(store) == records(lake) == [0, 1, 2, 3, 4, 99]


def test_pieces_can_be_used_alone() -> None:
    documents, ids = scored_documents(write.checked(texts_block(), ()))
    assert ids.tolist() == sorted(ids.tolist())
    tokens = token_rows(documents, ids)
    assert tokens.num_rows == sum(document_rows(documents, ids, tokens)["n_tokens"].to_pylist())
    file = pq.ParquetFile(pa.BufferReader(write.encode(tokens, TOKENS)))
    assert file.read().num_rows == file.metadata.num_rows
