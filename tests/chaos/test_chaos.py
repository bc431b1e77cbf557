"""The short form of the harness: one inline run killed at its worst moment on a failing storage, one Ray run that loses
an actor. Both end with the rows of a quiet run. `harness.py` by hand does the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import compare
import disturb
import harness
import pyarrow as pa
import pytest
from disturb import Blow, Disturbance, SeedPlan
from faults import FaultPlan
from harness import Arena

from schemas import DOCUMENTS, REJECTS, TOKENS

FAILING = FaultPlan(seed=5, slow_down=0.05, delay=0.05, drop=0.03, lose=0.03, cut=0.03, longest_delay=0.2)
SMALL_CORPUS = 48_000  # bytes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with harness.arena(tmp_path_factory.mktemp("chaos"), SMALL_CORPUS) as arena:
        yield arena


@pytest.mark.slow
def test_a_driver_killed_between_the_parts_of_a_block_resumes_to_the_same_rows(place: Arena) -> None:
    killed = (Disturbance(Blow.KILL_BETWEEN, at=0.5),)
    result = harness.run_seed(place, SeedPlan(901, "inline", (killed, ()), FAILING))
    assert result.is_clean, harness.explain(place, result)
    assert result.blows == {"kill between parts": 1}
    assert result.statuses == [-9, 0]
    assert sum(result.faults.values()) > 0


@pytest.mark.slow
@pytest.mark.cluster
def test_a_run_that_loses_an_actor_ends_with_the_same_rows(place: Arena) -> None:
    killed = (Disturbance(Blow.KILL_ACTOR, at=0.4),)
    result = harness.run_seed(place, SeedPlan(902, "ray", (killed,)))
    assert result.is_clean, harness.explain(place, result)
    assert result.blows == {"kill actor": 1}
    assert result.statuses == [0]


def tables(ids: list[int], positions: list[int], logprobs: list[float | None]) -> compare.Rows:
    fields = {"doc_id": ids, "position": positions, "logprob": logprobs}
    columns = {
        name: pa.array(fields.get(name, [0] * len(ids)), TOKENS.arrow().field(name).type)
        for name in TOKENS.arrow().names
    }
    rejects = pa.table({"source": ["a", "a"], "row": [0, 1], "reason": ["x", "y"]})
    return compare.Rows(pa.table(columns), pa.table({"doc_id": [1, 2], "text": ["one", "two"]}), rejects)


def test_rows_lost_doubled_different_and_added_are_told_apart() -> None:
    expected = tables([1, 1, 1, 2], [0, 1, 2, 0], [None, -1.0, -2.0, None])
    found = tables([1, 1, 1, 1, 3], [0, 0, 1, 2, 0], [None, None, -1.5, -2.0, None])
    assert compare.differences(expected, expected)["tokens"] == dict.fromkeys(compare.COUNTS, 0)
    tokens = compare.differences(expected, found)["tokens"]
    assert tokens == {"lost": 1, "doubled": 1, "different": 1, "added": 1}
    half = compare.Rows(expected.tokens, expected.documents.slice(1), pa.concat_tables([expected.rejects] * 2))
    found_counts = compare.differences(expected, half)
    assert found_counts["documents"] == {"lost": 1, "doubled": 0, "different": 0, "added": 0}
    assert found_counts["rejects"] == {"lost": 0, "doubled": 2, "different": 0, "added": 0}
    assert compare.differences(half, expected)["documents"]["added"] == 1


def test_a_null_is_no_number() -> None:
    null, number = tables([1], [0], [None]), tables([1], [0], [0.0])
    assert compare.differences(null, number)["tokens"]["different"] == 1


def test_empty_lakes_compare(tmp_path: Path) -> None:
    from operators.lake import Lake

    rows = compare.read(Lake(str(tmp_path)), "run")
    assert [t.schema.names for t in (rows.tokens, rows.documents, rows.rejects)] == [
        table.arrow().names for table in (TOKENS, DOCUMENTS, REJECTS)
    ]
    counts = compare.differences(rows, rows)
    assert {n for of_table in counts.values() for n in of_table.values()} == {0}


def test_plans_follow_from_the_seed_and_cover_every_blow() -> None:
    plans = [disturb.draw(seed) for seed in range(60)]
    assert plans == [disturb.draw(seed) for seed in range(60)]
    assert [plan.engine for plan in plans[:4]] == ["ray", "inline", "ray", "inline"]
    for engine, blows in (("ray", set(Blow)), ("inline", {blow for blow in Blow if blow.ends_the_attempt})):
        planned = [d for plan in plans if plan.engine == engine for attempt in plan.attempts for d in attempt]
        assert {d.blow for d in planned} == blows
    assert 20 < sum(plan.storage.slow_down > 0 for plan in plans) < 60
    assert all(not any(d.blow.ends_the_attempt for d in plan.attempts[-1]) for plan in plans)
