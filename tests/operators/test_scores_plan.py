"""What can be scored of a run: variants and how they are read, companions found, and hints for what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import ledgers
import pytest

from operators.catalog import connect
from operators.lake import Lake
from operators.score_cards import Score, load_scores
from operators.scores import ScoreError, ScorePlan, plan_scores
from operators.scores.missing import transformed_run_id
from operators.scores.variants import parameters_json, parse_wanted, variant_name
from schemas import TOKENS

CARDS = load_scores()
RUN = "monday"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "my lake"))
    ledgers.write(lake, RUN)
    return lake


def plan(lake: Lake, *names: str, **more: Any) -> ScorePlan:
    with connect(lake.root, macros=False) as connection:
        return plan_scores(connection, RUN, names or None, lake="my lake", **more)


def values(found: ScorePlan, parameter: str) -> dict[str, Any]:
    """What is bound to a parameter, by variant."""
    return {request.variant: request.values[parameter] for request in found.requests}


# Variants


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("min_k", "min_k"),
        (" min_k ( ) ", "min_k"),
        ("min_k(ratio=0.1)", "min_k(ratio=0.1)"),
        ("min_k(ratio=1)", "min_k(ratio=1)"),
        ("min_k(ratio=1.0; parity=false)", "min_k(ratio=1)"),
        ("min_k(parity=TRUE,ratio=1e-1)", "min_k(ratio=0.1, parity=true)"),
        ("min_k(ratio=0.20)", "min_k"),
        ("min_k(ratio=0.30000000000000004)", "min_k(ratio=0.30000000000000004)"),
        ("gltr(top=1000)", "gltr(top=1000)"),
        ("sequence_entropy(attribute=topic)", "sequence_entropy(attribute=topic)"),
        ("sequence_entropy(attribute=a b)", 'sequence_entropy(attribute="a b")'),
        (
            r'sequence_entropy(attribute="a; b, c=\"d\")", normalised=true)',
            r'sequence_entropy(normalised=true, attribute="a; b, c=\"d\")")',
        ),
    ],
)
def test_a_variant_that_is_printed_can_be_typed(asked: str, name: str) -> None:
    wanted = parse_wanted(asked, CARDS)
    card = CARDS[wanted.name]
    found = variant_name(card, [], {p.name: wanted.values.get(p.name, p.default) for p in card.settings})
    assert found == name
    again = parse_wanted(found, CARDS)
    assert {p.name: again.values.get(p.name, p.default) for p in card.settings} == {
        p.name: wanted.values.get(p.name, p.default) for p in card.settings
    }


def test_parameters_behind_the_name_of_a_transformed_run_are_told_from_its_own() -> None:
    for between in ("; ", ", ", ","):
        wanted = parse_wanted(f"recall(prefix:label=0,shots=3{between}aligned=true)", CARDS)
        assert (wanted.labels, wanted.values) == (("prefix:label=0,shots=3",), {"aligned": True})
    both = parse_wanted("con_recall(prefix:label=0, shots=3; prefix:label=1,shots=3; gamma=2, aligned=true)", CARDS)
    assert both.labels == ("prefix:label=0,shots=3", "prefix:label=1,shots=3")
    assert both.values == {"gamma": 2.0, "aligned": True}


def test_values_have_the_types_that_the_card_declares() -> None:
    assert parse_wanted("min_k(ratio=1)", CARDS).values == {"ratio": 1.0}
    assert type(parse_wanted("min_k(ratio=1)", CARDS).values["ratio"]) is float
    assert type(parse_wanted("gltr(top=100)", CARDS).values["top"]) is int
    assert parse_wanted("recall(aligned=true)", CARDS).values == {"aligned": True}
    assert parse_wanted("surp(max_entropy=inf)", CARDS).values == {"max_entropy": math.inf}
    assert json.loads(parameters_json({"run_id": "x", "b": math.inf, "a": [0.5, -math.inf], "c": ["r"]})) == {
        "a": [0.5, "-inf"],
        "b": "inf",
        "c": ["r"],
    }


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ("mink", r"no score of documents is called 'mink' \(did you mean min_k"),
        ("bits_per_byte", r"'bits_per_byte' is no score of documents .* from bits_per_byte\(\.\.\.\)"),
        ("all_scores", "no score of documents"),
        ("min_k(ratio=0.1, ratio=0.3)", "ratio given twice"),
        ("min_k(ratio=0.1; ratio=0.1)", "ratio given twice"),
        ("min_k(ratio=-0.5)", r"min_k: ratio = -0.5 is not in \(0, 1\]"),
        ("min_k(ratio=inf)", r"min_k: ratio = inf is not in \(0, 1\]"),
        ("min_k_window(width=0, stride=-1)", r"width = 0 is not in \[1, inf\).*stride = -1 is not"),
        ('sequence_entropy(attribute="a; normalised=true)', "attribute"),
        ("min_k(", r"called 'min_k\('"),
        ("", "called ''"),
        ("'; drop view tokens", "no score of documents"),
        ("min_k(ratios=0.1)", r"no parameter 'ratios' \(did you mean ratio"),
        ("min_k(ratio=a lot)", "ratio = 'a lot' is no DOUBLE"),
        ("min_k(ratio=nan)", "ratio = 'nan' is no DOUBLE"),
        ("min_k(ratio=)", "ratio = '' is no DOUBLE"),
        ("min_k(parity=1)", "parity = '1' is no BOOLEAN"),
        ("gltr(top=1.5)", "top = '1.5' is no"),
        ("min_k(run_id=other)", "no parameter 'run_id'"),
        ("lowercase(lowercased=other)", "no parameter 'lowercased'"),
        ("min_k(small)", "min_k needs no other run"),
    ],
)
def test_what_cannot_be_read_is_said(asked: str, fault: str) -> None:
    with pytest.raises(ScoreError, match=fault):
        parse_wanted(asked, CARDS)


# Companions


def test_every_score_that_the_run_gives_and_nothing_else(lake: Lake) -> None:
    found = plan(lake)
    alone = {
        name for name, card in CARDS.items() if card.is_per_document and not card.companions and columns_are_core(card)
    }
    assert {request.variant for request in found.requests} == alone
    possible = {name for name, card in CARDS.items() if card.is_per_document}
    assert {missing.score for missing in found.missing} == possible - alone


def columns_are_core(card: Score) -> bool:
    optional = ("renyi", "topk", "logprob_max", "logprob_second", "rest_entropy", "logprob_uniform", "mass_above",
                "top1_id", "hidden", "in_comment")  # fmt: skip
    needed = [name for name in card.reads["tokens"] if not card.optional or TOKENS[name].group not in card.optional]
    return not any(name.startswith(optional) for name in needed)


def test_families_limit_what_is_planned(lake: Lake) -> None:
    found = plan(lake, families=["fit"])
    assert {request.card.family for request in found.requests} == {"fit"}
    both = plan(lake, "min_k(ratio=0.1)", families=["fit"])
    assert {r.variant for r in both.requests} == {"min_k(ratio=0.1)", *(r.variant for r in found.requests)}
    with pytest.raises(ScoreError, match=r"no family 'membersip' \(did you mean membership"):
        plan(lake, families=["membersip"])
    with pytest.raises(ScoreError, match="no family 'evaluation'"):
        plan(lake, families=["evaluation"])


def test_a_transformed_run_is_found(lake: Lake) -> None:
    ledgers.write(lake, "low", transform="lowercase", base_run=RUN)
    found = plan(lake, "lowercase")
    assert values(found, "lowercased") == {"lowercase": "low"}
    [request] = found.requests
    assert request.runs == ("low",)
    assert json.loads(request.parameters)["lowercased"] == "low"


@pytest.mark.parametrize(
    "changed",
    [
        {"base_run": "tuesday"},
        {"base_run": None},
        {"state": "running"},
        {"state": "interrupted"},
        {"model": "n" * 32},
        {"transform": "shuffle"},
        {"transform": None},
        {"transform": "loud:volume=11"},
        {"transform": "lowercase', 'x"},
    ],
)
def test_runs_that_are_no_companions(lake: Lake, changed: dict[str, Any]) -> None:
    ledgers.write(lake, "tuesday")
    ledgers.write(lake, "low", **{"transform": "lowercase", "base_run": RUN, **changed})
    with pytest.raises(ScoreError, match="lowercase: it needs a run of the same documents, transformed: lowercase"):
        plan(lake, "lowercase")


def test_copies_form_one_list_and_other_changes_other_variants(lake: Lake) -> None:
    for copy in (10, 2, 1):
        spec = "perturb:kind=substitute_words" + (f",copy={copy}" if copy > 1 else "")
        ledgers.write(lake, f"s-{copy}", transform=spec, base_run=RUN)
    ledgers.write(lake, "half", transform="perturb:kind=substitute_words,rate=0.5", base_run=RUN)
    ledgers.write(lake, "swap-2", transform="perturb:kind=swap_words,copy=2", base_run=RUN)
    ledgers.write(lake, "z-again", transform="perturb:kind=swap_words,copy=2", base_run=RUN)  # says what swap-2 says
    assert values(plan(lake, "neighbourhood"), "perturbed") == {
        "neighbourhood": ["s-1", "s-2", "s-10"],
        "neighbourhood(perturb:kind=substitute_words,rate=0.5)": ["half"],
        "neighbourhood(perturb:kind=swap_words)": ["swap-2"],
    }
    assert values(plan(lake, "pac"), "swapped") == {"pac": ["swap-2"]}


def test_a_variant_names_the_companion_it_wants(lake: Lake) -> None:
    ledgers.write(lake, "s", transform="perturb:kind=substitute_words", base_run=RUN)
    ledgers.write(lake, "w", transform="perturb:kind=swap_words", base_run=RUN)
    printed = "neighbourhood(perturb:kind=swap_words)"
    assert values(plan(lake, printed), "perturbed") == {printed: ["w"]}
    assert values(plan(lake, "neighbourhood(perturb:kind=swap_words,seed=0)"), "perturbed") == {printed: ["w"]}
    assert values(plan(lake, "neighbourhood(perturb:kind=substitute_words)"), "perturbed") == {"neighbourhood": ["s"]}
    assert set(values(plan(lake, "neighbourhood(parity=true)"), "perturbed")) == {
        "neighbourhood(parity=true)",
        "neighbourhood(perturb:kind=swap_words; parity=true)",
    }
    again = "neighbourhood(perturb:kind=swap_words; parity=true)"
    assert list(values(plan(lake, again), "perturbed")) == [again]
    with pytest.raises(ScoreError, match="there is none for perturb:kind=whitespace, only for perturb:kind=substitute"):
        plan(lake, "neighbourhood(perturb:kind=whitespace)")


def test_texts_changed_elsewhere_stand_in_where_they_are_named(lake: Lake) -> None:
    for copy in (1, 2):
        spec = "external:kind=mask_filling" + (f",copy={copy}" if copy > 1 else "")
        ledgers.write(lake, f"t5-{copy}", transform=spec, base_run=RUN)
    name = "neighbourhood(external:kind=mask_filling)"
    assert values(plan(lake, name), "perturbed") == {name: ["t5-1", "t5-2"]}
    assert "neighbourhood" in {missing.score for missing in plan(lake).missing}


def test_two_prefixes_differ_in_their_label_only(lake: Lake) -> None:
    for label in (0, 1):
        ledgers.write(lake, f"p{label}", transform=f"prefix:label={label}", base_run=RUN)
        ledgers.write(lake, f"p{label}-3", transform=f"prefix:label={label},shots=3", base_run=RUN)
    found = plan(lake, "con_recall")
    assert {r.variant: r.runs for r in found.requests} == {
        "con_recall": ("p0", "p1"),
        "con_recall(prefix:label=0,shots=3; prefix:label=1,shots=3)": ("p0-3", "p1-3"),
    }
    assert values(plan(lake, "recall"), "prefixed") == {"recall": "p0", "recall(prefix:label=0,shots=3)": "p0-3"}
    printed = "con_recall(prefix:label=0,shots=3; prefix:label=1,shots=3; gamma=0.5)"
    assert [r.variant for r in plan(lake, printed).requests] == [printed]


def test_prefixes_that_do_not_match_are_said(lake: Lake) -> None:
    ledgers.write(lake, "p0", transform="prefix:label=0", base_run=RUN)
    ledgers.write(lake, "p1", transform="prefix:label=1,shots=3", base_run=RUN)
    with pytest.raises(
        ScoreError, match=r"con_recall: its transformed runs differ in more .*prefix:label=1 --base-run"
    ):
        plan(lake, "con_recall")


def test_references_are_named_by_the_caller(lake: Lake) -> None:
    ledgers.write(lake, "small", model="s" * 32, tokenizer="u" * 32)
    ledgers.write(lake, "tiny", model="y" * 32)
    found = plan(lake, "reference", references=["small", "tiny", "small"])
    assert values(found, "reference") == {"reference(small)": "small", "reference(tiny)": "tiny"}
    assert list(values(plan(lake, "reference(tiny)", references=["small", "tiny"]), "reference")) == ["reference(tiny)"]
    with pytest.raises(ScoreError, match="reference: it needs a run of the same documents by another model"):
        plan(lake, "reference")


def test_references_that_cannot_be(lake: Lake) -> None:
    ledgers.write(lake, "small", state="running")
    with pytest.raises(
        ScoreError, match=r"'smal': there is no such run \(did you mean small.*'monday' is the run itself"
    ):
        plan(lake, references=["smal", RUN])
    with pytest.raises(ScoreError, match="'small' is running, not finished"):
        plan(lake, references=["small"])
    with pytest.raises(ScoreError, match="there is no such run"):
        plan(lake, references=["x' or '1'='1"])


def test_corpora_of_the_runs_tokenizer_are_found(lake: Lake) -> None:
    ledgers.write_corpus(lake, "wiki")
    ledgers.write_corpus(lake, "c4", tokenizer="o" * 32, others=[ledgers.TOKENIZER])
    ledgers.write_corpus(lake, "another", tokenizer="o" * 32)
    found = plan(lake, "dc_pdd(cap=1)")
    assert values(found, "corpus") == {"dc_pdd(c4; cap=1)": "c4", "dc_pdd(wiki; cap=1)": "wiki"}
    assert list(values(plan(lake, "dc_pdd(wiki)"), "corpus")) == ["dc_pdd(wiki)"]


def test_companions_can_be_bound_by_name(lake: Lake) -> None:
    """Whatever the runs are: by who knows better, and over tables that are no lake's."""
    ledgers.write(lake, "low", transform="lowercase", base_run=RUN)
    given = {"lowercase": {"lowercased": "low"}, "recall": {"prefixed": "hand made", "aligned": True}}
    found = plan(lake, "lowercase", "recall", parameters=given)
    assert [(r.variant, r.runs) for r in found.requests] == [
        ("lowercase", ("low",)),
        ("recall(hand made; aligned=true)", ("hand made",)),
    ]


