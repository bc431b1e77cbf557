"""A model with random weights and a corpus of a stated number of tokens for `assay bench scaling`, made here.

Texts are this Python's own standard library, cut into documents of log-normal length and told again from its start
where the corpus is longer than the library: speed does not care.
"""

from __future__ import annotations

import itertools
import json
import sysconfig
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

SHAPES = ("small", "wide", "gpt2-small")
MEAN_LOG_BYTES, STD_LOG_BYTES, SHORTEST = 6.5, 0.8, 32  # of a document: median 665 bytes, mean 916
SHARDS = 8
VOCABULARY, TRAINED_BYTES = 8192, 1_000_000
_CALIBRATION_SECONDS, _CALIBRATION_DOCUMENTS = 2.0, (8, 128)  # at a time: fewest, which all models do, and most


def documents(seed: int = 0) -> Iterator[str]:
    """Endless texts, the same for the same seed and Python."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(library.glob("*.py"))
    text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    draw, place = np.random.default_rng(seed), 0
    while True:
        size = max(SHORTEST, int(np.exp(draw.normal(MEAN_LOG_BYTES, STD_LOG_BYTES))))
        if place + size > len(text):
            place = 0
        yield text[place : place + size]
        place += size


def make_model(folder: Path, shape: str) -> Path:
    """A Hugging Face folder of a shape named in `jobs.bench.shapes`, with a tokenizer trained here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from jobs.bench.shapes import random_model

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<eos>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_first_bytes(TRAINED_BYTES), trainer)
    model = random_model(shape, "float32")
    model.config.bos_token_id = model.config.eos_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<eos>")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}), encoding="utf-8"
    )
    return folder


def bytes_a_second(model: Path, context: int) -> float:
    """Text bytes that one thread tokenizes and scores in a second, after first batches; as many documents at a time as
    take some tenths of a second, for small models are faster over more of them."""
    import torch

    from jobs.bench.measure import wall_clock
    from operators.model_files import ModelOptions
    from operators.score import ScoreOptions, Scorer
    from operators.tokenize import DocumentTokenizer, TokenizeOptions
    from operators.windows import WindowOptions
    from schemas.flow import READ

    torch.set_num_threads(1)
    scorer = Scorer(ScoreOptions(ModelOptions(str(model), device="cpu"), WindowOptions(context, context // 2)))
    tokenizer = DocumentTokenizer.load(model, TokenizeOptions())
    texts = documents()

    def score(n: int) -> int:
        some = list(itertools.islice(texts, n))
        rows = [{"source": "bench", "row": i, "key": str(i), "text": text} for i, text in enumerate(some)]
        scorer(tokenizer(pa.Table.from_pylist(rows, schema=READ)))
        return sum(len(text.encode()) for text in some)

    at_a_time, most = _CALIBRATION_DOCUMENTS
    score(at_a_time)
    while at_a_time < most and wall_clock(partial(score, at_a_time)) < _CALIBRATION_SECONDS / 8:
        at_a_time *= 2
    started, n_bytes = time.perf_counter(), 0
    while time.perf_counter() - started < _CALIBRATION_SECONDS:
        n_bytes += score(at_a_time)
    return n_bytes / (time.perf_counter() - started)


def write_corpus(folder: Path, n_bytes: int) -> int:
    """Write about so many bytes of text as JSON Lines in `SHARDS` files; returns the number of documents."""
    folder.mkdir()
    texts, count = documents(), 0
    for shard in range(SHARDS):
        written = 0
        with (folder / f"{shard}.jsonl").open("w", encoding="utf-8") as file:
            while written < n_bytes / SHARDS:
                text = next(texts)
                file.write(json.dumps({"text": text}) + "\n")
                written, count = written + len(text.encode()), count + 1
    return count


def _first_bytes(n_bytes: int) -> Iterator[str]:
    held = 0
    for text in documents():
        yield text
        held += len(text)
        if held >= n_bytes:
            return
