"""`assay bench calibration`: whether intervals and p-values keep their promises, on documents whose truth is known.

    worlds (`worlds`) -> samples of n + n documents -> what the verbs call (`operators.evaluation`) -> how often right

    interval   covers the truth in 93 to 97 % of the samples; of the TPR in 93 % or more, since that one is conservative
    p-value    uniform where there is nothing to find (Kolmogorov-Smirnov, p of at least 0.01); of several splits
               combined, which is conservative, below 0.05 in no more than 5 %; of orders of a benchmark's items
               (`order_worlds`) uniform by permutation within its steps, and in no more than 5 % by the fitted tail
    selection  false share at most what was asked for
    domain fit a corpus of documents of unequal length (`fit_worlds`): intervals cover in 93 to 97 %
    corpora    two of one source (`comparison_worlds`): p-values by relabelling documents are uniform; intervals by
               leaving documents out, and of a mean length whose tail is long, cover in 93 % or more
    models     whose errors have nothing to do with their fit (`correlation_worlds`): p-values of correlations are
               uniform within the steps of the orders drawn; below 0.05 in no more than 5 % where models tie
    mixtures   of known shares (`mixture_worlds`): intervals of shares cover in 93 to 97 %; of a share of 0, where they
               are one-sided, and of shares of bytes, which hold two intervals, in 93 % or more
    nights     like those before (`night_worlds`): findings at 5 % in no more than 5 %, of a family of numbers, too,
               with normal and with long tails; at 1 %, as nights are watched, in no more than 1 %, with long tails in
               no more than 3 %; where nights depend on those before, in no more than 15 %, of one number at 5 % in no
               more than 20 %. Of changes that were found, also of a size that is found in two histories of three, sets
               of dates and intervals of sizes cover in 93 % or more

Where it says at most, two standard errors of the simulation are allowed for. Samples are drawn from a fixed seed, so a
verdict is the same every time; of so many rows one may miss by chance under another `--seed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jobs.bench import (
    comparison_worlds,
    correlation_worlds,
    fit_worlds,
    mixture_worlds,
    night_worlds,
    order_worlds,
    verdicts,
    worlds,
)
from jobs.bench.checks import Check, Kind, at_most, coverage, summary, uniform
from jobs.bench.measure import record, show
from operators.evaluation import (
    Floats,
    auroc_interval,
    auroc_p_value,
    benjamini_hochberg,
    compare_auroc,
    conformal_p_values,
    tpr_at_fpr_interval,
)
from operators.evaluation.dataset_inference import dataset_inference
from operators.evaluation.exchangeability import Exchangeability, exchangeability

ENOUGH_DRAWS = 1000  # fewer are not judged: two standard errors of a coverage would be wider than its band
SIZES = (50, 500)
FULL_DRAWS, QUICK_DRAWS = 1000, 100
RESAMPLES = 1000  # of a bootstrap interval
SPLITS = 5
FDRS = (0.05, 0.1, 0.2)
LEVELS = (0.01, 0.05)  # of FPR
DEPENDENT = 0.2  # what is promised at 5 % of one number whose nights depend on those before
_WATCHED = {"normal": 0.01, "long tails": 0.03, "autoregressive": 0.15}  # promised at 1 % of many numbers


def bench_calibration(draws: int, seed: int) -> None:
    """Draw `draws` samples in every setting and print a verdict for each promise."""
    checks = list(run_checks(draws, seed))
    enough = draws >= ENOUGH_DRAWS
    rows = [
        [c.name, c.sample, f"{c.value:.3f}", f"{c.error:.3f}" if c.error else "", c.wanted, _verdict(c, enough)]
        for c in checks
    ]
    columns = ["promise", "sample", "found", "+-", "wanted", "verdict"]
    show(f"{draws:,} samples in every setting, seed {seed}", columns, rows, ("wanted", "verdict"))
    results = {**summary(checks), "checks": [{**vars(c), "met": c.is_met} for c in checks]}
    record("calibration", results, draws=draws, seed=seed, resamples=RESAMPLES, enough=enough)


def _verdict(check: Check, enough: bool) -> str:
    return "too few samples" if not enough else "met" if check.is_met else "not met"


def run_checks(draws: int, seed: int) -> Iterator[Check]:
    """Every promise at every size. Each setting has random numbers of its own, whatever else is run."""
    for n in SIZES:
        yield from _auroc(draws, n, seed)
        yield from _tpr(draws, n, seed)
        yield from _tests(draws, n, seed)
        yield from _conformal(draws, n, seed)
        yield from _dataset_inference(draws, n, seed)
        yield from _selection(draws, n, seed)
        yield from _verdicts(draws, n, seed)
        yield from _orders(draws, n, seed)
        yield from _corpora(draws, n, seed)
        yield from _fit(draws, n, seed)
        yield from _mixtures(draws, n, seed)
    for n_models in correlation_worlds.MODELS:
        yield from _correlations(draws, n_models, seed)
    yield from _orders_of_a_model(draws, seed)
    yield from _nights(draws, seed)
    yield from _changes(draws, seed)


# The promises


def _two(n: int, other: int | None = None) -> str:
    """A sample of `n` documents of either class, or of `n` and another number of them."""
    return f"{n} + {n if other is None else other}"


def _auroc(draws: int, n: int, seed: int) -> Iterator[Check]:
    labels = worlds.labels(n)
    for world in (worlds.SAME, worlds.SAME_TIED, worlds.APART):
        samples = world.samples(draws, n, seed)
        covered = [world.auroc in auroc_interval(scores, labels) for scores in samples]
        yield coverage("auroc", f"AUROC, DeLong, {world.name}", _two(n), covered)
    for world in (worlds.SAME, worlds.SAME_TIED):
        covered = [
            world.auroc in auroc_interval(scores, labels, method="bootstrap", draws=RESAMPLES, seed=draw)
            for draw, scores in enumerate(world.samples(draws, n, seed))
        ]
        yield coverage("auroc", f"AUROC, bootstrap, {world.name}", _two(n), covered)


def _tpr(draws: int, n: int, seed: int) -> Iterator[Check]:
    labels = worlds.labels(n)
    for world in (worlds.SAME, worlds.APART, worlds.APART_TIED):
        samples = world.samples(draws, n, seed)
        for level in LEVELS:
            truth = world.tpr(level)
            covered = [truth in tpr_at_fpr_interval(scores, labels, level) for scores in samples]
            yield coverage("tpr", f"TPR at {level:.0%} FPR, {world.name}", _two(n), covered)


def _tests(draws: int, n: int, seed: int) -> Iterator[Check]:
    labels, samples = worlds.labels(n), worlds.SAME.samples(draws, n, seed)
    yield uniform("p of AUROC > 0.5, Mann-Whitney", _two(n), [auroc_p_value(scores, labels) for scores in samples])
    pairs = worlds.pairs(draws, n, seed)
    p_values = [compare_auroc(first, second, labels).p_value for first, second in pairs]
    yield uniform("p of two scores, DeLong paired", _two(n), p_values)


def _conformal(draws: int, n: int, seed: int) -> Iterator[Check]:
    """One document in question a sample: those of one sample share their calibration set."""
    for world in (worlds.SAME, worlds.SAME_TIED):
        samples = world.samples(draws, n, seed)
        smooth = [float(conformal_p_values(s[:n], s[n:][:1], seed=draw)[0]) for draw, s in enumerate(samples)]
        yield uniform(f"conformal p, smoothed, {world.name}", _two(n), smooth)
        plain = [float(conformal_p_values(s[:n], s[n:][:1])[0] <= 0.05) for s in samples]
        yield at_most(f"conformal p <= 0.05, {world.name}", _two(n), plain, 0.05)


def _dataset_inference(draws: int, n: int, seed: int) -> Iterator[Check]:
    def p_values(**options: Any) -> list[float]:
        sets = worlds.feature_sets(draws, n, seed)
        return [dataset_inference(a, b, seed=draw, **options).p_value for draw, (a, b) in enumerate(sets)]

    yield uniform("p of dataset inference, one split", _two(n), p_values())
    below = [float(p <= 0.05) for p in p_values(splits=SPLITS)]
    yield at_most(f"p of dataset inference <= 0.05, {SPLITS} splits", _two(n), below, 0.05)


def _selection(draws: int, n: int, seed: int) -> Iterator[Check]:
    """Documents in question, a tenth of them members, against n held-out ones."""
    for world in (worlds.FAR, worlds.FAR_TIED):
        sampled = list(worlds.to_select_from(world, draws, n, seed))
        p_values = [conformal_p_values(held_out, asked) for held_out, asked, _ in sampled]
        for fdr in FDRS:
            false_shares = [
                _false_share(benjamini_hochberg(p, fdr), members)
                for p, (_, _, members) in zip(p_values, sampled, strict=True)
            ]
            yield at_most(f"false among selected, BH at {fdr:.0%}, {world.name}", _two(n), false_shares, fdr)


def _verdicts(draws: int, n: int, seed: int) -> Iterator[Check]:
    alarms = [float(alarm) for alarm in verdicts.false_alarms(draws, n, seed)]
    name = f"any of {verdicts.BENCHMARKS} unseen benchmarks contaminated"
    yield at_most(name, _two(n), alarms, verdicts.ALPHA)


def _false_share(selected: Any, members: Any) -> float:
    return float((selected & ~members).sum() / max(1, selected.sum()))


def _orders(draws: int, n: int, seed: int) -> Iterator[Check]:
    """Benchmarks of n items in no order; shards are skewed and unequal, which the t-test does not promise to bear."""
    for world, sign in (("gains", 1), ("losses", -1)):
        tests = [_order_test(sums) for sums in order_worlds.pair_sums(draws, n, seed, sign=sign)]
        yield uniform(f"p of the order, permutations, {world}", f"{n} items", _smoothed(tests, n, seed))
        tails = _below([test.p_tail for test in tests])
        yield at_most(f"p of the order <= 0.05, fitted tail, {world}", f"{n} items", tails, 0.05)
    tied = [_order_test(sums).p_permutation for sums in order_worlds.pair_sums(draws, n, seed, grid=order_worlds.GRID)]
    yield at_most("p of the order <= 0.05, permutations, tied", f"{n} items", _below(tied), 0.05)


def _orders_of_a_model(draws: int, seed: int) -> Iterator[Check]:
    """The same of a model that was trained on texts of this kind, and on none of these."""
    n = order_worlds.MODEL_SHARDS * order_worlds.MODEL_SHARD_ITEMS
    tests = [_order_test(sums) for sums in order_worlds.model_sums(draws, seed)]
    sample = f"{n} items"
    yield uniform("p of the order, permutations, clean model", sample, _smoothed(tests, n, seed))
    for name, found in (("t over shards", [t.p_t for t in tests]), ("fitted tail", [t.p_tail for t in tests])):
        yield uniform(f"p of the order, {name}, clean model", sample, [p for p in found if p is not None])
    below = _below([test.p_permutation for test in tests])
    yield at_most("p of the order <= 0.05, permutations, clean model", sample, below, 0.05)


def _smoothed(tests: Sequence[Exchangeability], n: int, seed: int) -> list[float]:
    """Exact p-values, each moved to a random place within the step that it stands for: without ties these are uniform,
    and steps are not taken for a fault."""
    within = np.random.default_rng([seed, n, len(tests)]).random(len(tests))
    return [test.p_permutation - u * test.resolution for test, u in zip(tests, within, strict=True)]


def _below(p_values: Sequence[float | None]) -> list[float]:
    return [float(p is not None and p <= 0.05) for p in p_values]


def _corpora(draws: int, n: int, seed: int) -> Iterator[Check]:
    """Corpora of one source, of as many documents and of half as many; intervals also of corpora that differ."""
    for sizes in (comparison_worlds.EQUAL, comparison_worlds.UNEQUAL):
        sample = _two(n, sizes.of(n)[1])
        for name, p_values in comparison_worlds.p_values(draws, n, sizes, seed).items():
            yield uniform(f"p of corpora alike, {name}", sample, p_values)
        for centred, states in ((False, "one direction"), (True, "none")):
            found = comparison_worlds.depth_p_values(draws, n, sizes, seed, centred=centred)["permutation"]
            yield uniform(f"p of depth alike, {states}", sample, found)
        for apart in (0.0, 0.3):
            every = comparison_worlds.covered(draws, n, sizes, seed, apart=apart)
            every["depth"] = comparison_worlds.depth_covered(draws, n, sizes, seed, apart=apart)
            for name, covered in every.items():
                yield coverage("covers", f"{name}, corpora {apart:g} apart", sample, list(covered))


def _fit(draws: int, n: int, seed: int) -> Iterator[Check]:
    """Corpora of n documents of unequal length: bits per byte, their mean over domains, shares and losses of types."""
    covered = {
        **{f"bits per byte, {w.name}": fit_worlds.bits_per_byte(w, draws, n, seed) for w in fit_worlds.WORLDS},
        "bits per byte, macro": fit_worlds.macro(fit_worlds.TILTED, draws, n, seed),
        "token share": fit_worlds.token_share(draws, n, seed),
        "loss of a type": fit_worlds.type_loss(draws, n, seed),
    }
    for name, found in covered.items():
        yield coverage("fit", f"domain fit, {name}", f"{n} in all", list(found))


def _mixtures(draws: int, n: int, seed: int) -> Iterator[Check]:
    """Corpora of n documents, mixtures of components whose likelihoods are known."""
    all_worlds = (*mixture_worlds.PRESENT, mixture_worlds.ABSENT, mixture_worlds.BYTES)
    for world in (each for each in all_worlds if n >= each.least):
        for share, covered in zip(world.share, world.covered(draws, n, seed).T, strict=True):
            kind: Kind = "mixture" if share and not world.spread else "covers"
            name = f"share {share:g} of a mixture, {world.name}"
            yield coverage(kind, name, f"{n} in all", covered.tolist())


def _correlations(draws: int, n: int, seed: int) -> Iterator[Check]:
    """n models whose errors have nothing to do with their fit of domains: p by permutation, without and with ties."""
    for estimator in correlation_worlds.JUDGED:
        found = correlation_worlds.p_values(draws, n, seed, estimator, tied=False)
        yield uniform(f"p of a correlation, {estimator}", f"{n} models", found)
        tied = _below([*correlation_worlds.p_values(draws, n, seed, estimator, tied=True)])
        yield at_most(f"p of a correlation <= 0.05, {estimator}, tied", f"{n} models", tied, 0.05)


def _nights(draws: int, seed: int) -> Iterator[Check]:
    """Nights in which nothing changed: tonight, changes of level, and a whole family of numbers at once."""
    for nights in night_worlds.NIGHTS:
        sample = f"{nights} nights"
        for world in (*night_worlds.SAME, night_worlds.DEPENDENT):
            below = _below([*night_worlds.tonight_p_values(world, draws, nights, seed)])
            limit = DEPENDENT if world is night_worlds.DEPENDENT else 0.05
            yield at_most(f"p of a night alike <= 0.05, {world.name}", sample, below, limit)
            alarms = [float(alarm) for alarm in night_worlds.false_changes(world, draws, nights, seed)]
            yield at_most(f"change found at 5 %, {world.name}", sample, alarms, limit)
        for world in night_worlds.SAME[1:]:
            alarms = [float(alarm) for alarm in night_worlds.false_alarms(world, draws, nights, 0.05, seed)]
            name = f"any finding at 5 % among {night_worlds.FAMILY} numbers, {world.name}"
            yield at_most(name, sample, alarms, 0.05)
    watched = [(world, night_worlds.YOUNG) for world in night_worlds.SAME[1:]]
    watched += [(night_worlds.DEPENDENT, nights) for nights in night_worlds.OLD]
    for world, nights in watched:
        alarms = [float(alarm) for alarm in night_worlds.false_alarms(world, draws, nights, 0.01, seed)]
        name = f"any finding at 1 % among {night_worlds.FAMILY} numbers, {world.name}"
        yield at_most(name, f"{nights} nights", alarms, _WATCHED[world.between])


def _changes(draws: int, seed: int) -> Iterator[Check]:
    """Changes of level that were found: when, and by how much."""
    for world in (*night_worlds.CLEAR, night_worlds.FAINT):
        found = night_worlds.found(world, draws, seed)
        for name, covered in (("date", found.dates), ("size", found.sizes)):
            said = f"{name} of a change, {world.name}, {found.power:.0%} found"
            yield coverage("nights", said, f"{world.nights} nights", covered)


def _order_test(sums_SP: Floats) -> Exchangeability:
    return exchangeability(sums_SP, np.ones(sums_SP.shape, dtype=np.int64))
