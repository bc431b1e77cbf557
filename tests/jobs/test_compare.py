"""`assay compare` as a user types it: what it finds, keeps and draws, hostile names, what is missing, mistakes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import runs
import small
import written
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.compare.request import MOST_CORPORA
from operators.catalog import connect
from operators.comparison import reading
from operators.evaluation.multiplicity import holm_adjusted
from operators.lake import Lake
from operators.verify import verify
from schemas.comparisons import COMPARISONS

RUN = "r"
HOSTILE = "z[red]\n'; drop table x --$x^2$"
BY_DOMAIN = ("--run-id", RUN, "--by", "domain")
QUICK = ("--permutations", "99")


def assay(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def read(lake: Lake, *arguments: object, name: str = "n") -> dict[str, Any]:
    result = assay("compare", lake.root, "--name", name, *QUICK, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def row(found: dict[str, Any], statistic: str, unit: str, n: int = 0, **more: str) -> dict[str, Any]:
    keys = {"statistic": statistic, "unit": unit, "n": n} | more
    (only,) = [each for each in found["comparisons"] if all(each[name] == value for name, value in keys.items())]
    return dict(only)


def refused(*arguments: object, code: int = 2) -> str:
    result = assay("compare", *arguments)
    assert result.exit_code == code, result.output
    return unfolded(result.output)


def documents() -> list[written.Text]:
    rng = np.random.default_rng(0)
    return [
        *written.made(rng, 40, "x", domain="x"),
        *written.made(rng, 30, "y", domain="y", shift=2.0),
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Of two domains that differ; runs of it are made by no test, results are."""
    lake = Lake(str(tmp_path_factory.mktemp("compare") / "my lake"))
    written.write_run(lake, RUN, documents(), features=("hidden",))
    return lake


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the catalog, which takes longer to make than a comparison of this size."""
    monkeypatch.setattr("operators.catalog.write_catalog", lambda *_: "")


@pytest.fixture(scope="module")
def whole(shared: Lake) -> dict[str, Any]:
    more = ("--statistic", "kl", "--statistic", "jaccard", "--unit", "words", "--unit", "tokens")
    return read(shared, *BY_DOMAIN, *more, name="whole")


def test_words_are_counted_as_by_hand(whole: dict[str, Any]) -> None:
    counts = {domain: Counter(w for d in documents() if d.domain == domain for w in d.words) for domain in "xy"}
    known = sorted(counts["x"] | counts["y"])
    p, q = (np.array([counts[domain][word] for word in known]) / counts[domain].total() for domain in "xy")
    m = (p + q) / 2
    js = sum(float((s[s > 0] * np.log2(s[s > 0] / m[s > 0])).sum()) / 2 for s in (p, q))
    found = row(whole, "js", "words", 1)
    assert found["value"] == pytest.approx(js, rel=1e-9)
    assert row(whole, "js_distance", "words", 1)["value"] == pytest.approx(js**0.5, rel=1e-9)
    assert row(whole, "jaccard", "words", 1)["value"] == ((p > 0) & (q > 0)).sum() / len(known)
    assert (found["n_a"], found["n_b"], found["n_permutations"], found["test"]) == (40, 30, 99, "permutation")
    assert found["p_value"] == 0.01
    assert found["value_low"] < js < found["value_high"]
    assert 0 < found["null_mean"] < js


def test_a_token_a_word_gives_the_same_divergences_by_ids(whole: dict[str, Any]) -> None:
    for n in (1, 2):
        for statistic in ("js", "jaccard"):
            words, tokens = (row(whole, statistic, unit, n)["value"] for unit in ("words", "tokens"))
            assert tokens == pytest.approx(words, rel=1e-12)


def test_kl_has_both_directions_and_holm_is_over_all_permutation_tests(whole: dict[str, Any]) -> None:
    assert row(whole, "kl", "words", 1, a="x")["value"] != row(whole, "kl", "words", 1, a="y")["value"]
    tests = [each for each in whole["comparisons"] if each["test"] == "permutation"]
    adjusted = holm_adjusted([each["p_value"] for each in tests])
    assert [each["p_adjusted"] for each in tests] == pytest.approx(adjusted.tolist())
    others = [each for each in whole["comparisons"] if each["test"] != "permutation"]
    assert {each["statistic"] for each in others} == {"js_distance", "depth_rank_sum"}
    assert {each["p_adjusted"] for each in others} == {None}


def test_depth_is_of_mean_states(whole: dict[str, Any]) -> None:
    def directions(domain: str) -> Any:
        means = [
            np.asarray(d.states, np.float16)[1:].astype(float).mean(axis=0) for d in documents() if d.domain == domain
        ]  # fmt: skip
        return np.array([mean / np.linalg.norm(mean) for mean in means])

    f, g = directions("x"), directions("y")
    within = f @ f.T
    of_f = 1 + (within.sum(axis=1) - 1) / (len(f) - 1)
    of_g = 1 + (g @ f.T).mean(axis=1)
    pooled = np.concatenate([of_f, of_g])
    expected = np.mean([(pooled < depth).mean() for depth in of_g])
    found = row(whole, "depth", "states", a="x")
    assert found["value"] == pytest.approx(expected, abs=1e-9)
    assert found["p_value"] == 0.02
    assert row(whole, "depth_rank_sum", "states", a="x")["value"] < -3
    assert row(whole, "depth", "states", a="y")["b"] == "x"
    assert any("further out" in note for note in whole["notes"])


def test_profiles_are_of_documents(whole: dict[str, Any]) -> None:
    sizes = [len(d.text) for d in documents() if d.domain == "x"]
    points = {
        (p["quantity"], p["quantile"]): p for p in whole["profiles"] if p["corpus"] == "x"
    }  # fmt: skip
    assert points["bytes", 0.5]["value"] == np.quantile(sizes, 0.5, method="inverted_cdf")
    assert points["bytes", -1]["value"] == pytest.approx(np.mean(sizes))
    assert points["bytes", -1]["value_low"] < np.mean(sizes) < points["bytes", -1]["value_high"]
    assert points["bytes", 1]["value_high"] is None
    assert points["words", -1]["value"] == pytest.approx(
        np.mean([len(d.words) for d in documents() if d.domain == "x"])
    )
    assert {name for name, _ in points} == {"bytes", "words", "tokens", "bytes_per_token", "compression_ratio"}
    assert any("64 KiB" in note for note in whole["notes"])


def test_both_tables_are_kept_and_sound(shared: Lake, whole: dict[str, Any]) -> None:
    assert verify(shared) == []
    with connect(shared.root, macros=False) as connection:
        ((rows,),) = connection.execute("select count(*) from comparisons where comparison = 'whole'").fetchall()
        ((value,),) = connection.execute(
            "select value from comparisons where comparison = 'whole' and statistic = 'js' and unit = 'words' and n = 1"
        ).fetchall()
        ((profiles,),) = connection.execute("select count(*) from corpus_profiles").fetchall()
    assert rows == len(whole["comparisons"])
    assert value == row(whole, "js", "words", 1)["value"]
    assert profiles >= len(whole["profiles"])


@pytest.mark.usefixtures("quick")
def test_the_same_command_gives_the_same_numbers_and_another_name_of_a_corpus_too(
    shared: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(shared, *BY_DOMAIN, "--no-depth", name="one")
    monkeypatch.setattr(reading, "PER_PASS", 7)
    monkeypatch.setattr(reading, "BATCH_TEXTS", 3)
    again = read(shared, *BY_DOMAIN, "--no-depth", name="two")
    assert again["comparisons"] == first["comparisons"]
    assert again["profiles"] == first["profiles"]
    named = read(
        shared, "--corpus", f"x={RUN}:domain = 'x'", "--corpus", f"y={RUN}:domain = 'y'", "--no-depth", name="three"
    )
    assert named["comparisons"] == first["comparisons"]


@pytest.mark.usefixtures("quick")
def test_small_passes_read_the_same_tokens_and_states(
    shared: Lake, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PER_PASS", 9)
    monkeypatch.setattr(reading, "BATCH_TOKENS", 32)
    found = read(shared, *BY_DOMAIN, "--unit", "tokens", name="small")
    for each in (("js", "tokens", 1), ("js", "tokens", 2)):
        assert row(found, *each) == row(whole, *each) | {"p_adjusted": row(found, *each)["p_adjusted"]}
    assert row(found, "depth", "states", a="x")["value"] == row(whole, "depth", "states", a="x")["value"]


@pytest.mark.usefixtures("quick")
def test_a_draw_is_stated_and_by_seed(shared: Lake) -> None:
    drawn = [read(shared, *BY_DOMAIN, "--max-documents", 12, "--seed", seed, "--overwrite", "n") for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert row(drawn[0], "js", "words", 1)["value"] != row(drawn[2], "js", "words", 1)["value"]
    assert drawn[0]["facts"]["corpora"][0] == {"name": "x", "run_id": RUN, "documents": 12, "of": 40, "without_text": 0}
    assert sum("drawn by seed 1" in note for note in drawn[0]["notes"]) == 2


@pytest.mark.usefixtures("quick")
def test_hostile_names_copies_and_few_relabelings(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    rng = np.random.default_rng(3)
    first = written.made(rng, 12, "x", domain="x")
    copies = [written.Text(f"c{i}", each.text, HOSTILE) for i, each in enumerate(first[:4] + first[:2])]
    third = written.made(rng, 9, "q", domain="$q$")
    nowhere = written.made(rng, 2, "n")
    for i in range(MOST_CORPORA):
        nowhere += written.made(rng, 1, f"single{i}", domain=f"single {i}")
    written.write_run(lake, RUN, [*first, *copies, *third, *nowhere])
    figure = tmp_path / "matrix.svg"
    result = assay("compare", lake.root, "--name", "n", *BY_DOMAIN, *QUICK, "--figure", figure)
    assert result.exit_code == 0, result.output
    text = unfolded(result.output)
    assert "z[red]\\n" in text
    assert "[red]\n" not in result.output
    assert "2 documents without a domain are in no corpus" in text
    assert f"{MOST_CORPORA} values of domain have one document each" in text
    assert "4 texts are in" in text
    assert "2 of 6 documents repeat the text of another one" in text
    assert "no adjusted p-value can fall below" in text
    assert "kept no hidden states" in text
    assert "assay score --lake" in text
    assert "--features hidden" in text
    assert "(null)" in text
    drawn = figure.read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert "Jensen-Shannon" in drawn
    assert verify(lake) == []


@pytest.mark.usefixtures("quick")
def test_two_corpora_are_drawn_as_bars_and_csv_has_all_rows(shared: Lake, tmp_path: Path) -> None:
    figure, output = tmp_path / "bars.png", tmp_path / "rows.csv"
    result = assay(
        "compare", shared.root, "--name", "csv", *BY_DOMAIN, *QUICK, "--figure", figure, "--output", output,
        "--statistic", "tv", "--statistic", "hellinger", "--ngram", 3,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert figure.read_bytes().startswith(b"\x89PNG")
    header, *lines = output.read_text(encoding="utf-8").splitlines()
    assert header.replace('"', "").split(",") == COMPARISONS.arrow().names
    assert {line.split(",")[0] for line in lines} == {'"x"', '"y"'}
    assert len(lines) == 4 + 4 + 5


@pytest.mark.usefixtures("quick")
def test_long_tables_show_what_is_looked_for_first(shared: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.compare.report.MOST_ROWS", 3)
    result = assay("compare", shared.root, "--name", "long", *BY_DOMAIN, *QUICK)
    assert "3 of 13 rows" in result.output
    shown = [line.split()[2] for line in result.output.splitlines() if line.startswith("x  y  ")]
    assert shown[:2] == ["js", "js"]


@pytest.mark.usefixtures("quick")
def test_progress_goes_to_standard_error(shared: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.compare.run.LINE_EVERY", -1.0)
    result = assay("compare", shared.root, "--name", "lines", *BY_DOMAIN, *QUICK, "--no-depth")
    assert result.stderr.splitlines() == ["comparing: 0 of 1 pairs"]


@pytest.mark.usefixtures("quick")
def test_texts_that_were_dropped_leave_token_ids(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    written.write_run(lake, RUN, documents(), keep_text=False)
    message = refused(lake.root, "--name", "n", *BY_DOMAIN)
    assert "--unit tokens" in message
    found = read(lake, *BY_DOMAIN, "--unit", "tokens")
    assert row(found, "js", "tokens", 1)["p_value"] == 0.01
    assert sum("have no text" in note for note in found["notes"]) == 2


@pytest.mark.usefixtures("quick")
def test_other_tokenizers_and_models_are_not_compared_by_ids_or_states(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    rng = np.random.default_rng(0)
    written.write_run(lake, "one", written.made(rng, 9, "x"), features=("hidden",))
    config = {"features": ["hidden"], "context": 64, "bos": "always", "prompt_column": "question"}
    written.write_run(
        lake, "two", written.made(rng, 8, "y"), features=("hidden",), model="model-b", tokenizer="tokenizer-b",
        config=config,
    )  # fmt: skip
    two = ("--corpus", "a=one", "--corpus", "b=two")
    assert "more than one tokenizer" in refused(lake.root, "--name", "n", *two, "--unit", "tokens")
    assert "more than one model" in refused(lake.root, "--name", "n", *two, "--depth")
    found = read(lake, *two)
    assert "more than one model" in found["facts"]["no_depth"]
    assert any("runs one, two differ in context, bos: " in note for note in found["notes"])
    assert any("run two has prompts, which are part of its texts" in note for note in found["notes"])
    units = {each["unit"] for each in found["comparisons"]}
    assert not units & {"states", "tokens", "bytes_per_token"}
    assert {p["quantity"] for p in found["profiles"]} >= {"tokens", "bytes_per_token"}


@pytest.mark.usefixtures("quick")
def test_the_same_documents_in_both_corpora_are_said(shared: Lake) -> None:
    found = read(shared, "--corpus", f"all={RUN}", "--corpus", f"x={RUN}:domain = 'x'", name="same")
    assert any("40 documents are in all and in x" in note for note in found["notes"])


@pytest.mark.usefixtures("quick")
def test_pieces_of_long_texts_are_compared(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    rng = np.random.default_rng(0)

    def text(words: int) -> str:
        """Of 50 KB, in few and long words, so that there are few tokens to write."""
        return " ".join(f"{(int(w) + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC8:x}" for w in rng.integers(0, words, 1500))

    made = [written.Text(f"{d}{i}", text(50 if d == "x" else 5000), d) for d in "xy" for i in range(8)]
    written.write_run(lake, RUN, made)
    found = read(lake, *BY_DOMAIN, "--ngram", 1)
    each = row(found, "ks", "piece_compression_ratio")
    assert each["value"] == 1.0
    assert (each["n_a"], each["n_b"]) == (4, 4)
    assert "pieces" in each["note"]
    means = {p["corpus"]: p["value"] for p in found["profiles"]
             if p["quantity"] == "piece_compression_ratio" and p["quantile"] == -1}  # fmt: skip
    assert means["x"] > means["y"] > 1


@pytest.mark.usefixtures("quick")
def test_a_name_that_is_taken(shared: Lake) -> None:
    read(shared, *BY_DOMAIN, "--no-depth", "--ngram", 1, name="taken")
    message = refused(shared.root, "--name", "taken", *BY_DOMAIN)
    assert "--overwrite taken" in message
    read(shared, *BY_DOMAIN, "--no-depth", "--ngram", 1, "--overwrite", "taken", name="taken")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give --corpus NAME=RUN[:CONDITION] twice or more, or --run-id RUN --by COLUMN"),
        (("--run-id", RUN), "--run-id RUN --by COLUMN"),
        (("--corpus", "a=r"), "give two or more"),
        (("--corpus", "a=r", "--corpus", "a=r"), "two of them are called 'a'"),
        (("--corpus", "a=r", "--corpus", "b=r", "--by", "domain"), "give one"),
        (("--corpus", "a", "--corpus", "b=r"), "expected NAME=RUN or NAME=RUN:CONDITION"),
        (("--corpus", "a=r:", "--corpus", "b=r"), "expected NAME=RUN or NAME=RUN:CONDITION"),
        (("--corpus", "a\n=r", "--corpus", "b=r"), "all printable"),
        (("--corpus", "a=../x", "--corpus", "b=r"), "--corpus 'a'"),
        (("--corpus", "a=r", "--corpus", "b=other"), "no run 'other'"),
        (("--corpus", "a=r", "--corpus", "b=r:n_bytes"), "no condition"),
        (("--corpus", "a=r", "--corpus", "b=r:nothing = 1"), "--corpus b"),
        (("--corpus", "a=r", "--corpus", "b=r:domain = 'none'"), "'b' has 0"),
        (("--corpus", "a=r", "--corpus", "b=r:(select count(*) from read_text('/etc/passwd')) > 0"), "Permission"),
        (("--run-id", RUN, "--by", "domian"), "did you mean domain?"),
        (("--run-id", RUN, "--by", "source"), "1 of its values"),
        ((*BY_DOMAIN, "--group", "x", "--group", "w"), "has domain 'w'"),
        ((*BY_DOMAIN, "--group", "x"), "1 of its values"),
        ((*BY_DOMAIN, "--statistic", "helinger"), "did you mean hellinger?"),
        ((*BY_DOMAIN, "--ngram", "6"), "expected 1 to 5"),
        ((*BY_DOMAIN, "--confidence", "1"), "--confidence"),
        ((*BY_DOMAIN, "--figure", "f.pdf"), ".svg or .png"),
        ((*BY_DOMAIN, "--name", "../n"), "--name"),
    ],
)
def test_mistakes_are_said_in_one_message(shared: Lake, flags: tuple[str, ...], message: str) -> None:
    assert message in refused(shared.root, "--name", "mistake", *flags)


@pytest.mark.usefixtures("quick")
def test_columns_that_were_kept_are_corpora_too(shared: Lake) -> None:
    found = read(shared, "--run-id", RUN, "--by", "half", "--no-depth", "--ngram", 1, name="halves")
    assert {each["name"]: each["documents"] for each in found["facts"]["corpora"]} == {"a": 35, "b": 35}
    assert row(found, "js", "words", 1)["p_value"] > 0.05


def test_depth_can_be_demanded_and_more_ngrams_than_can_be_held_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    config = {"model": "m", "input": ["in.jsonl"], "domain_column": "topic", "keep_columns": ["half"]}
    written.write_run(lake, RUN, documents(), config=config)
    message = refused(lake.root, "--name", "n", *BY_DOMAIN, "--depth")
    assert "kept no hidden states" in message
    assert "--features hidden --domain-column topic --keep-columns half" in message  # what --by needs of the new run
    monkeypatch.setattr("operators.comparison.grams.MOST_CELLS", 10)
    assert "--max-documents" in refused(lake.root, "--name", "n", *BY_DOMAIN)
    assert lake.storage.list("comparisons") == []


@pytest.mark.usefixtures("quick")
def test_what_is_not_defined_or_cannot_be_known_is_said(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    made = [
        written.Text(f"{text}{i}", text, text or "none") for text in ("", "one", "two") for i in range(2 + len(text))
    ]
    written.write_run(lake, RUN, made)
    found = read(lake, *BY_DOMAIN, "--ngram", 1)
    notes = "\n".join(found["notes"])
    assert "4 of 21 values: not defined: a corpus has none of these n-grams" in notes
    assert "2 of 21 values: no interval: leaving out documents does not move it" in notes
    assert [row(found, "js", "words", 1, a=a, b=b)["value"] for a, b in (("none", "one"), ("one", "two"))] == [None, 1]
    apart = row(found, "js", "words", 1, a="one", b="two")
    assert (apart["value_low"], apart["value_high"], apart["confidence"]) == (None, None, None)
    few = read(lake, "--corpus", f"a={RUN}:domain = 'none'", "--corpus", f"b={RUN}:text = 'one' and doc_id in "
               f"(select doc_id from documents where text = 'one' order by doc_id limit 2)", name="few")  # fmt: skip
    assert any("can hardly give a p below 0.33" in note for note in few["notes"])


@pytest.mark.usefixtures("quick")
def test_states_of_unequal_width_are_refused(tmp_path: Path) -> None:
    """Also where their mean width is that of the first."""
    lake = Lake(str(tmp_path / "lake"))
    widths = (4, 3, 5)
    made = [written.Text(f"{i}", f"text{i % 2}", "xy"[i % 2], states=np.ones((2, widths[i // 2]))) for i in range(6)]
    written.write_run(lake, RUN, made, features=("hidden",))
    message = refused(lake.root, "--name", "n", *BY_DOMAIN)
    assert "hidden states are not all of" in message
    assert "--no-depth" in message


@pytest.mark.usefixtures("quick", "no_catalog")
def test_a_run_of_a_model_that_kept_its_states(model_folder: Path, tmp_path: Path) -> None:
    corpus, lake = tmp_path / "in.jsonl", Lake(str(tmp_path / "lake"))
    small.write_corpus(corpus, 24)
    runs.run(model_folder, corpus, lake.root, RUN, features=["hidden"], **runs.WITH_COLUMNS)
    found = read(lake, *BY_DOMAIN, "--depth", "--unit", "words", "--unit", "tokens")
    means: dict[str, list[Any]] = {"even": [], "odd": []}
    tokens = runs.rows(lake.root, "tokens", RUN)
    for document in runs.rows(lake.root, "documents", RUN).to_pylist():
        states = tokens.filter(pc.equal(tokens["doc_id"], document["doc_id"]))["hidden"].to_pylist()
        mean = np.array(states, np.float64).mean(axis=0)
        means[document["domain"]].append(mean / np.linalg.norm(mean))
    f, g = (np.array(means[name]) for name in ("even", "odd"))
    of_f, of_g = 1 + ((f @ f.T).sum(axis=1) - 1) / (len(f) - 1), 1 + (g @ f.T).mean(axis=1)
    expected = np.mean([(np.concatenate([of_f, of_g]) < depth).mean() for depth in of_g])
    depth = row(found, "depth", "states", a="even")
    assert (depth["n_a"], depth["n_b"]) == (len(f), len(g))
    assert depth["value"] == pytest.approx(expected, abs=0.02)  # states of float32 directions may swap neighbours
    assert row(found, "js", "tokens", 2)["value"] > 0
    assert found["facts"]["no_depth"] is None
