# SPDX-License-Identifier: Apache-2.0
"""OpenFlow statistics of bypassed traffic equal what the VNFs sent and received, to the byte."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import BURST, VERSIONS, Count, becomes, eventually

if TYPE_CHECKING:
    from tests.system.scene import Scene, Vnf

LENGTHS: Final = (60, 64, 300, 1514)


def table(scene: Scene, number: int, version: str) -> tuple[int, int]:
    """Return how often a table was looked up, and matched."""
    text = scene.ofctl("dump-tables", version=version)
    last = (-1, -1)
    for entry in re.finditer(
        r"tables? (\d+)(?:\.\.\.(\d+))?: *(?:ditto|active=\d+, lookup=(\d+), matched=(\d+))",
        re.sub(r":\s+active", ": active", text),
    ):
        first, final, lookups, matches = entry.groups()
        last = last if lookups is None else (int(lookups), int(matches))
        if int(first) <= number <= int(final or first):
            return last
    raise AssertionError(text)


def group(scene: Scene, number: int, version: str) -> tuple[Count, Count]:
    """Return what a group, and its first bucket, was used for."""
    text = scene.ofctl("dump-group-stats", f"group_id={number}", version=version)
    found = re.search(
        r"packet_count=(\d+),byte_count=(\d+),bucket0:packet_count=(\d+),byte_count=(\d+)", text
    )
    assert found is not None, text
    whole, bucket = (Count(packets=int(found[n]), bytes=int(found[n + 1])) for n in (1, 3))
    return whole, bucket


def send_all_lengths(scene: Scene, sender: Vnf) -> Count:
    """Send over the bypass frames of several lengths; return all that was ever sent."""
    scene.bypass_on(sender)
    before = sender.bypassed()
    for length in LENGTHS:
        sender.command("stop")
        sender.set_txpkts(length)
        sender.send(7)
    assert sender.bypassed() - before == 7 * BURST * len(LENGTHS)
    return sender.sent()


def test_flow_table_and_port_statistics_in_every_openflow_version(scene: Scene) -> None:
    """All versions show the same, and it is what the VNFs say.

    Steps: a pipeline of two tables; send frames of 60 to 1,514 bytes over the bypass.
    Verify: flow, table and port statistics of OpenFlow 1.0, 1.3 and 1.5 equal what p1 sent and p2
    received.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,table=0,in_port=1,actions=resubmit(,1)")
    scene.add_flow("cookie=2,table=1,ip,actions=output:2")
    count = send_all_lengths(scene, sender)
    becomes(receiver.received, count, "the receiver")
    for version in VERSIONS:
        scene.flow_becomes(1, count, version=version)
        scene.flow_becomes(2, count, version=version)
        for number in (0, 1):
            assert table(scene, number, version) == (count.packets, count.packets)
        assert table(scene, 2, version) == (0, 0)
        one, two = (scene.port(number, version=version) for number in (1, 2))
        assert (one.rx, one.tx, one.tx_dropped) == (count, Count(), 0)
        assert (two.rx, two.tx, two.tx_dropped) == (Count(), count, 0)


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_group_statistics(scene: Scene, version: str) -> None:
    """A group and its bucket are counted for bypassed packets.

    Steps: a flow to an indirect group whose bucket is p2; send over the bypass.
    Verify: group, bucket and flow have counted what was sent.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.ofctl("add-group", "group_id=5,type=indirect,bucket=output:2", version=version)
    scene.add_flow("cookie=1,in_port=1,actions=group:5")
    count = send_all_lengths(scene, sender)
    becomes(receiver.received, count, "the receiver")
    scene.flow_becomes(1, count, version=version)
    assert group(scene, 5, version) == (count, count)


def test_aggregate_and_database_statistics(scene: Scene) -> None:
    """What sums flows up, and what OVS writes into its database, has the bypassed packets too.

    Steps: flows in both directions; send over the bypass.
    Verify: dump-aggregate is the sum; `ovs-vsctl get Interface … statistics` gets there.
    """
    scene.sandbox.vsctl("set", "Open_vSwitch", ".", "other_config:stats-update-interval=1000")
    scene.ports(2)
    one, two = scene.vnf(1), scene.vnf(2)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.add_flow("cookie=2,in_port=2,actions=1")
    first, second = send_all_lengths(scene, one), send_all_lengths(scene, two)
    scene.flow_becomes(1, first)
    scene.flow_becomes(2, second)
    total = first + second
    aggregate = scene.ofctl("dump-aggregate")
    assert f"packet_count={total.packets} byte_count={total.bytes} flow_count=2" in aggregate

    def statistics() -> Count:
        text = scene.sandbox.vsctl("get", "Interface", "p2", "statistics")
        found = dict(re.findall(r"(\w+)=(\d+)", text))
        return Count(packets=int(found["tx_packets"]), bytes=int(found["tx_bytes"]))

    becomes(statistics, first, "tx statistics of p2 in the database")


def test_each_five_tuple_flow_counts_its_own(scene: Scene) -> None:
    """Packets of one burst that match different rules are counted for their own flow.

    Steps: the sender varies the third byte of its source address; a quarter goes to p3, a quarter
    to p4, the rest to p2.
    Verify: the three flows together have what was sent, and each what its receiver got.
    """
    scene.ports(4)
    receivers = [scene.vnf(number) for number in (2, 3, 4)]
    sender = scene.vnf(1, app_args=("--txonly-multi-flow",))
    scene.add_flow("cookie=2,priority=10,in_port=1,actions=2")
    scene.add_flow("cookie=3,priority=20,in_port=1,ip,nw_src=198.18.0.0/18,actions=3")
    scene.add_flow("cookie=4,priority=20,in_port=1,ip,nw_src=198.18.64.0/18,actions=4")

    def all_addresses_bypass() -> bool:
        before = sender.bypassed()
        return sender.send(8).packets == sender.bypassed() - before == 8 * BURST

    eventually(all_addresses_bypass, "all 256 source addresses are on the bypass")
    becomes(
        lambda: sum((vnf.received() for vnf in receivers), Count()), sender.sent(), "all receivers"
    )
    for number, vnf in enumerate(receivers, 2):
        count = vnf.received()
        assert vnf.bypassed("rx") > 0, f"nothing of the bypass at p{number}"
        scene.flow_becomes(number, count)
        assert scene.port(number).tx == count
    assert scene.port(1).rx == sender.sent()


def test_every_queue_of_a_vnf_counts(scene: Scene) -> None:
    """A VNF with four queues is counted as one with one queue is.

    Steps: ports with queues=4; both VNFs use four queues on two cores; flood, then stop.
    Verify: all queues have sent over the bypass, in both directions of the link region the
    receiver has all, and flow and port statistics agree.
    """
    scene.ports(2, queues=4)
    queues = ("--rxq=4", "--txq=4")
    receiver = scene.vnf(2, app_args=queues, cores=(0, 1))
    sender = scene.vnf(1, app_args=queues, cores=(0, 1))
    scene.add_flow("cookie=1,in_port=1,actions=2")

    def burst_on_each_queue() -> bool:
        before = sender.bypassed()
        count = sender.send()
        return count.packets == sender.bypassed() - before == 4 * BURST

    eventually(burst_on_each_queue, "all queues send over the bypass")
    sender.flood()
    eventually(lambda: sender.bypassed() > 20_000, "20,000 packets over the bypass")
    count = sender.quiet()
    becomes(receiver.received, count, "the receiver")
    scene.flow_becomes(1, count)
    assert scene.port(1).rx == scene.port(2).tx == count
    used = scene.region(1).raw.queue_stats
    assert all(used[queue].tx_bypass_packets > 0 for queue in range(4))


def test_counters_never_run_backwards_while_traffic_runs(scene: Scene) -> None:
    """Whoever samples the counters sees them grow, by no more than was sent.

    Steps: flood over the bypass and read flow and port statistics all the time.
    Verify: no number is smaller than the one before, none is ahead of the sender; at the end all
    are equal.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    scene.bypass_on(sender)
    sender.flood()
    names = ("flow packets", "flow bytes", "rx packets", "rx bytes", "tx packets", "tx bytes")
    last, ends = (0,) * 6, time.monotonic() + 3
    first: tuple[int, ...] | None = None
    while time.monotonic() < ends:
        flow, one, two = scene.flow(1), scene.port(1), scene.port(2)
        now = (flow.packets, flow.bytes, *vars_of(one.rx), *vars_of(two.tx))
        limit = sender.sent()
        for name, before, value in zip(names, last, now, strict=True):
            assert before <= value, f"{name} went back"
            assert value <= (limit.bytes if "bytes" in name else limit.packets), name
        last, first = now, first or now
    assert first is not None
    assert all(end > start for start, end in zip(first, last, strict=True)), "nothing moved"
    count = sender.quiet()
    becomes(receiver.received, count, "the receiver")
    scene.flow_becomes(1, count)
    assert scene.port(1).rx == scene.port(2).tx == count


