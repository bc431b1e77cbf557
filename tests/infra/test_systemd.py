"""infra/systemd: units that systemd accepts and that leave a night resumable. test_as_written.py runs ExecStart."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import as_written
import pytest
import yaml
from as_written import INFRA

UNITS = INFRA / "systemd"
SERVICE = as_written.unit(UNITS / "assay-nightly.service")
TIMER = as_written.unit(UNITS / "assay-nightly.timer")
EXPOSURE = 2.5  # of 10, by systemd's own count: what is left is the network, and a group-readable lake


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """With a command that is here in place of /opt/assay/bin/assay; whatever else it says is a fault."""
    for path in UNITS.iterdir():
        text = path.read_text(encoding="utf-8").replace("/opt/assay/bin/assay", "/bin/true")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    done = analyze("verify", *(str(tmp_path / path.name) for path in UNITS.iterdir()))
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "assay" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_service_is_confined() -> None:
    threshold = f"--threshold={round(EXPOSURE * 10)}"
    done = analyze("security", "--offline=true", threshold, str(UNITS / "assay-nightly.service"))
    assert done.returncode == 0, done.stdout


def test_the_service_keeps_the_gpu() -> None:
    """A list of devices that are allowed, also one that another setting implies, forbids all others."""
    lists = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock"}
    assert not lists & set(SERVICE["Service"])
    (prepared,) = SERVICE["Service"]["ExecStartPre"]
    assert prepared.startswith("-+"), "with root's rights, and where there is no such command, without it"


def test_the_service_runs_a_job_file_of_this_repository() -> None:
    assay, verb, job = shlex.split(SERVICE["Service"]["ExecStart"][0])
    assert (assay, verb) == ("/opt/assay/bin/assay", "nightly")
    assert (INFRA / "jobs" / Path(job).name).exists()


def test_stopping_gives_it_time_and_failing_brings_it_back() -> None:
    service = SERVICE["Service"]
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["TimeoutStopSec"] == ["5min"]
    assert service["Restart"] == ["on-failure"]
    # 4: another night holds the lock. 130: it was stopped. 2 and 3: trying again changes nothing.
    assert service["SuccessExitStatus"] == ["4 130"]
    assert service["RestartPreventExitStatus"] == ["2 3"]


def test_secrets_are_handed_over_as_files() -> None:
    service = SERVICE["Service"]
    (credential,) = service["LoadCredential"]
    settings = dict(word.split("=", 1) for word in shlex.split(" ".join(service["Environment"])))
    assert settings["AWS_SHARED_CREDENTIALS_FILE"] == f"%d/{credential.partition(':')[0]}"
    assert not [name for name in settings if "KEY" in name or "TOKEN" in name]


def test_the_timer_makes_up_for_a_missed_night_in_the_jobs_time_zone() -> None:
    (calendar,) = TIMER["Timer"]["OnCalendar"]
    assert TIMER["Timer"]["Persistent"] == ["true"]
    job = yaml.safe_load((INFRA / "jobs" / "one-machine-nightly.yaml").read_text(encoding="utf-8"))
    assert (calendar.rpartition(" ")[2], job["nightly"]["timezone"]) == ("UTC", "Etc/UTC")
    done = analyze("calendar", "--iterations=2", calendar)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("02:00:00 UTC") >= 2


def test_the_lake_is_where_the_service_may_write() -> None:
    service = SERVICE["Service"]
    job = yaml.safe_load((INFRA / "jobs" / "one-machine-nightly.yaml").read_text(encoding="utf-8"))
    assert Path(job["lake"]).is_relative_to(Path("/var/lib", service["StateDirectory"][0]))
    assert service["ProtectSystem"] == ["strict"]
    assert service["DynamicUser"] == ["yes"]
