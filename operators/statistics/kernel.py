"""The fused head in Triton: a tile of logits is made and folded into the rows' states without leaving the registers.

    program (i, j)   rows i*BM ..: for the tiles of split j of the vocabulary, in order:
                         l = X @ W_tile.T, float32 (+ bias; masked beyond V; the target's own column pinned)
                         state = merge(state, state of l)
                     -> parts[:, j, rows]

What a state holds and how two are merged is said in `state.py`, and the entries stand in its order. There are no
atomics, and the order of every sum is fixed by the tile shape and the number of splits: equal rows give equal bits,
whatever stands around them. Programs with the same split run side by side and read the same part of `W`, once from
memory.

With TRITON_INTERPRET=1 before the first import of triton the same code runs on any device through the interpreter.

Shapes: `R` rows, `D` width, `V` vocabulary, `P` splits, `S` state entries; BM rows, BN columns, BK widths of a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

_FLOOR = tl.constexpr(-87.0)  # as FLOOR in state.py
_MASKED = tl.constexpr(-1e18)  # columns beyond V: far below any logit, and its square times 0 is still 0
_LAST_POWER = tl.constexpr(11)  # of POWERS in state.py
_POWER_SLOTS = tl.constexpr(16)

# tanh(x) = x - x^3 q(x^2) for |x| <= 0.6, q through Chebyshev nodes; beyond, 1 - 2 / (exp(2x) + 1) cancels little.
_TANH_BORDER = tl.constexpr(0.6)


@triton.jit
def _exp(x, INTERPRETED: tl.constexpr):
    """exp(x), x <= 0, results below 1e-38 as 0: what handles them costs as much as the exponential itself."""
    if INTERPRETED:
        return tl.exp2(x * 1.4426950408889634)
    return tl.inline_asm_elementwise(
        "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x * 1.4426950408889634], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def _tanh(x):
    y = tl.minimum(x * x, 0.36)
    q = -2.370765624e-03 * y + 8.410070785e-03
    q = q * y - 2.178832199e-02
    q = q * y + 5.396155178e-02
    q = q * y - 1.333331287e-01
    q = q * y + 3.333333323e-01
    near = x - x * y * q
    size = tl.minimum(tl.abs(x), 20.0)
    far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    return tl.where(tl.abs(x) <= _TANH_BORDER, near, tl.where(x < 0, -far, far))


@triton.jit
def _final(raw, scale, cap, SHAPED: tl.constexpr, CAPPED: tl.constexpr):
    """Final logits of raw ones; what is NaN or masked stays so."""
    out = raw
    if CAPPED:
        out = tl.where((raw <= _MASKED) | (raw != raw), raw, _tanh(raw * (scale / cap)) * cap)
    elif SHAPED:
        out = tl.where(raw <= _MASKED, raw, raw * scale)
    return out


@triton.jit
def _products(
    x_rows,
    w_rows,
    D,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    EVEN: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """`[BM, BN]` float32 products of rows of X and rows of W, given pointers to their first elements.

    INTERPRETED: the interpreter's product takes bfloat16 for integers and rounds by place; sums of ours do neither.
    """
    acc = tl.zeros((BM, BN), tl.float32)
    width = tl.arange(0, BK)
    x_at = x_rows[:, None] + width[None, :]
    w_at = w_rows[None, :] + width[:, None]
    for k in range(0, D, BK):
        if EVEN:
            x = tl.load(x_at + k)
            w = tl.load(w_at + k)
        else:
            x = tl.load(x_at + k, mask=width[None, :] < D - k, other=0.0)
            w = tl.load(w_at + k, mask=width[:, None] < D - k, other=0.0)
        if INTERPRETED:
            acc += tl.sum(x.to(tl.float32)[:, :, None] * w.to(tl.float32)[None, :, :], 1)
        else:
            acc = tl.dot(x, w, acc, input_precision="ieee")
    return acc


@triton.jit
def _copied_products(
    x_RD, w_VD, row, column, D, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, INTERPRETED: tl.constexpr
):
    """As `_products`, from tensor descriptors: the device's copy engine fetches tiles, and zeros beyond the edges."""
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, D, BK):
        x = x_RD.load([row, k])
        w = w_VD.load([column, k])
        if INTERPRETED:
            acc += tl.sum(x.to(tl.float32)[:, None, :] * w.to(tl.float32)[None, :, :], 2)
        else:
            acc = tl.dot(x, w.T, acc, input_precision="ieee")
    return acc


