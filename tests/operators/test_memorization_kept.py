"""Windows and spans as the lake keeps them: of one state of their runs, whatever the ranges; and their texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import lakes
import memorized_runs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from memorized_runs import RUN

from operators.catalog import connect
from operators.lake import Lake, Part
from operators.memorization.kept import KeptRows, drop_extractions, keep_extractions, keep_spans
from operators.memorization.ranges import slices_for
from operators.memorization.search import Search
from operators.memorization.windows_runs import one_for_each_offset, windows_runs
from operators.parquet import encode
from operators.verify import verify
from operators.verify.memorization import memorization_faults
from schemas import EXTRACTIONS, SPANS
from schemas.extractions import DOCUMENT, STRICT
from schemas.spans import NEAR_VERBATIM, VERBATIM

SEARCH = Search(prefix=4, suffix=3, stride=2, min_tokens=5, misses=0.25, top_k=memorized_runs.TOP)
WINDOWS = {f"{RUN}-windows-{offset}": offset for offset in (0, 1)}


def documents(seed: int, count: int = 12) -> list[memorized_runs.Document]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        hits: list[bool | None] = [None, *(rng.random(int(rng.integers(1, 60))) < (0.5, 0.95)[i % 2]).tolist()]
        more = {"domain": "ab"[i % 2], "attributes": {"copies": str(i % 3)}}
        made.append(memorized_runs.document(f"k{i}", rng, hits, **more))
    return made


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    made = documents(3)
    memorized_runs.write_run(lake, RUN, made)
    for name, offset in WINDOWS.items():
        spec = f"windows:prefix=4,suffix=3,offset={offset}"
        memorized_runs.write_run(lake, name, made, transform=spec, base_run=RUN)
    return lake


def keep(lake: Lake, search: Search = SEARCH, slices: int = 1) -> list[KeptRows]:
    with connect(lake.root, macros=False) as connection:
        return [
            keep_extractions(lake, connection, RUN, STRICT, list(WINDOWS), search, slices),
            keep_extractions(lake, connection, RUN, DOCUMENT, [RUN], search, slices),
            *(keep_spans(lake, connection, RUN, kind, search, slices) for kind in (VERBATIM, NEAR_VERBATIM)),
        ]


def rows(lake: Lake, kept: KeptRows) -> pa.Table:
    return pq.read_table(Path(lake.root) / kept.path, partitioning=None)


def test_files_are_sound_and_the_same_whatever_the_ranges(lake: Lake) -> None:
    whole = keep(lake)
    assert [(each.what, each.path.split("/")[0]) for each in whole] == [
        (STRICT, "extractions"), (DOCUMENT, "extractions"), (VERBATIM, "spans"), (NEAR_VERBATIM, "spans")
    ]  # fmt: skip
    assert verify(lake) == []
    tables = [rows(lake, each) for each in whole]
    assert [len(table) for table in tables] == [each.rows for each in whole]
    assert min(map(len, tables)) > 3
    before = [(Path(lake.root) / each.path).read_bytes() for each in whole]
    again = keep(lake)
    assert [(Path(lake.root) / each.path).read_bytes() for each in again] == before
    cut = keep(lake, slices=5)
    assert [each.path for each in cut] == [each.path for each in whole]
    assert [rows(lake, each).equals(table) for each, table in zip(cut, tables, strict=True)] == [True] * 4
    assert verify(lake) == []


def test_windows_of_several_offsets_stand_side_by_side(lake: Lake) -> None:
    strict = rows(lake, keep(lake)[0])
    assert set(strict["scored_run"].to_pylist()) == set(WINDOWS)
    assert pc.unique(strict["context"]).to_pylist() == [STRICT]
    keys = list(zip(*(strict[name].to_pylist() for name in ("doc_id", "byte_start", "position")), strict=True))
    assert keys == sorted(keys)
    made = {each.key: each for each in documents(3)}
    with connect(lake.root, macros=False) as connection:
        names = dict(connection.execute(f"select doc_id, key from documents where run_id = '{RUN}'").fetchall())
        found = connection.sql("select * from extractions where context = 'strict'").to_arrow_table()
    assert len(found) == len(strict)
    expected = sum((len(each.hits) - 4) // 3 for each in made.values() if len(each.hits) >= 7)
    assert len(strict) == 2 * expected
    for row in strict.to_pylist():
        document = made[names[row["doc_id"]]]
        inside = slice(row["position"], row["position"] + 3)
        assert row["n_greedy"] == sum(map(bool, document.hits[inside]))
        assert row["is_extractable"] == all(document.hits[inside])
        assert row["logprob_sum"] == pytest.approx(sum(document.logprobs[inside]))  # type: ignore[arg-type]
        assert row["logprob_sampled"] is not None
        assert row["byte_start"] == document.starts[row["position"]]
        assert row["byte_start"] + row["n_bytes"] == document.starts[row["position"] + 3]
        assert row["sampling"] == '{"temperature": 1.0, "top_k": 5}'


def stretches(document: memorized_runs.Document) -> Iterator[tuple[int, int]]:
    flags = [bool(hit) for hit in document.hits]
    start = None
    for place, hit in enumerate([*flags, False]):
        if hit and start is None:
            start = place
        elif not hit and start is not None:
            yield start, place
            start = None


def test_spans_have_the_text_of_their_bytes(lake: Lake) -> None:
    keep(lake)
    with connect(lake.root, macros=False) as connection:
        found = connection.sql(
            "select * from memorized_spans where run_id = $run", params={"run": RUN}
        ).to_arrow_table()
    assert found["n_tokens"].to_pylist() == sorted(found["n_tokens"].to_pylist(), reverse=True)
    by_key = {each.key: each for each in documents(3)}
    verbatim = []
    halves = 0
    for row in found.to_pylist():
        document = by_key[row["key"]]
        data, end = document.text.encode(), row["byte_start"] + row["n_bytes"]
        start = row["byte_start"]
        assert (row["source"], row["domain"]) == ("s", document.domain)
        assert dict(row["attributes"]) == document.attributes
        exact = data[start:end]
        widened = row["text"].encode()
        assert exact in widened
        assert len(widened) - len(exact) <= 2
        assert widened in data
        halves += widened != exact
        inside = slice(row["position"], row["position"] + row["n_tokens"])
        assert row["n_misses"] == sum(not hit for hit in document.hits[inside])
        assert row["logprob_sum"] == pytest.approx(sum(document.logprobs[inside]))  # type: ignore[arg-type]
        assert (start, end) == (document.starts[inside.start], document.starts[inside.stop])
        if row["kind"] == VERBATIM:
            verbatim.append((row["key"], inside.start, inside.stop))
    expected = [(d.key, a, b) for d in by_key.values() for a, b in stretches(d) if b - a >= 5]
    assert sorted(verbatim) == sorted(expected)
    assert halves > 0
    near = found.filter(pc.equal(found["kind"], NEAR_VERBATIM))
    assert sum(near["n_misses"].to_pylist()) > 0


def test_without_misses_both_kinds_are_the_same(lake: Lake) -> None:
    kept = keep(lake, replace(SEARCH, misses=0.0))
    verbatim, near = (rows(lake, each).drop_columns(["kind", "parameters"]) for each in kept[2:])
    assert verbatim.equals(near)


def test_prompts_are_left_out_where_asked(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    made = [replace(each, prompt_tokens=len(each.hits) // 2) for each in documents(5)]
    memorized_runs.write_run(lake, RUN, made)
    with connect(lake.root, macros=False) as connection:
        for kind in (VERBATIM, NEAR_VERBATIM):
            search = replace(SEARCH, completion=True, misses=0.0)
            found = rows(lake, keep_spans(lake, connection, RUN, kind, search))
            masked = [replace(d, hits=[None if t < d.prompt_tokens else h for t, h in enumerate(d.hits)]) for d in made]
            expected = sorted(b - a for d in masked for a, b in stretches(d) if b - a >= 5)
            assert sorted(found["n_tokens"].to_pylist()) == expected
            assert found["parameters"][0].as_py().startswith('{"completion": true')
        windows = rows(lake, keep_extractions(lake, connection, RUN, DOCUMENT, [RUN], replace(SEARCH, completion=True)))
        every = rows(lake, keep_extractions(lake, connection, RUN, DOCUMENT, [RUN], SEARCH))
    assert 0 < len(windows) < len(every)


def test_tokens_added_behind_a_text_change_nothing(lake: Lake, tmp_path: Path) -> None:
    """Neither an EOS that is the greedy choice nor one that is missed, nor several."""
    tails: tuple[list[bool | None], ...] = ([True], [False], [True, True, False], [False, True, True, True])
    other = Lake(str(tmp_path / "other"))
    made = []
    for i, each in enumerate(documents(3)):
        tail = tails[i % len(tails)]
        made.append(
            replace(
                each, hits=[*each.hits, *tail], logprobs=[*each.logprobs, *[-0.5] * len(tail)],
                pieces=[*each.pieces, *[b""] * len(tail)],
            )
        )  # fmt: skip
    memorized_runs.write_run(other, RUN, made)
    search = replace(SEARCH, min_tokens=1)

    def found(of: Lake) -> list[pa.Table]:
        with connect(of.root, macros=False) as connection:
            kept = [keep_extractions(of, connection, RUN, DOCUMENT, [RUN], search)]
            kept += [keep_spans(of, connection, RUN, kind, search) for kind in (VERBATIM, NEAR_VERBATIM)]
        return [rows(of, each) for each in kept]

    for here, there in zip(found(lake), found(other), strict=True):
        assert here.equals(there)
        assert len(here) > 10


def test_dropped_texts_leave_the_bytes(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    memorized_runs.write_run(lake, RUN, documents(3), keep_text=False)
    with connect(lake.root, macros=False) as connection:
        kept = keep_spans(lake, connection, RUN, VERBATIM, SEARCH)
        found = connection.execute("select text, n_bytes, key from memorized_spans").fetchall()
    assert len(found) == kept.rows > 0
    assert {text for text, _, _ in found} == {None}
    assert all(n_bytes > 0 and key for _, n_bytes, key in found)


def test_lists_are_read_only_where_ids_are_not_enough(lake: Lake, tmp_path: Path) -> None:
    """Ranks, lists and ids say the same of runs that keep them, but for ties, which only ranks count twice."""
    found = {}
    for features in ((), ("topk",), ("extremes",), ("extremes", "topk")):
        other = Lake(str(tmp_path / "-".join(["of", *features])))
        memorized_runs.write_run(other, RUN, documents(3), features=features)
        with connect(other.root, macros=False) as connection:
            search = replace(SEARCH, top_k=0)
            kept = rows(other, keep_extractions(other, connection, RUN, DOCUMENT, [RUN], search))
        found[features] = kept["n_greedy"].to_pylist()
    assert found["topk",] == found["extremes",] == found["extremes", "topk"]
    assert sum(found[()]) > sum(found["topk",])


def test_an_older_state_is_found(lake: Lake) -> None:
    keep(lake)
    name = next(iter(WINDOWS))
    memorized_runs.write_run(
        lake, name, documents(3), transform="windows:prefix=4,suffix=3", base_run=RUN, finished_at="later"
    )
    (fault,) = verify(lake)
    assert (fault.kind.value, "as it was before: `assay memorization`" in fault.message) == ("stale", True)
    lake.remove_run(name)
    assert ["which is gone" in fault.message for fault in verify(lake)] == [True]
    memorized_runs.write_run(lake, RUN, documents(3), finished_at="later still")
    stale = {fault.where.split("/")[0] for fault in verify(lake) if fault.kind.value == "stale"}
    assert stale == {"extractions", "spans"}
    lake.remove_run(RUN)
    assert not list((Path(lake.root) / "spans").rglob("*.parquet"))


def spoiled(lake: Lake, kept: KeptRows, edit: Any) -> set[tuple[str, str]]:
    """Kinds and messages of the faults after an edit of one file, which is put back."""
    path = Path(lake.root) / kept.path
    before = path.read_bytes()
    table = pq.read_table(path, partitioning=None)
    changed = edit(table)
    declared = SPANS if "spans" in kept.path else EXTRACTIONS
    encoded = encode(changed.replace_schema_metadata(None), declared)
    restored = pq.read_table(pa.BufferReader(encoded))
    pq.write_table(restored.replace_schema_metadata(table.schema.metadata), path, write_page_checksum=True)
    found = {(fault.kind.value, fault.message) for fault in memorization_faults(lake, RUN)}
    path.write_bytes(before)
    return found


def put(name: str, value: Any) -> Any:
    return lakes.put(name, lakes.at(0, value))


def test_spoiled_rows_are_found(lake: Lake) -> None:
    strict, document, verbatim, near = keep(lake)
    assert spoiled(lake, strict, lambda table: table) == set()
    for kept, edit, kind, message in (
        (strict, lambda t: t.take(list(range(len(t)))[::-1]), "order", "ascend"),
        (strict, lambda t: pa.concat_tables([t.slice(0, 1), t]), "order", "ascend"),
        (strict, put("context", DOCUMENT), "value", "context is ['document']"),
        (strict, put("scored_run", "x"), "value", "scored_run is ['x']"),
        (document, put("n_greedy", 99), "value", "n_greedy: more than suffix_tokens"),
        (document, lambda t: put("is_extractable", not t["is_extractable"][0].as_py())(t), "value", "is_extractable"),
        (verbatim, put("n_misses", 99), "value", "n_misses"),
        (near, put("kind", VERBATIM), "value", "kind is ['verbatim']"),
        (near, put("n_tokens", 0), "value", "n_tokens"),
    ):
        found = spoiled(lake, kept, edit)
        assert any(k == kind and message in m for k, m in found), (kind, message, found)
    path = Path(lake.root) / near.path
    other = Part(SPANS.name, RUN, "0" * 32)
    (Path(lake.root) / other.path).write_bytes(path.read_bytes())
    assert {fault.kind.value for fault in verify(lake)} == {"name"}
    (Path(lake.root) / other.path).unlink()
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({"assay.table": "spans"}), path)
    assert {fault.kind.value for fault in verify(lake)} == {"schema"}


def test_dropping_says_whether_there_was_any(lake: Lake) -> None:
    kept = keep(lake)
    assert drop_extractions(lake, RUN, STRICT)
    assert not (Path(lake.root) / kept[0].path).exists()
    assert (Path(lake.root) / kept[1].path).exists()
    assert not drop_extractions(lake, RUN, STRICT)


# Runs of strict windows


def found_runs(connection: duckdb.DuckDBPyConnection, search: Search) -> Sequence[str]:
    return [run.run_id for run in one_for_each_offset(windows_runs(connection, RUN), search)]


def test_runs_of_strict_windows_that_fit(lake: Lake) -> None:
    """One for each place where windows begin, the one with most of them; of other lengths, other models and unfinished
    ones, none."""
    of_run = {"base_run": RUN}
    made = documents(3)
    memorized_runs.write_run(lake, "a-again", made, transform="windows:prefix=4,suffix=3", features=(), **of_run)
    memorized_runs.write_run(lake, "a-wrapped", made, transform="windows:prefix=4,suffix=3,offset=4", **of_run)
    memorized_runs.write_run(lake, "a-longer", made, transform="windows:prefix=9,suffix=3,offset=2", **of_run)
    other = {"model": {"fingerprint": "g"}}
    memorized_runs.write_run(lake, "a-model", made, transform="windows:prefix=4,suffix=3,offset=2", **of_run, **other)
    half = "windows:prefix=4,suffix=3,offset=2"
    memorized_runs.write_run(lake, "a-stopped", made, transform=half, state="interrupted", **of_run)
    memorized_runs.write_run(lake, "lower", made, transform="lowercase", **of_run)
    memorized_runs.write_run(lake, "elsewhere", made, transform=half, base_run="other")
    with connect(lake.root, macros=False) as connection:
        assert found_runs(connection, replace(SEARCH, top_k=0)) == ["a-again", f"{RUN}-windows-1"]
        assert found_runs(connection, SEARCH) == [f"{RUN}-windows-0", f"{RUN}-windows-1"]
        assert found_runs(connection, replace(SEARCH, prefix=9)) == ["a-longer"]
        assert found_runs(connection, replace(SEARCH, suffix=4)) == []
        faults = {run.run_id: run.fault(SEARCH) for run in windows_runs(connection, RUN)}
    assert set(faults) == {*WINDOWS, "a-again", "a-wrapped", "a-longer", "a-model", "a-stopped"}
    assert "by another model" in str(faults["a-model"])
    assert "is interrupted" in str(faults["a-stopped"])
    assert "prefixes of 9" in str(faults["a-longer"])


def test_what_no_search_can_be() -> None:
    with pytest.raises(ValueError, match=r"prefix is 0: .*misses is 1: .*top_k is -1"):
        Search(prefix=0, misses=1, top_k=-1)
    with pytest.raises(ValueError, match=r"temperature 0\.5 over the whole vocabulary"):
        Search(temperature=0.5)
    for temperature in (0.0, float("inf"), float("nan"), -1.0):
        with pytest.raises(ValueError, match="a number above 0"):
            Search(temperature=temperature, top_k=3)
    assert Search(misses=0.1).most_misses * 10 == 1
    assert Search(misses=1 / 3).most_misses * 3 == 1  # not 3333333333333333 of 10000000000000000
    with pytest.raises(ValueError, match=r"misses is 0\.999999999: "):
        Search(misses=0.999999999)
    with pytest.raises(
        ValueError, match=r"prefix is 1267650600228229401496703205376: 1 to 1,048,576.*top_k is 2097152"
    ):
        Search(prefix=1 << 100, top_k=1 << 21)


def test_memory_is_bounded_by_ranges() -> None:
    """Windows at every token take more of them than windows that tile the text."""
    assert [slices_for(tokens, 100) for tokens in (0, 7_600_000, 7_700_000, 10**9)] == [1, 1, 2, 130]
    assert [slices_for(tokens, 1) for tokens in (1_600_000, 1_600_001, 10**9)] == [1, 2, 625]
