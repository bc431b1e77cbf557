"""Both ways of asking what a model has memorised, about the same windows: by its ranks, and by letting it write.

    windows, some documents at a time -> Scorer.score      -> statistics
                                      -> model.generate    -> the tokens written
                                      -> count_hits        -> how often a sampled continuation is the suffix

Scoring and generation take turns, and scoring pays for whole documents, as a run does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.bench.extraction.generation import BATCH, count_hits, load_model, logit_margins, written
from jobs.bench.extraction.windows import Ints, Sampling, Windows, read_windows
from jobs.bench.measure import Timing, wall_clock
from operators.lake import Lake
from operators.model_files import Dtype, ModelOptions
from operators.score import ScoreOptions, Scorer
from operators.windows import WindowOptions

LIKELY = (0.02, 0.98)  # chances of a suffix that some thousand draws can tell from others


@dataclass(frozen=True)
class Subject:
    """What is compared: runs of strict windows, and the model that scored them."""

    lake: str
    run_ids: tuple[str, ...]
    model: str
    dtype: Dtype
    device: str
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Compared:
    """`others`: numbers of the windows whose first token that is not greedy lies elsewhere; `wrong`: those of them that
    one way calls extractable. `margins`: of each of `others`, the smallest gap between logits that decides."""

    by_ranks: int
    by_generation: int
    wrong: list[int]
    others: list[int]
    margins: dict[int, float]
    scoring: Timing
    generation: Timing


class Work:
    """A model loaded twice, for scoring and for generation, and the windows to ask both about."""

    def __init__(self, subject: Subject, windows: Windows) -> None:
        self.windows = windows
        n_prefix, n_suffix = windows.prefix_WP.shape[1], windows.suffix_WS.shape[1]
        cut = WindowOptions(n_prefix + n_suffix, n_suffix, windows.before)
        options = ModelOptions(
            subject.model, dtype=subject.dtype, device=subject.device, trust_remote_code=subject.trust_remote_code
        )
        self.scorer = Scorer(ScoreOptions(options, cut))
        self.model = load_model(
            Path(subject.model), subject.dtype, subject.device, trust_remote_code=subject.trust_remote_code
        )

    def rounds(self) -> list[tuple[list[Ints], slice]]:
        """What is asked at a time: some documents and the windows that they have."""

        return list(self.windows.of_documents(BATCH))

    def score(self, documents: Sequence[Ints]) -> dict[str, Any]:
        """Statistics of every token of some documents."""
        ids = torch.from_numpy(np.concatenate(documents))
        return self.scorer.score(ids, [len(own) for own in documents])

    def generate(self, chosen: slice) -> Ints:
        """What greedy decoding writes where the suffixes of some windows are."""

        return written(self.model, self.windows.fed[chosen], self.windows.suffix_WS.shape[1])

    def compare(self) -> Compared:
        """Ask both about every window; the first round is timed again, for what it took to warm up."""
        windows, found = self.windows, np.zeros_like(self.windows.suffix_WS)
        seconds: dict[str, list[float]] = {"scoring": [], "generation": []}
        rounds = self.rounds()
        for documents, chosen in [rounds[0], *rounds]:

            def generate(chosen: slice = chosen) -> None:
                found[chosen] = self.generate(chosen)

            seconds["scoring"].append(wall_clock(partial(self.score, documents)))
            seconds["generation"].append(wall_clock(generate))
        leading = np.cumprod(found == windows.suffix_WS, axis=1).sum(axis=1)
        others = np.flatnonzero(leading != windows.leading).tolist()
        by_generation = leading == windows.suffix_WS.shape[1]
        return Compared(
            by_ranks=int(windows.is_extractable.sum()),
            by_generation=int(by_generation.sum()),
            wrong=np.flatnonzero(by_generation != windows.is_extractable).tolist(),
            others=others,
            margins=self._margins(others, np.minimum(leading, windows.leading)),
            scoring=Timing(tuple(seconds["scoring"][1:])),
            generation=Timing(tuple(seconds["generation"][1:])),
        )

    def _margins(self, numbers: list[int], places: Ints) -> dict[int, float]:
        """How far the logits lie apart at the first token on which the two ways part, by number of the window."""

        if not numbers:
            return {}
        margins = logit_margins(self.model, self.windows.fed[numbers], self.windows.suffix_WS[numbers])
        return {i: abs(float(row[places[i]])) for i, row in zip(numbers, margins, strict=True)}

    def draw(self, sampling: Sampling, most: int, draws: int) -> dict[str, Any]:
        """Sampled continuations of up to `most` windows whose suffix is neither certain nor hopeless, evenly by chance.

        `lowest_p`: of exact binomial tests, one a window, times their number. `p`: of the sum of all hits, by its
        variance under the stored chances.
        """
        from scipy.stats import binomtest, norm

        chance = np.exp(self.windows.logprob_sampled(sampling))
        likely = np.flatnonzero((chance > LIKELY[0]) & (chance < LIKELY[1]))
        ranked = likely[np.argsort(chance[likely], kind="stable")]
        chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int))]
        p_z = chance[chosen].tolist()
        fed, suffix = self.windows.fed, self.windows.suffix_WS
        hits = [count_hits(self.model, fed[i], suffix[i], sampling, draws, seed=int(i)) for i in chosen]
        tests = [float(binomtest(h, draws, p).pvalue) for h, p in zip(hits, p_z, strict=True)]
        spread = float(np.sqrt(sum(draws * p * (1 - p) for p in p_z)))
        z = (sum(hits) - draws * sum(p_z)) / spread if hits else 0.0
        return {
            "sampling": str(sampling), "windows": len(hits), "draws": draws, "p_z": p_z, "hits": hits,
            "lowest_p": min(1.0, min(tests, default=1.0) * max(1, len(tests))), "p": float(2 * norm.sf(abs(z))),
        }  # fmt: skip


def prepare(subject: Subject, most: int, name: str) -> Callable[[], Any]:
    """One way of asking in a process of its own, for the peak memory of its first round after one small one."""
    torch.set_num_threads(1)
    work = Work(subject, read_windows(Lake(subject.lake), subject.run_ids, most))
    documents, chosen = work.rounds()[0]
    if name == "scoring":
        work.score([documents[0][:8]])
        return lambda: work.score(documents)
    work.generate(slice(1))
    return lambda: work.generate(chosen)
