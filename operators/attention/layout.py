"""Where the segments of a packed row lie, and how the attention around them is to be computed.

A layout is put in force with `in_force` for the length of a forward pass: transformers offers no argument that reaches
every family's attention layers unchanged.

    row       a a a a b b c c c c c        bounds       (0, 4) (4, 6) (6, 11)
    cumulative lengths  0 4 6 11 11 11     a constant number of entries: segments of length zero at the end
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor

Path = Literal["varlen", "flex", "segments"]
PATHS: tuple[Path, ...] = get_args(Path)


@dataclass(frozen=True)
class Layout:
    """`bounds` tile the row, half-open, in tokens. `longest`: no segment is longer.

    `cumulative`: int32 on the device, starts of the segments and the row's length, repeated to any number of entries.
    `paths`: in order of preference; a layer takes the first that computes what it asks for. `one_split`: sums over
    keys in one order, whatever else is in the batch.
    """

    bounds: Sequence[tuple[int, int]]
    longest: int
    cumulative: Tensor | None = None
    paths: tuple[Path, ...] = ("segments",)
    one_split: bool = False
    masks: dict[int | None, Any] = field(default_factory=dict, repr=False, compare=False)
    """Block masks by window, made by the first layer that asks."""


_layout: ContextVar[Layout] = ContextVar("layout")


@contextlib.contextmanager
def in_force(layout: Layout) -> Iterator[None]:
    """Within, attention runs over the segments of `layout`."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def current() -> Layout:
    """The layout in force.

    Raises:
        LookupError: none is.
    """
    return _layout.get()


def plain(bounds: Sequence[tuple[int, int]]) -> Layout:
    """The layout of these segments for the path that needs nothing on the device."""
    return Layout(bounds, max((b - a for a, b in bounds), default=0))
