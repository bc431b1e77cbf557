"""`assay tokenizers` as it is typed: what it prints, writes and draws, and how its errors read."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import small
from output import unfolded
from tokenizers import Tokenizer, models
from typer.testing import CliRunner

from jobs.cli import app
from jobs.tokenizers.definitions import GROUPS
from jobs.tokenizers.notes import cut
from jobs.tokenizers.report import BY_DOMAIN, said
from operators.tokenizer_statistics.registry import STATISTICS

HOSTILE = "[red]x\x1b[31m\nla"


def assay(*args: Any) -> Any:
    return CliRunner().invoke(app, ["tokenizers", *(str(arg) for arg in args)])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tokenizers and a corpus of two languages, one of a hostile name, with some translations and a reject."""
    root = tmp_path_factory.mktemp("verb")
    small.make_tokenizer().save(str(root / "tokenizer.json"))
    lines = [
        {"text": f"{text} {i}", "lang": ("en", HOSTILE)[i % 2], "pair": f"p{i // 2}"}
        for i, text in enumerate(small.stdlib_texts(200)[:60])
    ]
    broken = '{"text": 3}\n'
    (root / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + broken)
    return root


@pytest.fixture
def no_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """To make a lake's catalog anew takes longer than the rest: for tests that read none."""
    monkeypatch.setattr("operators.catalog.write_catalog", lambda *_: None)


def flags(source: Path, lake: Path, *more: Any) -> list[Any]:
    tokenizer, texts = source / "tokenizer.json", source / "texts.jsonl"
    return ["--tokenizer", f"one={tokenizer}", "--input", texts, "--lake", lake, "--name", "n", "--engine", "inline",
            *more]  # fmt: skip


def test_the_page_has_every_table_and_what_comes_next(source: Path, tmp_path: Path) -> None:
    tokenizer = source / "tokenizer.json"
    more = [word for name in ("two", HOSTILE[:5], "four") for word in ("--tokenizer", f"{name}={tokenizer}")]
    figure = tmp_path / "map.svg"
    columns = ("--domain-column", "lang", "--parallel-column", "pair", "--baseline", "en")
    done = assay(*flags(source, tmp_path / "lake", *more, *columns, "--figure", figure))
    assert done.exit_code == 0, done.output
    page = done.stdout
    assert "profile n: 60 documents" in page
    assert all(title in page for title in GROUPS.values())
    assert all(f"{name} by domain: " in page for name in ("bytes_per_token", "fertility", "premium"))
    assert all(len(line) <= 100 for line in page.splitlines() if ".." in line)
    assert "\x1b" not in page
    assert "[red]x\\x1b[31m\\nla" in page
    assert "warning: one, two, [red], four are one and the same tokenizer" in page
    assert page.splitlines()[-1] == (
        f"next: assay sql {tmp_path}/lake \"from tokenizer_statistics where profile = 'n'\""
    )
    assert "warning: 1 record was rejected and not counted:" in done.stderr
    assert figure.read_bytes().startswith(b"<?xml")
    assert "four" in figure.read_text()
    assert (tmp_path / "lake" / "lake.duckdb").is_file()


@pytest.mark.usefixtures("no_catalog")
def test_programs_get_every_row(source: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    as_json = assay(*flags(source, lake, "--domain-column", "lang", "--output", tmp_path / "rows.json"))
    assert as_json.exit_code == 0, as_json.output
    found = json.loads((tmp_path / "rows.json").read_text())
    assert (found["profile"], found["documents"], found["baseline"]) == ("n", 60, HOSTILE)
    assert found["settings"]["tokenizers"] == {"one": str(source / "tokenizer.json")}
    as_csv = assay(*flags(source, lake, "--domain-column", "lang", "--overwrite", "n", "--format", "csv"))
    assert as_csv.exit_code == 0, as_csv.output
    rows = [*csv.DictReader(io.StringIO(as_csv.stdout))]
    assert len(rows) == len(found["rows"]) > 50
    by_key = {(row["part"], row["domain"] or "", row["statistic"], row["baseline"] or ""): row for row in found["rows"]}
    for row in rows:
        twin = by_key[row["part"], row["domain"], row["statistic"], row["baseline"]]
        assert (float(row["value"]) if row["value"] else None) == twin["value"]
        assert twin["statistic"] in STATISTICS


@pytest.mark.usefixtures("no_catalog")
def test_the_same_command_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    written = []
    for place in range(2):
        output, figure = tmp_path / f"{place}.json", tmp_path / f"{place}.svg"
        done = assay(*flags(source, tmp_path / f"lake-{place}", "--output", output, "--figure", figure))
        assert done.exit_code == 0, done.output
        (part,) = (tmp_path / f"lake-{place}" / "tokenizer_statistics" / "profile=n").glob("*.parquet")
        written.append([path.read_bytes() for path in (output, figure, part)])
    assert written[0] == written[1]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    done = assay(*flags(source, tmp_path / "lake", "--dry-run"))
    assert done.exit_code == 0, done.output
    assert "profile n on engine inline" in done.stdout
    assert f"one: {source / 'tokenizer.json'}" in done.stdout
    assert "texts.jsonl" in done.stdout
    assert not (tmp_path / "lake").exists()


@pytest.mark.usefixtures("no_catalog")
def test_many_domains_are_cut_short_and_those_of_like_names_kept_apart(source: Path, tmp_path: Path) -> None:
    domains = [f"a name that is far too long {i:02d} to be shown" for i in range(25)]
    lines = [{"text": "ab" * (i + 1) + " \u00e9" * 9, "lang": name} for i, name in enumerate(domains) for _ in range(2)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"text": "none"}]))
    figure = tmp_path / "map.png"
    done = assay("--tokenizer", f"one={source / 'tokenizer.json'}", "--lake", tmp_path / "lake", "--engine", "inline",
                 "--name", "n", "--input", tmp_path / "many.jsonl", "--domain-column", "lang",
                 "--figure", figure)  # fmt: skip
    assert done.exit_code == 0, done.output
    table = done.stdout.partition("bytes_per_token by domain")[2].partition("more domains")[0].splitlines()
    assert table[-1] == "6 "
    assert sum(line.startswith(("a name that", "(no domain)")) for line in table) == 20
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("fmt", ["table", "json", "csv"])
def test_the_list_says_what_each_statistic_is(fmt: str) -> None:
    done = assay("--list", "--format", fmt)
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in STATISTICS)
    if fmt == "table":
        assert all(len(line) <= 100 for line in done.stdout.splitlines())
        missing = [name for name, each in STATISTICS.items() if unfolded(each.formula) not in unfolded(done.stdout)]
        assert missing == []
    elif fmt == "json":
        assert [row["name"] for row in json.loads(done.stdout)] == [*STATISTICS]


