"""A model small enough to train while the reader waits, and to know by heart what it was shown.

    corpus.jsonl -> tokenizer (all texts) -> ids -> members, each as often as `copies` says, shuffled (`fit`)
                 -> Llama, width 128, 4 layers -> an ordinary Hugging Face folder, renamed into place when whole

The folder keeps a receipt with the key of the recipe, so that the same model is not trained twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.demo.corpus import MEMBER, DemoError
from jobs.demo.fit import Fit, Progress, batches, load_torch, seeded
from jobs.demo.recipe import SETTINGS, Settings, demo_key
from jobs.demo.tokenizer import BOS_ID, EOS_ID, load_tokenizer, tokenizer_of

RECEIPT_FILE = "training.json"

_LOSS_STEPS = 20  # steps averaged into the first and the last loss


@dataclass(frozen=True)
class TrainingInfo:
    """What came out. Losses are nats a token, means over the first and the last 20 steps."""

    folder: Path
    parameters: int
    vocabulary: int
    documents: int
    unseen: int  # members that an early stop left unshown, whatever their label says
    tokens: int  # fed, copies included
    steps: int
    planned_steps: int
    loss_start: float
    loss_end: float
    seconds: float
    reused: bool = False

    @property
    def stopped_early(self) -> bool:
        """Whether the time allowed ran out first: the model then remembers less, and some members not at all."""
        return self.steps < self.planned_steps


def train(
    corpus_path: Path,
    folder: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    seconds: float = 180.0,
    on_progress: Callable[[Progress], None] | None = None,
    settings: Settings = SETTINGS,
    tokenizer_from: Path | None = None,
) -> TrainingInfo:
    """Train on the members of `corpus_path` into `folder`, or return at once if `folder` holds that very model.

    The tokenizer is trained on the corpus, too, or is that of the model in `tokenizer_from`.

    `steps` is the bound: by default as many as show every member as often as its `copies` says. `seconds` is a safety
    for slow machines: the learning rate then runs down by the clock instead, and `stopped_early` says so. On a machine
    fast enough, and with one number of threads, a seed gives the same weights again.

    Raises:
        DemoError: `folder` holds something that this function did not write.
        ValueError: the corpus has no members, or a bound is not positive.
    """
    if seconds <= 0 or (steps is not None and steps <= 0):
        raise ValueError(f"training needs positive bounds, got {steps} steps and {seconds} seconds")
    key = demo_key(
        corpus_path, seed=seed, steps=steps, seconds=seconds, settings=settings, tokenizer_from=tokenizer_from
    )
    if reused := cached(folder, key):
        return reused
    _refuse_foreign(folder)
    with corpus_path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)  # in a container the next process may have the same number
    scratch.mkdir(parents=True)
    try:
        tokenizer = load_tokenizer(tokenizer_from) if tokenizer_from else tokenizer_of(records, settings)
        info = _train(records, tokenizer, scratch, seed, steps, seconds, on_progress, settings)
        _write_receipt(scratch, key, info)
        _put_in_place(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return replace(info, folder=folder)


def cached(folder: Path, key: str) -> TrainingInfo | None:
    """What `train` reported when it wrote `folder` under `key`; None if it did not, or if a file changed since."""
    try:
        receipt = json.loads((folder / RECEIPT_FILE).read_text(encoding="utf-8"))
        if receipt["key"] == key and receipt["files"] == _digests(folder / name for name in receipt["files"]):
            return TrainingInfo(folder=folder, reused=True, **receipt["training"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent, or not a receipt of this version: train again
    return None


def _train(
    records: Sequence[dict[str, Any]],
    tokenizer: Any,
    folder: Path,
    seed: int,
    steps: int | None,
    seconds: float,
    on_progress: Callable[[Progress], None] | None,
    settings: Settings,
) -> TrainingInfo:
    load_torch()
    import torch

    members = [record for record in records if record["label"] == MEMBER]
    passes = [i for i, record in enumerate(members) for _ in range(record.get("copies", 1))]
    if not passes:
        raise ValueError(
            "the corpus has no member to show: a record of label 1, and copies above 0 where it counts them"
        )
    encoded = tokenizer([record["text"] for record in members])["input_ids"]
    ids = [torch.tensor([*text[: settings.context - 1], EOS_ID]) for text in encoded]
    planned = steps or -(-len(passes) // settings.batch)
    with seeded(seed):
        model = _new_model(len(tokenizer), settings)
        fit = Fit(settings, planned, seconds, on_progress)
        fit.run(model, ids, batches(passes, [len(text) for text in ids], settings.batch))
    _save(model, tokenizer, folder)
    return TrainingInfo(
        folder=folder,
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        documents=len(members),
        unseen=len(members) - len(fit.shown),
        tokens=fit.tokens,
        steps=len(fit.losses),
        planned_steps=planned,
        loss_start=_mean(fit.losses[:_LOSS_STEPS]),
        loss_end=_mean(fit.losses[-_LOSS_STEPS:]),
        seconds=fit.elapsed,
    )


def _new_model(vocabulary: int, settings: Settings) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=settings.width,
            intermediate_size=settings.inner_width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            max_position_embeddings=settings.context,
            initializer_range=settings.initial_std,
            tie_word_embeddings=True,
            bos_token_id=BOS_ID,
            eos_token_id=EOS_ID,
        )
    )


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save without the progress bar of a one-file model, which would write across the caller's own."""
    from transformers.utils import logging

    shows = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        if shows:
            logging.enable_progress_bar()


def _write_receipt(folder: Path, key: str, info: TrainingInfo) -> None:
    """Written last: a folder without it is not a trained model."""
    training = {name: value for name, value in asdict(info).items() if name not in ("folder", "reused")}
    receipt = {"key": key, "files": _digests(folder.iterdir()), "training": training}
    (folder / RECEIPT_FILE).write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")


def _digests(files: Iterable[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not (folder / RECEIPT_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DemoError(
            f"{folder} exists and was not written by the demonstration (it has no {RECEIPT_FILE}): "
            "it would be replaced. Name another folder, or remove it."
        )


def _put_in_place(scratch: Path, folder: Path) -> None:
    """Rename `scratch` to `folder`; what stood there goes only after the new model stands."""
    if not folder.exists():
        scratch.rename(folder)
        return
    old = scratch.with_name(scratch.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    scratch.rename(folder)
    shutil.rmtree(old)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
