"""Exact statistics of next-token distributions in one pass over vocabulary tiles.

For hidden states `H` (one row a prediction), head weight `W` and the token `y` that came, the plain form is

    l = (H @ W.T + b).float();  lp = l.log_softmax(-1);  p = lp.exp()
    logprob = lp[y];  entropy = -(p * lp).sum(-1);  logprob_std = ((lp + entropy)**2 * p).sum(-1).sqrt()
    rank = 1 + (l > l[y]).sum(-1)

and needs the whole `[R, V]` matrix. Here `W` is taken `C` rows at a time, each tile `[R, C]` is folded into a small
state per row, and the tile's buffer is reused: memory does not depend on `V`. Sums are held about the running maximum
`m` (d = l - m <= 0) and rescaled when it moves; the second moment is centred within each tile and merged by the
pairwise update of Chan, Golub and LeVeque (1983), so nothing cancels on flat rows; the elements equal to the maximum
are counted apart from the rest, so peaked rows keep their relative accuracy through log1p. The price: three passes
over a tile that lies in cache instead of two.

Shapes: `R` rows (predictions), `C` tile columns, `V` vocabulary, `D` width, `S` state entries, `K` top-k.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from operators.head import GivenLogits, LogitShape, VocabularyHead
from schemas.tokens import EXTREMES, NUCLEUS, RENYI, TOPK

log = logging.getLogger(__name__)

# Log-ratios below this add less than 2e-38 to any sum; the bound keeps -inf (masked logits, padding) out of products.
FLOOR = -87.0
ROW_ALIGNMENT = 16  # float32 lanes of the widest CPU vector: a ragged end would take another code path

# -p ln(1-p) = p^2 q(p): every entry but one maximum has p <= 1/2, where a polynomial of this degree errs below 1e-8.
_REST_DEGREE = 9

_CORE_STATE = ("m", "c", "r", "s1", "m2", "greater")
_GROUP_STATE = {
    EXTREMES: ("top1",),
    NUCLEUS: ("above",),
    RENYI: ("half", "second", "total", "finite", *(f"power{k}" for k in range(2, 3 + _REST_DEGREE))),
}


@dataclass(frozen=True)
class TileOptions:
    """`rows`, `columns`: tile shape. `top_k`: length of the top-k lists when the group `topk` is kept.

    `compiled`: None compiles where a compiler is found; the rows are fixed so that one kernel serves all calls.
    """

    rows: int = 512
    columns: int = 2048
    top_k: int = 10
    compiled: bool | None = None

    def __post_init__(self) -> None:
        if self.rows % ROW_ALIGNMENT or self.rows <= 0 or self.columns <= 0:
            raise ValueError(f"tile {self.rows} x {self.columns}: rows must be a positive multiple of {ROW_ALIGNMENT}")
        if not 1 <= self.top_k <= 1024:
            raise ValueError(f"top_k is {self.top_k}: it must lie between 1 and 1024")


def state_names(groups: frozenset[str]) -> tuple[str, ...]:
    """Names of the state's rows, `S` of them, for the column groups asked for."""
    return _CORE_STATE + tuple(n for group, names in _GROUP_STATE.items() if group in groups for n in names)


def initial_state(rows: int, groups: frozenset[str], device: torch.device) -> Tensor:
    """The state `[S, R]` of rows that have seen no column: maxima at -inf, sums at 0."""
    names = state_names(groups)
    state = torch.zeros(len(names), rows, device=device)
    for name in ("m", "second"):
        if name in names:
            state[names.index(name)] = -torch.inf
    return state


