"""Reads a job file and validates it whole: every fault in one message, before anything is taken.

    from jobs.job_file import read_job_file
    job = read_job_file("job.yaml")        # job.verb, job.fields, job.submit, job.nightly

Only the file itself is looked at; `jobs.job_file.world` looks at what it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.job_file.document import Plain, is_null, parse, read_text
from jobs.job_file.fields import missing, nearest, typed_fields, under_names
from jobs.job_file.scoring import score_faults
from jobs.job_file.sections import read_section
from jobs.job_file.verbs import (
    NIGHTLY,
    NOT_OF_A_NIGHT,
    OF_ONE_RUN,
    SCORE,
    Verb,
    fields_of,
    job_verbs,
    known_verbs,
    refusal,
)
from pipelines.config import ConfigError

if TYPE_CHECKING:
    from jobs.nightly.options import NightlyOptions
    from jobs.submission.options import SubmitOptions

SECTIONS = ("submit", "nightly")
MOST_LINES, LONGEST = 200, 1000  # of a message: lines, and characters of each


@dataclass(frozen=True)
class JobFile:
    """A sound job file. `verb`: such as ("score",) or ("mixture", "fit"). `fields`: the verb's own, typed, under the
    names of its flags with `_`, those alone that are given. `nightly`: None where the file has no such section."""

    path: Path
    verb: Verb
    fields: dict[str, Any]
    submit: SubmitOptions
    nightly: NightlyOptions | None = None

    @property
    def name(self) -> str:
        """The verb as it is typed."""
        return " ".join(self.verb)

    def of_a_night(self) -> dict[str, Any]:
        """The fields of `ScoreConfig` that hold for every night: what belongs to a single run is left out.

        Raises:
            ConfigError: no job of scoring, no section `nightly`, or it scores a transformed run.
        """
        faults = [f"{name}: has no place in a nightly job" for name in NOT_OF_A_NIGHT if name in self.fields]
        if self.verb not in (SCORE, NIGHTLY):
            faults.append(f"verb: it is {self.name}; every night is scored: score or nightly")
        if self.nightly is None:
            faults.append("nightly: is needed: at least `nightly: {name: ...}`")
        raise_faults(self.path, faults)
        return {name: value for name, value in self.fields.items() if name not in OF_ONE_RUN}


@dataclass(frozen=True)
class Examined:
    """What a file says, sound or not. `job`: None where it has a fault; `fields`: those without one; `submit`: None
    where that section has one."""

    path: Path
    verb: Verb | None
    fields: dict[str, Any]
    faults: list[str]
    submit: SubmitOptions | None
    job: JobFile | None


@dataclass
class _Read:
    """What is found of a file on the way to a `JobFile`."""

    given: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    verb: Verb | None = None
    says_verb: bool = False


def read_job_file(path: str | Path, settings: Sequence[str] = ()) -> JobFile:
    """A job file, validated whole. `settings`: `field=value`, as in the file, in place of what the file says; of a
    section `submit.address=...`.

    Raises:
        ConfigError: every fault of the file, a line each, with the field and, of a mistyped name, the nearest.
    """
    examined = examine(path, settings)
    raise_faults(path, examined.faults)
    assert examined.job is not None
    return examined.job


def examine(path: str | Path, settings: Sequence[str] = ()) -> Examined:
    """A job file with its faults, for who has more to add to them.

    Raises:
        ConfigError: there is no such file, or no text in it.
    """
    read = _read(path, settings)
    sections = {name: read.given.pop(name, None) for name in SECTIONS}
    submit = read_section("submit", sections["submit"], read.faults)
    nightly = read_section("nightly", sections["nightly"], read.faults)
    fields: dict[str, Any] = {}
    if read.verb is not None:
        fields = _verb_fields(read, read.verb)
        if read.verb == NIGHTLY and sections["nightly"] is None:
            read.faults.append("nightly: is needed: at least `nightly: {name: ...}`")
    job = None
    if read.verb is not None and not read.faults:
        job = JobFile(Path(path), read.verb, fields, submit, nightly)
    return Examined(Path(path), read.verb, fields, read.faults, submit, job)


def read_fields(path: str | Path, verb: Verb) -> dict[str, Any]:
    """The fields of a verb in a job file that flags may complete: what is missing is not said yet, nor are `submit` and
    `nightly` read. Storage options may hold credentials: this file stays here.

    Raises:
        ConfigError: every fault of the fields that are there, in the words of the command line; another verb.
    """
    read = _read(path)
    for name in SECTIONS:
        read.given.pop(name, None)
    if read.verb == NIGHTLY and not read.says_verb:  # it is one by its section alone, which counts for nothing here
        read.verb = verb
    if read.verb not in (None, verb) and not read.faults:
        name = " ".join(read.verb or ())
        read.faults.append(f"it is a job of `assay {name}`; `assay run {path}` does it")
    if read.faults:
        raise ConfigError("\n".join(f"--config {path}: {fault}" for fault in _bounded(read.faults)))
    fields, faults = typed_fields(verb, read.given, fields_of(verb), secrets=True)
    if faults:
        raise ConfigError("\n".join(f"--{flagged(fault)}" for fault in _bounded(faults)))
    return fields


def flagged(fault: str) -> str:
    """A fault that begins with a field's name, with that of its flag."""
    name, colon, rest = fault.partition(":")
    return name.replace("_", "-") + colon + rest


