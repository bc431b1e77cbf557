"""Credentials given for a run appear nowhere: not in the lake, Ray's files, output, errors or a process list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3
import small

from pipelines.config import ConfigError, ScoreConfig, read_storage_options

SECRETS = (s3.KEY.encode(), s3.SECRET.encode())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("s3") / "root"
    (root / "bucket" / "in").mkdir(parents=True)
    small.write_corpus(root / "bucket" / "in" / "corpus.jsonl", 20)
    with s3.server(root) as running:
        yield running


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Short, because Ray's sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="as-", dir="/tmp") as folder:
        yield Path(folder)


def leaks(folder: Path) -> list[str]:
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return [str(p) for p in files if any(secret in p.read_bytes() for secret in SECRETS)]


class ProcessList(threading.Thread):
    """Looks at every command line while it runs; the server's own is the one that may hold its key."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: set[bytes] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if any(secret in line for secret in SECRETS) and b"serve" not in line:
                    self.found.add(line)


def assay(*args: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_"))}
    command = [sys.executable, "-c", "from jobs.cli import main; main()", *args]
    return subprocess.run(
        command, env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.cluster
@pytest.mark.slow
def test_a_run_on_s3_leaves_no_credential(
    model_folder: Path, server: s3.Server, tmp_path: Path, ray_folder: Path
) -> None:
    """Those in a file, which the driver sends to workers; and those in the environment, which workers inherit."""
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"s3": server.options}))
    file = ["--storage-options", str(options)]
    checksums = {k: v for k, v in server.environment.items() if "CHECKSUM" in k}
    ray = {"RAY_TMPDIR": str(ray_folder)}
    watch = ProcessList()
    watch.start()
    done = assay(
        "score", "--model", str(model_folder), "--input", "s3://bucket/in/", "--lake", "s3://bucket/lake",
        "--run-id", "run", "--id-column", "id", "--context", "64", "--actors", "1", *file,
        environment={**ray, **server.environment},
    )  # fmt: skip
    asked = assay("sql", "s3://bucket/lake", "select count(*) as n from documents", environment=server.environment)
    failed = assay("verify", "s3://no-such-bucket/lake", *file, environment=checksums)
    watch.ended.set()
    watch.join()
    assert done.returncode == 0, done.stderr
    assert "20" in asked.stdout
    assert failed.returncode
    for output in (done, asked, failed):
        assert not any(secret.decode() in output.stdout + output.stderr for secret in SECRETS)
    assert watch.found == set()
    assert leaks(server.root) == []
    assert leaks(ray_folder) == []
    assert any(ray_folder.rglob("*.log"))  # it is Ray's session that was searched


def test_a_wrong_secret_is_not_echoed(model_folder: Path, server: s3.Server, tmp_path: Path) -> None:
    wrong = "wrong-secret-of-mine"
    options = tmp_path / "options.yaml"
    options.write_text(json.dumps({**server.options, "secret": wrong}))
    done = assay(
        "score", "--model", str(model_folder), "--input", "s3://bucket/in/", "--lake", "s3://bucket/never",
        "--run-id", "run", "--engine", "inline", "--storage-options", str(options), environment={},
    )  # fmt: skip
    assert done.returncode == 2
    assert wrong not in done.stdout + done.stderr
    assert s3.KEY not in done.stdout + done.stderr


def test_credentials_on_the_command_line_are_refused(model_folder: Path) -> None:
    done = assay(
        "score", "--model", str(model_folder), "--input", "s3://bucket/in/", "--lake", "lake", "--run-id", "run",
        "--storage-options", json.dumps({"key": "abcdefgh", "secret": "ijklmnop"}), environment={},
    )  # fmt: skip
    assert done.returncode == 2
    assert "holds credentials (key, secret), which every process list shows" in done.stderr
    assert "ijklmnop" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "uri",
    [
        "https://h/a.jsonl?X-Goog-Signature=s3cret",
        "https://h/a.jsonl?Expires=5&Signature=s3cret",
        "https://h/a.jsonl?AWSAccessKeyId=s3cret",
        "https://h/a.jsonl?X-Amz-Credential=s3cret",
        "https://a.blob.core.windows.net/c/a.jsonl?sv=2022-11-02&se=2027&sig=s3cret",
        "https://h/a.jsonl?access_token=s3cret",
        "https://h/a.jsonl?api_key=s3cret",
        "https://h/a.jsonl?key=s3cret",
        "zip://a.jsonl::https://bob:s3cret@h/a.zip",
    ],
)
@pytest.mark.parametrize("field", ["input", "lake", "model"])
def test_signed_urls_are_refused_and_not_echoed(field: str, uri: str) -> None:
    with pytest.raises(ConfigError, match=f"--{field}: the .* URI holds credentials") as raised:
        ScoreConfig.parse(**{"model": "m", "input": "i", "lake": "l", "run_id": "r", field: uri})
    assert "s3cret" not in str(raised.value)


def test_inline_options_are_searched_for_credentials() -> None:
    for options in (
        {"client_kwargs": {"headers": {"Authorization": "Bearer s3cret"}}},
        {"abfs": {"connection_string": "AccountName=a;AccountKey=s3cret"}},
        {"s3": {"endpoint_url": "http://me:s3cret@host"}},
        {"hosts": [{"password": "s3cret"}]},
    ):
        with pytest.raises(ConfigError, match="--storage-options holds credentials") as raised:
            read_storage_options(json.dumps(options))
        assert "s3cret" not in str(raised.value)
    harmless = {"s3": {"anon": True, "config_kwargs": {"signature_version": "s3v4"}}, "gs": {"token": "anon"}}
    assert read_storage_options(json.dumps(harmless)) == harmless


def test_options_that_are_no_file_are_not_echoed() -> None:
    for text in ('[{"secret": "s3cret"}]', "secret: s3cret", "secret=s3cret"):
        with pytest.raises(ConfigError, match=r"--storage-options: .*; give a file") as raised:
            read_storage_options(text)
        assert "s3cret" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"--storage-options gone/options\.yaml: No such file"):
        read_storage_options("gone/options.yaml")