def fold(tile_RC: Tensor, target_R: Tensor, state_SR: Tensor, first_id: Tensor, groups: frozenset[str],
         shape: LogitShape | None) -> Tensor:  # fmt: skip
    """Fold one tile of raw logits into the state and return the new state `[S, R]`.

    `target_R`: raw logit of the token that came. `shape`: the head's monotone map from raw to final logits, if any.
    `first_id`: vocabulary id of the tile's first column.
    """
    old = dict(zip(state_names(groups), state_SR.unbind(0), strict=True))
    logit, target = tile_RC, target_R
    if shape is not None:
        logit, target = torch.where(tile_RC > -torch.inf, shape(tile_RC), -torch.inf), shape(target_R)
    tile_max = logit.amax(1)
    m = torch.maximum(old["m"], tile_max)
    base = torch.where(m == -torch.inf, 0.0, m)  # a row that has only seen masked logits
    d = (logit - base[:, None]).clamp_min(FLOOR)
    e = d.exp()
    below = logit < m[:, None]
    de = d * e
    above = tile_RC > target_R[:, None]
    if shape is not None:
        above = above & (logit > target[:, None])  # a soft-cap can make unequal raw logits equal
    shift = (old["m"] - base).clamp_min(FLOOR)
    scale = shift.exp()
    moved = old["m"] < m
    mass = old["c"] + old["r"]
    old_mass, tile_mass, tile_s1 = scale * mass, e.sum(1), de.sum(1)
    old_s1 = scale * (old["s1"] + shift * mass)
    tile_mean = tile_s1 / tile_mass
    apart = tile_mean - torch.where(old_mass > 0, old_s1 / old_mass, tile_mean)
    centred = d - tile_mean[:, None]
    new = {
        "m": m,
        "c": torch.where(moved, 0.0, old["c"]) + (logit == m[:, None]).sum(1, dtype=torch.float32),
        "r": torch.where(moved, old_mass, old["r"]) + torch.where(below, e, 0.0).sum(1),
        "s1": old_s1 + tile_s1,
        "m2": scale * old["m2"]
        + (centred * centred * e).sum(1)
        + apart * apart * (old_mass * (tile_mass / (old_mass + tile_mass))),
        "greater": old["greater"] + above.sum(1, dtype=torch.float32),
    }
    if NUCLEUS in groups:
        new["above"] = scale * old["above"] + torch.where(above, e, 0.0).sum(1)
    if EXTREMES in groups:
        ids = torch.arange(tile_RC.shape[1], device=tile_RC.device, dtype=torch.float32) + first_id
        lowest = torch.where(logit == tile_max[:, None], ids, torch.inf).amin(1)
        new["top1"] = torch.where(tile_max > old["m"], lowest, old["top1"])
    if RENYI in groups:
        finite = logit > -torch.inf
        beaten = torch.where(moved, old["m"], -torch.inf)
        in_tile = torch.where(below, logit, -torch.inf).amax(1)
        rest = torch.where(below, e, 0.0)
        new["half"] = torch.where(moved, (shift / 2).exp() * (old["c"] + old["half"]), old["half"]) + torch.where(
            below, (d / 2).exp(), 0.0
        ).sum(1)
        new["second"] = torch.maximum(torch.maximum(old["second"], beaten), in_tile)
        new["total"] = old["total"] + torch.where(finite, logit, 0.0).sum(1)
        new["finite"] = old["finite"] + finite.sum(1, dtype=torch.float32)
        power, scale_k = rest, scale
        for k in range(2, 3 + _REST_DEGREE):
            power, scale_k = power * rest, scale_k * scale
            name = f"power{k}"
            new[name] = torch.where(moved, scale_k * (old["c"] + old[name]), old[name]) + power.sum(1)
    return torch.stack([new[name] for name in state_names(groups)])


@functools.cache
def _rest_coefficients() -> tuple[float, ...]:
    """Coefficients a_k, k = 2.., of -p ln(1-p) ~ sum_k a_k p^k on [0, 1/2] (Chebyshev interpolation of q(p))."""

    def q(p: np.ndarray) -> np.ndarray:
        safe = np.where(p > 0, p, 1.0)
        return np.where(p > 0, -np.log1p(-safe) / safe, 1.0)

    fit = np.polynomial.Chebyshev.interpolate(q, _REST_DEGREE, domain=[0.0, 0.5])
    return tuple(float(a) for a in fit.convert(kind=np.polynomial.Polynomial).coef)


def _rest_entropy(state: dict[str, Tensor], log_mass: Tensor, mass: Tensor, logprob: Tensor, at_top: Tensor) -> Tensor:
    """-sum_{v != y} p_v ln(1 - p_v) from power sums; one maximum is taken apart, everything else has p <= 1/2."""
    total = torch.zeros_like(mass)
    own = torch.zeros_like(mass)
    p_target = logprob.exp()
    for k, a in enumerate(_rest_coefficients(), start=2):
        total += a * (state[f"power{k}"] + state["c"] - 1) / mass**k
        own += a * p_target**k
    others = (state["c"] - 1 + state["r"]) / mass
    # Where the runner-up lies near the floor, the rest's mass is its own to within the log of its multiplicity.
    gap = state["second"] - state["m"]
    log_others = torch.where((gap < 0.75 * FLOOR) & (state["c"] == 1), gap - log_mass, others.log())
    top = torch.where(others > 0, -(-log_mass).exp() * log_others, 0.0)
    return torch.where(at_top, total, total - own + top).clamp_min(0.0)


