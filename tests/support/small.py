"""A small model folder and a small corpus, made in a second or two from the running Python's own standard library."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import families
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

FILES = ("textwrap.py", "bisect.py", "heapq.py", "shlex.py", "string.py", "queue.py", "glob.py", "copy.py")
VOCABULARY = 331  # as the families are made
HARD_TEXTS = (
    "x",
    " ",
    "\n\n\n",
    "emoji 👩‍👩‍👧‍👦 and 🇳🇴, combining e\u0301 and \u200d, CRLF\r\nend",
    "نص عربي ותו עברי 漢字かな",
    "<s></s><s>",
    "<s> in the middle </s> of text",
)


def stdlib_texts(size: int = 900) -> list[str]:
    """Fragments of `size` characters of real text."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = "".join((folder / name).read_text(encoding="utf-8") for name in FILES)
    return [text[i : i + size] for i in range(0, len(text) - size, size)]


def make_tokenizer(*, bos: bool = True) -> Tokenizer:
    """Byte-level BPE of 331 entries with `<s>` and `</s>`; `bos` adds `<s>` before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stdlib_texts()[:20], trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def make_model_folder(
    folder: Path, family: str = "llama", *, dtype: torch.dtype = torch.float32, bos: bool = True, seed: int = 0
) -> Path:
    """A Hugging Face folder: config.json, model.safetensors, tokenizer.json, tokenizer_config.json."""
    model = families.make_model(family, sharpness=4.0, dtype=dtype, seed=seed)
    model.save_pretrained(folder)
    make_tokenizer(bos=bos).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_corpus(path: Path, n: int = 40) -> list[dict[str, object]]:
    """A JSONL corpus of real fragments and hard texts; returns its records."""
    texts = [*HARD_TEXTS, *stdlib_texts()][:n]
    records: list[dict[str, object]] = [
        {"id": f"doc-{i}", "text": text, "label": i % 2, "domain": ("even", "odd")[i % 2], "extra": {"n": i}}
        for i, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return records
