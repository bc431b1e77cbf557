"""Transformed runs from end to end: the same documents, changed, joined with their base run by doc_id."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import oracle
import pyarrow as pa
import pytest
import runs
import small
import torch
import transformers
from runs import rows

from operators.lake import Lake
from operators.query import query
from operators.transform import parse_transform
from operators.transform.blocks import text_change
from operators.transform.shots import draw_shots
from operators.verify import verify
from pipelines import steps
from pipelines.base_run import inherited
from pipelines.config import ConfigError, ScoreConfig
from pipelines.engines import Steps
from pipelines.plan import Plan, make_plan
from pipelines.previous import ResumeError
from pipelines.score import RunError, score_corpus

CONTEXT, STRIDE = 96, 48
pytestmark = pytest.mark.usefixtures("no_catalog")


def records() -> list[dict[str, Any]]:
    """Short documents of both labels, two that take several windows, prompts of all kinds, and a broken record."""
    pieces = small.stdlib_texts(60)
    found: list[dict[str, Any]] = [
        {"id": f"doc-{i}", "text": pieces[7 * i], "label": i % 2, "prompt": pieces[7 * i + 1][: (i % 4) * 9]}
        for i in range(24)
    ]
    found += [
        {"id": f"long-{i}", "text": text, "label": 1, "prompt": None}
        for i, text in enumerate(small.stdlib_texts(400)[5:7])
    ]
    return [
        *found,
        {"id": "hard", "text": small.HARD_TEXTS[3], "label": 1, "prompt": "é"},
        {"id": "none", "text": None},
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "in.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records()), encoding="utf-8")
    return path


def score_base(model: Path, corpus: Path, lake: Path, run_id: str = "base", **more: Any) -> dict[str, Any]:
    fields = {"id_column": "id", "label_column": "label", "context": CONTEXT, "stride": STRIDE, "precision": "full"}
    return runs.run(model, corpus, lake, run_id, **{**fields, **more})


@pytest.fixture(scope="module")
def lake(model_folder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the run `base`, and `asked`, the same with prompts."""
    folder = tmp_path_factory.mktemp("lake")
    score_base(model_folder, corpus, folder, features=["extremes"])
    score_base(model_folder, corpus, folder, "asked", prompt_column="prompt")
    return folder


def plan_of(lake: Path, transform: Any, run_id: str, **more: Any) -> Any:
    fields = {"lake": str(lake), "run_id": run_id, "transform": transform, "base_run": "base", **more}
    return make_plan(ScoreConfig.parse(**inherited(fields)))


def transformed(lake: Path, transform: Any, run_id: str, **more: Any) -> dict[str, Any]:
    return score_corpus(plan_of(lake, transform, run_id, **more))


def texts(lake: Path, run_id: str) -> dict[str, str]:
    return {row["key"]: row["text"] for row in rows(lake, "documents", run_id).to_pylist()}


def tokens_by_key(lake: Path, run_id: str) -> dict[str, list[dict[str, Any]]]:
    keys = {row["doc_id"]: row["key"] for row in rows(lake, "documents", run_id).to_pylist()}
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in keys.values()}
    for row in rows(lake, "tokens", run_id).to_pylist():
        found[keys[row["doc_id"]]].append(row)
    return found


