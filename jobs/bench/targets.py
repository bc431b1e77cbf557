"""What Assay's speed is measured against: every target, where its number lies in a record, and the rule that decides.

    assay bench targets infra/benchmarks/2026-11-21-cpu-2-cores.txt

judges a stored record again. A target without a number is `not measured` with the reason, never left out: a table that
shows only what was met says nothing. Quick runs are measured over too little to be quoted, and say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import typer

from jobs.bench.measure import show

Sense = Literal["at least", "at most", "stated"]
Word = Literal["met", "not met", "not measured"]
Line = Mapping[str, Any]

SUITE = "all"  # the line that `assay bench all` writes of itself
_CUDA = {"device": "cuda", "shape": "1b", "hardware": ("h100", "h200")}
_CUDA_NEEDS = "a CUDA device, an H100 or H200"
_HARNESS = "lm-evaluation-harness, batch 1"
_LOOP = "research loop, with ranks"
_BENCH = "the extra bench"


@dataclass(frozen=True)
class Target:
    """One promise. `says`: in words. `path`: keys to the number in `results` of the line of `benchmark` whose `config`
    holds `where` (a tuple: any of these). `needs`: what the measurement needs, said where it is missing."""

    says: str
    benchmark: str
    path: tuple[str, ...]
    sense: Sense
    limit: float = 0.0
    unit: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""

    def met_by(self, value: float) -> bool:
        """Whether a measured number keeps the promise."""
        if self.sense == "stated":
            return True
        return value >= self.limit if self.sense == "at least" else value <= self.limit

    @property
    def wanted(self) -> str:
        return "stated" if self.sense == "stated" else f"{self.sense} {shown(self.limit, self.unit)}"


@dataclass(frozen=True)
class Verdict:
    """`value`: what was measured, None where nothing was; then `why` says the reason."""

    target: Target
    word: Word
    value: float | None = None
    why: str = ""


def _cuda(says: str, path: tuple[str, ...], sense: Sense, limit: float = 0.0, unit: str = "") -> Target:
    return Target(f"CUDA: {says}", "device", path, sense, limit, unit, _CUDA, _CUDA_NEEDS)


def _cpu(says: str, shape: str, variant: str, limit: float, needs: str = "") -> Target:
    path = (variant, "assay_is_faster_by")
    return Target(f"CPU, {shape}: {says}", "score", path, "at least", limit, "x", {"shape": shape}, needs)


def _calibration(says: str, path: tuple[str, ...], sense: Sense, limit: float) -> Target:
    return Target(f"Calibration: {says}", "calibration", path, sense, limit, "", {"enough": True}, "1,000 samples")


def _extraction(says: str, path: tuple[str, ...], sense: Sense, limit: float = 0.0, unit: str = "") -> Target:
    where = {"dtype": "float32"}
    return Target(f"Extraction: {says}", "extraction", path, sense, limit, unit, where, "the demo, in float32")


def _mixture(says: str, path: tuple[str, ...], sense: Sense, limit: float, unit: str = "") -> Target:
    where = {"merges": 30_000, "sources": 5}
    return Target(f"Mixture: {says}", "mixture", path, sense, limit, unit, where, "30,000 merges")


def _overlap(
    says: str, path: tuple[str, ...], sense: Sense, limit: float, unit: str = "", needs: str = "1 GB of text"
) -> Target:
    return Target(f"Overlap: {says}", "overlap", path, sense, limit, unit, {"size": 10**9, "n": 13}, needs)


def _resume(says: str, path: tuple[str, ...], sense: Sense, limit: float = 0.0, unit: str = "") -> Target:
    return Target(f"A million shards: {says}", "resume", ("1000000", *path), sense, limit, unit)


def _scaling(says: str, path: tuple[str, ...], sense: Sense, limit: float = 0.0, unit: str = "") -> Target:
    where = {"enough": True}
    return Target(f"Scaling: {says}", "scaling", path, sense, limit, unit, where, "100 s of work and two cores")


def _tokenizers(says: str, path: tuple[str, ...], sense: Sense, limit: float, unit: str) -> Target:
    where = {"size": 10**9}
    return Target(f"Tokenizers: {says}", "tokenizers", path, sense, limit, unit, where, "1 GB of text")


TARGETS = (
    _cuda("scoring full-length rows, of the bare compiled forward", ("ratios", "full rows of bare"), "at least", 0.90),
    _cuda("useful tokens/s on mixed lengths, of the bare forward", ("ratios", "mixed of bare"), "at least", 0.85),
    _cuda("head and statistics, time over the head product alone", ("ratios", "statistics of head"), "at most", 1.05),
    _cuda("head's memory beyond weights, any vocabulary", ("head_memory", "largest_mib"), "at most", 64, " MiB"),
    _cuda("against the research loop, same columns", ("ratios", "over research loop"), "at least", 3, "x"),
    _cuda("against padded, sorted batches of 16, same columns", ("ratios", "over padded"), "at least", 2, "x"),
    _cuda("model FLOP utilisation, full-length rows", ("mfu", "assay, full rows"), "stated"),
    *(_cpu("useful tokens/s, of the bare forward", shape, "bare forward", 0.80) for shape in ("gpt2-small", "wide")),
    *(_cpu("against the research loop, same columns", shape, _LOOP, 2.2) for shape in ("gpt2-small", "wide")),
    *(_cpu(f"against {_HARNESS}", shape, _HARNESS, 1.15, _BENCH) for shape in ("gpt2-small", "wide")),
    Target("CPU: memory flat over 20 M tokens, last quarter over first", "memory", ("growth",), "at most", 0.01, "",
           {"enough": True}, "20 M tokens"),
    Target("Query: Min-K%", "query", ("min_k", "mtokens"), "at least", 30, " M tokens/s"),
    Target("Query: all membership scores", "query", ("membership, one scan", "mtokens"), "at least", 8, " M tokens/s"),
    Target("Query: runs of greedy tokens", "query", ("rank_1_runs", "mtokens"), "at least", 5, " M tokens/s"),
    Target("Query: windows of extraction", "query", ("extraction", "mtokens"), "at least", 5, " M tokens/s"),
    Target("Storage: core columns", "storage", ("compact", "bytes"), "at most", 6.6, " bytes a token"),
    *(_calibration(*promise) for promise in (
        ("95 % intervals of the AUROC, least coverage", ("auroc_coverage", "lowest"), "at least", 0.93),
        ("95 % intervals of the AUROC, greatest coverage", ("auroc_coverage", "highest"), "at most", 0.97),
        ("95 % intervals of the TPR at an FPR, least coverage", ("tpr_coverage", "lowest"), "at least", 0.93),
        ("95 % intervals of domain fit, least coverage", ("fit_coverage", "lowest"), "at least", 0.93),
        ("95 % intervals of domain fit, greatest coverage", ("fit_coverage", "highest"), "at most", 0.97),
        ("95 % intervals of mixture weights, least coverage", ("mixture_coverage", "lowest"), "at least", 0.93),
        ("95 % intervals of mixture weights, greatest coverage", ("mixture_coverage", "highest"), "at most", 0.97),
        ("95 % intervals that may be too wide, least coverage", ("conservative_coverage", "lowest"), "at least", 0.93),
        ("nights' dates and sizes of changes, least coverage of what is promised",
         ("night_coverage", "lowest_of_wanted"), "at least", 1.0),
        ("p-values where nothing is to be found, least p of uniformity", ("uniform", "lowest_p"), "at least", 0.01),
        ("false shares, of what was asked for and 2 errors", ("at_most", "largest_of_allowed"), "at most", 1.0),
    )),
    *(_extraction(*promise) for promise in (
        ("windows tried against generation", ("windows",), "at least", 2000, " windows"),
        ("windows that ranks and generation judge alike", ("alike",), "at least", 1.0),
        ("windows that generation leaves where ranks say", ("alike_to_the_token",), "at least", 1.0),
        ("sampled suffixes, least p times windows", ("lowest_p",), "at least", 1e-3),
        ("time of generation over that of scoring", ("generation_over_scoring",), "stated", 0, "x"),
    )),
    *(_overlap(*promise) for promise in (
        ("planted n-grams found in 1 GB", ("ray", "recall"), "at least", 1.0),
        ("matches that were planted, of all in 1 GB", ("ray", "precision"), "at least", 1.0),
        ("1 GB of text on two cores, whole command", ("ray", "median_s"), "at most", 60, " s"),
        ("1 GB of text on two cores, memory of all processes", ("ray", "peak_mib"), "at most", 2048, " MiB"),
        ("1 GB of text on one core, inline, whole command", ("inline", "median_s"), "at most", 60, " s"),
        ("1 GB of text on one core, inline, memory", ("inline", "peak_mib"), "at most", 512, " MiB"),
        ("against datatrove, one core", ("compared", "assay_is_faster_by", "1 core"), "at least", 3, "x", _BENCH),
    )),
    *(_mixture(*promise) for promise in (
        ("mean absolute error of shares of 5 real sources", ("mae",), "at most", 0.03),
        ("the same over small worlds of made-up languages", ("worlds", "mae"), "at most", 0.03),
        ("true shares that intervals cover, over the small worlds", ("worlds", "covered"), "at least", 0.9),
        ("30,000 merges on two cores, whole command", ("median_s",), "stated", 0.0, " s"),
        ("30,000 merges, of that the linear program", ("phases_s", "solve"), "stated", 0.0, " s"),
        ("30,000 merges on two cores, memory of all processes", ("peak_mib",), "stated", 0.0, " MiB"),
    )),
    *(_tokenizers(*promise) for promise in (
        ("1 GB of text on two cores, whole command", ("ray", "median_s"), "at most", 900, " s"),
        ("1 GB of text on two cores, memory of all processes", ("ray", "peak_mib"), "at most", 4096, " MiB"),
        ("1 GB of text on two cores, time over that of bare encoding", ("ray", "over_bare"), "at most", 2, "x"),
    )),
    *(_scaling(*promise) for promise in (
        ("two actors against one, after the start", ("ratios", "two over one"), "at least", 1.85, "x"),
        ("two actors, a core, of the plain loop, after the start", ("ratios", "per core of inline"), "at least", 0.92),
        ("one actor on two cores, of the plain loop on one", ("ratios", "one actor of inline"), "stated"),
        ("two plain loops at once against one: this machine", ("ratios", "machine, two over one"), "stated", 0.0, "x"),
        ("start of the Ray engine, two actors", ("ray, 2 actors", "start_s"), "stated", 0.0, " s"),
        ("start of the plain loop", ("inline", "start_s"), "stated", 0.0, " s"),
    )),
    *(_resume(*promise) for promise in (
        ("blocks done exactly once over three kills", ("right_share",), "at least", 1.0),
        ("from the driver's start to its first task, at most", ("resume_s",), "stated", 0.0, " s"),
        ("memory of the driver, at most", ("peak_mib",), "stated", 0.0, " MiB"),
    )),
    Target("`assay demo` after installation", "first-use", ("demo_s",), "at most", 180, " s"),
    Target("`assay --help`", "first-use", ("help_s",), "at most", 0.3, " s"),
)  # fmt: skip


def judge(lines: Sequence[Line]) -> list[Verdict]:
    """A verdict for every target over the JSON lines of one record."""
    quick = any(_config(line).get("quick") for line in lines if line.get("benchmark") == SUITE)
    return [_judged(target, lines, "quick run: not to be quoted" if quick else "") for target in TARGETS]


def _judged(target: Target, lines: Sequence[Line], note: str) -> Verdict:
    named = [line for line in lines if line.get("benchmark") == target.benchmark]
    for line in reversed(named):  # the last measurement of a record counts
        value = _at(line.get("results"), target.path) if _fits(target.where, _config(line)) else None
        if value is not None:
            return Verdict(target, "met" if target.met_by(value) else "not met", value, note)
    return Verdict(target, "not measured", None, _reason(target, named))


def _config(line: Line) -> Mapping[str, Any]:
    config = line.get("config")
    return config if isinstance(config, Mapping) else {}


def _fits(where: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    return all(config.get(k) in v if isinstance(v, tuple) else config.get(k) == v for k, v in where.items())


def _reason(target: Target, named: Sequence[Line]) -> str:
    failures = [str(line["skipped"]) for line in named if "skipped" in line]
    if failures:
        return failures[-1]
    if target.needs:
        return f"it needs {target.needs}"
    return f"no number in this record: assay bench {target.benchmark}"


def _at(results: Any, path: tuple[str, ...]) -> float | None:
    """The number at the path, None where the record has none."""
    for key in path:
        if not isinstance(results, Mapping) or key not in results:
            return None
        results = results[key]
    return float(results) if isinstance(results, int | float) and not isinstance(results, bool) else None


def shown(value: float, unit: str) -> str:
    """A number as the table prints it: three significant digits, percent where it has no unit."""
    if not unit:
        return f"{value:.1%}"
    return f"{value:,.0f}{unit}" if value >= 1000 else f"{value:.3g}{unit}"


def lines_of(text: str) -> list[Line]:
    """The JSON lines of a record, in order."""
    found: list[Line] = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                parsed = json.loads(line)
            except ValueError:
                continue
            if isinstance(parsed, dict) and "benchmark" in parsed:
                found.append(parsed)
    return found


def show_verdicts(verdicts: Iterable[Verdict]) -> None:
    """The table of targets on standard output."""
    rows = []
    for verdict in verdicts:
        value = "" if verdict.value is None else shown(verdict.value, verdict.target.unit)
        rows.append([verdict.target.says, verdict.target.wanted, value, verdict.word, verdict.why])
    show("Targets", ["target", "wanted", "measured", "verdict", "why"], rows, ("wanted", "verdict", "why"))


def bench_targets(file: Path) -> None:
    """Run the verb: judge the record `file` again.

    Raises:
        BadParameter: there is no such file, or it is no record.
    """
    try:
        lines = lines_of(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from None
    if not lines:
        raise typer.BadParameter(f"{file} is no record: make one with assay bench all")
    show_verdicts(judge(lines))
