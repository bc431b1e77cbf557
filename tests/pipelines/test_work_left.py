"""The sums behind the work that is left are those over all begun units, whatever blocks came in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.work_left import _Kind

BLOCKS = st.lists(st.tuples(st.integers(0, 7), st.floats(0, 400), st.floats(0, 100), st.booleans()), max_size=40)


@settings(deadline=None)
@given(BLOCKS, st.floats(0, 5))
def test_running_sums_are_those_over_all_begun_units(
    blocks: list[tuple[int, float, float, bool]], density: float
) -> None:
    kind = _Kind({unit: 100.0 * unit for unit in range(8)}, all=2800.0)
    for unit, n_bytes, work, is_last in blocks:
        kind.take(unit, kind.left[unit] if is_last else n_bytes, work)
        begun = [(kind.left[unit], *taken) for unit, taken in kind.begun.items()]
        fresh = max(0.0, kind.all - sum(left for left, _, _ in begun))
        own = sum(left * (work + density * left) / (done + left) for left, done, work in begun)
        assert kind.work_left(density) == pytest.approx(fresh * density + own, rel=1e-6, abs=1e-6)
        assert set(kind.begun) <= {unit for unit, left in kind.left.items() if left > 0}
