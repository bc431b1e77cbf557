"""A tokenizer of real size for the benchmark: byte-level BPE, trained on its texts once, kept in the user's cache."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import xxhash

from jobs.bench.tokenizers.texts import make_texts

VOCABULARY, TRAINED_BYTES, SEED = 32_768, 12_000_000, 7


def trained_tokenizer(vocabulary: int = VOCABULARY, n_bytes: int = TRAINED_BYTES) -> Path:
    """The tokenizer's file. It depends on the arguments, this version of `tokenizers` and this Python's library."""
    import tokenizers

    with tempfile.TemporaryDirectory() as scratch:
        texts = make_texts(Path(scratch) / "texts", n_bytes, SEED)
        digest = xxhash.xxh3_128()
        digest.update(f"{tokenizers.__version__} {vocabulary}".encode())
        for text in _texts(texts.folder):
            digest.update(text.encode())
        cached = _cache() / f"bench-tokenizer-{digest.hexdigest()}.json"
        if not cached.is_file():
            _train(texts.folder, vocabulary, cached)
    return cached


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    folder = Path(root) / "assay"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _texts(folder: Path) -> Iterator[str]:
    for shard in sorted(folder.glob("*.jsonl")):
        with shard.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)


def _train(folder: Path, vocabulary: int, path: Path) -> None:
    """Train and save, whole or not at all: another benchmark may be reading."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(folder), trainer)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(tokenizer.to_str().encode())
    Path(file.name).replace(path)
