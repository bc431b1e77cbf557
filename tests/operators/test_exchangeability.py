"""The test of exchangeability: numbers by hand, SQL and Python alike, exact where it says so, undefined where it is."""

from __future__ import annotations

import math
from pathlib import Path

import duckdb
import labelled
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from operators.catalog import connect
from operators.evaluation.blind_order import MAX_SHARD_ITEMS, blind_order
from operators.evaluation.exchangeability import OrdersError, exchangeability, read_orders
from operators.lake import Lake
from operators.score_cards import load_scores

# metrics.md, C1: the statement that our numbers are to agree with.
C_OREN = """
WITH s AS (SELECT shard, max(logp) FILTER (WHERE perm = 0) AS can, avg(logp) FILTER (WHERE perm > 0) AS shuf
           FROM shard_logp GROUP BY shard)
SELECT avg(can - shuf) / stddev_pop(can - shuf)  * sqrt(count(*)) AS t_official,
       avg(can - shuf) / stddev_samp(can - shuf) * sqrt(count(*)) AS t_ddof1, count(*) - 1 AS df
FROM s
"""

Floats = npt.NDArray[np.float64]


def ones(logprob: Floats) -> npt.NDArray[np.int64]:
    return np.ones(logprob.shape, dtype=np.int64)


def test_numbers_by_hand() -> None:
    """Differences 1, 2 and 3: mean 2, deviation 1, so t = 2 sqrt(3); the population's deviation is sqrt(2/3)."""
    logprob = np.array([[-10.0, -10.5, -11.5], [-20.0, -22.0, -22.0], [-30.0, -34.0, -32.0]])
    found = exchangeability(logprob, np.array([[10, 9, 9], [20, 1, 1], [30, 1, 1]]))
    assert found.t == pytest.approx(2 * math.sqrt(3))
    assert found.t_official == pytest.approx(2 / math.sqrt(2 / 3) * math.sqrt(3))
    assert found.df == 2
    assert found.p_t == pytest.approx(stats.t.sf(2 * math.sqrt(3), 2))
    assert found.p_t_official == pytest.approx(stats.t.sf(math.sqrt(18), 2))
    assert (found.n_at_least, found.p_permutation, found.resolution) == (0, 1 / 3, 1 / 3)
    assert (found.total_gain, found.n_tokens, found.gain) == (6.0, 60, 0.1)
    half = stats.t.ppf(0.975, 2) / math.sqrt(3) * 3 / 60
    assert (found.low, found.high) == (pytest.approx(0.1 - half), pytest.approx(0.1 + half))


def test_t_agrees_with_the_official_statement() -> None:
    rng = np.random.default_rng(3)
    logprob = -rng.gamma(4.0, 30.0, (17, 1)) - rng.gamma(2.0, 3.0, (17, 31))
    with duckdb.connect() as connection:
        connection.execute("create table shard_logp(shard integer, perm integer, logp double)")
        rows = [(s, j, float(logprob[s, j])) for s in range(17) for j in range(31)]
        connection.executemany("insert into shard_logp values (?, ?, ?)", rows)
        ((official, ours, df),) = connection.execute(C_OREN).fetchall()
    found = exchangeability(logprob, ones(logprob))
    assert (found.t_official, found.t, found.df) == (pytest.approx(official), pytest.approx(ours), df)
    assert found.t_official == pytest.approx(found.t * math.sqrt(17 / 16))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", [(2, 8), (5, 20)])
def test_the_permutation_test_is_exact(shape: tuple[int, int], tied: bool) -> None:
    """Where every column may as well be the file's: of P columns, at most k have p <= k / P. Not one too many."""
    rng = np.random.default_rng(11)
    for _ in range(30):
        logprob = rng.exponential(2.0, shape)
        if tied:
            logprob = np.round(logprob / 3)
        orders = shape[1]
        rolled = (np.roll(logprob, j, axis=1) for j in range(orders))
        p_values = np.sort([exchangeability(each, ones(each)).p_permutation for each in rolled])
        steps = np.arange(1, orders + 1) / orders
        assert (p_values >= steps - 1e-12).all()
        assert tied or p_values == pytest.approx(steps)


def test_orders_that_are_all_alike_say_nothing() -> None:
    """0.1 + 0.2 and their like: equal sums give a difference of exactly zero, whatever rounding does to a mean."""
    same = np.repeat([[-0.1], [-0.3], [-1 / 3]], 8, axis=1)
    found = exchangeability(same, ones(same))
    assert (found.p_permutation, found.n_at_least, found.gain) == (1.0, 7, 0.0)
    assert (found.t, found.t_official, found.p_t, found.p_t_official, found.low, found.high) == (None,) * 6
    assert found.p_tail is None
    shifted = same + np.where(np.arange(8) == 0, 0.5, 0.0)
    found = exchangeability(shifted, ones(shifted))
    assert found.p_permutation == 1 / 8
    assert found.gain == pytest.approx(0.5)


