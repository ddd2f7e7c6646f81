# SPDX-License-Identifier: Apache-2.0
"""How much memory a graph needs beyond what it has already, and of which kind."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

from ovs_highway import shm
from ovs_highway.graph.flows import Output
from ovs_highway.region import LinkRegion
from ovs_highway.shm import RingGeometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ovs_highway.graph.model import End, Graph
    from ovs_highway.graph.state import State

_RULES: Final = 1024
"""Rules of a port: the driver's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Bytes that a graph needs more.

    Attributes:
        vnfs, ports, links: huge pages, of the programs themselves and of regions.
        plain: other memory: of VMs, and of regions that libvirt can take.
        bars: by VM, PCI address space, with what it has already.
    """

    vnfs: int
    ports: int
    links: int
    plain: int
    bars: Mapping[str, int]

    @property
    def huge(self) -> int:
        """All huge pages."""
        return self.vnfs + self.ports + self.links


def port_region(queues: int, ring_size: int) -> int:
    """Return the bytes of a port's region, as the driver makes it (docs/driver.md)."""
    counters = 2 * queues * _RULES * shm.COUNTER_LEN
    rings = 2 * queues * RingGeometry.of_port(ring_size).stride
    fixed = shm.PORT_HEADER_LEN + 2 * _RULES * shm.RULE_LEN
    return max(shm.HUGE_PAGE, shm.next_power_of_two(shm.round_up(fixed + counters, 4096) + rings))


def link_region(one: End, other: End) -> int:
    """Return the bytes of the region of a link between two VNFs' ports."""
    ports = [end.port for end in (one, other) if end.port is not None]
    queues = (ports[0].queues, ports[1].queues)
    size = LinkRegion.size_of(queues, max(port.ring_size for port in ports))
    return max(shm.HUGE_PAGE, size)


def pairs(graph: Graph) -> list[tuple[End, End]]:
    """Return the pairs of VNFs' ports that exchange packets."""
    ends = [end for end in graph.ends.values() if end.vnf]
    peers = {end.name: graph.peers(end.name) for end in ends}
    return [(a, b) for a, b in combinations(ends, 2) if b.name in peers[a.name]]


def needs(graph: Graph, actual: State) -> Needs:
    """Return what a graph that was checked needs beyond what is there.

    What a VNF that goes has does not count: it runs until the new ones do.
    """
    vnfs = ports = links = plain = 0
    for vnf in graph.vnfs:
        running = actual.vnfs.get(vnf.name)
        more = max(0, vnf.memory - (running.memory if running else 0))
        if vnf.kind == "vm":
            plain += more
        else:
            vnfs += more
    for end in graph.ends.values():
        if end.port and end.ovs_port not in actual.ports:
            size = port_region(end.port.queues, end.port.ring_size)
            ports, plain = (ports, plain + size) if _by_libvirt(end) else (ports + size, plain)
    there = set(_linked(actual))
    for one, other in pairs(graph):
        if frozenset((one.ovs_port, other.ovs_port)) not in there:
            size = link_region(one, other)
            by_libvirt = _by_libvirt(one) or _by_libvirt(other)
            links, plain = (links, plain + size) if by_libvirt else (links + size, plain)
    return Needs(vnfs=vnfs, ports=ports, links=links, plain=plain, bars=_bars(graph))


def _by_libvirt(end: End) -> bool:
    return bool(end.vnf and end.vnf.domain)


def _linked(actual: State) -> Iterator[frozenset[str]]:
    for flow in actual.flows:
        for action in flow.actions:
            if isinstance(action, Output):
                yield frozenset((flow.in_port, action.port))


def _bars(graph: Graph) -> dict[str, int]:
    found = {vnf.name: 0 for vnf in graph.vnfs if vnf.kind == "vm"}
    for end in graph.ends.values():
        if end.port and end.vnf and end.vnf.name in found:
            found[end.vnf.name] += port_region(end.port.queues, end.port.ring_size)
    for pair in pairs(graph):
        for name in {end.vnf.name for end in pair if end.vnf} & found.keys():
            found[name] += link_region(*pair)
    return found
