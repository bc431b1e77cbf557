"""Runs behind a prefix in `assay verify`: every token has a prediction there, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lakes
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from lakes import at, kinds, put, spoil

from operators.lake import Lake
from operators.verify import verify
from operators.write import PartWriter, WriteOptions

PREFIX = {"config": {"transform": "prefix:label=0,shots=2", "base_run": "b"}}
FIRST = {"logprob": -1.0, "entropy": 1.0, "logprob_std": 0.5, "rank": 1}


def write(lake: Lake, **ledger: Any) -> None:
    """One document whose first token is scored."""
    record = lakes.document("some text", 0, ())
    record |= {name: [value, *record[name][1:]] for name, value in FIRST.items()}
    (manifest,) = lakes.write_records(PartWriter(WriteOptions(lake, lakes.RUN)), [record])
    totals = {name: manifest[name] for name in lakes.TOTALS} | {"rows_in": 1}
    lake.write_run(lakes.RUN, {"run_id": lakes.RUN, "state": "finished", "features": [], "totals": totals} | ledger)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_a_first_token_with_a_prediction_is_sound_behind_a_prefix(lake: Lake) -> None:
    write(lake, **PREFIX)
    assert verify(lake) == []


@pytest.mark.parametrize("transform", [None, "lowercase", "perturb:kind=swap_words", "unprompted"])
def test_elsewhere_it_is_a_fault(lake: Lake, transform: str | None) -> None:
    write(lake, config={"transform": transform})
    (fault, *others) = verify(lake)
    assert kinds([fault, *others]) == {"nulls"}
    assert "NULL belongs at position 0, and nowhere else" in fault.message


def test_a_missing_prediction_behind_a_prefix_is_a_fault(lake: Lake) -> None:
    write(lake, **PREFIX)
    spoil(lake, "tokens", put("entropy", at(0, None)))
    faults = verify(lake)
    assert "nulls" in kinds(faults)
    assert any("entropy: 1 rows; NULL belongs nowhere in these rows" in fault.message for fault in faults)


def test_a_run_of_ordinary_rows_that_claims_a_prefix_is_found_out(lake: Lake) -> None:
    lakes.write_run(lake, features=(), **PREFIX)
    assert "nulls" in kinds(verify(lake))


@pytest.mark.parametrize("scores_first", [False, True])
def test_without_a_ledger_the_rows_decide(lake: Lake, scores_first: bool) -> None:
    if scores_first:
        write(lake)
    else:
        lakes.write_run(lake, features=())
    Path(lake.root, "runs", f"{lakes.RUN}.json").write_text("{", encoding="utf-8")
    assert kinds(verify(lake)) == {"ledger"}


def test_without_a_ledger_some_rows_with_and_some_without_are_found_out(lake: Lake) -> None:
    lakes.write_run(lake, features=())

    def one_first_token_scored(table: pa.Table) -> pa.Table:
        row = pc.index(table["position"], 0).as_py()
        for name, value in FIRST.items():
            table = put(name, at(row, value))(table)
        return table

    spoil(lake, "tokens", one_first_token_scored)
    Path(lake.root, "runs", f"{lakes.RUN}.json").write_text("{", encoding="utf-8")
    assert "nulls" in kinds(verify(lake))
