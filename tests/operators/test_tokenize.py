"""The tokenize operator: options, loading, and the verdict on every document that cannot be tokenized."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import operators.tokenize
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.tokenize_batch import encode_each
from schemas.flow import READ, TOKENIZED
from schemas.rejects import Reason

BOS, EOS = 256, 257


def byte_tokenizer(*, bos: bool = False, eos: bool = False) -> Any:
    """One token a byte, in the order of GPT-2's alphabet; `<s>` is 256 and `</s>` 257."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    template = f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}"
    if bos or eos:
        tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    return tokenizer


def words(*known: str, unknown: str | None = None) -> Any:
    """One token a word. Without a token for unknown words it raises on them."""
    vocabulary = {word: index for index, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, **({"unk_token": unknown} if unknown else {})))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def read_table(texts: list[str | None], **columns: Any) -> pa.Table:
    rows = [{"source": "s", "row": row, "key": f"k{row}", "text": text} for row, text in enumerate(texts)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return pa.Table.from_pylist(rows, schema=READ)


def operator(tokenizer: Any, *, bos: Any = "auto", special_tokens: Any = "auto", **kwargs: Any) -> DocumentTokenizer:
    return DocumentTokenizer(tokenizer, TokenizeOptions(bos, special_tokens), **kwargs)


def fed(tokenizer: DocumentTokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer(read_table([text]))["token_id"][0].as_py()
    return ids


# -------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("bos", "template", "expected"),
    [
        ("auto", {}, [64]),
        ("auto", {"bos": True}, [BOS, 64]),
        ("auto", {"eos": True}, [64, EOS]),
        ("always", {}, [BOS, 64]),
        ("always", {"bos": True}, [BOS, 64]),
        ("always", {"eos": True}, [BOS, 64, EOS]),
        ("never", {"bos": True, "eos": True}, [64]),
    ],
)
def test_what_is_fed_around_a_text(bos: Any, template: dict[str, bool], expected: list[int]) -> None:
    tokenizer = operator(byte_tokenizer(**template), bos=bos, bos_id=BOS)
    assert (letter := byte_tokenizer().encode("a").ids) == [64]
    assert fed(tokenizer, "a") == expected
    assert tokenizer.bos_prepended == (expected[0] == BOS)
    assert [*tokenizer.prefix, *letter, *tokenizer.suffix] == expected


def test_spans_behind_a_bos_that_the_template_lacks() -> None:
    table = operator(byte_tokenizer(eos=True), bos="always", bos_id=BOS)(read_table(["é", "<s>"]))
    assert table["byte_start"].to_pylist() == [[0, 0, 1, 2], [0, 0, 3]]
    assert table["n_bytes"].to_pylist() == [[0, 1, 1, 0], [0, 3, 0]]


def test_always_without_a_bos_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"use bos='auto' or 'never', or set bos_token in tokenizer_config\.json"):
        operator(byte_tokenizer(), bos="always")


def test_special_tokens_spelt_in_a_text() -> None:
    assert fed(operator(byte_tokenizer()), "<s>") == [BOS]
    letters = [byte_tokenizer().token_to_id(letter) for letter in "<s>"]
    assert fed(operator(byte_tokenizer(), special_tokens="literal"), "<s>") == letters


@pytest.mark.parametrize("options", [{"bos": "yes"}, {"special_tokens": "none"}])
def test_unknown_options_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="expected one of auto"):
        TokenizeOptions(**options)


@pytest.mark.parametrize("bos", ["auto", "never"])
def test_a_template_that_repeats_the_text_is_refused(bos: Any) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("$A $A")
    with pytest.raises(ValueError, match="2 times"):
        operator(tokenizer, bos=bos)


def test_truncation_padding_and_dropout_are_off_and_the_original_is_untouched() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    tokenizer.model.dropout = 0.5
    before = tokenizer.to_str()
    assert len(fed(operator(tokenizer, special_tokens="literal"), "abcd")) == 4
    assert tokenizer.to_str() == before
    assert tokenizer.encode_special_tokens is False


# ---------------------------------------------------------------------------------------------------- fingerprint


def test_fingerprint_follows_definition_and_options() -> None:
    plain = operator(byte_tokenizer()).fingerprint
    truncated = byte_tokenizer()
    truncated.enable_truncation(2)
    assert operator(truncated, bos_id=BOS, vocab_size=300).fingerprint == plain
    others = {
        operator(byte_tokenizer(bos=True)).fingerprint,
        operator(byte_tokenizer(), bos="never").fingerprint,
        operator(byte_tokenizer(), special_tokens="literal").fingerprint,
        operator(byte_tokenizer(), bos="always", bos_id=BOS).fingerprint,
        operator(byte_tokenizer(), bos="always", bos_id=EOS).fingerprint,
    }
    assert len(others | {plain}) == 6
    assert all(len(bytes.fromhex(fingerprint)) == 16 for fingerprint in others)


