"""Cards of memorisation: hand-worked seeds, and random documents with ties and gaps against plain loops in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pytest
import score_tables
from score_tables import Document, draw, found, near, rows

from operators.score_cards import ScoreError, parse_score
from operators.score_cards.markdown import needs, scores_markdown
from operators.scores import create_macros, load_scores

BYTES = 3  # of a token, in the random documents


# By hand


@pytest.fixture
def seeded() -> Iterator[duckdb.DuckDBPyConnection]:
    """Document 1: `<bos>` and five tokens, of which the third text token misses. Document 2: one token, unscored."""
    ranks = [None, 1, 1, 3, 1, 1]
    logprobs = [None, -0.25, -0.5, -2.0, -0.125, -0.0625]
    with score_tables.connect() as connection:
        tokens: list[dict[str, Any]] = [
            {"run_id": "r", "doc_id": 1, "position": t, "token_id": t, "byte_start": 2 * max(t - 1, 0),
             "n_bytes": 2 * (t > 0), "logprob": logprobs[t], "rank": ranks[t]}
            for t in range(6)
        ]  # fmt: skip
        tokens.append({**tokens[0], "doc_id": 2})
        score_tables.insert(connection, "tokens", tokens)
        score_tables.insert(connection, "documents", [{"run_id": "r", "doc_id": i} for i in (1, 2)])
        score_tables.insert(connection, "runs", [{"run_id": "r", "bos_prepended": True, "transform": None}])
        yield connection


def test_document_scores_by_hand(seeded: duckdb.DuckDBPyConnection) -> None:
    assert found(seeded, "longest_run", "r") == {1: 2, 2: None}
    assert found(seeded, "longest_run_share", "r") == {1: 2 / 5, 2: None}
    # After the BOS and two given tokens comes the miss; after three, two hits to the end; after five nothing is left.
    first = {k: found(seeded, "k_extractable", "r", first_tokens=k)[1] for k in (1, 2, 3, 4, 5)}
    assert first == {1: 1, 2: 0, 3: 2, 4: 1, 5: None}
    # Suffixes of two tokens after a prefix of one: 2-3 holds the miss, 4-5 none.
    assert found(seeded, "extractable_share", "r", prefix=1, suffix=2, stride=2) == {1: 1 / 2, 2: None}
    assert found(seeded, "extractable_share", "r", prefix=1, suffix=2, stride=1) == {1: 1 / 3, 2: None}


def test_windows_by_hand(seeded: duckdb.DuckDBPyConnection) -> None:
    kept = rows(seeded, "extraction", "r", prefix=1, suffix=2, stride=2)
    by_position = {row[2]: row[3:9] for row in kept}
    assert by_position == {2: (2, 4, 1, False, -2.5, -2.5), 4: (6, 4, 2, True, -0.1875, -0.1875)}
    n_50 = {row[2]: row[10] for row in kept}
    assert n_50 == {2: math.ceil(math.log(0.5) / math.log(1 - math.exp(-2.5))), 4: 1}


def test_runs_by_hand(seeded: duckdb.DuckDBPyConnection) -> None:
    assert rows(seeded, "rank_1_runs", "r", least=2) == [
        ("r", 1, 1, 2, 0, 4, -0.75),
        ("r", 1, 4, 2, 6, 4, -0.1875),
    ]
    assert rows(seeded, "rank_1_runs", "r", least=3) == []


def test_the_greedy_choice_is_the_id_that_is_kept_and_the_rank_without_one(seeded: duckdb.DuckDBPyConnection) -> None:
    """Both tokens of an exact tie have rank 1; one of them is what greedy decoding writes."""
    seeded.execute("update tokens set topk_id = [case when position = 5 then 99 else token_id end] where position > 0")
    assert found(seeded, "longest_run", "r")[1] == 4  # the list says that the third one is, and the last is not
    seeded.execute("update tokens set top1_id = case when position = 4 then 99 else token_id end where position > 0")
    assert found(seeded, "longest_run", "r")[1] == 3
    assert found(seeded, "extractable_share", "r", prefix=1, suffix=2, stride=1)[1] == 1 / 3


def test_a_bos_is_a_row_of_some_runs_only(seeded: duckdb.DuckDBPyConnection) -> None:
    """Runs of strict windows keep the text's rows alone; behind a prefix a text's own BOS stands in the middle."""

    def positions() -> list[int]:
        return sorted(row[2] for row in rows(seeded, "extraction", "r", prefix=1, suffix=2, stride=2))

    assert positions() == [2, 4]
    for transform, expected in (("windows:prefix=1,suffix=2", [1, 3]), ("prefix:label=0", [2, 4])):
        seeded.execute("update runs set transform = $spec", {"spec": transform})
        assert positions() == expected
    seeded.execute("update runs set transform = null, bos_prepended = false")
    assert positions() == [1, 3]


def test_a_token_added_behind_the_text_is_no_part_of_it(seeded: duckdb.DuckDBPyConnection) -> None:
    """The last of six is an EOS, predicted well: it makes no run longer and no window complete."""
    seeded.execute("update tokens set n_bytes = 0, byte_start = 8 where position = 5")
    assert found(seeded, "longest_run", "r") == {1: 2, 2: None}
    assert found(seeded, "longest_run_share", "r") == {1: 2 / 4, 2: None}
    first = {k: found(seeded, "k_extractable", "r", first_tokens=k)[1] for k in (1, 2, 3, 4)}
    assert first == {1: 1, 2: 0, 3: 1, 4: None}
    assert [row[2] for row in rows(seeded, "extraction", "r", prefix=1, suffix=2, stride=2)] == [2]
    assert found(seeded, "extractable_share", "r", prefix=1, suffix=2, stride=2) == {1: 0, 2: None}
    assert [row[2:4] for row in rows(seeded, "rank_1_runs", "r", least=1)] == [(1, 2), (4, 1)]


def test_exposure_by_hand() -> None:
    """Two canaries of one template: neither is a candidate of the other, and a tie counts against the canary."""
    totals = {1: -1.0, 2: -5.0, 10: -1.0, 11: -2.0, 12: -9.0, 20: -0.5, 30: -0.25}
    labels = {1: 1, 2: 1, 10: 0, 11: None, 12: 0, 20: 0, 30: 1}
    domains = {1: "a", 2: "a", 10: "a", 11: "a", 12: "a", 20: "b", 30: None}
    with score_tables.connect() as connection:
        tokens = [
            {"run_id": "r", "doc_id": i, "position": t, "logprob": value, "in_prompt": t == 1}
            for i, total in totals.items()
            for t, value in enumerate([None, -100.0, 0.75 * total, 0.25 * total])
        ]
        score_tables.insert(connection, "tokens", tokens)
        documents = [
            {"run_id": "r", "doc_id": i, "label": labels[i], "domain": domains[i], "attributes": [("t", domains[i])]}
            for i in totals
        ]
        score_tables.insert(connection, "documents", documents)
        expected = [
            ("r", 1, "a", -1.0, 2, 4, 1.0, 2.0, 0.5),
            ("r", 2, "a", -5.0, 3, 4, pytest.approx(2 - math.log2(3)), 2.0, 0.75),
        ]
        assert rows(connection, "exposure", "r") == expected
        assert rows(connection, "exposure", "r", grouping="t") == expected
        connection.execute("update tokens set logprob = null where doc_id = 2")
        assert rows(connection, "exposure", "r")[1] == ("r", 2, "a", None, None, 4, None, 2.0, None)


def test_exposure_of_random_canaries_is_no_news() -> None:
    """Of canaries drawn from their candidates a share of at most p has a p-value of p or less."""
    rng = np.random.default_rng(0)
    with score_tables.connect() as connection:
        lp = rng.normal(-20, 3, (200, 8)).round(1)
        insert = [
            {"run_id": "r", "doc_id": 8 * g + i, "position": 1, "logprob": float(lp[g, i])}
            for g in range(200)
            for i in range(8)
        ]
        score_tables.insert(connection, "tokens", insert)
        documents = [
            {"run_id": "r", "doc_id": 8 * g + i, "label": int(i == 0), "domain": str(g)}
            for g in range(200)
            for i in range(8)
        ]
        score_tables.insert(connection, "documents", documents)
        p_values = np.array([row[8] for row in rows(connection, "exposure", "r")])
    ranks = 1 + (lp[:, 1:] >= lp[:, :1]).sum(1)
    assert sorted(p_values) == sorted(ranks / 8)
    for rank in range(1, 8):  # three deviations of a binomial share
        level = rank / 8
        assert (p_values <= level).mean() < level + 3 * math.sqrt(level * (1 - level) / 200)


def test_counterfactual_by_hand() -> None:
    """Models a and b saw the document, c did not, d does not say."""
    ranks = {"a": (1, 1), "b": (1, 2), "c": (2, 2), "d": (1, 1)}
    with score_tables.connect() as connection:
        tokens = [
            {"run_id": run, "doc_id": 7, "position": t, "token_id": t, "rank": rank, "logprob": -float(rank)}
            for run, pair in ranks.items()
            for t, rank in enumerate(pair)
        ]
        score_tables.insert(connection, "tokens", tokens)
        labels = {"a": 1, "b": 1, "c": 0, "d": None}
        score_tables.insert(
            connection, "documents", [{"run_id": run, "doc_id": 7, "label": label} for run, label in labels.items()]
        )
        assert rows(connection, "counterfactual", "a", others=["b", "c", "d"]) == [
            ("a", 7, 2, 1, 0.75, 0.75, 0.0, 0.75, -1.25, -2.0)
        ]
        (alone,) = rows(connection, "counterfactual", "a")
        assert alone[2:5] == (1, 0, None)


# Against loops


def documents(seed: int, *, prompts: bool) -> dict[int, Document]:
    """Some end with tokens that were added behind their text."""
    rng = np.random.default_rng(seed)
    made = {}
    for i, size in enumerate((1, 2, 5, 17, 40, 61, 90)):
        prompt = int(rng.integers(0, size)) if prompts else None
        drawn = draw(rng, size, prompt_tokens=prompt, sharpness=float(rng.choice([1, 3])))
        own = size - (0, 0, 1, 0, 2, 4, 0)[i]
        spans = {
            "byte_start": [BYTES * min(t, own) for t in range(size)],
            "n_bytes": [BYTES * (t < own) for t in range(size)],
        }
        made[i] = replace(drawn, columns={**drawn.columns, **spans})
    return made


def greedy(document: Document) -> list[bool | None]:
    """Whether each token is the greedy choice; None without a prediction."""
    columns = document.columns
    hits: list[bool | None] = []
    for t in range(document.size):
        if columns["rank"][t] is None:
            hits.append(None)
        elif columns["topk_id"][t] is not None:
            hits.append(columns["topk_id"][t][0] == columns["token_id"][t])
        else:
            hits.append(columns["rank"][t] == 1)
    return hits


def own_size(document: Document) -> int:
    """Its tokens without those added behind its text."""
    return sum(n_bytes > 0 for n_bytes in document.columns["n_bytes"])


def is_counted(document: Document, t: int, completion: bool) -> bool:
    if t >= own_size(document):
        return False
    return document.columns["rank"][t] is not None and not (completion and bool(document.columns["in_prompt"][t]))


def runs(document: Document, completion: bool) -> list[tuple[int, int]]:
    """Start and end of every stretch of hits."""
    hits = [bool(hit) and is_counted(document, t, completion) for t, hit in enumerate(greedy(document))]
    found_runs, start = [], None
    for t, hit in enumerate([*hits, False]):
        if hit and start is None:
            start = t
        elif not hit and start is not None:
            found_runs.append((start, t))
            start = None
    return found_runs


CASES = [
    pytest.param(seed, prompts, completion, lists, id=f"{seed}-{prompts}-{completion}-{lists}")
    for seed, (prompts, completion, lists) in enumerate(
        [(False, False, True), (True, False, True), (True, True, True), (True, True, False), (False, False, False)]
    )
]


def lake(seed: int, prompts: bool, lists: bool) -> tuple[duckdb.DuckDBPyConnection, dict[int, Document]]:
    made = documents(seed, prompts=prompts)
    if not lists:
        made = {i: d.without("topk_id", "topk_logprob") for i, d in made.items()}
    connection = score_tables.connect()
    score_tables.add(connection, "r", made, bos_prepended=bool(seed % 2))
    return connection, made


@pytest.mark.parametrize(("seed", "prompts", "completion", "lists"), CASES)
def test_stretches_against_a_loop(seed: int, prompts: bool, completion: bool, lists: bool) -> None:
    connection, made = lake(seed, prompts, lists)
    with connection:
        longest = {i: max((b - a for a, b in runs(d, completion)), default=0) for i, d in made.items()}
        scored = {i: sum(t < own_size(d) for t in d.scored()) for i, d in made.items()}
        counted = {i: sum(is_counted(d, t, completion) for t in range(d.size)) for i, d in made.items()}
        got = found(connection, "longest_run", "r", completion=completion)
        assert got == {i: longest[i] if scored[i] else None for i in made}
        got = found(connection, "longest_run_share", "r", completion=completion)
        assert got == near({i: longest[i] / counted[i] if counted[i] else math.nan for i in made})
        for least in (1, 2, 4):
            expected = [
                ("r", i, a, b - a, BYTES * a, BYTES * (b - a),
                 pytest.approx(sum(d.columns["logprob"][a:b]), rel=1e-9))
                for i, d in made.items() for a, b in runs(d, completion) if b - a >= least
            ]  # fmt: skip
            expected.sort(key=lambda row: (-row[3], row[1], row[2]))
            assert rows(connection, "rank_1_runs", "r", least=least, completion=completion) == expected
        first = int(bool(seed % 2))
        for given in (1, 3, 20):
            expected_k = {}
            for i, d in made.items():
                rest = greedy(d)[first + given : own_size(d)]
                expected_k[i] = next((k for k, hit in enumerate(rest) if not hit), len(rest)) if rest else math.nan
            assert found(connection, "k_extractable", "r", first_tokens=given) == near(expected_k)


def sampled(document: Document, t: int, temperature: float, top_k: int) -> float:
    """ln q of a token under temperature and top-k, from the list as it is stored."""
    ids, lps = document.columns["topk_id"][t], document.columns["topk_logprob"][t]
    if not top_k:
        return float(document.columns["logprob"][t])
    weights = {v: math.exp(lp / temperature) for v, lp in zip(ids[:top_k], lps[:top_k], strict=True)}
    weight = weights.get(document.columns["token_id"][t], 0.0)
    return math.log(weight / math.fsum(weights.values())) if weight else -math.inf


SAMPLING = ((1.0, 0), (1.0, 8), (0.6, 5), (1.7, 1))


@pytest.mark.parametrize(("seed", "prompts", "completion", "lists"), CASES)
@pytest.mark.parametrize(("prefix", "suffix", "stride"), [(4, 3, 3), (5, 4, 6), (2, 6, 4), (3, 2, 1), (1, 1, 5)])
def test_windows_against_a_loop(
    seed: int, prompts: bool, completion: bool, lists: bool, prefix: int, suffix: int, stride: int
) -> None:
    connection, made = lake(seed, prompts, lists)
    with connection:
        for temperature, top_k in SAMPLING if lists else SAMPLING[:1]:
            sizes = {"prefix": prefix, "suffix": suffix, "stride": stride, "completion": completion}
            got = rows(connection, "extraction", "r", **sizes, temperature=temperature, top_k=top_k)
            assert len(got) == len({row[1:3] for row in got})
            by_window = {row[1:3]: row[3:9] for row in got}
            expected = {}
            for i, d in made.items():
                for start in range(int(bool(seed % 2)) + prefix, own_size(d) - suffix + 1, stride):
                    inside = range(start, start + suffix)
                    if not all(is_counted(d, t, completion) for t in inside):
                        continue
                    hits = sum(bool(greedy(d)[t]) for t in inside)
                    total = sum(d.columns["logprob"][t] for t in inside)
                    lp = sum(sampled(d, t, temperature, top_k) for t in inside)
                    expected[i, start] = (
                        BYTES * start, BYTES * suffix, hits, hits == suffix, pytest.approx(total, rel=1e-9),
                        pytest.approx(lp, rel=1e-9, abs=1e-9),
                    )  # fmt: skip
            assert by_window == expected
        shares = {i: [extractable for (j, _), (*_, extractable, _, _) in by_window.items() if j == i] for i in made}
        expected_shares = {i: sum(s) / len(s) if s else math.nan for i, s in shares.items()}
        assert found(connection, "extractable_share", "r", **sizes) == near(expected_shares)


def test_what_cannot_be_sampled_is_inf_and_what_is_not_kept_is_null() -> None:
    made = {1: documents(5, prompts=False)[6]}
    with score_tables.connect() as connection:
        score_tables.add(connection, "r", made)
        sizes = {"prefix": 2, "suffix": 2, "stride": 2}
        for more in ({"temperature": 0.5}, {"top_k": 9}):
            unknown = rows(connection, "extraction", "r", **sizes, **more)
            assert {row[8:] for row in unknown} == {(None, None, None, None)}  # no number of samples either
        certain = rows(connection, "extraction", "r", **sizes, top_k=1)
        assert {row[8] for row in certain} == {0.0, -math.inf}
        assert {(row[6], row[8], row[9], row[10], row[11]) for row in certain} == {
            (True, 0.0, 1, 1, 1), (False, -math.inf, math.inf, math.inf, math.inf)
        }  # fmt: skip
        totals = [-700.0, -745.0, -800.0, -1e-12, -30.0]
        for total in totals:
            connection.execute("update tokens set logprob = $half where logprob is not null", {"half": total / 2})
            for row in rows(connection, "extraction", "r", **sizes):
                p_z = math.exp(row[8])
                assert row[8] == pytest.approx(total, rel=1e-6)
                for place, chance in ((9, 0.1), (10, 0.5), (11, 0.9)):
                    exact = math.log1p(-chance) / math.log1p(-p_z) if 0 < p_z < 1 else math.inf
                    assert row[place] == pytest.approx(max(1, exact), rel=1e-6, abs=1)


def test_macros_answer_as_the_statements_do() -> None:
    connection, _ = lake(2, True, True)
    with connection:
        create_macros(connection)
        for name, card in load_scores().items():
            if card.family != "memorization":
                continue
            by_macro = connection.execute(f"from {name}('r')").fetchall()
            assert sorted(by_macro, key=str) == sorted(rows(connection, name, "r"), key=str)
        small = connection.execute("from extraction('r', prefix := 2, suffix := 3, stride := 3)").fetchall()
        assert sorted(small) == sorted(rows(connection, "extraction", "r", prefix=2, suffix=3, stride=3))
        assert len(small) > 10
        with pytest.raises(duckdb.Error, match="stride = 0 is not in"):
            connection.execute("from extraction('r', prefix := 2, suffix := 3, stride := 0)")


def test_groups_that_a_run_may_lack_are_no_need() -> None:
    """A card that reads ids where there are some asks for no run that kept them, and says so."""
    card = load_scores()["longest_run"]
    assert (card.optional, needs(card)) == (("extremes", "topk"), "")
    assert "- uses: column groups extremes and topk where the run kept them" in scores_markdown([card])
    text = card.sql.replace("-- optional: extremes, topk", "-- optional: extrems")
    with pytest.raises(ScoreError, match="optional: no column group 'extrems' of tokens"):
        parse_score(text, card.path)