def vars_of(count: Count) -> tuple[int, int]:
    """Return packets and bytes."""
    return count.packets, count.bytes


def test_a_second_polling_thread_does_not_double_the_counts(scene: Scene) -> None:
    """OVS may move a port to another PMD thread; the flow is still counted once.

    Steps: traffic over the bypass; then give OVS another core for its polling thread, and back.
    Verify: the bypass comes back each time, and the flow shows what was sent.
    """
    scene.ports(2)
    receiver, sender = scene.vnf(2), scene.vnf(1)
    scene.add_flow("cookie=1,in_port=1,actions=2")
    masks = scene.sandbox.vsctl("get", "Open_vSwitch", ".", "other_config:pmd-cpu-mask")
    try:
        for mask in ("0x1", "0x2", "0x3", "0x1"):
            scene.sandbox.vsctl("set", "Open_vSwitch", ".", f"other_config:pmd-cpu-mask={mask}")
            scene.bypass_on(sender)
            sender.send(10)
            scene.revalidate()
        count = sender.sent()
        becomes(receiver.received, count, "the receiver")
        scene.flows_claim((1,), count, port=1)
        assert scene.port(1).rx == scene.port(2).tx == count
    finally:
        mask = masks.strip().strip('"')
        scene.sandbox.vsctl("set", "Open_vSwitch", ".", f"other_config:pmd-cpu-mask={mask}")
