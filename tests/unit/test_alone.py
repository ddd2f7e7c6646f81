# SPDX-License-Identifier: Apache-2.0
"""Which rules are in force while ports have no ovs-vswitchd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.unit.conftest import fill_key

from ovs_highway import shm
from ovs_highway.agent.alone import RETURN, SETTLE, Alone
from ovs_highway.agent.ports import Port
from ovs_highway.lab.stand_in import make_port_file
from ovs_highway.ovsdb import Interface, Snapshot
from ovs_highway.region import PortRegion
from ovs_highway.shm import Off

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEPT: Final = shm.constant("HIGHWAY_RULE_KEPT")
UNCHECKED: Final = shm.constant("HIGHWAY_RULE_UNCHECKED")
NAMES: Final = ("p1", "p2")


class World:
    """Two ports that an ovs-vswitchd has closed, with a rule p1 → p2 that it has kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, Port] = {}
        for name in NAMES:
            make_port_file(folder / name, name=name, tag="0" * 16)
            region = PortRegion.open(folder / name)
            region.raw.switch_state.epoch = 7
            region.raw.gate.off_switch = int(Off.SWITCH)
            self.ports[name] = Port(name, region)
        self.alone = Alone()
        self.snapshot = snapshot()
        self.now = 100.0
        self.rule(0, live=False, flags=KEPT)
        self.copy(3, live=False, flags=KEPT)

    def rule(self, slot: int, *, live: bool, flags: int = 0) -> None:
        rule = self["p1"].region.rule_table()[slot]
        rule.generation, rule.live, rule.flags = 50 + slot, (50 + slot) * live, flags
        rule.peer_id = self["p2"].region.region_id
        fill_key(rule.key, rule.mask)

    def copy(self, slot: int, *, live: bool, flags: int = 0) -> None:
        copy = self["p2"].region.in_rule_table()[slot]
        copy.generation, copy.live, copy.flags = 90 + slot, (90 + slot) * live, flags
        copy.peer_id = self["p1"].region.region_id
        fill_key(copy.key, copy.mask)

    def __getitem__(self, name: str) -> Port:
        return self.ports[name]

    def look(self, *, after: float = 1.0) -> bool:
        """Look at the ports, and once more when they have settled."""
        self.alone.follow(self.ports, self.snapshot, self.now)
        self.now += after
        return self.alone.follow(self.ports, self.snapshot, self.now)

    @property
    def live(self) -> tuple[int, int]:
        """What is in force: rules of p1, and copies at p2."""
        return len(self["p1"].region.live_peers()), len(self["p2"].region.inbound_peers())

    def off(self, name: str) -> Off:
        return self[name].region.gate().off_switch


def snapshot(*names: str, fail_mode: str = "standalone") -> Snapshot:
    return Snapshot(
        connected=True,
        ports={name: Interface(port=name, name=name, bridge="br0") for name in names or NAMES},
        external_ids={"highway-fail-mode": fail_mode},
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for port in world.ports.values():
        port.region.close()


def test_what_was_in_force_is_so_again_and_wanted(world: World) -> None:
    change = world["p1"].region.gate().change
    world.look()
    assert world.live == (1, 1)
    assert world.off("p1") == world.off("p2") == Off(0)
    assert world["p1"].wants == {world["p2"].region.region_id: 1}
    assert world["p1"].region.gate().change > change
    change = world["p1"].region.gate().change
    world.look()
    assert world["p1"].region.gate().change == change, "nothing new, nothing done"


def test_it_waits_for_the_database(world: World) -> None:
    assert world.look(after=SETTLE / 2)
    assert world.live == (0, 0)
    assert world.off("p1") == Off.SWITCH


@pytest.mark.parametrize(
    "told",
    [snapshot(fail_mode="secure"), snapshot(fail_mode="nonsense"), snapshot("p3"), None],
    ids=["secure", "nonsense", "deleted", "unknown"],
)
def test_not_unless_the_database_says_so(world: World, told: Any) -> None:  # noqa: ANN401
    world.snapshot = told
    world.look()
    assert world.live == (0, 0)
    assert world.off("p1") == Off.SWITCH


def test_only_what_the_switch_has_marked(world: World) -> None:
    world.rule(0, live=False)
    world.look()
    assert world.live == (0, 0)
    assert world.off("p1") == Off(0), "rules or not, the port is without a switch"


def test_without_a_copy_the_rule_is_not_for_checked_links(world: World) -> None:
    world.copy(3, live=False)
    world.look()
    assert world.live == (1, 0)
    assert world["p1"].region.rule_table()[0].flags & UNCHECKED


def test_a_rule_that_was_suppressed_when_ovs_ended_is_not_any_more(world: World) -> None:
    region = world["p1"].region
    region.rule_table()[0].suppressed = 50
    world.look()
    assert region.suppressed() == {}
    assert region.count_rules()[0] == {world["p2"].region.region_id: 1}


def test_a_rule_that_was_suppressed_when_ovs_was_killed_stays_so(world: World) -> None:
    region = world["p1"].region
    world.rule(0, live=True)
    world.copy(3, live=True)
    region.rule_table()[0].suppressed = 50
    world.look()
    assert region.suppressed() == {0: 50}
    assert world["p1"].wants == {world["p2"].region.region_id: 1}, "its link is kept"
    region.lift(0, 50)
    assert region.count_rules()[0] == {world["p2"].region.region_id: 1}


def test_rules_towards_a_port_that_is_off_are_suspended(world: World) -> None:
    world.look()
    world["p2"].region.set_operator(Off.OPERATOR, off=True)
    world.look()
    assert world.live[0] == 0
    world["p2"].region.set_operator(Off.OPERATOR, off=False)
    world.look()
    assert world.live[0] == 1
    world["p2"].region.set_policy("because")
    world.look()
    assert world.live[0] == 0


def test_a_port_that_was_down_receives_nothing(world: World) -> None:
    world["p2"].region.raw.gate.off_switch = int(Off.SWITCH | Off.DOWN)
    world.look()
    assert world.live[0] == 0


def test_after_a_crash_rules_are_simply_still_there(world: World) -> None:
    world.rule(0, live=True)
    world.copy(3, live=True)
    for port in world.ports.values():
        port.region.raw.gate.off_switch = 0
        port.region.raw.switch_state.attached = 1
    world.look()
    assert not world["p1"].region.raw.switch_state.attached, "nobody holds its lock"
    assert world.live == (1, 1)
    assert world.alone.names == set(NAMES)


def test_a_port_that_ovs_closes_while_it_has_others_stops(world: World) -> None:
    with PortRegion.open(world.folder / "p2") as holder:
        assert holder.lock()
        world["p2"].region.raw.switch_state.attached = 1
        world.look()
        assert world.live == (0, 0)
        assert world.alone.names == set()


def test_one_that_the_next_switch_does_not_take_stops_after_a_while(world: World) -> None:
    world.look()
    with PortRegion.open(world.folder / "p2") as holder:
        assert holder.lock()
        world["p2"].region.raw.switch_state.attached = 1
        assert world.look(), "it is to look again soon"
        assert world.off("p1") == Off(0)
        assert world.live[0] == 1
        world.look(after=RETURN)
        assert world.off("p1") == Off.SWITCH
        assert world.alone.names == set()


def test_a_port_that_no_switch_ever_started_is_left_alone(world: World) -> None:
    world["p1"].region.raw.switch_state.epoch = 0
    world.look()
    assert world.off("p1") == Off.SWITCH
    assert world.live == (0, 0)