def test_the_fitted_tail_is_the_tail_where_the_distribution_is_known() -> None:
    """Sums of gamma draws are of Pearson's type III; of exponential losses turned round, too."""
    rng = np.random.default_rng(2)
    drawn = rng.gamma(1.5, 2.0, (4, 40_000))
    for own, sign in ((22.0, 1), (30.0, 1), (4.0, -1), (2.5, -1)):
        shares = np.full((4, 1), own / 4)
        found = exchangeability(sign * np.hstack([shares, drawn]), np.ones((4, 40_001)))
        law = stats.gamma(6.0, scale=2.0)
        assert found.p_tail == pytest.approx(law.sf(own) if sign > 0 else law.cdf(own), rel=0.1)
    below_the_floor = np.hstack([np.full((4, 1), 20.0), drawn[:, :99]])
    found = exchangeability(below_the_floor, ones(below_the_floor))
    assert found.p_tail is not None
    assert found.p_tail < 1e-4 < found.resolution == found.p_permutation
    assert exchangeability(drawn[:, :3], ones(drawn[:, :3])).p_tail is None


def test_a_fitted_tail_does_not_condemn_where_it_does_not_fit() -> None:
    """Two shards of long-tailed losses: the curve ends below much of what is drawn, and would call that impossible."""
    rng = np.random.default_rng(0)
    tested = [exchangeability(-rng.lognormal(0.0, 1.0, (2, 100)), np.ones((2, 100))) for _ in range(600)]
    tails = [each.p_tail for each in tested if each.p_tail is not None]
    assert min(tails) > 0
    assert sum(p <= 0.05 for p in tails) <= 0.05 * len(tested)
    assert sum(p < 1e-4 for p in tails) == 0
    unfit = [each for each in tested if each.p_tail is None]
    assert len(unfit) > 20
    assert min(each.n_at_least for each in unfit) >= 1


@pytest.mark.parametrize(
    ("logprob", "said"),
    [
        (np.zeros((1, 5)), "expected"),
        (np.zeros((5, 1)), "expected"),
        (np.zeros(5), "expected"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.array([[0.0, -np.inf], [0.0, 0.0]]), "not finite"),
    ],
)
def test_what_cannot_be_tested_is_refused(logprob: Floats, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        exchangeability(logprob, ones(logprob))
    with pytest.raises(ValueError, match="no token"):
        exchangeability(np.zeros((2, 2)), np.zeros((2, 2)))


# As a run


def write_orders_run(
    lake: Lake, run_id: str, logprob: Floats, *, without: tuple[tuple[int, int], ...] = (), domain: str | None = None
) -> None:
    """A run whose pseudo-documents have these sums, over two tokens a document."""
    made = [
        labelled.Document(
            f"{shard}/{j}", None, np.array([value / 4, 3 * value / 4]), "text", domain or str(shard),
            {"shard": str(shard), "permutation": str(j), "n_items": str(2 + shard % 2)},
        )
        for (shard, j), value in np.ndenumerate(logprob)
        if (shard, j) not in without
    ]  # fmt: skip
    labelled.write_run(lake, run_id, made, features=())


@pytest.fixture(scope="module")
def random_logprob() -> Floats:
    """In steps of 1/16, which the lake keeps to the bit: many sums tie."""
    rng = np.random.default_rng(0)
    return -np.round(rng.gamma(3.0, 2.0, (12, 40)) * 4) / 4 - 1


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, random_logprob: Floats) -> Path:
    path = tmp_path_factory.mktemp("lake")
    there = Lake(str(path))
    write_orders_run(there, "random", random_logprob)
    write_orders_run(there, "alike", np.repeat([[-1.5], [-2.25], [-7.0]], 5, axis=1))
    write_orders_run(there, "holes", random_logprob[:3, :4], without=((1, 2), (2, 0)))
    write_orders_run(there, "headless", random_logprob[:2, :3], without=((0, 0), (1, 0)))
    write_orders_run(there, "texts", random_logprob[:2, :2], domain="news")
    labelled.write_run(there, "plain", labelled.documents(np.random.default_rng(1), 3), features=())
    return path


def from_sql(lake: Path, run_id: str) -> list[dict[str, object]]:
    with connect(lake, macros=False) as connection:
        card = load_scores()["exchangeability"]
        return list(connection.sql(card.sql, params=card.bind(run_id=run_id)).to_arrow_table().to_pylist())


