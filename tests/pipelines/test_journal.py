"""The journal: what it says is done is done, whatever was killed in between."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.lake import Lake, Part
from operators.storage import Storage
from pipelines import journal as journal_module
from pipelines.journal import ROWS, Journal, write_table


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def name(unit: int, block: int) -> str:
    return f"{unit:016x}{block:016x}"


def row(unit: int, block: int, *, is_last: bool = False, rejects: int = 0) -> dict[str, Any]:
    return {"unit": unit, "block": block, "is_last": is_last, "part": name(unit, block), "rows_in": 3 + rejects,
            "rejects_part": name(block, unit) if rejects else None, "documents": 3, "rejects": rejects,
            "unreadable": 0, "tokens": 30, "scored": 27, "text_bytes": 100, "extra": "ignored"}  # fmt: skip


def put(lake: Lake, entry: dict[str, Any]) -> None:
    """Objects of the names that a block has; the journal never opens them."""
    for table, column in (("tokens", "part"), ("documents", "part"), ("rejects", "rejects_part")):
        if entry[column]:
            lake.storage.write(Part(table, "run", entry[column]).path, b"x")


def filled(lake: Lake, *entries: dict[str, Any]) -> Journal:
    journal = Journal.open(lake, "run")
    for entry in entries:
        put(lake, entry)
        journal.add(entry)
    journal.flush()
    return journal


def test_a_unit_is_finished_when_all_its_blocks_are(lake: Lake) -> None:
    filled(lake, row(0, 1, is_last=True), row(0, 0), row(1, 0), row(2, 3, is_last=True), row(4, 0, is_last=True))
    done = Journal.open(lake, "run").done()
    assert done.finished == {0, 4}
    assert done.blocks == {1: {0}, 2: {3}}
    assert done.counts["documents"] == 15


def test_unflushed_rows_count_in_this_process_only(lake: Lake) -> None:
    journal = Journal.open(lake, "run")
    put(lake, row(0, 0, is_last=True))
    journal.add(row(0, 0, is_last=True))
    assert journal.done().finished == {0}
    assert Journal.open(lake, "run").done().finished == set()
    journal.flush()
    assert Journal.open(lake, "run").done().finished == {0}


def test_rows_are_stored_as_time_passes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.0)
    journal = Journal.open(lake, "run")
    put(lake, row(0, 0))
    journal.add(row(0, 0))
    assert Journal.open(lake, "run").done().blocks == {0: {0}}


@pytest.mark.parametrize("table", ["tokens", "documents", "rejects"])
def test_a_block_whose_part_is_gone_is_not_done(lake: Lake, table: str) -> None:
    entries = [row(0, 0, rejects=1), row(0, 1, is_last=True, rejects=1)]
    filled(lake, *entries)
    column = "rejects_part" if table == "rejects" else "part"
    lake.storage.delete(Part(table, "run", entries[1][column]).path)
    journal = Journal.open(lake, "run")
    assert journal.done().finished == set()
    assert journal.done().blocks == {0: {0}}
    assert journal.forget_lost() == 1
    again = Journal.open(lake, "run")
    assert again.strays("documents", pa.array([name(0, 0), name(0, 1)])) == [name(0, 1)]


def test_segments_are_merged_and_nothing_is_lost(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "FAN", 4)
    journal = Journal.open(lake, "run")
    for unit in range(23):
        put(lake, row(unit, 0, is_last=True))
        journal.add(row(unit, 0, is_last=True))
        assert len(lake.storage.list("progress/run_id=run")) <= 3 * 3
        assert Journal.open(lake, "run").done().finished == set(range(unit + 1))
    assert Journal.open(lake, "run").done().counts["documents"] == 69


def test_a_kill_between_merging_and_deleting_counts_nothing_twice(lake: Lake) -> None:
    filled(lake, row(0, 0, is_last=True))
    again = Journal.open(lake, "run")
    again._store(again.rows(), again._segments, [])
    done = Journal.open(lake, "run").done()
    assert done.counts["documents"] == 3
    assert done.finished == {0}


@pytest.mark.parametrize("damage", [b"", b"PAR1 not really", None])
def test_a_damaged_segment_means_work_again_not_a_crash(
    lake: Lake, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    filled(lake, row(0, 0, is_last=True))
    path = "progress/run_id=run/journal-00000001.parquet"
    whole = lake.storage.read(path)
    lake.storage.write(path, whole[: len(whole) // 2] if damage is None else damage)
    assert Journal.open(lake, "run").done().finished == set()
    assert "damaged" in caplog.text


def test_units_can_be_forgotten(lake: Lake) -> None:
    journal = filled(lake, row(0, 0, is_last=True), row(1, 0, is_last=True))
    journal.drop_units([0])
    assert Journal.open(lake, "run").done().finished == {1}
    journal.clear()
    assert len(Journal.open(lake, "run")) == 0
    assert lake.storage.list("progress/run_id=run") == []


def test_a_block_written_again_counts_once(lake: Lake) -> None:
    journal = filled(lake, row(0, 0, is_last=True))
    journal.add(row(0, 0, is_last=True))
    assert journal.done().counts["documents"] == 3


class Plain:
    """The journal as it would be written down without a thought for size: sets and dicts, and a list of parts."""

    def __init__(self) -> None:
        self.stored: dict[tuple[int, int], dict[str, Any]] = {}
        self.new: dict[tuple[int, int], dict[str, Any]] = {}

    @property
    def rows(self) -> dict[tuple[int, int], dict[str, Any]]:
        return self.stored | self.new

    def flush(self) -> None:
        self.stored, self.new = self.rows, {}

    def done(self, parts: dict[str, set[str]]) -> tuple[set[int], dict[int, set[int]], int]:
        """(finished units, done blocks of others, documents), by the rows whose parts are all there."""
        sound = [r for r in self.rows.values() if all(r[c] is None or r[c] in parts[t] for t, c in PART_COLUMNS)]
        blocks: dict[int, set[int]] = {}
        for r in sound:
            blocks.setdefault(r["unit"], set()).add(r["block"])
        lengths = {r["unit"]: r["block"] + 1 for r in sound if r["is_last"]}
        finished = {unit for unit, done in blocks.items() if len(done) == lengths.get(unit)}
        left = {unit: done for unit, done in blocks.items() if unit not in finished}
        return finished, left, sum(r["documents"] for r in sound)


PART_COLUMNS = (("tokens", "part"), ("documents", "part"), ("rejects", "rejects_part"))
BLOCKS = st.tuples(st.integers(0, 4), st.integers(0, 2), st.booleans())
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), BLOCKS),
        st.tuples(st.sampled_from(["flush", "kill", "forget"]), st.none()),
        st.tuples(st.just("lose"), st.tuples(st.sampled_from(PART_COLUMNS), st.integers(0, 4), st.integers(0, 2))),
        st.tuples(st.just("drop"), st.integers(0, 4)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(STEPS, st.sampled_from([2, 4, 16]))
def test_whatever_happens_it_says_what_a_plain_model_says(steps: list[tuple[str, Any]], fan: int) -> None:
    lake, plain = Lake(f"memory://{uuid.uuid4().hex}/lake"), Plain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "FAN", fan)
        journal = Journal.open(lake, "run")
        for step, given_ in steps:
            if step == "add":
                unit, block, has_rejects = given_
                entry = row(unit, block, is_last=block == 2, rejects=int(has_rejects))
                put(lake, entry)
                journal.add(entry)
                plain.new[unit, block] = {name: entry[name] for name in ROWS.names if name in entry}
            elif step == "flush":
                journal.flush()
                plain.flush()
            elif step == "kill":
                journal, plain.new = Journal.open(lake, "run"), {}
            elif step == "lose":
                (table, column), unit, block = given_
                lost = name(unit, block) if column == "part" else name(block, unit)
                lake.storage.delete(Part(table, "run", lost).path)
            elif step == "forget":
                parts = listed(lake)
                before = len(plain.rows)
                plain.flush()
                kept = {
                    k: r for k, r in plain.stored.items() if all(r[c] in {None, *parts[t]} for t, c in PART_COLUMNS)
                }
                assert journal.forget_lost() == before - len(kept)
                plain.stored = kept
            else:
                journal.drop_units([given_])
                plain.flush()
                plain.stored = {k: r for k, r in plain.stored.items() if k[0] != given_}
            assert len(journal) == len(plain.rows)
        finished, left, documents = plain.done(listed(lake))
        done = journal.done()
        assert (done.finished, done.blocks, done.counts["documents"]) == (finished, left, documents)
        for table, column in PART_COLUMNS:
            named = {r[column] for r in plain.rows.values()}
            assert set(journal.strays(table, lake.part_names(table, "run"))) == listed(lake)[table] - named
        again = Journal.open(lake, "run")
        assert {tuple(r.values()) for r in again.rows().select(["unit", "block"]).to_pylist()} == set(plain.stored)


def listed(lake: Lake) -> dict[str, set[str]]:
    return {table: {part.name for part in lake.parts(table, "run")} for table, _ in PART_COLUMNS}


def test_the_newest_row_of_a_block_counts(lake: Lake) -> None:
    first, second = row(0, 0), row(0, 0, is_last=True) | {"documents": 2, "part": name(9, 9)}
    done = filled(lake, first, second).done()
    assert (done.finished, done.counts["documents"]) == ({0}, 2)


def test_a_row_is_written_again_a_few_times_only(lake: Lake) -> None:
    """Segments of one size become one of the next: the logarithm of the run's length, not a share of it."""
    written = 0
    sizes: list[int] = []
    for _ in range(4096):
        n = journal_module._taken_in(sizes, 10)
        taken = sum(sizes[len(sizes) - n :]) + 10
        sizes = [*sizes[: len(sizes) - n], taken]
        written += taken
        assert len(sizes) < 4 * journal_module.FAN
    assert sum(sizes) == 40960
    assert written <= 5 * 40960


