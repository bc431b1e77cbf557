"""`assay bench extraction`: extraction by ranks against text that `transformers` really generates.

    runs of strict windows -> ranks: is every suffix token the greedy choice?   one pass
                           -> generate(do_sample=False) behind the same ids     a step a token

must say the same of every window, and of its suffix's first token that greedy decoding would not write. In float32
nothing else is allowed; in a lower precision a disagreement is shown with the logits that decide it. Then exp of the
log-probability of a sampled suffix, from the stored statistics, against the share of sampled continuations that are it.

One thread. Both ways of asking take turns, some windows at a time; scoring pays for whole documents, as a run does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from jobs.bench.extraction.windows import Sampling, Windows, read_windows
from jobs.bench.extraction.work import Compared, Subject, Work, prepare
from jobs.bench.measure import peak_extra_bytes, record, show
from operators.lake import Lake
from operators.model_files import ModelOptions, fingerprint
from operators.model_places import ModelPlace
from pipelines.base_run import inherited
from pipelines.config import ConfigError, ScoreConfig
from pipelines.plan import make_plan
from pipelines.score import score_corpus

RUN, TOP_K = "demo", 40
OFFSETS = {f"{RUN}-windows-{offset}": f"windows:prefix=50,suffix=50,offset={offset}" for offset in (0, 17, 34)}
SHOWN = 10  # disagreements


def bench_extraction(
    folder: Path, lake: str | None, run_ids: Sequence[str], model: str | None, *, most: int, sampled: int, draws: int,
    temperature: float, device: str,
) -> None:  # fmt: skip
    """Run the verb. Without `lake` the demo's texts and model in `folder` are scored in strict windows first.

    Raises:
        ConfigError: no such run, or not of strict windows; no demo in `folder`.
    """
    torch.set_num_threads(1)
    if lake is None:
        lake, run_ids = _score_demo(folder), tuple(OFFSETS)
    if not run_ids:
        raise ConfigError("--run-id: is needed with --lake: the run of strict windows, or several")
    windows = read_windows(Lake(lake), run_ids, most)
    subject = _subject(lake, tuple(run_ids), model, device)
    work = Work(subject, windows)
    compared = work.compare()
    peaks = {name: peak_extra_bytes(prepare, subject, most, name) for name in ("scoring", "generation")}
    samplings = [Sampling()]
    if windows.top_logprob_WSK is not None:
        samplings.append(Sampling(temperature, min(TOP_K, windows.top_logprob_WSK.shape[2])))
    drawn = [work.draw(sampling, sampled, draws) for sampling in samplings]
    results = _report(subject, windows, compared, peaks, drawn)
    config = {"windows": most, "sampled": sampled, "draws": draws, "threads": 1, **asdict(subject)}
    record("extraction", results, **{name: value for name, value in config.items() if name != "lake"})


def _subject(lake: str, run_ids: tuple[str, ...], model: str | None, device: str) -> Subject:
    """The runs' model, in the dtype that they were scored in.

    Raises:
        ConfigError: it is not the model of a run, or runs were scored in different dtypes.
        ModelError: it is not a folder here.
    """
    ledgers = [Lake(lake).read_run(run_id) for run_id in run_ids]
    facts, settings = ledgers[0]["model"], ledgers[0]["config"]
    place = ModelPlace.find(model or settings["model"], settings.get("revision") if model is None else None)
    folder = place.folder()
    found = fingerprint(folder)
    for run_id, ledger in zip(run_ids, ledgers, strict=True):
        if ledger["model"]["fingerprint"] != found:
            raise ConfigError(f"--model {folder}: run {run_id} was scored with another model")
        if ledger["model"].get("dtype") != facts.get("dtype"):
            raise ConfigError(f"--run-id {run_id}: it was scored in another dtype than {run_ids[0]}")
    torch_device = str(ModelOptions(str(folder), device=device).torch_device())
    dtype = facts.get("dtype") or settings["dtype"]
    return Subject(lake, run_ids, str(folder), dtype, torch_device, bool(settings.get("trust_remote_code")))


def _score_demo(folder: Path) -> str:
    """Score the demo's corpus in strict windows of several offsets, once; the root of its lake.

    Raises:
        ConfigError: there is no demo in `folder`.
    """
    lake = folder / "lake"
    if not lake.is_dir() or RUN not in Lake(str(lake)).run_ids():
        raise ConfigError(f"no run {RUN!r} in {lake}: run `assay demo --folder {folder}` first, or give --lake")
    for run_id, spec in OFFSETS.items():
        fields = {
            "lake": str(lake), "run_id": run_id, "base_run": RUN, "transform": spec, "features": ("topk",),
            "top_k": TOP_K, "engine": "inline", "precision": "full",
        }  # fmt: skip
        score_corpus(make_plan(ScoreConfig.parse(**inherited(fields))))
    return str(lake)


def _report(
    subject: Subject, windows: Windows, compared: Compared, peaks: dict[str, int], drawn: list[dict[str, Any]]
) -> dict[str, Any]:
    """Print the tables; what the record holds."""
    n = len(windows)
    columns = ["", "windows", "extractable", "seconds", "windows/s", "host MiB"]
    ways = {
        "ranks, one pass": (compared.by_ranks, compared.scoring, peaks["scoring"]),
        "greedy generation": (compared.by_generation, compared.generation, peaks["generation"]),
    }
    rows = [
        [name, f"{n:,}", f"{count:,}", f"{sum(timing.seconds):.2f}", f"{n / sum(timing.seconds):,.0f}",
         f"{peak / 2**20:,.0f}"]
        for name, (count, timing, peak) in ways.items()
    ]  # fmt: skip
    show(f"Extraction, windows of {windows.shape}, {subject.dtype} on {subject.device}, one thread", columns, rows)
    ratio = compared.generation.ratio(compared.scoring)
    print(f"generation takes {ratio:.1f} times as long (median of {len(compared.scoring.seconds)} rounds)")
    print(f"disagreements: {len(compared.wrong)}; first token that is not greedy elsewhere: {len(compared.others)}")
    for i in compared.others[:SHOWN]:
        print(
            f"  doc_id {windows.doc_id_W[i]} position {windows.position_W[i]}: ranks {windows.leading[i]} tokens, "
            f"logits {compared.margins[i]:.1e} apart{' (a disagreement)' if i in compared.wrong else ''}"
        )
    _show_draws(drawn)
    return {
        "windows": n, "tokens": windows.suffix_WS.size, "by_ranks": compared.by_ranks,
        "by_generation": compared.by_generation, "disagreements": len(compared.wrong),
        "elsewhere": len(compared.others), "alike": 1 - len(compared.wrong) / n,
        "alike_to_the_token": 1 - len(compared.others) / n,
        "largest_margin": max(compared.margins.values(), default=0.0), "leading_tokens": int(windows.leading.sum()),
        "logprob_sum": float(windows.logprob_WS.sum()), "scoring_s": compared.scoring.seconds,
        "generation_s": compared.generation.seconds, "generation_over_scoring": ratio, "peak_bytes": peaks,
        "sampled": drawn, "lowest_p": min((entry["lowest_p"] for entry in drawn if entry["windows"]), default=None),
    }  # fmt: skip


def _show_draws(drawn: list[dict[str, Any]]) -> None:
    rows = []
    for entry in drawn:
        expected, total = entry["draws"] * sum(entry["p_z"]), entry["windows"] * entry["draws"]
        rows.append(
            [entry["sampling"], f"{entry['windows']}", f"{total:,}", f"{expected:,.0f}", f"{sum(entry['hits']):,}",
             f"{entry['lowest_p']:.3f}", f"{entry['p']:.3f}"]
        )  # fmt: skip
    columns = ["sampled", "windows", "draws", "hits by statistics", "hits", "lowest p x windows", "p of all"]
    show("Sampled continuations that are the suffix", columns, rows)