def test_every_statistic_has_a_table_to_stand_in() -> None:
    assert {each.group for each in STATISTICS.values()} <= GROUPS.keys()
    assert set(BY_DOMAIN) <= STATISTICS.keys()


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"value": None, "value_low": None, "value_high": None, "unit": "share"}, "none"),
        ({"value": math.nan, "value_low": 1.0, "value_high": 2.0, "unit": "share"}, "none"),
        ({"value": 1234567.0, "value_low": None, "value_high": None, "unit": "count"}, "1,234,567"),
        ({"value": 0.123456, "value_low": 0.1, "value_high": 0.2, "unit": "share"}, "0.1235 (0.1 .. 0.2)"),
    ],
)
def test_values_are_said_with_their_intervals(row: dict[str, Any], text: str) -> None:
    assert said(row) == text


@pytest.mark.usefixtures("no_catalog")
def test_values_that_have_no_interval_are_counted(source: Path, tmp_path: Path) -> None:
    done = assay(*flags(source, tmp_path / "lake", "--output", tmp_path / "rows.json"))
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "rows.json").read_text())
    without = [row for row in found["rows"] if row["value"] is not None and row["value_low"] is None]
    n = sum(STATISTICS[row["statistic"]].interval for row in without)
    assert 0 < n < len(without)
    assert any("of fewer than 200 documents cover less" in note for note in found["notes"])
    assert any(f"{n} values have no interval: " in note for note in found["notes"])
    assert all(row["confidence"] is None for row in without)
    assert all(
        row["value_low"] <= row["value"] <= row["value_high"] for row in found["rows"] if row["value_low"] is not None
    )


@pytest.mark.usefixtures("no_catalog")
def test_domains_that_a_tokenizer_cannot_write_are_named(source: Path, tmp_path: Path) -> None:
    letters = Tokenizer(models.BPE(vocab={"?": 0, "a": 1, " ": 2}, merges=[], unk_token="?"))
    letters.save(str(tmp_path / "a.json"))
    lines = [{"text": "a a a", "lang": "x"}, {"text": "b a", "lang": HOSTILE}] * 50
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = assay(*flags(source, tmp_path / "lake", "--domain-column", "lang", "--format", "csv"),
                 "--tokenizer", tmp_path / "a.json", "--input", tmp_path / "texts.jsonl")  # fmt: skip
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "unknown ones" in line]
    assert line.startswith("warning: a: more than 10 % of the tokens are unknown ones in [red]x\\x1b[31m\\nla, en: its")


def test_names_are_cut_to_one_line() -> None:
    assert cut("a\nb") == "a\\nb"
    assert cut("x" * 50) == f"{'x' * 12}...{'x' * 7}"
    assert len(cut("\x1b" * 50)) == 22


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "--tokenizer: is needed: a folder, a tokenizer.json or a hub id"),
        (("--tokenizer", "nowhere/at/all"), "not a hub id either"),
        (("--tokenizer", "FILE", "--tokenizer", "x=FILE", "--tokenizer", "x=FILE"), "are all called 'x'"),
        (("--tokenizer", "FILE", "--figure", "map.gif"), "--figure"),
        (("--tokenizer", "FILE", "--baseline", "en"), "--baseline: needs --domain-column"),
        (("--tokenizer", "FILE", "--domain-column", "lang", "--baseline", "sv"), "--baseline: no document is of 'sv'"),
        (("--tokenizer", "FILE", "--input", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--tokenizer", "FILE", "--name", "../n"), "--name: profile '../n'"),
        (("--tokenizer", "FILE", "--check-share", "2"), "--check-share or --seed: check_share 2.0"),
        (("--tokenizer", "FILE", "--input-format", "xml"), "--input-format: "),
    ],
)
def test_mistakes_are_told(source: Path, tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    words = [word.replace("FILE", str(source / "tokenizer.json")) for word in more]
    defaults = {"--input": source / "texts.jsonl", "--name": "n"}
    given = [word for name, value in defaults.items() if name not in words for word in (name, value)]
    done = assay("--lake", tmp_path / "lake", "--engine", "inline", *given, *words)
    assert done.exit_code == 2, done.output
    assert said in unfolded(done.output)
    assert not list(tmp_path.rglob("*.parquet"))


def test_what_fails_has_another_exit_code(source: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": ""}\n')
    done = assay("--tokenizer", source / "tokenizer.json", "--lake", tmp_path / "lake", "--engine", "inline",
                 "--name", "n", "--input", tmp_path / "bad.jsonl")  # fmt: skip
    assert done.exit_code == 1
    assert "no document was counted; 1 empty_text" in unfolded(done.output)
