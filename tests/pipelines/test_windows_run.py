"""Runs of strict windows from end to end: what is fed, what is kept of it, and what a ledger and `verify` say."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import runs
import small
import torch
from runs import rows

from operators.lake import Lake
from operators.model_files import ModelOptions
from operators.score import ScoreOptions, Scorer
from operators.verify import verify
from operators.windows import WindowOptions
from pipelines import steps
from pipelines.base_run import inherited
from pipelines.config import ConfigError, ScoreConfig
from pipelines.engines import Steps
from pipelines.plan import Plan, make_plan
from pipelines.previous import ResumeError
from pipelines.score import score_corpus

PREFIX, SUFFIX = 20, 12
SPEC = f"windows:prefix={PREFIX},suffix={SUFFIX}"
STATISTICS = ("logprob", "entropy", "logprob_std", "rank", "logprob_max", "top1_id")
pytestmark = pytest.mark.usefixtures("no_catalog")


def records() -> list[dict[str, Any]]:
    """Texts of several windows, of less than one and of one token, prompts, and a broken record."""
    texts = [*small.stdlib_texts(300)[:6], *small.HARD_TEXTS]
    found = [{"id": f"doc-{i}", "text": text, "prompt": "# é\n" * (i % 3)} for i, text in enumerate(texts)]
    return [*found, {"id": "none", "text": None, "prompt": ""}]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "in.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records()), encoding="utf-8")
    return path


def with_end(folder: Path) -> Path:
    """A model whose tokenizer puts `</s>` behind every text, and nothing before it."""
    small.make_model_folder(folder, bos=False)
    file = folder / "tokenizer.json"
    definition = json.loads(file.read_text())
    definition["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    file.write_text(json.dumps(definition))
    return folder


@pytest.fixture(scope="module")
def lakes(model_folder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A lake with a run `base` for a tokenizer with a BOS (`bos`), and for one with an EOS alone (`eos`)."""
    found = {name: tmp_path_factory.mktemp(name) for name in ("bos", "eos")}
    models = {"bos": model_folder, "eos": with_end(tmp_path_factory.mktemp("models") / "eos")}
    for name, lake in found.items():
        runs.run(models[name], corpus, lake, "base", id_column="id", precision="full")
    return found


@pytest.fixture(scope="module")
def lake(lakes: dict[str, Path], model_folder: Path, corpus: Path) -> Path:
    """That of the tokenizer with a BOS, with a run `asked` that has prompts."""
    runs.run(model_folder, corpus, lakes["bos"], "asked", id_column="id", precision="full", prompt_column="prompt")
    return lakes["bos"]


def plan_of(lake: Path, run_id: str, **more: Any) -> Any:
    fields = {"lake": str(lake), "run_id": run_id, "transform": SPEC, "base_run": "base", **more}
    return make_plan(ScoreConfig.parse(**inherited(fields)))


def windowed(lake: Path, run_id: str, **more: Any) -> dict[str, Any]:
    return score_corpus(plan_of(lake, run_id, **more))