def test_sql_and_python_give_the_same(lake: Path, random_logprob: Floats) -> None:
    with connect(lake, macros=False) as connection:
        totals = read_orders(connection, "random")
    assert totals.logprob_SP == pytest.approx(random_logprob, abs=1e-9)
    assert totals.items_S.tolist() == [2, 3] * 6
    found = exchangeability(totals.logprob_SP, totals.tokens_SP)
    assert 0 < found.n_at_least < 39
    assert len(np.unique(totals.logprob_SP.sum(axis=0))) < 40  # ties
    (row,) = from_sql(lake, "random")
    assert row["n_tokens"] == found.n_tokens == 24
    assert row["p_permutation"] == found.p_permutation
    for name in ("n_shards", "n_permutations", "n_at_least", "df"):
        assert row[name] == getattr(found, name)
    for name in ("gain", "t", "t_official"):
        assert row[name] == pytest.approx(getattr(found, name), rel=1e-9)
    assert found.high is not None
    assert row["standard_error"] == pytest.approx((found.high - found.gain) / stats.t.ppf(0.975, 11))


def test_the_macro_is_the_statement(lake: Path) -> None:
    with connect(lake) as connection:
        rows = connection.sql("from exchangeability('random')").to_arrow_table().to_pylist()
    assert rows == from_sql(lake, "random")


def test_what_is_not_defined_is_null_in_sql(lake: Path) -> None:
    (alike,) = from_sql(lake, "alike")
    assert (alike["p_permutation"], alike["gain"]) == (1.0, 0.0)
    assert (alike["t"], alike["t_official"], alike["standard_error"]) == (None, None, None)
    for run_id in ("holes", "headless"):
        (row,) = from_sql(lake, run_id)
        assert {row[name] for name in ("n_at_least", "gain", "t", "t_official", "p_permutation")} == {None}
    assert from_sql(lake, "plain") == from_sql(lake, "nobody") == []


@pytest.mark.parametrize(
    ("run_id", "said"),
    [
        ("holes", r"lacks 2 of 12 orders \(1/2, 2/0"),
        ("headless", "lacks 2 of 6 orders"),
        ("plain", "holds no orders of a benchmark"),
        ("texts", "holds no orders of a benchmark"),
        ("nobody", "holds no orders of a benchmark"),
    ],
)
def test_a_run_that_is_not_whole_is_not_tested(lake: Path, run_id: str, said: str) -> None:
    with connect(lake, macros=False) as connection, pytest.raises(OrdersError, match=said):
        read_orders(connection, run_id)


# The blind baseline


def items(rng: np.random.Generator, n: int) -> list[str]:
    """Items of one of four subjects, each with words of its own, of lengths that differ."""
    subjects = [[f"{name}{i}" for i in range(30)] for name in ("art", "law", "sea", "sun")]
    return [" ".join(rng.choice(subjects[i % 4], int(rng.integers(5, 30)))) for i in range(n)]


def test_a_file_that_is_grouped_or_sorted_is_flagged() -> None:
    made = items(np.random.default_rng(0), 80)
    grouped = [text for subject in range(4) for text in made[subject::4]]
    how = {"shards": 3, "permutations": 199, "seed": 0}
    words, lengths = blind_order(grouped, **how)
    assert words.is_flagged
    assert words.z > 5
    assert not lengths.is_flagged
    dealt, _ = blind_order(made, **how)  # a subject never follows itself
    assert dealt.is_flagged
    assert dealt.z < -2
    _, lengths = blind_order(sorted(made, key=len), **how)
    assert lengths.is_flagged
    assert lengths.z > 5


def test_a_file_in_no_order_is_seldom_flagged() -> None:
    rng = np.random.default_rng(1)
    flagged = 0
    for seed in range(60):
        made = items(rng, 24)
        mixed = [made[i] for i in rng.permutation(24)]
        flagged += sum(each.is_flagged for each in blind_order(mixed, shards=4, permutations=99, seed=seed))
    assert flagged <= 8  # of 120 tests at 2 %: 2.4 expected, more than 8 once in a thousand


def test_items_that_are_all_alike_are_in_no_order() -> None:
    for each in blind_order(["", "", " ", "\u200d"], shards=2, permutations=9, seed=0)[:1]:
        assert (each.p_value, each.z) == (1.0, 0.0)
    same = blind_order(["one text"] * 30, shards=2, permutations=9, seed=0)
    assert [(each.p_value, each.z) for each in same] == [(1.0, 0.0)] * 2
    with pytest.raises(ValueError, match="items a shard"):
        blind_order(["x"] * (2 * MAX_SHARD_ITEMS + 2), shards=2, permutations=1, seed=0)
