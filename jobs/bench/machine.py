"""What a record says of the machine it was made on: versions, processor, memory, accelerator. No host names.

Nothing here needs Ray, DuckDB or torch to be installed: what is missing is left out.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from operators.machine import usable_cores

# Packages that a speed or a result may depend on.
_PACKAGES = (
    *("corpus-assay", "torch", "triton", "transformers", "tokenizers", "numpy", "pyarrow", "duckdb", "ray"),
    *("lm-eval", "minicons", "datatrove", "spacy"),
)


def versions() -> dict[str, str]:
    """Versions of the packages that are installed here."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int | float]:
    """Processor, usable cores, memory in GiB, system, one-minute load and, where there is one, the CUDA device."""
    facts: dict[str, str | int | float] = {
        "processor": processor(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "machine": platform.machine(),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 2),
    }
    accelerator = cuda_device()
    return facts if accelerator is None else {**facts, "accelerator": accelerator}


def hardware() -> str:
    """The machine's name in a record's file name: `h100`, `cpu-2-cores`."""
    accelerator = cuda_device()
    return f"cpu-{usable_cores()}-cores" if accelerator is None else short_name(accelerator)


def short_name(accelerator: str) -> str:
    """`NVIDIA H100 80GB HBM3` -> `h100`: the model's name if there is one, else the whole in small letters."""
    model = re.search(r"\b[A-Z]{1,3}\d{2,4}[A-Z]?\b", accelerator)
    return (model[0] if model else re.sub(r"\W+", "-", accelerator).strip("-")).lower()


def cuda_device() -> str | None:
    """Name of the first CUDA device, None where there is none."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def processor() -> str:
    """The processor's name with family and model, which tell generations of one name apart."""
    fields: dict[str, str] = {}
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
