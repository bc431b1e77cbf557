"""Profiling tokenizers from end to end: against a loop, by domain, on translations, on both engines, and failures."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import small
from stopping import Failing
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from operators.catalog import connect
from operators.lake import Lake
from operators.results import ResultError
from operators.tokenize import DocumentTokenizer
from operators.verify import verify
from pipelines import tally, units
from pipelines.config import ConfigError
from pipelines.score import RunError
from pipelines.tokenizers.job import TokenizersJob, plan_tokenizers
from pipelines.tokenizers.run import Profile, profile_tokenizers
from pipelines.tokenizers.sources import NamedTokenizer, default_name

HOSTILE = "x\x1b[31m'; drop table runs; --"
BAD = ('{"text": "no end', '{"text": ""}', '{"text": 3}')


pytestmark = pytest.mark.usefixtures("no_catalog")


def record(i: int, domain: str | None, text: str, key: str | None = None) -> dict[str, Any]:
    return {"row": i, "lang": domain, "pair": key, "text": text}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tokenizers, of bytes and of words, and a corpus of three domains with translations and bad records."""
    root = tmp_path_factory.mktemp("tokenizers")
    (root / "bpe").mkdir()
    small.make_tokenizer(bos=True).save(str(root / "bpe" / "tokenizer.json"))
    every = Tokenizer(models.BPE(vocab={chr(c): i for i, c in enumerate(range(0x20, 0x7F))}, merges=[], unk_token="?"))
    every.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    every.save(str(root / "letters.json"))
    texts = [text.replace("\n", " ") for text in small.stdlib_texts(300)[:60]]
    records = [record(i, ("en", "de", HOSTILE)[i % 3], text) for i, text in enumerate(texts)]
    records += [record(100 + i, "en", f"the sentence {i}", f"p{i}") for i in range(20)]
    records += [record(200 + i, "de", f"der Satz Nummer {i} ist laenger", f"p{i}") for i in range(5, 30)]
    records.append(record(300, None, "of no domain <s> at all"))
    (root / "in").mkdir()
    lines = [json.dumps(each) + "\n" for each in records]
    (root / "in" / "a.jsonl").write_text("".join(lines[:50]))
    (root / "in" / "b.jsonl").write_text("".join(lines[50:]) + "\n".join(BAD) + "\n")
    return root


def read(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted((folder / "in").iterdir()) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line not in BAD]


def job(folder: Path, lake: Path, **more: Any) -> TokenizersJob:
    fields: dict[str, Any] = {
        "name": "p", "lake": str(lake), "input": str(folder / "in"), "engine": "inline", "domain_column": "lang",
        "tokenizer": [str(folder / "bpe"), f"letters={folder / 'letters.json'}"],
    }  # fmt: skip
    return TokenizersJob.parse(**{**fields, **more})


def profile(folder: Path, lake: Path, **more: Any) -> Profile:
    return profile_tokenizers(plan_tokenizers(job(folder, lake, **more)))


def values(rows: pa.Table, statistic: str, tokenizer: str, part: str = "domain") -> dict[str | None, float]:
    return {
        row["domain"]: row["value"]
        for row in rows.to_pylist()
        if (row["statistic"], row["tokenizer"], row["part"]) == (statistic, tokenizer, part)
    }


def stored(lake: Path, name: str = "p") -> list[dict[str, Any]]:
    with connect(str(lake), macros=False) as connection:
        sql = "from tokenizer_statistics where profile = $name order by all"
        return connection.sql(sql, params={"name": name}).to_arrow_table().to_pylist()


def by_loop(folder: Path) -> tuple[Counter[str | None], Counter[str | None], dict[str, Counter[str | None]]]:
    """Documents and bytes by domain, and tokens by tokenizer and domain; special tokens neither fed nor read."""
    loaded = {"bpe": small.make_tokenizer(bos=False), "letters": Tokenizer.from_file(str(folder / "letters.json"))}
    for each in loaded.values():
        each.encode_special_tokens = True
    documents: Counter[str | None] = Counter()
    n_bytes: Counter[str | None] = Counter()
    tokens: dict[str, Counter[str | None]] = {name: Counter() for name in loaded}
    for each in read(folder):
        documents[each["lang"]] += 1
        n_bytes[each["lang"]] += len(each["text"].encode())
        for name, tokenizer in loaded.items():
            tokens[name][each["lang"]] += len(tokenizer.encode(each["text"], add_special_tokens=False).ids)
    return documents, n_bytes, tokens


