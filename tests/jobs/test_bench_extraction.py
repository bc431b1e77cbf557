"""Extraction by ranks is greedy generation, and a sampled suffix is as likely as its statistics say: on every window of
strict runs of a model that knows some texts by heart, against what `transformers` writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import by_heart
import numpy as np
import pytest
import runs
import torch
import transformers
from typer.testing import CliRunner

from jobs.bench import measure
from jobs.bench.extraction import run as extraction
from jobs.bench.extraction.generation import load_model, logit_margins, written
from jobs.bench.extraction.run import bench_extraction
from jobs.bench.extraction.windows import Sampling, Windows, read_windows
from jobs.bench.extraction.work import Subject, Work
from jobs.cli import app
from operators.catalog import connect
from operators.lake import Lake
from pipelines.base_run import inherited
from pipelines.config import ConfigError, ScoreConfig
from pipelines.plan import make_plan
from pipelines.score import score_corpus

PREFIX, SUFFIX, TOP_K = 20, 12, 20
EOS = 1
OFFSETS = range(SUFFIX)  # every window of every text
SAMPLED = Sampling(0.8, 10)
ALPHA = 1e-4  # of all draws of a test together; the seeds are fixed
pytestmark = pytest.mark.usefixtures("no_catalog")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_heart.make_model_folder(tmp_path_factory.mktemp("models") / "by_heart")


@pytest.fixture(scope="module")
def lake(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `base` and `bare`, without a BOS, and windows of theirs."""
    folder = tmp_path_factory.mktemp("lake")
    corpus = folder / "in.jsonl"
    lines = ({"id": str(i), "text": text} for i, text in enumerate(by_heart.texts()))
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for run_id, bos in (("base", "auto"), ("bare", "never")):
        runs.run(model, corpus, folder / "lake", run_id, id_column="id", precision="full", bos=bos)
    for offset in OFFSETS:
        windowed(folder / "lake", f"base-{offset}", offset=offset, features=("extremes",))
    windowed(folder / "lake", "bare-0", base_run="bare", offset=0)
    windowed(folder / "lake", "lists", offset=7, features=("topk",), top_k=TOP_K)
    return folder / "lake"


def windowed(lake: Path, run_id: str, *, offset: int, base_run: str = "base", **more: Any) -> None:
    spec = f"windows:prefix={PREFIX},suffix={SUFFIX},offset={offset}"
    fields = {"lake": str(lake), "run_id": run_id, "base_run": base_run, "transform": spec, **more}
    score_corpus(make_plan(ScoreConfig.parse(**inherited(fields))))


def windows_of(lake: Path, run_id: str, most: int = 1_000_000) -> Windows:
    return read_windows(Lake(str(lake)), [run_id], most)


@pytest.fixture(scope="module")
def lists(lake: Path) -> Windows:
    """Windows of the run that keeps top-k lists."""
    return windows_of(lake, "lists")


@pytest.fixture(scope="module")
def writer(model: Path) -> Any:
    return load_model(model, "float32", "cpu")


@pytest.fixture(scope="module")
def every(lake: Path) -> list[Windows]:
    return [windows_of(lake, f"base-{offset}") for offset in OFFSETS]


def leading(found: Any, suffix: Any) -> Any:
    return np.cumprod(found == suffix, axis=1).sum(axis=1)


def test_extraction_by_ranks_is_greedy_generation_for_every_window(every: list[Windows], writer: Any) -> None:
    """Not only whether a suffix is extractable: also how far greedy decoding follows it."""
    tried = extractable = near = 0
    for windows in every:
        found = written(writer, windows.fed, SUFFIX)
        assert np.array_equal(leading(found, windows.suffix_WS), windows.leading)
        assert np.array_equal((found == windows.suffix_WS).all(axis=1), windows.is_extractable)
        tried, extractable = tried + len(windows), extractable + int(windows.is_extractable.sum())
        near += int((windows.is_greedy_WS.sum(axis=1) == SUFFIX - 1).sum())
    assert tried > 2000
    assert 0.25 * tried < extractable < 0.75 * tried
    assert near > 30


