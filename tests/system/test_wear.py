# SPDX-License-Identifier: Apache-2.0
"""What is made and removed many times leaves nothing behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.faults.world import Held, World
from tests.system.scene import BRIDGE, becomes, eventually

from ovs_highway.lab import judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene

    from ovs_highway.lab import Sandbox

MIB: Final = 1 << 20
FREE: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
WARM_UP: Final = 10
STEP: Final = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the daemons use: `rss` in bytes by daemon, free huge pages, and what they hold."""

    rss: dict[str, int]
    huge_free: int
    held: tuple[Held, Held]

    @classmethod
    def now(cls, sandbox: Sandbox) -> Usage:
        """Look."""
        pids = {name: sandbox.daemon(name).pid for name in ("highwayd", "ovs-vswitchd")}
        return cls(
            rss={name: _rss(pid) for name, pid in pids.items()},
            huge_free=int(FREE.read_text()),
            held=(Held.by(pids["highwayd"]), Held.by(pids["ovs-vswitchd"])),
        )


def at_rest(sandbox: Sandbox) -> Usage:
    """Look once what the daemons hold has not changed for a second."""
    seen = [Usage.now(sandbox)]

    def quiet() -> bool:
        seen.append(Usage.now(sandbox))
        return len(seen) > 20 and len({str(usage.held) for usage in seen[-20:]}) == 1

    eventually(quiet, "what the daemons hold changes all the time")
    return seen[-1]


def _rss(pid: int) -> int:
    """Return the resident memory of a process that is not huge pages, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


@pytest.fixture
def world(scene: Scene) -> Iterator[World]:
    """Four ports with traffic between p1 and p2, and between p3 and p4."""
    with World(scene) as world:
        world.want_link()
        world.use_bypass()
        yield world


def flat(sandbox: Sandbox, before: Usage) -> None:
    """Nothing has grown: descriptors, mappings, huge pages; memory by a step of an allocator."""
    becomes(lambda: Usage.now(sandbox).held, before.held, "what the daemons hold")
    eventually(
        lambda: Usage.now(sandbox).huge_free >= before.huge_free,
        f"huge pages are free again: {before}, {Usage.now(sandbox)}",
    )
    after = Usage.now(sandbox)
    for name, size in before.rss.items():
        assert after.rss[name] - size < STEP, (before, after)


@pytest.mark.parametrize(
    "cycles", [10, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_ports_come_and_go(world: World, cycles: int) -> None:
    """A port is deleted and added again, with its VNF and under traffic.

    Steps: some cycles to warm up; then `cycles` of them: p2 is deleted, and added again; its VNF
    attaches and p1 uses the bypass. By turns the port is back at once, with its region, and after
    its region is gone, with another one.
    Verify: bystanders lose nothing; memory, descriptors and huge pages are flat.
    """
    sandbox = world.scene.sandbox

    def cycle(number: int) -> None:
        sandbox.del_port(BRIDGE, "p2")
        if number % 2:
            eventually(lambda: not world.scene.region_files("port-p2"), "p2's region is gone")
        sandbox.add_port(BRIDGE, "p2", 2)
        world.receiver.wait_link_up()
        world.use_bypass()

    for number in range(WARM_UP):
        cycle(number)
    before = at_rest(sandbox)
    for number in range(cycles):
        cycle(number)
    world.works()
    assert world.bystanders_verdict().faults == {}
    flat(sandbox, before)


@pytest.mark.parametrize(
    "cycles", [30, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_links_come_and_go(world: World, cycles: int) -> None:
    """A link is forbidden and allowed again, under traffic.

    Steps: some cycles to warm up; then `cycles` of them: p1 gets another trust label until the
    link is removed, and its own again until there is another link.
    Verify: all that p1 sends arrives; bystanders lose nothing; memory, descriptors and huge pages
    are flat.
    """
    sandbox, scene = world.scene.sandbox, world.scene
    # What is proven to be point-to-point needs no label.
    sandbox.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-detector=off")

    def cycle() -> None:
        before = {path.name for path in scene.region_files("link-")}
        for label, count in (("nobody", 1), ("sandbox", 2)):
            sandbox.vsctl("set", "Interface", "p1", f"external_ids:highway-trust={label}")
            becomes(lambda: len(scene.region_files("link-")), count, "links")
        assert {path.name for path in scene.region_files("link-")} != before

    for _ in range(WARM_UP):
        cycle()
    before = at_rest(sandbox)
    for _ in range(cycles):
        cycle()
    world.works()
    found = judge([world.sender.stats(), world.receiver.stats()])
    assert found.faults == {}, found
    assert world.bystanders_verdict().faults == {}
    flat(sandbox, before)
