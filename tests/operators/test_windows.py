"""Windows worked out by hand, and the promise they make on any lengths."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.windows import Segment, WindowOptions, pack, segments, windows


def spans(n_tokens: int, context: int, stride: int) -> list[tuple[int, int, int]]:
    return [(w.start, w.stop, w.score_from) for w in windows(0, n_tokens, WindowOptions(context, stride))]


@pytest.mark.parametrize(
    ("n_tokens", "expected"),
    [
        (1, [(0, 1, 1)]),
        (2, [(0, 2, 1)]),
        (4, [(0, 4, 1)]),
        (5, [(0, 4, 1), (2, 5, 4)]),
        (6, [(0, 4, 1), (2, 6, 4)]),
        (7, [(0, 4, 1), (2, 6, 4), (4, 7, 6)]),
    ],
)
def test_windows_of_context_four_stride_two(n_tokens: int, expected: list[tuple[int, int, int]]) -> None:
    assert spans(n_tokens, 4, 2) == expected


def test_uneven_stride() -> None:
    assert spans(9, 4, 3) == [(0, 4, 1), (3, 7, 4), (6, 9, 7)]


@given(n_tokens=st.integers(1, 400), context=st.integers(2, 50), data=st.data())
def test_every_token_is_scored_once_with_its_context(n_tokens: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context - 1))
    options = WindowOptions(context, stride)
    found = list(windows(0, n_tokens, options))
    scored = [position for w in found for position in range(w.score_from, w.stop)]
    assert scored == list(range(1, n_tokens))
    for k, window in enumerate(found):
        assert window.start == k * stride
        assert len(window) <= context
        for position in range(window.score_from, window.stop):
            assert position - window.start >= min(position, context - stride)


@given(lengths=st.lists(st.integers(0, 60), max_size=30), budget=st.integers(1, 100))
def test_packing_keeps_every_segment_and_the_budget(lengths: list[int], budget: int) -> None:
    stream = list(segments(lengths, WindowOptions(16, 8)))
    batches = list(pack(iter(stream), budget))
    place = {segment: i for i, segment in enumerate(stream)}
    assert sorted(place[s] for batch in batches for s in batch) == list(range(len(stream)))
    assert batches == list(pack(stream, budget))
    for batch in batches:
        assert sum(len(s) for s in batch) <= budget or len(batch) == 1
        assert [place[s] for s in batch] == sorted(place[s] for s in batch)


def test_packing_takes_the_longest_that_fits() -> None:
    """Worked out by hand: 7, then 3 (not 4 nor 5) into 10; 5 and 5; 4."""
    lengths = [5, 7, 4, 3, 5]
    batches = list(pack(segments(lengths, WindowOptions(16, 8)), 10))
    assert [[len(s) for s in batch] for batch in batches] == [[7, 3], [5, 5], [4]]


@pytest.mark.parametrize(("context", "budget", "least"), [(2048, 16384, 0.99), (2048, 4096, 0.98), (1024, 1024, 0.98)])
@pytest.mark.parametrize(("mean", "deviation"), [(5.0, 0.8), (6.0, 1.2)])
def test_batches_of_mixed_lengths_are_full(
    context: int, budget: int, least: float, mean: float, deviation: float
) -> None:
    """All but the last: log-normal lengths, as real documents have them."""
    lengths = np.exp(np.random.default_rng(0).normal(mean, deviation, 4000)).astype(int).clip(1).tolist()
    batches = list(pack(segments(lengths, WindowOptions(context, context // 2)), budget))
    fill = [sum(map(len, batch)) / budget for batch in batches[:-1]]
    assert np.mean(fill) >= least


def test_packing_reads_no_further_ahead_than_it_says() -> None:
    """A stream without end gives batches, and few segments wait."""
    read = 0

    def endless() -> Iterator[Segment]:
        nonlocal read
        for document in itertools.count():
            read += 10
            yield Segment(document, 0, 10, 1)

    batches = pack(endless(), 100, look_ahead=3)
    for k in range(1, 20):
        assert len(next(batches)) == 10
        assert read <= 100 * (k + 3)


def test_empty_documents_have_no_window() -> None:
    assert list(segments([0, 2], WindowOptions(4, 2))) == [Segment(1, 0, 2, 1)]


@pytest.mark.parametrize(("context", "stride"), [(1, 1), (4, 0), (4, 4), (4, 9)])
def test_impossible_windows_are_refused(context: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"context|stride"):
        WindowOptions(context, stride)
