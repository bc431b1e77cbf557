"""What a run says while it runs."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from simulated_runs import File, Run

from operators.pieces import Piece
from operators.shards import Shard
from pipelines import progress
from pipelines.pace import Pace
from pipelines.progress import Counts, Progress, duration
from pipelines.tally_progress import TallyProgress
from pipelines.units import Unit
from pipelines.work_left import WorkLeft

MB = 1 << 20
MANIFEST = {
    "rows_in": 3, "documents": 2, "rejects": 1, "unreadable": 0, "tokens": 1000, "scored": 998, "text_bytes": 4000,
    "unit": 0, "is_last": False, "share": 0.1,
}  # fmt: skip


def unit(index: int, *pieces: Piece) -> Unit:
    return Unit(index, pieces)


def plain(n_bytes: int, name: str = "a.jsonl") -> Piece:
    return Piece(Shard(f"/c/{name}", "jsonl", n_bytes))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (-3, "0 s"),
        (3 * 86400 + 4 * 3600, "3 d 04 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_time_left_follows_the_pace_since_the_first_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty seconds of start-up, then a tenth of the run every ten seconds: after three tenths, seventy are left."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    report = Progress(WorkLeft.of([unit(0, plain(8 * MB))]), io.StringIO())
    for block in range(1, 4):
        now[0] = 20.0 + 10 * block
        report(MANIFEST)
    assert report.counts.describe(report.left) == "6 documents, 3 rejected, 3,000 tokens, 60 tokens/s, 1 min 10 s left"
    assert report.share == pytest.approx(0.3)


def test_no_time_left_is_said_where_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block has no pace, nor has one of each worker."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    report = Progress(WorkLeft.of([unit(0, plain(8 * MB))]), io.StringIO(), workers=3)
    for _ in range(3):
        now[0] += 10
        report(MANIFEST)
        assert report.left is None
        assert "left" not in report.counts.describe(report.left)
    now[0] += 10
    report(MANIFEST)
    assert report.left == pytest.approx(60)


def test_a_log_gets_plain_lines() -> None:
    log = io.StringIO()
    with Progress(WorkLeft({}), log) as report:
        report(MANIFEST)
        report(MANIFEST)  # within ten seconds: no second line
    assert log.getvalue().count("\n") == 1
    assert log.getvalue().startswith("scoring: 2 documents, 1 rejected, 1,000 tokens")
    assert "\x1b" not in log.getvalue()


def test_among_lines_of_json_progress_is_one_of_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ASSAY_LOG_FORMAT", "json")
    caplog.set_level("INFO", "pipelines")
    seconds = iter([0.0, 11.0])
    plain_text = io.StringIO()
    Progress(WorkLeft({}), plain_text)(MANIFEST)
    tally = TallyProgress("counting", plain_text, lambda: next(seconds))
    tally.begin([unit(0, plain(8 * MB)), unit(1, plain(8 * MB))])
    tally(unit(0, plain(8 * MB)))
    assert plain_text.getvalue() == ""
    scored, counted = caplog.records
    assert scored.assay["documents"] == 2  # type: ignore[attr-defined]
    assert counted.getMessage() == "counting: 1 of 2 parts of the input, 8 MB, 11 s left"
    assert counted.assay == {"units_done": 1, "units": 2, "seconds_left": 11.0}  # type: ignore[attr-defined]


# The work that is left


def test_a_limit_counts_records_and_those_of_earlier_attempts() -> None:
    work = WorkLeft.of([unit(0, plain(8 * MB))], records=30)
    assert [work.add(MANIFEST), work.left, work.share] == [3.0, 27.0, pytest.approx(0.1)]


def test_a_kind_that_has_not_come_up_is_taken_at_its_usual_ratio() -> None:
    """1000 plain bytes, usually 900 of text, held 225 tokens: 1000 bytes of gzip, usually 2700 of text, hold 675."""
    packed = Piece(Shard("/c/b.jsonl.gz", "jsonl", 1000))
    work = WorkLeft.of([unit(0, plain(1000)), unit(1, packed)])
    work.add({**MANIFEST, "tokens": 225, "is_last": True})
    assert work.left == pytest.approx(225 * 2.7 / 0.9)
    work.add({**MANIFEST, "unit": 1, "tokens": 400, "share": 0.5})
    assert work.left == pytest.approx(400)  # now as it is


def test_rejects_alone_tell_how_much_is_done_but_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the documents still to come would cost, nothing that was rejected can tell."""
    report = Progress(WorkLeft.of([unit(0, plain(1000)), unit(1, plain(3000, "b.jsonl"))]), io.StringIO())
    report({**MANIFEST, "tokens": 0, "is_last": True})
    report({**MANIFEST, "tokens": 0, "unit": 1, "share": 0.5})
    assert report.share == pytest.approx(2500 / 4000)
    assert report.left is None


@pytest.mark.parametrize("n", [0, 1, 5, 1023, 1024, 1025, 3000, 9001])
@pytest.mark.parametrize("workers", [1, 7, 300])
def test_a_pace_from_all_blocks_at_once_is_that_of_one_after_the_other(n: int, workers: int) -> None:
    rng = np.random.default_rng(n)
    times, work = 5.0 + np.sort(rng.random(n)) * 100, rng.integers(0, 1000, n)
    one_by_one = Pace(3.0, workers)
    for now, held in zip(times.tolist(), work.tolist(), strict=True):
        one_by_one.add(now, held)
    assert Pace.of(3.0, workers, times, work) == one_by_one


