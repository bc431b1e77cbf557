"""The training loop: batches in random order, one loss a step, a rate that falls by the steps or by the clock.

CPU and float32 on purpose: a GPU would idle at this size, and one device gives one set of numbers.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.demo.recipe import Settings

if TYPE_CHECKING:
    import torch

_MAX_THREADS = 4  # a step is too small to feed more
_REPORT_EVERY = 10  # steps
_SHUFFLE_BATCHES = 8  # batches sorted by length together, so that a batch pads little


@dataclass(frozen=True)
class Progress:
    """Where training stands. `fraction` is of the steps or of the time allowed, whichever is further on."""

    step: int
    steps: int
    loss: float
    seconds: float
    fraction: float


def load_torch() -> None:
    """Load torch with threads that sleep while they wait for one another.

    OpenMP reads the variable once, on loading, and lets threads spin by default: beside other work on the same two
    cores a step then took 0.7 to 4 s where it takes 0.17 s with sleeping threads, or with one.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        importlib.import_module("torch")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
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


def batches(passes: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """The documents of `passes` in random order for ever, batched with others of about their length."""
    import torch

    while True:
        order = [passes[i] for i in torch.randperm(len(passes)).tolist()]
        for start in range(0, len(order), size * _SHUFFLE_BATCHES):
            near = sorted(order[start : start + size * _SHUFFLE_BATCHES], key=lambda i: lengths[i])
            for batch in torch.randperm(-(-len(near) // size)).tolist():
                yield near[batch * size : (batch + 1) * size]


class Fit:
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
                group["lr"] = self.learning_rate()
            batch = next(batches)
            loss = batch_loss(model, [ids[i] for i in batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            self.losses.append(loss.item())
            self.shown.update(batch)
            self.tokens += sum(len(ids[i]) for i in batch)
            self.elapsed = time.perf_counter() - started
            self._report()

    def learning_rate(self) -> float:
        """Linear warm-up, constant, linear to zero. The clock has a say only from where the decay begins."""
        warmup = (len(self.losses) + 1) / self.settings.warmup
        return self.settings.learning_rate * min(warmup, 1.0, (1 - self.fraction) / self.settings.decay)

    def _report(self) -> None:
        step = len(self.losses)
        if self.on_progress and (step % _REPORT_EVERY == 0 or self.fraction >= 1):
            self.on_progress(Progress(step, self.steps, self.losses[-1], self.elapsed, min(1.0, self.fraction)))


def batch_loss(model: Any, batch: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over the tokens of the batch. Padding stands right of every text, where a causal model cannot
    see it, so attention needs no mask and stays on its fast path."""
    import torch

    padding = -100
    ids_BT = torch.nn.utils.rnn.pad_sequence(list(batch), batch_first=True, padding_value=padding)
    target_BT = ids_BT[:, 1:]
    kept_BT = target_BT != padding
    hidden_BTD = model.model(input_ids=ids_BT[:, :-1].clamp(min=0), use_cache=False).last_hidden_state
    return torch.nn.functional.cross_entropy(model.lm_head(hidden_BTD[kept_BT]), target_BT[kept_BT])
