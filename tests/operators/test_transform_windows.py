"""Strict windows: which tokens they keep, what is fed for each, and that a window scores as it would alone."""

from __future__ import annotations

from typing import Any

import families
import numpy as np
import pyarrow as pa
import pytest
import small
import torch
from tokenizers import processors

from operators.model_files import ModelOptions
from operators.models import ScoringModel
from operators.score import ScoreOptions, Scorer
from operators.statistics import TileOptions
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.transform import BlockTransform, parse_transform
from operators.transform.windows import window_options
from operators.windows import WindowOptions, windows
from schemas.flow import READ, SPAN_COLUMNS, TOKENIZED

FAMILY_EMOJI = "👩‍👩‍👧‍👦"  # of one character's bytes, several tokens
TEXTS = ["def add(a, b):\n    return a + b\n", FAMILY_EMOJI, "x", None, "漢字 <s> and more", "two"]


def template(before: str, after: str) -> Any:
    tokenizer = small.make_tokenizer(bos=False)
    pieces = [("<s>", 0), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(part for part in (before, "$A", after) if part),
        special_tokens=[piece for piece in pieces if piece[0] in (before, after)],
    )
    return tokenizer


@pytest.fixture(scope="module", params=[("<s>", ""), ("", ""), ("<s>", "</s>"), ("", "</s>")], ids=str)
def tokenizer(request: pytest.FixtureRequest) -> DocumentTokenizer:
    return DocumentTokenizer(template(*request.param), TokenizeOptions())


@pytest.fixture(scope="module")
def bare() -> DocumentTokenizer:
    """The same tokenizer, the texts alone."""
    return DocumentTokenizer(small.make_tokenizer(bos=False), TokenizeOptions())


def block(texts: list[str | None]) -> pa.Table:
    rejected = {"reason": "null_text", "detail": "as it was"}
    rows = [{"source": "s", "row": i, "key": str(i), "text": t, **({} if t else rejected)} for i, t in enumerate(texts)]
    return pa.Table.from_pylist(rows, schema=READ)


def windowed(tokenizer: DocumentTokenizer, spec: str, texts: list[str | None] = TEXTS) -> pa.Table:
    transform = BlockTransform(parse_transform(spec))
    around = len(tokenizer.prefix), len(tokenizer.suffix)
    return transform.tokens(tokenizer(transform.texts(block(texts))), *around)


@pytest.mark.parametrize("offset", [0, 1, 4])
def test_the_texts_own_tokens_stay_with_their_spans(
    tokenizer: DocumentTokenizer, bare: DocumentTokenizer, offset: int
) -> None:
    out = windowed(tokenizer, f"windows:prefix=3,suffix=2,offset={offset}")
    own = bare(block(TEXTS)).to_pylist()
    assert out.schema == TOKENIZED
    canonical = parse_transform(f"windows:prefix=3,suffix=2,offset={offset}").canonical
    emptied = dict.fromkeys(("text", *SPAN_COLUMNS))
    for was, now in zip(own, out.to_pylist(), strict=True):
        expected = was
        if was["text"] is not None and len(was["token_id"]) <= offset:
            n = len(was["token_id"])
            detail = f"{canonical}: the text has {n} token{'' if n == 1 else 's'}"
            expected = was | emptied | {"reason": "empty_after_transform", "detail": detail}
        elif was["text"] is not None:
            expected = was | {name: was[name][offset:] for name in SPAN_COLUMNS}
        assert now == expected
    assert out["reason"].to_pylist()[3] == "null_text"
    assert (out["reason"].to_pylist()[2] == "empty_after_transform") == (offset >= 1)


def test_an_offset_may_fall_inside_a_character(bare: DocumentTokenizer) -> None:
    """Spans stay those of the text, so its first row need not begin where a character does."""
    first = windowed(bare, "windows:prefix=1,suffix=1,offset=2")["byte_start"][1][0].as_py()
    with pytest.raises(UnicodeDecodeError):
        FAMILY_EMOJI.encode()[first:].decode()


@pytest.mark.parametrize("texts", [[], [None], ["x"], ["x", None]])
def test_blocks_of_which_nothing_is_left(tokenizer: DocumentTokenizer, texts: list[str | None]) -> None:
    out = windowed(tokenizer, "windows:offset=9", texts)
    assert (len(out), out["token_id"].null_count, out["text"].null_count) == (len(texts),) * 3


def test_a_record_is_cut_the_same_way_in_any_block(tokenizer: DocumentTokenizer) -> None:
    whole = windowed(tokenizer, "windows:offset=1", ["one", "another", "third"])
    apart = [windowed(tokenizer, "windows:offset=1", [text]) for text in ("one", "another", "third")]
    assert [part["token_id"][0] for part in apart] == list(whole["token_id"])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 23, 25])
@pytest.mark.parametrize(("prefix", "suffix"), [(3, 2), (1, 1), (1, 4), (5, 1)])
@pytest.mark.parametrize("before", [(), (0,), (7, 8)])
def test_every_suffix_is_predicted_from_exactly_its_prefix(
    prefix: int, suffix: int, before: tuple[int, ...], n: int
) -> None:
    options = window_options(parse_transform(f"windows:prefix={prefix},suffix={suffix}"), before)
    assert options == WindowOptions(prefix + suffix, suffix, before)
    found = list(windows(0, n, options))
    scored = [place for w in found for place in range(w.score_from, w.stop)]
    assert scored == list(range(0 if before else 1, n))
    for k, window in enumerate(found):
        assert (window.start, window.stop) == (k * suffix, min(n, k * suffix + prefix + suffix))
        if k or n > prefix:
            suffix_begins = prefix + k * suffix
            assert window.start + prefix == suffix_begins
            assert window.score_from == (suffix_begins if k else min(scored, default=1))
            assert window.skip == len(before) + window.score_from - window.start


def scorer_of(model: torch.nn.Module, options: WindowOptions, batch_tokens: int) -> Scorer:
    tiles = TileOptions(rows=32, columns=64, compiled=False)
    scoring = ScoreOptions(ModelOptions("made here"), options, ("extremes", "topk"), tiles, batch_tokens)
    return Scorer(scoring, ScoringModel(model))


@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("before", [(), (0,)], ids=["no-bos", "bos"])
def test_a_suffix_has_the_bits_that_its_window_has_alone(family: str, before: tuple[int, ...], offset: int) -> None:
    """Each window scored as a document of a plain run, the same ids fed, one a call: equal to the bit in float32."""
    prefix, suffix, lengths = 10, 7, (61, 17, 16, 38)
    model = families.make_model(family, sharpness=3.0)
    ids = torch.randint(0, 331, (sum(lengths),), generator=torch.Generator().manual_seed(8))
    options = window_options(parse_transform(f"windows:prefix={prefix},suffix={suffix}"), before)
    texts = [part[offset:] for part in torch.split(ids, lengths)]
    ours = scorer_of(model, options, 256).score(torch.cat(texts), [len(text) for text in texts])
    plain = scorer_of(model, WindowOptions(64, 32), 64)
    first, tried = 0, 0
    for text in texts:
        for start in range(0, len(text) - prefix - suffix + 1, suffix):
            window = torch.tensor([*before, *text[start : start + prefix + suffix].tolist()])
            alone = plain.score(window, [len(window)])
            rows = slice(first + start + prefix, first + start + prefix + suffix)
            for name, values in alone.items():
                assert np.array_equal(ours[name][rows], values[-suffix:]), name
            tried += 1
        first += len(text)
    assert tried == (7 + 1 + 0 + 4 if offset == 0 else 6 + 0 + 0 + 3)
