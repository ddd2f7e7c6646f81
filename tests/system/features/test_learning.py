# SPDX-License-Identifier: Apache-2.0
"""NORMAL: MAC learning, ageing, moving and flushing, while the traffic bypasses the switch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from tests.system.scene import BRIDGE, Count, becomes, eventually

if TYPE_CHECKING:
    from tests.system.scene import Scene, Vnf

AGE: Final = ("set", "Bridge", BRIDGE, "other_config:mac-aging-time=15")


def learned(scene: Scene) -> dict[str, tuple[int, int]]:
    """Return the OpenFlow port, and the age in seconds, of each learned address."""
    text = scene.sandbox.appctl("fdb/show", BRIDGE)
    found = re.findall(r"^\s*(\d+)\s+\d+\s+([0-9a-f:]{17})\s+(\d+)", text, re.MULTILINE)
    return {mac: (int(port), int(age)) for port, mac, age in found}


def switch(scene: Scene) -> tuple[Vnf, Vnf, Vnf, list[str]]:
    """Make a learning switch whose VNFs at p1 and p2 send to each other, and know each other.

    The VNF at p3 has sent once too. Return the three, and their addresses.
    """
    scene.ports(3)
    scene.add_flow("cookie=1,actions=normal")
    one, two, three = (scene.vnf(number) for number in (1, 2, 3))
    macs = [vnf.port_info().mac for vnf in (one, two, three)]
    one.send_to(macs[1])
    two.send_to(macs[0])
    for vnf in (two, three, one):
        vnf.send()
    becomes(lambda: set(learned(scene)) >= set(macs), True, "all addresses are learned")
    scene.bypass_on(one, two)
    return one, two, three, macs


def test_bypassed_traffic_keeps_learned_addresses_and_silent_ones_age_out(scene: Scene) -> None:
    """Addresses age after 15 s, the least that OVS allows; bypassed packets refresh them.

    Steps: p1, p2 and p3 have sent; then p1 and p2 go on for more than 15 s, all over the bypass,
    until p3's address has aged out, and 2 s more.
    Verify: the addresses of p1 and p2 are there all the time, and nothing is flooded: p3 receives
    nothing, and nothing passes the switch.
    """
    scene.sandbox.vsctl(*AGE)
    one, two, three, macs = switch(scene)
    flooded, normal = three.received_all(), (one.normal(), two.normal())
    rounds = 0

    def silent_one_is_gone() -> bool:
        nonlocal rounds
        rounds += 1
        one.send()
        two.send()
        known = learned(scene)
        assert known[macs[0]][0] == 1
        assert known[macs[1]][0] == 2
        return macs[2] not in known

    eventually(silent_one_is_gone, "p3's address ages out")
    assert rounds > 10
    for _ in range(10):
        assert silent_one_is_gone()
    assert three.received() == flooded
    assert (one.normal(), two.normal()) == normal
    becomes(one.received, two.sent() + three.sent(), "received by p1")
    becomes(two.received, one.sent() + three.sent(), "received by p2")


def test_an_address_that_moves_takes_the_bypass_with_it(scene: Scene) -> None:
    """The address of p2 is learned at p3, then forgotten.

    Steps: p1 sends to p2 over the bypass; OVS learns p2's address at p3 (by a packet-out that
    comes from there); send; flush the learned addresses; send; p2 sends; send.
    Verify: the bypass moves to p3; after the flush both get all, through the switch; once p2 has
    sent, p2 alone, over the bypass. The flow counts it all.
    """
    one, two, three, macs = switch(scene)
    frame = bytes(Ether(src=macs[1], dst=macs[0]) / IP(dst="192.0.2.1") / UDP() / (b"x" * 20))
    scene.revalidate()  # else what p2 has sent before may be credited, and learned, after this
    scene.ofctl("packet-out", f"in_port=3 packet={frame.hex()} actions=normal")
    becomes(lambda: learned(scene)[macs[1]][0], 3, "the port of p2's address")
    scene.revalidate()
    assert delivered(scene, one, (two, three), bypassed=True) == (0, 1)

    scene.sandbox.appctl("fdb/flush", BRIDGE)
    scene.revalidate()
    assert delivered(scene, one, (two, three), bypassed=False) == (1, 1)

    two.send()
    becomes(lambda: learned(scene).get(macs[1], (0, 0))[0], 2, "the port of p2's address")
    scene.revalidate()
    assert delivered(scene, one, (two, three), bypassed=True) == (1, 0)
    total = one.sent() + two.sent() + three.sent()
    scene.flow_becomes(1, total)


def delivered(
    scene: Scene, sender: Vnf, receivers: tuple[Vnf, Vnf], *, bypassed: bool
) -> tuple[float, float]:
    """Send, and return which part of it each receiver gets."""
    (scene.bypass_on if bypassed else scene.bypass_off)(sender)
    before = [vnf.received_all() for vnf in receivers]
    channel = sender.bypassed()
    sent = sender.send(10)
    got = [vnf.received_all() - was for vnf, was in zip(receivers, before, strict=True)]
    assert sender.bypassed() - channel == (sent.packets if bypassed else 0)
    assert all(count in (Count(), sent) for count in got)
    return got[0].packets / sent.packets, got[1].packets / sent.packets
