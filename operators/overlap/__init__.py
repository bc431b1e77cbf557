"""Verbatim overlap of a benchmark with a corpus: words, n-grams, an index on disk, matches, and their totals.

    items --> words --> build_index --> BenchmarkIndex
                                             |
    block (flow.READ) --> words --> n-grams -+-> Matcher --> Matches --> Totals --> rows of overlap_items
                                                               \\-> rows of overlap_spans and decontamination

Exact n-grams as in C3 of the metric catalogue: any hit (GPT-3, arXiv 2005.14165; lm-eval) and the share of an item's
n-grams that a corpus holds (MIMIR, arXiv 2402.07841). Items of fewer than n words have no n-gram: their share is NULL.
An item is any text: with a test split as the benchmark and the training text as the corpus, `share_seen` of part `all`
is MIMIR's overlap of a document, by which such splits are thinned.

What others do differently: datatrove's filter has 12-grams of its own words, believes their hashes, leaves out n-grams
of inputs alone unless told, and ends a document at its first hit; lm-eval's janitor cuts by other rules (`options`),
with other ends of words (`normalise`).
"""

from operators.overlap.build import build_index
from operators.overlap.index import ITEMS, BenchmarkIndex
from operators.overlap.match import Matcher
from operators.overlap.matches import MatchCounts, Matches
from operators.overlap.normalise import NORMALISATIONS, Normalisation
from operators.overlap.options import DropRule, OverlapError, OverlapOptions, parse_drop
from operators.overlap.totals import Totals

__all__ = [
    "ITEMS",
    "NORMALISATIONS",
    "BenchmarkIndex",
    "DropRule",
    "MatchCounts",
    "Matcher",
    "Matches",
    "Normalisation",
    "OverlapError",
    "OverlapOptions",
    "Totals",
    "build_index",
    "parse_drop",
]
