"""Which bytes of code are comments, and which tokens lie in them: what scores of code leave out (ATC, Ashkenazi 2025).

    text, language --> comment_spans     Python by its own tokenizer, what does not tokenize and the rest by Pygments
    spans, tokens  --> in_comment        a flag a token, NULL for documents that could not be told apart

Comments are what a language calls so, docstrings included, preprocessor directives not. A token is in a comment if it
shares at least one byte with it that is not ASCII white space: the indent before `# why` is code, the token `  #` and
one that starts with the last letter of a comment are not. Tokens of no bytes are in none.

Lexers are regular expressions that some texts drive into quadratic time (a long line of words, in Java). So a text of
more than 1 MiB is not lexed, long white space is shortened first (65 kB of empty lines are minutes, in C), and lexing
ends at a generous limit of processor time, ten times what ordinary code takes, looked at between a lexer's steps.
Which side of it a text falls on may differ from one attempt to the next, so an attempt at a block that was written
before repeats what it found then.
Shapes: `D` documents, `T` tokens of all of them.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.python_comments import UntokenizableError, python_comments

MAX_BYTES = 1 << 20
BASE_SECONDS, SECONDS_PER_BYTE = 1.0, 2e-5  # of processor time; real code takes 0.3 to 1.2 microseconds a byte

PATIENCE = 20.0  # times as long for a text that was lexed to its end before

_LONG_GAP = re.compile(r"(?<![ \t\n\r\f\v])[ \t\n\r\f\v]{256,}")
_GAP_ENDS = 100  # characters kept of such a gap at either end, and between them the ends of two lines

_WHITE_SPACE = np.frombuffer(b" \t\n\r\v\f", np.uint8)

Spans = list[tuple[int, int]]
Lexer = Any  # of Pygments, which ships no types and is imported where code is lexed


class _TooSlowError(Exception):
    """The text takes longer than its limit."""


def check_language(name: str) -> str:
    """The short name of a language that Pygments calls by `name` (`C++`, `cpp`), letters of either case.

    Raises:
        ValueError: it knows none; with the nearest names.
    """
    found = _languages().get(name.strip().lower())
    if found is None:
        near = difflib.get_close_matches(name.strip().lower(), _languages(), n=3)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "give a name that Pygments knows, such as python or c++"
        )
        raise ValueError(f"unknown language {name[:60]!r}: {hint}")
    return found


def comment_spans(text: str, language: str, patience: float = 1.0) -> Spans | None:
    """First byte and end of every comment and docstring of `text` in UTF-8, ascending and apart; some lexers count the
    end of the line to a comment.

    None where they cannot be told: an unknown language, more than `MAX_BYTES`, or a text that a lexer fails on or is
    too slow for; `patience` times the limit is allowed.
    """
    short = _languages().get(language.strip().lower())
    if short is None or len(text) > MAX_BYTES or len(text.encode()) > MAX_BYTES:
        return None
    lexer = _lexer_class(short)()
    try:
        found = _found(text, lexer, is_python=short == "python", patience=patience)
    except Exception:  # hostile text: lexers recurse, loop and fail in ways of their own
        return None
    offsets = _byte_offsets(text)
    return [(int(offsets[start]), int(offsets[stop])) for start, stop in _merged(found)]


def in_comment(
    documents: pa.Table,
    *,
    language: str | None = None,
    language_column: str | None = None,
    before: Sequence[bool] | None = None,
) -> pa.Array:
    """Whether each token lies in a comment, `[T]` booleans in the order of the documents' lists, NULL where unknown.

    `documents` has `text`, `prompt_bytes`, `attributes`, `byte_start` and `n_bytes`. The language is `language`, or
    what the attribute `language_column` of a document says. Of a document with a prompt, what follows it is code.
    `before`: whether each document had flags when this block was written before; one without has none again.
    """
    names = [language] * documents.num_rows if language is not None else _attribute(documents, language_column or "")
    flags = []
    columns = ("text", "prompt_bytes", "byte_start", "n_bytes")
    for row, name in enumerate(names):
        text, prompt_bytes, starts, sizes = (documents[column][row] for column in columns)
        encoded = text.as_py().encode()
        first = prompt_bytes.as_py() or 0
        spans = None
        if name is not None and (before is None or before[row]):
            spans = comment_spans(encoded[first:].decode(), name, 1.0 if before is None else PATIENCE)
        tokens = (np.asarray(column.values, np.int64) for column in (starts, sizes))
        flags.append(_flags(encoded, spans, first, *tokens))
    return pa.concat_arrays(flags) if flags else pa.array([], pa.bool_())


def comment_tokens(in_comment_T: pa.ChunkedArray, lengths: npt.NDArray[np.int64]) -> pa.Array:
    """How many tokens of each document lie in comments, `[D]`; NULL where its flags are. No length is 0."""
    starts = np.cumsum(lengths) - lengths
    flags = in_comment_T.fill_null(False).to_numpy().astype(np.int64)
    unknown = pc.is_null(in_comment_T).to_numpy()[starts] if len(lengths) else np.zeros(0, np.bool_)
    return pa.array(np.add.reduceat(flags, starts) if len(lengths) else flags, mask=unknown)


def _attribute(documents: pa.Table, column: str) -> list[str | None]:
    return [dict(pairs or ()).get(column) for pairs in documents["attributes"].to_pylist()]


def _flags(encoded: bytes, spans: Spans | None, first: int, starts: npt.NDArray[np.int64],
           sizes: npt.NDArray[np.int64]) -> pa.Array:  # fmt: skip
    """One document's flags. `spans` count bytes from `first` on."""
    if spans is None:
        return pa.nulls(len(starts), pa.bool_())
    counts = np.zeros(len(encoded), np.bool_)
    for start, stop in spans:
        counts[first + start : first + stop] = True
    counts &= ~np.isin(np.frombuffer(encoded, np.uint8), _WHITE_SPACE)
    before = np.concatenate([[0], np.cumsum(counts)])  # bytes that count before each
    ends = np.minimum(starts + sizes, len(encoded))
    return pa.array(before[ends] > before[np.minimum(starts, len(encoded))])