@pytest.fixture(scope="module")
def exact(model_folder: Path) -> torch.nn.Module:
    """The model in float64, as transformers loads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64).eval()


@torch.no_grad()
def predicted(model: torch.nn.Module, fed: list[int], own: int) -> dict[str, torch.Tensor]:
    """Statistics of the last `own` of the ids fed in one pass."""
    logits = model(input_ids=torch.tensor([fed]), use_cache=False).logits[0]
    return oracle.statistics(logits[len(fed) - own - 1 : -1], torch.tensor(fed[len(fed) - own :]))


def assert_close(found: list[dict[str, Any]], truth: dict[str, torch.Tensor]) -> None:
    for name in ("logprob", "entropy", "logprob_std"):
        ours = torch.tensor([row[name] for row in found], dtype=torch.float64)
        assert (ours - truth[name]).abs().max() < 1e-4, name
    clear = (truth["gap"] > 1e-3).tolist()
    assert sum(clear) > 0.8 * len(clear)
    for row, rank, is_clear in zip(found, truth["rank"].tolist(), clear, strict=True):
        assert row["rank"] == rank or not is_clear


def test_lowercase_is_a_run_over_the_lower_cased_texts(model_folder: Path, lake: Path, tmp_path: Path) -> None:
    ledger = transformed(lake, "lowercase", "lower")
    assert texts(lake, "lower") == {key: text.lower() for key, text in texts(lake, "base").items()}
    lowered = tmp_path / "lower.jsonl"
    lines = (r | {"text": r["text"] and r["text"].lower()} for r in records())
    lowered.write_text("".join(json.dumps(r) + "\n" for r in lines), encoding="utf-8")
    score_base(model_folder, lowered, tmp_path / "lake")
    assert rows(lake, "tokens", "lower").equals(rows(tmp_path / "lake", "tokens", "base"))
    assert ledger["totals"]["rows_in"] == 28
    assert ledger["config"]["features"] == []
    assert rows(lake, "rejects", "lower", order="row")["reason"].to_pylist() == ["null_text"]
    found = query(
        lake, "select run_id, transform, base_run from runs where run_id in ('base', 'lower') order by run_id"
    )
    assert found.to_pylist() == [
        {"run_id": "base", "transform": None, "base_run": None},
        {"run_id": "lower", "transform": "lowercase", "base_run": "base"},
    ]
    assert verify(Lake(str(lake)), "lower") == []


def test_what_is_not_said_is_as_in_the_base_run(lake: Path, model_folder: Path, corpus: Path) -> None:
    config = plan_of(lake, {"name": "perturb", "kind": "swap_words", "copy": 2}, "p", stride=10).config
    assert config.transform == "perturb:kind=swap_words,copy=2"
    assert (config.model, config.input, config.id_column) == (str(model_folder), (str(corpus),), "id")
    assert (config.context, config.stride, config.precision, config.engine) == (CONTEXT, 10, "full", "inline")
    assert plan_of(lake, "lowercase", "p", context=64).windows.stride == 32


def test_a_template_is_inherited_without_the_column_it_replaces(
    model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    score_base(model_folder, corpus, tmp_path, text_template="{id}: {text}")
    config = plan_of(tmp_path, "lowercase", "lower").config
    assert config.text_template == "{id}: {text}"


def test_copies_of_a_perturbation_are_texts_of_their_own(lake: Path) -> None:
    base = texts(lake, "base")
    for copy in (1, 2):
        spec = parse_transform("perturb:kind=substitute_words,rate=0.4").copy(copy)
        transformed(lake, spec.canonical, f"substitute-{copy}")
        change = text_change(spec)
        assert change is not None
        assert texts(lake, f"substitute-{copy}") == {key: change(key, text) for key, text in base.items()}
    assert texts(lake, "substitute-1") != texts(lake, "substitute-2")
    assert verify(Lake(str(lake)), "substitute-2") == []


def test_a_prefix_of_shots_is_fed_before_every_window(lake: Path, exact: torch.nn.Module, model_folder: Path) -> None:
    ledger = transformed(lake, "prefix:label=0,shots=1,seed=2", "recall", max_rejects=1)
    (shot,) = ledger["prefix"]["keys"]
    base, found = tokens_by_key(lake, "base"), tokens_by_key(lake, "recall")
    assert int(shot.removeprefix("doc-")) % 2 == 0
    prefix = [row["token_id"] for row in base[shot]]  # BOS included, as the tokenizer encodes the shot
    assert ledger["prefix"]["token_ids"] == prefix
    context = CONTEXT - len(prefix)
    assert (ledger["prefix"]["context"], ledger["prefix"]["stride"]) == (context, STRIDE * context // CONTEXT)
    assert set(found) == set(base) - {shot}
    rejects = {r["key"]: r["reason"] for r in rows(lake, "rejects", "recall", order="row").to_pylist()}
    assert rejects[shot] == "used_as_prefix"
    assert (ledger["totals"]["rows_in"], ledger["totals"]["rejects"]) == (28, 2)
    assert ledger["config"]["max_rejects"] == 1  # what is left out on purpose counts for nothing
    assert ledger["totals"]["scored"] == ledger["totals"]["tokens"]
    for key, own in found.items():
        ids = [row["token_id"] for row in own]
        assert ids == [row["token_id"] for row in base[key]]
        assert [row["position"] for row in own] == list(range(len(ids)))
        assert_close(own, by_windows(exact, prefix, ids, context, ledger["prefix"]["stride"]))
    assert max(len(own) for own in found.values()) > 3 * context
    assert verify(Lake(str(lake)), "recall") == []


def by_windows(model: torch.nn.Module, prefix: list[int], ids: list[int], context: int, stride: int) -> dict[str, Any]:
    """Every token predicted in the first window that holds it, each window fed alone."""
    parts, scored, start = [], 0, 0
    while scored < len(ids):
        stop = min(start + context, len(ids))
        parts.append(predicted(model, prefix + ids[start:stop], stop - scored))
        scored, start = stop, start + stride
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def test_shots_are_joined_by_nothing_and_dropped_until_they_fit(lake: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_of(lake, "prefix:label=0", "many")
    assert 1 <= len(plan.prefix.keys) < 7
    assert f"made of {len(plan.prefix.keys)} of 7 shots" in caplog.text
    assert 2 * len(plan.prefix.token_ids) < CONTEXT
    tokenizer = small.make_tokenizer()
    base = texts(lake, "base")
    assert list(plan.prefix.token_ids) == tokenizer.encode("".join(base[key] for key in plan.prefix.keys)).ids


def test_a_prefix_excuses_no_other_rejects(lake: Path) -> None:
    with pytest.raises(RunError, match="1 of 28 records were rejected, more than --max-rejects 0"):
        transformed(lake, "prefix:label=0,shots=1", "strict", max_rejects=0)


def test_documents_too_long_for_a_shot_are_passed_over(lake: Path, model_folder: Path) -> None:
    """Of label 1 are two of several windows: whichever the seed draws first, shots are found."""
    lengths = {row["key"]: row["n_tokens"] for row in rows(lake, "documents", "base").to_pylist() if row["label"] == 1}
    orders = [draw_shots(Lake(str(lake)), "base", label=1, shots=15, seed=s, most_tokens=10**6) for s in range(40)]
    assert {draw.n_documents for draw in orders} == {15}
    seed = next(s for s, draw in enumerate(orders) if 2 * lengths[draw.shots[0].key] >= CONTEXT)
    plan = plan_of(lake, f"prefix:label=1,shots=1,seed={seed}", "passed")
    fitting = [shot.key for shot in orders[seed].shots if 2 * lengths[shot.key] < CONTEXT]
    assert list(plan.prefix.keys) == fitting[:1]


def test_a_prefix_from_a_file(lake: Path, tmp_path: Path, exact: torch.nn.Module) -> None:
    file = tmp_path / "prefix.txt"
    file.write_text("Ein Präfix.\n", encoding="utf-8")
    ledger = transformed(lake, f"prefix:label=1,file={file}", "file")
    assert ledger["prefix"]["keys"] == []
    assert ledger["totals"]["documents"] == 27
    prefix = small.make_tokenizer().encode("Ein Präfix.\n").ids
    own = tokens_by_key(lake, "file")["doc-3"]
    assert_close(own, predicted(exact, [*prefix, *(row["token_id"] for row in own)], len(own)))
    file.write_text("Another prefix.\n", encoding="utf-8")
    with pytest.raises(ResumeError, match="prefix: was"):
        plan_of(lake, f"prefix:label=1,file={file}", "file")


def test_unprompted_rows_are_the_completions_tokens_without_the_prompt(lake: Path, exact: torch.nn.Module) -> None:
    ledger = transformed(lake, "unprompted", "alone", base_run="asked")
    before, after = tokens_by_key(lake, "asked"), tokens_by_key(lake, "alone")
    completions = {r["id"]: r["text"] for r in records() if r["text"]}
    assert texts(lake, "alone") == completions
    assert ledger["totals"]["documents"] == 27
    straddling = 0
    for key, own in after.items():
        bos, *answer = own
        assert bos["logprob"] is None
        # Without a prompt nothing is flagged, the BOS neither.
        expected = [row for row in before[key] if not row["in_prompt"] and row["position"] > 0]
        assert [row["token_id"] for row in answer] == [row["token_id"] for row in expected]
        assert [row["position"] for row in own] == list(range(len(own)))
        straddling += answer[0]["n_bytes"] < expected[0]["n_bytes"]
        ids = [row["token_id"] for row in own]
        if len(ids) <= CONTEXT:
            assert_close(answer, predicted(exact, ids, len(answer)))
    assert straddling > 0
    assert verify(Lake(str(lake)), "alone") == []


def test_prompts_stay_as_they_are_under_other_transforms(lake: Path) -> None:
    transformed(lake, "perturb:kind=change_case,rate=1", "turned", base_run="asked")
    for record in records():
        if record["text"]:
            assert texts(lake, "turned")[record["id"]] == (record["prompt"] or "") + text_change(
                parse_transform("perturb:kind=change_case,rate=1")
            )(record["id"], record["text"])  # type: ignore[misc]
    assert rows(lake, "documents", "turned")["prompt_bytes"].equals(rows(lake, "documents", "asked")["prompt_bytes"])
    assert verify(Lake(str(lake)), "turned") == []


def test_texts_changed_elsewhere_join_by_id(lake: Path, tmp_path: Path) -> None:
    file = tmp_path / "paraphrases.jsonl"
    lines = [{"id": r["id"], "text": f"Or: {r['text']}"} for r in records()[5:10]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    transformed(lake, "external:kind=or,copy=3", "others", input=[str(file)])
    assert texts(lake, "others") == {line["id"]: line["text"] for line in lines}
    joined = query(
        lake,
        "select count(*) as n from documents a join documents b using (doc_id) "
        "where a.run_id = 'base' and b.run_id = 'others'",
    )
    assert joined["n"].to_pylist() == [5]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few documents, so that a small corpus is many blocks."""
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 400)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 400)


