"""Pairing of parallel texts: sums over ids against a plain loop, with repeats, gaps, hostile names and no tokens."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest

from operators.tokenizer_statistics.parallel import ALIGNED
from pipelines.tokenizers.parallel import Aligner, Paired, text_rows
from schemas.flow import READ

GROUPS, NAMES = 8, ("one", "two; drop table texts")
Text = tuple[
    str | None, str | None, int
]  # id, domain, tokens of the first tokenizer; the second has three times as many


def block(texts: list[Text]) -> pa.Table:
    rows = [
        {"source": "s", "row": i, "key": f"s#{i}", "text": "x", "domain": domain,
         "attributes": [("other", "0"), *([] if key is None else [("id", key)])]}
        for i, (key, domain, _) in enumerate(texts)
    ]  # fmt: skip
    return pa.Table.from_pylist([{name: row.get(name) for name in READ.names} for row in rows], schema=READ)


def drawn(seed: int) -> list[Text]:
    dice = np.random.default_rng(seed)
    domains = ["en", "de", "fr'\"\n", None]
    texts: list[Text] = []
    for _ in range(400):
        key = None if dice.random() < 0.05 else f"id {dice.integers(0, 150)}"
        texts.append((key, domains[dice.integers(0, 4)], int(dice.integers(0, 20))))
    return texts


def paired(texts: list[Text], baseline: str, cut: int = 7) -> Paired:
    with Aligner(NAMES, GROUPS) as aligner:
        for start in range(0, len(texts), cut):
            some = texts[start : start + cut]
            tokens = np.array([[n for _, _, n in some], [3 * n for _, _, n in some]], np.int64)
            aligner.add(text_rows(block(some), np.arange(len(some)), tokens, "id"))
        return aligner.paired(baseline)


@pytest.mark.parametrize("seed", range(5))
def test_sums_are_those_of_a_loop(seed: int) -> None:
    texts = drawn(seed)
    found = paired(texts, "en")
    by_id: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for key, domain, n in texts:
        if key is not None and domain is not None:
            by_id[key][domain].append(n)
    n_pairs: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    based: Counter[str] = Counter()
    ratios: Counter[str] = Counter()
    for own in by_id.values():
        for domain, lengths in own.items():
            if domain != "en" and len(lengths) == 1 and len(own.get("en", [])) == 1 and own["en"][0]:
                n_pairs[domain] += 1
                tokens[domain] += lengths[0]
                based[domain] += own["en"][0]
                ratios[domain] += lengths[0] / own["en"][0]
    assert found.aligned.schema == ALIGNED
    for place, name in enumerate(NAMES):
        rows = [row for row in found.aligned.to_pylist() if row["tokenizer"] == name]
        assert {row["group"] for row in rows} <= set(range(GROUPS))
        for domain, n in n_pairs.items():
            own_rows = [row for row in rows if row["domain"] == domain]
            assert sum(row["n"] for row in own_rows) == n == found.texts[domain]
            assert sum(row["tokens"] for row in own_rows) == (1, 3)[place] * tokens[domain]
            assert sum(row["baseline_tokens"] for row in own_rows) == (1, 3)[place] * based[domain]
            assert sum(row["ratio_sum"] for row in own_rows) == pytest.approx(ratios[domain])
    assert found.texts.keys() == n_pairs.keys() == {"de", "fr'\"\n"}
    assert found.ambiguous == sum(any(len(lengths) > 1 for lengths in own.values()) for own in by_id.values())
    assert found.unpaired == sum(sum(map(len, own.values())) for own in by_id.values() if "en" not in own)


def test_the_order_and_the_cut_change_nothing() -> None:
    texts = drawn(9)
    whole = paired(texts, "de", 400)
    assert paired(texts[::-1], "de", 3).aligned.drop(["ratio_sum"]) == whole.aligned.drop(["ratio_sum"])
    assert len(set(whole.aligned["group"].to_pylist())) > 1


def test_rows_are_those_of_the_documents_that_count() -> None:
    texts: list[Text] = [("a", "en", 5), (None, "en", 6), ("c", None, 7), ("d", "de", 8), ("e", "de", 9)]
    rows = text_rows(block(texts), np.array([0, 1, 2, 4]), np.array([[5, 6, 7, 9]]), "id")
    assert rows.select(["domain", "tokens_0"]).to_pylist() == [
        {"domain": "en", "tokens_0": 5}, {"domain": "de", "tokens_0": 9},
    ]  # fmt: skip
    assert len(text_rows(block(texts), np.zeros(0, np.int64), np.zeros((1, 0), np.int64), "id")) == 0


def test_without_any_pair_there_is_an_empty_table() -> None:
    found = paired([("a", "en", 5), ("b", "de", 6)], "en")
    assert (len(found.aligned), found.texts, found.ambiguous, found.unpaired) == (0, {}, 0, 1)
    with Aligner(NAMES, GROUPS) as aligner:
        assert len(aligner.paired("en").aligned) == 0


def test_sums_of_ratios_are_the_same_in_any_order() -> None:
    """To the bit: units come in any order, and the engine that adds them up has several threads."""
    texts: list[Text] = [(f"id {i}", "en", 3 + i % 91) for i in range(3000)]
    texts += [(f"id {i}", "de", 1 + i % 97) for i in range(3000)]
    one, other = paired(texts, "en", 500), paired(texts[::-1], "en", 700)
    assert one.aligned == other.aligned


def test_the_seed_draws_the_groups_of_ids() -> None:
    texts: list[Text] = [(f"id {i}", "en", 1) for i in range(100)]
    zero, one = (text_rows(block(texts), np.arange(100), np.ones((1, 100), np.int64), "id", seed) for seed in (0, 1))
    assert len(set(zero["id"].to_pylist()) | set(one["id"].to_pylist())) == 200
