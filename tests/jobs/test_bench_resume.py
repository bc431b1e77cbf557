"""The simulation of a long run in miniature: it sees what a driver forgets, and what it does twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.bench.resume import run, simulated
from jobs.bench.resume.simulated import Attempt, Driver, blocks_of, first_block, n_blocks
from jobs.bench.resume.store import RUN, ListedStore, World, block_of, make_world, part_name
from jobs.bench.targets import lines_of
from jobs.cli import app
from operators.lake import Lake
from pipelines.journal import Done, Journal
from pipelines.numbers import Numbers


@pytest.fixture(autouse=True)
def no_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.score.refresh_catalog", lambda _: None)


def test_names_of_parts_are_distinct_and_tell_their_block() -> None:
    blocks = [*range(300), 10**6, 10**9]
    names = [part_name(block) for block in blocks]
    assert len(set(names)) == len(blocks)
    assert {len(name) for name in names} == {32}
    assert [block_of(name) for name in names] == blocks


def test_blocks_are_numbered_without_holes() -> None:
    numbers = [first_block(unit) + block for unit in range(35) for block in range(blocks_of(unit))]
    assert numbers == list(range(n_blocks(35)))


def test_the_store_lists_a_thousand_names_a_request() -> None:
    world = make_world("listing", 2500, 10)
    try:
        lake = Lake("bench-lists://listing/lake")
        assert len(lake.storage.filesystem.ls("bench-lists://listing/in")) == 2500
        assert world.requests["list"] == 3
        world.parts["tokens"][7] = 1
        assert lake.part_names("tokens", RUN).to_pylist() == [part_name(7)]
        lake.storage.delete(f"tokens/run_id={RUN}/{part_name(7)}.parquet")
        assert lake.part_names("tokens", RUN).to_pylist() == []
        world.is_dead = True
        with pytest.raises(OSError, match="gone"):
            lake.storage.write("runs/bench.json", b"{}")
    finally:
        del ListedStore.worlds["listing"]


def test_every_kill_is_made_good_and_nothing_is_done_twice() -> None:
    attempts, wrong = run.simulate(300, blocks_a_flush=16)
    assert wrong == [0, 0, 0, 0]
    first, second, third, again = (len(attempt.done) for attempt in attempts)
    total = n_blocks(300)
    assert 0.4 * total <= first < 0.5 * total
    assert second >= 0.3 * total
    assert first + second + third > total  # what the journal had lost came again
    assert again == 0
    assert [attempt.is_finished for attempt in attempts] == [False, False, True, True]


def forgets_a_unit(known: Callable[[Journal], Done]) -> Callable[[Journal], Done]:
    def wrong(journal: Journal) -> Done:
        done = known(journal)
        return Done(Numbers([*done.finished, 999]), done.blocks, done.counts)

    return wrong


def forgets_the_blocks_of_begun_units(known: Callable[[Journal], Done]) -> Callable[[Journal], Done]:
    return lambda journal: Done(known(journal).finished, {}, known(journal).counts)


@pytest.mark.parametrize("spoil", [forgets_a_unit, forgets_the_blocks_of_begun_units])
def test_a_driver_that_reckons_wrongly_is_found_out(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Callable[[Journal], Done]], Callable[[Journal], Done]]
) -> None:
    monkeypatch.setattr(Journal, "known", spoil(Journal.known))
    _, wrong = run.simulate(1000, blocks_a_flush=7)
    assert sum(wrong) > 0


def test_a_driver_that_trusts_its_journal_alone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "_sound", lambda journal, listed: journal.rows())
    _, wrong = run.simulate(1500, blocks_a_flush=16)
    assert wrong[2] > 0


def test_the_driver_lists_a_run_a_fixed_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings are what a million parts cost: one more over all of them should be noticed."""
    listed: list[Counter[str]] = []
    entries, attempt = World.entries, Driver.attempt

    def noted_entries(world: World, folder: str) -> list[dict[str, Any]] | None:
        listed[-1][folder] += 1
        return entries(world, folder)

    def noted_attempt(driver: Driver, stop_after: int | None = None) -> Attempt:
        listed.append(Counter())
        return attempt(driver, stop_after)

    monkeypatch.setattr(World, "entries", noted_entries)
    monkeypatch.setattr(Driver, "attempt", noted_attempt)
    run.simulate(300, blocks_a_flush=20)
    folders = ("in", *(f"lake/{table}/run_id={RUN}" for table in ("documents", "tokens", "rejects")))
    # To begin: is there a run to resume, and what is done; then what the attempt did, what is settled, and the ids.
    assert [[of_attempt[folder] for folder in folders] for of_attempt in listed] == [
        [1, 0, 0, 0],  # a new run, which is killed
        [1, 2, 1, 1],  # resumed, and killed
        [1, 5, 3, 3],  # resumed, to its end
        [1, 2, 1, 1],  # finished: is everything there?
    ]


def test_the_verb_says_what_it_found() -> None:
    done = CliRunner().invoke(app, ["bench", "resume", "--shards", "200", "--latency", "10"])
    assert done.exit_code == 0, done.output
    (line,) = lines_of(done.output)
    found = line["results"]["200"]
    assert line["config"]["is_right"]
    assert found["wrong_blocks"] == 0
    assert found["after that and lost receipts"]["requests_before"]["list"] > 0
    assert found["peak_mib"] > 10
    assert json.dumps(line)


def test_a_wrong_reckoning_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "simulate", lambda n, seed: ([simulated_nothing()] * 4, [0, 1, 0, 0]))
    done = CliRunner().invoke(app, ["bench", "resume", "--shards", "200"])
    assert done.exit_code == 1
    assert "1 blocks were done twice, or not at all" in done.output


def simulated_nothing() -> simulated.Attempt:
    return simulated.Attempt(0.0, 0.0, 0.0, 0, ({}, {}), np.zeros(0, np.int64), False)


def test_a_world_is_forgotten_after_its_run() -> None:
    run.simulate(100)
    assert ListedStore.worlds == {}
