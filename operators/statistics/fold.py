"""One tile of logits folded into the rows' states: plain torch, compiled where there is a compiler."""

from __future__ import annotations

import functools
import importlib.util
import logging
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from operators.failures import first_line
from operators.head import LogitShape
from operators.statistics.state import FLOOR, POWERS, initial_state, merge, state_names
from schemas.tokens import EXTREMES, NUCLEUS, RENYI

log = logging.getLogger(__name__)

ROW_ALIGNMENT = 16  # float32 lanes of the widest CPU vector: a ragged end would take another code path

Fold = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def tile_state(tile_RC: Tensor, target_R: Tensor, first_id: Tensor, groups: frozenset[str],
               shape: LogitShape | None) -> Tensor:  # fmt: skip
    """The state `[S, R]` of one tile of raw logits `[R, C]`.

    `target_R`: raw logit of the token that came. `shape`: the head's monotone map from raw to final logits, if any.
    `first_id`: vocabulary id of the tile's first column.
    """
    logit, target = tile_RC, target_R
    if shape is not None:
        logit, target = torch.where(tile_RC > -torch.inf, shape(tile_RC), -torch.inf), shape(target_R)
    m = logit.amax(1)
    base = torch.where(m == -torch.inf, 0.0, m)  # a tile of masked logits alone
    gap = logit - base[:, None]
    d = gap.clamp_min(FLOOR)
    e = d.exp()
    at_top, below = logit == m[:, None], logit < m[:, None]
    above = tile_RC > target_R[:, None]
    if shape is not None:
        above = above & (logit > target[:, None])  # a soft-cap can make unequal raw logits equal
    rest = torch.where(below, e, 0.0)
    c, r = at_top.sum(1, dtype=torch.float32), rest.sum(1)
    s1 = (d * e).sum(1)
    centred = d - (s1 / (c + r))[:, None]
    state = {
        "m": m,
        "c": c,
        "r": r,
        "s1": s1,
        "m2": (centred * centred * e).sum(1),
        "greater": above.sum(1, dtype=torch.float32),
    }
    if NUCLEUS in groups:
        state["above"] = torch.where(above, e, 0.0).sum(1)
    if EXTREMES in groups:
        ids = torch.arange(tile_RC.shape[1], device=tile_RC.device, dtype=torch.float32) + first_id
        state["top1"] = torch.where(at_top, ids, torch.inf).amin(1)
    if RENYI in groups:
        finite = logit > -torch.inf
        state["half"] = torch.where(below, (d / 2).exp(), 0.0).sum(1)
        state["quarter"] = torch.where(below, (gap / 4).exp(), 0.0).sum(1)  # the floor's fourth root is not nothing
        state["second"] = torch.where(below, logit, -torch.inf).amax(1)
        state["total"] = torch.where(finite, logit, 0.0).sum(1)
        state["finite"] = finite.sum(1, dtype=torch.float32)
        power = rest
        for k in POWERS:
            power = power * rest
            state[f"power{k}"] = power.sum(1)
    return torch.stack([state[name] for name in state_names(groups)])


def fold(tile_RC: Tensor, target_R: Tensor, state_SR: Tensor, first_id: Tensor, groups: frozenset[str],
         shape: LogitShape | None) -> Tensor:  # fmt: skip
    """The state `[S, R]` after one more tile; arguments as of `tile_state`."""
    return merge(torch.stack([state_SR, tile_state(tile_RC, target_R, first_id, groups, shape)], dim=1), groups)


def make_fold(groups: frozenset[str], shape: LogitShape | None, device: torch.device, compiled: bool | None) -> Fold:
    """`fold` for these columns; `compiled`: None compiles where a compiler is found that works."""
    plain = functools.partial(fold, groups=groups, shape=shape)
    if compiled is None and not compiler_available(device):
        log.warning("no compiler found: statistics run uncompiled, exact but slower (install g++ to speed up)")
        return plain
    if compiled is False:
        return plain
    fast = _compiled_fold(groups, shape)
    return fast if compiled or _compiles(fast, groups, device) else plain


def compiler_available(device: torch.device) -> bool:
    """Whether `torch.compile` can build a kernel here: it needs a C++ compiler for CPU, Triton for CUDA."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _compiled_fold(groups: frozenset[str], shape: LogitShape | None) -> Fold:
    """Compiled once for any number of rows: bits must not depend on the size of the first call."""
    kernel = torch.compile(functools.partial(fold, groups=groups, shape=shape))

    def run(tile_RC: Tensor, target_R: Tensor, state_SR: Tensor, first_id: Tensor) -> Tensor:
        for tensor, dimension in ((tile_RC, 0), (target_R, 0), (state_SR, 1)):
            torch._dynamo.mark_dynamic(tensor, dimension)
        return kernel(tile_RC, target_R, state_SR, first_id)

    return run


def _compiles(compiled: Fold, groups: frozenset[str], device: torch.device) -> bool:
    """Build the kernel now, on rows of zeros: a compiler that is there may still fail, and a run must not."""
    try:
        target = torch.zeros(ROW_ALIGNMENT, device=device)
        with torch.inference_mode():
            state = initial_state(ROW_ALIGNMENT, groups, device)
            compiled(torch.zeros(ROW_ALIGNMENT, 2048, device=device), target, state, target[0])
    except Exception as error:  # whatever a broken tool chain raises
        log.warning("statistics run uncompiled, exact but slower: %s", first_line(error))
        return False
    return True
