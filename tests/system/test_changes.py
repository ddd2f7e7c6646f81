# SPDX-License-Identifier: Apache-2.0
"""Counters through every way of changing a bypassed flow: what was sent is what OpenFlow shows.

OVS credits what it has counted since its last look to the rule that is in force at the next one,
so where an exact number is asserted per rule, traffic rests while the rule changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import Count, becomes, eventually, settled

if TYPE_CHECKING:
    from tests.system.scene import Scene

REWRITE: Final = "mod_dl_dst:02:00:00:00:00:77,output:2"
PUSH: Final = 20

# What OVS can translate for the driver, with the number of copies that p2 and p3 then get.
CHANGES: Final = {
    "another-port": ("output:3", 0, 1),
    "drop": ("drop", 0, 0),
    "two-outputs": ("output:2,output:3", 1, 1),
    "rewrite": (REWRITE, 1, 0),
    "vlan-push": ("mod_vlan_vid:5,output:2", 1, 0),
}
# What it cannot: the datapath flow loses its history ("OVS's own limit" in DESIGN.md).
UNTRANSLATED: Final = {
    "local": "LOCAL,output:2",
    "controller": "controller(max_len=64),output:2",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_flow_keeps_all_its_counts(scene: Scene, change: str) -> None:
    """A bypassed flow is modified, and modified back.

    Steps: send over the bypass; modify the flow's actions; send; modify it back; send over the
    bypass.
    Verify: after each step flow and port statistics equal what was sent and what each receiver
    got; while it is changed, only a change to another port is bypassed.
    """
    actions, to_second, to_third = CHANGES[change]
    scene.ports(3)
    second, third, sender = scene.vnf(2), scene.vnf(3), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.send(PUSH)
    becomes(second.received, sender.sent(), "p2 at first")
    scene.flow_becomes(1, sender.sent())

    before = second.received(), third.received(), sender.sent()
    scene.ofctl("mod-flows", f"in_port=1,actions={actions}")
    scene.revalidate()
    if change == "another-port":
        scene.bypass_on(sender)
    else:
        scene.bypass_off(sender)
    sender.send(PUSH)
    count = sender.sent() - before[2]
    got_second, got_third = second.received_all() - before[0], third.received_all() - before[1]
    assert got_second.packets == count.packets * to_second
    assert got_third.packets == count.packets * to_third
    scene.flow_becomes(1, sender.sent())

    scene.ofctl("mod-flows", "in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.send(PUSH)
    scene.flow_becomes(1, sender.sent())
    assert scene.port(1).rx == sender.sent()
    assert scene.port(2).tx == second.received_all()
    assert scene.port(3).tx == third.received_all()
    assert scene.unclaimed(1) == 0


@pytest.mark.parametrize("change", UNTRANSLATED)
def test_a_change_that_ovs_cannot_translate_costs_no_more_than_its_history(
    scene: Scene, change: str
) -> None:
    """What was pushed to OpenFlow stays, and what is sent afterwards is counted.

    Steps: send over the bypass and let OVS push the counts; modify the flow so that it has an
    action which OVS cannot translate; send until the flow counts again; then measure; modify back.
    Verify: the flow never loses what it had; packets arrive all the time and are with the switch;
    once the flow counts, it counts each packet; port statistics are right throughout.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.send(PUSH)
    scene.flow_becomes(1, sender.sent())
    had = sender.sent()

    scene.ofctl("mod-flows", f"in_port=1,actions={UNTRANSLATED[change]}")
    scene.revalidate()
    scene.bypass_off(sender)
    scene.revalidate()
    assert scene.flow(1).packets >= had.packets
    start, flow_start = sender.sent(), scene.flow(1)
    bypassed = sender.bypassed()
    sender.send(PUSH)
    scene.flow_becomes(1, flow_start + (sender.sent() - start))
    assert sender.bypassed() == bypassed
    becomes(receiver.received, sender.sent(), "the receiver")

    scene.ofctl("mod-flows", "in_port=1,actions=2")
    scene.bypass_on(sender)
    scene.revalidate()
    start, flow_start = sender.sent(), scene.flow(1)
    sender.send(PUSH)
    scene.flow_becomes(1, flow_start + (sender.sent() - start))
    becomes(receiver.received, sender.sent(), "the receiver")
    assert scene.port(1).rx == scene.port(2).tx == sender.sent()


