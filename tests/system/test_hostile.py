# SPDX-License-Identifier: Apache-2.0
"""A hostile VNF scribbles over everything that it has mapped, while others pass traffic."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest
from tests.system.scene import BRIDGE, eventually
from tests.system.test_checked import checked

from ovs_highway.bench.switchover import await_switch, settled
from ovs_highway.lab import Process, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.scene import Scene

    from ovs_highway.lab import Sandbox

ROOT: Final = Path(__file__).resolve().parents[2]
CIRCLE: Final = {2: 3, 3: 4, 4: 2}
"""Who sends to whom; p2 also hears from the hostile port, and p5 talks to it."""
DECENT: Final = 9
"""Who is at p1 in the end."""
SHORT: Final = 8
LONG: Final = 180
RENEWED: Final = 2.0
"""Seconds after which the hostile port is deleted and added again."""
NAMED: Final = r"WARN\|port p[25]: VNF .* closed link [0-9a-f]{16}: "


class Innocents:
    """VNFs at p2 to p5, in one program: three send to each other in a circle, one to p1."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.daemons = {
            name: scene.sandbox.daemon(name).pid for name in ("ovs-vswitchd", "highwayd")
        }
        self.program = Traffic(
            "innocents",
            ["p2", "p3", "p4", "p5"],
            devargs="idle=yield,external-buffers=1",
            env=scene.sandbox.env,
            app_args=("--source=2",),
        )

    def __enter__(self) -> Self:
        scene = self.scene
        for source, target in (CIRCLE | {1: 2, 5: 1}).items():
            scene.add_flow(f"cookie={source},in_port={source},actions={target}")
        self.program.__enter__()
        self.program.define("udp=1000")
        self.program.wait_link_up()
        await_switch(scene.sandbox, "p2", "p3", "p4", "p5")
        for port in range(3):
            self.program.send(port, classes=[0], sizes="60-1514", window=256)
        self.program.send(3, classes=[0], sizes="60-1514", rate=20_000)
        for port in range(3):
            eventually(
                lambda port=port: self.program.xstats(port)["tx_bypass_packets"] > 0,  # type: ignore[misc]
                f"p{port + 2} uses the bypass",
            )
        return self

    def __exit__(self, *error: object) -> None:
        self.program.close()

    def go_on(self) -> None:
        """Verify that all live, and that packets come round."""
        for name, pid in self.daemons.items():
            assert self.scene.sandbox.daemon(name).alive, name
            assert self.scene.sandbox.daemon(name).pid == pid, name
        before = [self.received(*way) for way in CIRCLE.items()]

        def further() -> bool:
            return all(
                self.received(*way) > old + 100
                for way, old in zip(CIRCLE.items(), before, strict=True)
            )

        eventually(further, "packets come round")

    def closed(self) -> int:
        """Return the links that p1's peers have given up, which are all there is to give up."""
        found = [self.program.xstats(port)["links_closed_errors"] for port in range(4)]
        assert found[1:3] == [0, 0], "links that have nothing to do with p1"
        return sum(found)

    def received(self, source: int, target: int) -> int:
        """Return how many packets of `p<source>` port `p<target>` has got."""
        stream = self.program.stats().ports[target - 2].streams.get((source, 0, 0))
        return stream.received if stream else 0

    def check(self) -> None:
        """Verify that each has got what was sent to it, as it was, and nothing of anybody else."""
        (stats,) = settled(self.program)
        ports = {number + 2: port for number, port in enumerate(stats.ports)}
        said = " | ".join(stats.notes[:12])
        for source, target in CIRCLE.items():
            sent, got = sum(ports[source].sent.values()), ports[target]
            others = {stream[0] for stream in got.streams} - {source}
            assert others <= ({DECENT} if target == 2 else set()), f"p{target} got others'"
            stream = got.streams[source, 0, 0]
            assert (stream.doubled, stream.reordered) == (0, 0), said
            assert stream.received == sent, f"p{target} got {stream.received} of {sent}: {said}"
        for number, port in ports.items():
            assert (port.corrupt, port.bad_mbuf) == (0, 0), f"p{number}: {said}"
        assert (ports[3].foreign, ports[4].foreign) == (0, 0), said
        assert ports[5].streams == {}


