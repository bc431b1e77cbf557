"""The shares at one grain with their intervals, as rows of `mixtures`, and why a share is not to be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.mixture.weights_request import DOCUMENT, FEW_DOCUMENTS, TOKEN, WeightsOptions
from operators.mixtures.em import Fit, Floats, Ints, Observations, fit_shares
from operators.mixtures.em_bytes import byte_ends
from operators.mixtures.em_intervals import Documents, Drawn, document_sums, draw_shares, interval_ends
from operators.mixtures.em_resolution import unresolved
from pipelines.config import ConfigError

CERTAIN = 0.99
FEW_LONG = 8.0  # documents of one length: of fewer, intervals of shares of bytes cover 84 to 93 % at 95 %

_METHODS = {DOCUMENT: "em_document", TOKEN: "em_token"}


@dataclass(frozen=True)
class Estimate:
    """The fit at one grain. `rows`: of `mixtures`; `certain`: share of documents with a posterior of `CERTAIN`."""

    grain: str
    fit: Fit
    rows: tuple[Mapping[str, Any], ...]
    n: int
    doc_ids: Ints
    posterior_DK: Floats
    certain: float

    @property
    def method(self) -> str:
        return _METHODS[self.grain]


def estimate(options: WeightsOptions, grain: str, observations: Observations, doc_ids: Ints) -> Estimate:
    """Fit the shares and draw their intervals; `doc_ids`: of the documents of the observations, in their order.

    Raises:
        ConfigError: there is nothing to observe.
    """
    if not len(observations):
        raise ConfigError("--grain token: no token has a prediction in all runs")
    fit = fit_shares(observations)
    documents = document_sums(observations, fit)
    drawn = draw_shares(observations, fit, documents, resamples=options.resamples, seed=options.seed)
    posterior_DK = documents.posteriors(fit.share_K)
    notes = _notes_of(options, fit, drawn, len(observations))
    if observations.n_documents < FEW_DOCUMENTS[grain]:
        few = f"of {observations.n_documents} documents: too few for an interval to keep its level"
        notes = [_joined(note, few) for note in notes]
    notes = [_joined(note, few) for note, few in zip(notes, _few_long(documents), strict=True)]
    rows = _rows(options, grain, fit, documents, drawn, len(observations), notes)
    certain = float((posterior_DK.max(axis=1) >= CERTAIN).mean())
    return Estimate(grain, fit, tuple(rows), len(observations), doc_ids, posterior_DK, certain)


def _rows(
    options: WeightsOptions, grain: str, fit: Fit, documents: Documents, drawn: Drawn, n: int,
    notes: Sequence[str | None],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    shares = interval_ends(drawn.share_RK, drawn.plain_RK, fit.share_K, options.confidence)
    bytes_K = documents.shares_of_bytes
    of_bytes = byte_ends(documents, fit, drawn, confidence=options.confidence, seed=options.seed)
    for k, name in enumerate(options.names):
        yield {
            "method": _METHODS[grain],
            "component": name,
            "share": float(fit.share_K[k]),
            "share_low": float(shares.low_K[k]),
            "share_high": float(shares.high_K[k]),
            "unit": f"{grain}s",
            "estimate": _number(bytes_K[k]),
            "estimate_low": _number(of_bytes.low_K[k]),
            "estimate_high": _number(of_bytes.high_K[k]),
            "confidence": options.confidence,
            "n": n,
            "note": notes[k],
        }


def _notes_of(options: WeightsOptions, fit: Fit, drawn: Drawn, n: int) -> list[str | None]:
    """Why a component's share is not to be trusted."""
    said: list[list[str]] = [[] for _ in options.names]
    for group in unresolved(fit, n):
        members = list(group)
        total_R, plain_R = drawn.share_RK[:, members].sum(axis=1), drawn.plain_RK[:, members].sum(axis=1)
        total = fit.share_K[members].sum()
        of_sum = interval_ends(total_R[:, None], plain_R[:, None], np.array([min(1.0, total)]), options.confidence)
        for k in group:
            others = " and ".join(options.names[other] for other in group if other != k)
            said[k].append(
                f"these texts do not tell it from {others}: what is known is the sum of their shares, {total:.3f} "
                f"({of_sum.low_K[0]:.3f} to {of_sum.high_K[0]:.3f})"
            )
    for each in said:
        if not fit.has_converged:
            each.append(f"not converged: other shares may be better by {fit.steps[-1].gap:.2g} nats an observation")
    return [_joined(*each) for each in said]


def _few_long(documents: Documents) -> Iterator[str | None]:
    """Where a component's share of bytes rests on a few long documents: (sum a)^2 / sum a^2 of them."""
    for bytes_D in documents.bytes_of_DK.T:
        squares = float((bytes_D**2).sum())
        worth = bytes_D.sum() ** 2 / squares if squares > 0 else np.inf
        said = f"its bytes are those of a few documents ({worth:.1f} of one length would be worth as much)"
        yield None if worth >= FEW_LONG else f"{said}: the interval of its share of bytes may be too short"


def _joined(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
