# SPDX-License-Identifier: Apache-2.0
"""A small OpenFlow 1.4 controller that sends flowmods at exact times.

ovs-ofctl takes longer to start than what is to be measured. Structures are those of the OpenFlow
Switch Specification 1.4, 7.2 and 7.3.4.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from ovs_highway.errors import SandboxError

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 5
_HEADER: Final = struct.Struct("!BBHI")
_HELLO, _ERROR, _ECHO, _ECHO_REPLY, _FLOW_MOD, _BARRIER, _BARRIER_REPLY = 0, 1, 2, 3, 14, 20, 21
ADD, MODIFY_STRICT, DELETE_STRICT = 0, 2, 4
_TIMEOUT: Final = 30.0
_ANY: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A flow: whatever of it is not None is matched; it outputs to ports or a group, or drops."""

    in_port: int | None = None
    ipv4_dst: int | None = None
    udp_dst: int | None = None
    priority: int = 100
    table: int = 0
    cookie: int = 0
    outputs: tuple[int, ...] = ()
    group: int | None = None

    def message(self, command: int, xid: int) -> bytes:
        """Return the flowmod."""
        oxm = b""
        if self.in_port is not None:
            oxm += struct.pack("!HBBI", 0x8000, 0, 4, self.in_port)
        if self.ipv4_dst is not None or self.udp_dst is not None:
            oxm += struct.pack("!HBBH", 0x8000, 5 << 1, 2, 0x0800)
        if self.udp_dst is not None:
            oxm += struct.pack("!HBBB", 0x8000, 10 << 1, 1, 17)
        if self.ipv4_dst is not None:
            oxm += struct.pack("!HBBI", 0x8000, 12 << 1, 4, self.ipv4_dst)
        if self.udp_dst is not None:
            oxm += struct.pack("!HBBH", 0x8000, 16 << 1, 2, self.udp_dst)
        match = struct.pack("!HH", 1, 4 + len(oxm)) + oxm
        match += bytes(-len(match) % 8)
        actions = b"".join(struct.pack("!HHIH6x", 0, 16, port, 0) for port in self.outputs)
        if self.group is not None:
            actions += struct.pack("!HHI", 22, 8, self.group)
        apply = struct.pack("!HH4x", 4, 8 + len(actions)) + actions if actions else b""
        fixed = struct.pack(
            "!QQBBHHHIIIHH",
            *(self.cookie, 0, self.table, command, 0, 0, self.priority),
            *(_ANY, _ANY, _ANY, 0, 0),
        )
        body = fixed + match + apply
        return _HEADER.pack(VERSION, _FLOW_MOD, _HEADER.size + len(body), xid) + body


class Controller:
    """A connection to a bridge's management socket, as a context manager; it blocks."""

    def __init__(self, rundir: Path, bridge: str) -> None:
        self._path = rundir / f"{bridge}.mgmt"
        self._xid = 0
        self._rest = b""

    def __enter__(self) -> Self:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(_TIMEOUT)
        self._sock.connect(str(self._path))
        self._sock.sendall(_HEADER.pack(VERSION, _HELLO, _HEADER.size, 0))
        self.barrier()
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, *rules: Rule, command: int = ADD) -> None:
        """Send flowmods, without waiting for anything."""
        self._xid += 1
        self._sock.sendall(b"".join(rule.message(command, self._xid) for rule in rules))

    def barrier(self) -> None:
        """Wait until the switch has carried out what was sent.

        Raises:
            SandboxError: it refused something, or does not answer.
        """
        self._xid += 1
        self._sock.sendall(_HEADER.pack(VERSION, _BARRIER, _HEADER.size, self._xid))
        while True:
            kind, xid, body = self._next()
            if kind == _ERROR:
                raise SandboxError(
                    f"the switch refused an OpenFlow message: error {body[:4].hex()}"
                )
            if kind == _ECHO:
                head = _HEADER.pack(VERSION, _ECHO_REPLY, _HEADER.size + len(body), xid)
                self._sock.sendall(head + body)
            if kind == _BARRIER_REPLY and xid == self._xid:
                return

    def _next(self) -> tuple[int, int, bytes]:
        while True:
            if len(self._rest) >= _HEADER.size:
                _, kind, length, xid = _HEADER.unpack_from(self._rest)
                if len(self._rest) >= length:
                    body = self._rest[_HEADER.size : length]
                    self._rest = self._rest[length:]
                    return kind, xid, body
            try:
                data = self._sock.recv(65536)
            except OSError as error:
                raise SandboxError(f"no answer from {self._path}: {error}") from error
            if not data:
                raise SandboxError(f"{self._path} closed the connection")
            self._rest += data
