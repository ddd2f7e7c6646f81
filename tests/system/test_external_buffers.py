# SPDX-License-Identifier: Apache-2.0
"""Receiving without a copy (`external-buffers=1`): frames are read in a link's memory."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.system.crossing import Crossing
from tests.system.scene import eventually

from ovs_highway.bench.switchover import await_switch
from ovs_highway.lab import Traffic
from ovs_highway.lab.traffic import judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene

DEVARGS: Final = "idle=yield,external-buffers=1"
TIMES: Final = 20
HELD: Final = 1500
LARGE: Final = "1000-1514"
RATE: Final = 20_000


def mapped_links(pid: int) -> int:
    """Return how many link regions a program has mapped, those without a file too."""
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    return sum("-link-" in line for line in maps.splitlines())


def external(traffic: Traffic, port: int) -> int:
    """Return how many frames a port has handed over without a copy."""
    return traffic.xstats(port)["rx_bypass_external_packets"]


def test_frames_stay_as_they_were_while_they_are_held(scene: Scene) -> None:
    """Channels change, and the receiver keeps most of what a ring has slots for.

    Steps: send frames of 60 to 1,514 bytes; keep the last 1,500; change channels.
    Verify: nothing is lost, doubled, reordered or changed, also when it is freed; large frames were
    not copied, small ones were.
    """
    scene.ports(2)
    with Crossing(scene, devargs=DEVARGS, sizes="60-1514,60-200") as crossing:
        crossing.traffic.hold(HELD)
        crossing.start()
        crossing.change(TIMES)
        crossing.traffic.hold(0)
        crossing.check()
        got = crossing.traffic.xstats(1)
        assert 0 < got["rx_bypass_external_packets"] < got["rx_bypass_packets"]


@contextlib.contextmanager
def two_vnfs(scene: Scene) -> Iterator[tuple[Traffic, Traffic]]:
    """A sender at p1 and a receiver at p2, in programs of their own, over a link."""
    scene.ports(2)
    scene.add_flow("in_port=1,actions=output:2")
    env = scene.sandbox.env
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(
                Traffic(f"t{n}", [f"p{n}"], devargs=DEVARGS, env=env, app_args=(f"--source={n}",))
            )
            for n in (1, 2)
        ]
        for program in programs:
            program.define("udp=1000")
            program.wait_link_up()
        await_switch(scene.sandbox, "p1", "p2")
        yield programs[0], programs[1]


def test_what_is_held_outlives_the_link(scene: Scene) -> None:
    """The memory stays while somebody reads it, and is given back after that.

    Steps: send large frames over a bypass; let the receiver keep 1,500; end the sender.
    Verify: the link has gone, its memory is still mapped and its frames are as they were; when the
    receiver lets go of them, the memory is unmapped.
    """
    with two_vnfs(scene) as (sender, receiver):
        receiver.hold(HELD)
        sender.send(0, classes=[0], sizes=LARGE, rate=RATE)
        eventually(lambda: external(receiver, 0) > 3 * HELD, "frames come without a copy")
        sender.kill()
        eventually(lambda: not scene.links(), "highwayd has removed the link")
        eventually(lambda: receiver.xstats(0)["links"] == 0, "the receiver has let go of the link")
        assert mapped_links(receiver.pid) == 1
        receiver.hold(0)
        eventually(lambda: mapped_links(receiver.pid) == 0, "the memory is given back")
        port = receiver.stats().ports[0]
        assert (port.corrupt, port.bad_mbuf, port.foreign) == (0, 0, 0)


def test_a_port_can_be_closed_while_its_frames_are_held(scene: Scene) -> None:
    """Steps: keep frames; delete the receiver's port in the switch, then let go of them.

    Verify: the frames are as they were, the memory is given back, and the port works again.
    """
    with two_vnfs(scene) as (sender, receiver):
        receiver.hold(HELD)
        sender.send(0, classes=[0], sizes=LARGE, rate=RATE)
        eventually(lambda: external(receiver, 0) > HELD, "frames come without a copy")
        sender.stop(0)
        scene.sandbox.vsctl("del-port", "br0", "p2")
        eventually(lambda: receiver.xstats(0)["links"] == 0, "the receiver has let go of the link")
        assert mapped_links(receiver.pid) == 1
        scene.ports(1, first=2)
        receiver.wait_link_up()
        await_switch(scene.sandbox, "p2")
        before = external(receiver, 0)
        sender.resume(0)
        eventually(lambda: external(receiver, 0) > before + 3 * HELD, "frames come again")
        eventually(lambda: mapped_links(receiver.pid) == 1, "the first link's memory is given back")
        port = receiver.stats().ports[0]
        assert (port.corrupt, port.bad_mbuf, port.foreign) == (0, 0, 0)


def test_frames_that_testpmd_forwards_come_back_to_their_sender(scene: Scene) -> None:
    """An unmodified testpmd has its mbufs freed in bulk, without a look at their buffers.

    Steps: send large frames from p1 to p2, let a testpmd forward them from p2 to p3, and so to p4.
    Verify: nothing is lost, doubled, reordered or changed in ten times as many frames as there are
    buffers; almost all of them were received without a copy.
    """
    scene.ports(4)
    scene.add_flow("in_port=1,actions=output:2")
    scene.add_flow("in_port=3,actions=output:4")
    middle = scene.vnf(2, 3, devargs=",external-buffers=1")
    middle.command("stop")
    middle.set_fwd("io")
    middle.start()
    with Traffic("t", ["p1", "p4"], devargs=DEVARGS, env=scene.sandbox.env) as traffic:
        traffic.define("udp=1000")
        traffic.wait_link_up()
        await_switch(scene.sandbox, "p1", "p2", "p3", "p4")
        traffic.send(0, classes=[0], sizes=LARGE, window=256)
        eventually(lambda: external(traffic, 1) > 20_000, "frames come without a copy")
        traffic.stop(0)
        eventually(lambda: judge([traffic.stats()]).lost == 0, "all of them arrive")
        assert judge([traffic.stats()]).faults == {}
        for got in (traffic.xstats(1), middle.xstats(0)):
            assert got["rx_bypass_external_packets"] > 0.9 * got["rx_bypass_packets"]
