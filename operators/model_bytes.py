"""How many bytes a model's weights take on a device, by the headers of its files; and a refusal where they do not fit.

Nothing is loaded: a safetensors file opens with the dtype and shape of every tensor. Format:
https://huggingface.co/docs/safetensors (eight bytes of length, little-endian, then JSON).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from operators.machine import machine_memory
from operators.model_files import Dtype, ModelError

if TYPE_CHECKING:
    import torch

LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
         "F4": 4, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64}  # fmt: skip
_FLOATING = ("F16", "BF16", "F32", "F64")
_CAST = {"float32": 32, "bfloat16": 16, "float16": 16}


def weight_bytes(folder: Path, dtype: Dtype = "auto") -> int:
    """Bytes of all weights, floating ones in `dtype`; auto: as the config says, else as they are stored.

    Raises:
        ModelError: a header that is none.
    """
    bits = _CAST.get(_wanted(folder, dtype))
    return sum(_tensor_bytes(tensor, bits, path) for path in _files(folder) for tensor in _tensors(path))


def check_fits(folder: Path, dtype: Dtype, limit: int, where: str, remedy: str) -> None:
    """Raise ModelError, with what to do, if the weights alone take more than `limit` bytes; `where` has them."""
    needed = weight_bytes(folder, dtype)
    if needed > limit:
        in_dtype = _wanted(folder, dtype) or "the dtype it is stored in"
        raise ModelError(
            f"model {folder}: its weights take {gib(needed)} in {in_dtype}, and {where} has {gib(limit)} for them: "
            f"{remedy}. A model is not split over devices"
        )


def check_device(folder: Path, dtype: Dtype, device: torch.device, share: float) -> None:
    """Raise ModelError if a model does not fit into this machine's device, or into a share of it."""
    narrower = "" if _wanted(folder, dtype) in ("bfloat16", "float16") else "--dtype bfloat16, "
    if device.type != "cuda":
        check_fits(folder, dtype, machine_memory(), "this machine", f"choose {narrower}a smaller model or more memory")
        return
    import torch

    total = torch.cuda.get_device_properties(device).total_memory
    name = f"GPU {torch.cuda.get_device_name(device)}"
    if share < 1:
        name, narrower = f"{share:g} of {name}", f"{narrower}a larger --gpus-per-actor, "
    check_fits(
        folder,
        dtype,
        int(share * total),
        name,
        f"choose {narrower}a smaller model or a GPU of more memory (--accelerator-type picks it among several kinds)",
    )


def gib(n_bytes: int) -> str:
    """`14.5 GiB`, `0.3 MiB`."""
    return f"{n_bytes / 2**30:,.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.1f} MiB"


def _wanted(folder: Path, dtype: Dtype) -> str:
    """The name of the dtype that weights are cast to, "" for the stored one."""
    if dtype != "auto":
        return dtype
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""  # whoever reads the config says so
    if not isinstance(config, dict):
        return ""
    levels = [level for level in (config, config.get("text_config")) if isinstance(level, dict)]
    return str(next((level[n] for level in levels for n in ("dtype", "torch_dtype") if level.get(n)), ""))


def _files(folder: Path) -> list[Path]:
    """The files that are loaded: those of the index, or the single one; some folders hold the weights twice."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = {
                Path(str(name)).name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            }
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ModelError(f"model {folder}: {index.name} is no index of weights") from None
        return [folder / name for name in sorted(names) if (folder / name).is_file()]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else sorted(folder.glob("*.safetensors"))


def _tensors(path: Path) -> list[Any]:
    """The entries of a file's header."""
    try:
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            if n_bytes > LARGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(n_bytes))
        return [entry for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"model {path}: not a safetensors file ({str(error)[:100]})") from None


def _tensor_bytes(tensor: Any, cast_bits: int | None, path: Path) -> int:
    try:
        kind, numbers = str(tensor["dtype"]), math.prod(int(n) for n in tensor["shape"])
        bits = cast_bits if cast_bits and kind in _FLOATING else _BITS[kind]
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"model {path}: a tensor of an unknown dtype or shape") from None
    return -(-numbers * bits // 8)
