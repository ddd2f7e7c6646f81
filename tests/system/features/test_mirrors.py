# SPDX-License-Identifier: Apache-2.0
"""Mirrors: what is mirrored is copied by the switch, every packet of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import BRIDGE, Count, becomes, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.features.trio import Trio

TAG: Final = 4  # bytes

SELECTIONS: Final = {
    "source": ("select-src-port=@p1",),
    "destination": ("select-dst-port=@p2",),
    "all": ("select-all=true",),
    "vlan": ("select-all=true", "select-vlan=10"),
}


def untagged(trio: Trio, vlan: int) -> None:
    """Make p1 and p2 access ports of a VLAN."""
    trio.scene.sandbox.vsctl(
        "set", "Port", "p1", f"tag={vlan}", "--", "set", "Port", "p2", f"tag={vlan}"
    )


def mirror_statistics(trio: Trio) -> Count:
    """Return what the database shows of the mirror."""
    text = trio.scene.sandbox.vsctl("get", "Mirror", "m", "statistics")
    found = dict(re.findall(r"(\w+)=(\d+)", text))
    return Count(packets=int(found.get("tx_packets", 0)), bytes=int(found.get("tx_bytes", 0)))


@pytest.mark.parametrize("selection", SELECTIONS)
def test_mirrored_traffic_is_not_bypassed_until_the_mirror_goes(trio: Trio, selection: str) -> None:
    """A mirror that was there before the flow.

    Steps: mirror p1's traffic to p3 by source, destination, all or VLAN; add a flow p1 → p2; send;
    remove the mirror; send.
    Verify: p2 and p3 get every packet, through the switch (with p1's VLAN tag at p3 for a VLAN
    mirror); then p2 alone gets them, over the bypass.
    """
    if selection == "vlan":
        untagged(trio, 10)
    trio.mirror(*SELECTIONS[selection], "output-port=@p3")
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    passed = trio.normal()
    assert passed.two == passed.sent
    tags = TAG * passed.sent.packets if selection == "vlan" else 0
    assert passed.three == passed.sent + Count(bytes=tags)

    trio.scene.sandbox.vsctl("clear", "Bridge", BRIDGE, "mirrors")
    passed = trio.bypass()
    assert (passed.two, passed.three) == (passed.sent, Count())


def test_a_mirror_that_comes_under_a_bypass_gets_every_packet(trio: Trio) -> None:
    """highwayd has OVS learn its flows anew when a mirror changes.

    Steps: bypass; mirror p1 to p3; send; have the mirror select what goes to p1 instead; send.
    Verify: p2 and p3 get every packet, through the switch; then p2 alone, over the bypass.
    """
    trio.sees_links()
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.bypass()
    trio.mark()
    trio.mirror("select-src-port=@p1", "output-port=@p3")
    eventually(lambda: trio.pass_on(1).three.packets > 0, "p3 gets a copy")
    passed = trio.normal()
    assert passed.two == passed.three == passed.sent

    trio.scene.sandbox.vsctl(
        *("--id=@i", "get", "Port", "p1", "--", "clear", "Mirror", "m", "select_src_port"),
        *("--", "set", "Mirror", "m", "select_dst_port=@i"),
    )
    passed = trio.bypass()
    assert (passed.two, passed.three) == (passed.sent, Count())


def test_ovs_alone_overlooks_a_mirror_that_comes_under_a_flow(trio: Trio) -> None:
    """What highwayd makes up for: OVS 3.1 does not look at existing flows again.

    Steps: without highwayd, and with all bypasses off: send; mirror p1 to p3; send; have OVS
    learn its flows anew; send.
    Verify: p3 gets nothing at first, then every packet.
    """
    trio.sees_links()
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    trio.scene.highway("off", "--all")
    trio.scene.sandbox.stop_highwayd()
    try:
        trio.scene.bypass_off(trio.one)
        trio.mirror("select-src-port=@p1", "output-port=@p3")
        trio.scene.revalidate()
        passed = trio.pass_on()
        assert (passed.two, passed.three) == (passed.sent, Count())
        trio.scene.sandbox.appctl("revalidator/purge")
        passed = trio.pass_on()
        assert passed.two == passed.three == passed.sent
    finally:
        trio.scene.sandbox.start_highwayd()
        trio.scene.highway("on", "--all")


def test_a_vlan_mirror_leaves_other_vlans_alone(trio: Trio) -> None:
    """A mirror of VLAN 10 is of no concern to VLAN 20.

    Steps: mirror VLAN 10 to p3; p1 and p2 are access ports of VLAN 20; send.
    Verify: p2 gets all over the bypass, p3 nothing.
    """
    untagged(trio, 20)
    trio.mirror("select-all=true", "select-vlan=10", "output-port=@p3")
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    passed = trio.bypass()
    assert (passed.two, passed.three) == (passed.sent, Count())


def test_a_mirror_into_a_vlan_gets_every_packet(trio: Trio) -> None:
    """A mirror with `output-vlan`.

    Steps: p3 is an access port of VLAN 7, into which p1 is mirrored, p1 and p2 of VLAN 20; send.
    Verify: p2 and p3 get every packet, through the switch.
    """
    untagged(trio, 20)
    trio.scene.sandbox.vsctl("set", "Port", "p3", "tag=7")
    trio.mirror("select-src-port=@p1", "output-vlan=7")
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    passed = trio.normal()
    assert passed.three.packets == passed.two.packets == passed.sent.packets


def test_a_mirror_of_dropped_traffic_is_bypassed_to_its_output(trio: Trio) -> None:
    """Where the mirror's output is the only one, it is an output as any other.

    Steps: mirror p1 to p3, and drop what p1 sends.
    Verify: p3 gets it over the bypass; flow and mirror count it.
    """
    trio.mirror("select-src-port=@p1", "output-port=@p3")
    trio.scene.add_flow("cookie=1,in_port=1,actions=drop")
    passed = trio.bypass()
    assert (passed.two, passed.three) == (Count(), passed.sent)
    becomes(lambda: mirror_statistics(trio), trio.scene.flow(1), "statistics of the mirror")


@pytest.fixture
def internal(trio: Trio) -> Iterator[str]:
    """An internal port, number 9: a tap of the namespace, without rte_flow."""
    trio.scene.sandbox.vsctl(
        *("add-port", BRIDGE, "tap9", "--", "set", "Interface", "tap9", "type=internal"),
        "ofport_request=9",
    )
    yield "tap9"
    trio.scene.sandbox.vsctl("del-port", BRIDGE, "tap9")


def test_a_mirror_to_a_port_without_offload_gets_every_packet(trio: Trio, internal: str) -> None:
    """The output is an internal port, for which OVS cannot translate the flow.

    Steps: mirror p1 to it; send.
    Verify: nothing is bypassed, p2 gets all, and so does the internal port, or drops it.
    """
    trio.scene.sandbox.vsctl(
        *("--id=@i", "get", "Port", "p1", "--", "--id=@o", "get", "Port", internal),
        *("--", "--id=@m", "create", "Mirror", "name=m", "select-src-port=@i", "output-port=@o"),
        *("--", "set", "Bridge", BRIDGE, "mirrors=@m"),
    )
    trio.scene.add_flow("cookie=1,in_port=1,actions=2")
    passed = trio.normal()
    assert passed.two == passed.sent
    port = trio.scene.port(9)
    assert port.tx.packets + port.tx_dropped >= passed.sent.packets
