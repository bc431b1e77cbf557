"""The statistics of tokenizers equal plain Python on small text, and come out the same however the text is split."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import plain_profile
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_profile import PlainProfile, read_block
from tokenizers import processors

from operators.rows import words
from operators.tokenizer_statistics.counts import ProfileCounts, TooManyDomainsError
from operators.tokenizer_statistics.options import Drawn, group_of
from operators.tokenizer_statistics.probe import ProfileOptions, TokenizerProbe
from operators.tokenizer_statistics.profiler import Profiler
from operators.tokenizer_statistics.registry import STATISTICS
from operators.tokenizer_statistics.rows import StatisticsOptions, statistic_rows
from operators.tokenizer_statistics.text_facts import WHITE_SPACE, TextFacts
from schemas.tokenizer_statistics import TOKENIZER_STATISTICS

ALL = ProfileOptions(check_share=1.0)
LETTERS = "abé漢 نш👍🏽\u200d\u0301 \t\n\r\x00\x1f\x85\xa0\u3000\u2009\u2028ſｆ<s>[UNK]▁Ġ-.,"
SNIPPETS = st.one_of(
    st.text(st.sampled_from(LETTERS), max_size=12),
    st.integers(0, 10**12).map(str),
    st.sampled_from([" the ", "return ", " 2024-01-01", "  def x(self):\n", " 007", "👩‍👩‍👧", "ﬁ", "<s>"]),
    st.text(max_size=6),
)
DOCUMENTS = st.lists(st.lists(SNIPPETS, max_size=8).map("".join), min_size=1, max_size=5)


def profiler(*kinds: str, options: ProfileOptions = ALL) -> Profiler:
    return Profiler([TokenizerProbe(kind, plain_profile.make(kind), options) for kind in kinds])


def counted(profiles: Profiler, *blocks: pa.Table) -> ProfileCounts:
    counts = profiles.none()
    for block in blocks:
        profiles.count(block, counts)
    return counts


def values(table: pa.Table, **where: Any) -> dict[str, float | None]:
    for name, wanted in where.items():
        table = table.filter(pc.equal(table[name], wanted))
    return dict(zip(table["statistic"].to_pylist(), table["value"].to_pylist(), strict=True))


def sorted_rows(counts: ProfileCounts) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in counts.table().to_pylist()), key=str)


def assert_equals_plain(kind: str, documents: list[str]) -> None:
    profiles = profiler(kind)
    counts = profiles.none()
    outcome = profiles.count(read_block(documents), counts)
    kept = [documents[row] for row in outcome.rows]
    assert len(kept) + outcome.rejects.num_rows == len(documents)
    if not kept:
        return
    found = values(statistic_rows(counts, profiles.probes), part="all")
    expected = PlainProfile(plain_profile.make(kind), kept).values()
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        got = np.nan if found[name] is None else found[name]
        assert got == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("kind", plain_profile.KINDS)
def test_real_text_equals_plain_python(kind: str) -> None:
    assert_equals_plain(kind, [*plain_profile.texts()[::4], *plain_profile.OTHER_SCRIPTS])


@pytest.mark.parametrize("kind", plain_profile.KINDS)
@settings(max_examples=25, deadline=None)
@given(documents=DOCUMENTS)
def test_any_text_equals_plain_python(kind: str, documents: list[str]) -> None:
    assert_equals_plain(kind, documents)


def test_every_statistic_has_a_value_somewhere() -> None:
    profiles = profiler(*plain_profile.KINDS)
    long = "1 12 123 1234 12345 123456 1234567 12345678 123456789"
    block = read_block([*plain_profile.texts(), long], (["x", "y", "z"] * 99)[: len(plain_profile.texts()) + 1])
    table = statistic_rows(counted(profiles, block), profiles.probes, StatisticsOptions(baseline_domain="x"))
    with_values = set(table.filter(pc.is_valid(table["value"]))["statistic"].to_pylist())
    assert with_values == STATISTICS.keys() - {"premium", "parity"}
    assert table.schema == TOKENIZER_STATISTICS.arrow()
    assert not TOKENIZER_STATISTICS.validate(table)
    keys = [tuple(row[name] for name in TOKENIZER_STATISTICS.key if name != "profile") for row in table.to_pylist()]
    assert len(set(keys)) == len(keys)


def test_lossy_tokenizers_are_told_from_faithful_ones() -> None:
    profiles = profiler(*plain_profile.KINDS)
    documents = [*plain_profile.OTHER_SCRIPTS, "plain lower words"]
    table = statistic_rows(counted(profiles, read_block(documents)), profiles.probes)
    by_kind = {kind: values(table, tokenizer=kind, part="all") for kind in plain_profile.KINDS}
    assert by_kind["byte_level"]["round_trip_failures"] == 0
    assert by_kind["byte_level"]["unspelt_documents"] == 0
    assert by_kind["sentencepiece"]["round_trip_failures"] == 0
    assert by_kind["sentencepiece"]["byte_fallback_tokens"] > 0.3  # type: ignore[operator]
    assert by_kind["normalised"]["round_trip_failures"] > by_kind["normalised"]["round_trip_failures_normalised"]
    assert by_kind["normalised"]["unspelt_documents"] > 0  # type: ignore[operator]
    assert by_kind["wordpiece"]["unknown_tokens"] > 0  # type: ignore[operator]
    assert by_kind["wordpiece"]["unspelt_documents"] is None
    assert by_kind["byte_level"]["unknown_tokens"] is None
    assert by_kind["unigram"]["unknown_tokens"] > 0  # type: ignore[operator]


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(12)), cuts=st.lists(st.integers(1, 11), max_size=4))
def test_any_split_in_any_order_gives_the_same(order: list[int], cuts: list[int]) -> None:
    documents = plain_profile.texts()[-12:]
    domains = [["x", None, "y\n"][k % 3] for k in range(12)]
    profiles = profiler("byte_level", "wordpiece", options=ProfileOptions(check_share=0.5, max_pairs=60))
    rows = [read_block([documents[k]], [domains[k]], first=k) for k in order]
    edges = [0, *sorted(set(cuts)), 12]
    parts = [pa.concat_tables(rows[a:b]) for a, b in pairwise(edges) if a < b]
    whole = counted(profiles, read_block(documents, domains))
    added = profiles.none()
    for part in parts:
        added.add(counted(profiles, part).table())
    assert sorted_rows(added) == sorted_rows(whole)
    assert [added.pair_documents(k) for k in (0, 1)] == [whole.pair_documents(k) for k in (0, 1)]
    assert statistic_rows(added, profiles.probes).equals(statistic_rows(whole, profiles.probes))


def test_pairs_beyond_the_limit_are_those_of_whole_documents() -> None:
    documents = plain_profile.texts()
    exact = profiler("byte_level")
    limited = profiler("byte_level", options=ProfileOptions(check_share=0, max_pairs=1500))
    counts, everything = counted(limited, read_block(documents)), counted(exact, read_block(documents))
    table = statistic_rows(counts, limited.probes)
    level = counts.tokenizers[0].level
    assert level > 0
    assert everything.tokenizers[0].level == 0
    keys, _ = counts.tokenizers[0].pairs.counts()
    assert 0 < len(keys) <= 1500
    kept = counts.pair_documents(0)
    assert 0 < kept < counts.documents == everything.pair_documents(0)
    one_less = everything.tokenizers[0].pairs.counts()[0] // (8 * everything.tokenizers[0].width ** 2) % 16
    assert (one_less >= level - 1).sum() > 1500  # no level was dropped that could have stayed
    assert (one_less >= level).sum() == len(keys)
    row = table.filter(pc.equal(table["statistic"], "conditional_entropy")).to_pylist()[0]
    assert row["n"] == kept


def test_a_document_too_large_for_the_limit_leaves_no_entropy_of_pairs() -> None:
    profiles = profiler("byte_level", options=ProfileOptions(max_pairs=1))
    counts = counted(profiles, read_block(["many different pairs of tokens"]))
    assert counts.pair_documents(0) == 0
    assert values(statistic_rows(counts, profiles.probes), part="all")["conditional_entropy"] is None


def test_a_document_counts_for_all_tokenizers_or_for_none() -> None:
    words_only = plain_profile.make("wordpiece")
    probes = [TokenizerProbe("a", plain_profile.make("byte_level"), ALL), TokenizerProbe("b", words_only, ALL)]
    profiles, counts = Profiler(probes), None
    counts = profiles.none()
    outcome = profiles.count(read_block(["one", " \u200b", None, "", "two words"]), counts)
    assert outcome.rows.tolist() == [0, 4]
    assert outcome.rejects["reason"].to_pylist() == ["no_tokens", "null_text", "no_tokens"]
    assert outcome.rejects["text"].null_count == 3
    assert counts.documents == 2
    assert [int(each.sums[:, :, 1].sum()) for each in counts.tokenizers] == [12, 12]
    expected = [
        [len(plain_profile.spans(plain_profile.make(k), t)) for t in ("one", "two words")]
        for k in ("byte_level", "wordpiece")
    ]
    assert outcome.tokens.tolist() == expected


def test_checked_documents_are_drawn_by_their_keys() -> None:
    documents = [f"document {k} with words" for k in range(400)]
    shares = {}
    for share in (0.0, 0.25, 1.0):
        profiles = profiler("byte_level", options=ProfileOptions(check_share=share))
        table = statistic_rows(counted(profiles, read_block(documents)), profiles.probes)
        shares[share] = table.filter(pc.equal(table["statistic"], "round_trip_failures"))["n"].to_pylist()[0]
    assert shares[0.0] == 0
    assert shares[1.0] == 400
    assert 60 < shares[0.25] < 140
    none = profiler("byte_level", options=ProfileOptions(check_share=0))
    found = values(statistic_rows(counted(none, read_block(documents)), none.probes))
    assert found["round_trip_failures"] is None
    assert found["context_dependent_words"] is None


def test_draws_are_those_of_the_key_and_independent_of_each_other() -> None:
    options = ProfileOptions(check_share=0.3)
    keys = [f"key {k}" for k in range(20_000)]
    drawn, reversed_ = Drawn.of(keys, options), Drawn.of(keys[::-1], options)
    assert drawn.group.tolist() == reversed_.group.tolist()[::-1] == [group_of(key, 32) for key in keys]
    assert drawn.level.tolist() == reversed_.level.tolist()[::-1]
    n_groups = np.bincount(drawn.group, minlength=32)
    assert (np.abs(n_groups - 625) < 5 * 25).all()
    shares = np.bincount(drawn.level, minlength=4)[:4] / len(keys)
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.0625], abs=0.02)
    assert drawn.level.max() < 16
    for some in (np.ones(len(keys), np.bool_), drawn.group == 3, drawn.level == 1):
        assert drawn.checked[some].mean() == pytest.approx(0.3, abs=0.1 if some.sum() < 1000 else 0.05)
    other = Drawn.of(keys, ProfileOptions(check_share=0.3, seed=1))
    assert (other.group == drawn.group).mean() < 0.1


def test_what_cannot_be_decoded_is_a_failed_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = profiler("byte_level")
    whole = TokenizerProbe._decode

    def fails(probe: TokenizerProbe, ids: list[list[int]]) -> list[str]:
        texts = whole(probe, ids)
        if "bad one" in texts:
            raise RuntimeError("no such id")
        return texts

    monkeypatch.setattr(TokenizerProbe, "_decode", fails)
    found = values(statistic_rows(counted(profiles, read_block(["a", "bad one", "c", "d"])), profiles.probes))
    for name in ("round_trip_failures", "round_trip_failures_normalised", "non_canonical_documents"):
        assert found[name] == 0.25


def test_relative_tokens_and_premiums_are_ratios_of_their_parts() -> None:
    profiles = profiler("byte_level", "sentencepiece")
    documents = plain_profile.texts()
    domains = ["x" if k % 2 else "y" for k in range(len(documents))]
    counts = counted(profiles, read_block(documents, domains))
    options = StatisticsOptions(baseline_domain="x", baseline_tokenizer="sentencepiece")
    table = statistic_rows(counts, profiles.probes, options)
    per = {
        (t, d): values(table, tokenizer=t, part="domain", domain=d)
        for t in ("byte_level", "sentencepiece")
        for d in "xy"
    }
    relative = table.filter(pc.equal(table["statistic"], "relative_tokens"))
    assert set(relative["tokenizer"].to_pylist()) == {"byte_level"}
    assert set(relative["baseline"].to_pylist()) == {"sentencepiece"}
    here, there = per["byte_level", "x"], per["sentencepiece", "x"]
    assert here["relative_tokens"] == pytest.approx(here["tokens_per_document"] / there["tokens_per_document"])  # type: ignore[operator]
    premium = table.filter(pc.equal(table["statistic"], "premium_by_bytes"))
    assert set(premium["domain"].to_pylist()) == {"y"}
    assert set(premium["baseline"].to_pylist()) == {"x"}
    ratio = per["byte_level", "x"]["bytes_per_token"] / per["byte_level", "y"]["bytes_per_token"]  # type: ignore[operator]
    assert per["byte_level", "y"]["premium_by_bytes"] == pytest.approx(ratio)


def test_domains_are_named_and_documents_without_one_kept_apart() -> None:
    hostile = "a\n<script>'; drop table x"
    profiles = profiler("byte_level")
    counts = counted(profiles, read_block(["one", "two 2", "three"], [hostile, None, hostile]))
    table = statistic_rows(counts, profiles.probes)
    domains = table.filter(pc.equal(table["statistic"], "tokens_per_document")).select(["part", "domain", "n"])
    assert sorted(map(str, domains.to_pylist())) == sorted(
        map(str, [
            {"part": "all", "domain": None, "n": 3},
            {"part": "domain", "domain": hostile, "n": 2},
            {"part": "domain", "domain": None, "n": 1},
        ])
    )  # fmt: skip


def test_text_without_domains_has_rows_of_all_only() -> None:
    profiles = profiler("byte_level")
    table = statistic_rows(counted(profiles, read_block(["one", "two"])), profiles.probes)
    assert set(table["part"].to_pylist()) == {"all"}


def test_too_many_domains_are_refused_also_when_added() -> None:
    few = ProfileOptions(max_domains=2)
    profiles = profiler("byte_level", options=few)
    with pytest.raises(TooManyDomainsError, match="more than 2 domains"):
        counted(profiles, read_block(["a", "b", "c"], ["x", "y", "z"]))
    counts = counted(profiles, read_block(["a", "b"], ["x", "y"]))
    with pytest.raises(TooManyDomainsError, match="more than 2 domains"):
        counts.add(counted(profiles, read_block(["c"], ["z"])).table())


def test_no_documents_at_all() -> None:
    profiles = profiler("byte_level")
    counts = counted(profiles, read_block([]), read_block([None, ""]))
    table = statistic_rows(counts, profiles.probes)
    assert table["value"].null_count == table.num_rows > 0
    again = profiles.none()
    again.add(counts.table())
    assert again.documents == 0


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"check_share": 1.5}, "check_share"),
        ({"groups": 12}, "multiple of 8"),
        ({"seed": -1}, "seed"),
        ({"max_pairs": 0}, "max_pairs"),
        ({"max_domains": 0}, "max_domains"),
    ],
)
def test_options_out_of_range_are_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ProfileOptions(**fields)


def test_profilers_that_make_no_sense_are_refused() -> None:
    probe = TokenizerProbe("a", plain_profile.make("byte_level"), ALL)
    with pytest.raises(ValueError, match="each of another name"):
        Profiler([probe, probe])
    with pytest.raises(ValueError, match="one or more"):
        Profiler([])
    with pytest.raises(ValueError, match="same options"):
        Profiler([probe, TokenizerProbe("b", plain_profile.make("byte_level"))])


def test_a_tokenizer_that_repeats_texts_is_refused() -> None:
    tokenizer = plain_profile.make("byte_level")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A $A")
    with pytest.raises(ValueError, match="yields a text 2 times"):
        TokenizerProbe("a", tokenizer, ALL)


def test_unknown_baselines_are_refused() -> None:
    profiles = profiler("byte_level")
    counts = counted(profiles, read_block(["a"], ["x"]))
    with pytest.raises(ValueError, match="baseline domain 'y'"):
        statistic_rows(counts, profiles.probes, StatisticsOptions(baseline_domain="y"))
    with pytest.raises(ValueError, match="expected one of byte_level"):
        statistic_rows(counts, profiles.probes, StatisticsOptions(baseline_tokenizer="y"))
    with pytest.raises(ValueError, match="confidence 95"):
        StatisticsOptions(confidence=95)


def test_a_probe_pickles_and_leaves_its_tokenizer_alone() -> None:
    tokenizer = plain_profile.make("byte_level")
    tokenizer.enable_truncation(2)
    before = tokenizer.to_str()
    probe = TokenizerProbe("a", tokenizer, ALL)
    there = pickle.loads(pickle.dumps(probe))
    assert tokenizer.to_str() == before
    assert (there.name, there.fingerprint, there.options) == ("a", probe.fingerprint, ALL)
    assert there.encode(["<s> is text"]) == probe.encode(["<s> is text"])
    special = tokenizer.token_to_id("<s>")
    assert special not in probe.encode(["<s> is text"])[0]  # type: ignore[operator]
    assert len(probe.encode(["<s> is text"])[0]) > 2  # type: ignore[arg-type]


def test_a_probe_is_loaded_from_a_folder_or_a_file(tmp_path: Any) -> None:
    plain_profile.make("byte_level").save(str(tmp_path / "tokenizer.json"))
    folder, file = (TokenizerProbe.load("a", path) for path in (tmp_path, tmp_path / "tokenizer.json"))
    assert folder.fingerprint == file.fingerprint
    assert folder.vocabulary.size == 499  # <s> does not count
    with pytest.raises(FileNotFoundError, match="expected a model folder"):
        TokenizerProbe.load("a", tmp_path / "none")


@given(
    st.lists(st.text(st.sampled_from("aé漢👍 \t\x1c\x85\xa0\u1680\u2003\u202f\u205f\u3000\u200b\u180e09")), max_size=6)
)
def test_words_and_characters_as_the_lake_counts_them(texts: list[str]) -> None:
    facts = TextFacts.of(pa.array(texts, pa.large_string()))
    assert facts.n_words.tolist() == [words(text) for text in texts]
    assert facts.n_chars.tolist() == [len(text) for text in texts]
    pieces = [facts.bytes[a:b].tobytes().decode() for a, b in zip(facts.words.start, facts.words.end, strict=True)]
    assert pieces == [word for text in texts for word in text.split()]


def test_white_space_is_that_of_python() -> None:
    assert [chr(point) for point in WHITE_SPACE] == [chr(p) for p in range(0x110000) if chr(p).isspace()]
