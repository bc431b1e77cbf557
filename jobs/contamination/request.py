"""What `assay contamination` is asked, checked as far as can be said without a lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from operators.contamination.evidence import CONTAMINATED, KINDS
from operators.contamination.memorised import MIN_TOKENS
from operators.contamination.overlap import DEFAULT_SHARE, Rule, parse_rule
from operators.contamination.verdict import INCOMPLETE
from pipelines.config import ConfigError
from schemas import check_run_id
from schemas.overlaps import check_overlap

FAIL_ON: Mapping[str, tuple[str, ...]] = {
    CONTAMINATED: (CONTAMINATED,),
    INCOMPLETE: (CONTAMINATED, INCOMPLETE),
}


@dataclass(frozen=True)
class ContaminationOptions:
    """What is to be judged, as the flags of `assay contamination` say it.

    `benchmarks` are runs whose documents are the items. `clean` names a run of items that the model has certainly not
    seen, `clean_where` says by SQL over `documents` which of a benchmark's own are. `overlaps`: names; none: those of
    the same files. `fail_on`: outcomes that end the command with exit code 3. `scores`, `splits`, `seed` and `draws`
    are those of `assay dataset-inference`; of several splits, so that the p-value hangs less on how one fell.
    """

    lake: str
    benchmarks: Sequence[str]
    overlaps: Sequence[str] = ()
    clean: str | None = None
    clean_where: str | None = None
    alpha: float = 0.05
    max_overlap: float = 0.0
    overlap_rule: str = f"share:{DEFAULT_SHARE:g}"
    min_answer_tokens: int = MIN_TOKENS
    require: Sequence[str] = ()
    fail_on: str | None = None
    scores: Sequence[str] = ()
    splits: int = 5
    seed: int = 0
    draws: int = 100
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        faults = [*_faults(self)]
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def rule(self) -> Rule:
        return parse_rule(self.overlap_rule)


def _faults(options: ContaminationOptions) -> Iterator[str]:
    yield from _name_faults("--benchmark", options.benchmarks, check_run_id)
    yield from _name_faults("--overlap", options.overlaps, check_overlap)
    if not options.benchmarks:
        yield "--benchmark: name at least one run of a benchmark"
    if options.clean is not None and options.clean_where is not None:
        yield "--clean and --clean-where: a clean set is a run of its own or a part of the benchmark, not both"
    if options.clean in options.benchmarks:
        yield f"--clean {options.clean}: it is a benchmark itself; --clean-where says which of its items are clean"
    yield from _number_faults(options)
    if strange := [kind for kind in options.require if kind not in KINDS]:
        yield f"--require: no evidence is called {', '.join(map(repr, strange))}: choose {', '.join(KINDS)}"
    if options.fail_on not in (None, *FAIL_ON):
        yield f"--fail-on: {options.fail_on!r}, expected {' or '.join(FAIL_ON)}"


def _number_faults(options: ContaminationOptions) -> Iterator[str]:
    yield from _said("--overlap-rule", parse_rule, options.overlap_rule)
    if not 0 < options.alpha < 1:
        yield f"--alpha: {options.alpha:g}, expected a share above 0 and below 1"
    if not 0 <= options.max_overlap <= 1:
        yield f"--max-overlap: {options.max_overlap:g}, expected a share from 0 to 1"
    if options.min_answer_tokens < 1:
        yield f"--min-answer-tokens: {options.min_answer_tokens}, expected 1 or more"
    if options.splits < 1:
        yield f"--splits: {options.splits}, expected 1 or more"


def _name_faults(flag: str, names: Sequence[str], check: Callable[[str], object]) -> Iterator[str]:
    for name in names:
        yield from _said(flag, check, name)
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        yield f"{flag}: {', '.join(twice)} is named twice"


def _said(flag: str, check: Callable[[str], object], value: str) -> Iterator[str]:
    try:
        check(value)
    except ValueError as error:
        yield f"{flag}: {error}"