def test_the_same_without_anything_fed_before_a_window(lake: Path, writer: Any) -> None:
    windows = windows_of(lake, "bare-0")
    assert windows.fed.shape[1] == PREFIX
    found = written(writer, windows.fed, SUFFIX)
    assert np.array_equal(leading(found, windows.suffix_WS), windows.leading)
    assert len(np.unique(windows.leading)) > 3


def test_a_token_that_ends_a_text_is_a_token_like_others(every: list[Windows], writer: Any) -> None:
    """Suffixes that hold one are extractable, and greedy decoding writes them only where it neither stops nor masks."""
    holding = [
        (fed, suffix)
        for windows in every
        for fed, suffix, is_out in zip(windows.fed, windows.suffix_WS, windows.is_extractable, strict=True)
        if is_out and EOS in suffix[:-1]
    ]
    assert len(holding) > 3
    fed, suffix = (np.stack(values) for values in zip(*holding, strict=True))
    assert np.array_equal(written(writer, fed, SUFFIX), suffix)
    masked = written(writer, fed, SUFFIX, masked=(EOS,))
    assert not (masked == suffix).all(axis=1).any()
    ids = torch.from_numpy(fed)
    stopped = writer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=SUFFIX, eos_token_id=EOS)
    for row, own in zip(stopped[:, ids.shape[1] :].tolist(), suffix.tolist(), strict=True):
        assert (row + [0] * SUFFIX)[:SUFFIX] != own


def test_what_ranks_extract_is_also_written_with_the_end_masked(every: list[Windows], writer: Any) -> None:
    """Unless the suffix itself holds it: to mask a token that is nowhere the greedy choice changes nothing."""
    windows = every[0]
    without = windows.is_extractable & ~(windows.suffix_WS == EOS).any(axis=1)
    found = written(writer, windows.fed[without], SUFFIX, masked=(EOS,))
    assert np.array_equal(found, windows.suffix_WS[without])
    assert without.sum() > 50