@pytest.mark.parametrize("spec", ["perturb:kind=swap_words", "prefix:label=0,shots=1"])
def test_a_stopped_run_resumes_to_the_same_rows(
    lake: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    name = spec.partition(":")[0]
    transformed(lake, spec, f"{name}-whole")
    blocks, original = iter(range(100)), steps.WriteStep.__call__

    def stopping(self: Any, block: pa.Table) -> pa.Table:
        if next(blocks) == 2:
            raise KeyboardInterrupt
        return original(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(steps.WriteStep, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt):
            transformed(lake, spec, f"{name}-stopped")
    stopped = Lake(str(lake)).read_run(f"{name}-stopped")
    assert stopped["state"] == "interrupted"
    ledger = transformed(lake, spec, f"{name}-stopped")
    assert ledger["state"] == "finished"
    assert ledger["prefix"] == stopped["prefix"]
    for table in ("tokens", "documents"):
        assert rows(lake, table, f"{name}-stopped").equals(rows(lake, table, f"{name}-whole"))
    assert verify(Lake(str(lake)), f"{name}-stopped") == []


def test_another_transform_under_the_same_id_stops_with_a_diff(lake: Path) -> None:
    transformed(lake, "shuffle", "mixed")
    with pytest.raises(ResumeError, match="transform: was 'shuffle', now 'shuffle:seed=1'"):
        plan_of(lake, "shuffle:seed=1", "mixed")
    assert plan_of(lake, "shuffle:unit=words,copy=1", "mixed").finished


def test_runs_without_a_transform_are_what_they_were(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    """A lake of an earlier version resumes: its identities know nothing of transforms."""
    plan = make_plan(runs.config(model_folder, corpus, tmp_path))
    assert not {"transform", "base_run", "prefix", "base_digest"} & set(plan.identity)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"transform": "lowercase", "base_run": None}, "--base-run: is needed"),
        ({"transform": None}, "--transform: is needed"),
        ({"transform": "upper"}, "--transform: no transform 'upper'"),
        ({"base_run": "bass"}, "has no run 'bass'; its runs: "),
        ({"base_run": "../up"}, "run id '../up'"),
        ({"run_id": "base"}, "needs a name of its own"),
        ({"base_run": "changed"}, "it is transformed itself (lowercase); name the run it came from, base"),
        ({"base_run": "stopped"}, "it is interrupted, not finished"),
        ({"base_run": "broken"}, "its ledger does not say how it was made"),
        ({"transform": "unprompted"}, "run base has no prompts to leave out"),
        ({"text_column": "id"}, "--text-column: 'id' here, 'text' in run base"),
        ({"limit": 3}, "ends at row None of its last file, now 3"),
        ({"bos": "never"}, "another tokenizer"),
        ({"transform": "external"}, "--input: is needed"),
        ({"transform": "external", "input": "x", "base_run": "anonymous"}, "--id-column: is needed"),
        ({"transform": "prefix:label=0,shots=13"}, "has 12 documents of label 0, 13 shots are asked for"),
        ({"transform": "prefix:label=0", "base_run": "anonymous"}, "has 0 documents of label 0"),
        ({"transform": "prefix:label=0,shots=1", "base_run": "textless"}, "did not keep its texts"),
        (
            {"transform": "prefix:label=0,shots=1", "context": 16},
            "every document of label 0 in run base takes half or more of the context of 16 tokens",
        ),
        ({"transform": "prefix:label=0,file=/nowhere/f"}, "No such file"),
        ({"transform": "prefix:label=0,file=https://u:s3cret@h/f"}, "holds credentials"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    model_folder: Path, corpus: Path, lake: Path, odd_runs: None, fields: dict[str, Any], said: str
) -> None:
    job = {"lake": str(lake), "run_id": "new", "transform": "lowercase", "base_run": "base", **fields}
    with pytest.raises(ConfigError) as error:
        make_plan(ScoreConfig.parse(**inherited(job)))
    assert said in str(error.value)
    assert "s3cret" not in str(error.value)


@pytest.fixture(scope="module")
def odd_runs(model_folder: Path, corpus: Path, lake: Path) -> None:
    """Runs that cannot be a base run, or not of every transform."""
    transformed(lake, "lowercase", "changed")
    score_base(model_folder, corpus, lake, "anonymous", id_column=None, label_column=None)
    score_base(model_folder, corpus, lake, "textless", drop_text=True)
    ledger = Lake(str(lake)).read_run("base")
    Lake(str(lake)).write_run("stopped", ledger | {"run_id": "stopped", "state": "interrupted"})
    Lake(str(lake)).write_run("broken", {"run_id": "broken", "state": "finished"})


def test_another_model_or_input_is_refused(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    moved = tmp_path / "in.jsonl"
    moved.write_bytes(corpus.read_bytes())
    score_base(model_folder, moved, tmp_path / "lake")
    other = small.make_model_folder(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match=r"--model: run base was scored with another model .*leave it out"):
        plan_of(tmp_path / "lake", "lowercase", "new", model=str(other))
    moved.write_bytes(corpus.read_bytes() + b'{"id": "new", "text": "x"}\n')
    with pytest.raises(ConfigError, match=r"--base-run base: its input is another one now; .*1 file changed"):
        plan_of(tmp_path / "lake", "lowercase", "new")


def test_a_base_run_scored_anew_in_another_way_stops_the_resume(
    model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    score_base(model_folder, corpus, tmp_path)
    transformed(tmp_path, "lowercase", "lower")
    score_base(model_folder, corpus, tmp_path, overwrite="base", features=["nucleus"])
    with pytest.raises(ResumeError, match="base_digest: was"):
        plan_of(tmp_path, "lowercase", "lower")


def test_steps_that_were_sent_elsewhere_give_the_same_rows(
    lake: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the Ray engine adds to the inline one, without its processes."""
    transformed(lake, "prefix:label=0,shots=1", "here")
    of, scoring = Steps.of, Plan.scoring
    monkeypatch.setattr(Steps, "of", lambda *args: sent(of(*args)))
    monkeypatch.setattr(Plan, "scoring", lambda plan: sent(scoring(plan)))
    transformed(lake, "prefix:label=0,shots=1", "there")
    for table, order in (("tokens", "doc_id"), ("documents", "doc_id"), ("rejects", "row")):
        assert rows(lake, table, "there", order=order).equals(rows(lake, table, "here", order=order)), table


def sent(step: Any) -> Any:
    return pickle.loads(pickle.dumps(step))


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
@pytest.mark.slow
def test_both_engines_write_the_same_rows(lake: Path, small_blocks: None) -> None:
    for engine in ("inline", "ray"):
        transformed(lake, "prefix:label=0,shots=1", f"prefix-{engine}", engine=engine, actors=1)
    for table, order in (("tokens", "doc_id"), ("documents", "doc_id"), ("rejects", "row")):
        one, other = (rows(lake, table, f"prefix-{engine}", order=order) for engine in ("inline", "ray"))
        assert one.equals(other), table
