# SPDX-License-Identifier: Apache-2.0
"""Groups: what counts is what OVS makes of them, one output or more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.scene import Count, eventually

if TYPE_CHECKING:
    from tests.system.features.trio import Trio

TWO: Final = "bucket=output:2"
BOTH: Final = "bucket=output:2,bucket=output:3"
HASH: Final = "select,selection_method=hash,fields(ip_src)"


def add(trio: Trio, group: str) -> None:
    """Add a group of a type with buckets, and a flow of cookie 1 to it."""
    trio.scene.ofctl("add-group", f"group_id=7,type={group}", version="OpenFlow15")
    trio.scene.add_flow("cookie=1,in_port=1,actions=group:7")


def statistics(trio: Trio) -> list[Count]:
    """Return what OpenFlow shows of the group, and of each of its buckets."""
    text = trio.scene.ofctl("dump-group-stats", "group_id=7")
    return [
        Count(packets=int(packets), bytes=int(size))
        for packets, size in re.findall(r"packet_count=(\d+),byte_count=(\d+)", text)
    ]


@pytest.mark.parametrize("group", [f"indirect,{TWO}", f"all,{TWO}", f"{HASH},{TWO}", f"ff,{TWO}"])
def test_a_group_with_one_output_is_bypassed(trio: Trio, group: str) -> None:
    """One bucket, whatever the group's type.

    Steps: a flow to a group whose only bucket is p2; send.
    Verify: all takes the bypass to p2; flow, group and bucket show it.
    """
    trio.sees_links()
    add(trio, group.replace("ff,bucket=", "ff,bucket=watch_port:2,"))
    passed = trio.bypass()
    assert (passed.two, passed.three) == (passed.sent, Count())
    assert statistics(trio) == [trio.scene.flow(1)] * 2


def test_a_group_that_copies_is_not_bypassed(trio: Trio) -> None:
    """A group of type `all` with two buckets; then one of the two goes, and comes back.

    Steps: send; take the second bucket away; send; add it again; send.
    Verify: with two buckets both receivers get all, through the switch; with one the bypass is on.
    """
    add(trio, f"all,{BOTH}")
    passed = trio.normal()
    assert passed.two == passed.three == passed.sent
    assert statistics(trio) == [trio.scene.flow(1)] * 3

    trio.mark()
    trio.scene.ofctl("mod-group", f"group_id=7,type=all,{TWO}", version="OpenFlow15")
    passed = trio.bypass()
    assert (passed.two, passed.three) == (passed.sent, Count())

    trio.mark()
    trio.scene.ofctl("mod-group", f"group_id=7,type=all,{BOTH}", version="OpenFlow15")
    trio.scene.revalidate()
    passed = trio.normal()
    assert passed.two == passed.three == passed.sent


def test_a_select_group_that_hashes_fields_is_bypassed_per_bucket(trio: Trio) -> None:
    """With `selection_method=hash` each class of packets has one bucket.

    Steps: a group that selects by source address among p2 and p3; send from one address.
    Verify: all takes the bypass to one of the two, whose bucket counts it.
    """
    add(trio, f"{HASH},{BOTH}")
    passed = trio.bypass()
    assert sorted([passed.two.packets, passed.three.packets]) == [0, passed.sent.packets]
    whole, second, third = statistics(trio)
    assert whole == trio.scene.flow(1)
    assert (second, third) == ((whole, Count()) if passed.two.packets else (Count(), whole))


@pytest.mark.parametrize("buckets", [TWO, BOTH], ids=["one", "two"])
def test_a_select_group_that_recirculates_is_not_bypassed(trio: Trio, buckets: str) -> None:
    """OVS's own selection method, `dp_hash`, hashes in the datapath and looks the packet up again.

    Steps: a select group without a method, with one bucket or two; send.
    Verify: nothing is bypassed, not even with one bucket, and all arrives at one receiver.
    """
    add(trio, f"select,{buckets}")
    passed = trio.normal()
    assert passed.two + passed.three == passed.sent
    assert statistics(trio)[0] == trio.scene.flow(1)


def test_a_fast_failover_group_moves_its_bypass(trio: Trio) -> None:
    """The first live bucket has the bypass.

    Steps: a group that watches p2, then p3; send; set p2 down; send; set it up; send.
    Verify: the bypass goes to p2, to p3 and to p2 again, and the buckets count it.
    """
    add(trio, "ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3")
    try:
        for state, second in (("up", True), ("down", False), ("up", True)):
            trio.scene.ofctl("mod-port", "p2", state)
            trio.two.wait_link_up(up=state == "up")
            trio.scene.revalidate()
            passed = trio.bypass()
            expected = (passed.sent, Count()) if second else (Count(), passed.sent)
            assert (passed.two, passed.three) == expected
        whole, *buckets = statistics(trio)
        assert whole == trio.scene.flow(1) == buckets[0] + buckets[1]
    finally:
        trio.scene.ofctl("mod-port", "p2", "up")


def test_a_fast_failover_group_leaves_a_vnf_that_stops(trio: Trio) -> None:
    """A VNF that stops its port is a port without link.

    Steps: a group that watches p2, then p3; send; stop the port in the VNF at p2; start it.
    Verify: once OVS has seen it, the bypass goes to p3, and then to p2 again.
    """
    trio.sees_links()
    add(trio, "ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3")
    assert trio.bypass().three == Count()
    trio.two.command("stop")
    trio.two.command("port stop 0")
    eventually(lambda: trio.pass_on(1).three.packets > 0, "the group uses p3")
    passed = trio.bypass()
    assert passed.three == passed.sent
    trio.two.command("port start 0")
    trio.two.start()
    trio.two.wait_link_up()
    eventually(lambda: trio.pass_on(1).two.packets > 0, "the group uses p2")
    passed = trio.bypass()
    assert passed.two == passed.sent
