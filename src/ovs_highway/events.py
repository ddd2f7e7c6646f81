# SPDX-License-Identifier: Apache-2.0
"""The record of what happened to ports, links and paths: `highway events`.

A line of JSON per event in a file of the run directory's own, and one file of earlier events
behind it, so it outlives every process and never grows beyond a bound. highwayd writes it through
its log: a line that is logged with `extra=about(...)` is an event. The `highway` command adds what
the operator did, since that works without highwayd.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

LIMIT: Final = 4 << 20
"""Bytes of a file; there are two."""
_MODE: Final = 0o640
_ATTRIBUTE: Final = "highway_event"
_FIXED: Final = ("time", "kind", "ports", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        time: seconds since the epoch (UTC).
        kind: `path`, `p2p`, `link`, `port`, `vnf`, `vm`, `policy`, `operator` or `highwayd`.
        ports: the ports concerned; of a path the sender and the receiver.
        text: what happened and why, for people.
        details: more for programs, such as a path's `state` and `rules`.
    """

    time: float
    kind: str
    ports: tuple[str, ...] = ()
    text: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Return the event as its line in the file has it."""
        fixed = {"time": round(self.time, 6), "kind": self.kind, "ports": [*self.ports]}
        return fixed | {"text": self.text} | dict(self.details)


def about(kind: str, *ports: str, **details: object) -> dict[str, Any]:
    """Return what makes a log line an event: `log.info(..., extra=about("port", name))`."""
    return {_ATTRIBUTE: (kind, ports, details)}


class EventLog:
    """Appends events to a file; several processes may do so at once. Made when first needed."""

    def __init__(self, path: Path, *, limit: int = LIMIT) -> None:
        self.path = path
        self._limit = limit
        self._complained = False

    def append(self, event: Event) -> None:
        """Write one event; a file that cannot be written is a warning, once."""
        line = json.dumps(event.json(), separators=(",", ":"), default=str) + "\n"
        try:
            self._append(line.encode())
        except OSError as error:
            if not self._complained:
                log.warning("events are not recorded: %s: %s", self.path, error.strerror)
            self._complained = True

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, _MODE)
        except FileNotFoundError:
            self.path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            fd = os.open(self.path, flags, _MODE)
        try:
            size = os.fstat(fd).st_size
            if size and size + len(line) > self._limit:
                os.replace(self.path, _earlier(self.path))
                os.close(fd)
                fd = os.open(self.path, flags, _MODE)
            os.write(fd, line)
        finally:
            os.close(fd)


class EventHandler(logging.Handler):
    """Puts log lines that are events into the record."""

    def __init__(self, events: EventLog) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record's event, if it is one."""
        found = getattr(record, _ATTRIBUTE, None)
        if found is not None:
            kind, ports, details = found
            self._events.append(
                Event(
                    time=record.created,
                    kind=kind,
                    ports=ports,
                    text=record.getMessage(),
                    details=details,
                )
            )


def read(path: Path) -> Iterator[Event]:
    """Return all recorded events, oldest first; what is no event, such as a cut-off line, is left.

    Raises:
        OSError: the record is there and cannot be read.
    """
    for file in (_earlier(path), path):
        with contextlib.suppress(FileNotFoundError), file.open("rb") as stream:
            for line in stream:
                if (event := parse(line)) is not None:
                    yield event


def follow(path: Path, *, history: bool = False, pause: float = 0.2) -> Iterator[Event]:
    """Return events that come from now on, without end; with `history` all recorded ones first."""
    start = path.stat().st_size if path.exists() and not history else 0
    if history:
        with contextlib.suppress(FileNotFoundError), _earlier(path).open("rb") as stream:
            yield from filter(None, map(parse, stream))
    while True:
        while not path.exists():
            time.sleep(pause)
        with path.open("rb") as stream:
            stream.seek(start)
            start, rest = 0, b""
            while True:
                # Asked first: what was written before the file was put aside is read below.
                last = not _same(path, stream.fileno())
                *lines, rest = (rest + stream.read()).split(b"\n")
                yield from filter(None, map(parse, lines))
                if last:
                    break
                time.sleep(pause)


def parse(line: bytes) -> Event | None:
    """Return the event of one line, None if it is none."""
    try:
        raw = json.loads(line)
        return Event(
            time=float(raw["time"]),
            kind=str(raw["kind"]),
            ports=tuple(map(str, raw["ports"])),
            text=str(raw["text"]),
            details={key: value for key, value in raw.items() if key not in _FIXED},
        )
    except (ValueError, KeyError, TypeError):
        return None


def _earlier(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _same(path: Path, fd: int) -> bool:
    try:
        there, here = path.stat(), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
