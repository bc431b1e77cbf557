"""Says how sure the inferred shares are: resamples of whole documents, candidates alike, slack that samples explain.

    counts by group of documents -> draws of groups -> counts -> program with the same rows, solved from its last basis

What the interval covers: the candidates are samples, and the trainer's data were one too. Each corpus' groups of
documents are drawn with random weights of mean 1, and of variance 1 for the sample and S / (a T) for what the trainer
had of it: S bytes of sample, a share a of T bytes of training data. Who does not know T takes as much as all samples
together: too much noise where the trainer had more, as most have; too little where it had less, and then sound
candidates look like a misfit. What it does not cover: candidates that differ in kind from what was trained on, a source
that is missing, documents that are near-copies across groups, rules of the trainer other than the most frequent pair.
Of those speak `misfit` and `alike`.

The interval: the share and, to either side, the farther of the draws' two percentiles, widened by t / z for the number
of groups. Draws lean to one side. At 95 %, in 40 made-up worlds of 181 shares (500 kB trained on, 600 merges, samples
of 150 kB), it held the truth 98 % of the time.

When to speak of a misfit: over the same worlds it was 1.0 in the middle and 1.3 at most; over 29 worlds of 2 to 5 real
sources (300 to 2,500 merges, 0.2 to 3 MB trained on and known to be, samples of 0.1 to 1.6 MB) 1.2 and 1.6. With the
size of the trainer's data taken for that of the samples, 10 of the 29 were above `MISFIT`: none of those that had at
most twice as much sample as training data. Of missing sources, at that size, those of a share above 0.3 were all found,
of 0.1 to 0.3 14 of 15; smaller ones may not be.
Letters: `L` corpora, `R` constraints held, `G` groups of documents, `B` draws.
Source: Newton & Raftery 1994 (weighted likelihood bootstrap); its use here is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from operators.merges.bpe import Integers
from operators.merges.history import GroupCounts
from operators.merges.inference import TELLING, Inference, byte_shares, telling_rows
from operators.merges.program import Program, Rows
from operators.merges.stretches import Floats

CONFIDENCE = 0.95
RESAMPLES = 60
MISFIT = 1.6
ALIKE = 1.5

_FEWEST_GROUPS = 8
_MOST_SPREAD = 4.0  # of a draw's S / (a T): so few groups cannot play fewer documents
_FEWEST_COUNTS = 10


@dataclass(frozen=True)
class Sampled:
    """How sure the shares are.

    Attributes:
        byte_low, byte_high, pair_low, pair_high: [L] ends of the intervals; NaN where there are none: too few
            groups of documents, or no draw that moves the share.
        resamples, confidence, seed: of the intervals.
        alike: pairs of candidates whose merges differ no more than samples of one corpus do: the sum of their
            shares is to be trusted, not how it is split.
        misfit: total slack over what sampling alone is expected to leave; near 1 or below where the candidates explain
            the merges, NaN where it cannot be told.
        is_misfit: `misfit` is above `MISFIT`: a source is missing, or the trainer had other rules.
        notes: sentences on what the numbers cannot show.
    """

    byte_low: Floats
    byte_high: Floats
    pair_low: Floats
    pair_high: Floats
    resamples: int
    confidence: float
    seed: int
    alike: tuple[tuple[str, str], ...]
    misfit: float
    is_misfit: bool
    notes: tuple[str, ...]


def sample_mixture(
    inference: Inference,
    counts: Mapping[str, GroupCounts],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    training_bytes: float | None = None,
) -> Sampled:
    """Intervals of the shares, and what speaks against them.

    Args:
        inference: of `infer_mixture`.
        counts: of each candidate, for `inference.queries`.
        confidence: level of the intervals.
        resamples: draws, each a linear program.
        training_bytes: size of the trainer's data, infinity for far more than the samples; those of all samples
            together where it is not known.

    Raises:
        ValueError: level outside (0, 1), no draws, no training data, or counts of other candidates.
        ProgramError: the solver gave up.
    """
    if not 0 < confidence < 1 or resamples < 1 or (training_bytes is not None and not training_bytes > 0):
        raise ValueError("confidence must lie between 0 and 1, draws be at least 1, and training data some bytes")
    if set(counts) != set(inference.names):
        raise ValueError("the counts by group are not those of the candidates")
    corpora = [_Corpus(inference, counts[name]) for name in inference.names]
    used = [corpus for corpus in corpora if corpus.is_used]
    spread = _spread(inference, corpora, training_bytes)
    fewest = min(corpus.n_groups for corpus in used)
    blank = np.full(len(corpora), np.nan)
    byte_ends = pair_ends = (blank, blank)
    if fewest >= _FEWEST_GROUPS:
        drawn = _draw(inference, corpora, resamples, seed, np.minimum(spread, _MOST_SPREAD))
        widening = float(stdtrit(fewest - 1, (1 + confidence) / 2) / NormalDist().inv_cdf((1 + confidence) / 2))
        byte_ends = _ends(inference.byte_share, drawn.byte_BL, confidence, widening)
        pair_ends = _ends(inference.pair_share, drawn.pair_BL, confidence, widening)
    # A point is no interval: where no draw moves a share, the draws do not say how far it may be off.
    still = (byte_ends[0] == byte_ends[1]) & (inference.pairs_per_byte > 0) & (len(used) > 1)
    byte_low, byte_high, pair_low, pair_high = (np.where(still, np.nan, end) for end in (*byte_ends, *pair_ends))
    misfit = _misfit(inference, corpora, spread) if fewest > 1 else float("nan")
    alike = _alike(inference, corpora)
    return Sampled(
        byte_low=byte_low,
        byte_high=byte_high,
        pair_low=pair_low,
        pair_high=pair_high,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        alike=alike,
        misfit=misfit,
        is_misfit=misfit > MISFIT,
        notes=tuple(_notes(inference, fewest, still, alike, misfit)),
    )


class _Corpus:
    """The counts of one candidate by group: [G] `n_pairs`, [S, G] of the merges, [R, G] lead of merges over pairs."""

    def __init__(self, inference: Inference, counts: GroupCounts) -> None:
        n_chosen = len(inference.queries.step) - len(inference.rows)
        self.n_pairs = counts.n_pairs.astype(np.float64)
        self.n_bytes = counts.n_bytes.astype(np.float64)
        self.chosen = np.zeros((inference.steps, len(self.n_pairs)))
        np.add.at(self.chosen, inference.queries.step[:n_chosen], counts.count[:n_chosen])
        self.lead = self.chosen[inference.rows.step] - counts.count[n_chosen:]
        self.n_groups = int((self.n_pairs > 0).sum())
        self.is_used = self.n_groups > 0

    def variance(self, counts: Floats) -> Floats:
        """[...] of the shares that counts [..., G] are of the corpus' pairs, groups as independent units."""
        if self.n_groups < 2:
            return np.zeros(counts.shape[:-1])
        total = self.n_pairs.sum()
        share = counts.sum(axis=-1, keepdims=True) / total
        squares = ((counts - share * self.n_pairs) ** 2).sum(axis=-1)
        return np.asarray(squares / total**2 * self.n_groups / (self.n_groups - 1), np.float64)