@functools.cache
def _languages() -> dict[str, str]:
    """Pygments' first short name by every name of a language, in lower case. Names that others use come last."""
    from pygments.lexers import get_all_lexers

    known: dict[str, str] = {}
    lexers = [(name, aliases) for name, aliases, _, _ in get_all_lexers(plugins=False) if aliases]
    for _, aliases in lexers:
        for alias in aliases:
            known.setdefault(alias.lower(), aliases[0])
    for name, aliases in lexers:
        known.setdefault(name.lower(), aliases[0])
    return known


@functools.cache
def _lexer_class(short: str) -> type[Any]:
    from pygments.lexers import find_lexer_class_by_name

    found: type[Any] = find_lexer_class_by_name(short)
    found()  # compiles its expressions, which no text is to be charged for
    return found


def _found(text: str, lexer: Lexer, *, is_python: bool, patience: float) -> Iterable[tuple[int, int]]:
    """First character and end of comments, in any order."""
    stop = time.thread_time() + patience * (BASE_SECONDS + SECONDS_PER_BYTE * len(text))
    if is_python:
        try:
            return [span for span in _timed(python_comments(text), stop) if span is not None]
        except UntokenizableError:
            pass
    return list(_lexed(text, lexer, stop))


def _lexed(text: str, lexer: Lexer, stop: float) -> Iterator[tuple[int, int]]:
    from pygments.token import Comment, String

    places_C = _without_gaps(text)
    short = text if len(places_C) == len(text) else "".join(text[place] for place in places_C)
    # Some lexers end a comment at the end of its line alone.
    for start, kind, value in _timed(lexer.get_tokens_unprocessed(short + "\n"), stop):
        if (kind in Comment and kind not in Comment.Preproc and kind not in Comment.PreprocFile) or kind in String.Doc:
            stop_at = min(start + len(value), len(short))
            if start < stop_at:
                yield int(places_C[start]), int(places_C[stop_at - 1]) + 1


def _without_gaps(text: str) -> npt.NDArray[np.int64]:
    """The characters of a text that are lexed `[C]`: all but the middle of long white space."""
    kept = np.ones(len(text), np.bool_)
    for gap in _LONG_GAP.finditer(text):
        first, last = gap.start() + _GAP_ENDS, gap.end() - _GAP_ENDS
        kept[first:last] = False
        lines = itertools.islice(re.finditer("\n", gap[0][_GAP_ENDS:-_GAP_ENDS]), 2)
        kept[[first + line.start() for line in lines]] = True
    return np.flatnonzero(kept)


def _timed(items: Iterable[Any], stop: float) -> Iterator[Any]:
    for item in items:
        if time.thread_time() > stop:
            raise _TooSlowError
        yield item


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans that touch or overlap as one, ascending; empty ones left out."""
    start, stop = -1, -1
    for first, last in sorted(spans):
        if first > stop:
            if stop > start:
                yield start, stop
            start, stop = first, last
        stop = max(stop, last)
    if stop > start:
        yield start, stop


def _byte_offsets(text: str) -> npt.NDArray[np.int64]:
    """Where each character starts in UTF-8, and where the last ends: `[characters + 1]`."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
