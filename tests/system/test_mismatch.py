# SPDX-License-Identifier: Apache-2.0
"""The counts of a link's two ends are compared: what a VNF counts becomes OVS's statistics."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from tests.system.crossing import Crossing
from tests.system.hostile import Scribbler
from tests.system.scene import eventually

from ovs_highway import shm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.system.scene import Scene

TOO_MANY = 50_000
"""More than rings hold; bytes are not what gives it away."""
HEARD = shm.ffi.offsetof("struct highway_port_region", "heard")
HEARD_LEN = shm.ffi.sizeof("struct highway_heard")
PATIENCE = 20.0
STILL = 2.0
SAID = r"p1 counts \d+ packets .* sent to p2, which.*"


def region_of(scene: Scene, number: int) -> Path:
    (path,) = [file for file in scene.region_files("port-") if file.name.endswith(f"-p{number}")]
    return path


def counters(region: Scribbler) -> Iterator[int]:
    """Yield where the packets of each rule are counted, of the only queue."""
    start = region.port_field("counters_offset")
    for slot in range(region.port_field("n_rules", "I")):
        yield start + slot * shm.COUNTER_LEN


def closed(scene: Scene, lie: Callable[[], None]) -> str:
    """Repeat a lie until highwayd closes the link of p1 and p2; return what it says."""
    known = len(re.findall(SAID, scene.log("highwayd")))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lie()
        found = re.findall(SAID, scene.log("highwayd"))
        if len(found) > known:
            return str(found[-1])
    raise AssertionError("the lie was not found out")


def test_a_sender_that_counts_too_much_is_found_out(scene: Scene) -> None:
    """Steps: over a bypass from p1 to p2, add to what p1 counts for its rule.

    Verify: highwayd names both ends and closes the link, OVS counts it, and what p1 sends arrives
    all the same.
    """
    scene.ports(2)
    first, second = scene.vnf(1), scene.vnf(2)
    scene.add_flow("in_port=1,actions=output:2")
    scene.bypass_on(first)
    (link,) = scene.links()
    with Scribbler(region_of(scene, 1)) as region:
        (used,) = [offset for offset in counters(region) if region.read(offset)]

        def lie() -> None:
            region.write(used, region.read(used) + TOO_MANY)
            region.write(used + 8, region.read(used + 8) + 64 * TOO_MANY)
            time.sleep(1)

        said = closed(scene, lie)
    packets, received = map(int, re.findall(r"counts (\d+)", said))
    assert packets > received + TOO_MANY // 2
    eventually(lambda: link.region_id not in {one.region_id for one in scene.links()}, "it closes")
    eventually(
        lambda: "count_mismatch_errors=1" in scene.sandbox.vsctl("list", "Interface", "p2"),
        "OVS counts it",
    )
    before = second.received_all()
    sent = first.send(10)
    eventually(lambda: second.received() == before + sent, "what p1 sends arrives")


def test_a_receiver_that_counts_too_little_is_found_out(scene: Scene) -> None:
    """Steps: over a bypass, take away from what p2 says it has received, again and again.

    Verify: highwayd names both ends and closes the link.
    """
    scene.ports(2)
    first, _ = scene.vnf(1), scene.vnf(2)
    scene.add_flow("in_port=1,actions=output:2")
    scene.bypass_on(first)
    with Scribbler(region_of(scene, 2)) as region:

        def lie() -> None:
            for _ in range(10_000):
                region.write(HEARD + 16, 0)
            first.send(TOO_MANY // 32 // 10)

        assert closed(scene, lie)


@contextlib.contextmanager
def believed(scene: Scene) -> Iterator[None]:
    """Verify that nobody is taken for a liar meanwhile; other tests share the logs."""

    def liars() -> int:
        return scene.log().count("counts wrongly") + scene.log("highwayd").count(" received (")

    before = liars()
    yield
    assert liars() == before


def test_honest_ends_are_believed_while_channels_change(scene: Scene) -> None:
    """Steps: send frames of many sizes as fast as it goes, while channels change.

    Verify: nobody reports that the counts differ.
    """
    scene.ports(2)
    with believed(scene), Crossing(scene, sizes="60-1514") as crossing:
        crossing.start()
        crossing.change(60)


def test_honest_ends_are_believed_when_they_or_ovs_stand_still(scene: Scene) -> None:
    """Steps: flood p2; have it poll nothing for a second; hold up its program, then the sender's;
    start OVS anew.

    Verify: nobody reports that the counts differ.
    """
    scene.ports(2)
    for number in (1, 2):
        scene.highway("on", f"p{number}")
    first, second = scene.vnf(1), scene.vnf(2)
    flow = "in_port=1,actions=output:2"
    scene.add_flow(flow)
    scene.bypass_on(first)
    with believed(scene):
        first.flood()
        second.command("stop")
        time.sleep(1)
        second.start()
        for vnf in (second, first):
            time.sleep(1)
            os.kill(vnf.pid, signal.SIGSTOP)
            time.sleep(STILL)
            os.kill(vnf.pid, signal.SIGCONT)
        scene.sandbox.restart_vswitchd()
        scene.add_flow(flow)
        bypassed = first.bypassed()
        eventually(lambda: first.bypassed() > bypassed + TOO_MANY, "the bypass is in use again")
        time.sleep(1)
        first.quiet()
