"""Claims that hold work back until a test lets it go on, and that say which actors have loaded their model.

begin(name) writes <folder>/begun/<name>, then waits while a file in <folder>/held/ is named by its first word or
first two words: `score` holds every block that is to be scored, `read 3` the reading of unit 3
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.ray_claims import PlacedClaims, RayClaims, beside_driver

SECONDS = 240.0  # for what a test waits for to come true: seconds, where nothing else runs
_LOADING = "loading the model in actor "


class HeldClaims(PlacedClaims):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def begin(self, name: str, node: str) -> list[str]:
        before = super().begin(name, node)
        (self.folder / "begun" / name.replace("/", "-")).touch()
        words = name.split()
        wait_until(lambda: not any((self.folder / "held" / w).exists() for w in (words[0], " ".join(words[:2]))))
        return before

    def end(self, name: str) -> None:
        super().end(name)
        if name.startswith(_LOADING):
            (self.folder / "loaded" / name.removeprefix(_LOADING)).touch()


class Gate:
    """The driver's side. `hold` and `release` take names as above."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("begun", "held", "loaded"):
            (folder / name).mkdir(parents=True)

    def claims(self) -> RayClaims:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import what only tests can
        remote: Any = ray.remote(**beside_driver(), max_concurrency=100, max_restarts=-1)(HeldClaims)
        return RayClaims(remote.remote(str(self.folder)))

    def hold(self, *names: str) -> None:
        for name in names:
            (self.folder / "held" / name).touch()

    def release(self, name: str) -> None:
        (self.folder / "held" / name).unlink(missing_ok=True)

    def release_all(self) -> None:
        for path in (self.folder / "held").iterdir():
            path.unlink()

    @property
    def loaded(self) -> set[str]:
        """The actors that have loaded their model."""
        return {path.name for path in (self.folder / "loaded").iterdir()}

    def begun(self, verb: str) -> int:
        return sum(path.name.startswith(f"{verb} ") for path in (self.folder / "begun").iterdir())


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Return as soon as `condition()` holds.

    Raises:
        TimeoutError: it never did.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test waits for did not happen")
        time.sleep(0.05)