@dataclass(frozen=True)
class _Drawn:
    """Shares [B, L] of every draw, less those that the same program gives the samples as they are."""

    byte_BL: Floats
    pair_BL: Floats


def _spread(inference: Inference, corpora: Sequence[_Corpus], training_bytes: float | None) -> Floats:
    """[L] S / (a T): variance of what the trainer had of a corpus over that of the sample."""
    sizes = np.array([corpus.n_bytes.sum() for corpus in corpora])
    trained_on = inference.byte_share * (sizes.sum() if training_bytes is None else training_bytes)
    return sizes / np.maximum(trained_on, 1.0)


def _draw(inference: Inference, corpora: Sequence[_Corpus], resamples: int, seed: int, spread: Floats) -> _Drawn:
    """How every draw moves the shares."""
    generator = np.random.default_rng(seed)
    empty = np.flatnonzero([not corpus.is_used for corpus in corpora])
    chosen, held = telling_rows(inference.solution.dual, TELLING), inference.rows
    rows = Rows(held.lead[:, chosen], held.step[chosen], held.pair[chosen])
    leads = [corpus.lead[chosen] for corpus in corpora]
    n_pairs = int(rows.pair.max(initial=-1)) + 1
    program = Program(len(corpora), inference.steps, n_pairs, inference.unit, empty)
    program.add(rows.step, rows.pair, rows.lead)
    pair_share = program.minimise_slack().mixture
    byte_share = byte_shares(pair_share, inference.pairs_per_byte)
    drawn = _Drawn(np.empty((resamples, len(corpora))), np.empty((resamples, len(corpora))))
    for draw in range(resamples):
        lead, per_byte = np.zeros_like(rows.lead), np.zeros(len(corpora))
        for place, corpus in enumerate(corpora):
            if not corpus.is_used:
                continue
            weight = _weights(generator, corpus.n_groups, len(corpus.n_pairs), spread[place])
            pairs = weight @ corpus.n_pairs
            lead[place] = leads[place] @ weight / pairs
            per_byte[place] = pairs / (weight @ corpus.n_bytes)
        program.relead(lead)
        other = program.minimise_slack().mixture
        drawn.pair_BL[draw], drawn.byte_BL[draw] = other - pair_share, byte_shares(other, per_byte) - byte_share
    return drawn


