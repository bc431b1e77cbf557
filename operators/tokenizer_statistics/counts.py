"""The counts that all statistics are made of, by tokenizer, domain and group of documents.

    block -> ProfileCounts -> table of a unit -> added up, in any order -> statistics

    sums    documents, bytes, tokens, words in pieces, patterns of numbers ...: numbers a domain and group
    ids     how often each token id occurs, by domain and group
    pairs   how often a token follows another in a document, by domain, eight groups, and level of the document

Memory of a tokenizer: 16 bytes for each id that occurs, by domain and group (at most V x domains x groups), and 16 for
each of at most `max_pairs` pairs, and up to 80 more a pair while rows are made of them. Nothing is held by document.

When the pairs would be more, those of the documents of the lowest level, half of what is left, are dropped, and so on.
Which level that leaves follows from the corpus alone: a part of it never drops a level that the whole would keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.tokenizer_statistics.cuts import Tokens
from operators.tokenizer_statistics.keyed import KeyedCounts, Keys
from operators.tokenizer_statistics.numbers import LONG, N_PATTERNS
from operators.tokenizer_statistics.options import LEVELS, PAIR_GROUPS, Drawn, ProfileOptions
from operators.tokenizer_statistics.text_facts import Places

LEVEL_COUNTERS = tuple(f"level_{k}" for k in range(LEVELS))  # documents by level in the pair sample
COUNTERS = (
    *("documents", "bytes", "chars", "words", "tokens", "filled_words", "continued_words", "unspelt"),
    *("checked", "failed_round_trips", "failed_normalised", "non_canonical", "checked_words", "context_words"),
    *LONG,
    *LEVEL_COUNTERS,
)
COUNTER = {name: place for place, name in enumerate(COUNTERS)}
WIDTH = len(COUNTERS) + N_PATTERNS  # the patterns of numbers stand behind the named counters

TABLE = pa.schema(
    [
        pa.field("tokenizer", pa.int16(), nullable=False),
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("domain", pa.dictionary(pa.int32(), pa.string())),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
    ]
)
_SUMS, _IDS, _PAIRS, _LEVEL = range(4)
_AT_ONCE = 1 << 20  # rows added at once: each takes 100 bytes meanwhile


class TooManyDomainsError(ValueError):
    """More domains than are counted apart."""


class TokenizerCounts:
    """Counts of one tokenizer. Domains are numbers here; `width`: V, above every id.

    sums: `(domains, groups, WIDTH)`. Keys of ids: (domain, group, id). Keys of pairs: (domain, level, pair group, id
    before, id). level: the lowest whose documents' pairs are kept.
    """

    def __init__(self, width: int, options: ProfileOptions) -> None:
        if options.max_domains * LEVELS * PAIR_GROUPS * width**2 >= 2**63:
            raise ValueError(f"a vocabulary of {width} ids is too large for {options.max_domains} domains")
        self.width, self.options = width, options
        self.sums = np.zeros((0, options.groups, WIDTH), np.int64)
        self.ids, self.pairs = KeyedCounts(), KeyedCounts()
        self.level = 0

    @property
    def pair_span(self) -> int:
        """Keys of pairs of one domain."""
        return LEVELS * PAIR_GROUPS * self.width**2

    @property
    def id_span(self) -> int:
        """Keys of ids of one domain."""
        return self.options.groups * self.width

    def grow(self, domains: int) -> None:
        """Make room for so many domains."""
        more = domains - len(self.sums)
        if more > 0:
            self.sums = np.concatenate([self.sums, np.zeros((more, *self.sums.shape[1:]), np.int64)])

    def add_tokens(self, tokens: Tokens, domain: Places, drawn: Drawn) -> None:
        """Count ids, and the pairs of documents that are high enough; `domain` is that of each document, `(D,)`."""
        document = tokens.documents
        ids = tokens.ids.astype(np.int64)
        cell = domain * self.options.groups + drawn.group
        self.ids.add((cell * self.width)[document] + ids)
        cell = (domain * LEVELS + drawn.level) * PAIR_GROUPS + drawn.group % PAIR_GROUPS
        follows = document[1:] == document[:-1]
        if self.level:
            follows &= drawn.level[document[1:]] >= self.level
        before = cell[document[1:]] * self.width + ids[:-1]
        self.pairs.add((before * self.width + ids[1:])[follows])
        if self.pairs.settled > self.options.max_pairs:
            self.limit_pairs()

    def limit_pairs(self) -> None:
        """Drop the lowest levels until no more pairs than allowed are left."""
        keys, _ = self.pairs.counts()
        level = keys // (PAIR_GROUPS * self.width**2) % LEVELS
        at_least = np.cumsum(np.bincount(level, minlength=LEVELS)[::-1])[::-1]
        fits = np.flatnonzero(at_least <= self.options.max_pairs)
        # Even the documents of the last level may hold too many: then none are left.
        lowest = max(self.level, int(fits[0]) if len(fits) else LEVELS)
        if lowest > self.level or (len(level) and level.min() < lowest):
            self.level = lowest
            self.pairs.keep(level >= lowest)

    def add_sums(self, domain: Places, group: Places, values: Places) -> None:
        """Add the counters of documents, `(D, WIDTH)` or fewer of the first columns."""
        np.add.at(self.sums[:, :, : values.shape[1]], (domain, group), values)

    def add_patterns(self, domain: Places, group: Places, index: Places) -> None:
        """Add numbers, each of the domain and group of its document and the pattern it is cut in."""
        np.add.at(self.sums, (domain, group, len(COUNTERS) + index), 1)


class ProfileCounts:
    """Counts of several tokenizers over the same documents. The order of adding changes nothing.

    domains: their names, in the order of first sight; None: documents without one.
    """

    def __init__(self, widths: Sequence[int], options: ProfileOptions) -> None:
        self.options = options
        self.tokenizers = [TokenizerCounts(width, options) for width in widths]
        self.domains: list[str | None] = []
        self._number: dict[str | None, int] = {}

    @property
    def documents(self) -> int:
        return int(self.tokenizers[0].sums[:, :, COUNTER["documents"]].sum())

    def pair_documents(self, tokenizer: int) -> int:
        """Documents whose pairs are kept: fewer than `documents` where the pairs reached their limit."""
        counts = self.tokenizers[tokenizer]
        counts.limit_pairs()
        first = COUNTER[LEVEL_COUNTERS[0]]
        return int(counts.sums[:, :, first + counts.level : first + LEVELS].sum())

    def domain_numbers(self, names: Iterable[str | None]) -> Places:
        """The number of each domain; new ones get the next.

        Raises:
            TooManyDomainsError: more than `max_domains`.
        """
        numbers = [self._number.setdefault(name, len(self._number)) for name in names]
        if len(self._number) > self.options.max_domains:
            raise TooManyDomainsError(
                f"more than {self.options.max_domains} domains: the domain must name a kind of document, not a document"
            )
        self.domains = list(self._number)
        for each in self.tokenizers:
            each.grow(len(self._number))
        return np.array(numbers, np.int64)

    def table(self) -> pa.Table:
        """Everything counted, as `TABLE`: what `add` takes."""
        parts = [TABLE.empty_table()]
        for number, counts in enumerate(self.tokenizers):
            counts.limit_pairs()
            place = np.flatnonzero(counts.sums)
            parts += [
                self._part(number, _SUMS, place, counts.sums.ravel()[place], counts.sums[0].size if len(place) else 1),
                self._part(number, _IDS, *counts.ids.counts(), counts.id_span),
                self._part(number, _PAIRS, *counts.pairs.counts(), counts.pair_span),
                _rows(number, _LEVEL, pa.nulls(1, pa.string()), np.zeros(1, np.int64), np.array([counts.level])),
            ]
        return pa.concat_tables(parts).unify_dictionaries()

    def _part(self, number: int, kind: int, keys: Keys, n: Keys, span: int) -> pa.Table:
        domain, keys = np.divmod(keys, span)
        is_none = domain == self._number.get(None, -1)
        names = pa.array([name or "" for name in self.domains], pa.string())
        named = pa.DictionaryArray.from_arrays(pa.array(domain.astype(np.int32), mask=is_none), names)
        return _rows(number, kind, named, keys, n)

    def add(self, table: pa.Table) -> None:
        """Add what `table` of another gave.

        Raises:
            TooManyDomainsError: more than `max_domains` together.
        """
        for batch in table.select(TABLE.names).combine_chunks().to_batches(max_chunksize=_AT_ONCE):
            column = batch["domain"]
            # The last name is NULL's: the indices of NULLs point nowhere.
            known = [*column.dictionary.to_pylist(), None]
            index = pc.fill_null(column.indices, len(known) - 1).to_numpy(zero_copy_only=False)
            used = np.unique(index[batch["kind"].to_numpy() != _LEVEL])
            number = np.zeros(len(known), np.int64)
            number[used] = self.domain_numbers([known[place] for place in used])
            self._add(batch, number[index])

    def _add(self, batch: pa.RecordBatch, domain: Places) -> None:
        tokenizer, kind, key, n = (batch[name].to_numpy() for name in ("tokenizer", "kind", "key", "n"))
        for number, counts in enumerate(self.tokenizers):
            mine = tokenizer == number
            sums, ids, pairs, level = (np.flatnonzero(mine & (kind == each)) for each in range(4))
            np.add.at(counts.sums.reshape(-1), domain[sums] * counts.sums[:1].size + key[sums], n[sums])
            counts.ids.add_counts(domain[ids] * counts.id_span + key[ids], n[ids])
            counts.pairs.add_counts(domain[pairs] * counts.pair_span + key[pairs], n[pairs])
            counts.level = max(counts.level, int(n[level].max(initial=0)))
            counts.limit_pairs()


def _rows(tokenizer: int, kind: int, domain: pa.Array, keys: Keys, n: Keys) -> pa.Table:
    columns = [
        pa.repeat(pa.scalar(tokenizer, pa.int16()), len(keys)),
        pa.repeat(pa.scalar(kind, pa.int8()), len(keys)),
        domain if pa.types.is_dictionary(domain.type) else domain.dictionary_encode(),
        pa.array(keys),
        pa.array(n),
    ]
    return pa.table(columns, schema=TABLE)