def test_what_could_not_be_stored_is_stored_later(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(lake, "run")
    put(lake, row(0, 0, is_last=True))
    journal.add(row(0, 0, is_last=True))
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "write_table", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            journal.flush()
    journal.flush()
    assert Journal.open(lake, "run").done().finished == {0}


class Killed(BaseException):
    """Stands for a SIGKILL."""


@contextmanager
def killed_at(n: int, *, after: bool) -> Iterator[None]:
    """No object of the journal is written or removed once `n` were, but the next one where `after`: threads that remove
    several at a time stop at the same moment."""
    lock, left = threading.Lock(), iter([True] * n + [after])

    def dying(original: Any) -> Any:
        def change(self: Storage, path: str, *data: Any) -> None:
            with lock:
                is_alive = "/journal-" not in path or next(left, False)
                if is_alive:
                    original(self, path, *data)
            if not is_alive:
                raise Killed

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "delete"):
            patch.setattr(Storage, name, dying(getattr(Storage, name)))
        yield


UNITS_OF_A_LIFE = 5


def live(lake: Lake, stored: set[tuple[int, int]]) -> None:
    """Blocks stored one by one, segments merging, then one that is lost and a unit that is dropped, then more. `stored`
    is kept to what must be there at least, whatever has begun since."""
    journal = Journal.open(lake, "run")

    def store(unit: int) -> None:
        for block in (0, 1):
            put(lake, entry := row(unit, block, is_last=block == 1))
            journal.add(entry)
            journal.flush()
            stored.add((unit, block))

    for unit in range(UNITS_OF_A_LIFE - 1):
        store(unit)
    stored.remove((1, 0))
    lake.storage.delete(Part("documents", "run", name(1, 0)).path)
    assert journal.forget_lost() == 1
    stored -= {(3, 0), (3, 1)}
    journal.drop_units([3])
    store(UNITS_OF_A_LIFE - 1)


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_change_of_the_store_loses_and_doubles_nothing(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FAN", 2)
    every = {(unit, block) for unit in range(UNITS_OF_A_LIFE) for block in (0, 1)}
    for kill in itertools.count():
        lake, stored = Lake(f"memory://{uuid.uuid4().hex}/lake"), set[tuple[int, int]]()
        is_over = False
        try:
            with killed_at(kill, after=after):
                live(lake, stored)
                is_over = True
        except Killed:
            pass
        journal = Journal.open(lake, "run")
        there = [(r["unit"], r["block"]) for r in journal.rows().to_pylist()]
        assert len(there) == len(set(there))
        assert stored <= set(there) <= every
        journal.forget_lost()
        done = journal.known()
        for unit, block in every:
            if unit not in done.finished and block not in done.blocks.get(unit, ()):
                put(lake, entry := row(unit, block, is_last=block == 1))
                journal.add(entry)
        journal.flush()
        end = Journal.open(lake, "run").done()
        assert (end.finished, end.counts["documents"]) == (set(range(UNITS_OF_A_LIFE)), 3 * len(every))
        if is_over:
            break
    assert kill > 15


@pytest.mark.parametrize("at", ["stored", "removing"])
def test_a_flush_that_ctrl_c_cuts_short_is_made_again_on_the_way_out(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr(journal_module, "FAN", 2)
    journal = filled(lake, row(0, 0))

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def stored(*args: Any) -> None:
        write_table(*args)
        interrupt()

    put(lake, row(0, 1, is_last=True))
    journal.add(row(0, 1, is_last=True))
    with monkeypatch.context() as patch:
        patch.setattr(*((journal_module, "write_table", stored) if at == "stored" else (Lake, "delete", interrupt)))
        with pytest.raises(KeyboardInterrupt):
            journal.flush()
    journal.flush()
    for opened in (journal, Journal.open(lake, "run")):
        assert len(opened) == 2
        assert (opened.done().finished, opened.done().counts["documents"]) == ({0}, 6)


def test_journals_of_before_are_read_and_go_on() -> None:
    """Their segments have no `reasons`, `at` or `share`, and there are up to 128 of a size."""
    lake = Lake(f"memory://{uuid.uuid4().hex}/lake")
    columns = [field for field in ROWS if field.name not in ("reasons", "at", "share")]
    for unit in range(40):
        put(lake, entry := row(unit, 0, is_last=True))
        table = pa.Table.from_pylist([{f.name: entry[f.name] for f in columns}], schema=pa.schema(columns))
        write_table(lake, f"progress/run_id=run/journal-{unit + 1:08d}.parquet", table)
    journal = Journal.open(lake, "run")
    assert journal.done().finished == set(range(40))
    assert journal.shares() == {}
    put(lake, row(40, 0, is_last=True))
    journal.add(row(40, 0, is_last=True))
    journal.flush()
    assert lake.storage.list("progress/run_id=run") == ["journal-00000041.parquet"]
    assert Journal.open(lake, "run").done().finished == set(range(41))
