"""Submission without a cluster: what is refused before anything is sent, what is sent, and how a job is followed."""

from __future__ import annotations

import asyncio
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from output import unfolded
from typer.testing import CliRunner

from jobs.cli import app
from jobs.job_file import job_verbs, read_job_file, words
from jobs.job_file.verbs import _commands, _parameters, fields_of
from jobs.submission import follow as following
from jobs.submission import paths
from jobs.submission.client import Job, SubmissionError, choose_address
from jobs.submission.follow import Shown, follow, show
from jobs.submission.options import SubmitOptions
from jobs.submission.request import Request
from jobs.submission.run import check, follow_to_end
from jobs.submission.show import record
from jobs.submission.staging import PACKAGES, staged
from pipelines.config import ConfigError

ROOT = Path(__file__).parents[2]
SCORE = {"model": "/models/m", "input": ["s3://b/c"], "lake": "s3://b/lake", "run_id": "monday"}
SECRET = "hunter-two-and-a-half"
HOSTILE = "\x1b[2J\x07name\u202e"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a job file of scoring into the folder that is then the current one."""
    monkeypatch.chdir(tmp_path)

    def write(**more: Any) -> Path:
        fields = {name: value for name, value in (SCORE | more).items() if value is not None}
        Path("job.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
        return Path("job.yaml")

    return write


def job(**more: Any) -> Job:
    fields: dict[str, Any] = {
        "id": "score-monday-1", "state": "RUNNING", "verb": "score", "lake": "l", "run_id": "monday", "key": "k",
        "started": datetime(2026, 11, 21, tzinfo=UTC), "ended": None, "message": "", "exit_code": None,
    }  # fmt: skip
    return Job(**(fields | more))


# What a file may ask for


def test_no_option_shows_a_secret() -> None:
    with pytest.raises(ValueError, match=r"(?s)env.*secrets.*pip.*metadata") as error:
        SubmitOptions.model_validate(
            {
                "env": {"AWS_SECRET_ACCESS_KEY": SECRET, "1x": "y"},
                "secrets": {"TOKEN": SECRET},
                "pip": [f"--index-url=https://me:{SECRET}@host/simple"],
                "metadata": {"password": SECRET},
                "address": f"https://me:{SECRET}@head:8265",
            }
        )
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("metadata", [{"assay_run_id": "x"}, {"assay_": "x"}])
def test_metadata_cannot_pass_for_ours(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="are set by assay submit"):
        SubmitOptions(metadata=metadata)


def test_a_faulty_file_is_refused_whole_before_any_address_is_asked(written: Callable[..., Path]) -> None:
    path = written(model=None, submit={"adress": "x", "env": {"MY_TOKEN": SECRET}}, contxt=3)
    result = CliRunner().invoke(app, ["submit", str(path)])
    said = unfolded(result.stderr)
    assert result.exit_code == 2
    for part in ("contxt: is not a field", "model: is needed", "submit.adress", "MY_TOKEN"):
        assert part in said
    assert SECRET not in said


# Local files


def test_small_files_go_along_and_other_local_paths_are_refused_at_once(written: Callable[..., Path]) -> None:
    Path("m").mkdir()
    Path("secret.yaml").write_text(f"key: k\nsecret: {SECRET}\n")
    path = written(
        model="m", input=["corpus/*.jsonl", "s3://b/c", "/shared/c"], lake="lake", storage_options="secret.yaml"
    )
    with pytest.raises(ConfigError) as error:
        check(path)
    lines = [line.strip() for line in str(error.value).splitlines()[1:]]
    assert sorted(line.partition(":")[0] for line in lines) == ["input", "lake", "model", "storage_options"]
    assert "holds credentials (key, secret)" in str(error.value)
    assert SECRET not in str(error.value)


def test_settings_without_credentials_go_along(written: Callable[..., Path]) -> None:
    Path("deep").mkdir()
    Path("deep/options.yaml").write_text("anon: true\n")
    checked = check(written(storage_options="deep/options.yaml", model="org/name"))
    assert [(file.name, file.content) for file in checked.files] == [("deep/options.yaml", b"anon: true\n")]
    with staged(checked.job, checked.files) as folder:
        assert (folder.folder / "deep" / "options.yaml").read_bytes() == b"anon: true\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../options.yaml", "leads out"),
        ("nothing.yaml", "No such file"),
        ("link.yaml", "is a link"),
        (".", "directory"),
    ],
)
def test_a_file_that_cannot_go_along(written: Callable[..., Path], name: str, why: str) -> None:
    Path("link.yaml").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match=f"storage_options: .*{why}"):
        check(written(storage_options=name))


def test_a_large_file_does_not_go_along(written: Callable[..., Path]) -> None:
    with Path("large.yaml").open("wb") as file:
        file.truncate(paths.LARGEST + 1)
    with pytest.raises(ConfigError, match="larger than 16 MiB"):
        check(written(storage_options="large.yaml"))


def test_no_file_lies_over_the_code(written: Callable[..., Path]) -> None:
    Path("jobs").mkdir()
    Path("jobs/options.yaml").write_text("anon: true\n")
    checked = check(written(storage_options="jobs/options.yaml"))
    with pytest.raises(ConfigError, match="give it another name"), staged(checked.job, checked.files):
        pass


def test_every_flag_that_takes_a_path_is_sorted() -> None:
    sorted_ones = paths.SETTINGS | paths.TABLES | paths.STORED | paths.HUB_OR_STORED
    for verb in job_verbs():
        if verb == ("nightly",):
            continue
        for name, hint, _, _ in _parameters(_commands()[verb]):
            if "Path" in str(hint) and name != "config":
                named = {name, name.removesuffix("_file")} & fields_of(verb).keys()
                assert named <= sorted_ones, (verb, name)


def test_what_a_night_is_compared_with_is_where_the_cluster_sees_it(written: Callable[..., Path]) -> None:
    benchmarks = [{"name": "here", "input": ["mmlu/*.jsonl"]}, {"name": "there", "input": ["/shared/m", "s3://b/m"]}]
    with pytest.raises(ConfigError) as error:
        check(written(run_id=None, nightly={"name": "web", "benchmarks": benchmarks}))
    assert [line.strip().partition(": ")[0] for line in str(error.value).splitlines()[1:]] == [
        "nightly.benchmarks.here.input"
    ]


# What is sent

_GIVEN = {int: 7, float: 0.5, bool: True}


@pytest.mark.parametrize("verb", job_verbs(), ids=" ".join)
def test_every_verb_can_be_submitted(tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Down to the command line that the uploaded file stands for, which is the one of the file here."""
    fields: dict[str, Any] = {"verb": " ".join(verb)}
    for name, field in fields_of(verb).items():
        if field.required or name == "lake":
            fields[name] = field.choices[0] if field.choices else _GIVEN.get(field.kind, "/shared/a")
    if verb == ("score",):
        fields = dict(SCORE)
    elif verb == ("nightly",):
        fields = {name: SCORE[name] for name in ("model", "input", "lake")} | {"nightly": {"name": "web"}}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(fields | {"submit": {"code": "image"}}))
    checked = check(path)
    assert checked.request.metadata["assay_verb"] == " ".join(verb)
    assert checked.request.next_id([]).startswith("-".join(verb))
    with staged(checked.job, checked.files) as folder:
        there = read_job_file(folder.folder / "job.yaml")
        assert [each.name for each in folder.folder.iterdir()] == ["job.yaml"]
    expected = words(checked.job)
    assert words(there) == (["nightly", str(there.path)] if verb == ("nightly",) else expected)


