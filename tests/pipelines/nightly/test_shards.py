"""What became of each shard: every case, a hundred thousand shards of odd names, and a real S3 server's listing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import s3

from operators.lake import Lake
from operators.shards import Shard, list_shards
from pipelines.nightly.night import CHANGED, CHANGING, GONE, NEW, REMOVED, UNCHANGED, WAITING
from pipelines.nightly.shards import (
    Found,
    Known,
    compare,
    has_list,
    keep_list,
    plan_table,
    read_list,
    read_plan,
    settle,
    to_score,
)

DAY, NOW = date(2026, 11, 2), 1_000_000.0


def shard(uri: str, size: int = 10, tag: str = "t", modified: float | None = 0.0) -> Shard:
    return Shard(uri, "jsonl", size, tag, modified)


def known(state: str = NEW, size: int = 10, tag: str = "t", run: str | None = "old") -> Known:
    return Known(state, size, tag, run, None if run is None else "2026-11-01")


@pytest.mark.parametrize(
    ("listed", "before", "state"),
    [
        (shard("u"), None, NEW),
        (shard("u"), known(), UNCHANGED),
        (shard("u", size=11), known(), CHANGED),
        (shard("u", tag="other"), known(), CHANGED),
        (shard("u"), known(WAITING, run=None), NEW),  # seen before, scored never
        (shard("u"), known(CHANGING, run=None), NEW),
        (shard("u"), known(CHANGING), UNCHANGED),  # and back as it was scored
        (shard("u"), known(REMOVED), UNCHANGED),
        (shard("u", size=11), known(GONE), CHANGED),
        (shard("u", modified=NOW - 59), None, WAITING),
        (shard("u", modified=NOW + 59), None, WAITING),  # by a clock that is ahead
        (shard("u", modified=NOW + 61), None, NEW),  # by one that is wrong
        (shard("u", modified=NOW - 59, size=11), known(), WAITING),
        (shard("u", modified=NOW - 59), known(), UNCHANGED),
        (shard("u", modified=None), None, NEW),
        (None, known(), REMOVED),
        (None, known(REMOVED), GONE),
        (None, known(GONE), GONE),
        (None, known(WAITING, run=None), None),  # never scored: forgotten
        (None, known(run="lost"), None),
        (None, known(GONE, run="dropped"), None),
        (shard("u"), known(run="lost"), NEW),
        (shard("u"), known(run="dropped"), UNCHANGED),
    ],
)
def test_every_case(listed: Shard | None, before: Known | None, state: str | None) -> None:
    found = compare(
        [listed] if listed else [], {"u": before} if before else {}, moment=NOW, settle_seconds=60,
        lost_runs={"lost"}, dropped_runs={"dropped"},
    )  # fmt: skip
    assert [each.state for each in found] == [] if state is None else [state]


def test_a_night_ends_with_what_was_scored_and_what_was_not() -> None:
    listed = {uri: shard(uri, 20, "now") for uri in ("changed", "torn", "new", "vanished", "same", "late")}
    before = {"changed": known(), "torn": known(), "same": known(size=20, tag="now"), "away": known()}
    found = [each._replace(state=WAITING) if each.uri == "late" else each for each in _found(listed, before)]
    assert [each.uri for each in to_score(found)] == ["changed", "new", "torn", "vanished"]
    again = {uri: shard(uri, 20, "now") for uri in ("changed", "new", "same")} | {"torn": shard("torn", 21, "later")}
    ended = settle(found, again, "web-2026-11-02", DAY)
    scored = (20, "now", "web-2026-11-02", "2026-11-02")
    assert ended == {
        "changed": Known(CHANGED, *scored),
        "new": Known(NEW, *scored),
        "torn": known(CHANGING),
        "vanished": Known(CHANGING, 20, "now", None, None),
        "same": known(UNCHANGED, 20, "now"),
        "late": Known(WAITING, 20, "now", None, None),
        "away": known(REMOVED),
    }


def _found(listed: dict[str, Shard], before: dict[str, Known]) -> list[Found]:
    return compare(list(listed.values()), before, moment=NOW, settle_seconds=60)


def test_a_hundred_thousand_shards_of_any_name_come_back_from_the_lake_as_they_were(tmp_path: Path) -> None:
    names = [f"s3://bucket/[a-z]*/part {n:06} ?'\"\n\x1b.jsonl" for n in range(100_000)]
    listed = [shard(name, n, "" if n % 3 else f"tag-{n}") for n, name in enumerate(names)]
    before = {name: known(size=n, tag="" if n % 3 else f"tag-{n}") for n, name in enumerate(names) if n % 2}
    found = compare(listed, before, moment=NOW, settle_seconds=60)
    assert read_plan(plan_table(found)) == found
    lake = Lake(str(tmp_path))
    ended = settle(found, {each.uri: each for each in listed}, "web-2026-11-02", DAY)
    assert not has_list(lake, "web", DAY)
    keep_list(lake, "web", DAY, ended)
    assert has_list(lake, "web", DAY)
    assert read_list(lake, "web", DAY) == ended
    kept = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert kept < 20 * len(names)


def test_an_object_store_tells_by_etag_what_has_changed_at_the_same_size(tmp_path: Path) -> None:
    (tmp_path / "buckets" / "corpus").mkdir(parents=True)
    with s3.lone_server(tmp_path / "buckets") as server:
        store = Lake("s3://corpus/in", server.options).storage
        for name, text in (("a", b"one"), ("b", b"two"), ("[c]*", b"six")):
            store.write(f"{name}.jsonl", text)

        def listing() -> list[Shard]:
            return list_shards(["s3://corpus/in/"], storage_options=server.options)

        first = settle(compare(listing(), {}, moment=0, settle_seconds=60), {s.uri: s for s in listing()}, "r", DAY)
        assert {each.state for each in first.values()} == {NEW}
        store.write("a.jsonl", b"new")
        store.write("b.jsonl", b"two")  # again, the same
        store.delete("[c]*.jsonl")
        found = compare(listing(), first, moment=0, settle_seconds=60)
        assert {each.uri.rpartition("/")[2]: each.state for each in found} == {
            "a.jsonl": CHANGED, "b.jsonl": UNCHANGED, "[c]*.jsonl": REMOVED,
        }  # fmt: skip
        now = max(each.modified or 0 for each in listing())
        assert {each.state for each in compare(listing(), {}, moment=now + 30, settle_seconds=60)} == {WAITING}
