"""Logs of a run: lines for people, or JSON lines (`ASSAY_LOG_FORMAT=json`) with the run, unit, block, file and actor.

driver   standard error
workers  standard error too, which Ray keeps by process among its session's logs (`worker-*.err`); what is a warning or
         worse also travels to the driver with the block that it came up with, and is said there once (`carry`, `say`)

Ray's own forwarding of logs stays off: it sends every line of every worker. Credentials are struck out of every line,
and control characters escaped. Lines about single blocks (level INFO) are only written as JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import pyarrow as pa

from operators.printable import printable
from pipelines.whereabouts import Whereabouts, whereabouts

log = logging.getLogger(__name__)

FORMAT_VARIABLE = "ASSAY_LOG_FORMAT"
FORMATS = ("text", "json")
LOG_METADATA = b"assay.log"  # of a block's schema
MOST_HELD = 20  # warnings of a worker between two blocks; what is more stays in its own log
MOST_ALIKE = 5  # warnings of workers of one kind that a driver repeats

_OURS = ("schemas", "operators", "pipelines", "jobs")
_PLACE: ContextVar[Mapping[str, Any]] = ContextVar("assay_log_place", default={})  # noqa: B039 - never changed in place


@dataclass(frozen=True)
class LogOptions:
    """What workers are told. `format`: text or json."""

    run_id: str | None = None
    format: str = "text"

    @classmethod
    def of(cls, run_id: str | None = None, format: str | None = None) -> LogOptions:  # noqa: A002 - the flag's name
        """`format`, else what the environment says, else text.

        Raises:
            ConfigError: neither text nor json.
        """
        chosen = format or os.environ.get(FORMAT_VARIABLE) or FORMATS[0]
        if chosen not in FORMATS:
            from pipelines.config import ConfigError

            raise ConfigError(f"{FORMAT_VARIABLE} is {chosen!r}: choose {' or '.join(FORMATS)}")
        return cls(run_id, chosen)


def configure_logs(run_id: str | None = None, *, format: str | None = None) -> LogOptions:  # noqa: A002
    """Set up the log of this process; called again, as it says last. Lines of text leave handlers that are there alone.

    Raises:
        ConfigError: a format that is neither text nor json.
    """
    options = LogOptions.of(run_id, format)
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if isinstance(handler, _Lines)]
    if ours and ours[0].options == options:
        return options
    for handler in ours:
        root.removeHandler(handler)
    if options.format == "json" or not root.handlers:
        root.addHandler(_Lines(options))
        level = logging.INFO if options.format == "json" else logging.WARNING
        for name in _OURS:  # of libraries only what is wrong
            logging.getLogger(name).setLevel(level)
    if options.format == "json":
        logging.captureWarnings(True)
        sys.excepthook = _fatal
    return options


def _fatal(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends a process is a line like others."""
    log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def configure_worker(options: LogOptions) -> None:
    """As `configure_logs`, and warnings are held until a block takes them along. Cheap where it is done already."""
    configure_logs(options.run_id, format=options.format)
    root = logging.getLogger()
    if not any(isinstance(handler, _Held) for handler in root.handlers):
        root.addHandler(_Held())


@contextlib.contextmanager
def log_place(**place: Any) -> Iterator[None]:
    """Lines written within say where: `unit`, `block`, `file`."""
    before = _PLACE.get()
    _PLACE.set({**before, **place})
    try:
        yield
    finally:
        _PLACE.set(before)  # not by a token: a generator may be closed in another context


def carry(block: pa.Table) -> pa.Table:
    """`block` with the warnings of this process since the last one, after those that it brings."""
    held = next((h for h in logging.getLogger().handlers if isinstance(h, _Held)), None)
    new = held.take() if held else []
    if not new:
        return block
    metadata = dict(block.schema.metadata or {})
    return block.replace_schema_metadata({**metadata, LOG_METADATA: json.dumps([*_carried(block), *new])})


@dataclass
class Sayer:
    """The driver's side: repeats what workers warn of, the same words once, and few that differ in their numbers."""

    said: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def __call__(self, block: pa.Table) -> None:
        """Say what came with a block."""
        for entry in _carried(block):
            alike = self.said.setdefault((entry["logger"], entry["template"]), set())
            if entry["message"] in alike or len(alike) >= MOST_ALIKE:
                continue
            alike.add(entry["message"])
            record = logging.LogRecord(entry["logger"], entry["level"], "", 0, entry["message"], None, None)
            record.assay = entry["fields"]
            logging.getLogger(entry["logger"]).handle(record)


def _carried(block: pa.Table) -> list[dict[str, Any]]:
    found = json.loads((block.schema.metadata or {}).get(LOG_METADATA, b"[]"))
    return found if isinstance(found, list) else []


class _Lines(logging.Handler):
    """Writes to standard error, whatever that is by then."""

    def __init__(self, options: LogOptions) -> None:
        super().__init__()
        self.options = options
        self._where = Whereabouts("", "")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._json(record) if self.options.format == "json" else _text(record)
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except Exception:  # as every handler does: whatever a record holds, nobody's work ends by a line of the log
            self.handleError(record)

    def _json(self, record: logging.LogRecord) -> str:
        where = self._whereabouts()
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "run": self.options.run_id,
            "actor": where.actor,
            "node": where.node,
            "pid": os.getpid(),
            **_PLACE.get(),
            **getattr(record, "assay", {}),
            "exception": _traceback(record),
        }
        # As ASCII: what could move a cursor, end a line or turn text around is escaped.
        return json.dumps({k: _clean(v) for k, v in fields.items() if v not in (None, "")}, allow_nan=False)

    def _whereabouts(self) -> Whereabouts:
        """Looked up anew until this process is one of a cluster's."""
        if not self._where.node:
            self._where = whereabouts()
        return self._where


class _Held(logging.Handler):
    """Keeps the first warnings since the last block."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._entries: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in _OURS or len(self._entries) >= MOST_HELD:
            return
        try:
            self._entries.append(_entry(record))
        except Exception:  # as above
            self.handleError(record)

    def take(self) -> list[dict[str, Any]]:
        self.acquire()  # as `handle` does around `emit`
        try:
            taken, self._entries = self._entries, []
        finally:
            self.release()
        return taken


def _entry(record: logging.LogRecord) -> dict[str, Any]:
    """A record as it travels: JSON, without the credentials that this process knows."""
    where = whereabouts()
    entry: dict[str, Any] = _clean(
        {
            "logger": record.name,
            "level": record.levelno,
            "template": str(record.msg),
            "message": _message(record),
            "fields": {"actor": where.actor, "node": where.node, "pid": os.getpid(), **_PLACE.get()},
        }
    )
    return entry


def _text(record: logging.LogRecord) -> str:
    """Only the first line begins at the margin: names of files and records may hold line breaks."""
    node = getattr(record, "assay", {}).get("node")
    said = f"{record.levelname}: {_message(record)}" + (f" (on {node})" if node else "")
    trace = _traceback(record)
    return printable(str(_clean(f"{said}\n{trace}" if trace else said))).replace("\n", "\n  ")


def _message(record: logging.LogRecord) -> str:
    """What a record says, also where its arguments do not fit."""
    try:
        return record.getMessage()
    except Exception:  # what the arguments' own `__str__` raises
        return f"{record.msg} {record.args!r}"


def _traceback(record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return logging.Formatter().formatException(record.exc_info)
    return None


def _clean(value: Any) -> Any:
    """A value as JSON has it, without credentials."""
    from operators.storage.credentials import redact

    if isinstance(value, Mapping):
        return {redact(str(name)): _clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_clean(each) for each in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return redact(str(value))