# What is missing


def hint(lake: Lake, score: str, **more: Any) -> str:
    with pytest.raises(ScoreError) as caught:
        plan(lake, score, **more)
    return str(caught.value)


def test_hints_are_commands(lake: Lake) -> None:
    assert hint(lake, "lowercase") == (
        "lowercase: it needs a run of the same documents, transformed: lowercase. What makes it: "
        "assay score --transform lowercase --base-run monday --run-id monday-lowercase --lake 'my lake'"
    )
    assert hint(lake, "neighbourhood").endswith(
        "assay score --transform perturb:kind=substitute_words --copies 10 --base-run monday "
        "--run-id monday-perturb-substitute_words --lake 'my lake'"
    )
    assert hint(lake, "recall").endswith(
        "assay score --transform prefix:label=0 --base-run monday --run-id monday-prefix-0 --lake 'my lake'"
    )
    assert hint(lake, "reference").endswith("assay scores 'my lake' --run-id monday --reference RUN")
    assert hint(lake, "dc_pdd").endswith("assay frequencies 'my lake' --name NAME --input ... --model './my model'")
    assert hint(lake, "fisher_rao") == (
        "fisher_rao: the run was scored without renyi: score it again, under another --run-id or, to replace it, with "
        "--overwrite monday. What makes it: assay score ... --run-id NAME --features renyi"
    )
    assert hint(lake, "atc").endswith(
        "What makes it: assay score ... --run-id NAME --language NAME --prompt-column COLUMN"
    )


