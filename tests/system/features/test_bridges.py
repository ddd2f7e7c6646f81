# SPDX-License-Identifier: Apache-2.0
"""Bridges: patch ports, a port that moves, fail modes and in-band control."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from tests.system.features.player import Player
from tests.system.scene import BRIDGE, Count, Scene, becomes, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovs_highway.lab import Sandbox

NOWHERE: Final = "tcp:127.0.0.1:1"
CONTROLLER: Final = "192.0.2.1"


class Second(Scene):
    """Bridge br1, connected with br0 by patch ports that have number 10 at both ends."""

    def __enter__(self) -> Second:
        self.sandbox.add_bridge("br1")
        self.ofctl("del-flows")
        self.sandbox.vsctl(
            *("add-port", BRIDGE, "to1", "--", "set", "Interface", "to1", "type=patch"),
            *("options:peer=to0", "ofport_request=10"),
            *("--", "add-port", "br1", "to0", "--", "set", "Interface", "to0", "type=patch"),
            *("options:peer=to1", "ofport_request=10"),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.sandbox.vsctl("--if-exists", "del-br", "br1")

    def ofctl(self, command: str, *arguments: str, version: str = "OpenFlow13") -> str:
        """Run ovs-ofctl for this bridge."""
        return self.sandbox.ofctl("-O", version, "--no-names", command, "br1", *arguments)


@pytest.fixture
def second(sandbox: Sandbox, scene: Scene) -> Iterator[Second]:
    """A second bridge."""
    assert scene.sandbox is sandbox
    with Second(sandbox) as second:
        yield second


def patched(bridge: Scene, way: str) -> Count:
    """Return what a bridge's patch port has received (`rx`) or sent (`tx`)."""
    text = bridge.ofctl("dump-ports", "10")
    found = re.search(rf"{way} pkts=(\d+), bytes=(\d+)", text)
    assert found is not None, text
    return Count(packets=int(found[1]), bytes=int(found[2]))


