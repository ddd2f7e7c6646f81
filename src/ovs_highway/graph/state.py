# SPDX-License-Identifier: Apache-2.0
"""What is, or is to be: ports, VNFs and flows of one graph, apart from each other."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from ovs_highway.graph.flows import Flow, compile_flows
from ovs_highway.graph.model import Kind, Restart  # noqa: TC001  # msgspec reads types at run time
from ovs_highway.graph.templates import Place, command_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ovs_highway.graph.model import End, Graph, Vnf

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""A mapping, in the order of its keys."""

GRAPH_KEY: Final = "highway-graph"
"""Of `external_ids`: the graph that made a port."""
MANAGED_KEYS: Final = (GRAPH_KEY, "highway-mode", "highway-trust", "highway-user")
"""Of `external_ids`: those that a graph sets; all others are somebody else's."""
MANAGED_OPTIONS: Final = ("dpdk-devargs", "peer")
"""The same of `options`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """A port in OVS that the graph has made.

    Attributes:
        type, options: of its Interface record, the latter those of `MANAGED_OPTIONS`; another
            value needs another port.
        external_ids: those of `MANAGED_KEYS`, in this order; they may change.
    """

    name: str
    bridge: str
    type: str
    options: Pairs = ()
    external_ids: Pairs = ()

    @property
    def fixed(self) -> tuple[str, str, Pairs]:
        """What cannot change while it exists."""
        return self.bridge, self.type, self.options

    def __str__(self) -> str:
        shown = ",".join(f"{key}={value}" for key, value in self.options)
        return f"port {self.name} of {self.bridge} ({self.type}{' ' * bool(shown)}{shown})"


@dataclass(frozen=True, slots=True, kw_only=True)
class VnfSpec:
    """A VNF that runs; what starts it, and with what. `msgspec` can write it down and read it.

    Attributes:
        command: words; empty for a VM.
        ports: names in OVS, in the VNF's order.
        cores: those that it may use; `shared`: others are on them too.
        memory: bytes.
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    ports: tuple[str, ...]
    cores: tuple[int, ...]
    shared: bool
    memory: int
    user: str = ""
    environment: Pairs = ()
    restart: Restart = "on-failure"
    host: str = ""
    image: str = ""
    rootfs: str = ""
    domain: str = ""

    def __str__(self) -> str:
        plural = "s" * (len(self.cores) > 1)
        cores = f"core{plural} {', '.join(map(str, self.cores))}{' (shared)' * self.shared}"
        what = shlex.join(self.command) or self.domain or self.image
        return f"{self.kind} {self.name} on {cores} with {self.memory >> 20} MiB: {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A graph's parts on one switch, desired or actual.

    Attributes:
        bridge: empty if there is nothing of it.
        needs: ports and bridges that have to be there and are not its own.
        numbers: of actual ports, in OpenFlow.
        others: all other ports and bridges of the switch, if actual.
    """

    bridge: str = ""
    ports: Mapping[str, PortSpec] = field(default_factory=dict)
    vnfs: Mapping[str, VnfSpec] = field(default_factory=dict)
    flows: frozenset[Flow] = frozenset()
    needs: frozenset[str] = frozenset()
    numbers: Mapping[str, int] = field(default_factory=dict, compare=False)
    others: frozenset[str] = field(default=frozenset(), compare=False)


def desired(graph: Graph, cores: Mapping[str, tuple[int, ...]]) -> State:
    """Return what a graph that was checked asks for.

    Args:
        cores: of each VNF, see `place`.
    """
    return State(
        bridge=graph.bridge,
        ports={port.name: port for end in graph.ends.values() for port in _ports(graph, end)},
        vnfs={vnf.name: _vnf(graph, vnf, cores[vnf.name]) for vnf in graph.vnfs},
        flows=frozenset(compile_flows(graph)),
        needs=frozenset(
            value
            for point in graph.endpoints
            for kind, value in point.devices
            if kind in ("port", "bridge")
        ),
    )


def _ports(graph: Graph, end: End) -> Iterator[PortSpec]:
    """The ports that an end needs; several end-points of one device give the same."""
    name, bridge = end.ovs_port, graph.bridge
    ids = ((GRAPH_KEY, graph.name),)
    if end.endpoint is None:
        yield _highway(graph, end)
        return
    kind, device = end.endpoint.devices[0]
    if kind == "bridge":
        peer = f"{name}-p"
        for one, other, where in ((name, peer, bridge), (peer, name, device)):
            options = (("peer", other),)
            yield PortSpec(name=one, bridge=where, type="patch", options=options, external_ids=ids)
    elif kind == "tap":
        yield PortSpec(name=name, bridge=bridge, type="tap", external_ids=ids)
    elif kind != "port":
        devargs = device if kind == "nic" else f"net_af_packet_{name},iface={device}"
        options = (("dpdk-devargs", devargs),)
        yield PortSpec(name=name, bridge=bridge, type="dpdk", options=options, external_ids=ids)


def _highway(graph: Graph, end: End) -> PortSpec:
    vnf, port = end.vnf, end.port
    assert vnf is not None
    assert port is not None  # it is no end-point
    devargs = f"net_highway_{end.ovs_port},role=switch"
    devargs += f",queues={port.queues},ring-size={port.ring_size}"
    devargs += ",memory=shm" * bool(vnf.domain)  # libvirt takes nothing else
    trust = graph.trust if port.trust is None else port.trust
    ids = zip(MANAGED_KEYS, (graph.name, port.mode, trust, vnf.user), strict=True)
    return PortSpec(
        name=end.ovs_port,
        bridge=graph.bridge,
        type="dpdk",
        options=(("dpdk-devargs", devargs),),
        external_ids=tuple((key, value) for key, value in ids if value),
    )


def _vnf(graph: Graph, vnf: Vnf, cores: tuple[int, ...]) -> VnfSpec:
    shared = vnf.cores == "shared"
    place = Place(cores=cores, shared=shared, prefix=f"{graph.name}-{vnf.name}")
    return VnfSpec(
        name=vnf.name,
        kind=vnf.kind,
        command=command_line(vnf, place),
        ports=tuple(vnf.ovs_port(port) for port in vnf.ports),
        cores=cores,
        shared=shared,
        memory=vnf.memory,
        user=vnf.user,
        environment=tuple(sorted((vnf.environment or {}).items())),
        restart=vnf.restart,
        host=vnf.host,
        image=vnf.image,
        rootfs=vnf.rootfs,
        domain=vnf.domain,
    )
