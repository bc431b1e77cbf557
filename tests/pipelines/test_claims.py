"""A document that kills its worker is found and rejected; nothing else is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from operators.lake import Lake
from pipelines.claims import MAX_DEATHS, MemoryClaims, StoredClaims, WorkerDiesError, guarded
from schemas.flow import TOKENIZED
from schemas.rejects import Reason


class Killed(BaseException):
    """Stands for a SIGKILL: the process is gone, and `end` never runs."""


class Deadly(MemoryClaims):
    """Claims whose `end` does not happen in a process that was killed."""

    killed = False

    def end(self, name: str) -> None:
        if not self.killed:
            super().end(name)


def block(*texts: str) -> pa.Table:
    rows = [
        {"source": "s", "row": i, "key": f"s#{i}", "text": t or None, "reason": None if t else "null_text",
         "token_id": [1, 2] if t else None, "byte_start": [0, 1] if t else None, "n_bytes": [1, 1] if t else None}
        for i, t in enumerate(texts)
    ]  # fmt: skip
    return pa.Table.from_pylist([{n: row.get(n) for n in TOKENIZED.names} for row in rows], schema=TOKENIZED)


def run_until_done(texts: list[str], claims: Deadly, attempts: int = 20) -> tuple[pa.Table, int]:
    """Attempts of a worker that dies of any text with `poison` in it; the result, and how often one died."""

    def step(rows: pa.Table) -> pa.Table:
        if any("poison" in (text or "") for text in rows["text"].to_pylist()):
            claims.killed = True
            raise Killed
        return rows

    for attempt in range(attempts):
        claims.killed = False
        try:
            return guarded(step, block(*texts), "0/0", claims), attempt
        except Killed:
            continue
    raise AssertionError("it never ended")


def test_without_deaths_the_block_is_done_in_one() -> None:
    claims, calls = MemoryClaims(), []
    done = guarded(lambda rows: calls.append(len(rows)) or rows, block("a", "b"), "0/0", claims)
    assert calls == [2]
    assert done.equals(block("a", "b"))
    assert not claims.begun


def test_the_poisonous_document_is_rejected_and_its_neighbours_are_kept() -> None:
    claims = Deadly()
    done, deaths = run_until_done(["good", "", "poison", "also good"], claims)
    assert deaths == 4  # twice as a block, twice alone
    assert done["reason"].to_pylist() == [None, "null_text", Reason.KILLED_WORKER.value, None]
    assert done["text"].to_pylist() == ["good", None, None, "also good"]
    assert done["token_id"].to_pylist() == [[1, 2], None, None, [1, 2]]
    assert done.schema.equals(TOKENIZED)
    assert not claims.begun


def test_several_poisonous_documents() -> None:
    done, deaths = run_until_done(["poison 1", "good", "poison 2"], Deadly())
    assert done["reason"].to_pylist() == [Reason.KILLED_WORKER.value, None, Reason.KILLED_WORKER.value]
    assert deaths == 6


def test_one_death_is_not_held_against_a_block() -> None:
    claims = Deadly()
    claims.begin("0/0")
    sizes = []
    guarded(lambda rows: sizes.append(len(rows)) or rows, block("a", "b"), "0/0", claims)
    assert sizes == [2]


def test_an_error_is_no_death() -> None:
    claims = MemoryClaims()
    for _ in range(5):
        with pytest.raises(ValueError, match="broken"):
            guarded(lambda rows: (_ for _ in ()).throw(ValueError("broken")), block("a"), "0/0", claims)
    assert not claims.begun


def test_deaths_without_a_culprit_end_the_run() -> None:
    claims = MemoryClaims()
    for _ in range(MAX_DEATHS):
        claims.begin("0/0")
    with pytest.raises(WorkerDiesError, match="killed its worker 50 times"):
        guarded(lambda rows: rows, block("a"), "0/0", claims)


def test_stored_claims_outlive_their_process(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert StoredClaims(lake, "run", "digest").begin("0/0") == 0
    assert StoredClaims(lake, "run", "digest").begin("0/0") == 1
    assert StoredClaims(lake, "run", "of another input").begun == {}
    third = StoredClaims(lake, "run", "digest")
    assert third.begin("0/0") == 2
    third.end("0/0")
    third.clear()
    assert StoredClaims(lake, "run", "digest").begin("0/0") == 0
    for damage in ("{broken", "[]", "{}", '{"of": "digest", "begun": 3}'):
        (tmp_path / "progress/run_id=run/claims.json").write_text(damage)
        assert StoredClaims(lake, "run", "digest").begin("0/0") == 0
