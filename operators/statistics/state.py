"""What is kept of a row while its vocabulary is read, how two such states become one, and the statistics they give.

A state describes a part of the vocabulary by sums about that part's own maximum `m` (d = l - m <= 0):

    m          the largest logit               r     sum of exp(d) over the others (apart: peaked rows need log1p)
    c          how many logits equal m         s1    sum of d exp(d)
    greater    logits above the target's       m2    sum of (d - mean)^2 exp(d), centred within the part

Merging parts rescales the sums to the common maximum and adds the spread of the means to `m2`, the pairwise update of
Chan, Golub and LeVeque (1983): nothing cancels on flat rows, and the order of the parts matters to rounding alone.
Tiles in a row and splits of the vocabulary computed side by side are merged by the same function.

Shapes: `S` state entries, `P` parts, `R` rows.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from operators.head import LogitShape
from schemas.tokens import EXTREMES, NUCLEUS, RENYI

# Log-ratios below this add less than 2e-38 to any sum; the bound keeps -inf (masked logits, padding) out of products.
FLOOR = -87.0

# -p ln(1-p) = p^2 q(p): every entry but one maximum has p <= 1/2, where a polynomial of this degree errs below 1e-8.
REST_DEGREE = 9
POWERS = range(2, 3 + REST_DEGREE)

_CORE_STATE = ("m", "c", "r", "s1", "m2", "greater")
_GROUP_STATE = {
    EXTREMES: ("top1",),
    NUCLEUS: ("above",),
    RENYI: ("half", "quarter", "second", "total", "finite", *(f"power{k}" for k in POWERS)),
}


def state_names(groups: frozenset[str]) -> tuple[str, ...]:
    """Names of the state's entries, `S` of them, for the column groups asked for."""
    return _CORE_STATE + tuple(n for group, names in _GROUP_STATE.items() if group in groups for n in names)


def initial_state(rows: int, groups: frozenset[str], device: torch.device) -> Tensor:
    """The state `[S, R]` of rows that have seen no column: maxima at -inf, sums at 0."""
    names = state_names(groups)
    state = torch.zeros(len(names), rows, device=device)
    for name in ("m", "second"):
        if name in names:
            state[names.index(name)] = -torch.inf
    return state


def merge(parts_SPR: Tensor, groups: frozenset[str]) -> Tensor:
    """The state `[S, R]` of the parts `[S, P, R]` together."""
    part = dict(zip(state_names(groups), parts_SPR.unbind(0), strict=True))
    m = part["m"].amax(0)
    at_top = part["m"] == m
    base = torch.where(m == -torch.inf, 0.0, m)  # a row that has only seen masked logits
    shift = (part["m"] - base).clamp_min(FLOOR)
    scale = shift.exp()
    mass = part["c"] + part["r"]
    scaled_mass, scaled_s1 = scale * mass, scale * (part["s1"] + shift * mass)
    mean = scaled_s1.sum(0) / scaled_mass.sum(0)
    apart = torch.where(scaled_mass > 0, scaled_s1 / scaled_mass, mean) - mean
    whole = {
        "m": m,
        "c": torch.where(at_top, part["c"], 0.0).sum(0),
        "r": torch.where(at_top, part["r"], scaled_mass).sum(0),
        "s1": scaled_s1.sum(0),
        "m2": (scale * part["m2"] + apart * apart * scaled_mass).sum(0),
        "greater": part["greater"].sum(0),
    }
    if EXTREMES in groups:
        whole["top1"] = torch.where(at_top, part["top1"], torch.inf).amin(0)
    if NUCLEUS in groups:
        whole["above"] = (scale * part["above"]).sum(0)
    if RENYI in groups:
        half = (shift / 2).exp() * (part["c"] + part["half"])
        whole["half"] = torch.where(at_top, part["half"], half).sum(0)
        # Without the floor, whose fourth root is not nothing; a part of masked logits alone has the weight 0.
        quarter = ((part["m"] - base) / 4).exp() * (part["c"] + part["quarter"])
        whole["quarter"] = torch.where(at_top, part["quarter"], quarter).sum(0)
        whole["second"] = torch.where(at_top, part["second"], part["m"]).amax(0)
        whole |= {name: part[name].sum(0) for name in ("total", "finite")}
        scale_k = scale
        for k in POWERS:
            scale_k = scale_k * scale
            power = part[f"power{k}"]
            whole[f"power{k}"] = torch.where(at_top, power, scale_k * (part["c"] + power)).sum(0)
    return torch.stack([whole[name] for name in state_names(groups)])


def log_partition(state_SR: Tensor) -> Tensor:
    """ln sum_v exp l_v of each row, `[R]`, from a complete state (of any column groups)."""
    m, c, r = state_SR[0], state_SR[1], state_SR[2]
    return m + c.log() + (r / c).log1p()


@functools.cache
def _rest_coefficients() -> tuple[float, ...]:
    """Coefficients a_k, k = 2.., of -p ln(1-p) ~ sum_k a_k p^k on [0, 1/2] (Chebyshev interpolation of q(p))."""

    def q(p: np.ndarray) -> np.ndarray:
        safe = np.where(p > 0, p, 1.0)
        return np.where(p > 0, -np.log1p(-safe) / safe, 1.0)

    fit = np.polynomial.Chebyshev.interpolate(q, REST_DEGREE, domain=[0.0, 0.5])
    return tuple(float(a) for a in fit.convert(kind=np.polynomial.Polynomial).coef)


def _rest_entropy(state: dict[str, Tensor], log_mass: Tensor, mass: Tensor, logprob: Tensor, at_top: Tensor) -> Tensor:
    """-sum_{v != y} p_v ln(1 - p_v) from power sums; one maximum is taken apart, everything else has p <= 1/2."""
    total = torch.zeros_like(mass)
    own = torch.zeros_like(mass)
    p_target = logprob.exp()
    for k, a in zip(POWERS, _rest_coefficients(), strict=True):
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
        quarter = c.log() + (state["quarter"] / c).log1p()
        out["renyi_quarter"] = ((4 * quarter - log_mass) / 3).clamp_min(0.0)
        out["renyi_2"] = (2 * log_mass - c.log() - (state["power2"] / c).log1p()).clamp_min(0.0)
        out["logprob_second"] = state["second"] - state["m"] - log_mass  # -inf where all are equal: stored as NULL
        out["rest_entropy"] = _rest_entropy(state, log_mass, mass, logprob, target == state["m"])
        out["logprob_uniform"] = (state["total"] / state["finite"] - state["m"] - log_mass).clamp_max(0.0)
    return out
