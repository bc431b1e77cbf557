"""Comments and docstrings of Python code, by Python's own tokenizer: no grammar is needed, and broken code is told.

A docstring is what `ast.get_docstring` finds: strings, and nothing else, as the first statement of a module, class or
function. Parenthesised ones are the exception, they are taken for code. A module here is any text: the first statement
of a function's body without its head counts as one.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

_LAYOUT = {tokenize.ENCODING, tokenize.NL, tokenize.INDENT, tokenize.DEDENT}
_PLAIN_PREFIXES = {"", "r", "u"}  # neither bytes nor formatted, which document nothing

Span = tuple[int, int]


class UntokenizableError(ValueError):
    """The text is not Python as far as its tokenizer can see."""


def python_comments(text: str) -> Iterator[Span | None]:
    """First character and end of every comment and docstring; None for each other token, so that a caller may stop.

    Raises:
        UntokenizableError: while iterating.
    """
    starts = [0, *accumulate(len(line) for line in io.StringIO(text))]
    docstrings = _Docstrings()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.ERRORTOKEN and not token.string.isspace():
                raise UntokenizableError
            span = _place(token, starts)
            yield span if token.type == tokenize.COMMENT else None
            yield from docstrings.take(token, span)
    except (tokenize.TokenError, SyntaxError, ValueError) as error:
        raise UntokenizableError from error


def _place(token: tokenize.TokenInfo, starts: list[int]) -> Span:
    """Characters from the text's start; a token may lie behind its end."""
    first, last = (starts[min(row - 1, len(starts) - 1)] + column for row, column in (token.start, token.end))
    return first, last


@dataclass
class _Docstrings:
    """Follows tokens, and tells docstrings from other strings.

    `is_first`: a docstring may stand here. `strings`: those that are one if their statement ends with them.
    `in_head`: between `class` or `def` and its colon; `depth`: open brackets there.
    """

    is_first: bool = True
    strings: list[Span] = field(default_factory=list)
    at_start: bool = True  # of a statement
    in_head: bool = False
    depth: int = 0

    def take(self, token: tokenize.TokenInfo, span: Span) -> Iterator[Span]:
        """The docstring that ends before this token."""
        if token.type in _LAYOUT or token.type == tokenize.COMMENT:
            return
        ends = token.type in (tokenize.NEWLINE, tokenize.ENDMARKER) or token.string == ";"
        if ends:
            yield from self.strings
            self.is_first = self.is_first and not self.strings
        elif not self.is_first or token.type != tokenize.STRING or not _is_plain(token.string):
            self.is_first = False
        if ends or not self.is_first:
            self.strings = []
        else:
            self.strings.append(span)
        self._follow_head(token, ends=ends)

    def _follow_head(self, token: tokenize.TokenInfo, *, ends: bool) -> None:
        if ends:
            self.at_start, self.in_head, self.depth = True, False, 0
            return
        if self.at_start and token.string in ("class", "def"):
            self.in_head = True
        self.at_start = self.at_start and token.string == "async"
        if self.in_head and token.type == tokenize.OP:
            self.depth += (token.string in "([{") - (token.string in ")]}")
            if token.string == ":" and self.depth == 0:
                self.in_head, self.is_first = False, True


def _is_plain(literal: str) -> bool:
    prefix = literal.split("'")[0].split('"')[0]
    return prefix.lower() in _PLAIN_PREFIXES
