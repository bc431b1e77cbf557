"""Domain fit against plain loops over documents, its conventions by hand, and its intervals where they are known."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import memorized_runs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.catalog import connect
from operators.lake import Lake
from operators.mixtures import fit as fit_module
from operators.mixtures.fit import FitSettings, TooManyDomainsError, domain_fit
from operators.mixtures.fit_intervals import log_odds, log_ratio, studentised
from operators.mixtures.fit_read import BLOCK, Block, blocks, document_blocks, rollups_answer
from operators.mixtures.fit_sums import FIELDS, Sums, poisson_weights, products
from schemas import DOCUMENTS, DOMAIN_FIT

RUN = memorized_runs.RUN
LN2 = math.log(2)
QUICK = FitSettings(resamples=200)
Rows = dict[tuple[str, str | None], dict[str, Any]]


def made(seed: int = 0) -> list[memorized_runs.Document]:
    """Documents of domains a, b and of none, of one token to many; `unscored` has no prediction, `lone` one."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(45):
        hits: list[bool | None] = [None, *(rng.random(int(rng.integers(1, 40))) < 0.5).tolist()]
        found.append(memorized_runs.document(f"k{i}", rng, hits, domain=("a", "b", None)[i % 3]))
    found.append(memorized_runs.document("one", rng, [None], domain="a", pieces=[b"xy z"]))
    found.append(memorized_runs.document("two", rng, [None], domain="unscored", pieces=[b"x"]))
    found.append(memorized_runs.document("three", rng, [None, True], domain="lone", pieces=[b"x", b"y "]))
    return found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("fit") / "lake"))
    memorized_runs.write_run(lake, RUN, made(), block=7)
    return lake


def fitted(lake: Lake, settings: FitSettings = QUICK, *, run: str = RUN, from_tokens: bool | None = None) -> pa.Table:
    with connect(lake.root, macros=False) as connection:
        return domain_fit(document_blocks(connection, run, from_tokens=from_tokens), settings)


def near(rows: pa.Table) -> list[dict[str, Any]]:
    """Rows as another way of adding up may give them."""
    return [
        {name: pytest.approx(v, rel=1e-9) if isinstance(v, float) else v for name, v in row.items()}
        for row in rows.to_pylist()
    ]


def by_domain(table: pa.Table) -> Rows:
    return {(row["part"], row["domain"]): row for row in table.to_pylist()}


# Numbers


def expected(documents: Sequence[memorized_runs.Document]) -> dict[str, Any]:
    """The row of a group but its shares and intervals, in plain Python."""
    loss = extrapolated = 0.0
    counts = dict.fromkeys(("n_documents", "n_undefined", "n_tokens", "n_fed", "n_bytes", "n_words"), 0)
    for each in documents:
        scored = [value for value in each.logprobs if value is not None]
        counts["n_documents"] += 1
        if not scored:
            counts["n_undefined"] += 1
            continue
        loss -= sum(scored)
        extrapolated -= sum(scored) / len(scored) * len(each.logprobs)
        counts["n_tokens"] += len(scored)
        counts["n_fed"] += len(each.logprobs)
        counts["n_bytes"] += len(each.text.encode())
        counts["n_words"] += len(re.split(r"\s+", each.text))
    n_bytes = counts["n_bytes"]
    return counts | {
        "bits_per_byte": loss / (n_bytes * LN2) if n_bytes else None,
        "bits_per_byte_extrapolated": extrapolated / (n_bytes * LN2) if n_bytes else None,
        "perplexity": math.exp(loss / counts["n_tokens"]) if n_bytes else None,
    }


@pytest.mark.parametrize("from_tokens", [False, True])
def test_numbers_equal_a_plain_loop(lake: Lake, from_tokens: bool) -> None:
    table = fitted(lake, from_tokens=from_tokens)
    assert DOMAIN_FIT.validate(table) == []
    rows, documents = by_domain(table), made()
    names = ["a", "b", "lone", "unscored", None]
    assert list(rows) == [("all", None), *(("domain", name) for name in names), ("macro", None)]
    groups = {("domain", name): [each for each in documents if each.domain == name] for name in names}
    groups["all", None] = documents
    for key, group in groups.items():
        want = expected(group)
        for name, value in want.items():
            assert rows[key][name] == (value if value is None else pytest.approx(value, rel=1e-12)), (key, name)
    every = rows["all", None]
    assert (every["token_share"], every["byte_share"]) == (1, 1)
    for name in names:
        row = rows["domain", name]
        assert row["token_share"] == pytest.approx(row["n_tokens"] / every["n_tokens"], rel=1e-15)
        assert row["byte_share"] == pytest.approx(row["n_bytes"] / every["n_bytes"], rel=1e-15)


