# SPDX-License-Identifier: Apache-2.0
"""Ports that go down, and ports that go and come back, while their traffic is bypassed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.system.scene import BRIDGE, becomes, eventually, settled

if TYPE_CHECKING:
    from tests.system.scene import Scene


@pytest.mark.parametrize("number", [1, 2], ids=["sender", "receiver"])
def test_a_port_that_is_down_lets_nothing_pass(scene: Scene, number: int) -> None:
    """mod-port down and up, at either end of a bypass, under traffic.

    Steps: flood over the bypass; set one port down; later up again.
    Verify: while it is down nothing arrives, the VNF there sees its link down, and a controller
    gets PORT_STATUS; when it is up, the bypass comes back by itself, and counters agree.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    here = sender if number == 1 else receiver
    monitor = scene.monitor()
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.flood()

    scene.ofctl("mod-port", f"p{number}", "down")
    here.wait_link_up(up=False)
    status = rf"PORT_STATUS.*MOD: {number}\(p{number}\)[^\n]*\n\s+config:\s+"
    scene.monitored(monitor, status + "PORT_DOWN")
    before, bypassed = settled(receiver.received), sender.bypassed()
    assert "is down" in scene.link(1, 2)["reason"]
    scene.revalidate()
    assert receiver.received() == before
    assert sender.bypassed() == bypassed
    assert sender.link_status() == (number != 1)

    scene.ofctl("mod-port", f"p{number}", "up")
    here.wait_link_up()
    scene.monitored(monitor, "(?s)PORT_DOWN.*" + status + "0")
    eventually(lambda: sender.bypassed() > bypassed, "the bypass is in use again")
    eventually(lambda: receiver.received().packets > before.packets, "packets arrive again")
    count = sender.quiet()
    assert settled(receiver.received) == scene.port(2).tx
    assert scene.port(1).rx == count


def test_frames_that_a_port_may_not_send_any_more_are_not_sent(scene: Scene) -> None:
    """A VNF that sends while its port is down is told so by a short count, not by silence.

    Steps: set the sender's port down while nothing is sent; try to send; set it up; send.
    Verify: nothing is accepted while the port is down; all is afterwards.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    before = sender.sent()
    scene.ofctl("mod-port", "p1", "down")
    sender.wait_link_up(up=False)
    assert sender.send(10).packets == 0
    scene.ofctl("mod-port", "p1", "up")
    sender.wait_link_up()
    scene.bypass_on(sender)
    sender.send(10)
    becomes(receiver.received, sender.sent(), "the receiver")
    scene.flow_becomes(1, sender.sent())
    assert sender.sent().packets > before.packets


def test_a_vnf_that_sets_its_own_link_down_and_up_goes_on(scene: Scene) -> None:
    """`set link-down` and `set link-up` in the application.

    Steps: stop, set the link down, up, start and send.
    Verify: the bypass is used again.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.command("stop")
    sender.set_link(0, up=False)
    sender.set_link(0, up=True)
    sender.wait_link_up()
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")


@pytest.mark.parametrize("number", [1, 2], ids=["sender", "receiver"])
def test_a_port_that_is_deleted_and_added_again_gets_its_bypass_back(
    scene: Scene, number: int
) -> None:
    """del-port and add-port under traffic; no VNF is restarted.

    Steps: flood over the bypass; delete one port; add it again with the same number.
    Verify: nothing arrives in between and the VNF's link is down; then traffic comes back by
    itself, over the bypass, from the same process; OVS has not crashed.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    here = sender if number == 1 else receiver
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.flood()
    pids = sender.pid, receiver.pid, scene.sandbox.daemon("ovs-vswitchd").pid

    scene.sandbox.del_port(BRIDGE, f"p{number}")
    here.wait_link_up(up=False)
    before = settled(receiver.received)
    eventually(lambda: scene.link(1, 2).get("state") != "bypass", "the link is off")
    assert settled(receiver.received) == before

    bypassed = sender.bypassed()
    scene.ports(1, first=number)
    here.wait_link_up()
    eventually(lambda: receiver.received().packets > before.packets, "packets arrive again")
    eventually(lambda: sender.bypassed() > bypassed, "the bypass is in use again")
    sender.quiet()
    becomes(lambda: scene.link(1, 2)["state"], "bypass", "the link")
    assert scene.sandbox.daemon("ovs-vswitchd").alive
    assert (sender.pid, receiver.pid, scene.sandbox.daemon("ovs-vswitchd").pid) == pids


def test_ports_come_and_go_while_others_keep_their_bypass(scene: Scene) -> None:
    """Adding and deleting ports does not disturb a bypass between others.

    Steps: flood p1 → p2; add and delete p3 several times; stop.
    Verify: nothing is lost, and all is counted.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.flood()
    for _ in range(3):
        bypassed = sender.bypassed()
        scene.ports(1, first=3)
        eventually(lambda old=bypassed: sender.bypassed() > old, "the bypass goes on")  # type: ignore[misc]
        scene.sandbox.del_port(BRIDGE, "p3")
    count = sender.quiet()
    arrived, dropped = settled(receiver.received), scene.port(2).tx_dropped
    assert arrived.packets + dropped == count.packets
    scene.flows_claim((1,), count, port=1)
    assert scene.port(1).rx == count


def test_the_mtu_of_the_receiver_bounds_what_is_bypassed(scene: Scene) -> None:
    """A rule carries the greatest frame that its peer takes.

    Steps: p1 with an MTU of 9,000, p2 with 1,500; send frames of 1,514 and of 4,000 bytes.
    Verify: the short ones arrive over the bypass, the long ones do not arrive and are dropped
    and counted by the switch; with p2 at 9,000 too the long ones arrive over the bypass.
    """
    scene.ports(2)
    long_mbufs = ("--mbuf-size=10240", "--max-pkt-len=9018")
    for number in (1, 2):
        scene.sandbox.vsctl("set", "Interface", f"p{number}", "mtu_request=9000")
    scene.sandbox.vsctl("set", "Interface", "p2", "mtu_request=1500")
    receiver, sender = (scene.vnf(n, app_args=long_mbufs) for n in (2, 1))
    scene.add_flow("cookie=1,in_port=1,actions=2")
    sender.command("stop")
    sender.set_txpkts(1514)
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "frames of 1,514 bytes")
    short = sender.sent()

    sender.command("stop")
    sender.set_txpkts(4000)
    bypassed = sender.bypassed()
    long = sender.send(4)
    assert long.packets == 4 * 32
    assert sender.bypassed() == bypassed
    becomes(lambda: scene.port(2).tx_dropped, long.packets, "too long for p2")
    assert receiver.received_all() == short

    scene.sandbox.vsctl("set", "Interface", "p2", "mtu_request=9000")
    scene.bypass_on(sender)
    sender.send(4)
    eventually(lambda: receiver.received().bytes >= short.bytes + 5 * 32 * 4000, "long frames")