def test_pickled_for_a_worker_it_does_the_same() -> None:
    here = operator(byte_tokenizer(), bos="always", special_tokens="literal", bos_id=BOS, vocab_size=300)
    there = pickle.loads(pickle.dumps(here))
    assert there.fingerprint == here.fingerprint
    assert (there.options, there.vocab_size, there.prefix) == (here.options, 300, (BOS,))
    assert there(read_table(["a<s>b"])).equals(here(read_table(["a<s>b"])))


# -------------------------------------------------------------------------------------------------------- rejects


def verdicts(table: pa.Table) -> list[str | None]:
    """The reasons, once it is sure that rejects carry no text and no lists, and documents both."""
    assert table.schema.equals(TOKENIZED)
    for row in table.to_pylist():
        lists = [row["token_id"], row["byte_start"], row["n_bytes"]]
        if row["reason"] is None:
            assert row["text"] is not None
            assert len({len(values) for values in lists}) == 1
        else:
            assert row["text"] is None
            assert lists == [None, None, None]
    reasons: list[str | None] = table["reason"].to_pylist()
    return reasons


def test_a_failing_document_is_isolated() -> None:
    table = operator(words("a", "b"))(read_table(["a", "b z", "b a", "z"]))
    assert verdicts(table) == [None, Reason.TOKENIZER_FAILED, None, Reason.TOKENIZER_FAILED]
    assert table["token_id"].to_pylist() == [[0], None, [1, 0], None]
    assert table["key"].to_pylist() == ["k0", "k1", "k2", "k3"]
    assert "UNK" in table["detail"][1].as_py()


def test_a_document_of_no_tokens() -> None:
    assert verdicts(operator(words("a"))(read_table([" \n", "a", ""]))) == [Reason.NO_TOKENS, None, Reason.NO_TOKENS]
    around = operator(byte_tokenizer(bos=True, eos=True))(read_table(["", "a"]))
    assert verdicts(around) == [Reason.NO_TOKENS, None]
    assert around["detail"][0].as_py() == "the text has no token of its own; 2 would be fed around it"


def test_a_span_must_fit_an_int16() -> None:
    tokenizer = operator(words("a", "?", unknown="?"))
    table = tokenizer(read_table(["a " + "x" * 32766, "a " + "x" * 32767, "a " + "é" * 16384 + " a"]))
    assert verdicts(table) == [None, Reason.TOKEN_SPAN_TOO_LONG, Reason.TOKEN_SPAN_TOO_LONG]
    assert table["n_bytes"][0].as_py() == [1, 32767]
    assert table["detail"].to_pylist()[1:] == [
        "token 1 covers 32768 bytes, more than 32767",
        "token 1 covers 32769 bytes, more than 32767",
    ]


def test_ids_must_be_in_the_vocabulary_of_the_model() -> None:
    table = operator(words("a", "b", "c"), vocab_size=2)(read_table(["a b", "a c b c", "b"]))
    assert verdicts(table) == [None, Reason.TOKEN_OUTSIDE_VOCABULARY, None]
    assert table["token_id"].to_pylist() == [[0, 1], None, [1]]
    assert table["detail"][1].as_py() == "token 1 has id 2, the model's vocabulary is 2"


def test_template_ids_outside_the_vocabulary_stop_the_run() -> None:
    with pytest.raises(ValueError, match=r"feeds ids \[256\] around every text"):
        operator(byte_tokenizer(bos=True), vocab_size=256)
    operator(byte_tokenizer(bos=True), bos="never", vocab_size=256)


def test_a_document_too_large_for_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators.tokenize, "MAX_DOCUMENT_BYTES", 3)
    table = operator(byte_tokenizer())(read_table(["abc", "éé", "a"]))
    assert verdicts(table) == [None, Reason.DOCUMENT_TOO_LARGE, None]
    assert table["detail"][1].as_py() == "4 bytes, more than 3"


def test_earlier_rejects_pass_and_a_missing_text_becomes_one() -> None:
    reasons = [None, Reason.BROKEN_JSON, None]
    table = operator(byte_tokenizer())(read_table(["a", None, None], reason=reasons, detail=[None, "line 2", None]))
    assert verdicts(table) == [None, Reason.BROKEN_JSON, Reason.NULL_TEXT]
    assert table["detail"].to_pylist()[1] == "line 2"


