# SPDX-License-Identifier: Apache-2.0
"""Whoever dies at whatever stage of a link's life: docs/reliability.md, cell by cell.

`make test` runs a spread of the cells, `make test-long` all of them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.system.faults.stages import STAGES, Stage
from tests.system.faults.victims import VICTIMS, WAYS, Victim
from tests.system.faults.world import Held, World
from tests.system.scene import Scene, becomes, eventually

from ovs_highway.lab import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

SPREAD: Final = {
    ("sender", "kill", "switching"),
    ("sender", "stop", "draining"),
    ("sender", "exit", "one"),
    ("receiver", "kill", "draining"),
    ("receiver", "stop", "active"),
    ("receiver", "exit", "both"),
    ("highwayd", "kill", "made"),
    ("highwayd", "kill", "withdrawn"),
    ("highwayd", "stop", "switching"),
    ("highwayd", "exit", "one"),
    ("ovs-vswitchd", "kill", "switching"),
    ("ovs-vswitchd", "stop", "asked"),
    ("ovs-vswitchd", "exit", "active"),
    ("ovsdb-server", "kill", "active"),
    ("ovsdb-server", "exit", "asked"),
}
STOP_FILE: Final = Path(f"/run/hw-stop-{os.getpid()}")


def cells() -> list[object]:
    """Return all combinations; those that are not in the spread are long tests."""
    return [
        pytest.param(*cell, marks=() if cell in SPREAD else pytest.mark.long, id="-".join(cell))
        for cell in ((v, w, s) for v in VICTIMS for w in WAYS for s in STAGES)
    ]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A switch whose highwayd stops where it is told to, and whose bypasses survive it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGHWAY_STOP_FILE", str(STOP_FILE))
        with Sandbox() as switch:
            switch.vsctl("set", "Open_vSwitch", ".", "external_ids:highway-fail-mode=standalone")
            yield switch
    STOP_FILE.unlink(missing_ok=True)


@pytest.fixture
def world(scene: Scene) -> Iterator[World]:
    """Four ports, a pair concerned and a pair of bystanders."""
    with World(scene) as world:
        yield world


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("victim", "way", "stage"), cells())
def test_it_may_happen(world: World, victim: str, way: str, stage: str) -> None:
    """Somebody is killed, held up or ended; everything comes back, and nobody else notices.

    Steps: bring the link p1-p2 to a stage; do it; start again what does not run.
    Verify: bystanders lose, double and reorder nothing (without ovs-vswitchd: nothing that took
    the bypass); survivors live; p1 uses the bypass again, loses nothing and is counted once;
    counters never went back; no region, descriptor or mapping is left over; without the flow
    nothing goes past the switch.
    """
    sandbox = world.scene.sandbox
    point, one = Stage(world, stage, STOP_FILE), Victim(world, victim)
    survivors = [name for name in VICTIMS if name != victim]
    pids = {name: Victim(world, name).pid for name in VICTIMS}
    point.reach()
    before = world.counts() if victim != "ovsdb-server" else None
    normal = _normal(world)

    one.suffer(way)
    time.sleep(0.3)
    point.release()
    if victim == "ovs-vswitchd" and way != "stop":
        _bypass_goes_on(world)
    verdict = world.bystanders_verdict()
    faults = dict(verdict.faults)
    if victim == "ovs-vswitchd" and way != "stop":
        lost = faults.pop("lost", 0)
        assert lost <= _normal(world) - normal, f"bypassed packets are lost: {verdict}"
    assert faults == {}, f"bystanders: {verdict}"

    one.come_back()
    point.want_again()
    if victim == "ovs-vswitchd" and way != "stop":
        for port in (0, 1):
            world.bystanders.resume(port)
    world.works()
    for name in survivors:
        assert Victim(world, name).pid == pids[name], f"{name} is another process"
        assert os.path.exists(f"/proc/{pids[name]}"), f"{name} has died"
    if before is not None and victim != "ovs-vswitchd":
        flow, one_port, other_port = world.counts()
        assert flow.packets >= before[0].packets
        assert one_port.rx.packets >= before[1].rx.packets
        assert other_port.tx.packets >= before[2].tx.packets
    world.no_link_is_left()
    _nothing_leaks(world, sandbox)


def _normal(world: World) -> int:
    """Return what bystanders have sent through the switch, or dropped for the lack of one."""
    names = "tx_normal_packets", "tx_no_switch_packets"
    return sum(world.bystanders.xstats(port)[name] for port in (0, 1) for name in names)


def _bypass_goes_on(world: World) -> None:
    """Without a switch, what took the bypass goes on."""
    before = [world.bystanders.stats().ports[port].packets for port in (0, 1)]
    eventually(
        lambda: all(
            world.bystanders.stats().ports[port].packets > before[port] + 1000 for port in (0, 1)
        ),
        "the bypass goes on without a switch",
    )


_BASELINE: Final[dict[tuple[int, str], Held]] = {}


def _nothing_leaks(world: World, sandbox: Sandbox) -> None:
    """A daemon holds as much as after the first test of its life with the same ports and links."""
    for name in ("highwayd", "ovs-vswitchd"):
        pid = sandbox.daemon(name).pid
        first = _BASELINE.setdefault((pid, name), Held.by(pid))
        if first is not None:
            becomes(lambda pid=pid: Held.by(pid), first, f"what {name} holds")  # type: ignore[misc]
