# SPDX-License-Identifier: Apache-2.0
"""Frames that a sender pushes over a link although no rule lets them through, and honest ones."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import random
import time
from typing import TYPE_CHECKING, Final

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from tests.system.frame_pipe import FramePipe, Pause, Send
from tests.system.hostile_vnf import HostileVnf
from tests.system.scene import becomes, eventually
from tests.system.test_checked import checked

from ovs_highway.bench.switchover import await_switch, drops_since, settled, switch_drops
from ovs_highway.lab import Traffic
from ovs_highway.lab.churn import REWRITE
from ovs_highway.lab.traffic import judge, match
from ovs_highway.shm import LinkFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scapy.packet import Packet
    from tests.system.scene import Scene, Vnf

    from ovs_highway.lab import Sandbox
    from ovs_highway.region import PortRegion

ETHER: Final = Ether(dst="02:00:00:00:00:01", src="66:00:00:00:00:01")
MIXED: Final = 400
NO_SEND: Final = LinkFlag.PEER_CHECKS | LinkFlag.NO_SEND


@pytest.fixture(autouse=True)
def _mode(sandbox: Sandbox) -> Iterator[None]:
    """Leave the next test the default mode."""
    yield
    sandbox.vsctl("remove", "Open_vSwitch", ".", "external_ids", "highway-mode")


def raw(*layers: Packet, length: int = 100) -> bytes:
    """Return a frame of this length, with lengths and sums that fit."""
    packet: Packet = functools.reduce(operator.truediv, layers, ETHER)
    return bytes(packet / bytes(length - len(packet)))


def allowed(number: int) -> bytes:
    return raw(IP(id=number), UDP(dport=1000))


FORGED: Final = {
    "another port": raw(IP(), UDP(dport=1002)),
    "another peer's": raw(IP(), UDP(dport=1001)),
    "another protocol": raw(IP(), TCP(dport=1000)),
    "IPv6": raw(IPv6(), UDP(dport=1000)),
    "a tag": raw(Dot1Q(vlan=5), IP(), UDP(dport=1000)),
    "a fragment": raw(IP(frag=8), UDP(dport=1000)),
    "beyond the MTU": raw(IP(), UDP(dport=1000), length=1600),
    "no IP": raw(length=60),
    "too short to tell": raw(IP(), UDP(dport=1000))[:36],
    "14 bytes": raw(IP())[:14],
}


def refused(pipe: FramePipe) -> int:
    return pipe.xstats(0)["rx_bypass_refused_errors"]


def test_frames_that_no_rule_lets_through_are_refused(scene: Scene) -> None:
    """A sender without a driver writes into the ring what it likes; the link is checked.

    Steps: OVS has given p1 rules for UDP to port 1000 towards p2 and to 1001 towards p3; push
    frames of many kinds into the ring to p2, honest ones among them; then delete the flow, say that
    nobody uses its rule any more, and push on.
    Verify: p2 gets the honest ones, in order, and counts the others as refused, all of them once
    the rule is gone; the link stays.
    """
    scene.ports(3)
    checked(scene, 3)
    peers = scene.use(FramePipe(scene.sandbox, ["p2", "p3"]))
    for target in (2, 3):
        scene.add_flow(f"in_port=1,udp,tp_dst={998 + target},actions={target}")
    hostile = scene.use(contextlib.closing(HostileVnf(scene.sandbox.rundir, "p1").attach()))
    for number, content in ((2, allowed(0)), (3, FORGED["another peer's"])):
        region = scene.region(number)

        def known(region: PortRegion = region, content: bytes = content) -> bool:
            hostile.to_switch[0].put(content)
            return bool(region.inbound_peers())

        eventually(known, f"OVS has made a rule to p{number}")
    link = hostile.link("p2")
    peers.collect(0.05)

    chosen, honest = random.Random(1), []
    for number in range(MIXED):
        if chosen.random() < 0.5:
            honest.append(allowed(number))
            link.out.put(honest[-1])
        else:
            link.out.put(chosen.choice(list(FORGED.values())))
    becomes(lambda: refused(peers), MIXED - len(honest), "p2 refuses")
    eventually(lambda: link.out.empty, "p2 takes all of it")
    assert [one.frame for one in peers.collect()] == honest
    for content in FORGED.values():
        link.out.put(content)
    becomes(lambda: refused(peers), MIXED - len(honest) + len(FORGED), "each of them is refused")
    assert peers.collect() == []

    scene.ofctl("del-flows", "in_port=1")
    region = scene.region(2)

    def withdrawn() -> bool:
        hostile.acknowledge()
        return region.inbound_peers() == []

    eventually(withdrawn, "the rule is gone")
    before = refused(peers)
    for number in range(10):
        link.out.put(allowed(number))
    becomes(lambda: refused(peers), before + 10, "what the rule was for is refused")
    assert peers.collect() == []
    assert peers.xstats(0)["links_closed_errors"] == 0


def test_nothing_comes_over_a_direction_that_is_forbidden(scene: Scene) -> None:
    """The link is there since all that p1 sends goes to p2; p2 may send nothing over it.

    Steps: ports without labels; push frames of all kinds from p2 to p1.
    Verify: p1 refuses and counts all of them; its own way to p2 works on.
    """
    scene.ports(2)
    for name in ("p1", "p2"):
        scene.sandbox.vsctl("remove", "Interface", name, "external_ids", "highway-trust")
    scene.add_flow("in_port=1,actions=2")
    first = scene.use(FramePipe(scene.sandbox, ["p1"], devargs=",external-buffers=1"))
    hostile = scene.use(contextlib.closing(HostileVnf(scene.sandbox.rundir, "p2").attach()))
    link = hostile.link("p1", NO_SEND)
    for content in (allowed(1), *FORGED.values()):
        link.out.put(content)
    becomes(lambda: refused(first), 1 + len(FORGED), "p1 refuses all of it")
    assert first.collect() == []

    theirs = link.rings[1 - link.end]

    def sends() -> bool:
        first.do([Send(port=0, frame=allowed(2)), Pause(seconds=0.001)])
        theirs.drain()
        return first.xstats(0)["tx_bypass_packets"] > 10

    eventually(sends, "p1 sends over the bypass")
    assert first.xstats(0)["links_closed_errors"] == 0


NETS: Final = 256
ROUNDS: Final = 5


def test_frames_that_stand_in_the_rings_outlive_their_rules(scene: Scene) -> None:
    """A receiver that stands still has full rings of frames whose rules go meanwhile.

    Steps: p1 floods 256 flows of several masks, on two queues; p2 stops receiving, until nothing
    more goes over the bypass; delete all flows; when p2 knows of no rule any more it goes on.
    Verify: each time it gets more than a ring holds, and it refuses nothing.
    """
    scene.ports(2, queues=QUEUES)
    checked(scene, 2)
    queues = f"--rxq={QUEUES}", f"--txq={QUEUES}"
    second = scene.vnf(2, app_args=queues)
    first = scene.vnf(1, app_args=(*queues, "--txonly-multi-flow"))
    matches = [f"{word}nw_src=198.18.{{}}.0/24" for word in ("", "nw_proto=17,", "nw_ttl=64,")]
    flows = scene.sandbox.rundir / "flows"
    flows.write_text(
        "".join(f"in_port=1,ip,{matches[n % 3].format(n)},actions=2\n" for n in range(NETS))
    )
    region = scene.region(2)
    first.flood()
    for _ in range(ROUNDS):
        scene.ofctl("add-flows", str(flows))
        eventually(lambda: len(region.inbound_peers()) >= NETS, "p2 knows of all rules")
        before = first.bypassed()
        eventually(lambda n=before: first.bypassed() > n + 10_000, "rules are used")  # type: ignore[misc]
        second.command("stop")
        becomes(lambda: grows(first), 0, "what goes over the bypass")
        scene.ofctl("del-flows")
        eventually(lambda: region.inbound_peers() == [], "the rules are gone")
        eventually(lambda: region.vnf().ack == region.gate().change, "p2 knows of that")
        bypassed_before = second.bypassed("rx")
        second.start()
        eventually(lambda n=bypassed_before: second.bypassed("rx") > n + 2048, "p2 takes them")  # type: ignore[misc]
        becomes(lambda: grows(second, "rx"), 0, "what p2 takes from the bypass")
        assert second.xstats()["rx_bypass_refused_errors"] == 0
    assert second.xstats()["links_closed_errors"] == 0


def grows(vnf: Vnf, way: str = "tx") -> int:
    """Return by how much a count of the bypass grows in a while."""
    before = vnf.bypassed(way)
    time.sleep(0.1)
    return vnf.bypassed(way) - before


def test_a_rule_is_no_leave_to_use_a_direction_that_is_forbidden(scene: Scene) -> None:
    """The same, while OVS has a rule for some of what p2 sends.

    Steps: ports without labels; p1 sends to p2 only, p2 its UDP to p1 and the rest elsewhere; have
    OVS make that rule, then push its frames into the ring to p1.
    Verify: p1 refuses them.
    """
    scene.ports(2)
    for name in ("p1", "p2"):
        scene.sandbox.vsctl("remove", "Interface", name, "external_ids", "highway-trust")
    scene.add_flow("in_port=1,actions=2")
    scene.add_flow("in_port=2,udp,actions=1")
    first = scene.use(FramePipe(scene.sandbox, ["p1"]))
    hostile = scene.use(contextlib.closing(HostileVnf(scene.sandbox.rundir, "p2").attach()))
    link = hostile.link("p1", NO_SEND)
    region = scene.region(1)

    def known() -> bool:
        hostile.to_switch[0].put(allowed(0))
        return bool(region.inbound_peers())

    eventually(known, "OVS has made a rule")
    first.collect(0.05)
    for number in range(1, 11):
        link.out.put(allowed(number))
    becomes(lambda: refused(first), 10, "p1 refuses them")
    assert first.collect() == []


CLASSES: Final = (
    *(f"udp={1000 + n}" for n in range(8)),
    *(f"tcp={80 + n}" for n in range(6)),
    *(f"vlan={5 + n}+udp=1000" for n in range(5)),
    *(f"udp=2000+address={2 + n}" for n in range(4)),
    *(f"udp6={53 + n}" for n in range(3)),
    *("tcp6=443", "tcp6=444", "proto=89", "ether=0x88b5", "udp=3000+tos=16"),
)
WAYS: Final = ((1, 2), (2, 1))
WINDOW: Final = 512
QUEUES: Final = 2


@pytest.mark.parametrize(
    "removals",
    [1_000, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_honest_frames_are_never_refused_when_rules_go(scene: Scene, removals: int) -> None:
    """The end of a rule must not make forged frames of those that it has let through.

    Steps: two ports send to each other, as fast as it goes, in 31 classes, whose rules have many
    masks, on two queues; OVS forgets and learns all of them anew, and some flows are changed into
    ones that cannot be bypassed, and back, until so many rules have gone.
    Verify: nothing was refused, doubled or changed; what is missing OVS has dropped and counted.
    """
    scene.ports(2, queues=QUEUES)
    checked(scene, 2)
    dropped, chosen = switch_drops(scene.sandbox), random.Random(7)
    with Traffic(
        "traffic", ["p1", "p2"], queues=[(QUEUES, QUEUES)], env=scene.sandbox.env
    ) as program:
        program.define(*CLASSES)
        set_flows(scene, ())
        program.wait_link_up()
        await_switch(scene.sandbox, "p1", "p2")
        for port in (0, 1):
            program.send(port, classes=range(len(CLASSES)), sizes="64,64,64-1514", window=WINDOW)
        eventually(lambda: bypassed(program) > 0, "the bypass is in use")
        regions, seen = [scene.region(number) for number in (1, 2)], set[tuple[int, int]]()
        for turn in itertools.count():
            if turn % 4 == 3:
                set_flows(scene, chosen.sample(CLASSES, len(CLASSES) // 3))
            elif turn % 4 == 0:
                set_flows(scene, ())
            else:
                scene.sandbox.appctl("revalidator/purge")
            before = bypassed(program)
            eventually(lambda n=before: bypassed(program) > n + 2_000, "new rules are used")  # type: ignore[misc]
            for end, region in enumerate(regions):
                seen |= {(end, rule.generation) for rule in region.rules()}
            if len(seen) > removals:
                break
        verdict = judge(settled(program))
        drops = drops_since(scene.sandbox, dropped, verdict.lost)
        for port in (0, 1):
            found = program.xstats(port)
            assert found["rx_bypass_refused_errors"] == 0, f"{verdict}, after {turn} turns"
            assert found["links_closed_errors"] == 0
        assert (verdict.doubled, verdict.corrupt, verdict.foreign, verdict.misdirected) == (0,) * 4
        assert verdict.lost <= drops


def set_flows(scene: Scene, rewritten: tuple[str, ...] | list[str]) -> None:
    """Have all classes go straight to the other port, but for those that are rewritten."""
    lines = [
        f"in_port={source},{match(spec)},actions="
        f"{REWRITE + ',' if spec in rewritten else ''}output:{target}\n"
        for source, target in WAYS
        for spec in CLASSES
    ]
    flows = scene.sandbox.rundir / "flows"
    flows.write_text("".join(lines))
    scene.ofctl("add-flows", str(flows))


def bypassed(program: Traffic) -> int:
    """Return what both ports have sent past the switch."""
    return sum(program.xstats(port)["tx_bypass_packets"] for port in (0, 1))
