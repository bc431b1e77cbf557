"""Tokens of a run before it starts: intervals of samples cover what a run counts, whatever the format."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import runs
import s3
import s3fs
import zstandard
from small import stdlib_texts

from operators.read import StorageError
from operators.readers.source import Source
from pipelines.estimate.left import Left
from pipelines.estimate.places import fed_tokens
from pipelines.estimate.tokens import Budget, UnknownError, estimate_tokens
from pipelines.estimate.work import crew_of, estimate
from pipelines.plan import Plan, make_plan
from pipelines.steps import ScoreStep

pytestmark = pytest.mark.usefixtures("no_catalog")

ALL = Budget(whole_bytes=1 << 30, whole_files=10_000, seconds=60)
SAMPLED = Budget(places=16, place_bytes=4096, whole_bytes=0, whole_files=0, seconds=60)

Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def parts() -> list[Records]:
    """Six parts of very different sizes, their documents of very different lengths and densities; some are rejects."""
    rng = random.Random(1)
    texts = stdlib_texts(130)
    bodies = ["".join(rng.choices(texts, k=1 + int(rng.expovariate(0.3)))) for _ in range(600)]
    records: Records = [{"id": str(i), "text": None if i % 97 == 5 else body.upper() if i % 3 else body}
                        for i, body in enumerate(bodies)]  # fmt: skip
    ends = [0, 10, 30, 80, 180, 330, 600]
    return [records[a:b] for a, b in pairwise(ends)]


def _lines(records: Records) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in records).encode()


def _arrow(path: Path, records: Records) -> None:
    table = pa.Table.from_pylist(records)
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table, max_chunksize=64)


def _texts(path: Path, records: Records) -> None:
    for record in records:
        if record["text"]:
            path.with_name(f"{record['id']}.txt").write_text(record["text"] * 3)


WRITERS: dict[str, Callable[[Path, Records], Any]] = {
    "jsonl": lambda path, records: path.write_bytes(_lines(records)),
    "jsonl.gz": lambda path, records: path.write_bytes(gzip.compress(_lines(records))),
    "jsonl.zst": lambda path, records: path.write_bytes(zstandard.compress(_lines(records))),
    "parquet": lambda path, records: pq.write_table(pa.Table.from_pylist(records), path, row_group_size=100),
    "arrow": _arrow,
    "txt": _texts,
}


def plan_of(model: Path, corpus: Path, lake: Path, **more: Any) -> Plan:
    return make_plan(runs.config(model, corpus, lake, **more))


@pytest.fixture(scope="module")
def corpora(parts: list[Records], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, write in WRITERS.items():
        found[name] = tmp_path_factory.mktemp(name.replace(".", "-"))
        for number, records in enumerate(parts):
            write(found[name] / f"{number}.{name}", records)
    return found


@pytest.mark.parametrize("kind", list(WRITERS))
def test_intervals_of_a_sample_cover_what_is_there(
    model_folder: Path, corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Of eight intervals of 95 % fewer than six hit in one case of two hundred; the seeds are fixed. The mean of the
    samples is held to three of its standard errors."""
    monkeypatch.setattr("pipelines.estimate.places.ROWS", 8)  # about as much text as in a place of lines
    plan = plan_of(model_folder, corpora[kind], tmp_path / "lake")
    shards = plan.listing.shards
    truth = estimate_tokens(plan, shards, ALL)
    assert truth.is_counted
    samples = [estimate_tokens(plan, shards, SAMPLED, seed) for seed in range(8)]
    assert all(not sample.is_counted for sample in samples)
    hits = sum(sample.low <= truth.total <= sample.high for sample in samples)
    assert hits >= 6, [(sample.low, sample.high, truth.total) for sample in samples]
    mean = sum(sample.total for sample in samples) / len(samples)
    half = sum(sample.high - sample.low for sample in samples) / len(samples) / 2
    assert abs(mean - truth.total) < 3 * half / 2 / len(samples) ** 0.5
    assert sum(sample.fed for sample in samples) / len(samples) > 1.5 * mean  # windows overlap by half


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz"])
def test_records_longer_than_a_place_count_by_their_length(model_folder: Path, tmp_path: Path, kind: str) -> None:
    """Most places lie within a record that begins before them: how many records begin in the others says little."""
    rng = random.Random(2)
    texts = stdlib_texts(130)
    books: Records = [{"text": "".join(rng.choices(texts, k=rng.randrange(40, 240)))} for _ in range(40)]
    for part in range(4):
        (WRITERS[kind])(tmp_path / f"{part}.{kind}", books[10 * part : 10 * part + 10])
    plan = plan_of(model_folder, tmp_path, tmp_path / "lake")
    shards = plan.listing.shards
    truth = estimate_tokens(plan, shards, ALL)
    samples = [estimate_tokens(plan, shards, SAMPLED, seed) for seed in range(4)]
    assert sum(sample.low <= truth.total <= sample.high for sample in samples) >= 3
    assert all(sample.high - sample.low < 0.5 * truth.total for sample in samples), [s.high - s.low for s in samples]


