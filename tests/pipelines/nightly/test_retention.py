"""Which runs go: superseded ones first, never what is current unless the job says so, never those of others."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import lakes
import pytest

from operators.lake import Lake
from pipelines.nightly.book import Book
from pipelines.nightly.night import Night
from pipelines.nightly.options import Retention
from pipelines.nightly.retention import removable, remove
from pipelines.nightly.shards import Known, counts

DAYS = [date(2026, 11, 1) + timedelta(n) for n in range(4)]
# Of four nights: the first is superseded, the second holds what is current, the third what has left the input.
SHARDS = [
    Known("unchanged", 1, "t", "web-2026-11-02", "2026-11-02"),
    Known("gone", 1, "t", "web-2026-11-03", "2026-11-03"),
    Known("new", 1, "t", "web-2026-11-04", "2026-11-04"),
    Known("waiting", 1, "t", None, None),
]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    book = Book(lake, "web")
    for day in DAYS:
        lakes.write_run(lake, f"web-{day}")
        night = Night("web", day, f"web-{day}", "finished", counts([]))
        if day != DAYS[-1]:  # which is under way
            book.finish(night, "", "", {"night": night.record(), "exit_code": 0})
    lakes.write_run(lake, "web-2026-10-01")  # called as a night is, and of none
    return book


@pytest.mark.parametrize(
    ("policy", "going"),
    [
        (None, ()),
        (Retention(nights=1), ("web-2026-11-01",)),
        (Retention(nights=1, gone=True), ("web-2026-11-01", "web-2026-11-03")),
        (Retention(nights=1, current=True), ("web-2026-11-01", "web-2026-11-02", "web-2026-11-03")),
        (Retention(nights=2, gone=True), ("web-2026-11-01",)),
        (Retention(nights=2, current=True), ("web-2026-11-01", "web-2026-11-02")),
        (Retention(nights=9, current=True), ()),
    ],
)
def test_what_goes(book: Book, policy: Retention | None, going: tuple[str, ...]) -> None:
    assert removable(policy, book, DAYS[-1], SHARDS) == going


def test_a_run_that_another_was_made_from_stays(book: Book) -> None:
    lower = "web-lower"
    lakes.write_run(book.lake, lower, config={"base_run": "web-2026-11-01", "transform": "lowercase"})
    try:
        assert removable(Retention(nights=1), book, DAYS[-1], SHARDS) == ()
    finally:
        book.lake.remove_run(lower)


def test_a_night_without_a_run_takes_no_run_of_its_name(book: Book, tmp_path: Path) -> None:
    other = Book(book.lake, "quiet")
    for day in DAYS[:2]:
        night = Night("quiet", day, None, "finished", counts([]))
        other.finish(night, "", "", {"night": night.record(), "exit_code": 0})
    lakes.write_run(book.lake, "quiet-2026-11-01")
    assert removable(Retention(nights=1, current=True), other, DAYS[3], []) == ()


def test_removing_again_is_no_harm(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for run in ("a", "b", "c"):
        lakes.write_run(lake, run)
    assert remove(lake, ["a", "c"]) == ["a", "c"]
    assert remove(lake, ["a", "c"]) == []
    assert lake.run_ids() == ["b"]
