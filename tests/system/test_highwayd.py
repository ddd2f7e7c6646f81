# SPDX-License-Identifier: Apache-2.0
"""Lives of highwayd and of VNFs: whoever goes away, the others go on and come together again."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.system.scene import BURST, becomes, eventually, settled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene, Vnf


@pytest.fixture(autouse=True)
def _highwayd_runs(scene: Scene) -> Iterator[None]:
    """Have highwayd run again after each test, whatever the test did to it."""
    yield
    scene.sandbox.start_highwayd()


def bypass(scene: Scene) -> tuple[Vnf, Vnf]:
    """Return receiver and sender of a bypass p1 → p2."""
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    return receiver, sender


def test_killed_highwayd_is_not_missed_and_a_new_one_adopts_the_link(scene: Scene) -> None:
    """kill -9 under traffic, then a new life.

    Steps: flood over the bypass, kill highwayd, go on, start it again, stop.
    Verify: the bypass goes on without it and without loss; the new one has the same link, by id,
    in the phase it was in; everything is counted.
    """
    receiver, sender = bypass(scene)
    sender.flood()
    link = scene.link(1, 2)
    scene.sandbox.kill_highwayd()
    bypassed, normal = sender.bypassed(), sender.normal()
    eventually(lambda: sender.bypassed() > bypassed + 50_000, "the bypass goes on")
    assert "not running" in scene.highway("show")

    scene.sandbox.start_highwayd()
    eventually(lambda: bool(scene.highway_json("show")["highwayd"]["ovsdb"]), "highwayd is back")
    bypassed = sender.bypassed()
    eventually(lambda: sender.bypassed() > bypassed + 50_000, "the bypass goes on")
    becomes(lambda: scene.link(1, 2)["state"], "bypass", "the link")
    assert scene.link(1, 2)["link_id"] == link["link_id"]
    count = sender.quiet()
    assert sender.normal() == normal, "something left the bypass"
    becomes(receiver.received, count, "the receiver")
    scene.flow_becomes(1, count)
    assert len(scene.region_files("link-")) == 1


def test_a_new_highwayd_makes_links_for_rules_that_came_meanwhile(scene: Scene) -> None:
    """The drivers tell a new highwayd all that it has missed.

    Steps: kill highwayd; add a flow; send; start highwayd.
    Verify: traffic passes through the switch without it, and over the bypass with it.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.sandbox.kill_highwayd()
    scene.add_flow("cookie=1,in_port=1,actions=2")
    for _ in range(3):
        sender.send()
        scene.revalidate()
    becomes(receiver.received, sender.sent(), "the receiver")
    assert sender.bypassed() == 0
    assert "highwayd is not running" in scene.link(1, 2)["reason"]
    scene.sandbox.start_highwayd()
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")
    scene.flow_becomes(1, sender.sent())


def test_sigterm_ends_highwayd_cleanly_and_traffic_goes_on(scene: Scene) -> None:
    """An orderly end is no end of the bypass.

    Steps: flood over the bypass; SIGTERM; start it again.
    Verify: highwayd ends by itself, removes its sockets, logs no error; the bypass goes on.
    """
    receiver, sender = bypass(scene)
    sender.flood()
    link = scene.link(1, 2)["link_id"]
    daemon = scene.sandbox.daemon("highwayd")
    log = len(scene.log("highwayd"))
    daemon.signal(signal.SIGTERM)
    eventually(lambda: not daemon.alive, "highwayd ends")
    said = scene.log("highwayd")[log:]
    assert "Traceback" not in said
    assert "|ERR|" not in said
    rundir = scene.sandbox.rundir
    assert not (rundir / "switch.sock").exists()
    assert not (rundir / "highwayd.ctl").exists()
    bypassed = sender.bypassed()
    eventually(lambda: sender.bypassed() > bypassed + 50_000, "the bypass goes on")
    scene.sandbox.start_highwayd()
    becomes(lambda: scene.link(1, 2)["state"], "bypass", "the link")
    assert scene.link(1, 2)["link_id"] == link
    becomes(receiver.received, sender.quiet(), "the receiver")