def test_hints_for_columns_keep_those_that_the_run_has(lake: Lake) -> None:
    ledgers.write(lake, RUN, features=["topk", "extremes"])
    assert hint(lake, "fisher_rao").endswith("assay score ... --run-id NAME --features extremes,renyi,topk")
    assert "dynamic_instability" in {request.variant for request in plan(lake).requests}


def test_a_hint_resumes_a_run_that_was_stopped(lake: Lake) -> None:
    ledgers.write(lake, "mine", transform="perturb:kind=swap_words,copy=2", base_run=RUN, state="interrupted")
    assert hint(lake, "pac") == (
        "pac: it needs runs of the same documents, transformed: perturb:kind=swap_words; run mine is interrupted. "
        "What makes it: assay score --transform perturb:kind=swap_words,copy=2 --base-run monday --run-id mine "
        "--lake 'my lake'"
    )


def test_every_fault_of_a_request_is_listed(lake: Lake) -> None:
    lines = hint(lake, "lowercase").splitlines()
    with pytest.raises(ScoreError) as caught:
        plan(lake, "lowercase", "fisher_rao", "loss", "lowercase")
    assert str(caught.value).splitlines() == [*lines, hint(lake, "fisher_rao")]
    with pytest.raises(ScoreError, match=r"'mink'.*'ratios'"):
        plan(lake, "mink", "min_k(ratios=1)")