def finish(state_SR: Tensor, target_R: Tensor, groups: frozenset[str],
           shape: LogitShape | None) -> dict[str, Tensor]:  # fmt: skip
    """The statistics `[R]` of rows that have seen the whole vocabulary, by column name."""
    state = dict(zip(state_names(groups), state_SR.unbind(0), strict=True))
    target = target_R if shape is None else shape(target_R)
    c, r = state["c"], state["r"]
    mass = c + r
    log_mass = c.log() + (r / c).log1p()
    mean_d = state["s1"] / mass
    logprob = (target - state["m"] - log_mass).clamp_max(0.0)
    out = {
        "logprob": logprob,
        "entropy": (log_mass - mean_d).clamp_min(0.0),
        "logprob_std": (state["m2"] / mass).sqrt(),
        "rank": state["greater"].to(torch.int32) + 1,
    }
    if EXTREMES in groups:
        out["logprob_max"] = -log_mass
        out["top1_id"] = state["top1"].to(torch.int32)
    if NUCLEUS in groups:
        out["mass_above"] = (state["above"] / mass).clamp(0.0, 1.0)
    if RENYI in groups:
        half = c.log() + (state["half"] / c).log1p()
        out["renyi_half"] = (2 * half - log_mass).clamp_min(0.0)
        out["renyi_2"] = (2 * log_mass - c.log() - (state["power2"] / c).log1p()).clamp_min(0.0)
        out["logprob_second"] = state["second"] - state["m"] - log_mass  # -inf where all are equal: stored as NULL
        out["rest_entropy"] = _rest_entropy(state, log_mass, mass, logprob, target == state["m"])
        out["logprob_uniform"] = (state["total"] / state["finite"] - state["m"] - log_mass).clamp_max(0.0)
    return out


@functools.cache
def _compiled_fold(groups: frozenset[str], shape: LogitShape | None) -> Callable[..., Tensor]:
    """`fold` compiled once for any number of rows: bits must not depend on the size of the first call."""
    kernel = torch.compile(functools.partial(fold, groups=groups, shape=shape))

    def run(tile_RC: Tensor, target_R: Tensor, state_SR: Tensor, first_id: Tensor) -> Tensor:
        for tensor, dimension in ((tile_RC, 0), (target_R, 0), (state_SR, 1)):
            torch._dynamo.mark_dynamic(tensor, dimension)
        return kernel(tile_RC, target_R, state_SR, first_id)

    return run