@pytest.mark.timeout(180)
def test_without_highwayd_for_long_the_bypass_ends_and_comes_back_with_it(scene: Scene) -> None:
    """Nobody watches over policy any more: the lease runs out.

    Steps: flood over the bypass, kill highwayd, wait; start it again.
    Verify: after some time everything takes the normal channel, and it is said why; nothing is
    lost on the way; with highwayd the bypass is used again.
    """
    receiver, sender = bypass(scene)
    scene.sandbox.kill_highwayd()
    eventually(
        lambda: sender.send().packets == BURST and sender.normal() > 10 * BURST,
        "the normal channel is used",
    )
    becomes(receiver.received, sender.sent(), "the receiver")
    lease = "highwayd has been away for too long (lease); start highwayd"
    becomes(lambda: scene.link(1, 2)["reason"], lease, "the reason")
    assert f"mode: off ({lease})" in scene.highway("show")
    scene.sandbox.start_highwayd()
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")
    scene.flow_becomes(1, sender.sent())


def test_a_vnf_that_starts_before_its_port_exists_comes_up_by_itself(scene: Scene) -> None:
    """Start order does not matter: VNFs first, ports later.

    Steps: start both VNFs; add the ports and a flow.
    Verify: their links are down at first, then up; the bypass is used.
    """
    receiver = scene.vnf(2, await_link=False)
    sender = scene.vnf(1, await_link=False)
    assert not receiver.link_status()
    assert sender.send().packets == 0
    scene.ports(2)
    scene.add_flow("in_port=1,actions=2")
    receiver.wait_link_up()
    sender.wait_link_up()
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")


def test_a_vnf_that_starts_while_highwayd_is_away_comes_up_by_itself(scene: Scene) -> None:
    """Start order does not matter: VNFs first, highwayd later.

    Steps: ports; kill highwayd; start both VNFs; start highwayd.
    Verify: their links are down at first, then up; the bypass is used.
    """
    scene.ports(2)
    scene.add_flow("in_port=1,actions=2")
    scene.sandbox.kill_highwayd()
    receiver = scene.vnf(2, await_link=False)
    sender = scene.vnf(1, await_link=False)
    assert not receiver.link_status()
    scene.sandbox.start_highwayd()
    receiver.wait_link_up()
    sender.wait_link_up()
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")


def test_a_killed_sender_gets_its_bypass_again_when_it_restarts(scene: Scene) -> None:
    """kill -9 of a VNF that floods over the bypass.

    Steps: flood, kill the sender, start it again and send.
    Verify: port statistics keep what the first life sent; the receiver goes on; the second life
    sends over the bypass and loses nothing.
    """
    receiver, sender = bypass(scene)
    sender.flood()
    eventually(lambda: sender.bypassed() > 5000, "it floods")
    sender.kill()
    first = settled(receiver.received)
    becomes(lambda: scene.link(1, 2)["reason"], "no VNF attached at p1", "the link's reason")
    rx = settled(lambda: scene.port(1).rx)
    assert rx.packets >= first.packets

    again = scene.vnf(1)
    scene.bypass_on(again)
    again.send(20)
    becomes(receiver.received, first + again.sent(), "the receiver")
    becomes(lambda: scene.port(1).rx, rx + again.sent(), "received from p1")


def test_a_killed_receiver_does_not_hurt_the_sender(scene: Scene) -> None:
    """kill -9 of a VNF that receives over the bypass.

    Steps: flood, kill the receiver; later start it again.
    Verify: the sender survives and goes back to the normal channel, OVS survives; a new receiver
    gets the bypass.
    """
    receiver, sender = bypass(scene)
    sender.flood()
    receiver.kill()
    eventually(lambda: sender.normal() > 5000, "the sender is back on the normal channel")
    bypassed = sender.bypassed()
    normal = sender.normal()
    eventually(lambda: sender.normal() > normal + 5000, "it stays there")
    assert sender.bypassed() == bypassed
    becomes(lambda: scene.link(1, 2)["reason"], "no VNF attached at p2", "the link's reason")
    sender.quiet()
    assert scene.sandbox.daemon("ovs-vswitchd").alive

    again = scene.vnf(2)
    scene.bypass_on(sender)
    before, start = again.received_all(), sender.sent()
    sender.send(20)
    becomes(again.received, before + (sender.sent() - start), "the new receiver")