def test_windows_are_those_of_the_rows(lake: Path) -> None:
    """Against a plain loop over the rows of the run."""
    windows = windows_of(lake, "lists")
    by_document: dict[int, list[dict[str, Any]]] = {}
    for row in runs.rows(lake, "tokens", "lists").to_pylist():
        by_document.setdefault(row["doc_id"], []).append(row)
    i = 0
    for doc_id in windows.doc_id_W[np.sort(np.unique(windows.doc_id_W, return_index=True)[1])].tolist():
        own = by_document[doc_id]
        for start in range(0, len(own) - PREFIX - SUFFIX + 1, SUFFIX):
            prefix, suffix = own[start : start + PREFIX], own[start + PREFIX : start + PREFIX + SUFFIX]
            assert (windows.doc_id_W[i], windows.position_W[i]) == (doc_id, suffix[0]["position"])
            assert windows.fed[i].tolist() == [0, *(row["token_id"] for row in prefix)]
            assert windows.suffix_WS[i].tolist() == [row["token_id"] for row in suffix]
            assert windows.is_greedy_WS[i].tolist() == [row["topk_id"][0] == row["token_id"] for row in suffix]
            assert windows.logprob_WS[i].tolist() == [row["logprob"] for row in suffix]
            assert windows.top_id_WSK is not None
            assert windows.top_logprob_WSK is not None
            assert windows.top_id_WSK[i].tolist() == [row["topk_id"] for row in suffix]
            assert windows.top_logprob_WSK[i].tolist() == [row["topk_logprob"] for row in suffix]
            assert windows.documents[windows.document_W[i]].tolist() == [row["token_id"] for row in own]
            i += 1
    assert i == len(windows) == sum(max(0, (len(own) - PREFIX) // SUFFIX) for own in by_document.values())


@pytest.mark.parametrize("most", [1, 20, 37])
def test_the_first_documents_are_enough(lists: Windows, lake: Path, most: int) -> None:
    windows = windows_of(lake, "lists", most)
    assert most <= len(windows) < most + 20
    assert np.array_equal(windows.suffix_WS, lists.suffix_WS[: len(windows)])
    assert len(windows.documents) == windows.document_W[-1] + 1


def test_runs_of_several_offsets_are_one_set_of_windows(lists: Windows, lake: Path) -> None:
    both = read_windows(Lake(str(lake)), ["base-3", "lists"], 1_000_000)
    first = windows_of(lake, "base-3")
    assert np.array_equal(both.suffix_WS, np.concatenate([first.suffix_WS, lists.suffix_WS]))
    assert np.array_equal(both.document_W[len(first) :], lists.document_W + len(first.documents))
    assert both.top_logprob_WSK is None
    twice = read_windows(Lake(str(lake)), ["lists", "lists"], 60)
    assert twice.top_logprob_WSK is not None
    assert 60 <= len(twice) == len(twice.top_logprob_WSK) < 100


def test_rounds_cover_every_window_once(lists: Windows) -> None:
    for most in (1, 30, 10_000):
        rounds = list(lists.of_documents(most))
        assert [i for _, chosen in rounds for i in range(chosen.start, chosen.stop)] == list(range(len(lists)))
        assert [len(ids) for documents, _ in rounds for ids in documents] == [len(ids) for ids in lists.documents]
        assert all(chosen.stop - chosen.start <= most or len(documents) == 1 for documents, chosen in rounds)


@torch.no_grad()
def test_the_chance_of_a_sampled_suffix_is_that_of_the_distribution(lists: Windows, model: Path) -> None:
    """From the stored lists, against the softmax of the k largest logits in float64."""
    exact = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    fed, suffix = torch.from_numpy(lists.fed[:60]), torch.from_numpy(lists.suffix_WS[:60])
    logits = exact(input_ids=torch.cat([fed, suffix], dim=1)).logits[:, fed.shape[1] - 1 : -1]
    for sampling in (Sampling(), SAMPLED, Sampling(1.5, TOP_K), Sampling(1.0, 1)):
        scaled = logits / sampling.temperature
        if sampling.top_k is not None:
            least = scaled.topk(sampling.top_k).values[..., -1:]
            scaled = scaled.masked_fill(scaled < least, -torch.inf)
        truth = scaled.log_softmax(-1).gather(-1, suffix[..., None])[..., 0].sum(-1).numpy()
        found = lists.logprob_sampled(sampling)[:60]
        assert np.array_equal(np.isinf(found), np.isinf(truth)), sampling
        finite = np.isfinite(truth)
        assert finite.sum() > 10
        assert np.abs(found[finite] - truth[finite]).max() < 1e-3, sampling  # ln p_z of 12 tokens in float32


def test_top_1_sampling_is_greedy_decoding(lists: Windows) -> None:
    found = lists.logprob_sampled(Sampling(0.3, 1))
    assert np.array_equal(np.isfinite(found), lists.is_extractable)
    assert not found[lists.is_extractable].any()


@pytest.mark.parametrize("sampling", [Sampling(0.5), Sampling(1.0, TOP_K + 1)])
def test_lists_that_are_too_short_are_refused(lists: Windows, sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="the stored lists have 20 tokens"):
        lists.logprob_sampled(sampling)
    with pytest.raises(ValueError, match="have 0 tokens"):
        replace(lists, top_logprob_WSK=None).logprob_sampled(SAMPLED)


def draws_needed(logprob: float, p: float) -> float:
    """The smallest n for which a window of ln p_z = `logprob` is (n, p)-discoverable: ln(1 - p) / ln(1 - p_z)."""
    if logprob >= 0:
        return 1.0
    miss = math.log1p(-math.exp(logprob))
    return float(math.ceil(math.log1p(-p) / miss)) if miss < 0 else math.inf


def test_draws_needed_by_hand() -> None:
    assert draws_needed(math.log(0.5), 0.9) == 4  # 1 - 1/2^4 = 0.94, and 0.875 for 3
    assert draws_needed(math.log(0.1), 0.5) == 7
    assert draws_needed(0.0, 0.999) == draws_needed(math.log(0.99), 0.9) == 1
    assert draws_needed(-30.0, 0.5) == pytest.approx(math.log(2) * math.exp(30), rel=1e-6)
    assert draws_needed(-800.0, 0.5) == draws_needed(-math.inf, 0.1) == math.inf


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=str)
def test_the_card_says_the_same_of_every_window(lists: Windows, lake: Path, sampling: Sampling) -> None:
    """`extraction` in SQL, over the same run: what is extractable, the chance of a sampled suffix, and n for p."""
    sql = (
        f"select doc_id, position, n_greedy, is_extractable, logprob_sum, logprob_sampled, n_50, n_90 "
        f"from extraction('lists', prefix := {PREFIX}, suffix := {SUFFIX}, stride := {SUFFIX}, "
        f"temperature := {sampling.temperature}, top_k := {sampling.top_k or 0}) order by doc_id, position"
    )
    with connect(lake) as connection:
        found = connection.execute(sql).fetchnumpy()
    for name, ours in (("doc_id", lists.doc_id_W), ("position", lists.position_W)):
        assert np.array_equal(found[name], ours)
    assert np.array_equal(found["is_extractable"], lists.is_extractable)
    assert np.array_equal(found["n_greedy"], lists.is_greedy_WS.sum(axis=1))
    sampled = lists.logprob_sampled(sampling)
    for name, ours in (("logprob_sum", lists.logprob_WS.sum(axis=1)), ("logprob_sampled", sampled)):
        np.testing.assert_allclose(found[name], ours, rtol=1e-9, atol=1e-12)
    for name, p in (("n_50", 0.5), ("n_90", 0.9)):
        needed = np.array([draws_needed(float(logprob), p) for logprob in sampled])
        few = needed < 1e6  # beyond, the last digits of ln p_z decide
        assert np.array_equal(found[name][few], needed[few])
        np.testing.assert_allclose(found[name][~few], needed[~few], rtol=1e-5)
        assert few.sum() > 50


@pytest.fixture(scope="module")
def work(lists: Windows, lake: Path, model: Path) -> Work:
    return Work(Subject(str(lake), ("lists",), str(model), "float32", "cpu"), lists)


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=str)
def test_a_sampled_suffix_is_as_likely_as_its_statistics_say(work: Work, sampling: Sampling) -> None:
    drawn = work.draw(sampling, 4, 800)
    assert drawn["windows"] == 4
    assert 0 < min(drawn["hits"]) < max(drawn["hits"]) < 800
    assert drawn["lowest_p"] > ALPHA
    assert drawn["p"] > ALPHA
    for p_z, hits in zip(drawn["p_z"], drawn["hits"], strict=True):
        n = draws_needed(math.log(p_z), 0.5)  # by then, half of all who try have it
        assert 1 - (1 - p_z) ** n >= 0.5 > 1 - (1 - p_z) ** (n - 1) or n == 1
        assert abs(hits / 800 - p_z) < 4.5 * math.sqrt(p_z * (1 - p_z) / 800)