def test_what_is_not_asked_for_by_name_is_reported(lake: Lake) -> None:
    missing = {each.score: each for each in plan(lake, families=["membership"]).missing}
    assert str(missing["lowercase"]) == hint(lake, "lowercase")
    assert {each.family for each in missing.values()} == {"membership"}


@pytest.mark.parametrize("run_id", ["a" * 128, "x.y_z-1"])
def test_suggested_names_are_run_ids(run_id: str) -> None:
    from schemas import check_run_id

    for spec in ("lowercase", "prefix:label=1,shots=3", "perturb:kind=swap_words,rate=0.25,seed=3"):
        assert check_run_id(transformed_run_id(run_id, spec)).startswith(run_id)


# Column groups that no ledger tells


@pytest.fixture
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    from schemas import TABLES

    with duckdb.connect() as connection:
        for table in TABLES:
            columns = ", ".join(f"{c.name} {c.sql_type}" for c in table.columns)
            connection.execute(f"create table {table.name} ({columns})")
        yield connection


def test_groups_are_looked_up_in_the_tokens_where_the_ledger_is_silent(tables: duckdb.DuckDBPyConnection) -> None:
    tables.execute("insert into tokens by name select 'a' as run_id, 1 as doc_id, -1 as logprob, 0.5 as renyi_half")
    tables.execute("insert into tokens by name select 'b' as run_id, 1 as doc_id, -1 as logprob, true as in_comment")
    tables.execute("insert into runs by name select 'b' as run_id, 'finished' as state, ['renyi'] as features")
    known = {run: {r.variant for r in plan_scores(tables, run).requests} for run in ("a", "b", "c")}
    assert "max_renyi_half" in known["a"]
    assert "atc" not in known["a"]
    assert {"max_renyi_half", "atc"} <= known["b"]
    assert not {"max_renyi_half", "atc"} & known["c"]