def test_macro_is_the_plain_mean_over_domains_with_a_number(lake: Lake) -> None:
    rows = by_domain(fitted(lake))
    for settings, names in ((QUICK, ("a", "b", None, "lone")), (FitSettings(resamples=200, min_documents=2), "ab")):
        domains = [rows["domain", name] for name in (*names, *([None] if names == "ab" else []))]
        macro = by_domain(fitted(lake, settings))["macro", None]
        for name in ("bits_per_byte", "bits_per_byte_extrapolated", "perplexity"):
            assert macro[name] == pytest.approx(np.mean([row[name] for row in domains]), rel=1e-12)
        assert macro["n_documents"] == sum(row["n_documents"] for row in domains)
        assert (macro["bits_per_byte_low"] is None) == ("lone" in names)
        assert macro["token_share"] is None


def test_rollups_and_tokens_give_the_same_numbers_and_intervals(lake: Lake) -> None:
    first, second = (fitted(lake, from_tokens=way) for way in (False, True))
    assert near(first) == second.to_pylist()


def test_tokens_are_scanned_where_a_part_has_no_rollups(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    memorized_runs.write_run(lake, RUN, made(), block=7)
    want = fitted(lake)
    part = lake.parts(DOCUMENTS.name, RUN)[0]
    path = Path(lake.root) / part.path
    table = pq.read_table(path, partitioning=None)
    kept = [name for name in table.column_names if DOCUMENTS[name].group != "rollups"]
    pq.write_table(table.select(kept), path)
    with connect(lake.root, macros=False) as connection:
        assert not rollups_answer(connection, RUN)
    assert near(fitted(lake)) == want.to_pylist()


def test_conventions_by_hand() -> None:
    """Two documents: 3 tokens fed, 2 scored of 1 and 2 nats, 6 bytes; and 2 fed, 1 scored of 3 nats, 4 bytes."""
    block = Block("a", np.array([[3.0, 2, 3, 6, 1], [3.0, 1, 2, 4, 1]]))
    row = by_domain(domain_fit([block], FitSettings(resamples=0)))["domain", "a"]
    assert row["bits_per_byte"] == pytest.approx(6 / (10 * LN2))  # Paloma
    assert row["bits_per_byte_extrapolated"] == pytest.approx((1.5 * 3 + 3 * 2) / (10 * LN2))  # perplexity correlations
    assert row["perplexity"] == pytest.approx(math.exp(6 / 3))
    # With a prefix token every token of the text is scored: then that is the number of lm-evaluation-harness.
    block = Block("a", np.array([[6.0, 3, 4, 6, 1], [7.0, 2, 3, 4, 1]]))
    row = by_domain(domain_fit([block], FitSettings(resamples=0)))["domain", "a"]
    assert row["bits_per_byte"] == pytest.approx(13 / (10 * LN2))


def test_bits_per_byte_compares_tokenizers() -> None:
    """One text under two tokenizers, of which one takes twice the tokens at half the loss: the same fit by byte."""
    coarse = by_domain(domain_fit([Block("a", np.array([[20.0, 10, 10, 50, 9]]))], QUICK))["domain", "a"]
    fine = by_domain(domain_fit([Block("a", np.array([[20.0, 20, 20, 50, 9]]))], QUICK))["domain", "a"]
    assert coarse["bits_per_byte"] == fine["bits_per_byte"] == pytest.approx(20 / (50 * LN2))
    assert coarse["perplexity"] == pytest.approx(fine["perplexity"] ** 2)


def test_a_run_without_documents() -> None:
    rows = by_domain(domain_fit([], QUICK))
    assert list(rows) == [("all", None), ("macro", None)]
    assert {row["n_documents"] for row in rows.values()} == {0}
    assert {row["bits_per_byte"] for row in rows.values()} == {None}


def test_losses_too_large_for_a_number_are_none() -> None:
    row = by_domain(domain_fit([Block("a", np.array([[1e6, 1, 1, 4, 1], [2e6, 1, 1, 4, 1]]))], QUICK))["domain", "a"]
    assert {row[name] for name in ("perplexity", "perplexity_low", "perplexity_high")} == {None}
    assert row["bits_per_byte"] == pytest.approx(3e6 / 8 / LN2)


def test_a_domain_of_too_large_a_perplexity_stays_in_the_macro_mean() -> None:
    blocks = [Block("a", np.array([[1e6, 1, 1, 4, 1]])), Block("b", np.array([[2.0, 1, 1, 4, 1]]))]
    rows = by_domain(domain_fit(blocks, FitSettings(resamples=0)))
    macro = rows["macro", None]
    assert macro["bits_per_byte"] == pytest.approx((1e6 + 2) / 8 / LN2)
    assert (macro["perplexity"], macro["n_documents"]) == (None, 2)


# Intervals


def corpus(n: int, seed: int = 0, scale: float = 1.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(seed)
    n_bytes = np.ceil(np.exp(rng.normal(5, 1, n)))
    tokens = np.ceil(n_bytes / 4)
    loss = scale * tokens * rng.lognormal(0, 0.3, n)
    return np.stack([loss, tokens, tokens + 1, n_bytes, tokens], axis=1)


def test_the_interval_is_the_symmetric_studentised_bootstrap_of_the_logarithm() -> None:
    """Against a loop over samples that draws documents themselves, multinomially: the same to the samples' noise."""
    values = corpus(60)
    row = by_domain(domain_fit([Block("a", values)], FitSettings(resamples=20_000)))["domain", "a"]
    loss, n_bytes = values[:, 0], values[:, 3]

    def estimate(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[float, float]:
        influence = x / x.sum() - y / y.sum()
        return math.log(x.sum() / y.sum()), math.sqrt(float((influence**2).sum()))

    middle, error = estimate(loss, n_bytes)
    rng = np.random.default_rng(1)
    t = []
    for _ in range(20_000):
        drawn = rng.integers(0, 60, 60)
        one, its_error = estimate(loss[drawn], n_bytes[drawn])
        t.append(abs(one - middle) / its_error)
    reach = np.quantile(t, 0.95) * error
    ends = [math.log(row[f"bits_per_byte_{end}"] * LN2) for end in ("low", "high")]
    assert ends == pytest.approx([middle - reach, middle + reach], abs=0.04 * reach)


def test_shares_draw_documents_of_the_whole_run() -> None:
    """Of two domains the shares, and the ends of their intervals, come to 1: what one gains the other loses."""
    rows = by_domain(domain_fit([Block("a", corpus(80, 1)), Block("b", corpus(50, 2))], FitSettings(resamples=1000)))
    first, second = rows["domain", "a"], rows["domain", "b"]
    assert first["token_share"] + second["token_share"] == pytest.approx(1)
    assert first["token_share_low"] + second["token_share_high"] == pytest.approx(1)
    assert first["token_share_high"] + second["token_share_low"] == pytest.approx(1)
    assert 0 < first["token_share_low"] < first["token_share"] < first["token_share_high"] < 1


def test_the_same_seed_gives_the_same_numbers_whatever_the_batches(lake: Lake) -> None:
    settings = FitSettings(resamples=300, seed=5)
    first, again = (fitted(lake, settings) for _ in range(2))
    assert first.equals(again)
    assert not first.equals(fitted(lake, FitSettings(resamples=300, seed=6)))
    values = corpus(3 * BLOCK + 17)
    whole = _batches(values, [len(values)])
    cut = _batches(values, [5, BLOCK, 2 * BLOCK - 5, 17])
    assert domain_fit(blocks(whole), settings).equals(domain_fit(blocks(cut), settings))


def _batches(values: np.ndarray[Any, Any], sizes: Sequence[int]) -> Iterator[pa.RecordBatch]:
    start = 0
    for size in sizes:
        rows = values[start : start + size]
        columns = dict(zip(("loss", "n_scored", "n_fed", "n_bytes", "n_words"), rows.T, strict=True))
        yield pa.RecordBatch.from_pydict({"domain": ["a"] * len(rows), **columns})
        start += size


def test_blocks_keep_every_document_and_its_domain() -> None:
    values = corpus(2 * BLOCK + 3)
    names = ["a"] * 5 + ["b"] * (BLOCK + 1) + [None] * (BLOCK - 3)
    columns = dict(zip(("loss", "n_scored", "n_fed", "n_bytes", "n_words"), values.T, strict=True))
    table = pa.table({"domain": pa.array(names, pa.string()), **columns})
    found = list(blocks(table.to_batches(max_chunksize=700)))
    assert [(each.domain, len(each.values_BC)) for each in found] == [
        ("a", 5),
        ("b", BLOCK),
        ("b", 1),
        (None, BLOCK - 3),
    ]
    assert np.array_equal(np.concatenate([each.values_BC for each in found]), values)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_documents_have_no_interval(n: int) -> None:
    row = by_domain(domain_fit([Block("a", corpus(n))], FitSettings(resamples=1000)))["domain", "a"]
    assert row["bits_per_byte"] is not None
    assert {row[f"{name}_{end}"] for name in ("bits_per_byte", "perplexity") for end in ("low", "high")} == {None}


def test_documents_of_one_rate_have_an_interval_of_no_width() -> None:
    values = corpus(40)
    values[:, 0] = values[:, 3] * 0.7
    row = by_domain(domain_fit([Block("a", values)], FitSettings(resamples=500)))["domain", "a"]
    assert row["bits_per_byte_low"] == pytest.approx(row["bits_per_byte"], rel=1e-6)
    assert row["bits_per_byte_high"] == pytest.approx(row["bits_per_byte"], rel=1e-6)


def test_no_resamples_no_intervals() -> None:
    table = domain_fit([Block("a", corpus(40))], FitSettings(resamples=0))
    assert {row["confidence"] for row in table.to_pylist()} == {None}
    for name in table.column_names:
        if name.endswith(("_low", "_high")):
            assert table[name].null_count == len(table)


def test_a_higher_level_gives_wider_intervals() -> None:
    widths = []
    for level in (0.5, 0.8, 0.95, 0.99):
        row = by_domain(domain_fit([Block("a", corpus(60))], FitSettings(level, 1000)))["domain", "a"]
        widths.append(row["bits_per_byte_high"] - row["bits_per_byte_low"])
    assert widths == sorted(set(widths))


def test_a_level_that_the_samples_cannot_tell_is_refused() -> None:
    """The largest of 1000 covers at 0.999: an interval of 0.9999 would not be one."""
    with pytest.raises(ValueError, match=r"--confidence 0.9999: 1,000 samples say nothing of a level above 0.999: "):
        FitSettings(0.9999, 1000)
    FitSettings(0.9999, 10_000)
    FitSettings(0.99, 100)
    FitSettings(0.9999, 0)


# Parts


def test_weights_are_poisson_of_mean_one() -> None:
    weights = poisson_weights(np.random.default_rng(0), 1000, 500)
    assert weights.shape == (500, 1000)
    assert weights.mean() == pytest.approx(1, abs=0.006)  # 4 errors
    assert weights.var() == pytest.approx(1, abs=0.012)
    chances = [float((weights == k).mean()) for k in range(5)]
    assert chances == pytest.approx([math.exp(-1) / math.factorial(k) for k in range(5)], abs=0.003)


def test_products_and_sums() -> None:
    values = corpus(7)
    sums = Sums.of_none(3)
    sums.add_block(Block("a", values), np.random.default_rng(0))
    loss, tokens, n_bytes = values[:, 0], values[:, 1], values[:, 3]
    assert sums.exact_F == pytest.approx(products(loss, tokens, n_bytes).sum(axis=0))
    assert sums["loss*bytes"] == pytest.approx(float(loss @ n_bytes))
    assert sums.drawn_RF.shape == (3, len(FIELDS))
    assert sums.tokens == pytest.approx([tokens.sum(), tokens @ tokens])
    double = Sums.of_none(3)
    for _ in range(2):
        double.add(sums)
    assert double.exact_F == pytest.approx(2 * sums.exact_F)
    assert double.n_fed == 2 * sums.n_fed


def test_errors_of_a_ratio_and_of_a_share_equal_their_formulas() -> None:
    values = corpus(30)
    loss, n_bytes, tokens = values[:, 0], values[:, 3], values[:, 1]
    log, error = log_ratio(products(loss, tokens, n_bytes).sum(axis=0), "loss", "bytes")
    assert float(log) == pytest.approx(math.log(loss.sum() / n_bytes.sum()))
    assert float(error) == pytest.approx(math.sqrt(((loss / loss.sum() - n_bytes / n_bytes.sum()) ** 2).sum()))
    inside, outside = tokens[:10], tokens[10:]
    log, error = log_odds(
        np.array([inside.sum(), inside @ inside]), np.array([tokens.sum(), tokens @ tokens])
    )  # fmt: skip
    assert float(log) == pytest.approx(math.log(inside.sum() / outside.sum()))
    want = (inside @ inside) / inside.sum() ** 2 + (outside @ outside) / outside.sum() ** 2
    assert float(error) == pytest.approx(math.sqrt(want))


def test_samples_that_say_nothing_leave_no_interval() -> None:
    far = np.full(100, np.inf)
    assert studentised((np.array(0.0), np.array(1.0)), (far, np.ones(100)), 0.95) is None
    assert studentised((np.array(np.nan), np.array(1.0)), (np.zeros(100), np.ones(100)), 0.95) is None
    assert studentised((np.array(0.0), np.array(1.0)), (np.zeros(0), np.zeros(0)), 0.95) is None
    mixed = np.r_[np.arange(1.0, 97.0), far[:4]]  # 4 of 100 infinitely far: the 95th stands
    assert studentised((np.array(0.0), np.array(0.5)), (mixed, np.ones(100)), 0.95) == pytest.approx((-48, 48), abs=1)


def test_settings_and_domains_that_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"--confidence 1.*--resamples 50.*--min-documents 0.*--seed -1"):
        FitSettings(1.0, 50, -1, 0)
    with pytest.raises(ValueError, match=r"--resamples 20001: expected 100 to 20000"):
        FitSettings(resamples=20_001)
    monkeypatch.setattr(fit_module, "MOST_DOMAINS", 2)
    with pytest.raises(TooManyDomainsError, match="more than 2 domains"):
        domain_fit([Block(name, corpus(1)) for name in "abc"], QUICK)
