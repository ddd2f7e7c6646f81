# SPDX-License-Identifier: Apache-2.0
"""Four ports: a pair whose link somebody dies for, and a pair that must not notice.

`p1` sends to `p2`, each a program of its own; `p3` and `p4` are one program that sends both ways
and checks every packet.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.system.scene import BRIDGE, Count, becomes, eventually

from ovs_highway.lab import Traffic, judge
from ovs_highway.lab.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.scene import PortCount, Scene

    from ovs_highway.lab import Verdict
    from ovs_highway.lab.process import Process

CLASS: Final = "udp=1000"
RATE: Final = 20_000
"""Packets per second of each sender: no ring is full while everybody is there."""
COOKIE: Final = 1
FLOWS: Final = (
    f"cookie={COOKIE},in_port=1,actions=2",
    "cookie=3,in_port=3,actions=4",
    "cookie=4,in_port=4,actions=3",
)
LINKS: Final = 2
PORTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a process holds of ours: open sockets and region files, and mappings of these.

    Not DPDK's memory, of which its allocator takes what it needs, and not the pipes by which
    OVS's threads, which come and go, wake each other.
    """

    sockets: int
    regions: int
    mappings: int

    @classmethod
    def by(cls, pid: int) -> Held:
        """Look at a process."""
        open_files = [_target(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
        maps = Path(f"/proc/{pid}/maps").read_text()
        return cls(
            sockets=sum(target.startswith("socket:") for target in open_files),
            regions=sum("ovs-highway-" in target for target in open_files),
            mappings=sum("ovs-highway-" in line for line in maps.splitlines()),
        )


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:  # closed meanwhile
        return ""


class World:
    """The ports of a scene with their programs; the bystanders send all the time."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        env = scene.sandbox.env
        options = {"devargs": "idle=sleep", "env": env}
        self.sender = Traffic("sender", ["p1"], **options)  # type: ignore[arg-type]
        self.receiver = Traffic("receiver", ["p2"], **options)  # type: ignore[arg-type]
        self.bystanders = Traffic("bystanders", ["p3", "p4"], **options)  # type: ignore[arg-type]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.scene.ports(PORTS)
            for program in (self.receiver, self.sender, self.bystanders):
                stack.enter_context(program)
                program.define(CLASS)
                program.wait_link_up()
            self._stack = stack.pop_all()
        self.add_flows(*FLOWS[1:])
        for port in (0, 1):
            self.bystanders.send(port, classes=[0], rate=RATE, window=512)
        for port in (0, 1):
            eventually(lambda port=port: self._on_bypass(port), "bystanders use the bypass")  # type: ignore[misc]
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add_flows(self, *flows: str) -> None:
        """Add flows."""
        for flow in flows:
            self.scene.add_flow(flow)

    def _on_bypass(self, port: int) -> bool:
        before = self.bystanders.xstats(port)
        wait_until(lambda: False, 0.05)
        now = self.bystanders.xstats(port)
        grown = {key: now[key] - before[key] for key in ("tx_bypass_packets", "tx_normal_packets")}
        return grown["tx_bypass_packets"] > 100 and grown["tx_normal_packets"] == 0

    # the pair concerned ------------------------------------------------------------------------

    def want_link(self) -> None:
        """Let p1 send to p2, and begin to send."""
        self.add_flows(FLOWS[0])
        self.sender.send(0, classes=[0], rate=RATE)

    def bypassed(self) -> int:
        """Return what p1 has sent past the switch."""
        return self.sender.xstats(0)["tx_bypass_packets"]

    def use_bypass(self) -> None:
        """Wait until p1 uses the bypass, and nothing else."""

        def only() -> bool:
            before = self.sender.xstats(0)
            wait_until(lambda: False, 0.05)
            now = self.sender.xstats(0)
            return (
                now["tx_bypass_packets"] - before["tx_bypass_packets"] > 100
                and now["tx_normal_packets"] == before["tx_normal_packets"]
            )

        eventually(only, f"p1 uses the bypass; {self.scene.link(1, 2)}", patience=45)

    def stop_sending(self) -> None:
        """Have p1 send nothing more."""
        self.sender.stop(0)

    # what has to hold ---------------------------------------------------------------------------

    def counts(self) -> tuple[Count, PortCount, PortCount]:
        """Return what OpenFlow says of the flow, of p1 and of p2."""
        scene = self.scene
        return scene.flow(COOKIE), scene.port(1), scene.port(2)

    def works(self) -> None:
        """What p1 sends goes past the switch, all of it arrives, and OpenFlow counts it once."""
        self.use_bypass()
        self.stop_sending()
        sent, got = self._sent(), _settled(self._got)
        self.scene.revalidate()
        flow = _settled(lambda: self.scene.flow(COOKIE).packets)
        bypassed, unclaimed = self.bypassed(), self.scene.unclaimed(1)
        self.sender.send(0, classes=[0], rate=RATE, count=2000)
        becomes(lambda: self._sent() - sent, 2000, "p1 has sent")
        becomes(lambda: self._got() - got, 2000, "p2 has received")
        assert self.bypassed() - bypassed == 2000
        becomes(lambda: self.scene.flow(COOKIE).packets - flow, 2000, "the flow has counted")
        assert self.scene.unclaimed(1) == unclaimed

    def _sent(self) -> int:
        return sum(self.sender.stats().ports[0].sent.values())

    def _got(self) -> int:
        return self.receiver.stats().ports[0].packets

    def bystanders_verdict(self) -> Verdict:
        """Stop the bystanders; return the verdict on all that they have sent."""
        for port in (0, 1):
            self.bystanders.stop(port)
        last = [judge([self.bystanders.stats()])]

        def quiet() -> bool:
            last.append(judge([self.bystanders.stats()]))
            return last[-1] == last[-2] and last[-1].lost == 0

        wait_until(quiet, 3.0, interval=0.2)
        return last[-1]

    def no_link_is_left(self) -> None:
        """Without the flow nothing goes past the switch any more; regions are those of now."""
        scene = self.scene
        files = [path.name for path in scene.region_files()]
        assert len(scene.region_files("port-")) == PORTS, files
        becomes(lambda: len(scene.region_files("link-")), LINKS, "links")
        scene.ofctl("del-flows", f"cookie={COOKIE}/-1")
        becomes(lambda: scene.region(1).live_peers(), [], "rules of p1")
        becomes(lambda: scene.link(1, 2).get("state"), "idle", "the link")

    def restart_switch(self) -> None:
        """Start ovs-vswitchd as its init script does: with the flows that it had."""
        sandbox = self.scene.sandbox
        wait = "other_config:flow-restore-wait=true"
        sandbox.vsctl("--no-wait", "set", "Open_vSwitch", ".", wait)
        sandbox.start_vswitchd()
        eventually(lambda: self._bridge_answers(), "the bridge is back")
        self.add_flows(*FLOWS)
        sandbox.vsctl("remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait")

    def _bridge_answers(self) -> bool:
        return (self.scene.sandbox.rundir / f"{BRIDGE}.mgmt").exists()

    @property
    def highwayd(self) -> Process:
        """The agent."""
        return self.scene.sandbox.daemon("highwayd")


def _settled(read: Callable[[], int]) -> int:
    seen: list[int] = []

    def quiet() -> bool:
        seen.append(read())
        return len(seen) > 3 and len(set(seen[-4:])) == 1

    eventually(quiet, "the count does not settle")
    return seen[-1]
