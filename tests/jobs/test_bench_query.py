"""The lake that the query benchmark makes is sound, and what it prints is what the lake answers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from jobs.bench import measure, query
from jobs.bench.query import RUN, bench_query, make_lake
from operators.catalog import connect
from operators.lake import Lake
from operators.verify import verify


def test_the_lake_is_sound_and_always_the_same(tmp_path: Path) -> None:
    counts = [make_lake(str(tmp_path / name), 30_000) for name in ("a", "b")]
    assert counts[0] == counts[1]
    assert verify(Lake(str(tmp_path / "a"))) == []
    names = [sorted(part.path for part in Lake(str(tmp_path / name)).parts("tokens", RUN)) for name in ("a", "b")]
    assert names[0] == names[1]
    with connect(tmp_path / "a") as connection:
        ((documents, tokens, scored, certain),) = connection.execute(
            "select count(distinct doc_id), count(*), count(logprob), count(*) filter (logprob_std = 0) from tokens"
        ).fetchall()
    assert (documents, tokens) == counts[0]
    assert tokens >= 30_000
    assert scored == tokens - documents
    assert 0 < certain < tokens / 20


def test_the_record_holds_speed_and_what_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "peak_extra_bytes", lambda *prepared: measure._peak(prepared[0], prepared[1:]))
    bench_query(5_000, 1)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["benchmark"] == "query"
    results = {name: entry for name, entry in printed["results"].items() if isinstance(entry, dict)}
    assert all(entry["mtokens"] > 0 and entry["peak_bytes"] >= 0 for entry in results.values())
    assert results["loss"]["defined"] == results["min_k"]["defined"] == results["plain GROUP BY"]["defined"]
    assert results["loss"]["sum"] == results["plain GROUP BY"]["sum"]
    together, kept = results["rolled-up scores, one scan"], results["rolled-up scores, kept"]
    assert together["defined"] == kept["defined"] == 8 * results["loss"]["defined"]
    assert math.isclose(together["sum"], kept["sum"], rel_tol=1e-9)
    assert results["min_k, seven ratios"]["defined"] == 7 * results["loss"]["defined"]
    assert results["membership, one scan"]["defined"] < results["all scores, one scan"]["defined"]
    assert {name for name, entry in results.items() if entry["long_peak_bytes"] is not None} == {
        *("min_k", "min_k_plus_plus", "min_k, seven ratios", "membership, one scan"),
        *("longest_run", "rank_1_runs"),
    }
    assert results["longest_run"]["defined"] == results["loss"]["defined"]
    assert results["rank_1_runs"]["defined"] > 0
    assert results["extraction"]["defined"] % 3 == 0


def test_a_lake_with_a_long_document_holds_it(tmp_path: Path) -> None:
    documents, tokens = make_lake(str(tmp_path), 15_000, longest=10_000)
    with connect(tmp_path) as connection:
        rows = connection.execute("select count(*) from tokens group by doc_id order by 1 desc").fetchall()
    assert rows[0] == (10_000,)
    assert sum(n for (n,) in rows) == tokens >= 15_000
    assert len(rows) == documents > 10
    question = f"select sum(len(v)) as score from (select list(entropy) as v from tokens where run_id = '{RUN}')"
    assert measure.peak_extra_bytes(query._prepare, str(tmp_path), question) > 8 * tokens
