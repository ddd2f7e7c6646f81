# SPDX-License-Identifier: Apache-2.0
"""`highway bench links`: what a packet costs at a receiver with 1 to 64 links, one of them in use.

Each receive burst looks at every link. Debian's DPDK has at most 32 ports per process, so the
switch has 31 for senders, with drivers at all of them; beyond that the peers are stand-ins, which
speak to highwayd as OVS and VNFs would and move no packet. Switch, driver and highwayd at the
receiver and at the sender of all packets are the real ones, and every link is there and polled.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ovs_highway import paths
from ovs_highway.bench import path, stats, testbed
from ovs_highway.bench.path import PATIENCE, RECEIVER, RING, SENDER, Path, PathSample
from ovs_highway.bench.testbed import BRIDGE
from ovs_highway.errors import SandboxError
from ovs_highway.lab.process import wait_until
from ovs_highway.lab.sandbox import TRUST
from ovs_highway.lab.stand_in import FakeSwitch, FakeVnf
from ovs_highway.region import open_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ovs_highway.bench.schedule import Results, Turn

COUNTS: Final = (1, 2, 4, 8, 16, 32, 64)
DPDK_PORTS: Final = 32
REAL_LINKS: Final = DPDK_PORTS - 1
IDLE: Final = tuple(f"idle{number}" for number in range(2, REAL_LINKS + 1))
"""Ports of the switch that send nothing, by the number of the link."""
STAND_INS: Final = tuple(f"stand{number}" for number in range(REAL_LINKS + 1, max(COUNTS) + 1))
NOTES: Final = (
    "all packets come over one link; the receiver polls the others, over which nothing comes",
    f"links 1 to {REAL_LINKS} are to ports of the switch with the driver at both ends; from link"
    f" {REAL_LINKS + 1} on the idle peers are stand-ins: their switch's side and VNF are played to"
    " the real highwayd, since DPDK has 32 ports per process; at the receiver all links are real,"
    f" with rings of {RING} descriptors",
)


def _name(links: int) -> str:
    return f"{links} link{'s' if links > 1 else ''}"


def figures(results: Results[PathSample]) -> dict[str, float | None]:
    """Return the receiver's cycles by number of links, and with 64 as a multiple of with 1."""
    found: dict[str, float | None] = {}
    rx: dict[int, float] = {}
    for links in COUNTS:
        name = _name(links)
        rx[links] = path.median(results, name, lambda each: each.rx)
        found[f"rx_{links}"] = rx[links]
        found[f"empty_poll_{links}"] = path.median(
            results, name, lambda each: each.measured.rx.empty.per_call
        )
    found["ratio_64"] = stats.ratio(rx[64], rx[1])
    return found


@dataclass(slots=True)
class StandIns:
    """The switch's sides of all stand-ins, for the whole benchmark."""

    bench: Path
    switches: list[FakeSwitch] = field(default_factory=list)

    def add(self) -> None:
        """Put them into the database, where highwayd finds their labels, and connect them."""
        commands: list[str] = []
        for name in STAND_INS:
            # OVS knows no such type, and leaves the interface alone.
            commands += ["--", "add-port", BRIDGE, name, "--", "set", "Interface", name]
            commands += [
                "type=stand-in",
                f'options:dpdk-devargs="net_highway_{name},role=switch"',
                f"external_ids:highway-trust={TRUST}",
            ]
        self.bench.sandbox.vsctl(*commands[1:])
        receiver = self._receiver_id()
        for name in STAND_INS:
            switch = FakeSwitch(self.bench.sandbox.rundir, name)
            self.switches.append(switch)
            switch.want_id(receiver)

    def _receiver_id(self) -> int:
        ports, _ = open_ports(paths.region_tag(self.bench.sandbox.rundir))
        try:
            return ports[RECEIVER].region_id
        finally:
            for port in ports.values():
                port.close()

    def close(self) -> None:
        """Disconnect them."""
        for switch in self.switches:
            switch.close()

    @contextlib.contextmanager
    def vnfs(self, count: int) -> Iterator[None]:
        """Have VNFs at so many of them, whose links to the receiver are up."""
        with contextlib.ExitStack() as stack:
            vnfs = []
            for name in STAND_INS[:count]:
                vnf = FakeVnf(self.bench.sandbox.rundir, name)
                stack.callback(vnf.close)
                vnfs.append(vnf.attach())
            for vnf in vnfs:
                vnf.accept_link()
            for vnf in vnfs:
                vnf.await_update()
            yield


def _once(bench: Path, stand_ins: StandIns, links: int) -> PathSample:
    real = min(links, REAL_LINKS)
    ports = [SENDER, RECEIVER, *IDLE[: real - 1]]
    with bench.gauge(ports) as gauge, stand_ins.vnfs(links - real):
        if not wait_until(lambda: gauge.xstats(1)["links"] == links, PATIENCE, interval=0.05):
            there = gauge.xstats(1)["links"]
            raise SandboxError(f"the receiver has {there} links instead of {links}; see the logs")
        bench.await_bypass(gauge)
        sample = bench.take(gauge, facts={"links": links, "stand_ins": links - real})
        if (there := gauge.xstats(1)["links"]) != links:
            raise SandboxError(f"the receiver has {there} links left of {links}; see the logs")
        return sample


def prepare(bench: Path) -> StandIns:
    """Add all ports, those of stand-ins too; a link comes with the VNF at its sender.

    Raises:
        SandboxError: the switch or highwayd does not take them.
    """
    names = (SENDER, RECEIVER, *IDLE)
    bench.add_ports(*names)
    bench.set_flows(
        *(
            f"in_port={number},actions=output:2"
            for number, name in enumerate(names, 1)
            if name != RECEIVER
        )
    )
    stand_ins = StandIns(bench)
    try:
        stand_ins.add()
    except BaseException:
        stand_ins.close()
        raise
    return stand_ins


def run(*, rounds: int, seconds: float, tell: Callable[[Turn, PathSample], None]) -> dict[str, Any]:
    """Measure, and return the results as the JSON file has them.

    Raises:
        SetupError: the machine lacks something.
        SandboxError: a program does not do what it should.
    """
    facts, placement = testbed.begin()
    with Path(placement, seconds=seconds) as bench, contextlib.closing(prepare(bench)) as peers:
        return path.compare(
            "links",
            bench,
            {_name(links): partial(_once, bench, peers, links) for links in COUNTS},
            figures,
            facts=facts,
            rounds=rounds,
            tell=tell,
            notes=NOTES,
        )
