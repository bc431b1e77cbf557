"""Counts a block of texts for several tokenizers at once.

    block (flow.READ) -> ids of every tokenizer -> documents that all of them read -> counts of each
                                          \\--> rejects, with a reason

A document counts for every tokenizer or for none, so that all numbers are about the same text.
Shapes: `D` documents that count, `T` tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.tokenizer_statistics.checks import CHECKS, check
from operators.tokenizer_statistics.counts import COUNTER, COUNTERS, LEVEL_COUNTERS, ProfileCounts, TokenizerCounts
from operators.tokenizer_statistics.cuts import Tokens, continued_words
from operators.tokenizer_statistics.numbers import LONG, number_cuts
from operators.tokenizer_statistics.options import Drawn
from operators.tokenizer_statistics.probe import TokenizerProbe, own_tokens
from operators.tokenizer_statistics.text_facts import Places, TextFacts
from schemas.flow import READ


@dataclass(frozen=True)
class BlockOutcome:
    """What became of a block. rejects: its rows that do not count, in the schema `READ`, each with a reason.

    rows: those that count, `(D,)`. tokens: how many each of them has, by tokenizer, `(P, D)`.
    """

    rejects: pa.Table
    rows: Places
    tokens: Places


class Profiler:
    """Counts blocks for the tokenizers `probes`.

    Raises:
        ValueError: no probes, two of one name, or probes that draw documents differently.
    """

    def __init__(self, probes: Sequence[TokenizerProbe]) -> None:
        names = [probe.name for probe in probes]
        if not probes or len(set(names)) < len(names):
            raise ValueError("tokenizers to profile: expected one or more, each of another name")
        if len({probe.options for probe in probes}) > 1:
            raise ValueError("tokenizers to profile: all need the same options")
        self.probes, self.options = tuple(probes), probes[0].options

    def none(self) -> ProfileCounts:
        """Counts of nothing yet."""
        return ProfileCounts([probe.vocabulary.width for probe in self.probes], self.options)

    def count(self, block: pa.Table, counts: ProfileCounts) -> BlockOutcome:
        """Add the documents of a `READ` table to `counts`.

        Raises:
            TooManyDomainsError: more domains than the options allow; `counts` is then of no use any more.
        """
        tokenized = [probe.tokenize(block) for probe in self.probes]
        rejects, rows = _verdicts(block, tokenized)
        if len(rows) < block.num_rows:
            tokenized = [each.take(rows) for each in tokenized]
        n_tokens = np.zeros((len(self.probes), len(rows)), np.int64)
        if len(rows):
            kept = tokenized[0]
            facts = TextFacts.of(kept["text"].cast(pa.large_string()).combine_chunks())
            drawn = Drawn.of(_keys(kept), self.options)
            domain = counts.domain_numbers(kept["domain"].to_pylist())
            for number, (probe, table) in enumerate(zip(self.probes, tokenized, strict=True)):
                tokens = own_tokens(table, facts)
                n_tokens[number] = tokens.n_tokens
                _add(counts.tokenizers[number], probe, tokens, facts, _Draw(domain, drawn))
        return BlockOutcome(rejects, rows, n_tokens)


@dataclass(frozen=True)
class _Draw:
    """Where the counts of each document go, `(D,)`."""

    domain: Places
    drawn: Drawn


def _add(counts: TokenizerCounts, probe: TokenizerProbe, tokens: Tokens, facts: TextFacts, draw: _Draw) -> None:
    drawn, n_documents = draw.drawn, len(facts.texts)
    values = np.zeros((n_documents, len(COUNTERS)), np.int64)
    numbers = number_cuts(tokens, facts)
    unspelt = probe.unspelt(tokens, facts)
    filled = np.bincount(facts.words.documents(facts.bounds), minlength=n_documents)
    columns: dict[str, Any] = {
        "documents": 1,
        "bytes": facts.n_bytes,
        "chars": facts.n_chars,
        "words": facts.n_words,
        "tokens": tokens.n_tokens,
        "filled_words": filled,
        "continued_words": continued_words(tokens, facts),
        "unspelt": 0 if unspelt is None else unspelt,
        "checked": drawn.checked,
    }
    for name, column in columns.items():
        values[:, COUNTER[name]] = column
    values[:, COUNTER[LONG[0]] : COUNTER[LONG[-1]] + 1] = numbers.long
    values[np.arange(n_documents), COUNTER[LEVEL_COUNTERS[0]] + drawn.level] = 1
    checked = np.flatnonzero(drawn.checked)
    if len(checked):
        first = COUNTER[CHECKS[0]]
        values[checked, first : first + len(CHECKS)] = check(probe, *_only(tokens, facts, checked))
    counts.add_sums(draw.domain, drawn.group, values)
    short = numbers.index >= 0
    of = numbers.document[short]
    counts.add_patterns(draw.domain[of], drawn.group[of], numbers.index[short])
    counts.add_tokens(tokens, draw.domain, drawn)


def _only(tokens: Tokens, facts: TextFacts, documents: Places) -> tuple[Tokens, TextFacts]:
    """The tokens and the facts of some documents."""
    some = TextFacts.of(facts.texts.take(pa.array(documents)))
    lengths = tokens.n_tokens[documents]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    place = np.arange(bounds[-1]) + np.repeat(tokens.bounds[documents] - bounds[:-1], lengths)
    moved = np.repeat(some.bounds[:-1] - facts.bounds[documents], lengths)
    return Tokens(tokens.ids[place], bounds, tokens.start[place] + moved, tokens.n_bytes[place]), some


def _verdicts(block: pa.Table, tokenized: Sequence[pa.Table]) -> tuple[pa.Table, Places]:
    """The rows that some tokenizer does not read, each with the first reason, and the numbers of the others."""
    reason, detail = (pc.coalesce(*(each[name] for each in tokenized)) for name in ("reason", "detail"))
    left = np.flatnonzero(pc.is_valid(reason).combine_chunks().to_numpy(zero_copy_only=False))
    columns = {name: block[name].take(left) for name in READ.names}
    columns["text"] = pa.nulls(len(left), pa.string())
    columns["reason"], columns["detail"] = reason.take(left), detail.take(left)
    return pa.table(columns, schema=READ), np.setdiff1d(np.arange(block.num_rows), left)


def _keys(documents: pa.Table) -> list[str]:
    keys, sources, rows = (documents[name].to_pylist() for name in ("key", "source", "row"))
    return [f"{source}#{row}" if key is None else key for key, source, row in zip(keys, sources, rows, strict=True)]
