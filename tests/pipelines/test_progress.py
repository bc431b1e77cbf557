"""What a run says while it runs."""

from __future__ import annotations

import io

import pytest

from pipelines import progress
from pipelines.progress import Counts, Progress, duration

MANIFEST = {"rows_in": 3, "documents": 2, "rejects": 1, "tokens": 1000, "scored": 998, "text_bytes": 4000}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (-3, "0 s")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_time_left_follows_the_clock_of_the_first_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty seconds of start-up, then a tenth of the run every ten seconds: after three tenths, seventy are left."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counts = Counts(started=0.0)
    for block in range(1, 4):
        now[0] = 20.0 + 10 * block
        counts.add(MANIFEST)
    assert counts.describe(0.3) == "6 documents, 3 rejected, 3,000 tokens, 60 tokens/s, 1 min 10 s left"


def test_no_time_left_is_said_where_it_is_not_known() -> None:
    counts = Counts()
    counts.add(MANIFEST)
    assert "left" not in counts.describe(0.2)
    counts.add(MANIFEST)
    assert "left" not in counts.describe(None)


def test_a_log_gets_plain_lines() -> None:
    log = io.StringIO()
    with Progress(lambda counts: None, log) as report:
        report(MANIFEST)
        report(MANIFEST)  # within ten seconds: no second line
    assert log.getvalue().count("\n") == 1
    assert log.getvalue().startswith("scoring: 2 documents, 1 rejected, 1,000 tokens")
    assert "\x1b" not in log.getvalue()
