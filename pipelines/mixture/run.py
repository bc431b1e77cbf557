"""Infers what a tokenizer was trained on from samples of candidate corpora.

    corpora -> weigh (tally) -> which documents are sampled -> words by group (tally) -> scratch of the lake
            -> pair counts at every merge (a task a corpus) -> linear program -> shares
            -> counts by group of what decided (a task a corpus) -> intervals

Nothing is kept before all is done: a command that was stopped begins anew, and the lake keeps what it had.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow.compute as pc

from operators.merges import Inference, InferenceError, ProgramError, Sampled, infer_mixture, sample_mixture
from pipelines.mixture.infer import GroupStep, HistoryStep, Kept, each_corpus, peak_mib
from pipelines.mixture.job import read_options
from pipelines.mixture.plan import TokenizerMixturePlan
from pipelines.mixture.sample import Draw, Weight
from pipelines.mixture.words import WeighWork, WordSum, WordWork
from pipelines.score import RunError
from pipelines.surveyors import Surveyor
from pipelines.tally import Corpus, Rejected, surveying, tally

MAX_WORDS = 1_000_000  # distinct ones of a corpus; the rarest go beyond. Pair counts of so many take about 1 GB


@dataclass(frozen=True)
class CandidateSample:
    """What is used of one corpus. Bytes are of UTF-8 text; `pieces` are documents, or stretches of long ones.

    `words`: distinct ones; `left_out`: occurrences of rare words beyond the most that are held.
    """

    documents: int
    n_bytes: int
    sampled_bytes: int
    sampled_pieces: int
    share: float
    words: int
    left_out: int
    rejected: Rejected


@dataclass
class Inferred:
    """Everything that was found. `seconds`: by phase. `peak_mib`: of the largest process, from its start to a phase."""

    plan: TokenizerMixturePlan
    samples: Mapping[str, CandidateSample]
    inference: Inference
    sampled: Sampled
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_mib: Mapping[str, float] = field(default_factory=dict)


class Watch:
    """Seconds and peak memory by phase, in the order begun."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
            self.saw(name, peak_mib())

    def saw(self, name: str, peak: float) -> None:
        """A process of the phase came to `peak` MiB."""
        self.peak_mib[name] = max(peak, self.peak_mib.get(name, 0.0))


def infer_tokenizer_mixture(plan: TokenizerMixturePlan) -> Inferred:
    """Count and infer; nothing is kept.

    Raises:
        RunError: a worker failed, no corpus holds a word or a pair of the tokenizer, or the solver gave up.
    """
    job, watch = plan.job, Watch()
    kept = [Kept(name, f"{plan.scratch}/words-{i}.parquet") for i, name in enumerate(plan.listings)]
    try:
        with surveying(job.reading.engine, job.reading.address) as surveyor:
            samples = {each.corpus: _sample(plan, each, i, surveyor, watch) for i, each in enumerate(kept)}
            if not any(sample.words for sample in samples.values()):
                raise RunError(f"no corpus holds a word that could be counted; {_why(samples)}")
            with watch.phase("merge"):
                histories, peak = each_corpus(HistoryStep(plan.lake, plan.bpe, job.max_merges), kept, surveyor)
                watch.saw("merge", peak)
            with watch.phase("solve"):
                inference = infer_mixture(histories)
            del histories
            with watch.phase("resample"):
                groups, peak = each_corpus(GroupStep(plan.lake, plan.bpe, inference.queries), kept, surveyor)
                watch.saw("resample", peak)
                sampled = sample_mixture(
                    inference, groups, confidence=job.confidence, resamples=job.resamples, seed=job.seed,
                    training_bytes=job.training_bytes,
                )  # fmt: skip
    except (InferenceError, ProgramError) as error:
        raise RunError(str(error)) from None
    finally:
        with contextlib.suppress(OSError):
            _clear(plan, kept)
    return Inferred(plan, samples, inference, sampled, watch.seconds, watch.peak_mib)


def _sample(plan: TokenizerMixturePlan, kept: Kept, number: int, surveyor: Surveyor, watch: Watch) -> CandidateSample:
    """Weigh a corpus, count the words of its sample and keep them in the scratch."""
    job, name = plan.job, kept.corpus
    read = read_options(job.corpora[name])
    corpus = Corpus(f"corpus-{number}", plan.listings[name], read, plan.lake, plan.scratch)
    draw, weight, words = Draw(job.seed), Weight.none(), WordSum()
    with watch.phase("weigh"):
        tally(corpus, WeighWork(draw), weight.add_tables, surveyor)
    draw = Draw(job.seed, weight.least_bin(job.sample_bytes))
    with watch.phase("count"):
        rejected = tally(corpus, WordWork(plan.bpe, draw), words.add_tables, surveyor)
        whole = words.whole().pruned(MAX_WORDS)
        kept.write(plan.lake, whole)
    sampled_bytes, sampled_pieces = weight.sampled(draw.least)
    return CandidateSample(
        weight.documents, weight.n_bytes, sampled_bytes, sampled_pieces, draw.share,
        pc.count_distinct(whole.rows["word"]).as_py(), whole.left_out, rejected,
    )  # fmt: skip


def _why(samples: Mapping[str, CandidateSample]) -> str:
    said = [f"{name}: {sample.rejected.said or 'no record'}" for name, sample in samples.items()]
    return "; ".join(said)


def _clear(plan: TokenizerMixturePlan, kept: list[Kept]) -> None:
    """Remove the words, and the folders that this empties."""
    storage = plan.lake.storage
    for each in kept:
        storage.delete(each.path)
    folder = plan.scratch
    while folder:
        storage.delete_empty_folder(folder)
        folder = folder.rpartition("/")[0]
