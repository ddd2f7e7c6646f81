# SPDX-License-Identifier: Apache-2.0
"""`fin_timeout`: OVS wants to see TCP's flags, which no offload tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from tests.system.features.player import Player
from tests.system.scene import becomes, eventually

if TYPE_CHECKING:
    from tests.system.scene import Scene


def test_a_fin_reduces_the_timeout(scene: Scene) -> None:
    """`fin_timeout` in a flow that would otherwise idle out after 10 minutes.

    Steps: send TCP without FIN until the bypass is off; then once more; then with FIN; remove
    the rule.
    Verify: the flow stays until the FIN, then goes; without such a rule the bypass is used.
    """
    scene.ports(2)
    receiver = scene.vnf(2)
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    data, fin = (
        ether
        / IP(src="192.0.2.1", dst="192.0.2.2")
        / TCP(sport=1000, dport=80, flags=flags)
        / Raw(bytes(20))
        for flags in ("A", "FA")
    )
    scene.add_flow(
        "cookie=1,priority=10,tcp,in_port=1,idle_timeout=600,actions=fin_timeout(idle_timeout=1),2"
    )
    with Player(scene, 1, [data]) as sender:
        sender.send()

        def off() -> bool:
            sender.send()
            return "fin_timeout" in scene.link(1, 2).get("reason", "")

        eventually(off, "the link is off")
        scene.bypass_off(sender)
        becomes(receiver.received, sender.sent(), "the receiver")
        scene.flow_becomes(1, sender.sent())
        assert "idle_timeout=600" in scene.ofctl("dump-flows")
    with Player(scene, 1, [data] * 31 + [fin]) as sender:
        bypassed = sender.bypassed()
        sender.send()
        assert sender.bypassed() == bypassed
        eventually(lambda: "cookie=0x1," not in scene.ofctl("dump-flows"), "the flow goes")
        scene.add_flow("cookie=2,in_port=1,actions=2")
        scene.bypass_on(sender)
