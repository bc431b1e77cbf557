"""Follows a submitted job to its end: its log as it grows, over connections that may be lost.

state, asked for again and again
log, streamed; begun anew after a lost connection, from the character that was shown last
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from jobs.errors import printable
from jobs.submission.client import Job, SubmissionError, aside, job_of
from operators.storage.remote import redact
from pipelines.config import ConfigError

INTERRUPTED = 130
GO_ON = "to go on from there: submit the same file again"
ASK_EVERY = 2.0  # seconds between questions about the state
TOLD_AFTER = 10.0  # seconds of waiting, for a job's start or for an answer, before that is said
LOST_AFTER = 120.0  # seconds without any answer
LAST_LINES = 5.0  # seconds for the stream to end by itself after the job

_LOST = (RuntimeError, OSError, aiohttp.ClientError, AuthenticationError)  # what a connection may end with

Write = Callable[[str], None]
T = TypeVar("T")


def follow_to_end(client: JobSubmissionClient, job_id: str, address: str) -> int:
    """Show a job's log until it is over; its exit code, or 130 where Ctrl-C ended the looking on.

    Raises:
        ConfigError: there is no such job.
        SubmissionError: the cluster was lost, or the log cannot be written.
    """
    look = f"assay job logs {job_id} --follow --address {address}"
    try:
        job = follow(client, job_id, show, say)
    except KeyboardInterrupt:
        say(f"job {job_id} goes on; to look on: {look}; to stop it: assay job stop {job_id} --address {address}")
        return INTERRUPTED
    except SubmissionError as error:
        raise SubmissionError(
            f"{error}\nonce the cluster answers: {look}\nwhere the job is gone: submit the same file again, and it "
            "goes on from what is done"
        ) from None
    except OSError as error:
        why = error.strerror or error
        raise SubmissionError(
            f"the log of job {job_id} cannot be shown ({why}), and the job goes on\nto look on: {look}"
        ) from None
    say(ended(job))
    if job.was_cut_short:
        say(GO_ON)
    return job.verdict


def follow(client: JobSubmissionClient, job_id: str, write: Write, tell: Write) -> Job:
    """Give the job's log to `write` until the job is over; the job as it ended. `tell`: of waiting, a line a cause.

    Raises:
        ConfigError: there is no such job.
        SubmissionError: no answer for two minutes, and the job itself may go on; or the cluster has forgotten it.
        OSError: of `write`, where nobody reads any more, or a disk is full; the job goes on.
        KeyboardInterrupt: Ctrl-C; the job goes on.
    """
    return asyncio.run(_follow(client, job_id, Shown(write), tell))


def ended(job: Job) -> str:
    """How a job ended, in a line, and of one that never started why."""
    how = f"job {job.id} {job.state.lower()}"
    if job.exit_code is not None:
        how += f" with exit code {job.exit_code}"
    if job.state != "FAILED":
        return how
    if job.signal is not None:
        return f"{how}: its driver was ended by {_signal_name(job.signal)}"
    return f"{how}: {job.message.strip()}" if job.exit_code is None and job.message else how


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (most often memory ran out there)" if name == "SIGKILL" else name


def say(text: str) -> None:
    """To standard error: standard output is the job's own log."""
    print(printable(redact(text)), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """To standard output, harmless for a terminal: a log may hold anything."""
    sys.stdout.write("\t".join(map(printable, text.split("\t"))))
    sys.stdout.flush()


class Shown:
    """What of a log has been shown: a stream that starts over goes on from there."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._shown = 0  # characters
        self._passed = 0  # of the stream at hand

    def start_over(self) -> None:
        self._passed = 0

    def add(self, text: str) -> None:
        fresh = text[max(0, self._shown - self._passed) :]
        self._passed += len(text)
        self._shown = max(self._shown, self._passed)
        if fresh:
            self._write(fresh)


async def _follow(client: JobSubmissionClient, job_id: str, shown: Shown, tell: Write) -> Job:
    stream = asyncio.create_task(_stream(client, job_id, shown))
    end = asyncio.create_task(_ended(client, job_id, tell))
    try:
        await asyncio.wait({stream, end}, return_when=asyncio.FIRST_COMPLETED)
        if stream.done():
            stream.result()  # raises what could not be written: nobody would see the rest
        job = await end
        await asyncio.wait({stream}, timeout=LAST_LINES)
        if stream.done():
            stream.result()
    finally:
        stream.cancel()
        end.cancel()
        await asyncio.gather(stream, end, return_exceptions=True)
    rest = ""
    with contextlib.suppress(*_LOST):
        rest = await _asked(lambda: client.get_job_logs(job_id))
    shown.start_over()
    shown.add(rest)  # what the stream has not brought
    return job


def _asked(call: Callable[[], T]) -> asyncio.Future[T]:
    """Of asyncio's own threads each would be waited for at the end, up to a minute where the head has stalled."""
    return asyncio.wrap_future(aside(call))


async def _ended(client: JobSubmissionClient, job_id: str, tell: Write) -> Job:
    """The job once it is over.

    Raises:
        ConfigError: there is no such job.
        SubmissionError: there is none any more, or no answer for long.
    """
    job: Job | None = None
    begun = heard = time.monotonic()
    told: set[str] = set()
    while True:
        waits = ""
        try:
            job = await _asked(lambda: job_of(client, job_id))
        except SubmissionError as error:
            silent = time.monotonic() - heard
            if silent > LOST_AFTER:
                raise
            waits = f"{error}; asking on, for {LOST_AFTER:.0f} s in all" if silent > TOLD_AFTER else ""
        except ConfigError:
            if job is None:
                raise
            raise SubmissionError(f"job {job_id}: the cluster has forgotten it; was its head started anew?") from None
        else:
            heard = time.monotonic()
            if job.is_over:
                return job
            if job.state == "PENDING" and heard - begun > TOLD_AFTER:
                waits = f"job {job_id} is pending: {job.message}"
        if waits and waits not in told:
            told.add(waits)
            tell(waits)
        await asyncio.sleep(ASK_EVERY)


async def _stream(client: JobSubmissionClient, job_id: str, shown: Shown) -> None:
    """Show the log as it comes, until the server ends it; over again where the connection is lost.

    Raises:
        OSError: it cannot be written.
    """
    while True:
        shown.start_over()
        async for text in _received(client, job_id):
            shown.add(text)
        with contextlib.suppress(*_LOST):
            if (await _asked(lambda: client.get_job_info(job_id))).status.is_terminal():
                return
        await asyncio.sleep(ASK_EVERY)


async def _received(client: JobSubmissionClient, job_id: str) -> AsyncIterator[str]:
    """The log from its beginning, until the server ends it or the connection is lost."""
    with contextlib.suppress(*_LOST):
        async for text in client.tail_job_logs(job_id):
            yield text