def by_document(lake: Path, run_id: str) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows(lake, "tokens", run_id).to_pylist():
        found.setdefault(row["doc_id"], []).append(row)
    return found


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("kind", ["bos", "eos"])
def test_a_window_scores_as_a_document_of_its_own(lakes: dict[str, Path], kind: str, offset: int) -> None:
    """The base run's own ids of the text, from the offset on; each suffix to the bit as its window alone."""
    lake, run_id = lakes[kind], f"windows-{offset}"
    ledger = windowed(lake, run_id, transform=f"{SPEC},offset={offset}", features=["extremes"])
    before, after = by_document(lake, "base"), by_document(lake, run_id)
    model = ModelOptions(ledger["config"]["model"])
    scorer = Scorer(ScoreOptions(model, WindowOptions(64, 32), ("extremes",)))
    fed_before = [0] if kind == "bos" else []
    tried = 0
    for doc_id, was in before.items():
        own = [row for row in was if row["n_bytes"]]  # without what the tokenizer puts around
        assert len(own) == len(was) - 1
        now = after.get(doc_id, [])
        for name in ("token_id", "byte_start", "n_bytes"):
            assert [row[name] for row in now] == [row[name] for row in own[offset:]]
        assert [row["position"] for row in now] == list(range(len(now)))
        assert [row["logprob"] is None for row in now] == [not fed_before and i == 0 for i in range(len(now))]
        ids = [row["token_id"] for row in now]
        for start in range(0, len(ids) - PREFIX - SUFFIX + 1, SUFFIX):
            fed = torch.tensor([*fed_before, *ids[start : start + PREFIX + SUFFIX]])
            alone = scorer.score(fed, [len(fed)])
            suffix = now[start + PREFIX : start + PREFIX + SUFFIX]
            for name in STATISTICS:
                assert [row[name] for row in suffix] == alone[name][-SUFFIX:].tolist(), name
            tried += 1
    assert tried > 30
    assert ledger["totals"]["rows_in"] == len(records())
    gone = len(before) - len(after)
    assert gone == (0 if offset == 0 else 4)  # of three tokens at most
    reasons = sorted(rows(lake, "rejects", run_id, order="row")["reason"].to_pylist())
    assert reasons == ["empty_after_transform"] * gone + ["null_text"]
    assert verify(Lake(str(lake)), run_id) == []


def test_the_ledger_says_what_a_window_is(lakes: dict[str, Path]) -> None:
    for kind, fed in (("bos", [0]), ("eos", None)):
        ledger = windowed(lakes[kind], "told")
        assert (ledger["config"]["context"], ledger["config"]["stride"]) == (PREFIX + SUFFIX, SUFFIX)
        assert ledger["config"]["transform"] == SPEC
        said = ledger["prefix"]
        assert (said and (said["token_ids"], said["context"], said["stride"])) == (
            fed and (fed, PREFIX + SUFFIX, SUFFIX)
        )
        assert ledger["config"]["features"] == []


def test_features_are_those_of_the_job_and_the_lengths_may_be_said_again(lake: Path) -> None:
    plan = plan_of(lake, "new", features="topk", top_k=40, context=PREFIX + SUFFIX, stride=SUFFIX)
    assert (plan.config.features, plan.config.top_k) == (("topk",), 40)
    assert plan.document_windows == WindowOptions(PREFIX + SUFFIX, SUFFIX, (0,))


def test_prompts_stay_in_front_and_are_flagged(lake: Path) -> None:
    windowed(lake, "asked-windows", base_run="asked", transform=f"{SPEC},offset=1")
    before, after = by_document(lake, "asked"), by_document(lake, "asked-windows")
    texts = rows(lake, "documents", "asked").select(["doc_id", "text", "prompt_bytes"])
    now = rows(lake, "documents", "asked-windows")
    kept = pc.is_in(texts["doc_id"], now["doc_id"].combine_chunks())
    assert texts.filter(kept).equals(now.select(texts.column_names))
    for doc_id, own in after.items():
        assert [row["in_prompt"] for row in own] == [row["in_prompt"] for row in before[doc_id][2:]]
    assert any(row["in_prompt"] for own in after.values() for row in own)
    assert verify(Lake(str(lake)), "asked-windows") == []


def test_texts_need_not_be_kept(lake: Path) -> None:
    windowed(lake, "bare", drop_text=True, transform=f"{SPEC},offset=2")
    assert rows(lake, "documents", "bare")["text"].null_count == len(rows(lake, "documents", "bare"))
    assert verify(Lake(str(lake)), "bare") == []