def test_of_two_vnfs_for_one_port_the_second_waits_for_the_first(scene: Scene) -> None:
    """A port belongs to one VNF at a time.

    Steps: start a second VNF for p1 while the first sends; end the first.
    Verify: the second has no link and can send nothing, the first goes on; when it has ended, the
    second comes up and gets the bypass.
    """
    receiver, first = bypass(scene)
    second = scene.vnf(1, await_link=False)
    eventually(lambda: "already in use" in second.output, "the second is told why")
    assert not second.link_status()
    assert second.send().packets == 0
    first.send(10)
    becomes(receiver.received, first.sent(), "the receiver")
    before = first.sent()
    first.close()
    second.wait_link_up()
    scene.bypass_on(second)
    becomes(receiver.received, before + second.sent(), "the receiver")


def test_several_ports_in_one_process_bypass_each_for_itself(scene: Scene) -> None:
    """A VNF with two ports in the middle of a chain.

    Steps: p1 → p2, one process with p2 and p3 that forwards between them, p3 → p4.
    Verify: what p1 sends arrives at p4, over two bypasses, and each flow and port counts it.
    """
    scene.ports(4)
    sink, source = scene.vnf(4), scene.vnf(1)
    middle = scene.vnf(2, 3)
    middle.command("stop")
    middle.set_fwd("io")
    middle.start()
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.add_flow("cookie=2,in_port=3,actions=4")

    def all_the_way() -> bool:
        before = sink.bypassed("rx"), source.bypassed()
        source.send()
        time.sleep(0.05)
        return sink.bypassed("rx") - before[0] == source.bypassed() - before[1] == BURST

    eventually(all_the_way, "both bypasses are used")
    source.send(20)
    count = source.sent()
    becomes(sink.received, count, "the sink")
    scene.flow_becomes(1, count)
    scene.flow_becomes(2, count)
    assert middle.received(0) == middle.sent(1) == count
    assert scene.port(3).rx == scene.port(4).tx == count


def test_a_link_is_made_on_demand(scene: Scene) -> None:
    """The rule first, the VNF later; no rule, no link.

    Steps: one VNF; flow and traffic to a port without a VNF; then start the VNF there.
    Verify: no link without a second VNF, and it is said why; the link comes with it.
    """
    scene.ports(3)
    sender = scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    eventually(
        lambda: sender.send().packets == BURST and scene.link(1, 2) != {}, "the rule is known"
    )
    assert scene.link(1, 2)["reason"] == "no VNF attached at p2"
    assert scene.region_files("link-") == []
    receiver = scene.vnf(2)
    scene.bypass_on(sender)
    becomes(lambda: receiver.bypassed("rx"), sender.bypassed(), "the receiver")
    assert len(scene.region_files("link-")) == 1
    assert scene.link(1, 3) == {}


def test_a_restarted_switch_takes_over_its_ports(scene: Scene) -> None:
    """ovs-vswitchd killed and started again; VNFs and highwayd live on.

    Steps: send over the bypass, kill ovs-vswitchd, start it, put the flow again, send.
    Verify: the VNFs are the same processes; the bypass is used again; the new switch counts what
    was sent in its life.
    """
    receiver, sender = bypass(scene)
    becomes(receiver.received, sender.sent(), "the receiver")
    scene.sandbox.kill_vswitchd()
    sender.wait_link_up(up=False)
    scene.sandbox.start_vswitchd()
    scene.ofctl("del-flows")
    sender.wait_link_up()
    receiver.wait_link_up()
    start = sender.sent()
    scene.add_flow("cookie=2,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.send(10)
    becomes(receiver.received, sender.sent(), "the receiver")
    scene.flow_becomes(2, sender.sent() - start)
    assert scene.port(1).rx == scene.port(2).tx == sender.sent() - start
