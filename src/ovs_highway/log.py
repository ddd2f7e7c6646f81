# SPDX-License-Identifier: Apache-2.0
"""Logging in the line format of OVS: `2026-01-01T00:00:00.000Z|00001|module|INFO|text`."""

from __future__ import annotations

import itertools
import logging
import sys
import time
from typing import TYPE_CHECKING, Final

from ovs_highway.limits import Bucket

if TYPE_CHECKING:
    from pathlib import Path

_LEVELS: Final = {
    logging.CRITICAL: "EMER",
    logging.ERROR: "ERR",
    logging.WARNING: "WARN",
    logging.INFO: "INFO",
    logging.DEBUG: "DBG",
}


class OvsFormatter(logging.Formatter):
    """Formats records as OVS's daemons do: UTC time, running number, module, level, text."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        module = record.name.rpartition(".")[2]
        level = _LEVELS.get(record.levelno, record.levelname)
        line = (
            f"{seconds}.{int(record.msecs):03d}Z|{next(self._numbers):05d}|{module}|{level}|"
            f"{record.getMessage()}"
        )
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def setup(*, file: Path | None = None, verbose: bool = False) -> None:
    """Send all logging of this process to `file`, or to stderr.

    Raises:
        OSError: the file cannot be opened.
    """
    handler: logging.Handler
    handler = logging.StreamHandler(sys.stderr) if file is None else logging.FileHandler(file)
    handler.setFormatter(OvsFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


class LogLimit(Bucket):
    """Tells whether one more line may be logged.

    Used for what others make us log, so that a hostile peer cannot fill the disk.
    """

    def __init__(self, *, per_second: float = 5.0, burst: float = 20.0) -> None:
        super().__init__(per_second=per_second, burst=burst)
