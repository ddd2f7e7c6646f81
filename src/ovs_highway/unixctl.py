# SPDX-License-Identifier: Apache-2.0
"""The protocol of ovs-appctl: JSON-RPC requests on a unix stream socket, without framing.

Both ends of it: `call` asks an OVS daemon or highwayd, `Reader` takes a stream apart.
See ovs-appctl(8) and `lib/unixctl.c`.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_MAX_REQUEST: Final = 64 << 10
_MAX_ANSWER: Final = 16 << 20


class Reader:
    """Takes JSON objects out of a stream; at most `limit` bytes wait for their end."""

    def __init__(self, limit: int = _MAX_REQUEST) -> None:
        self._text = b""
        self._limit = limit

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take bytes as they come; return the objects that are complete now.

        Raises:
            ValueError: not JSON, no object, or too long.
        """
        self._text = (self._text + data).lstrip()
        found = []
        while self._text:
            try:
                text = self._text.decode("utf-8")
                value, end = json.JSONDecoder().raw_decode(text)
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                if len(self._text) > self._limit or self._text[:1] != b"{":
                    raise ValueError("not a JSON-RPC request") from error
                break
            if not isinstance(value, dict):
                raise ValueError("not a JSON-RPC request")
            found.append(value)
            self._text = text[end:].encode("utf-8").lstrip()
        return found


class Finder:
    """Looks for words in a stream without keeping it.

    Attributes:
        found: the words that were met.
    """

    def __init__(self, words: Collection[bytes]) -> None:
        self._words = words
        self._overlap = max(map(len, words)) - 1
        self._rest = b""
        self.found: set[bytes] = set()

    def feed(self, data: bytes) -> set[bytes]:
        """Take bytes as they come; return the words that were met so far."""
        text = self._rest + data
        self.found.update(word for word in self._words if word in text)
        self._rest = text[max(0, len(text) - self._overlap) :]
        return self.found


def call(path: Path, method: str, *params: str, timeout: float = 5.0) -> str:
    """Run one command in a daemon and return its answer.

    Raises:
        CommandError: no such daemon, no answer within `timeout` seconds, or it refused.
    """
    request = json.dumps({"method": method, "params": list(params), "id": 0}).encode()
    reader = Reader(_MAX_ANSWER)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect(str(path))
            sock.sendall(request)
            answers: list[dict[str, Any]] = []
            while not answers:
                data = sock.recv(65536)
                if not data:
                    raise CommandError(f"the daemon at {path} closed the connection; see its log")
                answers = reader.feed(data)
    except (OSError, ValueError) as error:
        raise CommandError(f"no answer from {path} ({error}); is that daemon running?") from error
    if answers[0].get("error") is not None:
        raise CommandError(f"{method}: {str(answers[0]['error']).strip()}")
    return str(answers[0].get("result") or "")


def vswitchd_socket(ovs_rundir: Path) -> Path:
    """Return the control socket of the ovs-vswitchd of an OVS run directory.

    Raises:
        CommandError: there is none.
    """
    try:
        pid = int((ovs_rundir / "ovs-vswitchd.pid").read_text(encoding="ascii").strip())
        path = ovs_rundir / f"ovs-vswitchd.{pid}.ctl"
        if path.exists():
            return path
    except (OSError, ValueError):
        pass
    found = sorted(ovs_rundir.glob("ovs-vswitchd*.ctl"), key=lambda path: path.lstat().st_mtime)
    if not found:
        raise CommandError(f"no ovs-vswitchd in {ovs_rundir}; start it or set OVS_RUNDIR")
    return found[-1]
