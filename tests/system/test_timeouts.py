# SPDX-License-Identifier: Apache-2.0
"""Timeouts of bypassed flows: OVS knows of the traffic that it does not see."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import VERSIONS, Count, becomes, eventually

if TYPE_CHECKING:
    from tests.system.scene import Scene

IDLE: Final = 2


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(
            version, marks=[] if version in (VERSIONS[0], VERSIONS[-1]) else [pytest.mark.long]
        )
        for version in VERSIONS
    ],
)
def test_a_busy_bypassed_flow_lives_and_an_idle_one_expires(scene: Scene, version: str) -> None:
    """The idle timeout counts from the last bypassed packet.

    Steps: a flow with idle_timeout; flood over the bypass for more than twice that long; stop.
    Verify: the flow is there as long as there is traffic, none of which reaches the switch; then it
    goes, and the flow-removed message says why and how much was sent.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    monitor = scene.monitor()
    scene.ofctl(
        "add-flow",
        f"cookie=1,in_port=1,idle_timeout={IDLE},send_flow_rem,actions=2",
        version=version,
    )
    scene.bypass_on(sender)
    sender.flood()
    normal, ends = sender.normal(), time.monotonic() + 2 * IDLE + 1
    while time.monotonic() < ends:
        assert "cookie=0x1," in scene.ofctl("dump-flows", version=version)
        time.sleep(0.1)
    assert sender.normal() == normal, "the flow was kept alive by the normal channel"
    count = sender.quiet()
    becomes(receiver.received, count, "the receiver")
    message = scene.monitored(
        monitor, rf"reason=idle table_id=0 cookie:0x1 duration\S+ idle{IDLE} pkts(\d+) bytes(\d+)"
    )
    assert Count(packets=int(message[1]), bytes=int(message[2])) == count
    assert "cookie=0x1," not in scene.ofctl("dump-flows", version=version)


def test_a_flow_that_expired_comes_back_with_its_traffic(scene: Scene) -> None:
    """A reactive controller adds the flow again, and the bypass with it.

    Steps: let a bypassed flow idle out, send, add it again, send.
    Verify: nothing passes in between; then the bypass is in use and the new flow counts it.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,idle_timeout=1,actions=2")
    scene.bypass_on(sender)
    eventually(lambda: "cookie=0x1," not in scene.ofctl("dump-flows"), "the flow expires")
    scene.bypass_off(sender)
    before = receiver.received_all()
    sender.send()
    scene.revalidate()
    assert receiver.received_all() == before

    scene.add_flow("cookie=2,in_port=1,actions=2")
    scene.revalidate()
    start, flow_start = sender.sent(), scene.flow(2)
    scene.bypass_on(sender)
    scene.flow_becomes(2, flow_start + (sender.sent() - start))
    becomes(receiver.received, before + (sender.sent() - start), "the receiver")


def test_a_hard_timeout_ends_a_busy_bypassed_flow(scene: Scene) -> None:
    """Traffic does not keep a flow alive beyond its hard timeout.

    Steps: a flow with hard_timeout; flood over the bypass until it goes; stop.
    Verify: the flow-removed message says so, with no more than what was sent; afterwards the
    receiver gets nothing more.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    monitor = scene.monitor()
    scene.add_flow("cookie=1,in_port=1,hard_timeout=3,send_flow_rem,actions=2")
    scene.bypass_on(sender)
    bypassed = sender.bypassed()
    sender.flood()
    message = scene.monitored(monitor, r"reason=hard table_id=0 cookie:0x1 .*pkts(\d+) bytes(\d+)")
    eventually(lambda: sender.normal() > 2000, "the sender is back on the normal channel")
    before = receiver.received_all()
    count = sender.quiet()
    assert bypassed <= int(message[1]) <= count.packets
    assert receiver.received_all() == before


def test_an_idle_datapath_flow_goes_and_the_bypass_returns_with_traffic(scene: Scene) -> None:
    """OVS forgets datapath flows without traffic (max-idle); the OpenFlow flow stays.

    Steps: send over the bypass, have OVS forget idle flows after 500 ms, wait, send again.
    Verify: the rule goes and comes back, and the OpenFlow flow has counted all.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.sandbox.vsctl("set", "Open_vSwitch", ".", "other_config:max-idle=500")
    scene.bypass_on(sender)
    for _ in range(3):
        eventually(lambda: scene.datapath_flows() == [], "OVS forgets the flow")
        becomes(lambda: scene.highway_json("rules", "p1")["rules"], [], "rules of p1")
        scene.bypass_on(sender)
    count = sender.sent()
    becomes(receiver.received, count, "the receiver")
    scene.flow_becomes(1, count)
    assert scene.port(1).rx == scene.port(2).tx == count
