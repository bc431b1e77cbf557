"""A run from end to end: both engines, resuming, refusing, limits, and the promise that nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
import small
from runs import rows

from operators.lake import Lake
from operators.verify import verify
from pipelines import steps
from pipelines.config import ConfigError, ScoreConfig
from pipelines.plan import make_plan
from pipelines.previous import ResumeError
from pipelines.score import RunError
from schemas import FEATURE_GROUPS

BAD_LINES = ('{"id": "broken"', '{"id": "no-text"}', '{"id": "empty", "text": ""}', '{"id": "doc-0", "text": "again"}')


def config(*args: Any, **more: Any) -> ScoreConfig:
    return runs.config(*args, **{**runs.WITH_COLUMNS, **more})


def run(*args: Any, **more: Any) -> dict[str, Any]:
    return runs.run(*args, **{**runs.WITH_COLUMNS, **more})


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few documents, so that a small corpus is many blocks."""
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 4000)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 4000)


def test_inline_run_from_jsonl_to_a_verified_lake(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    ledger = run(model_folder, corpus, tmp_path, keep_columns=("extra",))
    documents = rows(tmp_path, "documents")
    assert ledger["state"] == "finished"
    assert ledger["totals"]["documents"] == len(documents) == 30
    assert ledger["totals"]["rows_in"] == 30
    by_key = {row["key"]: row for row in documents.to_pylist()}
    assert by_key["doc-3"]["domain"] == "odd"
    assert by_key["doc-3"]["label"] == 1
    assert by_key["doc-3"]["attributes"] == [("extra", '{"n":3}')]
    assert by_key["doc-3"]["text"] == small.HARD_TEXTS[3]
    assert verify(Lake(str(tmp_path))) == []
    assert (tmp_path / "lake.duckdb").is_file()


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
def test_both_engines_write_the_same_rows(model_folder: Path, corpus: Path, tmp_path: Path, small_blocks: None) -> None:
    features = FEATURE_GROUPS
    for engine in ("inline", "ray"):
        run(model_folder, corpus, tmp_path, engine, engine=engine, features=features, precision="full", actors=2)
    for table in ("tokens", "documents"):
        one, other = (rows(tmp_path, table, run_id) for run_id in ("inline", "ray"))
        assert one.equals(other), table
    assert verify(Lake(str(tmp_path))) == []


def test_bad_records_are_counted_and_the_rest_is_scored(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    broken = tmp_path / "with-bad.jsonl"
    broken.write_text(corpus.read_text(encoding="utf-8") + "\n".join(BAD_LINES) + "\n", encoding="utf-8")
    ledger = run(model_folder, broken, tmp_path / "lake")
    reasons = rows(tmp_path / "lake", "rejects", order="source")["reason"].to_pylist()
    assert reasons == ["broken_json", "missing_text", "empty_text", "duplicate_key"]
    assert ledger["totals"] | {"tokens": 0, "scored": 0, "text_bytes": 0} == {
        "documents": 30, "rejects": 4, "rows_in": 34, "tokens": 0, "scored": 0, "text_bytes": 0,
    }  # fmt: skip
    assert verify(Lake(str(tmp_path / "lake"))) == []


class Stop(BaseException):
    """Stands for whatever ends a process at a bad moment."""


@pytest.mark.parametrize("stop_after", [0, 1, 3])
@pytest.mark.parametrize("between_parts", [False, True])
def test_a_stopped_run_resumes_to_the_same_lake(
    model_folder: Path, corpus: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch,
    stop_after: int, between_parts: bool,
) -> None:  # fmt: skip
    run(model_folder, corpus, tmp_path / "whole")
    blocks = iter(range(100))
    original, original_write = steps.WriteStep.__call__, steps.PartWriter._write

    def stop_before_block(self: Any, block: pa.Table) -> pa.Table:
        if next(blocks) == stop_after:
            raise KeyboardInterrupt
        return original(self, block)

    def stop_before_receipt(self: Any, declared: Any, name: str, table: pa.Table) -> int:
        if declared.name == "documents" and next(blocks) == stop_after:
            raise KeyboardInterrupt
        return original_write(self, declared, name, table)

    with monkeypatch.context() as patch:
        if between_parts:
            patch.setattr(steps.PartWriter, "_write", stop_before_receipt)
        else:
            patch.setattr(steps.WriteStep, "__call__", stop_before_block)
        with pytest.raises(KeyboardInterrupt):
            run(model_folder, corpus, tmp_path / "lake")
    assert Lake(str(tmp_path / "lake")).read_run("run")["state"] == "interrupted"
    ledger = run(model_folder, corpus, tmp_path / "lake")
    assert ledger["totals"]["rows_in"] == 30
    for table in ("tokens", "documents"):
        assert rows(tmp_path / "lake", table).equals(rows(tmp_path / "whole", table))
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_a_finished_run_is_left_alone(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    first = run(model_folder, corpus, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert run(model_folder, corpus, tmp_path) == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("change", "named"),
    [({"stride": 16}, "stride: was 32, now 16"), ({"bos": "never"}, "bos"), ({"dtype": "bfloat16"}, "dtype")],
)
def test_another_config_under_the_same_id_stops_with_a_diff(
    model_folder: Path, corpus: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    run(model_folder, corpus, tmp_path)
    with pytest.raises(ResumeError, match=named):
        run(model_folder, corpus, tmp_path, **change)


def test_other_weights_under_the_same_id_stop_with_a_diff(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    run(model_folder, corpus, tmp_path / "lake")
    other = small.make_model_folder(tmp_path / "other", seed=1)
    with pytest.raises(ResumeError, match="model_fingerprint"):
        run(other, corpus, tmp_path / "lake")


def test_the_same_weights_in_another_folder_resume(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    first = run(model_folder, corpus, tmp_path / "lake")
    moved = shutil.copytree(model_folder, tmp_path / "moved")
    assert run(moved, corpus, tmp_path / "lake") == first


@pytest.mark.parametrize("limit", [1, 7, 29, 30, 500])
def test_limit_takes_the_first_records(model_folder: Path, corpus: Path, tmp_path: Path, limit: int) -> None:
    ledger = run(model_folder, corpus, tmp_path, limit=limit)
    assert ledger["totals"]["rows_in"] == min(limit, 30)
    assert sorted(rows(tmp_path, "documents")["row"].to_pylist()) == list(range(min(limit, 30)))


def test_drop_text_keeps_everything_but_the_text(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    run(model_folder, corpus, tmp_path, drop_text=True)
    documents = rows(tmp_path, "documents")
    assert documents["text"].null_count == 30
    assert documents["text_sha256"].null_count == 0
    assert verify(Lake(str(tmp_path))) == []


def test_many_files_and_formats_become_one_run(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_text("one text file\n", encoding="utf-8")
    (folder / "b.jsonl").write_text(json.dumps({"text": "from jsonl"}) + "\n", encoding="utf-8")
    pq.write_table(pa.table({"text": ["from parquet", "twice"]}), folder / "c.parquet")
    run(model_folder, folder, tmp_path / "lake", id_column=None, label_column=None, domain_column=None)
    documents = rows(tmp_path / "lake", "documents")
    assert sorted(documents["text"].to_pylist()) == ["from jsonl", "from parquet", "one text file\n", "twice"]
    assert f"{folder}/c.parquet#1" in documents["key"].to_pylist()


def hard_documents() -> Iterator[tuple[str, str]]:
    yield "empty", ""
    yield "one token", "x"
    yield "emoji", "👩‍👩‍👧‍👦" * 20
    yield "combining marks", "e\u0301\u0302\u0303" * 50
    yield "larger than a block", "line of text, " * 22_000
    yield "only special tokens", "<s></s>" * 10
    yield "nul and controls", "\x00\x01\x1b[31m"


@pytest.mark.parametrize("bos", [False, True])
def test_hard_documents_are_scored_or_rejected_and_verified(tmp_path: Path, bos: bool) -> None:
    model = small.make_model_folder(tmp_path / "model", bos=bos)
    corpus = tmp_path / "hard.jsonl"
    corpus.write_text("".join(json.dumps({"id": k, "text": t}) + "\n" for k, t in hard_documents()), encoding="utf-8")
    ledger = run(model, corpus, tmp_path / "lake", label_column=None, domain_column=None)
    assert ledger["totals"]["documents"] == 6
    assert rows(tmp_path / "lake", "rejects", order="source")["reason"].to_pylist() == ["empty_text"]
    assert verify(Lake(str(tmp_path / "lake"))) == []
    documents = {row["key"]: row for row in rows(tmp_path / "lake", "documents").to_pylist()}
    assert documents["one token"]["n_scored"] == int(bos)


def test_a_block_that_loses_a_record_stops_the_run(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = steps.TokenizeStep.__call__
    monkeypatch.setattr(steps.TokenizeStep, "__call__", lambda self, block: original(self, block).slice(1))
    with pytest.raises(RunError, match="30 records were read into a block and 29 came out"):
        run(model_folder, corpus, tmp_path)
    assert Lake(str(tmp_path)).read_run("run")["state"] == "failed"


def test_every_fault_of_a_job_is_named_at_once(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        make_plan(config(model_folder, tmp_path / "nothing.jsonl", tmp_path, context=100_000, device="cuda:7"))
    assert "nothing.jsonl" in str(error.value)
    assert "--context 100000: the model's positions end at 128" in str(error.value)
    assert "no CUDA device" in str(error.value)


def test_config_faults_are_named_in_the_words_of_the_command_line() -> None:
    with pytest.raises(ConfigError) as error:
        ScoreConfig.parse(input=["a"], run_id="../up", lake="l", features=["colour"], context=1, tokens=3)
    lines = str(error.value).splitlines()
    assert {line.split(":")[0] for line in lines} == {"--model", "--run-id", "--features", "--context", "--tokens"}


def test_credentials_do_not_reach_the_ledger(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    secret = "s3cr3t-value"
    run(model_folder, corpus, tmp_path, storage_options={"auto_mkdir": True, "token": secret})
    for path in (tmp_path / "runs").iterdir():
        assert secret not in path.read_text(encoding="utf-8")


def test_a_run_that_failed_before_it_wrote_does_not_hold_its_id(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(steps.ScoreStep, "__init__", lambda self, scoring: 1 / 0)
        with pytest.raises(RunError, match="ZeroDivisionError: division by zero"):
            run(model_folder, corpus, tmp_path, context=32)
    assert run(model_folder, corpus, tmp_path, context=64)["state"] == "finished"


@pytest.mark.parametrize(
    "field",
    [
        {"input": "https://bob:s3cret@host/a.jsonl"},
        {"lake": "s3://key:s3cret@b/l"},
        {"input": "https://h/a?sig=s3cret"},
        {"model": "s3://key:s3cret@b/model"},
        {"model": "https://h/model?X-Amz-Signature=s3cret"},
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_echoed(field: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as error:
        ScoreConfig.parse(**{"model": "m", "input": "i", "lake": "l", "run_id": "r", **field})
    assert "holds credentials" in str(error.value)
    assert "s3cret" not in str(error.value)
