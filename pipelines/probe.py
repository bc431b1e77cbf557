"""Tells which files end the process that reads them, by reading each in a process of its own.

A decoder that crashes on a hostile file takes its worker along. When the same unit has lost its reader again and again,
the driver reads the unit's files here, one process each, and rejects those that end it twice; the rest is read as ever.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from pipelines.causes import in_one_line
from pipelines.claims import DEATHS_OF_BLOCK, Claims, counted

log = logging.getLogger(__name__)

TRIES = 2
CHILD = "from pipelines.probe import read_job; read_job()"
_DYING = re.compile(r"^ReaderDiesError: reading unit (\d+) of the input ended its process")
SECONDS = 3600.0  # for one file: it is not slowness that is looked for


@dataclass(frozen=True)
class Dying:
    """What is known of readers that were killed: units whose files were `probed`, and files found to be `killers`."""

    probed: frozenset[int] = frozenset()
    killers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Dying:
        return cls() if stored is None else cls(frozenset(stored["probed"]), frozenset(stored["killers"]))

    def to_json(self) -> dict[str, Any]:
        return {"probed": sorted(self.probed), "killers": sorted(self.killers)}

    def with_probed(self, unit: int, found: Iterable[str]) -> Dying:
        return Dying(self.probed | {unit}, self.killers | set(found))

    @contextlib.contextmanager
    def reading(self, unit: int, verb: str, claims: Claims) -> Iterator[None]:
        """Around whatever reads files of a unit.

        Raises:
            ReaderDiesError: earlier readers were killed there, and nobody has looked for the cause yet.
        """
        with counted(f"{verb} {unit}", claims) as deaths:
            if deaths >= DEATHS_OF_BLOCK and unit not in self.probed:
                raise ReaderDiesError.of(unit)
            yield


class ReaderDiesError(RuntimeError):
    """Reading a unit ended its process again and again."""

    @classmethod
    def of(cls, unit: int) -> ReaderDiesError:
        return cls(f"reading unit {unit} of the input ended its process again and again")


def dying_unit(error: BaseException) -> int | None:
    """The unit that a `ReaderDiesError` names; None for any other error. An engine may hand on its text alone."""
    match = _DYING.search(in_one_line(error))
    return None if match is None else int(match[1])


def killers(pieces: Iterable[Piece], options: ReadOptions, storage_options: Mapping[str, Any] | None) -> list[str]:
    """The URIs among `pieces` of which reading ends the process, `TRIES` times out of as many."""
    found: list[str] = []
    for piece in pieces:
        uri = piece.shard.uri
        if uri not in found and all(_dies(piece, options, storage_options) for _ in range(TRIES)):
            log.warning("%s ends the process that reads it: it is rejected", uri)
            found.append(uri)
    return found


def _dies(piece: Piece, options: ReadOptions, storage_options: Mapping[str, Any] | None) -> bool:
    """Whether a process that reads `piece` is ended by a signal. An error that it raises is for the run to show."""
    job = pickle.dumps((piece, options, dict(storage_options or {})))  # by pipe: a command line is public
    command = [sys.executable, "-c", CHILD]
    try:
        ended = subprocess.run(
            command, input=job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode < 0


def read_job() -> None:
    """Read what standard input asks for, in the child."""
    piece, options, storage_options = pickle.loads(sys.stdin.buffer.read())
    for _ in read_pieces([piece], options, storage_options=storage_options):
        pass
