# SPDX-License-Identifier: Apache-2.0
"""Carry out a plan on a real switch, with the bypass or without it, and note all that comes of it.

The run without the bypass is the oracle: the same bridge, table and frames, with the gate of every
port closed.
"""

from __future__ import annotations

import asyncio
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.system.differential.plan import PORTS, QUEUES
from tests.system.differential.tables import SENTINEL, SENTINEL_TYPE
from tests.system.frame_pipe import Send
from tests.system.scene import BRIDGE, Count, PortCount, eventually

from ovs_highway import paths, unixctl
from ovs_highway.agent import control
from ovs_highway.agent.purge import PURGE
from ovs_highway.lab.process import wait_until
from ovs_highway.region import LinkRegion, open_links
from ovs_highway.shm import Off, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.system.differential.plan import Plan, Round
    from tests.system.frame_pipe import FramePipe, Received
    from tests.system.scene import Scene

PATIENCE: Final = 20.0
UNCLAIMED: Final = 12.0
VERSION: Final = "OpenFlow15"
_SENTINEL: Final = struct.Struct(">HIBB")
SENTINEL_LEN: Final = 12 + _SENTINEL.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What OpenFlow says: flows by cookie, tables by number, groups with their buckets, ports."""

    flows: dict[int, Count]
    tables: dict[int, tuple[int, int]]
    groups: dict[int, tuple[tuple[int, int], ...]]
    ports: dict[int, PortCount]

    def total(self) -> int:
        """Return the packets that table 0 has matched."""
        return self.tables[0][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a plan.

    Attributes:
        frames: per round, by OpenFlow port and receive queue, in the order of their arrival.
        sent, bypassed: frames that the VNFs sent, and of these past the switch.
        unclaimed: hits that no flow could be given, before the run.
    """

    frames: tuple[dict[tuple[int, int], list[bytes]], ...]
    counters: Counters
    sent: int
    bypassed: int
    unclaimed: int


class Runner:
    """A scene with all ports in one process."""

    def __init__(self, scene: Scene, pipe: FramePipe) -> None:
        self._scene, self._pipe = scene, pipe
        self._regions = {port: scene.region(port) for port in PORTS}
        self._control = unixctl.vswitchd_socket(scene.sandbox.rundir)
        self._bundle = scene.sandbox.rundir / "table.txt"
        self._serial = 0

    def run(self, plan: Plan, *, bypass: bool) -> Outcome:
        """Carry out a plan from an empty datapath on."""
        for region in self._regions.values():
            region.set_operator(Off.OPERATOR, off=not bypass)
        self.purge()
        # Until OVS's offload thread has done it, old flows are rules and have hits.
        self.await_offloads()
        self.install(plan)
        self._pipe.collect()
        before, bypassed, unclaimed = self.counters(), self.bypassed(), self.unclaimed()
        frames = tuple(self._round(a_round) for a_round in plan.rounds)
        if plan.purge:
            self.purge()
        else:
            self._scene.revalidate()
        after = self.counters()
        return Outcome(
            frames=frames,
            counters=_grown(before, after),
            sent=sum(isinstance(step, Send) for one in plan.rounds for step in one.steps),
            bypassed=self.bypassed() - bypassed,
            unclaimed=unclaimed,
        )

    def install(self, plan: Plan) -> None:
        """Replace the bridge's tables, and forget what it has learned."""
        self._bundle.write_text(plan.table.bundle())
        self._scene.ofctl("bundle", str(self._bundle), version=VERSION)
        self.appctl("fdb/flush", BRIDGE)

    def appctl(self, method: str, *arguments: str) -> str:
        """Run a command in ovs-vswitchd."""
        return unixctl.call(self._control, method, *arguments, timeout=PATIENCE)

    def purge(self) -> None:
        """Have OVS forget its datapath flows, without a revalidator that counts one twice.

        In one write, as highwayd does: else its resume could come between our pause and purge.
        """
        asyncio.run(control.calls(self._control, *PURGE))

    def trace(self, port: int, frame: bytes) -> str:
        """Return OVS's own account of what it does with a frame."""
        return self.appctl("ofproto/trace", BRIDGE, f"in_port={port}", frame.hex())

    def close_gates(self, *, closed: bool) -> None:
        """Switch all bypasses off or on."""
        for region in self._regions.values():
            region.set_operator(Off.OPERATOR, off=closed)

    # rounds ------------------------------------------------------------------------------------

    def _round(self, a_round: Round) -> dict[tuple[int, int], list[bytes]]:
        if a_round.settle:
            self._scene.revalidate()
        if a_round.offloaded:
            self._await_rules()
        self._pipe.do(a_round.steps)
        frames: dict[tuple[int, int], list[bytes]] = {}
        for one in self.drain():
            frames.setdefault((one.port + 1, one.queue), []).append(one.frame)
        return frames

    def drain(self) -> list[Received]:
        """Return all that is received.

        A last frame on each queue comes back through the switch to the port that sent it: by then
        everything in front of it has been through the switch too.
        """
        self._serial += 1
        last = [
            Send(
                port=port - 1,
                queue=queue,
                frame=bytes(12) + _SENTINEL.pack(SENTINEL_TYPE, self._serial, port, queue),
            )
            for port in PORTS
            for queue in range(QUEUES)
        ]
        self._pipe.do(last)
        waiting = {send.frame for send in last}
        found: list[Received] = []

        def all_back() -> bool:
            for one in self._pipe.collect():
                if one.frame in waiting:
                    waiting.remove(one.frame)
                else:
                    found.append(one)
            return not waiting

        eventually(all_back, "the last frames come back", patience=PATIENCE)
        return found

    def _await_rules(self) -> None:
        """Wait until flows are offloaded, links are there, and the VNFs know of both."""
        self.await_offloads()
        if not any(region.gate().off_operator for region in self._regions.values()):
            eventually(self._linked, "rules have their links", patience=PATIENCE)
        eventually(self._acknowledged, "the VNFs follow", patience=PATIENCE)

    def await_offloads(self) -> None:
        """Wait until OVS's offload thread has nothing to do."""
        eventually(
            lambda: "Enqueued offloads: 0" in self._offloads(),
            "OVS's offload thread has done all",
            patience=PATIENCE,
        )

    def _offloads(self) -> str:
        return " ".join(self.appctl("dpctl/offload-stats-show").split())

    def _linked(self) -> bool:
        wanted = {
            frozenset((region.region_id, peer))
            for region in self._regions.values()
            for peer in region.live_peers()
        }
        links, _ = open_links(paths.region_tag(self._scene.sandbox.rundir))
        active = {frozenset(link.port_ids) for link in links if _ready(link)}
        for link in links:
            link.close()
        return wanted <= active

    def _acknowledged(self) -> bool:
        return all(
            int(region.raw.vnf_state.ack) == region.gate().change
            for region in self._regions.values()
        )

    # counters ----------------------------------------------------------------------------------

    def bypassed(self) -> int:
        """Return the frames that the VNFs have sent past the switch."""
        return sum(self._pipe.xstats(port - 1)["tx_bypass_packets"] for port in PORTS)

    def unclaimed(self, *ports: int) -> int:
        """Return the hits of some ports, by default of all, that no flow could be given so far."""
        return sum(self._regions[port].switch().unclaimed_packets for port in ports or PORTS)

    def counters(self) -> Counters:
        """Return what OpenFlow says now."""
        ofctl = self._scene.ofctl
        return Counters(
            flows=dict(_flows(ofctl("dump-flows", version=VERSION))),
            tables=_tables(ofctl("dump-tables", version=VERSION)),
            groups=dict(_groups(ofctl("dump-group-stats", version=VERSION))),
            ports={port: count for port, count in _ports(ofctl("dump-ports", version=VERSION))},
        )

    def becomes_unclaimed(self, hits: int, outcome: Outcome) -> bool:
        """Tell whether just so many hits of a run become unclaimed; they wait for 10 s."""
        wait_until(lambda: self.unclaimed() - outcome.unclaimed == hits, UNCLAIMED)
        return self.unclaimed() - outcome.unclaimed == hits


