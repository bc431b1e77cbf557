"""Options by protocol, patience, and secrets kept out of messages."""

from __future__ import annotations

import errno

import pytest

from operators.storage import remote
from operators.storage.remote import may_pass, options_for, patiently, redact, secret_names

OPTIONS = {"key": "AKIAEXAMPLE", "secret": "very-secret-value", "client_kwargs": {"aws_session_token": "tok-en-123"}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(remote, "LONGEST_PAUSE", 0.002)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/key", {"anon": True}),
        ("s3a://bucket/key", {"anon": True}),
        ("gs://bucket/key", {"token": "anon"}),
        ("/local/path", {}),
        ("file:///local/path", {}),
        ("memory://x", {}),
        ("zip://a.txt::s3://bucket/x.zip", {"anon": True}),
    ],
)
def test_options_by_protocol(uri: str, expected: dict[str, object]) -> None:
    assert options_for(uri, {"s3": {"anon": True}, "gs": {"token": "anon"}}) == expected


def test_flat_options_are_for_every_remote_uri() -> None:
    flat = {"anon": True, "client_kwargs": {"region_name": "eu-west-1"}}
    assert options_for("s3://b/k", flat) == flat
    assert options_for("gs://b/k", flat) == flat
    assert options_for("/path", flat) == {}
    assert options_for("s3://b/k", None) == {}


def test_secrets_are_found_at_any_depth_and_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-the-environment")
    assert secret_names(OPTIONS) == ["key", "secret", "aws_session_token"]
    message = "403 for AKIAEXAMPLE / very-secret-value / tok-en-123 / from-the-environment at s3://bucket"
    assert redact(message, OPTIONS) == "403 for *** / *** / *** / *** at s3://bucket"


def test_what_fails_for_a_while_is_tried_again() -> None:
    calls = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 4:
            raise OSError(errno.EBUSY, "SlowDown")
        return "done"

    assert patiently(flaky) == "done"
    assert len(calls) == 4


def test_patience_ends_and_says_how_often_it_tried() -> None:
    calls = []

    def broken() -> None:
        calls.append(1)
        raise ConnectionResetError("peer")

    with pytest.raises(ConnectionResetError) as caught:
        patiently(broken, attempts=3)
    assert len(calls) == 3
    assert caught.value.__notes__ == ["tried 3 times"]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("no"), PermissionError(13, "no"), OSError(errno.ENOSPC, "full"), ValueError("bad"),
        OSError(errno.EROFS, "read only"), type("NoCredentialsError", (Exception,), {"__module__": "botocore.x"})(),
    ],
)  # fmt: skip
def test_what_waiting_cannot_mend_is_not_tried_again(error: Exception) -> None:
    calls = []

    def broken() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        patiently(broken)
    assert len(calls) == 1
    assert not may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EBUSY, "slow down"), OSError("no errno"), TimeoutError(), ConnectionError(),
        type("ReadTimeoutError", (Exception,), {"__module__": "botocore.exceptions"})(),
    ],
)  # fmt: skip
def test_what_may_pass(error: Exception) -> None:
    assert may_pass(error)