def test_the_code_that_is_uploaded_is_all_that_is_installed_and_runs(written: Callable[..., Path]) -> None:
    checked = check(written())
    with staged(checked.job, checked.files) as folder:
        there = {p.relative_to(folder.folder) for p in folder.folder.rglob("*") if p.is_file()}
        assert _in_a_wheel() | {Path("job.yaml")} <= there
        assert {path.parts[0] for path in there} == {*PACKAGES, "job.yaml"}
        assert not [path for path in there if "__pycache__" in path.parts]
        assert (folder.n_files, folder.n_bytes) == (
            len(there),
            sum((folder.folder / name).stat().st_size for name in there),
        )
        code = "import jobs.cli, operators; print(jobs.cli.__file__, operators.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder.folder, capture_output=True, text=True, timeout=60, check=True
        )
        assert all(name.startswith(str(folder.folder)) for name in done.stdout.split())


def _in_a_wheel() -> set[Path]:
    """The modules, and the files that are said to be package data: SQL and templates."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [(package, "**/*.py") for package in PACKAGES]
    patterns += [(package.replace(".", "/"), pattern) for package, named in data.items() for pattern in named]
    found = {path.relative_to(ROOT) for package, pattern in patterns for path in (ROOT / package).glob(pattern)}
    assert {".py", ".sql", ".jinja"} <= {path.suffix for path in found}
    return found


def test_a_file_that_changes_while_it_is_sent_is_refused(written: Callable[..., Path]) -> None:
    checked = check(written())
    for later in ("run_id: 2\n", "no job", ""):
        checked.job.path.write_text(later)
        with pytest.raises(ConfigError, match="changed while it was read"), staged(checked.job, checked.files):
            pass


def test_a_request_holds_references_nowhere_and_what_was_asked_for(written: Callable[..., Path]) -> None:
    submit = {
        "secrets": {"TOKEN": "env:HIDDEN_NAME"},
        "env": {"A": "1"},
        "pip": ["zstandard==0.23"],
        "entrypoint_num_cpus": 2,
        "metadata": {"team": "eval"},
    }
    request = check(written(submit=submit)).request
    assert request.runtime_env == {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "A": "1"},
        "pip": ["zstandard==0.23"],
    }
    assert request.resources == {"entrypoint_num_cpus": 2}
    assert request.entrypoint == "python -m jobs.cli run job.yaml"
    assert "HIDDEN_NAME" not in str(request)
    assert request.metadata == {
        "team": "eval",
        "assay_verb": "score",
        "assay_lake": "s3://b/lake",
        "assay_run_id": "monday",
        "assay_job": request.key,
    }


def test_what_writes_the_same_run_has_the_same_key(written: Callable[..., Path]) -> None:
    first = check(written()).request
    same = check(written(lake="s3://b/lake/", context=64, submit={"env": {"A": "1"}})).request
    others = [check(written(run_id="tuesday")).request, check(written(lake="s3://b/other")).request]
    assert first.key == same.key
    assert first.key not in {other.key for other in others}
    jobs = [
        job(id=f"{first.key}-1", key=first.key, state="STOPPED"),
        job(id=f"{first.key}-2", key=first.key, state="FAILED"),
        job(id=f"{first.key}-x", key="another"),
    ]
    assert first.under_way(jobs) is None
    assert first.next_id(jobs) == f"{first.key}-3"
    running = job(id="named-by-hand", key=first.key, state="PENDING")
    assert first.under_way([*jobs, running]) is running


@pytest.mark.parametrize("asked", ["../x", "a b", "", "-x", "x" * 129])
def test_an_id_that_is_no_file_name_is_refused(written: Callable[..., Path], asked: str) -> None:
    result = CliRunner().invoke(app, ["submit", str(written()), "--submission-id", asked, "--dry-run"])
    assert (result.exit_code, result.stderr.startswith("error: --submission-id: ")) == (2, True)


# Where it is sent


def test_the_address_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="--address: is needed"):
        choose_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    assert choose_address(None) == "cluster:6379"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://server:1")
    assert choose_address(None) == "http://server:1"
    assert choose_address(None, "http://file:2") == "http://file:2"
    assert choose_address("http://flag:3", "http://file:2") == "http://flag:3"


class _Answers(http.server.BaseHTTPRequestHandler):
    status = 404
    is_ray = False

    def do_GET(self) -> None:
        is_version = self.is_ray and self.path == "/api/version"
        self.send_response(200 if is_version else self.status)
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}' if is_version else b"no job server\x1b[2J")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[Callable[..., str]]:
    """Starts a web server that answers everything with one status, or all but the question for Ray's version."""
    servers: list[http.server.HTTPServer] = []

    def start(status: int, *, is_ray: bool = False) -> str:
        handler = type("Handler", (_Answers,), {"status": status, "is_ray": is_ray})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "why"), [(404, "is no Ray job server"), (200, "is no Ray job server"), (401, "RAY_AUTH_MODE=token")]
)
def test_what_answers_and_is_no_open_job_server(
    written: Callable[..., Path], web_server: Callable[..., str], status: int, why: str
) -> None:
    address = web_server(status)
    result = CliRunner().invoke(app, ["submit", str(written()), "--address", address])
    assert result.exit_code == 2
    assert why in result.stderr
    assert result.stderr.startswith(f"error: --address {address}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "status", "code", "why"),
    [
        (("list",), 500, 1, "the list of jobs: Request failed with status code 500: no job server\\x1b[2J."),
        (("status", "j"), 503, 1, "job j: Request failed with status code 503"),
        (("status", "j\x1b[2J"), 404, 2, "there is no job 'j\\x1b[2J' at this cluster"),
        (("stop", "../packages"), 500, 2, "there is no job '../packages' at this cluster"),
        (("logs", "j"), 404, 2, "there is no job 'j' at this cluster"),
        (("stop", "j"), 404, 2, "there is no job 'j' at this cluster"),
    ],
)
def test_a_job_server_that_refuses(
    web_server: Callable[..., str], words: tuple[str, ...], status: int, code: int, why: str
) -> None:
    result = CliRunner().invoke(app, ["job", *words, "--address", web_server(status, is_ray=True)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1), result.stderr
    assert why in result.stderr


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "https://127.0.0.1:{}/"])
def test_nothing_answers(written: Callable[..., Path], form: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = form.format(taken.getsockname()[1])  # bound, and nobody listens
        started = time.monotonic()
        result = CliRunner().invoke(app, ["job", "list", "--address", address])
        assert time.monotonic() - started < 30  # Ray by itself goes on for longer
    assert result.exit_code == 2
    assert result.stderr == f"error: --address {address}: no Ray job server answers there (Connection refused)\n"


@pytest.mark.parametrize(("form", "why"), [("https://{}", "speaks no TLS"), ("{}", "is no Ray job server")])
def test_the_protocol_of_an_address(web_server: Callable[..., str], form: str, why: str) -> None:
    address = form.format(web_server(404).removeprefix("http://"))
    result = CliRunner().invoke(app, ["job", "list", "--address", address])
    assert (result.exit_code, why in result.stderr, len(result.stderr.splitlines())) == (2, True, 1), result.stderr


def test_a_host_that_takes_a_connection_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.submission.client._FIRST_ANSWER", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = CliRunner().invoke(app, ["job", "status", "x", "--address", address])
    assert (result.exit_code, "(no answer in time)" in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "jobs://head", "os://x", "ftp://head:8265", "://"])
