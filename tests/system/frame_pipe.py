# SPDX-License-Identifier: Apache-2.0
"""A VNF that sends exactly the frames it is given and hands back all that it receives.

The other end of tests/apps/frame_pipe.c: one process with any number of ports.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ovs_highway.lab import Process
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from ovs_highway.lab import Sandbox

PROGRAM: Final = Path(__file__).resolve().parents[2] / "build/meson/tests/apps/frame_pipe"
START_TIMEOUT: Final = 60.0
ANSWER_TIMEOUT: Final = 60.0
QUIET: Final = 0.005
_SEND, _PAUSE, _COLLECT, _RECEIVED, _XSTATS, _LINK = range(1, 7)
_MESSAGE: Final = struct.Struct("<BBHIHH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send one frame on a queue of a port, as a chain of segments of `segment` bytes if not 0."""

    port: int
    frame: bytes
    queue: int = 0
    segment: int = 0

    def request(self) -> bytes:
        """Return it in the form that the program reads."""
        head = _MESSAGE.pack(_SEND, self.port, self.queue, len(self.frame), self.segment, 0)
        return head + self.frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Only receive for so many seconds."""

    seconds: float

    def request(self) -> bytes:
        """Return it in the form that the program reads."""
        return _MESSAGE.pack(_PAUSE, 0, 0, round(self.seconds * 1e6), 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A frame, and on which queue of which port it came."""

    port: int
    queue: int
    frame: bytes


class FramePipe:
    """A process with some ports of a sandbox; its port 0 is the first of `ports`, and so on."""

    def __init__(
        self, sandbox: Sandbox, ports: Iterable[str], *, queues: int = 1, devargs: str = ""
    ) -> None:
        self.ports = list(ports)
        self._devargs = devargs
        self._held: list[Received] = []
        self._socket = sandbox.rundir / f"frames-{'-'.join(self.ports)}.sock"
        words = [word for words in self._vdevs() for word in words]
        self.process = Process(
            "frames-" + "-".join(self.ports),
            [
                PROGRAM,
                *("--no-pci", "--in-memory", "--no-telemetry", "--lcores", "0@0"),
                *("--file-prefix", f"{self._socket.stem}-{os.getpid()}"),
                *(("-d", str(sandbox.plugin)) if sandbox.plugin else ()),
                *words,
                "--",
                self._socket,
                str(queues),
            ],
            log=sandbox.rundir / f"{self._socket.stem}.log",
            env=sandbox.env,
        )

    def _vdevs(self) -> Iterator[tuple[str, str]]:
        for index, port in enumerate(self.ports):
            yield "--vdev", f"net_highway{index},port={port},idle=yield{self._devargs}"

    def __enter__(self) -> Self:
        with socket.socket(socket.AF_UNIX) as listener:
            self._socket.unlink(missing_ok=True)
            listener.bind(str(self._socket))
            listener.listen(1)
            listener.setblocking(False)
            self.process.start()
            found: list[socket.socket] = []

            def connected() -> bool:
                try:
                    found.append(listener.accept()[0])
                except BlockingIOError:
                    return False
                return True

            self.process.wait_ready(connected, START_TIMEOUT, what="start its ports")
        self._peer = found[0]
        self._peer.settimeout(ANSWER_TIMEOUT)
        self._stream = self._peer.makefile("rb")
        up = wait_until(
            lambda: all(self.xstats(port)["link_up"] for port in range(len(self.ports))),
            START_TIMEOUT,
        )
        assert up, f"not all links of {self.ports} come up"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the program."""
        self._stream.close()
        self._peer.close()
        wait_until(lambda: not self.process.alive, 5)
        self.process.stop()

    def do(self, steps: Iterable[Send | Pause]) -> None:
        """Have the program do things one after the other; do not wait for it."""
        self._peer.sendall(b"".join(step.request() for step in steps))

    def collect(self, quiet: float = QUIET) -> list[Received]:
        """Return all that was received since the last time, once nothing came for `quiet` s."""
        self._peer.sendall(_MESSAGE.pack(_COLLECT, 0, 0, round(quiet * 1e6), 0, 0))
        self._until(_COLLECT)
        found, self._held = self._held, []
        return found

    def xstats(self, port: int) -> dict[str, int]:
        """Return the extended statistics of a port, and `link_up`."""
        self._peer.sendall(_MESSAGE.pack(_XSTATS, port, 0, 0, 0, 0))
        text = self._until(_XSTATS).decode()
        return {name: int(value) for name, value in map(str.split, text.splitlines())}

    def set_link(self, port: int, *, up: bool) -> None:
        """Set a port's link up or down from the application's side."""
        self._peer.sendall(_MESSAGE.pack(_LINK, port, 0, int(up), 0, 0))

    def _until(self, wanted: int) -> bytes:
        """Keep frames that are received, until another answer comes; return its bytes."""
        while True:
            kind, port, queue, length, _, _ = _MESSAGE.unpack(self._read(_MESSAGE.size))
            data = self._read(length)
            if kind == wanted:
                return data
            self._held.append(Received(port=port, queue=queue, frame=data))

    def _read(self, length: int) -> bytes:
        data = self._stream.read(length)
        assert len(data) == length, f"{self.process.name} has ended; see {self.process.log}"
        return data
