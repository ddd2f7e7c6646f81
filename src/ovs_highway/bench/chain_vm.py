# SPDX-License-Identifier: Apache-2.0
"""`highway bench chain --vnf vm`: eight VMs in a row, both directions at once.

The same guest in each VM, testpmd inside: flowgen in the first and the last, io in those between.
Whether all links are direct and all counters exact is what this is for; the rates mean something
with KVM only.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ovs_highway.bench import machine
from ovs_highway.bench.chain import wire
from ovs_highway.bench.command import links
from ovs_highway.bench.vm import label
from ovs_highway.errors import SandboxError
from ovs_highway.lab import Sandbox
from ovs_highway.lab.process import wait_until
from ovs_highway.lab.vm import GuestTestPmd, Vm, accelerator, guest_files, vm_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ovs_highway.bench.wiring import Vnf

LENGTH: Final = 8
BRIDGE: Final = "br0"
BURST: Final = 32
_IDLE: Final = "idle=sleep"
_PATIENCE: Final = 180.0
_COUNTED: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One direction of a hop: names of ports, and the cookie of its flow."""

    source: str
    target: str
    cookie: int


def directions(hops: Sequence[tuple[str, str]]) -> list[Hop]:
    """Return both directions of hops, each with a cookie of its own."""
    pairs = [pair for one, two in hops for pair in ((one, two), (two, one))]
    return [Hop(source=one, target=two, cookie=n) for n, (one, two) in enumerate(pairs, 1)]


def flow_packets(dump_flows: str) -> dict[int, int]:
    """Return the packets of each flow by its cookie, as `ovs-ofctl dump-flows` prints them."""
    found = re.findall(r"cookie=(0x[0-9a-f]+|0),.*?n_packets=(\d+)", dump_flows)
    return {int(cookie, 16): int(packets) for cookie, packets in found}


class Chain:
    """VMs that are wired up: `with Chain(sandbox, length, accel) as chain:`."""

    def __init__(self, sandbox: Sandbox, length: int, accel: str) -> None:
        self._sandbox, self._accel = sandbox, accel
        self._vnfs, hops = wire(length, [0])
        self.hops = directions(hops)
        self._stack = contextlib.ExitStack()
        self._guests: list[GuestTestPmd] = []

    def __enter__(self) -> Chain:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        ports = [port for vnf in self._vnfs for port in vnf.ports]
        numbers = {name: number for number, name in enumerate(ports, 1)}
        for name, number in numbers.items():
            self._sandbox.add_port(BRIDGE, name, number)
        vms = [stack.enter_context(self._vm(vnf)) for vnf in self._vnfs]
        for vm, vnf in zip(vms, self._vnfs, strict=True):
            guest = GuestTestPmd(
                vm,
                env=self._sandbox.env,
                devargs=_IDLE,
                forward=vnf.forward,
                app_args=[f"--burst={BURST}"],
            )
            self._guests.append(stack.enter_context(guest))
            for port in range(len(vnf.ports)):
                guest.wait_link_up(port, timeout=_PATIENCE)
        for hop in self.hops:
            match = f"cookie={hop.cookie},in_port={numbers[hop.source]}"
            self._sandbox.ofctl("add-flow", BRIDGE, f"{match},actions={numbers[hop.target]}")

    def _vm(self, vnf: Vnf) -> Vm:
        return Vm(
            vnf.name,
            options=vm_options(self._sandbox, vnf.name, *vnf.ports),
            directory=self._sandbox.rundir,
            accel=self._accel,
            env=self._sandbox.env,
        )

    def begin(self) -> None:
        """Let all VNFs forward, and wait until all hops use the bypass.

        Raises:
            SandboxError: they do not.
        """
        for guest in reversed(self._guests):
            guest.start()

        def direct() -> bool:
            before = self.received("bypass")
            time.sleep(1.0)
            after = self.received("bypass")
            return all(after[port] > count for port, count in before.items())

        if not wait_until(direct, _PATIENCE, interval=0.5):
            raise SandboxError(f"not all hops use the bypass: {links(self._sandbox)}")

    def end(self) -> None:
        """Let the ends make no more, and wait until all that is under way has arrived."""
        for guest in (self._guests[0], self._guests[-1]):
            guest.stop()
            guest.set_fwd("rxonly")
            guest.start()

        def quiet() -> bool:
            before = self._stats()
            time.sleep(1.0)
            return self._stats() == before

        if not wait_until(quiet, _PATIENCE, interval=0.1):
            raise SandboxError("frames go on arriving though nobody makes any")

    def received(self, channel: str) -> dict[str, int]:
        """Return what each port's VNF has received on its bypass or normal channel."""
        found: dict[str, int] = {}
        for guest, vnf in zip(self._guests, self._vnfs, strict=True):
            for number, port in enumerate(vnf.ports):
                found[port] = guest.xstats(number)[f"rx_{channel}_packets"]
        return found

    def _stats(self) -> dict[str, tuple[int, int]]:
        """Return what each port's VNF has sent and received, in packets."""
        found: dict[str, tuple[int, int]] = {}
        for guest, vnf in zip(self._guests, self._vnfs, strict=True):
            for number, port in enumerate(vnf.ports):
                stats = guest.stats(number)
                found[port] = (stats.tx_packets, stats.rx_packets)
        return found

    def at_ends(self) -> int:
        """Return what both ends have received, in packets."""
        return sum(guest.stats().rx_packets for guest in (self._guests[0], self._guests[-1]))

    def counts(self) -> list[dict[str, Any]]:
        """Return of each hop what was sent, what arrived, and what the switch says of it."""
        stats = self._stats()
        flows = flow_packets(self._sandbox.ofctl("dump-flows", BRIDGE))
        return [
            {
                "from": hop.source,
                "to": hop.target,
                "sent": stats[hop.source][0],
                "received": stats[hop.target][1],
                "flow": flows.get(hop.cookie, 0),
            }
            for hop in self.hops
        ]

    def command_lines(self) -> list[str]:
        """Return how each VNF was started, first to last."""
        return [" ".join(guest.command_line) for guest in self._guests]


def exact(counts: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether on each hop all that was sent has arrived, and the flow has counted it."""
    return all(one["sent"] == one["received"] == one["flow"] > 0 for one in counts)


def image_hash() -> str:
    """Return the SHA-256 of the guest: of its kernel and its file system, one after the other."""
    digest = hashlib.sha256()
    for path in guest_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(*, length: int, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what is written as JSON.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: something does not do what it should.
    """
    facts, accel = machine.gather(), accelerator()
    with Sandbox(other_config={"pmd-maxsleep": "500"}) as sandbox:
        sandbox.add_bridge(BRIDGE)
        with Chain(sandbox, length, accel) as chain:
            tell(f"{length} VMs are up")
            chain.begin()
            tell("all hops use the bypass")
            normal, began, count = chain.received("normal"), time.monotonic(), chain.at_ends()
            time.sleep(seconds)
            mpps = (chain.at_ends() - count) / (time.monotonic() - began) / 1e6
            chain.end()
            direct = chain.received("normal") == normal
            wait_until(lambda: exact(chain.counts()), _COUNTED, interval=0.5)
            counts = chain.counts()
            lines = chain.command_lines()
    return {
        "benchmark": "chain_vm",
        "vnf": "vm",
        "label": label(accel),
        "accelerator": accel,
        "length": length,
        "links": len(counts) // 2,
        "direct": direct,
        "exact": exact(counts),
        "mpps": mpps,
        "counts": counts,
        "image_sha256": image_hash(),
        "command_lines": lines,
        "machine": facts.json(),
    }
