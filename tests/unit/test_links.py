# SPDX-License-Identifier: Apache-2.0
"""The link reconciler: single stories, and random ones with invariants checked all the time."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ovs_highway import shm
from ovs_highway.agent.actions import (
    Action,
    Add,
    LinkStatus,
    Make,
    PortFacts,
    Proofs,
    Remove,
    SetPhase,
    Unlink,
    Update,
)
from ovs_highway.agent.links import Links, Timing
from ovs_highway.agent.policy import Mode, Terms
from ovs_highway.agent.ways import flags_for, loosened, verdicts
from ovs_highway.shm import FREE, LinkFlag, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMING = Timing()
BOTH = LinkFlag.CHECKED | LinkFlag.PEER_CHECKS
NO_SEND = LinkFlag.PEER_CHECKS | LinkFlag.NO_SEND
NO_RECEIVE = LinkFlag.CHECKED | LinkFlag.NO_RECEIVE


class World:
    """Ports, and drivers that answer when they are told to."""

    def __init__(self, names: Iterable[str] = ("a", "b")) -> None:
        self.now = 100.0
        self.sessions = itertools.count(1)
        self.ids = itertools.count(1000)
        self.ports = {
            name: PortFacts(
                name=name,
                region_id=number,
                vnf=next(self.sessions),
                started=True,
                terms=Terms(port=name, trust="lab"),
            )
            for number, name in enumerate(names, 1)
        }
        self.links = Links(new_id=lambda: next(self.ids), now=self.now)
        self.regions: dict[int, tuple[str, str]] = {}
        self.phases: dict[int, Phase] = {}
        self.asked: list[Add | Remove | Update] = []
        self.heeds: dict[tuple[int, str], LinkFlag] = {}
        self.proofs = Proofs()
        self.done: list[Action] = []
        self.no_memory = False

    def change(self, name: str, **values: object) -> None:
        self.ports[name] = replace(self.ports[name], **values)  # type: ignore[arg-type]

    def want(self, name: str, peer: str, rules: int = 1) -> None:
        wants = dict(self.ports[name].wants) | {self.ports[peer].region_id: rules}
        self.change(name, wants={key: value for key, value in wants.items() if value})

    def run(self, seconds: float = 0.0) -> list[Action]:
        """Let time pass and reconcile until nothing is left to do; return what was done."""
        self.now += seconds
        found: list[Action] = []
        for _ in range(100):
            actions = self.links.reconcile(self.ports, self.now, self.proofs)
            if not actions:
                break
            for action in actions:
                self.carry_out(action)
            found += actions
        else:
            raise AssertionError(f"does not come to rest: {actions}")
        self.done += found
        return found

    def carry_out(self, action: Action) -> None:
        match action:
            case Make(link_id=link_id, pair=pair):
                assert pair not in self.regions.values(), "two links of one pair"
                for name in pair:
                    assert self.ports[name].started
                    assert self.ports[name].vnf is not None
                if self.no_memory:
                    self.links.failed(link_id, "no memory", self.now)
                    return
                self.regions[link_id] = pair
                self.phases[link_id] = Phase.NEW
                self.links.made(link_id, self.now)
            case Add(link_id=link_id, port=port):
                assert self.ports[port].vnf is not None
                assert link_id in self.regions
                self.asked.append(action)
            case Remove(link_id=link_id, port=port):
                assert self.ports[port].vnf is not None
                assert link_id in self.regions
                self.asked.append(action)
            case SetPhase(link_id=link_id, phase=phase):
                assert phase > self.phases[link_id] or phase is Phase.ACTIVE
                self.phases[link_id] = phase
            case Unlink(link_id=link_id):
                del self.regions[link_id]
            case Update(link_id=link_id, port=port, flags=flags):
                assert link_id in self.regions
                if self.heeds.get((link_id, port)) not in (None, flags):
                    self.asked.append(action)

    def answer(self, *, ok: bool = True, text: str = "") -> None:
        """Let all drivers answer what they were asked."""
        for action in self.asked:
            port = self.ports.get(action.port)
            if port is None or port.vnf is None:
                continue
            if isinstance(action, Add | Update):
                self.heeds[action.link_id, action.port] = action.flags
                self.links.added(
                    action.port,
                    port.vnf,
                    action.link_id,
                    ok=ok,
                    text=text,
                    now=self.now,
                    flags=action.flags,
                )
            else:
                self.links.removed(
                    action.port, port.vnf, action.link_id, ok=True, text="", now=self.now
                )
        self.asked.clear()

    def settle(self) -> None:
        self.run()
        while self.asked:
            self.answer()
            self.run()

    def bring_up(self) -> int:
        self.want("a", "b")
        self.settle()
        (link_id,) = self.regions
        assert self.phases[link_id] is Phase.ACTIVE
        return link_id

    def status(self) -> LinkStatus:
        (status,) = self.links.describe(self.now)
        return status


def kinds(actions: Iterable[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_a_link_comes_up_step_by_step() -> None:
    world = World()
    assert world.run() == []
    world.want("b", "a")
    assert kinds(world.run()) == ["Make", "Add", "Add"]
    assert not world.links.settled
    world.answer()
    assert kinds(world.run()) == ["SetPhase", "Update", "Update"]
    assert world.links.settled
    assert world.run() == []
    assert world.status().phase == "active"


def test_the_make_order_carries_the_larger_ring_and_both_queue_counts() -> None:
    world = World()
    world.change("a", n_queues=2, ring_size=4096)
    world.change("b", n_queues=4, ring_size=64)
    world.want("a", "b")
    make = world.run()[0]
    assert isinstance(make, Make)
    assert (make.pair, make.n_queues, make.ring_size) == (("a", "b"), (2, 4), 4096)
    assert make.port_ids == (1, 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vnf": None}, "no VNF attached at b"),
        ({"started": False}, "the VNF at b has not started"),
        ({"forbidden": "port b was deleted"}, "port b was deleted"),
        ({"terms": None}, "highwayd has not found both ports in the OVS database yet"),
        (
            {"terms": Terms(port="b", trust="other")},
            "a and b have no highway-trust label in common; set external_ids:highway-trust, or"
            " highway-mode=checked on both",
        ),
    ],
)
def test_no_link_without_both_vnfs_and_the_reason_is_told(
    change: dict[str, object], reason: str
) -> None:
    world = World()
    world.change("b", **change)
    world.want("a", "b")
    assert world.run() == []
    assert world.status().reason == reason
    assert world.status().link_id is None


def test_a_port_gets_no_link_with_itself_nor_with_a_stranger() -> None:
    world = World()
    world.change("a", wants={1: 3, 999: 1})
    assert world.run() == []


def test_one_answer_is_not_enough() -> None:
    world = World()
    world.want("a", "b")
    world.run()
    world.asked.pop()
    world.answer()
    assert world.run() == []
    assert world.phases[1000] is Phase.NEW


def test_an_unwanted_link_lingers_and_then_goes() -> None:
    world = World()
    world.bring_up()
    world.want("a", "b", 0)
    assert world.run(TIMING.linger - 1) == []
    assert kinds(world.run(2)) == ["SetPhase", "Remove", "Remove"]
    world.answer()
    assert kinds(world.run()) == ["Unlink"]
    assert world.links.describe(world.now) == []


def test_a_link_wanted_again_in_time_stays() -> None:
    world = World()
    world.bring_up()
    for _ in range(5):
        world.want("a", "b", 0)
        assert world.run(TIMING.linger - 1) == []
        world.want("a", "b", 1)
        assert world.run(1) == []


def test_links_stay_while_there_is_no_switch() -> None:
    world = World()
    world.bring_up()
    world.change("a", switch=False, wants={})
    world.change("b", switch=False)
    assert world.run(1000) == []
    world.change("a", switch=True)
    world.change("b", switch=True)
    assert world.run(1) == []
    assert "Unlink" not in kinds(world.run(TIMING.linger - 2))
    assert "Remove" in kinds(world.run(3))


@pytest.mark.parametrize("dead", ["a", "b"])
def test_a_vnf_that_dies_takes_its_link_with_it(dead: str) -> None:
    world = World()
    link_id = world.bring_up()
    world.change(dead, vnf=None, started=False)
    actions = world.run()
    other = "b" if dead == "a" else "a"
    assert [action for action in actions if isinstance(action, Remove)] == [
        Remove(
            link_id=link_id, end="ab".index(other), port=other, text=f"the VNF at {dead} went away"
        )
    ]
    assert world.run(1) == []
    world.answer()
    assert kinds(world.run()) == ["Unlink"]


def test_a_vnf_that_comes_back_gets_a_new_link_after_the_old_one_is_gone() -> None:
    world = World()
    world.bring_up()
    world.change("a", vnf=next(world.sessions))
    assert kinds(world.run()) == ["SetPhase", "Remove"]
    assert world.run(1) == []
    world.answer()
    assert kinds(world.run()) == ["Unlink", "Make", "Add", "Add"]


def test_a_silent_driver_holds_up_a_removal_for_a_bounded_time() -> None:
    world = World()
    world.bring_up()
    world.change("a", started=False)
    assert kinds(world.run()) == ["SetPhase", "Remove", "Remove"]
    assert world.run(TIMING.answer - 1) == []
    (unlink,) = world.run(2)
    assert isinstance(unlink, Unlink)
    assert "no answer from a and b" in unlink.text


def test_a_silent_driver_holds_up_a_set_up_for_a_bounded_time() -> None:
    world = World()
    world.want("a", "b")
    world.run()
    assert "Remove" in kinds(world.run(TIMING.answer + 1))
    world.answer()
    world.run()
    assert "the VNF at a and b did not answer; next try in" in world.status().reason


def test_a_refusal_is_kept_with_its_reason_and_tried_again_less_and_less_often() -> None:
    world = World()
    world.want("a", "b")
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        world.run()
        assert world.asked
        world.answer(ok=False, text="no memory in the VNF")
        world.settle()
        assert world.regions == {}
        assert "no memory in the VNF; next try in" in world.status().reason
        assert world.run(wait - 0.5) == []
        assert kinds(world.run(0.6))[0] == "Make"


def test_a_link_that_proves_good_clears_the_record() -> None:
    world = World()
    world.want("a", "b")
    for _ in range(3):
        world.run(100)
        world.answer(ok=False)
        world.settle()
    world.run(100)
    world.settle()
    world.run(TIMING.proven + 1)
    world.links.removed("a", 1, next(iter(world.regions)), ok=False, text="bad", now=world.now)
    world.settle()
    assert kinds(world.run(TIMING.backoff + 0.1))[0] == "Make"


def test_a_link_closed_by_a_driver_for_a_fault_goes_at_both_ends() -> None:
    world = World()
    link_id = world.bring_up()
    world.links.removed("a", 1, link_id, ok=False, text="bad descriptor", now=world.now)
    assert kinds(world.run()) == ["SetPhase", "Remove"]
    world.answer()
    assert kinds(world.run()) == ["Unlink"]
    assert "closed by the VNF at a: bad descriptor" in world.status().reason


def test_a_vnf_that_lets_go_of_all_links_has_to_wait() -> None:
    world = World()
    link_id: int | None = world.bring_up()
    for _ in range(11):
        assert link_id is not None
        world.links.removed("a", 1, link_id, ok=True, text="no", now=world.now)
        link_id = made_link(world)
    assert link_id is None
    (status,) = world.links.describe(world.now)
    assert "given up by the VNF at a: no; next try in" in status.reason
    world.now += 61
    assert made_link(world) is not None


def made_link(world: World) -> int | None:
    """Let a link go down, and come up again if it does; return its id."""
    for _ in range(2):
        world.run()
        world.answer()
    return next(iter(world.links.link_ids()), None)


def test_a_link_given_up_without_a_fault_is_made_again_at_once() -> None:
    world = World()
    link_id = world.bring_up()
    world.links.removed("a", 1, link_id, ok=True, text="the port is closed", now=world.now)
    world.run()
    world.answer()
    assert "Make" in kinds(world.run())


def test_a_new_vnf_starts_with_a_clean_record() -> None:
    world = World()
    world.want("a", "b")
    for _ in range(5):
        world.run(100)
        world.answer(ok=False)
        world.settle()
    world.change("a", vnf=next(world.sessions))
    assert kinds(world.run(TIMING.backoff)) == ["Make", "Add", "Add"]


def test_no_memory_is_a_reason_and_a_back_off() -> None:
    world = World()
    world.no_memory = True
    world.want("a", "b")
    world.run()
    assert "no memory; next try in 1 s" in world.status().reason
    world.no_memory = False
    assert kinds(world.run(1.1)) == ["Make", "Add", "Add"]


def test_a_port_made_anew_gets_a_new_link() -> None:
    world = World()
    old = world.bring_up()
    world.change("b", region_id=77)
    world.want("a", "b")
    assert kinds(world.run()) == ["SetPhase", "Remove", "Remove"]
    world.settle()
    assert old not in world.regions
    assert list(world.phases.values())[-1] is Phase.ACTIVE


def test_a_deleted_port_takes_its_links_with_it() -> None:
    world = World()
    world.bring_up()
    world.change("b", forbidden="port b was deleted")
    assert kinds(world.run()) == ["SetPhase", "Remove", "Remove"]
    del world.ports["b"]
    world.settle()
    assert world.regions == {}
    assert world.links.describe(world.now) == []


def test_a_port_has_only_so_many_links() -> None:
    names = ["a", *(f"p{number:03}" for number in range(shm.MAX_LINKS + 2))]
    world = World(names)
    for name in names[1:]:
        world.want("a", name)
    world.settle()
    assert len(world.regions) == shm.MAX_LINKS
    refused = [status for status in world.links.describe(world.now) if status.link_id is None]
    assert [status.reason for status in refused] == ["port a has 64 links already"] * 2
    world.want("a", names[1], 0)
    world.run(TIMING.linger + 1)
    world.settle()
    assert len(world.regions) == shm.MAX_LINKS


CHECKED = {name: Terms(port=name, mode=Mode.CHECKED) for name in "ab"}


def checked(status: LinkStatus) -> bool:
    assert status.flags in ((FREE, FREE), (BOTH, BOTH))
    return status.flags == (BOTH, BOTH)


@pytest.mark.parametrize("directed", [True, False])
def test_a_link_is_made_anew_when_it_has_to_be_checked(directed: bool) -> None:
    world = World()
    world.change("b", directed=directed)
    old = world.bring_up()
    for name in "ab":
        world.change(name, terms=CHECKED[name])
        if name == "a":
            assert "Remove" in kinds(world.run()), "one label has gone"
    world.settle()
    (link_id,) = world.regions
    assert link_id != old
    assert checked(world.status())
    makes = [a.flags for a in world.done if isinstance(a, Make)]
    assert makes == [(FREE, FREE), (BOTH, BOTH)]
    assert [a.flags for a in world.done if isinstance(a, Add)] == [FREE] * 2 + [BOTH] * 2
    for name in "ab":
        world.change(name, terms=Terms(port=name, trust="lab"))
    world.done.clear()
    world.settle()
    assert not checked(world.status())
    assert (link_id in world.regions) is directed, "an old driver needs another link"
    updates = [a.flags for a in world.done if isinstance(a, Update)]
    if directed:
        assert updates == [LinkFlag.PEER_CHECKS] * 2 + [FREE] * 2, "receivers first"


def test_a_proof_is_for_one_direction() -> None:
    """Without labels: the link comes before any rule, carries what is proven, and goes with it."""
    world = World()
    for name in "ab":
        world.change(name, terms=Terms(port=name))
    world.proofs = Proofs(peers={"b": "a"}, reasons={"a": "flow 1 floods"})
    assert kinds(world.run()) == ["Make", "Add", "Add"]
    world.settle()
    (link_id,) = world.regions
    assert world.status().flags == (NO_SEND, NO_RECEIVE)
    one, other = world.status().ways
    assert one.endswith("; what a sends is not point-to-point: flow 1 floods")
    assert other == ""
    assert world.run(1000) == [], "no rule has to want it"

    world.proofs = Proofs(peers={"b": "a", "a": "b"})
    world.done.clear()
    world.settle()
    assert [(a.port, a.flags) for a in world.done if isinstance(a, Update)] == [
        ("b", FREE),
        ("a", FREE),
    ]
    assert world.status().flags == (FREE, FREE)
    assert list(world.regions) == [link_id], "it is the same"

    world.proofs = Proofs(peers={"b": "a"}, reasons={"a": "flow 1 floods"})
    world.settle()
    assert world.status().flags == (NO_SEND, NO_RECEIVE)
    assert list(world.regions) != [link_id], "the receiver has to check, and rings are empty then"
    world.proofs = Proofs()
    world.settle()
    assert world.regions == {}
    assert world.links.describe(world.now) == [], "nobody wants it"


def test_a_link_is_not_made_for_what_it_may_not_carry() -> None:
    world = World()
    for name in "ab":
        world.change(name, terms=Terms(port=name, mode=Mode.P2P))
    world.want("a", "b")
    assert world.run() == []
    reason = "highway-mode=p2p at a and b, and what a sends is not proven to be point-to-point"
    assert world.status().ways[0] == reason
    world.proofs = Proofs(peers={"a": "c", "b": "a"})
    world.change("b", vnf=None)
    world.run()
    assert world.status().ways == ("no VNF attached at b",) * 2
    world.change("b", vnf=9)
    world.settle()
    assert world.status().flags == (NO_SEND, NO_RECEIVE)
    assert world.status().ways == (f"{reason}: it goes to c", "")


def test_proofs_make_checked_links_cheaper_one_way() -> None:
    world = World()
    for name in "ab":
        world.change(name, terms=CHECKED[name])
    link_id = world.bring_up()
    world.proofs = Proofs(peers={"a": "b"})
    world.settle()
    assert world.status().flags == (LinkFlag.CHECKED, LinkFlag.PEER_CHECKS)
    assert list(world.regions) == [link_id]


def test_a_driver_that_is_too_old_has_links_of_one_kind() -> None:
    world = World()
    for name in "ab":
        world.change(name, terms=CHECKED[name], directed=name == "b")
    world.proofs = Proofs(peers={"a": "b"})
    world.settle()
    assert checked(world.status()), "more than it has to be"
    for name in "ab":
        world.change(name, terms=Terms(port=name))
    world.settle()
    assert world.regions == {}
    words = "the driver of the VNF at a is too old for a link that carries one direction"
    assert world.status().ways[0].startswith(words)
    assert world.status().ways[1].startswith("a and b have no highway-trust label")
    world.proofs = Proofs(peers={"a": "b", "b": "a"})
    world.settle()
    assert world.status().flags == (FREE, FREE)


def test_a_lost_update_is_sent_again() -> None:
    world = World()
    for name in "ab":
        world.change(name, terms=CHECKED[name])
    world.bring_up()
    for name in "ab":
        world.change(name, terms=Terms(port=name, trust="lab"))
    world.run()
    world.asked.clear()
    assert world.run(TIMING.answer - 1) == []
    assert kinds(world.run(2)) == ["Update", "Update"]
    world.settle()
    assert world.status().flags == (FREE, FREE)


def test_a_link_that_is_loosened_can_still_be_tightened() -> None:
    world = World()
    for name in "ab":
        world.change(name, terms=CHECKED[name])
    old = world.bring_up()
    for name in "ab":
        world.change(name, terms=Terms(port=name, trust="lab"))
    world.run()
    world.asked.clear()
    world.change("a", terms=CHECKED["a"])
    world.change("b", terms=CHECKED["b"])
    world.settle()
    assert old not in world.regions
    assert checked(world.status())


@pytest.mark.parametrize("wanted", list(itertools.product(range(3), repeat=2)))
@pytest.mark.parametrize("told", list(itertools.product(range(3), repeat=2)))
def test_a_sender_does_more_only_after_its_receiver(
    told: tuple[int, int], wanted: tuple[int, int]
) -> None:
    """Each way: carries all, carries what is checked, carries nothing."""

    def flags(kinds: tuple[int, int]) -> tuple[LinkFlag, LinkFlag]:
        sends = [(FREE, LinkFlag.PEER_CHECKS, NO_SEND)[kind] for kind in kinds]
        checks = [(FREE, LinkFlag.CHECKED, NO_RECEIVE)[kind] for kind in kinds]
        return sends[0] | checks[1], sends[1] | checks[0]

    now, target = flags(told), flags(wanted)
    if any(want & ~have for want, have in zip(target, now, strict=True)):
        return
    for _ in range(3):
        reported, now = now, loosened(now, target, now)
        for end in (0, 1):
            if LinkFlag.CHECKED in reported[1 - end]:
                assert LinkFlag.PEER_CHECKS in now[end]
            if LinkFlag.NO_RECEIVE in reported[1 - end]:
                assert LinkFlag.NO_SEND in now[end]
    assert now == target


def test_a_link_stays_while_the_database_does_not_know_its_ports() -> None:
    world = World()
    world.bring_up()
    for name in "ab":
        world.change(name, terms=None)
    assert world.run(1000) == []


def test_policy_that_changes_during_the_set_up_counts() -> None:
    world = World()
    world.want("a", "b")
    world.run()
    for name in "ab":
        world.change(name, terms=CHECKED[name])
    assert "Remove" in kinds(world.run())
    world.settle()
    assert checked(world.status())


@pytest.mark.parametrize("terms", [None, CHECKED])
@pytest.mark.parametrize("liar", [0, 1])
def test_a_driver_that_does_otherwise_than_told_loses_the_link(
    terms: dict[str, Terms] | None, liar: int
) -> None:
    world = World()
    for name in terms or ():
        world.change(name, terms=(terms or CHECKED)[name])
    world.want("a", "b")
    world.run()
    for end, add in enumerate(world.asked):
        assert isinstance(add, Add)
        session = world.ports[add.port].vnf
        assert session is not None
        told = add.flags ^ LinkFlag.CHECKED if end == liar else add.flags
        world.links.added(
            add.port, session, add.link_id, ok=True, text="", now=world.now, flags=told
        )
    world.asked.clear()
    assert "Update" not in kinds(world.run())
    world.settle()
    assert world.regions == {}
    assert "does not heed what it was told; next try in 1 s" in world.status().reason
    assert kinds(world.run(1.1)) == ["Make", "Add", "Add"]


@pytest.mark.parametrize("a", [False, True])
@pytest.mark.parametrize("b", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_an_adopted_link_is_what_its_drivers_say(a: bool, b: bool, wanted: bool) -> None:
    world = World()
    if wanted:
        for name in "ab":
            world.change(name, terms=CHECKED[name])
    adopt(world, Phase.ACTIVE)
    world.want("a", "b")
    report(world, "a", flags=BOTH if a else FREE)
    report(world, "b", flags=BOTH if b else FREE)
    actions = world.run()
    keeps = not wanted or (a and b)
    assert ("Update" in kinds(actions)) is keeps
    assert ("Remove" in kinds(actions)) is not keeps
    world.settle()
    world.run(1.1)
    world.settle()
    assert checked(world.status()) is wanted


def adopt(world: World, phase: Phase, pair: tuple[str, str] = ("a", "b"), link_id: int = 7) -> None:
    world.links.adopt(link_id=link_id, pair=pair, port_ids=(1, 2), phase=phase, now=world.now)
    world.regions[link_id], world.phases[link_id] = pair, phase


def report(world: World, *names: str, link_id: int = 7, flags: LinkFlag = FREE) -> None:
    for name in names:
        session = world.ports[name].vnf
        assert session is not None
        assert world.links.added(
            name, session, link_id, ok=True, text="", now=world.now, flags=flags
        )
        world.heeds[link_id, name] = flags


@pytest.mark.parametrize("phase", [Phase.NEW, Phase.ACTIVE])
def test_a_link_that_both_ends_report_is_adopted(phase: Phase) -> None:
    world = World()
    adopt(world, phase)
    world.want("a", "b")
    assert world.run() == []
    report(world, "a")
    assert world.run() == []
    report(world, "b")
    assert kinds(world.run()) == ["SetPhase", "Update", "Update"]
    assert world.phases[7] is Phase.ACTIVE
    assert world.run(TIMING.adoption * 2) == []


def test_a_link_that_was_leaving_goes_on_leaving() -> None:
    world = World()
    adopt(world, Phase.LEAVING)
    report(world, "a", "b")
    assert kinds(world.run()) == ["Remove", "Remove"]
    world.answer()
    assert kinds(world.run()) == ["Unlink"]


@pytest.mark.parametrize("reporters", [[], ["a"], ["b"]])
def test_a_link_that_not_both_report_is_removed_after_the_grace(reporters: list[str]) -> None:
    world = World()
    adopt(world, Phase.ACTIVE)
    world.want("a", "b")
    report(world, *reporters)
    assert world.run(TIMING.adoption - 0.1) == []
    actions = world.run(0.2)
    removed = [action.port for action in actions if isinstance(action, Remove)]
    assert removed == reporters
    world.settle()
    assert 7 not in world.regions
    assert len(world.regions) == 1


def test_of_two_links_of_one_pair_only_the_first_is_adopted() -> None:
    world = World()
    adopt(world, Phase.ACTIVE)
    world.links.adopt(link_id=8, pair=("a", "b"), port_ids=(1, 2), phase=Phase.NEW, now=world.now)
    world.phases[8] = Phase.NEW
    report(world, "a", "b")
    report(world, "a", "b", link_id=8)
    world.want("a", "b")
    world.regions[8] = ("x", "y")
    world.settle()
    assert list(world.regions) == [7]


def test_an_adopted_link_stays_as_long_as_the_switch_is_away() -> None:
    world = World()
    for name in "ab":
        world.change(name, switch=False)
    adopt(world, Phase.ACTIVE)
    report(world, "a", "b")
    world.run()
    assert world.run(1000) == []


def test_a_report_of_an_unknown_link_is_told_apart() -> None:
    world = World(["a", "b", "c"])
    link_id = world.bring_up()
    assert not world.links.added("a", 1, 4711, ok=True, text="", now=world.now)
    assert not world.links.added("c", 3, link_id, ok=True, text="", now=world.now)
    world.links.removed("c", 3, link_id, ok=False, text="", now=world.now)
    assert world.run() == []
    assert world.phases[link_id] is Phase.ACTIVE


def test_a_vnf_that_reconnects_during_a_removal_is_told_again() -> None:
    world = World()
    link_id = world.bring_up()
    world.change("a", vnf=None)
    world.run()
    world.change("a", vnf=50)
    assert world.links.added("a", 50, link_id, ok=True, text="", now=world.now)
    assert [a.port for a in world.run() if isinstance(a, Remove)] == ["a"]


def test_an_answer_that_crosses_a_removal_is_not_asked_twice() -> None:
    world = World()
    world.want("a", "b")
    world.run()
    late = [action for action in world.asked if isinstance(action, Add)]
    world.change("a", started=False)
    world.run()
    for action in late:
        session = world.ports[action.port].vnf
        assert session is not None
        world.links.added(action.port, session, action.link_id, ok=True, text="", now=world.now)
    assert world.run() == []


NAMES = ["a", "b", "c", "d"]
name_st = st.sampled_from(NAMES)


class Story(RuleBasedStateMachine):
    """Ports, VNFs and rules come and go; drivers answer, refuse, or say nothing."""

    @initialize()
    def begin(self) -> None:
        self.world = World(NAMES)
        self.region_ids = itertools.count(100)

    @rule(name=name_st, peer=name_st, rules=st.integers(0, 2))
    def want(self, name: str, peer: str, rules: int) -> None:
        self.world.want(name, peer, rules)
        self.world.run()

    @rule(name=name_st)
    def vnf_dies(self, name: str) -> None:
        self.world.change(name, vnf=None, started=False)
        self.world.asked = [action for action in self.world.asked if action.port != name]
        self.world.run()

    @rule(name=name_st, started=st.booleans())
    def vnf_comes(self, name: str, started: bool) -> None:
        self.world.asked = [action for action in self.world.asked if action.port != name]
        self.world.change(name, vnf=next(self.world.sessions), started=started)
        self.world.run()

    @rule(name=name_st, started=st.booleans())
    def vnf_starts_or_stops(self, name: str, started: bool) -> None:
        if self.world.ports[name].vnf is not None:
            self.world.change(name, started=started)
            self.world.run()

    @rule(name=name_st)
    def port_is_made_anew(self, name: str) -> None:
        self.world.change(name, region_id=next(self.region_ids))
        self.world.run()

    @rule(name=name_st, there=st.booleans())
    def switch_comes_or_goes(self, name: str, there: bool) -> None:
        self.world.change(name, switch=there)
        self.world.run()

    @rule(ok=st.booleans())
    def drivers_answer(self, ok: bool) -> None:
        self.world.answer(ok=ok)
        self.world.run()

    @rule(seconds=st.sampled_from([0.02, 1.0, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(name=name_st, number=st.integers(998, 1020), ok=st.booleans(), added=st.booleans())
    def a_hostile_vnf_speaks(self, name: str, number: int, ok: bool, added: bool) -> None:
        session = self.world.ports[name].vnf
        if session is None:
            return
        links, now = self.world.links, self.world.now
        if added:
            links.added(name, session, number, ok=ok, text="", now=now)
        else:
            links.removed(name, session, number, ok=ok, text="", now=now)
        self.world.run()

    @rule(name=name_st, mode=st.sampled_from(Mode), trust=st.sampled_from(["", "lab"]))
    def policy_changes(self, name: str, mode: Mode, trust: str) -> None:
        self.world.change(name, terms=Terms(port=name, mode=mode, trust=trust))
        self.world.run()

    @rule(peers=st.dictionaries(name_st, name_st, max_size=3))
    def the_detector_finds(self, peers: dict[str, str]) -> None:
        self.world.proofs = Proofs(peers=peers)
        self.world.run()

    @rule(name=name_st, directed=st.booleans())
    def a_driver_is_replaced(self, name: str, directed: bool) -> None:
        self.world.asked = [action for action in self.world.asked if action.port != name]
        session = next(self.world.sessions)
        self.world.change(name, vnf=session, started=True, directed=directed)
        self.world.run()

    @rule(name=name_st)
    def the_database_forgets(self, name: str) -> None:
        self.world.change(name, terms=None)
        self.world.run()

    @rule(lack=st.booleans())
    def memory_runs_out_or_comes_back(self, lack: bool) -> None:
        self.world.no_memory = lack

    @invariant()
    def at_most_one_link_per_pair(self) -> None:
        if hasattr(self, "world"):
            assert max(Counter(self.world.regions.values()).values(), default=0) <= 1
            assert self.world.links.link_ids() == set(self.world.regions)

    @invariant()
    def no_active_link_without_both_vnfs(self) -> None:
        if not hasattr(self, "world"):
            return
        for link_id, pair in self.world.regions.items():
            if self.world.phases[link_id] is Phase.ACTIVE:
                assert all(self.world.ports[name].started for name in pair)

    @invariant()
    def no_active_link_that_policy_does_not_want(self) -> None:
        if not hasattr(self, "world"):
            return
        for status in self.world.links.describe(self.world.now):
            one, other = (self.world.ports[name] for name in status.pair)
            found = verdicts(one, other, self.world.proofs)
            if status.phase == "active" and found is not None:
                for flags, target in zip(status.flags, flags_for(found), strict=True):
                    assert target & ~flags == 0
                assert any(verdict.allowed for verdict in found)

    @invariant()
    def nobody_sends_more_than_is_let_in(self) -> None:
        if not hasattr(self, "world"):
            return
        for link_id, pair in self.world.regions.items():
            heeds = [self.world.heeds.get((link_id, name)) for name in pair]
            for flags, peer in ((heeds[0], heeds[1]), (heeds[1], heeds[0])):
                if flags is not None and peer is not None and LinkFlag.CHECKED in peer:
                    assert LinkFlag.PEER_CHECKS in flags
                if flags is not None and peer is not None and LinkFlag.NO_RECEIVE in peer:
                    assert LinkFlag.NO_SEND in flags

    def teardown(self) -> None:
        """With all VNFs there and willing, exactly the wanted and allowed links come to be."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.no_memory = False
        for name in NAMES:
            if world.ports[name].vnf is None:
                world.change(name, vnf=next(world.sessions))
            terms = world.ports[name].terms or Terms(port=name)
            world.change(name, started=True, switch=True, terms=terms)
        for _ in range(4):
            world.run(100)
            world.settle()
        by_id = {port.region_id: port.name for port in world.ports.values()}
        wanted = {
            (port.name, by_id[peer])
            for port in world.ports.values()
            for peer in port.wants
            if peer in by_id
        }
        wanted |= set(world.proofs.peers.items())
        allowed = set()
        for sender, receiver in wanted:
            found = verdicts(world.ports[sender], world.ports[receiver], world.proofs)
            if sender != receiver and found is not None and found[0].allowed:
                allowed.add((min(sender, receiver), max(sender, receiver)))
        assert set(world.regions.values()) == allowed
        assert all(world.phases[link_id] is Phase.ACTIVE for link_id in world.regions)


