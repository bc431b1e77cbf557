"""What an inference is asked to do: corpora by name, sizes, every fault at once in the words of the command line."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.config import ConfigError
from pipelines.mixture.job import TokenizerMixtureJob, parse_size, split_corpora


def parse(*corpora: str, **more: Any) -> TokenizerMixtureJob:
    fields: dict[str, Any] = {"name": "m", "lake": "lake", "tokenizer": "t.json"}
    return TokenizerMixtureJob.parse(corpora=corpora, **{**fields, **more})


def test_uris_of_one_name_add_up_in_the_order_given() -> None:
    found, faults = split_corpora(["b=x.jsonl", "a=y.jsonl", "b=z/part=1/*.parquet", " b = x.jsonl "])
    assert not faults
    assert found == {"b": ["x.jsonl", "z/part=1/*.parquet"], "a": ["y.jsonl"]}
    assert list(found) == ["b", "a"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data/x.jsonl", "expected NAME=URI"),
        ("=x.jsonl", "the name is missing"),
        ("a=", "the URI is missing"),
        ("data/kind=a/x.jsonl", "a name holds no slash"),
        ("s3://bucket/kind=a", "a name holds no slash"),
        ("a\nb=x.jsonl", "control"),
        ("a\u202eb=x.jsonl", "control"),
        (f"{'a' * 200}=x.jsonl", "more than 128 characters"),
    ],
)
def test_a_corpus_without_a_usable_name_is_refused(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(given)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("nothing", name="a/b", sample="much", format="xml", numbers={"max_merges": 0, "confidence": 1.5})
    said = str(caught.value)
    for flag in ("--name", "--corpora", "--sample", "--format", "--max-merges", "--confidence"):
        assert f"{flag}" in said
    assert len(said.splitlines()) == 6


def test_credentials_in_a_uri_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--corpora: .*credentials") as caught:
        parse("a=s3://someone:verysecret@host/x.jsonl")
    assert "verysecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("100MB", 10**8), ("1.5 gb", 1_500_000_000), ("123", 123), ("x", None), ("-1MB", None)]
)
def test_sizes(text: str, n_bytes: int | None) -> None:
    assert parse_size(text) == n_bytes


def test_what_is_kept_holds_no_credentials_and_all_that_decides() -> None:
    job = parse("a=x.jsonl", "b=y.jsonl", storage_options={"key": "k", "secret": "hidden"}, numbers={"seed": 5})
    kept = job.public()
    assert "hidden" not in str(kept)
    assert kept["corpora"] == {"a": ["x.jsonl"], "b": ["y.jsonl"]}
    assert (kept["seed"], kept["max_merges"], kept["sample_bytes"]) == (5, 30_000, 100_000_000)
