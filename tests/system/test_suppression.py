# SPDX-License-Identifier: Apache-2.0
"""Rules that highwayd ends for the time being, on a real OVS that knows nothing of it."""

from __future__ import annotations

import random
import socket
import time
from typing import TYPE_CHECKING, Final

from tests.system.crossing import traffic, uses
from tests.system.scene import BURST, becomes, eventually

from ovs_highway.lab.traffic import match
from ovs_highway.view import SUPPRESSED

if TYPE_CHECKING:
    from tests.system.scene import Scene

    from ovs_highway.region import PortRegion, Rule

CLASSES: Final = ("udp=1000", "udp=1001", "tcp=80")
TIMES: Final = 200
BURSTS: Final = 50
AT_ONCE: Final = 0.0003


def suppress(region: PortRegion, *rules: Rule) -> None:
    """Suppress some rules of a port, all if none is named."""
    for rule in rules or region.rules():
        assert region.suppress(rule.slot, rule.generation)


def lift(region: PortRegion) -> None:
    """Take every suppression of a port back."""
    for slot, generation in region.suppressed().items():
        region.lift(slot, generation)


def counts_on(region: PortRegion, before: dict[int, int]) -> set[int]:
    """Return the slots whose rules have been used since."""
    return {rule.slot for rule in region.rules() if rule.packets > before[rule.slot]}


def followed(region: PortRegion) -> None:
    """Wait until no queue of the sender uses a rule any more that is suppressed."""
    change = region.gate().change
    eventually(lambda: region.vnf().ack - change >= 0, "the sender follows its gate")


def test_suppressed_rules_are_left_and_entered_again(scene: Scene) -> None:
    """All rules of a sender, as when a flow table changes.

    Steps: traffic of three classes both ways; suppress what p1 sends by; lift it; the same for
    one class; the same for all, many times and faster than the driver makes views.
    Verify: p1's packets take the normal channel, p2's the bypass; `highway links` and `highway
    rules` say why; the rules stay in OVS, and count on. Then all takes the bypass again. Nothing
    is lost, doubled or reordered, no rule is withdrawn, and OpenFlow has counted each packet.
    """
    with traffic(scene, *CLASSES) as program:
        uses(program, "bypass")
        region = scene.region(1)
        before = {(rule.slot, rule.generation) for rule in region.rules()}
        assert scene.link(1, 2)["rules"] == len(before) >= len(CLASSES)

        suppress(region)
        followed(region)
        uses(program, "normal", 1)
        uses(program, "bypass", 2)
        row = scene.link(1, 2)
        assert (row["state"], row["rules"], row["reason"]) == ("off", 0, SUPPRESSED)
        shown = scene.highway_json("rules", "p1")["rules"]
        assert {(rule["state"], rule["reason"]) for rule in shown} == {("waiting", SUPPRESSED)}
        event = f"path p1 to p2: normal channel: {SUPPRESSED}"
        eventually(lambda: event in scene.log("highwayd"), "highwayd's record")
        lift(region)
        uses(program, "bypass")
        becomes(lambda: scene.link(1, 2)["state"], "bypass", "the direction")

        (tcp,) = [rule for rule in region.rules() if rule.key.ip_proto == socket.IPPROTO_TCP]
        suppress(region, tcp)
        followed(region)
        seen = {rule.slot: rule.packets for rule in region.rules()}
        eventually(lambda: counts_on(region, seen) == set(seen) - {tcp.slot}, "the others count on")
        assert tcp.slot not in counts_on(region, seen)
        assert scene.link(1, 2)["rules"] == len(before) - 1
        assert scene.link(1, 2)["state"] == "bypass"
        lift(region)
        uses(program, "bypass")

        leaves = program.xstats(0)["bypass_leaves"]
        chance = random.Random(1)
        for _ in range(TIMES):
            suppress(region, *chance.sample(region.rules(), chance.randint(1, len(CLASSES))))
            time.sleep(chance.uniform(0, AT_ONCE))
            lift(region)
            time.sleep(chance.uniform(0, AT_ONCE))
        assert program.xstats(0)["bypass_leaves"] >= leaves + TIMES // 10
        uses(program, "bypass")
        after = {(rule.slot, rule.generation) for rule in region.rules()}
        assert after == before
    assert scene.unclaimed(1) == 0


def test_the_next_burst_leaves_a_suppressed_rule(scene: Scene) -> None:
    """It is not the control thread's new view that ends the rule.

    Steps: traffic of one class; suppress its rule and wait for the new view; lift it; many times.
    Verify: after the rule was suppressed, what goes by it is the burst that was under way at most.
    """
    with traffic(scene, "udp=1000", both_ways=False, rules=8) as program:
        region, late = scene.region(1), []
        for _ in range(BURSTS):
            uses(program, "bypass", 1)
            suppress(region)
            (before,) = region.rules()
            followed(region)
            (after,) = region.rules()
            late.append(after.packets - before.packets)
            lift(region)
        assert max(late) <= BURST, late


def test_a_rule_that_is_destroyed_while_it_is_suppressed_is_over(scene: Scene) -> None:
    """The flow that made highwayd suppress it is there, and OVS has followed.

    Steps: traffic; suppress its rule; stop, since OVS can miscount what it forwards while a flow
    changes; rewrite, and straight again; go on.
    Verify: the rule goes, and its suppression with it; the next rule is used.
    """
    with traffic(scene, "udp=1000", both_ways=False) as program:
        uses(program, "bypass", 1)
        region = scene.region(1)
        old = region.rules()
        suppress(region)
        uses(program, "normal", 1)
        program.stop(0)
        flow = f"cookie=10,in_port=1,{match('udp=1000')},actions="
        scene.add_flow(f"{flow}mod_dl_dst:02:00:00:00:00:77,2")
        becomes(region.rules, [], "the rules of p1")
        assert region.suppressed() == {}
        assert not any(region.suppress(rule.slot, rule.generation) for rule in old)
        scene.add_flow(f"{flow}2")
        program.resume(0)
        uses(program, "bypass", 1)
        assert not any(rule.suppressed for rule in region.rules())
