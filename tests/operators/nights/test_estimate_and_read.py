"""Numbers of a night: errors by shards and by documents, and what is read of a run against plain sums over its rows."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import nights
import numpy as np
import pytest

from operators.catalog import connect
from operators.lake import Lake
from operators.mixtures.fit_intervals import log_ratio
from operators.mixtures.fit_sums import FIELDS
from operators.nights.estimate import DOCUMENTS, SHARDS, Sums, area, counted_share, ratio
from operators.nights.read import Number, Reading, read_numbers, read_thresholds

RUN = "web-2026-10-03"
EARLIER = "web-2026-10-02"
HOSTILE = "'; drop table documents --\x1b[31m<b>"


def sums(x: np.ndarray, y: np.ndarray, shards: np.ndarray) -> Sums:
    """Of documents [N] in shards."""
    by = [np.bincount(shards, values) for values in (x, y)]
    return Sums(by[0], by[1], float((x * x).sum()), float((y * y).sum()), float((x * y).sum()), x.size)


def test_documents_of_one_shard_give_the_delta_method_of_domain_fit() -> None:
    rng = np.random.default_rng(0)
    y = rng.lognormal(5, 1, 80)
    x = y * rng.lognormal(0, 0.3, 80)
    found = ratio(sums(x, y, np.zeros(80, np.intp)))
    assert found is not None
    assert (found.method, found.n_units, found.n) == (DOCUMENTS, 80, 80)
    fields = {"loss": x, "tokens": y, "bytes": y, "loss*loss": x * x, "tokens*tokens": y * y, "bytes*bytes": y * y,
              "loss*tokens": x * y, "loss*bytes": x * y}  # fmt: skip
    _, error = log_ratio(np.array([fields[name].sum() for name in FIELDS]), "loss", "bytes")
    assert found.level_error == pytest.approx(float(error) * found.value * np.sqrt(80 / 79), rel=1e-9)


def test_errors_by_shard_cover_where_documents_of_a_shard_go_together_and_by_document_they_do_not() -> None:
    rng = np.random.default_rng(1)
    shards = np.repeat(np.arange(20), 50)
    covered, naive = [], []
    for _ in range(300):
        x = 1.0 + rng.normal(0, 0.2, 20)[shards] + rng.normal(0, 0.5, 1000)
        found = ratio(sums(x, np.ones(1000), shards))
        alone = ratio(sums(x, np.ones(1000), np.zeros(1000, np.intp)))
        assert found is not None
        assert alone is not None
        assert found.method == SHARDS
        covered.append((found.low or 9) <= 1.0 <= (found.high or 0))
        naive.append((alone.low or 9) <= 1.0 <= (alone.high or 0))
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(naive) < 0.7


def test_one_large_shard_among_small_ones_is_not_many_units() -> None:
    y = np.r_[np.full(1000, 1.0), np.full(20, 1.0)]
    shards = np.r_[np.zeros(1000, np.intp), np.arange(1, 21)]
    found = ratio(sums(y * 2, y, shards))
    assert found is not None
    assert found.method == DOCUMENTS


def test_degenerate_sums_have_no_error_or_no_number() -> None:
    nothing = Sums(np.zeros(0), np.zeros(0), 0.0, 0.0, 0.0, 0)
    assert ratio(nothing) is None
    one = ratio(sums(np.array([3.0]), np.array([2.0]), np.zeros(1, np.intp)))
    assert one is not None
    assert (one.value, one.low, one.high, one.level_error) == (1.5, None, None, None)
    assert counted_share(0, 0) is None


def test_shares_have_wilsons_interval_and_zero_is_not_certain() -> None:
    from scipy import stats

    found = counted_share(3, 40)
    assert found is not None
    wilson = stats.binomtest(3, 40).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))
    none = ratio(sums(np.zeros(50), np.ones(50), np.arange(50) % 10), is_share=True)
    assert none is not None
    t = stats.t.ppf(0.975, 9)  # ten shards
    assert (none.low, none.high) == pytest.approx((0.0, t**2 / (50 + t**2)))
    assert none.level_error is not None
    assert none.level_error > 0


def test_an_area_is_as_sure_as_its_interval() -> None:
    sure, unsure = area(0.8, 0.78, 0.82, 1000), area(0.8, 0.6, 0.95, 1000)
    assert (sure.level_error or 0) < (unsure.level_error or 0) / 4
    assert area(1.0, 1.0, 1.0, 10).level_error == pytest.approx(0.5 / np.sqrt(10.5))


# Reading


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("nights")))
    texts = {(0, 0): "the same text twice", (1, 0): "the same text twice", (2, 0): "seen before, elsewhere",
             (3, 0): "seen before, in this shard", (4, 0): "seen before, in this shard and elsewhere"}  # fmt: skip
    before = {(5, 1): "seen before, elsewhere", (3, 1): "seen before, in this shard"}
    before |= {(shard, 2): "seen before, in this shard and elsewhere" for shard in (4, 7)}
    nights.write_run(lake, EARLIER, texts=before)
    nights.write_run(lake, RUN, texts=texts, domains=("a", HOSTILE, None), rejects=1)
    return lake


@pytest.fixture(scope="module")
def connection(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(lake.root, macros=False) as opened:
        yield opened


def read(connection: duckdb.DuckDBPyConnection, **more: object) -> dict[tuple[str, str, str], Number]:
    found = read_numbers(connection, Reading(RUN, **{"earlier": [EARLIER], **more}))  # type: ignore[arg-type]
    assert len({(n.measure, n.part, n.subject) for n in found}) == len(found)
    return {(n.measure, n.part, n.subject): n for n in found}


def test_every_number_is_the_plain_sum_over_the_rows(connection: duckdb.DuckDBPyConnection) -> None:
    found = read(connection, thresholds={"min_k_20": -3.0})
    rows = connection.sql(f"select * from documents where run_id = '{RUN}'").to_arrow_table().to_pylist()

    def total(name: str, domain: object = ...) -> float:
        return float(sum(r[name] for r in rows if domain is ... or r["domain"] == domain))

    def value(measure: str, part: str = "all", subject: str = "") -> float:
        return found[measure, part, subject].estimate.value

    assert value("bits_per_byte") == pytest.approx(-total("logprob_sum") / total("n_bytes") / np.log(2))
    assert value("mean_logprob") == pytest.approx(total("logprob_sum") / total("n_scored"))
    assert value("tokens_per_byte") == pytest.approx(total("n_tokens") / total("n_bytes"))
    assert value("log_document_bytes") == pytest.approx(np.mean([np.log(r["n_bytes"]) for r in rows]))
    for domain in ("a", HOSTILE):
        bits = -total("logprob_sum", domain) / total("n_bytes", domain) / np.log(2)
        assert value("bits_per_byte", "domain", domain) == pytest.approx(bits)
        assert value("domain_share", "domain", domain) == pytest.approx(total("n_bytes", domain) / total("n_bytes"))
    assert value("score_mean", "score", "min_k_20") == pytest.approx(np.mean([r["min_k_20"] for r in rows]))
    above = np.mean([r["min_k_20"] > -3.0 for r in rows])
    assert value("above_quantile", "score", "min_k_20") == pytest.approx(above)
    assert value("rejects_share") == pytest.approx(10 / 70)
    assert value("twin_share") == pytest.approx(2 / 60)
    assert value("repeated_share") == pytest.approx(2 / 60), "a text of the same shard alone is no repetition"
    odd = connection.sql(
        f"select count(*) filter (n_bytes = 1) / count(*) filter (n_bytes > 0) from tokens where run_id = '{RUN}'"
    ).fetchall()
    assert value("one_byte_share") == pytest.approx(odd[0][0])
    assert {found[key].estimate.n for key in found if key[1] == "all" and key[0] != "rejects_share"} == {60}


def test_torn_shards_count_in_no_number(connection: duckdb.DuckDBPyConnection) -> None:
    found = read(connection, torn=["s0", "s1"])
    assert found["bits_per_byte", "all", ""].estimate.n == 48
    assert found["rejects_share", "all", ""].estimate.n == 56
    assert found["twin_share", "all", ""].estimate.value == 0


def test_domains_are_the_few_with_most_bytes_and_what_is_switched_off_is_not_read(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    none = read(connection, domains=0, tokenizer=False, earlier=None)
    assert {part for _, part, _ in none} == {"all", "score"}
    assert not {"one_byte_share", "repeated_share"} & {measure for measure, _, _ in none}
    assert {subject for _, part, subject in read(connection, domains=1) if part == "domain"} == set()


def test_thresholds_are_points_of_the_night(connection: duckdb.DuckDBPyConnection) -> None:
    found = read_thresholds(connection, RUN)
    values = [v for (v,) in connection.sql(f"select min_k_20 from documents where run_id = '{RUN}'").fetchall()]
    assert found["min_k_20"] == pytest.approx(np.quantile(values, 0.95))
    above = read(connection, thresholds=found)["above_quantile", "score", "min_k_20"].estimate
    assert above.value == pytest.approx(3 / 60)
    most = [f"s{shard}" for shard in range(7)]
    assert read_thresholds(connection, RUN, most) == {}, "18 documents have no point that 5 % of them are above"
