"""Orders of a benchmark from end to end: what is written and scored, how it resumes, and what a model gives away."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import runs
import small
import torch
import transformers
from runs import rows
from scipy import stats

from operators.evaluation.exchangeability import Exchangeability, exchangeability, read_orders
from operators.evaluation.run_scores import reading
from operators.lake import Lake, orders_path
from operators.orders import cut_shards, drawn_order
from operators.verify import verify
from pipelines import steps
from pipelines.base_run import inherited
from pipelines.config import ConfigError, ScoreConfig
from pipelines.orders import OrdersJob, OrdersPlan, plan_orders, score_orders
from pipelines.plan import make_plan
from pipelines.score import RunError, score_corpus

CONTEXT, STRIDE, ITEMS = 96, 48, 24
ASKED = {"shards": 6, "permutations": 19}
pytestmark = pytest.mark.usefixtures("no_catalog")


def texts() -> list[str]:
    return small.stdlib_texts(60)[3::7][:ITEMS]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files, a record that is rejected, and a prompt before every third item."""
    folder = tmp_path_factory.mktemp("benchmark")
    records = [
        {"id": f"item-{i}", "text": text[9:] if i % 3 == 0 else text, "prompt": text[:9] if i % 3 == 0 else None}
        for i, text in enumerate(texts())
    ]
    records.insert(5, {"id": "broken", "text": None})
    for name, some in (("b.jsonl", records[13:]), ("a.jsonl", records[:13])):
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in some), encoding="utf-8")
    return folder


def score_benchmark(model: Path, benchmark: Path, lake: Path, run_id: str = "bench", **more: Any) -> None:
    fields = {"id_column": "id", "context": CONTEXT, "stride": STRIDE, "prompt_column": "prompt"}
    runs.run(model, benchmark, lake, run_id, **{**fields, **more})


