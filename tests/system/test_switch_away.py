# SPDX-License-Identifier: Apache-2.0
"""While ovs-vswitchd is away: docs/reliability.md, "Without ovs-vswitchd"."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import BRIDGE, BURST, Scene, becomes, eventually

from ovs_highway.lab import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Vnf

FLOW: Final = "cookie=1,in_port=1,actions=2"
ENDS: Final = ("kill", "exit", "init script")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A switch of one test's own, since each test ends it."""
    with Sandbox() as switch:
        yield switch


def mode(scene: Scene, value: str) -> None:
    """Say what is to happen without a switch."""
    scene.sandbox.vsctl("set", "Open_vSwitch", ".", f"external_ids:highway-fail-mode={value}")


def bypass(scene: Scene) -> tuple[Vnf, Vnf]:
    """Return receiver and sender of a bypass p1 → p2."""
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow(FLOW)
    scene.bypass_on(sender)
    return receiver, sender


def end(scene: Scene, how: str) -> None:
    """End ovs-vswitchd; the init script ends ovsdb-server too, as a package upgrade does."""
    sandbox = scene.sandbox
    if how == "kill":
        sandbox.kill_vswitchd()
        return
    sandbox.appctl("exit")
    eventually(lambda: not sandbox.daemon("ovs-vswitchd").alive, "ovs-vswitchd ends")
    if how == "init script":
        sandbox.daemon("ovsdb-server").stop()


