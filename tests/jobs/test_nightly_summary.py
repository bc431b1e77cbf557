"""The summary of a night: JSON, HTML and Markdown, findings and exit code, what is known already; hostile names."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import browser
import nights
import numpy as np
import pytest

from jobs.nightly.refresh import refresh
from jobs.nightly.refreshed import Lack, Refreshed
from jobs.nightly.summary import SCHEMA, VERSION, Summary, read_summary, summarise
from operators.catalog import connect
from operators.lake import Lake
from operators.nights import estimate
from operators.nights.estimate import counted_share, ratio
from operators.nights.measures import REPEATED_SHARE
from operators.nights.read import Number
from operators.verify import verify

HOSTILE = "\x1b[31m</td><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">|`*_\u202e"
LINK = "https://evil.example/@all www.evil.example [x](javascript:alert(1))"
BEFORE = 12


def bits(value: float, error: float = 0.01) -> Number:
    found = ratio(estimate.Sums(np.full(10, value), np.ones(10), 10 * value**2, 10.0, 10 * value, 10))
    assert found is not None
    level = {"value": value, "low": value - 2 * error, "high": value + 2 * error, "level": value, "level_error": error}
    return Number("bits_per_byte", "all", "", "bits per byte", type(found)(**{**vars(found), **level}))


def levels(size: int, shift: float = 0.0, at: int = 99) -> list[float]:
    rng = np.random.default_rng(0)
    return [1.4 + 0.01 * float(rng.standard_normal()) + shift * (place >= at) for place in range(size)]


def summed(lake: Lake, place: int, value: float, *more: Number, **options: Any) -> Summary:
    found = Refreshed((bits(value), *more), documents=60, tokens=1000)
    return summarise(nights.options(**options), lake, nights.night(place), found)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    nights.keep_past(made, levels(BEFORE))
    return made


def test_a_night_like_the_others_is_good(lake: Lake) -> None:
    summary = summed(lake, BEFORE, 1.401, fail_on=["changed", "contaminated", "incomplete", "rejects", "missed"])
    assert (summary.findings, summary.exit_code) == ((), 0)
    said = read_summary(json.dumps(summary.json(), allow_nan=False).encode())
    assert (said["schema"], said["version"], said["is_good"], said["nights"]) == (SCHEMA, VERSION, True, BEFORE)
    assert said["false_alarms"] == {"alpha": 0.01, "most_a_year": pytest.approx(3.65)}
    (row,) = said["changes"]
    assert row["verdict"] == "like the nights before"
    assert row["expected_low"] < 1.401 < row["expected_high"]
    assert "Good: nothing to look at" in summary.html()
    assert summary.markdown().startswith("# Good: nothing to look at\n")


def test_a_night_unlike_the_others_says_so_with_intervals_and_fails_where_asked(lake: Lake) -> None:
    summary = summed(lake, BEFORE, 1.6, fail_on=["changed"])
    (finding,) = summary.findings
    assert (finding.id, finding.severity, summary.exit_code) == ("changed", "warning", 3)
    assert re.search(
        r"1\.600, unlike the 12 nights before.*expect 1\.3\d+ \.\. 1\.4\d+: \+0\.\d+ \(\+0", finding.detail
    )
    assert "night_measures" in finding.next
    assert summed(lake, BEFORE, 1.6, fail_on=["contaminated"]).exit_code == 0


def test_a_change_of_level_is_news_once(lake: Lake, tmp_path: Path) -> None:
    moved = Lake(str(tmp_path / "moved"))
    nights.keep_past(moved, levels(24, 0.2, at=14))
    first = summed(moved, 24, 1.6)
    (change,) = [told for told in first.verdicts if told.verdict.test == "history"]
    assert change.is_new
    assert str(change.verdict.since) == str(nights.day(14))
    assert f"level changed since {nights.day(14)}" in first.findings[0].detail
    again = summed(moved, 24, 1.6)  # the same night, resumed: as before
    assert again.json() == first.json()
    second = summed(moved, 25, 1.6)
    (known,) = [told for told in second.verdicts if told.verdict.test == "history"]
    assert not known.is_new
    assert second.findings == ()
    assert "known" in second.markdown()
    assert [row["is_new"] for row in first.json()["changes"]] == [False, True], "a night like the others is no news"


def test_a_finding_says_which_way_and_asks_for_its_own_number(tmp_path: Path) -> None:
    lake, measure = Lake(str(tmp_path / "lake")), "bits_per_byte"
    nights.keep_past(lake, levels(BEFORE), keys=[(measure, "domain", "news sites"), (measure, "all", "")])
    domain = replace(bits(1.2), part="domain", subject="news sites")
    whole, part = summed(lake, BEFORE, 1.6, domain).findings
    assert whole.title == "bits per byte: higher than expected tonight"
    assert part.title == 'bits per byte, domain "news sites": lower than expected tonight'
    assert "part = 'domain' and subject = 'news sites'" in part.next
    page = summed(lake, BEFORE, 1.6, domain).markdown()
    assert "since \\`fail\\_on\\` names nothing of what was found" in page


def test_a_trend_says_from_when_on(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    nights.keep_past(lake, [value + 0.01 * place for place, value in enumerate(levels(30))])
    (finding,) = summed(lake, 30, 1.7).findings
    assert finding.title == "bits per byte: drifting up"
    assert f"drifts steadily over the 31 nights from {nights.day(0)} on" in finding.detail


def test_a_drift_the_other_way_is_news(tmp_path: Path) -> None:
    """A number that drifted up once, was told of, and drifts down by now."""
    lake = Lake(str(tmp_path / "lake"))
    nights.keep_past(lake, [value + 0.01 * place for place, value in enumerate(levels(30))])
    assert [finding.title for finding in summed(lake, 30, 1.7).findings] == ["bits per byte: drifting up"]
    told = f"night_changes/night=web-{nights.day(30)}"
    falling = Lake(str(tmp_path / "falling"))
    nights.keep_past(falling, [value - 0.01 * place for place, value in enumerate(levels(31))])
    shutil.copytree(Path(lake.root, told), Path(falling.root, told), dirs_exist_ok=True)
    assert [finding.title for finding in summed(falling, 31, 1.09).findings] == ["bits per byte: drifting down"]
    assert summed(falling, 32, 1.08).findings == ()


def test_texts_seen_before_are_compared_once_all_nights_look_back_equally_far(tmp_path: Path) -> None:
    """The share grows with every night that there is to look back at: that is no change of the corpus."""
    lake = Lake(str(tmp_path / "lake"))
    window, size = 10, 30
    seen = [0.01 * min(place + 1, window) + level - 1.4 for place, level in enumerate(levels(size + 1))]
    nights.keep_past(lake, seen[:size], keys=[(REPEATED_SHARE, "all", "")])
    tonight = replace(bits(seen[size]), measure=REPEATED_SHARE)

    def of(looked_back: int) -> Summary:
        watch = {"repeats_nights": looked_back}
        return summarise(nights.options(watch=watch), lake, nights.night(size), Refreshed((tonight,), documents=60))

    assert [finding.id for finding in of(0).findings] == ["changed"], "what it would be without"
    assert of(window).findings == ()
    assert of(window).verdicts[0].verdict.n_nights == size + 1 - (window - 1)
    few = of(size + 2)
    assert [told.verdict.verdict for told in few.verdicts] == ["too few nights"]
    assert f"{size + 2} nights to look back at" in few.markdown()


def test_few_nights_and_a_night_without_a_run(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    summary = summed(lake, 0, 1.4)
    assert summary.verdicts[0].verdict.verdict == "too few nights"
    assert summary.markdown().startswith("# Scored: too little yet to compare it with\n")
    assert "Nothing was found, but no number could be compared with the nights before" in summary.html()
    nothing = summarise(nights.options(fail_on=["missed"]), lake, nights.night(1, run=False), None)
    assert nothing.exit_code == 0
    assert "Good: nothing new to score" in nothing.html()
    assert "no shard was scored, so there is no number to compare" in nothing.markdown()
    assert "1 night before this one has numbers" in nothing.markdown()
    assert "exit code 0" in nothing.markdown()
    covering = nights.night(3, run=False, covers=(nights.day(2),))
    missed = summarise(nights.options(fail_on=["missed"]), lake, covering, None)
    assert [f.id for f in missed.findings] == ["missed"]
    assert missed.exit_code == 3
    assert verify(lake) == []


def test_a_night_of_a_few_documents_is_not_judged_and_does_not_judge_others(lake: Lake) -> None:
    tiny = replace(bits(5.0, error=1e-6), estimate=replace(bits(5.0, error=1e-6).estimate, n_units=7))
    summary = summarise(nights.options(), lake, nights.night(BEFORE), Refreshed((tiny,), documents=7))
    assert [told.verdict.verdict for told in summary.verdicts] == ["too few documents"]
    assert summary.findings == ()
    assert "too few documents" in summary.html()
    after = summed(lake, BEFORE + 1, 1.4)
    assert [told.verdict.n_nights for told in after.verdicts] == [BEFORE + 1], "the tiny night is no night before"


def test_rejects_and_lacks_are_findings(lake: Lake) -> None:
    found = Refreshed((bits(1.4),), documents=80, rejects=20, reasons={"null_text": 20},
                      lacking=(Lack("evaluation", "no labels"),))  # fmt: skip
    summary = summarise(nights.options(watch={"max_rejects": 0.15}), lake, nights.night(BEFORE), found)
    assert [f.id for f in summary.findings] == ["rejects", "incomplete"]
    assert "20 of 100 records" in summary.findings[0].title
    allowed = summarise(nights.options(watch={"max_rejects": 0.2}), lake, nights.night(BEFORE), found)
    assert [f.id for f in allowed.findings] == ["incomplete"]


def test_tables_of_nights_are_in_sql_and_verify_knows_them(lake: Lake) -> None:
    summed(lake, BEFORE, 1.6)
    with connect(lake.root, macros=False) as connection:
        sql = "select night, value from night_measures where nightly = 'web' order by date desc limit 1"
        assert connection.sql(sql).fetchall() == [(f"web-{nights.day(BEFORE)}", 1.6)]
        ((verdict, since),) = connection.sql(
            "select verdict, since from night_changes where test = 'tonight'"
        ).fetchall()
    assert (verdict, since) == ("unlike the nights before", None)
    assert verify(lake) == []
    (job,) = Path(lake.root).glob(f"night_measures/night=web-{nights.day(BEFORE)}/job.json")
    job.unlink()
    assert {fault.kind.value for fault in verify(lake)} == {"ledger"}


def test_a_summary_of_another_kind_or_version_is_refused() -> None:
    for text, said in ((b"[]", "not the summary"), (b'{"schema": "x"}', "not the summary"),
                       (json.dumps({"schema": SCHEMA, "version": 2}).encode(), "version 2")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            read_summary(text)


# Pages


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A night over real rows whose domains are called what an attacker likes, with findings of every kind."""
    lake = Lake(str(tmp_path_factory.mktemp("hostile")))
    nights.keep_past(lake, levels(20, 0.3, at=10))
    night = nights.night(20, shards={"new": 3}, covers=(nights.day(19),), notes=(HOSTILE,))
    nights.write_run(lake, night.run_id or "", domains=(HOSTILE, LINK), rejects=2, shards=4)
    found = refresh(nights.options(), lake, night, engine={"engine": "inline"}, text={})
    share = counted_share(5, 9)
    assert share is not None
    verdict = {"benchmark": HOSTILE, "outcome": "contaminated", "why": HOSTILE, "evidence": []}
    number = Number("overlap_items", "benchmark", HOSTILE, "share", share)
    found = replace(found, verdicts=(verdict,), lacking=(Lack("scores", HOSTILE),), numbers=(*found.numbers, number))
    return summarise(nights.options(), lake, night, found)


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_hostile_names_are_text(hostile: Summary) -> None:
    page = Page(hostile.html())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "link", "base", "form"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    links = [
        v for _, attributes in page.tags for name, v in attributes.items() if name in ("href", "src", "xlink:href")
    ]
    assert all((link or "").startswith("#") for link in links)
    assert "<script>document.title=" in page.text, "the name is shown as it is"
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_page_has_headings_a_language_and_names_for_what_is_not_text(hostile: Summary) -> None:
    page = Page(hostile.html())
    levels_of = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels_of[0] == 1
    assert levels_of.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels_of))
    assert dict(page.tags)["html"].get("lang") == "en"
    assert dict(page.tags)["figure"].get("aria-label")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(ids)
    assert "svg" in dict(page.tags)


