"""The job server of a Ray cluster: found, asked, and its answers as records.

address -> connect -> JobSubmissionClient -> Job
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests
from ray.exceptions import AuthenticationError, RpcError
from ray.job_submission import JobSubmissionClient

from pipelines.config import ConfigError

_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_FIRST_ANSWER = (4.0, 5.0)  # seconds to connect, and between bytes of the answer: 9 in all where nothing is there
_CLUSTER_ANSWER = 4.5  # seconds in all, of a cluster's own address
_PATIENCE = (10.0, 60.0)
_UPLOAD_PATIENCE = (10.0, 600.0)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LOGGERS = (  # of Ray's client: they set their own level to INFO
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


T = TypeVar("T")


class SubmissionError(RuntimeError):
    """The job server was there, and failed or was lost; the job itself goes on."""


class _Client(JobSubmissionClient):  # type: ignore[misc]  # Ray has no types
    """Ray's client, which would wait for an answer for ever."""

    asked = False

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        patience = _UPLOAD_PATIENCE if method == "PUT" else _PATIENCE if self.asked else _FIRST_ANSWER
        return super()._do_request(method, endpoint, **{"timeout": patience, **options})


@dataclass(frozen=True)
class Job:
    """What the job server says of a submitted job. `state`: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED; times in
    UTC; `exit_code`: of its driver, None while it runs and where it was stopped or never started."""

    id: str
    state: str
    verb: str | None
    lake: str | None
    run_id: str | None
    key: str | None
    started: datetime | None
    ended: datetime | None
    message: str
    exit_code: int | None

    @classmethod
    def of(cls, details: Any) -> Job:
        metadata: Mapping[str, str] = details.metadata or {}
        return cls(
            id=str(details.submission_id or details.job_id),
            state=str(details.status.value),
            verb=metadata.get("assay_verb"),
            lake=metadata.get("assay_lake"),
            run_id=metadata.get("assay_run_id"),
            key=metadata.get("assay_job"),
            started=_time(details.start_time),
            ended=_time(details.end_time),
            message=details.message or "",
            exit_code=details.driver_exit_code,
        )

    @property
    def is_over(self) -> bool:
        return self.state in ("STOPPED", "SUCCEEDED", "FAILED")

    @property
    def signal(self) -> int | None:
        """The signal that ended its driver: 128 + n as the shell tells that Ray starts it with, -n as Ray does."""
        code = self.exit_code or 0
        return -code if code < 0 else code - 128 if 128 < code <= 192 else None

    @property
    def was_cut_short(self) -> bool:
        """Whether it was stopped, or ended by a signal of another's."""
        return self.state == "STOPPED" or self.signal is not None

    @property
    def verdict(self) -> int:
        """The exit code of a command that waited for it: the job's own; 130 where it was stopped, as Ctrl-C has it; 1
        where it never started; 128 + n where signal n ended it."""
        if self.state == "STOPPED":
            return 130
        if self.exit_code is None:
            return 0 if self.state == "SUCCEEDED" else 1
        return self.exit_code if self.signal is None else 128 + self.signal


def choose_address(given: str | None, of_file: str | None = None) -> str:
    """--address, else the job file's, else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS.

    Raises:
        ConfigError: there is none.
    """
    address = given or of_file or next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)
    if address is None:
        raise ConfigError(
            "--address: is needed: of the head's dashboard, such as http://head:8265 (or submit.address in the job "
            "file, or RAY_API_SERVER_ADDRESS in the environment)"
        )
    return address


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server at `address`, which has answered.

    Raises:
        ConfigError: none answers there within 10 s, or it wants a token, or the address is of another kind.
    """
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    shown = f"--address {address}"
    if "://" in address and not re.match(r"https?://", address):  # Ray would import a module of the scheme's name
        raise ConfigError(f"{shown}: expected the address of the head's dashboard, such as http://head:8265")
    try:
        with _no_other_address():
            client = _client(_with_scheme(address))
    except AuthenticationError:
        raise ConfigError(
            f"{shown}: it wants another token, or any: set RAY_AUTH_MODE=token, and the cluster's token as "
            "RAY_AUTH_TOKEN or in the file that RAY_AUTH_TOKEN_PATH names"
        ) from None
    except (RuntimeError, requests.exceptions.JSONDecodeError, KeyError, TypeError):
        raise ConfigError(f"{shown}: what answers there is no Ray job server; the dashboard's port is 8265") from None
    except (OSError, ValueError, RpcError) as error:  # of `requests`, and a ConnectionError of Ray's
        raise ConfigError(f"{shown}: no Ray job server answers there ({_reason(error)})") from None
    client.asked = True
    return client


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns what goes wrong between us and the job server into one line that begins with `what`.

    Raises:
        SubmissionError: it does not answer, or says that it failed.
    """
    try:
        yield
    except (OSError, requests.RequestException) as error:
        raise SubmissionError(f"{what}: the job server does not answer ({_reason(error)})") from None
    except (RuntimeError, AuthenticationError) as error:
        raise SubmissionError(f"{what}: {_first_line(error)}") from None


