"""A sound lake has no faults; each way of spoiling one is found, named and placed; and nothing is ever changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lakes
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from lakes import RUN, TABLES, Edit, at, content, first_part, kinds, put, read, spoil

from operators.identity import doc_id
from operators.lake import Lake, Part, documents_part_name
from operators.parquet import encode
from operators.verify import Fault, Kind, records, verify
from schemas import DOCUMENTS, REJECTS
from schemas.documents import ROLLUPS


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "lake"
    lakes.write_run(Lake(str(root)))
    return root


@pytest.fixture
def lake(sound: Path, tmp_path: Path) -> Lake:
    shutil.copytree(sound, tmp_path / "lake")
    return Lake(str(tmp_path / "lake"))


def test_a_sound_lake_has_no_faults(lake: Lake) -> None:
    before = content(lake)
    assert verify(lake) == verify(lake, RUN) == []
    assert content(lake) == before


def test_an_empty_lake_is_sound(tmp_path: Path) -> None:
    assert verify(Lake(str(tmp_path / "nothing"))) == []


def nullable(name: str) -> Edit:
    def edit(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        return table.cast(table.schema.set(index, table.field(index).with_nullable(not table.field(index).nullable)))

    return edit


def described(name: str, **metadata: str | None) -> Edit:
    """An edit of a column's metadata; None takes an entry away."""

    def edit(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        kept = {k.decode(): v.decode() for k, v in table.field(index).metadata.items()} | metadata
        field = table.field(index).with_metadata({k: v for k, v in kept.items() if v is not None})
        return table.cast(table.schema.set(index, field))

    return edit


OTHER_TABLE = {"assay.table": "rejects"}
SPOILED: list[tuple[str, str, Edit, set[str]]] = [
    # Schema
    ("column missing", "tokens", lambda t: t.drop_columns(["rank"]), {"schema"}),
    ("column added", "tokens", lambda t: t.append_column("x", pc.negate(t["rank"])), {"schema"}),
    ("column type", "tokens", lambda t: t.set_column(2, "token_id", t["token_id"].cast(pa.int64())), {"schema"}),
    ("other table's part", "documents", lambda t: t.replace_schema_metadata(OTHER_TABLE), {"schema", "total"}),
    ("no declared table", "rejects", lambda t: t.replace_schema_metadata(None), {"schema", "total"}),
    ("a group the run does not keep", "tokens", lambda t: t.drop_columns(["top1_id", "logprob_max"]), {"schema"}),
    ("may be NULL", "tokens", nullable("token_id"), {"schema"}),
    ("may not be NULL", "documents", nullable("text"), {"schema", "total"}),
    ("unit changed", "tokens", described("logprob", unit="bits"), {"schema"}),
    ("unit lost", "documents", described("n_bytes", unit=None), {"schema", "total"}),
    ("description lost", "rejects", described("reason", description=None), {"schema", "total"}),
    ("all metadata lost", "tokens", lambda t: t.cast(t.schema.remove_metadata()), {"schema"}),
    ("columns in another order", "tokens", lambda t: t.select(t.column_names[::-1]), {"schema"}),
    # Rows of tokens
    ("token lost at the end", "tokens", lambda t: t.slice(0, t.num_rows - 1), {"count", "span", "rollup"}),
    ("document lost", "tokens", lambda t: t.filter(pc.not_equal(t["doc_id"], t["doc_id"][0])), {"count"}),
    ("no token left", "tokens", lambda t: t.slice(0, 0), {"count"}),
    ("unknown document", "tokens", put("doc_id", lambda v: [x if x != v[-1] else 2**63 - 1 for x in v]), {"count"}),
    ("rows out of order", "tokens", lambda t: t.take(list(reversed(range(t.num_rows)))), {"order"}),
    ("row twice", "tokens", lambda t: pa.concat_tables([t.slice(0, 1), t]), {"order"}),
    ("position skipped", "tokens", put("position", lambda v: at(-1, v[-1] + 1)(v)), {"position"}),
    ("span moved", "tokens", put("byte_start", lambda v: at(-1, v[-1] + 1)(v)), {"span"}),
    ("span does not start at 0", "tokens", put("byte_start", at(0, 1)), {"span"}),
    ("span cut", "tokens", put("n_bytes", lambda v: at(-1, v[-1] - 1)(v)), {"span"}),
    # Statistics
    ("NULL inside", "tokens", put("entropy", at(2, None)), {"nulls", "rollup"}),
    ("NULL log-prob inside", "tokens", put("logprob", at(2, None)), {"nulls", "count", "rollup"}),
    ("value at position 0", "tokens", put("rank", at(0, 1)), {"nulls", "rollup"}),
    ("second value at position 0", "tokens", put("logprob_second", at(0, -1.0)), {"nulls"}),
    ("NaN", "tokens", put("logprob", at(1, float("nan"))), {"value", "rollup"}),
    ("NaN entropy", "tokens", put("entropy", at(1, float("nan"))), {"value", "rollup"}),
    ("infinite log-prob", "tokens", put("logprob", at(1, float("-inf"))), {"value", "rollup"}),
    ("positive log-prob", "tokens", put("logprob", at(1, 0.5)), {"value", "rollup"}),
    ("negative entropy", "tokens", put("entropy", at(1, -0.5)), {"value", "rollup"}),
    ("probability above 1", "tokens", put("mass_above", at(1, 1.5)), {"value"}),
    ("rank 0", "tokens", put("rank", at(1, 0)), {"value", "rollup"}),
    ("positive log-prob in a list", "tokens", put("topk_logprob", at(1, [0.0, 0.5, -1.0, -2.0])), {"value"}),
    ("lists of two lengths", "tokens", put("topk_logprob", at(1, [-1.0])), {"count"}),
    ("NULL in a list", "tokens", put("topk_id", at(1, [1, None, 2, 3])), {"nulls"}),
    ("NaN hidden state", "tokens", put("hidden", at(1, [np.float16("nan")] * 4)), {"value"}),
    # Roll-ups
    ("another log-prob", "tokens", put("logprob", at(1, -1.25)), {"rollup"}),
    ("another entropy", "tokens", put("entropy", at(1, 1.25)), {"rollup"}),
    ("another deviation", "tokens", put("logprob_std", at(1, 1.25)), {"rollup"}),
    ("another rank", "tokens", put("rank", at(1, 7)), {"rollup"}),
    ("sum off by a billionth", "documents", put("logprob_sum", lambda v: at(0, v[0] * (1 + 1e-9))(v)), {"rollup"}),
    ("roll-up NULL", "documents", put("min_k_20", at(1, None)), {"rollup"}),
    ("roll-up NaN", "documents", put("min_k_plus_plus_20", at(1, float("nan"))), {"rollup"}),
    ("roll-up infinite", "documents", put("entropy_sum", at(1, float("inf"))), {"rollup"}),
    ("count of rank 1 off", "documents", put("n_rank_1", lambda v: at(0, v[0] + 1)(v)), {"rollup"}),
    ("sum out of range", "documents", put("log_rank_sum", at(0, -1.0)), {"rollup", "value"}),
    ("one roll-up lost", "documents", lambda t: t.drop_columns(["n_rank_1"]), {"schema", "total"}),
    # Documents
    ("doc_id is not the hash", "documents", put("key", at(0, "other")), {"identity"}),
    ("documents out of order", "documents", lambda t: t.take(list(reversed(range(t.num_rows)))), {"order"}),
    ("receipt lost", "documents", lambda t: t.slice(1), {"name", "count", "total"}),
    (
        "one twice",
        "documents",
        lambda t: pa.concat_tables([t, t.slice(2)]),
        {"name", "order", "duplicate", "record", "total"},
    ),
    ("text changed", "documents", put("text", lambda v: at(0, v[0][::-1])(v)), {"text"}),
    ("text longer", "documents", put("text", lambda v: at(0, v[0] + " x")(v)), {"text"}),
    ("n_bytes wrong", "documents", put("n_bytes", at(0, 99)), {"text", "span", "total"}),
    ("n_words wrong", "documents", put("n_words", at(0, 99)), {"text"}),
    ("n_tokens wrong", "documents", put("n_tokens", at(0, 99)), {"count", "total"}),
    ("n_scored wrong", "documents", put("n_scored", at(0, 99)), {"count", "total"}),
    ("label out of range", "documents", put("label", at(0, 2)), {"value"}),
    # Rejects
    ("unknown reason", "rejects", put("reason", at(0, "bad_mood")), {"reason"}),
    ("reject moved", "rejects", put("row", at(0, 77)), {"name"}),
    ("reject twice", "rejects", lambda t: pa.concat_tables([t, t]), {"name", "order", "record", "total"}),
    ("row below -1", "rejects", put("row", at(0, -2)), {"value", "name"}),
]  # fmt: skip


@pytest.mark.parametrize(("table", "edit", "expected"), [s[1:] for s in SPOILED], ids=[s[0] for s in SPOILED])
def test_a_spoiled_part_is_found_and_placed(lake: Lake, table: str, edit: Edit, expected: set[str]) -> None:
    path = spoil(lake, table, edit)
    before = content(lake)
    faults = verify(lake)
    assert kinds(faults) == expected, [str(fault) for fault in faults]
    assert {f.run_id for f in faults} == {RUN}
    assert any(Path(f.where).name == Path(path).name for f in faults)
    assert verify(lake, RUN) == faults
    assert content(lake) == before


def test_a_description_in_other_words_is_no_fault(lake: Lake) -> None:
    spoil(lake, "tokens", described("logprob", description="as it was called before"))
    assert verify(lake) == []


def test_no_second_log_prob_is_no_fault(lake: Lake) -> None:
    spoil(lake, "tokens", put("logprob_second", at(2, None)))
    assert verify(lake) == []


def test_a_part_from_before_there_were_rollups_is_sound(lake: Lake) -> None:
    spoil(lake, "documents", lambda t: t.drop_columns([c.name for c in DOCUMENTS.group(ROLLUPS)]))
    assert verify(lake) == []


def test_dropped_text_is_no_fault(lake: Lake) -> None:
    spoil(lake, "documents", put("text", lambda v: [None] * len(v)))
    assert verify(lake) == []


def test_a_run_without_a_feature_list_is_held_to_the_columns_it_has(lake: Lake) -> None:
    ledger = lake.read_run(RUN)
    del ledger["features"]
    lake.write_run(RUN, ledger)
    spoil(lake, "tokens", lambda t: t.drop_columns(["mass_above"]))
    assert verify(lake) == []
    spoil(lake, "tokens", lambda t: t.drop_columns(["renyi_2"]))
    assert kinds(verify(lake)) == {"schema"}


def test_features_may_stand_in_the_config(lake: Lake) -> None:
    ledger = lake.read_run(RUN)
    lake.write_run(RUN, {**ledger, "features": None} | {"config": {"features": []}})
    assert verify(lake) == []
    del ledger["features"]
    lake.write_run(RUN, {**ledger, "config": {"features": []}})
    assert kinds(verify(lake)) == {"schema"}


# Files


def test_an_orphan_is_found(lake: Lake) -> None:
    part = first_part(lake, "documents")
    documents = read(lake, part)
    lake.storage.delete(part.path)
    twin = Part("tokens", RUN, part.name)
    faults = verify(lake)
    assert Fault(Kind.ORPHAN, RUN, twin.path, "a tokens part without a documents part of the same name") in faults
    assert kinds(faults) == {"orphan", "total"}
    assert sum(f.kind == Kind.TOTAL for f in faults) == 5
    assert documents.num_rows == 3


def test_a_receipt_without_its_twin_is_found(lake: Lake) -> None:
    lake.storage.delete(first_part(lake, "tokens").path)
    assert kinds(verify(lake)) == {"twin"}


@pytest.mark.parametrize("table", list(TABLES))
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_broken_parquet_file_is_found_and_the_others_are_still_checked(lake: Lake, table: str, damage: str) -> None:
    part = first_part(lake, table)
    data = bytearray(lake.storage.read(part.path))
    data[40] ^= 0xFF
    broken = {"cut": data[: len(data) // 2], "empty": b"", "flipped": data, "text": b"PAR1 no PAR1"}[damage]
    lake.storage.write(part.path, bytes(broken))
    [other] = [p for p in lake.parts("rejects", RUN) if p != part][:1]
    lake.storage.write(other.path, encode(put("reason", at(0, "bad"))(read(lake, other)), REJECTS))
    faults = verify(lake)
    assert Kind.UNREADABLE in {f.kind for f in faults if f.where == part.path}
    assert Kind.REASON in {f.kind for f in faults if f.where == other.path}


@pytest.mark.parametrize("table", list(TABLES))
def test_a_flipped_bit_in_any_page_of_any_column_is_found(lake: Lake, table: str) -> None:
    part = first_part(lake, table)
    data = lake.storage.read(part.path)
    with lake.storage.parquet(part.path) as file:
        group = file.metadata.row_group(0)
        chunks = [group.column(i) for i in range(group.num_columns)]
    assert len(chunks) >= len(TABLES[table].arrow().names)
    for chunk in chunks:
        first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        last_bytes = [first + chunk.total_compressed_size - 1]
        if chunk.has_dictionary_page:
            last_bytes.append(chunk.data_page_offset - 1)
        for place in last_bytes:
            flipped = bytearray(data)
            flipped[place] ^= 1
            lake.storage.write(part.path, bytes(flipped))
            found = {f.kind for f in verify(lake) if f.where == part.path}
            assert found == {Kind.UNREADABLE}, (chunk.path_in_schema, place)


def test_a_part_under_another_name_is_found(lake: Lake) -> None:
    part = first_part(lake, "documents")
    for table in ("documents", "tokens"):
        old, new = Part(table, RUN, part.name), Part(table, RUN, "0" * 32)
        lake.storage.write(new.path, lake.storage.read(old.path))
        lake.storage.delete(old.path)
    assert kinds(verify(lake)) == {"name"}


@pytest.mark.parametrize("ids_per_pass", [1, 2, 1 << 24])
def test_a_document_in_two_parts_is_found(lake: Lake, monkeypatch: pytest.MonkeyPatch, ids_per_pass: int) -> None:
    monkeypatch.setattr(records, "HASHES_PER_PASS", ids_per_pass)
    assert verify(lake) == []
    part = first_part(lake, "documents")
    repeated = doc_id("s#0")
    name = documents_part_name(np.array([repeated]))
    for table in ("documents", "tokens"):
        rows = read(lake, Part(table, RUN, part.name))
        rows = rows.filter(pc.equal(rows["doc_id"], repeated))
        lake.storage.write(Part(table, RUN, name).path, encode(rows, TABLES[table]))
    faults = verify(lake)
    assert kinds(faults) == {"duplicate", "record", "total"}
    [duplicate] = [f for f in faults if f.kind == Kind.DUPLICATE]
    assert str(repeated) in duplicate.message


def test_what_does_not_fit_the_layout_is_found(lake: Lake) -> None:
    stale = f"tokens/run_id={RUN}/.x.parquet.{'0' * 32}.tmp"
    strangers = ["tokens/notes.txt", "tokens/run_id=.x/y", f"rejects/run_id={RUN}/x.parquet", "runs/.x.json"]
    for path in (*strangers, stale):
        lake.storage.write(path, b"")
    faults = verify(lake)
    assert {f.where for f in faults if f.kind == Kind.FOREIGN} == {*strangers[:1], "tokens/run_id=.x/", *strangers[2:]}
    assert [f.where for f in faults if f.kind == Kind.TEMPORARY] == [stale]
    assert len(faults) == 5


def test_a_folder_that_leads_out_of_the_lake_is_not_read(lake: Lake, tmp_path: Path) -> None:
    folder = Path(lake.root) / "rejects" / f"run_id={RUN}"
    shutil.move(folder, tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    faults = verify(lake)
    assert kinds(faults) == {"foreign"}
    assert any("leads out" in fault.message for fault in faults)


# Ledgers


def test_parts_without_a_ledger_are_found(lake: Lake) -> None:
    lake.storage.delete(f"runs/{RUN}.json")
    [fault] = verify(lake)
    assert (fault.kind, fault.where) == (Kind.LEDGER, f"runs/{RUN}.json")
    assert kinds(verify(lake, "nothing")) == {"ledger"}


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff\xfe", b""])
def test_a_broken_ledger_is_found(lake: Lake, data: bytes) -> None:
    lake.storage.write(f"runs/{RUN}.json", data)
    assert kinds(verify(lake)) == {"ledger"}


@pytest.mark.parametrize("name", ["rows_in", "documents", "rejects", "tokens", "scored", "text_bytes"])
@pytest.mark.parametrize("value", [-1, None, "many"])
def test_totals_that_disagree_are_found_in_finished_runs_only(lake: Lake, name: str, value: Any) -> None:
    ledger = lake.read_run(RUN)
    ledger["totals"][name] = value
    lake.write_run(RUN, ledger)
    [fault] = verify(lake)
    assert fault.kind == Kind.TOTAL
    assert fault.message.startswith(f"{name} is {value}")
    lake.write_run(RUN, {**ledger, "state": "running"})
    assert verify(lake) == []


def test_a_finished_run_needs_totals_and_its_own_name(lake: Lake) -> None:
    ledger = lake.read_run(RUN)
    lake.write_run(RUN, {**ledger, "totals": None})
    assert kinds(verify(lake)) == {"total"}
    lake.write_run(RUN, {**ledger, "run_id": "other"})
    assert kinds(verify(lake)) == {"ledger"}


@pytest.mark.parametrize("run_id", ["..", "a/b", ""])
def test_a_hostile_run_id_is_refused(lake: Lake, run_id: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        verify(lake, run_id)


def test_a_fault_reads_as_one_line_whatever_a_file_is_called() -> None:
    assert str(Fault(Kind.NAME, "r", "documents/x", "wrong")) == "documents/x: name: wrong"
    assert str(Fault(Kind.FOREIGN, "", "tokens/\x1b[2J\n", "a\nb")).isprintable()
