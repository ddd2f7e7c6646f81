# SPDX-License-Identifier: Apache-2.0
"""A collector of sFlow, IPFIX or NetFlow in the network namespace of ovs-vswitchd."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ovs_highway.lab import Process

if TYPE_CHECKING:
    from types import TracebackType

    from ovs_highway.lab import Sandbox

SINK: Final = Path(__file__).with_name("udp_sink.py")
_ports: Final = itertools.count(20001)


def loopback_up(sandbox: Sandbox) -> None:
    """Give the namespace of ovs-vswitchd its 127.0.0.1."""
    subprocess.run(sandbox.in_namespace("ip", "link", "set", "lo", "up"), check=True, timeout=20)


class Collector:
    """A UDP socket that keeps all it receives: `with Collector(sandbox) as collector:`."""

    def __init__(self, sandbox: Sandbox) -> None:
        port = next(_ports)
        self.address = f"127.0.0.1:{port}"
        self._sandbox = sandbox
        self._process = Process(
            f"collector-{port}",
            sandbox.in_namespace(sys.executable, str(SINK), str(port)),
            log=sandbox.rundir / f"collector-{port}.log",
            env=sandbox.env,
        )

    def __enter__(self) -> Self:
        loopback_up(self._sandbox)
        self._process.start()
        self._process.wait_ready(lambda: "ready" in self._lines(), 10, what="open its socket")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stop()

    def _lines(self) -> list[str]:
        text = self._process.log.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def datagrams(self) -> list[bytes]:
        """Return all datagrams that have come so far."""
        return [bytes.fromhex(line) for line in self._lines() if line != "ready"]
