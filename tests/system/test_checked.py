# SPDX-License-Identifier: Apache-2.0
"""Checked links: a receiver believes the switch's rules, and no sender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.system.hostile import Scribbler
from tests.system.scene import becomes, eventually

from ovs_highway import shm
from ovs_highway.shm import CData, ffi

if TYPE_CHECKING:
    from tests.system.scene import Scene, Vnf

FORGED_SLOT: Final = 200
FORGED: Final = 0x1234567
STORM: Final = 40
FLOOD: Final = 10_000


def checked(scene: Scene, ports: int) -> None:
    """Let these ports have checked links only."""
    scene.sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-mode=checked")
    for number in range(1, ports + 1):
        scene.sandbox.vsctl("remove", "Interface", f"p{number}", "external_ids", "highway-trust")


def forge(scene: Scene, sender: int, receiver: int) -> None:
    """Write a rule that OVS never made into a sender's table: all IPv4 goes to the receiver."""
    (path,) = [file for file in scene.region_files("port-") if file.name.endswith(f"-p{sender}")]
    peer = scene.region(receiver).region_id
    rule: CData = ffi.new("struct highway_rule *")
    rule.live = rule.generation = FORGED
    rule.peer_id, rule.max_frame = peer, 1518
    rule.key.eth_type = rule.mask.eth_type = 0x0008  # network order
    rule.mask.eth_type = 0xFFFF
    with Scribbler(path) as region:
        table = region.port_field("rules_offset")
        start = table + FORGED_SLOT * shm.RULE_LEN
        region.memory[start : start + shm.RULE_LEN] = bytes(ffi.buffer(rule))
        change = region.offset_of("highway_port_region", "gate.change")
        region.write(change, (region.read(change, "I") + 1) & 0xFFFFFFFF, "I")


def refused(vnf: Vnf) -> int:
    return vnf.xstats()["rx_bypass_refused_errors"]


@pytest.mark.parametrize("mode", ["checked", "trusted"])
def test_a_forged_rule_gets_nothing_past_a_check(scene: Scene, mode: str) -> None:
    """p1 makes itself a rule towards p2 that OVS never gave it.

    Steps: only p2 may send to p1, by a rule that gives the two a link; p1 forges its rule and
    sends.
    Verify: on a checked link p2 gets nothing, counts what it refused, and its own way to p1 is
    not disturbed; between ports of one label, which trust each other, p2 gets it all.
    """
    scene.ports(2)
    if mode == "checked":
        checked(scene, 2)
    first, second = scene.vnf(1), scene.vnf(2)
    scene.add_flow("cookie=2,in_port=2,actions=1")
    scene.bypass_on(second)

    forge(scene, 1, 2)
    before = second.received()
    scene.bypass_on(first)  # by the forged rule
    sent = first.send(10)
    if mode == "trusted":
        becomes(lambda: second.received().packets > before.packets + sent.packets, True, "p2")
        return
    eventually(lambda: refused(second) >= sent.packets, "p2 counts what it refused")
    becomes(lambda: refused(second), first.bypassed("tx"), "all that p1 sent is refused")
    assert second.received() == before
    scene.bypass_on(second)
    becomes(first.received, second.sent(), "p2's own packets")


def test_new_rules_on_a_checked_link_refuse_nothing(scene: Scene) -> None:
    """The receiver knows of a rule whenever a packet comes by it.

    Steps: p1 floods 256 flows, each with an OpenFlow rule and so with a rule of its own; OVS
    forgets and learns them anew, many times.
    Verify: what p1 sent, less what OVS dropped, is what p2 got; nothing was refused.
    """
    scene.ports(2)
    checked(scene, 2)
    second, first = scene.vnf(2), scene.vnf(1, app_args=("--txonly-multi-flow",))
    flows = scene.sandbox.rundir / "flows"
    flows.write_text(
        "".join(f"in_port=1,ip,nw_src=198.18.{net}.0/24,actions=2\n" for net in range(256))
    )
    scene.ofctl("add-flows", str(flows))
    first.flood()
    for _ in range(STORM):
        before = first.bypassed()
        scene.sandbox.appctl("revalidator/purge")
        eventually(lambda n=before: first.bypassed() > n + FLOOD, "new rules are used")  # type: ignore[misc]
    sent = first.quiet()
    received = second.received_all()
    assert refused(second) == 0
    assert received.packets + scene.port(2).tx_dropped == sent.packets


def test_what_was_sent_by_a_rule_is_received_after_its_end(scene: Scene) -> None:
    """A rule goes while packets that it let through stand in the ring.

    Steps: p2 stops receiving; p1 sends over the bypass; the flow is deleted, and p2 follows that.
    Verify: when p2 receives again, it gets everything.
    """
    scene.ports(2)
    checked(scene, 2)
    second, first = scene.vnf(2), scene.vnf(1)
    scene.add_flow("in_port=1,actions=2")
    scene.bypass_on(first)
    second.received_all()
    second.command("stop")
    before, bypassed = first.sent(), first.bypassed()
    first.send(4)
    assert first.bypassed() - bypassed == (first.sent() - before).packets
    scene.ofctl("del-flows")
    region = scene.region(2)
    becomes(region.inbound_peers, [], "rules to p2 that are in force")
    becomes(lambda: region.vnf().ack == region.gate().change, True, "p2 follows its gate")
    second.start()
    becomes(second.received, first.sent(), "what p2 gets")
    assert refused(second) == 0
