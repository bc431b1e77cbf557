"""Checks what a file that was made of runs says of its origin: its name, and whether they are now as they were then."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial

import pyarrow as pa

from operators.lake import Lake, Part
from operators.scores.origin import Origin, State, corpus_state, parse_origin, run_state
from operators.storage.object_error import ObjectError
from operators.verify.faults import BROKEN, Finding, Kind


def origin_findings(lake: Lake, part: Part, schema: pa.Schema, command: str) -> Generator[Finding, None, Origin | None]:
    """Findings of a file's origin, which is returned; None where it says none. `command` makes the file again."""
    try:
        origin = parse_origin(schema)
    except ValueError as error:
        yield Kind.SCHEMA, str(error)
        return None
    if origin.part_name != part.name:
        yield Kind.NAME, f"what it was made from makes the name {origin.part_name}"
    if part.run_id not in origin.states:
        yield Kind.STALE, f"does not say of which state of its run it is: `{command}` computes it again"
    yield from state_findings(lake, origin.states, command)
    for corpus, counts in sorted(origin.corpora.items()):
        yield from _changed(f"the count of corpus {corpus!r}", counts, partial(corpus_state, lake, corpus), command)
    return origin


def state_findings(lake: Lake, states: Mapping[str, State], command: str) -> Iterator[Finding]:
    """Of runs that something was made from: those that are no longer in the state that they were in."""
    for run_id, state in sorted(states.items()):
        yield from _changed(f"run {run_id!r}", state, partial(_run_now, lake, run_id), command)


def _run_now(lake: Lake, run_id: str) -> State:
    return run_state(lake.read_run(run_id))


def _changed(what: str, then: object, now: Callable[[], object], command: str) -> Iterator[Finding]:
    try:
        state = now()
    except FileNotFoundError:
        yield Kind.STALE, f"made from {what}, which is gone"
    except ObjectError:
        raise  # the storage failed: that says nothing about the file
    except BROKEN:
        pass  # a broken ledger, or broken counts, are a fault of their own
    else:
        if state != then:
            yield Kind.STALE, f"made from {what} as it was before: `{command}` computes it again"