def test_numbers_are_those_of_a_loop_and_are_kept(folder: Path, tmp_path: Path) -> None:
    found = profile(folder, tmp_path)
    documents, n_bytes, tokens = by_loop(folder)
    assert (found.sizes.documents, found.sizes.n_bytes) == (documents, n_bytes)
    for name, own in tokens.items():
        expected = {domain: n_bytes[domain] / own[domain] for domain in documents}
        assert values(found.rows, "bytes_per_token", name) == pytest.approx(expected)
        whole = {None: sum(n_bytes.values()) / sum(own.values())}
        assert values(found.rows, "bytes_per_token", name, "all") == pytest.approx(whole)
    assert {reason: n for reason, (n, _) in found.rejected.reasons.items()} == {
        "broken_json": 1, "empty_text": 1, "text_not_string": 1,
    }  # fmt: skip
    assert found.rejected.reasons["empty_text"][1].startswith(f"{folder}/in/b.jsonl#")
    kept = stored(tmp_path)
    assert len(kept) == len(found.rows)
    assert {row["domain"] for row in kept} == {"en", "de", HOSTILE, None}
    assert verify(Lake(str(tmp_path))) == []
    said = json.loads((tmp_path / "tokenizer_statistics" / "profile=p" / "job.json").read_text())
    assert (said["facts"]["documents"], said["facts"]["rejects"]["broken_json"]) == (sum(documents.values()), 1)
    assert list((tmp_path / "tokenizer_statistics").iterdir()) == [tmp_path / "tokenizer_statistics" / "profile=p"]


def test_premiums_are_those_of_a_join(folder: Path, tmp_path: Path) -> None:
    found = profile(folder, tmp_path, parallel_column="pair", baseline="en")
    sides: dict[str, dict[str, str]] = {"en": {}, "de": {}}
    for each in read(folder):
        if each["pair"] is not None:
            sides[each["lang"]][each["pair"]] = each["text"]
    common = sides["en"].keys() & sides["de"].keys()
    tokenizer = small.make_tokenizer(bos=False)
    en, de = (sum(len(tokenizer.encode(sides[side][key]).ids) for key in common) for side in ("en", "de"))
    assert found.paired is not None
    assert (len(common), found.paired.texts, found.paired.unpaired) == (15, {"de": 15}, 10)
    premiums = values(found.rows, "premium", "bpe")
    assert premiums["de"] == pytest.approx(de / en)
    rows = [row for row in found.rows.to_pylist() if row["statistic"] == "premium" and row["domain"] == "de"]
    assert {row["baseline"] for row in rows} == {"en"}
    assert all(row["value_low"] < row["value"] < row["value_high"] for row in rows)


def test_the_fingerprint_is_that_of_runs(folder: Path, tmp_path: Path) -> None:
    found = profile(folder, tmp_path, tokenizer=[str(folder / "bpe")])
    assert set(found.rows["tokenizer_fingerprint"].to_pylist()) == {DocumentTokenizer.load(folder / "bpe").fingerprint}


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
def test_the_ray_engine_finds_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_FILES", 1)
    inline = profile(folder, tmp_path / "inline", parallel_column="pair")
    ray = profile(folder, tmp_path / "ray", parallel_column="pair", engine="ray")
    assert ray.rows.to_pylist() == inline.rows.to_pylist()
    assert ray.rejected == inline.rejected
    assert stored(tmp_path / "ray") == stored(tmp_path / "inline")


def test_a_unit_that_is_tried_again_counts_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_FILES", 1)
    whole = profile(folder, tmp_path / "whole", parallel_column="pair")
    surveyor = Failing(tally.TallyStep, ConnectionError("a node is gone"))
    monkeypatch.setattr("pipelines.tally.make_surveyor", lambda engine, address: nullcontext(surveyor))
    again = profile(folder, tmp_path / "again", parallel_column="pair")
    assert surveyor.surveyed == [0, 1]
    assert again.rows.to_pylist() == whole.rows.to_pylist()
    assert again.paired is not None
    assert whole.paired is not None
    assert again.paired.aligned == whole.paired.aligned


def test_a_failure_writes_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surveyor = Failing(tally.TallyStep, KeyError("a defect"))
    monkeypatch.setattr(units, "UNIT_FILES", 1)
    monkeypatch.setattr("pipelines.tally.make_surveyor", lambda engine, address: nullcontext(surveyor))
    with pytest.raises(RunError, match="KeyError: 'a defect'"):
        profile(folder, tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))


def test_where_nothing_is_counted_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("\n".join(BAD) + "\n")
    with pytest.raises(RunError, match="no document was counted; 1 broken_json"):
        profile(folder, tmp_path / "lake", input=str(tmp_path / "bad.jsonl"))
    assert not list((tmp_path / "lake").rglob("*.parquet"))


def test_a_name_is_replaced_only_where_it_is_repeated(folder: Path, tmp_path: Path) -> None:
    profile(folder, tmp_path)
    whole = stored(tmp_path)
    with pytest.raises(ResultError, match="--overwrite p"):
        profile(folder, tmp_path)
    assert stored(tmp_path) == whole
    profile(folder, tmp_path, overwrite="p", domain_column=None, tokenizer=[str(folder / "bpe")])
    assert {row["part"] for row in stored(tmp_path)} == {"all"}
    assert {row["tokenizer"] for row in stored(tmp_path)} == {"bpe"}


