# SPDX-License-Identifier: Apache-2.0
"""A database server that knows just enough for highwayd to follow it: one bridge and its ports.

Tests that are about the database itself use a real ovsdb-server, which not every machine has.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import unixctl

if TYPE_CHECKING:
    from pathlib import Path

TRUST: Final = "lab"
_SWITCH, _BRIDGE = str(uuid.uuid4()), str(uuid.uuid4())


class FakeOvsdb:
    """Bridge `br0`, to which ports with the same trust label can be added."""

    def __init__(self, path: Path) -> None:
        self._ports: dict[str, tuple[str, str]] = {}
        self._monitors: list[tuple[socket.socket, object]] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock, _ in self._monitors:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def add_port(self, name: str) -> None:
        with self._lock:
            if name in self._ports:
                return
            self._ports[name] = str(uuid.uuid4()), str(uuid.uuid4())
            for sock, monitor in self._monitors:
                update = {"method": "update", "params": [monitor, self._rows()], "id": None}
                with contextlib.suppress(OSError):
                    sock.sendall(json.dumps(update).encode())

    def _rows(self) -> dict[str, Any]:
        ports = ["set", [["uuid", port] for port, _ in self._ports.values()]]
        return {
            "Open_vSwitch": {_SWITCH: {"new": {"next_cfg": 1, "cur_cfg": 1}}},
            "Bridge": {_BRIDGE: {"new": {"name": "br0", "ports": ports}}},
            "Port": {
                port: {"new": {"name": name, "interfaces": ["uuid", interface]}}
                for name, (port, interface) in self._ports.items()
            },
            "Interface": {
                interface: {
                    "new": {
                        "name": name,
                        "type": "dpdk",
                        "options": ["map", [["dpdk-devargs", f"net_highway_{name},role=switch"]]],
                        "external_ids": ["map", [["highway-trust", TRUST]]],
                        "ingress_policing_rate": 0,
                        "ingress_policing_kpkts_rate": 0,
                    }
                }
                for name, (_, interface) in self._ports.items()
            },
        }

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
                    with self._lock:
                        answer = self._answer(sock, request)
                        sock.sendall(json.dumps(answer | {"id": request["id"]}).encode())

    def _answer(self, sock: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        match request["method"]:
            case "echo":
                return {"result": request["params"], "error": None}
            case "monitor":
                self._monitors.append((sock, request["params"][1]))
                return {"result": self._rows(), "error": None}
            case _:
                return {"result": None, "error": "unknown method"}