def test_an_address_of_another_kind_is_never_tried(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray imports the module that a scheme is called, and asks `ray://` for half a minute."""
    monkeypatch.setattr("jobs.submission.client._Client", None)
    result = CliRunner().invoke(app, ["job", "list", "--address", address])
    expected = f"error: --address {address}: expected the address of the head's dashboard, such as http://head:8265\n"
    assert (result.exit_code, result.stderr) == (2, expected)


def test_a_clusters_own_address_that_no_cluster_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would ask for 40 s."""
    monkeypatch.setattr("jobs.submission.client._CLUSTER_ANSWER", 0.2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        threading.Thread(target=_say_something_else, args=(other,), daemon=True).start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setattr("jobs.submission.client._Client", lambda *_, **__: time.sleep(5))
        result = CliRunner().invoke(app, ["job", "list", "--address", address])
    expected = f"error: --address {address}: no Ray job server answers there (no answer in time)\n"
    assert (result.exit_code, result.stderr) == (2, expected)


def _say_something_else(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.sendall(b"SSH-2.0-x\r\n")


def test_an_address_of_a_file_never_overrules_ours(
    web_server: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray lets its variables overrule the address that it is given."""
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    address = web_server(404)
    result = CliRunner().invoke(app, ["job", "list", "--address", address])
    assert "is no Ray job server" in result.stderr


# What becomes of it


@pytest.mark.parametrize(
    ("state", "exit_code", "verdict"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", None, 1), ("FAILED", -9, 137), ("STOPPED", None, 130)],
)
def test_the_exit_code_is_the_jobs(state: str, exit_code: int | None, verdict: int) -> None:
    assert job(state=state, exit_code=exit_code).verdict == verdict


class FakeClient:
    """A job whose log arrives over connections that break; `ends_after`: questions about its state."""

    def __init__(self, log: str, breaks: list[int], ends_after: int = 6) -> None:
        self.log, self.breaks, self.left = log, breaks, ends_after

    def get_job_info(self, job_id: str) -> Any:
        self.left -= 1
        state = "SUCCEEDED" if self.left <= 0 else "RUNNING"
        status = SimpleNamespace(value=state, is_terminal=lambda: state != "RUNNING")
        return SimpleNamespace(
            submission_id=job_id, job_id=None, status=status, metadata={}, start_time=1, end_time=2, message="",
            driver_exit_code=0,
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
    ended = follow(FakeClient(log, list(breaks)), "j", shown.append)  # type: ignore[arg-type]
    assert "".join(shown) == log
    assert ended.state == "SUCCEEDED"


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
def test_a_cluster_lost_for_good_ends_the_looking_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOST_AFTER", 0.05)
    with pytest.raises(SubmissionError, match="the job server does not answer"):
        follow(LostClient("", []), "j")  # type: ignore[arg-type]


class ForgetfulClient(FakeClient):
    def get_job_info(self, job_id: str) -> Any:
        if self.left <= 4:
            raise RuntimeError("Request failed with status code 404: Job j does not exist.")
        return super().get_job_info(job_id)


@pytest.mark.usefixtures("_quick")
def test_a_job_that_the_cluster_has_forgotten_is_no_mistake_of_ours() -> None:
    with pytest.raises(SubmissionError, match="the cluster has forgotten it"):
        follow(ForgetfulClient("", []), "j")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there is no job 'j'"):
        follow(ForgetfulClient("", [], ends_after=1), "j")  # type: ignore[arg-type]


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
            follow(client, "j", lambda _: None)  # type: ignore[arg-type]
        assert time.monotonic() - started < 30
    finally:
        client.over.set()


def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.submission.run.follow", interrupted)
    assert follow_to_end(None, "job-1", "http://h:1") == 130  # type: ignore[arg-type]
    assert "to stop it: assay job stop job-1 --address http://h:1" in capsys.readouterr().err


def test_hostile_text_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    show(f"{HOSTILE}\n")
    out = capsys.readouterr().out
    assert out == "\\x1b[2J\\x07name\\u202e\n"
    told = record(job(message=HOSTILE, lake=HOSTILE, run_id=HOSTILE, id=HOSTILE))
    assert all("\x1b" not in str(value) and "\u202e" not in str(value) for value in told.values())


def test_a_request_is_told_apart_by_the_night(written: Callable[..., Path]) -> None:
    path = written(run_id=None, nightly={"name": "web"})
    request = Request.of(read_job_file(path))
    assert request.metadata["assay_run_id"] == "web"
    assert request.key.startswith("nightly-web-")
