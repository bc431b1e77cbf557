"""Estimates before a run: intervals of sampled tokens cover what a run counts, whatever the format; time says why."""

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
from pipelines.estimate import rate as rates
from pipelines.estimate.left import Left
from pipelines.estimate.places import fed_tokens
from pipelines.estimate.rate import Device, estimate_rate, token_operations
from pipelines.estimate.tokens import Budget, Tokens, UnknownError, estimate_tokens
from pipelines.estimate.work import Crew, Estimate, count, crew_of, estimate
from pipelines.plan import Plan, make_plan
from pipelines.steps import ScoreStep

pytestmark = pytest.mark.usefixtures("no_catalog", "one_thread")

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
    for error in (KeyError("text"), pa.ArrowNotImplementedError("odd"), ZeroDivisionError()):

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


def _ledger(plan: Plan, run_id: str, seconds: float, **changes: Any) -> None:
    model = {**plan.model_facts, "device": "cpu"}
    config = {**plan.config.public(), "context": plan.windows.context, "stride": plan.windows.stride}
    ledger = {
        "run_id": run_id, "state": "finished", "seconds": seconds, "model": model, "config": config,
        "totals": {"tokens": 100_000}, "attempt": {"workers": 1},
    }  # fmt: skip
    plan.lake.write_run(run_id, {**ledger, **changes})


def test_time_goes_by_earlier_runs_of_the_same_model(
    model_folder: Path, corpora: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(model_folder, corpora["jsonl"], tmp_path / "lake")
    tokens = Tokens(1e6, 0.9e6, 1.1e6, 2e6, 10, 0, "-")
    device = Device("cpu")
    assert "a guess" in estimate_rate(plan, tokens, device).basis
    _ledger(plan, "other-model", 104.0, model={"fingerprint": "x", "device": "cpu"})
    _ledger(plan, "on-a-gpu", 104.0, model={**plan.model_facts, "device": "cuda:0"})
    _ledger(plan, "unfinished", 104.0, state="failed")
    _ledger(plan, "too-short", 4.5)
    plan.lake.storage.write("runs/broken.json", b"{")
    plan.lake.storage.write("runs/strange.json", b"[1]")
    _ledger(plan, "of-none", 104.0, totals={"tokens": None})
    _ledger(plan, "of-no-engine", 104.0, config={"engine": None})
    assert "a guess" in estimate_rate(plan, tokens, device).basis
    _ledger(plan, "wider", 54.0, config={**plan.config.public(), "context": 32, "stride": 16})
    other = estimate_rate(plan, tokens, device)
    assert other.tokens == pytest.approx(2000)
    assert "1 finished run of this model in the lake, under other settings" in other.basis
    _ledger(plan, "a", 104.0)
    _ledger(plan, "b", 84.0)
    two = estimate_rate(plan, tokens, device)
    assert (two.low * 1.3, two.tokens, two.high / 1.3) == pytest.approx((1000, 1250, 1250))
    assert two.basis == "as 2 finished runs of this model in the lake"
    _ledger(plan, "on-ray", 112.0, config={**plan.config.public(), "engine": "ray", "context": 64, "stride": 32},
            attempt={"workers": 4})  # fmt: skip
    three = estimate_rate(plan, tokens, device)
    assert three.low * 1.3 == pytest.approx(250)
    pool = {**plan.config.public(), "engine": "ray", "context": 64, "stride": 32, "max_actors": 8}
    _ledger(plan, "pool", 112.0, config=pool)
    assert estimate_rate(plan, tokens, device).low * 1.3 == pytest.approx(125)  # as if it had been at its largest
    elsewhere = estimate_rate(plan, tokens, Device(""))
    assert elsewhere.basis == "as 6 finished runs of this model in the lake on cpu, cuda, under other settings"
    found = Estimate(tokens, two, 2, 4.0)
    typical, low, high = found.seconds or (0, 0, 0)
    assert typical == pytest.approx(4 + 1e6 / 2500)
    assert low < typical < high
    assert "on 2 actors of 1,250 tokens/s each" in found.lines()[1][1]


def test_operations_of_a_token_are_those_of_the_model(
    model_folder: Path, corpora: dict[str, Path], tmp_path: Path
) -> None:
    """By hand: 2 (matrices of the layers + head) and attention, over windows of 64 that overlap by half."""
    plan = plan_of(model_folder, corpora["jsonl"], tmp_path / "lake")
    config = json.loads((model_folder / "config.json").read_text())
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or width // heads
    layer = width * size * (2 * heads + 2 * keys) + 3 * width * inner
    pairs = 2 * heads * 2 * size * layers * (64 * 65 / 2) / 64
    by_hand = 2 * (layers * layer + width * config["vocab_size"]) + pairs
    once = Tokens(1000, 1000, 1000, 1000, 1, 0, "-")
    assert token_operations(plan, once) == pytest.approx(by_hand)
    assert token_operations(plan, Tokens(1000, 1000, 1000, 2000, 1, 0, "-")) == pytest.approx(2 * by_hand)


def test_a_gpu_is_known_by_name_alone(model_folder: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    plan = plan_of(model_folder, corpora["jsonl"], tmp_path / "lake")
    tokens = Tokens(1000, 1000, 1000, 1000, 1, 0, "-")
    whole = estimate_rate(plan, tokens, Device("cuda", 1.0, "H100"))
    half = estimate_rate(plan, tokens, Device("cuda", 0.5, "H100"))
    assert whole.tokens == pytest.approx(2 * half.tokens)
    assert whole.low < whole.tokens < whole.high
    for device in (Device("cuda"), Device("cuda", 1.0, "Abacus"), Device("")):
        with pytest.raises(UnknownError):
            estimate_rate(plan, tokens, device)
    found = estimate(plan, plan.listing.shards, Crew(3, Device(""), "-"), ALL)
    assert found.tokens is not None
    assert found.seconds is None
    assert "--accelerator-type" in found.lines()[1][1]


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


@pytest.mark.parametrize(
    ("n", "said"),
    [(0, "0"), (812, "812"), (12_345, "12,300"), (999_999, "1,000,000"), (1_236_000, "1.24 million"),
     (2.5e9, "2.5 billion"), (3.14159e12, "3.14 trillion"), (5e15, "5,000 trillion")],
)  # fmt: skip
def test_counts_have_three_digits(n: float, said: str) -> None:
    assert count(n) == said


def test_the_speed_of_a_core_leaves_its_threads_alone() -> None:
    import torch

    before = torch.get_num_threads()
    speed, said = rates._core_speed()
    assert speed > 0
    assert "a core here" in said
    assert torch.get_num_threads() == before