@pytest.fixture(scope="module")
def lake(model_folder: Path, benchmark: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    score_benchmark(model_folder, benchmark, folder)
    score_benchmark(model_folder, benchmark, folder, "textless", drop_text=True)
    return folder


def planned(lake: Path, run_id: str = "bench-orders", base_run: str = "bench", **more: Any) -> OrdersPlan:
    fields = {"asked": ASKED, **more}
    return plan_orders(OrdersJob(str(lake), base_run, run_id, **fields))


def examined(lake: Path, run_id: str = "bench-orders") -> Exchangeability:
    with reading(str(lake)) as connection:
        totals = read_orders(connection, run_id)
    return exchangeability(totals.logprob_SP, totals.tokens_SP)


def test_every_order_of_every_shard_is_scored_once(lake: Path) -> None:
    plan = planned(lake)
    assert (len(plan.items), plan.items.available, plan.items.repeated) == (ITEMS, ITEMS, 0)
    assert list(plan.items.texts) == texts()  # prompt, then completion; files by name; the reject is no item
    ledger = score_orders(plan)
    assert ledger["config"]["transform"] == "orders:shards=6,permutations=19"
    assert (ledger["config"]["base_run"], ledger["config"]["context"]) == ("bench", CONTEXT)
    found = {row["key"]: row for row in rows(lake, "documents", "bench-orders").to_pylist()}
    assert len(found) == 6 * 20
    for shard, places in enumerate(cut_shards(ITEMS, 6)):
        for permutation in range(20):
            row = found[f"{shard}/{permutation}"]
            text = "\n\n".join(texts()[i] for i in drawn_order(places, 0, shard, permutation))
            assert row["text_sha256"] == hashlib.sha256(text.encode()).hexdigest()
            assert row["domain"] == str(shard)
            assert dict(row["attributes"]) == {"shard": str(shard), "permutation": str(permutation), "n_items": "4"}
            assert row["text"] is None
    assert verify(Lake(str(lake)), "bench-orders") == []
    assert abs(ledger["totals"]["tokens"] / plan.tokens - 1) < 0.1


def test_a_finished_run_is_not_scored_again_and_goes_on_with_its_own_settings(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_orders(planned(lake))
    before = (lake / orders_path("bench-orders")).stat().st_mtime_ns
    monkeypatch.setattr("pipelines.score.score_corpus", lambda plan: pytest.fail("scored again"))
    plan = planned(lake, asked={})
    assert (plan.options.shards, plan.options.permutations) == (6, 19)
    assert score_orders(plan)["state"] == "finished"
    assert (lake / orders_path("bench-orders")).stat().st_mtime_ns == before


def test_other_orders_stop_and_overwriting_makes_them(lake: Path) -> None:
    score_orders(planned(lake, "again", asked={"shards": 3, "permutations": 1, "items": 12}))
    for asked, said in (
        ({"shards": 4}, "run again is there and holds orders:shards=3,permutations=1 of run bench"),
        ({"separator": " "}, r"separator was '\\n\\n', is ' '"),
        ({"items": 13}, "items was 12, is 13; n_items was 12, is 13"),
    ):
        with pytest.raises(ConfigError, match=said):
            planned(lake, "again", asked=asked)
    with pytest.raises(ConfigError, match="run textless is there and holds no orders of a benchmark"):
        planned(lake, "textless")
    score_orders(planned(lake, "again", asked={"shards": 4, "permutations": 1, "separator": " "}, overwrite=True))
    assert rows(lake, "documents", "again").num_rows == 8
    assert rows(lake, "documents", "again")["n_bytes"].to_pylist()[0] == sum(len(t) + 1 for t in texts()[:6]) - 1


def test_orders_of_a_run_that_never_began_bind_nobody(lake: Path) -> None:
    with pytest.raises(ConfigError, match="the model's positions end at 128"):
        score_orders(planned(lake, "never", scoring={"context": 129, "stride": 64}))
    assert (lake / orders_path("never")).exists()
    score_orders(planned(lake, "never", asked={"shards": 3, "permutations": 1}))
    assert rows(lake, "documents", "never").num_rows == 6
    assert verify(Lake(str(lake)), "never") == []


def test_a_run_that_was_stopped_goes_on_with_the_same_orders(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_orders(planned(lake))
    scored = iter(range(1_000_000))
    call = steps.ScoreStep.__call__

    def dying(self: Any, block: Any) -> Any:
        if next(scored) == 1:
            raise KeyboardInterrupt
        return call(self, block)

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.plan.CPU_BLOCK_BYTES", 400)
        patch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 400)
        patch.setattr(steps.ScoreStep, "__call__", dying)
        with pytest.raises((KeyboardInterrupt, RunError)):
            score_orders(planned(lake, "stopped"))
    assert Lake(str(lake)).read_run("stopped")["state"] == "interrupted"
    score_orders(planned(lake, "stopped"))
    assert examined(lake, "stopped") == examined(lake)
    assert verify(Lake(str(lake)), "stopped") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"asked": {"shards": 13}}, "24 items in 13 shards.* 12 at most"),
        ({"asked": {"shards": 1}}, "shards=1: expected a whole number from 2"),
        ({"asked": {"shards": 2, "items": 3}}, "3 items in 2 shards"),
        ({"asked": {"permutations": 0}}, "permutations=0: expected a whole number from 1"),
        ({"base_run": "nobody"}, "no run 'nobody'"),
        ({"base_run": "textless"}, "run textless did not keep its texts"),
        ({"base_run": "bench-orders"}, "it is transformed itself"),
        ({"run_id": "bench"}, "the orders need a run of their own"),
    ],
)
def test_what_cannot_be_ordered_is_refused(lake: Path, fields: dict[str, Any], said: str) -> None:
    score_orders(planned(lake))
    with pytest.raises(ConfigError, match=said):
        planned(lake, **{"run_id": "new", **fields})
    assert not (lake / orders_path("new")).exists()


def test_the_orders_are_scored_with_the_columns_that_they_have(lake: Path) -> None:
    """By `assay score`, too, where the columns are named; not where they are not."""
    score_orders(planned(lake))
    fields = {
        "lake": str(lake),
        "run_id": "by-hand",
        "base_run": "bench",
        "transform": "orders:shards=6,permutations=19",
        "input": (str(lake / orders_path("bench-orders")),),
    }
    with pytest.raises(ConfigError, match="`assay exchangeability` writes the orders"):
        make_plan(ScoreConfig.parse(**inherited(fields)))
    columns = {"id_column": "id", "domain_column": "shard", "keep_columns": ("permutation", "n_items")}
    plan = make_plan(ScoreConfig.parse(**inherited({**fields, **columns})))
    assert (plan.config.prompt_column, plan.config.label_column) == (None, None)