def _read(path: str | Path, settings: Sequence[str] = ()) -> _Read:
    value, faults = parse(read_text(path))
    read = _Read(faults=faults)
    if not isinstance(value, dict):
        if not faults:
            found = "a list" if isinstance(value, list) else "text" if value else "nothing"
            faults.append(f"expected fields like 'model: ...', found {found}")
        return read
    read.given = under_names(value, faults)
    for setting in settings:
        _set(read.given, setting, faults)
    said = read.given.pop("verb", None)
    read.says_verb = said is not None and not is_null(said)
    read.verb = _verb(said, "nightly" in read.given, faults)
    return read


def _set(given: dict[str, Any], setting: str, faults: list[str]) -> None:
    """Put `field=value` into what is given."""
    name, equals, text = setting.partition("=")
    section, dot, below = name.replace("-", "_").partition(".")
    if not equals or not section or (dot and section not in SECTIONS):
        faults.append(f"--set {name}: expected field=value, or {SECTIONS[0]}.field=value of a section")
        return
    value, wrong = parse(text)
    if wrong:
        faults += [f"--set {name}: {fault}" for fault in wrong]
        return
    value = Plain("") if value is None else value
    if not dot:
        given[section] = value
        return
    there = given.get(section)
    if there is None or is_null(there):
        given[section] = {below: value}
    elif isinstance(there, dict):  # else it is a fault, which stays one
        given[section] = {key: was for key, was in there.items() if key.replace("-", "_") != below} | {below: value}


def _verb(value: Any, has_nights: bool, faults: list[str]) -> Verb | None:
    if value is None or is_null(value):
        return NIGHTLY if has_nights else SCORE
    if not isinstance(value, str):
        faults.append("verb: expected a verb such as score, or two words such as mixture fit")
        return None
    verb = tuple(value.split())
    if verb and verb[0] == "assay":
        verb = verb[1:]
    why = refusal(verb)
    jobs = [" ".join(each) for each in job_verbs()]
    if verb in known_verbs() and why is None:
        return verb
    if why is None:
        faults.append(f"verb: there is no verb {' '.join(verb)!r}{nearest(' '.join(verb), jobs)}")
    else:
        faults.append(f"verb: {' '.join(verb)} cannot be a job: {why}; those that can are {', '.join(jobs)}")
    return None


def _verb_fields(read: _Read, verb: Verb) -> dict[str, Any]:
    known = fields_of(verb)
    fields, faults = typed_fields(verb, read.given, known)
    read.faults += faults
    if verb in (SCORE, NIGHTLY):
        read.faults += score_faults(fields, read.given, nightly=verb == NIGHTLY)
    else:
        read.faults += missing(verb, read.given, known)
    return fields


def raise_faults(path: str | Path, faults: Sequence[str]) -> None:
    """Raise one error that lists them, if there are any.

    Raises:
        ConfigError: there are.
    """
    if faults:
        n = sum(not fault.startswith((" ", "(")) for fault in faults)  # others go on with the line before
        lines = [f"{path}: {n} fault{'s' * (n != 1)}", *(f"  {fault}" for fault in _bounded(faults))]
        raise ConfigError("\n".join(lines))


def _bounded(faults: Sequence[str]) -> list[str]:
    """A line a fault, as many and as long as can be read: names in them are the file's own, and as long as it likes."""
    lines = [" ".join(fault[: LONGEST + 1].splitlines()) for fault in faults[:MOST_LINES]]
    shown = [line if len(line) <= LONGEST else f"{line[:LONGEST]}..." for line in lines]
    return shown if len(faults) <= MOST_LINES else [*shown, f"... and {len(faults) - MOST_LINES:,} more"]