def test_what_is_done_already_is_not_left() -> None:
    work = WorkLeft.of([unit(0, plain(1000)), unit(1, plain(1000, "b.jsonl"))], shares={1: 0.5})
    work.add({**MANIFEST, "tokens": 100, "is_last": True})
    assert work.left == pytest.approx(50)


def test_the_pieces_of_a_parquet_file_share_its_bytes() -> None:
    """Three pieces of 300 MB, of which the last one names no end: each is a third, and one small file beside it."""
    shard = Shard("/c/a.parquet", "parquet", 300 * MB)
    cut = [Piece(shard, 0, 4), Piece(shard, 4, 8, 100), Piece(shard, 8, None, 200)]
    work = WorkLeft.of([unit(i, piece) for i, piece in enumerate(cut)])
    work.add({**MANIFEST, "is_last": True})
    assert work.left == pytest.approx(2000)


def test_units_that_are_not_known_do_no_harm() -> None:
    work = WorkLeft.of([unit(0, plain(1000))])
    assert work.add({**MANIFEST, "unit": 7}) == 1000.0
    assert (work.left, work.share) == (None, None)


# The time left, in runs that are played through

PLAIN = [File("a.jsonl", 16 * MB)] * 30
RUNS = {
    "plain text": Run(PLAIN),
    "without jitter, eight workers in step": Run(PLAIN, workers=8, jitter=0.0),
    "thirty-two workers": Run(PLAIN * 8, workers=32),
    "slow first blocks": Run(PLAIN * 4, workers=8, load=20, compile=60),
    "slow first block, one worker": Run(PLAIN, load=20, compile=60),
    "blocks come a dozen at once": Run(PLAIN * 4, workers=4, burst=12),
    "one huge compressed file": Run([File("a.jsonl.gz", 400 * MB, 3.6)], workers=4),
    "one huge compressed file of little text": Run([File("a.jsonl.zst", 400 * MB, 0.7)], workers=2),
    "a few huge files, then small ones": Run(
        [File("a.parquet", 150 * MB, 2.2), File("b.parquet", 300 * MB, 2.6)] + [File("c.parquet", 2 * MB, 2.4)] * 60,
        workers=4,
    ),
    "small files, then a few huge ones": Run(
        [File("c.jsonl.gz", 2 * MB, 3.0)] * 60 + [File("a.jsonl.gz", 150 * MB, 3.4)] * 2
    ),
    "a file is a block": Run([File("a.jsonl", MB)] * 900, workers=4),
    "plain first, then compressed": Run(PLAIN + [File("a.jsonl.gz", 16 * MB, 3.9)] * 20, workers=2),
    "compressed first, then plain": Run([File("a.jsonl.gz", 16 * MB, 2.1)] * 10 + PLAIN, workers=2),
    "units of unequal density": Run(
        [File("a.parquet", 8 * MB, 1.0 if i % 3 else 3.0) for i in range(60)], workers=4, jitter=0.4
    ),
    "documents of mixed length": Run(
        [replace(file, tokens_in_text=0.5 + i % 4 * 0.5) for i, file in enumerate(PLAIN)], jitter=0.5
    ),
    "many blocks of rejects": Run(PLAIN, workers=2, rejected=0.4),
    "resumed": Run(PLAIN, workers=2, done={**dict.fromkeys(range(12), 1.0), 12: 0.5, 13: 0.75, 14: 0.25}),
    "a node comes half-way": Run(PLAIN * 2, workers=2, faster_after=220),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RUNS)
def test_the_time_left_is_right_within_a_factor_of_two(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every block from the first tenth of the time to the last hundredth, within a block's time or two seconds."""
    run = replace(RUNS[name], seed=seed)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    report = Progress(WorkLeft.of(run.units(), shares=run.done), io.StringIO(), workers=run.workers)
    arrivals = run.arrivals()
    end = arrivals[-1][0]
    slack = max(2.0, run.burst / run.workers * max(took - run.compile for _, _, took in arrivals))
    unknown, wrong = [], []
    for time, manifest, _ in arrivals:
        now[0] = time
        report(manifest)
        if not 0.1 <= time / end <= 0.99:
            continue
        if report.left is None:
            unknown.append(time / end)
        elif not end - time - slack <= 2 * report.left or not report.left <= 2 * (end - time) + slack:
            wrong.append((round(time / end, 3), round(end - time, 1), round(report.left, 1)))
    assert wrong == []
    assert max(unknown, default=0.0) < 0.25 or run.compile > 0
    assert report.left == pytest.approx(0.0, abs=1e-6)


def test_the_time_left_of_a_limited_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit ends the run in the middle of its files, whatever their bytes say."""
    run = Run(PLAIN, workers=2)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    arrivals = run.arrivals()[:60]
    report = Progress(WorkLeft.of(run.units(), records=60 * 100), io.StringIO(), workers=2)
    end = arrivals[-1][0]
    for time, manifest, _ in arrivals:
        now[0] = time
        report(manifest)
        if time > end / 10 and report.left is not None:
            assert (end - time - 6) / 2 <= report.left <= 2 * (end - time) + 6
    assert report.left == 0.0


def test_counts_add_up() -> None:
    counts = Counts()
    counts.add(MANIFEST)
    counts.add(MANIFEST)
    assert (counts.rows_in, counts.documents, counts.rejects, counts.tokens) == (6, 4, 2, 2000)
