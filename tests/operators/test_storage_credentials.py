"""What is a credential and what is not, in options, URLs, messages and the environment."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import fsspec
import pytest

from operators.shards import InputError, list_shards
from operators.storage.credentials import holds_credentials, redact, secret_names

SECRET = "s3cr3t/V+lue"


@pytest.mark.parametrize(
    "name",
    ["key", "secret", "token", "password", "pass", "passphrase", "account_key", "sas_token", "connection_string",
     "aws_session_token", "Authorization", "Proxy-Authorization", "Cookie", "api_key", "apikey", "AWSAccessKeyId",
     "client_secret", "credential", "credentials", "X-Amz-Security-Token", "SSECustomerKey", "auth"],
)  # fmt: skip
def test_names_of_credentials(name: str) -> None:
    for options in (
        {name: SECRET}, {"headers": {name: SECRET}}, {"headers": [[name, SECRET]]}, {name: [SECRET]},
        {"hosts": [{"a": 1}, {"b": {name: SECRET}}]}, {name: SECRET.encode()},
    ):  # fmt: skip
        assert secret_names(options) == [name]
        assert SECRET not in redact(f"refused: {SECRET} at host", options)
        assert quote(SECRET, safe="") not in redact(f"refused: {quote(SECRET, safe='')} at host", options)


@pytest.mark.parametrize(
    "options",
    [
        {"anon": True},
        {"anon": "true"},
        {"endpoint_url": "http://127.0.0.1:9000"},
        {"key_file": "/home/me/id_rsa", "key_filename": "/k", "token_path": "/t", "ssl_keyfile": "/s"},
        {"use_ssl": False, "requester_pays": True, "profile": "mine"},
        {"token": "anon"},
        {"token": "google_default"},
        {"token": "cache"},
        {"token": "/home/me/service-account.json"},
        {"config_kwargs": {"signature_version": "s3v4", "max_pool_connections": 10}},
        {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mine"}},
        {"account_name": "me", "username": "me", "max_keys": 1000, "keepalive": "yes", "bypass": "x", "tokenizer": "t"},
        {"key": None, "secret": ""},
        {"base": "abfs://container@account.dfs.core.windows.net/x", "hosts": ["http://h:80/a@b"]},
    ],
    ids=str,
)
def test_what_is_no_credential(options: dict[str, Any]) -> None:
    assert secret_names(options) == []
    message = f"refused: {options}"
    assert redact(message, options) == message


def test_a_password_within_any_value() -> None:
    options = {"client_kwargs": {"endpoint_url": "http://me:hidden-pw@host:9000/x"}, "proxies": ["http://a:other-pw@p"]}
    assert secret_names(options) == ["endpoint_url", "proxies"]
    said = redact("http://me:hidden-pw@host:9000/x said no to hidden-pw and other-pw", options)
    assert said == "http://***@host:9000/x said no to *** and ***"
    assert secret_names({"password": 12345678}) == ["password"]  # as YAML reads it


def test_parts_of_a_credential_alone() -> None:
    options = {
        "connection_string": "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=abc/d==;EndpointSuffix=x",
        "headers": {"Authorization": "Bearer ey.j.w"},
        "token": {"private_key": "-----BEGIN-----\nMIIEabc\n-----END-----\n", "client_email": "me@host"},
        "sas_token": "?sv=2020&sig=si%2Fg",
    }
    said = redact(r"abc/d== and ey.j.w and 'MIIEabc\n' and si%2Fg and si/g of me@host", options)
    assert said == r"*** and *** and '***\n' and *** and *** of me@host"
    assert "a;pass=word" not in redact("a;pass=word", {"secret": "a;pass=word"})


@pytest.mark.parametrize(
    "name",
    ["AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN",
     "AZURE_CLIENT_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN",
     "GOOGLE_API_KEY"],
)  # fmt: skip
def test_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hidden-value")
    assert redact("hidden-value was refused") == "*** was refused"


def test_paths_in_the_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/home/me/.aws/credentials")
    message = "neither /home/me/key.json nor /home/me/.aws/credentials can be read"
    assert redact(message) == message


def test_what_fsspec_is_configured_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"secret": "configured"})
    assert redact("configured was refused") == "*** was refused"


SIGNED = [
    "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "X-Goog-Signature", "X-Goog-Credential",
    "Signature", "AWSAccessKeyId", "awsaccesskeyid", "GoogleAccessId", "sig", "token", "access_token", "key",
    "api_key", "apikey", "Key-Pair-Id", "password", "auth",
]  # fmt: skip


@pytest.mark.parametrize("name", SIGNED)
def test_signed_urls(name: str) -> None:
    for url in (f"https://h/a.jsonl?{name}=hidden%2F1", f"https://h/a.jsonl?sv=2020&{name}=hidden%2F1&sp=r"):
        assert holds_credentials(url)
        assert "hidden" not in redact(f"cannot read '{url}' (again)")
        assert redact(f"'{url}'").endswith("'")
        assert secret_names({"base": url}) == ["base"]


@pytest.mark.parametrize(
    "uri",
    ["https://me:pw@host/a", "s3://KEY:pw@bucket/a", "s3://KEY:p/w@bucket/a", "zip://a::https://me:pw@host/a.zip",
     "http://me:p@w@host", "http://me:p'w@host", "ftp://me:123456@host"],
)  # fmt: skip
def test_passwords_in_a_uri(uri: str) -> None:
    assert holds_credentials(uri)
    assert "***@" in redact(uri)
    assert not any(part in redact(uri) for part in ("pw", "p/w", "p@w", "@w@", "p'w", "123456"))


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/a", "/data/a?token=b.jsonl", "https://h/a?versionId=5&keyword=x&monkey=1", "http://host:8080/a@b",
     "abfs://container@account.dfs.core.windows.net/a", "github://org:repo@main/a", "zip://*.txt::s3://b/a@c.zip",
     "s3://bucket/key=5/token=6/a.parquet", "hf://datasets/a/b@main/c", "s3://arn:aws:s3:eu:1:accesspoint/n/a@b",
     "zip://*.txt::/data/a@b.zip", "gs://bucket/a?"],
)  # fmt: skip
def test_uris_without_credentials(uri: str) -> None:
    assert not holds_credentials(uri)
    assert uri.startswith("/") or redact(f"{uri} is gone") == f"{uri} is gone"


def test_a_listing_shows_no_signed_url() -> None:
    fsspec.filesystem("memory").pipe("/signed/a.zzz?sig=hidden", b"x")
    given = ["memory://signed", "memory://signed/gone.txt?X-Amz-Signature=hidden", "nosuch://h/a?token=hidden"]
    with pytest.raises(InputError) as raised:
        list_shards(given)
    assert "1 file of unknown format" in str(raised.value)
    assert str(raised.value).count("=***") == 4  # twice that of unknown format: its name, and its suffix
    assert "hidden" not in str(raised.value)