def test_a_file_in_which_no_record_begins_is_not_estimated(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "' + b"a" * 500_000)
    plan = plan_of(model_folder, tmp_path, tmp_path / "lake")
    with pytest.raises(UnknownError, match=r"[01] of 16 places of the input does a record begin"):
        estimate_tokens(plan, plan.listing.shards, SAMPLED)


def test_what_is_counted_is_what_the_run_counts(model_folder: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    corpus = corpora["jsonl"] / "1.jsonl"
    plan = plan_of(model_folder, corpus, tmp_path / "lake")
    found = estimate_tokens(plan, plan.listing.shards)
    totals = runs.run(model_folder, corpus, tmp_path / "lake")["totals"]
    assert (found.total, found.records, found.rejects) == (totals["tokens"], totals["rows_in"], totals["rejects"])
    limited = plan_of(model_folder, corpus, tmp_path / "lake", run_id="few", limit=7)
    few = estimate_tokens(limited, limited.listing.shards)
    totals = runs.run(model_folder, corpus, tmp_path / "lake", run_id="few", limit=7)["totals"]
    assert (few.total, few.records) == (totals["tokens"], 7)


def test_a_limit_is_taken_from_the_start(model_folder: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    plan = plan_of(model_folder, corpora["jsonl"], tmp_path / "lake", limit=500)
    truth = estimate_tokens(plan, plan.listing.shards, ALL)
    found = estimate_tokens(plan, plan.listing.shards, Budget(place_bytes=8192, whole_bytes=40_000))
    assert truth.is_counted
    assert truth.records == 500
    assert found.low <= truth.total <= found.high
    assert 20 < found.records < 500
    assert f"from its first {found.records} of 500 records" in found.basis


def test_samples_are_the_same_again(model_folder: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    plan = plan_of(model_folder, corpora["parquet"], tmp_path / "lake")
    first, again = (estimate_tokens(plan, plan.listing.shards, SAMPLED) for _ in range(2))
    assert first == again


def test_rejects_of_the_sample_are_counted(model_folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": None if i % 2 else "some text " * 9}) + "\n" for i in range(4000)))
    plan = plan_of(model_folder, corpus, tmp_path / "lake")
    found = estimate_tokens(plan, plan.listing.shards, SAMPLED)
    assert 0.4 < found.rejects / found.records < 0.6
    said = estimate(plan, plan.listing.shards, crew_of(plan), SAMPLED).lines()[0][1]
    assert f"{found.rejects:,} of {found.records:,} records were rejected" in said


@pytest.mark.parametrize("name", ["broken.parquet", "broken.arrow", "broken.jsonl.gz"])
def test_a_broken_file_is_no_defect(model_folder: Path, corpora: dict[str, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(random.Random(0).randbytes(60_000))
    sound = corpora["jsonl"] / "5.jsonl"
    plan = make_plan(
        runs.config(model_folder, tmp_path / name, tmp_path / "lake", input=[str(tmp_path / name), str(sound)])
    )
    alone = plan_of(model_folder, sound, tmp_path / "lake")
    truth = estimate_tokens(alone, alone.listing.shards, ALL)
    found = estimate_tokens(plan, plan.listing.shards, SAMPLED)
    assert found.rejects
    assert found.low <= truth.total <= found.high


def test_no_time_to_look_is_said_and_no_failure(model_folder: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    plan = plan_of(model_folder, corpora["jsonl"], tmp_path / "lake")
    never = Budget(seconds=-1.0, whole_bytes=0)
    with pytest.raises(UnknownError, match="only 0 could be read in time"):
        estimate_tokens(plan, plan.listing.shards, never)
    found = estimate(plan, plan.listing.shards, crew_of(plan), never)
    assert found.seconds is None
    assert [said.partition(":")[0] for _, said in found.lines()] == ["not estimated", "not estimated"]


def test_a_failing_storage_is_said_and_no_failure(
    model_folder: Path, corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(model_folder, corpora["parquet"], tmp_path / "lake")

    def away(*_: object, **__: object) -> None:
        raise StorageError("the storage is away")

    monkeypatch.setattr("pipelines.estimate.places.open_source", away)
    found = estimate(plan, plan.listing.shards, crew_of(plan), SAMPLED)
    assert [said for _, said in found.lines()] == ["not estimated: the storage is away"] * 2


def test_a_defect_of_the_sample_costs_the_estimate_alone(
    model_folder: Path, corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(model_folder, corpora["parquet"], tmp_path / "lake")
    odd = (KeyError("text"), pa.ArrowNotImplementedError("odd"), ZeroDivisionError(), AttributeError("layers"))
    for error in (*odd, ImportError("flash_attn is not installed"), Exception("of a tokenizer")):

        def broken(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("pipelines.estimate.work.estimate_tokens", broken)
        found = estimate(plan, plan.listing.shards, crew_of(plan), SAMPLED)
        assert [said for _, said in found.lines()] == [f"not estimated: {type(error).__name__}: {error}"] * 2


def test_object_storage_gives_the_same_and_few_bytes_more(
    model_folder: Path, corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "buckets"
    for kind in ("jsonl", "jsonl.gz", "parquet"):
        shutil.copytree(corpora[kind], root / "corpus" / kind)
    fetched: list[int] = []
    fetch = s3fs.S3File._fetch_range

    def counted(file: Any, start: int, end: int) -> bytes:
        found: bytes = fetch(file, start, end)
        fetched.append(len(found))
        return found

    monkeypatch.setattr(s3fs.S3File, "_fetch_range", counted)
    with s3.lone_server(root) as server:
        for kind in ("jsonl", "jsonl.gz", "parquet"):
            near = plan_of(model_folder, corpora[kind], tmp_path / "lake")
            where = {"input": [f"s3://corpus/{kind}/"], "storage_options": {"s3": server.options}}
            far = plan_of(model_folder, corpora[kind], tmp_path / "lake", **where)
            fetched.clear()
            there = estimate_tokens(far, far.listing.shards, SAMPLED)
            assert there == estimate_tokens(near, near.listing.shards, SAMPLED)
            assert sum(fetched) > 0
            if kind == "jsonl":
                assert sum(fetched) <= SAMPLED.places * 3 * SAMPLED.place_bytes


def test_fed_tokens_are_those_of_the_windows(model_folder: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    plan = plan_of(model_folder, corpora["jsonl"], tmp_path / "lake")  # context 64, stride 32
    assert fed_tokens([0, 1, 64, 65, 128], plan.document_windows) == 0 + 1 + 64 + (64 + 33) + (64 + 64 + 64)


def test_what_is_done_is_not_estimated_again(
    model_folder: Path, corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stops within one file: of its tokens as many are left as were not written."""
    corpus = corpora["jsonl"] / "2.jsonl"
    plan = plan_of(model_folder, corpus, tmp_path / "lake")
    assert Left.of_plan(plan) == Left(plan.listing.shards, plan.listing.shards, 1.0)
    whole = estimate(plan, plan.listing.shards, crew_of(plan)).tokens
    assert whole is not None
    monkeypatch.setattr(Source, "chunk_bytes", 1024)  # else the first block would have read all of so small a file
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 4096)
    scored, done = ScoreStep.__call__, []

    def once(step: ScoreStep, rows: pa.Table) -> pa.Table:
        if len(done) == 1:
            raise KeyboardInterrupt
        found = scored(step, rows)
        done.append(pc.sum(pc.list_value_length(found["token_id"])).as_py())
        return found

    monkeypatch.setattr(ScoreStep, "__call__", once)
    with pytest.raises(KeyboardInterrupt):
        runs.run(model_folder, corpus, tmp_path / "lake")
    again = plan_of(model_folder, corpus, tmp_path / "lake")
    left = Left.of_plan(again)
    found = estimate(again, left.of, crew_of(again), share=left.share)
    assert left.shards == again.listing.shards
    assert left.share * whole.total == pytest.approx(whole.total - done[0], rel=0.1)
    assert f"about {left.share:.0%} of it is left" in found.lines()[0][1]
