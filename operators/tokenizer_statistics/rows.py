"""Counts to rows of `tokenizer_statistics`: every statistic of every tokenizer, on all documents and by domain.

counts -> view of a tokenizer on all, on each domain -> formula -> value, interval -> row
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from operators.tokenizer_statistics.counts import ProfileCounts
from operators.tokenizer_statistics.formulas import ratio
from operators.tokenizer_statistics.jackknife import Interval, Values, interval, jackknife, spread, together, wilson
from operators.tokenizer_statistics.probe import TokenizerProbe
from operators.tokenizer_statistics.registry import STATISTICS, Definition
from operators.tokenizer_statistics.text_facts import Flags
from operators.tokenizer_statistics.views import View
from schemas.tokenizer_statistics import TOKENIZER_STATISTICS


@dataclass(frozen=True)
class StatisticsOptions:
    """confidence: level of the intervals. baseline_domain: that `premium_by_bytes` is against, None for none.
    baseline_tokenizer: that `relative_tokens` is against, None for the first.

    Raises:
        ValueError: a confidence that is no level.
    """

    confidence: float = 0.95
    baseline_domain: str | None = None
    baseline_tokenizer: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence {self.confidence}: expected a level between 0 and 1, as 0.95")


@dataclass(frozen=True)
class Place:
    """What a row is about. number: of the domain, None for all documents."""

    probe: TokenizerProbe
    domain: str | None
    number: int | None
    view: View

    def row(
        self, definition: Definition, value: float | None, ends: Interval | None, confidence: float, n: int
    ) -> dict[str, Any]:
        """`n`: documents behind it. Values that are not finite are NULL, and ends stay within what can be."""
        defined = value is not None and math.isfinite(value)
        low, high = ends if ends is not None and defined else (None, None)
        return {
            "tokenizer": self.probe.name,
            "part": "all" if self.number is None else "domain",
            "domain": self.domain,
            "statistic": definition.name,
            "baseline": None,
            "value": value if defined else None,
            "value_low": None if low is None else max(low, definition.minimum),
            "value_high": high if high is None or definition.maximum is None else min(high, definition.maximum),
            "confidence": None if low is None else confidence,
            "unit": definition.unit,
            "n": n,
            "tokenizer_fingerprint": self.probe.fingerprint,
        }


def statistic_rows(
    counts: ProfileCounts, probes: Sequence[TokenizerProbe], options: StatisticsOptions | None = None
) -> pa.Table:
    """All statistics but those of parallel text, as `TOKENIZER_STATISTICS` without its partition, sorted.

    Raises:
        ValueError: a baseline that was not counted.
    """
    options = options or StatisticsOptions()
    baseline = _baseline(probes, options)
    if options.baseline_domain is not None and options.baseline_domain not in counts.domains:
        raise ValueError(f"baseline domain {options.baseline_domain!r}: no document that was counted is of it")
    for each in counts.tokenizers:
        each.limit_pairs()
    # Without domains, rows of the documents without one would repeat those of all.
    numbers = [None, *(range(len(counts.domains)) if counts.domains != [None] else ())]
    rows = []
    for number in numbers:
        for k in range(len(probes)):
            # A view keeps what it has summed up: that of one tokenizer goes before the next comes.
            place = _place(counts, probes[k], k, number)
            rows += [statistic_row(place, each, options.confidence) for each in STATISTICS.values() if each.compute]
        places = [_place(counts, probe, k, number) for k, probe in enumerate(probes)]
        rows += _relative(places, baseline, options.confidence)
        if number is not None and options.baseline_domain not in (None, counts.domains[number]):
            against = counts.domains.index(options.baseline_domain)
            rows += [_by_bytes(place, against, options) for place in places]
    return as_table(rows)


def as_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows in the declared schema and order."""
    schema = TOKENIZER_STATISTICS.arrow()
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
    return table.sort_by([(name, "ascending") for name in TOKENIZER_STATISTICS.sorted_by])


def _place(counts: ProfileCounts, probe: TokenizerProbe, k: int, number: int | None) -> Place:
    domain = None if number is None else counts.domains[number]
    return Place(probe, domain, number, View(counts.tokenizers[k], probe.vocabulary, number))


def _baseline(probes: Sequence[TokenizerProbe], options: StatisticsOptions) -> int:
    names = [probe.name for probe in probes]
    if options.baseline_tokenizer is None:
        return 0
    if options.baseline_tokenizer not in names:
        raise ValueError(f"baseline tokenizer {options.baseline_tokenizer!r}: expected one of {', '.join(names)}")
    return names.index(options.baseline_tokenizer)


def statistic_row(place: Place, definition: Definition, confidence: float) -> dict[str, Any]:
    """One statistic of one tokenizer in one place, with its interval where it has one."""
    view = place.view
    behind = {
        "documents": lambda: int(view.counter("documents")[0]),
        "checked": lambda: int(view.counter("checked")[0]),
        "pairs": lambda: int(view.pair_documents.sum()),
    }[definition.behind]()
    assert definition.compute is not None
    values = definition.compute(view) if behind else None
    if values is None:
        return place.row(definition, None, None, confidence, behind)
    ends: Interval | None = None
    if definition.method == "wilson":
        ends = wilson(float(values[0]) * behind, behind, confidence) if math.isfinite(values[0]) else None
    elif definition.method == "jackknife":
        occupied = view.pair_documents > 0 if definition.behind == "pairs" else view.occupied
        ends = _jackknife(values, occupied, definition, confidence)
    return place.row(definition, float(values[0]), ends, confidence, behind)


def _jackknife(values: Values, occupied: Flags, definition: Definition, confidence: float) -> Interval | None:
    minimum, maximum = -math.inf, math.inf
    if definition.unit == "share":
        minimum, maximum = 0.0, 1.0
    elif definition.minimum:
        minimum = definition.minimum
    return jackknife(values, occupied, confidence, minimum, maximum)


def _relative(places: Sequence[Place], baseline: int, confidence: float) -> Iterator[dict[str, Any]]:
    """Tokens of every other tokenizer over those of the baseline, on the same documents."""
    definition = STATISTICS["relative_tokens"]
    base = places[baseline]
    for place in places:
        if place is base:
            continue
        values = ratio(place.view.counter("tokens"), base.view.counter("tokens"))
        ends = _jackknife(values, place.view.occupied, definition, confidence)
        n = int(place.view.counter("documents")[0])
        yield {**place.row(definition, float(values[0]), ends, confidence, n), "baseline": base.probe.name}


def _by_bytes(place: Place, against: int, options: StatisticsOptions) -> dict[str, Any]:
    """Tokens a byte over those of the baseline domain; both are taken for independent."""
    definition = STATISTICS["premium_by_bytes"]
    base = View(place.view.counts, place.probe.vocabulary, against)
    here, there = (ratio(view.counter("tokens"), view.counter("bytes")) for view in (place.view, base))
    spreads = spread(ratio(here, there[:1]), place.view.occupied), spread(ratio(here[:1], there), base.occupied)
    both = None if spreads[0] is None or spreads[1] is None else together(spreads[0], spreads[1])
    value = float(here[0] / there[0])
    ends = interval(value, both, options.confidence)
    n = int(place.view.counter("documents")[0] + base.counter("documents")[0])
    return {**place.row(definition, value, ends, options.confidence, n), "baseline": options.baseline_domain}