def start(scene: Scene, how: str, *flows: str) -> None:
    """Start it again, with these flows, as the init script does."""
    sandbox = scene.sandbox
    database = sandbox.daemon("ovsdb-server")
    if how == "init script":
        database.start()
        eventually(lambda: (sandbox.rundir / "db.sock").exists(), "the database is back")
    sandbox.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
    sandbox.start_vswitchd()
    eventually(lambda: (sandbox.rundir / f"{BRIDGE}.mgmt").exists(), "the bridge is back")
    for flow in flows:
        scene.add_flow(flow)
    sandbox.vsctl("remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ENDS)
def test_standalone_goes_on_and_the_next_switch_learns_its_flows(
    sandbox: Sandbox, how: str
) -> None:
    """Nobody forwards, and what took the bypass still does.

    Steps: highway-fail-mode=standalone; end ovs-vswitchd; send; start it again with the flow.
    Verify: all that is sent meanwhile arrives, past the switch, and VNFs see their links up; the
    next switch sees the class first, counts all from then on, and the bypass is used again.
    """
    with Scene(sandbox) as scene:
        mode(scene, "standalone")
        receiver, sender = bypass(scene)
        end(scene, how)
        sender.wait_link_up()
        eventually(lambda: sender.send().packets == BURST, "p1 may send again")
        got, sent, bypassed = receiver.received_all(), sender.sent(), sender.bypassed()
        count = sender.send(50)
        becomes(receiver.received, got + count, "the receiver")
        assert sender.bypassed() - bypassed == count.packets == 50 * BURST
        assert sender.xstats()["tx_no_switch_packets"] == 0

        normal, sent = sender.normal(), sender.sent()
        start(scene, how, FLOW)
        eventually(
            lambda: sender.send().packets > 0 and sender.normal() > normal, "back through OVS"
        )
        scene.bypass_on(sender)
        becomes(receiver.received, got + (sender.sent() - sent) + count, "the receiver")
        scene.flow_becomes(1, sender.sent() - sent)
        assert scene.port(1).rx == scene.port(2).tx == sender.sent() - sent


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_secure_stops_within_a_second(sandbox: Sandbox, how: str) -> None:
    """Without a switch nothing passes.

    Steps: the default, secure; flood over the bypass; end ovs-vswitchd; start it again.
    Verify: a second later nothing is sent any more, links are down, and it is said why; with the
    next switch the bypass is used again.
    """
    with Scene(sandbox) as scene:
        receiver, sender = bypass(scene)
        sender.flood()
        eventually(lambda: sender.bypassed() > 50_000, "it floods")
        end(scene, how)
        time.sleep(1)
        bypassed = sender.bypassed()
        time.sleep(0.5)
        assert sender.bypassed() == bypassed
        assert not sender.link_status()
        reason = "no ovs-vswitchd has port p1; highway-fail-mode=secure"
        assert reason in scene.link(1, 2)["reason"]
        assert reason in scene.highway("events", "p1")
        sender.quiet()
        start(scene, how, FLOW)
        sender.wait_link_up()
        scene.bypass_on(sender)
        assert receiver.link_status()


def test_wishes_are_obeyed_while_the_switch_is_away(sandbox: Sandbox) -> None:
    """The operator and the database still have their say.

    Steps: standalone; end ovs-vswitchd in an orderly way; `highway off` of the receiver, and on;
    policy off of the sender, and on; restart the receiver; delete the receiver's port.
    Verify: nothing passes while it is off; the new receiver gets a link; without the port nothing
    passes any more.
    """
    with Scene(sandbox) as scene:
        mode(scene, "standalone")
        receiver, sender = bypass(scene)
        end(scene, "exit")

        def passes() -> bool:
            bypassed = sender.bypassed()
            sender.send()
            return sender.bypassed() - bypassed == BURST

        eventually(passes, "the bypass goes on")
        scene.highway("off", "p2")
        eventually(lambda: not passes(), "off is obeyed")
        scene.highway("on", "p2")
        eventually(passes, "on again")
        sandbox.vsctl("--no-wait", "set", "Interface", "p1", "external_ids:highway=off")
        eventually(lambda: not passes(), "policy is obeyed")
        sandbox.vsctl("--no-wait", "remove", "Interface", "p1", "external_ids", "highway")
        eventually(passes, "on again")
        receiver.close()
        eventually(lambda: not passes(), "without a receiver")
        again = scene.vnf(2)
        eventually(passes, "the next receiver has a link")
        eventually(lambda: again.bypassed("rx") > 0, "and receives from it")
        sandbox.vsctl("--no-wait", "del-port", BRIDGE, "p2")
        eventually(lambda: not passes(), "without the port")
        assert sender.xstats()["tx_no_switch_packets"] > 0
        sandbox.start_vswitchd()


def test_a_flow_that_was_deleted_does_not_come_back(sandbox: Sandbox) -> None:
    """What goes on is what was in force, not what once was.

    Steps: standalone; delete the flow, and when its rule is gone for a second end ovs-vswitchd.
    Verify: nothing goes past the switch while it is away.
    """
    with Scene(sandbox) as scene:
        mode(scene, "standalone")
        _, sender = bypass(scene)
        scene.ofctl("del-flows")
        becomes(scene.region(1).live_peers, [], "rules of p1")
        time.sleep(1)
        end(scene, "exit")
        bypassed = sender.bypassed()
        time.sleep(1)
        sender.send(10)
        assert sender.bypassed() == bypassed
        assert scene.region(1).live_peers() == []
        sandbox.start_vswitchd()


def test_events_tell_each_change_of_path_and_why(sandbox: Sandbox) -> None:
    """`highway events`, with highwayd down at the end.

    Steps: a bypass; off and on; the flow deleted; kill highwayd and ask.
    Verify: the states of the path, in this order, each with its cause; and what the operator did.
    """
    with Scene(sandbox) as scene:
        _, sender = bypass(scene)
        scene.highway("off", "p1")
        scene.bypass_off(sender)
        scene.highway("on", "p1")
        scene.bypass_on(sender)
        scene.ofctl("del-flows")
        becomes(lambda: scene.link(1, 2)["state"], "idle", "the link")
        time.sleep(0.2)
        sandbox.kill_highwayd()
        lines = scene.highway("events", "p1").splitlines()
        path = [line.partition("path p1 to p2: ")[2] for line in lines if "path p1 to p2" in line]
        wanted = [
            "bypass, rules in force: 1",
            "normal channel: switched off by the operator; turn on with: highway on p1",
            "bypass, rules in force: 1",
            "no rule in force",
        ]
        # The link may be there before the rule: all that p1 sends goes to p2.
        assert [text for text in path if text in wanted][-len(wanted) :] == wanted, path
        assert sum("operator: highway o" in line for line in lines) == 2