def test_markdown_has_no_markup_of_strangers(hostile: Summary) -> None:
    text = hostile.markdown()
    outside = "\n".join(line for line in text.splitlines() if not line.startswith("      "))
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)[<`]|(?<!\\)\]\(|[^\\]://|[^\\]@|www\.", outside)
    tables = [line for line in outside.splitlines() if line.startswith("|")]
    heads = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert heads <= {4, 5, 6, 7}
    assert len(tables) > 10


@pytest.mark.skipif(browser.CHROMIUM is None, reason="Debian's chromium is not installed")
def test_a_real_browser_runs_nothing_and_a_phone_shows_all(hostile: Summary, tmp_path: Path) -> None:
    """With the page's policy and without it: names must be inert by themselves."""
    (tmp_path / "night.html").write_text(hostile.html(), encoding="utf-8")
    plain = hostile.html().replace(
        "default-src 'none'; style-src 'unsafe-inline'", ""
    )  # names alone must be inert, too
    (tmp_path / "plain.html").write_text(plain, encoding="utf-8")
    for name in ("night", "plain"):
        shown = browser.rendered(tmp_path / f"{name}.html")
        assert "<title>owned" not in shown
        assert re.search(r"<title>\d+ things to look at", shown)
    # A window is 500 pixels wide at least, so a page of ours holds this one in a frame and measures it; beside it one
    # that is too wide.
    frame = '<iframe style="width: 390px; height: 900px; border: 0" srcdoc="{}"></iframe>'
    measure = """<script>for (const [i, f] of document.querySelectorAll("iframe").entries()) f.onload = () =>
        document.body.dataset[`width${i}`] =
            f.contentDocument.documentElement.scrollWidth + "/" + f.contentWindow.innerWidth</script>"""
    pages = (hostile.html(), "<p style='width: 800px'>wide</p>")
    framed = "".join(frame.format(escape(page)) for page in pages)
    (tmp_path / "phone.html").write_text(framed + measure, encoding="utf-8")
    found = dict(re.findall(r'data-width(\d)="(\d+)/390"', browser.rendered(tmp_path / "phone.html")))
    assert int(found["0"]) <= 390 < int(found["1"])
