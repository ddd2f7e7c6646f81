# SPDX-License-Identifier: Apache-2.0
"""BFD, CFM and LLDP: OVS's own frames go to and come from VNFs whose traffic is bypassed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from tests.system.features.player import Player
from tests.system.scene import becomes, eventually

if TYPE_CHECKING:
    from tests.system.scene import Scene, Vnf


# Chassis and port by MAC address, time to live 120 s, end: IEEE 802.1AB, 8.
LLDPDU: Final = bytes.fromhex("0207040200000000010407030200000000010602007800000000")


class Chain:
    """p1 → [p2 wire p3] → p4: a VNF that forwards between two ports, amid bypasses."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        scene.ports(4)
        self.wire = scene.vnf(2, 3)
        self.wire.command("stop")
        self.wire.set_fwd("io")
        self.wire.start()
        self.sink, self.source = scene.vnf(4), scene.vnf(1)
        scene.add_flow("cookie=1,in_port=1,actions=2")
        scene.add_flow("cookie=3,in_port=3,actions=4")

    def bypassed(self) -> bool:
        """Send a burst; tell whether it took the bypass over both hops."""
        before = self.source.bypassed(), self.sink.bypassed("rx"), self.sink.received()
        sent = self.source.send()
        becomes(lambda: self.sink.received() - before[2] == sent, True, "received")
        first, second = self.source.bypassed() - before[0], self.sink.bypassed("rx") - before[1]
        return first == second == sent.packets

    def status(self, port: str, column: str) -> dict[str, str]:
        """Return a status column of an interface."""
        text = self.scene.sandbox.vsctl("get", "Interface", port, column)
        return dict(re.findall(r'(\w+)="?([\w ]*)"?', text))


def test_a_bfd_session_through_a_bypassed_vnf_stays_up_and_tells_failure(scene: Scene) -> None:
    """BFD between the two ports of a VNF, enabled under bypasses.

    Steps: UDP over both bypasses; enable BFD at p2 and p3; go on sending; then stop the VNF; a
    fast failover group watches p2.
    Verify: BFD comes up, since its frames (UDP too) are the switch's and not bypassed; traffic is
    bypassed all the while and no session flaps; when the VNF stops, BFD goes down and the group
    moves to p4, over the bypass.
    """
    chain = Chain(scene)
    eventually(chain.bypassed, "both hops are bypassed")
    for port in ("p2", "p3"):
        scene.sandbox.vsctl(
            *("set", "Interface", port, "bfd:enable=true", "bfd:min_tx=500", "bfd:min_rx=500")
        )

    def up() -> bool:
        found = [chain.status(port, "bfd_status") for port in ("p2", "p3")]
        return all(one.get("state") == "up" and one["forwarding"] == "true" for one in found)

    eventually(up, "BFD is up at both ends")
    eventually(chain.bypassed, "both hops are bypassed again")
    flaps = [chain.status(port, "bfd_status")["flap_count"] for port in ("p2", "p3")]
    frames = chain.wire.normal("rx")

    def more_frames() -> bool:
        assert chain.bypassed()
        assert up()
        return chain.wire.normal("rx") > frames + 8

    eventually(more_frames, "BFD frames go on")
    assert flaps == [chain.status(port, "bfd_status")["flap_count"] for port in ("p2", "p3")]

    scene.ofctl(
        "add-group", "group_id=1,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:4,output:4"
    )
    scene.ofctl("mod-flows", "in_port=1,actions=group:1")
    eventually(chain.bypassed, "the group uses p2")
    chain.wire.command("stop")
    eventually(lambda: not up(), "BFD notices that the VNF has stopped")

    def moved() -> bool:
        before = chain.sink.bypassed("rx")
        scene.bypass_on(chain.source)
        return chain.sink.bypassed("rx") > before

    eventually(moved, "the group uses p4, over the bypass")


def test_cfm_through_a_bypassed_vnf_has_no_fault_until_the_vnf_stops(scene: Scene) -> None:
    """CFM between the two ports of a VNF, enabled under bypasses.

    Steps: UDP over both bypasses; enable CFM at p2 and p3; go on sending; then stop the VNF.
    Verify: both ends know each other and have no fault while traffic is bypassed; then they have.
    """
    chain = Chain(scene)
    eventually(chain.bypassed, "both hops are bypassed")
    for number, port in enumerate(("p2", "p3"), 1):
        scene.sandbox.vsctl(
            "set", "Interface", port, f"cfm_mpid={number}", "other_config:cfm_interval=500"
        )

    def faults() -> list[str]:
        get = ["get", "Interface"]
        return [
            scene.sandbox.vsctl(*get, port, "cfm_fault", "cfm_remote_mpids").split("\n", 1)[n]
            for port in ("p2", "p3")
            for n in (0, 1)
        ]

    becomes(lambda: [one.strip() for one in faults()], ["false", "[2]", "false", "[1]"], "CFM")
    frames = chain.wire.normal("rx")

    def more_frames() -> bool:
        assert chain.bypassed()
        assert faults()[0] == "false"
        return chain.wire.normal("rx") > frames + 8

    eventually(more_frames, "CFM frames go on")
    chain.wire.command("stop")
    eventually(lambda: faults()[0] == faults()[2] == "true", "CFM notices that the VNF has stopped")


def test_lldp_goes_to_a_vnf_and_comes_from_it(scene: Scene) -> None:
    """LLDP is switched on at both ports of a bypass.

    Steps: p1 sends LLDP frames amid UDP to p2, all bypassed, for to OVS it is a frame as any
    other; enable LLDP at p1 and p2; go on sending.
    Verify: from then on p1's LLDP frames end at the switch and UDP is bypassed on; p2 gets LLDP
    frames of OVS.
    """
    scene.ports(2)
    receiver = scene.vnf(2)
    lldp = Ether(dst="01:80:c2:00:00:0e", src="02:00:00:00:00:01", type=0x88CC) / Raw(LLDPDU)
    udp = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / IP() / UDP() / Raw(bytes(64))
    sender = scene.use(Player(scene, 1, [lldp, udp]))
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")

    for port in ("p1", "p2"):
        scene.sandbox.vsctl("set", "Interface", port, "lldp:enable=true")
    scene.revalidate()
    eventually(lambda: halves(scene, sender) == (16, 16), "LLDP goes to the switch")
    receiver.received_all()
    before = receiver.bypassed("rx"), receiver.normal("rx")
    udp_sent = 0

    def lldp_of_ovs() -> bool:
        nonlocal udp_sent
        assert halves(scene, sender) == (16, 16)
        udp_sent += 16
        return receiver.normal("rx") > before[1]

    eventually(lldp_of_ovs, "an LLDP frame of OVS comes to p2")
    receiver.received_all()
    assert receiver.bypassed("rx") - before[0] == udp_sent
    assert receiver.normal("rx") - before[1] < 16


def halves(scene: Scene, sender: Vnf) -> tuple[int, int]:
    """Send a burst; return how much of it took the bypass and the normal channel."""
    before = sender.bypassed(), sender.normal()
    sender.send()
    scene.revalidate()
    return sender.bypassed() - before[0], sender.normal() - before[1]