def test_a_flow_over_a_patch_port_is_bypassed_and_counted_everywhere(
    scene: Scene, second: Second
) -> None:
    """p1 is a port of br0, p2 of br1.

    Steps: flows p1 → patch port in br0 and patch port → p2 in br1; send.
    Verify: the bypass is on; the flows of both bridges, p1, p2 and both patch ports show it all.
    """
    scene.ports(1)
    scene.sandbox.add_port("br1", "p2", 2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=10")
    second.add_flow("cookie=2,in_port=10,actions=2")
    scene.bypass_on(sender)
    sender.send(20)
    count = sender.sent()
    becomes(receiver.received, count, "the receiver")
    scene.flow_becomes(1, count)
    second.flow_becomes(2, count)
    assert scene.port(1).rx == patched(scene, "tx") == count
    assert patched(second, "rx") == second.port(2).tx == count

    second.ofctl("mod-flows", "in_port=10,actions=drop")
    scene.revalidate()
    scene.bypass_off(sender)
    before = receiver.received_all()
    sender.send(20)
    assert receiver.received_all() == before
    scene.flow_becomes(1, sender.sent())
    second.flow_becomes(2, sender.sent())


def test_a_port_that_moves_to_another_bridge_is_bypassed_there(
    scene: Scene, second: Second
) -> None:
    """p2 moves from br0 to br1 under traffic, in one transaction.

    Steps: flood p1 → p2 over the bypass; move p2; send; then let br0's flow output to the patch
    port, and br1's to p2.
    Verify: after the move nothing arrives; then all does, over the bypass, with VNFs that were
    not restarted.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    second.add_flow("cookie=2,in_port=10,actions=2")
    scene.bypass_on(sender)
    sender.flood()
    scene.sandbox.vsctl(
        *("del-port", BRIDGE, "p2", "--", "add-port", "br1", "p2", "--", "set", "Interface", "p2"),
        *("type=dpdk", 'options:dpdk-devargs="net_highway_p2,role=switch"', "ofport_request=2"),
        "external_ids:highway-trust=sandbox",
    )
    receiver.wait_link_up()
    eventually(lambda: scene.link(1, 2).get("state") != "bypass", "the link is off")
    sender.quiet()
    before = receiver.received_all()
    sender.send(10)
    scene.revalidate()
    assert receiver.received_all() == before

    scene.ofctl("mod-flows", "in_port=1,actions=10")
    scene.bypass_on(sender)
    before, start = receiver.received_all(), second.port(2).tx
    sent = sender.send(20)
    becomes(lambda: receiver.received() - before, sent, "received by p2")
    becomes(lambda: second.port(2).tx - start, sent, "sent to p2")


def test_a_standalone_bridge_without_controller_learns_and_bypasses(scene: Scene) -> None:
    """Fail mode standalone, then secure.

    Steps: set the fail mode to standalone, which makes OVS a learning switch; p2 sends, p1 sends
    to p2; set it to secure; send.
    Verify: p1's traffic takes the bypass to p2 alone; in secure mode nothing arrives any more.
    """
    scene.ports(3)
    one, two, three = (scene.vnf(number) for number in (1, 2, 3))
    one.send_to(two.port_info().mac)
    scene.sandbox.vsctl("set-fail-mode", BRIDGE, "standalone")
    eventually(lambda: "NORMAL" in scene.ofctl("dump-flows"), "OVS adds its flow")
    flood = two.send()
    becomes(lambda: three.received().packets, flood.packets, "the flood at p3")
    scene.bypass_on(one)
    one.send(20)
    becomes(two.received, one.sent(), "received by p2")
    assert three.received() == flood

    scene.sandbox.vsctl("set-fail-mode", BRIDGE, "secure")
    eventually(lambda: "NORMAL" not in scene.ofctl("dump-flows"), "OVS takes its flow back")
    scene.revalidate()
    scene.bypass_off(one)
    before = two.received_all()
    one.send(20)
    assert two.received_all() == before


@pytest.mark.parametrize("mode", ["secure", "standalone"])
def test_without_its_controller_a_bridge_does_what_its_fail_mode_says(
    scene: Scene, mode: str
) -> None:
    """A controller that cannot be reached.

    Steps: name such a controller; add a flow p1 → p2, as if by it; send, until OVS gives the
    controller up (after three times `inactivity_probe`) and for a while after.
    Verify: secure: flow and bypass stay. Standalone: OVS replaces all flows by NORMAL, which
    floods, through the switch, until p2 has sent; then p2 alone gets all, over the bypass.
    """
    scene.ports(3)
    one, two, three = (scene.vnf(number) for number in (1, 2, 3))
    one.send_to(two.port_info().mac)
    scene.sandbox.vsctl(
        *("set-fail-mode", BRIDGE, mode, "--", "--id=@c", "create", "Controller"),
        *(f'target="{NOWHERE}"', "inactivity_probe=1000", "connection_mode=out-of-band"),
        *("--", "set", "Bridge", BRIDGE, "controller=@c"),
    )
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(one)
    assert three.received() == Count()
    log = scene.sandbox.daemon("ovs-vswitchd").log
    if mode == "standalone":
        eventually(lambda: "failing open" in log.read_text(), "OVS gives the controller up")
        scene.revalidate()
        scene.bypass_off(one)
        before = three.received_all()
        sent = one.send(10)
        becomes(lambda: three.received() - before, sent, "the flood at p3")
        two.send()
        scene.bypass_on(one)
        before, start = three.received_all(), two.received_all()
        sent = one.send(10)
        becomes(lambda: two.received() - start, sent, "received by p2")
        assert three.received() == before
    else:
        tries = log.read_text().count(NOWHERE)
        eventually(lambda: log.read_text().count(NOWHERE) > tries + 8, "OVS tries again")
        scene.bypass_on(one)
        scene.flow_becomes(1, one.sent())
        becomes(two.received, one.sent(), "received by p2")
        assert three.received() == Count()


def test_in_band_control_gets_its_packets_from_a_bypassed_port(scene: Scene) -> None:
    """OVS's hidden flows for a controller that is reached through the bridge.

    Steps: name a controller with in-band control; a flow p1 → p2; p1 sends UDP, and amid it ARP
    and TCP from the controller's address, which hidden flows send to NORMAL; with the bypass and
    without.
    Verify: UDP takes the bypass; ARP and TCP go through the switch, and p3 gets them too; without
    the bypass each gets the same.
    """
    scene.ports(3)
    two, three = scene.vnf(2), scene.vnf(3)
    ether = Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff")
    frames = [
        ether / IP(src=CONTROLLER, dst="192.0.2.9") / UDP(sport=1, dport=2) / Raw(bytes(30)),
        ether / ARP(op=1, psrc=CONTROLLER, pdst="192.0.2.9", hwsrc=ether.src) / Raw(bytes(18)),
        ether / IP(src="192.0.2.7", dst="192.0.2.9") / UDP(sport=1, dport=2) / Raw(bytes(30)),
        ether / IP(src=CONTROLLER, dst="192.0.2.9") / TCP(sport=6653, dport=7) / Raw(bytes(30)),
    ]
    sender = scene.use(Player(scene, 1, frames))
    scene.sandbox.vsctl("set-controller", BRIDGE, f"tcp:{CONTROLLER}:6653")
    scene.add_flow("in_port=1,actions=2")

    def half() -> bool:
        before = sender.bypassed()
        return sender.send().packets == 2 * (sender.bypassed() - before)

    eventually(half, "UDP is bypassed")
    seen = []
    for switch in ("on", "off"):
        scene.highway(switch, "p1")
        eventually(half if switch == "on" else lambda: not half(), f"the bypass is {switch}")
        scene.revalidate()
        before = two.received_all(), three.received_all()
        sent = sender.send(4)
        seen.append((two.received_all() - before[0], three.received_all() - before[1]))
        assert seen[-1][0] == sent
        assert seen[-1][1].packets == sent.packets // 2
    assert seen[0] == seen[1]
    scene.highway("on", "p1")
