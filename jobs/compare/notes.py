"""What numbers of a comparison must be read with, and what it could not do: each begins with `warning` or `note`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.commands import flags, joined, score_command
from jobs.compare.measure import Measured
from jobs.compare.pairs import PERMUTATION, WORTH_SAYING, Row
from jobs.compare.request import MOST_NAME, TOKENS, CompareOptions
from jobs.errors import printable
from operators.comparison.pieces import PIECE_BYTES
from pipelines.config import ConfigError

ALPHA = 0.05
_FED = ("context", "stride", "bos", "special_tokens")  # by which the same text has other tokens, or other states
_ALSO = ("domain_column", "label_column", "bos", "special_tokens", "transform", "base_run")  # of a run made again

Ledgers = Mapping[str, Mapping[str, Any]]


def said(name: str) -> str:
    """A corpus's name on one line: values of a column may hold anything, and be of any length."""
    short = name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 3]}..."
    return printable(short).replace("\n", "\\n")


def fingerprint(ledger: Mapping[str, Any], what: str) -> str | None:
    """Of the `model` or the `tokenizer` of a run; None where it does not say."""
    known = ledger.get(what)
    found = known.get("fingerprint") if isinstance(known, dict) else None
    return found if isinstance(found, str) else None


def same(ledgers: Ledgers, what: str) -> bool:
    """Whether all runs are of one model, or tokenizer."""
    found = {fingerprint(ledger, what) for ledger in ledgers.values()}
    return len(found) == 1 and (None not in found or len(ledgers) == 1)


def check_tokens(options: CompareOptions, ledgers: Ledgers) -> None:
    """Refuse to compare ids of several tokenizers.

    Raises:
        ConfigError: the runs are of more than one.
    """
    if TOKENS in options.units and not same(ledgers, "tokenizer"):
        raise ConfigError(
            f"--unit tokens: runs {', '.join(ledgers)} are of more than one tokenizer, whose ids cannot be compared; "
            "--unit words compares their texts"
        )


def no_states(options: CompareOptions, ledgers: Ledgers) -> str | None:
    """Why depth cannot be computed; None where it can.

    Raises:
        ConfigError: it cannot, and `--depth` asks for it.
    """
    lacking = [run for run, ledger in ledgers.items() if "hidden" not in _features(ledger)]
    why = None
    if lacking:
        commands = "\n".join(f"  {_hidden_command(options.lake, run, ledgers[run])}" for run in lacking)
        why = (
            f"no depth: run {', '.join(lacking)} kept no hidden states. What makes them, in a run to name here "
            f"instead:\n{commands}"
        )
    elif not same(ledgers, "model"):
        why = f"no depth: runs {', '.join(ledgers)} are of more than one model, whose states cannot be compared"
    if why is not None and options.depth:
        raise ConfigError(f"--depth: {why.removeprefix('no depth: ')}")
    return why


def _hidden_command(lake: str, run_id: str, ledger: Mapping[str, Any]) -> str:
    known = _config(ledger)
    features = dict.fromkeys([*_features(ledger), "hidden"])
    name = f"{run_id[:121]}-hidden"
    top_k = known.get("top_k") if "topk" in features else None
    command = score_command(lake, name, known, known.get("input") or ["INPUT"], features, top_k)
    more = flags((f"--{each.replace('_', '-')}", known.get(each)) for each in _ALSO)
    kept = [word for column in known.get("keep_columns") or () for word in ("--keep-columns", column)]
    return " ".join(filter(None, [command, joined([*more, *kept])]))


def _config(ledger: Mapping[str, Any]) -> Mapping[str, Any]:
    config = ledger.get("config")
    return config if isinstance(config, dict) else {}


def _features(ledger: Mapping[str, Any]) -> Sequence[str]:
    found = _config(ledger).get("features")
    return found if isinstance(found, list) else ()


def about_runs(ledgers: Ledgers) -> Iterator[str]:
    """Runs that are not whole, or hold other texts than were read."""
    for run_id, ledger in ledgers.items():
        if ledger.get("state") != "finished":
            yield f"warning: run {run_id} is {ledger.get('state')}: only what is scored so far is compared"
        transform = _config(ledger).get("transform")
        if transform not in (None, "none"):
            yield f"note: run {run_id} is a transform ({transform}): its texts are compared as it fed them"
        if _config(ledger).get("prompt_column") is not None:
            yield f"note: run {run_id} has prompts, which are part of its texts, tokens and states here"
    configs = [_config(ledger) for ledger in ledgers.values()]
    unlike = [name for name in _FED if any(each.get(name) != configs[0].get(name) for each in configs)]
    if unlike:
        yield (
            f"warning: runs {', '.join(ledgers)} differ in {', '.join(unlike)}: their tokens and states may differ "
            "for that alone"
        )