def test_a_deleted_flow_reports_all_it_had_and_a_new_one_starts_at_zero(scene: Scene) -> None:
    """Delete and add again.

    Steps: send over the bypass, delete the flow, send into the void, add the flow again, send.
    Verify: the flow-removed message has what was sent, the new flow only what was sent after it,
    the port all three.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    monitor = scene.monitor()
    scene.add_flow("cookie=1,in_port=1,send_flow_rem,actions=2")
    scene.bypass_on(sender)
    sender.send(PUSH)
    count = sender.sent()
    scene.flow_becomes(1, count)
    scene.ofctl("del-flows", "cookie=1/-1")
    message = scene.monitored(
        monitor, r"reason=delete table_id=0 cookie:0x1 .*pkts(\d+) bytes(\d+)"
    )
    assert (int(message[1]), int(message[2])) == (count.packets, count.bytes)

    scene.bypass_off(sender)
    lost = sender.sent() - count
    scene.revalidate()
    becomes(receiver.received, count, "the receiver")
    scene.add_flow("cookie=2,in_port=1,actions=2")
    scene.revalidate()
    # Packets that were dropped before the flow came may be credited to it (OVS's own behaviour).
    start, flow_start = sender.sent(), scene.flow(2)
    assert flow_start.packets <= lost.packets
    scene.bypass_on(sender)
    sender.send(PUSH)
    scene.flow_becomes(2, flow_start + (sender.sent() - start))
    becomes(receiver.received, count + (sender.sent() - start), "the receiver")
    assert scene.port(1).rx == sender.sent()
    assert scene.port(2).tx == receiver.received()


def test_changes_under_traffic_lose_no_count(scene: Scene) -> None:
    """A flow is modified again and again while its sender floods.

    Steps: flood; meanwhile modify the flow through all changes, twice; sample the counters; stop.
    Verify: no counter goes back or ahead of the sender; at the end the flow shows what was sent
    but for what is unclaimed, the port shows exactly what was sent, and what was not received the
    switch has dropped and counted.
    """
    scene.ports(3)
    second, third, sender = scene.vnf(2), scene.vnf(3), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.flood()
    flow, rx = Count(), Count()
    for _ in range(2):
        for actions in ["output:2", *(words for words, _, _ in CHANGES.values())]:
            start = sender.sent().packets
            scene.ofctl("mod-flows", f"in_port=1,actions={actions}")
            scene.revalidate()
            eventually(lambda start=start: sender.sent().packets > start + 500, "it goes on")  # type: ignore[misc]
            now = scene.flow(1), scene.port(1).rx
            limit = sender.sent()
            assert flow.packets <= now[0].packets <= limit.packets
            assert rx.packets <= now[1].packets <= limit.packets
            flow, rx = now
    count = sender.quiet()
    becomes(lambda: scene.port(1).rx, count, "received from p1")
    scene.flows_claim((1,), count, port=1)
    for number, vnf in ((2, second), (3, third)):
        assert settled(vnf.received) == scene.port(number).tx


def test_a_flow_replaced_under_traffic_hands_its_traffic_over(scene: Scene) -> None:
    """Flows of the same match follow each other under traffic (add-flow replaces, delete, add).

    Steps: flood; replace the flow by one to p3, delete it, add one to p2 again; stop.
    Verify: the sender never stalls, traffic ends at p2 over the bypass, and the port has it all.
    """
    scene.ports(3)
    second, third, sender = scene.vnf(2), scene.vnf(3), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.flood()
    scene.add_flow("in_port=1,actions=3")
    eventually(lambda: third.bypassed("rx") > 100, "p3 gets it over the bypass")
    scene.ofctl("del-flows")
    eventually(lambda: scene.datapath_flows() != [] and "drop" in scene.datapath_flows()[0], "drop")
    start = second.bypassed("rx")
    scene.add_flow("in_port=1,actions=2")
    eventually(lambda: second.bypassed("rx") > start + 100, "p2 gets it over the bypass")
    count = sender.quiet()
    becomes(lambda: scene.port(1).rx, count, "received from p1")
    assert settled(second.received) == scene.port(2).tx
    assert settled(third.received) == scene.port(3).tx
