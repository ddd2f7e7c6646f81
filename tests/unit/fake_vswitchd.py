# SPDX-License-Identifier: Apache-2.0
"""The control socket of an ovs-vswitchd: notes what it is asked, and answers what it is told to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

from ovs_highway import unixctl

if TYPE_CHECKING:
    from pathlib import Path


class FakeVswitchd:
    """Answers `bridge/dump-flows` with `flows`, and everything else with nothing.

    Attributes:
        asked: the commands so far, with their arguments.
    """

    def __init__(self, ovs_rundir: Path) -> None:
        self.path = ovs_rundir / "ovs-vswitchd.77.ctl"
        self.asked: list[str] = []
        self.flows: dict[str, str] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        (ovs_rundir / "ovs-vswitchd.pid").write_text("77\n")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        reader = unixctl.Reader()
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                for request in reader.feed(data):
                    answer = self._answer(request["method"], request["params"])
                    text = json.dumps(answer | {"id": request["id"]}, separators=(",", ":"))
                    sock.sendall(text.encode())

    def _answer(self, method: str, params: list[str]) -> dict[str, Any]:
        self.asked.append(" ".join([method, *params]))
        if method == "bridge/dump-flows" and params[0] not in self.flows:
            return {"result": None, "error": "no such bridge"}
        text = self.flows[params[0]] if method == "bridge/dump-flows" else ""
        return {"result": text, "error": None}
