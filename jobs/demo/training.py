"""A model small enough to train while the reader waits, and to know by heart what it was shown.

    corpus.jsonl -> tokenizer (all texts) -> ids -> members, each as often as `copies` says, shuffled
                 -> Llama, width 128, 4 layers -> an ordinary Hugging Face folder, renamed into place when whole

The tokenizer is trained on both classes alike. Whatever it learns of their words it learns of members and of held-out
text with the same weight, so token counts and segmentation cannot tell the classes apart; trained on members only, it
would cut their words into fewer pieces and give them away. The price: held-out words are cut more kindly than text the
demonstration never saw.

The model is meant to overfit. Weights start three times larger than usual (0.06), which at this size memorises in two
thirds of the steps, and nothing regularises: a poor language model and a good subject
with known memories.
CPU and float32 on purpose: a GPU would idle at this size, and one device gives one set of numbers.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.demo.corpus import MEMBER, DemoError

if TYPE_CHECKING:
    import torch

RECEIPT_FILE = "training.json"
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"  # unlike <s>, which is HTML and occurs in the library's text
BOS_ID, EOS_ID = 0, 1

_MAX_THREADS = 4  # a step is too small to feed more
_REPORT_EVERY = 10  # steps
_LOSS_STEPS = 20  # steps averaged into the first and the last loss
_SHUFFLE_BATCHES = 8  # batches sorted by length together, so that a batch pads little


@dataclass(frozen=True)
class Settings:
    """The recipe. Everything here decides the weights and is part of the cache key."""

    vocabulary: int = 2048
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner_width: int = 344
    context: int = 2048  # tokens; the longest fragment has fewer bytes
    initial_std: float = 0.06
    batch: int = 4  # documents: small batches, because memorising takes steps rather than tokens
    learning_rate: float = 3e-3
    warmup: int = 20  # steps of linear warm-up
    decay: float = 0.5  # last part of training over which the rate falls to zero


SETTINGS = Settings()


@dataclass(frozen=True)
class Progress:
    """Where training stands. `fraction` is of the steps or of the time allowed, whichever is further on."""

    step: int
    steps: int
    loss: float
    seconds: float
    fraction: float


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


def demo_key(
    corpus_path: Path,
    *,
    seed: int,
    steps: int | None,
    seconds: float,
    settings: Settings,
    tokenizer_from: Path | None = None,
) -> str:
    """Digest of all that decides the trained model; two runs with one key may share a folder."""
    decides = {
        "corpus": hashlib.sha256(corpus_path.read_bytes()).hexdigest(),
        "tokenizer": tokenizer_from and hashlib.sha256((tokenizer_from / "tokenizer.json").read_bytes()).hexdigest(),
        "seed": seed,
        "steps": steps,
        "seconds": seconds,
        "settings": asdict(settings),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("tokenizers", "torch", "transformers")},
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


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
        tokenizer = _load_tokenizer(tokenizer_from) if tokenizer_from else _train_tokenizer(records, settings)
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


def _load_torch() -> None:
    """Load torch with threads that sleep while they wait for one another.

    OpenMP reads the variable once, on loading, and lets threads spin by default: beside other work on the same two
    cores a step then took 0.7 to 4 s where it takes 0.17 s with sleeping threads, or with one.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        importlib.import_module("torch")


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
    _load_torch()
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
    with _seeded(seed):
        model = _new_model(len(tokenizer), settings)
        fit = _Fit(settings, planned, seconds, on_progress)
        fit.run(model, ids, _batches(passes, [len(text) for text in ids], settings.batch))
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


def train_tokenizer(texts_path: Path, folder: Path, settings: Settings = SETTINGS) -> Path:
    """Train a tokenizer on every text of a JSONL file into `folder`, for `train(..., tokenizer_from=folder)`.

    For a corpus that repeats itself: trained on that, the tokenizer would cut what is repeated into fewer pieces.
    """
    with texts_path.open(encoding="utf-8") as lines:
        _train_tokenizer([json.loads(line) for line in lines], settings).save_pretrained(folder)
    return folder


def _load_tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def _train_tokenizer(records: Sequence[dict[str, Any]], settings: Settings) -> Any:
    """Byte-level BPE over the texts that puts the begin token first, as the model was trained to see it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # any byte of any language can be written
        show_progress=False,
    )
    bpe.train_from_iterator((record["text"] for record in records), trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, model_max_length=settings.context
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


def _batches(passes: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """The documents of `passes` in random order for ever, batched with others of about their length."""
    import torch

    while True:
        order = [passes[i] for i in torch.randperm(len(passes)).tolist()]
        for start in range(0, len(order), size * _SHUFFLE_BATCHES):
            near = sorted(order[start : start + size * _SHUFFLE_BATCHES], key=lambda i: lengths[i])
            for batch in torch.randperm(-(-len(near) // size)).tolist():
                yield near[batch * size : (batch + 1) * size]


class _Fit:
    """One training run: the loop, its clock and what it counts."""

    def __init__(
        self, settings: Settings, steps: int, seconds: float, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.settings, self.steps, self.seconds, self.on_progress = settings, steps, seconds, on_progress
        self.losses: list[float] = []
        self.shown: set[int] = set()
        self.tokens = 0
        self.elapsed = 0.0

    @property
    def fraction(self) -> float:
        return max(len(self.losses) / self.steps, self.elapsed / self.seconds)

    def run(self, model: Any, ids: Sequence[torch.Tensor], batches: Iterator[list[int]]) -> None:
        import torch

        optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        started = time.perf_counter()
        while not self.losses or self.fraction < 1:
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate()
            batch = next(batches)
            loss = _loss(model, [ids[i] for i in batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            self.losses.append(loss.item())
            self.shown.update(batch)
            self.tokens += sum(len(ids[i]) for i in batch)
            self.elapsed = time.perf_counter() - started
            self._report()

    def _learning_rate(self) -> float:
        """Linear warm-up, constant, linear to zero. The clock has a say only from where the decay begins."""
        warmup = (len(self.losses) + 1) / self.settings.warmup
        return self.settings.learning_rate * min(warmup, 1.0, (1 - self.fraction) / self.settings.decay)

    def _report(self) -> None:
        step = len(self.losses)
        if self.on_progress and (step % _REPORT_EVERY == 0 or self.fraction >= 1):
            self.on_progress(Progress(step, self.steps, self.losses[-1], self.elapsed, min(1.0, self.fraction)))


def _loss(model: Any, batch: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over the tokens of the batch. Padding stands right of every text, where a causal model cannot
    see it, so attention needs no mask and stays on its fast path."""
    import torch

    padding = -100
    ids_BT = torch.nn.utils.rnn.pad_sequence(list(batch), batch_first=True, padding_value=padding)
    target_BT = ids_BT[:, 1:]
    kept_BT = target_BT != padding
    hidden_BTD = model.model(input_ids=ids_BT[:, :-1].clamp(min=0), use_cache=False).last_hidden_state
    return torch.nn.functional.cross_entropy(model.lm_head(hidden_BTD[kept_BT]), target_BT[kept_BT])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers and threads as training wants them, and as they were afterwards."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(min(threads, _MAX_THREADS))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


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
