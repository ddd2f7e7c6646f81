# SPDX-License-Identifier: Apache-2.0
"""Links between ports without labels: each direction is allowed by what is proven of its sender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.system.crossing import uses
from tests.system.scene import becomes, eventually

from ovs_highway.bench.switchover import settled
from ovs_highway.lab.traffic import Traffic, judge
from ovs_highway.shm import FREE, LinkFlag

if TYPE_CHECKING:
    from tests.system.scene import Scene

NO_SEND: Final = LinkFlag.PEER_CHECKS | LinkFlag.NO_SEND
ONE_WAY: Final = (LinkFlag.CHECKED | LinkFlag.NO_RECEIVE, NO_SEND)
"""Flags of p1 and p2 when only p1 may send."""


def flags(scene: Scene) -> list[tuple[LinkFlag, LinkFlag]]:
    """Return what the ends of each link heed."""
    return [link.flags for link in scene.links()]


def test_a_direction_comes_and_goes_while_the_other_is_used(scene: Scene) -> None:
    """First p1 is point-to-point, then p2 too, then p2 not any more; under traffic both ways.

    Steps: ports without labels; all that p1 sends goes to p2; send; the same for p2; send; have
    some of what p2 sends dropped; and again not.
    Verify: the link is there before a rule; what is not proven takes the normal channel, and
    `highway links` says why; a direction that is allowed more does not disturb the other, one that
    is allowed less gives both another link. Nothing is lost, doubled or reordered.
    """
    scene.ports(2)
    for name in ("p1", "p2"):
        scene.sandbox.vsctl("remove", "Interface", name, "external_ids", "highway-trust")
    with Traffic("traffic", ["p1", "p2"], env=scene.sandbox.env) as program:
        program.define("udp=1000")
        program.wait_link_up()
        assert scene.links() == []
        scene.add_flow("cookie=1,in_port=1,actions=2")
        becomes(lambda: flags(scene), [ONE_WAY], "a link for p1 only")
        assert scene.link(1, 2)["rules"] == 0
        scene.add_flow("cookie=2,in_port=2,udp,actions=1")
        for port in (0, 1):
            program.send(port, classes=[0], sizes=[64], window=256)
        uses(program, "bypass", 1)
        uses(program, "normal", 2)
        way = scene.link(2, 1)
        assert (way["state"], way["checked"]) == ("off", False)
        assert "; what p2 sends is not point-to-point: " in way["reason"]
        link = scene.link(1, 2)["link_id"]

        normal = program.xstats(0)["tx_normal_packets"]
        scene.add_flow("cookie=2,in_port=2,actions=1")
        becomes(lambda: flags(scene), [(FREE, FREE)], "both directions")
        uses(program, "bypass")
        assert scene.link(2, 1)["link_id"] == link
        assert program.xstats(0)["tx_normal_packets"] == normal

        scene.add_flow("cookie=3,priority=40000,in_port=2,tcp,actions=drop")
        becomes(lambda: flags(scene), [ONE_WAY], "a link for p1 only")
        uses(program, "bypass", 1)
        uses(program, "normal", 2)
        assert scene.link(1, 2)["link_id"] != link

        scene.ofctl("del-flows", "in_port=2,tcp")
        uses(program, "bypass")
        verdict = judge(settled(program))
        assert verdict.faults == {}, verdict
        for port in (0, 1):
            assert program.xstats(port)["rx_bypass_refused_errors"] == 0


def test_in_mode_p2p_a_rule_is_not_enough(scene: Scene) -> None:
    """A link for the other direction is there, and OVS has given the sender a rule.

    Steps: mode p2p; all that p1 sends goes to p2, and what is UDP of p2's to p1; send both ways.
    Verify: p1 uses the bypass; p2 does not, though it has a rule, and `highway links` says why.
    """
    scene.ports(2)
    scene.sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-mode=p2p")
    first, second = scene.vnf(1), scene.vnf(2)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(first)
    scene.add_flow("cookie=2,in_port=2,udp,actions=1")
    scene.bypass_off(second)
    eventually(lambda: scene.link(2, 1)["rules"] > 0, "OVS's rule towards p1")
    scene.bypass_off(second)
    assert second.bypassed() == 0
    assert scene.link(2, 1)["reason"].startswith(
        "highway-mode=p2p at p1 and p2, and what p2 sends is not proven to be point-to-point: "
    )
    scene.bypass_on(first)
