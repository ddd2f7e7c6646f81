# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: flows between two ports go past the switch, and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from tests.system.scene import BURST, becomes, eventually, settled

if TYPE_CHECKING:
    from tests.system.scene import Scene


def test_a_p2p_flow_takes_the_bypass_and_is_counted(scene: Scene) -> None:
    """Traffic of a plain flow leaves the switch, which goes on counting it.

    Steps: add a flow p1 → p2 and send.
    Verify: the VNFs count bypassed packets, OVS shows the flow as offloaded, the receiver has all
    that was sent, and flow and port statistics agree with it.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.send(50)

    count = sender.sent()
    becomes(receiver.received, count, "the receiver")
    assert sender.bypassed() >= 50 * BURST
    becomes(lambda: receiver.bypassed("rx"), sender.bypassed(), "bypassed packets received")
    (line,) = scene.datapath_flows()
    assert "offloaded:yes, dp:dpdk" in line
    assert "actions:p2" in line
    scene.flow_becomes(1, count)
    assert scene.port(1).rx == scene.port(2).tx == count


def test_both_directions_bypass_at_the_same_time(scene: Scene) -> None:
    """Two flows that face each other share a link, and each is counted for itself.

    Steps: flows p1 → p2 and p2 → p1; both VNFs flood at the same time, then stop.
    Verify: each receives over the bypass what the other sent, and the counters agree.
    """
    scene.ports(2)
    one, two = scene.vnf(1), scene.vnf(2)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.add_flow("cookie=2,in_port=2,actions=1")
    scene.bypass_on(one, two)
    before = one.bypassed(), two.bypassed()
    one.flood()
    two.flood()
    eventually(
        lambda: one.bypassed() > before[0] + 500 and two.bypassed() > before[1] + 500,
        "both send over the bypass",
    )
    sent = one.quiet(), two.quiet()

    becomes(two.received, sent[0], "received at p2")
    becomes(one.received, sent[1], "received at p1")
    scene.flow_becomes(1, sent[0])
    scene.flow_becomes(2, sent[1])
    assert (scene.port(1).rx, scene.port(1).tx) == (sent[0], sent[1])
    assert (scene.port(2).rx, scene.port(2).tx) == (sent[1], sent[0])
    assert scene.link(1, 2)["link_id"] == scene.link(2, 1)["link_id"]


def test_a_packet_out_arrives_while_the_bypass_is_active(scene: Scene) -> None:
    """The normal channel is received from all the time.

    Steps: flood over the bypass; meanwhile have OVS send a packet to the receiver.
    Verify: it arrives, over the normal channel, unchanged in length; the flow does not count it,
    the port does.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    settled(receiver.received)
    before, before_bytes = receiver.normal("rx"), receiver.xstats()["rx_normal_bytes"]
    sender.flood()
    frame = bytes(Ether(dst="02:00:00:00:00:01") / IP(dst="192.0.2.1") / UDP() / (b"x" * 200))
    for number in range(1, 4):
        scene.ofctl("packet-out", f"in_port=controller packet={frame.hex()} actions=output:2")
        becomes(lambda: receiver.normal("rx"), before + number, "packets over the normal channel")
    assert receiver.xstats()["rx_normal_bytes"] - before_bytes == 3 * len(frame)
    assert sender.normal() == before, "the flood has left the bypass"

    count = sender.quiet()
    scene.flow_becomes(1, count)
    tx = scene.port(2).tx
    assert tx.packets == count.packets + 3
    assert tx.bytes == count.bytes + 3 * len(frame)


def test_a_second_rule_that_splits_the_traffic_is_honoured(scene: Scene) -> None:
    """A flow of higher priority takes its part of the traffic, under traffic.

    Steps: UDP to port 80 floods from p1 to p2 over the bypass; add a flow that sends UDP port 80
    to p3; then send UDP to another port.
    Verify: p3 gets what goes to port 80 and p2 no more of it, both over the bypass; p2 gets the
    rest; each flow has counted its own.
    """
    scene.ports(3)
    second, third = scene.vnf(2), scene.vnf(3)
    web = scene.vnf(1, app_args=("--tx-udp=1024,80",))
    scene.add_flow("cookie=1,priority=10,in_port=1,actions=2")
    scene.bypass_on(web)
    web.flood()
    scene.add_flow("cookie=2,priority=20,in_port=1,udp,tp_dst=80,actions=3")
    eventually(lambda: third.bypassed("rx") > 0, "port 80 goes to p3 over the bypass")
    settled(second.received)
    count = web.quiet()
    # While a rule changes, traffic is with the switch, which drops what a full ring cannot take.
    arrived = settled(second.received) + settled(third.received)
    dropped = scene.port(2).tx_dropped + scene.port(3).tx_dropped
    assert arrived.packets + dropped == count.packets
    scene.flows_claim((1, 2), count, port=1)
    before, before_third = second.received(), third.received()
    flows = scene.flow(1) + scene.flow(2)
    web.close()

    other = scene.vnf(1, app_args=("--tx-udp=1024,81",))
    scene.bypass_on(other)
    count = other.sent()
    becomes(second.received, before + count, "received at p2")
    assert third.received() == before_third
    becomes(lambda: scene.flow(1) + scene.flow(2), flows + count, "both flows")


def test_removing_the_rule_takes_the_traffic_off_the_bypass(scene: Scene) -> None:
    """Without its flow nothing arrives any more; with it again, all does.

    Steps: flood over the bypass, delete the flow, later add it again.
    Verify: the receiver gets nothing while there is no flow, though the sender goes on sending,
    to the switch; then the bypass comes back by itself.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.flood()
    scene.ofctl("del-flows")
    eventually(lambda: sender.normal() > 2000, "the sender is back on the normal channel")
    still = settled(receiver.received)
    bypassed, normal = sender.bypassed(), sender.normal()
    eventually(lambda: sender.normal() > normal + 2000, "it goes on sending")
    assert sender.bypassed() == bypassed
    assert receiver.received() == still
    becomes(lambda: scene.highway_json("rules", "p1")["rules"], [], "rules of p1")

    scene.add_flow("in_port=1,actions=2")
    eventually(lambda: sender.bypassed() > bypassed, "the bypass is back")
    eventually(lambda: receiver.received().packets > still.packets, "packets arrive again")


def test_a_pipeline_that_ends_at_one_port_bypasses_too(scene: Scene) -> None:
    """It is OVS's own translation that decides.

    Steps: two tables with a register and MAC learning (NORMAL) at the end; p2 sends first, so
    that its address is learned; p1 sends to that address.
    Verify: what p1 sends takes the bypass to p2 alone, and all tables count it.
    """
    scene.ports(3)
    second, third = scene.vnf(2), scene.vnf(3)
    sender = scene.vnf(1, app_args=(f"--eth-peer=0,{second.port_info().mac}",))
    scene.add_flow("cookie=1,table=0,actions=load:7->NXM_NX_REG0[],goto_table:1")
    scene.add_flow("cookie=2,table=1,reg0=7,actions=normal")
    learning = second.send()
    becomes(third.received, learning, "the flood of p2's first packets at p3")
    scene.bypass_on(sender)
    sender.send(20)
    becomes(second.received, sender.sent(), "received at p2")
    assert third.received() == learning
    for cookie in (1, 2):
        scene.flow_becomes(cookie, sender.sent() + learning)
