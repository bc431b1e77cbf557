"""The steps of an inference: a unit that fails counts once, however corpora are cut; words go through scratch whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest
from stopping import Failing
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from operators.lake import Lake
from operators.merges import Bpe, WordCounts, parse_bpe, word_counts
from pipelines import tally, units
from pipelines.engines import UnitStep
from pipelines.mixture.infer import HistoryStep, Kept, each_corpus
from pipelines.mixture.job import TokenizerMixtureJob
from pipelines.mixture.plan import plan_tokenizer_mixture
from pipelines.mixture.run import Inferred, infer_tokenizer_mixture
from pipelines.mixture.words import WordSum
from pipelines.score import RunError
from pipelines.surveyors import InlineSurveyor
from pipelines.units import Unit

TEXTS = {
    "left": [f"alpha beta alpha gamma {i} beta alpha" for i in range(60)],
    "right": [f"one two one three {i % 7} two one {'x' * (i % 5)}" for i in range(60)],
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False, special_tokens=[])  # fmt: skip
    made.train_from_iterator([text for texts in TEXTS.values() for text in texts], trainer)
    return made


@pytest.fixture
def bpe(tokenizer: Tokenizer) -> Bpe:
    return parse_bpe(tokenizer.to_str())


@pytest.fixture
def job(tokenizer: Tokenizer, tmp_path: Path) -> TokenizerMixtureJob:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for name, texts in TEXTS.items():
        for part in range(3):
            lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[part::3])
            (tmp_path / f"{name}-{part}.jsonl").write_text(lines, encoding="utf-8")
    corpora = [f"{name}={tmp_path}/{name}-*.jsonl" for name in TEXTS]
    return TokenizerMixtureJob.parse(name="m", lake=str(tmp_path / "lake"), tokenizer=str(tmp_path / "tokenizer.json"),
                                     corpora=corpora, engine="inline", numbers={"resamples": 5})  # fmt: skip


def inferred(job: TokenizerMixtureJob) -> Inferred:
    return infer_tokenizer_mixture(plan_tokenizer_mixture(job))


def numbers(found: Inferred) -> list[object]:
    counts = [(s.documents, s.n_bytes, s.sampled_bytes, s.words, s.rejected.n) for s in found.samples.values()]
    return [*counts, *map(float, found.inference.byte_share)]


def test_a_unit_that_fails_once_counts_once(job: TokenizerMixtureJob, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = inferred(job)
    monkeypatch.setattr(units, "UNIT_BYTES", 1)
    again = inferred(job)
    surveyor = Failing(tally.TallyStep, ConnectionError("lost"))
    monkeypatch.setattr("pipelines.tally.make_surveyor", lambda engine, address: nullcontext(surveyor))
    failed = inferred(job)
    assert surveyor.error is None
    assert numbers(plain) == numbers(again) == numbers(failed)
    assert [sample.documents for sample in failed.samples.values()] == [60, 60]


class Useless(InlineSurveyor):
    """Fails for good when histories are asked for."""

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        if isinstance(step, HistoryStep):
            raise ValueError("of no use")
        return super().survey(step, units)


def test_an_error_that_no_retry_mends_leaves_nothing_behind(
    job: TokenizerMixtureJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.tally.make_surveyor", lambda engine, address: nullcontext(Useless()))
    with pytest.raises(RunError, match="of no use"):
        inferred(job)
    assert not Lake(job.lake).storage.find()


def test_words_come_back_from_scratch_as_they_were(bpe: Bpe, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    words = word_counts(bpe, TEXTS["left"], range(60))
    kept = Kept("left", "mixtures/progress/m/words-0.parquet")
    kept.write(lake, words)
    assert kept.read(lake).to_table().equals(words.to_table(), check_metadata=True)
    histories, peak = each_corpus(HistoryStep(lake, bpe, 10), [kept], InlineSurveyor())
    assert peak > 50
    assert list(histories) == ["left"]
    assert histories["left"].n_bytes == sum(map(len, TEXTS["left"]))


def test_sums_do_not_depend_on_batches_or_order(bpe: Bpe) -> None:
    parts = [word_counts(bpe, [text], [i]) for i, text in enumerate(TEXTS["right"])]
    whole = word_counts(bpe, TEXTS["right"], range(60))
    forwards, backwards = WordSum(), WordSum()
    for part in parts:
        forwards.add(part)
    backwards.add_tables([part.to_table() for part in reversed(parts)])
    for held in (forwards, backwards):
        assert held.whole().to_table().equals(whole.to_table(), check_metadata=True)
    assert WordSum().whole().to_table().equals(WordCounts.none().to_table(), check_metadata=True)
