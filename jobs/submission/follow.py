"""Follows a submitted job to its end: its log as it grows, over connections that may be lost.

state, asked for again and again
log, streamed; begun anew after a lost connection, from the character that was shown last
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from jobs.errors import printable
from jobs.submission.client import Job, SubmissionError, aside, job_of
from pipelines.config import ConfigError

ASK_EVERY = 2.0  # seconds between questions about the state
LOST_AFTER = 120.0  # seconds without any answer
LAST_LINES = 5.0  # seconds for the stream to end by itself after the job

Write = Callable[[str], None]
T = TypeVar("T")


def follow(client: JobSubmissionClient, job_id: str, write: Write | None = None) -> Job:
    """Show the job's log until the job is over; the job as it ended.

    Raises:
        ConfigError: there is no such job.
        SubmissionError: no answer for two minutes, and the job itself goes on; or the cluster has forgotten it.
        KeyboardInterrupt: Ctrl-C; the job goes on.
    """
    return asyncio.run(_follow(client, job_id, Shown(write or show)))


def show(text: str) -> None:
    """To standard output, harmless for a terminal: a log may hold anything."""
    sys.stdout.write(printable(text))
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


async def _follow(client: JobSubmissionClient, job_id: str, shown: Shown) -> Job:
    stream = asyncio.create_task(_stream(client, job_id, shown))
    try:
        job = await _ended(client, job_id)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(stream), LAST_LINES)
    finally:
        stream.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stream
    shown.start_over()
    with contextlib.suppress(RuntimeError, OSError, requests.RequestException):  # what the stream has not brought
        shown.add(await _asked(lambda: client.get_job_logs(job_id)))
    return job


def _asked(call: Callable[[], T]) -> asyncio.Future[T]:
    """Of asyncio's own threads each would be waited for at the end, up to a minute where the head has stalled."""
    return asyncio.wrap_future(aside(call))


async def _ended(client: JobSubmissionClient, job_id: str) -> Job:
    """The job once it is over.

    Raises:
        ConfigError: there is no such job.
        SubmissionError: there is none any more, or no answer for long.
    """
    job: Job | None = None
    heard = time.monotonic()
    while True:
        try:
            job = await _asked(lambda: job_of(client, job_id))
        except SubmissionError:
            if time.monotonic() - heard > LOST_AFTER:
                raise
        except ConfigError:
            if job is None:
                raise
            raise SubmissionError(f"job {job_id}: the cluster has forgotten it; was its head started anew?") from None
        else:
            heard = time.monotonic()
            if job.is_over:
                return job
        await asyncio.sleep(ASK_EVERY)


async def _stream(client: JobSubmissionClient, job_id: str, shown: Shown) -> None:
    """Show the log as it comes, until the server ends it; over again where the connection is lost."""
    while True:
        shown.start_over()
        with contextlib.suppress(RuntimeError, OSError, aiohttp.ClientError, AuthenticationError):
            async for text in client.tail_job_logs(job_id):
                shown.add(text)
            if (await _asked(lambda: client.get_job_info(job_id))).status.is_terminal():
                return
        await asyncio.sleep(ASK_EVERY)