@pytest.fixture(autouse=True)
def _mode(sandbox: Sandbox) -> Iterator[None]:
    """Leave the next test the default mode."""
    yield
    sandbox.vsctl("remove", "Open_vSwitch", ".", "external_ids", "highway-mode")


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [
        ("checked", SHORT),
        pytest.param("trusted", SHORT, marks=[pytest.mark.long]),
        pytest.param("trusted", LONG, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
        pytest.param("checked", LONG, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
def test_a_rampage_hurts_nobody_else(scene: Scene, mode: str, seconds: int) -> None:
    """All that a VNF has mapped is written to: each word, at random, and while others read it.

    Steps: a hostile VNF at p1 (tests/system/rampage.py) lives many short lives, with links to p2
    and p5; p2, p3 and p4 send to each other over links, p5 to p1; look at everything with
    `highway`; delete p1 and add it again now and then, at once or when its region is gone; put a
    decent VNF there at last.
    Verify: ovs-vswitchd, highwayd and the VNFs live; in the circle nothing is lost, doubled,
    reordered or changed, and nobody gets what was sent to somebody else; p2 and p5 close links to
    p1 and nobody closes others; the logs of OVS and highwayd name p1 and its peers; the decent VNF
    has its bypass and its packets arrive.
    """
    scene.ports(5)
    if mode == "checked":
        checked(scene, 5)
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    starts = {name: len(scene.log(name)) for name in ("ovs-vswitchd", "highwayd")}
    with Innocents(scene) as innocents, rampage(scene, seed) as hostile:
        until, anew = time.monotonic() + seconds, itertools.cycle((True, False))
        while time.monotonic() < until:
            for command in ("show", "links"):
                scene.highway_json(command)
            time.sleep(RENEWED)
            assert hostile.alive
            innocents.go_on()
            renew_p1(scene, mode, anew=next(anew))
        hostile.kill()
        closed = innocents.closed()
        assert closed > 0
        said = {name: scene.log(name)[start:] for name, start in starts.items()}
        assert re.search(NAMED, said["highwayd"])
        assert not re.search(NAMED + "highwayd takes it back", said["highwayd"])
        assert "port p1: the VNF wrote something impossible into its ring" in said["ovs-vswitchd"]
        assert "Traceback" not in said["highwayd"]
        renew_p1(scene, mode, anew=True)
        send_decently(scene, innocents)
        innocents.check()


def renew_p1(scene: Scene, mode: str, *, anew: bool) -> None:
    """Delete the hostile port and add it again, with a region of its own or what is left of it."""
    scene.sandbox.del_port(BRIDGE, "p1")
    if anew:
        eventually(lambda: not scene.region_files("port-p1"), "the region is gone")
    scene.ports(1)
    if mode == "checked":
        scene.sandbox.vsctl("remove", "Interface", "p1", "external_ids", "highway-trust")


@contextlib.contextmanager
def rampage(scene: Scene, seed: int) -> Iterator[Process]:
    """Have a hostile VNF at p1."""
    process = Process(
        "rampage",
        [sys.executable, "-m", "tests.system.rampage", "p1", str(seed)],
        log=scene.sandbox.rundir / "rampage.log",
        env=scene.sandbox.env,
        cwd=ROOT,
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()


def send_decently(scene: Scene, innocents: Innocents) -> None:
    """Put a VNF with a driver at p1, and see that all it sends arrives at p2, over a bypass."""
    with Traffic(
        "decent", ["p1"], env=scene.sandbox.env, app_args=(f"--source={DECENT}",)
    ) as program:
        program.define("udp=1000")
        program.wait_link_up()
        await_switch(scene.sandbox, "p1")
        program.send(0, classes=[0], sizes="60-1514", rate=10_000)
        eventually(lambda: program.xstats()["tx_bypass_packets"] > 1000, "p1 uses the bypass")
        program.stop()
        (sent,) = program.stats().ports[0].sent.values()
        eventually(lambda: innocents.received(DECENT, 2) == sent, "all of it arrives at p2")
