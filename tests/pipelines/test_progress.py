"""What a run says while it runs."""

from __future__ import annotations

import io

import pytest

from pipelines import progress
from pipelines.progress import Counts, Progress, Share, duration

MANIFEST = {
    "rows_in": 3, "documents": 2, "rejects": 1, "unreadable": 0, "tokens": 1000, "scored": 998, "text_bytes": 4000,
    "unit": 0, "is_last": False,
}  # fmt: skip


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
    with Progress(Share({}, None, False), log) as report:
        report(MANIFEST)
        report(MANIFEST)  # within ten seconds: no second line
    assert log.getvalue().count("\n") == 1
    assert log.getvalue().startswith("scoring: 2 documents, 1 rejected, 1,000 tokens")
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Share({0: 8_000, 1: 8_000}, None, True), [0.25, 0.5, 0.99]),  # by the bytes of the text
        (Share({0: 1_000, 1: 3_000}, None, False), [None, 0.25, 0.99]),  # by whole units: a compressed input
        (Share({0: 1_000}, 10, False), [0.3, 0.6, 0.9]),  # by records: a limit
        (Share({}, None, True), [None, None, None]),
    ],
)
def test_share_of_the_work_done(share: Share, expected: list[float | None]) -> None:
    counts, found = Counts(), []
    for unit, is_last in ((0, False), (0, True), (1, True)):
        manifest = {**MANIFEST, "unit": unit, "is_last": is_last}
        counts.add(manifest)
        share.add(manifest)
        found.append(share(counts))
    assert found == expected
