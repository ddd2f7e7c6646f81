# SPDX-License-Identifier: Apache-2.0
"""Fragments amid bypassed traffic: OVS alone says what a fragment is and where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from tests.system.features.player import Player
from tests.system.scene import becomes

if TYPE_CHECKING:
    from scapy.packet import Packet
    from tests.system.scene import Scene, Vnf

ETHER: Final = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
PAYLOAD: Final = Raw(bytes(range(256)) * 4)


def whole(version: int) -> Packet:
    """Return a UDP packet that is not fragmented."""
    return ETHER / _ip(version) / UDP(sport=1000, dport=80) / PAYLOAD


def pieces(version: int) -> list[Packet]:
    """Return such a packet in three fragments."""
    if version == 4:
        return list(fragment(whole(4), fragsize=400))  # type: ignore[no-untyped-call]
    packet = _ip(6) / IPv6ExtHdrFragment(id=7) / UDP(sport=1000, dport=80) / PAYLOAD
    return [ETHER / part for part in fragment6(packet, 480)]  # type: ignore[no-untyped-call]


def _ip(version: int) -> Packet:
    if version == 4:
        return IP(src="192.0.2.1", dst="192.0.2.2")
    return IPv6(src="2001:db8::1", dst="2001:db8::2")


def sent_and_received(sender: Vnf, receivers: list[Vnf]) -> list[int]:
    """Have it send once; return how many packets each receives by that."""
    before = [vnf.received_all().packets for vnf in receivers]
    count = sender.send().packets
    becomes(
        lambda: sum(vnf.received().packets for vnf in receivers) - sum(before), count, "received"
    )
    return [vnf.received_all().packets - was for vnf, was in zip(receivers, before, strict=True)]


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_take_the_normal_channel_and_whole_packets_the_bypass(
    scene: Scene, version: int
) -> None:
    """One stream of whole packets and fragments.

    Steps: send whole packets and fragments in turn from p1 to p2 until OVS has a flow of each.
    Verify: all arrive; whole packets take the bypass, and every fragment the normal channel; the
    flow counts both.
    """
    scene.ports(2)
    receiver = scene.vnf(2)
    frames = [whole(version), *pieces(version)]
    assert len(frames) == 4
    sender = scene.use(Player(scene, 1, frames))
    scene.add_flow("cookie=1,in_port=1,actions=2")

    def split() -> bool:
        before = sender.bypassed(), sender.normal()
        count = sender.send().packets
        now = sender.bypassed() - before[0], sender.normal() - before[1]
        return now == (count // 4, count * 3 // 4)

    becomes(split, True, "whole packets bypassed, fragments not")
    for _ in range(5):
        assert split()
    becomes(receiver.received, sender.sent(), "the receiver")
    scene.flow_becomes(1, sender.sent())


def test_a_flow_for_ports_gets_the_first_fragment_only(scene: Scene) -> None:
    """In OVS's `normal` fragment mode, a later fragment has no ports.

    Steps: UDP port 80 goes to p3, the rest to p2; p1 sends whole packets and fragments to port
    80; with the bypass, then with it switched off; then all again in mode `nx-match`.
    Verify: with and without the bypass each receiver gets the same number; whole packets take the
    bypass to p3.
    """
    scene.ports(3)
    receivers = [scene.vnf(2), scene.vnf(3)]
    sender = scene.use(Player(scene, 1, [whole(4), *pieces(4)]))
    scene.add_flow("priority=10,in_port=1,actions=2")
    scene.add_flow("priority=20,in_port=1,udp,tp_dst=80,actions=3")
    seen: dict[str, list[list[int]]] = {}
    for mode in ("normal", "nx-match"):
        scene.ofctl("set-frags", mode, version="OpenFlow10")
        scene.revalidate()
        becomes(lambda: whole_bypassed(sender), True, f"whole packets are bypassed ({mode})")
        seen[mode] = [sent_and_received(sender, receivers)]
        scene.highway("off", "p1")
        try:
            scene.bypass_off(sender)
            seen[mode].append(sent_and_received(sender, receivers))
        finally:
            scene.highway("on", "p1")
        assert seen[mode][0] == seen[mode][1]
    assert seen["normal"][0] == [24, 8]
    assert seen["nx-match"][0] == [16, 16]
    scene.ofctl("set-frags", "normal", version="OpenFlow10")


def whole_bypassed(sender: Vnf) -> bool:
    """Send once; tell whether exactly the whole packets were bypassed."""
    before = sender.bypassed()
    return sender.send().packets == 4 * (sender.bypassed() - before)


def test_dropped_fragments_are_dropped_amid_bypassed_traffic(scene: Scene) -> None:
    """OVS's fragment mode `drop`, set under a bypass.

    Steps: bypass whole packets amid fragments; set the mode to drop; send; set it back.
    Verify: meanwhile the receiver gets the whole packets and nothing else.
    """
    scene.ports(2)
    receiver = scene.vnf(2)
    sender = scene.use(Player(scene, 1, [whole(4), *pieces(4)]))
    scene.add_flow("in_port=1,actions=2")
    becomes(lambda: whole_bypassed(sender), True, "whole packets are bypassed")
    becomes(receiver.received, sender.sent(), "the receiver")
    scene.ofctl("set-frags", "drop", version="OpenFlow10")
    scene.revalidate()
    before = receiver.received_all().packets
    count = sum(sender.send().packets for _ in range(3))
    assert receiver.received_all().packets - before == count // 4
    scene.ofctl("set-frags", "normal", version="OpenFlow10")
