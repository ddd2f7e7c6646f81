# SPDX-License-Identifier: Apache-2.0
"""STP and RSTP: a port that does not forward does not bypass, and BPDUs go to and from OVS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import BRIDGE, BURST, becomes, eventually

if TYPE_CHECKING:
    from tests.system.scene import Scene

# The shortest delays that the protocols allow.
SETTINGS: Final = {
    "stp": ("stp_enable=true", "other_config:stp-forward-delay=4", "other_config:stp-hello-time=1"),
    "rstp": ("rstp_enable=true", "other_config:rstp-forward-delay=4"),
}


def roles(scene: Scene, protocol: str) -> dict[str, tuple[str, str]]:
    """Return role and state of each port, in lower case."""
    text = scene.sandbox.appctl(f"{protocol}/show", BRIDGE).lower()
    found = re.findall(r"^\s+(p\d)\s+(\w+)\s+(\w+)", text, re.MULTILINE)
    return {port: (role, state) for port, role, state in found}


def forwarding(scene: Scene, protocol: str) -> bool:
    """Tell whether p1 and p2 both forward."""
    found = roles(scene, protocol)
    return all(found[port][1] == "forwarding" for port in ("p1", "p2"))


@pytest.mark.parametrize(
    "protocol",
    [pytest.param(name, marks=pytest.mark.long) if name == "stp" else name for name in SETTINGS],
)
def test_a_spanning_tree_blocks_and_opens_bypassed_ports(scene: Scene, protocol: str) -> None:
    """A spanning tree is switched on under a bypass, and a loop is found.

    Steps: bypass p1 → p2; p3 and p4 are connected with each other by a VNF, which is a loop;
    switch the protocol on; send until p1 and p2 forward, and after that.
    Verify: while p1 does not forward nothing arrives; then the bypass comes back by itself. p2
    gets BPDUs while its traffic is bypassed. The VNF carries BPDUs from OVS to OVS: one of p3 and
    p4 is blocked.
    """
    scene.ports(4)
    wire = scene.vnf(3, 4)
    wire.command("stop")
    wire.set_fwd("io")
    wire.start()
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    becomes(receiver.received, sender.sent(), "the receiver")

    scene.sandbox.vsctl("set", "Bridge", BRIDGE, *SETTINGS[protocol])
    eventually(lambda: roles(scene, protocol).keys() >= {"p1", "p2"}, "the protocol runs")
    closed = 0
    while not forwarding(scene, protocol):
        becomes(scene.region(1).rules, [], "rules of a port that does not forward")
        before = receiver.received_all()
        sender.send()
        got = receiver.received_all() - before
        if not forwarding(scene, protocol):
            # BPDUs come too, but fewer.
            assert got.packets < BURST
            closed += 1
    assert closed > 0
    scene.bypass_on(sender)
    becomes(lambda: receiver.bypassed("rx"), sender.bypassed(), "all that is bypassed")
    hellos, bypassed = receiver.normal("rx"), receiver.bypassed("rx")
    sent = 0

    def hello() -> bool:
        nonlocal sent
        sent += sender.send().packets
        return receiver.normal("rx") >= hellos + 2

    eventually(hello, "BPDUs arrive at p2")
    becomes(lambda: receiver.bypassed("rx") - bypassed, sent, "bypassed to p2")

    def blocked() -> int:
        found = roles(scene, protocol)
        return sum(found[port][1] in ("blocking", "discarding") for port in ("p3", "p4"))

    becomes(blocked, 1, "blocked ports of the loop")
