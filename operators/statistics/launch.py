"""How the fused head is launched: tile shapes worth trying, the measurement, and its memory between runs.

A choice changes the last bits of a result (sums are grouped by tiles), so it is made once for a kind of device and a
shape of head, and kept on disk: a second run takes the same. `--deterministic` takes `DEFAULT_LAUNCH` and measures
nothing.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from operators.failures import raise_if_out_of_memory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """Tile of `rows` x `columns` logits, made `widths` of the model's width at a time.

    `described`: tiles of the factors are fetched through tensor descriptors, by the copy engine of Hopper and later.
    """

    rows: int
    columns: int
    widths: int
    warps: int
    stages: int
    described: bool = False


DEFAULT_LAUNCH = Launch(128, 128, 64, warps=8, stages=3)
LAUNCHES = (
    DEFAULT_LAUNCH,
    Launch(128, 128, 64, warps=4, stages=3),
    Launch(128, 128, 64, warps=8, stages=4),
    Launch(128, 256, 64, warps=8, stages=3),
    Launch(64, 256, 64, warps=4, stages=3),
    Launch(64, 256, 64, warps=8, stages=4),
    Launch(64, 128, 64, warps=4, stages=4),
    Launch(128, 128, 64, warps=4, stages=3, described=True),
    Launch(128, 128, 64, warps=8, stages=4, described=True),
    Launch(128, 256, 64, warps=8, stages=3, described=True),
    Launch(64, 128, 64, warps=4, stages=4, described=True),
)

Trial = Callable[[Launch], Callable[[], None]]


def tuned(key: Mapping[str, object], trial: Trial) -> Launch:
    """The fastest launch for `key`: remembered, or measured now by `trial(launch)`, which may refuse by raising."""
    path = cache_folder() / "launches" / f"{sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError):
        known = Launch(**json.loads(path.read_text())["launch"])
        if known in LAUNCHES:
            return known
    milliseconds = _measure(trial)
    if not milliseconds:
        log.warning("no launch of the head's kernel could be measured: the default is taken")
        return DEFAULT_LAUNCH
    best = min(milliseconds, key=lambda launch: milliseconds[launch])
    log.info("head kernel: %s takes %.2f ms, the slowest %.2f ms", best, milliseconds[best], max(milliseconds.values()))
    _write(path, {"key": dict(key), "launch": asdict(best)})
    return best


def cache_folder() -> Path:
    """Where measurements are kept on this machine: `$XDG_CACHE_HOME/assay`, in the home folder otherwise."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "assay"


def _measure(trial: Trial) -> dict[Launch, float]:
    """Median milliseconds of every launch that this device takes."""
    from triton.testing import do_bench

    found = {}
    for launch in LAUNCHES:
        try:
            found[launch] = float(do_bench(trial(launch), warmup=20, rep=60, return_mode="median"))
        except Exception as error:  # too much shared memory, too many registers: each device refuses in its own way
            raise_if_out_of_memory(error)
            log.debug("%s cannot run here: %s", launch, error)
    return found


def _write(path: Path, value: object) -> None:
    """Whole or not at all; a folder that cannot be written costs the next run its measurement, nothing else."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, suffix=".tmp") as file:
            json.dump(value, file, indent=1)
        Path(file.name).replace(path)