def test_domains_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"text": "a text", "lang": f"url/{i}"}) + "\n" for i in range(300)]
    (tmp_path / "many.jsonl").write_text("".join(lines))
    with pytest.raises(ConfigError, match=r"--domain-column lang: more than 200 domains"):
        profile(folder, tmp_path / "lake", input=str(tmp_path / "many.jsonl"))
    with pytest.raises(ConfigError, match=r"--baseline: no document is of 'sv'; domains are de, en, "):
        profile(folder, tmp_path / "lake", baseline="sv")
    assert not list((tmp_path / "lake").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": None}, "--name: is needed"),
        ({"tokenizer": []}, "--tokenizer: is needed"),
        ({"tokenizer": ["FOLDER/bpe", "FOLDER/bpe"]}, "are all called 'bpe': name them apart with NAME=PATH"),
        ({"tokenizer": ["=x"]}, "'=x': its name is to have 1 to 128 printable characters"),
        ({"tokenizer": ["a\nb=FOLDER/bpe"]}, "printable characters"),
        ({"tokenizer": ["a="]}, "'a=': expected a path"),
        ({"baseline": "en", "domain_column": None}, "--baseline: needs --domain-column"),
        ({"parallel_column": "pair", "domain_column": None}, "--parallel-column: needs --domain-column"),
        ({"parallel_column": "pair", "id_column": "pair"}, "'pair' is --id-column, too"),
        ({"confidence": 1.0}, "--confidence: 1 is to lie between 0 and 1"),
        ({"check_share": 1.5}, "--check-share or --seed: check_share 1.5"),
        ({"input": ()}, "--input: is needed"),
        ({"input": "s3://key:secret@bucket/x"}, "holds credentials"),
        ({"limit": 0}, "--limit"),
    ],
)
def test_faults_are_told_in_the_words_of_the_command_line(
    folder: Path, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    if "tokenizer" in more:
        more = {"tokenizer": [text.replace("FOLDER", str(folder)) for text in more["tokenizer"]]}
    with pytest.raises(ConfigError) as error:
        job(folder, tmp_path, **more)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


def test_every_fault_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        job(folder, tmp_path, name=None, tokenizer=[], confidence=0.0, limit=0, baseline="en", domain_column=None)
    assert len(str(error.value).splitlines()) == 5


def test_tokenizers_that_cannot_be_loaded_are_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "broken.json").write_text('{"model": 3}')
    wrong = [f"{tmp_path / 'slow'}", f"{tmp_path / 'broken.json'}", "nobody/has-this", "no such thing"]
    with pytest.raises(ConfigError) as error:
        plan_tokenizers(job(folder, tmp_path, tokenizer=wrong))
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert "no tokenizer.json" in lines[0]
    assert "not a definition that tokenizers can read" in lines[1]
    assert lines[2].startswith("--tokenizer nobody/has-this: no such file or folder, and the hub did not give it")
    assert lines[3] == "--tokenizer no such thing: no such file or folder, and not a hub id either"


def test_names_are_those_of_folders_and_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "odd=name").mkdir()
    assert NamedTokenizer.parse(str(tmp_path / "odd=name")).name == "odd=name"
    assert NamedTokenizer.parse(f"a=b={folder}") == NamedTokenizer("a", f"b={folder}")
    assert default_name(str(folder / "bpe" / "tokenizer.json")) == "bpe"
    assert default_name(str(folder / "letters.json")) == "letters"
    assert default_name("openai-community/gpt2") == "openai-community/gpt2"


def test_a_tokenizer_that_repeats_texts_is_refused(folder: Path, tmp_path: Path) -> None:
    twice = small.make_tokenizer(bos=False)
    twice.post_processor = processors.TemplateProcessing(single="$A $A")  # also without special tokens
    twice.save(str(tmp_path / "twice.json"))
    with pytest.raises(ConfigError, match=r"--tokenizer twice: .* yields a text 2 times"):
        plan_tokenizers(job(folder, tmp_path / "lake", tokenizer=[str(tmp_path / "twice.json")]))


def test_settings_beside_a_tokenizer_are_not_read(folder: Path, tmp_path: Path) -> None:
    small.make_tokenizer(bos=True).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("no json")
    both = plan_tokenizers(job(folder, tmp_path / "lake", tokenizer=[str(folder / "bpe"), f"b={tmp_path}"]))
    assert both.same == [["bpe", "b"]]


def test_a_domain_without_a_name_is_not_that_of_documents_without_one(folder: Path, tmp_path: Path) -> None:
    lines = [{"text": f"words {i}", "lang": (None, "", "x")[i % 3]} for i in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:11]))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[11:]))
    found = profile(folder, tmp_path / "lake", input=str(tmp_path / "*.jsonl"))
    rows = [row for row in found.rows.to_pylist() if row["statistic"] == "fertility" and row["tokenizer"] == "bpe"]
    assert {(row["part"], row["domain"]): row["n"] for row in rows} == {
        ("all", None): 30, ("domain", None): 10, ("domain", ""): 10, ("domain", "x"): 10,
    }  # fmt: skip


def test_one_tokenizer_under_two_names_is_noticed(folder: Path, tmp_path: Path) -> None:
    both = [f"a={folder / 'bpe'}", f"b={folder / 'bpe' / 'tokenizer.json'}", str(folder / "letters.json")]
    assert plan_tokenizers(job(folder, tmp_path, tokenizer=both)).same == [["a", "b"]]
