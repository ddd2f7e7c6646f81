# SPDX-License-Identifier: Apache-2.0
"""`highway-stats=receiver`: OVS's statistics are what receivers count, whatever senders say."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.hostile import Scribbler
from tests.system.receivers import receivers_count
from tests.system.scene import BURST, Count, becomes, eventually

from ovs_highway import shm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.scene import Scene, Vnf

LENGTHS: Final = (60, 64, 300, 1514)
FLOW: Final = "cookie=1,in_port=1,actions=output:2"
MORE: Final = "cookie=9,priority=40000,in_port=1,udp,tp_dst=5353,actions=output:3"
"""Makes what p1 sends no point-to-point traffic."""
LIE: Final = 1_000
"""Less than what rings hold: the comparison of both ends cannot tell."""
BIG_LIE: Final = 50_000
STORM: Final = 20
STILL: Final = 1.5
QUIET: Final = 0.5
"""Seconds for the switch to follow highwayd."""


def region_file(scene: Scene, number: int) -> Path:
    (path,) = [file for file in scene.region_files("port-") if file.name.endswith(f"-p{number}")]
    return path


def packets_at(region: Scribbler, table: str) -> Iterator[int]:
    """Yield where the packets of each rule are counted, queue by queue."""
    start = region.port_field(table)
    for slot in range(region.port_field("n_queues", "I") * region.port_field("n_rules", "I")):
        yield start + slot * shm.COUNTER_LEN


def counted(scene: Scene, number: int, table: str) -> Count:
    """Return what the VNF of a port says in one of its tables of counters."""
    with Scribbler(region_file(scene, number)) as region:
        where = list(packets_at(region, table))
        return Count(
            packets=sum(region.read(offset) for offset in where),
            bytes=sum(region.read(offset + 8) for offset in where),
        )


def database(scene: Scene, number: int, way: str) -> Count:
    """Return what the Interface record of a port says."""
    text = scene.sandbox.vsctl("get", "Interface", f"p{number}", "statistics")
    found = dict(re.findall(r"(\w+)=(\d+)", text))
    return Count(packets=int(found[f"{way}_packets"]), bytes=int(found[f"{way}_bytes"]))


def all_say(scene: Scene, count: Count) -> None:
    """OVS says that this is what went from p1 to p2: in flow, ports and Interface records."""
    scene.flow_becomes(1, count)
    one, two = scene.port(1), scene.port(2)
    assert (one.rx, one.tx, two.rx, two.tx) == (count, Count(), Count(), count)
    becomes(lambda: database(scene, 1, "rx"), count, "the Interface record of p1")
    becomes(lambda: database(scene, 2, "tx"), count, "the Interface record of p2")


def send_all_lengths(scene: Scene, sender: Vnf) -> None:
    """Send over the bypass frames of several lengths."""
    scene.bypass_on(sender)
    before = sender.bypassed()
    for length in LENGTHS:
        sender.command("stop")
        sender.set_txpkts(length)
        sender.send(7)
    assert sender.bypassed() - before == 7 * BURST * len(LENGTHS)


@pytest.mark.parametrize("proven", [True, False])
def test_all_statistics_are_what_was_received(scene: Scene, proven: bool) -> None:
    """Also for what is point-to-point, which needs no check otherwise.

    Steps: send frames of 60 to 1,514 bytes over the bypass.
    Verify: the link is checked, p2 has counted what it took from it, and flow, port and Interface
    statistics are what it received.
    """
    scene.ports(3)
    receivers_count(scene, 3)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    before = counted(scene, 2, "in_counters_offset")
    scene.add_flow(FLOW)
    if not proven:
        scene.add_flow(MORE)
    send_all_lengths(scene, sender)
    received = receiver.received_all()
    assert received == sender.sent()
    all_say(scene, received)
    grown = counted(scene, 2, "in_counters_offset") - before
    assert grown.packets == receiver.bypassed("rx")
    way = scene.link(1, 2)
    assert (way["state"], way["checked"], way["counted"]) == ("bypass", True, True)
    assert "bypass, checked and counted" in scene.highway("links", "--interval", "0")
    assert "counts what is sent to it" in scene.highway("show")
    assert "p2 checks and counts it" in scene.highway("explain", "p1")


def test_a_sender_that_lies_does_not_change_them(scene: Scene) -> None:
    """Steps: p1 adds to its counters of all rules while there is a link, so much that the link is
    closed, and while there is none.

    Verify: flow, ports and Interface records have what p2 received, and the link is closed.
    """
    scene.ports(2)
    receivers_count(scene, 2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow(FLOW)
    with Scribbler(region_file(scene, 1)) as region:

        def lie(by: int) -> None:
            for offset in packets_at(region, "counters_offset"):
                region.write(offset, region.read(offset) + by)
                region.write(offset + 8, region.read(offset + 8) + 64 * by)
            scene.revalidate()

        lie(LIE)
        scene.bypass_on(sender)
        lie(LIE)
        sender.send(5)
        all_say(scene, receiver.received_all())
        said = r"p1 counts \d+ packets .* sent to p2, which"

        def found_out() -> bool:
            lie(BIG_LIE)
            sender.send(5)
            return re.search(said, scene.log("highwayd")) is not None

        eventually(found_out, "the lie is found out")
        lie(LIE)
        scene.bypass_on(sender)
        lie(LIE)
        all_say(scene, receiver.received_all())


def test_by_default_the_sender_is_believed(scene: Scene) -> None:
    """Steps: the same small lie, with highway-stats=sender, and between ports of one label.

    Verify: the flow has what p1 says. Ports of one label have links that are not checked, so that
    the sender counts for them whatever is set.
    """
    scene.ports(2)
    receivers_count(scene, 2, "sender")
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow(FLOW)
    scene.add_flow(MORE.replace("output:3", "drop"))
    told = 0

    def lies() -> None:
        nonlocal told
        scene.bypass_on(sender)
        with Scribbler(region_file(scene, 1)) as region:
            (rule,) = scene.region(1).rules()
            used = region.port_field("counters_offset") + rule.slot * shm.COUNTER_LEN
            region.write(used + 8, region.read(used + 8) + 64 * LIE)
            region.write(used, region.read(used) + LIE)
        told += LIE
        expected = receiver.received_all() + Count(packets=told, bytes=64 * told)
        scene.flow_becomes(1, expected)

    lies()
    assert scene.link(1, 2)["checked"]
    receivers_count(scene, 0)
    for number in (1, 2):
        scene.sandbox.vsctl("set", "Interface", f"p{number}", "external_ids:highway-trust=one")
    becomes(lambda: scene.link(1, 2).get("checked"), False, "a label in common")
    sender.send(10)
    lies()
    assert not scene.link(1, 2)["counted"]


def test_every_queue_counts_while_rules_come_and_go(scene: Scene) -> None:
    """Steps: ports with four queues; flood, while OVS forgets its flows and learns them anew.

    Verify: ports have counted what was received, by all of p2's queues; nothing was refused.
    """
    scene.ports(2, queues=4)
    receivers_count(scene, 2)
    queues = ("--rxq=4", "--txq=4")
    receiver = scene.vnf(2, app_args=queues, cores=(0, 1))
    sender = scene.vnf(1, app_args=queues, cores=(0, 1))
    before_all = counted(scene, 2, "in_counters_offset")
    scene.add_flow(FLOW)
    eventually(lambda: all_queues(sender), "all queues send over the bypass")
    sender.flood()
    for _ in range(STORM):
        before = sender.bypassed()
        scene.sandbox.appctl("revalidator/purge")
        eventually(lambda n=before: sender.bypassed() > n + 1000, "the bypass is used again")  # type: ignore[misc]
    sent = sender.quiet()
    received = receiver.received_all()
    assert receiver.xstats()["rx_bypass_refused_errors"] == 0
    assert received.packets + scene.port(2).tx_dropped == sent.packets
    becomes(lambda: scene.port(2).tx, received, "what p2 was sent")
    becomes(lambda: scene.port(1).rx, sent, "what p1 has sent")
    grown = counted(scene, 2, "in_counters_offset") - before_all
    assert grown.packets == receiver.bypassed("rx")
    with Scribbler(region_file(scene, 2)) as region:
        where = list(packets_at(region, "in_counters_offset"))
        rows = [where[at : at + len(where) // 4] for at in range(0, len(where), len(where) // 4)]
        assert all(any(region.read(offset) for offset in row) for row in rows)


def all_queues(sender: Vnf) -> bool:
    before = sender.bypassed()
    count = sender.send()
    return count.packets == sender.bypassed() - before == 4 * BURST


def test_what_a_rule_has_let_through_is_counted_for_it_after_its_end(scene: Scene) -> None:
    """The place of an inbound rule is not another's while frames of its time are in a ring.

    Steps: tables have room for one rule. p2 receives nothing; p1 sends over the bypass, and its
    flow is deleted; p3 gets one, and sends; then p2 receives.
    Verify: p1's and p3's ports have what each of them sent, p3's flow what p3 sent. When p2 has
    received, p3 has a bypass, too.
    """
    scene.ports(3, rules=1)
    receivers_count(scene, 3)
    second, first, third = scene.vnf(2), scene.vnf(1), scene.vnf(3)
    scene.add_flow(FLOW)
    scene.bypass_on(first)
    second.received_all()
    second.command("stop")
    before = first.bypassed()
    late = first.send(4)
    assert first.bypassed() - before == late.packets
    scene.ofctl("del-flows")
    becomes(scene.region(2).inbound_peers, [], "rules to p2 that are in force")
    scene.add_flow("cookie=3,in_port=3,actions=output:2")
    third.send()
    eventually(lambda: scene.region(3).live_peers() != [], "p3 has a rule")
    time.sleep(STILL)
    assert scene.region(2).inbound_peers() == []
    third.send(4)
    second.start()
    becomes(lambda: second.received().packets, first.sent().packets + third.sent().packets, "p2")
    scene.bypass_on(third)
    second.received_all()
    scene.flow_becomes(3, third.sent())
    assert scene.port(1).rx == first.sent()
    assert scene.port(3).rx == third.sent()
    assert scene.port(2).tx == first.sent() + third.sent()


@pytest.mark.parametrize("proven", [pytest.param(True, marks=[pytest.mark.long]), False])
def test_the_setting_may_change(scene: Scene, proven: bool) -> None:
    """Steps: send over the bypass with each setting in turn, while nothing is under way.

    Verify: each packet is counted once.
    """
    scene.ports(3)
    receivers_count(scene, 3)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow(FLOW)
    if not proven:
        scene.add_flow(MORE)
    scene.bypass_on(sender)
    for stats in ("receiver", "sender", "receiver", "sender"):
        receivers_count(scene, 0, stats)
        becomes(lambda: scene.highway_json("show")["ports"][1]["stats"], stats, "highwayd follows")
        counted = stats == "receiver"
        becomes(lambda: scene.link(1, 2).get("counted"), counted, "the link")
        time.sleep(QUIET)
        scene.bypass_on(sender)
        sender.send(10)
        all_say(scene, receiver.received_all())


def test_a_new_ovs_vswitchd_and_a_new_highwayd_know_who_counts(scene: Scene) -> None:
    """Steps: restart highwayd, then ovs-vswitchd; p1 lies after each.

    Verify: OVS goes on to have what p2 receives.
    """
    scene.ports(2)
    receivers_count(scene, 2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow(FLOW)
    scene.bypass_on(sender)

    def lied() -> None:
        with Scribbler(region_file(scene, 1)) as region:
            for offset in packets_at(region, "counters_offset"):
                region.write(offset, region.read(offset) + LIE)
                region.write(offset + 8, region.read(offset + 8) + 64 * LIE)
        scene.revalidate()

    lied()
    all_say(scene, receiver.received_all())
    scene.sandbox.kill_highwayd()
    lied()
    scene.sandbox.start_highwayd()
    becomes(lambda: scene.link(1, 2).get("state"), "bypass", "the link is adopted")
    lied()
    sender.send(5)
    all_say(scene, receiver.received_all())
    scene.sandbox.restart_vswitchd()
    past = receiver.received_all()
    scene.add_flow(FLOW)
    lied()
    scene.bypass_on(sender)
    lied()
    scene.flow_becomes(1, receiver.received_all() - past)