def compiler_available(device: torch.device) -> bool:
    """Whether `torch.compile` can build a kernel here: it needs a C++ compiler for CPU, Triton for CUDA."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return importlib.util.find_spec("triton") is not None


class TiledStatistics:
    """Statistics of one head, with buffers that are made once and reused.

    Call with `hidden_RD` (at most `options.rows` rows) and `target_R` (vocabulary ids); the result maps column names
    to `[R]` tensors, `topk_id` and `topk_logprob` to `[R, K]`. A row's numbers depend on its own hidden state alone:
    rows are filled up to a multiple of 16 so that each of them takes the same code path.
    """

    def __init__(
        self,
        head: VocabularyHead | GivenLogits,
        groups: frozenset[str] = frozenset(),
        options: TileOptions | None = None,
    ) -> None:
        self.head, self.groups, self.options = head, groups, options or TileOptions()
        rows, columns, dtype = self.options.rows, self.options.columns, head.product_dtype
        self._tile_RC = torch.empty(rows, columns, device=head.device)
        self._hidden_RD = torch.zeros(rows, head.width, device=head.device, dtype=dtype)
        self._scratch_CD = head.scratch(columns)
        self.top_k = min(self.options.top_k, head.vocab_size) if TOPK in groups else 0
        self._fold = self._choose_fold()

    def _choose_fold(self) -> Callable[..., Tensor]:
        wanted = self.options.compiled
        if wanted is None:
            wanted = compiler_available(self.head.device)
            if not wanted:
                log.warning("no compiler found: statistics run uncompiled, exact but slower (install g++ to speed up)")
        if wanted:
            compiled = _compiled_fold(self.groups, self.head.shape)
            if self.options.compiled or self._compiles(compiled):
                return compiled
        return functools.partial(fold, groups=self.groups, shape=self.head.shape)

    def _compiles(self, compiled: Callable[..., Tensor]) -> bool:
        """Build the kernel now, on rows of zeros: a compiler that is there may still fail, and a run must not."""
        try:
            target = torch.zeros(ROW_ALIGNMENT, device=self.head.device)
            state = initial_state(ROW_ALIGNMENT, self.groups, self.head.device)
            with torch.inference_mode():
                compiled(torch.zeros_like(self._tile_RC[:ROW_ALIGNMENT]), target, state, target[0])
        except Exception as error:  # whatever a broken tool chain raises
            log.warning("statistics run uncompiled, exact but slower: %s", (str(error).splitlines() or ["?"])[0])
            return False
        return True

    @torch.inference_mode()
    def __call__(self, hidden_RD: Tensor, target_R: Tensor) -> dict[str, Tensor]:
        n = hidden_RD.shape[0]
        rows = -(-n // ROW_ALIGNMENT) * ROW_ALIGNMENT
        hidden = self._hidden_RD[:rows]
        hidden[:n] = hidden_RD
        hidden[n:] = 0
        target = torch.zeros(rows, dtype=torch.long, device=hidden.device)
        target[:n] = target_R
        with self.head.exact_products():
            target_logit = self.head.target_logits(hidden, target)
            state = initial_state(rows, self.groups, hidden.device)
            best = _TopK(rows, self.top_k, hidden.device)
            for first, width in self._columns():
                tile = self._tile(hidden, first, width)
                _pin_target(tile, target - first, target_logit)
                best.offer(tile[:, :width], first)
                state = self._fold(tile, target_logit, state, torch.tensor(float(first), device=hidden.device))
        out = finish(state, target_logit, self.groups, self.head.shape)
        if self.top_k:
            out |= best.columns(self.head.shape, log_partition(state))
        return {name: values[:n] for name, values in out.items()}

    def _columns(self) -> Iterator[tuple[int, int]]:
        for first in range(0, self.head.vocab_size, self.options.columns):
            yield first, min(self.options.columns, self.head.vocab_size - first)

    def _tile(self, hidden: Tensor, first: int, width: int) -> Tensor:
        """Raw logits `[R, C]`; a last, narrower tile is filled up with -inf, so that one kernel fits all."""
        tile = self._tile_RC[: hidden.shape[0]]
        self.head.logits(hidden, first, tile[:, :width], self._scratch_CD)
        tile[:, width:] = -torch.inf
        return tile


def log_partition(state_SR: Tensor) -> Tensor:
    """ln sum_v exp l_v of each row, `[R]`, from a complete state (of any column groups)."""
    m, c, r = state_SR[0], state_SR[1], state_SR[2]
    return m + c.log() + (r / c).log1p()


def _pin_target(tile_RC: Tensor, column_R: Tensor, logit_R: Tensor) -> None:
    """Make the target's own column hold exactly its logit, so that no token can be counted as above itself."""
    width = tile_RC.shape[1]
    inside = (column_R >= 0) & (column_R < width)
    column = column_R.clamp(0, width - 1)[:, None]
    tile_RC.scatter_(1, column, torch.where(inside[:, None], logit_R[:, None], tile_RC.gather(1, column)))


class _TopK:
    """The `K` largest raw logits a row over the tiles seen, with their vocabulary ids; `K` = 0 keeps nothing."""

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        self.k = k
        self.values = torch.full((rows, k), -torch.inf, device=device)
        self.ids = torch.zeros(rows, k, dtype=torch.long, device=device)

    def offer(self, tile_RC: Tensor, first: int) -> None:
        if not self.k:
            return
        values, ids = tile_RC.topk(min(self.k, tile_RC.shape[1]), dim=1)
        pool = torch.cat([self.values, values], dim=1)
        self.values, place = pool.topk(self.k, dim=1)
        self.ids = torch.cat([self.ids, ids + first], dim=1).gather(1, place)

    def columns(self, shape: LogitShape | None, log_partition_R: Tensor) -> dict[str, Tensor]:
        final = self.values if shape is None else shape(self.values)
        logprob = (final - log_partition_R[:, None]).clamp_max(0.0)
        return {"topk_id": self.ids.to(torch.int32), "topk_logprob": logprob}
