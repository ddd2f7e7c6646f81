# SPDX-License-Identifier: Apache-2.0
"""The scene of a data-path test: one bridge of a sandbox, its ports, and testpmd at them.

A test module that names this file in `pytest_plugins` gets the fixture `scene`. Port `p3` always
has OpenFlow number 3, and the VNF at it is called `p3` too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from ovs_highway import paths, region
from ovs_highway.lab import PortStats, Process, Sandbox, TestPmd
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from ovs_highway.region import LinkRegion, PortRegion

PATIENCE: Final = 30.0
BRIDGE: Final = "br0"
BURST: Final = 32
VERSIONS: Final = ("OpenFlow10", "OpenFlow13", "OpenFlow15")

_COUNTS: Final = r"n_packets=(\d+), n_bytes=(\d+)"
_NUMBERS: Final = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Packets, and bytes without the frame check sequence."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(packets=self.packets + other.packets, bytes=self.bytes + other.bytes)

    def __sub__(self, other: Count) -> Count:
        return Count(packets=self.packets - other.packets, bytes=self.bytes - other.bytes)


def sent(stats: PortStats) -> Count:
    """Return what a VNF has sent."""
    return Count(packets=stats.tx_packets, bytes=stats.tx_bytes)


def received(stats: PortStats) -> Count:
    """Return what a VNF has received."""
    return Count(packets=stats.rx_packets, bytes=stats.rx_bytes)


def eventually(check: Callable[[], bool], what: str | Callable[[], object]) -> None:
    """Wait until something holds; fail with `what`, or what it returns, if it never does."""
    if not wait_until(check, PATIENCE, interval=0.05):
        pytest.fail(f"not within {PATIENCE:.0f} s: {what() if callable(what) else what}")


def settled(read: Callable[[], Count]) -> Count:
    """Return a count once it has stopped growing."""
    last = read()
    deadline = time.monotonic() + PATIENCE
    quiet = 0
    while quiet < 3:
        assert time.monotonic() < deadline, "the count does not stop growing"
        time.sleep(0.1)
        now = read()
        quiet = quiet + 1 if now == last else 0
        last = now
    return last


class Vnf(TestPmd):
    """A testpmd whose first port is a highway port, with shorter words for what tests count."""

    __test__ = False

    def sent(self, port: int = 0) -> Count:
        """Return what it has sent so far, over both channels."""
        return sent(self.stats(port))

    def received(self, port: int = 0) -> Count:
        """Return what it has received so far, over both channels."""
        return received(self.stats(port))

    def received_all(self, port: int = 0) -> Count:
        """Return what it has received, once nothing more comes."""
        return settled(lambda: self.received(port))

    def bypassed(self, way: str = "tx", port: int = 0) -> int:
        """Return the packets that it has sent (`tx`) or received (`rx`) past the switch."""
        return self.xstats(port)[f"{way}_bypass_packets"]

    def normal(self, way: str = "tx", port: int = 0) -> int:
        """Return the packets that it has sent (`tx`) or received (`rx`) through the switch."""
        return self.xstats(port)[f"{way}_normal_packets"]

    def send(self, bursts: int = 1) -> Count:
        """Send some bursts of 32 packets and go on receiving; return what was really sent."""
        before = self.sent()
        if "Not yet started" not in self.command("show fwd stats all") or True:
            self.command("stop")
        self.start(tx_first=bursts)
        return self.sent() - before

    def flood(self) -> None:
        """Send without end, until `quiet`."""
        self.command("stop")
        self.set_fwd("txonly")
        self.start()

    def quiet(self) -> None:
        """Stop sending and go on receiving."""
        self.command("stop")
        self.set_fwd("rxonly")
        self.start()