def about_documents(measured: Measured, options: CompareOptions) -> Iterator[str]:
    """Draws, missing texts, repeats within a corpus and between two."""
    for corpus, without, places in zip(measured.corpora, measured.without_text, measured.places, strict=True):
        name = said(corpus.name)
        if corpus.total > len(corpus):
            yield (
                f"note: {name}: {len(corpus):,} of {corpus.total:,} documents, drawn by seed {options.seed}; "
                "--max-documents takes more"
            )
        if without:
            yield f"warning: {name}: {without:,} documents have no text, and no words are counted of them"
        repeats = len(corpus) - np.unique(measured.texts[places]).size
        if repeats:
            yield (
                f"warning: {name}: {repeats:,} of {len(corpus):,} documents repeat the text of another one; "
                "copies are taken for independent documents, which makes p-values too small"
            )
    for i, j in combinations(range(len(measured.corpora)), 2):
        yield from _about_both(measured, i, j)
    if measured.unit_ND is not None:
        yield from _about_states(measured, measured.unit_ND)
    small = [said(c.name) for c, ratios in zip(measured.corpora, measured.pieces, strict=True) if ratios.size < 2]
    if small:
        yield (
            f"note: compression of pieces of {PIECE_BYTES >> 10} KiB needs two of them: not compared for "
            f"{', '.join(small)}"
        )


def _about_states(measured: Measured, unit_ND: npt.NDArray[np.float32]) -> Iterator[str]:
    for corpus, places in zip(measured.corpora, measured.places, strict=True):
        missing = int((~np.isfinite(unit_ND[places]).all(axis=1)).sum())
        if missing:
            yield f"note: {said(corpus.name)}: {missing:,} documents have no finite mean state, and no depth"
    yield (
        "note: a mean over fewer states lies further out: where lengths differ (ks of tokens), depth does for that "
        "alone; compare documents of like lengths, as with --corpus 'NAME=RUN:n_tokens between 200 and 400'"
    )


def _about_both(measured: Measured, i: int, j: int) -> Iterator[str]:
    a, b = measured.corpora[i], measured.corpora[j]
    first, second = said(a.name), said(b.name)
    in_both = np.intersect1d(a.doc_ids, b.doc_ids).size
    if in_both:
        yield f"warning: {in_both:,} documents are in {first} and in {second}: the two are more alike for it"
    shared = shared_texts(measured, i, j)
    if shared > in_both:
        yield f"warning: {shared:,} texts are in {first} and in {second}: the two are more alike for it"


def shared_texts(measured: Measured, i: int, j: int) -> int:
    """Distinct texts that two corpora have both."""
    first, second = (measured.texts[measured.places[k]] for k in (i, j))
    return int(np.intersect1d(first, second).size)


def about_tests(rows: Sequence[Row], options: CompareOptions) -> Iterator[str]:
    """What p-values and divergences can say."""
    for why, count in Counter(row["note"] for row in rows if row["note"] in WORTH_SAYING).items():
        yield f"note: {count:,} of {len(rows):,} values: {why}"
    yield from _about_splits(rows)
    n_tests = sum(row["p_value"] is not None and row["test"] == PERMUTATION for row in rows)
    least = n_tests / (1 + options.permutations)
    if least > ALPHA:
        needed = int(np.ceil(n_tests / ALPHA / 100)) * 100
        yield (
            f"warning: {n_tests:,} tests of {options.permutations:,} relabelings each: no adjusted p-value can fall "
            f"below {min(1.0, least):.2g}; --permutations {needed} lets them reach {ALPHA:g}"
        )
    yield (
        "note: divergences are of the samples as they are, and above 0 between two samples of one source, the more so "
        "the smaller: read them beside their mean under relabelling (null)"
    )
    yield (
        f"note: intervals at {options.confidence:.0%} by leaving out groups of documents; of the statistic between "
        "corpora of these sizes, not of a limit for ever larger ones"
    )


def _about_splits(rows: Sequence[Row]) -> Iterator[str]:
    """Pairs of so few documents that relabelling has nothing to choose from."""
    sizes = {(row["a"], row["b"]): (row["n_a"], row["n_b"]) for row in rows if row["statistic"] == "js"}
    least = [(1 + (a == b)) / math.comb(a + b, a) for a, b in sizes.values() if a + b < 20]
    if few := [each for each in least if each > ALPHA]:
        yield (
            f"warning: {len(few):,} pairs of corpora have so few documents that relabelling them can hardly give a p "
            f"below {max(few):.2g}, however much they differ"
        )
