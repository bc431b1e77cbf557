"""Cuts documents into windows and packs the windows' tokens into batches without padding.

A document longer than the context is covered by windows that overlap by `context - stride`; nothing is re-inserted at a
window's start. Drawn for context 4, stride 2, seven tokens (`=` fed, `#` fed and scored, `.` fed, never scorable):

    position   0  1  2  3  4  5  6
    window 0   .  #  #  #               first window: scores all its tokens
    window 1         =  =  #  #         later windows: score what no window before has scored
    window 2               =  =  #      the last may be short

Every token but the first is scored exactly once, with at least `context - stride` tokens to its left where the document
has them. The price: windows overlap by half by default, so a long document costs twice the forward pass.

A fixed prefix may be fed before every window. Then the document's first token is predicted too, from the prefix's last
token, and scored; the prefix's tokens are computed anew for every window.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MIN_BATCH_TOKENS = 16  # below four rows float32 matrix products round differently; sixteen leaves a margin
LOOK_AHEAD = 4  # budgets: fills 0.999 of a batch of 16,384 tokens and 0.98 to 0.995 of one of 1024, log-normal lengths


@dataclass(frozen=True)
class WindowOptions:
    """`context`: most tokens of a document in a window, at least 2. `stride`: step between windows, 1 to `context - 1`.

    `prefix`: ids fed before every window, not counted in `context`.
    """

    context: int
    stride: int
    prefix: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.context < 2:
            raise ValueError(f"context is {self.context}: a window needs at least 2 tokens")
        if not 1 <= self.stride < self.context:
            # At stride == context the first token of a later window would have no context, hence no prediction.
            raise ValueError(f"stride is {self.stride}: it must lie between 1 and context - 1 = {self.context - 1}")

    @property
    def most_fed(self) -> int:
        """Tokens of the longest window, prefix included."""
        return self.context + len(self.prefix)


@dataclass(frozen=True)
class Segment:
    """One window of one document: feeds positions `start:stop` behind `prefix` tokens, scores `score_from:stop`."""

    document: int
    start: int
    stop: int
    score_from: int
    prefix: int = 0

    def __len__(self) -> int:
        """Tokens fed."""
        return self.prefix + self.stop - self.start

    @property
    def skip(self) -> int:
        """Tokens fed before the first that is scored."""
        return self.prefix + self.score_from - self.start


def windows(document: int, n_tokens: int, options: WindowOptions) -> Iterator[Segment]:
    """The windows of a document of `n_tokens` tokens, in order.

    Without a prefix, a document of one token has one window and no score.
    """
    start, scored = 0, 0 if options.prefix else 1
    while True:
        stop = min(start + options.context, n_tokens)
        yield Segment(document, start, stop, min(scored, stop), len(options.prefix))
        if stop == n_tokens:
            return
        start, scored = start + options.stride, stop


def segments(lengths: Sequence[int], options: WindowOptions) -> Iterator[Segment]:
    """The windows of all documents, in document order."""
    for document, n_tokens in enumerate(lengths):
        if n_tokens:
            yield from windows(document, n_tokens, options)


def pack(stream: Iterable[Segment], budget: int, look_ahead: int = LOOK_AHEAD) -> Iterator[list[Segment]]:
    """Group segments into batches of at most `budget` tokens (a longer segment is a batch of its own).

    Best fit: a batch starts with the longest segment among the next `look_ahead` budgets of tokens and goes on with the
    longest that still fits. Equal streams give equal batches; within a batch segments stand as in the stream.
    """
    waiting: list[tuple[int, int, Segment]] = []  # rising by length; of equal lengths the earliest stands last
    tokens = 0
    for arrival, segment in enumerate(stream):
        bisect.insort(waiting, (len(segment), -arrival, segment))
        tokens += len(segment)
        while tokens >= look_ahead * budget:
            yield (batch := _fullest(waiting, budget))
            tokens -= sum(map(len, batch))
    while waiting:
        yield _fullest(waiting, budget)


def _fullest(waiting: list[tuple[int, int, Segment]], budget: int) -> list[Segment]:
    """Take a batch out of `waiting`: the longest segment, then again and again the longest that still fits."""
    taken = [waiting.pop()]
    room = budget - taken[0][0]
    while (place := bisect.bisect_left(waiting, (room + 1,))) > 0:
        taken.append(waiting.pop(place - 1))
        room -= taken[-1][0]
    return [segment for _, _, segment in sorted(taken, key=lambda entry: -entry[1])]
