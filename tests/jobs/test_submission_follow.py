"""How a submitted job is followed: every character of its log once, its exit code, and what is said when it is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from submitted import submitted

from jobs.submission import follow as following
from jobs.submission.client import SubmissionError
from jobs.submission.follow import Shown, ended, follow, follow_to_end, show
from jobs.submission.show import record, run_stop
from pipelines.config import ConfigError

HOSTILE = "\x1b[2J\x07name\u202e"


@pytest.mark.parametrize(
    ("state", "exit_code", "verdict"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", None, 1), ("FAILED", -9, 137), ("STOPPED", None, 130)],
)
def test_the_exit_code_is_the_jobs(state: str, exit_code: int | None, verdict: int) -> None:
    assert submitted(state=state, exit_code=exit_code).verdict == verdict


def test_what_ended_a_driver_is_named() -> None:
    """Ray starts it with a shell: on a real head one that is killed ends with 137."""
    for code in (137, -9):
        killed = submitted(state="FAILED", exit_code=code)
        how = f"failed with exit code {code}: its driver was ended by SIGKILL (most often memory ran out there)"
        assert ended(killed).endswith(how)
        assert killed.was_cut_short
    assert ended(submitted(state="FAILED", exit_code=128 + 63)).endswith("was ended by signal 63")
    assert not submitted(state="FAILED", exit_code=3).was_cut_short
    assert ended(submitted(state="FAILED", exit_code=3)).endswith("failed with exit code 3")
    assert ended(submitted(state="FAILED", message=" no room\n")).endswith("failed: no room")


class FakeClient:
    """A job whose log arrives over connections that break; `ends_after`: questions about its state."""

    state = "RUNNING"

    def __init__(self, log: str, breaks: list[int], ends_after: int = 6) -> None:
        self.log, self.breaks, self.left = log, breaks, ends_after

    def get_job_info(self, job_id: str) -> Any:
        self.left -= 1
        state = "SUCCEEDED" if self.left <= 0 else self.state
        status = SimpleNamespace(value=state, is_terminal=lambda: state == "SUCCEEDED")
        return SimpleNamespace(
            submission_id=job_id, job_id=None, status=status, metadata={}, start_time=1, end_time=2,
            message="It waits for resources.", driver_exit_code=0,
        )  # fmt: skip

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        end = self.breaks.pop(0) if self.breaks else len(self.log)
        for at in range(0, end, 7):
            yield self.log[at : min(at + 7, end)]
            await asyncio.sleep(0)
        if end < len(self.log):
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_logs(self, job_id: str) -> str:
        return self.log


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ASK_EVERY", 0.01)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("breaks", [[], [0], [3, 50, 10], [1] * 30])
def test_every_character_of_a_log_is_shown_once(breaks: list[int]) -> None:
    log = "".join(f"line {n}\n" for n in range(30))
    shown: list[str] = []
    over = follow(FakeClient(log, list(breaks)), "j", shown.append, pytest.fail)  # type: ignore[arg-type]
    assert "".join(shown) == log
    assert over.state == "SUCCEEDED"


def test_a_stream_that_starts_over_goes_on_where_it_was() -> None:
    written: list[str] = []
    shown = Shown(written.append)
    for stream in (["ab", "cd"], ["a"], ["abc", "def"], ["abcdef"], ["abcdefg"]):
        shown.start_over()
        for text in stream:
            shown.add(text)
    assert "".join(written) == "abcdefg"


class LostClient(FakeClient):
    def get_job_info(self, job_id: str) -> Any:
        raise ConnectionError("gone")


@pytest.mark.usefixtures("_quick")
def test_a_cluster_lost_for_good_ends_the_looking_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(following, "LOST_AFTER", 0.5)
    monkeypatch.setattr(following, "TOLD_AFTER", 0.0)
    with pytest.raises(SubmissionError) as error:
        follow_to_end(LostClient("", []), "j", "http://h:1")  # type: ignore[arg-type]
    assert str(error.value).splitlines() == [
        "job j: the job server does not answer (gone)",
        "once the cluster answers: assay job logs j --follow --address http://h:1",
        "where the job is gone: submit the same file again, and it goes on from what is done",
    ]
    told = capsys.readouterr().err.splitlines()
    assert told == ["job j: the job server does not answer (gone); asking on, for 0 s in all"]


class PendingClient(FakeClient):
    state = "PENDING"


@pytest.mark.usefixtures("_quick")
def test_why_a_job_has_not_begun_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "TOLD_AFTER", 0.0)
    told: list[str] = []
    follow(PendingClient("", []), "j", pytest.fail, told.append)  # type: ignore[arg-type]
    assert told == ["job j is pending: It waits for resources."]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")])
def test_what_cannot_be_shown_ends_the_looking_on(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """`assay submit --follow | head`, or a disk that is full: the job would be followed for hours, for nobody."""

    def write(_: str) -> None:
        raise error

    client = FakeClient("some lines", [], ends_after=1 << 30)
    monkeypatch.setattr(following, "show", write)
    with pytest.raises(SubmissionError, match=f"cannot be shown .{error.strerror}., and the job goes on"):
        follow_to_end(client, "j", "http://h:1")  # type: ignore[arg-type]


class ForgetfulClient(FakeClient):
    def get_job_info(self, job_id: str) -> Any:
        if self.left <= 4:
            raise RuntimeError("Request failed with status code 404: Job j does not exist.")
        return super().get_job_info(job_id)


@pytest.mark.usefixtures("_quick")
def test_a_job_that_the_cluster_has_forgotten_is_no_mistake_of_ours() -> None:
    with pytest.raises(SubmissionError, match="the cluster has forgotten it"):
        follow(ForgetfulClient("", []), "j", print, pytest.fail)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there is no job 'j'"):
        follow(ForgetfulClient("", [], ends_after=1), "j", print, pytest.fail)  # type: ignore[arg-type]


class StalledClient(FakeClient):
    """A head that takes a question and answers in a minute."""

    def __init__(self) -> None:
        super().__init__("", [])
        self.asked, self.over = threading.Event(), threading.Event()

    def get_job_info(self, job_id: str) -> Any:
        self.asked.set()
        self.over.wait(60)
        raise ConnectionError("gone")


def test_ctrl_c_waits_for_no_answer() -> None:
    client = StalledClient()

    def press() -> None:
        client.asked.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            follow(client, "j", print, print)  # type: ignore[arg-type]
        assert time.monotonic() - started < 30
    finally:
        client.over.set()


def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.submission.follow.follow", interrupted)
    assert follow_to_end(None, "job-1", "http://h:1") == 130  # type: ignore[arg-type]
    assert "to stop it: assay job stop job-1 --address http://h:1" in capsys.readouterr().err


def test_a_job_that_waits_for_room_cannot_be_stopped_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray tells the driver's supervisor, which is not there yet."""
    client = PendingClient("", [], ends_after=1 << 30)
    monkeypatch.setattr(client, "stop_job", lambda _: True, raising=False)
    monkeypatch.setattr("jobs.submission.show.connect", lambda _: client)
    monkeypatch.setattr("jobs.submission.show.STOP_SECONDS", 0.0)
    assert run_stop("j", "http://h:1") == 1
    assert "has not after 0 s; it has not started: it ends once it does" in capsys.readouterr().err


def test_hostile_text_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    show(f"{HOSTILE}\t1\n")
    out = capsys.readouterr().out
    assert out == "\\x1b[2J\\x07name\\u202e\t1\n"
    told = record(submitted(message=HOSTILE, lake=HOSTILE, run_id=HOSTILE, id=HOSTILE))
    assert all("\x1b" not in str(value) and "\u202e" not in str(value) for value in told.values())
