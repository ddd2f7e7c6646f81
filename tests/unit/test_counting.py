# SPDX-License-Identifier: Apache-2.0
"""Whose counters become statistics (`highway-stats`), and what switches are told of it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from ovs_highway import shm
from ovs_highway.agent.counting import Counting, counting, news
from ovs_highway.shm import LinkFlag, Stats

from .conftest import wait_for
from .database import needs_ovs

if TYPE_CHECKING:
    from ovs_highway.lab.stand_in import FakeSwitch, FakeVnf

    from .conftest import Lab
    from .database import Database

SENDER, RECEIVER = Stats.SENDER, Stats.RECEIVER
CHECKED = LinkFlag.CHECKED | LinkFlag.PEER_CHECKS


def test_a_receiver_counts_if_it_is_to_and_can() -> None:
    unchecked = frozenset({3})
    assert counting(SENDER, unchecked) == Counting(source=SENDER)
    assert counting(RECEIVER, unchecked) == Counting(source=RECEIVER, believed=unchecked)
    assert counting(RECEIVER, unchecked, able=False) == Counting(source=SENDER)


BELIEVED = Counting(source=RECEIVER, believed=frozenset({3, 4}))


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, Counting(source=SENDER), [(0, SENDER)]),
        (None, BELIEVED, [(3, SENDER), (4, SENDER), (0, RECEIVER)]),
        (
            BELIEVED,
            Counting(source=RECEIVER, believed=frozenset({4, 5})),
            [(5, SENDER), (3, RECEIVER)],
        ),
        (BELIEVED, Counting(source=SENDER), [(0, SENDER), (3, RECEIVER), (4, RECEIVER)]),
        (Counting(source=SENDER), BELIEVED, [(3, SENDER), (4, SENDER), (0, RECEIVER)]),
        (BELIEVED, BELIEVED, []),
    ],
)
def test_names_come_before_the_rule_for_all_others(
    before: Counting | None, now: Counting, told: list[tuple[int, Stats]]
) -> None:
    assert news(before, now) == told


def until_counted(switch: FakeSwitch, expected: dict[int, Stats]) -> None:
    """Wait until a switch has been told who counts; senders that are as all others are left out."""

    def told() -> bool:
        switch.pump(0.05)
        return {i: s for i, s in switch.counted.items() if not i or s is SENDER} == expected

    wait_for(told, f"{switch.name} knows {expected}")


def up(*vnfs: FakeVnf) -> set[LinkFlag]:
    """Have both ends take a link; return what they are to heed."""
    ids = {vnf.accept_link() for vnf in vnfs}
    for vnf in vnfs:
        vnf.await_update()
    return {vnf.flags[link_id] for vnf in vnfs for link_id in ids}


def down(*vnfs: FakeVnf) -> None:
    for vnf in vnfs:
        vnf.give_up_link()


@needs_ovs
def test_the_switch_is_told_what_the_database_and_links_say(
    database: Database, idle_lab: Lab
) -> None:
    """vnf2 counts; it believes vnf1 as long as they have a link that is not checked."""
    lab = idle_lab
    for name in ("vnf1", "vnf2"):
        database.add_port(name, name)
    lab.start()
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    until_counted(two, {0: SENDER})
    database.vsctl("set", "Interface", "vnf2", "external_ids:highway-stats=receiver")
    until_counted(two, {0: RECEIVER})
    until_counted(one, {0: SENDER})
    one.want(two)
    vnfs = lab.vnf("vnf1").attach(), lab.vnf("vnf2").attach()
    assert up(*vnfs) == {shm.FREE}
    assert two.region_id != one.region_id
    until_counted(two, {0: RECEIVER, one.region_id: SENDER})
    for name in ("vnf1", "vnf2"):
        database.vsctl("set", "Interface", name, "external_ids:highway-mode=checked")
    database.vsctl("remove", "Interface", "vnf1", "external_ids", "highway-trust")
    down(*vnfs)
    until_counted(two, {0: RECEIVER})
    assert up(*vnfs) == {CHECKED}
    until_counted(two, {0: RECEIVER})
    database.vsctl("set", "Interface", "vnf1", "external_ids:highway-trust=lab")
    until_counted(two, {0: RECEIVER, one.region_id: SENDER})
    for _ in ("receivers", "senders"):
        for vnf in vnfs:
            vnf.await_update()
    lab.end(signal.SIGKILL)
    one.close()
    two.close()
    lab.start()
    one, two = lab.switch("vnf1"), lab.switch("vnf2")
    for vnf in vnfs:
        vnf.sock.close()
        vnf.connect()
        vnf.attach()
    until_counted(two, {0: RECEIVER, one.region_id: SENDER})
    database.vsctl("set", "Interface", "vnf2", "external_ids:highway-stats=sender")
    until_counted(two, {0: SENDER})


@needs_ovs
def test_a_driver_that_does_not_count_is_not_asked(database: Database, idle_lab: Lab) -> None:
    database.add_port("vnf1", "vnf1")
    database.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-stats=receiver")
    idle_lab.start()
    one = idle_lab.switch("vnf1")
    until_counted(one, {0: RECEIVER})
    idle_lab.vnf("vnf1", abi=shm.ABI_COUNTED - 1).attach()
    until_counted(one, {0: SENDER})
