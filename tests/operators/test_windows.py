"""Windows worked out by hand, and the promise they make on any lengths."""

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
def test_packing_keeps_order_and_budget(lengths: list[int], budget: int) -> None:
    stream = list(segments(lengths, WindowOptions(16, 8)))
    batches = list(pack(stream, budget))
    assert [s for batch in batches for s in batch] == stream
    for batch in batches:
        assert sum(len(s) for s in batch) <= budget or len(batch) == 1


def test_empty_documents_have_no_window() -> None:
    assert list(segments([0, 2], WindowOptions(4, 2))) == [Segment(1, 0, 2, 1)]


@pytest.mark.parametrize(("context", "stride"), [(1, 1), (4, 0), (4, 4), (4, 9)])
def test_impossible_windows_are_refused(context: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"context|stride"):
        WindowOptions(context, stride)