def test_another_temperature_would_be_noticed(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    chances = work.windows.logprob_sampled(SAMPLED)
    monkeypatch.setattr(Windows, "logprob_sampled", lambda windows, sampling: chances)
    drawn = work.draw(Sampling(), 4, 500)
    assert min(drawn["lowest_p"], drawn["p"]) < ALPHA


def test_margins_are_above_0_where_a_token_is_the_greedy_choice(lists: Windows, writer: Any) -> None:
    margins = logit_margins(writer, lists.fed[:40], lists.suffix_WS[:40])
    assert np.array_equal(margins > 0, lists.is_greedy_WS[:40])


def test_a_disagreement_is_found_and_shown(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run whose rows say of one token what the model does not."""
    greedy = work.windows.is_greedy_WS.copy()
    i = int(np.flatnonzero(work.windows.is_extractable)[0])
    greedy[i, 3] = False
    wrong = Work.__new__(Work)
    wrong.windows, wrong.scorer, wrong.model = replace(work.windows, is_greedy_WS=greedy), work.scorer, work.model
    compared = wrong.compare()
    assert (compared.wrong, compared.others) == ([i], [i])
    assert compared.by_generation == compared.by_ranks + 1
    expected = logit_margins(work.model, work.windows.fed[[i]], work.windows.suffix_WS[[i]])[0, 3]
    assert compared.margins == {i: pytest.approx(float(expected))}
    subject = Subject("lake", ("lists",), "model", "float32", "cpu")
    extraction._report(subject, wrong.windows, compared, {"scoring": 0, "generation": 0}, [work.draw(SAMPLED, 1, 10)])
    untried = {"sampling": "none", "windows": 0, "draws": 10, "p_z": [], "hits": [], "lowest_p": 1.0, "p": 1.0}
    found = extraction._report(subject, wrong.windows, compared, {"scoring": 0, "generation": 0}, [untried])
    assert found["lowest_p"] is None  # nothing was sampled, so no promise is met by it
    said = capsys.readouterr().out
    assert "disagreements: 1;" in said
    assert f"position {work.windows.position_W[i]}: ranks 3 tokens, logits {expected:.1e} apart (a disagr" in said


def test_the_record_holds_what_was_tried_and_how_long_it_took(
    lake: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "peak_extra_bytes", lambda *prepared: measure._peak(prepared[0], prepared[1:]))
    bench_extraction(
        Path(), str(lake), ["lists"], None, most=100, sampled=2, draws=200, temperature=0.8, device="cpu"
    )  # fmt: skip
    *table, line = capsys.readouterr().out.splitlines()
    printed = json.loads(line)
    results = printed["results"]
    assert 100 <= results["windows"] < 120
    assert results["tokens"] == results["windows"] * SUFFIX
    assert results["by_ranks"] == results["by_generation"] > 0
    assert results["disagreements"] == results["elsewhere"] == 0
    assert results["alike"] == results["alike_to_the_token"] == 1
    assert results["generation_over_scoring"] > 0
    assert [entry["sampling"] for entry in results["sampled"]] == [
        "temperature 1, all tokens",
        "temperature 0.8, top 20",
    ]
    assert results["lowest_p"] > ALPHA
    assert (printed["config"]["run_ids"], printed["config"]["dtype"]) == (["lists"], "float32")
    assert str(lake) not in line
    assert any("disagreements: 0; first token that is not greedy elsewhere: 0" in row for row in table)


@pytest.mark.parametrize(
    ("run_ids", "said"),
    [
        (["none"], "has no run 'none'"),
        (
            ["lists", "base"],
            "--run-id base: not a finished run of strict windows; make one with assay score --transform windows:",
        ),
        (["far"], "no text in it has 32 tokens, so there is no window"),
        (["lists", "bare-0"], r"its windows are 0 \+ 20 \+ 12 tokens, those of lists 1 \+ 20 \+ 12 tokens"),
        ([], "--run-id: is needed with --lake"),
    ],
)
def test_what_has_no_windows_is_refused(lake: Path, run_ids: list[str], said: str) -> None:
    if run_ids == ["far"]:
        windowed(lake, "far", offset=270)
    with pytest.raises(ConfigError, match=said):
        bench_extraction(
            Path(), str(lake), run_ids, None, most=1, sampled=1, draws=1, temperature=1.0, device="cpu"
        )  # fmt: skip


def test_another_model_is_refused(lake: Path, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="run lists was scored with another model"):
        bench_extraction(
            Path(), str(lake), ["lists"], str(model_folder), most=1, sampled=1, draws=1, temperature=1.0, device="cpu"
        )


def test_without_a_demo_the_command_says_how_to_make_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "extraction", "--folder", str(tmp_path / "demo")])
    assert done.exit_code != 0
    assert "assay demo --folder" in done.output
