# SPDX-License-Identifier: Apache-2.0
"""The chain of the demo: source → VNF → VNF → sink, and a second port of the sink for web traffic.

Four unmodified dpdk-testpmd processes; the two in the middle forward from one port to the other.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.bench.command import highway
from ovs_highway.demo import openflow
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Sandbox, TestPmd
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ovs_highway.demo.openflow import PortCount
    from ovs_highway.demo.screen import Screen

BRIDGE: Final = "br0"
SOURCE, SINK, WEB = "source", "sink", "web"
PORTS: Final = (SOURCE, "fw0", "fw1", "nat0", "nat1", SINK, WEB)
HOPS: Final = ((SOURCE, "fw0"), ("fw1", "nat0"), ("nat1", SINK))
HTTP: Final = 80
PATIENCE: Final = 15.0
_SLEEP_US: Final = 500
_SETTLED: Final = 1.2
"""Seconds without a change; ovs-vswitchd reads the counters of a flow twice a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a hop: a VNF, and which of its ports."""

    vnf: TestPmd
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """All counters at one time: the switch's by rule and port, the VNFs' by port; in packets."""

    rules: dict[str, int]
    ports: dict[str, PortCount]
    sent: dict[str, int]
    received: dict[str, int]


class Chain:
    """The chain, in a sandbox of its own: `with Chain(screen) as chain: …`."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._stack = contextlib.ExitStack()
        self.sandbox = Sandbox(other_config={"pmd-maxsleep": str(_SLEEP_US)})
        self.ends: dict[str, End] = {}
        self.cores = len(os.sched_getaffinity(0))

    def __enter__(self) -> Chain:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.sandbox)
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _build(self, stack: contextlib.ExitStack) -> None:
        self.sandbox.add_bridge(BRIDGE)
        for number, name in enumerate(PORTS, 1):
            self.sandbox.add_port(BRIDGE, name, number)
        cores = place(sorted(os.sched_getaffinity(0)))
        plan: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
            ("source", "txonly", (SOURCE,), (f"--tx-udp=1024,{HTTP}",)),
            ("firewall", "io", ("fw0", "fw1"), ()),
            ("nat", "io", ("nat0", "nat1"), ()),
            ("sink", "rxonly", (SINK, WEB), ()),
        )
        for core, (name, forward, ports, extra) in zip(cores, plan, strict=True):
            vnf = TestPmd(
                name,
                vdevs=[f"net_highway{n},port={port},idle=yield" for n, port in enumerate(ports)],
                cores=[core],
                main_core=cores[0],
                forward=forward,
                app_args=extra,
                env=self.sandbox.env,
            )
            stack.enter_context(vnf)
            for number, port in enumerate(ports):
                self.ends[port] = End(vnf=vnf, port=number)
        for end in self.ends.values():
            end.vnf.wait_link_up(end.port)
        for vnf in (self.ends[name].vnf for name in (SINK, "nat0", "fw0")):
            vnf.start()

    @property
    def source(self) -> TestPmd:
        """The VNF that sends."""
        return self.ends[SOURCE].vnf

    @property
    def vnfs(self) -> list[TestPmd]:
        """The four VNFs, in the order of the chain."""
        return [self.ends[name].vnf for name in (SOURCE, "fw0", "nat0", SINK)]

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Have the source send for the time of a block."""
        self.source.start()
        try:
            yield
        finally:
            if self.source.alive:
                self.source.stop()

    def ofctl(self, *words: str) -> str:
        """Show and run an ovs-ofctl command; return what it prints.

        Raises:
            SandboxError: it failed.
        """
        self._screen.command(" ".join(["ovs-ofctl", *(_quoted(word) for word in words)]))
        return self.sandbox.ofctl(*words)

    def show_rules(self) -> None:
        """Show what `ovs-ofctl dump-flows` prints."""
        words = ("--names", "dump-flows", BRIDGE)
        lines = self.sandbox.ofctl(*words).splitlines()
        rules = [line.strip().removeprefix("cookie=0x0, ") for line in lines if "actions=" in line]
        self._screen.command(" ".join(["ovs-ofctl", *words]), "\n".join(rules))

    def highway(self, *words: str) -> None:
        """Show and run a `highway` command, with what it prints.

        Raises:
            SandboxError: it failed.
        """
        self._screen.command(" ".join(["highway", *words]), highway(self.sandbox, *words))

    def received(self, port: str) -> int:
        """Return how many packets a VNF has received on a port so far."""
        end = self.ends[port]
        return end.vnf.stats(end.port).rx_packets

    def xstats(self, port: str) -> dict[str, int]:
        """Return the extended statistics of a port, as its VNF has them."""
        end = self.ends[port]
        return end.vnf.xstats(end.port)

    def bypassed(self, port: str) -> int:
        """Return how many packets a VNF has sent from a port over the bypass so far."""
        return self.xstats(port)["tx_bypass_packets"]

    def await_bypass(self, *ports: str) -> None:
        """Wait until what is sent from each of some ports goes over the bypass.

        Raises:
            SandboxError: it does not; the message says what `highway links` says.
        """
        for port in ports:
            before = self.bypassed(port)
            if not wait_until(lambda p=port, b=before: self.bypassed(p) > b, PATIENCE):  # type: ignore[misc]
                said = highway(self.sandbox, "links", "--interval", "0").splitlines()
                shown = " | ".join(" ".join(line.split()) for line in said)
                raise SandboxError(f"port {port} does not use the bypass: {shown}")

    def await_flow(self, port: str) -> None:
        """Wait until packets arrive at a port.

        Raises:
            SandboxError: none does.
        """
        before = self.received(port)
        if not wait_until(lambda: self.received(port) > before, PATIENCE):
            raise SandboxError(f"nothing arrives at {port}; see the logs with HIGHWAY_LOG_ARCHIVE")

    def rule_packets(self, match: str) -> int:
        """Return `n_packets` of the rule with a match, as `dump-flows` prints the match.

        Raises:
            SandboxError: there is no such rule.
        """
        rules = openflow.parse_rules(self.sandbox.ofctl("--names", "dump-flows", BRIDGE))
        for rule in rules:
            if rule.match.replace('"', "") == match:
                return rule.packets
        raise SandboxError(f"the switch has no rule {match}; it has {[r.match for r in rules]}")

    def counts(self) -> Counts:
        """Read all counters."""
        rules = openflow.parse_rules(self.sandbox.ofctl("--names", "dump-flows", BRIDGE))
        stats = {name: end.vnf.stats(end.port) for name, end in self.ends.items()}
        return Counts(
            rules={rule.match.replace('"', ""): rule.packets for rule in rules},
            ports=openflow.parse_ports(self.sandbox.ofctl("--names", "dump-ports", BRIDGE)),
            sent={name: found.tx_packets for name, found in stats.items()},
            received={name: found.rx_packets for name, found in stats.items()},
        )

    def settle(self) -> Counts:
        """Wait until no counter changes any more, and return them.

        Raises:
            SandboxError: they go on changing though the source has stopped.
        """
        deadline = time.monotonic() + PATIENCE
        last, since = self.counts(), time.monotonic()
        while time.monotonic() - since < _SETTLED:
            time.sleep(0.2)
            now = self.counts()
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() > deadline:
                raise SandboxError("counters go on changing though the source has stopped")
        return last


def place(cores: list[int]) -> list[int]:
    """Return the core of each VNF in the order of the chain; the switch has the last core."""
    free = cores[:-1] if len(cores) > 4 else cores
    return [free[number % len(free)] for number in range(4)]


def _quoted(word: str) -> str:
    return f"'{word}'" if set(word) & set(" *()") else word