def test_a_second_encoding_that_differs_is_no_document(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.normalizer = normalizers.Lowercase()
    changed = operator(tokenizer)
    batch = changed._encode
    monkeypatch.setattr(batch, "_encode_with_offsets", lambda texts: batch._encode(["other"] * len(texts)))
    assert verdicts(changed(read_table(["A", "a"]))) == [Reason.TOKENIZER_FAILED, None]


class PanicException(BaseException):
    """Named and derived as what PyO3 raises for a panic in Rust."""


def failing_on(bad: str, error: BaseException) -> Callable[[list[str]], list[Any]]:
    def encode(texts: list[str]) -> list[Any]:
        if bad in texts:
            raise error
        return [ord(text) for text in texts]

    return encode


@pytest.mark.parametrize("error", [PanicException("index out of bounds"), ValueError("bad"), RuntimeError()])
def test_encode_each_survives_errors_and_panics(error: BaseException) -> None:
    assert encode_each(failing_on("b", error), ["a", "b", "c"]) == [97, str(error) or "RuntimeError", 99]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_encode_each_lets_through_what_no_document_is_to_blame_for(error: type[BaseException]) -> None:
    with pytest.raises(error):
        encode_each(failing_on("b", error()), ["a", "b"])


# ----------------------------------------------------------------------------------------------------- table shapes


def test_an_empty_table() -> None:
    assert operator(byte_tokenizer())(READ.empty_table()).equals(TOKENIZED.empty_table())


def test_chunks_slices_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["abc", "<s>é", None, "", "😀" * 9, "z", "the end"] * 3
    reasons = [Reason.NULL_TEXT if text is None else None for text in texts]
    table = read_table(texts, reason=reasons)
    tokenizer = operator(byte_tokenizer(bos=True))
    expected = tokenizer(table)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 9), table.slice(10)])
    assert tokenizer(chunked).equals(expected)
    assert tokenizer(table.slice(5, 7)).equals(expected.slice(5, 7))
    monkeypatch.setattr(operators.tokenize, "_BATCH_BYTES", 5)
    assert tokenizer(table).equals(expected)


def test_imports_stay_light() -> None:
    code = (
        "import sys, operators.tokenize; print(sorted({'ray', 'polars', 'duckdb', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# -------------------------------------------------------------------------------------------------------- loading


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def settings(folder: Path, name: str = "tokenizer_config.json", **values: Any) -> None:
    (folder / name).write_text(json.dumps(values), encoding="utf-8")


def test_a_folder_and_its_file_are_the_same(folder: Path) -> None:
    from_folder, from_file = DocumentTokenizer.load(folder), DocumentTokenizer.load(str(folder / "tokenizer.json"))
    assert from_folder.fingerprint == from_file.fingerprint
    assert fed(from_folder, "a") == [64]


@pytest.mark.parametrize(
    ("name", "bos_token"),
    [
        ("tokenizer_config.json", "<s>"),
        ("tokenizer_config.json", {"content": "<s>", "lstrip": False}),
        ("special_tokens_map.json", "<s>"),
    ],
)
def test_bos_is_found_beside_the_definition(folder: Path, name: str, bos_token: Any) -> None:
    settings(folder, name, bos_token=bos_token)
    for path in (folder, folder / "tokenizer.json"):
        assert DocumentTokenizer.load(path, TokenizeOptions("always")).prefix == (BOS,)


def test_a_bos_that_is_not_in_the_vocabulary_is_none(folder: Path) -> None:
    settings(folder, bos_token="<bos>")
    with pytest.raises(ValueError, match="no BOS token that it has"):
        DocumentTokenizer.load(folder, TokenizeOptions("always"))


def test_a_lone_file_has_no_settings(folder: Path) -> None:
    settings(folder, bos_token="<s>")
    lone = (folder / "tokenizer.json").rename(folder / "gpt.json")
    with pytest.raises(ValueError, match="no BOS token"):
        DocumentTokenizer.load(lone, TokenizeOptions("always"))


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a model folder or a tokenizer\.json file"):
        DocumentTokenizer.load(tmp_path / "absent")


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_broken_definition_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="not a definition that tokenizers can read"):
        DocumentTokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_settings_are_said(folder: Path, content: str) -> None:
    (folder / "tokenizer_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: .*JSON"):
        DocumentTokenizer.load(folder)


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer\.json, and transformers cannot build a tokenizer"):
        DocumentTokenizer.load(tmp_path)


def test_a_folder_without_a_definition_goes_through_transformers(tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate([*alphabet, "<|endoftext|>", "th"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\n", encoding="utf-8")
    settings(tmp_path, tokenizer_class="GPT2Tokenizer", model_max_length=4)
    settings(tmp_path, "config.json", model_type="gpt2")
    tokenizer = DocumentTokenizer.load(tmp_path)
    table = tokenizer(read_table(["the <|endoftext|>"]))
    assert table["token_id"][0].as_py() == [257, vocabulary["e"], vocabulary["Ġ"], 256]
    assert table["n_bytes"][0].as_py() == [2, 1, 1, 13]
    # Its class knows the BOS that none of the files names.
    assert DocumentTokenizer.load(tmp_path, TokenizeOptions("always")).prefix == (256,)
