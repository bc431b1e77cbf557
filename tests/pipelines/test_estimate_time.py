"""Time of a run before it starts: by earlier runs of the model, else by arithmetic, else it is said why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs

from pipelines.estimate import rate as rates
from pipelines.estimate.rate import Device, estimate_rate, token_operations
from pipelines.estimate.tokens import Tokens, UnknownError
from pipelines.estimate.work import Crew, Estimate, count, crew_of, estimate
from pipelines.plan import Plan, make_plan

pytestmark = pytest.mark.usefixtures("no_catalog")


def plan_of(model: Path, corpus: Path, lake: Path, **more: Any) -> Plan:
    return make_plan(runs.config(model, corpus, lake, **more))


def _ledger(plan: Plan, run_id: str, seconds: float, **changes: Any) -> None:
    model = {**plan.model_facts, "device": "cpu"}
    config = {**plan.config.public(), "context": plan.windows.context, "stride": plan.windows.stride}
    ledger = {
        "run_id": run_id, "state": "finished", "seconds": seconds, "model": model, "config": config,
        "totals": {"tokens": 100_000}, "attempt": {"workers": 1},
    }  # fmt: skip
    plan.lake.write_run(run_id, {**ledger, **changes})


def test_time_goes_by_earlier_runs_of_the_same_model(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    plan = plan_of(model_folder, corpus, tmp_path / "lake")
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
    found = Estimate(tokens, two, Crew(2, device, "-"), 4.0)
    typical, low, high = found.seconds or (0, 0, 0)
    assert typical == pytest.approx(4 + 1e6 / 2500)
    assert low < typical < high
    assert "on 2 actors of 1,250 tokens/s each" in found.lines()[1][1]


def test_a_pool_that_grows_is_estimated_as_its_runs_are_counted(
    model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    """At its largest: the rate of an earlier run is by as many actors."""
    where = {"engine": "ray", "actors": 2, "max_actors": 8}
    local = crew_of(plan_of(model_folder, corpus, tmp_path / "lake", **where))
    assert (local.fewest, local.actors, local.where) == (2, 8, "2 to 8 x CPU core")
    far = crew_of(plan_of(model_folder, corpus, tmp_path / "lake", **where, address="head:6379"))
    assert (far.fewest, far.actors, far.where) == (2, 8, "2 to 8 x GPU (or core) of the cluster")
    plan = plan_of(model_folder, corpus, tmp_path / "lake", **where)
    config = {**plan.config.public(), "context": plan.windows.context, "stride": plan.windows.stride}
    _ledger(plan, "pool", 112.0, config=config)
    tokens = Tokens(100_000, 100_000, 100_000, 1e5, 10, 0, "-")
    found = Estimate(tokens, estimate_rate(plan, tokens, local.device), local, 12.0)
    typical, low, high = found.seconds or (0, 0, 0)
    assert typical == pytest.approx(112)
    assert (low, high) == pytest.approx((12 + 100 / 1.3, 12 + 100 * 1.3 * 4))
    assert "on 2 to 8 actors of 125 tokens/s each" in found.lines()[1][1]


def test_of_many_runs_those_of_names_like_its_own_are_looked_at(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "LEDGERS", 2)
    plan = plan_of(model_folder, corpus, tmp_path / "lake", run_id="code-2026-11-21")
    _ledger(plan, "code-2026-11-20", 104.0)
    for night in range(1, 5):
        _ledger(plan, f"web-2026-11-0{night}", 104.0, model={"fingerprint": "x", "device": "cpu"})
    tokens = Tokens(1000, 1000, 1000, 1000, 1, 0, "-")
    assert "as 1 finished run" in estimate_rate(plan, tokens, Device("cpu")).basis


def test_operations_of_a_token_are_those_of_the_model(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    """By hand: 2 (matrices of the layers + head) and attention, over windows of 64 that overlap by half."""
    plan = plan_of(model_folder, corpus, tmp_path / "lake")
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


def test_a_gpu_is_known_by_name_alone(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    plan = plan_of(model_folder, corpus, tmp_path / "lake")
    tokens = Tokens(1000, 1000, 1000, 1000, 1, 0, "-")
    whole = estimate_rate(plan, tokens, Device("cuda", 1.0, "H100"))
    half = estimate_rate(plan, tokens, Device("cuda", 0.5, "H100"))
    assert whole.tokens == pytest.approx(2 * half.tokens)
    assert whole.low < whole.tokens < whole.high
    for device in (Device("cuda"), Device("cuda", 1.0, "Abacus"), Device("")):
        with pytest.raises(UnknownError):
            estimate_rate(plan, tokens, device)
    found = estimate(plan, plan.listing.shards, Crew(3, Device(""), "-"))
    assert found.tokens is not None
    assert found.seconds is None
    assert "--accelerator-type" in found.lines()[1][1]


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
