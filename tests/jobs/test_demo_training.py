"""The demonstration's model: trains, saves an ordinary folder, is reused only while it is the very same."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.demo import fit as fitting
from jobs.demo import training
from jobs.demo.corpus import DemoError, build_corpus
from jobs.demo.fit import Progress
from jobs.demo.recipe import Settings, demo_key
from jobs.demo.tokenizer import BOS_ID, EOS_ID
from jobs.demo.training import TrainingInfo, cached, train

TINY = Settings(vocabulary=512, width=32, layers=1, heads=2, inner_width=64, learning_rate=1e-2, warmup=5)
FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpus(tmp_path_factory.mktemp("demo"), 12, 12).path


@pytest.fixture(scope="module")
def trained(corpus_path: Path) -> tuple[TrainingInfo, list[Progress]]:
    seen: list[Progress] = []
    info = train(
        corpus_path, corpus_path.parent / "model", steps=45, seconds=300, on_progress=seen.append, settings=TINY
    )
    return info, seen


def texts(corpus_path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in corpus_path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_training_lowers_the_loss_and_says_where_it_is(trained: tuple[TrainingInfo, list[Progress]]) -> None:
    info, seen = trained
    assert info.loss_end < info.loss_start - 0.5
    assert (info.steps, info.planned_steps, info.documents, info.unseen) == (45, 45, 12, 0)
    assert not info.stopped_early
    assert not info.reused
    assert [p.step for p in seen] == [10, 20, 30, 40, 45]
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert seen[-1].fraction == 1
    assert seen[-1].seconds == info.seconds


def test_the_folder_loads_as_any_other(trained: tuple[TrainingInfo, list[Progress]], corpus_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained[0].folder
    assert {path.name for path in folder.iterdir()} == FILES | {training.RECEIPT_FILE}
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() == trained[0].parameters
    assert model.config.vocab_size == len(tokenizer) == trained[0].vocabulary == 512
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (BOS_ID, EOS_ID)
    assert (model.config.bos_token_id, model.config.eos_token_id) == (BOS_ID, EOS_ID)
    for text in [*texts(corpus_path), "é ☃\t\f  <s>\r\n", " leading space"]:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == BOS_ID
        assert tokenizer.decode(ids[1:]) == text
        assert len(ids) <= tokenizer.model_max_length == model.config.max_position_embeddings


def test_a_second_call_trains_nothing(trained: tuple[TrainingInfo, list[Progress]], corpus_path: Path) -> None:
    def fail(progress: Progress) -> None:
        raise AssertionError("trained again")

    info = trained[0]
    again = train(corpus_path, info.folder, steps=45, seconds=300, on_progress=fail, settings=TINY)
    assert again.reused
    assert again == replace(info, reused=True)


def test_one_seed_one_model_and_a_new_one_takes_the_place(corpus_path: Path, tmp_path: Path) -> None:
    def weights(folder: Path, seed: int) -> bytes:
        train(corpus_path, folder, seed=seed, steps=3, settings=TINY)
        return (folder / "model.safetensors").read_bytes()

    first = weights(tmp_path / "a", 1)
    assert weights(tmp_path / "b", 1) == first
    assert weights(tmp_path / "a", 2) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"], "no scratch folder stays"


def test_a_changed_file_is_noticed(corpus_path: Path, tmp_path: Path) -> None:
    key = demo_key(corpus_path, seed=0, steps=2, seconds=180.0, settings=TINY)
    info = train(corpus_path, tmp_path / "model", steps=2, settings=TINY)
    assert cached(info.folder, key) == replace(info, reused=True)
    assert cached(info.folder, "another key") is None
    weights = bytearray((info.folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (info.folder / "model.safetensors").write_bytes(weights)
    assert cached(info.folder, key) is None
    (info.folder / training.RECEIPT_FILE).write_text("[]", encoding="utf-8")
    assert cached(info.folder, key) is None
    assert cached(tmp_path / "absent", key) is None


def test_everything_that_decides_the_weights_is_in_the_key(corpus_path: Path, tmp_path: Path) -> None:
    other_corpus = tmp_path / "corpus.jsonl"
    other_corpus.write_bytes(corpus_path.read_bytes().replace(b'"copies": 27', b'"copies": 28'))
    same: dict[str, Any] = {"seed": 0, "steps": None, "seconds": 180.0, "settings": TINY}
    keys = [
        demo_key(corpus_path, **same),
        demo_key(other_corpus, **same),
        *(
            demo_key(corpus_path, **{**same, name: value})
            for name, value in (("seed", 1), ("steps", 9), ("seconds", 9.0), ("settings", Settings()))
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert demo_key(corpus_path, **same) == keys[0]


def test_a_foreign_folder_is_left_alone(corpus_path: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    for target in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(DemoError, match="not written by the demonstration"):
            train(corpus_path, target, steps=1, settings=TINY)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_failed_training_leaves_nothing_behind(corpus_path: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(corpus_path, tmp_path / "model", steps=10, on_progress=interrupt, settings=TINY)
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_slow_machine_stops_in_time_and_says_so(corpus_path: Path, tmp_path: Path) -> None:
    info = train(corpus_path, tmp_path / "model", seconds=1e-3, settings=TINY)
    assert info.stopped_early
    assert (info.steps, info.planned_steps) == (1, 30)  # 3 members of each 1, 3, 9 and 27 copies, 4 a step
    assert info.unseen >= 12 - TINY.batch


def test_bad_bounds_and_empty_corpora_are_errors(corpus_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 steps"):
        train(corpus_path, tmp_path / "model", steps=0)
    with pytest.raises(ValueError, match="-1 seconds"):
        train(corpus_path, tmp_path / "model", seconds=-1)
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"text": "nobody saw this", "label": 0, "copies": 0}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="no member to show"):
        train(held_out, tmp_path / "model")


def test_padding_changes_no_loss() -> None:
    torch.manual_seed(0)
    model = training._new_model(50, TINY)
    short, long = torch.randint(2, 50, (5,)), torch.randint(2, 50, (19,))
    with torch.no_grad():
        together = fitting.batch_loss(model, [short, long])
        alone = [fitting.batch_loss(model, [ids]) * (len(ids) - 1) for ids in (short, long)]
    torch.testing.assert_close(together, (alone[0] + alone[1]) / (4 + 18))


def test_a_round_shows_every_pass_once() -> None:
    passes = [i for i in range(7) for _ in range(i)]
    batches = fitting.batches(passes, [100 - i for i in range(7)], 4)
    shown = [i for _ in range(6) for i in next(batches)]  # 21 passes in batches of 4
    assert sorted(shown) == passes


def test_the_rate_rises_holds_and_falls_by_the_clock_too() -> None:
    fit = fitting.Fit(Settings(warmup=10, decay=0.5, learning_rate=1.0), steps=100, seconds=10.0, on_progress=None)
    rates = []
    for step in range(101):
        fit.losses = [0.0] * step
        rates.append(fit.learning_rate())
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[75] == pytest.approx(0.5)
    assert rates[100] == 0
    fit.losses, fit.elapsed = [0.0] * 30, 9.0
    assert fit.learning_rate() == pytest.approx(0.2)


def test_importing_the_module_loads_no_framework() -> None:
    code = "import sys, jobs.demo.training; print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


@pytest.mark.slow
def test_the_model_remembers_what_it_was_shown(tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score
    from transformers import AutoModelForCausalLM, AutoTokenizer

    corpus = build_corpus(tmp_path, 48, 48)
    info = train(corpus.path, tmp_path / "model", seconds=400)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(info.folder), AutoTokenizer.from_pretrained(info.folder)
    labels, scores = [], []
    for line in corpus.path.read_text(encoding="utf-8").split("\n")[:-1]:
        record = json.loads(line)
        ids = torch.tensor(tokenizer(record["text"])["input_ids"])
        with torch.no_grad():
            logprob_TV = model(ids[None]).logits[0, :-1].double().log_softmax(-1)
        mean_T = (logprob_TV.exp() * logprob_TV).sum(-1)
        std_T = (logprob_TV.exp() * (logprob_TV - mean_T[:, None]) ** 2).sum(-1).sqrt()
        z_T = (logprob_TV.gather(1, ids[1:, None])[:, 0] - mean_T) / std_T
        scores.append(z_T.sort().values[: len(z_T) // 5].mean().item())  # Min-K%++ at 20 %
        labels.append(record["label"])
    assert roc_auc_score(labels, scores) > 0.85