Story.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStory = Story.TestCase


def made_with(world: World) -> tuple[int, int]:
    (make,) = [action for action in world.run() if isinstance(action, Make)]
    return make.buffers


def test_buffers_are_for_what_a_receiver_takes_without_a_copy() -> None:
    world = World()
    world.change("b", buffer=1664)
    world.want("a", "b")
    assert made_with(world) == (1664, 0)


def test_there_are_no_buffers_for_another_party() -> None:
    world = World()
    world.change("b", buffer=1664, terms=Terms(port="b", trust="theirs"))
    world.proofs = Proofs(peers={"a": "b"})
    assert made_with(world) == (0, 0)


def test_there_are_no_buffers_for_what_is_checked() -> None:
    world = World()
    for name in ("a", "b"):
        world.change(name, buffer=1664, terms=Terms(port=name, mode=Mode.CHECKED))
    world.want("a", "b")
    assert made_with(world) == (0, 0)


def test_a_link_with_a_fault_goes_and_is_tried_again_later() -> None:
    world = World()
    world.want("a", "b")
    world.run()
    world.answer()
    world.run()
    (link_id,) = world.regions
    world.links.fault(link_id, "a counts 3, b 5", world.now)
    world.run()
    world.answer()
    world.run()
    assert not world.regions
    assert "a counts 3, b 5" in world.status().reason
    world.run(TIMING.backoff)
    assert world.regions
    world.links.fault(link_id, "of a link that is gone", world.now)