def _weights(generator: np.random.Generator, n_groups: int, size: int, spread: float) -> Floats:
    """[G] of mean 1; their variance makes up for the sums being over `n_groups` groups only."""
    variance = (1 + spread) * n_groups / (n_groups - 1)
    return generator.gamma(1 / variance, variance, size)


def _ends(share: Floats, drawn_BL: Floats, confidence: float, widening: float) -> tuple[Floats, Floats]:
    low, high = np.quantile(drawn_BL, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    half = widening * np.maximum(np.maximum(-low, high), 0)
    return np.clip(share - half, 0, 1), np.clip(share + half, 0, 1)


def _misfit(inference: Inference, corpora: Sequence[_Corpus], spread: Floats) -> float:
    """The least slack is the sum of violations, each times its row's dual; so is the slack expected of their errors."""
    variance = np.zeros(len(inference.rows))
    for share, corpus, own in zip(inference.pair_share, corpora, spread, strict=True):
        variance += share**2 * (1 + own) * corpus.variance(corpus.lead)
    expected = float(np.maximum(inference.solution.dual, 0) @ np.sqrt(variance))
    if not expected:
        return float("nan") if inference.objective else 0.0
    return inference.objective / expected


def _alike(inference: Inference, corpora: Sequence[_Corpus]) -> tuple[tuple[str, str], ...]:
    """Pairs of candidates whose shares of the merges differ by what their samples' errors allow."""
    share = [corpus.chosen.sum(axis=1) / max(1.0, corpus.n_pairs.sum()) for corpus in corpora]
    variance = [corpus.variance(corpus.chosen) for corpus in corpora]
    alike = []
    for first, one in enumerate(corpora):
        for second, other in enumerate(corpora[:first]):
            counted: Integers = np.flatnonzero(
                (one.chosen.sum(axis=1) + other.chosen.sum(axis=1) >= _FEWEST_COUNTS)
                & (variance[first] + variance[second] > 0)
            )
            if not len(counted):
                continue
            apart = (share[first] - share[second])[counted] ** 2 / (variance[first] + variance[second])[counted]
            if float(np.mean(apart)) < ALIKE:
                alike.append((inference.names[second], inference.names[first]))
    return tuple(alike)


def _notes(
    inference: Inference,
    fewest: int,
    still: npt.NDArray[np.bool_],
    alike: tuple[tuple[str, str], ...],
    misfit: float,
) -> list[str]:
    notes = []
    if names := [name for name, is_still in zip(inference.names, still, strict=True) if is_still]:
        notes.append(
            f"No interval for {', '.join(names)}: no draw moved a share from where it is, and that is no proof."
        )
    if fewest < _FEWEST_GROUPS:
        notes.append("No intervals: a candidate has too few documents to be drawn again.")
    notes += [
        f"{one} and {other} differ no more than two samples of one kind of text do: trust the sum of their shares, not "
        "how it is split."
        for one, other in alike
    ]
    if len(inference.names) - len(inference.empty) == 1:
        notes.append("With one candidate its share is 1 whatever the tokenizer was trained on.")
    if misfit > MISFIT:
        notes.append(
            f"The merges break the order of the counts {misfit:.1f} times as much as samples explain: a source is "
            "missing from the candidates or differs from them in kind, or the trainer had other rules, or less text "
            "than is taken here. The shares are of what comes nearest."
        )
    if inference.merges_unseen:
        notes.append(f"{inference.merges_unseen} of {inference.steps} merges are in no candidate.")
    return notes
