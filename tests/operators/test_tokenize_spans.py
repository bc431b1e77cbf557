"""Byte spans against hand-worked examples and, on random text, against what each token's own bytes say.

Tokenizers are trained here, small, one of each family that `operators.byte_spans` tells apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import real_tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import operators.tokenize_batch
from operators.byte_spans import offset_lengths
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from schemas.flow import READ, TOKENIZED
from schemas.rejects import Reason

CORPUS = [
    "The cat sat on the mat, and the dog sat by the door.",
    "It's a café in Zürich: naïve crème brûlée for 12.50 €.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n",
    "Привет, мир! Как дела?  Два  пробела.",
    "the the the  cat cat   sat sat    on on",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>", "<|endoftext|>"]
MASK = AddedToken("<mask>", lstrip=True, rstrip=False, special=True, normalized=False)
PAD = AddedToken("<pad>", lstrip=False, rstrip=True, special=True, normalized=False)
FAMILY = "👩\u200d👩\u200d👧"  # one grapheme, five code points, 18 bytes


# ---------------------------------------------------------------------------------------------------- tokenizers


def trained(tokenizer: Any, trainer: Any) -> Any:
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([MASK, PAD])
    return tokenizer


def byte_level(*, normalizer: Any = None, prefix_space: bool = False, around: Any = None) -> Any:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = around or processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    return trained(tokenizer, trainer)


def sentencepiece(*, normalizer: Any = None, pre_tokenizer: Any = None, around: Any = None) -> Any:
    """BPE with byte fallback. Byte tokens go into the model's vocabulary, not among the added tokens, as in Llama."""
    draft = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer is not None:
        draft.normalizer = normalizer
    if pre_tokenizer is not None:
        draft.pre_tokenizer = pre_tokenizer
    draft.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=250, special_tokens=SPECIAL, show_progress=False))
    definition = json.loads(draft.to_str())
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece in definition["model"]["vocab"] if piece not in SPECIAL]
    definition["model"]["vocab"] = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    if around is not None:
        tokenizer.post_processor = around
    tokenizer.add_special_tokens([MASK, PAD])
    return tokenizer


def prepend_replace() -> Any:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def bos_eos() -> Any:
    return processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])