@triton.jit
def target_logits(
    x_RD, w_VD, bias_V, target_R, out_R, D,
    BIAS: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """Raw logit of each row's target: the diagonal of a product that adds up as the tiles' do, so that ties stay."""
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    target = tl.load(target_R + row)
    block = _products(x_RD + row.to(tl.int64) * D, w_VD + target * D, D, BM, BM, BK, EVEN, INTERPRETED)
    at = tl.arange(0, BM)
    logit = tl.sum(tl.where(at[:, None] == at[None, :], block, 0.0), 1)
    if BIAS:
        logit += tl.load(bias_V + target).to(tl.float32)
    tl.store(out_R + row, logit)


@triton.jit
def block_logits(
    x_RD, w_VD, bias_V, block_RK, target_R, target_logit_R, out_RC, V, D, K,
    BIAS: tl.constexpr, BLOCK: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """Raw logits of one chosen block of columns of one row: program (row, k) -> out[row, k*BLOCK : (k+1)*BLOCK]."""
    row, k = tl.program_id(0), tl.program_id(1)
    column = tl.load(block_RK + row * K + k).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    # One row fills the 16 that a tensor core takes: what bounds this is reading the weights.
    x_rows = x_RD + (row + tl.zeros((16,), tl.int32)).to(tl.int64) * D
    w_rows = w_VD + tl.minimum(column, V - 1).to(tl.int64) * D
    tile = _products(x_rows, w_rows, D, 16, BLOCK, BK, EVEN, INTERPRETED)
    logit = tl.max(tile, 0)
    if BIAS:
        logit += tl.load(bias_V + tl.minimum(column, V - 1)).to(tl.float32)
    logit = tl.where(column == tl.load(target_R + row), tl.load(target_logit_R + row), logit)
    logit = tl.where(column < V, logit, -float("inf"))
    tl.store(out_RC + row.to(tl.int64) * (K * BLOCK) + k * BLOCK + tl.arange(0, BLOCK), logit)


@triton.jit
def _tile(
    x_RD, w_VD, bias_V, row, target, target_logit, tile, V, D, BIAS: tl.constexpr, DESCRIBED: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """Raw logits `[BM, BN]` of one tile of columns and the columns' ids; a row's target has exactly its own logit."""
    column = tile * BN + tl.arange(0, BN)
    safe = tl.minimum(column, V - 1)
    if DESCRIBED:
        raw = _copied_products(x_RD, w_VD, tl.program_id(0) * BM, tile * BN, D, BM, BN, BK, INTERPRETED)
    else:
        w_rows = w_VD + safe.to(tl.int64) * D
        raw = _products(x_RD + row.to(tl.int64) * D, w_rows, D, BM, BN, BK, EVEN, INTERPRETED)
    if BIAS:
        raw += tl.load(bias_V + safe).to(tl.float32)[None, :]
    # Both are rare: a tile holds the target of some row, or reaches beyond the vocabulary.
    if tl.max(((target >= tile * BN) & (target < tile * BN + BN)).to(tl.int32), 0) > 0:
        raw = tl.where(column[None, :] == target[:, None], target_logit[:, None], raw)
    if tile * BN + BN > V:
        raw = tl.where(column[None, :] < V, raw, _MASKED)
    return raw, column


@triton.jit
def _common(m, tile_m):
    """The common maximum of two parts, and of each: its shift to that maximum, the shift's exponential, and whether it
    has that maximum itself."""
    new_m = tl.maximum(m, tile_m)
    base = tl.where(new_m == -float("inf"), 0.0, new_m)
    shift, tile_shift = tl.maximum(m - base, _FLOOR), tl.maximum(tile_m - base, _FLOOR)
    return new_m, shift, tile_shift, tl.exp(shift), tl.exp(tile_shift), m == new_m, tile_m == new_m


@triton.jit
def _merge_moments(mass, s1, m2, tile_mass, tile_s1, tile_m2):
    """First and centred second moment of two parts whose sums are about the same maximum."""
    tile_mean = tile_s1 / tile_mass
    apart = tile_mean - tl.where(mass > 0, s1 / tl.where(mass > 0, mass, 1.0), tile_mean)
    return s1 + tile_s1, m2 + tile_m2 + apart * apart * (mass * (tile_mass / (mass + tile_mass)))


@triton.jit
def _merge_powers(powers, c, tile_c, rest, weight, tile_weight, keeps, tile_keeps):
    """Sums of exp(k d) over what is below the maximum, k = 2.. in the slots of the same number."""
    slot = tl.arange(0, _POWER_SLOTS)
    power, weight_k, tile_weight_k = rest, weight, tile_weight
    for k in tl.static_range(2, _LAST_POWER + 1):
        power, weight_k, tile_weight_k = power * rest, weight_k * weight, tile_weight_k * tile_weight
        tile_power = tl.sum(power, 1)
        old = tl.sum(tl.where(slot[None, :] == k, powers, 0.0), 1)
        new = tl.where(keeps, old, weight_k * (c + old)) + tl.where(
            tile_keeps, tile_power, tile_weight_k * (tile_c + tile_power)
        )
        powers = tl.where(slot[None, :] == k, new[:, None], powers)
    return powers


@triton.jit
def _about(logit, tile_m, BIAS: tl.constexpr):
    """Distances to the tile's maximum, as they are and above the floor: a bias is the only way to a logit of -inf,
    which must stay out of products."""
    gap = logit - tl.where(tile_m == -float("inf"), 0.0, tile_m)[:, None]
    d = gap
    if BIAS:
        d = tl.maximum(d, _FLOOR, propagate_nan=tl.PropagateNan.ALL)
    return gap, d


@triton.jit
def _merge_roots(part, c, weight, keeps, tile_part, tile_c, tile_weight, tile_keeps):
    """Sums of a root of exp(d) over what is below the maximum, of two parts weighted by that root of their shifts."""
    return tl.where(keeps, part, weight * (c + part)) + tl.where(
        tile_keeps, tile_part, tile_weight * (tile_c + tile_part)
    )


@triton.jit
def _store_maxima(maxima_RB, raw, row, tile, N_BLOCKS, BM: tl.constexpr, BN: tl.constexpr, TOPK_BLOCK: tl.constexpr):
    if TOPK_BLOCK > 0:
        block_max = tl.max(tl.reshape(raw, (BM, BN // TOPK_BLOCK, TOPK_BLOCK)), 2)
        block = tile * (BN // TOPK_BLOCK) + tl.arange(0, BN // TOPK_BLOCK)
        at = maxima_RB + row.to(tl.int64)[:, None] * N_BLOCKS + block[None, :]
        tl.store(at, block_max, mask=block[None, :] < N_BLOCKS)


@triton.jit
def _store_groups(
    at, stride, top1, over, half, quarter, second, total, finite, powers,
    EXTREMES: tl.constexpr, NUCLEUS: tl.constexpr, RENYI: tl.constexpr,
):  # fmt: skip
    """The entries of the optional groups, in the order of `state.py`."""
    if EXTREMES:
        tl.store(at, top1)
        at += stride
    if NUCLEUS:
        tl.store(at, over)
        at += stride
    if RENYI:
        tl.store(at, half)
        tl.store(at + stride, quarter)
        tl.store(at + 2 * stride, tl.where(second <= _MASKED, -float("inf"), second))
        tl.store(at + 3 * stride, total)
        tl.store(at + 4 * stride, finite)
        slot = tl.arange(0, _POWER_SLOTS)
        for k in tl.static_range(2, _LAST_POWER + 1):
            tl.store(at + (3 + k) * stride, tl.sum(tl.where(slot[None, :] == k, powers, 0.0), 1))


@triton.jit
def fused_head(
    x_RD, w_VD, bias_V, target_R, target_logit_R, parts_SPR, maxima_RB,
    V, D, R, N_BLOCKS, tiles_per_split, scale, cap,
    BIAS: tl.constexpr, SHAPED: tl.constexpr, CAPPED: tl.constexpr,
    EXTREMES: tl.constexpr, NUCLEUS: tl.constexpr, RENYI: tl.constexpr, TOPK_BLOCK: tl.constexpr,
    DESCRIBED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    """States of the rows (`R` is the length of a row of `parts_SPR`) over each split of the vocabulary.

    `x_RD`, `w_VD`: pointers, or descriptors of blocks `[BM, BK]` and `[BN, BK]` if DESCRIBED.

    `maxima_RB`: largest raw logit of each block of TOPK_BLOCK columns, `N_BLOCKS` a row; untouched if TOPK_BLOCK is 0.
    """
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    split = tl.program_id(1)
    target = tl.load(target_R + row).to(tl.int32)
    target_logit = tl.load(target_logit_R + row)
    final_target = _final(target_logit, scale, cap, SHAPED, CAPPED)

    m = tl.full((BM,), -float("inf"), tl.float32)
    second = m
    top1 = tl.full((BM,), float("inf"), tl.float32)
    c = tl.zeros((BM,), tl.float32)
    r, s1, m2, greater, over, half, quarter, total, finite = c, c, c, c, c, c, c, c, c
    powers = tl.zeros((BM, _POWER_SLOTS), tl.float32)

    first_tile = split * tiles_per_split
    last_tile = tl.minimum(first_tile + tiles_per_split, tl.cdiv(V, BN))
    for tile in range(first_tile, last_tile):
        raw, column = _tile(
            x_RD, w_VD, bias_V, row, target, target_logit, tile, V, D, BIAS, DESCRIBED, BM, BN, BK, EVEN, INTERPRETED
        )
        _store_maxima(maxima_RB, raw, row, tile, N_BLOCKS, BM, BN, TOPK_BLOCK)
        logit = _final(raw, scale, cap, SHAPED, CAPPED)

        # The tile about its own maximum. NaN is not at the top, so it stays in `rest` and breaks the row, as it must.
        tile_m = tl.max(logit, 1)
        gap, d = _about(logit, tile_m, BIAS)
        e = _exp(d, INTERPRETED)
        at_top = logit >= tile_m[:, None]
        rest = tl.where(at_top, 0.0, e)
        # Of both: a soft-cap can make unequal raw logits equal.
        above = (raw > target_logit[:, None]) & (logit > final_target[:, None])
        tile_c = tl.sum(at_top.to(tl.float32), 1)
        tile_r = tl.sum(rest, 1)
        tile_s1 = tl.sum(d * e, 1)
        centred = d - (tile_s1 / (tile_c + tile_r))[:, None]
        tile_m2 = tl.sum(centred * centred * e, 1)
        greater += tl.sum(above.to(tl.float32), 1)

        old_m = m
        m, shift, tile_shift, weight, tile_weight, keeps, tile_keeps = _common(m, tile_m)
        if RENYI:
            powers = _merge_powers(powers, c, tile_c, rest, weight, tile_weight, keeps, tile_keeps)
            tile_half = tl.sum(tl.where(at_top, 0.0, _exp(d / 2, INTERPRETED)), 1)
            half = _merge_roots(
                half, c, tl.exp(shift / 2), keeps, tile_half, tile_c, tl.exp(tile_shift / 2), tile_keeps
            )
            # Without the floor, whose fourth root is not nothing; a part of masked logits alone has the weight 0.
            base = tl.where(m == -float("inf"), 0.0, m)
            tile_quarter = tl.sum(tl.where(at_top, 0.0, _exp(gap / 4, INTERPRETED)), 1)
            weight_4, tile_weight_4 = tl.exp((old_m - base) / 4), tl.exp((tile_m - base) / 4)
            quarter = _merge_roots(quarter, c, weight_4, keeps, tile_quarter, tile_c, tile_weight_4, tile_keeps)
            # What is not the common maximum any more is a candidate for the second place.
            tile_second = tl.max(tl.where(at_top, -float("inf"), logit), 1)
            second = tl.maximum(second, tl.where(tile_keeps, tile_second, tile_m))
            second = tl.maximum(second, tl.where(keeps, -float("inf"), old_m))
            is_finite = logit > _MASKED
            total += tl.sum(tl.where(is_finite, logit, 0.0), 1)
            finite += tl.sum(is_finite.to(tl.float32), 1)
        if NUCLEUS:
            over = weight * over + tile_weight * tl.sum(tl.where(above, e, 0.0), 1)
        if EXTREMES:
            lowest = tl.min(tl.where(at_top, column[None, :].to(tl.float32), float("inf")), 1)
            top1 = tl.minimum(tl.where(keeps, top1, float("inf")), tl.where(tile_keeps, lowest, float("inf")))
        old_mass, tile_mass = c + r, tile_c + tile_r
        s1, tile_s1 = weight * (s1 + shift * old_mass), tile_weight * (tile_s1 + tile_shift * tile_mass)
        old_mass, tile_mass = weight * old_mass, tile_weight * tile_mass
        s1, m2 = _merge_moments(old_mass, s1, weight * m2, tile_mass, tile_s1, tile_weight * tile_m2)
        r = tl.where(keeps, r, old_mass) + tl.where(tile_keeps, tile_r, tile_mass)
        c = tl.where(keeps, c, 0.0) + tl.where(tile_keeps, tile_c, 0.0)

    stride = tl.num_programs(1).to(tl.int64) * R
    at = parts_SPR + split.to(tl.int64) * R + row
    tl.store(at, m)
    tl.store(at + stride, c)
    tl.store(at + 2 * stride, r)
    tl.store(at + 3 * stride, s1)
    tl.store(at + 4 * stride, m2)
    tl.store(at + 5 * stride, greater)
    _store_groups(
        at + 6 * stride, stride, top1, over, half, quarter, second, total, finite, powers, EXTREMES, NUCLEUS, RENYI
    )