def check_id(job_id: str) -> str:
    """An id that a job may have: it becomes part of URLs and of file names on the head.

    Raises:
        ValueError: it has other characters than letters, digits, `.`, `_` and `-`, or is too long.
    """
    if not _ID.fullmatch(job_id):
        raise ValueError("letters, digits, '.', '_' and '-' make an id, 128 at most, a letter or digit first")
    return job_id


def job_of(client: JobSubmissionClient, job_id: str) -> Job:
    """What there is to know of a job.

    Raises:
        ConfigError: there is none of this id.
        SubmissionError: the server does not answer.
    """
    with asking(f"job {job_id}"):
        try:
            check_id(job_id)
            return Job.of(client.get_job_info(job_id))
        except ValueError:
            pass
        except RuntimeError as error:
            if "status code 404" not in str(error):
                raise
    raise ConfigError(f"there is no job {job_id!r} at this cluster; `assay job list` shows those there are")


def jobs_of(client: JobSubmissionClient) -> list[Job]:
    """Every submitted job, the oldest first."""
    with asking("the list of jobs"):
        found = [Job.of(details) for details in client.list_jobs() if details.type.value == "SUBMISSION"]
    return sorted(found, key=lambda job: (job.started or datetime.min.replace(tzinfo=UTC), job.id))


def aside(call: Callable[[], T]) -> Future[T]:
    """What `call` gives, from a thread that nobody need wait for: neither Ctrl-C nor the end of the process does."""
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer


@contextlib.contextmanager
def _no_other_address() -> Iterator[None]:
    """Ray lets these variables overrule the address that it is given."""
    kept = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _client(address: str) -> _Client:
    """Raises:
    TimeoutError: a cluster's own address, which Ray would ask for 40 s, says nothing.
    """
    verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    if "://" in address:
        return _Client(address, verify=verify)
    return aside(lambda: _Client(address, verify=verify)).result(_CLUSTER_ANSWER)


def _with_scheme(address: str) -> str:
    """`host:8265` as a URL, where something speaks HTTP there; else as Ray takes it: a cluster's own address."""
    if "://" in address or ":" not in address:
        return address
    url = f"http://{address}"
    try:
        requests.get(f"{url}/api/version", timeout=_FIRST_ANSWER)
    except (requests.ConnectTimeout, requests.ConnectionError) as error:
        if _reason(error) != _NO_HTTP:  # nothing there at all: Ray would look for a cluster for long
            return url
        return address
    except requests.RequestException:
        return address
    return url


_NO_HTTP = "what answers there does not speak HTTP"


def _reason(error: BaseException) -> str:
    """In a few words: what lies at the bottom of an error of a connection."""
    below: BaseException | None = error
    chain: list[BaseException] = []
    while below is not None and below not in chain:
        chain.append(below)
        inner = next((each for each in below.args if isinstance(each, BaseException)), None)
        reason = getattr(inner or below, "reason", None)
        below = inner or (reason if isinstance(reason, BaseException) else None) or below.__cause__ or below.__context__
    names = " ".join(type(each).__name__ for each in chain)
    if any(isinstance(each, ssl.SSLError) for each in chain):
        return "its certificate is not trusted, or it speaks no TLS: REQUESTS_CA_BUNDLE names a file of authorities"
    if "Timeout" in names or any(isinstance(each, TimeoutError) for each in chain):
        return "no answer in time"
    if "NameResolution" in names or "gaierror" in names:
        return "no such host"
    if "RemoteDisconnected" in names or "BadStatusLine" in names or "InvalidHeader" in names:
        return _NO_HTTP
    said = next((each.strerror for each in reversed(chain) if isinstance(each, OSError) and each.strerror), None)
    return said or _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
