"""Everything that is read of the corpora before they are compared: counts of n-grams, numbers, pieces, hidden states.

corpora -> documents, tokens, in passes -> `Measured`, documents of all corpora one behind the other
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jobs.compare.request import TOKENS, WORDS, CompareOptions
from operators.comparison.corpora import Corpus, ranges_of
from operators.comparison.depth import directions
from operators.comparison.grams import GramCounter, Grams, TooManyError
from operators.comparison.pieces import Pieces
from operators.comparison.reading import Numbers, UnevenError, read_numbers, read_states, read_tokens, read_words
from operators.evaluation.classes import Floats
from pipelines.config import ConfigError

if TYPE_CHECKING:
    import duckdb

BYTES, N_WORDS, N_TOKENS, PER_TOKEN, RATIO = "bytes", "words", "tokens", "bytes_per_token", "compression_ratio"
PIECES = "piece_compression_ratio"
OF_TOKENIZER = (N_TOKENS, PER_TOKEN)  # not to be compared across tokenizers

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """What is known of the documents. `grams`: by unit and length; `quantities`: by name, NaN where undefined;
    `pieces`: ratios by corpus; `texts`: a number a document, the same for the same text; `unit_ND`: directions of mean
    hidden states, None where there are none to compare.
    """

    corpora: Sequence[Corpus]
    places: Sequence[Places]
    grams: Mapping[tuple[str, int], Grams]
    quantities: Mapping[str, Floats]
    pieces: Sequence[Floats]
    texts: Places
    without_text: Sequence[int]
    unit_ND: npt.NDArray[np.float32] | None


def measure(
    connection: duckdb.DuckDBPyConnection, corpora: Sequence[Corpus], options: CompareOptions, *, with_states: bool
) -> Measured:
    """Read the documents of all corpora.

    Raises:
        ConfigError: words are asked for of a corpus without texts, or there are more n-grams than can be held.
    """
    numbers = [read_numbers(connection, corpus) for corpus in corpora]
    without = [int((~each.has_text_D).sum()) for each in numbers]
    _check_texts(corpora, without, options)
    try:
        grams, pieces = _count(connection, corpora, options)
    except TooManyError as error:
        raise ConfigError(str(error)) from None
    return Measured(
        corpora,
        ranges_of(corpora),
        grams,
        _quantities(numbers),
        pieces,
        np.unique(np.concatenate([each.sha256_D for each in numbers]).astype(str), return_inverse=True)[1],
        without,
        _states(connection, corpora) if with_states else None,
    )


def _check_texts(corpora: Sequence[Corpus], without: Sequence[int], options: CompareOptions) -> None:
    gone = [corpus for corpus, n in zip(corpora, without, strict=True) if n == len(corpus)]
    if gone and WORDS in options.units:
        runs = ", ".join(sorted({corpus.run_id for corpus in gone}))
        raise ConfigError(
            f"--unit words: texts were dropped when run {runs} was scored; --unit tokens compares its token ids, or "
            "score it again without --drop-text"
        )


def _count(
    connection: duckdb.DuckDBPyConnection, corpora: Sequence[Corpus], options: CompareOptions
) -> tuple[dict[tuple[str, int], Grams], list[Floats]]:
    total = sum(map(len, corpora))
    counters = {unit: GramCounter(options.ngrams, total) for unit in options.units}
    firsts = [int(places[0]) for places in ranges_of(corpora)]
    ratios = []
    for corpus, first in zip(corpora, firsts, strict=True):
        pieces = Pieces()
        read_words(connection, corpus, first, counters.get(WORDS), pieces)
        if TOKENS in counters:
            read_tokens(connection, corpus, first, counters[TOKENS])
        ratios.append(pieces.ratios)
    return {(unit, n): counter.counted(n) for unit, counter in counters.items() for n in options.ngrams}, ratios


def _quantities(numbers: Sequence[Numbers]) -> dict[str, Floats]:
    def every(name: str) -> Floats:
        return np.concatenate([getattr(each, name) for each in numbers])

    size, tokens = every("n_bytes_D"), every("n_tokens_D")
    return {
        BYTES: size,
        N_WORDS: every("n_words_D"),
        N_TOKENS: tokens,
        PER_TOKEN: size / tokens,
        RATIO: size / every("zlib_bytes_D"),
    }


def _states(connection: duckdb.DuckDBPyConnection, corpora: Sequence[Corpus]) -> npt.NDArray[np.float32]:
    """Half the memory of what they are computed in: they were stored in half precision."""
    try:
        means = [directions(read_states(connection, corpus)).astype(np.float32) for corpus in corpora]
    except UnevenError as error:
        raise ConfigError(
            f"{error}; `assay verify` says what else is wrong with it, --no-depth leaves them out"
        ) from None
    width = max(each.shape[1] for each in means)
    return np.concatenate([each if each.shape[1] == width else np.full((len(each), width), np.nan, np.float32)
                           for each in means])  # fmt: skip
