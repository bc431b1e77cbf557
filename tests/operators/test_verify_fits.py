"""What `verify` finds in files of domain fit and vocabulary fit that were spoilt, and in ones of an older state."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lakes
import memorized_runs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.catalog import connect
from operators.lake import Lake
from operators.mixtures.fit import FitSettings, domain_fit
from operators.mixtures.fit_kept import keep_fit
from operators.mixtures.fit_read import document_blocks
from operators.mixtures.fit_vocabulary import vocabulary_fit
from operators.scores.origin import run_state
from operators.verify import verify
from schemas import DOMAIN_FIT, VOCABULARY_FIT, Table

RUN = memorized_runs.RUN
TABLES = {"domain": DOMAIN_FIT, "vocabulary": VOCABULARY_FIT}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("fits") / "lake"))
    rng = np.random.default_rng(0)
    documents = [
        memorized_runs.document(f"k{i}", rng, [None, *(rng.random(20) < 0.5).tolist()], domain=("a", "b", None)[i % 3])
        for i in range(24)
    ]
    memorized_runs.write_run(lake, RUN, documents)
    keep(lake)
    return lake


@pytest.fixture
def lake(sound: Lake, tmp_path: Path) -> Lake:
    return Lake(str(shutil.copytree(sound.root, tmp_path / "lake")))


def keep(lake: Lake) -> None:
    with connect(lake.root, macros=False) as connection:
        rows = domain_fit(document_blocks(connection, RUN), FitSettings(resamples=200))
    state = run_state(lake.read_run(RUN))
    keep_fit(lake, DOMAIN_FIT, RUN, rows, settings={"seed": 0}, state=state)
    keep_fit(lake, VOCABULARY_FIT, RUN, vocabulary_fit(lake, RUN, 0.95), settings={}, state=state)


def path_of(lake: Lake, table: Table) -> Path:
    (part,) = lake.parts(table.name, RUN)
    return Path(lake.root) / part.path


def spoil(lake: Lake, table: Table, edit: Callable[[pa.Table], pa.Table]) -> None:
    path = path_of(lake, table)
    pq.write_table(edit(pq.read_table(path, partitioning=None)), path)


def at(column: str, place: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    return lakes.put(column, lakes.at(place, value))


def plus(column: str, place: int, more: float) -> Callable[[pa.Table], pa.Table]:
    return lakes.put(column, lambda values: [v + more if i == place else v for i, v in enumerate(values)])


def test_what_is_kept_is_sound_and_the_same_every_time(lake: Lake) -> None:
    assert verify(lake) == []
    before = lakes.content(lake)
    keep(lake)
    assert lakes.content(lake) == before


def test_rows_that_break_the_schema_are_not_kept(lake: Lake) -> None:
    before = lakes.content(lake)
    rows = pq.read_table(path_of(lake, DOMAIN_FIT), partitioning=None)
    with pytest.raises(ValueError, match="n_tokens: -1 is below"):
        keep_fit(lake, DOMAIN_FIT, RUN, at("n_tokens", 0, -1)(rows), settings={}, state=(None, None))
    assert lakes.content(lake) == before


# Rows of domain fit: all, a, b, NULL, macro.
@pytest.mark.parametrize(
    ("table", "edit", "kinds", "said"),
    [
        ("domain", at("part", 1, "some"), {"value", "order"}, "part: expected one all, one macro"),
        ("domain", at("domain", 1, "c"), {"order"}, "rows do not ascend by part, domain"),
        ("domain", lambda rows: pa.concat_tables([rows, rows.slice(4)]), {"value", "order"}, "expected one all"),
        ("domain", at("token_share", 2, 0.9), {"total", "value"}, "token_share: "),
        ("domain", plus("byte_share", 2, 1e-6), {"total"}, "over domains, not 1"),
        ("domain", plus("n_tokens", 0, -1), {"total"}, "n_tokens: "),
        ("domain", plus("n_words", 1, 1), {"total"}, "n_words: "),
        ("domain", at("n_undefined", 1, 99), {"value", "total"}, "n_undefined: more than n_documents"),
        ("domain", at("n_fed", 4, 1), {"value"}, "n_tokens: more than n_fed"),
        ("domain", at("bits_per_byte_low", 1, None), {"value"}, "bits_per_byte: an interval with one end"),
        ("domain", at("perplexity", 1, 1e9), {"value"}, "perplexity: outside its interval"),
        ("domain", at("bits_per_byte", 1, None), {"value"}, "bits_per_byte: outside its interval"),
        ("domain", at("bits_per_byte", 1, -1.0), {"value"}, "-1.0 is below 0"),
        ("domain", at("confidence", 1, None), {"value"}, "an interval of no level"),
        ("domain", lambda rows: rows.drop_columns(["n_fed"]), {"schema"}, "missing ['n_fed']"),
        ("domain", lambda rows: rows.replace_schema_metadata({}), {"schema"}, "not marked as a part of domain_fit"),
        ("vocabulary", lambda rows: rows.take([1, 0, *range(2, len(rows))]), {"order"}, "do not ascend by token_id"),
        ("vocabulary", at("n_documents", 0, 10**6), {"value"}, "n_documents: more than n"),
        ("vocabulary", at("n", 0, 0), {"value"}, "0 is below 1"),
        ("vocabulary", plus("loss_share", 0, 1e-6), {"total"}, "over types, not 1"),
        ("vocabulary", at("mean_loss_high", 1, 0.0), {"value"}, "mean_loss: outside its interval"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(
    lake: Lake, table: str, edit: Callable[[pa.Table], pa.Table], kinds: set[str], said: str
) -> None:
    spoil(lake, TABLES[table], edit)
    faults = verify(lake)
    assert lakes.kinds(faults) <= kinds
    assert any(said in fault.message for fault in faults), faults
    assert {fault.where for fault in faults} == {str(path_of(lake, TABLES[table]).relative_to(lake.root))}


def test_an_infinite_loss_is_no_fault_of_the_fit(lake: Lake) -> None:
    def endless(rows: pa.Table) -> pa.Table:
        for name, value in (("bits_per_byte", np.inf), ("bits_per_byte_low", None), ("bits_per_byte_high", None)):
            rows = at(name, 1, value)(rows)
        return rows

    spoil(lake, DOMAIN_FIT, endless)
    assert verify(lake) == []


def test_fits_of_a_run_as_it_was_before_are_stale(lake: Lake) -> None:
    lake.write_run(RUN, {**lake.read_run(RUN), "finished_at": "2026-11-22T00:00:00+00:00"})
    faults = verify(lake)
    assert lakes.kinds(faults) == {"stale"}
    assert {fault.where.split("/")[0] for fault in faults} == {"domain_fit", "vocabulary_fit"}
    assert all("`assay mixture fit` computes it again" in fault.message for fault in faults)
    keep(lake)
    assert verify(lake) == []


def test_a_file_under_another_name_and_one_that_is_broken(lake: Lake) -> None:
    path = path_of(lake, DOMAIN_FIT)
    other = path.with_name("0" * 32 + ".parquet")
    path.rename(other)
    assert lakes.kinds(verify(lake)) == {"name"}
    other.write_bytes(other.read_bytes()[:-5])
    assert lakes.kinds(verify(lake)) == {"unreadable"}


def test_vocabulary_fit_in_the_place_of_domain_fit(lake: Lake) -> None:
    path_of(lake, DOMAIN_FIT).write_bytes(path_of(lake, VOCABULARY_FIT).read_bytes())
    assert lakes.kinds(verify(lake)) == {"schema"}
