# SPDX-License-Identifier: Apache-2.0
"""A VNF cannot tell from a packet which channel it came over."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from tests.system.scene import BURST, becomes

if TYPE_CHECKING:
    from tests.system.scene import Scene, Vnf


def printed(vnf: Vnf) -> list[str]:
    """Return the descriptions of all packets that testpmd has printed.

    In verbose mode 1 it prints for each packet its addresses, type, length, segments, packet
    type, queue, RSS hash if there is one, and offload flags.
    """
    # Its prompt may come between any two lines.
    lines = [line.removeprefix("testpmd> ").strip() for line in vnf.output.splitlines()]
    where, found = "", []
    for line, following in itertools.pairwise(lines):
        burst = re.search(r"(port \d+/queue \d+: received) \d+ packets", line)
        where = burst[1] if burst else where
        if line.startswith("src="):
            found.append(f"{where} {line} {following}")
    return found


def descriptions(vnf: Vnf, total: int, last: int) -> set[str]:
    """Return how the `last` packets look, once all `total` since "set verbose 1" are printed."""
    becomes(lambda: len(printed(vnf)), total, f"what {vnf.name} has printed")
    return set(printed(vnf)[-last:])


@pytest.mark.parametrize("length", [60, 1514, 1000])
def test_packets_look_the_same_on_both_channels(scene: Scene, length: int) -> None:
    """Port id, addresses, length, segments, packet type and offload flags.

    Steps: have the receiver print what it gets; send over the bypass; switch the bypass off and
    send the same through the switch.
    Verify: all packets of both are described by one and the same text.
    """
    scene.ports(2)
    receiver = scene.vnf(2)
    sender = scene.vnf(1, app_args=("--tx-udp=4000,4001",))
    scene.add_flow("in_port=1,actions=2")
    sender.command("stop")
    sender.set_txpkts(length)
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")
    receiver.command("set verbose 1")
    silent = receiver.received().packets
    seen = []
    for channel in ("bypass", "normal"):
        if channel == "normal":
            scene.highway("off", "p1")
            scene.bypass_off(sender)
        before = receiver.xstats()[f"rx_{channel}_packets"]
        sender.send(2)
        becomes(receiver.received, sender.sent(), f"the receiver over the {channel} channel")
        assert receiver.xstats()[f"rx_{channel}_packets"] == before + 2 * BURST
        total = receiver.received().packets - silent
        seen.append(descriptions(receiver, total, 2 * BURST))
    scene.highway("on", "p1")
    assert seen[0] == seen[1]
    (one,) = seen[0]
    assert one.startswith("port 0/queue 0: received src=")
    assert f"length={length} - nb_segs=1" in one


def test_ports_and_addresses_do_not_change_with_the_channel(scene: Scene) -> None:
    """What the application knows of its port is the same with and without the bypass.

    Steps: read the port's information before the bypass, while it is used, and after.
    Verify: it is the same, and both VNFs have MAC addresses of their own, which are not OVS's.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    before = sender.port_info(), receiver.port_info()
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    assert (sender.port_info(), receiver.port_info()) == before
    scene.ofctl("del-flows")
    scene.bypass_off(sender)
    assert (sender.port_info(), receiver.port_info()) == before
    macs = {before[0].mac, before[1].mac}
    macs |= set(re.findall(r"addr:(\S+)", scene.ofctl("show")))
    assert len(macs) == 5  # two VNFs, two ports, the bridge


def test_a_vnf_gets_its_own_port_id_on_every_port(scene: Scene) -> None:
    """With several ports in one process each packet carries the id of the port it came to.

    Steps: one process with ports p2 and p3; p1 sends to p3 over the bypass, then to p2.
    Verify: the packets are printed, and counted, for port id 1, then for port id 0.
    """
    scene.ports(3)
    both, sender = scene.vnf(2, 3), scene.vnf(1)
    both.command("set verbose 1")
    for number, port in ((3, 1), (2, 0)):
        scene.add_flow(f"in_port=1,actions={number}")
        scene.revalidate()
        scene.bypass_on(sender)
        sender.send()
        becomes(lambda: both.received(0) + both.received(1), sender.sent(), "both ports")
        assert both.bypassed("rx", port) >= 2 * BURST
        (text,) = descriptions(both, (both.received(0) + both.received(1)).packets, BURST)
        assert text.startswith(f"port {port}/queue 0: received ")