def word_piece() -> Any:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", *SPECIAL]
    trained(tokenizer, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def unigram() -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    return trained(tokenizer, trainer)


KINDS: dict[str, Callable[[], Any]] = {
    "byte_level": byte_level,
    "byte_level_prefix_space": lambda: byte_level(prefix_space=True),
    "byte_level_template": lambda: byte_level(around=bos_eos()),
    "byte_level_nfc": lambda: byte_level(normalizer=normalizers.NFC()),
    "metaspace_always": lambda: sentencepiece(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always")),
    "metaspace_first": lambda: sentencepiece(
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"), around=bos_eos()
    ),
    "prepend_replace": lambda: sentencepiece(normalizer=prepend_replace()),
    "word_piece": word_piece,
    "unigram": unigram,
}
SPELLING = [kind for kind in KINDS if kind not in ("byte_level_nfc", "word_piece", "unigram")]


@cache
def plain(kind: str) -> Any:
    return KINDS[kind]()


@cache
def operator(kind: str, special_tokens: Any = "auto", bos: Any = "auto") -> DocumentTokenizer:
    return DocumentTokenizer(plain(kind), TokenizeOptions(bos, special_tokens), bos_id=1)


# -------------------------------------------------------------------------------------------------------- helpers


def read_table(texts: list[str]) -> pa.Table:
    rows = [{"source": "s", "row": row, "text": text} for row, text in enumerate(texts)]
    return pa.Table.from_pylist(rows, schema=READ)


def tokenize(tokenizer: DocumentTokenizer, text: str) -> list[tuple[int, int, int]]:
    """`(token_id, byte_start, n_bytes)` of every token."""
    table = tokenizer(read_table([text]))
    assert table.schema.equals(TOKENIZED)
    row = table.to_pylist()[0]
    assert row["reason"] is None, row["detail"]
    return list(zip(row["token_id"], row["byte_start"], row["n_bytes"], strict=True))


def covered(tokenizer: DocumentTokenizer, text: str) -> list[bytes]:
    raw = text.encode()
    return [raw[start : start + length] for _, start, length in tokenize(tokenizer, text)]


def assert_tiling(spans: list[tuple[int, int, int]], text: str) -> None:
    lengths = [length for _, _, length in spans]
    assert min(lengths) >= 0
    assert [start for _, start, _ in spans] == list(accumulate(lengths, initial=0))[:-1]
    assert sum(lengths) == len(text.encode())


def byte_of_character() -> dict[str, int]:
    """GPT-2's `bytes_to_unicode`, written as there."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    codes, added = list(kept), 0
    for byte in range(256):
        if byte not in kept:
            kept.append(byte)
            codes.append(256 + added)
            added += 1
    return {chr(code): byte for code, byte in zip(codes, kept, strict=True)}


def spellings(kind: str, tokenizer: Any, index: int) -> set[bytes]:
    """The bytes that a token may cover in a text, by its name alone."""
    added = tokenizer.get_added_tokens_decoder().get(index)
    if added is not None:
        return {added.content.encode()}
    piece: str = tokenizer.id_to_token(index)
    if kind.startswith("byte_level"):
        whole = bytes(byte_of_character()[character] for character in piece)
    elif byte := re.fullmatch(r"<0x(..)>", piece):
        return {bytes.fromhex(byte[1])}
    else:
        whole = piece.replace("▁", " ").encode()
    return {whole, whole.removeprefix(b" ")} if kind != "byte_level" else {whole}


# -------------------------------------------------------------------------------------------------- random text

# Unicode's White_Space, which an added token may swallow.
WHITE = " \t\n\x0b\x0c\r\x85\u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
FRAGMENTS = [
    *(" ", "  ", "\t", "\n", "\r\n", "▁", "▁ ", " ▁", "\u00a0", "\u3000", "\u2028", "\x00", "\x85", "\x1c", "\ufeff"),
    *("<s>", " <s>", "</s>", "<unk>", "<|endoftext|>", "<mask>", " <mask> ", "<pad>", "<pad>  ", "<0x41>", "##"),
    *("the", " the", "cat", "Привет", "é", "e\u0301", "ﬁ", "ẛ̣", "😀", FAMILY, "한", "한", "\u0301", "漢字", "İ"),
]
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), min_size=1, max_size=12).map("".join)


@settings(max_examples=80, deadline=None)
@given(text=TEXTS.filter(bool), special_tokens=st.sampled_from(["auto", "literal"]))
@example(text="▁<s>  <mask> ▁</s>\r\n<pad> ▁ the", special_tokens="auto")
@example(text="<pad>\x0c", special_tokens="auto")
@pytest.mark.parametrize("kind", KINDS)
def test_any_text_keeps_its_ids_and_is_tiled(kind: str, text: str, special_tokens: str) -> None:
    raw = Tokenizer.from_str(plain(kind).to_str())
    raw.encode_special_tokens = special_tokens == "literal"
    expected = raw.encode(text)
    row = operator(kind, special_tokens)(read_table([text])).to_pylist()[0]
    if all(expected.special_tokens_mask):
        assert row["reason"] == Reason.NO_TOKENS
        return
    assert row["token_id"] == expected.ids
    spans = list(zip(row["token_id"], row["byte_start"], row["n_bytes"], strict=True))
    assert_tiling(spans, text)
    for (_, _, length), added in zip(spans, expected.special_tokens_mask, strict=True):
        assert length == 0 or not added
    if kind in SPELLING and "<unk>" not in expected.tokens:
        check_spelling(kind, raw, spans, text)


def check_spelling(kind: str, raw: Any, spans: list[tuple[int, int, int]], text: str) -> None:
    template = len(operator(kind).prefix), len(spans) - len(operator(kind).suffix)
    for index, start, length in spans[slice(*template)]:
        covers = text.encode()[start : start + length]
        if "▁" in text and not kind.startswith("byte_level"):
            covers = covers.replace("▁".encode(), b" ")
        if index in raw.get_added_tokens_decoder():  # may have swallowed white space around it
            covers = covers.decode().strip(WHITE).encode()
        assert covers in spellings(kind, raw, index), (index, covers)


def test_spelling_vocabularies_never_need_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("offsets were read")

    monkeypatch.setattr(operators.tokenize_batch, "offset_lengths", refuse)
    texts = ["".join(FRAGMENTS[k:] + FRAGMENTS[:k]).replace("<unk>", "") for k in range(0, len(FRAGMENTS), 7)]
    for kind in SPELLING:
        for text, row in zip(texts, operator(kind)(read_table(texts)).to_pylist(), strict=True):
            assert row["token_id"] == plain(kind).encode(text).ids
            spans = list(zip(row["token_id"], row["byte_start"], row["n_bytes"], strict=True))
            assert_tiling(spans, text)
            check_spelling(kind, plain(kind), spans, text)


# -------------------------------------------------------------------------------------------------- worked by hand


def by_hand(pieces: list[str], *, normalizer: Any = None, pre_tokenizer: Any = None) -> DocumentTokenizer:
    """BPE over `pieces`, merged in their order: a word letter by letter, then a space in front of it."""
    long = [piece for piece in pieces if len(piece) > 1 and piece[0] != "<"]
    merges = [(piece[0], piece[1:]) if piece[0] in "Ġ▁" else (piece[:-1], piece[-1]) for piece in long]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    fallback = {"byte_fallback": True, "unk_token": "<unk>"} if "<0x00>" in pieces else {}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **fallback))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("<n>", normalized=True)])
    return DocumentTokenizer(tokenizer, TokenizeOptions())


WORDS = ["t", "h", "e", "th", "the", "Ġthe"]
MARKED = ["t", "h", "e", "▁", "th", "the", "▁the", "▁▁"]
BYTES = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]


@cache
def hand_made(name: str) -> DocumentTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    metaspace = pre_tokenizers.Metaspace
    return {
        "byte_level": lambda: by_hand(alphabet + WORDS, pre_tokenizer=whole),
        "prefix_space": lambda: by_hand(alphabet + WORDS, pre_tokenizer=pre_tokenizers.ByteLevel()),
        "nfc": lambda: by_hand(alphabet + WORDS, normalizer=normalizers.NFC(), pre_tokenizer=whole),
        "always": lambda: by_hand(BYTES + MARKED, pre_tokenizer=metaspace(prepend_scheme="always")),
        "first": lambda: by_hand(BYTES + MARKED, pre_tokenizer=metaspace(prepend_scheme="first")),
        "prepend": lambda: by_hand(BYTES + MARKED, normalizer=prepend_replace()),
    }[name]()


FAMILY_BYTES = [bytes([byte]) for byte in FAMILY.encode()]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("byte_level", "the the", [b"the", b" the"]),
        ("byte_level", "the😀", [b"the", b"\xf0", b"\x9f", b"\x98", b"\x80"]),
        ("byte_level", FAMILY, FAMILY_BYTES),
        ("byte_level", "e\u0301", [b"e", b"\xcc", b"\x81"]),
        ("byte_level", "the\r\n\tthe", [b"the", b"\r", b"\n", b"\t", b"the"]),
        ("byte_level", "  the ", [b" ", b" the", b" "]),
        ("byte_level", "the<s> the", [b"the", b"<s>", b" the"]),
        ("prefix_space", "the the", [b"the", b" the"]),
        ("prefix_space", " the", [b" the"]),
        ("prefix_space", "\tthe", [b"", b"\t", b"the"]),
        ("prefix_space", "the<s>the<s> the", [b"the", b"<s>", b"the", b"<s>", b" the"]),
        # NFC makes é of e and U+0301: two byte tokens, of which the encoder says that both cover the e.
        ("nfc", "thee\u0301", [b"the", b"e", b"\xcc\x81"]),
        ("nfc", "the\u00e9", [b"the", b"\xc3", b"\xa9"]),
        ("nfc", "e\u0301 \n", [b"e", b"", b"\xcc\x81 ", b"\n"]),
        ("always", "the the", [b"the", b" the"]),
        ("always", " the", [b" the"]),
        ("always", "the😀 ", [b"the", b"\xf0", b"\x9f", b"\x98", b"\x80", b" "]),
        ("always", FAMILY, [b"", *FAMILY_BYTES]),
        ("always", "\r\n", [b"", b"\r", b"\n"]),
        ("always", "the<s>the<s> the", [b"the", b"<s>", b"the", b"<s>", b" the"]),
        ("always", "▁the the", ["▁the".encode(), b" the"]),
        ("first", "the<s>the<s> the", [b"the", b"<s>", b"the", b"<s>", b" the"]),
        ("first", "<s>the\t", [b"<s>", b"the", b"\t"]),
        ("first", "the▁", [b"the", "▁".encode()]),
        ("prepend", "the the", [b"the", b" the"]),
        ("prepend", " the", [b"", b" the"]),
        ("prepend", "   ", [b" ", b"  "]),  # two tokens of two spaces each, the first of which is not in the text
        ("prepend", "e the<s> the", [b"", b"e", b" the", b"<s>", b"", b" the"]),
        ("prepend", "the <n>the", [b"the", b" <n>", b"the"]),  # found in the normalised text, where it is "▁<n>"
        ("prepend", "▁the", [b"", "▁the".encode()]),
    ],
)
def test_spans_worked_by_hand(name: str, text: str, expected: list[bytes]) -> None:
    assert covered(hand_made(name), text) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_spelt_special_tokens_cover_their_own_bytes(kind: str) -> None:
    text = "the <s> cat<|endoftext|>"
    ids = {plain(kind).token_to_id(name): name.encode() for name in ("<s>", "<|endoftext|>")}
    found = {index: text.encode()[a : a + n].strip() for index, a, n in tokenize(operator(kind), text) if n}
    assert {index: found.get(index) for index in ids} == ids
    if kind == "unigram":
        return  # its model knows the strings itself, as pieces like any other
    assert not ids.keys() & {index for index, _, n in tokenize(operator(kind, "literal"), text) if n}


@pytest.mark.parametrize("kind", ["byte_level_template", "metaspace_first"])
def test_tokens_of_the_template_cover_nothing(kind: str) -> None:
    spans = tokenize(operator(kind), "<s>the cat</s>")
    assert spans[0] == (1, 0, 0)
    assert spans[1] == (1, 0, 3)
    assert spans[-2:] == [(2, 10, 4), (2, 14, 0)]


@pytest.mark.parametrize("kind", ["byte_level", "byte_level_prefix_space", "metaspace_always", "prepend_replace"])
def test_added_tokens_cover_the_white_space_they_swallow(kind: str) -> None:
    assert [c for c in covered(operator(kind), "the  <mask> the<pad>\r\n the") if b"<" in c] == [
        b"  <mask>",
        b"<pad>\r\n ",
    ]


def test_word_piece_gives_dropped_white_space_to_the_token_after_it() -> None:
    assert covered(operator("word_piece"), "  The\tcat ") == [b"", b"  The", b"\tcat ", b""]


@pytest.mark.parametrize(
    ("text", "char_ends", "expected"),
    [
        ("abc", [1, 3], [1, 2]),
        ("ab c ", [2, 4], [2, 3]),  # trailing gap to the last token
        ("漢a😀", [1, 1, 2, 3, 3], [3, 0, 1, 4, 0]),  # several tokens of one character
        ("ab", [2, 1, 2], [2, 0, 0]),  # an end before an earlier one
        ("ab", [0], [2]),
    ],
)
def test_offset_lengths(text: str, char_ends: list[int], expected: list[int]) -> None:
    assert offset_lengths(char_ends, text).tolist() == expected


# ------------------------------------------------------------------------------------------- long texts, real files


@pytest.mark.parametrize("kind", ["byte_level_template", "prepend_replace", "word_piece"])
def test_a_document_of_a_megabyte(kind: str) -> None:
    text = ("The cat sat 😀 on the mát.\r\n<s>" * 32_000)[:1_000_000]
    spans = tokenize(operator(kind), text)
    assert_tiling(spans, text)
    assert [index for index, _, _ in spans] == plain(kind).encode(text).ids


@pytest.fixture(params=["gpt-2", "mistral"])
def real(request: pytest.FixtureRequest) -> Path:
    path = real_tokenizers.FOLDER / f"{request.param}.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


def test_real_tokenizers(real: Path) -> None:
    raw, tokenizer = Tokenizer.from_file(str(real)), DocumentTokenizer.load(real)
    assert tokenizer.bos_prepended == (real.stem == "mistral")
    texts = [*CORPUS, FAMILY, " a", "▁a", "<s>", "a <s> b<|endoftext|>", "e\u0301\r\n\t", "".join(FRAGMENTS)]
    for text in texts:
        spans = tokenize(tokenizer, text)
        assert [index for index, _, _ in spans] == raw.encode(text).ids
        assert_tiling(spans, text)
    first = [(length, start) for _, start, length in tokenize(tokenizer, "Hello 漢")][-1]
    assert sum(first) == len("Hello 漢".encode())