def _ready(link: LinkRegion) -> bool:
    return link.phase is Phase.ACTIVE and all(link.end(end).rx_ready for end in (0, 1))


def _flows(text: str) -> Iterable[tuple[int, Count]]:
    for found in re.finditer(r"cookie=(0x[0-9a-f]+).*?n_packets=(\d+), n_bytes=(\d+)", text):
        if int(found[1], 16) != SENTINEL:
            yield int(found[1], 16), Count(packets=int(found[2]), bytes=int(found[3]))


def _tables(text: str) -> dict[int, tuple[int, int]]:
    """Return lookups and matches of each table; a line may stand for several alike."""
    tables: dict[int, tuple[int, int]] = {}
    last = (0, 0)
    for found in re.finditer(
        r"tables? (\d+)(?:\.\.\.(\d+))?[^:]*: *(?:ditto|active=\d+, lookup=(\d+), matched=(\d+))",
        re.sub(r":\s+active", ": active", text),
    ):
        first, final, lookups, matches = found.groups()
        last = last if lookups is None else (int(lookups), int(matches))
        for number in range(int(first), int(final or first) + 1):
            if number < 8:
                tables[number] = last
    return tables


def _groups(text: str) -> Iterable[tuple[int, tuple[tuple[int, int], ...]]]:
    for line in text.splitlines():
        if found := re.search(r"group_id=(\d+),", line):
            counts = re.findall(r"packet_count=(\d+),byte_count=(\d+)", line)
            yield int(found[1]), tuple((int(packets), int(size)) for packets, size in counts)


def _ports(text: str) -> Iterable[tuple[int, PortCount]]:
    pattern = r"port +(\d+): rx pkts=(\d+), bytes=(\d+).*?tx pkts=(\d+), bytes=(\d+), drop=(\d+)"
    for found in re.finditer(pattern, text, re.DOTALL):
        port, *numbers = map(int, found.groups())
        yield (
            port,
            PortCount(
                rx=Count(packets=numbers[0], bytes=numbers[1]),
                tx=Count(packets=numbers[2], bytes=numbers[3]),
                tx_dropped=numbers[4],
            ),
        )


def _grown(before: Counters, after: Counters) -> Counters:
    """Return what has been added; flows and groups are new, and began at 0."""
    return Counters(
        flows=after.flows,
        tables={
            number: (lookups - before.tables[number][0], matches - before.tables[number][1])
            for number, (lookups, matches) in after.tables.items()
        },
        groups=after.groups,
        ports={
            port: PortCount(
                rx=count.rx - before.ports[port].rx,
                tx=count.tx - before.ports[port].tx,
                tx_dropped=count.tx_dropped - before.ports[port].tx_dropped,
            )
            for port, count in after.ports.items()
        },
    )