def test_a_limit_of_the_base_run_holds(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    runs.run(model_folder, corpus, tmp_path, "base", id_column="id", limit=3)
    assert windowed(tmp_path, "windows")["totals"]["documents"] == 3
    assert verify(Lake(str(tmp_path))) == []


def test_longer_than_every_text(lake: Path) -> None:
    ledger = windowed(lake, "beyond", transform=f"{SPEC},offset=100000")
    assert (ledger["totals"]["documents"], ledger["totals"]["rejects"]) == (0, len(records()))
    assert verify(Lake(str(lake)), "beyond") == []


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few documents, so that a small corpus is many blocks."""
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 400)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 400)


def test_a_stopped_run_resumes_to_the_same_rows_and_starts_anew_when_told(
    lake: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    windowed(lake, "whole")
    blocks, original = iter(range(100)), steps.WriteStep.__call__

    def stopping(self: Any, block: Any) -> Any:
        if next(blocks) == 2:
            raise KeyboardInterrupt
        return original(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(steps.WriteStep, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt):
            windowed(lake, "stopped")
    with pytest.raises(ResumeError, match=rf"transform: was '{SPEC}', now '{SPEC},offset=1'"):
        plan_of(lake, "stopped", transform=f"{SPEC},offset=1")
    for more in ({}, {"overwrite": "stopped"}):
        assert windowed(lake, "stopped", **more)["state"] == "finished"
        for table in ("tokens", "documents"):
            assert rows(lake, table, "stopped").equals(rows(lake, table, "whole"))
        assert verify(Lake(str(lake)), "stopped") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"context": 64}, f"--context: 64 contradicts --transform {SPEC}, where it is prefix + suffix, 32; leave it"),
        ({"stride": 10}, f"--stride: 10 contradicts --transform {SPEC}, where it is the suffix, 12; leave it out"),
        (
            {"transform": "windows:prefix=64,suffix=64"},
            "129 tokens are fed at a time, of which the tokenizer puts 1 before the window, and the model's positions "
            "end at 128: choose a smaller prefix= or suffix=",
        ),
        ({"transform": "windows:prefix=1000000,suffix=1"}, "1,000,002 tokens are fed at a time"),
        ({"base_run": "told"}, "it is transformed itself"),
    ],
)
def test_what_contradicts_is_refused(lake: Path, fields: dict[str, Any], said: str) -> None:
    if fields.get("base_run") == "told":
        windowed(lake, "told")
    with pytest.raises(ConfigError) as error:
        plan_of(lake, "new", **fields)
    assert said in str(error.value)


def test_windows_may_fill_the_models_positions(lakes: dict[str, Path]) -> None:
    assert plan_of(lakes["bos"], "new", transform="windows:prefix=64,suffix=63").document_windows.most_fed == 128
    assert plan_of(lakes["eos"], "new", transform="windows:prefix=64,suffix=64").document_windows.most_fed == 128


def test_verify_knows_where_the_first_token_may_begin(lake: Path) -> None:
    """A run that claims another offset, or that something was fed before its windows, is found out by its rows."""
    windowed(lake, "spoilt", transform=f"{SPEC},offset=5")
    store = Lake(str(lake))
    ledger = store.read_run("spoilt")
    for wrong, kind in (({"config": {**ledger["config"], "transform": SPEC}}, "span"), ({"prefix": None}, "nulls")):
        store.write_run("spoilt", {**ledger, **wrong})
        assert kind in {str(fault.kind) for fault in verify(store, "spoilt")}
    store.write_run("spoilt", ledger)
    assert verify(store, "spoilt") == []


def test_steps_that_were_sent_elsewhere_give_the_same_rows(
    lake: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the Ray engine adds to the inline one, without its processes; with them: `test_orders`."""
    windowed(lake, "here", transform=f"{SPEC},offset=3")
    of, scoring = Steps.of, Plan.scoring
    monkeypatch.setattr(Steps, "of", lambda *args: pickle.loads(pickle.dumps(of(*args))))
    monkeypatch.setattr(Plan, "scoring", lambda plan: pickle.loads(pickle.dumps(scoring(plan))))
    windowed(lake, "there", transform=f"{SPEC},offset=3")
    for table, order in (("tokens", "doc_id"), ("documents", "doc_id"), ("rejects", "row")):
        assert rows(lake, table, "there", order=order).equals(rows(lake, table, "here", order=order)), table
