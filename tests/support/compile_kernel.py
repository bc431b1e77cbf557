"""Compile the head's kernels for a CUDA capability that this machine has not; one JSON line a kernel.

python compile_kernel.py 90
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import Any

import triton
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from operators.statistics import kernel
from operators.statistics.launch import DEFAULT_LAUNCH, LAUNCHES

TYPES = {
    **dict.fromkeys(("x_RD", "w_VD", "bias_V"), "*bf16"),
    **dict.fromkeys(("target_R", "block_RK"), "*i64"),
    **dict.fromkeys(("target_logit_R", "parts_SPR", "maxima_RB", "out_R", "out_RC"), "*fp32"),
    **dict.fromkeys(("V", "D", "R", "K", "N_BLOCKS", "tiles_per_split"), "i32"),
    **dict.fromkeys(("scale", "cap"), "fp32"),
}
NO_GROUPS = dict.fromkeys(("EXTREMES", "NUCLEUS", "RENYI"), False) | {"TOPK_BLOCK": 0}
ALL_GROUPS = dict.fromkeys(("EXTREMES", "NUCLEUS", "RENYI"), True) | {"TOPK_BLOCK": 32}
PRODUCTS = re.compile(r"(wgmma\.mma_async|mma\.sync|tcgen05\.mma)")


def build(name: str, constants: dict[str, Any], warps: int, stages: int, capability: int) -> dict[str, Any]:
    function = getattr(kernel, name)
    names = function.arg_names
    types = dict(TYPES)
    if constants.get("DESCRIBED"):
        for argument, rows in (("x_RD", constants["BM"]), ("w_VD", constants["BN"])):
            types[argument] = f"tensordesc<bf16[{rows}, {constants['BK']}]>"
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if types.get(n, "").startswith("*") or n in "DR"
    }
    source = ASTSource(
        fn=function,
        signature={n: types.get(n, "constexpr") for n in names},
        constexprs={(names.index(n),): value for n, value in constants.items()},
        attrs=aligned,
    )
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages})
    usage = _usage(made.asm["cubin"])
    return {
        "kernel": name,
        "products": sorted(set(PRODUCTS.findall(made.asm["ptx"]))),
        "registers": int(usage["REG"]),
        "stack_bytes": int(usage["STACK"]),
        "shared_bytes": made.metadata.shared,
    }


def _usage(cubin: bytes) -> dict[str, str]:
    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True, timeout=60
        )
    return dict(re.findall(r"(\w+):(\d+)", done.stdout))


def main(capability: int) -> None:
    same = {"BIAS": False, "EVEN": True, "INTERPRETED": False}
    launches = LAUNCHES if capability == 90 else (DEFAULT_LAUNCH,)
    for groups, launch in [*((NO_GROUPS, one) for one in launches), (ALL_GROUPS, DEFAULT_LAUNCH)]:
        tile = {"BM": launch.rows, "BN": launch.columns, "BK": launch.widths}
        constants = {**same, **groups, **tile, "SHAPED": False, "CAPPED": False, "DESCRIBED": launch.described}
        line = build("fused_head", constants, launch.warps, launch.stages, capability)
        print(json.dumps({**line, "launch": astuple(launch), "groups": groups["RENYI"]}))
    odd = {"BIAS": True, "EVEN": False, "SHAPED": True, "CAPPED": True, "DESCRIBED": False, "INTERPRETED": False}
    tile = {"BM": DEFAULT_LAUNCH.rows, "BN": DEFAULT_LAUNCH.columns, "BK": DEFAULT_LAUNCH.widths}
    line = build("fused_head", {**odd, **ALL_GROUPS, **tile}, DEFAULT_LAUNCH.warps, DEFAULT_LAUNCH.stages, capability)
    print(json.dumps({**line, "launch": astuple(DEFAULT_LAUNCH), "groups": True}))
    widths = {"BK": DEFAULT_LAUNCH.widths}
    print(json.dumps(build("target_logits", {**same, **widths, "BM": 64}, 4, 3, capability)))
    print(json.dumps(build("block_logits", {**same, **widths, "BLOCK": 32}, 4, 3, capability)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
