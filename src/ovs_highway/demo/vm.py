# SPDX-License-Identifier: Apache-2.0
"""`python -m ovs_highway.demo.vm`: the VM demo; its last line is one JSON object.

The exit status is 0 if everything it shows holds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from ovs_highway.demo import openflow, program
from ovs_highway.demo.machines import BOX, BRIDGE, HOPS, IN, OUT, SINK, SOURCE, Machines

if TYPE_CHECKING:
    from ovs_highway.demo.screen import Screen

_SECONDS: Final = 3.0
_LENGTH: Final = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured: links plugged and unplugged at both ends, times, packets."""

    plugged: int
    active_ms: float
    flow_packets: int
    vnf_packets: int
    packet_out: bool
    unplugged: int
    mixed: bool

    def problems(self) -> list[str]:
        """Return what does not hold."""
        found = []
        if self.plugged != len(HOPS):
            found.append(f"{self.plugged} of {len(HOPS)} links were plugged at both ends")
        if self.flow_packets != self.vnf_packets or self.flow_packets == 0:
            found.append("the switch's counters are not what the VNF sent")
        if not self.packet_out:
            found.append("the packet-out did not reach the sink")
        if self.unplugged != len(HOPS):
            found.append(f"{self.unplugged} of {len(HOPS)} links were unplugged at both ends")
        if not self.mixed:
            found.append("the VM and the container have no link")
        return found


def tell(machines: Machines, screen: Screen) -> Outcome:
    """Run the demo.

    Raises:
        SandboxError: a program does not do what it should.
    """
    screen.title("Point-to-point rules and traffic: links are plugged into running VMs")
    for sender, receiver in HOPS:
        machines.ofctl("add-flow", BRIDGE, f"in_port={sender},actions=output:{receiver}")
    machines.source.start()
    for sender, receiver in HOPS:
        machines.await_bypass(sender, receiver)
    links = machines.plugged()
    both = set(links["vm-source"]) | set(links["vm-sink"])
    plugged = len(both & set(links["vm-vnf"]))
    active_ms = statistics.median(machines.set_up_ms())
    screen.watch("sink", _SECONDS, lambda: machines.received(SINK))
    machines.highway("vm", "list")
    machines.highway("links", "--interval", "0")
    text = f"two links, each a PCI device of two VMs; {active_ms:.0f} ms each"
    screen.verdict(plugged == len(HOPS), text)

    screen.title("The switch counts what it never saw")
    machines.source.stop()
    sent = machines.sent(SOURCE)
    machines.await_(lambda: machines.rule_packets(SOURCE) >= sent, "the rule shows all packets")
    flow_packets = machines.rule_packets(SOURCE)
    screen.table(
        ("packets", "rule", "sent by the VNF"),
        [
            (f"{sender} → {receiver}", machines.rule_packets(sender), machines.sent(sender))
            for sender, receiver in HOPS
        ],
    )
    screen.verdict(flow_packets == sent, "to the packet")

    screen.title("A packet-out goes to the VNF past the bypass")
    normal = machines.xstat(SINK, "rx_normal_packets")
    packet = openflow.frame("hello", _LENGTH).hex()
    machines.ofctl("packet-out", BRIDGE, f"in_port=controller,packet={packet},actions={SINK}")
    machines.await_(
        lambda: machines.xstat(SINK, "rx_normal_packets") == normal + 1, "it has arrived"
    )
    packet_out = machines.xstat(SINK, "rx_normal_packets") == normal + 1
    screen.verdict(packet_out, "one packet more over the normal channel")

    screen.title("Without their rules links end, and their devices leave the VMs")
    machines.ofctl("del-flows", BRIDGE)
    gone = time.monotonic()

    screen.title("Meanwhile: a link between a VM and a container")
    mixed = _mix(machines, screen)
    machines.await_(
        lambda: not any(both & set(ids) for ids in machines.plugged().values()),
        "the links' devices are gone",
    )
    left = [ids for ids in machines.plugged().values() if both & set(ids)]
    waited = time.monotonic() - gone
    screen.verdict(not left, f"no VM has the first links' devices {waited:.0f} s after the rules")
    return Outcome(
        plugged=plugged,
        active_ms=round(active_ms, 1),
        flow_packets=flow_packets,
        vnf_packets=sent,
        packet_out=packet_out,
        unplugged=len(both) if not left else 0,
        mixed=mixed,
    )


def _mix(machines: Machines, screen: Screen) -> bool:
    before = machines.sent(SOURCE)
    machines.ofctl("add-flow", BRIDGE, f"in_port={SOURCE},actions=output:{BOX}")
    machines.revalidate()
    machines.source.start()
    machines.await_bypass(SOURCE, BOX)
    screen.watch(BOX, 1.0, lambda: machines.received(BOX))
    machines.source.stop()
    sent = machines.sent(SOURCE) - before
    machines.await_(lambda: machines.rule_packets(SOURCE) >= sent, "the rule shows all packets")
    bypassed = machines.xstat(BOX, "rx_bypass_packets")
    screen.table(
        ("packets", "rule", "sent by the VM", "over the bypass"),
        [(f"{SOURCE} → {BOX}", machines.rule_packets(SOURCE), sent, bypassed)],
    )
    mixed = machines.rule_packets(SOURCE) == sent and bypassed > 0
    screen.verdict(mixed, "the same region: a PCI device here, a file descriptor there")
    return mixed


def show(screen: Screen) -> tuple[str, list[str]]:
    """Run the demo; return its last line, and what does not hold.

    Raises:
        HighwayError: something does not do what it should.
    """
    began = time.monotonic()
    screen.say("starting a private Open vSwitch with DPDK, highwayd and three VMs …")
    with Machines(screen) as machines:
        screen.say(f"VMs run with {machines.accelerator}; {IN} and {OUT} are one VNF's")
        outcome = tell(machines, screen)
    screen.say(f"that took {time.monotonic() - began:.0f} s")
    return json.dumps(asdict(outcome)), outcome.problems()


if __name__ == "__main__":
    sys.exit(program.run(show))