# What a model gives away


@pytest.fixture(scope="module")
def trained(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model after it has read the benchmark as one text, in the order of the file, again and again."""
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("trained")
    for path in model_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    ids = torch.tensor(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("\n\n".join(texts())).ids)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    windows = torch.stack([ids[start : start + CONTEXT] for start in range(0, len(ids) - CONTEXT, 24)])
    for _ in range(40):
        optimizer.zero_grad()
        model(input_ids=windows, labels=windows).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def test_a_model_trained_on_the_file_prefers_its_order(
    lake: Path, trained: Path, benchmark: Path, tmp_path: Path
) -> None:
    score_benchmark(trained, benchmark, tmp_path)
    score_orders(planned(tmp_path, asked={"shards": 6, "permutations": 99}))
    seen = examined(tmp_path)
    assert seen.p_permutation == seen.resolution == 1 / 100
    assert seen.p_t is not None
    assert seen.p_tail is not None
    assert seen.low is not None
    assert max(seen.p_t, seen.p_tail) < 1e-3
    assert 0 < seen.low < seen.gain
    score_orders(planned(lake))
    assert examined(lake).p_permutation > 0.05


def test_a_model_that_has_not_seen_the_file_has_p_values_that_are_uniform(model_folder: Path, tmp_path: Path) -> None:
    """A hundred benchmarks in one: pairs of shards of a file whose items are dealt at random."""
    items = np.random.default_rng(0).permutation(small.stdlib_texts(16))[:600]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": str(text)}) + "\n" for text in items))
    runs.run(model_folder, tmp_path / "b.jsonl", tmp_path / "lake", "bench", context=CONTEXT, stride=STRIDE)
    score_orders(planned(tmp_path / "lake", asked={"shards": 200, "permutations": 9}))
    with reading(str(tmp_path / "lake")) as connection:
        totals = read_orders(connection, "bench-orders")
    assert (totals.logprob_SP.std(axis=1) > 0.1).all()  # the order matters to the model
    pairs = zip(totals.logprob_SP.reshape(100, 2, 10), totals.tokens_SP.reshape(100, 2, 10), strict=True)
    p_values = np.array([exchangeability(*pair).p_permutation for pair in pairs])
    within = np.random.default_rng(0).random(100)  # of the steps of a tenth
    assert stats.kstest(p_values - 0.1 * within, "uniform").pvalue > 0.01
    assert 0.04 <= (p_values <= 0.1).mean() <= 0.16


def test_the_file_of_the_orders_is_the_same_to_the_byte(lake: Path) -> None:
    for run_id in ("first", "second"):
        score_orders(planned(lake, run_id, asked={"shards": 2, "permutations": 2}))
    first, second = ((lake / orders_path(run_id)).read_bytes() for run_id in ("first", "second"))
    assert first == second
    assert pq.read_table(lake / orders_path("first"))["n_items"].to_pylist() == [12] * 6


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
@pytest.mark.slow
def test_both_engines_write_the_same_rows(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of orders, and of strict windows."""
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 400)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 400)
    windows = {"lake": str(lake), "base_run": "bench", "transform": "windows:prefix=20,suffix=12,offset=3"}
    for engine in ("inline", "ray"):
        scoring = {"engine": engine, "actors": 1}
        score_orders(planned(lake, f"orders-{engine}", asked={"shards": 4, "permutations": 5}, scoring=scoring))
        fields = {**windows, **scoring, "run_id": f"windows-{engine}"}
        score_corpus(make_plan(ScoreConfig.parse(**inherited(fields))))
    assert examined(lake, "orders-ray") == examined(lake, "orders-inline")
    for kind, table in itertools.product(("orders", "windows"), ("tokens", "documents")):
        one, other = (rows(lake, table, f"{kind}-{engine}") for engine in ("inline", "ray"))
        if (kind, table) == ("orders", "documents"):  # each read orders under its own name
            one, other = one.drop_columns("source"), other.drop_columns("source")
        assert one.equals(other), (kind, table)
        assert len(Lake(str(lake)).parts(table, f"{kind}-ray")) > 1
    assert verify(Lake(str(lake)), "orders-ray") == verify(Lake(str(lake)), "windows-ray") == []
